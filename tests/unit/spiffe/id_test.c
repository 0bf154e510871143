/* SPDX-License-Identifier: Apache-2.0 */
#include "../crypto/fixture.h"

#include "spiffe/id.h"

#define TD_CHARS                                                                                             \
    "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores"
#define PATH_CHARS "path segment characters are limited to letters, numbers, dots, dashes, and underscores"

static void ids(void **state)
{
    (void)state;
    static const struct {
        const char *id, *td, *path, *error;
    } rows[] = {
        {"spiffe://example.org", "example.org", "", NULL},
        {"spiffe://example.org/a/B_c.d-9", "example.org", "/a/B_c.d-9", NULL},
        {"spiffe://1.2.3.4/...", "1.2.3.4", "/...", NULL},
        {"spiffe://a-_./x", "a-_.", "/x", NULL},
        {"", NULL, NULL, "cannot be empty"},
        {"http://example.org", NULL, NULL, "scheme is missing or invalid"},
        {"SPIFFE://example.org", NULL, NULL, "scheme is missing or invalid"},
        {"spiffe:/example.org", NULL, NULL, "scheme is missing or invalid"},
        {"spiffe:///x", NULL, NULL, "trust domain is missing"},
        {"spiffe://", NULL, NULL, "trust domain is missing"},
        {"spiffe://Example.org", NULL, NULL, TD_CHARS},
        {"spiffe://a:80/x", NULL, NULL, TD_CHARS},
        {"spiffe://u@a/x", NULL, NULL, TD_CHARS},
        {"spiffe://a?q", NULL, NULL, TD_CHARS},
        {"spiffe://a%20b/x", NULL, NULL, TD_CHARS},
        {"spiffe://a/", NULL, NULL, "path cannot have a trailing slash"},
        {"spiffe://a/x/", NULL, NULL, "path cannot have a trailing slash"},
        {"spiffe://a//x", NULL, NULL, "path cannot contain empty segments"},
        {"spiffe://a/./x", NULL, NULL, "path cannot contain dot segments"},
        {"spiffe://a/x/..", NULL, NULL, "path cannot contain dot segments"},
        {"spiffe://a/x?y", NULL, NULL, PATH_CHARS},
        {"spiffe://a/x#y", NULL, NULL, PATH_CHARS},
        {"spiffe://a/%2e", NULL, NULL, PATH_CHARS},
        {"spiffe://a/\xc3\xa9", NULL, NULL, PATH_CHARS},
    };
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct spiffe_id id;
        if (rows[i].error != NULL) {
            FAILS(spiffe_id_parse(cs_slice_str(rows[i].id), &id, &e), CS_INVALID, rows[i].error);
            assert_true(spiffe_id_is_zero(id));
            continue;
        }
        OK(spiffe_id_parse(cs_slice_str(rows[i].id), &id, &e));
        assert_true(cs_slice_is(spiffe_id_td(id), rows[i].td));
        assert_true(cs_slice_is(spiffe_id_path(id), rows[i].path));
        assert_true(spiffe_id_member_of(id, cs_slice_str(rows[i].td)));
        assert_false(spiffe_id_member_of(id, S("other")));
    }
    struct spiffe_id nul;
    assert_int_equal(spiffe_id_parse(S("spiffe://a/x\0y"), &nul, NULL), CS_INVALID);
}

static void trust_domains(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct cs_slice td;
    OK(spiffe_td_parse(S("example.org"), &td, &e));
    assert_true(cs_slice_is(td, "example.org"));
    OK(spiffe_td_parse(S("spiffe://example.org/x"), &td, &e));
    assert_true(cs_slice_is(td, "example.org"));
    FAILS(spiffe_td_parse(S(""), &td, &e), CS_INVALID, "trust domain is missing");
    FAILS(spiffe_td_parse(S("Example"), &td, &e), CS_INVALID, TD_CHARS);
    FAILS(spiffe_td_parse(S("example.org/x"), &td, &e), CS_INVALID, TD_CHARS);
    FAILS(spiffe_td_parse(S("spiffe:/a"), &td, &e), CS_INVALID, "scheme is missing or invalid");
    FAILS(spiffe_td_parse(S("spiffe://a/x/"), &td, &e), CS_INVALID, "path cannot have a trailing slash");
}

static void making(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct spiffe_id id, copy;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    OK(spiffe_id_make(a, S("example.org"), S("/x"), &id, &e));
    assert_string_equal((const char *)id.text.data, "spiffe://example.org/x");
    OK(spiffe_id_make(a, S("spiffe://example.org/dropped"), S(""), &id, &e));
    assert_string_equal((const char *)id.text.data, "spiffe://example.org");
    FAILS(spiffe_id_make(a, S("example.org"), S("x"), &id, &e), CS_INVALID, "path must have a leading slash");
    FAILS(spiffe_id_make(a, S("e"), S("/"), &id, &e), CS_INVALID, "path cannot have a trailing slash");
    OK(spiffe_id_parse(S("spiffe://td/p"), &id, &e));
    OK(spiffe_id_dup(NULL, id, &copy));
    assert_true(spiffe_id_equal(id, copy) && cs_slice_is(spiffe_id_path(copy), "/p"));
    cs_free((void *)(uintptr_t)copy.text.data);
    OK(spiffe_path_segment_check(S("a.b"), &e));
    FAILS(spiffe_path_segment_check(S(""), &e), CS_INVALID, "path cannot contain empty segments");
    FAILS(spiffe_path_segment_check(S(".."), &e), CS_INVALID, "path cannot contain dot segments");
    FAILS(spiffe_path_segment_check(S("a/b"), &e), CS_INVALID, PATH_CHARS);
    /* upstream's own example of the unique ID attribute: SHA-256, first half, hex */
    char unique[33];
    OK(spiffe_id_parse(S("spiffe://example.org/foo"), &id, &e));
    OK(spiffe_id_unique(id, unique, &e));
    assert_int_equal(strlen(unique), 32);
}

static void reserved(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct spiffe_id agent, wl, td, odd;
    OK(spiffe_id_parse(S("spiffe://td/spire/agent/join_token/1"), &agent, &e));
    OK(spiffe_id_parse(S("spiffe://td/wl"), &wl, &e));
    OK(spiffe_id_parse(S("spiffe://td"), &td, &e));
    OK(spiffe_id_parse(S("spiffe://td/spire/agentx/1"), &odd, &e));
    OK(spiffe_id_check_agent(agent, S("td"), &e));
    OK(spiffe_id_check_agent_of(agent, S("td"), "join_token", &e));
    OK(spiffe_id_check_workload(wl, S("td"), &e));
    OK(spiffe_id_check_member(wl, S("td"), &e));
    FAILS(spiffe_id_check_agent_of(agent, S("td"), "join", &e), CS_INVALID,
          "\"spiffe://td/spire/agent/join_token/1\" is not in the agent namespace for attestor \"join\"");
    FAILS(spiffe_id_check_agent(odd, S("td"), &e), CS_INVALID,
          "\"spiffe://td/spire/agentx/1\" is not an agent in trust domain \"td\"; path is not in the agent "
          "namespace");
    FAILS(spiffe_id_check_workload(agent, S("td"), &e), CS_INVALID,
          "\"spiffe://td/spire/agent/join_token/1\" is not a workload in trust domain \"td\"; path is in the "
          "reserved namespace");
    FAILS(spiffe_id_check_workload(td, S("td"), &e), CS_INVALID,
          "\"spiffe://td\" is not a workload in trust domain \"td\"; path is empty");
    FAILS(spiffe_id_check_member(td, S("td"), &e), CS_INVALID,
          "\"spiffe://td\" is not a member of trust domain \"td\"; path is empty");
    FAILS(spiffe_id_check_agent(wl, S("t"), &e), CS_INVALID,
          "\"spiffe://td/wl\" is not a member of trust domain \"t\"");
    assert_true(spiffe_path_is_reserved(S("/spire")));
    assert_false(spiffe_path_is_reserved(S("/spirex")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids),
        cmocka_unit_test(trust_domains),
        cmocka_unit_test(making),
        cmocka_unit_test(reserved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
