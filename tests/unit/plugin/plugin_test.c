/* SPDX-License-Identifier: Apache-2.0
 *
 * What all plugins have in common.
 */
#include "base/mem.h"
#include "plugin/plugin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void answers_name_the_plugin_once(void **state)
{
    (void)state;
    struct cs_err e;
    (void)cs_fail(&e, CS_DENIED, "no way");
    assert_int_equal(plugin_answer("KeyManager", "own", CS_DENIED, &e), CS_DENIED);
    assert_string_equal(e.text, "keymanager(own): no way");
    assert_int_equal(plugin_answer("KeyManager", "own", e.code, &e), CS_DENIED);
    assert_string_equal(e.text, "keymanager(own): no way");
    /* of another plugin: that is worth saying */
    assert_int_equal(plugin_answer("NodeAttestor", "own", e.code, &e), CS_DENIED);
    assert_string_equal(e.text, "nodeattestor(own): keymanager(own): no way");
    /* plugins of old put their name in front themselves */
    (void)cs_fail(&e, CS_INVALID, "own: no way");
    assert_int_equal(plugin_answer("KeyManager", "own", CS_INVALID, &e), CS_INVALID);
    assert_string_equal(e.text, "keymanager(own): no way");
    (void)cs_fail(&e, CS_INVALID, "owner: no way");
    assert_int_equal(plugin_answer("KeyManager", "own", CS_INVALID, &e), CS_INVALID);
    assert_string_equal(e.text, "keymanager(own): owner: no way");
    assert_int_equal(plugin_answer("KeyManager", "own", CS_OK, &e), CS_OK);
    assert_int_equal(plugin_answer("KeyManager", "own", CS_UNKNOWN, NULL), CS_UNKNOWN);
}

static void names_and_texts_of_any_length(void **state)
{
    (void)state;
    struct cs_err e;
    char name[2 * CS_ERR_TEXT_MAX];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    memset(e.text, 'x', sizeof e.text - 1);
    e.text[sizeof e.text - 1] = '\0';
    assert_int_equal(plugin_answer("KeyManager", name, CS_UNKNOWN, &e), CS_UNKNOWN);
    assert_memory_equal(e.text, "keymanager(nnnn", 15);
    assert_true(strlen(e.text) < sizeof e.text);
}

static void a_fault_becomes_a_note(void **state)
{
    (void)state;
    struct plugin_notes notes = {0};
    struct cs_err fault = {0}, e = {0};
    assert_int_equal(plugin_notes_fault(&notes, CS_OK, &fault, &e), CS_OK);
    assert_int_equal(notes.count, 0);
    (void)cs_fail(&fault, CS_INVALID, "no such option");
    assert_int_equal(plugin_notes_fault(&notes, CS_INVALID, &fault, &e), CS_OK);
    assert_int_equal(notes.count, 1);
    assert_string_equal(notes.texts[0], "no such option");
    (void)cs_mem_fail_at(1, true);
    const cs_code rc = plugin_notes_fault(&notes, CS_INVALID, &fault, &e);
    (void)cs_mem_fail_at(0, false);
    assert_int_equal(rc, CS_INTERNAL);
    assert_int_equal(e.code, CS_INTERNAL);
    assert_int_equal(notes.count, 1);
    plugin_notes_free(&notes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_name_the_plugin_once),
        cmocka_unit_test(names_and_texts_of_any_length),
        cmocka_unit_test(a_fault_becomes_a_note),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
