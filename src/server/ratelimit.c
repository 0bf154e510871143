/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ratelimit.h"

#include "base/coll.h"
#include "base/mem.h"

#include <pthread.h>

#define GENERATION_NS (60 * CS_NS_PER_S)

struct bucket {
    int64_t at;    /* monotonic, when `tokens` was right */
    double tokens; /* below zero: reserved ahead */
};

struct ratelimit {
    pthread_mutex_t lock;
    const struct cs_clock *clock;
    unsigned limit;
    struct cs_map *now, *before; /* two generations of buckets */
    int64_t turned;
};

cs_code ratelimit_new(unsigned limit, const struct cs_clock *clock, struct ratelimit **out, struct cs_err *e)
{
    *out = NULL;
    struct ratelimit *r = cs_calloc(1, sizeof *r);
    if (r == NULL)
        return cs_nomem(e);
    pthread_mutex_init(&r->lock, NULL);
    r->limit = limit;
    r->clock = clock;
    r->turned = cs_mono_ns(clock);
    r->now = cs_map_new(cs_free);
    r->before = cs_map_new(cs_free);
    if (r->now == NULL || r->before == NULL) {
        ratelimit_free(r);
        return cs_nomem(e);
    }
    *out = r;
    return CS_OK;
}

void ratelimit_free(struct ratelimit *r)
{
    if (r == NULL)
        return;
    cs_map_free(r->now);
    cs_map_free(r->before);
    pthread_mutex_destroy(&r->lock);
    cs_free(r);
}

static void turn(struct ratelimit *r, int64_t now)
{
    if (now - r->turned < GENERATION_NS)
        return;
    struct cs_map *fresh = cs_map_new(cs_free);
    if (fresh == NULL)
        return; /* next time */
    cs_map_free(r->before);
    r->before = r->now;
    r->now = fresh;
    r->turned = now;
}

/* NULL: no memory. */
static struct bucket *bucket_of(struct ratelimit *r, struct cs_slice key, int64_t now)
{
    struct bucket *b = cs_map_get(r->now, key);
    if (b != NULL)
        return b;
    b = cs_map_take(r->before, key);
    if (b == NULL) {
        turn(r, now);
        b = cs_malloc(sizeof *b);
        if (b == NULL)
            return NULL;
        *b = (struct bucket){now, r->limit};
    }
    if (cs_map_put(r->now, key, b) == CS_OK)
        return b;
    cs_free(b);
    return NULL;
}

static void refill(const struct ratelimit *r, struct bucket *b, int64_t now)
{
    if (now <= b->at)
        return;
    b->tokens += (double)(now - b->at) / (double)CS_NS_PER_S * r->limit;
    if (b->tokens > r->limit)
        b->tokens = r->limit;
    b->at = now;
}

static cs_code reserve(struct ratelimit *r, struct bucket *b, size_t count, int64_t max_wait_ns,
                       int64_t *wait_ns, struct cs_err *e)
{
    double left = b->tokens - (double)count;
    int64_t wait = left < 0 ? (int64_t)(-left / r->limit * (double)CS_NS_PER_S) : 0;
    if (wait > max_wait_ns)
        return cs_fail(e, CS_EXHAUSTED, "rate: Wait(n=%zu) would exceed context deadline", count);
    b->tokens = left;
    *wait_ns = wait;
    return CS_OK;
}

cs_code ratelimit_reserve(struct ratelimit *r, struct cs_slice key, size_t count, int64_t max_wait_ns,
                          int64_t *wait_ns, struct cs_err *e)
{
    *wait_ns = 0;
    if (count > r->limit)
        return cs_fail(e, CS_EXHAUSTED, "rate (%zu) exceeds burst size (%u)", count, r->limit);
    pthread_mutex_lock(&r->lock);
    int64_t now = cs_mono_ns(r->clock);
    struct bucket *b = bucket_of(r, key, now);
    cs_code code;
    if (b == NULL) {
        code = cs_nomem(e);
    } else {
        refill(r, b, now);
        code = reserve(r, b, count, max_wait_ns, wait_ns, e);
    }
    pthread_mutex_unlock(&r->lock);
    return code;
}

size_t ratelimit_keys(struct ratelimit *r)
{
    pthread_mutex_lock(&r->lock);
    size_t n = cs_map_len(r->now) + cs_map_len(r->before);
    pthread_mutex_unlock(&r->lock);
    return n;
}
