/* SPDX-License-Identifier: Apache-2.0
 *
 * Trust bundles (SPIFFE_Trust_Domain_and_Bundle.md): immutable, reference counted, any thread. Built
 * through a builder, replaced as a whole.
 */
#ifndef CS_SPIFFE_BUNDLE_H
#define CS_SPIFFE_BUNDLE_H

#include "crypto/x509_cert.h"

struct spiffe_x509_authority {
    struct x509_cert *cert;
    bool tainted;
};
struct spiffe_jwt_authority {
    const char *kid;
    struct cs_slice spki; /* SubjectPublicKeyInfo DER (PKIX bytes) */
    int64_t expires_at;   /* unix seconds; 0: unknown */
    bool tainted;
};

/* Everything in here belongs to the bundle. */
struct spiffe_bundle {
    const char *trust_domain; /* "example.org" */
    const struct spiffe_x509_authority *x509;
    size_t x509_count;
    const struct x509_cert *const *roots; /* the same certificates, as x509_verify takes them */
    const struct spiffe_jwt_authority *jwt;
    size_t jwt_count;
    const struct spiffe_jwt_authority *wit; /* kept and passed on (WIT-SVID), not used */
    size_t wit_count;
    int64_t refresh_hint; /* seconds; 0: none */
    uint64_t sequence_number;
    uint64_t roots_id; /* x509_roots_id of roots */
};
struct spiffe_bundle *spiffe_bundle_ref(const struct spiffe_bundle *b);
void spiffe_bundle_unref(const struct spiffe_bundle *b); /* NULL is fine */
static inline void spiffe_bundle_drop(struct spiffe_bundle **b)
{
    spiffe_bundle_unref(*b);
    *b = NULL;
}
/* Same trust domain, authorities in the same order with the same flags, hint and sequence number. */
bool spiffe_bundle_equal(const struct spiffe_bundle *a, const struct spiffe_bundle *b);
/* The same without hint and sequence number. */
bool spiffe_bundle_same_authorities(const struct spiffe_bundle *a, const struct spiffe_bundle *b);
const struct spiffe_jwt_authority *spiffe_bundle_find_jwt(const struct spiffe_bundle *b, struct cs_slice kid);
/* By authority ID (hex of the subject key identifier); NULL: none. */
const struct spiffe_x509_authority *spiffe_bundle_find_x509(const struct spiffe_bundle *b,
                                                            struct cs_slice id);
/* Public key of a JWT authority, decoded once per bundle; borrowed. CS_INVALID. */
CS_CHECKED cs_code spiffe_bundle_jwt_pub(const struct spiffe_bundle *b, const struct spiffe_jwt_authority *a,
                                         struct crypto_pub **out, struct cs_err *e);
/* How often to look for a new one, in seconds: the hint, or a tenth of the shortest root's lifetime, never
 * under a minute (upstream's bundleutil.CalculateRefreshHint). */
int64_t spiffe_bundle_refresh_seconds(const struct spiffe_bundle *b);

/* --- Builder --- single owner, one thread. Failures of memory are sticky and come out at the end. */
struct spiffe_bundle_builder;
CS_CHECKED cs_code spiffe_bundle_builder_new(struct cs_slice trust_domain, struct spiffe_bundle_builder **out,
                                             struct cs_err *e);
/* Starts as a copy of everything in `from`. */
CS_CHECKED cs_code spiffe_bundle_builder_from(const struct spiffe_bundle *from,
                                              struct spiffe_bundle_builder **out, struct cs_err *e);
void spiffe_bundle_builder_free(struct spiffe_bundle_builder *b);
static inline void spiffe_bundle_builder_drop(struct spiffe_bundle_builder **b)
{
    spiffe_bundle_builder_free(*b);
    *b = NULL;
}
/* One or more concatenated certificates (upstream's root_cas rows may hold several). The same certificate
 * twice is taken once. CS_INVALID. */
CS_CHECKED cs_code spiffe_bundle_add_x509_der(struct spiffe_bundle_builder *b, struct cs_slice der,
                                              bool tainted, struct cs_err *e);
CS_CHECKED cs_code spiffe_bundle_add_x509(struct spiffe_bundle_builder *b, const struct x509_cert *cert,
                                          bool tainted, struct cs_err *e);
/* Copies kid and spki; replaces an authority of the same kid. The key is checked to parse. CS_INVALID
 * "missing key ID". */
CS_CHECKED cs_code spiffe_bundle_add_jwt(struct spiffe_bundle_builder *b, struct cs_slice kid,
                                         struct cs_slice spki, int64_t expires_at, bool tainted,
                                         struct cs_err *e);
CS_CHECKED cs_code spiffe_bundle_add_wit(struct spiffe_bundle_builder *b, struct cs_slice kid,
                                         struct cs_slice spki, int64_t expires_at, bool tainted,
                                         struct cs_err *e);
/* Drop all authorities of a kind (before adding replacements). */
void spiffe_bundle_clear_x509(struct spiffe_bundle_builder *b);
void spiffe_bundle_clear_jwt(struct spiffe_bundle_builder *b);
void spiffe_bundle_clear_wit(struct spiffe_bundle_builder *b);
void spiffe_bundle_set_refresh_hint(struct spiffe_bundle_builder *b, int64_t seconds);
void spiffe_bundle_set_sequence(struct spiffe_bundle_builder *b, uint64_t n);
/* Makes the bundle; the builder is empty after and may only be freed. */
CS_CHECKED cs_code spiffe_bundle_build(struct spiffe_bundle_builder *b, struct spiffe_bundle **out,
                                       struct cs_err *e);

/* --- Text forms --- */
/* X.509 authorities from PEM; at least one. */
CS_CHECKED cs_code spiffe_bundle_parse_pem(struct cs_slice trust_domain, struct cs_slice pem,
                                           struct spiffe_bundle **out, struct cs_err *e);
/* X.509 authorities from concatenated DER (Workload API); may be empty. */
CS_CHECKED cs_code spiffe_bundle_parse_der(struct cs_slice trust_domain, struct cs_slice der,
                                           struct spiffe_bundle **out, struct cs_err *e);
/* SPIFFE bundle document (JWKS), as upstream's bundleutil reads it: every key has a known use, jwt-svid keys
 * have a kid; spiffe_sequence is checked and dropped. CS_INVALID: `missing use for key entry 0`,
 * `unrecognized use "x" for key entry 0`, `expected a single certificate in x509-svid entry 0; got 0`,
 * `missing key ID in jwt-svid entry 0`. */
CS_CHECKED cs_code spiffe_bundle_parse_jwks(struct cs_slice trust_domain, struct cs_slice json,
                                            struct spiffe_bundle **out, struct cs_err *e);
void spiffe_bundle_write_pem(struct cs_buf *out, const struct spiffe_bundle *b);
void spiffe_bundle_write_der(struct cs_buf *out, const struct spiffe_bundle *b); /* concatenated */

#define SPIFFE_JWKS_NO_X509 (1u << 0)
#define SPIFFE_JWKS_NO_JWT (1u << 1)
#define SPIFFE_JWKS_NO_WIT (1u << 2)
#define SPIFFE_JWKS_STANDARD                                                                                 \
    (1u << 3) /* plain JWKS: no use, no spiffe_ members (JWT bundles of the Workload                         \
                 API, OIDC) */
#define SPIFFE_JWKS_NO_SEQUENCE (1u << 4)
/* Append the document indented by 4 blanks as Go's MarshalIndent, no newline at the end. */
CS_CHECKED cs_code spiffe_bundle_write_jwks(struct cs_buf *out, const struct spiffe_bundle *b, unsigned flags,
                                            struct cs_err *e);

#endif
