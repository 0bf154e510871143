/* SPDX-License-Identifier: Apache-2.0 */
#include "config/hcl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

struct fixture {
    struct cs_arena *a;
    struct hcl_items items;
    struct cs_err e;
};

static cs_code parse(struct fixture *f, const char *text)
{
    cs_arena_free(f->a);
    f->a = cs_arena_new(0, 0);
    assert_non_null(f->a);
    f->e = (struct cs_err){0};
    cs_code code = hcl_parse(cs_slice_str(text), f->a, &f->items, &f->e);
    assert_int_equal(code, f->e.code);
    return code;
}

static int set_up(void **state)
{
    static struct fixture f;
    f = (struct fixture){0};
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    cs_arena_free(f->a);
    return 0;
}

/* The text of the only value. */
static const char *value(struct fixture *f, const char *text)
{
    if (parse(f, text) != CS_OK)
        fail_msg("%s: %s", text, f->e.text);
    assert_int_equal(f->items.len, 1);
    return f->items.at[0]->value->text;
}

static void expect_error(struct fixture *f, const char *text, cs_code code, const char *message)
{
    assert_int_equal(parse(f, text), code);
    assert_string_equal(f->e.text, message);
    assert_int_equal(f->items.len, 0);
}

static void strings(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(value(f, "a = \"\""), "");
    assert_string_equal(value(f, "a = \"b c\""), "b c");
    assert_string_equal(value(f, "a = \"\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\""), "\a\b\f\n\r\t\v\\\"");
    assert_string_equal(value(f, "a = \"\\x41\\102\\u0043\\U00000044\\u00e9\""), "ABCD\xC3\xA9");
    assert_string_equal(value(f, "a = \"\\U0001F600\\ud800\""), "\xF0\x9F\x98\x80\xEF\xBF\xBD");
    assert_string_equal(value(f, "a = \"${b(\"c\\n\")}d\\n\""), "${b(\"c\\n\")}d\n");
    assert_string_equal(value(f, "a = \"${b{}}\" // \"x\""), "${b{}}");
    expect_error(f, "a = \"\\x00\"", CS_INVALID, "At 1:5: null character in quoted string");
    expect_error(f, "a = \"\\400\"", CS_INVALID, "At 1:5: invalid syntax in quoted string");
    expect_error(f, "a = \"\\UFFFFFFFF\"", CS_INVALID, "At 1:5: invalid syntax in quoted string");
    expect_error(f, "a = \"b", CS_INVALID, "At 1:7: literal not terminated");
    expect_error(f, "a = \"\\q\"", CS_INVALID, "At 1:7: illegal char escape");
    expect_error(f, "a = \"\xff\"", CS_INVALID, "At 1:6: illegal UTF-8 encoding");
    expect_error(f, "a = \"\xed\xa0\x80\"", CS_INVALID, "At 1:8: illegal UTF-8 encoding");
}

static void heredocs(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(value(f, "a = <<EOF\nb\n  c\nEOF\n"), "b\n  c\n");
    assert_string_equal(value(f, "a = <<EOF\nEOF\n"), "");
    assert_string_equal(value(f, "a = <<EOF\r\nb\r\nEOF\r\n"), "b\n");
    /* HCL keeps the blanks before an indented anchor. */
    assert_string_equal(value(f, "a = <<EOF\nb\n  EOF\n"), "b\n  ");
    assert_string_equal(value(f, "a = <<-EOF\n    b\n      c\n    EOF\n"), "b\n  c\n");
    assert_string_equal(value(f, "a = <<-EOF\n  b\n    EOF\n"), "  b\n");
    assert_string_equal(value(f, "a = <<-E\n\tb\n\tE\n"), "b\n");
    assert_string_equal(value(f, "a = <<EOF\n<<EOF\nEOFx\nEOF\n"), "<<EOF\nEOFx\n");
    expect_error(f, "a = <<EOF\nb\nEOF", CS_INVALID, "At 3:4: heredoc not terminated");
    expect_error(f, "a = <<\n", CS_INVALID, "At 1:7: zero-length heredoc anchor");
}

static void numbers_and_bools(void **state)
{
    static const struct {
        const char *text;
        enum hcl_kind kind;
    } good[] = {{"1", HCL_NUMBER},  {"-5", HCL_NUMBER},     {"0x1F", HCL_NUMBER}, {"017", HCL_NUMBER},
                {"1.5", HCL_FLOAT}, {"-0.5e-3", HCL_FLOAT}, {"1e9", HCL_FLOAT},   {".5", HCL_FLOAT},
                {"true", HCL_BOOL}, {"false", HCL_BOOL}};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "a = %s\n", good[i].text);
        assert_string_equal(value(f, text), good[i].text);
        assert_int_equal(f->items.at[0]->value->kind, good[i].kind);
    }
    expect_error(f, "a = 1.5E", CS_INVALID, "At 1:5: illegal floating-point number");
    expect_error(f, "a = 8e+\n", CS_INVALID, "At 1:5: illegal floating-point number");
    expect_error(f, "{\"a\": 8e}", CS_INVALID, "At 1:7: illegal floating-point number");
    expect_error(f, "a = 0189", CS_INVALID, "At 1:9: illegal octal number");
}

static void blocks_and_labels(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(parse(f, "a \"b\" c { d = [1, \"x\", {e = 2}, [3],], } # tail\nf {}\n/* x */ g = {}\n"),
                     CS_OK);
    assert_int_equal(f->items.len, 3);
    const struct hcl_item *a = f->items.at[0];
    assert_int_equal(a->key_count, 3);
    assert_true(a->keys[0].named && !a->keys[1].named && a->keys[2].named);
    assert_string_equal(a->keys[1].text, "b");
    assert_false(a->assigned);
    assert_int_equal(a->keys[2].pos.column, 7);
    const struct hcl_node *list = a->value->items.at[0]->value;
    assert_int_equal(list->kind, HCL_LIST);
    assert_int_equal(list->list_len, 4);
    assert_int_equal(list->list[2]->kind, HCL_OBJECT);
    assert_int_equal(list->list[3]->list_len, 1);
    assert_true(f->items.at[2]->assigned);
    assert_int_equal(f->items.at[2]->keys[0].pos.line, 3);
    assert_true(hcl_key_is(&f->items.at[1]->keys[0], "F"));
}

static void json(void **state)
{
    struct fixture *f = *state;
    /* Objects in objects become labels; a list of objects becomes repeated items. */
    assert_int_equal(parse(f, "{\"p\": {\"K\": {\"m\": {\"x\": 1}}, \"L\": [{\"n\": {}}, {\"o\": {}}]}, "
                              "\"s\": {\"t\": \"\\u00e9\"}}"),
                     CS_OK);
    assert_int_equal(f->items.len, 2);
    const struct hcl_item *p = f->items.at[0];
    assert_int_equal(p->key_count, 1);
    assert_int_equal(p->value->items.len, 3);
    assert_int_equal(p->value->items.at[0]->key_count, 2);
    assert_string_equal(p->value->items.at[2]->keys[1].text, "o");
    assert_string_equal(f->items.at[1]->value->items.at[0]->value->text, "\xC3\xA9");
    assert_string_equal(value(f, " \t\r\n{\"a\": null}"), "");
    assert_string_equal(value(f, "{\"a\": \"${b\"}"), "${b");
    assert_string_equal(value(f, "{\"a\": 1} garbage"), "1");
    assert_string_equal(value(f, "{\"a\": 1"), "1");
    expect_error(f, "{\"a\": \"\\u0000\"}", CS_INVALID, "At 1:7: null character in quoted string");
    expect_error(f, "{\"a\": \"\\ud800\"}", CS_INVALID, "At 1:7: invalid syntax in quoted string");
    expect_error(f, "{\"a\": 01}", CS_INVALID, "At 1:8: numbers cannot start with 0");
    expect_error(f, "{\"a\": \"\\/\"}", CS_INVALID, "At 1:9: illegal char escape");
    expect_error(f, "{\"a\" 1}", CS_INVALID, "At 1:6: expected: STRING got: NUMBER");
}

static void limits(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    for (size_t i = 0; i < 10000; i++)
        cs_buf_add_str(&b, "a {");
    expect_error(f, cs_buf_cstr(&b), CS_EXHAUSTED, "At 1:195: nested more than 64 levels deep");
    cs_buf_reset(&b);
    cs_buf_add_str(&b, "a = ");
    for (size_t i = 0; i < 10000; i++)
        cs_buf_add_str(&b, "[");
    expect_error(f, cs_buf_cstr(&b), CS_EXHAUSTED, "At 1:69: nested more than 64 levels deep");
    cs_buf_reset(&b);
    for (size_t i = 0; i < 10000; i++)
        cs_buf_add_str(&b, "{\"a\":");
    expect_error(f, cs_buf_cstr(&b), CS_EXHAUSTED, "At 1:321: nested more than 64 levels deep");
    cs_buf_reset(&b);
    for (size_t i = 0; i < 40000; i++)
        cs_buf_add_str(&b, "a=1\n");
    assert_int_equal(parse(f, cs_buf_cstr(&b)), CS_EXHAUSTED);
    cs_buf_reset(&b);
    for (size_t i = 0; i <= HCL_MAX_SIZE; i++)
        cs_buf_add_byte(&b, ' ');
    assert_int_equal(parse(f, cs_buf_cstr(&b)), CS_EXHAUSTED);
    struct cs_slice nul = cs_slice_of("a = 1\0", 6);
    assert_int_equal(hcl_parse(nul, f->a, &f->items, &f->e), CS_INVALID);
    assert_string_equal(f->e.text, "At 1:6: unexpected null character (0x00)");
}

static const char sample[] =
    "a \"b\" {\n c = \"x\\n${y}\\\"\"\n d = <<E\nq\nE\n e = [1, -2.5, true, {f = \"\\xff\"}]\n}\ng = {}\n";

static void printing(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf once = {0}, twice = {0};
    assert_int_equal(parse(f, sample), CS_OK);
    hcl_print(&once, f->items);
    assert_string_equal(cs_buf_cstr(&once), "a \"b\" {\n"
                                            "  c = \"x\\n\\x24{y}\\\"\"\n"
                                            "  d = \"q\\n\"\n"
                                            "  e = [1, -2.5, true, {\n"
                                            "    f = \"\\xff\"\n"
                                            "  }]\n"
                                            "}\n\n"
                                            "g = {}\n");
    assert_int_equal(parse(f, cs_buf_cstr(&once)), CS_OK);
    assert_string_equal(f->items.at[0]->value->items.at[0]->value->text, "x\n${y}\"");
    hcl_print(&twice, f->items);
    assert_string_equal(cs_buf_cstr(&once), cs_buf_cstr(&twice));
}

/* Each allocation fails in turn: an error, no leak (sanitizers watch), no half-made tree. */
static void no_memory(void **state)
{
    (void)state;
    static const char *const texts[] = {sample,
                                        "{\"p\": {\"K\": {\"m\": {\"x\": [1]}}, \"L\": [{\"n\": {}}]}}"};
    for (size_t t = 0; t < 2; t++) {
        for (size_t n = 1;; n++) {
            struct cs_err e = {0};
            struct hcl_items items;
            CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
            (void)cs_mem_fail_at(n, true);
            struct cs_arena *a = cs_arena_new(64, 0);
            cs_code code = a == NULL ? CS_INTERNAL : hcl_parse(cs_slice_str(texts[t]), a, &items, &e);
            if (code == CS_OK)
                hcl_print(&out, items);
            (void)cs_mem_fail_at(0, false);
            bool done = code == CS_OK && cs_buf_ok(&out);
            assert_true(code == CS_OK || code == CS_INTERNAL);
            cs_arena_free(a);
            if (done)
                break;
            assert_true(n < 1000);
        }
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {T(strings), T(heredocs), T(numbers_and_bools), T(blocks_and_labels),
                                       T(json),    T(limits),   T(printing),          T(no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
