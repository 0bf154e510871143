/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/mem.h"

#include <stdio.h>

#define DEFAULT_MAX ((size_t)256 << 20)
#define FIRST_CAP 64

void cs_buf_free(struct cs_buf *b)
{
    if (!b->borrowed)
        cs_free(b->data);
    *b = (struct cs_buf){0};
}

void cs_buf_wipe(struct cs_buf *b)
{
    if (b->data != NULL)
        cs_wipe(b->data, b->cap);
    cs_buf_free(b);
}

void cs_buf_reset(struct cs_buf *b)
{
    b->len = 0;
    b->failed = false;
}

/* Moves the content to a block of `cap` bytes. */
static bool resize(struct cs_buf *b, size_t cap)
{
    uint8_t *data = b->borrowed ? cs_malloc(cap) : cs_realloc(b->data, cap);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    if (b->borrowed && b->len > 0)
        memcpy(data, b->data, b->len);
    b->borrowed = false;
    b->data = data;
    b->cap = cap;
    return true;
}

static bool grow(struct cs_buf *b, size_t n)
{
    size_t max = b->max != 0 ? b->max : DEFAULT_MAX;

    if (n > max || b->len > max - n) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + n;
    size_t cap = b->cap < FIRST_CAP ? FIRST_CAP : b->cap + b->cap / 2;
    if (cap < need)
        cap = need;
    if (cap > max)
        cap = max;
    return cap <= b->cap || resize(b, cap);
}

bool cs_buf_reserve(struct cs_buf *b, size_t n)
{
    if (b->failed)
        return false;
    if (n <= b->cap - b->len && (b->max == 0 || n + b->len <= b->max))
        return true;
    return grow(b, n);
}

void cs_buf_add(struct cs_buf *b, const void *p, size_t n)
{
    if (n == 0 || !cs_buf_reserve(b, n))
        return;
    memcpy(b->data + b->len, p, n);
    b->len += n;
}

void cs_buf_add_slice(struct cs_buf *b, struct cs_slice s)
{
    cs_buf_add(b, s.data, s.len);
}

void cs_buf_add_str(struct cs_buf *b, const char *s)
{
    cs_buf_add(b, s, strlen(s));
}

void cs_buf_add_byte(struct cs_buf *b, uint8_t c)
{
    if (cs_buf_reserve(b, 1))
        b->data[b->len++] = c;
}

void cs_buf_printf(struct cs_buf *b, const char *fmt, ...)
{
    if (b->failed)
        return;
    size_t room = b->cap - b->len;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(room > 0 ? (char *)b->data + b->len : NULL, room, fmt, ap);
    if (n < 0) {
        b->failed = true;
    } else if ((size_t)n < room && (b->max == 0 || b->len + (size_t)n <= b->max)) {
        b->len += (size_t)n;
    } else if (cs_buf_reserve(b, (size_t)n) &&
               (b->cap - b->len > (size_t)n || resize(b, b->len + (size_t)n + 1))) {
        /* the NUL that vsnprintf needs does not count against `max` */
        vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

/* Room for a NUL behind the content, which does not count against `max`. */
static bool terminate(struct cs_buf *b)
{
    if (b->failed || (b->len == b->cap && !resize(b, b->len + 1)))
        return false;
    b->data[b->len] = '\0';
    return true;
}

const char *cs_buf_cstr(struct cs_buf *b)
{
    return terminate(b) ? (const char *)b->data : "";
}

char *cs_buf_take_str(struct cs_buf *b)
{
    char *s = NULL;
    if (b->borrowed && !b->failed)
        (void)resize(b, b->len + 1);
    if (terminate(b))
        s = (char *)CS_MOVE(b->data);
    cs_buf_free(b);
    return s;
}

bool cs_rd_bytes(struct cs_rd *r, size_t n, struct cs_slice *out)
{
    if (n > cs_rd_left(r))
        return false;
    *out = cs_slice_of(r->p, n);
    if (n > 0)
        r->p += n;
    return true;
}

bool cs_rd_u8(struct cs_rd *r, uint8_t *out)
{
    struct cs_slice s;
    if (!cs_rd_bytes(r, 1, &s))
        return false;
    *out = s.data[0];
    return true;
}

bool cs_rd_u16be(struct cs_rd *r, uint16_t *out)
{
    struct cs_slice s;
    if (!cs_rd_bytes(r, 2, &s))
        return false;
    *out = (uint16_t)(s.data[0] << 8 | s.data[1]);
    return true;
}

bool cs_rd_u32be(struct cs_rd *r, uint32_t *out)
{
    struct cs_slice s;
    if (!cs_rd_bytes(r, 4, &s))
        return false;
    *out = (uint32_t)s.data[0] << 24 | (uint32_t)s.data[1] << 16 | (uint32_t)s.data[2] << 8 | s.data[3];
    return true;
}
