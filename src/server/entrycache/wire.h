/* SPDX-License-Identifier: Apache-2.0
 *
 * Protobuf wire format, by hand, for the few messages that are written or cut up by the thousand
 * (entries, SVIDs). Everything else goes through proto/proto.h.
 * Source: protobuf.dev, "Encoding".
 */
#ifndef CS_SERVER_ENTRYCACHE_WIRE_H
#define CS_SERVER_ENTRYCACHE_WIRE_H

#include "base/buf.h"

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LEN = 2, WIRE_FIXED32 = 5 };

/* Bytes of v as a varint, 1 to 10. */
static inline size_t wire_varint_size(uint64_t v)
{
    size_t n = 1;
    for (; v > 127; v >>= 7)
        n++;
    return n;
}
static inline void wire_varint(struct cs_buf *b, uint64_t v)
{
    if (!cs_buf_reserve(b, 10))
        return;
    for (; v > 127; v >>= 7)
        b->data[b->len++] = (uint8_t)(v | 128);
    b->data[b->len++] = (uint8_t)v;
}
static inline void wire_tag(struct cs_buf *b, uint32_t field, unsigned type)
{
    wire_varint(b, (uint64_t)field << 3 | type);
}
/* Proto3: fields at their zero value are not written. Negative int32 go in as sign-extended. */
static inline void wire_int(struct cs_buf *b, uint32_t field, int64_t v)
{
    if (v != 0) {
        wire_tag(b, field, WIRE_VARINT);
        wire_varint(b, (uint64_t)v);
    }
}
/* Header of a length-delimited field whose `len` bytes the caller adds next. */
static inline void wire_len(struct cs_buf *b, uint32_t field, size_t len)
{
    wire_tag(b, field, WIRE_LEN);
    wire_varint(b, len);
}
static inline void wire_bytes(struct cs_buf *b, uint32_t field, struct cs_slice s)
{
    wire_len(b, field, s.len);
    cs_buf_add_slice(b, s);
}
static inline void wire_str(struct cs_buf *b, uint32_t field, struct cs_slice s)
{
    if (s.len > 0)
        wire_bytes(b, field, s);
}
/* Size of a length-delimited field with a one-byte tag (field < 16). */
static inline size_t wire_field_size(size_t len)
{
    return 1 + wire_varint_size(len) + len;
}
static inline size_t wire_str_size(size_t len)
{
    return len > 0 ? wire_field_size(len) : 0;
}

/* One field as it stands in a message. `value` is set for WIRE_LEN, `number` for WIRE_VARINT;
 * [start, end) is the whole field with its tag. */
struct wire_field {
    uint32_t num;
    unsigned type;
    struct cs_slice value;
    uint64_t number;
    const uint8_t *start, *end;
};
/* Next field; false at the end and at the first malformed byte (cs_rd_left tells which: 0 at the end). */
bool wire_next(struct cs_rd *r, struct wire_field *f);

#endif
