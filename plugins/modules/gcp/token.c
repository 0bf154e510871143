/* SPDX-License-Identifier: Apache-2.0
 *
 * Access tokens: what is asked for, and what is answered. Google's "Using OAuth 2.0 for server to server
 * applications", RFC 7523, RFC 6749.
 */
#include "crypto/jose.h"
#include "plugins/modules/gcp/gcp.h"

#include <stdlib.h>

#define SCOPE "https://www.googleapis.com/auth/cloud-platform"
#define GRANT "urn:ietf:params:oauth:grant-type:jwt-bearer"
#define ASSERTION_S 3600 /* the most that Google takes */
#define SKEW_S 10        /* our clock may be ahead of Google's */
#define TOKEN_MAX ((size_t)16384)
#define LIFE_MAX_S 86400

void gcp_token_free(struct gcp_token *t)
{
    cs_secret_free(t->value);
    *t = (struct gcp_token){0};
}

/* --- Asking --- */

static cs_code write_claims(const struct gcp_credentials *c, int64_t now, struct cs_buf *out,
                            struct cs_err *e)
{
    cs_buf_add_str(out, "{\"iss\":");
    jose_json_string(out, cs_slice_str(c->email));
    cs_buf_add_str(out, ",\"scope\":\"" SCOPE "\",\"aud\":");
    jose_json_string(out, cs_slice_str(c->token_uri));
    cs_buf_printf(out, ",\"exp\":%lld,\"iat\":%lld}", (long long)(now - SKEW_S + ASSERTION_S),
                  (long long)(now - SKEW_S));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static cs_code add_assertion(const struct gcp_credentials *c, int64_t now, struct cs_buf *out,
                             struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf claims = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf assertion = {0};
    CS_TRY(write_claims(c, now, &claims, e));
    if (!cs_buf_reserve(&assertion, 2 * claims.len + 4096) || !cs_buf_reserve(out, 6 * claims.len + 16384))
        return cs_nomem(e);
    CS_TRY(jose_sign(c->signer, JOSE_RS256, c->key_id, "JWT", cs_buf_slice(&claims), &assertion, e));
    gcp_form_add(out, "grant_type", cs_slice_str(GRANT));
    gcp_form_add(out, "assertion", cs_buf_slice(&assertion));
    return CS_OK;
}

static cs_code add_refresh(const struct gcp_credentials *c, struct cs_buf *out, struct cs_err *e)
{
    const struct cs_secret *secret = c->client_secret, *token = c->refresh_token;
    if (!cs_buf_reserve(out, 3 * (secret->len + token->len + strlen(c->client_id)) + 256))
        return cs_nomem(e);
    gcp_form_add(out, "grant_type", cs_slice_str("refresh_token"));
    gcp_form_add(out, "client_id", cs_slice_str(c->client_id));
    gcp_form_add(out, "client_secret", cs_slice_of(secret->data, secret->len));
    gcp_form_add(out, "refresh_token", cs_slice_of(token->data, token->len));
    return CS_OK;
}

cs_code gcp_token_form(const struct gcp_credentials *c, int64_t now, struct cs_buf *out, struct cs_err *e)
{
    CS_TRY(c->kind == GCP_SERVICE_ACCOUNT ? add_assertion(c, now, out, e) : add_refresh(c, out, e));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* --- Answers --- */

static cs_code refused(int status, const json_t *j, struct cs_err *e)
{
    const char *error = json_string_value(json_object_get(j, "error"));
    const char *text = json_string_value(json_object_get(j, "error_description"));
    const cs_code code = status == 429 || status >= 500 ? CS_UNAVAILABLE : CS_UNAUTHENTICATED;
    if (error == NULL)
        return cs_fail(e, code, "status %d", status);
    return cs_fail(e, code, "%.64s%s%.256s", error, text != NULL ? ": " : "", text != NULL ? text : "");
}

/* It goes into a header. RFC 6750 allows less. */
static bool is_token(const json_t *value)
{
    const char *text = json_string_value(value);
    const size_t len = text != NULL ? json_string_length(value) : 0;
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x21 || text[i] > 0x7e)
            return false;
    return len > 0 && len <= TOKEN_MAX;
}

cs_code gcp_token_read(int status, struct cs_slice body, int64_t now, struct gcp_token *out, struct cs_err *e)
{
    *out = (struct gcp_token){0};
    CS_CLEANUP(gcp_json_wipe)
    json_t *j = json_loadb((const char *)body.data, body.len, JSON_REJECT_DUPLICATES, NULL);
    if (status != 200)
        return refused(status, j, e);
    const json_t *token = json_object_get(j, "access_token");
    const json_int_t life = json_integer_value(json_object_get(j, "expires_in"));
    const char *type = json_string_value(json_object_get(j, "token_type"));
    if (type != NULL && strcasecmp(type, "Bearer") != 0)
        return cs_fail(e, CS_INTERNAL, "the token is of type \"%.64s\"", type);
    if (!is_token(token) || life <= 0)
        return cs_fail(e, CS_INTERNAL, "the answer has no token, or no end of it");
    CS_TRY(cs_secret_copy(json_string_value(token), json_string_length(token), &out->value, e));
    out->expires = now + (life < LIFE_MAX_S ? (int64_t)life : LIFE_MAX_S);
    return CS_OK;
}
