/* SPDX-License-Identifier: Apache-2.0
 *
 * COSE_Sign1 (RFC 9052 section 4.2) with ES384 (RFC 9053 section 2.1), the one algorithm of AWS Nitro's
 * attestation documents.
 */
#ifndef CS_CRYPTO_COSE_H
#define CS_CRYPTO_COSE_H

#include "crypto/key.h"

#define COSE_ES384_SIGNATURE 96 /* bytes: r and s, 48 each, big-endian */

/* Views into the message. */
struct cose_sign1 {
    struct cs_slice protected_header; /* content of the byte string, as received */
    struct cs_slice payload;
    struct cs_slice signature; /* COSE_ES384_SIGNATURE bytes */
};
/* Read one message, tagged 18 or untagged, without trailing bytes. The protected header must be {1: -35}
 * and the unprotected one empty; the payload is attached and not empty. CS_INVALID naming the part. Any
 * thread; allocates nothing. */
CS_CHECKED cs_code cose_sign1_parse(struct cs_slice in, struct cose_sign1 *out, struct cs_err *e);
/* Check the signature with a P-384 key, without external data. CS_DENIED when it is wrong, CS_INVALID for
 * another kind of key. Any thread. */
CS_CHECKED cs_code cose_sign1_verify(const struct cose_sign1 *m, const struct crypto_pub *key,
                                     struct cs_err *e);
/* Append a message signed by a P-384 key; CS_INVALID for another kind. `tagged`: with tag 18. On failure
 * out is as long as before. */
CS_CHECKED cs_code cose_sign1_make(const struct crypto_signer *signer, struct cs_slice payload, bool tagged,
                                   struct cs_buf *out, struct cs_err *e);

#endif
