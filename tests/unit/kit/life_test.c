/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin's life as its host sees it: Init, Configure, Validate, Deinit, and go-plugin's own services.
 */
#include "fixture.h"

#include "goplugin.pb-c.h"
#include "health.pb-c.h"
#include "sdk_agent_workloadattestor.pb-c.h"
#include "sdk_config.pb-c.h"

#include <semaphore.h>
#include <time.h>

#define INIT "/spire.service.private.init.v1.Init/"
#define CONFIG "/spire.service.common.config.v1.Config/"
#define WA "/spire.plugin.agent.workloadattestor.v1.WorkloadAttestor/"

static struct kit_fixture fx;

static cs_code attest(struct cs_err *e)
{
    Workloadattestorv1__AttestRequest req = WORKLOADATTESTORV1__ATTEST_REQUEST__INIT;
    return kf_call(&fx, WA "Attest", &req.base, &workloadattestorv1__attest_response__descriptor, NULL, e);
}

static cs_code deinit(struct cs_err *e)
{
    Initv1__DeinitRequest req = INITV1__DEINIT_REQUEST__INIT;
    return kf_call(&fx, INIT "Deinit", &req.base, &initv1__deinit_response__descriptor, NULL, e);
}

static void test_init_and_deinit(void **state)
{
    (void)state;
    struct cs_err e;
    Initv1__InitResponse *resp;
    kf_up(&fx, CSPIRE_WORKLOAD_ATTESTOR);
    assert_int_equal(attest(&e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "the plugin is not initialized");
    KF_OK(kf_init(&fx, NULL, &resp, &e), e);
    assert_int_equal(resp->n_plugin_service_names, 2);
    assert_string_equal(resp->plugin_service_names[0],
                        "spire.plugin.agent.workloadattestor.v1.WorkloadAttestor");
    assert_string_equal(resp->plugin_service_names[1], "spire.service.common.config.v1.Config");
    KF_OK(kf_init(&fx, NULL, &resp, &e), e);
    assert_int_equal(d_self.created, 1);
    KF_OK(attest(&e), e);
    assert_int_equal(d_self.destroyed, 0);
    KF_OK(deinit(&e), e);
    assert_int_equal(d_self.destroyed, 1);
    KF_OK(deinit(&e), e);
    assert_int_equal(d_self.destroyed, 1);
    assert_int_equal(attest(&e), CS_UNAVAILABLE);
    assert_int_equal(kf_init(&fx, NULL, &resp, &e), CS_PRECONDITION);
    kf_down(&fx);
}

static void test_create_fails(void **state)
{
    (void)state;
    struct cs_err e;
    kf_up(&fx, CSPIRE_WORKLOAD_ATTESTOR);
    d_self.create_code = CSPIRE_PERMISSION_DENIED;
    assert_int_equal(kf_init(&fx, NULL, NULL, &e), CS_DENIED);
    assert_string_equal(e.text, "not today");
    d_self.create_code = CSPIRE_OK;
    KF_OK(kf_init(&fx, NULL, NULL, &e), e);
    KF_OK(attest(&e), e);
    kf_down(&fx);
}

/* A plugin may have nothing but its operations. */
static void test_bare_plugin(void **state)
{
    (void)state;
    struct cs_err e;
    Initv1__InitResponse *resp;
    struct cspire_plugin plugin = {.size = sizeof plugin,
                                   .kind = CSPIRE_WORKLOAD_ATTESTOR,
                                   .ops = {.workload_attestor = &d_workload_attestor}};
    kf_up_plugin(&fx, plugin);
    KF_OK(kf_init(&fx, NULL, &resp, &e), e);
    assert_int_equal(resp->n_plugin_service_names, 1);
    Configv1__ConfigureRequest req = CONFIGV1__CONFIGURE_REQUEST__INIT;
    assert_int_equal(
        kf_call(&fx, CONFIG "Configure", &req.base, &configv1__configure_response__descriptor, NULL, &e),
        CS_UNIMPLEMENTED);
    KF_OK(attest(&e), e);
    kf_down(&fx);
}

static void test_plugin_check(void **state)
{
    (void)state;
    struct cs_err e;
    struct cspire_plugin p = d_plugin(CSPIRE_NOTIFIER);
    assert_int_equal(kit_plugin_check(NULL, &e), CS_INVALID);
    assert_int_equal(kit_plugin_check(&p, &e), CS_OK);
    p.size = 8;
    assert_int_equal(kit_plugin_check(&p, &e), CS_INVALID);
    assert_string_equal(e.text, "struct cspire_plugin has no size");
    p = d_plugin(CSPIRE_NOTIFIER);
    p.kind = (enum cspire_kind)11;
    assert_int_equal(kit_plugin_check(&p, &e), CS_INVALID);
    assert_string_equal(e.text, "there is no kind of plugin with the number 11");
    p = d_plugin(CSPIRE_NOTIFIER);
    struct cspire_notifier_ops ops = {.size = 0, .bundle_loaded = d_bundle_loaded};
    p.ops.notifier = &ops;
    assert_int_equal(kit_plugin_check(&p, &e), CS_INVALID);
    p.ops.notifier = NULL;
    assert_int_equal(kit_plugin_check(&p, &e), CS_INVALID);
    p = d_plugin(CSPIRE_NOTIFIER);
    p.configure = NULL;
    assert_int_equal(kit_plugin_check(&p, &e), CS_INVALID);
    assert_string_equal(e.text, "a plugin with validate needs configure");
}

static void test_config(void **state)
{
    (void)state;
    struct cs_err e;
    kf_ready(&fx, CSPIRE_WORKLOAD_ATTESTOR);
    Configv1__CoreConfiguration core = CONFIGV1__CORE_CONFIGURATION__INIT;
    core.trust_domain = (char *)"example.org";
    Configv1__ConfigureRequest req = CONFIGV1__CONFIGURE_REQUEST__INIT;
    req.core_configuration = &core;
    req.hcl_configuration = (char *)"a = 1";
    const ProtobufCMessageDescriptor *type = &configv1__configure_response__descriptor;
    KF_OK(kf_call(&fx, CONFIG "Configure", &req.base, type, NULL, &e), e);
    assert_string_equal(kf_seen(&fx), "configure td=example.org text=a = 1\n");
    req.core_configuration = NULL;
    KF_OK(kf_call(&fx, CONFIG "Configure", &req.base, type, NULL, &e), e);
    assert_string_equal(kf_seen(&fx), "configure td= text=a = 1\n");
    d_self.fail = CSPIRE_INVALID_ARGUMENT;
    assert_int_equal(kf_call(&fx, CONFIG "Configure", &req.base, type, NULL, &e), CS_INVALID);

    d_self.fail = CSPIRE_OK;
    Configv1__ValidateRequest val = CONFIGV1__VALIDATE_REQUEST__INIT;
    Configv1__ValidateResponse *got;
    type = &configv1__validate_response__descriptor;
    val.hcl_configuration = (char *)"fine";
    KF_OK(kf_call(&fx, CONFIG "Validate", &val.base, type, &got, &e), e);
    assert_true(got->valid && got->n_notes == 0);
    val.hcl_configuration = (char *)"!";
    KF_OK(kf_call(&fx, CONFIG "Validate", &val.base, type, &got, &e), e);
    assert_true(!got->valid && got->n_notes == 1);
    assert_string_equal(got->notes[0], "that is wrong");
    kf_down(&fx);
}

static void test_go_plugin_services(void **state)
{
    (void)state;
    struct cs_err e;
    kf_up(&fx, CSPIRE_WORKLOAD_ATTESTOR);
    Healthv1__HealthCheckRequest check = HEALTHV1__HEALTH_CHECK_REQUEST__INIT;
    Healthv1__HealthCheckResponse *health;
    KF_OK(kf_call(&fx, "/grpc.health.v1.Health/Check", &check.base,
                  &healthv1__health_check_response__descriptor, &health, &e),
          e);
    assert_int_equal(health->status, 1);

    /* the log stream stays open and silent */
    Goplugin__Empty empty = GOPLUGIN__EMPTY__INIT;
    Goplugin__StdioData *data;
    struct rpc_stream *stdio = kf_open(&fx, "/plugin.GRPCStdio/StreamStdio", NULL, 0);
    struct rpc_stream *broker = kf_open(&fx, "/plugin.GRPCBroker/StartStream", NULL, 0);
    kf_send(stdio, &empty.base);
    KF_OK(rpc_stream_close_send(stdio, &e), e);
    struct cs_buf msg CS_CLEANUP(cs_buf_free) = {0};
    bool end = false;
    assert_int_equal(rpc_stream_recv(stdio, &msg, &end, 50 * CS_NS_PER_MS, NULL, &e), CS_DEADLINE);

    uint64_t n = 0;
    assert_int_equal(read(fx.env.stop_fd, &n, sizeof n), -1);
    KF_OK(
        kf_call(&fx, "/plugin.GRPCController/Shutdown", &empty.base, &goplugin__empty__descriptor, NULL, &e),
        e);
    assert_int_equal(read(fx.env.stop_fd, &n, sizeof n), sizeof n);
    rpc_server_shutdown(fx.server, CS_NS_PER_S);
    assert_int_equal(kf_recv(&fx, stdio, &goplugin__stdio_data__descriptor, &data, &e), CS_UNAVAILABLE);
    rpc_stream_free(stdio);
    rpc_stream_free(broker);
    kf_down(&fx);
}

/* --- Operations at the same time --- */

static sem_t entered, go_on;
static _Atomic int inside, most;

static enum cspire_code slow(void *self, struct cspire_call *c, int32_t pid)
{
    (void)self;
    int now = atomic_fetch_add(&inside, 1) + 1, seen = atomic_load(&most);
    while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
        ;
    sem_post(&entered);
    while (sem_wait(&go_on) != 0)
        ;
    atomic_fetch_sub(&inside, 1);
    return pid == 0 ? CSPIRE_OK : cspire_reply_selector(c, "cancelled:%d", cspire_cancelled(c));
}

static void *attest_thread(void *arg)
{
    struct rpc_client *c = arg;
    struct cs_buf resp CS_CLEANUP(cs_buf_free) = {0};
    struct cs_err e = {0};
    cs_code code =
        rpc_client_unary(c, WA "Attest", (struct cs_slice){0}, &resp, NULL, 0, 20 * CS_NS_PER_S, NULL, &e);
    return code == CS_OK ? NULL : (void *)-1;
}

static bool enters_within(int64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ns;
    until.tv_sec += until.tv_nsec / CS_NS_PER_S;
    until.tv_nsec %= CS_NS_PER_S;
    return sem_timedwait(&entered, &until) == 0;
}

static void run_two(uint32_t flags, int expected_most)
{
    static const struct cspire_workload_attestor_ops ops = {.size = sizeof ops, .attest = slow};
    struct cspire_plugin plugin = d_plugin(CSPIRE_WORKLOAD_ATTESTOR);
    struct cs_err e;
    pthread_t threads[2];
    plugin.ops.workload_attestor = &ops;
    plugin.flags = flags;
    sem_init(&entered, 0, 0);
    sem_init(&go_on, 0, 0);
    atomic_store(&most, 0);
    kf_up_plugin(&fx, plugin);
    KF_OK(kf_init(&fx, NULL, NULL, &e), e);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, attest_thread, fx.client), 0);
    for (int i = 0; i < 2; i++) {
        while (sem_wait(&entered) != 0)
            ;
        if (!(flags & CSPIRE_SERIAL))
            continue;
        if (i == 0)
            assert_false(enters_within(200 * CS_NS_PER_MS)); /* the other waits outside */
        sem_post(&go_on);
    }
    sem_post(&go_on);
    sem_post(&go_on);
    for (int i = 0; i < 2; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    assert_int_equal(atomic_load(&most), expected_most);
    kf_down(&fx);
    sem_destroy(&entered);
    sem_destroy(&go_on);
}

static void test_parallel_and_serial(void **state)
{
    (void)state;
    run_two(0, 2);
    run_two(CSPIRE_SERIAL, 1);
}

/* Deinit does not pull the plugin away from under an operation, and does not wait for ever. */
static void *deinit_thread(void *arg)
{
    (void)arg;
    return kit_env_destroy(&fx.env, 20 * CS_NS_PER_S) ? NULL : (void *)-1;
}

static void test_deinit_waits(void **state)
{
    (void)state;
    static const struct cspire_workload_attestor_ops ops = {.size = sizeof ops, .attest = slow};
    struct cspire_plugin plugin = d_plugin(CSPIRE_WORKLOAD_ATTESTOR);
    struct cs_err e;
    pthread_t caller, ender;
    void *result;
    plugin.ops.workload_attestor = &ops;
    sem_init(&entered, 0, 0);
    sem_init(&go_on, 0, 0);
    kf_up_plugin(&fx, plugin);
    KF_OK(kf_init(&fx, NULL, NULL, &e), e);
    assert_int_equal(pthread_create(&caller, NULL, attest_thread, fx.client), 0);
    while (sem_wait(&entered) != 0)
        ;
    assert_false(kit_env_destroy(&fx.env, 0));
    assert_int_equal(d_self.destroyed, 0);
    assert_int_equal(attest(&e), CS_UNAVAILABLE); /* nobody new comes in */
    assert_int_equal(pthread_create(&ender, NULL, deinit_thread, NULL), 0);
    sem_post(&go_on);
    pthread_join(ender, &result);
    assert_null(result);
    pthread_join(caller, &result);
    assert_null(result);
    assert_int_equal(d_self.destroyed, 1);
    kf_down(&fx);
    sem_destroy(&entered);
    sem_destroy(&go_on);
}

/* --- What a plugin asks of its call --- */

static enum cspire_code ask_call(void *self, struct cspire_call *c, int32_t pid)
{
    (void)self;
    int64_t left = cspire_time_left(c);
    char *zeroes = cspire_alloc(c, 1000);
    bool zero = zeroes != NULL && ((uintptr_t)zeroes & 15) == 0;
    for (int i = 0; zero && i < 1000; i++)
        zero = zeroes[i] == '\0';
    if (pid == 7)
        return cspire_alloc(c, (size_t)100 << 20) == NULL ? CSPIRE_OK : CSPIRE_DATA_LOSS;
    return left > 10 * CS_NS_PER_S && left <= 20 * CS_NS_PER_S && zero && !cspire_cancelled(c) &&
                   cspire_call_env(c) == &fx.env
               ? CSPIRE_OK
               : CSPIRE_INTERNAL;
}

static void test_call(void **state)
{
    (void)state;
    static const struct cspire_workload_attestor_ops ops = {.size = sizeof ops, .attest = ask_call};
    struct cspire_plugin plugin = d_plugin(CSPIRE_WORKLOAD_ATTESTOR);
    struct cs_err e;
    plugin.ops.workload_attestor = &ops;
    kf_up_plugin(&fx, plugin);
    KF_OK(kf_init(&fx, NULL, NULL, &e), e);
    KF_OK(attest(&e), e);
    Workloadattestorv1__AttestRequest req = WORKLOADATTESTORV1__ATTEST_REQUEST__INIT;
    req.pid = 7;
    KF_OK(kf_call(&fx, WA "Attest", &req.base, &workloadattestorv1__attest_response__descriptor, NULL, &e),
          e);
    /* one of the plugin's own has no deadline */
    struct cspire_call *own = cspire_call_new(&fx.env);
    assert_non_null(own);
    assert_true(cspire_time_left(own) == INT64_MAX);
    assert_string_equal(cspire_call_error(own), "");
    assert_int_equal(cspire_reply_selector(own, "x"), CSPIRE_FAILED_PRECONDITION);
    assert_string_equal(cspire_call_error(own), "a selector is no answer to this operation");
    assert_string_equal(cspire_text(own, "%d-%s", 1, "x"), "1-x");
    atomic_store(&fx.env.stopping, true);
    assert_true(cspire_cancelled(own));
    cspire_call_free(own);
    cspire_call_free(NULL);
    assert_string_equal(cspire_plugin_version(), CSPIRE_VERSION);
    kf_down(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_and_deinit),
        cmocka_unit_test(test_create_fails),
        cmocka_unit_test(test_bare_plugin),
        cmocka_unit_test(test_plugin_check),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_go_plugin_services),
        cmocka_unit_test(test_parallel_and_serial),
        cmocka_unit_test(test_deinit_waits),
        cmocka_unit_test(test_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
