/* SPDX-License-Identifier: Apache-2.0
 *
 * Many deadlines behind one loop timer: a heap of nodes that live inside connections and calls.
 * Setting and clearing a node touches no kernel timer unless it becomes the earliest, so a deadline
 * per call costs next to nothing. Everything on one loop's thread.
 */
#ifndef CS_RPC_TIMERS_H
#define CS_RPC_TIMERS_H

#include "base/coll.h"
#include "loop/loop.h"

struct rpc_timer {
    int64_t when;                    /* monotonic ns */
    size_t pos;                      /* place in the heap + 1; 0: not set */
    void (*fn)(struct rpc_timer *t); /* called once, after the node was taken out; may set it again */
};
struct rpc_timers {
    struct cs_vec heap;
    struct loop_timer *timer;
    const struct cs_clock *clock; /* the machine's; tests put theirs here before the first node */
    int64_t armed;                /* what `timer` waits for; INT64_MAX: not armed */
};
/* Before the loop runs, or on its thread. */
CS_CHECKED cs_code rpc_timers_init(struct rpc_timers *ts, struct loop *loop, struct cs_err *e);
/* What the deadlines are compared with. */
static inline int64_t rpc_timers_now(const struct rpc_timers *ts)
{
    return cs_mono_ns(ts->clock);
}
/* Calls what is due. The loop's timer does; tests that turn the clock do it themselves. */
void rpc_timers_run(struct rpc_timers *ts);
/* Nodes still set are forgotten. */
void rpc_timers_free(struct rpc_timers *ts);
/* Set or move. INT64_MAX clears. CS_INTERNAL when memory is out: the node is not set. */
CS_CHECKED cs_code rpc_timer_set(struct rpc_timers *ts, struct rpc_timer *t, int64_t when);
void rpc_timer_clear(struct rpc_timers *ts, struct rpc_timer *t);

#endif
