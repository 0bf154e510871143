/* SPDX-License-Identifier: Apache-2.0
 *
 * Secrets Manager's API: JSON 1.1 over POST, the action in a header, signed (its API reference).
 */
#include "base/mem.h"
#include "plugins/modules/aws/aws.h"

#include <stdlib.h>

cs_code aws_new(const char *region, const char *id, const char *secret, const struct crypto_stop *stop,
                const struct cs_clock *clock, struct aws **out, struct cs_err *e)
{
    const struct http_client_options outside = {.proxy_from_env = true}, near = {0};
    *out = NULL;
    CS_AUTO(aws) a = cs_calloc(1, sizeof *a);
    if (a == NULL)
        return cs_nomem(e);
    a->stop = stop;
    a->clock = clock;
    a->region = cs_strdup(region);
    a->id = *id != '\0' ? cs_strdup(id) : NULL;
    a->secret = *secret != '\0' ? cs_strdup(secret) : NULL;
    if (a->region == NULL || (*id != '\0' && a->id == NULL) || (*secret != '\0' && a->secret == NULL))
        return cs_nomem(e);
    CS_TRY(http_client_new(&outside, &a->client, e));
    CS_TRY(http_client_new(&near, &a->metadata, e));
    *out = CS_MOVE(a);
    return CS_OK;
}

void aws_free(struct aws *a)
{
    if (a == NULL)
        return;
    struct aws_credentials own = {.id = a->id, .secret = a->secret};
    aws_credentials_free(&own);
    aws_credentials_free(&a->found);
    http_client_free(a->client);
    http_client_free(a->metadata);
    cs_free(a->region);
    cs_free(a);
}

cs_code aws_endpoint(const struct aws *a, const char *service, const char *name, struct cs_buf *out,
                     struct cs_err *e)
{
    CS_CLEANUP(cs_freep) char *variable = cs_asprintf("AWS_ENDPOINT_URL_%s", name);
    if (variable == NULL)
        return cs_nomem(e);
    const char *given = getenv(variable);
    if (given == NULL || *given == '\0')
        given = getenv("AWS_ENDPOINT_URL");
    if (given != NULL && *given != '\0')
        cs_buf_printf(out, "%s%s", given, given[strlen(given) - 1] == '/' ? "" : "/");
    else
        cs_buf_printf(out, "https://%s.%s.amazonaws.com%s/", service, a->region,
                      strncmp(a->region, "cn-", 3) == 0 ? ".cn" : "");
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* {"__type": "...#ResourceNotFoundException", "Message": "..."} */
static cs_code refusal(const struct http_response *r, const json_t *answer, struct cs_err *e)
{
    const char *type = json_string_value(json_object_get(answer, "__type"));
    const char *text = json_string_value(json_object_get(answer, "Message"));
    if (text == NULL)
        text = json_string_value(json_object_get(answer, "message"));
    if (type == NULL)
        return cs_fail(e, r->status >= 500 ? CS_UNAVAILABLE : CS_INTERNAL, "status %d", r->status);
    const char *hash = strrchr(type, '#');
    type = hash != NULL ? hash + 1 : type;
    const cs_code code = strcmp(type, "ResourceNotFoundException") == 0 ? CS_NOT_FOUND
                         : r->status >= 500                             ? CS_UNAVAILABLE
                                                                        : CS_INTERNAL;
    return cs_fail(e, code, "%.64s: %.256s", type, text != NULL ? text : "");
}

cs_code aws_secrets_call(struct aws *a, const char *action, struct cs_slice body, json_t **answer,
                         struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    CS_CLEANUP(cs_freep) char *target = cs_asprintf("secretsmanager.%s", action);
    struct http_sigv4 sign;
    const char *token;
    *answer = NULL;
    if (target == NULL)
        return cs_nomem(e);
    CS_TRY(aws_credentials(a, &sign, &token, e));
    CS_TRY(aws_endpoint(a, "secretsmanager", "SECRETS_MANAGER", &url, e));
    sign.service = "secretsmanager";
    const char *slashes = strstr(cs_buf_cstr(&url), "://");
    CS_CLEANUP(cs_freep)
    char *host = slashes != NULL ? cs_strndup(slashes + 3, strcspn(slashes + 3, "/")) : NULL;
    if (host == NULL)
        return cs_fail(e, CS_INVALID, "\"%.256s\" is no URL", cs_buf_cstr(&url));
    /* Host: with its port, which libcurl 7 leaves out of what it signs */
    const struct http_header headers[] = {{"Host", host},
                                          {"Content-Type", "application/x-amz-json-1.1"},
                                          {"X-Amz-Target", target},
                                          {"X-Amz-Security-Token", token}};
    const struct http_request q = {.method = "POST",
                                   .url = cs_buf_cstr(&url),
                                   .headers = headers,
                                   .header_count = token != NULL ? 4 : 3,
                                   .body = body,
                                   .stop = a->stop,
                                   .sigv4 = &sign};
    CS_TRY(http_call(a->client, &q, &r, e));
    CS_CLEANUP(aws_json_drop) json_t *j = json_loadb((const char *)r.body.data, r.body.len, 0, NULL);
    if (r.status != 200)
        return refusal(&r, j, e);
    if (!json_is_object(j))
        return cs_fail(e, CS_INTERNAL, "the answer is no JSON object");
    *answer = CS_MOVE(j);
    return CS_OK;
}
