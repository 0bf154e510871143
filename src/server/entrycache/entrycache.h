/* SPDX-License-Identifier: Apache-2.0
 *
 * Registration entries in memory, indexed for the questions agents ask: which entries am I
 * authorised for, and am I authorised for this one. An agent is authorised for the entries below it:
 * those whose parent is the agent, or an alias of the agent, or the SPIFFE ID of an entry below it
 * (SPIRE: pkg/server/authorizedentries). An alias is an entry whose parent is the server's own ID;
 * it holds for agents that have all of its selectors.
 *
 * An entry is immutable and kept in the wire form of spire.api.types.Entry, so that an answer is a
 * copy of bytes. A change costs what the change costs. All functions: any thread.
 */
#ifndef CS_SERVER_ENTRYCACHE_ENTRYCACHE_H
#define CS_SERVER_ENTRYCACHE_ENTRYCACHE_H

#include "base/buf.h"
#include "base/mem.h"

/* --- Sets of selectors, immutable, reference-counted --- */
struct selset;
/* Sorted copy without duplicates; each key is "type:value". n 0 is fine. */
CS_CHECKED cs_code selset_new(const struct cs_slice *keys, size_t n, struct selset **out, struct cs_err *e);
struct selset *selset_ref(struct selset *s);
void selset_unref(struct selset *s);
size_t selset_len(const struct selset *s);
struct cs_slice selset_at(const struct selset *s, size_t i);
bool selset_has(const struct selset *s, struct cs_slice key);
static inline void selset_drop(struct selset **s)
{
    selset_unref(*s);
    *s = NULL;
}

/* --- One entry --- */
struct entry;

/* Fields of spire.api.types.Entry as bits of a mask: 1 << field number. The id is always sent. */
#define ENTRY_FIELD(n) (UINT32_C(1) << (n))
#define ENTRY_ALL_FIELDS UINT32_MAX
enum entry_field {
    ENTRY_ID = 1,
    ENTRY_SPIFFE_ID = 2,
    ENTRY_PARENT_ID = 3,
    ENTRY_SELECTORS = 4,
    ENTRY_X509_SVID_TTL = 5,
    ENTRY_FEDERATES_WITH = 6,
    ENTRY_ADMIN = 7,
    ENTRY_DOWNSTREAM = 8,
    ENTRY_EXPIRES_AT = 9,
    ENTRY_DNS_NAMES = 10,
    ENTRY_REVISION_NUMBER = 11,
    ENTRY_STORE_SVID = 12,
    ENTRY_JWT_SVID_TTL = 13,
    ENTRY_HINT = 14,
    ENTRY_CREATED_AT = 15,
    ENTRY_ATTRIBUTES = 16,
};

/* From the wire form (copied). CS_INVALID when it is malformed or has no id, SPIFFE ID or parent ID
 * (they must come first and be under 64 KiB together, as Go and wire.h write them). */
CS_CHECKED cs_code entry_new(struct cs_slice wire, struct entry **out, struct cs_err *e);
struct entry *entry_ref(struct entry *en);
void entry_unref(struct entry *en);
static inline void entry_drop(struct entry **en)
{
    entry_unref(*en);
    *en = NULL;
}

/* Borrowed from the entry. */
struct cs_slice entry_id(const struct entry *en);
struct cs_slice entry_trust_domain(const struct entry *en); /* of the SPIFFE ID: its name */
struct cs_slice entry_spiffe_path(const struct entry *en);  /* "/a/b" */
struct cs_slice entry_parent_path(const struct entry *en);
struct cs_slice entry_wire(const struct entry *en);
int64_t entry_revision(const struct entry *en);
int64_t entry_created_at(const struct entry *en);
int32_t entry_x509_ttl(const struct entry *en);
int32_t entry_jwt_ttl(const struct entry *en);
bool entry_jwt_jti(const struct entry *en);
/* DNS names as C strings in the arena; *names NULL when there are none. */
CS_CHECKED cs_code entry_dns_names(const struct entry *en, struct cs_arena *a, const char ***names,
                                   size_t *count, struct cs_err *e);
/* Append the entry as length-delimited field number `field`, with the fields of `mask` only. Running
 * out of memory sticks in the buffer. */
void entry_append(struct cs_buf *b, uint32_t field, const struct entry *en, uint32_t mask);
/* The same of any wire form of an Entry. */
void entry_wire_append(struct cs_buf *b, uint32_t field, struct cs_slice wire, uint32_t mask);

/* The fields alone, without the header of a field around them. */
void entry_wire_fields(struct cs_buf *b, struct cs_slice wire, uint32_t mask);

/* --- The cache --- */
struct entrycache;
/* Entries of other trust domains than `trust_domain` (a name) are ignored, as SPIRE does. */
CS_CHECKED cs_code entrycache_new(const char *trust_domain, struct entrycache **out, struct cs_err *e);
void entrycache_free(struct entrycache *c); /* NULL is fine; entries live on in who holds them */

/* Put an entry in, or in the place of an older one with its id; the caller's reference is taken over
 * also when this fails. Fails only without memory: then the cache is unchanged. */
CS_CHECKED cs_code entrycache_put(struct entrycache *c, struct entry *en, struct cs_err *e);
void entrycache_remove(struct entrycache *c, struct cs_slice id); /* unknown: nothing happens */
size_t entrycache_len(const struct entrycache *c);
/* NULL: unknown. The caller unrefs. */
struct entry *entrycache_get(struct entrycache *c, struct cs_slice id);
/* The ids of all entries in the cache for which `gone` says true are removed (after a reload). */
void entrycache_sweep(struct entrycache *c, bool (*gone)(void *arg, struct cs_slice id), void *arg);

/* A list of referenced entries. Zero-initialise; entry_list_free. */
struct entry_list {
    struct entry **at;
    size_t len, cap;
};
void entry_list_free(struct entry_list *l);
/* Sort by id (bytes). */
void entry_list_sort(struct entry_list *l);
/* Index of an id in a sorted list at or past *from, SIZE_MAX when it is not there. *from moves to where
 * it is or would be: looking for ids in ascending order then costs little more than walking along. */
size_t entry_list_find(const struct entry_list *l, size_t *from, struct cs_slice id);

/* All entries the agent is authorised for, in no order, each once. `selectors` are the agent's (NULL:
 * none). Fails only without memory: then the list is empty. */
CS_CHECKED cs_code entrycache_authorized(struct entrycache *c, struct cs_slice agent_path,
                                         const struct selset *selectors, struct entry_list *out,
                                         struct cs_err *e);
/* One entry if the agent is authorised for it, else NULL (also without memory). The caller unrefs.
 * Climbs from the entry: the cost does not depend on how many entries the agent has. */
struct entry *entrycache_lookup(struct entrycache *c, struct cs_slice agent_path,
                                const struct selset *selectors, struct cs_slice id);

/* What the entries with this SPIFFE ID allow their holder to do. */
struct entry_rights {
    bool admin, downstream;
};
struct entry_rights entrycache_rights(struct entrycache *c, struct cs_slice spiffe_path);

#endif
