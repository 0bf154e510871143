/* SPDX-License-Identifier: Apache-2.0
 *
 * Collections: a string-keyed hash map and a pointer vector. Not thread-safe.
 */
#ifndef CS_BASE_COLL_H
#define CS_BASE_COLL_H

#include "base/buf.h"

/* Map from bytes to a pointer. Keys are copied; values are the caller's (free_value may be NULL; it is
 * called for NULL values too).
 * Hashing is keyed per process (SipHash) so that peers cannot choose collisions. */
struct cs_map;
struct cs_map *cs_map_new(void (*free_value)(void *));
void cs_map_free(struct cs_map *m);
size_t cs_map_len(const struct cs_map *m);
void *cs_map_get(const struct cs_map *m, struct cs_slice key); /* NULL: absent */
/* Replaces (and frees) an older value. CS_INTERNAL when memory is out: the map is unchanged and
 * the value stays the caller's. */
CS_CHECKED cs_code cs_map_put(struct cs_map *m, struct cs_slice key, void *value);
void *cs_map_take(struct cs_map *m, struct cs_slice key); /* removes without freeing */
bool cs_map_del(struct cs_map *m, struct cs_slice key);   /* removes and frees */
/* Iterate in no order; key and value may be NULL: for (size_t it = 0; cs_map_next(m, &it, &key, &value);). No
 * changes during it. */
bool cs_map_next(const struct cs_map *m, size_t *it, struct cs_slice *key, void **value);
static inline void cs_map_drop(struct cs_map **m)
{
    cs_map_free(*m);
    *m = NULL;
}
static inline void *cs_map_get_str(const struct cs_map *m, const char *key)
{
    return cs_map_get(m, cs_slice_str(key));
}
uint64_t cs_hash(struct cs_slice s); /* the map's keyed hash; any thread */
/* SipHash-1-3 with the caller's key, for what must hash the same in every process. */
uint64_t cs_siphash13(const uint64_t key[2], struct cs_slice s);

/* Vector of pointers; zero-initialise; elements are the caller's. */
struct cs_vec {
    void **at;
    size_t len, cap;
};
CS_CHECKED cs_code cs_vec_push(struct cs_vec *v, void *p);
void cs_vec_free(struct cs_vec *v);

#endif
