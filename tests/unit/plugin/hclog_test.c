/* SPDX-License-Identifier: Apache-2.0
 *
 * What plugins write on standard error: cut into lines, read, bounded, and never taken for ours.
 */
#include "plugin/hclog.h"
#include "plugin/lines.h"

#include "base/file.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];
static struct cs_log_sink *sink;
static struct cs_log log_;
static struct plugin_hclog hclog;
static struct cs_buf written;

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/hclog-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(cs_log_sink_open(path, CS_LOG_TEXT, CS_LOG_DEBUG, &sink, NULL), CS_OK);
    log_ = cs_log_with((struct cs_log){.sink = sink}, KV("plugin_name", "x"));
    hclog = (struct plugin_hclog){.log = &log_, .subsystem = "x.program"};
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    cs_log_sink_free(sink);
    cs_buf_free(&written);
    return unlink(path);
}

static const char *log_text(void)
{
    cs_buf_free(&written);
    assert_int_equal(cs_file_read(path, (size_t)1 << 28, &written, NULL), CS_OK);
    return cs_buf_cstr(&written);
}

/* The last line of the log, without its time. */
static const char *line_of(const char *said, size_t len)
{
    plugin_hclog_line(&hclog, cs_slice_of(said, len));
    const char *text = log_text(), *at = text + strlen(text);
    if (at > text)
        at--;
    while (at > text && at[-1] != '\n')
        at--;
    at = strstr(at, "level=");
    return at != NULL ? at : "";
}
static const char *line(const char *said)
{
    return line_of(said, strlen(said));
}

#define TAIL " plugin_name=x subsystem_name=x.program\n"

static void reads_hclog(void **state)
{
    (void)state;
    assert_string_equal(line("{\"@level\":\"info\",\"@message\":\"hello\"}"), "level=info msg=hello" TAIL);
    assert_string_equal(line("{\"@level\":\"warn\",\"@message\":\"a b\"}\r"),
                        "level=warning msg=\"a b\"" TAIL);
    assert_string_equal(line("{\"@level\":\"ERROR\",\"@message\":\"no\",\"error\":\"why\\nnot\"}"),
                        "level=error msg=no error=\"why\\nnot\"" TAIL);
    assert_string_equal(
        line("{\"@level\":\"debug\",\"@message\":\"m\",\"@timestamp\":\"t\",\"@module\":\"sub\",\"n\":7,"
             "\"f\":1.5,\"b\":"
             "true,\"z\":null,\"l\":[\"a\",null,[1]],\"o\":{\"k\":false}}"),
        "level=debug msg=m @module=sub b=true f=1.5 l=\"[a <nil> [1]]\" n=7 o=\"map[k:false]\" plugin_name=x "
        "subsystem_name=x.program timestamp=t z=\n");
    assert_string_equal(line("{\"@level\":\"info\"}"), "level=info" TAIL);
}

static void reads_other_lines(void **state)
{
    (void)state;
    assert_string_equal(line("plain"), "level=debug msg=plain" TAIL);
    assert_string_equal(line("[INFO] x"), "level=info msg=\"[INFO] x\"" TAIL);
    assert_string_equal(line("[WARN] x"), "level=warning msg=\"[WARN] x\"" TAIL);
    assert_string_equal(line("[ERROR]x"), "level=error msg=\"[ERROR]x\"" TAIL);
    assert_string_equal(line("{\"broken\": "), "level=debug msg=\"{\\\"broken\\\": \"" TAIL);
    assert_string_equal(line("{\"@message\":\"m\"}"),
                        "level=debug msg=\"{\\\"@message\\\":\\\"m\\\"}\"" TAIL);
    assert_string_equal(line("{\"@level\":\"loud\"}"),
                        "level=debug msg=\"{\\\"@level\\\":\\\"loud\\\"}\"" TAIL);
    assert_string_equal(line("[1]"), "level=debug msg=\"[1]\"" TAIL);
    size_t before = strlen(log_text());
    (void)line("[TRACE] x");
    (void)line("{\"@level\":\"trace\",\"@message\":\"m\"}");
    (void)line("");
    (void)line("\r");
    assert_int_equal(strlen(log_text()), before);
}

static void knows_a_panic(void **state)
{
    (void)state;
    assert_string_equal(line("goroutine 1"), "level=debug msg=\"goroutine 1\"" TAIL);
    assert_string_equal(line("panic: oops"), "level=error msg=\"panic: oops\"" TAIL);
    assert_string_equal(line("goroutine 1"), "level=error msg=\"goroutine 1\"" TAIL);
    assert_string_equal(line("[INFO] x"), "level=info msg=\"[INFO] x\"" TAIL);
}

/* What a plugin writes cannot look like ours, nor reach the terminal of who reads the log. */
static void cannot_be_taken_for_ours(void **state)
{
    (void)state;
    assert_string_equal(
        line("{\"@level\":\"info\",\"@message\":\"m\",\"level\":\"error\",\"msg\":\"n\",\"time\":\"t\","
             "\"plugin_name\":\"y\",\"subsystem_name\":\"z\"}"),
        "level=info msg=m fields.level=error fields.msg=n fields.plugin_name=y "
        "fields.subsystem_name=z fields.time=t" TAIL);
    assert_string_equal(line("{\"@level\":\"info\",\"@message\":\"m\",\"a=b c\\nlevel\":\"v\"}"),
                        "level=info msg=m a_b_c_level=v" TAIL);
    assert_string_equal(line_of("a\0b", 3), "level=debug msg=\"a\357\277\275b\"" TAIL);
    (void)line("\x1b[31m and \xff");
    for (const char *c = log_text(); *c != '\0'; c++)
        assert_true(*c == '\n' || (unsigned char)*c >= 32);
}

static void takes_some_fields_only(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cs_buf_add_str(&b, "{\"@level\":\"info\",\"@message\":\"m\"");
    for (int i = 0; i < 100; i++)
        cs_buf_printf(&b, ",\"k%02d\":%d", i, i);
    cs_buf_add_str(&b, "}");
    const char *text = line(cs_buf_cstr(&b));
    assert_non_null(strstr(text, " k15=15"));
    assert_null(strstr(text, " k16=16"));
    cs_buf_free(&b);
    cs_buf_add_str(&b, "{\"@level\":\"info\",\"a\":");
    for (int i = 0; i < 100; i++)
        cs_buf_add_str(&b, "[");
    assert_memory_equal(line(cs_buf_cstr(&b)), "level=debug", 11);
}

static void stops_floods(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++)
        plugin_hclog_line(&hclog, cs_slice_str("flood"));
    plugin_hclog_end(&hclog);
    size_t lines = 0;
    for (const char *c = log_text(); *c != '\0'; c++)
        lines += *c == '\n';
    /* a second may have passed meanwhile */
    assert_in_range(lines, PLUGIN_HCLOG_RATE, 10 * PLUGIN_HCLOG_RATE);
    assert_non_null(strstr(log_text(), "msg=\"Plugin logs too much; lines were dropped\" dropped="));
    static char large[PLUGIN_HCLOG_LINE_MAX];
    memset(large, 'x', sizeof large);
    for (int i = 0; i < 1000; i++)
        plugin_hclog_line(&hclog, cs_slice_of(large, sizeof large));
    assert_true(strlen(log_text()) < 10 * (PLUGIN_HCLOG_BYTES + sizeof large));
}

/* Lines that nobody sees do not push out those that matter, up to a number. */
static void does_not_count_what_is_not_shown(void **state)
{
    (void)state;
    cs_log_sink_set_level(sink, CS_LOG_INFO);
    for (int i = 0; i < PLUGIN_HCLOG_LOOKED_AT / 2; i++)
        plugin_hclog_line(&hclog, cs_slice_str("{\"@level\":\"debug\",\"@message\":\"m\"}"));
    assert_string_equal(line("[ERROR] seen"), "level=error msg=\"[ERROR] seen\"" TAIL);
    assert_int_equal(hclog.held, 0);
    for (int i = 0; i < 100 * PLUGIN_HCLOG_LOOKED_AT; i++)
        plugin_hclog_line(&hclog, cs_slice_str("{\"@level\":\"debug\",\"@message\":\"m\"}"));
    plugin_hclog_end(&hclog);
    assert_non_null(strstr(log_text(), "Plugin logs too much; lines were dropped"));
}

static void survives_without_memory(void **state)
{
    (void)state;
    static const char said[] = "{\"@level\":\"info\",\"@message\":\"m\",\"k\":[1],\"l\":\"v\"}";
    for (size_t n = 1; n < 60; n++) {
        cs_mem_fail_at(n, false);
        plugin_hclog_line(&hclog, cs_slice_str(said));
        plugin_hclog_line(&hclog, cs_slice_str("plain"));
        cs_mem_fail_at(0, false);
    }
}

/* --- Lines --- */

static struct cs_buf seen;

static void see(void *arg, struct cs_slice s)
{
    (void)arg;
    cs_buf_add_str(&seen, "<");
    cs_buf_add_slice(&seen, s);
    cs_buf_add_str(&seen, ">");
}

static void cuts_lines(void **state)
{
    (void)state;
    static const char in[] = "one\n\ntwo\r\n0123456789\n0123456789abc\nlast";
    static const char wanted[] = "<one><><two\r><0123456789><0123456789><last>";
    for (size_t step = 1; step <= sizeof in; step++) {
        struct plugin_lines l = {.max = 10};
        cs_buf_free(&seen);
        for (size_t at = 0; at < sizeof in - 1; at += step) {
            size_t n = sizeof in - 1 - at < step ? sizeof in - 1 - at : step;
            plugin_lines_feed(&l, cs_slice_of(in + at, n), see, NULL);
            assert_true(l.held.len <= 10);
        }
        plugin_lines_end(&l, see, NULL);
        assert_string_equal(cs_buf_cstr(&seen), wanted);
        assert_null(l.held.data);
    }
    cs_buf_free(&seen);
}

static void loses_lines_without_memory(void **state)
{
    (void)state;
    struct plugin_lines l = {.max = 100};
    cs_mem_fail_at(1, true);
    plugin_lines_feed(&l, cs_slice_str("lost"), see, NULL);
    plugin_lines_feed(&l, cs_slice_str(" too\n"), see, NULL);
    cs_mem_fail_at(0, false);
    plugin_lines_feed(&l, cs_slice_str("whole\n"), see, NULL);
    assert_string_equal(cs_buf_cstr(&seen), "<whole>");
    cs_buf_free(&seen);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(reads_hclog),
        CASE(reads_other_lines),
        CASE(knows_a_panic),
        CASE(cannot_be_taken_for_ours),
        CASE(takes_some_fields_only),
        CASE(stops_floods),
        CASE(does_not_count_what_is_not_shown),
        CASE(survives_without_memory),
        cmocka_unit_test(cuts_lines),
        cmocka_unit_test(loses_lines_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
