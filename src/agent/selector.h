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
struct agent_group;

struct agent_selector {
    struct agent_record *records; /* a list, see agent_record */
    uint32_t record_count, refs;
    struct cs_vec *groups; /* NULL: none, as with most */
    char text[];           /* "type:value" */
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

/* CS_INTERNAL when memory is out. */
CS_CHECKED cs_code agent_selector_add_group(struct agent_selector *s, struct agent_group *g);
void agent_selector_remove_group(struct agent_selector *s, const struct agent_group *g);
static inline size_t agent_selector_group_count(const struct agent_selector *s)
{
    return s->groups != NULL ? s->groups->len : 0;
}

#endif
