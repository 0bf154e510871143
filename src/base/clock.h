/* SPDX-License-Identifier: Apache-2.0
 *
 * Time through one interface that tests can turn. Wall clock for certificates and anything shown
 * or stored; monotonic for waits and rates.
 */
#ifndef CS_BASE_CLOCK_H
#define CS_BASE_CLOCK_H

#include <stdint.h>

struct cs_clock {
    int64_t (*wall_ns)(const struct cs_clock *c); /* since 1970-01-01 UTC */
    int64_t (*monotonic_ns)(const struct cs_clock *c);
};
/* The machine's clock. Static, any thread. */
extern const struct cs_clock cs_clock_system;

#define CS_NS_PER_S INT64_C(1000000000)
#define CS_NS_PER_MS INT64_C(1000000)

static inline int64_t cs_now_ns(const struct cs_clock *c)
{
    return c->wall_ns(c);
}
static inline int64_t cs_now_s(const struct cs_clock *c)
{
    return c->wall_ns(c) / CS_NS_PER_S;
}
static inline int64_t cs_mono_ns(const struct cs_clock *c)
{
    return c->monotonic_ns(c);
}

/* A clock that tests move by hand. Moves are atomic; any thread may read. */
struct cs_fake_clock {
    struct cs_clock clock; /* pass &f.clock */
    _Atomic int64_t wall, mono;
};
void cs_fake_clock_init(struct cs_fake_clock *f, int64_t wall_s);
void cs_fake_clock_advance(struct cs_fake_clock *f, int64_t ns);

#endif
