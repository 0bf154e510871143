/* SPDX-License-Identifier: Apache-2.0
 *
 * Allocation: one hook for all of ours, arenas for calls, and memory for secrets.
 */
#ifndef CS_BASE_MEM_H
#define CS_BASE_MEM_H

#include "base/err.h"

#include <stdint.h>

/* malloc and friends through one replaceable hook; each returns NULL when memory is out (never
 * aborts). Release with cs_free. Any thread. */
void *cs_malloc(size_t n);
void *cs_calloc(size_t count, size_t size);
void *cs_realloc(void *p, size_t n);
char *cs_strdup(const char *s);
char *cs_strndup(const char *s, size_t n);
void *cs_memdup(const void *p, size_t n);
void cs_free(void *p);
static inline void cs_freep(void *pp) /* for CS_CLEANUP(cs_freep) on any pointer variable */
{
    void **p = (void **)pp;
    cs_free(*p);
    *p = NULL;
}
/* printf into a fresh string; NULL when memory is out. */
CS_PRINTF(1, 2) char *cs_asprintf(const char *fmt, ...);

/* Settings of the C library's allocator for few, long-lived, mostly idle threads: two arenas instead
 * of eight per core, memory given back early. For mains, before threads start. */
void cs_mem_tune(void);
/* Give free memory back to the kernel. Takes milliseconds on a large heap: after bursts only. */
void cs_mem_trim(void);

/* Tests only: the n-th allocation from now (1 = next) of this thread fails, and each after it when
 * `forever`; 0 switches off. Returns how many allocations were made since the last call. */
size_t cs_mem_fail_at(size_t n, bool forever);

/* --- Arena: many small allocations with one end of life. Not thread-safe. --- */
struct cs_arena;

/* First block of `hint` bytes (0: default 4 KiB); `limit` is the most it will ever hold (0: 64 MiB).
 * NULL when memory is out. */
struct cs_arena *cs_arena_new(size_t hint, size_t limit);
void cs_arena_free(struct cs_arena *a);  /* NULL is fine */
void cs_arena_reset(struct cs_arena *a); /* keep the first block, drop everything else */
/* 16-byte aligned, not zeroed; NULL when memory or the limit is out. */
void *cs_arena_alloc(struct cs_arena *a, size_t n);
void *cs_arena_zalloc(struct cs_arena *a, size_t n);
char *cs_arena_strndup(struct cs_arena *a, const char *s, size_t n);
char *cs_arena_strdup(struct cs_arena *a, const char *s);
void *cs_arena_memdup(struct cs_arena *a, const void *p, size_t n);
CS_PRINTF(2, 3) char *cs_arena_printf(struct cs_arena *a, const char *fmt, ...);
size_t cs_arena_used(const struct cs_arena *a);
static inline void cs_arena_drop(struct cs_arena **a)
{
    cs_arena_free(*a);
    *a = NULL;
}

/* --- Secrets: locked when the kernel lets us, left out of core dumps, wiped when freed. --- */
struct cs_secret {
    uint8_t *data;
    size_t len;
};
/* New secret of n zero bytes (single owner). */
CS_CHECKED cs_code cs_secret_new(size_t n, struct cs_secret **out, struct cs_err *e);
CS_CHECKED cs_code cs_secret_copy(const void *p, size_t n, struct cs_secret **out, struct cs_err *e);
void cs_secret_free(struct cs_secret *s); /* wipes; NULL is fine */
static inline void cs_secret_drop(struct cs_secret **s)
{
    cs_secret_free(*s);
    *s = NULL;
}
/* Overwrite n bytes in a way the compiler keeps. */
void cs_wipe(void *p, size_t n);
/* Constant-time comparison of n bytes. */
bool cs_ct_equal(const void *a, const void *b, size_t n);
/* Kernel randomness (getrandom); fails only when the kernel does. */
CS_CHECKED cs_code cs_random(void *p, size_t n, struct cs_err *e);
/* Random version 4 UUID (RFC 9562), lower case, 36 characters and NUL. */
CS_CHECKED cs_code cs_uuid(char out[37], struct cs_err *e);

#endif
