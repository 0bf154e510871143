/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-server entry create|update|delete
 */
#include "base/text.h"
#include "cli/server/entry.h"

#include <inttypes.h>

struct write_opts {
    struct cli_common common;
    const char *data, *entry_id, *parent_id, *spiffe_id, *hint;
    struct cli_strings selectors, dns_names, federates_with;
    int64_t x509_ttl, jwt_ttl, expiry;
    bool admin, downstream, node, store_svid, disable_prefetch, include_jti;
};

#define OFF(field) offsetof(struct write_opts, field)
#define WRITE_FLAGS                                                                                          \
    {"parentID", CLI_STRING, OFF(parent_id), "SPIFFE ID of the entry's parent", NULL},                       \
        {"spiffeID", CLI_STRING, OFF(spiffe_id), "SPIFFE ID that the entry gives", NULL},                    \
        {"x509SVIDTTL", CLI_INT, OFF(x509_ttl), "Seconds that X509-SVIDs of this entry live", NULL},         \
        {"jwtSVIDTTL", CLI_INT, OFF(jwt_ttl), "Seconds that JWT-SVIDs of this entry live", NULL},            \
        {"data", CLI_STRING, OFF(data),                                                                      \
         "JSON file of entries to use instead of the flags; '-' is standard input", NULL},                   \
        {"selector", CLI_STRINGS, OFF(selectors), "A type:value selector; repeatable", NULL},                \
        {"federatesWith", CLI_STRINGS, OFF(federates_with), "Trust domain to federate with; repeatable",     \
         NULL},                                                                                              \
        {"admin", CLI_BOOL, OFF(admin), "The SPIFFE ID may use the server's management APIs", NULL},         \
        {"storeSVID", CLI_BOOL, OFF(store_svid),                                                             \
         "SVIDs of this entry are stored through an SVIDStore plugin", NULL},                                \
        {"downstream", CLI_BOOL, OFF(downstream), "The entry is a downstream SPIRE server", NULL},           \
        {"entryExpiry", CLI_INT, OFF(expiry), "Unix time at which the entry is pruned", NULL},               \
        {"dns", CLI_STRINGS, OFF(dns_names), "DNS name to put into X509-SVIDs of this entry; repeatable",    \
         NULL},                                                                                              \
    {                                                                                                        \
        "hint", CLI_STRING, OFF(hint), "Tells entries with the same SPIFFE ID apart", NULL                   \
    }

static const struct cli_flag create_flags[] = {
    WRITE_FLAGS,
    {"entryID", CLI_STRING, OFF(entry_id), "Own ID for the entry; made up when not given", NULL},
    {"node", CLI_BOOL, OFF(node), "The entry is for matching nodes and not for workloads", NULL},
    {"disableX509SVIDPrefetch", CLI_BOOL, OFF(disable_prefetch),
     "Agents do not fetch X509-SVIDs of this entry ahead", NULL},
    {"jwtSVIDIncludeJTI", CLI_BOOL, OFF(include_jti),
     "JWT-SVIDs of this entry carry a unique 'jti' claim and are not cached by agents", NULL},
    CLI_SERVER_FLAGS(struct write_opts),
    CLI_END,
};

static const struct cli_flag update_flags[] = {
    WRITE_FLAGS,
    {"entryID", CLI_STRING, OFF(entry_id), "ID of the entry to update", NULL},
    {"disableX509SVIDPrefetch", CLI_PRESENCE, OFF(disable_prefetch),
     "Agents do not fetch X509-SVIDs of this entry ahead", NULL},
    {"jwtSVIDIncludeJTI", CLI_PRESENCE, OFF(include_jti),
     "JWT-SVIDs of this entry carry a unique 'jti' claim and are not cached by agents", NULL},
    CLI_SERVER_FLAGS(struct write_opts),
    CLI_END,
};

static bool empty(const char *s)
{
    return s == NULL || s[0] == '\0';
}

static cs_code check_common(const struct write_opts *o, struct cs_err *e)
{
    if (empty(o->spiffe_id))
        return cs_fail(e, CS_INVALID, "a SPIFFE ID is required");
    if (o->x509_ttl < 0)
        return cs_fail(e, CS_INVALID, "a positive x509-SVID TTL is required");
    if (o->jwt_ttl < 0)
        return cs_fail(e, CS_INVALID, "a positive JWT-SVID TTL is required");
    return CS_OK;
}

static cs_code check_create(const struct write_opts *o, struct cs_err *e)
{
    if (o->selectors.len == 0)
        return cs_fail(e, CS_INVALID, "at least one selector is required");
    if (o->node && o->federates_with.len > 0)
        return cs_fail(e, CS_INVALID, "node entries can not federate");
    if (empty(o->parent_id) && !o->node)
        return cs_fail(e, CS_INVALID, "a parent ID is required if the node flag is not set");
    return check_common(o, e);
}

static cs_code check_update(const struct write_opts *o, struct cs_err *e)
{
    if (empty(o->entry_id))
        return cs_fail(e, CS_INVALID, "entry ID is required");
    if (o->selectors.len == 0)
        return cs_fail(e, CS_INVALID, "at least one selector is required");
    if (empty(o->parent_id))
        return cs_fail(e, CS_INVALID, "a parent ID is required");
    return check_common(o, e);
}

static cs_code node_parent(struct cs_arena *a, const Types__SPIFFEID *id, Types__SPIFFEID **out,
                           struct cs_err *e)
{
    Types__SPIFFEID *p = cs_arena_alloc(a, sizeof *p);
    if (p == NULL)
        return cs_nomem(e);
    types__spiffeid__init(p);
    p->trust_domain = id->trust_domain;
    p->path = cs_arena_strdup(a, "/spire/server");
    *out = p;
    return p->path != NULL ? CS_OK : cs_nomem(e);
}

static cs_code fill_attributes(struct cs_arena *a, const struct write_opts *o, Types__Entry *en,
                               struct cs_err *e)
{
    if (!o->disable_prefetch && !o->include_jti)
        return CS_OK;
    en->additional_attributes = cs_arena_alloc(a, sizeof *en->additional_attributes);
    if (en->additional_attributes == NULL)
        return cs_nomem(e);
    types__entry__additional_attributes__init(en->additional_attributes);
    en->additional_attributes->disable_x509_svid_prefetch = o->disable_prefetch;
    en->additional_attributes->jwt_svid_include_jti = o->include_jti;
    return CS_OK;
}

/* The one entry that the flags describe. IDs are parsed before the TTLs are looked at, as upstream. */
static cs_code entry_from_flags(struct cs_arena *a, const struct write_opts *o, Types__Entry **out,
                                struct cs_err *e)
{
    Types__Entry *en = cs_arena_alloc(a, sizeof *en);
    if (en == NULL)
        return cs_nomem(e);
    types__entry__init(en);
    CS_TRY(srv_id_arg(a, o->spiffe_id, &en->spiffe_id, e));
    if (o->node)
        CS_TRY(node_parent(a, en->spiffe_id, &en->parent_id, e));
    else
        CS_TRY(srv_id_arg(a, o->parent_id, &en->parent_id, e));
    CS_TRY(srv_int32_arg(o->x509_ttl, "X509 SVID TTL", &en->x509_svid_ttl, e));
    CS_TRY(srv_int32_arg(o->jwt_ttl, "JWT SVID TTL", &en->jwt_svid_ttl, e));
    CS_TRY(srv_selectors_arg(a, &o->selectors, &en->n_selectors, &en->selectors, e));
    CS_TRY(srv_strings(a, &o->dns_names, &en->n_dns_names, &en->dns_names, e));
    CS_TRY(srv_strings(a, &o->federates_with, &en->n_federates_with, &en->federates_with, e));
    CS_TRY(fill_attributes(a, o, en, e));
    en->id = cs_arena_strdup(a, o->entry_id != NULL ? o->entry_id : "");
    en->hint = cs_arena_strdup(a, o->hint != NULL ? o->hint : "");
    en->admin = o->admin;
    en->downstream = o->downstream;
    en->store_svid = o->store_svid;
    en->expires_at = o->expiry;
    *out = en;
    return en->id != NULL && en->hint != NULL ? CS_OK : cs_nomem(e);
}

static cs_code gather(struct cli_env *env, struct cs_arena *a, const struct write_opts *o, size_t *n,
                      Types__Entry ***out, struct cs_err *e)
{
    if (!empty(o->data))
        return entry_load_file(env, a, o->data, n, out, e);
    *out = cs_arena_zalloc(a, sizeof **out);
    if (*out == NULL)
        return cs_nomem(e);
    *n = 1;
    return entry_from_flags(a, o, &(*out)[0], e);
}

/* What tells the two commands apart. Their requests, as far as they are filled here, and their replies
 * have the same fields with the same numbers, so the messages of create serve both. */
struct verb {
    const char *name, *method;
};
static const struct verb create = {"create", ENTRY_SERVICE "BatchCreateEntry"};
static const struct verb update = {"update", ENTRY_SERVICE "BatchUpdateEntry"};

static cs_code print_failed(struct cli_env *env, const Types__Status *st, const Types__Entry *en,
                            const struct verb *verb, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
    cs_quote(&msg, cs_slice_str(st->message));
    fprintf(env->err, "Failed to %s the following entry (code: %s, msg: %s):\n", verb->name,
            cs_code_name((cs_code)st->code), cs_buf_cstr(&msg));
    return entry_print(env->err, en, e);
}

static cs_code print_results(struct cli_env *env, const Entryv1__BatchCreateEntryResponse *r,
                             const struct verb *verb, struct cs_err *e)
{
    size_t failed = 0;
    for (size_t i = 0; i < r->n_results; i++) {
        if (r->results[i]->status->code == CS_OK)
            CS_TRY(entry_print(env->out, r->results[i]->entry, e));
        else
            failed++;
    }
    for (size_t i = 0; i < r->n_results && failed > 0; i++)
        if (r->results[i]->status->code != CS_OK)
            CS_TRY(print_failed(env, r->results[i]->status, r->results[i]->entry, verb, e));
    return failed == 0 ? CS_OK : cs_fail(e, CS_INTERNAL, "failed to %s one or more entries", verb->name);
}

static cs_code send_entries(struct cli_env *env, struct cli_session *s, const struct write_opts *o,
                            const Entryv1__BatchCreateEntryRequest *req, const struct verb *verb,
                            struct cs_err *e)
{
    ProtobufCMessage *reply;
    CS_TRY(
        cli_call(s, verb->method, &req->base, &entryv1__batch_create_entry_response__descriptor, &reply, e));
    Entryv1__BatchCreateEntryResponse *r = (Entryv1__BatchCreateEntryResponse *)reply;
    for (size_t i = 0; i < r->n_results; i++) {
        if (r->results[i]->status == NULL || i >= req->n_entries)
            return cs_fail(e, CS_INTERNAL, "the server's result %zu has no status", i);
        if (r->results[i]->status->code != CS_OK) /* the server leaves out what it refused */
            r->results[i]->entry = req->entries[i];
    }
    return o->common.output.json ? cli_print_json(env, reply, e) : print_results(env, r, verb, e);
}

static cs_code run_create(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct write_opts *o = opts;
    if (empty(o->data))
        CS_TRY(check_create(o, e));
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Entryv1__BatchCreateEntryRequest req = ENTRYV1__BATCH_CREATE_ENTRY_REQUEST__INIT;
    CS_TRY(gather(env, s->arena, o, &req.n_entries, &req.entries, e));
    return send_entries(env, s, o, &req, &create, e);
}

/* Attributes not named on the command line keep the values that the server has. */
static cs_code keep_attributes(struct cli_session *s, const struct write_opts *o, Types__Entry *en,
                               struct cs_err *e)
{
    Entryv1__GetEntryRequest req = ENTRYV1__GET_ENTRY_REQUEST__INIT;
    req.id = en->id;
    ProtobufCMessage *reply;
    if (cli_call(s, ENTRY_SERVICE "GetEntry", MSG(req), &types__entry__descriptor, &reply, e) != CS_OK)
        return cs_wrap(e, "failed to fetch existing entry to merge additional attributes");
    const Types__Entry__AdditionalAttributes *old = ((const Types__Entry *)reply)->additional_attributes;
    if (old == NULL)
        return CS_OK;
    if (!o->disable_prefetch)
        en->additional_attributes->disable_x509_svid_prefetch = old->disable_x509_svid_prefetch;
    if (!o->include_jti)
        en->additional_attributes->jwt_svid_include_jti = old->jwt_svid_include_jti;
    return CS_OK;
}

static cs_code run_update(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct write_opts *o = opts;
    if (empty(o->data))
        CS_TRY(check_update(o, e));
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Entryv1__BatchCreateEntryRequest req = ENTRYV1__BATCH_CREATE_ENTRY_REQUEST__INIT;
    CS_TRY(gather(env, s->arena, o, &req.n_entries, &req.entries, e));
    if (empty(o->data) && req.entries[0]->additional_attributes != NULL)
        CS_TRY(keep_attributes(s, o, req.entries[0], e));
    return send_entries(env, s, o, &req, &update, e);
}

/* --- delete --- */

struct delete_opts {
    struct cli_common common;
    const char *entry_id, *file;
};

static const struct cli_flag delete_flags[] = {
    {"entryID", CLI_STRING, offsetof(struct delete_opts, entry_id), "ID of the entry to delete", NULL},
    {"file", CLI_STRING, offsetof(struct delete_opts, file),
     "JSON file with the IDs of many entries to delete; '-' is standard input", NULL},
    CLI_SERVER_FLAGS(struct delete_opts),
    CLI_END,
};

static cs_code gather_ids(struct cli_env *env, struct cs_arena *a, const struct delete_opts *o, size_t *n,
                          char ***out, struct cs_err *e)
{
    if (!empty(o->file)) {
        CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
        CS_TRY(srv_read_input(env, o->file, &b, e));
        return entry_load_ids(a, cs_buf_slice(&b), n, out, e);
    }
    *out = cs_arena_zalloc(a, sizeof **out);
    if (*out == NULL || ((*out)[0] = cs_arena_strdup(a, o->entry_id)) == NULL)
        return cs_nomem(e);
    *n = 1;
    return CS_OK;
}

static cs_code print_deleted(struct cli_env *env, const Entryv1__BatchDeleteEntryResponse *r,
                             struct cs_err *e)
{
    size_t done = 0;
    for (size_t i = 0; i < r->n_results; i++) {
        if (r->results[i]->status != NULL && r->results[i]->status->code == CS_OK) {
            fprintf(env->out, "Deleted entry with ID: %s\n", r->results[i]->id);
            done++;
        }
    }
    if (done > 0)
        fputs("\n\n", env->out);
    size_t failed = r->n_results - done;
    for (size_t i = 0; i < r->n_results; i++) {
        const Types__Status *st = r->results[i]->status;
        if (st != NULL && st->code == CS_OK)
            continue;
        CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
        cs_quote(&msg, cs_slice_str(st != NULL ? st->message : ""));
        fprintf(env->err, "Failed to delete entry with ID %s (code: %s, msg: %s)\n", r->results[i]->id,
                cs_code_name(st != NULL ? (cs_code)st->code : CS_UNKNOWN), cs_buf_cstr(&msg));
    }
    if (failed == 0) {
        fprintf(env->out, "Deleted %zu entries successfully", done);
        return CS_OK;
    }
    if (done == 0)
        fprintf(env->out, "\n\nFailed to delete %zu entries", failed);
    else
        fprintf(env->out, "\n\nDeleted %zu entries successfully, but failed to delete %zu entries", done,
                failed);
    return cs_fail(e, CS_INTERNAL, "failed to delete one or more entries");
}

static cs_code run_delete(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct delete_opts *o = opts;
    if (empty(o->file) && empty(o->entry_id))
        return cs_fail(e, CS_INVALID, "an entry ID is required");
    CS_AUTO(cli_session) s = NULL;
    CS_TRY(cli_session_open(CLI_SERVER, &o->common, &s, e));
    Entryv1__BatchDeleteEntryRequest req = ENTRYV1__BATCH_DELETE_ENTRY_REQUEST__INIT;
    CS_TRY(gather_ids(env, s->arena, o, &req.n_ids, &req.ids, e));
    ProtobufCMessage *reply;
    CS_TRY(cli_call(s, ENTRY_SERVICE "BatchDeleteEntry", MSG(req),
                    &entryv1__batch_delete_entry_response__descriptor, &reply, e));
    if (o->common.output.json)
        return cli_print_json(env, reply, e);
    return print_deleted(env, (const Entryv1__BatchDeleteEntryResponse *)reply, e);
}

const struct cli_command srv_entry_create = {
    .path = "entry create",
    .synopsis = "Creates registration entries",
    .flags = create_flags,
    .opts_size = sizeof(struct write_opts),
    .run = run_create,
};
const struct cli_command srv_entry_update = {
    .path = "entry update",
    .synopsis = "Updates registration entries",
    .flags = update_flags,
    .opts_size = sizeof(struct write_opts),
    .run = run_update,
};
const struct cli_command srv_entry_delete = {
    .path = "entry delete",
    .synopsis = "Deletes registration entries",
    .flags = delete_flags,
    .opts_size = sizeof(struct delete_opts),
    .run = run_delete,
};
