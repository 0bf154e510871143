/* SPDX-License-Identifier: Apache-2.0 */
#include "util.h"

static const struct ds_selector uid = {"unix", "uid:1000"}, gid = {"unix", "gid:1000"}, k8s = {"k8s", "ns:a"};

static struct ds_entry entry_of(const char *spiffe_id, const char *parent, const struct ds_selector *s,
                                size_t n)
{
    return (struct ds_entry){.spiffe_id = spiffe_id, .parent_id = parent, .selectors = s, .n_selectors = n};
}

static struct ds_entry *make(struct fix *f, const char *name, const char *parent, const struct ds_selector *s,
                             size_t n)
{
    struct ds_entry in = entry_of(cs_arena_printf(f->a, TD "/%s", name), parent, s, n);
    struct ds_entry *out = NULL;
    bool existing = true;
    in.entry_id = name;
    OK(ds_entry_create(f->d, f->a, &in, &out, &existing, &f->e));
    assert_false(existing);
    return out;
}

static void add_bundle(struct fix *f, const char *td)
{
    struct ds_bundle b = {.trust_domain = td};
    OK(ds_bundle_create(f->d, &b, &f->e));
}

/* Ids of a listing, in order, joined by commas. */
static const char *ids(struct fix *f, const struct ds_entry_filter *filter)
{
    struct ds_entry *list = NULL;
    size_t n = 0;
    int32_t counted = -1;
    const char *out = "";
    OK(ds_entry_list(f->d, f->a, filter, NULL, &list, &n, NULL, &f->e));
    for (size_t i = 0; i < n; i++)
        out = cs_arena_printf(f->a, "%s%s%s", out, i ? "," : "", list[i].entry_id);
    OK(ds_entry_count(f->d, filter, &counted, &f->e));
    assert_int_equal(counted, n);
    return out;
}

static void every_field_comes_back(void **state)
{
    struct fix *f = *state;
    const struct ds_selector sel[] = {uid, gid};
    const char *dns[] = {"b.example.org", "a.example.org"};
    const char *fed[] = {"spiffe://two", "spiffe://one"};
    add_bundle(f, "spiffe://one");
    add_bundle(f, "spiffe://two");
    struct ds_entry in = entry_of(TD "/w", TD "/node", sel, 2), *out = NULL;
    in.dns_names = dns, in.n_dns_names = 2, in.federates_with = fed, in.n_federates_with = 2;
    in.hint = "hint", in.expires_at = T0 + 5, in.x509_svid_ttl = 60, in.jwt_svid_ttl = 30;
    in.admin = in.downstream = in.has_attributes = in.jwt_svid_include_jti = true;
    cs_fake_clock_advance(&f->clock, 600000000); /* rounds up */
    OK(ds_entry_create(f->d, f->a, &in, &out, NULL, &f->e));
    assert_int_equal(strlen(out->entry_id), 36);
    assert_string_equal(out->selectors[0].value, "gid:1000"); /* an answer to a change is sorted */
    assert_string_equal(out->dns_names[0], "a.example.org");

    reopen(f);
    struct ds_entry *got = NULL;
    OK(ds_entry_fetch(f->d, f->a, out->entry_id, &got, &f->e));
    assert_string_equal(got->spiffe_id, in.spiffe_id);
    assert_string_equal(got->parent_id, in.parent_id);
    assert_int_equal(got->n_selectors, 2);
    assert_string_equal(got->selectors[0].value, "uid:1000"); /* a read keeps the order given */
    assert_int_equal(got->n_dns_names, 2);
    assert_string_equal(got->dns_names[0], "b.example.org");
    assert_int_equal(got->n_federates_with, 2);
    assert_string_equal(got->federates_with[0], "spiffe://one");
    assert_string_equal(got->hint, "hint");
    assert_int_equal(got->expires_at, T0 + 5);
    assert_int_equal(got->created_at, T0 + 1);
    assert_int_equal(got->revision_number, 0);
    assert_int_equal(got->x509_svid_ttl, 60);
    assert_int_equal(got->jwt_svid_ttl, 30);
    assert_true(got->admin && got->downstream && got->has_attributes && got->jwt_svid_include_jti);
    assert_false(got->store_svid || got->disable_x509_svid_prefetch);
    assert_string_equal(raw_get(f, "SELECT hex(additional_attributes) FROM registered_entries"), "1001");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM registered_entries_events"), "1");
    OK(ds_entry_fetch(f->d, f->a, "nobody", &got, &f->e));
    assert_null(got);
}

static void similar_entries_are_returned(void **state)
{
    struct fix *f = *state;
    const struct ds_selector sel[] = {uid, gid}, turned[] = {gid, uid, gid};
    make(f, "w", TD "/node", sel, 2);
    struct ds_entry in = entry_of(TD "/w", TD "/node", turned, 3), *out = NULL;
    bool existing = false;
    OK(ds_entry_create(f->d, f->a, &in, &out, &existing, &f->e));
    assert_true(existing);
    assert_string_equal(out->entry_id, "w");
    in.n_selectors = 1; /* a subset is another entry */
    OK(ds_entry_create(f->d, f->a, &in, &out, &existing, &f->e));
    assert_false(existing);
    in.parent_id = TD "/other";
    OK(ds_entry_create(f->d, f->a, &in, &out, &existing, &f->e));
    assert_false(existing);
    assert_string_equal(raw_get(f, "SELECT count(*) FROM registered_entries_events"), "3");
}

/* Whatever is shared by many entries, the twin is found and a new one is not slow. */
static void similar_among_many(void **state)
{
    struct fix *f = *state;
    for (int i = 0; i < 120; i++) {
        struct ds_selector s[] = {{"unix", cs_arena_printf(f->a, "uid:%d", i)}, gid};
        struct ds_entry in[] = {entry_of(TD "/same", TD "/same", s, 2),
                                entry_of(TD "/same", cs_arena_printf(f->a, TD "/p%d", i), &gid, 1),
                                entry_of(cs_arena_printf(f->a, TD "/s%d", i), TD "/same", &gid, 1)};
        struct ds_entry_result r[3], again[3];
        OK(ds_entries_create_batch(f->d, f->a, in, 3, r, &f->e));
        OK(ds_entries_create_batch(f->d, f->a, in, 3, again, &f->e));
        for (int k = 0; k < 3; k++) {
            assert_int_equal(r[k].err.code, CS_OK);
            assert_false(r[k].existing);
            assert_true(again[k].existing);
            assert_string_equal(again[k].entry->entry_id, r[k].entry->entry_id);
        }
    }
    struct ds_entry worst = entry_of(TD "/same", TD "/same", &gid, 1); /* everything about it is common */
    struct ds_entry *out = NULL;
    bool existing = true;
    OK(ds_entry_create(f->d, f->a, &worst, &out, &existing, &f->e));
    assert_false(existing);
    OK(ds_entry_create(f->d, f->a, &worst, &out, &existing, &f->e));
    assert_true(existing);
}

static void a_batch_item_fails_for_itself(void **state)
{
    struct fix *f = *state;
    const char *missing[] = {"spiffe://nowhere"};
    const struct ds_selector twice[] = {uid, uid};
    make(f, "taken", TD "/node", &uid, 1);
    struct ds_entry in[5] = {entry_of(TD "/a", TD "/node", &uid, 1), entry_of(TD "/b", TD "/node", &uid, 1),
                             entry_of(TD "/c", TD "/node", &uid, 1), entry_of(TD "/d", TD "/node", twice, 2),
                             entry_of(TD "/a", TD "/node", &uid, 1)};
    in[1].entry_id = "taken";
    in[2].federates_with = missing, in[2].n_federates_with = 1;
    struct ds_entry_result r[5];
    OK(ds_entries_create_batch(f->d, f->a, in, 5, r, &f->e));
    assert_int_equal(r[0].err.code, CS_OK);
    assert_int_equal(r[1].err.code, CS_EXISTS);
    assert_string_equal(r[1].err.text,
                        "datastore-sql: UNIQUE constraint failed: registered_entries.entry_id");
    assert_int_equal(r[2].err.code, CS_UNKNOWN);
    assert_string_equal(r[2].err.text, "unable to find federated bundle \"spiffe://nowhere\"");
    assert_int_equal(r[3].err.code, CS_EXISTS);
    assert_null(r[3].entry);
    assert_true(r[4].existing); /* of an earlier item of the same batch */
    assert_string_equal(r[4].entry->entry_id, r[0].entry->entry_id);
    assert_string_equal(raw_get(f, "SELECT count(*) FROM registered_entries"), "2");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM selectors"), "2"); /* nothing half-written */
    assert_string_equal(raw_get(f, "SELECT count(*) FROM registered_entries_events"), "2");
}

static void rules_of_new_entries(void **state)
{
    struct fix *f = *state;
    const struct ds_selector mixed[] = {uid, k8s};
    struct ds_entry good = entry_of(TD "/w", TD "/node", mixed, 2), in = good;
#define REFUSED(text) FAILS(ds_entry_create(f->d, f->a, &in, NULL, NULL, &f->e), CS_INVALID, text)
#define RULE "datastore-validation: invalid registration entry: "
    in.n_selectors = 0;
    REFUSED(RULE "missing selector list");
    in = good, in.spiffe_id = NULL;
    REFUSED(RULE "missing SPIFFE ID");
    in = good, in.x509_svid_ttl = -1;
    REFUSED(RULE "X509SvidTtl is not set");
    in = good, in.jwt_svid_ttl = -1;
    REFUSED(RULE "JwtSvidTtl is not set");
    in = good, in.entry_id = "a/b";
    REFUSED(RULE "entry ID contains invalid characters");
    char *id = cs_arena_alloc(f->a, 257);
    memset(id, 'x', 256);
    id[256] = '\0';
    in = good, in.entry_id = id;
    REFUSED(RULE "entry ID too long");
    in = good, in.store_svid = true;
    REFUSED(RULE "selector types must be the same when store SVID is enabled");
    in.has_attributes = in.disable_x509_svid_prefetch = true;
    REFUSED("datastore-validation: specifying cache behaviour is incompatible with storable SVIDs");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM registered_entries"), "0");
}

static void update_takes_what_the_mask_names(void **state)
{
    struct fix *f = *state;
    const char *dns[] = {"d"}, *fed[] = {"spiffe://one"};
    add_bundle(f, "spiffe://one");
    make(f, "w", TD "/node", &uid, 1);
    struct ds_entry in = {.entry_id = "w",
                          .spiffe_id = TD "/x",
                          .parent_id = TD "/y",
                          .selectors = &k8s,
                          .n_selectors = 1,
                          .dns_names = dns,
                          .n_dns_names = 1,
                          .federates_with = fed,
                          .n_federates_with = 1,
                          .hint = "h",
                          .expires_at = 7,
                          .x509_svid_ttl = 8,
                          .jwt_svid_ttl = 9,
                          .admin = true,
                          .downstream = true,
                          .store_svid = true,
                          .has_attributes = true,
                          .disable_x509_svid_prefetch = true};
    struct ds_entry *out = NULL;
    OK(ds_entry_update(f->d, f->a, &in, &(struct ds_entry_mask){.hint = true}, &out, &f->e));
    assert_string_equal(out->hint, "h");
    assert_string_equal(out->spiffe_id, TD "/w");
    assert_string_equal(out->selectors[0].value, "uid:1000");
    assert_false(out->admin || out->has_attributes);
    assert_int_equal(out->revision_number, 1);

    OK(ds_entry_update(f->d, f->a, &in, NULL, &out, &f->e));
    assert_string_equal(out->spiffe_id, TD "/x");
    assert_string_equal(out->parent_id, TD "/y");
    assert_int_equal(out->n_selectors, 1);
    assert_string_equal(out->selectors[0].type, "k8s");
    assert_string_equal(out->dns_names[0], "d");
    assert_string_equal(out->federates_with[0], "spiffe://one");
    assert_int_equal(out->expires_at, 7);
    assert_int_equal(out->x509_svid_ttl, 8);
    assert_int_equal(out->jwt_svid_ttl, 9);
    assert_true(out->admin && out->downstream && out->store_svid && out->disable_x509_svid_prefetch);
    assert_int_equal(out->revision_number, 2);

    OK(ds_entry_update(f->d, f->a, &(struct ds_entry){.entry_id = "w"},
                       &(struct ds_entry_mask){.federates_with = true, .dns_names = true, .attributes = true},
                       &out, &f->e));
    assert_int_equal(out->n_federates_with + out->n_dns_names, 0);
    assert_false(out->has_attributes);
    assert_string_equal(raw_get(f, "SELECT count(*) FROM registered_entries_events"), "4");

    in.entry_id = "nobody";
    FAILS(ds_entry_update(f->d, f->a, &in, NULL, &out, &f->e), CS_NOT_FOUND,
          "datastore-sql: record not found");
    assert_null(out);
    in.n_selectors = 0;
    FAILS(ds_entry_update(f->d, f->a, &in, NULL, &out, &f->e), CS_INVALID, RULE "missing selector list");
    const char *gone[] = {"spiffe://gone"};
    in = (struct ds_entry){.entry_id = "w", .federates_with = gone, .n_federates_with = 1};
    FAILS(ds_entry_update(f->d, f->a, &in, &(struct ds_entry_mask){.federates_with = true}, &out, &f->e),
          CS_UNKNOWN, "unable to find federated bundle \"spiffe://gone\"");
}

static void delete_takes_all_that_hangs_on_it(void **state)
{
    struct fix *f = *state;
    const char *want[] = {"a", "nobody"}, *dns[] = {"d"}, *fed[] = {"spiffe://one"};
    add_bundle(f, "spiffe://one");
    struct ds_entry in = entry_of(TD "/a", TD "/node", &uid, 1);
    in.entry_id = "a", in.dns_names = dns, in.n_dns_names = 1, in.federates_with = fed,
    in.n_federates_with = 1;
    OK(ds_entry_create(f->d, f->a, &in, NULL, NULL, &f->e));
    make(f, "b", TD "/node", &uid, 1);
    struct ds_entry_result r[2];
    OK(ds_entries_delete_batch(f->d, f->a, want, 2, r, &f->e));
    assert_string_equal(r[0].entry->dns_names[0], "d");
    assert_int_equal(r[1].err.code, CS_NOT_FOUND);
    assert_string_equal(raw_get(f, "SELECT count(*) FROM selectors"), "1");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM dns_names"), "0");
    assert_string_equal(raw_get(f, "SELECT count(*) FROM federated_registration_entries"), "0");
    FAILS(ds_entry_delete(f->d, f->a, "a", NULL, &f->e), CS_NOT_FOUND, "datastore-sql: record not found");
    assert_string_equal(ids(f, NULL), "b");
}

static void lists_by_selectors(void **state)
{
    struct fix *f = *state;
    const struct ds_selector both[] = {uid, gid}, all[] = {uid, gid, k8s};
    make(f, "u", TD "/p", &uid, 1);
    make(f, "ug", TD "/p", both, 2);
    make(f, "ugk", TD "/p", all, 3);
    make(f, "k", TD "/p", &k8s, 1);
    struct ds_entry_filter q = {.by_selectors = true, .selectors = both, .n_selectors = 2};
    q.selectors_match = DS_MATCH_EXACT;
    assert_string_equal(ids(f, &q), "ug");
    q.selectors_match = DS_MATCH_SUBSET;
    assert_string_equal(ids(f, &q), "u,ug");
    q.selectors_match = DS_MATCH_SUPERSET;
    assert_string_equal(ids(f, &q), "ug,ugk");
    q.selectors_match = DS_MATCH_ANY;
    assert_string_equal(ids(f, &q), "u,ug,ugk");
    q.n_selectors = 0;
    struct ds_entry *list = NULL;
    size_t n = 0;
    FAILS(ds_entry_list(f->d, f->a, &q, NULL, &list, &n, NULL, &f->e), CS_INVALID,
          "cannot list by empty selector set");
}

static void lists_by_federation(void **state)
{
    struct fix *f = *state;
    const char *td[] = {"spiffe://one", "spiffe://two", "spiffe://three"};
    static const char *const names[] = {"f0", "f1", "f2", "f3"};
    for (int i = 0; i < 3; i++)
        add_bundle(f, td[i]);
    for (size_t i = 0; i < 4; i++) { /* f2 federates with one and two, and so on */
        struct ds_entry in = entry_of(cs_arena_printf(f->a, TD "/%s", names[i]), TD "/p", &uid, 1);
        in.entry_id = names[i], in.federates_with = td, in.n_federates_with = i;
        OK(ds_entry_create(f->d, f->a, &in, NULL, NULL, &f->e));
    }
    struct ds_entry_filter q = {.by_federates_with = true, .federates_with = td, .n_federates_with = 2};
    q.federates_match = DS_MATCH_EXACT;
    assert_string_equal(ids(f, &q), "f2");
    q.federates_match = DS_MATCH_SUBSET;
    assert_string_equal(ids(f, &q), "f1,f2");
    q.federates_match = DS_MATCH_SUPERSET;
    assert_string_equal(ids(f, &q), "f2,f3");
    q.federates_match = DS_MATCH_ANY;
    assert_string_equal(ids(f, &q), "f1,f2,f3");
    q.n_federates_with = 0;
    assert_string_equal(ids(f, &q), "f0,f1,f2,f3");
}

static void lists_by_fields_and_pages(void **state)
{
    struct fix *f = *state;
    for (int i = 0; i < 5; i++)
        make(f, cs_arena_printf(f->a, "e%d", i), i % 2 ? TD "/odd" : TD "/even", &uid, 1);
    OK(ds_entry_update(f->d, f->a, &(struct ds_entry){.entry_id = "e2", .hint = "h", .downstream = true},
                       &(struct ds_entry_mask){.hint = true, .downstream = true}, NULL, &f->e));
    assert_string_equal(ids(f, &(struct ds_entry_filter){.parent_id = TD "/odd"}), "e1,e3");
    assert_string_equal(ids(f, &(struct ds_entry_filter){.spiffe_id = TD "/e3"}), "e3");
    assert_string_equal(ids(f, &(struct ds_entry_filter){.spiffe_id = TD "/e3", .parent_id = TD "/even"}),
                        "");
    assert_string_equal(ids(f, &(struct ds_entry_filter){.hint = "h"}), "e2");
    assert_string_equal(ids(f, &(struct ds_entry_filter){.downstream = DS_YES}), "e2");
    assert_string_equal(ids(f, &(struct ds_entry_filter){.downstream = DS_NO}), "e0,e1,e2,e3,e4");

    struct ds_entry *list = NULL;
    size_t n = 0;
    const char *next = "";
    struct ds_page page = {.size = 2};
    struct ds_entry_filter even = {.parent_id = TD "/even"};
    OK(ds_entry_list(f->d, f->a, &even, &page, &list, &n, &next, &f->e));
    assert_int_equal(n, 2);
    assert_string_equal(next, "3");
    page.token = next;
    OK(ds_entry_list(f->d, f->a, &even, &page, &list, &n, &next, &f->e));
    assert_int_equal(n, 1);
    assert_string_equal(list[0].entry_id, "e4");
    assert_string_equal(next, "5");
    page.token = next;
    OK(ds_entry_list(f->d, f->a, &even, &page, &list, &n, &next, &f->e));
    assert_int_equal(n, 0);
    assert_string_equal(next, "");
    page.token = "x1";
    FAILS(ds_entry_list(f->d, f->a, NULL, &page, &list, &n, &next, &f->e), CS_INVALID,
          "could not parse token 'x1'");
    page.token = "99999999999999999999";
    FAILS(ds_entry_list(f->d, f->a, NULL, &page, &list, &n, &next, &f->e), CS_INVALID,
          "could not parse token '99999999999999999999'");
    page = (struct ds_page){0};
    FAILS(ds_entry_list(f->d, f->a, NULL, &page, &list, &n, &next, &f->e), CS_INVALID,
          "cannot paginate with pagesize = 0");
}

struct seen {
    char ids[256];
    size_t selectors, stop_after;
};

static cs_code see(void *arg, const struct ds_entry *entry, struct cs_err *e)
{
    struct seen *s = arg;
    (void)snprintf(s->ids + strlen(s->ids), sizeof s->ids - strlen(s->ids), "%s;", entry->entry_id);
    s->selectors += entry->n_selectors;
    return s->stop_after && --s->stop_after == 0 ? cs_fail(e, CS_CANCELLED, "enough") : CS_OK;
}

static void the_walk_sees_everything_once(void **state)
{
    struct fix *f = *state;
    const struct ds_selector both[] = {uid, gid};
    make(f, "a", TD "/p", both, 2);
    make(f, "b", TD "/p", &k8s, 1);
    make(f, "c", TD "/p", both, 2);
    raw(f, "INSERT INTO selectors (registered_entry_id, type, value) VALUES (2000, 'left', 'over'), (0, 'l', "
           "'o')");
    OK(ds_entry_delete(f->d, f->a, "b", NULL, &f->e));
    struct seen s = {0};
    OK(ds_entries_each(f->d, see, &s, &f->e));
    assert_string_equal(s.ids, "a;c;");
    assert_int_equal(s.selectors, 4);
    s = (struct seen){.stop_after = 1};
    FAILS(ds_entries_each(f->d, see, &s, &f->e), CS_CANCELLED, "enough");
    assert_string_equal(s.ids, "a;");
    assert_string_equal(ids(f, NULL), "a,c"); /* the connection is usable after */
}

static void expired_entries_go(void **state)
{
    struct fix *f = *state;
    static const int64_t when[] = {0, T0 - 1, T0, T0 + 1};
    for (int i = 0; i < 4; i++) {
        struct ds_entry in = entry_of(cs_arena_printf(f->a, TD "/%d", i), TD "/p", &uid, 1);
        in.entry_id = cs_arena_printf(f->a, "e%d", i), in.expires_at = when[i];
        OK(ds_entry_create(f->d, f->a, &in, NULL, NULL, &f->e));
    }
    OK(ds_entry_prune(f->d, T0, &f->e));
    assert_string_equal(ids(f, NULL), "e0,e2,e3");
    assert_string_equal(raw_get(f, "SELECT entry_id FROM registered_entries_events ORDER BY id DESC"), "e1");
}

static void observe(void *arg, const struct ds_change *changes, size_t n)
{
    char *log = arg;
    for (size_t i = 0; i < n; i++)
        (void)snprintf(log + strlen(log), 256 - strlen(log), "%s%s%s;", changes[i].deleted ? "-" : "+",
                       changes[i].id, changes[i].entry && changes[i].entry->n_federates_with ? "!" : "");
}

static void the_observer_hears_commits_only(void **state)
{
    struct fix *f = *state;
    char log[256] = "";
    const char *fed[] = {"spiffe://one"};
    ds_observe(f->d, observe, log);
    add_bundle(f, "spiffe://one");
    struct ds_entry in[2] = {entry_of(TD "/a", TD "/p", &uid, 1), entry_of(TD "/b", TD "/p", &uid, 0)};
    in[0].entry_id = "a", in[0].federates_with = fed, in[0].n_federates_with = 1;
    struct ds_entry_result r[2];
    OK(ds_entries_create_batch(f->d, f->a, in, 2, r, &f->e));
    OK(ds_bundle_delete(f->d, "spiffe://one", DS_DISSOCIATE, &f->e));
    OK(ds_entry_delete(f->d, f->a, "a", NULL, &f->e));
    assert_string_equal(log, "+spiffe://one;+a!;+a;-spiffe://one;-a;");
}

/* Whichever allocation fails, the call says so and leaves nothing behind. */
static void running_out_of_memory(void **state)
{
    struct fix *f = *state;
    const struct ds_selector both[] = {uid, gid};
    for (size_t n = 1;; n++) {
        struct ds_entry in = entry_of(TD "/m", TD "/p", both, 2), *list = NULL;
        struct ds_entry_result r;
        size_t count = 0;
        struct cs_arena *a = cs_arena_new(256, 0);
        (void)cs_mem_fail_at(n, false);
        cs_code made = ds_entries_create_batch(f->d, a, &in, 1, &r, &f->e);
        cs_code read = made == CS_OK ? ds_entry_list(f->d, a, NULL, NULL, &list, &count, NULL, &f->e) : CS_OK;
        (void)cs_mem_fail_at(0, false);
        bool stored = strcmp(raw_get(f, "SELECT count(*) FROM registered_entries"), "1") == 0;
        assert_int_equal(stored, made == CS_OK);
        if (made == CS_OK)
            OK(ds_entry_delete(f->d, a, r.entry->entry_id, NULL, &f->e));
        else
            assert_int_equal(made, CS_INTERNAL);
        assert_true(read == CS_OK || read == CS_INTERNAL);
        cs_arena_free(a);
        if (made == CS_OK && read == CS_OK && n > 40)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_field_comes_back),
        TEST(similar_entries_are_returned),
        TEST(similar_among_many),
        TEST(a_batch_item_fails_for_itself),
        TEST(rules_of_new_entries),
        TEST(update_takes_what_the_mask_names),
        TEST(lists_by_selectors),
        TEST(lists_by_federation),
        TEST(lists_by_fields_and_pages),
        TEST(delete_takes_all_that_hangs_on_it),
        TEST(the_walk_sees_everything_once),
        TEST(expired_entries_go),
        TEST(the_observer_hears_commits_only),
        TEST(running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
