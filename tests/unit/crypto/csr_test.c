/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "crypto/x509_csr.h"

static void read_as_go_writes(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        unsigned uris, dns;
        enum crypto_sig alg;
    } rows[] = {
        {"crypto/csr_plain.pem", 0, 0, CRYPTO_ECDSA_SHA256},
        {"crypto/csr_uri.pem", 1, 0, CRYPTO_ECDSA_SHA256},
        {"crypto/csr_mint.pem", 1, 2, CRYPTO_RSA_SHA256},
        {"crypto/csr_upstream.pem", 1, 0, CRYPTO_ECDSA_SHA384},
    };
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
        struct x509_csr csr;
        load_pem(rows[i].file, &der);
        OK(x509_csr_parse(cs_buf_slice(&der), &csr, &e));
        OK(x509_csr_verify(&csr, &e));
        assert_int_equal(csr.ext.san.uris, rows[i].uris);
        assert_int_equal(csr.ext.san.dns, rows[i].dns);
        assert_int_equal(csr.sig_alg, rows[i].alg);
        /* any bit of the signed part, flipped, is found out */
        for (size_t at = 10; at < csr.info.len; at += 7) {
            uint8_t *p = der.data + (csr.info.data - der.data) + at;
            struct x509_csr bent;
            *p ^= 1;
            if (x509_csr_parse(cs_buf_slice(&der), &bent, NULL) == CS_OK)
                assert_int_equal(x509_csr_verify(&bent, NULL), CS_INVALID);
            *p ^= 1;
        }
    }
}

static void round_trip(void **state)
{
    (void)state;
    struct cs_err e = {0};
    const struct cs_slice dns[] = {S("a.test"), S("*.b.test")};
    for (enum crypto_key_type t = CRYPTO_EC_P256; t <= CRYPTO_RSA_2048; t++) {
        CS_AUTO(crypto_signer) s = new_signer(t);
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        struct x509_csr csr;
        struct cs_slice v;
        struct x509_csr_params p = {.uri = S("spiffe://example.org/x"), .dns = dns, .dns_count = 2};
        OK(x509_csr_write(&p, s, &out, &e));
        OK(x509_csr_parse(cs_buf_slice(&out), &csr, &e));
        OK(x509_csr_verify(&csr, &e));
        assert_true(cs_slice_eq(csr.spki, crypto_pub_spki(crypto_signer_pub(s))));
        assert_true(x509_san_get(&csr.ext.san, X509_SAN_URI, 0, &v) &&
                    cs_slice_is(v, "spiffe://example.org/x"));
        assert_true(x509_san_get(&csr.ext.san, X509_SAN_DNS, 1, &v) && cs_slice_is(v, "*.b.test"));
        assert_false(x509_san_get(&csr.ext.san, X509_SAN_DNS, 2, &v));
        p.uri = S("spiffe://ex\xc3\xa4mple/x");
        assert_int_equal(x509_csr_write(&p, s, &out, NULL), CS_INVALID);
    }
}

/* Ours byte for byte as Go's, apart from the signature. */
static void layout(void **state)
{
    (void)state;
    struct cs_err e = {0};
    static const struct {
        const char *file, *key;
        struct cs_slice uri;
    } rows[] = {
        {"crypto/csr_uri.pem",
         "crypto/key_p256.pem",
         {(const uint8_t *)"spiffe://example.org/ns/prod/sa/web", 35}},
        {"crypto/csr_plain.pem", "crypto/key_p256.pem", {NULL, 0}},
    };
    for (size_t i = 0; i < 2; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf want = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        CS_AUTO(crypto_key) k = NULL;
        CS_AUTO(crypto_signer) s = NULL;
        struct x509_csr a, b;
        load_pem(rows[i].file, &want);
        load(rows[i].key, &pem);
        OK(crypto_key_parse_pem(cs_buf_slice(&pem), &k, &e));
        OK(crypto_signer_of_key(k, &s, &e));
        OK(x509_csr_parse(cs_buf_slice(&want), &a, &e));
        const struct x509_csr_params p = {.subject = a.subject, .uri = rows[i].uri};
        OK(x509_csr_write(&p, s, &out, &e));
        OK(x509_csr_parse(cs_buf_slice(&out), &b, &e));
        assert_true(cs_slice_eq(a.info, b.info));
    }
}

static void refused(void **state)
{
    (void)state;
    struct x509_csr csr;
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    FAILS(x509_csr_parse(S(""), &csr, &e), CS_INVALID, "asn1: syntax error: sequence truncated");
    FAILS(x509_csr_parse(S("\x30"), &csr, &e), CS_INVALID, "asn1: syntax error: truncated tag or length");
    FAILS(x509_csr_parse(S("\x30\x05x"), &csr, &e), CS_INVALID, "asn1: syntax error: data truncated");
    FAILS(x509_csr_parse(S("not a csr"), &csr, &e), CS_INVALID,
          "asn1: structure error: tags don't match (16 vs {class:1 tag:14 length:111 isCompound:true}) "
          "{optional:false explicit:false application:false private:false defaultValue:<nil> tag:<nil> "
          "stringType:0 timeType:0 set:false omitEmpty:false} certificateRequest @2");
    load_pem("crypto/csr_mint.pem", &der);
    for (size_t n = 0; n < der.len; n++)
        assert_int_equal(x509_csr_parse(cs_slice_of(der.data, n), &csr, NULL), CS_INVALID);
    OK(x509_csr_parse(cs_buf_slice(&der), &csr, &e));
    csr.sig = cs_slice_of(csr.sig.data, csr.sig.len - 1);
    FAILS(x509_csr_verify(&csr, &e), CS_INVALID, "crypto/rsa: verification error");
    csr.sig_alg = CRYPTO_ECDSA_SHA256;
    assert_int_equal(x509_csr_verify(&csr, NULL), CS_INVALID);
    csr.sig_alg = CRYPTO_SIG_NONE;
    FAILS(x509_csr_verify(&csr, &e), CS_INVALID, "x509: cannot verify signature: algorithm unimplemented");
    cs_buf_add_byte(&der, 0);
    FAILS(x509_csr_parse(cs_buf_slice(&der), &csr, &e), CS_INVALID, "asn1: syntax error: trailing data");
}

static cs_code request_to_svid(const struct cs_buf *der, const struct authority *ca, struct cs_buf *out)
{
    struct x509_csr csr;
    CS_AUTO(x509_cert) made = NULL;
    CS_TRY(x509_csr_parse(cs_buf_slice(der), &csr, NULL));
    CS_TRY(x509_csr_verify(&csr, NULL));
    const struct x509_issue_params p = {
        .spki = csr.spki,
        .subject = csr.subject,
        .uri = S("spiffe://example.org/x"),
        .not_before = 1000,
        .not_after = 2000,
    };
    CS_TRY(x509_issue_svid(ca->issuer, &p, out, NULL, NULL));
    return x509_cert_parse(cs_buf_slice(out), &made, NULL);
}

/* Every allocation on the way from a request to a certificate fails in turn. */
static void no_memory(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    struct authority ca = new_authority(NULL, "root", 0, 5000, (struct cs_slice){0});
    load_pem("crypto/csr_uri.pem", &der);
    size_t failures = 0;
    for (size_t n = 1; n < 1000; n++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        cs_mem_fail_at(n, false);
        cs_code code = request_to_svid(&der, &ca, &out);
        cs_mem_fail_at(0, false);
        if (code == CS_OK)
            break;
        assert_int_equal(code, CS_INTERNAL);
        failures++;
    }
    assert_in_range(failures, 2, 100);
    free_authority(&ca);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_as_go_writes), cmocka_unit_test(round_trip), cmocka_unit_test(layout),
        cmocka_unit_test(refused),           cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
