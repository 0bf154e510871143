/* SPDX-License-Identifier: Apache-2.0
 *
 * May this caller call this method: SPIRE's default policy (pkg/server/authpolicy) and its order of
 * checks (pkg/server/api/middleware/authorization_opa.go). Agents are looked up in the agent cache,
 * admin and downstream callers in the entry cache. The database is asked only before an agent is
 * refused: another server may have attested or renewed it a moment ago.
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

/* What an agent's record says to a serial number. */
enum standing { CURRENT, PREPARED, NOT_ATTESTED, BANNED, NOT_ACTIVE };

static enum standing standing_of(const struct agent *agent, const char *serial)
{
    if (agent == NULL || !agent->attested)
        return NOT_ATTESTED;
    if (agent->serial[0] == '\0')
        return BANNED;
    if (strcmp(agent->serial, serial) == 0)
        return CURRENT;
    return strcmp(agent->new_serial, serial) == 0 ? PREPARED : NOT_ACTIVE;
}

/* Methods open to agents run on workers, so the datastore may be waited for. */
static cs_code ask_datastore(struct api_call *c, struct agent **agent, struct cs_err *e)
{
    const char *id = c->peer->spiffe_id;
    if (api_store_ask(c->api, id, e) != CS_OK) {
        API_LOG(c, CS_LOG_ERROR, "Unable to look up agent information", KV_ERR(e));
        struct cs_err cause = *e;
        return cs_fail(e, CS_INTERNAL, "unable to look up agent information: %s", cause.text);
    }
    agent_unref(*agent);
    *agent = agentcache_get(c->api->agents, cs_slice_str(id));
    return CS_OK;
}

/* Once a second for each SVID: who is refused can repeat itself as fast as it likes. */
static bool may_ask(struct api_call *c)
{
    int64_t wait = 0;
    const char *key = cs_arena_printf(c->arena, "%s %s", c->peer->spiffe_id, c->peer->serial);
    return key != NULL && ratelimit_reserve(c->api->lookups, cs_slice_str(key), 1, 0, &wait, NULL) == CS_OK;
}

/* Store the renewed serial number as the current one: once in the life of an SVID. Not over a ban, and not
 * when another server was faster: CS_DENIED, CS_ABORTED. */
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
                                      .can_reattest = true,
                                      .unless_banned = true,
                                      .if_new_serial = agent->new_serial};
    return ds_node_update(a->cfg.ds, arena, &node, &mask, NULL, e);
}

static bool outdated(cs_code code)
{
    return code == CS_DENIED || code == CS_ABORTED || code == CS_NOT_FOUND;
}

static cs_code activate_new(struct api_call *c, struct agent *agent, struct cs_err *e)
{
    if (atomic_exchange(&agent->activating, true))
        return CS_OK; /* both serial numbers are good until it is done */
    cs_code code = activate(c->api, c->peer, agent, e);
    if (code == CS_OK)
        return CS_OK;
    agent->activating = false;
    if (outdated(code))
        return code;
    API_LOG(c, CS_LOG_WARN, "Unable to activate the new agent SVID", KV_ERR(e),
            KV("svid_serial_num", c->peer->serial), KV("serial_num", agent->serial),
            KV("new_serial_num", agent->new_serial));
    struct cs_err cause = *e;
    return cs_fail(e, CS_INTERNAL, "unable to activate the new agent SVID: %s", cause.text);
}

static cs_code deny(struct api_call *c, enum denied why, enum denied *reason, const char *msg)
{
    if (api_may_log(c))
        api_log(c, CS_LOG_ERROR, msg, NULL, 0);
    *reason = why;
    return CS_DENIED;
}

static cs_code refuse(struct api_call *c, const struct agent *agent, enum standing as, enum denied *reason)
{
    if (as == NOT_ATTESTED)
        return deny(c, AGENT_NOT_ATTESTED, reason, "Agent is not attested");
    if (as == BANNED)
        return deny(c, AGENT_BANNED, reason, "Agent is banned");
    const char *serial = cs_arena_strdup(c->arena, agent->serial);
    api_field(c, KV("svid_serial_num", c->peer->serial));
    api_field(c, KV("serial_num", serial != NULL ? serial : ""));
    return deny(c, AGENT_NOT_ACTIVE, reason, "Agent SVID is not active");
}

static cs_code authorize_agent(struct api_call *c, enum denied *reason, struct cs_err *e)
{
    const struct api_peer *p = c->peer;
    if (p == NULL)
        return CS_DENIED;
    if (cs_now_s(c->api->cfg.clock) > p->not_after)
        return deny(c, AGENT_EXPIRED, reason, "Agent SVID is expired");
    CS_AUTO(agent) agent = agentcache_get(c->api->agents, cs_slice_str(p->spiffe_id));
    enum standing as = standing_of(agent, p->serial);
    if (as != CURRENT && as != PREPARED && may_ask(c)) {
        CS_TRY(ask_datastore(c, &agent, e));
        as = standing_of(agent, p->serial);
    }
    if (as == PREPARED) {
        cs_code code = activate_new(c, agent, e);
        if (code != CS_OK && !outdated(code))
            return code;
        if (code != CS_OK)
            CS_TRY(ask_datastore(c, &agent, e));
        as = code == CS_OK ? CURRENT : standing_of(agent, p->serial);
        if (as == PREPARED) /* it changes faster than we can look */
            return cs_fail(e, CS_UNAVAILABLE, "unable to activate the new agent SVID");
    }
    if (as != CURRENT)
        return refuse(c, agent, as, reason);
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
