/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor of the server over gRPC. The stream to the plugin lives as long as the attestation; each
 * message of the agent is one call here, which waits for one answer of the plugin.
 */
#include "plugin/nodeattestor_server.h"

#include "plugin/bridge/bridge.h"

#include "sdk_server_nodeattestor.pb-c.h"

#define SERVICE "spire.plugin.server.nodeattestor.v1.NodeAttestor"
/* Plugins ask clouds about the node; an answer to an agent that waits longer is worth nothing. */
#define STEP_NS PLUGIN_EXTERNAL_DEADLINE_NS
/* The whole of an attestation: what a plugin may be told meanwhile waits no longer for it to be read. */
#define ATTESTATION_NS (10 * 60 * CS_NS_PER_S)

struct session {
    struct plugin_stream *stream;
    struct cs_arena *arena; /* what the last answer left */
    struct bridge_wait wait;
};

static void end(void *self, void *session)
{
    (void)self;
    struct session *s = session;
    if (s == NULL)
        return;
    plugin_stream_free(s->stream);
    cs_arena_free(s->arena);
    cs_free(s);
}

static cs_code take_attributes(const struct bridge *b, const Snodeattestorv1__AgentAttributes *in,
                               struct nodeattestor_step *step, struct cs_err *e)
{
    if (in->spiffe_id[0] == '\0')
        return bridge_fail(b, e, CS_INTERNAL, "plugin response missing agent ID");
    *step = (struct nodeattestor_step){
        .done = true,
        .agent_id = in->spiffe_id,
        .selector_values = (const char *const *)in->selector_values,
        .selector_count = in->n_selector_values,
        .can_reattest = in->can_reattest,
    };
    return CS_OK;
}

static cs_code take_answer(const struct bridge *b, const Snodeattestorv1__AttestResponse *in,
                           struct nodeattestor_step *step, struct cs_err *e)
{
    if (in == NULL)
        return bridge_fail(b, e, CS_INTERNAL, "plugin closed stream unexpectedly");
    switch (in->response_case) {
    case SNODEATTESTORV1__ATTEST_RESPONSE__RESPONSE_AGENT_ATTRIBUTES:
        return take_attributes(b, in->agent_attributes, step, e);
    case SNODEATTESTORV1__ATTEST_RESPONSE__RESPONSE_CHALLENGE:
        *step = (struct nodeattestor_step){.challenge = bridge_bytes(in->challenge)};
        return CS_OK;
    default:
        return bridge_fail(b, e, CS_INTERNAL, "plugin response missing challenge or agent attributes");
    }
}

/* A plugin that ended the stream with a reason may be found out while sending: the reason is in what
 * comes back. */
static cs_code exchange(const struct bridge *b, struct session *s,
                        const Snodeattestorv1__AttestRequest *request, struct nodeattestor_step *step,
                        struct cs_err *e)
{
    *step = (struct nodeattestor_step){0};
    cs_arena_reset(s->arena);
    cs_code sent = plugin_stream_send(s->stream, &request->base, e);
    if (sent == CS_INTERNAL)
        return bridge_answer(b, sent, e);
    Snodeattestorv1__AttestResponse *answer;
    CS_TRY(bridge_recv(b, s->stream, &snodeattestorv1__attest_response__descriptor, s->arena, s->wait,
                       &answer, e));
    CS_TRY(take_answer(b, answer, step, e));
    if (step->done) { /* nothing more is said; what was answered stays */
        plugin_stream_free(s->stream);
        s->stream = NULL;
    }
    return CS_OK;
}

static cs_code open_session(const struct bridge *b, const struct nodeattestor_request *request,
                            struct session **out, struct cs_err *e)
{
    const struct rpc_metadata md[] = {
        {"x-untrusted-forwarded-host", request->host != NULL ? request->host : ""},
        {"x-forwarded-client-ip", request->client_ip},
    };
    struct session *s = cs_calloc(1, sizeof *s);
    *out = s;
    if (s == NULL)
        return cs_nomem(e);
    s->wait = (struct bridge_wait){.ns = STEP_NS, .stop = request->gone};
    s->arena = cs_arena_new(0, 0);
    if (s->arena == NULL)
        return cs_nomem(e);
    return bridge_answer(b,
                         plugin_stream_open(b->x, "/" SERVICE "/Attest", md, sizeof md / sizeof md[0],
                                            ATTESTATION_NS, &s->stream, e),
                         e);
}

static cs_code start(void *self, const struct nodeattestor_request *request, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    *session = NULL;
    if (request->payload.len == 0)
        return cs_fail(e, CS_INVALID, "payload cannot be empty");
    struct session *s = NULL;
    Snodeattestorv1__AttestRequest message = SNODEATTESTORV1__ATTEST_REQUEST__INIT;
    message.request_case = SNODEATTESTORV1__ATTEST_REQUEST__REQUEST_PAYLOAD;
    message.payload = bridge_data(request->payload);
    cs_code rc = open_session(self, request, &s, e);
    if (rc == CS_OK)
        rc = exchange(self, s, &message, step, e);
    if (rc != CS_OK) {
        end(self, s);
        return rc;
    }
    *session = s;
    return CS_OK;
}

static cs_code respond(void *self, void *session, struct cs_slice response, struct nodeattestor_step *step,
                       struct cs_err *e)
{
    Snodeattestorv1__AttestRequest message = SNODEATTESTORV1__ATTEST_REQUEST__INIT;
    message.request_case = SNODEATTESTORV1__ATTEST_REQUEST__REQUEST_CHALLENGE_RESPONSE;
    message.challenge_response = bridge_data(response);
    return exchange(self, session, &message, step, e);
}

static const struct nodeattestor_ops ops = {.start = start, .respond = respond, .end = end};

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    return bridge_new(x, env, PLUGIN_TYPE_NODEATTESTOR, sizeof(struct bridge), self, e);
}

const struct plugin_bridge plugin_bridge_nodeattestor = {
    .service = SERVICE,
    .ops = &ops,
    .create = create,
    .destroy = bridge_free,
};
