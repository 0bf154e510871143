/* SPDX-License-Identifier: Apache-2.0
 *
 * CA certificates: our own, of downstream servers, and the request for one that an UpstreamAuthority signs.
 */
#include "crypto/x509_csr.h"
#include "server/ca/ca.h"
#include "server/ca/internal.h"
#include "spiffe/x509svid.h"

/* The issuer's subject with the depth as organizational unit. */
static cs_code downstream_subject(const struct ca_x509_authority *auth, struct cs_arena *a,
                                  struct cs_slice *out, struct cs_err *e)
{
    struct x509_name name;
    CS_TRY(x509_name_parse(a, ca_x509_authority_cert(auth)->subject, &name, e));
    size_t depth = auth->upstream_chain.count > 0 ? auth->upstream_chain.count : 1;
    const char *unit = cs_arena_printf(a, "DOWNSTREAM-%zu", depth);
    if (unit == NULL)
        return cs_nomem(e);
    name.organizational_unit = (struct x509_values){.at = &unit, .count = 1};
    return ca_name_to_arena(a, &name, out, e);
}

static cs_code compose(const struct ca *ca, struct cs_arena *a, struct ca_attributes *attributes,
                       struct cs_err *e)
{
    if (ca->composers.count == 0)
        return CS_OK;
    return ca_compose_x509(&ca->composers, CA_OF_SERVER, a, NULL, (struct cs_slice){0}, attributes, e);
}

/* Composers may have written over anything. The text is SPIRE's for all CA certificates. */
static cs_code check_composed(const struct ca *ca, struct cs_slice der, struct cs_err *e)
{
    if (ca->composers.count == 0)
        return CS_OK;
    CS_AUTO(x509_cert) cert = NULL;
    cs_code rc = x509_cert_parse(der, &cert, e);
    if (rc == CS_OK)
        rc = spiffe_x509ca_check_issued(cert, cs_slice_str(ca->trust_domain), cs_now_s(ca->clock), e);
    if (rc == CS_OK)
        return CS_OK;
    (void)cs_wrap(e, "invalid downstream X509 CA");
    return ca_internal(e);
}

static cs_code issue_downstream(struct ca *ca, const struct ca_x509_authority *auth, struct cs_arena *a,
                                struct cs_slice spki, int64_t ttl_s, struct ca_x509 *out, struct cs_err *e)
{
    int64_t now = cs_now_s(ca->clock);
    struct ca_attributes attributes = {0};
    CS_TRY(downstream_subject(auth, a, &attributes.subject, e));
    CS_TRY(compose(ca, a, &attributes, e));
    const struct x509_issue_params params = {
        .spki = spki,
        .subject = attributes.subject,
        .extra = attributes.extra,
        .uri = cs_slice_str(ca->td_id),
        .not_before = now - CA_BACKDATE_S,
        .not_after = ca_capped(now, ttl_s > 0 ? ttl_s : ca->x509_ca_ttl, auth->not_after),
    };
    CS_TRY(ca_check_lifetime("downstream X509 CA", "X509 CA", now, params.not_after, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf leaf = {0};
    struct x509_serial serial;
    if (x509_issue_ca(auth->issuer, &params, &leaf, &serial, e) != CS_OK) {
        (void)cs_wrap(e, "unable to create downstream X509 CA");
        return ca_internal(e);
    }
    CS_TRY(check_composed(ca, cs_buf_slice(&leaf), e));
    out->not_before = params.not_before;
    out->not_after = params.not_after;
    return ca_fill_result(auth, a, cs_buf_slice(&leaf), &serial, out, e);
}

cs_code ca_sign_downstream(struct ca *ca, struct cs_arena *a, struct cs_slice spki, int64_t ttl_s,
                           struct ca_x509 *out, struct cs_err *e)
{
    *out = (struct ca_x509){0};
    CS_AUTO(ca_x509_authority) auth = NULL;
    CS_TRY(ca_take_x509(ca, &auth, e));
    cs_code rc = issue_downstream(ca, auth, a, spki, ttl_s, out, e);
    if (rc != CS_OK)
        *out = (struct ca_x509){0};
    return rc;
}

/* The configured subject, with a serial number of its own kind unless one is configured, and what composers
 * make of it. */
static cs_code own_attributes(const struct ca *ca, struct cs_arena *a, const struct x509_serial *serial,
                              struct ca_attributes *out, struct cs_err *e)
{
    struct x509_name name = ca->ca_subject;
    CS_CLEANUP(cs_buf_free) struct cs_buf dec = {0};
    x509_serial_dec(&dec, serial);
    if (name.serial_number == NULL || name.serial_number[0] == '\0')
        name.serial_number = cs_buf_cstr(&dec);
    if (!cs_buf_ok(&dec))
        return cs_nomem(e);
    CS_TRY(ca_name_to_arena(a, &name, &out->subject, e));
    return compose(ca, a, out, e);
}

cs_code ca_self_sign(struct ca *ca, struct crypto_signer *signer, struct cs_buf *out, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct x509_serial serial;
    struct ca_attributes attributes = {0};
    CS_TRY(x509_serial_new(&serial, e));
    CS_TRY(own_attributes(ca, a, &serial, &attributes, e));
    int64_t now = cs_now_s(ca->clock);
    const struct x509_issue_params params = {
        .subject = attributes.subject,
        .extra = attributes.extra,
        .uri = cs_slice_str(ca->td_id),
        .not_before = now - CA_BACKDATE_S,
        .not_after = ca_capped(now, ca->x509_ca_ttl, 0),
        .serial = &serial,
    };
    size_t start = out->len;
    CS_TRY(x509_issue_self_signed(signer, &params, out, e));
    return check_composed(ca, cs_slice_of(out->data + start, out->len - start), e);
}

cs_code ca_request(struct ca *ca, struct crypto_signer *signer, struct cs_buf *out, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct x509_serial serial;
    struct ca_attributes attributes = {.request = true};
    CS_TRY(x509_serial_new(&serial, e));
    CS_TRY(own_attributes(ca, a, &serial, &attributes, e));
    const struct x509_csr_params params = {
        .subject = attributes.subject,
        .extra = attributes.extra,
        .uri = cs_slice_str(ca->td_id),
    };
    return x509_csr_write(&params, signer, out, e);
}
