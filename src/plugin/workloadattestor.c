/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/workloadattestor.h"

#include <string.h>

cs_code workloadattestor_add(struct workloadattestor_values *v, const char *kind, const char *value,
                             struct cs_err *e)
{
    if (v->count == WORKLOADATTESTOR_VALUES_MAX)
        return cs_fail(e, CS_EXHAUSTED, "more than %d selectors", WORKLOADATTESTOR_VALUES_MAX);
    if (v->count == v->cap) {
        size_t cap = v->cap > 0 ? v->cap * 2 : 16;
        const char **grown = cs_arena_alloc(v->arena, cap * sizeof *grown);
        if (grown == NULL)
            return cs_nomem(e);
        if (v->count > 0)
            memcpy(grown, v->at, v->count * sizeof *grown);
        v->at = grown;
        v->cap = cap;
    }
    v->at[v->count] = cs_arena_printf(v->arena, "%s:%s", kind, value);
    if (v->at[v->count] == NULL)
        return cs_nomem(e);
    v->count++;
    return CS_OK;
}
