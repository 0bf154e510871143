/* SPDX-License-Identifier: Apache-2.0
 *
 * The reference pages are what the table says (CSPIRE_WRITE_DOCS=1 writes them), and the sample
 * configurations are good ones.
 */
#include "base/file.h"
#include "config/agent_config.h"
#include "config/plugin_config.h"
#include "config/server_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *repo_path(const char *name)
{
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/../../%s", getenv("CSPIRE_TESTDATA"), name);
    return path;
}

static void check_page(const char *program, const char *name)
{
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf have = {0}, want = {0};
    config_print_reference(&want, program);
    assert_true(cs_buf_ok(&want));
    if (getenv("CSPIRE_WRITE_DOCS") != NULL)
        assert_int_equal(cs_file_write_atomic(repo_path(name), cs_buf_slice(&want), 0644, &e), CS_OK);
    assert_int_equal(cs_file_read(repo_path(name), 1 << 20, &have, &e), CS_OK);
    if (!cs_slice_eq(cs_buf_slice(&have), cs_buf_slice(&want)))
        fail_msg("%s is not current: run tools/gen-docs", name);
}

/* docs/plugins/PROGRAM-TYPE-NAME.md has the table between these marks. */
#define OPTIONS_BEGIN "<!-- options: written by tools/gen-docs -->\n"
#define OPTIONS_END "<!-- end of options -->"

static void check_plugin_page(const struct config_plugin_doc *d)
{
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf name = {0}, have = {0}, want = {0};
    cs_buf_printf(&name, "docs/plugins/%s-%s-%s.md", d->program, d->type, d->name);
    char *path = (char *)cs_buf_cstr(&name);
    for (char *c = path + strlen("docs/plugins/"); c < path + strlen(path) - strlen(d->name) - 3; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    if (cs_file_read(repo_path(path), 1 << 20, &have, &e) != CS_OK)
        fail_msg("%s \"%s\" has no page: %s", d->type, d->name, e.text);
    if (d->section == NULL)
        return;
    const char *page = cs_buf_cstr(&have);
    const char *begin = strstr(page, OPTIONS_BEGIN), *end = strstr(page, OPTIONS_END);
    if (begin == NULL || end == NULL || end < begin)
        fail_msg("%s lacks the marks of the option table", path);
    begin += strlen(OPTIONS_BEGIN);
    cs_buf_add_slice(&want, cs_slice_of(page, (size_t)(begin - page)));
    config_print_plugin_options(&want, d);
    cs_buf_add_str(&want, end);
    assert_true(cs_buf_ok(&want));
    if (getenv("CSPIRE_WRITE_DOCS") != NULL)
        assert_int_equal(cs_file_write_atomic(repo_path(path), cs_buf_slice(&want), 0644, &e), CS_OK);
    else if (!cs_slice_eq(cs_buf_slice(&have), cs_buf_slice(&want)))
        fail_msg("%s is not current: run tools/gen-docs", path);
}

static void plugin_pages_are_current(void **state)
{
    (void)state;
    for (const struct config_plugin_doc *d = config_plugin_docs; d->program != NULL; d++)
        check_plugin_page(d);
}

static void pages_are_current(void **state)
{
    (void)state;
    check_page("server", "docs/config-server.md");
    check_page("agent", "docs/config-agent.md");
}

/* Each option says what it is for, and the rows of a block are in order. */
static void check_rows(const struct config_section *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct config_option *o = &s->options[i];
        assert_true(o->doc != NULL && o->doc[0] != 0);
        assert_true(o->status == CONFIG_REMOVED || o->offset < s->size);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(o->name, s->options[k].name);
        bool block = o->type == CONFIG_BLOCK || o->type == CONFIG_BLOCKS || o->type == CONFIG_MAP;
        assert_int_equal(block, o->section != NULL);
        if (block)
            check_rows(o->section);
    }
}

/* Not of SPIRE 1.15. */
static bool is_ours(const char *name)
{
    static const char *const names[] = {
        "k8s_csr",
        "k8s_sat",
        "nitro_enclave",
        "sconecas_sessionmanager",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static void rows_are_whole(void **state)
{
    (void)state;
    check_rows(&server_config_section);
    check_rows(&agent_config_section);
    for (const struct config_plugin_doc *d = config_plugin_docs; d->program != NULL; d++) {
        assert_true(config_plugin_is_known(d->program, d->type, d->name) || is_ours(d->name) ||
                    (strcmp(d->type, "SVIDStore") == 0 && strcmp(d->name, "disk") == 0));
        if (d->section != NULL)
            check_rows(d->section);
    }
}

static void samples_load(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct config_notes notes = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    CS_AUTO(server_config) s = NULL;
    CS_AUTO(agent_config) g = NULL;
    assert_int_equal(server_config_load(repo_path("conf/server/server.conf"), false, NULL, &s, &notes, &e),
                     CS_OK);
    assert_int_equal(notes.len, 0);
    assert_int_equal(s->bind_port, 8081);
    assert_int_equal(s->plugins.len, 3);
    struct config_sql sql;
    struct cs_slice text;
    const struct config_plugin *p = config_plugin_find(&s->plugins, "DataStore", "sql");
    assert_int_equal(config_plugin_text(p, a, &text, &e), CS_OK);
    assert_int_equal(config_read_sql(text, a, &sql, &e), CS_OK);
    assert_string_equal(sql.connection_string, "./.data/datastore.sqlite3");
    assert_int_equal(agent_config_load(repo_path("conf/agent/agent.conf"), false, NULL, &g, &notes, &e),
                     CS_OK);
    assert_int_equal(notes.len, 0);
    assert_string_equal(g->server_address, "127.0.0.1");
    config_notes_free(&notes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pages_are_current),
                                       cmocka_unit_test(plugin_pages_are_current),
                                       cmocka_unit_test(rows_are_whole), cmocka_unit_test(samples_load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
