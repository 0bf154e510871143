/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections and transactions.
 */
#include "datastore/db.h"

/* --- Connections --- */

static void conn_close(struct ds_conn *c)
{
    if (!c)
        return;
    for (int i = 0; i < DS_SQL_COUNT; i++)
        (void)sqlite3_finalize(c->stmt[i]);
    (void)sqlite3_close(c->db);
    cs_free(c);
}

static cs_code conn_setup(struct ds_conn *c, const struct ds_dsn *dsn, struct cs_err *e)
{
    (void)sqlite3_extended_result_codes(c->db, 1);
    int rc = sqlite3_busy_timeout(c->db, dsn->busy_timeout_ms);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(c->db, (const char *)dsn->pragmas.data, NULL, NULL, NULL);
    return rc == SQLITE_OK ? CS_OK : ds_db_fail(c, rc, e);
}

static cs_code conn_open(const struct ds_dsn *dsn, struct ds_conn **out, struct cs_err *e)
{
    struct ds_conn *c = cs_calloc(1, sizeof *c);
    if (!c)
        return cs_nomem(e);
    c->op = "open";
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2((const char *)dsn->uri.data, &c->db, flags, NULL);
    cs_code code = CS_OK;
    if (!c->db)
        code = cs_nomem(e);
    else if (rc != SQLITE_OK)
        code = ds_db_fail(c, rc, e);
    else
        code = conn_setup(c, dsn, e);
    if (code != CS_OK) {
        conn_close(c);
        return code;
    }
    *out = c;
    return CS_OK;
}

/* An idle reader, a new one, or wait for one. */
static cs_code reader_take(struct ds *d, struct ds_conn **out, struct cs_err *e)
{
    (void)pthread_mutex_lock(&d->pool_mu);
    while (!d->idle && d->readers >= d->max_readers)
        (void)pthread_cond_wait(&d->pool_free, &d->pool_mu);
    struct ds_conn *c = d->idle;
    if (c)
        d->idle = c->next;
    else
        d->readers++;
    (void)pthread_mutex_unlock(&d->pool_mu);
    if (c) {
        *out = c;
        return CS_OK;
    }
    cs_code code = conn_open(&d->dsn, out, e);
    if (code != CS_OK) {
        (void)pthread_mutex_lock(&d->pool_mu);
        d->readers--;
        (void)pthread_cond_signal(&d->pool_free);
        (void)pthread_mutex_unlock(&d->pool_mu);
    }
    return code;
}

static void reader_give(struct ds *d, struct ds_conn *c)
{
    (void)pthread_mutex_lock(&d->pool_mu);
    c->next = d->idle;
    d->idle = c;
    (void)pthread_cond_signal(&d->pool_free);
    (void)pthread_mutex_unlock(&d->pool_mu);
}

/* --- Transactions --- */

static void tx_release(struct ds_tx *tx)
{
    if (tx->write || tx->d->single)
        (void)pthread_mutex_unlock(&tx->d->write_mu);
    else if (tx->c)
        reader_give(tx->d, tx->c);
    cs_arena_free(tx->scratch);
    cs_free(tx->changes);
    *tx = (struct ds_tx){0};
}

static void tx_conn(struct ds_tx *tx, const char *op)
{
    tx->c->op = op;
    tx->c->broken = false;
}

cs_code ds_tx_write(struct ds_tx *tx, struct ds *d, const char *op, struct cs_err *e)
{
    *tx = (struct ds_tx){.d = d, .write = true};
    (void)pthread_mutex_lock(&d->write_mu);
    tx->c = d->writer;
    tx_conn(tx, op);
    cs_code code = ds_exec(tx->c, DS_SQL_BEGIN_WRITE, e);
    if (code != CS_OK) {
        tx_release(tx);
        return code;
    }
    tx->begun = true;
    int64_t now = cs_now_ns(d->clock);
    tx->now_s = now / CS_NS_PER_S;
    tx->now_ns = (int32_t)(now % CS_NS_PER_S);
    ds_time_text(tx->now_s, tx->now_ns, tx->now);
    return CS_OK;
}

cs_code ds_tx_read(struct ds_tx *tx, struct ds *d, const char *op, bool snapshot, struct cs_err *e)
{
    *tx = (struct ds_tx){.d = d};
    if (d->single) {
        (void)pthread_mutex_lock(&d->write_mu);
        tx->c = d->writer;
    } else {
        CS_TRY(reader_take(d, &tx->c, e));
    }
    tx_conn(tx, op);
    if (snapshot) {
        cs_code code = ds_exec(tx->c, DS_SQL_BEGIN_READ, e);
        if (code != CS_OK) {
            tx_release(tx);
            return code;
        }
        tx->begun = true;
    }
    return CS_OK;
}

/* Some errors (disk full, ...) have rolled back by themselves. */
static void roll_back(struct ds_conn *c)
{
    if (!sqlite3_get_autocommit(c->db) && ds_exec(c, DS_SQL_ROLLBACK, NULL) != CS_OK)
        c->broken = true;
}

cs_code ds_tx_end(struct ds_tx *tx, cs_code code, struct cs_err *e)
{
    if (tx->begun && code == CS_OK && tx->write)
        code = ds_exec(tx->c, DS_SQL_COMMIT, e);
    if (tx->begun && (code != CS_OK || !tx->write))
        roll_back(tx->c);
    if (code == CS_OK && tx->n_changes > 0)
        tx->d->observer(tx->d->observer_arg, tx->changes, tx->n_changes);
    tx_release(tx);
    return code;
}

struct cs_arena *ds_tx_arena(struct ds_tx *tx)
{
    if (!tx->scratch)
        tx->scratch = cs_arena_new(0, SIZE_MAX);
    return tx->scratch;
}

cs_code ds_tx_changed(struct ds_tx *tx, const struct ds_change *change, struct cs_err *e)
{
    uint64_t event = tx->event;
    tx->event = 0;
    if (!tx->d->observer)
        return CS_OK;
    struct ds_rows rows = {tx->changes, tx->n_changes, tx->cap_changes};
    struct ds_change *at = ds_rows_add(&rows, sizeof *at);
    if (!at)
        return cs_nomem(e);
    *at = *change;
    at->event = event;
    tx->changes = rows.at;
    tx->n_changes = rows.n;
    tx->cap_changes = rows.cap;
    return CS_OK;
}

cs_code ds_item_begin(struct ds_tx *tx, struct cs_err *e)
{
    return ds_exec(tx->c, DS_SQL_ITEM_BEGIN, e);
}

cs_code ds_item_end(struct ds_tx *tx, cs_code code, bool *whole, struct cs_err *e)
{
    *whole = tx->c->broken || code == CS_INTERNAL;
    if (*whole)
        return code;
    if (code != CS_OK) {
        struct cs_err undo = {0};
        cs_code undone = ds_exec(tx->c, DS_SQL_ITEM_UNDO, &undo);
        if (undone != CS_OK) {
            *whole = true;
            if (e)
                *e = undo;
            return undone;
        }
    }
    struct cs_err kept = {0};
    cs_code released = ds_exec(tx->c, DS_SQL_ITEM_KEEP, &kept);
    if (released != CS_OK) {
        *whole = true;
        if (e)
            *e = kept;
        return released;
    }
    return code;
}

/* --- The handle --- */

static cs_code ds_alloc(const struct ds_options *o, struct ds **out, struct cs_err *e)
{
    struct ds *d = cs_calloc(1, sizeof *d);
    if (!d)
        return cs_nomem(e);
    d->clock = o->clock ? o->clock : &cs_clock_system;
    d->log = o->log;
    d->max_readers = o->max_open_conns ? o->max_open_conns : 4;
    (void)pthread_mutex_init(&d->write_mu, NULL);
    (void)pthread_mutex_init(&d->pool_mu, NULL);
    (void)pthread_cond_init(&d->pool_free, NULL);
    *out = d;
    return CS_OK;
}

static cs_code connect_first(struct ds *d, const struct ds_options *o, struct cs_err *e)
{
    CS_TRY(ds_dsn_parse(o->connection_string, &d->dsn, e));
    CS_TRY(conn_open(&d->dsn, &d->writer, e));
    const char *file = sqlite3_db_filename(d->writer->db, "main");
    d->single = !file || file[0] == '\0';
    return ds_schema_prepare(d, o->disable_migration, e);
}

cs_code ds_open(const struct ds_options *o, struct ds **out, struct cs_err *e)
{
    const char *type = ds_text(o->database_type);
    if (type[0] == '\0')
        return cs_fail(e, CS_INVALID, "datastore-sql: database_type must be set");
    if (ds_text(o->connection_string)[0] == '\0')
        return cs_fail(e, CS_INVALID, "datastore-sql: connection_string must be set");
    cs_log_info(&o->log, "Opening SQL database", KV("db_type", type));
    if (strcmp(type, "sqlite3") != 0)
        return cs_fail(e, CS_INVALID, "datastore-sql: unsupported database_type: %s", type);

    CS_AUTO(ds) d = NULL;
    CS_TRY(ds_alloc(o, &d, e));
    CS_TRY(connect_first(d, o, e));
    cs_log_info(&d->log, "Connected to SQL database", KV_BOOL("read_only", false), KV("type", type),
                KV("version", sqlite3_libversion()));
    if (ds_text(o->ro_connection_string)[0] != '\0')
        cs_log_warn(&d->log,
                    "Read-only connection is not applicable for sqlite3. Falling back to primary connection");
    *out = CS_MOVE(d);
    return CS_OK;
}

void ds_close(struct ds *d)
{
    if (!d)
        return;
    while (d->idle) {
        struct ds_conn *c = d->idle;
        d->idle = c->next;
        conn_close(c);
    }
    conn_close(d->writer); /* the last connection to close checkpoints */
    ds_dsn_free(&d->dsn);
    (void)pthread_cond_destroy(&d->pool_free);
    (void)pthread_mutex_destroy(&d->pool_mu);
    (void)pthread_mutex_destroy(&d->write_mu);
    cs_free(d);
}

cs_code ds_ping(struct ds *d, struct cs_err *e)
{
    struct ds_tx tx;
    CS_TRY(ds_tx_read(&tx, d, "check", false, e));
    return ds_tx_end(&tx, ds_exec(tx.c, DS_SQL_PING, e), e);
}

/* The writer's own commits do not change what it is told, and nobody else here writes. */
cs_code ds_foreign_version(struct ds *d, int64_t *out, struct cs_err *e)
{
    *out = 0;
    if (d->single)
        return CS_OK; /* nobody else can have it */
    (void)pthread_mutex_lock(&d->write_mu);
    struct ds_conn *c = d->writer;
    c->op = "look for changes";
    struct ds_q q = ds_q(c, DS_SQL_DATA_VERSION);
    while (ds_next(&q))
        *out = ds_int(&q, 0);
    cs_code code = ds_done(&q, e);
    (void)pthread_mutex_unlock(&d->write_mu);
    return code;
}

void ds_observe(struct ds *d, ds_observer_fn fn, void *arg)
{
    d->observer = fn;
    d->observer_arg = arg;
}
