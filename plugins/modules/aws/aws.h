/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of AWS, as SVIDStore "aws_secretsmanager" needs them. One thread at a time.
 */
#ifndef CS_MODULES_AWS_AWS_H
#define CS_MODULES_AWS_AWS_H

#include "base/clock.h"
#include "plugins/modules/http/http.h"

#include <jansson.h>

/* Single owner; wiped when freed. */
struct aws_credentials {
    char *id, *secret, *token; /* token NULL: none */
    int64_t expires;           /* unix seconds; 0: never */
};
void aws_credentials_free(struct aws_credentials *c);

struct aws {
    char *region, *id, *secret;   /* id and secret of the configuration; NULL: found */
    struct http_client *client;   /* for AWS */
    struct http_client *metadata; /* for the instance's metadata: no proxy */
    const struct crypto_stop *stop;
    const struct cs_clock *clock;
    struct aws_credentials found; /* id NULL: none yet */
};
/* Copies the texts; id and secret may be "". */
CS_CHECKED cs_code aws_new(const char *region, const char *id, const char *secret,
                           const struct crypto_stop *stop, const struct cs_clock *clock, struct aws **out,
                           struct cs_err *e);
void aws_free(struct aws *a); /* NULL is fine */
static inline void aws_drop(struct aws **a)
{
    aws_free(*a);
    *a = NULL;
}

/* The credentials to sign with, in this order: of the configuration, of AWS_ACCESS_KEY_ID and
 * AWS_SECRET_ACCESS_KEY, by the token in AWS_WEB_IDENTITY_TOKEN_FILE for AWS_ROLE_ARN, of the instance's
 * metadata service (version 2). Those found are kept until five minutes before their end. */
CS_CHECKED cs_code aws_credentials(struct aws *a, struct http_sigv4 *out, const char **token,
                                   struct cs_err *e);
/* "https://SERVICE.REGION.amazonaws.com", or what AWS_ENDPOINT_URL_NAME or AWS_ENDPOINT_URL says. */
CS_CHECKED cs_code aws_endpoint(const struct aws *a, const char *service, const char *name,
                                struct cs_buf *out, struct cs_err *e);

/* Calls an action of Secrets Manager. *answer: single owner, NULL on failure. CS_NOT_FOUND for
 * ResourceNotFoundException, else CS_UNAVAILABLE or CS_INTERNAL; the text is "CODE: MESSAGE" of AWS. */
CS_CHECKED cs_code aws_secrets_call(struct aws *a, const char *action, struct cs_slice body, json_t **answer,
                                    struct cs_err *e);
static inline void aws_json_drop(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}

#endif
