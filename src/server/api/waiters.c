/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls that wait for their rate limit. No thread waits with them: they stand in a list by time, and
 * one timer wakes the first.
 */
#include "server/api/internal.h"

#include "loop/loop.h"

/* Calls waiting at most, together and of one connection; the next are refused. */
#define WAITERS_MAX 4096
#define WAITERS_PER_CONN 512

struct waiter {
    struct waiter *next;
    struct rpc_call *call; /* referenced */
    void (*fn)(struct rpc_call *call, void *service, void *state);
    int64_t at; /* monotonic */
};

struct api_waiters {
    pthread_mutex_t lock;
    struct loop *loop;
    const struct cs_clock *clock;
    struct loop_timer *timer; /* loop thread */
    struct waiter *first;     /* by time */
    size_t count;
};

static struct waiter *take_due(struct api_waiters *w, int64_t now, int64_t *next)
{
    struct waiter *due = NULL;
    pthread_mutex_lock(&w->lock);
    if (w->first != NULL && w->first->at <= now) {
        due = w->first;
        w->first = due->next;
        w->count--;
    }
    *next = w->first != NULL ? w->first->at : INT64_MAX;
    pthread_mutex_unlock(&w->lock);
    return due;
}

/* Loop thread. */
static void wake(void *arg)
{
    struct api_waiters *w = arg;
    int64_t now = cs_mono_ns(w->clock), next = INT64_MAX;
    for (struct waiter *due; (due = take_due(w, now, &next)) != NULL;) {
        bool posted = rpc_call_post(due->call, due->fn); /* false: the call is over */
        (void)posted;
        rpc_call_unref(due->call);
        cs_free(due);
    }
    if (next != INT64_MAX)
        loop_timer_arm(w->timer, next > now ? next - now : 0, 0);
}

cs_code api_waiters_new(struct loop *loop, const struct cs_clock *clock, struct api_waiters **out,
                        struct cs_err *e)
{
    *out = NULL;
    struct api_waiters *w = cs_calloc(1, sizeof *w);
    if (w == NULL)
        return cs_nomem(e);
    pthread_mutex_init(&w->lock, NULL);
    w->loop = loop;
    w->clock = clock;
    cs_code code = loop_timer_new(loop, wake, w, &w->timer, e);
    if (code != CS_OK) {
        api_waiters_free(w);
        return code;
    }
    *out = w;
    return CS_OK;
}

void api_waiters_free(struct api_waiters *w)
{
    if (w == NULL)
        return;
    if (w->timer != NULL)
        loop_timer_free(w->timer);
    for (struct waiter *next; w->first != NULL; w->first = next) {
        next = w->first->next;
        rpc_call_unref(w->first->call);
        cs_free(w->first);
    }
    pthread_mutex_destroy(&w->lock);
    cs_free(w);
}

/* False: full. */
static bool insert(struct api_waiters *w, struct waiter *new)
{
    const struct rpc_conn *conn = rpc_call_conn(new->call);
    size_t of_conn = 0;
    pthread_mutex_lock(&w->lock);
    struct waiter **link = &w->first;
    for (struct waiter **p = &w->first; *p != NULL; p = &(*p)->next) {
        of_conn += rpc_call_conn((*p)->call) == conn;
        if ((*p)->at <= new->at)
            link = &(*p)->next;
    }
    bool room = w->count < WAITERS_MAX && of_conn < WAITERS_PER_CONN;
    if (room) {
        new->next = *link;
        *link = new;
        w->count++;
    }
    pthread_mutex_unlock(&w->lock);
    return room;
}

cs_code api_wait(struct api_call *c, void (*fn)(struct rpc_call *call, void *service, void *state),
                 struct cs_err *e)
{
    struct api_waiters *w = c->api->waiters;
    struct waiter *new = cs_malloc(sizeof *new);
    if (new == NULL)
        return cs_nomem(e);
    rpc_call_ref(c->rpc);
    *new = (struct waiter){.call = c->rpc, .fn = fn, .at = cs_mono_ns(w->clock) + c->wait_ns};
    if (!insert(w, new)) {
        rpc_call_unref(c->rpc);
        cs_free(new);
        return cs_fail(e, CS_EXHAUSTED, "too many calls are waiting for their rate limit");
    }
    if (!loop_post(w->loop, wake, w)) /* arms the timer; the waiter itself stays with the list */
        return cs_fail(e, CS_UNAVAILABLE, "server is shutting down");
    return CS_OK;
}
