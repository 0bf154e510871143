/* SPDX-License-Identifier: Apache-2.0
 *
 * Waits, rotation times, rate limits and the cache of tokens: all that turns with the clock.
 */
#include "agent/backoff.h"
#include "agent/jwtcache.h"
#include "agent/ratelimit.h"
#include "agent/rotation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS CS_NS_PER_MS

static void in_range(int64_t got, int64_t wanted)
{
    assert_true(got >= wanted - wanted / 10 && got <= wanted + wanted / 10 + 1);
}

/* The numbers of SPIRE's own test. */
static void test_backoff_grows(void **state)
{
    (void)state;
    static const int64_t steps[] = {6400, 9600, 14400, 21600, 32400, 48600, 72900, 109350, 153600, 153600};
    static const int64_t capped[] = {6400, 9600, 14400, 21600, 32400, 33000, 33000};
    struct cs_fake_clock clock;
    struct agent_backoff b;
    cs_fake_clock_init(&clock, 1000);
    agent_backoff_init(&b, &clock.clock, 6400 * MS, 0, 0);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        in_range(agent_backoff_next(&b), steps[i] * MS);
    agent_backoff_reset(&b);
    in_range(agent_backoff_next(&b), 6400 * MS);
    agent_backoff_init(&b, &clock.clock, 6400 * MS, 33000 * MS, 0);
    for (size_t i = 0; i < sizeof capped / sizeof capped[0]; i++)
        in_range(agent_backoff_next(&b), capped[i] * MS);
}

static void test_backoff_ends(void **state)
{
    (void)state;
    struct cs_fake_clock clock;
    struct agent_backoff b;
    cs_fake_clock_init(&clock, 1000);
    agent_backoff_init(&b, &clock.clock, 5000 * MS, 0, 60000 * MS);
    int64_t total = 0;
    for (int i = 0; i < 20; i++) {
        int64_t wait = agent_backoff_next(&b);
        if (wait == AGENT_BACKOFF_STOP)
            break;
        total += wait;
        cs_fake_clock_advance(&clock, wait);
    }
    assert_true(total > 30000 * MS && total <= 60000 * MS);
    assert_int_equal(agent_backoff_next(&b), AGENT_BACKOFF_STOP);
}

static void test_batch_limit(void **state)
{
    (void)state;
    struct agent_batch_limit l = {.current = 500, .max = 500};
    agent_batch_success(&l);
    assert_int_equal(l.current, 500);
    for (int i = 0; i < 12; i++)
        agent_batch_failure(&l);
    assert_int_equal(l.current, 1);
    agent_batch_success(&l);
    agent_batch_success(&l);
    assert_int_equal(l.current, 4);
}

static void test_rotation(void **state)
{
    (void)state;
    const int64_t h = 3600;
    for (int i = 0; i < 200; i++) {
        int64_t t = agent_rotation_time(1000, 1000 + h, 0) / CS_NS_PER_S;
        assert_in_range(t, 1000 + 1620 - 1, 1000 + 1980);
        /* 72 h of life, 48 h wanted: at 48 h before the end and up to ten minutes earlier. */
        t = agent_rotation_time(0, 72 * h, 48 * h * CS_NS_PER_S) / CS_NS_PER_S;
        assert_in_range(t, 24 * h - 600 - 1, 24 * h);
        /* 30 h of life cannot give 24 h: half. */
        t = agent_rotation_time(0, 30 * h, 24 * h * CS_NS_PER_S) / CS_NS_PER_S;
        assert_in_range(t, 15 * h * 9 / 10 - 1, 15 * h * 11 / 10);
    }
    assert_true(agent_rotation_falls_back(0, 30 * h, 24 * h * CS_NS_PER_S));
    assert_false(agent_rotation_falls_back(0, 72 * h, 48 * h * CS_NS_PER_S));
    assert_false(agent_rotation_falls_back(0, h, 0));
    (void)agent_rotation_time(INT64_MIN, INT64_MAX, INT64_MAX / 2);
}

static void test_ratelimit(void **state)
{
    (void)state;
    struct cs_fake_clock clock;
    struct agent_ratelimit *r;
    static const char *const a[] = {"unix:uid:0", "unix:gid:0"};
    static const char *const a_again[] = {"unix:gid:0", "unix:uid:0"};
    static const char *const b[] = {"unix:uid:1"};
    cs_fake_clock_init(&clock, 1000);
    assert_int_equal(agent_ratelimit_new(&clock.clock, 3, &r, NULL), CS_OK);
    assert_true(agent_ratelimit_allow(r, a, 2));
    assert_true(agent_ratelimit_allow(r, a_again, 2));
    assert_true(agent_ratelimit_allow(r, a, 2));
    assert_false(agent_ratelimit_allow(r, a_again, 2));
    assert_true(agent_ratelimit_allow(r, b, 1));
    assert_true(agent_ratelimit_allow(r, NULL, 0));
    cs_fake_clock_advance(&clock, 400 * MS); /* 1.2 tokens */
    assert_true(agent_ratelimit_allow(r, a, 2));
    assert_false(agent_ratelimit_allow(r, a, 2));
    for (int i = 0; i < 5; i++) { /* forgotten buckets are full ones */
        cs_fake_clock_advance(&clock, 11 * CS_NS_PER_S);
        for (int k = 0; k < 3; k++)
            assert_true(agent_ratelimit_allow(r, a, 2));
        assert_false(agent_ratelimit_allow(r, a, 2));
    }
    agent_ratelimit_free(r);
}

/* Headers with kid k1 and k2; nobody looks at the rest here. */
#define TOKEN1 "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.e30.AAAA"
#define TOKEN2 "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsyIn0.e30.AAAA"

static bool not_k1(void *arg, const char *kid)
{
    (void)arg;
    return strcmp(kid, "k1") != 0;
}

static void test_jwt_cache(void **state)
{
    (void)state;
    struct agent_jwt_cache *c;
    struct agent_jwt *one;
    struct agent_jwt *two;
    static const char *const ab[] = {"a", "b"};
    static const char *const ba[] = {"b", "a"};
    assert_int_equal(agent_jwt_cache_new(2, &c, NULL), CS_OK);
    assert_int_equal(agent_jwt_new(TOKEN1, 100, 400, &one, NULL), CS_OK);
    assert_int_equal(agent_jwt_new(TOKEN2, 100, 400, &two, NULL), CS_OK);
    assert_string_equal(one->kid, "k1");
    assert_in_range(one->renew_at / CS_NS_PER_S, 100 + 135 - 1, 100 + 165);
    agent_jwt_cache_put(c, "spiffe://x/1", ab, 2, one);
    struct agent_jwt *got = agent_jwt_cache_get(c, "spiffe://x/1", ba, 2);
    assert_ptr_equal(got, one);
    agent_jwt_unref(got);
    assert_null(agent_jwt_cache_get(c, "spiffe://x/1", ab, 1));
    assert_null(agent_jwt_cache_get(c, "spiffe://x/2", ab, 2));
    /* The least recently used goes. */
    agent_jwt_cache_put(c, "spiffe://x/2", ab, 2, two);
    agent_jwt_unref(agent_jwt_cache_get(c, "spiffe://x/1", ab, 2));
    agent_jwt_cache_put(c, "spiffe://x/3", ab, 2, two);
    assert_int_equal(agent_jwt_cache_count(c), 2);
    assert_null(agent_jwt_cache_get(c, "spiffe://x/2", ab, 2));
    /* Replaced, not added. */
    agent_jwt_cache_put(c, "spiffe://x/3", ba, 2, two);
    assert_int_equal(agent_jwt_cache_count(c), 2);
    assert_int_equal(agent_jwt_cache_sweep(c, not_k1, NULL), 1);
    assert_null(agent_jwt_cache_get(c, "spiffe://x/1", ab, 2));
    agent_jwt_cache_free(c);
    agent_jwt_unref(one);
    agent_jwt_unref(two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff_grows), cmocka_unit_test(test_backoff_ends),
        cmocka_unit_test(test_batch_limit),   cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_ratelimit),     cmocka_unit_test(test_jwt_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
