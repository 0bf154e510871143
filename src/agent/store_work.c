/* SPDX-License-Identifier: Apache-2.0
 *
 * The threads of one SVIDStore plugin: deletions first, so that nothing is deleted that was just put, then
 * what is to be put, in the order in which it came; what fails waits and lets the others go before it. Two
 * calls for the same entry or the same place never run at once, and no put begins beside a deletion: other
 * selectors may well name the same secret.
 */
#include "agent/store_impl.h"
#include "base/logfields.h"

#include <signal.h>
#include <stdio.h>

/* --- Lists: lock held --- */

void store_dequeue(struct store_record *r)
{
    if (!r->pending)
        return;
    struct store_place *p = r->place;
    *(r->prev != NULL ? &r->prev->next : &p->pending.first) = r->next;
    *(r->next != NULL ? &r->next->prev : &p->pending.last) = r->prev;
    r->next = r->prev = NULL;
    r->pending = false;
}

void store_enqueue(struct store_record *r, int64_t due)
{
    struct store_place *p = r->place;
    r->due = due;
    if (r->pending)
        return;
    r->pending = true;
    r->prev = p->pending.last;
    *(r->prev != NULL ? &r->prev->next : &p->pending.first) = r;
    p->pending.last = r;
}

void store_gone_free(struct store_gone *g)
{
    agent_entry_unref(g->entry);
    cs_free(g);
}

static void unlist_gone(struct store_place *p, struct store_gone *g)
{
    *(g->prev != NULL ? &g->prev->next : &p->gone.first) = g->next;
    *(g->next != NULL ? &g->next->prev : &p->gone.last) = g->prev;
    g->next = g->prev = NULL;
    p->gone.count--;
}

static void list_gone(struct store_place *p, struct store_gone *g)
{
    g->prev = p->gone.last;
    *(g->prev != NULL ? &g->prev->next : &p->gone.first) = g;
    p->gone.last = g;
    p->gone.count++;
}

void store_bury(struct store_place *p, struct store_gone *g)
{
    struct store_gone *oldest = p->gone.first;
    while (oldest != NULL && oldest->busy)
        oldest = oldest->next;
    if (p->gone.count >= AGENT_STORE_GONE_MAX && oldest != NULL) {
        cs_log_error(&p->store->cfg.log, "Giving up a deletion: the store is behind too many of them",
                     KV(CS_F_ENTRY, oldest->entry->id), KV(CS_F_SPIFFE_ID, oldest->entry->spiffe_id),
                     KV(CS_F_SVID_STORE, p->plugin->name));
        unlist_gone(p, oldest);
        store_gone_free(oldest);
        p->store->changed_places = true;
    }
    list_gone(p, g);
}

/* --- Places of entries --- */

uint64_t store_where(const struct agent_entry *en)
{
    uint64_t sum = en->selector_count;
    for (uint32_t i = 0; i < en->selector_count; i++)
        sum += cs_hash(cs_slice_str(en->selectors[i])); /* keyed: nobody can make two places meet */
    return sum;
}

/* The values of the selectors; their type is the plugin's name. */
static const char **metadata_of(const struct agent_entry *en, struct cs_arena *a)
{
    const char **out = cs_arena_alloc(a, (en->selector_count + 1) * sizeof *out);
    for (uint32_t i = 0; out != NULL && i < en->selector_count; i++)
        out[i] = strchr(en->selectors[i], ':') + 1;
    return out;
}

static struct cs_log job_log(const struct store_place *p, const struct agent_entry *en)
{
    struct cs_log log = cs_log_with(p->store->cfg.log, KV(CS_F_ENTRY, en->id));
    log = cs_log_with(log, KV(CS_F_SPIFFE_ID, en->spiffe_id));
    return cs_log_with(log, KV(CS_F_SVID_STORE, p->plugin->name));
}

/* As the error of a gRPC call reads in SPIRE, whose plugins are all behind one. */
static struct cs_err worded(const struct cs_err *why)
{
    struct cs_err out;
    (void)cs_fail(&out, why->code, "rpc error: code = %s desc = %.440s", cs_code_name(why->code), why->text);
    return out;
}

static void log_failure(struct store_place *p, const struct cs_log *log, const char *msg, int64_t revision,
                        const struct cs_err *why)
{
    uint32_t held = 0;
    if (!cs_log_limit_ok(&p->store->failures, STORE_LINES_PER_SECOND, &held))
        return;
    const struct cs_err full = worded(why);
    cs_log_error(log, msg, KV_ERR(&full), KV_INT(CS_F_REVISION_NUMBER, revision),
                 held > 0 ? KV_INT("left_out", held) : (struct cs_kv){0});
}

/* --- Calls under way: lock held --- */

static bool is_free(const struct store_place *p, const char *entry_id, uint64_t where)
{
    for (unsigned i = 0; i < p->call_count; i++)
        if (p->calls[i].where == where || strcmp(p->calls[i].entry_id, entry_id) == 0)
            return false;
    return true;
}

/* --- Deleting --- */

/* What an entry of the same ID or of the same place had there may be gone with it. Lock held. */
static void put_again(struct store_place *p, const struct store_gone *g)
{
    struct agent_store *s = p->store;
    void *item;
    for (size_t it = 0; (item = agent_index_next(&s->records, &it)) != NULL;) {
        struct store_record *r = item;
        if (r->place != p || !r->tried || r->svid == NULL ||
            (r->where != g->where && strcmp(r->entry->id, g->entry->id) != 0))
            continue;
        r->wanted = ++s->changes;
        store_enqueue(r, cs_mono_ns(s->cfg.clock));
    }
}

static bool call_remove(struct store_place *p, const struct store_gone *g)
{
    const struct svidstore_ops *ops = p->plugin->ops;
    struct cs_log log = job_log(p, g->entry);
    struct cs_err e = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    const char **metadata = a != NULL ? metadata_of(g->entry, a) : NULL;
    cs_code rc = metadata != NULL ? ops->remove(p->plugin->self, metadata, g->entry->selector_count, &e)
                                  : cs_nomem(&e);
    if (rc == CS_OK) {
        cs_log_debug(&log, "SVID deleted successfully", KV_INT(CS_F_REVISION_NUMBER, g->revision));
        return true;
    }
    rc = plugin_answer(p->plugin->type, p->plugin->name, rc, &e);
    if (rc == CS_INVALID) {
        const struct cs_err full = worded(&e);
        cs_log_debug(&log, "Failed to delete SVID because of malformed selectors", KV_ERR(&full),
                     KV_INT(CS_F_REVISION_NUMBER, g->revision));
        return true;
    }
    log_failure(p, &log, "Failed to delete SVID", g->revision, &e);
    return false;
}

/* Called with the lock held, gives it up for the time of the call. */
static void do_remove(struct store_place *p, struct store_gone *g)
{
    struct agent_store *s = p->store;
    g->busy = true;
    pthread_mutex_unlock(&s->lock);
    bool done = call_remove(p, g);
    pthread_mutex_lock(&s->lock);
    g->busy = false;
    unlist_gone(p, g);
    if (!done) {
        g->due = cs_mono_ns(s->cfg.clock) + agent_backoff_next(&g->retry);
        list_gone(p, g);
        return;
    }
    put_again(p, g);
    s->changed_places = true;
    if (g->removed)
        cs_log_debug(&s->cfg.cache_log, "Entry removed", KV(CS_F_ENTRY, g->entry->id),
                     KV(CS_F_SPIFFE_ID, g->entry->spiffe_id));
    store_gone_free(g);
}

/* --- Putting --- */

/* What is put, as it was when the call began: references of the job's own. */
struct put_job {
    const struct agent_entry *entry;
    struct agent_svid *svid;
    struct spiffe_bundle *bundle;
    struct cs_vec federated; /* struct spiffe_bundle *, in the order of the entry */
    uint64_t wanted;
    int64_t revision;
};

static void job_free(struct put_job *j)
{
    for (size_t i = 0; i < j->federated.len; i++)
        spiffe_bundle_unref(j->federated.at[i]);
    cs_vec_free(&j->federated);
    spiffe_bundle_unref(j->bundle);
    agent_svid_unref(j->svid);
    agent_entry_unref(j->entry);
}

/* Lock held. A bundle that is not there is left out, as SPIRE does. */
static cs_code job_take(struct agent_store *s, const struct store_record *r, struct put_job *j)
{
    *j = (struct put_job){
        .entry = agent_entry_ref(r->entry),
        .svid = agent_svid_ref(r->svid),
        .wanted = r->wanted,
        .revision = r->revision,
    };
    struct spiffe_bundle *own = cs_map_get_str(s->bundles, s->cfg.trust_domain);
    j->bundle = own != NULL ? spiffe_bundle_ref(own) : NULL;
    for (uint32_t i = 0; i < r->entry->federates_count; i++) {
        const char *td = r->entry->federates_with[i];
        struct spiffe_bundle *b =
            strcmp(td, s->cfg.trust_domain) != 0 ? cs_map_get_str(s->bundles, td) : NULL;
        if (b == NULL)
            continue;
        CS_TRY(cs_vec_push(&j->federated, b));
        (void)spiffe_bundle_ref(b);
    }
    return CS_OK;
}

static const struct cs_slice *roots_of(const struct spiffe_bundle *b, struct cs_arena *a)
{
    struct cs_slice *out = cs_arena_alloc(a, (b->x509_count + 1) * sizeof *out);
    for (size_t i = 0; out != NULL && i < b->x509_count; i++)
        out[i] = b->x509[i].cert->der;
    return out;
}

static cs_code fill_bundles(const struct put_job *j, struct cs_arena *a, struct svidstore_svid *out,
                            struct cs_err *e)
{
    if (j->bundle == NULL)
        return cs_fail(e, CS_INTERNAL, "no rootCA found");
    struct svidstore_federated *fed = cs_arena_alloc(a, (j->federated.len + 1) * sizeof *fed);
    out->bundle = roots_of(j->bundle, a);
    out->bundle_count = j->bundle->x509_count;
    if (fed == NULL || out->bundle == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < j->federated.len; i++) {
        const struct spiffe_bundle *b = j->federated.at[i];
        fed[i] = (struct svidstore_federated){
            .trust_domain = cs_arena_printf(a, "spiffe://%s", b->trust_domain),
            .roots = roots_of(b, a),
            .root_count = b->x509_count,
        };
        if (fed[i].trust_domain == NULL || fed[i].roots == NULL)
            return cs_nomem(e);
    }
    out->federated = fed;
    out->federated_count = j->federated.len;
    return CS_OK;
}

static cs_code fill_svid(const struct put_job *j, const struct x509_chain *chain, struct cs_arena *a,
                         struct svidstore_svid *out, struct cs_err *e)
{
    struct cs_slice *ders = cs_arena_alloc(a, (chain->count + 1) * sizeof *ders);
    if (ders == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < chain->count; i++)
        ders[i] = chain->at[i]->der;
    *out = (struct svidstore_svid){
        .spiffe_id = j->entry->spiffe_id,
        .chain = ders,
        .chain_count = chain->count,
        .key = cs_slice_of(j->svid->key->data, j->svid->key->len),
        .expires_at = j->svid->not_after,
    };
    return fill_bundles(j, a, out, e);
}

/* Not locked. */
static bool call_put(struct store_place *p, const struct put_job *j)
{
    const struct svidstore_ops *ops = p->plugin->ops;
    struct cs_log log = job_log(p, j->entry);
    struct cs_err e = {0};
    struct svidstore_svid svid;
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    const char **metadata = a != NULL ? metadata_of(j->entry, a) : NULL;
    cs_code rc =
        metadata == NULL ? cs_nomem(&e) : x509_chain_parse_der(j->svid->chain, X509_CHAIN_MAX, &chain, &e);
    if (rc == CS_OK)
        rc = fill_svid(j, &chain, a, &svid, &e);
    if (rc != CS_OK) {
        cs_log_error(&log, "Failed to parse record", KV_ERR(&e), KV_INT(CS_F_REVISION_NUMBER, j->revision));
        return false;
    }
    rc = ops->put(p->plugin->self, &svid, metadata, j->entry->selector_count, &e);
    rc = plugin_answer(p->plugin->type, p->plugin->name, rc, &e);
    if (rc != CS_OK) {
        log_failure(p, &log, "Failed to put X509-SVID", j->revision, &e);
        return false;
    }
    cs_log_debug(&log, "SVID stored successfully", KV_INT(CS_F_REVISION_NUMBER, j->revision));
    return true;
}

/* Lock held. Deletions that failed till now, of just the place that is to be written, are called off. */
static void call_off(struct store_place *p, uint64_t where)
{
    struct store_gone *next;
    for (struct store_gone *g = p->gone.first; g != NULL; g = next) {
        next = g->next;
        if (g->where != where)
            continue;
        unlist_gone(p, g);
        store_gone_free(g);
    }
}

/* Lock held. The record may have changed, or be gone, or be another one of the same ID. */
static void put_ended(struct store_place *p, const struct put_job *j, bool done)
{
    struct agent_store *s = p->store;
    struct store_record *r = agent_index_get(&s->records, j->entry->id);
    if (r == NULL || r->place != p || r->wanted != j->wanted)
        return; /* what came meanwhile is in the line already */
    store_dequeue(r);
    if (done)
        agent_backoff_reset(&r->retry);
    else if (r->svid != NULL)
        store_enqueue(r, cs_mono_ns(s->cfg.clock) + agent_backoff_next(&r->retry));
}

/* Called with the lock held, gives it up for the time of the call. */
static void do_put(struct store_place *p, struct store_record *r)
{
    struct agent_store *s = p->store;
    CS_CLEANUP(job_free) struct put_job j = {0};
    bool good = job_take(s, r, &j) == CS_OK;
    bool done = false;
    if (good) {
        call_off(p, r->where);
        r->tried = true;
        pthread_mutex_unlock(&s->lock);
        done = call_put(p, &j); /* r may be gone */
        pthread_mutex_lock(&s->lock);
    }
    put_ended(p, &j, done);
}

/* --- The threads --- */

/* What is to be done next, if anything is due that no call under way stands in the way of. */
struct next {
    struct store_gone *gone;
    struct store_record *record;
    int64_t until; /* nothing before this, but for the end of a call; INT64_MAX: nothing at all */
};

static void next_gone(const struct store_place *p, int64_t now, struct next *out)
{
    for (struct store_gone *g = p->gone.first; g != NULL; g = g->next) {
        if (g->due > now)
            out->until = g->due < out->until ? g->due : out->until;
        else if (is_free(p, g->entry->id, g->where)) {
            out->gone = g;
            return;
        }
    }
}

static bool removing(const struct store_place *p)
{
    for (unsigned i = 0; i < p->call_count; i++)
        if (p->calls[i].removes)
            return true;
    return false;
}

static void next_record(const struct store_place *p, int64_t now, struct next *out)
{
    for (struct store_record *r = p->pending.first; r != NULL; r = r->next) {
        if (r->due > now)
            out->until = r->due < out->until ? r->due : out->until;
        else if (is_free(p, r->entry->id, r->where)) {
            out->record = r;
            return;
        }
    }
}

static bool find_next(const struct store_place *p, struct next *out)
{
    const int64_t now = cs_mono_ns(p->store->cfg.clock);
    *out = (struct next){.until = INT64_MAX};
    if (p->call_count == p->calls_max)
        return false; /* whose call ends looks again */
    next_gone(p, now, out);
    if (out->gone == NULL && !removing(p))
        next_record(p, now, out);
    return out->gone != NULL || out->record != NULL;
}

static void call_begins(struct store_place *p, const struct next *n, uint64_t where)
{
    const struct agent_entry *en = n->gone != NULL ? n->gone->entry : n->record->entry;
    p->calls[p->call_count++] =
        (struct store_call){.entry_id = en->id, .where = where, .removes = n->gone != NULL};
}

static void call_ended(struct store_place *p, uint64_t where)
{
    for (unsigned i = 0; i < p->call_count; i++)
        if (p->calls[i].where == where) {
            p->calls[i] = p->calls[--p->call_count];
            return;
        }
}

static void sleep_until(struct store_place *p, int64_t until)
{
    const struct timespec ts = {.tv_sec = until / CS_NS_PER_S, .tv_nsec = until % CS_NS_PER_S};
    p->idle++;
    if (until == INT64_MAX)
        (void)pthread_cond_wait(&p->wake, &p->store->lock);
    else
        (void)pthread_cond_timedwait(&p->wake, &p->store->lock, &ts);
    p->idle--;
}

static cs_code start_thread(struct store_place *p, struct cs_err *e);

void store_work_wake(struct store_place *p)
{
    struct next n;
    if (p->idle > 0)
        pthread_cond_signal(&p->wake);
    else if (p->thread_count < p->calls_max && (find_next(p, &n) || n.until != INT64_MAX))
        (void)start_thread(p, NULL); /* if it cannot be, those there are come to it */
}

static void do_next(struct store_place *p, const struct next *n)
{
    const uint64_t where = n->gone != NULL ? n->gone->where : n->record->where;
    struct next other;
    call_begins(p, n, where);
    if (find_next(p, &other) || other.until != INT64_MAX) /* somebody has to see to that time, too */
        store_work_wake(p);
    if (n->gone != NULL)
        do_remove(p, n->gone);
    else
        do_put(p, n->record);
    call_ended(p, where);
}

static void *work(void *arg)
{
    struct store_place *p = arg;
    struct agent_store *s = p->store;
    struct next n;
    pthread_mutex_lock(&s->lock);
    while (!s->stopping) {
        if (find_next(p, &n))
            do_next(p, &n);
        else
            sleep_until(p, n.until);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Lock held. */
static cs_code start_thread(struct store_place *p, struct cs_err *e)
{
    pthread_t *thread = &p->threads[p->thread_count];
    char name[16];
    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the program's */
    int rc = pthread_create(thread, NULL, work, p);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return cs_fail_errno(e, CS_INTERNAL, rc, "could not start a thread of SVIDStore \"%s\"",
                             p->plugin->name);
    (void)snprintf(name, sizeof name, "store-%s", p->plugin->name);
    (void)pthread_setname_np(*thread, name);
    p->thread_count++;
    return CS_OK;
}

cs_code store_work_start(struct store_place *p, struct cs_err *e)
{
    return p->thread_count > 0 ? CS_OK : start_thread(p, e);
}
