/* SPDX-License-Identifier: Apache-2.0
 *
 * The caches follow the datastore: our own writes at once, those of another server on the same
 * database at the next refresh, and everything again after a change was missed for want of memory.
 */
#include "server/api/internal.h"
#include "server/bundlestore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the three above */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define AGENT "spiffe://example.org/spire/agent/x"
#define AGENT_PATH "/spire/agent/x"

struct fixture {
    char dir[32], path[64];
    struct ds *ours, *theirs;
    struct api *api;
    struct cs_arena *arena;
};

static struct ds *open_ds(const char *path)
{
    struct ds *d = NULL;
    const struct ds_options o = {.database_type = "sqlite3", .connection_string = path};
    assert_int_equal(ds_open(&o, &d, NULL), CS_OK);
    return d;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/cspire-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/db", f->dir);
    f->ours = open_ds(f->path);
    f->theirs = open_ds(f->path);
    f->arena = cs_arena_new(0, 0);
    const struct api_config cfg = {.trust_domain = "example.org", .ds = f->ours, .clock = &cs_clock_system};
    assert_int_equal(api_new(&cfg, &f->api, NULL), CS_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    static const char *const files[] = {"db", "db-wal", "db-shm"};
    api_free(f->api);
    ds_close(f->ours);
    ds_close(f->theirs);
    cs_arena_free(f->arena);
    for (size_t i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", f->dir, files[i]);
        unlink(path);
    }
    rmdir(f->dir);
    free(f);
    return 0;
}

static const struct ds_selector unix_selector = {"unix", "uid:1"};

static void create(struct fixture *f, struct ds *d, const char *id, const char *parent, const char *spiffe)
{
    const struct ds_entry e = {.entry_id = id,
                               .parent_id = parent,
                               .spiffe_id = spiffe,
                               .selectors = &unix_selector,
                               .n_selectors = 1};
    assert_int_equal(ds_entry_create(d, f->arena, &e, NULL, NULL, NULL), CS_OK);
}

static bool sees(struct fixture *f, const char *id)
{
    CS_AUTO(agent) a = agentcache_get(f->api->agents, cs_slice_str(AGENT));
    CS_AUTO(entry)
    en = entrycache_lookup(f->api->entries, cs_slice_str(AGENT_PATH), a != NULL ? a->selectors : NULL,
                           cs_slice_str(id));
    return en != NULL;
}

static void own_writes_are_seen_at_once(void **state)
{
    struct fixture *f = *state;
    create(f, f->ours, "one", AGENT, "spiffe://example.org/one");
    create(f, f->ours, "two", "spiffe://example.org/one", "spiffe://example.org/two");
    assert_true(sees(f, "one") && sees(f, "two"));
    const struct ds_entry change = {
        .entry_id = "one", .hint = "h", .parent_id = "spiffe://example.org/other"};
    const struct ds_entry_mask mask = {.parent_id = true, .hint = true};
    assert_int_equal(ds_entry_update(f->ours, f->arena, &change, &mask, NULL, NULL), CS_OK);
    assert_false(sees(f, "one") || sees(f, "two"));
    assert_int_equal(ds_entry_delete(f->ours, f->arena, "two", NULL, NULL), CS_OK);
    assert_int_equal(entrycache_len(f->api->entries), 1);
    api_refresh(f->api);
    assert_int_equal(entrycache_len(f->api->entries), 1);
}

static void an_agent_gets_what_its_aliases_have(void **state)
{
    struct fixture *f = *state;
    const struct ds_selector node[] = {{"k8s", "cluster:a"}, {"k8s", "ns:b"}};
    const struct ds_selector other = {"k8s", "cluster:z"};
    const struct ds_entry alias = {.entry_id = "alias",
                                   .parent_id = "spiffe://example.org/spire/server",
                                   .spiffe_id = "spiffe://example.org/cluster",
                                   .selectors = node,
                                   .n_selectors = 1};
    assert_int_equal(ds_entry_create(f->ours, f->arena, &alias, NULL, NULL, NULL), CS_OK);
    create(f, f->ours, "c", "spiffe://example.org/cluster", "spiffe://example.org/c");
    assert_false(sees(f, "c"));
    assert_int_equal(ds_node_set_selectors(f->ours, AGENT, node, 2, NULL), CS_OK);
    assert_true(sees(f, "c"));
    assert_false(sees(f, "alias"));
    assert_int_equal(ds_node_set_selectors(f->ours, AGENT, &other, 1, NULL), CS_OK);
    assert_false(sees(f, "c"));
}

static void another_servers_writes_are_seen_at_the_refresh(void **state)
{
    struct fixture *f = *state;
    create(f, f->ours, "mine", AGENT, "spiffe://example.org/mine");
    create(f, f->theirs, "theirs", AGENT, "spiffe://example.org/theirs");
    assert_int_equal(ds_entry_delete(f->theirs, f->arena, "mine", NULL, NULL), CS_OK);
    const struct ds_node node = {
        .spiffe_id = AGENT, .attestation_type = "t", .serial_number = "1", .expires_at = 5};
    assert_int_equal(ds_node_create(f->theirs, f->arena, &node, NULL, NULL), CS_OK);
    assert_int_equal(ds_node_set_selectors(f->theirs, AGENT, &unix_selector, 1, NULL), CS_OK);
    assert_true(sees(f, "mine") && !sees(f, "theirs"));
    api_refresh(f->api);
    assert_true(!sees(f, "mine") && sees(f, "theirs"));
    CS_AUTO(agent) a = agentcache_get(f->api->agents, cs_slice_str(AGENT));
    assert_true(a != NULL && a->attested && selset_has(a->selectors, cs_slice_str("unix:uid:1")));
    assert_int_equal(ds_node_delete(f->theirs, f->arena, AGENT, NULL, NULL), CS_OK);
    api_refresh(f->api);
    assert_null(agentcache_get(f->api->agents, cs_slice_str(AGENT)));
}

static struct ds_node node_of(const char *serial)
{
    return (struct ds_node){
        .spiffe_id = AGENT, .attestation_type = "t", .serial_number = serial, .expires_at = 5};
}

static void ban(struct fixture *f, struct ds *d)
{
    const struct ds_node_mask mask = {.serial_number = true};
    const struct ds_node banned = {.spiffe_id = AGENT};
    assert_int_equal(ds_node_update(d, f->arena, &banned, &mask, NULL, NULL), CS_OK);
}

static bool is_banned(struct fixture *f)
{
    CS_AUTO(agent) a = agentcache_get(f->api->agents, cs_slice_str(AGENT));
    return a != NULL && a->attested && a->serial[0] == '\0';
}

static void keep_event(void *arg, const struct ds_change *changes, size_t n)
{
    *(uint64_t *)arg = changes[n - 1].event;
}

/* The refresh may find what we committed before the observer had its turn. */
static void hearing_late_of_a_change_of_ours_undoes_nothing(void **state)
{
    struct fixture *f = *state;
    struct ds_change change = {.kind = DS_CHANGE_NODE, .id = AGENT};
    const struct ds_node node = node_of("1");
    change.node = &node;
    ds_observe(f->ours, keep_event, &change.event);
    assert_int_equal(ds_node_create(f->ours, f->arena, &node, NULL, NULL), CS_OK);
    ds_observe(f->ours, api_store_observe, f->api);
    assert_true(change.event > 0);
    ban(f, f->theirs);
    api_refresh(f->api);
    assert_true(is_banned(f));
    api_store_observe(f->api, &change, 1);
    assert_true(is_banned(f));
}

static void hearing_late_hides_no_change_of_another_server(void **state)
{
    struct fixture *f = *state;
    struct ds_change change = {.kind = DS_CHANGE_NODE, .id = AGENT};
    const struct ds_node node = node_of("1");
    change.node = &node;
    ds_observe(f->ours, keep_event, &change.event);
    assert_int_equal(ds_node_create(f->ours, f->arena, &node, NULL, NULL), CS_OK);
    ds_observe(f->ours, api_store_observe, f->api);
    api_refresh(f->api);
    api_store_observe(f->api, &change, 1);
    ban(f, f->theirs);
    for (int i = 0; i < 3; i++)
        api_refresh(f->api);
    assert_true(is_banned(f));
}

static void own_changes_are_not_read_again(void **state)
{
    struct fixture *f = *state;
    create(f, f->ours, "a", AGENT, "spiffe://example.org/a");
    create(f, f->theirs, "b", AGENT, "spiffe://example.org/b");
    create(f, f->ours, "c", AGENT, "spiffe://example.org/c");
    create(f, f->ours, "d", AGENT, "spiffe://example.org/d");
    entrycache_remove(f->api->entries, cs_slice_str("a"));
    entrycache_remove(f->api->entries, cs_slice_str("d"));
    api_refresh(f->api);
    assert_true(sees(f, "b") && sees(f, "c"));
    assert_false(sees(f, "a") || sees(f, "d"));
    assert_int_equal(f->api->follow[DS_EVENT_ENTRY].n, 0);
    /* More turns than are remembered: read again, never missed. */
    for (int i = 0; i < 2 * API_OWN_RANGES; i++) {
        char id[16];
        snprintf(id, sizeof id, "o%d", i);
        create(f, f->ours, id, AGENT, cs_arena_printf(f->arena, "spiffe://example.org/%s", id));
        snprintf(id, sizeof id, "t%d", i);
        create(f, f->theirs, id, AGENT, cs_arena_printf(f->arena, "spiffe://example.org/%s", id));
    }
    api_refresh(f->api);
    assert_int_equal(entrycache_len(f->api->entries), 2 + 4 * API_OWN_RANGES);
}

static void reading_everything_again_forgets_who_is_gone(void **state)
{
    struct fixture *f = *state;
    const struct ds_node node = node_of("1");
    assert_int_equal(ds_node_create(f->ours, f->arena, &node, NULL, NULL), CS_OK);
    assert_int_equal(ds_node_delete(f->theirs, f->arena, AGENT, NULL, NULL), CS_OK);
    f->api->reload = true;
    api_refresh(f->api);
    assert_null(agentcache_get(f->api->agents, cs_slice_str(AGENT)));
}

/* Attesting stores the selectors first, then the node. */
static void selectors_may_come_before_their_node(void **state)
{
    struct fixture *f = *state;
    const struct ds_node node = node_of("1");
    assert_int_equal(ds_node_set_selectors(f->theirs, AGENT, &unix_selector, 1, NULL), CS_OK);
    api_refresh(f->api);
    f->api->reload = true;
    api_refresh(f->api);
    assert_int_equal(ds_node_create(f->ours, f->arena, &node, NULL, NULL), CS_OK);
    CS_AUTO(agent) a = agentcache_get(f->api->agents, cs_slice_str(AGENT));
    assert_true(a->attested && selset_has(a->selectors, cs_slice_str("unix:uid:1")));
}

static void asking_brings_the_agent_as_it_is(void **state)
{
    struct fixture *f = *state;
    const struct ds_node node = node_of("1");
    assert_int_equal(ds_node_set_selectors(f->theirs, AGENT, &unix_selector, 1, NULL), CS_OK);
    assert_int_equal(ds_node_create(f->theirs, f->arena, &node, NULL, NULL), CS_OK);
    assert_null(agentcache_get(f->api->agents, cs_slice_str(AGENT)));
    assert_int_equal(api_store_ask(f->api, AGENT, NULL), CS_OK);
    CS_AUTO(agent) a = agentcache_get(f->api->agents, cs_slice_str(AGENT));
    assert_true(a->attested && selset_has(a->selectors, cs_slice_str("unix:uid:1")));
    assert_int_equal(ds_node_delete(f->theirs, f->arena, AGENT, NULL, NULL), CS_OK);
    assert_int_equal(api_store_ask(f->api, AGENT, NULL), CS_OK);
    assert_null(agentcache_get(f->api->agents, cs_slice_str(AGENT)));
}

static void another_servers_bundles_are_seen_at_the_refresh(void **state)
{
    struct fixture *f = *state;
    struct bundlestore *store = NULL;
    const struct ds_bundle bundle = {.trust_domain = "spiffe://other.org", .sequence_number = 3};
    assert_int_equal(bundlestore_new(f->ours, "example.org", (struct cs_log){0}, &store, NULL), CS_OK);
    f->api->cfg.bundles = store;
    assert_int_equal(ds_bundle_create(f->theirs, &bundle, NULL), CS_OK);
    assert_null(bundlestore_get(store, "other.org"));
    api_refresh(f->api);
    struct spiffe_bundle *b = bundlestore_get(store, "other.org");
    assert_non_null(b);
    spiffe_bundle_unref(b);
    uint64_t revision = bundlestore_revision(store);
    api_refresh(f->api);
    assert_int_equal(bundlestore_revision(store), revision);
    assert_int_equal(ds_bundle_delete(f->theirs, "spiffe://other.org", DS_RESTRICT, NULL), CS_OK);
    api_refresh(f->api);
    assert_null(bundlestore_get(store, "other.org"));
    bundlestore_free(store);
}

static void a_missed_change_makes_everything_be_read_again(void **state)
{
    struct fixture *f = *state;
    create(f, f->ours, "stays", AGENT, "spiffe://example.org/stays");
    struct ds_change change = {.kind = DS_CHANGE_ENTRY, .id = "stays"};
    const struct ds_entry en = {.entry_id = "stays",
                                .parent_id = AGENT,
                                .spiffe_id = "spiffe://example.org/stays",
                                .hint = "",
                                .selectors = &unix_selector,
                                .n_selectors = 1};
    change.entry = &en;
    for (size_t n = 1; n < 12; n++) {
        cs_mem_fail_at(n, false);
        api_store_observe(f->api, &change, 1);
        cs_mem_fail_at(0, false);
        /* Either taken over, or forgotten and marked. */
        assert_true(sees(f, "stays") || f->api->reload);
        api_refresh(f->api);
        assert_true(sees(f, "stays"));
        assert_false(f->api->reload);
    }
}

static void what_is_there_at_the_start_is_loaded(void **state)
{
    struct fixture *f = *state;
    create(f, f->theirs, "before", AGENT, "spiffe://example.org/before");
    api_free(f->api);
    const struct api_config cfg = {.trust_domain = "example.org", .ds = f->ours, .clock = &cs_clock_system};
    assert_int_equal(api_new(&cfg, &f->api, NULL), CS_OK);
    assert_true(sees(f, "before"));
    api_refresh(f->api);
    assert_true(sees(f, "before"));
}

static void starting_without_memory_fails_cleanly(void **state)
{
    struct fixture *f = *state;
    create(f, f->ours, "e", AGENT, "spiffe://example.org/e");
    api_free(f->api);
    f->api = NULL;
    const struct api_config cfg = {.trust_domain = "example.org", .ds = f->ours, .clock = &cs_clock_system};
    cs_code code = CS_INTERNAL;
    for (size_t n = 1; n < 400 && code != CS_OK; n++) {
        cs_mem_fail_at(n, false);
        code = api_new(&cfg, &f->api, NULL);
        cs_mem_fail_at(0, false);
    }
    assert_int_equal(code, CS_OK);
    assert_true(sees(f, "e"));
}

static void pruning_removes_expired_entries(void **state)
{
    struct fixture *f = *state;
    const struct ds_entry e = {.entry_id = "old",
                               .parent_id = AGENT,
                               .spiffe_id = "spiffe://example.org/old",
                               .selectors = &unix_selector,
                               .n_selectors = 1,
                               .expires_at = 1000};
    assert_int_equal(ds_entry_create(f->ours, f->arena, &e, NULL, NULL, NULL), CS_OK);
    create(f, f->ours, "new", AGENT, "spiffe://example.org/new");
    assert_true(sees(f, "old"));
    api_prune(f->api);
    assert_true(!sees(f, "old") && sees(f, "new"));
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(own_writes_are_seen_at_once),
        TEST(an_agent_gets_what_its_aliases_have),
        TEST(another_servers_writes_are_seen_at_the_refresh),
        TEST(hearing_late_of_a_change_of_ours_undoes_nothing),
        TEST(hearing_late_hides_no_change_of_another_server),
        TEST(own_changes_are_not_read_again),
        TEST(reading_everything_again_forgets_who_is_gone),
        TEST(selectors_may_come_before_their_node),
        TEST(asking_brings_the_agent_as_it_is),
        TEST(another_servers_bundles_are_seen_at_the_refresh),
        TEST(a_missed_change_makes_everything_be_read_again),
        TEST(what_is_there_at_the_start_is_loaded),
        TEST(starting_without_memory_fails_cleanly),
        TEST(pruning_removes_expired_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
