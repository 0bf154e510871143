/* SPDX-License-Identifier: Apache-2.0 */
#include "server/peer.h"

#include "server/api/services.h"
#include "spiffe/x509svid.h"

/* Verified chains remembered: connections of known agents skip the signatures. */
#define CACHE_ENTRIES 4096

struct peer_verifier {
    struct peer_verifier_config cfg;
    struct x509_verify_cache *cache;
    struct cs_log_limit foreign;
};

cs_code peer_verifier_new(const struct peer_verifier_config *cfg, struct peer_verifier **out,
                          struct cs_err *e)
{
    *out = NULL;
    CS_CLEANUP(cs_freep) struct peer_verifier *v = cs_calloc(1, sizeof *v);
    if (v == NULL)
        return cs_nomem(e);
    v->cfg = *cfg;
    v->cache = x509_verify_cache_new(CACHE_ENTRIES);
    if (v->cache == NULL)
        return cs_nomem(e);
    *out = CS_MOVE(v);
    return CS_OK;
}

void peer_verifier_free(struct peer_verifier *v)
{
    if (v == NULL)
        return;
    x509_verify_cache_free(v->cache);
    cs_free(v);
}

static bool is_admin(const struct peer_verifier *v, struct spiffe_id id)
{
    for (size_t i = 0; i < v->cfg.admin_id_count; i++)
        if (cs_slice_is(id.text, v->cfg.admin_ids[i]))
            return true;
    return false;
}

static cs_code find_bundle(struct peer_verifier *v, struct spiffe_id id, struct spiffe_bundle **out,
                           struct cs_err *e)
{
    struct cs_slice td = spiffe_id_td(id);
    CS_CLEANUP(cs_freep) char *name = cs_strndup((const char *)td.data, td.len);
    if (name == NULL)
        return cs_nomem(e);
    *out = bundlestore_get(v->cfg.bundles, name);
    if (*out != NULL)
        return CS_OK;
    /* Only of interest when an admin cannot get in; strangers may not fill the log. */
    uint32_t held;
    if (strcmp(name, v->cfg.trust_domain) != 0 && is_admin(v, id) && cs_log_limit_ok(&v->foreign, 1, &held))
        cs_log_warn(
            &v->cfg.log,
            "No bundle found for foreign admin trust domain; admins from this trust domain will not be "
            "able to connect. Make sure this trust domain is correctly federated.",
            KV("trust_domain", name));
    return cs_fail(e, CS_UNAUTHENTICATED, "no bundle found for trust domain \"%s\"", name);
}

static cs_code make_peer(const struct x509_cert *leaf, struct spiffe_id id, void **conn_data,
                         void (**destroy)(void *), struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf serial = {0};
    x509_cert_serial_dec(&serial, leaf);
    CS_CLEANUP(cs_freep) char *text = cs_strndup((const char *)id.text.data, id.text.len);
    if (text == NULL || !cs_buf_ok(&serial))
        return cs_nomem(e);
    struct api_peer *peer = NULL;
    CS_TRY(api_peer_new(text, cs_buf_cstr(&serial), leaf->not_after, &peer, e));
    *conn_data = peer;
    *destroy = api_peer_free;
    return CS_OK;
}

cs_code peer_verify(void *arg, const struct cs_slice *ders, size_t count, void **conn_data,
                    void (**destroy)(void *), struct cs_err *e)
{
    struct peer_verifier *v = arg;
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_TRY(x509_chain_parse_list(ders, count, &chain, e));
    if (chain.count == 0)
        return cs_fail(e, CS_UNAUTHENTICATED, "no certificates");
    struct spiffe_id id;
    CS_TRY(spiffe_x509_id(chain.at[0], &id, e));
    if (!spiffe_id_member_of(id, cs_slice_str(v->cfg.trust_domain)) && !is_admin(v, id))
        return cs_fail(e, CS_UNAUTHENTICATED, "unexpected trust domain in ID \"%.*s\"", (int)id.text.len,
                       (const char *)id.text.data);
    CS_AUTO(spiffe_bundle) bundle = NULL;
    CS_TRY(find_bundle(v, id, &bundle, e));
    CS_TRY(spiffe_x509svid_verify(&chain, bundle, cs_now_s(v->cfg.clock), v->cache, &id, NULL, e));
    return make_peer(chain.at[0], id, conn_data, destroy, e);
}
