/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-server agent ban|count|evict|list|purge|show
 */
#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/coll.h"
#include "base/text.h"
#include "cli/json.h"
#include "cli/server/internal.h"

#include <ctype.h>

#define SERVICE "/spire.api.server.agent.v1.Agent/"
#define PAGE_SIZE 1000

/* --- ban, evict, show: one agent --- */

struct id_opts {
    struct cli_common common;
    const char *spiffe_id;
};

#define ID_FLAGS(what)                                                                                       \
    (const struct cli_flag[])                                                                                \
    {                                                                                                        \
        {"spiffeID", CLI_STRING, offsetof(struct id_opts, spiffe_id), "SPIFFE ID of the agent to " what,     \
         NULL},                                                                                              \
            CLI_SERVER_FLAGS(struct id_opts), CLI_END                                                        \
    }

static cs_code id_arg(struct cs_arena *a, const struct id_opts *o, Types__SPIFFEID **id, struct cs_err *e)
{
    if (o->spiffe_id == NULL || o->spiffe_id[0] == '\0')
        return cs_fail(e, CS_INVALID, "a SPIFFE ID is required");
    return srv_id_arg(a, o->spiffe_id, id, e);
}

static cs_code run_ban(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct id_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Agentv1__BanAgentRequest req = AGENTV1__BAN_AGENT_REQUEST__INIT;
    CS_TRY(id_arg(s->arena, o, &req.id, e));
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, SERVICE "BanAgent", MSG(req), &google__protobuf__empty__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    fputs("Agent banned successfully\n", env->out);
    return CS_OK;
}

static cs_code run_evict(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct id_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Agentv1__DeleteAgentRequest req = AGENTV1__DELETE_AGENT_REQUEST__INIT;
    CS_TRY(id_arg(s->arena, o, &req.id, e));
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, SERVICE "DeleteAgent", MSG(req), &google__protobuf__empty__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    fputs("Agent evicted successfully\n", env->out);
    return CS_OK;
}

static cs_code print_agent(struct cli_env *env, struct cs_arena *a, const Types__Agent *agent,
                           struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    const char *id = srv_id_text(a, agent->id);
    if (id == NULL)
        return cs_nomem(e);
    cs_buf_printf(&b, "SPIFFE ID         : %s\n", id);
    cs_buf_printf(&b, "Attestation type  : %s\n", agent->attestation_type);
    cs_buf_add_str(&b, "Expiration time   : ");
    cs_time_go_local(&b, agent->x509svid_expires_at);
    if (agent->banned) /* a banned agent has no serial number */
        cs_buf_add_str(&b, "\nBanned            : true\n");
    else
        cs_buf_printf(&b, "\nSerial number     : %s\n", agent->x509svid_serial_number);
    cs_buf_printf(&b, "Can re-attest     : %s\n", agent->can_reattest ? "true" : "false");
    if (agent->agent_version[0] != '\0')
        cs_buf_printf(&b, "Agent version     : %s\n", agent->agent_version);
    return cli_print_line(env, &b, e);
}

static cs_code run_show(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct id_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Agentv1__GetAgentRequest req = AGENTV1__GET_AGENT_REQUEST__INIT;
    CS_TRY(id_arg(s->arena, o, &req.id, e));
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, SERVICE "GetAgent", MSG(req), &types__agent__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    const Types__Agent *agent = (const Types__Agent *)reply;
    fputs("Found an attested agent given its SPIFFE ID\n\n", env->out);
    CS_TRY(print_agent(env, s->arena, agent, e));
    for (size_t i = 0; i < agent->n_selectors; i++)
        fprintf(env->out, "Selectors         : %s:%s\n", agent->selectors[i]->type,
                agent->selectors[i]->value);
    return CS_OK;
}

/* --- list, count: filters --- */

struct filter_opts {
    struct cli_common common;
    struct cli_strings selectors;
    const char *match_on, *attestation_type, *expires_before;
    enum cli_tristate can_reattest, banned;
};

static const struct cli_flag filter_flags[] = {
    {"selector", CLI_STRINGS, offsetof(struct filter_opts, selectors),
     "Only agents with this type:value selector; repeatable", NULL},
    {"matchSelectorsOn", CLI_STRING, offsetof(struct filter_opts, match_on),
     "How -selector has to match: exact, any, superset or subset", "superset"},
    {"attestationType", CLI_STRING, offsetof(struct filter_opts, attestation_type),
     "Only agents attested this way, such as join_token", NULL},
    {"expiresBefore", CLI_STRING, offsetof(struct filter_opts, expires_before),
     "Only agents that expire before this time (layout \"2006-01-02 15:04:05 -0700 -07\")", NULL},
    {"canReattest", CLI_TRISTATE, offsetof(struct filter_opts, can_reattest),
     "'true': only agents that can re-attest, 'false': only those that cannot, anything else: all", NULL},
    {"banned", CLI_TRISTATE, offsetof(struct filter_opts, banned),
     "'true': only banned agents, 'false': only those not banned, anything else: all", NULL},
    CLI_SERVER_FLAGS(struct filter_opts),
    CLI_END,
};

/* The elements of the layout, as Go's time.Parse names the first one that does not fit. */
static const struct {
    const char *name, *pattern; /* 'd' is a digit, '+' a sign, everything else itself */
} layout[] = {{"2006", "dddd"}, {"-", "-"},   {"01", "dd"},       {"-", "-"},   {"02", "dd"},
              {" ", " "},       {"15", "dd"}, {":", ":"},         {"04", "dd"}, {":", ":"},
              {"05", "dd"},     {" ", " "},   {"-0700", "+dddd"}, {" ", " "},   {"-07", "+dd"}};

static bool fits(const char *s, const char *pattern)
{
    for (; *pattern != '\0'; s++, pattern++) {
        bool ok = *pattern == 'd'   ? isdigit((unsigned char)*s) != 0
                  : *pattern == '+' ? *s == '+' || *s == '-'
                                    : *s == *pattern;
        if (!ok)
            return false;
    }
    return true;
}

static cs_code check_expires_before(const char *t, struct cs_err *e)
{
    static const char whole[] = "2006-01-02 15:04:05 -0700 -07";
    const char *p = t != NULL ? t : "";
    if (*p == '\0')
        return CS_OK;
    for (size_t i = 0; i < sizeof layout / sizeof layout[0]; i++) {
        if (!fits(p, layout[i].pattern))
            return cs_fail(e, CS_INVALID,
                           "date is not valid: parsing time \"%s\" as \"%s\": cannot parse \"%s\" as \"%s\"",
                           t, whole, p, layout[i].name);
        p += strlen(layout[i].pattern);
    }
    if (*p != '\0')
        return cs_fail(e, CS_INVALID, "date is not valid: parsing time \"%s\": extra text: \"%s\"", t, p);
    return CS_OK;
}

/* What the list and the count filter have in common: the same fields in two message types. */
struct filter {
    Types__SelectorMatch selector_match, *by_selector_match;
    Google__Protobuf__BoolValue can_reattest, *by_can_reattest, banned, *by_banned;
    char *by_expires_before, *by_attestation_type;
};

static cs_code fill_selectors(struct cs_arena *a, const struct filter_opts *o, struct filter *f,
                              struct cs_err *e)
{
    int mode;
    if (o->selectors.len == 0)
        return CS_OK;
    if (!srv_match_arg(o->match_on, &mode))
        return cs_fail(e, CS_INVALID, "unsupported match behavior");
    for (size_t i = 0; i < o->selectors.len; i++) {
        Types__Selector *one;
        if (srv_selector_arg(a, o->selectors.at[i], &one, e) != CS_OK)
            return cs_wrap(e, "error parsing selector \"%s\"", o->selectors.at[i]);
    }
    types__selector_match__init(&f->selector_match);
    f->selector_match.match = (Types__SelectorMatch__MatchBehavior)mode;
    f->by_selector_match = &f->selector_match;
    return srv_selectors_arg(a, &o->selectors, &f->selector_match.n_selectors, &f->selector_match.selectors,
                             e);
}

static Google__Protobuf__BoolValue *fill_tristate(Google__Protobuf__BoolValue *v, enum cli_tristate t)
{
    google__protobuf__bool_value__init(v);
    v->value = t == CLI_TRUE;
    return t == CLI_ANY ? NULL : v;
}

static char *arena_or_empty(struct cs_arena *a, const char *s)
{
    return cs_arena_strdup(a, s != NULL ? s : "");
}

static cs_code fill_filter(struct cs_arena *a, const struct filter_opts *o, struct filter *f,
                           struct cs_err *e)
{
    *f = (struct filter){0};
    CS_TRY(fill_selectors(a, o, f, e));
    CS_TRY(check_expires_before(o->expires_before, e));
    f->by_can_reattest = fill_tristate(&f->can_reattest, o->can_reattest);
    f->by_banned = fill_tristate(&f->banned, o->banned);
    f->by_expires_before = arena_or_empty(a, o->expires_before);
    f->by_attestation_type = arena_or_empty(a, o->attestation_type);
    return f->by_expires_before != NULL && f->by_attestation_type != NULL ? CS_OK : cs_nomem(e);
}

static cs_code list_agents(struct cli_session *s, const struct filter_opts *o,
                           Agentv1__ListAgentsResponse *all, struct cs_err *e)
{
    struct filter common;
    CS_TRY(fill_filter(s->arena, o, &common, e));
    Agentv1__ListAgentsRequest__Filter f = AGENTV1__LIST_AGENTS_REQUEST__FILTER__INIT;
    f.by_selector_match = common.by_selector_match;
    f.by_can_reattest = common.by_can_reattest;
    f.by_banned = common.by_banned;
    f.by_expires_before = common.by_expires_before;
    f.by_attestation_type = common.by_attestation_type;
    Agentv1__ListAgentsRequest req = AGENTV1__LIST_AGENTS_REQUEST__INIT;
    req.filter = &f;
    req.page_size = PAGE_SIZE;
    CS_CLEANUP(cs_vec_free) struct cs_vec got = {0};
    do {
        ProtobufCMessage *reply;
        CS_TRY(cli_call(s, SERVICE "ListAgents", MSG(req), &agentv1__list_agents_response__descriptor, &reply,
                        e));
        const Agentv1__ListAgentsResponse *page = (const Agentv1__ListAgentsResponse *)reply;
        for (size_t i = 0; i < page->n_agents; i++)
            if (cs_vec_push(&got, page->agents[i]) != CS_OK)
                return cs_nomem(e);
        req.page_token = page->next_page_token;
    } while (req.page_token[0] != '\0');
    all->n_agents = got.len;
    all->agents = got.len > 0 ? cs_arena_memdup(s->arena, got.at, got.len * sizeof *all->agents) : NULL;
    return all->agents != NULL || got.len == 0 ? CS_OK : cs_nomem(e);
}

static cs_code run_list(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct filter_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Agentv1__ListAgentsResponse all = AGENTV1__LIST_AGENTS_RESPONSE__INIT;
    CS_TRY(list_agents(s, o, &all, e));
    if (o->common.output.json)
        return cli_print_json(env, MSG(all), e);
    if (all.n_agents == 0) {
        fputs("No attested agents found\n", env->out);
        return CS_OK;
    }
    fprintf(env->out, "Found %zu attested %s:\n\n", all.n_agents,
            srv_plural(all.n_agents, "agent", "agents"));
    for (size_t i = 0; i < all.n_agents; i++)
        CS_TRY(print_agent(env, s->arena, all.agents[i], e));
    return CS_OK;
}

static cs_code run_count(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct filter_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    struct filter common;
    CS_TRY(fill_filter(s->arena, o, &common, e));
    Agentv1__CountAgentsRequest__Filter f = AGENTV1__COUNT_AGENTS_REQUEST__FILTER__INIT;
    f.by_selector_match = common.by_selector_match;
    f.by_can_reattest = common.by_can_reattest;
    f.by_banned = common.by_banned;
    f.by_expires_before = common.by_expires_before;
    f.by_attestation_type = common.by_attestation_type;
    Agentv1__CountAgentsRequest req = AGENTV1__COUNT_AGENTS_REQUEST__INIT;
    req.filter = &f;
    ProtobufCMessage *reply;
    CS_TRY(
        cli_call(s, SERVICE "CountAgents", MSG(req), &agentv1__count_agents_response__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    int n = ((const Agentv1__CountAgentsResponse *)reply)->count;
    fprintf(env->out, "%d attested %s\n", n, n == 1 ? "agent" : "agents");
    return CS_OK;
}

/* --- purge --- */

struct purge_opts {
    struct cli_common common;
    int64_t expired_for;
    bool dry_run;
};

static const struct cli_flag purge_flags[] = {
    {"expiredFor", CLI_DURATION, offsetof(struct purge_opts, expired_for),
     "Purge agents whose SVID has been expired for longer than this", "720h0m0s"},
    {"dryRun", CLI_BOOL, offsetof(struct purge_opts, dry_run), "Only print the agents that would be purged",
     NULL},
    CLI_SERVER_FLAGS(struct purge_opts),
    CLI_END,
};

struct purged {
    const char *id, *error; /* error NULL: none */
    bool deleted;
};

static cs_code purge_one(struct cli_session *s, Types__SPIFFEID *id, bool dry_run, struct purged *out,
                         struct cs_err *e)
{
    *out = (struct purged){.id = srv_id_text(s->arena, id)};
    if (out->id == NULL)
        return cs_nomem(e);
    if (dry_run)
        return CS_OK;
    Agentv1__DeleteAgentRequest req = AGENTV1__DELETE_AGENT_REQUEST__INIT;
    req.id = id;
    ProtobufCMessage *reply;
    struct cs_err why;
    out->deleted = cli_call(s, SERVICE "DeleteAgent", MSG(req), &google__protobuf__empty__descriptor, &reply,
                            &why) == CS_OK;
    if (!out->deleted && (out->error = cs_arena_strdup(s->arena, why.text)) == NULL)
        return cs_nomem(e);
    return CS_OK;
}

static cs_code print_purged_json(struct cli_env *env, const struct purged *list, size_t n, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_buf_add_str(&b, "{\"expired_agents\":[");
    for (size_t i = 0; i < n; i++) {
        cs_buf_add_str(&b, i > 0 ? ",{\"agent_id\":" : "{\"agent_id\":");
        cli_json_str(&b, cs_slice_str(list[i].id));
        cs_buf_printf(&b, ",\"deleted\":%s", list[i].deleted ? "true" : "false");
        if (list[i].error != NULL) {
            cs_buf_add_str(&b, ",\"error\":");
            cli_json_str(&b, cs_slice_str(list[i].error));
        }
        cs_buf_add_byte(&b, '}');
    }
    cs_buf_add_str(&b, "]}");
    return cli_print_line(env, &b, e);
}

static void print_purged_group(struct cli_env *env, const struct purged *list, size_t n, bool deleted,
                               const char *title)
{
    bool titled = false;
    for (size_t i = 0; i < n; i++) {
        if (list[i].deleted != deleted)
            continue;
        if (!titled)
            fprintf(env->out, "%s\n", title);
        titled = true;
        fprintf(env->out, "SPIFFE ID         : %s\n", list[i].id);
        if (list[i].error != NULL)
            fprintf(env->out, "Error             : %s\n", list[i].error);
    }
}

static void print_purged(struct cli_env *env, const struct purged *list, size_t n, bool dry_run)
{
    if (n == 0) {
        fputs("No agents to purge.\n", env->out);
        return;
    }
    fprintf(env->out, "Found %zu expired %s\n\n", n, srv_plural(n, "agent", "agents"));
    if (dry_run) {
        print_purged_group(env, list, n, false, "\nAgents that can be purged:");
        return;
    }
    print_purged_group(env, list, n, true, "Agents purged:");
    print_purged_group(env, list, n, false, "Agents not purged:");
}

static cs_code run_purge(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct purge_opts *o = opts;
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Agentv1__ListAgentsRequest__Filter f = AGENTV1__LIST_AGENTS_REQUEST__FILTER__INIT;
    Google__Protobuf__BoolValue can = GOOGLE__PROTOBUF__BOOL_VALUE__INIT;
    Types__AgentMask mask = TYPES__AGENT_MASK__INIT;
    Agentv1__ListAgentsRequest req = AGENTV1__LIST_AGENTS_REQUEST__INIT;
    can.value = true;
    f.by_can_reattest = &can;
    mask.x509svid_expires_at = true;
    req.filter = &f;
    req.output_mask = &mask;
    ProtobufCMessage *reply;
    if (cli_call(s, SERVICE "ListAgents", MSG(req), &agentv1__list_agents_response__descriptor, &reply, e) !=
        CS_OK)
        return cs_wrap(e, "failed to list agents");
    const Agentv1__ListAgentsResponse *r = (const Agentv1__ListAgentsResponse *)reply;
    struct purged *list = cs_arena_zalloc(s->arena, (r->n_agents + 1) * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    size_t n = 0;
    int64_t now = cs_now_ns(&cs_clock_system);
    for (size_t i = 0; i < r->n_agents; i++) {
        int64_t expired_s = now / CS_NS_PER_S - r->agents[i]->x509svid_expires_at;
        if (expired_s > INT64_MAX / CS_NS_PER_S || expired_s * CS_NS_PER_S > o->expired_for)
            CS_TRY(purge_one(s, r->agents[i]->id, o->dry_run, &list[n++], e));
    }
    if (o->common.output.json)
        return print_purged_json(env, list, n, e);
    print_purged(env, list, n, o->dry_run);
    return CS_OK;
}

const struct cli_command srv_agent_ban = {
    .path = "agent ban",
    .synopsis = "Ban an attested agent given its SPIFFE ID",
    .flags = ID_FLAGS("ban"),
    .opts_size = sizeof(struct id_opts),
    .run = run_ban,
};
const struct cli_command srv_agent_count = {
    .path = "agent count",
    .synopsis = "Count attested agents",
    .flags = filter_flags,
    .opts_size = sizeof(struct filter_opts),
    .run = run_count,
};
const struct cli_command srv_agent_evict = {
    .path = "agent evict",
    .synopsis = "Evicts an attested agent given its SPIFFE ID",
    .flags = ID_FLAGS("evict"),
    .opts_size = sizeof(struct id_opts),
    .run = run_evict,
};
const struct cli_command srv_agent_list = {
    .path = "agent list",
    .synopsis = "Lists attested agents and their SPIFFE IDs",
    .flags = filter_flags,
    .opts_size = sizeof(struct filter_opts),
    .run = run_list,
};
const struct cli_command srv_agent_purge = {
    .path = "agent purge",
    .synopsis = "Purge agents that can re-attest and expired long enough ago",
    .flags = purge_flags,
    .opts_size = sizeof(struct purge_opts),
    .run = run_purge,
};
const struct cli_command srv_agent_show = {
    .path = "agent show",
    .synopsis = "Shows the details of an attested agent given its SPIFFE ID",
    .flags = ID_FLAGS("show"),
    .opts_size = sizeof(struct id_opts),
    .run = run_show,
};
