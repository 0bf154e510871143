/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog: the plugins a program loaded, found by kind and name. Loading follows SPIRE's order
 * and messages (pkg/common/catalog): create, configure, count.
 */
#ifndef CS_PLUGIN_CATALOG_H
#define CS_PLUGIN_CATALOG_H

#include "config/config.h"
#include "plugin/plugin.h"

struct catalog;

struct catalog_config {
    const char *program; /* "server" or "agent" */
    const struct plugin_kind *kinds;
    size_t kind_count;
    const struct config_plugins *plugins; /* in the order of the file; borrowed for the time of the call */
    const char *skip_type;                /* not the catalog's business ("DataStore"); NULL: none */
    const char *optional_type;            /* none of this kind are needed; NULL: as the kinds say */
    struct plugin_env env;                /* log: the plugin's own fields are added here */
};

/* Creates and configures all enabled plugins. Errors (CS_INVALID) as SPIRE's:
 * `unsupported plugin type "X"`, `failed to load plugin "x": no built-in plugin "x" for type "X"`,
 * `failed to configure plugin "x": ...`,
 * `plugin type "X" constraint not satisfied: expected exactly 1 but got 0`. Built-ins of SPIRE
 * that are not built yet are refused (CS_UNIMPLEMENTED). For external plugins see plugin_external_start and
 * plugin_external_configure; CS_CANCELLED when env.stop asked for the end while one was waited for. */
CS_CHECKED cs_code catalog_load(const struct catalog_config *cfg, struct catalog **out, struct cs_err *e);
/* The program is ending (plugin_runner_stop): calls of external plugins under way end with CS_CANCELLED, as
 * do later ones, so that no thread hangs in one while the program waits for it. Any thread, does not block.
 */
void catalog_stop(struct catalog *c);
/* Destroys the plugins, newest first, with SPIRE's log lines. NULL is fine. */
void catalog_free(struct catalog *c);

/* Checks without loading; external plugins are started for it and ended again. For each fault a note `TYPE
 * "name"` -> text is handed to `note`. Errors: those that stop the check (unknown type or built-in). */
CS_CHECKED cs_code catalog_validate(const struct catalog_config *cfg,
                                    void (*note)(void *arg, const char *plugin, const char *text), void *arg,
                                    struct cs_err *e);

/* A loaded plugin: call through ops with self. Lives as long as the catalog. Any thread. */
struct catalog_plugin {
    const char *type, *name;
    const void *ops;
    void *self;
};
/* NULL: not loaded. */
const struct catalog_plugin *catalog_find(const struct catalog *c, const char *type, const char *name);
/* The n-th of a kind, in the order of the configuration; NULL past the end. */
const struct catalog_plugin *catalog_nth(const struct catalog *c, const char *type, size_t n);

/* Reads each plugin_data_file again and configures the plugins whose text changed (SIGUSR1). One
 * thread at a time. Failures are logged, the older configuration stays in force. */
void catalog_reconfigure(struct catalog *c);

static inline void catalog_drop(struct catalog **c)
{
    catalog_free(*c);
    *c = NULL;
}

#endif
