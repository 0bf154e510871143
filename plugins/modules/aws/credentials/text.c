/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <stdlib.h>

const char *aws_env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

void aws_wipe_text(char **s)
{
    if (*s != NULL)
        cs_wipe(*s, strlen(*s));
    cs_free(*s);
    *s = NULL;
}

char *aws_copy(struct cs_slice s)
{
    return cs_strndup(s.len > 0 ? (const char *)s.data : "", s.len);
}

void aws_credentials_free(struct aws_credentials *c)
{
    aws_wipe_text(&c->id);
    aws_wipe_text(&c->secret);
    aws_wipe_text(&c->token);
    c->expires = 0;
}

/* What could end a header, or begin another one. */
static bool is_plain(const char *s)
{
    for (; *s != '\0'; s++)
        if (*s <= ' ' || *s > '~')
            return false;
    return true;
}

cs_code aws_credentials_take(struct aws_credentials *from, const char *expires, struct aws_credentials *out,
                             struct cs_err *e)
{
    int64_t end = 0;
    if (from->id == NULL || from->secret == NULL || *from->id == '\0' || *from->secret == '\0')
        return cs_fail(e, CS_INTERNAL, "there are no credentials in it");
    if (!is_plain(from->id) || !is_plain(from->secret) || (from->token != NULL && !is_plain(from->token)))
        return cs_fail(e, CS_INTERNAL,
                       "the credentials have characters in them that credentials do not have");
    if (expires != NULL && cs_time_parse_rfc3339(cs_slice_str(expires), &end, NULL, NULL) != CS_OK)
        return cs_fail(e, CS_INTERNAL, "the time of expiry cannot be read");
    if (from->token != NULL && *from->token == '\0')
        aws_wipe_text(&from->token);
    aws_credentials_free(out);
    *out = (struct aws_credentials){CS_MOVE(from->id), CS_MOVE(from->secret), CS_MOVE(from->token), end};
    return CS_OK;
}

cs_code aws_credentials_copy(const struct aws_credentials *from, struct aws_credentials *out,
                             struct cs_err *e)
{
    CS_CLEANUP(aws_credentials_free)
    struct aws_credentials x = {.id = cs_strdup(from->id), .secret = cs_strdup(from->secret)};
    if (from->token != NULL)
        x.token = cs_strdup(from->token);
    if (x.id == NULL || x.secret == NULL || (from->token != NULL && x.token == NULL))
        return cs_nomem(e);
    CS_TRY(aws_credentials_take(&x, NULL, out, e));
    out->expires = from->expires;
    return CS_OK;
}
