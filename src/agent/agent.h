/* SPDX-License-Identifier: Apache-2.0
 *
 * The running agent: what its parts share. Made by agent_run. Unless said otherwise a field is set before
 * the threads start and does not change, or belongs to the manager's thread.
 */
#ifndef CS_AGENT_AGENT_H
#define CS_AGENT_AGENT_H

#include "agent/bootstrap.h"
#include "agent/cache.h"
#include "agent/command.h"
#include "agent/jwtcache.h"
#include "agent/link.h"
#include "agent/serverapi.h"
#include "agent/storage.h"
#include "agent/store.h"
#include "config/agent_config.h"
#include "plugin/catalog.h"
#include "plugin/keymanager.h"

#include <pthread.h>
#include <stdatomic.h>

/* The agent's own SVID. */
struct agent_self {
    struct x509_chain svid;
    struct crypto_signer *key;
    char key_id[16]; /* in the KeyManager */
    bool reattestable;
    bool tainted;      /* under a tainted root: rotate at once */
    int64_t rotate_at; /* wall ns */
};

struct agent {
    const struct agent_config *cfg;
    struct cs_log_sink *sink;
    struct cs_log log, mlog; /* plain, and the manager's */
    const struct cs_clock *clock;
    struct loop *loop;              /* the main thread's: signals, server connection, health */
    char *server;                   /* "host:port" */
    struct crypto_stop plugin_stop; /* true once the agent is stopping: ends calls of external plugins */
    struct loop_pool *reload;       /* reads plugin_data_files again; NULL: there are none */
    struct catalog *catalog;        /* written under `lock` */
    const struct keymanager_ops *km;
    void *km_self;
    const char *km_name;
    struct agent_attestor attestor;
    struct agent_storage *storage;
    struct agent_bootstrap bootstrap;
    enum agent_config_rebootstrap rebootstrap_mode;

    struct agent_self self;
    struct agent_sync_state sync;
    struct spiffe_bundle *bundle; /* of the own trust domain, as last synced */
    struct cs_map *raw_bundles;   /* trust domain -> struct cs_buf: as the server sent them */
    struct agent_cache *cache;    /* any thread */
    struct agent_store *store;
    struct agent_jwt_cache *jwts;   /* any thread */
    struct agent_link *link;        /* any thread */
    struct agent_link *attest_link; /* under `lock`, while an attestation runs */

    pthread_mutex_t lock; /* over the next five */
    pthread_cond_t wake;
    bool stopping, wanted;
    struct agent_command command;

    struct agent_enclave *enclave; /* NULL: an ordinary agent */
    struct endpoints *endpoints;
    atomic_bool started; /* the Workload API answers */
    struct cs_err fatal; /* why the manager ended; text "" when it was told to */
    cs_code fatal_code;
};

/* Waits until the monotonic time, or less when something happens; false: the agent is stopping. *wanted (may
 * be NULL) says that a stream waits for an SVID. Manager's thread. */
bool agent_wait(struct agent *a, int64_t until_ns, bool *wanted);
bool agent_stopping(struct agent *a);

static inline const char *agent_server_proxy(const struct agent_config *cfg)
{
    return cfg->enclave.on && cfg->enclave.server_proxy[0] != '\0' ? cfg->enclave.server_proxy : NULL;
}

/* --- plugins.c --- */
/* Loads all plugins, and makes what brings SVIDs to stores. Manager's thread, since a plugin may take its
 * time over its configuration. */
CS_CHECKED cs_code agent_plugins_load(struct agent *a, struct cs_err *e);
/* Has the plugins look at their plugin_data_file again, in a thread of its own. Any thread; does not block.
 */
void agent_plugins_reconfigure(struct agent *a);
/* Waits for calls of plugins under way, which end because the agent is stopping. */
void agent_plugins_free(struct agent *a);
/* The plugins of a kind, const struct catalog_plugin *, in the order of the configuration. */
CS_CHECKED cs_code agent_plugins_of(const struct agent *a, const char *type, struct cs_vec *out,
                                    struct cs_err *e);

/* --- attest.c --- */
/* The SVID from storage, or a new one by node attestation; then a->self and a->bundle are set. */
CS_CHECKED cs_code agent_attest(struct agent *a, const struct x509_chain *bootstrap_bundle, bool insecure,
                                struct agent_failure *failure, struct cs_err *e);
/* Attests again over TLS without client certificate; the new SVID is stored and used. */
CS_CHECKED cs_code agent_reattest(struct agent *a, struct agent_failure *failure, struct cs_err *e);
/* A new key in the other slot and its SVID by RenewAgent; stored and used. */
CS_CHECKED cs_code agent_renew(struct agent *a, struct agent_failure *failure, struct cs_err *e);

/* --- manager.c --- */
/* First sync, with retries; then a->cache is filled. */
CS_CHECKED cs_code agent_manager_init(struct agent *a, struct cs_err *e);
/* Until the agent is told to stop (CS_OK) or something fatal. */
CS_CHECKED cs_code agent_manager_run(struct agent *a, struct cs_err *e);

/* --- refresh.c --- */
/* Entries, bundles and SVIDs from the server. */
CS_CHECKED cs_code agent_refresh(struct agent *a, struct agent_failure *failure, struct cs_err *e);
/* How many SVIDs are to be fetched, for workloads and for stores. */
size_t agent_stale_svids(struct agent *a);
/* One batch of SVIDs for either. */
CS_CHECKED cs_code agent_fetch_svids(struct agent *a, unsigned batch, struct agent_failure *failure,
                                     struct cs_err *e);

/* --- endpoints.c --- */
CS_CHECKED cs_code agent_endpoints_start(struct agent *a, struct endpoints **out, struct cs_err *e);
void agent_endpoints_stop(struct endpoints *ep); /* NULL is fine */

#endif
