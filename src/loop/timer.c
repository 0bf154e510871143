/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include "base/mem.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdint.h>

struct loop_timer {
    struct event ev;
    void (*fn)(void *arg);
    void *arg;
    int64_t every_ns; /* 0: once */
};

/* Rounded up to whole microseconds. libevent counts from a coarse clock: a timer is right to a tick of
 * the kernel (1 to 4 ms). */
static struct timeval timeval_of(int64_t ns)
{
    if (ns < 0)
        ns = 0;
    int64_t us = ns / 1000 + (ns % 1000 != 0);
    return (struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000};
}

static void fired(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *t = arg;

    (void)fd;
    (void)what;
    /* armed again before the call, for the call may free the timer */
    if (t->every_ns > 0) {
        struct timeval tv = timeval_of(t->every_ns);
        event_add(&t->ev, &tv);
    }
    t->fn(t->arg);
}

cs_code loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **out,
                       struct cs_err *e)
{
    *out = NULL;
    struct loop_timer *t = cs_calloc(1, sizeof *t);
    if (t == NULL)
        return cs_nomem(e);
    t->fn = fn;
    t->arg = arg;
    if (event_assign(&t->ev, loop_base(l), -1, 0, fired, t) != 0) {
        cs_free(t);
        return cs_fail(e, CS_INTERNAL, "cannot make a timer");
    }
    *out = t;
    return CS_OK;
}

void loop_timer_arm(struct loop_timer *t, int64_t after_ns, int64_t every_ns)
{
    struct timeval tv = timeval_of(after_ns);

    t->every_ns = every_ns;
    event_del(&t->ev);
    /* libevent keeps one time for a whole round of callbacks; after a slow one it lies in the past */
    event_base_update_cache_time(event_get_base(&t->ev));
    event_add(&t->ev, &tv);
}

void loop_timer_disarm(struct loop_timer *t)
{
    t->every_ns = 0;
    event_del(&t->ev);
}

void loop_timer_free(struct loop_timer *t)
{
    if (t == NULL)
        return;
    event_del(&t->ev);
    cs_free(t);
}
