/* SPDX-License-Identifier: Apache-2.0 */
#include "certs.h"
#include "util.h"

#include "proto/proto.h"

static const struct ds_cert roots[] = {{{old_root, sizeof old_root}, false},
                                       {{new_root, sizeof new_root}, false}};
static const struct ds_key keys[] = {{{(const uint8_t *)"pk1", 3}, "kid1", T0 - 10, false},
                                     {{(const uint8_t *)"pk2", 3}, "kid2", T0 + 10, false}};

static struct ds_bundle whole(void)
{
    return (struct ds_bundle){.trust_domain = TD,
                              .roots = roots,
                              .n_roots = 2,
                              .jwt_keys = keys,
                              .n_jwt_keys = 2,
                              .wit_keys = keys,
                              .n_wit_keys = 2,
                              .refresh_hint = 60,
                              .sequence_number = 5};
}

static struct ds_bundle *get(struct fix *f, const char *td)
{
    struct ds_bundle *b = NULL;
    OK(ds_bundle_fetch(f->d, f->a, td, &b, &f->e));
    return b;
}

static void every_field_comes_back(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole();
    assert_null(get(f, TD));
    OK(ds_bundle_create(f->d, &in, &f->e));
    FAILS(ds_bundle_create(f->d, &in, &f->e), CS_EXISTS,
          "datastore-sql: UNIQUE constraint failed: bundles.trust_domain");
    reopen(f);
    struct ds_bundle *b = get(f, TD);
    assert_string_equal(b->trust_domain, TD);
    assert_int_equal(b->n_roots, 2);
    assert_true(cs_slice_eq(b->roots[1].der, roots[1].der));
    assert_int_equal(b->n_jwt_keys, 2);
    assert_string_equal(b->jwt_keys[0].kid, "kid1");
    assert_true(cs_slice_is(b->jwt_keys[0].pkix, "pk1"));
    assert_int_equal(b->jwt_keys[1].not_after, T0 + 10);
    assert_int_equal(b->n_wit_keys, 2);
    assert_int_equal(b->refresh_hint, 60);
    assert_int_equal(b->sequence_number, 5);
}

static void set_replaces(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole(), *out = NULL;
    OK(ds_bundle_set(f->d, f->a, &in, NULL, &f->e));
    in.n_roots = 1, in.n_jwt_keys = 0, in.refresh_hint = 1, in.sequence_number = 9;
    OK(ds_bundle_set(f->d, f->a, &in, &out, &f->e));
    assert_int_equal(out->n_roots, 1);
    struct ds_bundle *b = get(f, TD);
    assert_int_equal(b->n_roots, 1);
    assert_int_equal(b->n_jwt_keys, 0);
    assert_int_equal(b->sequence_number, 9);
}

/* A field of a later release, number 100, stays where it is. */
static void unknown_fields_survive(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole();
    in.n_roots = in.n_jwt_keys = in.n_wit_keys = 0;
    OK(ds_bundle_create(f->d, &in, &f->e));
    raw(f, "UPDATE bundles SET data = data || x'a20603616263'");
    in.refresh_hint = 61;
    OK(ds_bundle_set(f->d, f->a, &in, NULL, &f->e));
    OK(ds_bundle_update(f->d, f->a, &in, &(struct ds_bundle_mask){.refresh_hint = true}, NULL, &f->e));
    assert_string_equal(raw_get(f, "SELECT hex(data) LIKE '%A20603616263' FROM bundles"), "1");
}

static void append_adds_what_is_missing(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole(), *out = NULL;
    in.n_roots = 1, in.n_jwt_keys = 1, in.n_wit_keys = 0;
    OK(ds_bundle_append(f->d, f->a, &in, &out, &f->e));
    assert_int_equal(out->sequence_number, 5);
    OK(ds_bundle_append(f->d, f->a, &in, &out, &f->e)); /* nothing new */
    assert_int_equal(out->sequence_number, 5);
    in = whole();
    in.sequence_number = 77; /* not taken over */
    OK(ds_bundle_append(f->d, f->a, &in, &out, &f->e));
    assert_int_equal(out->n_roots, 2);
    assert_int_equal(out->n_jwt_keys, 2);
    assert_int_equal(out->n_wit_keys, 2);
    assert_int_equal(out->sequence_number, 6);
    assert_int_equal(get(f, TD)->n_roots, 2);
}

static void update_takes_what_the_mask_names(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole(), *out = NULL;
    FAILS(ds_bundle_update(f->d, f->a, &in, NULL, &out, &f->e), CS_NOT_FOUND,
          "datastore-sql: record not found");
    OK(ds_bundle_create(f->d, &in, &f->e));
    in = (struct ds_bundle){.trust_domain = TD, .roots = &roots[1], .n_roots = 1, .refresh_hint = 1};
    OK(ds_bundle_update(f->d, f->a, &in, &(struct ds_bundle_mask){.roots = true}, &out, &f->e));
    assert_int_equal(out->n_roots, 1);
    assert_int_equal(out->n_jwt_keys, 2);
    assert_int_equal(out->refresh_hint, 60);
    OK(ds_bundle_update(f->d, f->a, &in, NULL, &out, &f->e));
    assert_int_equal(out->n_jwt_keys + out->n_wit_keys + (size_t)out->sequence_number, 0);
    assert_int_equal(out->refresh_hint, 1);
}

static void prune_never_leaves_nothing(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole();
    bool changed = true;
    OK(ds_bundle_prune(f->d, TD, T0, &changed, &f->e));
    assert_false(changed);
    OK(ds_bundle_create(f->d, &in, &f->e));
    OK(ds_bundle_prune(f->d, TD, T0, &changed, &f->e));
    assert_true(changed);
    struct ds_bundle *b = get(f, TD);
    assert_int_equal(b->n_roots, 1);
    assert_true(cs_slice_eq(b->roots[0].der, roots[1].der));
    assert_int_equal(b->n_jwt_keys, 1);
    assert_int_equal(b->n_wit_keys, 1);
    assert_int_equal(b->sequence_number, 6);
    assert_int_equal(b->refresh_hint, 60);
    OK(ds_bundle_prune(f->d, TD, T0, &changed, &f->e));
    assert_false(changed);
    FAILS(ds_bundle_prune(f->d, TD, T0 + 10, &changed, &f->e), CS_UNKNOWN,
          "prune failed: would prune all JWT signing keys");
    FAILS(ds_bundle_prune(f->d, TD, INT64_C(9000000000), &changed, &f->e), CS_UNKNOWN,
          "prune failed: would prune all certificates");
    assert_int_equal(get(f, TD)->n_jwt_keys, 1);
}

static void deleting_a_bundle_in_use(void **state)
{
    struct fix *f = *state;
    const struct ds_selector s = {"t", "v"};
    const char *td[] = {"spiffe://fed"};
    struct ds_bundle in = {.trust_domain = td[0]};
    struct ds_entry entry = {.entry_id = "e",
                             .spiffe_id = TD "/w",
                             .selectors = &s,
                             .n_selectors = 1,
                             .federates_with = td,
                             .n_federates_with = 1};
    FAILS(ds_bundle_delete(f->d, td[0], DS_RESTRICT, &f->e), CS_NOT_FOUND, "datastore-sql: record not found");
    OK(ds_bundle_create(f->d, &in, &f->e));
    OK(ds_entry_create(f->d, f->a, &entry, NULL, NULL, &f->e));
    FAILS(ds_bundle_delete(f->d, td[0], DS_RESTRICT, &f->e), CS_PRECONDITION,
          "datastore-sql: cannot delete bundle; federated with 1 registration entries");
    OK(ds_bundle_delete(f->d, td[0], DS_DISSOCIATE, &f->e));
    struct ds_entry *got = NULL;
    OK(ds_entry_fetch(f->d, f->a, "e", &got, &f->e));
    assert_int_equal(got->n_federates_with, 0);
    assert_null(get(f, td[0]));

    OK(ds_bundle_create(f->d, &in, &f->e));
    OK(ds_entry_update(f->d, f->a, &entry, NULL, NULL, &f->e));
    OK(ds_bundle_delete(f->d, td[0], DS_DELETE, &f->e));
    OK(ds_entry_fetch(f->d, f->a, "e", &got, &f->e));
    assert_null(got);
    assert_string_equal(raw_get(f, "SELECT count(*) FROM selectors"), "0");
    OK(ds_bundle_create(f->d, &in, &f->e));
    OK(ds_bundle_delete(f->d, td[0], DS_RESTRICT, &f->e));
}

static void lists_come_in_pages(void **state)
{
    struct fix *f = *state;
    struct ds_bundle *list = NULL;
    const char *next = NULL;
    size_t n = 9;
    int32_t count = -1;
    for (int i = 0; i < 3; i++) {
        struct ds_bundle b = {.trust_domain = cs_arena_printf(f->a, "spiffe://td%d", i)};
        OK(ds_bundle_create(f->d, &b, &f->e));
    }
    OK(ds_bundle_list(f->d, f->a, NULL, &list, &n, NULL, &f->e));
    assert_int_equal(n, 3);
    OK(ds_bundle_count(f->d, &count, &f->e));
    assert_int_equal(count, 3);
    struct ds_page page = {.size = 2};
    OK(ds_bundle_list(f->d, f->a, &page, &list, &n, &next, &f->e));
    assert_int_equal(n, 2);
    page.token = next;
    OK(ds_bundle_list(f->d, f->a, &page, &list, &n, &next, &f->e));
    assert_int_equal(n, 1);
    assert_string_equal(list[0].trust_domain, "spiffe://td2");
    page.token = next;
    OK(ds_bundle_list(f->d, f->a, &page, &list, &n, &next, &f->e));
    assert_int_equal(n, 0);
    assert_string_equal(next, "");
}

static void x509_authorities(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole();
    FAILS(ds_x509_ca_taint(f->d, TD, NEW_ROOT_ID, &f->e), CS_NOT_FOUND, "datastore-sql: record not found");
    OK(ds_bundle_create(f->d, &in, &f->e));
    FAILS(ds_x509_ca_taint(f->d, TD, "00", &f->e), CS_NOT_FOUND, "no ca found with provided subject key ID");
    FAILS(ds_x509_ca_revoke(f->d, TD, "00", &f->e), CS_NOT_FOUND,
          "no root CA found with provided subject key ID");
    FAILS(ds_x509_ca_revoke(f->d, TD, NEW_ROOT_ID, &f->e), CS_INVALID,
          "it is not possible to revoke an untainted root CA");
    OK(ds_x509_ca_taint(f->d, TD, NEW_ROOT_ID, &f->e));
    FAILS(ds_x509_ca_taint(f->d, TD, NEW_ROOT_ID, &f->e), CS_INVALID, "root CA is already tainted");
    struct ds_bundle *b = get(f, TD);
    assert_true(b->roots[1].tainted && !b->roots[0].tainted);
    assert_int_equal(b->sequence_number, 6);
    OK(ds_x509_ca_revoke(f->d, TD, NEW_ROOT_ID, &f->e));
    b = get(f, TD);
    assert_int_equal(b->n_roots, 1);
    assert_int_equal(b->sequence_number, 7);
}

static void jwt_authorities(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole();
    struct ds_key key;
    OK(ds_bundle_create(f->d, &in, &f->e));
    FAILS(ds_jwt_key_taint(f->d, f->a, TD, "x", &key, &f->e), CS_NOT_FOUND,
          "no JWT Key found with provided key ID");
    FAILS(ds_jwt_key_revoke(f->d, f->a, TD, "kid1", &key, &f->e), CS_INVALID,
          "it is not possible to revoke an untainted key");
    OK(ds_jwt_key_taint(f->d, f->a, TD, "kid1", &key, &f->e));
    assert_true(key.tainted && cs_slice_is(key.pkix, "pk1"));
    FAILS(ds_jwt_key_taint(f->d, f->a, TD, "kid1", NULL, &f->e), CS_INVALID, "key is already tainted");
    OK(ds_jwt_key_revoke(f->d, f->a, TD, "kid1", &key, &f->e));
    assert_string_equal(key.kid, "kid1");
    struct ds_bundle *b = get(f, TD);
    assert_int_equal(b->n_jwt_keys, 1);
    assert_string_equal(b->jwt_keys[0].kid, "kid2");
    assert_int_equal(b->sequence_number, 7);
    FAILS(ds_jwt_key_revoke(f->d, f->a, TD, "kid1", NULL, &f->e), CS_NOT_FOUND,
          "no JWT Key found with provided key ID");
}

static void a_damaged_row(void **state)
{
    struct fix *f = *state;
    struct ds_bundle in = whole(), *b = NULL;
    OK(ds_bundle_create(f->d, &in, &f->e));
    raw(f, "UPDATE bundles SET data = x'0aff'");
    FAILS(ds_bundle_fetch(f->d, f->a, TD, &b, &f->e), CS_INTERNAL,
          "datastore-sql: failed to unmarshal bundle");
    assert_null(b);
}

static void running_out_of_memory(void **state)
{
    struct fix *f = *state;
    for (size_t n = 1;; n++) {
        struct ds_bundle in = whole(), *out = NULL;
        in.sequence_number = n;
        struct cs_arena *a = cs_arena_new(256, 0);
        (void)cs_mem_fail_at(n, false);
        cs_code code = ds_bundle_set(f->d, a, &in, &out, &f->e);
        (void)cs_mem_fail_at(0, false);
        struct ds_bundle *b = get(f, TD);
        assert_int_equal(b && b->sequence_number == n, code == CS_OK);
        cs_arena_free(a);
        if (code == CS_OK)
            break;
        assert_int_equal(code, CS_INTERNAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_field_comes_back),
        TEST(set_replaces),
        TEST(unknown_fields_survive),
        TEST(append_adds_what_is_missing),
        TEST(prune_never_leaves_nothing),
        TEST(update_takes_what_the_mask_names),
        TEST(deleting_a_bundle_in_use),
        TEST(lists_come_in_pages),
        TEST(x509_authorities),
        TEST(jwt_authorities),
        TEST(a_damaged_row),
        TEST(running_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
