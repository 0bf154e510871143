/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "k8s_psat" (pkg/server/plugin/nodeattestor/k8spsat): an agent in Kubernetes proves itself with
 * a projected service account token, which the API server knows to be of this pod. IDs, selectors and texts
 * are SPIRE's.
 */
#include "plugins/modules/kubernetes/plugins.h"

#define NAME "k8s_psat"
#define POD_NAME "authentication.kubernetes.io/pod-name"
#define POD_UID "authentication.kubernetes.io/pod-uid"

/* --- Configuration --- */

static cs_code read_clusters(struct cs_slice data, struct k8s_clusters *out, struct cs_err *e)
{
    struct config_k8s_psat config;
    struct config_remarks remarks = {0};
    CS_TRY(config_read_k8s_psat(data, plugin_settings_arena(out), &config, &remarks, e));
    CS_TRY(k8s_clusters_alloc(out, config.count, e));
    for (size_t i = 0; i < config.count; i++) {
        const struct config_k8s_psat_cluster *c = &config.clusters[i];
        out->at[i] =
            (struct k8s_cluster){.name = c->name, .service_accounts = &c->service_accounts, .psat = c};
        CS_TRY(k8s_cluster_connect(&out->at[i], c->kube_config_file, &c->audience, e));
    }
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    return k8s_attestor_configure(self, data, read_clusters, e);
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    struct config_k8s_psat config;
    struct config_remarks remarks = {0};
    (void)env;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    cs_code rc = config_read_k8s_psat(data, arena, &config, &remarks, e);
    return rc == CS_OK || remarks.faulty ? k8s_note_remarks(&remarks, notes, e) : rc;
}

/* --- One attestation --- */

struct attestation {
    const struct k8s_visit *visit;
    const struct k8s_cluster *cluster;
    struct cs_arena *arena; /* of the session */
    struct kube_review review;
    struct k8s_account account;
    const char *pod_name, *pod_uid; /* in the review */
    json_t *pod, *node;
};

static void attestation_end(struct attestation *x)
{
    kube_review_free(&x->review);
    json_decref(x->pod);
    json_decref(x->node);
}

/* Errors of looking things up are Internal, whatever their kind: only a token that is no good denies an
 * agent, which then does not try again. That the server or the agent ends is no error of theirs. */
static cs_code failed(const struct attestation *x, cs_code rc, const char *what, struct cs_err *e)
{
    const struct cs_err why = *e;
    return cs_fail(e, rc == CS_CANCELLED ? rc : CS_INTERNAL, "%s for cluster \"%s\": %s", what,
                   x->cluster->name, why.text);
}

static cs_code review(struct attestation *x, struct cs_err *e)
{
    const struct k8s_cluster *c = x->cluster;
    cs_code rc = kube_review_token(c->client, x->visit->token, c->audience, x->visit->stop, &x->review, e);
    if (rc != CS_OK)
        return failed(x, rc, "unable to validate token with TokenReview API", e);
    if (!x->review.authenticated)
        return cs_fail(e, CS_DENIED,
                       "token not authenticated according to TokenReview API for cluster \"%s\"",
                       x->cluster->name);
    rc = k8s_account_read(x->review.username, x->arena, &x->account, e);
    if (rc != CS_OK)
        return failed(x, rc, "fail to parse username from token review status", e);
    if (!config_strings_have(c->service_accounts, x->account.full))
        return cs_fail(e, CS_DENIED, "\"%s\" is not an allowed service account for cluster \"%s\"",
                       x->account.full, x->cluster->name);
    rc = kube_review_extra(&x->review, POD_NAME, "pod name", "name", &x->pod_name, e);
    if (rc != CS_OK)
        return failed(x, rc, "fail to get pod name from token review status", e);
    rc = kube_review_extra(&x->review, POD_UID, "pod UID", "UID", &x->pod_uid, e);
    if (rc != CS_OK)
        return failed(x, rc, "fail to get pod UID from token review status", e);
    return CS_OK;
}

static cs_code get_pod(struct attestation *x, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    CS_TRY(kube_path(&path, e, "/api/v1/namespaces/%s/pods/%s", x->account.namespace, x->pod_name));
    cs_code rc = kube_get(x->cluster->client, cs_buf_cstr(&path), x->visit->stop, &x->pod, e);
    return rc == CS_OK ? CS_OK : cs_wrap(e, "unable to query pods API");
}

static cs_code get_node(struct attestation *x, const char *name, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    if (name[0] == '\0')
        return cs_fail(e, CS_INVALID, "empty node name");
    CS_TRY(kube_path(&path, e, "/api/v1/nodes/%s", name));
    cs_code rc = kube_get(x->cluster->client, cs_buf_cstr(&path), x->visit->stop, &x->node, e);
    return rc == CS_OK ? CS_OK : cs_wrap(e, "unable to query nodes API");
}

static cs_code add_labels(struct attestation *x, const char *kind, const json_t *object,
                          const struct config_strings *allowed, struct cs_err *e)
{
    const json_t *labels = json_object_get(json_object_get(object, "metadata"), "labels");
    for (size_t i = 0; i < allowed->len; i++) {
        const json_t *value = json_object_get(labels, allowed->at[i]);
        if (!json_is_string(value))
            continue;
        const char *text = cs_arena_printf(x->arena, "%s:%s", allowed->at[i], json_string_value(value));
        if (text == NULL)
            return cs_nomem(e);
        CS_TRY(k8s_select(x->visit->session, kind, text, e));
    }
    return CS_OK;
}

static cs_code describe(struct attestation *x, const char *node_name, const char *node_uid, struct cs_err *e)
{
    static const char *const host_ip[] = {"status", "hostIP", NULL};
    const struct {
        const char *kind, *value;
    } rows[] = {{"cluster", x->cluster->name},  {"agent_ns", x->account.namespace},
                {"agent_sa", x->account.name},  {"agent_pod_name", x->pod_name},
                {"agent_pod_uid", x->pod_uid},  {"agent_node_ip", kube_text_at(x->pod, host_ip)},
                {"agent_node_name", node_name}, {"agent_node_uid", node_uid}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CS_TRY(k8s_select(x->visit->session, rows[i].kind, rows[i].value, e));
    CS_TRY(add_labels(x, "agent_node_label", x->node, &x->cluster->psat->node_labels, e));
    return add_labels(x, "agent_pod_label", x->pod, &x->cluster->psat->pod_labels, e);
}

static cs_code examine(struct attestation *x, const char *trust_domain, struct nodeattestor_step *step,
                       struct cs_err *e)
{
    static const char *const node_name_at[] = {"spec", "nodeName", NULL};
    CS_TRY(review(x, e));
    cs_code rc = get_pod(x, e);
    if (rc != CS_OK)
        return failed(x, rc, "fail to get pod from k8s API server", e);
    /* A pod that came after the token's, under the same name, is another one. */
    const char *uid = kube_text(json_object_get(x->pod, "metadata"), "uid");
    if (strcmp(uid, x->pod_uid) != 0)
        return cs_fail(e, CS_INTERNAL,
                       "fail to get pod from k8s API server for cluster \"%s\": pod \"%s\" is not "
                       "the one of the token",
                       x->cluster->name, x->pod_name);
    const char *node_name = kube_text_at(x->pod, node_name_at);
    rc = get_node(x, node_name, e);
    if (rc != CS_OK)
        return failed(x, rc, "fail to get node from k8s API server", e);
    const char *node_uid = kube_text(json_object_get(x->node, "metadata"), "uid");
    if (node_uid[0] == '\0')
        return cs_fail(e, CS_INTERNAL, "node UID is empty for cluster \"%s\"", x->cluster->name);
    CS_TRY(describe(x, node_name, node_uid, e));
    const char *last =
        x->cluster->psat->use_pod_uid ? cs_arena_printf(x->arena, "pod/%s", x->pod_uid) : node_uid;
    if (last == NULL)
        return cs_nomem(e);
    CS_TRY(k8s_admit(x->visit->session, trust_domain, NAME, x->cluster->name, last, step, e));
    step->can_reattest = true;
    return CS_OK;
}

static cs_code attest(struct k8s_attestor *a, const struct k8s_visit *v, struct nodeattestor_step *step,
                      struct cs_err *e)
{
    CS_CLEANUP(attestation_end)
    struct attestation x = {.visit = v, .cluster = v->cluster, .arena = v->session->arena};
    return examine(&x, a->env->trust_domain, step, e);
}

static cs_code start(void *self, const struct nodeattestor_request *request, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    return k8s_attestor_start(self, request, "failed to unmarshal data payload", attest, session, step, e);
}

static const struct nodeattestor_ops ops = {
    .start = start, .respond = k8s_attestor_respond, .end = k8s_session_end};

const struct plugin_builtin plugin_nodeattestor_k8s_psat = {
    .name = NAME,
    .ops = &ops,
    .create = k8s_attestor_create,
    .destroy = k8s_attestor_destroy,
    .configure = configure,
    .validate = validate,
};
