/* SPDX-License-Identifier: Apache-2.0
 *
 * What a program offers to its external plugins (spire.hostservice.* of SPIRE's plugin SDK): one gRPC server
 * on a Unix socket for all of them, whose address they are told through go-plugin's broker. The socket gives
 * away the server's identity, key and all, so who connects must belong to a plugin that we started.
 */
#include "plugin/bridge/convert.h"
#include "plugin/external_internal.h"
#include "proto/proto.h"
#include "rpc/server.h"

#include "google/protobuf/empty.pb-c.h"
#include "sdk_host_agentstore.pb-c.h"
#include "sdk_host_identityprovider.pb-c.h"
#include "sdk_host_metrics.pb-c.h"

#include <stdio.h>
#include <unistd.h>

#define IDENTITY_PROVIDER "spire.hostservice.server.identityprovider.v1.IdentityProvider"
#define AGENT_STORE "spire.hostservice.server.agentstore.v1.AgentStore"
#define METRICS "spire.hostservice.common.metrics.v1.Metrics"

/* Parts of a metric's key, and labels of it, that are passed on. */
#define METRIC_PARTS_MAX 32
/* Of one connection, bytes of a request. */
#define REQUEST_MAX ((size_t)64 * 1024)

/* Data of a connection: whose it is. */
struct caller {
    char *type, *name;
    const struct plugin_host *host; /* NULL: it offers nothing */
};

size_t plugin_host_names(const struct plugin_env *env, const char *out[PLUGIN_HOST_SERVICES_MAX])
{
    size_t n = 0;
    if (env->host == NULL)
        return 0;
    if (env->host->identity != NULL)
        out[n++] = IDENTITY_PROVIDER;
    if (env->host->agent_info != NULL)
        out[n++] = AGENT_STORE;
    out[n++] = METRICS;
    return n;
}

void plugin_host_address(const struct plugin_runner *r, char out[128])
{
    snprintf(out, 128, "%s/host", r->folder);
}

/* --- Who connects --- */

static void caller_free(void *arg)
{
    struct caller *c = arg;
    if (c == NULL)
        return;
    cs_free(c->type);
    cs_free(c->name);
    cs_free(c);
}

static cs_code caller_of(const struct plugin_external *x, struct caller **out, struct cs_err *e)
{
    struct caller *c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    *c = (struct caller){cs_strdup(x->type), cs_strdup(x->name), x->env->host};
    if (c->type == NULL || c->name == NULL) {
        caller_free(c);
        return cs_nomem(e);
    }
    *out = c;
    return CS_OK;
}

/* A plugin leads a process group, and everything it starts belongs to it unless it takes pains. */
static cs_code accept_plugin(void *arg, const struct loop_peer *peer, void **conn_data,
                             void (**destroy)(void *), struct cs_err *e)
{
    struct plugin_runner *r = arg;
    struct caller *c = NULL;
    pid_t group = getpgid(peer->pid);
    cs_code rc = cs_fail(e, CS_DENIED, "process %ld is no plugin", (long)peer->pid);
    if (group <= 0 || loop_peer_check(peer, NULL) != CS_OK)
        return rc;
    pthread_mutex_lock(&r->lock);
    for (const struct plugin_external *x = r->plugins; x != NULL; x = x->next)
        if (atomic_load(&x->group) == group) {
            rc = caller_of(x, &c, e);
            break;
        }
    pthread_mutex_unlock(&r->lock);
    *conn_data = c;
    *destroy = caller_free;
    return rc;
}

static const struct caller *caller(const struct rpc_call *call)
{
    return rpc_conn_data(rpc_call_conn((struct rpc_call *)call));
}

static cs_code not_offered(const char *service, struct cs_err *e)
{
    return cs_fail(e, CS_UNIMPLEMENTED, "unknown service %s", service);
}

/* --- IdentityProvider --- */

static ProtobufCBinaryData bytes_of(struct cs_slice s)
{
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)s.data};
}

static cs_code write_identity(struct cs_arena *a, const struct plugin_identity *id, struct cs_buf *response,
                              struct cs_err *e)
{
    Identityproviderv1__FetchX509IdentityResponse resp =
        IDENTITYPROVIDERV1__FETCH_X509_IDENTITY_RESPONSE__INIT;
    Identityproviderv1__X509Identity identity = IDENTITYPROVIDERV1__X509_IDENTITY__INIT;
    resp.identity = &identity;
    identity.n_cert_chain = id->chain_count;
    identity.cert_chain = cs_arena_alloc(a, (id->chain_count + 1) * sizeof *identity.cert_chain);
    if (identity.cert_chain == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < id->chain_count; i++)
        identity.cert_chain[i] = bytes_of(cs_buf_slice(&id->chain[i]));
    identity.private_key = bytes_of(cs_buf_slice(&id->key));
    CS_TRY(convert_plugin_bundle(a, id->bundle, &resp.bundle, e));
    return proto_pack(&resp.base, response, e);
}

static cs_code fetch_identity(struct rpc_call *call, void *service, struct cs_slice request,
                              struct cs_buf *response, struct cs_err *e)
{
    const struct plugin_host *h = caller(call)->host;
    (void)service;
    (void)request; /* has no fields */
    if (h == NULL || h->identity == NULL)
        return not_offered(IDENTITY_PROVIDER, e);
    CS_CLEANUP(plugin_identity_free) struct plugin_identity id = {0};
    CS_TRY(h->identity(h->arg, &id, e));
    return write_identity(rpc_call_arena(call), &id, response, e);
}

/* --- AgentStore --- */

static cs_code agent_info(struct rpc_call *call, void *service, struct cs_slice request,
                          struct cs_buf *response, struct cs_err *e)
{
    const struct plugin_host *h = caller(call)->host;
    ProtobufCMessage *m = NULL;
    (void)service;
    if (h == NULL || h->agent_info == NULL)
        return not_offered(AGENT_STORE, e);
    CS_TRY(proto_unpack(rpc_call_arena(call), &agentstorev1__get_agent_info_request__descriptor, request, &m,
                        e));
    const Agentstorev1__GetAgentInfoRequest *req = (const void *)m;
    CS_TRY(h->agent_info(h->arg, req->agent_id, e));
    Agentstorev1__GetAgentInfoResponse resp = AGENTSTOREV1__GET_AGENT_INFO_RESPONSE__INIT;
    Agentstorev1__AgentInfo info = AGENTSTOREV1__AGENT_INFO__INIT;
    info.agent_id = req->agent_id;
    resp.info = &info;
    return proto_pack(&resp.base, response, e);
}

/* --- Metrics --- */

/* The five requests have their fields alike. */
struct measured {
    char **key;
    size_t key_count;
    Metricsv1__Label **labels;
    size_t label_count;
    double value;
};

static cs_code emit(struct rpc_call *call, enum plugin_metric_kind kind, const struct measured *in,
                    struct cs_err *e)
{
    const struct caller *who = caller(call);
    const char *labels[2 * METRIC_PARTS_MAX];
    if (who->host == NULL)
        return not_offered(METRICS, e);
    if (in->key_count > METRIC_PARTS_MAX || in->label_count > METRIC_PARTS_MAX)
        return cs_fail(e, CS_INVALID, "a metric has at most %d parts and labels", METRIC_PARTS_MAX);
    if (who->host->metric == NULL)
        return CS_OK;
    for (size_t i = 0; i < in->label_count; i++) {
        labels[2 * i] = in->labels[i]->name;
        labels[2 * i + 1] = in->labels[i]->value;
    }
    const struct plugin_metric m = {.kind = kind,
                                    .key = (const char *const *)in->key,
                                    .key_count = in->key_count,
                                    .labels = labels,
                                    .label_count = in->label_count,
                                    .value = in->value};
    who->host->metric(who->host->arg, who->type, who->name, &m);
    return CS_OK;
}

#define READ(call, request, descriptor, out)                                                                 \
    do {                                                                                                     \
        ProtobufCMessage *m_ = NULL;                                                                         \
        CS_TRY(proto_unpack(rpc_call_arena(call), &(descriptor), (request), &m_, e));                        \
        (out) = (const void *)m_;                                                                            \
    } while (0)

static cs_code set_gauge(struct rpc_call *call, void *service, struct cs_slice request,
                         struct cs_buf *response, struct cs_err *e)
{
    const Metricsv1__SetGaugeRequest *m;
    (void)service;
    (void)response; /* google.protobuf.Empty */
    READ(call, request, metricsv1__set_gauge_request__descriptor, m);
    const struct measured in = {m->key, m->n_key, m->labels, m->n_labels, (double)m->val};
    return emit(call, PLUGIN_METRIC_GAUGE, &in, e);
}

static cs_code emit_key(struct rpc_call *call, void *service, struct cs_slice request,
                        struct cs_buf *response, struct cs_err *e)
{
    const Metricsv1__EmitKeyRequest *m;
    (void)service;
    (void)response;
    READ(call, request, metricsv1__emit_key_request__descriptor, m);
    const struct measured in = {m->key, m->n_key, NULL, 0, (double)m->val};
    return emit(call, PLUGIN_METRIC_KEY, &in, e);
}

static cs_code incr_counter(struct rpc_call *call, void *service, struct cs_slice request,
                            struct cs_buf *response, struct cs_err *e)
{
    const Metricsv1__IncrCounterRequest *m;
    (void)service;
    (void)response;
    READ(call, request, metricsv1__incr_counter_request__descriptor, m);
    const struct measured in = {m->key, m->n_key, m->labels, m->n_labels, (double)m->val};
    return emit(call, PLUGIN_METRIC_COUNTER, &in, e);
}

static cs_code add_sample(struct rpc_call *call, void *service, struct cs_slice request,
                          struct cs_buf *response, struct cs_err *e)
{
    const Metricsv1__AddSampleRequest *m;
    (void)service;
    (void)response;
    READ(call, request, metricsv1__add_sample_request__descriptor, m);
    const struct measured in = {m->key, m->n_key, m->labels, m->n_labels, (double)m->val};
    return emit(call, PLUGIN_METRIC_SAMPLE, &in, e);
}

static cs_code measure_since(struct rpc_call *call, void *service, struct cs_slice request,
                             struct cs_buf *response, struct cs_err *e)
{
    const Metricsv1__MeasureSinceRequest *m;
    (void)service;
    (void)response;
    READ(call, request, metricsv1__measure_since_request__descriptor, m);
    const struct measured in = {m->key, m->n_key, m->labels, m->n_labels, (double)m->time};
    return emit(call, PLUGIN_METRIC_SINCE, &in, e);
}

/* --- The server --- */

static const struct rpc_method identity_methods[] = {
    {.path = "/" IDENTITY_PROVIDER "/FetchX509Identity", .run = RPC_WORKER, .unary = fetch_identity},
};
static const struct rpc_method agent_methods[] = {
    {.path = "/" AGENT_STORE "/GetAgentInfo", .run = RPC_WORKER, .unary = agent_info},
};
static const struct rpc_method metric_methods[] = {
    {.path = "/" METRICS "/SetGauge", .run = RPC_WORKER, .unary = set_gauge},
    {.path = "/" METRICS "/EmitKey", .run = RPC_WORKER, .unary = emit_key},
    {.path = "/" METRICS "/IncrCounter", .run = RPC_WORKER, .unary = incr_counter},
    {.path = "/" METRICS "/AddSample", .run = RPC_WORKER, .unary = add_sample},
    {.path = "/" METRICS "/MeasureSince", .run = RPC_WORKER, .unary = measure_since},
};
#define METHODS(a) .methods = (a), .count = sizeof(a) / sizeof(a)[0]
static const struct rpc_service services[] = {
    {.name = IDENTITY_PROVIDER, METHODS(identity_methods)},
    {.name = AGENT_STORE, METHODS(agent_methods)},
    {.name = METRICS, METHODS(metric_methods)},
};

cs_code plugin_host_server_new(struct plugin_runner *r, struct rpc_server **out, struct cs_err *e)
{
    char address[128];
    plugin_host_address(r, address);
    const struct rpc_server_config cfg = {
        .io_threads = 1, .workers = 2, .max_connections = 1024, .log = r->log};
    const struct rpc_listener listener = {
        .unix_path = address,
        .unix_mode = 0600,
        .secret_responses = true,
        .services = services,
        .service_count = sizeof services / sizeof services[0],
        .max_message = REQUEST_MAX,
        .arg = r,
        .accept_unix = accept_plugin,
    };
    CS_TRY(rpc_server_new(&cfg, out, e));
    return rpc_server_listen(*out, &listener, e);
}
