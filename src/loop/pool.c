/* SPDX-License-Identifier: Apache-2.0
 *
 * Worker threads behind a bounded ring of jobs. A thread is started when a job finds nobody idle, and
 * ends after a quiet while, so that a burst's stacks are given back.
 */
#include "loop/loop.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define IDLE_S 10
#define STACK_BYTES ((size_t)512 << 10) /* OpenSSL, SQLite and our calls together need a tenth of it */

struct job {
    void (*fn)(void *arg);
    void *arg;
};

struct loop_pool {
    pthread_mutex_t lock;
    pthread_cond_t work; /* a job came, or the pool stops */
    pthread_cond_t gone; /* a thread ended */
    unsigned max_threads;
    unsigned threads, idle;
    bool stopping;
    bool has_ended;
    pthread_t ended; /* the thread that ended last; each joins the one before, so one stack waits at most */
    char name[16];
    size_t head, len, cap;
    struct job ring[];
};

/* Waits for a job under the lock; false: end this thread. */
static bool await_job(struct loop_pool *p)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_S;
    while (p->len == 0) {
        if (p->stopping)
            return false;
        p->idle++;
        int rc = pthread_cond_timedwait(&p->work, &p->lock, &until);
        p->idle--;
        if (p->len == 0 && rc == ETIMEDOUT) {
            if (p->threads > 1)
                return false;
            clock_gettime(CLOCK_MONOTONIC, &until); /* the last one stays */
            until.tv_sec += IDLE_S;
        }
    }
    return true;
}

static void *worker(void *arg)
{
    struct loop_pool *p = arg;

    pthread_setname_np(pthread_self(), p->name);
    pthread_mutex_lock(&p->lock);
    while (await_job(p)) {
        struct job j = p->ring[p->head];
        p->head = (p->head + 1) % p->cap;
        p->len--;
        pthread_mutex_unlock(&p->lock);
        j.fn(j.arg);
        pthread_mutex_lock(&p->lock);
    }
    pthread_t before = p->ended;
    bool join = p->has_ended;
    p->ended = pthread_self();
    p->has_ended = true;
    p->threads--;
    pthread_cond_signal(&p->gone);
    pthread_mutex_unlock(&p->lock);
    if (join)
        pthread_join(before, NULL);
    return NULL;
}

/* Under the lock. */
static bool start_thread(struct loop_pool *p)
{
    pthread_attr_t attr;
    pthread_t t;
    sigset_t all, old;

    if (pthread_attr_init(&attr) != 0)
        return false;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&t, &attr, worker, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        p->threads++;
    return rc == 0;
}

cs_code loop_pool_new(const char *name, unsigned threads, unsigned queue, struct loop_pool **out,
                      struct cs_err *e)
{
    *out = NULL;
    if (threads == 0 || queue == 0)
        return cs_fail(e, CS_INVALID, "worker pool \"%s\": needs a thread and a place in its queue", name);
    struct loop_pool *p = cs_calloc(1, sizeof *p + (size_t)queue * sizeof p->ring[0]);
    if (p == NULL)
        return cs_nomem(e);
    pthread_condattr_t mono;
    pthread_condattr_init(&mono);
    pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, &mono);
    pthread_cond_init(&p->gone, NULL);
    pthread_condattr_destroy(&mono);
    p->max_threads = threads;
    p->cap = queue;
    snprintf(p->name, sizeof p->name, "%s", name);
    *out = p;
    return CS_OK;
}

bool loop_pool_submit(struct loop_pool *p, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&p->lock);
    bool ok = !p->stopping && p->len < p->cap;
    if (ok && p->idle <= p->len && p->threads < p->max_threads) {
        /* everybody idle has a job waiting already */
        bool started = start_thread(p);
        ok = started || p->threads > 0;
    }
    if (ok) {
        p->ring[(p->head + p->len) % p->cap] = (struct job){fn, arg};
        p->len++;
        if (p->idle > 0)
            pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
    return ok;
}

void loop_pool_free(struct loop_pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->work);
    while (p->threads > 0)
        pthread_cond_wait(&p->gone, &p->lock);
    pthread_mutex_unlock(&p->lock);
    if (p->has_ended)
        pthread_join(p->ended, NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->gone);
    pthread_mutex_destroy(&p->lock);
    cs_free(p);
}
