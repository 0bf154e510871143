/* SPDX-License-Identifier: Apache-2.0 */
#include "server/entrycache/wire.h"

static bool read_varint(struct cs_rd *r, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        uint8_t c = *r->p++;
        if (shift == 63 && c > 1)
            return false;
        v |= (uint64_t)(c & 127) << shift;
        if (c < 128) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool read_value(struct cs_rd *r, struct wire_field *f)
{
    uint64_t n = 0;
    switch (f->type) {
    case WIRE_VARINT:
        return read_varint(r, &f->number);
    case WIRE_FIXED64:
        return cs_rd_bytes(r, 8, &f->value);
    case WIRE_FIXED32:
        return cs_rd_bytes(r, 4, &f->value);
    case WIRE_LEN:
        return read_varint(r, &n) && n <= cs_rd_left(r) && cs_rd_bytes(r, (size_t)n, &f->value);
    default:
        return false;
    }
}

bool wire_next(struct cs_rd *r, struct wire_field *f)
{
    *f = (struct wire_field){.start = r->p};
    struct cs_rd at = *r;
    uint64_t tag = 0;
    if (!read_varint(&at, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
        return false;
    f->num = (uint32_t)(tag >> 3);
    f->type = (unsigned)(tag & 7);
    if (!read_value(&at, f))
        return false;
    f->end = at.p;
    *r = at;
    return true;
}
