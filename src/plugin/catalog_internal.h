/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the catalog: a plugin that is loaded, built-in or external.
 */
#ifndef CS_PLUGIN_CATALOG_INTERNAL_H
#define CS_PLUGIN_CATALOG_INTERNAL_H

#include "base/coll.h"
#include "plugin/catalog.h"
#include "plugin/external.h"

/* Largest plugin_data_file read. */
#define CATALOG_DATA_FILE_MAX ((size_t)4 * 1024 * 1024)

struct catalog_loaded {
    struct catalog_plugin plugin;
    const struct plugin_builtin *builtin; /* one of these two */
    struct plugin_external *external;
    const struct plugin_bridge *bridge; /* of the external one */
    struct plugin_env env;              /* what the plugin borrows */
    char *name;
    char *data_file; /* NULL: fixed configuration */
    char hash[33];
};

struct catalog {
    struct cs_vec plugins;        /* struct catalog_loaded * */
    struct plugin_runner *runner; /* NULL: no external plugins */
};

/* catalog_resolve.c */
const struct plugin_kind *catalog_kind(const struct catalog_config *cfg,
                                       const char *type); /* NULL: unknown */
static inline bool catalog_is_external(const struct config_plugin *ce)
{
    return ce->cmd[0] != '\0';
}
CS_CHECKED cs_code catalog_resolve_builtin(const char *program, const struct plugin_kind *kind,
                                           const struct config_plugin *ce, const struct plugin_builtin **out,
                                           struct cs_err *e);
/* Starts an external plugin, and holds it to its kind's service. *runner is made for the first one. `env` is
 * borrowed by the plugin. `failed to load plugin "NAME": ...`, `failed to bind plugin "NAME": ...`; `log`
 * (may be NULL) is told too. */
CS_CHECKED cs_code catalog_start_external(struct plugin_runner **runner, const struct plugin_kind *kind,
                                          const struct config_plugin *ce, const struct plugin_env *env,
                                          const struct cs_log *log, struct plugin_external **out,
                                          struct cs_err *e);
/* What is wrong with a number of plugins, as SPIRE words it; e->text is "" when nothing is. */
void catalog_count_fault(const struct catalog_config *cfg, const struct plugin_kind *kind, unsigned count,
                         struct cs_err *e);

/* catalog_configure.c */
/* The first configuration of a plugin. */
CS_CHECKED cs_code catalog_configure(struct catalog_loaded *l, const struct config_plugin *ce,
                                     struct cs_err *e);
/* `rpc error: code = NAME desc = TEXT`: SPIRE's plugins answer over gRPC, and its users know the text that
 * makes of an error. Returns rc. */
cs_code catalog_as_status(cs_code rc, struct cs_err *e);

#endif
