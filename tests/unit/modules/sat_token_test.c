/* SPDX-License-Identifier: Apache-2.0
 *
 * Service account tokens verified with the cluster's keys: which are taken, whose they are, and for how long.
 */
#include "plugins/modules/kubernetes/sat_token.h"

#include "crypto/jose.h"
#include "crypto/pem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NOW INT64_C(1700000000)
#define LEGACY                                                                                               \
    "\"kubernetes.io/serviceaccount/namespace\":\"spire\","                                                  \
    "\"kubernetes.io/serviceaccount/service-account.name\":\"spire-agent\""
#define PROJECTED "\"kubernetes.io\":{\"namespace\":\"spire\",\"serviceaccount\":{\"name\":\"spire-agent\"}}"

static struct crypto_key *key, *other;
static struct sat_keys keys;
static struct cs_arena *arena;

static void add_pem(struct cs_buf *out, struct crypto_key *k)
{
    pem_write(out, "PUBLIC KEY", crypto_pub_spki(crypto_key_pub(k)));
}

static int begin(void **state)
{
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    (void)state;
    arena = cs_arena_new(0, 0);
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &key, &e), CS_OK);
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P384, &other, &e), CS_OK);
    cs_buf_add_str(&pem, "-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n");
    add_pem(&pem, other);
    add_pem(&pem, key);
    assert_int_equal(sat_keys_parse(cs_buf_slice(&pem), &keys, &e), CS_OK);
    assert_int_equal(keys.count, 2);
    return 0;
}

static int end(void **state)
{
    (void)state;
    sat_keys_free(&keys);
    crypto_key_unref(key);
    crypto_key_unref(other);
    cs_arena_free(arena);
    return 0;
}

static cs_code verify(const char *claims, const struct sat_keys *with, struct sat_claims *out,
                      struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf token = {0};
    CS_AUTO(crypto_signer) signer = NULL;
    assert_int_equal(crypto_signer_of_key(key, &signer, e), CS_OK);
    assert_int_equal(jose_sign(signer, JOSE_ES256, "sa-1", NULL, cs_slice_str(claims), &token, e), CS_OK);
    return sat_token_verify(cs_buf_slice(&token), with, NOW, arena, out, e);
}

static void takes_both_forms(void **state)
{
    struct sat_claims c;
    struct cs_err e = {0};
    (void)state;
    if (verify("{" LEGACY "}", &keys, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(c.namespace, "spire");
    assert_string_equal(c.account, "spire-agent");
    assert_false(c.expires);
    /* five minutes either way */
    assert_int_equal(
        verify("{" PROJECTED ",\"exp\":1699999700,\"nbf\":1700000300,\"iat\":1700000300.9}", &keys, &c, &e),
        CS_OK);
    assert_true(c.expires);
    assert_string_equal(c.namespace, "spire");
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *claims, *error;
    } cases[] = {
        {"[]", "unable to verify token: its claims are not a JSON object"},
        {"{}", "error parsing token claims: token missing namespace claim"},
        {"{\"kubernetes.io/serviceaccount/namespace\":\"n\"}",
         "error parsing token claims: token missing service account name claim"},
        {"{" LEGACY "," PROJECTED "}",
         "error parsing token claims: malformed token: namespace found in two claims"},
        {"{\"kubernetes.io\":{\"namespace\":\"a:b\",\"serviceaccount\":{\"name\":\"c\"}}}",
         "error parsing token claims: malformed token: namespace has a colon"},
        {"{" LEGACY ",\"exp\":1699999699}",
         "unable to validate token claims: go-jose/go-jose/jwt: validation failed, token is expired (exp)"},
        {"{" LEGACY ",\"exp\":-1e300}", "token is expired (exp)"},
        {"{" LEGACY ",\"exp\":1800000000,\"nbf\":1700000301}", "token not valid yet (nbf)"},
        {"{" LEGACY ",\"exp\":9223372036854775807,\"iat\":9223372036854775807}",
         "token issued in the future (iat)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sat_claims c;
        struct cs_err e = {0};
        cs_code rc = verify(cases[i].claims, &keys, &c, &e);
        if (rc != CS_INVALID || strstr(e.text, cases[i].error) == NULL)
            fail_msg("%zu: %s %s", i, cs_code_name(rc), e.text);
    }
}

static void needs_the_right_key(void **state)
{
    struct sat_claims c;
    struct cs_err e = {0};
    struct sat_keys some = {.at = {keys.at[0]}, .count = 1}; /* the other's */
    (void)state;
    assert_int_equal(verify("{" LEGACY "}", &some, &c, &e), CS_INVALID);
    assert_string_equal(e.text, "unable to verify token: go-jose/go-jose: error in cryptographic primitive");
    some.count = 0;
    assert_int_equal(verify("{" LEGACY "}", &some, &c, &e), CS_INVALID);
    assert_string_equal(e.text, "token signed by unknown authority");
    assert_int_equal(sat_token_verify(cs_slice_str("a.b"), &keys, NOW, arena, &c, &e), CS_INVALID);
    assert_non_null(strstr(e.text, "unable to parse token: "));
}

static void reads_no_broken_keys(void **state)
{
    struct sat_keys k = {0};
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    (void)state;
    assert_int_equal(sat_keys_parse(cs_slice_str(""), &k, &e), CS_OK);
    assert_int_equal(k.count, 0);
    add_pem(&pem, key);
    pem_write(&pem, "RSA PUBLIC KEY", cs_slice_str("\x30\x01"));
    assert_int_equal(sat_keys_parse(cs_buf_slice(&pem), &k, &e), CS_INVALID);
    assert_int_equal(k.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_both_forms),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(needs_the_right_key),
        cmocka_unit_test(reads_no_broken_keys),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
