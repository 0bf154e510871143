/* SPDX-License-Identifier: Apache-2.0
 *
 * CredentialComposer over gRPC.
 */
#include "plugin/credentialcomposer.h"

#include "crypto/der.h"
#include "plugin/bridge/bridge.h"
#include "proto/json.h"

#include "sdk_server_credentialcomposer.pb-c.h"

#define SERVICE "spire.plugin.server.credentialcomposer.v1.CredentialComposer"

typedef Credentialcomposerv1__DistinguishedName name_message;
typedef Credentialcomposerv1__AttributeTypeAndValue pair_message;
typedef Credentialcomposerv1__X509Extension extension_message;
typedef Credentialcomposerv1__X509CAAttributes ca_message;
typedef Credentialcomposerv1__X509SVIDAttributes svid_message;

/* --- To the plugin --- */

static void put_texts(const struct credentialcomposer_texts *in, char ***at, size_t *count)
{
    *at = (char **)in->at;
    *count = in->count;
}

static cs_code put_extra_names(struct cs_arena *a, const struct credentialcomposer_name *in,
                               name_message *out, struct cs_err *e)
{
    size_t n = in->extra_count;
    pair_message *pairs = cs_arena_alloc(a, (n + 1) * sizeof *pairs);
    out->extra_names = cs_arena_alloc(a, (n + 1) * sizeof *out->extra_names);
    if (pairs == NULL || out->extra_names == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        credentialcomposerv1__attribute_type_and_value__init(&pairs[i]);
        pairs[i].oid = (char *)in->extra[i].oid;
        pairs[i].string_value = (char *)in->extra[i].value;
        out->extra_names[i] = &pairs[i];
    }
    out->n_extra_names = n;
    return CS_OK;
}

static cs_code put_name(struct cs_arena *a, const struct credentialcomposer_name *in, name_message **out,
                        struct cs_err *e)
{
    name_message *m = cs_arena_alloc(a, sizeof *m);
    if (m == NULL)
        return cs_nomem(e);
    credentialcomposerv1__distinguished_name__init(m);
    put_texts(&in->country, &m->country, &m->n_country);
    put_texts(&in->organization, &m->organization, &m->n_organization);
    put_texts(&in->organizational_unit, &m->organizational_unit, &m->n_organizational_unit);
    put_texts(&in->locality, &m->locality, &m->n_locality);
    put_texts(&in->province, &m->province, &m->n_province);
    put_texts(&in->street, &m->street_address, &m->n_street_address);
    put_texts(&in->postal_code, &m->postal_code, &m->n_postal_code);
    m->serial_number = (char *)in->serial_number;
    m->common_name = (char *)in->common_name;
    CS_TRY(put_extra_names(a, in, m, e));
    *out = m;
    return CS_OK;
}

static cs_code put_extensions(struct cs_arena *a, const struct credentialcomposer_x509 *in,
                              extension_message ***out, size_t *count, struct cs_err *e)
{
    size_t n = in->extension_count;
    extension_message *all = cs_arena_alloc(a, (n + 1) * sizeof *all);
    *out = cs_arena_alloc(a, (n + 1) * sizeof **out);
    if (all == NULL || *out == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        credentialcomposerv1__x509_extension__init(&all[i]);
        all[i].oid = (char *)in->extensions[i].oid;
        all[i].value = bridge_data(in->extensions[i].value);
        all[i].critical = in->extensions[i].critical;
        (*out)[i] = &all[i];
    }
    *count = n;
    return CS_OK;
}

static cs_code put_ca(struct cs_arena *a, const struct credentialcomposer_x509 *in, ca_message *out,
                      struct cs_err *e)
{
    credentialcomposerv1__x509_caattributes__init(out);
    CS_TRY(put_name(a, &in->subject, &out->subject, e));
    put_texts(&in->policy_identifiers, &out->policy_identifiers, &out->n_policy_identifiers);
    return put_extensions(a, in, &out->extra_extensions, &out->n_extra_extensions, e);
}

static cs_code put_svid(struct cs_arena *a, const struct credentialcomposer_x509 *in, svid_message *out,
                        struct cs_err *e)
{
    credentialcomposerv1__x509_svidattributes__init(out);
    CS_TRY(put_name(a, &in->subject, &out->subject, e));
    put_texts(&in->dns_sans, &out->dns_sans, &out->n_dns_sans);
    return put_extensions(a, in, &out->extra_extensions, &out->n_extra_extensions, e);
}

/* --- From the plugin: views of the answer, which lives in the arena of the call too --- */

static bool oid_ok(const char *oid)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    return der_oid_parse(&der, oid) && cs_buf_ok(&der);
}

/* What can be written into a certificate; SPIRE finds out some of it only when it signs. */
static cs_code check_oid(struct cs_arena *a, const char *oid, struct cs_err *e)
{
    if (oid_ok(oid))
        return CS_OK;
    for (const char *part = oid;; part++) {
        size_t n = strcspn(part, "."), digits = strspn(part, "0123456789");
        const char *text = cs_arena_strndup(a, part, n);
        if (text == NULL)
            return cs_nomem(e);
        if (n == 0 || digits != n)
            return cs_fail(e, CS_INVALID, "invalid OID: non-integer part %s", bridge_quoted(a, text));
        part += n;
        if (*part == '\0')
            return cs_fail(e, CS_INVALID, "invalid OID: %s", bridge_quoted(a, oid));
    }
}

static struct credentialcomposer_texts texts_of(char *const *at, size_t count)
{
    return (struct credentialcomposer_texts){.at = (const char *const *)at, .count = count};
}

static cs_code take_name(struct cs_arena *a, const name_message *in, struct credentialcomposer_name *out,
                         struct cs_err *e)
{
    if (in == NULL)
        return cs_fail(e, CS_INVALID, "subject: cannot be empty");
    struct credentialcomposer_type_value *extra = cs_arena_alloc(a, (in->n_extra_names + 1) * sizeof *extra);
    if (extra == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->n_extra_names; i++) {
        const pair_message *p = in->extra_names[i];
        if (check_oid(a, p->oid, e) != CS_OK)
            return cs_wrap(e, "subject: extra names");
        extra[i] = (struct credentialcomposer_type_value){.oid = p->oid, .value = p->string_value};
    }
    *out = (struct credentialcomposer_name){
        .country = texts_of(in->country, in->n_country),
        .organization = texts_of(in->organization, in->n_organization),
        .organizational_unit = texts_of(in->organizational_unit, in->n_organizational_unit),
        .locality = texts_of(in->locality, in->n_locality),
        .province = texts_of(in->province, in->n_province),
        .street = texts_of(in->street_address, in->n_street_address),
        .postal_code = texts_of(in->postal_code, in->n_postal_code),
        .serial_number = in->serial_number,
        .common_name = in->common_name,
        .extra = extra,
        .extra_count = in->n_extra_names,
    };
    return CS_OK;
}

static cs_code take_extensions(struct cs_arena *a, extension_message *const *in, size_t count,
                               struct credentialcomposer_x509 *out, struct cs_err *e)
{
    struct credentialcomposer_extension *list = cs_arena_alloc(a, (count + 1) * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < count; i++) {
        if (check_oid(a, in[i]->oid, e) != CS_OK)
            return cs_wrap(e, "extra extensions");
        list[i] = (struct credentialcomposer_extension){
            .oid = in[i]->oid, .value = bridge_bytes(in[i]->value), .critical = in[i]->critical};
    }
    out->extensions = list;
    out->extension_count = count;
    return CS_OK;
}

static cs_code take_ca(struct cs_arena *a, const ca_message *in, struct credentialcomposer_x509 *out,
                       struct cs_err *e)
{
    CS_TRY(take_name(a, in->subject, &out->subject, e));
    for (size_t i = 0; i < in->n_policy_identifiers; i++)
        if (!oid_ok(in->policy_identifiers[i]))
            return cs_fail(e, CS_INVALID, "policy identifiers: invalid oid");
    out->policy_identifiers = texts_of(in->policy_identifiers, in->n_policy_identifiers);
    return take_extensions(a, in->extra_extensions, in->n_extra_extensions, out, e);
}

static cs_code take_svid(struct cs_arena *a, const svid_message *in, struct credentialcomposer_x509 *out,
                         struct cs_err *e)
{
    CS_TRY(take_name(a, in->subject, &out->subject, e));
    out->dns_sans = texts_of(in->dns_sans, in->n_dns_sans);
    return take_extensions(a, in->extra_extensions, in->n_extra_extensions, out, e);
}

/* --- Operations --- */

static cs_code server_x509_ca(void *self, struct cs_arena *a, struct credentialcomposer_x509 *attrs,
                              struct cs_err *e)
{
    ca_message attributes;
    CS_TRY(put_ca(a, attrs, &attributes, e));
    Credentialcomposerv1__ComposeServerX509CARequest request =
        CREDENTIALCOMPOSERV1__COMPOSE_SERVER_X509_CAREQUEST__INIT;
    request.attributes = &attributes;
    Credentialcomposerv1__ComposeServerX509CAResponse *answer;
    CS_TRY(bridge_call(self, "/" SERVICE "/ComposeServerX509CA", &request.base,
                       &credentialcomposerv1__compose_server_x509_caresponse__descriptor, a, &answer, 0, e));
    struct credentialcomposer_x509 made = {0};
    struct cs_err why;
    if (answer->attributes == NULL)
        return CS_OK;
    if (take_ca(a, answer->attributes, &made, &why) != CS_OK)
        return bridge_fail(self, e, CS_INTERNAL, "plugin returned invalid X509CA attributes: %s", why.text);
    *attrs = made;
    return CS_OK;
}

static cs_code take_svid_answer(const struct bridge *b, struct cs_arena *a, const svid_message *in,
                                struct credentialcomposer_x509 *attrs, struct cs_err *e)
{
    struct credentialcomposer_x509 made = {0};
    struct cs_err why;
    if (in == NULL)
        return CS_OK;
    if (take_svid(a, in, &made, &why) != CS_OK)
        return bridge_fail(b, e, CS_INTERNAL, "plugin returned invalid X509SVID attributes: %s", why.text);
    *attrs = made;
    return CS_OK;
}

static cs_code server_x509_svid(void *self, struct cs_arena *a, struct credentialcomposer_x509 *attrs,
                                struct cs_err *e)
{
    svid_message attributes;
    CS_TRY(put_svid(a, attrs, &attributes, e));
    Credentialcomposerv1__ComposeServerX509SVIDRequest request =
        CREDENTIALCOMPOSERV1__COMPOSE_SERVER_X509_SVIDREQUEST__INIT;
    request.attributes = &attributes;
    Credentialcomposerv1__ComposeServerX509SVIDResponse *answer;
    CS_TRY(bridge_call(self, "/" SERVICE "/ComposeServerX509SVID", &request.base,
                       &credentialcomposerv1__compose_server_x509_svidresponse__descriptor, a, &answer, 0,
                       e));
    return take_svid_answer(self, a, answer->attributes, attrs, e);
}

static cs_code agent_x509_svid(void *self, struct cs_arena *a, const char *spiffe_id, struct cs_slice spki,
                               struct credentialcomposer_x509 *attrs, struct cs_err *e)
{
    svid_message attributes;
    CS_TRY(put_svid(a, attrs, &attributes, e));
    Credentialcomposerv1__ComposeAgentX509SVIDRequest request =
        CREDENTIALCOMPOSERV1__COMPOSE_AGENT_X509_SVIDREQUEST__INIT;
    request.attributes = &attributes;
    request.spiffe_id = (char *)spiffe_id;
    request.public_key = bridge_data(spki);
    Credentialcomposerv1__ComposeAgentX509SVIDResponse *answer;
    CS_TRY(bridge_call(self, "/" SERVICE "/ComposeAgentX509SVID", &request.base,
                       &credentialcomposerv1__compose_agent_x509_svidresponse__descriptor, a, &answer, 0, e));
    return take_svid_answer(self, a, answer->attributes, attrs, e);
}

static cs_code workload_x509_svid(void *self, struct cs_arena *a, const char *spiffe_id, struct cs_slice spki,
                                  struct credentialcomposer_x509 *attrs, struct cs_err *e)
{
    svid_message attributes;
    CS_TRY(put_svid(a, attrs, &attributes, e));
    Credentialcomposerv1__ComposeWorkloadX509SVIDRequest request =
        CREDENTIALCOMPOSERV1__COMPOSE_WORKLOAD_X509_SVIDREQUEST__INIT;
    request.attributes = &attributes;
    request.spiffe_id = (char *)spiffe_id;
    request.public_key = bridge_data(spki);
    Credentialcomposerv1__ComposeWorkloadX509SVIDResponse *answer;
    CS_TRY(bridge_call(self, "/" SERVICE "/ComposeWorkloadX509SVID", &request.base,
                       &credentialcomposerv1__compose_workload_x509_svidresponse__descriptor, a, &answer, 0,
                       e));
    return take_svid_answer(self, a, answer->attributes, attrs, e);
}

/* The text moves into the arena. */
static cs_code take_claims(struct cs_arena *a, const Google__Protobuf__Struct *in, struct cs_slice *out,
                           struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    CS_TRY(proto_struct_write(&text, in, e));
    const uint8_t *copy = cs_arena_memdup(a, text.data, text.len);
    if (copy == NULL)
        return cs_nomem(e);
    *out = cs_slice_of(copy, text.len);
    return CS_OK;
}

static cs_code workload_jwt_svid(void *self, struct cs_arena *a, const char *spiffe_id,
                                 struct cs_slice *claims, struct cs_err *e)
{
    struct cs_err why;
    Credentialcomposerv1__JWTSVIDAttributes attributes = CREDENTIALCOMPOSERV1__JWTSVIDATTRIBUTES__INIT;
    if (proto_struct_parse(a, *claims, &attributes.claims, &why) != CS_OK)
        return bridge_fail(self, e, CS_INTERNAL,
                           "invalid workload JWTSVID attributes: failed to encode claims: %s", why.text);
    Credentialcomposerv1__ComposeWorkloadJWTSVIDRequest request =
        CREDENTIALCOMPOSERV1__COMPOSE_WORKLOAD_JWTSVIDREQUEST__INIT;
    request.attributes = &attributes;
    request.spiffe_id = (char *)spiffe_id;
    Credentialcomposerv1__ComposeWorkloadJWTSVIDResponse *answer;
    CS_TRY(bridge_call(self, "/" SERVICE "/ComposeWorkloadJWTSVID", &request.base,
                       &credentialcomposerv1__compose_workload_jwtsvidresponse__descriptor, a, &answer, 0,
                       e));
    if (answer->attributes == NULL)
        return CS_OK;
    if (take_claims(a, answer->attributes->claims, claims, &why) != CS_OK)
        return bridge_fail(self, e, CS_INTERNAL, "plugin returned invalid JWTSVID attributes: %s", why.text);
    return CS_OK;
}

static const struct credentialcomposer_ops ops = {
    .server_x509_ca = server_x509_ca,
    .server_x509_svid = server_x509_svid,
    .agent_x509_svid = agent_x509_svid,
    .workload_x509_svid = workload_x509_svid,
    .workload_jwt_svid = workload_jwt_svid,
};

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    return bridge_new(x, env, PLUGIN_TYPE_CREDENTIALCOMPOSER, sizeof(struct bridge), self, e);
}

const struct plugin_bridge plugin_bridge_credentialcomposer = {
    .service = SERVICE,
    .ops = &ops,
    .create = create,
    .destroy = bridge_free,
};
