/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists of pods, whole and in pieces, good and bad; and the selectors made of them.
 */
#include "base/mem.h"
#include "plugins/modules/workload_k8s/selectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ID "09bc3d7ade839efec32b6bec4ec79d099027a668ddba043083ec21d3c3b8f1e6"
#define ID2 "34a2062fd26c805aa8cf814cdfe479322b791f80afb9ea4db02d50375df14b41"

/* The shape that kubelets send. */
#define POD                                                                                                  \
    "{\"metadata\":{\"name\":\"web-1\",\"namespace\":\"prod\",\"uid\":\"u-2\","                              \
    "\"labels\":{\"app\":\"w\\u00e9b\",\"none\":\"\",\"null\":null},"                                        \
    "\"annotations\":{\"name\":\"not me\",\"a\":{\"uid\":[1,{\"b\":2}]}},"                                   \
    "\"ownerReferences\":[{\"apiVersion\":\"apps/"                                                           \
    "v1\",\"kind\":\"ReplicaSet\",\"name\":\"web\",\"uid\":\"o-1\","                                         \
    "\"controller\":true},{\"kind\":\"Job\"}]},"                                                             \
    "\"spec\":{\"containers\":[{\"name\":\"x\",\"image\":\"y\"}],\"nodeName\":\"n1\","                       \
    "\"serviceAccountName\":\"default\"},"                                                                   \
    "\"status\":{\"phase\":\"Running\",\"startTime\":null,\"containerStatuses\":["                           \
    "{\"name\":\"main\",\"state\":{\"running\":{\"name\":\"z\"}},\"ready\":true,\"restartCount\":1.5e1,"     \
    "\"image\":\"img:1\",\"imageID\":\"img@sha256:aa\",\"containerID\":\"containerd://" ID "\"},"            \
    "{\"name\":\"side\",\"image\":\"img:1\",\"imageID\":\"img@sha256:bb\",\"containerID\":\"\"}],"           \
    "\"initContainerStatuses\":[{\"name\":\"init\",\"image\":\"i\",\"imageID\":\"i\","                       \
    "\"containerID\":\"docker://" ID2 "\"}]}}"
#define LIST(items)                                                                                          \
    "{\"kind\":\"PodList\",\"metadata\":{\"items\":5},\"items\":" items ",\"x\":[{\"items\":1}]}"

static cs_code read_list(const char *text, size_t step, struct k8s_pods **out, struct cs_err *e)
{
    CS_AUTO(k8s_reader) r = NULL;
    *out = NULL;
    CS_TRY(k8s_reader_new(&r, e));
    for (size_t at = 0, n = strlen(text); at < n; at += step)
        CS_TRY(k8s_reader_add(r, cs_slice_of(text + at, n - at < step ? n - at : step), e));
    return k8s_reader_end(r, out, e);
}

static struct k8s_pods *must_read(const char *text, size_t step)
{
    struct k8s_pods *l;
    struct cs_err e;
    if (read_list(text, step, &l, &e) != CS_OK)
        fail_msg("%s", e.text);
    return l;
}

static void selectors(const struct k8s_pod *p, const struct k8s_container *c, const char *const *want)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    assert_int_equal(k8s_add_pod(&v, p, NULL), CS_OK);
    if (c != NULL)
        assert_int_equal(k8s_add_container(&v, c, NULL), CS_OK);
    size_t i = 0;
    for (; want[i] != NULL; i++) {
        assert_true(i < v.count);
        assert_string_equal(v.at[i], want[i]);
    }
    assert_int_equal(v.count, i);
}

static void test_list(void **state)
{
    (void)state;
    static const char *const want[] = {"sa:default",
                                       "ns:prod",
                                       "node-name:n1",
                                       "pod-uid:u-2",
                                       "pod-name:web-1",
                                       "pod-image-count:2",
                                       "pod-init-image-count:1",
                                       "pod-image:img@sha256:aa",
                                       "pod-image:img:1",
                                       "pod-image:img@sha256:bb",
                                       "pod-init-image:i",
                                       "pod-label:app:w\xc3\xa9"
                                       "b",
                                       "pod-label:none:",
                                       "pod-label:null:",
                                       "pod-owner:ReplicaSet:web",
                                       "pod-owner-uid:ReplicaSet:o-1",
                                       "pod-owner:Job:",
                                       "pod-owner-uid:Job:",
                                       "container-name:main",
                                       "container-image:img@sha256:aa",
                                       "container-image:img:1",
                                       NULL};
    static const size_t steps[] = {1, 7, 64, 1 << 20};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        CS_AUTO(k8s_pods)
        l = must_read(LIST("[{\"metadata\":{\"uid\":\"u-3\"}}," POD ",{\"metadata\":{\"uid\":\"u-1\"}}]"),
                      steps[i]);
        size_t malformed = 0;
        assert_int_equal(k8s_pods_count(l), 3);
        assert_string_equal(k8s_pods_at(l, 0)->uid, "u-1");
        assert_null(k8s_pods_find(l, "u-4"));
        const struct k8s_pod *p = k8s_pods_find(l, "u-2");
        assert_non_null(p);
        assert_null(p->fault);
        selectors(p, k8s_find_container(p, ID, &malformed), want);
        assert_string_equal(k8s_find_container(p, ID2, &malformed)->name, "init");
        assert_null(k8s_find_container(p, "", &malformed));
        assert_int_equal(malformed, 0);
        assert_int_equal(k8s_pods_nameless(l), 0);
    }
}

/* What is not said is an empty text, and counts are those of the statuses. */
static void test_bare_pod(void **state)
{
    (void)state;
    static const char *const want[] = {
        "sa:", "ns:", "node-name:", "pod-uid:u", "pod-name:", "pod-image-count:0", "pod-init-image-count:0",
        NULL};
    CS_AUTO(k8s_pods)
    l = must_read(LIST("[{\"metadata\":{\"uid\":\"u\",\"labels\":null,\"ownerReferences\":null},"
                       "\"spec\":null,\"status\":{\"containerStatuses\":null}}]"),
                  16);
    selectors(k8s_pods_find(l, "u"), NULL, want);
}

static void test_empty_lists(void **state)
{
    (void)state;
    CS_AUTO(k8s_pods) none = must_read(LIST("[]"), 64);
    assert_int_equal(k8s_pods_count(none), 0);
    assert_null(k8s_pods_find(none, "u"));
    CS_AUTO(k8s_pods) null = must_read(LIST("null"), 64);
    assert_int_equal(k8s_pods_count(null), 0);
}

static void test_left_out(void **state)
{
    (void)state;
    CS_AUTO(k8s_pods)
    l = must_read(LIST("[7,[],null,{},{\"metadata\":{\"uid\":7}},{\"metadata\":\"x\"},"
                       "{\"metadata\":{\"uid\":\"u\"}},{\"metadata\":{\"uid\":\"u\"}}]"),
                  5);
    assert_int_equal(k8s_pods_count(l), 1);
    assert_int_equal(k8s_pods_nameless(l), 6);
}

static void test_faults(void **state)
{
    (void)state;
    static const struct {
        const char *pod, *fault;
    } cases[] = {
        {"{\"metadata\":{\"uid\":\"u\",\"name\":7}}", "metadata.name is not a string"},
        {"{\"metadata\":{\"uid\":\"u\",\"name\":{}}}", "metadata.name is not a string"},
        {"{\"metadata\":{\"uid\":\"u\",\"labels\":[]}}", "metadata.labels is not an object"},
        {"{\"metadata\":{\"uid\":\"u\",\"labels\":{\"a\":true}}}", "metadata.labels is not all strings"},
        {"{\"metadata\":{\"uid\":\"u\",\"labels\":{\"a\":\"b\\u0000c\"}}}",
         "metadata.labels is not good UTF-8 text"},
        {"{\"metadata\":{\"uid\":\"u\",\"labels\":{\"a\\u0000b\":\"c\"}}}",
         "metadata.labels is not good UTF-8 text"},
        {"{\"metadata\":{\"uid\":\"u\",\"labels\":{\"a\":\"\xff\"}}}",
         "metadata.labels is not good UTF-8 text"},
        {"{\"metadata\":{\"uid\":\"u\",\"name\":\"\xc0\x80\"}}", "metadata.name is not good UTF-8 text"},
        {"{\"metadata\":{\"uid\":\"u\",\"ownerReferences\":{}}}", "metadata.ownerReferences is not an array"},
        {"{\"metadata\":{\"uid\":\"u\",\"ownerReferences\":[1]}}",
         "metadata.ownerReferences is not an object"},
        {"{\"metadata\":{\"uid\":\"u\"},\"spec\":[]}", "spec is not an object"},
        {"{\"metadata\":{\"uid\":\"u\"},\"spec\":{\"nodeName\":1}}", "spec.nodeName is not a string"},
        {"{\"metadata\":{\"uid\":\"u\"},\"status\":\"x\"}", "status is not an object"},
        {"{\"metadata\":{\"uid\":\"u\"},\"status\":{\"containerStatuses\":[{\"image\":[]}]}}",
         "status.containerStatuses.image is not a string"},
        {"{\"metadata\":{\"uid\":\"u\"},\"status\":{\"initContainerStatuses\":[{\"name\":\"a\\u0000\"}]}}",
         "status.initContainerStatuses.name is not good UTF-8 text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        (void)snprintf(text, sizeof text, LIST("[%s,{\"metadata\":{\"uid\":\"good\"}}]"), cases[i].pod);
        CS_AUTO(k8s_pods) l = must_read(text, 11);
        assert_non_null(k8s_pods_find(l, "u"));
        assert_string_equal(k8s_pods_find(l, "u")->fault, cases[i].fault);
        assert_null(k8s_pods_find(l, "good")->fault);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *fault;
    } cases[] = {
        {"", "unable to parse kubelet response: "},
        {"{", "unable to parse kubelet response: "},
        {"{\"items\":[}", "unable to parse kubelet response: "},
        {"{\"items\":[]} x", "unable to parse kubelet response: "},
        {"<html>", "unable to parse kubelet response: "},
        {"[]", "invalid kubelet response: expected an object"},
        {"7", "invalid kubelet response: expected an object"},
        {"null", "invalid kubelet response: expected an object"},
        {"{}", "invalid kubelet response: expected an items array"},
        {"{\"items\":{}}", "invalid kubelet response: expected an items array"},
        {"{\"items\":\"x\"}", "invalid kubelet response: expected an items array"},
        {"{\"item\":[]}", "invalid kubelet response: expected an items array"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct k8s_pods *l;
        struct cs_err e;
        assert_int_equal(read_list(cases[i].text, 3, &l, &e), CS_INVALID);
        assert_memory_equal(e.text, cases[i].fault, strlen(cases[i].fault));
        assert_null(l);
    }
}

static cs_code feed(struct k8s_reader *r, const char *text, struct cs_err *e)
{
    return k8s_reader_add(r, cs_slice_str(text), e);
}

static void test_limits(void **state)
{
    (void)state;
    struct cs_err e;
    struct k8s_reader *r;
    cs_code rc = CS_OK;
    /* depth */
    assert_int_equal(k8s_reader_new(&r, NULL), CS_OK);
    assert_int_equal(feed(r, "{\"x\":", &e), CS_OK);
    for (size_t i = 0; i < K8S_PODS_DEPTH_MAX && rc == CS_OK; i++)
        rc = feed(r, "[", &e);
    assert_int_equal(rc, CS_EXHAUSTED);
    k8s_reader_free(r);
    /* one value that does not end */
    static char much[65537];
    memset(much, 'a', sizeof much - 1);
    assert_int_equal(k8s_reader_new(&r, NULL), CS_OK);
    rc = feed(r, "{\"x\":\"", &e);
    for (size_t i = 0; i < 2 * K8S_PODS_TOKEN_MAX / sizeof much && rc == CS_OK; i++)
        rc = feed(r, much, &e);
    assert_int_equal(rc, CS_EXHAUSTED);
    assert_string_equal(e.text, "kubelet response has a value larger than 4 MiB");
    k8s_reader_free(r);
    /* too many */
    assert_int_equal(k8s_reader_new(&r, NULL), CS_OK);
    rc = feed(r, "{\"items\":[", &e);
    for (size_t i = 0; i <= K8S_PODS_MAX && rc == CS_OK; i++) {
        char pod[64];
        (void)snprintf(pod, sizeof pod, "%s{\"metadata\":{\"uid\":\"%zu\"}}", i > 0 ? "," : "", i);
        rc = feed(r, pod, &e);
    }
    assert_int_equal(rc, CS_EXHAUSTED);
    assert_string_equal(e.text, "kubelet response has more than 16384 pods");
    k8s_reader_free(r);
}

/* Each allocation fails in turn: an error, never half a list. */
static void test_no_memory(void **state)
{
    (void)state;
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        struct k8s_pods *l = NULL;
        struct cs_err e;
        cs_mem_fail_at(n, true);
        rc = read_list(LIST("[" POD "]"), 32, &l, &e);
        cs_mem_fail_at(0, false);
        if (rc == CS_OK) {
            assert_null(k8s_pods_find(l, "u-2")->fault);
            k8s_pods_unref(l);
        } else {
            assert_null(l);
        }
        assert_true(n < 10000);
    }
}

static void test_container_ids(void **state)
{
    (void)state;
    static const struct {
        const char *id;
        bool found;
        size_t malformed;
    } cases[] = {
        {"docker://abc", true, 0},   {"cri-o://abc", true, 0}, {"docker://abc/x", true, 0},
        {"docker://abcd", false, 0}, {"docker://", false, 0},  {"", false, 0},
        {"abc", false, 1},           {"://abc", false, 1},     {"1x://abc", false, 1},
        {"docker://ab", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct k8s_container c = {"n", "i", "j", cases[i].id};
        const struct k8s_pod p = {.containers = &c, .container_count = 1};
        size_t malformed = 0;
        assert_int_equal(k8s_find_container(&p, "abc", &malformed) == &c, cases[i].found);
        assert_int_equal(malformed, cases[i].malformed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),          cmocka_unit_test(test_bare_pod),
        cmocka_unit_test(test_empty_lists),   cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_faults),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_container_ids),
    };
    return cmocka_run_group_tests_name("workload_k8s_pods", tests, NULL, NULL);
}
