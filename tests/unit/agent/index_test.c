/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/index.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ITEMS 500

struct item {
    char text[12];
    bool in;
};

static const char *text_of(const void *item)
{
    return ((const struct item *)item)->text;
}

static void check(const struct agent_index *x, struct item *items, size_t n)
{
    size_t in = 0;
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(agent_index_get(x, items[i].text), items[i].in ? &items[i] : NULL);
        in += items[i].in;
    }
    assert_int_equal(x->len, in);
    struct item *at;
    for (size_t it = 0; (at = agent_index_next(x, &it)) != NULL; in--)
        assert_true(at->in);
    assert_int_equal(in, 0);
}

static void test_against_model(void **state)
{
    static struct item items[ITEMS];
    struct agent_index x = {.key = text_of};
    unsigned seed = 3;
    (void)state;
    for (size_t i = 0; i < ITEMS; i++)
        (void)snprintf(items[i].text, sizeof items[i].text, "i%zu", i);
    assert_null(agent_index_get(&x, "i1"));
    assert_null(agent_index_take(&x, "i1"));
    for (int step = 0; step < 20000; step++) {
        /* grows for a while, then shrinks */
        bool grow = step < 10000 ? rand_r(&seed) % 3 != 0 : rand_r(&seed) % 3 == 0;
        struct item *it = &items[(size_t)rand_r(&seed) % ITEMS];
        if (grow && !it->in)
            assert_int_equal(agent_index_add(&x, it), CS_OK);
        else if (!grow)
            assert_ptr_equal(agent_index_take(&x, it->text), it->in ? it : NULL);
        it->in = grow;
        if (step % 500 == 0)
            check(&x, items, ITEMS);
    }
    check(&x, items, ITEMS);
    agent_index_free(&x);
    assert_null(agent_index_get(&x, "i1"));
}

static void test_without_memory(void **state)
{
    struct item one = {.text = "one"};
    struct agent_index x = {.key = text_of};
    (void)state;
    (void)cs_mem_fail_at(1, false);
    assert_int_equal(agent_index_add(&x, &one), CS_INTERNAL);
    assert_null(agent_index_get(&x, "one"));
    assert_int_equal(agent_index_add(&x, &one), CS_OK);
    assert_ptr_equal(agent_index_get(&x, "one"), &one);
    agent_index_free(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
