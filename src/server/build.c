/* SPDX-License-Identifier: Apache-2.0
 *
 * Putting the server together, and taking it apart.
 */
#include "base/file.h"
#include "base/mem.h"
#include "config/plugin_config.h"
#include "config/server_config.h"
#include "datastore/datastore.h"
#include "rpc/health_http.h"
#include "rpc/server.h"
#include "server/api/services.h"
#include "server/bundlefeed.h"
#include "server/bundlestore.h"
#include "server/ca/manager.h"
#include "server/health.h"
#include "server/host.h"
#include "server/peer.h"
#include "server/server.h"
#include "server/svid.h"
#include "spiffe/id.h"

#include <limits.h>
#include <stdatomic.h>

#define DATASTORE_TYPE "DataStore"

/* --- Datastore --- */

static cs_code find_datastore(const struct config_plugins *plugins, const struct config_plugin **out,
                              struct cs_err *e)
{
    *out = NULL;
    for (size_t i = 0; i < plugins->len; i++) {
        if (strcmp(plugins->at[i].type, DATASTORE_TYPE) != 0)
            continue;
        if (*out != NULL)
            return cs_fail(e, CS_INVALID, "only one DataStore plugin is allowed");
        *out = &plugins->at[i];
    }
    if (*out == NULL)
        return cs_fail(e, CS_INVALID, "expecting a DataStore plugin");
    if (strcmp((*out)->name, "sql") != 0 || (*out)->cmd[0] != '\0')
        return cs_fail(
            e, CS_INVALID,
            "pluggability for the DataStore is deprecated; only the built-in \"sql\" plugin is supported");
    return CS_OK;
}

static cs_code open_datastore(struct server *s, struct cs_err *e)
{
    const struct config_plugin *plugin;
    CS_TRY(find_datastore(&s->cfg->plugins, &plugin, e));
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct cs_slice text;
    CS_TRY(config_plugin_text(plugin, a, &text, e));
    struct config_sql sql;
    CS_TRY(config_read_sql(text, a, &sql, e));
    const struct ds_options o = {
        .database_type = sql.database_type,
        .connection_string = sql.connection_string,
        .ro_connection_string = sql.ro_connection_string,
        .disable_migration = sql.disable_migration,
        .max_open_conns = sql.max_open_conns > 0 && sql.max_open_conns < 4 ? (unsigned)sql.max_open_conns : 0,
        .clock = s->clock,
        .log = cs_log_sub(s->log, "sql"),
    };
    CS_TRY(ds_open(&o, &s->ds, e));
    struct cs_log log = cs_log_sub(s->log, "catalog");
    cs_log_info(&log, "Configured DataStore", KV_BOOL("reconfigurable", false));
    return CS_OK;
}

/* A database of another trust domain is a mistake in the configuration. */
static cs_code check_entries(struct server *s, struct cs_arena *a, struct cs_err *e)
{
    const struct ds_page page = {.size = 1};
    struct ds_entry *entries = NULL;
    const char *next = NULL;
    size_t n = 0;
    CS_TRY(ds_entry_list(s->ds, a, NULL, &page, &entries, &n, &next, e));
    if (n == 0)
        return CS_OK;
    struct spiffe_id id;
    if (spiffe_id_parse(cs_slice_str(entries[0].spiffe_id), &id, e) != CS_OK)
        return cs_wrap(e, "registration entry with id %s is malformed because invalid SPIFFE ID",
                       entries[0].entry_id);
    struct cs_slice td = spiffe_id_td(id);
    if (cs_slice_is(td, s->cfg->trust_domain))
        return CS_OK;
    return cs_fail(
        e, CS_INVALID,
        "a registration entry with trust domain '%.*s' has been detected, which does not match the "
        "configured trust domain of '%s'. If you want to change the trust domain, please delete all "
        "existing registration entries",
        (int)td.len, (const char *)td.data, s->cfg->trust_domain);
}

static cs_code check_nodes(struct server *s, struct cs_arena *a, struct cs_err *e)
{
    const struct ds_page page = {.size = 1};
    struct ds_node *nodes = NULL;
    const char *next = NULL;
    size_t n = 0;
    CS_TRY(ds_node_list(s->ds, a, NULL, &page, &nodes, &n, &next, e));
    if (n == 0)
        return CS_OK;
    struct spiffe_id id;
    struct cs_err err;
    if (spiffe_id_parse(cs_slice_str(nodes[0].spiffe_id), &id, &err) != CS_OK) {
        cs_log_warn(&s->log, "could not parse SPIFFE ID, from attested node", KV_ERR(&err),
                    KV("spiffe_id", nodes[0].spiffe_id));
        return CS_OK;
    }
    struct cs_slice td = spiffe_id_td(id);
    if (cs_slice_is(td, s->cfg->trust_domain))
        return CS_OK;
    const char *msg =
        cs_arena_printf(a,
                        "An attested node with trust domain '%.*s' has been detected, which does not "
                        "match the configured trust domain of '%s'. Agents may need to be "
                        "reconfigured to use new trust domain",
                        (int)td.len, (const char *)td.data, s->cfg->trust_domain);
    cs_log_warn(&s->log, msg != NULL ? msg : "");
    return CS_OK;
}

static cs_code check_trust_domain(struct server *s, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    CS_TRY(check_entries(s, a, e));
    return check_nodes(s, a, e);
}

/* --- Plugins --- */

struct catalog_config server_catalog_config(const struct server *s)
{
    return (struct catalog_config){
        .program = "server",
        .kinds = plugin_server_kinds,
        .kind_count = plugin_server_kind_count,
        .plugins = &s->cfg->plugins,
        .skip_type = DATASTORE_TYPE,
        .env =
            {
                .log = cs_log_sub(s->log, "catalog"),
                .clock = s->clock,
                .trust_domain = s->cfg->trust_domain,
                .data_dir = s->cfg->data_dir,
                .stop = s->plugin_stop.asked != NULL ? &s->plugin_stop : NULL,
                .host = s->host != NULL ? server_host_services(s->host) : NULL,
            },
    };
}

/* --- Authorities --- */

static enum crypto_key_type key_type(enum config_key_type t)
{
    switch (t) {
    case CONFIG_KEY_EC_P384:
        return CRYPTO_EC_P384;
    case CONFIG_KEY_RSA_2048:
        return CRYPTO_RSA_2048;
    case CONFIG_KEY_RSA_4096:
        return CRYPTO_RSA_4096;
    default:
        return CRYPTO_EC_P256;
    }
}

/* In the order of the configuration; release with cs_free. */
static cs_code list_composers(const struct server *s, const struct catalog_plugin ***out, size_t *count,
                              struct cs_err *e)
{
    size_t n = 0;
    while (catalog_nth(s->catalog, PLUGIN_TYPE_CREDENTIALCOMPOSER, n) != NULL)
        n++;
    const struct catalog_plugin **list = cs_calloc(n + 1, sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++)
        list[i] = catalog_nth(s->catalog, PLUGIN_TYPE_CREDENTIALCOMPOSER, i);
    *out = list;
    *count = n;
    return CS_OK;
}

static cs_code make_ca(struct server *s, struct cs_err *e)
{
    const struct server_config *c = s->cfg;
    CS_CLEANUP(cs_freep) const struct catalog_plugin **composers = NULL;
    size_t composer_count = 0;
    CS_TRY(list_composers(s, &composers, &composer_count, e));
    const struct ca_config cfg = {
        .trust_domain = c->trust_domain,
        .clock = s->clock,
        .x509_ca_ttl_s = c->ca_ttl_ns / CS_NS_PER_S,
        .x509_svid_ttl_s = c->default_x509_svid_ttl_ns / CS_NS_PER_S,
        .agent_ttl_s = c->agent_ttl_ns / CS_NS_PER_S,
        .jwt_svid_ttl_s = c->default_jwt_svid_ttl_ns / CS_NS_PER_S,
        .jwt_issuer = c->jwt_issuer,
        .subject =
            {
                .country = {c->ca_subject_country.at, c->ca_subject_country.len},
                .organization = {c->ca_subject_organization.at, c->ca_subject_organization.len},
                .common_name = c->ca_subject_common_name,
            },
        .disable_jwt_svids = c->disable_jwt_svids,
        .composers = composers,
        .composer_count = composer_count,
    };
    return ca_new(&cfg, &s->ca, e);
}

static cs_code make_authorities(struct server *s, struct cs_err *e)
{
    CS_TRY(bundlestore_new(s->ds, s->cfg->trust_domain, s->log, &s->bundles, e));
    CS_TRY(make_ca(s, e));
    const struct ca_manager_config cfg = {
        .ca = s->ca,
        .ds = s->ds,
        .bundles = s->bundles,
        .keymanager = catalog_nth(s->catalog, PLUGIN_TYPE_KEYMANAGER, 0),
        .upstream = catalog_nth(s->catalog, PLUGIN_TYPE_UPSTREAMAUTHORITY, 0),
        .trust_domain = s->cfg->trust_domain,
        .x509_key_type = key_type(s->cfg->ca_key_type),
        .jwt_key_type = key_type(s->cfg->jwt_key_type),
        .clock = s->clock,
        .log = s->log,
    };
    CS_TRY(ca_manager_new(&cfg, &s->ca_manager, e));
    CS_TRY(ca_manager_rotate(s->ca_manager, e));
    const struct server_svid_config svid = {
        .ca = s->ca,
        .bundles = s->bundles,
        .type = key_type(s->cfg->ca_key_type),
        .stop = &s->stop,
        .clock = s->clock,
        .log = s->log,
    };
    CS_TRY(server_svid_new(&svid, &s->svid, e));
    server_host_open(s->host, s->ds, s->bundles, s->svid);
    return CS_OK;
}

/* --- Notifiers and publishers --- */

/* Any thread. */
static void refused(void *arg, const struct cs_err *e)
{
    struct server *s = arg;
    if (atomic_exchange(&s->failing, true))
        return;
    s->fatal = *e;
    atomic_store(&s->failed, true);
    loop_stop(s->loop);
}

static cs_code make_feed(struct server *s, struct cs_err *e)
{
    const struct bundlefeed_config cfg = {
        .catalog = s->catalog,
        .bundles = s->bundles,
        .trust_domain = s->cfg->trust_domain,
        .log = s->log,
        .refused = refused,
        .arg = s,
    };
    return bundlefeed_new(&cfg, &s->feed, e);
}

/* --- API --- */

/* Workers when signing waits for programs of others, which may ask a service far away: as many signatures are
 * under way at a time. */
#define WAITING_WORKERS 64

static bool signing_waits(const struct server *s)
{
    for (size_t i = 0; i < s->cfg->plugins.len; i++) {
        const struct config_plugin *p = &s->cfg->plugins.at[i];
        if (!p->disabled && p->cmd[0] != '\0' &&
            (strcmp(p->type, PLUGIN_TYPE_KEYMANAGER) == 0 ||
             strcmp(p->type, PLUGIN_TYPE_CREDENTIALCOMPOSER) == 0))
            return true;
    }
    return false;
}

static cs_code make_api(struct server *s, struct cs_err *e)
{
    const struct server_config *c = s->cfg;
    const struct peer_verifier_config peers = {
        .bundles = s->bundles,
        .trust_domain = c->trust_domain,
        .admin_ids = c->admin_ids.at,
        .admin_id_count = c->admin_ids.len,
        .clock = s->clock,
        .log = cs_log_sub(s->log, "endpoints"),
    };
    CS_TRY(peer_verifier_new(&peers, &s->peers, e));
    const struct rpc_server_config rpc = {
        /* As SPIRE: agents reconnect now and then, so that a load balancer spreads them. */
        .max_conn_age_ns = 180 * CS_NS_PER_S,
        .workers = signing_waits(s) ? WAITING_WORKERS : 0,
        .log = cs_log_sub(s->log, "endpoints"),
    };
    CS_TRY(rpc_server_new(&rpc, &s->rpc, e));
    const struct api_config api = {
        .trust_domain = c->trust_domain,
        .ds = s->ds,
        .ca = s->ca,
        .bundles = s->bundles,
        .catalog = s->catalog,
        .clock = s->clock,
        .log = s->log,
        .admin_ids = c->admin_ids.at,
        .admin_id_count = c->admin_ids.len,
        .limit_attestation = c->ratelimit_attestation,
        .limit_signing = c->ratelimit_signing,
        .audit_log = c->audit_log_enabled,
        .agent_spiffe_id_as_selector = c->agent_spiffe_id_as_selector,
        .prune_nodes_expired_for_s = c->prune_attested_nodes_expired_for_ns / CS_NS_PER_S,
        .prune_nodes_batch =
            c->prune_attested_nodes_batch_size > INT_MAX ? INT_MAX : (int)c->prune_attested_nodes_batch_size,
        .prune_nontofu_nodes = c->prune_tofu_nodes,
        .prune_events_older_than_s = c->prune_events_older_than_ns / CS_NS_PER_S,
        .loop = s->loop,
    };
    struct cs_log log = cs_log_sub(s->log, "endpoints");
    cs_log_info(&log, "Building in-memory entry cache");
    CS_TRY(api_new(&api, &s->api, e));
    cs_log_info(&log, "Completed building in-memory entry cache");
    return CS_OK;
}

/* --- Health --- */

static cs_code check_datastore(void *arg, struct cs_err *e)
{
    return ds_ping(((struct server *)arg)->ds, e);
}
static cs_code check_ca(void *arg, struct cs_err *e)
{
    return ca_health(((struct server *)arg)->ca, e);
}
static cs_code check_rotator(void *arg, struct cs_err *e)
{
    return ca_manager_health(((struct server *)arg)->ca_manager, e);
}
static cs_code check_bundle(void *arg, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle) own = bundlestore_own(((struct server *)arg)->bundles);
    return own != NULL ? CS_OK : cs_fail(e, CS_NOT_FOUND, "unable to fetch bundle: bundle not found");
}

static cs_code make_health(struct server *s, struct cs_err *e)
{
    const struct server_health_check checks[SERVER_CHECKS] = {
        {"catalog.datastore", "list_bundle_err", check_datastore, s},
        {"server", "get_bundle_err", check_bundle, s},
        {"server.ca", "sign_x509_svid_err", check_ca, s},
        {"server.ca.rotator", "rotation_err", check_rotator, s},
    };
    s->checks = cs_memdup(checks, sizeof checks);
    if (s->checks == NULL)
        return cs_nomem(e);
    return server_health_new(s->checks, SERVER_CHECKS, s->log, &s->health, e);
}

/* --- All of it --- */

cs_code server_build(struct server *s, struct cs_err *e)
{
    CS_TRY(cs_mkdir_all(s->cfg->data_dir, 0755, e));
    CS_TRY(loop_pool_new("upkeep", 1, 32, &s->pool, e));
    CS_TRY(loop_pool_new("rotation", 1, 1, &s->rotation, e));
    CS_TRY(open_datastore(s, e));
    CS_TRY(server_host_new(&s->host, e));
    struct catalog_config catalog = server_catalog_config(s);
    CS_TRY(catalog_load(&catalog, &s->catalog, e));
    CS_TRY(check_trust_domain(s, e));
    CS_TRY(make_authorities(s, e));
    CS_TRY(make_feed(s, e));
    CS_TRY(make_api(s, e));
    CS_TRY(make_health(s, e));
    return server_tasks_start(s, e);
}

static void close_stores(struct server *s)
{
    struct cs_log log = cs_log_sub(s->log, "catalog");
    if (s->catalog != NULL) {
        cs_log_debug(&log, "Closing catalog");
        catalog_free(s->catalog);
        cs_log_info(&log, "Catalog closed");
    }
    if (s->ds != NULL) {
        cs_log_debug(&log, "Closing DataStore");
        ds_close(s->ds);
        cs_log_info(&log, "DataStore closed");
    }
}

void server_free(struct server *s)
{
    /* First whatever runs by itself, then what it used. */
    loop_pool_free(s->rotation);
    loop_pool_free(s->pool);
    server_tasks_free(s);
    rpc_health_http_free(s->health_http);
    server_health_free(s->health);
    cs_free(s->checks);
    api_free(s->api);
    if (s->rpc != NULL)
        rpc_server_free(s->rpc);
    peer_verifier_free(s->peers);
    server_host_close(s->host);
    server_svid_free(s->svid);
    ca_manager_free(s->ca_manager);
    bundlefeed_free(s->feed);
    ca_free(s->ca);
    bundlestore_free(s->bundles);
    close_stores(s);
    server_host_free(s->host);
    if (s->loop != NULL)
        loop_free(s->loop);
    cs_free(s->tcp_address);
}
