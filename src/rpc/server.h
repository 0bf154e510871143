/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC server over nghttp2 (gRPC over HTTP/2 protocol, doc/PROTOCOL-HTTP2.md of grpc). Knows no
 * service of ours: methods are rows of a table. grpc.health.v1 is offered as ready-made rows.
 *
 * Threads: connections belong to I/O loops for life. A call is a serial executor: its callbacks
 * run one after another, never two at once, on the I/O thread (RPC_INLINE) or on the worker pool
 * (RPC_WORKER). rpc_call_send and rpc_call_finish may be called from any thread while the caller
 * holds a reference (handlers hold one while they run; keep one with rpc_call_ref).
 */
#ifndef CS_RPC_SERVER_H
#define CS_RPC_SERVER_H

#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "loop/peer.h"
#include "rpc/status.h"

#include <openssl/types.h>

struct rpc_call;
struct rpc_conn;

enum rpc_run {
    RPC_INLINE, /* on the I/O thread: bounded work under about 200 us, never blocks */
    /* On the worker pool: database, signing batches, plugins. Whatever such a handler waits for needs a
     * deadline of its own: nobody interrupts it when the call's deadline passes or the client goes, it
     * keeps its worker until it returns (it may look at rpc_call_done and rpc_call_deadline), and
     * rpc_server_shutdown waits for it without limit. */
    RPC_WORKER,
};

/* Streams: each callback returns CS_OK to go on; anything else finishes the call with that status. */
struct rpc_stream_ops {
    /* Headers are in, `*state` is the handler's to set (NULL at first). */
    cs_code (*open)(struct rpc_call *call, void *service, void **state, struct cs_err *e);
    /* One whole request message; borrowed for the time of the call. */
    cs_code (*message)(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                       struct cs_err *e);
    /* The client half-closed. NULL: the call is finished with OK. */
    cs_code (*half_close)(struct rpc_call *call, void *service, void *state, struct cs_err *e);
    /* Exactly once, last of all, after finish, reset, deadline or a lost connection: free `state`.
     * Also when open failed. */
    void (*closed)(struct rpc_call *call, void *service, void *state);
    /* There is room to send again: called on the call's executor, once after one or more
     * rpc_call_send of this call came back with CS_EXHAUSTED, when the bytes queued of the call have
     * fallen to a quarter of rpc_server_config.stream_queue and those of its connection to three
     * quarters of conn_queue, or nothing of the call is queued any more. Never comes without such a
     * refusal, nor once the call is over. A refusal from inside it asks for the next one. It needs no
     * memory, so it comes also when there is none. NULL: not wanted. */
    cs_code (*writable)(struct rpc_call *call, void *service, void *state, struct cs_err *e);
};

struct rpc_method {
    const char *path; /* "/pkg.Service/Method" */
    enum rpc_run run;
    /* Unary: append the packed response to `response` (arena of the call: rpc_call_arena). */
    cs_code (*unary)(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                     struct cs_err *e);
    const struct rpc_stream_ops *stream; /* exactly one of unary, stream is set */
    const void *policy;                  /* the upper layer's own row (who may call, rate limit) */
};

/* --- What a handler can ask and do --- */
const struct rpc_method *rpc_call_method(const struct rpc_call *call);
struct rpc_conn *rpc_call_conn(struct rpc_call *call);
/* Freed when the call ends; only inside the call's own callbacks. */
struct cs_arena *rpc_call_arena(struct rpc_call *call);
/* First value of a metadata key (lower case; "-bin" values are decoded); len 0 when absent. */
struct cs_slice rpc_call_metadata(const struct rpc_call *call, const char *key);
/* How many values a metadata key has. */
size_t rpc_call_metadata_count(const struct rpc_call *call, const char *key);
/* Monotonic deadline in ns, INT64_MAX when the client set none. */
int64_t rpc_call_deadline(const struct rpc_call *call);
bool rpc_call_done(const struct rpc_call *call);  /* cancelled or finished: stop working */
void *rpc_call_data(const struct rpc_call *call); /* the upper layer's pointer, see `begin` */
void rpc_call_set_data(struct rpc_call *call, void *data);
void rpc_call_ref(struct rpc_call *call);
void rpc_call_unref(struct rpc_call *call);
/* Queue one response message of a stream; `msg` is taken over (b is empty after). CS_EXHAUSTED when
 * the stream's send queue is full: nothing was queued, msg is untouched. CS_CANCELLED when the call
 * is over. The bytes queued so far are rpc_call_queued. */
CS_CHECKED cs_code rpc_call_send(struct rpc_call *call, struct cs_buf *msg);
size_t rpc_call_queued(const struct rpc_call *call);
/* Finish a stream after what is queued was sent. Later calls do nothing. */
void rpc_call_finish(struct rpc_call *call, cs_code code, const char *text);
/* A detail for grpc-status-details-bin of this call's final status. Copied. */
void rpc_call_set_detail(struct rpc_call *call, const struct rpc_detail *d);
/* Run fn on the call's executor after what is queued there (used by pushers to wake a stream
 * handler). false: the call is over. Any thread holding a reference. */
CS_CHECKED bool rpc_call_post(struct rpc_call *call,
                              void (*fn)(struct rpc_call *call, void *service, void *state));

/* --- Connection --- */
bool rpc_conn_is_unix(const struct rpc_conn *conn);
const struct loop_peer *rpc_conn_peer(const struct rpc_conn *conn); /* Unix sockets only, else NULL */
const char *rpc_conn_address(const struct rpc_conn *conn);          /* "127.0.0.1:4711" or "@" */
const char *rpc_conn_ip(const struct rpc_conn *conn);               /* "127.0.0.1"; "" for Unix */
/* DER of the client's certificates, leaf first; count 0 without client certificate. */
const struct cs_slice *rpc_conn_peer_chain(const struct rpc_conn *conn, size_t *count);
/* One pointer per connection for the upper layer (set by verify_client or accept_unix); its
 * destructor runs when the connection and its last call are gone, on any thread. Calls of one
 * connection may run on several threads: use what it points to as immutable or locked. */
void *rpc_conn_data(const struct rpc_conn *conn);

/* --- Server --- */
struct rpc_listener_tls {
    /* A context for one handshake, owned by the caller (SSL_CTX_up_ref'd): called on an I/O thread
     * for each connection, so a rotated certificate takes effect at once. NULL: refuse. ALPN,
     * options and the client-certificate callback are set up with rpc_tls_server_ctx. */
    SSL_CTX *(*get_ctx)(void *arg);
    /* Verify the client's chain (leaf first). CS_OK accepts; *conn_data/ *destroy become the
     * connection's data. Anything else ends the handshake with a TLS alert. Called at most once per
     * connection, inline; not called when the client sent no certificate. */
    cs_code (*verify_client)(void *arg, const struct cs_slice *chain, size_t count, void **conn_data,
                             void (**destroy)(void *), struct cs_err *e);
    void *arg;
};

struct rpc_service {  /* the methods of one gRPC service on one listener */
    const char *name; /* "pkg.Service", for "unknown service" against "unknown method" */
    const struct rpc_method *methods;
    size_t count;
    void *ctx; /* passed to handlers as `service` */
};

struct rpc_listener {
    const char *tcp_address; /* "0.0.0.0:8081", "[::1]:0"; or NULL */
    const char *unix_path;   /* or NULL; a stale socket file is replaced */
    int unix_mode;           /* mode bits of the socket file, e.g. 0770 */
    /* Responses hold secrets: a message is overwritten when it was sent or dropped. */
    bool secret_responses;
    struct rpc_listener_tls tls;        /* TCP only */
    const struct rpc_service *services; /* borrowed, must outlive the server */
    size_t service_count;
    size_t max_message; /* 0: RPC_MAX_MESSAGE */
    void *arg;
    /* Before a handler: authorise, limit, attach rpc_call_set_data. Runs where the method runs
     * (policy says). Not CS_OK: the handler never runs. May be NULL. */
    cs_code (*begin)(struct rpc_call *call, void *arg, struct cs_err *e);
    /* After the final status is known, exactly once per begin that ran (audit, freeing data). May be NULL. */
    void (*end)(struct rpc_call *call, void *arg, cs_code code, const char *text);
    /* Called once per accepted Unix connection on its I/O thread; refuse with any code. May be NULL. */
    cs_code (*accept_unix)(void *arg, const struct loop_peer *peer, void **conn_data,
                           void (**destroy)(void *), struct cs_err *e);
};

struct rpc_server_config {
    unsigned io_threads;                       /* 0: number of cores */
    unsigned workers;                          /* 0: 2 x cores, at least 4 */
    unsigned max_connections;                  /* 0: 65536 */
    unsigned max_streams;                      /* per connection; 0: 1000 */
    size_t stream_queue;                       /* bytes queued to send per stream; 0: 8 MiB */
    size_t conn_queue;                         /* bytes queued to send per connection; 0: 32 MiB */
    int64_t handshake_ns;                      /* TLS handshake + first settings; 0: 10 s */
    int64_t keepalive_ns;                      /* ping an idle connection; 0: 2 h as grpc-go */
    int64_t max_conn_idle_ns, max_conn_age_ns; /* 0: none. At age: GOAWAY, then close when drained */
    int64_t drain_ns; /* from the last GOAWAY to the close, open calls or not; 0: 60 s */
    /* From the first byte of a message to its last; of a unary call from its headers to the end of the
     * request. Then the call ends with CS_DEADLINE. Streams may be quiet between messages as long as
     * they like. 0: 30 s */
    int64_t message_ns;
    int64_t linger_ns; /* a finished call of whose rest the peer takes nothing; 0: 60 s */
    /* Bytes of requests that are not worked on yet: of all TCP connections together, and again of all
     * Unix connections together. Of it, peers whose connection has no data (rpc_conn_data) get a
     * quarter, and any one connection at most half of what is still free. The first 16 KiB of a connection
     * do not count: newcomers with small requests are served when others have taken it all. 0: 512 MiB */
    size_t recv_limit;
    struct cs_log log;
};

struct rpc_server;
CS_CHECKED cs_code rpc_server_new(const struct rpc_server_config *cfg, struct rpc_server **out,
                                  struct cs_err *e);
/* Bind and start to accept. The structs are copied, what they point to is borrowed. CS_UNAVAILABLE
 * with Go's text ("listen tcp 127.0.0.1:8081: bind: address already in use"). */
CS_CHECKED cs_code rpc_server_listen(struct rpc_server *s, const struct rpc_listener *l, struct cs_err *e);
/* Port of the n-th TCP listener (0 asked for any). */
int rpc_server_port(const struct rpc_server *s, unsigned n);
struct loop_pool *rpc_server_pool(struct rpc_server *s);
/* Stop accepting, GOAWAY everywhere, let running unary calls end for at most `grace_ns`, end streams
 * with UNAVAILABLE, remove socket files, join all threads. Handlers on workers are waited for as long as
 * they run, grace or not. Blocking; not on an own thread. */
void rpc_server_shutdown(struct rpc_server *s, int64_t grace_ns);
void rpc_server_free(struct rpc_server *s); /* shuts down first if that was not done */

/* --- Health (grpc.health.v1) --- */
struct rpc_health {
    /* Status of a service name ("" = whole server) as the protocol's enum: 1 SERVING, 2 NOT_SERVING,
     * -1 unknown name (NotFound for Check). */
    int (*status)(void *arg, struct cs_slice service);
    void *arg;
};
/* A service row for `services` whose ctx must point to a struct rpc_health. */
extern const struct rpc_method rpc_health_methods[];
extern const size_t rpc_health_method_count;
#define RPC_HEALTH_SERVICE "grpc.health.v1.Health"

#endif
