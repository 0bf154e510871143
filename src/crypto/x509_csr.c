/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_csr.h"

#include "crypto/der.h"
#include "crypto/sig.h"
#include "crypto/x509_write.h"

static const uint8_t oid_extension_request[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e};

/* Go's asn1 package tells broken lengths from wrong types. */
static cs_code mismatch(const struct cs_rd *at, struct cs_err *e)
{
    struct cs_rd probe = *at;
    if (!der_next(&probe, NULL, NULL, NULL))
        return cs_fail(e, CS_INVALID, "asn1: syntax error: %s",
                       cs_rd_left(at) == 0   ? "sequence truncated"
                       : cs_rd_left(at) == 1 ? "truncated tag or length"
                                             : "data truncated");
    return cs_fail(e, CS_INVALID, "asn1: structure error: tags don't match");
}

/* The text that people meet when they send something else than a request: Go's, for the outermost element. */
static cs_code not_a_request(struct cs_slice der, struct cs_err *e)
{
    static const char *const yes_no[] = {"false", "true"};
    struct cs_rd r = cs_rd_of(der);
    if (der.len < 2 || der.data[0] == DER_SEQUENCE || (der.data[0] & 0x1f) == 0x1f || der.data[1] >= 0x80)
        return mismatch(&r, e);
    return cs_fail(
        e, CS_INVALID,
        "asn1: structure error: tags don't match (16 vs {class:%d tag:%d length:%d isCompound:%s}) "
        "{optional:false explicit:false application:false private:false defaultValue:<nil> tag:<nil> "
        "stringType:0 timeType:0 set:false omitEmpty:false} certificateRequest @2",
        der.data[0] >> 6, der.data[0] & 0x1f, der.data[1], yes_no[der.data[0] >> 5 & 1]);
}

/* Attribute ::= SEQUENCE { type OID, values SET OF ANY }. Only the first extensionRequest counts; as in Go a
 * second one is refused, and other attributes are read over. */
static cs_code read_attributes(struct cs_rd attrs, struct x509_csr *csr, struct cs_err *e)
{
    bool seen = false;
    while (cs_rd_left(&attrs) > 0) {
        struct cs_rd attr, values, list;
        struct cs_slice oid;
        if (!der_enter(&attrs, DER_SEQUENCE, &attr))
            return mismatch(&attrs, e);
        if (!der_read(&attr, DER_OID, &oid) || !der_oid_valid(oid))
            return mismatch(&attr, e);
        if (!cs_slice_eq(oid, cs_slice_of(oid_extension_request, sizeof oid_extension_request)))
            continue;
        if (seen)
            return cs_fail(e, CS_INVALID,
                           "x509: certificate request contains duplicate requested extensions");
        seen = true;
        if (!der_enter(&attr, DER_SET, &values) || cs_rd_left(&attr) != 0)
            return mismatch(&attr, e);
        if (!der_enter(&values, DER_SEQUENCE, &list) || cs_rd_left(&values) != 0)
            return mismatch(&values, e);
        csr->extensions = cs_slice_of(list.p, cs_rd_left(&list));
        CS_TRY(x509_extensions_parse(csr->extensions, &csr->ext, e));
    }
    return CS_OK;
}

/* CertificationRequestInfo ::= SEQUENCE { version, subject, subjectPKInfo, attributes [0] } */
static cs_code read_info(struct x509_csr *csr, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(csr->info), info, attrs;
    uint32_t version;
    if (!der_enter(&r, DER_SEQUENCE, &info))
        return mismatch(&r, e);
    if (!der_read_small(&info, &version))
        return mismatch(&info, e);
    if (!der_read_whole(&info, DER_SEQUENCE, &csr->subject))
        return mismatch(&info, e);
    if (!x509_name_sound(csr->subject))
        return cs_fail(e, CS_INVALID, "asn1: structure error: tags don't match");
    if (!der_read_whole(&info, DER_SEQUENCE, &csr->spki))
        return mismatch(&info, e);
    if (cs_rd_left(&info) == 0)
        return CS_OK; /* some writers leave the empty attributes out */
    if (!der_enter(&info, DER_CONTEXT_CONS(0), &attrs))
        return mismatch(&info, e);
    CS_TRY(read_attributes(attrs, csr, e));
    return cs_rd_left(&info) == 0 ? CS_OK : mismatch(&info, e);
}

static cs_code read_csr(struct cs_slice der, struct x509_csr *csr, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(der), req;
    struct cs_slice algorithm;
    csr->ext.path_len = -1;
    if (!der_enter(&r, DER_SEQUENCE, &req))
        return not_a_request(der, e);
    if (cs_rd_left(&r) != 0)
        return cs_fail(e, CS_INVALID, "asn1: syntax error: trailing data");
    if (!der_read_whole(&req, DER_SEQUENCE, &csr->info))
        return mismatch(&req, e);
    CS_TRY(read_info(csr, e));
    if (!der_read(&req, DER_SEQUENCE, &algorithm))
        return mismatch(&req, e);
    if (!der_read_octet_bits(&req, &csr->sig))
        return mismatch(&req, e);
    if (cs_rd_left(&req) != 0)
        return cs_fail(e, CS_INVALID, "asn1: syntax error: trailing data");
    csr->sig_alg = crypto_sig_from_der(algorithm);
    return CS_OK;
}

cs_code x509_csr_parse(struct cs_slice der, struct x509_csr *out, struct cs_err *e)
{
    *out = (struct x509_csr){0};
    if (der.len > X509_CSR_MAX)
        return cs_fail(e, CS_INVALID, "certificate request is longer than %d bytes", X509_CSR_MAX);
    struct x509_csr csr = {0};
    CS_TRY(read_csr(der, &csr, e));
    *out = csr;
    return CS_OK;
}

cs_code x509_csr_pub(const struct x509_csr *csr, struct crypto_pub **out, struct cs_err *e)
{
    return crypto_pub_parse(csr->spki, out, e);
}

static const char *verify_failure(enum crypto_sig s)
{
    if (crypto_sig_is_ecdsa(s))
        return "x509: ECDSA verification failure";
    return s == CRYPTO_SIG_ED25519 ? "x509: Ed25519 verification failure" : "crypto/rsa: verification error";
}

cs_code x509_csr_verify(const struct x509_csr *csr, struct cs_err *e)
{
    CS_AUTO(crypto_pub) pub = NULL;
    if (csr->sig_alg == CRYPTO_SIG_NONE)
        return cs_fail(e, CS_INVALID, "x509: cannot verify signature: algorithm unimplemented");
    CS_TRY(crypto_pub_parse(csr->spki, &pub, e));
    if (!crypto_sig_fits(csr->sig_alg, crypto_pub_type(pub)))
        return cs_fail(e, CS_INVALID, "x509: signature algorithm does not fit a public key of type %s",
                       crypto_key_type_name(crypto_pub_type(pub)));
    cs_code code = crypto_verify(pub, csr->sig_alg, csr->info, csr->sig, e);
    return code == CS_DENIED ? cs_fail(e, CS_INVALID, "%s", verify_failure(csr->sig_alg)) : code;
}

cs_code x509_csr_write(const struct x509_csr_params *p, const struct crypto_signer *signer,
                       struct cs_buf *out, struct cs_err *e)
{
    static const uint8_t oid_san[] = {0x55, 0x1d, 17};
    struct x509_extensions ignored;
    CS_TRY(x509_check_sans(p->dns, p->dns_count, p->uri, e));
    CS_TRY(x509_extensions_parse(p->extra, &ignored, e));
    bool names = (p->uri.len > 0 || p->dns_count > 0) &&
                 !x509_extensions_have(p->extra, cs_slice_of(oid_san, sizeof oid_san));
    static const uint8_t empty_name[] = {DER_SEQUENCE, 0};
    size_t start = out->len, req = der_begin(out, DER_SEQUENCE);
    size_t info = der_begin(out, DER_SEQUENCE);
    der_put_small(out, 0);
    cs_buf_add_slice(out, p->subject.len ? p->subject : cs_slice_of(empty_name, sizeof empty_name));
    cs_buf_add_slice(out, crypto_pub_spki(crypto_signer_pub(signer)));
    size_t attrs = der_begin(out, DER_CONTEXT_CONS(0));
    if (names || p->extra.len > 0) {
        size_t attr = der_begin(out, DER_SEQUENCE);
        der_put(out, DER_OID, cs_slice_of(oid_extension_request, sizeof oid_extension_request));
        size_t set = der_begin(out, DER_SET), list = der_begin(out, DER_SEQUENCE);
        if (names)
            x509_write_san(out, p->dns, p->dns_count, p->uri, false);
        cs_buf_add_slice(out, p->extra);
        der_end(out, list);
        der_end(out, set);
        der_end(out, attr);
    }
    der_end(out, attrs);
    der_end(out, info);
    return x509_write_signature(out, start, req, signer, e);
}
