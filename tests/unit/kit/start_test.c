/* SPDX-License-Identifier: Apache-2.0
 *
 * The environment go-plugin's hosts give, and the socket made of it.
 */
#include "kit/start.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_versions(void **state)
{
    (void)state;
    assert_true(kit_versions_have(NULL, 1));
    assert_true(kit_versions_have("", 1));
    assert_true(kit_versions_have("1", 1));
    assert_true(kit_versions_have("3,2,1", 1));
    assert_true(kit_versions_have("x,,1", 1));
    assert_false(kit_versions_have("2", 1));
    assert_false(kit_versions_have("11,-1,1x", 1));
    assert_false(kit_versions_have("99999999999999999999", 1));
    assert_false(kit_versions_have(",", 1));
}

static void test_socket(void **state)
{
    (void)state;
    struct kit_socket s, other;
    struct cs_err e = {0};
    struct stat st;
    assert_int_equal(setenv("TMPDIR", "/tmp", 1), 0);
    assert_int_equal(kit_socket_new(NULL, NULL, &s, &e), CS_OK);
    assert_int_equal(kit_socket_new("", "", &other, &e), CS_OK);
    assert_string_not_equal(s.path, other.path);
    assert_memory_equal(s.path, "/tmp/cspire-plugin-", 19);
    assert_int_equal(stat(s.folder, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    kit_socket_remove(&s);
    kit_socket_remove(&other);
    assert_int_equal(stat(s.folder, &st), -1);
}

static void test_socket_for_a_group(void **state)
{
    (void)state;
    struct kit_socket s;
    struct cs_err e = {0};
    struct stat st;
    char gid[16];
    snprintf(gid, sizeof gid, "%u", (unsigned)getgid());
    assert_int_equal(kit_socket_new("/tmp", gid, &s, &e), CS_OK);
    assert_int_equal(stat(s.folder, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(st.st_gid, getgid());
    FILE *f = fopen(s.path, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(kit_socket_share(&s, gid, &e), CS_OK);
    assert_int_equal(stat(s.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    kit_socket_remove(&s);
    assert_int_equal(kit_socket_new("/tmp", "no such group", &s, &e), CS_INVALID);
    assert_string_equal(e.text, "group no such group does not exist");
}

static void test_socket_that_cannot_be(void **state)
{
    (void)state;
    struct kit_socket s;
    struct cs_err e = {0};
    char dir[120];
    memset(dir, 'x', sizeof dir - 1);
    dir[0] = '/';
    dir[sizeof dir - 1] = '\0';
    assert_int_equal(kit_socket_new(dir, NULL, &s, &e), CS_INVALID);
    assert_non_null(strstr(e.text, "would be too long"));
    kit_socket_remove(&s); /* nothing was made */
    assert_int_equal(kit_socket_new("/nowhere/at all", NULL, &s, &e), CS_INTERNAL);
    assert_string_equal(e.text, "make a folder for the socket in /nowhere/at all: no such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_socket),
        cmocka_unit_test(test_socket_for_a_group),
        cmocka_unit_test(test_socket_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
