/* SPDX-License-Identifier: Apache-2.0
 *
 * Secrets live in chunks of pages that are locked in memory and left out of core dumps, when the
 * kernel lets us. A chunk serves many secrets: an agent holds thousands of keys, and a page (and a
 * mapping) for each would cost far more than the keys. Chunks are the one state that the whole
 * process shares here; a secret is made and freed rarely, so one lock does.
 */
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define CHUNK ((size_t)16 << 10)
#define GRAIN ((size_t)32)
#define GRAINS (CHUNK / GRAIN)
#define PAGE ((size_t)4096) /* for rounding only: mmap and munmap round up by themselves */

struct chunk {
    struct chunk *next;
    uint8_t *pages;
    size_t taken;
    uint8_t map[GRAINS]; /* 1: taken */
};

/* In front of each secret's bytes, in the same locked memory. */
struct box {
    struct cs_secret secret;
    struct chunk *chunk; /* NULL: a mapping of its own */
    uint64_t size;       /* with this header, rounded up */
    _Alignas(16) uint8_t data[];
};

static struct {
    pthread_mutex_t lock;
    struct chunk *chunks;
} store = {.lock = PTHREAD_MUTEX_INITIALIZER};

void cs_wipe(void *p, size_t n)
{
    if (n > 0)
        explicit_bzero(p, n);
}

static void *map_pages(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    /* Both are best effort: RLIMIT_MEMLOCK may be small, and mains forbid core dumps anyway. */
    (void)mlock(p, n);
    (void)madvise(p, n, MADV_DONTDUMP);
    return p;
}

static struct chunk *new_chunk(void)
{
    struct chunk *c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->pages = map_pages(CHUNK);
    if (c->pages == NULL) {
        cs_free(c);
        return NULL;
    }
    ASAN_POISON_MEMORY_REGION(c->pages, CHUNK);
    return c;
}

static void *take_grains(struct chunk *c, size_t count)
{
    size_t run = 0;
    if (GRAINS - c->taken < count)
        return NULL;
    for (size_t i = 0; i < GRAINS; i++) {
        run = c->map[i] ? 0 : run + 1;
        if (run == count) {
            size_t first = i + 1 - count;
            memset(c->map + first, 1, count);
            c->taken += count;
            return c->pages + first * GRAIN;
        }
    }
    return NULL;
}

static struct box *box_in_chunk(size_t size)
{
    size_t count = size / GRAIN;
    struct box *box = NULL;

    pthread_mutex_lock(&store.lock);
    struct chunk *c = store.chunks;
    while (c != NULL && (box = take_grains(c, count)) == NULL)
        c = c->next;
    if (box == NULL && (c = new_chunk()) != NULL) {
        c->next = store.chunks;
        store.chunks = c;
        box = take_grains(c, count);
    }
    pthread_mutex_unlock(&store.lock);
    if (box != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(box, size);
        box->chunk = c;
    }
    return box;
}

/* An empty chunk is given back, except the last one. */
static void release_chunk(struct chunk *empty)
{
    if (store.chunks == empty && empty->next == NULL)
        return;
    struct chunk **at = &store.chunks;
    while (*at != empty)
        at = &(*at)->next;
    *at = empty->next;
    ASAN_UNPOISON_MEMORY_REGION(empty->pages, CHUNK);
    munmap(empty->pages, CHUNK);
    cs_free(empty);
}

cs_code cs_secret_new(size_t n, struct cs_secret **out, struct cs_err *e)
{
    *out = NULL;
    if (n > SIZE_MAX - sizeof(struct box) - PAGE)
        return cs_nomem(e);
    size_t size = (sizeof(struct box) + n + GRAIN - 1) & ~(GRAIN - 1);
    struct box *box;
    if (size <= CHUNK) {
        box = box_in_chunk(size);
    } else {
        size = (size + PAGE - 1) & ~(PAGE - 1);
        box = map_pages(size);
    }
    if (box == NULL)
        return cs_nomem(e);
    box->size = size;
    box->secret = (struct cs_secret){.data = box->data, .len = n};
    *out = &box->secret;
    /* the end of the last grain is nobody's */
    ASAN_POISON_MEMORY_REGION(box->data + n, size - sizeof *box - n);
    return CS_OK;
}

cs_code cs_secret_copy(const void *p, size_t n, struct cs_secret **out, struct cs_err *e)
{
    CS_TRY(cs_secret_new(n, out, e));
    if (n > 0)
        memcpy((*out)->data, p, n);
    return CS_OK;
}

void cs_secret_free(struct cs_secret *s)
{
    if (s == NULL)
        return;
    struct box *box = (struct box *)(void *)s; /* its first member */
    struct chunk *c = box->chunk;
    size_t size = box->size;

    ASAN_UNPOISON_MEMORY_REGION(box, size);
    cs_wipe(box, size); /* so that a new secret is zero without more work */
    if (c == NULL) {
        munmap(box, size);
        return;
    }
    pthread_mutex_lock(&store.lock);
    memset(c->map + (size_t)((uint8_t *)box - c->pages) / GRAIN, 0, size / GRAIN);
    c->taken -= size / GRAIN;
    ASAN_POISON_MEMORY_REGION(box, size);
    if (c->taken == 0)
        release_chunk(c);
    pthread_mutex_unlock(&store.lock);
}
