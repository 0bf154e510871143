/* SPDX-License-Identifier: Apache-2.0
 *
 * The Security Token Service: roles, assumed by a token or with credentials (its API reference, version
 * 2011-06-15).
 */
#include "base/file.h"
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

/* The SDK has a type for these, and says "api error" with the others. */
static bool is_modelled(const char *code)
{
    static const char *const known[] = {
        "ExpiredTokenException",   "IDPCommunicationError", "IDPRejectedClaim",       "InvalidIdentityToken",
        "MalformedPolicyDocument", "PackedPolicyTooLarge",  "RegionDisabledException"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(code, known[i]) == 0)
            return true;
    return false;
}

enum { KEY_ID, KEY_SECRET, TOKEN, EXPIRATION, CODE, MESSAGE, REQUEST, TEXTS };

static cs_code refusal(int status, const struct aws_xml_text *t, struct cs_err *e)
{
    const char *code = t[CODE].text != NULL ? t[CODE].text : "UnknownError";
    return cs_fail(e, status >= 500 ? CS_UNAVAILABLE : CS_INTERNAL,
                   "https response error StatusCode: %d, RequestID: %.64s, %s%.64s: %.256s", status,
                   t[REQUEST].text != NULL ? t[REQUEST].text : "", is_modelled(code) ? "" : "api error ",
                   code, t[MESSAGE].text != NULL ? t[MESSAGE].text : "UnknownError");
}

cs_code aws_sts_read(int status, struct cs_slice xml, struct aws_credentials *out, struct cs_err *e)
{
    struct aws_xml_text t[TEXTS] = {
        [KEY_ID] = {"AccessKeyId", NULL}, [KEY_SECRET] = {"SecretAccessKey", NULL},
        [TOKEN] = {"SessionToken", NULL}, [EXPIRATION] = {"Expiration", NULL},
        [CODE] = {"Code", NULL},          [MESSAGE] = {"Message", NULL},
        [REQUEST] = {"RequestId", NULL}};
    cs_code rc = aws_xml_texts(xml, t, TEXTS, e);
    if (status != 200) {
        rc = refusal(status, t, e);
    } else if (rc == CS_OK && (t[TOKEN].text == NULL || t[EXPIRATION].text == NULL)) { /* always there */
        rc = cs_fail(e, CS_INTERNAL, "there are no credentials in it");
    } else if (rc == CS_OK) {
        CS_CLEANUP(aws_credentials_free)
        struct aws_credentials x = {CS_MOVE(t[KEY_ID].text), CS_MOVE(t[KEY_SECRET].text),
                                    CS_MOVE(t[TOKEN].text), 0};
        rc = aws_credentials_take(&x, t[EXPIRATION].text, out, e);
    }
    aws_xml_free(t, TEXTS);
    return rc;
}

static void add(struct cs_buf *b, const char *key, struct cs_slice value)
{
    cs_buf_printf(b, "&%s=", key);
    http_escape(b, value);
}

static cs_code send(struct aws_chain *c, const struct cs_buf *body, const struct aws_credentials *with,
                    struct aws_credentials *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    if (!cs_buf_ok(body))
        return cs_nomem(e);
    CS_TRY(aws_endpoint(c->region, "sts", "STS", &url, e));
    const struct http_header type = {"Content-Type", "application/x-www-form-urlencoded"};
    const struct aws_post p = {.url = cs_buf_cstr(&url),
                               .region = c->region,
                               .service = "sts",
                               .credentials = with,
                               .headers = &type,
                               .header_count = 1,
                               .body = cs_buf_slice(body),
                               .stop = c->stop};
    CS_TRY(aws_post(c->http, &p, &r, e));
    return aws_sts_read(r.status, cs_buf_slice(&r.body), out, e);
}

static cs_code call(struct aws_chain *c, const char *action, const struct cs_buf *body,
                    const struct aws_credentials *with, struct aws_credentials *out, struct cs_err *e)
{
    struct cs_err why;
    const cs_code rc = send(c, body, with, out, &why);
    return rc == CS_OK ? rc : cs_fail(e, rc, "operation error STS: %s, %s", action, why.text);
}

/* Up to the session's name, which tells whoever reads the account's log who it was. */
static void begin(struct cs_buf *b, const char *action, const struct aws_role *r)
{
    cs_buf_printf(b, "Action=%s&Version=2011-06-15", action);
    add(b, "RoleArn", cs_slice_str(r->arn));
    add(b, "RoleSessionName", cs_slice_str(r->session != NULL ? r->session : "spire-agent"));
}

cs_code aws_ask_role(struct aws_chain *c, const struct aws_role *r, const struct aws_credentials *with,
                     struct aws_credentials *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf body = {0};
    begin(&body, "AssumeRole", r);
    cs_buf_printf(&body, "&DurationSeconds=%lld", (long long)r->seconds);
    if (r->external_id != NULL)
        add(&body, "ExternalId", cs_slice_str(r->external_id));
    return call(c, "AssumeRole", &body, with, out, e);
}

cs_code aws_ask_web_identity(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf token = {0}, body = {0};
    const char *path = c->plan.token_file;
    struct cs_err why;
    if (!cs_buf_reserve(&token, AWS_TOKEN_MAX + 1))
        return cs_nomem(e);
    const cs_code rc = cs_file_read(path, AWS_TOKEN_MAX, &token, &why);
    if (rc != CS_OK)
        return cs_fail(e, rc == CS_NOT_FOUND ? CS_PRECONDITION : rc,
                       "failed to retrieve jwt from provide source, unable to read file at %s: %s", path,
                       why.text);
    while (token.len > 0 && (token.data[token.len - 1] == '\n' || token.data[token.len - 1] == '\r'))
        token.len--;
    if (!cs_buf_reserve(&body, token.len * 3 + 8192))
        return cs_nomem(e);
    begin(&body, "AssumeRoleWithWebIdentity", &c->plan.web);
    add(&body, "WebIdentityToken", cs_buf_slice(&token));
    const cs_code asked = call(c, "AssumeRoleWithWebIdentity", &body, NULL, out, &why);
    return asked == CS_OK ? CS_OK : cs_fail(e, asked, "failed to retrieve credentials, %s", why.text);
}
