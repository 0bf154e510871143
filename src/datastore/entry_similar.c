/* SPDX-License-Identifier: Apache-2.0
 *
 * Is there an entry with the same SPIFFE ID, parent and set of selectors already? Any of the three may be
 * shared by very many entries (one parent for all, one selector for all), so each index is tried for a few
 * rows only before the next one, and just the last one to the end: creating an entry must not become slower
 * with the number of entries.
 */
#include "datastore/child.h"
#include "datastore/entries.h"

#include <stdlib.h>

#define TRIES 32 /* rows of one index before trying another */

struct wanted {
    struct ds_tx *tx;
    struct cs_arena *a;
    const char *spiffe_id, *parent_id;
    struct ds_selector *set; /* sorted, each once */
    size_t n;
};

static int selector_cmp(const void *x, const void *y)
{
    const struct ds_selector *a = x, *b = y;
    int c = strcmp(a->type, b->type);
    return c ? c : strcmp(a->value, b->value);
}

static cs_code make_set(struct wanted *w, const struct ds_entry *in, struct cs_err *e)
{
    w->set = cs_arena_alloc(w->a, in->n_selectors * sizeof *w->set + 1);
    if (!w->set)
        return cs_nomem(e);
    for (size_t i = 0; i < in->n_selectors; i++)
        w->set[i] = (struct ds_selector){ds_text(in->selectors[i].type), ds_text(in->selectors[i].value)};
    qsort(w->set, in->n_selectors, sizeof *w->set, selector_cmp);
    for (size_t i = 0; i < in->n_selectors; i++)
        if (i == 0 || selector_cmp(&w->set[i], &w->set[w->n - 1]) != 0)
            w->set[w->n++] = w->set[i];
    return CS_OK;
}

static cs_code same_selectors(const struct wanted *w, int64_t row, bool *same, struct cs_err *e)
{
    const struct ds_selector *have = NULL;
    size_t n = 0;
    struct ds_q q = ds_q(w->tx->c, DS_SQL_SEL_OF);
    ds_put_int(&q, row);
    CS_TRY(ds_child_selectors(&q, w->a, DS_BY_VALUE, &have, &n, e));
    *same = n == w->n;
    for (size_t i = 0; *same && i < n; i++)
        *same = selector_cmp(&have[i], &w->set[i]) == 0;
    return CS_OK;
}

static cs_code same_ids(const struct wanted *w, int64_t row, bool *same, struct cs_err *e)
{
    struct ds_q q = ds_q(w->tx->c, DS_SQL_ENTRY_IS);
    ds_put_int(&q, row);
    ds_put_text(&q, w->spiffe_id);
    ds_put_text(&q, w->parent_id);
    *same = ds_next(&q);
    return ds_done(&q, e);
}

/* Go through the rows of one index, column 0 being the entry's row. *over: there were more than `tries`.
 * other: what column 1 must be, NULL to look the entry up. */
static cs_code scan(const struct wanted *w, struct ds_q *q, const char *other, int tries, int64_t *row,
                    bool *over, struct cs_err *e)
{
    *over = false;
    while (ds_next(q)) {
        int64_t id = ds_int(q, 0);
        bool same = true;
        if (tries >= 0 && tries-- == 0) {
            *over = true;
            return CS_OK;
        }
        if (other)
            same = cs_slice_is(ds_view(q, 1), other);
        else
            CS_TRY(same_ids(w, id, &same, e));
        if (same)
            CS_TRY(same_selectors(w, id, &same, e));
        if (same) {
            *row = id;
            return CS_OK;
        }
    }
    return CS_OK;
}

static cs_code scan_done(const struct wanted *w, struct ds_q *q, const char *other, int tries, int64_t *row,
                         bool *over, struct cs_err *e)
{
    cs_code code = scan(w, q, other, tries, row, over, e);
    cs_code done = ds_done(q, code == CS_OK ? e : NULL);
    return code != CS_OK ? code : done;
}

static cs_code by_spiffe_id(const struct wanted *w, int tries, int64_t *row, bool *over, struct cs_err *e)
{
    struct ds_q q = ds_q(w->tx->c, DS_SQL_ENTRY_TWINS);
    ds_put_text(&q, w->spiffe_id);
    return scan_done(w, &q, w->parent_id, tries, row, over, e);
}

static cs_code by_parent(const struct wanted *w, int64_t *row, bool *over, struct cs_err *e)
{
    struct ds_q q = ds_q(w->tx->c, DS_SQL_ENTRY_TWINS_BY_PARENT);
    ds_put_text(&q, w->parent_id);
    return scan_done(w, &q, w->spiffe_id, TRIES, row, over, e);
}

static cs_code by_selector(const struct wanted *w, const struct ds_selector *s, int64_t *row, bool *over,
                           struct cs_err *e)
{
    struct ds_q q = ds_q(w->tx->c, DS_SQL_ENTRY_TWINS_BY_SELECTOR);
    ds_put_text(&q, s->type);
    ds_put_text(&q, s->value);
    return scan_done(w, &q, NULL, TRIES, row, over, e);
}

cs_code ds_entry_find_similar(struct ds_tx *tx, const struct ds_entry *in, int64_t *row, struct cs_err *e)
{
    struct wanted w = {.tx = tx,
                       .a = ds_tx_arena(tx),
                       .spiffe_id = ds_text(in->spiffe_id),
                       .parent_id = ds_text(in->parent_id)};
    bool over = false;
    *row = 0;
    if (!w.a)
        return cs_nomem(e);
    CS_TRY(make_set(&w, in, e));
    CS_TRY(by_spiffe_id(&w, TRIES, row, &over, e));
    if (over)
        CS_TRY(by_parent(&w, row, &over, e));
    for (size_t i = 0; over && i < w.n && i < 8; i++)
        CS_TRY(by_selector(&w, &w.set[i], row, &over, e));
    return over ? by_spiffe_id(&w, -1, row, &over, e) : CS_OK;
}
