/* SPDX-License-Identifier: Apache-2.0
 *
 * Client and server against each other: every kind of call, over Unix sockets and TLS, inline and on
 * workers.
 */
#include "fixture.h"

#include <pthread.h>

static struct fixture fx;

static int setup(void **state)
{
    (void)state;
    fx_up(&fx, &(struct rpc_server_config){.io_threads = 2, .workers = 4});
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fx_down(&fx);
    return 0;
}

static struct rpc_client *clients(int i)
{
    return i == 0 ? fx.client : fx.tls_client;
}
static const char *const unary_methods[] = {"Inline", "Worker"};

static void test_unary(void **state)
{
    (void)state;
    char out[600];
    for (int i = 0; i < 4; i++) {
        struct rpc_client *c = clients(i / 2);
        const char *m = unary_methods[i % 2];
        assert_int_equal(fx_call(c, m, "hello", out, sizeof out), CS_OK);
        assert_string_equal(out, "hello");
        assert_int_equal(fx_call(c, m, "", out, sizeof out), CS_OK);
        assert_string_equal(out, "");
        assert_int_equal(fx_call(c, m, "fail:5:not \xc3\xa4 100%\n", out, sizeof out), CS_NOT_FOUND);
        assert_string_equal(out, "not \xc3\xa4 100%\n");
        assert_int_equal(fx_call(c, m, "deadline", out, sizeof out), CS_OK);
        assert_string_equal(out, "set");
        assert_int_equal(fx_call(c, m, "md:user-agent", out, sizeof out), CS_OK);
        assert_string_equal(out, "grpc-c-cspire/" CSPIRE_VERSION);
    }
    assert_true(fx.verified >= 1);
}

static void test_metadata_and_detail(void **state)
{
    (void)state;
    const struct rpc_metadata md[] = {{"plain", "value"}, {"some-bin", "\x01\xfe"}, {"who", "nobody"}};
    for (int i = 0; i < 2; i++) {
        struct rpc_client *c = clients(i);
        struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
        struct cs_err e = {0};
        struct rpc_result r;
        assert_int_equal(
            rpc_client_unary(c, "/test.Echo/Inline", cs_slice_str("md:some-bin"), &out, md, 2, 0, &r, &e),
            CS_OK);
        assert_true(cs_slice_is(cs_buf_slice(&out), "\x01\xfe"));
        assert_int_equal(rpc_client_unary(c, "/test.Echo/Worker", cs_slice_str("x"), &out, md, 3, 0, &r, &e),
                         CS_DENIED);
        assert_string_equal(e.text, "authorization denied for method /test.Echo/Worker");
        assert_string_equal(r.detail.type_name, "");
        assert_int_equal(
            rpc_client_unary(c, "/test.Echo/Inline", cs_slice_str("detail"), &out, NULL, 0, 0, &r, &e),
            CS_DENIED);
        assert_string_equal(e.text, "no: 100% \xc3\xa4");
        assert_string_equal(r.detail.type_name, "test.Detail");
        assert_int_equal(r.detail.len, 2);
        assert_memory_equal(r.detail.data, "\x08\x01", 2);
    }
}

static void test_metadata_count(void **state)
{
    (void)state;
    const struct rpc_metadata md[] = {{"one", "1"}, {"two", "1"}, {"two", "1"}};
    static const char *const asks[][2] = {{"mdn:one", "1"}, {"mdn:two", "2"}, {"mdn:none", "0"}};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof asks / sizeof asks[0]; k++) {
            struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
            struct rpc_result r;
            assert_int_equal(rpc_client_unary(clients(i), "/test.Echo/Inline", cs_slice_str(asks[k][0]), &out,
                                              md, 3, 0, &r, NULL),
                             CS_OK);
            assert_true(cs_slice_is(cs_buf_slice(&out), asks[k][1]));
        }
    }
}

static void test_unknown(void **state)
{
    (void)state;
    const struct {
        const char *path, *text;
    } rows[] = {
        {"/a.B/C", "unknown service a.B"},
        {"/test.Echo/C", "unknown method C for service test.Echo"},
        {"/x", "malformed method name: \"/x\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
        struct cs_err e = {0};
        assert_int_equal(
            rpc_client_unary(fx.client, rows[i].path, cs_slice_str(""), &out, NULL, 0, 0, NULL, &e),
            CS_UNIMPLEMENTED);
        assert_string_equal(e.text, rows[i].text);
    }
}

static void test_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 16378, 16379, 16380, 65530, 262144, 1000000, 4194304};
    uint8_t *p = calloc(1, RPC_MAX_MESSAGE + 1);
    for (int i = 0; i < 4; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            struct cs_buf out = {0};
            struct cs_err e = {0};
            for (size_t b = 0; b < sizes[k]; b++)
                p[b] = (uint8_t)(b * 31 + k);
            cs_code code = rpc_client_unary(clients(i / 2), i % 2 ? "/test.Echo/Worker" : "/test.Echo/Inline",
                                            cs_slice_of(p, sizes[k]), &out, NULL, 0, 0, NULL, &e);
            assert_string_equal(e.text, "");
            assert_int_equal(code, CS_OK);
            assert_true(cs_slice_eq(cs_buf_slice(&out), cs_slice_of(p, sizes[k])));
            cs_buf_free(&out);
        }
        struct cs_buf out = {0};
        struct cs_err e = {0};
        assert_int_equal(rpc_client_unary(clients(i / 2), "/test.Echo/Inline",
                                          cs_slice_of(p, RPC_MAX_MESSAGE + 1), &out, NULL, 0, 0, NULL, &e),
                         CS_EXHAUSTED);
        assert_string_equal(e.text, "grpc: received message larger than max (4194305 vs. 4194304)");
        assert_int_equal(rpc_client_unary(clients(i / 2), "/test.Echo/Inline", cs_slice_str("big:4194305"),
                                          &out, NULL, 0, 0, NULL, &e),
                         CS_EXHAUSTED);
        assert_string_equal(e.text, "grpc: received message larger than max (4194305 vs. 4194304)");
        cs_buf_free(&out);
    }
    free(p);
}

static struct rpc_stream *stream(struct rpc_client *c, const char *method, int64_t deadline)
{
    struct rpc_stream *s = NULL;
    struct cs_err e = {0};
    char path[64];
    snprintf(path, sizeof path, "/test.Echo/%s", method);
    if (rpc_stream_open(c, path, NULL, 0, deadline, &s, &e) != CS_OK)
        fail_msg("%s", e.text);
    return s;
}

static cs_code stream_recv(struct rpc_stream *s, struct cs_buf *msg, bool *end, struct cs_err *e)
{
    return rpc_stream_recv(s, msg, end, -1, NULL, e);
}

static void test_bidi(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct rpc_stream *s = stream(clients(i / 2), i % 2 ? "BidiWorker" : "Bidi", 20 * CS_NS_PER_S);
        struct cs_buf msg CS_CLEANUP(cs_buf_free) = {0};
        struct cs_err e = {0};
        bool end;
        char text[2000];
        for (int k = 0; k < 50; k++) {
            memset(text, 'a' + k % 26, sizeof text);
            size_t n = (size_t)k * 40;
            assert_int_equal(rpc_stream_send(s, cs_slice_of(text, n), &e), CS_OK);
            assert_int_equal(stream_recv(s, &msg, &end, &e), CS_OK);
            assert_false(end);
            assert_true(cs_slice_eq(cs_buf_slice(&msg), cs_slice_of(text, n)));
        }
        assert_int_equal(rpc_stream_recv(s, &msg, &end, 10 * CS_NS_PER_MS, NULL, &e), CS_DEADLINE);
        assert_int_equal(rpc_stream_close_send(s, &e), CS_OK);
        assert_int_equal(stream_recv(s, &msg, &end, &e), CS_OK);
        assert_true(end);
        rpc_stream_free(s);

        s = stream(clients(i / 2), i % 2 ? "BidiWorker" : "Bidi", 0);
        assert_int_equal(rpc_stream_send(s, cs_slice_str("fail"), &e), CS_OK);
        assert_int_equal(stream_recv(s, &msg, &end, &e), CS_ABORTED);
        assert_string_equal(e.text, "asked for");
        rpc_stream_free(s);
    }
}

static void test_join_and_count(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct rpc_stream *s = stream(clients(i / 2), i % 2 ? "JoinWorker" : "Join", 20 * CS_NS_PER_S);
        struct cs_buf msg CS_CLEANUP(cs_buf_free) = {0};
        struct cs_err e = {0};
        bool end;
        static char part[30000];
        memset(part, 'p', sizeof part);
        for (int k = 0; k < 100; k++)
            assert_int_equal(rpc_stream_send(s, cs_slice_of(part, sizeof part), &e), CS_OK);
        assert_int_equal(rpc_stream_close_send(s, &e), CS_OK);
        assert_int_equal(stream_recv(s, &msg, &end, &e), CS_OK);
        assert_int_equal(msg.len, 100 * sizeof part);
        assert_int_equal(stream_recv(s, &msg, &end, &e), CS_OK);
        assert_true(end);
        rpc_stream_free(s);

        s = stream(clients(i / 2), i % 2 ? "CountWorker" : "Count", 20 * CS_NS_PER_S);
        assert_int_equal(rpc_stream_send(s, cs_slice_str("500:7000"), &e), CS_OK);
        assert_int_equal(rpc_stream_close_send(s, &e), CS_OK);
        size_t n = 0;
        for (;;) {
            assert_int_equal(stream_recv(s, &msg, &end, &e), CS_OK);
            if (end)
                break;
            assert_int_equal(msg.len, 7000);
            n++;
        }
        assert_int_equal(n, 500);
        rpc_stream_free(s);
    }
}

static void wait_for(_Atomic int *v, int want)
{
    for (int i = 0; i < 20000 && atomic_load(v) < want; i++)
        usleep(500);
    assert_true(atomic_load(v) >= want);
}

static void test_deadline(void **state)
{
    (void)state;
    char path[] = "/test.Echo/Block";
    atomic_store(&fx.echo.hold, true);
    for (int i = 0; i < 2; i++) {
        struct cs_buf out = {0};
        struct cs_err e = {0};
        int seen = atomic_load(&fx.echo.cancelled_seen);
        assert_int_equal(
            rpc_client_unary(clients(i), path, cs_slice_str("x"), &out, NULL, 0, 60 * CS_NS_PER_MS, NULL, &e),
            CS_DEADLINE);
        assert_string_equal(e.text, "context deadline exceeded");
        wait_for(&fx.echo.cancelled_seen, seen + 1);
        struct rpc_stream *s = stream(clients(i), "Count", 60 * CS_NS_PER_MS);
        bool end;
        assert_int_equal(rpc_stream_send(s, cs_slice_str("wait"), &e), CS_OK);
        assert_int_equal(stream_recv(s, &out, &end, &e), CS_OK);
        assert_int_equal(stream_recv(s, &out, &end, &e), CS_DEADLINE);
        rpc_stream_free(s);
        cs_buf_free(&out);
    }
    atomic_store(&fx.echo.hold, false);
}

static void *cancel_soon(void *arg)
{
    usleep(20000);
    rpc_stream_cancel(arg);
    return NULL;
}

static void test_cancel(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct cs_buf out = {0};
        struct cs_err e = {0};
        bool end;
        int closed = atomic_load(&fx.echo.closed);
        struct rpc_stream *s = stream(clients(i / 2), i % 2 ? "CountWorker" : "Count", 0);
        assert_int_equal(rpc_stream_send(s, cs_slice_str("wait"), &e), CS_OK);
        assert_int_equal(stream_recv(s, &out, &end, &e), CS_OK);
        pthread_t t;
        pthread_create(&t, NULL, cancel_soon, s);
        assert_int_equal(stream_recv(s, &out, &end, &e), CS_CANCELLED);
        pthread_join(t, NULL);
        rpc_stream_free(s);
        wait_for(&fx.echo.closed, closed + 1);
        cs_buf_free(&out);
    }
}

/* A reader that stops: the server's queue fills up and says so, others are served. */
static void test_slow_reader(void **state)
{
    (void)state;
    char out[600];
    for (int i = 0; i < 2; i++) {
        struct cs_err e = {0};
        struct rpc_stream *s = stream(clients(i), "Count", 20 * CS_NS_PER_S);
        assert_int_equal(rpc_stream_send(s, cs_slice_str("burst"), &e), CS_OK);
        assert_int_equal(fx_call(clients(i), "Inline", "still here", out, sizeof out), CS_OK);
        struct cs_buf msg = {0};
        bool end = false;
        int n = 0;
        cs_code code;
        while ((code = stream_recv(s, &msg, &end, &e)) == CS_OK && !end)
            n++;
        assert_int_equal(code, CS_EXHAUSTED);
        assert_true(n >= 7 && n <= 12);
        cs_buf_free(&msg);
        rpc_stream_free(s);
    }
}

struct many {
    struct rpc_client *c;
    int bad;
};
static void *many_calls(void *arg)
{
    struct many *m = arg;
    for (int i = 0; i < 200; i++) {
        char in[64], out[600];
        snprintf(in, sizeof in, "%p %d", arg, i);
        if (fx_call(m->c, i % 3 ? "Inline" : "Worker", in, out, sizeof out) != CS_OK || strcmp(in, out) != 0)
            m->bad++;
    }
    return NULL;
}
static void test_threads(void **state)
{
    (void)state;
    struct many m[8] = {0};
    pthread_t t[8];
    for (int i = 0; i < 8; i++) {
        m[i].c = clients(i % 2);
        pthread_create(&t[i], NULL, many_calls, &m[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(m[i].bad, 0);
    }
}

static void test_health(void **state)
{
    (void)state;
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    struct cs_err e = {0};
    const char *check = "/grpc.health.v1.Health/Check";
    assert_int_equal(rpc_client_unary(fx.client, check, cs_slice_str(""), &out, NULL, 0, 0, NULL, &e), CS_OK);
    assert_true(cs_slice_is(cs_buf_slice(&out), "\x08\x01"));
    assert_int_equal(
        rpc_client_unary(fx.client, check, cs_slice_str("\x0a\x02zz"), &out, NULL, 0, 0, NULL, &e),
        CS_NOT_FOUND);
    assert_string_equal(e.text, "unknown service");
    assert_int_equal(rpc_client_unary(fx.client, check, cs_slice_str("\xff\xff"), &out, NULL, 0, 0, NULL, &e),
                     CS_INTERNAL);
    struct rpc_stream *s = NULL;
    bool end;
    assert_int_equal(rpc_stream_open(fx.client, "/grpc.health.v1.Health/Watch", NULL, 0, 0, &s, &e), CS_OK);
    assert_int_equal(rpc_stream_send(s, cs_slice_str("\x0a\x02zz"), &e), CS_OK);
    assert_int_equal(stream_recv(s, &out, &end, &e), CS_OK);
    assert_true(cs_slice_is(cs_buf_slice(&out), "\x08\x03"));
    rpc_stream_free(s);
}

static bool is_true(void *arg)
{
    return *(_Atomic bool *)arg;
}

struct stopper {
    pthread_t thread;
    _Atomic bool *flag;
};
static void *stop_soon(void *arg)
{
    struct stopper *s = arg;
    usleep(50000);
    atomic_store(s->flag, true);
    return NULL;
}

/* Who owns a client may want nobody to wait any more: long and short waits, and those to come. */
static void test_stopped(void **state)
{
    (void)state;
    static _Atomic bool flag;
    const struct rpc_client_config cfg = {
        .unix_path = fx.path, .stopped = is_true, .arg = &flag, .secret_messages = true};
    struct rpc_client *c = NULL;
    struct cs_err e = {0};
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    assert_int_equal(rpc_client_new(fx.loop, &cfg, &c, &e), CS_OK);
    for (int i = 0; i < 3; i++) {
        struct stopper s = {.flag = &flag};
        struct rpc_stream *stream = NULL;
        int64_t began = cs_mono_ns(&cs_clock_system);
        bool end;
        cs_code code;
        atomic_store(&flag, false);
        atomic_store(&fx.echo.hold, true);
        assert_int_equal(pthread_create(&s.thread, NULL, stop_soon, &s), 0);
        if (i == 0) {
            code = rpc_client_unary(c, "/test.Echo/Block", cs_slice_str("x"), &out, NULL, 0, 0, NULL, &e);
        } else {
            assert_int_equal(rpc_stream_open(c, "/test.Echo/Bidi", NULL, 0, 0, &stream, &e), CS_OK);
            do
                code = rpc_stream_recv(stream, &out, &end, i == 1 ? -1 : 10 * CS_NS_PER_MS, NULL, &e);
            while (code == CS_DEADLINE);
        }
        assert_int_equal(code, CS_CANCELLED);
        assert_string_equal(e.text, "context canceled");
        assert_true(cs_mono_ns(&cs_clock_system) - began < 20 * CS_NS_PER_S);
        rpc_stream_free(stream);
        pthread_join(s.thread, NULL);
        atomic_store(&fx.echo.hold, false);
    }
    rpc_client_free(c);
}

/* A stream that is read on the loop, as messages come. */
struct watched {
    struct rpc_stream *s;
    struct cs_buf got;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ended;
    cs_code code;
};
static void on_watched(void *arg)
{
    struct watched *w = arg;
    struct cs_buf msg CS_CLEANUP(cs_buf_free) = {0};
    bool end = false;
    cs_code code = CS_OK;
    pthread_mutex_lock(&w->lock);
    while (w->s != NULL && (code = rpc_stream_recv(w->s, &msg, &end, 0, NULL, NULL)) == CS_OK && !end)
        cs_buf_add_slice(&w->got, cs_buf_slice(&msg));
    if (w->s != NULL && (end || code != CS_DEADLINE)) {
        rpc_stream_free(w->s);
        w->s = NULL;
        w->ended = true;
        w->code = code;
    }
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void test_ready(void **state)
{
    (void)state;
    static const struct {
        const char *method, *say;
        size_t bytes;
        cs_code code;
    } cases[] = {
        {"/test.Echo/Count", "100:10000", 1000000, CS_OK},
        {"/test.Echo/Bidi", "fail", 0, CS_ABORTED},
        {"/test.Echo/Nothing", "x", 0, CS_UNIMPLEMENTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct watched w = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
        struct cs_err e = {0};
        assert_int_equal(rpc_stream_open(fx.client, cases[i].method, NULL, 0, 0, &w.s, &e), CS_OK);
        (void)!rpc_stream_send(w.s, cs_slice_str(cases[i].say), &e);
        pthread_mutex_lock(&w.lock);
        assert_int_equal(rpc_stream_on_ready(w.s, on_watched, &w, &e), CS_OK);
        while (!w.ended)
            pthread_cond_wait(&w.changed, &w.lock);
        pthread_mutex_unlock(&w.lock);
        assert_int_equal(w.got.len, cases[i].bytes);
        assert_int_equal(w.code, cases[i].code);
        cs_buf_free(&w.got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),          cmocka_unit_test(test_metadata_and_detail),
        cmocka_unit_test(test_metadata_count), cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_sizes),          cmocka_unit_test(test_bidi),
        cmocka_unit_test(test_join_and_count), cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_cancel),         cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_health),
        cmocka_unit_test(test_stopped),        cmocka_unit_test(test_ready),
    };
    return cmocka_run_group_tests_name("rpc/calls", tests, setup, teardown);
}
