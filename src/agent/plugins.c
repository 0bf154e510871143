/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's plugins: loading, reconfiguring, and what the agent offers to them.
 */
#include "agent/agent.h"

/* --- What plugins are given --- */

static bool stop_asked(void *arg)
{
    return agent_stopping(arg);
}

/* Metrics go nowhere as long as the agent has no telemetry of its own; the other services are the server's.
 */
static const struct plugin_host host = {.metric = NULL};

static struct catalog_config catalog_of(const struct agent_config *cfg, struct cs_log log,
                                        const struct crypto_stop *stop)
{
    return (struct catalog_config){
        .program = "agent",
        .kinds = plugin_agent_kinds,
        .kind_count = plugin_agent_kind_count,
        .plugins = &cfg->plugins,
        /* in an enclave nobody is attested */
        .optional_type = cfg->enclave.on ? PLUGIN_TYPE_WORKLOADATTESTOR : NULL,
        .env = {.log = cs_log_sub(log, "catalog"),
                .clock = &cs_clock_system,
                .trust_domain = cfg->trust_domain,
                .data_dir = cfg->data_dir,
                .stop = stop,
                .host = &host},
    };
}

/* --- Loading --- */

/* A join token that was given goes before the plugin that is configured. */
static cs_code present_token(void *self, const struct nodeattestor_agent_stream *stream, struct cs_err *e)
{
    const char *token = self;
    CS_CLEANUP(cs_buf_free) struct cs_buf challenge = {0};
    bool done = false;
    CS_TRY(stream->exchange(stream->arg, cs_slice_str(token), &challenge, &done, e));
    return done ? CS_OK
                : cs_fail(e, CS_INTERNAL, "nodeattestor(join_token): server issued unexpected challenge");
}

static const struct nodeattestor_agent_ops token_ops = {.attest = present_token};

cs_code agent_plugins_of(const struct agent *a, const char *type, struct cs_vec *out, struct cs_err *e)
{
    const struct catalog_plugin *p;
    for (size_t n = 0; (p = catalog_nth(a->catalog, type, n)) != NULL; n++)
        if (cs_vec_push(out, (void *)(uintptr_t)p) != CS_OK)
            return cs_nomem(e);
    return CS_OK;
}

static cs_code make_store(struct agent *a, struct cs_err *e)
{
    CS_CLEANUP(cs_vec_free) struct cs_vec plugins = {0};
    CS_TRY(agent_plugins_of(a, PLUGIN_TYPE_SVIDSTORE, &plugins, e));
    CS_CLEANUP(cs_freep) char *state = cs_asprintf("%s/" AGENT_STORE_FILE, a->cfg->data_dir);
    if (state == NULL)
        return cs_nomem(e);
    const struct agent_store_config cfg = {
        .log = cs_log_sub(a->log, "svid_store_service"),
        .cache_log = cs_log_sub(a->log, "svid_store_cache"),
        .clock = a->clock,
        .trust_domain = a->cfg->trust_domain,
        .plugins = (const struct catalog_plugin *const *)(void *)plugins.at,
        .plugin_count = plugins.len,
        .state_path = state,
    };
    return agent_store_new(&cfg, &a->store, e);
}

static bool has_data_file(const struct config_plugins *p)
{
    for (size_t i = 0; i < p->len; i++)
        if (p->at[i].data_file != NULL)
            return true;
    return false;
}

/* From here on the signal reaches the plugins. */
static cs_code load(struct agent *a, struct cs_err *e)
{
    struct catalog *c;
    struct loop_pool *reload = NULL;
    a->plugin_stop = (struct crypto_stop){stop_asked, a};
    const struct catalog_config cfg = catalog_of(a->cfg, a->log, &a->plugin_stop);
    CS_TRY(catalog_load(&cfg, &c, e));
    cs_code rc = CS_OK;
    if (has_data_file(&a->cfg->plugins))
        rc = loop_pool_new("reconfigure", 1, 1, &reload, e);
    pthread_mutex_lock(&a->lock);
    a->catalog = c;
    a->reload = reload;
    pthread_mutex_unlock(&a->lock);
    return rc;
}

cs_code agent_plugins_load(struct agent *a, struct cs_err *e)
{
    CS_TRY(load(a, e));
    const struct catalog_plugin *km = catalog_nth(a->catalog, PLUGIN_TYPE_KEYMANAGER, 0);
    const struct catalog_plugin *na = catalog_nth(a->catalog, PLUGIN_TYPE_NODEATTESTOR, 0);
    if (km == NULL || na == NULL)
        return cs_fail(e, CS_INVALID, "KeyManager and NodeAttestor plugins must be enabled");
    a->km = km->ops;
    a->km_self = km->self;
    a->km_name = km->name;
    a->attestor = (struct agent_attestor){.type = na->name, .ops = na->ops, .self = na->self};
    if (a->cfg->join_token[0] != '\0')
        a->attestor = (struct agent_attestor){
            .type = "join_token",
            .ops = &token_ops,
            .self = (void *)(uintptr_t)a->cfg->join_token,
        };
    return make_store(a, e);
}

/* --- Reconfiguring and the end --- */

static void reconfigure(void *arg)
{
    struct agent *a = arg;
    catalog_reconfigure(a->catalog);
}

void agent_plugins_reconfigure(struct agent *a)
{
    pthread_mutex_lock(&a->lock);
    /* One that waits already will read the files after this moment, too. */
    if (a->reload != NULL && !a->stopping)
        (void)!loop_pool_submit(a->reload, reconfigure, a);
    pthread_mutex_unlock(&a->lock);
}

void agent_plugins_free(struct agent *a)
{
    agent_store_free(a->store);
    if (a->reload != NULL)
        loop_pool_free(a->reload);
    catalog_free(a->catalog);
}
