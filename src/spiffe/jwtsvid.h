/* SPDX-License-Identifier: Apache-2.0
 *
 * JWT-SVIDs (JWT-SVID.md): signed as SPIRE's server does, validated as its agent does.
 */
#ifndef CS_SPIFFE_JWTSVID_H
#define CS_SPIFFE_JWTSVID_H

#include "crypto/jose.h"
#include "spiffe/bundle.h"
#include "spiffe/id.h"

/* What goes into a token. Claims are written in alphabetical order, as Go writes a map: aud (always an
 * array), exp, iat, iss, jti, sub. */
struct spiffe_jwtsvid_params {
    struct spiffe_id id;
    const struct cs_slice *audience; /* empty ones are left out; at least one must remain */
    size_t audience_count;
    int64_t issued_at, expires_at; /* unix seconds; the caller caps expires_at to the key's */
    const char *issuer;            /* jwt_issuer; NULL or "": no iss */
    bool include_jti;              /* 16 random bytes of a UUID, base64url */
};
/* Append a token: header alg, kid, typ "JWT". CS_INVALID: `invalid JWT-SVID audience: cannot be empty`,
 * `invalid JWT-SVID ID: cannot be empty`. Any thread. */
CS_CHECKED cs_code spiffe_jwtsvid_sign(const struct spiffe_jwtsvid_params *p,
                                       const struct crypto_signer *signer, const char *kid,
                                       struct cs_buf *out, struct cs_err *e);

#define SPIFFE_JWT_LEEWAY_S 60

/* A token whose form was checked. Owns everything it points to. */
struct spiffe_jwtsvid {
    struct jose_jws jws;
    json_t *claims;                            /* object */
    struct spiffe_id id;                       /* of sub */
    int64_t issued_at, expires_at, not_before; /* unix seconds, fractions cut; 0 when absent */
    const char **audience;                     /* audience_count strings */
    size_t audience_count;
};
void spiffe_jwtsvid_free(struct spiffe_jwtsvid *t); /* zeroes; for CS_CLEANUP too */

/* Validate (upstream's jwtsvid.ValidateToken plus the `typ` rule of the specification: absent, JWT, JOSE;
 * at+jwt as upstream's agent takes it): allowed algorithm, kid present, sub a SPIFFE ID, exp present, key
 * found, signature, then with 60 s of leeway: not expired, not before nbf, not issued in the future; and one
 * of `audience` in aud. `find` gives the bundle of a trust domain, borrowed for the call, or NULL. CS_INVALID
 * with upstream's texts: `token header missing key id`, `token missing subject claim`, `token missing exp
 * claim`, `token has in invalid subject claim: ...`, `no keys found for trust domain "td"`, `public key "kid"
 * not found in trust domain "td"`, `token has expired`, `expected audience in ["FOO"] (audience=["BAR"])`. */
struct spiffe_jwt_bundles {
    const struct spiffe_bundle *(*find)(void *arg, struct cs_slice trust_domain);
    void *arg;
};
CS_CHECKED cs_code spiffe_jwtsvid_validate(struct cs_slice token, const struct spiffe_jwt_bundles *bundles,
                                           const struct cs_slice *audience, size_t audience_count,
                                           int64_t now, struct spiffe_jwtsvid *out, struct cs_err *e);
/* Without signature, time and audience: what the agent does with a token its own server made, to learn
 * its lifetime. CS_INVALID `JWT missing iat claim`, `JWT missing exp claim`. */
CS_CHECKED cs_code spiffe_jwtsvid_parse_insecure(struct cs_slice token, struct spiffe_jwtsvid *out,
                                                 struct cs_err *e);

/* Claims that somebody else had a hand in, before they are signed: a JSON object, checked as upstream checks
 * the tokens it issues (pkg/server/credvalidator), and appended to out with whole numbers for exp and iat.
 * CS_INTERNAL: `invalid JWT-SVID "sub" claim: expected "ID" but got "x"`, `invalid JWT-SVID "exp" claim:
 * required but missing`, `... already expired as of T`, `invalid JWT-SVID "aud" claim: contains empty value`,
 * `JWT missing iat claim`, `failed to extract JWT-SVID claims for validation: ...`. */
CS_CHECKED cs_code spiffe_jwtsvid_check_claims(struct cs_slice json, struct spiffe_id expected, int64_t now,
                                               struct cs_buf *out, int64_t *issued_at, int64_t *expires_at,
                                               struct cs_err *e);

#endif
