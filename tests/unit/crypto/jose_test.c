/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "base/text.h"
#include "crypto/jose.h"

#define CRYPTO_FAILURE "go-jose/go-jose: error in cryptographic primitive"

static void token(struct cs_buf *out, const char *header, const char *payload, const char *sig)
{
    cs_buf_reset(out);
    cs_b64_encode(out, cs_slice_str(header), CS_B64_URL_RAW);
    cs_buf_add_byte(out, '.');
    cs_b64_encode(out, cs_slice_str(payload), CS_B64_URL_RAW);
    cs_buf_add_byte(out, '.');
    cs_b64_encode(out, cs_slice_str(sig), CS_B64_URL_RAW);
}

static void sign_and_verify(void **state)
{
    (void)state;
    static const struct {
        enum crypto_key_type type;
        enum jose_alg alg;
        bool ok;
    } rows[] = {
        {CRYPTO_EC_P256, JOSE_ES256, true},  {CRYPTO_EC_P384, JOSE_ES384, true},
        {CRYPTO_RSA_2048, JOSE_RS256, true}, {CRYPTO_RSA_2048, JOSE_RS512, true},
        {CRYPTO_RSA_2048, JOSE_PS256, true}, {CRYPTO_RSA_2048, JOSE_PS384, true},
        {CRYPTO_EC_P256, JOSE_ES384, false}, {CRYPTO_EC_P384, JOSE_ES256, false},
        {CRYPTO_EC_P256, JOSE_RS256, false}, {CRYPTO_RSA_2048, JOSE_ES256, false},
        {CRYPTO_EC_P256, JOSE_NONE, false},
    };
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_AUTO(crypto_signer) s = new_signer(rows[i].type);
        CS_AUTO(crypto_signer) other = new_signer(rows[i].type);
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        CS_CLEANUP(jose_jws_free) struct jose_jws j = {0};
        cs_code code = jose_sign(s, rows[i].alg, "k<1>", "JWT", S("{\"a\":1}"), &out, &e);
        assert_int_equal(code == CS_OK, rows[i].ok);
        if (!rows[i].ok) {
            assert_int_equal(out.len, 0);
            continue;
        }
        OK(jose_parse(cs_buf_slice(&out), &j, &e));
        assert_string_equal(j.kid, "k<1>");
        assert_string_equal(j.typ, "JWT");
        assert_true(cs_slice_is(j.payload, "{\"a\":1}"));
        OK(jose_verify(&j, crypto_signer_pub(s), &e));
        FAILS(jose_verify(&j, crypto_signer_pub(other), &e), CS_DENIED, CRYPTO_FAILURE);
        out.data[j.signing_input.len - 1] ^= 1;
        assert_int_equal(jose_verify(&j, crypto_signer_pub(s), NULL), CS_DENIED);
        out.data[j.signing_input.len - 1] ^= 1;
        j.sig.len--; /* one byte short */
        assert_int_equal(jose_verify(&j, crypto_signer_pub(s), NULL), CS_DENIED);
        j.sig.len++;
        j.alg = j.alg == JOSE_RS256 ? JOSE_PS256 : JOSE_RS256; /* the algorithm is not the peer's to choose */
        assert_int_equal(jose_verify(&j, crypto_signer_pub(s), NULL), CS_DENIED);
    }
}

static void headers(void **state)
{
    (void)state;
    static const struct {
        const char *header, *error; /* NULL: fine */
    } rows[] = {
        {"{\"alg\":\"ES256\"}", NULL},
        {"{\"alg\":\"none\"}",
         "unexpected signature algorithm \"none\"; expected [\"ES256\" \"ES384\" \"ES512\" "
         "\"RS256\" \"RS384\" \"RS512\" \"PS256\" \"PS384\" \"PS512\"]"},
        {"{}",
         "unexpected signature algorithm \"\"; expected [\"ES256\" \"ES384\" \"ES512\" \"RS256\" \"RS384\" "
         "\"RS512\" \"PS256\" \"PS384\" \"PS512\"]"},
        {"{\"alg\":\"es256\"}",
         "unexpected signature algorithm \"es256\"; expected [\"ES256\" \"ES384\" \"ES512\" "
         "\"RS256\" \"RS384\" \"RS512\" \"PS256\" \"PS384\" \"PS512\"]"},
        {"{\"alg\":\"ES256\",\"crit\":[\"exp\"]}", "go-jose/go-jose: unsupported critical header"},
        {"{\"alg\":1}", "go-jose/go-jose: JWS header member is not a string"},
        {"{\"alg\":\"ES256\",\"kid\":1}", "go-jose/go-jose: JWS header member is not a string"},
        {"[]", "go-jose/go-jose: JWS header is not a JSON object"},
    };
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf t = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(jose_jws_free) struct jose_jws j = {0};
        token(&t, rows[i].header, "{}", "s");
        if (rows[i].error == NULL)
            OK(jose_parse(cs_buf_slice(&t), &j, &e));
        else
            FAILS(jose_parse(cs_buf_slice(&t), &j, &e), CS_INVALID, rows[i].error);
    }
    struct jose_jws j;
    token(&t, "{\"alg\":\"ES256\",\"alg\":\"RS256\"}", "{}", "s");
    assert_int_equal(jose_parse(cs_buf_slice(&t), &j, NULL), CS_INVALID);
    static const char *const shapes[] = {"", ".", "a.b", "a.b.c.d", "..", "=.e30.", "e30.e30.*"};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        assert_int_equal(jose_parse(cs_slice_str(shapes[i]), &j, NULL), CS_INVALID);
}

static void ecdsa_forms(void **state)
{
    (void)state;
    uint8_t raw[64] = {0};
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    raw[31] = 1;
    raw[32] = 0x80;
    jose_ecdsa_der(cs_slice_of(raw, 64), &der);
    assert_int_equal(der.len, 2 + 3 + 2 + 33);
    uint8_t back[64];
    OK(jose_ecdsa_raw(cs_buf_slice(&der), 32, back, &e));
    assert_memory_equal(raw, back, 64);
    assert_int_equal(jose_ecdsa_raw(cs_buf_slice(&der), 31, back, NULL), CS_INVALID);
    for (size_t n = 0; n < der.len; n++)
        assert_int_equal(jose_ecdsa_raw(cs_slice_of(der.data, n), 32, back, NULL), CS_INVALID);
    /* r = s = 0 never verifies */
    CS_AUTO(crypto_signer) s = new_signer(CRYPTO_EC_P256);
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    CS_CLEANUP(jose_jws_free) struct jose_jws j = {0};
    OK(jose_sign(s, JOSE_ES256, NULL, NULL, S("{}"), &out, &e));
    OK(jose_parse(cs_buf_slice(&out), &j, &e));
    memset((uint8_t *)(uintptr_t)j.sig.data, 0, j.sig.len);
    assert_int_equal(jose_verify(&j, crypto_signer_pub(s), NULL), CS_DENIED);
    assert_false(j.has_typ);
    assert_string_equal(j.kid, "");
}

static cs_code read_jwk(const char *text, struct cs_err *e)
{
    json_error_t where;
    json_t *obj = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    assert_non_null(obj);
    CS_CLEANUP(jose_jwk_free) struct jose_jwk k = {0};
    cs_code code = jose_jwk_read(obj, &k, e);
    json_decref(obj);
    return code;
}

static void keys(void **state)
{
    (void)state;
    struct cs_err e = {0};
    for (enum crypto_key_type t = CRYPTO_EC_P256; t <= CRYPTO_RSA_2048; t++) {
        CS_AUTO(crypto_signer) s = new_signer(t);
        for (int indent = -1; indent < 13; indent += 13) {
            CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
            CS_CLEANUP(jose_jwk_free) struct jose_jwk k = {0};
            json_error_t where;
            jose_jwk_write(&out, crypto_signer_pub(s), "jwt-svid", "id", NULL, indent);
            json_t *obj = json_loadb((char *)out.data, out.len, 0, &where);
            assert_non_null(obj);
            OK(jose_jwk_read(obj, &k, &e));
            assert_string_equal(k.use, "jwt-svid");
            assert_string_equal(k.kid, "id");
            assert_true(crypto_pub_equal(k.pub, crypto_signer_pub(s)));
            jose_jwk_free(&k);
            json_decref(obj);
        }
    }
#define X "\"x\":\"yyIBcmI7vDrNtOVv7rs6dXmdICkTsLqSAtceCgxmIfc\""
#define Y "\"y\":\"JCQweSJ1cZSOiFq4-XvrLARVuhc-Rpyme6lbzbjr9J8\""
    OK(read_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\"," X "," Y "}", &e));
    FAILS(read_jwk("{" X "}", &e), CS_INVALID, "go-jose/go-jose: missing json web key type");
    FAILS(read_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\"," X "}", &e), CS_INVALID,
          "go-jose/go-jose: invalid EC key, missing x/y values");
    FAILS(read_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\"," X ",\"y\":\"JA\"}", &e), CS_INVALID,
          "go-jose/go-jose: invalid EC public key, wrong length for y");
    FAILS(read_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\"," X
                   ",\"y\":\"JCQweSJ1cZSOiFq4-XvrLARVuhc-Rpyme6lbzbjr9J4\"}",
                   &e),
          CS_INVALID, "go-jose/go-jose: invalid EC key, X/Y are not on declared curve");
    FAILS(read_jwk("{\"kty\":\"EC\",\"crv\":\"secp256k1\"}", &e), CS_UNIMPLEMENTED,
          "go-jose/go-jose: unsupported elliptic curve 'secp256k1'");
    /* RFC 8037, A.2 */
    OK(read_jwk("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
                &e));
    FAILS(read_jwk("{\"kty\":\"OKP\",\"crv\":\"Ed25519\"}", &e), CS_INVALID,
          "go-jose/go-jose: invalid Ed key, missing x value");
    FAILS(read_jwk("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQ\"}", &e), CS_INVALID,
          "x509: wrong Ed25519 public key size");
    FAILS(read_jwk("{\"kty\":\"OKP\",\"crv\":\"X25519\"}", &e), CS_UNIMPLEMENTED,
          "go-jose/go-jose: unknown curve X25519'");
    FAILS(read_jwk("{\"kty\":\"XY\"}", &e), CS_UNIMPLEMENTED, "go-jose/go-jose: unsupported key type/format");
    FAILS(read_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\",\"d\":\"AQ\"," X "," Y "}", &e), CS_INVALID,
          "go-jose/go-jose: key is not a public key");
    assert_int_equal(read_jwk("{\"kty\":\"RSA\",\"n\":\"AQ\",\"e\":\"AQAB\"}", NULL), CS_INVALID);
    assert_int_equal(read_jwk("{\"kty\":[]}", NULL), CS_INVALID);
    assert_int_equal(read_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x5c\":[\"AAAA\"]," X "," Y "}", NULL),
                     CS_INVALID);
    assert_int_equal(read_jwk("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x5c\":[1]," X "," Y "}", NULL),
                     CS_INVALID);
    /* a certificate of another key */
    CS_AUTO(x509_cert) ca = load_cert("crypto/ca_p256.pem");
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    cs_buf_add_str(&text, "{\"kty\":\"EC\",\"crv\":\"P-256\"," X "," Y ",\"x5c\":[\"");
    cs_b64_encode(&text, ca->der, CS_B64_STD);
    cs_buf_add_str(&text, "\"]}");
    FAILS(read_jwk(cs_buf_cstr(&text), &e), CS_INVALID,
          "go-jose/go-jose: invalid JWK, public keys in key and x5c fields do not match");
}

static void json_strings(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    jose_json_string(&out, S("a\"\\\n\x01<&>\xe2\x80\xa8\xe2\x80\xa9\xc3\xa9\xff\xc3"));
    assert_string_equal(cs_buf_cstr(&out), "\"a\\\"\\\\\\n\\u0001\\u003c\\u0026\\u003e\\u2028\\u2029\xc3\xa9"
                                           "\\ufffd\\ufffd\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sign_and_verify), cmocka_unit_test(headers),
        cmocka_unit_test(ecdsa_forms),     cmocka_unit_test(keys),
        cmocka_unit_test(json_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
