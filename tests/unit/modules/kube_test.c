/* SPDX-License-Identifier: Apache-2.0
 *
 * The Kubernetes client against an API server that is good, busy, forgetful and hostile.
 */
#include "plugins/modules/kube/kube.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "tests/fakes/http_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define LIST "/api/v1/configmaps?labelSelector=a%3Dtrue&limit=250"
#define WATCH "/api/v1/configmaps?labelSelector=a%3Dtrue&watch=1"

static struct test_pki pki;
static char *cert, *key;
static char folder[] = "/tmp/cspire-kube-XXXXXX";

static char *in_folder(const char *name)
{
    static char path[8][128];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, 128, "%s/%s", folder, name);
    return p;
}

static void put(const char *name, const char *text)
{
    struct cs_err e;
    if (cs_file_write_atomic(in_folder(name), cs_slice_str(text), 0600, &e) != CS_OK)
        fail_msg("%s", e.text);
}

static int begin(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as the programs do */
    assert_non_null(mkdtemp(folder));
    test_pki_new(&pki);
    test_pki_issue(&pki, "kube-apiserver", NULL, &cert, &key);
    put("ca.crt", pki.ca_cert);
    put("token", "t0ken-1\n");
    return 0;
}

static int end(void **state)
{
    char command[64];
    (void)state;
    test_pki_free(&pki);
    free(cert);
    free(key);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* --- The server --- */

struct api {
    atomic_int hits, busy, lists, watches;
    int busy_status;
    const char *busy_headers;
    char token[64]; /* the last one that came */
};

static bool reply_busy(struct api *a, struct test_conn *c)
{
    a->busy--;
    if (a->busy_status == 0)
        return false; /* broken off */
    return test_reply(c, a->busy_status, a->busy_headers,
                      "{\"kind\":\"Status\",\"reason\":\"Busy\",\"message\":\"not now\"}");
}

static bool reply_list(struct api *a, const struct test_request *r, struct test_conn *c)
{
    if (strstr(r->target, "continue=more") != NULL)
        return test_reply(
            c, 200, "",
            "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[{\"metadata\":{\"name\":\"b\","
            "\"resourceVersion\":\"4\"}}]}");
    a->lists++;
    return test_reply(
        c, 200, "",
        "{\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"more\"},\"items\":[{\"metadata\":{"
        "\"name\":\"a\",\"resourceVersion\":\"3\"}}]}");
}

#define HEAD "HTTP/1.1 200 OK\r\n\r\n"
#define EVENT(type, name, version)                                                                           \
    "{\"type\":\"" type "\",\"object\":{\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"" version  \
    "\"}}}\n"

static bool say(struct test_conn *c, const char *text)
{
    return test_write(c, text, strlen(text));
}

/* What the successive watches get: some events; 410 in the stream; 410 as status; a half line; an object. */
static bool reply_watch(struct api *a, const struct test_request *r, struct test_conn *c)
{
    const char *from = strstr(r->target, "resourceVersion=");
    assert_non_null(from);
    switch (a->watches++) {
    case 0:
        assert_string_equal(from, "resourceVersion=10");
        return say(c, HEAD EVENT("ADDED", "c", "11") EVENT("BOOKMARK", "", "20")) && false;
    case 1:
        assert_string_equal(from, "resourceVersion=20");
        return say(c, HEAD "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"message\":"
                           "\"too old\"}}\n") &&
               false;
    case 2: /* after a new list */
        assert_string_equal(from, "resourceVersion=10");
        return test_reply(c, 410, "", "{\"code\":410,\"reason\":\"Expired\",\"message\":\"too old\"}");
    case 3:
        return say(c, HEAD EVENT("MODIFIED", "d", "12") "{\"type\":\"ADDED\",\"obj") && false;
    case 4:
        assert_string_equal(from, "resourceVersion=12");
        return say(c, HEAD "{\"type\":\"NEW_KIND\",\"object\":{}}\n" EVENT("DELETED", "e", "13")) && false;
    default:
        while (!test_stopping(c))
            usleep(5000);
        return false;
    }
}

/* A server that is started anew after the first list: it knows no roles for a while. */
#define STARTED "/api/v1/secrets?"
static bool reply_started(struct api *a, const struct test_request *r, struct test_conn *c)
{
    if (strstr(r->target, "watch=1") == NULL)
        return test_reply(c, 200, "", "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[]}");
    if (a->watches++ < 3)
        return test_reply(c, a->watches == 1 ? 401 : 403, "",
                          "{\"reason\":\"Forbidden\",\"message\":\"no\"}");
    return say(c, HEAD EVENT("ADDED", "f", "14")) && false;
}

/* Connections have a thread each, and a client may be on its second while the first one's is still at work.
 */
static void note_token(struct api *a, const struct test_request *r)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    CS_CLEANUP(cs_buf_free) struct cs_buf head = {0};
    cs_buf_add_slice(&head, cs_buf_slice(&r->head));
    const char *bearer = strstr(cs_buf_cstr(&head), "Authorization: Bearer ");
    pthread_mutex_lock(&lock);
    a->token[0] = '\0';
    if (bearer != NULL)
        sscanf(bearer, "Authorization: Bearer %63s", a->token);
    pthread_mutex_unlock(&lock);
}

static bool handler(void *arg, const struct test_request *r, struct test_conn *c)
{
    struct api *a = arg;
    a->hits++;
    note_token(a, r);
    if (a->busy > 0)
        return reply_busy(a, c);
    if (strcmp(r->target, "/api/v1/nodes/n1") == 0)
        return test_reply(c, 200, "", "{\"kind\":\"Node\",\"metadata\":{\"name\":\"n1\",\"uid\":\"u1\"}}");
    if (strcmp(r->target, "/text") == 0)
        return test_reply(c, 200, "", "[1]");
    if (strncmp(r->target, LIST, strlen(LIST)) == 0)
        return reply_list(a, r, c);
    if (strncmp(r->target, WATCH, strlen(WATCH)) == 0)
        return reply_watch(a, r, c);
    if (strncmp(r->target, STARTED, strlen(STARTED)) == 0)
        return reply_started(a, r, c);
    if (sscanf(r->target, "/status/%d", &a->busy_status) == 1) {
        const char *body = strstr(r->target, "exists") != NULL
                               ? "{\"reason\":\"AlreadyExists\",\"message\":\"it is there\"}"
                               : "{\"reason\":\"Other\",\"message\":\"that is why\"}";
        return test_reply(c, a->busy_status, "", body);
    }
    return test_reply(c, 404, "", "no JSON");
}

/* --- Clients --- */

static struct test_server *serve(struct api *a)
{
    struct test_server *s = test_server_start(
        &(struct test_server_options){.handler = handler, .arg = a, .cert = cert, .key = key});
    char port[8];
    snprintf(port, sizeof port, "%s", strrchr(test_server_url(s), ':') + 1);
    setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1", 1);
    setenv("KUBERNETES_SERVICE_PORT", port, 1);
    return s;
}

static struct kube_client *in_cluster(void)
{
    struct kube_client *c;
    struct cs_err e;
    const struct kube_options o = {.service_account_dir = folder};
    if (kube_client_new(&o, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    return c;
}

static void reads_objects_in_a_pod(void **state)
{
    (void)state;
    struct api a = {0};
    struct test_server *s = serve(&a);
    struct kube_client *c = in_cluster();
    struct cs_err e = {0};
    json_t *node = NULL;
    if (kube_get(c, "/api/v1/nodes/n1", NULL, &node, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(kube_name(node), "n1");
    assert_string_equal(a.token, "t0ken-1");
    json_decref(node);
    /* a token that was renewed is taken up */
    put("token", "t0ken-2");
    assert_int_equal(kube_get(c, "/api/v1/nodes/n1", NULL, NULL, &e), CS_OK);
    assert_string_equal(a.token, "t0ken-2");
    assert_int_equal(kube_get(c, "/api/v1/nodes/n1", NULL, NULL, &e), CS_OK);
    assert_int_equal(test_server_connections(s), 2);
    put("token", "t0ken-1\n");
    kube_client_free(c);
    test_server_stop(s);
}

struct crowd {
    struct kube_client *client;
    atomic_int answers;
};

static void *ask_often(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < 10; i++) {
        json_t *node = NULL;
        if (kube_get(crowd->client, "/api/v1/nodes/n1", NULL, &node, NULL) == CS_OK &&
            strcmp(kube_name(node), "n1") == 0)
            crowd->answers++;
        json_decref(node);
    }
    return NULL;
}

/* As the attestations and watchers of one cluster do. */
static void serves_many_threads(void **state)
{
    (void)state;
    struct api a = {0};
    struct test_server *s = serve(&a);
    struct crowd crowd = {.client = in_cluster()};
    pthread_t threads[8];
    const size_t count = sizeof threads / sizeof threads[0];
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &crowd), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(crowd.answers, 10 * count);
    assert_string_equal(a.token, "t0ken-1");
    kube_client_free(crowd.client);
    test_server_stop(s);
}

static void knows_what_a_status_means(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        cs_code code;
        const char *text;
    } cases[] = {{"/status/400", CS_INVALID, "that is why"},
                 {"/status/401", CS_UNAUTHENTICATED, "that is why"},
                 {"/status/403", CS_DENIED, "that is why"},
                 {"/status/404", CS_NOT_FOUND, "that is why"},
                 {"/status/409", CS_ABORTED, "that is why"},
                 {"/status/409/exists", CS_EXISTS, "it is there"},
                 {"/status/410", CS_OUT_OF_RANGE, "that is why"},
                 {"/status/418", CS_UNKNOWN, "that is why"},
                 {"/status/422", CS_INVALID, "that is why"},
                 {"/absent", CS_NOT_FOUND, "the server answered with status 404"},
                 {"/text", CS_INTERNAL, "the API server's answer is not a JSON object"}};
    struct api a = {0};
    struct test_server *s = serve(&a);
    struct kube_client *c = in_cluster();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cs_err e = {0};
        json_t *j = (void *)1;
        assert_int_equal(kube_get(c, cases[i].path, NULL, &j, &e), cases[i].code);
        assert_null(j);
        assert_string_equal(e.text, cases[i].text);
    }
    assert_int_equal(a.hits, sizeof cases / sizeof cases[0]); /* none of these is tried again */
    kube_client_free(c);
    test_server_stop(s);
}

static cs_code call(struct kube_client *c, const char *method, bool repeatable, struct cs_err *e)
{
    const struct kube_call q = {.method = method, .path = "/api/v1/nodes/n1", .repeatable = repeatable};
    return kube_call(c, &q, NULL, e);
}

static void tries_again_when_it_may(void **state)
{
    (void)state;
    static const struct {
        const char *method;
        bool repeatable;
        int status, busy, hits; /* status 0: the connection breaks */
        cs_code code;
    } cases[] = {{"GET", false, 500, 2, 3, CS_OK},         {"GET", false, 429, 1, 2, CS_OK},
                 {"GET", false, 0, 1, 2, CS_OK},           {"POST", false, 429, 1, 2, CS_OK},
                 {"POST", false, 503, 1, 2, CS_OK},        {"POST", false, 500, 1, 1, CS_UNAVAILABLE},
                 {"POST", false, 0, 1, 1, CS_UNAVAILABLE}, {"POST", true, 500, 1, 2, CS_OK},
                 {"POST", true, 0, 1, 2, CS_OK},           {"GET", false, 500, 99, 5, CS_UNAVAILABLE}};
    struct api a = {.busy_headers = ""};
    struct test_server *s = serve(&a);
    struct kube_client *c = in_cluster();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cs_err e = {0};
        a.hits = 0;
        a.busy = cases[i].busy;
        a.busy_status = cases[i].status;
        cs_code rc = call(c, cases[i].method, cases[i].repeatable, &e);
        if (rc != cases[i].code || a.hits != cases[i].hits)
            fail_msg("%zu: %s after %d: %s", i, cs_code_name(rc), a.hits, e.text);
    }
    kube_client_free(c);
    test_server_stop(s);
}

static void waits_as_long_as_the_server_says(void **state)
{
    (void)state;
    struct api a = {.busy = 1, .busy_status = 429, .busy_headers = "Retry-After: 1\r\n"};
    struct test_server *s = serve(&a);
    struct kube_client *c = in_cluster();
    struct cs_err e = {0};
    const int64_t began = cs_mono_ns(&cs_clock_system);
    assert_int_equal(call(c, "GET", false, &e), CS_OK);
    assert_true(cs_mono_ns(&cs_clock_system) - began >= CS_NS_PER_S);
    /* but not past its own time */
    a.busy = 1;
    a.busy_headers = "Retry-After: 3600\r\n";
    assert_int_equal(call(c, "GET", false, &e), CS_EXHAUSTED);
    kube_client_free(c);
    test_server_stop(s);
}

/* --- Watches --- */

struct seen {
    struct cs_buf log;
    int listed, stop_after;
    cs_code answer;
};

static cs_code on_event(void *arg, enum kube_event type, const json_t *object, bool *done, struct cs_err *e)
{
    static const char names[] = {'L', 'A', 'M', 'D'};
    struct seen *x = arg;
    cs_buf_printf(&x->log, "%c%s ", names[type], kube_name(object));
    if (x->answer != CS_OK)
        return cs_fail(e, x->answer, "enough");
    *done = --x->stop_after == 0;
    return CS_OK;
}

static void on_listed(void *arg, const struct cs_err *fault)
{
    struct seen *x = arg;
    assert_null(fault);
    x->listed++;
}

static void goes_on_watching(void **state)
{
    (void)state;
    struct api a = {0};
    struct test_server *s = serve(&a);
    struct kube_client *c = in_cluster();
    struct seen x = {.stop_after = 9};
    struct cs_err e = {0};
    const struct kube_watch w = {.path = "/api/v1/configmaps",
                                 .label_selector = "a=true",
                                 .timeout_ns = 60 * CS_NS_PER_S,
                                 .event = on_event,
                                 .listed = on_listed,
                                 .arg = &x};
    if (kube_watch(c, &w, &e) != CS_OK)
        fail_msg("%s after %s", e.text, cs_buf_cstr(&x.log));
    assert_string_equal(cs_buf_cstr(&x.log), "La Lb Ac La Lb La Lb Md De ");
    assert_int_equal(x.listed, 3);
    assert_int_equal(a.lists, 3);
    cs_buf_free(&x.log);
    /* the time is up while nothing comes */
    const struct kube_watch brief = {.path = "/api/v1/configmaps",
                                     .label_selector = "a=true",
                                     .timeout_ns = 300 * CS_NS_PER_MS,
                                     .event = on_event,
                                     .arg = &x};
    assert_int_equal(kube_watch(c, &brief, &e), CS_DEADLINE);
    cs_buf_free(&x.log);
    /* the caller's error ends it */
    x.answer = CS_OUT_OF_RANGE;
    assert_int_equal(kube_watch(c, &w, &e), CS_OUT_OF_RANGE);
    assert_string_equal(e.text, "enough");
    cs_buf_free(&x.log);
    x.answer = CS_OK;
    assert_int_equal(kube_list(c, &w, &e), CS_OK);
    assert_string_equal(cs_buf_cstr(&x.log), "La Lb ");
    cs_buf_free(&x.log);
    kube_client_free(c);
    test_server_stop(s);
}

static void gives_up_watching_what_it_may_not(void **state)
{
    (void)state;
    struct api a = {0};
    struct test_server *s = serve(&a);
    struct kube_client *c = in_cluster();
    struct seen x = {0};
    struct cs_err e = {0};
    struct kube_watch w = {
        .path = "/status/403", .timeout_ns = 60 * CS_NS_PER_S, .event = on_event, .arg = &x};
    assert_int_equal(kube_watch(c, &w, &e), CS_DENIED);
    assert_string_equal(e.text, "that is why");
    w.keep_trying = true;
    w.timeout_ns = 700 * CS_NS_PER_MS;
    a.hits = 0;
    (void)!kube_watch(c, &w, &e);
    assert_true(a.hits > 1);
    kube_client_free(c);
    test_server_stop(s);
}

static void waits_for_a_server_that_starts(void **state)
{
    (void)state;
    struct api a = {0};
    struct test_server *s = serve(&a);
    struct kube_client *c = in_cluster();
    struct seen x = {.stop_after = 1};
    struct cs_err e = {0};
    const struct kube_watch w = {
        .path = "/api/v1/secrets", .timeout_ns = 60 * CS_NS_PER_S, .event = on_event, .arg = &x};
    if (kube_watch(c, &w, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(cs_buf_cstr(&x.log), "Af ");
    assert_int_equal(a.watches, 4);
    cs_buf_free(&x.log);
    kube_client_free(c);
    test_server_stop(s);
}

static bool asked(void *arg)
{
    return atomic_load((atomic_bool *)arg);
}

struct stopper {
    struct api *api;
    atomic_bool *flag;
    int watches;
};
static void *stop_soon(void *arg)
{
    struct stopper *x = arg;
    while (x->api->watches < x->watches)
        usleep(1000);
    *x->flag = true;
    return NULL;
}

static void ends_when_told(void **state)
{
    (void)state;
    struct api a = {.watches = 100};
    struct test_server *s = serve(&a);
    struct kube_client *c = in_cluster();
    struct seen x = {0};
    struct cs_err e = {0};
    atomic_bool flag = false;
    const struct crypto_stop stop = {.asked = asked, .arg = &flag};
    struct stopper who = {.api = &a, .flag = &flag, .watches = 101};
    pthread_t t;
    const struct kube_watch w = {.path = "/api/v1/configmaps",
                                 .label_selector = "a=true",
                                 .keep_trying = true,
                                 .stop = &stop,
                                 .event = on_event,
                                 .arg = &x};
    assert_int_equal(pthread_create(&t, NULL, stop_soon, &who), 0);
    assert_int_equal(kube_watch(c, &w, &e), CS_CANCELLED);
    pthread_join(t, NULL);
    cs_buf_free(&x.log);
    kube_client_free(c);
    test_server_stop(s);
}

/* --- Where the server is --- */

static void says_what_a_pod_lacks(void **state)
{
    (void)state;
    struct kube_client *c;
    struct cs_err e = {0};
    struct kube_options o = {.service_account_dir = "/nonexistent"};
    setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1", 1);
    setenv("KUBERNETES_SERVICE_PORT", "1", 1);
    assert_int_equal(kube_client_new(&o, &c, &e), CS_NOT_FOUND);
    assert_string_equal(e.text, "open /nonexistent/token: no such file or directory");
    o.service_account_dir = folder;
    put("token", " \n");
    assert_int_equal(kube_client_new(&o, &c, &e), CS_INVALID);
    put("token", "two words");
    assert_int_equal(kube_client_new(&o, &c, &e), CS_INVALID);
    assert_non_null(strstr(e.text, "token: the token is not one word of text"));
    put("token", "t0ken-1\n");
    unsetenv("KUBERNETES_SERVICE_PORT");
    assert_int_equal(kube_client_new(&o, &c, &e), CS_PRECONDITION);
    assert_string_equal(e.text, "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and "
                                "KUBERNETES_SERVICE_PORT must be defined");
}

static void makes_paths(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    struct cs_err e;
    assert_int_equal(kube_path(&b, &e, "/api/v1/namespaces/%s/pods/%s", "a", "b/../c?d"), CS_OK);
    assert_string_equal(cs_buf_cstr(&b), "/api/v1/namespaces/a/pods/b%2F..%2Fc%3Fd");
    assert_int_equal(kube_path(&b, &e, "/%s", ".."), CS_INVALID);
    assert_int_equal(kube_path(&b, &e, "/%s", ""), CS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_objects_in_a_pod),
        cmocka_unit_test(serves_many_threads),
        cmocka_unit_test(knows_what_a_status_means),
        cmocka_unit_test(tries_again_when_it_may),
        cmocka_unit_test(waits_as_long_as_the_server_says),
        cmocka_unit_test(goes_on_watching),
        cmocka_unit_test(gives_up_watching_what_it_may_not),
        cmocka_unit_test(waits_for_a_server_that_starts),
        cmocka_unit_test(ends_when_told),
        cmocka_unit_test(says_what_a_pod_lacks),
        cmocka_unit_test(makes_paths),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
