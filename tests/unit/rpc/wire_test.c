/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts of gRPC's headers, the framing of messages, and the heap of deadlines.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "rpc/frame.h"
#include "rpc/timers.h"
#include "rpc/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <nghttp2/nghttp2.h>

static void test_timeout_parse(void **state)
{
    (void)state;
    const struct {
        const char *text;
        cs_code code;
        int64_t ns;
    } rows[] = {
        {"1n", CS_OK, 1},
        {"20u", CS_OK, 20000},
        {"5m", CS_OK, 5 * CS_NS_PER_MS},
        {"30S", CS_OK, 30 * CS_NS_PER_S},
        {"2M", CS_OK, 120 * CS_NS_PER_S},
        {"1H", CS_OK, 3600 * CS_NS_PER_S},
        {"0n", CS_OK, 0},
        {"99999999H", CS_OK, INT64_MAX},
        {"", CS_INTERNAL, 0},
        {"S", CS_INTERNAL, 0},
        {"123456789S", CS_INTERNAL, 0},
        {"5x", CS_INTERNAL, 0},
        {"-5S", CS_INTERNAL, 0},
        {"5 S", CS_INTERNAL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t ns = -1;
        struct cs_err e = {0};
        assert_int_equal(rpc_timeout_parse(cs_slice_str(rows[i].text), &ns, &e), rows[i].code);
        assert_int_equal(ns, rows[i].ns);
        assert_true(rows[i].code == CS_OK || strncmp(e.text, "malformed grpc-timeout: ", 24) == 0);
    }
}

static void test_timeout_format(void **state)
{
    (void)state;
    const struct {
        int64_t ns;
        const char *text;
    } rows[] = {
        {0, "0n"},
        {-5, "0n"},
        {99999999, "99999999n"},
        {100000000, "100000u"},
        {30 * CS_NS_PER_S, "30000000u"},
        {100 * CS_NS_PER_S, "100000m"},
        {100 * CS_NS_PER_S + 1, "100001m"},
        {INT64_MAX, "2562048H"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[RPC_TIMEOUT_TEXT];
        rpc_timeout_format(rows[i].ns, text);
        if (rows[i].ns != INT64_MAX)
            assert_string_equal(text, rows[i].text);
        int64_t back;
        assert_int_equal(rpc_timeout_parse(cs_slice_str(text), &back, NULL), CS_OK);
        assert_true(back >= rows[i].ns);
    }
}

static void test_percent(void **state)
{
    (void)state;
    const struct {
        const char *raw, *coded;
    } rows[] = {
        {"", ""},          {"plain text ~", "plain text ~"}, {"100%", "100%25"},
        {"a\nb", "a%0Ab"}, {"\xc3\xa4", "%C3%A4"},           {"\x7f", "%7F"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_buf a = {0}, b = {0};
        rpc_percent_encode(&a, cs_slice_str(rows[i].raw));
        assert_string_equal(cs_buf_cstr(&a), rows[i].coded);
        rpc_percent_decode(&b, cs_buf_slice(&a));
        assert_string_equal(cs_buf_cstr(&b), rows[i].raw);
        cs_buf_free(&a);
        cs_buf_free(&b);
    }
    struct cs_buf bad = {0};
    rpc_percent_encode(&bad, cs_slice_str("\xff"));
    assert_string_equal(cs_buf_cstr(&bad), "%EF%BF%BD");
    cs_buf_reset(&bad);
    rpc_percent_decode(&bad, cs_slice_str("%zz%4"));
    assert_string_equal(cs_buf_cstr(&bad), "%zz%4");
    cs_buf_free(&bad);
}

static void test_binary(void **state)
{
    (void)state;
    static const char *const same[] = {"AP8=", "AP8"};
    for (size_t i = 0; i < 2; i++) {
        struct cs_buf out = {0};
        assert_int_equal(rpc_bin_decode(&out, cs_slice_str(same[i]), NULL), CS_OK);
        assert_true(out.len == 2 && out.data[0] == 0 && out.data[1] == 0xff);
        cs_buf_free(&out);
    }
    struct cs_buf out = {0};
    assert_int_not_equal(rpc_bin_decode(&out, cs_slice_str("!!"), NULL), CS_OK);
    assert_int_not_equal(rpc_bin_decode(&out, cs_slice_str("A"), NULL), CS_OK);
    cs_buf_free(&out);
    assert_true(rpc_key_is_bin(cs_slice_str("x-bin")));
    assert_false(rpc_key_is_bin(cs_slice_str("-bin")));
    assert_true(rpc_content_type_ok(cs_slice_str("application/grpc+proto")));
    assert_true(rpc_content_type_ok(cs_slice_str("application/grpc;x")));
    assert_false(rpc_content_type_ok(cs_slice_str("application/grpcx")));
}

static void test_details(void **state)
{
    (void)state;
    const struct rpc_detail d = {"spire.api.types.PermissionDeniedDetails", {8, 2}, 2};
    struct rpc_detail back;
    /* every allocation fails once */
    for (size_t n = 1;; n++) {
        struct cs_buf out = {0};
        cs_mem_fail_at(n, false);
        cs_code code = rpc_details_encode(&out, CS_DENIED, "no", &d, NULL);
        cs_mem_fail_at(0, false);
        if (code == CS_OK) {
            cs_mem_fail_at(1, true);
            rpc_details_decode(cs_buf_slice(&out), &back);
            cs_mem_fail_at(0, false);
            assert_string_equal(back.type_name, "");
            rpc_details_decode(cs_buf_slice(&out), &back);
            cs_buf_free(&out);
            break;
        }
        cs_buf_free(&out);
    }
    assert_string_equal(back.type_name, d.type_name);
    assert_int_equal(back.len, 2);
    assert_memory_equal(back.data, d.data, 2);
    rpc_details_decode(cs_slice_str("not base64"), &back);
    assert_string_equal(back.type_name, "");
}

static void test_codes(void **state)
{
    (void)state;
    assert_int_equal(rpc_code_of_h2(NGHTTP2_REFUSED_STREAM), CS_UNAVAILABLE);
    assert_int_equal(rpc_code_of_h2(NGHTTP2_CANCEL), CS_CANCELLED);
    assert_int_equal(rpc_code_of_h2(NGHTTP2_ENHANCE_YOUR_CALM), CS_EXHAUSTED);
    assert_int_equal(rpc_code_of_h2(NGHTTP2_INADEQUATE_SECURITY), CS_DENIED);
    assert_int_equal(rpc_code_of_h2(NGHTTP2_PROTOCOL_ERROR), CS_INTERNAL);
    assert_int_equal(rpc_code_of_h2(77), CS_UNKNOWN);
    assert_string_equal(rpc_h2_error_name(NGHTTP2_HTTP_1_1_REQUIRED), "HTTP_1_1_REQUIRED");
    assert_int_equal(rpc_code_of_http(503), CS_UNAVAILABLE);
    assert_int_equal(rpc_code_of_http(404), CS_UNIMPLEMENTED);
    assert_int_equal(rpc_code_of_http(418), CS_UNKNOWN);
    assert_string_equal(rpc_code_digits(CS_UNAUTHENTICATED), "16");
    assert_string_equal(rpc_code_digits((cs_code)99), "2");
}

static void test_deframe(void **state)
{
    (void)state;
    const struct {
        const char *data;
        size_t len;
        const char *encoding;
        bool server;
        cs_code code;
        const char *text;
    } rows[] = {
        {"\0\0\0\0\x0b", 5, "", true, CS_EXHAUSTED, "grpc: received message larger than max (11 vs. 10)"},
        {"\1\0\0\0\1", 5, "", true, CS_INTERNAL, "grpc: compressed flag set with identity or empty encoding"},
        {"\1\0\0\0\1", 5, "identity", true, CS_INTERNAL,
         "grpc: compressed flag set with identity or empty encoding"},
        {"\1\0\0\0\1", 5, "gzip", true, CS_UNIMPLEMENTED,
         "grpc: Decompressor is not installed for grpc-encoding \"gzip\""},
        {"\1\0\0\0\1", 5, "gzip", false, CS_INTERNAL,
         "grpc: Decompressor is not installed for grpc-encoding \"gzip\""},
        {"\7\0\0\0\1", 5, "", true, CS_INTERNAL, "grpc: received unexpected payload format 7"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct rpc_deframer d = {.max = 10};
        struct cs_slice in = {(const uint8_t *)rows[i].data, rows[i].len};
        struct cs_err e = {0};
        bool done;
        assert_int_equal(rpc_deframe(&d, &in, rows[i].encoding, rows[i].server, &done, &e), rows[i].code);
        assert_false(done);
        assert_string_equal(e.text, rows[i].text);
        rpc_deframer_free(&d);
    }
}

/* --- Timers --- */

#define NODES 200
static struct {
    struct loop *loop;
    struct rpc_timers timers;
    struct rpc_timer nodes[NODES];
    int64_t last;
    int fired, wrong;
} tm;

static void on_fire(struct rpc_timer *t)
{
    tm.wrong += t->when < tm.last || t->pos != 0 || (t - tm.nodes) % 3 == 0;
    tm.last = t->when;
    if (++tm.fired == NODES - (NODES + 2) / 3)
        loop_stop(tm.loop);
}

static void test_timers(void **state)
{
    (void)state;
    assert_int_equal(loop_new("timers", &tm.loop, NULL), CS_OK);
    assert_int_equal(rpc_timers_init(&tm.timers, tm.loop, NULL), CS_OK);
    int64_t now = cs_mono_ns(&cs_clock_system);
    for (int i = 0; i < NODES; i++) {
        tm.nodes[i].fn = on_fire;
        assert_int_equal(rpc_timer_set(&tm.timers, &tm.nodes[i], now + CS_NS_PER_S + i), CS_OK);
    }
    for (int i = 0; i < NODES; i++) /* moved */
        assert_int_equal(rpc_timer_set(&tm.timers, &tm.nodes[i], now + ((i * 7919) % NODES) * 100000), CS_OK);
    for (int i = 0; i < NODES; i += 3) /* cleared, one way or the other */
        if (i % 2)
            rpc_timer_clear(&tm.timers, &tm.nodes[i]);
        else
            assert_int_equal(rpc_timer_set(&tm.timers, &tm.nodes[i], INT64_MAX), CS_OK);
    loop_run(tm.loop);
    assert_int_equal(tm.wrong, 0);
    assert_int_equal(tm.timers.heap.len, 0);
    rpc_timers_free(&tm.timers);
    loop_free(tm.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeout_parse), cmocka_unit_test(test_timeout_format),
        cmocka_unit_test(test_percent),       cmocka_unit_test(test_binary),
        cmocka_unit_test(test_details),       cmocka_unit_test(test_codes),
        cmocka_unit_test(test_deframe),       cmocka_unit_test(test_timers),
    };
    return cmocka_run_group_tests_name("rpc/wire", tests, NULL, NULL);
}
