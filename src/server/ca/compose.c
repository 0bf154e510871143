/* SPDX-License-Identifier: Apache-2.0
 *
 * What may be changed, and what is made of it, follows SPIRE's pkg/server/credtemplate/builder.go.
 */
#include "server/ca/compose.h"

#include "base/text.h"
#include "crypto/der.h"
#include "crypto/x509_issue_extra.h"

/* --- To the plugins' form --- */

static struct credentialcomposer_texts texts_of(struct x509_values v)
{
    return (struct credentialcomposer_texts){v.at, v.count};
}

static const char *text_of(const char *s)
{
    return s != NULL ? s : "";
}

static cs_code name_of(struct cs_arena *a, struct cs_slice der, struct credentialcomposer_name *out,
                       struct cs_err *e)
{
    struct x509_name n;
    CS_TRY(x509_name_parse(a, der, &n, e));
    *out = (struct credentialcomposer_name){
        .country = texts_of(n.country),
        .organization = texts_of(n.organization),
        .organizational_unit = texts_of(n.organizational_unit),
        .locality = texts_of(n.locality),
        .province = texts_of(n.province),
        .street = texts_of(n.street),
        .postal_code = texts_of(n.postal_code),
        .serial_number = text_of(n.serial_number),
        .common_name = text_of(n.common_name),
    };
    return CS_OK;
}

/* --- From the plugins' form --- */

static cs_code refuse(struct cs_err *e, const char *text)
{
    return cs_fail(e, CS_INTERNAL, "%s", text);
}

static cs_code check_texts(struct credentialcomposer_texts t, struct cs_err *e)
{
    for (size_t i = 0; i < t.count; i++)
        if (!cs_utf8_valid(cs_slice_str(t.at[i])))
            return refuse(e, "asn1: string not valid UTF-8");
    return CS_OK;
}

static cs_code check_name(const struct credentialcomposer_name *n, struct cs_err *e)
{
    const char *const single[] = {n->serial_number, n->common_name};
    const struct credentialcomposer_texts all[] = {
        n->country,  n->organization, n->organizational_unit, n->locality,
        n->province, n->street,       n->postal_code,         {single, 2},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        CS_TRY(check_texts(all[i], e));
    for (size_t i = 0; i < n->extra_count; i++)
        CS_TRY(check_texts((struct credentialcomposer_texts){&n->extra[i].value, 1}, e));
    return CS_OK;
}

static cs_code extra_names(struct cs_arena *a, const struct credentialcomposer_name *n, struct cs_buf *oids,
                           struct x509_name_attribute **out, struct cs_err *e)
{
    struct x509_name_attribute *list = cs_arena_zalloc(a, (n->extra_count + 1) * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n->extra_count; i++) {
        size_t start = oids->len;
        if (!der_oid_parse(oids, n->extra[i].oid))
            return cs_fail(e, CS_INTERNAL, "asn1: structure error: invalid object identifier \"%.100s\"",
                           n->extra[i].oid);
        if (!cs_buf_ok(oids))
            return cs_nomem(e);
        const void *oid = cs_arena_memdup(a, oids->data + start, oids->len - start);
        if (oid == NULL)
            return cs_nomem(e);
        list[i] = (struct x509_name_attribute){cs_slice_of(oid, oids->len - start), n->extra[i].value};
    }
    *out = list;
    return CS_OK;
}

static struct x509_values values_of(struct credentialcomposer_texts t)
{
    return (struct x509_values){t.at, t.count};
}

static cs_code keep(struct cs_arena *a, const struct cs_buf *der, struct cs_slice *out, struct cs_err *e)
{
    if (!cs_buf_ok(der))
        return cs_nomem(e);
    const void *copy = der->len > 0 ? cs_arena_memdup(a, der->data, der->len) : "";
    if (copy == NULL)
        return cs_nomem(e);
    *out = cs_slice_of(copy, der->len);
    return CS_OK;
}

static cs_code subject_of(struct cs_arena *a, const struct credentialcomposer_name *n, struct cs_slice *out,
                          struct cs_err *e)
{
    CS_TRY(check_name(n, e));
    struct x509_name_attribute *extra = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf oids = {0};
    CS_TRY(extra_names(a, n, &oids, &extra, e));
    const struct x509_name name = {
        .country = values_of(n->country),
        .organization = values_of(n->organization),
        .organizational_unit = values_of(n->organizational_unit),
        .locality = values_of(n->locality),
        .province = values_of(n->province),
        .street = values_of(n->street),
        .postal_code = values_of(n->postal_code),
        .serial_number = n->serial_number,
        .common_name = n->common_name,
        .extra = extra,
        .extra_count = n->extra_count,
    };
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    x509_name_write(&der, &name);
    return keep(a, &der, out, e);
}

static cs_code extensions_of(struct cs_arena *a, const struct credentialcomposer_x509 *x, bool policies,
                             struct cs_slice *out, struct cs_err *e)
{
    struct x509_extra *list = cs_arena_alloc(a, (x->extension_count + 1) * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < x->extension_count; i++)
        list[i] =
            (struct x509_extra){x->extensions[i].oid, x->extensions[i].value, x->extensions[i].critical};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_TRY(x509_extra_write(&der, x->policy_identifiers.at, policies ? x->policy_identifiers.count : 0, list,
                            x->extension_count, e));
    return keep(a, &der, out, e);
}

/* --- Asking --- */

static cs_code ask(const struct catalog_plugin *p, enum ca_subject_kind kind, struct cs_arena *a,
                   const char *spiffe_id, struct cs_slice spki, struct credentialcomposer_x509 *x,
                   struct cs_err *e)
{
    const struct credentialcomposer_ops *ops = p->ops;
    switch (kind) {
    case CA_OF_SERVER:
        return ops->server_x509_ca(p->self, a, x, e);
    case CA_SVID_OF_SERVER:
        return ops->server_x509_svid(p->self, a, x, e);
    case CA_SVID_OF_AGENT:
        return ops->agent_x509_svid(p->self, a, spiffe_id, spki, x, e);
    case CA_SVID_OF_WORKLOAD:
        return ops->workload_x509_svid(p->self, a, spiffe_id, spki, x, e);
    }
    return CS_UNIMPLEMENTED;
}

cs_code ca_compose_x509(const struct ca_composers *c, enum ca_subject_kind kind, struct cs_arena *a,
                        const char *spiffe_id, struct cs_slice spki, struct ca_attributes *attributes,
                        struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    struct credentialcomposer_x509 x = {.dns_sans = {attributes->dns_names, attributes->dns_name_count}};
    CS_TRY(name_of(a, attributes->subject, &x.subject, e));
    for (size_t i = 0; i < c->count; i++) {
        cs_code rc = ask(c->at[i], kind, a, spiffe_id, spki, &x, e);
        if (rc != CS_UNIMPLEMENTED)
            CS_TRY(plugin_answer(c->at[i]->type, c->at[i]->name, rc, e));
    }
    CS_TRY(subject_of(a, &x.subject, &attributes->subject, e));
    attributes->dns_names = x.dns_sans.at;
    attributes->dns_name_count = kind == CA_OF_SERVER ? 0 : x.dns_sans.count;
    bool policies = kind == CA_OF_SERVER && !attributes->request;
    return extensions_of(a, &x, policies, &attributes->extra, e);
}

cs_code ca_compose_jwt(const struct ca_composers *c, struct cs_arena *a, const char *spiffe_id,
                       struct cs_slice *claims, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    for (size_t i = 0; i < c->count; i++) {
        const struct catalog_plugin *p = c->at[i];
        const struct credentialcomposer_ops *ops = p->ops;
        cs_code rc = ops->workload_jwt_svid(p->self, a, spiffe_id, claims, e);
        if (rc != CS_UNIMPLEMENTED)
            CS_TRY(plugin_answer(p->type, p->name, rc, e));
    }
    return CS_OK;
}
