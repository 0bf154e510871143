/* SPDX-License-Identifier: Apache-2.0
 *
 * PEM, DER and JWKS forms of bundles.
 */
#include "crypto/jose.h"
#include "crypto/pem.h"
#include "spiffe/bundle.h"

#define MAX_AUTHORITIES 4096
#define MAX_DOCUMENT (16 * 1024 * 1024)

static cs_code from_chain(struct cs_slice trust_domain, const struct x509_chain *chain,
                          struct spiffe_bundle **out, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(trust_domain, &b, e));
    for (size_t i = 0; i < chain->count; i++)
        CS_TRY(spiffe_bundle_add_x509(b, chain->at[i], false, e));
    return spiffe_bundle_build(b, out, e);
}

cs_code spiffe_bundle_parse_pem(struct cs_slice trust_domain, struct cs_slice pem, struct spiffe_bundle **out,
                                struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    *out = NULL;
    CS_TRY(x509_chain_parse_pem(pem, MAX_AUTHORITIES, &chain, e));
    return from_chain(trust_domain, &chain, out, e);
}

cs_code spiffe_bundle_parse_der(struct cs_slice trust_domain, struct cs_slice der, struct spiffe_bundle **out,
                                struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    *out = NULL;
    if (der.len > 0)
        CS_TRY(x509_chain_parse_der(der, MAX_AUTHORITIES, &chain, e));
    return from_chain(trust_domain, &chain, out, e);
}

void spiffe_bundle_write_pem(struct cs_buf *out, const struct spiffe_bundle *b)
{
    for (size_t i = 0; i < b->x509_count; i++)
        pem_write(out, PEM_CERTIFICATE, b->x509[i].cert->der);
}

void spiffe_bundle_write_der(struct cs_buf *out, const struct spiffe_bundle *b)
{
    for (size_t i = 0; i < b->x509_count; i++)
        cs_buf_add_slice(out, b->x509[i].cert->der);
}

/* --- JWKS --- */

static cs_code add_jwk(struct spiffe_bundle_builder *b, const struct jose_jwk *k, size_t i, struct cs_err *e)
{
    bool jwt = strcmp(k->use, "jwt-svid") == 0;
    if (strcmp(k->use, "x509-svid") == 0) {
        if (k->certs.count != 1)
            return cs_fail(e, CS_INVALID, "expected a single certificate in x509-svid entry %zu; got %zu", i,
                           k->certs.count);
        return spiffe_bundle_add_x509(b, k->certs.at[0], false, e);
    }
    if (jwt || strcmp(k->use, "wit-svid") == 0) {
        if (*k->kid == '\0')
            return cs_fail(e, CS_INVALID, "missing key ID in %s entry %zu", k->use, i);
        return (jwt ? spiffe_bundle_add_jwt : spiffe_bundle_add_wit)(b, cs_slice_str(k->kid),
                                                                     crypto_pub_spki(k->pub), 0, false, e);
    }
    if (*k->use == '\0')
        return cs_fail(e, CS_INVALID, "missing use for key entry %zu", i);
    return cs_fail(e, CS_INVALID, "unrecognized use \"%.64s\" for key entry %zu", k->use, i);
}

/* An optional whole number of the document. */
static cs_code read_number(const json_t *doc, const char *name, int64_t *out, struct cs_err *e)
{
    const json_t *v = json_object_get(doc, name);
    *out = 0;
    if (v == NULL || json_is_null(v))
        return CS_OK;
    if (!json_is_integer(v))
        return cs_fail(e, CS_INVALID, "json: cannot unmarshal %s: not an integer", name);
    *out = json_integer_value(v);
    return CS_OK;
}

static cs_code read_document(struct spiffe_bundle_builder *b, const json_t *doc, struct cs_err *e)
{
    const json_t *keys = json_object_get(doc, "keys"), *item;
    int64_t hint, sequence;
    size_t i;
    if (!json_is_object(doc))
        return cs_fail(e, CS_INVALID, "json: cannot unmarshal the bundle: not an object");
    if (keys != NULL && !json_is_array(keys) && !json_is_null(keys))
        return cs_fail(e, CS_INVALID, "json: cannot unmarshal keys: not an array");
    if (json_array_size(keys) > MAX_AUTHORITIES)
        return cs_fail(e, CS_INVALID, "bundle has more than %d keys", MAX_AUTHORITIES);
    CS_TRY(read_number(doc, "spiffe_refresh_hint", &hint, e));
    CS_TRY(read_number(doc, "spiffe_sequence", &sequence, e));
    if (sequence < 0)
        return cs_fail(e, CS_INVALID, "json: cannot unmarshal spiffe_sequence: negative");
    spiffe_bundle_set_refresh_hint(b, hint);
    json_array_foreach(keys, i, item)
    {
        CS_CLEANUP(jose_jwk_free) struct jose_jwk k = {0};
        CS_TRY(jose_jwk_read(item, &k, e));
        CS_TRY(add_jwk(b, &k, i, e));
    }
    return CS_OK;
}

cs_code spiffe_bundle_parse_jwks(struct cs_slice trust_domain, struct cs_slice json,
                                 struct spiffe_bundle **out, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    json_error_t where;
    *out = NULL;
    if (json.len > MAX_DOCUMENT)
        return cs_fail(e, CS_INVALID, "bundle is longer than %d bytes", MAX_DOCUMENT);
    CS_TRY(spiffe_bundle_builder_new(trust_domain, &b, e));
    json_t *doc = json_loadb((const char *)json.data, json.len, JSON_REJECT_DUPLICATES, &where);
    if (doc == NULL)
        return cs_fail(e, CS_INVALID, "json: %s", where.text);
    cs_code code = read_document(b, doc, e);
    json_decref(doc);
    if (code == CS_UNIMPLEMENTED) /* a kind of key that nobody here could use */
        return cs_fail(e, CS_INVALID, "%s", e == NULL ? "unsupported key" : e->text);
    CS_TRY(code);
    return spiffe_bundle_build(b, out, e);
}

struct jwks_writer {
    struct cs_buf *out;
    bool any;
    unsigned flags;
};

static const char *use_of(const struct jwks_writer *w, const char *use)
{
    return w->flags & SPIFFE_JWKS_STANDARD ? NULL : use;
}

static void next_key(struct jwks_writer *w)
{
    cs_buf_add_str(w->out, w->any ? ",\n        " : "\n        ");
    w->any = true;
}

static cs_code write_keys(struct jwks_writer *w, const struct spiffe_bundle *b,
                          const struct spiffe_jwt_authority *keys, size_t count, const char *use,
                          struct cs_err *e)
{
    for (size_t i = 0; i < count; i++) {
        struct crypto_pub *pub;
        CS_TRY(spiffe_bundle_jwt_pub(b, &keys[i], &pub, e));
        next_key(w);
        jose_jwk_write(w->out, pub, use_of(w, use), keys[i].kid, NULL, 12);
    }
    return CS_OK;
}

cs_code spiffe_bundle_write_jwks(struct cs_buf *out, const struct spiffe_bundle *b, unsigned flags,
                                 struct cs_err *e)
{
    struct jwks_writer w = {.out = out, .flags = flags};
    cs_buf_add_str(out, "{\n    \"keys\": [");
    for (size_t i = 0; i < b->x509_count && !(flags & SPIFFE_JWKS_NO_X509); i++) {
        struct crypto_pub *pub;
        CS_TRY(x509_cert_pub(b->x509[i].cert, &pub, e));
        next_key(&w);
        jose_jwk_write(out, pub, use_of(&w, "x509-svid"), NULL, b->x509[i].cert, 12);
    }
    if (!(flags & SPIFFE_JWKS_NO_JWT))
        CS_TRY(write_keys(&w, b, b->jwt, b->jwt_count, "jwt-svid", e));
    if (!(flags & SPIFFE_JWKS_NO_WIT))
        CS_TRY(write_keys(&w, b, b->wit, b->wit_count, "wit-svid", e));
    cs_buf_add_str(out, w.any ? "\n    ]" : "]");
    if (!(flags & (SPIFFE_JWKS_STANDARD | SPIFFE_JWKS_NO_SEQUENCE)) && b->sequence_number != 0)
        cs_buf_printf(out, ",\n    \"spiffe_sequence\": %llu", (unsigned long long)b->sequence_number);
    if (!(flags & SPIFFE_JWKS_STANDARD) && b->refresh_hint != 0)
        cs_buf_printf(out, ",\n    \"spiffe_refresh_hint\": %lld", (long long)b->refresh_hint);
    cs_buf_add_str(out, "\n}");
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
