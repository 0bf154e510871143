/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/svid.h"

#include "crypto/x509_issue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A certificate of the key with the URI; "": none. */
static struct x509_cert *cert_of(struct crypto_key *key, const char *uri)
{
    struct crypto_signer *signer;
    struct x509_cert *out;
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    const struct x509_issue_params p = {.uri = cs_slice_str(uri), .not_before = 1000, .not_after = 2000};
    assert_int_equal(crypto_signer_of_key(key, &signer, NULL), CS_OK);
    assert_int_equal(x509_issue_self_signed(signer, &p, &der, NULL), CS_OK);
    assert_int_equal(x509_cert_parse(cs_buf_slice(&der), &out, NULL), CS_OK);
    crypto_signer_unref(signer);
    return out;
}

static void test_what_was_asked_for(void **state)
{
    static const struct {
        const char *uri, *asked, *text;
        bool same_key;
    } cases[] = {
        {"spiffe://example.org/a", "spiffe://example.org/a", "", true},
        {"spiffe://example.org/b", "spiffe://example.org/a",
         "the X509-SVID that the server sent is for \"spiffe://example.org/b\"", true},
        {"spiffe://example.org/a/b", "spiffe://example.org/a",
         "the X509-SVID that the server sent is for \"spiffe://example.org/a/b\"", true},
        {"spiffe://example.org/a", "spiffe://example.org/a",
         "the X509-SVID that the server sent is for another key", false},
        {"", "spiffe://example.org/a", "certificate contains no URI SAN", true},
    };
    struct crypto_key *mine;
    struct crypto_key *other;
    (void)state;
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &mine, NULL), CS_OK);
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &other, NULL), CS_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cs_err e = {0};
        struct x509_cert *c = cert_of(cases[i].same_key ? mine : other, cases[i].uri);
        cs_code rc = agent_svid_check(c, crypto_key_pub(mine), cases[i].asked, &e);
        assert_int_equal(rc == CS_OK, cases[i].text[0] == '\0');
        assert_string_equal(e.text, cases[i].text);
        x509_cert_unref(c);
    }
    crypto_key_unref(mine);
    crypto_key_unref(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_was_asked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
