/* SPDX-License-Identifier: Apache-2.0
 *
 * Events: the trail of changes that other servers on the same database follow.
 */
#include "datastore/db.h"

static cs_code list(struct ds_tx *tx, struct cs_arena *a, enum ds_event_kind kind, int64_t above,
                    int64_t below, struct ds_event **out, size_t *n, struct cs_err *e)
{
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    struct ds_q q = ds_q(tx->c, kind == DS_EVENT_ENTRY ? DS_SQL_ENTRY_EVENT_LIST : DS_SQL_NODE_EVENT_LIST);
    ds_put_int(&q, above);
    ds_put_int(&q, below);
    while (ds_next(&q)) {
        struct ds_event *row = ds_rows_add(&rows, sizeof *row);
        if (row)
            *row = (struct ds_event){(uint64_t)ds_int(&q, 0), ds_str(&q, a, 1)};
        else
            q.rc = SQLITE_NOMEM;
    }
    CS_TRY(ds_done(&q, e));
    struct ds_event *kept = ds_rows_keep(&rows, a, sizeof *kept);
    if (!kept)
        return cs_nomem(e);
    *out = kept;
    *n = rows.n;
    return CS_OK;
}

static int64_t clamp(uint64_t id)
{
    return id > INT64_MAX ? INT64_MAX : (int64_t)id;
}

cs_code ds_event_list(struct ds *d, struct cs_arena *a, enum ds_event_kind kind, uint64_t greater_than,
                      uint64_t less_than, struct ds_event **out, size_t *n, struct cs_err *e)
{
    struct ds_tx tx;
    *out = NULL;
    *n = 0;
    if (greater_than && less_than)
        return cs_fail(e, CS_UNKNOWN, "datastore-sql: can't set both greater and less than event id");
    CS_TRY(ds_tx_read(&tx, d, "list events", false, e));
    int64_t below = less_than ? clamp(less_than) : INT64_MAX;
    return ds_tx_end(&tx, list(&tx, a, kind, clamp(greater_than), below, out, n, e), e);
}

cs_code ds_event_fetch(struct ds *d, struct cs_arena *a, enum ds_event_kind kind, uint64_t id,
                       struct ds_event *out, struct cs_err *e)
{
    struct ds_tx tx;
    struct ds_event *found = NULL;
    size_t n = 0;
    *out = (struct ds_event){.subject = ""};
    if (id == 0 || id >= INT64_MAX)
        return ds_not_found(e);
    CS_TRY(ds_tx_read(&tx, d, "fetch event", false, e));
    CS_TRY(ds_tx_end(&tx, list(&tx, a, kind, (int64_t)id - 1, (int64_t)id + 1, &found, &n, e), e));
    if (n == 0)
        return ds_not_found(e);
    *out = found[0];
    return CS_OK;
}

cs_code ds_event_prune(struct ds *d, enum ds_event_kind kind, int64_t older_than_s, struct cs_err *e)
{
    struct ds_tx tx;
    char bound[DS_TIME_MAX];
    CS_TRY(ds_tx_write(&tx, d, "prune events", e));
    int64_t before = tx.now_s - older_than_s;
    ds_time_bound(before, 1, bound);
    struct ds_q q = ds_q(tx.c, kind == DS_EVENT_ENTRY ? DS_SQL_ENTRY_EVENT_PRUNE : DS_SQL_NODE_EVENT_PRUNE);
    ds_put_text(&q, bound);
    ds_put_int(&q, before);
    return ds_tx_end(&tx, ds_run(&q, e), e);
}
