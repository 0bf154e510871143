/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/workloadattestor.h"

#include <string.h>

static cs_code make_room(struct workloadattestor_values *v, struct cs_err *e)
{
    if (v->count == WORKLOADATTESTOR_VALUES_MAX)
        return cs_fail(e, CS_EXHAUSTED, "more than %d selectors", WORKLOADATTESTOR_VALUES_MAX);
    if (v->count < v->cap)
        return CS_OK;
    size_t cap = v->cap > 0 ? v->cap * 2 : 16;
    const char **grown = cs_arena_alloc(v->arena, cap * sizeof *grown);
    if (grown == NULL)
        return cs_nomem(e);
    if (v->count > 0)
        memcpy(grown, v->at, v->count * sizeof *grown);
    v->at = grown;
    v->cap = cap;
    return CS_OK;
}

/* `text` is the arena's, or NULL when memory is out. */
static cs_code append(struct workloadattestor_values *v, const char *text, struct cs_err *e)
{
    if (text == NULL)
        return cs_nomem(e);
    v->at[v->count++] = text;
    return CS_OK;
}

cs_code workloadattestor_add(struct workloadattestor_values *v, const char *kind, const char *value,
                             struct cs_err *e)
{
    CS_TRY(make_room(v, e));
    return append(v, cs_arena_printf(v->arena, "%s:%s", kind, value), e);
}

cs_code workloadattestor_add_value(struct workloadattestor_values *v, const char *text, struct cs_err *e)
{
    CS_TRY(make_room(v, e));
    return append(v, cs_arena_strdup(v->arena, text), e);
}
