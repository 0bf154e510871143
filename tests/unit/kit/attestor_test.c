/* SPDX-License-Identifier: Apache-2.0
 *
 * Node attestation: streams on the wire, steps for the plugin.
 */
#include "fixture.h"

#include "sdk_agent_nodeattestor.pb-c.h"
#include "sdk_server_nodeattestor.pb-c.h"

#define ATTEST "/spire.plugin.server.nodeattestor.v1.NodeAttestor/Attest"
#define AID "/spire.plugin.agent.nodeattestor.v1.NodeAttestor/AidAttestation"

static struct kit_fixture fx;

static void send_payload(struct rpc_stream *s, const char *payload)
{
    Snodeattestorv1__AttestRequest req = SNODEATTESTORV1__ATTEST_REQUEST__INIT;
    req.request_case = SNODEATTESTORV1__ATTEST_REQUEST__REQUEST_PAYLOAD;
    req.payload = kf_bytes(payload);
    kf_send(s, &req.base);
}
static void send_response(struct rpc_stream *s, const char *response)
{
    Snodeattestorv1__AttestRequest req = SNODEATTESTORV1__ATTEST_REQUEST__INIT;
    req.request_case = SNODEATTESTORV1__ATTEST_REQUEST__REQUEST_CHALLENGE_RESPONSE;
    req.challenge_response = kf_bytes(response);
    kf_send(s, &req.base);
}
static cs_code receive(struct rpc_stream *s, Snodeattestorv1__AttestResponse **out, struct cs_err *e)
{
    return kf_recv(&fx, s, &snodeattestorv1__attest_response__descriptor, out, e);
}

static void test_server_at_once(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Snodeattestorv1__AttestResponse *resp;
    kf_ready(&fx, CSPIRE_SERVER_NODE_ATTESTOR);
    struct rpc_stream *s = kf_open(&fx, ATTEST, NULL, 0);
    send_payload(s, "pay");
    KF_OK(receive(s, &resp, &e), e);
    assert_int_equal(resp->response_case, SNODEATTESTORV1__ATTEST_RESPONSE__RESPONSE_AGENT_ATTRIBUTES);
    assert_string_equal(resp->agent_attributes->spiffe_id, "spiffe://example.org/spire/agent/x/1");
    assert_int_equal(resp->agent_attributes->n_selector_values, 2);
    assert_string_equal(resp->agent_attributes->selector_values[0], "one:1");
    assert_string_equal(resp->agent_attributes->selector_values[1], "two");
    assert_true(resp->agent_attributes->can_reattest);
    KF_OK(receive(s, &resp, &e), e);
    assert_null(resp); /* the end, with OK */
    rpc_stream_free(s);
    kf_down(&fx); /* no session is left */
}

static void test_server_metadata(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Snodeattestorv1__AttestResponse *resp;
    kf_ready(&fx, CSPIRE_SERVER_NODE_ATTESTOR);
    const struct rpc_metadata md[] = {{"x-untrusted-forwarded-host", "spire.example.org"},
                                      {"x-forwarded-client-ip", "192.0.2.1"}};
    for (int i = 0; i < 2; i++) {
        struct rpc_stream *s = kf_open(&fx, ATTEST, md, i == 0 ? 2 : 0);
        send_payload(s, "pay");
        KF_OK(receive(s, &resp, &e), e);
        KF_OK(receive(s, &resp, &e), e);
        rpc_stream_free(s);
        const char *want = i == 0 ? "start host=spire.example.org ip=192.0.2.1 payload=706179\n"
                                  : "start host= ip= payload=706179\n";
        assert_memory_equal(kf_seen(&fx), want, strlen(want));
    }
    kf_down(&fx);
}

static void test_server_challenges(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Snodeattestorv1__AttestResponse *resp;
    kf_ready(&fx, CSPIRE_SERVER_NODE_ATTESTOR);
    d_self.challenges = 2;
    struct rpc_stream *s = kf_open(&fx, ATTEST, NULL, 0);
    send_payload(s, "p");
    for (int i = 0; i < 2; i++) {
        KF_OK(receive(s, &resp, &e), e);
        assert_int_equal(resp->response_case, SNODEATTESTORV1__ATTEST_RESPONSE__RESPONSE_CHALLENGE);
        assert_memory_equal(resp->challenge.data, "challenge", 9);
        assert_int_equal(d_self.sessions, 1);
        send_response(s, i == 0 ? "r1" : "");
    }
    KF_OK(receive(s, &resp, &e), e);
    assert_non_null(resp->agent_attributes);
    const char *seen = kf_seen(&fx);
    assert_non_null(strstr(seen, "respond session=1 response=7231\n"));
    assert_non_null(strstr(seen, "respond session=1 response=\n"));
    rpc_stream_free(s);
    kf_down(&fx);
}

static void expect_failure(struct rpc_stream *s, cs_code code, const char *text)
{
    struct cs_err e = {0};
    Snodeattestorv1__AttestResponse *resp;
    assert_int_equal(receive(s, &resp, &e), code);
    assert_string_equal(e.text, text);
    rpc_stream_free(s);
}

static void test_server_refusals(void **state)
{
    (void)state;
    kf_ready(&fx, CSPIRE_SERVER_NODE_ATTESTOR);
    struct rpc_stream *s = kf_open(&fx, ATTEST, NULL, 0);
    send_payload(s, "");
    expect_failure(s, CS_INVALID, "payload cannot be empty");
    s = kf_open(&fx, ATTEST, NULL, 0);
    send_response(s, "r");
    expect_failure(s, CS_INVALID, "payload cannot be empty");
    assert_string_equal(kf_seen(&fx), "");
    d_self.fail = CSPIRE_PERMISSION_DENIED;
    s = kf_open(&fx, ATTEST, NULL, 0);
    send_payload(s, "p");
    expect_failure(s, CS_DENIED, "as asked");
    d_self.fail = CSPIRE_OK;
    d_self.silent = true;
    s = kf_open(&fx, ATTEST, NULL, 0);
    send_payload(s, "p");
    expect_failure(s, CS_INTERNAL, "the plugin answers with neither an agent nor a challenge, or both");
    d_self.silent = false;
    d_self.challenges = 9;
    s = kf_open(&fx, ATTEST, NULL, 0);
    struct cs_err e = {0};
    Snodeattestorv1__AttestResponse *resp;
    send_payload(s, "p");
    KF_OK(receive(s, &resp, &e), e);
    send_payload(s, "another");
    expect_failure(s, CS_INVALID, "missing challenge response");
    kf_down(&fx);
}

/* Agents that go away in the middle leave nothing behind; kf_down counts the sessions. */
static void test_server_left_alone(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Snodeattestorv1__AttestResponse *resp;
    kf_ready(&fx, CSPIRE_SERVER_NODE_ATTESTOR);
    d_self.challenges = 100;
    for (int i = 0; i < 10; i++) {
        struct rpc_stream *s = kf_open(&fx, ATTEST, NULL, 0);
        send_payload(s, "p");
        KF_OK(receive(s, &resp, &e), e);
        rpc_stream_free(s);
    }
    kf_down(&fx);
}

static cs_code aid_receive(struct rpc_stream *s, Anodeattestorv1__PayloadOrChallengeResponse **out,
                           struct cs_err *e)
{
    return kf_recv(&fx, s, &anodeattestorv1__payload_or_challenge_response__descriptor, out, e);
}

static void test_agent(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Anodeattestorv1__PayloadOrChallengeResponse *resp;
    kf_ready(&fx, CSPIRE_AGENT_NODE_ATTESTOR);
    struct rpc_stream *s = kf_open(&fx, AID, NULL, 0);
    KF_OK(aid_receive(s, &resp, &e), e);
    assert_int_equal(resp->data_case, ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__DATA_PAYLOAD);
    assert_memory_equal(resp->payload.data, "payload", 7);
    for (int i = 0; i < 2; i++) {
        Anodeattestorv1__Challenge c = ANODEATTESTORV1__CHALLENGE__INIT;
        c.challenge = kf_bytes("c");
        kf_send(s, &c.base);
        KF_OK(aid_receive(s, &resp, &e), e);
        assert_int_equal(resp->data_case,
                         ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__DATA_CHALLENGE_RESPONSE);
        assert_memory_equal(resp->challenge_response.data, "response", 8);
    }
    rpc_stream_free(s);
    assert_string_equal(kf_seen(&fx),
                        "start\nrespond session=1 challenge=63\nrespond session=1 challenge=63\n");
    kf_down(&fx);
}

static void test_agent_failures(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Anodeattestorv1__PayloadOrChallengeResponse *resp;
    kf_ready(&fx, CSPIRE_AGENT_NODE_ATTESTOR);
    d_self.fail = CSPIRE_UNAVAILABLE;
    struct rpc_stream *s = kf_open(&fx, AID, NULL, 0);
    assert_int_equal(aid_receive(s, &resp, &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "as asked");
    rpc_stream_free(s);
    d_self.fail = CSPIRE_OK;
    d_self.silent = true;
    s = kf_open(&fx, AID, NULL, 0);
    assert_int_equal(aid_receive(s, &resp, &e), CS_INTERNAL);
    assert_string_equal(e.text, "the plugin answers without a payload");
    rpc_stream_free(s);
    kf_down(&fx);
}

static void test_before_init(void **state)
{
    (void)state;
    kf_up(&fx, CSPIRE_SERVER_NODE_ATTESTOR);
    expect_failure(kf_open(&fx, ATTEST, NULL, 0), CS_UNAVAILABLE, "the plugin is not initialized");
    kf_down(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_at_once),    cmocka_unit_test(test_server_metadata),
        cmocka_unit_test(test_server_challenges), cmocka_unit_test(test_server_refusals),
        cmocka_unit_test(test_server_left_alone), cmocka_unit_test(test_agent),
        cmocka_unit_test(test_agent_failures),    cmocka_unit_test(test_before_init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
