/* SPDX-License-Identifier: Apache-2.0
 *
 * A server connection: who is there, its deadlines, draining, and its end.
 */
#include "base/log.h"
#include "rpc/internal.h"

#include <stdio.h>
#include <unistd.h>

#define CONN_OF(p, member) ((struct rpc_conn *)(void *)((char *)(p)-offsetof(struct rpc_conn, member)))

static int64_t now_of(const struct rpc_conn *conn)
{
    return rpc_timers_now(&conn->lane->timers);
}

/* --- Life --- */

void rpc_conn_ref(struct rpc_conn *conn)
{
    atomic_fetch_add_explicit(&conn->refs, 1, memory_order_relaxed);
}

void rpc_conn_unref(struct rpc_conn *conn)
{
    if (atomic_fetch_sub_explicit(&conn->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (conn->destroy != NULL)
        conn->destroy(conn->data);
    if (conn->has_peer)
        loop_peer_close(&conn->peer);
    cs_free(conn->address);
    cs_free(conn->ip);
    cs_free(conn->chain);
    cs_free(conn);
}

/* --- What a handler can ask --- */

bool rpc_conn_is_unix(const struct rpc_conn *conn)
{
    return conn->ep->l.unix_path != NULL;
}

const struct loop_peer *rpc_conn_peer(const struct rpc_conn *conn)
{
    return conn->has_peer ? &conn->peer : NULL;
}

const char *rpc_conn_address(const struct rpc_conn *conn)
{
    return conn->address;
}

const char *rpc_conn_ip(const struct rpc_conn *conn)
{
    return conn->ip;
}

const struct cs_slice *rpc_conn_peer_chain(const struct rpc_conn *conn, size_t *count)
{
    *count = conn->chain_count;
    return conn->chain;
}

void *rpc_conn_data(const struct rpc_conn *conn)
{
    return conn->data;
}

/* --- Deadlines --- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

void rpc_conn_retime(struct rpc_conn *conn)
{
    const struct rpc_server_config *cfg = &conn->lane->server->cfg;
    int64_t t = least(least(conn->setup_by, conn->headers_by), least(conn->stall_by, conn->ping_by));
    t = least(t, least(conn->goaway_by, conn->age_at));
    t = least(t, least(conn->close_by, conn->linger_at));
    if (conn->open && conn->ping_by == INT64_MAX)
        t = least(t, rpc_after(conn->last_heard, cfg->keepalive_ns));
    if (conn->open && conn->calls == NULL && !conn->drain)
        t = least(t, rpc_after(conn->idle_since, cfg->max_conn_idle_ns));
    if (conn->timer.pos != 0 && conn->timer.when <= t)
        return; /* it fires earlier anyway and looks again */
    if (rpc_timer_set(&conn->lane->timers, &conn->timer, t) != CS_OK)
        rpc_conn_kill(conn, "no memory");
}

static void ping_if_quiet(struct rpc_conn *conn, int64_t now)
{
    const struct rpc_server_config *cfg = &conn->lane->server->cfg;
    if (!conn->open || conn->ping_by != INT64_MAX || rpc_after(conn->last_heard, cfg->keepalive_ns) > now)
        return;
    conn->ping_by = now + RPC_PING_WAIT_NS;
    (void)nghttp2_submit_ping(conn->io.h2, 0, NULL);
    rpc_io_flush(&conn->io);
}

static void second_goaway(struct rpc_conn *conn)
{
    conn->goaway_by = INT64_MAX;
    if (conn->goaway_sent)
        return;
    conn->goaway_sent = true;
    conn->close_by = rpc_after(rpc_timers_now(&conn->lane->timers), conn->lane->server->cfg.drain_ns);
    (void)nghttp2_submit_goaway(conn->io.h2, 0, nghttp2_session_get_last_proc_stream_id(conn->io.h2),
                                NGHTTP2_NO_ERROR, NULL, 0);
    rpc_conn_check_drained(conn);
    rpc_io_flush(&conn->io);
}

/* Flow control lets a peer keep answers here without reading them. */
void rpc_conn_watch_rest(struct rpc_conn *conn)
{
    if (conn->linger_at != INT64_MAX)
        return;
    conn->linger_at = rpc_after(rpc_timers_now(&conn->lane->timers), conn->lane->server->cfg.linger_ns);
    rpc_conn_retime(conn);
}

static void look_at_rests(struct rpc_conn *conn, int64_t now)
{
    bool any = false;
    for (struct rpc_call *call = conn->calls; call != NULL; call = call->next) {
        if (rpc_call_lingers(call))
            any = true;
    }
    conn->linger_at = any ? rpc_after(now, conn->lane->server->cfg.linger_ns) : INT64_MAX;
    rpc_io_flush(&conn->io);
}

static void on_timer(struct rpc_timer *t)
{
    struct rpc_conn *conn = CONN_OF(t, timer);
    int64_t now = now_of(conn) + CS_NS_PER_MS;
    const struct rpc_server_config *cfg = &conn->lane->server->cfg;
    if (conn->setup_by <= now)
        rpc_conn_kill(conn, "handshake time-out");
    else if (conn->headers_by <= now)
        rpc_conn_kill(conn, "header time-out");
    else if (conn->stall_by <= now)
        rpc_conn_kill(conn, "the peer does not read");
    else if (conn->ping_by <= now)
        rpc_conn_kill(conn, "keepalive ping failed to receive ACK within timeout");
    else if (conn->close_by <= now)
        rpc_conn_kill(conn, "calls that do not end");
    if (conn->io.dead || conn->io.closing)
        return;
    if (conn->goaway_by <= now)
        second_goaway(conn);
    if (conn->linger_at <= now)
        look_at_rests(conn, now);
    if (conn->age_at <= now || (conn->open && conn->calls == NULL && !conn->drain &&
                                rpc_after(conn->idle_since, cfg->max_conn_idle_ns) <= now))
        rpc_conn_drain(conn);
    ping_if_quiet(conn, now);
    rpc_conn_retime(conn);
}

/* --- Draining --- */

void rpc_conn_kill(struct rpc_conn *conn, const char *text)
{
    rpc_io_fail(&conn->io, CS_UNAVAILABLE, text);
}

/* Two steps, so that a request on its way is not refused: announce, and after a round trip say which
 * was the last. */
void rpc_conn_drain(struct rpc_conn *conn)
{
    conn->age_at = INT64_MAX;
    if (conn->drain)
        return;
    conn->drain = true;
    if (!conn->open || conn->setup_by != INT64_MAX) {
        rpc_conn_kill(conn, "the server is shutting down");
        return;
    }
    (void)nghttp2_submit_shutdown_notice(conn->io.h2);
    (void)nghttp2_submit_ping(conn->io.h2, 0, NULL);
    conn->goaway_by = now_of(conn) + RPC_GOAWAY_WAIT_NS;
    rpc_io_flush(&conn->io);
    rpc_conn_retime(conn);
}

void rpc_conn_check_drained(struct rpc_conn *conn)
{
    if (conn->calls != NULL)
        return;
    conn->idle_since = now_of(conn);
    if (conn->drain && conn->goaway_sent)
        (void)nghttp2_session_terminate_session(conn->io.h2, NGHTTP2_NO_ERROR);
    else if (conn->lane->server->cfg.max_conn_idle_ns > 0)
        rpc_conn_retime(conn);
}

/* --- Receive accounting --- */

static struct rpc_budget *budget_of(const struct rpc_conn *conn)
{
    struct rpc_server *s = conn->lane->server;
    if (rpc_conn_is_unix(conn))
        return &s->local;
    return conn->data != NULL ? &s->tcp : &s->tcp_anon;
}

static void give_back(struct rpc_budget *b, const struct rpc_budget *end, size_t n)
{
    for (; b != end; b = b->above)
        atomic_fetch_sub(&b->used, n);
}

/* The part of what a connection holds that comes out of its budget. */
static size_t shared(size_t held)
{
    return held > RPC_CONN_RECV_FREE ? held - RPC_CONN_RECV_FREE : 0;
}

/* A connection may take from a budget at most half of what is free there: the more it fills, the sooner
 * those who want much are refused. Small requests do not depend on it at all. */
bool rpc_conn_recv_grow(struct rpc_conn *conn, size_t n)
{
    size_t mine = conn->recv_bytes + n;
    if (mine > (conn->budget == &conn->lane->server->tcp_anon ? RPC_ANON_RECV_LIMIT : RPC_CONN_RECV_LIMIT))
        return false;
    size_t part = shared(mine), more = part - shared(conn->recv_bytes);
    for (struct rpc_budget *b = more > 0 ? conn->budget : NULL; b != NULL; b = b->above) {
        size_t used = atomic_fetch_add(&b->used, more) + more;
        if (used > b->limit || part > (b->limit - used + part) / 2) {
            give_back(conn->budget, b->above, more);
            return false;
        }
    }
    conn->recv_bytes = mine;
    return true;
}

void rpc_conn_recv_shrink(struct rpc_conn *conn, size_t n)
{
    size_t before = shared(conn->recv_bytes);
    conn->recv_bytes -= n;
    if (before > 0)
        give_back(conn->budget, NULL, before - shared(conn->recv_bytes));
}

/* --- What the transport tells --- */

static cs_code io_ready(struct rpc_io *io, struct cs_err *e)
{
    struct rpc_conn *conn = CONN_OF(io, io);
    conn->budget = budget_of(conn);
    CS_TRY(rpc_conn_h2_start(conn, e));
    conn->open = true;
    return CS_OK;
}

static void io_heard(struct rpc_io *io)
{
    struct rpc_conn *conn = CONN_OF(io, io);
    conn->last_heard = now_of(conn);
    if (conn->headers_by != INT64_MAX)
        rpc_conn_retime(conn);
}

static void io_stalled(struct rpc_io *io, bool on)
{
    struct rpc_conn *conn = CONN_OF(io, io);
    conn->stall_by = on ? now_of(conn) + RPC_STALL_NS : INT64_MAX;
    if (on)
        rpc_conn_retime(conn);
}

static void io_lost(struct rpc_io *io, const struct cs_err *why)
{
    struct rpc_conn *conn = CONN_OF(io, io);
    struct rpc_lane *lane = conn->lane;
    cs_log_debug(&lane->server->cfg.log, "Connection closed", KV("address", conn->address),
                 KV("reason", why->text));
    while (conn->calls != NULL)
        rpc_call_gone(conn->calls, CS_CANCELLED, "context canceled");
    rpc_timer_clear(&lane->timers, &conn->timer);
    conn->open = false;
    rpc_io_close(io);
    *conn->link = conn->next;
    if (conn->next != NULL)
        conn->next->link = conn->link;
    rpc_conn_unref(conn);
    rpc_lane_conn_closed(lane);
}

/* One allocation: the slices, then the bytes. */
static cs_code keep_chain(struct rpc_conn *conn, const struct cs_slice *chain, size_t count, struct cs_err *e)
{
    size_t total = count * sizeof *chain;
    for (size_t i = 0; i < count; i++)
        total += chain[i].len;
    conn->chain = cs_malloc(total);
    if (conn->chain == NULL)
        return cs_nomem(e);
    uint8_t *p = (uint8_t *)(conn->chain + count);
    for (size_t i = 0; i < count; i++) {
        memcpy(p, chain[i].data, chain[i].len);
        conn->chain[i] = cs_slice_of(p, chain[i].len);
        p += chain[i].len;
    }
    conn->chain_count = count;
    return CS_OK;
}

static cs_code io_verify(struct rpc_io *io, const struct cs_slice *chain, size_t count, struct cs_err *e)
{
    struct rpc_conn *conn = CONN_OF(io, io);
    const struct rpc_listener_tls *tls = &conn->ep->l.tls;
    if (conn->chain != NULL)
        return cs_fail(e, CS_DENIED, "a second certificate on one connection");
    CS_TRY(keep_chain(conn, chain, count, e));
    if (tls->verify_client == NULL)
        return CS_OK;
    return tls->verify_client(tls->arg, conn->chain, count, &conn->data, &conn->destroy, e);
}

static const struct rpc_io_ops conn_ops = {
    .ready = io_ready,
    .lost = io_lost,
    .verify = io_verify,
    .stalled = io_stalled,
    .heard = io_heard,
};

/* --- Birth --- */

static struct rpc_conn *conn_alloc(struct rpc_lane *lane, struct rpc_endpoint *ep, const char *address,
                                   const char *ip)
{
    struct rpc_conn *conn = cs_calloc(1, sizeof *conn);
    if (conn == NULL)
        return NULL;
    atomic_init(&conn->refs, 1);
    conn->lane = lane;
    conn->ep = ep;
    conn->io.fd = -1;
    conn->timer.fn = on_timer;
    conn->headers_by = conn->stall_by = conn->ping_by = conn->goaway_by = INT64_MAX;
    conn->close_by = conn->linger_at = INT64_MAX;
    int64_t now = now_of(conn);
    conn->setup_by = rpc_after(now, lane->server->cfg.handshake_ns);
    conn->age_at = rpc_after(now, lane->server->cfg.max_conn_age_ns);
    conn->last_heard = conn->idle_since = now;
    conn->address = cs_strdup(address);
    conn->ip = cs_strdup(ip);
    if (conn->address == NULL || conn->ip == NULL) {
        rpc_conn_unref(conn);
        return NULL;
    }
    return conn;
}

static cs_code identify(struct rpc_conn *conn, int fd, struct cs_err *e)
{
    const struct rpc_listener *l = &conn->ep->l;
    if (l->unix_path == NULL || fd < 0)
        return CS_OK;
    CS_TRY(loop_peer_get(fd, &conn->peer, e));
    conn->has_peer = true;
    if (l->accept_unix == NULL)
        return CS_OK;
    return l->accept_unix(l->arg, &conn->peer, &conn->data, &conn->destroy, e);
}

cs_code rpc_conn_new(struct rpc_lane *lane, struct rpc_endpoint *ep, int fd, SSL *ssl, const char *address,
                     const char *ip, struct rpc_conn **out, struct cs_err *e)
{
    *out = NULL;
    struct rpc_conn *conn = conn_alloc(lane, ep, address, ip);
    cs_code code = conn == NULL ? cs_nomem(e) : identify(conn, fd, e);
    if (code != CS_OK) {
        SSL_free(ssl);
        if (fd >= 0)
            close(fd);
        if (conn != NULL)
            rpc_conn_unref(conn);
        return code;
    }
    code = rpc_io_open(&conn->io, &lane->scratch, &conn_ops, fd, ssl, true, e);
    if (code != CS_OK) {
        rpc_io_close(&conn->io);
        rpc_conn_unref(conn);
        return code;
    }
    conn->next = lane->conns;
    conn->link = &lane->conns;
    if (conn->next != NULL)
        conn->next->link = &conn->next;
    lane->conns = conn;
    rpc_conn_retime(conn);
    *out = conn;
    return CS_OK;
}

void rpc_conn_accept(struct rpc_lane *lane, struct rpc_endpoint *ep, int fd, const char *address,
                     const char *ip)
{
    struct cs_err e = {0};
    SSL *ssl = NULL;
    if (ep->l.tcp_address != NULL && ep->l.tls.get_ctx != NULL) {
        SSL_CTX *ctx = ep->l.tls.get_ctx(ep->l.tls.arg);
        ssl = ctx != NULL ? SSL_new(ctx) : NULL;
        SSL_CTX_free(ctx);
        if (ssl == NULL) {
            close(fd);
            rpc_lane_conn_closed(lane);
            return;
        }
    }
    struct rpc_conn *conn = NULL;
    if (lane->draining) {
        SSL_free(ssl);
        close(fd);
        rpc_lane_conn_closed(lane);
    } else if (rpc_conn_new(lane, ep, fd, ssl, address, ip, &conn, &e) != CS_OK) {
        cs_log_debug(&lane->server->cfg.log, "Connection refused", KV("address", address), KV_ERR(&e));
        rpc_lane_conn_closed(lane);
    }
}
