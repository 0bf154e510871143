/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening: schema and version rules, connection strings, durability, other processes, a full disk.
 */
#include "util.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const struct ds_selector uid = {"unix", "uid:1"};

static cs_code try_open(struct fix *f, bool disable_migration)
{
    struct ds *d = NULL;
    ds_close(f->d);
    f->d = NULL;
    cs_code code = open_db(f, f->path, disable_migration, &d);
    ds_close(d);
    return code;
}

static void a_new_database_is_upstreams(void **state)
{
    struct fix *f = *state;
    assert_string_equal(raw_get(f, "SELECT version || ' ' || code_version FROM migrations"), "25 1.15.3");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM sqlite_master WHERE type = 'table'"), "14");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM sqlite_master WHERE sql LIKE 'CREATE%INDEX%'"),
                        "17");
    assert_string_equal(
        raw_get(f, "SELECT sql FROM sqlite_master WHERE name = 'idx_selector_entry'"),
        "CREATE UNIQUE INDEX idx_selector_entry ON \"selectors\"(registered_entry_id, \"type\", \"value\") ");
    assert_string_equal(raw_get(f, "PRAGMA journal_mode"), "wal");
    OK(ds_ping(f->d, &f->e));
}

/* Make the file look like one of the schema version before. */
static void age(struct fix *f, int version, const char *code_version)
{
    if (version < 25)
        raw(f, "ALTER TABLE registered_entries DROP COLUMN additional_attributes");
    if (version < 24)
        raw(f, "ALTER TABLE attested_node_entries DROP COLUMN agent_version");
    raw(f, cs_arena_printf(f->a, "UPDATE migrations SET version = %d, code_version = '%s'", version,
                           code_version));
}

static void older_schemas_are_brought_forward(void **state)
{
    struct fix *f = *state;
    for (int v = 23; v <= 24; v++) {
        age(f, v, "1.14.7");
        OK(try_open(f, false));
        assert_string_equal(raw_get(f, "SELECT version || ' ' || code_version FROM migrations"), "25 1.15.3");
        assert_string_equal(raw_get(f,
                                    "SELECT type FROM pragma_table_info('registered_entries') WHERE name = "
                                    "'additional_attributes'"),
                            "BLOB");
        assert_string_equal(
            raw_get(
                f,
                "SELECT type FROM pragma_table_info('attested_node_entries') WHERE name = 'agent_version'"),
            "varchar(255)");
    }
    age(f, 22, "1.13.0");
    FAILS(try_open(f, false), CS_PRECONDITION,
          "datastore-sql: migrating from schema version 22 requires a previous SPIRE release; please follow "
          "the upgrade "
          "strategy at doc/upgrading.md");
    assert_string_equal(raw_get(f, "SELECT version FROM migrations"), "22");
}

static void migration_can_be_disabled(void **state)
{
    struct fix *f = *state;
    raw(f, "UPDATE migrations SET version = 24, code_version = '1.14.0'");
    OK(try_open(f, true));
    assert_string_equal(raw_get(f, "SELECT version FROM migrations"), "24");
    raw(f, "UPDATE migrations SET code_version = '1.13.9'");
    FAILS(try_open(f, true), CS_PRECONDITION, "datastore-sql: auto-migration must be enabled for current DB");
    raw(f, "UPDATE migrations SET code_version = ''");
    FAILS(try_open(f, true), CS_PRECONDITION, "datastore-sql: auto-migration must be enabled for current DB");
}

static void newer_schemas(void **state)
{
    struct fix *f = *state;
    raw(f, "UPDATE migrations SET version = 26, code_version = '1.16.2'");
    OK(try_open(f, false)); /* a neighbour in the middle of an upgrade */
    assert_string_equal(raw_get(f, "SELECT version || ' ' || code_version FROM migrations"), "26 1.16.2");
    raw(f, "UPDATE migrations SET code_version = '1.17.0'");
    FAILS(try_open(f, false), CS_PRECONDITION, "datastore-sql: incompatible DB schema and code version");
    raw(f, "UPDATE migrations SET code_version = '2.15.0'");
    FAILS(try_open(f, false), CS_PRECONDITION, "datastore-sql: incompatible DB schema and code version");
    raw(f, "UPDATE migrations SET code_version = 'one'");
    FAILS(try_open(f, false), CS_PRECONDITION,
          "datastore-sql: error getting DB code version: unable to parse code version from DB: \"one\"");
}

static void the_code_version_only_grows(void **state)
{
    struct fix *f = *state;
    static const struct {
        const char *before, *after;
    } cases[] = {{"1.15.2", "1.15.3"},           {"1.15.3-dev-unk", "1.15.3"},
                 {"1.15.3", "1.15.3"},           {"1.15.3+build", "1.15.3+build"},
                 {"1.15.4-rc.1", "1.15.4-rc.1"}, {"1.16.0", "1.16.0"},
                 {"1.9.12", "1.15.3"},           {"", "1.15.3"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        raw(f, cs_arena_printf(f->a, "UPDATE migrations SET code_version = '%s'", cases[i].before));
        OK(try_open(f, false));
        assert_string_equal(raw_get(f, "SELECT code_version FROM migrations"), cases[i].after);
    }
}

static void connection_strings(void **state)
{
    struct fix *f = *state;
    ds_close(f->d);
    f->d = NULL;
    static const char *const good[] = {"file:%s",
                                       "file://%s",
                                       "file://localhost%s",
                                       "%s?_busy_timeout=100&_sync=FULL",
                                       "file:%s?cache=private&_cache_size=-100",
                                       "%s?_secure_delete=fast&_loc=auto"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char conn[256];
        const char *at = strstr(good[i], "%s");
        (void)snprintf(conn, sizeof conn, "%.*s%s%s", (int)(at - good[i]), good[i], f->path, at + 2);
        OK(open_db(f, conn, false, &f->d));
        OK(ds_ping(f->d, &f->e));
        ds_close(f->d);
        f->d = NULL;
    }
    assert_int_equal(access(f->path, F_OK), 0); /* all were this file */
#define REFUSED(conn, text) FAILS(open_db(f, conn, false, &f->d), CS_INVALID, text)
    REFUSED("mysql://x", "datastore-sql: unsupported scheme \"mysql\"");
    REFUSED("", "datastore-sql: connection_string must be set");
    REFUSED("a.db?_busy_timeout=soon", "datastore-sql: Invalid _busy_timeout: soon");
    REFUSED("a.db?_sync=sometimes", "datastore-sql: Invalid _synchronous: sometimes");
    REFUSED("a.db?x=%zz", "datastore-sql: connection string: invalid URL escape");
    REFUSED("a.db?x=%4", "datastore-sql: connection string: invalid URL escape");
    struct ds_options o = {.database_type = "postgres", .connection_string = "x"};
    FAILS(ds_open(&o, &f->d, &f->e), CS_INVALID, "datastore-sql: unsupported database_type: postgres");
    FAILS(open_db(f, "/nowhere/at/all.db", false, &f->d), CS_UNKNOWN,
          "datastore-sql: unable to open database file: no such file or directory (open)");
    OK(open_db(f, "file::memory:", false, &f->d)); /* reads see what was written */
    OK(ds_token_create(f->d, "t", T0, &f->e));
    bool found = false;
    OK(ds_token_fetch(f->d, "t", &found, NULL, &f->e));
    assert_true(found);
}

static cs_code put(struct fix *f, const char *name, struct ds_entry_result *r)
{
    struct ds_entry in = {.spiffe_id = name, .parent_id = TD "/p", .selectors = &uid, .n_selectors = 1};
    return ds_entries_create_batch(f->d, f->a, &in, 1, r, &f->e);
}

/* What was acknowledged is there after the process was killed. */
static void killed_without_closing(void **state)
{
    struct fix *f = *state;
    int pipe_of[2];
    ds_close(f->d);
    f->d = NULL;
    assert_int_equal(pipe(pipe_of), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct ds_entry_result r;
        char ok = open_db(f, f->path, false, &f->d) == CS_OK && put(f, TD "/acked", &r) == CS_OK ? 'y' : 'n';
        (void)!write(pipe_of[1], &ok, 1);
        for (;;)
            pause();
    }
    char ok = 0;
    assert_int_equal(read(pipe_of[0], &ok, 1), 1);
    assert_int_equal(ok, 'y');
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)close(pipe_of[0]);
    (void)close(pipe_of[1]);
    int32_t n = 0;
    OK(open_db(f, f->path, false, &f->d));
    OK(ds_entry_count(f->d, NULL, &n, &f->e));
    assert_int_equal(n, 1);
}

static void locked_by_another(void **state)
{
    struct fix *f = *state;
    struct ds_entry_result r;
    struct ds_entry in = {.spiffe_id = TD "/w", .parent_id = TD "/p", .selectors = &uid, .n_selectors = 1};
    sqlite3 *other = NULL;
    int32_t n = -1;
    ds_close(f->d);
    OK(open_db(f, cs_arena_printf(f->a, "%s?_busy_timeout=20", f->path), false, &f->d));
    assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    FAILS(ds_entries_create_batch(f->d, f->a, &in, 1, &r, &f->e), CS_UNKNOWN,
          "datastore-sql: database is locked (create registration entry)");
    assert_int_equal(r.err.code, CS_UNKNOWN);  /* each item says so */
    OK(ds_entry_count(f->d, NULL, &n, &f->e)); /* reads go on */
    assert_int_equal(n, 0);
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    OK(ds_entries_create_batch(f->d, f->a, &in, 1, &r, &f->e));
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
}

static void disk_full(void **state)
{
    struct fix *f = *state;
    struct ds_entry in[200];
    struct ds_entry_result r[200];
    int32_t n = -1;
    char *value = cs_arena_alloc(f->a, 4001);
    memset(value, 'v', 4000);
    value[4000] = '\0';
    struct ds_selector big = {"t", value};
    for (int i = 0; i < 200; i++)
        in[i] = (struct ds_entry){
            .spiffe_id = cs_arena_printf(f->a, TD "/%d", i), .selectors = &big, .n_selectors = 1};
    ds_close(f->d);
    OK(open_db(f, f->path, false, &f->d));
    raw(f, "PRAGMA wal_checkpoint(TRUNCATE)");
    /* A limit on file size is what a full disk looks like to the write-ahead log. */
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit lim = {400 * 1024, 400 * 1024};
        (void)signal(SIGXFSZ, SIG_IGN);
        (void)setrlimit(RLIMIT_FSIZE, &lim);
        cs_code code = ds_entries_create_batch(f->d, f->a, in, 200, r, &f->e);
        bool said =
            strcmp(f->e.text, "datastore-sql: database or disk is full (create registration entry)") == 0 ||
            strncmp(f->e.text, "datastore-sql: disk I/O error", 29) == 0;
        cs_code small = ds_entries_create_batch(f->d, f->a, in, 0, r, &f->e); /* not stuck in a transaction */
        int32_t left = -1;
        cs_code counted = ds_entry_count(f->d, NULL, &left, &f->e);
        _exit(code == CS_UNKNOWN && said && small == CS_OK && counted == CS_OK && left == 0 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    reopen(f);
    OK(ds_entry_count(f->d, NULL, &n, &f->e));
    assert_int_equal(n, 0);
    assert_string_equal(raw_get(f, "PRAGMA integrity_check"), "ok");
}

struct worker {
    struct fix *f;
    int id;
    int failed;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct cs_arena *a = cs_arena_new(0, 0);
    for (int i = 0; i < 50; i++) {
        char id[64];
        int32_t n = 0;
        struct ds_entry_result r;
        (void)snprintf(id, sizeof id, TD "/%d/%d", w->id, i);
        struct ds_entry in = {.spiffe_id = id, .parent_id = TD "/p", .selectors = &uid, .n_selectors = 1},
                        *got = NULL;
        if (ds_entries_create_batch(w->f->d, a, &in, 1, &r, NULL) != CS_OK || r.err.code != CS_OK ||
            ds_entry_fetch(w->f->d, a, r.entry->entry_id, &got, NULL) != CS_OK || !got ||
            ds_entry_count(w->f->d, NULL, &n, NULL) != CS_OK || n < i + 1)
            w->failed++;
        cs_arena_reset(a);
    }
    cs_arena_free(a);
    return NULL;
}

static void many_threads(void **state)
{
    struct fix *f = *state;
    struct worker w[8];
    pthread_t t[8];
    int32_t n = 0;
    for (int i = 0; i < 8; i++) {
        w[i] = (struct worker){.f = f, .id = i};
        assert_int_equal(pthread_create(&t[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(t[i], NULL), 0);
        assert_int_equal(w[i].failed, 0);
    }
    OK(ds_entry_count(f->d, NULL, &n, &f->e));
    assert_int_equal(n, 400);
}

/* Whichever allocation fails, opening says so and leaks nothing (the sanitizers watch). */
static void opening_without_memory(void **state)
{
    struct fix *f = *state;
    ds_close(f->d);
    f->d = NULL;
    cs_code code = CS_INTERNAL;
    for (size_t n = 1; code != CS_OK; n++) {
        (void)unlink(f->path); /* made anew each time: the longest way */
        (void)cs_mem_fail_at(n, false);
        code = open_db(f, f->path, false, &f->d);
        (void)cs_mem_fail_at(0, false);
        assert_true(code == CS_OK || code == CS_INTERNAL);
        assert_int_equal(code == CS_OK, f->d != NULL);
    }
    assert_string_equal(raw_get(f, "SELECT version FROM migrations"), "25");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_database_is_upstreams),
        TEST(older_schemas_are_brought_forward),
        TEST(migration_can_be_disabled),
        TEST(newer_schemas),
        TEST(the_code_version_only_grows),
        TEST(connection_strings),
        TEST(killed_without_closing),
        TEST(locked_by_another),
        TEST(disk_full),
        TEST(many_threads),
        TEST(opening_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
