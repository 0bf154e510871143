/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin over all its runs: the first start, which may fail, and then one start after the other for as long
 * as it is wanted. SPIRE starts a plugin once only.
 */
#include "base/text.h"
#include "crypto/key.h"
#include "plugin/external_internal.h"

#include "health.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* The name go-plugin gives itself at grpc.health.v1. */
#define HEALTH_NAME "plugin"

/* --- Small things --- */

bool plugin_external_stopped(const struct plugin_external *x)
{
    const struct crypto_stop *stop = x->env->stop;
    return atomic_load(&x->ending) || atomic_load(&x->r->stopping) ||
           (stop != NULL && stop->asked(stop->arg));
}

const char *plugin_external_name(const struct plugin_external *x)
{
    return x->name;
}

bool plugin_external_offers(const struct plugin_external *x, const char *service)
{
    struct plugin_external *w = (struct plugin_external *)x; /* for the lock */
    bool found = false;
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < x->service_count && !found; i++)
        found = strcmp(x->services[i], service) == 0;
    pthread_mutex_unlock(&w->lock);
    return found;
}

/* As Go prints a list of strings with %q. */
static void list_services(const struct plugin_external *x, struct cs_buf *out)
{
    cs_buf_add_str(out, "[");
    for (size_t i = 0; i < x->service_count; i++) {
        cs_buf_add_str(out, i > 0 ? " " : "");
        cs_quote(out, cs_slice_str(x->services[i]));
    }
    cs_buf_add_str(out, "]");
}

cs_code plugin_external_bind(const struct plugin_external *x, const char *service, struct cs_err *e)
{
    struct plugin_external *w = (struct plugin_external *)x; /* for the lock */
    if (!plugin_external_offers(x, service)) {
        CS_CLEANUP(cs_buf_free) struct cs_buf list = {0};
        pthread_mutex_lock(&w->lock);
        list_services(x, &list);
        pthread_mutex_unlock(&w->lock);
        return cs_fail(e, CS_INVALID, "no supported plugin interface found in: %s", cs_buf_cstr(&list));
    }
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < x->service_count; i++)
        if (strcmp(x->services[i], service) != 0 && strcmp(x->services[i], PLUGIN_CONFIG_SERVICE) != 0)
            cs_log_warn(&x->env->log, "Unsupported plugin service found",
                        KV("plugin_service", x->services[i]));
    pthread_mutex_unlock(&w->lock);
    return CS_OK;
}

/* --- Pauses between starts --- */

static int64_t pause_ns(int64_t first_ns, unsigned failures)
{
    int64_t ns = first_ns;
    uint32_t random = 0;
    while (failures-- > 0 && ns < PLUGIN_PAUSE_MAX_NS)
        ns *= 2;
    if (ns > PLUGIN_PAUSE_MAX_NS)
        ns = PLUGIN_PAUSE_MAX_NS;
    /* a quarter more or less, so that plugins that fell together do not rise together */
    if (cs_random(&random, sizeof random, NULL) != CS_OK)
        return ns;
    return ns - ns / 4 + (int64_t)((double)ns / 2 * random / UINT32_MAX);
}

/* [loop] */
static void schedule_start(struct plugin_external *x)
{
    pthread_mutex_lock(&x->lock);
    unsigned failures = x->failures;
    x->failures += x->failures < 30;
    pthread_mutex_unlock(&x->lock);
    int64_t ns = pause_ns(x->r->pause_ns, failures);
    CS_CLEANUP(cs_buf_free) struct cs_buf pause = {0};
    cs_duration_format(&pause, ns / CS_NS_PER_MS * CS_NS_PER_MS);
    cs_log_warn(&x->env->log, "Plugin will be started again", KV("pause", cs_buf_cstr(&pause)));
    loop_timer_arm(x->timer, ns, 0);
}

void plugin_external_on_exit(struct plugin_external *x, struct plugin_run *run)
{
    pthread_mutex_lock(&x->lock);
    bool mine = x->run == run && !atomic_load(&x->ending);
    if (mine) {
        char how[64];
        plugin_status_text(run->status, how);
        snprintf(x->why, sizeof x->why, "%s%s", run->hung ? "it did not answer any more; " : "", how);
        x->old = run;
        x->run = NULL;
        if (cs_mono_ns(&cs_clock_system) - x->up_since >= PLUGIN_STEADY_NS)
            x->failures = 0;
    }
    pthread_mutex_unlock(&x->lock);
    if (mine)
        schedule_start(x);
}

/* --- Jobs of the pool --- */

static void set_services(struct plugin_external *x, char **services, size_t count)
{
    pthread_mutex_lock(&x->lock);
    char **old = x->services;
    x->services = services;
    x->service_count = count;
    pthread_mutex_unlock(&x->lock);
    cs_free(old);
}

/* The configuration of the moment, until it did not change meanwhile. Then the run is the plugin's. */
static cs_code configure_and_adopt(struct plugin_external *x, struct plugin_run *run, struct cs_err *e)
{
    for (;;) {
        CS_CLEANUP(cs_buf_wipe) struct cs_buf data = {0};
        pthread_mutex_lock(&x->lock);
        bool configured = x->configured;
        unsigned count = x->config_count;
        cs_buf_add_slice(&data, cs_buf_slice(&x->config));
        pthread_mutex_unlock(&x->lock);
        if (!cs_buf_ok(&data))
            return cs_nomem(e);
        if (configured && plugin_run_configure(run, cs_buf_slice(&data), e) != CS_OK)
            return cs_wrap(e, "failed to configure plugin");
        pthread_mutex_lock(&x->lock);
        bool same = count == x->config_count;
        cs_code rc = run->exited ? cs_fail(e, CS_UNAVAILABLE, "plugin process exited") : CS_OK;
        if (same && rc == CS_OK) {
            x->run = run;
            x->up_since = cs_mono_ns(&cs_clock_system);
        }
        pthread_mutex_unlock(&x->lock);
        if (same || rc != CS_OK)
            return rc;
    }
}

static void arm_health(void *arg)
{
    struct plugin_external *x = arg;
    loop_timer_arm(x->timer, x->r->health_every_ns, 0);
}

static void arm_start(void *arg)
{
    schedule_start(arg);
}

static void start_again(struct plugin_external *x)
{
    struct plugin_run *run = NULL;
    char **services = NULL;
    size_t count = 0;
    struct cs_err err = {0};
    cs_code rc = plugin_run_start(x, &run, &services, &count, &err);
    if (rc == CS_OK) {
        set_services(x, services, count);
        rc = configure_and_adopt(x, run, &err);
        if (rc != CS_OK) {
            plugin_run_stop(run, false);
            plugin_run_leave(run);
        }
    }
    if (rc == CS_OK) {
        cs_log_info(&x->env->log, "Plugin started again");
        plugin_runner_must(x->r, arm_health, x);
        return;
    }
    if (plugin_external_stopped(x))
        return;
    cs_log_error(&x->env->log, "Failed to start plugin again", KV_ERR(&err));
    pthread_mutex_lock(&x->lock);
    snprintf(x->why, sizeof x->why, "%.*s", (int)sizeof x->why - 1, err.text);
    pthread_mutex_unlock(&x->lock);
    plugin_runner_must(x->r, arm_start, x);
}

/* Any answer will do, also that there is no such service. */
static void look_at_health(struct plugin_external *x, struct plugin_run *run)
{
    Healthv1__HealthCheckRequest req = HEALTHV1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *m = NULL;
    struct cs_err err = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return;
    req.service = (char *)HEALTH_NAME;
    cs_code rc = plugin_run_unary(run, "/grpc.health.v1.Health/Check", &req.base,
                                  &healthv1__health_check_response__descriptor, a, &m, x->r->health_ns, &err);
    if ((rc != CS_DEADLINE && rc != CS_UNAVAILABLE) || plugin_external_stopped(x))
        return;
    pthread_mutex_lock(&x->lock);
    bool exited = run->exited;
    run->hung = true;
    pthread_mutex_unlock(&x->lock);
    if (!exited)
        cs_log_error(&x->env->log, "Plugin does not answer and is ended", KV_ERR(&err));
    plugin_run_kill(run);
}

static void care(void *arg)
{
    struct plugin_external *x = arg;
    pthread_mutex_lock(&x->lock);
    struct plugin_run *run = x->run, *old = x->old;
    x->old = NULL;
    if (run != NULL)
        plugin_run_use(run);
    pthread_mutex_unlock(&x->lock);
    plugin_run_leave(old);
    if (!atomic_load(&x->ending)) {
        if (run == NULL) {
            start_again(x);
        } else {
            look_at_health(x, run);
            plugin_runner_must(x->r, arm_health, x);
        }
    }
    plugin_run_leave(run);
    pthread_mutex_lock(&x->lock);
    x->busy = false;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
}

/* [loop] */
static void on_timer(void *arg)
{
    struct plugin_external *x = arg;
    pthread_mutex_lock(&x->lock);
    bool go = !x->busy && !atomic_load(&x->ending);
    x->busy = x->busy || go;
    pthread_mutex_unlock(&x->lock);
    if (go && !loop_pool_submit(x->r->pool, care, x)) {
        pthread_mutex_lock(&x->lock);
        x->busy = false;
        pthread_mutex_unlock(&x->lock);
        go = false;
    }
    if (!go)
        loop_timer_arm(x->timer, CS_NS_PER_S, 0);
}

/* --- The first start --- */

/* Without looking into PATH, as SPIRE does not. */
static char *absolute(const char *path)
{
    char folder[4096];
    if (path[0] == '/')
        return cs_strdup(path);
    while (path[0] == '.' && path[1] == '/')
        path += 2;
    return getcwd(folder, sizeof folder) != NULL ? cs_asprintf("%s/%s", folder, path) : NULL;
}

static cs_code fill(struct plugin_external *x, const char *type, const struct config_plugin *config,
                    struct cs_err *e)
{
    x->has_checksum = config->checksum != NULL && config->checksum[0] != '\0';
    if (x->has_checksum)
        CS_TRY(plugin_checksum_parse(config->checksum, x->checksum, e));
    if (!x->has_checksum)
        cs_log_warn(&x->env->log, "Plugin checksum not configured");
    x->name = cs_strdup(config->name);
    x->type = cs_strdup(type);
    x->path = absolute(config->cmd);
    x->args = cs_calloc(config->args.len + 1, sizeof *x->args);
    if (x->name == NULL || x->type == NULL || x->path == NULL || x->args == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < config->args.len; i++) {
        x->args[i] = cs_strdup(config->args.at[i]);
        if (x->args[i] == NULL)
            return cs_nomem(e);
        x->arg_count++;
    }
    return CS_OK;
}

struct timer_errand {
    struct plugin_external *x;
    cs_code code;
    struct cs_err *e;
};

static void make_timer(void *arg)
{
    struct timer_errand *t = arg;
    t->code = loop_timer_new(t->x->r->loop, on_timer, t->x, &t->x->timer, t->e);
}

static void free_timer(void *arg)
{
    struct plugin_external *x = arg;
    if (x->timer != NULL)
        loop_timer_free(x->timer);
    x->timer = NULL;
}

static void enlist(struct plugin_external *x)
{
    pthread_mutex_lock(&x->r->lock);
    x->next = x->r->plugins;
    x->prev = &x->r->plugins;
    if (x->next != NULL)
        x->next->prev = &x->next;
    x->r->plugins = x;
    pthread_mutex_unlock(&x->r->lock);
}

static void delist(struct plugin_external *x)
{
    pthread_mutex_lock(&x->r->lock);
    *x->prev = x->next;
    if (x->next != NULL)
        x->next->prev = x->prev;
    pthread_mutex_unlock(&x->r->lock);
}

static cs_code first_start(struct plugin_external *x, const char *type, const struct config_plugin *config,
                           struct cs_err *e)
{
    struct plugin_run *run = NULL;
    char **services = NULL;
    size_t count = 0;
    struct timer_errand t = {.x = x, .e = e};
    CS_TRY(fill(x, type, config, e));
    CS_TRY(plugin_runner_do(x->r, make_timer, &t, e));
    CS_TRY(t.code);
    CS_TRY(plugin_run_start(x, &run, &services, &count, e));
    set_services(x, services, count);
    pthread_mutex_lock(&x->lock);
    bool exited = run->exited;
    if (!exited) {
        x->run = run;
        x->up_since = cs_mono_ns(&cs_clock_system);
    }
    pthread_mutex_unlock(&x->lock);
    if (exited) {
        plugin_run_leave(run);
        return cs_fail(e, CS_UNAVAILABLE, "plugin process exited");
    }
    plugin_runner_must(x->r, arm_health, x);
    return CS_OK;
}

cs_code plugin_external_start(struct plugin_runner *r, const char *type, const struct config_plugin *config,
                              const struct plugin_env *env, struct plugin_external **out, struct cs_err *e)
{
    *out = NULL;
    struct plugin_external *x = cs_calloc(1, sizeof *x);
    if (x == NULL)
        return cs_nomem(e);
    x->r = r;
    x->env = env;
    pthread_mutex_init(&x->lock, NULL);
    plugin_cond_init(&x->changed);
    enlist(x);
    cs_code rc = first_start(x, type, config, e);
    if (rc == CS_OK)
        *out = x;
    else
        plugin_external_stop(x);
    return rc;
}

void plugin_external_stop(struct plugin_external *x)
{
    if (x == NULL)
        return;
    pthread_mutex_lock(&x->lock);
    atomic_store(&x->ending, true);
    while (x->busy)
        pthread_cond_wait(&x->changed, &x->lock);
    struct plugin_run *run = x->run, *old = x->old;
    x->run = x->old = NULL;
    snprintf(x->why, sizeof x->why, "it is being unloaded");
    pthread_mutex_unlock(&x->lock);
    if (run != NULL)
        plugin_run_stop(run, true);
    plugin_run_leave(run);
    plugin_run_leave(old);
    plugin_runner_must(x->r, free_timer, x);
    delist(x);
    cs_buf_wipe(&x->config);
    for (size_t i = 0; i < x->arg_count; i++)
        cs_free(x->args[i]);
    cs_free(x->args);
    cs_free(x->name);
    cs_free(x->type);
    cs_free(x->path);
    cs_free(x->services);
    pthread_cond_destroy(&x->changed);
    pthread_mutex_destroy(&x->lock);
    cs_free(x);
}
