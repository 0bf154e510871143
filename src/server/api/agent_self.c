/* SPDX-License-Identifier: Apache-2.0
 *
 * Agent service: what agents do for themselves (renewal, status), and join tokens.
 * Source: SPIRE's pkg/server/api/agent/v1.
 */
#include "server/api/svid.h"
#include "server/entrycache/wire.h"

#define VERSION_MAX 255

static cs_code update_node(struct api_call *c, const struct ds_node *node, const struct ds_node_mask *mask,
                           struct cs_err *e)
{
    cs_code code = ds_node_update(c->api->cfg.ds, c->arena, node, mask, NULL, e);
    if (code == CS_NOT_FOUND)
        return api_fail(c, e, CS_NOT_FOUND, "agent not found");
    if (code == CS_DENIED) /* since it was let in */
        return api_fail(c, e, CS_DENIED, "agent is banned");
    return code == CS_OK ? CS_OK : api_fail_cause(c, e, CS_INTERNAL, "failed to update agent");
}

/* --- RenewAgent --- */
static cs_code must_reattest(struct api_call *c, struct cs_err *e)
{
    struct rpc_detail d = {.type_name = "spire.api.types.PermissionDeniedDetails", .len = 2};
    d.data[0] = 1 << 3;
    d.data[1] = 5; /* AGENT_MUST_REATTEST */
    rpc_call_set_detail(c->rpc, &d);
    return cs_fail(e, CS_DENIED, "agent must reattest instead of renew");
}

static cs_code sign_renewed(struct api_call *c, struct cs_slice der, struct ca_x509 *svid, struct cs_err *e)
{
    struct x509_csr csr;
    if (x509_csr_parse(der, &csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "failed to parse CSR");
    if (x509_csr_verify(&csr, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "failed to verify CSR signature");
    if (ca_sign_agent(c->api->cfg.ca, c->arena, c->peer->spiffe_id, csr.spki, svid, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to sign X509 SVID");
    return CS_OK;
}

cs_code agent_renew(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                    struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Agentv1__RenewAgentRequest *req;
    CS_TRY(api_unpack(c, &agentv1__renew_agent_request__descriptor, request, (void **)&req, e));
    if (req->params != NULL && req->params->csr.len > 0)
        api_audit_add(c, KV("csr", api_hash(c, convert_bytes(req->params->csr))));
    cs_code code = api_limit(c, 1, e);
    if (code != CS_OK)
        return api_limit_failed(c, code, "rejecting request due to renew agent rate limiting", e);
    if (c->agent->can_reattest)
        return must_reattest(c, e);
    api_log(c, CS_LOG_INFO, "Renewing agent SVID", NULL, 0);
    if (req->params == NULL)
        return api_fail(c, e, CS_INVALID, "params cannot be nil");
    if (req->params->csr.len == 0)
        return api_fail(c, e, CS_INVALID, "missing CSR");
    struct ca_x509 svid;
    CS_TRY(sign_renewed(c, convert_bytes(req->params->csr), &svid, e));
    const struct ds_node node = {
        .spiffe_id = c->peer->spiffe_id, .new_serial_number = svid.serial, .new_expires_at = svid.not_after};
    const struct ds_node_mask mask = {
        .new_serial_number = true, .new_expires_at = true, .unless_banned = true};
    CS_TRY(update_node(c, &node, &mask, e));
    api_audit(c);
    svid_x509_write(response, 1, &svid, c->api->td, api_peer_path(c->peer));
    return CS_OK;
}

/* --- PostStatus --- */
cs_code agent_post_status(struct rpc_call *call, void *service, struct cs_slice request,
                          struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    (void)response;
    struct api_call *c = api_call_of(call);
    Agentv1__PostStatusRequest *req;
    CS_TRY(api_unpack(c, &agentv1__post_status_request__descriptor, request, (void **)&req, e));
    cs_code code = api_limit(c, 1, e);
    if (code != CS_OK)
        return api_limit_failed(c, code, "rejecting request due to post status rate limiting", e);
    api_field(c, KV("spiffe_id", c->peer->spiffe_id));
    api_audit_add(c, KV("spiffe_id", c->peer->spiffe_id));
    if (req->agent_version[0] != '\0') {
        if (strlen(req->agent_version) > VERSION_MAX)
            return api_fail(c, e, CS_INVALID, "agent version is too long (max 255 characters)");
        api_audit_add(c, KV("agent_version", req->agent_version));
        const struct ds_node node = {.spiffe_id = c->peer->spiffe_id, .agent_version = req->agent_version};
        const struct ds_node_mask mask = {.agent_version = true};
        CS_TRY(update_node(c, &node, &mask, e));
        API_LOG(c, CS_LOG_DEBUG, "Agent status updated", KV("agent_version", req->agent_version));
    }
    api_audit(c);
    return CS_OK;
}

/* --- CreateJoinToken --- */
/* The entry that gives the agent of this token the ID asked for. Its shape is known to the datastore,
 * which deletes it with the agent. */
static cs_code create_alias(struct api_call *c, const char *token, const char *agent_id, struct cs_err *e)
{
    struct spiffe_id parent;
    const char *path = cs_arena_printf(c->arena, "/spire/agent/join_token/%s", token);
    if (path == NULL)
        return cs_nomem(e);
    if (spiffe_path_segment_check(cs_slice_str(token), e) != CS_OK ||
        spiffe_id_make(c->arena, c->api->td, cs_slice_str(path), &parent, e) != CS_OK)
        return cs_wrap(e, "failed to create join token ID");
    const struct ds_selector selector = {"spiffe_id", convert_id_text(parent)};
    const struct ds_entry entry = {.parent_id = convert_id_text(parent),
                                   .spiffe_id = agent_id,
                                   .selectors = &selector,
                                   .n_selectors = 1};
    return ds_entry_create(c->api->cfg.ds, c->arena, &entry, NULL, NULL, e);
}

static cs_code take_token(struct api_call *c, const Agentv1__CreateJoinTokenRequest *req, const char **token,
                          struct cs_err *e)
{
    char uuid[37];
    *token = req->token;
    if (req->token[0] != '\0')
        return CS_OK;
    if (cs_uuid(uuid, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to generate token UUID");
    *token = cs_arena_strdup(c->arena, uuid);
    return *token != NULL ? CS_OK : cs_nomem(e);
}

cs_code agent_create_join_token(struct rpc_call *call, void *service, struct cs_slice request,
                                struct cs_buf *response, struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Agentv1__CreateJoinTokenRequest *req;
    CS_TRY(api_unpack(c, &agentv1__create_join_token_request__descriptor, request, (void **)&req, e));
    if (req->ttl > 0)
        api_audit_add(c, KV_INT("ttl", req->ttl));
    if (req->ttl < 1)
        return api_fail(c, e, CS_INVALID, "ttl is required, you must provide one");
    struct spiffe_id agent_id = {0};
    if (req->agent_id != NULL) {
        if (convert_workload_id(c->arena, a->td, req->agent_id, &agent_id, e) != CS_OK)
            return api_fail_cause(c, e, CS_INVALID, "invalid agent ID");
        api_audit_add(c, KV("spiffe_id", convert_id_text(agent_id)));
    }
    const char *token;
    CS_TRY(take_token(c, req, &token, e));
    int64_t expires_at = cs_now_s(a->cfg.clock) + req->ttl;
    if (ds_token_create(a->cfg.ds, token, expires_at, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to create token");
    if (req->agent_id != NULL && create_alias(c, token, convert_id_text(agent_id), e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to create join token registration entry");
    api_audit(c);
    wire_str(response, 1, cs_slice_str(token));
    wire_int(response, 2, expires_at);
    return CS_OK;
}
