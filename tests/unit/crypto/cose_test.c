/* SPDX-License-Identifier: Apache-2.0
 *
 * COSE_Sign1 with ES384: what is made verifies, and one shape of message is taken only.
 */
#include "crypto/cbor.h"
#include "crypto/cose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct crypto_key *key, *other, *p256;
    struct crypto_signer *signer, *p256_signer;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct cs_err e;
    *state = f;
    return crypto_key_generate(CRYPTO_EC_P384, &f->key, &e) == CS_OK &&
                   crypto_key_generate(CRYPTO_EC_P384, &f->other, &e) == CS_OK &&
                   crypto_key_generate(CRYPTO_EC_P256, &f->p256, &e) == CS_OK &&
                   crypto_signer_of_key(f->key, &f->signer, &e) == CS_OK &&
                   crypto_signer_of_key(f->p256, &f->p256_signer, &e) == CS_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    crypto_signer_drop(&f->signer);
    crypto_signer_drop(&f->p256_signer);
    crypto_key_drop(&f->key);
    crypto_key_drop(&f->other);
    crypto_key_drop(&f->p256);
    free(f);
    return 0;
}

static void made_messages_verify(void **state)
{
    struct fixture *f = *state;
    for (int tagged = 0; tagged < 2; tagged++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        struct cose_sign1 m;
        struct cs_err e;
        assert_int_equal(cose_sign1_make(f->signer, cs_slice_str("hello"), tagged == 1, &out, &e), CS_OK);
        assert_int_equal(out.data[0], tagged == 1 ? 0xd2 : 0x84);
        assert_int_equal(cose_sign1_parse(cs_buf_slice(&out), &m, &e), CS_OK);
        assert_true(cs_slice_is(m.payload, "hello"));
        assert_int_equal(cose_sign1_verify(&m, crypto_key_pub(f->key), &e), CS_OK);
        assert_int_equal(cose_sign1_verify(&m, crypto_key_pub(f->other), &e), CS_DENIED);
        assert_string_equal(e.text, "COSE_Sign1: signature is wrong");
        assert_int_equal(cose_sign1_verify(&m, crypto_key_pub(f->p256), &e), CS_INVALID);
        assert_string_equal(e.text, "COSE_Sign1: ES384 needs a P-384 key, not ec-p256");
    }
}

/* RFC 9052 section 4.4, by hand: what is signed is the structure, not the message. */
static void the_signature_is_over_sig_structure(void **state)
{
    static const uint8_t head[] = {0x84, 0x6a, 'S',  'i',  'g',  'n',  'a',  't', 'u', 'r', 'e', '1',
                                   0x44, 0xa1, 0x01, 0x38, 0x22, 0x40, 0x45, 'h', 'e', 'l', 'l', 'o'};
    static const uint8_t message[] = {0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x45,
                                      'h',  'e',  'l',  'l',  'o',  0x58, 0x60};
    struct fixture *f = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0}, out = {0};
    struct cose_sign1 m;
    struct cs_err e;
    uint8_t raw[96];
    assert_int_equal(crypto_sign(f->signer, CRYPTO_ECDSA_SHA384, cs_slice_of(head, sizeof head), &der, &e),
                     CS_OK);
    /* r and s out of the DER: 30 len 02 len r 02 len s */
    size_t at = 4 + der.data[3];
    const size_t lens[2] = {der.data[3], der.data[at + 1]}, starts[2] = {4, at + 2};
    memset(raw, 0, sizeof raw);
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < lens[i] && k < 48; k++)
            raw[i * 48 + 47 - k] = der.data[starts[i] + lens[i] - 1 - k];
    cs_buf_add(&out, message, sizeof message);
    cs_buf_add(&out, raw, sizeof raw);
    assert_int_equal(cose_sign1_parse(cs_buf_slice(&out), &m, &e), CS_OK);
    assert_int_equal(cose_sign1_verify(&m, crypto_key_pub(f->key), &e), CS_OK);
    out.data[8] = 'j';
    assert_int_equal(cose_sign1_verify(&m, crypto_key_pub(f->key), &e), CS_DENIED);
}

static void signatures_of_odd_numbers_are_refused(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    struct cose_sign1 m;
    struct cs_err e;
    assert_int_equal(cose_sign1_make(f->signer, cs_slice_str("hello"), false, &out, &e), CS_OK);
    assert_int_equal(cose_sign1_parse(cs_buf_slice(&out), &m, &e), CS_OK);
    uint8_t *sig = out.data + out.len - 96;
    memset(sig, 0, 96); /* CVE-2022-21449 */
    assert_int_equal(cose_sign1_verify(&m, crypto_key_pub(f->key), &e), CS_DENIED);
    memset(sig, 0xff, 96);
    assert_int_equal(cose_sign1_verify(&m, crypto_key_pub(f->key), &e), CS_DENIED);
    m.signature.len = 95;
    assert_int_equal(cose_sign1_verify(&m, crypto_key_pub(f->key), &e), CS_INVALID);
}

/* The parts of a message, each of which may be odd; text NULL: it is taken. */
#define BYTES(s) s, sizeof s - 1

static void expect(const char *tag, size_t tag_len, const char *array, size_t array_len, const char *prot,
                   size_t prot_len, const char *unprot, size_t unprot_len, const char *payload,
                   size_t payload_len, size_t signature, const char *text)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    static const uint8_t sig[256] = {1};
    struct cose_sign1 m;
    struct cs_err e = {0};
    cs_buf_add(&b, tag, tag_len);
    cs_buf_add(&b, array, array_len);
    cs_buf_add(&b, prot, prot_len);
    cs_buf_add(&b, unprot, unprot_len);
    cs_buf_add(&b, payload, payload_len);
    cbor_put_bytes(&b, cs_slice_of(sig, signature));
    cs_code code = cose_sign1_parse(cs_buf_slice(&b), &m, &e);
    if (text == NULL) {
        assert_int_equal(code, CS_OK);
        return;
    }
    assert_int_equal(code, CS_INVALID);
    assert_null(m.payload.data);
    if (strstr(e.text, text) == NULL)
        fail_msg("wanted \"%s\", got \"%s\"", text, e.text);
}

#define ES384 BYTES("\x44\xa1\x01\x38\x22")
#define NO_HEADER BYTES("\xa0")
#define PAYLOAD BYTES("\x45hello")
#define FOUR BYTES("\x84")
#define UNTAGGED BYTES("")

static void only_one_shape_is_taken(void **state)
{
    (void)state;
    expect(UNTAGGED, FOUR, ES384, NO_HEADER, PAYLOAD, 96, NULL);
    expect(BYTES("\xd2"), FOUR, ES384, NO_HEADER, PAYLOAD, 96, NULL);
    expect(BYTES("\xd8\x12"), FOUR, ES384, NO_HEADER, PAYLOAD, 96, NULL); /* 18, written longer */
    expect(BYTES("\xd1"), FOUR, ES384, NO_HEADER, PAYLOAD, 96, "not a COSE_Sign1 array");
    expect(BYTES("\xd8\x62"), FOUR, ES384, NO_HEADER, PAYLOAD, 96, "not a COSE_Sign1 array"); /* COSE_Sign */
    expect(UNTAGGED, BYTES("\x83"), ES384, NO_HEADER, PAYLOAD, 96, "not a COSE_Sign1 array");
    expect(UNTAGGED, BYTES("\x85"), ES384, NO_HEADER, PAYLOAD, 96, "not a COSE_Sign1 array");
    expect(UNTAGGED, BYTES("\x9f"), ES384, NO_HEADER, PAYLOAD, 96, "not a COSE_Sign1 array");
    expect(UNTAGGED, FOUR, BYTES("\xa1\x01\x38\x22"), NO_HEADER, PAYLOAD, 96, "malformed protected header");
    expect(UNTAGGED, FOUR, ES384, NO_HEADER, PAYLOAD, 95, "not a byte string of 96 bytes");
    expect(UNTAGGED, FOUR, ES384, NO_HEADER, PAYLOAD, 97, "not a byte string of 96 bytes");
    expect(UNTAGGED, FOUR, ES384, NO_HEADER, PAYLOAD, 132, "not a byte string of 96 bytes");
    expect(UNTAGGED, FOUR, ES384, NO_HEADER, BYTES("\xf6"), 96, "payload is not a byte string with content");
    expect(UNTAGGED, FOUR, ES384, NO_HEADER, BYTES("\x40"), 96, "payload is not a byte string with content");
    expect(UNTAGGED, FOUR, ES384, NO_HEADER, BYTES("\x65hello"), 96, "payload is not a byte string");
    expect(UNTAGGED, FOUR, ES384, NO_HEADER, BYTES("\x5f\x45hello\xff"), 96, "payload is not a byte string");
    expect(UNTAGGED, FOUR, ES384, BYTES("\xa1\x01\x26"), PAYLOAD, 96,
           "unprotected header is not an empty map");
    expect(UNTAGGED, FOUR, ES384, BYTES("\xbf\xff"), PAYLOAD, 96, "unprotected header is not an empty map");
    expect(UNTAGGED, FOUR, ES384, BYTES("\x80"), PAYLOAD, 96, "unprotected header is not an empty map");
}

static void only_es384_is_taken(void **state)
{
    static const char text[] = "the protected header is not the algorithm ES384 alone";
    (void)state;
    expect(UNTAGGED, FOUR, BYTES("\x43\xa1\x01\x26"), NO_HEADER, PAYLOAD, 96, text);     /* ES256 */
    expect(UNTAGGED, FOUR, BYTES("\x44\xa1\x01\x38\x23"), NO_HEADER, PAYLOAD, 96, text); /* ES512 */
    expect(UNTAGGED, FOUR, BYTES("\x43\xa1\x01\x05"), NO_HEADER, PAYLOAD, 96, text);     /* HMAC */
    expect(UNTAGGED, FOUR,
           BYTES("\x48\xa1\x01\x65"
                 "ES384"),
           NO_HEADER, PAYLOAD, 96, text);                                    /* a name */
    expect(UNTAGGED, FOUR, BYTES("\x40"), NO_HEADER, PAYLOAD, 96, text);     /* none */
    expect(UNTAGGED, FOUR, BYTES("\x41\xa0"), NO_HEADER, PAYLOAD, 96, text); /* none */
    expect(UNTAGGED, FOUR, BYTES("\x47\xa2\x01\x38\x22\x04\x41\x00"), NO_HEADER, PAYLOAD, 96, text); /* kid */
    expect(UNTAGGED, FOUR, BYTES("\x47\xa2\x01\x38\x22\x01\x26\x00"), NO_HEADER, PAYLOAD, 96,
           text);                                                                            /* twice */
    expect(UNTAGGED, FOUR, BYTES("\x45\xa1\x01\x38\x22\x00"), NO_HEADER, PAYLOAD, 96, text); /* trailing */
    expect(UNTAGGED, FOUR, BYTES("\x46\xbf\x01\x38\x22\xff\x00"), NO_HEADER, PAYLOAD, 96, text);
    expect(UNTAGGED, FOUR, BYTES("\x44\xa1\x02\x38\x22"), NO_HEADER, PAYLOAD, 96, text); /* another label */
}

static void messages_end_where_they_end(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    struct cose_sign1 m;
    struct cs_err e;
    assert_int_equal(cose_sign1_make(f->signer, cs_slice_str("hello"), true, &out, &e), CS_OK);
    for (size_t len = 0; len < out.len; len++)
        assert_int_equal(cose_sign1_parse(cs_slice_of(out.data, len), &m, &e), CS_INVALID);
    cs_buf_add_byte(&out, 0xf6);
    assert_int_equal(cose_sign1_parse(cs_buf_slice(&out), &m, &e), CS_INVALID);
    assert_string_equal(e.text, "COSE_Sign1: 1 bytes after its end");
}

static void other_keys_cannot_sign(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    struct cs_err e;
    cs_buf_add_str(&out, "before");
    assert_int_equal(cose_sign1_make(f->p256_signer, cs_slice_str("x"), false, &out, &e), CS_INVALID);
    assert_string_equal(e.text, "COSE_Sign1: ES384 needs a P-384 key, not ec-p256");
    assert_int_equal(out.len, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_messages_verify),
        cmocka_unit_test(the_signature_is_over_sig_structure),
        cmocka_unit_test(signatures_of_odd_numbers_are_refused),
        cmocka_unit_test(only_one_shape_is_taken),
        cmocka_unit_test(only_es384_is_taken),
        cmocka_unit_test(messages_end_where_they_end),
        cmocka_unit_test(other_keys_cannot_sign),
    };
    return cmocka_run_group_tests_name("cose", tests, setup, teardown);
}
