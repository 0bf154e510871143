/* SPDX-License-Identifier: Apache-2.0
 *
 * A call on its connection's thread: request bytes in, deadline, end. What a handler sees of it.
 */
#include "rpc/internal.h"

#define CALL_OF(t, member) ((struct rpc_call *)(void *)((char *)(t)-offsetof(struct rpc_call, member)))

static void on_timer(struct rpc_timer *t);

cs_code rpc_call_new(struct rpc_conn *conn, int32_t stream, struct rpc_call **out)
{
    *out = NULL;
    struct rpc_call *call = cs_calloc(1, sizeof *call);
    if (call == NULL)
        return CS_INTERNAL;
    call->conn = conn;
    call->stream = stream;
    call->deadline = call->message_by = INT64_MAX;
    call->in.max = conn->ep->l.max_message;
    call->timer.fn = on_timer;
    call->out_end = &call->out;
    call->work_end = &call->work;
    atomic_init(&call->refs, 1);
    if (rpc_head_begin(call) != CS_OK) {
        cs_free(call);
        return CS_INTERNAL;
    }
    pthread_mutex_init(&call->lock, NULL);
    rpc_conn_ref(conn);
    call->next = conn->calls;
    call->link = &conn->calls;
    if (call->next != NULL)
        call->next->link = &call->next;
    conn->calls = call;
    conn->call_count++;
    *out = call;
    return CS_OK;
}

void rpc_call_ref(struct rpc_call *call)
{
    atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
}

void rpc_call_unref(struct rpc_call *call)
{
    if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1)
        return;
    rpc_call_drop_out(call);
    rpc_exec_drop(call);
    cs_buf_free(&call->md);
    cs_buf_free(&call->request);
    rpc_deframer_free(&call->in);
    cs_free(call->text);
    cs_free(call->detail);
    if (!call->arena_borrowed)
        cs_arena_free(call->arena);
    pthread_mutex_destroy(&call->lock);
    rpc_conn_unref(call->conn);
    cs_free(call);
}

/* --- What a handler can ask --- */

const struct rpc_method *rpc_call_method(const struct rpc_call *call)
{
    return call->method;
}

struct rpc_conn *rpc_call_conn(struct rpc_call *call)
{
    return call->conn;
}

struct cs_arena *rpc_call_arena(struct rpc_call *call)
{
    if (call->arena == NULL)
        call->arena = cs_arena_new(call->method->stream != NULL ? 1024 : 0, 0);
    return call->arena;
}

int64_t rpc_call_deadline(const struct rpc_call *call)
{
    return call->deadline;
}

bool rpc_call_done(const struct rpc_call *call)
{
    return atomic_load_explicit(&call->done, memory_order_acquire);
}

void *rpc_call_data(const struct rpc_call *call)
{
    return call->data;
}

void rpc_call_set_data(struct rpc_call *call, void *data)
{
    call->data = data;
}

void rpc_call_set_detail(struct rpc_call *call, const struct rpc_detail *d)
{
    struct rpc_detail *copy = cs_memdup(d, sizeof *d);
    pthread_mutex_lock(&call->lock);
    if (!call->finished) {
        struct rpc_detail *old = call->detail;
        call->detail = copy;
        copy = old;
    }
    pthread_mutex_unlock(&call->lock);
    cs_free(copy);
}

/* --- Input --- */

static int64_t now_ns(const struct rpc_call *call)
{
    return rpc_timers_now(&call->conn->lane->timers);
}

/* The timer stays when it is set for an earlier time: it looks again then. */
static void retime(struct rpc_call *call)
{
    int64_t t = call->deadline < call->message_by ? call->deadline : call->message_by;
    if (t == INT64_MAX || (call->timer.pos != 0 && call->timer.when <= t))
        return;
    if (rpc_timer_set(&call->conn->lane->timers, &call->timer, t) != CS_OK)
        rpc_call_abort(call, CS_INTERNAL, "no memory");
}

/* Starts the time a message has to be whole in. */
static void start_message(struct rpc_call *call)
{
    call->message_by = rpc_after(now_ns(call), call->conn->lane->server->cfg.message_ns);
    retime(call);
}

static size_t held_bytes(const struct rpc_call *call)
{
    return call->md.len + call->in.body.len + call->request.len;
}

static void hold(struct rpc_call *call, size_t now)
{
    if (now > call->recv_held) {
        if (!rpc_conn_recv_grow(call->conn, now - call->recv_held)) {
            rpc_call_abort(call, CS_EXHAUSTED, "too many bytes of requests are waiting");
            return;
        }
    } else {
        rpc_conn_recv_shrink(call->conn, call->recv_held - now);
    }
    call->recv_held = now;
}

/* True: the peer may send again what was held back. */
static bool open_window(struct rpc_call *call)
{
    if (call->stream == 0 || atomic_load(&call->waiting) != 0)
        return false;
    if (call->recv_held > 0)
        hold(call, held_bytes(call));
    if (call->withheld == 0)
        return false;
    if (nghttp2_is_fatal(nghttp2_session_consume_stream(call->conn->io.h2, call->stream, call->withheld)))
        rpc_conn_kill(call->conn, "no memory"); /* or the peer would wait for ever */
    call->withheld = 0;
    rpc_io_flush(&call->conn->io);
    return true;
}

/* The peer may send again what was held back, once the handler has seen every whole message. An
 * unfinished message is never held back, or it could not be finished; behind one that the handler was
 * busy with, it has its time from now on. */
void rpc_call_release(struct rpc_call *call)
{
    if (open_window(call) && call->message_by != INT64_MAX)
        start_message(call);
}

void rpc_call_dispatch(struct rpc_call *call)
{
    call->dispatched = true;
    bool stream = call->method->stream != NULL;
    if (stream)
        atomic_fetch_add(&call->conn->lane->server->live_calls, 1);
    if (stream)
        retime(call);
    else
        start_message(call);
    hold(call, held_bytes(call)); /* metadata costs a peer less than us: HPACK */
    if (!stream || rpc_call_done(call))
        return;
    if (!rpc_exec_push(call, RPC_WORK_OPEN, NULL, NULL, true))
        rpc_call_abort(call, CS_EXHAUSTED, "the server is too busy");
}

static void message_in(struct rpc_call *call)
{
    struct cs_buf msg = {0};
    rpc_deframer_take(&call->in, &msg);
    if (call->method->stream != NULL) {
        atomic_fetch_add(&call->waiting, 1);
        if (!rpc_exec_push(call, RPC_WORK_MESSAGE, &msg, NULL, true)) {
            atomic_fetch_sub(&call->waiting, 1);
            cs_buf_free(&msg);
            rpc_call_abort(call, CS_INTERNAL, "no memory");
        }
        return;
    }
    if (call->got_request) {
        cs_buf_free(&msg);
        rpc_call_abort(
            call, CS_INTERNAL,
            "cardinality violation: received multiple request messages for non-client-streaming RPC");
        return;
    }
    call->got_request = true;
    call->request = msg;
}

void rpc_call_data_in(struct rpc_call *call, struct cs_slice data)
{
    call->withheld += data.len;
    if (!call->dispatched || rpc_call_done(call)) {
        (void)open_window(call);
        return;
    }
    hold(call, call->recv_held + data.len);
    struct cs_err e = {0};
    while (data.len > 0 && !rpc_call_done(call)) {
        bool done;
        cs_code code = rpc_deframe(&call->in, &data, call->encoding, true, &done, &e);
        if (code != CS_OK) {
            rpc_call_abort(call, code, e.text);
            break;
        }
        if (done) {
            message_in(call);
            if (call->method->stream != NULL)
                call->message_by = INT64_MAX;
        }
    }
    (void)open_window(call);
    if (call->message_by == INT64_MAX && !rpc_deframer_idle(&call->in) && !rpc_call_done(call))
        start_message(call);
}

void rpc_call_end_in(struct rpc_call *call)
{
    call->half_closed = true;
    call->message_by = INT64_MAX;
    if (!call->dispatched || rpc_call_done(call))
        return;
    if (!rpc_deframer_idle(&call->in)) {
        rpc_call_abort(call, CS_INTERNAL, "unexpected EOF");
    } else if (call->method->stream != NULL) {
        if (!rpc_exec_push(call, RPC_WORK_HALF_CLOSE, NULL, NULL, true))
            rpc_call_abort(call, CS_INTERNAL, "no memory");
    } else if (!call->got_request) {
        rpc_call_abort(call, CS_INTERNAL,
                       "cardinality violation: received no request message from non-client-streaming RPC");
    } else {
        rpc_exec_unary(call);
    }
}

/* --- End --- */

static bool is_finished(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool finished = call->finished;
    pthread_mutex_unlock(&call->lock);
    return finished;
}

bool rpc_call_lingers(struct rpc_call *call)
{
    if (!is_finished(call))
        return false;
    size_t left = rpc_call_queued(call);
    if (call->lingers && left >= call->linger_queued)
        rpc_call_reset(call, NGHTTP2_CANCEL);
    call->lingers = true;
    call->linger_queued = left;
    return true;
}

/* What came of a request that nobody will look at. */
static void drop_input(struct rpc_call *call)
{
    call->message_by = INT64_MAX;
    rpc_deframer_free(&call->in);
    if (!call->half_closed)
        cs_buf_free(&call->request);
}

void rpc_call_reset(struct rpc_call *call, uint32_t error)
{
    if (nghttp2_submit_rst_stream(call->conn->io.h2, NGHTTP2_FLAG_NONE, call->stream, error) != 0)
        rpc_conn_kill(call->conn, "no memory");
}

void rpc_call_abort(struct rpc_call *call, cs_code code, const char *text)
{
    atomic_store(&call->done, true);
    if (rpc_call_set_status(call, code, text, NULL)) {
        rpc_call_drop_out(call);
        rpc_exec_close(call, true);
    }
    drop_input(call);
    (void)open_window(call);
    if (call->stream != 0)
        rpc_call_pump(call);
}

/* Nobody waits for the answer any more. */
static void on_deadline(struct rpc_call *call)
{
    if (!is_finished(call)) {
        rpc_call_abort(call, CS_DEADLINE, "context deadline exceeded");
        return;
    }
    rpc_call_reset(call, NGHTTP2_CANCEL);
    rpc_io_flush(&call->conn->io);
}

static void on_timer(struct rpc_timer *t)
{
    struct rpc_call *call = CALL_OF(t, timer);
    if (call->stream == 0)
        return;
    int64_t now = now_ns(call) + CS_NS_PER_MS;
    if (call->deadline <= now) {
        on_deadline(call);
        return;
    }
    if (call->message_by <= now && atomic_load(&call->waiting) == 0 && !rpc_call_done(call))
        rpc_call_abort(call, CS_DEADLINE, "the request did not arrive in time");
    else if (call->message_by <= now)
        start_message(call); /* it waits for the handler, not for the peer */
    else
        retime(call);
}

void rpc_call_gone(struct rpc_call *call, cs_code code, const char *text)
{
    struct rpc_conn *conn = call->conn;
    call->stream = 0;
    *call->link = call->next;
    if (call->next != NULL)
        call->next->link = call->link;
    conn->call_count--;
    rpc_timer_clear(&conn->lane->timers, &call->timer);
    rpc_conn_recv_shrink(conn, call->recv_held);
    call->recv_held = 0;
    rpc_deframer_free(&call->in);
    if (call->head != NULL)
        (void)rpc_head_end(call);
    atomic_store(&call->done, true);
    (void)rpc_call_set_status(call, code, text, NULL);
    rpc_call_drop_out(call);
    rpc_exec_close(call, true);
    rpc_call_unref(call);
}

void rpc_call_live_end(struct rpc_server *s)
{
    if (atomic_fetch_sub(&s->live_calls, 1) != 1 || !atomic_load(&s->stopping))
        return;
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}
