/* SPDX-License-Identifier: Apache-2.0
 *
 * The binary interface of the kit as version 0 has it, where a pointer has 8 bytes. A row that does not fit
 * any more means that plugins compiled before would break: structs with `size` may grow at the end (change
 * the first number), nothing else may.
 */
#include "cspire/plugin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define ROW(type, last, size, offset)                                                                        \
    {                                                                                                        \
#type, sizeof(type), size, offsetof(type, last), offset                                              \
    }

static const struct {
    const char *name;
    size_t size, old_size, last, old_last;
} rows[] = {
    ROW(struct cspire_bytes, len, 16, 8),
    ROW(struct cspire_texts, count, 16, 8),
    ROW(struct cspire_field, value, 16, 8),
    ROW(struct cspire_authority, tainted, 24, 16),
    ROW(struct cspire_jwt_key, tainted, 40, 32),
    ROW(struct cspire_bundle, sequence_number, 64, 56),
    ROW(struct cspire_identity, bundle, 48, 40),
    ROW(struct cspire_metric, start_ns, 64, 56),
    ROW(struct cspire_sign_request, salt_length, 48, 40),
    ROW(struct cspire_key_manager_ops, sign, 40, 32),
    ROW(struct cspire_attest_request, client_ip, 40, 32),
    ROW(struct cspire_server_node_attestor_ops, end, 32, 24),
    ROW(struct cspire_agent_node_attestor_ops, end, 32, 24),
    ROW(struct cspire_reference, value, 32, 16),
    ROW(struct cspire_workload_attestor_ops, attest_reference, 24, 16),
    ROW(struct cspire_upstream_authority_ops, get_bundle, 32, 24),
    ROW(struct cspire_notifier_ops, bundle_loaded, 24, 16),
    ROW(struct cspire_bundle_publisher_ops, publish, 16, 8),
    ROW(struct cspire_extension, critical, 32, 24),
    ROW(struct cspire_name_attribute, value, 16, 8),
    ROW(struct cspire_name, extra_count, 144, 136),
    ROW(struct cspire_x509_attributes, extension_count, 200, 192),
    ROW(struct cspire_credential_composer_ops, workload_jwt_svid, 48, 40),
    ROW(struct cspire_federated_bundle, bundle, 24, 8),
    ROW(struct cspire_svid, expires_at, 88, 80),
    ROW(struct cspire_svid_store_ops, remove, 24, 16),
    ROW(union cspire_ops, svid_store, 8, 0),
    ROW(struct cspire_plugin, validate, 56, 48),
};

static void test_layout(void **state)
{
    (void)state;
    if (sizeof(void *) != 8)
        skip();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].size != rows[i].old_size || rows[i].last != rows[i].old_last)
            fail_msg("%s has %zu bytes, not %zu; its last member is at %zu, not %zu", rows[i].name,
                     rows[i].size, rows[i].old_size, rows[i].last, rows[i].old_last);
    }
}

/* gRPC's, SPIRE's and hclog's numbers. */
static void test_numbers(void **state)
{
    (void)state;
    assert_int_equal(CSPIRE_UNAUTHENTICATED, 16);
    assert_int_equal(CSPIRE_KEY_RSA_4096, 4);
    assert_int_equal(CSPIRE_HASH_SHA512_256, 15);
    assert_int_equal(CSPIRE_ERROR, 5);
    assert_int_equal(CSPIRE_METRIC_SINCE, 5);
    assert_int_equal(CSPIRE_HOST_METRICS, 3);
    assert_int_equal(CSPIRE_SVID_STORE, 10);
    assert_int_equal(CSPIRE_SERIAL, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layout), cmocka_unit_test(test_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
