/* SPDX-License-Identifier: Apache-2.0
 *
 * Creating, updating, deleting and pruning attested nodes.
 */
#include "datastore/entries.h"
#include "datastore/nodes.h"

#define PRUNE_BATCH 1000

/* A datetime, NULL for none. buf lives until the statement is done. */
static void put_time(struct ds_q *q, int64_t unix_s, bool nullable, char buf[DS_TIME_MAX])
{
    if (nullable && unix_s == 0) {
        ds_put_null(q);
        return;
    }
    ds_time_text(unix_s, 0, buf);
    ds_put_text(q, buf);
}

/* Event, change and result of a node that was written. */
static cs_code written(struct ds_tx *tx, struct cs_arena *a, const char *spiffe_id, struct ds_node **out,
                       struct cs_err *e)
{
    CS_TRY(ds_event_add(tx, DS_EVENT_NODE, spiffe_id, e));
    struct cs_arena *where = out ? a : ds_tx_arena(tx);
    struct ds_node *node = where ? cs_arena_alloc(where, sizeof *node) : NULL;
    int64_t row = 0;
    if (!node)
        return cs_nomem(e);
    CS_TRY(ds_node_load(tx->c, where, spiffe_id, &row, node, e));
    if (!row)
        return ds_not_found(e);
    if (out)
        *out = node;
    return ds_tx_changed(tx, &(struct ds_change){.kind = DS_CHANGE_NODE, .id = node->spiffe_id, .node = node},
                         e);
}

/* --- Create --- */

static cs_code create(struct ds_tx *tx, struct cs_arena *a, const struct ds_node *in, struct ds_node **out,
                      struct cs_err *e)
{
    char expires[DS_TIME_MAX], new_expires[DS_TIME_MAX];
    struct ds_q q = ds_q(tx->c, DS_SQL_NODE_INSERT);
    ds_put_text(&q, tx->now);
    ds_put_text(&q, in->spiffe_id);
    ds_put_text(&q, in->attestation_type);
    ds_put_text(&q, in->serial_number);
    put_time(&q, in->expires_at, false, expires);
    ds_put_text(&q, in->new_serial_number);
    put_time(&q, in->new_expires_at, true, new_expires);
    ds_put_int(&q, in->can_reattest);
    ds_put_text(&q, in->agent_version);
    CS_TRY(ds_run(&q, e));
    return written(tx, a, ds_text(in->spiffe_id), out, e);
}

cs_code ds_node_create(struct ds *d, struct cs_arena *a, const struct ds_node *in, struct ds_node **out,
                       struct cs_err *e)
{
    struct ds_tx tx;
    struct ds_node *made = NULL;
    CS_TRY(ds_tx_write(&tx, d, "create attested node", e));
    cs_code code = ds_tx_end(&tx, create(&tx, a, in, out ? &made : NULL, e), e);
    if (out)
        *out = code == CS_OK ? made : NULL;
    return code;
}

/* --- Update --- */

static void apply_mask(struct ds_node *to, const struct ds_node *from, const struct ds_node_mask *m)
{
    if (!m || m->serial_number)
        to->serial_number = from->serial_number;
    if (!m || m->expires_at)
        to->expires_at = from->expires_at;
    if (!m || m->new_serial_number)
        to->new_serial_number = from->new_serial_number;
    if (!m || m->new_expires_at)
        to->new_expires_at = from->new_expires_at;
    if (!m || m->can_reattest)
        to->can_reattest = from->can_reattest;
    if (!m || m->agent_version)
        to->agent_version = from->agent_version;
}

static cs_code check_conditions(const struct ds_node *node, const struct ds_node_mask *m, struct cs_err *e)
{
    if (!m)
        return CS_OK;
    if (m->unless_banned && node->serial_number[0] == '\0')
        return cs_fail(e, CS_DENIED, "agent is banned");
    if (m->if_new_serial && strcmp(node->new_serial_number, m->if_new_serial) != 0)
        return cs_fail(e, CS_ABORTED, "agent has another new serial number by now");
    return CS_OK;
}

static cs_code update(struct ds_tx *tx, struct cs_arena *a, const struct ds_node *in,
                      const struct ds_node_mask *mask, struct ds_node **out, struct cs_err *e)
{
    char expires[DS_TIME_MAX], new_expires[DS_TIME_MAX];
    struct cs_arena *scratch = ds_tx_arena(tx);
    struct ds_node node;
    int64_t row = 0;
    if (!scratch)
        return cs_nomem(e);
    CS_TRY(ds_node_load(tx->c, scratch, in->spiffe_id, &row, &node, e));
    if (!row)
        return ds_not_found(e);
    CS_TRY(check_conditions(&node, mask, e));
    apply_mask(&node, in, mask);
    struct ds_q q = ds_q(tx->c, DS_SQL_NODE_UPDATE);
    ds_put_text(&q, tx->now);
    ds_put_text(&q, node.serial_number);
    put_time(&q, node.expires_at, false, expires);
    ds_put_text(&q, node.new_serial_number);
    put_time(&q, node.new_expires_at, true, new_expires);
    ds_put_int(&q, node.can_reattest);
    ds_put_text(&q, node.agent_version);
    ds_put_int(&q, row);
    CS_TRY(ds_run(&q, e));
    return written(tx, a, ds_text(in->spiffe_id), out, e);
}

cs_code ds_node_update(struct ds *d, struct cs_arena *a, const struct ds_node *in,
                       const struct ds_node_mask *mask, struct ds_node **out, struct cs_err *e)
{
    struct ds_tx tx;
    struct ds_node *now = NULL;
    CS_TRY(ds_tx_write(&tx, d, "update attested node", e));
    cs_code code = ds_tx_end(&tx, update(&tx, a, in, mask, out ? &now : NULL, e), e);
    if (out)
        *out = code == CS_OK ? now : NULL;
    return code;
}

/* --- Delete --- */

/* The entry that a join token was made with: one selector, spiffe_id, of its parent. */
static bool is_token_alias(const struct ds_entry *entry)
{
    return entry->n_selectors == 1 && strcmp(entry->selectors[0].type, "spiffe_id") == 0 &&
           strcmp(entry->selectors[0].value, entry->parent_id) == 0;
}

static cs_code delete_alias(struct ds_tx *tx, int64_t row, struct cs_err *e)
{
    struct cs_arena *scratch = ds_tx_arena(tx);
    struct ds_entry entry;
    CS_TRY(ds_entry_load_row(tx->c, scratch, row, false, &entry, e));
    if (!is_token_alias(&entry))
        return CS_OK;
    CS_TRY(ds_entry_delete_row(tx, row, &entry, e));
    cs_log_info(&tx->d->log, "Cascade-deleted registration entry on attested node deletion",
                KV("spiffe_id", entry.spiffe_id), KV("parent_id", entry.parent_id),
                KV("entry_id", entry.entry_id));
    return CS_OK;
}

/* A join token's node never comes back: its alias entries go with it, the workloads' entries stay. */
static cs_code delete_aliases(struct ds_tx *tx, const char *spiffe_id, struct cs_err *e)
{
    CS_CLEANUP(ds_rows_free) struct ds_rows rows = {0};
    struct ds_q q = ds_q(tx->c, DS_SQL_ENTRY_BY_PARENT);
    ds_put_text(&q, spiffe_id);
    while (ds_next(&q)) {
        int64_t *row = ds_rows_add(&rows, sizeof *row);
        if (row)
            *row = ds_int(&q, 0);
        else
            q.rc = SQLITE_NOMEM;
    }
    CS_TRY(ds_done(&q, e));
    for (size_t i = 0; i < rows.n; i++)
        CS_TRY(delete_alias(tx, ((const int64_t *)rows.at)[i], e));
    return CS_OK;
}

static cs_code run_for(struct ds_tx *tx, enum ds_sql id, const char *spiffe_id, struct cs_err *e)
{
    struct ds_q q = ds_q(tx->c, id);
    ds_put_text(&q, spiffe_id);
    return ds_run(&q, e);
}

static cs_code delete_node(struct ds_tx *tx, struct cs_arena *a, const char *spiffe_id, struct ds_node *was,
                           struct cs_err *e)
{
    int64_t row = 0;
    if (!ds_tx_arena(tx))
        return cs_nomem(e);
    CS_TRY(ds_node_load(tx->c, a, spiffe_id, &row, was, e));
    if (!row)
        return ds_not_found(e);
    if (strcmp(was->attestation_type, "join_token") == 0)
        CS_TRY(delete_aliases(tx, spiffe_id, e));
    CS_TRY(run_for(tx, DS_SQL_NSEL_DELETE, spiffe_id, e));
    CS_TRY(run_for(tx, DS_SQL_NODE_DELETE, spiffe_id, e));
    CS_TRY(ds_event_add(tx, DS_EVENT_NODE, spiffe_id, e));
    return ds_tx_changed(
        tx, &(struct ds_change){.kind = DS_CHANGE_NODE, .id = was->spiffe_id, .deleted = true}, e);
}

cs_code ds_node_delete(struct ds *d, struct cs_arena *a, const char *spiffe_id, struct ds_node **out,
                       struct cs_err *e)
{
    struct ds_tx tx;
    if (out)
        *out = NULL;
    struct ds_node *was = cs_arena_alloc(a, sizeof *was);
    if (!was)
        return cs_nomem(e);
    CS_TRY(ds_tx_write(&tx, d, "delete attested node", e));
    cs_code code = ds_tx_end(&tx, delete_node(&tx, a, spiffe_id, was, e), e);
    if (out && code == CS_OK)
        *out = was;
    return code;
}

/* --- Prune --- */

static cs_code expired(struct ds_tx *tx, int64_t before, bool all, int batch, struct ds_rows *ids,
                       struct cs_err *e)
{
    struct cs_arena *a = ds_tx_arena(tx);
    char bound[DS_TIME_MAX];
    if (!a)
        return cs_nomem(e);
    ds_time_bound(before, 1, bound);
    struct ds_q q = ds_q(tx->c, DS_SQL_NODE_EXPIRED);
    ds_put_text(&q, bound);
    ds_put_int(&q, before);
    ds_put_int(&q, all);
    ds_put_int(&q, batch > 0 ? batch : PRUNE_BATCH);
    while (ds_next(&q)) {
        const char **id = ds_rows_add(ids, sizeof *id);
        if (id)
            *id = ds_str(&q, a, 0);
        else
            q.rc = SQLITE_NOMEM;
    }
    return ds_done(&q, e);
}

static cs_code prune(struct ds_tx *tx, int64_t before, bool all, int batch, size_t *n, struct cs_err *e)
{
    CS_CLEANUP(ds_rows_free) struct ds_rows ids = {0};
    CS_TRY(expired(tx, before, all, batch, &ids, e));
    for (*n = 0; *n < ids.n; ++*n) {
        struct ds_node was;
        CS_TRY(delete_node(tx, ds_tx_arena(tx), ((const char *const *)ids.at)[*n], &was, e));
    }
    return CS_OK;
}

cs_code ds_node_prune(struct ds *d, int64_t before, bool include_non_reattestable, int batch,
                      struct cs_err *e)
{
    struct ds_tx tx;
    size_t n = 0;
    CS_TRY(ds_tx_write(&tx, d, "prune attested nodes", e));
    cs_code code = ds_tx_end(&tx, prune(&tx, before, include_non_reattestable, batch, &n, e), e);
    if (code == CS_OK)
        cs_log_info(&d->log, "Pruned expired agents", KV_INT("count", (int64_t)n));
    return code;
}

/* --- Selectors --- */

static cs_code set_selectors(struct ds_tx *tx, const char *spiffe_id, const struct ds_selector *selectors,
                             size_t n, struct cs_err *e)
{
    CS_TRY(run_for(tx, DS_SQL_NSEL_DELETE, spiffe_id, e));
    for (size_t i = 0; i < n; i++) {
        struct ds_q q = ds_q(tx->c, DS_SQL_NSEL_INSERT);
        ds_put_text(&q, tx->now);
        ds_put_text(&q, spiffe_id);
        ds_put_text(&q, selectors[i].type);
        ds_put_text(&q, selectors[i].value);
        CS_TRY(ds_run(&q, e));
    }
    CS_TRY(ds_event_add(tx, DS_EVENT_NODE, spiffe_id, e));
    return ds_tx_changed(
        tx,
        &(struct ds_change){
            .kind = DS_CHANGE_NODE_SELECTORS, .id = spiffe_id, .selectors = selectors, .n_selectors = n},
        e);
}

cs_code ds_node_set_selectors(struct ds *d, const char *spiffe_id, const struct ds_selector *selectors,
                              size_t n, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_write(&tx, d, "set node selectors", e));
    return ds_tx_end(&tx, set_selectors(&tx, spiffe_id, selectors, n, e), e);
}
