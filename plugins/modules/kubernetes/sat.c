/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "k8s_sat": an agent in Kubernetes proves itself with a service account token. SPIRE had it
 * until release 1.11 (pkg/server/plugin/nodeattestor/k8ssat); IDs, selectors and texts are those of then. See
 * docs/plugins/server-nodeattestor-k8s_sat.md for what it does not prove.
 */
#include "base/clock.h"
#include "crypto/jose.h"
#include "plugins/modules/kubernetes/sat_token.h"

#include <pthread.h>
#include <stdatomic.h>

#define NAME "k8s_sat"

struct cluster {
    const struct config_k8s_sat_cluster *config;
    struct kube_client *client; /* with TokenReview */
    struct sat_keys keys;       /* without */
};

/* Immutable, shared by the attestations that began under it. */
struct settings {
    atomic_uint refs;
    struct cs_arena *arena;
    struct config_k8s_sat config;
    struct cluster *clusters;
};

struct attestor {
    const struct plugin_env *env;
    pthread_mutex_t lock; /* for the pointer */
    struct settings *settings;
    struct cs_log_limit warnings;
};

/* --- Settings --- */

static void settings_unref(struct settings *s)
{
    if (s == NULL || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; s->clusters != NULL && i < s->config.count; i++) {
        kube_client_free(s->clusters[i].client);
        sat_keys_free(&s->clusters[i].keys);
    }
    cs_arena_free(s->arena);
    cs_free(s);
}

static inline void settings_drop(struct settings **s)
{
    settings_unref(*s);
    *s = NULL;
}

static cs_code cluster_make(const struct config_k8s_sat_cluster *c, struct cluster *out, struct cs_err *e)
{
    const struct kube_options o = {.kubeconfig = c->kube_config_file, .later = true};
    struct cs_err why = {0};
    out->config = c;
    if (c->use_token_review)
        return kube_client_new(&o, &out->client, e);
    if (sat_keys_load(c->key_file, &out->keys, &why) != CS_OK)
        return cs_fail(e, CS_INVALID, "failed to load cluster \"%s\" service account keys from \"%s\": %s",
                       c->name, c->key_file, why.text);
    if (out->keys.count == 0)
        return cs_fail(e, CS_INVALID, "cluster \"%s\" has no service account keys in \"%s\"", c->name,
                       c->key_file);
    return CS_OK;
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
    CS_TRY(config_read_k8s_sat(data, s->arena, &s->config, &remarks, e));
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
    cs_log_warn(
        &a->env->log,
        "The \"k8s_sat\" node attestor plugin has been deprecated in favor of the \"k8s_psat\" plugin: its "
        "tokens are not made for this server, not bound to a pod, and may not expire; whoever can read one "
        "can attest as any number of agents");
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
    struct config_k8s_sat config;
    struct config_remarks remarks = {0};
    (void)env;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    cs_code rc = config_read_k8s_sat(data, arena, &config, &remarks, e);
    return rc == CS_OK || remarks.faulty ? k8s_note_remarks(&remarks, notes, e) : rc;
}

/* --- Whose token it is --- */

static cs_code ask(const struct cluster *c, struct cs_slice token, const struct crypto_stop *stop,
                   struct cs_arena *arena, struct k8s_account *out, struct cs_err *e)
{
    CS_CLEANUP(kube_review_free) struct kube_review review = {0};
    CS_CLEANUP(kube_json_drop) json_t *any = json_array(); /* these tokens have no audience */
    struct cs_err why = {0};
    cs_code rc = kube_review_token(c->client, token, any, stop, &review, &why);
    if (rc != CS_OK)
        return cs_fail(e, rc == CS_CANCELLED ? rc : CS_INTERNAL,
                       "unable to validate token with TokenReview API: %s", why.text);
    if (!review.authenticated)
        return cs_fail(e, CS_DENIED, "token not authenticated according to TokenReview API");
    rc = k8s_account_read(review.username, arena, out, &why);
    return rc == CS_OK
               ? CS_OK
               : cs_fail(e, CS_INTERNAL, "fail to parse username from token review status: %s", why.text);
}

static cs_code verify(struct attestor *a, const struct cluster *c, struct cs_slice token,
                      struct cs_arena *arena, struct k8s_account *out, struct cs_err *e)
{
    struct sat_claims claims;
    CS_TRY(sat_token_verify(token, &c->keys, cs_now_s(a->env->clock), arena, &claims, e));
    if (claims.expires && cs_log_limit_ok(&a->warnings, 1, NULL))
        cs_log_warn(&a->env->log,
                    "The service account token has an expiration time, which is an indication that may be a "
                    "projected service account token. If your cluster supports Service Account Token Volume "
                    "Projection you should instead use the `k8s_psat` attestor as soon as possible.");
    *out = (struct k8s_account){.namespace = claims.namespace,
                                .name = claims.account,
                                .full = cs_arena_printf(arena, "%s:%s", claims.namespace, claims.account)};
    return out->full != NULL ? CS_OK : cs_nomem(e);
}

/* --- Attestation --- */

static cs_code admit(struct attestor *a, struct k8s_session *s, const char *cluster,
                     const struct k8s_account *account, struct nodeattestor_step *step, struct cs_err *e)
{
    char uuid[37];
    CS_TRY(cs_uuid(uuid, e));
    CS_TRY(k8s_select(s, "cluster", cluster, e));
    CS_TRY(k8s_select(s, "agent_ns", account->namespace, e));
    CS_TRY(k8s_select(s, "agent_sa", account->name, e));
    CS_TRY(k8s_admit(s, a->env->trust_domain, NAME, cluster, uuid, step, e));
    step->can_reattest = false;
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
    struct k8s_account account;
    CS_AUTO(k8s_session) s = NULL;
    CS_CLEANUP(k8s_payload_free) struct k8s_payload payload = {0};
    *session = NULL;
    CS_AUTO(settings) settings = settings_get(a);
    if (settings == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    CS_TRY(k8s_payload_read(request->payload, "failed to unmarshal attestation data", &payload, e));
    const struct cluster *c = find_cluster(settings, payload.cluster);
    if (c == NULL)
        return cs_fail(e, CS_INVALID, "not configured for cluster \"%.256s\"", payload.cluster);
    CS_TRY(k8s_session_new(&s, e));
    k8s_stop_init(&stop, request->gone, a->env->stop);
    if (c->config->use_token_review)
        CS_TRY(ask(c, payload.token, &stop.stop, s->arena, &account, e));
    else
        CS_TRY(verify(a, c, payload.token, s->arena, &account, e));
    if (!k8s_list_has(&c->config->service_accounts, account.full))
        return cs_fail(e, CS_DENIED, "\"%s\" is not an allowed service account", account.full);
    CS_TRY(admit(a, s, c->config->name, &account, step, e));
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

const struct plugin_builtin plugin_nodeattestor_k8s_sat = {
    .name = NAME,
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
