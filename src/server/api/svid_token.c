/* SPDX-License-Identifier: Apache-2.0
 *
 * SVID service: JWT-SVIDs; and WIT-SVIDs as far as a server answers for them that does not make any.
 * Source: SPIRE's pkg/server/api/svid/v1.
 */
#include "crypto/jose.h"
#include "server/api/svid.h"
#include "server/entrycache/wire.h"

/* JWTSVID: 1 token, 2 id, 3 expires_at, 4 issued_at; it is field 1 of both responses. */
static void token_write(struct cs_buf *b, const struct ca_jwt *t, struct spiffe_id id)
{
    struct cs_buf svid CS_CLEANUP(cs_buf_free) = {0};
    wire_str(&svid, 1, cs_slice_str(t->token));
    convert_id_write(&svid, 2, spiffe_id_td(id), spiffe_id_path(id));
    wire_int(&svid, 3, t->expires_at);
    wire_int(&svid, 4, t->issued_at);
    wire_bytes(b, 1, cs_buf_slice(&svid));
    b->failed |= !cs_buf_ok(&svid);
}

static void token_logged(struct api_call *c, char *const *audience, size_t n, const struct ca_jwt *t)
{
    if (!cs_log_on(&c->api->log, CS_LOG_DEBUG))
        return;
    const char **list = cs_arena_alloc(c->arena, (n + 1) * sizeof *list);
    if (list == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        list[i] = audience[i];
    list[n] = NULL;
    const struct cs_kv names = {.key = "audience", .kind = CS_KV_STRS, .strs = list};
    API_LOG(c, CS_LOG_DEBUG, "Server CA successfully signed JWT SVID", names,
            KV("expiration", svid_time(c->arena, t->expires_at)));
}

struct token_order {
    const Types__SPIFFEID *id;
    char *const *audience;
    size_t audience_count;
    int32_t ttl;
    bool jti;
};

static cs_code make_token(struct api_call *c, const struct token_order *o, struct cs_buf *response,
                          struct cs_err *e)
{
    struct spiffe_id id;
    if (convert_workload_id(c->arena, c->api->td, o->id, &id, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "invalid SPIFFE ID");
    api_field(c, KV("spiffe_id", convert_id_text(id)));
    api_audit_add(c, KV("spiffe_id", convert_id_text(id)));
    if (o->audience_count == 0)
        return api_fail(c, e, CS_INVALID, "at least one audience is required");
    const struct ca_jwt_params p = {.spiffe_id = convert_id_text(id),
                                    .audience = (const char *const *)o->audience,
                                    .audience_count = o->audience_count,
                                    .ttl_s = o->ttl,
                                    .include_jti = o->jti};
    struct ca_jwt token;
    if (ca_sign_jwt(c->api->cfg.ca, c->arena, &p, &token, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to sign JWT-SVID");
    token_logged(c, o->audience, o->audience_count, &token);
    token_write(response, &token, id);
    return CS_OK;
}

cs_code svid_mint_jwt(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                      struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Svidv1__MintJWTSVIDRequest *req;
    CS_TRY(api_unpack(c, &svidv1__mint_jwtsvidrequest__descriptor, request, (void **)&req, e));
    if (ca_jwt_disabled(a->cfg.ca))
        return api_fail(c, e, CS_UNIMPLEMENTED, "JWT functionality is disabled");
    api_audit_add(c, KV_INT("ttl", req->ttl));
    if (req->n_audience > 0)
        api_audit_add(c, KV("audience", api_joined(c, req->audience, req->n_audience)));
    const struct token_order o = {
        .id = req->id, .audience = req->audience, .audience_count = req->n_audience, .ttl = req->ttl};
    CS_TRY(make_token(c, &o, response, e));
    api_audit(c);
    return CS_OK;
}

static cs_code entry_token(struct api_call *c, const Svidv1__NewJWTSVIDRequest *req, const struct entry *en,
                           struct cs_buf *response, struct cs_err *e)
{
    struct cs_slice td = entry_trust_domain(en), path = entry_spiffe_path(en);
    Types__SPIFFEID id = TYPES__SPIFFEID__INIT;
    id.trust_domain = cs_arena_strndup(c->arena, (const char *)td.data, td.len);
    id.path = cs_arena_strndup(c->arena, (const char *)path.data, path.len);
    if (id.trust_domain == NULL || id.path == NULL)
        return cs_nomem(e);
    const struct token_order o = {.id = &id,
                                  .audience = req->audience,
                                  .audience_count = req->n_audience,
                                  .ttl = entry_jwt_ttl(en),
                                  .jti = entry_jwt_jti(en)};
    return make_token(c, &o, response, e);
}

cs_code svid_new_jwt(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                     struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Svidv1__NewJWTSVIDRequest *req;
    CS_TRY(api_unpack(c, &svidv1__new_jwtsvidrequest__descriptor, request, (void **)&req, e));
    api_audit_add(c, KV("entry_id", req->entry_id));
    api_audit_add(c, KV("audience", api_joined(c, req->audience, req->n_audience)));
    cs_code code = api_limit(c, 1, e);
    if (code != CS_OK)
        return api_limit_failed(c, code, "rejecting request due to JWT signing request rate limiting", e);
    if (ca_jwt_disabled(a->cfg.ca))
        return api_fail(c, e, CS_UNIMPLEMENTED, "JWT functionality is disabled");
    CS_AUTO(entry)
    en = entrycache_lookup(a->entries, api_peer_path(c->peer), c->agent->selectors,
                           cs_slice_str(req->entry_id));
    if (en == NULL)
        return api_fail(c, e, CS_NOT_FOUND, "entry not found or not authorized");
    CS_TRY(entry_token(c, req, en, response, e));
    api_audit_with(c, &KV_INT("ttl", entry_jwt_ttl(en)), 1);
    return CS_OK;
}

/* --- WIT-SVIDs --- */
cs_code svid_mint_wit(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                      struct cs_err *e)
{
    (void)service;
    (void)request;
    (void)response;
    return api_fail(api_call_of(call), e, CS_UNIMPLEMENTED, "WIT functionality is disabled");
}

static cs_code check_wit_key(const Svidv1__NewWITSVIDParams *p, const struct crypto_pub *key,
                             struct cs_err *e)
{
    enum jose_alg alg = jose_alg_parse(cs_slice_str(p->signing_algorithm));
    switch (crypto_pub_type(key)) {
    case CRYPTO_EC_P256:
        return alg == JOSE_ES256 ? CS_OK
                                 : cs_fail(e, CS_INVALID, "unsupported signing algorithm for ec-p256 key: %s",
                                           p->signing_algorithm);
    case CRYPTO_EC_P384:
        return alg == JOSE_ES384 ? CS_OK
                                 : cs_fail(e, CS_INVALID, "unsupported signing algorithm for ec-p384 key: %s",
                                           p->signing_algorithm);
    case CRYPTO_EC_P521:
        return alg == JOSE_ES512 ? CS_OK
                                 : cs_fail(e, CS_INVALID, "unsupported signing algorithm for ec-p521 key: %s",
                                           p->signing_algorithm);
    case CRYPTO_RSA_2048:
    case CRYPTO_RSA_4096:
    case CRYPTO_RSA_OTHER:
        return alg >= JOSE_RS256 ? CS_OK
                                 : cs_fail(e, CS_INVALID, "unsupported signing algorithm for RSA key: %s",
                                           p->signing_algorithm);
    case CRYPTO_ED25519:
        return cs_fail(e, CS_INVALID, "unsupported key type 'ed25519.PublicKey'");
    case CRYPTO_KEY_NONE:
        break;
    }
    return cs_fail(e, CS_INVALID, "unsupported key type");
}

static cs_code new_wit(struct api_call *c, const Svidv1__NewWITSVIDParams *p, struct cs_err *e)
{
    if (p->entry_id[0] == '\0')
        return api_fail(c, e, CS_INVALID, "missing entry ID");
    if (p->public_key.len == 0)
        return api_fail(c, e, CS_INVALID, "missing public key");
    api_field(c, KV("entry_id", p->entry_id));
    CS_AUTO(entry)
    en = entrycache_lookup(c->api->entries, api_peer_path(c->peer), c->agent->selectors,
                           cs_slice_str(p->entry_id));
    if (en == NULL)
        return api_fail(c, e, CS_NOT_FOUND, "entry not found or not authorized");
    CS_AUTO(crypto_pub) key = NULL;
    if (crypto_pub_parse(convert_bytes(p->public_key), &key, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "malformed public key");
    if (check_wit_key(p, key, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "invalid signing algorithm or key type");
    struct cs_slice td = entry_trust_domain(en), path = entry_spiffe_path(en);
    const char *id = cs_arena_printf(c->arena, "spiffe://%.*s%.*s", (int)td.len, (const char *)td.data,
                                     (int)path.len, (const char *)path.data);
    if (id == NULL)
        return cs_nomem(e);
    api_field(c, KV("spiffe_id", id));
    (void)cs_fail(e, CS_INTERNAL, "WIT key is not available for signing");
    return api_fail_cause(c, e, CS_INTERNAL, "failed to sign WIT-SVID");
}

cs_code svid_batch_new_wit(struct rpc_call *call, void *service, struct cs_slice request,
                           struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Svidv1__BatchNewWITSVIDRequest *req;
    CS_TRY(api_unpack(c, &svidv1__batch_new_witsvidrequest__descriptor, request, (void **)&req, e));
    if (req->n_params == 0)
        return api_fail(c, e, CS_INVALID, "missing parameters");
    cs_code code = api_limit(c, req->n_params, e);
    if (code != CS_OK)
        return api_limit_failed(c, code, "rejecting request due to certificate signing rate limiting", e);
    size_t fields = c->field_count;
    for (size_t i = 0; i < req->n_params; i++) {
        struct cs_err st = api_ok();
        c->field_count = fields;
        struct cs_buf result CS_CLEANUP(cs_buf_free) = {0};
        if (new_wit(c, req->params[i], &st) == CS_OK)
            st = api_ok();
        api_status_write(&result, 1, &st);
        wire_bytes(response, 1, cs_buf_slice(&result));
        response->failed |= !cs_buf_ok(&result);
        const struct cs_kv kv[] = {KV("entry_id", req->params[i]->entry_id), KV("spiffe_id", "")};
        api_audit_status(c, &st, kv, 2);
    }
    return CS_OK;
}
