/* SPDX-License-Identifier: Apache-2.0
 *
 * Unary methods under a rate limit. Who comes too early waits without holding a thread: the handler
 * says API_LATER, having reserved its tokens, and is run again from the start when they are there.
 */
#include "server/api/internal.h"

/* Nobody waits longer than this, whatever deadline the client has. */
#define WAIT_MAX_NS (60 * CS_NS_PER_S)

static int64_t longest_wait(const struct api_call *c)
{
    if (c->api->waiters == NULL)
        return 0;
    int64_t deadline = rpc_call_deadline(c->rpc);
    if (deadline == INT64_MAX)
        return WAIT_MAX_NS;
    int64_t left = deadline - cs_mono_ns(c->api->cfg.clock);
    return left < 0 ? 0 : left > WAIT_MAX_NS ? WAIT_MAX_NS : left;
}

cs_code api_limit(struct api_call *c, size_t count, struct cs_err *e)
{
    struct ratelimit *limit = c->api->limits[c->policy->limit];
    if (limit == NULL || c->local || c->limit_passed)
        return CS_OK;
    struct cs_slice ip = cs_slice_str(rpc_conn_ip(rpc_call_conn(c->rpc)));
    CS_TRY(ratelimit_reserve(limit, ip, count, longest_wait(c), &c->wait_ns, e));
    c->limit_passed = true;
    return c->wait_ns > 0 ? API_LATER : CS_OK;
}

cs_code api_limit_failed(struct api_call *c, cs_code code, const char *msg, struct cs_err *e)
{
    return code == API_LATER ? code : api_fail_cause(c, e, code, msg);
}

cs_code api_keep_request(struct api_call *c, struct cs_slice msg, struct cs_err *e)
{
    c->waiting = (struct cs_slice){0};
    if (msg.len == 0)
        return CS_OK;
    const void *copy = cs_arena_memdup(c->arena, msg.data, msg.len);
    c->waiting = cs_slice_of(copy, msg.len);
    return copy != NULL ? CS_OK : cs_nomem(e);
}

static void run_again(struct rpc_call *call, void *service, void *state);

static cs_code wait_turn(struct api_call *c, struct cs_slice msg, struct cs_err *e)
{
    CS_TRY(api_keep_request(c, msg, e));
    return api_wait(c, run_again, e);
}

static cs_code run(struct rpc_call *call, void *service, struct cs_slice msg, struct cs_err *e)
{
    struct api_call *c = api_call_of(call);
    struct cs_buf response CS_CLEANUP(cs_buf_free) = {0};
    cs_code code = c->policy->limited(call, service, msg, &response, e);
    if (code == API_LATER)
        return wait_turn(c, msg, e);
    if (code != CS_OK)
        return code;
    if (!cs_buf_ok(&response))
        return cs_nomem(e);
    CS_TRY(rpc_call_send(call, &response));
    rpc_call_finish(call, CS_OK, "");
    return CS_OK;
}

static void run_again(struct rpc_call *call, void *service, void *state)
{
    (void)state;
    const struct api_call *c = api_call_of(call);
    if (c == NULL)
        return; /* over in the meantime */
    struct cs_err e = {0};
    cs_code code = run(call, service, c->waiting, &e);
    if (code != CS_OK)
        rpc_call_finish(call, code, e.text);
}

static cs_code limited_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)e;
    *state = NULL;
    return CS_OK;
}

static cs_code limited_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                               struct cs_err *e)
{
    (void)state;
    struct api_call *c = api_call_of(call);
    if (c->request_seen)
        return CS_OK; /* a unary call has one request; what follows it is not looked at */
    c->request_seen = true;
    return run(call, service, msg, e);
}

static cs_code limited_half_close(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)service;
    (void)state;
    return api_call_of(call)->request_seen ? CS_OK
                                           : cs_fail(e, CS_INTERNAL, "the request message is missing");
}

static void limited_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    (void)state;
}

const struct rpc_stream_ops api_limited_ops = {
    .open = limited_open,
    .message = limited_message,
    .half_close = limited_half_close,
    .closed = limited_closed,
};
