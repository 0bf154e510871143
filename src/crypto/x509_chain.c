/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists of certificates.
 */
#include "crypto/der.h"
#include "crypto/pem.h"
#include "crypto/x509_cert.h"

void x509_chain_free(struct x509_chain *c)
{
    for (size_t i = 0; i < c->count; i++)
        x509_cert_unref(c->at[i]);
    cs_free(c->at);
    *c = (struct x509_chain){0};
}

/* Takes cert over; not on failure. */
static cs_code chain_take(struct x509_chain *c, struct x509_cert *cert, struct cs_err *e)
{
    /* capacity is the power of two at or above count: grow when count is one */
    if ((c->count & (c->count - 1)) == 0) {
        size_t cap = c->count == 0 ? 1 : c->count * 2;
        struct x509_cert **grown = cs_realloc(c->at, cap * sizeof(struct x509_cert *));
        if (grown == NULL)
            return cs_nomem(e);
        c->at = grown;
    }
    c->at[c->count++] = cert;
    return CS_OK;
}

cs_code x509_chain_add(struct x509_chain *c, const struct x509_cert *cert, struct cs_err *e)
{
    CS_AUTO(x509_cert) ref = x509_cert_ref(cert);
    CS_TRY(chain_take(c, ref, e));
    ref = NULL;
    return CS_OK;
}

cs_code x509_chain_copy(const struct x509_chain *from, struct x509_chain *to, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain c = {0};
    *to = c;
    for (size_t i = 0; i < from->count; i++)
        CS_TRY(x509_chain_add(&c, from->at[i], e));
    *to = c;
    c = (struct x509_chain){0};
    return CS_OK;
}

static cs_code parse_add(struct x509_chain *c, struct cs_slice der, struct cs_err *e)
{
    CS_AUTO(x509_cert) cert = NULL;
    CS_TRY(x509_cert_parse(der, &cert, e));
    CS_TRY(chain_take(c, cert, e));
    cert = NULL;
    return CS_OK;
}

cs_code x509_chain_parse_der(struct cs_slice der, size_t max, struct x509_chain *out, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain c = {0};
    *out = c;
    struct cs_rd r = cs_rd_of(der);
    if (der.len == 0)
        return cs_fail(e, CS_INVALID, "no certificates");
    while (cs_rd_left(&r) > 0) {
        struct cs_slice one;
        if (c.count == max)
            return cs_fail(e, CS_INVALID, "more than %zu certificates", max);
        if (!der_read_whole(&r, DER_SEQUENCE, &one))
            return cs_fail(e, CS_INVALID, "x509: malformed certificate");
        CS_TRY(parse_add(&c, one, e));
    }
    *out = c;
    c = (struct x509_chain){0};
    return CS_OK;
}

cs_code x509_chain_parse_list(const struct cs_slice *ders, size_t count, struct x509_chain *out,
                              struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain c = {0};
    *out = c;
    for (size_t i = 0; i < count; i++)
        CS_TRY(parse_add(&c, ders[i], e));
    *out = c;
    c = (struct x509_chain){0};
    return CS_OK;
}

cs_code x509_chain_parse_pem(struct cs_slice pem, size_t max, struct x509_chain *out, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain c = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf scratch = {0};
    *out = c;
    struct cs_rd text = cs_rd_of(pem);
    struct pem_block block;
    while (pem_next(&text, &scratch, &block)) {
        if (!cs_slice_is(block.type, PEM_CERTIFICATE))
            return cs_fail(e, CS_INVALID, "expected block type \"CERTIFICATE\"; got \"%.*s\"",
                           (int)(block.type.len < 64 ? block.type.len : 64), (const char *)block.type.data);
        if (c.count == max)
            return cs_fail(e, CS_INVALID, "more than %zu certificates", max);
        cs_code code = parse_add(&c, block.der, e);
        if (code == CS_INVALID)
            (void)cs_wrap(e, "unable to parse \"CERTIFICATE\" PEM block %zu", c.count + 1);
        CS_TRY(code);
    }
    if (!cs_buf_ok(&scratch))
        return cs_nomem(e);
    if (c.count == 0)
        return cs_fail(e, CS_INVALID, "no PEM blocks");
    *out = c;
    c = (struct x509_chain){0};
    return CS_OK;
}

void x509_chain_write_pem(struct cs_buf *out, const struct x509_chain *c)
{
    for (size_t i = 0; i < c->count; i++)
        pem_write(out, PEM_CERTIFICATE, c->at[i]->der);
}

void x509_chain_write_der(struct cs_buf *out, const struct x509_chain *c)
{
    for (size_t i = 0; i < c->count; i++)
        cs_buf_add_slice(out, c->at[i]->der);
}

bool x509_chain_equal(const struct x509_chain *a, const struct x509_chain *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!x509_cert_equal(a->at[i], b->at[i]))
            return false;
    return true;
}
