/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/sconecas/cas.h"

#include "base/mem.h"
#include "base/text.h"

#include <jansson.h>

#define CONFLICT_TEXT "Session already exists, please specify predecessor hash"
#define ANSWER_MAX ((size_t)64 * 1024)
#define SHOWN_MAX 256
#define WINDOW 12 /* so many characters of a key in a row are no accident */

/* An error of the CAS may well quote the line that it did not like. */
static bool repeats(struct cs_slice text, struct cs_slice secret)
{
    for (size_t i = 0; secret.len >= WINDOW && i + WINDOW <= text.len; i++)
        if (memmem(secret.data, secret.len, text.data + i, WINDOW) != NULL)
            return true;
    return false;
}

static cs_code refused(int status, struct cs_slice body, struct cs_slice secret, struct cs_err *e)
{
    if (repeats(body, secret))
        return cs_fail(e, CS_UNAVAILABLE,
                       "status %d: the CAS repeats what was posted, so its answer is not shown", status);
    if (body.len == 0)
        return cs_fail(e, CS_UNAVAILABLE, "status %d", status);
    CS_CLEANUP(cs_buf_free) struct cs_buf quoted = {0};
    cs_quote(&quoted, cs_slice_of(body.data, body.len < SHOWN_MAX ? body.len : SHOWN_MAX));
    return cs_fail(e, CS_UNAVAILABLE, "status %d: error=%s%s", status, cs_buf_cstr(&quoted),
                   body.len > SHOWN_MAX ? "..." : "");
}

static cs_code read_hash(struct cs_slice body, char hash[SCONE_HASH_MAX + 1], struct cs_err *e)
{
    json_error_t fault;
    json_t *answer = json_loadb((const char *)body.data, body.len, 0, &fault);
    const json_t *member = json_object_get(answer, "hash");
    const char *text = json_string_value(member);
    cs_code rc = CS_OK;
    if (answer == NULL)
        rc = cs_fail(e, CS_UNAVAILABLE, "cannot decode JSON response from CAS");
    else if (text == NULL || !scone_hash_ok(cs_slice_of(text, json_string_length(member))))
        rc = cs_fail(e, CS_UNAVAILABLE, "the CAS took the session and did not say its hash");
    else
        memcpy(hash, text, json_string_length(member) + 1);
    json_decref(answer);
    return rc;
}

cs_code scone_cas_read(int status, struct cs_slice body, struct cs_slice secret, struct scone_outcome *out,
                       struct cs_err *e)
{
    *out = (struct scone_outcome){.answer = SCONE_OTHER, .status = status};
    if (status == 201) {
        CS_TRY(read_hash(body, out->hash, e));
        out->answer = SCONE_CREATED;
        return CS_OK;
    }
    if (status == 404)
        out->answer = SCONE_NOT_FOUND;
    else if (status == 409 ||
             (body.len > 0 && memmem(body.data, body.len, CONFLICT_TEXT, strlen(CONFLICT_TEXT)) != NULL))
        out->answer = SCONE_CONFLICT;
    return refused(status, body, secret, e);
}

cs_code scone_cas_post(struct http_client *c, const char *url, struct cs_slice session,
                       struct cs_slice secret, int64_t timeout_ns, const struct crypto_stop *stop,
                       struct scone_outcome *out, struct cs_err *e)
{
    static const struct http_header headers[] = {{"Content-Type", "application/text"}};
    const struct http_request request = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .header_count = 1,
        .body = session,
        .timeout_ns = timeout_ns,
        .max_body = ANSWER_MAX,
        .once = true, /* a second copy of a session that was taken would be a conflict */
        .last = true,
        .stop = stop,
    };
    CS_CLEANUP(http_response_free) struct http_response response = {0};
    *out = (struct scone_outcome){.answer = SCONE_OTHER};
    CS_TRY(http_call(c, &request, &response, e));
    return scone_cas_read(response.status, cs_buf_slice(&response.body), secret, out, e);
}
