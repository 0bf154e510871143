/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/backoff.h"

#include "base/mem.h"

#define MAX_MULTIPLE 24

int64_t agent_jitter(int64_t low, int64_t high)
{
    uint64_t r = 0;
    if (high <= low || cs_random(&r, sizeof r, NULL) != CS_OK)
        return low;
    return low + (int64_t)(r % (uint64_t)(high - low));
}

void agent_backoff_init(struct agent_backoff *b, const struct cs_clock *clock, int64_t initial_ns,
                        int64_t max_ns, int64_t max_elapsed_ns)
{
    *b = (struct agent_backoff){
        .clock = clock,
        .initial = initial_ns,
        .max = max_ns > 0 ? max_ns : initial_ns * MAX_MULTIPLE,
        .max_elapsed = max_elapsed_ns,
    };
    agent_backoff_reset(b);
}

void agent_backoff_reset(struct agent_backoff *b)
{
    b->current = b->initial;
    b->started = cs_mono_ns(b->clock);
}

int64_t agent_backoff_next(struct agent_backoff *b)
{
    int64_t elapsed = cs_mono_ns(b->clock) - b->started;
    int64_t delta = b->current / 10;
    int64_t wait = agent_jitter(b->current - delta, b->current + delta + 1);
    b->current = b->current >= b->max / 3 * 2 ? b->max : b->current + b->current / 2;
    if (b->max_elapsed > 0 && elapsed + wait > b->max_elapsed)
        return AGENT_BACKOFF_STOP;
    return wait;
}

void agent_batch_success(struct agent_batch_limit *l)
{
    l->current = l->current * 2 < l->max ? l->current * 2 : l->max;
}

void agent_batch_failure(struct agent_batch_limit *l)
{
    l->current = l->current > 1 ? l->current / 2 : 1;
}
