/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the attestors that ask others. Texts are SPIRE's.
 */
#include "config/attestor_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct cs_arena *arena;

static struct config_k8s k8s(const char *text)
{
    struct config_k8s c;
    struct cs_err e;
    cs_arena_reset(arena);
    if (config_read_k8s(cs_slice_str(text), arena, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    return c;
}

static void test_k8s_defaults(void **state)
{
    (void)state;
    unsetenv("MY_NODE_NAME");
    struct config_k8s c = k8s("");
    assert_true(c.secure && c.use_new_container_locator);
    assert_int_equal(c.port, 10250);
    assert_int_equal(c.max_poll_attempts, 60);
    assert_int_equal(c.poll_retry_interval_ns, 500000000);
    assert_int_equal(c.reload_interval_ns, 60000000000);
    assert_string_equal(c.kubelet_ca_path, "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt");
    assert_string_equal(c.token_path, "/var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_string_equal(c.node_name, "");
    assert_true(!c.disable_kubelet_client && !c.skip_kubelet_verification && !c.enable_namespace_labels);
    c = k8s("max_poll_attempts = -1 poll_retry_interval = \"-1s\" reload_interval = \"0s\" "
            "kubelet_secure_port = 0"
            " kubelet_read_only_port = -1");
    assert_true(c.secure && c.port == 10250 && c.max_poll_attempts == 60);
    assert_int_equal(c.poll_retry_interval_ns, 500000000);
    assert_int_equal(c.reload_interval_ns, 60000000000);
}

static void test_k8s_values(void **state)
{
    (void)state;
    struct config_k8s c =
        k8s("kubelet_read_only_port = 10255 poll_retry_interval = \"2s\""
            " use_new_container_locator = false experimental { api_server { cache { enabled = true } } }");
    assert_true(!c.secure && c.port == 10255 && !c.use_new_container_locator);
    assert_int_equal(c.poll_retry_interval_ns, 2000000000);
    setenv("MY_NODE_NAME", "from-default", 1);
    setenv("OTHER", "from-other", 1);
    assert_string_equal(k8s("").node_name, "from-default");
    assert_string_equal(k8s("node_name_env = \"OTHER\"").node_name, "from-other");
    assert_string_equal(k8s("node_name_env = \"OTHER\" node_name = \"n\"").node_name, "n");
    unsetenv("MY_NODE_NAME");
    unsetenv("OTHER");
    assert_string_equal(k8s("node_name_env = \"OTHER\"").node_name, "");
}

static void test_k8s_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *fault;
        cs_code code;
    } cases[] = {
        {"kubelet_read_only_port = 1 kubelet_secure_port = 2",
         "cannot use both the read-only and secure port", CS_INVALID},
        {"kubelet_secure_port = 70000", "kubelet_secure_port: 70000 is no port", CS_INVALID},
        {"poll_retry_interval = \"x\"", "unable to parse poll retry interval: time: invalid duration \"x\"",
         CS_INVALID},
        {"reload_interval = \"5\"", "unable to parse reload interval: time: missing unit in duration \"5\"",
         CS_INVALID},
        {"zeta = 1 alpha = 2", "unknown configurations detected: alpha,zeta", CS_INVALID},
        {"experimental { alpha = 2 }", "unknown configurations detected: alpha", CS_INVALID},
        {"experimental { api_server { cache { alpha = 2 } } }", "unknown configurations detected: alpha",
         CS_INVALID},
        {"sigstore { }", "sigstore is not supported yet", CS_UNIMPLEMENTED},
        {"experimental { broker { access_policy = \"enforced\" } }",
         "experimental.broker is not supported yet", CS_UNIMPLEMENTED},
        {"disable_kubelet_client = true token_path = \"/t\"",
         "disable_kubelet_client cannot be used with token_path", CS_INVALID},
        {"disable_kubelet_client = true reload_interval = \"1s\"",
         "disable_kubelet_client cannot be used with reload_interval", CS_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_k8s c;
        struct cs_err e;
        cs_arena_reset(arena);
        assert_int_equal(config_read_k8s(cs_slice_str(cases[i].text), arena, &c, &e), cases[i].code);
        assert_string_equal(e.text, cases[i].fault);
    }
}

static void test_docker(void **state)
{
    (void)state;
    struct config_docker c;
    struct cs_err e;
    assert_int_equal(config_read_docker(cs_slice_str(""), arena, &c, &e), CS_OK);
    assert_string_equal(c.docker_socket_path, "unix:///var/run/docker.sock");
    assert_string_equal(c.podman_socket_path, "unix:///run/podman/podman.sock");
    assert_string_equal(c.podman_socket_path_template, "unix:///run/user/%d/podman/podman.sock");
    assert_string_equal(c.docker_version, "");
    assert_true(c.use_new_container_locator && !c.verbose_container_locator_logs);
    assert_int_equal(
        config_read_docker(cs_slice_str("use_new_container_locator = false docker_version = \"1.20\""
                                        " container_id_cgroup_matchers = [\"/docker/<id>\"]"),
                           arena, &c, &e),
        CS_OK);
    assert_int_equal(c.container_id_cgroup_matchers.len, 1);
    assert_string_equal(c.docker_version, "1.20");
}

static void test_docker_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *fault;
        cs_code code;
    } cases[] = {
        {"container_id_cgroup_matchers = [\"/docker/<id>\"]",
         "the new container locator and custom cgroup matchers cannot both be used; please open an issue if "
         "the new "
         "container locator fails to locate workload containers in your environment; to continue using "
         "custom "
         "matchers set use_new_container_locator=false",
         CS_INVALID},
        {"podman_socket_path_template = \"unix:///run/user/%s/podman\"",
         "invalid podman_socket_path_template: template only supports escaped %% or the %d UID placeholder",
         CS_INVALID},
        {"podman_socket_path_template = \"unix:///run/user/%d/podman%\"",
         "invalid podman_socket_path_template: trailing % at end of template", CS_INVALID},
        {"podman_socket_path_template = \"unix:///run/user/%%/podman\"",
         "invalid podman_socket_path_template: template must contain exactly one %d UID placeholder",
         CS_INVALID},
        {"docker_socket_path = \"/var/run/docker.sock\"",
         "unable to parse docker host `/var/run/docker.sock`", CS_INVALID},
        {"docker_socket_path = \"npipe:////./x\"",
         "docker host `npipe:////./x` is neither unix:// nor tcp://", CS_INVALID},
        {"sigstore { }", "sigstore is not supported yet", CS_UNIMPLEMENTED},
        {"b = 1 a = 2", "unknown configurations detected: a,b", CS_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config_docker c;
        struct cs_err e;
        cs_arena_reset(arena);
        assert_int_equal(config_read_docker(cs_slice_str(cases[i].text), arena, &c, &e), cases[i].code);
        assert_string_equal(e.text, cases[i].fault);
    }
}

int main(void)
{
    arena = cs_arena_new(0, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_k8s_defaults),   cmocka_unit_test(test_k8s_values),
        cmocka_unit_test(test_k8s_refused),    cmocka_unit_test(test_docker),
        cmocka_unit_test(test_docker_refused),
    };
    int failed = cmocka_run_group_tests_name("attestor_config", tests, NULL, NULL);
    cs_arena_free(arena);
    return failed;
}
