/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/flag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct opts {
    const char *s;
    bool b, p;
    int64_t i, d, t;
    struct cli_strings many, comma;
    struct cli_output out;
    enum cli_tristate tri;
};

static const struct cli_flag flags[] = {
    {"s", CLI_STRING, offsetof(struct opts, s), "a string", "dflt"},
    {"b", CLI_BOOL, offsetof(struct opts, b), "a bool", NULL},
    {"p", CLI_PRESENCE, offsetof(struct opts, p), "a presence", NULL},
    {"i", CLI_INT, offsetof(struct opts, i), "an int", "600"},
    {"d", CLI_DURATION, offsetof(struct opts, d), "a duration", NULL},
    {"t", CLI_TIMEOUT, offsetof(struct opts, t), "a timeout", "5s"},
    {"many", CLI_STRINGS, offsetof(struct opts, many), "many", NULL},
    {"comma", CLI_COMMA, offsetof(struct opts, comma), "commas", NULL},
    {"output", CLI_OUTPUT, offsetof(struct opts, out), "format", NULL},
    {"tri", CLI_TRISTATE, offsetof(struct opts, tri), "three", NULL},
    {NULL, CLI_STRING, 0, NULL, NULL},
};

/* Parse a command line given word by word; returns the result, fills *o and *e. */
#define PARSE(o, rest, e, ...)                                                                               \
    parse((o), (rest), (e), (const char *[]){__VA_ARGS__},                                                   \
          sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

static enum cli_flags_result parse(struct opts *o, int *rest, struct cs_err *e, const char **argv,
                                   size_t argc)
{
    memset(o, 0, sizeof *o);
    *e = (struct cs_err){0};
    assert_int_equal(cli_flags_defaults(flags, o, e), CS_OK);
    return cli_flags_parse(flags, o, (int)argc, (char **)(uintptr_t)argv, rest, e);
}

static void forms(void **state)
{
    (void)state;
    struct opts o;
    struct cs_err e;
    int rest;
    assert_int_equal(PARSE(&o, &rest, &e, "-s", "x", "--i=0x10", "-b", "--d", "1h30m", "word", "-p"),
                     CLI_FLAGS_OK);
    assert_string_equal(o.s, "x");
    assert_int_equal(o.i, 16);
    assert_true(o.b);
    assert_int_equal(o.d, INT64_C(5400) * 1000000000);
    assert_int_equal(o.t, INT64_C(5) * 1000000000);
    assert_int_equal(rest, 6);
    assert_false(o.p); /* flags after the first other word are not looked at */
    assert_int_equal(PARSE(&o, &rest, &e, "-b", "false", "-s", "y"), CLI_FLAGS_OK);
    assert_true(o.b);
    assert_int_equal(rest, 1);
    assert_int_equal(PARSE(&o, &rest, &e, "-b=F", "--", "-s", "y"), CLI_FLAGS_OK);
    assert_false(o.b);
    assert_string_equal(o.s, "dflt");
    assert_int_equal(rest, 2);
    assert_int_equal(PARSE(&o, &rest, &e, "-s", "y", "-", "-b"), CLI_FLAGS_OK);
    assert_int_equal(rest, 2);
    assert_int_equal(PARSE(&o, &rest, &e, "-p=false"), CLI_FLAGS_OK);
    assert_true(o.p);
    assert_int_equal(PARSE(&o, &rest, &e, "-s="), CLI_FLAGS_OK);
    assert_string_equal(o.s, "");
}

static void lists(void **state)
{
    (void)state;
    struct opts o;
    struct cs_err e;
    assert_int_equal(PARSE(&o, NULL, &e, "-many", "a,b", "-many=c", "-comma", "x", "-comma", "1,2,,3"),
                     CLI_FLAGS_OK);
    assert_int_equal(o.many.len, 2);
    assert_string_equal(o.many.at[0], "a,b");
    assert_string_equal(o.many.at[1], "c");
    assert_int_equal(o.comma.len, 4);
    assert_string_equal(o.comma.at[2], "");
    assert_string_equal(o.comma.at[3], "3");
    cli_flags_free(flags, &o);
    assert_int_equal(PARSE(&o, NULL, &e, "-tri", "true"), CLI_FLAGS_OK);
    assert_int_equal(o.tri, CLI_TRUE);
    assert_int_equal(PARSE(&o, NULL, &e, "-tri", "perhaps"), CLI_FLAGS_OK);
    assert_int_equal(o.tri, CLI_ANY);
    assert_int_equal(PARSE(&o, NULL, &e, "-output", "JSON", "-output", "json"), CLI_FLAGS_OK);
    assert_true(o.out.json);
}

static void integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t want;
    } good[] = {{"1", 1},
                {"-1", -1},
                {"+5", 5},
                {"0x10", 16},
                {"010", 8},
                {"0o17", 15},
                {"0b101", 5},
                {"1_000", 1000},
                {"0x_f", 15},
                {"0", 0},
                {"-9223372036854775808", INT64_MIN},
                {"9223372036854775807", INT64_MAX}};
    static const char *const bad[] = {"",   "x",  "1x",  "1__0", "_1",  "1_",
                                      "0x", "08", "0b2", "--1",  "1.5", " 1"};
    struct opts o;
    struct cs_err e;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(PARSE(&o, NULL, &e, "-i", good[i].text), CLI_FLAGS_OK);
        assert_int_equal(o.i, good[i].want);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char want[96];
        snprintf(want, sizeof want, "invalid value \"%s\" for flag -i: parse error", bad[i]);
        assert_int_equal(PARSE(&o, NULL, &e, "-i", bad[i]), CLI_FLAGS_BAD);
        assert_string_equal(e.text, want);
    }
    assert_int_equal(PARSE(&o, NULL, &e, "-i", "9223372036854775808"), CLI_FLAGS_BAD);
    assert_string_equal(e.text, "invalid value \"9223372036854775808\" for flag -i: value out of range");
}

static void errors(void **state)
{
    (void)state;
    struct opts o;
    struct cs_err e;
    static const struct {
        const char *argv[4];
        int argc;
        const char *want;
    } cases[] = {
        {{"-x"}, 1, "flag provided but not defined: -x"},
        {{"--x=1"}, 1, "flag provided but not defined: -x"},
        {{"---s"}, 1, "bad flag syntax: ---s"},
        {{"-=s"}, 1, "bad flag syntax: -=s"},
        {{"-s"}, 1, "flag needs an argument: -s"},
        {{"-b=maybe"}, 1, "invalid boolean value \"maybe\" for -b: parse error"},
        {{"-d", "5"}, 2, "invalid value \"5\" for flag -d: parse error"},
        {{"-t", "5"}, 2, "invalid value \"5\" for flag -t: time: missing unit in duration \"5\""},
        {{"-output", "xml"},
         2,
         "invalid value \"xml\" for flag -output: bad formatter flag: unknown format option: \"xml\""},
        {{"-output", "json", "-output", "pretty"},
         4,
         "invalid value \"pretty\" for flag -output: the output format has already been set to \"json\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&o, 0, sizeof o);
        assert_int_equal(
            cli_flags_parse(flags, &o, cases[i].argc, (char **)(uintptr_t)cases[i].argv, NULL, &e),
            CLI_FLAGS_BAD);
        assert_string_equal(e.text, cases[i].want);
    }
    assert_int_equal(PARSE(&o, NULL, &e, "-h"), CLI_FLAGS_HELP);
    assert_int_equal(PARSE(&o, NULL, &e, "--help"), CLI_FLAGS_HELP);
}

static void usage(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    assert_non_null(f);
    cli_flags_usage(flags, "thing", f);
    fclose(f);
    assert_string_equal(text, "Usage of thing:\n"
                              "  -b\n    \ta bool\n"
                              "  -comma value\n    \tcommas\n"
                              "  -d duration\n    \ta duration\n"
                              "  -i int\n    \tan int (default 600)\n"
                              "  -many value\n    \tmany\n"
                              "  -output value\n    \tformat\n"
                              "  -p\n    \ta presence\n"
                              "  -s string\n    \ta string (default \"dflt\")\n"
                              "  -t value\n    \ta timeout (default 5s)\n"
                              "  -tri value\n    \tthree\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forms), cmocka_unit_test(lists),
                                       cmocka_unit_test(integers), cmocka_unit_test(errors),
                                       cmocka_unit_test(usage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
