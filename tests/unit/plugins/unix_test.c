/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"
#include "crypto/hash.h"
#include "plugin/workloadattestor.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_workloadattestor_unix;

static void *make(const char *config)
{
    void *self;
    const struct plugin_env env = {.trust_domain = "example.org"};
    assert_int_equal(plugin_workloadattestor_unix.create(&env, &self, NULL), CS_OK);
    if (config != NULL)
        assert_int_equal(plugin_workloadattestor_unix.configure(self, cs_slice_str(config), NULL), CS_OK);
    return self;
}

static cs_code attest(void *self, pid_t pid, struct workloadattestor_values *out, struct cs_err *e)
{
    const struct workloadattestor_ops *ops = plugin_workloadattestor_unix.ops;
    out->arena = cs_arena_new(0, 0);
    assert_non_null(out->arena);
    return ops->attest(self, pid, out, e);
}

static void next_is(const struct workloadattestor_values *v, size_t *at, const char *kind, const char *value)
{
    char want[PATH_MAX + 32];
    (void)snprintf(want, sizeof want, "%s:%s", kind, value);
    assert_true(*at < v->count);
    assert_string_equal(v->at[(*at)++], want);
}

static void expect_ids(const struct workloadattestor_values *v, size_t *at)
{
    char n[16];
    gid_t groups[256];
    const struct passwd *pw = getpwuid(geteuid());
    (void)snprintf(n, sizeof n, "%u", (unsigned)geteuid());
    next_is(v, at, "uid", n);
    if (pw != NULL)
        next_is(v, at, "user", pw->pw_name);
    (void)snprintf(n, sizeof n, "%u", (unsigned)getegid());
    next_is(v, at, "gid", n);
    const struct group *gr = getgrgid(getegid());
    if (gr != NULL)
        next_is(v, at, "group", gr->gr_name);
    int count = getgroups(256, groups);
    for (int i = 0; i < count; i++) {
        (void)snprintf(n, sizeof n, "%u", (unsigned)groups[i]);
        next_is(v, at, "supplementary_gid", n);
        gr = getgrgid(groups[i]);
        if (gr != NULL)
            next_is(v, at, "supplementary_group", gr->gr_name);
    }
}

static void test_self(void **state)
{
    (void)state;
    void *self = make("");
    struct workloadattestor_values v = {0};
    size_t at = 0;
    assert_int_equal(attest(self, getpid(), &v, NULL), CS_OK);
    expect_ids(&v, &at);
    assert_int_equal(at, v.count);
    cs_arena_free(v.arena);
    plugin_workloadattestor_unix.destroy(self);
}

static void digest_of(const char *path, char out[65])
{
    uint8_t digest[32];
    struct crypto_hasher *h;
    static uint8_t chunk[1 << 16];
    assert_int_equal(crypto_hasher_new(CRYPTO_SHA256, &h, NULL), CS_OK);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    for (ssize_t n; (n = read(fd, chunk, sizeof chunk)) > 0;)
        assert_int_equal(crypto_hasher_add(h, cs_slice_of(chunk, (size_t)n), NULL), CS_OK);
    (void)close(fd);
    assert_int_equal(crypto_hasher_end(h, digest, NULL), CS_OK);
    crypto_hasher_free(h);
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    cs_hex_encode(&hex, cs_slice_of(digest, 32));
    memcpy(out, cs_buf_cstr(&hex), 65);
}

static void test_path_and_digest(void **state)
{
    (void)state;
    char exe[PATH_MAX];
    char hex[65];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    assert_true(n > 0);
    exe[n] = '\0';
    digest_of(exe, hex);

    void *self = make("discover_workload_path = true");
    struct workloadattestor_values v = {0};
    size_t at = 0;
    assert_int_equal(attest(self, getpid(), &v, NULL), CS_OK);
    expect_ids(&v, &at);
    next_is(&v, &at, "path", exe);
    next_is(&v, &at, "sha256", hex);
    assert_int_equal(at, v.count);
    cs_arena_free(v.arena);
    plugin_workloadattestor_unix.destroy(self);

    /* Negative: no digest. */
    self = make("discover_workload_path = true\nworkload_size_limit = -1");
    v = (struct workloadattestor_values){0};
    assert_int_equal(attest(self, getpid(), &v, NULL), CS_OK);
    assert_string_equal(strncmp(v.at[v.count - 1], "path:", 5) == 0 ? "path" : v.at[v.count - 1], "path");
    cs_arena_free(v.arena);
    plugin_workloadattestor_unix.destroy(self);

    /* Too small a limit: no selectors at all. */
    self = make("discover_workload_path = true\nworkload_size_limit = 10");
    v = (struct workloadattestor_values){0};
    struct cs_err e;
    assert_int_equal(attest(self, getpid(), &v, &e), CS_INTERNAL);
    assert_non_null(strstr(e.text, "exceeds size limit ("));
    cs_arena_free(v.arena);
    plugin_workloadattestor_unix.destroy(self);
}

static void test_gone_and_unconfigured(void **state)
{
    (void)state;
    struct cs_err e;
    struct workloadattestor_values v = {0};
    void *self = make(NULL);
    assert_int_equal(attest(self, getpid(), &v, &e), CS_PRECONDITION);
    assert_string_equal(e.text, "not configured");
    cs_arena_free(v.arena);
    plugin_workloadattestor_unix.destroy(self);

    pid_t child = fork();
    if (child == 0)
        _exit(0);
    assert_true(child > 0);
    (void)waitpid(child, NULL, 0);
    self = make("");
    assert_int_equal(attest(self, child, &v, &e), CS_INTERNAL);
    assert_string_equal(e.text, "failed to get process: process does not exist");
    cs_arena_free(v.arena);
    assert_int_not_equal(
        plugin_workloadattestor_unix.configure(self, cs_slice_str("discover_workload_path = {"), &e), CS_OK);
    plugin_workloadattestor_unix.destroy(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_path_and_digest),
        cmocka_unit_test(test_gone_and_unconfigured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
