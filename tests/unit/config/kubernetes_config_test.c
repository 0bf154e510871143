/* SPDX-License-Identifier: Apache-2.0
 *
 * Options of the plugins for Kubernetes.
 */
#include "config/kubernetes_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct cs_arena *arena;

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

static void psat(void **state)
{
    struct config_k8s_psat c;
    struct config_remarks r = {0};
    struct cs_err e = {0};
    (void)state;
    assert_int_equal(
        config_read_k8s_psat(cs_slice_str("clusters = { \"a\" = { service_account_allow_list = [\"n:s\"] }, "
                                          "\"b\" = { service_account_allow_list = [\"n:s\", \"n:t\"] "
                                          "audience = [] use_pod_uid_for_agent_id = true } }"),
                             arena, &c, &r, &e),
        CS_OK);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.clusters[0].audience.len, 1);
    assert_string_equal(c.clusters[0].audience.at[0], "spire-server");
    assert_string_equal(c.clusters[0].kube_config_file, "");
    assert_int_equal(c.clusters[1].audience.len, 0); /* given, and empty */
    assert_int_equal(c.clusters[1].service_accounts.len, 2);
    assert_true(c.clusters[1].use_pod_uid);
    assert_int_equal(r.len, 0);
    /* no clusters: a hint */
    assert_int_equal(config_read_k8s_psat(cs_slice_str(""), arena, &c, &r, &e), CS_OK);
    assert_int_equal(r.len, 1);
    assert_false(r.faulty);
    assert_string_equal(r.at[0], "No clusters configured, PSAT attestation is effectively disabled");
    /* each fault is a remark, the first the error */
    r = (struct config_remarks){0};
    assert_int_equal(
        config_read_k8s_psat(cs_slice_str("clusters = { \"a\" = {} \"b\" = {} }"), arena, &c, &r, &e),
        CS_INVALID);
    assert_int_equal(r.len, 2);
    assert_string_equal(e.text, "cluster \"a\" configuration must have at least one service account allowed");
    assert_string_equal(r.at[1],
                        "cluster \"b\" configuration must have at least one service account allowed");
    r = (struct config_remarks){0};
    assert_int_equal(config_read_k8s_psat(cs_slice_str("clusters = \"x\""), arena, &c, &r, &e), CS_INVALID);
    assert_int_equal(r.len, 1);
}

static void sat(void **state)
{
    struct config_k8s_sat c;
    struct config_remarks r = {0};
    struct cs_err e = {0};
    (void)state;
    /* the demo's: labelled in the old way */
    assert_int_equal(
        config_read_k8s_sat(cs_slice_str("clusters = { \"demo-cluster\" = { "
                                         "use_token_review_api_validation = true "
                                         "service_account_allow_list = [\"spire:spire-agent\"] } }"),
                            arena, &c, &r, &e),
        CS_OK);
    assert_string_equal(c.clusters[0].name, "demo-cluster");
    assert_true(c.clusters[0].use_token_review);
    assert_int_equal(config_read_k8s_sat(cs_slice_str("clusters = { \"a\" = {} }"), arena, &c, &r, &e),
                     CS_INVALID);
    assert_string_equal(e.text, "cluster \"a\" configuration missing service account key file");
    assert_int_equal(r.len, 2);
    r = (struct config_remarks){0};
    assert_int_equal(config_read_k8s_sat(cs_slice_str(""), arena, &c, &r, &e), CS_INVALID);
    assert_string_equal(e.text, "configuration must have at least one cluster");
}

static void agents(void **state)
{
    struct config_k8s_agent c;
    struct cs_err e = {0};
    (void)state;
    assert_int_equal(config_read_k8s_psat_agent(cs_slice_str("cluster = \"c\""), arena, &c, &e), CS_OK);
    assert_string_equal(c.token_path, "/var/run/secrets/tokens/spire-agent");
    assert_int_equal(config_read_k8s_sat_agent(cs_slice_str("cluster = \"c\""), arena, &c, &e), CS_OK);
    assert_string_equal(c.token_path, "/var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_int_equal(
        config_read_k8s_sat_agent(cs_slice_str("cluster = \"c\" token_path = \"/t\""), arena, &c, &e), CS_OK);
    assert_string_equal(c.token_path, "/t");
    assert_int_equal(config_read_k8s_psat_agent(cs_slice_str(""), arena, &c, &e), CS_INVALID);
    assert_string_equal(e.text, "missing required cluster block");
    assert_int_equal(config_read_k8s_sat_agent(cs_slice_str(""), arena, &c, &e), CS_INVALID);
    assert_string_equal(e.text, "configuration missing cluster");
}

static void bundles(void **state)
{
    struct config_k8sbundle c;
    struct cs_err e = {0};
    (void)state;
    assert_int_equal(config_read_k8sbundle(cs_slice_str(""), arena, &c, &e), CS_OK);
    assert_int_equal(c.count, 1);
    assert_string_equal(c.clusters[0].namespace, "spire");
    assert_string_equal(c.clusters[0].config_map, "spire-bundle");
    assert_string_equal(c.clusters[0].config_map_key, "bundle.crt");
    assert_string_equal(c.clusters[0].kube_config_file_path, "");
    /* further clusters alone: the root does not count */
    assert_int_equal(
        config_read_k8sbundle(cs_slice_str("clusters = [{ kube_config_file_path = \"/a\" }, "
                                           "{ kube_config_file_path = \"/b\", webhook_label = \"l\" }]"),
                              arena, &c, &e),
        CS_OK);
    assert_int_equal(c.count, 2);
    assert_string_equal(c.clusters[1].kube_config_file_path, "/b");
    assert_string_equal(c.clusters[1].webhook_label, "l");
    assert_int_equal(
        config_read_k8sbundle(
            cs_slice_str("namespace = \"n\" clusters = [{ kube_config_file_path = \"/a\" }]"), arena, &c, &e),
        CS_OK);
    assert_int_equal(c.count, 2);
    assert_string_equal(c.clusters[0].namespace, "n");
    assert_int_equal(config_read_k8sbundle(cs_slice_str("clusters = [{}]"), arena, &c, &e), CS_INVALID);
    assert_int_equal(c.count, 0);
}

static void config_maps(void **state)
{
    struct config_k8s_configmap c;
    struct config_remarks r = {0};
    struct cs_err e = {0};
    (void)state;
    assert_int_equal(
        config_read_k8s_configmap(cs_slice_str("clusters { \"a\" { format = \"SPIFFE\" namespace = \"n\" "
                                               "configmap_name = \"m\" configmap_key = \"k\" "
                                               "refresh_hint = \"30s\" } }"),
                                  arena, &c, &r, &e),
        CS_OK);
    assert_int_equal(c.clusters[0].format, CONFIG_BUNDLE_SPIFFE);
    assert_int_equal(c.clusters[0].refresh_hint_s, 30);
    assert_int_equal(r.len, 1); /* too low, which is a hint */
    assert_false(r.faulty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(psat), cmocka_unit_test(sat),
                                       cmocka_unit_test(agents), cmocka_unit_test(bundles),
                                       cmocka_unit_test(config_maps)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
