/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by the tests of this folder: a fresh database in a temporary folder, and a clock to turn.
 */
#ifndef DATASTORE_TEST_UTIL_H
#define DATASTORE_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "datastore/datastore.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TD "spiffe://example.org"
#define T0 INT64_C(1800000000) /* 2027-01-15 */

struct fix {
    char dir[64], path[96];
    struct cs_fake_clock clock;
    struct ds *d;
    struct cs_arena *a;
    struct cs_err e;
};

#define OK(call) assert_ok(f, (call), #call, __LINE__)
static inline void assert_ok(struct fix *f, cs_code code, const char *what, int line)
{
    if (code != CS_OK)
        fail_msg("line %d: %s: %d %s", line, what, code, f->e.text);
}
#define FAILS(call, want, text) assert_fails(f, (call), (want), (text), #call, __LINE__)
static inline void assert_fails(struct fix *f, cs_code code, cs_code want, const char *text, const char *what,
                                int line)
{
    if (code != want || f->e.code != want || strcmp(f->e.text, text) != 0)
        fail_msg("line %d: %s: got %d (%s), want %d (%s)", line, what, code, f->e.text, want, text);
}

static inline cs_code open_db(struct fix *f, const char *conn, bool disable_migration, struct ds **out)
{
    struct ds_options o = {.database_type = "sqlite3",
                           .connection_string = conn,
                           .disable_migration = disable_migration,
                           .clock = &f->clock.clock};
    return ds_open(&o, out, &f->e);
}

static inline void reopen(struct fix *f)
{
    ds_close(f->d);
    f->d = NULL;
    OK(open_db(f, f->path, false, &f->d));
}

static inline int setup(void **state)
{
    struct fix *f = calloc(1, sizeof *f);
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/cspire-ds-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/db.sqlite3", f->dir);
    cs_fake_clock_init(&f->clock, T0);
    f->a = cs_arena_new(0, 0);
    OK(open_db(f, f->path, false, &f->d));
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fix *f = *state;
    static const char *const suffix[] = {"", "-wal", "-shm"};
    ds_close(f->d);
    cs_arena_free(f->a);
    for (int i = 0; i < 3; i++) {
        char file[128];
        (void)snprintf(file, sizeof file, "%s%s", f->path, suffix[i]);
        (void)unlink(file);
    }
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

/* Run SQL on a connection of its own, as another process would. */
static inline void raw(struct fix *f, const char *sql)
{
    sqlite3 *db = NULL;
    char *msg = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    (void)sqlite3_busy_timeout(db, 5000);
    if (sqlite3_exec(db, sql, NULL, NULL, &msg) != SQLITE_OK)
        fail_msg("%s: %s", sql, msg);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* First column of the first row, in a static buffer; "" when there is none. */
static inline const char *raw_get(struct fix *f, const char *sql)
{
    static char out[4096];
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    out[0] = '\0';
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_text(st, 0))
        (void)snprintf(out, sizeof out, "%s", (const char *)sqlite3_column_text(st, 0));
    (void)sqlite3_finalize(st);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return out;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
