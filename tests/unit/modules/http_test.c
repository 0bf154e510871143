/* SPDX-License-Identifier: Apache-2.0
 *
 * The HTTP client of modules, against servers that are good, bad and slow.
 */
#include "plugins/modules/http/http.h"

#include "base/clock.h"
#include "base/mem.h"
#include "tests/fakes/http_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct test_pki pki, other_pki;
static char *cert, *key;             /* of 127.0.0.1 */
static char *named_cert, *named_key; /* of kubernetes.test */

static int begin(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);                      /* as the programs do */
    setenv("http_proxy", "http://127.0.0.1:9", 1); /* not heeded unless asked to */
    setenv("https_proxy", "http://127.0.0.1:9", 1);
    test_pki_new(&pki);
    test_pki_new(&other_pki);
    test_pki_issue(&pki, "server", NULL, &cert, &key);
    test_pki_issue(&pki, "server", "kubernetes.test", &named_cert, &named_key);
    return 0;
}

static int end(void **state)
{
    (void)state;
    test_pki_free(&pki);
    test_pki_free(&other_pki);
    free(cert);
    free(key);
    free(named_cert);
    free(named_key);
    return 0;
}

/* Answers by path. */
static bool handler(void *arg, const struct test_request *r, struct test_conn *c)
{
    atomic_int *hits = arg;
    if (hits != NULL)
        (*hits)++;
    if (strcmp(r->target, "/echo?a=b") == 0) {
        CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
        cs_buf_printf(&b, "%s %s\n%.*s\n%.*s", r->method, r->target, (int)r->head.len,
                      (const char *)r->head.data, (int)r->body.len,
                      r->body.len > 0 ? (const char *)r->body.data : "");
        return test_reply(c, 200, "X-Said:   twice told \r\n", cs_buf_cstr(&b));
    }
    if (strcmp(r->target, "http://elsewhere.test/who") == 0)
        return test_reply(c, 200, "", "a proxy");
    if (strcmp(r->target, "/who") == 0)
        return test_reply(c, 200, "", r->client != NULL ? r->client : "nobody");
    if (strcmp(r->target, "/busy") == 0)
        return test_reply(c, 429, "Retry-After: 7\r\n", "later");
    if (strcmp(r->target, "/moved") == 0)
        return test_reply(c, 302, "Location: /who\r\n", "moved");
    if (strcmp(r->target, "/round") == 0)
        return test_reply(c, 302, "Location: /round\r\n", "moved");
    if (strcmp(r->target, "/large") == 0) {
        CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
        for (int i = 0; i < 200000; i++)
            cs_buf_add_byte(&b, 'x');
        return test_reply(c, 200, "", cs_buf_cstr(&b));
    }
    if (strcmp(r->target, "/endless") == 0) {
        if (!test_write(c, "HTTP/1.1 200 OK\r\n\r\n", 19))
            return false;
        while (!test_stopping(c) && test_write(c, "0123456789", 10))
            usleep(1000);
        return false;
    }
    if (strcmp(r->target, "/headers") == 0) {
        if (!test_write(c, "HTTP/1.1 200 OK\r\n", 17))
            return false;
        while (!test_stopping(c) && test_write(c, "X-More: 0123456789012345678901234567890123456789\r\n", 50))
            continue;
        return false;
    }
    if (strcmp(r->target, "/hang") == 0) {
        while (!test_stopping(c))
            usleep(5000);
        return false;
    }
    if (strcmp(r->target, "/cut") == 0)
        return test_write(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 44) && false;
    return test_write(c, "nonsense\r\n\r\n", 12) && false;
}

struct call {
    struct http_response r;
    struct cs_err e;
    cs_code rc;
};

static void call_with(struct http_client *c, const struct test_server *s, struct http_request q,
                      const char *path, struct call *out)
{
    char url[256];
    snprintf(url, sizeof url, "%s%s", test_server_url(s), path);
    q.url = url;
    q.method = q.method != NULL ? q.method : "GET";
    q.timeout_ns = q.timeout_ns != 0 ? q.timeout_ns : 20 * CS_NS_PER_S;
    *out = (struct call){0};
    out->rc = http_call(c, &q, &out->r, &out->e);
}

static void get(const struct http_client_options *o, const struct test_server *s, const char *path,
                struct call *out)
{
    struct http_client *c;
    struct cs_err e = {0};
    if (http_client_new(o, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    call_with(c, s, (struct http_request){0}, path, out);
    http_client_free(c);
}

static void expect_body(const struct call *c, int status, const char *text)
{
    if (c->rc != CS_OK)
        fail_msg("%s", c->e.text);
    assert_int_equal(c->r.status, status);
    if (strlen(text) != c->r.body.len || memcmp(c->r.body.data, text, c->r.body.len) != 0)
        fail_msg("%.*s is not %s", (int)c->r.body.len, (const char *)c->r.body.data, text);
}

static void expect_fault(struct call *c, cs_code code, const char *text)
{
    if (c->rc != code || strstr(c->e.text, text) == NULL)
        fail_msg("%s %s, wanted %s %s", cs_code_name(c->rc), c->e.text, cs_code_name(code), text);
    http_response_free(&c->r);
}

static void sends_and_receives(void **state)
{
    (void)state;
    struct test_server *s = test_server_start(&(struct test_server_options){.handler = handler});
    const struct http_client_options o = {0};
    const struct http_header headers[] = {{"Authorization", "Bearer t0ken"}, {"Content-Type", "text/x"}};
    struct http_client *c;
    struct call got;
    struct cs_slice value;
    assert_int_equal(http_client_new(&o, &c, NULL), CS_OK);
    call_with(c, s,
              (struct http_request){
                  .method = "PATCH", .headers = headers, .header_count = 2, .body = cs_slice_str("a body")},
              "/echo?a=b", &got);
    assert_int_equal(got.rc, CS_OK);
    const char *text = cs_buf_cstr(&got.r.body);
    assert_int_equal(strncmp(text, "PATCH /echo?a=b\n", 16), 0);
    assert_non_null(strstr(text, "Authorization: Bearer t0ken\r\n"));
    assert_non_null(strstr(text, "Content-Type: text/x\r\n"));
    assert_null(strstr(text, "Expect:"));
    assert_string_equal(text + strlen(text) - 6, "a body");
    assert_true(http_response_header(&got.r, "x-said", &value));
    assert_true(cs_slice_is(value, "twice told"));
    assert_false(http_response_header(&got.r, "x-sai", &value));
    assert_int_equal(got.r.retry_after_ns, -1);
    http_response_free(&got.r);
    /* the same connection serves again */
    call_with(c, s, (struct http_request){0}, "/busy", &got);
    expect_body(&got, 429, "later");
    assert_int_equal(got.r.retry_after_ns, 7 * CS_NS_PER_S);
    http_response_free(&got.r);
    assert_int_equal(test_server_connections(s), 1);
    http_client_free(c);
    test_server_stop(s);
}

static void knows_the_server(void **state)
{
    (void)state;
    struct test_server *s =
        test_server_start(&(struct test_server_options){.handler = handler, .cert = cert, .key = key});
    struct call got;
    get(&(struct http_client_options){.ca = cs_slice_str(pki.ca_cert)}, s, "/who", &got);
    expect_body(&got, 200, "nobody");
    http_response_free(&got.r);
    get(&(struct http_client_options){.ca = cs_slice_str(cert)}, s, "/who", &got); /* the leaf itself */
    expect_body(&got, 200, "nobody");
    http_response_free(&got.r);
    get(&(struct http_client_options){.ca = cs_slice_str(other_pki.ca_cert)}, s, "/who", &got);
    expect_fault(&got, CS_UNAUTHENTICATED, "/who\": the server's certificate: certificate signature failure");
    get(&(struct http_client_options){0}, s, "/who", &got);
    expect_fault(&got, CS_UNAUTHENTICATED, "/who\": the server's certificate: ");
    get(&(struct http_client_options){.insecure = true}, s, "/who", &got);
    expect_body(&got, 200, "nobody");
    http_response_free(&got.r);
    get(&(struct http_client_options){.ca = cs_slice_str("no PEM")}, s, "/who", &got);
    assert_int_not_equal(got.rc, CS_OK);
    http_response_free(&got.r);
    test_server_stop(s);
}

static void knows_names(void **state)
{
    (void)state;
    struct test_server *s = test_server_start(
        &(struct test_server_options){.handler = handler, .cert = named_cert, .key = named_key});
    struct http_client_options o = {.ca = cs_slice_str(pki.ca_cert)};
    struct call got;
    get(&o, s, "/who", &got);
    expect_fault(&got, CS_UNAUTHENTICATED, "certificate subject name");
    o.any_name = true;
    get(&o, s, "/who", &got);
    expect_body(&got, 200, "nobody");
    http_response_free(&got.r);
    o.any_name = false;
    o.server_name = "kubernetes.test";
    get(&o, s, "/echo?a=b", &got);
    assert_int_equal(got.rc, CS_OK);
    assert_non_null(strstr(cs_buf_cstr(&got.r.body), "Host: 127.0.0.1:"));
    http_response_free(&got.r);
    o.server_name = "other.test";
    get(&o, s, "/who", &got);
    assert_int_equal(got.rc, CS_UNAUTHENTICATED);
    http_response_free(&got.r);
    test_server_stop(s);
}

static void shows_a_client_certificate(void **state)
{
    char *c, *k;
    (void)state;
    test_pki_issue(&pki, "alice", NULL, &c, &k);
    struct test_server *s = test_server_start(&(struct test_server_options){
        .handler = handler, .cert = cert, .key = key, .client_ca = pki.ca_cert});
    struct http_client_options o = {
        .ca = cs_slice_str(pki.ca_cert), .client_cert = cs_slice_str(c), .client_key = cs_slice_str(k)};
    struct call got;
    struct http_client *client;
    struct cs_err e;
    get(&o, s, "/who", &got);
    expect_body(&got, 200, "/CN=alice");
    http_response_free(&got.r);
    o.client_cert = o.client_key = (struct cs_slice){0};
    get(&o, s, "/who", &got);
    assert_int_not_equal(got.rc, CS_OK);
    http_response_free(&got.r);
    o.client_cert = cs_slice_str(c);
    assert_int_equal(http_client_new(&o, &client, &e), CS_INVALID);
    o.client_key = cs_slice_str("not a key");
    get(&o, s, "/who", &got);
    expect_fault(&got, CS_INVALID, "private key");
    test_server_stop(s);
    free(c);
    free(k);
}

static cs_code check_chain(void *arg, const struct cs_slice *chain, size_t count, struct cs_err *e)
{
    bool *good = arg;
    assert_int_equal(count, 1);
    assert_int_equal(chain[0].data[0], 0x30);
    return *good ? CS_OK : cs_fail(e, CS_DENIED, "not you");
}

static void lets_the_caller_verify(void **state)
{
    bool good = true;
    (void)state;
    struct test_server *s =
        test_server_start(&(struct test_server_options){.handler = handler, .cert = cert, .key = key});
    const struct http_client_options o = {.verify = check_chain, .verify_arg = &good};
    struct call got;
    get(&o, s, "/who", &got);
    expect_body(&got, 200, "nobody");
    http_response_free(&got.r);
    good = false;
    get(&o, s, "/who", &got);
    expect_fault(&got, CS_DENIED, ": not you");
    test_server_stop(s);
}

static void uses_unix_sockets(void **state)
{
    char path[64];
    (void)state;
    snprintf(path, sizeof path, "/tmp/cspire-http-%d.sock", (int)getpid());
    struct test_server *s =
        test_server_start(&(struct test_server_options){.handler = handler, .unix_path = path});
    struct call got;
    get(&(struct http_client_options){.unix_path = path}, s, "/who", &got);
    expect_body(&got, 200, "nobody");
    http_response_free(&got.r);
    test_server_stop(s);
}

static void follows_only_when_asked(void **state)
{
    (void)state;
    struct test_server *s = test_server_start(&(struct test_server_options){.handler = handler});
    const struct http_client_options o = {0};
    struct http_client *c;
    struct call got;
    assert_int_equal(http_client_new(&o, &c, NULL), CS_OK);
    call_with(c, s, (struct http_request){0}, "/moved", &got);
    expect_body(&got, 302, "moved");
    http_response_free(&got.r);
    call_with(c, s, (struct http_request){.max_redirects = 1}, "/moved", &got);
    assert_int_equal(got.rc, CS_OK);
    assert_int_equal(got.r.status, 200);
    http_response_free(&got.r);
    call_with(c, s, (struct http_request){.max_redirects = 3}, "/round", &got);
    expect_fault(&got, CS_PRECONDITION, "redirect");
    http_client_free(c);
    test_server_stop(s);
}

static void asks_a_proxy_but_for_this_machine(void **state)
{
    (void)state;
    struct test_server *s = test_server_start(&(struct test_server_options){.handler = handler});
    struct http_client *c;
    struct call got = {0};
    struct http_request q = {.method = "GET", .url = "http://elsewhere.test/who"};
    assert_int_equal(http_client_new(&(struct http_client_options){.proxy_from_env = true}, &c, NULL), CS_OK);
    setenv("http_proxy", test_server_url(s), 1);
    got.rc = http_call(c, &q, &got.r, &got.e);
    setenv("http_proxy", "http://127.0.0.1:9", 1);
    expect_body(&got, 200, "a proxy");
    http_response_free(&got.r);
    call_with(c, s, (struct http_request){0}, "/who", &got); /* by this one it could not be reached */
    expect_body(&got, 200, "nobody");
    http_response_free(&got.r);
    http_client_free(c);
    test_server_stop(s);
}

static cs_code count_bytes(void *arg, struct cs_slice piece, struct cs_err *e)
{
    size_t *n = arg;
    *n += piece.len;
    return *n < 1000 ? CS_OK : cs_fail(e, CS_OUT_OF_RANGE, "enough");
}

static void bounds_everything(void **state)
{
    (void)state;
    size_t bytes = 0;
    struct test_server *s = test_server_start(&(struct test_server_options){.handler = handler});
    const struct http_client_options o = {0};
    struct http_client *c;
    struct call got;
    assert_int_equal(http_client_new(&o, &c, NULL), CS_OK);
    call_with(c, s, (struct http_request){.max_body = 1000}, "/large", &got);
    expect_fault(&got, CS_EXHAUSTED, "/large\": the response has more than 1000 bytes");
    call_with(c, s, (struct http_request){.max_body = 200000}, "/large", &got);
    assert_int_equal(got.rc, CS_OK);
    assert_int_equal(got.r.body.len, 200000);
    http_response_free(&got.r);
    call_with(c, s, (struct http_request){.max_body = 10000}, "/endless", &got);
    expect_fault(&got, CS_EXHAUSTED, "more than 10000 bytes");
    call_with(c, s, (struct http_request){0}, "/headers", &got);
    assert_int_not_equal(got.rc, CS_OK);
    http_response_free(&got.r);
    call_with(c, s, (struct http_request){.on_body = count_bytes, .on_body_arg = &bytes}, "/endless", &got);
    expect_fault(&got, CS_OUT_OF_RANGE, ": enough");
    assert_int_equal(got.r.body.len, 0);
    call_with(c, s, (struct http_request){.timeout_ns = 100 * CS_NS_PER_MS}, "/hang?secret=1", &got);
    assert_null(strstr(got.e.text, "secret"));
    expect_fault(&got, CS_UNAVAILABLE, "/hang\": "); /* nonsense: another target */
    call_with(c, s, (struct http_request){.timeout_ns = 100 * CS_NS_PER_MS}, "/hang", &got);
    expect_fault(&got, CS_DEADLINE, "/hang\": ");
    call_with(c, s, (struct http_request){.idle_ns = CS_NS_PER_S}, "/hang", &got);
    expect_fault(&got, CS_DEADLINE, "/hang\": ");
    call_with(c, s, (struct http_request){0}, "/cut", &got);
    expect_fault(&got, CS_UNAVAILABLE, "/cut\": ");
    http_client_free(c);
    test_server_stop(s);
}

struct countdown {
    int left;
};
static bool asked(void *arg)
{
    struct countdown *c = arg;
    return c->left-- <= 0;
}

static void stops_when_told(void **state)
{
    (void)state;
    struct countdown now = {0}, soon = {2};
    struct test_server *s = test_server_start(&(struct test_server_options){.handler = handler});
    const struct http_client_options o = {0};
    struct http_client *c;
    struct call got;
    assert_int_equal(http_client_new(&o, &c, NULL), CS_OK);
    struct crypto_stop stop = {.asked = asked, .arg = &now};
    call_with(c, s, (struct http_request){.stop = &stop}, "/hang", &got);
    expect_fault(&got, CS_CANCELLED, "stopped");
    stop.arg = &soon;
    call_with(c, s, (struct http_request){.stop = &stop}, "/hang", &got);
    expect_fault(&got, CS_CANCELLED, "/hang\": stopped");
    http_client_free(c);
    test_server_stop(s);
}

static void pauses_until_told(void **state)
{
    (void)state;
    const int64_t begun = cs_mono_ns(&cs_clock_system), pause = 30 * CS_NS_PER_MS;
    assert_true(http_pause(pause, NULL));
    assert_true(cs_mono_ns(&cs_clock_system) - begun >= pause);
    struct countdown now = {0}, soon = {2};
    struct crypto_stop stop = {.asked = asked, .arg = &now};
    assert_false(http_pause(0, &stop));
    stop.arg = &soon;
    assert_false(http_pause(INT64_MAX, &stop)); /* within two looks */
    assert_int_equal(soon.left, -1);
}

static void refuses_what_is_not_http(void **state)
{
    (void)state;
    const struct http_client_options o = {.https_only = true};
    struct http_client *c;
    struct http_response r = {0};
    struct cs_err e;
    assert_int_equal(http_client_new(&o, &c, NULL), CS_OK);
    static const char *const urls[] = {"http://127.0.0.1:1/", "file:///etc/passwd", "https://", "", NULL};
    for (size_t i = 0; urls[i] != NULL; i++) {
        const struct http_request q = {.method = "GET", .url = urls[i]};
        cs_code rc = http_call(c, &q, &r, &e);
        if (rc != CS_INVALID)
            fail_msg("%s: %s %s", urls[i], cs_code_name(rc), e.text);
        http_response_free(&r);
    }
    http_client_free(c);
}

/* The vector of AWS's documentation cannot be used, since the date is the signer's; so what is looked at is
 * that the request is signed for this key, day, region and service, and that the secret is not sent. */
static void signs_for_aws(void **state)
{
    (void)state;
    struct test_server *s = test_server_start(&(struct test_server_options){.handler = handler});
    const struct http_client_options o = {0};
    const struct http_sigv4 sig = {.region = "us-east-1",
                                   .service = "secretsmanager",
                                   .access_key_id = "AKIDEXAMPLE",
                                   .secret_access_key = "wJalrXUtnFEMI"};
    struct http_client *c;
    struct call got;
    assert_int_equal(http_client_new(&o, &c, NULL), CS_OK);
    call_with(c, s, (struct http_request){.method = "POST", .body = cs_slice_str("{}"), .sigv4 = &sig},
              "/echo?a=b", &got);
    assert_int_equal(got.rc, CS_OK);
    const char *text = cs_buf_cstr(&got.r.body);
    assert_non_null(strstr(text, "Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
    assert_non_null(strstr(text, "/us-east-1/secretsmanager/aws4_request"));
    assert_null(strstr(text, "wJalrXUtnFEMI"));
    http_response_free(&got.r);
    http_client_free(c);
    test_server_stop(s);
}

static void escapes(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    http_escape(&b, cs_slice_of("a/b ~\0\xff", 7));
    assert_string_equal(cs_buf_cstr(&b), "a%2Fb%20~%00%FF");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_and_receives),
        cmocka_unit_test(knows_the_server),
        cmocka_unit_test(knows_names),
        cmocka_unit_test(shows_a_client_certificate),
        cmocka_unit_test(lets_the_caller_verify),
        cmocka_unit_test(uses_unix_sockets),
        cmocka_unit_test(asks_a_proxy_but_for_this_machine),
        cmocka_unit_test(follows_only_when_asked),
        cmocka_unit_test(bounds_everything),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(pauses_until_told),
        cmocka_unit_test(refuses_what_is_not_http),
        cmocka_unit_test(signs_for_aws),
        cmocka_unit_test(escapes),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
