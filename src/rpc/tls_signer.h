/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys for TLS that are somewhere else: OpenSSL is given a key whose signatures a crypto_signer makes. A
 * provider of its own offers it (provider-keymgmt(7), provider-signature(7)), in a library context of its
 * own, which is made with the first such key: local keys see nothing of it.
 */
#ifndef CS_RPC_TLS_SIGNER_H
#define CS_RPC_TLS_SIGNER_H

#include "crypto/key.h"

/* A key that SSL_CTX_use_PrivateKey takes; the signer is referenced. It signs with ECDSA and RSA (PKCS #1
 * and PSS), with SHA-256, SHA-384 and SHA-512, on the thread of the handshake and for as long as the signer
 * takes. What a signer says about its failure is data of the error in OpenSSL's queue
 * (rpc_tls_signer_error). CS_UNIMPLEMENTED for other kinds of keys. Any thread. */
CS_CHECKED cs_code rpc_tls_signer_pkey(struct crypto_signer *signer, EVP_PKEY **out, struct cs_err *e);

/* The text of a signer's failure, when the oldest error in this thread's queue is one; NULL: it is not.
 * Valid until the queue is cleared. */
const char *rpc_tls_signer_error(void);

#endif
