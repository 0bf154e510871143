/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/https_get.h"

#include "base/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static cs_code parse(const char *raw, size_t max, int *status, struct cs_buf *body)
{
    struct cs_slice location;
    return rpc_http_response_parse(cs_slice_str(raw), max, status, &location, body, NULL);
}

static void test_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *body;
    } good[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc"},
        {"HTTP/1.0 200 OK\n\nall of it", "all of it"},
        {"HTTP/1.1 200\r\n\r\n", ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
         "abc0123456789"},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:  2 \r\n\r\nhi", "hi"},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
        int status = 0;
        assert_int_equal(parse(good[i].raw, 100, &status, &body), CS_OK);
        assert_int_equal(status, 200);
        assert_string_equal(cs_buf_cstr(&body), good[i].body);
    }
}

static void test_broken(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\nabc",
        "HTTP/1.1 100 Continue\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
        int status = 0;
        assert_int_equal(parse(bad[i], 100, &status, &body), CS_INVALID);
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    int status = 0;
    assert_int_equal(parse("HTTP/1.1 200 OK\r\n\r\n0123456789", 9, &status, &body), CS_EXHAUSTED);
}

static void test_urls(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "http://example.org/",           "ftp://example.org/", "https://",
        "https://user@example.org/",     "https://[::1/",      "https://example.org/a b",
        "https://example.org:123456789/"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
        const struct rpc_https_get req = {.url = bad[i], .max_body = 10, .timeout_ns = CS_NS_PER_S};
        int status = 0;
        assert_int_equal(rpc_https_get(&req, &status, &body, NULL), CS_INVALID);
    }
}

/* Answers one connection after the other with the given texts, and keeps the requests. */
struct server {
    int fd;
    const char *const *answers;
    size_t count;
    char requests[4][512];
};

static void *serve(void *arg)
{
    struct server *s = arg;
    for (size_t i = 0; i < s->count; i++) {
        int c = accept(s->fd, NULL, NULL);
        size_t n = 0;
        while (n < sizeof s->requests[0] - 1 && strstr(s->requests[i], "\r\n\r\n") == NULL) {
            ssize_t got = read(c, s->requests[i] + n, sizeof s->requests[0] - 1 - n);
            if (got <= 0)
                break;
            n += (size_t)got;
        }
        if (s->answers[i] != NULL)
            (void)!write(c, s->answers[i], strlen(s->answers[i]));
        else
            (void)!read(c, s->requests[i], 1); /* says nothing until the caller goes */
        (void)close(c);
    }
    return NULL;
}

static void start(struct server *s, pthread_t *t, struct sockaddr_un *sa)
{
    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(sa->sun_path, sizeof sa->sun_path, "/tmp/cspire-get-%d.sock", (int)getpid());
    (void)unlink(sa->sun_path);
    s->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)sa, sizeof *sa), 0);
    assert_int_equal(listen(s->fd, 4), 0);
    assert_int_equal(pthread_create(t, NULL, serve, s), 0);
}

static void finish(struct server *s, pthread_t t, const struct sockaddr_un *sa)
{
    (void)pthread_join(t, NULL);
    (void)close(s->fd);
    (void)unlink(sa->sun_path);
}

static void test_over_unix_socket(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 302 Found\r\nLocation: /there?x=1\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope",
    };
    struct server s = {.answers = answers, .count = 2};
    struct sockaddr_un sa;
    pthread_t t;
    start(&s, &t, &sa);
    const struct rpc_https_get req = {.url = "http://local/bundle?a=b#part",
                                      .unix_path = sa.sun_path,
                                      .max_body = 100,
                                      .timeout_ns = 5 * CS_NS_PER_S};
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    int status = 0;
    assert_int_equal(rpc_https_get(&req, &status, &body, NULL), CS_OK);
    finish(&s, t, &sa);
    assert_int_equal(status, 404);
    assert_string_equal(cs_buf_cstr(&body), "nope");
    assert_int_equal(strncmp(s.requests[0], "GET /bundle?a=b HTTP/1.1\r\nHost: local\r\n", 39), 0);
    assert_int_equal(strncmp(s.requests[1], "GET /there?x=1 HTTP/1.1\r\n", 25), 0);
}

static void test_time_limit(void **state)
{
    (void)state;
    static const char *const answers[] = {NULL};
    struct server s = {.answers = answers, .count = 1};
    struct sockaddr_un sa;
    pthread_t t;
    start(&s, &t, &sa);
    const struct rpc_https_get req = {
        .url = "http://local/", .unix_path = sa.sun_path, .max_body = 100, .timeout_ns = 50 * CS_NS_PER_MS};
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    int status = 0;
    assert_int_equal(rpc_https_get(&req, &status, &body, NULL), CS_DEADLINE);
    finish(&s, t, &sa);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),     cmocka_unit_test(test_broken),
        cmocka_unit_test(test_urls),       cmocka_unit_test(test_over_unix_socket),
        cmocka_unit_test(test_time_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
