/* SPDX-License-Identifier: Apache-2.0
 *
 * protobuf-c unpacks by recursion, takes strings for what they are and cuts them at a NUL. So the wire
 * form (protobuf encoding specification) is looked through first, with the message's descriptor at
 * hand: nesting, UTF-8, NULs, field numbers. That pass allocates nothing and costs a few percent.
 */
#include "proto/proto.h"

#include "base/text.h"

#define NESTING_MAX 100
#define FIELD_NUMBER_MAX ((UINT32_C(1) << 29) - 1)
#define PREFIX "grpc: error unmarshalling request: "

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static cs_code malformed(struct cs_err *e)
{
    return cs_fail(e, CS_INTERNAL, PREFIX "proto: cannot parse invalid wire-format data");
}

static bool read_varint(struct cs_rd *r, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70 && r->p < r->end; shift += 7) {
        uint8_t c = *r->p++;
        if (shift == 63 && c > 1)
            return false;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

/* protobuf-c's own lookup is private. Fields are sorted by number, and mostly lie at number - 1. */
static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessageDescriptor *d, uint32_t number)
{
    if (number <= d->n_fields && d->fields[number - 1].id == number)
        return &d->fields[number - 1];
    size_t lo = 0, hi = d->n_fields;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (d->fields[mid].id < number)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < d->n_fields && d->fields[lo].id == number ? &d->fields[lo] : NULL;
}

static cs_code check_string(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f,
                            struct cs_slice s, struct cs_err *e)
{
    if (s.len > 0 && memchr(s.data, 0, s.len) != NULL)
        return cs_fail(e, CS_INTERNAL, PREFIX "proto: field %s.%s contains a NUL character", d->name,
                       f->name);
    if (!cs_utf8_valid(s))
        return cs_fail(e, CS_INTERNAL, PREFIX "string field contains invalid UTF-8");
    return CS_OK;
}

static cs_code check_message(const ProtobufCMessageDescriptor *d, struct cs_slice in, unsigned depth,
                             struct cs_err *e);

/* A length-delimited value; `f` is NULL for an unknown field. */
static cs_code check_bytes(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f,
                           struct cs_slice s, unsigned depth, struct cs_err *e)
{
    if (f != NULL && f->type == PROTOBUF_C_TYPE_STRING)
        return check_string(d, f, s, e);
    if (f != NULL && f->type == PROTOBUF_C_TYPE_MESSAGE)
        return check_message(f->descriptor, s, depth + 1, e);
    return CS_OK;
}

static cs_code check_message(const ProtobufCMessageDescriptor *d, struct cs_slice in, unsigned depth,
                             struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(in);

    if (depth > NESTING_MAX)
        return cs_fail(e, CS_INTERNAL, PREFIX "proto: exceeded maximum recursion depth");
    while (cs_rd_left(&r) > 0) {
        uint64_t tag, len;
        struct cs_slice s;
        if (!read_varint(&r, &tag) || tag >> 3 == 0 || tag >> 3 > FIELD_NUMBER_MAX)
            return malformed(e);
        bool ok = false;
        switch (tag & 7) {
        case WIRE_VARINT:
            ok = read_varint(&r, &len);
            break;
        case WIRE_FIXED64:
            ok = cs_rd_bytes(&r, 8, &s);
            break;
        case WIRE_FIXED32:
            ok = cs_rd_bytes(&r, 4, &s);
            break;
        case WIRE_BYTES:
            ok = read_varint(&r, &len) && len <= cs_rd_left(&r) && cs_rd_bytes(&r, (size_t)len, &s);
            if (ok)
                CS_TRY(check_bytes(d, field_of(d, (uint32_t)(tag >> 3)), s, depth, e));
            break;
        default: /* groups, which proto3 does not have */
            break;
        }
        if (!ok)
            return malformed(e);
    }
    return CS_OK;
}

struct source {
    struct cs_arena *arena;
    bool full;
};

static void *arena_alloc(void *data, size_t n)
{
    struct source *src = data;
    void *p = cs_arena_alloc(src->arena, n);
    src->full = src->full || p == NULL;
    return p;
}

static void arena_keep(void *data, void *p)
{
    (void)data;
    (void)p;
}

cs_code proto_unpack(struct cs_arena *a, const ProtobufCMessageDescriptor *d, struct cs_slice in,
                     ProtobufCMessage **out, struct cs_err *e)
{
    static const uint8_t nothing[1];
    struct source src = {.arena = a};
    ProtobufCAllocator alloc = {.alloc = arena_alloc, .free = arena_keep, .allocator_data = &src};

    *out = NULL;
    CS_TRY(check_message(d, in, 1, e));
    *out = protobuf_c_message_unpack(d, &alloc, in.len, in.len > 0 ? in.data : nothing);
    if (*out != NULL)
        return CS_OK;
    if (src.full)
        return cs_fail(e, CS_EXHAUSTED, PREFIX "message %s needs too much memory", d->name);
    return malformed(e);
}

cs_code proto_pack(const ProtobufCMessage *m, struct cs_buf *out, struct cs_err *e)
{
    size_t n = protobuf_c_message_get_packed_size(m);

    if (!cs_buf_reserve(out, n))
        return cs_fail(e, CS_INTERNAL, "message %s: out of memory, or larger than its limit",
                       m->descriptor->name);
    if (n > 0)
        out->len += protobuf_c_message_pack(m, out->data + out->len);
    return CS_OK;
}
