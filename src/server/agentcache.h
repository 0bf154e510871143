/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server must know about an agent at each of its calls, in memory: is it attested, not
 * banned, with which serial number, and which selectors it has (they decide its aliases). Loaded at
 * start, then kept by what the datastore reports. All functions: any thread.
 */
#ifndef CS_SERVER_AGENTCACHE_H
#define CS_SERVER_AGENTCACHE_H

#include "server/entrycache/entrycache.h"

/* Immutable and reference-counted; a change makes a new one. Strings are NUL-terminated. */
struct agent {
    _Atomic uint32_t refs;
    bool attested; /* false: selectors were stored, but no node */
    bool can_reattest;
    const char *serial;                 /* decimal; "": banned */
    const char *new_serial;             /* prepared by a renewal, not yet used; "": none */
    int64_t expires_at, new_expires_at; /* unix seconds */
    struct selset *selectors;           /* NULL: none */
    _Atomic bool activating;            /* somebody is storing new_serial as serial */
    char text[];
};
struct agent *agent_ref(struct agent *a);
void agent_unref(struct agent *a);
static inline void agent_drop(struct agent **a)
{
    agent_unref(*a);
    *a = NULL;
}

struct agentcache;
CS_CHECKED cs_code agentcache_new(struct agentcache **out, struct cs_err *e);
void agentcache_free(struct agentcache *c); /* NULL is fine */

/* By SPIFFE ID ("spiffe://..."). NULL: unknown. The caller unrefs. */
struct agent *agentcache_get(struct agentcache *c, struct cs_slice spiffe_id);

/* The node as stored (selectors are kept as they are). Copied. On failure the agent is forgotten. */
struct agentcache_node {
    const char *serial, *new_serial;
    int64_t expires_at, new_expires_at;
    bool can_reattest;
};
CS_CHECKED cs_code agentcache_set_node(struct agentcache *c, struct cs_slice spiffe_id,
                                       const struct agentcache_node *n, struct cs_err *e);
/* The selectors as stored (the node is kept as it is); referenced. On failure the agent is forgotten. */
CS_CHECKED cs_code agentcache_set_selectors(struct agentcache *c, struct cs_slice spiffe_id,
                                            struct selset *selectors, struct cs_err *e);
void agentcache_remove(struct agentcache *c, struct cs_slice spiffe_id);
/* The same for an attested one only: selectors of an agent about to be created stay. */
void agentcache_remove_attested(struct agentcache *c, struct cs_slice spiffe_id);
/* Remove attested agents of which gone(arg, SPIFFE ID) says so. */
void agentcache_sweep(struct agentcache *c, bool (*gone)(void *arg, struct cs_slice spiffe_id), void *arg);
size_t agentcache_len(struct agentcache *c);

#endif
