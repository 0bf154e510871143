/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: connections, transactions and statements. One writer connection behind a
 * mutex, a pool of readers; a connection is used by one thread at a time.
 */
#ifndef CS_DATASTORE_DB_H
#define CS_DATASTORE_DB_H

#include "datastore/datastore.h"
#include "datastore/dsn.h"
#include "datastore/sql.h"
#include "datastore/timetext.h"

#include <pthread.h>
#include <sqlite3.h>

struct ds_conn {
    sqlite3 *db;
    sqlite3_stmt *stmt[DS_SQL_COUNT]; /* prepared on first use */
    const char *op;                   /* what is being done, for error texts; static */
    bool broken;                      /* an error that is not one item's met this transaction */
    struct ds_conn *next;
};

struct ds {
    const struct cs_clock *clock;
    struct cs_log log;
    struct ds_dsn dsn;
    bool single;              /* in memory only: the writer connection reads too */
    pthread_mutex_t write_mu; /* holds `writer`; also while the observer runs */
    struct ds_conn *writer;
    pthread_mutex_t pool_mu; /* holds the four below */
    pthread_cond_t pool_free;
    struct ds_conn *idle;
    unsigned readers, max_readers;
    ds_observer_fn observer;
    void *observer_arg;
};

/* --- Transactions --- */

struct ds_tx {
    struct ds *d;
    struct ds_conn *c;
    bool write, begun;
    struct cs_arena *scratch; /* made on first use; lives until the end, observer included */
    struct ds_change *changes;
    size_t n_changes, cap_changes;
    uint64_t event; /* added last and not yet part of a change */
    int64_t now_s;
    int32_t now_ns;
    char now[DS_TIME_MAX]; /* text of now, for created_at and updated_at */
};

/* Begin a writing transaction; op names it in errors ("create bundle"). Ends with ds_tx_end, always. */
CS_CHECKED cs_code ds_tx_write(struct ds_tx *tx, struct ds *d, const char *op, struct cs_err *e);
/* Borrow a reader. snapshot: several statements that must see the same state. Ends with ds_tx_end. */
CS_CHECKED cs_code ds_tx_read(struct ds_tx *tx, struct ds *d, const char *op, bool snapshot,
                              struct cs_err *e);
/* code CS_OK: commit and tell the observer; anything else: roll back and pass it on. */
CS_CHECKED cs_code ds_tx_end(struct ds_tx *tx, cs_code code, struct cs_err *e);
/* The transaction's own arena; NULL when memory is out. */
struct cs_arena *ds_tx_arena(struct ds_tx *tx);
/* Note a change for the observer; all that it points to must live until ds_tx_end. The event added
 * before it is its event. */
CS_CHECKED cs_code ds_tx_changed(struct ds_tx *tx, const struct ds_change *change, struct cs_err *e);
static inline bool ds_tx_observed(const struct ds_tx *tx)
{
    return tx->d->observer != NULL;
}

/* --- Statements ---
 *     struct ds_q q = ds_q(c, DS_SQL_X);
 *     ds_put_text(&q, name);                     binds 1, 2, ... in order
 *     while (ds_next(&q)) ... ds_str(&q, a, 0)   errors are sticky
 *     return ds_done(&q, e);                     reports them, resets
 */
struct ds_q {
    struct ds_conn *c;
    sqlite3_stmt *st;
    int at;     /* parameters bound so far */
    int rc;     /* first error, SQLITE_OK */
    bool owned; /* composed: finalised by ds_done */
};
struct ds_q ds_q(struct ds_conn *c, enum ds_sql id);
struct ds_q ds_q_composed(struct ds_conn *c, struct cs_slice sql);
/* Bound text and blobs are borrowed until ds_done. */
void ds_put_text(struct ds_q *q, const char *s); /* NULL is "" */
void ds_put_int(struct ds_q *q, int64_t v);
void ds_put_blob(struct ds_q *q, struct cs_slice s);
void ds_put_null(struct ds_q *q);
bool ds_next(struct ds_q *q); /* a row is there */
CS_CHECKED cs_code ds_done(struct ds_q *q, struct cs_err *e);
CS_CHECKED cs_code ds_run(struct ds_q *q, struct cs_err *e); /* step to the end, then ds_done */
/* Columns of the row. NULL reads as "", 0, empty. Text is copied into the arena. */
const char *ds_str(struct ds_q *q, struct cs_arena *a, int col);
struct cs_slice ds_blob(struct ds_q *q, struct cs_arena *a, int col);
struct cs_slice ds_view(struct ds_q *q, int col); /* text or blob until the next ds_next */
int64_t ds_int(struct ds_q *q, int col);
int64_t ds_time(struct ds_q *q, int col, int32_t *ns); /* Unix seconds; 0 for NULL; ns may be NULL */
int64_t ds_time_rounded(struct ds_q *q, int col);      /* to the nearest second */
/* Statement without parameters or rows. */
CS_CHECKED cs_code ds_exec(struct ds_conn *c, enum ds_sql id, struct cs_err *e);
/* Savepoint around one item of a batch: code CS_OK keeps what it did, anything else undoes it. *whole: the
 * error is not of this item alone, the transaction must end. Returns the item's code. */
CS_CHECKED cs_code ds_item_begin(struct ds_tx *tx, struct cs_err *e);
CS_CHECKED cs_code ds_item_end(struct ds_tx *tx, cs_code code, bool *whole, struct cs_err *e);

/* *e from SQLite's state; rc is not SQLITE_OK. */
cs_code ds_db_fail(struct ds_conn *c, int rc, struct cs_err *e);
cs_code ds_not_found(struct cs_err *e); /* `datastore-sql: record not found` */

/* --- Rows of unknown number --- */
struct ds_rows {
    void *at;
    size_t n, cap;
};
static inline void ds_rows_free(struct ds_rows *r)
{
    cs_free(r->at);
}
/* Room for one more row of `size` bytes, zeroed; NULL when memory is out. */
void *ds_rows_add(struct ds_rows *r, size_t size);
/* Copy into the arena. NULL only when memory is out (an empty list is a valid pointer). */
void *ds_rows_keep(const struct ds_rows *r, struct cs_arena *a, size_t size);

/* --- Paging --- */
/* *after: rows with a larger id; *limit: -1 for none. page may be NULL. */
CS_CHECKED cs_code ds_page_start(const struct ds_page *page, int64_t *after, int64_t *limit,
                                 struct cs_err *e);
/* Token that continues after row `last` (0: no row). */
CS_CHECKED cs_code ds_page_end(const struct ds_page *page, struct cs_arena *a, int64_t last,
                               const char **next, struct cs_err *e);

/* --- Shared by the operations --- */
static inline const char *ds_text(const char *s)
{
    return s ? s : "";
}
/* A time text that sorts after (slack > 0) or before every text of `unix_s`, whatever zone it is in. */
void ds_time_bound(int64_t unix_s, int slack, char out[DS_TIME_MAX]);

/* Tables, indexes and the version row, under upstream's rules. */
CS_CHECKED cs_code ds_schema_prepare(struct ds *d, bool disable_migration, struct cs_err *e);

#endif
