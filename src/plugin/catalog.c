/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "plugin/catalog_internal.h"

/* --- Looking up --- */

const struct catalog_plugin *catalog_find(const struct catalog *c, const char *type, const char *name)
{
    for (size_t i = 0; i < c->plugins.len; i++) {
        const struct catalog_loaded *l = c->plugins.at[i];
        if (strcmp(l->plugin.type, type) == 0 && strcmp(l->plugin.name, name) == 0)
            return &l->plugin;
    }
    return NULL;
}

const struct catalog_plugin *catalog_nth(const struct catalog *c, const char *type, size_t n)
{
    for (size_t i = 0; i < c->plugins.len; i++) {
        const struct catalog_loaded *l = c->plugins.at[i];
        if (strcmp(l->plugin.type, type) == 0 && n-- == 0)
            return &l->plugin;
    }
    return NULL;
}

/* --- Loading --- */

static unsigned count_enabled(const struct catalog_config *cfg, const char *type)
{
    unsigned n = 0;
    for (size_t i = 0; i < cfg->plugins->len; i++)
        if (!cfg->plugins->at[i].disabled && strcmp(cfg->plugins->at[i].type, type) == 0)
            n++;
    return n;
}

static struct cs_log plugin_log(struct cs_log parent, const char *name, const char *type, bool external)
{
    struct cs_log l = cs_log_with(parent, KV_BOOL("external", external));
    l = cs_log_with(l, KV("plugin_name", name));
    return cs_log_with(l, KV("plugin_type", type));
}

static void unload(struct catalog_loaded *l)
{
    void (*destroy)(void *self) = l->external != NULL  ? l->bridge->destroy
                                  : l->builtin != NULL ? l->builtin->destroy
                                                       : NULL;
    if (destroy != NULL && l->plugin.self != NULL)
        destroy(l->plugin.self);
    l->plugin.self = NULL;
    plugin_external_stop(l->external);
    l->external = NULL;
}

static void loaded_free(struct catalog_loaded *l)
{
    unload(l);
    cs_free(l->name);
    cs_free(l->data_file);
    cs_free(l);
}

static cs_code create_builtin(struct catalog_loaded *l, const struct catalog_config *cfg,
                              const struct plugin_kind *kind, const struct config_plugin *ce,
                              struct cs_err *e)
{
    cs_code rc = catalog_resolve_builtin(cfg->program, kind, ce, &l->builtin, e);
    if (rc == CS_OK) {
        l->plugin.ops = l->builtin->ops;
        rc = l->builtin->create(&l->env, &l->plugin.self, e);
    }
    if (rc == CS_OK)
        return CS_OK;
    cs_log_error(&l->env.log, "Failed to load plugin", KV_ERR(e));
    return cs_wrap(e, "failed to load plugin \"%s\"", ce->name);
}

static cs_code create_external(struct catalog *c, struct catalog_loaded *l, const struct plugin_kind *kind,
                               const struct config_plugin *ce, struct cs_err *e)
{
    CS_TRY(catalog_start_external(&c->runner, kind, ce, &l->env, &l->env.log, &l->external, e));
    l->bridge = kind->bridge;
    l->plugin.ops = l->bridge->ops;
    if (l->bridge->create(l->external, &l->env, &l->plugin.self, e) == CS_OK)
        return CS_OK;
    cs_log_error(&l->env.log, "Failed to bind plugin", KV_ERR(e));
    return cs_wrap(e, "failed to bind plugin \"%s\"", ce->name);
}

static cs_code fill(struct catalog *c, struct catalog_loaded *l, const struct catalog_config *cfg,
                    const struct plugin_kind *kind, const struct config_plugin *ce, struct cs_err *e)
{
    l->name = cs_strdup(ce->name);
    if (l->name == NULL)
        return cs_nomem(e);
    if (ce->data_file != NULL && (l->data_file = cs_strdup(ce->data_file)) == NULL)
        return cs_nomem(e);
    l->env = cfg->env;
    l->env.log = plugin_log(cfg->env.log, l->name, kind->type, catalog_is_external(ce));
    l->plugin = (struct catalog_plugin){.type = kind->type, .name = l->name};
    if (catalog_is_external(ce))
        CS_TRY(create_external(c, l, kind, ce, e));
    else
        CS_TRY(create_builtin(l, cfg, kind, ce, e));
    cs_code rc = catalog_configure(l, ce, e);
    if (rc != CS_OK) {
        cs_log_error(&l->env.log, "Failed to configure plugin", KV_ERR(e));
        return cs_wrap(e, "failed to configure plugin \"%s\"", ce->name);
    }
    cs_log_info(&l->env.log, "Plugin loaded");
    return CS_OK;
}

static cs_code load_one(struct catalog *c, const struct catalog_config *cfg, const struct config_plugin *ce,
                        struct cs_err *e)
{
    if (cfg->skip_type != NULL && strcmp(ce->type, cfg->skip_type) == 0)
        return CS_OK;
    const struct plugin_kind *kind = catalog_kind(cfg, ce->type);
    struct cs_log log = plugin_log(cfg->env.log, ce->name, ce->type, catalog_is_external(ce));
    if (kind == NULL) {
        cs_log_error(&log, "Unsupported plugin type");
        return cs_fail(e, CS_INVALID, "unsupported plugin type \"%s\"", ce->type);
    }
    if (ce->disabled) {
        cs_log_debug(&log, "Not loading plugin; disabled");
        return CS_OK;
    }
    struct catalog_loaded *l = cs_calloc(1, sizeof *l);
    if (l == NULL)
        return cs_nomem(e);
    cs_code rc = fill(c, l, cfg, kind, ce, e);
    if (rc == CS_OK && cs_vec_push(&c->plugins, l) != CS_OK)
        rc = cs_nomem(e);
    if (rc != CS_OK)
        loaded_free(l);
    return rc;
}

cs_code catalog_load(const struct catalog_config *cfg, struct catalog **out, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = NULL;
    CS_AUTO(catalog) c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < cfg->plugins->len; i++)
        CS_TRY(load_one(c, cfg, &cfg->plugins->at[i], e));
    for (size_t i = 0; i < cfg->kind_count; i++) {
        struct cs_err fault;
        catalog_count_fault(cfg, &cfg->kinds[i], count_enabled(cfg, cfg->kinds[i].type), &fault);
        if (fault.text[0] != '\0')
            return cs_fail(e, CS_INVALID, "plugin type \"%s\" constraint not satisfied: %s",
                           cfg->kinds[i].type, fault.text);
    }
    *out = CS_MOVE(c);
    return CS_OK;
}

void catalog_stop(struct catalog *c)
{
    if (c->runner != NULL)
        plugin_runner_stop(c->runner);
}

void catalog_free(struct catalog *c)
{
    if (c == NULL)
        return;
    for (size_t i = c->plugins.len; i-- > 0;) {
        struct catalog_loaded *l = c->plugins.at[i];
        cs_log_debug(&l->env.log, "Unloading plugin");
        unload(l);
        cs_log_info(&l->env.log, "Plugin unloaded");
        loaded_free(l);
    }
    cs_vec_free(&c->plugins);
    plugin_runner_free(c->runner);
    cs_free(c);
}
