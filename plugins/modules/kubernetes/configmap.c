/* SPDX-License-Identifier: Apache-2.0
 *
 * BundlePublisher "k8s_configmap" (pkg/server/plugin/bundlepublisher/k8sconfigmap): the bundle in a ConfigMap
 * of each cluster, in a format of one's choice, by server-side apply. Texts are SPIRE's.
 */
#include "plugin/bundlepublisher.h"
#include "plugins/modules/kubernetes/plugins.h"

#define NAME "k8s_configmap"
#define FIELD_MANAGER "spire-bundlepublisher-k8s_configmap"

/* What all clusters of a configuration have. */
struct published {
    pthread_mutex_t lock;         /* for the pointer */
    struct spiffe_bundle *bundle; /* NULL: nothing yet */
};

struct settings {
    struct config_k8s_configmap config;
    struct kube_client **clients; /* one for each cluster */
    struct published *published;
};

struct publisher {
    const struct plugin_env *env;
    struct plugin_slot settings;
};

/* --- Settings --- */

static void settings_clear(void *settings)
{
    struct settings *s = settings;
    for (size_t i = 0; s->clients != NULL && i < s->config.count; i++)
        kube_client_free(s->clients[i]);
    if (s->published == NULL)
        return;
    spiffe_bundle_unref(s->published->bundle);
    pthread_mutex_destroy(&s->published->lock);
}

static cs_code settings_make(const struct publisher *p, struct cs_slice data, struct settings **out,
                             struct cs_err *e)
{
    struct config_remarks remarks = {0};
    struct cs_err why = {0};
    CS_CLEANUP(plugin_settings_drop) struct settings *s = plugin_settings_new(sizeof *s, settings_clear);
    if (s == NULL)
        return cs_nomem(e);
    struct cs_arena *arena = plugin_settings_arena(s);
    CS_TRY(config_read_k8s_configmap(data, arena, &s->config, &remarks, e));
    for (size_t i = 0; i < remarks.len; i++)
        cs_log_warn(&p->env->log, remarks.at[i]);
    s->clients = cs_arena_zalloc(arena, (s->config.count + 1) * sizeof(struct kube_client *));
    s->published = cs_arena_zalloc(arena, sizeof *s->published);
    if (s->clients == NULL || s->published == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&s->published->lock, NULL); /* cannot fail without attributes on Linux */
    for (size_t i = 0; i < s->config.count; i++) {
        const struct kube_options o = {.kubeconfig = s->config.clusters[i].kubeconfig_path};
        if (kube_client_new(&o, &s->clients[i], &why) != CS_OK)
            return cs_fail(
                e, CS_INTERNAL,
                "failed to create Kubernetes client for cluster \"%s\": error getting kubeconfig: %s",
                s->config.clusters[i].name, why.text);
    }
    *out = CS_MOVE(s);
    return CS_OK;
}

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct publisher *p = cs_calloc(1, sizeof *p);
    *self = p;
    if (p == NULL)
        return cs_nomem(e);
    p->env = env;
    plugin_slot_init(&p->settings);
    return CS_OK;
}

static void destroy(void *self)
{
    struct publisher *p = self;
    plugin_slot_destroy(&p->settings);
    cs_free(p);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct publisher *p = self;
    struct settings *s = NULL;
    CS_TRY(settings_make(p, data, &s, e));
    plugin_slot_set(&p->settings, s);
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    struct config_k8s_configmap config;
    struct config_remarks remarks = {0};
    (void)env;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    cs_code rc = config_read_k8s_configmap(data, arena, &config, &remarks, e);
    return rc == CS_OK || remarks.faulty ? k8s_note_remarks(&remarks, notes, e) : rc;
}

/* --- Publishing --- */

static cs_code with_hint(const struct spiffe_bundle *b, int64_t hint_s, struct spiffe_bundle **out,
                         struct cs_err *e)
{
    CS_AUTO(spiffe_bundle_builder) builder = NULL;
    CS_TRY(spiffe_bundle_builder_from(b, &builder, e));
    spiffe_bundle_set_refresh_hint(builder, hint_s);
    return spiffe_bundle_build(builder, out, e);
}

static cs_code format(const struct config_k8s_configmap_cluster *c, const struct spiffe_bundle *b,
                      struct cs_buf *out, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle) hinted = NULL;
    switch (c->format) {
    case CONFIG_BUNDLE_PEM:
        spiffe_bundle_write_pem(out, b);
        break;
    case CONFIG_BUNDLE_JWKS:
        CS_TRY(spiffe_bundle_write_jwks(out, b, SPIFFE_JWKS_STANDARD | SPIFFE_JWKS_NO_WIT, e));
        break;
    case CONFIG_BUNDLE_SPIFFE:
        if (c->refresh_hint_s != 0)
            CS_TRY(with_hint(b, c->refresh_hint_s, &hinted, e));
        CS_TRY(spiffe_bundle_write_jwks(out, hinted != NULL ? hinted : b, SPIFFE_JWKS_NO_WIT, e));
        break;
    }
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* Server-side apply: makes the ConfigMap when it is missing; keys of others stay theirs. */
static cs_code apply(const struct publisher *p, struct kube_client *client,
                     const struct config_k8s_configmap_cluster *c, json_t *data, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    CS_CLEANUP(kube_json_drop)
    json_t *body = json_pack("{s:s, s:s, s:{s:s, s:s}, s:O}", "kind", "ConfigMap", "apiVersion", "v1",
                             "metadata", "name", c->configmap_name, "namespace", c->namespace, "data", data);
    CS_TRY(kube_path(&path, e, "/api/v1/namespaces/%s/configmaps/%s", c->namespace, c->configmap_name));
    cs_buf_add_str(&path, "?fieldManager=" FIELD_MANAGER);
    if (body == NULL || !cs_buf_ok(&path))
        return cs_nomem(e);
    const struct kube_call q = {.method = "PATCH",
                                .path = cs_buf_cstr(&path),
                                .body = body,
                                .content_type = KUBE_APPLY_PATCH,
                                .stop = p->env->stop,
                                .repeatable = true};
    return kube_call(client, &q, NULL, e);
}

static void add_fault(struct cs_buf *faults, const char *what, const char *cluster, const struct cs_err *why)
{
    cs_buf_printf(faults, "%s%s \"%s\": %s", faults->len > 0 ? "\n" : "", what, cluster, why->text);
}

static cs_code add_key(const struct config_k8s_configmap_cluster *c, const struct spiffe_bundle *b,
                       json_t *data, struct cs_buf *faults)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    struct cs_err why = {0};
    cs_code rc = format(c, b, &text, &why);
    if (rc == CS_OK &&
        json_object_set_new(data, c->configmap_key, json_stringn((const char *)text.data, text.len)) != 0)
        rc = cs_nomem(&why);
    if (rc != CS_OK)
        add_fault(faults, "could not format bundle when publishing to cluster", c->name, &why);
    return rc;
}

static bool same_object(const struct config_k8s_configmap_cluster *a,
                        const struct config_k8s_configmap_cluster *b)
{
    return strcmp(a->kubeconfig_path, b->kubeconfig_path) == 0 && strcmp(a->namespace, b->namespace) == 0 &&
           strcmp(a->configmap_name, b->configmap_name) == 0;
}

/* The first cluster of those with the same ConfigMap. */
static bool is_first(const struct config_k8s_configmap *config, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (same_object(&config->clusters[k], &config->clusters[i]))
            return false;
    return true;
}

static void tell(const struct publisher *p, const struct config_k8s_configmap_cluster *c)
{
    cs_log_debug(&p->env->log, "Bundle published to Kubernetes ConfigMap", KV("cluster_id", c->name),
                 KV("format", c->format_name), KV("kubeconfig_path", c->kubeconfig_path),
                 KV("namespace", c->namespace), KV("configmap", c->configmap_name),
                 KV("key", c->configmap_key));
}

/* To the ConfigMap of cluster `first`, all keys of it at once: of one field manager, what is applied takes
 * away what was applied before and is not named now. */
static cs_code publish_to(const struct publisher *p, const struct settings *s, size_t first,
                          const struct spiffe_bundle *b, struct cs_buf *faults)
{
    const struct config_k8s_configmap_cluster *all = s->config.clusters;
    struct cs_err why = {0};
    CS_CLEANUP(kube_json_drop) json_t *data = json_object();
    for (size_t i = first; i < s->config.count; i++)
        if (same_object(&all[i], &all[first]))
            CS_TRY(add_key(&all[i], b, data, faults));
    cs_code rc = apply(p, s->clients[first], &all[first], data, &why);
    for (size_t i = first; i < s->config.count; i++) {
        if (!same_object(&all[i], &all[first]))
            continue;
        if (rc == CS_OK)
            tell(p, &all[i]);
        else
            add_fault(faults, "failed to apply ConfigMap for cluster", all[i].name, &why);
    }
    return rc;
}

static bool is_published(struct published *p, const struct spiffe_bundle *bundle)
{
    pthread_mutex_lock(&p->lock);
    bool same = p->bundle != NULL && spiffe_bundle_equal(p->bundle, bundle);
    pthread_mutex_unlock(&p->lock);
    return same;
}

static void set_published(struct published *p, const struct spiffe_bundle *bundle)
{
    struct spiffe_bundle *mine = spiffe_bundle_ref(bundle);
    pthread_mutex_lock(&p->lock);
    struct spiffe_bundle *old = p->bundle;
    p->bundle = mine;
    pthread_mutex_unlock(&p->lock);
    spiffe_bundle_unref(old);
}

static cs_code publish(void *self, const struct spiffe_bundle *bundle, struct cs_err *e)
{
    struct publisher *p = self;
    CS_CLEANUP(plugin_settings_drop) const struct settings *s = plugin_slot_get(&p->settings);
    CS_CLEANUP(cs_buf_free) struct cs_buf faults = {0};
    if (s == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    if (is_published(s->published, bundle))
        return CS_OK;
    cs_code rc = CS_OK;
    for (size_t i = 0; i < s->config.count; i++) {
        if (!is_first(&s->config, i))
            continue;
        cs_code one = publish_to(p, s, i, bundle, &faults);
        rc = one != CS_OK ? one : rc;
    }
    if (rc != CS_OK)
        return cs_fail(e, rc == CS_CANCELLED || rc == CS_UNAVAILABLE ? rc : CS_INTERNAL, "%s",
                       cs_buf_cstr(&faults));
    set_published(s->published, bundle);
    return CS_OK;
}

static const struct bundlepublisher_ops ops = {.publish = publish};

const struct plugin_builtin plugin_bundlepublisher_k8s_configmap = {
    .name = NAME,
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
