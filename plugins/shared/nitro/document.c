/* SPDX-License-Identifier: Apache-2.0
 *
 * Rules beyond AWS's text: bounds on counts and sizes, P-384 for every key of the chain, no certificate
 * extension left unprocessed, no field twice, a timestamp that is recent. Unknown fields are passed over.
 */
#include "plugins/shared/nitro/document.h"

#include "base/clock.h"
#include "crypto/cbor.h"
#include "crypto/cose.h"
#include "crypto/jose.h"
#include "crypto/p384.h"

#define PAYLOAD_MAX ((size_t)16384)
#define CHAIN_MAX (NITRO_CABUNDLE_MAX + 1)

enum field {
    MODULE_ID,
    DIGEST,
    TIMESTAMP,
    PCRS,
    CERTIFICATE,
    CABUNDLE,
    PUBLIC_KEY,
    USER_DATA,
    NONCE,
    FIELDS
};
static const char *const field_names[FIELDS] = {"module_id", "digest",     "timestamp", "pcrs", "certificate",
                                                "cabundle",  "public_key", "user_data", "nonce"};
#define MANDATORY                                                                                            \
    (1u << MODULE_ID | 1u << DIGEST | 1u << TIMESTAMP | 1u << PCRS | 1u << CERTIFICATE | 1u << CABUNDLE)

/* The chain as received: the root first, the leaf last. */
struct ders {
    struct cs_slice at[CHAIN_MAX];
    size_t cas;
    struct cs_slice leaf;
};

/* --- Reading --- */

static cs_code read_pcrs(struct cs_rd *r, struct nitro_document *d, struct cs_err *e)
{
    struct cbor_map m;
    if (!cbor_map_begin(r, &m, false) || m.left == 0 || m.left > NITRO_PCR_COUNT)
        return cs_fail(e, CS_INVALID, "pcrs is not a map of 1 to %d", NITRO_PCR_COUNT);
    while (cbor_map_more(r, &m)) {
        uint64_t i;
        struct cs_slice v;
        if (!cbor_read_uint(r, &i) || i >= NITRO_PCR_COUNT)
            return cs_fail(e, CS_INVALID, "pcrs: an index is not 0 to %d", NITRO_PCR_COUNT - 1);
        if (d->pcrs[i].len > 0)
            return cs_fail(e, CS_INVALID, "pcrs: PCR%d is there twice", (int)i);
        if (!cbor_read_bytes(r, &v) || (v.len != 32 && v.len != 48 && v.len != 64))
            return cs_fail(e, CS_INVALID, "pcrs: PCR%d is not 32, 48 or 64 bytes", (int)i);
        d->pcrs[i] = v;
    }
    return CS_OK;
}

static cs_code read_certificate(struct cs_rd *r, const char *name, struct cs_slice *out, struct cs_err *e)
{
    if (!cbor_read_bytes(r, out) || out->len == 0 || out->len > NITRO_FIELD_MAX)
        return cs_fail(e, CS_INVALID, "%s is not a byte string of 1 to %d bytes", name, NITRO_FIELD_MAX);
    return CS_OK;
}

static cs_code read_cabundle(struct cs_rd *r, struct ders *c, struct cs_err *e)
{
    if (!cbor_read_array(r, &c->cas) || c->cas == 0 || c->cas > NITRO_CABUNDLE_MAX)
        return cs_fail(e, CS_INVALID, "cabundle is not an array of 1 to %d certificates", NITRO_CABUNDLE_MAX);
    for (size_t i = 0; i < c->cas; i++)
        CS_TRY(read_certificate(r, "a certificate of cabundle", &c->at[i], e));
    return CS_OK;
}

static cs_code read_optional(struct cs_rd *r, enum field f, struct cs_slice *out, struct cs_err *e)
{
    if (cbor_read_null(r))
        return CS_OK;
    if (!cbor_read_bytes(r, out) || out->len > NITRO_FIELD_MAX || (f == PUBLIC_KEY && out->len == 0))
        return cs_fail(e, CS_INVALID, "%s is neither null nor a byte string of at most %d bytes",
                       field_names[f], NITRO_FIELD_MAX);
    return CS_OK;
}

static cs_code read_field(struct cs_rd *r, enum field f, struct nitro_document *d, struct ders *c,
                          struct cs_err *e)
{
    uint64_t v;
    switch (f) {
    case MODULE_ID:
        if (!cbor_read_text(r, &d->module_id) || d->module_id.len == 0 ||
            d->module_id.len > NITRO_MODULE_ID_MAX)
            return cs_fail(e, CS_INVALID, "module_id is not a text of 1 to %d bytes", NITRO_MODULE_ID_MAX);
        return CS_OK;
    case DIGEST:
        return cbor_read_text_is(r, "SHA384") ? CS_OK : cs_fail(e, CS_INVALID, "digest is not SHA384");
    case TIMESTAMP:
        if (!cbor_read_uint(r, &v) || v == 0 || v > INT64_MAX / CS_NS_PER_MS)
            return cs_fail(e, CS_INVALID, "timestamp is not milliseconds since 1970");
        d->timestamp_ms = (int64_t)v;
        return CS_OK;
    case PCRS:
        return read_pcrs(r, d, e);
    case CERTIFICATE:
        return read_certificate(r, "certificate", &c->leaf, e);
    case CABUNDLE:
        return read_cabundle(r, c, e);
    case PUBLIC_KEY:
        return read_optional(r, f, &d->public_key, e);
    case USER_DATA:
        return read_optional(r, f, &d->user_data, e);
    default:
        return read_optional(r, NONCE, &d->nonce, e);
    }
}

static cs_code read_payload(struct cs_slice payload, struct nitro_document *d, struct ders *c,
                            struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(payload);
    struct cbor_map m;
    unsigned seen = 0;
    if (payload.len > PAYLOAD_MAX)
        return cs_fail(e, CS_INVALID, "payload is larger than %zu bytes", PAYLOAD_MAX);
    if (!cbor_map_begin(&r, &m, true))
        return cs_fail(e, CS_INVALID, "payload is not a map");
    while (cbor_map_more(&r, &m)) {
        struct cs_slice key;
        size_t f = 0;
        if (!cbor_read_text(&r, &key))
            return cs_fail(e, CS_INVALID, "payload: a key is not a text");
        while (f < FIELDS && !cs_slice_is(key, field_names[f]))
            f++;
        if (f == FIELDS) { /* of a later hypervisor, and signed by it: no reason to lock enclaves out */
            if (!cbor_skip(&r))
                return cs_fail(e, CS_INVALID, "payload: the value of an unknown field is malformed");
            continue;
        }
        if ((seen & 1u << f) != 0)
            return cs_fail(e, CS_INVALID, "payload: %s is there twice", field_names[f]);
        seen |= 1u << f;
        CS_TRY(read_field(&r, (enum field)f, d, c, e));
    }
    if (!cbor_map_ended(&m))
        return cs_fail(e, CS_INVALID, "payload: the map has no end");
    if (cs_rd_left(&r) != 0)
        return cs_fail(e, CS_INVALID, "payload: %zu bytes after its end", cs_rd_left(&r));
    for (size_t f = 0; f < FIELDS; f++)
        if ((MANDATORY & ~seen & 1u << f) != 0)
            return cs_fail(e, CS_INVALID, "payload: %s is missing", field_names[f]);
    c->at[c->cas] = c->leaf;
    return d->pcrs[0].len > 0 ? CS_OK : cs_fail(e, CS_INVALID, "pcrs: PCR0 is missing");
}

/* --- Rules --- */

bool nitro_pcr_is_zero(struct cs_slice pcr)
{
    for (size_t i = 0; i < pcr.len; i++)
        if (pcr.data[i] != 0)
            return false;
    return true;
}

static cs_code check_claims(const struct nitro_document *d, const struct nitro_policy *p, struct cs_err *e)
{
    const int64_t made = d->timestamp_ms * CS_NS_PER_MS;
    if (made > p->now_ns && made - p->now_ns > NITRO_SKEW_NS)
        return cs_fail(e, CS_DENIED, "timestamp is in the future");
    if (made < p->now_ns && p->now_ns - made > p->max_age_ns)
        return cs_fail(e, CS_DENIED, "document is older than max_age");
    if (!p->allow_debug && nitro_pcr_is_zero(d->pcrs[0]))
        return cs_fail(e, CS_DENIED, "PCR0 is zero: the enclave is in debug mode");
    return CS_OK;
}

static cs_code check_usage(const struct x509_cert *c, const char *name, bool leaf, size_t cas_below,
                           struct cs_err *e)
{
    const struct x509_extensions *x = &c->ext;
    if (leaf && (x->is_ca || x->path_len >= 0 || (x->key_usage & X509_KU_CERT_SIGN) != 0))
        return cs_fail(e, CS_DENIED, "%s: is a CA", name);
    if (leaf && (x->key_usage & X509_KU_DIGITAL_SIGNATURE) == 0)
        return cs_fail(e, CS_DENIED, "%s: key usage is not digitalSignature", name);
    if (leaf)
        return CS_OK;
    if (!x->has_basic_constraints || !x->is_ca)
        return cs_fail(e, CS_DENIED, "%s: is not a CA", name);
    if ((x->key_usage & X509_KU_CERT_SIGN) == 0)
        return cs_fail(e, CS_DENIED, "%s: key usage is not keyCertSign", name);
    if (x->path_len >= 0 && (size_t)x->path_len < cas_below)
        return cs_fail(e, CS_DENIED, "%s: path length is exceeded", name);
    return CS_OK;
}

/* RFC 5480: an uncompressed point on P-384. Looked at without decoding it, which only a signature needs. */
static bool key_is_p384(const struct x509_cert *c)
{
    static const uint8_t head[] = {0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02,
                                   0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04};
    return c->spki.len == sizeof head + 96 && memcmp(c->spki.data, head, sizeof head) == 0;
}

bool nitro_root_fits(const struct x509_cert *c)
{
    return c->ext.has_basic_constraints && c->ext.is_ca && key_is_p384(c);
}

static cs_code check_certificate(const struct x509_cert *c, const char *name, int64_t now_s, struct cs_err *e)
{
    if (now_s < c->not_before || now_s > c->not_after)
        return cs_fail(e, CS_DENIED, "%s: has expired or is not yet valid", name);
    if (c->ext.unknown_critical || c->ext.has_name_constraints || c->ext.explicit_policy >= 0)
        return cs_fail(e, CS_DENIED, "%s: has an extension that is not processed", name);
    if (c->sig_alg != CRYPTO_ECDSA_SHA384)
        return cs_fail(e, CS_DENIED, "%s: is not signed with ecdsa-with-SHA384", name);
    if (!key_is_p384(c))
        return cs_fail(e, CS_DENIED, "%s: the key is not on P-384", name);
    return CS_OK;
}

static const char *cert_name(char out[32], size_t i, size_t cas)
{
    struct cs_buf b = cs_buf_on(out, 32);
    if (i == cas)
        return "certificate";
    cs_buf_printf(&b, "cabundle[%zu]", i);
    return cs_buf_cstr(&b);
}

/* ecdsa-with-SHA384 by a P-384 key, which check_certificate made sure of. */
static cs_code verify_signature(const struct x509_cert *c, const struct x509_cert *issuer, struct cs_err *e)
{
    uint8_t digest[P384_BYTES], raw[2 * P384_BYTES];
    struct crypto_pub *key;
    CS_TRY(x509_cert_pub(issuer, &key, e));
    CS_TRY(jose_ecdsa_raw(c->sig, P384_BYTES, raw, e));
    CS_TRY(crypto_digest(CRYPTO_SHA384, c->tbs, digest, e));
    return p384_verify(key, cs_slice_of(digest, sizeof digest), cs_slice_of(raw, sizeof raw), e);
}

/* The signature alone; that it is right stays so, while everything else is looked at each time. */
static cs_code check_signature(const struct x509_cert *c, const struct x509_cert *issuer,
                               const struct nitro_policy *p, struct cs_err *e)
{
    struct nitro_digest link;
    uint8_t both[64];
    if (p->chains == NULL)
        return verify_signature(c, issuer, e);
    memcpy(both, c->sha256, 32);
    memcpy(both + 32, issuer->sha256, 32);
    CS_TRY(crypto_digest(CRYPTO_SHA256, cs_slice_of(both, sizeof both), link.sha256, e));
    if (nitro_memory_has(p->chains, &link, 0))
        return CS_OK;
    CS_TRY(verify_signature(c, issuer, e));
    (void)nitro_memory_claim(p->chains, &link, &link, 0, INT64_MAX);
    return CS_OK;
}

/* The time at which certificates are judged, in seconds: ours, or the document's when that is later, which
 * check_claims bounds. Hypervisors sign with certificates that are a few seconds old. */
static int64_t chain_time(const struct nitro_document *d, const struct nitro_policy *p)
{
    const int64_t made = d->timestamp_ms * CS_NS_PER_MS;
    return (made > p->now_ns ? made : p->now_ns) / CS_NS_PER_S;
}

static cs_code check_chain(const struct ders *c, const struct nitro_policy *p, int64_t now_s,
                           struct x509_chain *chain, struct cs_err *e)
{
    char text[32];
    bool pinned = false;
    for (size_t i = 0; i < p->root_count; i++)
        pinned = pinned || cs_slice_eq(p->roots[i]->der, c->at[0]);
    if (!pinned)
        return cs_fail(e, CS_DENIED, "cabundle[0] is not a root that is trusted here");
    for (size_t i = 0; i <= c->cas; i++) {
        const char *name = cert_name(text, i, c->cas);
        CS_AUTO(x509_cert) cert = NULL;
        if (x509_cert_parse(c->at[i], &cert, e) != CS_OK)
            return cs_wrap(e, "%s", name);
        CS_TRY(x509_chain_add(chain, cert, e));
        CS_TRY(check_certificate(cert, name, now_s, e));
        CS_TRY(check_usage(cert, name, i == c->cas, i < c->cas ? c->cas - 1 - i : 0, e));
        if (i > 0 && !cs_slice_eq(cert->issuer, chain->at[i - 1]->subject))
            return cs_fail(e, CS_DENIED, "%s: was not issued by the one before it", name);
    }
    for (size_t i = 1; i <= c->cas; i++)
        if (check_signature(chain->at[i], chain->at[i - 1], p, e) != CS_OK)
            return cs_wrap(e, "%s", cert_name(text, i, c->cas));
    return CS_OK;
}

static cs_code verify(struct cs_slice in, const struct nitro_policy *policy, struct nitro_document *d,
                      struct cs_err *e)
{
    struct cose_sign1 m;
    struct ders ders = {0};
    struct crypto_pub *key;
    if (in.len > NITRO_DOCUMENT_MAX)
        return cs_fail(e, CS_INVALID, "document is larger than %zu bytes", NITRO_DOCUMENT_MAX);
    CS_TRY(cose_sign1_parse(in, &m, e));
    d->payload = m.payload;
    CS_TRY(read_payload(m.payload, d, &ders, e));
    CS_TRY(check_claims(d, policy, e));
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_TRY(check_chain(&ders, policy, chain_time(d, policy), &chain, e));
    CS_TRY(x509_cert_pub(chain.at[ders.cas], &key, e));
    return cose_sign1_verify(&m, key, e);
}

cs_code nitro_document_verify(struct cs_slice in, const struct nitro_policy *policy,
                              struct nitro_document *out, struct cs_err *e)
{
    struct cs_err local = {0}; /* cs_wrap needs one to keep the code */
    *out = (struct nitro_document){0};
    cs_code code = verify(in, policy, out, &local);
    if (code == CS_OK)
        return CS_OK;
    *out = (struct nitro_document){0};
    return cs_fail(e, code, "%s", local.text);
}

bool nitro_module_id_split(struct cs_slice module_id, struct cs_slice *instance, struct cs_slice *enclave)
{
    const uint8_t *dash = memmem(module_id.data, module_id.len, "-enc", 4);
    if (dash == NULL || module_id.len < 2 || memcmp(module_id.data, "i-", 2) != 0)
        return false;
    const size_t at = (size_t)(dash - module_id.data);
    *instance = cs_slice_of(module_id.data, at);
    *enclave = cs_slice_of(dash + 1, module_id.len - at - 1);
    return instance->len > 2 && enclave->len > 3;
}
