/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "k8s_psat" (pkg/server/plugin/nodeattestor/k8spsat): an agent in Kubernetes proves itself with
 * a projected service account token, which the API server knows to be of this pod. IDs, selectors and texts
 * are SPIRE's.
 */
#include "plugins/modules/kubernetes/plugins.h"

#include <pthread.h>
#include <stdatomic.h>

#define NAME "k8s_psat"
#define POD_NAME "authentication.kubernetes.io/pod-name"
#define POD_UID "authentication.kubernetes.io/pod-uid"

struct cluster {
    const struct config_k8s_psat_cluster *config;
    struct kube_client *client;
    json_t *audience;
};

/* Immutable, shared by the attestations that began under it. */
struct settings {
    atomic_uint refs;
    struct cs_arena *arena;
    struct config_k8s_psat config;
    struct cluster *clusters;
};

struct attestor {
    const struct plugin_env *env;
    pthread_mutex_t lock; /* for the pointer */
    struct settings *settings;
};

/* --- Settings --- */

static void settings_unref(struct settings *s)
{
    if (s == NULL || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; s->clusters != NULL && i < s->config.count; i++) {
        kube_client_free(s->clusters[i].client);
        json_decref(s->clusters[i].audience);
    }
    cs_arena_free(s->arena);
    cs_free(s);
}

static inline void settings_drop(struct settings **s)
{
    settings_unref(*s);
    *s = NULL;
}

static cs_code cluster_make(const struct config_k8s_psat_cluster *c, struct cluster *out, struct cs_err *e)
{
    /* The kubeconfig is looked at when an agent comes: a cluster may be there later than the server. */
    const struct kube_options o = {.kubeconfig = c->kube_config_file, .later = true};
    out->config = c;
    out->audience = json_array();
    for (size_t i = 0; i < c->audience.len; i++)
        if (json_array_append_new(out->audience, json_string(c->audience.at[i])) != 0)
            return cs_fail(e, CS_INVALID, "cluster \"%s\": an audience is not text", c->name);
    return kube_client_new(&o, &out->client, e);
}

static cs_code settings_make(struct cs_slice data, struct settings **out, struct cs_err *e)
{
    struct config_remarks remarks = {0};
    CS_AUTO(settings) s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    atomic_init(&s->refs, 1);
    s->arena = cs_arena_new(0, 0);
    if (s->arena == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_k8s_psat(data, s->arena, &s->config, &remarks, e));
    s->clusters = cs_arena_zalloc(s->arena, (s->config.count + 1) * sizeof *s->clusters);
    if (s->clusters == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < s->config.count; i++)
        CS_TRY(cluster_make(&s->config.clusters[i], &s->clusters[i], e));
    *out = CS_MOVE(s);
    return CS_OK;
}

static struct settings *settings_get(struct attestor *a)
{
    pthread_mutex_lock(&a->lock);
    struct settings *s = a->settings;
    if (s != NULL)
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&a->lock);
    return s;
}

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct attestor *a = cs_calloc(1, sizeof *a);
    *self = a;
    if (a == NULL)
        return cs_nomem(e);
    a->env = env;
    (void)pthread_mutex_init(&a->lock, NULL); /* cannot fail without attributes on Linux */
    return CS_OK;
}

static void destroy(void *self)
{
    struct attestor *a = self;
    settings_unref(a->settings);
    pthread_mutex_destroy(&a->lock);
    cs_free(a);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct attestor *a = self;
    CS_AUTO(settings) s = NULL;
    CS_TRY(settings_make(data, &s, e));
    pthread_mutex_lock(&a->lock);
    struct settings *old = a->settings;
    a->settings = CS_MOVE(s);
    pthread_mutex_unlock(&a->lock);
    settings_unref(old);
    return CS_OK;
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
    const struct cluster *cluster;
    const char *name; /* of the cluster */
    struct k8s_session *session;
    const struct crypto_stop *stop;
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
    return cs_fail(e, rc == CS_CANCELLED ? rc : CS_INTERNAL, "%s for cluster \"%s\": %s", what, x->name,
                   why.text);
}

static cs_code review(struct attestation *x, struct cs_slice token, struct cs_err *e)
{
    const struct cluster *c = x->cluster;
    cs_code rc = kube_review_token(c->client, token, c->audience, x->stop, &x->review, e);
    if (rc != CS_OK)
        return failed(x, rc, "unable to validate token with TokenReview API", e);
    if (!x->review.authenticated)
        return cs_fail(e, CS_DENIED,
                       "token not authenticated according to TokenReview API for cluster \"%s\"", x->name);
    rc = k8s_account_read(x->review.username, x->session->arena, &x->account, e);
    if (rc != CS_OK)
        return failed(x, rc, "fail to parse username from token review status", e);
    if (!k8s_list_has(&c->config->service_accounts, x->account.full))
        return cs_fail(e, CS_DENIED, "\"%s\" is not an allowed service account for cluster \"%s\"",
                       x->account.full, x->name);
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
    cs_code rc = kube_get(x->cluster->client, cs_buf_cstr(&path), x->stop, &x->pod, e);
    return rc == CS_OK ? CS_OK : cs_wrap(e, "unable to query pods API");
}

static cs_code get_node(struct attestation *x, const char *name, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    if (name[0] == '\0')
        return cs_fail(e, CS_INVALID, "empty node name");
    CS_TRY(kube_path(&path, e, "/api/v1/nodes/%s", name));
    cs_code rc = kube_get(x->cluster->client, cs_buf_cstr(&path), x->stop, &x->node, e);
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
        const char *text =
            cs_arena_printf(x->session->arena, "%s:%s", allowed->at[i], json_string_value(value));
        if (text == NULL)
            return cs_nomem(e);
        CS_TRY(k8s_select(x->session, kind, text, e));
    }
    return CS_OK;
}

static cs_code describe(struct attestation *x, const char *node_name, const char *node_uid, struct cs_err *e)
{
    static const char *const host_ip[] = {"status", "hostIP", NULL};
    const struct {
        const char *kind, *value;
    } rows[] = {{"cluster", x->name},           {"agent_ns", x->account.namespace},
                {"agent_sa", x->account.name},  {"agent_pod_name", x->pod_name},
                {"agent_pod_uid", x->pod_uid},  {"agent_node_ip", kube_text_at(x->pod, host_ip)},
                {"agent_node_name", node_name}, {"agent_node_uid", node_uid}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CS_TRY(k8s_select(x->session, rows[i].kind, rows[i].value, e));
    CS_TRY(add_labels(x, "agent_node_label", x->node, &x->cluster->config->node_labels, e));
    return add_labels(x, "agent_pod_label", x->pod, &x->cluster->config->pod_labels, e);
}

static cs_code attest(struct attestor *a, struct attestation *x, struct cs_slice token,
                      struct nodeattestor_step *step, struct cs_err *e)
{
    static const char *const node_name_at[] = {"spec", "nodeName", NULL};
    CS_TRY(review(x, token, e));
    cs_code rc = get_pod(x, e);
    if (rc != CS_OK)
        return failed(x, rc, "fail to get pod from k8s API server", e);
    /* A pod that came after the token's, under the same name, is another one. */
    const char *uid = kube_text(json_object_get(x->pod, "metadata"), "uid");
    if (strcmp(uid, x->pod_uid) != 0)
        return cs_fail(e, CS_INTERNAL,
                       "fail to get pod from k8s API server for cluster \"%s\": pod \"%s\" is not "
                       "the one of the token",
                       x->name, x->pod_name);
    const char *node_name = kube_text_at(x->pod, node_name_at);
    rc = get_node(x, node_name, e);
    if (rc != CS_OK)
        return failed(x, rc, "fail to get node from k8s API server", e);
    const char *node_uid = kube_text(json_object_get(x->node, "metadata"), "uid");
    if (node_uid[0] == '\0')
        return cs_fail(e, CS_INTERNAL, "node UID is empty for cluster \"%s\"", x->name);
    CS_TRY(describe(x, node_name, node_uid, e));
    const char *last =
        x->cluster->config->use_pod_uid ? cs_arena_printf(x->session->arena, "pod/%s", x->pod_uid) : node_uid;
    if (last == NULL)
        return cs_nomem(e);
    CS_TRY(k8s_admit(x->session, a->env->trust_domain, NAME, x->name, last, step, e));
    step->can_reattest = true;
    return CS_OK;
}

static const struct cluster *find_cluster(const struct settings *s, const char *name)
{
    for (size_t i = 0; i < s->config.count; i++)
        if (strcmp(s->config.clusters[i].name, name) == 0)
            return &s->clusters[i];
    return NULL;
}

static cs_code start(void *self, const struct nodeattestor_request *request, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    struct attestor *a = self;
    struct k8s_stop stop;
    CS_AUTO(k8s_session) s = NULL;
    CS_CLEANUP(k8s_payload_free) struct k8s_payload payload = {0};
    CS_CLEANUP(attestation_end) struct attestation x = {0};
    *session = NULL;
    CS_AUTO(settings) settings = settings_get(a);
    if (settings == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    CS_TRY(k8s_payload_read(request->payload, "failed to unmarshal data payload", &payload, e));
    x.cluster = find_cluster(settings, payload.cluster);
    if (x.cluster == NULL)
        return cs_fail(e, CS_INVALID, "not configured for cluster \"%.256s\"", payload.cluster);
    CS_TRY(k8s_session_new(&s, e));
    k8s_stop_init(&stop, request->gone, a->env->stop);
    x.name = x.cluster->config->name;
    x.session = s;
    x.stop = &stop.stop;
    CS_TRY(attest(a, &x, payload.token, step, e));
    *session = CS_MOVE(s);
    return CS_OK;
}

static cs_code respond(void *self, void *session, struct cs_slice response, struct nodeattestor_step *step,
                       struct cs_err *e)
{
    (void)self, (void)session, (void)response, (void)step;
    return cs_fail(e, CS_INTERNAL, "no challenge was sent");
}

static const struct nodeattestor_ops ops = {.start = start, .respond = respond, .end = k8s_session_end};

const struct plugin_builtin plugin_nodeattestor_k8s_psat = {
    .name = NAME,
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
