/* SPDX-License-Identifier: Apache-2.0 */
#include "base/coll.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* SipHash-1-3 of the bytes 0, 1, ..., n-1 under the key 00 01 ... 0f. The values were made with another
 * implementation, which was held against the published vectors of SipHash-2-4. */
static void hash_is_keyed(void **state)
{
    (void)state;
    static const uint64_t k1[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    static const uint64_t want[] = {
        UINT64_C(0xabac0158050fc4dc), UINT64_C(0xc9f49bf37d57ca93), UINT64_C(0x82cb9b024dc7d44d),
        UINT64_C(0x8bf80ab8e7ddf7fb), UINT64_C(0xcf75576088d38328), UINT64_C(0xdef9d52f49533b67),
        UINT64_C(0xc50d2b50c59f22a7), UINT64_C(0xd3927d989bb11140), UINT64_C(0x369095118d299a8e),
        UINT64_C(0x25a48eb36c063de4), UINT64_C(0x79de85ee92ff097f), UINT64_C(0x70c118c1f94dc352),
        UINT64_C(0x78a384b157b4d9a2), UINT64_C(0x306f760c1229ffa7), UINT64_C(0x605aa111c0f95d34),
        UINT64_C(0xd320d86d2a519956), UINT64_C(0xcc4fdd1a7d908b66)};
    uint8_t in[64];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_true(cs_siphash13(k1, cs_slice_of(in, i)) == want[i]);
    assert_true(cs_hash(cs_slice_str("a")) == cs_hash(cs_slice_str("a")));
    assert_true(cs_hash(cs_slice_str("a")) != cs_hash(cs_slice_str("b")));
}

static unsigned freed;
static void count_free(void *v)
{
    (void)v;
    freed++;
}

/* Against a plain array: a few thousand random changes over a small key space, so that removals move
 * entries in full clusters. */
static void behaves_like_an_array(void **state)
{
    (void)state;
    enum { KEYS = 300 };
    static void *model[KEYS];
    static char values[1000];
    unsigned rnd = 12345;
    size_t len = 0;
    struct cs_map *m = cs_map_new(NULL);
    for (int step = 0; step < 60000; step++) {
        rnd = rnd * 1103515245 + 12345;
        unsigned k = rnd / 65536 % KEYS;
        char key[16];
        int n = snprintf(key, sizeof key, "key-%u", k);
        struct cs_slice s = cs_slice_of(key, (size_t)n);
        assert_ptr_equal(cs_map_get(m, s), model[k]);
        if (rnd / 256 % 2 == 0) {
            void *v = &values[step % 1000];
            assert_int_equal(cs_map_put(m, s, v), CS_OK);
            len += model[k] == NULL;
            model[k] = v;
        } else {
            assert_int_equal(cs_map_del(m, s), model[k] != NULL);
            len -= model[k] != NULL;
            model[k] = NULL;
        }
        assert_int_equal(cs_map_len(m), len);
    }
    size_t seen = 0;
    struct cs_slice key;
    void *value;
    for (size_t it = 0; cs_map_next(m, &it, &key, &value); seen++) {
        char text[16];
        snprintf(text, sizeof text, "%.*s", (int)key.len, (const char *)key.data);
        assert_ptr_equal(model[strtoul(text + 4, NULL, 10)], value);
    }
    assert_int_equal(seen, len);
    cs_map_free(m);
}

static void values_are_freed_once(void **state)
{
    (void)state;
    struct cs_map *m = cs_map_new(count_free);
    int a, b;
    freed = 0;
    assert_int_equal(cs_map_put(m, cs_slice_str("k"), &a), CS_OK);
    assert_int_equal(cs_map_put(m, cs_slice_str("k"), &a), CS_OK);
    assert_int_equal(freed, 0); /* the same value again is no replacement */
    assert_int_equal(cs_map_put(m, cs_slice_str("k"), &b), CS_OK);
    assert_int_equal(freed, 1);
    assert_ptr_equal(cs_map_take(m, cs_slice_str("k")), &b);
    assert_null(cs_map_take(m, cs_slice_str("k")));
    assert_int_equal(freed, 1);
    assert_int_equal(cs_map_put(m, cs_slice_of(NULL, 0), &a), CS_OK);
    assert_ptr_equal(cs_map_get_str(m, ""), &a);
    assert_int_equal(cs_map_put(m, cs_slice_of("a\0b", 3), &b), CS_OK);
    assert_null(cs_map_get_str(m, "a"));
    assert_true(cs_map_del(m, cs_slice_of("a\0b", 3)));
    assert_int_equal(freed, 2);
    cs_map_drop(&m);
    assert_null(m);
    assert_int_equal(freed, 3);
    cs_map_free(NULL);
}

static void full_memory_changes_nothing(void **state)
{
    (void)state;
    struct cs_map *m = cs_map_new(NULL);
    int v;
    for (unsigned i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        size_t fail_at = 0;
        cs_code code;
        do {
            (void)cs_mem_fail_at(++fail_at, false);
            code = cs_map_put(m, cs_slice_str(key), &v);
            assert_int_equal(cs_map_len(m), i + (code == CS_OK));
        } while (code != CS_OK);
        (void)cs_mem_fail_at(0, false);
        assert_true(fail_at <= 3);
    }
    for (unsigned i = 0; i < 200; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        assert_ptr_equal(cs_map_get_str(m, key), &v);
    }
    cs_map_free(m);
}

static void vector_grows(void **state)
{
    (void)state;
    struct cs_vec v = {0};
    static char at[1000];
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(cs_vec_push(&v, at + i), CS_OK);
    for (size_t i = 0; i < 1000; i++)
        assert_ptr_equal(v.at[i], at + i);
    v.len = v.cap;
    (void)cs_mem_fail_at(1, false);
    assert_int_equal(cs_vec_push(&v, NULL), CS_INTERNAL);
    (void)cs_mem_fail_at(0, false);
    cs_vec_free(&v);
    assert_null(v.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_is_keyed),         cmocka_unit_test(behaves_like_an_array),
        cmocka_unit_test(values_are_freed_once), cmocka_unit_test(full_memory_changes_nothing),
        cmocka_unit_test(vector_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
