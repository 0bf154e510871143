/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-agent api fetch jwt, api validate jwt
 */
#include "cli/agent/internal.h"
#include "cli/json.h"

#define QUIRKS (CLI_HELP_SILENT | CLI_FLAG_ERROR_TWICE | CLI_BARE_ERRORS)

static bool given(const char *s)
{
    return s != NULL && s[0] != '\0';
}

/* --- api fetch jwt --- */

struct fetch_opts {
    struct cli_common common;
    struct cli_strings audience;
    const char *spiffe_id;
    int64_t timeout;
};

static const struct cli_flag fetch_flags[] = {
    {"audience", CLI_COMMA, offsetof(struct fetch_opts, audience), "Audience values, separated by commas",
     NULL},
    {"spiffeID", CLI_STRING, offsetof(struct fetch_opts, spiffe_id), "Only the JWT-SVID of this SPIFFE ID",
     NULL},
    {"format", CLI_OUTPUT, offsetof(struct fetch_opts, common.output), "The old name of -output", NULL},
    {"timeout", CLI_TIMEOUT, offsetof(struct fetch_opts, timeout), "How long to wait for an answer", "5s"},
    CLI_AGENT_SOCKET_FLAGS(struct fetch_opts),
    CLI_OUTPUT_FLAG(struct fetch_opts),
    CLI_END,
};

static cs_code print_fetched_json(struct cli_env *env, const ProtobufCMessage *svids,
                                  const ProtobufCMessage *bundles, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf b = {0};
    cs_buf_add_byte(&b, '[');
    cli_json_message(&b, svids);
    cs_buf_add_byte(&b, ',');
    cli_json_message(&b, bundles);
    cs_buf_add_byte(&b, ']');
    return cli_print_line(env, &b, e);
}

static void print_fetched(struct cli_env *env, const Workload__JWTSVIDResponse *svids,
                          const Workload__JWTBundlesResponse *bundles)
{
    for (size_t i = 0; i < svids->n_svids; i++) {
        const Workload__JWTSVID *s = svids->svids[i];
        fprintf(env->out, "token(%s):\n\t%s\n", s->spiffe_id, s->svid);
        if (s->hint[0] != '\0')
            fprintf(env->out, "hint(%s):\n\t%s\n", s->spiffe_id, s->hint);
    }
    for (size_t i = 0; i < bundles->n_bundles; i++) {
        fprintf(env->out, "bundle(%s):\n\t", bundles->bundles[i]->key);
        fwrite(bundles->bundles[i]->value.data, 1, bundles->bundles[i]->value.len, env->out);
        fputc('\n', env->out);
    }
}

static cs_code fill_request(struct cs_arena *a, const struct fetch_opts *o, Workload__JWTSVIDRequest *req,
                            struct cs_err *e)
{
    req->audience = cs_arena_zalloc(a, o->audience.len * sizeof *req->audience);
    req->spiffe_id = cs_arena_strdup(a, given(o->spiffe_id) ? o->spiffe_id : "");
    if (req->audience == NULL || req->spiffe_id == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < o->audience.len; i++)
        if ((req->audience[i] = cs_arena_strdup(a, o->audience.at[i])) == NULL)
            return cs_nomem(e);
    req->n_audience = o->audience.len;
    return CS_OK;
}

static cs_code run_fetch(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct fetch_opts *o = opts;
    if (o->audience.len == 0)
        return cs_fail(e, CS_INVALID, "audience must be specified");
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(agt_session_open(&o->common, o->timeout, &s, e));
    Workload__JWTBundlesRequest bundles_req = WORKLOAD__JWTBUNDLES_REQUEST__INIT;
    Workload__JWTSVIDRequest svid_req = WORKLOAD__JWTSVIDREQUEST__INIT;
    ProtobufCMessage *bundles, *svids;
    CS_TRY(fill_request(s->arena, o, &svid_req, e));
    CS_TRY(agt_first(s, WORKLOAD_SERVICE "FetchJWTBundles", MSG(bundles_req),
                     &workload__jwtbundles_response__descriptor, &bundles, e));
    CS_TRY(cli_call(s, WORKLOAD_SERVICE "FetchJWTSVID", MSG(svid_req), &workload__jwtsvidresponse__descriptor,
                    &svids, e));
    if (o->common.output.json)
        return print_fetched_json(env, svids, bundles, e);
    print_fetched(env, (const Workload__JWTSVIDResponse *)svids,
                  (const Workload__JWTBundlesResponse *)bundles);
    return CS_OK;
}

/* --- api validate jwt --- */

struct validate_opts {
    struct cli_common common;
    const char *audience, *svid;
    int64_t timeout;
};

static const struct cli_flag validate_flags[] = {
    {"audience", CLI_STRING, offsetof(struct validate_opts, audience),
     "Audience that the JWT-SVID must be for", NULL},
    {"svid", CLI_STRING, offsetof(struct validate_opts, svid), "The JWT-SVID", NULL},
    {"timeout", CLI_TIMEOUT, offsetof(struct validate_opts, timeout), "How long to wait for an answer", "5s"},
    CLI_AGENT_SOCKET_FLAGS(struct validate_opts),
    CLI_OUTPUT_FLAG(struct validate_opts),
    CLI_END,
};

static cs_code print_valid(struct cli_env *env, const Workload__ValidateJWTSVIDResponse *r, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_buf_printf(&b, "SVID is valid.\nSPIFFE ID : %s\nClaims    : ", r->spiffe_id);
    if (r->claims != NULL)
        cli_json_message(&b, &r->claims->base);
    else
        cs_buf_add_str(&b, "{}");
    return cli_print_line(env, &b, e);
}

static cs_code run_validate(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct validate_opts *o = opts;
    if (!given(o->audience))
        return cs_fail(e, CS_INVALID, "audience must be specified");
    if (!given(o->svid))
        return cs_fail(e, CS_INVALID, "svid must be specified");
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(agt_session_open(&o->common, o->timeout, &s, e));
    Workload__ValidateJWTSVIDRequest req = WORKLOAD__VALIDATE_JWTSVIDREQUEST__INIT;
    req.audience = cs_arena_strdup(s->arena, o->audience);
    req.svid = cs_arena_strdup(s->arena, o->svid);
    if (req.audience == NULL || req.svid == NULL)
        return cs_nomem(e);
    ProtobufCMessage *reply;
    cs_code code = cli_call_plain(s, WORKLOAD_SERVICE "ValidateJWTSVID", MSG(req),
                                  &workload__validate_jwtsvidresponse__descriptor, &reply, e);
    if (code == CS_INVALID)
        return cs_wrap(e, "SVID is not valid");
    if (code != CS_OK) {
        (void)cli_rpc_error(code, e);
        return cs_wrap(e, "unable to validate JWT SVID");
    }
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    return print_valid(env, (const Workload__ValidateJWTSVIDResponse *)reply, e);
}

const struct cli_command agt_fetch_jwt = {
    .path = "api fetch jwt",
    .set_name = "fetch jwt",
    .synopsis = "Fetches a JWT SVID from the Workload API",
    .flags = fetch_flags,
    .opts_size = sizeof(struct fetch_opts),
    .run = run_fetch,
    .quirks = QUIRKS,
};
const struct cli_command agt_validate_jwt = {
    .path = "api validate jwt",
    .set_name = "validate jwt",
    .synopsis = "Validates a JWT SVID",
    .flags = validate_flags,
    .opts_size = sizeof(struct validate_opts),
    .run = run_validate,
    .quirks = QUIRKS,
};
