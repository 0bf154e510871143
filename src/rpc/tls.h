/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS contexts set up for gRPC: TLS 1.2 and 1.3, ALPN h2, no tickets, no compression, no
 * renegotiation.
 */
#ifndef CS_RPC_TLS_H
#define CS_RPC_TLS_H

#include "base/buf.h"
#include "base/err.h"

#include <openssl/types.h>

struct crypto_signer;

/* Server context for a certificate chain (DER, leaf first) and key (borrowed, referenced). Client
 * certificates are asked for but not required; the listener's verify_client judges them. */
CS_CHECKED cs_code rpc_tls_server_ctx(const struct cs_slice *chain, size_t count, EVP_PKEY *key,
                                      SSL_CTX **out, struct cs_err *e);
/* Client context. chain/key may be 0/NULL. Server verification is the client's verify callback
 * (rpc/client.h), never the host name. */
CS_CHECKED cs_code rpc_tls_client_ctx(const struct cs_slice *chain, size_t count, EVP_PKEY *key,
                                      SSL_CTX **out, struct cs_err *e);

/* The same with a key that is elsewhere (rpc/tls_signer.h); for clients with blocking_handshake. */
CS_CHECKED cs_code rpc_tls_client_ctx_signer(const struct cs_slice *chain, size_t count,
                                             struct crypto_signer *signer, SSL_CTX **out, struct cs_err *e);

/* Contexts are reference counted: a new reference, and giving one back (NULL is fine). Any thread. */
SSL_CTX *rpc_tls_ctx_ref(SSL_CTX *ctx);
void rpc_tls_ctx_unref(SSL_CTX *ctx);

#endif
