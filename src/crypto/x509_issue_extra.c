/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_issue_extra.h"

#include "crypto/der.h"
#include "crypto/x509_write.h"

#include <string.h>

#define EXT_POLICIES 32
#define OID_POLICIES "2.5.29.32"

static cs_code put_oid(struct cs_buf *out, const char *text, struct cs_err *e)
{
    size_t oid = der_begin(out, DER_OID);
    if (!der_oid_parse(out, text))
        return cs_fail(e, CS_INVALID, "x509: invalid OID \"%.100s\"", text);
    der_end(out, oid);
    return CS_OK;
}

/* CertificatePolicies ::= SEQUENCE OF SEQUENCE { policyIdentifier } */
static cs_code write_policies(struct cs_buf *out, const char *const *policies, size_t count, struct cs_err *e)
{
    struct x509_ext_marks ext = x509_ext_begin(out, EXT_POLICIES, false);
    size_t list = der_begin(out, DER_SEQUENCE);
    for (size_t i = 0; i < count; i++) {
        size_t info = der_begin(out, DER_SEQUENCE);
        CS_TRY(put_oid(out, policies[i], e));
        der_end(out, info);
    }
    der_end(out, list);
    x509_ext_end(out, ext);
    return CS_OK;
}

static cs_code write_extension(struct cs_buf *out, const struct x509_extra *x, struct cs_err *e)
{
    size_t ext = der_begin(out, DER_SEQUENCE);
    CS_TRY(put_oid(out, x->oid, e));
    if (x->critical)
        der_put_bool(out, true);
    der_put(out, DER_OCTET_STRING, x->value);
    der_end(out, ext);
    return CS_OK;
}

static bool has_policies(const struct x509_extra *extra, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(extra[i].oid, OID_POLICIES) == 0)
            return true;
    return false;
}

cs_code x509_extra_write(struct cs_buf *out, const char *const *policies, size_t policy_count,
                         const struct x509_extra *extra, size_t extra_count, struct cs_err *e)
{
    size_t start = out->len;
    cs_code rc = CS_OK;
    if (policy_count > 0 && !has_policies(extra, extra_count))
        rc = write_policies(out, policies, policy_count, e);
    for (size_t i = 0; rc == CS_OK && i < extra_count; i++)
        rc = write_extension(out, &extra[i], e);
    if (rc != CS_OK) {
        out->len = start;
        return rc;
    }
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
