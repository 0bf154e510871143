/* SPDX-License-Identifier: Apache-2.0
 *
 * Waits between attempts, growing by half with 10% of jitter (pkg/common/backoff of SPIRE), and the
 * size of batches, halved by failure and doubled by success. Single owner, one thread.
 */
#ifndef CS_AGENT_BACKOFF_H
#define CS_AGENT_BACKOFF_H

#include "base/clock.h"

#include <stdint.h>

#define AGENT_BACKOFF_STOP INT64_C(-1)

struct agent_backoff {
    const struct cs_clock *clock;
    int64_t initial, max, max_elapsed; /* ns; max_elapsed 0: for ever */
    int64_t current, started;
};
/* max_ns 0: 24 times the first wait. */
void agent_backoff_init(struct agent_backoff *b, const struct cs_clock *clock, int64_t initial_ns,
                        int64_t max_ns, int64_t max_elapsed_ns);
void agent_backoff_reset(struct agent_backoff *b);
/* The next wait in ns, or AGENT_BACKOFF_STOP when it would end past max_elapsed. */
int64_t agent_backoff_next(struct agent_backoff *b);

struct agent_batch_limit {
    unsigned current, max;
};
void agent_batch_success(struct agent_batch_limit *l);
void agent_batch_failure(struct agent_batch_limit *l);

/* Uniform in [low, high); low when high <= low. For spreading load, not for secrets. */
int64_t agent_jitter(int64_t low, int64_t high);

#endif
