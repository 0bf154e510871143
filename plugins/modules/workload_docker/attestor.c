/* SPDX-License-Identifier: Apache-2.0
 *
 * WorkloadAttestor "docker": which container a process runs in, by its cgroups, and what the Docker engine or
 * Podman says of it (doc/plugin_agent_workloadattestor_docker.md of SPIRE).
 */
#include "base/text.h"
#include "config/attestor_config.h"
#include "plugin/settings.h"
#include "plugins/modules/workload_docker/docker.h"
#include "plugins/shared/containers/locate.h"
#include "plugins/shared/containers/matchers.h"

#include <stdio.h>

#define RETRIES 3
#define FIRST_PAUSE_NS (100 * CS_NS_PER_MS)

struct settings {
    struct config_docker config;
    struct docker_engine *engine;
};

struct docker_attestor {
    const struct plugin_env *env;
    struct plugin_slot settings;
};

static void settings_clear(void *settings)
{
    struct settings *s = settings;
    docker_engine_free(s->engine);
}

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct docker_attestor *d = cs_calloc(1, sizeof *d);
    *self = d;
    if (d == NULL)
        return cs_nomem(e);
    d->env = env;
    plugin_slot_init(&d->settings);
    return CS_OK;
}

static void destroy(void *self)
{
    struct docker_attestor *d = self;
    plugin_slot_destroy(&d->settings);
    cs_free(d);
}

static cs_code read_settings(struct cs_slice data, struct settings **out, struct cs_err *e)
{
    *out = NULL;
    CS_CLEANUP(plugin_settings_drop) struct settings *s = plugin_settings_new(sizeof *s, settings_clear);
    if (s == NULL)
        return cs_nomem(e);
    struct config_docker *c = &s->config;
    CS_TRY(config_read_docker(data, plugin_settings_arena(s), c, e));
    if (c->container_id_cgroup_matchers.len > 0)
        CS_TRY(container_matchers_check(c->container_id_cgroup_matchers.at,
                                        c->container_id_cgroup_matchers.len, e));
    *out = CS_MOVE(s);
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct docker_attestor *d = self;
    CS_CLEANUP(plugin_settings_drop) struct settings *s = NULL;
    CS_TRY(read_settings(data, &s, e));
    if (s->config.container_id_cgroup_matchers.len > 0)
        cs_log_warn(&d->env->log,
                    "Using the legacy container locator with custom cgroup matchers. This feature "
                    "will be removed in a future release.");
    CS_TRY(docker_engine_new(s->config.docker_socket_path, s->config.docker_version, &s->engine, e));
    plugin_slot_set(&d->settings, CS_MOVE(s));
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    CS_CLEANUP(plugin_settings_drop) struct settings *s = NULL;
    struct cs_err fault;
    return plugin_notes_fault(notes, read_settings(data, &s, &fault), &fault, e);
}

/* --- Where the process is --- */

/* What the cgroups say of one process. */
struct place {
    const struct config_docker *config;
    const struct cs_log *log;
    char id[DOCKER_ID_MAX + 1];
    bool matched; /* a matcher fitted, whatever the ID */
    bool podman;
    bool has_uid;
    uint32_t uid; /* whose rootless Podman it is */
};

static cs_code on_matcher_line(void *arg, size_t index, struct cs_slice path, struct cs_err *e)
{
    struct place *p = arg;
    struct cs_slice id;
    (void)index;
    const struct config_strings *m = &p->config->container_id_cgroup_matchers;
    if (!container_matchers_find(m->at, m->len, path, &id))
        return CS_OK;
    if (id.len > DOCKER_ID_MAX)
        return cs_fail(e, CS_UNKNOWN, "workloadattestor/docker: a container ID is longer than %d",
                       DOCKER_ID_MAX);
    p->matched = true;
    if (p->id[0] != '\0' && !cs_slice_is(id, p->id))
        return cs_fail(e, CS_UNKNOWN,
                       "workloadattestor/docker: multiple container IDs found in cgroups (%s, %.*s)", p->id,
                       (int)id.len, (const char *)id.data);
    memcpy(p->id, id.data, id.len);
    p->id[id.len] = '\0';
    return CS_OK;
}

static cs_code find_by_matchers(struct place *p, pid_t pid, struct cs_err *e)
{
    cs_code rc = container_each_cgroup(container_proc(), pid, "", on_matcher_line, p, e);
    if (rc != CS_OK)
        return e != NULL ? (e->code = CS_UNKNOWN) : CS_UNKNOWN;
    if (p->matched && p->id[0] == '\0')
        return cs_fail(e, CS_UNKNOWN,
                       "workloadattestor/docker: a pattern matched, but no container id was found");
    return CS_OK;
}

static cs_code find_container(struct place *p, pid_t pid, struct cs_err *e)
{
    struct container_place found;
    if (p->config->container_id_cgroup_matchers.len > 0)
        return find_by_matchers(p, pid, e);
    const struct cs_log *verbose = p->config->verbose_container_locator_logs ? p->log : NULL;
    CS_TRY(container_locate(container_proc(), pid, false, verbose, &found, e));
    memcpy(p->id, found.id, sizeof found.id);
    return CS_OK;
}

/* "/user-1000.slice/": 1000, where it stands first. False: there is none, or none below 2^32. */
static bool slice_uid(struct cs_slice path, uint32_t *out)
{
    static const char before[] = "/user-", after[] = ".slice/";
    const size_t nb = sizeof before - 1, na = sizeof after - 1;
    for (size_t i = 0; i + nb < path.len; i++) {
        size_t n = 0;
        int64_t uid = 0;
        const uint8_t *digits = path.data + i + nb;
        if (memcmp(path.data + i, before, nb) != 0)
            continue;
        while (i + nb + n < path.len && digits[n] >= '0' && digits[n] <= '9')
            n++;
        if (n == 0 || path.len - (i + nb + n) < na || memcmp(digits + n, after, na) != 0)
            continue;
        if (cs_parse_i64(cs_slice_of(digits, n), &uid, NULL) != CS_OK || uid > (int64_t)UINT32_MAX)
            return false;
        *out = (uint32_t)uid;
        return true;
    }
    return false;
}

/* The first path that looks like Podman's counts. */
static cs_code on_podman_line(void *arg, size_t index, struct cs_slice path, struct cs_err *e)
{
    struct place *p = arg;
    (void)index;
    (void)e;
    if (p->podman || path.len == 0 ||
        (memmem(path.data, path.len, "libpod-", 7) == NULL &&
         memmem(path.data, path.len, "/libpod/", 8) == NULL))
        return CS_OK;
    p->podman = true;
    p->has_uid = slice_uid(path, &p->uid);
    return CS_OK;
}

/* The template with the user's ID in it; its form was checked when it was read. */
static void expand(const char *template, uint32_t uid, struct cs_buf *out)
{
    for (const char *c = template; *c != '\0'; c++) {
        if (*c != '%')
            cs_buf_add_byte(out, (uint8_t)*c);
        else if (*++c == '%')
            cs_buf_add_byte(out, '%');
        else
            cs_buf_printf(out, "%u", (unsigned)uid);
    }
}

/* Podman's socket, of root or of the user whose container it is; leaves *out NULL when it is Docker's. */
static cs_code podman_engine(struct place *p, pid_t pid, struct docker_engine **out, struct cs_err *e)
{
    struct cs_err fault;
    CS_CLEANUP(cs_buf_free) struct cs_buf socket = {0};
    *out = NULL;
    if (container_each_cgroup(container_proc(), pid, "", on_podman_line, p, &fault) != CS_OK) {
        cs_log_warn(p->log, "Failed to read cgroups for Podman detection, falling back to Docker client",
                    KV_INT("pid", pid), KV_ERR(&fault));
        return CS_OK;
    }
    if (!p->podman)
        return CS_OK;
    if (p->has_uid)
        expand(p->config->podman_socket_path_template, p->uid, &socket);
    else
        cs_buf_add_str(&socket, p->config->podman_socket_path);
    if (!cs_buf_ok(&socket))
        return cs_nomem(e);
    if (docker_engine_new(cs_buf_cstr(&socket), "", out, e) != CS_OK)
        return cs_wrap(e, "unable to create Podman client for socket \"%.300s\"", cs_buf_cstr(&socket));
    return CS_OK;
}

/* --- Asking --- */

/* A container that starts may not be known yet. */
static cs_code inspect(struct docker_engine *engine, const char *id, const struct crypto_stop *stop,
                       json_t **out, struct cs_err *e)
{
    for (int i = 0;; i++) {
        cs_code rc = docker_container(engine, id, stop, out, e);
        if (rc == CS_OK || i == RETRIES || !http_pause(FIRST_PAUSE_NS << i, stop))
            return rc;
    }
}

static cs_code describe(struct docker_engine *engine, const char *id, const struct crypto_stop *stop,
                        struct workloadattestor_values *out, struct cs_err *e)
{
    CS_CLEANUP(docker_json_drop) json_t *container = NULL, *image = NULL;
    const char *name;
    CS_TRY(inspect(engine, id, stop, &container, e));
    CS_TRY(docker_add_container(out, container, &name, e));
    if (name[0] == '\0' || docker_image(engine, name, stop, &image, NULL) != CS_OK)
        return CS_OK; /* an image that is not there any more takes nothing from the container */
    return docker_add_image(out, image, e);
}

static cs_code attest(void *self, pid_t pid, struct workloadattestor_values *out, struct cs_err *e)
{
    struct docker_attestor *d = self;
    CS_CLEANUP(plugin_settings_drop) const struct settings *s = plugin_slot_get(&d->settings);
    CS_AUTO(docker_engine) podman = NULL;
    if (s == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    struct place p = {.config = &s->config, .log = &d->env->log};
    CS_TRY(find_container(&p, pid, e));
    if (p.id[0] == '\0')
        return CS_OK;
    CS_TRY(podman_engine(&p, pid, &podman, e));
    cs_code rc = describe(podman != NULL ? podman : s->engine, p.id, d->env->stop, out, e);
    if (rc != CS_OK && rc != CS_EXHAUSTED && rc != CS_INTERNAL) /* SPIRE's has no code */
        return e != NULL ? (e->code = CS_UNKNOWN) : CS_UNKNOWN;
    return rc;
}

static const struct workloadattestor_ops ops = {.attest = attest};

extern const struct plugin_builtin plugin_workloadattestor_docker;
const struct plugin_builtin plugin_workloadattestor_docker = {
    .name = "docker",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
