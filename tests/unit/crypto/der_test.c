/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "crypto/der.h"

static bool reads(const char *bytes, size_t n, bool (*fn)(struct cs_rd *, struct cs_slice *))
{
    struct cs_rd r = cs_rd_of(cs_slice_of(bytes, n));
    struct cs_slice out;
    const uint8_t *before = r.p;
    bool ok = fn(&r, &out);
    assert_ptr_equal(r.p, ok ? (const uint8_t *)bytes + n : before);
    return ok;
}
#define READS(lit, fn) reads((lit), sizeof(lit) - 1, (fn))

static void lengths(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        bool ok;
    } rows[] = {
        {"\x04\x00", 2, true},
        {"\x04\x01x", 3, true},
        {"\x04\x02x", 3, false},         /* past the end */
        {"\x04\x80", 2, false},          /* indefinite */
        {"\x04\x81\x01x", 4, false},     /* long form of a short length */
        {"\x04\x82\x00\x01x", 5, false}, /* leading zero */
        {"\x04\x84\xff\xff\xff\xff", 6, false},
        {"\x04\x85\x00\x00\x00\x00\x01x", 8, false},
        {"\x1f\x01x", 3, false}, /* multi-byte tag */
        {"\x04", 1, false},
        {"", 0, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_rd r = cs_rd_of(cs_slice_of(rows[i].bytes, rows[i].n));
        assert_int_equal(der_next(&r, NULL, NULL, NULL), rows[i].ok);
        if (!rows[i].ok)
            assert_ptr_equal(r.p, rows[i].bytes);
    }
}

static void integers(void **state)
{
    (void)state;
    assert_true(READS("\x02\x01\x00", der_read_integer));
    assert_true(READS("\x02\x01\xff", der_read_integer));
    assert_false(READS("\x02\x00", der_read_integer));
    assert_false(READS("\x02\x02\x00\x7f", der_read_integer));
    assert_false(READS("\x02\x02\xff\x80", der_read_integer));
    assert_true(READS("\x02\x02\x00\x80", der_read_uint));
    assert_false(READS("\x02\x01\x80", der_read_uint)); /* negative */
    uint32_t small;
    struct cs_rd r = cs_rd_of(S("\x02\x04\x7f\xff\xff\xff"));
    assert_true(der_read_small(&r, &small));
    assert_int_equal(small, INT32_MAX);
    r = cs_rd_of(S("\x02\x05\x00\x80\x00\x00\x00"));
    assert_false(der_read_small(&r, &small));
}

static void bits_and_booleans(void **state)
{
    (void)state;
    assert_true(READS("\x03\x02\x00\xff", der_read_octet_bits));
    assert_false(READS("\x03\x02\x01\xfe", der_read_octet_bits));
    assert_false(READS("\x03\x00", der_read_octet_bits));
    struct cs_slice bits;
    unsigned unused;
    struct cs_rd r = cs_rd_of(S("\x03\x02\x03\xa8"));
    assert_true(der_read_bits(&r, &bits, &unused));
    assert_int_equal(unused, 3);
    r = cs_rd_of(S("\x03\x02\x03\xa9")); /* a padding bit is set */
    assert_false(der_read_bits(&r, &bits, &unused));
    r = cs_rd_of(S("\x03\x01\x01"));
    assert_false(der_read_bits(&r, &bits, &unused));
    bool b;
    r = cs_rd_of(S("\x01\x01\x01"));
    assert_false(der_read_bool(&r, &b));
    r = cs_rd_of(S("\x01\x01\xff"));
    assert_true(der_read_bool(&r, &b) && b);
}

static bool reads_time(struct cs_slice s, int64_t *t)
{
    struct cs_rd r = cs_rd_of(s);
    return der_read_time(&r, t);
}

static void times(void **state)
{
    (void)state;
    int64_t t;
    assert_true(reads_time(S("\x17\x0d"
                             "700101000000Z"),
                           &t));
    assert_int_equal(t, 0);
    assert_true(reads_time(S("\x17\x0d"
                             "500101000000Z"),
                           &t));
    assert_int_equal(t, -631152000);
    assert_true(reads_time(S("\x17\x0d"
                             "491231235959Z"),
                           &t));
    assert_int_equal(t, INT64_C(2524607999));
    assert_true(reads_time(S("\x18\x0f"
                             "20500101000000Z"),
                           &t));
    assert_int_equal(t, INT64_C(2524608000));
    assert_true(reads_time(S("\x18\x0f"
                             "99991231235959Z"),
                           &t));
    assert_int_equal(t, INT64_C(253402300799));
    assert_true(reads_time(S("\x17\x0d"
                             "240229120000Z"),
                           &t));
    assert_false(reads_time(S("\x17\x0d"
                              "230229120000Z"),
                            &t));
    assert_false(reads_time(S("\x17\x0d"
                              "241301000000Z"),
                            &t));
    assert_false(reads_time(S("\x17\x0d"
                              "240001000000Z"),
                            &t));
    assert_false(reads_time(S("\x17\x0d"
                              "240101240000Z"),
                            &t));
    assert_false(reads_time(S("\x17\x0d"
                              "240101000060Z"),
                            &t));
    assert_false(reads_time(S("\x17\x0b"
                              "2401010000Z"),
                            &t));
    assert_false(reads_time(S("\x17\x0d"
                              "24010100000 Z"),
                            &t));
    assert_false(reads_time(S("\x17\x11"
                              "240101000000+0100"),
                            &t));
    /* what is written is read back, around every turn of a year, month and century */
    for (int64_t at = INT64_C(-2208988800); at < INT64_C(4102444800); at += 86399 * 3) {
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        der_put_time(&out, at);
        assert_true(reads_time(cs_buf_slice(&out), &t));
        assert_int_equal(t, at);
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf far = {0};
    der_put_time(&far, INT64_C(253402300800));
    assert_false(cs_buf_ok(&far));
}

static void nested_lengths(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 127, 128, 255, 256, 65535, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        size_t a = der_begin(&out, DER_SEQUENCE), b = der_begin(&out, DER_OCTET_STRING);
        for (size_t n = 0; n < sizes[i]; n++)
            cs_buf_add_byte(&out, (uint8_t)n);
        der_end(&out, b);
        der_end(&out, a);
        struct cs_rd r = cs_rd_of(cs_buf_slice(&out)), inner;
        struct cs_slice content;
        assert_true(der_enter(&r, DER_SEQUENCE, &inner));
        assert_int_equal(cs_rd_left(&r), 0);
        assert_true(der_read(&inner, DER_OCTET_STRING, &content));
        assert_int_equal(cs_rd_left(&inner), 0);
        assert_int_equal(content.len, sizes[i]);
        for (size_t n = 0; n < sizes[i]; n++)
            assert_int_equal(content.data[n], (uint8_t)n);
    }
}

static void oids(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    der_oid_text(&out, S("\x55\x04\x2d"));
    cs_buf_add_byte(&out, ' ');
    der_oid_text(&out, S("\x2a\x86\x48\x86\xf7\x0d"));
    assert_string_equal(cs_buf_cstr(&out), "2.5.4.45 1.2.840.113549");
    assert_false(der_oid_valid(S("")));
    assert_false(der_oid_valid(S("\x55\x80\x01")));
    assert_false(der_oid_valid(S("\x55\x81")));
}

/* Text that comes back as it was, and text that is no OID. */
static void oid_texts(void **state)
{
    (void)state;
    static const char *const good[] = {"2.5.4.45",
                                       "1.2.840.113549",
                                       "0.0",
                                       "0.39",
                                       "1.39",
                                       "2.40",
                                       "2.999.3",
                                       "1.3.6.1.4.1.55555.1.9",
                                       "1.2.72057594037927935"};
    static const char *const bad[] = {"",
                                      "1",
                                      "1.",
                                      ".1",
                                      "1..2",
                                      "1.2.",
                                      "3.1",
                                      "0.40",
                                      "1.40",
                                      "1.2.a",
                                      "1.-2",
                                      "01.2",
                                      "1.02",
                                      "1.2 ",
                                      " 1.2",
                                      "1.2.72057594037927936",
                                      "1.2.99999999999999999999999",
                                      "1,2"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        assert_true(der_oid_parse(&der, good[i]));
        assert_true(der_oid_valid(cs_buf_slice(&der)));
        der_oid_text(&text, cs_buf_slice(&der));
        assert_string_equal(cs_buf_cstr(&text), good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
        cs_buf_add_byte(&der, 'x');
        if (der_oid_parse(&der, bad[i]))
            fail_msg("took \"%s\"", bad[i]);
        assert_int_equal(der.len, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),   cmocka_unit_test(integers),       cmocka_unit_test(bits_and_booleans),
        cmocka_unit_test(times),     cmocka_unit_test(nested_lengths), cmocka_unit_test(oids),
        cmocka_unit_test(oid_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
