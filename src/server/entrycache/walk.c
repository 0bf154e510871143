/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is authorised for what: down from an agent to all of its entries, or up from one entry to the
 * agent. Read lock only.
 */
#include "server/entrycache/internal.h"

/* --- Set of groups already seen --- */
#define SEEN_FEW 16
struct seen {
    const struct group *few[SEEN_FEW];
    size_t count;
    const struct group **slot; /* open addressing once there are more */
    size_t mask;
};

static size_t seen_slot(const struct group **slot, size_t mask, const struct group *g)
{
    size_t i = (size_t)(((uintptr_t)g >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20) & mask;
    while (slot[i] != NULL && slot[i] != g)
        i = (i + 1) & mask;
    return i;
}

static bool seen_grow(struct seen *s)
{
    size_t mask = s->slot == NULL ? SEEN_FEW * 8 - 1 : s->mask * 2 + 1;
    const struct group **slot = cs_calloc(mask + 1, sizeof *slot);
    if (slot == NULL)
        return false;
    if (s->slot == NULL)
        for (size_t i = 0; i < s->count; i++)
            slot[seen_slot(slot, mask, s->few[i])] = s->few[i];
    else
        for (size_t i = 0; i <= s->mask; i++)
            if (s->slot[i] != NULL)
                slot[seen_slot(slot, mask, s->slot[i])] = s->slot[i];
    cs_free(s->slot);
    s->slot = slot;
    s->mask = mask;
    return true;
}

enum { SEEN_NEW, SEEN_BEFORE, SEEN_NO_MEMORY };

static int seen_add(struct seen *s, const struct group *g)
{
    if (s->slot == NULL) {
        for (size_t i = 0; i < s->count; i++)
            if (s->few[i] == g)
                return SEEN_BEFORE;
        if (s->count < SEEN_FEW) {
            s->few[s->count++] = g;
            return SEEN_NEW;
        }
    }
    if ((s->slot == NULL || s->count * 2 > s->mask) && !seen_grow(s))
        return SEEN_NO_MEMORY;
    size_t i = seen_slot(s->slot, s->mask, g);
    if (s->slot[i] == g)
        return SEEN_BEFORE;
    s->slot[i] = g;
    s->count++;
    return SEEN_NEW;
}

/* --- Aliases of an agent --- */
struct subset {
    const struct selset *whole;
};

static bool in_whole(void *arg, struct cs_slice key)
{
    return selset_has(((struct subset *)arg)->whole, key);
}

static bool alias_holds(const struct entry *alias, const struct selset *selectors)
{
    struct cs_buf tmp CS_CLEANUP(cs_buf_free) = {0};
    return entry_each_selector(alias, &tmp, in_whole, &(struct subset){selectors});
}

/* Calls fn for each alias entry the selectors fit, maybe more than once, until it says false. */
static bool each_alias(const struct entrycache *c, const struct selset *selectors,
                       bool (*fn)(void *arg, const struct entry *alias), void *arg)
{
    for (size_t i = 0; i < selset_len(selectors); i++) {
        const struct cs_vec *v = cs_map_get(c->aliases, selset_at(selectors, i));
        for (size_t k = 0; v != NULL && k < v->len; k++)
            if (alias_holds(v->at[k], selectors) && !fn(arg, v->at[k]))
                return false;
    }
    return true;
}

/* --- Down --- */
struct walk {
    const struct entrycache *c;
    struct seen seen;
    struct cs_vec todo; /* groups whose entries are still to be looked through */
    struct entry_list *out;
    bool no_memory;
};

static bool visit_path(struct walk *w, struct cs_slice path, uint32_t hash)
{
    struct group *g = group_find(w->c, path, hash);
    if (g == NULL)
        return true;
    int seen = seen_add(&w->seen, g);
    w->no_memory = seen == SEEN_NO_MEMORY || (seen == SEEN_NEW && cs_vec_push(&w->todo, g) != CS_OK);
    return !w->no_memory;
}

static bool visit_alias(void *arg, const struct entry *alias)
{
    return visit_path(arg, entry_spiffe_path(alias), alias->spiffe_hash);
}

static bool list_reserve(struct entry_list *l, size_t more)
{
    if (l->cap - l->len >= more)
        return true;
    size_t cap = l->len + more > l->cap * 2 ? l->len + more : l->cap * 2;
    struct entry **at = cs_realloc(l->at, cap * sizeof *at);
    if (at == NULL)
        return false;
    l->at = at;
    l->cap = cap;
    return true;
}

static bool take_group(struct walk *w, const struct group *g)
{
    if (!list_reserve(w->out, g->len)) {
        w->no_memory = true;
        return false;
    }
    for (uint32_t i = 0; i < g->len; i++) {
        struct entry *en = g->at[i];
        w->out->at[w->out->len++] = entry_ref(en);
        if (!visit_path(w, entry_spiffe_path(en), en->spiffe_hash))
            return false;
    }
    return true;
}

cs_code entrycache_authorized(struct entrycache *c, struct cs_slice agent_path,
                              const struct selset *selectors, struct entry_list *out, struct cs_err *e)
{
    struct walk w = {.c = c, .out = out};
    pthread_rwlock_rdlock(&c->lock);
    bool ok = visit_path(&w, agent_path, hash32(agent_path)) && each_alias(c, selectors, visit_alias, &w);
    while (ok && w.todo.len > 0)
        ok = take_group(&w, w.todo.at[--w.todo.len]);
    pthread_rwlock_unlock(&c->lock);
    cs_vec_free(&w.todo);
    cs_free(w.seen.slot);
    if (w.no_memory) {
        entry_list_free(out);
        return cs_nomem(e);
    }
    return CS_OK;
}

/* --- Up --- */
struct climb {
    const struct entrycache *c;
    struct cs_slice agent_path;
    const struct selset *selectors;
    struct cs_slice path; /* being looked at */
    struct seen seen;
    struct cs_vec todo; /* groups: parents of entries on the way up */
};

static bool not_this_path(void *arg, const struct entry *alias)
{
    return !cs_slice_eq(entry_spiffe_path(alias), ((struct climb *)arg)->path);
}

static bool is_root(struct climb *w, struct cs_slice path)
{
    if (cs_slice_eq(path, w->agent_path))
        return true;
    w->path = path;
    return !each_alias(w->c, w->selectors, not_this_path, w);
}

static void climb_to(struct climb *w, struct group *g)
{
    if (g != NULL && seen_add(&w->seen, g) == SEEN_NEW && cs_vec_push(&w->todo, g) != CS_OK)
        w->todo.len = 0; /* no memory: not authorised */
}

/* The parents of the entries whose SPIFFE ID is this group's path. */
static void climb_above(struct climb *w, const struct group *g)
{
    const struct table *t = &w->c->by_spiffe;
    struct cs_slice path = cs_slice_of(g->path, g->path_len);
    for (struct entry *en = t->bucket[g->hash & t->mask]; en != NULL; en = en->spiffe_next)
        if (en->spiffe_hash == g->hash && cs_slice_eq(entry_spiffe_path(en), path))
            climb_to(w, en->group);
}

static bool authorized(struct climb *w, const struct entry *en)
{
    climb_to(w, en->group); /* an alias has none: it is nobody's entry */
    while (w->todo.len > 0) {
        struct group *g = w->todo.at[--w->todo.len];
        if (is_root(w, cs_slice_of(g->path, g->path_len)))
            return true;
        climb_above(w, g);
    }
    return false;
}

struct entry *entrycache_lookup(struct entrycache *c, struct cs_slice agent_path,
                                const struct selset *selectors, struct cs_slice id)
{
    struct climb w = {.c = c, .agent_path = agent_path, .selectors = selectors};
    pthread_rwlock_rdlock(&c->lock);
    struct entry *en = entry_find(c, id);
    if (en != NULL)
        en = authorized(&w, en) ? entry_ref(en) : NULL;
    pthread_rwlock_unlock(&c->lock);
    cs_vec_free(&w.todo);
    cs_free(w.seen.slot);
    return en;
}
