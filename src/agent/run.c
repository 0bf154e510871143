/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/run.h"

#include "agent/agent.h"
#include "agent/backoff.h"
#include "agent/enclave.h"
#include "agent/loopback.h"
#include "base/file.h"
#include "base/logfields.h"
#include "base/text.h"
#include "base/version.h"
#include "rpc/health_http.h"
#include "rpc/proxy.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define UMASK_MIN 0027
#define DIR_MODE 0755
#define COMMAND_END_NS (INT64_C(10) * CS_NS_PER_S) /* for the workload to end after SIGTERM */
#define ATTEST_RETRY_NS (INT64_C(5) * CS_NS_PER_S)
#define ATTEST_ELAPSED_NS (INT64_C(60) * CS_NS_PER_S)
#define ATTEST_ELAPSED_REBOOTSTRAP_NS (INT64_C(86400) * CS_NS_PER_S)

/* --- Stopping, and what wakes the manager --- */

/* Any thread; ends what the manager waits for, and calls of external plugins (a->plugin_stop). */
static void stop(struct agent *a)
{
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    if (a->attest_link != NULL)
        agent_link_stop(a->attest_link);
    pthread_cond_broadcast(&a->wake);
    pthread_mutex_unlock(&a->lock);
    agent_link_stop(a->link);
}

static void on_wanted(void *arg)
{
    struct agent *a = arg;
    pthread_mutex_lock(&a->lock);
    a->wanted = true;
    pthread_cond_broadcast(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

/* The workload hears it first; its end is then ours. */
static void on_terminate(int signum, void *arg)
{
    struct agent *a = arg;
    pthread_mutex_lock(&a->lock);
    bool passed_on = agent_command_signal(&a->command, signum);
    pthread_mutex_unlock(&a->lock);
    if (!passed_on)
        stop(a);
}

/* Signals that mean nothing to the agent itself. */
static void on_others_signal(int signum, void *arg)
{
    struct agent *a = arg;
    pthread_mutex_lock(&a->lock);
    (void)agent_command_signal(&a->command, signum);
    pthread_mutex_unlock(&a->lock);
}

static bool has_external(const struct config_plugins *p)
{
    for (size_t i = 0; i < p->len; i++)
        if (p->at[i].cmd[0] != '\0')
            return true;
    return false;
}

static void on_child(int signum, void *arg)
{
    struct agent *a = arg;
    (void)signum;
    pthread_mutex_lock(&a->lock);
    bool ended = agent_command_reap(&a->command, has_external(&a->cfg->plugins));
    int status = a->command.status;
    pthread_cond_broadcast(&a->wake);
    pthread_mutex_unlock(&a->lock);
    if (!ended)
        return;
    cs_log_info(&a->log, "The workload ended", KV_INT("status", status));
    stop(a);
}

/* Waits until on_child, on the main loop, has seen it. */
static void end_command(struct agent *a)
{
    static const int signals[] = {SIGTERM, SIGKILL};
    pthread_mutex_lock(&a->lock);
    for (size_t i = 0; i < 2 && agent_command_signal(&a->command, signals[i]); i++) {
        int64_t until_ns = cs_mono_ns(a->clock) + COMMAND_END_NS;
        const struct timespec until = {.tv_sec = until_ns / CS_NS_PER_S, .tv_nsec = until_ns % CS_NS_PER_S};
        while (a->command.pid > 0 && pthread_cond_timedwait(&a->wake, &a->lock, &until) == 0)
            continue;
    }
    pthread_mutex_unlock(&a->lock);
}

static void on_reconfigure(int signum, void *arg)
{
    (void)signum;
    agent_plugins_reconfigure(arg);
}

static void on_reopen(int signum, void *arg)
{
    struct agent *a = arg;
    struct cs_err e;
    (void)signum;
    if (cs_log_sink_reopen(a->sink, &e) != CS_OK)
        cs_log_error(&a->log, "failed to rotate log after signal", KV_ERR(&e));
}

/* --- The process --- */

static void harden(struct agent *a)
{
    mode_t old = umask(UMASK_MIN);
    mode_t mask = old | UMASK_MIN;
    if (mask != old) {
        char msg[96];
        (void)snprintf(msg, sizeof msg, "Current umask %#04o is too permissive; setting umask %#04o",
                       (unsigned)old, (unsigned)mask);
        cs_log_warn(&a->log, msg);
    }
    (void)umask(mask);
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        cs_log_warn(&a->log, "Could not take the process out of core dumps");
}

/* The folder of a socket, if it is not there. */
static cs_code make_folder(struct agent *a, const char *socket, const char *msg, struct cs_err *e)
{
    const char *slash = strrchr(socket, '/');
    if (slash == NULL || slash == socket)
        return CS_OK;
    CS_CLEANUP(cs_freep) char *dir = cs_strndup(socket, (size_t)(slash - socket));
    struct stat st;
    if (dir == NULL)
        return cs_nomem(e);
    if (stat(dir, &st) == 0 || errno != ENOENT)
        return CS_OK;
    cs_log_info(&a->log, msg, KV("dir", dir));
    return cs_mkdir_all(dir, DIR_MODE, e);
}

static cs_code prepare(struct agent *a, struct cs_err *e)
{
    const struct agent_config *cfg = a->cfg;
    CS_TRY(make_folder(a, cfg->socket_path, "Creating spire agent UDS directory", e));
    harden(a);
    CS_TRY(make_folder(a, cfg->admin_socket_path, "Creating admin UDS directory", e));
    cs_log_info(&a->log, "Starting agent", KV("data_dir", cfg->data_dir), KV(CS_F_VERSION, CS_SPIRE_VERSION));
    if (cfg->enclave.on)
        agent_loopback_up(&a->log);
    CS_TRY(cs_mkdir_all(cfg->data_dir, DIR_MODE, e));
    if (agent_storage_open(cfg->data_dir, &a->storage, e) != CS_OK)
        return cs_wrap(e, "failed to open storage");
    agent_bootstrap_init(&a->bootstrap, cfg, a->clock, a->log, a->storage);
    return CS_OK;
}

/* --- Attestation with retries --- */

static cs_code check_rebootstrap(struct agent *a, struct cs_err *e)
{
    static const char msg[] =
        "you have requested rebootstrap support but the NodeAttestor plugin or the spire server "
        "configuration is not allowing it";
    if (a->rebootstrap_mode == AGENT_REBOOTSTRAP_NEVER || a->storage->svid.count == 0 ||
        a->storage->reattestable)
        return CS_OK;
    if (a->rebootstrap_mode == AGENT_REBOOTSTRAP_ALWAYS)
        return cs_fail(e, CS_PRECONDITION, "%s", msg);
    CS_CLEANUP(cs_freep) char *text = cs_asprintf("%s. Disabling", msg);
    cs_log_warn(&a->log, text != NULL ? text : msg);
    a->rebootstrap_mode = AGENT_REBOOTSTRAP_NEVER;
    return CS_OK;
}

static cs_code attest_once(struct agent *a, struct agent_failure *failure, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain bundle = {0};
    bool insecure = false;
    *failure = (struct agent_failure){0};
    if (a->storage->bundle.count == 0 &&
        agent_bootstrap_bundle(&a->bootstrap, &bundle, &insecure, e) != CS_OK)
        return e->code == CS_DENIED ? CS_UNAVAILABLE : e->code; /* only the server's word ends the agent */
    return agent_attest(a, &bundle, insecure, failure, e);
}

/* The server's certificate is not under the bundle that we have. */
static cs_code distrust(struct agent *a, struct cs_err *e)
{
    int64_t left = 0;
    if (a->bootstrap.use != AGENT_USE_REBOOTSTRAP) {
        cs_log_info(&a->log, "Trust Bundle and Server don't agree, bootstrapping again");
        return CS_OK;
    }
    if (a->rebootstrap_mode == AGENT_REBOOTSTRAP_NEVER)
        return CS_OK;
    CS_TRY(agent_bootstrap_delay(&a->bootstrap, &left, e));
    if (left > 0) {
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        cs_duration_format(&text, left);
        cs_log_info(&a->log, "Trust Bundle and Server don't agree, ignoring for now",
                    KV("time_left", cs_buf_cstr(&text)));
        return CS_OK;
    }
    cs_log_warn(&a->log, "Trust Bundle and Server don't agree, rebootstrapping");
    return agent_storage_set_bundle(a->storage, NULL, e);
}

/* CS_OK: wait and try again. */
static cs_code attest_failed(struct agent *a, cs_code rc, const struct agent_failure *failure,
                             struct agent_backoff *retry, struct cs_err *e)
{
    struct cs_err fault;
    if (agent_stopping(a))
        return cs_fail(e, CS_CANCELLED, "context canceled");
    if (failure->unknown_authority)
        CS_TRY(distrust(a, &fault));
    int64_t wait = rc == CS_DENIED ? AGENT_BACKOFF_STOP : agent_backoff_next(retry);
    if (wait == AGENT_BACKOFF_STOP)
        return rc;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    cs_duration_format(&text, wait);
    cs_log_warn(&a->log, "Failed to retrieve attestation result", KV_ERR(e),
                KV("retry_interval", cs_buf_cstr(&text)));
    return agent_wait(a, cs_mono_ns(a->clock) + wait, NULL) ? CS_OK
                                                            : cs_fail(e, CS_CANCELLED, "context canceled");
}

static cs_code attest(struct agent *a, struct cs_err *e)
{
    struct agent_backoff retry;
    CS_TRY(check_rebootstrap(a, e));
    agent_backoff_init(&retry, a->clock, ATTEST_RETRY_NS, 0,
                       a->rebootstrap_mode == AGENT_REBOOTSTRAP_NEVER ? ATTEST_ELAPSED_NS
                                                                      : ATTEST_ELAPSED_REBOOTSTRAP_NS);
    for (;;) {
        struct agent_failure failure;
        cs_code rc = attest_once(a, &failure, e);
        if (rc == CS_OK)
            break;
        CS_TRY(attest_failed(a, rc, &failure, &retry, e));
    }
    CS_TRY(agent_bootstrap_success(&a->bootstrap, e));
    if (!a->self.reattestable && !a->cfg->enclave.on && strcmp(a->km_name, "memory") == 0)
        cs_log_warn(&a->log,
                    "Node attestation is not reattestable and the 'memory' key manager is in use; if the "
                    "agent process is restarted, it will be unable to obtain a new SVID and will need to be "
                    "manually evicted to be able to re-attest.");
    return CS_OK;
}

/* --- The manager's thread --- */

static cs_code connect_self(struct agent *a, struct cs_err *e)
{
    agent_link_set_bundle(a->link, a->bundle);
    return agent_link_set_identity(a->link, &a->self.svid, a->self.key, e);
}

static cs_code work(struct agent *a, struct cs_err *e)
{
    CS_TRY(agent_plugins_load(a, e));
    CS_TRY(attest(a, e));
    CS_TRY(connect_self(a, e));
    CS_TRY(agent_manager_init(a, e));
    if (a->cfg->enclave.on)
        CS_TRY(agent_enclave_new(a, &a->enclave, e));
    CS_TRY(agent_enclave_tick(a->enclave, e));
    CS_TRY(agent_endpoints_start(a, &a->endpoints, e));
    atomic_store(&a->started, true);
    CS_TRY(agent_enclave_serve(a->enclave, e));
    return agent_manager_run(a, e);
}

static void *manager_main(void *arg)
{
    struct agent *a = arg;
    a->fatal_code = work(a, &a->fatal);
    if (a->fatal_code == CS_CANCELLED && agent_stopping(a))
        a->fatal_code = CS_OK;
    atomic_store(&a->started, false);
    stop(a);
    end_command(a);
    /* Streams end and sockets go while the main loop still carries the calls to the server. */
    agent_link_stop(a->link);
    agent_endpoints_stop(a->endpoints);
    agent_link_release(a->link);
    loop_stop(a->loop);
    return NULL;
}

/* --- Health listener --- */

static bool health_live(void *arg, struct cs_buf *json)
{
    (void)arg;
    cs_buf_add_str(json, "{\"agent\":{}}");
    return true;
}

static bool health_ready(void *arg, struct cs_buf *json)
{
    const struct agent *a = arg;
    bool ready = atomic_load(&a->started);
    cs_buf_add_str(json, ready ? "{\"agent\":{}}"
                               : "{\"agent\":{\"make_new_x509_err\":\"workload api is unavailable\"}}");
    return ready;
}

/* As with SPIRE a listener that cannot be opened is logged, and the agent goes on. */
static struct rpc_health_http *start_health(struct agent *a)
{
    const struct config_health *h = &a->cfg->health;
    struct cs_log log = cs_log_sub(a->log, "health");
    struct rpc_health_http *out = NULL;
    struct cs_err e;
    if (!h->listener_enabled)
        return NULL;
    const struct rpc_health_http_config cfg = {
        .address = h->bind_address,
        .port = h->bind_port,
        .live_path = h->live_path,
        .ready_path = h->ready_path,
        .live = health_live,
        .ready = health_ready,
        .arg = a,
    };
    CS_CLEANUP(cs_freep) char *address = cs_asprintf("%s:%s", h->bind_address, h->bind_port);
    cs_log_info(&log, "Serving health checks", KV(CS_F_ADDRESS, address));
    if (rpc_health_http_start(a->loop, &cfg, &out, &e) != CS_OK)
        cs_log_warn(&log, "Error serving health checks", KV_ERR(&e));
    return out;
}

/* --- Life --- */

static void free_raw(void *raw)
{
    cs_buf_free(raw);
    cs_free(raw);
}

static cs_code make_parts(struct agent *a, struct cs_err *e)
{
    const struct agent_config *cfg = a->cfg;
    struct rpc_proxy proxy;
    if (agent_server_proxy(cfg) != NULL) /* a wrong one is no reason to try for a minute */
        CS_TRY(rpc_proxy_parse(agent_server_proxy(cfg), &proxy, e));
    bool v6 = strchr(cfg->server_address, ':') != NULL;
    a->server = cs_asprintf("%s%s%s:%u", v6 ? "[" : "", cfg->server_address, v6 ? "]" : "",
                            (unsigned)cfg->server_port);
    a->raw_bundles = cs_map_new(free_raw);
    if (a->server == NULL || a->raw_bundles == NULL)
        return cs_nomem(e);
    CS_TRY(loop_new("main", &a->loop, e));
    const struct agent_cache_config cache = {
        .log = cs_log_sub(a->log, "cache_manager"),
        .clock = a->clock,
        .trust_domain = cfg->trust_domain,
        .max_svids = cfg->x509_svid_cache_max_size,
        .selector = cfg->enclave.on ? AGENT_ENCLAVE_SELECTOR : NULL,
        .wanted = on_wanted,
        .arg = a,
    };
    CS_TRY(agent_cache_new(&cache, &a->cache, e));
    CS_TRY(agent_jwt_cache_new(cfg->jwt_svid_cache_max_size, &a->jwts, e));
    const struct agent_link_config link = {
        .loop = a->loop,
        .clock = a->clock,
        .log = cs_log_sub(a->log, "manager"),
        .address = a->server,
        .proxy = agent_server_proxy(cfg),
        .trust_domain = cfg->trust_domain,
    };
    return agent_link_new(&link, &a->link, e);
}

static cs_code watch_signals(struct agent *a, struct cs_err *e)
{
    CS_TRY(loop_on_signal(a->loop, SIGINT, on_terminate, a, e));
    CS_TRY(loop_on_signal(a->loop, SIGTERM, on_terminate, a, e));
    if (a->cfg->enclave.command.len > 0) {
        CS_TRY(loop_on_signal(a->loop, SIGCHLD, on_child, a, e));
        CS_TRY(loop_on_signal(a->loop, SIGHUP, on_others_signal, a, e));
        CS_TRY(loop_on_signal(a->loop, SIGQUIT, on_others_signal, a, e));
    }
    CS_TRY(loop_on_signal(a->loop, SIGUSR1, on_reconfigure, a, e));
    CS_TRY(loop_on_signal(a->loop, SIGUSR2, on_reopen, a, e));
    (void)signal(SIGPIPE, SIG_IGN);
    return CS_OK;
}

static cs_code run(struct agent *a, struct cs_err *e)
{
    CS_TRY(prepare(a, e));
    CS_TRY(watch_signals(a, e));
    struct rpc_health_http *health = start_health(a);
    /* The manager must not get the signals that the main loop waits for. */
    sigset_t all;
    sigset_t old;
    pthread_t manager;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&manager, NULL, manager_main, a);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        rpc_health_http_free(health);
        return cs_fail_errno(e, CS_INTERNAL, rc, "could not start the manager's thread");
    }
    (void)pthread_setname_np(manager, "manager");
    loop_run(a->loop);
    (void)pthread_join(manager, NULL);
    rpc_health_http_free(health);
    if (a->fatal_code != CS_OK && e != NULL)
        *e = a->fatal;
    return a->fatal_code;
}

static void agent_clear(struct agent *a)
{
    agent_enclave_free(a->enclave);
    agent_link_free(a->link);
    agent_jwt_cache_free(a->jwts);
    agent_cache_free(a->cache);
    if (a->loop != NULL)
        loop_free(a->loop);
    x509_chain_free(&a->self.svid);
    crypto_signer_unref(a->self.key);
    spiffe_bundle_unref(a->bundle);
    cs_map_free(a->raw_bundles);
    agent_bootstrap_free(&a->bootstrap);
    agent_storage_free(a->storage);
    agent_plugins_free(a);
    cs_free(a->server);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
}

static void init_sync(struct agent *a)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* cs_clock_system's monotonic clock */
    (void)pthread_cond_init(&a->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&a->lock, NULL);
}

cs_code agent_run(const struct agent_config *cfg, struct cs_log_sink *sink, int *status, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    struct agent a = {
        .cfg = cfg,
        .sink = sink,
        .log = {.sink = sink},
        .mlog = cs_log_sub((struct cs_log){.sink = sink}, "manager"),
        .clock = &cs_clock_system,
        .rebootstrap_mode = cfg->rebootstrap_mode,
    };
    init_sync(&a);
    cs_code rc = make_parts(&a, e);
    if (rc == CS_OK)
        rc = run(&a, e);
    *status = a.command.status;
    agent_clear(&a);
    struct cs_log log = {.sink = sink};
    if (rc == CS_OK)
        cs_log_info(&log, "Agent stopped gracefully");
    else
        cs_log_error(&log, "Agent crashed", KV_ERR(e));
    return rc;
}
