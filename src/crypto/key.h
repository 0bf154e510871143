/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys: private keys, public keys, and the signer through which certificates and tokens are signed
 * (a KeyManager's key may live elsewhere). All three are immutable, reference counted and may be
 * used by any number of threads at once.
 */
#ifndef CS_CRYPTO_KEY_H
#define CS_CRYPTO_KEY_H

#include "base/mem.h"
#include "crypto/hash.h"

#include <openssl/types.h>

/* What a key is. The first four are the kinds SPIRE makes; the others are only ever read (peers'
 * certificates, CSRs, bundles). */
enum crypto_key_type {
    CRYPTO_KEY_NONE,
    CRYPTO_EC_P256,
    CRYPTO_EC_P384,
    CRYPTO_RSA_2048,
    CRYPTO_RSA_4096,
    CRYPTO_EC_P521,
    CRYPTO_RSA_OTHER, /* 1024 to 8192 bits but not 2048 or 4096 */
    CRYPTO_ED25519,
};
/* Configuration name, any case: "ec-p256", "ec-p384", "rsa-2048", "rsa-4096". CS_INVALID:
 * `key type "x" is unknown; must be one of [rsa-2048, rsa-4096, ec-p256, ec-p384]`. */
CS_CHECKED cs_code crypto_key_type_parse(struct cs_slice name, enum crypto_key_type *out, struct cs_err *e);
const char *crypto_key_type_name(
    enum crypto_key_type t); /* "ec-p256"; others "ec-p521", "rsa", "ed25519", "none" */

/* Signature schemes of X.509 (RFC 5758, 4055, 8410) and JOSE (RFC 7518). */
enum crypto_sig {
    CRYPTO_SIG_NONE,
    CRYPTO_ECDSA_SHA256, /* signature: DER ECDSA-Sig-Value */
    CRYPTO_ECDSA_SHA384,
    CRYPTO_ECDSA_SHA512,
    CRYPTO_RSA_SHA256, /* PKCS #1 v1.5 */
    CRYPTO_RSA_SHA384,
    CRYPTO_RSA_SHA512,
    CRYPTO_PSS_SHA256, /* salt as long as the digest, MGF1 of the same digest */
    CRYPTO_PSS_SHA384,
    CRYPTO_PSS_SHA512,
    CRYPTO_SIG_ED25519, /* over the message itself; verification only */
};
enum crypto_hash crypto_sig_hash(enum crypto_sig s); /* SHA-512 for Ed25519, where it is not used */
/* The scheme a key signs certificates with: P-256 and RSA SHA-256, P-384 SHA-384, P-521 SHA-512. */
enum crypto_sig crypto_sig_default(enum crypto_key_type t);

/* --- Public key --- */
struct crypto_pub;

/* From SubjectPublicKeyInfo DER (RFC 5280 section 4.1.2.7), copied. The point must be on the curve and
 * uncompressed; RSA moduli have 1024 to 8192 bits and an odd exponent below 2^31. CS_INVALID. */
CS_CHECKED cs_code crypto_pub_parse(struct cs_slice spki, struct crypto_pub **out, struct cs_err *e);
/* From raw parts, as in a JWK: big-endian unsigned integers. EC: x and y of the curve's length. */
CS_CHECKED cs_code crypto_pub_from_ec(enum crypto_key_type curve, struct cs_slice x, struct cs_slice y,
                                      struct crypto_pub **out, struct cs_err *e);
CS_CHECKED cs_code crypto_pub_from_rsa(struct cs_slice n, struct cs_slice exp, struct crypto_pub **out,
                                       struct cs_err *e);
CS_CHECKED cs_code crypto_pub_from_ed25519(struct cs_slice x, struct crypto_pub **out, struct cs_err *e);
struct crypto_pub *crypto_pub_ref(struct crypto_pub *p);
void crypto_pub_unref(struct crypto_pub *p); /* NULL is fine */
static inline void crypto_pub_drop(struct crypto_pub **p)
{
    crypto_pub_unref(*p);
    *p = NULL;
}
enum crypto_key_type crypto_pub_type(const struct crypto_pub *p);
int crypto_pub_bits(const struct crypto_pub *p); /* 256, 2048, ... */
struct cs_slice crypto_pub_spki(const struct crypto_pub *p);
static inline bool crypto_pub_equal(const struct crypto_pub *a, const struct crypto_pub *b)
{
    return cs_slice_eq(crypto_pub_spki(a), crypto_pub_spki(b));
}
/* Coordinates or modulus and exponent, without leading zeros for RSA, of fixed length for EC; views
 * into the key. Ed25519: a is the key, b empty. */
void crypto_pub_parts(const struct crypto_pub *p, struct cs_slice *a, struct cs_slice *b);

/* Check a signature over a message. CS_OK only when it is right; CS_DENIED "signature is wrong";
 * CS_INVALID when the scheme does not fit the key. */
CS_CHECKED cs_code crypto_verify(const struct crypto_pub *p, enum crypto_sig alg, struct cs_slice msg,
                                 struct cs_slice sig, struct cs_err *e);
/* SHA-1 of the BIT STRING's content of an SPKI: the key identifier of RFC 5280 section 4.2.1.2 (1),
 * which is also SPIRE's authority ID when printed as 40 hex digits. CS_INVALID for a broken SPKI. */
CS_CHECKED cs_code crypto_key_id(struct cs_slice spki, uint8_t out[20], struct cs_err *e);

/* --- Private key --- */
struct crypto_key;

/* One of the first four types. RSA takes 0.1 to 10 s: worker threads only. */
CS_CHECKED cs_code crypto_key_generate(enum crypto_key_type t, struct crypto_key **out, struct cs_err *e);
/* Asked many times a second, on the thread that waits. */
struct crypto_stop {
    bool (*asked)(void *arg);
    void *arg;
};
/* The same until stop->asked says true: CS_CANCELLED. stop may be NULL. */
CS_CHECKED cs_code crypto_key_generate_until(enum crypto_key_type t, const struct crypto_stop *stop,
                                             struct crypto_key **out, struct cs_err *e);
/* DER: PKCS #8 (RFC 5208), unencrypted; PKCS #1 (RFC 8017) and SEC 1 (RFC 5915) are recognised too. */
CS_CHECKED cs_code crypto_key_parse_der(struct cs_slice der, struct crypto_key **out, struct cs_err *e);
/* PEM: one block "PRIVATE KEY", "RSA PRIVATE KEY" or "EC PRIVATE KEY"; text as upstream's:
 * `no PEM blocks`, `expected 1 PEM blocks; got 2`, `expected block type ["PRIVATE KEY" ...]; got "X"`. */
CS_CHECKED cs_code crypto_key_parse_pem(struct cs_slice pem, struct crypto_key **out, struct cs_err *e);
/* PKCS #8 DER as Go's x509.MarshalPKCS8PrivateKey writes it (EC keys with their public point). */
CS_CHECKED cs_code crypto_key_pkcs8(const struct crypto_key *k, struct cs_secret **out, struct cs_err *e);
/* "PRIVATE KEY" PEM of the same. */
CS_CHECKED cs_code crypto_key_pem(const struct crypto_key *k, struct cs_secret **out, struct cs_err *e);
struct crypto_key *crypto_key_ref(struct crypto_key *k);
void crypto_key_unref(struct crypto_key *k); /* NULL is fine */
static inline void crypto_key_drop(struct crypto_key **k)
{
    crypto_key_unref(*k);
    *k = NULL;
}
struct crypto_pub *crypto_key_pub(const struct crypto_key *k); /* borrowed, lives as long as k */
enum crypto_key_type crypto_key_type_of(const struct crypto_key *k);
EVP_PKEY *crypto_key_pkey(const struct crypto_key *k); /* borrowed; for TLS contexts */

/* --- Signer --- */
/* Anything that signs digests. ctx belongs to the signer and is given back through free. Both
 * functions are called from any thread; sign may block when the key is remote. */
struct crypto_signer_ops {
    /* Sign the digest of the scheme's hash (alg tells the hash and padding). Appends the signature:
     * DER for ECDSA, raw for RSA. */
    cs_code (*sign)(void *ctx, enum crypto_sig alg, struct cs_slice digest, struct cs_buf *out,
                    struct cs_err *e);
    void (*free)(void *ctx);
};
struct crypto_signer;
/* pub is referenced; on failure ctx stays the caller's. */
CS_CHECKED cs_code crypto_signer_new(const struct crypto_signer_ops *ops, void *ctx, struct crypto_pub *pub,
                                     struct crypto_signer **out, struct cs_err *e);
/* Signer of a local key, which is referenced. */
CS_CHECKED cs_code crypto_signer_of_key(struct crypto_key *k, struct crypto_signer **out, struct cs_err *e);
struct crypto_signer *crypto_signer_ref(struct crypto_signer *s);
void crypto_signer_unref(struct crypto_signer *s); /* NULL is fine */
static inline void crypto_signer_drop(struct crypto_signer **s)
{
    crypto_signer_unref(*s);
    *s = NULL;
}
struct crypto_pub *crypto_signer_pub(const struct crypto_signer *s); /* borrowed */
enum crypto_key_type crypto_signer_type(const struct crypto_signer *s);
struct crypto_key *crypto_signer_key(const struct crypto_signer *s); /* borrowed; NULL when not local */
/* Hash msg and sign it; appends the signature to out. CS_INVALID when alg does not fit the key. What a signer
 * answers whose key is not local is verified: CS_INTERNAL `signature returned by signer is invalid: ...`. */
CS_CHECKED cs_code crypto_sign(const struct crypto_signer *s, enum crypto_sig alg, struct cs_slice msg,
                               struct cs_buf *out, struct cs_err *e);

#endif
