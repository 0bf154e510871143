/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ratelimit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the three above */
#include <cmocka.h>
#include <stdio.h>

struct fixture {
    struct cs_fake_clock clock;
    struct ratelimit *r;
};

static void start(struct fixture *f, unsigned limit)
{
    cs_fake_clock_init(&f->clock, 1700000000);
    assert_int_equal(ratelimit_new(limit, &f->clock.clock, &f->r, NULL), CS_OK);
}

static int64_t reserve(struct fixture *f, const char *key, size_t n)
{
    int64_t wait = -1;
    assert_int_equal(ratelimit_reserve(f->r, cs_slice_str(key), n, INT64_MAX, &wait, NULL), CS_OK);
    return wait;
}

static void the_burst_goes_through_at_once(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 500);
    assert_int_equal(reserve(&f, "a", 300), 0);
    assert_int_equal(reserve(&f, "a", 200), 0);
    assert_int_equal(reserve(&f, "a", 50), CS_NS_PER_S / 10);
    assert_int_equal(reserve(&f, "b", 500), 0); /* each key for itself */
    ratelimit_free(f.r);
}

static void tokens_come_back_with_time(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 10);
    assert_int_equal(reserve(&f, "a", 10), 0);
    cs_fake_clock_advance(&f.clock, CS_NS_PER_S / 2);
    assert_int_equal(reserve(&f, "a", 5), 0);
    assert_int_equal(reserve(&f, "a", 1), CS_NS_PER_S / 10);
    cs_fake_clock_advance(&f.clock, 30 * CS_NS_PER_S); /* never more than the burst */
    assert_int_equal(reserve(&f, "a", 10), 0);
    assert_int_equal(reserve(&f, "a", 10), CS_NS_PER_S);
    ratelimit_free(f.r);
}

static void who_cannot_wait_reserves_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct cs_err e = {0};
    int64_t wait = 0;
    start(&f, 1);
    assert_int_equal(reserve(&f, "a", 1), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ratelimit_reserve(f.r, cs_slice_str("a"), 1, CS_NS_PER_S / 2, &wait, &e),
                         CS_EXHAUSTED);
        assert_string_equal(e.text, "rate: Wait(n=1) would exceed context deadline");
    }
    assert_int_equal(reserve(&f, "a", 1), CS_NS_PER_S);
    ratelimit_free(f.r);
}

static void more_than_the_burst_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct cs_err e = {0};
    int64_t wait = 0;
    start(&f, 500);
    assert_int_equal(ratelimit_reserve(f.r, cs_slice_str("a"), 501, INT64_MAX, &wait, &e), CS_EXHAUSTED);
    assert_string_equal(e.text, "rate (501) exceeds burst size (500)");
    ratelimit_free(f.r);
}

static void silent_keys_are_forgotten(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, 10);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 100; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d.%d", round, i);
            assert_int_equal(reserve(&f, key, 1), 0);
        }
        assert_int_equal(reserve(&f, "steady", 1), 0);
        cs_fake_clock_advance(&f.clock, 61 * CS_NS_PER_S);
    }
    assert_true(ratelimit_keys(f.r) <= 210);
    ratelimit_free(f.r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_burst_goes_through_at_once),   cmocka_unit_test(tokens_come_back_with_time),
        cmocka_unit_test(who_cannot_wait_reserves_nothing), cmocka_unit_test(more_than_the_burst_is_refused),
        cmocka_unit_test(silent_keys_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
