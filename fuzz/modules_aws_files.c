/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as AWS's shared files, up to a line "===" the one, after it the other: they are refused with a
 * text, or every profile in them is, or it makes a plan that is whole and cannot break a header.
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
    for (; *s != '\0'; s++)
        must(*s > ' ' && *s <= '~');
}

static void check_plan(const struct aws_plan *p)
{
    must(p->role_count <= AWS_ROLES_MAX);
    for (size_t i = 0; i < p->role_count; i++)
        must(p->roles[i].arn != NULL && p->roles[i].seconds >= AWS_ROLE_SECONDS);
    if (p->source == AWS_SOURCE_FIXED) {
        must_be_plain(p->fixed.id);
        must_be_plain(p->fixed.secret);
        must_be_plain(p->fixed.token != NULL ? p->fixed.token : "");
    }
    must(p->source != AWS_SOURCE_WEB_IDENTITY || (p->token_file != NULL && p->web.arn != NULL));
    must(p->source != AWS_SOURCE_INSTANCE || p->metadata != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_CLEANUP(aws_profiles_free) struct aws_profiles all = {0}, credentials = {0};
    struct cs_err e = {0};
    const uint8_t *mark = size > 0 ? memmem(data, size, "\n===\n", 5) : NULL;
    const size_t first = mark != NULL ? (size_t)(mark - data) + 1 : size,
                 second = mark != NULL ? first + 4 : size;
    if (aws_profiles_parse(cs_slice_of(data, first), AWS_FILE_CONFIG, &all, &e) != CS_OK ||
        aws_profiles_parse(cs_slice_of(data + second, size - second), AWS_FILE_CREDENTIALS, &credentials,
                           &e) != CS_OK) {
        must(e.text[0] != '\0');
        return 0;
    }
    const cs_code rc = aws_profiles_merge(&all, &credentials, &e);
    must(rc == CS_OK || rc == CS_EXHAUSTED);
    must(all.count <= AWS_PROFILES_MAX && (rc != CS_OK || credentials.count == 0));
    for (size_t i = 0; i < all.count && i < 64; i++) {
        CS_CLEANUP(aws_plan_free) struct aws_plan p = {0};
        if (aws_plan_profile(&all, all.at[i].name, true, &p, &e) == CS_OK)
            check_plan(&p);
        else
            must(e.text[0] != '\0');
    }
    return 0;
}
