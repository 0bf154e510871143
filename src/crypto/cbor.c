/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/cbor.h"

#include "base/text.h"

/* Major types of RFC 8949 section 3.1, as the top three bits have them. */
enum major {
    MAJOR_UINT,
    MAJOR_NEGATIVE,
    MAJOR_BYTES,
    MAJOR_TEXT,
    MAJOR_ARRAY,
    MAJOR_MAP,
    MAJOR_TAG,
    MAJOR_SIMPLE
};
#define INDEFINITE 31
#define BYTE_FALSE 0xf4
#define BYTE_TRUE 0xf5
#define BYTE_NULL 0xf6
#define BYTE_BREAK 0xff
#define BYTE_MAP_INDEFINITE 0xbf

/* --- Reading --- */

/* The argument of an initial byte: 0 to 23 in it, or in the 1, 2, 4 or 8 bytes behind it. */
static bool read_argument(struct cs_rd *r, unsigned info, uint64_t *out)
{
    *out = info;
    if (info < 24)
        return true;
    if (info > 27)
        return false; /* reserved, or indefinite */
    struct cs_slice s;
    if (!cs_rd_bytes(r, (size_t)1 << (info - 24), &s))
        return false;
    *out = 0;
    for (size_t i = 0; i < s.len; i++)
        *out = *out << 8 | s.data[i];
    return true;
}

static bool read_head(struct cs_rd *r, enum major *major, uint64_t *argument)
{
    uint8_t first;
    if (!cs_rd_u8(r, &first))
        return false;
    *major = (enum major)(first >> 5);
    return read_argument(r, first & 0x1f, argument);
}

/* The head of this major type, with the cursor moved only when it is there. */
static bool read_this(struct cs_rd *r, enum major expected, uint64_t *argument)
{
    struct cs_rd at = *r;
    enum major major;
    if (!read_head(&at, &major, argument) || major != expected)
        return false;
    *r = at;
    return true;
}

bool cbor_read_uint(struct cs_rd *r, uint64_t *out)
{
    return read_this(r, MAJOR_UINT, out);
}

bool cbor_read_int(struct cs_rd *r, int64_t *out)
{
    struct cs_rd at = *r;
    enum major major;
    uint64_t v;
    if (!read_head(&at, &major, &v) || v > INT64_MAX)
        return false;
    if (major != MAJOR_UINT && major != MAJOR_NEGATIVE)
        return false;
    *out = major == MAJOR_UINT ? (int64_t)v : -1 - (int64_t)v;
    *r = at;
    return true;
}

static bool read_string(struct cs_rd *r, enum major kind, struct cs_slice *out)
{
    struct cs_rd at = *r;
    uint64_t len;
    if (!read_this(&at, kind, &len) || len > cs_rd_left(&at) || !cs_rd_bytes(&at, (size_t)len, out))
        return false;
    if (kind == MAJOR_TEXT && !cs_utf8_valid(*out))
        return false;
    *r = at;
    return true;
}

bool cbor_read_bytes(struct cs_rd *r, struct cs_slice *out)
{
    return read_string(r, MAJOR_BYTES, out);
}

bool cbor_read_text(struct cs_rd *r, struct cs_slice *out)
{
    return read_string(r, MAJOR_TEXT, out);
}

bool cbor_read_text_is(struct cs_rd *r, const char *expected)
{
    struct cs_rd at = *r;
    struct cs_slice text;
    if (!cbor_read_text(&at, &text) || !cs_slice_is(text, expected))
        return false;
    *r = at;
    return true;
}

bool cbor_read_array(struct cs_rd *r, size_t *count)
{
    struct cs_rd at = *r;
    uint64_t n;
    if (!read_this(&at, MAJOR_ARRAY, &n) || n > cs_rd_left(&at))
        return false;
    *count = (size_t)n;
    *r = at;
    return true;
}

bool cbor_read_tag(struct cs_rd *r, uint64_t tag)
{
    struct cs_rd at = *r;
    uint64_t v;
    if (!read_this(&at, MAJOR_TAG, &v) || v != tag)
        return false;
    *r = at;
    return true;
}

static bool read_byte(struct cs_rd *r, uint8_t expected)
{
    if (cs_rd_left(r) == 0 || *r->p != expected)
        return false;
    r->p++;
    return true;
}

bool cbor_read_bool(struct cs_rd *r, bool *out)
{
    *out = read_byte(r, BYTE_TRUE);
    return *out || read_byte(r, BYTE_FALSE);
}

bool cbor_read_null(struct cs_rd *r)
{
    return read_byte(r, BYTE_NULL);
}

bool cbor_map_begin(struct cs_rd *r, struct cbor_map *m, bool allow_indefinite)
{
    struct cs_rd at = *r;
    uint64_t n;
    *m = (struct cbor_map){0};
    if (allow_indefinite && read_byte(r, BYTE_MAP_INDEFINITE)) {
        m->indefinite = true;
        return true;
    }
    if (!read_this(&at, MAJOR_MAP, &n) || n > cs_rd_left(&at) / 2)
        return false;
    m->left = (size_t)n;
    *r = at;
    return true;
}

bool cbor_map_more(struct cs_rd *r, struct cbor_map *m)
{
    if (m->ended)
        return false;
    if (m->indefinite) {
        m->ended = read_byte(r, BYTE_BREAK);
        return !m->ended && cs_rd_left(r) > 0;
    }
    m->ended = m->left == 0;
    if (!m->ended)
        m->left--;
    return !m->ended;
}

/* How many values follow within this one; false when it is broken. */
static bool skip_head(struct cs_rd *r, uint64_t *inner)
{
    enum major major;
    uint64_t v;
    struct cs_slice s;
    const uint8_t first = cs_rd_left(r) > 0 ? *r->p : 0;
    *inner = 0;
    if (first >> 5 == MAJOR_TEXT)
        return cbor_read_text(r, &s);
    if (!read_head(r, &major, &v))
        return false;
    switch (major) {
    case MAJOR_BYTES:
        return v <= cs_rd_left(r) && cs_rd_bytes(r, (size_t)v, &s);
    case MAJOR_ARRAY:
        *inner = v;
        return v <= cs_rd_left(r);
    case MAJOR_MAP:
        *inner = v <= cs_rd_left(r) / 2 ? v * 2 : 0;
        return v <= cs_rd_left(r) / 2;
    case MAJOR_TAG:
        *inner = 1;
        return true;
    case MAJOR_SIMPLE:
        return (first & 0x1f) != 24 || v >= 32; /* RFC 8949 section 3.3 */
    default:
        return true;
    }
}

bool cbor_skip(struct cs_rd *r)
{
    uint64_t left[CBOR_DEPTH_MAX + 1] = {1}; /* values still to come, per level */
    size_t depth = 0;
    struct cs_rd at = *r;
    for (;;) {
        while (left[depth] == 0) {
            if (depth == 0) {
                *r = at;
                return true;
            }
            depth--;
        }
        left[depth]--;
        uint64_t inner;
        if (!skip_head(&at, &inner))
            return false;
        if (inner == 0)
            continue;
        if (depth == CBOR_DEPTH_MAX)
            return false;
        left[++depth] = inner;
    }
}

/* --- Writing --- */

static void put_head(struct cs_buf *out, enum major major, uint64_t v)
{
    const uint8_t top = (uint8_t)(major << 5);
    if (v < 24) {
        cs_buf_add_byte(out, (uint8_t)(top | v));
        return;
    }
    const unsigned log2_bytes = v <= UINT8_MAX ? 0 : v <= UINT16_MAX ? 1 : v <= UINT32_MAX ? 2 : 3;
    cs_buf_add_byte(out, (uint8_t)(top | (24 + log2_bytes)));
    for (unsigned bytes = 1u << log2_bytes; bytes > 0; bytes--)
        cs_buf_add_byte(out, (uint8_t)(v >> (8 * (bytes - 1))));
}

void cbor_put_uint(struct cs_buf *out, uint64_t v)
{
    put_head(out, MAJOR_UINT, v);
}

void cbor_put_int(struct cs_buf *out, int64_t v)
{
    if (v >= 0)
        put_head(out, MAJOR_UINT, (uint64_t)v);
    else
        put_head(out, MAJOR_NEGATIVE, (uint64_t)(-1 - v));
}

void cbor_put_bytes(struct cs_buf *out, struct cs_slice s)
{
    put_head(out, MAJOR_BYTES, s.len);
    cs_buf_add_slice(out, s);
}

void cbor_put_text(struct cs_buf *out, const char *s)
{
    put_head(out, MAJOR_TEXT, strlen(s));
    cs_buf_add_str(out, s);
}

void cbor_put_array(struct cs_buf *out, size_t count)
{
    put_head(out, MAJOR_ARRAY, count);
}

void cbor_put_map(struct cs_buf *out, size_t pairs)
{
    put_head(out, MAJOR_MAP, pairs);
}

void cbor_put_map_indefinite(struct cs_buf *out)
{
    cs_buf_add_byte(out, BYTE_MAP_INDEFINITE);
}

void cbor_put_break(struct cs_buf *out)
{
    cs_buf_add_byte(out, BYTE_BREAK);
}

void cbor_put_tag(struct cs_buf *out, uint64_t tag)
{
    put_head(out, MAJOR_TAG, tag);
}

void cbor_put_bool(struct cs_buf *out, bool v)
{
    cs_buf_add_byte(out, v ? BYTE_TRUE : BYTE_FALSE);
}

void cbor_put_null(struct cs_buf *out)
{
    cs_buf_add_byte(out, BYTE_NULL);
}
