/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds things by a text that they hold themselves: what cs_map does, without a copy of the key and an
 * allocation per item, which is most of what tens of thousands of small things cost. Not thread-safe.
 */
#ifndef CS_AGENT_INDEX_H
#define CS_AGENT_INDEX_H

#include "base/err.h"

#include <stdint.h>

/* Zero-initialise, with `key`. Items are the caller's; the text of an item that is in must not change. */
struct agent_index {
    const char *(*key)(const void *item);
    void **items;     /* cap of them; behind them, in the same allocation, the hashes */
    uint32_t *hashes; /* 0: free slot */
    size_t cap, len;
};

void *agent_index_get(const struct agent_index *x, const char *key); /* NULL: absent */
/* The item's key must not be there yet. CS_INTERNAL when memory is out: nothing changed. */
CS_CHECKED cs_code agent_index_add(struct agent_index *x, void *item);
/* Removes and returns the item; NULL: absent. */
void *agent_index_take(struct agent_index *x, const char *key);
/* In no order: for (size_t it = 0; (item = agent_index_next(x, &it)) != NULL;). No changes during it. */
void *agent_index_next(const struct agent_index *x, size_t *it);
/* Forgets the items; it may be used again. */
void agent_index_free(struct agent_index *x);

#endif
