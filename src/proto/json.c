/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/json.h"

#include "base/text.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Objects and lists within each other. Messages of a plugin cannot be deeper (proto_unpack). */
#define DEPTH_MAX 64

typedef Google__Protobuf__Value value_message;
typedef Google__Protobuf__Struct struct_message;
typedef Google__Protobuf__ListValue list_message;
typedef Google__Protobuf__Struct__FieldsEntry entry_message;

/* --- From JSON --- */

static cs_code read_value(struct cs_arena *a, json_t *in, unsigned depth, value_message *out,
                          struct cs_err *e);

static cs_code read_object(struct cs_arena *a, json_t *in, unsigned depth, struct_message **out,
                           struct cs_err *e)
{
    size_t n = json_object_size(in), i = 0;
    struct_message *s = cs_arena_alloc(a, sizeof *s);
    entry_message **list = cs_arena_alloc(a, (n + 1) * sizeof *list);
    entry_message *entries = cs_arena_alloc(a, (n + 1) * sizeof *entries);
    value_message *values = cs_arena_alloc(a, (n + 1) * sizeof *values);
    if (s == NULL || list == NULL || entries == NULL || values == NULL)
        return cs_nomem(e);
    google__protobuf__struct__init(s);
    const char *key;
    json_t *each;
    json_object_foreach(in, key, each)
    {
        google__protobuf__struct__fields_entry__init(&entries[i]);
        entries[i].key = cs_arena_strdup(a, key);
        if (entries[i].key == NULL)
            return cs_nomem(e);
        entries[i].value = &values[i];
        list[i] = &entries[i];
        CS_TRY(read_value(a, each, depth + 1, &values[i], e));
        i++;
    }
    s->n_fields = n;
    s->fields = list;
    *out = s;
    return CS_OK;
}

static cs_code read_list(struct cs_arena *a, json_t *in, unsigned depth, list_message **out, struct cs_err *e)
{
    size_t n = json_array_size(in);
    list_message *l = cs_arena_alloc(a, sizeof *l);
    value_message **list = cs_arena_alloc(a, (n + 1) * sizeof *list);
    value_message *values = cs_arena_alloc(a, (n + 1) * sizeof *values);
    if (l == NULL || list == NULL || values == NULL)
        return cs_nomem(e);
    google__protobuf__list_value__init(l);
    for (size_t i = 0; i < n; i++) {
        list[i] = &values[i];
        CS_TRY(read_value(a, json_array_get(in, i), depth + 1, &values[i], e));
    }
    l->n_values = n;
    l->values = list;
    *out = l;
    return CS_OK;
}

static cs_code read_value(struct cs_arena *a, json_t *in, unsigned depth, value_message *out,
                          struct cs_err *e)
{
    google__protobuf__value__init(out);
    if (depth > DEPTH_MAX)
        return cs_fail(e, CS_INVALID, "nested too deeply");
    switch (json_typeof(in)) {
    case JSON_OBJECT:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
        return read_object(a, in, depth, &out->struct_value, e);
    case JSON_ARRAY:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
        return read_list(a, in, depth, &out->list_value, e);
    case JSON_STRING:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        out->string_value = cs_arena_strdup(a, json_string_value(in));
        return out->string_value != NULL ? CS_OK : cs_nomem(e);
    case JSON_INTEGER:
    case JSON_REAL:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        out->number_value = json_number_value(in);
        return CS_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        out->bool_value = json_is_true(in);
        return CS_OK;
    case JSON_NULL:
        break;
    }
    out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
    return CS_OK;
}

cs_code proto_struct_parse(struct cs_arena *a, struct cs_slice json, struct_message **out, struct cs_err *e)
{
    json_error_t why;
    *out = NULL;
    /* all numbers are doubles on the way, so the large ones may be so from the start */
    json_t *root =
        json_loadb((const char *)json.data, json.len, JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, &why);
    if (root == NULL)
        return cs_fail(e, CS_INVALID, "not a JSON object: %s", why.text);
    cs_code rc;
    if (json_is_object(root))
        rc = read_object(a, root, 1, out, e);
    else
        rc = cs_fail(e, CS_INVALID, "not a JSON object: another value");
    json_decref(root);
    return rc;
}

/* --- To JSON --- */

/* The shortest decimal form that reads back as the same number, "-d.ddde+xx"; how many digits are after the
 * point. */
static int shortest(double v, char text[40])
{
    int digits = 0;
    for (; digits < 16; digits++) {
        snprintf(text, 40, "%.*e", digits, v);
        if (strtod(text, NULL) == v)
            return digits;
    }
    snprintf(text, 40, "%.*e", digits, v);
    return digits;
}

/* As Go's encoding/json writes a float64 (floatEncoder). */
static void write_number(struct cs_buf *out, double v)
{
    if (isnan(v) || isinf(v)) { /* structpb's AsInterface makes text of them */
        cs_buf_add_str(out, isnan(v) ? "\"NaN\"" : v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    char text[40];
    int digits = shortest(v, text);
    const char *mark = strchr(text, 'e');
    int exponent = (int)strtol(mark + 1, NULL, 10);
    double size = fabs(v);
    if (size != 0 && (size < 1e-6 || size >= 1e21)) {
        cs_buf_printf(out, "%.*se%c%d", (int)(mark - text), text, exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent > digits) { /* digits that do not count are zeros */
        for (const char *c = text; c < mark; c++)
            if (*c != '.')
                cs_buf_add_byte(out, (uint8_t)*c);
        for (int i = digits; i < exponent; i++)
            cs_buf_add_byte(out, '0');
    } else {
        cs_buf_printf(out, "%.*f", digits - exponent, v);
    }
}

static cs_code write_value(struct cs_buf *out, const value_message *v, unsigned depth, struct cs_err *e);

struct member {
    const entry_message *entry;
    size_t at;
};

static int by_name(const void *x, const void *y)
{
    const struct member *a = x, *b = y;
    int order = strcmp(a->entry->key, b->entry->key);
    return order != 0 ? order : a->at < b->at ? -1 : a->at > b->at;
}

static cs_code write_object(struct cs_buf *out, const struct_message *s, unsigned depth, struct cs_err *e)
{
    size_t n = s != NULL ? s->n_fields : 0;
    bool first = true;
    CS_CLEANUP(cs_freep) struct member *members = cs_malloc((n + 1) * sizeof *members);
    if (members == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++)
        members[i] = (struct member){s->fields[i], i};
    qsort(members, n, sizeof *members, by_name);
    cs_buf_add_byte(out, '{');
    for (size_t i = 0; i < n; i++) {
        const entry_message *m = members[i].entry;
        if (i + 1 < n && strcmp(m->key, members[i + 1].entry->key) == 0)
            continue;
        if (!first)
            cs_buf_add_byte(out, ',');
        first = false;
        cs_quote_json(out, cs_slice_str(m->key));
        cs_buf_add_byte(out, ':');
        CS_TRY(write_value(out, m->value, depth + 1, e));
    }
    cs_buf_add_byte(out, '}');
    return CS_OK;
}

static cs_code write_list(struct cs_buf *out, const list_message *l, unsigned depth, struct cs_err *e)
{
    cs_buf_add_byte(out, '[');
    for (size_t i = 0; i < l->n_values; i++) {
        if (i > 0)
            cs_buf_add_byte(out, ',');
        CS_TRY(write_value(out, l->values[i], depth + 1, e));
    }
    cs_buf_add_byte(out, ']');
    return CS_OK;
}

static cs_code write_value(struct cs_buf *out, const value_message *v, unsigned depth, struct cs_err *e)
{
    if (depth > DEPTH_MAX)
        return cs_fail(e, CS_INVALID, "nested too deeply");
    switch (v != NULL ? v->kind_case : GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        write_number(out, v->number_value);
        return CS_OK;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        cs_quote_json(out, cs_slice_str(v->string_value));
        return CS_OK;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        cs_buf_add_str(out, v->bool_value ? "true" : "false");
        return CS_OK;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        return write_object(out, v->struct_value, depth, e);
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
        return write_list(out, v->list_value, depth, e);
    default:
        cs_buf_add_str(out, "null");
        return CS_OK;
    }
}

cs_code proto_struct_write(struct cs_buf *out, const struct_message *in, struct cs_err *e)
{
    CS_TRY(write_object(out, in, 1, e));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
