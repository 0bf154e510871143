/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables and readers of the plugins that bring bundles to Kubernetes: Notifier "k8sbundle", BundlePublisher
 * "k8s_configmap".
 */
#include "base/clock.h"
#include "base/text.h"
#include "config/kubernetes_read.h"

#include <strings.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool is_empty(const char *s)
{
    return s == NULL || s[0] == '\0';
}

static const char *or_text(const char *s, const char *fallback)
{
    return is_empty(s) ? fallback : s;
}

/* --- Notifier "k8sbundle" --- */

#define AT(field) offsetof(struct config_k8sbundle_cluster, field)
/* Rows that the root and a cluster have in common; `base` is where the struct lies. */
#define K8SBUNDLE_ROWS(base)                                                                                 \
    {                                                                                                        \
        "namespace",  CONFIG_STRING,                                                                         \
        CONFIG_READY, (base) + AT(namespace),                                                                \
        "spire",      "Namespace of the ConfigMap.",                                                         \
        NULL},                                                                                               \
        {"config_map",                                                                                       \
         CONFIG_STRING,                                                                                      \
         CONFIG_READY,                                                                                       \
         (base) + AT(config_map),                                                                            \
         "spire-bundle",                                                                                     \
         "Name of the ConfigMap, which must exist.",                                                         \
         NULL},                                                                                              \
        {"config_map_key",          CONFIG_STRING, CONFIG_READY, (base) + AT(config_map_key), "bundle.crt",  \
         "Its key for the bundle.", NULL},                                                                   \
        {"webhook_label",                                                                                    \
         CONFIG_STRING,                                                                                      \
         CONFIG_READY,                                                                                       \
         (base) + AT(webhook_label),                                                                         \
         NULL,                                                                                               \
         "Mutating and validating webhook configurations with this label, set to `true`, get the bundle as " \
         "`caBundle`.",                                                                                      \
         NULL},                                                                                              \
        {"api_service_label",                                                                                \
         CONFIG_STRING,                                                                                      \
         CONFIG_READY,                                                                                       \
         (base) + AT(api_service_label),                                                                     \
         NULL,                                                                                               \
         "API services with this label, set to `true`, get the bundle as `caBundle`.",                       \
         NULL},                                                                                              \
    {                                                                                                        \
        "kube_config_file_path", CONFIG_STRING, CONFIG_READY, (base) + AT(kube_config_file_path), NULL,      \
            "Kubeconfig for the API server. Not given: the server runs in the cluster.", NULL                \
    }

static const struct config_option k8sbundle_cluster_options[] = {K8SBUNDLE_ROWS(0)};
static const struct config_section k8sbundle_cluster_section = {.title = "cluster",
                                                                .size =
                                                                    sizeof(struct config_k8sbundle_cluster),
                                                                .given = CONFIG_NO_OFFSET,
                                                                .unknown = CONFIG_NO_OFFSET,
                                                                .options = k8sbundle_cluster_options,
                                                                .count = COUNT(k8sbundle_cluster_options)};
struct k8sbundle_file {
    struct config_k8sbundle_cluster root;
    struct config_blocks clusters;
};
static const struct config_option k8sbundle_options[] = {
    K8SBUNDLE_ROWS(offsetof(struct k8sbundle_file, root)),
    {"clusters", CONFIG_BLOCKS, CONFIG_READY, offsetof(struct k8sbundle_file, clusters), NULL,
     "Further clusters, with the same options; each needs `kube_config_file_path`.",
     &k8sbundle_cluster_section},
};
#undef AT
const struct config_section config_k8sbundle_section = {.title = "k8sbundle",
                                                        .size = sizeof(struct k8sbundle_file),
                                                        .given = CONFIG_NO_OFFSET,
                                                        .unknown = CONFIG_NO_OFFSET,
                                                        .options = k8sbundle_options,
                                                        .count = COUNT(k8sbundle_options)};

static struct config_k8sbundle_cluster with_defaults(const struct config_k8sbundle_cluster *c)
{
    return (struct config_k8sbundle_cluster){.namespace = or_text(c->namespace, "spire"),
                                             .config_map = or_text(c->config_map, "spire-bundle"),
                                             .config_map_key = or_text(c->config_map_key, "bundle.crt"),
                                             .webhook_label = or_text(c->webhook_label, ""),
                                             .api_service_label = or_text(c->api_service_label, ""),
                                             .kube_config_file_path = or_text(c->kube_config_file_path, "")};
}

static bool is_given(const struct config_k8sbundle_cluster *c)
{
    return !is_empty(c->namespace) || !is_empty(c->config_map) || !is_empty(c->config_map_key) ||
           !is_empty(c->webhook_label) || !is_empty(c->api_service_label) ||
           !is_empty(c->kube_config_file_path);
}

cs_code config_read_k8sbundle(struct cs_slice text, struct cs_arena *a, struct config_k8sbundle *out,
                              struct cs_err *e)
{
    struct k8sbundle_file f = {0};
    *out = (struct config_k8sbundle){0};
    cs_code rc = config_read_section(text, &config_k8sbundle_section, a, &f, e);
    if (rc != CS_OK)
        return rc == CS_INVALID ? cs_wrap(e, "plugin configuration is malformed") : rc;
    struct config_k8sbundle_cluster *c = cs_arena_zalloc(a, (f.clusters.len + 1) * sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    /* the root counts when something is said there, or nothing anywhere */
    if (is_given(&f.root) || f.clusters.len == 0)
        c[out->count++] = with_defaults(&f.root);
    for (size_t i = 0; i < f.clusters.len; i++) {
        const struct config_k8sbundle_cluster *in = f.clusters.at[i];
        if (is_empty(in->kube_config_file_path)) {
            *out = (struct config_k8sbundle){0};
            return cs_fail(e, CS_INVALID, "cluster configuration is missing kube_config_file_path");
        }
        c[out->count++] = with_defaults(in);
    }
    out->clusters = c;
    return CS_OK;
}

/* --- BundlePublisher "k8s_configmap" --- */

struct configmap_cluster_file {
    const char *format, *namespace, *configmap_name, *configmap_key, *kubeconfig_path, *refresh_hint;
};
#define AT(field) offsetof(struct configmap_cluster_file, field)
static const struct config_option configmap_cluster_options[] = {
    {"format", CONFIG_STRING, CONFIG_READY, AT(format), NULL,
     "`spiffe` (SPIFFE bundle document), `jwks` (the same without SPIFFE's members) or `pem` (X.509 "
     "authorities "
     "only). Needed.",
     NULL},
    {"namespace", CONFIG_STRING, CONFIG_READY, AT(namespace), NULL, "Namespace of the ConfigMap. Needed.",
     NULL},
    {"configmap_name", CONFIG_STRING, CONFIG_READY, AT(configmap_name), NULL,
     "Name of the ConfigMap; it is made when it is missing. Needed.", NULL},
    {"configmap_key", CONFIG_STRING, CONFIG_READY, AT(configmap_key), NULL, "Its key for the bundle. Needed.",
     NULL},
    {"kubeconfig_path", CONFIG_STRING, CONFIG_READY, AT(kubeconfig_path), NULL,
     "Kubeconfig for the API server. Not given: the server runs in the cluster.", NULL},
    {"refresh_hint", CONFIG_STRING, CONFIG_READY, AT(refresh_hint), NULL,
     "Refresh hint of the document, a duration, for the format `spiffe`. Not given: the bundle's own.", NULL},
};
#undef AT
static const struct config_section configmap_cluster_section = {.title = "cluster",
                                                                .size = sizeof(struct configmap_cluster_file),
                                                                .given = CONFIG_NO_OFFSET,
                                                                .unknown = CONFIG_NO_OFFSET,
                                                                .options = configmap_cluster_options,
                                                                .count = COUNT(configmap_cluster_options)};
struct configmap_file {
    struct config_map clusters;
};
static const struct config_option configmap_options[] = {
    {"clusters", CONFIG_MAP, CONFIG_READY, offsetof(struct configmap_file, clusters), NULL,
     "The clusters that the bundle is published to, by names of one's choice.", &configmap_cluster_section},
};
const struct config_section config_k8s_configmap_section = {.title = "k8s_configmap",
                                                            .size = sizeof(struct configmap_file),
                                                            .given = CONFIG_NO_OFFSET,
                                                            .unknown = CONFIG_NO_OFFSET,
                                                            .options = configmap_options,
                                                            .count = COUNT(configmap_options)};

struct remarking {
    struct config_remarks *remarks;
    struct cs_arena *a;
    struct cs_err *e;
};
#define REMARK(x, fault, ...) config_remark((x)->remarks, (x)->a, (fault), (x)->e, __VA_ARGS__)

static cs_code check_needed(struct remarking *x, const char *name, const struct configmap_cluster_file *f)
{
    if (is_empty(f->format))
        return REMARK(x, true, "missing bundle format in cluster \"%s\"", name);
    if (is_empty(f->namespace))
        return REMARK(x, true, "missing namespace in cluster \"%s\"", name);
    if (is_empty(f->configmap_name))
        return REMARK(x, true, "missing configmap name in cluster \"%s\"", name);
    if (is_empty(f->configmap_key))
        return REMARK(x, true, "missing configmap key in cluster \"%s\"", name);
    return CS_OK;
}

static cs_code read_format(struct remarking *x, const char *name, const char *text,
                           struct config_k8s_configmap_cluster *out)
{
    static const struct {
        const char *name;
        enum config_bundle_format format;
    } formats[] = {
        {"spiffe", CONFIG_BUNDLE_SPIFFE}, {"jwks", CONFIG_BUNDLE_JWKS}, {"pem", CONFIG_BUNDLE_PEM}};
    for (size_t i = 0; i < COUNT(formats); i++)
        if (strcasecmp(formats[i].name, text) == 0) {
            out->format = formats[i].format;
            out->format_name = formats[i].name;
            return CS_OK;
        }
    return REMARK(x, true, "could not parse bundle format from cluster \"%s\": unknown bundle format: \"%s\"",
                  name, text);
}

static cs_code read_hint(struct remarking *x, const char *name, const char *text, int64_t *out_s)
{
    int64_t ns;
    struct cs_err why;
    if (is_empty(text))
        return CS_OK;
    if (cs_duration_parse(cs_slice_str(text), &ns, &why) != CS_OK)
        return REMARK(
            x, true,
            "could not parse refresh_hint from cluster \"%s\": could not parse refresh hint \"%s\": %s", name,
            text, why.text);
    *out_s = ns / CS_NS_PER_S;
    if (*out_s >= 86400)
        CS_TRY(
            REMARK(x, false,
                   "Bundle endpoint refresh hint set to a high value. To cover the case of unscheduled trust "
                   "bundle updates, it's recommended to have a smaller value, e.g. 5m"));
    if (*out_s < 60)
        CS_TRY(REMARK(
            x, false,
            "Bundle endpoint refresh hint set too low. SPIRE will not refresh more often than 1 minute"));
    return CS_OK;
}

static cs_code read_cluster(struct remarking *x, const char *name, const struct configmap_cluster_file *f,
                            struct config_k8s_configmap_cluster *c)
{
    CS_TRY(check_needed(x, name, f));
    if (x->remarks->faulty)
        return CS_OK;
    *c = (struct config_k8s_configmap_cluster){.name = name,
                                               .namespace = f->namespace,
                                               .configmap_name = f->configmap_name,
                                               .configmap_key = f->configmap_key,
                                               .kubeconfig_path = or_text(f->kubeconfig_path, "")};
    CS_TRY(read_format(x, name, f->format, c));
    if (x->remarks->faulty)
        return CS_OK;
    return read_hint(x, name, f->refresh_hint, &c->refresh_hint_s);
}

cs_code config_read_k8s_configmap(struct cs_slice text, struct cs_arena *a, struct config_k8s_configmap *out,
                                  struct config_remarks *remarks, struct cs_err *e)
{
    struct configmap_file f = {0};
    struct cs_err local;
    struct remarking x = {.remarks = remarks, .a = a, .e = e != NULL ? e : &local};
    *out = (struct config_k8s_configmap){0};
    cs_code rc = config_read_section(text, &config_k8s_configmap_section, a, &f, x.e);
    if (rc == CS_INVALID) {
        const struct cs_err why = *x.e;
        CS_TRY(REMARK(&x, true, "unable to decode configuration: %s", why.text));
    }
    if (rc != CS_OK)
        return rc;
    if (f.clusters.len == 0)
        CS_TRY(REMARK(&x, false, "No clusters configured, bundle will not be published"));
    struct config_k8s_configmap_cluster *c = cs_arena_zalloc(a, (f.clusters.len + 1) * sizeof *c);
    if (c == NULL)
        return cs_nomem(x.e);
    for (size_t i = 0; i < f.clusters.len; i++) {
        CS_TRY(read_cluster(&x, f.clusters.labels[i], f.clusters.at[i], &c[i]));
        if (remarks->faulty)
            return CS_INVALID;
    }
    *out = (struct config_k8s_configmap){c, f.clusters.len};
    return CS_OK;
}
