/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: OpenSSL's objects that are fetched once and never change after.
 */
#ifndef CS_CRYPTO_SSL_H
#define CS_CRYPTO_SSL_H

#include "crypto/hash.h"
#include "crypto/key.h"

/* Algorithms fetched on first use and kept for the life of the process: a fetch costs more than the digest
 * of a certificate. Constants in all but the moment of their making. */
const EVP_MD *crypto_md(enum crypto_hash h); /* NULL when OpenSSL cannot offer it */
/* A key with the curve's parameters and no point, for EVP_PKEY_dup; NULL when OpenSSL cannot offer it. */
EVP_PKEY *crypto_curve(enum crypto_key_type t);

/* Set hash and padding of an RSA scheme on a context ready to sign or verify; nothing for ECDSA. */
bool crypto_set_padding(EVP_PKEY_CTX *ctx, enum crypto_sig alg);

/* As cs_fail, and empties OpenSSL's error queue: what one call left there must not look like an error of the
 * next TLS operation on this thread. */
CS_PRINTF(3, 4) cs_code crypto_ssl_fail(struct cs_err *e, cs_code code, const char *fmt, ...);

#endif
