/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/json.h"

#include "base/mem.h"
#include "base/text.h"
#include "google/protobuf/struct.pb-c.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_FIELDS 64

static bool escape_byte(struct cs_buf *out, uint8_t c)
{
    switch (c) {
    case '"':
        cs_buf_add_str(out, "\\\"");
        return true;
    case '\\':
        cs_buf_add_str(out, "\\\\");
        return true;
    case '\n':
        cs_buf_add_str(out, "\\n");
        return true;
    case '\r':
        cs_buf_add_str(out, "\\r");
        return true;
    case '\t':
        cs_buf_add_str(out, "\\t");
        return true;
    case '\b':
        cs_buf_add_str(out, "\\b");
        return true;
    case '\f':
        cs_buf_add_str(out, "\\f");
        return true;
    default:
        break;
    }
    if (c >= 0x20 && c != '<' && c != '>' && c != '&')
        return false;
    cs_buf_printf(out, "\\u%04x", c);
    return true;
}

void cli_json_str(struct cs_buf *out, struct cs_slice s)
{
    cs_buf_add_byte(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        const uint8_t *p = s.data + i;
        if (s.len - i >= 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) {
            cs_buf_add_str(out, p[2] == 0xa8 ? "\\u2028" : "\\u2029");
            i += 2;
        } else if (!escape_byte(out, *p)) {
            cs_buf_add_byte(out, *p);
        }
    }
    cs_buf_add_byte(out, '"');
}

void cli_json_bytes(struct cs_buf *out, struct cs_slice s)
{
    cs_buf_add_byte(out, '"');
    cs_b64_encode(out, s, CS_B64_STD);
    cs_buf_add_byte(out, '"');
}

/* A double as Go's encoding/json prints it, near enough: whole numbers without a fraction. */
static void number(struct cs_buf *out, double d)
{
    char text[32];
    if (d == (double)(int64_t)d && d > -1e15 && d < 1e15) {
        cs_buf_printf(out, "%" PRId64, (int64_t)d);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    cs_buf_add_str(out, text);
}

static void scalar(struct cs_buf *out, const ProtobufCFieldDescriptor *f, const void *at)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        cs_buf_printf(out, "%" PRId32, *(const int32_t *)at);
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        cs_buf_printf(out, "%" PRIu32, *(const uint32_t *)at);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        cs_buf_printf(out, "\"%" PRId64 "\"", *(const int64_t *)at);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        cs_buf_printf(out, "\"%" PRIu64 "\"", *(const uint64_t *)at);
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        number(out, (double)*(const float *)at);
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        number(out, *(const double *)at);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        cs_buf_add_str(out, *(const protobuf_c_boolean *)at ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)at);
        if (v != NULL)
            cli_json_str(out, cs_slice_str(v->name));
        else
            cs_buf_printf(out, "%d", *(const int *)at);
        return;
    }
    case PROTOBUF_C_TYPE_STRING: {
        const char *s = *(const char *const *)at;
        cli_json_str(out, cs_slice_str(s != NULL ? s : ""));
        return;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = at;
        cli_json_bytes(out, cs_slice_of(b->data, b->len));
        return;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        cli_json_message(out, *(const ProtobufCMessage *const *)at);
        return;
    }
}

static size_t element_size(ProtobufCType t)
{
    switch (t) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4;
    }
}

/* Map fields arrive as repeated messages with a key and a value (protobuf language guide, "Maps"). */
static bool is_map(const ProtobufCFieldDescriptor *f)
{
    static const char suffix[] = "Entry";
    if (f->label != PROTOBUF_C_LABEL_REPEATED || f->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    const ProtobufCMessageDescriptor *d = f->descriptor;
    size_t len = strlen(d->short_name);
    return len > sizeof suffix && strcmp(d->short_name + len - (sizeof suffix - 1), suffix) == 0 &&
           d->n_fields == 2 && strcmp(d->fields[0].name, "key") == 0 &&
           d->fields[0].type == PROTOBUF_C_TYPE_STRING && strcmp(d->fields[1].name, "value") == 0;
}

static const char *map_key(const ProtobufCMessage *entry)
{
    return *(const char *const *)((const char *)entry + entry->descriptor->fields[0].offset);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(map_key(*(const ProtobufCMessage *const *)a), map_key(*(const ProtobufCMessage *const *)b));
}

static void map(struct cs_buf *out, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    size_t n = *(const size_t *)((const char *)m + f->quantifier_offset);
    const ProtobufCMessage *const *list =
        *(const ProtobufCMessage *const *const *)((const char *)m + f->offset);
    CS_CLEANUP(cs_freep) const ProtobufCMessage **sorted = cs_calloc(n + 1, sizeof *sorted);
    if (sorted == NULL) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        sorted[i] = list[i];
    qsort(sorted, n, sizeof *sorted, by_key);
    cs_buf_add_byte(out, '{');
    for (size_t i = 0; i < n; i++) {
        const ProtobufCFieldDescriptor *v = &sorted[i]->descriptor->fields[1];
        if (i > 0)
            cs_buf_add_byte(out, ',');
        cli_json_str(out, cs_slice_str(map_key(sorted[i])));
        cs_buf_add_byte(out, ':');
        if (v->type == PROTOBUF_C_TYPE_MESSAGE &&
            *(const void *const *)((const char *)sorted[i] + v->offset) == NULL)
            cs_buf_add_str(out, "null");
        else
            scalar(out, v, (const char *)sorted[i] + v->offset);
    }
    cs_buf_add_byte(out, '}');
}

static bool absent(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const char *base = (const char *)m;
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)(base + f->quantifier_offset) != f->id;
    return f->label != PROTOBUF_C_LABEL_REPEATED && f->type == PROTOBUF_C_TYPE_MESSAGE &&
           *(const void *const *)(base + f->offset) == NULL;
}

static void value(struct cs_buf *out, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const char *base = (const char *)m;
    if (is_map(f)) {
        map(out, m, f);
        return;
    }
    if (f->label != PROTOBUF_C_LABEL_REPEATED) {
        scalar(out, f, base + f->offset);
        return;
    }
    size_t n = *(const size_t *)(base + f->quantifier_offset), step = element_size(f->type);
    const char *list = *(const char *const *)(base + f->offset);
    cs_buf_add_byte(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            cs_buf_add_byte(out, ',');
        scalar(out, f, list + i * step);
    }
    cs_buf_add_byte(out, ']');
}

static int by_name(const void *a, const void *b)
{
    const ProtobufCFieldDescriptor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* google.protobuf.Value stands for the JSON value that it holds. */
static void dynamic_value(struct cs_buf *out, const Google__Protobuf__Value *v)
{
    switch (v->kind_case) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        number(out, v->number_value);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        cli_json_str(out, cs_slice_str(v->string_value));
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        cs_buf_add_str(out, v->bool_value ? "true" : "false");
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        cli_json_message(out, &v->struct_value->base);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
        cs_buf_add_byte(out, '[');
        for (size_t i = 0; i < v->list_value->n_values; i++) {
            if (i > 0)
                cs_buf_add_byte(out, ',');
            dynamic_value(out, v->list_value->values[i]);
        }
        cs_buf_add_byte(out, ']');
        return;
    default:
        cs_buf_add_str(out, "null");
        return;
    }
}

void cli_json_message(struct cs_buf *out, const ProtobufCMessage *m)
{
    if (m->descriptor == &google__protobuf__value__descriptor) {
        dynamic_value(out, (const Google__Protobuf__Value *)m);
        return;
    }
    if (m->descriptor == &google__protobuf__struct__descriptor) {
        map(out, m, &m->descriptor->fields[0]);
        return;
    }
    const ProtobufCFieldDescriptor *fields[MAX_FIELDS];
    size_t n = 0;
    for (unsigned i = 0; i < m->descriptor->n_fields && n < MAX_FIELDS; i++)
        fields[n++] = &m->descriptor->fields[i];
    qsort(fields, n, sizeof fields[0], by_name);
    bool first = true;
    cs_buf_add_byte(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (absent(m, fields[i]))
            continue;
        if (!first)
            cs_buf_add_byte(out, ',');
        first = false;
        cs_buf_printf(out, "\"%s\":", fields[i]->name);
        value(out, m, fields[i]);
    }
    cs_buf_add_byte(out, '}');
}
