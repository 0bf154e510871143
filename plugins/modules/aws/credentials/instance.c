/* SPDX-License-Identifier: Apache-2.0
 *
 * Credentials of an instance's role ("Use IMDSv2" of the EC2 user guide).
 */
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <strings.h>

static cs_code ask(struct aws_chain *c, const char *method, const char *path, struct http_header header,
                   struct http_response *r, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *url = cs_asprintf("%s/latest/%s", c->plan.metadata, path);
    if (url == NULL)
        return cs_nomem(e);
    const struct http_request q = {.method = method,
                                   .url = url,
                                   .headers = &header,
                                   .header_count = 1,
                                   .timeout_ns = AWS_NEAR_NS,
                                   .max_body = AWS_TOKEN_MAX,
                                   .stop = c->stop};
    CS_TRY(http_call(c->near, &q, r, e));
    return r->status == 200 ? CS_OK
                            : cs_fail(e, CS_UNAVAILABLE, "http response error StatusCode: %d, %s %s",
                                      r->status, method, url);
}

static bool is_line(const char *s)
{
    for (; *s != '\0'; s++)
        if (*s < ' ' || *s > '~')
            return false;
    return true;
}

/* The role's name, into the path of its credentials. */
static cs_code find_role(struct aws_chain *c, struct http_header with, struct cs_buf *path, struct cs_err *e)
{
    static const char roles[] = "meta-data/iam/security-credentials/";
    CS_CLEANUP(http_response_free) struct http_response role = {0};
    CS_TRY(ask(c, "GET", roles, with, &role, e));
    const char *name = cs_buf_cstr(&role.body);
    const size_t n = strcspn(name, "\r\n");
    if (n == 0)
        return cs_fail(e, CS_PRECONDITION, "unexpected empty EC2 IMDS role list");
    cs_buf_add_str(path, roles);
    for (size_t i = 0; i < n; i++) /* names of roles may have these, which a path has as they are */
        if (strchr("+=,@", name[i]) != NULL)
            cs_buf_add_byte(path, (uint8_t)name[i]);
        else
            http_escape(path, cs_slice_of(name + i, 1));
    return cs_buf_ok(path) ? CS_OK : cs_nomem(e);
}

static cs_code ask_all(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e)
{
    CS_CLEANUP(http_response_free) struct http_response session = {0}, answer = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf path = {0};
    const char *off = aws_env("AWS_EC2_METADATA_DISABLED");
    if (off != NULL && strcasecmp(off, "true") == 0)
        return cs_fail(e, CS_PRECONDITION,
                       "access disabled to EC2 IMDS via client option, or \"AWS_EC2_METADATA_DISABLED\" "
                       "environment variable");
    CS_TRY(ask(c, "PUT", "api/token", (struct http_header){"X-aws-ec2-metadata-token-ttl-seconds", "300"},
               &session, e));
    const struct http_header with = {"X-aws-ec2-metadata-token", cs_buf_cstr(&session.body)};
    if (!is_line(with.value))
        return cs_fail(e, CS_INTERNAL, "the API token is no line of text");
    CS_TRY(find_role(c, with, &path, e));
    CS_TRY(ask(c, "GET", cs_buf_cstr(&path), with, &answer, e));
    return aws_json_credentials(cs_buf_slice(&answer.body), true, out, e);
}

cs_code aws_ask_instance(struct aws_chain *c, struct aws_credentials *out, struct cs_err *e)
{
    struct cs_err why;
    const cs_code rc = ask_all(c, out, &why);
    return rc == CS_OK
               ? rc
               : cs_fail(e, rc, "no EC2 IMDS role found, operation error ec2imds: GetMetadata, %s", why.text);
}
