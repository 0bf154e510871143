/* SPDX-License-Identifier: Apache-2.0
 *
 * Open addressing with linear probing, as in base/coll.c: 12 bytes per slot, no tombstones.
 */
#include "agent/index.h"

#include "base/coll.h"
#include "base/mem.h"

#define FIRST_CAP 8

/* Never 0, which marks a free slot. */
static uint32_t hash_of(const char *key)
{
    return (uint32_t)cs_hash(cs_slice_str(key)) | UINT32_C(0x80000000);
}

/* Slot of the key, or the free one where it would go; cap must not be 0. */
static size_t find(const struct agent_index *x, const char *key, uint32_t hash)
{
    size_t mask = x->cap - 1;
    size_t i = hash & mask;
    while (x->hashes[i] != 0 && (x->hashes[i] != hash || strcmp(x->key(x->items[i]), key) != 0))
        i = (i + 1) & mask;
    return i;
}

void *agent_index_get(const struct agent_index *x, const char *key)
{
    if (x->len == 0)
        return NULL;
    size_t i = find(x, key, hash_of(key));
    return x->hashes[i] != 0 ? x->items[i] : NULL;
}

static bool grow(struct agent_index *x)
{
    size_t cap = x->cap == 0 ? FIRST_CAP : x->cap * 2;
    if (cap > UINT32_C(1) << 31) /* more slots than bits of the hash serve nobody */
        return false;
    void **items = cs_malloc(cap * (sizeof *items + sizeof(uint32_t)));
    if (items == NULL)
        return false;
    uint32_t *hashes = (uint32_t *)(void *)(items + cap);
    memset(hashes, 0, cap * sizeof *hashes);
    for (size_t i = 0; i < x->cap; i++) {
        if (x->hashes[i] == 0)
            continue;
        size_t to = x->hashes[i] & (cap - 1);
        while (hashes[to] != 0)
            to = (to + 1) & (cap - 1);
        hashes[to] = x->hashes[i];
        items[to] = x->items[i];
    }
    cs_free(x->items);
    x->items = items;
    x->hashes = hashes;
    x->cap = cap;
    return true;
}

cs_code agent_index_add(struct agent_index *x, void *item)
{
    const char *key = x->key(item);
    uint32_t hash = hash_of(key);
    if (x->len + 1 > x->cap / 4 * 3 && !grow(x))
        return CS_INTERNAL;
    size_t i = find(x, key, hash);
    x->items[i] = item;
    x->hashes[i] = hash;
    x->len++;
    return CS_OK;
}

void *agent_index_take(struct agent_index *x, const char *key)
{
    if (x->len == 0)
        return NULL;
    size_t mask = x->cap - 1;
    size_t hole = find(x, key, hash_of(key));
    if (x->hashes[hole] == 0)
        return NULL;
    void *item = x->items[hole];
    /* What comes behind moves back, unless it would get before the slot where its search begins. */
    for (size_t i = (hole + 1) & mask; x->hashes[i] != 0; i = (i + 1) & mask) {
        size_t home = x->hashes[i] & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        x->items[hole] = x->items[i];
        x->hashes[hole] = x->hashes[i];
        hole = i;
    }
    x->hashes[hole] = 0;
    x->len--;
    return item;
}

void *agent_index_next(const struct agent_index *x, size_t *it)
{
    while (*it < x->cap && x->hashes[*it] == 0)
        ++*it;
    return *it < x->cap ? x->items[(*it)++] : NULL;
}

void agent_index_free(struct agent_index *x)
{
    cs_free(x->items);
    x->items = NULL;
    x->hashes = NULL;
    x->cap = x->len = 0;
}
