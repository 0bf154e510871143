/* SPDX-License-Identifier: Apache-2.0
 *
 * The server against peers that are broken, hostile or gone, and its end; the client against servers
 * that are.
 */
#include "raw.h"

#include <pthread.h>
#include <time.h>

static struct fixture fx;
static const struct rpc_server_config small = {
    .io_threads = 2, .workers = 4, .handshake_ns = 300 * CS_NS_PER_MS};

static int setup(void **state)
{
    (void)state;
    fx_up(&fx, &small);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fx_down(&fx);
    return 0;
}

static void still_serves(void)
{
    char out[600];
    assert_int_equal(fx_call(fx.client, "Inline", "alive", out, sizeof out), CS_OK);
    assert_string_equal(out, "alive");
    assert_int_equal(fx_call(fx.tls_client, "Worker", "alive", out, sizeof out), CS_OK);
}

static void expect_closed(struct cs_buf *b, int want_code)
{
    struct cs_buf in = {0};
    int fd = raw_unix(&fx);
    assert_true(converse(fd, b, &in, 0xff));
    /* the kernel drops what we sent when it closes on unread input */
    int code = goaway_code(&in);
    assert_true(code == -1 || code == want_code);
    close(fd);
    cs_buf_free(&in);
    cs_buf_free(b);
    still_serves();
}

static void test_floods(void **state)
{
    (void)state;
    struct cs_buf b = {0};
    preface(&b);
    for (int i = 0; i < 5000; i++)
        frame(&b, 6, 0, 0, "12345678", 8); /* PING */
    expect_closed(&b, 11);
    preface(&b);
    for (int i = 0; i < 5000; i++)
        frame(&b, 4, 0, 0, "", 0); /* SETTINGS */
    expect_closed(&b, 11);
    preface(&b);
    for (uint32_t i = 0; i < 5000; i++) { /* rapid reset */
        request(&b, 1 + 2 * i, "/test.Echo/Bidi", "application/grpc", 4);
        frame(&b, 3, 0, 1 + 2 * i, "\0\0\0\x08", 4);
    }
    expect_closed(&b, 2);
    preface(&b);
    request(&b, 1, "/test.Echo/Bidi", "application/grpc", 0);
    for (int i = 0; i < 100; i++)
        frame(&b, 9, 0, 1, "", 0); /* CONTINUATION without end */
    struct cs_buf in = {0};
    int fd = raw_unix(&fx);
    assert_true(converse(fd, &b, &in, 0xff));
    close(fd);
    cs_buf_free(&in);
    cs_buf_free(&b);
    still_serves();
}

static void test_garbage(void **state)
{
    (void)state;
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00",
                                        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxx",
                                        "\xff\xff\xff\xff\xff\xff"};
    for (size_t i = 0; i < 2 * (sizeof texts / sizeof texts[0]); i++) {
        struct cs_buf b = {0}, in = {0};
        cs_buf_add_str(&b, texts[i / 2]);
        int fd = i % 2 ? raw_unix(&fx) : raw_tcp(rpc_server_port(fx.server, 0));
        assert_true(converse(fd, &b, &in, 0xff));
        close(fd);
        cs_buf_free(&b);
        cs_buf_free(&in);
    }
    still_serves();
}

/* Somebody who connects and says nothing, or not enough, is let go. */
static void test_silent(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct cs_buf b = {0}, in = {0};
        int fd = i ? raw_unix(&fx) : raw_tcp(rpc_server_port(fx.server, 0));
        cs_buf_add_str(&b, i ? "PRI * HTT" : "\x16\x03\x01");
        assert_true(converse(fd, &b, &in, 0xff));
        close(fd);
        cs_buf_free(&b);
        cs_buf_free(&in);
    }
    still_serves();
}

static void test_refusals(void **state)
{
    (void)state;
    const struct {
        const char *path, *type;
        const char *data;
        size_t len;
        const char *status, *grpc;
    } rows[] = {
        {"/test.Echo/Inline", "text/html", "", 0, "415", "3"},
        {"/test.Echo/Inline", "application/grpc", "", 0, "200", "13"},
        {"/test.Echo/Inline", "application/grpc", "\1\0\0\0\0", 5, "200", "13"},
        {"/test.Echo/Inline", "application/grpc+proto", "\0\0\0\0\1a\0\0\0\0\1b", 12, "200", "13"},
        {"/test.Echo/Inline", "application/grpc", "\0\0\0", 3, "200", "13"},
        {"/test.Echo/Bidi", "application/grpc", "\0\0\0\0\5ab", 7, "200", "13"},
        {"/test.Echo/Inline", "application/grpc", "\0\xff\xff\xff\xff", 5, "200", "8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_buf b = {0}, in = {0};
        preface(&b);
        request(&b, 1, rows[i].path, rows[i].type, 4);
        frame(&b, 0, 1, 1, rows[i].data, rows[i].len);
        int fd = raw_unix(&fx);
        assert_true(converse(fd, &b, &in, 1));
        char status[16], grpc[16];
        header(&in, ":status", status, sizeof status);
        header(&in, "grpc-status", grpc, sizeof grpc);
        assert_string_equal(status, rows[i].status);
        assert_string_equal(grpc, rows[i].grpc);
        close(fd);
        cs_buf_free(&b);
        cs_buf_free(&in);
    }
    still_serves();
}

/* More headers than anybody needs. */
static void test_large_headers(void **state)
{
    (void)state;
    struct rpc_metadata md[20];
    char *value = malloc(8001);
    memset(value, 'v', 8000);
    value[8000] = '\0';
    for (size_t i = 0; i < 20; i++)
        md[i] = (struct rpc_metadata){"key", value};
    struct cs_buf out = {0};
    struct cs_err e = {0};
    assert_int_equal(
        rpc_client_unary(fx.client, "/test.Echo/Inline", cs_slice_str("x"), &out, md, 5, 0, NULL, &e), CS_OK);
    assert_int_not_equal(
        rpc_client_unary(fx.client, "/test.Echo/Inline", cs_slice_str("x"), &out, md, 20, 0, NULL, &e),
        CS_OK);
    cs_buf_free(&out);
    free(value);
    still_serves();
}

/* --- TLS --- */

static void test_tls_keys(void **state)
{
    (void)state;
    static const char *const kinds[] = {"RSA", "P-384", "P-256"};
    char out[600];
    for (size_t i = 0; i < 3; i++) {
        SSL_CTX *old = fx.server_ctx;
        fx.server_ctx = fx_ctx(kinds[i], true);
        rpc_tls_ctx_unref(old);
        SSL_CTX *ctx = fx_ctx(kinds[i], false);
        for (int v = 0; v < 2; v++) {
            SSL_CTX_set_max_proto_version(ctx, v ? TLS1_3_VERSION : TLS1_2_VERSION);
            struct rpc_client *c = fx_client(
                &fx, &(struct rpc_client_config){
                         .tcp_address = fx.address, .tls = ctx, .verify = fx_verify_server, .arg = &fx});
            if (fx_call(c, "Inline", "x", out, sizeof out) != CS_OK)
                fail_msg("%s: %s", kinds[i], out);
            rpc_client_free(c);
        }
        rpc_tls_ctx_unref(ctx);
    }
}

static void test_tls_refused(void **state)
{
    (void)state;
    char out[600];
    struct rpc_client_config cfg = {
        .tcp_address = fx.address, .tls = fx.client_ctx, .verify = fx_verify_server, .arg = &fx};
    atomic_store(&fx.refuse_server, true);
    struct rpc_client *c = fx_client(&fx, &cfg);
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    assert_string_equal(
        out, "connection error: desc = \"transport: authentication handshake failed: tls: not that server\"");
    atomic_store(&fx.refuse_server, false);
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_OK);
    rpc_client_free(c);
    atomic_store(&fx.refuse_client, true);
    c = fx_client(&fx, &cfg);
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    assert_string_equal(
        out, "connection error: desc = \"error reading server preface: remote error: tls: bad certificate\"");
    atomic_store(&fx.refuse_client, false);
    rpc_client_free(c);
    still_serves();
}

/* --- The client --- */

static void test_dial_errors(void **state)
{
    (void)state;
    char out[600], want[300], path[140];
    snprintf(path, sizeof path, "%s.not", fx.path);
    struct rpc_client *c = fx_client(&fx, &(struct rpc_client_config){.unix_path = path});
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    snprintf(want, sizeof want,
             "connection error: desc = \"transport: Error while dialing: dial unix %s: connect: no such file "
             "or directory\"",
             path);
    assert_string_equal(out, want);
    rpc_client_free(c);
    c = fx_client(&fx, &(struct rpc_client_config){.tcp_address = "127.0.0.1:1"});
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    assert_string_equal(out,
                        "connection error: desc = \"transport: Error while dialing: dial tcp 127.0.0.1:1: "
                        "connect: connection refused\"");
    rpc_client_free(c);
    c = fx_client(&fx, &(struct rpc_client_config){.tcp_address = fx.address}); /* plain text to a TLS port */
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    assert_true(strncmp(out, "connection error: desc = \"error reading server preface: ", 55) == 0);
    rpc_client_free(c);
}

/* A server that takes connections and never answers. */
static void test_deaf_server(void **state)
{
    (void)state;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(fd, 8), 0);
    getsockname(fd, (struct sockaddr *)&sa, &len);
    char address[64], out[600];
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(sa.sin_port));
    struct rpc_client *c = fx_client(&fx, &(struct rpc_client_config){.tcp_address = address,
                                                                      .tls = fx.client_ctx,
                                                                      .verify = fx_verify_server,
                                                                      .arg = &fx,
                                                                      .connect_ns = 100 * CS_NS_PER_MS});
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    struct cs_buf resp = {0};
    struct cs_err e = {0};
    assert_int_equal(rpc_client_unary(c, "/test.Echo/Inline", cs_slice_str("x"), &resp, NULL, 0,
                                      20 * CS_NS_PER_MS, NULL, &e),
                     CS_DEADLINE);
    rpc_client_free(c);
    close(fd);
}

static void test_listen_errors(void **state)
{
    (void)state;
    struct cs_err e = {0};
    char want[200];
    assert_int_equal(rpc_server_listen(fx.server, &(struct rpc_listener){.tcp_address = fx.address}, &e),
                     CS_UNAVAILABLE);
    snprintf(want, sizeof want, "listen tcp %s: bind: address already in use", fx.address);
    assert_string_equal(e.text, want);
    assert_int_equal(rpc_server_listen(fx.server, &(struct rpc_listener){.unix_path = fx.path}, &e),
                     CS_UNAVAILABLE);
    snprintf(want, sizeof want, "listen unix %s: bind: address already in use", fx.path);
    assert_string_equal(e.text, want);
}

static void wait_until(_Atomic int *v, int want)
{
    for (int i = 0; i < 20000 && atomic_load(v) < want; i++)
        usleep(500);
    assert_true(atomic_load(v) >= want);
}

/* --- The end --- */

struct blocked {
    struct rpc_client *c;
    cs_code code;
    char out[600];
};
static void *blocked_call(void *arg)
{
    struct blocked *b = arg;
    b->code = fx_call(b->c, "Block", "finish me", b->out, sizeof b->out);
    return NULL;
}
static void *shut_down(void *arg)
{
    struct fixture *f = arg;
    rpc_server_shutdown(f->server, 20 * CS_NS_PER_S);
    return NULL;
}

static void test_drain(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct rpc_stream *s = NULL;
    struct cs_buf msg = {0};
    bool end;
    assert_int_equal(rpc_stream_open(fx.client, "/test.Echo/Count", NULL, 0, 0, &s, &e), CS_OK);
    assert_int_equal(rpc_stream_send(s, cs_slice_str("wait"), &e), CS_OK);
    assert_int_equal(rpc_stream_recv(s, &msg, &end, -1, NULL, &e), CS_OK);
    atomic_store(&fx.echo.hold, true);
    struct blocked b[2] = {{.c = fx.client}, {.c = fx.tls_client}};
    pthread_t t[2], down;
    int opened = atomic_load(&fx.echo.opened);
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, blocked_call, &b[i]);
    wait_until(&fx.echo.opened, opened + 2);
    pthread_create(&down, NULL, shut_down, &fx);
    assert_int_equal(rpc_stream_recv(s, &msg, &end, -1, NULL, &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "the server is shutting down");
    rpc_stream_free(s);
    atomic_store(&fx.echo.hold, false);
    for (int i = 0; i < 2; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(b[i].code, CS_OK);
        assert_string_equal(b[i].out, "finish me");
    }
    pthread_join(down, NULL);
    char out[600];
    assert_int_equal(fx_call(fx.client, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    cs_buf_free(&msg);
}

/* The client finds the server again when it is back. */
static void test_restart(void **state)
{
    (void)state;
    char out[600];
    struct cs_err e = {0};
    still_serves();
    rpc_server_shutdown(fx.server, 0);
    rpc_server_free(fx.server);
    assert_int_equal(fx_call(fx.client, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    assert_int_equal(rpc_server_new(&small, &fx.server, &e), CS_OK);
    fx_listen(&fx, (struct rpc_listener){.unix_path = fx.path, .unix_mode = 0700});
    assert_int_equal(fx_call(fx.client, "Inline", "x", out, sizeof out), CS_OK);
}

static void test_hard_stop(void **state)
{
    (void)state;
    struct blocked b = {.c = fx.client};
    pthread_t t;
    int opened = atomic_load(&fx.echo.opened);
    atomic_store(&fx.echo.hold, true);
    pthread_create(&t, NULL, blocked_call, &b);
    wait_until(&fx.echo.opened, opened + 1);
    rpc_server_shutdown(fx.server, 50 * CS_NS_PER_MS);
    pthread_join(t, NULL);
    assert_int_equal(b.code, CS_UNAVAILABLE);
}

/* A client that goes away in the middle of everything. */
static void test_client_free(void **state)
{
    (void)state;
    struct rpc_client *c = fx_client(&fx, &(struct rpc_client_config){.unix_path = fx.path});
    struct blocked b = {.c = c};
    pthread_t t;
    int opened = atomic_load(&fx.echo.opened), seen = atomic_load(&fx.echo.cancelled_seen);
    atomic_store(&fx.echo.hold, true);
    pthread_create(&t, NULL, blocked_call, &b);
    wait_until(&fx.echo.opened, opened + 1);
    rpc_client_free(c);
    pthread_join(t, NULL);
    assert_int_equal(b.code, CS_CANCELLED);
    wait_until(&fx.echo.cancelled_seen, seen + 1);
    still_serves();
}

/* --- Limits --- */

static int setup_limits(void **state)
{
    (void)state;
    fx_up(&fx, &(struct rpc_server_config){.io_threads = 1,
                                           .workers = 1,
                                           .max_connections = 3,
                                           .max_streams = 2,
                                           .stream_queue = 1000,
                                           .conn_queue = 100000,
                                           .max_conn_idle_ns = 150 * CS_NS_PER_MS});
    return 0;
}

/* A connection nobody uses gets a GOAWAY, then the end. */
static void test_idle(void **state)
{
    (void)state;
    struct cs_buf b = {0}, in = {0};
    preface(&b);
    int fd = raw_unix(&fx);
    assert_true(converse(fd, &b, &in, 0xff));
    assert_int_equal(goaway_code(&in), 0);
    close(fd);
    cs_buf_free(&b);
    cs_buf_free(&in);
    still_serves();
}

static void test_max_connections(void **state)
{
    (void)state;
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = raw_unix(&fx);
    struct cs_buf b = {0}, in = {0};
    int fd = raw_unix(&fx);
    assert_true(converse(fd, &b, &in, 0xff));
    assert_int_equal(in.len, 0);
    close(fd);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    cs_buf_free(&b);
    cs_buf_free(&in);
    char out[600];
    for (int i = 0; i < 1000 && fx_call(fx.client, "Inline", "x", out, sizeof out) != CS_OK; i++)
        usleep(1000);
    still_serves();
}

/* The client waits for its turn when the server takes few streams. */
static void *five_calls(void *arg)
{
    struct blocked *b = arg;
    for (int i = 0; i < 5 && b->code == CS_OK; i++)
        b->code = fx_call(b->c, i % 2 ? "Inline" : "Worker", "x", b->out, sizeof b->out);
    return NULL;
}
static void test_max_streams(void **state)
{
    (void)state;
    struct blocked b[10] = {0};
    pthread_t t[10];
    for (int i = 0; i < 10; i++) {
        b[i].c = fx.client;
        pthread_create(&t[i], NULL, five_calls, &b[i]);
    }
    for (int i = 0; i < 10; i++) {
        pthread_join(t[i], NULL);
        assert_string_equal(b[i].out, "x");
        assert_int_equal(b[i].code, CS_OK);
    }
}

/* A response larger than the queue goes through alone; stream messages beyond it do not. */
static void test_queues(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct cs_buf out = {0};
    struct rpc_stream *s = NULL;
    bool end = false;
    assert_int_equal(rpc_client_unary(fx.client, "/test.Echo/Inline", cs_slice_str("big:1000000"), &out, NULL,
                                      0, 0, NULL, &e),
                     CS_OK);
    assert_int_equal(out.len, 1000000);
    assert_int_equal(rpc_stream_open(fx.client, "/test.Echo/Count", NULL, 0, 0, &s, &e), CS_OK);
    assert_int_equal(rpc_stream_send(s, cs_slice_str("100:600"), &e), CS_OK);
    cs_code code;
    int n = 0;
    while ((code = rpc_stream_recv(s, &out, &end, -1, NULL, &e)) == CS_OK && !end)
        n++;
    assert_int_equal(code, CS_EXHAUSTED);
    assert_int_equal(n, 1);
    rpc_stream_free(s);
    cs_buf_free(&out);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define L(fn) cmocka_unit_test_setup_teardown(fn, setup_limits, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_floods),        T(test_garbage),       T(test_silent),      T(test_refusals),
        T(test_large_headers), T(test_tls_keys),      T(test_tls_refused), T(test_dial_errors),
        T(test_deaf_server),   T(test_listen_errors), T(test_client_free), T(test_drain),
        T(test_restart),       T(test_hard_stop),     L(test_idle),        L(test_max_connections),
        L(test_max_streams),   L(test_queues),
    };
    return cmocka_run_group_tests_name("rpc/server", tests, NULL, NULL);
}
