/* SPDX-License-Identifier: Apache-2.0
 *
 * What external plugins answer, of every kind, through the checks of the bridges. The first byte chooses the
 * operation. The rest is the answer of a unary call; on streams it is messages, each behind its length in two
 * bytes. What is accepted must be what callers rely on.
 */
#include "crypto/der.h"
#include "crypto/x509_cert.h"
#include "plugin/credentialcomposer.h"
#include "plugin/keymanager.h"
#include "plugin/nodeattestor_agent.h"
#include "plugin/nodeattestor_server.h"
#include "plugin/upstreamauthority.h"
#include "plugin/workloadattestor.h"
#include "proto/json.h"
#include "tests/fakes/plugin_external.h"

#include <pthread.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern const struct plugin_bridge plugin_bridge_keymanager, plugin_bridge_credentialcomposer,
    plugin_bridge_nodeattestor, plugin_bridge_agent_nodeattestor, plugin_bridge_upstreamauthority,
    plugin_bridge_workloadattestor;

static const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};

/* The plugin. */
struct input {
    struct plugin_external x;
    struct cs_rd left;
    struct cs_arena *a;
};

static void must(bool holds)
{
    if (!holds)
        __builtin_trap();
}

static cs_code unary(void *arg, const char *path, struct cs_slice request, struct cs_buf *answer,
                     struct cs_err *e)
{
    struct input *in = arg;
    (void)path;
    (void)request;
    (void)e;
    cs_buf_add(answer, in->left.p, cs_rd_left(&in->left));
    return CS_OK;
}

static cs_code recv(void *arg, unsigned n, struct cs_buf *message, bool *end, struct cs_err *e)
{
    struct input *in = arg;
    struct cs_slice m;
    uint16_t len;
    (void)n;
    (void)e;
    *end = !cs_rd_u16be(&in->left, &len) || !cs_rd_bytes(&in->left, len, &m);
    if (!*end)
        cs_buf_add_slice(message, m);
    return CS_OK;
}

/* --- Keys --- */

static cs_code key_seen(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    (void)arg;
    (void)e;
    must(id != NULL && crypto_signer_pub(key) != NULL && crypto_signer_key(key) == NULL);
    return CS_OK;
}

static void generate(void *self, struct input *in)
{
    const struct keymanager_ops *ops = plugin_bridge_keymanager.ops;
    struct crypto_signer *s = NULL;
    (void)in;
    if (ops->generate_key(self, "k", CRYPTO_EC_P256, &s, NULL) == CS_OK)
        must(crypto_signer_type(s) == CRYPTO_EC_P256);
    else
        must(s == NULL);
    crypto_signer_unref(s);
}

/* The answer that makes the key answers the signature too. */
static void get_and_sign(void *self, struct input *in)
{
    const struct keymanager_ops *ops = plugin_bridge_keymanager.ops;
    struct crypto_signer *s = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf sig = {0};
    (void)in;
    if (ops->get_key(self, "k", &s, NULL) != CS_OK)
        return;
    enum crypto_sig alg = crypto_sig_default(crypto_signer_type(s));
    if (crypto_sign(s, alg, cs_slice_str("m"), &sig, NULL) == CS_OK)
        must(crypto_verify(crypto_signer_pub(s), alg, cs_slice_str("m"), cs_buf_slice(&sig), NULL) == CS_OK);
    crypto_signer_unref(s);
}

static void list_keys(void *self, struct input *in)
{
    const struct keymanager_ops *ops = plugin_bridge_keymanager.ops;
    cs_code rc = ops->each_key(self, key_seen, in, NULL);
    (void)rc;
}

/* --- Attestation --- */

static void attest_workload(void *self, struct input *in)
{
    const struct workloadattestor_ops *ops = plugin_bridge_workloadattestor.ops;
    struct workloadattestor_values v = {.arena = in->a};
    if (ops->attest(self, 1, &v, NULL) == CS_OK)
        must(v.count <= WORKLOADATTESTOR_VALUES_MAX);
    for (size_t i = 0; i < v.count; i++)
        must(v.at[i] != NULL);
}

static void attest_node(void *self, struct input *in)
{
    const struct nodeattestor_ops *ops = plugin_bridge_nodeattestor.ops;
    const struct nodeattestor_request request = {.payload = {(const uint8_t *)"p", 1}, .client_ip = ""};
    struct nodeattestor_step step = {0};
    void *session = NULL;
    (void)in;
    cs_code rc = ops->start(self, &request, &session, &step, NULL);
    must((rc == CS_OK) == (session != NULL));
    while (rc == CS_OK && !step.done)
        rc = ops->respond(self, session, step.challenge, &step, NULL);
    if (rc == CS_OK)
        must(step.agent_id[0] != '\0');
    if (session != NULL)
        ops->end(self, session);
}

static cs_code echo(void *arg, struct cs_slice payload, struct cs_buf *challenge, bool *done,
                    struct cs_err *e)
{
    (void)arg;
    (void)e;
    must(payload.len > 0);
    cs_buf_reset(challenge);
    cs_buf_add_slice(challenge, payload);
    *done = payload.data[0] == '.';
    return CS_OK;
}

static void aid_attestation(void *self, struct input *in)
{
    const struct nodeattestor_agent_ops *ops = plugin_bridge_agent_nodeattestor.ops;
    const struct nodeattestor_agent_stream stream = {.exchange = echo};
    (void)in;
    cs_code rc = ops->attest(self, &stream, NULL);
    (void)rc;
}

/* --- Authorities --- */

static void check_certificates(const struct cs_buf *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        CS_AUTO(x509_cert) cert = NULL;
        must(x509_cert_parse(cs_buf_slice(&list[i]), &cert, NULL) == CS_OK);
    }
}

static void pushed_roots(void *arg, const struct upstreamauthority_result *r)
{
    (void)arg;
    must(r->root_count > 0 && r->chain_count == 0);
    check_certificates(r->roots, r->root_count);
}

static void check_key(const struct upstreamauthority_jwt_key *k)
{
    CS_AUTO(crypto_pub) pub = NULL;
    must(k->kid[0] != '\0' && crypto_pub_parse(k->pkix, &pub, NULL) == CS_OK);
}

static void pushed_keys(void *arg, const struct upstreamauthority_jwt_key *keys, size_t count)
{
    (void)arg;
    for (size_t i = 0; i < count; i++)
        check_key(&keys[i]);
}

static const struct upstreamauthority_listener listener = {pushed_roots, pushed_keys, NULL};

static void mint(void *self, struct input *in)
{
    const struct upstreamauthority_ops *ops = plugin_bridge_upstreamauthority.ops;
    CS_CLEANUP(upstreamauthority_result_free) struct upstreamauthority_result r = {0};
    (void)in;
    ops->listen(self, &listener);
    if (ops->mint_x509_ca(self, cs_slice_str("csr"), 1, &r, NULL) != CS_OK)
        return;
    must(r.chain_count > 0 && r.root_count > 0);
    check_certificates(r.chain, r.chain_count);
    check_certificates(r.roots, r.root_count);
}

static cs_code key_published(void *arg, const struct upstreamauthority_jwt_key *k)
{
    (void)arg;
    check_key(k);
    return CS_OK;
}

static void publish(void *self, struct input *in)
{
    const struct upstreamauthority_ops *ops = plugin_bridge_upstreamauthority.ops;
    const struct upstreamauthority_jwt_key key = {.kid = "k"};
    ops->listen(self, &listener);
    cs_code rc = ops->publish_jwt_key(self, &key, key_published, in, NULL);
    (void)rc;
}

/* --- Composers --- */

static void check_oid(const char *oid)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    must(der_oid_parse(&der, oid));
}

static void check_x509(const struct credentialcomposer_x509 *x)
{
    for (size_t i = 0; i < x->subject.extra_count; i++)
        check_oid(x->subject.extra[i].oid);
    for (size_t i = 0; i < x->policy_identifiers.count; i++)
        check_oid(x->policy_identifiers.at[i]);
    for (size_t i = 0; i < x->extension_count; i++)
        check_oid(x->extensions[i].oid);
    must(x->subject.serial_number != NULL && x->subject.common_name != NULL);
}

static const struct credentialcomposer_x509 empty = {.subject = {.serial_number = "", .common_name = ""}};

static void compose_ca(void *self, struct input *in)
{
    const struct credentialcomposer_ops *ops = plugin_bridge_credentialcomposer.ops;
    struct credentialcomposer_x509 x = empty;
    if (ops->server_x509_ca(self, in->a, &x, NULL) == CS_OK)
        check_x509(&x);
}

static void compose_svid(void *self, struct input *in)
{
    const struct credentialcomposer_ops *ops = plugin_bridge_credentialcomposer.ops;
    struct credentialcomposer_x509 x = empty;
    if (ops->workload_x509_svid(self, in->a, "spiffe://example.org/w", cs_slice_str("k"), &x, NULL) == CS_OK)
        check_x509(&x);
}

/* Claims that were written can be read, and are the same when they are written again. */
static void compose_jwt(void *self, struct input *in)
{
    const struct credentialcomposer_ops *ops = plugin_bridge_credentialcomposer.ops;
    struct cs_slice claims = cs_slice_str("{}");
    CS_CLEANUP(cs_buf_free) struct cs_buf again = {0};
    Google__Protobuf__Struct *parsed;
    if (ops->workload_jwt_svid(self, in->a, "spiffe://example.org/w", &claims, NULL) != CS_OK)
        return;
    must(proto_struct_parse(in->a, claims, &parsed, NULL) == CS_OK);
    must(proto_struct_write(&again, parsed, NULL) == CS_OK && cs_slice_eq(cs_buf_slice(&again), claims));
}

static const struct {
    const struct plugin_bridge *bridge;
    void (*run)(void *self, struct input *in);
} operations[] = {
    {&plugin_bridge_keymanager, generate},
    {&plugin_bridge_keymanager, get_and_sign},
    {&plugin_bridge_keymanager, list_keys},
    {&plugin_bridge_workloadattestor, attest_workload},
    {&plugin_bridge_nodeattestor, attest_node},
    {&plugin_bridge_agent_nodeattestor, aid_attestation},
    {&plugin_bridge_upstreamauthority, mint},
    {&plugin_bridge_upstreamauthority, publish},
    {&plugin_bridge_credentialcomposer, compose_ca},
    {&plugin_bridge_credentialcomposer, compose_svid},
    {&plugin_bridge_credentialcomposer, compose_jwt},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { COUNT = sizeof operations / sizeof operations[0] };
    if (size == 0)
        return 0;
    struct input in = {
        .x = {.name = "own", .unary = unary, .recv = recv, .arg = &in},
        .left = cs_rd_of(cs_slice_of(data + 1, size - 1)),
        .a = cs_arena_new(0, 0),
    };
    void *self = NULL;
    const struct plugin_bridge *bridge = operations[data[0] % COUNT].bridge;
    if (in.a != NULL && bridge->create(&in.x, &env, &self, NULL) == CS_OK) {
        operations[data[0] % COUNT].run(self, &in);
        bridge->destroy(self);
        must(in.x.opened == in.x.freed);
    }
    cs_arena_free(in.a);
    return 0;
}
