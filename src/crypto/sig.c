/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/sig.h"

#include "crypto/der.h"

struct oid {
    const uint8_t *der;
    size_t len;
};
#define OID(...)                                                                                             \
    {                                                                                                        \
        (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})                               \
    }

static const struct {
    enum crypto_sig sig;
    struct oid oid;
    bool null_params; /* written with, and read with or without */
} schemes[] = {
    {CRYPTO_ECDSA_SHA256, OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02), false},
    {CRYPTO_ECDSA_SHA384, OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03), false},
    {CRYPTO_ECDSA_SHA512, OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04), false},
    {CRYPTO_RSA_SHA256, OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b), true},
    {CRYPTO_RSA_SHA384, OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c), true},
    {CRYPTO_RSA_SHA512, OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d), true},
    {CRYPTO_SIG_ED25519, OID(0x2b, 0x65, 0x70), false},
};

static const struct {
    const char *name;
    struct oid oid;
} insecure[] = {
    {"MD5-RSA", OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04)},
    {"SHA1-RSA", OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05)},
    {"SHA1-RSA", OID(0x2b, 0x0e, 0x03, 0x02, 0x1d)},
    {"ECDSA-SHA1", OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01)},
};

static const struct oid pss_oid = OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a);
static const struct oid mgf1_oid = OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08);
static const struct {
    enum crypto_sig sig;
    struct oid hash;
    uint32_t salt;
} pss[] = {
    {CRYPTO_PSS_SHA256, OID(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01), 32},
    {CRYPTO_PSS_SHA384, OID(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02), 48},
    {CRYPTO_PSS_SHA512, OID(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03), 64},
};

static bool oid_is(struct cs_slice got, struct oid want)
{
    return cs_slice_eq(got, cs_slice_of(want.der, want.len));
}

/* Nothing, or NULL, behind the OID of an AlgorithmIdentifier. */
static bool params_empty(struct cs_rd r, bool null_allowed)
{
    struct cs_slice null;
    if (null_allowed && der_peek(&r, DER_NULL) && (!der_read(&r, DER_NULL, &null) || null.len != 0))
        return false;
    return cs_rd_left(&r) == 0;
}

/* AlgorithmIdentifier of a digest; its index in pss[], or -1. */
static int read_hash(struct cs_rd *r)
{
    struct cs_rd alg;
    struct cs_slice oid;
    if (!der_enter(r, DER_SEQUENCE, &alg) || !der_read(&alg, DER_OID, &oid) || !params_empty(alg, true))
        return -1;
    for (size_t i = 0; i < sizeof pss / sizeof pss[0]; i++)
        if (oid_is(oid, pss[i].hash))
            return (int)i;
    return -1;
}

/* RSASSA-PSS-params (RFC 4055 section 3.1): only the shapes where digest, MGF1 digest and salt length go
 * together, as Go accepts them. The trailer field may be left out or be 1. */
static enum crypto_sig read_pss(struct cs_rd r)
{
    struct cs_rd seq, hash, mgf, salt, trailer;
    struct cs_slice oid;
    uint32_t n = 0, one = 0;
    if (!der_enter(&r, DER_SEQUENCE, &seq) || cs_rd_left(&r) != 0 ||
        !der_enter(&seq, DER_CONTEXT_CONS(0), &hash) || !der_enter(&seq, DER_CONTEXT_CONS(1), &mgf) ||
        !der_enter(&seq, DER_CONTEXT_CONS(2), &salt))
        return CRYPTO_SIG_NONE;
    if (cs_rd_left(&seq) > 0 && (!der_enter(&seq, DER_CONTEXT_CONS(3), &trailer) ||
                                 !der_read_small(&trailer, &one) || one != 1 || cs_rd_left(&trailer) != 0))
        return CRYPTO_SIG_NONE;
    int digest = read_hash(&hash);
    struct cs_rd mgf_alg;
    if (digest < 0 || cs_rd_left(&hash) != 0 || cs_rd_left(&seq) != 0 ||
        !der_enter(&mgf, DER_SEQUENCE, &mgf_alg) || cs_rd_left(&mgf) != 0 ||
        !der_read(&mgf_alg, DER_OID, &oid) || !oid_is(oid, mgf1_oid) || read_hash(&mgf_alg) != digest ||
        cs_rd_left(&mgf_alg) != 0 || !der_read_small(&salt, &n) || cs_rd_left(&salt) != 0 ||
        n != pss[digest].salt)
        return CRYPTO_SIG_NONE;
    return pss[digest].sig;
}

enum crypto_sig crypto_sig_from_der(struct cs_slice algorithm)
{
    struct cs_rd r = cs_rd_of(algorithm);
    struct cs_slice oid;
    if (!der_read(&r, DER_OID, &oid))
        return CRYPTO_SIG_NONE;
    if (oid_is(oid, pss_oid))
        return read_pss(r);
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (oid_is(oid, schemes[i].oid))
            return params_empty(r, schemes[i].sig != CRYPTO_SIG_ED25519) ? schemes[i].sig : CRYPTO_SIG_NONE;
    return CRYPTO_SIG_NONE;
}

const char *crypto_sig_insecure_name(struct cs_slice algorithm)
{
    struct cs_rd r = cs_rd_of(algorithm);
    struct cs_slice oid;
    if (!der_read(&r, DER_OID, &oid))
        return NULL;
    for (size_t i = 0; i < sizeof insecure / sizeof insecure[0]; i++)
        if (oid_is(oid, insecure[i].oid))
            return insecure[i].name;
    return NULL;
}

void crypto_sig_to_der(struct cs_buf *out, enum crypto_sig s)
{
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (schemes[i].sig != s)
            continue;
        size_t seq = der_begin(out, DER_SEQUENCE);
        der_put(out, DER_OID, cs_slice_of(schemes[i].oid.der, schemes[i].oid.len));
        if (schemes[i].null_params)
            der_put(out, DER_NULL, (struct cs_slice){0});
        der_end(out, seq);
        return;
    }
    out->failed = true;
}

bool crypto_sig_is_ecdsa(enum crypto_sig s)
{
    return s == CRYPTO_ECDSA_SHA256 || s == CRYPTO_ECDSA_SHA384 || s == CRYPTO_ECDSA_SHA512;
}

bool crypto_sig_is_pss(enum crypto_sig s)
{
    return s == CRYPTO_PSS_SHA256 || s == CRYPTO_PSS_SHA384 || s == CRYPTO_PSS_SHA512;
}

bool crypto_sig_fits(enum crypto_sig s, enum crypto_key_type t)
{
    switch (t) {
    case CRYPTO_EC_P256:
    case CRYPTO_EC_P384:
    case CRYPTO_EC_P521:
        return crypto_sig_is_ecdsa(s);
    case CRYPTO_RSA_2048:
    case CRYPTO_RSA_4096:
    case CRYPTO_RSA_OTHER:
        return s >= CRYPTO_RSA_SHA256 && s <= CRYPTO_PSS_SHA512;
    case CRYPTO_ED25519:
        return s == CRYPTO_SIG_ED25519;
    case CRYPTO_KEY_NONE:
        break;
    }
    return false;
}

enum crypto_hash crypto_sig_hash(enum crypto_sig s)
{
    switch (s) {
    case CRYPTO_ECDSA_SHA256:
    case CRYPTO_RSA_SHA256:
    case CRYPTO_PSS_SHA256:
        return CRYPTO_SHA256;
    case CRYPTO_ECDSA_SHA384:
    case CRYPTO_RSA_SHA384:
    case CRYPTO_PSS_SHA384:
        return CRYPTO_SHA384;
    default:
        return CRYPTO_SHA512;
    }
}

enum crypto_sig crypto_sig_default(enum crypto_key_type t)
{
    switch (t) {
    case CRYPTO_EC_P256:
        return CRYPTO_ECDSA_SHA256;
    case CRYPTO_EC_P384:
        return CRYPTO_ECDSA_SHA384;
    case CRYPTO_EC_P521:
        return CRYPTO_ECDSA_SHA512;
    case CRYPTO_RSA_2048:
    case CRYPTO_RSA_4096:
    case CRYPTO_RSA_OTHER:
        return CRYPTO_RSA_SHA256;
    default:
        return CRYPTO_SIG_NONE;
    }
}
