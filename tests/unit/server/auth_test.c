/* SPDX-License-Identifier: Apache-2.0
 *
 * Which agents are let in, while another server on the same database attests, renews and bans them.
 */
#include "call.h"

enum { GRANTED = 0, EXPIRED = 1, NOT_ATTESTED = 2, NOT_ACTIVE = 3, BANNED = 4 };

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    cs_fake_clock_init(&w->clock, NOW);
    world_up(w, NULL);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_down(*state);
    free(*state);
    return 0;
}

/* The reason of the refusal, 0 for none. */
static int authorize(struct world *w, const char *serial)
{
    struct cs_err e = {0};
    struct fake_call f;
    call_up(&f, w, serial);
    cs_code code = api_authorize(f.c, &e);
    assert_true(code == CS_OK || code == CS_DENIED);
    assert_int_equal(code == CS_OK, f.c->agent != NULL);
    int reason = code == CS_OK ? GRANTED : f.rpc.detail->data[1];
    call_down(&f);
    return reason;
}

static void attest(struct world *w, struct ds *d, const char *serial, const char *new_serial)
{
    struct cs_err e = {0};
    const struct ds_node n = {.spiffe_id = AGENT,
                              .attestation_type = "t",
                              .serial_number = serial,
                              .new_serial_number = new_serial,
                              .expires_at = NOW + 1000,
                              .new_expires_at = new_serial[0] != '\0' ? NOW + 2000 : 0};
    must(ds_node_create(d, w->arena, &n, NULL, &e), &e);
}

static void set_serials(struct world *w, struct ds *d, const char *serial, const char *new_serial)
{
    struct cs_err e = {0};
    const struct ds_node n = {.spiffe_id = AGENT, .serial_number = serial, .new_serial_number = new_serial};
    const struct ds_node_mask mask = {.serial_number = true, .new_serial_number = true};
    must(ds_node_update(d, w->arena, &n, &mask, NULL, &e), &e);
}

static const char *stored_serial(struct world *w)
{
    struct cs_err e = {0};
    struct ds_node *n = NULL;
    must(ds_node_fetch(w->theirs, w->arena, AGENT, &n, &e), &e);
    return n != NULL ? n->serial_number : "none";
}

static void the_database_is_asked_before_a_refusal(void **state)
{
    struct world *w = *state;
    attest(w, w->theirs, "1", "");
    assert_int_equal(authorize(w, "1"), GRANTED);
    set_serials(w, w->theirs, "5", "6"); /* renewed there */
    assert_int_equal(authorize(w, "5"), GRANTED);
    assert_int_equal(authorize(w, "6"), GRANTED);
    assert_string_equal(stored_serial(w), "6");
    set_serials(w, w->ours, "", "");
    assert_int_equal(authorize(w, "6"), BANNED);
    struct cs_err e = {0};
    must(ds_node_delete(w->theirs, w->arena, AGENT, NULL, &e), &e);
    attest(w, w->theirs, "7", "");
    assert_int_equal(authorize(w, "7"), GRANTED);
}

static void refusals_cost_one_question_a_second(void **state)
{
    struct world *w = *state;
    assert_int_equal(authorize(w, "1"), NOT_ATTESTED);
    attest(w, w->theirs, "1", "");
    assert_int_equal(authorize(w, "1"), NOT_ATTESTED);
    cs_fake_clock_advance(&w->clock, CS_NS_PER_S);
    assert_int_equal(authorize(w, "1"), GRANTED);
    assert_int_equal(authorize(w, "9"), NOT_ACTIVE);
    set_serials(w, w->theirs, "9", "");
    assert_int_equal(authorize(w, "9"), NOT_ACTIVE);
    assert_int_equal(authorize(w, "1"), GRANTED); /* until the next refresh */
    api_refresh(w->api);
    assert_int_equal(authorize(w, "9"), GRANTED);
    assert_int_equal(authorize(w, "1"), NOT_ACTIVE);
}

static void using_a_renewed_svid_lifts_no_ban(void **state)
{
    struct world *w = *state;
    attest(w, w->ours, "1", "2");
    set_serials(w, w->theirs, "", "");
    assert_int_equal(authorize(w, "2"), BANNED);
    assert_string_equal(stored_serial(w), "");
    assert_int_equal(authorize(w, "1"), BANNED);
}

static void two_servers_may_activate_the_same_svid(void **state)
{
    struct world *w = *state;
    attest(w, w->ours, "1", "2");
    set_serials(w, w->theirs, "2", "");
    assert_int_equal(authorize(w, "2"), GRANTED);
    assert_string_equal(stored_serial(w), "2");
    /* prepared again there since: what it prepared stays */
    set_serials(w, w->ours, "2", "3");
    set_serials(w, w->theirs, "3", "4");
    assert_int_equal(authorize(w, "3"), GRANTED);
    assert_string_equal(stored_serial(w), "3");
    assert_int_equal(authorize(w, "4"), GRANTED);
    assert_string_equal(stored_serial(w), "4");
}

static void an_expired_svid_is_refused_at_once(void **state)
{
    struct world *w = *state;
    attest(w, w->ours, "1", "");
    cs_fake_clock_advance(&w->clock, 1001 * CS_NS_PER_S);
    assert_int_equal(authorize(w, "1"), EXPIRED);
}

static void without_memory_nobody_gets_in_by_mistake(void **state)
{
    struct world *w = *state;
    for (size_t n = 1, made = 1; made >= n - 1; n++) {
        struct cs_err e = {0};
        struct fake_call f;
        cs_fake_clock_advance(&w->clock, CS_NS_PER_S);
        call_up(&f, w, "1");
        cs_mem_fail_at(n, false);
        cs_code code = api_authorize(f.c, &e);
        made = cs_mem_fail_at(0, false);
        assert_int_not_equal(code, CS_OK);
        call_down(&f);
    }
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_database_is_asked_before_a_refusal), TEST(refusals_cost_one_question_a_second),
        TEST(using_a_renewed_svid_lifts_no_ban),      TEST(two_servers_may_activate_the_same_svid),
        TEST(an_expired_svid_is_refused_at_once),     TEST(without_memory_nobody_gets_in_by_mistake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
