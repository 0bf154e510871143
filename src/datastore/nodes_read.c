/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading attested nodes and their selectors.
 */
#include "datastore/child.h"
#include "datastore/nodes.h"
#include "datastore/where.h"

void ds_node_read_row(struct ds_q *q, struct cs_arena *a, int64_t *row, struct ds_node *out)
{
    *row = ds_int(q, 0);
    *out = (struct ds_node){.spiffe_id = ds_str(q, a, 1),
                            .attestation_type = ds_str(q, a, 2),
                            .serial_number = ds_str(q, a, 3),
                            .expires_at = ds_time(q, 4, NULL),
                            .new_serial_number = ds_str(q, a, 5),
                            .new_expires_at = ds_time(q, 6, NULL),
                            .can_reattest = ds_int(q, 7) != 0,
                            .agent_version = ds_str(q, a, 8)};
}

cs_code ds_node_load(struct ds_conn *c, struct cs_arena *a, const char *spiffe_id, int64_t *row,
                     struct ds_node *out, struct cs_err *e)
{
    *row = 0;
    struct ds_q q = ds_q(c, DS_SQL_NODE_GET);
    ds_put_text(&q, spiffe_id);
    if (ds_next(&q))
        ds_node_read_row(&q, a, row, out);
    return ds_done(&q, e);
}

static cs_code selectors_of(struct ds_conn *c, struct cs_arena *a, const char *spiffe_id,
                            enum ds_child_order order, const struct ds_selector **out, size_t *n,
                            struct cs_err *e)
{
    struct ds_q q = ds_q(c, DS_SQL_NSEL_OF);
    ds_put_text(&q, spiffe_id);
    return ds_child_selectors(&q, a, order, out, n, e);
}

/* --- By id --- */

static cs_code fetch(struct ds_tx *tx, struct cs_arena *a, const char *spiffe_id, bool selectors,
                     struct ds_node **out, struct cs_err *e)
{
    int64_t row = 0;
    struct ds_node *node = cs_arena_alloc(a, sizeof *node);
    if (!node)
        return cs_nomem(e);
    CS_TRY(ds_node_load(tx->c, a, spiffe_id, &row, node, e));
    if (!row)
        return CS_OK;
    if (selectors)
        CS_TRY(selectors_of(tx->c, a, spiffe_id, DS_BY_VALUE, &node->selectors, &node->n_selectors, e));
    *out = node;
    return CS_OK;
}

cs_code ds_node_fetch(struct ds *d, struct cs_arena *a, const char *spiffe_id, struct ds_node **out,
                      struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    CS_TRY(ds_tx_read(&tx, d, "fetch attested node", false, e));
    return ds_tx_end(&tx, fetch(&tx, a, spiffe_id, false, out, e), e);
}

static cs_code fetch_many(struct ds_tx *tx, struct cs_arena *a, const char *const *ids, size_t n,
                          struct ds_node **out, struct cs_err *e)
{
    for (size_t i = 0; i < n; i++)
        CS_TRY(fetch(tx, a, ids[i], true, &out[i], e));
    return CS_OK;
}

cs_code ds_node_fetch_many(struct ds *d, struct cs_arena *a, const char *const *spiffe_ids, size_t n,
                           struct ds_node **out, struct cs_err *e)
{
    struct ds_tx tx;
    for (size_t i = 0; i < n; i++)
        out[i] = NULL;
    CS_TRY(ds_tx_read(&tx, d, "fetch attested nodes", true, e));
    cs_code code = ds_tx_end(&tx, fetch_many(&tx, a, spiffe_ids, n, out, e), e);
    for (size_t i = 0; code != CS_OK && i < n; i++)
        out[i] = NULL;
    return code;
}

/* --- Lists --- */

static const struct ds_selector_table selector_table = {"node_resolver_map_entries", "spiffe_id",
                                                        "attested_node_entries.spiffe_id"};

static cs_code check_filter(const struct ds_node_filter *f, struct cs_err *e)
{
    if (f && f->by_selectors && f->n_selectors == 0)
        return cs_fail(e, CS_INVALID, "cannot list by empty selectors set");
    return CS_OK;
}

static void add_tri(struct ds_where *w, enum ds_tri t, const char *yes, const char *no)
{
    if (t != DS_ANY)
        ds_where_add(w, t == DS_YES ? yes : no);
}

static void add_conditions(struct ds_where *w, const struct ds_node_filter *f)
{
    if (!f)
        return;
    ds_where_equals(w, "data_type", f->attestation_type);
    add_tri(w, f->banned, " AND serial_number = ''", " AND serial_number <> ''");
    add_tri(w, f->can_reattest, " AND can_reattest = 1", " AND can_reattest = 0");
    if (f->expires_before) {
        ds_where_add(w, " AND " DS_UNIX("expires_at") " < ?");
        ds_where_int(w, f->expires_before);
    }
    if (f->valid_at) {
        ds_where_add(w, " AND " DS_UNIX("expires_at") " >= ?");
        ds_where_int(w, f->valid_at);
    }
    if (f->by_selectors)
        ds_where_selectors(w, &selector_table, f->selectors_match, f->selectors, f->n_selectors);
}

static cs_code select_rows(struct ds_tx *tx, struct cs_arena *a, const struct ds_node_filter *f,
                           int64_t after, int64_t limit, struct ds_rows *rows, int64_t *last,
                           struct cs_err *e)
{
    CS_CLEANUP(ds_where_free) struct ds_where w = {0};
    struct ds_q q;
    ds_where_add(&w, "SELECT " DS_NODE_COLS " FROM attested_node_entries WHERE spiffe_id <> '' AND id > ?");
    ds_where_int(&w, after);
    add_conditions(&w, f);
    ds_where_add(&w, " ORDER BY id LIMIT ?");
    ds_where_int(&w, limit);
    CS_TRY(ds_where_query(&w, tx->c, &q, e));
    while (ds_next(&q)) {
        struct ds_node *node = ds_rows_add(rows, sizeof *node);
        if (node)
            ds_node_read_row(&q, a, last, node);
        else
            q.rc = SQLITE_NOMEM;
    }
    return ds_done(&q, e);
}

static cs_code list(struct ds_tx *tx, struct cs_arena *a, const struct ds_node_filter *f,
                    const struct ds_page *page, struct ds_node **out, size_t *n, const char **next,
                    struct cs_err *e)
{
    int64_t after = 0, limit = 0, last = 0;
    CS_TRY(ds_page_start(page, &after, &limit, e));
    CS_TRY(check_filter(f, e));
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    CS_TRY(select_rows(tx, a, f, after, limit, &rows, &last, e));
    struct ds_node *nodes = rows.at;
    for (size_t i = 0; f && f->fetch_selectors && i < rows.n; i++)
        CS_TRY(selectors_of(tx->c, a, nodes[i].spiffe_id, DS_BY_VALUE, &nodes[i].selectors,
                            &nodes[i].n_selectors, e));
    CS_TRY(ds_page_end(page, a, last, next, e));
    struct ds_node *kept = ds_rows_keep(&rows, a, sizeof *kept);
    if (!kept)
        return cs_nomem(e);
    *out = kept;
    *n = rows.n;
    return CS_OK;
}

cs_code ds_node_list(struct ds *d, struct cs_arena *a, const struct ds_node_filter *filter,
                     const struct ds_page *page, struct ds_node **out, size_t *n, const char **next,
                     struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    *n = 0;
    CS_TRY(ds_tx_read(&tx, d, "list attested nodes", true, e));
    return ds_tx_end(&tx, list(&tx, a, filter, page, out, n, next, e), e);
}

static cs_code count(struct ds_tx *tx, const struct ds_node_filter *f, int32_t *out, struct cs_err *e)
{
    CS_TRY(check_filter(f, e));
    CS_CLEANUP(ds_where_free) struct ds_where w = {0};
    struct ds_q q;
    ds_where_add(&w, "SELECT count(*) FROM attested_node_entries WHERE true");
    add_conditions(&w, f);
    CS_TRY(ds_where_query(&w, tx->c, &q, e));
    if (ds_next(&q))
        *out = (int32_t)ds_int(&q, 0);
    return ds_done(&q, e);
}

cs_code ds_node_count(struct ds *d, const struct ds_node_filter *filter, int32_t *out, struct cs_err *e)
{
    struct ds_tx tx;
    *out = 0;
    CS_TRY(ds_tx_read(&tx, d, "count attested nodes", false, e));
    return ds_tx_end(&tx, count(&tx, filter, out, e), e);
}

/* --- All --- */

static cs_code each_row(struct ds_tx *tx, struct ds_q *q, ds_node_fn fn, void *arg, struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    if (!a)
        return cs_nomem(e);
    while (ds_next(q)) {
        struct ds_node node;
        int64_t row = 0;
        cs_arena_reset(a);
        ds_node_read_row(q, a, &row, &node);
        if (q->rc != SQLITE_OK)
            break; /* reported by ds_done */
        CS_TRY(selectors_of(tx->c, a, node.spiffe_id, DS_BY_ROW, &node.selectors, &node.n_selectors, e));
        CS_TRY(fn(arg, &node, e));
    }
    return CS_OK;
}

cs_code ds_nodes_each(struct ds *d, ds_node_fn fn, void *arg, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_read(&tx, d, "read attested nodes", true, e));
    struct ds_q q = ds_q(tx.c, DS_SQL_NODE_ALL);
    cs_code code = each_row(&tx, &q, fn, arg, e);
    cs_code done = ds_done(&q, code == CS_OK ? e : NULL);
    (void)sqlite3_db_release_memory(tx.c->db); /* as ds_entries_each */
    return ds_tx_end(&tx, code != CS_OK ? code : done, e);
}

/* --- Selectors --- */

cs_code ds_node_get_selectors(struct ds *d, struct cs_arena *a, const char *spiffe_id,
                              struct ds_selector **out, size_t *n, struct cs_err *e)
{
    struct ds_tx tx;
    const struct ds_selector *found = NULL;
    *out = NULL;
    *n = 0;
    CS_TRY(ds_tx_read(&tx, d, "get node selectors", false, e));
    cs_code code = ds_tx_end(&tx, selectors_of(tx.c, a, spiffe_id, DS_BY_ROW, &found, n, e), e);
    *out = code == CS_OK ? (struct ds_selector *)found : NULL;
    return code;
}

/* Rows (spiffe_id, type, value) ordered by the first: one node per run of equal ones. */
static void group_rows(struct ds_q *q, struct cs_arena *a, struct ds_rows *nodes, struct ds_rows *selectors)
{
    struct ds_node *node = NULL;
    while (ds_next(q)) {
        struct ds_selector *s = ds_rows_add(selectors, sizeof *s);
        if (s && (!node || !cs_slice_is(ds_view(q, 0), node->spiffe_id))) {
            node = ds_rows_add(nodes, sizeof *node);
            if (node)
                node->spiffe_id = ds_str(q, a, 0);
        }
        if (!s || !node) {
            q->rc = SQLITE_NOMEM;
            return;
        }
        *s = (struct ds_selector){ds_str(q, a, 1), ds_str(q, a, 2)};
        node->n_selectors++;
    }
}

static cs_code list_selectors(struct ds_tx *tx, struct cs_arena *a, int64_t valid_at, struct ds_node **out,
                              size_t *n, struct cs_err *e)
{
    CS_CLEANUP(ds_rows_free) struct ds_rows nodes = {0};
    CS_CLEANUP(ds_rows_free) struct ds_rows selectors = {0};
    struct ds_q q = ds_q(tx->c, valid_at ? DS_SQL_NSEL_VALID : DS_SQL_NSEL_ALL);
    if (valid_at)
        ds_put_int(&q, valid_at);
    group_rows(&q, a, &nodes, &selectors);
    CS_TRY(ds_done(&q, e));
    struct ds_node *list = ds_rows_keep(&nodes, a, sizeof *list);
    const struct ds_selector *s = ds_rows_keep(&selectors, a, sizeof *s);
    if (!list || !s)
        return cs_nomem(e);
    for (size_t i = 0; i < nodes.n; i++) {
        list[i].selectors = s;
        s += list[i].n_selectors;
    }
    *out = list;
    *n = nodes.n;
    return CS_OK;
}

cs_code ds_node_list_selectors(struct ds *d, struct cs_arena *a, int64_t valid_at, struct ds_node **out,
                               size_t *n, struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    *n = 0;
    CS_TRY(ds_tx_read(&tx, d, "list node selectors", false, e));
    return ds_tx_end(&tx, list_selectors(&tx, a, valid_at, out, n, e), e);
}
