/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements: binding, stepping, reading, and what SQLite's errors become.
 */
#include "datastore/db.h"

#include <ctype.h>
#include <stdio.h>

cs_code ds_not_found(struct cs_err *e)
{
    return cs_fail(e, CS_NOT_FOUND, "datastore-sql: record not found");
}

cs_code ds_db_fail(struct ds_conn *c, int rc, struct cs_err *e)
{
    int primary = rc & 0xff;
    const char *msg = sqlite3_errcode(c->db) == SQLITE_OK ? sqlite3_errstr(rc) : sqlite3_errmsg(c->db);
    if (primary == SQLITE_CONSTRAINT)
        return cs_fail(e, CS_EXISTS, "datastore-sql: %s", msg);
    if (primary == SQLITE_TOOBIG)
        return cs_fail(e, CS_INVALID, "datastore-sql: %s (%s)", msg, c->op);
    c->broken = true;
    if (primary == SQLITE_NOMEM)
        return cs_nomem(e);
    int sys = primary == SQLITE_CANTOPEN || primary == SQLITE_IOERR ? sqlite3_system_errno(c->db) : 0;
    if (sys == 0)
        return cs_fail(e, CS_UNKNOWN, "datastore-sql: %s (%s)", msg, c->op);
    char why[128];
    const char *text = strerror_r(sys, why, sizeof why);
    return cs_fail(e, CS_UNKNOWN, "datastore-sql: %s: %c%s (%s)", msg, tolower((unsigned char)text[0]),
                   text + 1, c->op);
}

struct ds_q ds_q(struct ds_conn *c, enum ds_sql id)
{
    struct ds_q q = {.c = c};
    if (!c->stmt[id])
        q.rc = sqlite3_prepare_v3(c->db, ds_sql_text(id), -1, SQLITE_PREPARE_PERSISTENT, &c->stmt[id], NULL);
    q.st = c->stmt[id];
    return q;
}

struct ds_q ds_q_composed(struct ds_conn *c, struct cs_slice sql)
{
    struct ds_q q = {.c = c, .owned = true};
    q.rc = sqlite3_prepare_v3(c->db, (const char *)sql.data, (int)sql.len, 0, &q.st, NULL);
    return q;
}

void ds_put_text(struct ds_q *q, const char *s)
{
    if (q->rc == SQLITE_OK)
        q->rc =
            sqlite3_bind_text64(q->st, ++q->at, ds_text(s), strlen(ds_text(s)), SQLITE_STATIC, SQLITE_UTF8);
}

void ds_put_int(struct ds_q *q, int64_t v)
{
    if (q->rc == SQLITE_OK)
        q->rc = sqlite3_bind_int64(q->st, ++q->at, v);
}

void ds_put_blob(struct ds_q *q, struct cs_slice s)
{
    if (q->rc == SQLITE_OK) /* a NULL pointer would bind NULL */
        q->rc = sqlite3_bind_blob64(q->st, ++q->at, s.len ? (const void *)s.data : "", s.len, SQLITE_STATIC);
}

void ds_put_null(struct ds_q *q)
{
    if (q->rc == SQLITE_OK)
        q->rc = sqlite3_bind_null(q->st, ++q->at);
}

bool ds_next(struct ds_q *q)
{
    if (q->rc != SQLITE_OK)
        return false;
    int rc = sqlite3_step(q->st);
    if (rc == SQLITE_ROW)
        return true;
    if (rc != SQLITE_DONE)
        q->rc = rc;
    return false;
}

cs_code ds_done(struct ds_q *q, struct cs_err *e)
{
    cs_code code = q->rc == SQLITE_OK ? CS_OK : ds_db_fail(q->c, q->rc, e);
    if (q->owned) {
        (void)sqlite3_finalize(q->st);
    } else if (q->st) {
        (void)sqlite3_reset(q->st); /* repeats the error of the step, which is reported already */
        (void)sqlite3_clear_bindings(q->st);
    }
    q->st = NULL;
    return code;
}

cs_code ds_run(struct ds_q *q, struct cs_err *e)
{
    while (ds_next(q))
        ;
    return ds_done(q, e);
}

struct cs_slice ds_view(struct ds_q *q, int col)
{
    const void *p = sqlite3_column_blob(q->st, col); /* text comes as its bytes */
    int n = sqlite3_column_bytes(q->st, col);
    if (!p && n > 0)
        q->rc = SQLITE_NOMEM;
    return cs_slice_of(p ? p : "", p && n > 0 ? (size_t)n : 0);
}

const char *ds_str(struct ds_q *q, struct cs_arena *a, int col)
{
    struct cs_slice s = ds_view(q, col);
    if (s.len == 0)
        return "";
    const char *copy = cs_arena_strndup(a, (const char *)s.data, s.len);
    if (copy)
        return copy;
    q->rc = SQLITE_NOMEM;
    return "";
}

struct cs_slice ds_blob(struct ds_q *q, struct cs_arena *a, int col)
{
    struct cs_slice s = ds_view(q, col);
    void *copy = s.len ? cs_arena_memdup(a, s.data, s.len) : NULL;
    if (s.len > 0 && !copy)
        q->rc = SQLITE_NOMEM;
    return cs_slice_of(copy, copy ? s.len : 0);
}

int64_t ds_int(struct ds_q *q, int col)
{
    return sqlite3_column_int64(q->st, col);
}

int64_t ds_time(struct ds_q *q, int col, int32_t *ns)
{
    if (ns)
        *ns = 0;
    switch (sqlite3_column_type(q->st, col)) {
    case SQLITE_NULL:
        return 0;
    case SQLITE_INTEGER: {
        int64_t v = ds_int(q, col); /* the Go driver takes large numbers for milliseconds */
        return v > INT64_C(1000000000000) || v < INT64_C(-1000000000000) ? v / 1000 : v;
    }
    default:
        return ds_time_parse(ds_view(q, col), ns);
    }
}

int64_t ds_time_rounded(struct ds_q *q, int col)
{
    int32_t ns = 0;
    int64_t s = ds_time(q, col, &ns);
    return ns >= 500000000 ? s + 1 : s;
}

cs_code ds_exec(struct ds_conn *c, enum ds_sql id, struct cs_err *e)
{
    struct ds_q q = ds_q(c, id);
    return ds_run(&q, e);
}

/* --- Rows and pages --- */

void *ds_rows_add(struct ds_rows *r, size_t size)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 16;
        void *at = cap <= SIZE_MAX / size ? cs_realloc(r->at, cap * size) : NULL;
        if (!at)
            return NULL;
        r->at = at;
        r->cap = cap;
    }
    void *row = (char *)r->at + r->n++ * size;
    memset(row, 0, size);
    return row;
}

void *ds_rows_keep(const struct ds_rows *r, struct cs_arena *a, size_t size)
{
    return r->n ? cs_arena_memdup(a, r->at, r->n * size) : cs_arena_alloc(a, 1);
}

cs_code ds_page_start(const struct ds_page *page, int64_t *after, int64_t *limit, struct cs_err *e)
{
    *after = 0;
    *limit = -1;
    if (!page)
        return CS_OK;
    if (page->size == 0)
        return cs_fail(e, CS_INVALID, "cannot paginate with pagesize = 0");
    *limit = page->size;
    const char *p = ds_text(page->token);
    for (; *p; p++) {
        if (*p < '0' || *p > '9' || *after > (INT64_MAX - 9) / 10) {
            *after = 0;
            return cs_fail(e, CS_INVALID, "could not parse token '%s'", page->token);
        }
        *after = *after * 10 + (*p - '0');
    }
    return CS_OK;
}

cs_code ds_page_end(const struct ds_page *page, struct cs_arena *a, int64_t last, const char **next,
                    struct cs_err *e)
{
    if (!next)
        return CS_OK;
    *next = page && last > 0 ? cs_arena_printf(a, "%lld", (long long)last) : "";
    return *next ? CS_OK : cs_nomem(e);
}

void ds_time_bound(int64_t unix_s, int slack, char out[DS_TIME_MAX])
{
    ds_time_text(unix_s + (int64_t)slack * 2 * 86400, 0, out); /* zones differ by 26 h at most */
}
