/* SPDX-License-Identifier: Apache-2.0
 *
 * SVID service: X509-SVIDs and downstream CAs. Source: SPIRE's pkg/server/api/svid/v1.
 */
#include "base/text.h"
#include "server/api/svid.h"
#include "server/bundlestore.h"
#include "server/entrycache/wire.h"
#include "spiffe/x509svid.h"

void svid_x509_write(struct cs_buf *b, uint32_t field, const struct ca_x509 *svid, struct cs_slice td,
                     struct cs_slice path)
{
    size_t id_size = wire_str_size(td.len) + wire_str_size(path.len);
    size_t size = wire_field_size(id_size);
    for (size_t i = 0; i < svid->count; i++)
        size += wire_field_size(svid->chain[i].len);
    if (svid->not_after != 0)
        size += 1 + wire_varint_size((uint64_t)svid->not_after);
    wire_len(b, field, size);
    for (size_t i = 0; i < svid->count; i++)
        wire_bytes(b, 1, svid->chain[i]);
    convert_id_write(b, 2, td, path);
    wire_int(b, 3, svid->not_after);
}

const char *svid_time(struct cs_arena *a, int64_t unix_s)
{
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    cs_time_rfc3339(&b, unix_s);
    const char *text = cs_buf_ok(&b) ? cs_arena_strndup(a, (const char *)b.data, b.len) : NULL;
    return text != NULL ? text : "";
}

/* --- MintX509SVID --- */
static cs_code mint_id(struct api_call *c, const struct x509_csr *csr, struct spiffe_id *id, struct cs_err *e)
{
    struct cs_slice uri;
    struct spiffe_id view;
    if (csr->ext.san.uris == 0 || !x509_san_get(&csr->ext.san, X509_SAN_URI, 0, &uri))
        return api_fail(c, e, CS_INVALID, "CSR URI SAN is required");
    if (csr->ext.san.uris > 1)
        return api_fail(c, e, CS_INVALID, "only one URI SAN is expected");
    if (spiffe_id_parse(uri, &view, e) != CS_OK || spiffe_id_check_workload(view, c->api->td, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "CSR URI SAN is invalid");
    return spiffe_id_dup(c->arena, view, id) == CS_OK ? CS_OK : cs_nomem(e);
}

static cs_code mint_dns(struct api_call *c, const struct x509_csr *csr, struct ca_workload_params *p,
                        struct cs_err *e)
{
    size_t n = csr->ext.san.dns;
    if (n == 0)
        return CS_OK;
    struct cs_slice *names = cs_arena_alloc(c->arena, n * sizeof *names);
    const char **texts = cs_arena_alloc(c->arena, n * sizeof *texts);
    if (names == NULL || texts == NULL)
        return cs_nomem(e);
    struct cs_rd it = x509_san_begin(&csr->ext.san);
    enum x509_san_kind kind;
    struct cs_slice value;
    size_t i = 0;
    while (i < n && x509_san_next(&it, &kind, &value)) {
        if (kind != X509_SAN_DNS)
            continue;
        if (spiffe_dns_name_check(value, e) != CS_OK)
            return api_fail_cause(c, e, CS_INVALID, "CSR DNS name is invalid");
        names[i] = value;
        texts[i] = cs_arena_strndup(c->arena, (const char *)value.data, value.len);
        if (texts[i++] == NULL)
            return cs_nomem(e);
    }
    if (spiffe_dns_wildcard_check(names, i, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID,
                              "CSR DNS name contains a wildcard that covers another non-wildcard name");
    p->dns_names = texts;
    p->dns_name_count = i;
    return CS_OK;
}

static const char *subject_text(struct api_call *c, struct cs_slice der)
{
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    if (x509_name_text(&b, der, NULL) != CS_OK || !cs_buf_ok(&b))
        return "";
    const char *text = cs_arena_strndup(c->arena, (const char *)b.data, b.len);
    return text != NULL ? text : "";
}

static void mint_logged(struct api_call *c, const struct x509_csr *csr, const struct ca_workload_params *p,
                        const struct ca_x509 *svid)
{
    if (!c->audit && !cs_log_on(&c->api->log, CS_LOG_DEBUG))
        return;
    struct cs_buf dns CS_CLEANUP(cs_buf_free) = {0};
    for (size_t i = 0; i < p->dns_name_count; i++)
        cs_buf_printf(&dns, "%s%s", i > 0 ? "," : "", p->dns_names[i]);
    const char *expires = svid_time(c->arena, svid->not_after);
    const struct cs_kv kv[] = {KV("spiffe_id", p->spiffe_id), KV("dns_name", cs_buf_cstr(&dns)),
                               KV("subject", subject_text(c, csr->subject))};
    api_audit_add(c, KV("expires_at", expires));
    api_audit_with(c, kv, 3);
    API_LOG(c, CS_LOG_DEBUG, "Signed X509 SVID", KV("expiration", expires), KV("serial_num", svid->serial),
            kv[0], kv[1], kv[2]);
}

cs_code svid_mint_x509(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                       struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Svidv1__MintX509SVIDRequest *req;
    CS_TRY(api_unpack(c, &svidv1__mint_x509_svidrequest__descriptor, request, (void **)&req, e));
    struct cs_slice der = convert_bytes(req->csr);
    api_audit_add(c, KV("csr", api_hash(c, der)));
    api_audit_add(c, KV_INT("ttl", req->ttl));
    if (der.len == 0)
        return api_fail(c, e, CS_INVALID, "missing CSR");
    struct x509_csr csr;
    if (x509_csr_parse(der, &csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "malformed CSR");
    if (x509_csr_verify(&csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "failed to verify CSR signature");
    struct spiffe_id id;
    CS_TRY(mint_id(c, &csr, &id, e));
    struct ca_workload_params p = {
        .spiffe_id = convert_id_text(id), .spki = csr.spki, .ttl_s = req->ttl, .subject = csr.subject};
    CS_TRY(mint_dns(c, &csr, &p, e));
    struct ca_x509 svid;
    if (ca_sign_workload(a->cfg.ca, c->arena, &p, &svid, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to sign X509-SVID");
    mint_logged(c, &csr, &p, &svid);
    svid_x509_write(response, 1, &svid, spiffe_id_td(id), spiffe_id_path(id));
    return CS_OK;
}

/* --- BatchNewX509SVID --- */
struct issue {
    struct api_call *c;
    struct cs_arena *arena; /* of one item */
    struct cs_buf result;
    struct ca_x509 svid;
    const char *spiffe_id; /* "" until known */
};

static cs_code sign_entry(struct issue *i, const struct entry *en, struct cs_slice der, struct cs_err *e)
{
    struct api_call *c = i->c;
    struct x509_csr csr;
    if (x509_csr_parse(der, &csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "malformed CSR");
    if (x509_csr_verify(&csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "invalid CSR signature");
    struct cs_slice td = entry_trust_domain(en), path = entry_spiffe_path(en);
    i->spiffe_id = cs_arena_printf(i->arena, "spiffe://%.*s%.*s", (int)td.len, (const char *)td.data,
                                   (int)path.len, (const char *)path.data);
    if (i->spiffe_id == NULL)
        return cs_nomem(e);
    api_field(c, KV("spiffe_id", i->spiffe_id));
    struct ca_workload_params p = {.spiffe_id = i->spiffe_id, .spki = csr.spki, .ttl_s = entry_x509_ttl(en)};
    const char **names;
    CS_TRY(entry_dns_names(en, i->arena, &names, &p.dns_name_count, e));
    p.dns_names = names;
    if (ca_sign_workload(c->api->cfg.ca, i->arena, &p, &i->svid, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to sign X509-SVID");
    if (cs_log_on(&c->api->log, CS_LOG_DEBUG))
        API_LOG(c, CS_LOG_DEBUG, "Signed X509 SVID", KV("expiration", svid_time(i->arena, i->svid.not_after)),
                KV("serial_num", i->svid.serial), KV_INT("revision_number", entry_revision(en)));
    return CS_OK;
}

static cs_code new_svid(struct issue *i, const Svidv1__NewX509SVIDParams *p, struct entry **en,
                        struct cs_err *e)
{
    struct api_call *c = i->c;
    if (p->entry_id[0] == '\0')
        return api_fail(c, e, CS_INVALID, "missing entry ID");
    if (p->csr.len == 0)
        return api_fail(c, e, CS_INVALID, "missing CSR");
    api_field(c, KV("entry_id", p->entry_id));
    *en = entrycache_lookup(c->api->entries, api_peer_path(c->peer), c->agent->selectors,
                            cs_slice_str(p->entry_id));
    if (*en == NULL)
        return api_fail(c, e, CS_NOT_FOUND, "entry not found or not authorized");
    return sign_entry(i, *en, convert_bytes(p->csr), e);
}

/* Result: 1 status, 2 svid. */
static void issue_one(struct issue *i, const Svidv1__NewX509SVIDParams *p, struct cs_buf *response)
{
    CS_AUTO(entry) en = NULL;
    struct cs_err st = api_ok();
    i->spiffe_id = "";
    cs_buf_reset(&i->result);
    cs_code code = new_svid(i, p, &en, &st);
    if (code == CS_OK)
        st = api_ok();
    api_status_write(&i->result, 1, &st);
    if (code == CS_OK)
        svid_x509_write(&i->result, 2, &i->svid, entry_trust_domain(en), entry_spiffe_path(en));
    wire_bytes(response, 1, cs_buf_slice(&i->result));
    response->failed |= !cs_buf_ok(&i->result);
    if (i->c->audit) {
        const struct cs_kv kv[] = {KV("csr", api_hash(i->c, convert_bytes(p->csr))),
                                   KV("entry_id", p->entry_id),
                                   KV("spiffe_id", code == CS_OK ? i->spiffe_id : ""),
                                   KV_INT("expires_at", code == CS_OK ? i->svid.not_after : 0)};
        api_audit_status(i->c, &st, kv, code == CS_OK ? 4 : 3);
    }
}

cs_code svid_batch_new_x509(struct rpc_call *call, void *service, struct cs_slice request,
                            struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Svidv1__BatchNewX509SVIDRequest *req;
    CS_TRY(api_unpack(c, &svidv1__batch_new_x509_svidrequest__descriptor, request, (void **)&req, e));
    if (req->n_params == 0)
        return api_fail(c, e, CS_INVALID, "missing parameters");
    cs_code code = api_limit(c, req->n_params, e);
    if (code != CS_OK)
        return api_limit_failed(c, code, "rejecting request due to certificate signing rate limiting", e);
    CS_AUTO(cs_arena) arena = cs_arena_new(8192, 0);
    if (arena == NULL)
        return cs_nomem(e);
    struct issue i = {.c = c, .arena = arena};
    size_t fields = c->field_count;
    for (size_t k = 0; k < req->n_params; k++) {
        issue_one(&i, req->params[k], response);
        c->field_count = fields; /* they are in the item's arena */
        cs_arena_reset(arena);
    }
    cs_buf_free(&i.result);
    return CS_OK;
}

/* --- NewDownstreamX509CA --- */
static cs_code downstream_response(struct api_call *c, const struct ca_x509 *ca, struct cs_buf *response,
                                   struct cs_err *e)
{
    CS_AUTO(spiffe_bundle) bundle = bundlestore_own(c->api->cfg.bundles);
    if (bundle == NULL)
        return api_fail(c, e, CS_NOT_FOUND, "bundle not found");
    for (size_t i = 0; i < ca->count; i++)
        wire_bytes(response, 1, ca->chain[i]);
    for (size_t i = 0; i < bundle->x509_count; i++)
        wire_bytes(response, 2, bundle->x509[i].cert->der);
    return CS_OK;
}

cs_code svid_new_downstream_ca(struct rpc_call *call, void *service, struct cs_slice request,
                               struct cs_buf *response, struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Svidv1__NewDownstreamX509CARequest *req;
    CS_TRY(api_unpack(c, &svidv1__new_downstream_x509_carequest__descriptor, request, (void **)&req, e));
    struct cs_slice der = convert_bytes(req->csr);
    const char *td_id = cs_arena_printf(c->arena, "spiffe://%s", a->cfg.trust_domain);
    api_audit_add(c, KV("csr", api_hash(c, der)));
    api_audit_add(c, KV("trust_domain_id", td_id));
    cs_code code = api_limit(c, 1, e);
    if (code != CS_OK)
        return api_limit_failed(c, code, "rejecting request due to downstream CA signing rate limit", e);
    if (!c->downstream)
        return api_fail(c, e, CS_INTERNAL, "caller is not a downstream workload");
    struct x509_csr csr;
    if (x509_csr_parse(der, &csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "malformed CSR");
    if (x509_csr_verify(&csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "invalid CSR signature");
    struct ca_x509 ca;
    if (ca_sign_downstream(a->cfg.ca, c->arena, csr.spki, req->preferred_ttl, &ca, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to sign downstream X.509 CA");
    API_LOG(c, CS_LOG_DEBUG, "Signed X509 CA SVID", KV("spiffe_id", td_id),
            KV("expiration", svid_time(c->arena, ca.not_after)));
    CS_TRY(downstream_response(c, &ca, response, e));
    api_audit_with(c, &KV_INT("expires_at", ca.not_after), 1);
    return CS_OK;
}
