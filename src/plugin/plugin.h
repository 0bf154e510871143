/* SPDX-License-Identifier: Apache-2.0
 *
 * What all plugins have in common: how they are made, configured and listed. One const operations
 * table per kind (keymanager.h, upstreamauthority.h, nodeattestor_server.h, ...); a built-in is
 * called straight through it.
 */
#ifndef CS_PLUGIN_PLUGIN_H
#define CS_PLUGIN_PLUGIN_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

struct crypto_stop; /* crypto/key.h */

/* What a plugin is given for its lifetime; borrowed, outlives the plugin. */
struct plugin_env {
    struct cs_log log; /* with the fields plugin_name, plugin_type, external */
    const struct cs_clock *clock;
    const char *trust_domain;       /* name, without spiffe:// */
    const char *data_dir;           /* of the program; for defaults only */
    const struct crypto_stop *stop; /* to be looked at in long computations; may be NULL */
};

/* Notes of a configuration check, one text each; `validate` shows them all. */
struct plugin_notes {
    char **texts; /* owned */
    size_t count;
};
CS_CHECKED cs_code plugin_notes_add(struct plugin_notes *n, const char *text);
void plugin_notes_free(struct plugin_notes *n);

/* One built-in plugin. `self` is what create made; its type is the plugin's secret. */
struct plugin_builtin {
    const char *name; /* "disk" */
    const void *ops;  /* const struct keymanager_ops * and so on, by the kind's type */
    CS_CHECKED cs_code (*create)(const struct plugin_env *env, void **self, struct cs_err *e);
    void (*destroy)(void *self);
    /* `data` is the text of plugin_data (HCL or JSON, "" when there is none). Called once after
     * create, and again when a plugin_data_file changed. Failing leaves an older configuration in
     * force. NULL: the plugin takes no configuration. */
    CS_CHECKED cs_code (*configure)(void *self, struct cs_slice data, struct cs_err *e);
    /* Checks without effects (files are not opened): adds a note for each fault. NULL: no faults. */
    CS_CHECKED cs_code (*validate)(const struct plugin_env *env, struct cs_slice data,
                                   struct plugin_notes *notes, struct cs_err *e);
};

/* A kind of plugin, with how many of it a program wants. max 0: no upper bound. */
struct plugin_kind {
    const char *type; /* "KeyManager" */
    unsigned min, max;
    const struct plugin_builtin *const *builtins;
    size_t builtin_count;
};

/* The kinds of each program, one array of built-ins per kind (plugin/builtins_server.c,
 * plugin/builtins_agent.c). */
extern const struct plugin_kind plugin_server_kinds[];
extern const size_t plugin_server_kind_count;
extern const struct plugin_kind plugin_agent_kinds[];
extern const size_t plugin_agent_kind_count;

#define PLUGIN_TYPE_KEYMANAGER "KeyManager"
#define PLUGIN_TYPE_NODEATTESTOR "NodeAttestor"
#define PLUGIN_TYPE_UPSTREAMAUTHORITY "UpstreamAuthority"
#define PLUGIN_TYPE_NOTIFIER "Notifier"
#define PLUGIN_TYPE_BUNDLEPUBLISHER "BundlePublisher"
#define PLUGIN_TYPE_CREDENTIALCOMPOSER "CredentialComposer"
#define PLUGIN_TYPE_WORKLOADATTESTOR "WorkloadAttestor"
#define PLUGIN_TYPE_SVIDSTORE "SVIDStore"

#endif
