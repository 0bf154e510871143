/* SPDX-License-Identifier: Apache-2.0
 *
 * A service for tests, with one method of each kind. Messages are plain bytes.
 */
#ifndef CS_TESTS_RPC_ECHO_H
#define CS_TESTS_RPC_ECHO_H

#include "rpc/server.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

struct echo {
    _Atomic int opened, closed, begun, ended, last_code, cancelled_seen;
    _Atomic bool hold; /* Block waits until this is false */
};

/* Unary: the request back. "fail:N:text" ends with status N; "md:KEY" answers a metadata value,
 * "mdn:KEY" how many it has; "big:N" answers N bytes; "detail" fails with a detail; "deadline" answers "set"
 * or "none". */
static inline cs_code echo_unary(struct rpc_call *call, void *service, struct cs_slice request,
                                 struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    char text[256] = "";
    size_t n = request.len < sizeof text - 1 ? request.len : sizeof text - 1;
    if (n > 0)
        memcpy(text, request.data, n);
    int code, at = 0;
    unsigned big;
    if (sscanf(text, "fail:%d:%n", &code, &at) == 1 && at > 0)
        return cs_fail(e, (cs_code)code, "%s", text + at);
    if (strncmp(text, "md:", 3) == 0) {
        cs_buf_add_slice(response, rpc_call_metadata(call, text + 3));
        return CS_OK;
    }
    if (strncmp(text, "mdn:", 4) == 0) {
        cs_buf_printf(response, "%zu", rpc_call_metadata_count(call, text + 4));
        return CS_OK;
    }
    if (sscanf(text, "big:%u", &big) == 1) {
        if (cs_buf_reserve(response, big)) {
            memset(response->data + response->len, 'b', big);
            response->len += big;
        }
        return CS_OK;
    }
    if (strcmp(text, "detail") == 0) {
        rpc_call_set_detail(call, &(struct rpc_detail){"test.Detail", {8, 1}, 2});
        return cs_fail(e, CS_DENIED, "no: 100%% \xc3\xa4");
    }
    if (strcmp(text, "deadline") == 0) {
        cs_buf_add_str(response, rpc_call_deadline(call) == INT64_MAX ? "none" : "set");
        return CS_OK;
    }
    cs_buf_add_slice(response, request);
    return CS_OK;
}

/* Unary on a worker that waits while `hold` is set, or until the call is over. */
static inline cs_code echo_block(struct rpc_call *call, void *service, struct cs_slice request,
                                 struct cs_buf *response, struct cs_err *e)
{
    (void)e;
    struct echo *echo = service;
    atomic_fetch_add(&echo->opened, 1);
    while (atomic_load(&echo->hold) && !rpc_call_done(call))
        usleep(500);
    if (rpc_call_done(call))
        atomic_fetch_add(&echo->cancelled_seen, 1);
    cs_buf_add_slice(response, request);
    return CS_OK;
}

static inline cs_code echo_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)call;
    (void)e;
    struct echo *echo = service;
    atomic_fetch_add(&echo->opened, 1);
    *state = cs_calloc(1, sizeof(struct cs_buf));
    return *state != NULL ? CS_OK : CS_INTERNAL;
}

static inline void echo_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    struct echo *echo = service;
    if (state != NULL)
        cs_buf_free(state);
    cs_free(state);
    atomic_fetch_add(&echo->closed, 1);
}

static inline cs_code echo_send(struct rpc_call *call, const void *p, size_t n)
{
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    cs_buf_add(&out, p, n);
    return rpc_call_send(call, &out);
}

/* Bidi: each message back. "fail" ends with ABORTED "asked for". */
static inline cs_code bidi_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                                   struct cs_err *e)
{
    (void)service;
    (void)state;
    if (cs_slice_is(msg, "fail"))
        return cs_fail(e, CS_ABORTED, "asked for");
    cs_code code = echo_send(call, msg.data, msg.len);
    return code == CS_OK ? CS_OK : cs_fail(e, code, "cannot send");
}

/* Client stream: all messages joined, at the half-close. */
static inline cs_code join_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                                   struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)e;
    cs_buf_add_slice(state, msg);
    return CS_OK;
}
static inline cs_code join_half_close(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)service;
    (void)e;
    cs_code code = rpc_call_send(call, state);
    if (code == CS_OK)
        rpc_call_finish(call, CS_OK, NULL);
    return code;
}

/* Server stream: "N:SIZE" sends N messages of SIZE bytes and ends; "wait" stays open; "burst" sends
 * 1 MiB messages until the queue is full and ends with how many fitted as ResourceExhausted. */
static inline cs_code count_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                                    struct cs_err *e)
{
    (void)service;
    (void)state;
    char text[64] = "";
    unsigned n = 0, size = 0;
    if (msg.len >= sizeof text)
        return cs_fail(e, CS_INVALID, "too long");
    memcpy(text, msg.data, msg.len);
    if (strcmp(text, "wait") == 0)
        return echo_send(call, "waiting", 7);
    bool burst = strcmp(text, "burst") == 0;
    if (burst) {
        n = 1000;
        size = 1024 * 1024;
    } else if (sscanf(text, "%u:%u", &n, &size) != 2) {
        return cs_fail(e, CS_INVALID, "what?");
    }
    uint8_t *p = cs_calloc(1, size + 1);
    cs_code code = CS_OK;
    unsigned i = 0;
    for (; i < n && code == CS_OK; i++)
        code = echo_send(call, p, size);
    cs_free(p);
    if (code != CS_OK)
        return cs_fail(e, code, "%u", i - 1);
    rpc_call_finish(call, CS_OK, NULL);
    return CS_OK;
}
static inline cs_code keep_open(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)state;
    (void)e;
    return CS_OK;
}

static const struct rpc_stream_ops bidi_ops = {
    .open = echo_open, .message = bidi_message, .closed = echo_closed};
static const struct rpc_stream_ops join_ops = {
    .open = echo_open, .message = join_message, .half_close = join_half_close, .closed = echo_closed};
static const struct rpc_stream_ops count_ops = {
    .open = echo_open, .message = count_message, .half_close = keep_open, .closed = echo_closed};

static const struct rpc_method echo_methods[] = {
    {.path = "/test.Echo/Inline", .run = RPC_INLINE, .unary = echo_unary},
    {.path = "/test.Echo/Worker", .run = RPC_WORKER, .unary = echo_unary},
    {.path = "/test.Echo/Block", .run = RPC_WORKER, .unary = echo_block},
    {.path = "/test.Echo/Bidi", .run = RPC_INLINE, .stream = &bidi_ops},
    {.path = "/test.Echo/BidiWorker", .run = RPC_WORKER, .stream = &bidi_ops},
    {.path = "/test.Echo/Join", .run = RPC_INLINE, .stream = &join_ops},
    {.path = "/test.Echo/JoinWorker", .run = RPC_WORKER, .stream = &join_ops},
    {.path = "/test.Echo/Count", .run = RPC_INLINE, .stream = &count_ops},
    {.path = "/test.Echo/CountWorker", .run = RPC_WORKER, .stream = &count_ops},
};

static inline cs_code echo_begin(struct rpc_call *call, void *arg, struct cs_err *e)
{
    struct echo *echo = arg;
    atomic_fetch_add(&echo->begun, 1);
    if (cs_slice_is(rpc_call_metadata(call, "who"), "nobody"))
        return cs_fail(e, CS_DENIED, "authorization denied for method %s", rpc_call_method(call)->path);
    return CS_OK;
}
static inline void echo_end(struct rpc_call *call, void *arg, cs_code code, const char *text)
{
    (void)call;
    (void)text;
    struct echo *echo = arg;
    atomic_store(&echo->last_code, (int)code);
    atomic_fetch_add(&echo->ended, 1);
}

static inline int echo_health_status(void *arg, struct cs_slice service)
{
    (void)arg;
    return service.len == 0 ? 1 : cs_slice_is(service, "test.Echo") ? 2 : -1;
}

#endif
