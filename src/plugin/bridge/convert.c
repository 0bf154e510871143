/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/bridge/convert.h"

#include "base/text.h"
#include "plugin/bridge/bridge.h"

/* A list of `n` pointers to zeroed messages of `size` bytes, in one piece. NULL when memory is out. */
static void **messages(struct cs_arena *a, size_t n, size_t size)
{
    void **list = cs_arena_alloc(a, (n + 1) * sizeof *list);
    uint8_t *at = cs_arena_zalloc(a, n * size + 1);
    if (list == NULL || at == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        list[i] = at + i * size;
    return list;
}

static cs_code x509_authorities(struct cs_arena *a, const struct spiffe_bundle *in, Sdktypes__Bundle *out,
                                struct cs_err *e)
{
    out->x509_authorities = (void *)messages(a, in->x509_count, sizeof **out->x509_authorities);
    if (out->x509_authorities == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->x509_count; i++) {
        Sdktypes__X509Certificate *c = out->x509_authorities[i];
        sdktypes__x509_certificate__init(c);
        c->asn1 = bridge_data(in->x509[i].cert->der);
        c->tainted = in->x509[i].tainted;
    }
    out->n_x509_authorities = in->x509_count;
    return CS_OK;
}

static cs_code jwt_authorities(struct cs_arena *a, const struct spiffe_bundle *in, Sdktypes__Bundle *out,
                               struct cs_err *e)
{
    out->jwt_authorities = (void *)messages(a, in->jwt_count, sizeof **out->jwt_authorities);
    if (out->jwt_authorities == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->jwt_count; i++) {
        Sdktypes__JWTKey *k = out->jwt_authorities[i];
        sdktypes__jwtkey__init(k);
        k->key_id = (char *)in->jwt[i].kid;
        k->public_key = bridge_data(in->jwt[i].spki);
        k->expires_at = in->jwt[i].expires_at;
        k->tainted = in->jwt[i].tainted;
    }
    out->n_jwt_authorities = in->jwt_count;
    return CS_OK;
}

static cs_code wit_authorities(struct cs_arena *a, const struct spiffe_bundle *in, Sdktypes__Bundle *out,
                               struct cs_err *e)
{
    out->wit_authorities = (void *)messages(a, in->wit_count, sizeof **out->wit_authorities);
    if (out->wit_authorities == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->wit_count; i++) {
        Sdktypes__WITKey *k = out->wit_authorities[i];
        sdktypes__witkey__init(k);
        k->key_id = (char *)in->wit[i].kid;
        k->public_key = bridge_data(in->wit[i].spki);
        k->expires_at = in->wit[i].expires_at;
        k->tainted = in->wit[i].tainted;
    }
    out->n_wit_authorities = in->wit_count;
    return CS_OK;
}

cs_code convert_plugin_bundle(struct cs_arena *a, const struct spiffe_bundle *bundle, Sdktypes__Bundle **out,
                              struct cs_err *e)
{
    Sdktypes__Bundle *b = cs_arena_alloc(a, sizeof *b);
    *out = NULL;
    if (b == NULL)
        return cs_nomem(e);
    sdktypes__bundle__init(b);
    b->trust_domain = (char *)bundle->trust_domain;
    b->refresh_hint = bundle->refresh_hint;
    b->sequence_number = bundle->sequence_number;
    CS_TRY(x509_authorities(a, bundle, b, e));
    CS_TRY(jwt_authorities(a, bundle, b, e));
    CS_TRY(wit_authorities(a, bundle, b, e));
    *out = b;
    return CS_OK;
}

cs_code convert_certificate(const Sdktypes__X509Certificate *in, struct cs_err *e)
{
    CS_AUTO(x509_cert) cert = NULL;
    if (in->asn1.len == 0)
        return cs_fail(e, CS_INVALID, "missing X.509 certificate data");
    if (x509_cert_parse(bridge_bytes(in->asn1), &cert, e) != CS_OK)
        return cs_wrap(e, "failed to parse X.509 certificate data");
    return CS_OK;
}

cs_code convert_jwt_key(const Sdktypes__JWTKey *in, struct upstreamauthority_jwt_key *out, struct cs_err *e)
{
    if (in->key_id[0] == '\0')
        return cs_fail(e, CS_INVALID, "missing key ID for JWT key");
    CS_CLEANUP(cs_buf_free) struct cs_buf id = {0};
    cs_quote(&id, cs_slice_str(in->key_id));
    if (in->public_key.len == 0)
        return cs_fail(e, CS_INVALID, "missing public key for JWT key %s", cs_buf_cstr(&id));
    CS_AUTO(crypto_pub) pub = NULL;
    if (crypto_pub_parse(bridge_bytes(in->public_key), &pub, e) != CS_OK)
        return cs_wrap(e, "failed to unmarshal public key for JWT key %s", cs_buf_cstr(&id));
    *out = (struct upstreamauthority_jwt_key){
        .pkix = bridge_bytes(in->public_key),
        .kid = in->key_id,
        .not_after = in->expires_at,
    };
    return CS_OK;
}
