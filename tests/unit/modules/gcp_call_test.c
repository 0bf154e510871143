/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of SVIDStore "gcp_secretmanager" against a server that is good, slow, forgetful and hostile: tokens,
 * repetition, bounds, and the whole plugin while memory runs out.
 */
#include "plugins/modules/gcp/gcp.h"

#include "base/file.h"
#include "plugin/svidstore.h"
#include "plugins/modules/gcp/plugins.h"
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

#define NOW 1700000000
#define LIFE 3600
#define SECRET                                                                                               \
    "{\"name\":\"projects/1/secrets/n\",\"etag\":\"\\\"e\\\"\",\"labels\":{\"spire-svid\":"                  \
    "\"20116dfd6774a9e7b32eddfea3f6cb094e38fc3f\"}}"

/* What the server does and has seen; a test sets it before it calls. */
static struct {
    atomic_int tokens, calls;
    atomic_int fail, fail_tokens; /* so many of the next are answered with 503 */
    atomic_int refuse;            /* so many are answered with 401 */
    atomic_bool slow, endless;
    pthread_mutex_t lock;
    char last[512]; /* "METHOD TARGET Authorization" */
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static char folder[] = "/tmp/cspire-gcp-XXXXXX";
static char file[64];
static struct test_server *server;
static struct cs_fake_clock clock_;

static bool take(atomic_int *n)
{
    int now = atomic_load(n);
    while (now > 0)
        if (atomic_compare_exchange_weak(n, &now, now - 1))
            return true;
    return false;
}

static bool answer_token(struct test_conn *c)
{
    char text[128];
    const int n = atomic_fetch_add(&seen.tokens, 1) + 1;
    if (take(&seen.fail_tokens))
        return test_reply(c, 503, "", "");
    if (atomic_load(&seen.slow))
        usleep(50000);
    snprintf(text, sizeof text, "{\"access_token\":\"token-%d\",\"expires_in\":%d,\"token_type\":\"Bearer\"}",
             n, LIFE);
    return test_reply(c, 200, "", text);
}

static void note(const struct test_request *r)
{
    const char *head = (const char *)r->head.data;
    const char *bearer = memmem(head, r->head.len, "Bearer ", 7);
    pthread_mutex_lock(&seen.lock);
    snprintf(seen.last, sizeof seen.last, "%s %.300s %.*s", r->method, r->target,
             bearer != NULL ? (int)strcspn(bearer, "\r\n") : 0, bearer != NULL ? bearer : "");
    pthread_mutex_unlock(&seen.lock);
}

static bool handler(void *arg, const struct test_request *r, struct test_conn *c)
{
    (void)arg;
    if (strcmp(r->target, "/token") == 0 || strncmp(r->target, "/computeMetadata/", 17) == 0)
        return answer_token(c);
    atomic_fetch_add(&seen.calls, 1);
    note(r);
    if (take(&seen.fail))
        return test_reply(c, 503, "", "");
    if (take(&seen.refuse))
        return test_reply(c, 401, "",
                          "{\"error\":{\"code\":401,\"message\":\"no\",\"status\":\"UNAUTHENTICATED\"}}");
    while (atomic_load(&seen.endless) && !test_stopping(c))
        usleep(5000);
    if (strstr(r->target, ":getIamPolicy") != NULL)
        return test_reply(c, 200, "", "{\"etag\":\"ACAB\"}");
    if (strstr(r->target, ":addVersion") != NULL)
        return test_reply(c, 200, "", "{\"name\":\"projects/1/secrets/n/versions/1\",\"state\":\"ENABLED\"}");
    if (strcmp(r->method, "DELETE") == 0 || strstr(r->target, ":setIamPolicy") != NULL)
        return test_reply(c, 200, "", "{}");
    return test_reply(c, 200, "", SECRET);
}

static int begin(void **state)
{
    char path[512];
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0}, text = {0};
    const char *data = getenv("CSPIRE_TESTDATA");
    (void)state;
    signal(SIGPIPE, SIG_IGN);                      /* as the programs do */
    setenv("http_proxy", "http://127.0.0.1:9", 1); /* what goes in clear goes past it */
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
    assert_non_null(mkdtemp(folder));
    server = test_server_start(&(struct test_server_options){.handler = handler});
    setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", test_server_url(server), 1);
    snprintf(path, sizeof path, "%s/crypto/key_rsa2048.pem", data != NULL ? data : "tests/data");
    assert_int_equal(cs_file_read(path, 65536, &pem, NULL), CS_OK);
    cs_buf_printf(
        &text,
        "{\"type\":\"service_account\",\"client_email\":\"a\",\"token_uri\":\"%s/token\",\"private_key\":\"",
        test_server_url(server));
    for (size_t i = 0; i < pem.len; i++)
        cs_buf_printf(&text, pem.data[i] == '\n' ? "\\n" : "%c", pem.data[i]);
    cs_buf_add_str(&text, "\"}");
    snprintf(file, sizeof file, "%s/a.json", folder);
    assert_int_equal(cs_file_write_atomic(file, cs_buf_slice(&text), 0600, NULL), CS_OK);
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_server_stop(server);
    unlink(file);
    rmdir(folder);
    return 0;
}

static int fresh(void **state)
{
    (void)state;
    cs_fake_clock_init(&clock_, NOW);
    seen.tokens = seen.calls = seen.fail = seen.fail_tokens = seen.refuse = 0;
    seen.slow = seen.endless = false;
    return 0;
}

static struct gcp *open_with(const char *path, const struct crypto_stop *stop)
{
    struct gcp *g;
    struct cs_err e = {0};
    if (gcp_new(path, stop, &clock_.clock, &g, &e) != CS_OK)
        fail_msg("%s", e.text);
    return g;
}

static cs_code get(struct gcp *g, struct cs_err *e)
{
    CS_CLEANUP(gcp_json_drop) json_t *answer;
    return gcp_call(g, "GET", "projects/p/secrets/n", (struct cs_slice){0}, &answer, e);
}

static void good(struct gcp *g)
{
    struct cs_err e = {0};
    if (get(g, &e) != CS_OK)
        fail_msg("%s", e.text);
}

static void last_is(const char *want)
{
    pthread_mutex_lock(&seen.lock);
    assert_string_equal(seen.last, want);
    pthread_mutex_unlock(&seen.lock);
}

/* --- Tokens --- */

static void keeps_a_token_until_shortly_before_its_end(void **state)
{
    (void)state;
    CS_AUTO(gcp) g = open_with(file, NULL);
    good(g);
    good(g);
    last_is("GET /v1/projects/p/secrets/n Bearer token-1");
    cs_fake_clock_advance(&clock_, (LIFE - 226) * CS_NS_PER_S);
    good(g);
    assert_int_equal(seen.tokens, 1);
    cs_fake_clock_advance(&clock_, CS_NS_PER_S);
    good(g);
    last_is("GET /v1/projects/p/secrets/n Bearer token-2");
    assert_int_equal(seen.tokens, 2);
}

static void an_old_token_does_until_its_end(void **state)
{
    (void)state;
    CS_AUTO(gcp) g = open_with(file, NULL);
    struct cs_err e = {0};
    good(g);
    cs_fake_clock_advance(&clock_, (LIFE - 1) * CS_NS_PER_S);
    seen.fail_tokens = 4;
    good(g);
    last_is("GET /v1/projects/p/secrets/n Bearer token-1");
    cs_fake_clock_advance(&clock_, CS_NS_PER_S);
    seen.fail_tokens = 4;
    assert_int_equal(get(g, &e), CS_UNAVAILABLE);
    assert_non_null(strstr(e.text, "no access token: http://127.0.0.1:"));
    assert_non_null(strstr(e.text, "/token: status 503"));
}

static void asks_the_metadata_server(void **state)
{
    (void)state;
    setenv("GCE_METADATA_HOST", test_server_url(server) + strlen("http://"), 1);
    setenv("HOME", folder, 1);
    unsetenv("GOOGLE_APPLICATION_CREDENTIALS");
    CS_AUTO(gcp) g = open_with("", NULL);
    good(g);
    good(g);
    unsetenv("GCE_METADATA_HOST");
    assert_int_equal(seen.tokens, 1);
}

static void *one_call(void *arg)
{
    good(arg);
    return NULL;
}

/* One thread asks, the others have its token. */
static void asks_once_for_all_threads(void **state)
{
    (void)state;
    pthread_t t[8];
    CS_AUTO(gcp) g = open_with(file, NULL);
    seen.slow = true;
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&t[i], NULL, one_call, g), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(seen.tokens, 1);
    assert_int_equal(seen.calls, 8);
    seen.refuse = 1; /* one of those under way, which asks anew */
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&t[i], NULL, one_call, g), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(seen.tokens, 2);
}

static void asks_anew_when_refused_once(void **state)
{
    (void)state;
    CS_AUTO(gcp) g = open_with(file, NULL);
    struct cs_err e = {0};
    good(g);
    seen.refuse = 1;
    good(g);
    last_is("GET /v1/projects/p/secrets/n Bearer token-2");
    seen.refuse = 2;
    assert_int_equal(get(g, &e), CS_UNAUTHENTICATED);
    assert_string_equal(e.text, "rpc error: code = Unauthenticated desc = no");
}

/* --- Calls --- */

static void repeats_what_passes(void **state)
{
    (void)state;
    CS_AUTO(gcp) g = open_with(file, NULL);
    struct cs_err e = {0};
    seen.fail = 3;
    good(g);
    assert_int_equal(seen.calls, 4);
    seen.fail = 100;
    assert_int_equal(get(g, &e), CS_UNAVAILABLE);
    assert_int_equal(seen.calls, 8);
}

static bool asked(void *arg)
{
    return atomic_load((atomic_bool *)arg);
}

static void *stop_soon(void *arg)
{
    while (atomic_load(&seen.calls) == 0)
        usleep(1000);
    atomic_store((atomic_bool *)arg, true);
    return NULL;
}

static void ends_when_told(void **state)
{
    (void)state;
    static atomic_bool told;
    const struct crypto_stop stop = {.asked = asked, .arg = &told};
    struct cs_err e = {0};
    pthread_t t;
    for (int hang = 0; hang < 2; hang++) {
        atomic_store(&told, false);
        seen.calls = 0;
        CS_AUTO(gcp) g = open_with(file, &stop);
        seen.fail = hang ? 0 : 100;
        seen.endless = hang;
        assert_int_equal(pthread_create(&t, NULL, stop_soon, &told), 0);
        assert_int_equal(get(g, &e), CS_CANCELLED);
        pthread_join(t, NULL);
    }
    seen.endless = false;
}

/* --- The plugin while memory runs out --- */

static const char *const words[] = {"name:n", "projectid:p", "role:r", "serviceaccount:a"};

static cs_code whole(struct cs_err *e)
{
    const struct plugin_builtin *b = &plugin_svidstore_gcp_secretmanager;
    const struct svidstore_ops *ops = b->ops;
    const struct cs_slice der = cs_slice_str("der");
    const struct svidstore_svid svid = {.spiffe_id = "spiffe://example.org/w",
                                        .chain = &der,
                                        .chain_count = 1,
                                        .key = der,
                                        .bundle = &der,
                                        .bundle_count = 1};
    const struct plugin_env env = {.clock = &clock_.clock, .trust_domain = "example.org", .data_dir = folder};
    char text[128];
    void *self;
    snprintf(text, sizeof text, "service_account_file = \"%s\"", file);
    CS_TRY(b->create(&env, &self, e));
    cs_code rc = b->configure(self, cs_slice_str(text), e);
    if (rc == CS_OK)
        rc = ops->put(self, &svid, words, 4, e);
    if (rc == CS_OK)
        rc = ops->remove(self, words, 4, e);
    b->destroy(self);
    return rc;
}

static void survives_lack_of_memory(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct cs_err e = {0};
        seen.tokens = 0;
        cs_mem_fail_at(n, false);
        cs_code rc = whole(&e);
        cs_mem_fail_at(0, false);
        if (rc == CS_OK) {
            assert_true(n > 60);
            break;
        }
        if (rc != CS_INTERNAL)
            fail_msg("%zu: %s %s", n, cs_code_name(rc), e.text);
    }
    last_is("DELETE /v1/projects/1/secrets/n?etag=%22e%22 Bearer token-1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(keeps_a_token_until_shortly_before_its_end, fresh),
        cmocka_unit_test_setup(an_old_token_does_until_its_end, fresh),
        cmocka_unit_test_setup(asks_the_metadata_server, fresh),
        cmocka_unit_test_setup(asks_once_for_all_threads, fresh),
        cmocka_unit_test_setup(asks_anew_when_refused_once, fresh),
        cmocka_unit_test_setup(repeats_what_passes, fresh),
        cmocka_unit_test_setup(ends_when_told, fresh),
        cmocka_unit_test_setup(survives_lack_of_memory, fresh),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
