/* SPDX-License-Identifier: Apache-2.0
 *
 * ECDSA verification on P-384 against OpenSSL's arithmetic: signatures made backwards from chosen multiples,
 * so that every odd meeting of points happens, and the vectors of RFC 6979. fuzz/crypto_p384.c compares at
 * random.
 */
#include "base/text.h"
#include "crypto/p384.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct math {
    EC_GROUP *group;
    BN_CTX *ctx;
    const BIGNUM *n;
};

static int setup(void **state)
{
    struct math *m = calloc(1, sizeof *m);
    m->group = EC_GROUP_new_by_curve_name(NID_secp384r1);
    m->ctx = BN_CTX_new();
    m->n = EC_GROUP_get0_order(m->group);
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct math *m = *state;
    EC_GROUP_free(m->group);
    BN_CTX_free(m->ctx);
    free(m);
    return 0;
}

/* small, or n + small when it is negative */
static BIGNUM *number(const struct math *m, long small)
{
    BIGNUM *b = BN_new();
    assert_true(BN_set_word(b, (BN_ULONG)labs(small)) == 1);
    if (small < 0)
        assert_true(BN_sub(b, m->n, b) == 1);
    return b;
}

/* Affine x and y of k times the generator; false: the point at infinity. */
static bool multiple(const struct math *m, const BIGNUM *k, uint8_t out[96])
{
    EC_POINT *point = EC_POINT_new(m->group);
    BIGNUM *x = BN_new(), *y = BN_new();
    assert_true(EC_POINT_mul(m->group, point, k, NULL, NULL, m->ctx) == 1);
    const bool finite = EC_POINT_is_at_infinity(m->group, point) == 0;
    if (finite) {
        assert_true(EC_POINT_get_affine_coordinates(m->group, point, x, y, m->ctx) == 1);
        assert_int_equal(BN_bn2binpad(x, out, 48), 48);
        assert_int_equal(BN_bn2binpad(y, out + 48, 48), 48);
    }
    EC_POINT_free(point);
    BN_free(x);
    BN_free(y);
    return finite;
}

static struct crypto_pub *public_of(const struct math *m, const BIGNUM *d)
{
    uint8_t point[96];
    struct crypto_pub *pub = NULL;
    struct cs_err e;
    assert_true(multiple(m, d, point));
    assert_int_equal(
        crypto_pub_from_ec(CRYPTO_EC_P384, cs_slice_of(point, 48), cs_slice_of(point + 48, 48), &pub, &e),
        CS_OK);
    return pub;
}

static cs_code verify(const struct crypto_pub *pub, const uint8_t digest[48], const uint8_t sig[96])
{
    struct cs_err e;
    return p384_verify(pub, cs_slice_of(digest, 48), cs_slice_of(sig, 96), &e);
}

/* The signature that leads to u1 G + u2 Q with Q = d G: r = x of (u1 + u2 d) G, s = r/u2, digest = u1 s. */
static void check_multiples(const struct math *m, long u1_small, long u2_small, long d_small)
{
    BIGNUM *u1 = number(m, u1_small), *u2 = number(m, u2_small), *d = number(m, d_small);
    BIGNUM *k = BN_new(), *r = BN_new(), *s = BN_new(), *e = BN_new();
    CS_AUTO(crypto_pub) pub = public_of(m, d);
    uint8_t point[96], digest[48], sig[96];
    assert_true(BN_mod_mul(k, u2, d, m->n, m->ctx) == 1 && BN_mod_add(k, k, u1, m->n, m->ctx) == 1);
    const bool finite = multiple(m, k, point);
    if (finite)
        assert_true(BN_bin2bn(point, 48, r) != NULL && BN_nnmod(r, r, m->n, m->ctx) == 1);
    else
        assert_true(BN_set_word(r, 5) == 1); /* any: infinity has no x */
    assert_non_null(BN_mod_inverse(s, u2, m->n, m->ctx));
    assert_true(BN_mod_mul(s, s, r, m->n, m->ctx) == 1 && BN_mod_mul(e, u1, s, m->n, m->ctx) == 1);
    assert_int_equal(BN_bn2binpad(r, sig, 48), 48);
    assert_int_equal(BN_bn2binpad(s, sig + 48, 48), 48);
    assert_int_equal(BN_bn2binpad(e, digest, 48), 48);
    /* Nettle does not add a point to itself or its opposite at the end, and refuses: a signature like that
     * can only be made on purpose, by who has the private key. */
    BIGNUM *of_q = BN_new();
    assert_true(BN_mod_mul(of_q, u2, d, m->n, m->ctx) == 1);
    const bool meet = BN_cmp(u1, of_q) == 0;
    BN_free(of_q);
    const cs_code code = verify(pub, digest, sig);
    if (code != (finite ? CS_OK : CS_DENIED) && !(meet && code == CS_DENIED))
        fail_msg("u1 %ld, u2 %ld, d %ld", u1_small, u2_small, d_small);
    sig[47] ^= 1;
    assert_int_equal(verify(pub, digest, sig), CS_DENIED);
    BIGNUM *all[] = {u1, u2, d, k, r, s, e};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        BN_free(all[i]);
}

static void every_meeting_of_points(void **state)
{
    static const long small[] = {1, 2, 3, 4, 15, 16, 17, 32, -1, -2, -3, -16, -17, -32};
    static const long keys[] = {1, 2, 16, -1};
    const size_t count = sizeof small / sizeof small[0];
    const struct math *m = *state;
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        for (size_t j = 0; j < count; j++) {
            check_multiples(m, 0, small[j], keys[k]); /* a digest of zeros */
            for (size_t i = 0; i < count; i++)
                check_multiples(m, small[i], small[j], keys[k]);
        }
    }
}

static void hex(const char *text, uint8_t *out)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    struct cs_err e;
    assert_int_equal(cs_hex_decode(&b, cs_slice_str(text), &e), CS_OK);
    memcpy(out, b.data, b.len);
}

/* RFC 6979 appendix A.2.6, SHA-384. */
static void vectors_of_rfc6979(void **state)
{
    static const char x[] =
        "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13";
    static const char y[] =
        "8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344fd2533264720";
    static const struct {
        const char *message, *r, *s;
    } v[] = {
        {"sample",
         "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46",
         "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8"},
        {"test",
         "8203b63d3c853e8d77227fb377bcf7b7b772e97892a80f36ab775d509d7a5feb0542a7f0812998da8f1dd3ca3cf023db",
         "ddd0760448d42d8a43af45af836fce4de8be06b485e9b61b827c2f13173923e06a739f040649a667bf3b828246baa5a5"},
    };
    uint8_t point[96], sig[96], digest[48];
    struct cs_err e;
    CS_AUTO(crypto_pub) pub = NULL;
    (void)state;
    hex(x, point);
    hex(y, point + 48);
    assert_int_equal(
        crypto_pub_from_ec(CRYPTO_EC_P384, cs_slice_of(point, 48), cs_slice_of(point + 48, 48), &pub, &e),
        CS_OK);
    for (size_t i = 0; i < 2; i++) {
        hex(v[i].r, sig);
        hex(v[i].s, sig + 48);
        assert_int_equal(crypto_digest(CRYPTO_SHA384, cs_slice_str(v[i].message), digest, &e), CS_OK);
        assert_int_equal(verify(pub, digest, sig), CS_OK);
        digest[0] ^= 0x80;
        assert_int_equal(verify(pub, digest, sig), CS_DENIED);
    }
}

/* r and s must be 1 to n - 1; r + n stands for r only where it is an x. */
static void numbers_out_of_range(void **state)
{
    static const char n[] =
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";
    const struct math *m = *state;
    BIGNUM *d = number(m, 7);
    CS_AUTO(crypto_pub) pub = public_of(m, d);
    uint8_t digest[48] = {1}, sig[96], order[48], most[48];
    BN_free(d);
    hex(n, order);
    memset(most, 0xff, sizeof most);
    const uint8_t *const odd[] = {order, most};
    memset(sig, 0, sizeof sig);
    assert_int_equal(verify(pub, digest, sig), CS_DENIED);
    for (int half = 0; half < 2; half++) {
        memset(sig, 0, sizeof sig);
        sig[half == 0 ? 47 : 95] = 1; /* the other is zero */
        assert_int_equal(verify(pub, digest, sig), CS_DENIED);
        for (size_t i = 0; i < 2; i++) {
            memcpy(sig + (half == 0 ? 48 : 0), odd[i], 48);
            assert_int_equal(verify(pub, digest, sig), CS_DENIED);
        }
    }
    struct cs_err e;
    assert_int_equal(p384_verify(pub, cs_slice_of(digest, 47), cs_slice_of(sig, 96), &e), CS_INVALID);
    assert_int_equal(p384_verify(pub, cs_slice_of(digest, 48), cs_slice_of(sig, 95), &e), CS_INVALID);
    CS_AUTO(crypto_key) p256 = NULL;
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &p256, &e), CS_OK);
    assert_int_equal(p384_verify(crypto_key_pub(p256), cs_slice_of(digest, 48), cs_slice_of(sig, 96), &e),
                     CS_INVALID);
}

static void what_openssl_signs(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        CS_AUTO(crypto_key) key = NULL;
        CS_AUTO(crypto_signer) signer = NULL;
        CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
        uint8_t digest[48], message[8] = {(uint8_t)i};
        struct cs_err e;
        const struct cs_slice msg = cs_slice_of(message, sizeof message);
        assert_int_equal(crypto_key_generate(CRYPTO_EC_P384, &key, &e), CS_OK);
        assert_int_equal(crypto_signer_of_key(key, &signer, &e), CS_OK);
        assert_int_equal(crypto_sign(signer, CRYPTO_ECDSA_SHA384, msg, &der, &e), CS_OK);
        assert_int_equal(crypto_digest(CRYPTO_SHA384, msg, digest, &e), CS_OK);
        const unsigned char *at = der.data;
        ECDSA_SIG *parsed = d2i_ECDSA_SIG(NULL, &at, (long)der.len);
        uint8_t sig[96];
        assert_non_null(parsed);
        assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(parsed), sig, 48), 48);
        assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(parsed), sig + 48, 48), 48);
        ECDSA_SIG_free(parsed);
        assert_int_equal(verify(crypto_key_pub(key), digest, sig), CS_OK);
        sig[i % 96] ^= 1;
        assert_int_equal(verify(crypto_key_pub(key), digest, sig), CS_DENIED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_meeting_of_points),
        cmocka_unit_test(vectors_of_rfc6979),
        cmocka_unit_test(numbers_out_of_range),
        cmocka_unit_test(what_openssl_signs),
    };
    return cmocka_run_group_tests_name("p384", tests, setup, teardown);
}
