/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore over gRPC.
 */
#include "plugin/svidstore.h"

#include "plugin/bridge/bridge.h"

#include "sdk_agent_svidstore.pb-c.h"

#define SERVICE "spire.plugin.agent.svidstore.v1.SVIDStore"

typedef Svidstorev1__PutX509SVIDRequest__FederatedBundlesEntry federated_entry;

static cs_code list_of(struct cs_arena *a, const struct cs_slice *in, size_t count, ProtobufCBinaryData **out,
                       struct cs_err *e)
{
    *out = cs_arena_alloc(a, (count + 1) * sizeof **out);
    if (*out == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < count; i++)
        (*out)[i] = bridge_data(in[i]);
    return CS_OK;
}

static cs_code concatenate(struct cs_arena *a, const struct cs_slice *in, size_t count,
                           ProtobufCBinaryData *out, struct cs_err *e)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += in[i].len;
    uint8_t *at = cs_arena_alloc(a, len + 1);
    if (at == NULL)
        return cs_nomem(e);
    *out = (ProtobufCBinaryData){.len = len, .data = at};
    for (size_t i = 0; i < count; i++) {
        if (in[i].len > 0)
            memcpy(at, in[i].data, in[i].len);
        at += in[i].len;
    }
    return CS_OK;
}

static cs_code federated_bundles(struct cs_arena *a, const struct svidstore_svid *in,
                                 Svidstorev1__PutX509SVIDRequest *out, struct cs_err *e)
{
    size_t n = in->federated_count;
    out->federated_bundles = cs_arena_alloc(a, (n + 1) * sizeof *out->federated_bundles);
    federated_entry *entries = cs_arena_alloc(a, (n + 1) * sizeof *entries);
    if (out->federated_bundles == NULL || entries == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        const struct svidstore_federated *f = &in->federated[i];
        svidstorev1__put_x509_svidrequest__federated_bundles_entry__init(&entries[i]);
        entries[i].key = (char *)f->trust_domain;
        CS_TRY(concatenate(a, f->roots, f->root_count, &entries[i].value, e));
        out->federated_bundles[i] = &entries[i];
    }
    out->n_federated_bundles = n;
    return CS_OK;
}

static cs_code put(void *self, const struct svidstore_svid *svid, const char *const *metadata,
                   size_t metadata_count, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Svidstorev1__X509SVID message = SVIDSTOREV1__X509_SVID__INIT;
    message.spiffeid = (char *)svid->spiffe_id;
    message.private_key = bridge_data(svid->key);
    message.expires_at = svid->expires_at;
    message.n_cert_chain = svid->chain_count;
    message.n_bundle = svid->bundle_count;
    CS_TRY(list_of(a, svid->chain, svid->chain_count, &message.cert_chain, e));
    CS_TRY(list_of(a, svid->bundle, svid->bundle_count, &message.bundle, e));
    Svidstorev1__PutX509SVIDRequest request = SVIDSTOREV1__PUT_X509_SVIDREQUEST__INIT;
    request.svid = &message;
    request.n_metadata = metadata_count;
    request.metadata = (char **)metadata;
    CS_TRY(federated_bundles(a, svid, &request, e));
    Svidstorev1__PutX509SVIDResponse *answer;
    return bridge_call(self, "/" SERVICE "/PutX509SVID", &request.base,
                       &svidstorev1__put_x509_svidresponse__descriptor, a, &answer, 0, e);
}

static cs_code delete (void *self, const char *const *metadata, size_t metadata_count, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Svidstorev1__DeleteX509SVIDRequest request = SVIDSTOREV1__DELETE_X509_SVIDREQUEST__INIT;
    request.n_metadata = metadata_count;
    request.metadata = (char **)metadata;
    Svidstorev1__DeleteX509SVIDResponse *answer;
    return bridge_call(self, "/" SERVICE "/DeleteX509SVID", &request.base,
                       &svidstorev1__delete_x509_svidresponse__descriptor, a, &answer, 0, e);
}

static const struct svidstore_ops ops = {.put = put, .remove = delete};

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    return bridge_new(x, env, PLUGIN_TYPE_SVIDSTORE, sizeof(struct bridge), self, e);
}

const struct plugin_bridge plugin_bridge_svidstore = {
    .service = SERVICE,
    .ops = &ops,
    .create = create,
    .destroy = bridge_free,
};
