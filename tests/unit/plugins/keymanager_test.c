/* SPDX-License-Identifier: Apache-2.0
 *
 * KeyManagers disk and memory: SPIRE's file byte for byte, keys that survive, nothing half-done.
 */
#include "base/file.h"
#include "base/mem.h"
#include "plugin/keymanager.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_keymanager_disk;
extern const struct plugin_builtin plugin_keymanager_memory;

/* As SPIRE 1.15 wrote it (keys made for this test). */
static const char spire_file[] =
    "{\n"
    "\t\"keys\": {\n"
    "\t\t\"JWT-Signer-A\": "
    "\"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgq9xLVxJl9S0Ruo5QU28izBY7Dm251aMwrx09YXT"
    "ffVShRANCAARd4d54QlvCGIMD3MS/SMtvoPE/IQ89Ebrj2yxgkU/lAETBE7ZfnF0C8ZiV11uwDE2zrUD42mNbpZxYDGt9ODG/\",\n"
    "\t\t\"x509-CA-A\": "
    "\"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgd8S9d/JQx3pCtFECVF+ev+PKtx3gkHQ1gWsoD6JQrEC"
    "hRANCAATdXoxRDLJNBKjDlltTDsOhzIFtr5RRdOdgIWBDUA75qCZQY0s+OEAJNsoVrJCb38Pef5NKp4LfxT/5Q3Pl2EhI\"\n"
    "\t}\n"
    "}";

static const struct plugin_env env = {
    .clock = &cs_clock_system, .trust_domain = "example.org", .data_dir = "."};

struct fixture {
    char dir[64], path[96], config[160];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/keymanager_test.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/keys.json", f->dir);
    snprintf(f->config, sizeof f->config, "keys_path = \"%s\"", f->path);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    chmod(f->dir, 0700);
    unlink(f->path);
    rmdir(f->dir);
    free(f);
    return 0;
}

static cs_code open_disk(const struct fixture *f, void **self, struct cs_err *e)
{
    CS_TRY(plugin_keymanager_disk.create(&env, self, e));
    cs_code rc = plugin_keymanager_disk.configure(*self, cs_slice_str(f->config), e);
    if (rc != CS_OK) {
        plugin_keymanager_disk.destroy(*self);
        *self = NULL;
    }
    return rc;
}

static void must_open(const struct fixture *f, void **self)
{
    struct cs_err e = {0};
    if (open_disk(f, self, &e) != CS_OK)
        fail_msg("%s", e.text);
}

static void write_file(const struct fixture *f, const char *text)
{
    assert_int_equal(cs_file_write_atomic(f->path, cs_slice_str(text), 0600, NULL), CS_OK);
}

static char *read_file(const struct fixture *f)
{
    struct cs_buf b = {0};
    assert_int_equal(cs_file_read(f->path, 1 << 20, &b, NULL), CS_OK);
    return cs_buf_take_str(&b);
}

static const struct keymanager_ops *ops(void)
{
    return plugin_keymanager_disk.ops;
}

static struct crypto_signer *must_generate(void *self, const char *id, enum crypto_key_type type)
{
    struct cs_err e = {0};
    struct crypto_signer *s = NULL;
    if (ops()->generate_key(self, id, type, &s, &e) != CS_OK)
        fail_msg("%s", e.text);
    return s;
}

static struct crypto_signer *must_get(void *self, const char *id)
{
    struct cs_err e = {0};
    struct crypto_signer *s = NULL;
    if (ops()->get_key(self, id, &s, &e) != CS_OK)
        fail_msg("%s", e.text);
    return s;
}

static bool same_key(const struct crypto_signer *a, const struct crypto_signer *b)
{
    return crypto_pub_equal(crypto_signer_pub(a), crypto_signer_pub(b));
}

static cs_code count_key(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    (void)key, (void)e;
    char *seen = arg;
    strncat(seen, id, 200 - strlen(seen) - 1);
    strncat(seen, " ", 200 - strlen(seen) - 1);
    return CS_OK;
}

/* --- Tests --- */

/* Replacing a key and putting the old one back is not possible through the API; but a third key leaves
 * the bytes of SPIRE's two as they were. */
static void reads_and_rewrites_spires_file(void **state)
{
    struct fixture *f = *state;
    write_file(f, spire_file);
    void *self = NULL;
    must_open(f, &self);
    char seen[200] = "";
    assert_int_equal(ops()->each_key(self, count_key, seen, NULL), CS_OK);
    assert_string_equal(seen, "JWT-Signer-A x509-CA-A ");

    crypto_signer_unref(must_generate(self, "zzz", CRYPTO_EC_P256));
    char *text = read_file(f);
    char *added = strstr(text, ",\n\t\t\"zzz\": \"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg");
    assert_non_null(added);
    char *rest = strstr(added, "\"\n\t}\n}");
    assert_non_null(rest);
    memmove(added, rest + 1, strlen(rest + 1) + 1);
    assert_string_equal(text, spire_file);
    cs_free(text);

    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    plugin_keymanager_disk.destroy(self);
}

static void keeps_keys_over_restarts(void **state)
{
    static const enum crypto_key_type types[] = {CRYPTO_EC_P256, CRYPTO_EC_P384, CRYPTO_RSA_2048};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        void *self = NULL;
        must_open(f, &self);
        struct crypto_signer *made = must_generate(self, "k", types[i]);
        plugin_keymanager_disk.destroy(self);

        must_open(f, &self);
        struct crypto_signer *loaded = must_get(self, "k");
        assert_true(same_key(made, loaded));
        assert_int_equal(crypto_signer_type(loaded), types[i]);
        struct cs_buf sig = {0};
        enum crypto_sig alg = crypto_sig_default(types[i]);
        assert_int_equal(crypto_sign(loaded, alg, cs_slice_str("hello"), &sig, NULL), CS_OK);
        assert_int_equal(
            crypto_verify(crypto_signer_pub(made), alg, cs_slice_str("hello"), cs_buf_slice(&sig), NULL),
            CS_OK);
        cs_buf_free(&sig);
        crypto_signer_unref(made);
        crypto_signer_unref(loaded);
        plugin_keymanager_disk.destroy(self);
    }
}

static void a_key_that_cannot_be_stored_does_not_count(void **state)
{
    struct fixture *f = *state;
    void *self = NULL;
    must_open(f, &self);
    struct crypto_signer *first = must_generate(self, "k", CRYPTO_EC_P256);

    /* A folder where the file should go: no rename can replace it, whoever runs the test. */
    unlink(f->path);
    assert_int_equal(mkdir(f->path, 0700), 0);
    struct cs_err e = {0};
    struct crypto_signer *second = NULL;
    assert_int_not_equal(ops()->generate_key(self, "k", CRYPTO_EC_P256, &second, &e), CS_OK);
    assert_null(second);
    assert_non_null(strstr(e.text, "failed to generate key: unable to write entries: "));
    assert_int_not_equal(ops()->generate_key(self, "other", CRYPTO_EC_P256, &second, &e), CS_OK);
    rmdir(f->path);

    struct crypto_signer *now = must_get(self, "k");
    assert_true(same_key(first, now));
    assert_int_equal(ops()->get_key(self, "other", &second, &e), CS_NOT_FOUND);
    crypto_signer_unref(first);
    crypto_signer_unref(now);
    plugin_keymanager_disk.destroy(self);
}

static void refuses_broken_files(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"", "unable to decode keys JSON: "},
        {"{\"keys\": [1]}", "unable to decode keys JSON: "},
        {"{\"keys\": {\"a\": 1}}", "unable to decode keys JSON: "},
        {"{\"keys\": {\"a\": \"!!!\"}}", "unable to decode keys JSON: "},
        {"{\"keys\": {\"a\": \"AAAA\"}}", "unable to parse key \"a\": "},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_file(f, rows[i].text);
        void *self = NULL;
        struct cs_err e = {0};
        assert_int_not_equal(open_disk(f, &self, &e), CS_OK);
        if (strncmp(e.text, rows[i].error, strlen(rows[i].error)) != 0)
            fail_msg("row %zu: %s", i, e.text);
        char *text = read_file(f);
        assert_string_equal(text, rows[i].text);
        cs_free(text);
    }
    write_file(f, "{}");
    void *self = NULL;
    must_open(f, &self);
    plugin_keymanager_disk.destroy(self);
}

static void wants_a_path(void **state)
{
    (void)state;
    void *self = NULL;
    struct cs_err e = {0};
    assert_int_equal(plugin_keymanager_disk.create(&env, &self, &e), CS_OK);
    assert_int_equal(plugin_keymanager_disk.configure(self, cs_slice_str(""), &e), CS_INVALID);
    assert_string_equal(e.text, "keys_path is required");
    struct crypto_signer *s = NULL;
    assert_int_equal(ops()->generate_key(self, "k", CRYPTO_EC_P256, &s, &e), CS_PRECONDITION);
    assert_string_equal(e.text, "failed to generate key: not configured");
    plugin_keymanager_disk.destroy(self);

    struct plugin_notes notes = {0};
    assert_int_equal(plugin_keymanager_disk.validate(&env, cs_slice_str(""), &notes, &e), CS_OK);
    assert_int_equal(notes.count, 1);
    assert_string_equal(notes.texts[0], "keys_path is required");
    plugin_notes_free(&notes);
}

static void memory_keeps_to_itself(void **state)
{
    (void)state;
    const struct keymanager_ops *m = plugin_keymanager_memory.ops;
    void *self = NULL;
    struct cs_err e = {0};
    assert_int_equal(plugin_keymanager_memory.create(&env, &self, &e), CS_OK);
    struct crypto_signer *a = NULL, *b = NULL;
    assert_int_equal(m->generate_key(self, "k", CRYPTO_EC_P256, &a, &e), CS_OK);
    assert_int_equal(m->get_key(self, "k", &b, &e), CS_OK);
    assert_true(same_key(a, b));
    crypto_signer_unref(b);
    assert_int_equal(m->get_key(self, "x", &b, &e), CS_NOT_FOUND);
    assert_string_equal(e.text, "key \"x\" not found");
    assert_int_equal(m->generate_key(self, "", CRYPTO_EC_P256, &b, &e), CS_INVALID);
    assert_string_equal(e.text, "failed to generate key: key id is required");
    crypto_signer_unref(a);
    plugin_keymanager_memory.destroy(self);
}

/* Whichever allocation fails: the key is either there, in memory and on disk, or not at all. */
static void survives_failing_allocations(void **state)
{
    struct fixture *f = *state;
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        assert_true(n < 2000);
        write_file(f, spire_file);
        void *self = NULL;
        must_open(f, &self);
        struct crypto_signer *s = NULL;
        (void)cs_mem_fail_at(n, true);
        rc = ops()->generate_key(self, "zzz", CRYPTO_EC_P256, &s, NULL);
        (void)cs_mem_fail_at(0, false);
        char *text = read_file(f);
        if (rc != CS_OK) {
            assert_null(s);
            assert_string_equal(text, spire_file);
            assert_int_equal(ops()->get_key(self, "zzz", &s, NULL), CS_NOT_FOUND);
        }
        cs_free(text);
        crypto_signer_unref(s);
        plugin_keymanager_disk.destroy(self);

        (void)cs_mem_fail_at(n, true);
        cs_code opened = open_disk(f, &self, NULL);
        (void)cs_mem_fail_at(0, false);
        if (opened == CS_OK)
            plugin_keymanager_disk.destroy(self);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_and_rewrites_spires_file, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_keys_over_restarts, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_that_cannot_be_stored_does_not_count, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_broken_files, setup, teardown),
        cmocka_unit_test_setup_teardown(survives_failing_allocations, setup, teardown),
        cmocka_unit_test(wants_a_path),
        cmocka_unit_test(memory_keeps_to_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
