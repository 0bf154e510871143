/* SPDX-License-Identifier: Apache-2.0
 *
 * Where credentials come from. The shapes are AWS's: "Use IMDSv2" of the EC2 user guide,
 * AssumeRoleWithWebIdentity of the STS API reference.
 */
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "plugins/modules/aws/aws.h"

#include <stdlib.h>

#define EARLY_S 300
#define SHORT_NS (5 * CS_NS_PER_S) /* for the metadata service, which is near or not there */
#define TOKEN_FILE_MAX ((size_t)65536)

static void wipe_text(char **s)
{
    if (*s != NULL)
        cs_wipe(*s, strlen(*s));
    cs_free(*s);
    *s = NULL;
}

void aws_credentials_free(struct aws_credentials *c)
{
    wipe_text(&c->id);
    wipe_text(&c->secret);
    wipe_text(&c->token);
    c->expires = 0;
}

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static bool copy(const char *from, size_t len, char **to)
{
    *to = cs_strndup(from, len);
    return *to != NULL;
}

static cs_code take(const char *id, const char *secret, const char *token, const char *expires,
                    struct aws_credentials *out, struct cs_err *e)
{
    if (id == NULL || secret == NULL || *id == '\0' || *secret == '\0')
        return cs_fail(e, CS_INTERNAL, "the answer has no credentials");
    if (expires != NULL && cs_time_parse_rfc3339(cs_slice_str(expires), &out->expires, NULL, NULL) != CS_OK)
        return cs_fail(e, CS_INTERNAL, "the answer's time of expiry cannot be read");
    if (!copy(id, strlen(id), &out->id) || !copy(secret, strlen(secret), &out->secret) ||
        (token != NULL && !copy(token, strlen(token), &out->token)))
        return cs_nomem(e);
    return CS_OK;
}

/* --- Web identity --- */

/* Text of the first <name> of an answer of STS, whose values need no escapes; NULL: none, or no memory. */
static char *element(const char *xml, const char *name)
{
    CS_CLEANUP(cs_freep) char *open = cs_asprintf("<%s>", name);
    const char *at = open != NULL ? strstr(xml, open) : NULL;
    if (at == NULL)
        return NULL;
    at += strlen(open);
    return cs_strndup(at, strcspn(at, "<"));
}

static cs_code take_xml(const char *xml, struct aws_credentials *out, struct cs_err *e)
{
    struct aws_credentials x = {.id = element(xml, "AccessKeyId"),
                                .secret = element(xml, "SecretAccessKey"),
                                .token = element(xml, "SessionToken")};
    CS_CLEANUP(cs_freep) char *expires = element(xml, "Expiration");
    cs_code rc = expires != NULL && x.token != NULL
                     ? take(x.id, x.secret, x.token, expires, out, e)
                     : cs_fail(e, CS_INTERNAL, "the answer has no credentials");
    aws_credentials_free(&x);
    return rc;
}

static cs_code add_form(struct cs_buf *b, const char *key, struct cs_slice value)
{
    cs_buf_printf(b, "&%s=", key);
    http_escape(b, value);
    return cs_buf_ok(b) ? CS_OK : CS_INTERNAL;
}

static cs_code assume_role(struct aws *a, struct cs_slice token, struct aws_credentials *out,
                           struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf body = {0};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    const char *name = env("AWS_ROLE_SESSION_NAME");
    if (!cs_buf_reserve(&body, token.len * 3 + 4096))
        return cs_nomem(e);
    cs_buf_add_str(&body, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15");
    if (add_form(&body, "RoleArn", cs_slice_str(env("AWS_ROLE_ARN"))) != CS_OK ||
        add_form(&body, "RoleSessionName", cs_slice_str(name != NULL ? name : "spire-agent")) != CS_OK ||
        add_form(&body, "WebIdentityToken", token) != CS_OK)
        return cs_nomem(e);
    CS_TRY(aws_endpoint(a, "sts", "STS", &url, e));
    const struct http_header type = {"Content-Type", "application/x-www-form-urlencoded"};
    const struct http_request q = {.method = "POST",
                                   .url = cs_buf_cstr(&url),
                                   .headers = &type,
                                   .header_count = 1,
                                   .body = cs_buf_slice(&body),
                                   .stop = a->stop};
    CS_TRY(http_call(a->client, &q, &r, e));
    if (r.status == 200)
        return take_xml(cs_buf_cstr(&r.body), out, e);
    CS_CLEANUP(cs_freep) char *code = element(cs_buf_cstr(&r.body), "Code");
    return cs_fail(e, r.status >= 500 ? CS_UNAVAILABLE : CS_INTERNAL,
                   "AssumeRoleWithWebIdentity: status %d, %.64s", r.status, code != NULL ? code : "no code");
}

static cs_code by_web_identity(struct aws *a, struct aws_credentials *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf token = {0};
    if (env("AWS_ROLE_ARN") == NULL)
        return cs_fail(e, CS_INVALID, "AWS_WEB_IDENTITY_TOKEN_FILE is set, AWS_ROLE_ARN is not");
    CS_TRY(cs_file_read(env("AWS_WEB_IDENTITY_TOKEN_FILE"), TOKEN_FILE_MAX, &token, e));
    while (token.len > 0 && (token.data[token.len - 1] == '\n' || token.data[token.len - 1] == '\r'))
        token.len--;
    return assume_role(a, cs_buf_slice(&token), out, e);
}

/* --- Metadata of the instance --- */

static cs_code ask(struct aws *a, const char *method, const char *path, struct http_header header,
                   struct http_response *r, struct cs_err *e)
{
    const char *base = env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    CS_CLEANUP(cs_freep)
    char *url = cs_asprintf("%s/latest/%s", base != NULL ? base : "http://169.254.169.254", path);
    if (url == NULL)
        return cs_nomem(e);
    const struct http_request q = {.method = method,
                                   .url = url,
                                   .headers = &header,
                                   .header_count = 1,
                                   .timeout_ns = SHORT_NS,
                                   .max_body = 65536,
                                   .stop = a->stop};
    CS_TRY(http_call(a->metadata, &q, r, e));
    return r->status == 200 ? CS_OK : cs_fail(e, CS_UNAVAILABLE, "%s %s: status %d", method, url, r->status);
}

static cs_code take_json(struct cs_slice text, struct aws_credentials *out, struct cs_err *e)
{
    CS_CLEANUP(aws_json_drop) json_t *j = json_loadb((const char *)text.data, text.len, 0, NULL);
    return take(json_string_value(json_object_get(j, "AccessKeyId")),
                json_string_value(json_object_get(j, "SecretAccessKey")),
                json_string_value(json_object_get(j, "Token")),
                json_string_value(json_object_get(j, "Expiration")), out, e);
}

static cs_code by_metadata(struct aws *a, struct aws_credentials *out, struct cs_err *e)
{
    static const char roles[] = "meta-data/iam/security-credentials/";
    CS_CLEANUP(http_response_free) struct http_response session = {0}, role = {0}, answer = {0};
    const char *off = env("AWS_EC2_METADATA_DISABLED");
    if (off != NULL && strcmp(off, "true") == 0)
        return cs_fail(e, CS_INTERNAL, "there are no AWS credentials");
    CS_TRY(ask(a, "PUT", "api/token", (struct http_header){"X-aws-ec2-metadata-token-ttl-seconds", "300"},
               &session, e));
    const struct http_header with = {"X-aws-ec2-metadata-token", cs_buf_cstr(&session.body)};
    CS_TRY(ask(a, "GET", roles, with, &role, e));
    const char *name = cs_buf_cstr(&role.body);
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    cs_buf_add_str(&path, roles);
    http_escape(&path, cs_slice_of(name, strcspn(name, "\r\n")));
    if (!cs_buf_ok(&path))
        return cs_nomem(e);
    CS_TRY(ask(a, "GET", cs_buf_cstr(&path), with, &answer, e));
    return take_json(cs_buf_slice(&answer.body), out, e);
}

/* --- All of them --- */

static cs_code find(struct aws *a, struct cs_err *e)
{
    struct aws_credentials fresh = {0};
    if (a->found.id != NULL && (a->found.expires == 0 || a->found.expires - EARLY_S > cs_now_s(a->clock)))
        return CS_OK;
    cs_code rc = env("AWS_WEB_IDENTITY_TOKEN_FILE") != NULL ? by_web_identity(a, &fresh, e)
                                                            : by_metadata(a, &fresh, e);
    if (rc != CS_OK) {
        aws_credentials_free(&fresh);
        return cs_wrap(e, "no AWS credentials");
    }
    aws_credentials_free(&a->found);
    a->found = fresh;
    return CS_OK;
}

cs_code aws_credentials(struct aws *a, struct http_sigv4 *out, const char **token, struct cs_err *e)
{
    const char *id = a->id != NULL ? a->id : env("AWS_ACCESS_KEY_ID");
    const char *secret = a->secret != NULL ? a->secret : env("AWS_SECRET_ACCESS_KEY");
    /* a session's token belongs to both of its keys */
    *token = a->id == NULL && a->secret == NULL ? env("AWS_SESSION_TOKEN") : NULL;
    if (id == NULL || secret == NULL) {
        CS_TRY(find(a, e));
        id = a->found.id;
        secret = a->found.secret;
        *token = a->found.token;
    }
    *out = (struct http_sigv4){.region = a->region, .access_key_id = id, .secret_access_key = secret};
    return CS_OK;
}
