/* SPDX-License-Identifier: Apache-2.0
 *
 * What every UpstreamAuthority does that signs by itself.
 */
#include "plugin/upstreamauthority.h"

#include "base/file.h"
#include "crypto/pem.h"
#include "crypto/x509_csr.h"
#include "crypto/x509_issue.h"
#include "crypto/x509_verify.h"
#include "tests/suite/subject.h"

static const struct upstreamauthority_ops *ops(const struct suite *s)
{
    return s->ops;
}

/* --- The authority's files --- */

static void write_file(const struct suite *s, const char *name, struct cs_slice text)
{
    struct cs_err e = {0};
    char path[100];
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    suite_must(cs_file_write_atomic(path, text, 0600, &e), &e);
}

static void make_root(struct suite *s)
{
    struct cs_err e = {0};
    CS_AUTO(crypto_key) key = NULL;
    CS_AUTO(crypto_signer) signer = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf subject = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_AUTO(cs_secret) key_pem = NULL;
    struct x509_serial serial;
    const struct x509_name name = {.common_name = "root"};
    int64_t now = cs_now_s(&cs_clock_system);
    suite_must(crypto_key_generate(CRYPTO_EC_P256, &key, &e), &e);
    suite_must(crypto_signer_of_key(key, &signer, &e), &e);
    suite_must(x509_serial_new(&serial, &e), &e);
    x509_name_write(&subject, &name);
    const struct x509_issue_params p = {
        .spki = crypto_pub_spki(crypto_key_pub(key)),
        .subject = cs_buf_slice(&subject),
        .not_before = now - 3600,
        .not_after = now + 86400,
        .serial = &serial,
    };
    suite_must(x509_issue_self_signed(signer, &p, &der, &e), &e);
    suite_must(crypto_key_pem(key, &key_pem, &e), &e);
    pem_write(&pem, PEM_CERTIFICATE, cs_buf_slice(&der));
    write_file(s, "ca.crt", cs_buf_slice(&pem));
    write_file(s, "ca.key", cs_slice_of(key_pem->data, key_pem->len));
}

static void make_csr(struct cs_buf *out, struct crypto_signer **signer)
{
    struct cs_err e = {0};
    CS_AUTO(crypto_key) key = NULL;
    suite_must(crypto_key_generate(CRYPTO_EC_P384, &key, &e), &e);
    suite_must(crypto_signer_of_key(key, signer, &e), &e);
    const struct x509_csr_params p = {.uri = cs_slice_str("spiffe://example.org")};
    suite_must(x509_csr_write(&p, *signer, out, &e), &e);
}

/* --- Tests --- */

static void check_chain(const struct upstreamauthority_result *r, const struct crypto_signer *signer,
                        int64_t ttl)
{
    struct cs_err e = {0};
    CS_AUTO(x509_cert) ca = NULL;
    CS_AUTO(x509_cert) root = NULL;
    int64_t now = cs_now_s(&cs_clock_system);
    assert_int_equal(r->chain_count, 1);
    assert_int_equal(r->root_count, 1);
    assert_false(r->roots_tainted[0]);
    suite_must(x509_cert_parse(cs_buf_slice(&r->chain[0]), &ca, &e), &e);
    suite_must(x509_cert_parse(cs_buf_slice(&r->roots[0]), &root, &e), &e);
    suite_must(x509_cert_check_signature(ca, root, &e), &e);
    assert_true(cs_slice_eq(ca->spki, crypto_pub_spki(crypto_signer_pub(signer))));
    if (ttl > 0)
        assert_in_range(ca->not_after, now + ttl - 60, now + ttl + 60);
}

static void a_ca_is_minted(void **state)
{
    struct suite *s = *state;
    static const int64_t ttls[] = {600, 1200, 0};
    for (size_t i = 0; i < sizeof ttls / sizeof ttls[0]; i++) {
        struct cs_err e = {0};
        CS_CLEANUP(upstreamauthority_result_free) struct upstreamauthority_result r = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf csr = {0};
        CS_AUTO(crypto_signer) signer = NULL;
        make_csr(&csr, &signer);
        suite_must(ops(s)->mint_x509_ca(s->self, cs_buf_slice(&csr), ttls[i], &r, &e), &e);
        check_chain(&r, signer, ttls[i]);
    }
}

static void bad_requests_are_refused(void **state)
{
    struct suite *s = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf csr = {0};
    CS_AUTO(crypto_signer) signer = NULL;
    make_csr(&csr, &signer);
    csr.data[csr.len - 1] ^= 1; /* the signature */
    const struct cs_slice rows[] = {cs_slice_str("no request"), {NULL, 0}, cs_buf_slice(&csr)};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_err e = {0};
        CS_CLEANUP(upstreamauthority_result_free) struct upstreamauthority_result r = {0};
        assert_int_not_equal(ops(s)->mint_x509_ca(s->self, rows[i], 600, &r, &e), CS_OK);
        assert_true(e.text[0] != '\0');
        assert_int_equal(r.chain_count, 0);
    }
}

static cs_code no_key(void *arg, const struct upstreamauthority_jwt_key *k)
{
    (void)arg, (void)k;
    fail_msg("a key was published");
    return CS_OK;
}

/* Either way is the contract's. */
static void jwt_keys_are_not_for_all(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf csr = {0};
    CS_AUTO(crypto_signer) signer = NULL;
    make_csr(&csr, &signer);
    const struct upstreamauthority_jwt_key k = {
        .pkix = crypto_pub_spki(crypto_signer_pub(signer)), .kid = "k", .not_after = 1};
    if (ops(s)->publish_jwt_key != NULL)
        assert_int_equal(ops(s)->publish_jwt_key(s->self, &k, no_key, NULL, &e), CS_UNIMPLEMENTED);
}

static void no_roots(void *arg, const struct upstreamauthority_result *r)
{
    (void)arg, (void)r;
}
static void no_keys(void *arg, const struct upstreamauthority_jwt_key *keys, size_t count)
{
    (void)arg, (void)keys, (void)count;
}

static void listeners_come_and_go(void **state)
{
    struct suite *s = *state;
    const struct upstreamauthority_listener listener = {no_roots, no_keys, NULL};
    if (ops(s)->listen == NULL)
        return;
    ops(s)->listen(s->self, &listener);
    a_ca_is_minted(state);
    ops(s)->listen(s->self, NULL);
    a_ca_is_minted(state);
    ops(s)->listen(s->self, &listener);
}

int suite_upstreamauthority(void)
{
    static const char data[] = "cert_file_path = \"%s/ca.crt\"\nkey_file_path = \"%s/ca.key\"";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ca_is_minted),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(jwt_keys_are_not_for_all),
        cmocka_unit_test(listeners_come_and_go),
    };
    const struct suite_subject subjects[] = {
        {"server", PLUGIN_TYPE_UPSTREAMAUTHORITY, "disk", data, false, NULL, make_root},
        {"server", PLUGIN_TYPE_UPSTREAMAUTHORITY, "disk", data, true, NULL, make_root},
    };
    return SUITE_RUN("upstreamauthority", tests, subjects);
}
