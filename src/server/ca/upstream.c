/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ca/upstream.h"

#include "plugin/upstreamauthority.h"
#include "spiffe/x509svid.h"

#include <pthread.h>

struct ca_upstream {
    struct ca_upstream_config cfg;
    char *td_id;
    pthread_mutex_t lock;      /* one takes over roots at a time */
    struct x509_chain tainted; /* said to be tainted, and not yet so in our bundle */
};

/* --- Checking what came back --- */

static cs_code roots_to_bundle(const struct ca_upstream *u, const struct upstreamauthority_result *r,
                               struct spiffe_bundle **out, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(cs_slice_str(u->cfg.trust_domain), &b, e));
    for (size_t i = 0; i < r->root_count; i++)
        CS_TRY(spiffe_bundle_add_x509_der(b, cs_buf_slice(&r->roots[i]), r->roots_tainted[i], e));
    return spiffe_bundle_build(b, out, e);
}

/* A leaf signed by the new CA, then its chain. */
static cs_code sample_chain(const struct ca_upstream *u, const struct x509_chain *ca,
                            struct crypto_signer *signer, struct x509_chain *out, struct cs_err *e)
{
    CS_AUTO(x509_issuer) issuer = NULL;
    CS_TRY(x509_issuer_new(ca->at[0], signer, &issuer, e));
    CS_CLEANUP(cs_freep) char *id = cs_asprintf("spiffe://%s/spire/throwaway", u->cfg.trust_domain);
    if (id == NULL)
        return cs_nomem(e);
    const struct x509_issue_params params = {
        .spki = ca->at[0]->spki,
        .uri = cs_slice_str(id),
        .not_before = ca->at[0]->not_before,
        .not_after = ca->at[0]->not_after,
    };
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    if (x509_issue_svid(issuer, &params, &der, NULL, e) != CS_OK)
        return cs_wrap(e, "failed to sign validation certificate");
    CS_AUTO(x509_cert) leaf = NULL;
    CS_TRY(x509_cert_parse(cs_buf_slice(&der), &leaf, e));
    CS_TRY(x509_chain_add(out, leaf, e));
    for (size_t i = 0; i < ca->count; i++)
        CS_TRY(x509_chain_add(out, ca->at[i], e));
    return CS_OK;
}

static cs_code check(const struct ca_upstream *u, const struct upstreamauthority_result *r,
                     const struct x509_chain *chain, struct crypto_signer *signer, struct cs_err *e)
{
    int64_t now = cs_now_s(u->cfg.clock);
    if (spiffe_x509ca_check_issued(chain->at[0], cs_slice_str(u->cfg.trust_domain), now, e) != CS_OK)
        return cs_wrap(e, "invalid upstream-signed X509 CA");
    CS_AUTO(spiffe_bundle) bundle = NULL;
    CS_TRY(roots_to_bundle(u, r, &bundle, e));
    CS_CLEANUP(x509_chain_free) struct x509_chain sample = {0};
    CS_TRY(sample_chain(u, chain, signer, &sample, e));
    struct spiffe_id id;
    if (spiffe_x509svid_verify(&sample, bundle, now, NULL, &id, NULL, e) != CS_OK)
        return cs_wrap(e, "X509 CA produced an invalid X509-SVID chain");
    return CS_OK;
}

static cs_code parse_chain(const struct upstreamauthority_result *r, struct x509_chain *out, struct cs_err *e)
{
    if (r->chain_count == 0)
        return cs_fail(e, CS_INTERNAL, "plugin response missing X.509 CA chain");
    if (r->root_count == 0)
        return cs_fail(e, CS_INTERNAL, "plugin response missing upstream X.509 roots");
    for (size_t i = 0; i < r->chain_count; i++) {
        CS_AUTO(x509_cert) cert = NULL;
        if (x509_cert_parse(cs_buf_slice(&r->chain[i]), &cert, e) != CS_OK)
            return cs_wrap(e, "plugin response has malformed X.509 CA chain");
        CS_TRY(x509_chain_add(out, cert, e));
    }
    return CS_OK;
}

/* --- Roots --- */

static bool has_cert(const struct x509_chain *list, const struct x509_cert *cert)
{
    for (size_t i = 0; i < list->count; i++)
        if (cs_slice_eq(list->at[i]->der, cert->der))
            return true;
    return false;
}

static void log_authority(const struct ca_upstream *u, const struct x509_cert *cert, const char *what)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf id = {0};
    x509_cert_key_id_hex(&id, cert);
    cs_log_info(&u->cfg.log, what, KV("subject_key_id", cs_buf_cstr(&id)));
}

static const struct spiffe_x509_authority *find_ours(const struct spiffe_bundle *own,
                                                     const struct x509_cert *cert)
{
    for (size_t i = 0; own != NULL && i < own->x509_count; i++)
        if (cs_slice_eq(own->x509[i].cert->ext.ski, cert->ext.ski))
            return &own->x509[i];
    return NULL;
}

/* Whether the root is to be appended: one that is tainted news is not, what hangs on it is replaced first. */
static cs_code judge_root(struct ca_upstream *u, const struct spiffe_bundle *own,
                          const struct x509_cert *cert, bool tainted, bool *append, struct cs_err *e)
{
    const struct spiffe_x509_authority *ours = tainted ? find_ours(own, cert) : NULL;
    *append = ours == NULL || ours->tainted;
    if (*append || has_cert(&u->tainted, ours->cert))
        return CS_OK;
    CS_TRY(x509_chain_add(&u->tainted, ours->cert, e));
    log_authority(u, ours->cert, "X.509 authority tainted");
    return CS_OK;
}

/* A tainted root that the upstream no longer has is over. */
static cs_code revoke_gone(struct ca_upstream *u, const struct spiffe_bundle *own,
                           const struct x509_chain *told, struct cs_err *e)
{
    bool changed = false;
    for (size_t i = 0; own != NULL && i < own->x509_count; i++) {
        const struct x509_cert *cert = own->x509[i].cert;
        bool there = !own->x509[i].tainted;
        for (size_t n = 0; n < told->count && !there; n++)
            there = cs_slice_eq(told->at[n]->ext.ski, cert->ext.ski);
        if (there)
            continue;
        CS_CLEANUP(cs_buf_free) struct cs_buf id = {0};
        x509_cert_key_id_hex(&id, cert);
        cs_code rc = ds_x509_ca_revoke(u->cfg.ds, u->td_id, cs_buf_cstr(&id), e);
        if (rc != CS_OK && rc != CS_NOT_FOUND) /* another server may have been faster */
            return cs_wrap(e, "failed to revoke a tainted key \"%s\"", cs_buf_cstr(&id));
        log_authority(u, cert, "X.509 authority revoked");
        changed = true;
    }
    return changed ? bundlestore_changed(u->cfg.bundles, u->cfg.trust_domain, e) : CS_OK;
}

static cs_code parse_roots(const struct upstreamauthority_result *r, struct x509_chain *out, struct cs_err *e)
{
    for (size_t i = 0; i < r->root_count; i++) {
        CS_AUTO(x509_cert) cert = NULL;
        CS_TRY(x509_cert_parse(cs_buf_slice(&r->roots[i]), &cert, e));
        CS_TRY(x509_chain_add(out, cert, e));
    }
    return CS_OK;
}

static cs_code take_roots(struct ca_upstream *u, const struct upstreamauthority_result *r, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain told = {0};
    CS_TRY(parse_roots(r, &told, e));
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct ds_cert *roots = a != NULL ? cs_arena_zalloc(a, (told.count + 1) * sizeof *roots) : NULL;
    if (roots == NULL)
        return cs_nomem(e);
    CS_AUTO(spiffe_bundle) own = bundlestore_own(u->cfg.bundles);
    struct ds_bundle add = {.trust_domain = u->td_id, .roots = roots};
    for (size_t i = 0; i < told.count; i++) {
        bool append;
        CS_TRY(judge_root(u, own, told.at[i], r->roots_tainted[i], &append, e));
        if (append)
            roots[add.n_roots++] = (struct ds_cert){.der = told.at[i]->der, .tainted = r->roots_tainted[i]};
    }
    CS_TRY(revoke_gone(u, own, &told, e));
    return bundlestore_append(u->cfg.bundles, &add, e);
}

static cs_code sync_roots(struct ca_upstream *u, const struct upstreamauthority_result *r, struct cs_err *e)
{
    pthread_mutex_lock(&u->lock);
    cs_code rc = take_roots(u, r, e);
    pthread_mutex_unlock(&u->lock);
    return rc;
}

cs_code ca_upstream_tainted(struct ca_upstream *u, struct x509_chain *out, struct cs_err *e)
{
    pthread_mutex_lock(&u->lock);
    cs_code rc = x509_chain_copy(&u->tainted, out, e);
    pthread_mutex_unlock(&u->lock);
    return rc;
}

void ca_upstream_taints_done(struct ca_upstream *u, const struct x509_chain *done)
{
    pthread_mutex_lock(&u->lock);
    size_t kept = 0;
    for (size_t i = 0; i < u->tainted.count; i++)
        if (has_cert(done, u->tainted.at[i]))
            x509_cert_unref(u->tainted.at[i]);
        else
            u->tainted.at[kept++] = u->tainted.at[i];
    u->tainted.count = kept;
    pthread_mutex_unlock(&u->lock);
}

/* --- Minting --- */

cs_code ca_upstream_mint(struct ca_upstream *u, struct crypto_signer *signer, struct x509_chain *chain,
                         struct cs_err *e)
{
    const struct catalog_plugin *p = u->cfg.plugin;
    const struct upstreamauthority_ops *ops = p->ops;
    CS_CLEANUP(cs_buf_free) struct cs_buf csr = {0};
    CS_TRY(ca_request(u->cfg.ca, signer, &csr, e));
    CS_CLEANUP(upstreamauthority_result_free) struct upstreamauthority_result r = {0};
    cs_code rc = ops->mint_x509_ca(p->self, cs_buf_slice(&csr), ca_x509_ca_ttl(u->cfg.ca), &r, e);
    CS_CLEANUP(x509_chain_free) struct x509_chain got = {0};
    if (rc == CS_OK)
        rc = parse_chain(&r, &got, e);
    if (rc != CS_OK)
        return plugin_answer(p->type, p->name, rc, e);
    if (check(u, &r, &got, signer, e) != CS_OK) {
        (void)cs_wrap(e, "X509 CA minted by upstream authority is invalid");
        if (e != NULL)
            e->code = CS_INVALID;
        return CS_INVALID;
    }
    CS_TRY(sync_roots(u, &r, e));
    *chain = got;
    got = (struct x509_chain){0};
    return CS_OK;
}

/* --- JWT keys --- */

/* Most keys of an upstream that are taken over at a time. */
#define KEYS_MAX 1024

struct gathered {
    struct cs_arena *arena;
    struct ds_key *keys;
    size_t count;
};

static cs_code gather_key(void *arg, const struct upstreamauthority_jwt_key *k)
{
    struct gathered *g = arg;
    if (g->count == KEYS_MAX)
        return CS_EXHAUSTED;
    const void *pkix = cs_arena_memdup(g->arena, k->pkix.data, k->pkix.len);
    const char *kid = cs_arena_strdup(g->arena, k->kid);
    if (pkix == NULL || kid == NULL)
        return CS_INTERNAL;
    g->keys[g->count++] =
        (struct ds_key){.pkix = cs_slice_of(pkix, k->pkix.len), .kid = kid, .not_after = k->not_after};
    return CS_OK;
}

static cs_code append_keys(struct ca_upstream *u, const struct gathered *g, struct cs_err *e)
{
    const struct ds_bundle add = {.trust_domain = u->td_id, .jwt_keys = g->keys, .n_jwt_keys = g->count};
    return bundlestore_append(u->cfg.bundles, &add, e);
}

static cs_code gathered_new(struct cs_arena *a, struct gathered *g, struct cs_err *e)
{
    *g = (struct gathered){.arena = a};
    if (a != NULL)
        g->keys = cs_arena_alloc(a, KEYS_MAX * sizeof *g->keys);
    return g->keys != NULL ? CS_OK : cs_nomem(e);
}

cs_code ca_upstream_publish_jwt(struct ca_upstream *u, const struct ds_key *key, struct cs_err *e)
{
    const struct catalog_plugin *p = u->cfg.plugin;
    const struct upstreamauthority_ops *ops = p->ops;
    if (ops->publish_jwt_key == NULL)
        return cs_fail(e, CS_UNIMPLEMENTED, "upstreamauthority(%s): publishing upstream is unsupported",
                       p->name);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct gathered g;
    CS_TRY(gathered_new(a, &g, e));
    const struct upstreamauthority_jwt_key up = {
        .pkix = key->pkix, .kid = key->kid, .not_after = key->not_after};
    cs_code rc = ops->publish_jwt_key(p->self, &up, gather_key, &g, e);
    if (rc != CS_OK)
        return plugin_answer(p->type, p->name, rc, e);
    return append_keys(u, &g, e);
}

/* --- Listening --- */

static void on_roots(void *arg, const struct upstreamauthority_result *roots)
{
    struct ca_upstream *u = arg;
    struct cs_err err;
    if (sync_roots(u, roots, &err) != CS_OK)
        cs_log_error(&u->cfg.log, "Failed to store X.509 roots received by the upstream authority plugin.",
                     KV_ERR(&err));
}

static void on_keys(void *arg, const struct upstreamauthority_jwt_key *keys, size_t count)
{
    struct ca_upstream *u = arg;
    struct cs_err err;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct gathered g;
    cs_code rc = gathered_new(a, &g, &err);
    for (size_t i = 0; rc == CS_OK && i < count; i++)
        if ((rc = gather_key(&g, &keys[i])) != CS_OK)
            (void)cs_fail(&err, rc, "no room for %zu keys", count);
    if (rc == CS_OK)
        rc = append_keys(u, &g, &err);
    if (rc != CS_OK)
        cs_log_error(&u->cfg.log, "Failed to store JWT keys received by the upstream authority plugin.",
                     KV_ERR(&err));
}

/* --- Life --- */

static void listen(struct ca_upstream *u, bool on)
{
    const struct upstreamauthority_ops *ops = u->cfg.plugin->ops;
    const struct upstreamauthority_listener listener = {
        .x509_roots = on_roots, .jwt_keys = on_keys, .arg = u};
    if (ops->listen != NULL)
        ops->listen(u->cfg.plugin->self, on ? &listener : NULL);
}

cs_code ca_upstream_new(const struct ca_upstream_config *cfg, struct ca_upstream **out, struct cs_err *e)
{
    *out = NULL;
    struct ca_upstream *u = cs_calloc(1, sizeof *u);
    if (u == NULL)
        return cs_nomem(e);
    u->cfg = *cfg;
    u->td_id = cs_asprintf("spiffe://%s", cfg->trust_domain);
    int rc = pthread_mutex_init(&u->lock, NULL);
    if (u->td_id == NULL || rc != 0) {
        cs_free(u->td_id);
        cs_free(u);
        return rc != 0 ? cs_fail_errno(e, CS_INTERNAL, rc, "upstream lock") : cs_nomem(e);
    }
    listen(u, true);
    *out = u;
    return CS_OK;
}

void ca_upstream_free(struct ca_upstream *u)
{
    if (u == NULL)
        return;
    listen(u, false);
    x509_chain_free(&u->tainted);
    pthread_mutex_destroy(&u->lock);
    cs_free(u->td_id);
    cs_free(u);
}
