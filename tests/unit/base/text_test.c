/* SPDX-License-Identifier: Apache-2.0
 *
 * The expected values in the tables were printed by Go 1.26.
 */
#include "base/text.h"

#include "base/mem.h"
#include "base/printable.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define L(s) s, sizeof(s) - 1

static void durations_parse_as_in_go(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        int64_t ns;
        const char *error;
    } t[] = {
        {"", INT64_C(0), "time: invalid duration \"\""},
        {"0", INT64_C(0), ""},
        {"+0", INT64_C(0), ""},
        {"-0", INT64_C(0), ""},
        {"5", INT64_C(0), "time: missing unit in duration \"5\""},
        {"5s", INT64_C(5000000000), ""},
        {"-5s", INT64_C(-5000000000), ""},
        {"+5s", INT64_C(5000000000), ""},
        {"1h30m", INT64_C(5400000000000), ""},
        {"1.5h", INT64_C(5400000000000), ""},
        {".5s", INT64_C(500000000), ""},
        {"5.s", INT64_C(5000000000), ""},
        {".s", INT64_C(0), "time: invalid duration \".s\""},
        {"-.s", INT64_C(0), "time: invalid duration \"-.s\""},
        {"1.", INT64_C(0), "time: missing unit in duration \"1.\""},
        {"3000h", INT64_C(10800000000000000), ""},
        {"1ns", INT64_C(1), ""},
        {"1us", INT64_C(1000), ""},
        {"1\302\265s", INT64_C(1000), ""},
        {"1\316\274s", INT64_C(1000), ""},
        {"1ms", INT64_C(1000000), ""},
        {"100ms1ns", INT64_C(100000001), ""},
        {"9223372036854775807ns", INT64_C(9223372036854775807), ""},
        {"9223372036854775808ns", INT64_C(0), "time: invalid duration \"9223372036854775808ns\""},
        {"-9223372036854775808ns", INT64_MIN, ""},
        {"-9223372036854775809ns", INT64_C(0), "time: invalid duration \"-9223372036854775809ns\""},
        {"9223372036.854775807s", INT64_C(9223372036854775807), ""},
        {"9223372036.854775808s", INT64_C(0), "time: invalid duration \"9223372036.854775808s\""},
        {"-9223372036.854775808s", INT64_MIN, ""},
        {"2562047h47m16.854775807s", INT64_C(9223372036854775807), ""},
        {"2562047h47m16.854775808s", INT64_C(0), "time: invalid duration \"2562047h47m16.854775808s\""},
        {"0.3333333333333333333h", INT64_C(1200000000000), ""},
        {"0.100000000000000000000h", INT64_C(360000000000), ""},
        {"0.830103483285477580700h", INT64_C(2988372539827), ""},
        {"0.9223372036854775807ns", INT64_C(0), ""},
        {"9223372036854775.807us", INT64_C(9223372036854775807), ""},
        {"9223372036854775.808us", INT64_C(0), "time: invalid duration \"9223372036854775.808us\""},
        {"39h9m14.425s", INT64_C(140954425000000), ""},
        {"52763797000ns", INT64_C(52763797000), ""},
        {"1 h", INT64_C(0), "time: unknown unit \" h\" in duration \"1 h\""},
        {"h", INT64_C(0), "time: invalid duration \"h\""},
        {"1d", INT64_C(0), "time: unknown unit \"d\" in duration \"1d\""},
        {"1y", INT64_C(0), "time: unknown unit \"y\" in duration \"1y\""},
        {"1h1", INT64_C(0), "time: missing unit in duration \"1h1\""},
        {"--5s", INT64_C(0), "time: invalid duration \"--5s\""},
        {"1e3s", INT64_C(0), "time: unknown unit \"e\" in duration \"1e3s\""},
        {"1\200s", INT64_C(0), "time: unknown unit \"\\x80s\" in duration \"1\\x80s\""},
        {"1\302\265", INT64_C(0), "time: unknown unit \"\\xc2\\xb5\" in duration \"1\\xc2\\xb5\""},
        {"\001s", INT64_C(0), "time: invalid duration \"\\x01s\""},
        {"1\"s", INT64_C(0), "time: unknown unit \"\\\"s\" in duration \"1\\\"s\""},
        {"1\\s", INT64_C(0), "time: unknown unit \"\\\\s\" in duration \"1\\\\s\""},
        {"1\346\227\245s", INT64_C(0),
         "time: unknown unit \"\\xe6\\x97\\xa5s\" in duration \"1\\xe6\\x97\\xa5s\""},
        {"..s", INT64_C(0), "time: invalid duration \"..s\""},
        {"1..5s", INT64_C(0), "time: missing unit in duration \"1..5s\""},
        {"92233720368547758079s", INT64_C(0), "time: invalid duration \"92233720368547758079s\""},
        {"10000000000000000000s", INT64_C(0), "time: invalid duration \"10000000000000000000s\""},
        {"1h-2m", INT64_C(0), "time: unknown unit \"h-\" in duration \"1h-2m\""},
        {"5ss", INT64_C(0), "time: unknown unit \"ss\" in duration \"5ss\""},
        {"0s0", INT64_C(0), "time: missing unit in duration \"0s0\""},
        {"00s", INT64_C(0), ""},
        {"-0s", INT64_C(0), ""},
        {"1s ", INT64_C(0), "time: unknown unit \"s \" in duration \"1s \""},
        {" 1s", INT64_C(0), "time: invalid duration \" 1s\""},
        {"1S", INT64_C(0), "time: unknown unit \"S\" in duration \"1S\""},
        {"0x5s", INT64_C(0), "time: unknown unit \"x\" in duration \"0x5s\""},
        {"100000h100000h", INT64_C(720000000000000000), ""},
        {"2562047h3000000h", INT64_C(0), "time: invalid duration \"2562047h3000000h\""},
        {"1.000000000000000000000000000000000001s", INT64_C(1000000000), ""},
        {"18446744073709551615ns", INT64_C(0), "time: invalid duration \"18446744073709551615ns\""},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        int64_t ns = 77;
        struct cs_err e = {0};
        cs_code code = cs_duration_parse(cs_slice_str(t[i].in), &ns, &e);
        assert_string_equal(e.text, t[i].error);
        assert_int_equal(code, t[i].error[0] != '\0' ? CS_INVALID : CS_OK);
        assert_true(ns == t[i].ns);
    }
}

static void durations_print_as_in_go(void **state)
{
    (void)state;
    static const struct {
        int64_t ns;
        const char *want;
    } t[] = {
        {INT64_C(0), "0s"},
        {INT64_C(1), "1ns"},
        {INT64_C(-1), "-1ns"},
        {INT64_C(999), "999ns"},
        {INT64_C(1000), "1\302\265s"},
        {INT64_C(1001), "1.001\302\265s"},
        {INT64_C(1100), "1.1\302\265s"},
        {INT64_C(1500), "1.5\302\265s"},
        {INT64_C(999999), "999.999\302\265s"},
        {INT64_C(1000000), "1ms"},
        {INT64_C(1000001), "1.000001ms"},
        {INT64_C(1100000), "1.1ms"},
        {INT64_C(999999999), "999.999999ms"},
        {INT64_C(1000000000), "1s"},
        {INT64_C(1500000000), "1.5s"},
        {INT64_C(59999999999), "59.999999999s"},
        {INT64_C(60000000000), "1m0s"},
        {INT64_C(61000000000), "1m1s"},
        {INT64_C(3599000000000), "59m59s"},
        {INT64_C(3600000000000), "1h0m0s"},
        {INT64_C(3600000000001), "1h0m0.000000001s"},
        {INT64_C(86400000000000), "24h0m0s"},
        {INT64_C(-86400000000000), "-24h0m0s"},
        {INT64_C(9223372036854775807), "2562047h47m16.854775807s"},
        {INT64_MIN, "-2562047h47m16.854775808s"},
        {INT64_C(90061000000001), "25h1m1.000000001s"},
        {INT64_C(10), "10ns"},
        {INT64_C(12345678), "12.345678ms"},
        {INT64_C(172800000000000), "48h0m0s"},
        {INT64_C(20000000), "20ms"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
        cs_duration_format(&b, t[i].ns);
        assert_string_equal(cs_buf_cstr(&b), t[i].want);
        int64_t back;
        assert_int_equal(cs_duration_parse(cs_buf_slice(&b), &back, NULL), CS_OK);
        if (t[i].ns > -((int64_t)1 << 52) && t[i].ns < (int64_t)1 << 52)
            assert_true(back == t[i].ns);
    }
}

static void quotes_as_in_go(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t len;
        const char *go, *json;
    } t[] = {
        {L(""), "\"\"", "\"\""},
        {L("plain"), "\"plain\"", "\"plain\""},
        {L("a b"), "\"a b\"", "\"a b\""},
        {L("\"\\"), "\"\\\"\\\\\"", "\"\\\"\\\\\""},
        {L("\007\010\014\012\015\011\013\000\037\177"), "\"\\a\\b\\f\\n\\r\\t\\v\\x00\\x1f\\x7f\"",
         "\"\\u0007\\b\\f\\n\\r\\t\\u000b\\u0000\\u001f\177\""},
        {L("\303\251\342\202\254\360\237\230\200"), "\"\303\251\342\202\254\360\237\230\200\"",
         "\"\303\251\342\202\254\360\237\230\200\""},
        {L("\302\240\302\255\342\200\213\342\200\250\357\273\277"), "\"\\u00a0\\u00ad\\u200b\\u2028\\ufeff\"",
         "\"\302\240\302\255\342\200\213\\u2028\357\273\277\""},
        {L("\377\300\200a"), "\"\\xff\\xc0\\x80a\"", "\"\\ufffd\\ufffd\\ufffda\""},
        {L("\355\240\200"), "\"\\xed\\xa0\\x80\"", "\"\\ufffd\\ufffd\\ufffd\""},
        {L("\363\240\200\201\364\217\277\277\360\237\247\277"), "\"\\U000e0001\\U0010ffff\360\237\247\277\"",
         "\"\363\240\200\201\364\217\277\277\360\237\247\277\""},
        {L("<a&b>"), "\"<a&b>\"", "\"\\u003ca\\u0026b\\u003e\""},
        {L("\360\237\230"), "\"\\xf0\\x9f\\x98\"", "\"\\ufffd\\ufffd\\ufffd\""},
        {L("'"), "\"'\"", "\"'\""},
        {L("\346\227\245\346\234\254\350\252\236"), "\"\346\227\245\346\234\254\350\252\236\"",
         "\"\346\227\245\346\234\254\350\252\236\""},
        {L("\315\270\327\220\357\277\275"), "\"\\u0378\327\220\357\277\275\"",
         "\"\315\270\327\220\357\277\275\""},
        {L("\360\261\215\220\360\262\216\257\360\262\216\260"),
         "\"\360\261\215\220\360\262\216\257\\U000323b0\"",
         "\"\360\261\215\220\360\262\216\257\360\262\216\260\""},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct cs_buf CS_CLEANUP(cs_buf_free) go = {0}, CS_CLEANUP(cs_buf_free) json = {0};
        cs_quote(&go, cs_slice_of(t[i].in, t[i].len));
        assert_string_equal(cs_buf_cstr(&go), t[i].go);
        cs_quote_json(&json, cs_slice_of(t[i].in, t[i].len));
        assert_string_equal(cs_buf_cstr(&json), t[i].json);
    }
}

/* Number and FNV-1a hash of all printable characters. */
static void printable_table_is_gos(void **state)
{
    (void)state;
    uint64_t hash = UINT64_C(14695981039346656037);
    unsigned count = 0;
    for (uint32_t r = 0; r <= 0x10ffff; r++) {
        if (cs_rune_printable(r)) {
            count++;
            hash = (hash ^ r) * UINT64_C(1099511628211);
        }
    }
    assert_int_equal(count, 148998);
    assert_true(hash == UINT64_C(0xeda370887352dcdf));
    assert_false(cs_rune_printable(0x110000));
}

static void times_print_as_in_go(void **state)
{
    (void)state;
    static const struct {
        int64_t unix_s;
        const char *rfc3339, *string;
    } t[] = {
        {INT64_C(0), "1970-01-01T00:00:00Z", "1970-01-01 00:00:00 +0000 UTC"},
        {INT64_C(-1), "1969-12-31T23:59:59Z", "1969-12-31 23:59:59 +0000 UTC"},
        {INT64_C(951782399), "2000-02-28T23:59:59Z", "2000-02-28 23:59:59 +0000 UTC"},
        {INT64_C(951782400), "2000-02-29T00:00:00Z", "2000-02-29 00:00:00 +0000 UTC"},
        {INT64_C(951868800), "2000-03-01T00:00:00Z", "2000-03-01 00:00:00 +0000 UTC"},
        {INT64_C(1763838161), "2025-11-22T19:02:41Z", "2025-11-22 19:02:41 +0000 UTC"},
        {INT64_C(4102444800), "2100-01-01T00:00:00Z", "2100-01-01 00:00:00 +0000 UTC"},
        {INT64_C(253402300799), "9999-12-31T23:59:59Z", "9999-12-31 23:59:59 +0000 UTC"},
        {INT64_C(-2208988800), "1900-01-01T00:00:00Z", "1900-01-01 00:00:00 +0000 UTC"},
        {INT64_C(-62135596800), "0001-01-01T00:00:00Z", "0001-01-01 00:00:00 +0000 UTC"},
        {INT64_C(-62167219200), "0000-01-01T00:00:00Z", "0000-01-01 00:00:00 +0000 UTC"},
        {INT64_C(1709164800), "2024-02-29T00:00:00Z", "2024-02-29 00:00:00 +0000 UTC"},
        {INT64_C(1709251199), "2024-02-29T23:59:59Z", "2024-02-29 23:59:59 +0000 UTC"},
        {INT64_C(1709251200), "2024-03-01T00:00:00Z", "2024-03-01 00:00:00 +0000 UTC"},
        {INT64_C(2147483648), "2038-01-19T03:14:08Z", "2038-01-19 03:14:08 +0000 UTC"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct cs_buf CS_CLEANUP(cs_buf_free) a = {0}, CS_CLEANUP(cs_buf_free) b = {0};
        cs_time_rfc3339(&a, t[i].unix_s);
        assert_string_equal(cs_buf_cstr(&a), t[i].rfc3339);
        cs_time_go_string(&b, t[i].unix_s);
        assert_string_equal(cs_buf_cstr(&b), t[i].string);
        int64_t back;
        int32_t ns;
        assert_int_equal(cs_time_parse_rfc3339(cs_buf_slice(&a), &back, &ns, NULL), CS_OK);
        assert_true(back == t[i].unix_s && ns == 0);
    }
}

/* Every day of 800 years against the C library. */
static void calendar_is_the_c_librarys(void **state)
{
    (void)state;
    for (int64_t s = INT64_C(-12622780800); s < INT64_C(12622780800); s += 86400 + 1) {
        struct tm tm;
        time_t t = (time_t)s;
        gmtime_r(&t, &tm);
        char want[64];
        strftime(want, sizeof want, "%Y-%m-%dT%H:%M:%SZ", &tm);
        char mem[64];
        struct cs_buf b = cs_buf_on(mem, sizeof mem);
        cs_time_rfc3339(&b, s);
        assert_string_equal(cs_buf_cstr(&b), want);
        int64_t back;
        assert_int_equal(cs_time_parse_rfc3339(cs_buf_slice(&b), &back, NULL, NULL), CS_OK);
        assert_true(back == s);
    }
}

static void local_times(void **state)
{
    (void)state;
    static const struct {
        const char *zone;
        int64_t s;
        int32_t ns;
        const char *rfc3339, *string;
    } t[] = {
        {"UTC0", 1763838161, 0, "2025-11-22T19:02:41Z", "2025-11-22 19:02:41 +0000 UTC"},
        {"XYZ-5:30", 1763838161, 500000000, "2025-11-23T00:32:41.5+05:30", "2025-11-23 00:32:41 +0530 XYZ"},
        {"ABC3:30", 1763838161, 1, "2025-11-22T15:32:41.000000001-03:30", "2025-11-22 15:32:41 -0330 ABC"},
        {"ABC3", 0, 123456000, "1969-12-31T21:00:00.123456-03:00", "1969-12-31 21:00:00 -0300 ABC"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        setenv("TZ", t[i].zone, 1);
        tzset();
        struct cs_buf CS_CLEANUP(cs_buf_free) a = {0}, CS_CLEANUP(cs_buf_free) b = {0};
        cs_time_rfc3339_local(&a, t[i].s, t[i].ns);
        assert_string_equal(cs_buf_cstr(&a), t[i].rfc3339);
        cs_time_go_local(&b, t[i].s);
        assert_string_equal(cs_buf_cstr(&b), t[i].string);
        int64_t s;
        int32_t ns;
        assert_int_equal(cs_time_parse_rfc3339(cs_buf_slice(&a), &s, &ns, NULL), CS_OK);
        assert_true(s == t[i].s && ns == t[i].ns);
    }
    unsetenv("TZ");
    tzset();
}

static void times_parse_strictly(void **state)
{
    (void)state;
    static const char *const good[] = {"2024-02-29T00:00:00Z", "2026-11-22T19:02:41.123456789123Z",
                                       "0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"};
    static const char *const bad[] = {"",
                                      "2023-02-29T00:00:00Z",
                                      "1900-02-29T00:00:00Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-01-00T00:00:00Z",
                                      "2026-04-31T00:00:00Z",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01T00:60:00Z",
                                      "2026-01-01T00:00:60Z",
                                      "2026-01-01 00:00:00Z",
                                      "2026-01-01t00:00:00Z",
                                      "2026-01-01T00:00:00z",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01T00:00:00.Z",
                                      "2026-01-01T00:00:00,5Z",
                                      "2026-01-01T00:00:00+24:00",
                                      "2026-01-01T00:00:00+00:60",
                                      "2026-01-01T00:00:00+0000",
                                      "2026-01-01T00:00:00Z ",
                                      "2026-1-01T00:00:00Z",
                                      " 2026-01-01T00:00:00Z",
                                      "+026-01-01T00:00:00Z",
                                      "2026-01-01T0:00:00Z",
                                      "2026-01-01T00:00:00+"};
    int64_t s;
    int32_t ns;
    struct cs_err e;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(cs_time_parse_rfc3339(cs_slice_str(good[i]), &s, &ns, &e), CS_OK);
    assert_int_equal(cs_time_parse_rfc3339(cs_slice_str(good[1]), &s, &ns, &e), CS_OK);
    assert_int_equal(ns, 123456789);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cs_time_parse_rfc3339(cs_slice_str(bad[i]), &s, &ns, &e), CS_INVALID);
        assert_true(s == 0 && ns == 0);
    }
}

static void base64_both_ways(void **state)
{
    (void)state;
    uint8_t in[100];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 37 + 200);
    for (size_t n = 0; n < sizeof in; n++) {
        for (int kind = CS_B64_STD; kind <= CS_B64_URL_RAW; kind++) {
            struct cs_buf CS_CLEANUP(cs_buf_free) text = {0}, CS_CLEANUP(cs_buf_free) back = {0};
            cs_b64_encode(&text, cs_slice_of(in, n), (enum cs_b64)kind);
            assert_int_equal(text.len, kind == CS_B64_STD ? (n + 2) / 3 * 4 : (n * 4 + 2) / 3);
            assert_int_equal(cs_b64_decode(&back, cs_buf_slice(&text), (enum cs_b64)kind, NULL), CS_OK);
            assert_true(cs_slice_eq(cs_buf_slice(&back), cs_slice_of(in, n)));
        }
    }
    struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
    cs_b64_encode(&b, cs_slice_str("foob"), CS_B64_STD); /* RFC 4648 section 10 */
    cs_b64_encode(&b, cs_slice_of("\xff\xef\xfe", 3), CS_B64_STD);
    cs_b64_encode(&b, cs_slice_of("\xff\xef\xfe", 3), CS_B64_URL_RAW);
    assert_string_equal(cs_buf_cstr(&b), "Zm9vYg==/+/+_-_-");
}

static void base64_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        enum cs_b64 kind;
    } t[] = {
        {"Zg", CS_B64_STD},
        {"Zg=", CS_B64_STD},
        {"Zg===", CS_B64_STD},
        {"Zh==", CS_B64_STD},
        {"Zm9=", CS_B64_STD},
        {"=", CS_B64_STD},
        {"====", CS_B64_STD},
        {"Z===", CS_B64_STD},
        {"Zg==\n", CS_B64_STD},
        {"Zm 9", CS_B64_STD},
        {"Zm9v=", CS_B64_STD},
        {"Zg==Zg==", CS_B64_STD},
        {"Zm9_", CS_B64_STD},
        {"Z", CS_B64_URL_RAW},
        {"Zg==", CS_B64_URL_RAW},
        {"Zh", CS_B64_URL_RAW},
        {"Zm+v", CS_B64_URL_RAW},
        {"Zm9vY", CS_B64_URL_RAW},
        {"Zm9v\x80"
         "A",
         CS_B64_URL_RAW},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
        struct cs_err e;
        cs_buf_add_str(&b, "before");
        assert_int_equal(cs_b64_decode(&b, cs_slice_str(t[i].in), t[i].kind, &e), CS_INVALID);
        assert_string_equal(cs_buf_cstr(&b), "before");
    }
}

static void hex(void **state)
{
    (void)state;
    struct cs_buf CS_CLEANUP(cs_buf_free) a = {0}, CS_CLEANUP(cs_buf_free) b = {0};
    cs_hex_encode(&a, cs_slice_of("\x00\xff\x1a", 3));
    assert_string_equal(cs_buf_cstr(&a), "00ff1a");
    assert_int_equal(cs_hex_decode(&b, cs_slice_str("00FF1a"), NULL), CS_OK);
    assert_memory_equal(b.data, "\x00\xff\x1a", 3);
    struct cs_err e;
    assert_int_equal(cs_hex_decode(&b, cs_slice_str("0"), &e), CS_INVALID);
    assert_int_equal(cs_hex_decode(&b, cs_slice_str("0g"), &e), CS_INVALID);
    assert_int_equal(cs_hex_decode(&b, cs_slice_str("@0"), &e), CS_INVALID);
    assert_int_equal(b.len, 3);
}

static void utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "ascii only, and long enough for the word loop",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "12345678\xc2\x80",
                                       "\xc2\x80"
                                       "12345678"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xe2\x82",
                                      "12345678\xe2\x82",
                                      "\xc3(",
                                      "\xe2\x28\xa1"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(cs_utf8_valid(cs_slice_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(cs_utf8_valid(cs_slice_str(bad[i])));
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        cs_code code;
        int64_t want;
    } t[] = {
        {"0", CS_OK, 0},
        {"-0", CS_OK, 0},
        {"+17", CS_OK, 17},
        {"007", CS_OK, 7},
        {"9223372036854775807", CS_OK, INT64_MAX},
        {"-9223372036854775808", CS_OK, INT64_MIN},
        {"9223372036854775808", CS_OUT_OF_RANGE, 0},
        {"-9223372036854775809", CS_OUT_OF_RANGE, 0},
        {"99999999999999999999999", CS_OUT_OF_RANGE, 0},
        {"18446744073709551616", CS_OUT_OF_RANGE, 0},
        {"99999999999999999999999x", CS_INVALID, 0},
        {"", CS_INVALID, 0},
        {"-", CS_INVALID, 0},
        {"+-1", CS_INVALID, 0},
        {" 1", CS_INVALID, 0},
        {"1 ", CS_INVALID, 0},
        {"0x1", CS_INVALID, 0},
        {"1.0", CS_INVALID, 0},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        int64_t v = 5;
        assert_int_equal(cs_parse_i64(cs_slice_str(t[i].in), &v, NULL), t[i].code);
        assert_true(v == t[i].want);
    }
    int64_t v;
    struct cs_err e;
    assert_int_equal(cs_parse_i64(cs_slice_str("1\xff\n"), &v, &e), CS_INVALID);
    assert_string_equal(e.text, "not a number: \"1\\xff\\n\"");
}

static void no_memory_is_said(void **state)
{
    (void)state;
    struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
    (void)cs_mem_fail_at(1, true);
    assert_int_equal(cs_b64_decode(&b, cs_slice_str("Zm9v"), CS_B64_STD, NULL), CS_INTERNAL);
    cs_buf_reset(&b);
    assert_int_equal(cs_hex_decode(&b, cs_slice_str("00"), NULL), CS_INTERNAL);
    cs_buf_reset(&b);
    cs_quote(&b, cs_slice_str("x"));
    assert_false(cs_buf_ok(&b));
    (void)cs_mem_fail_at(0, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_parse_as_in_go),
        cmocka_unit_test(durations_print_as_in_go),
        cmocka_unit_test(quotes_as_in_go),
        cmocka_unit_test(printable_table_is_gos),
        cmocka_unit_test(times_print_as_in_go),
        cmocka_unit_test(calendar_is_the_c_librarys),
        cmocka_unit_test(local_times),
        cmocka_unit_test(times_parse_strictly),
        cmocka_unit_test(base64_both_ways),
        cmocka_unit_test(base64_refuses),
        cmocka_unit_test(hex),
        cmocka_unit_test(utf8),
        cmocka_unit_test(numbers),
        cmocka_unit_test(no_memory_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
