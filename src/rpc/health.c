/* SPDX-License-Identifier: Apache-2.0
 *
 * grpc.health.v1 as rows for a listener.
 */
#include "health.pb-c.h"
#include "proto/proto.h"
#include "rpc/internal.h"

#define WATCH_NS (2 * CS_NS_PER_S) /* how often an open Watch looks again */
#define NAME_MAX_LEN 256

static cs_code read_request(struct cs_arena *a, struct cs_slice in, struct cs_slice *name, struct cs_err *e)
{
    ProtobufCMessage *m = NULL;
    if (a == NULL)
        return cs_nomem(e);
    CS_TRY(proto_unpack(a, &healthv1__health_check_request__descriptor, in, &m, e));
    *name = cs_slice_str(((const Healthv1__HealthCheckRequest *)m)->service);
    return CS_OK;
}

static cs_code write_response(int status, struct cs_buf *out, struct cs_err *e)
{
    Healthv1__HealthCheckResponse r = HEALTHV1__HEALTH_CHECK_RESPONSE__INIT;
    r.status = (Healthv1__HealthCheckResponse__ServingStatus)status;
    return proto_pack(&r.base, out, e);
}

static cs_code check(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                     struct cs_err *e)
{
    const struct rpc_health *h = service;
    struct cs_slice name = {0};
    CS_TRY(read_request(rpc_call_arena(call), request, &name, e));
    int status = h->status(h->arg, name);
    if (status < 0)
        return cs_fail(e, CS_NOT_FOUND, "unknown service");
    return write_response(status, response, e);
}

/* Watch runs inline, so all of this is on the connection's thread. */
struct watch {
    struct rpc_call *call;
    const struct rpc_health *health;
    struct loop_timer *timer;
    int last;
    bool asked;
    size_t len;
    uint8_t name[NAME_MAX_LEN];
};

static cs_code watch_tell(struct watch *w, struct cs_err *e)
{
    int status = w->health->status(w->health->arg, cs_slice_of(w->name, w->len));
    if (status < 0)
        status = HEALTHV1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
    if (status == w->last)
        return CS_OK;
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    CS_TRY(write_response(status, &out, e));
    cs_code code = rpc_call_send(w->call, &out);
    if (code == CS_OK)
        w->last = status;
    return code == CS_EXHAUSTED ? CS_OK : code; /* slow reader: told the next time */
}

static void watch_look(void *arg)
{
    struct watch *w = arg;
    struct cs_err e = {0};
    cs_code code = watch_tell(w, &e);
    if (code == CS_OK)
        loop_timer_arm(w->timer, WATCH_NS, 0);
    else
        rpc_call_finish(w->call, code, e.text);
}

static cs_code watch_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    struct watch *w = cs_calloc(1, sizeof *w);
    if (w == NULL)
        return cs_nomem(e);
    *state = w;
    w->call = call;
    w->health = service;
    w->last = -1;
    return loop_timer_new(rpc_call_conn(call)->lane->loop, watch_look, w, &w->timer, e);
}

static cs_code watch_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                             struct cs_err *e)
{
    (void)service;
    struct watch *w = state;
    struct cs_slice name = {0};
    if (w->asked)
        return cs_fail(e, CS_INTERNAL,
                       "cardinality violation: received multiple request messages for "
                       "non-client-streaming RPC");
    CS_TRY(read_request(rpc_call_arena(call), msg, &name, e));
    if (name.len > sizeof w->name)
        return cs_fail(e, CS_INVALID, "service name is too long");
    memcpy(w->name, name.data, name.len);
    w->len = name.len;
    w->asked = true;
    CS_TRY(watch_tell(w, e));
    loop_timer_arm(w->timer, WATCH_NS, 0);
    return CS_OK;
}

static cs_code watch_half_close(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)call;
    (void)service;
    const struct watch *w = state;
    if (!w->asked)
        return cs_fail(e, CS_INTERNAL,
                       "cardinality violation: received no request message from "
                       "non-client-streaming RPC");
    return CS_OK;
}

static void watch_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    struct watch *w = state;
    if (w == NULL)
        return;
    loop_timer_free(w->timer);
    cs_free(w);
}

static const struct rpc_stream_ops watch_ops = {
    .open = watch_open,
    .message = watch_message,
    .half_close = watch_half_close,
    .closed = watch_closed,
};

const struct rpc_method rpc_health_methods[] = {
    {.path = "/grpc.health.v1.Health/Check", .run = RPC_INLINE, .unary = check},
    {.path = "/grpc.health.v1.Health/Watch", .run = RPC_INLINE, .stream = &watch_ops},
};
const size_t rpc_health_method_count = sizeof rpc_health_methods / sizeof rpc_health_methods[0];
