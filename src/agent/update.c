/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/update.h"

#include "crypto/hash.h"
#include "proto/proto.h"
#include "workload.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>

struct encoded {
    struct cs_buf bytes;
    uint8_t digest[32];
    bool made;
};

struct holder {
    struct agent_update update; /* first: what callers see */
    atomic_uint refs;
    pthread_mutex_t lock; /* over `messages` until each is made */
    struct encoded messages[AGENT_MESSAGE_KINDS];
};

static struct holder *holder_of(const struct agent_update *u)
{
    return (struct holder *)(uintptr_t)u;
}

struct agent_update *agent_update_new(size_t identities, size_t federated)
{
    struct holder *h = cs_calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->update.identities = cs_calloc(identities + 1, sizeof *h->update.identities);
    h->update.federated = cs_calloc(federated + 1, sizeof *h->update.federated);
    if (h->update.identities == NULL || h->update.federated == NULL) {
        cs_free(h->update.identities);
        cs_free((void *)h->update.federated);
        cs_free(h);
        return NULL;
    }
    atomic_init(&h->refs, 1);
    (void)pthread_mutex_init(&h->lock, NULL); /* cannot fail without attributes on Linux */
    return &h->update;
}

struct agent_update *agent_update_ref(const struct agent_update *u)
{
    atomic_fetch_add_explicit(&holder_of(u)->refs, 1, memory_order_relaxed);
    return (struct agent_update *)(uintptr_t)u;
}

void agent_update_unref(const struct agent_update *u)
{
    if (u == NULL || atomic_fetch_sub_explicit(&holder_of(u)->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct holder *h = holder_of(u);
    for (size_t i = 0; i < u->count; i++) {
        agent_entry_unref(u->identities[i].entry);
        agent_svid_unref(u->identities[i].svid);
    }
    for (size_t i = 0; i < u->federated_count; i++)
        spiffe_bundle_unref(u->federated[i]);
    spiffe_bundle_unref(u->bundle);
    for (size_t i = 0; i < AGENT_MESSAGE_KINDS; i++)
        cs_buf_wipe(&h->messages[i].bytes);
    pthread_mutex_destroy(&h->lock);
    cs_free(u->identities);
    cs_free((void *)u->federated);
    cs_free(h);
}

const struct spiffe_bundle *agent_update_bundle(const struct agent_update *u, struct cs_slice trust_domain)
{
    if (u->bundle != NULL && cs_slice_is(trust_domain, u->bundle->trust_domain))
        return u->bundle;
    for (size_t i = 0; i < u->federated_count; i++)
        if (cs_slice_is(trust_domain, u->federated[i]->trust_domain))
            return u->federated[i];
    return NULL;
}

/* --- X509SVIDResponse --- */

static void warn_duplicate_hint(void *arg, const struct agent_entry *en)
{
    const struct cs_log *log = arg;
    if (log != NULL)
        cs_log_warn(log, "Ignoring entry with duplicate hint", KV("entry_id", en->id), KV("hint", en->hint));
}

static ProtobufCBinaryData binary(struct cs_slice s)
{
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)(uintptr_t)s.data};
}

/* X.509 authorities one after the other, in the arena. */
static cs_code bundle_der(struct cs_arena *a, const struct spiffe_bundle *b, ProtobufCBinaryData *out,
                          struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    spiffe_bundle_write_der(&der, b);
    out->data = cs_arena_memdup(a, der.data, der.len);
    out->len = der.len;
    return cs_buf_ok(&der) && (out->data != NULL || der.len == 0) ? CS_OK : cs_nomem(e);
}

static cs_code fill_federated(struct cs_arena *a, const struct agent_update *u,
                              Workload__X509SVIDResponse *msg, struct cs_err *e)
{
    typedef Workload__X509SVIDResponse__FederatedBundlesEntry row;
    msg->federated_bundles = cs_arena_alloc(a, (u->federated_count + 1) * sizeof(row *));
    if (msg->federated_bundles == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < u->federated_count; i++) {
        row *r = cs_arena_alloc(a, sizeof *r);
        if (r == NULL)
            return cs_nomem(e);
        workload__x509_svidresponse__federated_bundles_entry__init(r);
        r->key = cs_arena_printf(a, "spiffe://%s", u->federated[i]->trust_domain);
        if (r->key == NULL)
            return cs_nomem(e);
        CS_TRY(bundle_der(a, u->federated[i], &r->value, e));
        msg->federated_bundles[msg->n_federated_bundles++] = r;
    }
    return CS_OK;
}

static const struct agent_identity *identity_of(const struct agent_update *u, const struct agent_entry *en)
{
    size_t i = 0;
    while (u->identities[i].entry != en)
        i++;
    return &u->identities[i];
}

static cs_code fill_svids(struct cs_arena *a, const struct agent_update *u, const struct cs_log *log,
                          Workload__X509SVIDResponse *msg, struct cs_err *e)
{
    const struct agent_entry **entries = cs_arena_alloc(a, (u->count + 1) * sizeof *entries);
    msg->svids = cs_arena_alloc(a, (u->count + 1) * sizeof *msg->svids);
    if (entries == NULL || msg->svids == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < u->count; i++)
        entries[i] = u->identities[i].entry;
    size_t n = agent_entry_filter_hints(entries, u->count, warn_duplicate_hint, (void *)(uintptr_t)log);
    ProtobufCBinaryData bundle;
    CS_TRY(bundle_der(a, u->bundle, &bundle, e));
    for (size_t i = 0; i < n; i++) {
        const struct agent_identity *id = identity_of(u, entries[i]);
        Workload__X509SVID *s = cs_arena_alloc(a, sizeof *s);
        if (s == NULL)
            return cs_nomem(e);
        workload__x509_svid__init(s);
        s->spiffe_id = (char *)(uintptr_t)id->entry->spiffe_id;
        s->hint = (char *)(uintptr_t)id->entry->hint;
        s->x509_svid = binary(id->svid->chain);
        s->x509_svid_key = binary(cs_slice_of(id->svid->key->data, id->svid->key->len));
        s->bundle = bundle;
        msg->svids[msg->n_svids++] = s;
    }
    return CS_OK;
}

static cs_code make_x509_svids(struct cs_arena *a, const struct agent_update *u, const struct cs_log *log,
                               struct cs_buf *out, struct cs_err *e)
{
    Workload__X509SVIDResponse msg = WORKLOAD__X509_SVIDRESPONSE__INIT;
    CS_TRY(fill_svids(a, u, log, &msg, e));
    CS_TRY(fill_federated(a, u, &msg, e));
    /* Reserved in one go, so that growing leaves no copies of keys behind. */
    if (!cs_buf_reserve(out, protobuf_c_message_get_packed_size(&msg.base)))
        return cs_nomem(e);
    return proto_pack(&msg.base, out, e);
}

/* --- Bundles --- */

/* The i-th bundle of a bundles message: own first, then the federated ones. */
static const struct spiffe_bundle *nth_bundle(const struct agent_update *u, size_t i)
{
    return i == 0 ? u->bundle : u->federated[i - 1];
}

static size_t bundle_count(const struct agent_update *u)
{
    return u->count > 0 ? 1 + u->federated_count : 1;
}

static cs_code make_x509_bundles(struct cs_arena *a, const struct agent_update *u, struct cs_buf *out,
                                 struct cs_err *e)
{
    typedef Workload__X509BundlesResponse__BundlesEntry row;
    Workload__X509BundlesResponse msg = WORKLOAD__X509_BUNDLES_RESPONSE__INIT;
    msg.bundles = cs_arena_alloc(a, bundle_count(u) * sizeof(row *));
    if (msg.bundles == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < bundle_count(u); i++) {
        row *r = cs_arena_alloc(a, sizeof *r);
        if (r == NULL)
            return cs_nomem(e);
        workload__x509_bundles_response__bundles_entry__init(r);
        r->key = cs_arena_printf(a, "spiffe://%s", nth_bundle(u, i)->trust_domain);
        if (r->key == NULL)
            return cs_nomem(e);
        CS_TRY(bundle_der(a, nth_bundle(u, i), &r->value, e));
        msg.bundles[msg.n_bundles++] = r;
    }
    return proto_pack(&msg.base, out, e);
}

static cs_code bundle_jwks(struct cs_arena *a, const struct spiffe_bundle *b, ProtobufCBinaryData *out,
                           struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf json = {0};
    CS_TRY(spiffe_bundle_write_jwks(&json, b, SPIFFE_JWKS_NO_X509 | SPIFFE_JWKS_NO_WIT | SPIFFE_JWKS_STANDARD,
                                    e));
    out->data = cs_arena_memdup(a, json.data, json.len);
    out->len = json.len;
    return out->data != NULL ? CS_OK : cs_nomem(e);
}

static cs_code make_jwt_bundles(struct cs_arena *a, const struct agent_update *u, struct cs_buf *out,
                                struct cs_err *e)
{
    typedef Workload__JWTBundlesResponse__BundlesEntry row;
    Workload__JWTBundlesResponse msg = WORKLOAD__JWTBUNDLES_RESPONSE__INIT;
    msg.bundles = cs_arena_alloc(a, bundle_count(u) * sizeof(row *));
    if (msg.bundles == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < bundle_count(u); i++) {
        row *r = cs_arena_alloc(a, sizeof *r);
        if (r == NULL)
            return cs_nomem(e);
        workload__jwtbundles_response__bundles_entry__init(r);
        r->key = cs_arena_printf(a, "spiffe://%s", nth_bundle(u, i)->trust_domain);
        if (r->key == NULL)
            return cs_nomem(e);
        CS_TRY(bundle_jwks(a, nth_bundle(u, i), &r->value, e));
        msg.bundles[msg.n_bundles++] = r;
    }
    return proto_pack(&msg.base, out, e);
}

/* --- Encoding once --- */

static cs_code make(const struct agent_update *u, enum agent_message kind, const struct cs_log *log,
                    struct encoded *out, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    switch (kind) {
    case AGENT_X509_SVID:
        CS_TRY(make_x509_svids(a, u, log, &out->bytes, e));
        break;
    case AGENT_X509_BUNDLES:
        CS_TRY(make_x509_bundles(a, u, &out->bytes, e));
        break;
    case AGENT_JWT_BUNDLES:
        CS_TRY(make_jwt_bundles(a, u, &out->bytes, e));
        break;
    }
    return crypto_digest(CRYPTO_SHA256, cs_buf_slice(&out->bytes), out->digest, e);
}

cs_code agent_update_message(const struct agent_update *u, enum agent_message kind, const struct cs_log *log,
                             struct cs_slice *out, const uint8_t **digest, struct cs_err *e)
{
    struct holder *h = holder_of(u);
    struct encoded *m = &h->messages[kind];
    *out = (struct cs_slice){0};
    if (u->bundle == NULL)
        return cs_fail(e, CS_INTERNAL, "bundle not available");
    cs_code rc = CS_OK;
    pthread_mutex_lock(&h->lock);
    if (!m->made) {
        cs_buf_wipe(&m->bytes);
        rc = make(u, kind, log, m, e);
        m->made = rc == CS_OK;
    }
    pthread_mutex_unlock(&h->lock);
    CS_TRY(rc);
    *out = cs_buf_slice(&m->bytes);
    if (digest != NULL)
        *digest = m->digest;
    return CS_OK;
}
