/* SPDX-License-Identifier: Apache-2.0
 *
 * One round of refreshing from the server: entries, bundles, then the SVIDs that are missing or expiring
 * (pkg/agent/manager/sync.go of SPIRE).
 */
#include "agent/agent.h"
#include "agent/csr.h"
#include "agent/rotation.h"
#include "base/logfields.h"
#include "base/text.h"
#include "crypto/x509_verify.h"

/* Entries changed in one round after which memory is given back to the kernel. */
#define TRIM_AFTER 1000

/* --- Bundles --- */

/* The bundles of one round; zero-initialise. */
struct bundle_set {
    struct cs_vec at; /* struct spiffe_bundle *, referenced */
    bool changed;
};

static void bundle_set_free(struct bundle_set *s)
{
    for (size_t i = 0; i < s->at.len; i++)
        spiffe_bundle_unref(s->at.at[i]);
    cs_vec_free(&s->at);
}

static cs_code keep(struct bundle_set *set, struct spiffe_bundle *b, struct cs_err *e)
{
    if (cs_vec_push(&set->at, b) == CS_OK)
        return CS_OK;
    spiffe_bundle_unref(b);
    return cs_nomem(e);
}

/* A bundle that came in the same bytes as the last time need not be read again. */
static cs_code take_bundle(struct agent *a, const char *trust_domain, struct cs_buf *packed,
                           struct bundle_set *set, struct cs_err *e)
{
    struct cs_buf *raw = cs_map_get_str(a->raw_bundles, trust_domain);
    struct spiffe_bundle *known = agent_cache_bundle(a->cache, trust_domain);
    if (raw != NULL && known != NULL && cs_slice_eq(cs_buf_slice(raw), cs_buf_slice(packed)))
        return keep(set, known, e);
    spiffe_bundle_unref(known);
    struct spiffe_bundle *fresh = NULL;
    struct cs_err fault;
    cs_code rc = agent_bundle_parse(cs_buf_slice(packed), &fresh, &fault);
    if (rc == CS_OK && strcmp(fresh->trust_domain, trust_domain) != 0) {
        rc = cs_fail(&fault, CS_INVALID, "bundle is of trust domain \"%s\"", fresh->trust_domain);
        spiffe_bundle_unref(fresh);
    }
    if (rc != CS_OK) {
        cs_log_warn(
            &a->mlog,
            "Received malformed bundle from SPIRE server; are the server and agent versions compatible?",
            KV_ERR(&fault));
        return CS_OK;
    }
    set->changed = true;
    CS_TRY(keep(set, fresh, e));
    struct cs_buf *copy = cs_calloc(1, sizeof *copy);
    if (copy == NULL)
        return cs_nomem(e);
    *copy = *packed;
    *packed = (struct cs_buf){0};
    if (cs_map_put(a->raw_bundles, cs_slice_str(trust_domain), copy) != CS_OK) {
        cs_buf_free(copy);
        cs_free(copy);
        return cs_nomem(e);
    }
    return CS_OK;
}

static cs_code fetch_bundle(struct agent *a, const char *federated, struct bundle_set *set,
                            struct agent_failure *failure, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    cs_code rc = agent_api_get_bundle(a->link, &a->mlog, federated, &packed, failure, e);
    if (rc == CS_NOT_FOUND && federated != NULL)
        return CS_OK;
    CS_TRY(rc);
    return take_bundle(a, federated != NULL ? federated : a->cfg->trust_domain, &packed, set, e);
}

/* Names of all trust domains that entries federate with; the map's values mean nothing. */
static cs_code add_names(struct cs_map *names, const struct agent_entry *en, struct cs_err *e)
{
    static const char here;
    for (uint32_t i = 0; i < en->federates_count; i++)
        if (cs_map_put(names, cs_slice_str(en->federates_with[i]), (void *)(uintptr_t)&here) != CS_OK)
            return cs_nomem(e);
    return CS_OK;
}

static bool is_removed(const struct agent_sync *s, const char *id)
{
    for (size_t i = 0; i < s->removed.len; i++)
        if (strcmp(s->removed.at[i], id) == 0)
            return true;
    return false;
}

/* Entries that change or go are looked at as they will be. A name too many costs one request. */
static cs_code collect_names(struct agent *a, const struct agent_sync *s, struct cs_map *names,
                             struct cs_err *e)
{
    const struct agent_entry *en;
    for (size_t it = 0; (en = agent_cache_next(a->cache, &it)) != NULL;)
        if (en->federates_count > 0 && !is_removed(s, en->id))
            CS_TRY(add_names(names, en, e));
    for (size_t i = 0; i < s->changed.len; i++)
        CS_TRY(add_names(names, s->changed.at[i], e));
    return CS_OK;
}

static cs_code fetch_federated(struct agent *a, const struct cs_map *names, struct bundle_set *set,
                               struct agent_failure *failure, struct cs_err *e)
{
    struct cs_slice name;
    void *value;
    for (size_t it = 0; cs_map_next(names, &it, &name, &value);) {
        CS_CLEANUP(cs_freep) char *td = cs_strndup((const char *)name.data, name.len);
        if (td == NULL)
            return cs_nomem(e);
        if (strcmp(td, a->cfg->trust_domain) != 0)
            CS_TRY(fetch_bundle(a, td, set, failure, e));
    }
    return CS_OK;
}

static cs_code fetch_bundles(struct agent *a, const struct agent_sync *s, struct bundle_set *set,
                             struct agent_failure *failure, struct cs_err *e)
{
    struct cs_map *names = cs_map_new(NULL);
    if (names == NULL)
        return cs_nomem(e);
    cs_code rc = collect_names(a, s, names, e);
    if (rc == CS_OK)
        rc = fetch_bundle(a, NULL, set, failure, e);
    if (rc == CS_OK)
        rc = fetch_federated(a, names, set, failure, e);
    cs_map_free(names);
    return rc;
}

/* --- Taint and revocation --- */

struct taint_check {
    const struct x509_cert **roots;
    size_t count;
    int64_t now;
};

/* Is the chain under one of the tainted roots? */
static bool chain_tainted(const struct taint_check *t, const struct x509_chain *chain)
{
    const struct x509_verify_params params = {
        .roots = t->roots,
        .root_count = t->count,
        .now = t->now,
        .purpose = X509_PURPOSE_ANY,
    };
    return x509_verify(chain, &params, NULL, NULL, NULL) == CS_OK;
}

static bool svid_tainted(void *arg, const struct agent_svid *svid)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    return x509_chain_parse_der(svid->chain, X509_CHAIN_MAX, &chain, NULL) == CS_OK &&
           chain_tainted(arg, &chain);
}

static bool was_tainted(const struct spiffe_bundle *old, const struct x509_cert *cert)
{
    for (size_t i = 0; old != NULL && i < old->x509_count; i++)
        if (old->x509[i].tainted && x509_cert_equal(old->x509[i].cert, cert))
            return true;
    return false;
}

static cs_code process_x509_taint(struct agent *a, const struct spiffe_bundle *old,
                                  const struct spiffe_bundle *now, struct cs_err *e)
{
    const struct x509_cert **roots = cs_calloc(now->x509_count + 1, sizeof *roots);
    if (roots == NULL)
        return cs_nomem(e);
    struct taint_check t = {.roots = roots, .now = cs_now_s(a->clock)};
    CS_CLEANUP(cs_buf_free) struct cs_buf ids = {0};
    for (size_t i = 0; i < now->x509_count; i++) {
        if (!now->x509[i].tainted || was_tainted(old, now->x509[i].cert))
            continue;
        roots[t.count++] = now->x509[i].cert;
        cs_buf_add_str(&ids, ids.len > 0 ? "," : "");
        x509_cert_key_id_hex(&ids, now->x509[i].cert);
    }
    if (t.count > 0) {
        size_t seen = 0;
        cs_log_debug(&a->mlog, "New tainted X.509 authorities found",
                     KV("subject_key_ids", cs_buf_cstr(&ids)));
        size_t dropped = agent_cache_drop_tainted(a->cache, svid_tainted, &t, &seen);
        cs_log_info(&a->mlog, "Tainted X.509 SVIDs", KV_INT("tainted_x509_svids", (int64_t)dropped));
        if (agent_store_count(a->store) > 0) {
            struct cs_log log = cs_log_sub(a->log, "svid_store_cache");
            dropped = agent_store_drop_tainted(a->store, svid_tainted, &t);
            cs_log_info(&log, "Tainted X.509 SVIDs", KV_INT("tainted_x509_svids", (int64_t)dropped));
        }
        if (!a->self.tainted && chain_tainted(&t, &a->self.svid)) {
            cs_log_info(&a->mlog, "Agent SVID is tainted by a root authority, forcing rotation");
            a->self.tainted = true;
        }
    }
    cs_free(roots);
    return CS_OK;
}

static bool kid_good(void *arg, const char *kid)
{
    const struct spiffe_jwt_authority *k = spiffe_bundle_find_jwt(arg, cs_slice_str(kid));
    return k != NULL && !k->tainted;
}

/* Was an authority of the old bundle tainted or taken away? A token of it must not be handed out again. */
static bool jwt_authorities_lost(const struct spiffe_bundle *old, const struct spiffe_bundle *now)
{
    for (size_t i = 0; old != NULL && i < old->jwt_count; i++)
        if (!old->jwt[i].tainted && !kid_good((void *)(uintptr_t)now, old->jwt[i].kid))
            return true;
    return false;
}

static void process_jwt_taint(struct agent *a, const struct spiffe_bundle *old,
                              const struct spiffe_bundle *now)
{
    if (!jwt_authorities_lost(old, now))
        return;
    size_t n = agent_jwt_cache_sweep(a->jwts, kid_good, (void *)(uintptr_t)now);
    if (n > 0)
        cs_log_info(
            &a->mlog,
            "JWT-SVIDs were removed from the JWT cache because they were issued by a tainted authority",
            KV_INT("tainted_jwt_svids", (int64_t)n));
}

/* The agent's own bundle changed: who the server is, what is stored, what is tainted. */
static cs_code adopt_bundle(struct agent *a, const struct spiffe_bundle *now, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle) old = a->bundle;
    a->bundle = spiffe_bundle_ref(now);
    if (old != NULL && spiffe_bundle_equal(old, now))
        return CS_OK;
    agent_link_set_bundle(a->link, now);
    CS_CLEANUP(x509_chain_free) struct x509_chain roots = {0};
    for (size_t i = 0; i < now->x509_count; i++)
        CS_TRY(x509_chain_add(&roots, now->x509[i].cert, e));
    struct cs_err fault;
    if (agent_storage_set_bundle(a->storage, &roots, &fault) != CS_OK)
        cs_log_error(&a->mlog, "Could not store bundle", KV_ERR(&fault));
    process_jwt_taint(a, old, now);
    return process_x509_taint(a, old, now, e);
}

/* --- Entries --- */

static cs_code apply(struct agent *a, const struct agent_sync *s, const struct bundle_set *set,
                     struct cs_err *e)
{
    const struct agent_cache_delta d = {
        .changed = (struct agent_entry *const *)(void *)s->changed.at,
        .changed_count = s->changed.len,
        .removed = (const char *const *)(void *)s->removed.at,
        .removed_count = s->removed.len,
        .bundles = set->at.len > 0 ? (const struct spiffe_bundle *const *)(void *)set->at.at : NULL,
        .bundle_count = set->at.len,
    };
    for (size_t i = 0; i < set->at.len; i++) {
        const struct spiffe_bundle *b = set->at.at[i];
        if (strcmp(b->trust_domain, a->cfg->trust_domain) == 0)
            CS_TRY(adopt_bundle(a, b, e));
    }
    /* First, because what the cache has taken over is not sent again. */
    CS_TRY(agent_store_apply(a->store, &d, e));
    return agent_cache_apply(a->cache, &d, e);
}

cs_code agent_refresh(struct agent *a, struct agent_failure *failure, struct cs_err *e)
{
    CS_CLEANUP(agent_sync_free) struct agent_sync s = {0};
    CS_CLEANUP(bundle_set_free) struct bundle_set set = {0};
    if (a->cfg->use_sync_authorized_entries)
        CS_TRY(agent_api_sync_entries(a->link, &a->mlog, a->cache, &a->sync, &s, failure, e));
    else
        CS_TRY(agent_api_fetch_entries(a->link, &a->mlog, a->cache, &a->sync, &s, failure, e));
    CS_TRY(fetch_bundles(a, &s, &set, failure, e));
    CS_TRY(apply(a, &s, &set, e));
    a->sync.mark = s.mark;
    if (s.changed.len + s.removed.len > TRIM_AFTER)
        cs_mem_trim();
    return CS_OK;
}

/* --- SVIDs --- */

/* Who keeps SVIDs: the cache of the workloads, and the service that stores them. */
struct svid_keeper {
    const char *cache_type; /* for the log */
    size_t (*stale)(struct agent *a, struct agent_stale *out, size_t max);
    void (*put)(struct agent *a, const struct agent_new_svid *svids, size_t count);
};

static size_t workload_stale(struct agent *a, struct agent_stale *out, size_t max)
{
    return agent_cache_stale(a->cache, out, max);
}

static void workload_put(struct agent *a, const struct agent_new_svid *svids, size_t count)
{
    agent_cache_put_svids(a->cache, svids, count);
}

static size_t store_stale(struct agent *a, struct agent_stale *out, size_t max)
{
    return agent_store_stale(a->store, out, max);
}

static void store_put(struct agent *a, const struct agent_new_svid *svids, size_t count)
{
    agent_store_put_svids(a->store, svids, count);
}

static const struct svid_keeper workloads = {"workload", workload_stale, workload_put};
static const struct svid_keeper stores = {"svid_store", store_stale, store_put};

/* One batch under way. */
struct batch {
    struct agent_stale *stale;
    struct crypto_key **keys;
    struct cs_buf *requests;
    struct agent_csr *csrs;
    struct x509_chain *chains;
    struct agent_svid **svids;
    struct agent_new_svid *fresh;
    size_t count;
};

static void batch_free(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        agent_entry_unref(b->stale[i].entry);
        crypto_key_unref(b->keys[i]);
        cs_buf_free(&b->requests[i]);
        x509_chain_free(&b->chains[i]);
        agent_svid_unref(b->svids[i]);
    }
    cs_free(b->stale);
    cs_free(b->keys);
    cs_free(b->requests);
    cs_free(b->csrs);
    cs_free(b->chains);
    cs_free(b->svids);
    cs_free(b->fresh);
}

static cs_code batch_make(struct agent *a, const struct svid_keeper *k, struct batch *b, unsigned max,
                          struct cs_err *e)
{
    b->stale = cs_calloc(max, sizeof *b->stale);
    b->keys = cs_calloc(max, sizeof *b->keys);
    b->requests = cs_calloc(max, sizeof *b->requests);
    b->csrs = cs_calloc(max, sizeof *b->csrs);
    b->chains = cs_calloc(max, sizeof *b->chains);
    b->svids = cs_calloc(max, sizeof *b->svids);
    b->fresh = cs_calloc(max, sizeof *b->fresh);
    if (b->stale == NULL || b->keys == NULL || b->requests == NULL || b->csrs == NULL || b->chains == NULL ||
        b->svids == NULL || b->fresh == NULL)
        return cs_nomem(e);
    b->count = k->stale(a, b->stale, max);
    return CS_OK;
}

static enum crypto_key_type key_type(const struct agent *a)
{
    switch (a->cfg->workload_x509_svid_key_type) {
    case CONFIG_KEY_RSA_2048:
        return CRYPTO_RSA_2048;
    case CONFIG_KEY_EC_P384:
        return CRYPTO_EC_P384;
    default:
        return CRYPTO_EC_P256;
    }
}

static void log_request(struct agent *a, const struct agent_stale *s)
{
    if (s->expires == 0) {
        cs_log_info(&a->mlog, "Creating X509-SVID", KV(CS_F_ENTRY_ID, s->entry->id),
                    KV(CS_F_SPIFFE_ID, s->entry->spiffe_id));
        return;
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf expires = {0};
    cs_time_rfc3339(&expires, s->expires);
    cs_log_info(&a->mlog, "Renewing X509-SVID", KV(CS_F_ENTRY_ID, s->entry->id),
                KV("expires_at", cs_buf_cstr(&expires)), KV(CS_F_SPIFFE_ID, s->entry->spiffe_id));
}

static cs_code make_requests(struct agent *a, struct batch *b, struct cs_err *e)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct agent_entry *en = b->stale[i].entry;
        log_request(a, &b->stale[i]);
        CS_TRY(crypto_key_generate(key_type(a), &b->keys[i], e));
        CS_AUTO(crypto_signer) signer = NULL;
        CS_TRY(crypto_signer_of_key(b->keys[i], &signer, e));
        CS_TRY(agent_csr_write(signer, en->spiffe_id, &b->requests[i], e));
        b->csrs[i] = (struct agent_csr){.entry_id = en->id, .csr = cs_buf_slice(&b->requests[i])};
    }
    return CS_OK;
}

static cs_code take_answers(struct agent *a, const struct svid_keeper *k, struct batch *b, struct cs_err *e)
{
    size_t n = 0;
    int64_t target = a->cfg->availability_target_ns;
    for (size_t i = 0; i < b->count; i++) {
        const struct agent_entry *en = b->stale[i].entry;
        if (b->chains[i].count == 0)
            continue;
        const struct x509_cert *leaf = b->chains[i].at[0];
        struct cs_err fault;
        if (agent_svid_check(leaf, crypto_key_pub(b->keys[i]), en->spiffe_id, &fault) != CS_OK) {
            cs_log_error(&a->mlog, "Ignoring an X509-SVID that was not asked for", KV(CS_F_ENTRY_ID, en->id),
                         KV(CS_F_SPIFFE_ID, en->spiffe_id), KV_ERR(&fault));
            continue; /* still stale */
        }
        if (agent_rotation_falls_back(leaf->not_before, leaf->not_after, target))
            cs_log_warn(
                &a->mlog,
                "X509 SVID lifetime isn't long enough to guarantee the availability_target, falling back to "
                "the default rotation strategy",
                KV(CS_F_ENTRY_ID, en->id), KV(CS_F_SPIFFE_ID, en->spiffe_id));
        CS_TRY(agent_svid_new(&b->chains[i], b->keys[i], target, &b->svids[i], e));
        b->fresh[n++] = (struct agent_new_svid){.entry_id = en->id, .svid = b->svids[i]};
    }
    k->put(a, b->fresh, n);
    return CS_OK;
}

static cs_code fetch_batch(struct agent *a, const struct svid_keeper *k, size_t stale, unsigned max,
                           struct agent_failure *failure, struct cs_err *e)
{
    cs_log_debug(&a->mlog, "Renewing stale entries", KV("cache_type", k->cache_type),
                 KV_INT("count", (int64_t)stale), KV_INT("limit", max));
    CS_CLEANUP(batch_free) struct batch b = {0};
    CS_TRY(batch_make(a, k, &b, max, e));
    CS_TRY(make_requests(a, &b, e));
    if (b.count == 0)
        return CS_OK;
    CS_TRY(agent_api_new_svids(a->link, &a->mlog, b.csrs, b.count, b.chains, failure, e));
    return take_answers(a, k, &b, e);
}

size_t agent_stale_svids(struct agent *a)
{
    return agent_cache_tick(a->cache) + agent_store_tick(a->store);
}

cs_code agent_fetch_svids(struct agent *a, unsigned batch, struct agent_failure *failure, struct cs_err *e)
{
    *failure = (struct agent_failure){0};
    size_t stale = agent_cache_tick(a->cache);
    if (stale > 0)
        CS_TRY(fetch_batch(a, &workloads, stale, batch, failure, e));
    stale = agent_store_tick(a->store);
    return stale > 0 ? fetch_batch(a, &stores, stale, batch, failure, e) : CS_OK;
}
