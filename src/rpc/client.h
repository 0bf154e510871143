/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC client over nghttp2. One client is one target; it connects on first use and again when the
 * connection was lost. Blocking calls for worker and command-line threads (never on a loop thread);
 * the I/O itself runs on the loop given.
 */
#ifndef CS_RPC_CLIENT_H
#define CS_RPC_CLIENT_H

#include "base/clock.h"
#include "loop/loop.h"
#include "rpc/status.h"

#include <openssl/types.h>

struct rpc_client;
struct rpc_client_config {
    const char *unix_path;   /* one of these two */
    const char *tcp_address; /* "host:port"; names are resolved */
    const char *proxy;       /* TCP only: URL of a proxy (rpc/proxy.h), which resolves names; or NULL */
    SSL_CTX *tls;            /* TCP only; referenced */
    /* Judge the server's chain (DER, leaf first) during the handshake. Required with tls. */
    cs_code (*verify)(void *arg, const struct cs_slice *chain, size_t count, struct cs_err *e);
    void *arg;
    /* The handshake is made in the thread of the call that connects, and not on the loop: the key of `tls` is
     * elsewhere, and signing waits for it. Only calls that need the new connection wait with it. */
    bool blocking_handshake;
    int64_t connect_ns;        /* 0: 20 s */
    size_t max_message;        /* received; 0: RPC_MAX_MESSAGE */
    int64_t keepalive_ns;      /* 0: none */
    int64_t keepalive_wait_ns; /* for the answer to a ping; 0: 20 s */
    bool secret_messages;      /* a message, either way, is overwritten when it was sent, taken or dropped */
    /* Asked about once a second by calls that have to wait, more often at first; true: they end with
     * CS_CANCELLED. Any thread, must not block. NULL: nobody is asked. */
    bool (*stopped)(void *arg);
};
struct rpc_metadata {
    const char *key, *value;
};
/* What came back besides the messages. */
struct rpc_result {
    struct rpc_detail detail;
};

/* Connects to nothing yet. The loop is borrowed until rpc_client_free and must run for calls to make way. */
CS_CHECKED cs_code rpc_client_new(struct loop *loop, const struct rpc_client_config *cfg,
                                  struct rpc_client **out, struct cs_err *e);
/* Connecting is given up, and calls from now on end with CS_CANCELLED; calls on connections go on. Any
 * thread; does not block. */
void rpc_client_stop(struct rpc_client *c);
/* Ends the calls under way with CS_CANCELLED. All streams must be freed first. The loop must still be
 * running, and is not needed by this client after: connections are closed on it. Blocking; not from the
 * loop's thread. */
void rpc_client_free(struct rpc_client *c);

/* One unary call; the response message is appended to `response`. `deadline_ns` is relative, sent as
 * grpc-timeout; 0: none. On a status other than OK: that code, e->text is grpc-message alone (the
 * CLI adds "rpc error: code = X desc = "), *result (may be NULL) holds the first detail. A peer that
 * cannot be reached gives CS_UNAVAILABLE with
 * `connection error: desc = "transport: Error while dialing: dial unix PATH: connect: no such file or
 * directory"`. Any thread but a loop's. */
CS_CHECKED cs_code rpc_client_unary(struct rpc_client *c, const char *path, struct cs_slice request,
                                    struct cs_buf *response, const struct rpc_metadata *md, size_t md_count,
                                    int64_t deadline_ns, struct rpc_result *result, struct cs_err *e);

struct rpc_stream;
CS_CHECKED cs_code rpc_stream_open(struct rpc_client *c, const char *path, const struct rpc_metadata *md,
                                   size_t md_count, int64_t deadline_ns, struct rpc_stream **out,
                                   struct cs_err *e);
/* Blocks while the peer's window is closed and our queue is full. */
CS_CHECKED cs_code rpc_stream_send(struct rpc_stream *s, struct cs_slice msg, struct cs_err *e);
CS_CHECKED cs_code rpc_stream_close_send(struct rpc_stream *s, struct cs_err *e);
/* Next message into *msg (reset first). *end is set at the end with status OK. `wait_ns` < 0: no
 * limit but the call's deadline; when it passes: CS_DEADLINE and the stream stays usable. */
CS_CHECKED cs_code rpc_stream_recv(struct rpc_stream *s, struct cs_buf *msg, bool *end, int64_t wait_ns,
                                   struct rpc_result *result, struct cs_err *e);
/* For streams that no thread waits for: `ready` is called on the loop's thread whenever rpc_stream_recv may
 * have something to say (a message, the end), and once soon after this call; take it all with wait_ns 0.
 * Once, before the first rpc_stream_recv. The stream must then be freed on the loop's thread. CS_UNAVAILABLE
 * when the loop has ended. */
CS_CHECKED cs_code rpc_stream_on_ready(struct rpc_stream *s, void (*ready)(void *arg), void *arg,
                                       struct cs_err *e);
/* Any thread: makes a blocked send or recv return CS_CANCELLED. */
void rpc_stream_cancel(struct rpc_stream *s);
void rpc_stream_free(struct rpc_stream *s); /* cancels when still open */

#endif
