/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * CS_NS_PER_S + ts.tv_nsec;
}

static int64_t system_wall(const struct cs_clock *c)
{
    (void)c;
    return read_clock(CLOCK_REALTIME);
}

static int64_t system_monotonic(const struct cs_clock *c)
{
    (void)c;
    return read_clock(CLOCK_MONOTONIC);
}

const struct cs_clock cs_clock_system = {.wall_ns = system_wall, .monotonic_ns = system_monotonic};

static const struct cs_fake_clock *fake_of(const struct cs_clock *c)
{
    return (const struct cs_fake_clock *)((const char *)c - offsetof(struct cs_fake_clock, clock));
}

static int64_t fake_wall(const struct cs_clock *c)
{
    return atomic_load(&fake_of(c)->wall);
}

static int64_t fake_monotonic(const struct cs_clock *c)
{
    return atomic_load(&fake_of(c)->mono);
}

void cs_fake_clock_init(struct cs_fake_clock *f, int64_t wall_s)
{
    f->clock = (struct cs_clock){.wall_ns = fake_wall, .monotonic_ns = fake_monotonic};
    atomic_init(&f->wall, wall_s * CS_NS_PER_S);
    /* not 0, which code under test may take for "never" */
    atomic_init(&f->mono, CS_NS_PER_S);
}

void cs_fake_clock_advance(struct cs_fake_clock *f, int64_t ns)
{
    atomic_fetch_add(&f->mono, ns);
    atomic_fetch_add(&f->wall, ns);
}
