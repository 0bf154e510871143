/* SPDX-License-Identifier: Apache-2.0
 *
 * Attestation documents of Nitro Enclaves: good ones verify in every form a hypervisor may give them, and
 * nothing that breaks a rule does. Their certificates are in nitro_chain_test.c, documents of AWS in
 * nitro_real_test.c.
 */
#include "crypto/cbor.h"
#include "nitro_fixture.h"

/* --- Good ones --- */

static void every_form_of_a_good_document_verifies(void **state)
{
    struct fixture *f = *state;
    for (int form = 0; form < 4; form++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
        struct nitro_document d;
        struct cs_err e = {0};
        f->made.indefinite = (form & 1) != 0;
        f->made.tagged = (form & 2) != 0;
        f->made.nonce = form == 3 ? cs_slice_str("nonce") : (struct cs_slice){0};
        assert_int_equal(nitro_make_document(&f->authority, &f->made, &doc, &e), CS_OK);
        assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &f->policy, &d, &e), CS_OK);
        assert_true(cs_slice_is(d.module_id, f->made.module_id));
        assert_true(d.timestamp_ms == f->made.timestamp_ms);
        assert_true(cs_slice_eq(d.pcrs[0], f->made.pcrs[0]));
        assert_true(cs_slice_eq(d.pcrs[4], f->made.pcrs[4]));
        assert_true(d.pcrs[16].len == 0);
        assert_true(cs_slice_eq(d.nonce, f->made.nonce));
        assert_true(d.user_data.len == 0 && d.public_key.len == 0);
    }
}

static void order_of_fields_does_not_matter(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    for (size_t i = 0; i < 4; i++) {
        struct cs_buf t = x.at[i];
        x.at[i] = x.at[8 - i];
        x.at[8 - i] = t;
    }
    expect_fields(f, &x, CS_OK, "");
}

/* AWS's text lets them be missing; its hypervisors write null. */
static void optional_fields_may_be_left_out(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    cs_buf_reset(&x.at[PUBLIC_KEY]);
    cs_buf_reset(&x.at[USER_DATA]);
    cs_buf_reset(&x.at[NONCE]);
    put_fields(&payload, &x, 6);
    expect_payload(f, cs_buf_slice(&payload), CS_OK, "");
}

static void fields_may_be_as_large_as_aws_says(void **state)
{
    static const uint8_t large[NITRO_FIELD_MAX] = {7};
    struct fixture *f = *state;
    f->made.public_key = f->made.user_data = f->made.nonce = cs_slice_of(large, sizeof large);
    expect_made(f, CS_OK, "");
}

/* --- The envelope --- */

static void envelopes_that_are_cut_anywhere_are_refused(void **state)
{
    struct fixture *f = *state;
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    f->made.tagged = true;
    assert_int_equal(nitro_make_document(&f->authority, &f->made, &doc, &e), CS_OK);
    const size_t whole = doc.len;
    for (doc.len = 0; doc.len < whole; doc.len++) {
        /* a copy of the exact size, so that a sanitizer sees a read beyond it */
        uint8_t *cut = cs_memdup(doc.data, doc.len > 0 ? doc.len : 1);
        struct nitro_document d;
        assert_int_equal(nitro_document_verify(cs_slice_of(cut, doc.len), &f->policy, &d, &e), CS_INVALID);
        cs_free(cut);
    }
    expect(f, &doc, CS_OK, "");
}

static void payloads_that_are_cut_anywhere_are_refused(void **state)
{
    struct fixture *f = *state;
    for (int form = 0; form < 2; form++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0}, doc = {0};
        f->made.indefinite = form == 1;
        nitro_make_payload(&f->authority, &f->made, &payload);
        for (size_t len = 1; len < payload.len; len++) {
            cs_buf_reset(&doc);
            put_unsigned(&doc, cs_slice_of(payload.data, len));
            expect(f, &doc, CS_INVALID, "");
        }
    }
}

static void envelopes_of_another_shape_are_refused(void **state)
{
    struct fixture *f = *state;
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0}, bad = {0};
    assert_int_equal(nitro_make_document(&f->authority, &f->made, &doc, &e), CS_OK);
    cs_buf_add_slice(&bad, cs_buf_slice(&doc));
    cs_buf_add_byte(&bad, 0);
    expect(f, &bad, CS_INVALID, "1 bytes after its end");
    cs_buf_reset(&bad);
    cbor_put_tag(&bad, 17); /* COSE_Mac0 */
    cs_buf_add_slice(&bad, cs_buf_slice(&doc));
    expect(f, &bad, CS_INVALID, "data is not a COSE_Sign1 array");
    cs_buf_reset(&bad);
    cbor_put_tag(&bad, 18);
    cbor_put_tag(&bad, 18);
    cs_buf_add_slice(&bad, cs_buf_slice(&doc));
    expect(f, &bad, CS_INVALID, "data is not a COSE_Sign1 array");
    cs_buf_reset(&bad);
    cs_buf_add_str(&bad, "{\"document\": \"hEShATgioFkR\"}");
    expect(f, &bad, CS_INVALID, "data is not a COSE_Sign1 array");
    cs_buf_reset(&bad);
    expect(f, &bad, CS_INVALID, "data is not a COSE_Sign1 array");
    while (bad.len <= NITRO_DOCUMENT_MAX)
        cs_buf_add_byte(&bad, 0x81);
    expect(f, &bad, CS_INVALID, "document is larger than");
}

static void another_byte_anywhere_breaks_the_signature(void **state)
{
    struct fixture *f = *state;
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    f->policy.chains = nitro_memory_new(64);
    assert_non_null(f->policy.chains);
    assert_int_equal(nitro_make_document(&f->authority, &f->made, &doc, &e), CS_OK);
    for (size_t i = doc.len - COSE_ES384_SIGNATURE; i < doc.len; i += 5) {
        doc.data[i] ^= 0x10;
        expect(f, &doc, CS_DENIED, "COSE_Sign1: signature is wrong");
        doc.data[i] ^= 0x10;
    }
    /* a PCR: well formed, and not what was signed */
    uint8_t *pcr = memmem(doc.data, doc.len, ones, sizeof ones);
    assert_non_null(pcr);
    pcr[40] = 9;
    expect(f, &doc, CS_DENIED, "COSE_Sign1: signature is wrong");
    nitro_memory_free(f->policy.chains);
}

static void a_signature_by_another_key_is_refused(void **state)
{
    struct fixture *f = *state;
    expect_signed_by(f, &f->other, CS_DENIED, "COSE_Sign1: signature is wrong");
}

/* --- The payload --- */

static void strings_in_chunks_are_refused(void **state)
{
    static const uint8_t chunked_text[] = {0x7f, 0x66, 'S', 'H', 'A', '3', '8', '4', 0xff};
    static const uint8_t chunked_bytes[] = {0x5f, 0x41, 'x', 0xff};
    struct fixture *f = *state;
    {
        CS_CLEANUP(fields_free) struct fields x = fields_of(f);
        key(&x.at[DIGEST], "digest");
        cs_buf_add(&x.at[DIGEST], chunked_text, sizeof chunked_text);
        expect_fields(f, &x, CS_INVALID, "digest is not SHA384");
    }
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    key(&x.at[NONCE], "nonce");
    cs_buf_add(&x.at[NONCE], chunked_bytes, sizeof chunked_bytes);
    expect_fields(f, &x, CS_INVALID, "nonce is neither null nor a byte string");
    key(&x.at[NONCE], "nonce");
    cbor_put_null(&x.at[NONCE]);
    cs_buf_reset(&x.at[DIGEST]);
    cs_buf_add_str(&x.at[DIGEST], "\x7f\x66"
                                  "digest\xff");
    cbor_put_text(&x.at[DIGEST], "SHA384");
    expect_fields(f, &x, CS_INVALID, "a key is not a text");
}

static void maps_without_their_end_are_refused(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    nitro_make_payload(&f->authority, &f->made, &payload);
    payload.len--;
    expect_payload(f, cs_buf_slice(&payload), CS_INVALID, "the map has no end");
    cbor_put_break(&payload);
    cbor_put_break(&payload);
    expect_payload(f, cs_buf_slice(&payload), CS_INVALID, "1 bytes after its end");
    payload.len -= 2;
    cbor_put_text(&payload, "nonce"); /* a key, and the break where its value should be */
    cbor_put_break(&payload);
    expect_payload(f, cs_buf_slice(&payload), CS_INVALID, "nonce is there twice");
}

static void inner_maps_and_arrays_are_of_definite_length(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    key(&x.at[PCRS], "pcrs");
    cbor_put_map_indefinite(&x.at[PCRS]);
    cbor_put_uint(&x.at[PCRS], 0);
    cbor_put_bytes(&x.at[PCRS], cs_slice_of(ones, sizeof ones));
    cbor_put_break(&x.at[PCRS]);
    expect_fields(f, &x, CS_INVALID, "pcrs is not a map of 1 to 32");
}

static void fields_twice_are_refused(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    for (size_t i = 0; i < 9; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
        put_fields(&payload, &x, 10);
        cs_buf_add_slice(&payload, cs_buf_slice(&x.at[i]));
        expect_payload(f, cs_buf_slice(&payload), CS_INVALID, "is there twice");
    }
}

/* What later hypervisors may say besides must not lock enclaves out; nor may it go without bounds. */
static void unknown_fields_are_passed_over(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0}, deep = {0};
    put_fields(&payload, &x, 10);
    cbor_put_text(&payload, "later");
    cbor_put_map(&payload, 1);
    cbor_put_uint(&payload, 7);
    cbor_put_text(&payload, "more");
    expect_payload(f, cs_buf_slice(&payload), CS_OK, "");
    put_fields(&deep, &x, 10);
    cbor_put_text(&deep, "later");
    for (int i = 0; i < CBOR_DEPTH_MAX + 1; i++)
        cbor_put_array(&deep, 1);
    cbor_put_null(&deep);
    expect_payload(f, cs_buf_slice(&deep), CS_INVALID, "the value of an unknown field is malformed");
}

static void mandatory_fields_must_be_there(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    for (size_t i = MODULE; i <= CABUNDLE; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
        struct cs_buf kept = x.at[i];
        x.at[i] = (struct cs_buf){0};
        put_fields(&payload, &x, 8);
        expect_payload(f, cs_buf_slice(&payload), CS_INVALID, "is missing");
        x.at[i] = kept;
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf empty = {0};
    cbor_put_map(&empty, 0);
    expect_payload(f, cs_buf_slice(&empty), CS_INVALID, "module_id is missing");
}

static void nesting_takes_no_stack(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    key(&x.at[USER_DATA], "user_data");
    for (int i = 0; i < 10000; i++)
        cbor_put_array(&x.at[USER_DATA], 1);
    cbor_put_null(&x.at[USER_DATA]);
    expect_fields(f, &x, CS_INVALID, "user_data is neither null nor a byte string");
    CS_CLEANUP(cs_buf_free) struct cs_buf deep = {0};
    for (int i = 0; i < 16000; i++)
        cs_buf_add_byte(&deep, 0xbf);
    expect_payload(f, cs_buf_slice(&deep), CS_INVALID, "a key is not a text");
}

struct odd_value {
    size_t field;
    const char *name;
    void (*put)(struct cs_buf *out);
    const char *text;
};

static void put_minus(struct cs_buf *out)
{
    cbor_put_int(out, -5);
}
static void put_zero(struct cs_buf *out)
{
    cbor_put_uint(out, 0);
}
static void put_most(struct cs_buf *out)
{
    cbor_put_uint(out, UINT64_MAX);
}
static void put_text(struct cs_buf *out)
{
    cbor_put_text(out, "x");
}
static void put_sha256(struct cs_buf *out)
{
    cbor_put_text(out, "SHA256");
}
static void put_no_text(struct cs_buf *out)
{
    cbor_put_text(out, "");
}
static void put_latin1(struct cs_buf *out)
{
    cs_buf_add_str(out, "\x61\xe9");
}
static void put_null(struct cs_buf *out)
{
    cbor_put_null(out);
}
static void put_no_bytes(struct cs_buf *out)
{
    cbor_put_bytes(out, (struct cs_slice){0});
}
static void put_no_map(struct cs_buf *out)
{
    cbor_put_map(out, 0);
}
static void put_no_array(struct cs_buf *out)
{
    cbor_put_array(out, 0);
}
static void put_true(struct cs_buf *out)
{
    cbor_put_bool(out, true);
}
static void put_chunks(struct cs_buf *out)
{
    cs_buf_add(out, "\x7f\x61x\xff", 4);
}
static void put_float(struct cs_buf *out)
{
    cs_buf_add(out, "\xfb\x42\x7b\x0b\x5c\x0d\x00\x00\x00", 9);
}
static void put_tagged_time(struct cs_buf *out)
{
    cbor_put_tag(out, 1);
    cbor_put_uint(out, NOW_S * 1000);
}
static void put_large(struct cs_buf *out)
{
    static const uint8_t large[NITRO_FIELD_MAX + 1];
    cbor_put_bytes(out, cs_slice_of(large, sizeof large));
}
static void put_long_text(struct cs_buf *out)
{
    char text[NITRO_MODULE_ID_MAX + 2];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    cbor_put_text(out, text);
}
/* Says that 2^62 bytes, pairs or elements follow. */
static void put_vast_bytes(struct cs_buf *out)
{
    cs_buf_add(out, "\x5b\x40\0\0\0\0\0\0\0", 9);
}
static void put_vast_map(struct cs_buf *out)
{
    cs_buf_add(out, "\xbb\x40\0\0\0\0\0\0\0", 9);
}
static void put_vast_array(struct cs_buf *out)
{
    cs_buf_add(out, "\x9b\x40\0\0\0\0\0\0\0", 9);
}
static void put_nine_certificates(struct cs_buf *out)
{
    cbor_put_array(out, NITRO_CABUNDLE_MAX + 1);
    for (int i = 0; i <= NITRO_CABUNDLE_MAX; i++)
        cbor_put_bytes(out, cs_slice_str("x"));
}
static void put_large_certificate(struct cs_buf *out)
{
    cbor_put_array(out, 1);
    put_large(out);
}
static void put_array_of_text(struct cs_buf *out)
{
    cbor_put_array(out, 1);
    cbor_put_text(out, "x");
}
static void put_pcr(struct cs_buf *out, uint64_t index, size_t len)
{
    cbor_put_uint(out, index);
    cbor_put_bytes(out, cs_slice_of(ones, len));
}
static void put_pcr_twice(struct cs_buf *out)
{
    cbor_put_map(out, 2);
    put_pcr(out, 0, 48);
    put_pcr(out, 0, 48);
}
static void put_pcr_32(struct cs_buf *out)
{
    cbor_put_map(out, 1);
    put_pcr(out, 32, 48);
}
static void put_pcr_short(struct cs_buf *out)
{
    cbor_put_map(out, 1);
    put_pcr(out, 0, 47);
}
static void put_pcr_empty(struct cs_buf *out)
{
    cbor_put_map(out, 1);
    put_pcr(out, 0, 0);
}
static void put_pcr_text_index(struct cs_buf *out)
{
    cbor_put_map(out, 1);
    cbor_put_text(out, "0");
    cbor_put_bytes(out, cs_slice_of(ones, 48));
}
static void put_pcr_only_1(struct cs_buf *out)
{
    cbor_put_map(out, 1);
    put_pcr(out, 1, 48);
}
static void put_33_pcrs(struct cs_buf *out)
{
    cbor_put_map(out, 33);
    for (uint64_t i = 0; i < 33; i++)
        put_pcr(out, i, 48);
}

static void values_of_the_wrong_kind_are_refused(void **state)
{
    static const struct odd_value odd[] = {
        {MODULE, "module_id", put_no_text, "module_id is not a text of 1 to"},
        {MODULE, "module_id", put_long_text, "module_id is not a text of 1 to"},
        {MODULE, "module_id", put_latin1, "module_id is not a text"},
        {MODULE, "module_id", put_null, "module_id is not a text"},
        {MODULE, "module_id", put_no_bytes, "module_id is not a text"},
        {MODULE, "modul_id", put_text, "module_id is missing"},
        {MODULE, "modul_id", put_chunks, "the value of an unknown field is malformed"},
        {DIGEST, "digest", put_sha256, "digest is not SHA384"},
        {DIGEST, "digest", put_null, "digest is not SHA384"},
        {TIMESTAMP, "timestamp", put_zero, "timestamp is not milliseconds"},
        {TIMESTAMP, "timestamp", put_minus, "timestamp is not milliseconds"},
        {TIMESTAMP, "timestamp", put_most, "timestamp is not milliseconds"},
        {TIMESTAMP, "timestamp", put_text, "timestamp is not milliseconds"},
        {TIMESTAMP, "timestamp", put_float, "timestamp is not milliseconds"},
        {TIMESTAMP, "timestamp", put_tagged_time, "timestamp is not milliseconds"},
        {PCRS, "pcrs", put_no_map, "pcrs is not a map of 1 to 32"},
        {PCRS, "pcrs", put_vast_map, "pcrs is not a map of 1 to 32"},
        {PCRS, "pcrs", put_33_pcrs, "pcrs is not a map of 1 to 32"},
        {PCRS, "pcrs", put_pcr_32, "an index is not 0 to 31"},
        {PCRS, "pcrs", put_pcr_text_index, "an index is not 0 to 31"},
        {PCRS, "pcrs", put_pcr_twice, "PCR0 is there twice"},
        {PCRS, "pcrs", put_pcr_short, "PCR0 is not 32, 48 or 64 bytes"},
        {PCRS, "pcrs", put_pcr_empty, "PCR0 is not 32, 48 or 64 bytes"},
        {PCRS, "pcrs", put_pcr_only_1, "PCR0 is missing"},
        {CERTIFICATE, "certificate", put_no_bytes, "certificate is not a byte string of 1 to 1024"},
        {CERTIFICATE, "certificate", put_large, "certificate is not a byte string of 1 to 1024"},
        {CERTIFICATE, "certificate", put_null, "certificate is not a byte string"},
        {CERTIFICATE, "certificate", put_vast_bytes, "certificate is not a byte string"},
        {CABUNDLE, "cabundle", put_no_array, "cabundle is not an array of 1 to 8"},
        {CABUNDLE, "cabundle", put_nine_certificates, "cabundle is not an array of 1 to 8"},
        {CABUNDLE, "cabundle", put_vast_array, "cabundle is not an array of 1 to 8"},
        {CABUNDLE, "cabundle", put_large_certificate, "certificate of cabundle is not a byte string of 1 to"},
        {CABUNDLE, "cabundle", put_array_of_text, "certificate of cabundle is not a byte string of 1 to"},
        {PUBLIC_KEY, "public_key", put_no_bytes, "public_key is neither null nor"},
        {PUBLIC_KEY, "public_key", put_large, "public_key is neither null nor"},
        {PUBLIC_KEY, "public_key", put_true, "public_key is neither null nor"},
        {USER_DATA, "user_data", put_large, "user_data is neither null nor"},
        {USER_DATA, "user_data", put_text, "user_data is neither null nor"},
        {NONCE, "nonce", put_large, "nonce is neither null nor"},
        {NONCE, "nonce", put_zero, "nonce is neither null nor"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        CS_CLEANUP(fields_free) struct fields x = fields_of(f);
        key(&x.at[odd[i].field], odd[i].name);
        odd[i].put(&x.at[odd[i].field]);
        CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0}, doc = {0};
        put_fields(&payload, &x, 9);
        put_unsigned(&doc, cs_buf_slice(&payload));
        expect(f, &doc, CS_INVALID, odd[i].text);
    }
}

static void a_large_payload_is_refused(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    nitro_make_payload(&f->authority, &f->made, &payload);
    while (payload.len <= 16384)
        cs_buf_add_byte(&payload, 0);
    expect_payload(f, cs_buf_slice(&payload), CS_INVALID, "payload is larger than 16384 bytes");
}

/* --- Claims --- */

static void documents_are_taken_for_a_while(void **state)
{
    struct fixture *f = *state;
    f->made.timestamp_ms = (NOW_S - 300) * 1000;
    expect_made(f, CS_OK, "");
    f->made.timestamp_ms--;
    expect_made(f, CS_DENIED, "document is older than max_age");
    f->made.timestamp_ms = (NOW_S + 60) * 1000;
    expect_made(f, CS_OK, "");
    f->made.timestamp_ms++;
    expect_made(f, CS_DENIED, "timestamp is in the future");
    f->made.timestamp_ms = 1;
    expect_made(f, CS_DENIED, "document is older than max_age");
    f->made.timestamp_ms = INT64_MAX / CS_NS_PER_MS;
    expect_made(f, CS_DENIED, "timestamp is in the future");
}

static void debug_enclaves_are_only_taken_on_demand(void **state)
{
    struct fixture *f = *state;
    f->made.pcrs[0] = cs_slice_of(zeros, sizeof zeros);
    expect_made(f, CS_DENIED, "PCR0 is zero: the enclave is in debug mode");
    f->policy.allow_debug = true;
    expect_made(f, CS_OK, "");
}

/* --- Memory and time --- */

static void no_memory_is_an_error_like_others(void **state)
{
    struct fixture *f = *state;
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    assert_int_equal(nitro_make_document(&f->authority, &f->made, &doc, &e), CS_OK);
    for (size_t n = 1;; n++) {
        (void)cs_mem_fail_at(n, true);
        cs_code code = verify(f, &doc, &e);
        (void)cs_mem_fail_at(0, false);
        if (code == CS_OK) {
            assert_true(n > 10);
            return;
        }
        assert_int_equal(code, CS_INTERNAL);
    }
}

static void module_ids_are_taken_apart(void **state)
{
    static const char *const odd[] = {"",           "i-",       "i-0123",       "i-0123-",
                                      "i-0123-enc", "i--enc01", "x-0123-enc01", "-enc01"};
    struct cs_slice instance, enclave;
    (void)state;
    assert_true(nitro_module_id_split(cs_slice_str(MODULE_ID), &instance, &enclave));
    assert_true(cs_slice_is(instance, "i-0123456789abcdef0"));
    assert_true(cs_slice_is(enclave, "enc0123456789abcdef"));
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        assert_false(nitro_module_id_split(cs_slice_str(odd[i]), &instance, &enclave));
}

static void the_memory_is_bounded_and_forgets_the_oldest(void **state)
{
    struct nitro_memory *m = nitro_memory_new(8); /* one set */
    struct nitro_digest keys[9] = {0}, owner = {{1}}, other = {{2}};
    (void)state;
    assert_non_null(m);
    for (uint8_t i = 0; i < 9; i++)
        keys[i].sha256[31] = (uint8_t)(i + 1);
    for (size_t i = 0; i < 8; i++)
        assert_true(nitro_memory_claim(m, &keys[i], &owner, 10, 20));
    assert_true(nitro_memory_has(m, &keys[0], 19));
    assert_false(nitro_memory_claim(m, &keys[0], &other, 19, 30));
    assert_true(nitro_memory_claim(m, &keys[0], &owner, 19, 30));
    assert_true(nitro_memory_claim(m, &keys[8], &owner, 19, 30));
    assert_false(nitro_memory_has(m, &keys[1], 19)); /* not asked for longest */
    assert_true(nitro_memory_has(m, &keys[8], 19));
    assert_true(nitro_memory_claim(m, &keys[0], &other, 30, 40)); /* over */
    assert_false(nitro_memory_has(m, &keys[2], 20));
    nitro_memory_free(m);
}

#define TEST(t) cmocka_unit_test_setup(t, fixture_setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_form_of_a_good_document_verifies),
        TEST(order_of_fields_does_not_matter),
        TEST(optional_fields_may_be_left_out),
        TEST(fields_may_be_as_large_as_aws_says),
        TEST(envelopes_that_are_cut_anywhere_are_refused),
        TEST(payloads_that_are_cut_anywhere_are_refused),
        TEST(envelopes_of_another_shape_are_refused),
        TEST(another_byte_anywhere_breaks_the_signature),
        TEST(a_signature_by_another_key_is_refused),
        TEST(strings_in_chunks_are_refused),
        TEST(maps_without_their_end_are_refused),
        TEST(inner_maps_and_arrays_are_of_definite_length),
        TEST(fields_twice_are_refused),
        TEST(unknown_fields_are_passed_over),
        TEST(mandatory_fields_must_be_there),
        TEST(nesting_takes_no_stack),
        TEST(values_of_the_wrong_kind_are_refused),
        TEST(a_large_payload_is_refused),
        TEST(documents_are_taken_for_a_while),
        TEST(debug_enclaves_are_only_taken_on_demand),
        TEST(no_memory_is_an_error_like_others),
        cmocka_unit_test(module_ids_are_taken_apart),
        cmocka_unit_test(the_memory_is_bounded_and_forgets_the_oldest),
    };
    return cmocka_run_group_tests_name("nitro_document", tests, fixture_group_setup, fixture_group_teardown);
}
