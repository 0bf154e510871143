/* SPDX-License-Identifier: Apache-2.0
 *
 * Bundle service: changing federated bundles, in batches whose items succeed or fail each for itself.
 * Source: SPIRE's pkg/server/api/bundle/v1.
 */
#include "server/api/bundle.h"
#include "server/entrycache/wire.h"

struct work {
    struct api_call *c;
    const Types__BundleMask *input, *output;
    struct cs_buf *response;
    const char *own_refused; /* text for our own trust domain */
    cs_code (*store)(struct work *w, const struct ds_bundle *in, struct ds_bundle **out, struct cs_err *st);
    const char *done; /* log line */
    enum cs_level done_level;
};

/* --- What is done with one bundle --- */
static cs_code store_new(struct work *w, const struct ds_bundle *in, struct ds_bundle **out,
                         struct cs_err *st)
{
    struct ds *ds = w->c->api->cfg.ds;
    cs_code code = ds_bundle_create(ds, in, st);
    if (code == CS_EXISTS)
        return api_fail(w->c, st, CS_EXISTS, "bundle already exists");
    if (code == CS_OK)
        code = ds_bundle_fetch(ds, w->c->arena, in->trust_domain, out, st);
    return code == CS_OK ? CS_OK : api_fail_cause(w->c, st, CS_INTERNAL, "unable to create bundle");
}

static cs_code store_update(struct work *w, const struct ds_bundle *in, struct ds_bundle **out,
                            struct cs_err *st)
{
    struct ds_bundle_mask mask = {0};
    if (w->input != NULL)
        mask = (struct ds_bundle_mask){.roots = w->input->x509_authorities,
                                       .jwt_keys = w->input->jwt_authorities,
                                       .refresh_hint = w->input->refresh_hint,
                                       .sequence_number = w->input->sequence_number};
    cs_code code =
        ds_bundle_update(w->c->api->cfg.ds, w->c->arena, in, w->input != NULL ? &mask : NULL, out, st);
    if (code == CS_NOT_FOUND)
        return api_fail(w->c, st, CS_NOT_FOUND, "bundle not found");
    return code == CS_OK ? CS_OK : api_fail_cause(w->c, st, CS_INTERNAL, "failed to update bundle");
}

static cs_code store_set(struct work *w, const struct ds_bundle *in, struct ds_bundle **out,
                         struct cs_err *st)
{
    cs_code code = ds_bundle_set(w->c->api->cfg.ds, w->c->arena, in, out, st);
    return code == CS_OK ? CS_OK : api_fail_cause(w->c, st, CS_INTERNAL, "failed to set bundle");
}

static cs_code change(struct work *w, const Types__Bundle *b, struct ds_bundle **out, struct cs_err *st)
{
    struct api_call *c = w->c;
    const char *id;
    struct ds_bundle in;
    if (convert_td(c->arena, b->trust_domain, &id, st) != CS_OK)
        return api_fail_cause(c, st, CS_INVALID, "trust domain argument is not valid");
    if (strcmp(id + strlen("spiffe://"), c->api->cfg.trust_domain) == 0)
        return api_fail(c, st, CS_INVALID, w->own_refused);
    if (convert_bundle(c->arena, b, &in, st) != CS_OK)
        return api_fail_cause(c, st, CS_INVALID, "failed to convert bundle");
    CS_TRY(w->store(w, &in, out, st));
    if (bundle_stored(c, in.trust_domain, st) != CS_OK)
        API_LOG(c, CS_LOG_WARN, "Failed to reload bundle", KV_ERR(st));
    return CS_OK;
}

static void audit(struct work *w, const Types__Bundle *b, const struct cs_err *st)
{
    struct bundle_fields f = {.n = 0};
    const Types__BundleMask *m = w->input;
    if (!w->c->audit)
        return;
    f.at[f.n++] = KV("trust_domain_id", b->trust_domain);
    if (m == NULL || m->refresh_hint)
        f.at[f.n++] = KV_INT("refresh_hint", b->refresh_hint);
    if (m == NULL || m->sequence_number)
        f.at[f.n++] = KV_INT("sequence_number", (int64_t)b->sequence_number);
    struct bundle_authorities in = {0};
    if (m == NULL || m->jwt_authorities) {
        in.jwt = b->jwt_authorities;
        in.n_jwt = b->n_jwt_authorities;
    }
    if (m == NULL || m->x509_authorities) {
        in.x509 = b->x509_authorities;
        in.n_x509 = b->n_x509_authorities;
    }
    bundle_audit_authorities(w->c, &in, &f);
    api_audit_status(w->c, st, f.at, f.n);
}

/* Result: 1 status, 2 bundle. */
static void change_one(struct work *w, const Types__Bundle *b)
{
    struct cs_err st = api_ok();
    struct ds_bundle *out = NULL;
    struct cs_buf message CS_CLEANUP(cs_buf_free) = {0}, result CS_CLEANUP(cs_buf_free) = {0};
    api_field(w->c, KV("trust_domain_id", b->trust_domain));
    cs_code code = change(w, b, &out, &st);
    if (code == CS_OK && convert_bundle_message(&message, out, w->output, &st) != CS_OK)
        code = api_fail_cause(w->c, &st, CS_INTERNAL, "failed to convert bundle");
    if (code == CS_OK) {
        st = api_ok();
        api_log(w->c, w->done_level, w->done, NULL, 0);
    }
    api_status_write(&result, 1, &st);
    if (code == CS_OK)
        wire_bytes(&result, 2, cs_buf_slice(&message));
    wire_bytes(w->response, 1, cs_buf_slice(&result));
    w->response->failed |= !cs_buf_ok(&result) || !cs_buf_ok(&message);
    audit(w, b, &st);
}

cs_code bundle_batch_create(struct rpc_call *call, void *service, struct cs_slice request,
                            struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Bundlev1__BatchCreateFederatedBundleRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__batch_create_federated_bundle_request__descriptor, request, (void **)&req,
                      e));
    struct work w = {
        .c = c,
        .output = req->output_mask,
        .response = response,
        .own_refused = "creating a federated bundle for the server's own trust domain is not allowed",
        .store = store_new,
        .done = "Federated bundle created",
        .done_level = CS_LOG_DEBUG,
    };
    for (size_t i = 0; i < req->n_bundle; i++)
        change_one(&w, req->bundle[i]);
    return CS_OK;
}

cs_code bundle_batch_update(struct rpc_call *call, void *service, struct cs_slice request,
                            struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Bundlev1__BatchUpdateFederatedBundleRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__batch_update_federated_bundle_request__descriptor, request, (void **)&req,
                      e));
    struct work w = {
        .c = c,
        .input = req->input_mask,
        .output = req->output_mask,
        .response = response,
        .own_refused = "updating a federated bundle for the server's own trust domain is not allowed",
        .store = store_update,
        .done = "Federated bundle updated",
        .done_level = CS_LOG_DEBUG,
    };
    for (size_t i = 0; i < req->n_bundle; i++)
        change_one(&w, req->bundle[i]);
    return CS_OK;
}

cs_code bundle_batch_set(struct rpc_call *call, void *service, struct cs_slice request,
                         struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Bundlev1__BatchSetFederatedBundleRequest *req;
    CS_TRY(
        api_unpack(c, &bundlev1__batch_set_federated_bundle_request__descriptor, request, (void **)&req, e));
    struct work w = {
        .c = c,
        .output = req->output_mask,
        .response = response,
        .own_refused = "setting a federated bundle for the server's own trust domain is not allowed",
        .store = store_set,
        .done = "Bundle set successfully",
        .done_level = CS_LOG_INFO,
    };
    for (size_t i = 0; i < req->n_bundle; i++)
        change_one(&w, req->bundle[i]);
    return CS_OK;
}

/* --- BatchDeleteFederatedBundle: results of 1 status, 2 trust domain --- */
static const struct {
    enum ds_delete_mode mode;
    const char *name;
} modes[] = {
    [BUNDLEV1__BATCH_DELETE_FEDERATED_BUNDLE_REQUEST__MODE__RESTRICT] = {DS_RESTRICT, "RESTRICT"},
    [BUNDLEV1__BATCH_DELETE_FEDERATED_BUNDLE_REQUEST__MODE__DELETE] = {DS_DELETE, "DELETE"},
    [BUNDLEV1__BATCH_DELETE_FEDERATED_BUNDLE_REQUEST__MODE__DISSOCIATE] = {DS_DISSOCIATE, "DISSOCIATE"},
};

static cs_code delete_bundle(struct api_call *c, const char *trust_domain, enum ds_delete_mode mode,
                             struct cs_err *st)
{
    const char *id;
    if (convert_td(c->arena, trust_domain, &id, st) != CS_OK)
        return api_fail_cause(c, st, CS_INVALID, "trust domain argument is not valid");
    if (strcmp(id + strlen("spiffe://"), c->api->cfg.trust_domain) == 0)
        return api_fail(c, st, CS_INVALID, "removing the bundle for the server trust domain is not allowed");
    cs_code code = ds_bundle_delete(c->api->cfg.ds, id, mode, st);
    if (code == CS_NOT_FOUND)
        return api_fail(c, st, CS_NOT_FOUND, "bundle not found");
    if (code != CS_OK)
        return api_fail_cause(c, st, code, "failed to delete federated bundle");
    if (bundle_stored(c, id, st) != CS_OK)
        API_LOG(c, CS_LOG_WARN, "Failed to reload bundle", KV_ERR(st));
    return CS_OK;
}

cs_code bundle_batch_delete(struct rpc_call *call, void *service, struct cs_slice request,
                            struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Bundlev1__BatchDeleteFederatedBundleRequest *req;
    CS_TRY(api_unpack(c, &bundlev1__batch_delete_federated_bundle_request__descriptor, request, (void **)&req,
                      e));
    if ((size_t)req->mode >= sizeof modes / sizeof modes[0]) {
        (void)cs_fail(e, CS_INVALID, "unhandled delete mode \"%d\"", (int)req->mode);
        return api_fail_cause(c, e, CS_INVALID, "failed to parse deletion mode");
    }
    api_field(c, KV("delete_federated_bundle_mode", modes[req->mode].name));
    for (size_t i = 0; i < req->n_trust_domains; i++) {
        const char *td = req->trust_domains[i];
        struct cs_err st = api_ok();
        struct cs_buf result CS_CLEANUP(cs_buf_free) = {0};
        api_field(c, KV("trust_domain_id", td));
        if (delete_bundle(c, td, modes[req->mode].mode, &st) == CS_OK)
            st = api_ok();
        api_status_write(&result, 1, &st);
        wire_str(&result, 2, cs_slice_str(td));
        wire_bytes(response, 1, cs_buf_slice(&result));
        response->failed |= !cs_buf_ok(&result);
        const struct cs_kv kv[] = {KV("trust_domain_id", td), KV("mode", modes[req->mode].name)};
        api_audit_status(c, &st, kv, 2);
    }
    return CS_OK;
}
