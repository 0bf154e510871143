/* SPDX-License-Identifier: Apache-2.0
 *
 * Choosing and judging follows SPIRE's pkg/server/ca/manager/slot.go.
 */
#include "server/ca/slot.h"

#include "base/clock.h"
#include "base/text.h"
#include "plugin/keymanager.h"

#define DAY_S INT64_C(86400)
#define PREPARE_CAP_S (30 * DAY_S)
#define ACTIVATE_CAP_S (7 * DAY_S)

/* --- Slots --- */

void ca_slot_reset(struct ca_slot *s)
{
    ca_x509_authority_unref(s->x509);
    ca_jwt_authority_unref(s->jwt);
    s->x509 = NULL;
    s->jwt = NULL;
    s->status = JOURNAL__STATUS__OLD;
}

void ca_slots_free(struct ca_slots *s)
{
    ca_slot_reset(&s->current);
    ca_slot_reset(&s->next);
}

void ca_slots_swap(struct ca_slots *s)
{
    struct ca_slot old = s->current;
    s->current = s->next;
    s->next = old;
    ca_slot_reset(&s->next);
}

void ca_slot_set_id(char out[CA_ID_MAX], const char *id)
{
    size_t n = strnlen(id, CA_ID_MAX - 1);
    memcpy(out, id, n);
    out[n] = '\0';
}

void ca_slot_set_hex_id(char out[CA_ID_MAX], struct cs_slice key_id)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = key_id.len < (CA_ID_MAX - 1) / 2 ? key_id.len : (CA_ID_MAX - 1) / 2;
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[key_id.data[i] >> 4];
        out[2 * i + 1] = digits[key_id.data[i] & 15];
    }
    out[2 * n] = '\0';
}

static int64_t before_end(const struct ca_slot *s, int64_t divisor, int64_t cap_s)
{
    int64_t lead = (s->not_after - s->issued_at) * CS_NS_PER_S / divisor;
    if (lead > cap_s * CS_NS_PER_S)
        lead = cap_s * CS_NS_PER_S;
    return s->not_after * CS_NS_PER_S - lead;
}

int64_t ca_slot_prepare_at(const struct ca_slot *s)
{
    return before_end(s, 2, PREPARE_CAP_S);
}
int64_t ca_slot_activate_at(const struct ca_slot *s)
{
    return before_end(s, 6, ACTIVATE_CAP_S);
}

static struct ca_slot new_slot(char id)
{
    return (struct ca_slot){.id = {id, '\0'}};
}
static char other(const struct ca_slot *s)
{
    return s->id[0] == 'A' ? 'B' : 'A';
}

/* --- Loading one entry --- */

/* What both kinds of entries have, for the log and the common checks. */
struct entry {
    const char *kind; /* "X509CA", "JWT key" */
    const char *slot_id, *authority_id, *upstream_authority_id;
    int64_t issued_at, not_after;
    Journal__Status status;
};

static const char *status_name(Journal__Status s)
{
    switch (s) {
    case JOURNAL__STATUS__PREPARED:
        return "PREPARED";
    case JOURNAL__STATUS__ACTIVE:
        return "ACTIVE";
    case JOURNAL__STATUS__OLD:
        return "OLD";
    default:
        return "UNKNOWN";
    }
}

static void log_entry(const struct ca_slot_loader *l, enum cs_level level, const struct entry *en,
                      const char *outcome, const char *error)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf issued = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
    cs_time_go_local(&issued, en->issued_at);
    cs_buf_printf(&msg, "%s slot %s", en->kind, outcome);
    cs_log(&l->log, level, cs_buf_cstr(&msg), KV("error", error), KV("issued_at", cs_buf_cstr(&issued)),
           KV("local_authority_id", en->authority_id), KV("slot", en->slot_id),
           KV("status", status_name(en->status)), KV("upstream_authority_id", en->upstream_authority_id));
}

/* The signer of a slot; NULL when the KeyManager has no such key. */
static cs_code load_signer(const struct ca_slot_loader *l, const char *prefix, const char *slot_id,
                           struct crypto_signer **out, struct cs_err *e)
{
    const struct keymanager_ops *ops = l->keymanager->ops;
    CS_CLEANUP(cs_freep) char *id = cs_asprintf("%s%s", prefix, slot_id);
    if (id == NULL)
        return cs_nomem(e);
    const struct catalog_plugin *p = l->keymanager;
    cs_code rc = ops->get_key(p->self, id, out, e);
    return rc == CS_NOT_FOUND ? CS_OK : plugin_answer(p->type, p->name, rc, e);
}

/* Why an entry is of no use; NULL when nothing speaks against it. */
static const char *judge(const struct ca_slot_loader *l, const struct entry *en)
{
    if (en->slot_id[0] == '\0')
        return "no slot id";
    if (strcmp(en->slot_id, "A") != 0 && strcmp(en->slot_id, "B") != 0)
        return "unknown slot id";
    if (en->not_after < l->now)
        return "slot expired";
    return NULL;
}

static const char *judge_key(const struct crypto_signer *signer, struct cs_slice spki)
{
    if (signer == NULL)
        return "no key manager key";
    if (!cs_slice_eq(crypto_pub_spki(crypto_signer_pub(signer)), spki))
        return "public key does not match key manager key";
    return NULL;
}

static void fill_slot(struct ca_slot *s, const struct entry *en)
{
    *s = new_slot(en->slot_id[0]);
    s->status = en->status;
    s->issued_at = en->issued_at;
    s->not_after = en->not_after;
    ca_slot_set_id(s->authority_id, en->authority_id);
    ca_slot_set_id(s->upstream_authority_id, en->upstream_authority_id);
}

static cs_code parse_upstream_chain(const Journal__X509CAEntry *entry, struct x509_chain *out,
                                    struct cs_err *e)
{
    for (size_t i = 0; i < entry->n_upstream_chain; i++) {
        CS_AUTO(x509_cert) cert = NULL;
        struct cs_slice der = cs_slice_of(entry->upstream_chain[i].data, entry->upstream_chain[i].len);
        if (x509_cert_parse(der, &cert, e) != CS_OK)
            return cs_wrap(e, "unable to parse upstream chain certificate");
        CS_TRY(x509_chain_add(out, cert, e));
    }
    return CS_OK;
}

/* *bad is set, and *s left alone, when the entry cannot be used. */
static cs_code load_x509(const struct ca_slot_loader *l, const Journal__X509CAEntry *entry,
                         const struct entry *en, struct ca_slot *s, const char **bad, struct cs_err *e)
{
    if ((*bad = judge(l, en)) != NULL)
        return CS_OK;
    CS_AUTO(x509_cert) cert = NULL;
    if (x509_cert_parse(cs_slice_of(entry->certificate.data, entry->certificate.len), &cert, e) != CS_OK)
        return cs_wrap(e, "unable to parse CA certificate");
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_TRY(parse_upstream_chain(entry, &chain, e));
    CS_AUTO(crypto_signer) signer = NULL;
    CS_TRY(load_signer(l, CA_X509_KEY_PREFIX, entry->slot_id, &signer, e));
    if ((*bad = judge_key(signer, cert->spki)) != NULL)
        return CS_OK;
    struct ca_x509_authority *authority = NULL;
    CS_TRY(ca_x509_authority_new(cert, signer, &chain, &authority, e));
    fill_slot(s, en);
    s->not_after = cert->not_after;
    s->x509 = authority;
    return CS_OK;
}

static cs_code load_jwt(const struct ca_slot_loader *l, const Journal__JWTKeyEntry *entry,
                        const struct entry *en, struct ca_slot *s, const char **bad, struct cs_err *e)
{
    if ((*bad = judge(l, en)) != NULL)
        return CS_OK;
    CS_AUTO(crypto_signer) signer = NULL;
    CS_TRY(load_signer(l, CA_JWT_KEY_PREFIX, entry->slot_id, &signer, e));
    if ((*bad = judge_key(signer, cs_slice_of(entry->public_key.data, entry->public_key.len))) != NULL)
        return CS_OK;
    struct ca_jwt_authority *authority = NULL;
    CS_TRY(ca_jwt_authority_new(signer, entry->kid, entry->not_after, &authority, e));
    fill_slot(s, en);
    s->jwt = authority;
    return CS_OK;
}

/* --- Choosing among all --- */

struct choice {
    struct ca_slot current, next;
    bool has_current, has_next;
};

/* Entries come newest first: the active one is current, the newest of the others is next. */
static void consider(struct choice *c, struct ca_slot *s)
{
    if (s->status == JOURNAL__STATUS__ACTIVE) {
        ca_slot_reset(&c->current);
        c->current = *s;
        c->has_current = true;
    } else if (!c->has_next) {
        c->next = *s;
        c->has_next = true;
    } else {
        ca_slot_reset(s);
    }
}

static void decide(struct choice *c, struct ca_slots *out)
{
    if (c->has_current) {
        out->current = c->current;
        out->next = c->has_next ? c->next : new_slot(other(&c->current));
    } else if (c->has_next) {
        out->current = c->next;
        out->next = new_slot(other(&c->next));
    } else {
        out->current = new_slot('A');
        out->next = new_slot('B');
    }
}

static cs_code settle(const struct ca_slot_loader *l, const struct entry *en, cs_code rc, const char *bad,
                      struct ca_slot *s, struct choice *c, struct cs_err *e)
{
    if (rc != CS_OK)
        log_entry(l, CS_LOG_ERROR, en, "failed to load", e->text);
    else if (bad != NULL)
        log_entry(l, CS_LOG_WARN, en, "unusable", bad);
    else
        consider(c, s);
    return rc;
}

/* Would anybody trust it? Without a bundle (lost, or the trust domain was renamed) nobody does; SPIRE goes on
 * with such an authority all the same. */
static bool in_bundle(const struct ca_slot_loader *l, ProtobufCBinaryData der)
{
    if (l->bundle == NULL)
        return false;
    if (l->has_upstream)
        return true;
    for (size_t i = 0; i < l->bundle->x509_count; i++)
        if (cs_slice_eq(l->bundle->x509[i].cert->der, cs_slice_of(der.data, der.len)))
            return true;
    return false;
}

cs_code ca_slots_load_x509(const struct ca_slot_loader *l, const Journal__Entries *entries,
                           struct ca_slots *out, struct cs_err *e)
{
    struct choice c = {0};
    cs_code rc = CS_OK;
    for (size_t i = entries->n_x509cas; rc == CS_OK && i-- > 0 && !(c.has_current && c.has_next);) {
        const Journal__X509CAEntry *entry = entries->x509cas[i];
        if (!in_bundle(l, entry->certificate))
            continue;
        const struct entry en = {
            .kind = "X509CA",
            .slot_id = entry->slot_id,
            .authority_id = entry->authority_id,
            .upstream_authority_id = entry->upstream_authority_id,
            .issued_at = entry->issued_at,
            .not_after = entry->not_after,
            .status = entry->status,
        };
        struct ca_slot s = {0};
        const char *bad = NULL;
        rc = load_x509(l, entry, &en, &s, &bad, e);
        rc = settle(l, &en, rc, bad, &s, &c, e);
    }
    if (rc != CS_OK) {
        ca_slot_reset(&c.current);
        ca_slot_reset(&c.next);
        return rc;
    }
    decide(&c, out);
    return CS_OK;
}

cs_code ca_slots_load_jwt(const struct ca_slot_loader *l, const Journal__Entries *entries,
                          struct ca_slots *out, struct cs_err *e)
{
    struct choice c = {0};
    cs_code rc = CS_OK;
    for (size_t i = entries->n_jwtkeys; rc == CS_OK && i-- > 0 && !(c.has_current && c.has_next);) {
        const Journal__JWTKeyEntry *entry = entries->jwtkeys[i];
        if (l->bundle == NULL || spiffe_bundle_find_jwt(l->bundle, cs_slice_str(entry->kid)) == NULL)
            continue;
        const struct entry en = {
            .kind = "JWT key",
            .slot_id = entry->slot_id,
            .authority_id = entry->authority_id,
            .upstream_authority_id = "",
            .issued_at = entry->issued_at,
            .not_after = entry->not_after,
            .status = entry->status,
        };
        struct ca_slot s = {0};
        const char *bad = NULL;
        rc = load_jwt(l, entry, &en, &s, &bad, e);
        rc = settle(l, &en, rc, bad, &s, &c, e);
    }
    if (rc != CS_OK) {
        ca_slot_reset(&c.current);
        ca_slot_reset(&c.next);
        return rc;
    }
    decide(&c, out);
    return CS_OK;
}
