/* SPDX-License-Identifier: Apache-2.0 */
#include "server/run.h"

#include "base/coll.h"
#include "base/mem.h"
#include "config/plugin_config.h"
#include "config/server_config.h"
#include "datastore/datastore.h"
#include "server/bundlefeed.h"
#include "server/host.h"
#include "server/server.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* No write for the group, nothing at all for others. */
#define UMASK_MIN 027

/* --- The process --- */

static void set_umask(const struct cs_log *log)
{
    mode_t was = umask(UMASK_MIN);
    mode_t now = was | UMASK_MIN;
    if (now != was) {
        CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
        cs_buf_printf(&msg, "Current umask %04o is too permissive; setting umask %04o", (unsigned)was,
                      (unsigned)now);
        cs_log_warn(log, cs_buf_cstr(&msg));
    }
    umask(now);
}

/* Nobody looks into our memory, and a peer that goes away is no reason to end. */
static void set_process(const struct cs_log *log)
{
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        cs_log_warn(log, "Could not exclude the process from core dumps");
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
}

/* --- Signals, on the loop --- */

static void on_end(int signum, void *arg)
{
    (void)signum;
    struct server *s = arg;
    atomic_store(&s->stopping, true);
    loop_stop(s->loop);
}

static void on_reopen(int signum, void *arg)
{
    (void)signum;
    struct server *s = arg;
    struct cs_err err;
    if (cs_log_sink_reopen(s->sink, &err) != CS_OK)
        cs_log_error(&s->log, "Failed to rotate log after signal", KV_ERR(&err));
}

static void reconfigure(void *arg)
{
    catalog_reconfigure(((struct server *)arg)->catalog);
}

static void on_reconfigure(int signum, void *arg)
{
    (void)signum;
    struct server *s = arg;
    if (!loop_pool_submit(s->pool, reconfigure, s))
        cs_log_warn(&s->log, "Too busy to reconfigure plugins");
}

static cs_code catch_signals(struct server *s, struct cs_err *e)
{
    CS_TRY(loop_on_signal(s->loop, SIGTERM, on_end, s, e));
    CS_TRY(loop_on_signal(s->loop, SIGINT, on_end, s, e));
    CS_TRY(loop_on_signal(s->loop, SIGUSR2, on_reopen, s, e));
    return loop_on_signal(s->loop, SIGUSR1, on_reconfigure, s, e);
}

/* Making RSA keys can take many seconds, and nobody waits that long for us to end. While the server is
 * built the signals are held back, so they are pending then. */
static bool stop_asked(void *arg)
{
    const struct server *s = arg;
    sigset_t pending;
    return atomic_load(&s->stopping) || (sigpending(&pending) == 0 && (sigismember(&pending, SIGTERM) == 1 ||
                                                                       sigismember(&pending, SIGINT) == 1));
}

/* A plugin that hangs holds nobody up for longer than calls may take to end. While the server is built nobody
 * waits at all. */
static bool plugins_to_stop(void *arg)
{
    const struct server *s = arg;
    int64_t ends = atomic_load(&s->grace_ends);
    if (ends != 0)
        return cs_mono_ns(s->clock) >= ends;
    return !atomic_load(&s->built) && stop_asked(arg);
}

/* --- Running --- */

static cs_code log_configured(const struct server *s, struct cs_err *e)
{
    size_t n = s->cfg->admin_ids.len;
    CS_CLEANUP(cs_freep) const char **ids = cs_calloc(n + 1, sizeof *ids);
    if (ids == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++)
        ids[i] = s->cfg->admin_ids.at[i];
    cs_log_info(&s->log, "Configured", (struct cs_kv){.key = "admin_ids", .kind = CS_KV_STRS, .strs = ids},
                KV("data_dir", s->cfg->data_dir),
                KV("launch_log_level", cs_level_name(cs_log_sink_level(s->sink))),
                KV("version", DS_CODE_VERSION));
    return CS_OK;
}

static cs_code build_unless_stopped(struct server *s, struct cs_err *e)
{
    sigset_t ends, old;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    s->stop = (struct crypto_stop){stop_asked, s};
    s->plugin_stop = (struct crypto_stop){plugins_to_stop, s};
    pthread_sigmask(SIG_BLOCK, &ends, &old);
    cs_code rc = server_build(s, e);
    if (stop_asked(s))
        atomic_store(&s->stopping, true);
    atomic_store(&s->built, true);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static cs_code run(struct server *s, struct cs_err *e)
{
    CS_TRY(log_configured(s, e));
    CS_TRY(loop_new("main", &s->loop, e));
    CS_TRY(catch_signals(s, e));
    cs_code rc = build_unless_stopped(s, e);
    if (rc == CS_CANCELLED && stop_asked(s))
        return CS_OK;
    CS_TRY(rc);
    CS_TRY(server_listen(s, e));
    bundlefeed_start(s->feed);
    loop_run(s->loop);
    return atomic_load(&s->failed) ? cs_fail(e, s->fatal.code, "%s", s->fatal.text) : CS_OK;
}

/* From here on everything comes to its end, plugins too. */
static void close_all(struct server *s)
{
    atomic_store(&s->stopping, true);
    atomic_store(&s->grace_ends, cs_mono_ns(s->clock) + (s->listening ? SERVER_GRACE_NS : 0));
    if (s->feed != NULL)
        bundlefeed_stop(s->feed);
    server_close(s);
}

cs_code server_run(const struct server_config *cfg, struct cs_log_sink *sink, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    struct server s = {.cfg = cfg, .sink = sink, .clock = &cs_clock_system, .log = {.sink = sink}};
    set_process(&s.log);
    set_umask(&s.log);
    cs_code rc = run(&s, e);
    close_all(&s);
    server_free(&s);
    if (rc == CS_OK) {
        cs_log_info(&s.log, "Server stopped gracefully");
        return CS_OK;
    }
    cs_log_error(&s.log, "Fatal run error", KV_ERR(e));
    cs_log_error(&s.log, "Server crashed", KV_ERR(e));
    return rc;
}

/* --- Validation --- */

static void validate_datastore(const struct server_config *cfg,
                               void (*note)(void *arg, const char *plugin, const char *text), void *arg)
{
    static const char id[] = "DataStore \"sql\"";
    const struct config_plugin *plugin = NULL; /* the first, whatever its name: that is for run to refuse */
    for (size_t i = 0; i < cfg->plugins.len && plugin == NULL; i++)
        if (strcmp(cfg->plugins.at[i].type, "DataStore") == 0)
            plugin = &cfg->plugins.at[i];
    if (plugin == NULL) {
        note(arg, id, "'datastore' must be configured");
        return;
    }
    struct cs_err err;
    struct cs_slice text;
    struct config_sql sql;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL || config_plugin_text(plugin, a, &text, &err) != CS_OK ||
        config_read_sql(text, a, &sql, &err) != CS_OK)
        note(arg, id, a != NULL ? err.text : "no memory");
}

cs_code server_validate(const struct server_config *cfg, struct cs_log_sink *sink,
                        void (*note)(void *arg, const char *plugin, const char *text), void *arg,
                        struct cs_err *e)
{
    struct server s = {.cfg = cfg, .sink = sink, .clock = &cs_clock_system, .log = {.sink = sink}};
    validate_datastore(cfg, note, arg);
    CS_TRY(server_host_new(&s.host, e)); /* plugins see that the services are there */
    struct catalog_config catalog = server_catalog_config(&s);
    cs_code rc = catalog_validate(&catalog, note, arg, e);
    server_host_free(s.host);
    return rc;
}
