/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "plugins/modules/aws/credentials/internal.h"

#include <jansson.h>
#include <strings.h>

static void drop_json(json_t **j)
{
    static const char *const secret[] = {"SecretAccessKey", "Token"};
    for (size_t i = 0; i < 2; i++) {
        json_t *s = json_object_get(*j, secret[i]);
        if (json_is_string(s))
            cs_wipe((char *)(uintptr_t)json_string_value(s), json_string_length(s));
    }
    json_decref(*j);
    *j = NULL;
}

static bool copy(const json_t *j, const char *name, char **out)
{
    const char *s = json_string_value(json_object_get(j, name));
    *out = s != NULL ? cs_strdup(s) : NULL;
    return s == NULL || *out != NULL;
}

cs_code aws_json_credentials(struct cs_slice text, bool coded, struct aws_credentials *out, struct cs_err *e)
{
    CS_CLEANUP(drop_json) json_t *j = json_loadb((const char *)text.data, text.len, 0, NULL);
    CS_CLEANUP(aws_credentials_free) struct aws_credentials x = {0};
    if (!json_is_object(j))
        return cs_fail(e, CS_INTERNAL, "the answer is no JSON object");
    const char *code = json_string_value(json_object_get(j, "Code"));
    const char *message = json_string_value(json_object_get(j, "Message"));
    if (coded && (code == NULL || strcasecmp(code, "Success") != 0))
        return cs_fail(e, CS_UNAVAILABLE, "api error %.64s: %.256s", code != NULL ? code : "",
                       message != NULL ? message : "");
    if (!copy(j, "AccessKeyId", &x.id) || !copy(j, "SecretAccessKey", &x.secret) ||
        !copy(j, "Token", &x.token))
        return cs_nomem(e);
    return aws_credentials_take(&x, json_string_value(json_object_get(j, "Expiration")), out, e);
}
