/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ca/manager.h"

#include "base/text.h"
#include "crypto/x509_verify.h"
#include "plugin/keymanager.h"
#include "server/ca/slot.h"
#include "server/ca/upstream.h"

#include <pthread.h>
#include <stdatomic.h>

#define BUNDLE_KEEP_S (24 * 3600)
#define JOURNAL_KEEP_S (14 * 24 * 3600)
#define FAILURES_MAX 10

struct ca_manager {
    struct ca_manager_config cfg;
    struct cs_log log;
    char *td_id;                  /* "spiffe://example.org" */
    struct ca_upstream *upstream; /* NULL: the CA is self-signed */
    pthread_mutex_t lock;         /* journal and slots */
    struct ca_journal *journal;
    struct ca_slots x509, jwt;
    bool warned_no_upstream_jwt;
    _Atomic unsigned failures;
};

/* --- Logging in SPIRE's words --- */

struct times {
    struct cs_buf issued, expires;
};
static void times_free(struct times *t)
{
    cs_buf_free(&t->issued);
    cs_buf_free(&t->expires);
}
static void times_of(const struct ca_slot *s, struct times *t)
{
    cs_time_go_local(&t->issued, s->issued_at);
    if (s->x509 != NULL)
        cs_time_go_string(&t->expires, s->not_after);
    else
        cs_time_go_local(&t->expires, s->not_after);
}

static void log_x509(struct ca_manager *m, const char *msg, const struct ca_slot *s, bool prepared)
{
    CS_CLEANUP(times_free) struct times t = {0};
    times_of(s, &t);
    if (prepared)
        cs_log_info(&m->log, msg, KV("expiration", cs_buf_cstr(&t.expires)),
                    KV("issued_at", cs_buf_cstr(&t.issued)), KV("local_authority_id", s->authority_id),
                    KV_BOOL("self_signed", m->cfg.upstream == NULL), KV("slot", s->id),
                    KV("upstream_authority_id", s->upstream_authority_id));
    else
        cs_log_info(&m->log, msg, KV("expiration", cs_buf_cstr(&t.expires)),
                    KV("issued_at", cs_buf_cstr(&t.issued)), KV("local_authority_id", s->authority_id),
                    KV("slot", s->id), KV("upstream_authority_id", s->upstream_authority_id));
}

static void log_jwt(struct ca_manager *m, const char *msg, const struct ca_slot *s)
{
    CS_CLEANUP(times_free) struct times t = {0};
    times_of(s, &t);
    cs_log_info(&m->log, msg, KV("expiration", cs_buf_cstr(&t.expires)),
                KV("issued_at", cs_buf_cstr(&t.issued)), KV("local_authority_id", s->authority_id),
                KV("slot", s->id));
}

/* --- Activation --- */

static void activate_x509(struct ca_manager *m)
{
    struct ca_slot *s = &m->x509.current;
    struct cs_err err;
    log_x509(m, "X509 CA activated", s, false);
    s->status = JOURNAL__STATUS__ACTIVE;
    if (ca_journal_set_x509_status(m->journal, s->authority_id, JOURNAL__STATUS__ACTIVE, &err) != CS_OK)
        cs_log_error(&m->log, "Failed to update to activated status on X509CA journal entry", KV_ERR(&err),
                     KV("local_authority_id", s->authority_id), KV("slot", s->id));
    cs_log_debug(&m->log, "Successfully rotated X.509 CA", KV("trust_domain_id", m->td_id),
                 KV_INT("ttl", s->not_after - cs_now_s(m->cfg.clock)));
    ca_set_x509(m->cfg.ca, s->x509);
}

static void activate_jwt(struct ca_manager *m)
{
    struct ca_slot *s = &m->jwt.current;
    struct cs_err err;
    log_jwt(m, "JWT key activated", s);
    s->status = JOURNAL__STATUS__ACTIVE;
    if (ca_journal_set_jwt_status(m->journal, s->authority_id, JOURNAL__STATUS__ACTIVE, &err) != CS_OK)
        cs_log_error(&m->log, "Failed to update to activated status on JWTKey journal entry", KV_ERR(&err),
                     KV("local_authority_id", s->authority_id), KV("slot", s->id));
    ca_set_jwt(m->cfg.ca, s->jwt);
}

/* --- Preparation --- */

static cs_code generate_key(struct ca_manager *m, const char *prefix, const struct ca_slot *s,
                            enum crypto_key_type type, struct crypto_signer **out, struct cs_err *e)
{
    const struct keymanager_ops *ops = m->cfg.keymanager->ops;
    CS_CLEANUP(cs_freep) char *id = cs_asprintf("%s%s", prefix, s->id);
    if (id == NULL)
        return cs_nomem(e);
    const struct catalog_plugin *p = m->cfg.keymanager;
    return plugin_answer(p->type, p->name, ops->generate_key(p->self, id, type, out, e), e);
}

static cs_code append_root(struct ca_manager *m, const struct x509_cert *cert, struct cs_err *e)
{
    const struct ds_cert root = {.der = cert->der};
    const struct ds_bundle add = {.trust_domain = m->td_id, .roots = &root, .n_roots = 1};
    return bundlestore_append(m->cfg.bundles, &add, e);
}

static cs_code make_self_signed(struct ca_manager *m, struct crypto_signer *signer,
                                struct ca_x509_authority **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_TRY(ca_self_sign(m->cfg.ca, signer, &der, e));
    CS_AUTO(x509_cert) cert = NULL;
    CS_TRY(x509_cert_parse(cs_buf_slice(&der), &cert, e));
    CS_AUTO(ca_x509_authority) authority = NULL;
    const struct x509_chain none = {0};
    CS_TRY(ca_x509_authority_new(cert, signer, &none, &authority, e));
    CS_TRY(append_root(m, cert, e));
    *out = CS_MOVE(authority);
    return CS_OK;
}

static cs_code make_upstream_signed(struct ca_manager *m, struct crypto_signer *signer,
                                    struct ca_x509_authority **out, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_TRY(ca_upstream_mint(m->upstream, signer, &chain, e));
    return ca_x509_authority_new(chain.at[0], signer, &chain, out, e);
}

static cs_code prepare_x509(struct ca_manager *m, struct cs_err *e)
{
    struct ca_slot *s = ca_slot_empty(&m->x509.current) ? &m->x509.current : &m->x509.next;
    cs_log_debug(&m->log, "Preparing X509 CA", KV("slot", s->id));
    ca_slot_reset(s);
    int64_t now = cs_now_s(m->cfg.clock);
    CS_AUTO(crypto_signer) signer = NULL;
    CS_TRY(generate_key(m, CA_X509_KEY_PREFIX, s, m->cfg.x509_key_type, &signer, e));
    if (m->cfg.upstream != NULL)
        CS_TRY(make_upstream_signed(m, signer, &s->x509, e));
    else
        CS_TRY(make_self_signed(m, signer, &s->x509, e));

    const struct x509_cert *cert = ca_x509_authority_cert(s->x509);
    s->status = JOURNAL__STATUS__PREPARED;
    s->issued_at = now;
    s->not_after = cert->not_after;
    ca_slot_set_hex_id(s->authority_id, cert->ext.ski);
    ca_slot_set_hex_id(s->upstream_authority_id, cert->ext.aki);
    struct cs_err err;
    if (ca_journal_append_x509(m->journal, s->id, now, cert, &s->x509->upstream_chain, &err) != CS_OK)
        cs_log_error(&m->log, "Unable to append X509 CA to journal", KV_ERR(&err), KV("slot", s->id));
    log_x509(m, "X509 CA prepared", s, true);
    return CS_OK;
}

/* 32 letters and digits, each equally likely. */
static cs_code make_kid(char out[33], struct cs_err *e)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    for (size_t n = 0; n < 32;) {
        uint8_t bytes[64];
        CS_TRY(cs_random(bytes, sizeof bytes, e));
        for (size_t i = 0; i < sizeof bytes && n < 32; i++)
            if (bytes[i] < 4 * 62)
                out[n++] = alphabet[bytes[i] % 62];
    }
    out[32] = '\0';
    return CS_OK;
}

/* Into the bundle, upstream's as well where it takes JWT keys. */
static cs_code publish_jwt(struct ca_manager *m, const struct ds_key *key, struct cs_err *e)
{
    if (m->cfg.upstream != NULL) {
        cs_code rc = ca_upstream_publish_jwt(m->upstream, key, e);
        if (rc != CS_UNIMPLEMENTED)
            return rc;
        if (!m->warned_no_upstream_jwt)
            cs_log_warn(
                &m->log,
                "UpstreamAuthority plugin does not support JWT-SVIDs. Workloads managed by this server may "
                "have trouble communicating with workloads outside this cluster when using JWT-SVIDs.",
                KV("plugin_name", m->cfg.upstream->name));
        m->warned_no_upstream_jwt = true;
    }
    const struct ds_bundle add = {.trust_domain = m->td_id, .jwt_keys = key, .n_jwt_keys = 1};
    return bundlestore_append(m->cfg.bundles, &add, e);
}

static cs_code prepare_jwt(struct ca_manager *m, struct cs_err *e)
{
    struct ca_slot *s = ca_slot_empty(&m->jwt.current) ? &m->jwt.current : &m->jwt.next;
    cs_log_debug(&m->log, "Preparing JWT key", KV("slot", s->id));
    ca_slot_reset(s);
    int64_t now = cs_now_s(m->cfg.clock);
    CS_AUTO(crypto_signer) signer = NULL;
    CS_TRY(generate_key(m, CA_JWT_KEY_PREFIX, s, m->cfg.jwt_key_type, &signer, e));
    char kid[33];
    CS_TRY(make_kid(kid, e));
    CS_AUTO(ca_jwt_authority) authority = NULL;
    CS_TRY(ca_jwt_authority_new(signer, kid, now + ca_x509_ca_ttl(m->cfg.ca), &authority, e));
    struct cs_slice spki = crypto_pub_spki(crypto_signer_pub(signer));
    const struct ds_key key = {.pkix = spki, .kid = kid, .not_after = authority->not_after};
    CS_TRY(publish_jwt(m, &key, e));

    s->status = JOURNAL__STATUS__PREPARED;
    s->issued_at = now;
    s->not_after = authority->not_after;
    ca_slot_set_id(s->authority_id, kid);
    s->jwt = CS_MOVE(authority);
    struct cs_err err;
    if (ca_journal_append_jwt(m->journal, s->id, now, kid, spki, s->not_after, &err) != CS_OK)
        cs_log_error(&m->log, "Unable to append JWT key to journal", KV_ERR(&err), KV("slot", s->id));
    log_jwt(m, "JWT key prepared", s);
    return CS_OK;
}

/* --- Rotation --- */

static bool due(int64_t now_ns, int64_t at_ns)
{
    return now_ns > at_ns;
}

static void turn_x509(struct ca_manager *m)
{
    struct cs_err err;
    ca_slots_swap(&m->x509);
    if (ca_journal_set_x509_status(m->journal, m->x509.next.authority_id, JOURNAL__STATUS__OLD, &err) !=
        CS_OK)
        cs_log_error(&m->log, "Failed to update status on X509CA journal entry", KV_ERR(&err));
    activate_x509(m);
}

static cs_code rotate_x509(struct ca_manager *m, struct cs_err *e)
{
    struct ca_slots *s = &m->x509;
    int64_t now = cs_now_ns(m->cfg.clock);
    if (ca_slot_empty(&s->current)) {
        CS_TRY(prepare_x509(m, e));
        activate_x509(m);
    }
    if (ca_slot_empty(&s->next) && due(now, ca_slot_prepare_at(&s->current)))
        CS_TRY(prepare_x509(m, e));
    if (due(now, ca_slot_activate_at(&s->current)))
        turn_x509(m);
    return CS_OK;
}

static cs_code rotate_jwt(struct ca_manager *m, struct cs_err *e)
{
    if (ca_jwt_disabled(m->cfg.ca))
        return CS_OK;
    struct ca_slots *s = &m->jwt;
    int64_t now = cs_now_ns(m->cfg.clock);
    if (ca_slot_empty(&s->current)) {
        CS_TRY(prepare_jwt(m, e));
        activate_jwt(m);
    }
    if (ca_slot_empty(&s->next) && due(now, ca_slot_prepare_at(&s->current)))
        CS_TRY(prepare_jwt(m, e));
    if (!due(now, ca_slot_activate_at(&s->current)))
        return CS_OK;
    ca_slots_swap(s);
    struct cs_err err;
    if (ca_journal_set_jwt_status(m->journal, s->next.authority_id, JOURNAL__STATUS__OLD, &err) != CS_OK)
        cs_log_error(&m->log, "Failed to update status on JWTKey journal entry", KV_ERR(&err));
    activate_jwt(m);
    return CS_OK;
}

/* --- Taints of the upstream --- */

static bool hangs_on(struct ca_manager *m, const struct ca_slot *s, const struct x509_chain *tainted)
{
    if (ca_slot_empty(s))
        return false;
    const struct x509_verify_params params = {.roots = (const struct x509_cert *const *)tainted->at,
                                              .root_count = tainted->count,
                                              .now = cs_now_s(m->cfg.clock)};
    return x509_verify(&s->x509->upstream_chain, &params, NULL, NULL, NULL) == CS_OK;
}

/* Go on with an authority that does not hang on them. */
static cs_code leave_tainted(struct ca_manager *m, const struct x509_chain *tainted, struct cs_err *e)
{
    cs_log_debug(&m->log, "Processing tainted keys on upstream authority");
    if (!hangs_on(m, &m->x509.current, tainted))
        return CS_OK;
    cs_log_info(&m->log, "Current root CA is signed by a tainted upstream authority, preparing rotation");
    bool next_too = hangs_on(m, &m->x509.next, tainted);
    if (next_too)
        cs_log_info(&m->log, "Next authority is tainted, prepare new X.509 authority");
    if ((next_too || ca_slot_empty(&m->x509.next)) && prepare_x509(m, e) != CS_OK)
        return cs_wrap(e, "failed to prepare x509 authority");
    turn_x509(m);
    return CS_OK;
}

static cs_code store_taints(struct ca_manager *m, const struct x509_chain *tainted, struct cs_err *e)
{
    for (size_t i = 0; i < tainted->count; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf id = {0};
        x509_cert_key_id_hex(&id, tainted->at[i]);
        CS_AUTO(spiffe_bundle) own = bundlestore_own(m->cfg.bundles);
        const struct spiffe_x509_authority *ours =
            own != NULL ? spiffe_bundle_find_x509(own, cs_buf_slice(&id)) : NULL;
        if (ours == NULL || ours->tainted) /* gone, or another server was faster */
            continue;
        if (ds_x509_ca_taint(m->cfg.ds, m->td_id, cs_buf_cstr(&id), e) != CS_OK)
            return cs_wrap(e, "could not taint X509 CA in datastore");
        CS_TRY(bundlestore_changed(m->cfg.bundles, m->cfg.trust_domain, e));
    }
    return CS_OK;
}

/* First our own CA moves, then agents and downstream servers are told, who would otherwise come back to it.
 * What fails is done again at the next rotation. */
static cs_code process_taints(struct ca_manager *m, struct cs_err *e)
{
    if (m->upstream == NULL)
        return CS_OK;
    CS_CLEANUP(x509_chain_free) struct x509_chain tainted = {0};
    CS_TRY(ca_upstream_tainted(m->upstream, &tainted, e));
    if (tainted.count == 0)
        return CS_OK;
    cs_code rc = leave_tainted(m, &tainted, e);
    if (rc == CS_OK)
        rc = store_taints(m, &tainted, e);
    if (rc == CS_OK)
        ca_upstream_taints_done(m->upstream, &tainted);
    else
        cs_log_warn(&m->log, "Failed to process tainted keys on upstream authority", KV_ERR(e));
    return rc;
}

static cs_code rotate_all(struct ca_manager *m, struct cs_err *e)
{
    cs_code x509 = rotate_x509(m, e);
    if (x509 != CS_OK) {
        atomic_fetch_add(&m->failures, 1);
        cs_log_error(&m->log, "Unable to rotate X509 CA", KV_ERR(e));
        /* The journal has no row to keep a JWT key in without an active X.509 authority. */
        if (ca_slot_empty(&m->x509.current))
            return x509;
    }
    struct cs_err err;
    cs_code jwt = rotate_jwt(m, &err);
    if (jwt == CS_OK)
        return x509;
    atomic_fetch_add(&m->failures, 1);
    cs_log_error(&m->log, "Unable to rotate JWT key", KV_ERR(&err));
    if (x509 == CS_OK)
        *e = err;
    return x509 != CS_OK ? x509 : jwt;
}

cs_code ca_manager_rotate(struct ca_manager *m, struct cs_err *e)
{
    struct cs_err local, taints;
    e = e != NULL ? e : &local;
    pthread_mutex_lock(&m->lock);
    cs_code rc = rotate_all(m, e);
    /* after it, since the first mint of all may bring the news */
    if (process_taints(m, &taints) != CS_OK && rc == CS_OK) {
        *e = taints;
        rc = taints.code;
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static int64_t due_of(const struct ca_slots *s)
{
    if (ca_slot_empty(&s->current))
        return 0;
    return (ca_slot_empty(&s->next) ? ca_slot_prepare_at(&s->current) : ca_slot_activate_at(&s->current)) + 1;
}

int64_t ca_manager_due(struct ca_manager *m)
{
    pthread_mutex_lock(&m->lock);
    int64_t at = due_of(&m->x509);
    if (!ca_jwt_disabled(m->cfg.ca)) {
        int64_t jwt = due_of(&m->jwt);
        at = jwt < at ? jwt : at;
    }
    pthread_mutex_unlock(&m->lock);
    return at;
}

/* --- Upkeep --- */

cs_code ca_manager_prune_bundle(struct ca_manager *m, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    bool changed = false;
    cs_code rc = ds_bundle_prune(m->cfg.ds, m->td_id, cs_now_s(m->cfg.clock) - BUNDLE_KEEP_S, &changed, e);
    if (rc != CS_OK)
        return cs_wrap(e, "unable to prune bundle");
    if (!changed)
        return CS_OK;
    cs_log_debug(&m->log, "Expired certificates were successfully pruned from bundle");
    return bundlestore_changed(m->cfg.bundles, m->cfg.trust_domain, e);
}

cs_code ca_manager_prune_journals(struct ca_manager *m, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    if (ds_ca_journal_prune(m->cfg.ds, cs_now_s(m->cfg.clock) - JOURNAL_KEEP_S, e) != CS_OK)
        return cs_wrap(e, "unable to prune CA journals");
    return CS_OK;
}

cs_code ca_manager_health(struct ca_manager *m, struct cs_err *e)
{
    if (atomic_load(&m->failures) <= FAILURES_MAX)
        return CS_OK;
    return cs_fail(e, CS_INTERNAL, "rotations exceed the threshold number of failures");
}

/* --- Life --- */

static cs_code load_slots(struct ca_manager *m, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Journal__Entries *entries = NULL;
    CS_TRY(ca_journal_entries(m->journal, a, &entries, e));
    cs_log_info(&m->log, "Journal loaded", KV_INT("jwt_keys", (int64_t)entries->n_jwtkeys),
                KV_INT("wit_keys", (int64_t)entries->n_witkeys),
                KV_INT("x509_cas", (int64_t)entries->n_x509cas));
    CS_AUTO(spiffe_bundle) bundle = bundlestore_own(m->cfg.bundles);
    const struct ca_slot_loader loader = {
        .keymanager = m->cfg.keymanager,
        .bundle = bundle,
        .has_upstream = m->cfg.upstream != NULL,
        .now = cs_now_s(m->cfg.clock),
        .log = m->log,
    };
    CS_TRY(ca_slots_load_x509(&loader, entries, &m->x509, e));
    return ca_slots_load_jwt(&loader, entries, &m->jwt, e);
}

static cs_code start_upstream(struct ca_manager *m, struct cs_err *e)
{
    if (m->cfg.upstream == NULL)
        return CS_OK;
    const struct ca_upstream_config cfg = {
        .plugin = m->cfg.upstream,
        .ca = m->cfg.ca,
        .ds = m->cfg.ds,
        .bundles = m->cfg.bundles,
        .trust_domain = m->cfg.trust_domain,
        .clock = m->cfg.clock,
        .log = m->log,
    };
    return ca_upstream_new(&cfg, &m->upstream, e);
}

static cs_code start(struct ca_manager *m, struct cs_err *e)
{
    m->td_id = cs_asprintf("spiffe://%s", m->cfg.trust_domain);
    if (m->td_id == NULL)
        return cs_nomem(e);
    CS_TRY(ca_journal_load(m->cfg.ds, m->cfg.keymanager, m->log, &m->journal, e));
    CS_TRY(load_slots(m, e));
    CS_TRY(start_upstream(m, e));
    int64_t now = cs_now_ns(m->cfg.clock);
    const struct ca_slot *x509 = &m->x509.current, *jwt = &m->jwt.current;
    if (!ca_slot_empty(x509) && !due(now, ca_slot_activate_at(x509)))
        activate_x509(m);
    if (!ca_jwt_disabled(m->cfg.ca) && !ca_slot_empty(jwt) && !due(now, ca_slot_activate_at(jwt)))
        activate_jwt(m);
    return CS_OK;
}

cs_code ca_manager_new(const struct ca_manager_config *cfg, struct ca_manager **out, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = NULL;
    struct ca_manager *m = cs_calloc(1, sizeof *m);
    if (m == NULL)
        return cs_nomem(e);
    m->cfg = *cfg;
    m->log = cs_log_sub(cfg->log, "ca_manager");
    int rc = pthread_mutex_init(&m->lock, NULL);
    if (rc != 0) {
        cs_free(m);
        return cs_fail_errno(e, CS_INTERNAL, rc, "CA manager lock");
    }
    cs_code code = start(m, e);
    if (code != CS_OK) {
        ca_manager_free(m);
        return code;
    }
    *out = m;
    return CS_OK;
}

void ca_manager_free(struct ca_manager *m)
{
    if (m == NULL)
        return;
    ca_upstream_free(m->upstream);
    ca_slots_free(&m->x509);
    ca_slots_free(&m->jwt);
    ca_journal_free(m->journal);
    pthread_mutex_destroy(&m->lock);
    cs_free(m->td_id);
    cs_free(m);
}
