/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/shared/nitro/memory.h"

#include "base/mem.h"

#include <pthread.h>

#define WAYS 8

struct entry {
    struct nitro_digest key, owner;
    int64_t expires;
    uint64_t used; /* 0: free; higher is younger */
};

struct nitro_memory {
    pthread_mutex_t lock; /* held for a few comparisons */
    uint64_t tick;
    size_t sets;
    struct entry entries[];
};

struct nitro_memory *nitro_memory_new(size_t max_entries)
{
    const size_t sets = max_entries > WAYS ? max_entries / WAYS : 1;
    struct nitro_memory *m = cs_calloc(1, sizeof *m + sets * WAYS * sizeof(struct entry));
    if (m == NULL)
        return NULL;
    m->sets = sets;
    (void)pthread_mutex_init(&m->lock, NULL); /* cannot fail without attributes on Linux */
    return m;
}

void nitro_memory_free(struct nitro_memory *m)
{
    if (m == NULL)
        return;
    pthread_mutex_destroy(&m->lock);
    cs_free(m);
}

/* The keys are digests: any of their bits are as good as a hash. */
static struct entry *set_of(struct nitro_memory *m, const struct nitro_digest *key)
{
    uint64_t n;
    memcpy(&n, key->sha256, sizeof n);
    return &m->entries[n % m->sets * WAYS];
}

/* The entry of the key while it lasts; else *place is where it may go: what is free or over, or else what was
 * not used for longest. */
static struct entry *find(struct entry *set, const struct nitro_digest *key, int64_t now,
                          struct entry **place)
{
    *place = &set[0];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].used != 0 && set[i].expires <= now)
            set[i] = (struct entry){0};
        if (set[i].used != 0 && memcmp(&set[i].key, key, sizeof *key) == 0)
            return &set[i];
        if (set[i].used < (*place)->used)
            *place = &set[i];
    }
    return NULL;
}

bool nitro_memory_has(struct nitro_memory *m, const struct nitro_digest *key, int64_t now)
{
    struct entry *place;
    pthread_mutex_lock(&m->lock);
    struct entry *found = find(set_of(m, key), key, now, &place);
    if (found != NULL)
        found->used = ++m->tick;
    pthread_mutex_unlock(&m->lock);
    return found != NULL;
}

bool nitro_memory_claim(struct nitro_memory *m, const struct nitro_digest *key,
                        const struct nitro_digest *owner, int64_t now, int64_t expires)
{
    struct entry *place;
    pthread_mutex_lock(&m->lock);
    struct entry *found = find(set_of(m, key), key, now, &place);
    const bool mine = found == NULL || memcmp(&found->owner, owner, sizeof *owner) == 0;
    if (found != NULL)
        place = found;
    if (mine)
        *place = (struct entry){.key = *key, .owner = *owner, .expires = expires, .used = ++m->tick};
    pthread_mutex_unlock(&m->lock);
    return mine;
}
