/* SPDX-License-Identifier: Apache-2.0
 *
 * What AWS answers: XML of STS, JSON of Secrets Manager and of the endpoints of credentials.
 */
#include "base/mem.h"
#include "plugins/modules/aws/aws.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* --- XML --- */

static void texts(const char *xml, const char *a, const char *b)
{
    struct aws_xml_text t[] = {{"a", NULL}, {"b", NULL}};
    struct cs_err e;
    if (aws_xml_texts(cs_slice_str(xml), t, 2, &e) != CS_OK)
        fail_msg("%s: %s", xml, e.text);
    for (int i = 0; i < 2; i++) {
        const char *want = i == 0 ? a : b;
        if (want == NULL)
            assert_null(t[i].text);
        else
            assert_string_equal(t[i].text, want);
    }
    aws_xml_free(t, 2);
}

static void test_xml(void **state)
{
    (void)state;
    texts("<?xml version=\"1.0\"?>\n<x xmlns=\"u\"><y><a>1</a></y><b>2</b></x>\n", "1", "2");
    texts("<x><a/><b></b></x>", "", "");
    texts("<x><a >1</a ><a>2</a></x>", "1", NULL); /* the first one */
    texts("<x><a><!-- <b>no</b> -->1<![CDATA[<&]]>2</a></x>", "1<&2", NULL);
    texts("<a>&lt;&gt;&amp;&quot;&apos;&#43;&#x2B;&#xe9;&#8364;&#x1F511;</a>",
          "<>&\"'++\xc3\xa9\xe2\x82\xac\xf0\x9f\x94\x91", NULL);
    texts("<x v='>' w=\"/>\"><a v='/'>1</a></x>", "1", NULL);
    texts("<x>&nonsense; outside is not looked at</x>", NULL, NULL);
    texts("<x><A>1</A><aa>2</aa></x>", NULL, NULL);
}

static void test_no_xml(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "text",
        "<",
        "<a",
        "<a>",
        "<a></b>",
        "</a>",
        "<a><b>1</a></b>",
        "<a><b/></a>",
        "<!DOCTYPE a><a/>",
        "<a>&no;</a>",
        "<a>&#0;</a>",
        "<a>&#xd800;</a>",
        "<a>&#x110000;</a>",
        "<a>&#1",
        "<a>&#;</a>",
        "<a>&#x;</a>",
        "<a>&#99999999999;</a>",
        "<>1</>",
        "< a>1</ a>",
        "<x><!-- </x>",
        "<a><![CDATA[</a>",
        "<?xml",
        "<x v='></x>",
        "<x <a>1</a></x>",
        "<a>1</a><b>",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct aws_xml_text t[] = {{"a", NULL}, {"b", NULL}};
        struct cs_err e = {0};
        if (aws_xml_texts(cs_slice_str(bad[i]), t, 2, &e) != CS_INVALID)
            fail_msg("taken: %s", bad[i]);
        assert_null(t[0].text);
        assert_null(t[1].text);
        assert_int_not_equal(e.text[0], 0);
    }
    struct aws_xml_text t = {"a", NULL};
    assert_int_equal(aws_xml_texts(cs_slice_of("<a>1\0002</a>", 10), &t, 1, NULL), CS_INVALID);
}

static void test_xml_limits(void **state)
{
    (void)state;
    struct aws_xml_text t = {"a", NULL};
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    for (int i = 0; i < AWS_XML_DEPTH; i++)
        cs_buf_add_str(&b, "<x>");
    const size_t deep = b.len;
    for (int i = 0; i < AWS_XML_DEPTH; i++)
        cs_buf_add_str(&b, "</x>");
    assert_int_equal(aws_xml_texts(cs_buf_slice(&b), &t, 1, NULL), CS_OK);
    b.len = deep;
    cs_buf_add_str(&b, "<x>");
    assert_int_equal(aws_xml_texts(cs_buf_slice(&b), &t, 1, NULL), CS_EXHAUSTED);
    for (size_t most = AWS_XML_TEXT_MAX; most <= AWS_XML_TEXT_MAX + 1; most++) {
        cs_buf_reset(&b);
        cs_buf_add_str(&b, "<a>");
        for (size_t i = 0; i < most; i++)
            cs_buf_add_byte(&b, 'x');
        cs_buf_add_str(&b, "</a>");
        assert_int_equal(aws_xml_texts(cs_buf_slice(&b), &t, 1, NULL),
                         most == AWS_XML_TEXT_MAX ? CS_OK : CS_EXHAUSTED);
        aws_xml_free(&t, 1);
    }
}

/* --- STS --- */

/* As in the API reference. */
#define ROLE                                                                                                 \
    "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n<AssumeRoleResult>\n"         \
    "<SourceIdentity>Alice</SourceIdentity>\n<AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/"  \
    "demo/TestAR</Arn><AssumedRoleId>ARO123EXAMPLE123:TestAR</AssumedRoleId></AssumedRoleUser>\n"            \
    "<Credentials><AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>wJalr/XUtn+FEMI="          \
    "</SecretAccessKey><SessionToken>AQoDYXdzEPT&#43;/==</SessionToken><Expiration>2019-11-09T13:34:41Z"     \
    "</Expiration></Credentials>\n<PackedPolicySize>6</PackedPolicySize></AssumeRoleResult>\n"               \
    "<ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata>"       \
    "</AssumeRoleResponse>"

static void sts_refused(int status, const char *xml, cs_code code, const char *why)
{
    struct aws_credentials c = {0};
    struct cs_err e = {0};
    assert_int_equal(aws_sts_read(status, cs_slice_str(xml), &c, &e), code);
    assert_string_equal(e.text, why);
    assert_null(c.id);
    assert_null(c.secret);
}

static void test_sts(void **state)
{
    (void)state;
    struct aws_credentials c = {0};
    struct cs_err e = {0};
    assert_int_equal(aws_sts_read(200, cs_slice_str(ROLE), &c, &e), CS_OK);
    assert_string_equal(c.id, "ASIAIOSFODNN7EXAMPLE");
    assert_string_equal(c.secret, "wJalr/XUtn+FEMI=");
    assert_string_equal(c.token, "AQoDYXdzEPT+/==");
    assert_int_equal(c.expires, 1573306481);
    aws_credentials_free(&c);
    sts_refused(403,
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: x is not"
                " authorized</Message></Error><RequestId>1-2</RequestId></ErrorResponse>",
                CS_INTERNAL,
                "https response error StatusCode: 403, RequestID: 1-2, api error AccessDenied: User: x is not"
                " authorized");
    sts_refused(400, "<E><Code>InvalidIdentityToken</Code><Message>m</Message></E>", CS_INTERNAL,
                "https response error StatusCode: 400, RequestID: , InvalidIdentityToken: m");
    sts_refused(503, "busy", CS_UNAVAILABLE,
                "https response error StatusCode: 503, RequestID: , api error UnknownError: UnknownError");
    sts_refused(200, "<x/>", CS_INVALID, "the answer is no XML that can be read: it ends too early");
    sts_refused(200, "<x><y/></x>", CS_INTERNAL, "there are no credentials in it");
    sts_refused(200,
                "<x><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t"
                "</SessionToken><Expiration>soon</Expiration></x>",
                CS_INTERNAL, "the time of expiry cannot be read");
    /* a header would end here */
    sts_refused(200,
                "<x><AccessKeyId>A&#10;X: y</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t"
                "</SessionToken><Expiration>2019-11-09T13:34:41Z</Expiration></x>",
                CS_INTERNAL, "the credentials have characters in them that credentials do not have");
}

/* --- JSON of endpoints --- */

static void json_refused(bool coded, const char *text, const char *why)
{
    struct aws_credentials c = {0};
    struct cs_err e = {0};
    assert_int_not_equal(aws_json_credentials(cs_slice_str(text), coded, &c, &e), CS_OK);
    assert_string_equal(e.text, why);
    assert_null(c.id);
}

static void test_json(void **state)
{
    (void)state;
    struct aws_credentials c = {0};
    assert_int_equal(aws_json_credentials(cs_slice_str("{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\"}"),
                                          false, &c, NULL),
                     CS_OK);
    assert_string_equal(c.id, "A");
    assert_null(c.token);
    assert_int_equal(c.expires, 0);
    assert_int_equal(
        aws_json_credentials(
            cs_slice_str("{\"Code\":\"success\",\"AccessKeyId\":\"B\",\"SecretAccessKey\":\"s\","
                         "\"Token\":\"t\",\"Expiration\":\"1970-01-01T00:01:00.5Z\",\"More\":[]}"),
            true, &c, NULL),
        CS_OK);
    assert_string_equal(c.id, "B");
    assert_string_equal(c.token, "t");
    assert_int_equal(c.expires, 60);
    aws_credentials_free(&c);
    json_refused(false, "", "the answer is no JSON object");
    json_refused(false, "[]", "the answer is no JSON object");
    json_refused(false, "{\"AccessKeyId\":\"A\"", "the answer is no JSON object");
    json_refused(false, "{\"AccessKeyId\":\"A\"}", "there are no credentials in it");
    json_refused(false, "{\"AccessKeyId\":7,\"SecretAccessKey\":\"s\"}", "there are no credentials in it");
    json_refused(false, "{\"AccessKeyId\":\"\",\"SecretAccessKey\":\"s\"}", "there are no credentials in it");
    json_refused(false, "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Token\":\"a\\r\\nb\"}",
                 "the credentials have characters in them that credentials do not have");
    json_refused(true, "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\"}", "api error : ");
    json_refused(true,
                 "{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"EC2 cannot assume the role x\"}",
                 "api error AssumeRoleUnauthorizedAccess: EC2 cannot assume the role x");
}

/* --- Secrets Manager --- */

static cs_code secret(int status, const char *head, const char *body, json_t **out, struct cs_err *e)
{
    struct http_response r = {.status = status};
    *out = NULL;
    cs_buf_add_str(&r.head, head);
    cs_buf_add_str(&r.body, body);
    const cs_code rc = aws_secrets_read(&r, out, e);
    http_response_free(&r);
    return rc;
}

static void secret_refused(int status, const char *head, const char *body, cs_code code, const char *why)
{
    json_t *j;
    struct cs_err e = {0};
    assert_int_equal(secret(status, head, body, &j, &e), code);
    assert_null(j);
    assert_string_equal(e.text, why);
}

static void test_secrets(void **state)
{
    (void)state;
    json_t *j;
    assert_int_equal(secret(200, "", "{\"ARN\": \"a\"}", &j, NULL), CS_OK);
    assert_string_equal(json_string_value(json_object_get(j, "ARN")), "a");
    aws_json_drop(&j);
    const char *id = "x-amzn-RequestId: 1-2\n";
    secret_refused(
        400, id, "{\"__type\":\"ResourceNotFoundException\",\"Message\":\"Can't find it.\"}", CS_NOT_FOUND,
        "https response error StatusCode: 400, RequestID: 1-2, ResourceNotFoundException: Can't find it.");
    secret_refused(
        400, id, "{\"__type\":\"com.amazonaws.secretsmanager#ResourceNotFoundException\"}", CS_NOT_FOUND,
        "https response error StatusCode: 400, RequestID: 1-2, ResourceNotFoundException: UnknownError");
    secret_refused(400, "x-amzn-errortype: AccessDeniedException:http://internal/\n", "{\"message\":\"m\"}",
                   CS_INTERNAL,
                   "https response error StatusCode: 400, RequestID: , api error AccessDeniedException: m");
    secret_refused(500, id, "{\"__type\":\"InternalServiceError\",\"Message\":\"m\"}", CS_UNAVAILABLE,
                   "https response error StatusCode: 500, RequestID: 1-2, InternalServiceError: m");
    secret_refused(502, "", "<html>", CS_UNAVAILABLE,
                   "https response error StatusCode: 502, RequestID: , api error UnknownError: UnknownError");
    secret_refused(301, "", "", CS_INTERNAL,
                   "https response error StatusCode: 301, RequestID: , api error UnknownError: UnknownError");
    secret_refused(400, "", "{\"__type\":7,\"Message\":[]}", CS_INTERNAL,
                   "https response error StatusCode: 400, RequestID: , api error UnknownError: UnknownError");
    secret_refused(400, "", "{\"__type\":\"#\",\"Message\":\"m\"}", CS_INTERNAL,
                   "https response error StatusCode: 400, RequestID: , api error UnknownError: m");
    secret_refused(200, "", "", CS_INTERNAL, "the answer is no JSON object");
    secret_refused(200, "", "[{}]", CS_INTERNAL, "the answer is no JSON object");
}

/* --- No memory --- */

static void test_no_memory(void **state)
{
    (void)state;
    static const char answer[] = "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Token\":\"t\"}";
    size_t sts = 0, json = 0;
    for (cs_code rc = CS_INTERNAL; rc != CS_OK; sts++) {
        struct aws_credentials c = {0};
        cs_mem_fail_at(sts + 1, false);
        rc = aws_sts_read(200, cs_slice_str(ROLE), &c, NULL);
        cs_mem_fail_at(0, false);
        assert_true(rc == CS_OK || (rc == CS_INTERNAL && c.id == NULL));
        assert_true(rc != CS_OK || c.token != NULL); /* never credentials without their token */
        aws_credentials_free(&c);
    }
    for (cs_code rc = CS_INTERNAL; rc != CS_OK; json++) {
        struct aws_credentials c = {0};
        cs_mem_fail_at(json + 1, false);
        rc = aws_json_credentials(cs_slice_str(answer), false, &c, NULL);
        cs_mem_fail_at(0, false);
        assert_true(rc == CS_OK || (rc == CS_INTERNAL && c.id == NULL));
        assert_true(rc != CS_OK || c.token != NULL);
        aws_credentials_free(&c);
    }
    assert_true(sts > 5 && json > 3); /* something was made to fail */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xml),       cmocka_unit_test(test_no_xml), cmocka_unit_test(test_xml_limits),
        cmocka_unit_test(test_sts),       cmocka_unit_test(test_json),   cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
