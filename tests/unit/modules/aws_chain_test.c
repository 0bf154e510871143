/* SPDX-License-Identifier: Apache-2.0
 *
 * Credentials that are fetched: how long they are kept, what makes them be asked for again, what becomes of
 * them when that fails. One server plays STS, the container's endpoint and the instance's metadata service.
 */
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "plugins/modules/aws/credentials/internal.h"
#include "tests/fakes/http_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1800000000

struct world {
    char dir[64];
    struct test_server *server;
    struct http_client *client;
    struct cs_fake_clock clock;
    struct cs_log log;
    struct aws_chain *chain;
    pthread_mutex_t lock; /* over what follows */
    int asked, status;    /* status: of refusals; 200: none */
    int64_t expires;
    char last[4096]; /* what was asked for: authorization, a blank, and the body or target */
};

/* --- The server --- */

static void note(struct world *w, const struct test_request *r)
{
    struct http_response head = {0};
    struct cs_slice authorization = {0};
    cs_buf_add(&head.head, r->head.data, r->head.len);
    (void)http_response_header(&head, "authorization", &authorization);
    (void)snprintf(
        w->last, sizeof w->last, "%.*s %.*s",
        (int)strcspn((const char *)authorization.data != NULL ? (const char *)authorization.data : "",
                     ",/\r\n"),
        authorization.len > 0 ? (const char *)authorization.data : "",
        (int)(r->body.len > 0 ? r->body.len : strlen(r->target)),
        r->body.len > 0 ? (const char *)r->body.data : r->target);
    cs_buf_free(&head.head);
}

static bool reply_locked(struct world *w, const struct test_request *r, struct test_conn *c)
{
    char body[1024], end[64] = "";
    struct cs_buf t = {0};
    const bool is_role = strcmp(r->target, "/latest/meta-data/iam/security-credentials/a+=,.@_-b%2Fc") == 0;
    if (w->status != 200)
        return test_reply(c, w->status, "",
                          "<E><Error><Code>Busy</Code><Message>later</Message></Error></E>");
    if (strcmp(r->method, "PUT") == 0)
        return test_reply(c, 200, "", "session");
    if (strncmp(r->target, "/latest/", 8) == 0 && !is_role)
        return test_reply(c, 200, "", "a+=,.@_-b/c\nother\n");
    w->asked++;
    note(w, r);
    cs_time_rfc3339(&t, w->expires);
    (void)snprintf(end, sizeof end, "%s", cs_buf_cstr(&t));
    cs_buf_free(&t);
    if (strcmp(r->method, "POST") == 0)
        (void)snprintf(
            body, sizeof body,
            "<R><AccessKeyId>K%d</AccessKeyId><SecretAccessKey>s%d</SecretAccessKey><SessionToken>t%d"
            "</SessionToken><Expiration>%s</Expiration></R>",
            w->asked, w->asked, w->asked, end);
    else
        (void)snprintf(
            body, sizeof body,
            "{\"Code\":\"Success\",\"AccessKeyId\":\"K%d\",\"SecretAccessKey\":\"s\",\"Token\":\"t\","
            "\"Expiration\":\"%s\"}",
            w->asked, end);
    return test_reply(c, 200, "", body);
}

static bool handler(void *arg, const struct test_request *r, struct test_conn *c)
{
    struct world *w = arg;
    pthread_mutex_lock(&w->lock);
    const bool on = reply_locked(w, r, c);
    pthread_mutex_unlock(&w->lock);
    return on;
}

/* --- The world --- */

static void file_of(struct world *w, const char *name, const char *text)
{
    CS_CLEANUP(cs_freep) char *path = cs_asprintf("%s/%s", w->dir, name);
    if (text == NULL)
        (void)unlink(path);
    else
        assert_int_equal(cs_file_write_atomic(path, cs_slice_str(text), 0600, NULL), CS_OK);
}

static void set_env(struct world *w, const char *name, const char *fmt)
{
    CS_CLEANUP(cs_freep) char *dir = cs_asprintf("%s%s", w->dir, fmt);
    assert_int_equal(setenv(name, dir, 1), 0);
}

static int begin(void **state)
{
    static struct world w;
    static const char *const names[] = {"AWS_ACCESS_KEY_ID",
                                        "AWS_SECRET_ACCESS_KEY",
                                        "AWS_ACCESS_KEY",
                                        "AWS_SECRET_KEY",
                                        "AWS_SESSION_TOKEN",
                                        "AWS_PROFILE",
                                        "AWS_DEFAULT_PROFILE",
                                        "AWS_ROLE_SESSION_NAME",
                                        "AWS_WEB_IDENTITY_TOKEN_FILE",
                                        "AWS_ROLE_ARN",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                                        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                        "AWS_EC2_METADATA_DISABLED",
                                        "AWS_ENDPOINT_URL_STS"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    signal(SIGPIPE, SIG_IGN);
    w = (struct world){.status = 200, .expires = NOW + 3600};
    pthread_mutex_init(&w.lock, NULL);
    cs_fake_clock_init(&w.clock, NOW);
    (void)snprintf(w.dir, sizeof w.dir, "/tmp/aws_chain.XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    const struct test_server_options o = {.handler = handler, .arg = &w};
    w.server = test_server_start(&o);
    const struct http_client_options h = {0};
    assert_int_equal(http_client_new(&h, &w.client, NULL), CS_OK);
    set_env(&w, "AWS_CONFIG_FILE", "/config");
    set_env(&w, "AWS_SHARED_CREDENTIALS_FILE", "/credentials");
    setenv("AWS_ENDPOINT_URL", test_server_url(w.server), 1);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", test_server_url(w.server), 1);
    *state = &w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    aws_chain_free(w->chain);
    http_client_free(w->client);
    test_server_stop(w->server);
    file_of(w, "config", NULL);
    file_of(w, "credentials", NULL);
    file_of(w, "token", NULL);
    pthread_mutex_destroy(&w->lock);
    return rmdir(w->dir);
}

static cs_code make(struct world *w, struct cs_err *e)
{
    const struct aws_chain_options o = {.region = "us-east-1",
                                        .id = "",
                                        .secret = "",
                                        .http = w->client,
                                        .clock = &w->clock.clock,
                                        .log = &w->log};
    return aws_chain_new(&o, &w->chain, e);
}

static void start(struct world *w)
{
    struct cs_err e;
    if (make(w, &e) != CS_OK)
        fail_msg("%s", e.text);
}

static void gets(struct world *w, const char *id)
{
    const struct aws_credentials *c;
    struct cs_err e;
    if (aws_chain_get(w->chain, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(c->id, id);
}

static void fails(struct world *w, cs_code code, const char *why)
{
    const struct aws_credentials *c;
    struct cs_err e;
    assert_int_equal(aws_chain_get(w->chain, &c, &e), code);
    assert_null(c);
    CS_CLEANUP(cs_freep)
    char *want = cs_asprintf("get identity: get credentials: failed to refresh cached credentials, %s", why);
    assert_string_equal(e.text, want);
}

static void answers(struct world *w, int status, int64_t expires)
{
    pthread_mutex_lock(&w->lock);
    w->status = status;
    w->expires = expires;
    pthread_mutex_unlock(&w->lock);
}

static void was_asked(struct world *w, int times, const char *last)
{
    pthread_mutex_lock(&w->lock);
    assert_int_equal(w->asked, times);
    if (last != NULL)
        assert_string_equal(w->last, last);
    pthread_mutex_unlock(&w->lock);
}

static void pass(struct world *w, int64_t seconds)
{
    cs_fake_clock_advance(&w->clock, seconds * CS_NS_PER_S);
}

/* --- Tests --- */

static void instance(void **state)
{
    struct world *w = *state;
    start(w);
    gets(w, "K1");
    gets(w, "K1");
    was_asked(w, 1, " /latest/meta-data/iam/security-credentials/a+=,.@_-b%2Fc");
    pass(w, 3600 - 301);
    gets(w, "K1");
    answers(w, 200, NOW + 7200);
    pass(w, 1); /* five minutes before the end */
    gets(w, "K2");
    was_asked(w, 2, NULL);
    /* the service is away: they are used on, even past their end */
    answers(w, 503, 0);
    pass(w, 3600);
    gets(w, "K2");
    pass(w, 600);
    gets(w, "K2");
    answers(w, 200, NOW + 20000);
    gets(w, "K2"); /* not asked so soon again */
    pass(w, 30);
    gets(w, "K3");
}

static void instance_away(void **state)
{
    struct world *w = *state;
    CS_CLEANUP(cs_freep)
    char *why = cs_asprintf(
        "no EC2 IMDS role found, operation error ec2imds: GetMetadata, http response error StatusCode: 404, "
        "PUT %s/latest/api/token",
        test_server_url(w->server));
    start(w);
    answers(w, 404, 0);
    fails(w, CS_UNAVAILABLE, why);
    answers(w, 200, NOW - 10); /* already at its end: used, and asked for each time */
    gets(w, "K1");
    gets(w, "K2");
    setenv("AWS_EC2_METADATA_DISABLED", "TRUE", 1);
    aws_chain_drop(&w->chain);
    start(w);
    fails(w, CS_PRECONDITION,
          "no EC2 IMDS role found, operation error ec2imds: GetMetadata, access disabled to EC2 IMDS via "
          "client option, "
          "or \"AWS_EC2_METADATA_DISABLED\" environment variable");
}

static void container(void **state)
{
    struct world *w = *state;
    CS_CLEANUP(cs_freep) char *url = cs_asprintf("%s/c?x=y", test_server_url(w->server));
    setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url, 1);
    setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Basic-b", 1);
    start(w);
    gets(w, "K1");
    was_asked(w, 1, "Basic-b /c?x=y");
    /* EKS: the token is in a file, which is renewed */
    set_env(w, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/token");
    aws_chain_drop(&w->chain);
    start(w);
    CS_CLEANUP(cs_freep)
    char *why = cs_asprintf("failed to load credentials, resolve auth token: failed to read "
                            "authorization token from %s/token: open %s/token: no such file or directory",
                            w->dir, w->dir);
    fails(w, CS_PRECONDITION, why); /* and no NotFound, which is a secret's */
    file_of(w, "token", "eyJ\n");
    fails(w, CS_INVALID,
          "failed to load credentials, resolve auth token: authorization token contains invalid newline "
          "sequence");
    file_of(w, "token", "one");
    gets(w, "K2");
    was_asked(w, 2, "one /c?x=y");
    gets(w, "K2");
    file_of(w, "token", "two");
    gets(w, "K3");
    was_asked(w, 3, "two /c?x=y");
    /* a token that cannot be used leaves what there is */
    file_of(w, "token", "two\n");
    gets(w, "K3");
    answers(w, 200, NOW + 7200);
    file_of(w, "token", "three");
    pass(w, 31);
    gets(w, "K4");
    /* past their end they are not, as the endpoint is asked for others */
    answers(w, 500, 0);
    pass(w, 7000);
    gets(w, "K4");
    pass(w, 3600);
    CS_CLEANUP(cs_freep) char *busy = cs_asprintf("failed to load credentials, %s: status 500", url);
    fails(w, CS_UNAVAILABLE, busy);
}

static void web_identity(void **state)
{
    struct world *w = *state;
    set_env(w, "AWS_WEB_IDENTITY_TOKEN_FILE", "/token");
    setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
    start(w);
    CS_CLEANUP(cs_freep)
    char *why = cs_asprintf("failed to retrieve jwt from provide source, unable to read file at "
                            "%s/token: open %s/token: no such file or directory",
                            w->dir, w->dir);
    fails(w, CS_PRECONDITION, why);
    file_of(w, "token", "a.b+c\n");
    gets(w, "K1");
    was_asked(w, 1,
              " Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"
              "&RoleSessionName=spire-agent&WebIdentityToken=a.b%2Bc");
    gets(w, "K1");
    file_of(w, "token", "d");
    gets(w, "K2");
    answers(w, 503, 0);
    file_of(w, "token", "e");
    gets(w, "K2");
    pass(w, 3601);
    fails(w, CS_UNAVAILABLE,
          "failed to retrieve credentials, operation error STS: AssumeRoleWithWebIdentity, https response "
          "error "
          "StatusCode: 503, RequestID: , api error Busy: later");
    answers(w, 200, NOW + 7200);
    gets(w, "K3");
}

static void roles(void **state)
{
    struct world *w = *state;
    setenv("AWS_PROFILE", "p", 1);
    file_of(w, "config",
            "[profile p]\nrole_arn = R\nsource_profile = q\nexternal_id = x y\nrole_session_name = n\n"
            "duration_seconds = 3600\n[profile q]\nrole_arn = Q\nsource_profile = base\n");
    struct cs_err e;
    assert_int_equal(make(w, &e), CS_INVALID);
    assert_string_equal(
        e.text, "failed to load assume role Q, of profile base, failed to get shared config profile, base");
    file_of(w, "credentials", "[base]\naws_access_key_id = AKID\naws_secret_access_key = s\n");
    start(w);
    gets(w, "K2");
    was_asked(
        w, 2,
        "AWS4-HMAC-SHA256 Credential=K1 Action=AssumeRole&Version=2011-06-15&RoleArn=R&RoleSessionName=n"
        "&DurationSeconds=3600&ExternalId=x%20y");
    /* another key, of the files that are there now */
    file_of(w, "config", "[profile p]\nrole_arn = R\nsource_profile = base\n");
    gets(w, "K3");
    was_asked(w, 3,
              "AWS4-HMAC-SHA256 Credential=AKID Action=AssumeRole&Version=2011-06-15&RoleArn=R"
              "&RoleSessionName=spire-agent&DurationSeconds=900");
    /* files that make no sense leave what there is */
    file_of(w, "credentials", "[base]\n");
    gets(w, "K3");
    file_of(w, "credentials", "[base]\naws_access_key_id = OTHER\naws_secret_access_key = s\n");
    pass(w, 31);
    gets(w, "K4");
    was_asked(w, 4,
              "AWS4-HMAC-SHA256 Credential=OTHER Action=AssumeRole&Version=2011-06-15&RoleArn=R"
              "&RoleSessionName=spire-agent&DurationSeconds=900");
}

static void fixed(void **state)
{
    struct world *w = *state;
    file_of(w, "credentials", "[default]\naws_access_key_id = A\naws_secret_access_key = s\n");
    start(w);
    gets(w, "A");
    pass(w, 1000000);
    gets(w, "A");
    file_of(w, "credentials", "[default]\naws_access_key_id = B\naws_secret_access_key = s\n");
    gets(w, "B");
    was_asked(w, 0, NULL);
}

static void endpoints(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    unsetenv("AWS_ENDPOINT_URL");
    assert_int_equal(aws_endpoint("eu-west-1", "sts", "STS", &b, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&b), "https://sts.eu-west-1.amazonaws.com/");
    cs_buf_reset(&b);
    assert_int_equal(aws_endpoint("cn-north-1", "sts", "STS", &b, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&b), "https://sts.cn-north-1.amazonaws.com.cn/");
    cs_buf_reset(&b);
    setenv("AWS_ENDPOINT_URL", "http://all/", 1);
    assert_int_equal(aws_endpoint("eu-west-1", "sts", "STS", &b, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&b), "http://all/");
    cs_buf_reset(&b);
    setenv("AWS_ENDPOINT_URL_STS", "http://one", 1);
    assert_int_equal(aws_endpoint("eu-west-1", "sts", "STS", &b, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&b), "http://one/");
}

static bool asked_to_stop(void *arg)
{
    return *(bool *)arg;
}

static void stops(void **state)
{
    struct world *w = *state;
    bool stop = false;
    const struct crypto_stop s = {.asked = asked_to_stop, .arg = &stop};
    start(w);
    w->chain->stop = &s;
    gets(w, "K1");
    stop = true;
    pass(w, 3500);
    const struct aws_credentials *c;
    assert_int_equal(aws_chain_get(w->chain, &c, NULL), CS_CANCELLED); /* nothing is begun any more */
    assert_null(c);
}

/* Whatever allocation fails: an error or the right credentials, and the next call finds them. */
static void no_memory(void **state)
{
    struct world *w = *state;
    size_t n = 0;
    setenv("AWS_PROFILE", "p", 1);
    file_of(w, "config",
            "[profile p]\nrole_arn = R\nsource_profile = i\n[profile i]\nrole_arn=I\n"
            "credential_source = Ec2InstanceMetadata\n");
    for (cs_code rc = CS_INTERNAL; rc != CS_OK; n++) {
        const struct aws_credentials *c = NULL;
        cs_mem_fail_at(n + 1, false);
        rc = make(w, NULL);
        if (rc == CS_OK)
            rc = aws_chain_get(w->chain, &c, NULL);
        cs_mem_fail_at(0, false);
        if (rc == CS_OK) {
            assert_non_null(c->token);
            assert_int_equal(c->expires, NOW + 3600);
        } else if (w->chain != NULL) {
            assert_int_equal(aws_chain_get(w->chain, &c, NULL), CS_OK);
        }
        aws_chain_drop(&w->chain);
    }
    assert_true(n > 40);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(instance), TEST(instance_away), TEST(container), TEST(web_identity), TEST(roles),
        TEST(fixed),    TEST(endpoints),     TEST(stops),     TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
