/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore "sconecas_sessionmanager" without a CAS: templates, predecessor files, what answers mean.
 */
#include "base/file.h"
#include "base/mem.h"
#include "plugins/modules/sconecas/cas.h"
#include "plugins/modules/sconecas/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* --- Templates --- */

static struct scone_template *parse(enum scone_kind kind, const char *text)
{
    struct scone_template *t;
    struct cs_err e;
    if (scone_template_parse(kind, cs_slice_str(text), &t, &e) != CS_OK)
        fail_msg("%s", e.text);
    return t;
}

static void renders(enum scone_kind kind, const char *text, const struct scone_values *v, const char *want)
{
    CS_AUTO(scone_template) t = parse(kind, text);
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    assert_int_equal(scone_template_render(t, v, &out, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&out), want);
}

static void names(enum scone_kind kind, const char *text, const struct scone_values *v, const char *want)
{
    CS_AUTO(scone_template) t = parse(kind, text);
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    assert_int_equal(scone_template_name(t, v, &out, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&out), want);
}

static void refused(enum scone_kind kind, const char *text, const char *why)
{
    struct scone_template *t = (void *)1;
    struct cs_err e;
    assert_int_not_equal(scone_template_parse(kind, cs_slice_str(text), &t, &e), CS_OK);
    assert_null(t);
    assert_string_equal(e.text, why);
}

static const struct scone_values values = {
    .at = {
        [SCONE_PREDECESSOR] = {(const uint8_t *)"<\\svid>", 7}, /* what is put in is not looked at again */
        [SCONE_LEAF] = {(const uint8_t *)"a\nb\n", 4},
        [SCONE_KEY] = {(const uint8_t *)"k\n", 2},
        [SCONE_SESSION_NAME] = {(const uint8_t *)"NS/s", 4},
        [SCONE_SESSION_HASH] = {(const uint8_t *)"77", 2},
        [SCONE_BUNDLE_NAME] = {(const uint8_t *)"ca", 2},
        [SCONE_BUNDLE_PEM] = {(const uint8_t *)"r\n", 2},
    }};

static void test_render(void **state)
{
    (void)state;
    renders(SCONE_SVID,
            "name: <\\session-name-selector>-i\npredecessor: <\\predecessor>\n        <\\svid>\n"
            "        <\\svid-intermediates>\n<\\svid-key><\\session-hash-selector>",
            &values,
            "name: NS/s-i\npredecessor: <\\svid>\n        a\n        b\n        \n        \nk\n        77");
    renders(SCONE_BUNDLE, "name: <\\trust-bundle-session-name>\n<\\trust-bundle>", &values,
            "name: ca\nr\n        ");
    /* what only looks like one */
    renders(SCONE_SVID, "name: x\n<\\ svid> <svid> <\\> <\\svid <<\\svid-key>> \\", &values,
            "name: x\n<\\ svid> <svid> <\\> <\\svid <k\n        > \\");
    renders(SCONE_SVID, "name: x\n  # was <\\trust-bundle>\n", &values,
            "name: x\n  # was <\\trust-bundle>\n");
}

static void test_name(void **state)
{
    (void)state;
    names(SCONE_SVID, "#\nname:  <\\session-name-selector>-injector  \nname: second\n", &values,
          "NS/s-injector");
    names(SCONE_SVID, "version: 1\r\nname: \"x\" # y\r\n", &values, "\"x\" # y");
    names(SCONE_SVID, "name: a name: b", &values, "a");
    names(SCONE_SVID, "name:<\\session-hash-selector>", &values, "<\\session-hash-selector>");
    names(SCONE_BUNDLE, "name: spire-<\\trust-bundle-session-name>", &values, "spire-ca");
    names(SCONE_FEDERATED, "name: <\\fed-bundles-session-name>", &values, "");
    refused(SCONE_SVID, " name: x\n", "cannot find session name in template");
    refused(SCONE_SVID, "", "cannot find session name in template");
}

static void test_checks(void **state)
{
    (void)state;
    refused(SCONE_SVID, "name: x\n\na: <\\svid-keys>", "line 3: unknown placeholder \"<\\svid-keys>\"");
    refused(SCONE_BUNDLE, "name: x\n<\\svid>", "line 2: unknown placeholder \"<\\svid>\"");
    CS_AUTO(scone_template)
    t = parse(SCONE_BUNDLE,
              "name: x\npredecessor: <\\predecessor>\n      <\\trust-bundle>\n# <\\trust-bundle>");
    assert_string_equal(scone_template_warning(t, 0),
                        "line 3: <\\trust-bundle> does not stand alone after eight "
                        "blanks, as the lines of what is put there do");
    assert_string_equal(scone_template_warning(t, 1),
                        "line 4: <\\trust-bundle> stands in a comment, and what is put there has many lines");
    assert_null(scone_template_warning(t, 2));
    assert_true(scone_template_has(t, SCONE_BUNDLE_PEM));
    assert_false(scone_template_has(t, SCONE_BUNDLE_NAME));
    CS_AUTO(scone_template) bare = parse(SCONE_FEDERATED, "name: x");
    assert_string_equal(scone_template_warning(bare, 0), "there is no <\\predecessor>");
    assert_string_equal(scone_template_warning(bare, 1), "there is no <\\federated-bundles>");
    assert_null(scone_template_warning(bare, 2));
}

static void test_bounds(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    struct scone_template *t;
    struct cs_err e;
    cs_buf_add_str(&text, "name: x\n");
    for (int i = 0; i < 5000; i++)
        cs_buf_add_str(&text, "<\\svid>\n");
    assert_int_equal(scone_template_parse(SCONE_SVID, cs_buf_slice(&text), &t, &e), CS_EXHAUSTED);
    while (text.len <= SCONE_TEMPLATE_MAX)
        cs_buf_add_byte(&text, ' ');
    assert_int_equal(scone_template_parse(SCONE_SVID, cs_buf_slice(&text), &t, &e), CS_EXHAUSTED);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct scone_template *t = NULL;
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        cs_mem_fail_at(n, false);
        cs_code rc =
            scone_template_parse(SCONE_SVID, cs_slice_str("name: x\n <\\svid>\n<\\predecessor>"), &t, NULL);
        if (rc == CS_OK)
            rc = scone_template_render(t, &values, &out, NULL);
        cs_mem_fail_at(0, false);
        scone_template_free(t);
        if (rc == CS_OK)
            return;
        assert_int_equal(rc, CS_INTERNAL);
    }
}

/* --- Predecessors --- */

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "NS/app-injector", "a/b/c", "...", "\"x\" # y", ".x"};
    static const char *const bad[] = {"",   "/",    "/a",   "a/",    "a//b", ".",
                                      "..", "a/..", "../a", "a/./b", "a\nb", "a\x7f"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(scone_name_check(good[i], NULL), CS_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(scone_name_check(bad[i], NULL), CS_INVALID);
    char longest[242];
    memset(longest, 'x', 241);
    longest[241] = '\0';
    assert_int_equal(scone_name_check(longest, NULL), CS_INVALID);
    longest[240] = '\0';
    assert_int_equal(scone_name_check(longest, NULL), CS_OK);
}

static void write_file(const char *path, const char *text)
{
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str(text), 0600, NULL), CS_OK);
}

static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/sconecas_test.XXXXXX", path[128], hash[SCONE_HASH_MAX + 1];
    struct stat st;
    assert_non_null(mkdtemp(dir));
    umask(0);
    assert_int_equal(scone_predecessor_read(dir, "NS/a", hash, NULL), CS_NOT_FOUND);
    assert_string_equal(hash, "");
    assert_int_equal(scone_predecessor_write(dir, "NS/a", "0123", NULL), CS_OK);
    assert_int_equal(scone_predecessor_read(dir, "NS/a", hash, NULL), CS_OK);
    assert_string_equal(hash, "0123");
    snprintf(path, sizeof path, "%s/NS", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    snprintf(path, sizeof path, "%s/NS/a", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 4);
    write_file(path, " 77\r\n\n"); /* by hand */
    assert_int_equal(scone_predecessor_read(dir, "NS/a", hash, NULL), CS_OK);
    assert_string_equal(hash, "77");
    static const char *const bad[] = {"", "\n", "7 7", "7\nname: x", "~"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_file(path, bad[i]);
        assert_int_equal(scone_predecessor_read(dir, "NS/a", hash, NULL), CS_INVALID);
        assert_string_equal(hash, "");
    }
    /* a file where a folder should be */
    assert_int_not_equal(scone_predecessor_write(dir, "NS/a/b", "1", NULL), CS_OK);
    unlink(path);
    snprintf(path, sizeof path, "%s/NS", dir);
    rmdir(path);
    assert_int_equal(rmdir(dir), 0); /* nothing else was left behind */
}

/* --- Answers --- */

#define KEY "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGRC5z9QIiWm"

static struct scone_outcome answer(int status, const char *body, const char *why)
{
    struct scone_outcome o;
    struct cs_err e = {0};
    cs_code rc = scone_cas_read(status, cs_slice_str(body), cs_slice_str(KEY), &o, &e);
    assert_int_equal(rc, why == NULL ? CS_OK : CS_UNAVAILABLE);
    if (why != NULL)
        assert_string_equal(e.text, why);
    assert_int_equal(o.status, status);
    return o;
}

static void test_answers(void **state)
{
    (void)state;
    struct scone_outcome o = answer(201, "{\"x\": [1], \"hash\": \"0aF\"}", NULL);
    assert_int_equal(o.answer, SCONE_CREATED);
    assert_string_equal(o.hash, "0aF");
    static const char *const bad[] = {
        "{}", "{\"hash\": 7}", "{\"hash\": \"\"}", "{\"hash\": \"a b\"}", "[]", "{\"hash\": \"a\\u000ab\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(answer(201, bad[i], "the CAS took the session and did not say its hash").answer,
                         SCONE_OTHER);
    answer(201, "<", "cannot decode JSON response from CAS");
    answer(201, "", "cannot decode JSON response from CAS");
    assert_int_equal(
        answer(200, "{\"hash\": \"0aF\"}", "status 200: error=\"{\\\"hash\\\": \\\"0aF\\\"}\"").answer,
        SCONE_OTHER);
    assert_int_equal(answer(404, "", "status 404").answer, SCONE_NOT_FOUND);
    assert_int_equal(answer(400, "Session already exists, please specify predecessor hash.",
                            "status 400: error=\"Session already exists, please specify predecessor hash.\"")
                         .answer,
                     SCONE_CONFLICT);
    assert_int_equal(answer(409, "other", "status 409: error=\"other\"").answer, SCONE_CONFLICT);
    answer(500, "\033[31m\n", "status 500: error=\"\\x1b[31m\\n\"");
}

static void test_keys_are_not_repeated(void **state)
{
    (void)state;
    static const char hidden[] = "status 400: the CAS repeats what was posted, so its answer is not shown";
    answer(400, "line 7: " KEY, hidden);
    answer(400,
           "..."
           "QgGRC5z9QIiW"
           "...",
           hidden); /* a part from the middle */
    answer(404, "QgGRC5z9QIiW", "status 404: the CAS repeats what was posted, so its answer is not shown");
    answer(400, "QgGRC5z9", "status 400: error=\"QgGRC5z9\""); /* too short to be one */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_render),
        cmocka_unit_test(test_name),
        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_keys_are_not_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
