/* SPDX-License-Identifier: Apache-2.0
 *
 * The way to the server: one connection, made on first use with the present certificate and judged by the
 * present bundle, and given up after a failed call or a rotation, so that the next call starts afresh.
 * Blocking calls, any thread but a loop's; agent_link_stop ends them.
 */
#ifndef CS_AGENT_LINK_H
#define CS_AGENT_LINK_H

#include "base/clock.h"
#include "base/log.h"
#include "crypto/key.h"
#include "loop/loop.h"
#include "proto/proto.h"
#include "rpc/client.h"
#include "spiffe/bundle.h"

#define AGENT_RPC_TIMEOUT_NS (INT64_C(30) * CS_NS_PER_S)

struct agent_link;
struct agent_link_config {
    struct loop *loop; /* the I/O runs there */
    const struct cs_clock *clock;
    struct cs_log log;
    const char *address; /* "host:port"; borrowed, as are the next two */
    const char *proxy;   /* URL, rpc/proxy.h; NULL: none */
    const char *trust_domain;
    bool insecure; /* bootstrap without a bundle: any server that says it is the trust domain's */
};
CS_CHECKED cs_code agent_link_new(const struct agent_link_config *cfg, struct agent_link **out,
                                  struct cs_err *e);
/* No call may be under way. NULL is fine. */
void agent_link_free(struct agent_link *l);
static inline void agent_link_drop(struct agent_link **l)
{
    agent_link_free(*l);
    *l = NULL;
}

/* What the next connection uses; referenced or copied. Without an identity no client certificate is sent. A
 * key that is not local makes the call that connects wait for its signature, and nobody else. */
CS_CHECKED cs_code agent_link_set_identity(struct agent_link *l, const struct x509_chain *chain,
                                           struct crypto_signer *key, struct cs_err *e);
void agent_link_set_bundle(struct agent_link *l, const struct spiffe_bundle *bundle);
/* The next call connects anew; calls under way go on. */
void agent_link_release(struct agent_link *l);
/* Calls under way end with CS_CANCELLED, as do later ones. */
void agent_link_stop(struct agent_link *l);

/* What a failed call means beyond its code. */
struct agent_failure {
    bool unknown_authority; /* the server's certificate is not under our bundle */
    bool reattest;          /* the server does not know this agent (any more) */
    bool shutdown;          /* the agent is banned */
};

/* One unary call: `request` is packed, the answer is unpacked into the arena. Of a call that failed
 * e->text is "rpc error: code = X desc = " and the server's message. */
CS_CHECKED cs_code agent_link_call(struct agent_link *l, const char *path, const ProtobufCMessage *request,
                                   struct cs_arena *a, const ProtobufCMessageDescriptor *d,
                                   ProtobufCMessage **response, int64_t timeout_ns,
                                   struct agent_failure *failure, struct cs_err *e);
/* The same with the packed answer instead. */
CS_CHECKED cs_code agent_link_call_raw(struct agent_link *l, const char *path,
                                       const ProtobufCMessage *request, struct cs_buf *response,
                                       int64_t timeout_ns, struct agent_failure *failure, struct cs_err *e);

/* A stream of messages. Its owner closes it, failed or not. */
struct agent_link_stream;
CS_CHECKED cs_code agent_link_open(struct agent_link *l, const char *path, int64_t timeout_ns,
                                   struct agent_link_stream **out, struct agent_failure *failure,
                                   struct cs_err *e);
CS_CHECKED cs_code agent_link_send(struct agent_link_stream *s, const ProtobufCMessage *request,
                                   struct agent_failure *failure, struct cs_err *e);
CS_CHECKED cs_code agent_link_send_end(struct agent_link_stream *s, struct agent_failure *failure,
                                       struct cs_err *e);
/* *end: no more messages, the call was OK. */
CS_CHECKED cs_code agent_link_recv(struct agent_link_stream *s, struct cs_buf *msg, bool *end,
                                   struct agent_failure *failure, struct cs_err *e);
void agent_link_close(struct agent_link_stream *s); /* NULL is fine */
static inline void agent_link_stream_drop(struct agent_link_stream **s)
{
    agent_link_close(*s);
    *s = NULL;
}

#endif
