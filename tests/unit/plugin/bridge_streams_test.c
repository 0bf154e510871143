/* SPDX-License-Identifier: Apache-2.0
 *
 * Bridges of streams: node attestors of both programs, and upstream authorities with what they push.
 */
#include "base/file.h"
#include "base/mem.h"
#include "crypto/x509_cert.h"
#include "plugin/nodeattestor_agent.h"
#include "plugin/nodeattestor_server.h"
#include "plugin/upstreamauthority.h"
#include "proto/proto.h"
#include "tests/fakes/plugin_external.h"

#include "sdk_agent_nodeattestor.pb-c.h"
#include "sdk_server_nodeattestor.pb-c.h"
#include "sdk_server_upstreamauthority.pb-c.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

extern const struct plugin_bridge plugin_bridge_nodeattestor, plugin_bridge_agent_nodeattestor,
    plugin_bridge_upstreamauthority;

static const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};

#define MESSAGES 4
#define STREAMS 4

/* What comes on one stream, in turn; after it the stream ends, with `code` and "no way" when that is not
 * CS_OK, and with CS_DEADLINE it stays open and quiet. */
struct play {
    struct cs_buf at[MESSAGES];
    unsigned count, next;
    cs_code code;
    struct cs_buf sent[MESSAGES];
    unsigned sends;
    char path[100], host[40], ip[40];
};
struct stage {
    struct plugin_external x;
    pthread_mutex_t lock;
    struct play plays[STREAMS];
    cs_code open_code;
    const struct plugin_bridge *bridge;
    void *self;
    struct cs_arena *a;
};

static cs_code on_open(void *arg, unsigned n, const char *path, const struct rpc_metadata *md,
                       size_t md_count, struct cs_err *e)
{
    struct stage *s = arg;
    struct play *p = &s->plays[n];
    snprintf(p->path, sizeof p->path, "%s", path);
    for (size_t i = 0; i < md_count; i++) {
        if (strcmp(md[i].key, "x-untrusted-forwarded-host") == 0)
            snprintf(p->host, sizeof p->host, "%s", md[i].value);
        if (strcmp(md[i].key, "x-forwarded-client-ip") == 0)
            snprintf(p->ip, sizeof p->ip, "%s", md[i].value);
    }
    return s->open_code != CS_OK ? cs_fail(e, s->open_code, "not there") : CS_OK;
}

static cs_code on_send(void *arg, unsigned n, struct cs_slice message, struct cs_err *e)
{
    struct stage *s = arg;
    struct play *p = &s->plays[n];
    (void)e;
    assert_true(p->sends < MESSAGES);
    cs_buf_add_slice(&p->sent[p->sends++], message);
    return CS_OK;
}

static cs_code on_recv(void *arg, unsigned n, struct cs_buf *message, bool *end, struct cs_err *e)
{
    struct stage *s = arg;
    struct play *p = &s->plays[n];
    pthread_mutex_lock(&s->lock);
    cs_code rc = CS_OK;
    if (p->next < p->count)
        cs_buf_add_slice(message, cs_buf_slice(&p->at[p->next++]));
    else if (p->code == CS_OK)
        *end = true;
    else
        rc = cs_fail(e, p->code, "no way");
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static void set_stage(struct stage *s, const struct plugin_bridge *bridge)
{
    *s = (struct stage){.bridge = bridge, .a = cs_arena_new(0, 0)};
    s->x =
        (struct plugin_external){.name = "own", .arg = s, .open = on_open, .send = on_send, .recv = on_recv};
    pthread_mutex_init(&s->lock, NULL);
    assert_int_equal(bridge->create(&s->x, &env, &s->self, NULL), CS_OK);
}

static void strike(struct stage *s)
{
    s->bridge->destroy(s->self);
    assert_int_equal(s->x.opened, s->x.freed);
    for (size_t i = 0; i < STREAMS; i++)
        for (size_t n = 0; n < MESSAGES; n++) {
            cs_buf_free(&s->plays[i].at[n]);
            cs_buf_free(&s->plays[i].sent[n]);
        }
    cs_arena_free(s->a);
    pthread_mutex_destroy(&s->lock);
}

static void says(struct stage *s, unsigned stream, const void *message)
{
    pthread_mutex_lock(&s->lock);
    struct play *p = &s->plays[stream];
    assert_int_equal(proto_pack(message, &p->at[p->count], NULL), CS_OK);
    p->count++;
    pthread_mutex_unlock(&s->lock);
}

static void *heard(struct stage *s, unsigned stream, unsigned n, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *m = NULL;
    assert_true(n < s->plays[stream].sends);
    assert_int_equal(proto_unpack(s->a, type, cs_buf_slice(&s->plays[stream].sent[n]), &m, NULL), CS_OK);
    return m;
}

static void assert_begins(const char *text, const char *wanted)
{
    if (strncmp(text, wanted, strlen(wanted)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", text, wanted);
}

/* --- NodeAttestor of the server --- */

static const struct nodeattestor_ops *na(const struct stage *s)
{
    return s->bridge->ops;
}

static void say_challenge(struct stage *s, unsigned stream, const char *text)
{
    Snodeattestorv1__AttestResponse m = SNODEATTESTORV1__ATTEST_RESPONSE__INIT;
    m.response_case = SNODEATTESTORV1__ATTEST_RESPONSE__RESPONSE_CHALLENGE;
    m.challenge = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
    says(s, stream, &m);
}

static void say_agent(struct stage *s, unsigned stream, const char *id, size_t selectors)
{
    Snodeattestorv1__AgentAttributes agent = SNODEATTESTORV1__AGENT_ATTRIBUTES__INIT;
    Snodeattestorv1__AttestResponse m = SNODEATTESTORV1__ATTEST_RESPONSE__INIT;
    char **values = calloc(selectors + 1, sizeof *values);
    for (size_t i = 0; i < selectors; i++)
        values[i] = (char *)"zone:b";
    agent.spiffe_id = (char *)id;
    agent.selector_values = values;
    agent.n_selector_values = selectors;
    agent.can_reattest = true;
    m.response_case = SNODEATTESTORV1__ATTEST_RESPONSE__RESPONSE_AGENT_ATTRIBUTES;
    m.agent_attributes = &agent;
    says(s, stream, &m);
    free(values);
}

static const struct nodeattestor_request request = {
    .payload = {(const uint8_t *)"hello", 5}, .client_ip = "192.0.2.7", .host = "server.example.org"};

static void nodes_are_challenged(void **state)
{
    (void)state;
    struct stage s;
    set_stage(&s, &plugin_bridge_nodeattestor);
    say_challenge(&s, 0, "first");
    say_challenge(&s, 0, "");
    say_agent(&s, 0, "spiffe://example.org/spire/agent/own/n", 2);
    void *session = NULL;
    struct nodeattestor_step step = {0};
    assert_int_equal(na(&s)->start(s.self, &request, &session, &step, NULL), CS_OK);
    assert_non_null(session);
    assert_false(step.done);
    assert_true(cs_slice_is(step.challenge, "first"));
    assert_string_equal(s.plays[0].path, "/spire.plugin.server.nodeattestor.v1.NodeAttestor/Attest");
    assert_string_equal(s.plays[0].host, "server.example.org");
    assert_string_equal(s.plays[0].ip, "192.0.2.7");
    Snodeattestorv1__AttestRequest *q = heard(&s, 0, 0, &snodeattestorv1__attest_request__descriptor);
    assert_int_equal(q->request_case, SNODEATTESTORV1__ATTEST_REQUEST__REQUEST_PAYLOAD);
    assert_memory_equal(q->payload.data, "hello", 5);

    assert_int_equal(na(&s)->respond(s.self, session, cs_slice_str("one"), &step, NULL), CS_OK);
    assert_false(step.done);
    assert_int_equal(step.challenge.len, 0);
    q = heard(&s, 0, 1, &snodeattestorv1__attest_request__descriptor);
    assert_int_equal(q->request_case, SNODEATTESTORV1__ATTEST_REQUEST__REQUEST_CHALLENGE_RESPONSE);
    assert_memory_equal(q->challenge_response.data, "one", 3);

    assert_int_equal(na(&s)->respond(s.self, session, cs_slice_str("two"), &step, NULL), CS_OK);
    assert_true(step.done && step.can_reattest);
    assert_string_equal(step.agent_id, "spiffe://example.org/spire/agent/own/n");
    assert_int_equal(step.selector_count, 2);
    assert_string_equal(step.selector_values[1], "zone:b");
    assert_int_equal(s.x.freed, 1);
    na(&s)->end(s.self, session);
    strike(&s);
}

static void attest_fails(void (*act)(struct stage *s), cs_code code, const char *text)
{
    struct stage s;
    set_stage(&s, &plugin_bridge_nodeattestor);
    act(&s);
    void *session = NULL;
    struct nodeattestor_step step = {0};
    struct cs_err e = {0};
    assert_int_equal(na(&s)->start(s.self, &request, &session, &step, &e), code);
    assert_begins(e.text, text);
    assert_null(session);
    strike(&s);
}

static void act_nothing(struct stage *s)
{
    (void)s;
}
static void act_empty(struct stage *s)
{
    Snodeattestorv1__AttestResponse m = SNODEATTESTORV1__ATTEST_RESPONSE__INIT;
    says(s, 0, &m);
}
static void act_no_id(struct stage *s)
{
    say_agent(s, 0, "", 0);
}
static void act_refusal(struct stage *s)
{
    s->plays[0].code = CS_DENIED;
}
static void act_absent(struct stage *s)
{
    s->open_code = CS_UNAVAILABLE;
}
static void act_garbage(struct stage *s)
{
    cs_buf_add_str(&s->plays[0].at[s->plays[0].count++], "\x0a\x05x");
}

static void bad_attestations_are_refused(void **state)
{
    (void)state;
    attest_fails(act_nothing, CS_INTERNAL, "nodeattestor(own): plugin closed stream unexpectedly");
    attest_fails(act_empty, CS_INTERNAL,
                 "nodeattestor(own): plugin response missing challenge or agent attributes");
    attest_fails(act_no_id, CS_INTERNAL, "nodeattestor(own): plugin response missing agent ID");
    attest_fails(act_refusal, CS_DENIED, "nodeattestor(own): no way");
    attest_fails(act_absent, CS_UNAVAILABLE, "nodeattestor(own): not there");
    attest_fails(act_garbage, CS_INTERNAL, "nodeattestor(own): ");

    struct stage s;
    set_stage(&s, &plugin_bridge_nodeattestor);
    struct nodeattestor_request empty = request;
    empty.payload.len = 0;
    void *session = NULL;
    struct nodeattestor_step step = {0};
    struct cs_err e;
    assert_int_equal(na(&s)->start(s.self, &empty, &session, &step, &e), CS_INVALID);
    assert_string_equal(e.text, "payload cannot be empty");
    assert_int_equal(s.x.opened, 0);
    strike(&s);
}

static bool third_time(void *arg)
{
    unsigned *asked = arg;
    return ++*asked == 3;
}

/* A plugin that is silent is given up when the agent has gone. */
static void nobody_waits_for_an_agent_that_has_gone(void **state)
{
    (void)state;
    struct stage s;
    unsigned asked = 0;
    const struct crypto_stop gone = {.asked = third_time, .arg = &asked};
    set_stage(&s, &plugin_bridge_nodeattestor);
    s.plays[0].code = CS_DEADLINE;
    struct nodeattestor_request q = request;
    q.gone = &gone;
    void *session = NULL;
    struct nodeattestor_step step = {0};
    struct cs_err e;
    assert_int_equal(na(&s)->start(s.self, &q, &session, &step, &e), CS_CANCELLED);
    assert_string_equal(e.text, "nodeattestor(own): context canceled");
    assert_int_equal(asked, 3);
    strike(&s);
}

/* --- NodeAttestor of the agent --- */

struct server {
    const char *challenges[2]; /* NULL: done */
    unsigned calls;
    char got[3][20];
    cs_code code;
};

static cs_code exchange(void *arg, struct cs_slice payload, struct cs_buf *challenge, bool *done,
                        struct cs_err *e)
{
    struct server *v = arg;
    unsigned n = v->calls++;
    snprintf(v->got[n], sizeof v->got[n], "%.*s", (int)payload.len, (const char *)payload.data);
    cs_buf_reset(challenge);
    *done = n >= 2 || v->challenges[n] == NULL;
    if (!*done)
        cs_buf_add_str(challenge, v->challenges[n]);
    return v->code != CS_OK ? cs_fail(e, v->code, "the server says no") : CS_OK;
}

static void say_payload(struct stage *s, const char *payload, const char *response)
{
    Anodeattestorv1__PayloadOrChallengeResponse m = ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__INIT;
    const char *text = payload != NULL ? payload : response;
    m.data_case = payload != NULL ? ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__DATA_PAYLOAD
                                  : ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__DATA_CHALLENGE_RESPONSE;
    m.payload = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
    says(s, 0, &m);
}

static cs_code aid(struct stage *s, struct server *v, struct cs_err *e)
{
    const struct nodeattestor_agent_ops *ops = s->bridge->ops;
    const struct nodeattestor_agent_stream stream = {.exchange = exchange, .arg = v};
    return ops->attest(s->self, &stream, e);
}

static void agents_answer_challenges(void **state)
{
    (void)state;
    struct stage s;
    struct server v = {.challenges = {"one", "two"}};
    set_stage(&s, &plugin_bridge_agent_nodeattestor);
    say_payload(&s, "who", NULL);
    say_payload(&s, NULL, "1");
    say_payload(&s, NULL, "2");
    assert_int_equal(aid(&s, &v, NULL), CS_OK);
    assert_int_equal(v.calls, 3);
    assert_string_equal(v.got[0], "who");
    assert_string_equal(v.got[2], "2");
    assert_string_equal(s.plays[0].path, "/spire.plugin.agent.nodeattestor.v1.NodeAttestor/AidAttestation");
    Anodeattestorv1__Challenge *c = heard(&s, 0, 1, &anodeattestorv1__challenge__descriptor);
    assert_memory_equal(c->challenge.data, "two", 3);
    strike(&s);
}

static void bad_aid_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *payload, *response, *second;
        const char *text;
    } rows[] = {
        {NULL, NULL, NULL, "plugin closed stream before returning attestation data"},
        {"", NULL, NULL, "plugin response missing attestation payload"},
        {NULL, "early", NULL, "plugin response missing attestation payload"},
        {"who", NULL, NULL, "plugin closed stream before handling the challenge"},
        {"who", NULL, "", "plugin response missing challenge response"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct stage s;
        struct server v = {.challenges = {"one"}};
        struct cs_err e = {0};
        set_stage(&s, &plugin_bridge_agent_nodeattestor);
        if (rows[i].payload != NULL || rows[i].response != NULL)
            say_payload(&s, rows[i].payload, rows[i].response);
        if (rows[i].second != NULL)
            say_payload(&s, NULL, rows[i].second);
        assert_int_equal(aid(&s, &v, &e), CS_INTERNAL);
        assert_begins(e.text, "nodeattestor(own): ");
        assert_string_equal(e.text + strlen("nodeattestor(own): "), rows[i].text);
        strike(&s);
    }
    struct stage s;
    struct server v = {.code = CS_DENIED};
    struct cs_err e = {0};
    set_stage(&s, &plugin_bridge_agent_nodeattestor);
    say_payload(&s, "who", NULL);
    assert_int_equal(aid(&s, &v, &e), CS_DENIED);
    assert_string_equal(e.text, "the server says no");
    strike(&s);
}

/* --- UpstreamAuthority --- */

static Sdktypes__X509Certificate certificate(struct cs_arena *a, const char *file, bool tainted)
{
    struct cs_buf pem = {0};
    struct x509_chain chain = {0};
    Sdktypes__X509Certificate c = SDKTYPES__X509_CERTIFICATE__INIT;
    const char *path = cs_arena_printf(a, "%s/crypto/%s", getenv("CSPIRE_TESTDATA"), file);
    assert_int_equal(cs_file_read(path, 1 << 16, &pem, NULL), CS_OK);
    assert_int_equal(x509_chain_parse_pem(cs_buf_slice(&pem), 1, &chain, NULL), CS_OK);
    struct cs_slice der = chain.at[0]->der;
    c.asn1 = (ProtobufCBinaryData){.len = der.len, .data = cs_arena_memdup(a, der.data, der.len)};
    c.tainted = tainted;
    x509_chain_free(&chain);
    cs_buf_free(&pem);
    return c;
}

static void say_minted(struct stage *s, unsigned stream, Sdktypes__X509Certificate *chain,
                       Sdktypes__X509Certificate *root)
{
    Upstreamauthorityv1__MintX509CAResponse m = UPSTREAMAUTHORITYV1__MINT_X509_CARESPONSE__INIT;
    m.n_x509_ca_chain = chain != NULL;
    m.x509_ca_chain = &chain;
    m.n_upstream_x509_roots = root != NULL;
    m.upstream_x509_roots = &root;
    says(s, stream, &m);
}

struct news {
    pthread_mutex_t lock;
    unsigned roots, keys;
    size_t root_len;
    char kid[20];
    bool tainted;
};

static void on_roots(void *arg, const struct upstreamauthority_result *r)
{
    struct news *n = arg;
    pthread_mutex_lock(&n->lock);
    assert_int_equal(r->chain_count, 0);
    n->roots++;
    n->root_len = r->roots[0].len;
    n->tainted = r->roots_tainted[0];
    pthread_mutex_unlock(&n->lock);
}

static void on_keys(void *arg, const struct upstreamauthority_jwt_key *keys, size_t count)
{
    struct news *n = arg;
    pthread_mutex_lock(&n->lock);
    n->keys++;
    if (count > 0)
        snprintf(n->kid, sizeof n->kid, "%s", keys[count - 1].kid);
    pthread_mutex_unlock(&n->lock);
}

static unsigned seen(struct news *n, const unsigned *count)
{
    pthread_mutex_lock(&n->lock);
    unsigned v = *count;
    pthread_mutex_unlock(&n->lock);
    return v;
}

static void await(struct news *n, const unsigned *count, unsigned wanted)
{
    for (int i = 0; i < 10000 && seen(n, count) < wanted; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(seen(n, count), wanted);
}

static const struct upstreamauthority_ops *up(const struct stage *s)
{
    return s->bridge->ops;
}

static cs_code mint(struct stage *s, struct upstreamauthority_result *r, struct cs_err *e)
{
    return up(s)->mint_x509_ca(s->self, cs_slice_str("csr"), 3600, r, e);
}

static void roots_are_pushed(void **state)
{
    (void)state;
    struct stage s;
    struct news n = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct upstreamauthority_listener listener = {on_roots, on_keys, &n};
    struct upstreamauthority_result r = {0};
    set_stage(&s, &plugin_bridge_upstreamauthority);
    Sdktypes__X509Certificate ca = certificate(s.a, "ca_upstream_signed.pem", false),
                              root = certificate(s.a, "ca_p256.pem", true),
                              other = certificate(s.a, "ca_p384.pem", false),
                              bad = SDKTYPES__X509_CERTIFICATE__INIT;
    for (unsigned i = 0; i < STREAMS; i++)
        s.plays[i].code = CS_DEADLINE;
    up(&s)->listen(s.self, &listener);
    say_minted(&s, 0, &ca, &root);
    assert_int_equal(mint(&s, &r, NULL), CS_OK);
    assert_int_equal(r.chain_count, 1);
    assert_int_equal(r.root_count, 1);
    assert_true(r.roots_tainted[0]);
    assert_true(cs_slice_eq(cs_buf_slice(&r.roots[0]), cs_slice_of(root.asn1.data, root.asn1.len)));
    Upstreamauthorityv1__MintX509CARequest *q =
        heard(&s, 0, 0, &upstreamauthorityv1__mint_x509_carequest__descriptor);
    assert_memory_equal(q->csr.data, "csr", 3);
    assert_int_equal(q->preferred_ttl, 3600);
    assert_string_equal(s.plays[0].path,
                        "/spire.plugin.server.upstreamauthority.v1.UpstreamAuthority/MintX509CAAndSubscribe");
    upstreamauthority_result_free(&r);

    /* what cannot be used is left out, what comes after counts */
    say_minted(&s, 0, NULL, &bad);
    say_minted(&s, 0, &ca, &other);
    say_minted(&s, 0, NULL, &other);
    await(&n, &n.roots, 1);
    assert_int_equal(n.root_len, other.asn1.len);
    assert_false(n.tainted);

    /* the next mint takes the place of the stream */
    say_minted(&s, 1, &ca, &root);
    assert_int_equal(mint(&s, &r, NULL), CS_OK);
    upstreamauthority_result_free(&r);
    assert_int_equal(s.x.freed, 1);
    say_minted(&s, 1, NULL, &root);
    await(&n, &n.roots, 2);
    assert_true(n.tainted);
    up(&s)->listen(s.self, NULL);
    say_minted(&s, 1, NULL, &root);
    strike(&s);
    assert_int_equal(n.roots, 2);
}

static void broken_streams_are_opened_again(void **state)
{
    (void)state;
    struct stage s;
    struct news n = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct upstreamauthority_listener listener = {on_roots, on_keys, &n};
    struct upstreamauthority_result r = {0};
    set_stage(&s, &plugin_bridge_upstreamauthority);
    Sdktypes__X509Certificate ca = certificate(s.a, "ca_upstream_signed.pem", false),
                              root = certificate(s.a, "ca_p256.pem", false);
    up(&s)->listen(s.self, &listener);
    s.plays[0].code = CS_UNAVAILABLE; /* it crashes after the answer */
    say_minted(&s, 0, &ca, &root);
    assert_int_equal(mint(&s, &r, NULL), CS_OK);
    upstreamauthority_result_free(&r);
    for (int i = 0; i < 10000 && s.x.freed == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_int_equal(s.x.freed, 1);
    say_minted(&s, 1, &ca, &root);
    say_minted(&s, 1, NULL, &root);
    assert_int_equal(mint(&s, &r, NULL), CS_OK);
    upstreamauthority_result_free(&r);
    await(&n, &n.roots, 1);
    strike(&s);
}

static void mint_fails(Sdktypes__X509Certificate *chain, Sdktypes__X509Certificate *root, bool answer,
                       const char *text)
{
    struct stage s;
    struct upstreamauthority_result r = {0};
    struct cs_err e = {0};
    set_stage(&s, &plugin_bridge_upstreamauthority);
    if (answer)
        say_minted(&s, 0, chain, root);
    assert_int_equal(mint(&s, &r, &e), CS_INTERNAL);
    assert_begins(e.text, "upstreamauthority(own): ");
    assert_begins(e.text + strlen("upstreamauthority(own): "), text);
    upstreamauthority_result_free(&r);
    strike(&s);
}

static void bad_mints_are_refused(void **state)
{
    (void)state;
    struct cs_arena *a = cs_arena_new(0, 0);
    Sdktypes__X509Certificate good = certificate(a, "ca_p256.pem", false),
                              cut = certificate(a, "ca_p256.pem", false),
                              none = SDKTYPES__X509_CERTIFICATE__INIT;
    cut.asn1.len--;
    mint_fails(NULL, NULL, false, "plugin closed stream unexpectedly");
    mint_fails(NULL, &good, true, "plugin response missing X.509 CA chain");
    mint_fails(&good, NULL, true, "plugin response missing upstream X.509 roots");
    mint_fails(&cut, &good, true,
               "plugin response has malformed X.509 CA chain: failed to parse X.509 "
               "certificate data: ");
    mint_fails(&none, &good, true,
               "plugin response has malformed X.509 CA chain: missing X.509 certificate data");
    mint_fails(&good, &cut, true,
               "plugin response has malformed upstream X.509 roots: failed to parse X.509 "
               "certificate data: ");
    cs_arena_free(a);
}

static Sdktypes__JWTKey jwt_key(struct cs_arena *a, const char *kid)
{
    Sdktypes__JWTKey k = SDKTYPES__JWTKEY__INIT;
    CS_AUTO(crypto_key) key = NULL;
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &key, NULL), CS_OK);
    struct cs_slice spki = crypto_pub_spki(crypto_key_pub(key));
    k.public_key = (ProtobufCBinaryData){.len = spki.len, .data = cs_arena_memdup(a, spki.data, spki.len)};
    k.key_id = (char *)kid;
    k.expires_at = 1700000000;
    return k;
}

static void say_keys(struct stage *s, unsigned stream, Sdktypes__JWTKey *key)
{
    Upstreamauthorityv1__PublishJWTKeyResponse m = UPSTREAMAUTHORITYV1__PUBLISH_JWTKEY_RESPONSE__INIT;
    m.n_upstream_jwt_keys = 1;
    m.upstream_jwt_keys = &key;
    says(s, stream, &m);
}

static cs_code count_keys(void *arg, const struct upstreamauthority_jwt_key *k)
{
    unsigned *count = arg;
    assert_int_equal(k->not_after, 1700000000);
    (*count)++;
    return strcmp(k->kid, "full") == 0 ? CS_EXHAUSTED : CS_OK;
}

static void keys_are_published_and_pushed(void **state)
{
    (void)state;
    struct stage s;
    struct news n = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct upstreamauthority_listener listener = {on_roots, on_keys, &n};
    unsigned count = 0;
    struct cs_err e = {0};
    set_stage(&s, &plugin_bridge_upstreamauthority);
    up(&s)->listen(s.self, &listener);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    Sdktypes__JWTKey key = jwt_key(a, "mine"), other = jwt_key(a, "theirs"), bad = jwt_key(a, "bad");
    const struct upstreamauthority_jwt_key mine = {
        .pkix = {key.public_key.data, key.public_key.len}, .kid = "mine", .not_after = 1700000000};
    for (unsigned i = 0; i < STREAMS; i++)
        s.plays[i].code = CS_DEADLINE;
    say_keys(&s, 0, &key);
    assert_int_equal(up(&s)->publish_jwt_key(s.self, &mine, count_keys, &count, NULL), CS_OK);
    assert_int_equal(count, 1);
    Upstreamauthorityv1__PublishJWTKeyRequest *q =
        heard(&s, 0, 0, &upstreamauthorityv1__publish_jwtkey_request__descriptor);
    assert_string_equal(q->jwt_key->key_id, "mine");
    assert_int_equal(q->jwt_key->expires_at, 1700000000);
    say_keys(&s, 0, &other);
    await(&n, &n.keys, 1);
    assert_string_equal(n.kid, "theirs");

    bad.public_key.len = 0;
    say_keys(&s, 1, &bad);
    assert_int_equal(up(&s)->publish_jwt_key(s.self, &mine, count_keys, &count, &e), CS_INTERNAL);
    assert_string_equal(e.text, "upstreamauthority(own): invalid plugin response: missing public key for JWT "
                                "key \"bad\"");
    bad.public_key.len = 5;
    say_keys(&s, 2, &bad);
    assert_int_equal(up(&s)->publish_jwt_key(s.self, &mine, count_keys, &count, &e), CS_INTERNAL);
    assert_begins(e.text, "upstreamauthority(own): invalid plugin response: failed to unmarshal public key "
                          "for JWT key \"bad\": ");
    other.key_id = (char *)"full";
    say_keys(&s, 3, &other);
    assert_int_equal(up(&s)->publish_jwt_key(s.self, &mine, count_keys, &count, &e), CS_EXHAUSTED);
    strike(&s);

    set_stage(&s, &plugin_bridge_upstreamauthority);
    s.plays[0].code = CS_UNIMPLEMENTED;
    key = jwt_key(s.a, "mine");
    const struct upstreamauthority_jwt_key again = {
        .pkix = {key.public_key.data, key.public_key.len}, .kid = "mine", .not_after = 1700000000};
    assert_int_equal(up(&s)->publish_jwt_key(s.self, &again, count_keys, &count, &e), CS_UNIMPLEMENTED);
    assert_string_equal(e.text, "upstreamauthority(own): no way");
    strike(&s);
}

static void say_bundle(struct stage *s, unsigned stream, Sdktypes__X509Certificate *root,
                       Sdktypes__JWTKey *key)
{
    Upstreamauthorityv1__SubscribeToLocalBundleResponse m =
        UPSTREAMAUTHORITYV1__SUBSCRIBE_TO_LOCAL_BUNDLE_RESPONSE__INIT;
    m.n_upstream_x509_roots = 1;
    m.upstream_x509_roots = &root;
    m.n_upstream_jwt_keys = 1;
    m.upstream_jwt_keys = &key;
    says(s, stream, &m);
}

/* Without a mint, as after a restart. It takes the 5 s that SPIRE waits, too. */
static void the_bundle_is_followed(void **state)
{
    (void)state;
    struct stage s;
    struct news n = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct upstreamauthority_listener listener = {on_roots, on_keys, &n};
    set_stage(&s, &plugin_bridge_upstreamauthority);
    Sdktypes__X509Certificate root = certificate(s.a, "ca_p256.pem", true),
                              bad = SDKTYPES__X509_CERTIFICATE__INIT;
    Sdktypes__JWTKey key = jwt_key(s.a, "theirs");
    for (unsigned i = 0; i < STREAMS; i++)
        s.plays[i].code = CS_DEADLINE;
    say_bundle(&s, 0, &bad, &key);
    say_bundle(&s, 0, &root, &key);
    up(&s)->listen(s.self, &listener);
    await(&n, &n.keys, 1);
    assert_int_equal(seen(&n, &n.roots), 1);
    assert_true(n.tainted);
    assert_string_equal(n.kid, "theirs");
    assert_string_equal(s.plays[0].path,
                        "/spire.plugin.server.upstreamauthority.v1.UpstreamAuthority/SubscribeToLocalBundle");
    up(&s)->listen(s.self, NULL);
    assert_int_equal(s.x.freed, 1);
    up(&s)->listen(s.self, &listener); /* and again, which ends while it waits */
    strike(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_challenged),
        cmocka_unit_test(bad_attestations_are_refused),
        cmocka_unit_test(nobody_waits_for_an_agent_that_has_gone),
        cmocka_unit_test(agents_answer_challenges),
        cmocka_unit_test(bad_aid_is_refused),
        cmocka_unit_test(roots_are_pushed),
        cmocka_unit_test(broken_streams_are_opened_again),
        cmocka_unit_test(bad_mints_are_refused),
        cmocka_unit_test(keys_are_published_and_pushed),
        cmocka_unit_test(the_bundle_is_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
