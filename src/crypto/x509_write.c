/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_write.h"

#include "crypto/der.h"
#include "crypto/sig.h"

struct x509_ext_marks x509_ext_begin(struct cs_buf *out, uint8_t n, bool critical)
{
    const uint8_t oid[] = {DER_OID, 3, 0x55, 0x1d, n};
    struct x509_ext_marks m;
    m.ext = der_begin(out, DER_SEQUENCE);
    cs_buf_add(out, oid, sizeof oid);
    if (critical)
        der_put_bool(out, true);
    m.value = der_begin(out, DER_OCTET_STRING);
    return m;
}

void x509_ext_end(struct cs_buf *out, struct x509_ext_marks m)
{
    der_end(out, m.value);
    der_end(out, m.ext);
}

bool x509_extensions_have(struct cs_slice extensions, struct cs_slice oid)
{
    struct cs_rd list = cs_rd_of(extensions), ext;
    struct cs_slice id;
    while (cs_rd_left(&list) > 0)
        if (!der_enter(&list, DER_SEQUENCE, &ext) || !der_read(&ext, DER_OID, &id) || cs_slice_eq(id, oid))
            return true;
    return false;
}

void x509_write_san(struct cs_buf *out, const struct cs_slice *dns, size_t dns_count, struct cs_slice uri,
                    bool critical)
{
    struct x509_ext_marks ext = x509_ext_begin(out, 17, critical);
    size_t names = der_begin(out, DER_SEQUENCE);
    for (size_t i = 0; i < dns_count; i++)
        der_put(out, DER_CONTEXT(2), dns[i]);
    if (uri.len > 0)
        der_put(out, DER_CONTEXT(6), uri);
    der_end(out, names);
    x509_ext_end(out, ext);
}

static cs_code check_ascii(struct cs_slice s, struct cs_err *e)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.data[i] >= 0x80)
            return cs_fail(e, CS_INVALID, "x509: subject alternative name cannot be encoded as an IA5String");
    return CS_OK;
}

cs_code x509_check_sans(const struct cs_slice *dns, size_t dns_count, struct cs_slice uri, struct cs_err *e)
{
    for (size_t i = 0; i < dns_count; i++)
        CS_TRY(check_ascii(dns[i], e));
    return check_ascii(uri, e);
}

cs_code x509_write_signature(struct cs_buf *out, size_t start, size_t outer,
                             const struct crypto_signer *signer, struct cs_err *e)
{
    enum crypto_sig alg = crypto_sig_default(crypto_signer_type(signer));
    size_t signed_end = out->len;
    crypto_sig_to_der(out, alg);
    size_t bits = der_begin(out, DER_BIT_STRING);
    cs_buf_add_byte(out, 0);
    if (!cs_buf_ok(out))
        return cs_nomem(e);
    /* the digest is taken before anything is appended, so the view may point into out */
    cs_code code = crypto_sign(signer, alg, cs_slice_of(out->data + outer, signed_end - outer), out, e);
    if (code != CS_OK) {
        out->len = start;
        return code;
    }
    der_end(out, bits);
    der_end(out, outer);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
