/* SPDX-License-Identifier: Apache-2.0
 *
 * CredentialComposer.
 */
#include "kit/kit.h"

#include "sdk_server_credentialcomposer.pb-c.h"

typedef Credentialcomposerv1__DistinguishedName pb_name;
typedef Credentialcomposerv1__X509Extension pb_extension;
typedef Credentialcomposerv1__AttributeTypeAndValue pb_attribute;
typedef Credentialcomposerv1__X509CAAttributes pb_ca;
typedef Credentialcomposerv1__X509SVIDAttributes pb_svid;

static const struct cspire_credential_composer_ops *ops_of(const struct cspire_call *c)
{
    return c->env->plugin->ops.credential_composer;
}

/* --- Messages to attributes --- */

static struct cspire_texts texts_of(char **at, size_t n)
{
    return (struct cspire_texts){.at = (const char *const *)at, .count = n};
}

static bool take_name(struct cspire_call *c, const pb_name *from, struct cspire_name *out)
{
    *out = (struct cspire_name){.serial_number = "", .common_name = ""};
    if (from == NULL)
        return true;
    struct cspire_name_attribute *extra = cs_arena_alloc(c->arena, (from->n_extra_names + 1) * sizeof *extra);
    if (extra == NULL)
        return false;
    for (size_t i = 0; i < from->n_extra_names; i++)
        extra[i] =
            (struct cspire_name_attribute){from->extra_names[i]->oid, from->extra_names[i]->string_value};
    *out = (struct cspire_name){
        .country = texts_of(from->country, from->n_country),
        .organization = texts_of(from->organization, from->n_organization),
        .organizational_unit = texts_of(from->organizational_unit, from->n_organizational_unit),
        .locality = texts_of(from->locality, from->n_locality),
        .province = texts_of(from->province, from->n_province),
        .street_address = texts_of(from->street_address, from->n_street_address),
        .postal_code = texts_of(from->postal_code, from->n_postal_code),
        .serial_number = from->serial_number,
        .common_name = from->common_name,
        .extra = extra,
        .extra_count = from->n_extra_names,
    };
    return true;
}

static bool take_extensions(struct cspire_call *c, pb_extension *const *from, size_t n,
                            struct cspire_x509_attributes *out)
{
    struct cspire_extension *at = cs_arena_alloc(c->arena, (n + 1) * sizeof *at);
    if (at == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        at[i] = (struct cspire_extension){from[i]->oid, KIT_PB_BYTES(from[i]->value), from[i]->critical};
    out->extensions = at;
    out->extension_count = n;
    return true;
}

/* --- Attributes to messages --- */

#define GIVE(msg, field, texts)                                                                              \
    do {                                                                                                     \
        (msg)->field = (char **)(texts).at;                                                                  \
        (msg)->n_##field = (texts).count;                                                                    \
    } while (0)

static char *text_or_empty(const char *s)
{
    return (char *)(s != NULL ? s : "");
}

static cs_code give_name(struct cspire_call *c, const struct cspire_name *from, pb_name *out,
                         struct cs_err *e)
{
    credentialcomposerv1__distinguished_name__init(out);
    pb_attribute *rows = cs_arena_alloc(c->arena, (from->extra_count + 1) * sizeof *rows);
    pb_attribute **at = cs_arena_alloc(c->arena, (from->extra_count + 1) * sizeof(pb_attribute *));
    if (rows == NULL || at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < from->extra_count; i++) {
        credentialcomposerv1__attribute_type_and_value__init(&rows[i]);
        rows[i].oid = text_or_empty(from->extra[i].oid);
        rows[i].string_value = text_or_empty(from->extra[i].value);
        at[i] = &rows[i];
    }
    GIVE(out, country, from->country);
    GIVE(out, organization, from->organization);
    GIVE(out, organizational_unit, from->organizational_unit);
    GIVE(out, locality, from->locality);
    GIVE(out, province, from->province);
    GIVE(out, street_address, from->street_address);
    GIVE(out, postal_code, from->postal_code);
    out->serial_number = text_or_empty(from->serial_number);
    out->common_name = text_or_empty(from->common_name);
    out->extra_names = at;
    out->n_extra_names = from->extra_count;
    return CS_OK;
}

static cs_code give_extensions(struct cspire_call *c, const struct cspire_x509_attributes *from,
                               pb_extension ***out, struct cs_err *e)
{
    size_t n = from->extension_count;
    pb_extension *rows = cs_arena_alloc(c->arena, (n + 1) * sizeof *rows);
    pb_extension **at = cs_arena_alloc(c->arena, (n + 1) * sizeof(pb_extension *));
    if (rows == NULL || at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        credentialcomposerv1__x509_extension__init(&rows[i]);
        rows[i].oid = text_or_empty(from->extensions[i].oid);
        rows[i].value = (ProtobufCBinaryData){.len = from->extensions[i].value.len,
                                              .data = (uint8_t *)from->extensions[i].value.data};
        rows[i].critical = from->extensions[i].critical;
        at[i] = &rows[i];
    }
    *out = at;
    return CS_OK;
}

static cs_code give_svid(struct cspire_call *c, const struct cspire_x509_attributes *from, pb_name *name,
                         pb_svid *out, struct cs_err *e)
{
    credentialcomposerv1__x509_svidattributes__init(out);
    CS_TRY(give_name(c, &from->subject, name, e));
    out->subject = name;
    GIVE(out, dns_sans, from->dns_sans);
    CS_TRY(give_extensions(c, from, &out->extra_extensions, e));
    out->n_extra_extensions = from->extension_count;
    return CS_OK;
}

/* --- Operations --- */

static cs_code server_ca(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                         struct cs_err *e)
{
    const pb_ca *from = ((const Credentialcomposerv1__ComposeServerX509CARequest *)msg)->attributes;
    if (KIT_OP(ops_of(c), server_x509_ca) == NULL)
        return kit_missing(e);
    if (from == NULL)
        return cs_fail(e, CS_INVALID, "missing attributes");
    struct cspire_x509_attributes attrs = {
        .size = sizeof attrs,
        .policy_identifiers = texts_of(from->policy_identifiers, from->n_policy_identifiers)};
    if (!take_name(c, from->subject, &attrs.subject) ||
        !take_extensions(c, from->extra_extensions, from->n_extra_extensions, &attrs))
        return cs_nomem(e);
    CS_TRY(kit_verdict(c, ops_of(c)->server_x509_ca(c->env->self, c, &attrs), e));
    pb_name name;
    pb_ca out = CREDENTIALCOMPOSERV1__X509_CAATTRIBUTES__INIT;
    CS_TRY(give_name(c, &attrs.subject, &name, e));
    out.subject = &name;
    GIVE(&out, policy_identifiers, attrs.policy_identifiers);
    CS_TRY(give_extensions(c, &attrs, &out.extra_extensions, e));
    out.n_extra_extensions = attrs.extension_count;
    Credentialcomposerv1__ComposeServerX509CAResponse resp =
        CREDENTIALCOMPOSERV1__COMPOSE_SERVER_X509_CARESPONSE__INIT;
    resp.attributes = &out;
    return proto_pack(&resp.base, response, e);
}

/* The three of SVIDs differ in what they are called with; their answers are the same on the wire. */
typedef enum cspire_code (*svid_op)(struct cspire_call *c, const char *spiffe_id, struct cspire_bytes key,
                                    struct cspire_x509_attributes *attrs);

static cs_code compose_svid(struct cspire_call *c, svid_op op, const pb_svid *from, const char *spiffe_id,
                            ProtobufCBinaryData key, struct cs_buf *response, struct cs_err *e)
{
    if (from == NULL)
        return cs_fail(e, CS_INVALID, "missing attributes");
    struct cspire_x509_attributes attrs = {.size = sizeof attrs,
                                           .dns_sans = texts_of(from->dns_sans, from->n_dns_sans)};
    if (!take_name(c, from->subject, &attrs.subject) ||
        !take_extensions(c, from->extra_extensions, from->n_extra_extensions, &attrs))
        return cs_nomem(e);
    CS_TRY(kit_verdict(c, op(c, spiffe_id, KIT_PB_BYTES(key), &attrs), e));
    pb_name name;
    pb_svid out;
    CS_TRY(give_svid(c, &attrs, &name, &out, e));
    Credentialcomposerv1__ComposeWorkloadX509SVIDResponse resp =
        CREDENTIALCOMPOSERV1__COMPOSE_WORKLOAD_X509_SVIDRESPONSE__INIT;
    resp.attributes = &out;
    return proto_pack(&resp.base, response, e);
}

static enum cspire_code server_svid_op(struct cspire_call *c, const char *spiffe_id, struct cspire_bytes key,
                                       struct cspire_x509_attributes *attrs)
{
    (void)spiffe_id;
    (void)key;
    return ops_of(c)->server_x509_svid(c->env->self, c, attrs);
}
static enum cspire_code agent_svid_op(struct cspire_call *c, const char *spiffe_id, struct cspire_bytes key,
                                      struct cspire_x509_attributes *attrs)
{
    return ops_of(c)->agent_x509_svid(c->env->self, c, spiffe_id, key, attrs);
}
static enum cspire_code workload_svid_op(struct cspire_call *c, const char *spiffe_id,
                                         struct cspire_bytes key, struct cspire_x509_attributes *attrs)
{
    return ops_of(c)->workload_x509_svid(c->env->self, c, spiffe_id, key, attrs);
}

static cs_code server_svid(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                           struct cs_err *e)
{
    const Credentialcomposerv1__ComposeServerX509SVIDRequest *req =
        (const Credentialcomposerv1__ComposeServerX509SVIDRequest *)msg;
    if (KIT_OP(ops_of(c), server_x509_svid) == NULL)
        return kit_missing(e);
    return compose_svid(c, server_svid_op, req->attributes, "", (ProtobufCBinaryData){0}, response, e);
}

static cs_code agent_svid(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                          struct cs_err *e)
{
    const Credentialcomposerv1__ComposeAgentX509SVIDRequest *req =
        (const Credentialcomposerv1__ComposeAgentX509SVIDRequest *)msg;
    if (KIT_OP(ops_of(c), agent_x509_svid) == NULL)
        return kit_missing(e);
    return compose_svid(c, agent_svid_op, req->attributes, req->spiffe_id, req->public_key, response, e);
}

static cs_code workload_svid(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                             struct cs_err *e)
{
    const Credentialcomposerv1__ComposeWorkloadX509SVIDRequest *req =
        (const Credentialcomposerv1__ComposeWorkloadX509SVIDRequest *)msg;
    if (KIT_OP(ops_of(c), workload_x509_svid) == NULL)
        return kit_missing(e);
    return compose_svid(c, workload_svid_op, req->attributes, req->spiffe_id, req->public_key, response, e);
}

static cs_code jwt_svid(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                        struct cs_err *e)
{
    const Credentialcomposerv1__ComposeWorkloadJWTSVIDRequest *req =
        (const Credentialcomposerv1__ComposeWorkloadJWTSVIDRequest *)msg;
    if (KIT_OP(ops_of(c), workload_jwt_svid) == NULL)
        return kit_missing(e);
    if (req->attributes == NULL || req->attributes->claims == NULL)
        return cs_fail(e, CS_INVALID, "missing attributes");
    const char *claims;
    CS_TRY(kit_claims_print(c, req->attributes->claims, &claims, e));
    CS_TRY(kit_verdict(c, ops_of(c)->workload_jwt_svid(c->env->self, c, req->spiffe_id, claims), e));
    Credentialcomposerv1__JWTSVIDAttributes out = CREDENTIALCOMPOSERV1__JWTSVIDATTRIBUTES__INIT;
    out.claims = req->attributes->claims; /* as they came, to the last bit */
    if (c->given & KIT_CLAIMS)
        CS_TRY(kit_claims_parse(c, c->text, &out.claims, e));
    Credentialcomposerv1__ComposeWorkloadJWTSVIDResponse resp =
        CREDENTIALCOMPOSERV1__COMPOSE_WORKLOAD_JWTSVIDRESPONSE__INIT;
    resp.attributes = &out;
    return proto_pack(&resp.base, response, e);
}

static const struct kit_handler ca_handler = {
    .run = server_ca, .request = &credentialcomposerv1__compose_server_x509_carequest__descriptor};
static const struct kit_handler server_handler = {
    .run = server_svid, .request = &credentialcomposerv1__compose_server_x509_svidrequest__descriptor};
static const struct kit_handler agent_handler = {
    .run = agent_svid, .request = &credentialcomposerv1__compose_agent_x509_svidrequest__descriptor};
static const struct kit_handler workload_handler = {
    .run = workload_svid, .request = &credentialcomposerv1__compose_workload_x509_svidrequest__descriptor};
static const struct kit_handler jwt_handler = {
    .run = jwt_svid,
    .request = &credentialcomposerv1__compose_workload_jwtsvidrequest__descriptor,
    .answers = KIT_CLAIMS};

#define SERVICE "spire.plugin.server.credentialcomposer.v1.CredentialComposer"
static const struct rpc_method methods[] = {
    KIT_ROW("/" SERVICE "/ComposeServerX509CA", ca_handler),
    KIT_ROW("/" SERVICE "/ComposeServerX509SVID", server_handler),
    KIT_ROW("/" SERVICE "/ComposeAgentX509SVID", agent_handler),
    KIT_ROW("/" SERVICE "/ComposeWorkloadX509SVID", workload_handler),
    KIT_ROW("/" SERVICE "/ComposeWorkloadJWTSVID", jwt_handler),
};
const struct kit_kind kit_credential_composer = {
    .kind = CSPIRE_CREDENTIAL_COMPOSER,
    .type = "CredentialComposer",
    .program = "server",
    .service = SERVICE,
    .methods = methods,
    .method_count = sizeof methods / sizeof methods[0],
};
