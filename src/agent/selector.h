/* SPDX-License-Identifier: Apache-2.0
 *
 * Interned selectors, and the index of what has to do with each. A record (an entry in the cache) is listed
 * at one of its selectors only, the one with the fewest records: a caller that matches it has all of them. A
 * group (the streams of one selector set) is listed at each of its selectors. Belongs to the cache and lives
 * under its lock.
 */
#ifndef CS_AGENT_SELECTOR_H
#define CS_AGENT_SELECTOR_H

#include "agent/index.h"
#include "base/coll.h"

struct agent_record;

struct agent_selector {
    struct agent_record *records; /* a list, see agent_record */
    uint32_t record_count, refs;
    struct cs_vec groups;
    char text[]; /* "type:value" */
};

/* Key of an agent_index of selectors. */
const char *agent_selector_text(const void *selector);

/* A set: selectors in the order of their addresses, each once. */
struct agent_selset {
    struct agent_selector **at;
    size_t count;
};

/* Interns the texts; each selector of the set is referenced. Not CS_OK: nothing changed. */
CS_CHECKED cs_code agent_selset_intern(struct agent_index *selectors, const char *const *texts, size_t count,
                                       struct agent_selset *out, struct cs_err *e);
/* Only those that are interned already, without references: to look something up. */
CS_CHECKED cs_code agent_selset_find(const struct agent_index *selectors, const char *const *texts,
                                     size_t count, struct agent_selset *out, struct cs_err *e);
/* Gives the references back; a selector without any is removed from the index. */
void agent_selset_release(struct agent_index *selectors, struct agent_selset *s);
/* Frees a set of agent_selset_find. For CS_CLEANUP. */
void agent_selset_free(struct agent_selset *s);

bool agent_selset_contains(const struct agent_selset *super, const struct agent_selset *sub);

/* Takes p out of a list, whose order does not matter. */
void agent_vec_remove(struct cs_vec *v, const void *p);

#endif
