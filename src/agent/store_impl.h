/* SPDX-License-Identifier: Apache-2.0
 *
 * The SVIDStore service from inside: store.c is the manager's side, store_work.c the plugins' threads,
 * store_state.c what is kept over restarts.
 *   [manager] the manager's thread only
 *   [lock]    under agent_store.lock; what only the manager changes it may read without
 *   [const]   set before anybody else sees it
 */
#ifndef CS_AGENT_STORE_IMPL_H
#define CS_AGENT_STORE_IMPL_H

#include "agent/backoff.h"
#include "agent/index.h"
#include "agent/store.h"
#include "base/coll.h"
#include "plugin/svidstore.h"

#include <pthread.h>

#define STORE_RETRY_NS (INT64_C(5) * CS_NS_PER_S)
#define STORE_HELD INT64_MAX /* waits for an SVID, or for agent_store_settle */
#define STORE_CALLS_MAX 8U   /* at a time, of one plugin: so many SVIDs are in memory twice */

/* An entry that a plugin takes. All but the flags of the manager [lock]. */
struct store_record {
    const struct agent_entry *entry;
    struct agent_svid *svid;   /* NULL: none yet, or a tainted one */
    struct store_place *place; /* of the entry */
    uint64_t where;            /* store_where of the entry */
    int64_t revision;          /* for the log */
    uint64_t wanted;           /* which of agent_store.changes concerned it last */
    int64_t due;               /* monotonic ns, or STORE_HELD */
    struct agent_backoff retry;
    struct store_record *next, *prev; /* of place->pending */
    bool pending;
    bool tried; /* something of it is in the store, or may be */
    bool stale; /* [manager] an SVID is to be fetched */
};

/* What is to be deleted. [lock] */
struct store_gone {
    const struct agent_entry *entry;
    uint64_t where;
    int64_t revision;
    int64_t due;
    struct agent_backoff retry;
    struct store_gone *next, *prev;
    bool removed; /* the entry is gone, not only elsewhere */
    bool busy;    /* a call is under way */
};

/* A call under way: of this entry, for this place. */
struct store_call {
    const char *entry_id; /* of an entry that the caller holds */
    uint64_t where;
    bool removes;
};

/* One plugin, and its threads: the first is started with the first entry, the others when there is more to do
 * than those there are take on. */
struct store_place {
    struct agent_store *store;           /* [const] */
    const struct catalog_plugin *plugin; /* [const] */
    unsigned calls_max;                  /* [const] at a time, and so many threads at most */
    pthread_cond_t wake;
    pthread_t threads[STORE_CALLS_MAX];       /* [lock] */
    unsigned thread_count;                    /* [lock] */
    unsigned idle;                            /* [lock] threads that wait for something to do */
    struct store_call calls[STORE_CALLS_MAX]; /* [lock] */
    unsigned call_count;                      /* [lock] */
    struct {
        struct store_record *first, *last;
    } pending; /* [lock] */
    struct {
        struct store_gone *first, *last;
        size_t count;
    } gone; /* [lock] */
};

struct agent_store {
    struct agent_store_config cfg; /* [const] */
    pthread_mutex_t lock;
    bool stopping;              /* [lock] */
    uint64_t changes;           /* [lock] */
    struct agent_index records; /* [lock] entry ID -> struct store_record */
    struct cs_map *bundles;     /* [lock] trust domain name -> struct spiffe_bundle */
    struct store_place *places; /* [const] */
    size_t place_count;         /* [const] */
    size_t stale;               /* [manager] */
    int64_t next_rotation;      /* [manager] wall ns */
    bool torn;                  /* [manager] a change was not taken over whole */
    char *state_path;           /* [const] NULL: nothing is kept over restarts */
    bool changed_places;        /* [lock] the file is out of date */
    struct cs_vec remembered;   /* [lock] struct agent_entry: of the agent before, not looked at yet, or
                                 * of plugins that are not there any more */
    bool remembered_settled;    /* [manager] */
    struct cs_log_limit failures, refusals;
};

/* Lines about stores that fail, or entries that no store takes, per second. */
#define STORE_LINES_PER_SECOND 50

/* store_work.c: all under the lock */
/* To be put from `due` on; one that waits already keeps its place in the line. */
void store_enqueue(struct store_record *r, int64_t due);
void store_dequeue(struct store_record *r);
/* What the entry's store holds is to be deleted; takes over `g`, which the caller made. */
void store_bury(struct store_place *p, struct store_gone *g);
void store_gone_free(struct store_gone *g);
/* Names the type and the values of the entry's selectors, in any order. */
uint64_t store_where(const struct agent_entry *en);
/* Buries what an agent before us put for the entry. CS_NOT_FOUND: there is no such plugin. */
CS_CHECKED cs_code store_bury_entry(struct agent_store *s, const struct agent_entry *en, uint64_t where,
                                    bool removed);
/* Something may be due earlier than before, or for one more thread. */
void store_work_wake(struct store_place *p);
/* Sees to it that the plugin has a thread. */
CS_CHECKED cs_code store_work_start(struct store_place *p, struct cs_err *e);

/* store_state.c. Reads the file if there is one; what cannot be read is logged. */
CS_CHECKED cs_code store_state_load(struct agent_store *s, const char *path, struct cs_err *e);
/* Lock held, after a delta was applied: what the agent before put, and nobody wants any more, is to be
 * deleted. CS_INTERNAL: memory is out, call it again. */
CS_CHECKED cs_code store_state_settle(struct agent_store *s);
/* Writes the file when it is out of date. [manager], not locked. */
void store_state_save(struct agent_store *s);
void store_state_free(struct agent_store *s);
/* Entries of the file's text, appended to out; for tests and fuzzing, too. CS_INVALID. */
CS_CHECKED cs_code store_state_parse(struct cs_slice json, struct cs_vec *out, struct cs_err *e);

#endif
