/* SPDX-License-Identifier: Apache-2.0
 *
 * The serial executor of a call: its callbacks run one after another, on the I/O thread or on the
 * worker pool. Unary calls are a single step; streams have a queue of work.
 */
#include "rpc/internal.h"

#define RETRY_NS (5 * CS_NS_PER_MS)
#define CALL_OF(t, member) ((struct rpc_call *)(void *)((char *)(t)-offsetof(struct rpc_call, member)))

static cs_code run_begin(struct rpc_call *call, struct cs_err *e)
{
    const struct rpc_listener *l = &call->conn->ep->l;
    if (l->begin == NULL)
        return CS_OK;
    call->began = true;
    return l->begin(call, l->arg, e);
}

static void run_end(struct rpc_call *call)
{
    const struct rpc_listener *l = &call->conn->ep->l;
    if (!call->began || l->end == NULL)
        return;
    call->began = false;
    pthread_mutex_lock(&call->lock);
    cs_code code = call->finished ? call->code : CS_CANCELLED;
    const char *text = call->finished && call->text != NULL ? call->text : "";
    pthread_mutex_unlock(&call->lock);
    l->end(call, l->arg, code, text);
}

static void drop_arena(struct rpc_call *call)
{
    if (call->arena_borrowed)
        cs_arena_reset(call->arena);
    else
        cs_arena_free(call->arena);
    call->arena = NULL;
    call->arena_borrowed = false;
}

/* --- Unary --- */

static void unary_step(struct rpc_call *call)
{
    struct cs_err e = {0};
    struct cs_buf response = {0};
    cs_code code = CS_CANCELLED;
    if (!rpc_call_done(call)) {
        code = run_begin(call, &e);
        if (code == CS_OK)
            code = call->method->unary(call, call->service, cs_buf_slice(&call->request), &response, &e);
    }
    if (code == CS_OK && !cs_buf_ok(&response))
        code = cs_nomem(&e);
    (void)rpc_call_set_status(call, code, e.text, &response);
    run_end(call);
    cs_buf_free(&response);
    drop_arena(call);
}

static void unary_job(void *arg)
{
    struct rpc_call *call = arg;
    struct rpc_server *s = call->conn->lane->server;
    unary_step(call);
    rpc_call_wake(call);
    rpc_call_unref(call);
    rpc_call_live_end(s);
}

void rpc_exec_unary(struct rpc_call *call)
{
    struct rpc_lane *lane = call->conn->lane;
    if (call->method->run == RPC_INLINE) {
        if (cs_arena_used(lane->arena) == 0) {
            call->arena = lane->arena;
            call->arena_borrowed = true;
        }
        unary_step(call);
        cs_buf_free(&call->request);
        rpc_call_pump(call);
        return;
    }
    atomic_fetch_add(&lane->server->live_calls, 1);
    rpc_call_ref(call);
    if (loop_pool_submit(lane->server->pool, unary_job, call))
        return;
    rpc_call_unref(call);
    rpc_call_live_end(lane->server);
    rpc_call_abort(call, CS_EXHAUSTED, "the server is too busy");
}

/* --- Streams --- */

static void work_free(struct rpc_work *w)
{
    cs_buf_free(&w->msg);
    cs_free(w);
}

void rpc_exec_drop(struct rpc_call *call)
{
    while (call->work != NULL) {
        struct rpc_work *w = call->work;
        call->work = w->next;
        work_free(w);
    }
    call->work_end = &call->work;
}

static void run_closed(struct rpc_call *call)
{
    const struct rpc_stream_ops *ops = call->method->stream;
    if (call->opened && ops->closed != NULL)
        ops->closed(call, call->service, call->state);
    call->state = NULL;
    run_end(call);
    drop_arena(call);
    rpc_call_live_end(call->conn->lane->server);
}

static cs_code run_open(struct rpc_call *call, struct cs_err *e)
{
    CS_TRY(run_begin(call, e));
    call->opened = true;
    return call->method->stream->open(call, call->service, &call->state, e);
}

static void run_room(struct rpc_call *call)
{
    struct cs_err e = {0};
    if (rpc_call_done(call) || !call->opened)
        return;
    cs_code code = call->method->stream->writable(call, call->service, call->state, &e);
    if (code != CS_OK)
        rpc_call_finish(call, code, e.text);
}

static void run_work(struct rpc_call *call, struct rpc_work *w)
{
    const struct rpc_stream_ops *ops = call->method->stream;
    struct cs_err e = {0};
    cs_code code = CS_OK;
    bool done = rpc_call_done(call);
    switch (w->kind) {
    case RPC_WORK_OPEN:
        if (!done)
            code = run_open(call, &e);
        break;
    case RPC_WORK_MESSAGE:
        if (!done)
            code = ops->message(call, call->service, call->state, cs_buf_slice(&w->msg), &e);
        cs_buf_free(&w->msg);
        if (atomic_fetch_sub(&call->waiting, 1) == 1)
            rpc_call_wake(call);
        break;
    case RPC_WORK_HALF_CLOSE:
        if (!done && ops->half_close != NULL)
            code = ops->half_close(call, call->service, call->state, &e);
        else if (!done)
            rpc_call_finish(call, CS_OK, NULL);
        break;
    default:
        if (!done)
            w->fn(call, call->service, call->state);
        break;
    }
    if (code != CS_OK)
        rpc_call_finish(call, code, e.text);
}

enum exec_step { STEP_WORK, STEP_ROOM, STEP_CLOSED, STEP_NONE };

/* Work first, `closed` last. With nothing left the executor no longer runs. */
static enum exec_step next_step(struct rpc_call *call, struct rpc_work **w)
{
    enum exec_step step = STEP_NONE;
    pthread_mutex_lock(&call->lock);
    *w = call->work;
    if (*w != NULL) {
        step = STEP_WORK;
        call->work = (*w)->next;
        if (call->work == NULL)
            call->work_end = &call->work;
    } else if (call->room_due) {
        step = STEP_ROOM;
        call->room_due = false;
    } else if (call->close_due && !call->closed) {
        step = STEP_CLOSED;
        call->closed = true;
    } else {
        call->running = false;
    }
    pthread_mutex_unlock(&call->lock);
    return step;
}

/* Runs until nothing is left, then gives the executor's reference back. */
static void exec_run(void *arg)
{
    struct rpc_call *call = arg;
    for (;;) {
        struct rpc_work *w;
        enum exec_step step = next_step(call, &w);
        if (step == STEP_NONE)
            break;
        if (step == STEP_ROOM)
            run_room(call);
        if (step == STEP_CLOSED)
            run_closed(call);
        if (step == STEP_WORK) {
            run_work(call, w);
            work_free(w);
        }
    }
    rpc_call_unref(call);
}

/* --- Finding a thread --- */

static void on_retry(struct rpc_timer *t)
{
    struct rpc_call *call = CALL_OF(t, retry);
    if (loop_pool_submit(call->conn->lane->server->pool, exec_run, call))
        return;
    struct rpc_timers *ts = &call->conn->lane->timers;
    if (rpc_timer_set(ts, t, rpc_timers_now(ts) + RETRY_NS) != CS_OK)
        exec_run(call); /* no memory for a timer: late and here is better than never */
}

static void retry_later(void *arg)
{
    struct rpc_call *call = arg;
    call->retry.fn = on_retry;
    on_retry(&call->retry);
}

/* The caller set `running` and gave a reference. A stream that is open must go on even when the
 * pool is full: it waits its turn on the loop. */
static bool exec_start(struct rpc_call *call, bool on_loop, bool may_refuse)
{
    struct rpc_lane *lane = call->conn->lane;
    if (call->method->run == RPC_INLINE) {
        if (on_loop) {
            exec_run(call);
            return true;
        }
        return loop_post(lane->loop, exec_run, call);
    }
    if (loop_pool_submit(lane->server->pool, exec_run, call))
        return true;
    if (may_refuse)
        return false;
    if (on_loop) {
        retry_later(call);
        return true;
    }
    return loop_post(lane->loop, retry_later, call);
}

/* Under lock: something is to be done, and nobody does it. The caller has to start the executor. */
static bool must_start(struct rpc_call *call)
{
    if (call->running || (call->work == NULL && !call->room_due && (!call->close_due || call->closed)))
        return false;
    call->running = true;
    return true;
}

/* The caller set `running`. */
static bool exec_begin(struct rpc_call *call, bool on_loop, bool may_refuse)
{
    rpc_call_ref(call);
    if (exec_start(call, on_loop, may_refuse))
        return true;
    pthread_mutex_lock(&call->lock);
    call->running = false;
    pthread_mutex_unlock(&call->lock);
    rpc_call_unref(call);
    return false;
}

/* A stream of which nothing ran and nothing will: there is nothing to close. */
static void never_opens(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    rpc_exec_drop(call);
    call->close_due = call->closed = true;
    pthread_mutex_unlock(&call->lock);
    rpc_call_live_end(call->conn->lane->server);
}

bool rpc_exec_push(struct rpc_call *call, enum rpc_work_kind kind, struct cs_buf *msg,
                   void (*fn)(struct rpc_call *call, void *service, void *state), bool on_loop)
{
    struct rpc_work *w = cs_malloc(sizeof *w);
    if (w == NULL) {
        if (kind == RPC_WORK_OPEN)
            never_opens(call);
        return false;
    }
    *w = (struct rpc_work){.kind = kind, .fn = fn};
    if (msg != NULL) {
        w->msg = *msg;
        *msg = (struct cs_buf){0};
    }
    pthread_mutex_lock(&call->lock);
    *call->work_end = w;
    call->work_end = &w->next;
    bool start = must_start(call);
    pthread_mutex_unlock(&call->lock);
    if (!start || exec_begin(call, on_loop, kind == RPC_WORK_OPEN))
        return true;
    /* anything else stays queued: the end of the stream runs it */
    if (kind == RPC_WORK_OPEN)
        never_opens(call);
    return kind != RPC_WORK_OPEN;
}

void rpc_exec_room(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool start = must_start(call);
    pthread_mutex_unlock(&call->lock);
    /* not from here, inside nghttp2's callbacks, unless there is no other way */
    if (!start || exec_begin(call, false, false))
        return;
    pthread_mutex_lock(&call->lock);
    start = must_start(call);
    pthread_mutex_unlock(&call->lock);
    if (start)
        (void)exec_begin(call, true, false);
}

void rpc_exec_close(struct rpc_call *call, bool on_loop)
{
    if (call->method == NULL || call->method->stream == NULL || !call->dispatched)
        return;
    pthread_mutex_lock(&call->lock);
    call->close_due = true;
    bool start = must_start(call);
    pthread_mutex_unlock(&call->lock);
    /* when another thread has no memory to reach the loop, the end of the stream starts it */
    if (start)
        (void)exec_begin(call, on_loop, false);
}

bool rpc_call_post(struct rpc_call *call, void (*fn)(struct rpc_call *call, void *service, void *state))
{
    if (rpc_call_done(call))
        return false;
    return rpc_exec_push(call, RPC_WORK_POST, NULL, fn, false);
}
