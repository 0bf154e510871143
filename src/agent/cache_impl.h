/* SPDX-License-Identifier: Apache-2.0
 *
 * The cache from inside: shared by cache.c (entries, SVIDs) and cache_group.c (matching, streams). All under
 * the cache's lock.
 */
#ifndef CS_AGENT_CACHE_IMPL_H
#define CS_AGENT_CACHE_IMPL_H

#include "agent/cache.h"
#include "agent/selector.h"

#include <pthread.h>

struct agent_record {
    struct agent_entry *entry;
    struct agent_svid *svid;     /* NULL: none */
    struct agent_selset set;     /* empty for entries kept for their revision only (store_svid) */
    struct agent_selector *home; /* where it is listed: */
    struct agent_record *next, **link;
    int64_t used; /* monotonic ns of the last stream opened for it; 0: never */
    bool stale;   /* an SVID is to be fetched */
};

struct agent_group {
    struct agent_selset set;
    struct agent_subscription *first;
    struct agent_update *update; /* made of the present state; NULL: not made yet */
    bool told;                   /* in the list of those to be told */
};

struct agent_subscription {
    struct agent_cache *cache;
    struct agent_group *group;
    struct agent_subscription *next, *prev;
    bool (*notify)(void *arg);
    void *arg;
    struct agent_update *pending; /* not taken yet */
    bool started;                 /* has had a first, complete update */
};

struct agent_cache {
    struct agent_cache_config cfg;
    pthread_mutex_t lock;
    struct agent_index records;   /* entry ID -> struct agent_record */
    struct agent_index selectors; /* text -> struct agent_selector */
    struct cs_map *bundles;       /* trust domain name -> struct spiffe_bundle */
    struct cs_map *groups;        /* canonical text of the set -> struct agent_group */
    size_t svids, stale;          /* records with an SVID; records marked stale */
    int64_t next_rotation;        /* wall ns; INT64_MIN: look at all */
    bool changed;                 /* something that agent_cache_tick looks at */
};

/* Is there a stream that this record's SVID is for? */
bool agent_record_used(const struct agent_record *r);
/* What groups hold of this record is no longer so; `tell` them, or only make it anew for the next who asks.
 */
void agent_groups_of_record(struct agent_record *r, struct cs_vec *told, bool tell);
void agent_groups_all(struct agent_cache *c, struct cs_vec *told);
/* Makes the updates of the groups and hands them to their streams; empties the list. */
void agent_groups_tell(struct agent_cache *c, struct cs_vec *told);
void agent_group_free(struct agent_cache *c, struct agent_group *g);

#endif
