/* SPDX-License-Identifier: Apache-2.0
 *
 * A set-associative table: a key can only stand in the eight places of its set, so nothing is ever searched,
 * grown or swept. One lock per stripe of sets, held for a few comparisons.
 */
#include "crypto/x509_verify_cache.h"

#include <pthread.h>

#define WAYS 8
#define STRIPES 16

struct entry {
    struct x509_verify_key key;
    struct x509_verified value;
    uint64_t used; /* 0: free; higher is younger */
};

struct x509_verify_cache {
    pthread_mutex_t lock[STRIPES];
    uint64_t tick[STRIPES];
    size_t sets;
    struct entry entries[];
};

struct x509_verify_cache *x509_verify_cache_new(size_t max_entries)
{
    size_t sets = max_entries / WAYS;
    if (sets == 0)
        sets = 1;
    struct x509_verify_cache *c = cs_calloc(1, sizeof *c + sets * WAYS * sizeof(struct entry));
    if (c == NULL)
        return NULL;
    c->sets = sets;
    for (size_t i = 0; i < STRIPES; i++)
        pthread_mutex_init(&c->lock[i], NULL);
    return c;
}

void x509_verify_cache_free(struct x509_verify_cache *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&c->lock[i]);
    cs_free(c);
}

bool x509_verify_key_make(const struct x509_chain *chain, const struct x509_verify_params *p,
                          struct x509_verify_key *out)
{
    CS_AUTO(crypto_hasher) h = NULL;
    const uint64_t head[3] = {p->roots_id, (uint64_t)p->purpose, p->root_count};
    if (crypto_hasher_new(CRYPTO_SHA256, &h, NULL) != CS_OK ||
        crypto_hasher_add(h, cs_slice_of(head, sizeof head), NULL) != CS_OK)
        return false;
    for (size_t i = 0; i < p->root_count; i++)
        if (crypto_hasher_add(h, cs_slice_of(p->roots[i]->sha256, 32), NULL) != CS_OK)
            return false;
    for (size_t i = 0; i < chain->count; i++)
        if (crypto_hasher_add(h, cs_slice_of(chain->at[i]->sha256, 32), NULL) != CS_OK)
            return false;
    return crypto_hasher_end(h, out->sha256, NULL) == CS_OK;
}

static struct entry *set_of(struct x509_verify_cache *c, const struct x509_verify_key *key, size_t *stripe)
{
    uint64_t n;
    memcpy(&n, key->sha256, sizeof n);
    size_t set = (size_t)(n % c->sets);
    *stripe = set % STRIPES;
    return &c->entries[set * WAYS];
}

bool x509_verify_cache_get(struct x509_verify_cache *c, const struct x509_verify_key *key,
                           struct x509_verified *out)
{
    size_t stripe;
    struct entry *set = set_of(c, key, &stripe);
    bool found = false;
    pthread_mutex_lock(&c->lock[stripe]);
    for (size_t i = 0; i < WAYS && !found; i++) {
        if (set[i].used == 0 || memcmp(&set[i].key, key, sizeof *key) != 0)
            continue;
        set[i].used = ++c->tick[stripe];
        *out = set[i].value;
        found = true;
    }
    pthread_mutex_unlock(&c->lock[stripe]);
    return found;
}

void x509_verify_cache_put(struct x509_verify_cache *c, const struct x509_verify_key *key,
                           const struct x509_verified *v)
{
    size_t stripe;
    struct entry *set = set_of(c, key, &stripe);
    pthread_mutex_lock(&c->lock[stripe]);
    struct entry *place = &set[0];
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].used != 0 && memcmp(&set[i].key, key, sizeof *key) == 0) {
            place = &set[i];
            break;
        }
        if (set[i].used < place->used)
            place = &set[i];
    }
    *place = (struct entry){.key = *key, .value = *v, .used = ++c->tick[stripe]};
    pthread_mutex_unlock(&c->lock[stripe]);
}

uint64_t x509_roots_id(const struct x509_cert *const *roots, size_t count)
{
    /* FNV-1a over the fingerprints, which are hashes already; the cache's own key covers the roots in full */
    uint64_t id = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < 32; j++)
            id = (id ^ roots[i]->sha256[j]) * UINT64_C(0x100000001b3);
    return id == 0 ? 1 : id;
}
