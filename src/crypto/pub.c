/* SPDX-License-Identifier: Apache-2.0
 *
 * Public keys. OpenSSL's own SPKI reader walks every decoder it has (some hundred microseconds); we read the
 * structure ourselves and hand it only the point or the numbers. A duplicate of an empty curve key that is
 * given the point costs 5 µs, EVP_PKEY_fromdata 19-43 µs.
 */
#include "crypto/der.h"
#include "crypto/sig.h"
#include "crypto/ssl.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdatomic.h>

struct crypto_pub {
    atomic_uint refs;
    enum crypto_key_type type;
    int bits;
    EVP_PKEY *pkey;
    struct cs_slice a, b; /* into spki: x and y, n and e, or the Ed25519 key */
    size_t spki_len;
    uint8_t spki[];
};

static const uint8_t oid_ec[] = {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01};
static const uint8_t oid_rsa[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01};
static const uint8_t oid_ed25519[] = {0x2b, 0x65, 0x70};
static const struct curve {
    enum crypto_key_type type;
    int bits;
    size_t size; /* bytes of a coordinate */
    uint8_t oid_len, oid[8];
} curves[] = {
    {CRYPTO_EC_P256, 256, 32, 8, {0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}},
    {CRYPTO_EC_P384, 384, 48, 5, {0x2b, 0x81, 0x04, 0x00, 0x22}},
    {CRYPTO_EC_P521, 521, 66, 5, {0x2b, 0x81, 0x04, 0x00, 0x23}},
};

static cs_code unsupported(struct cs_err *e)
{
    return crypto_ssl_fail(e, CS_INVALID, "x509: unsupported public key");
}

static cs_code invalid_point(struct cs_err *e)
{
    return crypto_ssl_fail(e, CS_INVALID, "x509: failed to unmarshal elliptic curve point");
}

/* RFC 5480: named curve, uncompressed point. */
static cs_code load_ec(struct crypto_pub *p, struct cs_rd params, struct cs_slice bits, struct cs_err *e)
{
    struct cs_slice oid;
    if (!der_read(&params, DER_OID, &oid) || cs_rd_left(&params) != 0)
        return cs_fail(e, CS_INVALID, "x509: failed to parse ECDSA parameters as named curve");
    const struct curve *c = NULL;
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++)
        if (cs_slice_eq(oid, cs_slice_of(curves[i].oid, curves[i].oid_len)))
            c = &curves[i];
    if (c == NULL)
        return cs_fail(e, CS_INVALID, "x509: unsupported elliptic curve");
    if (bits.len != 1 + 2 * c->size || bits.data[0] != 4)
        return invalid_point(e);
    EVP_PKEY *empty = crypto_curve(c->type);
    p->pkey = empty == NULL ? NULL : EVP_PKEY_dup(empty);
    if (p->pkey == NULL)
        return cs_nomem(e);
    if (EVP_PKEY_set1_encoded_public_key(p->pkey, bits.data, bits.len) != 1)
        return invalid_point(e);
    p->type = c->type;
    p->bits = c->bits;
    p->a = cs_slice_of(bits.data + 1, c->size);
    p->b = cs_slice_of(bits.data + 1 + c->size, c->size);
    return CS_OK;
}

static int bit_length(struct cs_slice n)
{
    int bits = (int)n.len * 8;
    for (uint8_t top = n.data[0]; bits > 0 && top < 0x80; top = (uint8_t)(top << 1 | 1))
        bits--;
    return bits;
}

#define RSA_MAX_BITS 8192

static cs_code rsa_from_numbers(struct cs_slice n, struct cs_slice exp, EVP_PKEY **out)
{
    uint8_t le_n[RSA_MAX_BITS / 8], le_e[4];
    for (size_t i = 0; i < n.len; i++)
        le_n[i] = n.data[n.len - 1 - i];
    for (size_t i = 0; i < exp.len; i++)
        le_e[i] = exp.data[exp.len - 1 - i];
        /* numbers travel in the machine's byte order */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint8_t *pn = le_n, *pe = le_e;
#else
    uint8_t *pn = (uint8_t *)(uintptr_t)n.data, *pe = (uint8_t *)(uintptr_t)exp.data;
#endif
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_N, pn, n.len),
        OSSL_PARAM_construct_BN(OSSL_PKEY_PARAM_RSA_E, pe, exp.len),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    bool ok = ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, out, EVP_PKEY_PUBLIC_KEY, params) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok ? CS_OK : CS_INVALID;
}

/* RFC 3279 section 2.3.1. */
static cs_code load_rsa(struct crypto_pub *p, struct cs_rd params, struct cs_slice bits, struct cs_err *e)
{
    struct cs_slice null, n, exp;
    if (!der_read(&params, DER_NULL, &null) || null.len != 0 || cs_rd_left(&params) != 0)
        return cs_fail(e, CS_INVALID, "x509: RSA key missing NULL parameters");
    struct cs_rd r = cs_rd_of(bits), seq;
    if (!der_enter(&r, DER_SEQUENCE, &seq) || cs_rd_left(&r) != 0)
        return cs_fail(e, CS_INVALID, "x509: invalid RSA public key");
    if (!der_read_uint(&seq, &n))
        return cs_fail(e, CS_INVALID, "x509: invalid RSA modulus");
    if (!der_read_uint(&seq, &exp) || cs_rd_left(&seq) != 0)
        return cs_fail(e, CS_INVALID, "x509: invalid RSA public exponent");
    if (exp.len > 4 || (exp.len == 4 && exp.data[0] >= 0x80) || (exp.data[exp.len - 1] & 1) == 0 ||
        (exp.len == 1 && exp.data[0] < 3))
        return cs_fail(e, CS_INVALID, "x509: invalid RSA public exponent");
    p->bits = bit_length(n);
    if (p->bits < 1024 || p->bits > RSA_MAX_BITS || (n.data[n.len - 1] & 1) == 0)
        return cs_fail(e, CS_INVALID, "x509: RSA modulus of %d bits is not accepted", p->bits);
    if (rsa_from_numbers(n, exp, &p->pkey) != CS_OK)
        return unsupported(e);
    p->type = p->bits == 2048 ? CRYPTO_RSA_2048 : p->bits == 4096 ? CRYPTO_RSA_4096 : CRYPTO_RSA_OTHER;
    p->a = n;
    p->b = exp;
    return CS_OK;
}

/* RFC 8410. */
static cs_code load_ed25519(struct crypto_pub *p, struct cs_rd params, struct cs_slice bits, struct cs_err *e)
{
    if (cs_rd_left(&params) != 0)
        return cs_fail(e, CS_INVALID, "x509: Ed25519 key encoded with illegal parameters");
    if (bits.len != 32)
        return cs_fail(e, CS_INVALID, "x509: wrong Ed25519 public key size");
    p->pkey = EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, bits.data, bits.len);
    if (p->pkey == NULL)
        return unsupported(e);
    p->type = CRYPTO_ED25519;
    p->bits = 256;
    p->a = bits;
    return CS_OK;
}

/* SubjectPublicKeyInfo ::= SEQUENCE { algorithm AlgorithmIdentifier, subjectPublicKey BIT STRING } */
static bool split_spki(struct cs_slice spki, struct cs_slice *oid, struct cs_rd *params,
                       struct cs_slice *bits)
{
    struct cs_rd r = cs_rd_of(spki), seq;
    return der_enter(&r, DER_SEQUENCE, &seq) && cs_rd_left(&r) == 0 &&
           der_enter(&seq, DER_SEQUENCE, params) && der_read(params, DER_OID, oid) &&
           der_read_octet_bits(&seq, bits) && cs_rd_left(&seq) == 0;
}

cs_code crypto_pub_parse(struct cs_slice spki, struct crypto_pub **out, struct cs_err *e)
{
    *out = NULL;
    if (spki.len > 4096)
        return cs_fail(e, CS_INVALID, "x509: public key is too long");
    CS_AUTO(crypto_pub) p = cs_calloc(1, sizeof *p + spki.len);
    if (p == NULL)
        return cs_nomem(e);
    atomic_init(&p->refs, 1);
    p->spki_len = spki.len;
    if (spki.len > 0)
        memcpy(p->spki, spki.data, spki.len);
    struct cs_slice oid, bits;
    struct cs_rd params;
    if (!split_spki(crypto_pub_spki(p), &oid, &params, &bits))
        return cs_fail(e, CS_INVALID, "x509: malformed public key");
    if (cs_slice_eq(oid, cs_slice_of(oid_ec, sizeof oid_ec)))
        CS_TRY(load_ec(p, params, bits, e));
    else if (cs_slice_eq(oid, cs_slice_of(oid_rsa, sizeof oid_rsa)))
        CS_TRY(load_rsa(p, params, bits, e));
    else if (cs_slice_eq(oid, cs_slice_of(oid_ed25519, sizeof oid_ed25519)))
        CS_TRY(load_ed25519(p, params, bits, e));
    else
        return unsupported(e);
    *out = CS_MOVE(p);
    return CS_OK;
}

cs_code crypto_pub_from_ec(enum crypto_key_type curve, struct cs_slice x, struct cs_slice y,
                           struct crypto_pub **out, struct cs_err *e)
{
    *out = NULL;
    const struct curve *c = NULL;
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++)
        if (curves[i].type == curve)
            c = &curves[i];
    if (c == NULL || x.len != c->size || y.len != c->size)
        return invalid_point(e);
    uint8_t point[1 + 2 * 66];
    point[0] = 4;
    memcpy(point + 1, x.data, c->size);
    memcpy(point + 1 + c->size, y.data, c->size);
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    size_t seq = der_begin(&der, DER_SEQUENCE), alg = der_begin(&der, DER_SEQUENCE);
    der_put(&der, DER_OID, cs_slice_of(oid_ec, sizeof oid_ec));
    der_put(&der, DER_OID, cs_slice_of(c->oid, c->oid_len));
    der_end(&der, alg);
    der_put_bits(&der, cs_slice_of(point, 1 + 2 * c->size));
    der_end(&der, seq);
    if (!cs_buf_ok(&der))
        return cs_nomem(e);
    return crypto_pub_parse(cs_buf_slice(&der), out, e);
}

cs_code crypto_pub_from_ed25519(struct cs_slice x, struct crypto_pub **out, struct cs_err *e)
{
    *out = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    size_t seq = der_begin(&der, DER_SEQUENCE), alg = der_begin(&der, DER_SEQUENCE);
    der_put(&der, DER_OID, cs_slice_of(oid_ed25519, sizeof oid_ed25519));
    der_end(&der, alg);
    der_put_bits(&der, x);
    der_end(&der, seq);
    if (!cs_buf_ok(&der))
        return cs_nomem(e);
    return crypto_pub_parse(cs_buf_slice(&der), out, e);
}

cs_code crypto_pub_from_rsa(struct cs_slice n, struct cs_slice exp, struct crypto_pub **out, struct cs_err *e)
{
    *out = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf key = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    size_t inner = der_begin(&key, DER_SEQUENCE);
    der_put_uint(&key, n);
    der_put_uint(&key, exp);
    der_end(&key, inner);
    size_t seq = der_begin(&der, DER_SEQUENCE), alg = der_begin(&der, DER_SEQUENCE);
    der_put(&der, DER_OID, cs_slice_of(oid_rsa, sizeof oid_rsa));
    der_put(&der, DER_NULL, (struct cs_slice){0});
    der_end(&der, alg);
    der_put_bits(&der, cs_buf_slice(&key));
    der_end(&der, seq);
    if (!cs_buf_ok(&der) || !cs_buf_ok(&key))
        return cs_nomem(e);
    return crypto_pub_parse(cs_buf_slice(&der), out, e);
}

struct crypto_pub *crypto_pub_ref(struct crypto_pub *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void crypto_pub_unref(struct crypto_pub *p)
{
    if (p == NULL || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    EVP_PKEY_free(p->pkey);
    cs_free(p);
}

enum crypto_key_type crypto_pub_type(const struct crypto_pub *p)
{
    return p->type;
}
int crypto_pub_bits(const struct crypto_pub *p)
{
    return p->bits;
}
struct cs_slice crypto_pub_spki(const struct crypto_pub *p)
{
    return cs_slice_of(p->spki, p->spki_len);
}

void crypto_pub_parts(const struct crypto_pub *p, struct cs_slice *a, struct cs_slice *b)
{
    *a = p->a;
    *b = p->b;
}

cs_code crypto_key_id(struct cs_slice spki, uint8_t out[20], struct cs_err *e)
{
    struct cs_slice oid, bits;
    struct cs_rd params;
    if (!split_spki(spki, &oid, &params, &bits))
        return cs_fail(e, CS_INVALID, "x509: malformed public key");
    return crypto_digest(CRYPTO_SHA1, bits, out, e);
}

static int verify_ed25519(EVP_PKEY *key, struct cs_slice msg, struct cs_slice sig)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int right = 0;
    if (ctx != NULL && EVP_DigestVerifyInit_ex(ctx, NULL, NULL, NULL, NULL, key, NULL) == 1)
        right = EVP_DigestVerify(ctx, sig.data, sig.len, msg.data, msg.len) == 1;
    EVP_MD_CTX_free(ctx);
    return right;
}

cs_code crypto_verify_digest(const struct crypto_pub *p, enum crypto_sig alg, struct cs_slice digest,
                             struct cs_slice sig, struct cs_err *e)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, p->pkey, NULL);
    if (ctx == NULL || EVP_PKEY_verify_init(ctx) != 1 || !crypto_set_padding(ctx, alg)) {
        EVP_PKEY_CTX_free(ctx);
        return crypto_ssl_fail(e, CS_INTERNAL, "signature verification cannot start");
    }
    const bool right = EVP_PKEY_verify(ctx, sig.data, sig.len, digest.data, digest.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    return right ? CS_OK : crypto_ssl_fail(e, CS_DENIED, "signature is wrong");
}

cs_code crypto_verify(const struct crypto_pub *p, enum crypto_sig alg, struct cs_slice msg,
                      struct cs_slice sig, struct cs_err *e)
{
    if (!crypto_sig_fits(alg, p->type))
        return cs_fail(e, CS_INVALID, "signature scheme does not fit a key of type %s",
                       crypto_key_type_name(p->type));
    if (alg == CRYPTO_SIG_ED25519)
        return verify_ed25519(p->pkey, msg, sig) ? CS_OK
                                                 : crypto_ssl_fail(e, CS_DENIED, "signature is wrong");
    uint8_t digest[CRYPTO_HASH_MAX];
    enum crypto_hash h = crypto_sig_hash(alg);
    CS_TRY(crypto_digest(h, msg, digest, e));
    return crypto_verify_digest(p, alg, cs_slice_of(digest, crypto_hash_len(h)), sig, e);
}
