/* SPDX-License-Identifier: Apache-2.0
 *
 * Proxies between a client and its server, given as a URL:
 *
 *   http://HOST:PORT        HTTP CONNECT (RFC 9110 section 9.3.6); IPv6 in brackets
 *   http+vsock://CID:PORT   the same over AF_VSOCK, as enclaves reach their parent
 *   vsock://CID:PORT        AF_VSOCK to somebody who passes the bytes on to the server (vsock-proxy)
 *
 * A proxy is not trusted: TLS goes through it end to end.
 */
#ifndef CS_RPC_PROXY_H
#define CS_RPC_PROXY_H

#include "base/buf.h"

struct rpc_proxy {
    bool vsock, connect; /* AF_VSOCK instead of TCP; HTTP CONNECT */
    char host[256];      /* TCP: name or address, without brackets */
    uint16_t port;       /* TCP */
    uint32_t cid, vport; /* vsock */
};
/* CS_INVALID naming the URL, but for what stands before an '@', which may be a password: proxies that want
 * one are not supported. */
CS_CHECKED cs_code rpc_proxy_parse(const char *url, struct rpc_proxy *out, struct cs_err *e);

#define RPC_PROXY_HEAD_MAX 8192 /* bytes of a proxy's answer, status line and headers */

/* The answer to a CONNECT as far as it came: *length 0 while it is not complete. CS_INVALID when it is no
 * HTTP/1 response or too long; CS_UNAVAILABLE with its status line when it is not 2xx. For tests and fuzzing,
 * too. */
CS_CHECKED cs_code rpc_proxy_answer(struct cs_slice got, size_t *length, struct cs_err *e);

#endif
