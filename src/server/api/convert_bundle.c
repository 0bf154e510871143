/* SPDX-License-Identifier: Apache-2.0
 *
 * Bundles: spire.api.types.Bundle.
 */
#include "server/api/convert.h"
#include "server/entrycache/wire.h"

/* X509Certificate: 1 asn1, 2 tainted. */
static void cert_write(struct cs_buf *b, struct cs_slice der, bool tainted)
{
    wire_len(b, 2, wire_str_size(der.len) + (tainted ? 2 : 0));
    wire_str(b, 1, der);
    wire_int(b, 2, tainted);
}

/* JWTKey and WITKey: 1 public_key, 2 key_id, 3 expires_at, 4 tainted. */
static void key_write(struct cs_buf *b, uint32_t field, struct cs_slice pkix, const char *kid,
                      int64_t expires_at, bool tainted)
{
    struct cs_slice id = cs_slice_str(kid);
    size_t time_size = expires_at != 0 ? 1 + wire_varint_size((uint64_t)expires_at) : 0;
    wire_len(b, field, wire_str_size(pkix.len) + wire_str_size(id.len) + time_size + (tainted ? 2 : 0));
    wire_str(b, 1, pkix);
    wire_str(b, 2, id);
    wire_int(b, 3, expires_at);
    wire_int(b, 4, tainted);
}

void convert_jwt_keys(struct cs_buf *b, uint32_t field, const struct ds_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        key_write(b, field, keys[i].pkix, keys[i].kid, keys[i].not_after, keys[i].tainted);
}

cs_code convert_bundle_message(struct cs_buf *b, const struct ds_bundle *in, const Types__BundleMask *mask,
                               struct cs_err *e)
{
    struct cs_slice td;
    if (spiffe_td_parse(cs_slice_str(in->trust_domain), &td, e) != CS_OK)
        return cs_wrap(e, "invalid trust domain id");
    wire_str(b, 1, td);
    for (size_t i = 0; (mask == NULL || mask->x509_authorities) && i < in->n_roots; i++)
        cert_write(b, in->roots[i].der, in->roots[i].tainted);
    if (mask == NULL || mask->jwt_authorities)
        convert_jwt_keys(b, 3, in->jwt_keys, in->n_jwt_keys);
    if (mask == NULL || mask->refresh_hint)
        wire_int(b, 4, in->refresh_hint);
    if (mask == NULL || mask->sequence_number)
        wire_int(b, 5, (int64_t)in->sequence_number);
    if (mask == NULL || mask->wit_authorities)
        convert_jwt_keys(b, 6, in->wit_keys, in->n_wit_keys);
    return CS_OK;
}

static void held_keys(struct cs_buf *b, uint32_t field, const struct spiffe_jwt_authority *k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        key_write(b, field, k[i].spki, k[i].kid, k[i].expires_at, k[i].tainted);
}

void convert_bundle_held(struct cs_buf *b, const struct spiffe_bundle *in, const Types__BundleMask *mask)
{
    wire_str(b, 1, cs_slice_str(in->trust_domain));
    for (size_t i = 0; (mask == NULL || mask->x509_authorities) && i < in->x509_count; i++)
        cert_write(b, in->x509[i].cert->der, in->x509[i].tainted);
    if (mask == NULL || mask->jwt_authorities)
        held_keys(b, 3, in->jwt, in->jwt_count);
    if (mask == NULL || mask->refresh_hint)
        wire_int(b, 4, in->refresh_hint);
    if (mask == NULL || mask->sequence_number)
        wire_int(b, 5, (int64_t)in->sequence_number);
    if (mask == NULL || mask->wit_authorities)
        held_keys(b, 6, in->wit, in->wit_count);
}

/* --- From the message --- */
cs_code convert_x509_authorities(struct cs_arena *a, Types__X509Certificate *const *in, size_t n,
                                 const struct ds_cert **out, struct cs_err *e)
{
    *out = NULL;
    if (n == 0)
        return CS_OK;
    struct ds_cert *list = cs_arena_alloc(a, n * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        struct x509_chain certs CS_CLEANUP(x509_chain_free) = {0};
        struct cs_slice der = convert_bytes(in[i]->asn1);
        if (der.len == 0) /* SPIRE takes it, and has a bundle that nobody can read */
            return cs_fail(e, CS_INVALID, "missing certificate");
        CS_TRY(x509_chain_parse_der(der, SIZE_MAX, &certs, e));
        list[i] = (struct ds_cert){.der = der};
    }
    *out = list;
    return CS_OK;
}

cs_code convert_jwt_authorities(struct cs_arena *a, Types__JWTKey *const *in, size_t n,
                                const struct ds_key **out, struct cs_err *e)
{
    *out = NULL;
    if (n == 0)
        return CS_OK;
    struct ds_key *list = cs_arena_alloc(a, n * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        CS_AUTO(crypto_pub) key = NULL;
        CS_TRY(crypto_pub_parse(convert_bytes(in[i]->public_key), &key, e));
        if (in[i]->key_id[0] == '\0')
            return cs_fail(e, CS_INVALID, "missing key ID");
        list[i] = (struct ds_key){
            .pkix = convert_bytes(in[i]->public_key), .kid = in[i]->key_id, .not_after = in[i]->expires_at};
    }
    *out = list;
    return CS_OK;
}

cs_code convert_bundle(struct cs_arena *a, const Types__Bundle *in, struct ds_bundle *out, struct cs_err *e)
{
    *out = (struct ds_bundle){.refresh_hint = in->refresh_hint, .sequence_number = in->sequence_number};
    if (convert_td(a, in->trust_domain, &out->trust_domain, e) != CS_OK)
        return cs_wrap(e, "invalid trust domain");
    if (convert_x509_authorities(a, in->x509_authorities, in->n_x509_authorities, &out->roots, e) != CS_OK)
        return cs_wrap(e, "unable to parse X.509 authority");
    out->n_roots = in->n_x509_authorities;
    if (convert_jwt_authorities(a, in->jwt_authorities, in->n_jwt_authorities, &out->jwt_keys, e) != CS_OK)
        return cs_wrap(e, "unable to parse JWT authority");
    out->n_jwt_keys = in->n_jwt_authorities;
    return CS_OK;
}
