/* SPDX-License-Identifier: Apache-2.0
 *
 * Values out of whole configurations: defaults, flags over the file, notes, plugins, variables.
 */
#include "config/agent_config.h"
#include "config/plugin_config.h"
#include "config/server_config.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define SERVER_MINIMAL "server { trust_domain = \"example.org\" data_dir = \"d\" "
#define PLUGINS "plugins { KeyManager \"memory\" {} }\n"
#define AGENT_MINIMAL                                                                                        \
    "agent { trust_domain = \"example.org\" server_address = \"a\" server_port = 1 insecure_bootstrap = "    \
    "true "

static struct config_notes notes;

static struct server_config *server(const char *text, const struct server_config_flags *flags)
{
    struct cs_err e;
    struct server_config *c = NULL;
    config_notes_free(&notes);
    if (server_config_parse("c", cs_slice_str(text), false, flags, &c, &notes, &e) != CS_OK)
        fail_msg("%s", e.text);
    return c;
}

static struct agent_config *agent(const char *text, const struct agent_config_flags *flags)
{
    struct cs_err e;
    struct agent_config *c = NULL;
    config_notes_free(&notes);
    if (agent_config_parse("c", cs_slice_str(text), false, flags, &c, &notes, &e) != CS_OK)
        fail_msg("%s", e.text);
    return c;
}

static void server_defaults(void **state)
{
    (void)state;
    CS_AUTO(server_config) c = server(SERVER_MINIMAL "}\n" PLUGINS, NULL);
    assert_int_equal(notes.len, 0);
    assert_string_equal(c->bind_address, "0.0.0.0");
    assert_int_equal(c->bind_port, 8081);
    assert_string_equal(c->socket_path, SERVER_CONFIG_DEFAULT_SOCKET);
    assert_int_equal(c->ca_ttl_ns, 24 * 3600 * CS_NS_PER_S);
    assert_int_equal(c->default_x509_svid_ttl_ns, 3600 * CS_NS_PER_S);
    assert_int_equal(c->default_jwt_svid_ttl_ns, 300 * CS_NS_PER_S);
    assert_int_equal(c->agent_ttl_ns, 0);
    assert_true(c->ratelimit_attestation && c->ratelimit_signing);
    assert_int_equal(c->ca_key_type, CONFIG_KEY_EC_P256);
    assert_int_equal(c->log.level, CS_LOG_INFO);
    assert_string_equal(c->log.file, "");
    assert_string_equal(c->ca_subject_country.at[0], "US");
    assert_string_equal(c->ca_subject_organization.at[0], "SPIFFE");
    assert_string_equal(c->jwt_issuer, "");
    assert_string_equal(c->health.bind_address, "localhost");
    assert_string_equal(c->health.bind_port, "80");
    assert_string_equal(c->health.live_path, "/live");
    assert_int_equal(c->plugins.len, 1);
}

static void server_flags_win(void **state)
{
    (void)state;
    const struct server_config_flags flags = {.bind_address = "::1",
                                              .bind_port = 99,
                                              .data_dir = "e",
                                              .log_level = "debug",
                                              .log_format = "json",
                                              .socket_path = "s/../t.sock",
                                              .trust_domain = "spiffe://other.test/x",
                                              .log_source_location = true};
    char cwd[4096], want[5000];
    assert_non_null(getcwd(cwd, sizeof cwd));
    (void)snprintf(want, sizeof want, "%s/t.sock", cwd);
    CS_AUTO(server_config)
    c = server(SERVER_MINIMAL "bind_port = 5 log_level = \"loud\" }\n" PLUGINS, &flags);
    assert_string_equal(c->bind_address, "::1");
    assert_int_equal(c->bind_port, 99);
    assert_string_equal(c->data_dir, "e");
    assert_int_equal(c->log.level, CS_LOG_DEBUG);
    assert_int_equal(c->log.format, CS_LOG_JSON);
    assert_true(c->log.source_location);
    assert_string_equal(c->socket_path, want);
    assert_string_equal(c->trust_domain, "other.test");
}

static void server_values(void **state)
{
    (void)state;
    CS_AUTO(server_config)
    c = server(SERVER_MINIMAL
               "ca_key_type = \"RSA-4096\" jwt_key_type = \"ec-p384\" agent_ttl = \"90s\" ca_ttl = \"48h\" "
               "admin_ids = [\"spiffe://example.org/a\"] ratelimit { signing = false } "
               "ca_subject { country = [\"DE\"] common_name = \"x\" } "
               "prune_attested_nodes_expired_for = \"1h\" prune_tofu_nodes = true "
               "experimental { event_timeout = \"2m\" events_based_cache = true } }\n" PLUGINS
               "health_checks { listener_enabled = true bind_address = \"[::1]\" bind_port = 88 }",
               NULL);
    assert_int_equal(c->ca_key_type, CONFIG_KEY_RSA_4096);
    assert_string_equal(config_key_type_name(c->ca_key_type), "rsa-4096");
    assert_int_equal(c->jwt_key_type, CONFIG_KEY_EC_P384);
    assert_int_equal(c->agent_ttl_ns, 90 * CS_NS_PER_S);
    assert_true(c->ratelimit_attestation && !c->ratelimit_signing);
    assert_string_equal(c->admin_ids.at[0], "spiffe://example.org/a");
    assert_int_equal(c->ca_subject_organization.len, 0);
    assert_string_equal(c->ca_subject_common_name, "x");
    assert_true(c->prune_tofu_nodes);
    assert_int_equal(c->prune_attested_nodes_expired_for_ns, 3600 * CS_NS_PER_S);
    assert_int_equal(c->event_timeout_ns, 120 * CS_NS_PER_S);
    assert_true(c->health.listener_enabled);
    assert_string_equal(c->health.bind_address, "::1");
    assert_string_equal(c->health.bind_port, "88");
    assert_int_equal(notes.len, 2);
    assert_int_equal(notes.at[0].level, CS_LOG_WARN);
    assert_string_equal(notes.at[1].text, "Using events based cache");
}

static void lifetimes_are_warned_of(void **state)
{
    (void)state;
    CS_AUTO(server_config) a = server(SERVER_MINIMAL "default_x509_svid_ttl = \"5h\" }\n" PLUGINS, NULL);
    assert_int_equal(notes.len, 1);
    assert_string_equal(
        notes.at[0].text,
        "default_x509_svid_ttl is too high for the configured ca_ttl value. SVIDs with shorter "
        "lifetimes may be issued. Please set default_x509_svid_ttl to 4h or less, or the ca_ttl to "
        "30h or more, to guarantee the full default_x509_svid_ttl lifetime when CA rotations are "
        "scheduled.");
    CS_AUTO(server_config) b = server(SERVER_MINIMAL "agent_ttl = \"200h\" }\n" PLUGINS, NULL);
    assert_int_equal(notes.len, 1);
    assert_non_null(strstr(notes.at[0].text, "agent_ttl is too high and the ca_ttl is too low"));
    assert_non_null(strstr(notes.at[0].text, "to 168h or less, and the ca_ttl to 1008h or more"));
    CS_AUTO(server_config)
    c = server(SERVER_MINIMAL "agent_ttl = \"200h\" ca_ttl = \"2000h\" }\n" PLUGINS, NULL);
    assert_int_equal(notes.len, 1);
    assert_non_null(strstr(notes.at[0].text, "Please set agent_ttl to 168h or less to guarantee"));
}

static void unknown_keys_are_named(void **state)
{
    (void)state;
    struct cs_err e;
    CS_AUTO(server_config) c = NULL;
    config_notes_free(&notes);
    const char *text = SERVER_MINIMAL "zoo = 1 bar = 2 ratelimit { x = 1 } }\n" PLUGINS;
    assert_int_equal(server_config_parse("c", cs_slice_str(text), false, NULL, &c, &notes, &e), CS_INVALID);
    assert_null(c);
    assert_string_equal(e.text, "unknown configuration detected");
    assert_int_equal(notes.len, 2);
    assert_int_equal(notes.at[0].level, CS_LOG_ERROR);
    assert_string_equal(notes.at[0].field[0].value, "server");
    assert_string_equal(notes.at[0].field[1].value, "bar,zoo");
    assert_string_equal(notes.at[1].field[0].value, "ratelimit");
}

static void plugin_blocks(void **state)
{
    (void)state;
    CS_AUTO(server_config)
    c = server(SERVER_MINIMAL "}\nplugins { UpstreamCA \"disk\" { plugin_data { cert_file_path = \"c\" "
                              "key_file_path = \"k${x}\" } } KeyManager { memory { enabled = false } disk "
                              "{ plugin_data_file = \"/nonexistent/f\" } } }\n",
               NULL);
    struct cs_err e;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    assert_int_equal(c->plugins.len, 3);
    assert_string_equal(c->plugins.at[1].name, "memory");
    assert_true(c->plugins.at[1].disabled);
    const struct config_plugin *p = config_plugin_find(&c->plugins, "UpstreamAuthority", "disk");
    assert_ptr_equal(p, &c->plugins.at[0]);
    assert_int_equal(notes.len, 1);
    assert_non_null(strstr(notes.at[0].text, "UpstreamCA"));
    struct cs_slice text;
    struct config_upstream_disk disk;
    assert_int_equal(config_plugin_text(p, a, &text, &e), CS_OK);
    assert_int_equal(config_read_upstream_disk(text, a, &disk, &e), CS_OK);
    assert_string_equal(disk.key_file_path, "k${x}");
    assert_string_equal(disk.bundle_file_path, "");
    p = config_plugin_find(&c->plugins, "KeyManager", "disk");
    assert_int_equal(config_plugin_text(p, a, &text, &e), CS_NOT_FOUND);
    assert_null(config_plugin_find(&c->plugins, "KeyManager", "none"));
}

static void refused(const char *plugins, const char *message)
{
    struct cs_err e;
    char text[512];
    CS_AUTO(server_config) c = NULL;
    (void)snprintf(text, sizeof text, SERVER_MINIMAL "}\nplugins { %s }\n", plugins);
    assert_int_equal(server_config_parse("c", cs_slice_str(text), false, NULL, &c, NULL, &e),
                     CS_UNIMPLEMENTED);
    assert_string_equal(e.text, message);
}

static void plugins_not_built_yet(void **state)
{
    (void)state;
    refused("NodeAttestor \"x509pop\" {}", "plugin NodeAttestor \"x509pop\" is not supported yet");
    CS_AUTO(server_config)
    c = server(SERVER_MINIMAL "}\nplugins { NodeAttestor \"x509pop\" { enabled = false } }", NULL);
    assert_int_equal(c->plugins.len, 1);
    CS_AUTO(server_config)
    d = server(SERVER_MINIMAL "}\nplugins { NodeAttestor \"x509pop\" { plugin_cmd = \"/x\" } }", NULL);
    assert_string_equal(d->plugins.at[0].cmd, "/x");
}

static void agent_defaults_and_flags(void **state)
{
    (void)state;
    CS_AUTO(agent_config) c = agent(AGENT_MINIMAL "}\n" PLUGINS, NULL);
    assert_int_equal(notes.len, 0);
    assert_string_equal(c->data_dir, ".");
    assert_string_equal(c->socket_path, AGENT_CONFIG_DEFAULT_SOCKET);
    assert_string_equal(c->admin_socket_path, "");
    assert_int_equal(c->rebootstrap_mode, AGENT_REBOOTSTRAP_NEVER);
    assert_int_equal(c->rebootstrap_delay_ns, 600 * CS_NS_PER_S);
    assert_true(c->use_sync_authorized_entries && c->insecure_bootstrap);
    assert_string_equal(c->sds_default_bundle_name, "ROOTCA");
    assert_int_equal(c->workload_x509_svid_key_type, CONFIG_KEY_EC_P256);
    const struct agent_config_flags flags = {.join_token = "t",
                                             .server_address = "b",
                                             .server_port = 7,
                                             .trust_bundle_path = "p",
                                             .disable_sds_api = true,
                                             .disable_workload_api = true};
    CS_AUTO(agent_config)
    d = agent("agent { trust_domain = \"example.org\" server_address = \"a\" "
              "experimental { sync_interval = \"1s\" } }\n" PLUGINS,
              &flags);
    assert_string_equal(d->join_token, "t");
    assert_string_equal(d->server_address, "b");
    assert_int_equal(d->server_port, 7);
    assert_string_equal(d->trust_bundle_path, "p");
    assert_string_equal(d->socket_path, "");
    assert_int_equal(d->sync_interval_ns, CS_NS_PER_S);
    assert_int_equal(notes.len, 1);
}

static void join_token_from_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/cspire-token-XXXXXX", text[256];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, " \n tok en\n\n", 11), 11);
    assert_int_equal(close(fd), 0);
    (void)snprintf(text, sizeof text, AGENT_MINIMAL "join_token_file = \"%s\" }\n" PLUGINS, path);
    CS_AUTO(agent_config) c = agent(text, NULL);
    assert_string_equal(c->join_token, "tok en");
    assert_int_equal(unlink(path), 0);
}

static void files(void **state)
{
    (void)state;
    struct cs_err e;
    CS_AUTO(server_config) c = NULL;
    assert_int_equal(server_config_load("/nonexistent/../x.conf", false, NULL, &c, NULL, &e), CS_NOT_FOUND);
    assert_string_equal(e.text, "could not find config file /x.conf: please use the -config flag");
    assert_int_not_equal(server_config_load("/tmp", false, NULL, &c, NULL, &e), CS_OK);
    assert_non_null(strstr(e.text, "unable to read configuration at \"/tmp\": "));
}

static void variables(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"a$CS_Tb", "a"},
        {"a${CS_T}b", "avalb"},
        {"$CS_T.x", "val.x"},
        {"$$CS_T", "$CS_T"},
        {"${$}", "$"},
        {"$", "$"},
        {"a$ b", "a$ b"},
        {"${}x", "x"},
        {"${CS_T", "CS_T"},
        {"$1x", "x"},
        {"$*", ""},
        {"${CS_NONE}", ""},
        {"$CS_T$CS_T", "valval"},
        {"\"$\"", "\"$\""},
        {"${a b}", ""},
        {"", ""},
    };
    assert_int_equal(setenv("CS_T", "val", 1), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
        config_expand_env(&b, cs_slice_str(rows[i][0]));
        assert_string_equal(cs_buf_cstr(&b), rows[i][1]);
    }
    struct cs_err e;
    CS_AUTO(server_config) c = NULL;
    const char *text = "server { trust_domain = \"$CS_T\" data_dir = \"d\" jwt_issuer = \"$$x\" }\n" PLUGINS;
    assert_int_equal(server_config_parse("c", cs_slice_str(text), true, NULL, &c, NULL, &e), CS_OK);
    assert_string_equal(c->trust_domain, "val");
    assert_string_equal(c->jwt_issuer, "$x");
}

static void no_memory(void **state)
{
    (void)state;
    const char *text =
        SERVER_MINIMAL "zoo = 1 admin_ids = [\"spiffe://example.org/a\"] default_x509_svid_ttl = \"5h\" "
                       "experimental { sql_transaction_timeout = \"1m\" } "
                       "federation { federates_with \"a\" { bundle_endpoint_url = \"https://x\" } } }\n"
                       "plugins { UpstreamCA \"disk\" { plugin_data { a = 1 } } }\n";
    for (size_t n = 1;; n++) {
        struct cs_err e = {0};
        struct config_notes mine = {0};
        CS_AUTO(server_config) c = NULL;
        (void)cs_mem_fail_at(n, true);
        cs_code code = server_config_parse("c", cs_slice_str(text), false, NULL, &c, &mine, &e);
        (void)cs_mem_fail_at(0, false);
        config_notes_free(&mine);
        assert_null(c);
        assert_int_equal(code, e.code);
        if (strcmp(e.text, "unknown configuration detected") == 0)
            break;
        assert_true(n < 5000);
    }
}

static void no_memory_agent(void **state)
{
    (void)state;
    const char *text =
        "{\"agent\": {\"trust_domain\": \"$CS_T\", \"server_address\": \"a\", \"server_port\": 1, "
        "\"trust_bundle_url\": \"https://x\", \"admin_socket_path\": \"x/y\", "
        "\"availability_target\": \"24h\", \"join_token_file\": \"/proc/self/comm\"}, "
        "\"plugins\": {\"KeyManager\": {\"disk\": {\"plugin_data\": {\"directory\": \"d\"}}}}}";
    assert_int_equal(setenv("CS_T", "val", 1), 0);
    for (size_t n = 1;; n++) {
        struct cs_err e = {0};
        struct config_notes mine = {0};
        CS_AUTO(agent_config) c = NULL;
        (void)cs_mem_fail_at(n, true);
        cs_code code = agent_config_parse("c", cs_slice_str(text), true, NULL, &c, &mine, &e);
        (void)cs_mem_fail_at(0, false);
        config_notes_free(&mine);
        assert_int_equal(code == CS_OK, c != NULL);
        assert_int_equal(code, e.code);
        if (code == CS_OK)
            break;
        assert_true(n < 5000);
    }
}

static int clean_up(void **state)
{
    (void)state;
    config_notes_free(&notes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_defaults),
        cmocka_unit_test(server_flags_win),
        cmocka_unit_test(server_values),
        cmocka_unit_test(lifetimes_are_warned_of),
        cmocka_unit_test(unknown_keys_are_named),
        cmocka_unit_test(plugin_blocks),
        cmocka_unit_test(plugins_not_built_yet),
        cmocka_unit_test(agent_defaults_and_flags),
        cmocka_unit_test(join_token_from_a_file),
        cmocka_unit_test(files),
        cmocka_unit_test(variables),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(no_memory_agent),
    };
    return cmocka_run_group_tests(tests, NULL, clean_up);
}
