/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as what Secrets Manager and the endpoints of credentials answer. Of the former the first line is
 * the headers' when it ends in a blank line, so that types in headers are met, too.
 */
#include "plugins/modules/aws/aws.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void secret(int status, struct cs_slice head, struct cs_slice body)
{
    struct http_response r = {.status = status};
    struct cs_err e = {0};
    CS_CLEANUP(aws_json_drop) json_t *j = NULL;
    cs_buf_add_slice(&r.head, head);
    cs_buf_add_slice(&r.body, body);
    const cs_code rc = aws_secrets_read(&r, &j, &e);
    must((rc == CS_OK) == (j != NULL) && (rc != CS_OK || status == 200));
    must(rc == CS_OK || e.text[0] != '\0');
    must(rc != CS_NOT_FOUND || strstr(e.text, "ResourceNotFoundException") != NULL);
    http_response_free(&r);
}

static void credentials(bool coded, struct cs_slice text)
{
    CS_CLEANUP(aws_credentials_free) struct aws_credentials c = {0};
    struct cs_err e = {0};
    if (aws_json_credentials(text, coded, &c, &e) != CS_OK) {
        must(c.id == NULL && e.text[0] != '\0');
        return;
    }
    must(*c.id != '\0' && *c.secret != '\0' && strpbrk(c.id, "\r\n ") == NULL);
    must(c.token == NULL || strpbrk(c.token, "\r\n ") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *blank = size > 0 ? memmem(data, size, "\n\n", 2) : NULL;
    const size_t head = blank != NULL ? (size_t)(blank - data) + 1 : 0, body = blank != NULL ? head + 1 : 0;
    const struct cs_slice rest = cs_slice_of(data + body, size - body);
    secret(200, cs_slice_of(data, head), rest);
    secret(400, cs_slice_of(data, head), rest);
    secret(503, cs_slice_of(data, head), rest);
    credentials(false, rest);
    credentials(true, rest);
    return 0;
}
