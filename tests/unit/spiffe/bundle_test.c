/* SPDX-License-Identifier: Apache-2.0 */
#include "../crypto/fixture.h"

#include "spiffe/bundle.h"

static const struct cs_slice td = {(const uint8_t *)"example.org", 11};

/* A document that SPIRE printed is read and printed again byte for byte. */
static void document(void **state)
{
    (void)state;
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    CS_AUTO(spiffe_bundle) b = NULL;
    CS_AUTO(spiffe_bundle) with_sequence = NULL;
    CS_AUTO(spiffe_bundle_builder) builder = NULL;
    load("spiffe/bundle.json", &text);
    OK(spiffe_bundle_parse_jwks(td, cs_buf_slice(&text), &b, &e));
    assert_int_equal(b->x509_count, 1);
    assert_int_equal(b->jwt_count, 1);
    assert_int_equal(b->sequence_number, 0);
    OK(spiffe_bundle_builder_from(b, &builder, &e));
    spiffe_bundle_set_sequence(builder, 1);
    OK(spiffe_bundle_build(builder, &with_sequence, &e));
    OK(spiffe_bundle_write_jwks(&out, with_sequence, 0, &e));
    cs_buf_add_byte(&out, '\n');
    assert_string_equal(cs_buf_cstr(&out), cs_buf_cstr(&text));
    assert_true(spiffe_bundle_same_authorities(b, with_sequence));
    assert_false(spiffe_bundle_equal(b, with_sequence));
    assert_true(b->roots_id == with_sequence->roots_id && b->roots_id != 0);
    CS_CLEANUP(cs_buf_free) struct cs_buf plain = {0};
    OK(spiffe_bundle_write_jwks(&plain, with_sequence, SPIFFE_JWKS_STANDARD | SPIFFE_JWKS_NO_X509, &e));
    assert_null(strstr(cs_buf_cstr(&plain), "use"));
    assert_null(strstr(cs_buf_cstr(&plain), "x5c"));
    assert_null(strstr(cs_buf_cstr(&plain), "spiffe"));
    assert_non_null(strstr(cs_buf_cstr(&plain), "\"kid\": \"SGTM"));
}

static void documents_refused(void **state)
{
    (void)state;
#define EC_KEY                                                                                               \
    "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"yyIBcmI7vDrNtOVv7rs6dXmdICkTsLqSAtceCgxmIfc\","                \
    "\"y\":\"JCQweSJ1cZSOiFq4-XvrLARVuhc-Rpyme6lbzbjr9J8\""
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"{\"keys\":[{" EC_KEY "}]}", "missing use for key entry 0"},
        {"{\"keys\":[{\"use\":\"x\"," EC_KEY "}]}", "unrecognized use \"x\" for key entry 0"},
        {"{\"keys\":[{\"use\":\"x509-svid\"," EC_KEY "}]}",
         "expected a single certificate in x509-svid entry 0; got 0"},
        {"{\"keys\":[{\"use\":\"jwt-svid\"," EC_KEY "}]}", "missing key ID in jwt-svid entry 0"},
        {"{\"keys\":[{\"use\":\"jwt-svid\",\"kid\":\"a\"," EC_KEY "},{\"use\":\"wit-svid\"," EC_KEY "}]}",
         "missing key ID in wit-svid entry 1"},
        {"{\"keys\":[{\"use\":\"jwt-svid\",\"kty\":\"foo\"}]}",
         "go-jose/go-jose: unsupported key type/format"},
        {"{\"keys\":[1]}", "json: cannot unmarshal a key that is not an object"},
        {"[]", "json: cannot unmarshal the bundle: not an object"},
    };
    struct cs_err e = {0};
    struct spiffe_bundle *b;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        FAILS(spiffe_bundle_parse_jwks(td, cs_slice_str(rows[i].text), &b, &e), CS_INVALID, rows[i].error);
    static const char *const broken[] = {
        "",
        "{",
        "{}x",
        "{\"keys\":{}}",
        "{\"keys\":[],\"keys\":[]}",
        "{\"keys\":[],\"spiffe_refresh_hint\":1.5}",
        "{\"keys\":[],\"spiffe_refresh_hint\":\"1\"}",
        "{\"keys\":[],\"spiffe_sequence\":-1}",
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_int_equal(spiffe_bundle_parse_jwks(td, cs_slice_str(broken[i]), &b, NULL), CS_INVALID);
}

static void empty(void **state)
{
    (void)state;
    struct cs_err e = {0};
    CS_AUTO(spiffe_bundle) b = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    OK(spiffe_bundle_parse_jwks(td, S("{\"keys\":[],\"spiffe_refresh_hint\":300}"), &b, &e));
    OK(spiffe_bundle_write_jwks(&out, b, 0, &e));
    assert_string_equal(cs_buf_cstr(&out), "{\n    \"keys\": [],\n    \"spiffe_refresh_hint\": 300\n}");
    assert_int_equal(spiffe_bundle_refresh_seconds(b), 300);
    CS_AUTO(spiffe_bundle) none = NULL;
    OK(spiffe_bundle_parse_der(td, S(""), &none, &e));
    assert_int_equal(spiffe_bundle_refresh_seconds(none), 60);
    struct spiffe_bundle *no;
    FAILS(spiffe_bundle_parse_pem(td, S(""), &no, &e), CS_INVALID, "no PEM blocks");
}

static void building(void **state)
{
    (void)state;
    struct cs_err e = {0};
    CS_AUTO(x509_cert) ca = load_cert("crypto/ca_p256.pem");
    CS_AUTO(x509_cert) ca2 = load_cert("crypto/ca_p384.pem");
    CS_AUTO(spiffe_bundle_builder) builder = NULL;
    CS_AUTO(spiffe_bundle) b = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    OK(spiffe_bundle_builder_new(td, &builder, &e));
    OK(spiffe_bundle_add_x509(builder, ca2, false, &e));
    spiffe_bundle_clear_x509(builder);
    cs_buf_add_slice(&der, ca->der);
    cs_buf_add_slice(&der, ca2->der);
    OK(spiffe_bundle_add_x509_der(builder, cs_buf_slice(&der), false, &e));
    OK(spiffe_bundle_add_x509(builder, ca, true, &e)); /* the same again, now tainted */
    OK(spiffe_bundle_add_jwt(builder, S("k1"), ca->spki, 10, false, &e));
    OK(spiffe_bundle_add_jwt(builder, S("k2"), ca->spki, 20, false, &e));
    OK(spiffe_bundle_add_jwt(builder, S("k1"), ca2->spki, 30, true, &e)); /* replaced in its place */
    FAILS(spiffe_bundle_add_jwt(builder, S(""), ca->spki, 0, false, &e), CS_INVALID, "missing key ID");
    assert_int_equal(spiffe_bundle_add_jwt(builder, S("k"), S("junk"), 0, false, NULL), CS_INVALID);
    OK(spiffe_bundle_build(builder, &b, &e));
    assert_int_equal(b->x509_count, 2);
    assert_true(b->x509[0].tainted && !b->x509[1].tainted);
    assert_int_equal(b->jwt_count, 2);
    const struct spiffe_jwt_authority *a = spiffe_bundle_find_jwt(b, S("k1"));
    struct crypto_pub *pub;
    assert_non_null(a);
    assert_true(a == &b->jwt[0] && a->tainted && a->expires_at == 30 && cs_slice_eq(a->spki, ca2->spki));
    OK(spiffe_bundle_jwt_pub(b, a, &pub, &e));
    assert_int_equal(crypto_pub_type(pub), CRYPTO_EC_P384);
    assert_null(spiffe_bundle_find_jwt(b, S("k3")));
    x509_cert_key_id_hex(&hex, ca2);
    assert_ptr_equal(spiffe_bundle_find_x509(b, cs_buf_slice(&hex)), &b->x509[1]);
    assert_null(spiffe_bundle_find_x509(b, S("00")));
    /* the CAs live for 20 years: a tenth of that */
    assert_in_range(spiffe_bundle_refresh_seconds(b), 63072000, 63072001);
}

static void no_memory(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    load("spiffe/bundle.json", &text);
    size_t n = 1;
    for (;; n++) {
        CS_AUTO(spiffe_bundle) b = NULL;
        cs_mem_fail_at(n, false);
        cs_code code = spiffe_bundle_parse_jwks(td, cs_buf_slice(&text), &b, NULL);
        cs_mem_fail_at(0, false);
        if (code == CS_OK)
            break;
        assert_int_equal(code, CS_INTERNAL);
        assert_null(b);
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(document), cmocka_unit_test(documents_refused), cmocka_unit_test(empty),
        cmocka_unit_test(building), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
