/* SPDX-License-Identifier: Apache-2.0
 *
 * Settings with a reference count, and the slot they are in: alone, and with threads that take them while
 * they are replaced.
 */
#include "plugin/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct settings {
    unsigned number;
    const char *text; /* the number, in the arena */
    atomic_uint *cleared;
    long double widest; /* needs the strictest alignment */
};

static void clear(void *settings)
{
    struct settings *s = settings;
    if (s->cleared != NULL)
        atomic_fetch_add(s->cleared, 1);
    s->number = 0; /* TSan: nobody may still read it */
}

static struct settings *make(unsigned number, atomic_uint *cleared)
{
    struct settings *s = plugin_settings_new(sizeof *s, clear);
    if (s == NULL)
        return NULL;
    s->number = number;
    s->text = cs_arena_printf(plugin_settings_arena(s), "%u", number);
    s->cleared = cleared;
    return s;
}

static bool is_whole(const struct settings *s)
{
    char text[16];
    (void)snprintf(text, sizeof text, "%u", s->number);
    return s->number > 0 && strcmp(s->text, text) == 0;
}

static void they_begin_as_zero_and_end_once(void **state)
{
    (void)state;
    atomic_uint cleared = 0;
    struct settings *s = plugin_settings_new(sizeof *s, clear);
    assert_non_null(s);
    assert_int_equal((uintptr_t)s % _Alignof(max_align_t), 0);
    static const struct settings zero;
    assert_memory_equal(s, &zero, sizeof zero);
    s->cleared = &cleared;
    plugin_settings_drop(&s);
    assert_int_equal(cleared, 1);
    assert_null(s);
    plugin_settings_drop(&s);
    plugin_settings_unref(NULL);
    assert_int_equal(cleared, 1);
}

static void what_owns_nothing_needs_no_clear(void **state)
{
    (void)state;
    CS_CLEANUP(plugin_settings_drop) char *text = plugin_settings_new(6, NULL);
    assert_non_null(text);
    memcpy(text, "alone", 6);
    assert_non_null(cs_arena_alloc(plugin_settings_arena(text), 100000)); /* other blocks end with it, too */
    assert_string_equal(text, "alone");
}

static void no_memory_is_told(void **state)
{
    (void)state;
    (void)cs_mem_fail_at(0, false);
    plugin_settings_unref(plugin_settings_new(100000, NULL));
    const size_t needed = cs_mem_fail_at(0, false);
    assert_true(needed > 0);
    for (size_t n = 1; n <= needed; n++) {
        (void)cs_mem_fail_at(n, false);
        assert_null(plugin_settings_new(100000, NULL));
    }
    (void)cs_mem_fail_at(0, false);
}

static void a_holder_keeps_what_it_began_with(void **state)
{
    (void)state;
    atomic_uint cleared = 0;
    struct plugin_slot slot;
    plugin_slot_init(&slot);
    assert_null(plugin_slot_get(&slot));
    plugin_slot_set(&slot, make(1, &cleared));
    const struct settings *first = plugin_slot_get(&slot), *again = plugin_slot_get(&slot);
    assert_ptr_equal(first, again);
    plugin_slot_set(&slot, make(2, &cleared));
    assert_int_equal(cleared, 0);
    assert_true(is_whole(first));
    const struct settings *second = plugin_slot_get(&slot);
    assert_int_equal(second->number, 2);
    plugin_settings_unref(first);
    assert_int_equal(cleared, 0);
    plugin_settings_unref(again);
    assert_int_equal(cleared, 1);
    plugin_slot_destroy(&slot); /* and a call that is under way still */
    assert_int_equal(cleared, 1);
    assert_true(is_whole(second));
    plugin_settings_unref(second);
    assert_int_equal(cleared, 2);
}

static void a_slot_is_emptied_with_nothing(void **state)
{
    (void)state;
    atomic_uint cleared = 0;
    struct plugin_slot slot;
    plugin_slot_init(&slot);
    plugin_slot_set(&slot, make(1, &cleared));
    plugin_slot_set(&slot, NULL);
    assert_int_equal(cleared, 1);
    assert_null(plugin_slot_get(&slot));
    plugin_slot_destroy(&slot);
    assert_int_equal(cleared, 1);
}

/* --- Threads --- */

#define READERS 4
#define WRITERS 2
#define TIMES 2000

struct crowd {
    struct plugin_slot slot;
    pthread_barrier_t begin;
    atomic_uint cleared, broken, writing;
};

static void *read_main(void *arg)
{
    struct crowd *c = arg;
    (void)pthread_barrier_wait(&c->begin);
    while (atomic_load(&c->writing) > 0) {
        CS_CLEANUP(plugin_settings_drop) const struct settings *s = plugin_slot_get(&c->slot);
        if (!is_whole(s))
            atomic_fetch_add(&c->broken, 1);
    }
    return NULL;
}

static void *write_main(void *arg)
{
    struct crowd *c = arg;
    (void)pthread_barrier_wait(&c->begin);
    for (unsigned i = 1; i <= TIMES; i++) {
        struct settings *s = make(i, &c->cleared);
        if (s != NULL)
            plugin_slot_set(&c->slot, s);
    }
    atomic_fetch_sub(&c->writing, 1);
    return NULL;
}

static void many_read_while_it_is_replaced(void **state)
{
    (void)state;
    struct crowd c = {.writing = WRITERS};
    pthread_t threads[READERS + WRITERS];
    assert_int_equal(pthread_barrier_init(&c.begin, NULL, READERS + WRITERS), 0);
    plugin_slot_init(&c.slot);
    plugin_slot_set(&c.slot, make(1, &c.cleared));
    for (size_t i = 0; i < READERS + WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i < READERS ? read_main : write_main, &c), 0);
    for (size_t i = 0; i < READERS + WRITERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(c.broken, 0);
    assert_int_equal(c.cleared, WRITERS * TIMES); /* all but the one that is in force */
    plugin_slot_destroy(&c.slot);
    (void)pthread_barrier_destroy(&c.begin);
    assert_int_equal(c.cleared, WRITERS * TIMES + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_begin_as_zero_and_end_once),
        cmocka_unit_test(what_owns_nothing_needs_no_clear),
        cmocka_unit_test(no_memory_is_told),
        cmocka_unit_test(a_holder_keeps_what_it_began_with),
        cmocka_unit_test(a_slot_is_emptied_with_nothing),
        cmocka_unit_test(many_read_while_it_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
