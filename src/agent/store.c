/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store.h"

#include "agent/store_impl.h"
#include "base/logfields.h"
#include "base/mem.h"

/* --- Life --- */

static const char *record_id(const void *record)
{
    return ((const struct store_record *)record)->entry->id;
}

static void free_bundle(void *b)
{
    spiffe_bundle_unref(b);
}

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
}

static unsigned calls_max_of(const struct svidstore_ops *ops)
{
    const unsigned wanted = ops->calls_max > 0 ? ops->calls_max : 1;
    return wanted < STORE_CALLS_MAX ? wanted : STORE_CALLS_MAX;
}

cs_code agent_store_new(const struct agent_store_config *cfg, struct agent_store **out, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(agent_store) s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&s->lock, NULL); /* cannot fail without attributes on Linux */
    s->cfg = *cfg;
    s->cfg.plugins = NULL;
    s->cfg.state_path = NULL;
    if (s->cfg.retry_ns == 0)
        s->cfg.retry_ns = STORE_RETRY_NS;
    s->records.key = record_id;
    s->next_rotation = INT64_MAX;
    s->bundles = cs_map_new(free_bundle);
    s->places = cs_calloc(cfg->plugin_count + 1, sizeof *s->places);
    if (s->bundles == NULL || s->places == NULL)
        return cs_nomem(e);
    for (; s->place_count < cfg->plugin_count; s->place_count++) {
        struct store_place *p = &s->places[s->place_count];
        p->store = s;
        p->plugin = cfg->plugins[s->place_count];
        p->calls_max = calls_max_of(p->plugin->ops);
        cond_init(&p->wake);
    }
    CS_TRY(store_state_load(s, cfg->state_path, e));
    *out = CS_MOVE(s);
    return CS_OK;
}

void agent_store_stop(struct agent_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    for (size_t i = 0; i < s->place_count; i++)
        pthread_cond_broadcast(&s->places[i].wake);
    pthread_mutex_unlock(&s->lock);
}

static void record_free(struct agent_store *s, struct store_record *r)
{
    store_dequeue(r);
    s->stale -= r->stale;
    agent_entry_unref(r->entry);
    agent_svid_unref(r->svid);
    cs_free(r);
}

void agent_store_free(struct agent_store *s)
{
    if (s == NULL)
        return;
    void *p;
    agent_store_stop(s);
    for (size_t i = 0; i < s->place_count; i++)
        for (unsigned k = 0; k < s->places[i].thread_count; k++)
            (void)pthread_join(s->places[i].threads[k], NULL);
    for (size_t it = 0; (p = agent_index_next(&s->records, &it)) != NULL;)
        record_free(s, p);
    for (size_t i = 0; i < s->place_count; i++) {
        while (s->places[i].gone.first != NULL) {
            struct store_gone *g = s->places[i].gone.first;
            s->places[i].gone.first = g->next;
            store_gone_free(g);
        }
        pthread_cond_destroy(&s->places[i].wake);
    }
    store_state_free(s);
    agent_index_free(&s->records);
    cs_map_free(s->bundles);
    cs_free(s->places);
    pthread_mutex_destroy(&s->lock);
    cs_free(s);
}

/* --- Places --- */

static struct store_place *place_named(struct agent_store *s, struct cs_slice type)
{
    for (size_t i = 0; i < s->place_count; i++)
        if (cs_slice_is(type, s->places[i].plugin->name))
            return &s->places[i];
    return NULL;
}

static struct cs_slice type_of(const char *selector)
{
    return cs_slice_of(selector, strcspn(selector, ":"));
}

/* The plugin that takes the entry; NULL: none, which is said in the log, once for each revision. */
static struct store_place *place_of(struct agent_store *s, const struct agent_entry *en)
{
    struct cs_slice type = type_of(en->selectors[0]); /* an entry has at least one */
    struct cs_log log = cs_log_with(s->cfg.log, KV(CS_F_ENTRY, en->id));
    log = cs_log_with(log, KV(CS_F_SPIFFE_ID, en->spiffe_id));
    for (uint32_t i = 1; i < en->selector_count; i++) {
        if (cs_slice_eq(type, type_of(en->selectors[i])))
            continue;
        if (cs_log_limit_ok(&s->refusals, STORE_LINES_PER_SECOND, NULL))
            cs_log_error(&log, "Invalid store name in selectors",
                         KV(CS_F_ERROR, "selector contains multiple types"));
        return NULL;
    }
    struct store_place *p = place_named(s, type);
    if (p == NULL && cs_log_limit_ok(&s->refusals, STORE_LINES_PER_SECOND, NULL)) {
        CS_CLEANUP(cs_freep) char *name = cs_strndup((const char *)type.data, type.len);
        cs_log_error(&log, "Error storing SVID: SVIDStore not found", KV(CS_F_SVID_STORE, name));
    }
    return p;
}

/* --- Changes of bundles --- */

/* What stores are given of a bundle. */
static bool same_roots(const struct spiffe_bundle *a, const struct spiffe_bundle *b)
{
    bool same = a->x509_count == b->x509_count;
    for (size_t i = 0; same && i < a->x509_count; i++)
        same = x509_cert_equal(a->x509[i].cert, b->x509[i].cert);
    return same;
}

static bool in_delta(const struct agent_cache_delta *d, struct cs_slice name)
{
    for (size_t i = 0; i < d->bundle_count; i++)
        if (cs_slice_is(name, d->bundles[i]->trust_domain))
            return true;
    return false;
}

/* References to the bundles whose roots changed or went, for as long as the caller needs their names. */
static void changed_free(struct cs_vec *changed)
{
    for (size_t i = 0; i < changed->len; i++)
        spiffe_bundle_unref(changed->at[i]);
    cs_vec_free(changed);
}

static cs_code note_change(struct cs_vec *changed, const struct spiffe_bundle *b)
{
    CS_TRY(cs_vec_push(changed, (void *)(uintptr_t)b));
    (void)spiffe_bundle_ref((struct spiffe_bundle *)(uintptr_t)b);
    return CS_OK;
}

/* Lock held. */
static cs_code remove_bundles(struct agent_store *s, const struct agent_cache_delta *d,
                              struct cs_vec *changed)
{
    for (bool again = true; again;) {
        struct cs_slice name;
        void *b;
        again = false;
        for (size_t it = 0; !again && cs_map_next(s->bundles, &it, &name, &b);)
            again = !in_delta(d, name) && !cs_slice_is(name, s->cfg.trust_domain);
        if (!again)
            break;
        const struct spiffe_bundle *gone = b;
        CS_TRY(note_change(changed, gone));
        cs_log_debug(&s->cfg.cache_log, "Bundle removed", KV(CS_F_TRUST_DOMAIN_ID, gone->trust_domain));
        (void)cs_map_del(s->bundles, cs_slice_str(gone->trust_domain));
    }
    return CS_OK;
}

/* Lock held. */
static cs_code put_bundle(struct agent_store *s, const struct spiffe_bundle *b, struct cs_vec *changed)
{
    const struct spiffe_bundle *old = cs_map_get_str(s->bundles, b->trust_domain);
    if (old == b)
        return CS_OK;
    const char *msg = old == NULL ? "Bundle added" : "Bundle updated";
    bool same = old != NULL && same_roots(old, b);
    if (!same)
        CS_TRY(note_change(changed, b));
    struct spiffe_bundle *mine = spiffe_bundle_ref((struct spiffe_bundle *)(uintptr_t)b);
    if (cs_map_put(s->bundles, cs_slice_str(b->trust_domain), mine) != CS_OK) {
        spiffe_bundle_unref(mine);
        return CS_INTERNAL;
    }
    if (!same)
        cs_log_debug(&s->cfg.cache_log, msg, KV(CS_F_TRUST_DOMAIN_ID, b->trust_domain));
    return CS_OK;
}

static bool concerns(const struct agent_store *s, const struct agent_entry *en, const struct cs_vec *changed)
{
    for (size_t i = 0; i < changed->len; i++) {
        const struct spiffe_bundle *b = changed->at[i];
        if (strcmp(b->trust_domain, s->cfg.trust_domain) == 0)
            return true;
        for (uint32_t k = 0; k < en->federates_count; k++)
            if (strcmp(en->federates_with[k], b->trust_domain) == 0)
                return true;
    }
    return false;
}

/* Lock held. Something that is put changed; waits for no retry. */
static void touch(struct agent_store *s, struct store_record *r)
{
    r->revision++;
    r->wanted = ++s->changes;
    agent_backoff_reset(&r->retry);
    if (r->svid == NULL)
        store_dequeue(r);
    else
        store_enqueue(r, r->stale ? STORE_HELD : cs_mono_ns(s->cfg.clock));
}

static cs_code apply_bundles(struct agent_store *s, const struct agent_cache_delta *d)
{
    CS_CLEANUP(changed_free) struct cs_vec changed = {0};
    void *p;
    if (d->bundles == NULL && !s->torn)
        return CS_OK;
    if (d->bundles != NULL)
        CS_TRY(remove_bundles(s, d, &changed));
    for (size_t i = 0; i < d->bundle_count; i++)
        CS_TRY(put_bundle(s, d->bundles[i], &changed));
    if (changed.len == 0 && !s->torn)
        return CS_OK;
    for (size_t it = 0; (p = agent_index_next(&s->records, &it)) != NULL;) {
        struct store_record *r = p;
        if (s->torn || concerns(s, r->entry, &changed))
            touch(s, r);
    }
    return CS_OK;
}

/* --- Changes of entries: lock held --- */

static void mark_stale(struct agent_store *s, struct store_record *r, bool stale)
{
    s->stale += stale && !r->stale;
    s->stale -= !stale && r->stale;
    r->stale = stale;
}

static cs_code bury_at(struct agent_store *s, struct store_place *p, const struct agent_entry *en,
                       uint64_t where, int64_t revision, bool removed)
{
    struct store_gone *g = cs_calloc(1, sizeof *g);
    if (g == NULL)
        return CS_INTERNAL;
    g->entry = agent_entry_ref(en);
    g->where = where;
    g->revision = revision;
    g->removed = removed;
    g->due = cs_mono_ns(s->cfg.clock);
    agent_backoff_init(&g->retry, s->cfg.clock, s->cfg.retry_ns, 0, 0);
    store_bury(p, g);
    s->changed_places = true;
    return CS_OK;
}

/* What the record's store has of it is to go. */
static cs_code bury(struct agent_store *s, struct store_record *r, bool removed)
{
    return bury_at(s, r->place, r->entry, r->where, r->revision + 1, removed);
}

cs_code store_bury_entry(struct agent_store *s, const struct agent_entry *en, uint64_t where, bool removed)
{
    struct store_place *p = place_named(s, type_of(en->selectors[0]));
    if (p == NULL)
        return CS_NOT_FOUND;
    CS_TRY(store_work_start(p, NULL));
    CS_TRY(bury_at(s, p, en, where, 0, removed));
    store_work_wake(p);
    return CS_OK;
}

/* As with SPIRE, deleted is also what this process did not put: the one before may have. */
static cs_code remove_entry(struct agent_store *s, const char *id)
{
    struct store_record *r = agent_index_get(&s->records, id);
    if (r == NULL)
        return CS_OK;
    CS_TRY(bury(s, r, true));
    cs_log_debug(&s->cfg.cache_log, "Entry marked to be removed", KV(CS_F_ENTRY, id),
                 KV(CS_F_SPIFFE_ID, r->entry->spiffe_id));
    (void)agent_index_take(&s->records, id);
    record_free(s, r);
    return CS_OK;
}

static cs_code insert_entry(struct agent_store *s, struct agent_entry *en, struct store_place *p)
{
    struct store_record *r = cs_calloc(1, sizeof *r);
    if (r == NULL)
        return CS_INTERNAL;
    r->entry = en;
    r->place = p;
    r->where = store_where(en);
    agent_backoff_init(&r->retry, s->cfg.clock, s->cfg.retry_ns, 0, 0);
    if (agent_index_add(&s->records, r) != CS_OK) {
        cs_free(r);
        return CS_INTERNAL;
    }
    (void)agent_entry_ref(en);
    s->changed_places = true;
    mark_stale(s, r, true);
    touch(s, r);
    cs_log_debug(&s->cfg.cache_log, "Entry created", KV(CS_F_ENTRY, en->id),
                 KV(CS_F_SPIFFE_ID, en->spiffe_id));
    return CS_OK;
}

static cs_code replace_entry(struct agent_store *s, struct store_record *r, struct agent_entry *en,
                             struct store_place *p)
{
    if (r->entry->revision == en->revision)
        return CS_OK; /* applied again */
    uint64_t where = store_where(en);
    if (r->where != where) {
        if (r->tried)
            CS_TRY(bury(s, r, false));
        r->tried = false;
        store_dequeue(r);
        r->place = p;
        r->where = where;
        s->changed_places = true;
    }
    agent_entry_unref(r->entry);
    r->entry = agent_entry_ref(en);
    mark_stale(s, r, true);
    touch(s, r);
    cs_log_debug(&s->cfg.cache_log, "Entry updated", KV(CS_F_ENTRY, en->id),
                 KV(CS_F_SPIFFE_ID, en->spiffe_id));
    return CS_OK;
}

static cs_code put_entry(struct agent_store *s, struct agent_entry *en)
{
    struct store_place *p = en->store_svid ? place_of(s, en) : NULL;
    if (p == NULL)
        return remove_entry(s, en->id);
    CS_TRY(store_work_start(p, NULL));
    struct store_record *r = agent_index_get(&s->records, en->id);
    return r == NULL ? insert_entry(s, en, p) : replace_entry(s, r, en, p);
}

cs_code agent_store_apply(struct agent_store *s, const struct agent_cache_delta *d, struct cs_err *e)
{
    pthread_mutex_lock(&s->lock);
    cs_code rc = apply_bundles(s, d);
    for (size_t i = 0; rc == CS_OK && i < d->removed_count; i++)
        rc = remove_entry(s, d->removed[i]);
    for (size_t i = 0; rc == CS_OK && i < d->changed_count; i++)
        rc = put_entry(s, d->changed[i]);
    if (rc == CS_OK)
        rc = store_state_settle(s);
    pthread_mutex_unlock(&s->lock);
    store_state_save(s); /* before SVIDs are there that could be put */
    s->torn = rc != CS_OK;
    return rc == CS_OK ? CS_OK : cs_fail(e, CS_INTERNAL, "out of memory or threads for SVIDs to be stored");
}

/* --- SVIDs --- */

size_t agent_store_tick(struct agent_store *s)
{
    int64_t now = cs_now_ns(s->cfg.clock);
    if (now < s->next_rotation)
        return s->stale;
    void *p;
    s->next_rotation = INT64_MAX;
    for (size_t it = 0; (p = agent_index_next(&s->records, &it)) != NULL;) {
        struct store_record *r = p;
        if (r->svid == NULL)
            continue;
        if (now >= r->svid->rotate_at)
            mark_stale(s, r, true);
        else if (r->svid->rotate_at < s->next_rotation)
            s->next_rotation = r->svid->rotate_at;
    }
    return s->stale;
}

int64_t agent_store_next_rotation(const struct agent_store *s)
{
    return s->next_rotation;
}

size_t agent_store_stale(struct agent_store *s, struct agent_stale *out, size_t max)
{
    void *p;
    size_t n = 0;
    if (s->stale == 0)
        return 0;
    for (size_t it = 0; n < max && (p = agent_index_next(&s->records, &it)) != NULL;) {
        const struct store_record *r = p;
        if (r->stale)
            out[n++] = (struct agent_stale){
                .entry = agent_entry_ref(r->entry),
                .expires = r->svid != NULL ? r->svid->not_after : 0,
            };
    }
    return n;
}

void agent_store_put_svids(struct agent_store *s, const struct agent_new_svid *svids, size_t count)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < count; i++) {
        struct store_record *r = agent_index_get(&s->records, svids[i].entry_id);
        if (r == NULL) {
            cs_log_error(&s->cfg.cache_log, "Entry not found", KV(CS_F_ENTRY_ID, svids[i].entry_id));
            continue;
        }
        agent_svid_unref(r->svid);
        r->svid = agent_svid_ref(svids[i].svid);
        if (r->svid->rotate_at < s->next_rotation)
            s->next_rotation = r->svid->rotate_at;
        mark_stale(s, r, false);
        touch(s, r);
        cs_log_debug(&s->cfg.cache_log, "SVID updated", KV(CS_F_ENTRY, r->entry->id),
                     KV(CS_F_SPIFFE_ID, r->entry->spiffe_id));
    }
    pthread_mutex_unlock(&s->lock);
}

size_t agent_store_drop_tainted(struct agent_store *s,
                                bool (*tainted)(void *arg, const struct agent_svid *svid), void *arg)
{
    size_t n = 0;
    void *p;
    for (size_t it = 0; (p = agent_index_next(&s->records, &it)) != NULL;) {
        struct store_record *r = p;
        if (r->svid == NULL || !tainted(arg, r->svid))
            continue;
        pthread_mutex_lock(&s->lock);
        store_dequeue(r);
        agent_svid_unref(r->svid);
        r->svid = NULL;
        pthread_mutex_unlock(&s->lock);
        mark_stale(s, r, true);
        n++;
    }
    return n;
}

size_t agent_store_count(const struct agent_store *s)
{
    return s->records.len;
}

void agent_store_settle(struct agent_store *s)
{
    int64_t now = cs_mono_ns(s->cfg.clock);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->place_count; i++) {
        for (struct store_record *r = s->places[i].pending.first; r != NULL; r = r->next)
            if (r->due == STORE_HELD)
                r->due = now;
        store_work_wake(&s->places[i]);
    }
    pthread_mutex_unlock(&s->lock);
    store_state_save(s);
}
