/* SPDX-License-Identifier: Apache-2.0 */
#include "server/agentcache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the three above */
#include <cmocka.h>
#include <stdio.h>

#define ID "spiffe://example.org/spire/agent/x"

static struct agentcache *new_cache(void)
{
    struct agentcache *c = NULL;
    assert_int_equal(agentcache_new(&c, NULL), CS_OK);
    return c;
}

static struct selset *set_of(const char *key)
{
    struct cs_slice k = cs_slice_str(key);
    struct selset *s = NULL;
    assert_int_equal(selset_new(&k, 1, &s, NULL), CS_OK);
    return s;
}

static void node_and_selectors_come_in_any_order(void **state)
{
    (void)state;
    struct agentcache *c = new_cache();
    const struct cs_slice id = cs_slice_str(ID);
    CS_AUTO(selset) s = set_of("a:b");
    assert_null(agentcache_get(c, id));
    assert_int_equal(agentcache_set_selectors(c, id, s, NULL), CS_OK);
    CS_AUTO(agent) first = agentcache_get(c, id);
    assert_false(first->attested);
    const struct agentcache_node n = {
        .serial = "1", .new_serial = NULL, .expires_at = 5, .can_reattest = true};
    assert_int_equal(agentcache_set_node(c, id, &n, NULL), CS_OK);
    CS_AUTO(agent) second = agentcache_get(c, id);
    assert_true(second->attested && second->can_reattest);
    assert_string_equal(second->serial, "1");
    assert_string_equal(second->new_serial, "");
    assert_true(selset_has(second->selectors, cs_slice_str("a:b")));
    CS_AUTO(selset) other = set_of("c:d");
    assert_int_equal(agentcache_set_selectors(c, id, other, NULL), CS_OK);
    CS_AUTO(agent) third = agentcache_get(c, id);
    assert_true(third->attested);
    assert_string_equal(third->serial, "1");
    assert_false(selset_has(third->selectors, cs_slice_str("a:b")));
    assert_true(selset_has(second->selectors, cs_slice_str("a:b"))); /* records do not change */
    agentcache_remove(c, id);
    assert_null(agentcache_get(c, id));
    assert_int_equal(agentcache_len(c), 0);
    agentcache_free(c);
}

/* A record that could not be replaced must not stay: it may be of an agent that was banned just now. */
static void without_memory_an_agent_is_forgotten(void **state)
{
    (void)state;
    struct agentcache *c = new_cache();
    const struct cs_slice id = cs_slice_str(ID);
    const struct agentcache_node good = {.serial = "1"}, banned = {.serial = ""};
    for (size_t n = 1; n < 5; n++) {
        assert_int_equal(agentcache_set_node(c, id, &good, NULL), CS_OK);
        cs_mem_fail_at(n, false);
        cs_code code = agentcache_set_node(c, id, &banned, NULL);
        cs_mem_fail_at(0, false);
        CS_AUTO(agent) a = agentcache_get(c, id);
        assert_true(code == CS_OK ? a != NULL && a->serial[0] == '\0' : a == NULL);
    }
    agentcache_free(c);
}

static bool is_odd(void *arg, struct cs_slice id)
{
    (void)arg;
    return (id.data[id.len - 1] - '0') % 2 == 1;
}

static void a_sweep_spares_who_is_not_attested_yet(void **state)
{
    (void)state;
    struct agentcache *c = new_cache();
    const struct agentcache_node n = {.serial = "1"};
    CS_AUTO(selset) s = set_of("a:b");
    char id[8];
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "x%d", i);
        assert_int_equal(agentcache_set_node(c, cs_slice_str(id), &n, NULL), CS_OK);
    }
    assert_int_equal(agentcache_set_selectors(c, cs_slice_str("y1"), s, NULL), CS_OK);
    agentcache_sweep(c, is_odd, NULL);
    assert_int_equal(agentcache_len(c), 501);
    assert_null(agentcache_get(c, cs_slice_str("x999")));
    agentcache_remove_attested(c, cs_slice_str("y1"));
    agentcache_remove_attested(c, cs_slice_str("x2"));
    agentcache_remove_attested(c, cs_slice_str("unknown"));
    assert_int_equal(agentcache_len(c), 500);
    agentcache_free(c);
}

static void sets_are_sorted_and_without_duplicates(void **state)
{
    (void)state;
    const struct cs_slice keys[] = {cs_slice_str("b:1"), cs_slice_str("a:2"), cs_slice_str("b:1"),
                                    cs_slice_str("a")};
    CS_AUTO(selset) s = NULL;
    assert_int_equal(selset_new(keys, 4, &s, NULL), CS_OK);
    assert_int_equal(selset_len(s), 3);
    assert_true(cs_slice_is(selset_at(s, 0), "a") && cs_slice_is(selset_at(s, 2), "b:1"));
    assert_true(selset_has(s, cs_slice_str("a:2")) && !selset_has(s, cs_slice_str("a:")));
    CS_AUTO(selset) none = NULL;
    assert_int_equal(selset_new(NULL, 0, &none, NULL), CS_OK);
    assert_false(selset_has(none, cs_slice_str("a")));
    assert_false(selset_has(NULL, cs_slice_str("a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_and_selectors_come_in_any_order),
        cmocka_unit_test(without_memory_an_agent_is_forgotten),
        cmocka_unit_test(a_sweep_spares_who_is_not_attested_yet),
        cmocka_unit_test(sets_are_sorted_and_without_duplicates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
