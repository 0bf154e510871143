/* SPDX-License-Identifier: Apache-2.0
 *
 * What every SVIDStore does.
 */
#include "plugin/svidstore.h"

#include "spiffe/bundle.h"
#include "tests/suite/reference.h"
#include "tests/suite/subject.h"

static const struct svidstore_ops *ops(const struct suite *s)
{
    return s->ops;
}

static struct svidstore_svid make_svid(const struct spiffe_bundle *bundle)
{
    static struct cs_slice chain[2], roots[2];
    static struct svidstore_federated far[2];
    for (size_t i = 0; i < 2; i++)
        chain[i] = roots[i] = bundle->x509[i].cert->der;
    far[0] = (struct svidstore_federated){"spiffe://far.test", roots, 2};
    far[1] = (struct svidstore_federated){"spiffe://near.test", roots + 1, 1};
    return (struct svidstore_svid){
        .spiffe_id = "spiffe://example.org/w",
        .chain = chain,
        .chain_count = 2,
        .key = cs_slice_str("0123456789"),
        .bundle = roots,
        .bundle_count = 2,
        .federated = far,
        .federated_count = 2,
        .expires_at = 1790000000,
    };
}

static const char *const metadata[] = {"region:x", "name:db"};

static void assert_stored(const struct suite *s, const struct svidstore_svid *svid)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf wanted = {0};
    struct cs_buf got = suite_file(s, "db");
    reference_dump_svid(&wanted, svid);
    cs_buf_add_str(&wanted, "metadata region:x\nmetadata name:db\n");
    assert_true(wanted.len > 1000);
    assert_string_equal(cs_buf_cstr(&got), cs_buf_cstr(&wanted));
    cs_buf_free(&got);
}

static void an_svid_is_put_again_and_removed(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(spiffe_bundle) bundle = suite_bundle(0);
    struct svidstore_svid svid = make_svid(bundle);
    suite_must(ops(s)->put(s->self, &svid, metadata, 2, &e), &e);
    assert_stored(s, &svid);
    svid.chain_count = 1;
    svid.federated_count = 0;
    svid.expires_at++;
    suite_must(ops(s)->put(s->self, &svid, metadata, 2, &e), &e);
    assert_stored(s, &svid);
    suite_must(ops(s)->remove(s->self, metadata, 2, &e), &e);
    assert_null(suite_file(s, "db").data);
    suite_must(ops(s)->remove(s->self, metadata, 2, &e), &e);
}

static void where_to_must_be_said(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(spiffe_bundle) bundle = suite_bundle(0);
    struct svidstore_svid svid = make_svid(bundle);
    assert_int_equal(ops(s)->put(s->self, &svid, metadata, 1, &e), CS_INVALID);
    assert_string_equal(suite_text(s, &e), "name is required");
    assert_int_equal(ops(s)->put(s->self, &svid, NULL, 0, &e), CS_INVALID);
    assert_int_equal(ops(s)->remove(s->self, metadata, 1, &e), CS_INVALID);
    assert_string_equal(suite_text(s, &e), "name is required");
}

int suite_svidstore(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_svid_is_put_again_and_removed),
                                       cmocka_unit_test(where_to_must_be_said)};
    const struct suite_subject subjects[] = {
        {"agent", PLUGIN_TYPE_SVIDSTORE, "reference", "%s", false, NULL, NULL},
        {"agent", PLUGIN_TYPE_SVIDSTORE, "reference", "%s", true, NULL, NULL},
    };
    return SUITE_RUN("svidstore", tests, subjects);
}
