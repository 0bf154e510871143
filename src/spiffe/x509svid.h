/* SPDX-License-Identifier: Apache-2.0
 *
 * X509-SVIDs (X509-SVID.md): the rules on top of path validation, with go-spiffe's error texts.
 */
#ifndef CS_SPIFFE_X509SVID_H
#define CS_SPIFFE_X509SVID_H

#include "crypto/x509_verify.h"
#include "spiffe/bundle.h"
#include "spiffe/id.h"

/* The SPIFFE ID of a certificate: its only URI SAN; *out views the certificate. CS_INVALID: "certificate
 * contains no URI SAN", "certificate contains more than one URI SAN", or id.h's texts. */
CS_CHECKED cs_code spiffe_x509_id(const struct x509_cert *cert, struct spiffe_id *out, struct cs_err *e);

/* Verify a peer's chain against the bundle of its trust domain (the caller picked `bundle` by trust domain or
 * wants only that one: another trust domain is refused). The leaf is not a CA and may sign neither
 * certificates nor CRLs. *id views chain->at[0]; *expires may be NULL. CS_UNAUTHENTICATED with "x509svid: "
 * texts. `cache` may be NULL. Any thread. */
CS_CHECKED cs_code spiffe_x509svid_verify(const struct x509_chain *chain, const struct spiffe_bundle *bundle,
                                          int64_t now, struct x509_verify_cache *cache, struct spiffe_id *id,
                                          int64_t *expires, struct cs_err *e);
/* Which root of the bundle a chain leads to (for taint checks); NULL with CS_UNAUTHENTICATED when none. */
CS_CHECKED cs_code spiffe_x509svid_root(const struct x509_chain *chain, const struct spiffe_bundle *bundle,
                                        int64_t now, const struct spiffe_x509_authority **root,
                                        struct cs_err *e);

/* A chain and its key as a holder keeps them: exactly what go-spiffe's x509svid.Parse accepts (leaf rules
 * with a non-empty path and digitalSignature, signing certificates are CAs, the key is the leaf's). key may
 * be NULL: not compared. */
CS_CHECKED cs_code spiffe_x509svid_check(const struct x509_chain *chain, const struct crypto_key *key,
                                         struct spiffe_id *id, struct cs_err *e);

/* Upstream's checks of what a server issues (pkg/server/credvalidator): texts "invalid X509-SVID: ...",
 * "invalid X509 CA: ...". expected is the ID that must be the URI SAN. CS_INTERNAL. */
CS_CHECKED cs_code spiffe_x509svid_check_issued(const struct x509_cert *svid, struct spiffe_id expected,
                                                int64_t now, struct cs_err *e);
CS_CHECKED cs_code spiffe_x509ca_check_issued(const struct x509_cert *ca, struct cs_slice trust_domain,
                                              int64_t now, struct cs_err *e);

/* DNS names as upstream takes them in entries and CSRs (x509util.ValidateLabel and wildcard overlap). */
CS_CHECKED cs_code spiffe_dns_name_check(struct cs_slice name, struct cs_err *e);
CS_CHECKED cs_code spiffe_dns_wildcard_check(const struct cs_slice *names, size_t count, struct cs_err *e);

#endif
