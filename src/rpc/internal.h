/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the gRPC server. Who may touch what:
 *   [loop]  the I/O thread of the connection only
 *   [lock]  under rpc_call.lock
 *   [exec]  the call's executor: whoever runs its callbacks at the moment
 *   [const] set before anybody else sees it
 */
#ifndef CS_RPC_INTERNAL_H
#define CS_RPC_INTERNAL_H

#include "base/clock.h"
#include "base/coll.h"
#include "rpc/frame.h"
#include "rpc/io.h"
#include "rpc/server.h"
#include "rpc/timers.h"

#include <pthread.h>
#include <stdatomic.h>

/* Limits that no configuration changes. */
#define RPC_MAX_HEADER_LIST (64u * 1024) /* bytes of one request's headers */
#define RPC_STREAM_WINDOW (256u * 1024)  /* bytes a stream may have on its way to a handler */
#define RPC_CONN_WINDOW (1024u * 1024)
#define RPC_CONN_RECV_LIMIT                                                                                  \
    (32u * 1024 * 1024)                        /* bytes of unfinished and waiting messages per connection    \
                                                */
#define RPC_ANON_RECV_LIMIT (8u * 1024 * 1024) /* the same when nobody vouches for the peer */
#define RPC_CONN_RECV_FREE (16u * 1024) /* of these, what a connection has for itself, see recv_limit */
#define RPC_RESET_BURST 200             /* stream resets by the peer: at once, */
#define RPC_RESET_RATE 50               /* and per second */
#define RPC_CONTROL_LIMIT 1000          /* frames without use per RPC_CONTROL_WINDOW */
#define RPC_CONTROL_WINDOW (10 * CS_NS_PER_S)
#define RPC_STALL_NS (30 * CS_NS_PER_S)     /* a peer that takes no byte of ours */
#define RPC_HEADERS_NS (10 * CS_NS_PER_S)   /* from a HEADERS frame to its end */
#define RPC_PING_WAIT_NS (20 * CS_NS_PER_S) /* for the answer to a keepalive ping */
#define RPC_GOAWAY_WAIT_NS CS_NS_PER_S      /* between the two GOAWAYs, at most */

struct rpc_route { /* one method of a listener */
    const struct rpc_method *method;
    void *service;
};

/* t + ns, INT64_MAX (never) when ns is 0 or too large. */
static inline int64_t rpc_after(int64_t t, int64_t ns)
{
    int64_t r;
    return ns <= 0 || __builtin_add_overflow(t, ns, &r) ? INT64_MAX : r;
}

struct rpc_lane;

/* Memory for requests that several connections share. */
struct rpc_budget {
    _Atomic size_t used;
    size_t limit;
    struct rpc_budget *above; /* what is taken here is taken there as well; or NULL */
};

struct rpc_endpoint { /* a listener */
    struct rpc_server *server;
    struct rpc_listener l; /* strings are copies */
    struct cs_map *routes; /* path -> struct rpc_route */
    struct cs_map *names;  /* service names */
    int fd;
    struct event *ev;         /* [loop of lane 0] */
    struct loop_timer *pause; /* [loop of lane 0] accepting again after the process ran out of files */
    int port;
    struct rpc_endpoint *next;
};

/* One I/O thread. */
struct rpc_lane {
    struct rpc_server *server;
    struct loop *loop;
    struct rpc_scratch scratch;
    struct rpc_timers timers;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *opt_tls, *opt_unix;
    struct cs_arena *arena;  /* of the inline unary call that runs now */
    struct rpc_conn *conns;  /* [loop] */
    struct loop_timer *trim; /* [loop] gives memory back after many connections went */
    unsigned closed_since_trim;
    size_t sent_since_trim; /* bytes of messages, as they were freed */
    int64_t trim_next;      /* monotonic ns, not before */
    bool started, draining, trim_set;
};

struct rpc_server {
    struct rpc_server_config cfg;
    struct loop_pool *pool;
    struct rpc_lane *lanes;
    unsigned lane_count;
    unsigned next_lane;             /* [loop of lane 0] */
    struct rpc_endpoint *endpoints; /* newest first */
    _Atomic unsigned conn_count;
    _Atomic unsigned live_calls;            /* executors that still have to run their last callback */
    struct rpc_budget tcp, tcp_anon, local; /* local: Unix sockets, which TCP cannot starve */
    _Atomic bool stopping;
    bool shut_down;
    pthread_mutex_t lock;   /* for `changed` only */
    pthread_cond_t changed; /* a lane lost its last connection, or the last call ended */
};

struct rpc_conn {
    _Atomic unsigned refs;
    struct rpc_lane *lane;
    struct rpc_endpoint *ep;
    struct rpc_io io;              /* [loop] */
    struct rpc_conn *next, **link; /* [loop] */
    struct rpc_call *calls;        /* [loop] */
    unsigned call_count;           /* [loop] */
    struct rpc_timer timer;        /* [loop] the earliest of what follows */
    int64_t setup_by, headers_by, stall_by, ping_by, goaway_by, age_at; /* [loop] INT64_MAX: none */
    int64_t close_by, linger_at;                                        /* [loop] likewise */
    int64_t last_heard, idle_since;                                     /* [loop] */
    int64_t control_start;                                              /* [loop] flood guard */
    unsigned control_count;
    struct rpc_budget *budget; /* [loop] */
    size_t recv_bytes;         /* [loop] */
    _Atomic size_t send_bytes;
    bool open, goaway_sent, drain; /* [loop] */
    bool has_peer;
    struct loop_peer peer;  /* [const] */
    char *address, *ip;     /* [const] */
    struct cs_slice *chain; /* [const] one allocation with the bytes behind it */
    size_t chain_count;
    void *data; /* [const] */
    void (*destroy)(void *);
};

struct rpc_out { /* a message on its way out */
    struct rpc_out *next;
    struct cs_buf body;
};

enum rpc_work_kind { RPC_WORK_OPEN, RPC_WORK_MESSAGE, RPC_WORK_HALF_CLOSE, RPC_WORK_POST };
struct rpc_work { /* what a stream's executor has to do */
    struct rpc_work *next;
    enum rpc_work_kind kind;
    struct cs_buf msg;
    void (*fn)(struct rpc_call *call, void *service, void *state);
};

struct rpc_call {
    _Atomic unsigned refs;
    _Atomic bool done; /* nothing the handler does matters any more */
    _Atomic bool flush_posted;
    _Atomic unsigned waiting;        /* whole messages the handler has not seen */
    _Atomic size_t queued;           /* bytes waiting to be sent */
    struct rpc_conn *conn;           /* [const] */
    const struct rpc_method *method; /* [const] NULL: refused by its headers */
    void *service;                   /* [const] */
    int64_t deadline;                /* [const] after the headers */

    int32_t stream;                /* [loop] 0: gone */
    struct rpc_call *next, **link; /* [loop] the connection's list */
    struct rpc_timer timer;        /* [loop] for the earlier of deadline and message_by, or before */
    int64_t message_by;            /* [loop] when the message coming in has to be whole; INT64_MAX: none */
    struct rpc_timer retry;        /* [loop] the pool was full */
    struct rpc_deframer in;        /* [loop] */
    struct cs_buf request;         /* [loop] of a unary call, until it is dispatched */
    size_t recv_held;              /* [loop] counted in conn->recv_bytes */
    size_t withheld;               /* [loop] received but not given back to the peer's window */
    size_t linger_queued;          /* [loop] bytes left when the connection last looked */
    size_t header_bytes;           /* [loop] */
    size_t out_off;                /* [loop] bytes of the first message already sent, with prefix */
    bool dispatched, headers_sent, deferred, half_closed, got_request, lingers; /* [loop] */
    uint16_t http_status;  /* [loop] of an early refusal; 0: 200 */
    struct rpc_head *head; /* [loop] while headers come in */

    struct cs_buf md;  /* [const] after the headers: metadata, see call_head.c */
    char encoding[16]; /* [const] grpc-encoding */

    pthread_mutex_t lock;
    struct rpc_out *out, **out_end;    /* [lock] */
    struct rpc_work *work, **work_end; /* [lock] */
    bool running, finished;            /* [lock] */
    bool want_room;            /* [lock] a send was refused: `writable` is owed when the queue is down */
    bool room_due;             /* [lock] `writable` is to run */
    bool close_due, closed;    /* [lock] `closed` is to run; it does, or did, or never will */
    cs_code code;              /* [lock] valid when finished */
    char *text;                /* [lock] */
    struct rpc_detail *detail; /* [lock] */

    struct cs_arena *arena; /* [exec] */
    bool arena_borrowed;
    bool opened, began; /* [exec] */
    void *state, *data; /* [exec] */
};

/* call_head.c: a request's headers. */
CS_CHECKED cs_code rpc_head_begin(struct rpc_call *call);
/* False: too many, the stream is to be reset. */
bool rpc_head_add(struct rpc_call *call, struct cs_slice name, struct cs_slice value);
/* Judges what came: method and deadline are set, or the call is refused (and false returned). */
bool rpc_head_end(struct rpc_call *call);

/* call.c */
CS_CHECKED cs_code rpc_call_new(struct rpc_conn *conn, int32_t stream, struct rpc_call **out);
void rpc_call_dispatch(struct rpc_call *call);                             /* [loop] headers are in */
void rpc_call_data_in(struct rpc_call *call, struct cs_slice data);        /* [loop] */
void rpc_call_end_in(struct rpc_call *call);                               /* [loop] the client half-closed */
void rpc_call_gone(struct rpc_call *call, cs_code code, const char *text); /* [loop] no stream any more */
/* RST_STREAM; when there is no memory even for that, the connection ends. */
void rpc_call_reset(struct rpc_call *call, uint32_t error); /* [loop] */
/* End with a status whatever the handler thinks; what is queued is dropped. */
void rpc_call_abort(struct rpc_call *call, cs_code code, const char *text); /* [loop] */
/* True: finished, but not gone. Asked every linger_ns; resets the stream when the peer took nothing since
 * the last time. */
bool rpc_call_lingers(struct rpc_call *call); /* [loop] */
void rpc_call_live_end(struct rpc_server *s);

/* call_out.c */
void rpc_call_pump(struct rpc_call *call);     /* [loop] start or resume sending */
void rpc_call_wake(struct rpc_call *call);     /* any thread: pump soon */
void rpc_call_release(struct rpc_call *call);  /* [loop] open the window again */
void rpc_call_drop_out(struct rpc_call *call); /* forget what is queued */
/* Sets the final status; false when there was one. `last` (may be NULL) is moved behind what is
 * queued, when the status is set and OK. Any thread. */
bool rpc_call_set_status(struct rpc_call *call, cs_code code, const char *text, struct cs_buf *last);

/* call_exec.c: streams */
CS_CHECKED bool rpc_exec_push(struct rpc_call *call, enum rpc_work_kind kind, struct cs_buf *msg,
                              void (*fn)(struct rpc_call *call, void *service, void *state), bool on_loop);
/* The executor's last act; also starts what could not be started before. Needs no memory on the loop. */
void rpc_exec_close(struct rpc_call *call, bool on_loop);
/* `writable`, soon; room_due is set. [loop], also inside nghttp2's callbacks */
void rpc_exec_room(struct rpc_call *call);
void rpc_exec_unary(struct rpc_call *call); /* [loop] the request is whole */
void rpc_exec_drop(struct rpc_call *call);

/* conn.c */
void rpc_conn_accept(struct rpc_lane *lane, struct rpc_endpoint *ep, int fd, const char *address,
                     const char *ip);
void rpc_conn_ref(struct rpc_conn *conn);
void rpc_conn_unref(struct rpc_conn *conn);
void rpc_conn_retime(struct rpc_conn *conn);
void rpc_conn_drain(struct rpc_conn *conn); /* [loop] GOAWAY, close when empty */
void rpc_conn_check_drained(struct rpc_conn *conn);
void rpc_conn_kill(struct rpc_conn *conn, const char *text); /* [loop] */
bool rpc_conn_recv_grow(struct rpc_conn *conn, size_t n);    /* [loop] false: over a limit */
void rpc_conn_recv_shrink(struct rpc_conn *conn, size_t n);
void rpc_conn_watch_rest(struct rpc_conn *conn); /* [loop] a finished call has something left to send */
/* For tests and fuzzing: a connection without a socket. */
CS_CHECKED cs_code rpc_conn_new(struct rpc_lane *lane, struct rpc_endpoint *ep, int fd, SSL *ssl,
                                const char *address, const char *ip, struct rpc_conn **out, struct cs_err *e);

/* conn_h2.c */
CS_CHECKED cs_code rpc_lane_h2_init(struct rpc_lane *lane, struct cs_err *e);
CS_CHECKED cs_code rpc_conn_h2_start(struct rpc_conn *conn, struct cs_err *e);

/* listener.c */
CS_CHECKED cs_code rpc_endpoint_new(struct rpc_server *s, const struct rpc_listener *l,
                                    struct rpc_endpoint **out, struct cs_err *e);
CS_CHECKED cs_code rpc_endpoint_bind(struct rpc_endpoint *ep, struct cs_err *e);
CS_CHECKED cs_code rpc_endpoint_start(struct rpc_endpoint *ep, struct cs_err *e);
void rpc_endpoint_stop(struct rpc_endpoint *ep); /* [loop of lane 0] */
void rpc_endpoint_free(struct rpc_endpoint *ep);

/* server.c */
void rpc_lane_conn_closed(struct rpc_lane *lane);         /* [loop] */
void rpc_server_budgets(struct rpc_server *s);            /* sets them up from cfg.recv_limit */
void rpc_server_conn_gone(struct rpc_server *s);          /* any thread; part of the former */
void rpc_lane_msg_freed(struct rpc_lane *lane, size_t n); /* [loop] */

#endif
