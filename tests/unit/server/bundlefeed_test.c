/* SPDX-License-Identifier: Apache-2.0
 *
 * Notifiers and publishers: who is told what and when, and that nobody waits for anybody.
 */
#include "server/bundlefeed.h"

#include "base/mem.h"
#include "crypto/x509_issue.h"
#include "plugin/bundlepublisher.h"
#include "plugin/notifier.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW INT64_C(1790000000)
#define TD "example.org"
#define CALLS_MAX 64

/* --- Plugins that write down what they are told --- */

struct call {
    char what; /* 'l'oaded, 'u'pdated, 'p'ublished */
    size_t roots;
};
struct fake {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct call calls[CALLS_MAX];
    size_t count;
    bool hold;    /* calls stand still until this is taken away */
    unsigned out; /* calls that returned */
    cs_code answer;
};
enum { N1, N2, P1, P2, FAKES };
static struct fake fakes[FAKES];

static cs_code on_call(struct fake *f, char what, const struct spiffe_bundle *b, struct cs_err *e)
{
    pthread_mutex_lock(&f->lock);
    assert_true(f->count < CALLS_MAX);
    f->calls[f->count++] = (struct call){what, b->x509_count};
    pthread_cond_broadcast(&f->changed);
    while (f->hold)
        pthread_cond_wait(&f->changed, &f->lock);
    f->out++;
    pthread_cond_broadcast(&f->changed);
    cs_code answer = f->answer;
    pthread_mutex_unlock(&f->lock);
    return answer == CS_OK ? CS_OK : cs_fail(e, answer, "not this bundle");
}
static cs_code loaded(void *self, const struct spiffe_bundle *b, struct cs_err *e)
{
    return on_call(self, 'l', b, e);
}
static cs_code updated(void *self, const struct spiffe_bundle *b, struct cs_err *e)
{
    return on_call(self, 'u', b, e);
}
static cs_code published(void *self, const struct spiffe_bundle *b, struct cs_err *e)
{
    return on_call(self, 'p', b, e);
}
static const struct notifier_ops notifier = {.bundle_loaded = loaded, .bundle_updated = updated};
static const struct bundlepublisher_ops publisher = {.publish = published};

static cs_code create(int which, void **self)
{
    *self = &fakes[which];
    return CS_OK;
}
#define FAKE(id, ops_)                                                                                       \
    static cs_code create_##id(const struct plugin_env *env, void **self, struct cs_err *e)                  \
    {                                                                                                        \
        (void)env;                                                                                           \
        (void)e;                                                                                             \
        return create(id, self);                                                                             \
    }                                                                                                        \
    static const struct plugin_builtin builtin_##id = {.name = #id, .ops = &(ops_), .create = create_##id}
FAKE(N1, notifier);
FAKE(N2, notifier);
FAKE(P1, publisher);
FAKE(P2, publisher);
static const struct plugin_builtin *const notifiers[] = {&builtin_N1, &builtin_N2};
static const struct plugin_builtin *const publishers[] = {&builtin_P1, &builtin_P2};
static const struct plugin_kind kinds[] = {
    {.type = "Notifier", .builtins = notifiers, .builtin_count = 2},
    {.type = "BundlePublisher", .builtins = publishers, .builtin_count = 2},
};

/* Waits until it was called n times. */
static void await_calls(int which, size_t n)
{
    struct fake *f = &fakes[which];
    pthread_mutex_lock(&f->lock);
    while (f->count < n)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static void hold(int which, bool on)
{
    struct fake *f = &fakes[which];
    pthread_mutex_lock(&f->lock);
    f->hold = on;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void expect(int which, size_t at, char what, size_t roots)
{
    struct fake *f = &fakes[which];
    pthread_mutex_lock(&f->lock);
    const size_t count = f->count;
    const struct call call = at < count ? f->calls[at] : (struct call){0};
    pthread_mutex_unlock(&f->lock); /* failing jumps to the teardown, which waits for calls that want it */
    assert_true(at < count);
    assert_int_equal(call.what, what);
    assert_int_equal(call.roots, roots);
}

/* --- The world around --- */

struct world {
    char db[64], log_path[64];
    struct ds *ds;
    struct bundlestore *store;
    struct catalog *catalog;
    struct bundlefeed *feed;
    struct cs_log_sink *sink;
    pthread_mutex_t lock;
    unsigned refused;
    struct cs_err why;
};

static void must(cs_code rc, const struct cs_err *e)
{
    if (rc != CS_OK)
        fail_msg("%s", e->text);
}

static void refused(void *arg, const struct cs_err *e)
{
    struct world *w = arg;
    pthread_mutex_lock(&w->lock);
    w->refused++;
    w->why = *e;
    pthread_mutex_unlock(&w->lock);
}

static void append_root(struct world *w)
{
    struct cs_err e = {0};
    struct crypto_key *key = NULL;
    struct crypto_signer *signer = NULL;
    struct cs_buf der = {0};
    must(crypto_key_generate(CRYPTO_EC_P256, &key, &e), &e);
    must(crypto_signer_of_key(key, &signer, &e), &e);
    const struct x509_issue_params p = {
        .uri = cs_slice_str("spiffe://" TD), .not_before = NOW - 10, .not_after = NOW + 3600};
    must(x509_issue_self_signed(signer, &p, &der, &e), &e);
    const struct ds_cert root = {.der = cs_buf_slice(&der)};
    const struct ds_bundle add = {.roots = &root, .n_roots = 1};
    must(bundlestore_append(w->store, &add, &e), &e);
    cs_buf_free(&der);
    crypto_signer_unref(signer);
    crypto_key_unref(key);
}

static void load(struct world *w)
{
    static const char *const names[][2] = {
        {"Notifier", "N1"}, {"Notifier", "N2"}, {"BundlePublisher", "P1"}, {"BundlePublisher", "P2"}};
    struct config_plugin rows[FAKES];
    struct cs_err e = {0};
    for (size_t i = 0; i < FAKES; i++)
        rows[i] = (struct config_plugin){.type = names[i][0], .name = names[i][1], .cmd = "", .checksum = ""};
    const struct config_plugins plugins = {.at = rows, .len = FAKES};
    const struct catalog_config cfg = {
        .program = "server", .kinds = kinds, .kind_count = 2, .plugins = &plugins};
    must(catalog_load(&cfg, &w->catalog, &e), &e);
}

static int setup(void **state)
{
    struct cs_err e = {0};
    struct world *w = calloc(1, sizeof *w);
    for (size_t i = 0; i < FAKES; i++) {
        fakes[i] = (struct fake){.answer = CS_OK};
        pthread_mutex_init(&fakes[i].lock, NULL);
        pthread_cond_init(&fakes[i].changed, NULL);
    }
    pthread_mutex_init(&w->lock, NULL);
    snprintf(w->db, sizeof w->db, "/tmp/bundlefeed_test.XXXXXX");
    snprintf(w->log_path, sizeof w->log_path, "/tmp/bundlefeed_log.XXXXXX");
    int fd = mkstemp(w->db), log = mkstemp(w->log_path);
    assert_true(fd >= 0 && log >= 0);
    close(fd);
    close(log);
    must(cs_log_sink_open(w->log_path, CS_LOG_TEXT, CS_LOG_DEBUG, &w->sink, &e), &e);
    const struct ds_options o = {.database_type = "sqlite3", .connection_string = w->db};
    must(ds_open(&o, &w->ds, &e), &e);
    must(bundlestore_new(w->ds, TD, (struct cs_log){0}, &w->store, &e), &e);
    load(w);
    const struct bundlefeed_config cfg = {.catalog = w->catalog,
                                          .bundles = w->store,
                                          .trust_domain = TD,
                                          .log = {.sink = w->sink},
                                          .refused = refused,
                                          .arg = w};
    must(bundlefeed_new(&cfg, &w->feed, &e), &e);
    append_root(w); /* before the start: nobody is told */
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char path[80];
    bundlefeed_free(w->feed);
    catalog_free(w->catalog);
    bundlestore_free(w->store);
    ds_close(w->ds);
    cs_log_sink_free(w->sink);
    unlink(w->db);
    unlink(w->log_path);
    snprintf(path, sizeof path, "%s-wal", w->db);
    unlink(path);
    snprintf(path, sizeof path, "%s-shm", w->db);
    unlink(path);
    pthread_mutex_destroy(&w->lock);
    free(w);
    return 0;
}

static bool log_has(const struct world *w, const char *text)
{
    struct cs_buf log = {0};
    FILE *f = fopen(w->log_path, "r");
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        cs_buf_add(&log, chunk, n);
    fclose(f);
    bool found = strstr(cs_buf_cstr(&log), text) != NULL;
    cs_buf_free(&log);
    return found;
}

/* Lines come after the calls that they speak of. */
static void await_logged(const struct world *w, const char *text)
{
    for (unsigned i = 0; !log_has(w, text); i++) {
        if (i == 10000)
            fail_msg("not logged: %s", text);
        usleep(1000);
    }
}

/* --- Tests --- */

static void all_are_told_at_the_start_and_of_each_change(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < FAKES; i++)
        assert_int_equal(fakes[i].count, 0);
    bundlefeed_start(w->feed);
    for (int i = 0; i < FAKES; i++)
        await_calls(i, 1);
    expect(N1, 0, 'l', 1);
    expect(N2, 0, 'l', 1);
    expect(P1, 0, 'p', 1);
    expect(P2, 0, 'p', 1);
    append_root(w);
    for (int i = 0; i < FAKES; i++)
        await_calls(i, 2);
    expect(N1, 1, 'u', 2);
    expect(N2, 1, 'u', 2);
    expect(P1, 1, 'p', 2);
    expect(P2, 1, 'p', 2);
    await_logged(w, "level=debug msg=\"Notifier handled event\" event=\"bundle loaded\" notifier=N1 "
                    "subsystem_name=ca_manager");
}

static void a_slow_one_holds_nobody_up_and_gets_the_latest(void **state)
{
    struct world *w = *state;
    hold(N1, true);
    hold(P1, true);
    bundlefeed_start(w->feed);
    await_calls(N1, 1);
    await_calls(P1, 1);
    await_calls(N2, 1);
    await_calls(P2, 1);
    for (size_t i = 0; i < 5; i++) {
        append_root(w);
        await_calls(N2, 2 + i);
        await_calls(P2, 2 + i);
        expect(N2, 1 + i, 'u', 2 + i);
    }
    hold(N1, false);
    hold(P1, false);
    await_calls(N1, 2);
    await_calls(P1, 2);
    expect(N1, 1, 'u', 6);
    expect(P1, 1, 'p', 6);
    bundlefeed_free(w->feed);
    w->feed = NULL;
    assert_int_equal(fakes[N1].count, 2);
    assert_int_equal(fakes[P1].count, 2);
}

static void a_refusal_of_the_loaded_bundle_is_passed_on(void **state)
{
    struct world *w = *state;
    fakes[N2].answer = CS_INVALID;
    bundlefeed_start(w->feed);
    await_logged(
        w, "level=error msg=\"Notifier failed to handle event\" error=\"notifier(N2): not this bundle\" "
           "event=\"bundle loaded\" notifier=N2");
    bundlefeed_free(w->feed); /* and with it the call under way */
    w->feed = NULL;
    assert_int_equal(w->refused, 1);
    assert_int_equal(w->why.code, CS_INVALID);
    assert_string_equal(w->why.text,
                        "one or more notifiers returned an error: notifier(N2): not this bundle");
}

static void a_notifier_may_not_care(void **state)
{
    struct world *w = *state;
    fakes[N1].answer = CS_UNIMPLEMENTED;
    bundlefeed_start(w->feed);
    await_calls(N1, 1);
    append_root(w);
    await_calls(N1, 2);
    bundlefeed_free(w->feed);
    w->feed = NULL;
    assert_int_equal(w->refused, 0);
}

static void failures_of_updates_are_logged_only(void **state)
{
    struct world *w = *state;
    bundlefeed_start(w->feed);
    await_calls(N1, 1);
    pthread_mutex_lock(&fakes[N1].lock);
    fakes[N1].answer = CS_UNKNOWN;
    pthread_mutex_unlock(&fakes[N1].lock);
    append_root(w);
    await_calls(N1, 2);
    assert_true(bundlefeed_refresh(w->feed)); /* not away: told no more */
    append_root(w);
    await_calls(N1, 3);
    expect(N1, 2, 'u', 3);
    await_logged(w, "level=warning msg=\"Failed to notify on bundle update\" error=\"one or more notifiers "
                    "returned an error: notifier(N1): not this bundle\" subsystem_name=ca_manager");
    assert_int_equal(w->refused, 0);
}

static size_t calls_of(size_t i)
{
    pthread_mutex_lock(&fakes[i].lock);
    size_t n = fakes[i].count;
    pthread_mutex_unlock(&fakes[i].lock);
    return n;
}

static void publishers_are_asked_again_and_so_are_notifiers_that_were_away(void **state)
{
    struct world *w = *state;
    fakes[P1].answer = CS_UNKNOWN;
    bundlefeed_start(w->feed);
    await_calls(N1, 1);
    await_calls(N2, 1);
    pthread_mutex_lock(&fakes[N1].lock);
    fakes[N1].answer = CS_UNAVAILABLE;
    pthread_mutex_unlock(&fakes[N1].lock);
    append_root(w);
    await_calls(N2, 2);
    /* the call's outcome is noted after it returned, so refresh until it is */
    for (size_t n = calls_of(P1); n < CALLS_MAX / 2; n++) {
        assert_true(bundlefeed_refresh(w->feed));
        await_calls(P1, n + 1);
        if (calls_of(N1) > 2)
            break;
        usleep(1000);
    }
    await_calls(N1, 3);
    expect(N1, 2, 'u', 2);
    assert_int_equal(calls_of(N2), 2);
    await_logged(w, "level=error msg=\"Failed to publish bundle\" BundlePublisher=P1 "
                    "error=\"bundlepublisher(P1): not this bundle\" subsystem_name=bundle_publishing");
}

static void nobody_is_told_after_the_stop(void **state)
{
    struct world *w = *state;
    bundlefeed_start(w->feed);
    for (int i = 0; i < FAKES; i++)
        await_calls(i, 1);
    bundlefeed_stop(w->feed);
    append_root(w);
    assert_true(bundlefeed_refresh(w->feed));
    bundlefeed_free(w->feed);
    w->feed = NULL;
    for (int i = 0; i < FAKES; i++)
        assert_int_equal(fakes[i].count, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(all_are_told_at_the_start_and_of_each_change),
        T(a_slow_one_holds_nobody_up_and_gets_the_latest),
        T(a_refusal_of_the_loaded_bundle_is_passed_on),
        T(a_notifier_may_not_care),
        T(failures_of_updates_are_logged_only),
        T(publishers_are_asked_again_and_so_are_notifiers_that_were_away),
        T(nobody_is_told_after_the_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
