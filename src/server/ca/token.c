/* SPDX-License-Identifier: Apache-2.0
 *
 * JWT-SVIDs. Claims follow SPIRE's pkg/server/credtemplate/builder.go.
 */
#include "base/text.h"
#include "server/ca/ca.h"
#include "server/ca/internal.h"
#include "spiffe/jwtsvid.h"

static cs_code write_audience(struct cs_buf *out, const struct ca_jwt_params *p, struct cs_err *e)
{
    size_t written = 0;
    cs_buf_add_str(out, "\"aud\":[");
    for (size_t i = 0; i < p->audience_count; i++) {
        if (p->audience[i][0] == '\0')
            continue;
        if (written++ > 0)
            cs_buf_add_byte(out, ',');
        jose_json_string(out, cs_slice_str(p->audience[i]));
    }
    cs_buf_add_byte(out, ']');
    if (written == 0)
        return cs_fail(e, CS_INTERNAL, "invalid JWT-SVID audience: cannot be empty");
    return CS_OK;
}

static cs_code write_jti(struct cs_buf *out, struct cs_err *e)
{
    uint8_t jti[16];
    if (cs_random(jti, sizeof jti, e) != CS_OK)
        return cs_wrap(e, "failed to generate jti");
    /* A version 4 UUID (RFC 9562 section 5.4), in base64 as SPIRE writes it. */
    jti[6] = (uint8_t)((jti[6] & 0x0f) | 0x40);
    jti[8] = (uint8_t)((jti[8] & 0x3f) | 0x80);
    cs_buf_add_str(out, ",\"jti\":\"");
    cs_b64_encode(out, cs_slice_of(jti, sizeof jti), CS_B64_URL_RAW);
    cs_buf_add_str(out, "\"");
    return CS_OK;
}

/* Claims in the order of their names, as Go writes them. */
static cs_code write_claims(const struct ca *ca, const struct ca_jwt_params *p, int64_t iat, int64_t exp,
                            struct cs_buf *out, struct cs_err *e)
{
    cs_buf_add_byte(out, '{');
    CS_TRY(write_audience(out, p, e));
    cs_buf_printf(out, ",\"exp\":%lld,\"iat\":%lld", (long long)exp, (long long)iat);
    if (ca->jwt_issuer[0] != '\0') {
        cs_buf_add_str(out, ",\"iss\":");
        jose_json_string(out, cs_slice_str(ca->jwt_issuer));
    }
    if (p->include_jti)
        CS_TRY(write_jti(out, e));
    cs_buf_add_str(out, ",\"sub\":");
    jose_json_string(out, cs_slice_str(p->spiffe_id));
    cs_buf_add_byte(out, '}');
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* What composers make of the claims, checked. */
static cs_code compose(const struct ca *ca, struct cs_arena *a, const char *spiffe_id, struct cs_buf *claims,
                       struct ca_jwt *out, struct cs_err *e)
{
    struct spiffe_id id;
    struct cs_slice json = cs_buf_slice(claims);
    CS_TRY(ca_compose_jwt(&ca->composers, a, spiffe_id, &json, e));
    CS_TRY(spiffe_id_parse(cs_slice_str(spiffe_id), &id, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf composed = {0};
    CS_TRY(spiffe_jwtsvid_check_claims(json, id, cs_now_s(ca->clock), &composed, &out->issued_at,
                                       &out->expires_at, e));
    cs_buf_free(claims);
    *claims = composed;
    composed = (struct cs_buf){0};
    return CS_OK;
}

static cs_code check_expiry(int64_t now, int64_t exp, struct cs_err *e)
{
    if (exp > now)
        return CS_OK;
    CS_CLEANUP(cs_buf_free) struct cs_buf when = {0};
    cs_time_rfc3339(&when, exp);
    return cs_fail(e, CS_INTERNAL, "invalid JWT-SVID \"exp\" claim: already expired as of %s",
                   cs_buf_cstr(&when));
}

static cs_code sign(const struct ca_jwt_authority *auth, struct cs_slice claims, struct cs_arena *a,
                    char **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf token = {0};
    if (jose_sign(auth->signer, auth->alg, auth->kid, "JWT", claims, &token, e) != CS_OK) {
        (void)cs_wrap(e, "unable to sign JWT SVID");
        return ca_internal(e);
    }
    *out = cs_arena_strndup(a, (const char *)token.data, token.len);
    return *out != NULL ? CS_OK : cs_nomem(e);
}

cs_code ca_sign_jwt(struct ca *ca, struct cs_arena *a, const struct ca_jwt_params *p, struct ca_jwt *out,
                    struct cs_err *e)
{
    *out = (struct ca_jwt){0};
    CS_AUTO(ca_jwt_authority) auth = NULL;
    CS_TRY(ca_take_jwt(ca, &auth, e));
    CS_TRY(ca_check_id(ca, "JWT-SVID", p->spiffe_id, e));
    int64_t now = cs_now_s(ca->clock);
    int64_t exp = ca_capped(now, p->ttl_s > 0 ? p->ttl_s : ca->jwt_svid_ttl, auth->not_after);
    struct ca_jwt made = {.issued_at = now, .expires_at = exp};
    CS_CLEANUP(cs_buf_free) struct cs_buf claims = {0};
    CS_TRY(write_claims(ca, p, now, exp, &claims, e));
    if (ca->composers.count > 0)
        CS_TRY(compose(ca, a, p->spiffe_id, &claims, &made, e));
    else
        CS_TRY(check_expiry(now, exp, e));
    CS_TRY(sign(auth, cs_buf_slice(&claims), a, &made.token, e));
    *out = made;
    return CS_OK;
}
