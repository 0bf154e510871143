/* SPDX-License-Identifier: Apache-2.0
 *
 * One run of a plugin: from the start of its program to the answer to Init, and its end. What waits here runs
 * in a caller's thread or on the pool, never on the loop.
 */
#include "plugin/external_internal.h"
#include "proto/proto.h"

#include "google/protobuf/empty.pb-c.h"
#include "goplugin.pb-c.h"
#include "sdk_init.pb-c.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* SPIRE's number of the host services at go-plugin's broker (private.HostServiceProviderID). */
#define HOST_SERVICES_ID 1
/* How often a wait asks whether the program is to end. */
#define POLL_NS (200 * CS_NS_PER_MS)
/* How long to wait for the exit status of a program that has closed its standard output. */
#define LAST_WORDS_NS (300 * CS_NS_PER_MS)

/* --- Life --- */

static struct plugin_run *run_new(struct plugin_external *x)
{
    struct plugin_run *run = cs_calloc(1, sizeof *run);
    if (run == NULL)
        return NULL;
    const char *base = strrchr(x->path, '/');
    run->x = x;
    run->r = x->r;
    run->users = run->refs = 1;
    run->program = run->pidfd = run->process.out = run->process.err = -1;
    run->folder = cs_asprintf("%s/%u", x->r->folder, atomic_fetch_add(&x->r->runs, 1));
    run->subsystem = cs_asprintf("%s.%s", x->name, base != NULL ? base + 1 : x->path);
    run->log = (struct plugin_hclog){.log = &x->env->log, .subsystem = run->subsystem};
    run->err_lines.max = run->stdio_lines[0].max = run->stdio_lines[1].max = PLUGIN_HCLOG_LINE_MAX;
    if (run->folder == NULL || run->subsystem == NULL) {
        plugin_run_unref(run);
        return NULL;
    }
    return run;
}

void plugin_run_unref(struct plugin_run *run)
{
    if (atomic_fetch_sub(&run->refs, 1) != 1)
        return;
    cs_buf_free(&run->first);
    cs_buf_free(&run->err_lines.held);
    cs_free(run->folder);
    cs_free(run->subsystem);
    cs_free(run);
}

void plugin_run_use(struct plugin_run *run)
{
    atomic_fetch_add(&run->users, 1);
}

void plugin_run_leave(struct plugin_run *run)
{
    if (run == NULL || atomic_fetch_sub(&run->users, 1) != 1)
        return;
    plugin_runner_must(run->r, plugin_watch_close, run);
    rpc_client_free(run->client);
    plugin_run_unref(run);
}

/* --- Waiting for the process --- */

/* Under the lock of x. False: it is over. */
static bool wait_locked(struct plugin_external *x, int64_t until)
{
    int64_t now = cs_mono_ns(&cs_clock_system);
    if (now >= until)
        return false;
    int64_t next = until - now > POLL_NS ? now + POLL_NS : until;
    const struct timespec ts = {.tv_sec = next / CS_NS_PER_S, .tv_nsec = next % CS_NS_PER_S};
    (void)pthread_cond_timedwait(&x->changed, &x->lock, &ts);
    return true;
}

static cs_code await_handshake(struct plugin_run *run, struct cs_err *e)
{
    struct plugin_external *x = run->x;
    int64_t until = cs_mono_ns(&cs_clock_system) + PLUGIN_START_NS;
    cs_code rc = CS_OK;
    pthread_mutex_lock(&x->lock);
    while (!run->spoke && rc == CS_OK) {
        if (plugin_external_stopped(x))
            rc = cs_fail(e, CS_CANCELLED, "context canceled");
        else if (!wait_locked(x, until))
            rc = cs_fail(e, CS_DEADLINE, "timeout while waiting for plugin to start");
    }
    if (rc == CS_OK && run->spoken.code != CS_OK) {
        /* How it ended says more than that it did not speak. */
        until = cs_mono_ns(&cs_clock_system) + LAST_WORDS_NS;
        while (!run->exited && wait_locked(x, until))
            continue;
        char how[64];
        plugin_status_text(run->status, how);
        rc = cs_fail(e, run->spoken.code, "%s%s%s", run->spoken.text,
                     run->exited ? "\nplugin process exited: " : "", run->exited ? how : "");
    }
    pthread_mutex_unlock(&x->lock);
    return rc;
}

/* False: it is there still. */
static bool await_exit(struct plugin_run *run, int64_t wait_ns)
{
    struct plugin_external *x = run->x;
    int64_t until = cs_mono_ns(&cs_clock_system) + wait_ns;
    pthread_mutex_lock(&x->lock);
    while (!run->exited && wait_locked(x, until))
        continue;
    bool gone = run->exited;
    pthread_mutex_unlock(&x->lock);
    return gone;
}

/* --- Speaking to it --- */

static bool client_stopped(void *arg)
{
    struct plugin_run *run = arg;
    return !atomic_load(&run->closing) && plugin_external_stopped(run->x);
}

static cs_code connect_client(struct plugin_run *run, struct cs_err *e)
{
    const struct plugin_handshake *h = &run->handshake; /* does not change any more */
    const struct rpc_client_config cfg = {
        .unix_path = h->tcp ? NULL : h->address,
        .tcp_address = h->tcp ? h->address : NULL,
        .connect_ns = PLUGIN_CONNECT_NS,
        .max_message = PLUGIN_MESSAGE_MAX,
        .secret_messages = true, /* keys of SVIDs that are stored, configurations */
        .stopped = client_stopped,
        .arg = run,
    };
    return rpc_client_new(run->r->loop, &cfg, &run->client, e);
}

/* Opens a stream that is read on the loop. */
static cs_code open_watched(struct plugin_run *run, const char *path, const ProtobufCMessage *first,
                            bool close_send, struct rpc_stream **out, void (*ready)(void *arg),
                            struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
    struct cs_err ignored;
    CS_TRY(proto_pack(first, &msg, e));
    CS_TRY(rpc_stream_open(run->client, path, NULL, 0, 0, out, e));
    /* A plugin that does not know the service has ended the stream by now, and that is fine. */
    if (rpc_stream_send(*out, cs_buf_slice(&msg), &ignored) == CS_OK && close_send)
        (void)!rpc_stream_close_send(*out, &ignored);
    return rpc_stream_on_ready(*out, ready, run, e);
}

static cs_code open_streams(struct plugin_run *run, struct cs_err *e)
{
    char address[128];
    plugin_host_address(run->r, address);
    Goplugin__ConnInfo host = GOPLUGIN__CONN_INFO__INIT;
    host.service_id = HOST_SERVICES_ID;
    host.network = (char *)"unix";
    host.address = address;
    CS_TRY(open_watched(run, "/plugin.GRPCBroker/StartStream", &host.base, false, &run->broker,
                        plugin_watch_broker, e));
    const Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    return open_watched(run, "/plugin.GRPCStdio/StreamStdio", &empty.base, true, &run->stdio,
                        plugin_watch_stdio, e);
}

/* One allocation: the pointers, then the texts. */
static cs_code copy_names(const Initv1__InitResponse *resp, char ***out, size_t *count, struct cs_err *e)
{
    size_t n = resp->n_plugin_service_names, bytes = 0;
    if (n > PLUGIN_SERVICES_MAX)
        return cs_fail(e, CS_INVALID, "plugin offers more than %d services", PLUGIN_SERVICES_MAX);
    for (size_t i = 0; i < n; i++)
        bytes += strlen(resp->plugin_service_names[i]) + 1;
    char **names = cs_malloc((n + 1) * sizeof *names + bytes);
    if (names == NULL)
        return cs_nomem(e);
    char *text = (char *)(names + n + 1);
    for (size_t i = 0; i < n; i++) {
        names[i] = text;
        text = stpcpy(text, resp->plugin_service_names[i]) + 1;
    }
    names[n] = NULL;
    *out = names;
    *count = n;
    return CS_OK;
}

static cs_code init(struct plugin_run *run, char ***services, size_t *count, struct cs_err *e)
{
    const char *names[PLUGIN_HOST_SERVICES_MAX];
    Initv1__InitRequest req = INITV1__INIT_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    req.n_host_service_names = plugin_host_names(run->x->env, names);
    req.host_service_names = (char **)names;
    CS_TRY(plugin_run_unary(run, "/" PLUGIN_INIT_SERVICE "/Init", &req.base,
                            &initv1__init_response__descriptor, a, &m, PLUGIN_INIT_NS, e));
    return copy_names((const void *)m, services, count, e);
}

/* SPIRE's plugins are reached over gRPC, and so are its users used to the words that makes of an error. */
static cs_code as_status(cs_code rc, struct cs_err *e)
{
    if (rc == CS_OK || rc == CS_CANCELLED || e == NULL)
        return rc;
    const struct cs_err plain = *e;
    return cs_fail(e, rc, "rpc error: code = %s desc = %s", cs_code_name(rc), plain.text);
}

static cs_code meet(struct plugin_run *run, char ***services, size_t *count, struct cs_err *e)
{
    CS_TRY(connect_client(run, e));
    CS_TRY(open_streams(run, e));
    return init(run, services, count, e);
}

/* --- Start and end --- */

static cs_code launch(struct plugin_run *run, struct cs_err *e)
{
    struct plugin_external *x = run->x;
    const struct plugin_program p = {.path = x->path, .checksum = x->has_checksum ? x->checksum : NULL};
    struct plugin_launch l = {.run = run, .e = e};
    if (mkdir(run->folder, 0700) != 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "failed to make folder %s", run->folder);
    CS_TRY(plugin_program_check(&p, &run->program, e));
    CS_TRY(plugin_runner_do(x->r, plugin_watch_launch, &l, e));
    CS_TRY(l.code);
    return await_handshake(run, e);
}

cs_code plugin_run_start(struct plugin_external *x, struct plugin_run **out, char ***services, size_t *count,
                         struct cs_err *e)
{
    *out = NULL;
    struct plugin_run *run = run_new(x);
    if (run == NULL)
        return cs_nomem(e);
    cs_code rc = launch(run, e);
    if (rc != CS_OK)
        (void)cs_wrap(e, "failed to launch plugin");
    else
        rc = as_status(meet(run, services, count, e), e);
    if (rc == CS_OK) {
        *out = run;
        return CS_OK;
    }
    plugin_run_stop(run, false);
    plugin_run_leave(run);
    return rc;
}

void plugin_run_kill(struct plugin_run *run)
{
    struct plugin_external *x = run->x;
    pthread_mutex_lock(&x->lock);
    pid_t group = run->exited ? 0 : atomic_load(&x->group);
    if (group > 0)
        (void)kill(-group, SIGKILL);
    pthread_mutex_unlock(&x->lock);
}

static void say_goodbye(struct plugin_run *run)
{
    const struct cs_log *log = &run->x->env->log;
    const Initv1__DeinitRequest req = INITV1__DEINIT_REQUEST__INIT;
    const Goplugin__Empty empty = GOPLUGIN__EMPTY__INIT;
    struct cs_err err;
    ProtobufCMessage *m = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return;
    cs_code rc = plugin_run_unary(run, "/" PLUGIN_INIT_SERVICE "/Deinit", &req.base,
                                  &initv1__deinit_response__descriptor, a, &m, PLUGIN_DEINIT_NS, &err);
    if (rc == CS_OK || rc == CS_UNIMPLEMENTED) {
        cs_log_debug(log, "Plugin deinitialized");
    } else {
        (void)as_status(rc, &err);
        cs_log_error(log, "Failed to deinitialize plugin", KV_ERR(&err));
    }
    plugin_runner_must(run->r, plugin_watch_close, run);
    (void)!plugin_run_unary(run, "/plugin.GRPCController/Shutdown", &empty.base, &goplugin__empty__descriptor,
                            a, &m, PLUGIN_EXIT_NS, NULL);
}

void plugin_run_stop(struct plugin_run *run, bool graceful)
{
    struct plugin_external *x = run->x;
    atomic_store(&run->closing, true);
    if (run->program >= 0)
        (void)close(run->program);
    run->program = -1;
    pthread_mutex_lock(&x->lock);
    bool running = !run->exited && atomic_load(&x->group) != 0;
    pthread_mutex_unlock(&x->lock);
    if (!running) {
        (void)rmdir(run->folder); /* there was no process that took it along */
        return;
    }
    if (graceful) {
        say_goodbye(run);
        if (await_exit(run, PLUGIN_EXIT_NS))
            return;
        cs_log_warn(&x->env->log, "plugin failed to exit gracefully");
    }
    plugin_run_kill(run);
    while (!await_exit(run, PLUGIN_START_NS))
        cs_log_error(&x->env->log, "Plugin process does not end, although it was killed");
}
