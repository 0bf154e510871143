/* SPDX-License-Identifier: Apache-2.0
 *
 * What every NodeAttestor does: the server's, with and without challenges, and the agent's.
 */
#include "plugin/nodeattestor_agent.h"
#include "plugin/nodeattestor_server.h"

#include "base/file.h"
#include "tests/nitro/make.h"
#include "tests/suite/reference.h"
#include "tests/suite/subject.h"

/* --- The server's --- */

/* What a node says to one attestor. */
struct node {
    /* Append a payload that is good; each time another one. */
    void (*payload)(struct node *n, struct cs_buf *out);
    const char *id; /* beginning of the agent's */
    unsigned challenges;
    const char *selector; /* one of them, or the beginning of it */
    struct nitro_authority *nitro;
};

static const struct nodeattestor_ops *ops(const struct suite *s)
{
    return s->ops;
}

struct attestation {
    void *session;
    struct nodeattestor_step step;
    struct cs_err e;
};

static cs_code start(struct suite *s, struct attestation *a, struct cs_slice payload)
{
    const struct nodeattestor_request request = {
        .payload = payload, .client_ip = "192.0.2.1", .host = "server.test"};
    *a = (struct attestation){0};
    return ops(s)->start(s->self, &request, &a->session, &a->step, &a->e);
}

static cs_code answer(struct suite *s, struct attestation *a)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
    reference_respond(&response, a->step.challenge);
    return ops(s)->respond(s->self, a->session, cs_buf_slice(&response), &a->step, &a->e);
}

static void end(struct suite *s, struct attestation *a)
{
    if (a->session != NULL)
        ops(s)->end(s->self, a->session);
    a->session = NULL;
}

static void begin_good(struct suite *s, struct attestation *a)
{
    struct node *n = s->subject->arg;
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    n->payload(n, &payload);
    suite_must(start(s, a, cs_buf_slice(&payload)), &a->e);
}

static void check_attested(const struct suite *s, const struct attestation *a)
{
    const struct node *n = s->subject->arg;
    bool found = false;
    assert_true(a->step.done);
    if (strncmp(a->step.agent_id, n->id, strlen(n->id)) != 0)
        fail_msg("%s", a->step.agent_id);
    for (size_t i = 0; i < a->step.selector_count; i++)
        found = found || strncmp(a->step.selector_values[i], n->selector, strlen(n->selector)) == 0;
    assert_true(found);
}

static void a_node_is_attested(void **state)
{
    struct suite *s = *state;
    const struct node *n = s->subject->arg;
    struct attestation a;
    begin_good(s, &a);
    for (unsigned i = 0; i < n->challenges; i++) {
        assert_false(a.step.done);
        assert_true(a.step.challenge.len > 0);
        suite_must(answer(s, &a), &a.e);
    }
    check_attested(s, &a);
    end(s, &a);
}

static void many_nodes_at_once(void **state)
{
    struct suite *s = *state;
    const struct node *n = s->subject->arg;
    struct attestation a[8];
    for (size_t k = 0; k < 8; k++)
        begin_good(s, &a[k]);
    for (unsigned i = 0; i < n->challenges; i++)
        for (size_t k = 8; k-- > 0;)
            suite_must(answer(s, &a[k]), &a[k].e);
    for (size_t k = 0; k < 8; k++) {
        check_attested(s, &a[k]);
        end(s, &a[k]);
    }
}

static void a_node_may_go_at_any_time(void **state)
{
    struct suite *s = *state;
    struct attestation a;
    for (int i = 0; i < 4; i++) {
        begin_good(s, &a);
        end(s, &a);
    }
    a_node_is_attested(state);
}

static void bad_payloads_are_refused(void **state)
{
    struct suite *s = *state;
    static const uint8_t zeros[5000];
    const struct cs_slice rows[] = {cs_slice_str("nonsense"), cs_slice_of(zeros, sizeof zeros)};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct attestation a;
        cs_code rc = start(s, &a, rows[i]);
        assert_true(rc == CS_DENIED || rc == CS_INVALID);
        assert_true(suite_text(s, &a.e)[0] != '\0');
        end(s, &a);
    }
    a_node_is_attested(state);
}

static void wrong_responses_are_refused(void **state)
{
    struct suite *s = *state;
    const struct node *n = s->subject->arg;
    struct attestation a;
    if (n->challenges == 0)
        return; /* there is nothing to respond to */
    begin_good(s, &a);
    assert_int_equal(ops(s)->respond(s->self, a.session, cs_slice_str("guess"), &a.step, &a.e), CS_DENIED);
    assert_string_equal(suite_text(s, &a.e), "the response does not answer the challenge");
    end(s, &a);
    begin_good(s, &a);
    assert_int_equal(ops(s)->respond(s->self, a.session, (struct cs_slice){0}, &a.step, &a.e), CS_DENIED);
    end(s, &a);
}

static void digit(struct node *n, struct cs_buf *out)
{
    cs_buf_printf(out, "%u", n->challenges);
}

static void document(struct node *n, struct cs_buf *out)
{
    static unsigned made; /* no two documents are the same */
    struct cs_err e = {0};
    uint8_t pcr0[48] = {1}, nonce[8] = {0};
    memcpy(nonce, &made, sizeof made);
    made++;
    struct nitro_make_document d = {
        .module_id = "i-0123456789abcdef0-enc0123456789abcdef",
        .timestamp_ms = cs_now_ns(&cs_clock_system) / CS_NS_PER_MS,
        .nonce = cs_slice_of(nonce, sizeof nonce),
        .indefinite = true,
    };
    for (size_t i = 0; i < 16; i++)
        d.pcrs[i] = cs_slice_of(pcr0, sizeof pcr0);
    suite_must(nitro_make_document(n->nitro, &d, out, &e), &e);
}

static void write_nitro_root(struct suite *s)
{
    const struct node *n = s->subject->arg;
    struct cs_err e = {0};
    char path[100];
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    const struct x509_chain chain = {&n->nitro->certs[0], 1};
    x509_chain_write_pem(&pem, &chain);
    snprintf(path, sizeof path, "%s/root.pem", s->dir);
    suite_must(cs_file_write_atomic(path, cs_buf_slice(&pem), 0600, &e), &e);
}

int suite_nodeattestor_server(void)
{
    struct cs_err e = {0};
    struct nitro_authority nitro = {0};
    if (nitro_authority_make(&nitro, cs_now_s(&cs_clock_system), &e) != CS_OK) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    struct node three = {digit, "spiffe://example.org/spire/agent/reference/3", 3, "host:server.test", NULL};
    struct node none = {digit, "spiffe://example.org/spire/agent/reference/0", 0, "ip:192.0.2.1", NULL};
    struct node enclave = {document, "spiffe://example.org/spire/agent/nitro-enclave/", 0, "pcr0:01", &nitro};
    static const char root[] = "root_ca_path = \"%s/root.pem\"";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_attested),          cmocka_unit_test(many_nodes_at_once),
        cmocka_unit_test(a_node_may_go_at_any_time),   cmocka_unit_test(bad_payloads_are_refused),
        cmocka_unit_test(wrong_responses_are_refused),
    };
    const struct suite_subject subjects[] = {
        {"server", PLUGIN_TYPE_NODEATTESTOR, "reference", "%s", false, &three, NULL},
        {"server", PLUGIN_TYPE_NODEATTESTOR, "reference", "%s", true, &three, NULL},
        {"server", PLUGIN_TYPE_NODEATTESTOR, "reference", "%s", false, &none, NULL},
        {"server", PLUGIN_TYPE_NODEATTESTOR, "reference", "%s", true, &none, NULL},
        {"server", PLUGIN_TYPE_NODEATTESTOR, "nitro_enclave", root, false, &enclave, write_nitro_root},
        {"server", PLUGIN_TYPE_NODEATTESTOR, "nitro_enclave", root, true, &enclave, write_nitro_root},
    };
    int failed = SUITE_RUN("nodeattestor_server", tests, subjects);
    nitro_authority_free(&nitro);
    return failed;
}

/* --- The agent's --- */

struct server {
    unsigned challenges, sent;
    cs_code refusal;
};

static cs_code exchange(void *arg, struct cs_slice payload, struct cs_buf *challenge, bool *done,
                        struct cs_err *e)
{
    struct server *v = arg;
    if (v->sent == 0)
        assert_true(cs_slice_is(payload, REFERENCE_PAYLOAD));
    if (v->sent > 0) {
        CS_CLEANUP(cs_buf_free) struct cs_buf wanted = {0};
        reference_respond(&wanted, cs_buf_slice(challenge));
        assert_true(cs_slice_eq(payload, cs_buf_slice(&wanted)));
    }
    if (v->refusal != CS_OK && v->sent == v->challenges)
        return cs_fail(e, v->refusal, "the server says no");
    cs_buf_reset(challenge);
    *done = v->sent == v->challenges;
    cs_buf_printf(challenge, "challenge %u", v->sent++);
    return CS_OK;
}

static cs_code attest(struct suite *s, struct server *v, struct cs_err *e)
{
    const struct nodeattestor_agent_ops *agent = s->ops;
    const struct nodeattestor_agent_stream stream = {.exchange = exchange, .arg = v};
    return agent->attest(s->self, &stream, e);
}

static void challenges_are_answered(void **state)
{
    struct suite *s = *state;
    for (unsigned n = 0; n < 4; n++) {
        struct cs_err e = {0};
        struct server v = {.challenges = n};
        suite_must(attest(s, &v, &e), &e);
        assert_int_equal(v.sent, n + 1);
    }
}

static void what_the_server_says_is_passed_on(void **state)
{
    struct suite *s = *state;
    for (unsigned n = 0; n < 3; n++) {
        struct cs_err e = {0};
        struct server v = {.challenges = n, .refusal = CS_DENIED};
        assert_int_equal(attest(s, &v, &e), CS_DENIED);
        assert_string_equal(e.text, "the server says no");
    }
    challenges_are_answered(state);
}

int suite_nodeattestor_agent(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(challenges_are_answered),
                                       cmocka_unit_test(what_the_server_says_is_passed_on)};
    const struct suite_subject subjects[] = {
        {"agent", PLUGIN_TYPE_NODEATTESTOR, "reference", "%s", false, NULL, NULL},
        {"agent", PLUGIN_TYPE_NODEATTESTOR, "reference", "%s", true, NULL, NULL},
    };
    return SUITE_RUN("nodeattestor_agent", tests, subjects);
}
