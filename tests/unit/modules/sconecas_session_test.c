/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions of a CAS under many callers at once, and under a CAS that does not answer.
 */
#include "plugins/modules/sconecas/session.h"

#include "base/mem.h"
#include "tests/fakes/http_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CALLERS 8

struct world {
    struct test_pki pki;
    char *cert, *key;
    struct test_server *server;
    struct scone_cas *cas;
    struct scone_sessions *sessions;
    struct scone_template *template;
    char dir[64];
    atomic_int posts, status;
    atomic_bool hang; /* until it is false again */
};

static bool handler(void *arg, const struct test_request *r, struct test_conn *c)
{
    struct world *w = arg;
    char body[64];
    if (strcmp(r->method, "POST") != 0 || strcmp(r->target, "/session") != 0)
        return test_reply(c, 400, "", "not a session");
    const int n = ++w->posts;
    while (w->hang && !test_stopping(c))
        usleep(2000);
    if (w->status != 201)
        return test_reply(c, w->status, "", "refused");
    (void)snprintf(body, sizeof body, "{\"hash\": \"hash%d\"}", n);
    return test_reply(c, 201, "", body);
}

static int begin(void **state)
{
    static struct world w;
    struct http_client *client;
    struct cs_err e;
    signal(SIGPIPE, SIG_IGN);
    w = (struct world){.status = 201};
    test_pki_new(&w.pki);
    test_pki_issue(&w.pki, "cas", NULL, &w.cert, &w.key);
    const struct test_server_options o = {.handler = handler, .arg = &w, .cert = w.cert, .key = w.key};
    w.server = test_server_start(&o);
    (void)snprintf(w.dir, sizeof w.dir, "/tmp/sconecas_session.XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    const struct http_client_options h = {.ca = cs_slice_str(w.pki.ca_cert), .https_only = true};
    assert_int_equal(http_client_new(&h, &client, &e), CS_OK);
    assert_int_equal(scone_cas_new(client, test_server_url(w.server), w.dir, &w.cas, &e), CS_OK);
    const struct scone_sessions_config cfg = {.patience_ns = 300 * CS_NS_PER_MS};
    assert_int_equal(scone_sessions_new(&cfg, &w.sessions, &e), CS_OK);
    assert_int_equal(
        scone_template_parse(SCONE_BUNDLE,
                             cs_slice_str("name: <\\trust-bundle-session-name>\n<\\predecessor>\n"
                                          "        <\\trust-bundle>"),
                             &w.template, &e),
        CS_OK);
    *state = &w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    char path[128];
    scone_sessions_drop(&w->sessions);
    scone_cas_drop(&w->cas);
    test_server_stop(w->server);
    scone_template_drop(&w->template);
    test_pki_free(&w->pki);
    free(w->cert);
    free(w->key);
    for (int i = 0; i < CALLERS; i++) {
        (void)snprintf(path, sizeof path, "%s/s%d", w->dir, i);
        (void)unlink(path);
    }
    (void)snprintf(path, sizeof path, "%s/other/s0", w->dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/other", w->dir);
    (void)rmdir(path);
    assert_int_equal(rmdir(w->dir), 0);
    return 0;
}

static cs_code put(struct world *w, const char *name, const char *content, struct cs_err *e)
{
    struct scone_session s = {.template = w->template, .name = name};
    s.values.at[SCONE_BUNDLE_NAME] = cs_slice_str(name);
    s.values.at[SCONE_BUNDLE_PEM] = cs_slice_str(content);
    return scone_sessions_put(w->sessions, w->cas, &s, e);
}

/* Again and again, as the agent does. */
static void put_at_last(struct world *w, const char *name, const char *content)
{
    struct cs_err e = {0};
    for (int i = 0; put(w, name, content, &e) != CS_OK; i++) {
        if (i == 500)
            fail_msg("%s", e.text);
        usleep(10000);
    }
}

static void expect_hash(struct world *w, const char *name, const char *want)
{
    char hash[SCONE_HASH_MAX + 1];
    assert_int_equal(scone_predecessor_read(w->dir, name, hash, NULL), CS_OK);
    assert_string_equal(hash, want);
}

struct caller {
    pthread_t thread;
    struct world *w;
    const char *content;
    char name[8];
    bool done;
};

static void *call(void *arg)
{
    struct caller *c = arg;
    struct cs_err e;
    for (int i = 0; i < 500 && !c->done; i++) {
        c->done = put(c->w, c->name, c->content, &e) == CS_OK;
        if (!c->done)
            usleep(5000);
    }
    return NULL;
}

static void many(struct world *w, bool one_name)
{
    struct caller callers[CALLERS] = {0};
    for (int i = 0; i < CALLERS; i++) {
        callers[i].w = w;
        callers[i].content = "r\n";
        (void)snprintf(callers[i].name, sizeof callers[i].name, "s%d", one_name ? 0 : i);
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_true(callers[i].done);
    }
}

static void test_one_session_by_many(void **state)
{
    struct world *w = *state;
    many(w, true);
    assert_int_equal(w->posts, 1);
    expect_hash(w, "s0", "hash1");
    put_at_last(w, "s0", "r\n");
    assert_int_equal(w->posts, 1);
    put_at_last(w, "s0", "other\n");
    assert_int_equal(w->posts, 2);
    expect_hash(w, "s0", "hash2");
}

static void test_many_sessions(void **state)
{
    struct world *w = *state;
    many(w, false);
    assert_int_equal(w->posts, CALLERS);
}

static void test_no_answer(void **state)
{
    struct world *w = *state;
    struct cs_err e;
    w->hang = true;
    assert_int_equal(put(w, "s0", "r\n", &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "no answer of the CAS yet");
    assert_int_equal(put(w, "s0", "r\n", &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "an earlier post of the session s0 has no answer yet");
    scone_sessions_release(w->sessions, "s0"); /* a post under way keeps what it needs */
    w->hang = false;
    put_at_last(w, "s0", "r\n");
    assert_int_equal(w->posts, 1); /* the first one counted */
    expect_hash(w, "s0", "hash1");
}

static void test_bounded(void **state)
{
    struct world *w = *state;
    struct cs_err e;
    char name[16];
    w->hang = true;
    for (int i = 0; i < SCONE_POSTS_MAX; i++) {
        (void)snprintf(name, sizeof name, "h%d", i);
        assert_int_equal(put(w, name, "r\n", &e), CS_UNAVAILABLE);
        assert_string_equal(e.text, "no answer of the CAS yet");
    }
    assert_int_equal(put(w, "one-more", "r\n", &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "16 sessions wait for an answer of the CAS");
    assert_int_equal(w->posts, SCONE_POSTS_MAX);
    /* the end does not wait for them */
    const int64_t before = cs_mono_ns(&cs_clock_system);
    scone_sessions_drop(&w->sessions);
    assert_true(cs_mono_ns(&cs_clock_system) - before < 20 * CS_NS_PER_S);
    w->hang = false;
}

static void test_forgotten(void **state)
{
    struct world *w = *state;
    put_at_last(w, "s0", "r\n");
    scone_sessions_release(w->sessions, "s0");
    put_at_last(w, "s0", "r\n");
    assert_int_equal(w->posts, 2);
}

/* A CAS of the same name with its files elsewhere, as after a reconfiguration, even in the middle of a post.
 */
static void test_another_place(void **state)
{
    struct world *w = *state;
    struct cs_err e;
    struct scone_cas *first = w->cas;
    const struct http_client_options h = {.ca = cs_slice_str(w->pki.ca_cert), .https_only = true};
    struct http_client *client;
    char dir[80];
    w->hang = true;
    assert_int_equal(put(w, "s0", "r\n", &e), CS_UNAVAILABLE);
    (void)snprintf(dir, sizeof dir, "%s/other", w->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(http_client_new(&h, &client, &e), CS_OK);
    assert_int_equal(scone_cas_new(client, test_server_url(w->server), dir, &w->cas, &e), CS_OK);
    w->hang = false;
    put_at_last(w, "s0", "r\n"); /* taken by the first place is not taken by this one */
    assert_int_equal(w->posts, 2);
    expect_hash(w, "s0", "hash1");
    expect_hash(w, "other/s0", "hash2");
    put_at_last(w, "s0", "r\n");
    assert_int_equal(w->posts, 2);
    scone_cas_unref(first);
}

static void test_refused(void **state)
{
    struct world *w = *state;
    struct cs_err e;
    w->status = 404;
    assert_int_equal(put(w, "s0", "r\n", &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "status 404: error=\"refused\"");
    assert_int_equal(w->posts, 1); /* there was no predecessor to leave out */
    w->status = 201;
    put_at_last(w, "s0", "r\n");
    w->status = 404;
    assert_int_equal(put(w, "s0", "s\n", &e), CS_UNAVAILABLE);
    assert_int_equal(w->posts, 4); /* with it, and without */
    expect_hash(w, "s0", "hash2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_session_by_many, begin, end),
        cmocka_unit_test_setup_teardown(test_many_sessions, begin, end),
        cmocka_unit_test_setup_teardown(test_no_answer, begin, end),
        cmocka_unit_test_setup_teardown(test_bounded, begin, end),
        cmocka_unit_test_setup_teardown(test_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(test_another_place, begin, end),
        cmocka_unit_test_setup_teardown(test_refused, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
