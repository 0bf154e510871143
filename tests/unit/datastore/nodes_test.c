/* SPDX-License-Identifier: Apache-2.0 */
#include "util.h"

#include <time.h>

static const struct ds_selector sel[] = {{"b", "2"}, {"a", "1"}, {"c", "3"}};

static void make(struct fix *f, const char *id, const char *type, const char *serial, int64_t expires,
                 bool reattest, size_t selectors)
{
    struct ds_node in = {.spiffe_id = id,
                         .attestation_type = type,
                         .serial_number = serial,
                         .expires_at = expires,
                         .can_reattest = reattest};
    OK(ds_node_create(f->d, f->a, &in, NULL, &f->e));
    if (selectors)
        OK(ds_node_set_selectors(f->d, id, sel, selectors, &f->e));
}

static const char *ids(struct fix *f, const struct ds_node_filter *filter)
{
    struct ds_node *list = NULL;
    size_t n = 0;
    int32_t counted = -1;
    const char *out = "";
    OK(ds_node_list(f->d, f->a, filter, NULL, &list, &n, NULL, &f->e));
    for (size_t i = 0; i < n; i++) {
        out = cs_arena_printf(f->a, "%s%s%s", out, i ? "," : "", list[i].spiffe_id);
        assert_int_equal(list[i].selectors != NULL, filter && filter->fetch_selectors);
    }
    OK(ds_node_count(f->d, filter, &counted, &f->e));
    assert_int_equal(counted, n);
    return out;
}

static void every_field_comes_back(void **state)
{
    struct fix *f = *state;
    struct ds_node in = {.spiffe_id = TD "/a",
                         .attestation_type = "x509pop",
                         .serial_number = "12",
                         .new_serial_number = "13",
                         .agent_version = "1.15.3",
                         .expires_at = T0 + 1,
                         .new_expires_at = T0 + 2,
                         .can_reattest = true},
                   *out = NULL;
    OK(ds_node_create(f->d, f->a, &in, &out, &f->e));
    FAILS(ds_node_create(f->d, f->a, &in, &out, &f->e), CS_EXISTS,
          "datastore-sql: UNIQUE constraint failed: attested_node_entries.spiffe_id");
    assert_null(out);
    OK(ds_node_set_selectors(f->d, in.spiffe_id, sel, 2, &f->e));
    reopen(f);
    OK(ds_node_fetch(f->d, f->a, TD "/a", &out, &f->e));
    assert_string_equal(out->attestation_type, "x509pop");
    assert_string_equal(out->serial_number, "12");
    assert_string_equal(out->new_serial_number, "13");
    assert_string_equal(out->agent_version, "1.15.3");
    assert_int_equal(out->expires_at, T0 + 1);
    assert_int_equal(out->new_expires_at, T0 + 2);
    assert_true(out->can_reattest);
    assert_int_equal(out->n_selectors, 0);
    OK(ds_node_fetch(f->d, f->a, TD "/b", &out, &f->e));
    assert_null(out);
    const char *want[] = {TD "/b", TD "/a"};
    struct ds_node *many[2];
    OK(ds_node_fetch_many(f->d, f->a, want, 2, many, &f->e));
    assert_null(many[0]);
    assert_int_equal(many[1]->n_selectors, 2);
    assert_string_equal(raw_get(f, "SELECT expires_at FROM attested_node_entries"),
                        "2027-01-15 08:00:01+00:00");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM attested_node_entries_events"), "2");
}

static void update_takes_what_the_mask_names(void **state)
{
    struct fix *f = *state;
    make(f, TD "/a", "x509pop", "1", T0, false, 0);
    struct ds_node in = {.spiffe_id = TD "/a",
                         .attestation_type = "other",
                         .serial_number = "2",
                         .new_serial_number = "3",
                         .agent_version = "v",
                         .expires_at = 4,
                         .new_expires_at = 5,
                         .can_reattest = true},
                   *out = NULL;
    OK(ds_node_update(f->d, f->a, &in,
                      &(struct ds_node_mask){.new_serial_number = true, .new_expires_at = true}, &out,
                      &f->e));
    assert_string_equal(out->serial_number, "1");
    assert_string_equal(out->new_serial_number, "3");
    assert_int_equal(out->new_expires_at, 5);
    OK(ds_node_update(f->d, f->a, &in, NULL, &out, &f->e));
    assert_string_equal(out->attestation_type, "x509pop"); /* never changes */
    assert_string_equal(out->serial_number, "2");
    assert_string_equal(out->agent_version, "v");
    assert_int_equal(out->expires_at, 4);
    assert_true(out->can_reattest);
    OK(ds_node_update(f->d, f->a, &(struct ds_node){.spiffe_id = TD "/a"},
                      &(struct ds_node_mask){.serial_number = true, .new_expires_at = true}, &out, &f->e));
    assert_string_equal(out->serial_number, ""); /* banned */
    assert_string_equal(raw_get(f, "SELECT new_expires_at IS NULL FROM attested_node_entries"), "1");
    in.spiffe_id = TD "/b";
    FAILS(ds_node_update(f->d, f->a, &in, NULL, &out, &f->e), CS_NOT_FOUND,
          "datastore-sql: record not found");
}

static void lists(void **state)
{
    struct fix *f = *state;
    make(f, "a", "t1", "1", T0, true, 1);
    make(f, "b", "t2", "", T0 + 5, false, 2);
    make(f, "c", "t1", "3", T0 + 10, false, 3);
    assert_string_equal(ids(f, NULL), "a,b,c");
    assert_string_equal(ids(f, &(struct ds_node_filter){.attestation_type = "t1"}), "a,c");
    assert_string_equal(ids(f, &(struct ds_node_filter){.banned = DS_YES}), "b");
    assert_string_equal(ids(f, &(struct ds_node_filter){.banned = DS_NO}), "a,c");
    assert_string_equal(ids(f, &(struct ds_node_filter){.can_reattest = DS_YES}), "a");
    assert_string_equal(ids(f, &(struct ds_node_filter){.can_reattest = DS_NO, .banned = DS_NO}), "c");
    assert_string_equal(ids(f, &(struct ds_node_filter){.expires_before = T0 + 5}), "a");
    assert_string_equal(ids(f, &(struct ds_node_filter){.valid_at = T0 + 5}), "b,c");
    struct ds_node_filter q = {
        .by_selectors = true, .selectors = sel, .n_selectors = 2, .fetch_selectors = true};
    q.selectors_match = DS_MATCH_EXACT;
    assert_string_equal(ids(f, &q), "b");
    q.selectors_match = DS_MATCH_SUBSET;
    assert_string_equal(ids(f, &q), "a,b");
    q.selectors_match = DS_MATCH_SUPERSET;
    assert_string_equal(ids(f, &q), "b,c");
    q.selectors_match = DS_MATCH_ANY;
    assert_string_equal(ids(f, &q), "a,b,c");
    struct ds_node *list = NULL;
    const char *next = NULL;
    size_t n = 0;
    OK(ds_node_list(f->d, f->a, &q, &(struct ds_page){.size = 2}, &list, &n, &next, &f->e));
    assert_string_equal(next, "2");
    OK(ds_node_list(f->d, f->a, &q, &(struct ds_page){.token = next, .size = 2}, &list, &n, &next, &f->e));
    assert_int_equal(n, 1);
    assert_int_equal(list[0].n_selectors, 3);
    assert_string_equal(list[0].selectors[0].type, "a");
    q.n_selectors = 0;
    FAILS(ds_node_list(f->d, f->a, &q, NULL, &list, &n, NULL, &f->e), CS_INVALID,
          "cannot list by empty selectors set");
}

/* Rows written in another zone compare by their time, not by their text. */
static void zones_do_not_matter(void **state)
{
    struct fix *f = *state;
    make(f, "a", "t", "1", T0, true, 0);
    make(f, "b", "t", "1", T0, true, 0);
    raw(f, "UPDATE attested_node_entries SET expires_at = '2027-01-15 21:59:59+14:00' WHERE spiffe_id = 'a'");
    raw(f, "UPDATE attested_node_entries SET expires_at = '2027-01-14 20:00:01-12:00' WHERE spiffe_id = 'b'");
    assert_string_equal(ids(f, &(struct ds_node_filter){.expires_before = T0}), "a");
    assert_string_equal(ids(f, &(struct ds_node_filter){.valid_at = T0}), "b");
    OK(ds_node_prune(f->d, T0, false, 0, &f->e));
    assert_string_equal(ids(f, NULL), "b");
    struct ds_node *out = NULL;
    OK(ds_node_fetch(f->d, f->a, "b", &out, &f->e));
    assert_int_equal(out->expires_at, T0 + 1);
}

static void prune_spares_who_cannot_return(void **state)
{
    struct fix *f = *state;
    make(f, "banned", "t", "", T0 - 1, true, 0);
    make(f, "once", "t", "1", T0 - 1, false, 2);
    make(f, "again1", "t", "1", T0 - 1, true, 0);
    make(f, "again2", "t", "1", T0 - 1, true, 0);
    make(f, "valid", "t", "1", T0, true, 0);
    OK(ds_node_prune(f->d, T0, false, 1, &f->e));
    assert_string_equal(raw_get(f, "SELECT count(*) FROM attested_node_entries"), "4");
    OK(ds_node_prune(f->d, T0, false, 0, &f->e));
    assert_string_equal(ids(f, NULL), "banned,once,valid");
    OK(ds_node_prune(f->d, T0, true, 0, &f->e));
    assert_string_equal(ids(f, NULL), "banned,valid");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM node_resolver_map_entries"), "0");
    assert_string_equal(raw_get(f, "SELECT spiffe_id FROM attested_node_entries_events ORDER BY id DESC"),
                        "once");
}

static void selectors(void **state)
{
    struct fix *f = *state;
    struct ds_selector *got = NULL;
    struct ds_node *list = NULL;
    size_t n = 9;
    make(f, "a", "t", "1", T0, true, 3);
    make(f, "b", "t", "1", T0 + 1, true, 1);
    OK(ds_node_get_selectors(f->d, f->a, "a", &got, &n, &f->e));
    assert_int_equal(n, 3);
    assert_string_equal(got[0].type, "b"); /* as given */
    OK(ds_node_list_selectors(f->d, f->a, 0, &list, &n, &f->e));
    assert_int_equal(n, 2);
    assert_int_equal(list[0].n_selectors, 3);
    assert_string_equal(list[1].spiffe_id, "b");
    assert_string_equal(list[1].selectors[0].value, "2");
    OK(ds_node_list_selectors(f->d, f->a, T0, &list, &n, &f->e));
    assert_int_equal(n, 1);
    assert_string_equal(list[0].spiffe_id, "b");
    OK(ds_node_set_selectors(f->d, "a", sel + 2, 1, &f->e));
    OK(ds_node_get_selectors(f->d, f->a, "a", &got, &n, &f->e));
    assert_int_equal(n, 1);
    assert_string_equal(got[0].type, "c");
    const struct ds_selector twice[] = {sel[0], sel[0]};
    FAILS(ds_node_set_selectors(f->d, "a", twice, 2, &f->e), CS_EXISTS,
          "datastore-sql: UNIQUE constraint failed: node_resolver_map_entries.spiffe_id, "
          "node_resolver_map_entries.type, node_resolver_map_entries.value");
    OK(ds_node_get_selectors(f->d, f->a, "a", &got, &n, &f->e));
    assert_int_equal(n, 1); /* the old ones stay */
    OK(ds_node_get_selectors(f->d, f->a, "x", &got, &n, &f->e));
    assert_int_equal(n, 0);
}

static void an_alias_goes_with_its_token_node(void **state)
{
    struct fix *f = *state;
    const char *id = TD "/spire/agent/join_token/x";
    const struct ds_selector alias = {"spiffe_id", id}, work = {"unix", "uid:1"};
    struct ds_entry in[] = {
        {.entry_id = "alias", .spiffe_id = TD "/al", .parent_id = id, .selectors = &alias, .n_selectors = 1},
        {.entry_id = "work", .spiffe_id = TD "/w", .parent_id = id, .selectors = &work, .n_selectors = 1}};
    struct ds_entry_result r[2];
    struct ds_node *was = NULL;
    struct ds_entry *got = NULL;
    make(f, id, "join_token", "1", T0, false, 1);
    OK(ds_entries_create_batch(f->d, f->a, in, 2, r, &f->e));
    OK(ds_node_delete(f->d, f->a, id, &was, &f->e));
    assert_string_equal(was->serial_number, "1");
    OK(ds_entry_fetch(f->d, f->a, "alias", &got, &f->e));
    assert_null(got);
    OK(ds_entry_fetch(f->d, f->a, "work", &got, &f->e));
    assert_non_null(got);
    FAILS(ds_node_delete(f->d, f->a, id, &was, &f->e), CS_NOT_FOUND, "datastore-sql: record not found");
    OK(ds_entry_delete(f->d, f->a, "work", NULL, &f->e));
    make(f, id, "x509pop", "1", T0, false, 0); /* other nodes come back: their entries stay */
    OK(ds_entries_create_batch(f->d, f->a, in, 1, r, &f->e));
    OK(ds_node_delete(f->d, f->a, id, NULL, &f->e));
    OK(ds_entry_fetch(f->d, f->a, "alias", &got, &f->e));
    assert_non_null(got);
}

static cs_code see(void *arg, const struct ds_node *node, struct cs_err *e)
{
    char *log = arg;
    (void)e;
    (void)snprintf(log + strlen(log), 128 - strlen(log), "%s:%zu;", node->spiffe_id, node->n_selectors);
    return CS_OK;
}

static void observe(void *arg, const struct ds_change *changes, size_t n)
{
    char *log = arg;
    for (size_t i = 0; i < n; i++)
        (void)snprintf(log + strlen(log), 128 - strlen(log), "%d%s%s%zu;", changes[i].kind,
                       changes[i].deleted ? "-" : "+", changes[i].node ? changes[i].node->serial_number : "",
                       changes[i].n_selectors);
}

static void walk_and_observer(void **state)
{
    struct fix *f = *state;
    char walked[128] = "", heard[128] = "";
    ds_observe(f->d, observe, heard);
    make(f, "a", "t", "7", T0, true, 3);
    make(f, "b", "t", "8", T0, true, 0);
    OK(ds_nodes_each(f->d, see, walked, &f->e));
    assert_string_equal(walked, "a:3;b:0;");
    OK(ds_node_delete(f->d, f->a, "b", NULL, &f->e));
    assert_string_equal(heard, "1+70;2+3;1+80;1-0;");
}

static void updates_can_be_conditional(void **state)
{
    struct fix *f = *state;
    make(f, "a", "t", "1", T0, true, 0);
    const struct ds_node prepared = {.spiffe_id = "a", .new_serial_number = "2"};
    const struct ds_node_mask prepare = {.new_serial_number = true, .unless_banned = true};
    OK(ds_node_update(f->d, f->a, &prepared, &prepare, NULL, &f->e));
    const struct ds_node now = {.spiffe_id = "a", .serial_number = "2"};
    struct ds_node_mask activate = {
        .serial_number = true, .new_serial_number = true, .unless_banned = true, .if_new_serial = "3"};
    FAILS(ds_node_update(f->d, f->a, &now, &activate, NULL, &f->e), CS_ABORTED,
          "agent has another new serial number by now");
    activate.if_new_serial = "2";
    OK(ds_node_update(f->d, f->a, &now, &activate, NULL, &f->e));
    FAILS(ds_node_update(f->d, f->a, &now, &activate, NULL, &f->e), CS_ABORTED,
          "agent has another new serial number by now");
    const struct ds_node ban = {.spiffe_id = "a"};
    const struct ds_node_mask serial = {.serial_number = true};
    OK(ds_node_update(f->d, f->a, &ban, &serial, NULL, &f->e));
    FAILS(ds_node_update(f->d, f->a, &prepared, &prepare, NULL, &f->e), CS_DENIED, "agent is banned");
    struct ds_node *got = NULL;
    OK(ds_node_fetch(f->d, f->a, "a", &got, &f->e));
    assert_string_equal(got->serial_number, "");
    assert_string_equal(got->new_serial_number, "");
}

static void remember_events(void *arg, const struct ds_change *changes, size_t n)
{
    uint64_t *at = arg;
    for (size_t i = 0; i < n; i++)
        at[++at[0]] = changes[i].event;
}

static void changes_name_their_events(void **state)
{
    struct fix *f = *state;
    uint64_t seen[16] = {0};
    ds_observe(f->d, remember_events, seen);
    make(f, "a", "t", "7", T0, true, 2);
    OK(ds_node_delete(f->d, f->a, "a", NULL, &f->e));
    const struct ds_bundle bundle = {.trust_domain = TD};
    OK(ds_bundle_create(f->d, &bundle, &f->e));
    struct ds_event *events = NULL;
    size_t n = 0;
    OK(ds_event_list(f->d, f->a, DS_EVENT_NODE, 0, 0, &events, &n, &f->e));
    assert_int_equal(n, 3);
    assert_int_equal(seen[0], 4);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(seen[1 + i], events[i].id);
    assert_int_equal(seen[4], 0); /* bundles leave none */
}

static void writes_of_others_change_the_version(void **state)
{
    struct fix *f = *state;
    struct ds *other = NULL;
    int64_t before = 0, after = 0;
    OK(open_db(f, f->path, false, &other));
    OK(ds_foreign_version(f->d, &before, &f->e));
    make(f, "a", "t", "7", T0, true, 2);
    OK(ds_foreign_version(f->d, &after, &f->e));
    assert_int_equal(before, after);
    OK(ds_node_delete(other, f->a, "a", NULL, &f->e));
    OK(ds_foreign_version(f->d, &after, &f->e));
    assert_int_not_equal(before, after);
    OK(ds_foreign_version(f->d, &before, &f->e));
    assert_int_equal(before, after);
    ds_close(other);
    struct ds *memory = NULL;
    OK(open_db(f, ":memory:", false, &memory));
    OK(ds_foreign_version(memory, &before, &f->e));
    ds_close(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_field_comes_back),
        TEST(update_takes_what_the_mask_names),
        TEST(lists),
        TEST(zones_do_not_matter),
        TEST(selectors),
        TEST(prune_spares_who_cannot_return),
        TEST(walk_and_observer),
        TEST(updates_can_be_conditional),
        TEST(changes_name_their_events),
        TEST(writes_of_others_change_the_version),
        TEST(an_alias_goes_with_its_token_node),
    };
    (void)setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
