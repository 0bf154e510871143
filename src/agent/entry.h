/* SPDX-License-Identifier: Apache-2.0
 *
 * A registration entry as the agent keeps it: what the server says in its authorised entries, checked.
 * Immutable, reference counted, one allocation; any thread.
 */
#ifndef CS_AGENT_ENTRY_H
#define CS_AGENT_ENTRY_H

#include "base/buf.h"
#include "types.pb-c.h"

struct agent_entry {
    const char *id;
    const char *spiffe_id;             /* "spiffe://example.org/foo" */
    const char *hint;                  /* "" when there is none */
    const char *const *selectors;      /* "type:value"; the type holds no colon */
    const char *const *federates_with; /* trust domain names */
    uint32_t selector_count, federates_count;
    int64_t revision, created_at;
    bool admin, downstream, store_svid, no_prefetch, jwt_jti;
};

/* Most selectors of one entry, and bytes of text in it. */
#define AGENT_ENTRY_SELECTORS_MAX 10000
#define AGENT_ENTRY_TEXT_MAX (1u << 20)

/* CS_INVALID with SPIRE's texts ("missing entry ID", "invalid SPIFFE ID: ...", "selector list is empty",
 * "selector type contains ':'"). */
CS_CHECKED cs_code agent_entry_new(const Types__Entry *from, struct agent_entry **out, struct cs_err *e);
struct agent_entry *agent_entry_ref(const struct agent_entry *en);
void agent_entry_unref(const struct agent_entry *en); /* NULL is fine */
static inline void agent_entry_drop(struct agent_entry **en)
{
    agent_entry_unref(*en);
    *en = NULL;
}
/* Does the entry hand out the same things in the same way, its revision aside? */
bool agent_entry_is_stale(const struct agent_entry *en, int64_t revision, int64_t created_at);

/* Of several entries with the same hint the one created first counts (then the smaller ID): drops the
 * others from the list, and calls `dropped` (may be NULL) for each. Entries without hint stay. */
size_t agent_entry_filter_hints(const struct agent_entry **at, size_t count,
                                void (*dropped)(void *arg, const struct agent_entry *en), void *arg);

#endif
