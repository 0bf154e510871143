/* SPDX-License-Identifier: Apache-2.0
 *
 * What every Notifier and every BundlePublisher does: the whole bundle comes to it, and its refusals come
 * back.
 */
#include "plugin/bundlepublisher.h"
#include "plugin/notifier.h"
#include "tests/suite/reference.h"
#include "tests/suite/subject.h"

static void assert_took(const struct suite *s, const char *file, const struct spiffe_bundle *bundle)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf wanted = {0};
    struct cs_buf got = suite_file(s, file);
    reference_dump_bundle(&wanted, bundle);
    assert_true(wanted.len > 1000);
    assert_string_equal(cs_buf_cstr(&got), cs_buf_cstr(&wanted));
    cs_buf_free(&got);
}

static void assert_refused(const struct suite *s, cs_code rc, const struct cs_err *e)
{
    assert_int_equal(rc, CS_DENIED);
    assert_string_equal(suite_text(s, e), "refused by the reference");
}

static void notified(void **state)
{
    struct suite *s = *state;
    const struct notifier_ops *ops = s->ops;
    struct cs_err e = {0};
    CS_AUTO(spiffe_bundle) bundle = suite_bundle(60);
    suite_must(ops->bundle_loaded(s->self, bundle, &e), &e);
    assert_took(s, "loaded", bundle);
    suite_must(ops->bundle_updated(s->self, bundle, &e), &e);
    assert_took(s, "updated", bundle);
}

static void notifiers_refuse(void **state)
{
    struct suite *s = *state;
    const struct notifier_ops *ops = s->ops;
    struct cs_err e = {0};
    CS_AUTO(spiffe_bundle) bundle = suite_bundle(REFERENCE_REFUSED_HINT);
    assert_refused(s, ops->bundle_loaded(s->self, bundle, &e), &e);
    assert_refused(s, ops->bundle_updated(s->self, bundle, &e), &e);
    assert_null(suite_file(s, "loaded").data);
    assert_null(suite_file(s, "updated").data);
}

static void published(void **state)
{
    struct suite *s = *state;
    const struct bundlepublisher_ops *ops = s->ops;
    struct cs_err e = {0};
    for (int64_t hint = 1; hint <= 2; hint++) {
        CS_AUTO(spiffe_bundle) bundle = suite_bundle(hint);
        suite_must(ops->publish(s->self, bundle, &e), &e);
        assert_took(s, "published", bundle);
        suite_must(ops->publish(s->self, bundle, &e), &e); /* once more is no failure */
    }
}

static void publishers_refuse(void **state)
{
    struct suite *s = *state;
    const struct bundlepublisher_ops *ops = s->ops;
    struct cs_err e = {0};
    CS_AUTO(spiffe_bundle) bundle = suite_bundle(REFERENCE_REFUSED_HINT);
    assert_refused(s, ops->publish(s->self, bundle, &e), &e);
    assert_null(suite_file(s, "published").data);
}

int suite_notifier(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(notified), cmocka_unit_test(notifiers_refuse)};
    const struct suite_subject subjects[] = {
        {"server", PLUGIN_TYPE_NOTIFIER, "reference", "%s", false, NULL, NULL},
        {"server", PLUGIN_TYPE_NOTIFIER, "reference", "%s", true, NULL, NULL},
    };
    return SUITE_RUN("notifier", tests, subjects);
}

int suite_bundlepublisher(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published), cmocka_unit_test(publishers_refuse)};
    const struct suite_subject subjects[] = {
        {"server", PLUGIN_TYPE_BUNDLEPUBLISHER, "reference", "%s", false, NULL, NULL},
        {"server", PLUGIN_TYPE_BUNDLEPUBLISHER, "reference", "%s", true, NULL, NULL},
    };
    return SUITE_RUN("bundlepublisher", tests, subjects);
}
