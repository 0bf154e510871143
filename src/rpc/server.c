/* SPDX-License-Identifier: Apache-2.0
 *
 * The server: its I/O threads, listeners and end.
 */
#include "rpc/internal.h"

#include <malloc.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define TRIM_AFTER 64                       /* connections closed, */
#define TRIM_AFTER_BYTES (4u * 1024 * 1024) /* or bytes of messages sent */
#define TRIM_DELAY_NS (2 * CS_NS_PER_S)
#define TRIM_EVERY_NS (10 * CS_NS_PER_S) /* at most: it holds the allocator's locks */
#define POOL_QUEUE 8192

static void set_default(int64_t *v, int64_t def)
{
    if (*v == 0)
        *v = def;
}

static void config_defaults(struct rpc_server_config *cfg)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = cores > 0 ? (unsigned)cores : 1;
    if (cfg->io_threads == 0)
        cfg->io_threads = n;
    if (cfg->workers == 0)
        cfg->workers = 2 * n < 4 ? 4 : 2 * n;
    if (cfg->max_connections == 0)
        cfg->max_connections = 65536;
    if (cfg->max_streams == 0)
        cfg->max_streams = 1000;
    if (cfg->stream_queue == 0)
        cfg->stream_queue = 8u * 1024 * 1024;
    if (cfg->conn_queue == 0)
        cfg->conn_queue = 32u * 1024 * 1024;
    set_default(&cfg->handshake_ns, 10 * CS_NS_PER_S);
    set_default(&cfg->keepalive_ns, 7200 * CS_NS_PER_S);
    set_default(&cfg->drain_ns, 60 * CS_NS_PER_S);
    set_default(&cfg->message_ns, 30 * CS_NS_PER_S);
    set_default(&cfg->linger_ns, 60 * CS_NS_PER_S);
    if (cfg->recv_limit == 0)
        cfg->recv_limit = 512u * 1024 * 1024;
}

/* Also for fuzzing, where no rpc_server_new ran. */
void rpc_server_budgets(struct rpc_server *s)
{
    s->tcp.limit = s->local.limit = s->cfg.recv_limit;
    s->tcp_anon.limit = s->cfg.recv_limit / 4;
    s->tcp_anon.above = &s->tcp;
}

/* --- I/O threads --- */

static bool much_freed(const struct rpc_lane *lane)
{
    return lane->closed_since_trim >= TRIM_AFTER || lane->sent_since_trim >= TRIM_AFTER_BYTES;
}

static void trim_later(struct rpc_lane *lane)
{
    lane->trim_set = true;
    lane->closed_since_trim = 0;
    lane->sent_since_trim = 0;
    int64_t wait = lane->trim_next - cs_mono_ns(&cs_clock_system);
    loop_timer_arm(lane->trim, wait > TRIM_DELAY_NS ? wait : TRIM_DELAY_NS, 0);
}

/* glibc keeps what a burst of connections or messages freed; give it back once it is quiet again. */
static void on_trim(void *arg)
{
    struct rpc_lane *lane = arg;
    if (much_freed(lane)) {
        trim_later(lane);
        return;
    }
    lane->trim_set = false;
    (void)malloc_trim(0);
    lane->trim_next = cs_mono_ns(&cs_clock_system) + TRIM_EVERY_NS;
}

static void trim_if_much(struct rpc_lane *lane)
{
    if (!lane->trim_set && lane->trim != NULL && much_freed(lane))
        trim_later(lane);
}

void rpc_lane_msg_freed(struct rpc_lane *lane, size_t n)
{
    lane->sent_since_trim += n;
    trim_if_much(lane);
}

void rpc_lane_conn_closed(struct rpc_lane *lane)
{
    lane->closed_since_trim++;
    trim_if_much(lane);
    rpc_server_conn_gone(lane->server);
}

void rpc_server_conn_gone(struct rpc_server *s)
{
    if (atomic_fetch_sub(&s->conn_count, 1) != 1 || !atomic_load(&s->stopping))
        return;
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static cs_code lane_init(struct rpc_lane *lane, struct rpc_server *s, unsigned n, struct cs_err *e)
{
    char name[16];
    snprintf(name, sizeof name, "rpc-io-%u", n % 1000);
    lane->server = s;
    CS_TRY(loop_new(name, &lane->loop, e));
    CS_TRY(rpc_scratch_init(&lane->scratch, lane->loop, e));
    CS_TRY(rpc_timers_init(&lane->timers, lane->loop, e));
    CS_TRY(rpc_lane_h2_init(lane, e));
    lane->arena = cs_arena_new(0, 0);
    if (lane->arena == NULL)
        return cs_nomem(e);
    CS_TRY(loop_timer_new(lane->loop, on_trim, lane, &lane->trim, e));
    CS_TRY(loop_start(lane->loop, e));
    lane->started = true;
    return CS_OK;
}

/* On the loop's thread, or when it never ran. */
static void lane_clear(void *arg)
{
    struct rpc_lane *lane = arg;
    if (lane->trim != NULL)
        loop_timer_free(lane->trim);
    rpc_timers_free(&lane->timers);
    nghttp2_session_callbacks_del(lane->callbacks);
    nghttp2_option_del(lane->opt_tls);
    nghttp2_option_del(lane->opt_unix);
    rpc_scratch_free(&lane->scratch);
    cs_arena_free(lane->arena);
}

static void lane_end(struct rpc_lane *lane)
{
    if (lane->loop == NULL)
        return;
    if (!lane->started || !loop_post(lane->loop, lane_clear, lane)) {
        if (lane->started)
            cs_log_error(&lane->server->cfg.log, "Unable to clear an I/O thread");
        else
            lane_clear(lane);
    }
    loop_free(lane->loop);
    lane->loop = NULL;
}

/* --- Server --- */

cs_code rpc_server_new(const struct rpc_server_config *cfg, struct rpc_server **out, struct cs_err *e)
{
    *out = NULL;
    struct rpc_server *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->cfg = *cfg;
    config_defaults(&s->cfg);
    rpc_server_budgets(s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    cs_code code = loop_pool_new("rpc-work", s->cfg.workers, POOL_QUEUE, &s->pool, e);
    if (code == CS_OK) {
        s->lanes = cs_calloc(s->cfg.io_threads, sizeof *s->lanes);
        code = s->lanes != NULL ? CS_OK : cs_nomem(e);
    }
    for (unsigned i = 0; i < s->cfg.io_threads && code == CS_OK; i++) {
        s->lane_count = i + 1;
        code = lane_init(&s->lanes[i], s, i, e);
    }
    if (code != CS_OK)
        rpc_server_free(s);
    else
        *out = s;
    return code;
}

cs_code rpc_server_listen(struct rpc_server *s, const struct rpc_listener *l, struct cs_err *e)
{
    struct rpc_endpoint *ep;
    CS_TRY(rpc_endpoint_new(s, l, &ep, e));
    cs_code code = rpc_endpoint_bind(ep, e);
    if (code != CS_OK) {
        rpc_endpoint_free(ep);
        return code;
    }
    ep->next = s->endpoints;
    s->endpoints = ep;
    return rpc_endpoint_start(ep, e);
}

int rpc_server_port(const struct rpc_server *s, unsigned n)
{
    unsigned count = 0;
    for (const struct rpc_endpoint *ep = s->endpoints; ep != NULL; ep = ep->next)
        count += ep->l.unix_path == NULL;
    for (const struct rpc_endpoint *ep = s->endpoints; ep != NULL; ep = ep->next) {
        if (ep->l.unix_path == NULL && --count == n)
            return ep->port;
    }
    return 0;
}

struct loop_pool *rpc_server_pool(struct rpc_server *s)
{
    return s->pool;
}

/* --- Shutdown --- */

static void stop_accepting(void *arg)
{
    struct rpc_server *s = arg;
    for (struct rpc_endpoint *ep = s->endpoints; ep != NULL; ep = ep->next)
        rpc_endpoint_stop(ep);
}

static bool is_open_stream(const struct rpc_call *call)
{
    return call->method != NULL && call->method->stream != NULL && !rpc_call_done(call);
}

/* Unary calls may end; streams, which would go on for ever, are told at once. */
static void drain_lane(void *arg)
{
    struct rpc_lane *lane = arg;
    lane->draining = true;
    struct rpc_conn *next;
    for (struct rpc_conn *conn = lane->conns; conn != NULL; conn = next) {
        next = conn->next;
        rpc_conn_drain(conn);
        for (struct rpc_call *call = conn->calls; call != NULL; call = call->next) {
            if (is_open_stream(call))
                rpc_call_finish(call, CS_UNAVAILABLE, "the server is shutting down");
        }
    }
}

static void kill_lane(void *arg)
{
    struct rpc_lane *lane = arg;
    for (struct rpc_conn *conn = lane->conns; conn != NULL; conn = conn->next) {
        for (struct rpc_call *call = conn->calls; call != NULL; call = call->next) {
            if (!rpc_call_done(call))
                rpc_call_abort(call, CS_UNAVAILABLE, "the server is shutting down");
        }
        rpc_conn_kill(conn, "the server is shutting down");
    }
}

static struct timespec until(int64_t mono_ns)
{
    return (struct timespec){.tv_sec = mono_ns / CS_NS_PER_S, .tv_nsec = mono_ns % CS_NS_PER_S};
}

/* Waits for no connections, or no calls; false at the deadline. */
static bool wait_for(struct rpc_server *s, _Atomic unsigned *count, int64_t deadline)
{
    struct timespec ts = until(deadline);
    int r = 0;
    pthread_mutex_lock(&s->lock);
    while (atomic_load(count) != 0 && r == 0)
        r = pthread_cond_timedwait(&s->changed, &s->lock, &ts);
    pthread_mutex_unlock(&s->lock);
    return r == 0;
}

static void on_every_lane(struct rpc_server *s, void (*fn)(void *arg))
{
    for (unsigned i = 0; i < s->lane_count; i++) {
        if (s->lanes[i].loop != NULL && !loop_post(s->lanes[i].loop, fn, &s->lanes[i]))
            cs_log_error(&s->cfg.log, "Unable to reach an I/O thread at shutdown");
    }
}

void rpc_server_shutdown(struct rpc_server *s, int64_t grace_ns)
{
    if (s->shut_down)
        return;
    s->shut_down = true;
    atomic_store(&s->stopping, true);
    if (s->lane_count > 0 && s->lanes[0].loop != NULL && !loop_post(s->lanes[0].loop, stop_accepting, s))
        cs_log_error(&s->cfg.log, "Unable to stop accepting connections");
    on_every_lane(s, drain_lane);
    int64_t now = cs_mono_ns(&cs_clock_system);
    if (!wait_for(s, &s->conn_count, now + (grace_ns > 0 ? grace_ns : 0))) {
        on_every_lane(s, kill_lane);
        (void)wait_for(s, &s->conn_count, INT64_MAX);
    }
    /* handlers that still run post to their loops: these end last */
    (void)wait_for(s, &s->live_calls, INT64_MAX);
    if (s->pool != NULL)
        loop_pool_free(s->pool);
    s->pool = NULL;
    for (unsigned i = 0; i < s->lane_count; i++)
        lane_end(&s->lanes[i]);
}

void rpc_server_free(struct rpc_server *s)
{
    if (s == NULL)
        return;
    rpc_server_shutdown(s, 0);
    while (s->endpoints != NULL) {
        struct rpc_endpoint *ep = s->endpoints;
        s->endpoints = ep->next;
        rpc_endpoint_free(ep);
    }
    cs_free(s->lanes);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    cs_free(s);
}
