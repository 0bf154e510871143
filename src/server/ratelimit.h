/* SPDX-License-Identifier: Apache-2.0
 *
 * Token buckets by key: each key may do `limit` things at once and `limit` per second from then on.
 * Who comes too early is told how long to wait, with its tokens reserved, as SPIRE's limiter does
 * (golang.org/x/time/rate). A key not seen for two minutes is forgotten. Any thread.
 */
#ifndef CS_SERVER_RATELIMIT_H
#define CS_SERVER_RATELIMIT_H

#include "base/buf.h"
#include "base/clock.h"

struct ratelimit;
CS_CHECKED cs_code ratelimit_new(unsigned limit, const struct cs_clock *clock, struct ratelimit **out,
                                 struct cs_err *e);
void ratelimit_free(struct ratelimit *r); /* NULL is fine */

/* Reserve `count` tokens of `key`. *wait_ns 0: go on now, else in so many ns. CS_EXHAUSTED, and
 * nothing reserved: `rate (501) exceeds burst size (500)`, or when it would take longer than max_wait_ns
 * `rate: Wait(n=1) would exceed context deadline`. */
CS_CHECKED cs_code ratelimit_reserve(struct ratelimit *r, struct cs_slice key, size_t count,
                                     int64_t max_wait_ns, int64_t *wait_ns, struct cs_err *e);
size_t ratelimit_keys(struct ratelimit *r); /* remembered now */

#endif
