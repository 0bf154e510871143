/* SPDX-License-Identifier: Apache-2.0
 *
 * AttestAgent: a node proves what it is and gets an agent SVID. Join tokens are checked here, all other
 * kinds by their node attestor, which may challenge the node any number of times. Nothing waits for the
 * node, and no worker for the attestor: each message is one step, and so is each answer of the attestor.
 * Source: SPIRE's pkg/server/api/agent/v1/service.go.
 */
#include "server/api/attestor.h"
#include "server/api/svid.h"
#include "server/entrycache/wire.h"

#include <stdlib.h>

struct attest {
    bool waiting;     /* for the rate limit */
    bool challenged;  /* a challenge is out */
    bool half_closed; /* the node says nothing more */
    bool done;
    const char *type;
    struct cs_slice csr;
    struct attestation *attestation; /* NULL: not asked yet, or a join token */
};

/* Of one node. More are refused: what an attestor lists is kept in memory for each agent. */
#define SELECTORS_MAX 4096

struct proof {
    const char *agent_id;
    const struct ds_selector *selectors;
    size_t selector_count;
    bool can_reattest;
};

static cs_code attest_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)service;
    struct attest *s = cs_arena_zalloc(rpc_call_arena(call), sizeof *s);
    *state = s;
    return s != NULL ? CS_OK : cs_nomem(e);
}

static void attest_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    struct attest *s = state;
    if (s == NULL)
        return;
    attestation_end(s->attestation);
    s->attestation = NULL;
}

/* --- Join token --- */
static cs_code join_token_id(struct api_call *c, const char *token, const char **id, struct cs_err *e)
{
    struct spiffe_id made;
    const char *path = cs_arena_printf(c->arena, "/spire/agent/join_token/%s", token);
    if (path == NULL)
        return cs_nomem(e);
    CS_TRY(spiffe_path_segment_check(cs_slice_str(token), e));
    CS_TRY(spiffe_id_make(c->arena, c->api->td, cs_slice_str(path), &made, e));
    *id = convert_id_text(made);
    return CS_OK;
}

static cs_code use_join_token(struct api_call *c, struct cs_slice payload, struct proof *proof,
                              struct cs_err *e)
{
    bool found = false;
    int64_t expires_at = 0;
    const char *token = cs_arena_strndup(c->arena, (const char *)payload.data, payload.len);
    if (token == NULL)
        return cs_nomem(e);
    if (ds_token_use(c->api->cfg.ds, token, &found, &expires_at, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to delete join token");
    if (!found)
        return api_fail(c, e, CS_INVALID,
                        "failed to attest: join token does not exist or has already been used");
    if (expires_at < cs_now_s(c->api->cfg.clock))
        return api_fail(c, e, CS_INVALID, "join token expired");
    if (join_token_id(c, token, &proof->agent_id, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to create join token ID");
    return CS_OK;
}

/* --- Registering the attested node --- */
static int by_type_value(const void *a, const void *b)
{
    const struct ds_selector *x = a, *y = b;
    int d = strcmp(x->type, y->type);
    return d != 0 ? d : strcmp(x->value, y->value);
}

/* Sorted and without duplicates; with the agent's own ID when that is configured. */
static cs_code final_selectors(struct api_call *c, struct proof *p, struct cs_err *e)
{
    size_t n = 0;
    struct ds_selector *list = cs_arena_alloc(c->arena, (p->selector_count + 1) * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (; n < p->selector_count; n++)
        list[n] = p->selectors[n];
    if (c->api->cfg.agent_spiffe_id_as_selector)
        list[n++] = (struct ds_selector){"spiffe_id", p->agent_id};
    qsort(list, n, sizeof *list, by_type_value);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || by_type_value(&list[kept - 1], &list[i]) != 0)
            list[kept++] = list[i];
    p->selectors = list;
    p->selector_count = kept;
    return CS_OK;
}

static cs_code check_agent_id(struct api_call *c, const struct attest *s, const char *text,
                              struct spiffe_id *id, struct cs_err *e)
{
    if (spiffe_id_parse(cs_slice_str(text), id, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "invalid agent ID");
    api_field(c, KV("agent_id", text));
    api_audit_add(c, KV("agent_id", text));
    if (cs_slice_is(spiffe_id_path(*id), SPIFFE_SERVER_PATH))
        return api_fail(c, e, CS_INTERNAL, "agent ID cannot collide with the server ID");
    struct cs_err why;
    if (spiffe_id_check_agent_of(*id, c->api->td, s->type, &why) != CS_OK)
        API_LOG(
            c, CS_LOG_WARN,
            "The node attestor produced an invalid agent ID; future releases will enforce that agent IDs are "
            "within the reserved agent namesepace for the node attestor",
            KV_ERR(&why));
    return CS_OK;
}

static cs_code sign_agent(struct api_call *c, const char *agent_id, struct cs_slice der, struct ca_x509 *svid,
                          struct cs_err *e)
{
    struct x509_csr csr;
    if (x509_csr_parse(der, &csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "failed to parse CSR");
    if (x509_csr_verify(&csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "failed to verify CSR signature");
    if (ca_sign_agent(c->api->cfg.ca, c->arena, agent_id, csr.spki, svid, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to sign X509 SVID");
    return CS_OK;
}

static cs_code store_node(struct api_call *c, const struct attest *s, const struct proof *p,
                          const struct ca_x509 *svid, bool known, struct cs_err *e)
{
    struct ds *ds = c->api->cfg.ds;
    const struct ds_node node = {.spiffe_id = p->agent_id,
                                 .attestation_type = s->type,
                                 .serial_number = svid->serial,
                                 .expires_at = svid->not_after,
                                 .can_reattest = p->can_reattest};
    if (!known) {
        cs_code made = ds_node_create(ds, c->arena, &node, NULL, e);
        if (made == CS_OK)
            return CS_OK;
        if (made != CS_EXISTS) /* another server may have been faster */
            return api_fail_cause(c, e, CS_INTERNAL, "failed to create attested agent");
    }
    const struct ds_node_mask mask = {.serial_number = true,
                                      .expires_at = true,
                                      .new_serial_number = true,
                                      .new_expires_at = true,
                                      .can_reattest = true,
                                      .unless_banned = true};
    cs_code code = ds_node_update(ds, c->arena, &node, &mask, NULL, e);
    if (code == CS_DENIED) /* since we looked */
        return api_fail(c, e, CS_DENIED, "failed to attest: agent is banned");
    if (code != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to update attested agent");
    return CS_OK;
}

/* AttestAgentResponse: 1 result { 1 svid, 2 reattestable }, 2 challenge. */
static cs_code send_result(struct rpc_call *call, struct spiffe_id id, const struct ca_x509 *svid,
                           bool reattestable, struct cs_err *e)
{
    struct cs_buf result CS_CLEANUP(cs_buf_free) = {0}, message CS_CLEANUP(cs_buf_free) = {0};
    svid_x509_write(&result, 1, svid, spiffe_id_td(id), spiffe_id_path(id));
    wire_int(&result, 2, reattestable);
    wire_bytes(&message, 1, cs_buf_slice(&result));
    if (!cs_buf_ok(&result) || !cs_buf_ok(&message))
        return cs_nomem(e);
    cs_code code = rpc_call_send(call, &message);
    if (code != CS_OK) {
        (void)cs_fail(e, code, "stream is closed");
        return api_fail_cause(api_call_of(call), e, CS_INTERNAL, "failed to send response over stream");
    }
    return CS_OK;
}

static bool is_banned(const struct agent *known)
{
    return known != NULL && known->attested && known->serial[0] == '\0';
}

/* Another server may have lifted a ban by deleting the agent. */
static cs_code find_agent(struct api_call *c, struct spiffe_id id, struct agent **out, struct cs_err *e)
{
    *out = agentcache_get(c->api->agents, id.text);
    if (!is_banned(*out))
        return CS_OK;
    if (api_store_ask(c->api, convert_id_text(id), e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to fetch agent");
    agent_unref(*out);
    *out = agentcache_get(c->api->agents, id.text);
    return CS_OK;
}

static cs_code admit(struct rpc_call *call, struct attest *s, struct proof *p, struct cs_err *e)
{
    struct api_call *c = api_call_of(call);
    struct spiffe_id id;
    CS_TRY(check_agent_id(c, s, p->agent_id, &id, e));
    CS_TRY(final_selectors(c, p, e));
    CS_AUTO(agent) known = NULL;
    CS_TRY(find_agent(c, id, &known, e));
    bool attested = known != NULL && known->attested;
    if (is_banned(known))
        return api_fail(c, e, CS_DENIED, "failed to attest: agent is banned");
    struct ca_x509 svid;
    CS_TRY(sign_agent(c, p->agent_id, s->csr, &svid, e));
    if (ds_node_set_selectors(c->api->cfg.ds, p->agent_id, p->selectors, p->selector_count, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to update selectors");
    CS_TRY(store_node(c, s, p, &svid, attested, e));
    API_LOG(c, CS_LOG_INFO, "Agent attestation request completed",
            KV("address", rpc_conn_address(rpc_call_conn(call))));
    CS_TRY(send_result(call, id, &svid, p->can_reattest, e));
    s->done = true;
    api_audit(c);
    rpc_call_finish(call, CS_OK, "");
    return CS_OK;
}

/* --- Node attestors --- */
static cs_code no_response(struct api_call *c, struct cs_err *e)
{
    (void)cs_fail(e, CS_UNKNOWN, "EOF");
    return api_fail_cause(c, e, CS_INTERNAL, "failed to receive challenge from agent");
}

static cs_code send_challenge(struct rpc_call *call, struct attest *s, struct cs_slice challenge,
                              struct cs_err *e)
{
    struct cs_buf message CS_CLEANUP(cs_buf_free) = {0};
    wire_bytes(&message, 2, challenge);
    if (!cs_buf_ok(&message))
        return cs_nomem(e);
    s->challenged = true;
    cs_code code = rpc_call_send(call, &message);
    if (code == CS_OK)
        return s->half_closed ? no_response(api_call_of(call), e) : CS_OK;
    (void)cs_fail(e, code, "stream is closed");
    return api_fail_cause(api_call_of(call), e, CS_INTERNAL, "failed to send challenge to agent");
}

static cs_code step_done(struct rpc_call *call, struct attest *s, const struct nodeattestor_step *step,
                         struct cs_err *e)
{
    struct api_call *c = api_call_of(call);
    struct proof p = {.selector_count = step->selector_count, .can_reattest = step->can_reattest};
    if (p.selector_count > SELECTORS_MAX) {
        (void)cs_fail(e, CS_INTERNAL,
                      "nodeattestor(%s): plugin response has %zu selectors; at most %d are taken", s->type,
                      p.selector_count, SELECTORS_MAX);
        struct cs_err cause = *e;
        return api_fail(c, e, CS_INTERNAL, cause.text);
    }
    struct ds_selector *list = cs_arena_alloc(c->arena, (p.selector_count + 1) * sizeof *list);
    p.agent_id = cs_arena_strdup(c->arena, step->agent_id);
    if (list == NULL || p.agent_id == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < p.selector_count; i++)
        list[i] = (struct ds_selector){s->type, step->selector_values[i]};
    p.selectors = list;
    return admit(call, s, &p, e);
}

static cs_code refused(struct api_call *c, struct cs_err *e)
{
    struct cs_err cause = *e;
    return api_fail(c, e, cause.code, cause.text);
}

static cs_code after_step(struct rpc_call *call, struct attest *s, struct cs_err *e)
{
    const struct nodeattestor_step *step;
    if (attestation_result(s->attestation, &step, e) != CS_OK)
        return refused(api_call_of(call), e);
    return step->done ? step_done(call, s, step, e) : send_challenge(call, s, step->challenge, e);
}

/* The attestor has answered. */
static void on_step(struct rpc_call *call, void *service, void *state)
{
    (void)service;
    struct attest *s = state;
    struct cs_err e = {0};
    if (api_call_of(call) == NULL || s == NULL)
        return; /* over in the meantime */
    cs_code code = after_step(call, s, &e);
    if (code != CS_OK)
        rpc_call_finish(call, code, e.text);
}

/* The key asked for, when the CSR proves that the node has it; empty when it is refused later anyway. */
static struct cs_slice proven_key(struct cs_slice der)
{
    struct x509_csr csr;
    if (x509_csr_parse(der, &csr, NULL) != CS_OK || x509_csr_verify(&csr, NULL) != CS_OK)
        return (struct cs_slice){0};
    return csr.spki;
}

/* "server.example.org" of an :authority "server.example.org:8081"; "" when it has no port (SPIRE's
 * getOriginalHost). */
static const char *host_of(struct cs_arena *a, struct cs_slice authority)
{
    char *text = cs_arena_strndup(a, (const char *)authority.data, authority.len);
    char *colon = text != NULL ? strrchr(text, ':') : NULL;
    if (colon == NULL)
        return "";
    *colon = '\0';
    if (text[0] == '[' && colon > text + 1 && colon[-1] == ']') {
        colon[-1] = '\0';
        return text + 1;
    }
    return strchr(text, ':') == NULL ? text : "";
}

static cs_code start_attestor(struct rpc_call *call, struct attest *s, struct cs_slice payload,
                              struct cs_err *e)
{
    struct api_call *c = api_call_of(call);
    const struct catalog_plugin *plugin = api_attestors_find(c->api->attestors, s->type);
    if (plugin == NULL) {
        (void)cs_fail(e, CS_PRECONDITION, "could not find node attestor type \"%s\"", s->type);
        return api_fail_cause(c, e, CS_PRECONDITION, "error getting node attestor");
    }
    const struct nodeattestor_request request = {
        .payload = payload,
        .spki = proven_key(s->csr),
        .client_ip = rpc_conn_ip(rpc_call_conn(call)),
        .host = host_of(c->arena, rpc_call_metadata(call, ":authority")),
    };
    cs_code code = attestation_start(c->api->attestors, plugin, call, &request, on_step, &s->attestation, e);
    return code == CS_OK ? CS_OK : refused(c, e);
}

static cs_code answer_challenge(struct rpc_call *call, struct attest *s, struct cs_slice msg,
                                struct cs_err *e)
{
    struct api_call *c = api_call_of(call);
    Agentv1__AttestAgentRequest *req;
    CS_TRY(api_unpack(c, &agentv1__attest_agent_request__descriptor, msg, (void **)&req, e));
    struct cs_slice response = {0};
    if (req->step_case == AGENTV1__ATTEST_AGENT_REQUEST__STEP_CHALLENGE_RESPONSE)
        response = convert_bytes(req->challenge_response);
    s->challenged = false;
    return attestation_respond(s->attestation, response, e) == CS_OK ? CS_OK : refused(c, e);
}

/* --- Messages --- */
static cs_code check_params(const Agentv1__AttestAgentRequest *req, struct cs_err *e)
{
    const Agentv1__AttestAgentRequest__Params *p =
        req->step_case == AGENTV1__ATTEST_AGENT_REQUEST__STEP_PARAMS ? req->params : NULL;
    if (p == NULL)
        return cs_fail(e, CS_INVALID, "missing params");
    if (p->data == NULL)
        return cs_fail(e, CS_INVALID, "missing attestation data");
    if (p->params == NULL)
        return cs_fail(e, CS_INVALID, "missing X509-SVID parameters");
    if (p->params->csr.len == 0)
        return cs_fail(e, CS_INVALID, "missing CSR");
    if (p->data->type[0] == '\0')
        return cs_fail(e, CS_INVALID, "missing attestation data type");
    if (p->data->payload.len == 0)
        return cs_fail(e, CS_INVALID, "missing attestation data payload");
    return CS_OK;
}

static cs_code begin(struct rpc_call *call, struct attest *s, struct cs_slice msg, struct cs_err *e)
{
    struct api_call *c = api_call_of(call);
    Agentv1__AttestAgentRequest *req;
    CS_TRY(api_unpack(c, &agentv1__attest_agent_request__descriptor, msg, (void **)&req, e));
    if (check_params(req, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "malformed param");
    s->type = req->params->data->type;
    s->csr =
        cs_slice_of(cs_arena_memdup(c->arena, req->params->params->csr.data, req->params->params->csr.len),
                    req->params->params->csr.len);
    if (s->csr.data == NULL)
        return cs_nomem(e);
    api_audit_add(c, KV("node_attestor_type", s->type));
    api_field(c, KV("node_attestor_type", s->type));
    struct cs_slice payload = convert_bytes(req->params->data->payload);
    if (strcmp(s->type, "join_token") != 0)
        return start_attestor(call, s, payload, e);
    struct proof p = {0};
    CS_TRY(use_join_token(c, payload, &p, e));
    return admit(call, s, &p, e);
}

static void begin_later(struct rpc_call *call, void *service, void *state)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    struct attest *s = state;
    struct cs_err e = {0};
    if (c == NULL || s == NULL)
        return;
    s->waiting = false;
    cs_code code = begin(call, s, c->waiting, &e);
    if (code != CS_OK)
        rpc_call_finish(call, code, e.text);
}

static cs_code first_message(struct rpc_call *call, struct attest *s, struct cs_slice msg, struct cs_err *e)
{
    struct api_call *c = api_call_of(call);
    cs_code code = api_limit(c, 1, e);
    if (code == CS_OK)
        return begin(call, s, msg, e);
    if (code != API_LATER)
        return api_limit_failed(c, code, "rejecting request due to attest agent rate limiting", e);
    CS_TRY(api_keep_request(c, msg, e));
    s->waiting = true;
    return api_wait(c, begin_later, e);
}

static cs_code attest_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                              struct cs_err *e)
{
    (void)service;
    struct attest *s = state;
    if (s->done)
        return CS_OK; /* answered; what follows is not looked at */
    if (s->challenged)
        return answer_challenge(call, s, msg, e);
    if (s->waiting || s->type != NULL)
        return cs_fail(e, CS_INVALID, "unexpected message: no challenge was sent");
    return first_message(call, s, msg, e);
}

static cs_code attest_half_close(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)service;
    struct attest *s = state;
    struct api_call *c = api_call_of(call);
    s->half_closed = true;
    if (s->challenged)
        return no_response(c, e);
    if (s->done || s->waiting || s->attestation != NULL)
        return CS_OK;
    (void)cs_fail(e, CS_UNKNOWN, "EOF");
    return api_fail_cause(c, e, CS_INVALID, "failed to receive request from stream");
}

const struct rpc_stream_ops agent_attest_ops = {
    .open = attest_open,
    .message = attest_message,
    .half_close = attest_half_close,
    .closed = attest_closed,
};
