/* SPDX-License-Identifier: Apache-2.0
 *
 * When to renew (pkg/common/rotationutil of SPIRE): at half of the lifetime, 10% of it earlier or later so
 * that a fleet does not renew at once; or when no more than the availability target is left.
 *
 * SPIRE draws the jitter at each look, which makes early renewal the more likely the more often one looks;
 * here it is drawn once per certificate, within the same bounds.
 */
#ifndef CS_AGENT_ROTATION_H
#define CS_AGENT_ROTATION_H

#include <stdbool.h>
#include <stdint.h>

/* Wall-clock ns at which to renew something valid from..to (unix seconds). target_ns 0: no availability
 * target. */
int64_t agent_rotation_time(int64_t from, int64_t to, int64_t target_ns);
/* Is the lifetime too short for the availability target (a grace period of 12 h or less)? */
bool agent_rotation_falls_back(int64_t from, int64_t to, int64_t target_ns);

#endif
