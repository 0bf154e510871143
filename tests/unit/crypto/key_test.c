/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "crypto/der.h"

#include <openssl/evp.h>
#include <pthread.h>

static void names(void **state)
{
    (void)state;
    struct cs_err e = {0};
    enum crypto_key_type t;
    OK(crypto_key_type_parse(S("EC-P256"), &t, &e));
    assert_int_equal(t, CRYPTO_EC_P256);
    OK(crypto_key_type_parse(S("rsa-4096"), &t, &e));
    assert_int_equal(t, CRYPTO_RSA_4096);
    FAILS(crypto_key_type_parse(S("ed25519"), &t, &e), CS_INVALID,
          "key type \"ed25519\" is unknown; must be one of [rsa-2048, rsa-4096, ec-p256, ec-p384]");
    assert_int_equal(crypto_key_type_parse(S("ec-p521"), &t, NULL), CS_INVALID);
    assert_int_equal(crypto_key_type_parse(S(""), &t, NULL), CS_INVALID);
}

/* Files written by Go are read, and written again byte for byte. */
static void files(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        enum crypto_key_type type;
        const char *same_as;
    } rows[] = {
        {"crypto/key_p256.pem", CRYPTO_EC_P256, "crypto/key_p256.pem"},
        {"crypto/key_p384.pem", CRYPTO_EC_P384, "crypto/key_p384.pem"},
        {"crypto/key_rsa2048.pem", CRYPTO_RSA_2048, "crypto/key_rsa2048.pem"},
        {"crypto/key_sec1.pem", CRYPTO_EC_P256, "crypto/key_p256.pem"},
        {"crypto/key_pkcs1.pem", CRYPTO_RSA_2048, "crypto/key_rsa2048.pem"},
    };
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf want = {0};
        CS_AUTO(crypto_key) k = NULL;
        CS_AUTO(cs_secret) out = NULL;
        load(rows[i].file, &text);
        load(rows[i].same_as, &want);
        OK(crypto_key_parse_pem(cs_buf_slice(&text), &k, &e));
        assert_int_equal(crypto_key_type_of(k), rows[i].type);
        OK(crypto_key_pem(k, &out, &e));
        assert_int_equal(out->len, want.len);
        assert_memory_equal(out->data, want.data, want.len);
    }
}

static void refused_files(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct crypto_key *k;
    FAILS(crypto_key_parse_pem(S(""), &k, &e), CS_INVALID, "no PEM blocks");
    FAILS(
        crypto_key_parse_pem(S("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &k, &e),
        CS_INVALID,
        "expected block type [\"PRIVATE KEY\" \"RSA PRIVATE KEY\" \"EC PRIVATE KEY\"]; got \"CERTIFICATE\"");
    FAILS(crypto_key_parse_pem(S("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), &k, &e),
          CS_INVALID, "unable to parse \"PRIVATE KEY\" PEM block 1: x509: failed to parse private key");
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    load_pem("crypto/key_p256.pem", &der);
    for (size_t n = 0; n < der.len; n++) /* every truncation */
        assert_int_equal(crypto_key_parse_der(cs_slice_of(der.data, n), &k, NULL), CS_INVALID);
    der.data[der.len - 1] ^= 1; /* a public half that is not the private half's */
    assert_int_equal(crypto_key_parse_der(cs_buf_slice(&der), &k, NULL), CS_INVALID);
    der.data[der.len - 1] ^= 1;
    cs_buf_add_byte(&der, 0);
    assert_int_equal(crypto_key_parse_der(cs_buf_slice(&der), &k, NULL), CS_INVALID);
}

static void sign_and_verify(void **state)
{
    (void)state;
    static const struct {
        enum crypto_key_type type;
        enum crypto_sig good[6], bad;
    } rows[] = {
        {CRYPTO_EC_P256, {CRYPTO_ECDSA_SHA256, CRYPTO_ECDSA_SHA384}, CRYPTO_RSA_SHA256},
        {CRYPTO_EC_P384, {CRYPTO_ECDSA_SHA384, CRYPTO_ECDSA_SHA512}, CRYPTO_SIG_ED25519},
        {CRYPTO_RSA_2048,
         {CRYPTO_RSA_SHA256, CRYPTO_RSA_SHA384, CRYPTO_RSA_SHA512, CRYPTO_PSS_SHA256, CRYPTO_PSS_SHA384,
          CRYPTO_PSS_SHA512},
         CRYPTO_ECDSA_SHA256},
    };
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_AUTO(crypto_signer) s = new_signer(rows[i].type);
        struct crypto_pub *pub = crypto_signer_pub(s);
        for (size_t j = 0; j < 6 && rows[i].good[j] != CRYPTO_SIG_NONE; j++) {
            CS_CLEANUP(cs_buf_free) struct cs_buf sig = {0};
            OK(crypto_sign(s, rows[i].good[j], S("message"), &sig, &e));
            OK(crypto_verify(pub, rows[i].good[j], S("message"), cs_buf_slice(&sig), &e));
            FAILS(crypto_verify(pub, rows[i].good[j], S("massage"), cs_buf_slice(&sig), &e), CS_DENIED,
                  "signature is wrong");
            sig.data[sig.len / 2] ^= 1;
            assert_int_equal(crypto_verify(pub, rows[i].good[j], S("message"), cs_buf_slice(&sig), NULL),
                             CS_DENIED);
        }
        CS_CLEANUP(cs_buf_free) struct cs_buf none = {0};
        assert_int_equal(crypto_sign(s, rows[i].bad, S("m"), &none, NULL), CS_INVALID);
        assert_int_equal(crypto_verify(pub, rows[i].bad, S("m"), S("m"), NULL), CS_INVALID);
    }
}

/* Forgeries of the kinds that have broken ECDSA verifiers. */
static void ecdsa_edges(void **state)
{
    (void)state;
    static const uint8_t order[] = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
                                    0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
                                    0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
    CS_AUTO(crypto_signer) s = new_signer(CRYPTO_EC_P256);
    struct crypto_pub *pub = crypto_signer_pub(s);
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf good = {0};
    OK(crypto_sign(s, CRYPTO_ECDSA_SHA256, S("m"), &good, &e));
    struct cs_rd r = cs_rd_of(cs_buf_slice(&good)), seq;
    struct cs_slice n[2], zero = S("\x00"), one = S("\x01"), ord = cs_slice_of(order, sizeof order);
    assert_true(der_enter(&r, DER_SEQUENCE, &seq) && der_read_uint(&seq, &n[0]) &&
                der_read_uint(&seq, &n[1]));
    const struct cs_slice pairs[][2] = {{zero, n[1]}, {n[0], zero}, {zero, zero}, {ord, n[1]}, {n[0], ord},
                                        {one, one},   {n[1], n[0]}, {ord, zero},  {zero, ord}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf sig = {0};
        size_t mark = der_begin(&sig, DER_SEQUENCE);
        der_put_uint(&sig, pairs[i][0]);
        der_put_uint(&sig, pairs[i][1]);
        der_end(&sig, mark);
        assert_int_equal(crypto_verify(pub, CRYPTO_ECDSA_SHA256, S("m"), cs_buf_slice(&sig), NULL),
                         CS_DENIED);
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf bad = {0};
    cs_buf_add_slice(&bad, cs_buf_slice(&good));
    cs_buf_add_byte(&bad, 0); /* trailing byte */
    assert_int_equal(crypto_verify(pub, CRYPTO_ECDSA_SHA256, S("m"), cs_buf_slice(&bad), NULL), CS_DENIED);
    for (size_t len = 0; len < good.len; len++)
        assert_int_equal(crypto_verify(pub, CRYPTO_ECDSA_SHA256, S("m"), cs_slice_of(good.data, len), NULL),
                         CS_DENIED);
    cs_buf_reset(&bad); /* r padded with a needless zero byte: BER, not DER */
    size_t mark = der_begin(&bad, DER_SEQUENCE), num = der_begin(&bad, DER_INTEGER);
    cs_buf_add(&bad, "\0\0", 2);
    cs_buf_add_slice(&bad, n[0]);
    der_end(&bad, num);
    der_put_uint(&bad, n[1]);
    der_end(&bad, mark);
    assert_int_equal(crypto_verify(pub, CRYPTO_ECDSA_SHA256, S("m"), cs_buf_slice(&bad), NULL), CS_DENIED);
    cs_buf_reset(&bad); /* r negative */
    mark = der_begin(&bad, DER_SEQUENCE);
    der_put(&bad, DER_INTEGER, S("\x81"));
    der_put_uint(&bad, n[1]);
    der_end(&bad, mark);
    assert_int_equal(crypto_verify(pub, CRYPTO_ECDSA_SHA256, S("m"), cs_buf_slice(&bad), NULL), CS_DENIED);
}

static void public_keys(void **state)
{
    (void)state;
    struct cs_err e = {0};
    for (enum crypto_key_type t = CRYPTO_EC_P256; t <= CRYPTO_RSA_2048; t++) {
        CS_AUTO(crypto_signer) s = new_signer(t);
        CS_AUTO(crypto_pub) again = NULL;
        struct crypto_pub *p;
        struct cs_slice a, b, spki = crypto_pub_spki(crypto_signer_pub(s));
        crypto_pub_parts(crypto_signer_pub(s), &a, &b);
        if (t == CRYPTO_RSA_2048)
            OK(crypto_pub_from_rsa(a, b, &again, &e));
        else
            OK(crypto_pub_from_ec(t, a, b, &again, &e));
        assert_true(crypto_pub_equal(again, crypto_signer_pub(s)));
        assert_int_equal(crypto_pub_type(again), t);
        for (size_t n = 0; n < spki.len; n++)
            assert_int_equal(crypto_pub_parse(cs_slice_of(spki.data, n), &p, NULL), CS_INVALID);
        if (t == CRYPTO_RSA_2048)
            continue;
        uint8_t bent[200];
        memcpy(bent, spki.data, spki.len);
        bent[spki.len - 1] ^= 1; /* off the curve */
        FAILS(crypto_pub_parse(cs_slice_of(bent, spki.len), &p, &e), CS_INVALID,
              "x509: failed to unmarshal elliptic curve point");
    }
    struct crypto_pub *p;
    assert_int_equal(crypto_pub_from_rsa(S("\x03"), S("\x01\x00\x01"), &p, NULL), CS_INVALID);
    uint8_t n[256];
    memset(n, 0xff, sizeof n);
    assert_int_equal(crypto_pub_from_rsa(cs_slice_of(n, 256), S("\x02"), &p, NULL), CS_INVALID);
    assert_int_equal(crypto_pub_from_rsa(cs_slice_of(n, 256), S("\x01"), &p, NULL), CS_INVALID);
    n[255] = 0xfe;
    assert_int_equal(crypto_pub_from_rsa(cs_slice_of(n, 256), S("\x01\x00\x01"), &p, NULL), CS_INVALID);
    static const char infinity[] =
        "\x30\x19\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce"
        "\x3d\x03\x01\x07\x03\x02\x00\x00";
    assert_int_equal(crypto_pub_parse(S(infinity), &p, NULL), CS_INVALID);
}

static void digests(void **state)
{
    (void)state;
    struct cs_err e = {0};
    uint8_t one[CRYPTO_HASH_MAX], two[CRYPTO_HASH_MAX];
    for (enum crypto_hash h = CRYPTO_SHA1; h <= CRYPTO_SHA512; h++) {
        CS_AUTO(crypto_hasher) x = NULL;
        OK(crypto_digest(h, S("abc"), one, &e));
        OK(crypto_hasher_new(h, &x, &e));
        OK(crypto_hasher_add(x, S("a"), &e));
        OK(crypto_hasher_add(x, S("bc"), &e));
        OK(crypto_hasher_end(x, two, &e));
        assert_memory_equal(one, two, crypto_hash_len(h));
    }
    OK(crypto_digest(CRYPTO_SHA256, S("abc"), one, &e)); /* FIPS 180-4 example */
    assert_memory_equal(one, "\xba\x78\x16\xbf\x8f\x01\xcf\xea", 8);
    OK(crypto_digest(CRYPTO_SHA256, S(""), one, &e));
    assert_memory_equal(one, "\xe3\xb0\xc4\x42", 4);
}

/* One key and one certificate used by several threads at once: contexts are handed around, the certificate's
 * key is decoded by whoever comes first. */
struct shared {
    struct crypto_signer *signer;
    const struct x509_cert *cert;
};

static void *sign_many(void *arg)
{
    const struct shared *sh = arg;
    struct crypto_pub *pub;
    for (int i = 0; i < 50; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf sig = {0};
        if (x509_cert_pub(sh->cert, &pub, NULL) != CS_OK ||
            crypto_sign(sh->signer, CRYPTO_ECDSA_SHA256, S("m"), &sig, NULL) != CS_OK ||
            crypto_verify(pub, CRYPTO_ECDSA_SHA256, S("m"), cs_buf_slice(&sig), NULL) != CS_OK)
            return NULL;
    }
    return arg;
}

static void threads(void **state)
{
    (void)state;
    struct authority ca = new_authority(NULL, "root", 0, 1, (struct cs_slice){0});
    CS_AUTO(x509_cert) fresh = NULL;
    struct cs_err e = {0};
    OK(x509_cert_parse(ca.cert->der, &fresh, &e));
    struct shared sh = {ca.signer, fresh};
    pthread_t t[12]; /* more than there are contexts to keep */
    for (size_t i = 0; i < 12; i++)
        assert_int_equal(pthread_create(&t[i], NULL, sign_many, &sh), 0);
    for (size_t i = 0; i < 12; i++) {
        void *result;
        pthread_join(t[i], &result);
        assert_ptr_equal(result, &sh);
    }
    free_authority(&ca);
}

static bool count_down(void *arg)
{
    int *left = arg;
    return --*left <= 0;
}

static void generating_can_be_stopped(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct crypto_key *k = NULL;
    int left = 3; /* finding primes of 2048 bits takes hundreds of steps */
    const struct crypto_stop stop = {count_down, &left};
    FAILS(crypto_key_generate_until(CRYPTO_RSA_4096, &stop, &k, &e), CS_CANCELLED,
          "stopped while generating a key");
    assert_null(k);
    assert_true(left <= 0 && left > -200); /* a few are asked in vain, until the next primality test */
    left = 1 << 30;
    OK(crypto_key_generate_until(CRYPTO_RSA_2048, &stop, &k, &e));
    assert_true(left < 1 << 30);
    crypto_key_unref(k);
}

/* --- Keys that are elsewhere --- */

struct elsewhere {
    struct crypto_signer *real;
    bool lie;
    bool gone;
};

static cs_code sign_elsewhere(void *ctx, enum crypto_sig alg, struct cs_slice digest, struct cs_buf *out,
                              struct cs_err *e)
{
    const struct elsewhere *w = ctx;
    if (w->gone)
        return cs_fail(e, CS_UNAVAILABLE, "keymanager(x): gone");
    /* what a real KeyManager does with its key, through OpenSSL */
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(crypto_key_pkey(crypto_signer_key(w->real)), NULL);
    uint8_t sig[512];
    size_t n = sizeof sig;
    assert_int_equal(EVP_PKEY_sign_init(c), 1);
    assert_int_equal(EVP_PKEY_CTX_set_signature_md(c, EVP_sha256()), 1);
    assert_int_equal(EVP_PKEY_sign(c, sig, &n, digest.data, digest.len), 1);
    EVP_PKEY_CTX_free(c);
    if (w->lie)
        sig[n - 1] ^= 1;
    assert_int_equal(alg, CRYPTO_ECDSA_SHA256);
    cs_buf_add(out, sig, n);
    return CS_OK;
}

static void nothing_to_free(void *ctx)
{
    (void)ctx;
}

static void signatures_of_others_are_verified(void **state)
{
    (void)state;
    static const struct crypto_signer_ops ops = {sign_elsewhere, nothing_to_free};
    struct cs_err e = {0};
    struct crypto_key *key = NULL;
    struct elsewhere w = {0};
    struct crypto_signer *remote = NULL;
    OK(crypto_key_generate(CRYPTO_EC_P256, &key, &e));
    OK(crypto_signer_of_key(key, &w.real, &e));
    OK(crypto_signer_new(&ops, &w, crypto_key_pub(key), &remote, &e));
    assert_null(crypto_signer_key(remote));
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    cs_buf_add_str(&out, "message");
    /* the message may be in the buffer that grows */
    OK(crypto_sign(remote, CRYPTO_ECDSA_SHA256, cs_buf_slice(&out), &out, &e));
    OK(crypto_verify(crypto_key_pub(key), CRYPTO_ECDSA_SHA256, S("message"),
                     cs_slice_of(out.data + 7, out.len - 7), &e));
    size_t before = out.len;
    w.lie = true;
    FAILS(crypto_sign(remote, CRYPTO_ECDSA_SHA256, S("message"), &out, &e), CS_INTERNAL,
          "signature returned by signer is invalid: signature is wrong");
    w.gone = true;
    FAILS(crypto_sign(remote, CRYPTO_ECDSA_SHA256, S("message"), &out, &e), CS_UNAVAILABLE,
          "keymanager(x): gone");
    assert_int_equal(out.len, before);
    crypto_signer_unref(remote);
    crypto_signer_unref(w.real);
    crypto_key_unref(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(files),
        cmocka_unit_test(refused_files),
        cmocka_unit_test(sign_and_verify),
        cmocka_unit_test(ecdsa_edges),
        cmocka_unit_test(public_keys),
        cmocka_unit_test(digests),
        cmocka_unit_test(threads),
        cmocka_unit_test(generating_can_be_stopped),
        cmocka_unit_test(signatures_of_others_are_verified),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
