/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore "aws_secretsmanager" itself: selectors, calls and their order, texts of errors. A server plays
 * Secrets Manager.
 */
#include "base/mem.h"
#include "plugin/svidstore.h"
#include "plugins/modules/aws/aws.h"
#include "plugins/modules/aws/plugins.h"
#include "tests/fakes/http_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TAGGED                                                                                               \
    "{\"ARN\":\"arn:x\",\"Name\":\"n\",\"Tags\":[{\"Key\":\"a\",\"Value\":\"b\"},{\"Key\":\"spire-svid\","   \
    "\"Value\":\"true\"}]"
#define MISSING "{\"__type\":\"ResourceNotFoundException\",\"Message\":\"gone\"}"
#define DENIED "{\"__type\":\"AccessDeniedException\",\"Message\":\"no\"}"

struct answer {
    const char *action;
    int status;
    const char *body;
};

struct world {
    struct test_server *server;
    struct plugin_env env;
    void *self;
    const struct svidstore_ops *ops;
    struct cs_slice certs[2];
    struct svidstore_svid svid;
    pthread_mutex_t lock;
    struct answer answers[4]; /* of what is not there: 200 and an object */
    struct cs_buf calls;      /* "ACTION BODY\n", binary and token left out */
    struct cs_buf binary;     /* the last one */
};

/* Cuts ,"NAME":"..." out. */
static void cut(char *body, const char *name, struct cs_buf *value)
{
    CS_CLEANUP(cs_freep) char *key = cs_asprintf(",\"%s\":\"", name);
    char *at = strstr(body, key);
    if (at == NULL)
        return;
    char *from = at + strlen(key), *to = strchr(from, '"');
    if (value != NULL) {
        cs_buf_reset(value);
        cs_buf_add(value, from, (size_t)(to - from));
    }
    memmove(at, to + 1, strlen(to + 1) + 1);
}

static bool reply_locked(struct world *w, const struct test_request *r, struct test_conn *c)
{
    struct http_response head = {0};
    struct cs_slice target;
    char action[64] = "";
    cs_buf_add(&head.head, r->head.data, r->head.len);
    if (http_response_header(&head, "x-amz-target", &target))
        (void)snprintf(action, sizeof action, "%.*s", (int)strcspn((const char *)target.data, "\r\n"),
                       (const char *)target.data);
    cs_buf_free(&head.head);
    if (strncmp(action, "secretsmanager.", 15) != 0)
        return test_reply(c, 400, "", "{}");
    CS_CLEANUP(cs_freep) char *body = cs_strndup((const char *)r->body.data, r->body.len);
    cut(body, "ClientRequestToken", NULL);
    cut(body, "SecretBinary", &w->binary);
    cs_buf_printf(&w->calls, "%s %s\n", action + 15, body);
    for (size_t i = 0; i < 4 && w->answers[i].action != NULL; i++)
        if (strcmp(w->answers[i].action, action + 15) == 0)
            return test_reply(c, w->answers[i].status, "x-amzn-requestid: 1\r\n", w->answers[i].body);
    return test_reply(c, 200, "", "{}");
}

static bool handler(void *arg, const struct test_request *r, struct test_conn *c)
{
    struct world *w = arg;
    pthread_mutex_lock(&w->lock);
    const bool on = reply_locked(w, r, c);
    pthread_mutex_unlock(&w->lock);
    return on;
}

static cs_code configure(struct world *w, const char *text, struct cs_err *e)
{
    return plugin_svidstore_aws_secretsmanager.configure(w->self, cs_slice_str(text), e);
}

static int begin(void **state)
{
    static struct world w;
    struct cs_err e;
    signal(SIGPIPE, SIG_IGN);
    unsetenv("AWS_PROFILE");
    setenv("HOME", "/nonexistent", 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    w = (struct world){0};
    pthread_mutex_init(&w.lock, NULL);
    const struct test_server_options o = {.handler = handler, .arg = &w};
    w.server = test_server_start(&o);
    setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", test_server_url(w.server), 1);
    w.env = (struct plugin_env){.clock = &cs_clock_system, .trust_domain = "example.org"};
    assert_int_equal(plugin_svidstore_aws_secretsmanager.create(&w.env, &w.self, &e), CS_OK);
    w.ops = plugin_svidstore_aws_secretsmanager.ops;
    w.certs[0] = cs_slice_str("leaf");
    w.certs[1] = cs_slice_str("root");
    w.svid = (struct svidstore_svid){.spiffe_id = "spiffe://example.org/w",
                                     .chain = &w.certs[0],
                                     .chain_count = 1,
                                     .key = cs_slice_str("key"),
                                     .bundle = &w.certs[1],
                                     .bundle_count = 1,
                                     .expires_at = 1790000000};
    if (configure(&w, "region = \"us-east-1\"\naccess_key_id = \"A\"\nsecret_access_key = \"s\"", &e) !=
        CS_OK)
        fail_msg("%s", e.text);
    *state = &w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    plugin_svidstore_aws_secretsmanager.destroy(w->self);
    test_server_stop(w->server);
    cs_buf_free(&w->calls);
    cs_buf_free(&w->binary);
    pthread_mutex_destroy(&w->lock);
    return 0;
}

static void answers(struct world *w, struct answer a, struct answer b)
{
    pthread_mutex_lock(&w->lock);
    w->answers[0] = a;
    w->answers[1] = b;
    cs_buf_reset(&w->calls);
    pthread_mutex_unlock(&w->lock);
}
#define DESCRIBE(s, b) ((struct answer){"DescribeSecret", (s), (b)})
#define NOTHING ((struct answer){0})

static void called(struct world *w, const char *want)
{
    pthread_mutex_lock(&w->lock);
    assert_string_equal(cs_buf_cstr(&w->calls), want);
    pthread_mutex_unlock(&w->lock);
}

/* `why` NULL: it succeeds. */
static void puts_to(struct world *w, const char *const *metadata, size_t count, cs_code code, const char *why)
{
    struct cs_err e = {0};
    assert_int_equal(w->ops->put(w->self, &w->svid, metadata, count, &e), code);
    if (why != NULL)
        assert_string_equal(e.text, why);
}

static void removes(struct world *w, const char *const *metadata, size_t count, cs_code code, const char *why)
{
    struct cs_err e = {0};
    assert_int_equal(w->ops->remove(w->self, metadata, count, &e), code);
    if (why != NULL)
        assert_string_equal(e.text, why);
}

static void selectors(void **state)
{
    struct world *w = *state;
    const char *const name[] = {"secretname:a:b"}, *const arn[] = {"secretname:a", "arn:arn:aws:x:y"};
    const char *const key[] = {"kmskeyid:k"}, *const bare[] = {"secretname"},
                      *const empty[] = {"secretname:"};
    const char *const all[] = {"kmskeyid:k\"", "secretname:n<", "other:x"};
    answers(w, DESCRIBE(400, MISSING), NOTHING);
    puts_to(w, name, 1, CS_OK, NULL);
    called(w, "DescribeSecret {\"SecretId\":\"a:b\"}\n"
              "CreateSecret {\"Name\":\"a:b\",\"Tags\":[{\"Key\":\"spire-svid\",\"Value\":\"true\"}]}\n");
    answers(w, DESCRIBE(200, TAGGED "}"), NOTHING);
    puts_to(w, arn, 2, CS_OK, NULL); /* the ARN is the name that counts */
    called(w, "DescribeSecret {\"SecretId\":\"arn:aws:x:y\"}\nPutSecretValue {\"SecretId\":\"arn:x\"}\n");
    answers(w, DESCRIBE(400, MISSING), NOTHING);
    puts_to(w, all, 3, CS_OK, NULL);
    called(w, "DescribeSecret {\"SecretId\":\"n\\u003c\"}\nCreateSecret "
              "{\"Name\":\"n\\u003c\",\"KmsKeyId\":\"k\\\"\","
              "\"Tags\":[{\"Key\":\"spire-svid\",\"Value\":\"true\"}]}\n");
    answers(w, NOTHING, NOTHING);
    puts_to(w, key, 1, CS_INVALID, "either the secret name or ARN is required");
    puts_to(w, empty, 1, CS_INVALID, "either the secret name or ARN is required");
    puts_to(w, bare, 1, CS_INVALID,
            "failed to parse Metadata: metadata does not contain a colon: \"secretname\"");
    removes(w, key, 1, CS_INVALID, "either the secret name or ARN is required");
    called(w, "");
}

static void put_ways(void **state)
{
    struct world *w = *state;
    const char *const m[] = {"secretname:n"}, *const arn[] = {"arn:a"};
    answers(w, DESCRIBE(200, TAGGED ",\"DeletedDate\":1.5e9}"), NOTHING);
    puts_to(w, m, 1, CS_OK, NULL);
    called(w, "DescribeSecret {\"SecretId\":\"n\"}\nRestoreSecret {\"SecretId\":\"n\"}\nPutSecretValue "
              "{\"SecretId\":\"arn:x\"}\n");
    answers(w, DESCRIBE(200, TAGGED ",\"DeletedDate\":null}"), NOTHING);
    puts_to(w, m, 1, CS_OK, NULL);
    called(w, "DescribeSecret {\"SecretId\":\"n\"}\nPutSecretValue {\"SecretId\":\"arn:x\"}\n");
    answers(w, DESCRIBE(400, MISSING), NOTHING);
    puts_to(w, arn, 1, CS_INVALID, "failed to create secret: name selector is required");
    const char *const others[] = {"{\"ARN\":\"arn:x\"}", "{\"Tags\":[]}", "{\"Tags\":7}",
                                  "{\"Tags\":[{\"Key\":\"spire-svid\",\"Value\":\"false\"},{},7]}"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        answers(w, DESCRIBE(200, others[i]), NOTHING);
        puts_to(w, m, 1, CS_INVALID, "secret does not contain the 'spire-svid' tag");
        removes(w, m, 1, CS_INVALID, "secret does not contain the 'spire-svid' tag");
        called(w, "DescribeSecret {\"SecretId\":\"n\"}\nDescribeSecret {\"SecretId\":\"n\"}\n");
    }
    answers(w, DESCRIBE(200, "{\"Tags\":[{\"Key\":\"spire-svid\",\"Value\":\"true\"}]}"), NOTHING);
    puts_to(w, m, 1, CS_INTERNAL, "failed to put secret value: the description has no ARN");
}

#define SAID(action)                                                                                         \
    "operation error Secrets Manager: " action ", https response error StatusCode: 400, RequestID: 1, "
static void refusals(void **state)
{
    struct world *w = *state;
    const char *const m[] = {"secretname:n"};
    answers(w, DESCRIBE(400, DENIED), NOTHING);
    puts_to(w, m, 1, CS_INTERNAL,
            "failed to describe secret: " SAID("DescribeSecret") "api error AccessDeniedException: no");
    answers(w, DESCRIBE(400, MISSING), (struct answer){"CreateSecret", 400, DENIED});
    puts_to(w, m, 1, CS_INTERNAL,
            "failed to create secret: " SAID("CreateSecret") "api error AccessDeniedException: no");
    answers(w, DESCRIBE(400, MISSING), (struct answer){"CreateSecret", 400, MISSING}); /* of its KMS key */
    puts_to(w, m, 1, CS_INTERNAL,
            "failed to create secret: " SAID("CreateSecret") "ResourceNotFoundException: gone");
    answers(w, DESCRIBE(200, TAGGED "}"), (struct answer){"PutSecretValue", 400, DENIED});
    puts_to(w, m, 1, CS_INTERNAL,
            "failed to put secret value: " SAID("PutSecretValue") "api error AccessDeniedException: no");
    answers(w, DESCRIBE(200, TAGGED ",\"DeletedDate\":1}"), (struct answer){"RestoreSecret", 400, DENIED});
    puts_to(w, m, 1, CS_INTERNAL,
            "failed to restore secret \"n\": " SAID("RestoreSecret") "api error AccessDeniedException: no");
    answers(w, DESCRIBE(200, TAGGED "}"), (struct answer){"DeleteSecret", 400, DENIED});
    removes(w, m, 1, CS_INTERNAL,
            "failed to delete secret \"n\": " SAID("DeleteSecret") "api error AccessDeniedException: no");
    answers(w, DESCRIBE(200, "nonsense"), NOTHING);
    puts_to(w, m, 1, CS_INTERNAL,
            "failed to describe secret: operation error Secrets Manager: DescribeSecret, the answer is no "
            "JSON object");
}

static void removals(void **state)
{
    struct world *w = *state;
    const char *const m[] = {"secretname:n"};
    answers(w, DESCRIBE(200, TAGGED ",\"DeletedDate\":1}"), NOTHING); /* already */
    removes(w, m, 1, CS_OK, NULL);
    called(w, "DescribeSecret {\"SecretId\":\"n\"}\n");
    answers(w, DESCRIBE(200, TAGGED "}"), (struct answer){"DeleteSecret", 400, MISSING});
    removes(w, m, 1, CS_INTERNAL,
            "failed to delete secret \"n\": " SAID("DeleteSecret") "ResourceNotFoundException: gone");
    called(w, "DescribeSecret {\"SecretId\":\"n\"}\nDeleteSecret "
              "{\"SecretId\":\"arn:x\",\"RecoveryWindowInDays\":7}\n");
    answers(w, DESCRIBE(200, TAGGED "}"), NOTHING);
    removes(w, m, 1, CS_OK, NULL);
    called(w, "DescribeSecret {\"SecretId\":\"n\"}\nDeleteSecret "
              "{\"SecretId\":\"arn:x\",\"RecoveryWindowInDays\":7}\n");
    answers(w, DESCRIBE(400, MISSING), NOTHING);
    removes(w, m, 1, CS_OK, NULL);
    called(w, "DescribeSecret {\"SecretId\":\"n\"}\n");
}

static void configurations(void **state)
{
    struct world *w = *state;
    struct cs_err e;
    const char *const m[] = {"secretname:n"};
    assert_int_equal(configure(w, "access_key_id = \"A\"", &e), CS_INVALID);
    assert_string_equal(e.text, "region is required");
    setenv("AWS_PROFILE", "none", 1);
    assert_int_equal(configure(w, "region = \"r\"", &e), CS_INTERNAL);
    assert_string_equal(e.text,
                        "failed to create secrets manager client: failed to get shared config profile, none");
    unsetenv("AWS_PROFILE");
    /* what was refused left the old one in place */
    answers(w, DESCRIBE(400, MISSING), NOTHING);
    puts_to(w, m, 1, CS_OK, NULL);
    assert_int_equal(configure(w, "region = \"r\"", &e), CS_OK);
    puts_to(w, m, 1, CS_INTERNAL,
            "failed to describe secret: operation error Secrets Manager: DescribeSecret, get identity: get "
            "credentials: failed "
            "to refresh cached credentials, no EC2 IMDS role found, operation error ec2imds: GetMetadata, "
            "access disabled to "
            "EC2 IMDS via client option, or \"AWS_EC2_METADATA_DISABLED\" environment variable");
}

/* Whatever allocation fails, a secret that is there is never made anew, and the call can be made again. */
static void no_memory(void **state)
{
    struct world *w = *state;
    const char *const m[] = {"secretname:n", "kmskeyid:k"};
    size_t n = 0;
    for (cs_code rc = CS_INTERNAL; rc != CS_OK; n++) {
        answers(w, DESCRIBE(200, TAGGED ",\"DeletedDate\":1}"), NOTHING);
        cs_mem_fail_at(n + 1, false);
        rc = w->ops->put(w->self, &w->svid, m, 2, NULL);
        cs_mem_fail_at(0, false);
        pthread_mutex_lock(&w->lock);
        assert_null(strstr(cs_buf_cstr(&w->calls), "CreateSecret"));
        pthread_mutex_unlock(&w->lock);
    }
    called(w, "DescribeSecret {\"SecretId\":\"n\"}\nRestoreSecret {\"SecretId\":\"n\"}\nPutSecretValue "
              "{\"SecretId\":\"arn:x\"}\n");
    assert_true(n > 10);
    n = 0;
    for (cs_code rc = CS_INTERNAL; rc != CS_OK; n++) {
        answers(w, DESCRIBE(400, MISSING), NOTHING);
        cs_mem_fail_at(n + 1, false);
        rc = w->ops->put(w->self, &w->svid, m, 2, NULL);
        cs_mem_fail_at(0, false);
    }
    n = 0;
    for (cs_code rc = CS_INTERNAL; rc != CS_OK; n++) {
        answers(w, DESCRIBE(200, TAGGED "}"), NOTHING);
        cs_mem_fail_at(n + 1, false);
        rc = w->ops->remove(w->self, m, 2, NULL);
        cs_mem_fail_at(0, false);
    }
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(selectors), TEST(put_ways),       TEST(refusals),
        TEST(removals),  TEST(configurations), TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
