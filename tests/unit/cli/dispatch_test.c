/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

struct opts {
    const char *word;
};
static const struct cli_flag flags[] = {{"word", CLI_STRING, offsetof(struct opts, word), "a word", NULL},
                                        {NULL, CLI_STRING, 0, NULL, NULL}};

static cs_code run(struct cli_env *env, void *opts, struct cs_err *e)
{
    const struct opts *o = opts;
    if (o->word != NULL && strcmp(o->word, "fail") == 0)
        return cs_fail(e, CS_INVALID, "it failed");
    fprintf(env->out, "ran %s\n", o->word != NULL ? o->word : "(none)");
    return CS_OK;
}

#define ROW(p, s, q)                                                                                         \
    &(const struct cli_command)                                                                              \
    {                                                                                                        \
        .path = p, .synopsis = s, .flags = flags, .opts_size = sizeof(struct opts), .run = run, .quirks = q  \
    }
static const struct cli_command *const table[] = {
    ROW("both", "Both a leaf", CLI_HELP_SILENT | CLI_BARE_ERRORS),
    ROW("both child", "and a group", 0),
    ROW("entry create", "Creates", 0),
    &(const struct cli_command){.path = "entry later", .synopsis = "Not yet"},
    ROW("run", "Runs", CLI_FLAG_ERROR_TWICE),
};

static char *out, *err;

static int call(int argc, const char *const *argv)
{
    size_t out_len, err_len;
    free(out);
    free(err);
    struct cli_env env = {.program = "prog", .version = "1.2", .in = stdin};
    env.out = open_memstream(&out, &out_len);
    env.err = open_memstream(&err, &err_len);
    int status = cli_main(&env, table, sizeof table / sizeof table[0], argc, (char **)(uintptr_t)argv);
    fclose(env.out);
    fclose(env.err);
    return status;
}
#define CALL(...)                                                                                            \
    call((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__})

#define TOP                                                                                                  \
    "Usage: prog [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n"                       \
    "    both     Both a leaf\n    entry    \n    run      Runs\n\n"
#define LEAF(name) "Usage of " name ":\n  -word string\n    \ta word\n"

static void top_level(void **state)
{
    (void)state;
    assert_int_equal(call(0, NULL), 127);
    assert_string_equal(err, TOP);
    assert_int_equal(CALL("bogus"), 127);
    assert_string_equal(err, TOP);
    assert_int_equal(CALL("-bogus"), 127);
    assert_int_equal(CALL("-h"), 0);
    assert_string_equal(err, TOP);
    assert_int_equal(CALL("--version"), 0);
    assert_string_equal(err, "1.2\n");
    assert_string_equal(out, "");
}

static void leaves(void **state)
{
    (void)state;
    assert_int_equal(CALL("entry", "create", "-word", "x"), 0);
    assert_string_equal(out, "ran x\n");
    assert_int_equal(CALL("run", "stray", "-word", "x"), 0);
    assert_string_equal(out, "ran (none)\n");
    assert_int_equal(CALL("entry", "create", "-word", "fail"), 1);
    assert_string_equal(err, "Error: it failed\n");
    assert_int_equal(CALL("both", "-word", "fail"), 1);
    assert_string_equal(err, "it failed\n");
    assert_int_equal(CALL("both", "stray"), 0);
    assert_int_equal(CALL("both", "child"), 0);
    assert_int_equal(CALL("entry", "later"), 1);
    assert_string_equal(err, "Error: 'prog entry later' is not supported yet\n");
}

static void help(void **state)
{
    (void)state;
    assert_int_equal(CALL("entry", "create", "word", "-h"), 0);
    assert_string_equal(err, LEAF("entry create") "flag: help requested\n");
    assert_int_equal(CALL("--help", "entry", "create"), 0);
    assert_string_equal(err, LEAF("entry create") "flag: help requested\n");
    assert_int_equal(CALL("entry"), 1);
    assert_string_equal(
        err, LEAF("entry create") "This command is accessed by using one of the subcommands below.\n\n"
                                  "Subcommands:\n    create    Creates\n    later     Not yet\n");
    assert_int_equal(CALL("entry", "bogus", "-h"), 0);
    assert_int_equal(CALL("both", "-h"), 0);
    assert_string_equal(err, LEAF("both") LEAF("both child") "\n\nSubcommands:\n    child    and a group\n");
    assert_int_equal(CALL("-x", "run"), 1);
    assert_string_equal(err, "Invalid flags before the subcommand. If these flags are for\n"
                             "the subcommand, please put them after the subcommand.\n\n" LEAF(
                                 "run") "flag: help requested\n");
}

static void flag_errors(void **state)
{
    (void)state;
    assert_int_equal(CALL("entry", "create", "-x"), 1);
    assert_string_equal(err, "flag provided but not defined: -x\n" LEAF("entry create"));
    assert_int_equal(CALL("run", "-x"), 1);
    assert_string_equal(
        err, "flag provided but not defined: -x\n" LEAF("run") "flag provided but not defined: -x\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(top_level), cmocka_unit_test(leaves),
                                       cmocka_unit_test(help), cmocka_unit_test(flag_errors)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(out);
    free(err);
    return failed;
}
