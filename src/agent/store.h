/* SPDX-License-Identifier: Apache-2.0
 *
 * The SVIDStore service: the X509-SVIDs of entries with store_svid, brought to the plugin whose name is the
 * type of the entry's selectors (pkg/agent/manager/storecache and pkg/agent/svid/store of SPIRE). An SVID
 * is put when it is new, and again when its entry or one of its bundles changes; where an entry's SVID was
 * put is deleted when the entry goes or is to be put elsewhere, also when it went while no agent ran. What
 * fails is tried again until it succeeds.
 *
 * One thread (the manager's) says what there is to be stored. Each plugin has a thread of its own, started
 * with its first entry, which makes one call at a time: a store that is slow or hangs holds up its own
 * entries only. Memory is bounded by the entries that the server grants, and by AGENT_STORE_GONE_MAX.
 */
#ifndef CS_AGENT_STORE_H
#define CS_AGENT_STORE_H

#include "agent/cache.h"
#include "plugin/catalog.h"

/* Deletions that a store may be behind. Past it the oldest is given up, which is logged. */
#define AGENT_STORE_GONE_MAX 10000

/* In the data folder. */
#define AGENT_STORE_FILE "agent-stores.json"

struct agent_store;
struct agent_store_config {
    struct cs_log log, cache_log; /* of the service, and of what it keeps, as SPIRE separates them */
    const struct cs_clock *clock; /* monotonic time must be CLOCK_MONOTONIC's */
    const char *trust_domain;     /* name; borrowed */
    const struct catalog_plugin *const *plugins; /* SVIDStores; borrowed, the array for the call only */
    size_t plugin_count;
    const char *state_path; /* file for what is to be known after a restart; NULL: none; copied */
    int64_t retry_ns;       /* first wait after a failure, later ones are longer; 0: 5 s */
};
CS_CHECKED cs_code agent_store_new(const struct agent_store_config *cfg, struct agent_store **out,
                                   struct cs_err *e);
/* No further calls of plugins. Any thread; those under way must be ended by whoever owns the plugins. */
void agent_store_stop(struct agent_store *s);
/* Stops, and waits for calls under way. NULL is fine. */
void agent_store_free(struct agent_store *s);
static inline void agent_store_drop(struct agent_store **s)
{
    agent_store_free(*s);
    *s = NULL;
}

/* --- The manager's thread --- */

/* Takes what concerns entries with store_svid. CS_INTERNAL when memory is out: apply it again. */
CS_CHECKED cs_code agent_store_apply(struct agent_store *s, const struct agent_cache_delta *d,
                                     struct cs_err *e);
/* Marks SVIDs that are expiring; returns how many are to be fetched. */
size_t agent_store_tick(struct agent_store *s);
/* Wall-clock ns at which agent_store_tick will find something expiring; INT64_MAX: nothing. */
int64_t agent_store_next_rotation(const struct agent_store *s);
/* The next at most `max` entries to fetch SVIDs for. */
size_t agent_store_stale(struct agent_store *s, struct agent_stale *out, size_t max);
void agent_store_put_svids(struct agent_store *s, const struct agent_new_svid *svids, size_t count);
/* Drops each SVID for which `tainted` says so; what was put stays until the next one is there. Returns how
 * many were dropped. */
size_t agent_store_drop_tainted(struct agent_store *s,
                                bool (*tainted)(void *arg, const struct agent_svid *svid), void *arg);
/* Entries that a plugin takes. */
size_t agent_store_count(const struct agent_store *s);
/* A round of the manager is over: entries that waited for a new SVID are put with the one there is. */
void agent_store_settle(struct agent_store *s);

#endif
