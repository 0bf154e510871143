/* SPDX-License-Identifier: Apache-2.0
 *
 * Files that belong together: complete, private, replaced together under readers, gone when they are to go.
 */
#include "base/fileset.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ROUNDS 300
#define FILES 3

struct place {
    char top[32], dir[64];
};

static int place_up(void **state)
{
    struct place *p = cs_calloc(1, sizeof *p);
    strcpy(p->top, "/tmp/cs-svid-XXXXXX");
    assert_non_null(mkdtemp(p->top));
    (void)snprintf(p->dir, sizeof p->dir, "%s/run/spiffe", p->top);
    *state = p;
    return 0;
}

static int place_down(void **state)
{
    struct place *p = *state;
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf %s", p->top);
    assert_int_equal(system(command), 0);
    cs_free(p);
    return 0;
}

/* The same text in all three, so that a pair that does not fit shows. */
static struct cs_fileset files(const struct place *p, const char *text)
{
    static struct cs_fileset_file at[FILES];
    static const char *const names[] = {"svid.pem", "svid_key.pem", "svid_bundle.pem"};
    for (size_t i = 0; i < FILES; i++)
        at[i] = (struct cs_fileset_file){.name = names[i], .data = cs_slice_str(text), .mode = 0600};
    return (struct cs_fileset){.dir = p->dir, .files = at, .count = FILES, .uid = -1, .gid = -1};
}

static void write_text(const struct place *p, const char *text)
{
    const struct cs_fileset f = files(p, text);
    struct cs_err e;
    if (cs_fileset_write(&f, &e) != CS_OK)
        fail_msg("%s", e.text);
}

static void assert_content(const struct place *p, const char *name, const char *text)
{
    char path[160];
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    struct cs_err e;
    (void)snprintf(path, sizeof path, "%s/%s", p->dir, name);
    if (cs_file_read(path, 1024, &b, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(cs_buf_cstr(&b), text);
}

static mode_t mode_of(const struct place *p, const char *name)
{
    char path[160];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/%s", p->dir, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static size_t count_files(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    if (d == NULL)
        return 0;
    for (const struct dirent *en; (en = readdir(d)) != NULL;)
        n += strcmp(en->d_name, ".") != 0 && strcmp(en->d_name, "..") != 0;
    closedir(d);
    return n;
}

static void writes_three_private_files(void **state)
{
    const struct place *p = *state;
    mode_t old = umask(0077);
    write_text(p, "one");
    (void)umask(old);
    assert_content(p, "svid.pem", "one");
    assert_content(p, "svid_key.pem", "one");
    assert_content(p, "svid_bundle.pem", "one");
    assert_int_equal(mode_of(p, "svid.pem"), 0600);
    assert_int_equal(mode_of(p, "svid_key.pem"), 0600);
    assert_int_equal(mode_of(p, "..data/svid_bundle.pem"), 0600);
    assert_int_equal(mode_of(p, "."), 0755);
    assert_int_equal(mode_of(p, ".."), 0755); /* made too */
    assert_int_equal(mode_of(p, "..data"), 0755);
    assert_int_equal(count_files(p->dir), 5); /* three names, ..data, a generation */
}

static void keeps_the_generation_before_and_no_other(void **state)
{
    const struct place *p = *state;
    char was[160], target[64];
    write_text(p, "one");
    (void)snprintf(was, sizeof was, "%s/..data", p->dir);
    ssize_t n = readlink(was, target, sizeof target - 1);
    assert_true(n > 0);
    target[n] = '\0';
    write_text(p, "two");
    assert_content(p, "svid.pem", "two");
    (void)snprintf(was, sizeof was, "%s/svid_key.pem", target);
    assert_content(p, was, "one");
    for (int i = 0; i < 5; i++)
        write_text(p, "more");
    assert_int_equal(count_files(p->dir), 6);
}

static void takes_over_what_is_there(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    char path[160];
    /* a plain svid.pem of another program, a link into nowhere, and what a writer that died left */
    assert_int_equal(cs_mkdir_all(p->dir, 0755, &e), CS_OK);
    (void)snprintf(path, sizeof path, "%s/svid.pem", p->dir);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("old"), 0644, &e), CS_OK);
    (void)snprintf(path, sizeof path, "%s/..data", p->dir);
    assert_int_equal(symlink("../../etc", path), 0);
    (void)snprintf(path, sizeof path, "%s/..data_new", p->dir);
    assert_int_equal(symlink("nowhere", path), 0);
    (void)snprintf(path, sizeof path, "%s/..gen_0123456789abcdef", p->dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/..gen_0123456789abcdef/svid.pem", p->dir);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("half"), 0600, &e), CS_OK);
    write_text(p, "new");
    assert_content(p, "svid.pem", "new");
    assert_int_equal(mode_of(p, "svid.pem"), 0600);
    assert_int_equal(count_files(p->dir), 5);
}

static void removes_all(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    const struct cs_fileset f = files(p, "");
    assert_int_equal(cs_fileset_remove(&f, &e), CS_OK); /* not even a folder */
    write_text(p, "one");
    write_text(p, "two");
    assert_int_equal(cs_fileset_remove(&f, &e), CS_OK);
    assert_int_equal(count_files(p->dir), 0);
    assert_int_equal(cs_fileset_remove(&f, &e), CS_OK);
    write_text(p, "three");
    assert_content(p, "svid.pem", "three");
}

/* A writer may be killed between making a link and giving it its name. */
static void sweeps_up_after_one_that_was_killed(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    char data[160], link[160];
    const struct cs_fileset f = files(p, "");
    (void)snprintf(data, sizeof data, "%s/..data_new", p->dir);
    (void)snprintf(link, sizeof link, "%s/..link_new", p->dir);
    for (int removed = 0; removed < 2; removed++) {
        write_text(p, "one");
        assert_int_equal(symlink("..gen_0123456789abcdef", data), 0);
        assert_int_equal(symlink("..data/svid.pem", link), 0);
        if (removed == 1)
            assert_int_equal(cs_fileset_remove(&f, &e), CS_OK);
        else
            write_text(p, "two");
        assert_int_equal(unlink(data), -1);
        assert_int_equal(unlink(link), -1);
    }
    assert_int_equal(count_files(p->dir), 0);
    /* what is not ours may have these names */
    assert_int_equal(symlink("elsewhere", data), 0);
    assert_int_equal(symlink("elsewhere", link), 0);
    assert_int_equal(cs_fileset_remove(&f, &e), CS_OK);
    assert_int_equal(unlink(data), 0);
    assert_int_equal(unlink(link), 0);
}

static void failure_leaves_what_was(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    write_text(p, "good");
    struct cs_fileset f = files(p, "bad");
    struct cs_fileset_file bad[FILES];
    memcpy(bad, f.files, sizeof bad);
    bad[2].name = "no/such"; /* cannot be made */
    f.files = bad;
    assert_int_equal(cs_fileset_write(&f, &e), CS_INTERNAL);
    assert_non_null(strstr(e.text, "no/such"));
    assert_content(p, "svid.pem", "good");
    assert_int_equal(count_files(p->dir), 5);
    f = files(p, "bad");
    f.dir = "/proc/self/nowhere";
    assert_int_not_equal(cs_fileset_write(&f, &e), CS_OK);
}

static void gives_them_to_the_workload(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    struct stat st;
    char path[160];
    struct cs_fileset f = files(p, "one");
    /* who may not give files away keeps its own group, which anybody may choose */
    f.uid = geteuid() == 0 ? 1000 : -1;
    f.gid = geteuid() == 0 ? 1001 : (int64_t)getegid();
    assert_int_equal(cs_fileset_write(&f, &e), CS_OK);
    (void)snprintf(path, sizeof path, "%s/svid_key.pem", p->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, geteuid() == 0 ? 1000 : geteuid());
    assert_int_equal(st.st_gid, f.gid);
}

static void survives_without_memory(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    write_text(p, "before");
    for (size_t i = 1;; i++) {
        const struct cs_fileset f = files(p, "after");
        (void)cs_mem_fail_at(i, true);
        cs_code rc = cs_fileset_write(&f, &e);
        (void)cs_mem_fail_at(0, false);
        if (rc == CS_OK)
            break;
        assert_true(i < 50);
    }
    assert_content(p, "svid.pem", "after");
}

/* --- Inside of a base --- */

static struct cs_fileset inside(const struct place *p, const char *dir, const char *text)
{
    struct cs_fileset f = files(p, text);
    f.base = p->top;
    f.dir = dir;
    return f;
}

static void stays_inside_of_its_base(void **state)
{
    static const char *const bad[] = {"..", "a/../..", "./a", "a//b", "/a", "a/", "."};
    const struct place *p = *state;
    struct cs_err e;
    char path[160];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct cs_fileset f = inside(p, bad[i], "x");
        assert_int_equal(cs_fileset_write(&f, &e), CS_INVALID);
        assert_false(cs_fileset_present(&f));
    }
    (void)snprintf(path, sizeof path, "%s/out", p->top);
    assert_int_equal(symlink("/tmp", path), 0);
    struct cs_fileset f = inside(p, "out/run", "x");
    assert_int_equal(cs_fileset_write(&f, &e), CS_PRECONDITION);
    assert_non_null(strstr(e.text, "is a link or no folder"));
    assert_int_equal(cs_fileset_remove(&f, &e), CS_PRECONDITION);
    f = inside(p, "run/spiffe", "one");
    assert_false(cs_fileset_present(&f));
    assert_int_equal(cs_fileset_write(&f, &e), CS_OK);
    assert_true(cs_fileset_present(&f));
    assert_content(p, "svid_key.pem", "one");
    assert_int_equal(cs_fileset_remove(&f, &e), CS_OK);
    assert_int_equal(count_files(p->dir), 0);
    assert_false(cs_fileset_present(&f));
    f = inside(p, "", "base itself");
    assert_int_equal(cs_fileset_write(&f, &e), CS_OK);
    assert_content(p, "../../svid.pem", "base itself");
    f.base = "/nonexistent";
    assert_int_equal(cs_fileset_write(&f, &e), CS_PRECONDITION);
}

static void leaves_files_of_others_alone(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    char path[160];
    const struct cs_fileset f = inside(p, "run/spiffe", "mine");
    assert_int_equal(cs_mkdir_all(p->dir, 0755, &e), CS_OK);
    (void)snprintf(path, sizeof path, "%s/svid_key.pem", p->dir);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("theirs"), 0644, &e), CS_OK);
    assert_int_equal(cs_fileset_write(&f, &e), CS_PRECONDITION);
    assert_non_null(strstr(e.text, "run/spiffe/svid_key.pem is there and of somebody else"));
    assert_int_equal(cs_fileset_remove(&f, &e), CS_OK);
    assert_content(p, "svid_key.pem", "theirs");
    assert_int_equal(count_files(p->dir), 1);
    /* the volumes of Kubernetes have such a link, too */
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof path, "%s/..data", p->dir);
    assert_int_equal(symlink("..2026_11_22", path), 0);
    assert_int_equal(cs_fileset_write(&f, &e), CS_PRECONDITION);
    assert_int_equal(cs_fileset_remove(&f, &e), CS_OK);
    assert_int_equal(count_files(p->dir), 1);
}

static void drops_names_of_before(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    struct cs_fileset f = inside(p, "run/spiffe", "one");
    struct cs_fileset_file one = {.name = "all.pem", .data = cs_slice_str("two"), .mode = 0640};
    char path[160];
    assert_int_equal(cs_fileset_write(&f, &e), CS_OK);
    (void)snprintf(path, sizeof path, "%s/mine", p->dir);
    assert_int_equal(symlink("..data/svid.pem", path), 0); /* a link of the user's own */
    f.files = &one;
    f.count = 1;
    assert_int_equal(cs_fileset_write(&f, &e), CS_OK);
    assert_content(p, "all.pem", "two");
    assert_int_equal(count_files(p->dir), 5); /* all.pem, mine, ..data, two generations */
}

static void has_the_modes_asked_for(void **state)
{
    const struct place *p = *state;
    struct cs_err e;
    const struct cs_fileset_file two[] = {{"cert", cs_slice_str("c"), 0644},
                                          {"key", cs_slice_str("k"), 0440}};
    const struct cs_fileset f = {.dir = p->dir, .files = two, .count = 2, .uid = -1, .gid = -1};
    mode_t old = umask(0077);
    assert_int_equal(cs_fileset_write(&f, &e), CS_OK);
    (void)umask(old);
    assert_int_equal(mode_of(p, "cert"), 0644);
    assert_int_equal(mode_of(p, "key"), 0440);
}

/* --- Under readers --- */

struct readers {
    const struct place *place;
    _Atomic bool stop;
    _Atomic long pairs, again, wrong; /* cmocka's assertions are for its own thread */
};

/* false: two generations went by while we stood still. */
static bool read_at(int dir, const char *name, char out[32])
{
    int fd = openat(dir, name, O_RDONLY);
    if (fd < 0 && errno == ENOENT)
        return false;
    ssize_t n = fd >= 0 ? read(fd, out, 31) : -1;
    out[n > 0 ? n : 0] = '\0'; /* which fits nothing */
    if (fd >= 0)
        close(fd);
    return true;
}

/* Opens the folder once. */
static void *read_folder(void *arg)
{
    struct readers *r = arg;
    char path[96], svid[32], key[32], bundle[32];
    (void)snprintf(path, sizeof path, "%s/..data", r->place->dir);
    while (!atomic_load(&r->stop)) {
        int dir = open(path, O_RDONLY | O_DIRECTORY);
        if (dir < 0 && errno == ENOENT) { /* gone between the link and what it named */
            atomic_fetch_add(&r->again, 1);
            continue;
        }
        bool all = read_at(dir, "svid.pem", svid) && read_at(dir, "svid_key.pem", key) &&
                   read_at(dir, "svid_bundle.pem", bundle);
        close(dir);
        if (!all) {
            atomic_fetch_add(&r->again, 1);
            continue;
        }
        bool good = svid[0] != '\0' && strcmp(svid, key) == 0 && strcmp(svid, bundle) == 0;
        atomic_fetch_add(good ? &r->pairs : &r->wrong, 1);
    }
    return NULL;
}

/* Reads by name, and the certificate again: the same on both sides of the key, and the pair fits. */
static void *read_names(void *arg)
{
    struct readers *r = arg;
    char svid[32], key[32], check[32];
    int dir = open(r->place->dir, O_RDONLY | O_DIRECTORY);
    while (!atomic_load(&r->stop)) {
        bool all = read_at(dir, "svid.pem", svid) && read_at(dir, "svid_key.pem", key) &&
                   read_at(dir, "svid.pem", check);
        if (!all || strcmp(svid, check) != 0) {
            atomic_fetch_add(&r->again, 1);
            continue;
        }
        bool good = svid[0] != '\0' && strcmp(svid, key) == 0;
        atomic_fetch_add(good ? &r->pairs : &r->wrong, 1);
    }
    close(dir);
    return NULL;
}

static void readers_see_pairs(void **state)
{
    struct readers r = {.place = *state};
    pthread_t threads[2];
    char text[32];
    write_text(r.place, "0");
    assert_int_equal(pthread_create(&threads[0], NULL, read_folder, &r), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, read_names, &r), 0);
    for (int i = 1; (i <= ROUNDS || atomic_load(&r.pairs) < ROUNDS) && atomic_load(&r.wrong) == 0; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        write_text(r.place, text);
    }
    atomic_store(&r.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&r.wrong), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, place_up, place_down)
    const struct CMUnitTest tests[] = {
        TEST(stays_inside_of_its_base),
        TEST(leaves_files_of_others_alone),
        TEST(drops_names_of_before),
        TEST(has_the_modes_asked_for),
        TEST(writes_three_private_files),
        TEST(keeps_the_generation_before_and_no_other),
        TEST(takes_over_what_is_there),
        TEST(removes_all),
        TEST(sweeps_up_after_one_that_was_killed),
        TEST(failure_leaves_what_was),
        TEST(gives_them_to_the_workload),
        TEST(survives_without_memory),
        TEST(readers_see_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
