/* SPDX-License-Identifier: Apache-2.0
 *
 * Path validation (RFC 5280 section 6, the subset that Go's crypto/x509 performs): name chaining by
 * bytes, signatures, validity, basicConstraints with path length, keyCertSign, name constraints on URI
 * and DNS names, unknown critical extensions refused. The root is trusted as a key: its own signature is
 * not checked, its validity and constraints are.
 */
#ifndef CS_CRYPTO_X509_VERIFY_H
#define CS_CRYPTO_X509_VERIFY_H

#include "crypto/x509_cert.h"

/* Extended key usage asked for: any, or the purpose must be allowed along the whole path. */
enum x509_purpose { X509_PURPOSE_ANY, X509_PURPOSE_SERVER, X509_PURPOSE_CLIENT };

struct x509_verify_params {
    const struct x509_cert *const *roots; /* borrowed */
    size_t root_count;
    int64_t now; /* unix seconds */
    enum x509_purpose purpose;
    struct x509_verify_cache *cache; /* or NULL */
    uint64_t roots_id;               /* names the set of roots for the cache: a new number for each
                                        change of the bundle; 0: do not cache */
};
/* Find a path from chain[0] to a root; chain[1..] are candidates in any order. At most
 * X509_CHAIN_MAX long and 100 signature checks. On success *root (may be NULL) is the root of the path, and
 * *expires (may be NULL) the earliest not_after along it. Texts as Go's: "x509: certificate signed by
 * unknown authority", "x509: certificate has expired or is not yet valid: current time ... is after ...".
 * CS_UNAUTHENTICATED when no path is good. Any thread. */
CS_CHECKED cs_code x509_verify(const struct x509_chain *chain, const struct x509_verify_params *params,
                               const struct x509_cert **root, int64_t *expires, struct cs_err *e);

/* Remembers verified chains by their SHA-256 and roots_id. An entry is never used past the earliest
 * not_after of its path, before its latest not_before, or for other roots. Bounded: the oldest goes first.
 * Any thread. */
struct x509_verify_cache;
struct x509_verify_cache *x509_verify_cache_new(size_t max_entries); /* NULL when memory is out */
void x509_verify_cache_free(struct x509_verify_cache *c);
static inline void x509_verify_cache_drop(struct x509_verify_cache **c)
{
    x509_verify_cache_free(*c);
    *c = NULL;
}
/* The number of a set of roots that depends on nothing but its content, never 0: what a bundle gives
 * as roots_id. */
uint64_t x509_roots_id(const struct x509_cert *const *roots, size_t count);

#endif
