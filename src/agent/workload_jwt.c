/* SPDX-License-Identifier: Apache-2.0
 *
 * Workload API handlers for JWT-SVIDs. Fetching may wait for the server: it is done on a pool of its own, so
 * it is a stream of one message to the RPC layer.
 */
#include "agent/workload.h"
#include "base/logfields.h"
#include "spiffe/jwtsvid.h"
#include "workload.pb-c.h"

#include "google/protobuf/struct.pb-c.h"

/* Largest number of audiences in a request, and of nested values in a token's claims. */
#define AUDIENCES_MAX 1000
#define CLAIM_DEPTH_MAX 64

/* --- Fetching --- */

/* One FetchJWTSVID that waits for the server; owns everything. */
struct job {
    struct workload_api *api;
    struct rpc_call *call; /* referenced */
    struct cs_arena *arena;
    struct cs_log log;
    const struct agent_entry **entries; /* referenced */
    size_t count;
    const char **audience; /* in the arena */
    size_t audience_count;
};

static void job_free(struct job *j)
{
    if (j == NULL)
        return;
    for (size_t i = 0; i < j->count; i++)
        agent_entry_unref(j->entries[i]);
    cs_free((void *)j->entries);
    cs_arena_free(j->arena);
    if (j->call != NULL)
        rpc_call_unref(j->call);
    cs_free(j);
}

static void job_drop(struct job **j)
{
    job_free(*j);
    *j = NULL;
}

static bool fresh(const struct job *j, const struct agent_jwt *t)
{
    const struct cs_clock *clock = j->api->agent->clock;
    return t != NULL && cs_now_ns(clock) < t->renew_at && cs_now_s(clock) < t->expires_at;
}

/* What the cache has for an entry; NULL: nothing, or the entry wants a new token for each request. */
static struct agent_jwt *cached(const struct job *j, const struct agent_entry *en)
{
    if (en->jwt_jti)
        return NULL;
    return agent_jwt_cache_get(j->api->agent->jwts, en->spiffe_id, j->audience, j->audience_count);
}

static cs_code ask_server(const struct job *j, const struct agent_entry *en, bool have_one,
                          struct agent_jwt **out, struct cs_err *e)
{
    struct agent *a = j->api->agent;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    int64_t patience = a->cfg->jwt_svid_cache_hit_timeout_ns;
    int64_t timeout = have_one && patience > 0 ? patience : AGENT_RPC_TIMEOUT_NS;
    struct agent_new_jwt made;
    struct cs_log log = a->mlog;
    CS_TRY(
        agent_api_new_jwt(a->link, &log, en->id, j->audience, j->audience_count, timeout, arena, &made, e));
    CS_TRY(agent_jwt_new(made.token, made.issued_at, made.expires_at, out, e));
    if (!en->jwt_jti)
        agent_jwt_cache_put(a->jwts, made.spiffe_id, j->audience, j->audience_count, *out);
    return CS_OK;
}

/* From the cache while more than half of its life is left, else from the server, else what the cache has. */
static cs_code fetch_one(const struct job *j, const struct agent_entry *en, struct agent_jwt **out,
                         struct cs_err *e)
{
    CS_AUTO(agent_jwt) have = cached(j, en);
    if (fresh(j, have)) {
        *out = CS_MOVE(have);
        return CS_OK;
    }
    bool alive = have != NULL && cs_now_s(j->api->agent->clock) < have->expires_at;
    struct cs_err fault;
    cs_code rc = ask_server(j, en, alive, out, &fault);
    if (rc == CS_OK)
        return CS_OK;
    if (alive) {
        cs_log_warn(&j->api->agent->mlog, "Unable to renew JWT; returning cached copy", KV_ERR(&fault),
                    KV(CS_F_SPIFFE_ID, en->spiffe_id));
        *out = CS_MOVE(have);
        return CS_OK;
    }
    cs_log_error(&j->log, "Could not fetch JWT-SVID", KV_ERR(&fault), KV_BOOL(CS_F_REGISTERED, true),
                 KV(CS_F_SPIFFE_ID, en->spiffe_id));
    return cs_fail(e, CS_UNAVAILABLE, "could not fetch JWT-SVID: %.400s", fault.text);
}

static cs_code add_token(struct job *j, const struct agent_entry *en, const struct agent_jwt *t,
                         Workload__JWTSVIDResponse *msg, struct cs_err *e)
{
    Workload__JWTSVID *row = cs_arena_alloc(j->arena, sizeof *row);
    if (row == NULL)
        return cs_nomem(e);
    workload__jwtsvid__init(row);
    row->spiffe_id = (char *)(uintptr_t)en->spiffe_id;
    row->hint = (char *)(uintptr_t)en->hint;
    row->svid = cs_arena_strdup(j->arena, t->token);
    if (row->svid == NULL)
        return cs_nomem(e);
    msg->svids[msg->n_svids++] = row;
    cs_log_debug(&j->log, "Fetched JWT SVID", KV_BOOL(CS_F_REGISTERED, true),
                 KV(CS_F_SPIFFE_ID, en->spiffe_id),
                 KV_INT(CS_F_TTL, t->expires_at - cs_now_s(j->api->agent->clock)));
    return CS_OK;
}

static cs_code answer(struct job *j, struct cs_err *e)
{
    Workload__JWTSVIDResponse msg = WORKLOAD__JWTSVIDRESPONSE__INIT;
    msg.svids = cs_arena_alloc(j->arena, (j->count + 1) * sizeof *msg.svids);
    if (msg.svids == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < j->count; i++) {
        if (rpc_call_done(j->call))
            return cs_fail(e, CS_CANCELLED, "context canceled");
        CS_AUTO(agent_jwt) t = NULL;
        CS_TRY(fetch_one(j, j->entries[i], &t, e));
        CS_TRY(add_token(j, j->entries[i], t, &msg, e));
    }
    CS_CLEANUP(cs_buf_wipe) struct cs_buf packed = {0};
    CS_TRY(proto_pack(&msg.base, &packed, e));
    cs_code rc = rpc_call_send(j->call, &packed);
    return rc == CS_OK ? CS_OK : cs_fail(e, rc, "could not send the response");
}

static void run_job(void *arg)
{
    struct job *j = arg;
    struct cs_err e = {0};
    cs_code rc = answer(j, &e);
    rpc_call_finish(j->call, rc, rc == CS_OK ? "" : e.text);
    job_free(j);
}

/* --- The request --- */

static cs_code jwt_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)call;
    (void)service;
    *state = cs_calloc(1, sizeof(bool)); /* has there been a request? */
    return *state != NULL ? CS_OK : cs_nomem(e);
}

static void jwt_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    cs_free(state);
}

static cs_code jwt_half_close(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)call;
    (void)service;
    return *(bool *)state ? CS_OK : cs_fail(e, CS_INTERNAL, "cardinality violation: no request message");
}

static cs_code check_request(const struct cs_log *log, const Workload__JWTSVIDRequest *req, struct cs_err *e)
{
    if (req->n_audience == 0) {
        cs_log_error(log, "Missing required audience parameter");
        return cs_fail(e, CS_INVALID, "audience must be specified");
    }
    if (req->n_audience > AUDIENCES_MAX)
        return cs_fail(e, CS_INVALID, "more than %d audiences", AUDIENCES_MAX);
    struct spiffe_id id;
    struct cs_err fault;
    if (req->spiffe_id[0] == '\0' || spiffe_id_parse(cs_slice_str(req->spiffe_id), &id, &fault) == CS_OK)
        return CS_OK;
    cs_log_error(log, "Invalid requested SPIFFE ID", KV_ERR(&fault), KV(CS_F_SPIFFE_ID, req->spiffe_id));
    return cs_fail(e, CS_INVALID, "invalid requested SPIFFE ID: %.400s", fault.text);
}

static void warn_duplicate_hint(void *arg, const struct agent_entry *en)
{
    const struct cs_log *log = arg;
    cs_log_warn(log, "Ignoring entry with duplicate hint", KV(CS_F_ENTRY_ID, en->id), KV("hint", en->hint));
    agent_entry_unref(en);
}

/* The caller's entries: one per hint, and of the SPIFFE ID asked for. */
static cs_code find_entries(struct job *j, const struct workload_caller *caller, const char *spiffe_id,
                            struct cs_err *e)
{
    CS_TRY(
        agent_cache_match(j->api->agent->cache, caller->selectors, caller->count, &j->entries, &j->count, e));
    j->count = agent_entry_filter_hints(j->entries, j->count, warn_duplicate_hint, &j->log);
    if (spiffe_id[0] == '\0')
        return CS_OK;
    size_t n = 0;
    for (size_t i = 0; i < j->count; i++) {
        if (strcmp(j->entries[i]->spiffe_id, spiffe_id) == 0)
            j->entries[n++] = j->entries[i];
        else
            agent_entry_unref(j->entries[i]);
    }
    j->count = n;
    return CS_OK;
}

static cs_code make_job(struct rpc_call *call, struct workload_api *w, struct cs_slice msg, struct job **out,
                        struct cs_err *e)
{
    __attribute__((cleanup(job_drop))) struct job *j = cs_calloc(1, sizeof *j);
    if (j == NULL)
        return cs_nomem(e);
    j->api = w;
    j->log = workload_log(w, call);
    j->arena = cs_arena_new(0, 0);
    if (j->arena == NULL)
        return cs_nomem(e);
    ProtobufCMessage *m = NULL;
    CS_TRY(proto_unpack(j->arena, &workload__jwtsvidrequest__descriptor, msg, &m, e));
    const Workload__JWTSVIDRequest *req = (void *)m;
    CS_TRY(check_request(&j->log, req, e));
    j->audience = (const char **)(void *)req->audience;
    j->audience_count = req->n_audience;
    struct workload_caller caller;
    CS_TRY(workload_attest(w, call, j->arena, LIMIT_JWT_SVID, &caller, e));
    CS_TRY(find_entries(j, &caller, req->spiffe_id, e));
    if (j->count == 0)
        return workload_deny(w, call, &caller, e);
    rpc_call_ref(call);
    j->call = call;
    *out = CS_MOVE(j);
    return CS_OK;
}

static bool all_cached(const struct job *j)
{
    for (size_t i = 0; i < j->count; i++) {
        CS_AUTO(agent_jwt) t = cached(j, j->entries[i]);
        if (!fresh(j, t))
            return false;
    }
    return true;
}

static cs_code jwt_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                           struct cs_err *e)
{
    struct workload_api *w = service;
    bool *asked = state;
    if (*asked)
        return cs_fail(e, CS_INTERNAL, "cardinality violation: more than one request message");
    *asked = true;
    struct job *j = NULL;
    CS_TRY(make_job(call, w, msg, &j, e));
    if (all_cached(j)) {
        run_job(j);
        return CS_OK;
    }
    const struct loop_peer *peer = rpc_conn_peer(rpc_call_conn(call));
    if (agent_fairqueue_submit(w->jwt_jobs, peer != NULL ? (uint64_t)peer->pid : 0, run_job, j))
        return CS_OK;
    job_free(j);
    return cs_fail(e, CS_UNAVAILABLE,
                   "could not fetch JWT-SVID: too many requests are waiting for the server");
}

const struct rpc_stream_ops workload_fetch_jwt = {
    .open = jwt_open,
    .message = jwt_message,
    .half_close = jwt_half_close,
    .closed = jwt_closed,
};

/* --- Claims as google.protobuf.Struct --- */

typedef Google__Protobuf__Value pb_value;
typedef Google__Protobuf__Struct pb_struct;
typedef Google__Protobuf__Struct__FieldsEntry pb_field;

static cs_code to_value(struct cs_arena *a, json_t *from, unsigned depth, pb_value **out, struct cs_err *e);

static cs_code to_struct(struct cs_arena *a, json_t *from, unsigned depth, pb_struct **out, struct cs_err *e)
{
    pb_struct *s = cs_arena_alloc(a, sizeof *s);
    pb_field **rows = cs_arena_alloc(a, (json_object_size(from) + 1) * sizeof *rows);
    if (s == NULL || rows == NULL)
        return cs_nomem(e);
    google__protobuf__struct__init(s);
    s->fields = rows;
    const char *key;
    json_t *value;
    json_object_foreach(from, key, value)
    {
        pb_field *row = cs_arena_alloc(a, sizeof *row);
        if (row == NULL)
            return cs_nomem(e);
        google__protobuf__struct__fields_entry__init(row);
        row->key = (char *)(uintptr_t)key;
        CS_TRY(to_value(a, value, depth + 1, &row->value, e));
        s->fields[s->n_fields++] = row;
    }
    *out = s;
    return CS_OK;
}

static cs_code to_list(struct cs_arena *a, json_t *from, unsigned depth, Google__Protobuf__ListValue **out,
                       struct cs_err *e)
{
    Google__Protobuf__ListValue *l = cs_arena_alloc(a, sizeof *l);
    pb_value **rows = cs_arena_alloc(a, (json_array_size(from) + 1) * sizeof *rows);
    if (l == NULL || rows == NULL)
        return cs_nomem(e);
    google__protobuf__list_value__init(l);
    l->values = rows;
    size_t i;
    json_t *value;
    json_array_foreach(from, i, value)
    {
        CS_TRY(to_value(a, value, depth + 1, &l->values[i], e));
        l->n_values++;
    }
    *out = l;
    return CS_OK;
}

static cs_code to_value(struct cs_arena *a, json_t *from, unsigned depth, pb_value **out, struct cs_err *e)
{
    if (depth > CLAIM_DEPTH_MAX)
        return cs_fail(e, CS_INVALID, "claims are nested more than %d deep", CLAIM_DEPTH_MAX);
    pb_value *v = cs_arena_alloc(a, sizeof *v);
    if (v == NULL)
        return cs_nomem(e);
    google__protobuf__value__init(v);
    *out = v;
    switch (json_typeof(from)) {
    case JSON_OBJECT:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
        return to_struct(a, from, depth, &v->struct_value, e);
    case JSON_ARRAY:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
        return to_list(a, from, depth, &v->list_value, e);
    case JSON_STRING:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        v->string_value = (char *)(uintptr_t)json_string_value(from);
        return CS_OK;
    case JSON_INTEGER:
    case JSON_REAL:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        v->number_value = json_number_value(from);
        return CS_OK;
    case JSON_TRUE:
    case JSON_FALSE:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        v->bool_value = json_is_true(from);
        return CS_OK;
    default:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
        return CS_OK;
    }
}

/* --- Validating --- */

static bool claim_allowed(const struct agent_config *cfg, const char *claim)
{
    return strcmp(claim, "sub") == 0 || strcmp(claim, "exp") == 0 || strcmp(claim, "aud") == 0 ||
           config_strings_have(&cfg->allowed_foreign_jwt_claims, claim);
}

/* Of a foreign token only claims with a meaning here; an audience is always a list. */
static cs_code shape_claims(const struct agent_config *cfg, const struct spiffe_jwtsvid *t, struct cs_err *e)
{
    if (!spiffe_id_member_of(t->id, cs_slice_str(cfg->trust_domain))) {
        const char *key;
        json_t *value;
        void *next;
        json_object_foreach_safe(t->claims, next, key, value) if (!claim_allowed(cfg, key))(void)
            json_object_del(t->claims, key);
    }
    json_t *aud = json_object_get(t->claims, "aud");
    if (!json_is_string(aud))
        return CS_OK;
    json_t *list = json_array();
    if (list == NULL || json_array_append(list, aud) != 0 || json_object_set_new(t->claims, "aud", list) != 0)
        return cs_nomem(e);
    return CS_OK;
}

static const struct spiffe_bundle *find_bundle(void *arg, struct cs_slice trust_domain)
{
    return agent_update_bundle(arg, trust_domain);
}

static cs_code respond(struct cs_arena *a, const struct spiffe_jwtsvid *t, struct cs_buf *out,
                       struct cs_err *e)
{
    Workload__ValidateJWTSVIDResponse resp = WORKLOAD__VALIDATE_JWTSVIDRESPONSE__INIT;
    resp.spiffe_id = cs_arena_strndup(a, (const char *)t->id.text.data, t->id.text.len);
    if (resp.spiffe_id == NULL)
        return cs_nomem(e);
    CS_TRY(to_struct(a, t->claims, 0, &resp.claims, e));
    return proto_pack(&resp.base, out, e);
}

cs_code workload_validate_jwt(struct rpc_call *call, void *service, struct cs_slice request,
                              struct cs_buf *response, struct cs_err *e)
{
    struct workload_api *w = service;
    struct cs_log log = workload_log(w, call);
    struct cs_arena *a = rpc_call_arena(call);
    ProtobufCMessage *m = NULL;
    CS_TRY(proto_unpack(a, &workload__validate_jwtsvidrequest__descriptor, request, &m, e));
    const Workload__ValidateJWTSVIDRequest *req = (void *)m;
    if (req->audience[0] == '\0') {
        cs_log_error(&log, "Missing required audience parameter");
        return cs_fail(e, CS_INVALID, "audience must be specified");
    }
    if (req->svid[0] == '\0') {
        cs_log_error(&log, "Missing required svid parameter");
        return cs_fail(e, CS_INVALID, "svid must be specified");
    }
    struct workload_caller caller;
    CS_TRY(workload_attest(w, call, a, LIMIT_COUNT, &caller, e));
    CS_AUTO(agent_update) u = NULL;
    CS_TRY(agent_cache_update_of(w->agent->cache, caller.selectors, caller.count, &u, e));
    const struct spiffe_jwt_bundles bundles = {.find = find_bundle, .arg = u};
    const struct cs_slice audience = cs_slice_str(req->audience);
    CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
    struct cs_err fault;
    cs_code rc = spiffe_jwtsvid_validate(cs_slice_str(req->svid), &bundles, &audience, 1,
                                         cs_now_s(w->agent->clock), &t, &fault);
    if (rc == CS_INTERNAL)
        return cs_fail(e, rc, "%.400s", fault.text);
    if (rc != CS_OK) {
        cs_log_warn(&log, "Failed to validate JWT", KV(CS_F_AUDIENCE, req->audience), KV_ERR(&fault));
        return cs_fail(e, CS_INVALID, "%.500s", fault.text);
    }
    CS_TRY(shape_claims(w->agent->cfg, &t, e));
    return respond(a, &t, response, e);
}
