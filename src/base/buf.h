/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes: borrowed slices, growable buffers, and a bounded reading cursor.
 */
#ifndef CS_BASE_BUF_H
#define CS_BASE_BUF_H

#include "base/err.h"

#include <stdint.h>
#include <string.h>

/* A borrowed run of bytes; never owned, never NUL-terminated by promise. */
struct cs_slice {
    const uint8_t *data;
    size_t len;
};
static inline struct cs_slice cs_slice_of(const void *p, size_t n)
{
    return (struct cs_slice){(const uint8_t *)p, n};
}
static inline struct cs_slice cs_slice_str(const char *s)
{
    return (struct cs_slice){(const uint8_t *)s, strlen(s)};
}
static inline bool cs_slice_eq(struct cs_slice a, struct cs_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
static inline bool cs_slice_is(struct cs_slice a, const char *s)
{
    return cs_slice_eq(a, cs_slice_str(s));
}

/* Growable buffer. Zero-initialise (`struct cs_buf b = {0}`), release with cs_buf_free. Growth
 * failures are sticky: `failed` stays set, further appends do nothing, so a writer checks once at
 * the end (cs_buf_ok). `max` 0 means the default limit of 256 MiB. Not thread-safe. */
struct cs_buf {
    uint8_t *data;
    size_t len, cap, max;
    bool failed;
    bool borrowed; /* data is the memory given to cs_buf_on and is never freed */
};
/* A buffer that begins in n bytes of the caller's memory (a stack array, which must outlive it) and
 * moves to the heap only when they are full. */
static inline struct cs_buf cs_buf_on(void *mem, size_t n)
{
    return (struct cs_buf){.data = (uint8_t *)mem, .cap = n, .borrowed = true};
}
void cs_buf_free(struct cs_buf *b);              /* releases and zeroes; for CS_CLEANUP too */
void cs_buf_wipe(struct cs_buf *b);              /* overwrites the content, then cs_buf_free; what
                                                  * growth left behind is not overwritten, so reserve
                                                  * first where the content is secret */
void cs_buf_reset(struct cs_buf *b);             /* empty, keeps the memory */
bool cs_buf_reserve(struct cs_buf *b, size_t n); /* room for n more bytes */
void cs_buf_add(struct cs_buf *b, const void *p, size_t n);
void cs_buf_add_slice(struct cs_buf *b, struct cs_slice s);
void cs_buf_add_str(struct cs_buf *b, const char *s);
void cs_buf_add_byte(struct cs_buf *b, uint8_t c);
CS_PRINTF(2, 3) void cs_buf_printf(struct cs_buf *b, const char *fmt, ...);
/* NUL after the content (not counted in len) and the content as a C string; "" when failed. It writes: what
 * several threads read is ended before they share it. */
const char *cs_buf_cstr(struct cs_buf *b);
/* Hand the content over as a NUL-terminated malloc string; NULL when failed. b is empty after. */
char *cs_buf_take_str(struct cs_buf *b);
static inline bool cs_buf_ok(const struct cs_buf *b)
{
    return !b->failed;
}
static inline struct cs_slice cs_buf_slice(const struct cs_buf *b)
{
    return cs_slice_of(b->data, b->len);
}

/* Bounded reader: every read says whether it fitted; nothing is read past `end`. */
struct cs_rd {
    const uint8_t *p, *end;
};
static inline struct cs_rd cs_rd_of(struct cs_slice s)
{
    /* C17 knows no NULL + 0 */
    return (struct cs_rd){s.data, s.len > 0 ? s.data + s.len : s.data};
}
static inline size_t cs_rd_left(const struct cs_rd *r)
{
    return (size_t)(r->end - r->p);
}
bool cs_rd_u8(struct cs_rd *r, uint8_t *out);
bool cs_rd_u16be(struct cs_rd *r, uint16_t *out);
bool cs_rd_u32be(struct cs_rd *r, uint32_t *out);
bool cs_rd_bytes(struct cs_rd *r, size_t n, struct cs_slice *out);

#endif
