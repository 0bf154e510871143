/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls per second for each set of selectors (experimental.ratelimit of SPIRE's agent): a token bucket per
 * key, as deep as a second's worth. Any thread; one lock.
 */
#ifndef CS_AGENT_RATELIMIT_H
#define CS_AGENT_RATELIMIT_H

#include "base/clock.h"
#include "base/err.h"

#include <stddef.h>

struct agent_ratelimit;
CS_CHECKED cs_code agent_ratelimit_new(const struct cs_clock *clock, int64_t per_second,
                                       struct agent_ratelimit **out, struct cs_err *e);
void agent_ratelimit_free(struct agent_ratelimit *r); /* NULL is fine */
/* May a caller with these selectors call now? Callers without any share one bucket. Without memory: yes. */
bool agent_ratelimit_allow(struct agent_ratelimit *r, const char *const *selectors, size_t count);

#endif
