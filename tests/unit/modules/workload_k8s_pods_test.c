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
    CS_AUTO(k8s_pods)
    again = must_read(
        "{\"items\":[{},{\"metadata\":{\"uid\":\"u\"}}],\"items\":[{\"metadata\":{\"uid\":\"v\"}}]}", 9);
    assert_int_equal(k8s_pods_count(again), 1);
    assert_non_null(k8s_pods_find(again, "v"));
    assert_int_equal(k8s_pods_nameless(again), 0);
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
        {"{\"items\":[]} x", "unable to parse kubelet response: unexpected 'x' at byte 13"},
        {"{\"items\":[]}}", "unable to parse kubelet response: unexpected '}' at byte 12"},
        {"{\"items\":[{]}", "unable to parse kubelet response: unexpected ']' at byte 11"},
        {"{\"x\":[{]},\"items\":[]}", "unable to parse kubelet response: unexpected ']' at byte 7"},
        {"{\"x\":{\"y\":\\\"a\"},\"items\":[]}",
         "unable to parse kubelet response: unexpected '\\' at byte 10"},
        {"{\"x\":nul,\"items\":[]}",
         "unable to parse kubelet response: bad word or number that ends at byte 8"},
        {"{\"items\" []}", "unable to parse kubelet response: unexpected '[' at byte 9"},
        {"{\"items\":[],}", "unable to parse kubelet response: unexpected '}' at byte 12"},
        {"{,\"items\":[]}", "unable to parse kubelet response: unexpected ',' at byte 1"},
        {"{\"items\":[]", "unable to parse kubelet response: unexpected end at byte 11"},
        {"{\"x\":\"items\\\":[]}", "unable to parse kubelet response: unexpected end at byte 17"},
        {"{\"items\":[]} {", "unable to parse kubelet response: "},
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

/* `part` over and over, `max` times at most, between the two others; the rest of it only if it was taken. */
static cs_code flood(const char *head, const char *part, size_t max, const char *rest, struct k8s_pods **out,
                     struct cs_err *e)
{
    CS_AUTO(k8s_reader) r = NULL;
    *out = NULL;
    CS_TRY(k8s_reader_new(&r, e));
    CS_TRY(feed(r, head, e));
    for (size_t i = 0; i < max; i++)
        CS_TRY(feed(r, part, e));
    CS_TRY(feed(r, rest, e));
    return k8s_reader_end(r, out, e);
}

static void test_limits(void **state)
{
    (void)state;
    struct cs_err e;
    struct k8s_pods *l;
    static char much[65537];
    memset(much, 'a', sizeof much - 1);
    /* depth, of what is wanted and what is not */
    assert_int_equal(flood("{\"x\":", "[", 10047, "", &l, &e), CS_INVALID);
    assert_int_equal(flood("{\"x\":", "[", 10048, "", &l, &e), CS_EXHAUSTED);
    assert_string_equal(e.text, "unable to parse kubelet response: nested deeper than 10048");
    assert_int_equal(flood("{\"items\":[", "{\"metadata\":{\"labels\":[", 10048, "", &l, &e), CS_EXHAUSTED);
    /* what is not wanted may be as long as it likes */
    assert_int_equal(flood("{\"x\":\"", much, 4096, "\",\"items\":[]}", &l, &e), CS_OK);
    k8s_pods_unref(l);
    /* a number */
    assert_int_equal(flood("{\"x\":1", "0", 63, ",\"items\":[]}", &l, &e), CS_OK);
    k8s_pods_unref(l);
    assert_int_equal(flood("{\"x\":1", "0", 64, ",\"items\":[]}", &l, &e), CS_INVALID);
    /* pods */
    CS_AUTO(k8s_reader) r = NULL;
    assert_int_equal(k8s_reader_new(&r, NULL), CS_OK);
    cs_code rc = feed(r, "{\"items\":[", &e);
    for (size_t i = 0; i <= K8S_PODS_MAX && rc == CS_OK; i++) {
        char pod[64];
        (void)snprintf(pod, sizeof pod, "%s{\"metadata\":{\"uid\":\"%zu\"}}", i > 0 ? "," : "", i);
        rc = feed(r, pod, &e);
    }
    assert_int_equal(rc, CS_EXHAUSTED);
    assert_string_equal(e.text, "kubelet response has more than 16384 pods");
}

/* What one pod has too much of is its own fault; what nobody wants may be as large as it likes. */
static void test_large_pods(void **state)
{
    (void)state;
    static char much[65537];
    memset(much, 'a', sizeof much - 1);
    static const struct {
        const char *head, *part, *rest;
        size_t times;
        bool fault;
    } cases[] = {
        {"\"name\":\"", much, "\"}", 1, false},
        {"\"name\":\"", much, "b\"}", 1, true},
        {"\"name\":\"", much, "\"}", 200, true},
        {"\"labels\":{\"", much, "b\":\"\"}}", 1, true},
        {"\"labels\":{\"k\":\"", much, "b\"}}", 1, true},
        {"\"labels\":{\"k\":{\"", much, "\":1}}}", 100, true},
        {"\"labels\":{\"a\":\"b\"", ",\"a\":\"b\"", "}}", 6000, false},
        {"\"labels\":{\"a\":\"b\"", ",\"a\":\"b\"", "}}", 9000, true},
        {"\"ownerReferences\":[{}", ",{}", "]}", 6000, true},
        {"\"annotations\":{\"k\":\"", much, "\"}}", 100, false},
        {"\"annotations\":{\"", much, "\":1}}", 100, false},
        {"\"", much, "\":[1]}", 100, false},
        {"\"managedFields\":[1", ",{\"x\":[{},{\"y\":\"\\\\\\\"]}\"}]}", "]}", 30000, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char head[128];
        struct cs_err e;
        CS_AUTO(k8s_pods) l = NULL;
        (void)snprintf(head, sizeof head, "{\"items\":[{\"metadata\":{\"uid\":\"u\",%s", cases[i].head);
        char rest[128];
        (void)snprintf(rest, sizeof rest, "%s},{\"metadata\":{\"uid\":\"good\"}}]}", cases[i].rest);
        if (flood(head, cases[i].part, cases[i].times, rest, &l, &e) != CS_OK)
            fail_msg("%zu: %s", i, e.text);
        assert_int_equal(k8s_pods_count(l), 2);
        assert_null(k8s_pods_find(l, "good")->fault);
        const char *fault = k8s_pods_find(l, "u")->fault;
        if ((fault != NULL) != cases[i].fault)
            fail_msg("%zu: %s", i, fault != NULL ? fault : "no fault");
    }
}

/* Whoever makes a pod may nest its managedFields as deep as Go reads it. */
static void test_deep_pod(void **state)
{
    (void)state;
    struct cs_err e;
    CS_AUTO(k8s_pods) l = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf rest = {0};
    cs_buf_add_str(&rest, "{");
    for (int i = 0; i < 9901; i++) /* of the metadata, too */
        cs_buf_add_byte(&rest, '}');
    cs_buf_add_str(&rest, "},{\"metadata\":{\"uid\":\"good\"}}]}");
    assert_int_equal(flood("{\"items\":[{\"metadata\":{\"uid\":\"u\",\"managedFields\":", "{\"f:a\":", 9899,
                           cs_buf_cstr(&rest), &l, &e),
                     CS_OK);
    assert_null(k8s_pods_find(l, "u")->fault);
    assert_non_null(k8s_pods_find(l, "good"));
}

/* Texts are shared between pods, and none is taken for another. */
static void test_many_texts(void **state)
{
    (void)state;
    struct cs_err e;
    CS_AUTO(k8s_reader) r = NULL;
    CS_AUTO(k8s_pods) l = NULL;
    char text[256];
    assert_int_equal(k8s_reader_new(&r, NULL), CS_OK);
    assert_int_equal(feed(r, "{\"items\":[", &e), CS_OK);
    for (int i = 0; i < 4000; i++) {
        (void)snprintf(text, sizeof text,
                       "%s{\"metadata\":{\"uid\":\"%d\",\"name\":\"n%.*s\",\"labels\":{\"app\":\"%d\"}}}",
                       i > 0 ? "," : "", i, i % 40, "0123456789012345678901234567890123456789", i / 2);
        assert_int_equal(feed(r, text, &e), CS_OK);
    }
    assert_int_equal(feed(r, "]}", &e), CS_OK);
    assert_int_equal(k8s_reader_end(r, &l, &e), CS_OK);
    for (int i = 0; i < 4000; i++) {
        (void)snprintf(text, sizeof text, "%d", i);
        const struct k8s_pod *p = k8s_pods_find(l, text);
        assert_non_null(p);
        assert_int_equal(strlen(p->name), 1 + i % 40);
        assert_memory_equal(p->name + 1, "0123456789012345678901234567890123456789", (size_t)(i % 40));
        assert_int_equal(p->label_count, 1);
        assert_string_equal(p->labels[0].key, "app");
        (void)snprintf(text, sizeof text, "%d", i / 2);
        assert_string_equal(p->labels[0].value, text);
    }
    const struct k8s_pod *a = k8s_pods_find(l, "6"), *b = k8s_pods_find(l, "7");
    assert_ptr_equal(a->labels[0].key, b->labels[0].key);
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
        cmocka_unit_test(test_list),        cmocka_unit_test(test_bare_pod),
        cmocka_unit_test(test_empty_lists), cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_faults),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_large_pods),  cmocka_unit_test(test_deep_pod),
        cmocka_unit_test(test_many_texts),  cmocka_unit_test(test_container_ids),
    };
    return cmocka_run_group_tests_name("workload_k8s_pods", tests, NULL, NULL);
}
