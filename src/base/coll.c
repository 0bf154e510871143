/* SPDX-License-Identifier: Apache-2.0
 *
 * The map: open addressing with linear probing; removal moves later entries back, so there are no
 * tombstones. Hashes lie in an array of their own: a probe touches an entry's memory only when its
 * 32-bit hash is the same. An entry costs 12 bytes per slot and one allocation with the key in it.
 */
#include "base/coll.h"

#include "base/mem.h"

#include <endian.h>
#include <pthread.h>
#include <sys/auxv.h>

/* --- SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF"), keyed per process --- */

static struct {
    pthread_once_t once;
    uint64_t k[2];
} seed = {.once = PTHREAD_ONCE_INIT};

static void make_seed(void)
{
    if (cs_random(seed.k, sizeof seed.k, NULL) == CS_OK)
        return;
    /* the kernel gave every process 16 random bytes at its start */
    const void *at = (const void *)(uintptr_t)getauxval(AT_RANDOM);
    if (at != NULL)
        memcpy(seed.k, at, sizeof seed.k);
}

static inline uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

uint64_t cs_siphash13(const uint64_t key[2], struct cs_slice s)
{
    uint64_t v[4] = {key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                     key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
    const uint8_t *p = s.data;
    size_t left = s.len;
    uint64_t m;

    for (; left >= 8; left -= 8, p += 8) {
        memcpy(&m, p, 8);
        m = le64toh(m);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    m = (uint64_t)s.len << 56;
    for (size_t i = 0; i < left; i++)
        m |= (uint64_t)p[i] << (8 * i);
    v[3] ^= m;
    sip_round(v);
    v[0] ^= m;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t cs_hash(struct cs_slice s)
{
    pthread_once(&seed.once, make_seed);
    return cs_siphash13(seed.k, s);
}

/* --- Map --- */

struct entry {
    void *value;
    uint32_t len;
    uint8_t key[];
};

struct cs_map {
    struct entry **entries; /* cap of them; behind them, in the same allocation, the hashes */
    uint32_t *hashes;       /* 0: free slot */
    size_t cap;             /* 0 or a power of two */
    size_t len;
    void (*free_value)(void *);
};

#define FIRST_CAP 8

struct cs_map *cs_map_new(void (*free_value)(void *))
{
    struct cs_map *m = cs_calloc(1, sizeof *m);
    if (m != NULL)
        m->free_value = free_value;
    return m;
}

void cs_map_free(struct cs_map *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->cap; i++) {
        if (m->hashes[i] == 0)
            continue;
        if (m->free_value != NULL)
            m->free_value(m->entries[i]->value);
        cs_free(m->entries[i]);
    }
    cs_free(m->entries);
    cs_free(m);
}

size_t cs_map_len(const struct cs_map *m)
{
    return m->len;
}

/* Never 0, which marks a free slot. */
static uint32_t hash_of(struct cs_slice key)
{
    return (uint32_t)cs_hash(key) | UINT32_C(0x80000000);
}

/* Slot of the key, or of the free slot where it would go; cap must not be 0. */
static size_t find(const struct cs_map *m, struct cs_slice key, uint32_t hash)
{
    size_t mask = m->cap - 1, i = hash & mask;
    for (; m->hashes[i] != 0; i = (i + 1) & mask) {
        if (m->hashes[i] != hash)
            continue;
        const struct entry *en = m->entries[i];
        if (en->len == key.len && (key.len == 0 || memcmp(en->key, key.data, key.len) == 0))
            break;
    }
    return i;
}

void *cs_map_get(const struct cs_map *m, struct cs_slice key)
{
    if (m->len == 0)
        return NULL;
    size_t i = find(m, key, hash_of(key));
    return m->hashes[i] != 0 ? m->entries[i]->value : NULL;
}

static bool rehash(struct cs_map *m, size_t cap)
{
    if (cap > UINT32_C(1) << 31 || cap < m->cap) /* more slots than bits of the hash serve nobody */
        return false;
    struct entry **entries = cs_malloc(cap * (sizeof *entries + sizeof(uint32_t)));
    if (entries == NULL)
        return false;
    uint32_t *hashes = (uint32_t *)(void *)(entries + cap);
    memset(hashes, 0, cap * sizeof *hashes);
    for (size_t i = 0; i < m->cap; i++) {
        if (m->hashes[i] == 0)
            continue;
        size_t to = m->hashes[i] & (cap - 1);
        while (hashes[to] != 0)
            to = (to + 1) & (cap - 1);
        hashes[to] = m->hashes[i];
        entries[to] = m->entries[i];
    }
    cs_free(m->entries);
    m->entries = entries;
    m->hashes = hashes;
    m->cap = cap;
    return true;
}

cs_code cs_map_put(struct cs_map *m, struct cs_slice key, void *value)
{
    uint32_t hash = hash_of(key);
    size_t i = 0;

    if (m->cap > 0) {
        i = find(m, key, hash);
        if (m->hashes[i] != 0) {
            void *old = m->entries[i]->value;
            m->entries[i]->value = value;
            if (m->free_value != NULL && old != value)
                m->free_value(old);
            return CS_OK;
        }
    }
    if (key.len > UINT32_MAX - sizeof(struct entry))
        return CS_INTERNAL;
    struct entry *en = cs_malloc(sizeof *en + key.len);
    if (en == NULL)
        return CS_INTERNAL;
    if (m->len + 1 > m->cap / 4 * 3) {
        if (!rehash(m, m->cap == 0 ? FIRST_CAP : m->cap * 2)) {
            cs_free(en);
            return CS_INTERNAL;
        }
        i = find(m, key, hash);
    }
    en->value = value;
    en->len = (uint32_t)key.len;
    if (key.len > 0)
        memcpy(en->key, key.data, key.len);
    m->hashes[i] = hash;
    m->entries[i] = en;
    m->len++;
    return CS_OK;
}

/* Empties slot i and moves back the entries behind it that would not be found any more. */
static void close_gap(struct cs_map *m, size_t i)
{
    size_t mask = m->cap - 1;
    for (size_t j = (i + 1) & mask; m->hashes[j] != 0; j = (j + 1) & mask) {
        size_t home = m->hashes[j] & mask;
        if (((j - home) & mask) < ((j - i) & mask))
            continue; /* its home lies behind the gap */
        m->hashes[i] = m->hashes[j];
        m->entries[i] = m->entries[j];
        i = j;
    }
    m->hashes[i] = 0;
    m->len--;
}

void *cs_map_take(struct cs_map *m, struct cs_slice key)
{
    if (m->len == 0)
        return NULL;
    size_t i = find(m, key, hash_of(key));
    if (m->hashes[i] == 0)
        return NULL;
    struct entry *en = m->entries[i];
    void *value = en->value;
    close_gap(m, i);
    cs_free(en);
    return value;
}

bool cs_map_del(struct cs_map *m, struct cs_slice key)
{
    size_t before = m->len;
    void *value = cs_map_take(m, key);
    if (m->len == before)
        return false;
    if (m->free_value != NULL)
        m->free_value(value);
    return true;
}

bool cs_map_next(const struct cs_map *m, size_t *it, struct cs_slice *key, void **value)
{
    while (*it < m->cap) {
        size_t i = (*it)++;
        if (m->hashes[i] == 0)
            continue;
        if (key != NULL)
            *key = cs_slice_of(m->entries[i]->key, m->entries[i]->len);
        if (value != NULL)
            *value = m->entries[i]->value;
        return true;
    }
    return false;
}

/* --- Vector --- */

cs_code cs_vec_push(struct cs_vec *v, void *p)
{
    if (v->len == v->cap) {
        size_t cap = v->cap == 0 ? 8 : v->cap + v->cap / 2;
        if (cap > SIZE_MAX / sizeof *v->at)
            return CS_INTERNAL;
        void **at = cs_realloc(v->at, cap * sizeof *at);
        if (at == NULL)
            return CS_INTERNAL;
        v->at = at;
        v->cap = cap;
    }
    v->at[v->len++] = p;
    return CS_OK;
}

void cs_vec_free(struct cs_vec *v)
{
    cs_free(v->at);
    *v = (struct cs_vec){0};
}
