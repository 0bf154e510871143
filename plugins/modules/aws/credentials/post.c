/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#define HEADERS_MAX 3

cs_code aws_endpoint(const char *region, const char *service, const char *name, struct cs_buf *out,
                     struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *variable = cs_asprintf("AWS_ENDPOINT_URL_%s", name);
    if (variable == NULL)
        return cs_nomem(e);
    const char *given = aws_env(variable);
    if (given == NULL)
        given = aws_env("AWS_ENDPOINT_URL");
    if (given != NULL)
        cs_buf_printf(out, "%s%s", given, given[strlen(given) - 1] == '/' ? "" : "/");
    else
        cs_buf_printf(out, "https://%s.%s.amazonaws.com%s/", service, region,
                      strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code aws_post(struct http_client *http, const struct aws_post *p, struct http_response *out,
                 struct cs_err *e)
{
    struct http_header headers[HEADERS_MAX + 2];
    struct http_sigv4 sign = {.region = p->region, .service = p->service};
    size_t count = 0;
    const char *slashes = strstr(p->url, "://");
    CS_CLEANUP(cs_freep)
    char *host = slashes != NULL ? cs_strndup(slashes + 3, strcspn(slashes + 3, "/")) : NULL;
    if (slashes == NULL || p->header_count > HEADERS_MAX)
        return cs_fail(e, CS_INVALID, "\"%.256s\" is no URL", p->url);
    if (host == NULL)
        return cs_nomem(e);
    /* with its port, which libcurl 7 leaves out of what it signs */
    headers[count++] = (struct http_header){"Host", host};
    for (size_t i = 0; i < p->header_count; i++)
        headers[count++] = p->headers[i];
    if (p->credentials != NULL) {
        sign.access_key_id = p->credentials->id;
        sign.secret_access_key = p->credentials->secret;
        if (p->credentials->token != NULL)
            headers[count++] = (struct http_header){"X-Amz-Security-Token", p->credentials->token};
    }
    const struct http_request q = {.method = "POST",
                                   .url = p->url,
                                   .headers = headers,
                                   .header_count = count,
                                   .body = p->body,
                                   .stop = p->stop,
                                   .sigv4 = p->credentials != NULL ? &sign : NULL};
    return http_call(http, &q, out, e);
}
