/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ratelimit.h"

#include "base/coll.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>

/* A bucket not used for this long is forgotten; by then it is full again. */
#define FORGET_NS (INT64_C(10) * CS_NS_PER_S)

struct bucket {
    int64_t tokens; /* in billionths of a call */
    int64_t seen;   /* monotonic ns */
};

struct agent_ratelimit {
    pthread_mutex_t lock;
    const struct cs_clock *clock;
    int64_t per_second;
    struct cs_map *now, *before; /* key -> struct bucket; those of this period and the one before */
    int64_t period;              /* monotonic ns of its begin */
};

cs_code agent_ratelimit_new(const struct cs_clock *clock, int64_t per_second, struct agent_ratelimit **out,
                            struct cs_err *e)
{
    *out = NULL;
    struct agent_ratelimit *r = cs_calloc(1, sizeof *r);
    if (r == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&r->lock, NULL); /* cannot fail without attributes on Linux */
    r->clock = clock;
    r->per_second = per_second;
    r->now = cs_map_new(cs_free);
    r->before = cs_map_new(cs_free);
    r->period = cs_mono_ns(clock);
    if (r->now == NULL || r->before == NULL) {
        agent_ratelimit_free(r);
        return cs_nomem(e);
    }
    *out = r;
    return CS_OK;
}

void agent_ratelimit_free(struct agent_ratelimit *r)
{
    if (r == NULL)
        return;
    cs_map_free(r->now);
    cs_map_free(r->before);
    pthread_mutex_destroy(&r->lock);
    cs_free(r);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool make_key(struct cs_buf *out, const char *const *selectors, size_t count)
{
    const char **sorted = cs_malloc((count + 1) * sizeof *sorted);
    if (sorted == NULL)
        return false;
    if (count > 0)
        memcpy(sorted, selectors, count * sizeof *sorted);
    if (count > 1)
        qsort(sorted, count, sizeof *sorted, by_text);
    for (size_t i = 0; i < count; i++)
        cs_buf_add(out, sorted[i], strlen(sorted[i]) + 1);
    cs_free(sorted);
    return cs_buf_ok(out);
}

/* Lock held. */
static void turn_period(struct agent_ratelimit *r, int64_t now)
{
    struct cs_map *fresh = now - r->period < FORGET_NS ? NULL : cs_map_new(cs_free);
    if (fresh == NULL)
        return;
    cs_map_free(r->before);
    r->before = r->now;
    r->now = fresh;
    r->period = now;
}

/* The bucket of a key, full when it is new; NULL without memory. Lock held. */
static struct bucket *find_bucket(struct agent_ratelimit *r, struct cs_slice key, int64_t now)
{
    struct bucket *b = cs_map_get(r->now, key);
    if (b != NULL)
        return b;
    b = cs_map_take(r->before, key);
    if (b == NULL && (b = cs_malloc(sizeof *b)) != NULL)
        *b = (struct bucket){.tokens = r->per_second * CS_NS_PER_S, .seen = now};
    if (b != NULL && cs_map_put(r->now, key, b) != CS_OK) {
        cs_free(b);
        b = NULL;
    }
    return b;
}

static bool take(struct agent_ratelimit *r, struct bucket *b, int64_t now)
{
    int64_t passed = now - b->seen;
    int64_t full = r->per_second * CS_NS_PER_S;
    b->seen = now;
    b->tokens = passed >= CS_NS_PER_S ? full : b->tokens + passed * r->per_second;
    if (b->tokens > full)
        b->tokens = full;
    if (b->tokens < CS_NS_PER_S)
        return false;
    b->tokens -= CS_NS_PER_S;
    return true;
}

bool agent_ratelimit_allow(struct agent_ratelimit *r, const char *const *selectors, size_t count)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf key = {0};
    if (!make_key(&key, selectors, count))
        return true;
    int64_t now = cs_mono_ns(r->clock);
    pthread_mutex_lock(&r->lock);
    turn_period(r, now);
    struct bucket *b = find_bucket(r, cs_buf_slice(&key), now);
    bool allowed = b == NULL || take(r, b, now);
    pthread_mutex_unlock(&r->lock);
    return allowed;
}
