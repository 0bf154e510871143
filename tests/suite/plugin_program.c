/* SPDX-License-Identifier: Apache-2.0
 *
 * A built-in plugin as an external one: served through the plugin kit, so that a suite written for an
 * operations table can be run against the same plugin on both sides of a bridge.
 *
 *     suite_plugin server|agent TYPE NAME
 */
#include "cspire/plugin.h"
#include "plugin/keymanager.h"
#include "plugin/nodeattestor_server.h"
#include "plugin/plugin.h"
#include "plugin/upstreamauthority.h"
#include "plugin/workloadattestor.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdio.h>

/* What the whole program serves. Set in main, before anything else runs; create has no other way to it. */
static const struct plugin_builtin *builtin;

/* self of the kit; the built-in is made at the first configuration, which brings the trust domain. */
struct served {
    struct plugin_env env;
    char *trust_domain;
    void *self;
};

static enum cspire_code pass(struct cspire_call *call, cs_code code, const struct cs_err *e)
{
    return code == CS_OK ? CSPIRE_OK : cspire_fail(call, (enum cspire_code)code, "%s", e->text);
}

static struct cs_slice slice(struct cspire_bytes b)
{
    return cs_slice_of(b.data, b.len);
}

static struct cspire_bytes bytes(struct cs_slice s)
{
    return (struct cspire_bytes){.data = s.data, .len = s.len};
}

/* --- KeyManager --- */

static enum cspire_code reply_key(struct cspire_call *call, const char *id, const struct crypto_signer *key)
{
    /* the four kinds have the same order on the wire as in crypto_key_type */
    return cspire_reply_key(call, id, (enum cspire_key_type)crypto_signer_type(key),
                            bytes(crypto_pub_spki(crypto_signer_pub(key))));
}

static enum cspire_code generate_key(void *arg, struct cspire_call *call, const char *id,
                                     enum cspire_key_type type)
{
    const struct served *s = arg;
    const struct keymanager_ops *ops = builtin->ops;
    struct cs_err e = {0};
    CS_AUTO(crypto_signer) key = NULL;
    cs_code code = ops->generate_key(s->self, id, (enum crypto_key_type)type, &key, &e);
    return code == CS_OK ? reply_key(call, id, key) : pass(call, code, &e);
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
    return code == CS_OK ? reply_key(call, id, key) : pass(call, code, &e);
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
    return pass(call, ops->each_key(s->self, reply_each, call, &e), &e);
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
        return pass(call, code, &e);
    unsigned char out[1024];
    size_t len = sizeof out;
    if (!sign_digest(crypto_key_pkey(crypto_signer_key(key)), request, out, &len))
        return cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "key \"%s\" cannot sign this", request->key_id);
    return cspire_reply_signature(call, (struct cspire_bytes){out, len},
                                  bytes(crypto_pub_spki(crypto_signer_pub(key))));
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
        return pass(call, code, e);
    if (!step->done)
        return cspire_reply_challenge(call, bytes(step->challenge));
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
    struct nodeattestor_request r = {
        .payload = slice(request->payload), .client_ip = request->client_ip, .host = request->forwarded_host};
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
    cs_code code = ops->respond(s->self, session, slice(response), &step, &e);
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
    cs_code code = ops->mint_x509_ca(s->self, slice(csr), ttl_s, &got, &e);
    enum cspire_code r = pass(call, code, &e);
    for (size_t i = 0; r == CSPIRE_OK && i < got.chain_count; i++)
        r = cspire_reply_certificate(call, bytes(cs_buf_slice(&got.chain[i])));
    for (size_t i = 0; r == CSPIRE_OK && i < got.root_count; i++) {
        struct cspire_authority root = {bytes(cs_buf_slice(&got.roots[i])), got.roots_tainted[i]};
        r = cspire_reply_authority(call, &root);
    }
    upstreamauthority_result_free(&got);
    return r;
}

static cs_code reply_jwt_key(void *arg, const struct upstreamauthority_jwt_key *k)
{
    struct cspire_jwt_key key = {.pkix = bytes(k->pkix), .key_id = k->kid, .expires_at = k->not_after};
    return (cs_code)cspire_reply_jwt_key(arg, &key);
}

static enum cspire_code publish(void *arg, struct cspire_call *call, const struct cspire_jwt_key *key)
{
    const struct served *s = arg;
    const struct upstreamauthority_ops *ops = builtin->ops;
    if (ops->publish_jwt_key == NULL)
        return cspire_fail(call, CSPIRE_UNIMPLEMENTED, "publishing upstream is unsupported");
    struct upstreamauthority_jwt_key k = {
        .pkix = slice(key->pkix), .kid = key->key_id, .not_after = key->expires_at};
    struct cs_err e = {0};
    cs_code code = ops->publish_jwt_key(s->self, &k, reply_jwt_key, call, &e);
    return pass(call, code, &e);
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
    enum cspire_code r = pass(call, code, &e);
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
    return pass(call, code, &e);
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
    enum cspire_code r = pass(call, code, &e);
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

static bool choose(struct cspire_plugin *plugin, bool server, const char *type)
{
    if (strcmp(type, PLUGIN_TYPE_KEYMANAGER) == 0) {
        plugin->kind = server ? CSPIRE_SERVER_KEY_MANAGER : CSPIRE_AGENT_KEY_MANAGER;
        plugin->ops.key_manager = &key_manager;
    } else if (server && strcmp(type, PLUGIN_TYPE_NODEATTESTOR) == 0) {
        plugin->kind = CSPIRE_SERVER_NODE_ATTESTOR;
        plugin->ops.server_node_attestor = &node_attestor;
    } else if (server && strcmp(type, PLUGIN_TYPE_UPSTREAMAUTHORITY) == 0) {
        plugin->kind = CSPIRE_UPSTREAM_AUTHORITY;
        plugin->ops.upstream_authority = &upstream_authority;
    } else if (!server && strcmp(type, PLUGIN_TYPE_WORKLOADATTESTOR) == 0) {
        plugin->kind = CSPIRE_WORKLOAD_ATTESTOR;
        plugin->ops.workload_attestor = &workload_attestor;
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct cspire_plugin plugin = {.size = sizeof plugin,
                                   .create = create,
                                   .destroy = destroy,
                                   .configure = configure,
                                   .validate = validate};
    bool server = argc == 4 && strcmp(argv[1], "server") == 0;
    if (argc == 4 && server)
        builtin = find(plugin_server_kinds, plugin_server_kind_count, argv[2], argv[3]);
    else if (argc == 4)
        builtin = find(plugin_agent_kinds, plugin_agent_kind_count, argv[2], argv[3]);
    if (builtin == NULL || !choose(&plugin, server, argv[2])) {
        fprintf(stderr, "usage: suite_plugin server|agent TYPE NAME, of a built-in plugin\n");
        return 2;
    }
    return cspire_plugin_main(argc, argv, &plugin);
}
