/* SPDX-License-Identifier: Apache-2.0
 *
 * Tables and readers of the NodeAttestors for Kubernetes; those of the plugins that publish bundles are in
 * kubernetes_bundle_config.c.
 */
#include "config/kubernetes_config.h"

#include "config/kubernetes_read.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

cs_code config_remark(struct config_remarks *r, struct cs_arena *a, bool fault, struct cs_err *e,
                      const char *fmt, ...)
{
    char text[CS_ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const char *kept = cs_arena_strdup(a, text);
    if (kept == NULL)
        return cs_nomem(e);
    if (fault && !r->faulty)
        (void)cs_fail(e, CS_INVALID, "%s", text);
    r->faulty |= fault;
    if (r->len < CONFIG_REMARKS_MAX)
        r->at[r->len++] = kept;
    return CS_OK;
}

cs_code config_read_section(struct cs_slice text, const struct config_section *s, struct cs_arena *a,
                            void *out, struct cs_err *e)
{
    struct hcl_items items;
    CS_TRY(hcl_parse(text, a, &items, e));
    return config_decode(s, items, "root", a, out, e);
}

/* SPIRE's word for it does not say where. Ours does, after it. */
cs_code config_malformed(struct config_remarks *r, struct cs_arena *a, cs_code rc, struct cs_err *e)
{
    if (rc != CS_INVALID)
        return rc;
    const struct cs_err why = *e;
    CS_TRY(config_remark(r, a, true, e, "plugin configuration is malformed: %s", why.text));
    return CS_INVALID;
}

static const char *or_empty(const char *s)
{
    return s == NULL ? "" : s;
}

/* --- NodeAttestor "k8s_psat" --- */

struct psat_cluster_file {
    struct config_strings service_account_allow_list, audience, allowed_node_label_keys,
        allowed_pod_label_keys;
    const char *kube_config_file;
    struct config_bool use_pod_uid_for_agent_id;
};
#define AT(field) offsetof(struct psat_cluster_file, field)
static const struct config_option psat_cluster_options[] = {
    {"service_account_allow_list", CONFIG_STRINGS, CONFIG_READY, AT(service_account_allow_list), NULL,
     "Service accounts that may attest, as `namespace:name`. Needed.", NULL},
    {"audience", CONFIG_STRINGS, CONFIG_READY, AT(audience), "[\"spire-server\"]",
     "Audiences, one of which the token must have. `[]`: the API server's own.", NULL},
    {"kube_config_file", CONFIG_STRING, CONFIG_READY, AT(kube_config_file), NULL,
     "Kubeconfig for the API server. Not given: the server runs in the cluster.", NULL},
    {"allowed_node_label_keys", CONFIG_STRINGS, CONFIG_READY, AT(allowed_node_label_keys), NULL,
     "Labels of the node that become selectors.", NULL},
    {"allowed_pod_label_keys", CONFIG_STRINGS, CONFIG_READY, AT(allowed_pod_label_keys), NULL,
     "Labels of the agent's pod that become selectors.", NULL},
    {"use_pod_uid_for_agent_id", CONFIG_BOOL, CONFIG_READY, AT(use_pod_uid_for_agent_id), "false",
     "Name agents for their pods and not for their nodes.", NULL},
};
#undef AT
static const struct config_section psat_cluster_section = {.title = "cluster",
                                                           .size = sizeof(struct psat_cluster_file),
                                                           .given = CONFIG_NO_OFFSET,
                                                           .unknown = CONFIG_NO_OFFSET,
                                                           .options = psat_cluster_options,
                                                           .count = COUNT(psat_cluster_options)};
struct clusters_file {
    struct config_map clusters;
};
static const struct config_option psat_options[] = {
    {"clusters", CONFIG_MAP, CONFIG_READY, offsetof(struct clusters_file, clusters), NULL,
     "The clusters whose agents may attest, by the name that agents give. None: nobody may.",
     &psat_cluster_section},
};
const struct config_section config_k8s_psat_section = {.title = "k8s_psat",
                                                       .size = sizeof(struct clusters_file),
                                                       .given = CONFIG_NO_OFFSET,
                                                       .unknown = CONFIG_NO_OFFSET,
                                                       .options = psat_options,
                                                       .count = COUNT(psat_options)};

static cs_code psat_cluster(const char *name, const struct psat_cluster_file *f, struct cs_arena *a,
                            struct config_k8s_psat_cluster *c, struct config_remarks *remarks,
                            struct cs_err *e)
{
    static const char *const audience[] = {"spire-server"};
    *c = (struct config_k8s_psat_cluster){.name = name,
                                          .service_accounts = f->service_account_allow_list,
                                          .audience = f->audience,
                                          .kube_config_file = or_empty(f->kube_config_file),
                                          .node_labels = f->allowed_node_label_keys,
                                          .pod_labels = f->allowed_pod_label_keys,
                                          .use_pod_uid = f->use_pod_uid_for_agent_id.value};
    if (f->audience.at == NULL) /* an empty list is one */
        c->audience = (struct config_strings){audience, 1};
    if (c->service_accounts.len > 0)
        return CS_OK;
    return config_remark(remarks, a, true, e,
                         "cluster \"%s\" configuration must have at least one service account allowed", name);
}

cs_code config_read_k8s_psat(struct cs_slice text, struct cs_arena *a, struct config_k8s_psat *out,
                             struct config_remarks *remarks, struct cs_err *e)
{
    struct clusters_file f = {0};
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = (struct config_k8s_psat){0};
    cs_code rc = config_read_section(text, &config_k8s_psat_section, a, &f, e);
    if (rc != CS_OK)
        return config_malformed(remarks, a, rc, e);
    if (f.clusters.len == 0)
        CS_TRY(config_remark(remarks, a, false, e,
                             "No clusters configured, PSAT attestation is effectively disabled"));
    struct config_k8s_psat_cluster *c = cs_arena_zalloc(a, (f.clusters.len + 1) * sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < f.clusters.len; i++)
        CS_TRY(psat_cluster(f.clusters.labels[i], f.clusters.at[i], a, &c[i], remarks, e));
    if (remarks->faulty)
        return CS_INVALID;
    *out = (struct config_k8s_psat){c, f.clusters.len};
    return CS_OK;
}

/* --- NodeAttestor "k8s_sat" --- */

struct sat_cluster_file {
    struct config_strings service_account_allow_list;
    struct config_bool use_token_review_api_validation;
    const char *service_account_key_file, *kube_config_file;
};
#define AT(field) offsetof(struct sat_cluster_file, field)
static const struct config_option sat_cluster_options[] = {
    {"service_account_allow_list", CONFIG_STRINGS, CONFIG_READY, AT(service_account_allow_list), NULL,
     "Service accounts that may attest, as `namespace:name`. Needed.", NULL},
    {"use_token_review_api_validation", CONFIG_BOOL, CONFIG_READY, AT(use_token_review_api_validation),
     "false", "Ask the API server whose token it is, rather than verify it with keys from a file.", NULL},
    {"service_account_key_file", CONFIG_STRING, CONFIG_READY, AT(service_account_key_file), NULL,
     "PEM file with the cluster's keys for tokens: public keys or certificates. Needed unless the API server "
     "is asked.",
     NULL},
    {"kube_config_file", CONFIG_STRING, CONFIG_READY, AT(kube_config_file), NULL,
     "Kubeconfig for the API server. Not given: the server runs in the cluster.", NULL},
};
#undef AT
static const struct config_section sat_cluster_section = {.title = "cluster",
                                                          .size = sizeof(struct sat_cluster_file),
                                                          .given = CONFIG_NO_OFFSET,
                                                          .unknown = CONFIG_NO_OFFSET,
                                                          .options = sat_cluster_options,
                                                          .count = COUNT(sat_cluster_options)};
static const struct config_option sat_options[] = {
    {"clusters", CONFIG_MAP, CONFIG_READY, offsetof(struct clusters_file, clusters), NULL,
     "The clusters whose agents may attest, by the name that agents give. Needed.", &sat_cluster_section},
};
const struct config_section config_k8s_sat_section = {.title = "k8s_sat",
                                                      .size = sizeof(struct clusters_file),
                                                      .given = CONFIG_NO_OFFSET,
                                                      .unknown = CONFIG_NO_OFFSET,
                                                      .options = sat_options,
                                                      .count = COUNT(sat_options)};

static cs_code sat_cluster(const char *name, const struct sat_cluster_file *f, struct cs_arena *a,
                           struct config_k8s_sat_cluster *c, struct config_remarks *remarks, struct cs_err *e)
{
    *c = (struct config_k8s_sat_cluster){.name = name,
                                         .service_accounts = f->service_account_allow_list,
                                         .use_token_review = f->use_token_review_api_validation.value,
                                         .key_file = or_empty(f->service_account_key_file),
                                         .kube_config_file = or_empty(f->kube_config_file)};
    if (!c->use_token_review && c->key_file[0] == '\0')
        CS_TRY(config_remark(remarks, a, true, e,
                             "cluster \"%s\" configuration missing service account key file", name));
    if (c->service_accounts.len > 0)
        return CS_OK;
    return config_remark(remarks, a, true, e,
                         "cluster \"%s\" configuration must have at least one service account allowed", name);
}

cs_code config_read_k8s_sat(struct cs_slice text, struct cs_arena *a, struct config_k8s_sat *out,
                            struct config_remarks *remarks, struct cs_err *e)
{
    struct clusters_file f = {0};
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = (struct config_k8s_sat){0};
    cs_code rc = config_read_section(text, &config_k8s_sat_section, a, &f, e);
    if (rc == CS_INVALID) {
        const struct cs_err why = *e;
        CS_TRY(config_remark(remarks, a, true, e, "unable to decode configuration: %s", why.text));
    }
    if (rc != CS_OK)
        return rc;
    if (f.clusters.len == 0)
        CS_TRY(config_remark(remarks, a, true, e, "configuration must have at least one cluster"));
    struct config_k8s_sat_cluster *c = cs_arena_zalloc(a, (f.clusters.len + 1) * sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < f.clusters.len; i++)
        CS_TRY(sat_cluster(f.clusters.labels[i], f.clusters.at[i], a, &c[i], remarks, e));
    if (remarks->faulty)
        return CS_INVALID;
    *out = (struct config_k8s_sat){c, f.clusters.len};
    return CS_OK;
}

/* --- The agent's halves --- */

#define PSAT_TOKEN "/var/run/secrets/tokens/spire-agent"
#define SAT_TOKEN "/var/run/secrets/kubernetes.io/serviceaccount/token"

#define AT(field) offsetof(struct config_k8s_agent, field)
#define CLUSTER_OPTION                                                                                       \
    {                                                                                                        \
        "cluster", CONFIG_STRING, CONFIG_READY, AT(cluster), NULL,                                           \
            "Name of the cluster in the server's configuration. Needed.", NULL                               \
    }
static const struct config_option psat_agent_options[] = {
    CLUSTER_OPTION,
    {"token_path", CONFIG_STRING, CONFIG_READY, AT(token_path), PSAT_TOKEN,
     "File of the projected service account token.", NULL},
};
static const struct config_option sat_agent_options[] = {
    CLUSTER_OPTION,
    {"token_path", CONFIG_STRING, CONFIG_READY, AT(token_path), SAT_TOKEN,
     "File of the service account token.", NULL},
};
#undef AT
const struct config_section config_k8s_psat_agent_section = {.title = "k8s_psat",
                                                             .size = sizeof(struct config_k8s_agent),
                                                             .given = CONFIG_NO_OFFSET,
                                                             .unknown = CONFIG_NO_OFFSET,
                                                             .options = psat_agent_options,
                                                             .count = COUNT(psat_agent_options)};
const struct config_section config_k8s_sat_agent_section = {.title = "k8s_sat",
                                                            .size = sizeof(struct config_k8s_agent),
                                                            .given = CONFIG_NO_OFFSET,
                                                            .unknown = CONFIG_NO_OFFSET,
                                                            .options = sat_agent_options,
                                                            .count = COUNT(sat_agent_options)};

static cs_code read_agent(struct cs_slice text, const struct config_section *s, const char *token_path,
                          const char *missing, struct cs_arena *a, struct config_k8s_agent *out,
                          struct cs_err *e)
{
    *out = (struct config_k8s_agent){0};
    cs_code rc = config_read_section(text, s, a, out, e);
    out->cluster = or_empty(out->cluster);
    if (out->token_path == NULL || out->token_path[0] == '\0')
        out->token_path = token_path;
    if (rc != CS_OK)
        return rc == CS_INVALID ? cs_wrap(e, "unable to decode configuration") : rc;
    return out->cluster[0] != '\0' ? CS_OK : cs_fail(e, CS_INVALID, "%s", missing);
}

cs_code config_read_k8s_psat_agent(struct cs_slice text, struct cs_arena *a, struct config_k8s_agent *out,
                                   struct cs_err *e)
{
    return read_agent(text, &config_k8s_psat_agent_section, PSAT_TOKEN, "missing required cluster block", a,
                      out, e);
}

cs_code config_read_k8s_sat_agent(struct cs_slice text, struct cs_arena *a, struct config_k8s_agent *out,
                                  struct cs_err *e)
{
    return read_agent(text, &config_k8s_sat_agent_section, SAT_TOKEN, "configuration missing cluster", a, out,
                      e);
}
