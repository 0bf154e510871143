/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/timers.h"

static struct rpc_timer *node(struct rpc_timers *ts, size_t i)
{
    return ts->heap.at[i];
}

static void put(struct rpc_timers *ts, size_t i, struct rpc_timer *t)
{
    ts->heap.at[i] = t;
    t->pos = i + 1;
}

static void sift_up(struct rpc_timers *ts, size_t i)
{
    struct rpc_timer *t = node(ts, i);
    while (i > 0 && node(ts, (i - 1) / 2)->when > t->when) {
        put(ts, i, node(ts, (i - 1) / 2));
        i = (i - 1) / 2;
    }
    put(ts, i, t);
}

static void sift_down(struct rpc_timers *ts, size_t i)
{
    struct rpc_timer *t = node(ts, i);
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= ts->heap.len)
            break;
        if (kid + 1 < ts->heap.len && node(ts, kid + 1)->when < node(ts, kid)->when)
            kid++;
        if (node(ts, kid)->when >= t->when)
            break;
        put(ts, i, node(ts, kid));
        i = kid;
    }
    put(ts, i, t);
}

/* The kernel timer is only moved to an earlier time; a later earliest node is found when it fires. */
static void rearm(struct rpc_timers *ts)
{
    if (ts->heap.len == 0 || node(ts, 0)->when >= ts->armed)
        return;
    ts->armed = node(ts, 0)->when;
    int64_t after = ts->armed - rpc_timers_now(ts);
    loop_timer_arm(ts->timer, after > 0 ? after : 0, 0);
}

void rpc_timers_run(struct rpc_timers *ts)
{
    ts->armed = INT64_MAX;
    /* the kernel's timers have milliseconds: what is due within one is due */
    int64_t now = rpc_timers_now(ts) + CS_NS_PER_MS;
    while (ts->heap.len > 0 && node(ts, 0)->when <= now) {
        struct rpc_timer *t = node(ts, 0);
        rpc_timer_clear(ts, t);
        t->fn(t);
    }
    rearm(ts);
}

static void on_timer(void *arg)
{
    rpc_timers_run(arg);
}

cs_code rpc_timers_init(struct rpc_timers *ts, struct loop *loop, struct cs_err *e)
{
    *ts = (struct rpc_timers){.armed = INT64_MAX, .clock = &cs_clock_system};
    return loop_timer_new(loop, on_timer, ts, &ts->timer, e);
}

void rpc_timers_free(struct rpc_timers *ts)
{
    if (ts->timer != NULL)
        loop_timer_free(ts->timer);
    cs_vec_free(&ts->heap);
    *ts = (struct rpc_timers){.armed = INT64_MAX};
}

void rpc_timer_clear(struct rpc_timers *ts, struct rpc_timer *t)
{
    if (t->pos == 0)
        return;
    size_t i = t->pos - 1;
    struct rpc_timer *last = ts->heap.at[--ts->heap.len];
    t->pos = 0;
    if (last == t)
        return;
    put(ts, i, last);
    sift_up(ts, i);
    sift_down(ts, last->pos - 1);
}

cs_code rpc_timer_set(struct rpc_timers *ts, struct rpc_timer *t, int64_t when)
{
    if (when == INT64_MAX) {
        rpc_timer_clear(ts, t);
        return CS_OK;
    }
    if (t->pos == 0) {
        CS_TRY(cs_vec_push(&ts->heap, t));
        t->pos = ts->heap.len;
    }
    t->when = when;
    sift_up(ts, t->pos - 1);
    sift_down(ts, t->pos - 1);
    rearm(ts);
    return CS_OK;
}
