/* SPDX-License-Identifier: Apache-2.0
 *
 * Workload API handlers for X509-SVIDs and bundles (pkg/agent/endpoints/workload of SPIRE): streams that are
 * told by the cache when there is something new. An update is encoded once for all streams of a group.
 */
#include "agent/workload.h"

#include "base/logfields.h"
#include "workload.pb-c.h"

#include <unistd.h>

#define JWT_THREADS 4
#define JWT_QUEUE 4096
#define JWT_QUEUE_PER_PROCESS 1024

/* --- Streams --- */

struct stream {
    struct workload_api *api;
    struct rpc_call *call; /* lives until `closed` */
    enum agent_message kind;
    struct agent_subscription *sub;
    bool asked, sent;
    uint8_t digest[32]; /* of the message last sent */
};

static enum agent_message kind_of(struct rpc_call *call)
{
    const char *path = rpc_call_method(call)->path;
    if (strcmp(path, "/SpiffeWorkloadAPI/FetchX509SVID") == 0)
        return AGENT_X509_SVID;
    return strcmp(path, "/SpiffeWorkloadAPI/FetchJWTBundles") == 0 ? AGENT_JWT_BUNDLES : AGENT_X509_BUNDLES;
}

static enum workload_limit limit_of(enum agent_message kind)
{
    switch (kind) {
    case AGENT_X509_SVID:
        return LIMIT_X509_SVID;
    case AGENT_JWT_BUNDLES:
        return LIMIT_JWT_BUNDLES;
    default:
        return LIMIT_X509_BUNDLES;
    }
}

static cs_code stream_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    struct stream *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->api = service;
    s->call = call;
    s->kind = kind_of(call);
    *state = s;
    return CS_OK;
}

static void stream_closed(struct rpc_call *call, void *service, void *state)
{
    struct stream *s = state;
    (void)call;
    (void)service;
    if (s == NULL)
        return;
    agent_subscription_free(s->sub);
    cs_free(s);
}

static cs_code stream_half_close(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    const struct stream *s = state;
    (void)call;
    (void)service;
    /* The stream goes on: only requests have ended. */
    return s->asked ? CS_OK : cs_fail(e, CS_INTERNAL, "cardinality violation: no request message");
}

/* --- Sending --- */

static void log_sent(const struct stream *s, const struct agent_update *u)
{
    struct cs_log log = workload_log(s->api, s->call);
    const struct loop_peer *peer = rpc_conn_peer(rpc_call_conn(s->call));
    if (s->kind != AGENT_X509_SVID || !cs_log_on(&log, CS_LOG_DEBUG) ||
        (peer != NULL && peer->pid == getpid()))
        return;
    for (size_t i = 0; i < u->count; i++)
        cs_log_debug(&log, "Fetched X.509 SVID", KV_INT(CS_F_COUNT, (int64_t)u->count),
                     KV_BOOL(CS_F_REGISTERED, true), KV(CS_F_SPIFFE_ID, u->identities[i].entry->spiffe_id),
                     KV_INT(CS_F_TTL, u->identities[i].svid->not_after - cs_now_s(s->api->agent->clock)));
}

static cs_code send_message(struct stream *s, struct cs_slice msg, struct cs_err *e)
{
    struct cs_buf copy = {0};
    cs_buf_add_slice(&copy, msg);
    if (!cs_buf_ok(&copy)) {
        cs_buf_wipe(&copy);
        return cs_nomem(e);
    }
    cs_code rc = rpc_call_send(s->call, &copy);
    cs_buf_wipe(&copy);
    if (rc == CS_EXHAUSTED)
        return cs_fail(e, rc, "the caller does not read what it is sent");
    return rc == CS_OK ? CS_OK : cs_fail(e, rc, "call is over");
}

static cs_code deny(struct stream *s, struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    const struct loop_peer *peer = rpc_conn_peer(rpc_call_conn(s->call));
    struct workload_caller caller = {.pid = peer != NULL ? peer->pid : 0};
    if (arena == NULL)
        return cs_nomem(e);
    CS_TRY(agent_subscription_selectors(s->sub, arena, &caller.selectors, &caller.count, e));
    return workload_deny(s->api, s->call, &caller, e);
}

static cs_code send_update(struct stream *s, const struct agent_update *u, struct cs_err *e)
{
    struct cs_err fault;
    bool bundles = s->kind != AGENT_X509_SVID;
    if (u->count == 0 && !(bundles && s->api->agent->cfg->allow_unauthenticated_verifiers))
        return deny(s, e);
    struct cs_log log = workload_log(s->api, s->call);
    struct cs_slice msg;
    const uint8_t *digest = NULL;
    if (agent_update_message(u, s->kind, &log, &msg, &digest, &fault) != CS_OK) {
        cs_log_error(&log, "Could not serialize response", KV_ERR(&fault));
        return cs_fail(e, CS_UNAVAILABLE, "could not serialize response: %.400s", fault.text);
    }
    /* Only what is new. SPIRE repeats an unchanged X509SVIDResponse now and then; nobody misses that. */
    if (s->sent && memcmp(s->digest, digest, sizeof s->digest) == 0)
        return CS_OK;
    CS_TRY(send_message(s, msg, e));
    memcpy(s->digest, digest, sizeof s->digest);
    s->sent = true;
    log_sent(s, u);
    return CS_OK;
}

static cs_code push(struct stream *s, struct cs_err *e)
{
    CS_AUTO(agent_update) u = agent_subscription_take(s->sub);
    return u != NULL ? send_update(s, u, e) : CS_OK;
}

/* On the call's executor. */
static void on_update(struct rpc_call *call, void *service, void *state)
{
    struct cs_err e = {0};
    (void)service;
    cs_code rc = push(state, &e);
    if (rc != CS_OK)
        rpc_call_finish(call, rc, e.text);
}

/* On the thread that changed the cache, under its lock. */
static bool wake(void *arg)
{
    const struct stream *s = arg;
    return rpc_call_post(s->call, on_update); /* false: no memory, or the call is over and `closed` comes */
}

/* --- The request --- */

static cs_code check_request(struct cs_arena *arena, enum agent_message kind, struct cs_slice msg,
                             struct cs_err *e)
{
    static const ProtobufCMessageDescriptor *const kinds[] = {
        [AGENT_X509_SVID] = &workload__x509_svidrequest__descriptor,
        [AGENT_X509_BUNDLES] = &workload__x509_bundles_request__descriptor,
        [AGENT_JWT_BUNDLES] = &workload__jwtbundles_request__descriptor,
    };
    ProtobufCMessage *m = NULL;
    return msg.len > 0 ? proto_unpack(arena, kinds[kind], msg, &m, e) : CS_OK;
}

static cs_code stream_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                              struct cs_err *e)
{
    struct workload_api *w = service;
    struct stream *s = state;
    if (s->asked)
        return cs_fail(e, CS_INTERNAL, "cardinality violation: more than one request message");
    s->asked = true;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    CS_TRY(check_request(arena, s->kind, msg, e));
    struct workload_caller caller;
    CS_TRY(workload_attest(w, call, arena, limit_of(s->kind), &caller, e));
    bool waiting = false;
    CS_TRY(agent_cache_subscribe(w->agent->cache, caller.selectors, caller.count, wake, s, &s->sub, &waiting,
                                 e));
    if (waiting) {
        struct cs_log log = workload_log(w, call);
        cs_log_info(&log, "Waiting for SVID to get cached");
        return CS_OK;
    }
    return push(s, e);
}

static const struct rpc_stream_ops watch = {
    .open = stream_open,
    .message = stream_message,
    .half_close = stream_half_close,
    .closed = stream_closed,
};

/* --- What SPIRE does not do either --- */

static cs_code refuse_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)service;
    (void)state;
    bool bundles = strcmp(rpc_call_method(call)->path, "/SpiffeWorkloadAPI/FetchWITBundles") == 0;
    return cs_fail(e, CS_UNIMPLEMENTED, "fetching WIT%s is not implemented", bundles ? " bundles" : "-SVIDs");
}

static cs_code refuse_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                              struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)state;
    (void)msg;
    return cs_fail(e, CS_UNIMPLEMENTED, "not implemented");
}

static void refuse_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    (void)state;
}

static const struct rpc_stream_ops refuse = {
    .open = refuse_open,
    .message = refuse_message,
    .closed = refuse_closed,
};

const struct rpc_method workload_methods[] = {
    {.path = "/SpiffeWorkloadAPI/FetchX509SVID", .run = RPC_WORKER, .stream = &watch},
    {.path = "/SpiffeWorkloadAPI/FetchX509Bundles", .run = RPC_WORKER, .stream = &watch},
    {.path = "/SpiffeWorkloadAPI/FetchJWTSVID", .run = RPC_WORKER, .stream = &workload_fetch_jwt},
    {.path = "/SpiffeWorkloadAPI/FetchJWTBundles", .run = RPC_WORKER, .stream = &watch},
    {.path = "/SpiffeWorkloadAPI/ValidateJWTSVID", .run = RPC_WORKER, .unary = workload_validate_jwt},
    {.path = "/SpiffeWorkloadAPI/FetchWITSVID", .run = RPC_INLINE, .stream = &refuse},
    {.path = "/SpiffeWorkloadAPI/FetchWITBundles", .run = RPC_INLINE, .stream = &refuse},
};
const size_t workload_method_count = sizeof workload_methods / sizeof workload_methods[0];

/* --- Life --- */

static cs_code add_limit(struct workload_api *w, enum workload_limit at, const char *method,
                         int64_t per_second, struct cs_err *e)
{
    if (per_second <= 0)
        return CS_OK;
    CS_TRY(agent_ratelimit_new(w->agent->clock, per_second, &w->limits[at], e));
    cs_log_info(&w->log, "Workload API/SDS rate limiting enabled", KV_INT("limit", per_second),
                KV("method", method));
    return CS_OK;
}

static cs_code make_attestors(struct workload_api *w, struct cs_err *e)
{
    CS_CLEANUP(cs_vec_free) struct cs_vec plugins = {0};
    const struct agent *a = w->agent;
    CS_TRY(agent_plugins_of(a, PLUGIN_TYPE_WORKLOADATTESTOR, &plugins, e));
    const struct agent_attestors_config cfg = {
        .log = cs_log_sub(a->log, "workload_attestor"),
        .plugins = (const struct catalog_plugin *const *)(void *)plugins.at,
        .plugin_count = plugins.len,
    };
    return agent_attestors_new(&cfg, &w->attestors, e);
}

cs_code workload_api_init(struct workload_api *w, struct agent *a, struct cs_err *e)
{
    const struct agent_config *cfg = a->cfg;
    *w = (struct workload_api){.agent = a, .log = cs_log_sub(a->log, "endpoints")};
    CS_TRY(make_attestors(w, e));
    CS_TRY(agent_fairqueue_new("jwt", JWT_THREADS, JWT_QUEUE_PER_PROCESS, JWT_QUEUE, &w->jwt_jobs, e));
    CS_TRY(
        add_limit(w, LIMIT_X509_SVID, "/SpiffeWorkloadAPI/FetchX509SVID", cfg->ratelimit.fetch_x509_svid, e));
    CS_TRY(add_limit(w, LIMIT_JWT_SVID, "/SpiffeWorkloadAPI/FetchJWTSVID", cfg->ratelimit.fetch_jwt_svid, e));
    CS_TRY(add_limit(w, LIMIT_X509_BUNDLES, "/SpiffeWorkloadAPI/FetchX509Bundles",
                     cfg->ratelimit.fetch_x509_bundles, e));
    return add_limit(w, LIMIT_JWT_BUNDLES, "/SpiffeWorkloadAPI/FetchJWTBundles",
                     cfg->ratelimit.fetch_jwt_bundles, e);
}

void workload_api_free(struct workload_api *w)
{
    agent_fairqueue_free(w->jwt_jobs);
    agent_attestors_free(w->attestors);
    for (size_t i = 0; i < LIMIT_COUNT; i++)
        agent_ratelimit_free(w->limits[i]);
    *w = (struct workload_api){0};
}
