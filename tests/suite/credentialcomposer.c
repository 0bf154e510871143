/* SPDX-License-Identifier: Apache-2.0
 *
 * What every CredentialComposer does: adds its own, and leaves what was there.
 */
#include "plugin/credentialcomposer.h"

#include "tests/suite/subject.h"

static const struct credentialcomposer_ops *ops(const struct suite *s)
{
    return s->ops;
}

static const char *const country[] = {"US"}, *const organization[] = {"SPIFFE", "Other"},
                         *const dns[] = {"a.example.org"}, *const policy[] = {"1.2.3.4"};
static const struct credentialcomposer_type_value extra[] = {{"2.5.4.45", "unique"}};
static const struct credentialcomposer_extension given[] = {
    {"1.2.3.4.5", {(const uint8_t *)"\x05\x00", 2}, true}};

static struct credentialcomposer_x509 attributes(bool ca)
{
    struct credentialcomposer_x509 x = {
        .subject = {.country = {country, 1},
                    .organization = {organization, 2},
                    .serial_number = "7",
                    .common_name = "",
                    .extra = extra,
                    .extra_count = 1},
        .extensions = given,
        .extension_count = 1,
    };
    if (ca)
        x.policy_identifiers = (struct credentialcomposer_texts){policy, 1};
    else
        x.dns_sans = (struct credentialcomposer_texts){dns, 1};
    return x;
}

static void check_common(const struct credentialcomposer_x509 *x)
{
    assert_int_equal(x->subject.country.count, 1);
    assert_string_equal(x->subject.country.at[0], "US");
    assert_int_equal(x->subject.organization.count, 2);
    assert_string_equal(x->subject.organization.at[1], "Other");
    assert_string_equal(x->subject.serial_number, "7");
    assert_string_equal(x->subject.common_name, "");
    assert_int_equal(x->subject.extra_count, 1);
    assert_string_equal(x->subject.extra[0].oid, "2.5.4.45");
    assert_string_equal(x->subject.extra[0].value, "unique");
    assert_int_equal(x->subject.organizational_unit.count, 1);
    assert_string_equal(x->subject.organizational_unit.at[0], "reference");
    assert_int_equal(x->extension_count, 2);
    assert_string_equal(x->extensions[0].oid, "1.2.3.4.5");
    assert_true(x->extensions[0].critical);
    assert_true(cs_slice_eq(x->extensions[0].value, given[0].value));
    assert_string_equal(x->extensions[1].oid, "1.3.6.1.4.1.55555.7");
    assert_true(cs_slice_is(x->extensions[1].value, "\x0c\x02hi"));
    assert_false(x->extensions[1].critical);
}

static void authorities_are_composed(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct credentialcomposer_x509 x = attributes(true);
    suite_must(ops(s)->server_x509_ca(s->self, a, &x, &e), &e);
    check_common(&x);
    assert_int_equal(x.policy_identifiers.count, 2);
    assert_string_equal(x.policy_identifiers.at[0], "1.2.3.4");
    assert_string_equal(x.policy_identifiers.at[1], "1.2.3.9");
}

static void svids_are_composed(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct credentialcomposer_x509 x = attributes(false);
    suite_must(ops(s)->server_x509_svid(s->self, a, &x, &e), &e);
    check_common(&x);
    assert_int_equal(x.dns_sans.count, 1);
    x = attributes(false);
    suite_must(
        ops(s)->workload_x509_svid(s->self, a, "spiffe://example.org/w", cs_slice_str("12345"), &x, &e), &e);
    check_common(&x);
    assert_int_equal(x.dns_sans.count, 2);
    assert_string_equal(x.dns_sans.at[0], "a.example.org");
    assert_string_equal(x.dns_sans.at[1], "5.key.of.example.org/w");
}

static void what_is_not_cared_for_stays(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct credentialcomposer_x509 before = attributes(false), x = before;
    assert_int_equal(
        ops(s)->agent_x509_svid(s->self, a, "spiffe://example.org/a", cs_slice_str("key"), &x, &e),
        CS_UNIMPLEMENTED);
    assert_memory_equal(&x, &before, sizeof x);
}

static void tokens_are_composed(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    static const char before[] = "{\"aud\":[\"a\"],\"exp\":1700000000,\"sub\":\"spiffe://example.org/w\"";
    struct cs_slice claims = cs_slice_str(cs_arena_printf(a, "%s}", before));
    const char *wanted =
        cs_arena_printf(a, "%s,\"zz\":{\"by\":\"spiffe://example.org/w\",\"n\":0.25}}", before);
    suite_must(ops(s)->workload_jwt_svid(s->self, a, "spiffe://example.org/w", &claims, &e), &e);
    if (!cs_slice_is(claims, wanted))
        fail_msg("%.*s", (int)claims.len, (const char *)claims.data);
    claims = cs_slice_str("{\"sub\":\"x\"}");
    assert_int_equal(ops(s)->workload_jwt_svid(s->self, a, "spiffe://example.org/refused", &claims, &e),
                     CS_DENIED);
    assert_string_equal(suite_text(s, &e), "refused by the reference");
    assert_true(cs_slice_is(claims, "{\"sub\":\"x\"}"));
}

int suite_credentialcomposer(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(authorities_are_composed),
        cmocka_unit_test(svids_are_composed),
        cmocka_unit_test(what_is_not_cared_for_stays),
        cmocka_unit_test(tokens_are_composed),
    };
    const struct suite_subject subjects[] = {
        {"server", PLUGIN_TYPE_CREDENTIALCOMPOSER, "reference", "%s", false, NULL, NULL},
        {"server", PLUGIN_TYPE_CREDENTIALCOMPOSER, "reference", "%s", true, NULL, NULL},
    };
    return SUITE_RUN("credentialcomposer", tests, subjects);
}
