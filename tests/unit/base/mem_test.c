/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void allocations_fail_when_told(void **state)
{
    (void)state;
    (void)cs_mem_fail_at(2, false);
    void *a = cs_malloc(1), *b = cs_malloc(1), *c = cs_calloc(3, 3);
    assert_int_equal(cs_mem_fail_at(0, false), 3);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    (void)cs_mem_fail_at(1, true);
    assert_null(cs_realloc(a, 100));
    assert_null(cs_strdup("x"));
    assert_null(cs_strndup("x", 1));
    assert_null(cs_memdup("x", 1));
    assert_null(cs_asprintf("%d", 1));
    assert_null(cs_arena_new(0, 0));
    (void)cs_mem_fail_at(0, false);
    cs_free(a);
    cs_free(c);
}

static void nothing_is_an_allocation_too(void **state)
{
    (void)state;
    void *a = cs_malloc(0), *b = cs_calloc(0, 5), *c = cs_memdup(NULL, 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    a = cs_realloc(a, 0);
    assert_non_null(a);
    cs_freep(&a);
    assert_null(a);
    cs_free(b);
    cs_free(c);
    cs_free(NULL);
}

static void strings(void **state)
{
    (void)state;
    char *s = cs_strndup("abcdef", 3);
    assert_string_equal(s, "abc");
    cs_free(s);
    s = cs_strndup("ab", 10);
    assert_string_equal(s, "ab");
    cs_free(s);
    char big[1000];
    memset(big, 'z', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    s = cs_asprintf("<%s>", big);
    assert_int_equal(strlen(s), sizeof big + 1);
    assert_int_equal(s[1000], '>');
    cs_free(s);
}

static void arena_alignment_and_content(void **state)
{
    (void)state;
    struct cs_arena *a = cs_arena_new(100, 0);
    unsigned char *p[200];
    for (size_t i = 0; i < 200; i++) {
        p[i] = cs_arena_alloc(a, i);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)i, i);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t j = 0; j < i; j++)
            assert_int_equal(p[i][j], i);
    }
    assert_true(cs_arena_used(a) >= 199 * 200 / 2);
    cs_arena_reset(a);
    assert_int_equal(cs_arena_used(a), 0);
    unsigned char *z = cs_arena_zalloc(a, 64);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(z[i], 0);
    cs_arena_drop(&a);
    assert_null(a);
    cs_arena_free(NULL);
}

static void arena_limit_holds(void **state)
{
    (void)state;
    struct cs_arena *a = cs_arena_new(1024, 10000);
    assert_null(cs_arena_alloc(a, SIZE_MAX));
    assert_null(cs_arena_alloc(a, SIZE_MAX - 20));
    assert_null(cs_arena_alloc(a, 10001));
    size_t n = 0;
    while (cs_arena_alloc(a, 16) != NULL)
        n += 16;
    assert_true(n > 9000 && n <= 10000);
    cs_arena_reset(a);
    assert_non_null(cs_arena_alloc(a, 8000)); /* the limit counts from anew */
    cs_arena_free(a);
}

static void arena_strings(void **state)
{
    (void)state;
    struct cs_arena *a = cs_arena_new(64, 0);
    assert_string_equal(cs_arena_strdup(a, "spiffe"), "spiffe");
    assert_string_equal(cs_arena_strndup(a, "spiffe://x", 6), "spiffe");
    assert_string_equal(cs_arena_strndup(a, NULL, 0), "");
    assert_memory_equal(cs_arena_memdup(a, "a\0b", 3), "a\0b", 3);
    for (int i = 0; i < 100; i++) {
        char *s = cs_arena_printf(a, "%0*d", i + 1, 7);
        assert_int_equal(strlen(s), i + 1);
        assert_int_equal(s[i], '7');
    }
    cs_arena_free(a);
}

static void arena_reports_no_memory(void **state)
{
    (void)state;
    struct cs_arena *a = cs_arena_new(32, 0);
    (void)cs_mem_fail_at(1, true);
    assert_non_null(cs_arena_alloc(a, 32));
    assert_null(cs_arena_alloc(a, 1));
    assert_null(cs_arena_printf(a, "%d", 1));
    assert_null(cs_arena_strdup(a, "x"));
    (void)cs_mem_fail_at(0, false);
    assert_non_null(cs_arena_alloc(a, 1));
    cs_arena_free(a);
}

static void secrets_start_zero_and_stay_apart(void **state)
{
    (void)state;
    enum { N = 600 };
    static struct cs_secret *s[N];
    struct cs_err e;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(cs_secret_new(i * 7 % 1500, &s[i], &e), CS_OK);
            assert_int_equal(s[i]->len, i * 7 % 1500);
            for (size_t j = 0; j < s[i]->len; j++)
                assert_int_equal(s[i]->data[j], 0);
            memset(s[i]->data, (int)i, s[i]->len);
        }
        for (size_t i = 0; i < N; i++) {
            for (size_t j = 0; j < s[i]->len; j++)
                assert_int_equal(s[i]->data[j], (uint8_t)i);
        }
        for (size_t i = 0; i < N; i++)
            cs_secret_drop(&s[i * 7 % N]); /* 7 does not divide N: each once */
    }
}

static void secrets_of_any_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 16300, 16384, 16385, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct cs_secret *s;
        assert_int_equal(cs_secret_new(sizes[i], &s, NULL), CS_OK);
        memset(s->data, 1, s->len);
        cs_secret_free(s);
    }
    struct cs_secret *s;
    assert_int_equal(cs_secret_copy("key", 3, &s, NULL), CS_OK);
    assert_memory_equal(s->data, "key", 3);
    cs_secret_free(s);
    cs_secret_free(NULL);
    struct cs_err e;
    assert_int_equal(cs_secret_new(SIZE_MAX - 5, &s, &e), CS_INTERNAL);
    assert_null(s);
}

static void comparison_and_wiping(void **state)
{
    (void)state;
    char a[] = "token-1", b[] = "token-2";
    assert_true(cs_ct_equal(a, "token-1", 7));
    assert_false(cs_ct_equal(a, b, 7));
    assert_true(cs_ct_equal(a, b, 6));
    assert_true(cs_ct_equal(a, b, 0));
    cs_wipe(a, sizeof a);
    for (size_t i = 0; i < sizeof a; i++)
        assert_int_equal(a[i], 0);
}

static void uuids_are_version_4(void **state)
{
    (void)state;
    char last[37] = "";
    for (int i = 0; i < 1000; i++) {
        char u[37];
        assert_int_equal(cs_uuid(u, NULL), CS_OK);
        assert_int_equal(strlen(u), 36);
        assert_int_equal(strspn(u, "0123456789abcdef-"), 36);
        assert_true(u[8] == '-' && u[13] == '-' && u[18] == '-' && u[23] == '-');
        assert_int_equal(u[14], '4');
        assert_non_null(strchr("89ab", u[19]));
        assert_string_not_equal(u, last);
        memcpy(last, u, sizeof last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_fail_when_told),
        cmocka_unit_test(nothing_is_an_allocation_too),
        cmocka_unit_test(strings),
        cmocka_unit_test(arena_alignment_and_content),
        cmocka_unit_test(arena_limit_holds),
        cmocka_unit_test(arena_strings),
        cmocka_unit_test(arena_reports_no_memory),
        cmocka_unit_test(secrets_start_zero_and_stay_apart),
        cmocka_unit_test(secrets_of_any_size),
        cmocka_unit_test(comparison_and_wiping),
        cmocka_unit_test(uuids_are_version_4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
