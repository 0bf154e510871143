/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: signature schemes as X.509's AlgorithmIdentifier, signatures of digests.
 */
#ifndef CS_CRYPTO_SIG_H
#define CS_CRYPTO_SIG_H

#include "crypto/key.h"

/* Scheme of an AlgorithmIdentifier's content; CRYPTO_SIG_NONE for everything that we do not verify,
 * SHA-1 and MD5 among it. */
enum crypto_sig crypto_sig_from_der(struct cs_slice algorithm);
/* The SHA-1 and MD5 schemes, which Go names when it refuses them ("SHA1-RSA"); NULL otherwise. */
const char *crypto_sig_insecure_name(struct cs_slice algorithm);
/* Append the AlgorithmIdentifier. Only for schemes that crypto_sig_default gives. */
void crypto_sig_to_der(struct cs_buf *out, enum crypto_sig s);

bool crypto_sig_is_ecdsa(enum crypto_sig s);
bool crypto_sig_is_pss(enum crypto_sig s);
/* May a key of this type be used with this scheme? */
bool crypto_sig_fits(enum crypto_sig s, enum crypto_key_type t);
/* As crypto_verify, of a digest by alg's hash; the scheme fits the key. Not for Ed25519. */
CS_CHECKED cs_code crypto_verify_digest(const struct crypto_pub *p, enum crypto_sig alg,
                                        struct cs_slice digest, struct cs_slice sig, struct cs_err *e);

#endif
