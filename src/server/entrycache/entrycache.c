/* SPDX-License-Identifier: Apache-2.0
 *
 * The index: entries by id, by SPIFFE ID and by parent, aliases by selector. Intrusive chains and one
 * vector per parent: about 100 bytes for an entry beside its wire form.
 */
#include "server/entrycache/internal.h"

#define FIRST_BUCKETS 64

static bool table_init(struct table *t)
{
    t->bucket = cs_calloc(FIRST_BUCKETS, sizeof(void *));
    t->mask = FIRST_BUCKETS - 1;
    return t->bucket != NULL;
}

static void alias_set_free(void *p)
{
    cs_vec_free(p);
    cs_free(p);
}

cs_code entrycache_new(const char *trust_domain, struct entrycache **out, struct cs_err *e)
{
    *out = NULL;
    size_t n = strlen(trust_domain);
    struct entrycache *c = cs_calloc(1, sizeof *c + n + 1);
    if (c == NULL)
        return cs_nomem(e);
    memcpy(c->trust_domain, trust_domain, n + 1);
    c->trust_domain_len = n;
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    /* Readers come all the time; a writer must get its turn. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&c->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    c->aliases = cs_map_new(alias_set_free);
    if (!table_init(&c->by_id) || !table_init(&c->by_spiffe) || !table_init(&c->by_parent) ||
        c->aliases == NULL) {
        entrycache_free(c);
        return cs_nomem(e);
    }
    *out = c;
    return CS_OK;
}

static void groups_free(struct table *t)
{
    for (size_t i = 0; t->bucket != NULL && i <= t->mask; i++)
        for (struct group *g = t->bucket[i], *next; g != NULL; g = next) {
            next = g->next;
            cs_free(g->at);
            cs_free(g);
        }
    cs_free(t->bucket);
}

void entrycache_free(struct entrycache *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; c->by_id.bucket != NULL && i <= c->by_id.mask; i++)
        for (struct entry *en = c->by_id.bucket[i], *next; en != NULL; en = next) {
            next = en->id_next;
            entry_unref(en);
        }
    groups_free(&c->by_parent);
    cs_map_free(c->aliases);
    cs_free(c->by_id.bucket);
    cs_free(c->by_spiffe.bucket);
    pthread_rwlock_destroy(&c->lock);
    cs_free(c);
}

/* --- Growing: each rehash is optional, so no memory only means longer chains --- */
static void **twice(const struct table *t, size_t *mask)
{
    if (t->count <= t->mask)
        return NULL;
    *mask = t->mask * 2 + 1;
    return cs_calloc(*mask + 1, sizeof(void *));
}

static void grow_ids(struct table *t)
{
    size_t mask = 0;
    void **bucket = twice(t, &mask);
    if (bucket == NULL)
        return;
    for (size_t i = 0; i <= t->mask; i++)
        for (struct entry *en = t->bucket[i], *next; en != NULL; en = next) {
            next = en->id_next;
            size_t k = hash32(entry_id(en)) & mask;
            en->id_next = bucket[k];
            bucket[k] = en;
        }
    cs_free(t->bucket);
    t->bucket = bucket;
    t->mask = mask;
}

static void spiffe_push(struct entry **head, struct entry *en)
{
    en->spiffe_next = *head;
    en->spiffe_link = head;
    if (*head != NULL)
        (*head)->spiffe_link = &en->spiffe_next;
    *head = en;
}

static void grow_spiffe(struct table *t)
{
    size_t mask = 0;
    void **bucket = twice(t, &mask);
    if (bucket == NULL)
        return;
    for (size_t i = 0; i <= t->mask; i++)
        for (struct entry *en = t->bucket[i], *next; en != NULL; en = next) {
            next = en->spiffe_next;
            spiffe_push((struct entry **)&bucket[en->spiffe_hash & mask], en);
        }
    cs_free(t->bucket);
    t->bucket = bucket;
    t->mask = mask;
}

static void grow_groups(struct table *t)
{
    size_t mask = 0;
    void **bucket = twice(t, &mask);
    if (bucket == NULL)
        return;
    for (size_t i = 0; i <= t->mask; i++)
        for (struct group *g = t->bucket[i], *next; g != NULL; g = next) {
            next = g->next;
            g->next = bucket[g->hash & mask];
            bucket[g->hash & mask] = g;
        }
    cs_free(t->bucket);
    t->bucket = bucket;
    t->mask = mask;
}

/* --- Groups --- */
struct group *group_find(const struct entrycache *c, struct cs_slice path, uint32_t hash)
{
    struct group *g = c->by_parent.bucket[hash & c->by_parent.mask];
    while (g != NULL && !(g->hash == hash && cs_slice_eq(cs_slice_of(g->path, g->path_len), path)))
        g = g->next;
    return g;
}

/* The group of a parent with room for one more entry; made when it is not there. */
static struct group *group_room(struct entrycache *c, struct cs_slice path)
{
    uint32_t hash = hash32(path);
    struct group *g = group_find(c, path, hash);
    bool fresh = g == NULL;
    if (fresh) {
        g = cs_calloc(1, sizeof *g + path.len);
        if (g == NULL)
            return NULL;
        g->hash = hash;
        g->path_len = (uint32_t)path.len;
        memcpy(g->path, path.data, path.len);
    }
    if (g->len == g->cap) {
        uint32_t cap = g->cap < 4 ? (g->cap == 0 ? 1 : 4) : g->cap + g->cap / 2;
        struct entry **at = cs_realloc(g->at, cap * sizeof *at);
        if (at == NULL) {
            if (fresh)
                cs_free(g);
            return NULL;
        }
        g->at = at;
        g->cap = cap;
    }
    if (fresh) {
        void **head = &c->by_parent.bucket[hash & c->by_parent.mask];
        g->next = *head;
        *head = g;
        c->by_parent.count++;
        grow_groups(&c->by_parent);
    }
    return g;
}

static void group_drop_empty(struct entrycache *c, struct group *g)
{
    if (g->len > 0)
        return;
    struct group **link = (struct group **)&c->by_parent.bucket[g->hash & c->by_parent.mask];
    while (*link != g)
        link = &(*link)->next;
    *link = g->next;
    c->by_parent.count--;
    cs_free(g->at);
    cs_free(g);
}

static void group_take(struct entrycache *c, struct entry *en)
{
    struct group *g = en->group;
    struct entry *last = g->at[--g->len];
    g->at[en->group_pos] = last;
    last->group_pos = en->group_pos;
    en->group = NULL;
    group_drop_empty(c, g);
}

/* --- Aliases --- */
struct alias_work {
    struct entrycache *c;
    struct entry *en;
};

static bool alias_add_key(void *arg, struct cs_slice key)
{
    struct alias_work *w = arg;
    struct cs_vec *v = cs_map_get(w->c->aliases, key);
    if (v == NULL) {
        v = cs_calloc(1, sizeof *v);
        if (v == NULL)
            return false;
        if (cs_map_put(w->c->aliases, key, v) != CS_OK) {
            cs_free(v);
            return false;
        }
    }
    return cs_vec_push(v, w->en) == CS_OK;
}

static bool alias_del_key(void *arg, struct cs_slice key)
{
    struct alias_work *w = arg;
    struct cs_vec *v = cs_map_get(w->c->aliases, key);
    if (v == NULL)
        return true;
    for (size_t i = v->len; i-- > 0;)
        if (v->at[i] == w->en)
            v->at[i] = v->at[--v->len];
    if (v->len == 0)
        cs_map_del(w->c->aliases, key);
    return true;
}

/* Without memory for a key: look through all sets. An entry must never stay behind in one. */
static void alias_remove_slowly(struct entrycache *c, const struct entry *en)
{
    struct cs_slice key;
    void *set;
    for (size_t it = 0; cs_map_next(c->aliases, &it, &key, &set);) {
        struct cs_vec *v = set;
        for (size_t i = v->len; i-- > 0;)
            if (v->at[i] == en)
                v->at[i] = v->at[--v->len];
    }
}

static void alias_remove(struct entrycache *c, struct entry *en)
{
    struct cs_buf tmp CS_CLEANUP(cs_buf_free) = {0};
    if (!entry_each_selector(en, &tmp, alias_del_key, &(struct alias_work){c, en}))
        alias_remove_slowly(c, en);
}

static bool alias_insert(struct entrycache *c, struct entry *en)
{
    struct cs_buf tmp CS_CLEANUP(cs_buf_free) = {0};
    if (entry_each_selector(en, &tmp, alias_add_key, &(struct alias_work){c, en}))
        return true;
    alias_remove(c, en);
    return false;
}

/* --- Entries --- */
struct entry *entry_find(const struct entrycache *c, struct cs_slice id)
{
    struct entry *en = c->by_id.bucket[hash32(id) & c->by_id.mask];
    while (en != NULL && !cs_slice_eq(entry_id(en), id))
        en = en->id_next;
    return en;
}

static void unlink_entry(struct entrycache *c, struct entry *en)
{
    struct entry **link = (struct entry **)&c->by_id.bucket[hash32(entry_id(en)) & c->by_id.mask];
    while (*link != en)
        link = &(*link)->id_next;
    *link = en->id_next;
    c->by_id.count--;
    *en->spiffe_link = en->spiffe_next;
    if (en->spiffe_next != NULL)
        en->spiffe_next->spiffe_link = en->spiffe_link;
    c->by_spiffe.count--;
    if (en->group != NULL)
        group_take(c, en);
    else
        alias_remove(c, en);
    entry_unref(en);
}

static void link_entry(struct entrycache *c, struct entry *en, struct group *g)
{
    void **head = &c->by_id.bucket[hash32(entry_id(en)) & c->by_id.mask];
    en->id_next = *head;
    *head = en;
    c->by_id.count++;
    en->spiffe_hash = hash32(entry_spiffe_path(en));
    spiffe_push((struct entry **)&c->by_spiffe.bucket[en->spiffe_hash & c->by_spiffe.mask], en);
    c->by_spiffe.count++;
    if (g != NULL) {
        en->group = g;
        en->group_pos = g->len;
        g->at[g->len++] = en;
    }
    grow_ids(&c->by_id);
    grow_spiffe(&c->by_spiffe);
}

static bool is_ours(const struct entrycache *c, const struct entry *en)
{
    struct cs_slice td = cs_slice_of(c->trust_domain, c->trust_domain_len);
    return cs_slice_eq(entry_span(en, en->trust_domain), td) &&
           cs_slice_eq(entry_span(en, en->parent_domain), td);
}

static cs_code put_locked(struct entrycache *c, struct entry *en, struct cs_err *e)
{
    bool alias = cs_slice_is(entry_parent_path(en), SERVER_PATH);
    struct group *g = NULL;
    if (alias ? !alias_insert(c, en) : (g = group_room(c, entry_parent_path(en))) == NULL)
        return cs_nomem(e);
    struct entry *old = entry_find(c, entry_id(en));
    /* The old entry may be the last of g: count the newcomer first. */
    link_entry(c, entry_ref(en), g);
    if (old != NULL)
        unlink_entry(c, old);
    return CS_OK;
}

cs_code entrycache_put(struct entrycache *c, struct entry *en, struct cs_err *e)
{
    CS_AUTO(entry) mine = en;
    if (!is_ours(c, mine)) {
        entrycache_remove(c, entry_id(mine));
        return CS_OK;
    }
    pthread_rwlock_wrlock(&c->lock);
    cs_code code = put_locked(c, mine, e);
    pthread_rwlock_unlock(&c->lock);
    return code;
}

void entrycache_remove(struct entrycache *c, struct cs_slice id)
{
    pthread_rwlock_wrlock(&c->lock);
    struct entry *en = entry_find(c, id);
    if (en != NULL)
        unlink_entry(c, en);
    pthread_rwlock_unlock(&c->lock);
}

void entrycache_sweep(struct entrycache *c, bool (*gone)(void *arg, struct cs_slice id), void *arg)
{
    pthread_rwlock_wrlock(&c->lock);
    for (size_t i = 0; i <= c->by_id.mask; i++)
        for (struct entry *en = c->by_id.bucket[i], *next; en != NULL; en = next) {
            next = en->id_next;
            if (gone(arg, entry_id(en)))
                unlink_entry(c, en);
        }
    pthread_rwlock_unlock(&c->lock);
}

size_t entrycache_len(const struct entrycache *c)
{
    struct entrycache *m = (struct entrycache *)c;
    pthread_rwlock_rdlock(&m->lock);
    size_t n = c->by_id.count;
    pthread_rwlock_unlock(&m->lock);
    return n;
}

struct entry *entrycache_get(struct entrycache *c, struct cs_slice id)
{
    pthread_rwlock_rdlock(&c->lock);
    struct entry *en = entry_find(c, id);
    if (en != NULL)
        entry_ref(en);
    pthread_rwlock_unlock(&c->lock);
    return en;
}

struct entry_rights entrycache_rights(struct entrycache *c, struct cs_slice spiffe_path)
{
    struct entry_rights rights = {false, false};
    uint32_t hash = hash32(spiffe_path);
    pthread_rwlock_rdlock(&c->lock);
    for (struct entry *en = c->by_spiffe.bucket[hash & c->by_spiffe.mask]; en != NULL; en = en->spiffe_next) {
        if (en->spiffe_hash != hash || !cs_slice_eq(entry_spiffe_path(en), spiffe_path))
            continue;
        rights.admin |= (en->flags & ENTRY_IS_ADMIN) != 0;
        rights.downstream |= (en->flags & ENTRY_IS_DOWNSTREAM) != 0;
    }
    pthread_rwlock_unlock(&c->lock);
    return rights;
}
