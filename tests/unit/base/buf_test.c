/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void grows_and_ends_in_nul(void **state)
{
    (void)state;
    struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
    assert_string_equal(cs_buf_cstr(&b), "");
    for (int i = 0; i < 10000; i++)
        cs_buf_add_byte(&b, (uint8_t)('a' + i % 26));
    cs_buf_add_str(&b, "-end");
    cs_buf_printf(&b, "%s%d", "-", 42);
    assert_int_equal(b.len, 10007);
    assert_string_equal(cs_buf_cstr(&b) + 10000, "-end-42");
    cs_buf_reset(&b);
    assert_int_equal(b.len, 0);
    assert_true(b.cap > 10000);
}

static void printf_fits_every_rest(void **state)
{
    (void)state;
    for (size_t fill = 0; fill < 130; fill++) {
        struct cs_buf CS_CLEANUP(cs_buf_free) b = {0};
        for (size_t i = 0; i < fill; i++)
            cs_buf_add_byte(&b, '.');
        cs_buf_printf(&b, "%s", "0123456789");
        assert_true(cs_buf_ok(&b));
        assert_int_equal(b.len, fill + 10);
        assert_string_equal(cs_buf_cstr(&b) + fill, "0123456789");
    }
}

/* The limit is met exactly, by each way of adding. */
static void limit_is_exact_and_sticky(void **state)
{
    (void)state;
    struct cs_buf CS_CLEANUP(cs_buf_free) b = {.max = 100};
    for (int i = 0; i < 10; i++)
        cs_buf_printf(&b, "%s", "0123456789");
    assert_true(cs_buf_ok(&b));
    assert_int_equal(b.len, 100);
    assert_int_equal(strlen(cs_buf_cstr(&b)), 100); /* the NUL does not count */
    cs_buf_printf(&b, "%s", "");
    assert_true(cs_buf_ok(&b));
    cs_buf_add_byte(&b, 'x');
    assert_false(cs_buf_ok(&b));
    cs_buf_reset(&b);
    cs_buf_add(&b, "0123456789", 10);
    cs_buf_printf(&b, "%0*d", 91, 1);
    assert_false(cs_buf_ok(&b));
    assert_string_equal(cs_buf_cstr(&b), "");
    cs_buf_add_str(&b, "more");
    assert_int_equal(b.len, 10);
    assert_null(cs_buf_take_str(&b));
    assert_int_equal(b.cap, 0);

    struct cs_buf huge = {0};
    assert_false(cs_buf_reserve(&huge, SIZE_MAX));
    cs_buf_free(&huge);
}

static void stack_memory_first(void **state)
{
    (void)state;
    char mem[16];
    struct cs_buf b = cs_buf_on(mem, sizeof mem);
    cs_buf_add_str(&b, "0123456789");
    assert_ptr_equal(b.data, mem);
    assert_string_equal(cs_buf_cstr(&b), "0123456789");
    cs_buf_add_str(&b, "abcdef");
    assert_ptr_equal(b.data, mem);
    assert_string_equal(cs_buf_cstr(&b), "0123456789abcdef"); /* the NUL needs the heap */
    assert_ptr_not_equal(b.data, mem);
    cs_buf_free(&b);

    b = cs_buf_on(mem, sizeof mem);
    cs_buf_add_str(&b, "short");
    char *s = cs_buf_take_str(&b);
    assert_ptr_not_equal(s, mem);
    assert_string_equal(s, "short");
    cs_free(s);
    b = cs_buf_on(mem, sizeof mem);
    cs_buf_printf(&b, "%0*d", 40, 1);
    assert_int_equal(b.len, 40);
    cs_buf_wipe(&b);
}

static void no_memory_is_sticky(void **state)
{
    (void)state;
    struct cs_buf b = {0};
    (void)cs_mem_fail_at(1, true);
    cs_buf_add_str(&b, "x");
    assert_false(cs_buf_ok(&b));
    (void)cs_mem_fail_at(0, false);
    cs_buf_add_str(&b, "x");
    assert_int_equal(b.len, 0);
    cs_buf_reset(&b);
    cs_buf_add_str(&b, "x");
    char *s = cs_buf_take_str(&b);
    assert_string_equal(s, "x");
    assert_null(b.data);
    cs_free(s);
}

static void reader_stops_at_the_end(void **state)
{
    (void)state;
    static const uint8_t in[] = {1, 2, 3, 0xff, 0xfe, 0xfd, 0xfc, 9};
    struct cs_rd r = cs_rd_of(cs_slice_of(in, sizeof in));
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    struct cs_slice s;
    assert_true(cs_rd_u8(&r, &u8) && u8 == 1);
    assert_true(cs_rd_u16be(&r, &u16) && u16 == 0x0203);
    assert_true(cs_rd_u32be(&r, &u32) && u32 == 0xfffefdfc);
    assert_false(cs_rd_u16be(&r, &u16));
    assert_false(cs_rd_bytes(&r, 2, &s));
    assert_false(cs_rd_bytes(&r, SIZE_MAX, &s));
    assert_int_equal(cs_rd_left(&r), 1);
    assert_true(cs_rd_bytes(&r, 1, &s) && s.len == 1 && s.data[0] == 9);
    assert_true(cs_rd_bytes(&r, 0, &s) && s.len == 0);
    assert_false(cs_rd_u8(&r, &u8));
}

static void slices(void **state)
{
    (void)state;
    assert_true(cs_slice_is(cs_slice_str("abc"), "abc"));
    assert_false(cs_slice_is(cs_slice_str("abc"), "abd"));
    assert_false(cs_slice_is(cs_slice_str("abc"), "ab"));
    assert_true(cs_slice_eq((struct cs_slice){0}, cs_slice_str("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_ends_in_nul),
        cmocka_unit_test(printf_fits_every_rest),
        cmocka_unit_test(limit_is_exact_and_sticky),
        cmocka_unit_test(stack_memory_first),
        cmocka_unit_test(no_memory_is_sticky),
        cmocka_unit_test(reader_stops_at_the_end),
        cmocka_unit_test(slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
