/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of AWS, as SVIDStore "aws_secretsmanager" needs them. Any thread, several calls at a time.
 */
#ifndef CS_MODULES_AWS_AWS_H
#define CS_MODULES_AWS_AWS_H

#include "plugins/modules/aws/credentials/credentials.h"

#include <jansson.h>
#include <pthread.h>

struct aws {
    char *region;
    struct http_client *client;
    const struct crypto_stop *stop;
    pthread_mutex_t lock; /* over the chain: who finds the credentials gone asks, and the others wait */
    struct aws_chain *chain;
};
/* Copies the texts; id and secret may be "". Errors are aws_chain_new's. */
CS_CHECKED cs_code aws_new(const char *region, const char *id, const char *secret,
                           const struct crypto_stop *stop, const struct cs_clock *clock,
                           const struct cs_log *log, struct aws **out, struct cs_err *e);
void aws_free(struct aws *a); /* NULL is fine */
static inline void aws_drop(struct aws **a)
{
    aws_free(*a);
    *a = NULL;
}

/* Calls an action of Secrets Manager. *answer: single owner, NULL on failure. CS_NOT_FOUND for
 * ResourceNotFoundException, else CS_UNAVAILABLE or CS_INTERNAL; the text is that of AWS's SDK for Go. */
CS_CHECKED cs_code aws_secrets_call(struct aws *a, const char *action, struct cs_slice body, json_t **answer,
                                    struct cs_err *e);
/* The answer alone, as aws_secrets_call says. */
CS_CHECKED cs_code aws_secrets_read(const struct http_response *r, json_t **answer, struct cs_err *e);
static inline void aws_json_drop(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}

#endif
