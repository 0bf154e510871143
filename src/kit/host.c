/* SPDX-License-Identifier: Apache-2.0
 *
 * Services of the host: where they are (the broker of go-plugin says it), and calls to them.
 */
#include "kit/kit.h"

#include "base/clock.h"
#include "goplugin.pb-c.h"
#include "sdk_host_agentstore.pb-c.h"
#include "sdk_host_identityprovider.pb-c.h"
#include "sdk_host_metrics.pb-c.h"

#include "google/protobuf/empty.pb-c.h"

#define ADDRESS_MAX 107 /* of a Unix socket; TCP ones are shorter */

/* --- Where --- */

cs_code kit_broker_message(struct cspire_env *env, struct cs_slice msg, struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(arena, &goplugin__conn_info__descriptor, msg, &m, e));
    const Goplugin__ConnInfo *info = (const Goplugin__ConnInfo *)m;
    bool is_unix = strcmp(info->network, "unix") == 0, is_tcp = strcmp(info->network, "tcp") == 0;
    /* knocks belong to multiplexing, which the handshake says we do not do */
    if (info->service_id != KIT_HOST_SERVICES_ID || info->knock != NULL || (!is_unix && !is_tcp) ||
        info->address[0] == '\0' || strlen(info->address) > ADDRESS_MAX)
        return CS_OK;
    char *address = cs_strdup(info->address);
    if (address == NULL)
        return cs_nomem(e);
    pthread_mutex_lock(&env->lock);
    if (!env->host_known) {
        env->host_at = (struct rpc_client_config){.unix_path = is_unix ? address : NULL,
                                                  .tcp_address = is_tcp ? address : NULL};
        env->host_known = true;
        address = NULL;
        pthread_cond_broadcast(&env->changed);
    }
    pthread_mutex_unlock(&env->lock);
    cs_free(address); /* the first one counts */
    return CS_OK;
}

/* Under the lock. */
static cs_code make_client(struct cspire_env *env, struct cs_err *e)
{
    if (env->loop == NULL) {
        CS_TRY(loop_new("host", &env->loop, e));
        cs_code code = loop_start(env->loop, e);
        if (code != CS_OK) {
            loop_free(env->loop);
            env->loop = NULL;
            return code;
        }
    }
    return rpc_client_new(env->loop, &env->host_at, &env->host, e);
}

static cs_code get_client(struct cspire_env *env, struct rpc_client **out, struct cs_err *e)
{
    int64_t until = cs_mono_ns(&cs_clock_system) + KIT_BROKER_WAIT_NS;
    bool in_time = true;
    cs_code code = CS_OK;
    pthread_mutex_lock(&env->lock);
    while (!env->host_known && in_time)
        in_time = kit_wait_until(env, until);
    if (!env->host_known)
        code = cs_fail(e, CS_UNAVAILABLE, "timeout waiting for connection info");
    else if (env->host == NULL)
        code = make_client(env, e);
    *out = env->host;
    pthread_mutex_unlock(&env->lock);
    return code;
}

/* --- Calls --- */

static cs_code call_host(struct cspire_call *c, enum cspire_host_service service, const char *path,
                         const ProtobufCMessage *request, const ProtobufCMessageDescriptor *type,
                         ProtobufCMessage **response, struct cs_err *e)
{
    if (!cspire_host_offers(c->env, service))
        return cs_fail(e, CS_UNIMPLEMENTED, "the host does not offer this service");
    struct rpc_client *client;
    CS_TRY(get_client(c->env, &client, e));
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0}, in CS_CLEANUP(cs_buf_wipe) = {0};
    CS_TRY(proto_pack(request, &out, e));
    int64_t left = cspire_time_left(c);
    if (left > KIT_HOST_CALL_NS)
        left = KIT_HOST_CALL_NS;
    if (left == 0)
        return cs_fail(e, CS_DEADLINE, "context deadline exceeded");
    CS_TRY(rpc_client_unary(client, path, cs_buf_slice(&out), &in, NULL, 0, left, NULL, e));
    return proto_unpack(c->arena, type, cs_buf_slice(&in), response, e);
}

static const struct cspire_identity *identity_of(struct cspire_call *c,
                                                 const Identityproviderv1__FetchX509IdentityResponse *resp)
{
    const Identityproviderv1__X509Identity *from = resp->identity;
    if (from->private_key.len > 0 && !kit_call_secret(c, from->private_key.data, from->private_key.len))
        return NULL;
    struct cspire_identity *id = cs_arena_zalloc(c->arena, sizeof *id);
    struct cspire_bytes *chain = cs_arena_alloc(c->arena, (from->n_cert_chain + 1) * sizeof *chain);
    const struct cspire_bundle *bundle = kit_bundle(c, resp->bundle);
    if (id == NULL || chain == NULL || bundle == NULL)
        return NULL;
    for (size_t i = 0; i < from->n_cert_chain; i++)
        chain[i] = KIT_PB_BYTES(from->cert_chain[i]);
    *id = (struct cspire_identity){.size = sizeof *id,
                                   .chain = chain,
                                   .chain_count = from->n_cert_chain,
                                   .private_key = KIT_PB_BYTES(from->private_key),
                                   .bundle = bundle};
    return id;
}

enum cspire_code cspire_host_identity(struct cspire_call *c, const struct cspire_identity **out)
{
    *out = NULL;
    struct cs_err e = {0};
    Identityproviderv1__FetchX509IdentityRequest req = IDENTITYPROVIDERV1__FETCH_X509_IDENTITY_REQUEST__INIT;
    ProtobufCMessage *resp = NULL;
    cs_code code =
        call_host(c, CSPIRE_HOST_IDENTITY_PROVIDER,
                  "/spire.hostservice.server.identityprovider.v1.IdentityProvider/FetchX509Identity",
                  &req.base, &identityproviderv1__fetch_x509_identity_response__descriptor, &resp, &e);
    if (code != CS_OK)
        return kit_pass(c, code, &e);
    const Identityproviderv1__FetchX509IdentityResponse *r =
        (const Identityproviderv1__FetchX509IdentityResponse *)resp;
    if (r->identity == NULL)
        return cspire_fail(c, CSPIRE_INTERNAL, "the host answers without an identity");
    *out = identity_of(c, r);
    return *out != NULL ? CSPIRE_OK : kit_nomem(c);
}

enum cspire_code cspire_host_agent_known(struct cspire_call *c, const char *agent_id)
{
    struct cs_err e = {0};
    Agentstorev1__GetAgentInfoRequest req = AGENTSTOREV1__GET_AGENT_INFO_REQUEST__INIT;
    req.agent_id = (char *)agent_id;
    ProtobufCMessage *resp = NULL;
    cs_code code = call_host(c, CSPIRE_HOST_AGENT_STORE,
                             "/spire.hostservice.server.agentstore.v1.AgentStore/GetAgentInfo", &req.base,
                             &agentstorev1__get_agent_info_response__descriptor, &resp, &e);
    return kit_pass(c, code, &e);
}

/* --- Metrics --- */

/* Labels as messages, and a list of pointers to them. */
static Metricsv1__Label **labels_of(struct cspire_call *c, const struct cspire_metric *m)
{
    Metricsv1__Label *rows = cs_arena_zalloc(c->arena, (m->label_count + 1) * sizeof *rows);
    Metricsv1__Label **at = cs_arena_alloc(c->arena, (m->label_count + 1) * sizeof(Metricsv1__Label *));
    for (size_t i = 0; rows != NULL && at != NULL && i < m->label_count; i++) {
        metricsv1__label__init(&rows[i]);
        rows[i].name = (char *)m->labels[i].key;
        rows[i].value = (char *)(m->labels[i].value != NULL ? m->labels[i].value : "");
        at[i] = &rows[i];
    }
    return rows != NULL ? at : NULL;
}

#define METRICS "/spire.hostservice.common.metrics.v1.Metrics/"
/* The five requests share their first and third field, and three of them all. */
static cs_code send_metric(struct cspire_call *c, const struct cspire_metric *m, Metricsv1__Label **labels,
                           struct cs_err *e)
{
    static const char *const paths[] = {METRICS "SetGauge", METRICS "EmitKey", METRICS "IncrCounter",
                                        METRICS "AddSample", METRICS "MeasureSince"};
    unsigned n = (unsigned)m->kind - CSPIRE_METRIC_GAUGE;
    if (n >= sizeof paths / sizeof paths[0])
        return cs_fail(e, CS_INVALID, "there is no kind of metric with the number %d", (int)m->kind);
    Metricsv1__SetGaugeRequest gauge = METRICSV1__SET_GAUGE_REQUEST__INIT;
    Metricsv1__MeasureSinceRequest since = METRICSV1__MEASURE_SINCE_REQUEST__INIT;
    const ProtobufCMessage *req = &gauge.base;
    gauge.key = since.key = (char **)m->key.at;
    gauge.n_key = since.n_key = m->key.count;
    gauge.val = m->value;
    gauge.labels = since.labels = labels;
    gauge.n_labels = since.n_labels = m->kind == CSPIRE_METRIC_KEY ? 0 : m->label_count;
    since.time = m->start_ns;
    if (m->kind == CSPIRE_METRIC_SINCE)
        req = &since.base;
    ProtobufCMessage *resp;
    return call_host(c, CSPIRE_HOST_METRICS, paths[n], req, &google__protobuf__empty__descriptor, &resp, e);
}

enum cspire_code cspire_host_metric(struct cspire_call *c, const struct cspire_metric *metric)
{
    struct cs_err e = {0};
    if (metric->size < offsetof(struct cspire_metric, start_ns) + sizeof metric->start_ns)
        return cspire_fail(c, CSPIRE_INVALID_ARGUMENT, "struct cspire_metric has no size");
    Metricsv1__Label **labels = labels_of(c, metric);
    if (labels == NULL)
        return kit_nomem(c);
    return kit_pass(c, send_metric(c, metric, labels, &e), &e);
}
