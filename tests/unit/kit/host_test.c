/* SPDX-License-Identifier: Apache-2.0
 *
 * Host services: found through the broker, called from a plugin.
 */
#include "fixture.h"

#include "goplugin.pb-c.h"
#include "sdk_host_agentstore.pb-c.h"
#include "sdk_host_identityprovider.pb-c.h"
#include "sdk_host_metrics.pb-c.h"

#define IDENTITY "spire.hostservice.server.identityprovider.v1.IdentityProvider"
#define AGENTS "spire.hostservice.server.agentstore.v1.AgentStore"
#define METRICS "spire.hostservice.common.metrics.v1.Metrics"

static struct kit_fixture fx;

/* --- The host --- */

static struct host {
    struct rpc_server *server;
    struct rpc_service services[3];
    struct kit_socket socket;
    struct cs_buf metrics;
} host;

static cs_code identity(struct rpc_call *call, void *service, struct cs_slice request,
                        struct cs_buf *response, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)request;
    ProtobufCBinaryData chain[] = {kf_bytes("leaf"), kf_bytes("ca")};
    Identityproviderv1__X509Identity id = IDENTITYPROVIDERV1__X509_IDENTITY__INIT;
    id.cert_chain = chain;
    id.n_cert_chain = 2;
    id.private_key = kf_bytes("the key of the server");
    Sdktypes__Bundle bundle = SDKTYPES__BUNDLE__INIT;
    bundle.trust_domain = (char *)"example.org";
    Identityproviderv1__FetchX509IdentityResponse resp =
        IDENTITYPROVIDERV1__FETCH_X509_IDENTITY_RESPONSE__INIT;
    resp.identity = &id;
    resp.bundle = &bundle;
    return proto_pack(&resp.base, response, e);
}

static cs_code agent_info(struct rpc_call *call, void *service, struct cs_slice request,
                          struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(rpc_call_arena(call), &agentstorev1__get_agent_info_request__descriptor, request, &m,
                        e));
    char *id = ((Agentstorev1__GetAgentInfoRequest *)m)->agent_id;
    if (strcmp(id, "spiffe://example.org/spire/agent/known") != 0)
        return cs_fail(e, CS_NOT_FOUND, "no such agent");
    Agentstorev1__AgentInfo info = AGENTSTOREV1__AGENT_INFO__INIT;
    info.agent_id = id;
    Agentstorev1__GetAgentInfoResponse resp = AGENTSTOREV1__GET_AGENT_INFO_RESPONSE__INIT;
    resp.info = &info;
    return proto_pack(&resp.base, response, e);
}

/* Three requests have all their fields in common. */
static cs_code value_metric(struct rpc_call *call, void *service, struct cs_slice request,
                            struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    (void)response;
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(rpc_call_arena(call), &metricsv1__set_gauge_request__descriptor, request, &m, e));
    const Metricsv1__SetGaugeRequest *r = (const Metricsv1__SetGaugeRequest *)m;
    cs_buf_printf(&host.metrics, "%s %s.%s %g", strrchr(rpc_call_method(call)->path, '/') + 1, r->key[0],
                  r->key[1], (double)r->val);
    for (size_t i = 0; i < r->n_labels; i++)
        cs_buf_printf(&host.metrics, " %s=%s", r->labels[i]->name, r->labels[i]->value);
    cs_buf_add_str(&host.metrics, "\n");
    return CS_OK;
}
static cs_code since_metric(struct rpc_call *call, void *service, struct cs_slice request,
                            struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    (void)response;
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(rpc_call_arena(call), &metricsv1__measure_since_request__descriptor, request, &m, e));
    const Metricsv1__MeasureSinceRequest *r = (const Metricsv1__MeasureSinceRequest *)m;
    cs_buf_printf(&host.metrics, "MeasureSince %s.%s %lld labels=%zu\n", r->key[0], r->key[1],
                  (long long)r->time, r->n_labels);
    return CS_OK;
}

static const struct rpc_method identity_methods[] = {
    {.path = "/" IDENTITY "/FetchX509Identity", .run = RPC_INLINE, .unary = identity}};
static const struct rpc_method agent_methods[] = {
    {.path = "/" AGENTS "/GetAgentInfo", .run = RPC_INLINE, .unary = agent_info}};
static const struct rpc_method metric_methods[] = {
    {.path = "/" METRICS "/SetGauge", .run = RPC_INLINE, .unary = value_metric},
    {.path = "/" METRICS "/EmitKey", .run = RPC_INLINE, .unary = value_metric},
    {.path = "/" METRICS "/IncrCounter", .run = RPC_INLINE, .unary = value_metric},
    {.path = "/" METRICS "/AddSample", .run = RPC_INLINE, .unary = value_metric},
    {.path = "/" METRICS "/MeasureSince", .run = RPC_INLINE, .unary = since_metric},
};

static void host_up(void)
{
    struct cs_err e = {0};
    host = (struct host){0};
    KF_OK(kit_socket_new(NULL, NULL, &host.socket, &e), e);
    host.services[0] = (struct rpc_service){IDENTITY, identity_methods, 1, &host};
    host.services[1] = (struct rpc_service){AGENTS, agent_methods, 1, &host};
    host.services[2] = (struct rpc_service){METRICS, metric_methods, 5, &host};
    KF_OK(rpc_server_new(&(struct rpc_server_config){.io_threads = 1}, &host.server, &e), e);
    struct rpc_listener l = {
        .unix_path = host.socket.path, .unix_mode = 0600, .services = host.services, .service_count = 3};
    KF_OK(rpc_server_listen(host.server, &l, &e), e);
}

static void host_down(void)
{
    rpc_server_shutdown(host.server, CS_NS_PER_S);
    rpc_server_free(host.server);
    kit_socket_remove(&host.socket);
    cs_buf_free(&host.metrics);
}

/* What the broker's stream brings. */
static void tell(uint32_t id, const char *network, const char *address, bool knock)
{
    struct cs_err e = {0};
    struct cs_buf msg CS_CLEANUP(cs_buf_free) = {0};
    Goplugin__ConnInfo__Knock k = GOPLUGIN__CONN_INFO__KNOCK__INIT;
    Goplugin__ConnInfo info = GOPLUGIN__CONN_INFO__INIT;
    info.service_id = id;
    info.network = (char *)network;
    info.address = (char *)address;
    info.knock = knock ? &k : NULL;
    KF_OK(proto_pack(&info.base, &msg, &e), e);
    KF_OK(kit_broker_message(&fx.env, cs_buf_slice(&msg), &e), e);
}

/* --- Tests --- */

static void test_where_the_host_is(void **state)
{
    (void)state;
    char longest[120];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct cs_err e;
    kf_ready(&fx, CSPIRE_NOTIFIER);
    tell(2, "unix", "/elsewhere", false);
    tell(1, "unix", "", false);
    tell(1, "unix", longest, false);
    tell(1, "ip", "10.0.0.1", false);
    tell(1, "unix", "/knock", true);
    assert_false(fx.env.host_known);
    assert_int_not_equal(kit_broker_message(&fx.env, cs_slice_str("\xff\xff"), &e), CS_OK);
    tell(1, "unix", "/first", false);
    tell(1, "unix", "/second", false);
    assert_true(fx.env.host_known);
    assert_string_equal(fx.env.host_at.unix_path, "/first");
    kf_down(&fx);
}

static void test_broker_stream(void **state)
{
    (void)state;
    kf_ready(&fx, CSPIRE_NOTIFIER);
    Goplugin__ConnInfo info = GOPLUGIN__CONN_INFO__INIT;
    info.service_id = 1;
    info.network = (char *)"unix";
    info.address = (char *)"/somewhere";
    struct rpc_stream *s = kf_open(&fx, "/plugin.GRPCBroker/StartStream", NULL, 0);
    kf_send(s, &info.base);
    pthread_mutex_lock(&fx.env.lock);
    while (!fx.env.host_known && kit_wait_until(&fx.env, cs_mono_ns(&cs_clock_system) + 20 * CS_NS_PER_S))
        ;
    const bool known = fx.env.host_known;
    pthread_mutex_unlock(&fx.env.lock);
    assert_true(known);
    rpc_stream_free(s);
    kf_down(&fx);
}

static void test_identity(void **state)
{
    (void)state;
    struct cs_err e;
    const struct cspire_identity *id;
    host_up();
    kf_up(&fx, CSPIRE_NOTIFIER);
    KF_OK(kf_init(&fx, IDENTITY, NULL, &e), e);
    assert_true(cspire_host_offers(&fx.env, CSPIRE_HOST_IDENTITY_PROVIDER));
    assert_false(cspire_host_offers(&fx.env, CSPIRE_HOST_METRICS));
    tell(1, "unix", host.socket.path, false);
    struct cspire_call *c = cspire_call_new(&fx.env);
    assert_int_equal(cspire_host_identity(c, &id), CSPIRE_OK);
    assert_int_equal(id->chain_count, 2);
    assert_memory_equal(id->chain[1].data, "ca", 2);
    assert_string_equal(id->bundle->trust_domain, "example.org");
    assert_memory_equal(id->private_key.data, "the key of the server", 21);
    assert_int_equal(c->secrets.count, 1); /* wiped with the call */
    assert_ptr_equal(((const struct cs_slice *)c->secrets.at[0])->data, id->private_key.data);
    assert_int_equal(cspire_host_agent_known(c, "spiffe://x"), CSPIRE_UNIMPLEMENTED);
    assert_string_equal(cspire_call_error(c), "the host does not offer this service");
    cspire_call_free(c);
    kf_down(&fx);
    host_down();
}

static void test_agent_store(void **state)
{
    (void)state;
    struct cs_err e;
    host_up();
    kf_up(&fx, CSPIRE_SERVER_NODE_ATTESTOR);
    KF_OK(kf_init(&fx, AGENTS, NULL, &e), e);
    tell(1, "unix", host.socket.path, false);
    struct cspire_call *c = cspire_call_new(&fx.env);
    assert_int_equal(cspire_host_agent_known(c, "spiffe://example.org/spire/agent/known"), CSPIRE_OK);
    assert_int_equal(cspire_host_agent_known(c, "spiffe://example.org/spire/agent/other"), CSPIRE_NOT_FOUND);
    assert_string_equal(cspire_call_error(c), "no such agent");
    cspire_call_free(c);
    kf_down(&fx);
    host_down();
}

static void test_metrics(void **state)
{
    (void)state;
    struct cs_err e;
    host_up();
    kf_up(&fx, CSPIRE_WORKLOAD_ATTESTOR);
    KF_OK(kf_init(&fx, METRICS, NULL, &e), e);
    tell(1, "unix", host.socket.path, false);
    struct cspire_call *c = cspire_call_new(&fx.env);
    const char *const key[] = {"a", "b"};
    const struct cspire_field labels[] = {{"l", "v"}, {"m", NULL}};
    struct cspire_metric m = {
        .size = sizeof m, .key = {key, 2}, .labels = labels, .label_count = 2, .value = 1.5f, .start_ns = 77};
    for (int kind = CSPIRE_METRIC_GAUGE; kind <= CSPIRE_METRIC_SINCE; kind++) {
        m.kind = (enum cspire_metric_kind)kind;
        assert_int_equal(cspire_host_metric(c, &m), CSPIRE_OK);
    }
    assert_string_equal(cs_buf_cstr(&host.metrics), "SetGauge a.b 1.5 l=v m=\n"
                                                    "EmitKey a.b 1.5\n"
                                                    "IncrCounter a.b 1.5 l=v m=\n"
                                                    "AddSample a.b 1.5 l=v m=\n"
                                                    "MeasureSince a.b 77 labels=2\n");
    m.kind = (enum cspire_metric_kind)9;
    assert_int_equal(cspire_host_metric(c, &m), CSPIRE_INVALID_ARGUMENT);
    m.size = 8;
    assert_int_equal(cspire_host_metric(c, &m), CSPIRE_INVALID_ARGUMENT);
    cspire_call_free(c);
    kf_down(&fx);
    host_down();
}

/* create may call the host: the address comes while it waits. */
static void *tell_later(void *arg)
{
    (void)arg;
    tell(1, "unix", host.socket.path, false);
    return NULL;
}

static enum cspire_code create_with_host(struct cspire_call *c, void **self)
{
    const struct cspire_identity *id;
    pthread_t thread;
    if (pthread_create(&thread, NULL, tell_later, NULL) != 0)
        return CSPIRE_INTERNAL;
    enum cspire_code code = cspire_host_identity(c, &id);
    pthread_join(thread, NULL);
    return code == CSPIRE_OK ? d_create(c, self) : code;
}

static void test_from_create(void **state)
{
    (void)state;
    struct cs_err e;
    struct cspire_plugin plugin = d_plugin(CSPIRE_NOTIFIER);
    plugin.create = create_with_host;
    host_up();
    kf_up_plugin(&fx, plugin);
    KF_OK(kf_init(&fx, IDENTITY, NULL, &e), e);
    kf_down(&fx);
    host_down();
}

static void test_host_that_is_not_there(void **state)
{
    (void)state;
    struct cs_err e;
    const struct cspire_identity *id;
    kf_up(&fx, CSPIRE_NOTIFIER);
    KF_OK(kf_init(&fx, IDENTITY, NULL, &e), e);
    tell(1, "unix", "/tmp/cspire-nobody-is-here", false);
    struct cspire_call *c = cspire_call_new(&fx.env);
    assert_int_equal(cspire_host_identity(c, &id), CSPIRE_UNAVAILABLE);
    assert_null(id);
    assert_non_null(strstr(cspire_call_error(c), "connect: no such file or directory"));
    cspire_call_free(c);
    kf_down(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_the_host_is),
        cmocka_unit_test(test_broker_stream),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_agent_store),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_from_create),
        cmocka_unit_test(test_host_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
