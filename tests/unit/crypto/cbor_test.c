/* SPDX-License-Identifier: Apache-2.0
 *
 * CBOR: the examples of RFC 8949 (appendix A), and what the reader refuses.
 */
#include "base/text.h"
#include "crypto/cbor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* A cursor over a copy of exactly these bytes, so that a sanitizer sees a read beyond them. */
struct input {
    uint8_t *bytes;
    struct cs_rd r;
};

static struct input input_of(const void *bytes, size_t len)
{
    struct input in = {.bytes = malloc(len > 0 ? len : 1)};
    assert_non_null(in.bytes);
    if (len > 0)
        memcpy(in.bytes, bytes, len);
    in.r = cs_rd_of(cs_slice_of(in.bytes, len));
    return in;
}

static struct input input_hex(const char *hex)
{
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    assert_int_equal(cs_hex_decode(&b, cs_slice_str(hex), &e), CS_OK);
    return input_of(b.data, b.len);
}

static void input_free(struct input *in)
{
    free(in->bytes);
}

static void numbers(void **state)
{
    static const struct {
        const char *hex;
        uint64_t value;
        bool shortest;
    } ok[] = {
        {"00", 0, true},
        {"01", 1, true},
        {"17", 23, true},
        {"1818", 24, true},
        {"1864", 100, true},
        {"18ff", 255, true},
        {"190100", 256, true},
        {"1903e8", 1000, true},
        {"19ffff", 65535, true},
        {"1a00010000", 65536, true},
        {"1a000f4240", 1000000, true},
        {"1b000000e8d4a51000", 1000000000000, true},
        {"1bffffffffffffffff", UINT64_MAX, true},
        {"1800", 0, false}, /* longer than needed */
        {"1b0000000000000017", 23, false},
    };
    static const char *const bad[] = {"",     "18", "1900", "1a000000", "1b00000000000000",
                                      "1c00", "1d", "1e",   "1f",       "20",
                                      "40",   "60", "80",   "a0",       "f4"};
    (void)state;
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(ok[i].hex);
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0}, hex = {0};
        uint64_t v;
        assert_true(cbor_read_uint(&in.r, &v));
        assert_true(v == ok[i].value);
        assert_int_equal(cs_rd_left(&in.r), 0);
        cbor_put_uint(&out, v);
        cs_hex_encode(&hex, cs_buf_slice(&out));
        assert_int_equal(strcmp(cs_buf_cstr(&hex), ok[i].hex) == 0, ok[i].shortest);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(bad[i]);
        uint64_t v;
        assert_false(cbor_read_uint(&in.r, &v));
        assert_ptr_equal(in.r.p, in.bytes);
    }
}

static void negative_numbers(void **state)
{
    static const struct {
        const char *hex;
        int64_t value;
    } ok[] = {
        {"20", -1},        {"29", -10},
        {"3863", -100},    {"3822", -35},
        {"3903e7", -1000}, {"1b7fffffffffffffff", INT64_MAX},
        {"00", 0},         {"3b7fffffffffffffff", INT64_MIN},
    };
    static const char *const large[] = {"1b8000000000000000", "3b8000000000000000", "3bffffffffffffffff"};
    (void)state;
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(ok[i].hex);
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0}, hex = {0};
        int64_t v;
        assert_true(cbor_read_int(&in.r, &v));
        assert_true(v == ok[i].value);
        cbor_put_int(&out, v);
        cs_hex_encode(&hex, cs_buf_slice(&out));
        assert_string_equal(cs_buf_cstr(&hex), ok[i].hex);
    }
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(large[i]);
        int64_t v;
        assert_false(cbor_read_int(&in.r, &v));
        assert_ptr_equal(in.r.p, in.bytes);
    }
}

static void strings(void **state)
{
    static const struct {
        const char *hex, *text;
    } texts[] = {
        {"60", ""},
        {"6161", "a"},
        {"6449455446", "IETF"},
        {"62225c", "\"\\"},
        {"62c3bc", "\xc3\xbc"},
        {"63e6b0b4", "\xe6\xb0\xb4"},
        {"64f0908591", "\xf0\x90\x85\x91"},
    };
    /* in chunks, cut, not UTF-8, of another kind */
    static const char *const bad_texts[] = {"7f657374726561646d696e67ff",
                                            "7fff",
                                            "64494554",
                                            "61",
                                            "6180",
                                            "62c328",
                                            "63eda080",
                                            "4161",
                                            "7a00000002"
                                            "61",
                                            "7b8000000000000000"
                                            "61"};
    static const char *const bad_bytes[] = {"5f42010243030405ff",
                                            "5fff",
                                            "440102",
                                            "41",
                                            "6161",
                                            "5b4000000000000000",
                                            "5bffffffffffffffff"
                                            "00"};
    struct cs_slice s;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(texts[i].hex);
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        assert_true(cbor_read_text(&in.r, &s));
        assert_true(cs_slice_is(s, texts[i].text));
        assert_int_equal(cs_rd_left(&in.r), 0);
        cbor_put_text(&out, texts[i].text);
        assert_int_equal(out.len, strlen(texts[i].hex) / 2);
        assert_memory_equal(out.data, in.bytes, out.len);
    }
    for (size_t i = 0; i < sizeof bad_texts / sizeof bad_texts[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(bad_texts[i]);
        assert_false(cbor_read_text(&in.r, &s));
        assert_false(cbor_read_text_is(&in.r, "a"));
        assert_ptr_equal(in.r.p, in.bytes);
    }
    for (size_t i = 0; i < sizeof bad_bytes / sizeof bad_bytes[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(bad_bytes[i]);
        assert_false(cbor_read_bytes(&in.r, &s));
        assert_ptr_equal(in.r.p, in.bytes);
    }
}

static void simple_values_and_tags(void **state)
{
    CS_CLEANUP(input_free) struct input in = input_hex("f4f5f6d2c1f7");
    bool b;
    (void)state;
    assert_false(cbor_read_null(&in.r));
    assert_true(cbor_read_bool(&in.r, &b) && !b);
    assert_true(cbor_read_bool(&in.r, &b) && b);
    assert_false(cbor_read_bool(&in.r, &b));
    assert_true(cbor_read_null(&in.r));
    assert_false(cbor_read_tag(&in.r, 17));
    assert_true(cbor_read_tag(&in.r, 18));
    assert_true(cbor_read_tag(&in.r, 1));
    assert_false(cbor_read_bool(&in.r, &b) || cbor_read_null(&in.r)); /* undefined */
    assert_int_equal(cs_rd_left(&in.r), 1);
}

/* {"a": 1, "b": [2, 3]} with and without a length. */
static void maps(void **state)
{
    static const char *const both[] = {"a26161016162820203", "bf61610161629f0203ffff"};
    (void)state;
    for (int form = 0; form < 2; form++) {
        CS_CLEANUP(input_free) struct input in = input_hex(form == 0 ? both[0] : "bf6161016162820203ff");
        struct cbor_map m;
        struct cs_slice key;
        uint64_t v;
        size_t n;
        assert_int_equal(cbor_map_begin(&in.r, &m, false), form == 0);
        if (form == 1)
            assert_true(cbor_map_begin(&in.r, &m, true));
        assert_true(cbor_map_more(&in.r, &m) && cbor_read_text(&in.r, &key) && cs_slice_is(key, "a"));
        assert_true(cbor_read_uint(&in.r, &v) && v == 1);
        assert_false(cbor_map_ended(&m));
        assert_true(cbor_map_more(&in.r, &m) && cbor_read_text_is(&in.r, "b"));
        assert_true(cbor_read_array(&in.r, &n) && n == 2);
        assert_true(cbor_skip(&in.r) && cbor_skip(&in.r));
        assert_false(cbor_map_more(&in.r, &m));
        assert_true(cbor_map_ended(&m));
        assert_false(cbor_map_more(&in.r, &m));
        assert_int_equal(cs_rd_left(&in.r), 0);
    }
    CS_CLEANUP(input_free) struct input inner = input_hex(both[1]); /* the array has no length */
    struct cbor_map m;
    assert_true(cbor_map_begin(&inner.r, &m, true) && cbor_map_more(&inner.r, &m));
    assert_true(cbor_skip(&inner.r) && cbor_skip(&inner.r) && cbor_map_more(&inner.r, &m) &&
                cbor_skip(&inner.r));
    assert_false(cbor_skip(&inner.r));
}

static void maps_without_end(void **state)
{
    static const char *const open[] = {"bf", "bf616101", "bf6161f4"};
    (void)state;
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(open[i]);
        struct cbor_map m;
        assert_true(cbor_map_begin(&in.r, &m, true));
        while (cbor_map_more(&in.r, &m))
            assert_true(cbor_skip(&in.r) && cbor_skip(&in.r));
        assert_false(cbor_map_ended(&m));
    }
    CS_CLEANUP(input_free) struct input odd = input_hex("bf6161ff"); /* a key without a value */
    struct cbor_map m;
    assert_true(cbor_map_begin(&odd.r, &m, true) && cbor_map_more(&odd.r, &m) && cbor_skip(&odd.r));
    assert_false(cbor_skip(&odd.r));
}

static void counts_are_held_to_the_bytes_left(void **state)
{
    static const char *const arrays[] = {
        "81", "8200", "9a7fffffff00", "9b400000000000000000", "9f00ff", "9bffffffffffffffff"};
    static const char *const map_texts[] = {
        "a1", "a100", "a2000000", "ba7fffffff0000", "bb80000000000000000000", "bbffffffffffffffff"};
    struct cbor_map m;
    size_t n;
    (void)state;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(arrays[i]);
        assert_false(cbor_read_array(&in.r, &n));
        assert_false(cbor_skip(&in.r));
        assert_ptr_equal(in.r.p, in.bytes);
    }
    for (size_t i = 0; i < sizeof map_texts / sizeof map_texts[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(map_texts[i]);
        assert_false(cbor_map_begin(&in.r, &m, true));
        assert_false(cbor_skip(&in.r));
        assert_ptr_equal(in.r.p, in.bytes);
    }
}

/* Appendix A once more: what skip passes over as one value, and what it does not. */
static void skipping(void **state)
{
    static const char *const whole[] = {"00",
                                        "1bffffffffffffffff",
                                        "3bffffffffffffffff",
                                        "f90000",
                                        "fa47c35000",
                                        "fb3ff199999999999a",
                                        "f97e00",
                                        "f4",
                                        "f6",
                                        "f7",
                                        "f0",
                                        "f8ff",
                                        "c074323031332d30332d32315432303a30343a30305a",
                                        "c1fb41d452d9e2000000",
                                        "d74401020304",
                                        "d818456449455446",
                                        "d82076687474703a2f2f7777772e6578616d706c652e636f6d",
                                        "4401020304",
                                        "6161",
                                        "80",
                                        "83010203",
                                        "8301820203820405",
                                        "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
                                        "a0",
                                        "a201020304",
                                        "a26161016162820203",
                                        "826161a161626163",
                                        "a56161614161626142616361436164614461656145"};
    static const char *const never[] = {"5f42010243030405ff",
                                        "7f657374726561646d696e67ff",
                                        "9fff",
                                        "9f018202039f0405ffff",
                                        "83018202039f0405ff",
                                        "bf61610161629f0203ffff",
                                        "826161bf61626163ff",
                                        "ff",
                                        "1c",
                                        "fc",
                                        "fe",
                                        "f800",
                                        "f81f",
                                        "82",
                                        "8201",
                                        "a101",
                                        "c0",
                                        "6180",
                                        "f8",
                                        "f900"};
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(whole[i]);
        assert_true(cbor_skip(&in.r));
        assert_int_equal(cs_rd_left(&in.r), 0);
        in.r = cs_rd_of(cs_slice_of(in.bytes, strlen(whole[i]) / 2 - 1));
        assert_false(cbor_skip(&in.r));
    }
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        CS_CLEANUP(input_free) struct input in = input_hex(never[i]);
        if (cbor_skip(&in.r))
            fail_msg("%s", never[i]);
        assert_ptr_equal(in.r.p, in.bytes);
    }
}

static void depth_is_bounded(void **state)
{
    uint8_t deep[100000];
    (void)state;
    memset(deep, 0x81, sizeof deep);
    struct cs_rd r = cs_rd_of(cs_slice_of(deep, sizeof deep));
    assert_false(cbor_skip(&r));
    deep[CBOR_DEPTH_MAX] = 0;
    assert_true(cbor_skip(&r));
    assert_ptr_equal(r.p, deep + CBOR_DEPTH_MAX + 1);
    deep[CBOR_DEPTH_MAX] = 0x81;
    deep[CBOR_DEPTH_MAX + 1] = 0;
    r = cs_rd_of(cs_slice_of(deep, sizeof deep));
    assert_false(cbor_skip(&r));
    memset(deep, 0xc1, CBOR_DEPTH_MAX + 1); /* tags count as well */
    assert_false(cbor_skip(&r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(negative_numbers),
        cmocka_unit_test(strings),
        cmocka_unit_test(simple_values_and_tags),
        cmocka_unit_test(maps),
        cmocka_unit_test(maps_without_end),
        cmocka_unit_test(counts_are_held_to_the_bytes_left),
        cmocka_unit_test(skipping),
        cmocka_unit_test(depth_is_bounded),
    };
    return cmocka_run_group_tests_name("cbor", tests, NULL, NULL);
}
