/* SPDX-License-Identifier: Apache-2.0
 *
 * AWS credentials, found where AWS's SDKs look for them and in their order ("Standardized credential
 * providers" of the AWS SDKs and Tools Reference Guide).
 */
#ifndef CS_MODULES_AWS_CREDENTIALS_H
#define CS_MODULES_AWS_CREDENTIALS_H

#include "base/clock.h"
#include "base/log.h"
#include "plugins/modules/http/http.h"

/* Single owner; wiped when freed. */
struct aws_credentials {
    char *id, *secret, *token; /* token NULL: none */
    int64_t expires;           /* unix seconds; 0: never */
};
void aws_credentials_free(struct aws_credentials *c); /* zeroes */
CS_CHECKED cs_code aws_credentials_copy(const struct aws_credentials *from, struct aws_credentials *out,
                                        struct cs_err *e);

/* All borrowed; stop and clock outlive the chain, the texts are copied. */
struct aws_chain_options {
    const char *region;       /* of STS */
    const char *id, *secret;  /* of the configuration; "": not given */
    struct http_client *http; /* for STS; outlives the chain */
    const struct crypto_stop *stop;
    const struct cs_clock *clock;
    const struct cs_log *log;
};

/* The first of these that is there: `id` and `secret`, each of the environment when it is not given;
 * AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY with AWS_SESSION_TOKEN; the token in
 * AWS_WEB_IDENTITY_TOKEN_FILE, for AWS_ROLE_ARN; the profile AWS_PROFILE of the shared files; the container's
 * endpoint; the instance's metadata service, version 2. One thread at a time. */
struct aws_chain;
/* Reads the environment and the shared files, asks nobody. CS_INVALID with the SDK's text when what is there
 * contradicts itself, CS_UNIMPLEMENTED for credential_process, login_session and sso_*. */
CS_CHECKED cs_code aws_chain_new(const struct aws_chain_options *o, struct aws_chain **out, struct cs_err *e);
void aws_chain_free(struct aws_chain *c); /* NULL is fine */
static inline void aws_chain_drop(struct aws_chain **c)
{
    aws_chain_free(*c);
    *c = NULL;
}
/* Borrowed until the next call. Asked for when there are none, five minutes before their end, and when a
 * file that they came from has changed; when that fails, those at hand are used on for as long as they last.
 */
CS_CHECKED cs_code aws_chain_get(struct aws_chain *c, const struct aws_credentials **out, struct cs_err *e);

/* "https://SERVICE.REGION.amazonaws.com/", or what AWS_ENDPOINT_URL_NAME or AWS_ENDPOINT_URL says. */
CS_CHECKED cs_code aws_endpoint(const char *region, const char *service, const char *name, struct cs_buf *out,
                                struct cs_err *e);

/* A POST, signed (signature version 4) unless `c` is NULL. At most three headers. Any status is CS_OK. */
struct aws_post {
    const char *url, *region, *service; /* "secretsmanager" */
    const struct aws_credentials *credentials;
    const struct http_header *headers;
    size_t header_count;
    struct cs_slice body;
    const struct crypto_stop *stop;
};
CS_CHECKED cs_code aws_post(struct http_client *http, const struct aws_post *p, struct http_response *out,
                            struct cs_err *e);

#endif
