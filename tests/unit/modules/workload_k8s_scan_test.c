/* SPDX-License-Identifier: Apache-2.0
 *
 * The JSON scanner: what it tells of texts, wherever pieces end, and that what is passed over ends where it
 * does when it is told.
 */
#include "base/mem.h"
#include "plugins/modules/workload_k8s/pass.h"
#include "plugins/modules/workload_k8s/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Writes down what it is told, and passes over what has the key "pass", and arrays that follow a key "array".
 */
struct journal {
    struct cs_buf out;
    bool array;
};

static cs_code write_down(void *arg, enum k8s_scan_event what, struct cs_slice text, bool *pass,
                          struct cs_err *e)
{
    static const char *const names[] = {"null ",    "word ", "\"", "long ", "key ",
                                        "longkey ", "{ ",    "[ ", "end "};
    struct journal *j = arg;
    (void)e;
    if (what == K8S_SCAN_KEY) {
        *pass = cs_slice_is(text, "pass");
        j->array = cs_slice_is(text, "array");
    }
    if ((what == K8S_SCAN_ARRAY && j->array) || what <= K8S_SCAN_LONG_TEXT || what == K8S_SCAN_END)
        *pass = true; /* which means nothing of values that are told already */
    cs_buf_add_str(&j->out, names[what]);
    cs_buf_add_slice(&j->out, text);
    if (text.len > 0 || what == K8S_SCAN_TEXT)
        cs_buf_add_byte(&j->out, ' ');
    return CS_OK;
}

static cs_code scan(const char *text, size_t n, size_t step, struct journal *j, struct cs_err *e)
{
    CS_AUTO(k8s_scan) s = NULL;
    CS_TRY(k8s_scan_new(write_down, j, &s, e));
    for (size_t at = 0; at < n; at += step) {
        size_t len = n - at < step ? n - at : step;
        char *piece = malloc(len); /* of its own, for what a sanitizer can see */
        assert_non_null(piece);
        memcpy(piece, text + at, len);
        cs_code rc = k8s_scan_add(s, cs_slice_of(piece, len), e);
        free(piece);
        CS_TRY(rc);
    }
    return k8s_scan_end(s, e);
}

static void expect_n(const char *text, size_t n, const char *want)
{
    for (size_t step = 1; step <= n + 1; step = step < 80 ? step + 1 : step + 1000) {
        struct journal j = {0};
        struct cs_err e = {0};
        cs_code rc = scan(text, n, step, &j, &e);
        if (want == NULL && rc == CS_OK)
            fail_msg("%s: in pieces of %zu: %s", text, step, cs_buf_cstr(&j.out));
        if (want != NULL && (rc != CS_OK || strcmp(cs_buf_cstr(&j.out), want) != 0))
            fail_msg("%s: in pieces of %zu: %s%s", text, step, cs_buf_cstr(&j.out), e.text);
        cs_buf_free(&j.out);
    }
}

/* Also with blanks behind it, so that all of it is in blocks. */
static void expect(const char *text, const char *want)
{
    struct cs_buf b = {0};
    expect_n(text, strlen(text), want);
    cs_buf_add_str(&b, text);
    for (size_t i = 0; i < 128; i++)
        cs_buf_add_byte(&b, ' ');
    expect_n(cs_buf_cstr(&b), b.len, want);
    cs_buf_free(&b);
}

static void test_tells(void **state)
{
    (void)state;
    expect(" {\"a\" : [1, true,null , \"x\",{}], \"b\":{\"c\":-0.5e+10}}\n",
           "{ key a [ word word null \"x { end end key b { key c word end end ");
    expect("7", "word ");
    expect("[0,-1,1.25,1e5,1E-5,10]", "[ word word word word word word end ");
    expect("\"\"", "\" ");
    expect("[[],[[]]]", "[ [ end [ [ end end end ");
}

static void test_texts(void **state)
{
    (void)state;
    expect("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\"\\/\b\f\n\r\t ");
    expect("\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00x\"", "\"A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80x ");
    expect("\"\\ud83d\\ud83d\\ude00\"", "\"\xef\xbf\xbd\xf0\x9f\x98\x80 "); /* halves of pairs */
    expect("\"\\ude00 \\ud83dx \\ud83d\\n\"", "\"\xef\xbf\xbd \xef\xbf\xbdx \xef\xbf\xbd\n ");
    expect("\"\xc3\xa9\xe2\x82\xac\xff\"", "\"\xc3\xa9\xe2\x82\xac\xff "); /* the caller looks at these */
    expect("{\"\\u0061\\\"\":1}", "{ key a\" word end ");
    expect("{\"p\\u0061ss\":[1],\"a\":2}", "{ key pass key a word end ");
    for (size_t i = 0; i < 3; i++) {
        static const char *const bad[] = {"\"\\x\"", "\"\\u12g4\"", "\"\\u123\""};
        expect(bad[i], NULL);
    }
    expect_n("\"a\0b\"", 5, NULL); /* control characters */
    expect("\"a\nb\"", NULL);
    expect("\"\\\n\"", NULL);
    expect("\"01234567890123456789\x1f\"", NULL);
}

static void test_passes(void **state)
{
    (void)state;
    expect("{\"pass\":1,\"a\":2}", "{ key pass key a word end ");
    expect("{\"pass\":\"x\",\"a\":2}", "{ key pass key a word end ");
    expect("{\"pass\":\"\",\"pass\":\"\\\"\",\"pass\":\"\\\\\",\"a\":2}",
           "{ key pass key pass key pass key a word end ");
    expect("{\"pass\":{},\"pass\":[],\"a\":[\"pass\",1]}",
           "{ key pass key pass key a [ \"pass word end end ");
    expect("{\"array\":[[1,{\"a\":[]}],\"]\"],\"a\":[0]}", "{ key array [ key a [ word end end ");
    expect("{\"pass\":{\"a\":\"}]\\\\\",\"b\":[{\"x\":[[],{}]},\"\\\"}\",\"\\\\\\\"\"]},\"a\":2}",
           "{ key pass key a word end ");
    /* what is passed over is not looked at, but for what says where it ends */
    expect("{\"pass\":{nonsense,,\"a\"\"\xff\n\\x\":1:},\"a\":2}", "{ key pass key a word end ");
    expect("{\"pass\":{\\},\"a\":2}", NULL);
    expect("{\"pass\":{\"a\"\\\"}\",\"a\":2}", NULL);
    expect("{\"pass\":{]},\"a\":2}", NULL);
    expect("{\"pass\":[{]}],\"a\":2}", NULL);
    expect("{\"pass\":[{],1],\"a\":2}", NULL);
    expect("{\"pass\":[[}],\"a\":2}", NULL);
    expect("{\"pass\":nonsense,\"a\":2}", NULL);
    expect("{\"pass\":1 2}", NULL);
    expect("{\"pass\":}", NULL);
    expect("{\"pass\":{\"a\":1}", NULL);
    expect("{\"pass\":\"a", NULL);
    expect("{\"pass\"", NULL);
}

/* What ends the value, at each place of a block, with and without texts and escapes in front of it. */
static void test_blocks(void **state)
{
    (void)state;
    static const char *const fillers[] = {"a",    "{}",       "[{}]", "\"]}\"", "\"\\\\\"", "\"\\\\\\\"}\"",
                                          "\"\"", "[[{}],{}]"};
    for (size_t f = 0; f < sizeof fillers / sizeof fillers[0]; f++) {
        for (size_t front = 0; front < 70; front++) {
            struct cs_buf b = {0};
            cs_buf_add_str(&b, "{\"pass\":[");
            for (size_t i = 0; i < front; i++)
                cs_buf_add_byte(&b, ' ');
            for (size_t i = 0; i < 40; i++)
                cs_buf_add_str(&b, fillers[f]);
            cs_buf_add_str(&b, "],\"a\":\"\\\\{\",\"pass\":\"");
            for (size_t i = 0; i < front; i++)
                cs_buf_add_str(&b, i % 3 == 0 ? "\\\"" : "]}");
            cs_buf_add_str(&b, "\",\"b\":[]}");
            expect_n(cs_buf_cstr(&b), b.len, "{ key pass key a \"\\{ key pass key b [ end end ");
            cs_buf_free(&b);
        }
    }
}

/* The limit is the same in blocks and in bytes, for what is told and for what is passed over. */
static void test_depth(void **state)
{
    (void)state;
    static const char *const pairs[] = {"[]", "{}"};
    for (size_t told = 0; told < 2; told++) {
        for (size_t extra = 0; extra < 2; extra++) {
            for (size_t step = 1; step < 400; step += 57) {
                struct journal j = {0};
                struct cs_err e = {0};
                struct cs_buf b = {0};
                cs_buf_add_str(&b, told != 0 ? "[" : "{\"pass\":");
                for (size_t i = 0; i < K8S_NEST_MAX - 2 + extra; i++)
                    cs_buf_add_byte(&b, '[');
                cs_buf_add_str(&b, pairs[extra]);
                for (size_t i = 0; i < K8S_NEST_MAX - 2 + extra; i++)
                    cs_buf_add_byte(&b, ']');
                cs_buf_add_str(&b, told != 0 ? "]" : "}");
                assert_int_equal(scan(cs_buf_cstr(&b), b.len, step, &j, &e),
                                 extra != 0 ? CS_EXHAUSTED : CS_OK);
                cs_buf_free(&b);
                cs_buf_free(&j.out);
            }
        }
    }
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "[",
                                      "]",
                                      "}",
                                      "{]",
                                      "[}",
                                      "[1,]",
                                      "[,1]",
                                      "{\"a\"}",
                                      "{1:2}",
                                      "{a:2}",
                                      "{\"a\":",
                                      "[1 2]",
                                      "1 2",
                                      "{}{}",
                                      "[]]",
                                      "tru",
                                      "nulls",
                                      "True",
                                      "01",
                                      "-",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "1e+",
                                      "+1",
                                      "0x1",
                                      "1a",
                                      "NaN",
                                      "--1",
                                      "{\"a\":1,}",
                                      "\"a",
                                      "\"a\\",
                                      "\"a\\\"",
                                      "[\"a\"",
                                      ":",
                                      ",",
                                      "\\",
                                      "'a'",
                                      "[1/**/]",
                                      "\xef\xbb\xbf[]",
                                      "{\"a\" \"b\"}",
                                      "{\"a\":1 \"b\":2}",
                                      "[\x01]",
                                      "{\"a\"::1}",
                                      "{\"a\":1,,\"b\":2}",
                                      "-01",
                                      "1.e5",
                                      "1e5.0"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect(bad[i], NULL);
}

static void test_long(void **state)
{
    (void)state;
    struct cs_err e;
    for (size_t extra = 0; extra < 2; extra++) {
        struct cs_buf b = {0};
        struct journal j = {0};
        cs_buf_add_str(&b, "{\"");
        for (size_t i = 0; i < K8S_SCAN_TEXT_MAX + extra; i++)
            cs_buf_add_byte(&b, 'a');
        cs_buf_add_str(&b, "\":[\"");
        for (size_t i = 0; i < (K8S_SCAN_TEXT_MAX + extra) / 2; i++)
            cs_buf_add_str(&b, "\\n");
        cs_buf_add_str(&b, extra != 0 ? "\\\"\",1]}" : "\",1]}");
        for (size_t step = 1000; step < b.len * 2; step *= 3) {
            cs_buf_reset(&j.out);
            assert_int_equal(scan(cs_buf_cstr(&b), b.len, step, &j, &e), CS_OK);
            const char *told = cs_buf_cstr(&j.out);
            if (extra != 0)
                assert_string_equal(told, "{ longkey [ long word end end ");
            else
                assert_int_equal(j.out.len, strlen("{ key  [ \" word end end ") + K8S_SCAN_TEXT_MAX * 3 / 2);
        }
        cs_buf_free(&b);
        cs_buf_free(&j.out);
    }
}

static cs_code refuse(void *arg, enum k8s_scan_event what, struct cs_slice text, bool *pass, struct cs_err *e)
{
    (void)text;
    (void)pass;
    return what == *(enum k8s_scan_event *)arg ? cs_fail(e, CS_ABORTED, "no") : CS_OK;
}

static void test_caller_ends_it(void **state)
{
    (void)state;
    for (enum k8s_scan_event what = K8S_SCAN_NULL; what <= K8S_SCAN_END; what++) {
        struct k8s_scan *s;
        struct cs_err e;
        if (what == K8S_SCAN_LONG_TEXT || what == K8S_SCAN_LONG_KEY)
            continue;
        assert_int_equal(k8s_scan_new(refuse, &what, &s, &e), CS_OK);
        assert_int_equal(k8s_scan_add(s, cs_slice_str("{\"a\":[null,true,\"x\"]}"), &e), CS_ABORTED);
        assert_string_equal(e.text, "no");
        k8s_scan_free(s);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    static const char text[] = "{\"a\\n\":\"bcdef\\u0041\",\"pass\":\"x\"}";
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        struct journal j = {0};
        struct cs_err e = {0};
        cs_buf_reserve(&j.out, 256);
        cs_mem_fail_at(n, true);
        rc = scan(text, sizeof text - 1, 3, &j, &e);
        cs_mem_fail_at(0, false);
        assert_int_equal(e.code, rc);
        cs_buf_free(&j.out);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tells),     cmocka_unit_test(test_texts),
        cmocka_unit_test(test_passes),    cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_depth),     cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_long),      cmocka_unit_test(test_caller_ends_it),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("workload_k8s_scan", tests, NULL, NULL);
}
