/* SPDX-License-Identifier: Apache-2.0
 *
 * An OpenSSL library context for TLS that knows only the key types we accept.
 *
 * OpenSSL 3.0 reads the key of every certificate a peer sends by asking all decoders of all key types
 * in turn, which is half the cost of a handshake with client certificates. A context of our own, whose
 * one provider hands on what the default provider offers but leaves out the other decoders and key
 * managers, avoids that without any deprecated interface.
 */
#ifndef CS_RPC_TLS_PROVIDER_H
#define CS_RPC_TLS_PROVIDER_H

#include <openssl/types.h>

/* Made on first use, kept for the life of the process, never changed after. NULL (the default
 * context, slower and more permissive) when OpenSSL does not let us. Any thread. */
OSSL_LIB_CTX *rpc_tls_libctx(void);

#endif
