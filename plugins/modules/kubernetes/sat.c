/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "k8s_sat": an agent in Kubernetes proves itself with a service account token. SPIRE had it
 * until release 1.11 (pkg/server/plugin/nodeattestor/k8ssat); IDs, selectors and texts are those of then. See
 * docs/plugins/server-nodeattestor-k8s_sat.md for what it does not prove.
 */
#include "base/clock.h"
#include "crypto/jose.h"
#include "plugins/modules/kubernetes/sat_token.h"

#define NAME "k8s_sat"

/* --- Configuration --- */

static cs_code load_keys(const struct config_k8s_sat_cluster *c, struct sat_keys *out, struct cs_err *e)
{
    struct cs_err why = {0};
    if (sat_keys_load(c->key_file, out, &why) != CS_OK)
        return cs_fail(e, CS_INVALID, "failed to load cluster \"%s\" service account keys from \"%s\": %s",
                       c->name, c->key_file, why.text);
    if (out->count == 0)
        return cs_fail(e, CS_INVALID, "cluster \"%s\" has no service account keys in \"%s\"", c->name,
                       c->key_file);
    return CS_OK;
}

static cs_code read_clusters(struct cs_slice data, struct k8s_clusters *out, struct cs_err *e)
{
    static const struct config_strings any; /* these tokens have no audience */
    struct cs_arena *arena = plugin_settings_arena(out);
    struct config_k8s_sat config;
    struct config_remarks remarks = {0};
    CS_TRY(config_read_k8s_sat(data, arena, &config, &remarks, e));
    CS_TRY(k8s_clusters_alloc(out, config.count, e));
    for (size_t i = 0; i < config.count; i++) {
        const struct config_k8s_sat_cluster *c = &config.clusters[i];
        out->at[i] = (struct k8s_cluster){.name = c->name, .service_accounts = &c->service_accounts};
        if (c->use_token_review) {
            CS_TRY(k8s_cluster_connect(&out->at[i], c->kube_config_file, &any, e));
            continue;
        }
        out->at[i].keys = cs_arena_zalloc(arena, sizeof *out->at[i].keys);
        if (out->at[i].keys == NULL)
            return cs_nomem(e);
        CS_TRY(load_keys(c, out->at[i].keys, e));
    }
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct k8s_attestor *a = self;
    cs_log_warn(
        &a->env->log,
        "The \"k8s_sat\" node attestor plugin has been deprecated in favor of the \"k8s_psat\" plugin: its "
        "tokens are not made for this server, not bound to a pod, and may not expire; whoever can read one "
        "can attest as any number of agents");
    return k8s_attestor_configure(a, data, read_clusters, e);
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

static cs_code ask(const struct k8s_visit *v, struct k8s_account *out, struct cs_err *e)
{
    CS_CLEANUP(kube_review_free) struct kube_review review = {0};
    struct cs_err why = {0};
    cs_code rc =
        kube_review_token(v->cluster->client, v->token, v->cluster->audience, v->stop, &review, &why);
    if (rc != CS_OK)
        return cs_fail(e, rc == CS_CANCELLED ? rc : CS_INTERNAL,
                       "unable to validate token with TokenReview API: %s", why.text);
    if (!review.authenticated)
        return cs_fail(e, CS_DENIED, "token not authenticated according to TokenReview API");
    rc = k8s_account_read(review.username, v->session->arena, out, &why);
    return rc == CS_OK
               ? CS_OK
               : cs_fail(e, CS_INTERNAL, "fail to parse username from token review status: %s", why.text);
}

static cs_code verify(struct k8s_attestor *a, const struct k8s_visit *v, struct k8s_account *out,
                      struct cs_err *e)
{
    struct cs_arena *arena = v->session->arena;
    struct sat_claims claims;
    CS_TRY(sat_token_verify(v->token, v->cluster->keys, cs_now_s(a->env->clock), arena, &claims, e));
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

static cs_code admit(struct k8s_attestor *a, const struct k8s_visit *v, const struct k8s_account *account,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    const char *cluster = v->cluster->name;
    char uuid[37];
    CS_TRY(cs_uuid(uuid, e));
    CS_TRY(k8s_select(v->session, "cluster", cluster, e));
    CS_TRY(k8s_select(v->session, "agent_ns", account->namespace, e));
    CS_TRY(k8s_select(v->session, "agent_sa", account->name, e));
    CS_TRY(k8s_admit(v->session, a->env->trust_domain, NAME, cluster, uuid, step, e));
    step->can_reattest = false;
    return CS_OK;
}

static cs_code attest(struct k8s_attestor *a, const struct k8s_visit *v, struct nodeattestor_step *step,
                      struct cs_err *e)
{
    struct k8s_account account;
    CS_TRY(v->cluster->client != NULL ? ask(v, &account, e) : verify(a, v, &account, e));
    if (!config_strings_have(v->cluster->service_accounts, account.full))
        return cs_fail(e, CS_DENIED, "\"%s\" is not an allowed service account", account.full);
    return admit(a, v, &account, step, e);
}

static cs_code start(void *self, const struct nodeattestor_request *request, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    return k8s_attestor_start(self, request, "failed to unmarshal attestation data", attest, session, step,
                              e);
}

static const struct nodeattestor_ops ops = {
    .start = start, .respond = k8s_attestor_respond, .end = k8s_session_end};

const struct plugin_builtin plugin_nodeattestor_k8s_sat = {
    .name = NAME,
    .ops = &ops,
    .create = k8s_attestor_create,
    .destroy = k8s_attestor_destroy,
    .configure = configure,
    .validate = validate,
};
