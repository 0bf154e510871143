/* SPDX-License-Identifier: Apache-2.0
 *
 * A few threads shared fairly: each job belongs to a key (a calling process), each key has a queue of its
 * own, and keys that have something waiting take turns. However many jobs one key brings, another one's
 * first job waits for one of them per thread and key, and there is always room for it.
 */
#ifndef CS_AGENT_FAIRQUEUE_H
#define CS_AGENT_FAIRQUEUE_H

#include "base/err.h"

#include <stdint.h>

struct agent_fairqueue;

/* At most `total` jobs wait, and at most `per_key` of one key. `name` is that of the threads, which are
 * started on demand (loop_pool). */
CS_CHECKED cs_code agent_fairqueue_new(const char *name, unsigned threads, unsigned per_key, unsigned total,
                                       struct agent_fairqueue **out, struct cs_err *e);
/* false: too many are waiting, memory is out, or the queue is being freed; fn will never run. Any thread. */
CS_CHECKED bool agent_fairqueue_submit(struct agent_fairqueue *q, uint64_t key, void (*fn)(void *arg),
                                       void *arg);
/* Runs what is waiting, ends the threads, frees. NULL is fine. */
void agent_fairqueue_free(struct agent_fairqueue *q);

#endif
