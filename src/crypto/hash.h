/* SPDX-License-Identifier: Apache-2.0
 *
 * Message digests (FIPS 180-4). SHA-1 is here for key identifiers only (RFC 5280 section 4.2.1.2);
 * nothing is ever authenticated by it.
 */
#ifndef CS_CRYPTO_HASH_H
#define CS_CRYPTO_HASH_H

#include "base/buf.h"

enum crypto_hash { CRYPTO_SHA1, CRYPTO_SHA256, CRYPTO_SHA384, CRYPTO_SHA512 };
#define CRYPTO_HASH_MAX 64

size_t crypto_hash_len(enum crypto_hash h); /* bytes: 20, 32, 48, 64 */

/* Digest of one run of bytes into out[crypto_hash_len]. CS_INTERNAL when OpenSSL fails. Any thread. */
CS_CHECKED cs_code crypto_digest(enum crypto_hash h, struct cs_slice in, uint8_t *out, struct cs_err *e);

/* Streaming, for files. Single owner, one thread at a time. */
struct crypto_hasher;
CS_CHECKED cs_code crypto_hasher_new(enum crypto_hash h, struct crypto_hasher **out, struct cs_err *e);
CS_CHECKED cs_code crypto_hasher_add(struct crypto_hasher *x, struct cs_slice in, struct cs_err *e);
/* Writes crypto_hash_len bytes; the hasher may only be freed afterwards. */
CS_CHECKED cs_code crypto_hasher_end(struct crypto_hasher *x, uint8_t *out, struct cs_err *e);
void crypto_hasher_free(struct crypto_hasher *x); /* NULL is fine */
static inline void crypto_hasher_drop(struct crypto_hasher **x)
{
    crypto_hasher_free(*x);
    *x = NULL;
}

#endif
