/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole program: a process of its own that serves a plugin, with this test as its host.
 */
#include "fixture.h"

#include "goplugin.pb-c.h"
#include "sdk_agent_workloadattestor.pb-c.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define WA "/spire.plugin.agent.workloadattestor.v1.WorkloadAttestor/Attest"

/* pid 1: hangs for ever; 2: closes standard error; others: answer. */
static enum cspire_code attest(void *self, struct cspire_call *c, int32_t pid)
{
    (void)self;
    if (pid == 2)
        close(STDERR_FILENO);
    while (pid == 1)
        pause();
    return cspire_reply_selector(c, "pid:%d", (int)pid);
}
static void destroy(void *self)
{
    (void)self;
    fputs("destroyed\n", stderr);
}

struct child {
    pid_t pid;
    int out, err;
    char path[KIT_PATH_MAX];
    struct loop *loop;
    struct rpc_client *client;
};

static int serve(void)
{
    static const struct cspire_workload_attestor_ops ops = {.size = sizeof ops, .attest = attest};
    const struct cspire_plugin plugin = {.size = sizeof plugin,
                                         .kind = CSPIRE_WORKLOAD_ATTESTOR,
                                         .ops = {.workload_attestor = &ops},
                                         .destroy = destroy};
    char *argv[] = {(char *)"/x/main_test", NULL};
    setenv("WorkloadAttestor", "WorkloadAttestor", 1);
    return cspire_plugin_main(1, argv, &plugin);
}

/* Before this process has threads of its own, or after they have ended. */
static void start(struct child *c)
{
    int out[2], err[2];
    struct cs_err e = {0};
    assert_true(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        close(out[0]);
        close(err[0]);
        close(out[1]);
        close(err[1]);
        _exit(serve());
    }
    close(out[1]);
    close(err[1]);
    c->out = out[0];
    c->err = err[0];
    char line[512];
    ssize_t n = read(c->out, line, sizeof line - 1);
    assert_true(n > 0);
    line[n] = '\0';
    assert_int_equal(sscanf(line, "1|1|unix|%107[^|]|grpc|", c->path), 1);
    assert_int_equal(line[n - 1], '\n');
    KF_OK(loop_new("client", &c->loop, &e), e);
    KF_OK(loop_start(c->loop, &e), e);
    KF_OK(rpc_client_new(c->loop, &(struct rpc_client_config){.unix_path = c->path}, &c->client, &e), e);
}

static cs_code call(struct child *c, const char *path, const ProtobufCMessage *m, int64_t limit_ns,
                    struct cs_err *e)
{
    struct cs_buf req CS_CLEANUP(cs_buf_free) = {0}, resp CS_CLEANUP(cs_buf_free) = {0};
    CS_TRY(proto_pack(m, &req, e));
    return rpc_client_unary(c->client, path, cs_buf_slice(&req), &resp, NULL, 0, limit_ns, NULL, e);
}

static void init(struct child *c)
{
    struct cs_err e = {0};
    Initv1__InitRequest req = INITV1__INIT_REQUEST__INIT;
    KF_OK(call(c, "/spire.service.private.init.v1.Init/Init", &req.base, 20 * CS_NS_PER_S, &e), e);
}

static cs_code attest_pid(struct child *c, int32_t pid, int64_t limit_ns)
{
    struct cs_err e = {0};
    Workloadattestorv1__AttestRequest req = WORKLOADATTESTORV1__ATTEST_REQUEST__INIT;
    req.pid = pid;
    return call(c, WA, &req.base, limit_ns, &e);
}

static void ask_shutdown(struct child *c)
{
    struct cs_err e = {0};
    Goplugin__Empty req = GOPLUGIN__EMPTY__INIT;
    KF_OK(call(c, "/plugin.GRPCController/Shutdown", &req.base, 20 * CS_NS_PER_S, &e), e);
}

/* The exit status and what it said; nothing is left of its socket. */
static int end(struct child *c, char *said, size_t size)
{
    int status;
    size_t len = 0;
    ssize_t n;
    struct stat st;
    rpc_client_free(c->client);
    loop_free(c->loop);
    assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
    while (len < size - 1 && (n = read(c->err, said + len, size - 1 - len)) > 0)
        len += (size_t)n;
    said[len] = '\0';
    close(c->out);
    close(c->err);
    assert_int_equal(stat(c->path, &st), -1);
    *strrchr(c->path, '/') = '\0';
    assert_int_equal(stat(c->path, &st), -1);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_shutdown(void **state)
{
    (void)state;
    struct child c;
    char said[4096];
    start(&c);
    init(&c);
    assert_int_equal(attest_pid(&c, 7, 20 * CS_NS_PER_S), CS_OK);
    ask_shutdown(&c);
    assert_int_equal(end(&c, said, sizeof said), 0);
    assert_string_equal(said, "destroyed\n"); /* without Deinit, too */
}

static void test_terminate(void **state)
{
    (void)state;
    struct child c;
    char said[4096];
    start(&c);
    init(&c);
    kill(c.pid, SIGINT);
    assert_int_equal(attest_pid(&c, 7, 20 * CS_NS_PER_S), CS_OK);
    kill(c.pid, SIGTERM);
    assert_int_equal(end(&c, said, sizeof said), 0);
    assert_string_equal(said, "destroyed\n");
}

/* An operation that never returns keeps nothing: not the other calls, and not the end. */
static void test_hanging_operation(void **state)
{
    (void)state;
    struct child c;
    char said[4096];
    start(&c);
    init(&c);
    for (int i = 0; i < 20; i++) /* more than there are workers */
        assert_int_equal(attest_pid(&c, 1, 10 * CS_NS_PER_MS), CS_DEADLINE);
    int64_t before = cs_mono_ns(&cs_clock_system);
    ask_shutdown(&c);
    assert_int_equal(end(&c, said, sizeof said), 1);
    assert_true(cs_mono_ns(&cs_clock_system) - before < 20 * CS_NS_PER_S);
    assert_non_null(strstr(said, "the plugin ends with an operation that does not return"));
    assert_null(strstr(said, "destroyed"));
}

/* One that closes standard error is mute, and goes on. */
static void test_closed_stderr(void **state)
{
    (void)state;
    struct child c;
    char said[4096];
    start(&c);
    init(&c);
    assert_int_equal(attest_pid(&c, 2, 20 * CS_NS_PER_S), CS_OK);
    for (int i = 0; i < 100; i++)
        assert_int_equal(attest_pid(&c, 7, 20 * CS_NS_PER_S), CS_OK);
    ask_shutdown(&c);
    assert_int_equal(end(&c, said, sizeof said), 0);
    assert_string_equal(said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_terminate),
        cmocka_unit_test(test_hanging_operation),
        cmocka_unit_test(test_closed_stderr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
