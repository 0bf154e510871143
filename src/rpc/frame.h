/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC message framing: one flag byte, four bytes of length (big endian), the message
 * (Length-Prefixed-Message of grpc's doc/PROTOCOL-HTTP2.md). Shared by server and client.
 */
#ifndef CS_RPC_FRAME_H
#define CS_RPC_FRAME_H

#include "base/buf.h"

#define RPC_FRAME_HEAD 5

/* Puts a stream of bytes, cut anywhere, back into messages. Zero-initialise, set `max`; release
 * with rpc_deframer_free. One thread at a time. */
struct rpc_deframer {
    struct cs_buf body; /* the message so far; grows with what arrives, not with what is announced */
    size_t max;         /* largest message taken, in bytes */
    size_t want;        /* length announced by the prefix, valid when have == RPC_FRAME_HEAD */
    uint8_t have;       /* bytes of the prefix that are in */
    uint8_t head[RPC_FRAME_HEAD];
};
void rpc_deframer_free(struct rpc_deframer *d);
/* Takes from the front of *in, at most to the end of one message. *done: d->body is a whole message,
 * which the caller moves out with rpc_deframer_take before the next call. The limit is judged by the
 * prefix, before anything is kept. `encoding` is the peer's grpc-encoding ("" none); it only decides
 * the text for a compressed message, which is refused. Errors carry grpc-go's status and texts:
 * CS_EXHAUSTED past `max`, CS_INTERNAL or CS_UNIMPLEMENTED (server) for a flag we cannot serve. */
CS_CHECKED cs_code rpc_deframe(struct rpc_deframer *d, struct cs_slice *in, const char *encoding, bool server,
                               bool *done, struct cs_err *e);
/* Moves the finished message to *out (empty, owned by the caller) and starts the next. */
void rpc_deframer_take(struct rpc_deframer *d, struct cs_buf *out);
/* True between two messages: nothing of a next one is in. */
static inline bool rpc_deframer_idle(const struct rpc_deframer *d)
{
    return d->have == 0;
}

/* Writes the prefix of an uncompressed message. Lengths past 32 bits do not occur (cs_buf's limit). */
void rpc_frame_head(uint8_t out[RPC_FRAME_HEAD], size_t len);

#endif
