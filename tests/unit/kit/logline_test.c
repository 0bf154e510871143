/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines are JSON that go-plugin's hosts take for hclog's, whatever a plugin says.
 */
#include "kit/logline.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <jansson.h>
#include <unistd.h>

#define AT (INT64_C(1763923361) * CS_NS_PER_S + 42000)

static json_t *line(enum cspire_level level, const char *message, const struct cspire_field *fields, size_t n)
{
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    kit_log_format(&out, AT, level, message, fields, n);
    assert_true(cs_buf_ok(&out) && out.len <= KIT_LOG_LINE_MAX && out.data[out.len - 1] == '\n');
    assert_null(memchr(out.data, '\n', out.len - 1));
    json_t *j = json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    return j;
}

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    assert_non_null(s);
    return s;
}

static void test_line(void **state)
{
    (void)state;
    const struct cspire_field fields[] = {
        {"a", "1"}, {"quoted", "x\"y\\z\n"}, {"none", NULL}, {NULL, "lost"}};
    json_t *j = line(CSPIRE_WARN, "hello \xc3\xa4", fields, 4);
    assert_string_equal(text(j, "@level"), "warn");
    assert_string_equal(text(j, "@message"), "hello \xc3\xa4");
    /* hclog's layout, or hosts take the line for plain text */
    assert_string_equal(text(j, "@timestamp"), "2025-11-23T18:42:41.000042Z");
    assert_string_equal(text(j, "a"), "1");
    assert_string_equal(text(j, "quoted"), "x\"y\\z\n");
    assert_string_equal(text(j, "none"), "");
    assert_int_equal(json_object_size(j), 6);
    json_decref(j);
}

static void test_levels(void **state)
{
    (void)state;
    static const char *const names[] = {"trace", "debug", "info", "warn", "error"};
    for (int i = 0; i < 5; i++) {
        json_t *j = line((enum cspire_level)(CSPIRE_TRACE + i), "", NULL, 0);
        assert_string_equal(text(j, "@level"), names[i]);
        json_decref(j);
    }
    json_t *j = line((enum cspire_level)99, "", NULL, 0);
    assert_string_equal(text(j, "@level"), "info");
    json_decref(j);
}

/* go-plugin takes fields with these names for the line's own, and crashes when they are not text. */
static void test_reserved_names(void **state)
{
    (void)state;
    const struct cspire_field fields[] = {{"@level", "error"}, {"@message", "other"}};
    json_t *j = line(CSPIRE_INFO, "mine", fields, 2);
    assert_string_equal(text(j, "@level"), "info");
    assert_string_equal(text(j, "@message"), "mine");
    assert_string_equal(text(j, "_level"), "error");
    json_decref(j);
}

static void test_long(void **state)
{
    (void)state;
    size_t n = 1024 * 1024;
    char *huge = cs_malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        huge[i] = i % 2 == 0 ? '\xc3' : '\xa4';
    huge[n] = '\0';
    const struct cspire_field fields[] = {{"first", huge}, {"second", huge}, {huge, "key"}, {"last", "kept"}};
    json_t *j = line(CSPIRE_INFO, huge, fields, 4);
    assert_true(strlen(text(j, "@message")) > 1000);
    assert_true(cs_utf8_valid(cs_slice_str(text(j, "@message"))));
    assert_true(strlen(text(j, "first")) > 1000);
    json_decref(j);
    memset(huge, 1, n); /* six bytes each */
    j = line(CSPIRE_INFO, huge, fields, 4);
    assert_true(strlen(text(j, "@message")) > 1000);
    json_decref(j);
    cs_free(huge);
}

static void test_many_fields(void **state)
{
    (void)state;
    struct cspire_field fields[100];
    char names[100][8];
    for (int i = 0; i < 100; i++) {
        snprintf(names[i], sizeof names[i], "f%d", i);
        fields[i] = (struct cspire_field){names[i], "v"};
    }
    json_t *j = line(CSPIRE_INFO, "", fields, 100);
    assert_int_equal(json_object_size(j), 3 + KIT_LOG_FIELDS_MAX);
    json_decref(j);
}

static void test_write(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct kit_log log = {.fd = fds[1], .lock = PTHREAD_MUTEX_INITIALIZER};
    kit_log_write(&log, CSPIRE_ERROR, "x", NULL, 0);
    close(fds[1]);
    char got[512];
    ssize_t n = read(fds[0], got, sizeof got);
    close(fds[0]);
    json_t *j = json_loadb(got, (size_t)n, 0, NULL);
    assert_string_equal(text(j, "@message"), "x");
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),           cmocka_unit_test(test_levels),
        cmocka_unit_test(test_reserved_names), cmocka_unit_test(test_long),
        cmocka_unit_test(test_many_fields),    cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
