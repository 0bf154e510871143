/* SPDX-License-Identifier: Apache-2.0
 *
 * Through a proxy: its URL, its answer, and calls over TLS through a tunnel that a thread of the test digs.
 */
#include "fixture.h"
#include "rpc/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>

/* --- URLs --- */

static void reads_urls(void **state)
{
    (void)state;
    struct rpc_proxy p;
    struct cs_err e;
    assert_int_equal(rpc_proxy_parse("http://proxy.internal:3128", &p, &e), CS_OK);
    assert_true(p.connect && !p.vsock && p.port == 3128);
    assert_string_equal(p.host, "proxy.internal");
    assert_int_equal(rpc_proxy_parse("http://[::1]:80/", &p, &e), CS_OK);
    assert_string_equal(p.host, "::1");
    assert_int_equal(rpc_proxy_parse("vsock://3:8081", &p, &e), CS_OK);
    assert_true(!p.connect && p.vsock && p.cid == 3 && p.vport == 8081);
    assert_int_equal(rpc_proxy_parse("http+vsock://4294967295:4294967295", &p, &e), CS_OK);
    assert_true(p.connect && p.vsock && p.cid == UINT32_MAX && p.vport == UINT32_MAX);
}

static void refuses_other_urls(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "proxy:3128",
        "https://proxy:3128",
        "http://",
        "http://proxy",
        "http://:80",
        "http://proxy:0",
        "http://proxy:65536",
        "http://p:80/x",
        "http://p q:80",
        "http://::1:80",
        "http://p\n:80",
        "http://p:+80",
        "vsock://3",
        "vsock://host:80",
        "vsock://-1:80",
        "vsock://3:",
        "vsock://4294967296:80",
        "http+vsock://",
        "vsock://3:80:",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct rpc_proxy p;
        struct cs_err e;
        if (rpc_proxy_parse(bad[i], &p, &e) != CS_INVALID)
            fail_msg("%s", bad[i]);
        assert_true(p.port == 0 && p.cid == 0 && p.host[0] == '\0');
    }
    struct rpc_proxy p;
    struct cs_err e;
    assert_int_equal(rpc_proxy_parse("http://user:secret@proxy:80", &p, &e), CS_INVALID);
    assert_null(strstr(e.text, "secret"));
}

/* --- Answers --- */

static void reads_answers(void **state)
{
    (void)state;
    size_t len = 1;
    struct cs_err e;
    assert_int_equal(rpc_proxy_answer(cs_slice_str("HTTP/1.1 200 OK\r\n"), &len, &e), CS_OK);
    assert_int_equal(len, 0);
    assert_int_equal(rpc_proxy_answer(cs_slice_str("HTTP/1.0 200 OK\r\nA: b\r\n\r\nXY"), &len, &e), CS_OK);
    assert_int_equal(len, 25);
    assert_int_equal(rpc_proxy_answer(cs_slice_str("HTTP/1.1 299\r\n\r\n"), &len, &e), CS_OK);
    assert_int_equal(rpc_proxy_answer(cs_slice_str("HTTP/1.1 407 Who \x1b[1m\r\n\r\n"), &len, &e),
                     CS_UNAVAILABLE);
    assert_string_equal(e.text, "it answered HTTP/1.1 407 Who ?[1m");
    assert_int_equal(rpc_proxy_answer(cs_slice_str("HTTP/2 200 OK\r\n\r\n"), &len, &e), CS_INVALID);
    assert_int_equal(rpc_proxy_answer(cs_slice_str("HTTP/1.1 2x0 OK\r\n\r\n"), &len, &e), CS_INVALID);
    char *big = cs_malloc(RPC_PROXY_HEAD_MAX);
    memset(big, 'a', RPC_PROXY_HEAD_MAX);
    assert_int_equal(rpc_proxy_answer(cs_slice_of(big, RPC_PROXY_HEAD_MAX - 1), &len, &e), CS_OK);
    assert_int_equal(rpc_proxy_answer(cs_slice_of(big, RPC_PROXY_HEAD_MAX), &len, &e), CS_INVALID);
    cs_free(big);
}

/* --- A proxy --- */

struct proxy {
    int listener;
    char url[64], request[256];
    const char *answer; /* NULL: a tunnel; in two pieces, so that the client has to wait */
    char target[64];
    pthread_t thread;
};

static int dial_target(const struct proxy *p)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    sa.sin_port = htons((uint16_t)strtoul(strrchr(p->target, ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

static void pump(int a, int b)
{
    struct pollfd p[] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
    char buf[4096];
    while (poll(p, 2, 20000) > 0) {
        for (int i = 0; i < 2; i++) {
            if (p[i].revents == 0)
                continue;
            ssize_t n = recv(p[i].fd, buf, sizeof buf, 0);
            if (n <= 0 || send(p[1 - i].fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
                return;
        }
    }
}

static void *proxy_main(void *arg)
{
    struct proxy *p = arg;
    size_t len = 0;
    int fd = accept(p->listener, NULL, NULL);
    if (fd < 0)
        return NULL;
    while (len < sizeof p->request - 1 && strstr(p->request, "\r\n\r\n") == NULL) {
        ssize_t n = recv(fd, p->request + len, 1, 0);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    if (p->answer != NULL) {
        (void)!send(fd, p->answer, strlen(p->answer), MSG_NOSIGNAL);
    } else {
        int target = dial_target(p);
        (void)!send(fd, "HTTP/1.1 200 Connec", 19, MSG_NOSIGNAL);
        (void)!send(fd, "tion established\r\nVia: test\r\n\r\n", 31, MSG_NOSIGNAL);
        pump(fd, target);
        close(target);
    }
    close(fd);
    return NULL;
}

static void proxy_up(struct proxy *p, const char *target, const char *answer)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof sa;
    *p = (struct proxy){.answer = answer};
    (void)snprintf(p->target, sizeof p->target, "%s", target);
    p->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(p->listener, 4), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&sa, &len), 0);
    (void)snprintf(p->url, sizeof p->url, "http://127.0.0.1:%u", ntohs(sa.sin_port));
    assert_int_equal(pthread_create(&p->thread, NULL, proxy_main, p), 0);
}

static void proxy_down(struct proxy *p)
{
    (void)shutdown(p->listener, SHUT_RDWR);
    pthread_join(p->thread, NULL);
    close(p->listener);
}

static struct rpc_client *client_through(struct fixture *f, const char *address, const char *url)
{
    return fx_client(f, &(struct rpc_client_config){.tcp_address = address,
                                                    .proxy = url,
                                                    .tls = f->client_ctx,
                                                    .verify = fx_verify_server,
                                                    .arg = f,
                                                    .connect_ns = 5 * CS_NS_PER_S});
}

static void calls_through_a_tunnel(void **state)
{
    (void)state;
    struct fixture f;
    struct proxy p;
    char out[512], want[160];
    fx_up(&f, &(struct rpc_server_config){.io_threads = 1});
    proxy_up(&p, f.address, NULL);
    /* the proxy resolves the name, which nobody here could */
    const char *name = "server.invalid:8081";
    struct rpc_client *c = client_through(&f, name, p.url);
    assert_int_equal(fx_call(c, "Inline", "through", out, sizeof out), CS_OK);
    assert_string_equal(out, "through");
    rpc_client_free(c);
    proxy_down(&p);
    (void)snprintf(want, sizeof want, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", name, name);
    assert_string_equal(p.request, want);
    fx_down(&f);
}

static void names_the_proxy_that_fails(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *want;
    } cases[] = {
        {"HTTP/1.1 403 Forbidden\r\n\r\n",
         "CONNECT server.invalid:8081: it answered HTTP/1.1 403 Forbidden\""},
        {"SSH-2.0\r\n\r\n", "its answer is not HTTP: SSH-2.0\""},
        {"", "closed the connection\""},
    };
    struct fixture f;
    char out[512];
    fx_up(&f, &(struct rpc_server_config){.io_threads = 1});
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct proxy p;
        proxy_up(&p, f.address, cases[i].answer);
        struct rpc_client *c = client_through(&f, "server.invalid:8081", p.url);
        assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
        rpc_client_free(c);
        proxy_down(&p);
        if (strstr(out, p.url) == NULL || strstr(out, cases[i].want) == NULL)
            fail_msg("%s", out);
    }
    /* nobody there */
    struct rpc_client *c = client_through(&f, "server.invalid:8081", "http://127.0.0.1:1");
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    assert_string_equal(
        out, "connection error: desc = \"transport: Error while dialing: proxy http://127.0.0.1:1: "
             "dial tcp 127.0.0.1:1: connect: connection refused\"");
    rpc_client_free(c);
    fx_down(&f);
}

/* Nobody listens there: refused, unreachable, not supported or silent, by the kernel; the proxy is named. */
static void names_the_vsock_that_fails(void **state)
{
    (void)state;
    struct fixture f;
    char out[512];
    fx_up(&f, &(struct rpc_server_config){.io_threads = 1});
    struct rpc_client *c = client_through(&f, "server.invalid:8081", "vsock://1:4294967294");
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    if (strstr(out, "proxy vsock://1:4294967294") == NULL)
        fail_msg("%s", out);
    rpc_client_free(c);
    fx_down(&f);
}

static void ends_a_dial_that_hangs(void **state)
{
    (void)state;
    struct fixture f;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof sa;
    char out[512], url[64];
    fx_up(&f, &(struct rpc_server_config){.io_threads = 1});
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(silent, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(silent, 4), 0);
    assert_int_equal(getsockname(silent, (struct sockaddr *)&sa, &len), 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(sa.sin_port));
    struct rpc_client *c = fx_client(&f, &(struct rpc_client_config){.tcp_address = f.address,
                                                                     .proxy = url,
                                                                     .tls = f.client_ctx,
                                                                     .verify = fx_verify_server,
                                                                     .arg = &f,
                                                                     .connect_ns = 200 * CS_NS_PER_MS});
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    if (strstr(out, "i/o timeout") == NULL || strstr(out, url) == NULL)
        fail_msg("%s", out);
    rpc_client_free(c);
    close(silent);
    fx_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_urls),
        cmocka_unit_test(refuses_other_urls),
        cmocka_unit_test(reads_answers),
        cmocka_unit_test(calls_through_a_tunnel),
        cmocka_unit_test(names_the_proxy_that_fails),
        cmocka_unit_test(names_the_vsock_that_fails),
        cmocka_unit_test(ends_a_dial_that_hangs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
