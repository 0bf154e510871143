/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ca/upstream.h"

#include "plugin/upstreamauthority.h"
#include "spiffe/x509svid.h"

/* --- Checking what came back --- */

static cs_code roots_to_bundle(const struct ca_upstream *u, const struct upstreamauthority_result *r,
                               struct spiffe_bundle **out, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(cs_slice_str(u->trust_domain), &b, e));
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
    CS_CLEANUP(cs_freep) char *id = cs_asprintf("spiffe://%s/spire/throwaway", u->trust_domain);
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
    int64_t now = cs_now_s(u->clock);
    if (spiffe_x509ca_check_issued(chain->at[0], cs_slice_str(u->trust_domain), now, e) != CS_OK)
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

/* --- Minting --- */

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

static cs_code append_roots(const struct ca_upstream *u, const struct upstreamauthority_result *r,
                            struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct ds_cert *roots = cs_arena_zalloc(a, r->root_count * sizeof *roots);
    const char *td_id = cs_arena_printf(a, "spiffe://%s", u->trust_domain);
    if (roots == NULL || td_id == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < r->root_count; i++)
        roots[i] = (struct ds_cert){.der = cs_buf_slice(&r->roots[i]), .tainted = r->roots_tainted[i]};
    const struct ds_bundle add = {.trust_domain = td_id, .roots = roots, .n_roots = r->root_count};
    return bundlestore_append(u->bundles, &add, e);
}

cs_code ca_upstream_mint(const struct ca_upstream *u, struct crypto_signer *signer, struct x509_chain *chain,
                         struct cs_err *e)
{
    const struct upstreamauthority_ops *ops = u->plugin->ops;
    CS_CLEANUP(cs_buf_free) struct cs_buf csr = {0};
    CS_TRY(ca_request(u->ca, signer, &csr, e));
    CS_CLEANUP(upstreamauthority_result_free) struct upstreamauthority_result r = {0};
    cs_code rc = ops->mint_x509_ca(u->plugin->self, cs_buf_slice(&csr), ca_x509_ca_ttl(u->ca), &r, e);
    CS_CLEANUP(x509_chain_free) struct x509_chain got = {0};
    if (rc == CS_OK)
        rc = parse_chain(&r, &got, e);
    if (rc != CS_OK)
        return plugin_answer(u->plugin->type, u->plugin->name, rc, e);
    if (check(u, &r, &got, signer, e) != CS_OK) {
        (void)cs_wrap(e, "X509 CA minted by upstream authority is invalid");
        if (e != NULL)
            e->code = CS_INVALID;
        return CS_INVALID;
    }
    CS_TRY(append_roots(u, &r, e));
    *chain = got;
    got = (struct x509_chain){0};
    return CS_OK;
}

/* --- JWT keys --- */

struct sync {
    struct bundlestore *bundles;
    const char *td_id;
};

static cs_code take_key(void *arg, const struct upstreamauthority_jwt_key *k)
{
    const struct sync *s = arg;
    const struct ds_key key = {.pkix = k->pkix, .kid = k->kid, .not_after = k->not_after};
    const struct ds_bundle add = {.trust_domain = s->td_id, .jwt_keys = &key, .n_jwt_keys = 1};
    return bundlestore_append(s->bundles, &add, NULL);
}

cs_code ca_upstream_publish_jwt(const struct catalog_plugin *plugin, struct bundlestore *bundles,
                                const char *trust_domain_id, const struct ds_key *key, struct cs_err *e)
{
    const struct upstreamauthority_ops *ops = plugin->ops;
    if (ops->publish_jwt_key == NULL)
        return cs_fail(e, CS_UNIMPLEMENTED, "upstreamauthority(%s): publishing upstream is unsupported",
                       plugin->name);
    const struct upstreamauthority_jwt_key up = {
        .pkix = key->pkix, .kid = key->kid, .not_after = key->not_after};
    struct sync s = {.bundles = bundles, .td_id = trust_domain_id};
    cs_code rc = ops->publish_jwt_key(plugin->self, &up, take_key, &s, e);
    return plugin_answer(plugin->type, plugin->name, rc, e);
}
