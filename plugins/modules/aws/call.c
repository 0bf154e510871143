/* SPDX-License-Identifier: Apache-2.0
 *
 * Secrets Manager's API: JSON 1.1 over POST, the action in a header, signed (its API reference).
 */
#include "base/mem.h"
#include "plugins/modules/aws/aws.h"

#include <stdlib.h>

cs_code aws_new(const char *region, const char *id, const char *secret, const struct crypto_stop *stop,
                const struct cs_clock *clock, const struct cs_log *log, struct aws **out, struct cs_err *e)
{
    const char *bundle = getenv("AWS_CA_BUNDLE");
    const struct http_client_options outside = {.proxy_from_env = true,
                                                .ca_file = bundle != NULL && *bundle != '\0' ? bundle : NULL};
    *out = NULL;
    CS_AUTO(aws) a = cs_calloc(1, sizeof *a);
    if (a == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&a->lock, NULL); /* cannot fail without attributes on Linux */
    a->stop = stop;
    a->region = cs_strdup(region);
    if (a->region == NULL)
        return cs_nomem(e);
    CS_TRY(http_client_new(&outside, &a->client, e));
    const struct aws_chain_options o = {region, id, secret, a->client, stop, clock, log};
    CS_TRY(aws_chain_new(&o, &a->chain, e));
    *out = CS_MOVE(a);
    return CS_OK;
}

void aws_free(struct aws *a)
{
    if (a == NULL)
        return;
    aws_chain_free(a->chain);
    http_client_free(a->client);
    pthread_mutex_destroy(&a->lock);
    cs_free(a->region);
    cs_free(a);
}

/* The SDK has a type for these, and says "api error" with the others. */
static bool is_modelled(struct cs_slice type)
{
    static const char *const known[] = {"DecryptionFailure",
                                        "EncryptionFailure",
                                        "InternalServiceError",
                                        "InvalidParameterException",
                                        "InvalidRequestException",
                                        "LimitExceededException",
                                        "MalformedPolicyDocumentException",
                                        "PreconditionNotMetException",
                                        "ResourceExistsException",
                                        "ResourceNotFoundException"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (cs_slice_is(type, known[i]))
            return true;
    return false;
}

/* "com.amazonaws...#ResourceNotFoundException:http://...": what is between the two signs. */
static struct cs_slice bare_type(struct cs_slice s)
{
    const uint8_t *hash = s.len > 0 ? memchr(s.data, '#', s.len) : NULL;
    if (hash != NULL)
        s = cs_slice_of(hash + 1, s.len - (size_t)(hash + 1 - s.data));
    const uint8_t *colon = s.len > 0 ? memchr(s.data, ':', s.len) : NULL;
    return colon != NULL ? cs_slice_of(s.data, (size_t)(colon - s.data)) : s;
}

static int shown(struct cs_slice s, size_t most)
{
    return (int)(s.len < most ? s.len : most);
}

/* {"__type": "...#ResourceNotFoundException", "Message": "..."}, the type in a header, too */
static cs_code refusal(const struct http_response *r, const json_t *answer, struct cs_err *e)
{
    struct cs_slice type, id;
    const char *text = json_string_value(json_object_get(answer, "Message"));
    const char *in_body = json_string_value(json_object_get(answer, "__type"));
    if (text == NULL)
        text = json_string_value(json_object_get(answer, "message"));
    if (!http_response_header(r, "x-amzn-errortype", &type) && in_body != NULL)
        type = cs_slice_str(in_body);
    type = bare_type(type);
    if (type.len == 0)
        type = cs_slice_str("UnknownError");
    (void)http_response_header(r, "x-amzn-requestid", &id);
    const cs_code code = cs_slice_is(type, "ResourceNotFoundException") ? CS_NOT_FOUND
                         : r->status >= 500                             ? CS_UNAVAILABLE
                                                                        : CS_INTERNAL;
    return cs_fail(e, code, "https response error StatusCode: %d, RequestID: %.*s, %s%.*s: %.256s", r->status,
                   shown(id, 64), (const char *)id.data, is_modelled(type) ? "" : "api error ",
                   shown(type, 64), (const char *)type.data, text != NULL ? text : "UnknownError");
}

cs_code aws_secrets_read(const struct http_response *r, json_t **answer, struct cs_err *e)
{
    *answer = NULL;
    CS_CLEANUP(aws_json_drop) json_t *j = json_loadb((const char *)r->body.data, r->body.len, 0, NULL);
    if (r->status != 200)
        return refusal(r, j, e);
    if (!json_is_object(j))
        return cs_fail(e, CS_INTERNAL, "the answer is no JSON object");
    *answer = CS_MOVE(j);
    return CS_OK;
}

static cs_code take_credentials(struct aws *a, struct aws_credentials *out, struct cs_err *e)
{
    const struct aws_credentials *now;
    pthread_mutex_lock(&a->lock);
    cs_code rc = aws_chain_get(a->chain, &now, e);
    if (rc == CS_OK)
        rc = aws_credentials_copy(now, out, e);
    pthread_mutex_unlock(&a->lock);
    return rc;
}

static cs_code call(struct aws *a, const char *action, struct cs_slice body, json_t **answer,
                    struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    CS_CLEANUP(cs_freep) char *target = cs_asprintf("secretsmanager.%s", action);
    CS_CLEANUP(aws_credentials_free) struct aws_credentials credentials = {0};
    if (target == NULL)
        return cs_nomem(e);
    CS_TRY(take_credentials(a, &credentials, e));
    CS_TRY(aws_endpoint(a->region, "secretsmanager", "SECRETS_MANAGER", &url, e));
    const struct http_header headers[] = {{"Content-Type", "application/x-amz-json-1.1"},
                                          {"X-Amz-Target", target}};
    const struct aws_post p = {.url = cs_buf_cstr(&url),
                               .region = a->region,
                               .service = "secretsmanager",
                               .credentials = &credentials,
                               .headers = headers,
                               .header_count = 2,
                               .body = body,
                               .stop = a->stop};
    CS_TRY(aws_post(a->client, &p, &r, e));
    return aws_secrets_read(&r, answer, e);
}

cs_code aws_secrets_call(struct aws *a, const char *action, struct cs_slice body, json_t **answer,
                         struct cs_err *e)
{
    struct cs_err why;
    *answer = NULL;
    const cs_code rc = call(a, action, body, answer, &why);
    return rc == CS_OK ? rc : cs_fail(e, rc, "operation error Secrets Manager: %s, %s", action, why.text);
}
