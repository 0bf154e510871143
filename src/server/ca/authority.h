/* SPDX-License-Identifier: Apache-2.0
 *
 * What the CA signs with: active authorities as immutable, reference-counted snapshots. Inside
 * src/server/ca only.
 */
#ifndef CS_SERVER_CA_AUTHORITY_H
#define CS_SERVER_CA_AUTHORITY_H

#include "crypto/jose.h"
#include "crypto/x509_issue.h"
#include "server/ca/ca.h"

/* Read-only to everybody; any thread. */
struct ca_x509_authority {
    _Atomic unsigned refs;
    struct x509_issuer *issuer;
    struct x509_chain upstream_chain; /* our CA certificate first; empty when it is self-signed */
    int64_t not_after;
};
/* cert and signer are referenced; upstream_chain is copied. */
CS_CHECKED cs_code ca_x509_authority_new(const struct x509_cert *cert, struct crypto_signer *signer,
                                         const struct x509_chain *upstream_chain,
                                         struct ca_x509_authority **out, struct cs_err *e);
struct ca_x509_authority *ca_x509_authority_ref(struct ca_x509_authority *a);
void ca_x509_authority_unref(struct ca_x509_authority *a); /* NULL is fine */
static inline void ca_x509_authority_drop(struct ca_x509_authority **a)
{
    ca_x509_authority_unref(*a);
    *a = NULL;
}
static inline const struct x509_cert *ca_x509_authority_cert(const struct ca_x509_authority *a)
{
    return x509_issuer_cert(a->issuer);
}

struct ca_jwt_authority {
    _Atomic unsigned refs;
    struct crypto_signer *signer;
    enum jose_alg alg;
    int64_t not_after;
    char *kid;
};
CS_CHECKED cs_code ca_jwt_authority_new(struct crypto_signer *signer, const char *kid, int64_t not_after,
                                        struct ca_jwt_authority **out, struct cs_err *e);
struct ca_jwt_authority *ca_jwt_authority_ref(struct ca_jwt_authority *a);
void ca_jwt_authority_unref(struct ca_jwt_authority *a); /* NULL is fine */
static inline void ca_jwt_authority_drop(struct ca_jwt_authority **a)
{
    ca_jwt_authority_unref(*a);
    *a = NULL;
}

/* Make an authority the one that signs from now on. Takes a reference; NULL: none. Any thread. */
void ca_set_x509(struct ca *ca, struct ca_x509_authority *a);
void ca_set_jwt(struct ca *ca, struct ca_jwt_authority *a);

/* A self-signed CA certificate for a new key, or the request that an UpstreamAuthority signs: subject
 * from the configuration with the serial number as SERIALNUMBER, the trust domain as URI SAN. DER is
 * appended to out. */
CS_CHECKED cs_code ca_self_sign(struct ca *ca, struct crypto_signer *signer, struct cs_buf *out,
                                struct cs_err *e);
CS_CHECKED cs_code ca_request(struct ca *ca, struct crypto_signer *signer, struct cs_buf *out,
                              struct cs_err *e);

#endif
