/* SPDX-License-Identifier: Apache-2.0
 *
 * Event loops (libevent), timers, signals and the worker pool.
 *
 * A loop is one thread and its event base. Objects that live on a loop are touched by its thread
 * only; everybody else posts. A pool is a bounded queue and a few threads for blocking work.
 */
#ifndef CS_LOOP_LOOP_H
#define CS_LOOP_LOOP_H

#include "base/clock.h"
#include "base/err.h"

struct event_base;
struct loop;

/* New loop with its thread not started: run it with loop_run (caller's thread) or loop_start (own
 * thread, named `name`, all signals blocked). Single owner. */
CS_CHECKED cs_code loop_new(const char *name, struct loop **out, struct cs_err *e);
CS_CHECKED cs_code loop_start(struct loop *l, struct cs_err *e);
void loop_run(struct loop *l);  /* returns after loop_stop */
void loop_stop(struct loop *l); /* any thread; posted work before it still runs */
/* Stops, joins an own thread, runs nothing more, frees. Not from the loop's own thread. */
void loop_free(struct loop *l);
struct event_base *loop_base(struct loop *l);
bool loop_in_thread(const struct loop *l);

/* Run fn(arg) on the loop's thread, in order of posting. Any thread. false: the loop is stopping
 * or memory is out; fn will never run. */
CS_CHECKED bool loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

/* Timers: loop thread only, except that loop_timer_new may be called before the loop runs.
 * `every_ns` 0: once. Re-arming an armed timer moves it. Free is safe inside its own callback. */
struct loop_timer;
CS_CHECKED cs_code loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **out,
                                  struct cs_err *e);
void loop_timer_arm(struct loop_timer *t, int64_t after_ns, int64_t every_ns);
void loop_timer_disarm(struct loop_timer *t);
void loop_timer_free(struct loop_timer *t);

/* fn(signum, arg) on the loop thread. Before the loop runs. Owned by the loop. */
CS_CHECKED cs_code loop_on_signal(struct loop *l, int signum, void (*fn)(int signum, void *arg), void *arg,
                                  struct cs_err *e);

/* --- Worker pool --- */
struct loop_pool;
/* `threads` workers started on demand (idle ones end after a while, at least one stays once
 * started), at most `queue` waiting jobs. */
CS_CHECKED cs_code loop_pool_new(const char *name, unsigned threads, unsigned queue, struct loop_pool **out,
                                 struct cs_err *e);
/* false: queue full or stopping; fn will never run. Any thread. */
CS_CHECKED bool loop_pool_submit(struct loop_pool *p, void (*fn)(void *arg), void *arg);
/* Runs what is queued, joins, frees. */
void loop_pool_free(struct loop_pool *p);

#endif
