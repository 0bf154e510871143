/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor of servers and agents: a stream each, which the plugin sees as a start, responses and an end.
 */
#include "kit/kit.h"

#include "sdk_agent_nodeattestor.pb-c.h"
#include "sdk_server_nodeattestor.pb-c.h"

/* --- What both have --- */

/* One attestation. A call's callbacks run one after another, so nothing here is locked. */
struct attestation {
    void *session;
    bool inside;  /* between kit_enter and kit_leave */
    bool started; /* the plugin's start was run */
};

static cs_code on_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)call;
    struct attestation *a = cs_calloc(1, sizeof *a);
    if (a == NULL)
        return cs_nomem(e);
    *state = a;
    CS_TRY(kit_enter(service, e));
    a->inside = true;
    return CS_OK;
}

static void finish(struct cspire_env *env, struct attestation *a, void (*end)(void *self, void *session))
{
    if (a == NULL)
        return;
    if (a->session != NULL && end != NULL) {
        kit_lock(env);
        end(env->self, a->session);
        kit_unlock(env);
    }
    if (a->inside)
        kit_leave(env);
    cs_free(a);
}

static cs_code send(struct rpc_call *call, const ProtobufCMessage *m, struct cs_err *e)
{
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    CS_TRY(proto_pack(m, &out, e));
    cs_code code = rpc_call_send(call, &out);
    return code == CS_OK ? CS_OK : cs_fail(e, code, "the answer cannot be sent");
}

static ProtobufCBinaryData bytes_of(struct cs_slice s)
{
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)s.data};
}

/* --- Server --- */

static const char *metadata_text(struct cspire_call *c, const char *key)
{
    struct cs_slice v = rpc_call_metadata(c->rpc, key);
    return cs_arena_strndup(c->arena, v.len > 0 ? (const char *)v.data : "", v.len);
}

static cs_code server_start(struct cspire_call *c, struct attestation *a, struct cs_slice payload,
                            struct cs_err *e)
{
    const struct cspire_server_node_attestor_ops *ops = c->env->plugin->ops.server_node_attestor;
    if (KIT_OP(ops, start) == NULL)
        return kit_missing(e);
    struct cspire_attest_request req = {.size = sizeof req,
                                        .payload = kit_bytes(payload.data, payload.len),
                                        .forwarded_host = metadata_text(c, "x-untrusted-forwarded-host"),
                                        .client_ip = metadata_text(c, "x-forwarded-client-ip")};
    if (req.forwarded_host == NULL || req.client_ip == NULL)
        return cs_nomem(e);
    a->started = true;
    kit_lock(c->env);
    enum cspire_code code = ops->start(c->env->self, c, &req, &a->session);
    kit_unlock(c->env);
    return kit_verdict(c, code, e);
}

static cs_code server_respond(struct cspire_call *c, struct attestation *a, struct cs_slice response,
                              struct cs_err *e)
{
    const struct cspire_server_node_attestor_ops *ops = c->env->plugin->ops.server_node_attestor;
    if (KIT_OP(ops, respond) == NULL)
        return kit_missing(e);
    kit_lock(c->env);
    enum cspire_code code = ops->respond(c->env->self, c, a->session, kit_bytes(response.data, response.len));
    kit_unlock(c->env);
    return kit_verdict(c, code, e);
}

static cs_code server_answer(struct cspire_call *c, struct cs_err *e)
{
    Snodeattestorv1__AttestResponse resp = SNODEATTESTORV1__ATTEST_RESPONSE__INIT;
    Snodeattestorv1__AgentAttributes agent = SNODEATTESTORV1__AGENT_ATTRIBUTES__INIT;
    bool done = (c->given & KIT_AGENT) != 0;
    if (done == ((c->given & KIT_CHALLENGE) != 0))
        return cs_fail(e, CS_INTERNAL, "the plugin answers with neither an agent nor a challenge, or both");
    if (done) {
        agent.spiffe_id = (char *)c->text;
        agent.selector_values = (char **)c->texts.at;
        agent.n_selector_values = c->texts.count;
        agent.can_reattest = c->can_reattest;
        resp.response_case = SNODEATTESTORV1__ATTEST_RESPONSE__RESPONSE_AGENT_ATTRIBUTES;
        resp.agent_attributes = &agent;
    } else {
        resp.response_case = SNODEATTESTORV1__ATTEST_RESPONSE__RESPONSE_CHALLENGE;
        resp.challenge = bytes_of(c->bytes);
    }
    CS_TRY(send(c->rpc, &resp.base, e));
    if (done)
        rpc_call_finish(c->rpc, CS_OK, "");
    return CS_OK;
}

static cs_code server_step(struct cspire_call *c, struct attestation *a, struct cs_slice msg,
                           struct cs_err *e)
{
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(c->arena, &snodeattestorv1__attest_request__descriptor, msg, &m, e));
    const Snodeattestorv1__AttestRequest *req = (const Snodeattestorv1__AttestRequest *)m;
    bool is_payload = req->request_case == SNODEATTESTORV1__ATTEST_REQUEST__REQUEST_PAYLOAD;
    bool is_response = req->request_case == SNODEATTESTORV1__ATTEST_REQUEST__REQUEST_CHALLENGE_RESPONSE;
    if (!a->started) {
        if (!is_payload || req->payload.len == 0)
            return cs_fail(e, CS_INVALID, "payload cannot be empty");
        CS_TRY(server_start(c, a, cs_slice_of(req->payload.data, req->payload.len), e));
    } else {
        if (!is_response)
            return cs_fail(e, CS_INVALID, "missing challenge response");
        struct cs_slice r = cs_slice_of(req->challenge_response.data, req->challenge_response.len);
        CS_TRY(server_respond(c, a, r, e));
    }
    return server_answer(c, e);
}

static cs_code on_server_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                                 struct cs_err *e)
{
    struct cspire_call c;
    CS_TRY(kit_call_init(&c, service, call, NULL, KIT_AGENT | KIT_CHALLENGE | KIT_SELECTOR, e));
    cs_code code = server_step(&c, state, msg, e);
    kit_call_end(&c);
    return code;
}

static void on_server_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    struct cspire_env *env = service;
    const struct cspire_server_node_attestor_ops *ops = env->plugin->ops.server_node_attestor;
    finish(env, state, KIT_OP(ops, end));
}

/* --- Agent --- */

static cs_code agent_answer(struct cspire_call *c, bool first, struct cs_err *e)
{
    if (!(c->given & KIT_PAYLOAD))
        return cs_fail(e, CS_INTERNAL, "the plugin answers without a payload");
    Anodeattestorv1__PayloadOrChallengeResponse m = ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__INIT;
    if (first) {
        m.data_case = ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__DATA_PAYLOAD;
        m.payload = bytes_of(c->bytes);
    } else {
        m.data_case = ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__DATA_CHALLENGE_RESPONSE;
        m.challenge_response = bytes_of(c->bytes);
    }
    return send(c->rpc, &m.base, e);
}

static cs_code agent_start(struct cspire_call *c, struct attestation *a, struct cs_err *e)
{
    const struct cspire_agent_node_attestor_ops *ops = c->env->plugin->ops.agent_node_attestor;
    if (KIT_OP(ops, start) == NULL)
        return kit_missing(e);
    kit_lock(c->env);
    enum cspire_code code = ops->start(c->env->self, c, &a->session);
    kit_unlock(c->env);
    CS_TRY(kit_verdict(c, code, e));
    return agent_answer(c, true, e);
}

static cs_code on_agent_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    CS_TRY(on_open(call, service, state, e));
    struct cspire_call c;
    CS_TRY(kit_call_init(&c, service, call, NULL, KIT_PAYLOAD, e));
    cs_code code = agent_start(&c, *state, e);
    kit_call_end(&c);
    return code;
}

static cs_code agent_step(struct cspire_call *c, struct attestation *a, struct cs_slice msg, struct cs_err *e)
{
    const struct cspire_agent_node_attestor_ops *ops = c->env->plugin->ops.agent_node_attestor;
    if (KIT_OP(ops, respond) == NULL)
        return kit_missing(e);
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(c->arena, &anodeattestorv1__challenge__descriptor, msg, &m, e));
    const Anodeattestorv1__Challenge *challenge = (const Anodeattestorv1__Challenge *)m;
    kit_lock(c->env);
    enum cspire_code code = ops->respond(c->env->self, c, a->session, KIT_PB_BYTES(challenge->challenge));
    kit_unlock(c->env);
    CS_TRY(kit_verdict(c, code, e));
    return agent_answer(c, false, e);
}

static cs_code on_agent_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                                struct cs_err *e)
{
    struct cspire_call c;
    CS_TRY(kit_call_init(&c, service, call, NULL, KIT_PAYLOAD, e));
    cs_code code = agent_step(&c, state, msg, e);
    kit_call_end(&c);
    return code;
}

static void on_agent_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    struct cspire_env *env = service;
    const struct cspire_agent_node_attestor_ops *ops = env->plugin->ops.agent_node_attestor;
    finish(env, state, KIT_OP(ops, end));
}

static const struct rpc_stream_ops server_ops = {
    .open = on_open, .message = on_server_message, .closed = on_server_closed};
static const struct rpc_stream_ops agent_ops = {
    .open = on_agent_open, .message = on_agent_message, .closed = on_agent_closed};

#define SERVER "spire.plugin.server.nodeattestor.v1.NodeAttestor"
#define AGENT "spire.plugin.agent.nodeattestor.v1.NodeAttestor"
static const struct rpc_method server_methods[] = {
    {.path = "/" SERVER "/Attest", .run = RPC_WORKER, .stream = &server_ops},
};
static const struct rpc_method agent_methods[] = {
    {.path = "/" AGENT "/AidAttestation", .run = RPC_WORKER, .stream = &agent_ops},
};

const struct kit_kind kit_server_node_attestor = {
    .kind = CSPIRE_SERVER_NODE_ATTESTOR,
    .type = "NodeAttestor",
    .program = "server",
    .service = SERVER,
    .methods = server_methods,
    .method_count = 1,
};
const struct kit_kind kit_agent_node_attestor = {
    .kind = CSPIRE_AGENT_NODE_ATTESTOR,
    .type = "NodeAttestor",
    .program = "agent",
    .service = AGENT,
    .methods = agent_methods,
    .method_count = 1,
};
