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

struct spiffe_bundle; /* spiffe/bundle.h */

/* An X.509 identity handed to a plugin; release with plugin_identity_free, which wipes the key. */
struct plugin_identity {
    struct cs_buf *chain; /* DER each, leaf first */
    size_t chain_count;
    struct cs_buf key; /* PKCS #8 DER, secret */
    struct spiffe_bundle *bundle;
};
void plugin_identity_free(struct plugin_identity *i);

/* One metric as the Metrics host service takes it. All borrowed. */
enum plugin_metric_kind {
    PLUGIN_METRIC_GAUGE,
    PLUGIN_METRIC_KEY,
    PLUGIN_METRIC_COUNTER,
    PLUGIN_METRIC_SAMPLE,
    PLUGIN_METRIC_SINCE, /* value: start time, unix nanoseconds */
};
struct plugin_metric {
    enum plugin_metric_kind kind;
    const char *const *key;
    size_t key_count;
    const char *const *labels; /* name, value, name, value, ... */
    size_t label_count;        /* pairs */
    double value;
};

/* What the program offers to its plugins (spire.hostservice.* of SPIRE's plugin SDK); the catalog's owner
 * implements it, external plugins reach it through their broker. A NULL member is a service that this
 * program does not offer. Any thread, blocking. Borrowed, outlives the plugins. */
struct plugin_host {
    void *arg;
    /* IdentityProvider (server): the server's X509-SVID: chain leaf first and PKCS #8 key, DER each, and a
     * new reference to the trust domain's bundle. Called by external plugins from their configuration
     * on: before there is an identity CS_PRECONDITION `IdentityProvider host service has not been
     * initialized`, as SPIRE's. */
    CS_CHECKED cs_code (*identity)(void *arg, struct plugin_identity *out, struct cs_err *e);
    /* AgentStore (server): CS_OK when the agent is known, CS_NOT_FOUND `no such agent` when not,
     * CS_PRECONDITION `AgentStore host service has not been initialized` before the server is built. */
    CS_CHECKED cs_code (*agent_info)(void *arg, const char *agent_id, struct cs_err *e);
    /* Metrics (both): one call of a plugin, of any kind of theirs. NULL: they are dropped. */
    void (*metric)(void *arg, const char *plugin_type, const char *plugin_name,
                   const struct plugin_metric *m);
};

/* What a plugin is given for its lifetime; borrowed, outlives the plugin. */
struct plugin_env {
    struct cs_log log; /* with the fields plugin_name, plugin_type, external */
    const struct cs_clock *clock;
    const char *trust_domain;       /* name, without spiffe:// */
    const char *data_dir;           /* of the program; for defaults only */
    const struct crypto_stop *stop; /* to be looked at in long computations; may be NULL */
    const struct plugin_host *host; /* NULL: no services */
};

/* Notes of a configuration check, one text each; `validate` shows them all. */
struct plugin_notes {
    char **texts; /* owned */
    size_t count;
};
CS_CHECKED cs_code plugin_notes_add(struct plugin_notes *n, const char *text);
/* For validate: what reading the configuration returned, rc and *fault, as a note unless it is CS_OK. Fails
 * only when memory is out. */
CS_CHECKED cs_code plugin_notes_fault(struct plugin_notes *n, cs_code rc, const struct cs_err *fault,
                                      struct cs_err *e);
void plugin_notes_free(struct plugin_notes *n);

/* What a plugin answered, for its caller: `keymanager(NAME): ` is put in front of the text in *e unless it
 * is there already (SPIRE's pkg/common/plugin/facade.go). Returns rc; does nothing for CS_OK. */
CS_CHECKED cs_code plugin_answer(const char *type, const char *name, cs_code rc, struct cs_err *e);

/* One built-in plugin. `self` is what create made; its type is the plugin's secret. */
struct plugin_builtin {
    const char *name; /* "disk" */
    const void *ops;  /* const struct keymanager_ops * and so on, by the kind's type */
    CS_CHECKED cs_code (*create)(const struct plugin_env *env, void **self, struct cs_err *e);
    void (*destroy)(void *self);
    /* `data` is the text of plugin_data (HCL or JSON, "" when there is none). Called once after
     * create, and again when a plugin_data_file changed, while operations are called. Failing leaves an older
     * configuration in force. NULL: the plugin takes no configuration. */
    CS_CHECKED cs_code (*configure)(void *self, struct cs_slice data, struct cs_err *e);
    /* Checks without effects (files are not opened): adds a note for each fault. NULL: no faults. */
    CS_CHECKED cs_code (*validate)(const struct plugin_env *env, struct cs_slice data,
                                   struct plugin_notes *notes, struct cs_err *e);
};

struct plugin_external; /* plugin/external.h */

/* How an external plugin is called: the same operations table, implemented over gRPC. One per version
 * of a kind's service, best first. */
struct plugin_bridge {
    const char *service; /* "spire.plugin.server.keymanager.v1.KeyManager" */
    const void *ops;
    /* Makes self for ops. `x` and env are borrowed and outlive it. */
    CS_CHECKED cs_code (*create)(struct plugin_external *x, const struct plugin_env *env, void **self,
                                 struct cs_err *e);
    void (*destroy)(void *self);
};

/* A kind of plugin, with how many of it a program wants. max 0: no upper bound. */
struct plugin_kind {
    const char *type; /* "KeyManager" */
    unsigned min, max;
    const struct plugin_builtin *const *builtins;
    size_t builtin_count;
    const struct plugin_bridge *bridge;
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
