/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include "base/clock.h"
#include "base/mem.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/cspire-file-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static const char *in_dir(const char *name)
{
    static char path[4][160];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static unsigned files_in_dir(void)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    while (d != NULL && readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

static void writes_and_reads_back(void **state)
{
    (void)state;
    const char *path = in_dir("f");
    struct cs_err e;
    mode_t old = umask(077);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_of("one\0two", 7), 0644, &e), CS_OK);
    umask(old);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
    cs_buf_add_str(&b, "<");
    assert_int_equal(cs_file_read(path, 7, &b, &e), CS_OK);
    assert_true(cs_slice_eq(cs_buf_slice(&b), cs_slice_of("<one\0two", 8)));
    assert_int_equal(cs_file_write_atomic(path, cs_slice_of(NULL, 0), 0600, &e), CS_OK);
    cs_buf_reset(&b);
    assert_int_equal(cs_file_read(path, 7, &b, &e), CS_OK);
    assert_int_equal(b.len, 0);
    assert_int_equal(files_in_dir(), 1);
    unlink(path);
}

static void reads_are_bounded(void **state)
{
    (void)state;
    const char *path = in_dir("f");
    struct cs_err e;
    struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("12345678"), 0600, NULL), CS_OK);
    assert_int_equal(cs_file_read(path, 7, &b, &e), CS_EXHAUSTED);
    assert_int_equal(b.len, 0);
    assert_int_equal(cs_file_read("/dev/zero", 100000, &b, &e), CS_EXHAUSTED);
    assert_int_equal(b.len, 0);
    assert_int_equal(cs_file_read("/proc/self/status", 1 << 20, &b, &e), CS_OK); /* says size 0 */
    assert_true(b.len > 100);
    unlink(path);
}

static void errors_read_as_in_go(void **state)
{
    (void)state;
    struct cs_err e;
    struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
    assert_int_equal(cs_file_read("/nonexistent", 10, &b, &e), CS_NOT_FOUND);
    assert_string_equal(e.text, "open /nonexistent: no such file or directory");
    assert_int_equal(cs_file_read("/tmp", 10, &b, &e), CS_INTERNAL);
    assert_string_equal(e.text, "read /tmp: is a directory");
}

/* A failed write leaves the old file and nothing else, whatever fails. */
static void failed_writes_leave_nothing(void **state)
{
    (void)state;
    const char *path = in_dir("f");
    struct cs_err e;
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("old"), 0600, &e), CS_OK);
    assert_int_equal(cs_file_write_atomic(in_dir("no/such"), cs_slice_str("x"), 0600, &e), CS_NOT_FOUND);
    const char *folder = in_dir("folder");
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(cs_file_write_atomic(folder, cs_slice_str("x"), 0600, &e), CS_INTERNAL);
    assert_int_equal(rmdir(folder), 0);
    (void)cs_mem_fail_at(1, false);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("new"), 0600, &e), CS_INTERNAL);
    (void)cs_mem_fail_at(0, false);
    assert_int_equal(files_in_dir(), 1);
    struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
    assert_int_equal(cs_file_read(path, 10, &b, &e), CS_OK);
    assert_string_equal(cs_buf_cstr(&b), "old");
    (void)cs_mem_fail_at(1, true);
    struct cs_buf full = {0};
    assert_int_equal(cs_file_read(path, 10, &full, &e), CS_INTERNAL);
    (void)cs_mem_fail_at(0, false);
    unlink(path);
}

static void folders(void **state)
{
    (void)state;
    struct cs_err e;
    assert_int_equal(cs_mkdir_all(in_dir("a//b/c/"), 0700, &e), CS_OK);
    assert_int_equal(cs_mkdir_all(in_dir("a/b/c"), 0700, &e), CS_OK);
    assert_int_equal(cs_mkdir_all("/", 0700, &e), CS_OK);
    assert_int_equal(cs_file_write_atomic(in_dir("a/f"), cs_slice_str(""), 0600, &e), CS_OK);
    assert_int_equal(cs_mkdir_all(in_dir("a/f/x"), 0700, &e), CS_INTERNAL);
    char want[160];
    snprintf(want, sizeof want, "mkdir %s/a/f: not a directory", dir);
    assert_string_equal(e.text, want);
    unlink(in_dir("a/f"));
    rmdir(in_dir("a/b/c"));
    rmdir(in_dir("a/b"));
    rmdir(in_dir("a"));
}

static void clocks(void **state)
{
    (void)state;
    int64_t a = cs_mono_ns(&cs_clock_system), b = cs_mono_ns(&cs_clock_system);
    assert_true(b >= a && a > 0);
    assert_true(cs_now_s(&cs_clock_system) > INT64_C(1700000000));
    struct cs_fake_clock f;
    cs_fake_clock_init(&f, 1000);
    assert_int_equal(cs_now_s(&f.clock), 1000);
    int64_t m = cs_mono_ns(&f.clock);
    cs_fake_clock_advance(&f, 5 * CS_NS_PER_S);
    assert_int_equal(cs_now_s(&f.clock), 1005);
    assert_true(cs_mono_ns(&f.clock) - m == 5 * CS_NS_PER_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reads_back),
        cmocka_unit_test(reads_are_bounded),
        cmocka_unit_test(errors_read_as_in_go),
        cmocka_unit_test(failed_writes_leave_nothing),
        cmocka_unit_test(folders),
        cmocka_unit_test(clocks),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
