/* SPDX-License-Identifier: Apache-2.0
 *
 * JWS compact serialisation.
 */
#include "crypto/jose.h"

#include "base/text.h"
#include "crypto/der.h"
#include "crypto/sig.h"

static const struct alg {
    enum jose_alg alg;
    const char *name;
    enum crypto_sig sig;
    enum crypto_key_type curve; /* ECDSA: RFC 7518 section 3.4 ties each to one curve */
    size_t size;                /* ECDSA: bytes of r and of s */
} algs[] = {
    {JOSE_ES256, "ES256", CRYPTO_ECDSA_SHA256, CRYPTO_EC_P256, 32},
    {JOSE_ES384, "ES384", CRYPTO_ECDSA_SHA384, CRYPTO_EC_P384, 48},
    {JOSE_ES512, "ES512", CRYPTO_ECDSA_SHA512, CRYPTO_EC_P521, 66},
    {JOSE_RS256, "RS256", CRYPTO_RSA_SHA256, CRYPTO_KEY_NONE, 0},
    {JOSE_RS384, "RS384", CRYPTO_RSA_SHA384, CRYPTO_KEY_NONE, 0},
    {JOSE_RS512, "RS512", CRYPTO_RSA_SHA512, CRYPTO_KEY_NONE, 0},
    {JOSE_PS256, "PS256", CRYPTO_PSS_SHA256, CRYPTO_KEY_NONE, 0},
    {JOSE_PS384, "PS384", CRYPTO_PSS_SHA384, CRYPTO_KEY_NONE, 0},
    {JOSE_PS512, "PS512", CRYPTO_PSS_SHA512, CRYPTO_KEY_NONE, 0},
};
#define ALGS (sizeof algs / sizeof algs[0])

static const struct alg *alg_of(enum jose_alg a)
{
    for (size_t i = 0; i < ALGS; i++)
        if (algs[i].alg == a)
            return &algs[i];
    return NULL;
}

const char *jose_alg_name(enum jose_alg a)
{
    const struct alg *alg = alg_of(a);
    return alg == NULL ? "none" : alg->name;
}

enum jose_alg jose_alg_parse(struct cs_slice name)
{
    for (size_t i = 0; i < ALGS; i++)
        if (cs_slice_is(name, algs[i].name))
            return algs[i].alg;
    return JOSE_NONE;
}

enum jose_alg jose_alg_for_key(enum crypto_key_type t)
{
    switch (t) {
    case CRYPTO_EC_P256:
        return JOSE_ES256;
    case CRYPTO_EC_P384:
        return JOSE_ES384;
    case CRYPTO_RSA_2048:
    case CRYPTO_RSA_4096:
        return JOSE_RS256;
    default:
        return JOSE_NONE;
    }
}

/* RFC 7518 section 3.3: RSA keys of 2048 bits or more. */
static bool key_fits(const struct alg *a, const struct crypto_pub *pub)
{
    if (a->curve != CRYPTO_KEY_NONE)
        return crypto_pub_type(pub) == a->curve;
    return crypto_sig_fits(a->sig, crypto_pub_type(pub)) && crypto_pub_bits(pub) >= 2048;
}

/* --- ECDSA signatures --- */

cs_code jose_ecdsa_raw(struct cs_slice der, size_t size, uint8_t *out, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(der), seq;
    struct cs_slice n[2];
    if (!der_enter(&r, DER_SEQUENCE, &seq) || cs_rd_left(&r) != 0 || !der_read_uint(&seq, &n[0]) ||
        !der_read_uint(&seq, &n[1]) || cs_rd_left(&seq) != 0 || n[0].len > size || n[1].len > size)
        return cs_fail(e, CS_INVALID, "malformed ECDSA signature");
    memset(out, 0, 2 * size);
    for (size_t i = 0; i < 2; i++)
        memcpy(out + (i + 1) * size - n[i].len, n[i].data, n[i].len);
    return CS_OK;
}

void jose_ecdsa_der(struct cs_slice raw, struct cs_buf *out)
{
    size_t half = raw.len / 2, seq = der_begin(out, DER_SEQUENCE);
    der_put_uint(out, cs_slice_of(raw.data, half));
    der_put_uint(out, cs_slice_of(raw.data + half, half));
    der_end(out, seq);
}

/* --- Signing --- */

static void write_header(struct cs_buf *out, const struct alg *a, const char *kid, const char *typ)
{
    cs_buf_printf(out, "{\"alg\":\"%s\"", a->name);
    if (kid != NULL) {
        cs_buf_add_str(out, ",\"kid\":");
        jose_json_string(out, cs_slice_str(kid));
    }
    if (typ != NULL) {
        cs_buf_add_str(out, ",\"typ\":");
        jose_json_string(out, cs_slice_str(typ));
    }
    cs_buf_add_byte(out, '}');
}

static cs_code write_token(const struct crypto_signer *s, const struct alg *a, const char *kid,
                           const char *typ, struct cs_slice payload, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf tmp = {0};
    size_t start = out->len;
    write_header(&tmp, a, kid, typ);
    cs_b64_encode(out, cs_buf_slice(&tmp), CS_B64_URL_RAW);
    cs_buf_add_byte(out, '.');
    cs_b64_encode(out, payload, CS_B64_URL_RAW);
    if (!cs_buf_ok(&tmp) || !cs_buf_ok(out))
        return cs_nomem(e);
    cs_buf_reset(&tmp);
    CS_TRY(crypto_sign(s, a->sig, cs_slice_of(out->data + start, out->len - start), &tmp, e));
    uint8_t raw[2 * 66];
    struct cs_slice sig = cs_buf_slice(&tmp);
    if (a->size != 0) {
        CS_TRY(jose_ecdsa_raw(sig, a->size, raw, e));
        sig = cs_slice_of(raw, 2 * a->size);
    }
    cs_buf_add_byte(out, '.');
    cs_b64_encode(out, sig, CS_B64_URL_RAW);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code jose_sign(const struct crypto_signer *s, enum jose_alg alg, const char *kid, const char *typ,
                  struct cs_slice payload, struct cs_buf *out, struct cs_err *e)
{
    const struct alg *a = alg_of(alg);
    if (a == NULL || !key_fits(a, crypto_signer_pub(s)))
        return cs_fail(e, CS_INVALID, "unable to determine signature algorithm for a key of type %s",
                       crypto_key_type_name(crypto_signer_type(s)));
    size_t start = out->len;
    cs_code code = write_token(s, a, kid, typ, payload, out, e);
    if (code != CS_OK)
        out->len = start;
    return code;
}

/* --- Parsing --- */

static bool split(struct cs_slice token, struct cs_slice part[3])
{
    struct cs_slice rest = token;
    for (size_t i = 0; i < 2; i++) {
        const uint8_t *dot = rest.len == 0 ? NULL : memchr(rest.data, '.', rest.len);
        if (dot == NULL)
            return false;
        size_t n = (size_t)(dot - rest.data);
        part[i] = cs_slice_of(rest.data, n);
        rest = cs_slice_of(dot + 1, rest.len - n - 1);
    }
    part[2] = rest;
    return rest.len == 0 || memchr(rest.data, '.', rest.len) == NULL;
}

static cs_code fail_alg(struct cs_err *e, const char *name)
{
    return cs_fail(
        e, CS_INVALID,
        "unexpected signature algorithm \"%.64s\"; expected [\"ES256\" \"ES384\" \"ES512\" \"RS256\" "
        "\"RS384\" \"RS512\" \"PS256\" \"PS384\" \"PS512\"]",
        name);
}

/* A member that must be a string if it is there; "" otherwise. */
static bool string_member(const json_t *obj, const char *name, const char **out)
{
    const json_t *v = json_object_get(obj, name);
    *out = v == NULL ? "" : json_string_value(v);
    return *out != NULL;
}

static cs_code read_header(const json_t *header, struct jose_jws *out, const char **kid, const char **typ,
                           struct cs_err *e)
{
    const char *name;
    if (!json_is_object(header))
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: JWS header is not a JSON object");
    if (json_object_get(header, "crit") != NULL || json_object_get(header, "b64") != NULL)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: unsupported critical header");
    if (!string_member(header, "alg", &name) || !string_member(header, "kid", kid) ||
        !string_member(header, "typ", typ))
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: JWS header member is not a string");
    out->alg = jose_alg_parse(cs_slice_str(name));
    if (out->alg == JOSE_NONE)
        return fail_alg(e, name);
    out->has_typ = json_object_get(header, "typ") != NULL;
    return CS_OK;
}

/* Everything that a jws points to, in one block. */
static cs_code fill_store(struct jose_jws *j, const char *kid, const char *typ, struct cs_slice payload,
                          struct cs_slice sig, struct cs_err *e)
{
    size_t kid_len = strlen(kid) + 1, typ_len = strlen(typ) + 1;
    char *p = cs_malloc(kid_len + typ_len + payload.len + 1 + sig.len);
    if (p == NULL)
        return cs_nomem(e);
    j->store = p;
    j->kid = memcpy(p, kid, kid_len);
    j->typ = memcpy(p += kid_len, typ, typ_len);
    p += typ_len;
    if (payload.len > 0)
        memcpy(p, payload.data, payload.len);
    j->payload = cs_slice_of(p, payload.len);
    p += payload.len;
    *p++ = '\0';
    if (sig.len > 0)
        memcpy(p, sig.data, sig.len);
    j->sig = cs_slice_of(p, sig.len);
    return CS_OK;
}

static cs_code decode_parts(const struct cs_slice part[3], struct jose_jws *j, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf header = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf sig = {0};
    CS_TRY(cs_b64_decode(&header, part[0], CS_B64_URL_RAW, e));
    CS_TRY(cs_b64_decode(&payload, part[1], CS_B64_URL_RAW, e));
    CS_TRY(cs_b64_decode(&sig, part[2], CS_B64_URL_RAW, e));
    json_error_t where;
    json_t *obj = json_loadb((const char *)header.data, header.len, JSON_REJECT_DUPLICATES, &where);
    if (obj == NULL)
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: malformed JWS header: %s", where.text);
    const char *kid = "", *typ = "";
    cs_code code = read_header(obj, j, &kid, &typ, e);
    if (code == CS_OK)
        code = fill_store(j, kid, typ, cs_buf_slice(&payload), cs_buf_slice(&sig), e);
    json_decref(obj);
    return code;
}

cs_code jose_parse(struct cs_slice token, struct jose_jws *out, struct cs_err *e)
{
    struct cs_slice part[3];
    *out = (struct jose_jws){0};
    if (token.len > JOSE_TOKEN_MAX)
        return cs_fail(e, CS_INVALID, "token is longer than %d bytes", JOSE_TOKEN_MAX);
    if (!split(token, part))
        return cs_fail(e, CS_INVALID, "go-jose/go-jose: compact JWS format must have three parts");
    struct jose_jws j = {.signing_input = cs_slice_of(token.data, part[0].len + 1 + part[1].len)};
    CS_TRY(decode_parts(part, &j, e));
    *out = j;
    return CS_OK;
}

void jose_jws_free(struct jose_jws *j)
{
    cs_free(j->store);
    *j = (struct jose_jws){0};
}

cs_code jose_verify(const struct jose_jws *j, const struct crypto_pub *pub, struct cs_err *e)
{
    static const char wrong[] = "go-jose/go-jose: error in cryptographic primitive";
    const struct alg *a = alg_of(j->alg);
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    struct cs_slice sig = j->sig;
    if (a == NULL || !key_fits(a, pub) || (a->size != 0 && sig.len != 2 * a->size))
        return cs_fail(e, CS_DENIED, wrong);
    if (a->size != 0) {
        jose_ecdsa_der(sig, &der);
        if (!cs_buf_ok(&der))
            return cs_nomem(e);
        sig = cs_buf_slice(&der);
    }
    cs_code code = crypto_verify(pub, a->sig, j->signing_input, sig, e);
    return code == CS_DENIED ? cs_fail(e, CS_DENIED, wrong) : code;
}
