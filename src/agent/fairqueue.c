/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool below gets one turn per waiting job. A turn runs the first job of the key that has waited longest
 * since its last one, which need not be the job that came with the turn.
 */
#include "agent/fairqueue.h"

#include "base/coll.h"
#include "base/mem.h"
#include "loop/loop.h"

#include <pthread.h>

struct job {
    struct job *next;
    void (*fn)(void *arg);
    void *arg;
};

/* A key with jobs waiting; in the map and in the ring as long as it has some. */
struct line {
    struct line *next;
    uint64_t key;
    struct job *first, **end;
    unsigned count;
};

struct agent_fairqueue {
    struct loop_pool *pool;
    unsigned per_key;
    pthread_mutex_t lock;     /* over what follows; taken before the pool's own */
    struct cs_map *lines;     /* key -> struct line */
    struct line *next, **end; /* whose turn it is, and after whom a key gets in line */
};

cs_code agent_fairqueue_new(const char *name, unsigned threads, unsigned per_key, unsigned total,
                            struct agent_fairqueue **out, struct cs_err *e)
{
    *out = NULL;
    struct agent_fairqueue *q = cs_calloc(1, sizeof *q);
    if (q == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&q->lock, NULL); /* cannot fail without attributes on Linux */
    q->per_key = per_key;
    q->end = &q->next;
    q->lines = cs_map_new(NULL);
    cs_code rc = q->lines != NULL ? loop_pool_new(name, threads, total, &q->pool, e) : cs_nomem(e);
    if (rc != CS_OK) {
        agent_fairqueue_free(q);
        return rc;
    }
    *out = q;
    return CS_OK;
}

void agent_fairqueue_free(struct agent_fairqueue *q)
{
    if (q == NULL)
        return;
    loop_pool_free(q->pool);
    cs_map_free(q->lines);
    pthread_mutex_destroy(&q->lock);
    cs_free(q);
}

/* --- Under the lock --- */

static struct cs_slice key_bytes(const uint64_t *key)
{
    return cs_slice_of(key, sizeof *key);
}

static void get_in_line(struct agent_fairqueue *q, struct line *l)
{
    l->next = NULL;
    *q->end = l;
    q->end = &l->next;
}

static struct line *line_of(struct agent_fairqueue *q, uint64_t key)
{
    struct line *l = cs_map_get(q->lines, key_bytes(&key));
    if (l != NULL)
        return l;
    l = cs_calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->key = key;
    l->end = &l->first;
    if (cs_map_put(q->lines, key_bytes(&key), l) != CS_OK) {
        cs_free(l);
        return NULL;
    }
    get_in_line(q, l);
    return l;
}

static struct job *take(struct agent_fairqueue *q)
{
    struct line *l = q->next;
    struct job *j = l->first;
    q->next = l->next;
    if (q->next == NULL)
        q->end = &q->next;
    l->first = j->next;
    l->count--;
    if (l->first != NULL) {
        get_in_line(q, l);
        return j;
    }
    (void)cs_map_take(q->lines, key_bytes(&l->key));
    cs_free(l);
    return j;
}

/* --- Jobs --- */

static void turn(void *arg)
{
    struct agent_fairqueue *q = arg;
    pthread_mutex_lock(&q->lock);
    struct job *j = take(q); /* there are as many as turns */
    pthread_mutex_unlock(&q->lock);
    j->fn(j->arg);
    cs_free(j);
}

/* The turn is asked for first: it begins only after the lock is given up, and what follows cannot fail. */
static bool append(struct agent_fairqueue *q, struct line *l, struct job *j)
{
    if (l->count >= q->per_key || !loop_pool_submit(q->pool, turn, q))
        return false;
    *l->end = j;
    l->end = &j->next;
    l->count++;
    return true;
}

/* A line that was made for a job that did not get in is the last one. */
static void forget_empty(struct agent_fairqueue *q, struct line *l)
{
    struct line **at = &q->next;
    while (*at != l)
        at = &(*at)->next;
    *at = NULL;
    q->end = at;
    (void)cs_map_take(q->lines, key_bytes(&l->key));
    cs_free(l);
}

bool agent_fairqueue_submit(struct agent_fairqueue *q, uint64_t key, void (*fn)(void *arg), void *arg)
{
    struct job *j = cs_malloc(sizeof *j);
    if (j == NULL)
        return false;
    *j = (struct job){.fn = fn, .arg = arg};
    pthread_mutex_lock(&q->lock);
    struct line *l = line_of(q, key);
    bool ok = l != NULL && append(q, l, j);
    if (l != NULL && l->count == 0)
        forget_empty(q, l);
    pthread_mutex_unlock(&q->lock);
    if (!ok)
        cs_free(j);
    return ok;
}
