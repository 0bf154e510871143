/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the entry cache.
 */
#ifndef CS_SERVER_ENTRYCACHE_INTERNAL_H
#define CS_SERVER_ENTRYCACHE_INTERNAL_H

#include "base/coll.h"
#include "server/entrycache/entrycache.h"

#include <pthread.h>

#define SERVER_PATH "/spire/server"

enum { ENTRY_IS_ADMIN = 1, ENTRY_IS_DOWNSTREAM = 2, ENTRY_WITH_JTI = 4 };

struct span {
    uint16_t at, len; /* within wire */
};

struct group;

struct entry {
    _Atomic uint32_t refs;
    uint32_t wire_len;
    struct span id, trust_domain, spiffe_path, parent_domain, parent_path;
    uint32_t flags;
    int32_t x509_ttl, jwt_ttl;
    int64_t revision, created_at;
    /* The cache's links: only under its lock. An entry is in one cache at most. */
    struct entry *id_next;                    /* chain of the id bucket */
    struct entry *spiffe_next, **spiffe_link; /* chain of the SPIFFE ID bucket */
    struct group *group;                      /* NULL: an alias, or not in a cache */
    uint32_t group_pos;
    uint32_t spiffe_hash;
    uint8_t wire[];
};

/* The entries with one parent. Exists while it has any. */
struct group {
    struct group *next; /* chain of the parent bucket */
    struct entry **at;
    uint32_t len, cap;
    uint32_t hash;
    uint32_t path_len;
    char path[];
};

/* Buckets of intrusive chains; a power of two. */
struct table {
    void **bucket;
    size_t mask, count;
};

struct entrycache {
    pthread_rwlock_t lock;
    struct table by_id;     /* struct entry, id_next */
    struct table by_spiffe; /* struct entry, spiffe_next */
    struct table by_parent; /* struct group, next */
    struct cs_map *aliases; /* selector key -> struct cs_vec of alias entries */
    size_t trust_domain_len;
    char trust_domain[];
};

static inline struct cs_slice entry_span(const struct entry *en, struct span s)
{
    return cs_slice_of(en->wire + s.at, s.len);
}
static inline uint32_t hash32(struct cs_slice s)
{
    return (uint32_t)cs_hash(s);
}

/* Calls fn with each selector key ("type:value", built in *tmp) of the entry until it says false. */
bool entry_each_selector(const struct entry *en, struct cs_buf *tmp,
                         bool (*fn)(void *arg, struct cs_slice key), void *arg);
struct group *group_find(const struct entrycache *c, struct cs_slice path, uint32_t hash);
struct entry *entry_find(const struct entrycache *c, struct cs_slice id);

#endif
