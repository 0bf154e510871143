/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ca/journal.h"

#include "base/text.h"
#include "plugin/keymanager.h"
#include "proto/proto.h"

struct ca_journal {
    struct ds *ds;
    struct cs_log log;
    struct cs_buf packed;        /* Journal__Entries; unknown fields and WIT keys survive in it */
    uint64_t id;                 /* row; 0: none yet */
    char active_x509[CA_ID_MAX]; /* authority ID in hex; "" when there is none */
};

/* --- Loading --- */

struct search {
    struct ca_journal *j;
    struct cs_arena *arena;
    bool found;
    struct ds_ca_journal *rows; /* all there are, for the second look */
    const Journal__Entries **entries;
    size_t row_count;
};

static void set_active(struct ca_journal *j, const char *authority_id)
{
    size_t n = strnlen(authority_id, sizeof j->active_x509 - 1);
    memcpy(j->active_x509, authority_id, n);
    j->active_x509[n] = '\0';
}

static cs_code take_row(struct search *s, const struct ds_ca_journal *row, struct cs_err *e)
{
    s->found = true;
    s->j->id = row->id;
    set_active(s->j, row->active_x509_authority_id);
    cs_buf_add_slice(&s->j->packed, row->data);
    cs_log_debug(&s->j->log, "Found a CA journal record that matches with a local X509 authority ID",
                 KV_INT("ca_journal_id", (int64_t)row->id), KV("local_authority_id", s->j->active_x509));
    return cs_buf_ok(&s->j->packed) ? CS_OK : cs_nomem(e);
}

/* Is there a journal whose active X.509 authority has this key? */
static cs_code try_key(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    struct search *s = arg;
    if (s->found)
        return CS_OK;
    uint8_t ski[20];
    if (crypto_key_id(crypto_pub_spki(crypto_signer_pub(key)), ski, e) != CS_OK)
        return cs_wrap(e, "failed to calculate the subject key identifier for public key with ID \"%s\"", id);
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    cs_hex_encode(&hex, cs_slice_of(ski, sizeof ski));
    if (!cs_buf_ok(&hex))
        return cs_nomem(e);

    struct ds_ca_journal *row = NULL;
    if (ds_ca_journal_fetch(s->j->ds, s->arena, cs_buf_cstr(&hex), &row, e) != CS_OK)
        return cs_wrap(e, "failed to fetch CA journal from datastore");
    if (row == NULL)
        return CS_OK;
    return take_row(s, row, e);
}

/* An authority above us may name its certificates' keys by other rules than SHA-1 (RFC 7093): then the ID in
 * the certificate is not what the key gives, and the certificates themselves must be looked at. */
static bool is_of(const struct ds_ca_journal *row, const Journal__Entries *all, struct cs_slice spki)
{
    for (size_t i = 0; i < all->n_x509cas; i++) {
        const Journal__X509CAEntry *entry = all->x509cas[i];
        CS_AUTO(x509_cert) cert = NULL;
        if (strcmp(entry->authority_id, row->active_x509_authority_id) == 0 &&
            x509_cert_parse(cs_slice_of(entry->certificate.data, entry->certificate.len), &cert, NULL) ==
                CS_OK &&
            cs_slice_eq(cert->spki, spki))
            return true;
    }
    return false;
}

static cs_code try_certificates(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    struct search *s = arg;
    (void)id;
    for (size_t i = 0; i < s->row_count && !s->found; i++)
        if (s->entries[i] != NULL &&
            is_of(&s->rows[i], s->entries[i], crypto_pub_spki(crypto_signer_pub(key))))
            return take_row(s, &s->rows[i], e);
    return CS_OK;
}

static cs_code list_rows(struct search *s, struct cs_err *e)
{
    if (ds_ca_journal_list(s->j->ds, s->arena, &s->rows, &s->row_count, e) != CS_OK)
        return cs_wrap(e, "failed to fetch CA journal from datastore");
    s->entries = cs_arena_zalloc(s->arena, (s->row_count + 1) * sizeof(const void *));
    if (s->entries == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < s->row_count; i++) {
        ProtobufCMessage *m = NULL;
        if (proto_unpack(s->arena, &journal__entries__descriptor, s->rows[i].data, &m, NULL) == CS_OK)
            s->entries[i] = (const Journal__Entries *)m; /* others belong to whoever can read them */
    }
    return CS_OK;
}

static cs_code find(struct ca_journal *j, const struct catalog_plugin *keymanager, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct search s = {.j = j, .arena = a};
    const struct keymanager_ops *ops = keymanager->ops;
    if (ops->each_key(keymanager->self, try_key, &s, e) != CS_OK)
        return cs_wrap(e, "failed to find CA journal record");
    if (!s.found) {
        CS_TRY(list_rows(&s, e));
        if (s.row_count > 0 && ops->each_key(keymanager->self, try_certificates, &s, e) != CS_OK)
            return cs_wrap(e, "failed to find CA journal record");
    }
    if (!s.found) {
        cs_log_info(&j->log,
                    "There is not a CA journal record that matches any of the local X509 authority IDs");
        return CS_OK;
    }
    Journal__Entries *entries = NULL;
    if (ca_journal_entries(j, a, &entries, e) != CS_OK)
        return cs_wrap(e, "unable to unmarshal entries from CA journal record");
    return CS_OK;
}

cs_code ca_journal_load(struct ds *ds, const struct catalog_plugin *keymanager, struct cs_log log,
                        struct ca_journal **out, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *out = NULL;
    cs_log_debug(&log, "Loading journal from datastore");
    CS_AUTO(ca_journal) j = cs_calloc(1, sizeof *j);
    if (j == NULL)
        return cs_nomem(e);
    j->ds = ds;
    j->log = log;
    if (find(j, keymanager, e) != CS_OK)
        return cs_wrap(e, "failed to load journal from datastore");
    *out = CS_MOVE(j);
    return CS_OK;
}

void ca_journal_free(struct ca_journal *j)
{
    if (j == NULL)
        return;
    cs_buf_free(&j->packed);
    cs_free(j);
}

cs_code ca_journal_entries(const struct ca_journal *j, struct cs_arena *a, Journal__Entries **out,
                           struct cs_err *e)
{
    ProtobufCMessage *m = NULL;
    CS_TRY(proto_unpack(a, &journal__entries__descriptor, cs_buf_slice(&j->packed), &m, e));
    *out = (Journal__Entries *)m;
    return CS_OK;
}

/* --- Storing --- */

static cs_code store(struct ca_journal *j, struct cs_err *e)
{
    if (j->id == 0) {
        if (j->active_x509[0] == '\0') {
            cs_log_debug(&j->log,
                         "There is no active X.509 authority yet. Can't save CA journal in the datastore");
            return CS_OK;
        }
        cs_log_info(&j->log, "Creating a new CA journal entry");
    }
    const struct ds_ca_journal row = {
        .id = j->id,
        .data = cs_buf_slice(&j->packed),
        .active_x509_authority_id = j->active_x509,
    };
    uint64_t id = 0;
    if (ds_ca_journal_set(j->ds, &row, &id, e) != CS_OK)
        return cs_wrap(e, "could not save CA journal in the datastore");
    j->id = id;
    cs_log_debug(&j->log, "Successfully stored CA journal entry in datastore",
                 KV_INT("ca_journal_id", (int64_t)id), KV("local_authority_id", j->active_x509));
    return CS_OK;
}

static cs_code replace(struct ca_journal *j, const Journal__Entries *entries, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf next = {0};
    CS_TRY(proto_pack(&entries->base, &next, e));
    struct cs_buf old = j->packed;
    j->packed = next;
    next = old;
    return store(j, e);
}

/* --- Changes --- */

/* The list with one more element, cut to the newest CA_JOURNAL_CAP; in the arena. */
static void **appended(struct cs_arena *a, void **list, size_t *count, void *entry)
{
    void **grown = cs_arena_alloc(a, (*count + 1) * sizeof *grown);
    if (grown == NULL)
        return NULL;
    if (*count > 0)
        memcpy(grown, list, *count * sizeof *grown);
    grown[(*count)++] = entry;
    size_t excess = *count > CA_JOURNAL_CAP ? *count - CA_JOURNAL_CAP : 0;
    *count -= excess;
    return grown + excess;
}

static ProtobufCBinaryData bytes_of(struct cs_slice s)
{
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)(uintptr_t)s.data};
}

static char *hex_of(struct cs_arena *a, struct cs_slice s)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    cs_hex_encode(&hex, s);
    return cs_buf_ok(&hex) ? cs_arena_strdup(a, cs_buf_cstr(&hex)) : NULL;
}

static cs_code append_x509(struct ca_journal *j, struct cs_arena *a, Journal__X509CAEntry *entry,
                           struct cs_err *e)
{
    Journal__Entries *all = NULL;
    CS_TRY(ca_journal_entries(j, a, &all, e));
    void **list = appended(a, (void **)all->x509cas, &all->n_x509cas, entry);
    if (list == NULL)
        return cs_nomem(e);
    all->x509cas = (Journal__X509CAEntry **)list;
    return replace(j, all, e);
}

cs_code ca_journal_append_x509(struct ca_journal *j, const char *slot_id, int64_t issued_at,
                               const struct x509_cert *ca, const struct x509_chain *upstream_chain,
                               struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Journal__X509CAEntry entry = JOURNAL__X509_CAENTRY__INIT;
    entry.slot_id = (char *)(uintptr_t)slot_id;
    entry.issued_at = issued_at;
    entry.not_after = ca->not_after;
    entry.certificate = bytes_of(ca->der);
    entry.status = JOURNAL__STATUS__PREPARED;
    entry.authority_id = hex_of(a, ca->ext.ski);
    entry.upstream_authority_id = hex_of(a, ca->ext.aki);
    entry.n_upstream_chain = upstream_chain->count;
    entry.upstream_chain = cs_arena_alloc(a, (upstream_chain->count + 1) * sizeof *entry.upstream_chain);
    if (entry.authority_id == NULL || entry.upstream_authority_id == NULL || entry.upstream_chain == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < upstream_chain->count; i++)
        entry.upstream_chain[i] = bytes_of(upstream_chain->at[i]->der);
    return append_x509(j, a, &entry, e);
}

cs_code ca_journal_append_jwt(struct ca_journal *j, const char *slot_id, int64_t issued_at, const char *kid,
                              struct cs_slice spki, int64_t not_after, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Journal__JWTKeyEntry entry = JOURNAL__JWTKEY_ENTRY__INIT;
    entry.slot_id = (char *)(uintptr_t)slot_id;
    entry.issued_at = issued_at;
    entry.not_after = not_after;
    entry.kid = (char *)(uintptr_t)kid;
    entry.public_key = bytes_of(spki);
    entry.status = JOURNAL__STATUS__PREPARED;
    entry.authority_id = entry.kid;

    Journal__Entries *all = NULL;
    CS_TRY(ca_journal_entries(j, a, &all, e));
    void **list = appended(a, (void **)all->jwtkeys, &all->n_jwtkeys, &entry);
    if (list == NULL)
        return cs_nomem(e);
    all->jwtkeys = (Journal__JWTKeyEntry **)list;
    return replace(j, all, e);
}

static cs_code not_found(const char *authority_id, struct cs_err *e)
{
    return cs_fail(e, CS_NOT_FOUND, "no journal entry found with authority ID \"%s\"", authority_id);
}

cs_code ca_journal_set_x509_status(struct ca_journal *j, const char *authority_id, Journal__Status status,
                                   struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Journal__Entries *all = NULL;
    CS_TRY(ca_journal_entries(j, a, &all, e));
    for (size_t i = all->n_x509cas; i-- > 0;) {
        if (strcmp(all->x509cas[i]->authority_id, authority_id) != 0)
            continue;
        all->x509cas[i]->status = status;
        if (status == JOURNAL__STATUS__ACTIVE)
            set_active(j, authority_id);
        return replace(j, all, e);
    }
    return not_found(authority_id, e);
}

cs_code ca_journal_set_jwt_status(struct ca_journal *j, const char *authority_id, Journal__Status status,
                                  struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Journal__Entries *all = NULL;
    CS_TRY(ca_journal_entries(j, a, &all, e));
    for (size_t i = all->n_jwtkeys; i-- > 0;) {
        if (strcmp(all->jwtkeys[i]->authority_id, authority_id) != 0)
            continue;
        all->jwtkeys[i]->status = status;
        return replace(j, all, e);
    }
    return not_found(authority_id, e);
}
