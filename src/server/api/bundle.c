/* SPDX-License-Identifier: Apache-2.0
 *
 * Bundle service: our own bundle, and reading federated ones. Source: SPIRE's pkg/server/api/bundle/v1.
 */
#include "server/api/bundle.h"

#include "server/bundlestore.h"
#include "server/entrycache/wire.h"

#define LIST_CHUNK 100

/* --- Audit fields, numbered as SPIRE numbers them --- */
static const char *numbered(struct api_call *c, const char *name, size_t i)
{
    const char *key = cs_arena_printf(c->arena, "%s.%zu", name, i);
    return key != NULL ? key : name;
}

void bundle_audit_authorities(struct api_call *c, const struct bundle_authorities *in,
                              struct bundle_fields *out)
{
    const size_t max = sizeof out->at / sizeof out->at[0];
    for (size_t i = 0; c->audit && i < in->n_jwt && out->n + 3 <= max; i++) {
        const Types__JWTKey *k = in->jwt[i];
        out->at[out->n++] = KV_INT(numbered(c, "jwt_authority_expires_at", i), k->expires_at);
        out->at[out->n++] = KV(numbered(c, "jwt_authority_key_id", i), k->key_id);
        out->at[out->n++] =
            KV(numbered(c, "jwt_authority_public_key_sha256", i), api_hash(c, convert_bytes(k->public_key)));
    }
    for (size_t i = 0; c->audit && i < in->n_x509 && out->n < max; i++)
        out->at[out->n++] =
            KV(numbered(c, "x509_authorities_asn1_sha256", i), api_hash(c, convert_bytes(in->x509[i]->asn1)));
}

cs_code bundle_stored(struct api_call *c, const char *trust_domain_id, struct cs_err *e)
{
    return bundlestore_changed(c->api->cfg.bundles, trust_domain_id + strlen("spiffe://"), e);
}

static const char *own_id(struct api_call *c)
{
    return cs_arena_printf(c->arena, "spiffe://%s", c->api->cfg.trust_domain);
}

/* --- Our own bundle --- */
cs_code bundle_count(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                     struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Bundlev1__CountBundlesRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__count_bundles_request__descriptor, request, (void **)&req, e));
    int32_t count = 0;
    if (ds_bundle_count(a->cfg.ds, &count, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to count bundles");
    api_audit(c);
    wire_int(response, 1, count);
    return CS_OK;
}

cs_code bundle_get(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                   struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Bundlev1__GetBundleRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__get_bundle_request__descriptor, request, (void **)&req, e));
    api_audit_add(c, KV("trust_domain_id", a->cfg.trust_domain));
    CS_AUTO(spiffe_bundle) bundle = bundlestore_own(a->cfg.bundles);
    if (bundle == NULL)
        return api_fail(c, e, CS_NOT_FOUND, "bundle not found");
    convert_bundle_held(response, bundle, req->output_mask);
    api_audit(c);
    return CS_OK;
}

static void audit_call(struct api_call *c, const struct bundle_authorities *in)
{
    struct bundle_fields f = {.n = 0};
    bundle_audit_authorities(c, in, &f);
    for (size_t i = 0; i < f.n; i++)
        api_audit_add(c, f.at[i]);
}

cs_code bundle_append(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                      struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Bundlev1__AppendBundleRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__append_bundle_request__descriptor, request, (void **)&req, e));
    const struct bundle_authorities in = {req->jwt_authorities, req->n_jwt_authorities, req->x509_authorities,
                                          req->n_x509_authorities};
    audit_call(c, &in);
    if (in.n_jwt == 0 && in.n_x509 == 0)
        return api_fail(c, e, CS_INVALID, "no authorities to append");
    api_field(c, KV("trust_domain_id", a->cfg.trust_domain));
    struct ds_bundle add = {.trust_domain = own_id(c), .n_roots = in.n_x509, .n_jwt_keys = in.n_jwt},
                     *out = NULL;
    if (add.trust_domain == NULL)
        return cs_nomem(e);
    if (convert_jwt_authorities(c->arena, in.jwt, in.n_jwt, &add.jwt_keys, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "failed to convert JWT authority");
    if (convert_x509_authorities(c->arena, in.x509, in.n_x509, &add.roots, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "failed to convert X.509 authority");
    if (ds_bundle_append(a->cfg.ds, c->arena, &add, &out, e) != CS_OK ||
        bundle_stored(c, add.trust_domain, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to append bundle");
    if (convert_bundle_message(response, out, req->output_mask, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to convert bundle");
    api_audit(c);
    return CS_OK;
}

static cs_code publish(struct api_call *c, const struct ds_key *key, struct cs_buf *response,
                       struct cs_err *e)
{
    const struct ds_bundle add = {.trust_domain = own_id(c), .jwt_keys = key, .n_jwt_keys = 1};
    struct ds_bundle *out = NULL;
    if (add.trust_domain == NULL)
        return cs_nomem(e);
    CS_TRY(ds_bundle_append(c->api->cfg.ds, c->arena, &add, &out, e));
    CS_TRY(bundle_stored(c, add.trust_domain, e));
    convert_jwt_keys(response, 1, out->jwt_keys, out->n_jwt_keys);
    return CS_OK;
}

cs_code bundle_publish_jwt(struct rpc_call *call, void *service, struct cs_slice request,
                           struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Bundlev1__PublishJWTAuthorityRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__publish_jwtauthority_request__descriptor, request, (void **)&req, e));
    if (req->jwt_authority != NULL) {
        api_audit_add(c, KV_INT("jwt_authority_expires_at", req->jwt_authority->expires_at));
        api_audit_add(c, KV("jwt_authority_key_id", req->jwt_authority->key_id));
        api_audit_add(c, KV("jwt_authority_public_key_sha256",
                            api_hash(c, convert_bytes(req->jwt_authority->public_key))));
    }
    cs_code code = api_limit(c, 1, e);
    if (code != CS_OK)
        return api_limit_failed(c, code, "rejecting request due to key publishing rate limiting", e);
    if (req->jwt_authority == NULL)
        return api_fail(c, e, CS_INVALID, "missing JWT authority");
    const struct ds_key *key = NULL;
    if (convert_jwt_authorities(c->arena, &req->jwt_authority, 1, &key, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "invalid JWT authority");
    if (publish(c, key, response, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to publish JWT key");
    api_audit(c);
    return CS_OK;
}

cs_code bundle_publish_wit(struct rpc_call *call, void *service, struct cs_slice request,
                           struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    (void)request;
    (void)response;
    return api_fail(api_call_of(call), e, CS_UNIMPLEMENTED, "WIT-SVID functionality is not yet implemented");
}

/* --- Federated bundles --- */
static cs_code list_one(struct api_call *c, const struct ds_bundle *b, const Types__BundleMask *mask,
                        struct cs_buf *response, struct cs_err *e)
{
    struct cs_slice td;
    api_field(c, KV("trust_domain_id", b->trust_domain));
    if (spiffe_td_parse(cs_slice_str(b->trust_domain), &td, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "bundle has an invalid trust domain ID");
    if (cs_slice_eq(td, c->api->td))
        return CS_OK;
    struct cs_buf message CS_CLEANUP(cs_buf_free) = {0};
    if (convert_bundle_message(&message, b, mask, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to convert bundle");
    wire_bytes(response, 1, cs_buf_slice(&message));
    response->failed |= !cs_buf_ok(&message);
    return CS_OK;
}

static cs_code list_page(struct api_call *c, struct cs_arena *arena, const struct ds_page *page,
                         const Types__BundleMask *mask, struct cs_buf *response, const char **next,
                         struct cs_err *e)
{
    struct ds_bundle *bundles = NULL;
    size_t n = 0;
    if (ds_bundle_list(c->api->cfg.ds, arena, page, &bundles, &n, next, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to list bundles");
    for (size_t i = 0; i < n; i++)
        CS_TRY(list_one(c, &bundles[i], mask, response, e));
    return CS_OK;
}

static cs_code list_all(struct api_call *c, const Types__BundleMask *mask, struct cs_buf *response,
                        struct cs_err *e)
{
    CS_AUTO(cs_arena) one = cs_arena_new(0, SIZE_MAX);
    CS_AUTO(cs_arena) other = cs_arena_new(0, SIZE_MAX); /* the token lives in the page before */
    if (one == NULL || other == NULL)
        return cs_nomem(e);
    struct ds_page page = {.token = "", .size = LIST_CHUNK};
    size_t fields = c->field_count;
    do {
        const char *next = "";
        cs_arena_reset(one);
        cs_code code = list_page(c, one, &page, mask, response, &next, e);
        c->field_count = fields; /* they are in the page's arena */
        if (code != CS_OK)
            return code;
        page.token = next;
        struct cs_arena *swap = one;
        one = other;
        other = swap;
    } while (page.token[0] != '\0');
    return CS_OK;
}

cs_code bundle_list_federated(struct rpc_call *call, void *service, struct cs_slice request,
                              struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Bundlev1__ListFederatedBundlesRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__list_federated_bundles_request__descriptor, request, (void **)&req, e));
    const char *next = "";
    cs_code code;
    if (req->page_size > 0) {
        const struct ds_page page = {.token = req->page_token, .size = req->page_size};
        code = list_page(c, c->arena, &page, req->output_mask, response, &next, e);
    } else {
        code = list_all(c, req->output_mask, response, e);
    }
    if (code != CS_OK)
        return code;
    wire_str(response, 2, cs_slice_str(next));
    api_audit(c);
    return CS_OK;
}

cs_code bundle_get_federated(struct rpc_call *call, void *service, struct cs_slice request,
                             struct cs_buf *response, struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Bundlev1__GetFederatedBundleRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__get_federated_bundle_request__descriptor, request, (void **)&req, e));
    api_audit_add(c, KV("trust_domain_id", req->trust_domain));
    api_field(c, KV("trust_domain_id", req->trust_domain));
    const char *id;
    if (convert_td(c->arena, req->trust_domain, &id, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "trust domain argument is not valid");
    const char *name = id + strlen("spiffe://");
    if (strcmp(name, a->cfg.trust_domain) == 0)
        return api_fail(c, e, CS_INVALID,
                        "getting a federated bundle for the server's own trust domain is not allowed");
    CS_AUTO(spiffe_bundle) bundle = bundlestore_get(a->cfg.bundles, name);
    if (bundle == NULL)
        return api_fail(c, e, CS_NOT_FOUND, "bundle not found");
    convert_bundle_held(response, bundle, req->output_mask);
    api_audit(c);
    return CS_OK;
}
