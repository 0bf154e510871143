/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: the memory of verified chains behind x509_verify.
 */
#ifndef CS_CRYPTO_X509_VERIFY_CACHE_H
#define CS_CRYPTO_X509_VERIFY_CACHE_H

#include "crypto/x509_verify.h"

/* SHA-256 over purpose, roots and chain: nobody can make two questions look alike. */
struct x509_verify_key {
    uint8_t sha256[32];
};
struct x509_verified {
    int64_t not_before, not_after; /* when the whole path is valid, inclusive */
    uint8_t root_sha256[32];
};
bool x509_verify_key_make(const struct x509_chain *chain, const struct x509_verify_params *p,
                          struct x509_verify_key *out);
bool x509_verify_cache_get(struct x509_verify_cache *c, const struct x509_verify_key *key,
                           struct x509_verified *out);
void x509_verify_cache_put(struct x509_verify_cache *c, const struct x509_verify_key *key,
                           const struct x509_verified *v);

#endif
