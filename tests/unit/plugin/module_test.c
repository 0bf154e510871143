/* SPDX-License-Identifier: Apache-2.0
 *
 * Which modules are opened, and which are not.
 */
#include "plugin/module.h"

#include "base/file.h"
#include "base/mem.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* build/tests/modules, beside this program. */
static char built[PATH_MAX];
static char folder[] = "/tmp/cspire-modules-XXXXXX";

static int begin(void **state)
{
    (void)state;
    ssize_t n = readlink("/proc/self/exe", built, sizeof built - 16);
    assert_true(n > 0);
    built[n] = '\0';
    strcpy(strrchr(built, '/'), "/modules");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int end(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static cs_code find(const char *where, const char *module, const char *name,
                    const struct plugin_builtin **out, struct cs_err *e)
{
    return plugin_module_plugin_in(where, module, "server", "Notifier", name, out, e);
}

/* A copy of the sample that one may spoil. */
static const char *copy_of_sample(const char *name)
{
    static char path[PATH_MAX];
    char from[PATH_MAX + 16];
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf data = {0};
    snprintf(from, sizeof from, "%s/sample.so", built);
    snprintf(path, sizeof path, "%s/%s.so", folder, name);
    assert_int_equal(cs_file_read(from, 16 << 20, &data, &e), CS_OK);
    assert_int_equal(cs_file_write_atomic(path, cs_buf_slice(&data), 0644, &e), CS_OK);
    return path;
}

static void refused(const char *where, const char *module, const char *name, cs_code code, const char *text)
{
    const struct plugin_builtin *p = (const void *)1;
    struct cs_err e = {0};
    assert_int_equal(find(where, module, name, &p, &e), code);
    assert_null(p);
    if (strstr(e.text, text) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", text, e.text);
}

static void opens_what_is_as_it_should_be(void **state)
{
    const struct plugin_builtin *p = NULL, *again = NULL;
    struct cs_err e = {0};
    void *self = NULL;
    (void)state;
    if (find(built, "sample", "sample", &p, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(p->name, "sample");
    assert_int_equal(p->create(NULL, &self, &e), CS_OK);
    assert_string_equal(self, "1m30s");
    p->destroy(self);
    assert_int_equal(find(built, "sample", "sample", &again, &e), CS_OK);
    assert_ptr_equal(again, p);
}

static void refuses_what_is_not(void **state)
{
    (void)state;
    refused(built, "sample", "other", CS_INTERNAL,
            "module \"sample\": it has no plugin \"other\" for type \"Notifier\"");
    refused(built, "foreign", "foreign", CS_PRECONDITION,
            "foreign.so is of another build (0.0.0-of-another-build)");
    refused(built, "bare", "bare", CS_PRECONDITION, "bare.so is not a module");
    refused(built, "absent", "absent", CS_NOT_FOUND, "module \"absent\": open ");
}

static void refuses_what_is_no_library(void **state)
{
    struct cs_err e;
    char path[64];
    (void)state;
    snprintf(path, sizeof path, "%s/text.so", folder);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("no library"), 0644, &e), CS_OK);
    refused(folder, "text", "x", CS_PRECONDITION, "text.so: file too short");
    snprintf(path, sizeof path, "%s/folder.so", folder);
    assert_int_equal(mkdir(path, 0755), 0);
    refused(folder, "folder", "x", CS_DENIED, "folder.so is not a file");
}

static void refuses_what_others_may_change(void **state)
{
    (void)state;
    const char *path = copy_of_sample("mine");
    const struct plugin_builtin *p = NULL;
    struct cs_err e;
    assert_int_equal(chmod(path, 0664), 0);
    refused(folder, "mine", "sample", CS_DENIED, "mine.so may be written by others than its owner");
    assert_int_equal(chmod(path, 0646), 0);
    refused(folder, "mine", "sample", CS_DENIED, "mine.so may be written by others than its owner");
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    refused(folder, "mine", "sample", CS_DENIED, "may be written by others than its owner");
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(find(folder, "mine", "sample", &p, &e), CS_OK);
}

static void refuses_files_of_strangers(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* only root can give a file away */
    assert_int_equal(chown(copy_of_sample("theirs"), 12345, 12345), 0);
    refused(folder, "theirs", "sample", CS_DENIED, "theirs.so belongs to user 12345");
}

/* The folder of a link's target counts, not the one of the link. */
static void follows_links(void **state)
{
    char to[PATH_MAX + 16], link[64];
    const struct plugin_builtin *p = NULL;
    struct cs_err e = {0};
    (void)state;
    snprintf(to, sizeof to, "%s/sample.so", built);
    snprintf(link, sizeof link, "%s/linked.so", folder);
    assert_int_equal(symlink(to, link), 0);
    assert_int_equal(find(folder, "linked", "sample", &p, &e), CS_OK);
    assert_non_null(p);
}

static void knows_its_own_modules(void **state)
{
    (void)state;
    assert_string_equal(plugin_module_name("server", "NodeAttestor", "k8s_psat"), "kubernetes");
    assert_null(plugin_module_name("agent", "KeyManager", "disk"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_is_as_it_should_be), cmocka_unit_test(refuses_what_is_not),
        cmocka_unit_test(refuses_what_is_no_library),    cmocka_unit_test(refuses_what_others_may_change),
        cmocka_unit_test(refuses_files_of_strangers),    cmocka_unit_test(follows_links),
        cmocka_unit_test(knows_its_own_modules),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
