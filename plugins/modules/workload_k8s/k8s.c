/* SPDX-License-Identifier: Apache-2.0
 *
 * WorkloadAttestor "k8s": which pod and container a process runs in, by its cgroups, and what the kubelet
 * says of those (doc/plugin_agent_workloadattestor_k8s.md of SPIRE).
 */
#include "base/text.h"
#include "plugin/settings.h"
#include "plugins/modules/kube/kube.h"
#include "plugins/modules/workload_k8s/kubelet.h"
#include "plugins/modules/workload_k8s/selectors.h"
#include "plugins/shared/containers/locate.h"

#include <pthread.h>
#include <stdlib.h>

#define WARNINGS_PER_SECOND 5 /* lines about lists: the kubelet and any process can cause them */

struct k8s_attestor {
    const struct plugin_env *env;
    struct k8s_fetcher *fetcher;
    struct plugin_slot config; /* of struct config_k8s */
    pthread_mutex_t lock;      /* over the next */
    struct kube_client *api;   /* made when namespace labels are asked for first */
    struct cs_log_limit warnings, debugging;
};

/* --- Life --- */

static void destroy(void *self)
{
    struct k8s_attestor *k = self;
    k8s_fetcher_free(k->fetcher);
    kube_client_free(k->api);
    plugin_slot_destroy(&k->config);
    pthread_mutex_destroy(&k->lock);
    cs_free(k);
}

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    *self = NULL;
    struct k8s_attestor *k = cs_calloc(1, sizeof *k);
    if (k == NULL)
        return cs_nomem(e);
    k->env = env;
    plugin_slot_init(&k->config);
    (void)pthread_mutex_init(&k->lock, NULL); /* cannot fail without attributes on Linux */
    cs_code rc = k8s_fetcher_new(env->clock, env->stop, &k->fetcher, e);
    if (rc != CS_OK)
        destroy(k);
    else
        *self = k;
    return rc;
}

static cs_code read_config(struct cs_slice data, struct config_k8s **out, struct cs_err *e)
{
    *out = NULL;
    CS_CLEANUP(plugin_settings_drop) struct config_k8s *c = plugin_settings_new(sizeof *c, NULL);
    if (c == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_k8s(data, plugin_settings_arena(c), c, e));
    *out = CS_MOVE(c);
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct k8s_attestor *k = self;
    CS_CLEANUP(plugin_settings_drop) struct config_k8s *c = NULL;
    CS_TRY(read_config(data, &c, e));
    if (c->use_new_container_locator)
        cs_log_info(&k->env->log, "Using the new container locator");
    else
        cs_log_warn(&k->env->log,
                    "Using the legacy container locator. This option will be removed in a future release.");
    if (k8s_fetcher_configure(k->fetcher, c, e) != CS_OK)
        return e != NULL ? (e->code = CS_INVALID) : CS_INVALID;
    plugin_slot_set(&k->config, CS_MOVE(c));
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    CS_CLEANUP(plugin_settings_drop) struct config_k8s *c = NULL;
    struct cs_err fault;
    return plugin_notes_fault(notes, read_config(data, &c, &fault), &fault, e);
}

/* --- Labels of namespaces --- */

/* As SPIRE's client finds the API server: $KUBECONFIG, else the pod's service account. */
static cs_code api_client(struct k8s_attestor *k, struct kube_client **out, struct cs_err *e)
{
    const struct kube_options o = {.kubeconfig = getenv("KUBECONFIG"), .user_agent = "spire-agent"};
    cs_code rc = CS_OK;
    pthread_mutex_lock(&k->lock);
    if (k->api == NULL)
        rc = kube_client_new(&o, &k->api, e);
    *out = k->api;
    pthread_mutex_unlock(&k->lock);
    return rc == CS_OK ? CS_OK
                       : cs_wrap(e, "unable to set up kube client: unable to create Kubernetes client");
}

static cs_code get_namespace(struct k8s_attestor *k, const char *ns, json_t **out, struct cs_err *e)
{
    struct kube_client *api;
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    CS_TRY(api_client(k, &api, e));
    CS_TRY(kube_path(&path, e, "/api/v1/namespaces/%s", ns));
    if (kube_get(api, cs_buf_cstr(&path), k->env->stop, out, e) != CS_OK)
        return cs_wrap(e, "unable to get namespace \"%.253s\"", ns);
    return CS_OK;
}

static cs_code add_namespace(struct k8s_attestor *k, struct workloadattestor_values *out, const char *ns,
                             struct cs_err *e)
{
    static const char *const at[] = {"metadata", "labels", NULL};
    CS_CLEANUP(kube_json_drop) json_t *object = NULL;
    struct cs_err fault;
    if (get_namespace(k, ns, &object, &fault) != CS_OK)
        return cs_fail(e, CS_INTERNAL, "unable to get namespace labels for \"%.253s\": %.200s", ns,
                       fault.text);
    const char *key;
    json_t *value;
    /* jansson's iterators take no const, and change nothing */
    json_object_foreach((json_t *)(uintptr_t)kube_at(object, at), key, value)
    {
        CS_CLEANUP(cs_buf_free) struct cs_buf pair = {0};
        cs_buf_printf(&pair, "%s:%s", key, json_is_string(value) ? json_string_value(value) : "");
        if (!cs_buf_ok(&pair))
            return cs_nomem(e);
        CS_TRY(workloadattestor_add(out, "ns-label", cs_buf_cstr(&pair), e));
    }
    return CS_OK;
}

/* --- One list --- */

struct question {
    struct k8s_attestor *k;
    const struct config_k8s *config;
    struct container_place place;
    struct workloadattestor_values *out;
    size_t malformed;
    struct cs_err doubt; /* what is wrong with a pod that may be the one */
    bool found;
};

/* Adds what the pod has to say about the container, if it is the one. */
static cs_code look_at(struct question *q, const struct k8s_pod *p, struct cs_err *e)
{
    if (p->fault != NULL)
        return cs_fail(e, CS_UNAVAILABLE, "unable to decode pod info from kubelet response: %.300s",
                       p->fault);
    const struct k8s_container *c = k8s_find_container(p, q->place.id, &q->malformed);
    if (c == NULL && (q->place.pod_uid[0] == '\0' || !q->config->disable_container_selectors))
        return CS_OK;
    if (q->found) {
        cs_log_warn(&q->k->env->log, "Two pods found with same container Id",
                    KV("container_id", q->place.id));
        return cs_fail(e, CS_INTERNAL, "two pods found with same container Id");
    }
    q->found = true;
    CS_TRY(k8s_add_pod(q->out, p, e));
    if (!q->config->disable_container_selectors)
        CS_TRY(k8s_add_container(q->out, c, e));
    return q->config->enable_namespace_labels ? add_namespace(q->k, q->out, p->ns, e) : CS_OK;
}

static cs_code look_in(struct question *q, const struct k8s_pods *list, struct cs_err *e)
{
    q->malformed = 0;
    if (q->place.pod_uid[0] != '\0') {
        const struct k8s_pod *p = k8s_pods_find(list, q->place.pod_uid);
        return p != NULL ? look_at(q, p, e) : CS_OK;
    }
    /* a pod with a fault may be anybody's: it must not end the attestation of others */
    q->doubt = (struct cs_err){0};
    for (size_t i = 0; i < k8s_pods_count(list); i++) {
        const struct k8s_pod *p = k8s_pods_at(list, i);
        if (p->fault == NULL)
            CS_TRY(look_at(q, p, e));
        else if (q->doubt.code == CS_OK)
            (void)look_at(q, p, &q->doubt);
    }
    return CS_OK;
}

static void warn_of(struct question *q, const struct k8s_pods *list)
{
    const struct cs_log *log = &q->k->env->log;
    if (k8s_pods_nameless(list) > 0 && cs_log_limit_ok(&q->k->warnings, WARNINGS_PER_SECOND, NULL))
        cs_log_warn(log, "Pod has no UID", KV_INT("count", (int64_t)k8s_pods_nameless(list)));
    if (q->malformed > 0 && cs_log_limit_ok(&q->k->warnings, WARNINGS_PER_SECOND, NULL))
        cs_log_error(log, "Malformed container id", KV("pod_uid", q->place.pod_uid),
                     KV_INT("count", (int64_t)q->malformed));
}

/* --- Lists until the container is there --- */

static void tell(struct question *q, const char *msg, int64_t attempt, const struct cs_err *fault, bool retry)
{
    const struct cs_log *log = &q->k->env->log;
    enum cs_level level = fault == NULL && retry ? CS_LOG_DEBUG : CS_LOG_WARN;
    struct cs_log_limit *limit = level == CS_LOG_DEBUG ? &q->k->debugging : &q->k->warnings;
    if (!cs_log_on(log, level) || !cs_log_limit_ok(limit, WARNINGS_PER_SECOND, NULL))
        return;
    CS_CLEANUP(cs_buf_free) struct cs_buf interval = {0};
    cs_duration_format(&interval, q->config->poll_retry_interval_ns);
    cs_log(log, level, msg, KV("pod_uid", q->place.pod_uid), KV("container_id", q->place.id),
           KV_INT("attempt", attempt), fault != NULL ? KV_ERR(fault) : (struct cs_kv){0},
           retry ? KV("retry_interval", cs_buf_cstr(&interval)) : (struct cs_kv){0});
}

static cs_code give_up(struct question *q, int64_t attempt, const struct cs_err *fault, struct cs_err *e)
{
    if (fault != NULL) {
        tell(q, "Unable to get pod list; giving up", attempt, fault, false);
        return cs_fail(e, CS_UNAVAILABLE, "%s", fault->text);
    }
    tell(q, "Container id not found; giving up", attempt, NULL, false);
    if (q->doubt.code != CS_OK)
        return cs_fail(e, q->doubt.code, "%s", q->doubt.text);
    return cs_fail(e, CS_DEADLINE, "no selectors found after max poll attempts");
}

static cs_code poll(struct question *q, struct cs_err *e)
{
    uint64_t version = 0;
    for (int64_t attempt = 1;; attempt++) {
        CS_AUTO(k8s_pods) list = NULL;
        struct cs_err fault;
        cs_code rc = k8s_fetcher_next(q->k->fetcher, &version, &list, &fault);
        if (rc == CS_CANCELLED)
            return cs_fail(e, CS_UNAVAILABLE, "%s", fault.text);
        if (rc == CS_OK) {
            CS_TRY(look_in(q, list, e));
            warn_of(q, list);
            if (q->found)
                return CS_OK;
        }
        const struct cs_err *why = rc != CS_OK ? &fault : NULL;
        if (attempt >= q->config->max_poll_attempts)
            return give_up(q, attempt, why, e);
        tell(q,
             why != NULL ? "Unable to get pod list; will retry after backoff"
                         : "Container id not found; will retry after backoff",
             attempt, why, true);
    }
}

static cs_code attest(void *self, pid_t pid, struct workloadattestor_values *out, struct cs_err *e)
{
    struct k8s_attestor *k = self;
    CS_CLEANUP(plugin_settings_drop) const struct config_k8s *c = plugin_slot_get(&k->config);
    if (c == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    struct question q = {.k = k, .config = c, .out = out};
    if (c->disable_kubelet_client)
        return cs_fail(e, CS_PRECONDITION, "kubelet client is disabled");
    if (c->use_new_container_locator)
        CS_TRY(container_locate(container_proc(), pid, true,
                                c->verbose_container_locator_logs ? &k->env->log : NULL, &q.place, e));
    else
        CS_TRY(container_locate_legacy(container_proc(), pid, &q.place, e));
    return q.place.id[0] != '\0' ? poll(&q, e) : CS_OK;
}

static const struct workloadattestor_ops ops = {.attest = attest};

extern const struct plugin_builtin plugin_workloadattestor_k8s;
const struct plugin_builtin plugin_workloadattestor_k8s = {
    .name = "k8s",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
