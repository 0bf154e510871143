/* SPDX-License-Identifier: Apache-2.0
 *
 * The API as a whole: built from its parts, begun and ended around each call, kept up.
 */
#include "server/api/services.h"

#include "server/api/attestor.h"
#include "server/api/internal.h"

/* --- Peers --- */
cs_code api_peer_new(const char *spiffe_id, const char *serial, int64_t not_after, struct api_peer **out,
                     struct cs_err *e)
{
    *out = NULL;
    struct spiffe_id id;
    CS_TRY(spiffe_id_parse(cs_slice_str(spiffe_id), &id, e));
    size_t id_len = strlen(spiffe_id) + 1, serial_len = strlen(serial) + 1;
    struct api_peer *p = cs_malloc(sizeof *p + id_len + serial_len);
    if (p == NULL)
        return cs_nomem(e);
    memcpy(p->text, spiffe_id, id_len);
    memcpy(p->text + id_len, serial, serial_len);
    p->spiffe_id = p->text;
    p->serial = p->text + id_len;
    p->trust_domain_len = spiffe_id_td(id).len;
    p->not_after = not_after;
    *out = p;
    return CS_OK;
}

void api_peer_free(void *peer)
{
    cs_free(peer);
}

/* --- Building --- */
/* Per second and address (SPIRE: pkg/server/api/limits). */
static const struct {
    unsigned per_s;
    enum { ALWAYS, IF_ATTESTATION, IF_SIGNING } when;
} limit_rows[LIMIT_COUNT] = {
    [LIMIT_ATTEST] = {1, IF_ATTESTATION}, [LIMIT_SIGN_X509] = {500, IF_SIGNING},
    [LIMIT_SIGN_JWT] = {500, IF_SIGNING}, [LIMIT_SIGN_WIT] = {500, IF_SIGNING},
    [LIMIT_PUSH_KEY] = {500, ALWAYS},     [LIMIT_POST_STATUS] = {10, ALWAYS},
};

/* Questions to the database for an agent about to be refused. */
#define LOOKUPS_PER_S 1

static cs_code limits_new(struct api *a, struct cs_err *e)
{
    for (size_t i = 0; i < LIMIT_COUNT; i++) {
        bool on = limit_rows[i].when == ALWAYS ||
                  (limit_rows[i].when == IF_ATTESTATION && a->cfg.limit_attestation) ||
                  (limit_rows[i].when == IF_SIGNING && a->cfg.limit_signing);
        if (limit_rows[i].per_s > 0 && on)
            CS_TRY(ratelimit_new(limit_rows[i].per_s, a->cfg.clock, &a->limits[i], e));
    }
    return CS_OK;
}

static void list_services(struct api *a)
{
    for (size_t i = 0; i < api_service_row_count; i++) {
        const struct api_service_row *row = &api_service_rows[i];
        const struct rpc_service s = {
            .name = row->name, .methods = row->methods, .count = row->count, .ctx = a};
        if (row->tcp)
            a->services[API_TCP][a->service_count[API_TCP]++] = s;
        a->services[API_ADMIN_SOCKET][a->service_count[API_ADMIN_SOCKET]++] = s;
    }
}

static cs_code build(struct api *a, struct cs_err *e)
{
    CS_TRY(entrycache_new(a->cfg.trust_domain, &a->entries, e));
    CS_TRY(agentcache_new(&a->agents, e));
    CS_TRY(limits_new(a, e));
    CS_TRY(ratelimit_new(LOOKUPS_PER_S, a->cfg.clock, &a->lookups, e));
    if (a->cfg.loop != NULL)
        CS_TRY(api_waiters_new(a->cfg.loop, a->cfg.clock, &a->waiters, e));
    CS_TRY(api_attestors_new(a->cfg.catalog, &a->attestors, e));
    ds_observe(a->cfg.ds, api_store_observe, a);
    return api_store_load(a, e);
}

cs_code api_new(const struct api_config *cfg, struct api **out, struct cs_err *e)
{
    *out = NULL;
    struct api *a = cs_calloc(1, sizeof *a);
    if (a == NULL)
        return cs_nomem(e);
    pthread_mutex_init(&a->store_lock, NULL);
    a->cfg = *cfg;
    a->td = cs_slice_str(cfg->trust_domain);
    a->log = cs_log_sub(cfg->log, "api");
    list_services(a);
    cs_code code = build(a, e);
    if (code != CS_OK) {
        api_free(a);
        return code;
    }
    *out = a;
    return CS_OK;
}

void api_free(struct api *a)
{
    if (a == NULL)
        return;
    api_attestors_free(a->attestors);
    ds_observe(a->cfg.ds, NULL, NULL);
    pthread_mutex_destroy(&a->store_lock);
    api_waiters_free(a->waiters);
    for (size_t i = 0; i < LIMIT_COUNT; i++)
        ratelimit_free(a->limits[i]);
    ratelimit_free(a->lookups);
    entrycache_free(a->entries);
    agentcache_free(a->agents);
    cs_free(a);
}

const struct rpc_service *api_services(struct api *a, enum api_listener which, size_t *count)
{
    *count = a->service_count[which];
    return a->services[which];
}

/* --- Around each call --- */
cs_code api_begin(struct rpc_call *call, void *arg, struct cs_err *e)
{
    struct rpc_conn *conn = rpc_call_conn(call);
    struct cs_arena *arena = rpc_call_arena(call);
    struct api_call *c = cs_arena_zalloc(arena, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    c->api = arg;
    c->rpc = call;
    c->arena = arena;
    c->policy = rpc_call_method(call)->policy;
    c->local = rpc_conn_is_unix(conn);
    c->peer = c->local ? NULL : rpc_conn_data(conn);
    rpc_call_set_data(call, c);
    if (cs_uuid(c->request_id, e) != CS_OK)
        return cs_fail(e, CS_INTERNAL, "failed to create request ID");
    CS_TRY(api_authorize(c, e));
    return api_audit_begin(c, e);
}

void api_end(struct rpc_call *call, void *arg, cs_code code, const char *text)
{
    (void)arg;
    struct api_call *c = api_call_of(call);
    if (c == NULL)
        return;
    if (code != CS_OK)
        api_audit_error(c, code, text);
    agent_unref(c->agent);
    c->agent = NULL;
    rpc_call_set_data(call, NULL);
}
