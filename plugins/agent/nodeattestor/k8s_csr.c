/* SPDX-License-Identifier: Apache-2.0
 *
 * Agent NodeAttestor "k8s_csr": proves the node by the client certificate that its cluster gave it. Key and
 * certificate are files as the program `node-attestor` leaves them, or obtained in the same way.
 */
#include "plugins/shared/k8s_csr/k8s_csr.h"
#include "base/file.h"
#include "base/text.h"
#include "config/plugin_config.h"
#include "plugin/module.h"
#include "plugin/nodeattestor_agent.h"
#include "plugin/settings.h"
#include "plugins/shared/k8s_csr/request.h"

#include <stdlib.h>

#define NAME "nodeattestor(k8s_csr)"
#define FILE_MAX ((size_t)256 * 1024)
#define KEY_USUAL ((size_t)16 * 1024)

struct attestor {
    const struct plugin_env *env;
    struct plugin_slot config; /* of struct config_agent_k8s_csr */
};

/* --- Life --- */

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct attestor *a = cs_calloc(1, sizeof *a);
    *self = NULL;
    if (a == NULL)
        return cs_nomem(e);
    a->env = env;
    plugin_slot_init(&a->config);
    *self = a;
    return CS_OK;
}

static void destroy(void *self)
{
    struct attestor *a = self;
    plugin_slot_destroy(&a->config);
    cs_free(a);
}

static cs_code find_requester(const struct k8s_csr_requester **out, struct cs_err *e)
{
    const struct plugin_builtin *found;
    CS_TRY(plugin_module_plugin(K8S_CSR_MODULE, "agent", PLUGIN_TYPE_NODEATTESTOR, K8S_CSR_REQUESTER, &found,
                                e));
    *out = found->ops;
    return CS_OK;
}

static cs_code read_config(struct cs_slice data, struct config_agent_k8s_csr **out, struct cs_err *e)
{
    CS_CLEANUP(plugin_settings_drop) struct config_agent_k8s_csr *c = plugin_settings_new(sizeof *c, NULL);
    *out = NULL;
    if (c == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_agent_k8s_csr(data, plugin_settings_arena(c), c, e));
    if (!k8s_csr_node_name_ok(cs_slice_str(c->cluster)))
        return cs_fail(e, CS_INVALID, "cluster \"%.128s\" can be no part of a SPIFFE ID", c->cluster);
    *out = CS_MOVE(c);
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct attestor *a = self;
    const struct k8s_csr_requester *requester;
    CS_CLEANUP(plugin_settings_drop) struct config_agent_k8s_csr *c = NULL;
    CS_TRY(read_config(data, &c, e));
    if (c->request && find_requester(&requester, e) != CS_OK) /* at the start, and not at midnight */
        return cs_wrap(e, "certificate_request");
    plugin_slot_set(&a->config, CS_MOVE(c));
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    CS_CLEANUP(plugin_settings_drop) struct config_agent_k8s_csr *c = NULL;
    struct cs_err fault;
    return plugin_notes_fault(notes, read_config(data, &c, &fault), &fault, e);
}

/* --- The node's key and certificate --- */

struct identity {
    struct x509_chain chain;
    struct crypto_signer *signer;
};

static void identity_free(struct identity *id)
{
    x509_chain_free(&id->chain);
    crypto_signer_unref(id->signer);
    *id = (struct identity){0};
}

static cs_code load_key(const char *path, struct identity *id, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf pem = {0};
    CS_AUTO(crypto_key) key = NULL;
    if (!cs_buf_reserve(&pem, KEY_USUAL))
        return cs_nomem(e);
    CS_TRY(cs_file_read(path, KEY_USUAL - 1, &pem, e));
    if (crypto_key_parse_pem(cs_buf_slice(&pem), &key, e) != CS_OK)
        return cs_wrap(e, "%s", path);
    return crypto_signer_of_key(key, &id->signer, e);
}

static cs_code load_certs(const char *path, struct identity *id, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_TRY(cs_file_read(path, FILE_MAX, &pem, e));
    if (x509_chain_parse_pem(cs_buf_slice(&pem), K8S_CSR_CHAIN_MAX, &id->chain, e) != CS_OK)
        return cs_wrap(e, "%s", path);
    return CS_OK;
}

static cs_code load_identity(const char *folder, struct identity *id, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *key = cs_asprintf("%s/" K8S_CSR_KEY_FILE, folder);
    CS_CLEANUP(cs_freep) char *cert = cs_asprintf("%s/" K8S_CSR_CERT_FILE, folder);
    if (key == NULL || cert == NULL)
        return cs_nomem(e);
    CS_TRY(load_certs(cert, id, e));
    CS_TRY(load_key(key, id, e));
    if (!cs_slice_eq(id->chain.at[0]->spki, crypto_pub_spki(crypto_signer_pub(id->signer))))
        return cs_fail(e, CS_INVALID, "%s is not the certificate of %s", cert, key);
    return CS_OK;
}

/* Past four fifths of its time a certificate is asked for anew, while the old one still serves. */
static bool is_fresh(const struct attestor *a, const struct identity *id)
{
    const struct x509_cert *leaf = id->chain.at[0];
    const int64_t now = cs_now_s(a->env->clock);
    return now >= leaf->not_before && now < leaf->not_after - (leaf->not_after - leaf->not_before) / 5;
}

static bool is_valid(const struct attestor *a, const struct identity *id)
{
    const int64_t now = cs_now_s(a->env->clock);
    return now >= id->chain.at[0]->not_before && now <= id->chain.at[0]->not_after;
}

static void tell(void *arg, const char *text)
{
    const struct attestor *a = arg;
    cs_log_info(&a->env->log, text);
}

static cs_code node_name(const struct config_agent_k8s_csr *c, struct cs_buf *out, struct cs_err *e)
{
    char host[K8S_CSR_HOST_SIZE];
    const char *from_env = getenv(c->node_name_env);
    if (*c->node_name != '\0')
        cs_buf_add_str(out, c->node_name);
    else if (from_env != NULL && *from_env != '\0')
        cs_buf_add_str(out, from_env);
    else if (k8s_csr_host_name(host))
        cs_buf_add_str(out, host);
    if (!cs_buf_ok(out))
        return cs_nomem(e);
    return k8s_csr_node_name_ok(cs_buf_slice(out))
               ? CS_OK
               : cs_fail(e, CS_INVALID, "\"%.128s\" is no node's name", cs_buf_cstr(out));
}

static cs_code obtain(struct attestor *a, const struct config_agent_k8s_csr *c, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf name = {0};
    const struct k8s_csr_requester *requester;
    CS_TRY(find_requester(&requester, e));
    CS_TRY(node_name(c, &name, e));
    const struct k8s_csr_request r = {
        .kubeconfig = c->kubeconfig,
        .ca_file = c->ca_cert_path,
        .client_cert_file = c->client_cert_path,
        .client_key_file = c->client_key_path,
        .node_name = cs_buf_cstr(&name),
        .id_dir = c->id_dir,
        .timeout_ns = c->timeout_ns,
        .stop = a->env->stop,
        .tell = tell,
        .arg = a,
    };
    return requester->obtain(&r, e);
}

static cs_code get_identity(struct attestor *a, const struct config_agent_k8s_csr *c, struct identity *id,
                            struct cs_err *e)
{
    struct cs_err fault;
    cs_code rc = load_identity(c->id_dir, id, e);
    if (!c->request || (rc == CS_OK && is_fresh(a, id)))
        return rc;
    if (obtain(a, c, &fault) == CS_OK) {
        identity_free(id);
        return load_identity(c->id_dir, id, e);
    }
    if (rc == CS_OK && is_valid(a, id)) {
        cs_log_warn(&a->env->log,
                    "Unable to obtain a new certificate; the old one is used as long as it is valid",
                    KV_ERR(&fault));
        return CS_OK;
    }
    return cs_fail(e, fault.code, "unable to obtain a certificate: %s", fault.text);
}

/* --- Attesting --- */

static cs_code answer(const struct attestor *a, const struct config_agent_k8s_csr *c,
                      const struct identity *id, struct cs_slice spki, struct cs_slice challenge,
                      struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf claim = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf signature = {0};
    uint8_t nonce[K8S_CSR_NONCE_LEN];
    struct k8s_csr_response r;
    const enum crypto_sig scheme = crypto_sig_default(crypto_signer_type(id->signer));
    if (scheme == CRYPTO_SIG_NONE)
        return cs_fail(e, CS_INVALID, "keys of type %s are not supported",
                       crypto_key_type_name(crypto_signer_type(id->signer)));
    CS_TRY(k8s_csr_challenge_read(challenge, nonce, e));
    CS_TRY(cs_random(r.nonce, sizeof r.nonce, e));
    k8s_csr_claim_write(&claim, &(struct k8s_csr_claim){
                                    .trust_domain = a->env->trust_domain,
                                    .cluster = c->cluster,
                                    .server_nonce = cs_slice_of(nonce, sizeof nonce),
                                    .agent_nonce = cs_slice_of(r.nonce, sizeof r.nonce),
                                    .spki = spki,
                                    .cert_hash = id->chain.at[0]->sha256,
                                });
    if (!cs_buf_ok(&claim))
        return cs_nomem(e);
    CS_TRY(crypto_sign(id->signer, scheme, cs_buf_slice(&claim), &signature, e));
    r.signature = cs_buf_slice(&signature);
    k8s_csr_response_write(out, &r);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static cs_code attest_with(struct attestor *a, const struct config_agent_k8s_csr *c,
                           const struct nodeattestor_agent_stream *stream, struct cs_err *e)
{
    CS_CLEANUP(identity_free) struct identity id = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf message = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf challenge = {0};
    bool done = false;
    if (get_identity(a, c, &id, e) != CS_OK)
        return cs_wrap(e, NAME);
    k8s_csr_hello_write(&message, c->cluster, &id.chain);
    if (!cs_buf_ok(&message))
        return cs_nomem(e);
    CS_TRY(stream->exchange(stream->arg, cs_buf_slice(&message), &challenge, &done, e));
    if (done) /* whoever that was, it did not ask for the key */
        return cs_fail(e, CS_INTERNAL, NAME ": the server sent no challenge");
    cs_buf_reset(&message);
    if (answer(a, c, &id, stream->spki, cs_buf_slice(&challenge), &message, e) != CS_OK)
        return cs_wrap(e, NAME);
    CS_TRY(stream->exchange(stream->arg, cs_buf_slice(&message), &challenge, &done, e));
    return done ? CS_OK : cs_fail(e, CS_INTERNAL, NAME ": server issued unexpected challenge");
}

static cs_code attest(void *self, const struct nodeattestor_agent_stream *stream, struct cs_err *e)
{
    struct attestor *a = self;
    CS_CLEANUP(plugin_settings_drop) const struct config_agent_k8s_csr *c = plugin_slot_get(&a->config);
    if (c == NULL)
        return cs_fail(e, CS_PRECONDITION, NAME ": not configured");
    return attest_with(a, c, stream, e);
}

static const struct nodeattestor_agent_ops ops = {.attest = attest};

const struct plugin_builtin plugin_agent_nodeattestor_k8s_csr = {
    .name = K8S_CSR_NAME,
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
