/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cache.h"

#include "base/mem.h"
#include "base/text.h"
#include "crypto/x509_issue.h"
#include "workload.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture {
    struct cs_fake_clock clock;
    struct agent_cache *cache;
    struct spiffe_bundle *bundle;
    unsigned wanted;
};

static void count_wanted(void *arg)
{
    ((struct fixture *)arg)->wanted++;
}

static void make_cache(struct fixture *f, int64_t max)
{
    cs_fake_clock_init(&f->clock, 1000000);
    cs_fake_clock_advance(&f->clock, CS_NS_PER_S);
    const struct agent_cache_config cfg = {
        .clock = &f->clock.clock,
        .trust_domain = "example.org",
        .max_svids = max,
        .wanted = count_wanted,
        .arg = f,
    };
    assert_int_equal(agent_cache_new(&cfg, &f->cache, NULL), CS_OK);
    struct spiffe_bundle_builder *b;
    assert_int_equal(spiffe_bundle_builder_new(cs_slice_str("example.org"), &b, NULL), CS_OK);
    assert_int_equal(spiffe_bundle_build(b, &f->bundle, NULL), CS_OK);
    spiffe_bundle_builder_free(b);
    const struct spiffe_bundle *all[] = {f->bundle};
    const struct agent_cache_delta d = {.bundles = all, .bundle_count = 1};
    assert_int_equal(agent_cache_apply(f->cache, &d, NULL), CS_OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    make_cache(f, 0);
    *state = f;
    return 0;
}

static int setup_small(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    make_cache(f, 3);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    agent_cache_free(f->cache);
    spiffe_bundle_unref(f->bundle);
    free(f);
    return 0;
}

/* --- Making things --- */

struct spec {
    const char *id, *path, *hint;
    const char *selectors[6]; /* values of type unix */
    int64_t revision, created_at;
    const char *federates;
    bool no_prefetch, store;
};

static struct agent_entry *entry_of(const struct spec *s)
{
    Types__Entry e = TYPES__ENTRY__INIT;
    Types__SPIFFEID id = TYPES__SPIFFEID__INIT;
    Types__Entry__AdditionalAttributes more = TYPES__ENTRY__ADDITIONAL_ATTRIBUTES__INIT;
    Types__Selector sel[6];
    Types__Selector *ptr[6];
    char *fed[] = {(char *)(uintptr_t)s->federates};
    size_t n = 0;
    for (; n < 6 && s->selectors[n] != NULL; n++) {
        types__selector__init(&sel[n]);
        sel[n].type = (char *)(uintptr_t) "unix";
        sel[n].value = (char *)(uintptr_t)s->selectors[n];
        ptr[n] = &sel[n];
    }
    id.trust_domain = (char *)(uintptr_t) "example.org";
    id.path = (char *)(uintptr_t)s->path;
    e.id = (char *)(uintptr_t)s->id;
    e.spiffe_id = &id;
    e.selectors = ptr;
    e.n_selectors = n;
    e.hint = (char *)(uintptr_t)(s->hint != NULL ? s->hint : "");
    e.revision_number = s->revision;
    e.created_at = s->created_at;
    e.federates_with = fed;
    e.n_federates_with = s->federates != NULL;
    e.store_svid = s->store;
    more.disable_x509_svid_prefetch = s->no_prefetch;
    e.additional_attributes = &more;
    struct agent_entry *out;
    assert_int_equal(agent_entry_new(&e, &out, NULL), CS_OK);
    return out;
}

static void put(struct fixture *f, const struct spec *s)
{
    struct agent_entry *en = entry_of(s);
    const struct agent_cache_delta d = {.changed = &en, .changed_count = 1};
    assert_int_equal(agent_cache_apply(f->cache, &d, NULL), CS_OK);
    agent_entry_unref(en);
}

static void drop(struct fixture *f, const char *id)
{
    const struct agent_cache_delta d = {.removed = &id, .removed_count = 1};
    assert_int_equal(agent_cache_apply(f->cache, &d, NULL), CS_OK);
}

/* A certificate is not needed: only its place in time. */
static struct agent_svid *svid_of(int64_t from, int64_t to)
{
    struct x509_cert leaf = {.der = cs_slice_str("leaf"), .not_before = from, .not_after = to};
    struct x509_cert *at[] = {&leaf};
    const struct x509_chain chain = {.at = at, .count = 1};
    static struct crypto_key *key;
    if (key == NULL)
        assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &key, NULL), CS_OK);
    struct agent_svid *out;
    assert_int_equal(agent_svid_new(&chain, key, 0, &out, NULL), CS_OK);
    return out;
}

static void give(struct fixture *f, const char *id)
{
    int64_t now = cs_now_s(&f->clock.clock);
    struct agent_svid *s = svid_of(now, now + 3600);
    const struct agent_new_svid fresh = {.entry_id = id, .svid = s};
    agent_cache_put_svids(f->cache, &fresh, 1);
    agent_svid_unref(s);
}

/* Answers all that the cache asks for; how many there were. */
static size_t serve(struct fixture *f)
{
    struct agent_stale stale[64];
    (void)agent_cache_tick(f->cache);
    size_t n = agent_cache_stale(f->cache, stale, 64);
    for (size_t i = 0; i < n; i++) {
        give(f, stale[i].entry->id);
        agent_entry_unref(stale[i].entry);
    }
    return n;
}

static bool count_calls(void *arg)
{
    ++*(unsigned *)arg;
    return true;
}

/* Cannot wake anybody while the number is odd. */
static bool wake_if_even(void *arg)
{
    return *(unsigned *)arg % 2 == 0;
}

static struct agent_subscription *watch(struct fixture *f, const char *const *sel, size_t n, unsigned *calls,
                                        bool *waiting)
{
    struct agent_subscription *s;
    assert_int_equal(agent_cache_subscribe(f->cache, sel, n, count_calls, calls, &s, waiting, NULL), CS_OK);
    return s;
}

/* Takes the update and checks the IDs in it ("a,b"). */
static void expect(struct agent_subscription *s, const char *ids)
{
    struct agent_update *u = agent_subscription_take(s);
    assert_non_null(u);
    char got[256] = "";
    for (size_t i = 0; i < u->count; i++)
        (void)snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", i > 0 ? "," : "",
                       u->identities[i].entry->id);
    assert_string_equal(got, ids);
    agent_update_unref(u);
}

/* --- Tests --- */

static const char *const root[] = {"unix:uid:0", "unix:gid:0", "unix:user:root"};

static void test_first_update_is_complete(void **state)
{
    struct fixture *f = *state;
    unsigned calls = 0;
    bool waiting;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}});
    put(f, &(struct spec){.id = "b", .path = "/b", .selectors = {"uid:0", "gid:0"}});
    put(f, &(struct spec){.id = "c", .path = "/c", .selectors = {"uid:0", "gid:7"}});
    struct agent_subscription *s = watch(f, root, 3, &calls, &waiting);
    assert_true(waiting);
    assert_int_equal(f->wanted, 1);
    assert_null(agent_subscription_take(s));
    give(f, "a");
    assert_int_equal(calls, 0);
    give(f, "b");
    assert_int_equal(calls, 1);
    expect(s, "a,b");
    assert_null(agent_subscription_take(s));
    agent_subscription_free(s);
}

static void test_nobody_is_told_at_once(void **state)
{
    struct fixture *f = *state;
    unsigned calls = 0;
    bool waiting;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:1"}});
    struct agent_subscription *s = watch(f, root, 3, &calls, &waiting);
    assert_false(waiting);
    expect(s, "");
    agent_subscription_free(s);
}

static void test_changes_reach_streams(void **state)
{
    struct fixture *f = *state;
    unsigned calls = 0;
    unsigned other = 0;
    bool waiting;
    static const char *const one[] = {"unix:uid:1"};
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}});
    put(f, &(struct spec){.id = "x", .path = "/x", .selectors = {"uid:1"}});
    serve(f);
    struct agent_subscription *s = watch(f, root, 3, &calls, &waiting);
    struct agent_subscription *t = watch(f, one, 1, &other, &waiting);
    expect(s, "a");
    expect(t, "x");
    /* A new entry, then its SVID. */
    put(f, &(struct spec){.id = "b", .path = "/b", .selectors = {"gid:0"}});
    expect(s, "a");
    serve(f);
    expect(s, "a,b");
    /* Selectors that no longer fit. */
    put(f, &(struct spec){.id = "b", .path = "/b", .selectors = {"gid:9"}, .revision = 1});
    expect(s, "a");
    /* Removal; the last one leaves nobody. */
    drop(f, "a");
    expect(s, "");
    assert_int_equal(other, 0);
    assert_null(agent_subscription_take(t));
    agent_subscription_free(s);
    agent_subscription_free(t);
}

static void test_a_wake_that_failed_is_not_the_last(void **state)
{
    struct fixture *f = *state;
    unsigned n = 1;
    bool waiting;
    struct agent_subscription *s;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}});
    serve(f);
    assert_int_equal(agent_cache_subscribe(f->cache, root, 3, wake_if_even, &n, &s, &waiting, NULL), CS_OK);
    expect(s, "a");
    give(f, "a");
    assert_null(agent_subscription_take(s)); /* nobody was told */
    n = 2;
    give(f, "a");
    expect(s, "a");
    agent_subscription_free(s);
}

static void test_updates_are_shared_and_newest_wins(void **state)
{
    struct fixture *f = *state;
    unsigned calls[2] = {0, 0};
    bool waiting;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}});
    serve(f);
    struct agent_subscription *s = watch(f, root, 3, &calls[0], &waiting);
    static const char *const same[] = {"unix:user:root", "unix:uid:0", "unix:gid:0"};
    struct agent_subscription *t = watch(f, same, 3, &calls[1], &waiting);
    struct agent_update *u = agent_subscription_take(s);
    struct agent_update *v = agent_subscription_take(t);
    assert_ptr_equal(u, v);
    give(f, "a");
    give(f, "a");
    assert_int_equal(calls[0], 1); /* not taken yet: not told twice */
    agent_update_unref(u);
    u = agent_subscription_take(s);
    assert_ptr_not_equal(u, v);
    struct cs_slice m1;
    struct cs_slice m2;
    const uint8_t *digest;
    assert_int_equal(agent_update_message(u, AGENT_X509_SVID, NULL, &m1, &digest, NULL), CS_OK);
    assert_int_equal(agent_update_message(u, AGENT_X509_SVID, NULL, &m2, &digest, NULL), CS_OK);
    assert_ptr_equal(m1.data, m2.data);
    Workload__X509SVIDResponse *r = workload__x509_svidresponse__unpack(NULL, m1.len, m1.data);
    assert_non_null(r);
    assert_int_equal(r->n_svids, 1);
    assert_string_equal(r->svids[0]->spiffe_id, "spiffe://example.org/a");
    assert_true(r->svids[0]->x509_svid_key.len > 100);
    workload__x509_svidresponse__free_unpacked(r, NULL);
    agent_update_unref(u);
    agent_update_unref(v);
    agent_subscription_free(s);
    agent_subscription_free(t);
}

static void test_revision_makes_stale(void **state)
{
    struct fixture *f = *state;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}, .revision = 1});
    assert_int_equal(serve(f), 1);
    assert_int_equal(serve(f), 0);
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}, .revision = 2});
    assert_int_equal(serve(f), 1);
    assert_int_equal(serve(f), 0);
}

static void test_rotation_by_time(void **state)
{
    struct fixture *f = *state;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}});
    assert_int_equal(serve(f), 1);
    cs_fake_clock_advance(&f->clock, 1600 * CS_NS_PER_S);
    assert_int_equal(serve(f), 0);
    cs_fake_clock_advance(&f->clock, 400 * CS_NS_PER_S); /* 2000 s of 3600: past half and its jitter */
    assert_int_equal(serve(f), 1);
}

static void test_least_recently_used_goes(void **state)
{
    struct fixture *f = *state; /* three SVIDs at most */
    unsigned calls = 0;
    bool waiting;
    for (int i = 0; i < 5; i++) {
        char id[2] = {(char)('a' + i), 0};
        char path[3] = {'/', (char)('a' + i), 0};
        char uid[8];
        (void)snprintf(uid, sizeof uid, "uid:%d", i);
        put(f, &(struct spec){.id = id, .path = path, .selectors = {uid}});
    }
    assert_int_equal(serve(f), 3);
    assert_int_equal(agent_cache_svid_count(f->cache), 3);
    /* Each stream gets its SVID, whatever the limit; then what nobody uses goes. */
    struct agent_subscription *subs[5];
    for (int i = 0; i < 5; i++) {
        char sel[16];
        (void)snprintf(sel, sizeof sel, "unix:uid:%d", i);
        const char *list[] = {sel};
        cs_fake_clock_advance(&f->clock, CS_NS_PER_S);
        subs[i] = watch(f, list, 1, &calls, &waiting);
        serve(f);
        assert_non_null(subs[i]);
        struct agent_update *u = agent_subscription_take(subs[i]);
        assert_non_null(u);
        assert_int_equal(u->count, 1);
        agent_update_unref(u);
    }
    assert_int_equal(agent_cache_svid_count(f->cache), 5);
    for (int i = 0; i < 5; i++)
        agent_subscription_free(subs[i]);
    assert_int_equal(agent_cache_tick(f->cache), 0);
    assert_int_equal(agent_cache_svid_count(f->cache), 3);
    /* a and b were used longest ago. */
    static const char *const last[] = {"unix:uid:4"};
    struct agent_subscription *s = watch(f, last, 1, &calls, &waiting);
    assert_false(waiting);
    agent_subscription_free(s);
    static const char *const first[] = {"unix:uid:0"};
    s = watch(f, first, 1, &calls, &waiting);
    assert_true(waiting);
    agent_subscription_free(s);
}

static void test_no_prefetch_and_store(void **state)
{
    struct fixture *f = *state;
    unsigned calls = 0;
    bool waiting;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}, .no_prefetch = true});
    put(f, &(struct spec){.id = "b", .path = "/b", .selectors = {"uid:0"}, .store = true});
    assert_int_equal(serve(f), 0);
    struct agent_subscription *s = watch(f, root, 3, &calls, &waiting);
    assert_true(waiting);
    assert_int_equal(serve(f), 1);
    expect(s, "a");
    agent_subscription_free(s);
}

static bool all_tainted(void *arg, const struct agent_svid *svid)
{
    (void)arg;
    (void)svid;
    return true;
}

static void test_taint_replaces(void **state)
{
    struct fixture *f = *state;
    unsigned calls = 0;
    bool waiting;
    size_t seen = 0;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:0"}});
    serve(f);
    struct agent_subscription *s = watch(f, root, 3, &calls, &waiting);
    expect(s, "a");
    assert_int_equal(agent_cache_drop_tainted(f->cache, all_tainted, NULL, &seen), 1);
    assert_int_equal(seen, 1);
    /* A stream is never told that it is nobody because of this; a new one waits. */
    put(f, &(struct spec){.id = "z", .path = "/z", .selectors = {"gid:0"}});
    assert_null(agent_subscription_take(s));
    struct agent_subscription *t = watch(f, root, 3, &calls, &waiting);
    assert_true(waiting);
    serve(f);
    expect(s, "a,z");
    expect(t, "a,z");
    agent_subscription_free(s);
    agent_subscription_free(t);
}

static void test_nearest(void **state)
{
    struct fixture *f = *state;
    struct agent_nearest n;
    put(f, &(struct spec){.id = "a", .path = "/a", .selectors = {"uid:5", "gid:6", "path:/x"}});
    put(f, &(struct spec){.id = "b", .path = "/b", .selectors = {"gid:0", "path:/bin/y"}});
    agent_cache_nearest(f->cache, root, 3, &n);
    assert_non_null(n.entry);
    assert_string_equal(n.entry->id, "b");
    assert_int_equal(n.missing_count, 1);
    assert_false(n.missing[0]);
    assert_true(n.missing[1]);
    agent_nearest_free(&n);
}

static void test_hints(void **state)
{
    (void)state;
    struct agent_entry *all[4] = {
        entry_of(&(struct spec){.id = "a", .path = "/a", .selectors = {"x"}, .hint = "h", .created_at = 5}),
        entry_of(&(struct spec){.id = "b", .path = "/b", .selectors = {"x"}, .hint = "h", .created_at = 4}),
        entry_of(&(struct spec){.id = "c", .path = "/c", .selectors = {"x"}}),
        entry_of(&(struct spec){.id = "d", .path = "/d", .selectors = {"x"}, .hint = "h", .created_at = 4}),
    };
    const struct agent_entry *list[4] = {all[0], all[1], all[2], all[3]};
    assert_int_equal(agent_entry_filter_hints(list, 4, NULL, NULL), 2);
    assert_string_equal(list[0]->id, "b");
    assert_string_equal(list[1]->id, "c");
    for (int i = 0; i < 4; i++)
        agent_entry_unref(all[i]);
}

/* --- Against a naive model: random entries and callers, each looked up in both. --- */

#define MODEL_ENTRIES 60
#define MODEL_SELECTORS 8

static void check_model(struct fixture *f, const unsigned *model, unsigned caller)
{
    const char *sel[MODEL_SELECTORS];
    char text[MODEL_SELECTORS][16];
    size_t n = 0;
    for (unsigned b = 0; b < MODEL_SELECTORS; b++) {
        if ((caller & 1u << b) == 0)
            continue;
        (void)snprintf(text[n], sizeof text[n], "unix:s:%u", b);
        sel[n] = text[n];
        n++;
    }
    const struct agent_entry **got;
    size_t count;
    assert_int_equal(agent_cache_match(f->cache, sel, n, &got, &count, NULL), CS_OK);
    size_t at = 0;
    for (unsigned i = 0; i < MODEL_ENTRIES; i++) {
        if (model[i] == 0 || (model[i] & ~caller) != 0)
            continue;
        char id[8];
        (void)snprintf(id, sizeof id, "e%02u", i);
        assert_true(at < count);
        assert_string_equal(got[at]->id, id);
        at++;
    }
    assert_int_equal(at, count);
    for (size_t i = 0; i < count; i++)
        agent_entry_unref(got[i]);
    cs_free((void *)got);
}

static void test_against_model(void **state)
{
    struct fixture *f = *state;
    unsigned model[MODEL_ENTRIES] = {0};
    unsigned seed = 7;
    unsigned calls = 0;
    bool waiting;
    struct agent_subscription *subs[16];
    for (unsigned i = 0; i < 16; i++) { /* groups come and go between */
        char a[16];
        (void)snprintf(a, sizeof a, "unix:s:%u", i % MODEL_SELECTORS);
        const char *sel[] = {a, "unix:s:1"};
        subs[i] = watch(f, sel, 2, &calls, &waiting);
    }
    for (int64_t step = 0; step < 600; step++) {
        unsigned i = (unsigned)rand_r(&seed) % MODEL_ENTRIES;
        char id[8];
        char path[16];
        (void)snprintf(id, sizeof id, "e%02u", i);
        (void)snprintf(path, sizeof path, "/e%02u", i);
        if (model[i] != 0 && rand_r(&seed) % 4 == 0) {
            drop(f, id);
            model[i] = 0;
        } else {
            char text[6][16];
            struct spec s = {.id = id, .path = path, .revision = step};
            model[i] = 0;
            for (unsigned k = 0, n = 1 + (unsigned)rand_r(&seed) % 4; k < n; k++) {
                unsigned b = (unsigned)rand_r(&seed) % MODEL_SELECTORS;
                (void)snprintf(text[k], sizeof text[k], "s:%u", b);
                s.selectors[k] = text[k];
                model[i] |= 1u << b;
            }
            put(f, &s);
        }
        if (step % 7 == 0)
            serve(f);
        if (step == 300)
            for (unsigned k = 0; k < 16; k++)
                agent_subscription_free(subs[k]);
        check_model(f, model, (unsigned)rand_r(&seed) % (1u << MODEL_SELECTORS));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_update_is_complete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_is_told_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_changes_reach_streams, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_wake_that_failed_is_not_the_last, setup, teardown),
        cmocka_unit_test_setup_teardown(test_updates_are_shared_and_newest_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revision_makes_stale, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_by_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_least_recently_used_goes, setup_small, teardown),
        cmocka_unit_test_setup_teardown(test_no_prefetch_and_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_taint_replaces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nearest, setup, teardown),
        cmocka_unit_test(test_hints),
        cmocka_unit_test_setup_teardown(test_against_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
