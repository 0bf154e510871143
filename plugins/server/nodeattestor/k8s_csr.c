/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "k8s_csr": a node of Kubernetes proves itself with a client certificate of its cluster, such
 * as kubelets have and `node-attestor` obtains, and a signature by its key.
 *
 * A cluster's CA signs many things: certificates of users, of API servers and, often, those with which
 * kubelets serve, whose subject is the same. What counts here is only what the signer
 * kubernetes.io/kube-apiserver-client-kubelet gives: that subject alone, no names besides, for clients only.
 */
#include "plugins/shared/k8s_csr/k8s_csr.h"
#include "base/file.h"
#include "base/text.h"
#include "config/plugin_config.h"
#include "crypto/x509_verify.h"
#include "plugin/nodeattestor_server.h"
#include "plugin/settings.h"
#include "spiffe/id.h"

#define CA_FILE_MAX ((size_t)1 << 20)
#define CA_MAX 64 /* certificates in one file */

struct attestor {
    const struct plugin_env *env;
    struct plugin_slot config; /* of struct config_k8s_csr */
};

/* One node that attests. */
struct session {
    const struct config_k8s_csr *config; /* a reference */
    struct cs_arena *arena;              /* of all that is kept for `step` */
    const struct config_k8s_csr_cluster *cluster;
    struct x509_chain chain;
    struct cs_slice spki; /* of the key that the SVID is for */
    const char *node;
    uint8_t nonce[K8S_CSR_NONCE_LEN];
    bool asked; /* the nonce was sent, and not answered yet */
    struct cs_buf challenge;
    const char *selectors[2];
};

/* --- Configuration --- */

static cs_code check_cluster(const struct config_k8s_csr_cluster *c, struct cs_err *e)
{
    if (!k8s_csr_node_name_ok(cs_slice_str(c->name)))
        return cs_fail(e, CS_INVALID, "cluster \"%.128s\": the name can be no part of a SPIFFE ID", c->name);
    for (size_t i = 0; i < c->node_allow_list.len; i++)
        if (!k8s_csr_node_name_ok(cs_slice_str(c->node_allow_list.at[i])))
            return cs_fail(e, CS_INVALID, "cluster \"%.128s\": node_allow_list: \"%.128s\" is no node's name",
                           c->name, c->node_allow_list.at[i]);
    return CS_OK;
}

/* Without files: what validate may look at too. */
static cs_code read_config(struct cs_slice data, struct config_k8s_csr **out, struct cs_err *e)
{
    CS_CLEANUP(plugin_settings_drop) struct config_k8s_csr *c = plugin_settings_new(sizeof *c, NULL);
    *out = NULL;
    if (c == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_k8s_csr(data, plugin_settings_arena(c), c, e));
    for (size_t i = 0; i < c->len; i++)
        CS_TRY(check_cluster(&c->at[i], e));
    *out = CS_MOVE(c);
    return CS_OK;
}

/* --- The CAs of a cluster, read anew each time, since clusters change theirs --- */

static cs_code load_file(const char *path, struct x509_chain *roots, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_CLEANUP(x509_chain_free) struct x509_chain in = {0};
    CS_TRY(cs_file_read(path, CA_FILE_MAX, &pem, e));
    if (x509_chain_parse_pem(cs_buf_slice(&pem), CA_MAX, &in, e) != CS_OK)
        return cs_wrap(e, "%s", path);
    for (size_t i = 0; i < in.count; i++) {
        /* a certificate that is no CA would be a root for itself alone: a mistake for sure */
        if (!in.at[i]->ext.has_basic_constraints || !in.at[i]->ext.is_ca)
            return cs_fail(e, CS_INVALID, "%s: certificate %zu is not a CA", path, i + 1);
        CS_TRY(x509_chain_add(roots, in.at[i], e));
    }
    return CS_OK;
}

static cs_code load_roots(const struct config_k8s_csr_cluster *c, struct x509_chain *roots, struct cs_err *e)
{
    for (size_t i = 0; i < c->client_ca_files.len; i++)
        if (load_file(c->client_ca_files.at[i], roots, e) != CS_OK)
            return cs_wrap(e, "unable to load client CA of cluster \"%.128s\"", c->name);
    return CS_OK;
}

/* --- Life --- */

static void destroy(void *self)
{
    struct attestor *a = self;
    plugin_slot_destroy(&a->config);
    cs_free(a);
}

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct attestor *a = cs_calloc(1, sizeof *a);
    *self = a;
    if (a == NULL)
        return cs_nomem(e);
    a->env = env;
    plugin_slot_init(&a->config);
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct attestor *a = self;
    CS_CLEANUP(plugin_settings_drop) struct config_k8s_csr *c = NULL;
    CS_TRY(read_config(data, &c, e));
    for (size_t i = 0; i < c->len; i++) {
        CS_CLEANUP(x509_chain_free) struct x509_chain roots = {0};
        CS_TRY(load_roots(&c->at[i], &roots, e));
    }
    plugin_slot_set(&a->config, CS_MOVE(c));
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    CS_CLEANUP(plugin_settings_drop) struct config_k8s_csr *c = NULL;
    struct cs_err fault;
    return plugin_notes_fault(notes, read_config(data, &c, &fault), &fault, e);
}

/* --- The certificate --- */

static cs_code verify_chain(const struct attestor *a, const struct session *s, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain roots = {0};
    struct cs_err fault;
    if (load_roots(s->cluster, &roots, &fault) != CS_OK)
        return cs_fail(e, CS_INTERNAL, "%s", fault.text);
    const struct x509_verify_params p = {
        .roots = (const struct x509_cert *const *)roots.at,
        .root_count = roots.count,
        .now = cs_now_s(a->env->clock),
        .purpose = X509_PURPOSE_CLIENT,
    };
    if (x509_verify(&s->chain, &p, NULL, NULL, &fault) == CS_OK)
        return CS_OK;
    return cs_fail(e, CS_DENIED, "certificate verification failed: %s", fault.text);
}

/* What the signer of kubelets' client certificates gives, and the one of their serving certificates, with the
 * same subject, does not. */
static cs_code check_usage(const struct x509_extensions *x, struct cs_err *e)
{
    if (x->has_basic_constraints && x->is_ca)
        return cs_fail(e, CS_DENIED, "certificate is a CA");
    if (!x->has_key_usage || (x->key_usage & X509_KU_DIGITAL_SIGNATURE) == 0)
        return cs_fail(e, CS_DENIED, "certificate does not have the key usage digital signature");
    if (!x->has_eku || x->eku != X509_EKU_CLIENT_AUTH)
        return cs_fail(e, CS_DENIED, "certificate is not for client authentication alone");
    if (x->has_san)
        return cs_fail(e, CS_DENIED, "certificate has subject alternative names");
    return CS_OK;
}

static cs_code check_allowed(const struct session *s, struct cs_err *e)
{
    const struct config_strings *list = &s->cluster->node_allow_list;
    if (list->len == 0 || config_strings_have(list, s->node))
        return CS_OK;
    return cs_fail(e, CS_DENIED, "node \"%s\" is not in node_allow_list of cluster \"%s\"", s->node,
                   s->cluster->name);
}

static cs_code check_cert(const struct attestor *a, struct session *s, struct cs_err *e)
{
    struct cs_slice node;
    CS_TRY(verify_chain(a, s, e));
    CS_TRY(check_usage(&s->chain.at[0]->ext, e));
    CS_TRY(k8s_csr_subject(s->chain.at[0]->subject, &node, e));
    s->node = cs_arena_strndup(s->arena, (const char *)node.data, node.len);
    if (s->node == NULL)
        return cs_nomem(e);
    return check_allowed(s, e);
}

/* --- Attestation --- */

static void end(void *self, void *session)
{
    (void)self;
    struct session *s = session;
    plugin_settings_unref(s->config);
    x509_chain_free(&s->chain);
    cs_buf_free(&s->challenge);
    cs_arena_free(s->arena);
    cs_free(s);
}

static inline void session_drop(struct session **s)
{
    if (*s != NULL)
        end(NULL, *s);
    *s = NULL;
}

static cs_code session_new(struct attestor *a, struct cs_slice spki, struct session **out, struct cs_err *e)
{
    CS_AUTO(session) s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->arena = cs_arena_new(0, 0);
    if (s->arena == NULL)
        return cs_nomem(e);
    s->config = plugin_slot_get(&a->config);
    if (s->config == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    s->spki = cs_slice_of(cs_arena_memdup(s->arena, spki.data, spki.len), spki.len);
    if (s->spki.data == NULL)
        return cs_nomem(e);
    *out = CS_MOVE(s);
    return CS_OK;
}

static cs_code read_hello(struct session *s, struct cs_slice payload, struct cs_err *e)
{
    struct k8s_csr_hello hello;
    struct cs_err fault;
    CS_TRY(k8s_csr_hello_read(payload, s->arena, &hello, e));
    for (size_t i = 0; i < s->config->len && s->cluster == NULL; i++)
        if (strcmp(s->config->at[i].name, hello.cluster) == 0)
            s->cluster = &s->config->at[i];
    if (s->cluster == NULL)
        return cs_fail(e, CS_INVALID, "not configured for cluster \"%.128s\"", hello.cluster);
    if (x509_chain_parse_list(hello.certs, hello.count, &s->chain, &fault) != CS_OK)
        return cs_fail(e, CS_INVALID, "payload: %s", fault.text);
    return CS_OK;
}

static cs_code start(void *self, const struct nodeattestor_request *request, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    struct attestor *a = self;
    CS_AUTO(session) s = NULL;
    *session = NULL;
    if (request->spki.len == 0)
        return cs_fail(e, CS_INVALID, "the CSR does not prove its key");
    CS_TRY(session_new(a, request->spki, &s, e));
    CS_TRY(read_hello(s, request->payload, e));
    CS_TRY(check_cert(a, s, e));
    CS_TRY(cs_random(s->nonce, sizeof s->nonce, e));
    k8s_csr_challenge_write(&s->challenge, s->nonce);
    if (!cs_buf_ok(&s->challenge))
        return cs_nomem(e);
    s->asked = true;
    step->done = false;
    step->challenge = cs_buf_slice(&s->challenge);
    *session = CS_MOVE(s);
    return CS_OK;
}

static cs_code check_possession(const struct attestor *a, const struct session *s,
                                const struct k8s_csr_response *r, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf claim = {0};
    struct crypto_pub *pub;
    struct cs_err fault;
    const struct x509_cert *leaf = s->chain.at[0];
    if (x509_cert_pub(leaf, &pub, &fault) != CS_OK)
        return cs_fail(e, CS_DENIED, "certificate: %s", fault.text);
    const enum crypto_sig scheme = crypto_sig_default(crypto_pub_type(pub));
    if (scheme == CRYPTO_SIG_NONE)
        return cs_fail(e, CS_DENIED, "certificate: keys of type %s are not supported",
                       crypto_key_type_name(crypto_pub_type(pub)));
    k8s_csr_claim_write(&claim, &(struct k8s_csr_claim){
                                    .trust_domain = a->env->trust_domain,
                                    .cluster = s->cluster->name,
                                    .server_nonce = cs_slice_of(s->nonce, sizeof s->nonce),
                                    .agent_nonce = cs_slice_of(r->nonce, sizeof r->nonce),
                                    .spki = s->spki,
                                    .cert_hash = leaf->sha256,
                                });
    if (!cs_buf_ok(&claim))
        return cs_nomem(e);
    cs_code rc = crypto_verify(pub, scheme, cs_buf_slice(&claim), r->signature, &fault);
    return rc == CS_OK ? CS_OK : cs_fail(e, CS_DENIED, "proof of possession: %s", fault.text);
}

static cs_code admit(const struct attestor *a, struct session *s, struct nodeattestor_step *step,
                     struct cs_err *e)
{
    struct spiffe_id id;
    const char *path =
        cs_arena_printf(s->arena, "/spire/agent/" K8S_CSR_NAME "/%s/%s", s->cluster->name, s->node);
    s->selectors[0] = cs_arena_printf(s->arena, "cluster:%s", s->cluster->name);
    s->selectors[1] = cs_arena_printf(s->arena, "node_name:%s", s->node);
    if (path == NULL || s->selectors[0] == NULL || s->selectors[1] == NULL)
        return cs_nomem(e);
    CS_TRY(spiffe_id_make(s->arena, cs_slice_str(a->env->trust_domain), cs_slice_str(path), &id, e));
    const char *text = cs_arena_strndup(s->arena, (const char *)id.text.data, id.text.len);
    if (text == NULL)
        return cs_nomem(e);
    step->agent_id = text;
    step->selector_values = s->selectors;
    step->selector_count = 2;
    step->can_reattest = true;
    step->done = true;
    return CS_OK;
}

static cs_code respond(void *self, void *session, struct cs_slice response, struct nodeattestor_step *step,
                       struct cs_err *e)
{
    struct attestor *a = self;
    struct session *s = session;
    struct k8s_csr_response r;
    if (s == NULL || !s->asked)
        return cs_fail(e, CS_INTERNAL, "no challenge was sent");
    s->asked = false; /* one answer for each nonce */
    CS_TRY(k8s_csr_response_read(response, s->arena, &r, e));
    CS_TRY(check_possession(a, s, &r, e));
    return admit(a, s, step, e);
}

static const struct nodeattestor_ops ops = {.start = start, .respond = respond, .end = end};

const struct plugin_builtin plugin_nodeattestor_k8s_csr = {
    .name = K8S_CSR_NAME,
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
