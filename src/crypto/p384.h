/* SPDX-License-Identifier: Apache-2.0
 *
 * ECDSA verification on P-384 (FIPS 186-5 section 6.4.2) by the library that is fastest at it: GNU Nettle's
 * takes half the time of OpenSSL 3.0's, and an attestation document of AWS Nitro has up to five such
 * signatures (docs/decisions/0009-p384-verification.md). Without Nettle at build time it is OpenSSL's. A fuzz
 * target holds the two together.
 */
#ifndef CS_CRYPTO_P384_H
#define CS_CRYPTO_P384_H

#include "crypto/key.h"

#define P384_BYTES 48

/* Is the signature (r and s, P384_BYTES each, big-endian) over this SHA-384 digest by this P-384 key?
 * CS_DENIED when not; CS_INVALID for another kind of key or length. Any thread. */
CS_CHECKED cs_code p384_verify(const struct crypto_pub *key, struct cs_slice digest,
                               struct cs_slice signature, struct cs_err *e);

#endif
