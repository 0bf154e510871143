/* SPDX-License-Identifier: Apache-2.0
 *
 * The services around every plugin: those of go-plugin (broker, controller, stdio), and Init of SPIRE's
 * plugin SDK. None of go-plugin's may wait for a worker: operations of the plugin may hold them all.
 */
#include "kit/kit.h"

#include "goplugin.pb-c.h"
#include "sdk_init.pb-c.h"

#include <unistd.h>

static cs_code keep_open(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)state;
    (void)e;
    return CS_OK;
}

static cs_code open_nothing(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)state;
    (void)e;
    return CS_OK;
}

static void close_nothing(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    (void)state;
}

static cs_code take_nothing(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                            struct cs_err *e)
{
    (void)msg;
    return keep_open(call, service, state, e);
}

/* --- Broker: the host says where its services are --- */

static cs_code broker_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                              struct cs_err *e)
{
    (void)call;
    (void)state;
    return kit_broker_message(service, msg, e);
}

static const struct rpc_stream_ops broker_ops = {
    .open = open_nothing, .message = broker_message, .closed = close_nothing};
static const struct rpc_method broker_methods[] = {
    {.path = "/plugin.GRPCBroker/StartStream", .run = RPC_INLINE, .stream = &broker_ops},
};

/* --- Stdio: a stream that says nothing, since standard error is a pipe of the host's --- */

static const struct rpc_stream_ops stdio_ops = {
    .open = open_nothing, .message = take_nothing, .half_close = keep_open, .closed = close_nothing};
static const struct rpc_method stdio_methods[] = {
    {.path = "/plugin.GRPCStdio/StreamStdio", .run = RPC_INLINE, .stream = &stdio_ops},
};

/* --- Controller --- */

static cs_code shutdown_plugin(struct rpc_call *call, void *service, struct cs_slice request,
                               struct cs_buf *response, struct cs_err *e)
{
    (void)call;
    (void)request;
    (void)response; /* plugin.Empty has no bytes */
    struct cspire_env *env = service;
    uint64_t one = 1;
    if (env->stop_fd >= 0 && write(env->stop_fd, &one, sizeof one) != (ssize_t)sizeof one)
        return cs_fail(e, CS_INTERNAL, "the plugin cannot be stopped");
    return CS_OK;
}

static const struct rpc_method controller_methods[] = {
    {.path = "/plugin.GRPCController/Shutdown", .run = RPC_INLINE, .unary = shutdown_plugin},
};

/* --- Init --- */

static const struct {
    const char *name;
    enum cspire_host_service service;
} host_services[] = {
    {"spire.hostservice.server.identityprovider.v1.IdentityProvider", CSPIRE_HOST_IDENTITY_PROVIDER},
    {"spire.hostservice.server.agentstore.v1.AgentStore", CSPIRE_HOST_AGENT_STORE},
    {"spire.hostservice.common.metrics.v1.Metrics", CSPIRE_HOST_METRICS},
};

static unsigned offered(const Initv1__InitRequest *req)
{
    unsigned bits = 0;
    for (size_t i = 0; i < req->n_host_service_names; i++) {
        for (size_t k = 0; k < sizeof host_services / sizeof host_services[0]; k++) {
            if (strcmp(req->host_service_names[i], host_services[k].name) == 0)
                bits |= 1u << host_services[k].service;
        }
    }
    return bits;
}

static cs_code init_plugin(struct rpc_call *call, void *service, struct cs_slice request,
                           struct cs_buf *response, struct cs_err *e)
{
    struct cspire_env *env = service;
    struct cs_arena *arena = rpc_call_arena(call);
    if (arena == NULL)
        return cs_nomem(e);
    ProtobufCMessage *msg;
    CS_TRY(proto_unpack(arena, &initv1__init_request__descriptor, request, &msg, e));
    pthread_mutex_lock(&env->lock);
    env->offered = offered((const Initv1__InitRequest *)msg);
    pthread_mutex_unlock(&env->lock);
    CS_TRY(kit_env_create(env, e));
    char *names[] = {(char *)env->kind->service, (char *)"spire.service.common.config.v1.Config"};
    Initv1__InitResponse resp = INITV1__INIT_RESPONSE__INIT;
    resp.plugin_service_names = names;
    resp.n_plugin_service_names = KIT_OP(env->plugin, configure) != NULL ? 2 : 1;
    return proto_pack(&resp.base, response, e);
}

static cs_code deinit_plugin(struct rpc_call *call, void *service, struct cs_slice request,
                             struct cs_buf *response, struct cs_err *e)
{
    (void)call;
    (void)request;
    (void)response; /* DeinitResponse has no fields */
    struct cspire_env *env = service;
    kit_listeners_finish(env);
    if (kit_env_destroy(env, KIT_DEINIT_WAIT_NS))
        return CS_OK;
    return cs_fail(e, CS_DEADLINE, "operations of the plugin are still running");
}

#define INIT "/spire.service.private.init.v1.Init/"
static const struct rpc_method init_methods[] = {
    {.path = INIT "Init", .run = RPC_WORKER, .unary = init_plugin},
    {.path = INIT "Deinit", .run = RPC_WORKER, .unary = deinit_plugin},
};

bool cspire_host_offers(const struct cspire_env *env, enum cspire_host_service service)
{
    struct cspire_env *x = (struct cspire_env *)env; /* for its lock */
    pthread_mutex_lock(&x->lock);
    bool yes = (x->offered >> service) & 1;
    pthread_mutex_unlock(&x->lock);
    return yes;
}

size_t kit_services(struct cspire_env *env, struct rpc_health *health,
                    struct rpc_service out[KIT_SERVICES_MAX])
{
    size_t n = 0;
    out[n++] = (struct rpc_service){RPC_HEALTH_SERVICE, rpc_health_methods, rpc_health_method_count, health};
    out[n++] = (struct rpc_service){"plugin.GRPCBroker", broker_methods, 1, env};
    out[n++] = (struct rpc_service){"plugin.GRPCStdio", stdio_methods, 1, env};
    out[n++] = (struct rpc_service){"plugin.GRPCController", controller_methods, 1, env};
    out[n++] = (struct rpc_service){"spire.service.private.init.v1.Init", init_methods, 2, env};
    if (KIT_OP(env->plugin, configure) != NULL)
        out[n++] = (struct rpc_service){"spire.service.common.config.v1.Config", kit_config_methods,
                                        kit_config_method_count, env};
    out[n++] = (struct rpc_service){env->kind->service, env->kind->methods, env->kind->method_count, env};
    return n;
}
