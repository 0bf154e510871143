/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor of the agent over gRPC: carries payload, challenges and responses between the plugin and the
 * server.
 */
#include "plugin/nodeattestor_agent.h"

#include "plugin/bridge/bridge.h"

#include "sdk_agent_nodeattestor.pb-c.h"

#define SERVICE "spire.plugin.agent.nodeattestor.v1.NodeAttestor"
/* A plugin may have to ask slow hardware. */
#define STEP_NS PLUGIN_EXTERNAL_DEADLINE_NS
/* The whole of an attestation, the server's part of it too. */
#define ATTESTATION_NS (10 * 60 * CS_NS_PER_S)

struct attestation {
    const struct bridge *b;
    const struct nodeattestor_agent_stream *server;
    struct plugin_stream *plugin;
    struct cs_arena *arena;
};

static cs_code next(struct attestation *at, const char *when_closed,
                    Anodeattestorv1__PayloadOrChallengeResponse **m, struct cs_err *e)
{
    cs_arena_reset(at->arena);
    CS_TRY(bridge_recv(at->b, at->plugin, &anodeattestorv1__payload_or_challenge_response__descriptor,
                       at->arena, (struct bridge_wait){.ns = STEP_NS}, m, e));
    return *m != NULL ? CS_OK : bridge_fail(at->b, e, CS_INTERNAL, "%s", when_closed);
}

static cs_code first(struct attestation *at, struct cs_slice *payload, struct cs_err *e)
{
    Anodeattestorv1__PayloadOrChallengeResponse *m;
    CS_TRY(next(at, "plugin closed stream before returning attestation data", &m, e));
    if (m->data_case != ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__DATA_PAYLOAD || m->payload.len == 0)
        return bridge_fail(at->b, e, CS_INTERNAL, "plugin response missing attestation payload");
    *payload = bridge_bytes(m->payload);
    return CS_OK;
}

/* When sending fails, why is in what comes back. */
static cs_code answer(struct attestation *at, struct cs_slice challenge, struct cs_slice *response,
                      struct cs_err *e)
{
    Anodeattestorv1__Challenge request = ANODEATTESTORV1__CHALLENGE__INIT;
    request.challenge = bridge_data(challenge);
    cs_code sent = plugin_stream_send(at->plugin, &request.base, e);
    if (sent == CS_INTERNAL)
        return bridge_answer(at->b, sent, e);
    Anodeattestorv1__PayloadOrChallengeResponse *m;
    CS_TRY(next(at, "plugin closed stream before handling the challenge", &m, e));
    if (m->data_case != ANODEATTESTORV1__PAYLOAD_OR_CHALLENGE_RESPONSE__DATA_CHALLENGE_RESPONSE ||
        m->challenge_response.len == 0)
        return bridge_fail(at->b, e, CS_INTERNAL, "plugin response missing challenge response");
    *response = bridge_bytes(m->challenge_response);
    return CS_OK;
}

static cs_code converse(struct attestation *at, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf challenge = {0};
    struct cs_slice ours;
    bool done = false;
    CS_TRY(first(at, &ours, e));
    CS_TRY(at->server->exchange(at->server->arg, ours, &challenge, &done, e));
    while (!done) {
        CS_TRY(answer(at, cs_buf_slice(&challenge), &ours, e));
        CS_TRY(at->server->exchange(at->server->arg, ours, &challenge, &done, e));
    }
    return CS_OK;
}

static cs_code attest(void *self, const struct nodeattestor_agent_stream *stream, struct cs_err *e)
{
    struct attestation at = {.b = self, .server = stream, .arena = cs_arena_new(0, 0)};
    if (at.arena == NULL)
        return cs_nomem(e);
    cs_code rc = bridge_answer(
        at.b,
        plugin_stream_open(at.b->x, "/" SERVICE "/AidAttestation", NULL, 0, ATTESTATION_NS, &at.plugin, e),
        e);
    if (rc == CS_OK)
        rc = converse(&at, e);
    plugin_stream_free(at.plugin);
    cs_arena_free(at.arena);
    return rc;
}

static const struct nodeattestor_agent_ops ops = {.attest = attest};

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    return bridge_new(x, env, PLUGIN_TYPE_NODEATTESTOR, sizeof(struct bridge), self, e);
}

const struct plugin_bridge plugin_bridge_agent_nodeattestor = {
    .service = SERVICE,
    .ops = &ops,
    .create = create,
    .destroy = bridge_free,
};
