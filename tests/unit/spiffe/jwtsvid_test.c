/* SPDX-License-Identifier: Apache-2.0 */
#include "../crypto/fixture.h"

#include "base/text.h"
#include "spiffe/jwtsvid.h"

struct world {
    struct crypto_signer *signer;
    struct spiffe_bundle *bundle;
};

static const struct spiffe_bundle *find(void *arg, struct cs_slice td)
{
    const struct spiffe_bundle *b = arg;
    return cs_slice_is(td, b->trust_domain) ? b : NULL;
}

static struct world make(enum crypto_key_type t)
{
    struct cs_err e = {0};
    struct world w = {.signer = new_signer(t)};
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    OK(spiffe_bundle_builder_new(S("example.org"), &b, &e));
    OK(spiffe_bundle_add_jwt(b, S("k1"), crypto_pub_spki(crypto_signer_pub(w.signer)), 0, false, &e));
    OK(spiffe_bundle_build(b, &w.bundle, &e));
    return w;
}

static void unmake(struct world *w)
{
    crypto_signer_unref(w->signer);
    spiffe_bundle_unref(w->bundle);
}

static cs_code validate(const struct world *w, struct cs_slice token, const char *aud, int64_t now,
                        struct spiffe_jwtsvid *out, struct cs_err *e)
{
    const struct spiffe_jwt_bundles bundles = {find, w->bundle};
    const struct cs_slice audience = cs_slice_str(aud);
    return spiffe_jwtsvid_validate(token, &bundles, &audience, 1, now, out, e);
}

/* A token of a running SPIRE server, checked with its printed bundle, written again with our hands. */
static void of_spire(void **state)
{
    (void)state;
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf token = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf again = {0};
    CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
    struct world w = {0};
    load("spiffe/token.jwt", &token);
    load("spiffe/bundle.json", &doc);
    while (token.len > 0 && token.data[token.len - 1] == '\n')
        token.len--;
    OK(spiffe_bundle_parse_jwks(S("example.org"), cs_buf_slice(&doc), &w.bundle, &e));
    OK(validate(&w, cs_buf_slice(&token), "aud1", 1795385500, &t, &e));
    assert_true(cs_slice_is(t.id.text, "spiffe://example.org/wl"));
    assert_int_equal(t.expires_at - t.issued_at, 300);
    w.signer = new_signer(CRYPTO_EC_P256);
    const struct cs_slice aud[] = {S(""), S("aud1")};
    const struct spiffe_jwtsvid_params p = {
        .id = t.id,
        .audience = aud,
        .audience_count = 2,
        .issued_at = t.issued_at,
        .expires_at = t.expires_at,
        .issuer = "https://issuer.example",
    };
    OK(spiffe_jwtsvid_sign(&p, w.signer, t.jws.kid, &again, &e));
    /* header and claims are the same bytes */
    assert_true(again.len == token.len);
    assert_memory_equal(again.data, token.data, t.jws.signing_input.len);
    unmake(&w);
}

static void every_key_type(void **state)
{
    (void)state;
    static const enum crypto_key_type types[] = {CRYPTO_EC_P256, CRYPTO_EC_P384, CRYPTO_RSA_2048};
    struct cs_err e = {0};
    for (size_t i = 0; i < 3; i++) {
        struct world w = make(types[i]);
        CS_CLEANUP(cs_buf_free) struct cs_buf token = {0};
        CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
        CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid u = {0};
        const struct cs_slice aud[] = {S("a"), S("b")};
        struct spiffe_jwtsvid_params p = {
            .audience = aud,
            .audience_count = 2,
            .issued_at = 1000,
            .expires_at = 2000,
            .include_jti = true,
        };
        FAILS(spiffe_jwtsvid_sign(&p, w.signer, "k1", &token, &e), CS_INVALID,
              "invalid JWT-SVID ID: cannot be empty");
        OK(spiffe_id_parse(S("spiffe://example.org/x"), &p.id, &e));
        OK(spiffe_jwtsvid_sign(&p, w.signer, "k1", &token, &e));
        OK(validate(&w, cs_buf_slice(&token), "b", 1500, &t, &e));
        assert_int_equal(t.audience_count, 2);
        assert_string_equal(t.audience[1], "b");
        assert_int_equal(json_string_length(json_object_get(t.claims, "jti")), 22);
        OK(spiffe_jwtsvid_parse_insecure(cs_buf_slice(&token), &u, &e));
        assert_int_equal(u.issued_at, 1000);
        assert_int_equal(u.expires_at, 2000);
        p.audience_count = 0;
        FAILS(spiffe_jwtsvid_sign(&p, w.signer, "k1", &token, &e), CS_INVALID,
              "invalid JWT-SVID audience: cannot be empty");
        unmake(&w);
    }
}

#define SUB "\"sub\":\"spiffe://example.org/x\""
#define GOOD "{\"aud\":[\"a\",\"b\"],\"exp\":2000,\"iat\":1000," SUB "}"

static void rules(void **state)
{
    (void)state;
    static const struct {
        const char *kid, *typ, *claims;
        int64_t now;
        const char *error; /* NULL: fine */
    } rows[] = {
        {"k1", "JWT", GOOD, 1500, NULL},
        {"k1", NULL, GOOD, 1500, NULL},
        {"k1", "JOSE", GOOD, 1500, NULL},
        {"k1", "at+jwt", GOOD, 1500, NULL},
        {"k1", "foo", GOOD, 1500, "token header type not equal to either JWT or JOSE"},
        {"k1", "", GOOD, 1500, "token header type not equal to either JWT or JOSE"},
        {NULL, "JWT", GOOD, 1500, "token header missing key id"},
        {"", "JWT", GOOD, 1500, "token header missing key id"},
        {"k2", "JWT", GOOD, 1500, "public key \"k2\" not found in trust domain \"example.org\""},
        {"k1", "JWT", GOOD, 2060, NULL},
        {"k1", "JWT", GOOD, 2061, "token has expired"},
        {"k1", "JWT", GOOD, 940, NULL},
        {"k1", "JWT", GOOD, 939, "go-jose/go-jose/jwt: validation field, token issued in the future (iat)"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":2e3," SUB "}", 1500, NULL},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":2000,\"nbf\":1561," SUB "}", 1500,
         "go-jose/go-jose/jwt: validation failed, token not valid yet (nbf)"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":2000,\"nbf\":1560," SUB "}", 1500, NULL},
        {"k1", "JWT", "{\"aud\":\"a\"," SUB "}", 1500, "token missing exp claim"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":null," SUB "}", 1500, "token missing exp claim"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":\"2000\"," SUB "}", 1500,
         "go-jose/go-jose/jwt: expected number value to unmarshal NumericDate"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":1e300," SUB "}", 1500,
         "go-jose/go-jose/jwt: expected number value to unmarshal NumericDate"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":9223372036854775807," SUB "}", 1500, NULL},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":-9223372036854775807," SUB "}", 1500, "token has expired"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":2000}", 1500, "token missing subject claim"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":2000,\"sub\":\"\"}", 1500, "token missing subject claim"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":2000,\"sub\":\"x\"}", 1500,
         "token has in invalid subject claim: scheme is missing or invalid"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":2000,\"sub\":\"spiffe://other.org/x\"}", 1500,
         "no keys found for trust domain \"other.org\""},
        {"k1", "JWT", "{\"aud\":\"c\",\"exp\":2000," SUB "}", 1500,
         "expected audience in [\"a\"] (audience=[\"c\"])"},
        {"k1", "JWT", "{\"aud\":[\"c\",\"d\"],\"exp\":2000," SUB "}", 1500,
         "expected audience in [\"a\"] (audience=[\"c\" \"d\"])"},
        {"k1", "JWT", "{\"exp\":2000," SUB "}", 1500, "expected audience in [\"a\"] (audience=[])"},
        {"k1", "JWT", "{\"aud\":[1],\"exp\":2000," SUB "}", 1500,
         "go-jose/go-jose/jwt: expected string or array value to unmarshal to Audience"},
        {"k1", "JWT", "{\"aud\":{},\"exp\":2000," SUB "}", 1500,
         "go-jose/go-jose/jwt: expected string or array value to unmarshal to Audience"},
        {"k1", "JWT", "[]", 1500, "malformed claims: not a JSON object"},
        {"k1", "JWT", "{\"aud\":\"a\",\"exp\":2000,\"sub\":7}", 1500,
         "malformed claims: sub is not a string"},
    };
    struct world w = make(CRYPTO_EC_P256);
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf token = {0};
        CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
        OK(jose_sign(w.signer, JOSE_ES256, rows[i].kid, rows[i].typ, cs_slice_str(rows[i].claims), &token,
                     &e));
        if (rows[i].error == NULL)
            OK(validate(&w, cs_buf_slice(&token), "a", rows[i].now, &t, &e));
        else
            FAILS(validate(&w, cs_buf_slice(&token), "a", rows[i].now, &t, &e), CS_INVALID, rows[i].error);
        /* whatever the claims: with a bent signature nothing passes */
        uint8_t *last = &token.data[token.len - 10];
        *last = *last == 'A' ? 'B' : 'A';
        CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid bent = {0};
        assert_int_equal(validate(&w, cs_buf_slice(&token), "a", rows[i].now, &bent, NULL), CS_INVALID);
    }
    struct spiffe_jwtsvid t;
    FAILS(validate(&w, S("abc"), "a", 0, &t, &e), CS_INVALID,
          "unable to parse JWT token: go-jose/go-jose: compact JWS format must have three parts");
    unmake(&w);
}

/* Claims that others composed: SPIRE's texts (pkg/server/credvalidator). */
static void composed_claims(void **state)
{
    (void)state;
#define SUB "\"sub\":\"spiffe://example.org/x\""
    static const struct {
        const char *in, *out, *error;
    } rows[] = {
        {"{\"aud\":[\"a\"],\"exp\":2000,\"iat\":1000," SUB "}",
         "{\"aud\":[\"a\"],\"exp\":2000,\"iat\":1000," SUB "}", NULL},
        {"{\"aud\":\"a\",\"x\":{\"b\":0.5,\"a\":[9007199254740991,null]},\"iat\":1e3,\"exp\":2000.0," SUB "}",
         "{\"aud\":\"a\",\"exp\":2000,\"iat\":1000," SUB ",\"x\":{\"a\":[9007199254740991,null],\"b\":0.5}}",
         NULL},
        {"{\"aud\":[\"a\"],\"exp\":2000,\"iat\":1000}", NULL,
         "invalid JWT-SVID \"sub\" claim: expected \"spiffe://example.org/x\" but got \"\""},
        {"{\"aud\":[\"a\"],\"exp\":2000,\"iat\":1000,\"sub\":\"spiffe://example.org/y\"}", NULL,
         "invalid JWT-SVID \"sub\" claim: expected \"spiffe://example.org/x\" but got "
         "\"spiffe://example.org/y\""},
        {"{\"aud\":[\"a\"],\"exp\":2000,\"iat\":1000,\"sub\":7}", NULL,
         "invalid JWT-SVID \"sub\" claim: expected \"spiffe://example.org/x\" but got \"\""},
        {"{\"aud\":[\"a\"],\"iat\":1000," SUB "}", NULL,
         "invalid JWT-SVID \"exp\" claim: required but missing"},
        {"{\"aud\":[\"a\"],\"exp\":1500,\"iat\":1000," SUB "}", NULL,
         "invalid JWT-SVID \"exp\" claim: already expired as of 1970-01-01T00:25:00Z"},
        {"{\"aud\":[\"a\"],\"exp\":2000,\"iat\":1000,\"nbf\":1501," SUB "}", NULL,
         "invalid JWT-SVID \"nbf\" claim: not yet valid until 1970-01-01T00:25:01Z"},
        {"{\"exp\":2000,\"iat\":1000," SUB "}", NULL, "invalid JWT-SVID \"aud\" claim: required but missing"},
        {"{\"aud\":[],\"exp\":2000,\"iat\":1000," SUB "}", NULL,
         "invalid JWT-SVID \"aud\" claim: required but missing"},
        {"{\"aud\":[\"a\",\"\"],\"exp\":2000,\"iat\":1000," SUB "}", NULL,
         "invalid JWT-SVID \"aud\" claim: contains empty value"},
        {"{\"aud\":[\"a\"],\"exp\":2000," SUB "}", NULL, "JWT missing iat claim"},
        {"{\"aud\":[\"a\"],\"exp\":\"soon\",\"iat\":1000," SUB "}", NULL,
         "failed to extract JWT-SVID claims for validation: go-jose/go-jose/jwt: expected number value to "
         "unmarshal NumericDate"},
        {"[]", NULL, "failed to extract JWT-SVID claims for validation: malformed claims: not a JSON object"},
    };
    struct cs_err e = {0};
    struct spiffe_id id;
    OK(spiffe_id_parse(S("spiffe://example.org/x"), &id, &e));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        int64_t iat = 0, exp = 0;
        cs_code rc = spiffe_jwtsvid_check_claims(cs_slice_str(rows[i].in), id, 1500, &out, &iat, &exp, &e);
        if (rows[i].error != NULL) {
            assert_string_equal(e.text, rows[i].error);
            assert_int_equal(rc, CS_INTERNAL);
            continue;
        }
        OK(rc);
        assert_string_equal(cs_buf_cstr(&out), rows[i].out);
        assert_int_equal(iat, 1000);
        assert_int_equal(exp, 2000);
    }
    assert_int_equal(spiffe_jwtsvid_check_claims(S("{"), id, 1500, &(struct cs_buf){0}, &(int64_t){0},
                                                 &(int64_t){0}, NULL),
                     CS_INTERNAL);
}

static void no_memory(void **state)
{
    (void)state;
    struct world w = make(CRYPTO_EC_P256);
    struct cs_err e = {0};
    const struct cs_slice aud = S("a");
    struct spiffe_jwtsvid_params p = {.audience = &aud, .audience_count = 1, .expires_at = 2000};
    OK(spiffe_id_parse(S("spiffe://example.org/x"), &p.id, &e));
    for (size_t n = 1;; n++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf token = {0};
        CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
        cs_mem_fail_at(n, false);
        cs_code code = spiffe_jwtsvid_sign(&p, w.signer, "k1", &token, NULL);
        if (code == CS_OK)
            code = validate(&w, cs_buf_slice(&token), "a", 1500, &t, NULL);
        cs_mem_fail_at(0, false);
        if (code == CS_OK)
            break;
        assert_int_equal(code, CS_INTERNAL);
    }
    unmake(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_spire),        cmocka_unit_test(every_key_type), cmocka_unit_test(rules),
        cmocka_unit_test(composed_claims), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
