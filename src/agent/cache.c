/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cache.h"

#include "agent/cache_impl.h"
#include "base/mem.h"

#include <stdlib.h>

/* --- Life --- */

static const char *record_id(const void *record)
{
    return ((const struct agent_record *)record)->entry->id;
}

static void free_bundle(void *b)
{
    spiffe_bundle_unref(b);
}

cs_code agent_cache_new(const struct agent_cache_config *cfg, struct agent_cache **out, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(agent_cache) c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&c->lock, NULL); /* cannot fail without attributes on Linux */
    c->cfg = *cfg;
    if (c->cfg.max_svids <= 0)
        c->cfg.max_svids = AGENT_CACHE_DEFAULT_SVIDS;
    c->next_rotation = INT64_MAX;
    c->records.key = record_id;
    c->selectors.key = agent_selector_text;
    c->bundles = cs_map_new(free_bundle);
    c->groups = cs_map_new(NULL);
    if (c->bundles == NULL || c->groups == NULL)
        return cs_nomem(e);
    *out = CS_MOVE(c);
    return CS_OK;
}

/* Takes the record out of the index. */
static void unlist(struct agent_cache *c, struct agent_record *r)
{
    if (r->home != NULL) {
        *r->link = r->next;
        if (r->next != NULL)
            r->next->link = r->link;
        r->home->record_count--;
    }
    r->home = NULL;
    agent_selset_release(&c->selectors, &r->set);
}

static void record_free(struct agent_cache *c, struct agent_record *r)
{
    unlist(c, r);
    c->svids -= r->svid != NULL;
    c->stale -= r->stale;
    agent_svid_unref(r->svid);
    agent_entry_unref(r->entry);
    cs_free(r);
}

void agent_cache_free(struct agent_cache *c)
{
    if (c == NULL)
        return;
    void *p;
    struct cs_slice key;
    if (c->groups != NULL)
        for (size_t it = 0; cs_map_next(c->groups, &it, &key, &p);)
            agent_group_free(c, p);
    for (size_t it = 0; (p = agent_index_next(&c->records, &it)) != NULL;)
        record_free(c, p);
    cs_map_free(c->groups);
    agent_index_free(&c->records);
    agent_index_free(&c->selectors);
    cs_map_free(c->bundles);
    pthread_mutex_destroy(&c->lock);
    cs_free(c);
}

/* --- Looking up --- */

/* The map of records changes on the manager's thread only, which is the one that asks here. */
const struct agent_entry *agent_cache_entry(const struct agent_cache *c, const char *id)
{
    const struct agent_record *r = agent_index_get(&c->records, id);
    return r != NULL ? r->entry : NULL;
}

size_t agent_cache_entry_count(const struct agent_cache *c)
{
    return c->records.len;
}

const struct agent_entry *agent_cache_next(const struct agent_cache *c, size_t *it)
{
    const struct agent_record *r = agent_index_next(&c->records, it);
    return r != NULL ? r->entry : NULL;
}

size_t agent_cache_svid_count(struct agent_cache *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->svids;
    pthread_mutex_unlock(&c->lock);
    return n;
}

struct spiffe_bundle *agent_cache_bundle(struct agent_cache *c, const char *trust_domain)
{
    pthread_mutex_lock(&c->lock);
    struct spiffe_bundle *b = cs_map_get_str(c->bundles, trust_domain);
    b = b != NULL ? spiffe_bundle_ref(b) : NULL;
    pthread_mutex_unlock(&c->lock);
    return b;
}

/* --- SVIDs of records --- */

static void mark_stale(struct agent_cache *c, struct agent_record *r, bool stale)
{
    c->stale += stale && !r->stale;
    c->stale -= !stale && r->stale;
    r->stale = stale;
}

static void set_svid(struct agent_cache *c, struct agent_record *r, const struct agent_svid *svid)
{
    c->svids += svid != NULL && r->svid == NULL;
    c->svids -= svid == NULL && r->svid != NULL;
    agent_svid_unref(r->svid);
    r->svid = svid != NULL ? agent_svid_ref(svid) : NULL;
    if (svid != NULL && svid->rotate_at < c->next_rotation)
        c->next_rotation = svid->rotate_at;
    c->changed = true;
}

/* --- Applying changes of bundles --- */

static bool in_list(const struct agent_cache_delta *d, struct cs_slice name)
{
    for (size_t i = 0; i < d->bundle_count; i++)
        if (cs_slice_is(name, d->bundles[i]->trust_domain))
            return true;
    return false;
}

/* Bundles that are no longer there go, except our own: without it the server cannot be known. */
static bool remove_bundles(struct agent_cache *c, const struct agent_cache_delta *d)
{
    bool removed = false;
    for (bool again = true; again;) {
        struct cs_slice name;
        void *b;
        again = false;
        for (size_t it = 0; !again && cs_map_next(c->bundles, &it, &name, &b);)
            again = !in_list(d, name) && !cs_slice_is(name, c->cfg.trust_domain);
        if (!again)
            break;
        struct spiffe_bundle *gone = spiffe_bundle_ref(b);
        cs_log_debug(&c->cfg.log, "Bundle removed", KV("trust_domain_id", gone->trust_domain));
        (void)cs_map_del(c->bundles, cs_slice_str(gone->trust_domain));
        spiffe_bundle_unref(gone);
        removed = true;
    }
    return removed;
}

static bool federates_with(const struct agent_entry *en, const char *trust_domain)
{
    for (uint32_t i = 0; i < en->federates_count; i++)
        if (strcmp(en->federates_with[i], trust_domain) == 0)
            return true;
    return false;
}

/* Tells the groups with an identity that federates with it. */
static void federated_changed(struct agent_cache *c, const char *trust_domain, struct cs_vec *told)
{
    void *p;
    for (size_t it = 0; (p = agent_index_next(&c->records, &it)) != NULL;) {
        struct agent_record *r = p;
        if (federates_with(r->entry, trust_domain))
            agent_groups_of_record(r, told, true);
    }
}

static cs_code put_bundle(struct agent_cache *c, const struct spiffe_bundle *b, struct cs_vec *told)
{
    const struct spiffe_bundle *old = cs_map_get_str(c->bundles, b->trust_domain);
    if (old != NULL && spiffe_bundle_equal(old, b))
        return CS_OK;
    bool same_keys = old != NULL && spiffe_bundle_same_authorities(old, b);
    const char *msg = old != NULL ? "Bundle updated" : "Bundle added";
    struct spiffe_bundle *mine = spiffe_bundle_ref(b);
    if (cs_map_put(c->bundles, cs_slice_str(b->trust_domain), mine) != CS_OK) {
        spiffe_bundle_unref(mine);
        return CS_INTERNAL;
    }
    cs_log_debug(&c->cfg.log, msg, KV("trust_domain_id", b->trust_domain));
    if (same_keys) /* only hint or sequence number: nothing that a workload gets to see */
        return CS_OK;
    if (strcmp(b->trust_domain, c->cfg.trust_domain) == 0)
        agent_groups_all(c, told);
    else
        federated_changed(c, b->trust_domain, told);
    return CS_OK;
}

static cs_code apply_bundles(struct agent_cache *c, const struct agent_cache_delta *d, struct cs_vec *told)
{
    if (d->bundles == NULL)
        return CS_OK;
    /* Updates hold references: a bundle that goes is dropped from them with the entries that named it. */
    (void)remove_bundles(c, d);
    for (size_t i = 0; i < d->bundle_count; i++)
        CS_TRY(put_bundle(c, d->bundles[i], told));
    return CS_OK;
}

/* --- Applying changes of entries --- */

static void remove_entry(struct agent_cache *c, const char *id, struct cs_vec *told)
{
    struct agent_record *r = agent_index_take(&c->records, id);
    if (r == NULL)
        return;
    cs_log_debug(&c->cfg.log, "Entry removed", KV("entry", r->entry->id),
                 KV("spiffe_id", r->entry->spiffe_id));
    agent_groups_of_record(r, told, true);
    record_free(c, r);
    c->changed = true;
}

/* Lists the record at its selector with the fewest records. */
static void list_record(struct agent_record *r, struct agent_selset *set)
{
    struct agent_selector *home = NULL;
    for (size_t i = 0; i < set->count; i++)
        if (home == NULL || set->at[i]->record_count < home->record_count)
            home = set->at[i];
    r->home = home;
    r->set = *set;
    *set = (struct agent_selset){0};
    if (home == NULL)
        return;
    r->next = home->records;
    r->link = &home->records;
    if (r->next != NULL)
        r->next->link = &r->next;
    home->records = r;
    home->record_count++;
}

static bool same_strings(const char *const *a, size_t na, const char *const *b, size_t nb)
{
    bool same = na == nb;
    for (size_t i = 0; same && i < na; i++)
        same = strcmp(a[i], b[i]) == 0;
    return same;
}

static void log_entry(struct agent_cache *c, const struct agent_entry *old, const struct agent_entry *now)
{
    cs_log_debug(&c->cfg.log, old != NULL ? "Entry updated" : "Entry created", KV("entry", now->id),
                 KV("spiffe_id", now->spiffe_id), KV_INT("selectors_added", now->selector_count));
}

static cs_code insert_entry(struct agent_cache *c, struct agent_entry *en, struct agent_selset *set,
                            struct cs_vec *told)
{
    struct agent_record *r = cs_calloc(1, sizeof *r);
    if (r == NULL)
        return CS_INTERNAL;
    r->entry = en;
    if (agent_index_add(&c->records, r) != CS_OK) {
        cs_free(r);
        return CS_INTERNAL;
    }
    (void)agent_entry_ref(en);
    list_record(r, set);
    log_entry(c, NULL, en);
    agent_groups_of_record(r, told, true);
    return CS_OK;
}

static void replace_entry(struct agent_cache *c, struct agent_record *r, struct agent_entry *en,
                          struct agent_selset *set, struct cs_vec *told)
{
    const struct agent_entry *old = r->entry;
    bool moved = old->store_svid != en->store_svid ||
                 !same_strings(old->selectors, old->selector_count, en->selectors, en->selector_count);
    bool federation =
        !same_strings(old->federates_with, old->federates_count, en->federates_with, en->federates_count);
    agent_groups_of_record(r, told, moved || federation);
    if (moved) {
        unlist(c, r);
        list_record(r, set);
    }
    if (moved || federation)
        log_entry(c, old, en);
    if (r->svid != NULL && old->revision != en->revision)
        mark_stale(c, r, true);
    if (en->store_svid) {
        set_svid(c, r, NULL);
        mark_stale(c, r, false);
    }
    r->entry = agent_entry_ref(en);
    agent_entry_unref(old);
    agent_groups_of_record(r, told, moved || federation);
}

static cs_code put_entry(struct agent_cache *c, struct agent_entry *en, struct cs_vec *told, struct cs_err *e)
{
    struct agent_selset set = {0};
    const char *const *selectors = c->cfg.selector != NULL ? &c->cfg.selector : en->selectors;
    size_t count = c->cfg.selector != NULL ? 1 : en->selector_count;
    if (!en->store_svid) /* those are for SVIDStore plugins, not for workloads */
        CS_TRY(agent_selset_intern(&c->selectors, selectors, count, &set, e));
    struct agent_record *r = agent_index_get(&c->records, en->id);
    cs_code rc = CS_OK;
    if (r == NULL)
        rc = insert_entry(c, en, &set, told);
    else
        replace_entry(c, r, en, &set, told);
    agent_selset_release(&c->selectors, &set);
    c->changed = true;
    return rc == CS_OK ? CS_OK : cs_nomem(e);
}

cs_code agent_cache_apply(struct agent_cache *c, const struct agent_cache_delta *d, struct cs_err *e)
{
    CS_CLEANUP(cs_vec_free) struct cs_vec told = {0};
    cs_code rc = CS_OK;
    pthread_mutex_lock(&c->lock);
    if (apply_bundles(c, d, &told) != CS_OK)
        rc = cs_nomem(e);
    for (size_t i = 0; i < d->removed_count; i++)
        remove_entry(c, d->removed[i], &told);
    for (size_t i = 0; rc == CS_OK && i < d->changed_count; i++)
        rc = put_entry(c, d->changed[i], &told, e);
    agent_groups_tell(c, &told);
    pthread_mutex_unlock(&c->lock);
    return rc;
}

/* --- Which SVIDs to have --- */

/* What is expiring or waited for; returns the time at which the next one expires. */
static int64_t mark_due(struct agent_cache *c, int64_t now)
{
    void *p;
    int64_t next = INT64_MAX;
    for (size_t it = 0; (p = agent_index_next(&c->records, &it)) != NULL;) {
        struct agent_record *r = p;
        if (r->entry->store_svid)
            continue;
        if (r->svid == NULL) {
            if (!r->stale && agent_record_used(r))
                mark_stale(c, r, true);
        } else if (now >= r->svid->rotate_at) {
            mark_stale(c, r, true);
        } else if (r->svid->rotate_at < next) {
            next = r->svid->rotate_at;
        }
    }
    return next;
}

static void mark_prefetch(struct agent_cache *c)
{
    void *p;
    int64_t room = c->cfg.max_svids - (int64_t)c->svids;
    for (size_t it = 0; (int64_t)c->stale < room && (p = agent_index_next(&c->records, &it)) != NULL;) {
        struct agent_record *r = p;
        if (r->svid == NULL && !r->entry->store_svid && !r->entry->no_prefetch)
            mark_stale(c, r, true);
    }
}

static int by_use(const void *a, const void *b)
{
    const struct agent_record *x = *(struct agent_record *const *)a;
    const struct agent_record *y = *(struct agent_record *const *)b;
    return x->used < y->used ? -1 : x->used > y->used;
}

/* Lets go of the SVIDs that nobody uses, the longest unused first. */
static void evict(struct agent_cache *c)
{
    CS_CLEANUP(cs_vec_free) struct cs_vec free_ones = {0};
    void *p;
    for (size_t it = 0; (p = agent_index_next(&c->records, &it)) != NULL;) {
        struct agent_record *r = p;
        if (r->svid != NULL && !agent_record_used(r) && cs_vec_push(&free_ones, r) != CS_OK)
            return; /* the limit is a soft one */
    }
    if (free_ones.len > 1)
        qsort(free_ones.at, free_ones.len, sizeof(void *), by_use);
    for (size_t i = 0; i < free_ones.len && (int64_t)c->svids > c->cfg.max_svids; i++) {
        struct agent_record *r = free_ones.at[i];
        cs_log_debug(&c->cfg.log, "Removing SVID record", KV("record_id", r->entry->id));
        set_svid(c, r, NULL);
        mark_stale(c, r, false);
    }
}

size_t agent_cache_tick(struct agent_cache *c)
{
    int64_t now = cs_now_ns(c->cfg.clock);
    pthread_mutex_lock(&c->lock);
    if (c->changed || now >= c->next_rotation) {
        if ((int64_t)c->svids > c->cfg.max_svids)
            evict(c);
        c->next_rotation = mark_due(c, now);
        mark_prefetch(c);
        c->changed = false;
    }
    size_t n = c->stale;
    pthread_mutex_unlock(&c->lock);
    return n;
}

int64_t agent_cache_next_rotation(struct agent_cache *c)
{
    pthread_mutex_lock(&c->lock);
    int64_t next = c->next_rotation;
    pthread_mutex_unlock(&c->lock);
    return next;
}

/* Appends the stale ones that streams use, or those that they do not. */
static size_t collect(struct agent_cache *c, bool used, struct agent_stale *out, size_t n, size_t max)
{
    void *p;
    for (size_t it = 0; n < max && (p = agent_index_next(&c->records, &it)) != NULL;) {
        const struct agent_record *r = p;
        if (r->stale && agent_record_used(r) == used)
            out[n++] = (struct agent_stale){
                .entry = agent_entry_ref(r->entry),
                .expires = r->svid != NULL ? r->svid->not_after : 0,
            };
    }
    return n;
}

size_t agent_cache_stale(struct agent_cache *c, struct agent_stale *out, size_t max)
{
    pthread_mutex_lock(&c->lock);
    size_t n = 0;
    if (c->stale > 0) {
        n = collect(c, true, out, 0, max);
        n = collect(c, false, out, n, max);
    }
    pthread_mutex_unlock(&c->lock);
    return n;
}

void agent_cache_put_svids(struct agent_cache *c, const struct agent_new_svid *svids, size_t count)
{
    CS_CLEANUP(cs_vec_free) struct cs_vec told = {0};
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < count; i++) {
        struct agent_record *r = agent_index_get(&c->records, svids[i].entry_id);
        if (r == NULL) {
            cs_log_error(&c->cfg.log, "Entry not found", KV("entry_id", svids[i].entry_id));
            continue;
        }
        set_svid(c, r, svids[i].svid);
        mark_stale(c, r, false);
        cs_log_debug(&c->cfg.log, "SVID updated", KV("entry", r->entry->id),
                     KV("spiffe_id", r->entry->spiffe_id));
        agent_groups_of_record(r, &told, true);
    }
    agent_groups_tell(c, &told);
    pthread_mutex_unlock(&c->lock);
}

/* --- Taint --- */

/* References to all SVIDs there are; the caller's. false: no memory. */
static bool all_svids(struct agent_cache *c, struct cs_vec *out)
{
    bool good = true;
    void *p;
    pthread_mutex_lock(&c->lock);
    for (size_t it = 0; good && (p = agent_index_next(&c->records, &it)) != NULL;) {
        const struct agent_record *r = p;
        if (r->svid == NULL)
            continue;
        good = cs_vec_push(out, r->svid) == CS_OK;
        if (good)
            (void)agent_svid_ref(r->svid);
    }
    pthread_mutex_unlock(&c->lock);
    return good;
}

static int by_pointer(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (void *const *)a;
    uintptr_t y = (uintptr_t) * (void *const *)b;
    return x < y ? -1 : x > y;
}

size_t agent_cache_drop_tainted(struct agent_cache *c,
                                bool (*tainted)(void *arg, const struct agent_svid *svid), void *arg,
                                size_t *seen)
{
    CS_CLEANUP(cs_vec_free) struct cs_vec svids = {0};
    CS_CLEANUP(cs_vec_free) struct cs_vec none = {0};
    bool complete = all_svids(c, &svids);
    *seen = svids.len;
    size_t bad = 0;
    for (size_t i = 0; i < svids.len; i++) {
        struct agent_svid *s = svids.at[i];
        if (tainted(arg, s))
            svids.at[bad++] = s; /* keeps its reference, so that its address stays its own */
        else
            agent_svid_unref(s);
    }
    if (bad > 1)
        qsort(svids.at, bad, sizeof(void *), by_pointer);
    pthread_mutex_lock(&c->lock);
    void *p;
    for (size_t it = 0; (p = agent_index_next(&c->records, &it)) != NULL;) {
        struct agent_record *r = p;
        /* Without memory to look at them all, none that was not looked at is trusted. */
        bool drop = r->svid != NULL && (!complete || (bad > 0 && bsearch(&(void *){r->svid}, svids.at, bad,
                                                                         sizeof(void *), by_pointer)));
        if (!drop)
            continue;
        agent_groups_of_record(r, &none, false);
        set_svid(c, r, NULL);
        mark_stale(c, r, true);
    }
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < bad; i++)
        agent_svid_unref(svids.at[i]);
    return bad;
}
