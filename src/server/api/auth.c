/* SPDX-License-Identifier: Apache-2.0
 *
 * May this caller call this method: SPIRE's default policy (pkg/server/authpolicy) and its order of
 * checks (pkg/server/api/middleware/authorization_opa.go), without a database: agents are looked up in
 * the agent cache, admin and downstream callers in the entry cache.
 */
#include "server/api/internal.h"

#include <stdatomic.h>

enum denied {                    /* types.PermissionDeniedDetails.Reason */
              DENIED_PLAIN = -1, /* no details */
              AGENT_EXPIRED = 1,
              AGENT_NOT_ATTESTED = 2,
              AGENT_NOT_ACTIVE = 3,
              AGENT_BANNED = 4,
};

static void granted(struct api_call *c, const char *as, const char *via)
{
    c->as = as;
    c->via = via;
}

static bool is_configured_admin(const struct api *a, const struct api_peer *p)
{
    for (size_t i = 0; i < a->cfg.admin_id_count; i++)
        if (strcmp(a->cfg.admin_ids[i], p->spiffe_id) == 0)
            return true;
    return false;
}

static bool is_member(const struct api *a, const struct api_peer *p)
{
    return cs_slice_eq(cs_slice_of(p->spiffe_id + strlen("spiffe://"), p->trust_domain_len), a->td);
}

/* Store the renewed serial number as the current one: once in the life of an SVID. */
static cs_code activate(struct api *a, const struct api_peer *p, const struct agent *agent, struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    const struct ds_node node = {
        .spiffe_id = p->spiffe_id,
        .serial_number = agent->new_serial,
        .expires_at = agent->new_expires_at,
        .can_reattest = agent->can_reattest,
    };
    const struct ds_node_mask mask = {.serial_number = true,
                                      .expires_at = true,
                                      .new_serial_number = true,
                                      .new_expires_at = true,
                                      .can_reattest = true};
    return ds_node_update(a->cfg.ds, arena, &node, &mask, NULL, e);
}

/* Methods open to agents run on workers, so the datastore may be waited for. */
static cs_code activate_new(struct api_call *c, struct agent *agent, struct cs_err *e)
{
    if (atomic_exchange(&agent->activating, true))
        return CS_OK; /* both serial numbers are good until it is done */
    if (activate(c->api, c->peer, agent, e) == CS_OK)
        return CS_OK;
    agent->activating = false;
    API_LOG(c, CS_LOG_WARN, "Unable to activate the new agent SVID", KV_ERR(e),
            KV("svid_serial_num", c->peer->serial), KV("serial_num", agent->serial),
            KV("new_serial_num", agent->new_serial));
    return cs_fail(e, CS_INTERNAL, "unable to activate the new agent SVID: %s", e->text);
}

static cs_code deny(struct api_call *c, enum denied why, enum denied *reason, const char *msg)
{
    if (api_may_log(c))
        api_log(c, CS_LOG_ERROR, msg, NULL, 0);
    *reason = why;
    return CS_DENIED;
}

static cs_code authorize_agent(struct api_call *c, enum denied *reason, struct cs_err *e)
{
    const struct api_peer *p = c->peer;
    if (p == NULL)
        return CS_DENIED;
    if (cs_now_s(c->api->cfg.clock) > p->not_after)
        return deny(c, AGENT_EXPIRED, reason, "Agent SVID is expired");
    CS_AUTO(agent) agent = agentcache_get(c->api->agents, cs_slice_str(p->spiffe_id));
    if (agent == NULL || !agent->attested)
        return deny(c, AGENT_NOT_ATTESTED, reason, "Agent is not attested");
    if (agent->serial[0] == '\0')
        return deny(c, AGENT_BANNED, reason, "Agent is banned");
    if (strcmp(agent->serial, p->serial) != 0) {
        if (strcmp(agent->new_serial, p->serial) != 0) {
            api_field(c, KV("svid_serial_num", p->serial));
            api_field(c, KV("serial_num", cs_arena_strdup(c->arena, agent->serial)));
            return deny(c, AGENT_NOT_ACTIVE, reason, "Agent SVID is not active");
        }
        CS_TRY(activate_new(c, agent, e));
    }
    c->agent = CS_MOVE(agent);
    return CS_OK;
}

/* CS_DENIED without a text: not allowed, *reason tells why. Any other code is a failure with a text. */
static cs_code decide(struct api_call *c, enum denied *reason, struct cs_err *e)
{
    unsigned allow = c->policy->allow;
    granted(c, "nobody", "");
    if ((allow & ALLOW_ANY) != 0)
        return CS_OK;
    if ((allow & ALLOW_LOCAL) != 0 && c->local) {
        granted(c, "local", "transport");
        return CS_OK;
    }
    if ((allow & ALLOW_ADMIN) != 0 && c->peer != NULL && is_configured_admin(c->api, c->peer)) {
        c->admin = true;
        granted(c, "admin", "config");
        return CS_OK;
    }
    if ((allow & (ALLOW_ADMIN | ALLOW_DOWNSTREAM)) != 0 && c->peer != NULL && is_member(c->api, c->peer)) {
        struct entry_rights rights = entrycache_rights(c->api->entries, api_peer_path(c->peer));
        c->admin = (allow & ALLOW_ADMIN) != 0 && rights.admin;
        c->downstream = !c->admin && (allow & ALLOW_DOWNSTREAM) != 0 && rights.downstream;
        if (c->admin || c->downstream) {
            granted(c, c->admin ? "admin" : "downstream", "entries");
            return CS_OK;
        }
    }
    if ((allow & ALLOW_AGENT) != 0 && !c->local) {
        CS_TRY(authorize_agent(c, reason, e));
        granted(c, "agent", "datastore");
        return CS_OK;
    }
    return CS_DENIED;
}

cs_code api_authorize(struct api_call *c, struct cs_err *e)
{
    enum denied reason = DENIED_PLAIN;
    cs_code code = decide(c, &reason, e);
    if (code == CS_OK)
        return CS_OK;
    if (code != CS_DENIED) {
        API_LOG(c, CS_LOG_ERROR, "Authorization failure from OPA auth", KV_ERR(e));
        return code;
    }
    if (reason != DENIED_PLAIN) {
        struct rpc_detail d = {.type_name = "spire.api.types.PermissionDeniedDetails", .len = 2};
        d.data[0] = 1 << 3; /* reason, varint */
        d.data[1] = (uint8_t)reason;
        rpc_call_set_detail(c->rpc, &d);
    }
    struct cs_err denied;
    (void)cs_fail(&denied, CS_DENIED, "authorization denied for method %s", rpc_call_method(c->rpc)->path);
    *e = denied;
    api_status_error(&denied);
    if (api_may_log(c))
        API_LOG(c, CS_LOG_ERROR, "Failed to authenticate caller", KV_ERR(&denied));
    return CS_DENIED;
}
