/* SPDX-License-Identifier: Apache-2.0
 *
 * Trust bundles: the server's own and federated ones.
 */
#include "datastore/bundle_codec.h"
#include "datastore/entries.h"

#include "proto/proto.h"

/* A copy that lives in the caller's arena. */
static cs_code give(struct cs_arena *a, const Common__Bundle *b, struct ds_bundle **out, struct cs_err *e)
{
    if (!out)
        return CS_OK;
    CS_CLEANUP(cs_buf_free) struct cs_buf data = {0};
    Common__Bundle *copy = NULL;
    struct ds_bundle *plain = cs_arena_alloc(a, sizeof *plain);
    if (!plain)
        return cs_nomem(e);
    CS_TRY(proto_pack(&b->base, &data, e));
    CS_TRY(ds_bundle_unpack(a, cs_buf_slice(&data), &copy, e));
    CS_TRY(ds_bundle_from_proto(a, copy, plain, e));
    *out = plain;
    return CS_OK;
}

/* --- Reading --- */

static cs_code fetch(struct ds_tx *tx, struct cs_arena *a, const char *trust_domain, struct ds_bundle **out,
                     struct cs_err *e)
{
    struct ds_bundle_row row;
    CS_TRY(ds_bundle_row_get(tx->c, a, trust_domain, &row, e));
    if (!row.id)
        return CS_OK;
    struct ds_bundle *plain = cs_arena_alloc(a, sizeof *plain);
    if (!plain)
        return cs_nomem(e);
    CS_TRY(ds_bundle_from_proto(a, row.bundle, plain, e));
    *out = plain;
    return CS_OK;
}

cs_code ds_bundle_fetch(struct ds *d, struct cs_arena *a, const char *trust_domain, struct ds_bundle **out,
                        struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    CS_TRY(ds_tx_read(&tx, d, "fetch bundle", false, e));
    return ds_tx_end(&tx, fetch(&tx, a, trust_domain, out, e), e);
}

static cs_code list_rows(struct ds_q *q, struct cs_arena *a, struct ds_rows *rows, int64_t *last,
                         struct cs_err *e)
{
    while (ds_next(q)) {
        struct ds_bundle *row = ds_rows_add(rows, sizeof *row);
        Common__Bundle *b = NULL;
        if (!row)
            return cs_nomem(e);
        *last = ds_int(q, 0);
        CS_TRY(ds_bundle_unpack(a, ds_view(q, 1), &b, e));
        CS_TRY(ds_bundle_from_proto(a, b, row, e));
    }
    return CS_OK;
}

static cs_code list(struct ds_tx *tx, struct cs_arena *a, const struct ds_page *page, struct ds_bundle **out,
                    size_t *n, const char **next, struct cs_err *e)
{
    int64_t after = 0, limit = 0, last = 0;
    CS_TRY(ds_page_start(page, &after, &limit, e));
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    struct ds_q q = ds_q(tx->c, DS_SQL_BUNDLE_PAGE);
    ds_put_int(&q, after);
    ds_put_int(&q, limit);
    cs_code code = list_rows(&q, a, &rows, &last, e);
    cs_code done = ds_done(&q, code == CS_OK ? e : NULL);
    CS_TRY(code);
    CS_TRY(done);
    CS_TRY(ds_page_end(page, a, last, next, e));
    struct ds_bundle *kept = ds_rows_keep(&rows, a, sizeof **out);
    if (!kept)
        return cs_nomem(e);
    *out = kept;
    *n = rows.n;
    return CS_OK;
}

cs_code ds_bundle_list(struct ds *d, struct cs_arena *a, const struct ds_page *page, struct ds_bundle **out,
                       size_t *n, const char **next, struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    *n = 0;
    CS_TRY(ds_tx_read(&tx, d, "list bundles", false, e));
    return ds_tx_end(&tx, list(&tx, a, page, out, n, next, e), e);
}

cs_code ds_bundle_count(struct ds *d, int32_t *out, struct cs_err *e)
{
    struct ds_tx tx;
    *out = 0;
    CS_TRY(ds_tx_read(&tx, d, "count bundles", false, e));
    struct ds_q q = ds_q(tx.c, DS_SQL_BUNDLE_COUNT);
    if (ds_next(&q))
        *out = (int32_t)ds_int(&q, 0);
    return ds_tx_end(&tx, ds_done(&q, e), e);
}

/* --- Writing --- */

static cs_code create(struct ds_tx *tx, const struct ds_bundle *b, struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    struct ds_bundle_row row = {0};
    if (!a)
        return cs_nomem(e);
    CS_TRY(ds_bundle_to_proto(a, b, &row.bundle, e));
    return ds_bundle_row_put(tx, &row, e);
}

cs_code ds_bundle_create(struct ds *d, const struct ds_bundle *b, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "create bundle", e));
    return ds_tx_end(&tx, create(&tx, b, e), e);
}

static cs_code set(struct ds_tx *tx, struct cs_arena *a, const struct ds_bundle *b, struct ds_bundle **out,
                   struct cs_err *e)
{
    Common__Bundle *stored = NULL;
    CS_TRY(ds_bundle_put_all(tx, b, &stored, e));
    return give(a, stored, out, e);
}

cs_code ds_bundle_set(struct ds *d, struct cs_arena *a, const struct ds_bundle *b, struct ds_bundle **out,
                      struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "set bundle", e));
    return ds_tx_end(&tx, set(&tx, a, b, out, e), e);
}

static cs_code append(struct ds_tx *tx, struct cs_arena *a, const struct ds_bundle *b, struct ds_bundle **out,
                      struct cs_err *e)
{
    struct cs_arena *scratch = ds_tx_arena(tx);
    Common__Bundle *more = NULL;
    struct ds_bundle_row row;
    bool changed = true;
    if (!scratch)
        return cs_nomem(e);
    CS_TRY(ds_bundle_to_proto(scratch, b, &more, e));
    CS_TRY(ds_bundle_row_get(tx->c, scratch, b->trust_domain, &row, e));
    if (row.id) {
        CS_TRY(ds_bundle_merge(scratch, row.bundle, more, &changed, e));
        row.bundle->sequence_number += changed;
    } else {
        row.bundle = more;
    }
    if (changed)
        CS_TRY(ds_bundle_row_put(tx, &row, e));
    return give(a, row.bundle, out, e);
}

cs_code ds_bundle_append(struct ds *d, struct cs_arena *a, const struct ds_bundle *b, struct ds_bundle **out,
                         struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "append bundle", e));
    return ds_tx_end(&tx, append(&tx, a, b, out, e), e);
}

static void apply_mask(Common__Bundle *b, const Common__Bundle *from, const struct ds_bundle_mask *mask)
{
    if (!mask || mask->roots) {
        b->root_cas = from->root_cas;
        b->n_root_cas = from->n_root_cas;
    }
    if (!mask || mask->jwt_keys) {
        b->jwt_signing_keys = from->jwt_signing_keys;
        b->n_jwt_signing_keys = from->n_jwt_signing_keys;
    }
    if (!mask || mask->wit_keys) {
        b->wit_signing_keys = from->wit_signing_keys;
        b->n_wit_signing_keys = from->n_wit_signing_keys;
    }
    if (!mask || mask->refresh_hint)
        b->refresh_hint = from->refresh_hint;
    if (!mask || mask->sequence_number)
        b->sequence_number = from->sequence_number;
}

static cs_code update(struct ds_tx *tx, struct cs_arena *a, const struct ds_bundle *b,
                      const struct ds_bundle_mask *mask, struct ds_bundle **out, struct cs_err *e)
{
    struct cs_arena *scratch = ds_tx_arena(tx);
    Common__Bundle *from = NULL;
    struct ds_bundle_row row;
    if (!scratch)
        return cs_nomem(e);
    CS_TRY(ds_bundle_to_proto(scratch, b, &from, e));
    CS_TRY(ds_bundle_row_get(tx->c, scratch, b->trust_domain, &row, e));
    if (!row.id)
        return ds_not_found(e);
    apply_mask(row.bundle, from, mask);
    CS_TRY(ds_bundle_row_put(tx, &row, e));
    return give(a, row.bundle, out, e);
}

cs_code ds_bundle_update(struct ds *d, struct cs_arena *a, const struct ds_bundle *b,
                         const struct ds_bundle_mask *mask, struct ds_bundle **out, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "update bundle", e));
    return ds_tx_end(&tx, update(&tx, a, b, mask, out, e), e);
}

static cs_code prune(struct ds_tx *tx, const char *trust_domain, int64_t before, bool *changed,
                     struct cs_err *e)
{
    struct cs_arena *scratch = ds_tx_arena(tx);
    struct ds_bundle_row row;
    bool any = false;
    if (!scratch)
        return cs_nomem(e);
    CS_TRY(ds_bundle_row_get(tx->c, scratch, trust_domain, &row, e));
    if (!row.id)
        return CS_OK;
    CS_TRY(ds_bundle_drop_expired(&tx->d->log, row.bundle, before, &any, e));
    if (!any)
        return CS_OK;
    row.bundle->sequence_number++;
    CS_TRY(ds_bundle_row_put(tx, &row, e));
    *changed = true;
    return CS_OK;
}

cs_code ds_bundle_prune(struct ds *d, const char *trust_domain, int64_t before, bool *changed,
                        struct cs_err *e)
{
    struct ds_tx tx;
    bool did = false;
    *changed = false;
    CS_TRY(ds_tx_write(&tx, d, "prune bundle", e));
    cs_code code = ds_tx_end(&tx, prune(&tx, trust_domain, before, &did, e), e);
    *changed = code == CS_OK && did;
    return code;
}

/* --- Deleting --- */

static cs_code federated_rows(struct ds_tx *tx, int64_t bundle, struct ds_rows *rows, struct cs_err *e)
{
    struct ds_q q = ds_q(tx->c, DS_SQL_BUNDLE_ENTRIES);
    ds_put_int(&q, bundle);
    while (ds_next(&q)) {
        int64_t *id = ds_rows_add(rows, sizeof *id);
        if (id)
            *id = ds_int(&q, 0);
        else
            q.rc = SQLITE_NOMEM;
    }
    return ds_done(&q, e);
}

static cs_code unlink_entries(struct ds_tx *tx, int64_t bundle, const struct ds_rows *rows, struct cs_err *e)
{
    struct ds_q q = ds_q(tx->c, DS_SQL_BUNDLE_UNLINK);
    ds_put_int(&q, bundle);
    CS_TRY(ds_run(&q, e));
    for (size_t i = 0; ds_tx_observed(tx) && i < rows->n; i++)
        CS_TRY(ds_entry_note_row(tx, ((const int64_t *)rows->at)[i], e));
    return CS_OK;
}

static cs_code remove_bundle(struct ds_tx *tx, const char *trust_domain, enum ds_delete_mode mode,
                             struct cs_err *e)
{
    struct cs_arena *scratch = ds_tx_arena(tx);
    struct ds_bundle_row row;
    if (!scratch)
        return cs_nomem(e);
    CS_TRY(ds_bundle_row_get(tx->c, scratch, trust_domain, &row, e));
    if (!row.id)
        return ds_not_found(e);

    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    CS_TRY(federated_rows(tx, row.id, &rows, e));
    if (rows.n > 0 && mode == DS_RESTRICT)
        return cs_fail(e, CS_PRECONDITION,
                       "datastore-sql: cannot delete bundle; federated with %zu registration entries",
                       rows.n);
    for (size_t i = 0; mode == DS_DELETE && i < rows.n; i++)
        CS_TRY(ds_entry_delete_row(tx, ((const int64_t *)rows.at)[i], NULL, e));
    if (mode == DS_DISSOCIATE)
        CS_TRY(unlink_entries(tx, row.id, &rows, e));

    struct ds_q q = ds_q(tx->c, DS_SQL_BUNDLE_DELETE);
    ds_put_int(&q, row.id);
    CS_TRY(ds_run(&q, e));
    return ds_tx_changed(
        tx, &(struct ds_change){.kind = DS_CHANGE_BUNDLE, .id = trust_domain, .deleted = true}, e);
}

cs_code ds_bundle_delete(struct ds *d, const char *trust_domain, enum ds_delete_mode mode, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "delete bundle", e));
    return ds_tx_end(&tx, remove_bundle(&tx, trust_domain, mode, e), e);
}
