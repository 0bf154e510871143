/* SPDX-License-Identifier: Apache-2.0
 *
 * The catalog with external plugins: loading, configuring again, checking, and what it says when it cannot.
 */
#include "plugin/catalog.h"
#include "plugin/external.h"

#include "program.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* --- A kind whose bridge counts --- */

static int alive;
static struct plugin_external *last;

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    (void)env;
    *self = cs_malloc(1);
    if (*self == NULL)
        return cs_nomem(e);
    last = x;
    alive++;
    return CS_OK;
}
static void destroy(void *self)
{
    alive--;
    cs_free(self);
}
static const int ops;
static const struct plugin_bridge bridge = {
    .service = PROGRAM_SERVICE, .ops = &ops, .create = create, .destroy = destroy};
static const struct plugin_kind kinds[] = {
    {.type = PROGRAM_TYPE, .max = 1, .bridge = &bridge},
    {.type = "Other"},
};

/* --- A catalog --- */

static char folder[64], log_path[96], data_path[96], self[512];
static struct cs_log_sink *sink;

static int setup(void **state)
{
    (void)state;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    snprintf(folder, sizeof folder, "/tmp/catalog-XXXXXX");
    assert_non_null(mkdtemp(folder));
    setenv("TMPDIR", folder, 1);
    snprintf(log_path, sizeof log_path, "%s/log", folder);
    snprintf(data_path, sizeof data_path, "%s/data", folder);
    assert_int_equal(cs_log_sink_open(log_path, CS_LOG_TEXT, CS_LOG_DEBUG, &sink, NULL), CS_OK);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    cs_log_sink_free(sink);
    (void)unlink(log_path);
    (void)unlink(data_path);
    assert_int_equal(rmdir(folder), 0);
    unsetenv("TMPDIR");
    return 0;
}

static void write_data(const char *text)
{
    assert_int_equal(cs_file_write_atomic(data_path, cs_slice_str(text), 0600, NULL), CS_OK);
}

static bool said(const char *text)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf log = {0};
    return cs_file_read(log_path, 0x1000000, &log, NULL) == CS_OK && strstr(cs_buf_cstr(&log), text) != NULL;
}

static const char *good[] = {"plugin", "good"}, *plain[] = {"plugin", "plain"},
                  *nothing[] = {"plugin", "nothing"};

static struct config_plugin row(const char *const *args, const char *data)
{
    return (struct config_plugin){.type = PROGRAM_TYPE,
                                  .name = "x",
                                  .cmd = self,
                                  .checksum = "",
                                  .args = {.at = args, .len = 2},
                                  .data = cs_slice_str(data)};
}

static struct catalog_config config_of(const struct config_plugins *plugins)
{
    return (struct catalog_config){
        .program = "server",
        .kinds = kinds,
        .kind_count = 2,
        .plugins = plugins,
        .env = {.log = {.sink = sink}, .clock = &cs_clock_system, .trust_domain = "example.org"}};
}

static cs_code load(const struct config_plugin *rows, size_t n, struct catalog **out, struct cs_err *e)
{
    const struct config_plugins plugins = {.at = rows, .len = n};
    const struct catalog_config cfg = config_of(&plugins);
    return catalog_load(&cfg, out, e);
}

static void config_is(const char *wanted)
{
    CS_CLEANUP(plugin_notes_free) struct plugin_notes notes = {0};
    assert_int_equal(plugin_external_validate(last, cs_slice_str("config"), &notes, NULL), CS_OK);
    assert_int_equal(notes.count, 1);
    assert_string_equal(notes.texts[0], wanted);
}

static void loads_and_configures(void **state)
{
    (void)state;
    struct catalog *c = NULL;
    struct cs_err e = {0};
    struct config_plugin r = row(good, "fixed");
    if (load(&r, 1, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_int_equal(alive, 1);
    assert_ptr_equal(catalog_find(c, PROGRAM_TYPE, "x")->ops, &ops);
    config_is("example.org fixed");
    assert_true(said("msg=\"Configured plugin\" external=true plugin_name=x"));
    catalog_free(c);
    assert_int_equal(alive, 0);
    assert_true(said("msg=\"Plugin unloaded\" external=true"));
}

static void configures_again(void **state)
{
    (void)state;
    struct catalog *c = NULL;
    struct cs_err e = {0};
    struct config_plugin r = row(good, "");
    r.data_file = data_path;
    write_data("first");
    assert_int_equal(load(&r, 1, &c, &e), CS_OK);
    config_is("example.org first");
    catalog_reconfigure(c);
    assert_true(said("Plugin not reconfigured since the config is unchanged"));
    write_data("second");
    catalog_reconfigure(c);
    assert_true(said("Plugin reconfigured"));
    config_is("example.org second");
    write_data("bad");
    catalog_reconfigure(c);
    assert_true(said("error=\"rpc error: code = InvalidArgument desc = no good\""));
    config_is("example.org second");
    catalog_stop(c);
    write_data("third");
    catalog_reconfigure(c);
    assert_true(said("error=\"rpc error: code = Canceled desc = context canceled\""));
    catalog_free(c);
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const char *no_data = "";
    const struct {
        struct config_plugin row;
        const char *text;
    } cases[] = {
        {row(nothing, no_data), "failed to bind plugin \"x\": no supported plugin interface found in: []"},
        {row(good, "bad"),
         "failed to configure plugin \"x\": rpc error: code = InvalidArgument desc = no good"},
        {row(plain, "any"), "failed to configure plugin \"x\": no supported configuration interface found"},
        {{.type = PROGRAM_TYPE, .name = "x", .cmd = "/nonexistent/x", .checksum = ""},
         "failed to load plugin \"x\": failed to launch plugin: fork/exec /nonexistent/x: no such file or "
         "directory"},
        {{.type = PROGRAM_TYPE, .name = "x", .cmd = self, .checksum = "00"},
         "failed to load plugin \"x\": expected checksum of length 64; got 2"},
        {{.type = "Other", .name = "x", .cmd = self},
         "failed to load plugin \"x\": external plugins of type \"Other\" are not supported yet"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct catalog *c = NULL;
        struct cs_err e = {0};
        assert_int_not_equal(load(&cases[i].row, 1, &c, &e), CS_OK);
        assert_string_equal(e.text, cases[i].text);
        assert_null(c);
        assert_int_equal(alive, 0);
    }
    struct catalog *c = NULL;
    struct cs_err e = {0};
    struct config_plugin rows[] = {row(good, ""), row(good, "")};
    rows[1].name = "y";
    assert_int_equal(load(rows, 2, &c, &e), CS_INVALID);
    assert_string_equal(e.text, "plugin type \"" PROGRAM_TYPE
                                "\" constraint not satisfied: expected at most 1 but got 2");
    assert_int_equal(alive, 0);
    /* one that takes no configuration, and gets none */
    struct config_plugin r = row(plain, "");
    assert_int_equal(load(&r, 1, &c, &e), CS_OK);
    catalog_free(c);
}

static char noted[1024];
static void note(void *arg, const char *plugin, const char *text)
{
    (void)arg;
    size_t at = strlen(noted);
    snprintf(noted + at, sizeof noted - at, "%s: %s\n", plugin, text);
}

static void asks_what_it_thinks(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct config_plugin rows[] = {row(good, "a note"), row(good, "bad"), row(plain, ""), row(good, "")};
    rows[1].name = "y";
    rows[2].name = "z";
    rows[3].name = "no file";
    rows[3].data_file = "/nonexistent/file";
    const struct config_plugins plugins = {.at = rows, .len = 4};
    const struct catalog_config cfg = config_of(&plugins);
    noted[0] = '\0';
    assert_int_equal(catalog_validate(&cfg, note, NULL, &e), CS_OK);
    assert_string_equal(
        noted, PROGRAM_TYPE
        " \"x\": a note\n" PROGRAM_TYPE
        " \"y\": rpc error: code = InvalidArgument desc = no good\n" PROGRAM_TYPE
        " \"no file\": failed to read plugin configuration: open /nonexistent/file: no such file "
        "or directory\n" PROGRAM_TYPE ": constraint not satisfied: expected at most 1 but got 3\n");
    rows[0] = row(nothing, "");
    assert_int_equal(catalog_validate(&cfg, note, NULL, &e), CS_INVALID);
    assert_string_equal(e.text, "failed to bind plugin \"x\": no supported plugin interface found in: []");
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "plugin") == 0)
        return program_main(argv[2]);
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(loads_and_configures),
        CASE(configures_again),
        CASE(says_what_is_wrong),
        CASE(asks_what_it_thinks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
