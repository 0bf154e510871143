/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as an answer of STS: credentials that are whole and cannot break a header, or a text why not.
 */
#include "plugins/modules/aws/credentials/internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void must_be_plain(const char *s)
{
    must(s != NULL);
    for (; *s != '\0'; s++)
        must(*s > ' ' && *s <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int status[] = {200, 403, 500};
    for (size_t i = 0; i < 3; i++) {
        CS_CLEANUP(aws_credentials_free) struct aws_credentials c = {0};
        struct cs_err e = {0};
        if (aws_sts_read(status[i], cs_slice_of(data, size), &c, &e) != CS_OK) {
            must(c.id == NULL && c.secret == NULL && c.token == NULL && e.text[0] != '\0');
            continue;
        }
        must(status[i] == 200);
        must_be_plain(c.id);
        must_be_plain(c.secret);
        must(c.token == NULL || *c.token != '\0');
    }
    return 0;
}
