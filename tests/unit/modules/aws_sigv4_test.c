/* SPDX-License-Identifier: Apache-2.0
 *
 * Signatures, version 4: those of AWS's test suite ("aws-sig-v4-test-suite") and of the example of its
 * general reference, all of which are of 2015-08-30T12:36:00Z.
 */
#include "base/mem.h"
#include "plugins/modules/aws/credentials/credentials.h"
#include "tests/fakes/http_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "AKIDEXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define TOKEN                                                                                                \
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTf" \
    "lfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HF" \
    "vlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr" \
    "4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
static const struct http_header date = {"X-Amz-Date", "20150830T123600Z"};

static bool echo(void *arg, const struct test_request *r, struct test_conn *c)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf head = {0};
    (void)arg;
    cs_buf_add_slice(&head, cs_buf_slice(&r->head));
    return test_reply(c, 200, "", cs_buf_cstr(&head));
}

struct world {
    char path[64];
    struct test_server *server;
    struct http_client *client;
};

static int begin(void **state)
{
    static struct world w;
    char dir[] = "/tmp/aws_sigv4.XXXXXX";
    signal(SIGPIPE, SIG_IGN);
    assert_non_null(mkdtemp(dir));
    (void)snprintf(w.path, sizeof w.path, "%s/s", dir);
    const struct test_server_options s = {.handler = echo, .unix_path = w.path};
    w.server = test_server_start(&s);
    const struct http_client_options o = {.unix_path = w.path}; /* whatever the URL's host */
    assert_int_equal(http_client_new(&o, &w.client, NULL), CS_OK);
    *state = &w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    http_client_free(w->client);
    test_server_stop(w->server);
    (void)unlink(w->path);
    *strrchr(w->path, '/') = '\0';
    return rmdir(w->path);
}

static void expect(struct http_response *r, cs_code rc, const char *want)
{
    struct cs_slice got = {0};
    assert_int_equal(rc, CS_OK);
    struct http_response echoed = {.head = r->body};
    for (size_t i = 0; i < echoed.head.len; i++) /* lines as http_response_header knows them */
        if (echoed.head.data[i] == '\r')
            echoed.head.data[i] = ' ';
    assert_true(http_response_header(&echoed, "Authorization", &got));
    CS_CLEANUP(cs_freep) char *text = cs_strndup((const char *)got.data, got.len);
    assert_string_equal(text, want);
    http_response_free(r);
}

static void get(struct world *w, const char *url, const char *service, const struct http_header *headers,
                size_t count, const char *want)
{
    struct http_response r = {0};
    const struct http_sigv4 sign = {"us-east-1", service, ID, SECRET};
    const struct http_request q = {
        .method = "GET", .url = url, .headers = headers, .header_count = count, .sigv4 = &sign};
    cs_code rc = http_call(w->client, &q, &r, NULL);
    expect(&r, rc, want);
}

static void get_vanilla(void **state)
{
    const struct http_header h[] = {{"Host", "example.amazonaws.com"}, date};
    get(*state, "http://example.amazonaws.com/", "service", h, 2,
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

static void list_users(void **state)
{
    const struct http_header h[] = {{"Host", "iam.amazonaws.com"},
                                    {"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"},
                                    date};
    get(*state, "http://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", "iam", h, 3,
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
}

static void post(struct world *w, const struct http_header *headers, size_t count, const char *body,
                 char *token, const char *want)
{
    char id[] = ID, secret[] = SECRET;
    const struct aws_credentials c = {.id = id, .secret = secret, .token = token};
    struct http_response r = {0};
    const struct aws_post p = {.url = "http://example.amazonaws.com/",
                               .region = "us-east-1",
                               .service = "service",
                               .credentials = &c,
                               .headers = headers,
                               .header_count = count,
                               .body = body != NULL ? cs_slice_str(body) : (struct cs_slice){0}};
    cs_code rc = aws_post(w->client, &p, &r, NULL);
    expect(&r, rc, want);
}

static void post_vanilla(void **state)
{
    post(*state, &date, 1, NULL, NULL,
         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
         "SignedHeaders=host;x-amz-date, "
         "Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
}

static void post_form(void **state)
{
    const struct http_header h[] = {{"Content-Type", "application/x-www-form-urlencoded"}, date};
    post(*state, h, 2, "Param1=value1", NULL,
         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
         "SignedHeaders=content-type;host;x-amz-date, "
         "Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a");
}

static void post_with_token(void **state)
{
    char token[] = TOKEN;
    post(*state, &date, 1, NULL, token,
         "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
         "SignedHeaders=host;x-amz-date;x-amz-security-token, "
         "Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_vanilla), cmocka_unit_test(list_users),      cmocka_unit_test(post_vanilla),
        cmocka_unit_test(post_form),   cmocka_unit_test(post_with_token),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
