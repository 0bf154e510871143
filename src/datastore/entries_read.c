/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading registration entries: one, many, lists with conditions, all.
 */
#include "datastore/child.h"
#include "datastore/entries.h"
#include "datastore/where.h"

/* --- By id --- */

static cs_code fetch(struct ds_tx *tx, struct cs_arena *a, const char *entry_id, struct ds_entry **out,
                     struct cs_err *e)
{
    int64_t row = 0;
    struct ds_entry *entry = cs_arena_alloc(a, sizeof *entry);
    if (!entry)
        return cs_nomem(e);
    CS_TRY(ds_entry_load(tx->c, a, entry_id, false, &row, entry, e));
    *out = row ? entry : NULL;
    return CS_OK;
}

static cs_code fetch_many(struct ds_tx *tx, struct cs_arena *a, const char *const *ids, size_t n,
                          struct ds_entry **out, struct cs_err *e)
{
    for (size_t i = 0; i < n; i++)
        CS_TRY(fetch(tx, a, ids[i], &out[i], e));
    return CS_OK;
}

cs_code ds_entry_fetch_many(struct ds *d, struct cs_arena *a, const char *const *entry_ids, size_t n,
                            struct ds_entry **out, struct cs_err *e)
{
    struct ds_tx tx;
    for (size_t i = 0; i < n; i++)
        out[i] = NULL;
    CS_TRY(ds_tx_read(&tx, d, "fetch registration entry", true, e));
    cs_code code = ds_tx_end(&tx, fetch_many(&tx, a, entry_ids, n, out, e), e);
    for (size_t i = 0; code != CS_OK && i < n; i++)
        out[i] = NULL;
    return code;
}

cs_code ds_entry_fetch(struct ds *d, struct cs_arena *a, const char *entry_id, struct ds_entry **out,
                       struct cs_err *e)
{
    return ds_entry_fetch_many(d, a, &entry_id, 1, out, e);
}

/* --- Lists --- */

static const struct ds_selector_table selector_table = {"selectors", "registered_entry_id",
                                                        "registered_entries.id"};

static cs_code check_filter(const struct ds_entry_filter *f, struct cs_err *e)
{
    if (f && f->by_selectors && f->n_selectors == 0)
        return cs_fail(e, CS_INVALID, "cannot list by empty selector set");
    return CS_OK;
}

static void add_conditions(struct ds_where *w, const struct ds_entry_filter *f)
{
    if (!f)
        return;
    ds_where_equals(w, "spiffe_id", f->spiffe_id);
    ds_where_equals(w, "parent_id", f->parent_id);
    ds_where_equals(w, "hint", f->hint);
    if (f->downstream == DS_YES)
        ds_where_add(w, " AND downstream = 1");
    if (f->by_selectors)
        ds_where_selectors(w, &selector_table, f->selectors_match, f->selectors, f->n_selectors);
    if (f->by_federates_with)
        ds_where_federates_with(w, f->federates_match, f->federates_with, f->n_federates_with);
}

struct listed {
    int64_t row;
    struct ds_entry entry;
};

static cs_code read_rows(struct ds_q *q, struct cs_arena *a, struct ds_rows *rows, struct cs_err *e)
{
    while (ds_next(q)) {
        struct listed *l = ds_rows_add(rows, sizeof *l);
        if (!l)
            return cs_nomem(e);
        CS_TRY(ds_entry_read_row(q, a, &l->row, &l->entry, e));
    }
    return CS_OK;
}

static cs_code select_rows(struct ds_tx *tx, struct cs_arena *a, const struct ds_entry_filter *f,
                           int64_t after, int64_t limit, struct ds_rows *rows, struct cs_err *e)
{
    CS_CLEANUP(ds_where_free) struct ds_where w = {0};
    struct ds_q q;
    ds_where_add(&w, "SELECT " DS_ENTRY_COLS " FROM registered_entries WHERE id > ?");
    ds_where_int(&w, after);
    add_conditions(&w, f);
    ds_where_add(&w, " ORDER BY id LIMIT ?");
    ds_where_int(&w, limit);
    CS_TRY(ds_where_query(&w, tx->c, &q, e));
    cs_code code = read_rows(&q, a, rows, e);
    cs_code done = ds_done(&q, code == CS_OK ? e : NULL);
    return code != CS_OK ? code : done;
}

static cs_code fill_lists(struct ds_tx *tx, struct cs_arena *a, struct ds_rows *rows, struct ds_entry *out,
                          size_t *n, struct cs_err *e)
{
    struct listed *l = rows->at;
    *n = 0;
    for (size_t i = 0; i < rows->n; i++) {
        if (l[i].entry.entry_id[0] == '\0')
            continue; /* rubbish of old releases */
        CS_TRY(ds_entry_read_lists(tx->c, a, l[i].row, false, &l[i].entry, e));
        out[(*n)++] = l[i].entry;
    }
    return CS_OK;
}

static cs_code list(struct ds_tx *tx, struct cs_arena *a, const struct ds_entry_filter *f,
                    const struct ds_page *page, struct ds_entry **out, size_t *n, const char **next,
                    struct cs_err *e)
{
    int64_t after = 0, limit = 0;
    CS_TRY(ds_page_start(page, &after, &limit, e));
    CS_TRY(check_filter(f, e));
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    CS_TRY(select_rows(tx, a, f, after, limit, &rows, e));
    struct ds_entry *list = cs_arena_alloc(a, rows.n * sizeof *list + 1);
    if (!list)
        return cs_nomem(e);
    CS_TRY(fill_lists(tx, a, &rows, list, n, e));
    const struct listed *l = rows.at;
    CS_TRY(ds_page_end(page, a, rows.n ? l[rows.n - 1].row : 0, next, e));
    *out = list;
    return CS_OK;
}

cs_code ds_entry_list(struct ds *d, struct cs_arena *a, const struct ds_entry_filter *filter,
                      const struct ds_page *page, struct ds_entry **out, size_t *n, const char **next,
                      struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    *n = 0;
    CS_TRY(ds_tx_read(&tx, d, "list registration entries", true, e));
    cs_code code = ds_tx_end(&tx, list(&tx, a, filter, page, out, n, next, e), e);
    if (code != CS_OK)
        *n = 0;
    return code;
}

static cs_code count(struct ds_tx *tx, const struct ds_entry_filter *f, int32_t *out, struct cs_err *e)
{
    CS_TRY(check_filter(f, e));
    CS_CLEANUP(ds_where_free) struct ds_where w = {0};
    struct ds_q q;
    ds_where_add(&w, "SELECT count(*) FROM registered_entries WHERE entry_id <> ''");
    add_conditions(&w, f);
    CS_TRY(ds_where_query(&w, tx->c, &q, e));
    if (ds_next(&q))
        *out = (int32_t)ds_int(&q, 0);
    return ds_done(&q, e);
}

cs_code ds_entry_count(struct ds *d, const struct ds_entry_filter *filter, int32_t *out, struct cs_err *e)
{
    struct ds_tx tx;
    *out = 0;
    CS_TRY(ds_tx_read(&tx, d, "count registration entries", false, e));
    return ds_tx_end(&tx, count(&tx, filter, out, e), e);
}

/* --- All --- */

/* Four statements side by side, each in the order of the entries. */
struct all {
    struct ds_q entries;
    struct ds_walk selectors, dns, federated;
};

static cs_code all_next(struct all *w, struct cs_arena *a, struct ds_entry *out, struct cs_err *e)
{
    int64_t row = 0;
    CS_TRY(ds_entry_read_row(&w->entries, a, &row, out, e));
    CS_TRY(ds_walk_selectors(&w->selectors, a, row, &out->selectors, &out->n_selectors, e));
    CS_TRY(ds_walk_texts(&w->dns, a, row, DS_BY_ROW, &out->dns_names, &out->n_dns_names, e));
    return ds_walk_texts(&w->federated, a, row, DS_BY_VALUE, &out->federates_with, &out->n_federates_with, e);
}

static cs_code each(struct ds_tx *tx, struct all *w, ds_entry_fn fn, void *arg, struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    if (!a)
        return cs_nomem(e);
    w->entries = ds_q(tx->c, DS_SQL_ENTRY_ALL);
    ds_walk_begin(&w->selectors, tx->c, DS_SQL_SEL_ALL);
    ds_walk_begin(&w->dns, tx->c, DS_SQL_DNS_ALL);
    ds_walk_begin(&w->federated, tx->c, DS_SQL_FED_ALL);
    while (ds_next(&w->entries)) {
        struct ds_entry entry;
        cs_arena_reset(a);
        CS_TRY(all_next(w, a, &entry, e));
        if (entry.entry_id[0] != '\0')
            CS_TRY(fn(arg, &entry, e));
    }
    return CS_OK;
}

static cs_code each_end(struct all *w, cs_code code, struct cs_err *e)
{
    struct ds_q *entries = &w->entries;
    cs_code ends[4] = {entries->c ? ds_done(entries, code == CS_OK ? e : NULL) : CS_OK};
    struct ds_walk *walks[] = {&w->selectors, &w->dns, &w->federated};
    for (int i = 0; i < 3; i++)
        ends[i + 1] = ds_walk_end(walks[i], code == CS_OK && ends[0] == CS_OK ? e : NULL);
    for (int i = 0; code == CS_OK && i < 4; i++)
        code = ends[i];
    return code;
}

cs_code ds_entries_each(struct ds *d, ds_entry_fn fn, void *arg, struct cs_err *e)
{
    struct ds_tx tx;
    struct all w = {0};
    CS_TRY(ds_tx_read(&tx, d, "read registration entries", true, e));
    cs_code code = each(&tx, &w, fn, arg, e);
    code = each_end(&w, code, e);
    (void)sqlite3_db_release_memory(
        tx.c->db); /* a walk fills the page cache with what nobody asks for again */
    return ds_tx_end(&tx, code, e);
}
