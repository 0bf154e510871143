/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin of every kind that writes down what it was called with, every byte of it, and answers something
 * fixed. Used by unit tests and by the fuzz target.
 */
#ifndef CS_TESTS_KIT_DESCRIBE_H
#define CS_TESTS_KIT_DESCRIBE_H

#include "base/text.h"
#include "kit/kit.h"

#include <stdio.h>
#include <stdlib.h>

struct describe {
    pthread_mutex_t lock;
    struct cs_buf seen;
    enum cspire_code fail; /* CSPIRE_OK: answer */
    bool silent;           /* answer nothing at all */
    unsigned sessions, created, destroyed;
    unsigned challenges; /* of an attestation before it is done */
    enum cspire_code create_code;
    const char *claims; /* the answer of workload_jwt_svid */
};

/* One for the process: create has no argument to find another by. */
static struct describe d_self = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void d_reset(void)
{
    cs_buf_free(&d_self.seen);
    d_self.fail = d_self.create_code = CSPIRE_OK;
    d_self.silent = false;
    d_self.challenges = d_self.sessions = d_self.created = d_self.destroyed = 0;
    d_self.claims = NULL;
}

CS_PRINTF(1, 2) static inline void d_say(const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&d_self.lock);
    cs_buf_add_str(&d_self.seen, text);
    pthread_mutex_unlock(&d_self.lock);
}

static inline void d_bytes(const char *name, struct cspire_bytes b)
{
    pthread_mutex_lock(&d_self.lock);
    cs_buf_printf(&d_self.seen, " %s=", name);
    cs_hex_encode(&d_self.seen, cs_slice_of(b.data, b.len));
    pthread_mutex_unlock(&d_self.lock);
}

static inline void d_texts(const char *name, struct cspire_texts t)
{
    d_say(" %s=[", name);
    for (size_t i = 0; i < t.count; i++)
        d_say("%s%s", i > 0 ? "," : "", t.at[i]);
    d_say("]");
}

static inline void d_bundle(const struct cspire_bundle *b)
{
    d_say(" td=%s hint=%lld seq=%llu", b->trust_domain, (long long)b->refresh_hint,
          (unsigned long long)b->sequence_number);
    for (size_t i = 0; i < b->x509_authority_count; i++) {
        d_bytes("x509", b->x509_authorities[i].der);
        d_say("%s", b->x509_authorities[i].tainted ? "!" : "");
    }
    for (size_t i = 0; i < b->jwt_authority_count; i++) {
        const struct cspire_jwt_key *k = &b->jwt_authorities[i];
        d_bytes("jwt", k->pkix);
        d_say(":%s:%lld%s", k->key_id, (long long)k->expires_at, k->tainted ? "!" : "");
    }
}

static inline struct cspire_bytes d_of(const char *s)
{
    return (struct cspire_bytes){(const uint8_t *)s, strlen(s)};
}

/* How each operation begins; true: the caller returns *code. */
static inline bool d_done(struct cspire_call *call, enum cspire_code *code)
{
    *code = CSPIRE_OK;
    if (d_self.fail != CSPIRE_OK)
        *code = cspire_fail(call, d_self.fail, "as asked");
    return d_self.silent || d_self.fail != CSPIRE_OK;
}
#define D_BEGIN(call)                                                                                        \
    do {                                                                                                     \
        enum cspire_code d_code;                                                                             \
        if (d_done((call), &d_code))                                                                         \
            return d_code;                                                                                   \
    } while (0)

/* --- Kinds --- */

static enum cspire_code d_generate_key(void *self, struct cspire_call *c, const char *id,
                                       enum cspire_key_type type)
{
    (void)self;
    d_say("generate_key id=%s type=%d\n", id, (int)type);
    D_BEGIN(c);
    return cspire_reply_key(c, id, type, d_of("pkix"));
}
static enum cspire_code d_get_key(void *self, struct cspire_call *c, const char *id)
{
    (void)self;
    d_say("get_key id=%s\n", id);
    D_BEGIN(c);
    return cspire_reply_key(c, id, CSPIRE_KEY_EC_P384, d_of("pkix"));
}
static enum cspire_code d_get_keys(void *self, struct cspire_call *c)
{
    (void)self;
    d_say("get_keys\n");
    D_BEGIN(c);
    enum cspire_code code = cspire_reply_key(c, "a", CSPIRE_KEY_EC_P256, d_of("pkix"));
    return code == CSPIRE_OK ? cspire_reply_key(c, "b", CSPIRE_KEY_RSA_2048, d_of("xikp")) : code;
}
static enum cspire_code d_sign(void *self, struct cspire_call *c, const struct cspire_sign_request *r)
{
    (void)self;
    d_say("sign id=%s hash=%d pss=%d salt=%d", r->key_id, (int)r->hash, r->pss, (int)r->salt_length);
    d_bytes("digest", r->digest);
    d_say("\n");
    D_BEGIN(c);
    return cspire_reply_signature(c, d_of("signature"), d_of("pkix"));
}
static const struct cspire_key_manager_ops d_key_manager = {.size = sizeof d_key_manager,
                                                            .generate_key = d_generate_key,
                                                            .get_key = d_get_key,
                                                            .get_keys = d_get_keys,
                                                            .sign = d_sign};

static enum cspire_code d_step(struct cspire_call *c)
{
    D_BEGIN(c);
    if (d_self.challenges > 0) {
        d_self.challenges--;
        return cspire_reply_challenge(c, d_of("challenge"));
    }
    enum cspire_code code = cspire_reply_agent(c, "spiffe://example.org/spire/agent/x/1", true);
    if (code == CSPIRE_OK)
        code = cspire_reply_selector(c, "one:%d", 1);
    return code == CSPIRE_OK ? cspire_reply_selector(c, "two") : code;
}
static enum cspire_code d_attest_start(void *self, struct cspire_call *c,
                                       const struct cspire_attest_request *r, void **session)
{
    (void)self;
    d_say("start host=%s ip=%s", r->forwarded_host, r->client_ip);
    d_bytes("payload", r->payload);
    d_say("\n");
    *session = malloc(1);
    d_self.sessions++;
    return d_step(c);
}
static enum cspire_code d_attest_respond(void *self, struct cspire_call *c, void *session,
                                         struct cspire_bytes response)
{
    (void)self;
    d_say("respond session=%d", session != NULL);
    d_bytes("response", response);
    d_say("\n");
    return d_step(c);
}
static void d_attest_end(void *self, void *session)
{
    (void)self;
    free(session);
    d_say("end\n");
    d_self.sessions--;
}
static const struct cspire_server_node_attestor_ops d_server_attestor = {.size = sizeof d_server_attestor,
                                                                         .start = d_attest_start,
                                                                         .respond = d_attest_respond,
                                                                         .end = d_attest_end};

static enum cspire_code d_aid_start(void *self, struct cspire_call *c, void **session)
{
    (void)self;
    d_say("start\n");
    *session = malloc(1);
    d_self.sessions++;
    D_BEGIN(c);
    return cspire_reply_payload(c, d_of("payload"));
}
static enum cspire_code d_aid_respond(void *self, struct cspire_call *c, void *session,
                                      struct cspire_bytes challenge)
{
    (void)self;
    d_say("respond session=%d", session != NULL);
    d_bytes("challenge", challenge);
    d_say("\n");
    D_BEGIN(c);
    return cspire_reply_payload(c, d_of("response"));
}
static const struct cspire_agent_node_attestor_ops d_agent_attestor = {
    .size = sizeof d_agent_attestor, .start = d_aid_start, .respond = d_aid_respond, .end = d_attest_end};

static enum cspire_code d_attest(void *self, struct cspire_call *c, int32_t pid)
{
    (void)self;
    d_say("attest pid=%d\n", (int)pid);
    D_BEGIN(c);
    return cspire_reply_selector(c, "pid:%d", (int)pid);
}
static enum cspire_code d_attest_reference(void *self, struct cspire_call *c,
                                           const struct cspire_reference *r)
{
    (void)self;
    d_say("reference url=%s", r->type_url);
    d_bytes("value", r->value);
    d_say("\n");
    D_BEGIN(c);
    return cspire_reply_selector(c, "url:%s", r->type_url);
}
static const struct cspire_workload_attestor_ops d_workload_attestor = {
    .size = sizeof d_workload_attestor, .attest = d_attest, .attest_reference = d_attest_reference};

static enum cspire_code d_mint(void *self, struct cspire_call *c, struct cspire_bytes csr, int64_t ttl)
{
    (void)self;
    d_say("mint ttl=%lld", (long long)ttl);
    d_bytes("csr", csr);
    d_say("\n");
    D_BEGIN(c);
    struct cspire_authority root = {d_of("root"), true};
    enum cspire_code code = cspire_reply_certificate(c, d_of("ca"));
    if (code == CSPIRE_OK)
        code = cspire_reply_certificate(c, d_of("intermediate"));
    return code == CSPIRE_OK ? cspire_reply_authority(c, &root) : code;
}
static enum cspire_code d_reply_key(struct cspire_call *c)
{
    struct cspire_jwt_key key = {d_of("key"), "kid", 7, false};
    return cspire_reply_jwt_key(c, &key);
}
static enum cspire_code d_publish_jwt(void *self, struct cspire_call *c, const struct cspire_jwt_key *k)
{
    (void)self;
    d_say("publish kid=%s expires=%lld", k->key_id, (long long)k->expires_at);
    d_bytes("pkix", k->pkix);
    d_say("\n");
    D_BEGIN(c);
    return d_reply_key(c);
}
static enum cspire_code d_get_bundle(void *self, struct cspire_call *c)
{
    (void)self;
    d_say("get_bundle\n");
    D_BEGIN(c);
    struct cspire_authority root = {d_of("root"), false};
    enum cspire_code code = cspire_reply_authority(c, &root);
    return code == CSPIRE_OK ? d_reply_key(c) : code;
}
static const struct cspire_upstream_authority_ops d_upstream = {.size = sizeof d_upstream,
                                                                .mint_x509_ca = d_mint,
                                                                .publish_jwt_key = d_publish_jwt,
                                                                .get_bundle = d_get_bundle};

static enum cspire_code d_with_bundle(const char *what, struct cspire_call *c, const struct cspire_bundle *b)
{
    d_say("%s", what);
    d_bundle(b);
    d_say("\n");
    D_BEGIN(c);
    return CSPIRE_OK;
}
static enum cspire_code d_bundle_updated(void *self, struct cspire_call *c, const struct cspire_bundle *b)
{
    (void)self;
    return d_with_bundle("updated", c, b);
}
static enum cspire_code d_bundle_loaded(void *self, struct cspire_call *c, const struct cspire_bundle *b)
{
    (void)self;
    return d_with_bundle("loaded", c, b);
}
static enum cspire_code d_publish(void *self, struct cspire_call *c, const struct cspire_bundle *b)
{
    (void)self;
    return d_with_bundle("publish", c, b);
}
static const struct cspire_notifier_ops d_notifier = {
    .size = sizeof d_notifier, .bundle_updated = d_bundle_updated, .bundle_loaded = d_bundle_loaded};
static const struct cspire_bundle_publisher_ops d_publisher = {.size = sizeof d_publisher,
                                                               .publish = d_publish};

static inline void d_attributes(const struct cspire_x509_attributes *a)
{
    const struct cspire_name *n = &a->subject;
    d_texts("c", n->country);
    d_texts("o", n->organization);
    d_texts("ou", n->organizational_unit);
    d_texts("l", n->locality);
    d_texts("st", n->province);
    d_texts("street", n->street_address);
    d_texts("postal", n->postal_code);
    d_say(" serial=%s cn=%s", n->serial_number, n->common_name);
    for (size_t i = 0; i < n->extra_count; i++)
        d_say(" %s=%s", n->extra[i].oid, n->extra[i].value);
    d_texts("dns", a->dns_sans);
    d_texts("policies", a->policy_identifiers);
    for (size_t i = 0; i < a->extension_count; i++) {
        d_bytes(a->extensions[i].oid, a->extensions[i].value);
        d_say("%s", a->extensions[i].critical ? "!" : "");
    }
}
static enum cspire_code d_compose(const char *what, struct cspire_call *c, struct cspire_x509_attributes *a)
{
    static const struct cspire_extension extension = {"1.2.3", {(const uint8_t *)"\x05\x00", 2}, true};
    static const struct cspire_name_attribute extra = {"2.5.4.65", "alias"};
    d_say("%s", what);
    d_attributes(a);
    d_say("\n");
    D_BEGIN(c);
    a->subject.common_name = cspire_text(c, "%s+", a->subject.common_name);
    a->subject.extra = &extra;
    a->subject.extra_count = 1;
    a->extensions = &extension;
    a->extension_count = 1;
    enum cspire_code code = cspire_texts_add(c, &a->subject.organization, "more %d", 1);
    if (code == CSPIRE_OK)
        code = cspire_texts_add(c, &a->dns_sans, "added");
    return code == CSPIRE_OK ? cspire_texts_add(c, &a->policy_identifiers, "1.1") : code;
}
static enum cspire_code d_server_ca(void *self, struct cspire_call *c, struct cspire_x509_attributes *a)
{
    (void)self;
    return d_compose("server_ca", c, a);
}
static enum cspire_code d_server_svid(void *self, struct cspire_call *c, struct cspire_x509_attributes *a)
{
    (void)self;
    return d_compose("server_svid", c, a);
}
static enum cspire_code d_agent_svid(void *self, struct cspire_call *c, const char *id,
                                     struct cspire_bytes key, struct cspire_x509_attributes *a)
{
    (void)self;
    d_say("%s", id);
    d_bytes("key", key);
    return d_compose(" agent_svid", c, a);
}
static enum cspire_code d_workload_svid(void *self, struct cspire_call *c, const char *id,
                                        struct cspire_bytes key, struct cspire_x509_attributes *a)
{
    (void)self;
    d_say("%s", id);
    d_bytes("key", key);
    return d_compose(" workload_svid", c, a);
}
static enum cspire_code d_jwt_svid(void *self, struct cspire_call *c, const char *id, const char *claims)
{
    (void)self;
    d_say("%s jwt %s\n", id, claims);
    D_BEGIN(c);
    return d_self.claims != NULL ? cspire_reply_claims(c, d_self.claims) : CSPIRE_OK;
}
static const struct cspire_credential_composer_ops d_composer = {.size = sizeof d_composer,
                                                                 .server_x509_ca = d_server_ca,
                                                                 .server_x509_svid = d_server_svid,
                                                                 .agent_x509_svid = d_agent_svid,
                                                                 .workload_x509_svid = d_workload_svid,
                                                                 .workload_jwt_svid = d_jwt_svid};

static enum cspire_code d_put(void *self, struct cspire_call *c, const struct cspire_svid *s,
                              struct cspire_texts metadata)
{
    (void)self;
    d_say("put id=%s expires=%lld", s->spiffe_id, (long long)s->expires_at);
    for (size_t i = 0; i < s->chain_count; i++)
        d_bytes("chain", s->chain[i]);
    d_bytes("key", s->private_key);
    for (size_t i = 0; i < s->bundle_count; i++)
        d_bytes("bundle", s->bundle[i]);
    for (size_t i = 0; i < s->federated_count; i++)
        d_bytes(s->federated[i].trust_domain, s->federated[i].bundle);
    d_texts("metadata", metadata);
    d_say("\n");
    D_BEGIN(c);
    return CSPIRE_OK;
}
static enum cspire_code d_remove(void *self, struct cspire_call *c, struct cspire_texts metadata)
{
    (void)self;
    d_say("remove");
    d_texts("metadata", metadata);
    d_say("\n");
    D_BEGIN(c);
    return CSPIRE_OK;
}
static const struct cspire_svid_store_ops d_store = {
    .size = sizeof d_store, .put = d_put, .remove = d_remove};

/* --- The plugin --- */

static enum cspire_code d_create(struct cspire_call *c, void **self)
{
    if (d_self.create_code != CSPIRE_OK)
        return cspire_fail(c, d_self.create_code, "not today");
    d_self.created++;
    *self = &d_self;
    return CSPIRE_OK;
}
static void d_destroy(void *self)
{
    ((struct describe *)self)->destroyed++;
}
static enum cspire_code d_configure(void *self, struct cspire_call *c, const struct cspire_config *config)
{
    (void)self;
    d_say("configure td=%s text=%s\n", cspire_config_trust_domain(config), cspire_config_text(config));
    D_BEGIN(c);
    return CSPIRE_OK;
}
static enum cspire_code d_validate(void *self, struct cspire_call *c, const struct cspire_config *config)
{
    (void)self;
    d_say("validate text=%s\n", cspire_config_text(config));
    D_BEGIN(c);
    return cspire_config_text(config)[0] == '!' ? cspire_reply_note(c, "that is %s", "wrong") : CSPIRE_OK;
}

static inline struct cspire_plugin d_plugin(enum cspire_kind kind)
{
    struct cspire_plugin p = {.size = sizeof p,
                              .kind = kind,
                              .create = d_create,
                              .destroy = d_destroy,
                              .configure = d_configure,
                              .validate = d_validate};
    switch (kind) {
    case CSPIRE_SERVER_KEY_MANAGER:
    case CSPIRE_AGENT_KEY_MANAGER:
        p.ops.key_manager = &d_key_manager;
        break;
    case CSPIRE_SERVER_NODE_ATTESTOR:
        p.ops.server_node_attestor = &d_server_attestor;
        break;
    case CSPIRE_AGENT_NODE_ATTESTOR:
        p.ops.agent_node_attestor = &d_agent_attestor;
        break;
    case CSPIRE_UPSTREAM_AUTHORITY:
        p.ops.upstream_authority = &d_upstream;
        break;
    case CSPIRE_NOTIFIER:
        p.ops.notifier = &d_notifier;
        break;
    case CSPIRE_BUNDLE_PUBLISHER:
        p.ops.bundle_publisher = &d_publisher;
        break;
    case CSPIRE_CREDENTIAL_COMPOSER:
        p.ops.credential_composer = &d_composer;
        break;
    case CSPIRE_WORKLOAD_ATTESTOR:
        p.ops.workload_attestor = &d_workload_attestor;
        break;
    case CSPIRE_SVID_STORE:
        p.ops.svid_store = &d_store;
        break;
    }
    return p;
}

#endif
