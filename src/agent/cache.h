/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's cache: registration entries, their X509-SVIDs, trust bundles, and the streams that wait for
 * changes of them (pkg/agent/manager/cache of SPIRE). Entries are found by selectors; streams with the same
 * selector set form a group, for which an update is made once. At most `max_svids` SVIDs are kept beyond
 * those that streams use; which ones is decided by last use.
 *
 * One thread writes (the manager); any thread looks up and subscribes. One lock, held for no I/O and no
 * cryptography.
 */
#ifndef CS_AGENT_CACHE_H
#define CS_AGENT_CACHE_H

#include "agent/update.h"
#include "base/clock.h"
#include "base/mem.h"

#define AGENT_CACHE_DEFAULT_SVIDS 1000

struct agent_cache;
struct agent_subscription;

struct agent_cache_config {
    struct cs_log log;
    const struct cs_clock *clock;
    const char *trust_domain; /* name; borrowed */
    int64_t max_svids;        /* 0: AGENT_CACHE_DEFAULT_SVIDS */
    const char *selector;     /* the one that all entries are found by, instead of their own; or NULL */
    /* A stream waits for an SVID that is not there. Called with the lock held: only wake somebody. */
    void (*wanted)(void *arg);
    void *arg;
};
CS_CHECKED cs_code agent_cache_new(const struct agent_cache_config *cfg, struct agent_cache **out,
                                   struct cs_err *e);
/* All subscriptions must be gone. NULL is fine. */
void agent_cache_free(struct agent_cache *c);
static inline void agent_cache_drop(struct agent_cache **c)
{
    agent_cache_free(*c);
    *c = NULL;
}

/* --- The manager's side: one thread --- */

/* The entry of an ID; borrowed until the next agent_cache_apply. NULL: none. */
const struct agent_entry *agent_cache_entry(const struct agent_cache *c, const char *id);
size_t agent_cache_entry_count(const struct agent_cache *c);
/* Walks over all entries: start with *it 0. NULL at the end. */
const struct agent_entry *agent_cache_next(const struct agent_cache *c, size_t *it);

struct agent_cache_delta {
    struct agent_entry *const *changed; /* new or of another revision; referenced by the cache */
    size_t changed_count;
    const char *const *removed; /* IDs */
    size_t removed_count;
    const struct spiffe_bundle *const *bundles; /* all that there are now; referenced. NULL: no change */
    size_t bundle_count;
};
/* Streams concerned are told. SVIDs of changed entries are marked stale, those of removed ones are gone.
 * CS_INTERNAL when memory is out: part of the delta may be missing, apply it again. */
CS_CHECKED cs_code agent_cache_apply(struct agent_cache *c, const struct agent_cache_delta *d,
                                     struct cs_err *e);

/* Marks what is expiring or wanted, fills up to max_svids, and lets go of what is too much. Returns how many
 * SVIDs are to be fetched. */
size_t agent_cache_tick(struct agent_cache *c);
/* Wall-clock ns at which agent_cache_tick will find something expiring; INT64_MAX: nothing. */
int64_t agent_cache_next_rotation(struct agent_cache *c);

struct agent_stale {
    const struct agent_entry *entry; /* a reference of the caller's */
    int64_t expires;                 /* of the SVID there is, unix seconds; 0: none */
};
/* The next at most `max` entries to fetch SVIDs for, those that streams wait for first. */
size_t agent_cache_stale(struct agent_cache *c, struct agent_stale *out, size_t max);
struct agent_new_svid {
    const char *entry_id;
    const struct agent_svid *svid; /* referenced by the cache */
};
void agent_cache_put_svids(struct agent_cache *c, const struct agent_new_svid *svids, size_t count);
/* Drops each SVID for which `tainted` says so (called without the lock); streams keep what they have until
 * the next one is there. Returns how many were dropped, and looked at in *seen. */
size_t agent_cache_drop_tainted(struct agent_cache *c,
                                bool (*tainted)(void *arg, const struct agent_svid *svid), void *arg,
                                size_t *seen);

/* --- The workloads' side: any thread --- */

size_t agent_cache_svid_count(struct agent_cache *c);
/* Entries whose selectors are all among those given ("type:value"), in the order of IDs. The caller owns the
 * list (cs_free) and its references. */
CS_CHECKED cs_code agent_cache_match(struct agent_cache *c, const char *const *selectors, size_t count,
                                     const struct agent_entry ***out, size_t *out_count, struct cs_err *e);
/* What a caller with these selectors has now, be it complete or not. */
CS_CHECKED cs_code agent_cache_update_of(struct agent_cache *c, const char *const *selectors, size_t count,
                                         struct agent_update **out, struct cs_err *e);
/* The entry that a caller comes nearest to: the one that shares at least one selector with it and lacks the
 * fewest. For telling why nobody got an identity; looks at all entries. */
struct agent_nearest {
    const struct agent_entry *entry; /* a reference; NULL: none is near */
    bool *missing;                   /* of each of its selectors */
    uint32_t missing_count;
};
void agent_cache_nearest(struct agent_cache *c, const char *const *selectors, size_t count,
                         struct agent_nearest *out);
void agent_nearest_free(struct agent_nearest *n);
/* The bundle of a trust domain name; a reference, NULL: none. */
struct spiffe_bundle *agent_cache_bundle(struct agent_cache *c, const char *trust_domain);

/* From now on `notify` is called when an update is there to be taken. It is called with the cache's lock
 * held: only wake somebody. false: nobody could be woken, the update is not kept and the next one comes with
 * another call. It is called once per update that was taken, and never again after agent_subscription_free.
 * *waiting: no update yet, because an SVID has to be fetched first. */
CS_CHECKED cs_code agent_cache_subscribe(struct agent_cache *c, const char *const *selectors, size_t count,
                                         bool (*notify)(void *arg), void *arg,
                                         struct agent_subscription **out, bool *waiting, struct cs_err *e);
/* The newest update, a reference; NULL: nothing new. */
struct agent_update *agent_subscription_take(struct agent_subscription *s);
/* The selectors it was made with, each once, in the order of their texts; copies in the arena. */
CS_CHECKED cs_code agent_subscription_selectors(const struct agent_subscription *s, struct cs_arena *arena,
                                                const char ***out, size_t *count, struct cs_err *e);
void agent_subscription_free(struct agent_subscription *s); /* NULL is fine */

#endif
