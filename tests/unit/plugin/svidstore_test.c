/* SPDX-License-Identifier: Apache-2.0
 *
 * What SVIDStores share: metadata, and the secret of SPIRE's stores.
 */
#include "plugin/svidstore.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void metadata_is_keys_and_values(void **state)
{
    (void)state;
    static const char *const m[] = {"name:a", "arn:aws:x", "empty:", "name:b"};
    static const char *const bad[] = {"name:a", "invalid"};
    struct cs_err e;
    assert_int_equal(plugin_svid_metadata_check(m, 4, &e), CS_OK);
    assert_string_equal(plugin_svid_metadata(m, 4, "name"), "b");
    assert_string_equal(plugin_svid_metadata(m, 4, "arn"), "aws:x");
    assert_string_equal(plugin_svid_metadata(m, 4, "empty"), "");
    assert_null(plugin_svid_metadata(m, 4, "nam"));
    assert_null(plugin_svid_metadata(m, 0, "name"));
    assert_int_equal(plugin_svid_metadata_check(bad, 2, &e), CS_INVALID);
    assert_string_equal(e.text, "metadata does not contain a colon: \"invalid\"");
}

/* As Go writes SPIRE's struct: members in this order, empty ones left out, keys of maps sorted. */
static void the_secret_is_spires(void **state)
{
    (void)state;
    const struct cs_slice a[] = {cs_slice_str("a"), cs_slice_str("b")};
    const struct svidstore_federated fed[] = {{"spiffe://z.test", a, 2}, {"spiffe://b.test", a, 1}};
    struct svidstore_svid svid = {.spiffe_id = "spiffe://example.org/w",
                                  .chain = a,
                                  .chain_count = 2,
                                  .key = cs_slice_str("k"),
                                  .bundle = a,
                                  .bundle_count = 1,
                                  .federated = fed,
                                  .federated_count = 2};
#define CERT_A "-----BEGIN CERTIFICATE-----\\nYQ==\\n-----END CERTIFICATE-----\\n"
#define CERT_B "-----BEGIN CERTIFICATE-----\\nYg==\\n-----END CERTIFICATE-----\\n"
#define KEY "-----BEGIN PRIVATE KEY-----\\naw==\\n-----END PRIVATE KEY-----\\n"
    CS_CLEANUP(cs_buf_wipe) struct cs_buf out = {0};
    assert_int_equal(plugin_svid_secret_json(&svid, &out, NULL), CS_OK);
    const char *wanted = "{\"spiffeID\":\"spiffe://example.org/w\","
                         "\"x509SVID\":\"" CERT_A CERT_B "\","
                         "\"x509SVIDKey\":\"" KEY "\","
                         "\"bundle\":\"" CERT_A "\","
                         "\"federatedBundles\":{"
                         "\"spiffe://b.test\":\"" CERT_A "\","
                         "\"spiffe://z.test\":\"" CERT_A CERT_B "\"}}";
    assert_string_equal(cs_buf_cstr(&out), wanted);
    cs_buf_wipe(&out);
    svid.federated_count = 0;
    svid.bundle_count = 0;
    assert_int_equal(plugin_svid_secret_json(&svid, &out, NULL), CS_OK);
    assert_null(strstr(cs_buf_cstr(&out), "undle"));
}

/* The buffer with the key in it does not grow: what it leaves behind would not be wiped. */
static void the_secret_does_not_move(void **state)
{
    (void)state;
    static uint8_t big[3000];
    const struct cs_slice a[] = {cs_slice_of(big, sizeof big), cs_slice_of(big, 1)};
    const struct svidstore_federated fed[] = {{"spiffe://z.test", a, 2}, {"spiffe://b.test", a, 2}};
    const struct svidstore_svid svid = {.spiffe_id = "spiffe://example.org/w",
                                        .chain = a,
                                        .chain_count = 2,
                                        .key = cs_slice_of(big, sizeof big),
                                        .bundle = a,
                                        .bundle_count = 2,
                                        .federated = fed,
                                        .federated_count = 2};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf out = {0};
    (void)cs_mem_fail_at(0, false);
    assert_int_equal(plugin_svid_secret_json(&svid, &out, NULL), CS_OK);
    size_t cap = out.cap;
    assert_true(out.len < cap);
    cs_buf_wipe(&out);
    assert_true(cs_buf_reserve(&out, cap));
    const uint8_t *where = out.data;
    assert_int_equal(plugin_svid_secret_json(&svid, &out, NULL), CS_OK);
    assert_ptr_equal(out.data, where);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    const struct cs_slice a[] = {cs_slice_str("a")};
    const struct svidstore_federated fed[] = {{"spiffe://z.test", a, 1}};
    const struct svidstore_svid svid = {.spiffe_id = "x",
                                        .chain = a,
                                        .chain_count = 1,
                                        .key = cs_slice_str("k"),
                                        .bundle = a,
                                        .bundle_count = 1,
                                        .federated = fed,
                                        .federated_count = 1};
    for (int forever = 0; forever < 2; forever++)
        for (size_t i = 1;; i++) {
            CS_CLEANUP(cs_buf_wipe) struct cs_buf out = {0};
            (void)cs_mem_fail_at(i, forever);
            cs_code rc = plugin_svid_secret_json(&svid, &out, NULL);
            (void)cs_mem_fail_at(0, false);
            if (rc == CS_OK) { /* with all of it */
                static const char *const members[] = {"spiffeID", "x509SVID", "x509SVIDKey", "bundle",
                                                      "federatedBundles"};
                for (size_t k = 0; k < sizeof members / sizeof members[0]; k++)
                    assert_non_null(strstr(cs_buf_cstr(&out), members[k]));
                break;
            }
            assert_int_equal(rc, CS_INTERNAL);
            assert_true(i < 50);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_is_keys_and_values),
        cmocka_unit_test(the_secret_is_spires),
        cmocka_unit_test(the_secret_does_not_move),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
