/* SPDX-License-Identifier: Apache-2.0
 *
 * Plugins' own options. Texts are those SPIRE's `validate` and `run` show.
 */
#include "config/plugin_config.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct cs_arena *arena;
static struct cs_err err;

static struct cs_slice text(const char *s)
{
    cs_arena_reset(arena);
    err = (struct cs_err){0};
    return cs_slice_str(s);
}

static void sql(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
        cs_code code;
    } bad[] = {
        {"connection_string = \"x\"", "malformed database type configuration", CS_INVALID},
        {"database_type = \"\" connection_string = \"x\"", "datastore-sql: database_type must be set",
         CS_INVALID},
        {"database_type = \"sqlite3\"", "datastore-sql: connection_string must be set", CS_INVALID},
        {"database_type = [\"x\"]", "malformed database type configuration", CS_INVALID},
        {"database_type \"foo\" {}", "unknown database type: foo", CS_INVALID},
        {"database_type { a {} b {} }", "exactly one database type is expected", CS_INVALID},
        {"database_type \"aws_mysql\" { region = \"x\" } connection_string = \"y\"",
         "datastore-sql: database_type \"aws_mysql\" is not supported yet", CS_UNIMPLEMENTED},
        {"database_type = \"postgres\" connection_string = \"x\"",
         "datastore-sql: database_type \"postgres\" is not supported yet", CS_UNIMPLEMENTED},
        {"database_type = \"sqlite3\" connection_string = \"x\" conn_max_lifetime = \"1d\"",
         "failed to parse conn_max_lifetime \"1d\": time: unknown unit \"d\" in duration \"1d\"", CS_INVALID},
    };
    struct config_sql c;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(config_read_sql(text(bad[i].text), arena, &c, &err), bad[i].code);
        assert_string_equal(err.text, bad[i].message);
    }
    assert_int_equal(
        config_read_sql(text("database_type = \"sqlite3\" connection_string = \"x\" max_open_conns = 5 "
                             "conn_max_lifetime = \"1h\" disable_migration = true foo = 1"),
                        arena, &c, &err),
        CS_OK);
    assert_string_equal(c.database_type, "sqlite3");
    assert_int_equal(c.max_open_conns, 5);
    assert_int_equal(c.max_idle_conns, -1);
    assert_int_equal(c.conn_max_lifetime_ns, 3600 * CS_NS_PER_S);
    assert_true(c.disable_migration && !c.log_sql);
    assert_string_equal(c.ro_connection_string, "");
}

static void key_managers(void **state)
{
    (void)state;
    struct config_keymanager_disk s;
    struct config_agent_keymanager_disk a;
    assert_int_equal(config_read_keymanager_disk(text(""), arena, &s, &err), CS_INVALID);
    assert_string_equal(err.text, "keys_path is required");
    assert_int_equal(config_read_keymanager_disk(text("keys_path = true"), arena, &s, &err), CS_INVALID);
    assert_string_equal(err.text,
                        "unable to decode configuration: At 1:13: root.keys_path: unknown type for string "
                        "*ast.LiteralType");
    assert_int_equal(config_read_keymanager_disk(text("{\"keys_path\": \"k\"}"), arena, &s, &err), CS_OK);
    assert_string_equal(s.keys_path, "k");
    assert_int_equal(config_read_agent_keymanager_disk(text("x = 1"), arena, &a, &err), CS_INVALID);
    assert_string_equal(err.text, "directory must be configured");
    assert_int_equal(config_read_agent_keymanager_disk(text("directory = \"d\""), arena, &a, &err), CS_OK);
    assert_string_equal(a.directory, "d");
}

static void the_rest(void **state)
{
    (void)state;
    struct config_upstream_disk u;
    struct config_unix x;
    struct config_strings unknown;
    assert_int_equal(config_read_upstream_disk(text("cert_file_path = \"c\""), arena, &u, &err), CS_INVALID);
    assert_string_equal(err.text, "'cert_file_path' and 'key_file_path' must be set and not empty");
    assert_int_equal(config_read_join_token(text("foo = 1 \"bar\" = 2"), arena, &unknown, &err), CS_OK);
    assert_int_equal(unknown.len, 1);
    assert_string_equal(unknown.at[0], "foo");
    assert_int_equal(config_read_join_token(text("foo"), arena, &unknown, &err), CS_INVALID);
    assert_int_equal(config_read_unix(text(""), arena, &x, &err), CS_OK);
    assert_true(!x.discover_workload_path && x.workload_size_limit == 0);
    assert_int_equal(
        config_read_unix(text("discover_workload_path = true workload_size_limit = -1"), arena, &x, &err),
        CS_OK);
    assert_true(x.discover_workload_path && x.workload_size_limit == -1);
    assert_int_equal(config_read_unix(text("workload_size_limit = \"big\""), arena, &x, &err), CS_INVALID);
    assert_true(config_plugin_is_known("server", "Notifier", "k8sbundle"));
    assert_false(config_plugin_is_known("server", "Notifier", "k8s"));
    assert_false(config_plugin_is_known("server", "Notifier", ""));
    assert_false(config_plugin_is_known("agent", "DataStore", "sql"));
}

static void sconecas(void **state)
{
    (void)state;
    struct config_sconecas c;
    static const char all[] =
        "cas_connection_string = \"https://cas:8081\" cas_client_certificate = \"c\" "
        "cas_client_key = \"k\" trust_anchor_certificate = \"t\" cas_predecessor_dir = \"p\" "
        "svid_session_template_file = \"1\" bundle_session_template_file = \"2\" "
        "federated_bundles_session_template_file = \"3\" ";
    assert_int_equal(config_read_sconecas(text(all), arena, &c, &err), CS_OK);
    assert_string_equal(c.cas_connection_string, "https://cas:8081");
    assert_string_equal(c.federated_bundles_session_template_file, "3");
    assert_false(c.insecure_skip_verify_tls);
    char changed[sizeof all + 64];
    (void)snprintf(changed, sizeof changed, "%s insecure_skip_verify_tls = true foo = 1", all);
    assert_int_equal(config_read_sconecas(text(changed), arena, &c, &err), CS_OK);
    assert_true(c.insecure_skip_verify_tls);
    (void)snprintf(changed, sizeof changed, "%s cas_client_key = \"\"", all);
    assert_int_equal(config_read_sconecas(text(changed), arena, &c, &err), CS_INVALID);
    assert_string_equal(err.text, "cas_client_key is required");
    (void)snprintf(changed, sizeof changed, "%s cas_connection_string = \"http://cas:8081\"", all);
    assert_int_equal(config_read_sconecas(text(changed), arena, &c, &err), CS_INVALID);
    assert_string_equal(err.text, "cas_connection_string must begin with https://");
    assert_int_equal(config_read_sconecas(text(""), arena, &c, &err), CS_INVALID);
    assert_string_equal(err.text, "cas_connection_string is required");
}

static void gcp_secretmanager(void **state)
{
    (void)state;
    struct config_gcp_secretmanager c;
    assert_int_equal(config_read_gcp_secretmanager(text(""), arena, &c, &err), CS_OK);
    assert_string_equal(c.service_account_file, "");
    assert_int_equal(config_read_gcp_secretmanager(text("service_account_file = \"f\""), arena, &c, &err),
                     CS_OK);
    assert_string_equal(c.service_account_file, "f");
    assert_int_equal(
        config_read_gcp_secretmanager(text("{\"service_account_file\": \"f\"}"), arena, &c, &err), CS_OK);
    assert_int_equal(config_read_gcp_secretmanager(text("b = 1 a = 2"), arena, &c, &err), CS_INVALID);
    assert_string_equal(err.text, "unknown configurations detected: a,b");
    assert_int_equal(config_read_gcp_secretmanager(text("service_account_file = [\"x\"]"), arena, &c, &err),
                     CS_INVALID);
    assert_string_equal(err.text,
                        "unable to decode configuration: At 1:24: root.service_account_file: unknown "
                        "type for string *ast.ListType");
    assert_true(config_plugin_is_known("agent", "SVIDStore", "gcp_secretmanager"));
}

static int set_up(void **state)
{
    (void)state;
    arena = cs_arena_new(0, 0);
    return arena == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    cs_arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sql), cmocka_unit_test(key_managers),
                                       cmocka_unit_test(the_rest), cmocka_unit_test(sconecas),
                                       cmocka_unit_test(gcp_secretmanager)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
