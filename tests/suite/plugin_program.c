/* SPDX-License-Identifier: Apache-2.0
 *
 * A built-in plugin as an external one, or one of reference.h: served through the plugin kit, so that a suite
 * written for an operations table can be run against the same plugin on both sides of a bridge.
 *
 *     suite_plugin server|agent TYPE NAME
 */
#include "plugin/keymanager.h"
#include "plugin/nodeattestor_server.h"
#include "plugin/plugin.h"
#include "plugin/upstreamauthority.h"
#include "plugin/workloadattestor.h"
#include "tests/suite/reference.h"
#include "tests/suite/served.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>

/* What the whole program serves. Set in main, before anything else runs; create has no other way to it. */
static const struct plugin_builtin *builtin;

/* --- KeyManager --- */

static enum cspire_code reply_key(struct cspire_call *call, const char *id, const struct crypto_signer *key)
{
    /* the four kinds have the same order on the wire as in crypto_key_type */
    return cspire_reply_key(call, id, (enum cspire_key_type)crypto_signer_type(key),
                            served_bytes(crypto_pub_spki(crypto_signer_pub(key))));
}

static enum cspire_code generate_key(void *arg, struct cspire_call *call, const char *id,
                                     enum cspire_key_type type)
{
    const struct served *s = arg;
    const struct keymanager_ops *ops = builtin->ops;
    struct cs_err e = {0};
    CS_AUTO(crypto_signer) key = NULL;
    cs_code code = ops->generate_key(s->self, id, (enum crypto_key_type)type, &key, &e);
    return code == CS_OK ? reply_key(call, id, key) : served_pass(call, code, &e);
}

static enum cspire_code get_key(void *arg, struct cspire_call *call, const char *id)
{
    const struct served *s = arg;
    const struct keymanager_ops *ops = builtin->ops;
    struct cs_err e = {0};
    CS_AUTO(crypto_signer) key = NULL;
    cs_code code = ops->get_key(s->self, id, &key, &e);
    if (code == CS_NOT_FOUND)
        return CSPIRE_OK; /* without a key */
    return code == CS_OK ? reply_key(call, id, key) : served_pass(call, code, &e);
}

static cs_code reply_each(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    struct cspire_call *call = arg;
    enum cspire_code code = reply_key(call, id, key);
    return code == CSPIRE_OK ? CS_OK : cs_fail(e, (cs_code)code, "%s", cspire_call_error(call));
}

static enum cspire_code get_keys(void *arg, struct cspire_call *call)
{
    const struct served *s = arg;
    const struct keymanager_ops *ops = builtin->ops;
    struct cs_err e = {0};
    return served_pass(call, ops->each_key(s->self, reply_each, call, &e), &e);
}

static const EVP_MD *digest_of(enum cspire_hash hash)
{
    switch (hash) {
    case CSPIRE_HASH_SHA256:
        return EVP_sha256();
    case CSPIRE_HASH_SHA384:
        return EVP_sha384();
    case CSPIRE_HASH_SHA512:
        return EVP_sha512();
    default:
        return NULL;
    }
}

/* The digest was made by the host: crypto_sign would make another one of it. */
static bool sign_digest(EVP_PKEY *key, const struct cspire_sign_request *r, unsigned char *out, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    const EVP_MD *md = digest_of(r->hash);
    bool ok = ctx != NULL && md != NULL && EVP_PKEY_sign_init(ctx) > 0 &&
              EVP_PKEY_CTX_set_signature_md(ctx, md) > 0;
    if (ok && r->pss) /* -1 is OpenSSL's name for "as the digest", too; 0 is Go's for the longest */
        ok = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx,
                                              r->salt_length == 0 ? RSA_PSS_SALTLEN_MAX : r->salt_length) > 0;
    ok = ok && EVP_PKEY_sign(ctx, out, len, r->digest.data, r->digest.len) > 0;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static enum cspire_code sign(void *arg, struct cspire_call *call, const struct cspire_sign_request *request)
{
    const struct served *s = arg;
    const struct keymanager_ops *ops = builtin->ops;
    struct cs_err e = {0};
    CS_AUTO(crypto_signer) key = NULL;
    cs_code code = ops->get_key(s->self, request->key_id, &key, &e);
    if (code != CS_OK)
        return served_pass(call, code, &e);
    unsigned char out[1024];
    size_t len = sizeof out;
    if (!sign_digest(crypto_key_pkey(crypto_signer_key(key)), request, out, &len))
        return cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "key \"%s\" cannot sign this", request->key_id);
    return cspire_reply_signature(call, (struct cspire_bytes){out, len},
                                  served_bytes(crypto_pub_spki(crypto_signer_pub(key))));
}

static const struct cspire_key_manager_ops key_manager = {.size = sizeof key_manager,
                                                          .generate_key = generate_key,
                                                          .get_key = get_key,
                                                          .get_keys = get_keys,
                                                          .sign = sign};

/* --- NodeAttestor of servers --- */

static enum cspire_code reply_step(struct cspire_call *call, cs_code code,
                                   const struct nodeattestor_step *step, const struct cs_err *e)
{
    if (code != CS_OK)
        return served_pass(call, code, e);
    if (!step->done)
        return cspire_reply_challenge(call, served_bytes(step->challenge));
    enum cspire_code r = cspire_reply_agent(call, step->agent_id, step->can_reattest);
    for (size_t i = 0; r == CSPIRE_OK && i < step->selector_count; i++)
        r = cspire_reply_selector(call, "%s", step->selector_values[i]);
    return r;
}

static enum cspire_code attest_start(void *arg, struct cspire_call *call,
                                     const struct cspire_attest_request *request, void **session)
{
    const struct served *s = arg;
    const struct nodeattestor_ops *ops = builtin->ops;
    struct nodeattestor_request r = {.payload = served_slice(request->payload),
                                     .client_ip = request->client_ip,
                                     .host = request->forwarded_host};
    struct nodeattestor_step step = {0};
    struct cs_err e = {0};
    cs_code code = ops->start(s->self, &r, session, &step, &e);
    return reply_step(call, code, &step, &e);
}

static enum cspire_code attest_respond(void *arg, struct cspire_call *call, void *session,
                                       struct cspire_bytes response)
{
    const struct served *s = arg;
    const struct nodeattestor_ops *ops = builtin->ops;
    struct nodeattestor_step step = {0};
    struct cs_err e = {0};
    cs_code code = ops->respond(s->self, session, served_slice(response), &step, &e);
    return reply_step(call, code, &step, &e);
}

static void attest_end(void *arg, void *session)
{
    const struct served *s = arg;
    const struct nodeattestor_ops *ops = builtin->ops;
    ops->end(s->self, session);
}

static const struct cspire_server_node_attestor_ops node_attestor = {
    .size = sizeof node_attestor, .start = attest_start, .respond = attest_respond, .end = attest_end};

/* --- UpstreamAuthority --- */

static enum cspire_code mint(void *arg, struct cspire_call *call, struct cspire_bytes csr, int64_t ttl_s)
{
    const struct served *s = arg;
    const struct upstreamauthority_ops *ops = builtin->ops;
    struct upstreamauthority_result got = {0};
    struct cs_err e = {0};
    cs_code code = ops->mint_x509_ca(s->self, served_slice(csr), ttl_s, &got, &e);
    enum cspire_code r = served_pass(call, code, &e);
    for (size_t i = 0; r == CSPIRE_OK && i < got.chain_count; i++)
        r = cspire_reply_certificate(call, served_bytes(cs_buf_slice(&got.chain[i])));
    for (size_t i = 0; r == CSPIRE_OK && i < got.root_count; i++) {
        struct cspire_authority root = {served_bytes(cs_buf_slice(&got.roots[i])), got.roots_tainted[i]};
        r = cspire_reply_authority(call, &root);
    }
    upstreamauthority_result_free(&got);
    return r;
}

static cs_code reply_jwt_key(void *arg, const struct upstreamauthority_jwt_key *k)
{
    struct cspire_jwt_key key = {.pkix = served_bytes(k->pkix), .key_id = k->kid, .expires_at = k->not_after};
    return (cs_code)cspire_reply_jwt_key(arg, &key);
}

static enum cspire_code publish(void *arg, struct cspire_call *call, const struct cspire_jwt_key *key)
{
    const struct served *s = arg;
    const struct upstreamauthority_ops *ops = builtin->ops;
    if (ops->publish_jwt_key == NULL)
        return cspire_fail(call, CSPIRE_UNIMPLEMENTED, "publishing upstream is unsupported");
    struct upstreamauthority_jwt_key k = {
        .pkix = served_slice(key->pkix), .kid = key->key_id, .not_after = key->expires_at};
    struct cs_err e = {0};
    cs_code code = ops->publish_jwt_key(s->self, &k, reply_jwt_key, call, &e);
    return served_pass(call, code, &e);
}

static const struct cspire_upstream_authority_ops upstream_authority = {
    .size = sizeof upstream_authority, .mint_x509_ca = mint, .publish_jwt_key = publish};

/* --- WorkloadAttestor --- */

static enum cspire_code attest(void *arg, struct cspire_call *call, int32_t pid)
{
    const struct served *s = arg;
    const struct workloadattestor_ops *ops = builtin->ops;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    struct workloadattestor_values values = {.arena = arena};
    struct cs_err e = {0};
    cs_code code = ops->attest(s->self, (pid_t)pid, &values, &e);
    enum cspire_code r = served_pass(call, code, &e);
    for (size_t i = 0; r == CSPIRE_OK && i < values.count; i++)
        r = cspire_reply_selector(call, "%s", values.at[i]);
    return r;
}

static const struct cspire_workload_attestor_ops workload_attestor = {.size = sizeof workload_attestor,
                                                                      .attest = attest};

/* --- Life --- */

static enum cspire_code create(struct cspire_call *call, void **out)
{
    struct served *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    s->ops = builtin->ops;
    s->env.clock = &cs_clock_system;
    *out = s;
    return CSPIRE_OK;
}

static void destroy(void *arg)
{
    struct served *s = arg;
    if (s->self != NULL)
        builtin->destroy(s->self);
    cs_free(s->trust_domain);
    cs_free(s);
}

static cs_code configure_builtin(struct served *s, const struct cspire_config *config, struct cs_err *e)
{
    if (s->self == NULL) {
        cs_free(s->trust_domain);
        s->trust_domain = cs_strdup(cspire_config_trust_domain(config));
        s->env.trust_domain = s->trust_domain;
        if (s->trust_domain == NULL)
            return cs_nomem(e);
        CS_TRY(builtin->create(&s->env, &s->self, e));
    }
    if (builtin->configure == NULL)
        return CS_OK;
    return builtin->configure(s->self, cs_slice_str(cspire_config_text(config)), e);
}

static enum cspire_code configure(void *arg, struct cspire_call *call, const struct cspire_config *config)
{
    struct cs_err e = {0};
    cs_code code = configure_builtin(arg, config, &e);
    return served_pass(call, code, &e);
}

static enum cspire_code validate(void *arg, struct cspire_call *call, const struct cspire_config *config)
{
    struct plugin_env env = ((const struct served *)arg)->env;
    env.trust_domain = cspire_config_trust_domain(config);
    struct plugin_notes notes = {0};
    struct cs_err e = {0};
    cs_code code = CS_OK;
    if (builtin->validate != NULL)
        code = builtin->validate(&env, cs_slice_str(cspire_config_text(config)), &notes, &e);
    enum cspire_code r = served_pass(call, code, &e);
    for (size_t i = 0; r == CSPIRE_OK && i < notes.count; i++)
        r = cspire_reply_note(call, "%s", notes.texts[i]);
    plugin_notes_free(&notes);
    return r;
}

static const struct plugin_builtin *find(const struct plugin_kind *kinds, size_t count, const char *type,
                                         const char *name)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; strcmp(kinds[i].type, type) == 0 && k < kinds[i].builtin_count; k++) {
            if (strcmp(kinds[i].builtins[k]->name, name) == 0)
                return kinds[i].builtins[k];
        }
    }
    return NULL;
}

/* Ours of an operations table, and the kit's way to it. */
static const struct {
    const char *type;
    enum cspire_kind server, agent; /* 0: not of that program */
    union cspire_ops server_ops, agent_ops;
} kinds[] = {
    {PLUGIN_TYPE_KEYMANAGER,
     CSPIRE_SERVER_KEY_MANAGER,
     CSPIRE_AGENT_KEY_MANAGER,
     {.key_manager = &key_manager},
     {.key_manager = &key_manager}},
    {PLUGIN_TYPE_NODEATTESTOR,
     CSPIRE_SERVER_NODE_ATTESTOR,
     CSPIRE_AGENT_NODE_ATTESTOR,
     {.server_node_attestor = &node_attestor},
     {.agent_node_attestor = &served_agent_node_attestor}},
    {PLUGIN_TYPE_UPSTREAMAUTHORITY,
     CSPIRE_UPSTREAM_AUTHORITY,
     0,
     {.upstream_authority = &upstream_authority},
     {0}},
    {PLUGIN_TYPE_NOTIFIER, CSPIRE_NOTIFIER, 0, {.notifier = &served_notifier}, {0}},
    {PLUGIN_TYPE_BUNDLEPUBLISHER,
     CSPIRE_BUNDLE_PUBLISHER,
     0,
     {.bundle_publisher = &served_bundle_publisher},
     {0}},
    {PLUGIN_TYPE_CREDENTIALCOMPOSER,
     CSPIRE_CREDENTIAL_COMPOSER,
     0,
     {.credential_composer = &served_credential_composer},
     {0}},
    {PLUGIN_TYPE_WORKLOADATTESTOR,
     0,
     CSPIRE_WORKLOAD_ATTESTOR,
     {0},
     {.workload_attestor = &workload_attestor}},
    {PLUGIN_TYPE_SVIDSTORE, 0, CSPIRE_SVID_STORE, {0}, {.svid_store = &served_svid_store}},
};

static bool choose(struct cspire_plugin *plugin, bool server, const char *type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].type, type) == 0) {
            plugin->kind = server ? kinds[i].server : kinds[i].agent;
            plugin->ops = server ? kinds[i].server_ops : kinds[i].agent_ops;
            return plugin->kind != 0;
        }
    return false;
}

static const struct plugin_builtin *look_up(bool server, const char *type, const char *name)
{
    const struct plugin_builtin *b = server ? find(plugin_server_kinds, plugin_server_kind_count, type, name)
                                            : find(plugin_agent_kinds, plugin_agent_kind_count, type, name);
    if (b != NULL)
        return b;
    return server ? find(reference_server_kinds, reference_server_kind_count, type, name)
                  : find(reference_agent_kinds, reference_agent_kind_count, type, name);
}

int main(int argc, char **argv)
{
    struct cspire_plugin plugin = {.size = sizeof plugin,
                                   .create = create,
                                   .destroy = destroy,
                                   .configure = configure,
                                   .validate = validate};
    bool server = argc == 4 && strcmp(argv[1], "server") == 0;
    if (argc == 4)
        builtin = look_up(server, argv[2], argv[3]);
    if (builtin == NULL || !choose(&plugin, server, argv[2])) {
        fprintf(stderr, "usage: suite_plugin server|agent TYPE NAME, of a built-in plugin\n");
        return 2;
    }
    return cspire_plugin_main(argc, argv, &plugin);
}
