/* SPDX-License-Identifier: Apache-2.0 */
#include "spiffe/x509svid.h"

#include "base/text.h"

cs_code spiffe_x509_id(const struct x509_cert *cert, struct spiffe_id *out, struct cs_err *e)
{
    struct cs_slice uri;
    *out = (struct spiffe_id){0};
    if (cert->ext.san.uris == 0)
        return cs_fail(e, CS_INVALID, "certificate contains no URI SAN");
    if (cert->ext.san.uris > 1)
        return cs_fail(e, CS_INVALID, "certificate contains more than one URI SAN");
    x509_san_get(&cert->ext.san, X509_SAN_URI, 0, &uri);
    return spiffe_id_parse(uri, out, e);
}

static cs_code check_leaf(const struct x509_cert *leaf, struct cs_err *e)
{
    if (leaf->ext.is_ca)
        return cs_fail(e, CS_UNAUTHENTICATED, "x509svid: leaf certificate with CA flag set to true");
    if (leaf->ext.key_usage & X509_KU_CERT_SIGN)
        return cs_fail(e, CS_UNAUTHENTICATED, "x509svid: leaf certificate with KeyCertSign key usage");
    if (leaf->ext.key_usage & X509_KU_CRL_SIGN)
        return cs_fail(e, CS_UNAUTHENTICATED, "x509svid: leaf certificate with KeyCrlSign key usage");
    return CS_OK;
}

/* Keeps the text in *e, which may be NULL, but not its code. */
static cs_code unauthenticated(struct cs_err *e, const struct cs_err *why, const char *prefix)
{
    return cs_fail(e, CS_UNAUTHENTICATED, "x509svid: %s: %s", prefix, why->text);
}

static cs_code verify(const struct x509_chain *chain, const struct spiffe_bundle *bundle, int64_t now,
                      struct x509_verify_cache *cache, struct spiffe_id *id, const struct x509_cert **root,
                      int64_t *expires, struct cs_err *e)
{
    struct cs_err why = {0};
    if (chain->count == 0)
        return cs_fail(e, CS_UNAUTHENTICATED, "x509svid: empty certificates chain");
    if (spiffe_x509_id(chain->at[0], id, &why) != CS_OK)
        return unauthenticated(e, &why, "could not get leaf SPIFFE ID");
    CS_TRY(check_leaf(chain->at[0], e));
    struct cs_slice td = spiffe_id_td(*id);
    if (!cs_slice_is(td, bundle->trust_domain))
        return cs_fail(e, CS_UNAUTHENTICATED,
                       "x509svid: could not get X509 bundle: no X.509 bundle for trust domain \"%.*s\"",
                       (int)(td.len < 255 ? td.len : 255), (const char *)td.data);
    const struct x509_verify_params params = {
        .roots = bundle->roots,
        .root_count = bundle->x509_count,
        .now = now,
        .purpose = X509_PURPOSE_ANY,
        .cache = cache,
        .roots_id = bundle->roots_id,
    };
    if (x509_verify(chain, &params, root, expires, &why) != CS_OK)
        return unauthenticated(e, &why, "could not verify leaf certificate");
    return CS_OK;
}

cs_code spiffe_x509svid_verify(const struct x509_chain *chain, const struct spiffe_bundle *bundle,
                               int64_t now, struct x509_verify_cache *cache, struct spiffe_id *id,
                               int64_t *expires, struct cs_err *e)
{
    struct spiffe_id found = {0};
    *id = found;
    CS_TRY(verify(chain, bundle, now, cache, &found, NULL, expires, e));
    *id = found;
    return CS_OK;
}

cs_code spiffe_x509svid_root(const struct x509_chain *chain, const struct spiffe_bundle *bundle, int64_t now,
                             const struct spiffe_x509_authority **root, struct cs_err *e)
{
    struct spiffe_id id;
    const struct x509_cert *cert;
    *root = NULL;
    CS_TRY(verify(chain, bundle, now, NULL, &id, &cert, NULL, e));
    for (size_t i = 0; i < bundle->x509_count; i++)
        if (bundle->x509[i].cert == cert) {
            *root = &bundle->x509[i];
            return CS_OK;
        }
    /* a leaf that is a root itself is a CA, and those were refused */
    return cs_fail(e, CS_UNAUTHENTICATED, "x509svid: path ends in no authority of the bundle");
}

/* --- Holders --- */

static cs_code check_held_leaf(const struct x509_cert *leaf, struct spiffe_id *id, struct cs_err *e)
{
    if (spiffe_x509_id(leaf, id, e) != CS_OK)
        return cs_wrap(e, "cannot get leaf certificate SPIFFE ID");
    if (spiffe_id_path(*id).len == 0)
        return cs_fail(e, CS_INVALID, "leaf certificate SPIFFE ID must have a non-root path");
    if (leaf->ext.is_ca)
        return cs_fail(e, CS_INVALID, "leaf certificate must not have CA flag set to true");
    if (!(leaf->ext.key_usage & X509_KU_DIGITAL_SIGNATURE))
        return cs_fail(e, CS_INVALID, "leaf certificate must have 'digitalSignature' set as key usage");
    if (leaf->ext.key_usage & X509_KU_CERT_SIGN)
        return cs_fail(e, CS_INVALID, "leaf certificate must not have 'keyCertSign' set as key usage");
    if (leaf->ext.key_usage & X509_KU_CRL_SIGN)
        return cs_fail(e, CS_INVALID, "leaf certificate must not have 'cRLSign' set as key usage");
    return CS_OK;
}

static cs_code check_held_chain(const struct x509_chain *chain, struct spiffe_id *id, struct cs_err *e)
{
    if (chain->count == 0)
        return cs_fail(e, CS_INVALID, "no certificates found");
    CS_TRY(check_held_leaf(chain->at[0], id, e));
    for (size_t i = 1; i < chain->count; i++) {
        if (!chain->at[i]->ext.is_ca)
            return cs_fail(e, CS_INVALID, "signing certificate must have CA flag set to true");
        if (!(chain->at[i]->ext.key_usage & X509_KU_CERT_SIGN))
            return cs_fail(e, CS_INVALID, "signing certificate must have 'keyCertSign' set as key usage");
    }
    return CS_OK;
}

cs_code spiffe_x509svid_check(const struct x509_chain *chain, const struct crypto_key *key,
                              struct spiffe_id *id, struct cs_err *e)
{
    struct spiffe_id found = {0};
    struct crypto_pub *pub;
    struct cs_err why = {0};
    *id = found;
    cs_code code = check_held_chain(chain, &found, &why);
    if (code != CS_OK)
        return cs_fail(e, CS_INVALID, "x509svid: certificate validation failed: %s", why.text);
    if (key != NULL) {
        CS_TRY(x509_cert_pub(chain->at[0], &pub, e));
        if (!crypto_pub_equal(pub, crypto_key_pub(key)))
            return cs_fail(
                e, CS_INVALID,
                "x509svid: private key validation failed: leaf certificate does not match private key");
    }
    *id = found;
    return CS_OK;
}

/* --- What a server issued --- */

static cs_code check_uri(const struct x509_cert *c, const char *kind, bool optional, struct cs_slice expected,
                         struct cs_err *e)
{
    struct cs_slice uri;
    if (c->ext.san.uris == 0 && optional)
        return CS_OK;
    if (c->ext.san.uris == 0)
        return cs_fail(e, CS_INTERNAL, "invalid %s: missing URI SAN", kind);
    x509_san_get(&c->ext.san, X509_SAN_URI, 0, &uri);
    if (c->ext.san.uris == 1 && cs_slice_eq(uri, expected))
        return CS_OK;
    return cs_fail(e, CS_INTERNAL, "invalid %s: expected URI SAN \"%.*s\" but got \"%.*s\"", kind,
                   (int)(expected.len < 200 ? expected.len : 200), (const char *)expected.data,
                   (int)(uri.len < 200 ? uri.len : 200), (const char *)uri.data);
}

static cs_code check_time(const struct x509_cert *c, const char *kind, int64_t now, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf when = {0};
    if (now >= c->not_before && now <= c->not_after)
        return CS_OK;
    bool early = now < c->not_before;
    cs_time_rfc3339(&when, early ? c->not_before : c->not_after);
    return cs_fail(e, CS_INTERNAL, "invalid %s: %s %s", kind,
                   early ? "not yet valid until" : "already expired as of", cs_buf_cstr(&when));
}

cs_code spiffe_x509svid_check_issued(const struct x509_cert *svid, struct spiffe_id expected, int64_t now,
                                     struct cs_err *e)
{
    static const char kind[] = "X509-SVID";
    const uint16_t allowed = X509_KU_DIGITAL_SIGNATURE | X509_KU_KEY_ENCIPHERMENT | X509_KU_KEY_AGREEMENT;
    bool server = svid->ext.eku & X509_EKU_SERVER_AUTH, client = svid->ext.eku & X509_EKU_CLIENT_AUTH;
    const char *fault = NULL;
    if (!svid->ext.has_basic_constraints)
        fault = "basic constraints are not valid";
    else if (svid->ext.is_ca)
        fault = "cA constraint must not be set";
    else if (!(svid->ext.key_usage & X509_KU_DIGITAL_SIGNATURE))
        fault = "digitalSignature key usage must be set";
    else if (svid->ext.key_usage & ~allowed)
        fault = "only digitalSignature, keyEncipherment, and keyAgreement key usage can be set";
    else if (svid->ext.has_eku && !server && !client)
        fault = "missing both serverAuth and clientAuth extended key usage";
    else if (svid->ext.has_eku && !server)
        fault = "missing serverAuth extended key usage";
    else if (svid->ext.has_eku && !client)
        fault = "missing clientAuth extended key usage";
    if (fault != NULL)
        return cs_fail(e, CS_INTERNAL, "invalid %s: %s", kind, fault);
    CS_TRY(check_uri(svid, kind, false, expected.text, e));
    return check_time(svid, kind, now, e);
}

cs_code spiffe_x509ca_check_issued(const struct x509_cert *ca, struct cs_slice trust_domain, int64_t now,
                                   struct cs_err *e)
{
    static const char kind[] = "X509 CA";
    const uint16_t allowed = X509_KU_CERT_SIGN | X509_KU_CRL_SIGN | X509_KU_DIGITAL_SIGNATURE;
    const char *fault = NULL;
    if (!ca->ext.has_basic_constraints)
        fault = "basic constraints are not valid";
    else if (!ca->ext.is_ca)
        fault = "cA constraint is not set";
    else if (!(ca->ext.key_usage & X509_KU_CERT_SIGN))
        fault = "keyCertSign key usage must be set";
    else if (ca->ext.key_usage & ~allowed)
        fault = "only keyCertSign, cRLSign, or digitalSignature key usage can be set";
    if (fault != NULL)
        return cs_fail(e, CS_INTERNAL, "invalid %s: %s", kind, fault);
    CS_CLEANUP(cs_buf_free) struct cs_buf uri = {0};
    cs_buf_add_str(&uri, "spiffe://");
    cs_buf_add_slice(&uri, trust_domain);
    if (!cs_buf_ok(&uri))
        return cs_nomem(e);
    CS_TRY(check_uri(ca, kind, true, cs_buf_slice(&uri), e));
    return check_time(ca, kind, now, e);
}
