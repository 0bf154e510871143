/* SPDX-License-Identifier: Apache-2.0
 *
 * The caches follow the datastore. Our own changes come through the datastore's observer, in the order
 * of the commits; those of another server on the same database through the events tables. A change
 * that could not be taken over for want of memory asks for everything to be read again.
 */
#include "base/coll.h"
#include "server/api/convert.h"
#include "server/api/internal.h"

/* Rows of another server's changes fetched at once. */
#define FETCH_CHUNK 100
/* Events are kept for servers that were away; SPIRE's default. */
#define PRUNE_EVENTS_S (12 * 3600)
/* An expired join token still says so for a while, instead of being unknown. */
#define KEEP_TOKENS_S (24 * 3600)

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
        if (apply(a, &changes[i], NULL) != CS_OK)
            a->reload = true;
        if (changes[i].kind == DS_CHANGE_ENTRY)
            a->own_changes[DS_EVENT_ENTRY]++;
        else if (changes[i].kind != DS_CHANGE_BUNDLE)
            a->own_changes[DS_EVENT_NODE]++;
    }
    pthread_mutex_unlock(&a->store_lock);
}

/* --- Reading everything --- */
struct load {
    struct api *api;
    struct cs_map *ids; /* entries that are there; NULL: the cache was empty before */
};

static cs_code load_entry(void *arg, const struct ds_entry *in, struct cs_err *e)
{
    struct load *l = arg;
    if (l->ids != NULL && cs_map_put(l->ids, cs_slice_str(in->entry_id), l) != CS_OK)
        return cs_nomem(e);
    return put_entry(l->api, in, e);
}

static cs_code load_node(void *arg, const struct ds_node *n, struct cs_err *e)
{
    struct load *l = arg;
    CS_TRY(put_node(l->api, n, e));
    return put_selectors(l->api, n->spiffe_id, n->selectors, n->n_selectors, e);
}

static bool not_loaded(void *arg, struct cs_slice id)
{
    const struct load *l = arg;
    return cs_map_get(l->ids, id) == NULL;
}

static cs_code last_event(struct api *a, enum ds_event_kind kind, struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, SIZE_MAX);
    struct ds_event *events = NULL;
    size_t n = 0;
    if (arena == NULL)
        return cs_nomem(e);
    CS_TRY(ds_event_list(a->cfg.ds, arena, kind, a->seen_event[kind], 0, &events, &n, e));
    if (n > 0)
        a->seen_event[kind] = events[n - 1].id;
    a->own_changes[kind] = 0;
    return CS_OK;
}

static cs_code load_locked(struct api *a, struct load *l, struct cs_err *e)
{
    /* Events first: one that comes in while we read is then handled again, not lost. */
    CS_TRY(last_event(a, DS_EVENT_ENTRY, e));
    CS_TRY(last_event(a, DS_EVENT_NODE, e));
    CS_TRY(ds_entries_each(a->cfg.ds, load_entry, l, e));
    CS_TRY(ds_nodes_each(a->cfg.ds, load_node, l, e));
    if (l->ids != NULL)
        entrycache_sweep(a->entries, not_loaded, l);
    a->reload = false;
    return CS_OK;
}

cs_code api_store_load(struct api *a, struct cs_err *e)
{
    struct load l = {.api = a};
    if (entrycache_len(a->entries) > 0 && (l.ids = cs_map_new(NULL)) == NULL)
        return cs_nomem(e);
    pthread_mutex_lock(&a->store_lock);
    cs_code code = load_locked(a, &l, e);
    pthread_mutex_unlock(&a->store_lock);
    cs_map_free(l.ids);
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

static cs_code refetch_nodes(struct api *a, struct cs_arena *arena, const char *const *ids, size_t n,
                             struct cs_err *e)
{
    struct ds_node *found[FETCH_CHUNK] = {NULL};
    CS_TRY(ds_node_fetch_many(a->cfg.ds, arena, ids, n, found, e));
    for (size_t i = 0; i < n; i++) {
        if (found[i] == NULL) {
            agentcache_remove(a->agents, cs_slice_str(ids[i]));
            continue;
        }
        CS_TRY(put_node(a, found[i], e));
        CS_TRY(put_selectors(a, ids[i], found[i]->selectors, found[i]->n_selectors, e));
    }
    return CS_OK;
}

static cs_code refetch(struct api *a, enum ds_event_kind kind, const struct ds_event *events, size_t n,
                       struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    for (size_t at = 0; at < n; at += FETCH_CHUNK) {
        const char *ids[FETCH_CHUNK];
        size_t some = n - at < FETCH_CHUNK ? n - at : FETCH_CHUNK;
        for (size_t i = 0; i < some; i++)
            ids[i] = events[at + i].subject;
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
    CS_TRY(ds_event_list(a->cfg.ds, arena, kind, a->seen_event[kind], 0, &events, &n, e));
    if (n == 0)
        return CS_OK;
    /* As many events as changes of our own: nobody else wrote. */
    if (n != a->own_changes[kind])
        CS_TRY(refetch(a, kind, events, n, e));
    a->seen_event[kind] = events[n - 1].id;
    a->own_changes[kind] = 0;
    return CS_OK;
}

static cs_code refresh(struct api *a, struct cs_err *e)
{
    pthread_mutex_lock(&a->store_lock);
    bool reload = a->reload;
    cs_code code = reload ? CS_OK : follow(a, DS_EVENT_ENTRY, e);
    if (code == CS_OK && !reload)
        code = follow(a, DS_EVENT_NODE, e);
    pthread_mutex_unlock(&a->store_lock);
    return reload ? api_store_load(a, e) : code;
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
    if (cfg->prune_nodes_expired_for_s > 0 && ds_node_prune(cfg->ds, now - cfg->prune_nodes_expired_for_s,
                                                            cfg->prune_nontofu_nodes,
                                                            cfg->prune_nodes_batch, &e) != CS_OK)
        cs_log_error(&a->log, "Failed during periodic pruning of expired nodes", KV_ERR(&e));
    if (ds_event_prune(cfg->ds, DS_EVENT_ENTRY, events, &e) != CS_OK ||
        ds_event_prune(cfg->ds, DS_EVENT_NODE, events, &e) != CS_OK)
        cs_log_error(&a->log, "Failed to prune events", KV_ERR(&e));
}
