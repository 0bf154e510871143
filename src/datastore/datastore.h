/* SPDX-License-Identifier: Apache-2.0
 *
 * The datastore: everything the server must not lose, behind typed operations. Nothing above this
 * folder knows SQL. Tables, encodings and rules are those of SPIRE 1.15 (schema version 25), so that
 * a database written by either program serves the other: pkg/server/datastore there, docs/datastore.md
 * here.
 *
 * Threads: every operation may be called from any thread, and may block on the disk or on another
 * process that holds the database: worker pool only, never an I/O thread. There is one writer at a
 * time; reads go on beside it. An operation is one transaction: on any code but CS_OK nothing of it
 * is stored.
 *
 * Values: inputs are borrowed for the call. Results live in the arena of the caller. A string that
 * is absent is "", never NULL; an input string may be NULL for "". Times are Unix seconds, 0 means
 * none. Trust domains are named by their SPIFFE ID ("spiffe://example.org") unless said otherwise.
 *
 * Errors, as upstream's datastore answers them: CS_NOT_FOUND `datastore-sql: record not found`;
 * CS_EXISTS `datastore-sql: UNIQUE constraint failed: table.column`; CS_INVALID for what breaks a
 * rule (`datastore-validation: ...`); CS_UNKNOWN `datastore-sql: ...` for what the database refuses
 * (`database is locked`, `database or disk is full`), naming the operation; CS_INTERNAL for memory.
 */
#ifndef CS_DATASTORE_DATASTORE_H
#define CS_DATASTORE_DATASTORE_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"

#include <stdint.h>

/* Schema version this code writes, and the code version it leaves in the `migrations` row. */
#define DS_SCHEMA_VERSION 25
#define DS_CODE_VERSION CS_SPIRE_VERSION

/* --- Opening ------------------------------------------------------------------------------- */

struct ds;

struct ds_options {
    const char *database_type;        /* "sqlite3" is the one there is */
    const char *connection_string;    /* path, or file: URI with SQLite's and mattn's parameters */
    const char *ro_connection_string; /* not applicable to sqlite3: a warning, as upstream */
    bool disable_migration;
    unsigned max_open_conns;      /* most read connections; 0: default (4) */
    const struct cs_clock *clock; /* NULL: the machine's; must outlive the datastore */
    struct cs_log log;
};

/* Open, and create or migrate the schema under upstream's rules. Errors: CS_INVALID
 * `datastore-sql: connection_string must be set`, `datastore-sql: unsupported database_type: x`,
 * `datastore-sql: unsupported scheme "x"`; CS_PRECONDITION `datastore-sql: incompatible DB schema
 * and code version`, `datastore-sql: auto-migration must be enabled for current DB`, `datastore-sql:
 * migrating from schema version N requires a previous SPIRE release; ...`; CS_UNKNOWN from SQLite. */
CS_CHECKED cs_code ds_open(const struct ds_options *o, struct ds **out, struct cs_err *e);
/* No operation may be running. Checkpoints the write-ahead log. NULL is fine. */
void ds_close(struct ds *d);
static inline void ds_drop(struct ds **d)
{
    ds_close(*d);
    *d = NULL;
}
/* One cheap read, for the health check. */
CS_CHECKED cs_code ds_ping(struct ds *d, struct cs_err *e);

/* --- Values -------------------------------------------------------------------------------- */

struct ds_selector {
    const char *type, *value;
};

struct ds_entry {
    const char *entry_id;
    const char *spiffe_id, *parent_id;
    const struct ds_selector *selectors;
    size_t n_selectors;
    const char *const *federates_with; /* "spiffe://td"; each must have a bundle */
    size_t n_federates_with;
    const char *const *dns_names;
    size_t n_dns_names;
    const char *hint;
    int64_t expires_at;
    int64_t created_at;                  /* set by the datastore; rounded to the second */
    int64_t revision_number;             /* set by the datastore: 0, then +1 per update */
    int32_t x509_svid_ttl, jwt_svid_ttl; /* seconds, 0: the server's default */
    bool admin, downstream, store_svid;
    bool has_attributes;             /* additional_attributes was given */
    bool disable_x509_svid_prefetch; /* of additional_attributes */
    bool jwt_svid_include_jti;       /* of additional_attributes */
};

struct ds_node {
    const char *spiffe_id;
    const char *attestation_type;
    const char *serial_number;     /* "" means banned */
    const char *new_serial_number; /* prepared, not yet seen in use */
    const char *agent_version;
    int64_t expires_at, new_expires_at;
    const struct ds_selector *selectors; /* only where the operation says that it fills them */
    size_t n_selectors;
    bool can_reattest;
};

struct ds_cert {
    struct cs_slice der;
    bool tainted;
};
struct ds_key {
    struct cs_slice pkix; /* SubjectPublicKeyInfo, DER */
    const char *kid;
    int64_t not_after;
    bool tainted;
};
struct ds_bundle {
    const char *trust_domain; /* "spiffe://example.org" */
    const struct ds_cert *roots;
    size_t n_roots;
    const struct ds_key *jwt_keys;
    size_t n_jwt_keys;
    const struct ds_key *wit_keys;
    size_t n_wit_keys;
    int64_t refresh_hint; /* seconds */
    uint64_t sequence_number;
};

/* --- Lists --------------------------------------------------------------------------------- */

enum ds_tri { DS_ANY, DS_NO, DS_YES };

enum ds_match {
    DS_MATCH_EXACT,    /* exactly the given set */
    DS_MATCH_SUBSET,   /* has at least one, and none but given ones */
    DS_MATCH_SUPERSET, /* has all the given ones, and maybe more */
    DS_MATCH_ANY,      /* has at least one of the given ones */
};

/* A page of a list. size 0 is CS_INVALID `cannot paginate with pagesize = 0`; a token that is not
 * one of ours is CS_INVALID `could not parse token 'x'`. On return *next is the token that continues
 * after the last row of this page, "" when the page came out empty (a full last page has a token
 * too: the next page is then empty, as upstream). */
struct ds_page {
    const char *token; /* NULL or "": from the start */
    int32_t size;
};

/* --- Bundles ------------------------------------------------------------------------------- */

enum ds_delete_mode { DS_RESTRICT, DS_DELETE, DS_DISSOCIATE };

/* Which fields ds_bundle_update takes over. */
struct ds_bundle_mask {
    bool roots, jwt_keys, wit_keys, refresh_hint, sequence_number;
};

CS_CHECKED cs_code ds_bundle_create(struct ds *d, const struct ds_bundle *b, struct cs_err *e);
/* *out NULL (and CS_OK) when there is none. */
CS_CHECKED cs_code ds_bundle_fetch(struct ds *d, struct cs_arena *a, const char *trust_domain,
                                   struct ds_bundle **out, struct cs_err *e);
/* Ordered by row. page NULL: all of them (next may be NULL then). */
CS_CHECKED cs_code ds_bundle_list(struct ds *d, struct cs_arena *a, const struct ds_page *page,
                                  struct ds_bundle **out, size_t *n, const char **next, struct cs_err *e);
CS_CHECKED cs_code ds_bundle_count(struct ds *d, int32_t *out, struct cs_err *e);
/* Create, or replace all of it. out (may be NULL): the bundle as stored. */
CS_CHECKED cs_code ds_bundle_set(struct ds *d, struct cs_arena *a, const struct ds_bundle *b,
                                 struct ds_bundle **out, struct cs_err *e);
/* Create, or add the roots and keys that are missing (compared as whole values) and, when any was,
 * count the sequence number up by one. out (may be NULL): the bundle as stored. */
CS_CHECKED cs_code ds_bundle_append(struct ds *d, struct cs_arena *a, const struct ds_bundle *b,
                                    struct ds_bundle **out, struct cs_err *e);
/* mask NULL: everything. CS_NOT_FOUND. */
CS_CHECKED cs_code ds_bundle_update(struct ds *d, struct cs_arena *a, const struct ds_bundle *b,
                                    const struct ds_bundle_mask *mask, struct ds_bundle **out,
                                    struct cs_err *e);
/* CS_NOT_FOUND; DS_RESTRICT and in use: CS_PRECONDITION `datastore-sql: cannot delete bundle; federated
 * with N registration entries`. DS_DELETE deletes those entries, DS_DISSOCIATE cuts the link. */
CS_CHECKED cs_code ds_bundle_delete(struct ds *d, const char *trust_domain, enum ds_delete_mode mode,
                                    struct cs_err *e);
/* Drop roots and keys that expired before `before`; a bundle is never left without roots or without
 * JWT keys (CS_UNKNOWN `prune failed: would prune all certificates` and `... all JWT signing keys`).
 * No bundle is no error. */
CS_CHECKED cs_code ds_bundle_prune(struct ds *d, const char *trust_domain, int64_t before, bool *changed,
                                   struct cs_err *e);

/* Authorities of a bundle. X.509 ones are named by their subject key identifier in lower-case hex,
 * JWT ones by key id. CS_NOT_FOUND; CS_INVALID when already tainted, or revoked before tainted. out
 * (may be NULL): the key as it is (taint) or was (revoke). */
CS_CHECKED cs_code ds_x509_ca_taint(struct ds *d, const char *trust_domain, const char *subject_key_id,
                                    struct cs_err *e);
CS_CHECKED cs_code ds_x509_ca_revoke(struct ds *d, const char *trust_domain, const char *subject_key_id,
                                     struct cs_err *e);
CS_CHECKED cs_code ds_jwt_key_taint(struct ds *d, struct cs_arena *a, const char *trust_domain,
                                    const char *kid, struct ds_key *out, struct cs_err *e);
CS_CHECKED cs_code ds_jwt_key_revoke(struct ds *d, struct cs_arena *a, const char *trust_domain,
                                     const char *kid, struct ds_key *out, struct cs_err *e);

/* --- Registration entries ------------------------------------------------------------------ */

/* Outcome of one item of a batch: err.code CS_OK and `entry`, or the error of this item alone. */
struct ds_entry_result {
    struct cs_err err;
    struct ds_entry *entry;
    bool existing; /* create: a similar entry was there and is `entry` */
};

/* Which fields ds_entry_update takes over. */
struct ds_entry_mask {
    bool selectors, parent_id, spiffe_id, x509_svid_ttl, jwt_svid_ttl, federates_with, admin, downstream;
    bool expires_at, dns_names, store_svid, hint, attributes;
};

/* Create n entries in one transaction. An item fails for itself; the others are stored. Similar (same
 * SPIFFE ID, parent and set of selectors) means `existing`, also for an earlier item of the batch.
 * An entry id may be given ([-._A-Za-z0-9], at most 255 bytes), else it is a fresh UUID. out: n rows,
 * the caller's. Any code but CS_OK: nothing was stored, and every row says so. */
CS_CHECKED cs_code ds_entries_create_batch(struct ds *d, struct cs_arena *a, const struct ds_entry *in,
                                           size_t n, struct ds_entry_result *out, struct cs_err *e);
/* mask NULL: everything; the same mask for all. CS_NOT_FOUND for an item that is not there. */
CS_CHECKED cs_code ds_entries_update_batch(struct ds *d, struct cs_arena *a, const struct ds_entry *in,
                                           size_t n, const struct ds_entry_mask *mask,
                                           struct ds_entry_result *out, struct cs_err *e);
/* `entry` of a row is the entry as it was. CS_NOT_FOUND for an item that is not there. */
CS_CHECKED cs_code ds_entries_delete_batch(struct ds *d, struct cs_arena *a, const char *const *entry_ids,
                                           size_t n, struct ds_entry_result *out, struct cs_err *e);

/* One entry: the batches of one. existing may be NULL (a similar entry is then simply returned);
 * out may be NULL. */
CS_CHECKED cs_code ds_entry_create(struct ds *d, struct cs_arena *a, const struct ds_entry *in,
                                   struct ds_entry **out, bool *existing, struct cs_err *e);
CS_CHECKED cs_code ds_entry_update(struct ds *d, struct cs_arena *a, const struct ds_entry *in,
                                   const struct ds_entry_mask *mask, struct ds_entry **out, struct cs_err *e);
CS_CHECKED cs_code ds_entry_delete(struct ds *d, struct cs_arena *a, const char *entry_id,
                                   struct ds_entry **out, struct cs_err *e);

/* *out NULL (and CS_OK) when there is none. */
CS_CHECKED cs_code ds_entry_fetch(struct ds *d, struct cs_arena *a, const char *entry_id,
                                  struct ds_entry **out, struct cs_err *e);
/* out[i] belongs to entry_ids[i], NULL when there is none. out: n rows, the caller's. */
CS_CHECKED cs_code ds_entry_fetch_many(struct ds *d, struct cs_arena *a, const char *const *entry_ids,
                                       size_t n, struct ds_entry **out, struct cs_err *e);

/* All conditions must hold; zero means no condition. */
struct ds_entry_filter {
    const char *spiffe_id, *parent_id, *hint;
    bool by_selectors; /* empty set: CS_INVALID `cannot list by empty selector set` */
    enum ds_match selectors_match;
    const struct ds_selector *selectors;
    size_t n_selectors;
    bool by_federates_with; /* an empty set is no condition, as upstream */
    enum ds_match federates_match;
    const char *const *federates_with; /* "spiffe://td" */
    size_t n_federates_with;
    enum ds_tri downstream; /* DS_NO is no condition, as upstream */
};
/* Ordered by row. filter NULL: no condition. page NULL: all (next may be NULL then). */
CS_CHECKED cs_code ds_entry_list(struct ds *d, struct cs_arena *a, const struct ds_entry_filter *filter,
                                 const struct ds_page *page, struct ds_entry **out, size_t *n,
                                 const char **next, struct cs_err *e);
CS_CHECKED cs_code ds_entry_count(struct ds *d, const struct ds_entry_filter *filter, int32_t *out,
                                  struct cs_err *e);
/* Every entry in row order, from one snapshot, with memory for one entry: the warm-up of caches. The
 * entry and its arrays are valid during the call of fn only. A code but CS_OK from fn ends the walk
 * and is returned. fn must not write to the datastore. */
typedef cs_code (*ds_entry_fn)(void *arg, const struct ds_entry *entry, struct cs_err *e);
CS_CHECKED cs_code ds_entries_each(struct ds *d, ds_entry_fn fn, void *arg, struct cs_err *e);
/* Delete entries with expires_at != 0 and < before; each is logged `Pruned an expired registration`. */
CS_CHECKED cs_code ds_entry_prune(struct ds *d, int64_t before, struct cs_err *e);

/* --- Attested nodes (agents) --------------------------------------------------------------- */

/* Which fields ds_node_update takes over, and on what condition. The conditions are looked at in the
 * transaction that writes, whoever wrote before. */
struct ds_node_mask {
    bool serial_number, expires_at, new_serial_number, new_expires_at, can_reattest, agent_version;
    bool unless_banned;        /* a banned node: CS_DENIED `agent is banned` */
    const char *if_new_serial; /* another new_serial_number: CS_ABORTED. NULL: whatever it is */
};

/* Selectors are not stored by these: ds_node_set_selectors. out may be NULL. CS_EXISTS. */
CS_CHECKED cs_code ds_node_create(struct ds *d, struct cs_arena *a, const struct ds_node *in,
                                  struct ds_node **out, struct cs_err *e);
/* mask NULL: everything. The attestation type never changes, as upstream. CS_NOT_FOUND. */
CS_CHECKED cs_code ds_node_update(struct ds *d, struct cs_arena *a, const struct ds_node *in,
                                  const struct ds_node_mask *mask, struct ds_node **out, struct cs_err *e);
/* With its selectors. out (may be NULL): as it was. CS_NOT_FOUND. */
CS_CHECKED cs_code ds_node_delete(struct ds *d, struct cs_arena *a, const char *spiffe_id,
                                  struct ds_node **out, struct cs_err *e);
/* *out NULL (and CS_OK) when there is none. Without selectors. */
CS_CHECKED cs_code ds_node_fetch(struct ds *d, struct cs_arena *a, const char *spiffe_id,
                                 struct ds_node **out, struct cs_err *e);
/* out[i] belongs to spiffe_ids[i], NULL when there is none; with selectors. */
CS_CHECKED cs_code ds_node_fetch_many(struct ds *d, struct cs_arena *a, const char *const *spiffe_ids,
                                      size_t n, struct ds_node **out, struct cs_err *e);

struct ds_node_filter {
    const char *attestation_type;
    enum ds_tri banned, can_reattest;
    int64_t expires_before; /* expires_at < this */
    int64_t valid_at;       /* expires_at >= this */
    bool by_selectors;      /* empty set: CS_INVALID `cannot list by empty selectors set` */
    enum ds_match selectors_match;
    const struct ds_selector *selectors;
    size_t n_selectors;
    bool fetch_selectors; /* fill the selectors of the result */
};
/* As ds_entry_list. */
CS_CHECKED cs_code ds_node_list(struct ds *d, struct cs_arena *a, const struct ds_node_filter *filter,
                                const struct ds_page *page, struct ds_node **out, size_t *n,
                                const char **next, struct cs_err *e);
CS_CHECKED cs_code ds_node_count(struct ds *d, const struct ds_node_filter *filter, int32_t *out,
                                 struct cs_err *e);
/* As ds_entries_each; with selectors. */
typedef cs_code (*ds_node_fn)(void *arg, const struct ds_node *node, struct cs_err *e);
CS_CHECKED cs_code ds_nodes_each(struct ds *d, ds_node_fn fn, void *arg, struct cs_err *e);
/* Delete at most batch (<= 0: 1000) nodes that expired before `before`, never banned ones, and those
 * that cannot reattest only when asked. The number is logged `Pruned expired agents`. */
CS_CHECKED cs_code ds_node_prune(struct ds *d, int64_t before, bool include_non_reattestable, int batch,
                                 struct cs_err *e);

CS_CHECKED cs_code ds_node_get_selectors(struct ds *d, struct cs_arena *a, const char *spiffe_id,
                                         struct ds_selector **out, size_t *n, struct cs_err *e);
/* Replaces all; a node of that id need not exist. */
CS_CHECKED cs_code ds_node_set_selectors(struct ds *d, const char *spiffe_id,
                                         const struct ds_selector *selectors, size_t n, struct cs_err *e);
/* One row per node that has selectors (and, when valid_at is not 0, expires after it). Only
 * spiffe_id and selectors of the rows are filled. */
CS_CHECKED cs_code ds_node_list_selectors(struct ds *d, struct cs_arena *a, int64_t valid_at,
                                          struct ds_node **out, size_t *n, struct cs_err *e);

/* --- Events -------------------------------------------------------------------------------- */

/* A row of registered_entries_events or attested_node_entries_events: every change of an entry or
 * node leaves one, for servers that share the database. */
struct ds_event {
    uint64_t id;
    const char *subject; /* entry id, or SPIFFE ID of the node */
};
enum ds_event_kind { DS_EVENT_ENTRY, DS_EVENT_NODE };
/* Ordered by id. At most one of greater_than and less_than may be set (not 0): CS_UNKNOWN otherwise. */
CS_CHECKED cs_code ds_event_list(struct ds *d, struct cs_arena *a, enum ds_event_kind kind,
                                 uint64_t greater_than, uint64_t less_than, struct ds_event **out, size_t *n,
                                 struct cs_err *e);
/* CS_NOT_FOUND. */
CS_CHECKED cs_code ds_event_fetch(struct ds *d, struct cs_arena *a, enum ds_event_kind kind, uint64_t id,
                                  struct ds_event *out, struct cs_err *e);
/* Delete events older than older_than_s seconds. */
CS_CHECKED cs_code ds_event_prune(struct ds *d, enum ds_event_kind kind, int64_t older_than_s,
                                  struct cs_err *e);

/* --- Changes made through this handle ------------------------------------------------------ */

/* What a committed operation changed, so that a cache follows without reading back and in the order
 * of the commits. */
struct ds_change {
    enum { DS_CHANGE_ENTRY, DS_CHANGE_NODE, DS_CHANGE_NODE_SELECTORS, DS_CHANGE_BUNDLE } kind;
    const char *id;                      /* entry id, SPIFFE ID of the node, or trust domain */
    uint64_t event;                      /* id of the event that it left; 0: none */
    bool deleted;                        /* the pointers below are NULL then */
    const struct ds_entry *entry;        /* DS_CHANGE_ENTRY: the entry as it is now */
    const struct ds_node *node;          /* DS_CHANGE_NODE: as it is now, without selectors */
    const struct ds_bundle *bundle;      /* DS_CHANGE_BUNDLE: as it is now */
    const struct ds_selector *selectors; /* DS_CHANGE_NODE_SELECTORS */
    size_t n_selectors;
};
/* Called after the commit and before the operation returns, one call per transaction, never two at
 * once, in commit order. All it gets is valid during the call only. It must be quick, must not fail
 * and must not call the datastore. Deleting a node gives DS_CHANGE_NODE and no separate change for
 * its selectors; deleting a bundle gives a change for each entry that it touched. */
typedef void (*ds_observer_fn)(void *arg, const struct ds_change *changes, size_t n);
/* Differs from what an earlier call gave when something was committed in between by another process, or
 * through another handle; writes through this one do not count. Cheap. */
CS_CHECKED cs_code ds_foreign_version(struct ds *d, int64_t *out, struct cs_err *e);
/* At most one; set before other threads use the handle. */
void ds_observe(struct ds *d, ds_observer_fn fn, void *arg);

/* --- Join tokens --------------------------------------------------------------------------- */

/* CS_UNKNOWN `token and expiry are required`; CS_EXISTS. */
CS_CHECKED cs_code ds_token_create(struct ds *d, const char *token, int64_t expires_at, struct cs_err *e);
/* *found false (and CS_OK) when there is none. expires_at may be NULL. */
CS_CHECKED cs_code ds_token_fetch(struct ds *d, const char *token, bool *found, int64_t *expires_at,
                                  struct cs_err *e);
/* CS_NOT_FOUND. */
CS_CHECKED cs_code ds_token_delete(struct ds *d, const char *token, struct cs_err *e);
/* Fetch and delete in one transaction: of two callers at most one finds it. The expiry is for the
 * caller to check, after the token is gone (as upstream). */
CS_CHECKED cs_code ds_token_use(struct ds *d, const char *token, bool *found, int64_t *expires_at,
                                struct cs_err *e);
/* Delete tokens with expires_at < before. */
CS_CHECKED cs_code ds_token_prune(struct ds *d, int64_t before, struct cs_err *e);

/* --- CA journals --------------------------------------------------------------------------- */

struct ds_ca_journal {
    uint64_t id;          /* 0: not stored yet */
    struct cs_slice data; /* packed journal `Entries` (proto/journal.proto) */
    const char *active_x509_authority_id;
};
/* Create (id 0) or replace row id (CS_NOT_FOUND). *id_out: its row. */
CS_CHECKED cs_code ds_ca_journal_set(struct ds *d, const struct ds_ca_journal *j, uint64_t *id_out,
                                     struct cs_err *e);
/* *out NULL (and CS_OK) when there is none; CS_INVALID `active X509 authority ID is required`. */
CS_CHECKED cs_code ds_ca_journal_fetch(struct ds *d, struct cs_arena *a, const char *active_x509_authority_id,
                                       struct ds_ca_journal **out, struct cs_err *e);
CS_CHECKED cs_code ds_ca_journal_list(struct ds *d, struct cs_arena *a, struct ds_ca_journal **out, size_t *n,
                                      struct cs_err *e);
/* Delete journals of which no X.509 CA and no JWT key is valid after `before`; each is logged
 * `Pruned stale CA journal record`. */
CS_CHECKED cs_code ds_ca_journal_prune(struct ds *d, int64_t before, struct cs_err *e);

/* --- Federation relationships -------------------------------------------------------------- */

/* trust_domain is the plain name here ("example.org"), as upstream stores it. */
struct ds_federation {
    const char *trust_domain;
    const char *endpoint_url;
    const char *endpoint_profile;   /* "https_web" or "https_spiffe" */
    const char *endpoint_spiffe_id; /* of https_spiffe */
    const struct ds_bundle *bundle; /* create, update: replaces the stored one; NULL: leave it */
};
struct ds_federation_mask {
    bool endpoint_url, endpoint_profile, bundle;
};
CS_CHECKED cs_code ds_federation_create(struct ds *d, const struct ds_federation *f, struct cs_err *e);
/* *out NULL (and CS_OK) when there is none. */
CS_CHECKED cs_code ds_federation_fetch(struct ds *d, struct cs_arena *a, const char *trust_domain,
                                       struct ds_federation **out, struct cs_err *e);
CS_CHECKED cs_code ds_federation_list(struct ds *d, struct cs_arena *a, const struct ds_page *page,
                                      struct ds_federation **out, size_t *n, const char **next,
                                      struct cs_err *e);
/* mask NULL: everything. out may be NULL. */
CS_CHECKED cs_code ds_federation_update(struct ds *d, struct cs_arena *a, const struct ds_federation *f,
                                        const struct ds_federation_mask *mask, struct ds_federation **out,
                                        struct cs_err *e);
/* The bundle stays. CS_NOT_FOUND. */
CS_CHECKED cs_code ds_federation_delete(struct ds *d, const char *trust_domain, struct cs_err *e);

#endif
