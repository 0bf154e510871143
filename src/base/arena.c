/* SPDX-License-Identifier: Apache-2.0
 *
 * Arena: a chain of blocks filled from the front; the newest block is the one in use.
 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ALIGN 16
#define DEFAULT_HINT 4096
#define DEFAULT_LIMIT ((size_t)64 << 20)
#define BLOCK_MAX ((size_t)64 << 10) /* growth stops doubling here; larger requests get their own size */

struct block {
    struct block *older;
    size_t size; /* bytes of data */
    _Alignas(ALIGN) unsigned char data[];
};

struct cs_arena {
    struct block *block; /* the one in use */
    size_t fill;         /* bytes taken of it */
    size_t used;         /* bytes handed out, with padding */
    size_t held;         /* bytes of all blocks, against limit */
    size_t limit;
    struct block *first; /* lives behind this structure, in the same allocation */
};

#define HEAD ((sizeof(struct cs_arena) + ALIGN - 1) & ~(size_t)(ALIGN - 1))

struct cs_arena *cs_arena_new(size_t hint, size_t limit)
{
    if (limit == 0)
        limit = DEFAULT_LIMIT;
    if (hint == 0)
        hint = DEFAULT_HINT;
    if (hint > limit)
        hint = limit;
    unsigned char *mem = cs_malloc(HEAD + sizeof(struct block) + hint);
    if (mem == NULL)
        return NULL;
    struct cs_arena *a = (struct cs_arena *)(void *)mem;
    struct block *b = (struct block *)(void *)(mem + HEAD);
    *b = (struct block){.size = hint};
    *a = (struct cs_arena){.block = b, .held = hint, .limit = limit, .first = b};
    return a;
}

void cs_arena_reset(struct cs_arena *a)
{
    while (a->block != a->first) {
        struct block *b = a->block;
        a->block = b->older;
        cs_free(b);
    }
    a->fill = a->used = 0;
    a->held = a->first->size;
}

void cs_arena_free(struct cs_arena *a)
{
    if (a == NULL)
        return;
    cs_arena_reset(a);
    cs_free(a);
}

static void *alloc_block(struct cs_arena *a, size_t n)
{
    size_t room = a->limit - a->held;
    size_t size = a->block->size * 2;

    if (n > room)
        return NULL;
    if (size > BLOCK_MAX)
        size = BLOCK_MAX;
    if (size < n)
        size = n;
    if (size > room)
        size = room;
    struct block *b = cs_malloc(sizeof *b + size);
    if (b == NULL)
        return NULL;
    b->size = size;
    a->held += size;
    a->used += n;
    /* A block made for one large request is full at once; keep filling the older one then. */
    if (size == n && a->block->size - a->fill >= 64 && a->block != a->first) {
        b->older = a->block->older;
        a->block->older = b;
        return b->data;
    }
    b->older = a->block;
    a->block = b;
    a->fill = n;
    return b->data;
}

void *cs_arena_alloc(struct cs_arena *a, size_t n)
{
    if (n > SIZE_MAX - ALIGN)
        return NULL;
    n = n == 0 ? ALIGN : (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (n > a->block->size - a->fill)
        return alloc_block(a, n);
    void *p = a->block->data + a->fill;
    a->fill += n;
    a->used += n;
    return p;
}

void *cs_arena_zalloc(struct cs_arena *a, size_t n)
{
    void *p = cs_arena_alloc(a, n);
    if (p != NULL)
        memset(p, 0, n);
    return p;
}

void *cs_arena_memdup(struct cs_arena *a, const void *p, size_t n)
{
    void *copy = cs_arena_alloc(a, n);
    if (copy != NULL && n > 0)
        memcpy(copy, p, n);
    return copy;
}

char *cs_arena_strndup(struct cs_arena *a, const char *s, size_t n)
{
    size_t len = n > 0 ? strnlen(s, n) : 0;
    char *copy = len < SIZE_MAX ? cs_arena_alloc(a, len + 1) : NULL;
    if (copy == NULL)
        return NULL;
    if (len > 0)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *cs_arena_strdup(struct cs_arena *a, const char *s)
{
    return cs_arena_memdup(a, s, strlen(s) + 1);
}

char *cs_arena_printf(struct cs_arena *a, const char *fmt, ...)
{
    /* first into what is left of the block: most texts fit and are formatted once */
    char *at = (char *)a->block->data + a->fill;
    size_t room = a->block->size - a->fill;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(room > 0 ? at : NULL, room, fmt, ap);
    char *out = n < 0 ? NULL : cs_arena_alloc(a, (size_t)n + 1);
    if (out != NULL && out != at)
        vsnprintf(out, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return out;
}

size_t cs_arena_used(const struct cs_arena *a)
{
    return a->used;
}
