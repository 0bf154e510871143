/* SPDX-License-Identifier: Apache-2.0
 *
 * Creating, updating and deleting registration entries: batches in one transaction, each item for itself.
 */
#include "datastore/entries.h"

#include "proto/proto.h"

#include "common.pb-c.h"

/* --- Rows --- */

cs_code ds_event_add(struct ds_tx *tx, enum ds_event_kind kind, const char *subject, struct cs_err *e)
{
    struct ds_q q =
        ds_q(tx->c, kind == DS_EVENT_ENTRY ? DS_SQL_ENTRY_EVENT_INSERT : DS_SQL_NODE_EVENT_INSERT);
    ds_put_text(&q, tx->now);
    ds_put_text(&q, subject);
    CS_TRY(ds_run(&q, e));
    tx->event = (uint64_t)sqlite3_last_insert_rowid(tx->c->db);
    return CS_OK;
}

static cs_code note(struct ds_tx *tx, const struct ds_entry *now, struct cs_err *e)
{
    return ds_tx_changed(tx, &(struct ds_change){.kind = DS_CHANGE_ENTRY, .id = now->entry_id, .entry = now},
                         e);
}

cs_code ds_entry_note_row(struct ds_tx *tx, int64_t row, struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    struct ds_entry *now = a ? cs_arena_alloc(a, sizeof *now) : NULL;
    if (!now)
        return cs_nomem(e);
    CS_TRY(ds_entry_load_row(tx->c, a, row, false, now, e));
    return note(tx, now, e);
}

static cs_code run_row(struct ds_conn *c, enum ds_sql id, int64_t row, struct cs_err *e)
{
    struct ds_q q = ds_q(c, id);
    ds_put_int(&q, row);
    return ds_run(&q, e);
}

cs_code ds_entry_delete_row(struct ds_tx *tx, int64_t row, const struct ds_entry *was, struct cs_err *e)
{
    struct ds_entry loaded;
    if (!was) {
        struct cs_arena *a = ds_tx_arena(tx);
        if (!a)
            return cs_nomem(e);
        CS_TRY(ds_entry_load_row(tx->c, a, row, false, &loaded, e));
        was = &loaded;
    }
    static const enum ds_sql all[] = {DS_SQL_FED_DELETE, DS_SQL_ENTRY_DELETE, DS_SQL_SEL_DELETE,
                                      DS_SQL_DNS_DELETE};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        CS_TRY(run_row(tx->c, all[i], row, e));
    CS_TRY(ds_event_add(tx, DS_EVENT_ENTRY, was->entry_id, e));
    return ds_tx_changed(
        tx, &(struct ds_change){.kind = DS_CHANGE_ENTRY, .id = was->entry_id, .deleted = true}, e);
}

static cs_code insert_selectors(struct ds_tx *tx, int64_t row, const struct ds_entry *in, struct cs_err *e)
{
    for (size_t i = 0; i < in->n_selectors; i++) {
        struct ds_q q = ds_q(tx->c, DS_SQL_SEL_INSERT);
        ds_put_text(&q, tx->now);
        ds_put_int(&q, row);
        ds_put_text(&q, in->selectors[i].type);
        ds_put_text(&q, in->selectors[i].value);
        CS_TRY(ds_run(&q, e));
    }
    return CS_OK;
}

static cs_code insert_dns_names(struct ds_tx *tx, int64_t row, const struct ds_entry *in, struct cs_err *e)
{
    for (size_t i = 0; i < in->n_dns_names; i++) {
        struct ds_q q = ds_q(tx->c, DS_SQL_DNS_INSERT);
        ds_put_text(&q, tx->now);
        ds_put_int(&q, row);
        ds_put_text(&q, in->dns_names[i]);
        CS_TRY(ds_run(&q, e));
    }
    return CS_OK;
}

static cs_code insert_federated(struct ds_tx *tx, int64_t row, const struct ds_entry *in, struct cs_err *e)
{
    for (size_t i = 0; i < in->n_federates_with; i++) {
        int64_t bundle = 0;
        struct ds_q q = ds_q(tx->c, DS_SQL_BUNDLE_GET);
        ds_put_text(&q, in->federates_with[i]);
        if (ds_next(&q))
            bundle = ds_int(&q, 0);
        CS_TRY(ds_done(&q, e));
        if (!bundle)
            return cs_fail(e, CS_UNKNOWN, "unable to find federated bundle \"%s\"",
                           ds_text(in->federates_with[i]));
        q = ds_q(tx->c, DS_SQL_FED_INSERT);
        ds_put_int(&q, bundle);
        ds_put_int(&q, row);
        CS_TRY(ds_run(&q, e));
    }
    return CS_OK;
}

/* Packed additional_attributes; empty when all are at their default. */
static cs_code pack_attributes(const struct ds_entry *in, struct cs_buf *out, struct cs_err *e)
{
    Common__RegistrationEntry__AdditionalAttributes m =
        COMMON__REGISTRATION_ENTRY__ADDITIONAL_ATTRIBUTES__INIT;
    m.disable_x509_svid_prefetch = in->disable_x509_svid_prefetch;
    m.jwt_svid_include_jti = in->jwt_svid_include_jti;
    return proto_pack(&m.base, out, e);
}

static void put_attributes(struct ds_q *q, const struct ds_entry *in, const struct cs_buf *packed)
{
    if (in->has_attributes)
        ds_put_blob(q, cs_buf_slice(packed));
    else
        ds_put_null(q);
}

/* --- Batches --- */

/* Everything an item needs; exactly one of the inputs is set. */
struct batch {
    struct ds_tx tx;
    struct cs_arena *a;
    const struct ds_entry *in;
    const char *const *ids;
    const struct ds_entry_mask *mask;
    struct ds_entry_result *out;
    size_t n;
};
typedef cs_code (*item_fn)(struct batch *b, size_t i, struct cs_err *e);

/* The entry as it is now, into the result, and a change. */
static cs_code give(struct batch *b, size_t i, int64_t row, bool sorted, bool changed, struct cs_err *e)
{
    struct ds_entry *entry = cs_arena_alloc(b->a, sizeof *entry);
    if (!entry)
        return cs_nomem(e);
    CS_TRY(ds_entry_load_row(b->tx.c, b->a, row, sorted, entry, e));
    b->out[i].entry = entry;
    return changed ? note(&b->tx, entry, e) : CS_OK;
}

static cs_code run_items(struct batch *b, item_fn fn, struct cs_err *e)
{
    for (size_t i = 0; i < b->n; i++) {
        struct ds_entry_result *r = &b->out[i];
        bool whole = false;
        CS_TRY(ds_item_begin(&b->tx, e));
        cs_code code = ds_item_end(&b->tx, fn(b, i, &r->err), &whole, &r->err);
        if (code == CS_OK)
            continue;
        *r = (struct ds_entry_result){.err = r->err};
        if (whole)
            return cs_fail(e, code, "%s", r->err.text);
    }
    return CS_OK;
}

static cs_code run_batch(struct ds *d, const char *op, struct batch *b, item_fn fn, struct cs_err *e)
{
    struct cs_err own = {0};
    e = e ? e : &own;
    for (size_t i = 0; i < b->n; i++)
        b->out[i] = (struct ds_entry_result){0};
    cs_code code = ds_tx_write(&b->tx, d, op, e);
    if (code == CS_OK)
        code = ds_tx_end(&b->tx, run_items(b, fn, e), e);
    for (size_t i = 0; code != CS_OK && i < b->n; i++)
        b->out[i] = (struct ds_entry_result){.err = *e};
    return code;
}

/* Of a batch of one. */
static cs_code single(cs_code code, const struct ds_entry_result *r, struct ds_entry **out, struct cs_err *e)
{
    if (out)
        *out = NULL;
    if (code == CS_OK && r->err.code != CS_OK) {
        code = r->err.code;
        if (e)
            *e = r->err;
    }
    if (code == CS_OK && out)
        *out = r->entry;
    return code;
}

/* --- Create --- */

static cs_code insert_entry(struct ds_tx *tx, const struct ds_entry *in, const char *entry_id,
                            struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    CS_TRY(pack_attributes(in, &packed, e));
    struct ds_q q = ds_q(tx->c, DS_SQL_ENTRY_INSERT);
    ds_put_text(&q, tx->now);
    ds_put_text(&q, entry_id);
    ds_put_text(&q, in->spiffe_id);
    ds_put_text(&q, in->parent_id);
    ds_put_int(&q, in->x509_svid_ttl);
    ds_put_int(&q, in->admin);
    ds_put_int(&q, in->downstream);
    ds_put_int(&q, in->expires_at);
    ds_put_int(&q, in->store_svid);
    ds_put_text(&q, in->hint);
    ds_put_int(&q, in->jwt_svid_ttl);
    put_attributes(&q, in, &packed);
    return ds_run(&q, e);
}

static cs_code create_item(struct batch *b, size_t i, struct cs_err *e)
{
    const struct ds_entry *in = &b->in[i];
    int64_t row = 0;
    char uuid[37];
    CS_TRY(ds_entry_check_new(in, e));
    CS_TRY(ds_entry_find_similar(&b->tx, in, &row, e));
    b->out[i].existing = row != 0;
    if (row)
        return give(b, i, row, false, false, e);

    const char *entry_id = ds_text(in->entry_id);
    if (entry_id[0] == '\0') {
        CS_TRY(cs_uuid(uuid, e));
        entry_id = uuid;
    }
    CS_TRY(insert_entry(&b->tx, in, entry_id, e));
    row = sqlite3_last_insert_rowid(b->tx.c->db);
    CS_TRY(insert_federated(&b->tx, row, in, e));
    CS_TRY(insert_selectors(&b->tx, row, in, e));
    CS_TRY(insert_dns_names(&b->tx, row, in, e));
    CS_TRY(ds_event_add(&b->tx, DS_EVENT_ENTRY, entry_id, e));
    return give(b, i, row, true, true, e);
}

cs_code ds_entries_create_batch(struct ds *d, struct cs_arena *a, const struct ds_entry *in, size_t n,
                                struct ds_entry_result *out, struct cs_err *e)
{
    struct batch b = {.a = a, .in = in, .n = n, .out = out};
    return run_batch(d, "create registration entry", &b, create_item, e);
}

cs_code ds_entry_create(struct ds *d, struct cs_arena *a, const struct ds_entry *in, struct ds_entry **out,
                        bool *existing, struct cs_err *e)
{
    struct ds_entry_result r;
    cs_code code = single(ds_entries_create_batch(d, a, in, 1, &r, e), &r, out, e);
    if (existing)
        *existing = code == CS_OK && r.existing;
    return code;
}

/* --- Update --- */

static void apply_mask(struct ds_entry *to, const struct ds_entry *from, const struct ds_entry_mask *m)
{
    if (!m || m->spiffe_id)
        to->spiffe_id = from->spiffe_id;
    if (!m || m->parent_id)
        to->parent_id = from->parent_id;
    if (!m || m->x509_svid_ttl)
        to->x509_svid_ttl = from->x509_svid_ttl;
    if (!m || m->jwt_svid_ttl)
        to->jwt_svid_ttl = from->jwt_svid_ttl;
    if (!m || m->admin)
        to->admin = from->admin;
    if (!m || m->downstream)
        to->downstream = from->downstream;
    if (!m || m->expires_at)
        to->expires_at = from->expires_at;
    if (!m || m->store_svid)
        to->store_svid = from->store_svid;
    if (!m || m->hint)
        to->hint = from->hint;
}

static cs_code update_row(struct ds_tx *tx, int64_t row, const struct ds_entry *now, struct cs_err *e)
{
    struct ds_q q = ds_q(tx->c, DS_SQL_ENTRY_UPDATE);
    ds_put_text(&q, tx->now);
    ds_put_text(&q, now->spiffe_id);
    ds_put_text(&q, now->parent_id);
    ds_put_int(&q, now->x509_svid_ttl);
    ds_put_int(&q, now->admin);
    ds_put_int(&q, now->downstream);
    ds_put_int(&q, now->expires_at);
    ds_put_int(&q, now->revision_number);
    ds_put_int(&q, now->store_svid);
    ds_put_text(&q, now->hint);
    ds_put_int(&q, now->jwt_svid_ttl);
    ds_put_int(&q, row);
    return ds_run(&q, e);
}

static cs_code update_attributes(struct ds_tx *tx, int64_t row, const struct ds_entry *in, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    CS_TRY(pack_attributes(in, &packed, e));
    struct ds_q q = ds_q(tx->c, DS_SQL_ENTRY_UPDATE_ATTRS);
    put_attributes(&q, in, &packed);
    ds_put_int(&q, row);
    return ds_run(&q, e);
}

/* Replace the lists that the mask names. */
static cs_code update_lists(struct ds_tx *tx, int64_t row, const struct ds_entry *in,
                            const struct ds_entry_mask *m, struct cs_err *e)
{
    if (!m || m->selectors) {
        CS_TRY(run_row(tx->c, DS_SQL_SEL_DELETE, row, e));
        CS_TRY(insert_selectors(tx, row, in, e));
    }
    if (!m || m->dns_names) {
        CS_TRY(run_row(tx->c, DS_SQL_DNS_DELETE, row, e));
        CS_TRY(insert_dns_names(tx, row, in, e));
    }
    if (!m || m->federates_with) {
        CS_TRY(run_row(tx->c, DS_SQL_FED_DELETE, row, e));
        CS_TRY(insert_federated(tx, row, in, e));
    }
    return CS_OK;
}

static cs_code update_item(struct batch *b, size_t i, struct cs_err *e)
{
    const struct ds_entry *in = &b->in[i];
    const struct ds_entry_mask *m = b->mask;
    struct cs_arena *scratch = ds_tx_arena(&b->tx);
    struct ds_entry entry;
    int64_t row = 0;
    if (!scratch)
        return cs_nomem(e);
    CS_TRY(ds_entry_check_update(in, m, e));
    CS_TRY(ds_entry_load(b->tx.c, scratch, in->entry_id, true, &row, &entry, e));
    if (!row)
        return ds_not_found(e);
    apply_mask(&entry, in, m);
    /* As upstream: only selectors given now are looked at. */
    if (entry.store_svid && (!m || m->selectors) && !ds_selectors_one_type(in->selectors, in->n_selectors))
        return cs_fail(
            e, CS_INVALID,
            "datastore-validation: invalid registration entry: selector types must be the same when store "
            "SVID is enabled");
    entry.revision_number++;
    CS_TRY(update_row(&b->tx, row, &entry, e));
    if (!m || m->attributes)
        CS_TRY(update_attributes(&b->tx, row, in, e));
    CS_TRY(update_lists(&b->tx, row, in, m, e));
    CS_TRY(ds_event_add(&b->tx, DS_EVENT_ENTRY, entry.entry_id, e));
    return give(b, i, row, true, true, e);
}

cs_code ds_entries_update_batch(struct ds *d, struct cs_arena *a, const struct ds_entry *in, size_t n,
                                const struct ds_entry_mask *mask, struct ds_entry_result *out,
                                struct cs_err *e)
{
    struct batch b = {.a = a, .in = in, .n = n, .mask = mask, .out = out};
    return run_batch(d, "update registration entry", &b, update_item, e);
}

cs_code ds_entry_update(struct ds *d, struct cs_arena *a, const struct ds_entry *in,
                        const struct ds_entry_mask *mask, struct ds_entry **out, struct cs_err *e)
{
    struct ds_entry_result r;
    return single(ds_entries_update_batch(d, a, in, 1, mask, &r, e), &r, out, e);
}

/* --- Delete --- */

static cs_code delete_item(struct batch *b, size_t i, struct cs_err *e)
{
    struct ds_entry *was = cs_arena_alloc(b->a, sizeof *was);
    int64_t row = 0;
    if (!was)
        return cs_nomem(e);
    CS_TRY(ds_entry_load(b->tx.c, b->a, b->ids[i], true, &row, was, e));
    if (!row)
        return ds_not_found(e);
    b->out[i].entry = was;
    return ds_entry_delete_row(&b->tx, row, was, e);
}

cs_code ds_entries_delete_batch(struct ds *d, struct cs_arena *a, const char *const *entry_ids, size_t n,
                                struct ds_entry_result *out, struct cs_err *e)
{
    struct batch b = {.a = a, .ids = entry_ids, .n = n, .out = out};
    return run_batch(d, "delete registration entry", &b, delete_item, e);
}

cs_code ds_entry_delete(struct ds *d, struct cs_arena *a, const char *entry_id, struct ds_entry **out,
                        struct cs_err *e)
{
    struct ds_entry_result r;
    return single(ds_entries_delete_batch(d, a, &entry_id, 1, &r, e), &r, out, e);
}

/* --- Prune --- */

static cs_code prune_row(struct ds_tx *tx, int64_t row, struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    struct ds_entry was;
    if (!a)
        return cs_nomem(e);
    CS_TRY(ds_entry_load_row(tx->c, a, row, false, &was, e));
    CS_TRY(ds_entry_delete_row(tx, row, &was, e));
    cs_log_info(&tx->d->log, "Pruned an expired registration", KV("spiffe_id", was.spiffe_id),
                KV("parent_id", was.parent_id), KV("entry_id", was.entry_id));
    return CS_OK;
}

static cs_code prune(struct ds_tx *tx, int64_t before, struct cs_err *e)
{
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    struct ds_q q = ds_q(tx->c, DS_SQL_ENTRY_EXPIRED);
    ds_put_int(&q, before);
    while (ds_next(&q)) {
        int64_t *row = ds_rows_add(&rows, sizeof *row);
        if (row)
            *row = ds_int(&q, 0);
        else
            q.rc = SQLITE_NOMEM;
    }
    CS_TRY(ds_done(&q, e));
    for (size_t i = 0; i < rows.n; i++)
        CS_TRY(prune_row(tx, ((const int64_t *)rows.at)[i], e));
    return CS_OK;
}

cs_code ds_entry_prune(struct ds *d, int64_t before, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "prune registration entries", e));
    return ds_tx_end(&tx, prune(&tx, before, e), e);
}
