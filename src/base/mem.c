/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Failure injection belongs to a thread, so that a test of one thread leaves others alone. */
static _Thread_local struct {
    size_t left; /* allocations until the failing one; 0: off */
    size_t made;
    bool forever;
} inject;

size_t cs_mem_fail_at(size_t n, bool forever)
{
    size_t made = inject.made;
    inject.left = n;
    inject.forever = forever;
    inject.made = 0;
    return made;
}

static bool refused(void)
{
    inject.made++;
    if (__builtin_expect(inject.left == 0, 1))
        return false;
    if (inject.left > 1) {
        inject.left--;
        return false;
    }
    if (!inject.forever)
        inject.left = 0;
    return true;
}

void *cs_malloc(size_t n)
{
    return refused() ? NULL : malloc(n != 0 ? n : 1);
}

void *cs_calloc(size_t count, size_t size)
{
    if (refused())
        return NULL;
    return count != 0 && size != 0 ? calloc(count, size) : calloc(1, 1);
}

void *cs_realloc(void *p, size_t n)
{
    return refused() ? NULL : realloc(p, n != 0 ? n : 1);
}

char *cs_strdup(const char *s)
{
    return cs_memdup(s, strlen(s) + 1);
}

char *cs_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = cs_malloc(len + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

void *cs_memdup(const void *p, size_t n)
{
    void *copy = cs_malloc(n);
    if (copy != NULL && n > 0)
        memcpy(copy, p, n);
    return copy;
}

void cs_free(void *p)
{
    free(p);
}

char *cs_asprintf(const char *fmt, ...)
{
    char small[256];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    char *out = NULL;
    int n = vsnprintf(small, sizeof small, fmt, ap);
    if (n >= 0 && (size_t)n < sizeof small) {
        out = cs_memdup(small, (size_t)n + 1);
    } else if (n >= 0) {
        out = cs_malloc((size_t)n + 1);
        if (out != NULL)
            vsnprintf(out, (size_t)n + 1, fmt, again);
    }
    va_end(again);
    va_end(ap);
    return out;
}

void cs_mem_tune(void)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_TRIM_THRESHOLD, 256 * 1024);
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
#endif
}

void cs_mem_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

bool cs_ct_equal(const void *a, const void *b, size_t n)
{
    const volatile unsigned char *x = a, *y = b;
    unsigned char diff = 0;
    for (size_t i = 0; i < n; i++)
        diff |= x[i] ^ y[i];
    return diff == 0;
}

cs_code cs_random(void *p, size_t n, struct cs_err *e)
{
    unsigned char *at = p;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return cs_fail_errno(e, CS_INTERNAL, errno, "getrandom");
        }
        at += got;
        n -= (size_t)got;
    }
    return CS_OK;
}

cs_code cs_uuid(char out[37], struct cs_err *e)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char r[16];

    out[0] = '\0';
    CS_TRY(cs_random(r, sizeof r, e));
    r[6] = (unsigned char)((r[6] & 0x0f) | 0x40); /* version 4 */
    r[8] = (unsigned char)((r[8] & 0x3f) | 0x80); /* variant of RFC 9562 section 4.1 */
    char *at = out;
    for (size_t i = 0; i < sizeof r; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = hex[r[i] >> 4];
        *at++ = hex[r[i] & 0x0f];
    }
    *at = '\0';
    return CS_OK;
}
