/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog: which plugins a configuration gives, and what it says when it cannot.
 */
#include "plugin/catalog.h"

#include "base/file.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* A kind of our own whose plugins count what happens to them. */
static int alive, configured;
static char last_data[64];

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    (void)env;
    *self = cs_malloc(1);
    if (*self == NULL)
        return cs_nomem(e);
    alive++;
    return CS_OK;
}
static void destroy(void *self)
{
    alive--;
    cs_free(self);
}
static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    (void)self;
    if (cs_slice_is(data, "bad"))
        return cs_fail(e, CS_INVALID, "no good");
    configured++;
    snprintf(last_data, sizeof last_data, "%.*s", (int)data.len, (const char *)data.data);
    return CS_OK;
}
static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    if (!cs_slice_is(data, "bad"))
        return CS_OK;
    if (plugin_notes_add(notes, "first") != CS_OK || plugin_notes_add(notes, "second") != CS_OK)
        return cs_nomem(e);
    return CS_OK;
}

static const int ops;
static const struct plugin_builtin one = {.name = "one",
                                          .ops = &ops,
                                          .create = create,
                                          .destroy = destroy,
                                          .configure = configure,
                                          .validate = validate};
static const struct plugin_builtin plain = {
    .name = "plain", .ops = &ops, .create = create, .destroy = destroy};
static const struct plugin_builtin *const builtins[] = {&one, &plain};
static const struct plugin_kind kinds[] = {
    {.type = "Exact", .min = 1, .max = 1, .builtins = builtins, .builtin_count = 2},
    {.type = "AtMost", .max = 1, .builtins = builtins, .builtin_count = 2},
    {.type = "Any", .builtins = builtins, .builtin_count = 2},
};

static struct config_plugin row(const char *type, const char *name, const char *data)
{
    return (struct config_plugin){
        .type = type, .name = name, .cmd = "", .checksum = "", .data = cs_slice_str(data)};
}

static cs_code load(const struct config_plugin *rows, size_t n, struct catalog **out, struct cs_err *e)
{
    const struct config_plugins plugins = {.at = rows, .len = n};
    const struct catalog_config cfg = {
        .program = "server", .kinds = kinds, .kind_count = 3, .plugins = &plugins, .skip_type = "DataStore"};
    return catalog_load(&cfg, out, e);
}

static void finds_what_was_loaded(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct catalog *c = NULL;
    struct config_plugin rows[] = {row("Exact", "one", "x"), row("DataStore", "sql", "?"),
                                   row("Any", "plain", ""), row("Any", "one", ""),
                                   row("AtMost", "plain", "")};
    rows[4].disabled = true;
    if (load(rows, 5, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_int_equal(alive, 3);
    assert_non_null(catalog_find(c, "Exact", "one"));
    assert_null(catalog_find(c, "Exact", "plain"));
    assert_string_equal(catalog_nth(c, "Any", 0)->name, "plain");
    assert_string_equal(catalog_nth(c, "Any", 1)->name, "one");
    assert_null(catalog_nth(c, "Any", 2));
    assert_null(catalog_nth(c, "AtMost", 0));
    catalog_free(c);
    assert_int_equal(alive, 0);
    catalog_free(NULL);
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        struct config_plugin rows[3];
        size_t count;
        const char *error;
    } cases[] = {
        {{{0}}, 0, "plugin type \"Exact\" constraint not satisfied: expected exactly 1 but got 0"},
        {{{.type = "Exact", .name = "one", .cmd = ""}, {.type = "Exact", .name = "plain", .cmd = ""}},
         2,
         "plugin type \"Exact\" constraint not satisfied: expected exactly 1 but got 2"},
        {{{.type = "Exact", .name = "one", .cmd = ""},
          {.type = "AtMost", .name = "one", .cmd = ""},
          {.type = "AtMost", .name = "plain", .cmd = ""}},
         3,
         "plugin type \"AtMost\" constraint not satisfied: expected at most 1 but got 2"},
        {{{.type = "Nope", .name = "one", .cmd = ""}}, 1, "unsupported plugin type \"Nope\""},
        {{{.type = "Exact", .name = "two", .cmd = ""}},
         1,
         "failed to load plugin \"two\": no built-in plugin \"two\" for type \"Exact\""},
        {{{.type = "Exact", .name = "one", .cmd = "/bin/x"}},
         1,
         "failed to load plugin \"one\": external plugins of type \"Exact\" are not supported yet"},
        {{{.type = "Exact", .name = "one", .cmd = "", .data = {(const uint8_t *)"bad", 3}}},
         1,
         "failed to configure plugin \"one\": rpc error: code = InvalidArgument desc = no good"},
        {{{.type = "Exact", .name = "plain", .cmd = "", .data = {(const uint8_t *)"x", 1}}},
         1,
         "failed to configure plugin \"plain\": no supported configuration interface found"},
        {{{.type = "Exact", .name = "one", .cmd = "", .data_file = "/nonexistent/x"}},
         1,
         "failed to configure plugin \"one\": failed to load plugin data: open /nonexistent/x: no such file "
         "or "
         "directory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cs_err e = {0};
        struct catalog *c = NULL;
        assert_int_not_equal(load(cases[i].rows, cases[i].count, &c, &e), CS_OK);
        assert_null(c);
        assert_string_equal(e.text, cases[i].error);
        assert_int_equal(alive, 0);
    }
}

static void configures_again_when_the_file_changed(void **state)
{
    (void)state;
    char path[] = "/tmp/catalog_test.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("v1"), 0600, NULL), CS_OK);
    struct config_plugin rows[] = {row("Exact", "one", "")};
    rows[0].data_file = path;
    struct cs_err e = {0};
    struct catalog *c = NULL;
    configured = 0;
    if (load(rows, 1, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(last_data, "v1");
    catalog_reconfigure(c);
    assert_int_equal(configured, 1);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("bad"), 0600, NULL), CS_OK);
    catalog_reconfigure(c);
    assert_int_equal(configured, 1);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_str("v2"), 0600, NULL), CS_OK);
    catalog_reconfigure(c);
    assert_int_equal(configured, 2);
    assert_string_equal(last_data, "v2");
    catalog_free(c);
    unlink(path);
}

struct notes {
    size_t count;
    char text[512];
};
static void take_note(void *arg, const char *plugin, const char *text)
{
    struct notes *n = arg;
    size_t at = strlen(n->text);
    snprintf(n->text + at, sizeof n->text - at, "%s=%s;", plugin, text);
    n->count++;
}

static void validates_without_loading(void **state)
{
    (void)state;
    const struct config_plugin rows[] = {row("Any", "one", "bad"), row("Any", "plain", "")};
    const struct config_plugins plugins = {.at = rows, .len = 2};
    const struct catalog_config cfg = {
        .program = "server", .kinds = kinds, .kind_count = 3, .plugins = &plugins};
    struct notes n = {0};
    struct cs_err e = {0};
    assert_int_equal(catalog_validate(&cfg, take_note, &n, &e), CS_OK);
    assert_string_equal(n.text, "Any \"one\"=first;Any \"one\"=second;"
                                "Exact=constraint not satisfied: expected exactly 1 but got 0;");
    assert_int_equal(alive, 0);
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    struct config_plugin rows[] = {row("Exact", "one", "x"), row("Any", "plain", "")};
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        assert_true(n < 200);
        struct catalog *c = NULL;
        (void)cs_mem_fail_at(n, true);
        rc = load(rows, 2, &c, NULL);
        (void)cs_mem_fail_at(0, false);
        assert_true((rc == CS_OK) == (c != NULL));
        catalog_free(c);
        assert_int_equal(alive, 0);
    }
}

/* The real ones: both programs' tables can be walked, and names are not taken twice. */
static void built_ins_are_complete(void **state)
{
    (void)state;
    const struct {
        const struct plugin_kind *kinds;
        size_t count;
    } programs[] = {{plugin_server_kinds, plugin_server_kind_count},
                    {plugin_agent_kinds, plugin_agent_kind_count}};
    for (size_t p = 0; p < 2; p++)
        for (size_t k = 0; k < programs[p].count; k++)
            for (size_t i = 0; i < programs[p].kinds[k].builtin_count; i++) {
                const struct plugin_builtin *b = programs[p].kinds[k].builtins[i];
                assert_non_null(b->name);
                assert_non_null(b->ops);
                assert_non_null(b->create);
                for (size_t j = 0; j < i; j++)
                    assert_string_not_equal(b->name, programs[p].kinds[k].builtins[j]->name);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_loaded),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(configures_again_when_the_file_changed),
        cmocka_unit_test(validates_without_loading),
        cmocka_unit_test(survives_failing_allocations),
        cmocka_unit_test(built_ins_are_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
