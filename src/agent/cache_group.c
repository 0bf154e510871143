/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cache_impl.h"

#include "base/mem.h"

#include <stdlib.h>

/* --- Matching --- */

static int by_id(const void *a, const void *b)
{
    const struct agent_record *x = *(struct agent_record *const *)a;
    const struct agent_record *y = *(struct agent_record *const *)b;
    return strcmp(x->entry->id, y->entry->id);
}

/* Records whose selectors are all in the set, in the order of IDs. */
static cs_code match(const struct agent_selset *set, struct cs_vec *out)
{
    for (size_t i = 0; i < set->count; i++) {
        for (struct agent_record *r = set->at[i]->records; r != NULL; r = r->next)
            if (agent_selset_contains(set, &r->set) && cs_vec_push(out, r) != CS_OK)
                return CS_INTERNAL;
    }
    if (out->len > 1)
        qsort(out->at, out->len, sizeof(void *), by_id);
    return CS_OK;
}

bool agent_record_used(const struct agent_record *r)
{
    if (r->home == NULL)
        return false;
    for (size_t i = 0; i < agent_selector_group_count(r->home); i++)
        if (agent_selset_contains(&((struct agent_group *)r->home->groups->at[i])->set, &r->set))
            return true;
    return false;
}

cs_code agent_cache_match(struct agent_cache *c, const char *const *selectors, size_t count,
                          const struct agent_entry ***out, size_t *out_count, struct cs_err *e)
{
    *out = NULL;
    *out_count = 0;
    CS_CLEANUP(agent_selset_free) struct agent_selset set = {0};
    CS_CLEANUP(cs_vec_free) struct cs_vec records = {0};
    pthread_mutex_lock(&c->lock);
    cs_code rc = agent_selset_find(&c->selectors, selectors, count, &set, e);
    if (rc == CS_OK && match(&set, &records) != CS_OK)
        rc = cs_nomem(e);
    const struct agent_entry **list = rc == CS_OK ? cs_calloc(records.len + 1, sizeof *list) : NULL;
    for (size_t i = 0; list != NULL && i < records.len; i++)
        list[i] = agent_entry_ref(((struct agent_record *)records.at[i])->entry);
    pthread_mutex_unlock(&c->lock);
    CS_TRY(rc);
    if (list == NULL)
        return cs_nomem(e);
    *out = list;
    *out_count = records.len;
    return CS_OK;
}

/* --- Nearest --- */

/* How many of the record's selectors are not in the set. */
static uint32_t lacking(const struct agent_selset *set, const struct agent_record *r)
{
    size_t i = 0;
    uint32_t missing = 0;
    for (size_t j = 0; j < r->set.count; j++) {
        while (i < set->count && (uintptr_t)set->at[i] < (uintptr_t)r->set.at[j])
            i++;
        missing += i == set->count || set->at[i] != r->set.at[j];
    }
    return missing;
}

static bool has_text(const char *const *texts, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(texts[i], text) == 0)
            return true;
    return false;
}

/* Lock held; a reference. */
static const struct agent_entry *find_nearest(struct agent_cache *c, const struct agent_selset *set)
{
    void *p;
    const struct agent_record *best = NULL;
    uint32_t best_missing = UINT32_MAX;
    for (size_t it = 0; (p = agent_index_next(&c->records, &it)) != NULL;) {
        const struct agent_record *r = p;
        uint32_t missing = lacking(set, r);
        if (missing < r->set.count && missing < best_missing) {
            best = r;
            best_missing = missing;
        }
    }
    return best != NULL ? agent_entry_ref(best->entry) : NULL;
}

void agent_cache_nearest(struct agent_cache *c, const char *const *selectors, size_t count,
                         struct agent_nearest *out)
{
    *out = (struct agent_nearest){0};
    CS_CLEANUP(agent_selset_free) struct agent_selset set = {0};
    pthread_mutex_lock(&c->lock);
    if (agent_selset_find(&c->selectors, selectors, count, &set, NULL) == CS_OK)
        out->entry = find_nearest(c, &set);
    pthread_mutex_unlock(&c->lock);
    if (out->entry == NULL)
        return;
    out->missing = cs_calloc(out->entry->selector_count, sizeof *out->missing);
    if (out->missing == NULL) {
        agent_nearest_free(out);
        return;
    }
    for (uint32_t i = 0; i < out->entry->selector_count; i++) {
        out->missing[i] = !has_text(selectors, count, out->entry->selectors[i]);
        out->missing_count += out->missing[i];
    }
}

void agent_nearest_free(struct agent_nearest *n)
{
    agent_entry_unref(n->entry);
    cs_free(n->missing);
    *n = (struct agent_nearest){0};
}

/* --- Updates --- */

static void add_federated(struct agent_cache *c, const struct agent_entry *en, struct agent_update *u)
{
    for (uint32_t i = 0; i < en->federates_count; i++) {
        struct spiffe_bundle *b = cs_map_get_str(c->bundles, en->federates_with[i]);
        if (b == NULL) {
            cs_log_warn(&c->cfg.log, "Federated bundle contents missing", KV("entry_id", en->id),
                        KV("federated_bundle", en->federates_with[i]), KV("spiffe_id", en->spiffe_id));
            continue;
        }
        size_t at = 0;
        while (at < u->federated_count && strcmp(u->federated[at]->trust_domain, b->trust_domain) < 0)
            at++;
        if (at < u->federated_count && strcmp(u->federated[at]->trust_domain, b->trust_domain) == 0)
            continue;
        memmove(u->federated + at + 1, u->federated + at, (u->federated_count - at) * sizeof *u->federated);
        u->federated[at] = spiffe_bundle_ref(b);
        u->federated_count++;
    }
}

/* NULL when memory is out. *missing: a record has no SVID yet. */
static struct agent_update *make_update(struct agent_cache *c, const struct agent_selset *set, bool *missing)
{
    CS_CLEANUP(cs_vec_free) struct cs_vec records = {0};
    if (match(set, &records) != CS_OK)
        return NULL;
    size_t federated = 0;
    for (size_t i = 0; i < records.len; i++)
        federated += ((struct agent_record *)records.at[i])->entry->federates_count;
    struct agent_update *u = agent_update_new(records.len, federated);
    if (u == NULL)
        return NULL;
    *missing = false;
    for (size_t i = 0; i < records.len; i++) {
        const struct agent_record *r = records.at[i];
        if (r->svid == NULL) {
            *missing = true;
            continue;
        }
        u->identities[u->count++] =
            (struct agent_identity){.entry = agent_entry_ref(r->entry), .svid = agent_svid_ref(r->svid)};
        add_federated(c, r->entry, u);
    }
    struct spiffe_bundle *own = cs_map_get_str(c->bundles, c->cfg.trust_domain);
    u->bundle = own != NULL ? spiffe_bundle_ref(own) : NULL;
    return u;
}

cs_code agent_cache_update_of(struct agent_cache *c, const char *const *selectors, size_t count,
                              struct agent_update **out, struct cs_err *e)
{
    *out = NULL;
    bool missing = false;
    CS_CLEANUP(agent_selset_free) struct agent_selset set = {0};
    pthread_mutex_lock(&c->lock);
    cs_code rc = agent_selset_find(&c->selectors, selectors, count, &set, e);
    if (rc == CS_OK && (*out = make_update(c, &set, &missing)) == NULL)
        rc = cs_nomem(e);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

/* --- Groups --- */

static void forget_update(struct agent_group *g)
{
    agent_update_unref(g->update);
    g->update = NULL;
}

static void group_changed(struct agent_group *g, struct cs_vec *told, bool tell)
{
    forget_update(g);
    if (tell && !g->told)
        g->told = cs_vec_push(told, g) == CS_OK; /* no memory: they hear of the next change */
}

void agent_groups_of_record(struct agent_record *r, struct cs_vec *told, bool tell)
{
    if (r->home == NULL)
        return;
    for (size_t i = 0; i < agent_selector_group_count(r->home); i++) {
        struct agent_group *g = r->home->groups->at[i];
        if (agent_selset_contains(&g->set, &r->set))
            group_changed(g, told, tell);
    }
}

void agent_groups_all(struct agent_cache *c, struct cs_vec *told)
{
    void *g;
    struct cs_slice key;
    for (size_t it = 0; cs_map_next(c->groups, &it, &key, &g);)
        group_changed(g, told, true);
}

static void deliver(struct agent_subscription *s, struct agent_update *u)
{
    bool idle = s->pending == NULL;
    agent_update_unref(s->pending);
    s->pending = agent_update_ref(u);
    if (idle && !s->notify(s->arg)) { /* what is pending means that somebody was told of it */
        agent_update_unref(s->pending);
        s->pending = NULL;
        return;
    }
    s->started = true;
}

/* A first update is complete. Later ones may lack an SVID that was just dropped or is new, but never all of
 * them: that would tell the workload that it is nobody. */
static void tell_group(struct agent_cache *c, struct agent_group *g)
{
    bool missing = false;
    g->told = false;
    g->update = make_update(c, &g->set, &missing);
    if (g->update == NULL)
        return;
    for (struct agent_subscription *s = g->first; s != NULL; s = s->next)
        if (!missing || (s->started && g->update->count > 0))
            deliver(s, g->update);
    if (missing)
        forget_update(g);
}

void agent_groups_tell(struct agent_cache *c, struct cs_vec *told)
{
    for (size_t i = 0; i < told->len; i++)
        tell_group(c, told->at[i]);
    cs_vec_free(told);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The selectors in order, each with a NUL behind it: the same set, the same text. */
static bool canonical(const struct agent_selset *set, struct cs_buf *out)
{
    const char **texts = cs_malloc((set->count + 1) * sizeof *texts);
    if (texts == NULL)
        return false;
    for (size_t i = 0; i < set->count; i++)
        texts[i] = set->at[i]->text;
    if (set->count > 1)
        qsort(texts, set->count, sizeof *texts, by_text);
    for (size_t i = 0; i < set->count; i++)
        cs_buf_add(out, texts[i], strlen(texts[i]) + 1);
    cs_free(texts);
    return cs_buf_ok(out);
}

void agent_group_free(struct agent_cache *c, struct agent_group *g)
{
    for (size_t i = 0; i < g->set.count; i++)
        agent_selector_remove_group(g->set.at[i], g);
    agent_selset_release(&c->selectors, &g->set);
    forget_update(g);
    cs_free(g);
}

/* Takes the set over when it makes the group. */
static struct agent_group *group_new(struct agent_cache *c, struct agent_selset *set, struct cs_slice key)
{
    struct agent_group *g = cs_calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    bool good = true;
    for (size_t i = 0; good && i < set->count; i++)
        good = agent_selector_add_group(set->at[i], g) == CS_OK;
    if (!good || cs_map_put(c->groups, key, g) != CS_OK) {
        for (size_t i = 0; i < set->count; i++)
            agent_selector_remove_group(set->at[i], g);
        cs_free(g);
        return NULL;
    }
    g->set = *set;
    *set = (struct agent_selset){0};
    return g;
}

static cs_code find_group(struct agent_cache *c, const char *const *selectors, size_t count,
                          struct agent_group **out, struct cs_err *e)
{
    struct agent_selset set;
    CS_TRY(agent_selset_intern(&c->selectors, selectors, count, &set, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf key = {0};
    *out = NULL;
    if (canonical(&set, &key)) {
        *out = cs_map_get(c->groups, cs_buf_slice(&key));
        if (*out == NULL)
            *out = group_new(c, &set, cs_buf_slice(&key));
    }
    agent_selset_release(&c->selectors, &set);
    return *out != NULL ? CS_OK : cs_nomem(e);
}

static void leave_group(struct agent_cache *c, struct agent_group *g)
{
    if (g->first != NULL)
        return;
    CS_CLEANUP(cs_buf_free) struct cs_buf key = {0};
    if (canonical(&g->set, &key)) {
        (void)cs_map_take(c->groups, cs_buf_slice(&key));
        agent_group_free(c, g);
    }
    /* Without memory for the key the group stays, empty, until the cache goes or it is used again. */
}

/* --- Subscriptions --- */

static void touch(struct agent_cache *c, const struct agent_selset *set)
{
    CS_CLEANUP(cs_vec_free) struct cs_vec records = {0};
    if (match(set, &records) != CS_OK)
        return;
    int64_t now = cs_mono_ns(c->cfg.clock);
    for (size_t i = 0; i < records.len; i++)
        ((struct agent_record *)records.at[i])->used = now;
}

/* The first update if it is complete, else a word to whoever fetches. */
static void start(struct agent_cache *c, struct agent_subscription *s, bool *waiting)
{
    bool missing = false;
    struct agent_group *g = s->group;
    if (g->update == NULL)
        g->update = make_update(c, &g->set, &missing);
    *waiting = missing || g->update == NULL;
    if (!*waiting) {
        s->pending = agent_update_ref(g->update);
        s->started = true;
        return;
    }
    forget_update(g);
    c->changed = true;
    c->cfg.wanted(c->cfg.arg);
}

cs_code agent_cache_subscribe(struct agent_cache *c, const char *const *selectors, size_t count,
                              bool (*notify)(void *arg), void *arg, struct agent_subscription **out,
                              bool *waiting, struct cs_err *e)
{
    *out = NULL;
    *waiting = false;
    struct agent_subscription *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->cache = c;
    s->notify = notify;
    s->arg = arg;
    pthread_mutex_lock(&c->lock);
    cs_code rc = find_group(c, selectors, count, &s->group, e);
    if (rc == CS_OK) {
        s->next = s->group->first;
        if (s->next != NULL)
            s->next->prev = s;
        s->group->first = s;
        touch(c, &s->group->set);
        start(c, s, waiting);
    }
    pthread_mutex_unlock(&c->lock);
    if (rc != CS_OK) {
        cs_free(s);
        return rc;
    }
    *out = s;
    return CS_OK;
}

struct agent_update *agent_subscription_take(struct agent_subscription *s)
{
    pthread_mutex_lock(&s->cache->lock);
    struct agent_update *u = s->pending;
    s->pending = NULL;
    pthread_mutex_unlock(&s->cache->lock);
    return u;
}

static bool copy_texts(const struct agent_selset *set, struct cs_arena *arena, const char **out)
{
    for (size_t i = 0; i < set->count; i++)
        if ((out[i] = cs_arena_strdup(arena, set->at[i]->text)) == NULL)
            return false;
    if (set->count > 1)
        qsort(out, set->count, sizeof *out, by_text);
    return true;
}

cs_code agent_subscription_selectors(const struct agent_subscription *s, struct cs_arena *arena,
                                     const char ***out, size_t *count, struct cs_err *e)
{
    const struct agent_selset *set = &s->group->set; /* does not change as long as the group is there */
    *out = cs_arena_alloc(arena, (set->count + 1) * sizeof **out);
    *count = set->count;
    return *out != NULL && copy_texts(set, arena, *out) ? CS_OK : cs_nomem(e);
}

void agent_subscription_free(struct agent_subscription *s)
{
    if (s == NULL)
        return;
    struct agent_cache *c = s->cache;
    pthread_mutex_lock(&c->lock);
    if (s->next != NULL)
        s->next->prev = s->prev;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        s->group->first = s->next;
    leave_group(c, s->group);
    c->changed = true;
    pthread_mutex_unlock(&c->lock);
    agent_update_unref(s->pending);
    cs_free(s);
}
