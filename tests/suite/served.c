/* SPDX-License-Identifier: Apache-2.0
 *
 * Kinds of which there is no built-in plugin, served through the kit.
 */
#include "tests/suite/served.h"

#include "plugin/bundlepublisher.h"
#include "plugin/credentialcomposer.h"
#include "plugin/notifier.h"
#include "plugin/svidstore.h"
#include "tests/suite/reference.h"

#include <string.h>

/* --- Bundles --- */

static cs_code bundle_of(const struct cspire_bundle *in, struct spiffe_bundle **out, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(cs_slice_str(in->trust_domain), &b, e));
    for (size_t i = 0; i < in->x509_authority_count; i++)
        CS_TRY(spiffe_bundle_add_x509_der(b, served_slice(in->x509_authorities[i].der),
                                          in->x509_authorities[i].tainted, e));
    for (size_t i = 0; i < in->jwt_authority_count; i++) {
        const struct cspire_jwt_key *k = &in->jwt_authorities[i];
        CS_TRY(spiffe_bundle_add_jwt(b, cs_slice_str(k->key_id), served_slice(k->pkix), k->expires_at,
                                     k->tainted, e));
    }
    spiffe_bundle_set_refresh_hint(b, in->refresh_hint);
    spiffe_bundle_set_sequence(b, in->sequence_number);
    return spiffe_bundle_build(b, out, e);
}

static enum cspire_code with_bundle(const struct served *s, struct cspire_call *call,
                                    const struct cspire_bundle *in,
                                    cs_code (*op)(void *self, const struct spiffe_bundle *bundle,
                                                  struct cs_err *e))
{
    struct cs_err e = {0};
    CS_AUTO(spiffe_bundle) bundle = NULL;
    cs_code rc = bundle_of(in, &bundle, &e);
    if (rc == CS_OK)
        rc = op(s->self, bundle, &e);
    return served_pass(call, rc, &e);
}

static enum cspire_code bundle_updated(void *arg, struct cspire_call *call, const struct cspire_bundle *in)
{
    const struct served *s = arg;
    return with_bundle(s, call, in, ((const struct notifier_ops *)s->ops)->bundle_updated);
}

static enum cspire_code bundle_loaded(void *arg, struct cspire_call *call, const struct cspire_bundle *in)
{
    const struct served *s = arg;
    return with_bundle(s, call, in, ((const struct notifier_ops *)s->ops)->bundle_loaded);
}

static enum cspire_code publish(void *arg, struct cspire_call *call, const struct cspire_bundle *in)
{
    const struct served *s = arg;
    return with_bundle(s, call, in, ((const struct bundlepublisher_ops *)s->ops)->publish);
}

const struct cspire_notifier_ops served_notifier = {
    .size = sizeof served_notifier, .bundle_updated = bundle_updated, .bundle_loaded = bundle_loaded};
const struct cspire_bundle_publisher_ops served_bundle_publisher = {.size = sizeof served_bundle_publisher,
                                                                    .publish = publish};

/* --- CredentialComposer --- */

/* What an operation made lives in an arena that ends before the answer is written. */
static char *keep_text(struct cspire_call *call, const char *text)
{
    return cspire_text(call, "%s", text);
}

static struct cspire_texts keep_texts(struct cspire_call *call, struct credentialcomposer_texts in)
{
    const char **at = cspire_alloc(call, (in.count + 1) * sizeof *at);
    for (size_t i = 0; at != NULL && i < in.count; i++)
        at[i] = keep_text(call, in.at[i]);
    return (struct cspire_texts){.at = at, .count = at != NULL ? in.count : 0};
}

static struct credentialcomposer_texts texts(struct cspire_texts in)
{
    return (struct credentialcomposer_texts){.at = in.at, .count = in.count};
}

static struct credentialcomposer_x509 attributes_of(struct cs_arena *a,
                                                    const struct cspire_x509_attributes *in)
{
    const struct cspire_name *n = &in->subject;
    struct credentialcomposer_extension *ext = cs_arena_zalloc(a, (in->extension_count + 1) * sizeof *ext);
    struct credentialcomposer_type_value *extra = cs_arena_zalloc(a, (n->extra_count + 1) * sizeof *extra);
    for (size_t i = 0; i < in->extension_count; i++)
        ext[i] = (struct credentialcomposer_extension){
            in->extensions[i].oid, served_slice(in->extensions[i].value), in->extensions[i].critical};
    for (size_t i = 0; i < n->extra_count; i++)
        extra[i] = (struct credentialcomposer_type_value){n->extra[i].oid, n->extra[i].value};
    return (struct credentialcomposer_x509){
        .subject = {.country = texts(n->country),
                    .organization = texts(n->organization),
                    .organizational_unit = texts(n->organizational_unit),
                    .locality = texts(n->locality),
                    .province = texts(n->province),
                    .street = texts(n->street_address),
                    .postal_code = texts(n->postal_code),
                    .serial_number = n->serial_number,
                    .common_name = n->common_name,
                    .extra = extra,
                    .extra_count = n->extra_count},
        .dns_sans = texts(in->dns_sans),
        .policy_identifiers = texts(in->policy_identifiers),
        .extensions = ext,
        .extension_count = in->extension_count,
    };
}

static void keep_attributes(struct cspire_call *call, const struct credentialcomposer_x509 *in,
                            struct cspire_x509_attributes *out)
{
    const struct credentialcomposer_name *n = &in->subject;
    struct cspire_extension *ext = cspire_alloc(call, (in->extension_count + 1) * sizeof *ext);
    struct cspire_name_attribute *extra = cspire_alloc(call, (n->extra_count + 1) * sizeof *extra);
    for (size_t i = 0; i < in->extension_count; i++) {
        uint8_t *value = cspire_alloc(call, in->extensions[i].value.len + 1);
        if (in->extensions[i].value.len > 0)
            memcpy(value, in->extensions[i].value.data, in->extensions[i].value.len);
        ext[i] = (struct cspire_extension){keep_text(call, in->extensions[i].oid),
                                           {value, in->extensions[i].value.len},
                                           in->extensions[i].critical};
    }
    for (size_t i = 0; i < n->extra_count; i++)
        extra[i] = (struct cspire_name_attribute){keep_text(call, n->extra[i].oid),
                                                  keep_text(call, n->extra[i].value)};
    out->subject = (struct cspire_name){
        .country = keep_texts(call, n->country),
        .organization = keep_texts(call, n->organization),
        .organizational_unit = keep_texts(call, n->organizational_unit),
        .locality = keep_texts(call, n->locality),
        .province = keep_texts(call, n->province),
        .street_address = keep_texts(call, n->street),
        .postal_code = keep_texts(call, n->postal_code),
        .serial_number = keep_text(call, n->serial_number),
        .common_name = keep_text(call, n->common_name),
        .extra = extra,
        .extra_count = n->extra_count,
    };
    out->dns_sans = keep_texts(call, in->dns_sans);
    out->policy_identifiers = keep_texts(call, in->policy_identifiers);
    out->extensions = ext;
    out->extension_count = in->extension_count;
}

enum which { SERVER_CA, SERVER_SVID, AGENT_SVID, WORKLOAD_SVID };

static enum cspire_code compose(const struct served *s, struct cspire_call *call, enum which which,
                                const char *id, struct cspire_bytes key, struct cspire_x509_attributes *io)
{
    const struct credentialcomposer_ops *ops = s->ops;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct credentialcomposer_x509 x = attributes_of(a, io);
    struct cs_err e = {0};
    cs_code rc = which == SERVER_CA     ? ops->server_x509_ca(s->self, a, &x, &e)
                 : which == SERVER_SVID ? ops->server_x509_svid(s->self, a, &x, &e)
                 : which == AGENT_SVID  ? ops->agent_x509_svid(s->self, a, id, served_slice(key), &x, &e)
                                        : ops->workload_x509_svid(s->self, a, id, served_slice(key), &x, &e);
    if (rc == CS_OK)
        keep_attributes(call, &x, io);
    return served_pass(call, rc, &e);
}

static enum cspire_code server_x509_ca(void *arg, struct cspire_call *call, struct cspire_x509_attributes *io)
{
    return compose(arg, call, SERVER_CA, NULL, (struct cspire_bytes){0}, io);
}
static enum cspire_code server_x509_svid(void *arg, struct cspire_call *call,
                                         struct cspire_x509_attributes *io)
{
    return compose(arg, call, SERVER_SVID, NULL, (struct cspire_bytes){0}, io);
}
static enum cspire_code agent_x509_svid(void *arg, struct cspire_call *call, const char *id,
                                        struct cspire_bytes key, struct cspire_x509_attributes *io)
{
    return compose(arg, call, AGENT_SVID, id, key, io);
}
static enum cspire_code workload_x509_svid(void *arg, struct cspire_call *call, const char *id,
                                           struct cspire_bytes key, struct cspire_x509_attributes *io)
{
    return compose(arg, call, WORKLOAD_SVID, id, key, io);
}

static enum cspire_code workload_jwt_svid(void *arg, struct cspire_call *call, const char *id,
                                          const char *claims)
{
    const struct served *s = arg;
    const struct credentialcomposer_ops *ops = s->ops;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct cs_slice text = cs_slice_str(claims);
    struct cs_err e = {0};
    cs_code rc = ops->workload_jwt_svid(s->self, a, id, &text, &e);
    if (rc != CS_OK)
        return served_pass(call, rc, &e);
    return cspire_reply_claims(call, cspire_text(call, "%.*s", (int)text.len, (const char *)text.data));
}

const struct cspire_credential_composer_ops served_credential_composer = {
    .size = sizeof served_credential_composer,
    .server_x509_ca = server_x509_ca,
    .server_x509_svid = server_x509_svid,
    .agent_x509_svid = agent_x509_svid,
    .workload_x509_svid = workload_x509_svid,
    .workload_jwt_svid = workload_jwt_svid,
};

/* --- SVIDStore --- */

static struct cs_slice *slices(struct cspire_call *call, const struct cspire_bytes *in, size_t count)
{
    struct cs_slice *out = cspire_alloc(call, (count + 1) * sizeof *out);
    for (size_t i = 0; out != NULL && i < count; i++)
        out[i] = served_slice(in[i]);
    return out;
}

static enum cspire_code put(void *arg, struct cspire_call *call, const struct cspire_svid *in,
                            struct cspire_texts metadata)
{
    const struct served *s = arg;
    const struct svidstore_ops *ops = s->ops;
    struct svidstore_federated *far = cspire_alloc(call, (in->federated_count + 1) * sizeof *far);
    for (size_t i = 0; i < in->federated_count; i++)
        far[i] = (struct svidstore_federated){in->federated[i].trust_domain,
                                              slices(call, &in->federated[i].bundle, 1), 1};
    const struct svidstore_svid svid = {
        .spiffe_id = in->spiffe_id,
        .chain = slices(call, in->chain, in->chain_count),
        .chain_count = in->chain_count,
        .key = served_slice(in->private_key),
        .bundle = slices(call, in->bundle, in->bundle_count),
        .bundle_count = in->bundle_count,
        .federated = far,
        .federated_count = in->federated_count,
        .expires_at = in->expires_at,
    };
    struct cs_err e = {0};
    return served_pass(call, ops->put(s->self, &svid, metadata.at, metadata.count, &e), &e);
}

static enum cspire_code take_away(void *arg, struct cspire_call *call, struct cspire_texts metadata)
{
    const struct served *s = arg;
    const struct svidstore_ops *ops = s->ops;
    struct cs_err e = {0};
    return served_pass(call, ops->remove(s->self, metadata.at, metadata.count, &e), &e);
}

const struct cspire_svid_store_ops served_svid_store = {
    .size = sizeof served_svid_store, .put = put, .remove = take_away};

/* --- NodeAttestor of agents --- */

static enum cspire_code aid_start(void *arg, struct cspire_call *call, void **session)
{
    (void)arg;
    (void)session;
    return cspire_reply_payload(call, served_bytes(cs_slice_str(REFERENCE_PAYLOAD)));
}

static enum cspire_code aid_respond(void *arg, struct cspire_call *call, void *session,
                                    struct cspire_bytes challenge)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
    (void)arg;
    (void)session;
    reference_respond(&response, served_slice(challenge));
    return cspire_reply_payload(call, served_bytes(cs_buf_slice(&response)));
}

const struct cspire_agent_node_attestor_ops served_agent_node_attestor = {
    .size = sizeof served_agent_node_attestor, .start = aid_start, .respond = aid_respond};
