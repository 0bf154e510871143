/* SPDX-License-Identifier: Apache-2.0
 *
 * JOSE: JWS compact serialisation (RFC 7515) with the algorithms SPIFFE allows, and public JWKs
 * (RFC 7517, 7518) in go-jose's member order. "none", HMAC and EdDSA do not exist here.
 */
#ifndef CS_CRYPTO_JOSE_H
#define CS_CRYPTO_JOSE_H

#include "crypto/key.h"
#include "crypto/x509_cert.h"

#include <jansson.h>

#define JOSE_TOKEN_MAX (64 * 1024)

enum jose_alg {
    JOSE_NONE,
    JOSE_ES256,
    JOSE_ES384,
    JOSE_ES512,
    JOSE_RS256,
    JOSE_RS384,
    JOSE_RS512,
    JOSE_PS256,
    JOSE_PS384,
    JOSE_PS512,
};
const char *jose_alg_name(enum jose_alg a);         /* "ES256" */
enum jose_alg jose_alg_parse(struct cs_slice name); /* JOSE_NONE: not one of ours */
/* What SPIRE signs with: P-256 ES256, P-384 ES384, RSA of at least 2048 bits RS256, else JOSE_NONE. */
enum jose_alg jose_alg_for_key(enum crypto_key_type t);

/* --- JWS --- */
/* Append header.payload.signature. The header is {"alg":..,"kid":..,"typ":..} in this order; kid and typ
 * may be NULL (left out). payload is any bytes. */
CS_CHECKED cs_code jose_sign(const struct crypto_signer *s, enum jose_alg alg, const char *kid,
                             const char *typ, struct cs_slice payload, struct cs_buf *out, struct cs_err *e);

/* A parsed token: owns what it decoded. Not verified yet. */
struct jose_jws {
    enum jose_alg alg;     /* never JOSE_NONE */
    const char *kid, *typ; /* "" when absent; has_typ tells */
    bool has_typ;
    struct cs_slice signing_input; /* view into the token given to jose_parse, which must outlive this */
    struct cs_slice payload;       /* decoded; NUL-terminated behind its end */
    struct cs_slice sig;           /* decoded, JOSE form (r || s for EC) */
    char *store;                   /* one block behind the pointers above */
};
/* CS_INVALID texts as go-jose's where upstream shows them: `go-jose/go-jose: compact JWS format must have
 * three parts`, `unexpected signature algorithm "HS256"; expected ["ES256" ...]`. Duplicate or "crit"
 * members are refused. */
CS_CHECKED cs_code jose_parse(struct cs_slice token, struct jose_jws *out, struct cs_err *e);
void jose_jws_free(struct jose_jws *j); /* zeroes; for CS_CLEANUP too */
/* CS_DENIED: `go-jose/go-jose: error in cryptographic primitive` when the signature is wrong or the key does
 * not fit the algorithm. */
CS_CHECKED cs_code jose_verify(const struct jose_jws *j, const struct crypto_pub *pub, struct cs_err *e);

/* ECDSA signatures between DER and r || s, each `size` bytes (32, 48, 66). Strict both ways. CS_INVALID. */
CS_CHECKED cs_code jose_ecdsa_raw(struct cs_slice der, size_t size, uint8_t *out, struct cs_err *e);
void jose_ecdsa_der(struct cs_slice raw, struct cs_buf *out);

/* --- JWK --- */
/* Append {"use":..,"kty":..,"kid":..,"crv":..,"x":..,"y":..} or n/e, then "x5c":[..] for cert; use, kid and
 * cert may be NULL. indent: the spaces before the object's members (4 or more, as Go's MarshalIndent by 4),
 * -1: compact. The opening brace is written where the buffer stands. */
void jose_jwk_write(struct cs_buf *out, const struct crypto_pub *pub, const char *use, const char *kid,
                    const struct x509_cert *cert, int indent);

struct jose_jwk {
    const char *use, *kid;   /* "" when absent; views into the JSON object */
    struct crypto_pub *pub;  /* owned reference */
    struct x509_chain certs; /* x5c; owned */
};
/* Read one JWK object. The key of the first x5c certificate must be the JWK's. Private members are refused.
 * CS_UNIMPLEMENTED for kty or crv that we do not know (a key set skips those, RFC 7517 section 5);
 * CS_INVALID for anything broken, text as go-jose's. obj is borrowed and must outlive *out. */
CS_CHECKED cs_code jose_jwk_read(const json_t *obj, struct jose_jwk *out, struct cs_err *e);
void jose_jwk_free(struct jose_jwk *k); /* zeroes; for CS_CLEANUP too */

/* Append a JSON string with quotes as Go's encoding/json escapes it (<, >, & and U+2028/9 as \u; broken
 * UTF-8 as \ufffd). */
void jose_json_string(struct cs_buf *out, struct cs_slice s);

#endif
