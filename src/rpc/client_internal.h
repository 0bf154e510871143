/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the gRPC client. Callers block in their own threads; connections live on the loop.
 *   [loop]  the loop's thread only
 *   [lock]  under rpc_client.lock
 *   [const] set before anybody else sees it
 */
#ifndef CS_RPC_CLIENT_INTERNAL_H
#define CS_RPC_CLIENT_INTERNAL_H

#include "base/mem.h"
#include "rpc/client.h"
#include "rpc/frame.h"
#include "rpc/io.h"
#include "rpc/proxy.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define RPC_CLIENT_WINDOW (256u * 1024) /* bytes of a stream on their way to the caller */
#define RPC_CLIENT_CONN_WINDOW (1024u * 1024)
#define RPC_CLIENT_SEND_QUEUE (256u * 1024) /* bytes a stream may queue before send blocks */
#define RPC_CLIENT_HEADER_LIST (64u * 1024) /* bytes of headers and trailers taken per stream */
#define RPC_CLIENT_PING_WAIT_NS (20 * CS_NS_PER_S)
#define RPC_CLIENT_CONNECT_NS (20 * CS_NS_PER_S)
/* Between two questions to cfg.stopped: at first, and of who has waited for a while. */
#define RPC_CLIENT_STOP_POLL_NS (200 * CS_NS_PER_MS)
#define RPC_CLIENT_STOP_POLL_LATER_NS CS_NS_PER_S
#define RPC_CLIENT_STOP_POLL_WHILE_NS (5 * CS_NS_PER_S)

struct rpc_link;

struct rpc_client {
    struct loop *loop;
    struct rpc_client_config cfg; /* [const] strings are copies */
    char *authority;              /* [const] */
    struct rpc_proxy proxy;       /* [const] with cfg.proxy */
    int wake_fd;                  /* readable once closing: ends a dial */
    pthread_mutex_t lock;
    pthread_cond_t changed;               /* dialing ended, a link changed, `live` fell */
    struct rpc_link *link;                /* [lock] the one new streams use; referenced */
    struct rpc_link *links;               /* [lock] all that live on the loop */
    bool dialing, closing;                /* [lock] */
    unsigned callers;                     /* [lock] threads inside the client */
    unsigned live;                        /* [lock] links on the loop and work posted to it */
    uint64_t failures;                    /* [lock] dials that failed */
    struct cs_err last_failure;           /* [lock] */
    struct rpc_scratch scratch;           /* [loop] */
    nghttp2_session_callbacks *callbacks; /* [const] */
    nghttp2_option *option;               /* [const] */
};

/* One connection. */
struct rpc_link {
    _Atomic unsigned refs;
    struct rpc_client *client;
    struct rpc_io io;               /* [loop] */
    struct rpc_stream *streams;     /* [loop] */
    struct loop_timer *keepalive;   /* [loop] */
    bool heard, pinged, handshaken; /* [loop] */
    struct cs_err verify_err;       /* [loop] */
    bool ready, dead, goaway;       /* [lock] */
    struct cs_err why;              /* [lock] when dead */
    struct rpc_link *next, **prev;  /* [lock] */
    int fd;                         /* until it is attached */
    SSL *ssl;                       /* the same; NULL unless the handshake was made before */
};

struct rpc_message {
    struct rpc_message *next;
    struct cs_buf body;
};
struct rpc_message_list {
    struct rpc_message *first, **end;
};

/* What a HEADERS frame of the server says. */
struct rpc_reply_head {
    int http_status, grpc_status; /* -1: absent */
    bool is_grpc;
    size_t bytes;
    char content_type[64], encoding[16];
    struct cs_buf message, details; /* as sent */
};

struct rpc_stream {
    _Atomic unsigned refs;
    struct rpc_client *client; /* [const] */
    struct rpc_link *link;     /* [const] referenced */
    char *path;                /* [const] */
    struct rpc_metadata *md;   /* [const] one allocation */
    size_t md_count;
    int64_t deadline;    /* [const] monotonic, INT64_MAX: none */
    bool unary;          /* [const] woken only by the end */
    bool secret;         /* [const] messages are wiped; the last reference may outlive the client */
    pthread_cond_t cond; /* messages, room or the end */

    struct rpc_message_list out, in; /* [lock] */
    size_t out_bytes;                /* [lock] */
    bool out_closed, cancel, poked;  /* [lock] */
    bool done, unprocessed;          /* [lock] */
    struct cs_err status;            /* [lock] valid when done */
    void (*ready)(void *arg);        /* [lock] called on the loop, nobody waits in a thread */
    void *ready_arg;                 /* [lock] */
    struct rpc_detail detail;        /* [lock] */

    struct rpc_stream *next, **prev;                       /* [loop] the link's list */
    int32_t id;                                            /* [loop] 0: not submitted or gone */
    bool attached, submitted, sent, deferred, got_headers; /* [loop] */
    struct rpc_deframer deframer;                          /* [loop] */
    size_t out_off, withheld;                              /* [loop] */
    struct rpc_reply_head head;                            /* [loop] */
};

/* client.c */
void rpc_link_ref(struct rpc_link *k);
void rpc_link_unref(struct rpc_link *k);
/* A link that can take a stream, dialing when there is none. Referenced for the caller. */
CS_CHECKED cs_code rpc_client_link(struct rpc_client *c, int64_t deadline, struct rpc_link **out,
                                   struct cs_err *e);
bool rpc_client_enter(struct rpc_client *c); /* false: closing */
void rpc_client_leave(struct rpc_client *c);
/* Run fn on the loop, counted in `live`: fn ends with rpc_client_unpin. */
CS_CHECKED bool rpc_client_post(struct rpc_client *c, void (*fn)(void *), void *arg);
void rpc_client_unpin(struct rpc_client *c);
/* pthread_cond_timedwait on the client's lock and the monotonic clock. CS_DEADLINE: the time is over;
 * CS_CANCELLED: the client's owner wants nobody to wait any more. */
CS_CHECKED cs_code rpc_client_wait(struct rpc_client *c, pthread_cond_t *cond, int64_t mono_ns);
void rpc_cond_init(pthread_cond_t *cond);

/* client_tunnel.c: in the caller's thread */
/* A connection to the server through the proxy. */
CS_CHECKED cs_code rpc_client_dial_proxy(struct rpc_client *c, int64_t deadline, int *fd, struct cs_err *e);

/* client_dial.c: in the caller's thread */
#define RPC_DIALING "connection error: desc = \"transport: Error while dialing: "
/* Waits for `events`; 0, ETIMEDOUT at the deadline, ECANCELED when the client is closing, or an errno. */
int rpc_client_wait_io(const struct rpc_client *c, int fd, short events, int64_t until);
/* 0 or an errno. */
int rpc_client_connect(const struct rpc_client *c, int family, const struct sockaddr *sa, socklen_t len,
                       int64_t until, int *out);
CS_CHECKED cs_code rpc_client_dial_host(struct rpc_client *c, const char *host, const char *port,
                                        int64_t until, int *fd, struct cs_err *e);
/* The words for an errno, as Go's; CS_CANCELLED or CS_UNAVAILABLE. */
cs_code rpc_client_dial_failed(struct cs_err *e, const char *net, const char *address, int err);
CS_CHECKED cs_code rpc_client_dial(struct rpc_client *c, int64_t deadline, int *fd, struct cs_err *e);

/* client_tls.c: in the caller's thread */
CS_CHECKED cs_code rpc_client_handshake(struct rpc_link *k, int64_t until, struct cs_err *e);

/* client_link.c: on the loop */
extern const struct rpc_io_ops rpc_link_ops;
CS_CHECKED cs_code rpc_link_h2_init(struct rpc_client *c, struct cs_err *e);
void rpc_link_attach(void *link);                 /* posted with a reference for the loop */
void rpc_link_kill(void *link);                   /* posted with a reference */
void rpc_client_kill_links(void *client);         /* posted */
void rpc_client_drop_links(struct rpc_client *c); /* the same when the loop runs no more */

/* client_stream.c */
void rpc_stream_ref(struct rpc_stream *s);
void rpc_stream_unref(struct rpc_stream *s);
/* [loop] First end wins. */
void rpc_stream_end(struct rpc_stream *s, cs_code code, const char *text, const struct rpc_detail *d,
                    bool unprocessed);
/* [loop] */
void rpc_stream_on_loop(struct rpc_stream *s);
ssize_t rpc_stream_read_out(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
                            nghttp2_data_source *source, void *arg);
void rpc_stream_data_in(struct rpc_stream *s, struct cs_slice data);

/* client_reply.c: [loop] headers and trailers of the server */
void rpc_reply_reset(struct rpc_reply_head *h);
void rpc_reply_free(struct rpc_reply_head *h);
bool rpc_reply_add(struct rpc_reply_head *h, struct cs_slice name, struct cs_slice value);
/* A HEADERS frame is whole. False: the stream was ended here and is to be reset. */
bool rpc_reply_headers(struct rpc_stream *s, bool end);

#endif
