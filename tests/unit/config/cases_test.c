/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole configurations against what SPIRE 1.15 said to each (tests/data/config/cases.json, recorded
 * by tests/interop/test_config_cases.py). Where ours differs on purpose, the case says what it says.
 */
#include "config/agent_config.h"
#include "config/server_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

/* What our loaders say: "" when they accept. */
static void load(const char *program, struct cs_slice text, struct cs_err *e)
{
    struct config_notes notes = {0};
    *e = (struct cs_err){0};
    if (strcmp(program, "server") == 0) {
        CS_AUTO(server_config) c = NULL;
        cs_code code = server_config_parse("case.conf", text, false, NULL, &c, &notes, e);
        assert_int_equal(code == CS_OK, c != NULL);
        assert_int_equal(code, e->code);
    } else {
        CS_AUTO(agent_config) c = NULL;
        cs_code code = agent_config_parse("case.conf", text, false, NULL, &c, &notes, e);
        assert_int_equal(code == CS_OK, c != NULL);
        assert_int_equal(code, e->code);
    }
    config_notes_free(&notes);
}

/* What of SPIRE's verdict is about the configuration itself; plugins are checked elsewhere. */
static const char *verdict(const char *upstream)
{
    static const char server[] = "SPIRE server configuration file is invalid: ";
    static const char agent[] = "SPIRE agent configuration file is invalid: ";
    if (strncmp(upstream, server, sizeof server - 1) == 0)
        return upstream + sizeof server - 1;
    if (strncmp(upstream, agent, sizeof agent - 1) == 0)
        return upstream + sizeof agent - 1;
    return "";
}

static void test_cases(void **state)
{
    (void)state;
    char path[512];
    (void)snprintf(path, sizeof path, "%s/config/cases.json", getenv("CSPIRE_TESTDATA"));
    json_error_t je;
    json_t *cases = json_load_file(path, 0, &je);
    assert_non_null(cases);
    assert_true(json_array_size(cases) > 400);
    size_t wrong = 0, i;
    json_t *c;
    json_array_foreach(cases, i, c)
    {
        const char *program = json_string_value(json_object_get(c, "program"));
        json_t *text = json_object_get(c, "text"), *ours = json_object_get(c, "ours");
        const char *want = ours != NULL ? json_string_value(ours)
                                        : verdict(json_string_value(json_object_get(c, "upstream")));
        struct cs_err e;
        load(program, cs_slice_of(json_string_value(text), json_string_length(text)), &e);
        if (strcmp(e.text, want) == 0)
            continue;
        wrong++;
        print_error("%s/%s:\n  want %s\n  have %s\n", program, json_string_value(json_object_get(c, "name")),
                    want, e.text);
    }
    json_decref(cases);
    assert_int_equal(wrong, 0);
}

/* Some cases name files relative to where the program runs. */
static int in_own_folder(void **state)
{
    static char folder[] = "/tmp/cspire-cases-XXXXXX";
    *state = folder;
    return mkdtemp(folder) == NULL ? -1 : chdir(folder);
}

static int folder_away(void **state)
{
    (void)unlink("5"); /* the log file of one case */
    return chdir("/") != 0 ? -1 : rmdir(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, in_own_folder, folder_away);
}
