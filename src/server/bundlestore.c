/* SPDX-License-Identifier: Apache-2.0 */
#include "server/bundlestore.h"

#include "base/coll.h"
#include "spiffe/id.h"

#include <pthread.h>
#include <stdatomic.h>

#define TD_PREFIX "spiffe://"
#define HOOKS_MAX 8

struct hook {
    void (*fn)(void *arg, const char *trust_domain);
    void *arg;
};

struct bundlestore {
    struct ds *ds;
    struct cs_log log;
    char *td;
    /* Held from reading the datastore to swapping, so that snapshots appear in the order of the writes. */
    pthread_mutex_t writer;
    pthread_mutex_t lock;   /* the map; held for no I/O */
    struct cs_map *bundles; /* trust domain name -> struct spiffe_bundle * */
    _Atomic uint64_t revision;
    struct hook hooks[HOOKS_MAX];
    size_t hook_count;
};

static void drop_bundle(void *b)
{
    spiffe_bundle_unref(b);
}

/* --- From the datastore's form --- */

static cs_code add_keys(struct spiffe_bundle_builder *b, const struct ds_bundle *from, struct cs_err *e)
{
    for (size_t i = 0; i < from->n_jwt_keys; i++) {
        const struct ds_key *k = &from->jwt_keys[i];
        CS_TRY(spiffe_bundle_add_jwt(b, cs_slice_str(k->kid), k->pkix, k->not_after, k->tainted, e));
    }
    for (size_t i = 0; i < from->n_wit_keys; i++) {
        const struct ds_key *k = &from->wit_keys[i];
        CS_TRY(spiffe_bundle_add_wit(b, cs_slice_str(k->kid), k->pkix, k->not_after, k->tainted, e));
    }
    return CS_OK;
}

static cs_code convert(const struct ds_bundle *from, struct spiffe_bundle **out, struct cs_err *e)
{
    struct cs_slice td;
    CS_TRY(spiffe_td_parse(cs_slice_str(from->trust_domain), &td, e));
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(td, &b, e));
    for (size_t i = 0; i < from->n_roots; i++)
        CS_TRY(spiffe_bundle_add_x509_der(b, from->roots[i].der, from->roots[i].tainted, e));
    CS_TRY(add_keys(b, from, e));
    spiffe_bundle_set_refresh_hint(b, from->refresh_hint);
    spiffe_bundle_set_sequence(b, from->sequence_number);
    return spiffe_bundle_build(b, out, e);
}

/* --- Reading --- */

struct spiffe_bundle *bundlestore_get(struct bundlestore *b, const char *trust_domain)
{
    pthread_mutex_lock(&b->lock);
    struct spiffe_bundle *found = cs_map_get_str(b->bundles, trust_domain);
    if (found != NULL)
        found = spiffe_bundle_ref(found);
    pthread_mutex_unlock(&b->lock);
    return found;
}

struct spiffe_bundle *bundlestore_own(struct bundlestore *b)
{
    return bundlestore_get(b, b->td);
}

uint64_t bundlestore_revision(const struct bundlestore *b)
{
    return atomic_load(&b->revision);
}

/* --- Swapping --- */

/* Takes over `fresh` (NULL: the bundle is gone). The writer's lock is held. */
static cs_code swap(struct bundlestore *b, const char *td, struct spiffe_bundle *fresh, struct cs_err *e)
{
    cs_code rc = CS_OK;
    pthread_mutex_lock(&b->lock);
    if (fresh == NULL)
        (void)cs_map_del(b->bundles, cs_slice_str(td));
    else
        rc = cs_map_put(b->bundles, cs_slice_str(td), fresh);
    pthread_mutex_unlock(&b->lock);
    if (rc != CS_OK) {
        spiffe_bundle_unref(fresh);
        return cs_nomem(e);
    }
    atomic_fetch_add(&b->revision, 1);
    for (size_t i = 0; i < b->hook_count; i++)
        b->hooks[i].fn(b->hooks[i].arg, td);
    return CS_OK;
}

/* Unchanged bundles are left alone. */
static cs_code apply(struct bundlestore *b, const char *td, const struct ds_bundle *stored, struct cs_err *e)
{
    struct spiffe_bundle *fresh = NULL;
    if (stored != NULL)
        CS_TRY(convert(stored, &fresh, e));
    CS_AUTO(spiffe_bundle) old = bundlestore_get(b, td);
    if ((old == NULL && fresh == NULL) || (old != NULL && fresh != NULL && spiffe_bundle_equal(old, fresh))) {
        spiffe_bundle_unref(fresh);
        return CS_OK;
    }
    return swap(b, td, fresh, e);
}

static cs_code refresh(struct bundlestore *b, const char *td, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    const char *id = cs_arena_printf(a, TD_PREFIX "%s", td);
    if (id == NULL)
        return cs_nomem(e);
    struct ds_bundle *stored = NULL;
    CS_TRY(ds_bundle_fetch(b->ds, a, id, &stored, e));
    return apply(b, td, stored, e);
}

cs_code bundlestore_changed(struct bundlestore *b, const char *trust_domain, struct cs_err *e)
{
    pthread_mutex_lock(&b->writer);
    cs_code rc = refresh(b, trust_domain, e);
    pthread_mutex_unlock(&b->writer);
    return rc;
}

cs_code bundlestore_append(struct bundlestore *b, const struct ds_bundle *add, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct ds_bundle own = *add;
    own.trust_domain = cs_arena_printf(a, TD_PREFIX "%s", b->td);
    if (own.trust_domain == NULL)
        return cs_nomem(e);
    struct ds_bundle *stored = NULL;
    pthread_mutex_lock(&b->writer);
    cs_code rc = ds_bundle_append(b->ds, a, &own, &stored, e);
    if (rc == CS_OK)
        rc = apply(b, b->td, stored, e);
    pthread_mutex_unlock(&b->writer);
    return rc;
}

/* --- All of them --- */

/* Names in the map that the datastore no longer has; in the arena. */
static cs_code find_gone(struct bundlestore *b, struct cs_arena *a, const struct ds_bundle *all, size_t n,
                         struct cs_vec *gone, struct cs_err *e)
{
    cs_code rc = CS_OK;
    struct cs_slice name;
    void *value;
    pthread_mutex_lock(&b->lock);
    for (size_t it = 0; rc == CS_OK && cs_map_next(b->bundles, &it, &name, &value);) {
        bool there = false;
        for (size_t i = 0; i < n && !there; i++) {
            struct cs_slice td;
            there = spiffe_td_parse(cs_slice_str(all[i].trust_domain), &td, NULL) == CS_OK &&
                    cs_slice_eq(td, name);
        }
        if (there)
            continue;
        char *copy = cs_arena_strndup(a, (const char *)name.data, name.len);
        if (copy == NULL || cs_vec_push(gone, copy) != CS_OK)
            rc = cs_nomem(e);
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

static cs_code apply_all(struct bundlestore *b, struct cs_arena *a, const struct ds_bundle *all, size_t n,
                         struct cs_err *e)
{
    for (size_t i = 0; i < n; i++) {
        struct cs_slice td;
        CS_TRY(spiffe_td_parse(cs_slice_str(all[i].trust_domain), &td, e));
        const char *name = cs_arena_strndup(a, (const char *)td.data, td.len);
        if (name == NULL)
            return cs_nomem(e);
        cs_code rc = apply(b, name, &all[i], e);
        if (rc == CS_OK)
            continue;
        (void)cs_wrap(e, "bundle of trust domain \"%s\"", name);
        /* A foreign bundle that is broken must not keep our own from working. */
        if (strcmp(name, b->td) == 0 || rc == CS_INTERNAL)
            return rc;
        cs_log_error(&b->log, "Failed to parse stored bundle", KV_ERR(e),
                     KV("trust_domain_id", all[i].trust_domain));
    }
    return CS_OK;
}

static cs_code reload(struct bundlestore *b, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct ds_bundle *all = NULL;
    size_t n = 0;
    CS_TRY(ds_bundle_list(b->ds, a, NULL, &all, &n, NULL, e));
    CS_TRY(apply_all(b, a, all, n, e));
    CS_CLEANUP(cs_vec_free) struct cs_vec gone = {0};
    CS_TRY(find_gone(b, a, all, n, &gone, e));
    for (size_t i = 0; i < gone.len; i++)
        CS_TRY(swap(b, gone.at[i], NULL, e));
    return CS_OK;
}

cs_code bundlestore_reload(struct bundlestore *b, struct cs_err *e)
{
    struct cs_err local;
    pthread_mutex_lock(&b->writer);
    cs_code rc = reload(b, e != NULL ? e : &local);
    pthread_mutex_unlock(&b->writer);
    return rc;
}

/* --- Life --- */

cs_code bundlestore_on_change(struct bundlestore *b, void (*fn)(void *arg, const char *trust_domain),
                              void *arg, struct cs_err *e)
{
    if (b->hook_count == HOOKS_MAX)
        return cs_fail(e, CS_EXHAUSTED, "too many bundle hooks");
    b->hooks[b->hook_count++] = (struct hook){.fn = fn, .arg = arg};
    return CS_OK;
}

cs_code bundlestore_new(struct ds *ds, const char *trust_domain, struct cs_log log, struct bundlestore **out,
                        struct cs_err *e)
{
    *out = NULL;
    struct bundlestore *b = cs_calloc(1, sizeof *b);
    if (b == NULL)
        return cs_nomem(e);
    b->ds = ds;
    b->log = log;
    pthread_mutex_init(&b->writer, NULL);
    pthread_mutex_init(&b->lock, NULL);
    b->td = cs_strdup(trust_domain);
    b->bundles = cs_map_new(drop_bundle);
    cs_code rc = b->td == NULL || b->bundles == NULL ? cs_nomem(e) : bundlestore_reload(b, e);
    if (rc != CS_OK) {
        bundlestore_free(b);
        return rc;
    }
    *out = b;
    return CS_OK;
}

void bundlestore_free(struct bundlestore *b)
{
    if (b == NULL)
        return;
    cs_map_free(b->bundles);
    cs_free(b->td);
    pthread_mutex_destroy(&b->lock);
    pthread_mutex_destroy(&b->writer);
    cs_free(b);
}
