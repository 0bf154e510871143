/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls that wait for their rate limit: how many there may be.
 */
#include "call.h"

#define PER_CONN 512

static void a_connection_has_its_share(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct world w = {0};
    struct loop *loop = NULL;
    cs_fake_clock_init(&w.clock, NOW);
    world_up(&w, NULL);
    must(loop_new("test", &loop, &e), &e);
    must(api_waiters_new(loop, &w.clock.clock, &w.api->waiters, &e), &e);
    struct fake_call *calls = calloc(PER_CONN + 2, sizeof *calls);
    for (size_t i = 0; i < PER_CONN + 2; i++) {
        call_up(&calls[i], &w, "1");
        if (i <= PER_CONN)
            calls[i].rpc.conn = &calls[0].conn;
        calls[i].c->wait_ns = (int64_t)(i % 7) * CS_NS_PER_S;
        cs_code code = api_wait(calls[i].c, NULL, &e);
        assert_int_equal(code, i == PER_CONN ? CS_EXHAUSTED : CS_OK);
        assert_int_equal(calls[i].rpc.refs, i == PER_CONN ? 1 : 2);
    }
    assert_string_equal(e.text, "too many calls are waiting for their rate limit");
    api_waiters_free(w.api->waiters);
    w.api->waiters = NULL;
    for (size_t i = 0; i < PER_CONN + 2; i++) {
        assert_int_equal(calls[i].rpc.refs, 1);
        call_down(&calls[i]);
    }
    free(calls);
    loop_free(loop);
    world_down(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_connection_has_its_share)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
