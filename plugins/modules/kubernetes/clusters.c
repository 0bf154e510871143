/* SPDX-License-Identifier: Apache-2.0
 *
 * What the node attestors "k8s_psat" and "k8s_sat" are: clusters that are configured, and agents that come
 * with a token of one of them. What a token is worth is for each to say.
 */
#include "plugins/modules/kubernetes/sat_token.h"

/* --- Clusters --- */

static void clusters_clear(void *settings)
{
    struct k8s_clusters *s = settings;
    for (size_t i = 0; i < s->count; i++) {
        kube_client_free(s->at[i].client);
        json_decref(s->at[i].audience);
        if (s->at[i].keys != NULL)
            sat_keys_free(s->at[i].keys);
    }
}

cs_code k8s_clusters_alloc(struct k8s_clusters *s, size_t count, struct cs_err *e)
{
    s->at = cs_arena_zalloc(plugin_settings_arena(s), (count + 1) * sizeof *s->at);
    if (s->at == NULL)
        return cs_nomem(e);
    s->count = count;
    return CS_OK;
}

cs_code k8s_cluster_connect(struct k8s_cluster *c, const char *kubeconfig,
                            const struct config_strings *audience, struct cs_err *e)
{
    const struct kube_options o = {.kubeconfig = kubeconfig, .later = true};
    c->audience = json_array();
    for (size_t i = 0; i < audience->len; i++)
        if (json_array_append_new(c->audience, json_string(audience->at[i])) != 0)
            return cs_fail(e, CS_INVALID, "cluster \"%s\": an audience is not text", c->name);
    return kube_client_new(&o, &c->client, e);
}

static const struct k8s_cluster *find(const struct k8s_clusters *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->at[i].name, name) == 0)
            return &s->at[i];
    return NULL;
}

/* --- Life --- */

cs_code k8s_attestor_create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct k8s_attestor *a = cs_calloc(1, sizeof *a);
    *self = a;
    if (a == NULL)
        return cs_nomem(e);
    a->env = env;
    plugin_slot_init(&a->clusters);
    return CS_OK;
}

void k8s_attestor_destroy(void *self)
{
    struct k8s_attestor *a = self;
    plugin_slot_destroy(&a->clusters);
    cs_free(a);
}

cs_code k8s_attestor_configure(struct k8s_attestor *a, struct cs_slice data,
                               cs_code (*read)(struct cs_slice data, struct k8s_clusters *out,
                                               struct cs_err *e),
                               struct cs_err *e)
{
    CS_CLEANUP(plugin_settings_drop) struct k8s_clusters *s = plugin_settings_new(sizeof *s, clusters_clear);
    if (s == NULL)
        return cs_nomem(e);
    CS_TRY(read(data, s, e));
    plugin_slot_set(&a->clusters, CS_MOVE(s));
    return CS_OK;
}

/* --- Attestation --- */

cs_code k8s_attestor_start(struct k8s_attestor *a, const struct nodeattestor_request *request,
                           const char *bad_payload,
                           cs_code (*attest)(struct k8s_attestor *a, const struct k8s_visit *v,
                                             struct nodeattestor_step *step, struct cs_err *e),
                           void **session, struct nodeattestor_step *step, struct cs_err *e)
{
    struct k8s_stop stop;
    CS_AUTO(k8s_session) s = NULL;
    CS_CLEANUP(k8s_payload_free) struct k8s_payload payload = {0};
    *session = NULL;
    CS_CLEANUP(plugin_settings_drop) const struct k8s_clusters *clusters = plugin_slot_get(&a->clusters);
    if (clusters == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    CS_TRY(k8s_payload_read(request->payload, bad_payload, &payload, e));
    const struct k8s_cluster *cluster = find(clusters, payload.cluster);
    if (cluster == NULL)
        return cs_fail(e, CS_INVALID, "not configured for cluster \"%.256s\"", payload.cluster);
    CS_TRY(k8s_session_new(&s, e));
    k8s_stop_init(&stop, request->gone, a->env->stop);
    const struct k8s_visit v = {.cluster = cluster, .token = payload.token, .session = s, .stop = &stop.stop};
    CS_TRY(attest(a, &v, step, e));
    *session = CS_MOVE(s);
    return CS_OK;
}

cs_code k8s_attestor_respond(void *self, void *session, struct cs_slice response,
                             struct nodeattestor_step *step, struct cs_err *e)
{
    (void)self, (void)session, (void)response, (void)step;
    return cs_fail(e, CS_INTERNAL, "no challenge was sent");
}
