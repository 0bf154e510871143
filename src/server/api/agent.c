/* SPDX-License-Identifier: Apache-2.0
 *
 * Agent service: looking at agents, banning and evicting them. Source: SPIRE's pkg/server/api/agent/v1.
 */
#include "base/text.h"
#include "server/api/convert.h"
#include "server/api/handlers.h"
#include "server/entrycache/wire.h"

#include <stdio.h>

#define LIST_CHUNK 500

/* --- Filters: the same fields in two messages --- */
struct agent_filter {
    const char *by_attestation_type, *by_expires_before;
    const Types__SelectorMatch *by_selector_match;
    const Google__Protobuf__BoolValue *by_banned, *by_can_reattest;
};

/* Digits of "2006-01-02 15:04:05 -0700 -07"; the last zone counts. 0: not such a time. */
static int64_t parse_expires_before(const char *s)
{
    static const char form[] = "0000-00-00 00:00:00 +0000 +00";
    char rfc[32];
    int64_t unix_s = 0;
    int32_t ns = 0;
    if (strlen(s) != sizeof form - 1)
        return 0;
    for (size_t i = 0; i < sizeof form - 1; i++) {
        bool digit = s[i] >= '0' && s[i] <= '9', sign = s[i] == '+' || s[i] == '-';
        if (form[i] == '0' ? !digit : form[i] == '+' ? !sign : s[i] != form[i])
            return 0;
    }
    snprintf(rfc, sizeof rfc, "%.10sT%.8s%.3s:00", s, s + 11, s + 26);
    return cs_time_parse_rfc3339(cs_slice_str(rfc), &unix_s, &ns, NULL) == CS_OK ? unix_s : 0;
}

static void audit_filter(struct api_call *c, const struct agent_filter *in)
{
    static const char *const matches[] = {"MATCH_EXACT", "MATCH_SUBSET", "MATCH_SUPERSET", "MATCH_ANY"};
    if (!c->audit)
        return;
    if (in->by_attestation_type[0] != '\0')
        api_audit_add(c, KV("node_attestor_type", in->by_attestation_type));
    if (in->by_banned != NULL)
        api_audit_add(c, KV_BOOL("by_banned", in->by_banned->value));
    if (in->by_can_reattest != NULL)
        api_audit_add(c, KV_BOOL("by_can_reattest", in->by_can_reattest->value));
    const Types__SelectorMatch *m = in->by_selector_match;
    if (m != NULL) {
        api_audit_add(c, KV("by_selector_match", (unsigned)m->match < 4 ? matches[m->match] : "UNKNOWN"));
        api_audit_add(c, KV("by_selectors", convert_selectors_text(c->arena, m->selectors, m->n_selectors)));
    }
}

static enum ds_tri tri(const Google__Protobuf__BoolValue *v)
{
    return v == NULL ? DS_ANY : v->value ? DS_YES : DS_NO;
}

static cs_code filter_convert(struct api_call *c, const struct agent_filter *in, struct ds_node_filter *out,
                              struct cs_err *e)
{
    audit_filter(c, in);
    out->attestation_type = in->by_attestation_type;
    out->banned = tri(in->by_banned);
    out->can_reattest = tri(in->by_can_reattest);
    out->expires_before = parse_expires_before(in->by_expires_before);
    const Types__SelectorMatch *m = in->by_selector_match;
    if (m == NULL)
        return CS_OK;
    if (convert_selectors(c->arena, m->selectors, m->n_selectors, &out->selectors, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "failed to parse selectors");
    out->by_selectors = true;
    out->selectors_match = (enum ds_match)m->match;
    out->n_selectors = m->n_selectors;
    return CS_OK;
}

cs_code agent_count(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                    struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Agentv1__CountAgentsRequest *req;
    CS_TRY(api_unpack(c, &agentv1__count_agents_request__descriptor, request, (void **)&req, e));
    struct ds_node_filter filter = {0};
    if (req->filter != NULL) {
        const Agentv1__CountAgentsRequest__Filter *f = req->filter;
        const struct agent_filter in = {f->by_attestation_type, f->by_expires_before, f->by_selector_match,
                                        f->by_banned, f->by_can_reattest};
        CS_TRY(filter_convert(c, &in, &filter, e));
    }
    int32_t count = 0;
    if (ds_node_count(a->cfg.ds, &filter, &count, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to count agents");
    api_audit(c);
    wire_int(response, 1, count);
    return CS_OK;
}

/* --- ListAgents --- */
static cs_code list_page(struct api_call *c, struct cs_arena *arena, const struct ds_node_filter *filter,
                         const struct ds_page *page, const Types__AgentMask *mask, struct cs_buf *response,
                         const char **next, struct cs_err *e)
{
    struct ds_node *nodes = NULL;
    size_t n = 0;
    CS_TRY(ds_node_list(c->api->cfg.ds, arena, filter, page, &nodes, &n, next, e));
    for (size_t i = 0; i < n; i++)
        if (convert_agent_write(response, 1, &nodes[i], mask, e) != CS_OK)
            API_LOG(c, CS_LOG_WARN, "Failed to parse agent", KV("spiffe_id", nodes[i].spiffe_id), KV_ERR(e));
    return cs_buf_ok(response) ? CS_OK : cs_nomem(e);
}

static cs_code list_all(struct api_call *c, const struct ds_node_filter *filter, const Types__AgentMask *mask,
                        struct cs_buf *response, struct cs_err *e)
{
    CS_AUTO(cs_arena) one = cs_arena_new(0, SIZE_MAX);
    CS_AUTO(cs_arena) other = cs_arena_new(0, SIZE_MAX); /* the token lives in the page before */
    if (one == NULL || other == NULL)
        return cs_nomem(e);
    struct ds_page page = {.token = "", .size = LIST_CHUNK};
    do {
        const char *next = "";
        cs_arena_reset(one);
        CS_TRY(list_page(c, one, filter, &page, mask, response, &next, e));
        page.token = next;
        struct cs_arena *swap = one;
        one = other;
        other = swap;
    } while (page.token[0] != '\0');
    return CS_OK;
}

cs_code agent_list(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                   struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Agentv1__ListAgentsRequest *req;
    CS_TRY(api_unpack(c, &agentv1__list_agents_request__descriptor, request, (void **)&req, e));
    struct ds_node_filter filter = {.fetch_selectors =
                                        req->output_mask == NULL || req->output_mask->selectors};
    if (req->filter != NULL) {
        const Agentv1__ListAgentsRequest__Filter *f = req->filter;
        const struct agent_filter in = {f->by_attestation_type, f->by_expires_before, f->by_selector_match,
                                        f->by_banned, f->by_can_reattest};
        CS_TRY(filter_convert(c, &in, &filter, e));
    }
    const char *next = "";
    cs_code code;
    if (req->page_size > 0) {
        const struct ds_page page = {.token = req->page_token, .size = req->page_size};
        code = list_page(c, c->arena, &filter, &page, req->output_mask, response, &next, e);
    } else {
        code = list_all(c, &filter, req->output_mask, response, e);
    }
    if (code != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to list agents");
    wire_str(response, 2, cs_slice_str(next));
    api_audit(c);
    return CS_OK;
}

/* --- One agent --- */
static cs_code take_agent_id(struct api_call *c, const Types__SPIFFEID *in, const char **id, struct cs_err *e)
{
    struct spiffe_id parsed;
    if (convert_agent_id(c->arena, c->api->td, in, &parsed, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "invalid agent ID");
    *id = convert_id_text(parsed);
    api_audit_add(c, KV("spiffe_id", *id));
    api_field(c, KV("spiffe_id", *id));
    return CS_OK;
}

cs_code agent_get(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                  struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Agentv1__GetAgentRequest *req;
    const char *id;
    CS_TRY(api_unpack(c, &agentv1__get_agent_request__descriptor, request, (void **)&req, e));
    CS_TRY(take_agent_id(c, req->id, &id, e));
    struct ds_node *node = NULL;
    if (ds_node_fetch(a->cfg.ds, c->arena, id, &node, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to fetch agent");
    if (node == NULL)
        return api_fail(c, e, CS_NOT_FOUND, "agent not found");
    struct ds_selector *selectors = NULL;
    if (ds_node_get_selectors(a->cfg.ds, c->arena, id, &selectors, &node->n_selectors, e) != CS_OK) {
        (void)cs_wrap(e, "failed to get node selectors");
        return api_fail_cause(c, e, CS_INTERNAL, "failed to get selectors from agent");
    }
    node->selectors = selectors;
    if (convert_agent_message(response, node, req->output_mask, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to convert attested node to agent");
    api_audit(c);
    return CS_OK;
}

static cs_code removed(struct api_call *c, cs_code code, const char *done, const char *failed,
                       struct cs_err *e)
{
    if (code == CS_NOT_FOUND)
        return api_fail(c, e, CS_NOT_FOUND, "agent not found");
    if (code != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, failed);
    api_log(c, CS_LOG_INFO, done, NULL, 0);
    api_audit(c);
    return CS_OK;
}

cs_code agent_delete(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                     struct cs_err *e)
{
    (void)response;
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Agentv1__DeleteAgentRequest *req;
    const char *id;
    CS_TRY(api_unpack(c, &agentv1__delete_agent_request__descriptor, request, (void **)&req, e));
    CS_TRY(take_agent_id(c, req->id, &id, e));
    cs_code code = ds_node_delete(a->cfg.ds, c->arena, id, NULL, e);
    return removed(c, code, "Agent deleted", "failed to remove agent", e);
}

cs_code agent_ban(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                  struct cs_err *e)
{
    (void)response;
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Agentv1__BanAgentRequest *req;
    const char *id;
    CS_TRY(api_unpack(c, &agentv1__ban_agent_request__descriptor, request, (void **)&req, e));
    CS_TRY(take_agent_id(c, req->id, &id, e));
    /* Banned is an agent without serial numbers. */
    const struct ds_node banned = {.spiffe_id = id, .serial_number = "", .new_serial_number = ""};
    const struct ds_node_mask mask = {.serial_number = true, .new_serial_number = true};
    cs_code code = ds_node_update(a->cfg.ds, c->arena, &banned, &mask, NULL, e);
    return removed(c, code, "Agent banned", "failed to ban agent", e);
}
