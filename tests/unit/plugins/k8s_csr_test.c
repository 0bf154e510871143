/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "k8s_csr": agent and server against each other, certificates that a cluster's CA signs for
 * other things, proofs of somebody else.
 */
#include "../crypto/fixture.h"

#include "base/text.h"
#include "crypto/x509_issue_extra.h"
#include "plugin/nodeattestor_agent.h"
#include "plugin/nodeattestor_server.h"
#include "plugins/shared/k8s_csr/k8s_csr.h"

#include <sys/stat.h>
#include <unistd.h>

#define NOW_S INT64_C(1800000000)
#define HOUR INT64_C(3600)
#define ID "spiffe://example.org/spire/agent/k8s_csr/"

extern const struct plugin_builtin plugin_nodeattestor_k8s_csr;
extern const struct plugin_builtin plugin_agent_nodeattestor_k8s_csr;

struct world {
    char dir[64];
    struct cs_fake_clock clock;
    struct plugin_env env;
    const struct nodeattestor_ops *ops;
    void *server, *agent;
    struct authority ca, other;
    struct crypto_signer *node;         /* key of the node's certificate */
    struct crypto_signer *svid, *thief; /* keys that SVIDs are for */
    void *session;
    struct nodeattestor_step step;
    struct cs_err e;
    bool skip_challenge, ask_twice, spoil;
};

static const char *in_dir(struct world *w, const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", w->dir, name);
    return path;
}

static void write_file(struct world *w, const char *name, struct cs_slice data)
{
    struct cs_err e = {0};
    OK(cs_file_write_atomic(in_dir(w, name), data, 0600, &e));
}

static void write_chain(struct world *w, const char *name, const struct x509_chain *chain)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    x509_chain_write_pem(&pem, chain);
    write_file(w, name, cs_buf_slice(&pem));
}

static cs_code configure(struct world *w, const char *text)
{
    w->e = (struct cs_err){0};
    return plugin_nodeattestor_k8s_csr.configure(w->server, cs_slice_str(text), &w->e);
}

static void configure_clusters(struct world *w, const char *more)
{
    char text[1024];
    (void)snprintf(text, sizeof text,
                   "clusters = { \"demo\" = { client_ca_files = [\"%s/ca.crt\"] %s } "
                   "\"two\" = { client_ca_files = [\"%s/other.crt\"] } }",
                   w->dir, more, w->dir);
    if (configure(w, text) != CS_OK)
        fail_msg("%s", w->e.text);
}

static cs_code configure_agent(struct world *w, const char *text)
{
    w->e = (struct cs_err){0};
    return plugin_agent_nodeattestor_k8s_csr.configure(w->agent, cs_slice_str(text), &w->e);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct cs_err e = {0};
    char text[256];
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/k8s_csr_test.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    cs_fake_clock_init(&w->clock, NOW_S);
    w->env = (struct plugin_env){.clock = &w->clock.clock, .trust_domain = "example.org", .data_dir = "."};
    w->ops = plugin_nodeattestor_k8s_csr.ops;
    OK(plugin_nodeattestor_k8s_csr.create(&w->env, &w->server, &e));
    OK(plugin_agent_nodeattestor_k8s_csr.create(&w->env, &w->agent, &e));
    w->ca = new_authority(NULL, "kubernetes", NOW_S - 24 * HOUR, NOW_S + 24 * HOUR, (struct cs_slice){0});
    w->other = new_authority(NULL, "kubernetes", NOW_S - 24 * HOUR, NOW_S + 24 * HOUR, (struct cs_slice){0});
    w->node = new_signer(CRYPTO_EC_P256);
    w->svid = new_signer(CRYPTO_EC_P256);
    w->thief = new_signer(CRYPTO_EC_P256);
    write_chain(w, "ca.crt", &(struct x509_chain){&w->ca.cert, 1});
    write_chain(w, "other.crt", &(struct x509_chain){&w->other.cert, 1});
    configure_clusters(w, "");
    (void)snprintf(text, sizeof text, "cluster = \"demo\"\nid_dir = \"%s\"", w->dir);
    if (configure_agent(w, text) != CS_OK)
        fail_msg("%s", w->e.text);
    *state = w;
    return 0;
}

static void end_session(struct world *w)
{
    if (w->session != NULL)
        w->ops->end(w->server, w->session);
    w->session = NULL;
    w->step = (struct nodeattestor_step){0};
}

static int teardown(void **state)
{
    struct world *w = *state;
    end_session(w);
    plugin_nodeattestor_k8s_csr.destroy(w->server);
    plugin_agent_nodeattestor_k8s_csr.destroy(w->agent);
    free_authority(&w->ca);
    free_authority(&w->other);
    crypto_signer_unref(w->node);
    crypto_signer_unref(w->svid);
    crypto_signer_unref(w->thief);
    const char *const files[] = {"ca.crt", "other.crt", K8S_CSR_KEY_FILE, K8S_CSR_CERT_FILE};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        unlink(in_dir(w, files[i]));
    rmdir(w->dir);
    free(w);
    return 0;
}

/* --- Certificates --- */

/* extendedKeyUsage: clientAuth, serverAuth */
#define EKU_CLIENT "\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02"
#define EKU_ANY "\x30\x06\x06\x04\x55\x1d\x25\x00"
#define EKU_CLIENT_AND_MAIL                                                                                  \
    "\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x04"
#define KU_ENCIPHERMENT "\x03\x02\x05\x20"
#define SAN_NODE "\x30\x04\x82\x02n1"

struct wish {
    const char *user; /* CN; NULL: none */
    const char *organizations[2], *unit;
    struct x509_extra extra[4];
    int64_t from, to;
    const struct authority *by;
};

static struct wish usual(const struct world *w)
{
    return (struct wish){.user = "system:node:n1",
                         .organizations = {"system:nodes"},
                         .extra = {{"2.5.29.37", S(EKU_CLIENT), false}},
                         .from = NOW_S - HOUR,
                         .to = NOW_S + HOUR,
                         .by = &w->ca};
}

static struct x509_cert *issue(struct world *w, const struct wish *x)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf subject = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf extra = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    struct x509_cert *c;
    struct cs_err e = {0};
    size_t extras = 0, organizations = 0;
    while (extras < 4 && x->extra[extras].oid != NULL)
        extras++;
    while (organizations < 2 && x->organizations[organizations] != NULL)
        organizations++;
    x509_name_write(&subject, &(struct x509_name){.organization = {x->organizations, organizations},
                                                  .organizational_unit = {&x->unit, x->unit != NULL},
                                                  .common_name = x->user});
    OK(x509_extra_write(&extra, NULL, 0, x->extra, extras, &e));
    const struct x509_issue_params p = {.spki = crypto_pub_spki(crypto_signer_pub(w->node)),
                                        .subject = cs_buf_slice(&subject),
                                        .not_before = x->from,
                                        .not_after = x->to,
                                        .extra = cs_buf_slice(&extra)};
    OK(x509_issue_svid(x->by->issuer, &p, &der, NULL, &e));
    OK(x509_cert_parse(cs_buf_slice(&der), &c, &e));
    return c;
}

/* --- Messages by hand --- */

static cs_code start_with(struct world *w, const char *cluster, const struct x509_chain *chain)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf hello = {0};
    end_session(w);
    w->e = (struct cs_err){0};
    k8s_csr_hello_write(&hello, cluster, chain);
    const struct nodeattestor_request q = {.payload = cs_buf_slice(&hello),
                                           .spki = crypto_pub_spki(crypto_signer_pub(w->svid)),
                                           .client_ip = "192.0.2.1"};
    cs_code rc = w->ops->start(w->server, &q, &w->session, &w->step, &w->e);
    if (rc != CS_OK)
        assert_null(w->session);
    else
        assert_false(w->step.done);
    return rc;
}

static cs_code start_wish(struct world *w, const struct wish *x)
{
    CS_AUTO(x509_cert) c = issue(w, x);
    return start_with(w, "demo", &(struct x509_chain){&c, 1});
}

static void refused(struct world *w, const struct wish *x, const char *text)
{
    assert_int_equal(start_wish(w, x), CS_DENIED);
    if (strstr(w->e.text, text) == NULL)
        fail_msg("\"%s\" does not contain \"%s\"", w->e.text, text);
}

/* The answer to the challenge in w->step, with what may be wrong about it. */
struct proof {
    struct crypto_signer *key, *svid;
    const char *trust_domain, *cluster;
    const uint8_t *nonce; /* NULL: the one that was sent */
    const struct x509_cert *cert;
};

static void sign(struct world *w, const struct proof *p, struct cs_buf *out)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf claim = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf signature = {0};
    uint8_t nonce[K8S_CSR_NONCE_LEN];
    struct k8s_csr_response r = {.nonce = {7}};
    struct cs_err e = {0};
    OK(k8s_csr_challenge_read(w->step.challenge, nonce, &e));
    k8s_csr_claim_write(&claim,
                        &(struct k8s_csr_claim){
                            .trust_domain = p->trust_domain,
                            .cluster = p->cluster,
                            .server_nonce = cs_slice_of(p->nonce != NULL ? p->nonce : nonce, sizeof nonce),
                            .agent_nonce = cs_slice_of(r.nonce, sizeof r.nonce),
                            .spki = crypto_pub_spki(crypto_signer_pub(p->svid)),
                            .cert_hash = p->cert->sha256,
                        });
    OK(crypto_sign(p->key, CRYPTO_ECDSA_SHA256, cs_buf_slice(&claim), &signature, &e));
    r.signature = cs_buf_slice(&signature);
    k8s_csr_response_write(out, &r);
}

static cs_code respond(struct world *w, struct cs_slice response)
{
    w->e = (struct cs_err){0};
    return w->ops->respond(w->server, w->session, response, &w->step, &w->e);
}

/* --- The two against each other --- */

static cs_code exchange(void *arg, struct cs_slice payload, struct cs_buf *challenge, bool *done,
                        struct cs_err *e)
{
    struct world *w = arg;
    cs_buf_reset(challenge);
    if (w->skip_challenge) {
        *done = true;
        return CS_OK;
    }
    if (w->session == NULL) {
        const struct nodeattestor_request q = {.payload = payload,
                                               .spki = crypto_pub_spki(crypto_signer_pub(w->svid)),
                                               .client_ip = "192.0.2.1"};
        CS_TRY(w->ops->start(w->server, &q, &w->session, &w->step, e));
    } else {
        CS_TRY(w->ops->respond(w->server, w->session, payload, &w->step, e));
    }
    *done = w->step.done && !w->ask_twice;
    if (!*done)
        cs_buf_add_slice(challenge, w->spoil ? S("{\"nonce\":\"AAAA\"}") : w->step.challenge);
    return CS_OK;
}

static cs_code attest(struct world *w)
{
    const struct nodeattestor_agent_ops *agent = plugin_agent_nodeattestor_k8s_csr.ops;
    const struct nodeattestor_agent_stream stream = {
        .exchange = exchange, .arg = w, .spki = crypto_pub_spki(crypto_signer_pub(w->svid))};
    end_session(w);
    w->e = (struct cs_err){0};
    return agent->attest(w->agent, &stream, &w->e);
}

static void write_key(struct world *w, struct crypto_signer *signer)
{
    CS_AUTO(cs_secret) pem = NULL;
    struct cs_err e = {0};
    OK(crypto_key_pem(crypto_signer_key(signer), &pem, &e));
    write_file(w, K8S_CSR_KEY_FILE, cs_slice_of(pem->data, pem->len));
}

static void write_identity(struct world *w, const struct wish *x)
{
    CS_AUTO(x509_cert) c = issue(w, x);
    write_chain(w, K8S_CSR_CERT_FILE, &(struct x509_chain){&c, 1});
    write_key(w, w->node);
}

static void a_node_attests(void **state)
{
    struct world *w = *state;
    struct wish x = usual(w);
    write_identity(w, &x);
    if (attest(w) != CS_OK)
        fail_msg("%s", w->e.text);
    assert_true(w->step.done && w->step.can_reattest);
    assert_string_equal(w->step.agent_id, ID "demo/n1");
    assert_int_equal(w->step.selector_count, 2);
    assert_string_equal(w->step.selector_values[0], "cluster:demo");
    assert_string_equal(w->step.selector_values[1], "node_name:n1");
    x.user = "system:node:ip-10-0-0-1.eu-west-1.compute.internal";
    write_identity(w, &x);
    assert_int_equal(attest(w), CS_OK);
    assert_string_equal(w->step.agent_id, ID "demo/ip-10-0-0-1.eu-west-1.compute.internal");
}

static void other_key_types_attest(void **state)
{
    static const enum crypto_key_type types[] = {CRYPTO_EC_P384, CRYPTO_RSA_2048};
    struct world *w = *state;
    const struct wish x = usual(w);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        crypto_signer_unref(w->node);
        w->node = new_signer(types[i]);
        write_identity(w, &x);
        if (attest(w) != CS_OK)
            fail_msg("%s", w->e.text);
    }
}

static void a_chain_with_an_intermediate_attests(void **state)
{
    struct world *w = *state;
    struct authority between =
        new_authority(&w->ca, "between", NOW_S - HOUR, NOW_S + HOUR, (struct cs_slice){0});
    struct wish x = usual(w);
    x.by = &between;
    CS_AUTO(x509_cert) c = issue(w, &x);
    struct x509_cert *both[] = {c, between.cert};
    write_chain(w, K8S_CSR_CERT_FILE, &(struct x509_chain){both, 2});
    write_key(w, w->node);
    assert_int_equal(attest(w), CS_OK);
    assert_string_equal(w->step.agent_id, ID "demo/n1");
    refused(w, &x, "certificate signed by unknown authority"); /* alone */
    free_authority(&between);
}

static void other_certificates_of_the_ca_are_refused(void **state)
{
    struct world *w = *state;
    struct wish x = usual(w);
    x.extra[0].oid = NULL; /* client and server, as kubelets serve with */
    refused(w, &x, "not for client authentication alone");
    x = usual(w), x.extra[0].value = S(EKU_ANY);
    refused(w, &x, "not for client authentication alone");
    x = usual(w), x.extra[0].value = S(EKU_CLIENT_AND_MAIL);
    refused(w, &x, "not for client authentication alone");
    x = usual(w), x.extra[1] = (struct x509_extra){"2.5.29.15", S(KU_ENCIPHERMENT), true};
    refused(w, &x, "digital signature");
    x = usual(w), x.extra[1] = (struct x509_extra){"2.5.29.17", S(SAN_NODE), false};
    refused(w, &x, "subject alternative names");
    x = usual(w), x.extra[1] = (struct x509_extra){"1.2.3.4", S("\x05\x00"), true};
    refused(w, &x, "unhandled critical extension");
    /* the CA, as a node of its own */
    assert_int_equal(start_with(w, "demo", &(struct x509_chain){&w->ca.cert, 1}), CS_DENIED);
}

static void other_subjects_are_refused(void **state)
{
    static const char *const users[] = {NULL,
                                        "kubernetes-admin",
                                        "n1",
                                        "system:node",
                                        "system:node:",
                                        "System:node:n1",
                                        "system:node:.",
                                        "system:node:..",
                                        "system:node:a/b",
                                        "system:node:n1 ",
                                        "system:node:n\xc3\xb6",
                                        "system:nodes:n1"};
    struct world *w = *state;
    struct wish x = usual(w);
    for (size_t i = 0; i < sizeof users / sizeof users[0]; i++) {
        x.user = users[i];
        assert_int_equal(start_wish(w, &x), CS_DENIED);
    }
    x = usual(w), x.organizations[0] = "system:masters";
    refused(w, &x, "the subject is not O=system:nodes");
    x = usual(w), x.organizations[0] = NULL;
    refused(w, &x, "the subject is not O=system:nodes");
    x = usual(w), x.organizations[1] = "system:masters";
    refused(w, &x, "the subject is not O=system:nodes");
    x = usual(w), x.organizations[1] = "system:nodes";
    refused(w, &x, "the subject is not O=system:nodes");
    x = usual(w), x.unit = "unit";
    refused(w, &x, "the subject is not O=system:nodes");
}

static void other_authorities_are_refused(void **state)
{
    struct world *w = *state;
    struct wish x = usual(w);
    x.by = &w->other; /* same name, of another cluster */
    refused(w, &x, "certificate signed by unknown authority");
    CS_AUTO(x509_cert) c = issue(w, &x);
    struct x509_cert *with_root[] = {c, w->other.cert};
    assert_int_equal(start_with(w, "demo", &(struct x509_chain){with_root, 2}), CS_DENIED);
    assert_int_equal(start_with(w, "two", &(struct x509_chain){&c, 1}), CS_OK);
    assert_int_equal(start_with(w, "three", &(struct x509_chain){&c, 1}), CS_INVALID);
    assert_string_equal(w->e.text, "not configured for cluster \"three\"");
}

static void time_counts(void **state)
{
    struct world *w = *state;
    struct wish x = usual(w);
    x.to = NOW_S - 1;
    refused(w, &x, "certificate has expired or is not yet valid");
    x = usual(w), x.from = NOW_S + 1;
    refused(w, &x, "certificate has expired or is not yet valid");
}

static void the_allow_list_counts(void **state)
{
    struct world *w = *state;
    struct wish x = usual(w);
    configure_clusters(w, "node_allow_list = [\"n1\", \"n3\"]");
    assert_int_equal(start_wish(w, &x), CS_OK);
    x.user = "system:node:n2";
    refused(w, &x, "node \"n2\" is not in node_allow_list of cluster \"demo\"");
    x.user = "system:node:n10";
    refused(w, &x, "node \"n10\"");
}

static void a_new_ca_is_taken_up(void **state)
{
    struct world *w = *state;
    struct wish x = usual(w);
    x.by = &w->other;
    refused(w, &x, "unknown authority");
    struct x509_cert *both[] = {w->ca.cert, w->other.cert};
    write_chain(w, "ca.crt", &(struct x509_chain){both, 2});
    assert_int_equal(start_wish(w, &x), CS_OK);
    write_file(w, "ca.crt", S("nonsense"));
    assert_int_equal(start_wish(w, &x), CS_INTERNAL);
    assert_non_null(strstr(w->e.text, "unable to load client CA of cluster \"demo\""));
}

static void the_proof_is_of_this_key_session_and_purpose(void **state)
{
    static const uint8_t old_nonce[K8S_CSR_NONCE_LEN] = {1, 2, 3};
    struct world *w = *state;
    const struct wish x = usual(w);
    CS_AUTO(x509_cert) c = issue(w, &x);
    CS_AUTO(x509_cert) twin = issue(w, &x); /* another certificate of the same key */
    const struct x509_chain chain = {&c, 1};
    const struct proof right = {w->node, w->svid, "example.org", "demo", NULL, c};
    struct proof wrong[6];
    for (size_t i = 0; i < 6; i++)
        wrong[i] = right;
    wrong[0].key = w->thief;
    wrong[1].svid = w->thief;
    wrong[2].trust_domain = "example.com";
    wrong[3].cluster = "two";
    wrong[4].nonce = old_nonce;
    wrong[5].cert = twin;
    for (size_t i = 0; i < 6; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
        assert_int_equal(start_with(w, "demo", &chain), CS_OK);
        sign(w, &wrong[i], &response);
        assert_int_equal(respond(w, cs_buf_slice(&response)), CS_DENIED);
        assert_string_equal(w->e.text, "proof of possession: signature is wrong");
        assert_false(w->step.done);
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
    assert_int_equal(start_with(w, "demo", &chain), CS_OK);
    sign(w, &right, &response);
    assert_int_equal(respond(w, cs_buf_slice(&response)), CS_OK);
    assert_true(w->step.done);
    /* once more, in this session and in another */
    assert_int_equal(respond(w, cs_buf_slice(&response)), CS_INTERNAL);
    assert_int_equal(start_with(w, "demo", &chain), CS_OK);
    assert_int_equal(respond(w, cs_buf_slice(&response)), CS_DENIED);
}

static void a_wrong_answer_ends_the_nonce(void **state)
{
    struct world *w = *state;
    const struct wish x = usual(w);
    CS_AUTO(x509_cert) c = issue(w, &x);
    const struct proof right = {w->node, w->svid, "example.org", "demo", NULL, c};
    CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
    assert_int_equal(start_with(w, "demo", &(struct x509_chain){&c, 1}), CS_OK);
    sign(w, &right, &response);
    assert_int_equal(respond(w, S("{}")), CS_INVALID);
    assert_int_equal(respond(w, cs_buf_slice(&response)), CS_INTERNAL);
}

static void broken_messages_are_refused(void **state)
{
    static const char *const hellos[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"cluster\":\"demo\"}",
        "{\"cluster\":\"demo\",\"certificates\":[]}",
        "{\"cluster\":\"demo\",\"certificates\":[\"\"]}",
        "{\"cluster\":\"demo\",\"certificates\":[1]}",
        "{\"cluster\":\"demo\",\"certificates\":[\"****\"]}",
        "{\"cluster\":\"demo\",\"certificates\":[\"MAA=\"]}",
        "{\"cluster\":7,\"certificates\":[\"MAA=\"]}",
        "{\"cluster\":\"demo\",\"cluster\":\"two\",\"certificates\":[\"MAA=\"]}",
        "{\"cluster\":\"demo\",\"certificates\":[\"MAA=\",\"MAA=\",\"MAA=\",\"MAA=\",\"MAA=\",\"MAA=\",\"MAA="
        "\","
        "\"MAA=\",\"MAA=\"]}"};
    static const char *const responses[] = {
        "", "[]", "{\"nonce\":\"AAAA\",\"signature\":\"AAAA\"}",
        "{\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}",
        "{\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"signature\":\"?\"}"};
    struct world *w = *state;
    const struct wish x = usual(w);
    for (size_t i = 0; i < sizeof hellos / sizeof hellos[0]; i++) {
        const struct nodeattestor_request q = {.payload = cs_slice_str(hellos[i]),
                                               .spki = crypto_pub_spki(crypto_signer_pub(w->svid))};
        end_session(w);
        assert_int_equal(w->ops->start(w->server, &q, &w->session, &w->step, &w->e), CS_INVALID);
        assert_null(w->session);
    }
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        assert_int_equal(start_wish(w, &x), CS_OK);
        assert_int_equal(respond(w, cs_slice_str(responses[i])), CS_INVALID);
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf large = {0};
    assert_true(cs_buf_reserve(&large, K8S_CSR_PAYLOAD_MAX + 1));
    memset(large.data, ' ', K8S_CSR_PAYLOAD_MAX + 1);
    large.len = K8S_CSR_PAYLOAD_MAX + 1;
    struct nodeattestor_request q = {.payload = cs_buf_slice(&large),
                                     .spki = crypto_pub_spki(crypto_signer_pub(w->svid))};
    end_session(w);
    assert_int_equal(w->ops->start(w->server, &q, &w->session, &w->step, &w->e), CS_INVALID);
    q.spki = (struct cs_slice){0};
    assert_int_equal(w->ops->start(w->server, &q, &w->session, &w->step, &w->e), CS_INVALID);
    assert_string_equal(w->e.text, "the CSR does not prove its key");
}

static void configuration_faults_are_told(void **state)
{
    struct world *w = *state;
    char text[256];
    static const struct {
        const char *text, *fault;
    } faults[] = {
        {"", "at least one cluster is required"},
        {"clusters = { \"a\" = {} }", "cluster \"a\": client_ca_files is required"},
        {"clusters = { \"a/b\" = { client_ca_files = [\"x\"] } }",
         "cluster \"a/b\": the name can be no part of a SPIFFE ID"},
        {"clusters = { \"a\" = { client_ca_files = [\"x\"] node_allowlist = [\"n1\"] } }",
         "cluster \"a\": unknown setting \"node_allowlist\" encountered"},
        {"clusters = { \"a\" = { client_ca_files = [\"x\"] node_allow_list = [\"n*\"] } }",
         "cluster \"a\": node_allow_list: \"n*\" is no node's name"},
        {"cluster = \"a\"", "unknown setting \"cluster\" encountered"},
        {"clusters = { \"a\" = { client_ca_files = [\"/nowhere/ca.crt\"] } }",
         "unable to load client CA of cluster \"a\": open /nowhere/ca.crt: no such file or directory"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct plugin_notes notes = {0};
        assert_int_not_equal(configure(w, faults[i].text), CS_OK);
        assert_string_equal(w->e.text, faults[i].fault);
        assert_int_equal(
            plugin_nodeattestor_k8s_csr.validate(&w->env, cs_slice_str(faults[i].text), &notes, &w->e),
            CS_OK);
        assert_int_equal(notes.count, i < 6 ? 1 : 0); /* files are not opened */
        plugin_notes_free(&notes);
    }
    const struct wish x = usual(w);
    CS_AUTO(x509_cert) leaf = issue(w, &x);
    write_chain(w, "ca.crt", &(struct x509_chain){&leaf, 1});
    (void)snprintf(text, sizeof text, "clusters = { \"a\" = { client_ca_files = [\"%s/ca.crt\"] } }", w->dir);
    assert_int_equal(configure(w, text), CS_INVALID);
    assert_non_null(strstr(w->e.text, "certificate 1 is not a CA"));
    assert_int_equal(configure_agent(w, "id_dir = \"/x\""), CS_INVALID);
    assert_string_equal(w->e.text, "cluster is required");
    assert_int_equal(configure_agent(w, "cluster = \"a b\""), CS_INVALID);
    assert_int_equal(configure_agent(w, "cluster = \"a\" certificate_request { timeout = \"0s\" }"),
                     CS_INVALID);
    assert_string_equal(w->e.text, "certificate_request: timeout is not positive");
    assert_int_equal(configure_agent(w, "cluster = \"a\" certificate_request { client_key_path = \"x\" }"),
                     CS_INVALID);
}

static void the_agent_says_what_is_wrong(void **state)
{
    struct world *w = *state;
    const struct wish x = usual(w);
    assert_int_equal(attest(w), CS_NOT_FOUND);
    assert_non_null(strstr(w->e.text, "id-doc.crt: no such file or directory"));
    write_identity(w, &x);
    write_key(w, w->thief);
    assert_int_equal(attest(w), CS_INVALID);
    assert_non_null(strstr(w->e.text, "is not the certificate of"));
    write_key(w, w->node);
    w->skip_challenge = true;
    assert_int_equal(attest(w), CS_INTERNAL);
    assert_string_equal(w->e.text, "nodeattestor(k8s_csr): the server sent no challenge");
    w->skip_challenge = false, w->spoil = true;
    assert_int_equal(attest(w), CS_INVALID);
    assert_string_equal(w->e.text, "nodeattestor(k8s_csr): challenge: nonce is not base64 of 32 bytes");
    w->spoil = false, w->ask_twice = true;
    assert_int_equal(attest(w), CS_INTERNAL);
    assert_string_equal(w->e.text, "nodeattestor(k8s_csr): server issued unexpected challenge");
}

static void running_out_of_memory_is_survived(void **state)
{
    struct world *w = *state;
    const struct wish x = usual(w);
    write_identity(w, &x);
    bool worked = false;
    for (size_t n = 1; n < 2000 && !worked; n++) {
        end_session(w);
        (void)cs_mem_fail_at(n, false);
        worked = attest(w) == CS_OK;
        const size_t made = cs_mem_fail_at(0, false);
        if (worked) /* one that did not fail can have been of no matter only when all were made */
            worked = made < n;
    }
    assert_true(worked);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_node_attests),
        TEST(other_key_types_attest),
        TEST(a_chain_with_an_intermediate_attests),
        TEST(other_certificates_of_the_ca_are_refused),
        TEST(other_subjects_are_refused),
        TEST(other_authorities_are_refused),
        TEST(time_counts),
        TEST(the_allow_list_counts),
        TEST(a_new_ca_is_taken_up),
        TEST(the_proof_is_of_this_key_session_and_purpose),
        TEST(a_wrong_answer_ends_the_nonce),
        TEST(broken_messages_are_refused),
        TEST(configuration_faults_are_told),
        TEST(the_agent_says_what_is_wrong),
        TEST(running_out_of_memory_is_survived),
    };
    return cmocka_run_group_tests_name("plugins/k8s_csr", tests, NULL, NULL);
}
