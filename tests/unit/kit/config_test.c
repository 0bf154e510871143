/* SPDX-License-Identifier: Apache-2.0
 *
 * plugin_data as a plugin reads it.
 */
#include "fixture.h"

static struct cspire_plugin plugin;
static struct cspire_env env;
static struct cspire_call *call;

static int setup(void **state)
{
    (void)state;
    plugin = d_plugin(CSPIRE_NOTIFIER);
    kit_env_init(&env, &plugin, kit_kind_find(plugin.kind));
    call = cspire_call_new(&env);
    return call != NULL ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    cspire_call_free(call);
    kit_env_free(&env);
    return 0;
}

static const char hcl[] = "text = \"a\"\nyes = true\nnumber = -7\ntime = \"1h30m\"\nlist = [\"x\", \"y\"]\n"
                          "quoted = \"12\"\nblock { inner = 1 }\n";
static const char json[] = "{\"text\": \"a\", \"yes\": true, \"number\": -7, \"time\": \"1h30m\", "
                           "\"list\": [\"x\", \"y\"], \"quoted\": \"12\"}";

static void read_all(const char *text)
{
    struct cspire_config config = {.text = text, .trust_domain = "example.org"};
    const char *s = "default";
    bool yes = false;
    int64_t n = 0, ns = 0;
    struct cspire_texts list = {0};
    assert_string_equal(cspire_config_text(&config), text);
    assert_string_equal(cspire_config_trust_domain(&config), "example.org");
    assert_int_equal(cspire_config_string(call, &config, "text", &s), CSPIRE_OK);
    assert_string_equal(s, "a");
    assert_int_equal(cspire_config_bool(call, &config, "yes", &yes), CSPIRE_OK);
    assert_true(yes);
    assert_int_equal(cspire_config_int(call, &config, "number", &n), CSPIRE_OK);
    assert_true(n == -7);
    assert_int_equal(cspire_config_int(call, &config, "quoted", &n), CSPIRE_OK);
    assert_true(n == 12);
    assert_int_equal(cspire_config_duration(call, &config, "time", &ns), CSPIRE_OK);
    assert_true(ns == 5400 * CS_NS_PER_S);
    assert_int_equal(cspire_config_strings(call, &config, "list", &list), CSPIRE_OK);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.at[1], "y");
}

static void test_read(void **state)
{
    (void)state;
    read_all(hcl);
    read_all(json);
}

static void test_defaults(void **state)
{
    (void)state;
    struct cspire_config config = {.text = "", .trust_domain = ""};
    const char *s = "default";
    bool yes = true;
    int64_t n = 5, ns = 6;
    struct cspire_texts list = {.count = 9};
    assert_int_equal(cspire_config_string(call, &config, "x", &s), CSPIRE_OK);
    assert_int_equal(cspire_config_bool(call, &config, "x", &yes), CSPIRE_OK);
    assert_int_equal(cspire_config_int(call, &config, "x", &n), CSPIRE_OK);
    assert_int_equal(cspire_config_duration(call, &config, "x", &ns), CSPIRE_OK);
    assert_int_equal(cspire_config_strings(call, &config, "x", &list), CSPIRE_OK);
    assert_string_equal(s, "default");
    assert_true(yes && n == 5 && ns == 6 && list.count == 9);
}

static void test_wrong(void **state)
{
    (void)state;
    struct cspire_config broken = {.text = "a = [", .trust_domain = ""},
                         config = {.text = hcl, .trust_domain = ""};
    const char *s = "default";
    bool yes = false;
    int64_t n = 0;
    assert_int_equal(cspire_config_string(call, &broken, "a", &s), CSPIRE_INVALID_ARGUMENT);
    assert_memory_equal(cspire_call_error(call), "unable to decode configuration: At 1:", 36);
    assert_int_equal(cspire_config_bool(call, &config, "text", &yes), CSPIRE_INVALID_ARGUMENT);
    assert_non_null(strstr(cspire_call_error(call), "plugin_data.text"));
    assert_int_equal(cspire_config_int(call, &config, "list", &n), CSPIRE_INVALID_ARGUMENT);
    assert_int_equal(cspire_config_string(call, &config, "list", &s), CSPIRE_INVALID_ARGUMENT);
    assert_int_equal(cspire_config_duration(call, &config, "text", &n), CSPIRE_INVALID_ARGUMENT);
    assert_string_equal(cspire_call_error(call), "text: time: invalid duration \"a\"");
    assert_string_equal(s, "default");
}

static void test_only(void **state)
{
    (void)state;
    struct cspire_config config = {.text = "a = 1\nB = 2\n", .trust_domain = ""};
    const char *const names[] = {"a", "b"};
    assert_int_equal(cspire_config_only(call, &config, names, 2), CSPIRE_OK);
    assert_int_equal(cspire_config_only(call, &config, names, 1), CSPIRE_INVALID_ARGUMENT);
    assert_string_equal(cspire_call_error(call), "unknown option \"B\"");
    config.text = "";
    assert_int_equal(cspire_config_only(call, &config, NULL, 0), CSPIRE_OK);
    config.text = "block \"x\" { a = 1 }";
    assert_int_equal(cspire_config_only(call, &config, names, 2), CSPIRE_INVALID_ARGUMENT);
    assert_string_equal(cspire_call_error(call), "unknown option \"block\"");
    config.text = "{\"c\":1}";
    assert_int_equal(cspire_config_only(call, &config, names, 2), CSPIRE_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
