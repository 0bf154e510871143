/* SPDX-License-Identifier: Apache-2.0
 *
 * External plugins, with a real process (program.h): start, calls, host services, ends of every kind.
 */
#include "plugin/external_internal.h"

#include "program.h"

#include "base/file.h"
#include "base/text.h"
#include "crypto/hash.h"
#include "crypto/key.h"
#include "spiffe/bundle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

/* --- A host --- */

static char folder[64], log_path[96];
static struct cs_log_sink *sink;
static struct plugin_runner *runner;
static int identities, metrics;
static _Atomic bool stop_now;

static bool asked(void *arg)
{
    (void)arg;
    return stop_now;
}
static const struct crypto_stop stop = {asked, NULL};

static cs_code identity(void *arg, struct plugin_identity *out, struct cs_err *e)
{
    (void)arg;
    identities++;
    out->chain = cs_calloc(2, sizeof *out->chain);
    if (out->chain == NULL)
        return cs_nomem(e);
    out->chain_count = 2;
    cs_buf_add_str(&out->chain[0], "leaf");
    cs_buf_add_str(&out->chain[1], "above");
    cs_buf_add_str(&out->key, "secret");
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(cs_slice_str("example.org"), &b, e));
    return spiffe_bundle_build(b, &out->bundle, e);
}

static cs_code agent_info(void *arg, const char *id, struct cs_err *e)
{
    (void)arg;
    return strstr(id, "/x") != NULL ? CS_OK : cs_fail(e, CS_NOT_FOUND, "no such agent");
}

static void metric(void *arg, const char *type, const char *name, const struct plugin_metric *m)
{
    (void)arg;
    if (strcmp(type, PROGRAM_TYPE) == 0 && strcmp(name, "x") == 0 && m->kind == PLUGIN_METRIC_COUNTER &&
        m->key_count == 2 && strcmp(m->key[1], "two") == 0 && m->label_count == 1 &&
        strcmp(m->labels[1], "blue") == 0 && m->value > 2.4 && m->value < 2.6)
        metrics++;
}

static const struct plugin_host host = {.identity = identity, .agent_info = agent_info, .metric = metric};
static struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org", .stop = &stop};

static int setup(void **state)
{
    struct cs_err e;
    (void)state;
    stop_now = false;
    snprintf(folder, sizeof folder, "/tmp/external-XXXXXX");
    assert_non_null(mkdtemp(folder));
    setenv("TMPDIR", folder, 1);
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    assert_int_equal(cs_log_sink_open(log_path, CS_LOG_TEXT, CS_LOG_DEBUG, &sink, &e), CS_OK);
    env.log = cs_log_with((struct cs_log){.sink = sink}, KV("plugin_name", "x"));
    env.host = &host;
    assert_int_equal(plugin_runner_new(env.log, &cs_clock_system, &runner, &e), CS_OK);
    return 0;
}

/* Nothing but the log may be left. */
static int teardown(void **state)
{
    (void)state;
    plugin_runner_free(runner);
    cs_log_sink_free(sink);
    assert_int_equal(unlink(log_path), 0);
    if (rmdir(folder) != 0)
        fail_msg("%s: %s", folder, strerror(errno));
    unsetenv("TMPDIR");
    return 0;
}

static struct config_plugin block(const char *const *args)
{
    static char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    return (struct config_plugin){
        .type = PROGRAM_TYPE, .name = "x", .cmd = self, .checksum = "", .args = {.at = args, .len = 2}};
}

static cs_code start_mode(const char *mode, struct plugin_external **x, struct cs_err *e)
{
    const char *args[] = {"plugin", mode};
    const struct config_plugin c = block(args);
    return plugin_external_start(runner, PROGRAM_TYPE, &c, &env, x, e);
}

static struct plugin_external *start(const char *mode)
{
    struct plugin_external *x = NULL;
    struct cs_err e = {0};
    if (start_mode(mode, &x, &e) != CS_OK)
        fail_msg("%s", e.text);
    return x;
}

/* Its notes on a word, one a line; released by the next call. */
static cs_code ask(struct plugin_external *x, const char *word, char *out, size_t cap, struct cs_err *e)
{
    CS_CLEANUP(plugin_notes_free) struct plugin_notes notes = {0};
    cs_code rc = plugin_external_validate(x, cs_slice_str(word), &notes, e);
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < notes.count && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s", i > 0 ? "\n" : "", notes.texts[i]);
    return rc;
}

static const char *answer(struct plugin_external *x, const char *word)
{
    static char out[8192];
    struct cs_err e = {0};
    if (ask(x, word, out, sizeof out, &e) != CS_OK)
        fail_msg("%s: %s", word, e.text);
    return out;
}

static bool said(const char *text)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf log = {0};
    return cs_file_read(log_path, 0x1000000, &log, NULL) == CS_OK && strstr(cs_buf_cstr(&log), text) != NULL;
}

static void await_said(const char *text)
{
    for (int i = 0; i < 1000; i++) {
        if (said(text))
            return;
        usleep(10000);
    }
    fail_msg("\"%s\" is not in the log", text);
}

/* Until it answers again. */
static void await_up(struct plugin_external *x)
{
    char out[64];
    for (int i = 0; i < 1000; i++) {
        if (ask(x, "hello", out, sizeof out, NULL) == CS_OK)
            return;
        usleep(10000);
    }
    fail_msg("it does not answer");
}

/* --- Calls --- */

static void serves(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct plugin_external *x = start("good");
    assert_string_equal(plugin_external_name(x), "x");
    assert_true(plugin_external_offers(x, PROGRAM_SERVICE));
    assert_false(plugin_external_offers(x, "test.Plugi"));
    assert_int_equal(plugin_external_bind(x, PROGRAM_SERVICE, &e), CS_OK);
    await_said("level=warning msg=\"Unsupported plugin service found\"");
    assert_true(said("plugin_service=test.Other") && !said("plugin_service=spire"));
    assert_int_equal(plugin_external_bind(x, "y", &e), CS_INVALID);
    assert_string_equal(e.text, "no supported plugin interface found in: [\"" PROGRAM_SERVICE
                                "\" \"spire.service.common.config.v1.Config\" \"test.Other\"]");
    assert_int_equal(plugin_external_configure(x, cs_slice_str("one = 1"), &e), CS_OK);
    assert_string_equal(answer(x, "config"), "example.org one = 1");
    assert_int_equal(plugin_external_configure(x, cs_slice_str("bad"), &e), CS_INVALID);
    assert_string_equal(e.text, "no good");
    char out[64];
    assert_int_equal(ask(x, "bad", out, sizeof out, &e), CS_INVALID);
    assert_string_equal(e.text, "no good");
    await_said("level=info msg=\"plugin is up\" mode=good");
    await_said("level=debug msg=\"printed by the plugin\"");
    await_said("level=debug msg=\"and its error in two pieces\"");
    assert_true(said("Plugin checksum not configured"));
    plugin_external_stop(x);
    assert_true(said("msg=\"Plugin deinitialized\"") && said("level=info msg=\"plugin process exited\""));
}

static void streams(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct plugin_external *x = start("good");
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    Configv1__ValidateRequest m = CONFIGV1__VALIDATE_REQUEST__INIT;
    ProtobufCMessage *got = NULL;
    struct plugin_stream *s = NULL, *t = NULL;
    assert_int_equal(plugin_stream_open(x, "/" PROGRAM_SERVICE "/Echo", NULL, 0, 0, &s, &e), CS_OK);
    for (int i = 0; i < 3; i++) {
        m.hcl_configuration = (char *)"to and fro";
        assert_int_equal(plugin_stream_send(s, &m.base, &e), CS_OK);
        assert_int_equal(
            plugin_stream_recv(s, &configv1__validate_request__descriptor, a, &got, 5 * CS_NS_PER_S, &e),
            CS_OK);
        assert_string_equal(((Configv1__ValidateRequest *)(void *)got)->hcl_configuration, "to and fro");
    }
    assert_int_equal(plugin_stream_recv(s, &configv1__validate_request__descriptor, a, &got, 1, &e),
                     CS_DEADLINE);
    m.hcl_configuration = (char *)"end";
    assert_int_equal(plugin_stream_send(s, &m.base, &e), CS_OK);
    assert_int_equal(plugin_stream_recv(s, &configv1__validate_request__descriptor, a, &got, -1, &e), CS_OK);
    assert_null(got);
    plugin_stream_free(s);
    /* one that is open when the plugin dies, and outlives the run */
    assert_int_equal(plugin_stream_open(x, "/" PROGRAM_SERVICE "/Echo", NULL, 0, 0, &t, &e), CS_OK);
    m.hcl_configuration = (char *)"kill";
    assert_int_equal(plugin_stream_send(t, &m.base, &e), CS_OK);
    assert_int_equal(plugin_stream_recv(t, &configv1__validate_request__descriptor, a, &got, -1, &e),
                     CS_UNAVAILABLE);
    await_said("error=\"signal: killed\"");
    await_up(x);
    plugin_stream_free(t);
    plugin_stream_free(NULL);
    plugin_external_stop(x);
}

/* --- What a plugin gets --- */

static void is_alone(void **state)
{
    (void)state;
    int secret = open("/etc/passwd", O_RDONLY); /* without O_CLOEXEC, as a library might leave one */
    setenv("CSPIRE_TEST_SECRET", "s3cret", 1);
    setenv("AWS_REGION", "eu-north-1", 1);
    struct plugin_external *x = start("good");
    assert_null(strstr(answer(x, "files"), "/etc/passwd"));
    const char *got = answer(x, "env");
    assert_null(strstr(got, "s3cret"));
    assert_non_null(strstr(got, "AWS_REGION=eu-north-1"));
    assert_non_null(strstr(got, "PLUGIN_PROTOCOL_VERSIONS=1"));
    assert_non_null(strstr(got, PROGRAM_TYPE "=" PROGRAM_TYPE));
    plugin_external_stop(x);
    close(secret);
    unsetenv("CSPIRE_TEST_SECRET");
    unsetenv("AWS_REGION");
}

static void offers_host_services(void **state)
{
    (void)state;
    struct plugin_external *x = start("good");
    identities = metrics = 0;
    assert_string_equal(answer(x, "host"),
                        "IdentityProvider AgentStore Metrics\nexample.org 2 6\nknown\ncounted");
    assert_int_equal(identities, 1);
    assert_int_equal(metrics, 1);
    plugin_external_stop(x);
    static const struct plugin_host agent = {.metric = NULL};
    env.host = &agent;
    x = start("good");
    assert_string_equal(
        answer(x, "host"),
        "Metrics\nunknown service spire.hostservice.server.identityprovider.v1.IdentityProvider\n"
        "unknown service spire.hostservice.server.agentstore.v1.AgentStore\ncounted");
    plugin_external_stop(x);
}

/* The socket gives away a private key: not even a process of the same user may ask. */
static void refuses_strangers(void **state)
{
    (void)state;
    struct plugin_external *x = start("good");
    char address[128];
    plugin_host_address(runner, address);
    const struct rpc_client_config cfg = {.unix_path = address, .connect_ns = 2 * CS_NS_PER_S};
    struct rpc_client *c = NULL;
    struct cs_err e = {0};
    struct loop *l = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    assert_int_equal(loop_new("test", &l, &e), CS_OK);
    assert_int_equal(loop_start(l, &e), CS_OK);
    assert_int_equal(rpc_client_new(l, &cfg, &c, &e), CS_OK);
    assert_int_equal(
        rpc_client_unary(c,
                         "/spire.hostservice.server.identityprovider.v1.IdentityProvider/FetchX509Identity",
                         cs_slice_of("", 0), &out, NULL, 0, 5 * CS_NS_PER_S, NULL, &e),
        CS_UNAVAILABLE);
    rpc_client_free(c);
    loop_free(l);
    plugin_external_stop(x);
}

/* --- What goes wrong at the start --- */

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *mode, *text;
    } cases[] = {
        {"garbage",
         "failed to launch plugin: Unrecognized remote plugin message: hello, I am \\\"no\\\" plugin"},
        {"long",
         "failed to launch plugin: Unrecognized remote plugin message: \nFailed to read any lines from "
         "plugin's stdout"},
        {"exit",
         "failed to launch plugin: Unrecognized remote plugin message: \nFailed to read any lines from "
         "plugin's stdout\nplugin process exited: exit status 3"},
        {"unended", "failed to launch plugin: Unrecognized remote plugin message: no end of line"},
        {"nowhere",
         "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: "
         "dial unix /nonexistent/socket: connect: no such file or directory\""},
        {"no init", "rpc error: code = Unimplemented desc = unknown service"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct plugin_external *x = NULL;
        struct cs_err e = {0};
        assert_int_not_equal(start_mode(cases[i].mode, &x, &e), CS_OK);
        assert_null(x);
        assert_string_equal(e.text, cases[i].text);
    }
    struct plugin_external *x = start("nothing");
    struct cs_err e = {0};
    assert_int_equal(plugin_external_bind(x, PROGRAM_SERVICE, &e), CS_INVALID);
    assert_string_equal(e.text, "no supported plugin interface found in: []");
    plugin_external_stop(x);
    x = start("plain");
    assert_int_equal(plugin_external_configure(x, cs_slice_str(""), &e), CS_UNIMPLEMENTED);
    assert_string_equal(e.text, "no supported configuration interface found");
    plugin_external_stop(x);
    plugin_external_stop(NULL);
}

static void holds_to_the_checksum(void **state)
{
    (void)state;
    const char *args[] = {"plugin", "good"};
    struct config_plugin c = block(args);
    struct plugin_external *x = NULL;
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf file = {0}, hex = {0};
    uint8_t digest[CRYPTO_HASH_MAX];
    assert_int_equal(cs_file_read(c.cmd, (size_t)1 << 28, &file, &e), CS_OK);
    assert_int_equal(crypto_digest(CRYPTO_SHA256, cs_buf_slice(&file), digest, &e), CS_OK);
    cs_hex_encode(&hex, cs_slice_of(digest, 32));
    c.checksum = cs_buf_cstr(&hex);
    assert_int_equal(plugin_external_start(runner, PROGRAM_TYPE, &c, &env, &x, &e), CS_OK);
    assert_string_equal(answer(x, "hello"), "hello");
    assert_false(said("Plugin checksum not configured"));
    plugin_external_stop(x);
    hex.data[0] = hex.data[0] == '0' ? '1' : '0';
    assert_int_equal(plugin_external_start(runner, PROGRAM_TYPE, &c, &env, &x, &e), CS_INVALID);
    assert_string_equal(e.text, "failed to launch plugin: checksums did not match");
    c.checksum = "0123";
    assert_int_equal(plugin_external_start(runner, PROGRAM_TYPE, &c, &env, &x, &e), CS_INVALID);
    assert_string_equal(e.text, "expected checksum of length 64; got 4");
}

/* A relative path counts from the working folder, and PATH is not looked at. */
static void finds_relative_paths(void **state)
{
    (void)state;
    const char *args[] = {"plugin", "good"};
    struct config_plugin c = block(args);
    struct plugin_external *x = NULL;
    struct cs_err e = {0};
    char was[1024], there[1024];
    snprintf(there, sizeof there, "%s", c.cmd);
    char *base = strrchr(there, '/');
    *base = '\0';
    assert_non_null(getcwd(was, sizeof was));
    assert_int_equal(chdir(there), 0);
    char with_dot[300];
    snprintf(with_dot, sizeof with_dot, "./%s", base + 1);
    const char *const names[] = {base + 1, with_dot};
    for (int i = 0; i < 2; i++) {
        c.cmd = names[i];
        assert_int_equal(plugin_external_start(runner, PROGRAM_TYPE, &c, &env, &x, &e), CS_OK);
        plugin_external_stop(x);
    }
    c.cmd = "sh";
    char wanted[1200];
    snprintf(wanted, sizeof wanted, "failed to launch plugin: fork/exec %s/sh: no such file or directory",
             there);
    assert_int_equal(plugin_external_start(runner, PROGRAM_TYPE, &c, &env, &x, &e), CS_NOT_FOUND);
    assert_string_equal(e.text, wanted);
    assert_int_equal(chdir(was), 0);
}

/* What a killed host left is taken away by the next; what somebody holds, or is not ours, is not. */
static void cleans_up_after_the_killed(void **state)
{
    (void)state;
    static const char *const names[] = {"cspire-plugins-abcdef", "cspire-plugins-abcdef/7", "other"};
    char path[200];
    struct cs_err e = {0};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        snprintf(path, sizeof path, "%s/%s/socket", folder, names[i]);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
    struct plugin_runner *second = NULL;
    assert_int_equal(plugin_runner_new(env.log, &cs_clock_system, &second, &e), CS_OK);
    snprintf(path, sizeof path, "%s/%s", folder, names[0]);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(access(runner->folder, F_OK), 0);
    plugin_runner_free(second);
    assert_int_equal(unlink(path), -1);
    snprintf(path, sizeof path, "%s/other/socket", folder);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/other", folder);
    assert_int_equal(rmdir(path), 0);
    setenv("TMPDIR", "/nonexistent/folder", 1);
    assert_int_equal(plugin_runner_new(env.log, &cs_clock_system, &second, &e), CS_INTERNAL);
    assert_string_equal(
        e.text, "failed to make a folder for plugins in /nonexistent/folder: no such file or directory");
    assert_null(second);
}

/* --- Ends --- */

static void starts_again_with_its_configuration(void **state)
{
    (void)state;
    struct cs_err e = {0};
    char out[64], pid[64];
    struct plugin_external *x = start("good");
    assert_int_equal(plugin_external_configure(x, cs_slice_str("first"), &e), CS_OK);
    assert_int_equal(plugin_external_configure(x, cs_slice_str("second"), &e), CS_OK);
    assert_int_equal(plugin_external_configure(x, cs_slice_str("bad"), &e), CS_INVALID);
    snprintf(pid, sizeof pid, "%s", answer(x, "pid"));
    runner->pause_ns = 3 * CS_NS_PER_S;
    assert_int_equal(ask(x, "exit", out, sizeof out, &e), CS_UNAVAILABLE);
    await_said("level=error msg=\"plugin process exited\"");
    assert_true(said("error=\"exit status 7\"") && said("msg=\"last words\""));
    assert_int_equal(ask(x, "hello", out, sizeof out, &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "plugin is not running: exit status 7");
    await_said("msg=\"Plugin started again\"");
    assert_string_equal(answer(x, "config"), "example.org second");
    assert_string_not_equal(answer(x, "pid"), pid);
    plugin_external_stop(x);
}

static void is_let_go_of_while_it_is_down(void **state)
{
    (void)state;
    char out[64];
    struct cs_err e = {0};
    struct plugin_external *x = start("good");
    runner->pause_ns = 60 * CS_NS_PER_S;
    assert_int_equal(ask(x, "exit", out, sizeof out, &e), CS_UNAVAILABLE);
    await_said("Plugin will be started again");
    plugin_external_stop(x);
}

/* A configuration that kills it each time: it is not begun with what was never accepted. */
static void survives_a_deadly_configuration(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct plugin_external *x = start("good");
    assert_int_equal(plugin_external_configure(x, cs_slice_str("kept"), &e), CS_OK);
    assert_int_equal(plugin_external_configure(x, cs_slice_str("exit"), &e), CS_UNAVAILABLE);
    await_up(x);
    assert_string_equal(answer(x, "config"), "example.org kept");
    plugin_external_stop(x);
}

static void ends_by_force(void **state)
{
    (void)state;
    struct plugin_external *x = start("stubborn");
    plugin_external_stop(x);
    assert_true(said("plugin failed to exit gracefully") && said("signal: killed"));
    x = start("no goodbye");
    plugin_external_stop(x);
    assert_true(said("error=\"rpc error: code = Aborted desc = stays\""));
}

/* It is there, and says nothing any more. */
static void notices_silence(void **state)
{
    (void)state;
    char pid[64], out[64];
    struct cs_err e = {0};
    runner->health_every_ns = 100 * CS_NS_PER_MS;
    runner->health_ns = 2 * CS_NS_PER_S;
    runner->pause_ns = 3 * CS_NS_PER_S;
    struct plugin_external *x = start("good");
    snprintf(pid, sizeof pid, "%s", answer(x, "pid"));
    usleep(300000); /* healthy for a while: nothing happens */
    assert_string_equal(answer(x, "pid"), pid);
    assert_int_equal(kill((pid_t)strtol(pid, NULL, 10), SIGSTOP), 0);
    await_said("msg=\"Plugin does not answer and is ended\"");
    await_said("Plugin will be started again");
    assert_int_equal(ask(x, "hello", out, sizeof out, &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "plugin is not running: it did not answer any more; signal: killed");
    await_up(x);
    assert_string_not_equal(answer(x, "pid"), pid);
    plugin_external_stop(x);
}

static void *configure_for_ever(void *arg)
{
    struct cs_err e = {0};
    return (void *)(uintptr_t)plugin_external_configure(arg, cs_slice_str("hang"), &e);
}

/* Both ways: the program's signal, and the runner's. */
static void can_be_interrupted(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct plugin_external *x = start("good");
        pthread_t t;
        void *rc = NULL;
        assert_int_equal(pthread_create(&t, NULL, configure_for_ever, x), 0);
        usleep(20000);
        int64_t began = cs_mono_ns(&cs_clock_system);
        if (i == 0)
            stop_now = true;
        else
            plugin_runner_stop(runner);
        assert_int_equal(pthread_join(t, &rc), 0);
        assert_int_equal((uintptr_t)rc, CS_CANCELLED);
        assert_true(cs_mono_ns(&cs_clock_system) - began < 5 * CS_NS_PER_S);
        char out[64];
        struct cs_err e = {0};
        assert_int_equal(ask(x, "hello", out, sizeof out, &e), CS_CANCELLED);
        assert_string_equal(e.text, "context canceled");
        plugin_external_stop(x);
        stop_now = false;
    }
}

static void *start_silent(void *arg)
{
    struct plugin_external *x = NULL;
    return (void *)(uintptr_t)start_mode("silent", &x, arg);
}

static void start_can_be_interrupted(void **state)
{
    (void)state;
    struct cs_err e = {0};
    pthread_t t;
    void *rc = NULL;
    assert_int_equal(pthread_create(&t, NULL, start_silent, &e), 0);
    usleep(20000);
    stop_now = true;
    assert_int_equal(pthread_join(t, &rc), 0);
    assert_int_equal((uintptr_t)rc, CS_CANCELLED);
}

/* Each allocation of the starting thread fails in turn. */
static void survives_without_memory(void **state)
{
    (void)state;
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        struct plugin_external *x = NULL;
        struct cs_err e = {0};
        assert_true(n < 500);
        cs_mem_fail_at(n, false);
        rc = start_mode("good", &x, &e);
        cs_mem_fail_at(0, false);
        if (rc == CS_OK)
            plugin_external_stop(x);
        else
            assert_null(x);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "plugin") == 0)
        return program_main(argv[2]);
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(serves),
        CASE(streams),
        CASE(is_alone),
        CASE(offers_host_services),
        CASE(refuses_strangers),
        CASE(says_what_is_wrong),
        CASE(holds_to_the_checksum),
        CASE(finds_relative_paths),
        CASE(cleans_up_after_the_killed),
        CASE(starts_again_with_its_configuration),
        CASE(is_let_go_of_while_it_is_down),
        CASE(survives_a_deadly_configuration),
        CASE(ends_by_force),
        CASE(notices_silence),
        CASE(can_be_interrupted),
        CASE(start_can_be_interrupted),
        CASE(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
