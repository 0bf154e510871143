/* SPDX-License-Identifier: Apache-2.0
 *
 * The caches follow the datastore. Our own changes come through the datastore's observer, in the order
 * of the commits; those of another server on the same database through the events tables. A change
 * that could not be taken over for want of memory asks for everything to be read again.
 *
 * An event is of another server unless the observer has brought it. A change of ours may also be found in
 * the table first, between its commit and the observer's turn: it is then read like another's, and the
 * observer, coming late with what may be old by then, is not listened to.
 */
#include "base/coll.h"
#include "server/api/convert.h"
#include "server/api/internal.h"
#include "server/bundlestore.h"

/* Rows of another server's changes fetched at once. */
#define FETCH_CHUNK 100
/* Events are kept for servers that were away; SPIRE's default. */
#define PRUNE_EVENTS_S (12 * 3600)
/* An expired join token still says so for a while, instead of being unknown. */
#define KEEP_TOKENS_S (24 * 3600)
/* Own changes that may come in the way of one look at the database. */
#define ASK_TRIES 5

/* --- One change into the caches --- */
static cs_code put_entry(struct api *a, const struct ds_entry *in, struct cs_err *e)
{
    struct cs_buf wire CS_CLEANUP(cs_buf_free) = {0};
    struct entry *en = NULL;
    /* Entries with malformed IDs are left alone, as SPIRE leaves them out of its cache. */
    cs_code code = convert_entry_write(&wire, in, e);
    if (code == CS_OK)
        code = entry_new(cs_buf_slice(&wire), &en, e);
    if (code == CS_OK)
        return entrycache_put(a->entries, en, e);
    entrycache_remove(a->entries, cs_slice_str(in->entry_id));
    return code == CS_INVALID ? CS_OK : code;
}

/* Who wrote this is known: no need to read it again. False: it was read already. */
static bool own_event(struct api_follow *f, uint64_t event)
{
    if (event == 0)
        return true;
    if (event <= f->seen)
        return false;
    if (event == f->seen + 1)
        f->seen = event;
    else if (f->n > 0 && f->own[f->n - 1].last + 1 == event)
        f->own[f->n - 1].last = event;
    else if (f->n < API_OWN_RANGES)
        f->own[f->n++] = (struct api_range){event, event};
    return true; /* without room it is read again as if it were of another server */
}

static bool is_own(const struct api_follow *f, uint64_t event)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->own[i].first <= event && event <= f->own[i].last)
            return true;
    return false;
}

static void followed(struct api_follow *f, uint64_t event)
{
    size_t kept = 0;
    f->seen = event;
    for (size_t i = 0; i < f->n; i++)
        if (f->own[i].last > event)
            f->own[kept++] = f->own[i];
    f->n = kept;
}

static cs_code put_node(struct api *a, const struct ds_node *n, struct cs_err *e)
{
    const struct agentcache_node node = {.serial = n->serial_number,
                                         .new_serial = n->new_serial_number,
                                         .expires_at = n->expires_at,
                                         .new_expires_at = n->new_expires_at,
                                         .can_reattest = n->can_reattest};
    return agentcache_set_node(a->agents, cs_slice_str(n->spiffe_id), &node, e);
}

static cs_code selector_keys(struct cs_arena *arena, const struct ds_selector *s, size_t n,
                             struct selset **out, struct cs_err *e)
{
    struct cs_slice *keys = cs_arena_alloc(arena, (n + 1) * sizeof *keys);
    if (keys == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        const char *key = cs_arena_printf(arena, "%s:%s", s[i].type, s[i].value);
        if (key == NULL)
            return cs_nomem(e);
        keys[i] = cs_slice_str(key);
    }
    return selset_new(keys, n, out, e);
}

static cs_code put_selectors(struct api *a, const char *id, const struct ds_selector *s, size_t n,
                             struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    CS_AUTO(selset) set = NULL;
    cs_code code = arena == NULL ? cs_nomem(e) : selector_keys(arena, s, n, &set, e);
    if (code == CS_OK)
        return agentcache_set_selectors(a->agents, cs_slice_str(id), set, e);
    agentcache_remove(a->agents, cs_slice_str(id));
    return code;
}

static cs_code apply(struct api *a, const struct ds_change *c, struct cs_err *e)
{
    switch (c->kind) {
    case DS_CHANGE_ENTRY:
        if (!c->deleted)
            return put_entry(a, c->entry, e);
        entrycache_remove(a->entries, cs_slice_str(c->id));
        return CS_OK;
    case DS_CHANGE_NODE:
        if (!c->deleted)
            return put_node(a, c->node, e);
        agentcache_remove(a->agents, cs_slice_str(c->id));
        return CS_OK;
    case DS_CHANGE_NODE_SELECTORS:
        return put_selectors(a, c->id, c->selectors, c->n_selectors, e);
    case DS_CHANGE_BUNDLE: /* the bundle store has its own way */
        return CS_OK;
    }
    return CS_OK;
}

void api_store_observe(void *arg, const struct ds_change *changes, size_t n)
{
    struct api *a = arg;
    pthread_mutex_lock(&a->store_lock);
    for (size_t i = 0; i < n; i++) {
        enum ds_event_kind kind = changes[i].kind == DS_CHANGE_ENTRY ? DS_EVENT_ENTRY : DS_EVENT_NODE;
        a->node_changes += kind == DS_EVENT_NODE;
        if (own_event(&a->follow[kind], changes[i].event) && apply(a, &changes[i], NULL) != CS_OK)
            a->reload = true;
    }
    pthread_mutex_unlock(&a->store_lock);
}

/* --- Reading everything --- */
struct load {
    struct api *api;
    struct cs_map *entries, *nodes; /* ids that are there; NULL: the caches were empty before */
};

static void load_free(struct load *l)
{
    cs_map_free(l->entries);
    cs_map_free(l->nodes);
}

static cs_code load_entry(void *arg, const struct ds_entry *in, struct cs_err *e)
{
    struct load *l = arg;
    if (l->entries != NULL && cs_map_put(l->entries, cs_slice_str(in->entry_id), l) != CS_OK)
        return cs_nomem(e);
    return put_entry(l->api, in, e);
}

static cs_code load_node(void *arg, const struct ds_node *n, struct cs_err *e)
{
    struct load *l = arg;
    if (l->nodes != NULL && cs_map_put(l->nodes, cs_slice_str(n->spiffe_id), l) != CS_OK)
        return cs_nomem(e);
    CS_TRY(put_node(l->api, n, e));
    return put_selectors(l->api, n->spiffe_id, n->selectors, n->n_selectors, e);
}

static bool entry_is_gone(void *arg, struct cs_slice id)
{
    const struct load *l = arg;
    return cs_map_get(l->entries, id) == NULL;
}

static bool node_is_gone(void *arg, struct cs_slice id)
{
    const struct load *l = arg;
    return cs_map_get(l->nodes, id) == NULL;
}

static cs_code last_event(struct api *a, enum ds_event_kind kind, struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, SIZE_MAX);
    struct ds_event *events = NULL;
    size_t n = 0;
    if (arena == NULL)
        return cs_nomem(e);
    CS_TRY(ds_event_list(a->cfg.ds, arena, kind, a->follow[kind].seen, 0, &events, &n, e));
    if (n > 0)
        followed(&a->follow[kind], events[n - 1].id);
    return CS_OK;
}

static cs_code load_locked(struct api *a, struct load *l, struct cs_err *e)
{
    /* Events first: one that comes in while we read is then handled again, not lost. */
    CS_TRY(last_event(a, DS_EVENT_ENTRY, e));
    CS_TRY(last_event(a, DS_EVENT_NODE, e));
    CS_TRY(ds_entries_each(a->cfg.ds, load_entry, l, e));
    CS_TRY(ds_nodes_each(a->cfg.ds, load_node, l, e));
    if (l->entries != NULL)
        entrycache_sweep(a->entries, entry_is_gone, l);
    if (l->nodes != NULL)
        agentcache_sweep(a->agents, node_is_gone, l);
    a->reload = false;
    return CS_OK;
}

cs_code api_store_load(struct api *a, struct cs_err *e)
{
    CS_CLEANUP(load_free) struct load l = {.api = a};
    if (entrycache_len(a->entries) > 0 && (l.entries = cs_map_new(NULL)) == NULL)
        return cs_nomem(e);
    if (agentcache_len(a->agents) > 0 && (l.nodes = cs_map_new(NULL)) == NULL)
        return cs_nomem(e);
    pthread_mutex_lock(&a->store_lock);
    cs_code code = load_locked(a, &l, e);
    pthread_mutex_unlock(&a->store_lock);
    return code;
}

/* --- What another server changed --- */
static cs_code refetch_entries(struct api *a, struct cs_arena *arena, const char *const *ids, size_t n,
                               struct cs_err *e)
{
    struct ds_entry *found[FETCH_CHUNK] = {NULL};
    CS_TRY(ds_entry_fetch_many(a->cfg.ds, arena, ids, n, found, e));
    for (size_t i = 0; i < n; i++) {
        if (found[i] != NULL)
            CS_TRY(put_entry(a, found[i], e));
        else
            entrycache_remove(a->entries, cs_slice_str(ids[i]));
    }
    return CS_OK;
}

static cs_code put_found(struct api *a, const struct ds_node *n, struct cs_err *e)
{
    CS_TRY(put_node(a, n, e));
    return put_selectors(a, n->spiffe_id, n->selectors, n->n_selectors, e);
}

/* There is no such node: deleted, or about to be created, of which its selectors are the first sign. */
static cs_code refetch_selectors(struct api *a, struct cs_arena *arena, const char *id, struct cs_err *e)
{
    struct ds_selector *s = NULL;
    size_t n = 0;
    agentcache_remove(a->agents, cs_slice_str(id));
    CS_TRY(ds_node_get_selectors(a->cfg.ds, arena, id, &s, &n, e));
    return n > 0 ? put_selectors(a, id, s, n, e) : CS_OK;
}

static cs_code refetch_nodes(struct api *a, struct cs_arena *arena, const char *const *ids, size_t n,
                             struct cs_err *e)
{
    struct ds_node *found[FETCH_CHUNK] = {NULL};
    CS_TRY(ds_node_fetch_many(a->cfg.ds, arena, ids, n, found, e));
    for (size_t i = 0; i < n; i++) {
        if (found[i] == NULL)
            CS_TRY(refetch_selectors(a, arena, ids[i], e));
        else
            CS_TRY(put_found(a, found[i], e));
    }
    return CS_OK;
}

/* Of the first n events those of others, at most a chunk of them. Returns how many; *at moves on. */
static size_t pick(const struct api_follow *f, const struct ds_event *events, size_t n, size_t *at,
                   const char *ids[FETCH_CHUNK])
{
    size_t some = 0;
    for (; *at < n && some < FETCH_CHUNK; ++*at)
        if (!is_own(f, events[*at].id))
            ids[some++] = events[*at].subject;
    return some;
}

static cs_code refetch(struct api *a, enum ds_event_kind kind, const struct ds_event *events, size_t n,
                       struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    const char *ids[FETCH_CHUNK];
    size_t at = 0;
    for (size_t some; (some = pick(&a->follow[kind], events, n, &at, ids)) > 0;) {
        CS_TRY((kind == DS_EVENT_ENTRY ? refetch_entries : refetch_nodes)(a, arena, ids, some, e));
        cs_arena_reset(arena);
    }
    return CS_OK;
}

static cs_code follow(struct api *a, enum ds_event_kind kind, struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, SIZE_MAX);
    struct ds_event *events = NULL;
    size_t n = 0;
    if (arena == NULL)
        return cs_nomem(e);
    CS_TRY(ds_event_list(a->cfg.ds, arena, kind, a->follow[kind].seen, 0, &events, &n, e));
    if (n == 0)
        return CS_OK;
    CS_TRY(refetch(a, kind, events, n, e));
    followed(&a->follow[kind], events[n - 1].id);
    return CS_OK;
}

static cs_code follow_others(struct api *a, struct cs_err *e)
{
    pthread_mutex_lock(&a->store_lock);
    cs_code code = follow(a, DS_EVENT_ENTRY, e);
    if (code == CS_OK)
        code = follow(a, DS_EVENT_NODE, e);
    pthread_mutex_unlock(&a->store_lock);
    return code;
}

static cs_code refresh(struct api *a, struct cs_err *e)
{
    /* Asked before the tables are read: what is written meanwhile is for the next time. */
    int64_t version = 0;
    CS_TRY(ds_foreign_version(a->cfg.ds, &version, e));
    bool others = version != a->seen_version;
    pthread_mutex_lock(&a->store_lock);
    bool reload = a->reload;
    pthread_mutex_unlock(&a->store_lock);
    if (reload)
        CS_TRY(api_store_load(a, e));
    else if (others)
        CS_TRY(follow_others(a, e));
    /* Bundles leave no events. */
    if (others && a->cfg.bundles != NULL && bundlestore_reload(a->cfg.bundles, e) != CS_OK)
        return cs_wrap(e, "unable to load bundles");
    a->seen_version = version;
    return CS_OK;
}

/* --- One agent, now --- */
cs_code api_store_ask(struct api *a, const char *spiffe_id, struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    for (int try = 0; try < ASK_TRIES; try++) {
        struct ds_node *found = NULL;
        pthread_mutex_lock(&a->store_lock);
        uint64_t before = a->node_changes;
        pthread_mutex_unlock(&a->store_lock);
        CS_TRY(ds_node_fetch_many(a->cfg.ds, arena, &spiffe_id, 1, &found, e));
        pthread_mutex_lock(&a->store_lock);
        bool current = a->node_changes == before; /* else what was read may be older than the cache */
        cs_code code = CS_OK;
        if (current && found != NULL)
            code = put_found(a, found, e);
        else if (current)
            agentcache_remove_attested(a->agents, cs_slice_str(spiffe_id));
        pthread_mutex_unlock(&a->store_lock);
        if (current)
            return code;
    }
    return CS_OK;
}

void api_refresh(struct api *a)
{
    struct cs_err e = {0};
    if (refresh(a, &e) != CS_OK)
        cs_log_error(&a->log, "Failed to reload entry cache", KV_ERR(&e));
}

void api_prune(struct api *a)
{
    struct cs_err e = {0};
    const struct api_config *cfg = &a->cfg;
    int64_t now = cs_now_s(cfg->clock);
    int64_t events = cfg->prune_events_older_than_s > 0 ? cfg->prune_events_older_than_s : PRUNE_EVENTS_S;
    if (ds_entry_prune(cfg->ds, now, &e) != CS_OK)
        cs_log_error(&a->log, "Failed pruning registration entries", KV_ERR(&e));
    if (ds_token_prune(cfg->ds, now - KEEP_TOKENS_S, &e) != CS_OK)
        cs_log_error(&a->log, "Failed pruning join tokens", KV_ERR(&e));
    if (cfg->prune_nodes_expired_for_s > 0 &&
        ds_node_prune(cfg->ds, now - cfg->prune_nodes_expired_for_s, cfg->prune_nontofu_nodes,
                      cfg->prune_nodes_batch, &e) != CS_OK)
        cs_log_error(&a->log, "Failed during periodic pruning of expired nodes", KV_ERR(&e));
    if (ds_event_prune(cfg->ds, DS_EVENT_ENTRY, events, &e) != CS_OK ||
        ds_event_prune(cfg->ds, DS_EVENT_NODE, events, &e) != CS_OK)
        cs_log_error(&a->log, "Failed to prune events", KV_ERR(&e));
}
