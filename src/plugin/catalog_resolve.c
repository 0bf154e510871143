/* SPDX-License-Identifier: Apache-2.0
 *
 * What a block of the configuration means: which built-in, linked in or in a module, or which program.
 */
#include "config/plugin_config.h"
#include "plugin/catalog_internal.h"
#include "plugin/module.h"

const struct plugin_kind *catalog_kind(const struct catalog_config *cfg, const char *type)
{
    for (size_t i = 0; i < cfg->kind_count; i++)
        if (strcmp(cfg->kinds[i].type, type) == 0)
            return &cfg->kinds[i];
    return NULL;
}

static const struct plugin_builtin *find_builtin(const struct plugin_kind *kind, const char *name)
{
    for (size_t i = 0; i < kind->builtin_count; i++)
        if (strcmp(kind->builtins[i]->name, name) == 0)
            return kind->builtins[i];
    return NULL;
}

cs_code catalog_resolve_builtin(const char *program, const struct plugin_kind *kind,
                                const struct config_plugin *ce, const struct plugin_builtin **out,
                                struct cs_err *e)
{
    *out = find_builtin(kind, ce->name);
    const char *module = *out == NULL ? plugin_module_name(program, ce->type, ce->name) : NULL;
    if (module != NULL)
        return plugin_module_plugin(module, program, ce->type, ce->name, out, e);
    if (*out == NULL && config_plugin_is_known(program, ce->type, ce->name))
        return cs_fail(e, CS_UNIMPLEMENTED, "the built-in plugin \"%s\" is not supported yet", ce->name);
    if (*out == NULL)
        return cs_fail(e, CS_INVALID, "no built-in plugin \"%s\" for type \"%s\"", ce->name, ce->type);
    return CS_OK;
}

static cs_code start(struct plugin_runner **runner, const struct plugin_kind *kind,
                     const struct config_plugin *ce, const struct plugin_env *env,
                     struct plugin_external **out, struct cs_err *e)
{
    if (kind->bridge == NULL)
        return cs_fail(e, CS_UNIMPLEMENTED, "external plugins of type \"%s\" are not supported yet",
                       kind->type);
    /* the runner outlives the plugin that env's log may name */
    const struct cs_log shared = cs_log_sub((struct cs_log){.sink = env->log.sink}, "catalog");
    if (*runner == NULL)
        CS_TRY(plugin_runner_new(shared, env->clock, runner, e));
    return plugin_external_start(*runner, kind->type, ce, env, out, e);
}

cs_code catalog_start_external(struct plugin_runner **runner, const struct plugin_kind *kind,
                               const struct config_plugin *ce, const struct plugin_env *env,
                               const struct cs_log *log, struct plugin_external **out, struct cs_err *e)
{
    struct plugin_external *x = NULL;
    cs_code rc = start(runner, kind, ce, env, &x, e);
    if (rc != CS_OK) {
        if (log != NULL)
            cs_log_error(log, "Failed to load plugin", KV_ERR(e));
        return cs_wrap(e, "failed to load plugin \"%s\"", ce->name);
    }
    rc = plugin_external_bind(x, kind->bridge->service, e);
    if (rc != CS_OK) {
        if (log != NULL)
            cs_log_error(log, "Failed to bind plugin", KV_ERR(e));
        plugin_external_stop(x);
        return cs_wrap(e, "failed to bind plugin \"%s\"", ce->name);
    }
    *out = x;
    return CS_OK;
}

void catalog_count_fault(const struct catalog_config *cfg, const struct plugin_kind *kind, unsigned count,
                         struct cs_err *e)
{
    e->text[0] = '\0';
    if (count == 0 && cfg->optional_type != NULL && strcmp(kind->type, cfg->optional_type) == 0)
        return;
    if (kind->max > 0 && kind->min == kind->max && count != kind->min)
        (void)cs_fail(e, CS_INVALID, "expected exactly %u but got %u", kind->min, count);
    else if (kind->min > 0 && count < kind->min)
        (void)cs_fail(e, CS_INVALID, "expected at least %u but got %u", kind->min, count);
    else if (kind->max > 0 && count > kind->max)
        (void)cs_fail(e, CS_INVALID, "expected at most %u but got %u", kind->max, count);
}
