/* SPDX-License-Identifier: Apache-2.0 */
#include "spiffe/jwtsvid.h"

#include "base/text.h"

/* --- Signing --- */

static cs_code write_audience(struct cs_buf *out, const struct spiffe_jwtsvid_params *p, struct cs_err *e)
{
    size_t written = 0;
    cs_buf_add_str(out, "{\"aud\":[");
    for (size_t i = 0; i < p->audience_count; i++) {
        if (p->audience[i].len == 0)
            continue;
        if (written++ > 0)
            cs_buf_add_byte(out, ',');
        jose_json_string(out, p->audience[i]);
    }
    cs_buf_add_byte(out, ']');
    return written > 0 ? CS_OK : cs_fail(e, CS_INVALID, "invalid JWT-SVID audience: cannot be empty");
}

/* The bytes of a version 4 UUID, base64url. */
static cs_code write_jti(struct cs_buf *out, struct cs_err *e)
{
    uint8_t id[16];
    CS_TRY(cs_random(id, sizeof id, e));
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    cs_buf_add_str(out, ",\"jti\":\"");
    cs_b64_encode(out, cs_slice_of(id, sizeof id), CS_B64_URL_RAW);
    cs_buf_add_byte(out, '"');
    return CS_OK;
}

cs_code spiffe_jwtsvid_sign(const struct spiffe_jwtsvid_params *p, const struct crypto_signer *signer,
                            const char *kid, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf claims = {0};
    if (spiffe_id_is_zero(p->id))
        return cs_fail(e, CS_INVALID, "invalid JWT-SVID ID: cannot be empty");
    CS_TRY(write_audience(&claims, p, e));
    cs_buf_printf(&claims, ",\"exp\":%lld,\"iat\":%lld", (long long)p->expires_at, (long long)p->issued_at);
    if (p->issuer != NULL && *p->issuer != '\0') {
        cs_buf_add_str(&claims, ",\"iss\":");
        jose_json_string(&claims, cs_slice_str(p->issuer));
    }
    if (p->include_jti)
        CS_TRY(write_jti(&claims, e));
    cs_buf_add_str(&claims, ",\"sub\":");
    jose_json_string(&claims, p->id.text);
    cs_buf_add_byte(&claims, '}');
    if (!cs_buf_ok(&claims))
        return cs_nomem(e);
    return jose_sign(signer, jose_alg_for_key(crypto_signer_type(signer)), kid, "JWT", cs_buf_slice(&claims),
                     out, e);
}

/* --- Reading --- */

void spiffe_jwtsvid_free(struct spiffe_jwtsvid *t)
{
    jose_jws_free(&t->jws);
    json_decref(t->claims);
    cs_free(t->audience);
    *t = (struct spiffe_jwtsvid){0};
}

/* NumericDate (RFC 7519 section 2): any JSON number, fractions cut. *present is false for null, too. */
static cs_code read_date(const json_t *claims, const char *name, int64_t *out, bool *present,
                         struct cs_err *e)
{
    const json_t *v = json_object_get(claims, name);
    *out = 0;
    *present = v != NULL && !json_is_null(v);
    if (!*present)
        return CS_OK;
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
    } else if (json_is_real(v) && json_real_value(v) > -9e15 && json_real_value(v) < 9e15) {
        *out = (int64_t)json_real_value(v);
    } else {
        return cs_fail(e, CS_INVALID, "go-jose/go-jose/jwt: expected number value to unmarshal NumericDate");
    }
    /* far-off dates are as good as their limits; sums with the leeway must not overflow */
    const int64_t limit = INT64_C(1) << 53;
    *out = *out > limit ? limit : *out < -limit ? -limit : *out;
    return CS_OK;
}

/* A string, or an array of strings. */
static cs_code read_audience(struct spiffe_jwtsvid *t, struct cs_err *e)
{
    const json_t *aud = json_object_get(t->claims, "aud"), *item;
    size_t i, n = json_is_string(aud) ? 1 : json_array_size(aud);
    if (aud != NULL && !json_is_null(aud) && !json_is_string(aud) && !json_is_array(aud))
        n = SIZE_MAX;
    json_array_foreach(aud, i, item) if (!json_is_string(item)) n = SIZE_MAX;
    if (n == SIZE_MAX)
        return cs_fail(e, CS_INVALID,
                       "go-jose/go-jose/jwt: expected string or array value to unmarshal to Audience");
    t->audience = cs_calloc(n + 1, sizeof *t->audience);
    if (t->audience == NULL)
        return cs_nomem(e);
    t->audience_count = n;
    for (i = 0; i < n; i++)
        t->audience[i] = json_string_value(json_is_string(aud) ? aud : json_array_get(aud, i));
    return CS_OK;
}

struct dates {
    bool exp, iat, nbf;
};

static cs_code read_claims(struct cs_slice json, struct spiffe_jwtsvid *t, struct dates *d, struct cs_err *e)
{
    json_error_t where;
    t->claims = json_loadb((const char *)json.data, json.len, JSON_REJECT_DUPLICATES, &where);
    if (t->claims == NULL)
        return cs_fail(e, CS_INVALID, "malformed claims: %s", where.text);
    if (!json_is_object(t->claims))
        return cs_fail(e, CS_INVALID, "malformed claims: not a JSON object");
    CS_TRY(read_date(t->claims, "exp", &t->expires_at, &d->exp, e));
    CS_TRY(read_date(t->claims, "iat", &t->issued_at, &d->iat, e));
    CS_TRY(read_date(t->claims, "nbf", &t->not_before, &d->nbf, e));
    return read_audience(t, e);
}

/* Token to claims, nothing decided yet. */
static cs_code read_token(struct cs_slice token, struct spiffe_jwtsvid *t, struct dates *d, struct cs_err *e)
{
    cs_code code = jose_parse(token, &t->jws, e);
    if (code == CS_INVALID)
        (void)cs_wrap(e, "unable to parse JWT token");
    CS_TRY(code);
    return read_claims(t->jws.payload, t, d, e);
}

static cs_code read_subject(struct spiffe_jwtsvid *t, struct cs_err *e)
{
    const json_t *sub = json_object_get(t->claims, "sub");
    if (sub != NULL && !json_is_null(sub) && !json_is_string(sub))
        return cs_fail(e, CS_INVALID, "malformed claims: sub is not a string");
    if (json_string_length(sub) == 0)
        return cs_fail(e, CS_INVALID, "token missing subject claim");
    return CS_OK;
}

static cs_code parse_id(struct spiffe_jwtsvid *t, struct cs_err *e)
{
    const json_t *sub = json_object_get(t->claims, "sub");
    struct cs_slice text = cs_slice_of(json_string_value(sub), json_string_length(sub));
    cs_code code = spiffe_id_parse(text, &t->id, e);
    if (code != CS_OK)
        (void)cs_wrap(e, "token has in invalid subject claim");
    return code;
}

/* JWT-SVID.md section 2.3: JWT or JOSE when set; upstream's agent takes at+jwt of RFC 9068, too. */
static bool typ_allowed(const struct jose_jws *j)
{
    return !j->has_typ || strcmp(j->typ, "JWT") == 0 || strcmp(j->typ, "JOSE") == 0 ||
           strcmp(j->typ, "at+jwt") == 0;
}

static cs_code check_signature(const struct spiffe_jwtsvid *t, const struct spiffe_jwt_bundles *bundles,
                               struct cs_err *e)
{
    struct cs_slice td = spiffe_id_td(t->id), kid = cs_slice_str(t->jws.kid);
    int td_len = (int)(td.len < 255 ? td.len : 255);
    struct crypto_pub *pub;
    const struct spiffe_bundle *b = bundles->find(bundles->arg, td);
    if (b == NULL)
        return cs_fail(e, CS_INVALID, "no keys found for trust domain \"%.*s\"", td_len,
                       (const char *)td.data);
    const struct spiffe_jwt_authority *a = spiffe_bundle_find_jwt(b, kid);
    if (a == NULL)
        return cs_fail(e, CS_INVALID, "public key \"%.128s\" not found in trust domain \"%.*s\"", t->jws.kid,
                       td_len, (const char *)td.data);
    CS_TRY(spiffe_bundle_jwt_pub(b, a, &pub, e));
    cs_code code = jose_verify(&t->jws, pub, e);
    if (code == CS_DENIED && e != NULL)
        e->code = CS_INVALID;
    return code == CS_DENIED ? CS_INVALID : code;
}

static bool audience_matches(const struct spiffe_jwtsvid *t, const struct cs_slice *wanted, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < t->audience_count; j++)
            if (cs_slice_is(wanted[i], t->audience[j]))
                return true;
    return count == 0;
}

static cs_code fail_audience(const struct spiffe_jwtsvid *t, const struct cs_slice *wanted, size_t count,
                             struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    cs_buf_add_str(&text, "expected audience in [");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            cs_buf_add_byte(&text, ' ');
        cs_quote(&text, wanted[i]);
    }
    cs_buf_add_str(&text, "] (audience=[");
    for (size_t i = 0; i < t->audience_count; i++) {
        if (i > 0)
            cs_buf_add_byte(&text, ' ');
        cs_quote(&text, cs_slice_str(t->audience[i]));
    }
    cs_buf_add_str(&text, "])");
    return cs_fail(e, CS_INVALID, "%s", cs_buf_cstr(&text));
}

static cs_code check_times(const struct spiffe_jwtsvid *t, const struct dates *d, int64_t now,
                           struct cs_err *e)
{
    if (d->nbf && now + SPIFFE_JWT_LEEWAY_S < t->not_before)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose/jwt: validation failed, token not valid yet (nbf)");
    if (now - SPIFFE_JWT_LEEWAY_S > t->expires_at)
        return cs_fail(e, CS_INVALID, "token has expired");
    if (d->iat && now + SPIFFE_JWT_LEEWAY_S < t->issued_at)
        return cs_fail(e, CS_INVALID,
                       "go-jose/go-jose/jwt: validation field, token issued in the future (iat)");
    return CS_OK;
}

cs_code spiffe_jwtsvid_validate(struct cs_slice token, const struct spiffe_jwt_bundles *bundles,
                                const struct cs_slice *audience, size_t audience_count, int64_t now,
                                struct spiffe_jwtsvid *out, struct cs_err *e)
{
    CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
    struct dates d = {0};
    *out = t;
    CS_TRY(read_token(token, &t, &d, e));
    if (*t.jws.kid == '\0')
        return cs_fail(e, CS_INVALID, "token header missing key id");
    if (!typ_allowed(&t.jws))
        return cs_fail(e, CS_INVALID, "token header type not equal to either JWT or JOSE");
    CS_TRY(read_subject(&t, e));
    if (!d.exp)
        return cs_fail(e, CS_INVALID, "token missing exp claim");
    CS_TRY(parse_id(&t, e));
    CS_TRY(check_signature(&t, bundles, e));
    if (!audience_matches(&t, audience, audience_count))
        return fail_audience(&t, audience, audience_count, e);
    CS_TRY(check_times(&t, &d, now, e));
    *out = t;
    t = (struct spiffe_jwtsvid){0};
    return CS_OK;
}

cs_code spiffe_jwtsvid_parse_insecure(struct cs_slice token, struct spiffe_jwtsvid *out, struct cs_err *e)
{
    CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
    struct dates d = {0};
    *out = t;
    CS_TRY(read_token(token, &t, &d, e));
    if (!d.iat)
        return cs_fail(e, CS_INVALID, "JWT missing iat claim");
    if (!d.exp)
        return cs_fail(e, CS_INVALID, "JWT missing exp claim");
    CS_TRY(read_subject(&t, e));
    CS_TRY(parse_id(&t, e));
    *out = t;
    t = (struct spiffe_jwtsvid){0};
    return CS_OK;
}

/* --- What a server issues --- */

static cs_code fail_claim(const char *claim, const char *what, const int64_t *when, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    if (when != NULL)
        cs_time_rfc3339(&text, *when);
    return cs_fail(e, CS_INTERNAL, "invalid JWT-SVID \"%s\" claim: %s%s%s", claim, what,
                   when != NULL ? " " : "", cs_buf_cstr(&text));
}

static cs_code check_issued(const struct spiffe_jwtsvid *t, const struct dates *d, struct spiffe_id expected,
                            int64_t now, struct cs_err *e)
{
    const json_t *sub = json_object_get(t->claims, "sub");
    struct cs_slice got = cs_slice_of(json_string_value(sub), json_string_length(sub));
    if (!cs_slice_eq(got, expected.text))
        return cs_fail(e, CS_INTERNAL, "invalid JWT-SVID \"sub\" claim: expected \"%.*s\" but got \"%.*s\"",
                       (int)(expected.text.len < 200 ? expected.text.len : 200),
                       (const char *)expected.text.data, (int)(got.len < 200 ? got.len : 200),
                       got.len > 0 ? (const char *)got.data : "");
    if (!d->exp)
        return fail_claim("exp", "required but missing", NULL, e);
    if (t->expires_at <= now)
        return fail_claim("exp", "already expired as of", &t->expires_at, e);
    if (d->nbf && t->not_before > now)
        return fail_claim("nbf", "not yet valid until", &t->not_before, e);
    if (t->audience_count == 0)
        return fail_claim("aud", "required but missing", NULL, e);
    for (size_t i = 0; i < t->audience_count; i++)
        if (t->audience[i][0] == '\0')
            return fail_claim("aud", "contains empty value", NULL, e);
    return d->iat ? CS_OK : cs_fail(e, CS_INTERNAL, "JWT missing iat claim");
}

/* Verifiers take exp and iat for whole numbers, whatever they went through. */
static cs_code write_whole_dates(struct spiffe_jwtsvid *t, struct cs_slice json, struct cs_buf *out,
                                 struct cs_err *e)
{
    if (json_is_integer(json_object_get(t->claims, "exp")) &&
        json_is_integer(json_object_get(t->claims, "iat"))) {
        cs_buf_add_slice(out, json);
        return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
    }
    if (json_object_set_new(t->claims, "exp", json_integer(t->expires_at)) != 0 ||
        json_object_set_new(t->claims, "iat", json_integer(t->issued_at)) != 0)
        return cs_nomem(e);
    const size_t flags = JSON_COMPACT | JSON_SORT_KEYS;
    size_t n = json_dumpb(t->claims, NULL, 0, flags);
    if (n == 0 || !cs_buf_reserve(out, n))
        return cs_nomem(e);
    out->len += json_dumpb(t->claims, (char *)out->data + out->len, n, flags);
    return CS_OK;
}

cs_code spiffe_jwtsvid_check_claims(struct cs_slice json, struct spiffe_id expected, int64_t now,
                                    struct cs_buf *out, int64_t *issued_at, int64_t *expires_at,
                                    struct cs_err *e)
{
    CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
    struct dates d = {0};
    if (read_claims(json, &t, &d, e) != CS_OK) {
        (void)cs_wrap(e, "failed to extract JWT-SVID claims for validation");
        if (e != NULL)
            e->code = CS_INTERNAL;
        return CS_INTERNAL;
    }
    CS_TRY(check_issued(&t, &d, expected, now, e));
    CS_TRY(write_whole_dates(&t, json, out, e));
    *issued_at = t.issued_at;
    *expires_at = t.expires_at;
    return CS_OK;
}
