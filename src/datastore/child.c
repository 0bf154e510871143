/* SPDX-License-Identifier: Apache-2.0 */
#include "datastore/child.h"

#include <stdlib.h>

/* One row of either kind; type is "" for plain texts. */
struct child {
    int64_t id;
    struct ds_selector sel;
};

static int by_row(const void *x, const void *y)
{
    const struct child *a = x, *b = y;
    return a->id < b->id ? -1 : a->id > b->id;
}

static int by_value(const void *x, const void *y)
{
    const struct child *a = x, *b = y;
    int c = strcmp(a->sel.type, b->sel.type);
    return c ? c : strcmp(a->sel.value, b->sel.value);
}

/* Take the current row; col is where the id is. */
static void take(struct ds_q *q, struct cs_arena *a, int col, bool selector, struct ds_rows *rows)
{
    struct child *row = ds_rows_add(rows, sizeof *row);
    if (!row) {
        q->rc = SQLITE_NOMEM;
        return;
    }
    row->id = ds_int(q, col);
    row->sel.type = selector ? ds_str(q, a, col + 1) : "";
    row->sel.value = ds_str(q, a, col + (selector ? 2 : 1));
}

static void sort(struct ds_rows *rows, enum ds_child_order order)
{
    if (rows->n > 1)
        qsort(rows->at, rows->n, sizeof(struct child), order == DS_BY_ROW ? by_row : by_value);
}

static cs_code keep_selectors(const struct ds_rows *rows, struct cs_arena *a, const struct ds_selector **out,
                              size_t *n, struct cs_err *e)
{
    const struct child *from = rows->at;
    struct ds_selector *list = cs_arena_alloc(a, rows->n * sizeof *list + 1);
    if (!list)
        return cs_nomem(e);
    for (size_t i = 0; i < rows->n; i++)
        list[i] = from[i].sel;
    *out = list;
    *n = rows->n;
    return CS_OK;
}

static cs_code keep_texts(const struct ds_rows *rows, struct cs_arena *a, const char *const **out, size_t *n,
                          struct cs_err *e)
{
    const struct child *from = rows->at;
    const char **list = cs_arena_alloc(a, rows->n * sizeof *list + 1);
    if (!list)
        return cs_nomem(e);
    for (size_t i = 0; i < rows->n; i++)
        list[i] = from[i].sel.value;
    *out = list;
    *n = rows->n;
    return CS_OK;
}

cs_code ds_child_selectors(struct ds_q *q, struct cs_arena *a, enum ds_child_order order,
                           const struct ds_selector **out, size_t *n, struct cs_err *e)
{
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    while (ds_next(q))
        take(q, a, 0, true, &rows);
    CS_TRY(ds_done(q, e));
    sort(&rows, order);
    return keep_selectors(&rows, a, out, n, e);
}

cs_code ds_child_texts(struct ds_q *q, struct cs_arena *a, enum ds_child_order order, const char *const **out,
                       size_t *n, struct cs_err *e)
{
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    while (ds_next(q))
        take(q, a, 0, false, &rows);
    CS_TRY(ds_done(q, e));
    sort(&rows, order);
    return keep_texts(&rows, a, out, n, e);
}

/* --- Walks --- */

void ds_walk_begin(struct ds_walk *w, struct ds_conn *c, enum ds_sql id)
{
    w->q = ds_q(c, id);
    w->row = ds_next(&w->q);
}

/* Skip rows of earlier owners (left behind by old releases), take those of this one. */
static void walk_to(struct ds_walk *w, struct cs_arena *a, int64_t owner, bool selector)
{
    w->rows.n = 0;
    while (w->row && ds_int(&w->q, 0) < owner)
        w->row = ds_next(&w->q);
    while (w->row && ds_int(&w->q, 0) == owner) {
        take(&w->q, a, 1, selector, &w->rows);
        w->row = ds_next(&w->q);
    }
}

cs_code ds_walk_selectors(struct ds_walk *w, struct cs_arena *a, int64_t owner,
                          const struct ds_selector **out, size_t *n, struct cs_err *e)
{
    walk_to(w, a, owner, true);
    sort(&w->rows, DS_BY_ROW);
    return w->q.rc == SQLITE_OK ? keep_selectors(&w->rows, a, out, n, e) : ds_db_fail(w->q.c, w->q.rc, e);
}

cs_code ds_walk_texts(struct ds_walk *w, struct cs_arena *a, int64_t owner, enum ds_child_order order,
                      const char *const **out, size_t *n, struct cs_err *e)
{
    walk_to(w, a, owner, false);
    sort(&w->rows, order);
    return w->q.rc == SQLITE_OK ? keep_texts(&w->rows, a, out, n, e) : ds_db_fail(w->q.c, w->q.rc, e);
}

cs_code ds_walk_end(struct ds_walk *w, struct cs_err *e)
{
    ds_rows_free(&w->rows);
    return w->q.c ? ds_done(&w->q, e) : CS_OK;
}
