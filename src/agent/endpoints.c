/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's sockets: the public one with Workload API and health, and the admin one.
 */
#include "agent/workload.h"
#include "base/logfields.h"
#include "health.pb-c.h"

#define SOCKET_MODE 0777
#define ADMIN_MODE 0770
#define WORKERS 4
#define GRACE_NS (INT64_C(1) * CS_NS_PER_S)

struct endpoints {
    struct agent *agent;
    struct cs_log log;
    struct workload_api workload;
    struct rpc_service services[2];
    struct rpc_server *server;
};

/* --- Health --- */

static cs_code health_check(struct rpc_call *call, void *service, struct cs_slice request,
                            struct cs_buf *response, struct cs_err *e)
{
    const struct agent *a = service;
    ProtobufCMessage *m = NULL;
    CS_TRY(proto_unpack(rpc_call_arena(call), &healthv1__health_check_request__descriptor, request, &m, e));
    if (((const Healthv1__HealthCheckRequest *)m)->service[0] != '\0')
        return cs_fail(e, CS_INVALID, "per-service health is not supported");
    Healthv1__HealthCheckResponse resp = HEALTHV1__HEALTH_CHECK_RESPONSE__INIT;
    resp.status = atomic_load(&a->started) ? HEALTHV1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                                           : HEALTHV1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    return proto_pack(&resp.base, response, e);
}

static const struct rpc_method health_methods[] = {
    {.path = "/grpc.health.v1.Health/Check", .run = RPC_INLINE, .unary = health_check},
};

/* --- The Workload API's guard --- */

/* Browsers and proxies must not be talked into calling (SPIFFE_Workload_Endpoint.md section 5). */
static cs_code check_header(struct rpc_call *call, void *arg, struct cs_err *e)
{
    static const char prefix[] = "/" WORKLOAD_SERVICE "/";
    (void)arg;
    if (strncmp(rpc_call_method(call)->path, prefix, sizeof prefix - 1) != 0)
        return CS_OK;
    if (rpc_call_metadata_count(call, "workload.spiffe.io") != 1 ||
        !cs_slice_is(rpc_call_metadata(call, "workload.spiffe.io"), "true"))
        return cs_fail(e, CS_INVALID, "security header missing from request");
    return CS_OK;
}

/* --- Listening --- */

/* How many services the public sockets have. */
static size_t list_services(struct endpoints *ep)
{
    size_t n = 0;
    if (!ep->agent->cfg->disable_workload_api)
        ep->services[n++] = (struct rpc_service){
            .name = WORKLOAD_SERVICE,
            .methods = workload_methods,
            .count = workload_method_count,
            .ctx = &ep->workload,
        };
    ep->services[n++] = (struct rpc_service){
        .name = RPC_HEALTH_SERVICE,
        .methods = health_methods,
        .count = sizeof health_methods / sizeof health_methods[0],
        .ctx = ep->agent,
    };
    return n;
}

static cs_code listen_on(struct endpoints *ep, const char *socket, const char *tcp, struct cs_err *e)
{
    const struct agent_config *cfg = ep->agent->cfg;
    const char *apis = cfg->disable_workload_api ? "SDS API"
                       : cfg->disable_sds_api    ? "Workload API"
                                                 : "Workload and SDS APIs";
    const struct rpc_listener l = {
        .unix_path = socket,
        .unix_mode = SOCKET_MODE,
        .tcp_address = tcp,
        .secret_responses = true, /* private keys and tokens */
        .services = ep->services,
        .service_count = list_services(ep),
        .begin = check_header,
    };
    CS_TRY(rpc_server_listen(ep->server, &l, e));
    cs_log_info(&ep->log, "Starting agent APIs", KV(CS_F_ADDRESS, socket != NULL ? socket : tcp),
                KV("apis", apis), KV("network", socket != NULL ? "unix" : "tcp"));
    return CS_OK;
}

static cs_code listen_public(struct endpoints *ep, struct cs_err *e)
{
    const struct agent_config *cfg = ep->agent->cfg;
    bool tcp = cfg->enclave.on && cfg->enclave.workload_api_addr[0] != '\0';
    if (cfg->socket_path[0] == '\0' && !tcp) {
        cs_log_info(&ep->agent->log, "Skipping agent APIs because public endpoint is disabled",
                    KV("apis", "Workload and SDS APIs"));
        return CS_OK;
    }
    if (!cfg->disable_sds_api)
        cs_log_info(&ep->agent->log, "The Envoy SDS API is not supported yet and is not served");
    if (cfg->socket_path[0] != '\0')
        CS_TRY(listen_on(ep, cfg->socket_path, NULL, e));
    return tcp ? listen_on(ep, NULL, cfg->enclave.workload_api_addr, e) : CS_OK;
}

/* Debug, Logger and Delegated Identity come later: unknown services until then. */
static cs_code listen_admin(struct endpoints *ep, struct cs_err *e)
{
    const struct agent_config *cfg = ep->agent->cfg;
    if (cfg->admin_socket_path[0] == '\0')
        return CS_OK;
    const struct rpc_listener l = {.unix_path = cfg->admin_socket_path, .unix_mode = ADMIN_MODE};
    CS_TRY(rpc_server_listen(ep->server, &l, e));
    cs_log_info(&ep->agent->log, "Starting Admin APIs", KV(CS_F_ADDRESS, cfg->admin_socket_path));
    return CS_OK;
}

static cs_code start(struct endpoints *ep, struct cs_err *e)
{
    CS_TRY(workload_api_init(&ep->workload, ep->agent, e));
    const bool waiting = agent_attestors_take_long(ep->workload.attestors);
    const struct rpc_server_config cfg = {
        .io_threads = 1, .workers = waiting ? AGENT_ATTESTOR_CALLS : WORKERS, .log = ep->log};
    CS_TRY(rpc_server_new(&cfg, &ep->server, e));
    CS_TRY(listen_public(ep, e));
    return listen_admin(ep, e);
}

cs_code agent_endpoints_start(struct agent *a, struct endpoints **out, struct cs_err *e)
{
    *out = NULL;
    struct endpoints *ep = cs_calloc(1, sizeof *ep);
    if (ep == NULL)
        return cs_nomem(e);
    ep->agent = a;
    ep->log = cs_log_sub(a->log, "endpoints");
    cs_code rc = start(ep, e);
    if (rc != CS_OK) {
        agent_endpoints_stop(ep);
        return rc;
    }
    *out = ep;
    return CS_OK;
}

void agent_endpoints_stop(struct endpoints *ep)
{
    if (ep == NULL)
        return;
    if (ep->server != NULL) {
        cs_log_info(&ep->log, "Stopping agent APIs");
        rpc_server_shutdown(ep->server, GRACE_NS);
    }
    /* Jobs hold references to calls: they end before the server goes. */
    workload_api_free(&ep->workload);
    rpc_server_free(ep->server);
    cs_free(ep);
}
