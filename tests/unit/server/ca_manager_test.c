/* SPDX-License-Identifier: Apache-2.0
 *
 * The CA manager over several lifetimes of its authorities, over restarts, and when things fail: with a
 * clock that is turned by hand, a real database and a real key file.
 */
#include "base/mem.h"
#include "datastore/datastore.h"
#include "plugin/keymanager.h"
#include "server/ca/authority.h"
#include "server/ca/journal.h"
#include "server/ca/manager.h"
#include "spiffe/x509svid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_keymanager_disk;

#define TD "example.org"
#define START INT64_C(1790000000)
#define TTL 3600

struct world {
    char dir[64], keys[96], db[96], keys_config[160];
    struct cs_fake_clock clock;
    struct plugin_env env;
    struct catalog_plugin keymanager;
    struct ds *ds;
    struct bundlestore *bundles;
    struct ca *ca;
    struct ca_manager *manager;
};

static void must(cs_code rc, const struct cs_err *e)
{
    if (rc != CS_OK)
        fail_msg("%s", e->text);
}

static void start(struct world *w)
{
    struct cs_err e = {0};
    must(plugin_keymanager_disk.create(&w->env, &w->keymanager.self, &e), &e);
    must(plugin_keymanager_disk.configure(w->keymanager.self, cs_slice_str(w->keys_config), &e), &e);
    const struct ds_options o = {
        .database_type = "sqlite3", .connection_string = w->db, .clock = &w->clock.clock};
    must(ds_open(&o, &w->ds, &e), &e);
    must(bundlestore_new(w->ds, TD, (struct cs_log){0}, &w->bundles, &e), &e);
    const struct ca_config ca = {.trust_domain = TD, .clock = &w->clock.clock, .x509_ca_ttl_s = TTL};
    must(ca_new(&ca, &w->ca, &e), &e);
    const struct ca_manager_config cfg = {
        .ca = w->ca,
        .ds = w->ds,
        .bundles = w->bundles,
        .keymanager = &w->keymanager,
        .trust_domain = TD,
        .x509_key_type = CRYPTO_EC_P256,
        .jwt_key_type = CRYPTO_EC_P256,
        .clock = &w->clock.clock,
    };
    must(ca_manager_new(&cfg, &w->manager, &e), &e);
}

static void stop(struct world *w)
{
    ca_manager_free(w->manager);
    ca_free(w->ca);
    bundlestore_free(w->bundles);
    ds_close(w->ds);
    plugin_keymanager_disk.destroy(w->keymanager.self);
}

static void rotate(struct world *w)
{
    struct cs_err e = {0};
    must(ca_manager_rotate(w->manager, &e), &e);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    snprintf(w->dir, sizeof w->dir, "/tmp/ca_manager_test.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->keys, sizeof w->keys, "%s/keys.json", w->dir);
    snprintf(w->keys_config, sizeof w->keys_config, "keys_path = \"%s\"", w->keys);
    snprintf(w->db, sizeof w->db, "%s/db.sqlite3", w->dir);
    cs_fake_clock_init(&w->clock, START);
    w->env = (struct plugin_env){.clock = &w->clock.clock, .trust_domain = TD, .data_dir = w->dir};
    w->keymanager =
        (struct catalog_plugin){.type = "KeyManager", .name = "disk", .ops = plugin_keymanager_disk.ops};
    start(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char path[128];
    stop(w);
    unlink(w->keys);
    unlink(w->db);
    snprintf(path, sizeof path, "%s-wal", w->db);
    unlink(path);
    snprintf(path, sizeof path, "%s-shm", w->db);
    unlink(path);
    rmdir(w->dir);
    free(w);
    return 0;
}

/* --- Looking --- */

/* Which X.509 authority signs now: hex of its key identifier. The SVID must verify with the bundle. */
static void signing_x509(struct world *w, char out[CA_ID_MAX])
{
    struct cs_err e = {0};
    struct cs_arena *a = cs_arena_new(0, 0);
    struct crypto_key *key = NULL;
    must(crypto_key_generate(CRYPTO_EC_P256, &key, &e), &e);
    struct ca_x509 svid;
    const struct ca_workload_params p = {
        .spiffe_id = "spiffe://" TD "/w", .spki = crypto_pub_spki(crypto_key_pub(key)), .ttl_s = 60};
    must(ca_sign_workload(w->ca, a, &p, &svid, &e), &e);
    struct x509_chain chain = {0};
    must(x509_chain_parse_list(svid.chain, svid.count, &chain, &e), &e);
    struct spiffe_bundle *bundle = bundlestore_own(w->bundles);
    struct spiffe_id id;
    must(spiffe_x509svid_verify(&chain, bundle, cs_now_s(&w->clock.clock), NULL, &id, NULL, &e), &e);
    struct cs_buf hex = {0};
    const struct spiffe_x509_authority *root = NULL;
    must(spiffe_x509svid_root(&chain, bundle, cs_now_s(&w->clock.clock), &root, &e), &e);
    x509_cert_key_id_hex(&hex, root->cert);
    snprintf(out, CA_ID_MAX, "%s", cs_buf_cstr(&hex));
    cs_buf_free(&hex);
    spiffe_bundle_unref(bundle);
    x509_chain_free(&chain);
    crypto_key_unref(key);
    cs_arena_free(a);
}

/* Which JWT key signs now. The token must verify with the bundle. */
static void signing_jwt(struct world *w, char out[CA_ID_MAX])
{
    struct cs_err e = {0};
    struct cs_arena *a = cs_arena_new(0, 0);
    const char *const aud[] = {"x", ""};
    const struct ca_jwt_params p = {
        .spiffe_id = "spiffe://" TD "/w", .audience = aud, .audience_count = 2, .ttl_s = 30};
    struct ca_jwt jwt;
    must(ca_sign_jwt(w->ca, a, &p, &jwt, &e), &e);
    struct jose_jws jws;
    must(jose_parse(cs_slice_str(jwt.token), &jws, &e), &e);
    struct spiffe_bundle *bundle = bundlestore_own(w->bundles);
    const struct spiffe_jwt_authority *authority = spiffe_bundle_find_jwt(bundle, cs_slice_str(jws.kid));
    assert_non_null(authority);
    struct crypto_pub *pub = NULL;
    must(spiffe_bundle_jwt_pub(bundle, authority, &pub, &e), &e);
    must(jose_verify(&jws, pub, &e), &e);
    snprintf(out, CA_ID_MAX, "%s", jws.kid);
    spiffe_bundle_unref(bundle);
    jose_jws_free(&jws);
    cs_arena_free(a);
}

static void bundle_counts(struct world *w, size_t *roots, size_t *jwt_keys)
{
    struct spiffe_bundle *b = bundlestore_own(w->bundles);
    *roots = b->x509_count;
    *jwt_keys = b->jwt_count;
    spiffe_bundle_unref(b);
}

struct journal_view {
    size_t x509, jwt;
    Journal__Status x509_status[CA_JOURNAL_CAP + 1], jwt_status[CA_JOURNAL_CAP + 1];
    char x509_slot[CA_JOURNAL_CAP + 1];
};

static void read_journal(struct world *w, struct journal_view *v)
{
    struct cs_err e = {0};
    struct ca_journal *j = NULL;
    struct cs_arena *a = cs_arena_new(0, 0);
    Journal__Entries *all = NULL;
    *v = (struct journal_view){0};
    must(ca_journal_load(w->ds, &w->keymanager, (struct cs_log){0}, &j, &e), &e);
    must(ca_journal_entries(j, a, &all, &e), &e);
    assert_true(all->n_x509cas <= CA_JOURNAL_CAP && all->n_jwtkeys <= CA_JOURNAL_CAP);
    v->x509 = all->n_x509cas;
    v->jwt = all->n_jwtkeys;
    for (size_t i = 0; i < v->x509; i++) {
        v->x509_status[i] = all->x509cas[i]->status;
        v->x509_slot[i] = all->x509cas[i]->slot_id[0];
        assert_int_equal(strlen(all->x509cas[i]->authority_id), 40);
        assert_string_equal(all->x509cas[i]->upstream_authority_id, "");
    }
    for (size_t i = 0; i < v->jwt; i++)
        v->jwt_status[i] = all->jwtkeys[i]->status;
    ca_journal_free(j);
    cs_arena_free(a);
}

static void advance(struct world *w, int64_t s)
{
    cs_fake_clock_advance(&w->clock, s * CS_NS_PER_S);
}

/* --- Tests --- */

static void first_start_makes_and_remembers_authorities(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    struct cs_arena *a = cs_arena_new(0, 0);
    struct ca_x509 svid;
    assert_int_equal(ca_sign_server(w->ca, a, (struct cs_slice){0}, &svid, &e), CS_INTERNAL);
    assert_string_equal(e.text, "X509 CA is not available for signing");
    cs_arena_free(a);

    rotate(w);
    char x509[CA_ID_MAX], jwt[CA_ID_MAX];
    signing_x509(w, x509);
    signing_jwt(w, jwt);
    assert_int_equal(strlen(jwt), 32);
    struct journal_view v;
    read_journal(w, &v);
    assert_int_equal(v.x509, 1);
    assert_int_equal(v.x509_status[0], JOURNAL__STATUS__ACTIVE);
    assert_int_equal(v.x509_slot[0], 'A');
    assert_int_equal(v.jwt, 1);
    assert_int_equal(v.jwt_status[0], JOURNAL__STATUS__ACTIVE);
    struct spiffe_bundle *b = bundlestore_own(w->bundles);
    assert_int_equal(b->sequence_number, 1);
    spiffe_bundle_unref(b);
}

/* Prepared after half of the life, in use after five sixths; A and B take turns. */
static void rotates_at_spires_times(void **state)
{
    struct world *w = *state;
    rotate(w);
    char first[CA_ID_MAX], now[CA_ID_MAX], jwt_first[CA_ID_MAX], jwt_now[CA_ID_MAX];
    signing_x509(w, first);
    signing_jwt(w, jwt_first);
    assert_int_equal(ca_manager_due(w->manager), (START + TTL / 2) * CS_NS_PER_S + 1);

    advance(w, TTL / 2);
    rotate(w);
    size_t roots, jwt_keys;
    bundle_counts(w, &roots, &jwt_keys);
    assert_int_equal(roots, 1);

    cs_fake_clock_advance(&w->clock, 1);
    rotate(w);
    bundle_counts(w, &roots, &jwt_keys);
    assert_int_equal(roots, 2);
    assert_int_equal(jwt_keys, 2);
    signing_x509(w, now);
    assert_string_equal(now, first);
    struct journal_view v;
    read_journal(w, &v);
    assert_int_equal(v.x509_status[1], JOURNAL__STATUS__PREPARED);
    assert_int_equal(v.x509_slot[1], 'B');
    assert_int_equal(ca_manager_due(w->manager), (START + TTL - TTL / 6) * CS_NS_PER_S + 1);

    advance(w, TTL - TTL / 6 - TTL / 2);
    rotate(w);
    signing_x509(w, now);
    signing_jwt(w, jwt_now);
    assert_string_not_equal(now, first);
    assert_string_not_equal(jwt_now, jwt_first);
    read_journal(w, &v);
    assert_int_equal(v.x509_status[0], JOURNAL__STATUS__OLD);
    assert_int_equal(v.x509_status[1], JOURNAL__STATUS__ACTIVE);
    assert_int_equal(v.jwt_status[0], JOURNAL__STATUS__OLD);
    assert_int_equal(v.jwt_status[1], JOURNAL__STATUS__ACTIVE);
}

/* Woken only when due, for twenty lifetimes: there is always an authority that signs and verifies. */
static void lives_through_many_lifetimes(void **state)
{
    struct world *w = *state;
    rotate(w);
    char last[CA_ID_MAX], now[CA_ID_MAX], jwt[CA_ID_MAX];
    signing_x509(w, last);
    unsigned changes = 0;
    for (int64_t end = START + 20 * TTL; cs_now_s(&w->clock.clock) < end;) {
        int64_t wait = ca_manager_due(w->manager) - cs_now_ns(&w->clock.clock);
        assert_true(wait > 0);
        cs_fake_clock_advance(&w->clock, wait);
        rotate(w);
        signing_x509(w, now);
        signing_jwt(w, jwt);
        if (strcmp(now, last) != 0)
            changes++;
        memcpy(last, now, sizeof last);
    }
    assert_in_range(changes, 38, 41); /* one each half of a lifetime */
    struct journal_view v;
    read_journal(w, &v);
    assert_int_equal(v.x509, CA_JOURNAL_CAP);
    assert_int_equal(v.jwt, CA_JOURNAL_CAP);
}

static void a_restart_goes_on_with_the_same(void **state)
{
    struct world *w = *state;
    char before[CA_ID_MAX], jwt_before[CA_ID_MAX], after[CA_ID_MAX], jwt_after[CA_ID_MAX];
    rotate(w);
    signing_x509(w, before);
    signing_jwt(w, jwt_before);
    advance(w, TTL / 4);
    stop(w);
    start(w);
    signing_x509(w, after); /* active without a rotation */
    signing_jwt(w, jwt_after);
    assert_string_equal(before, after);
    assert_string_equal(jwt_before, jwt_after);
    rotate(w);
    size_t roots, jwt_keys;
    bundle_counts(w, &roots, &jwt_keys);
    assert_int_equal(roots, 1);
    assert_int_equal(jwt_keys, 1);

    /* With one prepared: it is taken up, not made anew. */
    advance(w, TTL / 2 - TTL / 4 + 1);
    rotate(w);
    stop(w);
    start(w);
    advance(w, TTL / 2 - TTL / 6);
    rotate(w);
    signing_x509(w, after);
    assert_string_not_equal(before, after);
    bundle_counts(w, &roots, &jwt_keys);
    assert_int_equal(roots, 2);
}

static void a_long_absence_makes_new_authorities(void **state)
{
    struct world *w = *state;
    rotate(w);
    stop(w);
    advance(w, 2 * TTL);
    start(w);
    struct cs_err e = {0};
    assert_int_equal(ca_health(w->ca, &e), CS_INTERNAL);
    rotate(w);
    assert_int_equal(ca_health(w->ca, &e), CS_OK);
    char x509[CA_ID_MAX];
    signing_x509(w, x509);
}

static void lost_keys_are_replaced(void **state)
{
    struct world *w = *state;
    char before[CA_ID_MAX], after[CA_ID_MAX];
    rotate(w);
    signing_x509(w, before);
    stop(w);
    unlink(w->keys);
    start(w);
    rotate(w);
    signing_x509(w, after);
    assert_string_not_equal(before, after);
}

/* The key that was to sign next is not in the restored bundle: it must not sign. */
static void authorities_missing_in_the_bundle_are_not_used(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    char before[CA_ID_MAX], after[CA_ID_MAX];
    rotate(w);
    signing_x509(w, before);
    stop(w);
    const struct ds_options o = {
        .database_type = "sqlite3", .connection_string = w->db, .clock = &w->clock.clock};
    must(ds_open(&o, &w->ds, &e), &e);
    must(ds_bundle_delete(w->ds, "spiffe://" TD, DS_DELETE, &e), &e);
    const struct ds_bundle empty = {.trust_domain = "spiffe://" TD};
    must(ds_bundle_create(w->ds, &empty, &e), &e);
    ds_close(w->ds);
    start(w);
    rotate(w);
    signing_x509(w, after);
    assert_string_not_equal(before, after);
}

static void what_cannot_be_made_leaves_what_there_was(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    char before[CA_ID_MAX], now[CA_ID_MAX];
    rotate(w);
    signing_x509(w, before);
    /* No new key can be stored. */
    unlink(w->keys);
    assert_int_equal(mkdir(w->keys, 0700), 0);
    advance(w, TTL / 2 + 1);
    for (int i = 0; i < 11; i++)
        assert_int_not_equal(ca_manager_rotate(w->manager, &e), CS_OK);
    assert_non_null(strstr(e.text, "keymanager(disk): failed to generate key: unable to write entries: "));
    assert_int_equal(ca_manager_health(w->manager, &e), CS_INTERNAL);
    signing_x509(w, now);
    assert_string_equal(before, now);
    rmdir(w->keys);
    rotate(w);
    size_t roots, jwt_keys;
    bundle_counts(w, &roots, &jwt_keys);
    assert_int_equal(roots, 2);
}

static void expired_authorities_leave_the_bundle_after_a_day(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    size_t roots, jwt_keys;
    rotate(w);
    advance(w, TTL - TTL / 6 + 1);
    rotate(w);
    bundle_counts(w, &roots, &jwt_keys);
    assert_int_equal(roots, 2);
    advance(w, 24 * 3600);
    must(ca_manager_prune_bundle(w->manager, &e), &e);
    bundle_counts(w, &roots, &jwt_keys);
    assert_int_equal(roots, 2);
    advance(w, TTL / 6 + 1);
    must(ca_manager_prune_bundle(w->manager, &e), &e);
    bundle_counts(w, &roots, &jwt_keys);
    assert_int_equal(roots, 1);
    assert_int_equal(jwt_keys, 1);
}

/* A journal that cannot be read must not be taken for none: the next write would lose it. */
static void a_broken_journal_is_not_overwritten(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    rotate(w);
    struct cs_arena *a = cs_arena_new(0, 0);
    struct ds_ca_journal *rows = NULL;
    size_t n = 0;
    must(ds_ca_journal_list(w->ds, a, &rows, &n, &e), &e);
    assert_int_equal(n, 1);
    struct ds_ca_journal broken = rows[0];
    broken.data = cs_slice_str("\x0a\xff\xff");
    uint64_t id = 0;
    must(ds_ca_journal_set(w->ds, &broken, &id, &e), &e);
    struct ca_journal *j = NULL;
    assert_int_not_equal(ca_journal_load(w->ds, &w->keymanager, (struct cs_log){0}, &j, &e), CS_OK);
    assert_null(j);
    if (strstr(
            e.text,
            "failed to load journal from datastore: unable to unmarshal entries from CA journal record: ") !=
        e.text)
        fail_msg("%s", e.text);
    cs_arena_free(a);
}

/* Whichever allocation fails during a rotation: no crash, and the next one succeeds. */
static void survives_failing_allocations(void **state)
{
    struct world *w = *state;
    rotate(w);
    advance(w, TTL / 2 + 1);
    cs_code rc = CS_INTERNAL;
    /* In growing steps: what failed after the bundle was stored leaves more to do for the next. */
    for (size_t n = 1; rc != CS_OK; n += 1 + n / 16) {
        assert_true(n < 20000);
        (void)cs_mem_fail_at(n, false);
        rc = ca_manager_rotate(w->manager, NULL);
        (void)cs_mem_fail_at(0, false);
        char x509[CA_ID_MAX];
        signing_x509(w, x509);
        if (rc == CS_OK)
            break;
    }
    char x509[CA_ID_MAX];
    advance(w, TTL / 2 - TTL / 6 + 1);
    rotate(w);
    signing_x509(w, x509);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(first_start_makes_and_remembers_authorities),
        T(rotates_at_spires_times),
        T(lives_through_many_lifetimes),
        T(a_restart_goes_on_with_the_same),
        T(a_long_absence_makes_new_authorities),
        T(lost_keys_are_replaced),
        T(authorities_missing_in_the_bundle_are_not_used),
        T(what_cannot_be_made_leaves_what_there_was),
        T(expired_authorities_leave_the_bundle_after_a_day),
        T(a_broken_journal_is_not_overwritten),
        T(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
