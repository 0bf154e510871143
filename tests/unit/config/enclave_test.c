/* SPDX-License-Identifier: Apache-2.0
 *
 * agent { enclave { ... } }: defaults, and what is refused.
 */
#include "config/agent_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct config_notes notes;

static cs_code load(const char *enclave, struct agent_config **out, struct cs_err *e)
{
    char text[2048];
    (void)snprintf(text, sizeof text,
                   "agent { server_address = \"s\" server_port = 8081 trust_domain = \"example.org\" "
                   "insecure_bootstrap = true %s }\nplugins { KeyManager \"memory\" { plugin_data {} } "
                   "NodeAttestor \"nitro_enclave\" { plugin_data {} } }",
                   enclave);
    config_notes_free(&notes);
    return agent_config_parse("c", cs_slice_str(text), false, NULL, out, &notes, e);
}

static struct agent_config *good(const char *enclave)
{
    struct agent_config *c = NULL;
    struct cs_err e;
    if (load(enclave, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    return c;
}

static void has_defaults(void **state)
{
    (void)state;
    CS_AUTO(agent_config) none = good("");
    assert_false(none->enclave.on);
    assert_string_equal(none->socket_path, AGENT_CONFIG_DEFAULT_SOCKET);
    CS_AUTO(agent_config) c = good("enclave {}");
    assert_true(c->enclave.on);
    assert_string_equal(c->socket_path, "");
    assert_string_equal(c->enclave.svid_dir, "/var/run/spiffe");
    assert_string_equal(c->enclave.svid_file_name, "svid.pem");
    assert_string_equal(c->enclave.svid_key_file_name, "svid_key.pem");
    assert_string_equal(c->enclave.svid_bundle_file_name, "svid_bundle.pem");
    assert_string_equal(c->enclave.workload_api_addr, "127.0.0.1:5000");
    assert_string_equal(c->enclave.server_proxy, "");
    assert_string_equal(c->enclave.hint, "");
    assert_int_equal(c->enclave.command.len, 0);
    assert_true(c->enclave.uid == -1 && c->enclave.gid == -1);
}

static void takes_what_is_given(void **state)
{
    (void)state;
    CS_AUTO(agent_config)
    c = good(
        "socket_path = \"/tmp/a/api.sock\" enclave { svid_dir = \"\" workload_api_addr = \"[::1]:5001\" "
        "server_proxy = \"vsock://3:8081\" command = [\"/app\", \"-x\"] uid = 0 gid = 1000 hint = \"db\" }");
    assert_string_equal(c->socket_path, "/tmp/a/api.sock");
    assert_string_equal(c->enclave.svid_dir, "");
    assert_string_equal(c->enclave.workload_api_addr, "[::1]:5001");
    assert_string_equal(c->enclave.server_proxy, "vsock://3:8081");
    assert_int_equal(c->enclave.command.len, 2);
    assert_string_equal(c->enclave.command.at[1], "-x");
    assert_string_equal(c->enclave.hint, "db");
    assert_true(c->enclave.uid == 0 && c->enclave.gid == 1000);
}

static void refuses_the_rest(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"workload_api_addr = \"0.0.0.0:5000\"",
         "enclave: workload_api_addr \"0.0.0.0:5000\" must be a loopback address"},
        {"workload_api_addr = \"localhost:5000\"",
         "enclave: workload_api_addr \"localhost:5000\" must be a loopback address"},
        {"workload_api_addr = \"10.0.0.1:5000\"",
         "enclave: workload_api_addr \"10.0.0.1:5000\" must be a loopback address"},
        {"workload_api_addr = \"[::]:5000\"",
         "enclave: workload_api_addr \"[::]:5000\" must be a loopback address"},
        {"workload_api_addr = \"::1:5000\"",
         "enclave: workload_api_addr \"::1:5000\" must be a loopback address"},
        {"workload_api_addr = \"127.0.0.1\"",
         "enclave: workload_api_addr \"127.0.0.1\" must be ADDRESS:PORT"},
        {"workload_api_addr = \"127.0.0.1:65536\"",
         "enclave: workload_api_addr \"127.0.0.1:65536\" must be ADDRESS:PORT"},
        {"workload_api_addr = \"127.0.0.1:0\"",
         "enclave: workload_api_addr \"127.0.0.1:0\" must be ADDRESS:PORT"},
        {"svid_file_name = \"../svid.pem\"", "enclave: \"../svid.pem\" is no name for a file in svid_dir"},
        {"svid_file_name = \"..data\"", "enclave: \"..data\" is no name for a file in svid_dir"},
        {"svid_key_file_name = \"\"", "enclave: \"\" is no name for a file in svid_dir"},
        {"svid_key_file_name = \"svid.pem\"", "enclave: two files have the name \"svid.pem\""},
        {"command = [\"app\"]", "enclave: command must begin with an absolute path"},
        {"uid = -1", "enclave: uid must be between 0 and 4294967294"},
        {"gid = 4294967295", "enclave: gid must be between 0 and 4294967294"},
        {"svid_path = \"/x\"", "unknown configuration detected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char block[256];
        struct agent_config *c = NULL;
        struct cs_err e;
        (void)snprintf(block, sizeof block, "enclave { %s }", cases[i].text);
        if (load(block, &c, &e) != CS_INVALID || strcmp(e.text, cases[i].want) != 0)
            fail_msg("%s: %s", cases[i].text, e.text);
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
        cmocka_unit_test(has_defaults),
        cmocka_unit_test(takes_what_is_given),
        cmocka_unit_test(refuses_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, clean_up);
}
