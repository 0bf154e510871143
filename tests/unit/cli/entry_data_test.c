/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/json.h"
#include "cli/server/entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char full[] =
    "{\"entries\":[{\"entry_id\":\"one\",\"parent_id\":\"spiffe://example.org/p\",\"spiffe_id\":\"spiffe://"
    "example.org/w\","
    "\"selectors\":[{\"type\":\"unix\",\"value\":\"uid:1\"}],\"x509_svid_ttl\":60,\"jwt_svid_ttl\":5,"
    "\"federates_with\":[\"spiffe://far.test\"],\"admin\":true,\"downstream\":true,\"dns_names\":[\"a.org\"],"
    "\"store_svid\":true,\"HINT\":\"h\",\"entryExpiry\":4000000000,\"unknown\":{},"
    "\"additional_attributes\":{\"jwt_svid_include_jti\":true}}]}";

static void whole_entry(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    Types__Entry **list;
    size_t n;
    struct cs_err e;
    assert_int_equal(entry_load(a, cs_slice_str(full), &n, &list, &e), CS_OK);
    assert_int_equal(n, 1);
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cli_json_message(&b, &list[0]->base);
    assert_string_equal(
        cs_buf_cstr(&b),
        "{\"additional_attributes\":{\"disable_x509_svid_prefetch\":false,\"jwt_svid_include_jti\":true},"
        "\"admin\":true,"
        "\"created_at\":\"0\",\"dns_names\":[\"a.org\"],\"downstream\":true,\"expires_at\":\"4000000000\","
        "\"federates_with\":[\"far.test\"],\"hint\":\"h\",\"id\":\"one\",\"jwt_svid_ttl\":5,"
        "\"parent_id\":{\"path\":\"/p\",\"trust_domain\":\"example.org\"},\"revision_number\":\"0\","
        "\"selectors\":[{\"type\":\"unix\",\"value\":\"uid:1\"}],"
        "\"spiffe_id\":{\"path\":\"/"
        "w\",\"trust_domain\":\"example.org\"},\"store_svid\":true,\"x509_svid_ttl\":60}");
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *want;
    } cases[] = {
        {"", "unexpected end of JSON input"},
        {"[]", "the JSON document must be an object"},
        {"{\"entries\":{}}", "entries must be a list"},
        {"{\"entries\":[null]}", "missing registration entry"},
        {"{\"entries\":[{}]}", "invalid SPIFFE ID: cannot be empty"},
        {"{\"entries\":[{\"spiffe_id\":\"spiffe://a/b\"}]}", "invalid parent ID: cannot be empty"},
        {"{\"entries\":[{\"spiffe_id\":7}]}", "entries[0].spiffe_id must be a string"},
        {"{\"entries\":[{\"spiffe_id\":\"spiffe://a/b\",\"parent_id\":\"spiffe://a/"
         "c\",\"x509_svid_ttl\":3000000000}]}",
         "entries[0].x509_svid_ttl must be in the range of its type"},
        {"{\"entries\":[{\"spiffe_id\":\"spiffe://a/b\",\"parent_id\":\"spiffe://a/c\",\"admin\":1}]}",
         "entries[0].admin must be true or false"},
        {"{\"entries\":[{\"spiffe_id\":\"spiffe://a/b\",\"parent_id\":\"spiffe://a/"
         "c\",\"selectors\":[\"x\"]}]}",
         "entries[0].selectors must be a list of objects with type and value"},
        {"{\"entries\":[{\"spiffe_id\":\"spiffe://a/b\",\"parent_id\":\"spiffe://a/"
         "c\",\"federates_with\":[\"\"]}]}",
         "invalid federated trust domain: trust domain is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
        Types__Entry **list;
        size_t n;
        struct cs_err e;
        assert_int_not_equal(entry_load(a, cs_slice_str(cases[i].json), &n, &list, &e), CS_OK);
        assert_string_equal(e.text, cases[i].want);
    }
}

static void ids(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    char **list;
    size_t n;
    struct cs_err e;
    assert_int_equal(entry_load_ids(a, cs_slice_str("{\"ids\":[\"a\",\"b\"]}"), &n, &list, &e), CS_OK);
    assert_int_equal(n, 2);
    assert_string_equal(list[1], "b");
    assert_int_equal(entry_load_ids(a, cs_slice_str("{\"ids\":[1]}"), &n, &list, &e), CS_INVALID);
    assert_string_equal(e.text, "ids[0] must be a string");
}

/* Whatever allocation fails, loading says so and leaks nothing. */
static void out_of_memory(void **state)
{
    (void)state;
    for (size_t i = 1; i < 10000; i++) {
        CS_AUTO(cs_arena) a = cs_arena_new(16, 0);
        Types__Entry **list;
        size_t n;
        struct cs_err e;
        (void)cs_mem_fail_at(i, true);
        cs_code code = entry_load(a, cs_slice_str(full), &n, &list, &e);
        (void)cs_mem_fail_at(0, false);
        if (code == CS_OK)
            return;
        assert_int_equal(code, CS_INTERNAL);
    }
    fail_msg("never got through");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_entry), cmocka_unit_test(refused),
                                       cmocka_unit_test(ids), cmocka_unit_test(out_of_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
