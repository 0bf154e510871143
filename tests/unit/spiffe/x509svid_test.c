/* SPDX-License-Identifier: Apache-2.0 */
#include "../crypto/fixture.h"

#include "crypto/der.h"
#include "spiffe/x509svid.h"

#define NONE ((struct cs_slice){0})

static struct spiffe_bundle *bundle_of(const char *td, const struct x509_cert *root)
{
    struct cs_err e = {0};
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    struct spiffe_bundle *out;
    OK(spiffe_bundle_builder_new(cs_slice_str(td), &b, &e));
    OK(spiffe_bundle_add_x509(b, root, false, &e));
    OK(spiffe_bundle_build(b, &out, &e));
    return out;
}

/* SPIRE's own nested chain under SPIRE's own root. */
static void nested(void **state)
{
    (void)state;
    struct cs_err e = {0};
    CS_AUTO(x509_cert) root = load_cert("crypto/ca_p256.pem");
    CS_AUTO(spiffe_bundle) b = bundle_of("example.org", root);
    CS_AUTO(spiffe_bundle) other = bundle_of("other.org", root);
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf key_pem = {0};
    CS_CLEANUP(x509_chain_free) struct x509_chain c = {0};
    CS_AUTO(crypto_key) key = NULL;
    CS_AUTO(crypto_key) wrong = NULL;
    struct x509_verify_cache *cache = x509_verify_cache_new(16);
    const struct spiffe_x509_authority *a;
    struct spiffe_id id;
    int64_t expires, now;
    load("crypto/chain_nested.pem", &pem);
    OK(x509_chain_parse_pem(cs_buf_slice(&pem), 16, &c, &e));
    now = c.at[0]->not_before + 60;
    for (int i = 0; i < 2; i++) {
        OK(spiffe_x509svid_verify(&c, b, now, cache, &id, &expires, &e));
        assert_true(cs_slice_is(id.text, "spiffe://example.org/ns/prod/sa/web"));
        assert_int_equal(expires, c.at[0]->not_after);
    }
    OK(spiffe_x509svid_root(&c, b, now, &a, &e));
    assert_ptr_equal(a, &b->x509[0]);
    FAILS(spiffe_x509svid_verify(&c, other, now, cache, &id, NULL, &e), CS_UNAUTHENTICATED,
          "x509svid: could not get X509 bundle: no X.509 bundle for trust domain \"example.org\"");
    load("crypto/key_p256.pem", &key_pem);
    OK(crypto_key_parse_pem(cs_buf_slice(&key_pem), &key, &e));
    OK(spiffe_x509svid_check(&c, key, &id, &e));
    OK(crypto_key_generate(CRYPTO_EC_P256, &wrong, &e));
    FAILS(spiffe_x509svid_check(&c, wrong, &id, &e), CS_INVALID,
          "x509svid: private key validation failed: leaf certificate does not match private key");
    OK(spiffe_id_parse(S("spiffe://example.org/ns/prod/sa/web"), &id, &e));
    OK(spiffe_x509svid_check_issued(c.at[0], id, now, &e));
    OK(spiffe_x509ca_check_issued(c.at[1], S("example.org"), now, &e));
    FAILS(spiffe_x509ca_check_issued(c.at[0], S("example.org"), now, &e), CS_INTERNAL,
          "invalid X509 CA: cA constraint is not set");
    FAILS(spiffe_x509ca_check_issued(c.at[1], S("x"), now, &e), CS_INTERNAL,
          "invalid X509 CA: expected URI SAN \"spiffe://x\" but got \"spiffe://example.org\"");
    FAILS(spiffe_x509svid_check_issued(c.at[1], id, now, &e), CS_INTERNAL,
          "invalid X509-SVID: cA constraint must not be set");
    x509_verify_cache_free(cache);
}

static void leaf_rules(void **state)
{
    (void)state;
    static const uint8_t sign_usage[] = {0x30, 14, 6, 3, 0x55, 0x1d, 15, 1, 1, 0xff, 4, 4, 3, 2, 2, 0x84};
    static const uint8_t crl_usage[] = {0x30, 14, 6, 3, 0x55, 0x1d, 15, 1, 1, 0xff, 4, 4, 3, 2, 1, 0x82};
    static const uint8_t no_signature[] = {0x30, 14, 6, 3, 0x55, 0x1d, 15, 1, 1, 0xff, 4, 4, 3, 2, 5, 0x20};
    static const uint8_t ca[] = {0x30, 15, 6, 3, 0x55, 0x1d, 19, 1, 1, 0xff, 4, 5, 0x30, 3, 1, 1, 0xff};
    static const uint8_t two[] = {0x30, 17,   6, 3,   0x55, 0x1d, 17, 4,   10, 0x30,
                                  8,    0x86, 2, 'a', ':',  0x86, 2,  'b', ':'};
#define EXT(x)                                                                                               \
    {                                                                                                        \
        x, sizeof x                                                                                          \
    }
    static const struct {
        const char *uri;
        struct cs_slice extra;
        const char *peer, *held; /* NULL: fine */
    } rows[] = {
        {"spiffe://example.org/x", {NULL, 0}, NULL, NULL},
        {"spiffe://example.org/x", EXT(sign_usage), "x509svid: leaf certificate with KeyCertSign key usage",
         "leaf certificate must not have 'keyCertSign' set as key usage"},
        {"spiffe://example.org/x", EXT(crl_usage), "x509svid: leaf certificate with KeyCrlSign key usage",
         "leaf certificate must not have 'cRLSign' set as key usage"},
        {"spiffe://example.org/x", EXT(ca), "x509svid: leaf certificate with CA flag set to true",
         "leaf certificate must not have CA flag set to true"},
        {"spiffe://example.org/x", EXT(no_signature), NULL,
         "leaf certificate must have 'digitalSignature' set as key usage"},
        {"spiffe://example.org", {NULL, 0}, NULL, "leaf certificate SPIFFE ID must have a non-root path"},
        {"spiffe://example.org/x", EXT(two),
         "x509svid: could not get leaf SPIFFE ID: certificate contains more than one URI SAN",
         "cannot get leaf certificate SPIFFE ID: certificate contains more than one URI SAN"},
        {"",
         {NULL, 0},
         "x509svid: could not get leaf SPIFFE ID: certificate contains no URI SAN",
         "cannot get leaf certificate SPIFFE ID: certificate contains no URI SAN"},
        {"https://example.org/x",
         {NULL, 0},
         "x509svid: could not get leaf SPIFFE ID: scheme is missing or invalid",
         "cannot get leaf certificate SPIFFE ID: scheme is missing or invalid"},
    };
    struct cs_err e = {0};
    struct authority root = new_authority(NULL, "root", 1000, 9000, NONE);
    CS_AUTO(spiffe_bundle) b = bundle_of("example.org", root.cert);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct x509_cert *leaf = new_leaf(&root, rows[i].uri, 1000, 9000, rows[i].extra);
        const struct x509_chain chain = {&leaf, 1};
        struct spiffe_id id;
        char held[256];
        snprintf(held, sizeof held, "x509svid: certificate validation failed: %s",
                 rows[i].held ? rows[i].held : "");
        if (rows[i].peer == NULL)
            OK(spiffe_x509svid_verify(&chain, b, 5000, NULL, &id, NULL, &e));
        else
            FAILS(spiffe_x509svid_verify(&chain, b, 5000, NULL, &id, NULL, &e), CS_UNAUTHENTICATED,
                  rows[i].peer);
        if (rows[i].held == NULL)
            OK(spiffe_x509svid_check(&chain, NULL, &id, &e));
        else
            FAILS(spiffe_x509svid_check(&chain, NULL, &id, &e), CS_INVALID, held);
        x509_cert_unref(leaf);
    }
    struct x509_cert *leaf = new_leaf(&root, "spiffe://example.org/x", 1000, 9000, NONE);
    const struct x509_chain chain = {&leaf, 1}, none = {0};
    struct spiffe_id id;
    FAILS(spiffe_x509svid_verify(&none, b, 5000, NULL, &id, NULL, &e), CS_UNAUTHENTICATED,
          "x509svid: empty certificates chain");
    FAILS(spiffe_x509svid_verify(&chain, b, 9001, NULL, &id, NULL, &e), CS_UNAUTHENTICATED,
          "x509svid: could not verify leaf certificate: x509: certificate has expired or is not yet valid: "
          "current "
          "time 1970-01-01T02:30:01Z is after 1970-01-01T02:30:00Z");
    OK(spiffe_id_parse(S("spiffe://example.org/x"), &id, &e));
    FAILS(spiffe_x509svid_check_issued(leaf, id, 9001, &e), CS_INTERNAL,
          "invalid X509-SVID: already expired as of 1970-01-01T02:30:00Z");
    FAILS(spiffe_x509svid_check_issued(leaf, id, 999, &e), CS_INTERNAL,
          "invalid X509-SVID: not yet valid until 1970-01-01T00:16:40Z");
    x509_cert_unref(leaf);
    free_authority(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nested),
        cmocka_unit_test(leaf_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
