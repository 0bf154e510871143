/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore.
 */
#include "kit/kit.h"

#include "sdk_agent_svidstore.pb-c.h"

static struct cspire_texts texts_of(char **at, size_t n)
{
    return (struct cspire_texts){.at = (const char *const *)at, .count = n};
}

static struct cspire_bytes *bytes_list(struct cspire_call *c, const ProtobufCBinaryData *from, size_t n)
{
    struct cspire_bytes *out = cs_arena_alloc(c->arena, (n + 1) * sizeof *out);
    for (size_t i = 0; out != NULL && i < n; i++)
        out[i] = KIT_PB_BYTES(from[i]);
    return out;
}

static cs_code make_svid(struct cspire_call *c, const Svidstorev1__PutX509SVIDRequest *req,
                         struct cspire_svid *out, struct cs_err *e)
{
    const Svidstorev1__X509SVID *svid = req->svid;
    if (svid == NULL)
        return cs_fail(e, CS_INVALID, "svid is required");
    if (svid->private_key.len > 0 && !kit_call_secret(c, svid->private_key.data, svid->private_key.len))
        return cs_nomem(e);
    struct cspire_federated_bundle *federated =
        cs_arena_alloc(c->arena, (req->n_federated_bundles + 1) * sizeof *federated);
    *out = (struct cspire_svid){
        .size = sizeof *out,
        .spiffe_id = svid->spiffeid,
        .chain = bytes_list(c, svid->cert_chain, svid->n_cert_chain),
        .chain_count = svid->n_cert_chain,
        .private_key = KIT_PB_BYTES(svid->private_key),
        .bundle = bytes_list(c, svid->bundle, svid->n_bundle),
        .bundle_count = svid->n_bundle,
        .federated = federated,
        .federated_count = req->n_federated_bundles,
        .expires_at = svid->expires_at,
    };
    if (out->chain == NULL || out->bundle == NULL || federated == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < req->n_federated_bundles; i++)
        federated[i] =
            (struct cspire_federated_bundle){.trust_domain = req->federated_bundles[i]->key,
                                             .bundle = KIT_PB_BYTES(req->federated_bundles[i]->value)};
    return CS_OK;
}

static cs_code put(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                   struct cs_err *e)
{
    (void)response; /* PutX509SVIDResponse has no fields */
    const Svidstorev1__PutX509SVIDRequest *req = (const Svidstorev1__PutX509SVIDRequest *)msg;
    const struct cspire_svid_store_ops *ops = c->env->plugin->ops.svid_store;
    if (KIT_OP(ops, put) == NULL)
        return kit_missing(e);
    struct cspire_svid svid;
    CS_TRY(make_svid(c, req, &svid, e));
    return kit_verdict(c, ops->put(c->env->self, c, &svid, texts_of(req->metadata, req->n_metadata)), e);
}

static cs_code remove_svid(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                           struct cs_err *e)
{
    (void)response; /* DeleteX509SVIDResponse has no fields */
    const Svidstorev1__DeleteX509SVIDRequest *req = (const Svidstorev1__DeleteX509SVIDRequest *)msg;
    const struct cspire_svid_store_ops *ops = c->env->plugin->ops.svid_store;
    if (KIT_OP(ops, remove) == NULL)
        return kit_missing(e);
    return kit_verdict(c, ops->remove(c->env->self, c, texts_of(req->metadata, req->n_metadata)), e);
}

static const struct kit_handler put_handler = {
    .run = put, .request = &svidstorev1__put_x509_svidrequest__descriptor, .secret_request = true};
static const struct kit_handler remove_handler = {
    .run = remove_svid, .request = &svidstorev1__delete_x509_svidrequest__descriptor};

#define SERVICE "spire.plugin.agent.svidstore.v1.SVIDStore"
static const struct rpc_method methods[] = {
    KIT_ROW("/" SERVICE "/PutX509SVID", put_handler),
    KIT_ROW("/" SERVICE "/DeleteX509SVID", remove_handler),
};
const struct kit_kind kit_svid_store = {
    .kind = CSPIRE_SVID_STORE,
    .type = "SVIDStore",
    .program = "agent",
    .service = SERVICE,
    .methods = methods,
    .method_count = sizeof methods / sizeof methods[0],
};
