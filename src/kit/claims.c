/* SPDX-License-Identifier: Apache-2.0
 *
 * The claims of a token: a google.protobuf.Struct on the wire, JSON text for plugins.
 */
#include "kit/kit.h"

#include "base/text.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

#define DEPTH_MAX 64

/* --- To JSON --- */

/* Numbers of a Struct are doubles: whole ones are written whole, as issuers want their times. */
static void print_number(struct cs_buf *out, double d)
{
    if (d == floor(d) && fabs(d) < 9007199254740992.0)
        cs_buf_printf(out, "%.0f", d);
    else
        cs_buf_printf(out, "%.17g", d);
}

static cs_code print_value(struct cs_buf *out, const Google__Protobuf__Value *v, int depth, struct cs_err *e);

static cs_code print_struct(struct cs_buf *out, const Google__Protobuf__Struct *s, int depth,
                            struct cs_err *e)
{
    cs_buf_add_byte(out, '{');
    for (size_t i = 0; i < s->n_fields; i++) {
        if (i > 0)
            cs_buf_add_byte(out, ',');
        cs_quote_json(out, cs_slice_str(s->fields[i]->key));
        cs_buf_add_byte(out, ':');
        CS_TRY(print_value(out, s->fields[i]->value, depth, e));
    }
    cs_buf_add_byte(out, '}');
    return CS_OK;
}

static cs_code print_list(struct cs_buf *out, const Google__Protobuf__ListValue *l, int depth,
                          struct cs_err *e)
{
    cs_buf_add_byte(out, '[');
    for (size_t i = 0; i < l->n_values; i++) {
        if (i > 0)
            cs_buf_add_byte(out, ',');
        CS_TRY(print_value(out, l->values[i], depth, e));
    }
    cs_buf_add_byte(out, ']');
    return CS_OK;
}

static cs_code print_value(struct cs_buf *out, const Google__Protobuf__Value *v, int depth, struct cs_err *e)
{
    if (depth >= DEPTH_MAX)
        return cs_fail(e, CS_INVALID, "claims are nested too deeply");
    switch (v != NULL ? v->kind_case : GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        if (!isfinite(v->number_value))
            return cs_fail(e, CS_INVALID, "claims hold a number that is none in JSON");
        print_number(out, v->number_value);
        return CS_OK;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        cs_quote_json(out, cs_slice_str(v->string_value));
        return CS_OK;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        cs_buf_add_str(out, v->bool_value ? "true" : "false");
        return CS_OK;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        return print_struct(out, v->struct_value, depth + 1, e);
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
        return print_list(out, v->list_value, depth + 1, e);
    default:
        cs_buf_add_str(out, "null");
        return CS_OK;
    }
}

cs_code kit_claims_print(struct cspire_call *c, const Google__Protobuf__Struct *claims, const char **out,
                         struct cs_err *e)
{
    struct cs_buf text CS_CLEANUP(cs_buf_free) = {0};
    CS_TRY(print_struct(&text, claims, 0, e));
    *out = cs_buf_ok(&text) ? cs_arena_strndup(c->arena, cs_buf_cstr(&text), text.len) : NULL;
    return *out != NULL ? CS_OK : cs_nomem(e);
}

/* --- From JSON --- */

static cs_code build_value(struct cs_arena *a, const json_t *j, int depth, Google__Protobuf__Value **out,
                           struct cs_err *e);

static cs_code build_struct(struct cs_arena *a, const json_t *j, int depth, Google__Protobuf__Struct **out,
                            struct cs_err *e)
{
    size_t n = json_object_size(j), i = 0;
    Google__Protobuf__Struct *s = cs_arena_alloc(a, sizeof *s);
    Google__Protobuf__Struct__FieldsEntry *rows = cs_arena_alloc(a, (n + 1) * sizeof *rows);
    Google__Protobuf__Struct__FieldsEntry **at =
        cs_arena_alloc(a, (n + 1) * sizeof(Google__Protobuf__Struct__FieldsEntry *));
    if (s == NULL || rows == NULL || at == NULL)
        return cs_nomem(e);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)j, key, value)
    {
        google__protobuf__struct__fields_entry__init(&rows[i]);
        rows[i].key = cs_arena_strdup(a, key);
        if (rows[i].key == NULL)
            return cs_nomem(e);
        CS_TRY(build_value(a, value, depth, &rows[i].value, e));
        at[i] = &rows[i];
        i++;
    }
    google__protobuf__struct__init(s);
    s->fields = at;
    s->n_fields = n;
    *out = s;
    return CS_OK;
}

static cs_code build_list(struct cs_arena *a, const json_t *j, int depth, Google__Protobuf__ListValue **out,
                          struct cs_err *e)
{
    size_t n = json_array_size(j);
    Google__Protobuf__ListValue *l = cs_arena_alloc(a, sizeof *l);
    Google__Protobuf__Value **at = cs_arena_alloc(a, (n + 1) * sizeof(Google__Protobuf__Value *));
    if (l == NULL || at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++)
        CS_TRY(build_value(a, json_array_get(j, i), depth, &at[i], e));
    google__protobuf__list_value__init(l);
    l->values = at;
    l->n_values = n;
    *out = l;
    return CS_OK;
}

static cs_code build_value(struct cs_arena *a, const json_t *j, int depth, Google__Protobuf__Value **out,
                           struct cs_err *e)
{
    if (depth >= DEPTH_MAX)
        return cs_fail(e, CS_INVALID, "claims are nested too deeply");
    Google__Protobuf__Value *v = cs_arena_alloc(a, sizeof *v);
    if (v == NULL)
        return cs_nomem(e);
    google__protobuf__value__init(v);
    *out = v;
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
        return build_struct(a, j, depth + 1, &v->struct_value, e);
    case JSON_ARRAY:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
        return build_list(a, j, depth + 1, &v->list_value, e);
    case JSON_STRING:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        v->string_value = cs_arena_strdup(a, json_string_value(j));
        return v->string_value != NULL ? CS_OK : cs_nomem(e);
    case JSON_INTEGER:
    case JSON_REAL:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        v->number_value = json_number_value(j);
        return CS_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        v->bool_value = json_is_true(j);
        return CS_OK;
    default:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
        return CS_OK;
    }
}

cs_code kit_claims_parse(struct cspire_call *c, const char *text, Google__Protobuf__Struct **claims,
                         struct cs_err *e)
{
    json_error_t why;
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    cs_code code;
    if (!json_is_object(j))
        code = cs_fail(e, CS_INVALID, "claims are not a JSON object: %s",
                       j == NULL ? why.text : "another value");
    else
        code = build_struct(c->arena, j, 0, claims, e);
    json_decref(j);
    return code;
}
