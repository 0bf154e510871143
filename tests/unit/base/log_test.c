/* SPDX-License-Identifier: Apache-2.0
 *
 * The expected lines were printed by logrus 1.9.4; their time is replaced by T.
 */
#include "base/log.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char dir[64], path[96];
    struct cs_log_sink *sink;
    struct cs_log log;
};

static void begin(struct fixture *f, enum cs_log_format format, enum cs_level level)
{
    snprintf(f->dir, sizeof f->dir, "/tmp/cspire-log-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/log", f->dir);
    assert_int_equal(cs_log_sink_open(f->path, format, level, &f->sink, NULL), CS_OK);
    f->log = (struct cs_log){.sink = f->sink};
}

static void end(struct fixture *f)
{
    cs_log_sink_free(f->sink);
    unlink(f->path);
    rmdir(f->dir);
}

/* Replaces the value of each time by T, after a look at it. */
static char *read_lines(const char *path, bool nano)
{
    struct cs_buf CS_CLEANUP(cs_buf_free) in = {0};
    struct cs_buf out = {0};
    assert_int_equal(cs_file_read(path, 1 << 20, &in, NULL), CS_OK);
    const char *p = cs_buf_cstr(&in);
    while (*p != '\0') {
        const char *line = p, *eol = strchr(p, '\n');
        assert_non_null(eol);
        size_t skip = strlen("\"time\":\"");
        const char *t = *p == '{' ? strstr(p, "\"time\":\"") : p;
        if (*p != '{')
            skip = strlen("time=\"");
        assert_true(t != NULL && t < eol);
        t += skip;
        const char *close = strchr(t, '"');
        int64_t s;
        int32_t ns;
        assert_int_equal(cs_time_parse_rfc3339(cs_slice_of(t, (size_t)(close - t)), &s, &ns, NULL), CS_OK);
        assert_true(nano || ns == 0);
        cs_buf_add(&out, line, (size_t)(t - line));
        cs_buf_add_byte(&out, 'T');
        cs_buf_add(&out, close, (size_t)(eol + 1 - close));
        p = eol + 1;
    }
    return cs_buf_take_str(&out);
}

static void emit_all(struct cs_log *l)
{
    static const char *const list[] = {"a", "b c", NULL}, *const none[] = {NULL}, *const one[] = {"a", NULL};
    struct cs_log sub = cs_log_sub(*l, "endpoints");
    struct cs_err e;
    (void)cs_fail(&e, CS_INTERNAL, "rpc error: code = Internal desc = \"x\"\n<tag> & more");
    cs_log_info(&sub, "Starting Server APIs", KV("network", "tcp"), KV("address", "127.0.0.1:8081"));
    cs_log_error(l, "Failed", KV("spiffe_id", "spiffe://example.org/a"), KV_ERR(&e));
    cs_log_warn(l, "plain", KV("empty", ""), KV_INT("n", -5), KV_BOOL("yes", true), KV_STRS("list", list),
                KV_STRS("none", none), KV_STRS("one", one), KV_STRS("nil", NULL));
    cs_log_debug(l, "clash", KV("time", "a"), KV("msg", "b"), KV("level", "c"), KV("logrus_error", "d"));
    cs_log(l, CS_LOG_TRACE, "it's", KV("k", "a-b.c_d/e@f^g+h"), KV("l", "a:b"), KV("m", "a=b"),
           KV("n", "\xc3\xa9"), KV("o", "x\xffy"), KV("p", "\xe2\x80\xa8\x01\x7f"));
    cs_log_info(l, "", KV("Upper", "1"), KV("_u", "2"), KV("lower", "3"), KV("low", "4"), KV("zz", "5"));
    cs_log_info(l, "no fields");
    cs_log_info(l, "null", KV("key", NULL));
}

static const char text_lines[] =
    "time=\"T\" level=info msg=\"Starting Server APIs\" address=\"127.0.0.1:8081\" network=tcp "
    "subsystem_name=endpoints\n"
    "time=\"T\" level=error msg=Failed error=\"rpc error: code = Internal desc = \\\"x\\\"\\n<tag> & more\" "
    "spiffe_id=\"spiffe://example.org/a\"\n"
    "time=\"T\" level=warning msg=plain empty= list=\"[a b c]\" n=-5 nil=\"[]\" none=\"[]\" one=\"[a]\" "
    "yes=true\n"
    "time=\"T\" level=debug msg=clash fields.level=c fields.logrus_error=d fields.msg=b fields.time=a\n"
    "time=\"T\" level=trace msg=\"it's\" k=a-b.c_d/e@f^g+h l=\"a:b\" m=\"a=b\" n=\"\xc3\xa9\" o=\"x\\xffy\" "
    "p=\"\\u2028\\x01\\x7f\"\n"
    "time=\"T\" level=info Upper=1 _u=2 low=4 lower=3 zz=5\n"
    "time=\"T\" level=info msg=\"no fields\"\n"
    "time=\"T\" level=info msg=null key=\n";

static const char json_lines[] =
    "{\"address\":\"127.0.0.1:8081\",\"level\":\"info\",\"msg\":\"Starting Server APIs\",\"network\":\"tcp\","
    "\"subsystem_name\":\"endpoints\",\"time\":\"T\"}\n"
    "{\"error\":\"rpc error: code = Internal desc = \\\"x\\\"\\n\\u003ctag\\u003e \\u0026 "
    "more\",\"level\":\"error\","
    "\"msg\":\"Failed\",\"spiffe_id\":\"spiffe://example.org/a\",\"time\":\"T\"}\n"
    "{\"empty\":\"\",\"level\":\"warning\",\"list\":[\"a\",\"b "
    "c\"],\"msg\":\"plain\",\"n\":-5,\"nil\":null,\"none\":[],"
    "\"one\":[\"a\"],\"time\":\"T\",\"yes\":true}\n"
    "{\"fields.level\":\"c\",\"fields.logrus_error\":\"d\",\"fields.msg\":\"b\",\"fields.time\":\"a\","
    "\"level\":\"debug\",\"msg\":\"clash\",\"time\":\"T\"}\n"
    "{\"k\":\"a-b.c_d/"
    "e@f^g+h\",\"l\":\"a:b\",\"level\":\"trace\",\"m\":\"a=b\",\"msg\":\"it's\",\"n\":\"\xc3\xa9\","
    "\"o\":\"x\\ufffdy\",\"p\":\"\\u2028\\u0001\x7f\",\"time\":\"T\"}\n"
    "{\"Upper\":\"1\",\"_u\":\"2\",\"level\":\"info\",\"low\":\"4\",\"lower\":\"3\",\"msg\":\"\",\"time\":"
    "\"T\","
    "\"zz\":\"5\"}\n"
    "{\"level\":\"info\",\"msg\":\"no fields\",\"time\":\"T\"}\n"
    "{\"key\":\"\",\"level\":\"info\",\"msg\":\"null\",\"time\":\"T\"}\n";

static void lines_are_logrus(void **state)
{
    (void)state;
    static const struct {
        enum cs_log_format format;
        const char *want;
    } t[] = {{CS_LOG_TEXT, text_lines}, {CS_LOG_TEXT_NANO, text_lines}, {CS_LOG_JSON, json_lines}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct fixture f;
        begin(&f, t[i].format, CS_LOG_TRACE);
        emit_all(&f.log);
        char *got = read_lines(f.path, t[i].format != CS_LOG_TEXT);
        assert_string_equal(got, t[i].want);
        cs_free(got);
        end(&f);
    }
}

static int evaluated;
static const char *evaluate(void)
{
    evaluated++;
    return "x";
}

static void levels_filter(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, CS_LOG_TEXT, CS_LOG_WARN);
    evaluated = 0;
    cs_log_info(&f.log, "hidden", KV("k", evaluate()));
    assert_int_equal(evaluated, 0);
    cs_log_warn(&f.log, "shown");
    cs_log_sink_set_level(f.sink, CS_LOG_DEBUG);
    assert_int_equal(cs_log_sink_level(f.sink), CS_LOG_DEBUG);
    cs_log_debug(&f.log, "now");
    cs_log(&f.log, CS_LOG_TRACE, "hidden");
    struct cs_log silent = {0};
    cs_log_error(&silent, "hidden", KV("k", evaluate()));
    assert_int_equal(evaluated, 0);
    char *got = read_lines(f.path, false);
    assert_string_equal(got, "time=\"T\" level=warning msg=shown\ntime=\"T\" level=debug msg=now\n");
    cs_free(got);
    end(&f);
}

static void fixed_fields(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, CS_LOG_TEXT, CS_LOG_INFO);
    struct cs_log l = cs_log_sub(f.log, "one");
    l = cs_log_sub(l, "two"); /* replaces */
    l = cs_log_with(l, KV("b", "1"));
    cs_log_info(&l, "m", KV("b", "2")); /* the line's own value wins */
    l = cs_log_with(l, KV("c", "3"));
    l = cs_log_with(l, KV("d", "4"));
    l = cs_log_with(l, KV("e", "5")); /* drops subsystem_name, the oldest */
    cs_log_info(&l, "m");
    char *got = read_lines(f.path, false);
    assert_string_equal(got, "time=\"T\" level=info msg=m b=2 subsystem_name=two\n"
                             "time=\"T\" level=info msg=m b=1 c=3 d=4 e=5\n");
    cs_free(got);
    end(&f);
}

static void source_location(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, CS_LOG_TEXT, CS_LOG_INFO);
    cs_log_sink_set_source(f.sink, true);
    cs_log_info(&f.log, "m", KV("a", "b"));
    char *got = read_lines(f.path, false);
    assert_non_null(strstr(got, "a=b file=\"log_test.c:"));
    assert_non_null(strstr(got, "func=source_location\n"));
    cs_free(got);
    end(&f);
}

static void long_lines(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, CS_LOG_JSON, CS_LOG_INFO);
    char *big = cs_malloc(2 << 20);
    memset(big, 'x', 2 << 20);
    big[100000] = '\0';
    cs_log_info(&f.log, "m", KV("k", big));
    char *got = read_lines(f.path, true);
    assert_true(strlen(got) > 100000);
    cs_free(got);
    big[100000] = 'x';
    big[(2 << 20) - 1] = '\0';
    assert_int_equal(truncate(f.path, 0), 0);
    cs_log_info(&f.log, "m", KV("k", big));
    got = read_lines(f.path, true);
    assert_string_equal(got, "{\"level\":\"info\",\"msg\":\"m\",\"time\":\"T\"}\n");
    cs_free(got);
    cs_free(big);
    end(&f);
}

static void reopens_after_rotation(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, CS_LOG_TEXT, CS_LOG_INFO);
    cs_log_info(&f.log, "before");
    char old[128];
    snprintf(old, sizeof old, "%s.1", f.path);
    assert_int_equal(rename(f.path, old), 0);
    cs_log_info(&f.log, "still");
    assert_int_equal(cs_log_sink_reopen(f.sink, NULL), CS_OK);
    cs_log_info(&f.log, "after");
    char *a = read_lines(old, false), *b = read_lines(f.path, false);
    assert_string_equal(a, "time=\"T\" level=info msg=before\ntime=\"T\" level=info msg=still\n");
    assert_string_equal(b, "time=\"T\" level=info msg=after\n");
    cs_free(a);
    cs_free(b);
    unlink(old);
    end(&f);

    struct cs_log_sink *s;
    struct cs_err e;
    assert_int_equal(cs_log_sink_open("/nonexistent/log", CS_LOG_TEXT, CS_LOG_INFO, &s, &e), CS_INTERNAL);
    assert_string_equal(e.text, "open /nonexistent/log: no such file or directory");
    assert_null(s);
    assert_int_equal(cs_log_sink_open(NULL, CS_LOG_TEXT, CS_LOG_INFO, &s, &e), CS_OK);
    assert_int_equal(cs_log_sink_reopen(s, &e), CS_OK);
    cs_log_sink_free(s);
}

enum { THREADS = 4, LINES = 500 };
static void *many_lines(void *arg)
{
    struct fixture *f = arg;
    for (int i = 0; i < LINES; i++)
        cs_log_info(&f->log, "a line that must stay whole", KV_INT("i", i));
    return NULL;
}

static void lines_stay_whole(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, CS_LOG_TEXT, CS_LOG_INFO);
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, many_lines, &f), 0);
    for (int i = 0; i < THREADS; i++) {
        cs_log_sink_set_level(f.sink, CS_LOG_INFO);
        assert_int_equal(cs_log_sink_reopen(f.sink, NULL), CS_OK);
        pthread_join(t[i], NULL);
    }
    char *got = read_lines(f.path, false);
    size_t n = 0;
    for (char *p = got; *p != '\0'; n++) {
        char *eol = strchr(p, '\n');
        static const char start[] = "time=\"T\" level=info msg=\"a line that must stay whole\" i=";
        assert_memory_equal(p, start, sizeof start - 1);
        p = eol + 1;
    }
    assert_int_equal(n, THREADS * LINES);
    cs_free(got);
    end(&f);
}

static void limiter_counts_what_it_holds(void **state)
{
    (void)state;
    struct cs_log_limit lim = {0};
    uint32_t held = 0, passed = 0, told = 0;
    for (int i = 0; i < 1000; i++) {
        if (cs_log_limit_ok(&lim, 5, &held))
            passed++;
        told += held;
    }
    /* a second may end in between */
    assert_true(passed >= 5 && passed <= 15);
    atomic_store(&lim.window_s, 1);
    assert_true(cs_log_limit_ok(&lim, 5, &held));
    assert_int_equal(told + held, 1000 - passed);
}

static void names(void **state)
{
    (void)state;
    enum cs_level l;
    enum cs_log_format fmt;
    struct cs_err e;
    assert_int_equal(cs_level_parse("WARN", &l, &e), CS_OK);
    assert_int_equal(l, CS_LOG_WARN);
    assert_int_equal(cs_level_parse("Warning", &l, &e), CS_OK);
    assert_int_equal(l, CS_LOG_WARN);
    assert_int_equal(cs_level_parse("trace", &l, &e), CS_OK);
    assert_int_equal(l, CS_LOG_TRACE);
    assert_string_equal(cs_level_name(CS_LOG_WARN), "warning");
    assert_int_equal(cs_level_parse("loud", &l, &e), CS_INVALID);
    assert_string_equal(e.text, "not a valid logrus Level: \"loud\"");
    assert_int_equal(cs_level_parse("", &l, &e), CS_INVALID);
    assert_string_equal(e.text, "not a valid logrus Level: \"\"");
    assert_int_equal(cs_log_format_parse(NULL, &fmt, &e), CS_OK);
    assert_int_equal(fmt, CS_LOG_TEXT);
    assert_int_equal(cs_log_format_parse("Json", &fmt, &e), CS_OK);
    assert_int_equal(fmt, CS_LOG_JSON);
    assert_int_equal(cs_log_format_parse("text", &fmt, &e), CS_OK);
    assert_int_equal(fmt, CS_LOG_TEXT_NANO);
    assert_int_equal(cs_log_format_parse("xml", &fmt, &e), CS_INVALID);
    assert_string_equal(e.text, "unknown logger format: \"xml\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_logrus),
        cmocka_unit_test(levels_filter),
        cmocka_unit_test(fixed_fields),
        cmocka_unit_test(source_location),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(reopens_after_rotation),
        cmocka_unit_test(lines_stay_whole),
        cmocka_unit_test(limiter_counts_what_it_holds),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
