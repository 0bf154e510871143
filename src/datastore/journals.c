/* SPDX-License-Identifier: Apache-2.0
 *
 * CA journals: what each server has prepared, activated and retired.
 */
#include "datastore/db.h"

#include "proto/proto.h"

#include "journal.pb-c.h"

static void read_row(struct ds_q *q, struct cs_arena *a, struct ds_ca_journal *out)
{
    *out = (struct ds_ca_journal){
        .id = (uint64_t)ds_int(q, 0), .data = ds_blob(q, a, 1), .active_x509_authority_id = ds_str(q, a, 2)};
}

static cs_code set(struct ds_tx *tx, const struct ds_ca_journal *j, struct cs_err *e)
{
    struct ds_q q = ds_q(tx->c, j->id ? DS_SQL_JOURNAL_UPDATE : DS_SQL_JOURNAL_INSERT);
    ds_put_text(&q, tx->now);
    ds_put_blob(&q, j->data);
    ds_put_text(&q, j->active_x509_authority_id);
    if (j->id)
        ds_put_int(&q, (int64_t)j->id);
    CS_TRY(ds_run(&q, e));
    return sqlite3_changes(tx->c->db) == 1 ? CS_OK : ds_not_found(e);
}

cs_code ds_ca_journal_set(struct ds *d, const struct ds_ca_journal *j, uint64_t *id_out, struct cs_err *e)
{
    struct ds_tx tx;
    *id_out = 0;
    CS_TRY(ds_tx_write(&tx, d, "set CA journal", e));
    cs_code code = set(&tx, j, e);
    uint64_t id = j->id ? j->id : (uint64_t)sqlite3_last_insert_rowid(tx.c->db);
    CS_TRY(ds_tx_end(&tx, code, e));
    *id_out = id;
    return CS_OK;
}

static cs_code fetch(struct ds_tx *tx, struct cs_arena *a, const char *id, struct ds_ca_journal **out,
                     struct cs_err *e)
{
    struct ds_ca_journal *j = cs_arena_alloc(a, sizeof *j);
    if (!j)
        return cs_nomem(e);
    struct ds_q q = ds_q(tx->c, DS_SQL_JOURNAL_GET);
    ds_put_text(&q, id);
    bool found = ds_next(&q);
    if (found)
        read_row(&q, a, j);
    CS_TRY(ds_done(&q, e));
    *out = found ? j : NULL;
    return CS_OK;
}

cs_code ds_ca_journal_fetch(struct ds *d, struct cs_arena *a, const char *active_x509_authority_id,
                            struct ds_ca_journal **out, struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    if (ds_text(active_x509_authority_id)[0] == '\0')
        return cs_fail(e, CS_INVALID, "active X509 authority ID is required");
    CS_TRY(ds_tx_read(&tx, d, "fetch CA journal", false, e));
    return ds_tx_end(&tx, fetch(&tx, a, active_x509_authority_id, out, e), e);
}

static cs_code list(struct ds_tx *tx, struct cs_arena *a, struct ds_ca_journal **out, size_t *n,
                    struct cs_err *e)
{
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    struct ds_q q = ds_q(tx->c, DS_SQL_JOURNAL_ALL);
    while (ds_next(&q)) {
        struct ds_ca_journal *row = ds_rows_add(&rows, sizeof *row);
        if (row)
            read_row(&q, a, row);
        else
            q.rc = SQLITE_NOMEM;
    }
    CS_TRY(ds_done(&q, e));
    struct ds_ca_journal *kept = ds_rows_keep(&rows, a, sizeof *kept);
    if (!kept)
        return cs_nomem(e);
    *out = kept;
    *n = rows.n;
    return CS_OK;
}

cs_code ds_ca_journal_list(struct ds *d, struct cs_arena *a, struct ds_ca_journal **out, size_t *n,
                           struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    *n = 0;
    CS_TRY(ds_tx_read(&tx, d, "list CA journals", false, e));
    return ds_tx_end(&tx, list(&tx, a, out, n, e), e);
}

static cs_code is_stale(struct cs_arena *a, const struct ds_ca_journal *j, int64_t before, bool *stale,
                        struct cs_err *e)
{
    ProtobufCMessage *m = NULL;
    *stale = false;
    if (proto_unpack(a, &journal__entries__descriptor, j->data, &m, e) != CS_OK)
        return cs_fail(e, CS_INTERNAL, "unable to unmarshal entries from CA journal record %llu",
                       (unsigned long long)j->id);
    const Journal__Entries *entries = (const Journal__Entries *)m;
    for (size_t i = 0; i < entries->n_x509cas; i++)
        if (entries->x509cas[i]->not_after > before)
            return CS_OK;
    for (size_t i = 0; i < entries->n_jwtkeys; i++)
        if (entries->jwtkeys[i]->not_after > before)
            return CS_OK;
    *stale = true;
    return CS_OK;
}

static cs_code prune(struct ds_tx *tx, int64_t before, struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    struct ds_ca_journal *list_of = NULL;
    size_t n = 0;
    if (!a)
        return cs_nomem(e);
    CS_TRY(list(tx, a, &list_of, &n, e));
    for (size_t i = 0; i < n; i++) {
        bool stale = false;
        CS_TRY(is_stale(a, &list_of[i], before, &stale, e));
        if (!stale)
            continue;
        struct ds_q q = ds_q(tx->c, DS_SQL_JOURNAL_DELETE);
        ds_put_int(&q, (int64_t)list_of[i].id);
        CS_TRY(ds_run(&q, e));
        cs_log_info(&tx->d->log, "Pruned stale CA journal record",
                    KV_INT("ca_journal_id", (int64_t)list_of[i].id));
    }
    return CS_OK;
}

cs_code ds_ca_journal_prune(struct ds *d, int64_t before, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "prune CA journals", e));
    return ds_tx_end(&tx, prune(&tx, before, e), e);
}
