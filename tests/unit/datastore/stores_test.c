/* SPDX-License-Identifier: Apache-2.0
 *
 * The small stores: join tokens, CA journals, events, federation relationships.
 */
#include "util.h"

#include <pthread.h>

static void tokens_are_used_once(void **state)
{
    struct fix *f = *state;
    bool found = true;
    int64_t expires = -1;
    FAILS(ds_token_create(f->d, "", T0, &f->e), CS_UNKNOWN, "token and expiry are required");
    FAILS(ds_token_create(f->d, "t", 0, &f->e), CS_UNKNOWN, "token and expiry are required");
    OK(ds_token_create(f->d, "t", T0 + 5, &f->e));
    FAILS(ds_token_create(f->d, "t", T0, &f->e), CS_EXISTS,
          "datastore-sql: UNIQUE constraint failed: join_tokens.token");
    OK(ds_token_fetch(f->d, "x", &found, &expires, &f->e));
    assert_false(found);
    OK(ds_token_fetch(f->d, "t", &found, &expires, &f->e));
    assert_true(found);
    assert_int_equal(expires, T0 + 5);
    expires = 0;
    OK(ds_token_use(f->d, "t", &found, &expires, &f->e));
    assert_true(found);
    assert_int_equal(expires, T0 + 5);
    OK(ds_token_use(f->d, "t", &found, &expires, &f->e));
    assert_false(found);
    assert_int_equal(expires, 0);
    FAILS(ds_token_delete(f->d, "t", &f->e), CS_NOT_FOUND, "datastore-sql: record not found");
    OK(ds_token_create(f->d, "old", T0 - 1, &f->e));
    OK(ds_token_create(f->d, "new", T0, &f->e));
    OK(ds_token_prune(f->d, T0, &f->e));
    assert_string_equal(raw_get(f, "SELECT group_concat(token) FROM join_tokens"), "new");
    OK(ds_token_delete(f->d, "new", &f->e));
}

struct racer {
    struct ds *d;
    bool found;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    if (ds_token_use(r->d, "t", &r->found, NULL, NULL) != CS_OK)
        r->found = false;
    return NULL;
}

static void one_of_many_gets_the_token(void **state)
{
    struct fix *f = *state;
    struct ds *other = NULL; /* as another process */
    OK(open_db(f, f->path, false, &other));
    for (int round = 0; round < 20; round++) {
        struct racer r[6];
        pthread_t t[6];
        int winners = 0;
        OK(ds_token_create(f->d, "t", T0, &f->e));
        for (int i = 0; i < 6; i++) {
            r[i] = (struct racer){.d = i % 2 ? other : f->d};
            assert_int_equal(pthread_create(&t[i], NULL, race, &r[i]), 0);
        }
        for (int i = 0; i < 6; i++) {
            assert_int_equal(pthread_join(t[i], NULL), 0);
            winners += r[i].found;
        }
        assert_int_equal(winners, 1);
    }
    ds_close(other);
}

static uint64_t journal(struct fix *f, const char *id, const char *data, size_t len)
{
    struct ds_ca_journal j = {.data = cs_slice_of(data, len), .active_x509_authority_id = id};
    uint64_t row = 0;
    OK(ds_ca_journal_set(f->d, &j, &row, &f->e));
    return row;
}

static void journals(void **state)
{
    struct fix *f = *state;
    /* Entries{x509CAs: [{not_after: 100}]}, the same with jwtKeys, and nothing */
    static const char x509[] = "\x0a\x02\x38\x64", jwt[] = "\x12\x02\x18\x64", broken[] = "\x0a\xff";
    struct ds_ca_journal *got = NULL;
    size_t n = 0;
    uint64_t row = journal(f, "aa", x509, 4);
    OK(ds_ca_journal_fetch(f->d, f->a, "aa", &got, &f->e));
    assert_int_equal(got->id, row);
    assert_true(cs_slice_eq(got->data, cs_slice_of(x509, 4)));
    struct ds_ca_journal j = {.id = row, .data = cs_slice_of(jwt, 4), .active_x509_authority_id = "bb"};
    OK(ds_ca_journal_set(f->d, &j, &row, &f->e));
    assert_int_equal(row, got->id);
    OK(ds_ca_journal_fetch(f->d, f->a, "aa", &got, &f->e));
    assert_null(got);
    FAILS(ds_ca_journal_fetch(f->d, f->a, "", &got, &f->e), CS_INVALID,
          "active X509 authority ID is required");
    j.id = 99;
    FAILS(ds_ca_journal_set(f->d, &j, &row, &f->e), CS_NOT_FOUND, "datastore-sql: record not found");
    journal(f, "cc", x509, 4);
    journal(f, "dd", "", 0);
    OK(ds_ca_journal_prune(f->d, 99, &f->e)); /* only the empty one */
    OK(ds_ca_journal_list(f->d, f->a, &got, &n, &f->e));
    assert_int_equal(n, 2);
    assert_string_equal(got[0].active_x509_authority_id, "bb");
    OK(ds_ca_journal_prune(f->d, 100, &f->e));
    OK(ds_ca_journal_list(f->d, f->a, &got, &n, &f->e));
    assert_int_equal(n, 0);
    journal(f, "ee", x509, 4);
    journal(f, "ff", broken, 2);
    FAILS(ds_ca_journal_prune(f->d, 100, &f->e), CS_INTERNAL,
          "unable to unmarshal entries from CA journal record 5");
    OK(ds_ca_journal_list(f->d, f->a, &got, &n, &f->e));
    assert_int_equal(n, 2); /* all or nothing */
}

static void events(void **state)
{
    struct fix *f = *state;
    struct ds_event *list = NULL, one;
    size_t n = 9;
    for (int i = 0; i < 3; i++) {
        OK(ds_node_set_selectors(f->d, cs_arena_printf(f->a, "n%d", i), NULL, 0, &f->e));
        cs_fake_clock_advance(&f->clock, 10 * CS_NS_PER_S);
    }
    OK(ds_event_list(f->d, f->a, DS_EVENT_ENTRY, 0, 0, &list, &n, &f->e));
    assert_int_equal(n, 0);
    OK(ds_event_list(f->d, f->a, DS_EVENT_NODE, 0, 0, &list, &n, &f->e));
    assert_int_equal(n, 3);
    assert_int_equal(list[2].id, 3);
    assert_string_equal(list[2].subject, "n2");
    OK(ds_event_list(f->d, f->a, DS_EVENT_NODE, 2, 0, &list, &n, &f->e));
    assert_int_equal(n, 1);
    OK(ds_event_list(f->d, f->a, DS_EVENT_NODE, 0, 3, &list, &n, &f->e));
    assert_int_equal(n, 2);
    FAILS(ds_event_list(f->d, f->a, DS_EVENT_NODE, 1, 1, &list, &n, &f->e), CS_UNKNOWN,
          "datastore-sql: can't set both greater and less than event id");
    OK(ds_event_fetch(f->d, f->a, DS_EVENT_NODE, 2, &one, &f->e));
    assert_string_equal(one.subject, "n1");
    FAILS(ds_event_fetch(f->d, f->a, DS_EVENT_NODE, 4, &one, &f->e), CS_NOT_FOUND,
          "datastore-sql: record not found");
    OK(ds_event_prune(f->d, DS_EVENT_NODE, 20, &f->e)); /* now is 30 s after the first */
    OK(ds_event_list(f->d, f->a, DS_EVENT_NODE, 0, 0, &list, &n, &f->e));
    assert_int_equal(n, 2);
    assert_int_equal(list[0].id, 2);
}

static void federation(void **state)
{
    struct fix *f = *state;
    struct ds_bundle bundle = {.trust_domain = "spiffe://fed", .refresh_hint = 3};
    struct ds_federation in = {.trust_domain = "fed",
                               .endpoint_url = "https://x",
                               .endpoint_profile = "https_web",
                               .endpoint_spiffe_id = "spiffe://ignored"},
                         *out = NULL;
    OK(ds_federation_fetch(f->d, f->a, "fed", &out, &f->e));
    assert_null(out);
    OK(ds_federation_create(f->d, &in, &f->e));
    FAILS(ds_federation_create(f->d, &in, &f->e), CS_EXISTS,
          "datastore-sql: UNIQUE constraint failed: federated_trust_domains.trust_domain");
    OK(ds_federation_fetch(f->d, f->a, "fed", &out, &f->e));
    assert_string_equal(out->endpoint_url, "https://x");
    assert_string_equal(out->endpoint_spiffe_id, "");
    assert_null(out->bundle);
    in.endpoint_profile = "https_spiffe", in.endpoint_spiffe_id = "spiffe://fed/ep", in.bundle = &bundle;
    OK(ds_federation_update(f->d, f->a, &in,
                            &(struct ds_federation_mask){.endpoint_profile = true, .bundle = true}, &out,
                            &f->e));
    assert_string_equal(out->endpoint_spiffe_id, "spiffe://fed/ep");
    assert_int_equal(out->bundle->refresh_hint, 3);
    in.trust_domain = "other", in.bundle = NULL;
    FAILS(ds_federation_update(f->d, f->a, &in, NULL, &out, &f->e), CS_NOT_FOUND,
          "unable to fetch federation relationship: record not found");
    OK(ds_federation_create(f->d, &in, &f->e));
    const char *next = NULL;
    size_t n = 0;
    OK(ds_federation_list(f->d, f->a, &(struct ds_page){.size = 1}, &out, &n, &next, &f->e));
    assert_int_equal(n, 1);
    assert_non_null(out[0].bundle);
    OK(ds_federation_list(f->d, f->a, &(struct ds_page){.size = 1, .token = next}, &out, &n, &next, &f->e));
    assert_string_equal(out[0].trust_domain, "other");
    OK(ds_federation_delete(f->d, "fed", &f->e));
    FAILS(ds_federation_delete(f->d, "fed", &f->e), CS_NOT_FOUND, "datastore-sql: record not found");
    int32_t bundles = 0;
    OK(ds_bundle_count(f->d, &bundles, &f->e));
    assert_int_equal(bundles, 1);
}

static void rules_of_federation(void **state)
{
    struct fix *f = *state;
    const struct ds_federation good = {
        .trust_domain = "fed", .endpoint_url = "u", .endpoint_profile = "https_spiffe"};
    struct ds_federation in = good;
    FAILS(ds_federation_create(f->d, &in, &f->e), CS_INVALID, "bundle endpoint SPIFFE ID is required");
    in.trust_domain = "";
    FAILS(ds_federation_create(f->d, &in, &f->e), CS_INVALID, "trust domain is required");
    in = good, in.endpoint_url = NULL;
    FAILS(ds_federation_create(f->d, &in, &f->e), CS_INVALID, "bundle endpoint URL is required");
    in = good, in.endpoint_profile = "ftp";
    FAILS(ds_federation_create(f->d, &in, &f->e), CS_INVALID,
          "unknown bundle endpoint profile type: \"ftp\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tokens_are_used_once), TEST(one_of_many_gets_the_token), TEST(journals), TEST(events),
        TEST(federation),           TEST(rules_of_federation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
