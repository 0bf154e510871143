/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rotation.h"

#include "agent/backoff.h"

#define GRACE_MIN_NS (INT64_C(12) * 3600 * CS_NS_PER_S)
#define TARGET_JITTER_NS (INT64_C(600) * CS_NS_PER_S)
/* Keeps arithmetic in ns inside 64 bits whatever a certificate says. */
#define SECONDS_MAX (INT64_MAX / CS_NS_PER_S / 4)

static int64_t to_ns(int64_t seconds)
{
    if (seconds > SECONDS_MAX)
        seconds = SECONDS_MAX;
    if (seconds < -SECONDS_MAX)
        seconds = -SECONDS_MAX;
    return seconds * CS_NS_PER_S;
}

bool agent_rotation_falls_back(int64_t from, int64_t to, int64_t target_ns)
{
    return target_ns > 0 && to_ns(to) - to_ns(from) - target_ns <= GRACE_MIN_NS;
}

int64_t agent_rotation_time(int64_t from, int64_t to, int64_t target_ns)
{
    int64_t half = (to_ns(to) - to_ns(from)) / 2;
    int64_t left = agent_jitter(half - half / 10, half + half / 10);
    if (target_ns > 0 && !agent_rotation_falls_back(from, to, target_ns)) {
        int64_t target = agent_jitter(target_ns, target_ns + TARGET_JITTER_NS);
        left = target > left ? target : left;
    }
    return to_ns(to) - left;
}
