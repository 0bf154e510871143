/* SPDX-License-Identifier: Apache-2.0
 *
 * The entry cache against a naive model, under random changes; and what each question answers.
 */
#include "server/entrycache/entrycache.h"
#include "server/entrycache/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
/* after the four above */
#include <cmocka.h>
#include <stdio.h>

#define TD "example.org"

/* --- Making entries --- */
struct spec {
    const char *id, *spiffe, *parent;
    const char *selectors[4];
    bool admin, downstream, jti;
    int64_t revision;
    const char *domain;
};

static void id_field(struct cs_buf *b, uint32_t field, const char *domain, const char *path)
{
    struct cs_slice td = cs_slice_str(domain), p = cs_slice_str(path);
    wire_len(b, field, wire_str_size(td.len) + wire_str_size(p.len));
    wire_str(b, 1, td);
    wire_str(b, 2, p);
}

static void spec_wire(struct cs_buf *b, const struct spec *s)
{
    const char *domain = s->domain != NULL ? s->domain : TD;
    wire_str(b, ENTRY_ID, cs_slice_str(s->id));
    id_field(b, ENTRY_SPIFFE_ID, domain, s->spiffe);
    id_field(b, ENTRY_PARENT_ID, domain, s->parent);
    for (size_t i = 0; i < 4 && s->selectors[i] != NULL; i++) {
        const char *colon = strchr(s->selectors[i], ':');
        struct cs_slice type = cs_slice_of(s->selectors[i], (size_t)(colon - s->selectors[i]));
        struct cs_slice value = cs_slice_str(colon + 1);
        wire_len(b, ENTRY_SELECTORS, wire_str_size(type.len) + wire_str_size(value.len));
        wire_str(b, 1, type);
        wire_str(b, 2, value);
    }
    wire_int(b, ENTRY_X509_SVID_TTL, 600);
    wire_int(b, ENTRY_ADMIN, s->admin);
    wire_int(b, ENTRY_DOWNSTREAM, s->downstream);
    wire_str(b, ENTRY_DNS_NAMES, cs_slice_str("a.test"));
    wire_str(b, ENTRY_DNS_NAMES, cs_slice_str("b.test"));
    wire_int(b, ENTRY_REVISION_NUMBER, s->revision);
    wire_int(b, ENTRY_JWT_SVID_TTL, 120);
    wire_int(b, ENTRY_CREATED_AT, 1700000000);
    if (s->jti) {
        wire_len(b, ENTRY_ATTRIBUTES, 2);
        wire_int(b, 2, 1);
    }
}

static struct entry *make(const struct spec *s)
{
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    struct entry *en = NULL;
    spec_wire(&b, s);
    assert_int_equal(entry_new(cs_buf_slice(&b), &en, NULL), CS_OK);
    return en;
}

static void put(struct entrycache *c, const struct spec *s)
{
    assert_int_equal(entrycache_put(c, make(s), NULL), CS_OK);
}

static struct entrycache *new_cache(void)
{
    struct entrycache *c = NULL;
    assert_int_equal(entrycache_new(TD, &c, NULL), CS_OK);
    return c;
}

static struct selset *new_set(const char *const *keys, size_t n)
{
    struct cs_slice at[8];
    struct selset *s = NULL;
    for (size_t i = 0; i < n; i++)
        at[i] = cs_slice_str(keys[i]);
    assert_int_equal(selset_new(at, n, &s, NULL), CS_OK);
    return s;
}

/* --- One entry --- */
static void entry_is_read_from_the_wire(void **state)
{
    (void)state;
    CS_AUTO(entry)
    en = make(&(struct spec){
        .id = "e1", .spiffe = "/w", .parent = "/p", .selectors = {"unix:uid:1"}, .revision = 7, .jti = true});
    assert_true(cs_slice_is(entry_id(en), "e1"));
    assert_true(cs_slice_is(entry_trust_domain(en), TD));
    assert_true(cs_slice_is(entry_spiffe_path(en), "/w"));
    assert_true(cs_slice_is(entry_parent_path(en), "/p"));
    assert_int_equal(entry_revision(en), 7);
    assert_int_equal(entry_created_at(en), 1700000000);
    assert_int_equal(entry_x509_ttl(en), 600);
    assert_int_equal(entry_jwt_ttl(en), 120);
    assert_true(entry_jwt_jti(en));
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    const char **names;
    size_t n;
    assert_int_equal(entry_dns_names(en, a, &names, &n, NULL), CS_OK);
    assert_int_equal(n, 2);
    assert_string_equal(names[1], "b.test");
}

static void malformed_entries_are_refused(void **state)
{
    (void)state;
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    struct entry *en = NULL;
    spec_wire(&b, &(struct spec){.id = "e", .spiffe = "/w", .parent = "/p", .selectors = {"a:b"}});
    for (size_t n = 0; n < b.len;
         n++) { /* each cut in the middle of a field fails; between fields some pass */
        cs_code code = entry_new(cs_slice_of(b.data, n), &en, NULL);
        assert_true(code == CS_OK || code == CS_INVALID);
        entry_unref(en);
        en = NULL;
    }
    assert_int_equal(entry_new(cs_slice_str(""), &en, NULL), CS_INVALID);
    assert_int_equal(entry_new(cs_slice_str("\xff\xff\xff\xff"), &en, NULL), CS_INVALID);
}

/* Fields of a message as a bit set. */
static uint32_t fields_of(struct cs_slice message)
{
    struct cs_rd r = cs_rd_of(message);
    struct wire_field f;
    uint32_t bits = 0;
    while (wire_next(&r, &f))
        bits |= ENTRY_FIELD(f.num);
    assert_int_equal(cs_rd_left(&r), 0);
    return bits;
}

static void a_mask_keeps_its_fields_only(void **state)
{
    (void)state;
    CS_AUTO(entry)
    en = make(&(struct spec){.id = "e1",
                             .spiffe = "/w",
                             .parent = "/p",
                             .selectors = {"a:b", "c:d"},
                             .revision = 7,
                             .admin = true,
                             .jti = true});
    uint32_t all = fields_of(entry_wire(en));
    for (uint32_t mask = 0; mask < 1u << 17; mask += 2) {
        struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
        entry_append(&b, 2, en, mask);
        struct cs_rd r = cs_rd_of(cs_buf_slice(&b));
        struct wire_field f;
        assert_true(wire_next(&r, &f));
        assert_int_equal(f.num, 2);
        assert_int_equal(cs_rd_left(&r), 0);
        if (fields_of(f.value) != (all & (mask | ENTRY_FIELD(ENTRY_ID))))
            fail_msg("mask %x gave fields %x", mask, fields_of(f.value));
    }
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    entry_append(&b, 1, en, ENTRY_ALL_FIELDS);
    assert_memory_equal(b.data + (b.len - entry_wire(en).len), entry_wire(en).data, entry_wire(en).len);
}

/* --- The naive model --- */
#define MAX 200
struct model {
    bool there[MAX];
    struct spec spec[MAX];
    char text[MAX][4][32];
};

static bool model_alias_fits(const struct spec *s, const char *const *have, size_t n)
{
    for (size_t i = 0; i < 4 && s->selectors[i] != NULL; i++) {
        bool found = false;
        for (size_t k = 0; k < n; k++)
            found |= strcmp(have[k], s->selectors[i]) == 0;
        if (!found)
            return false;
    }
    return s->selectors[0] != NULL;
}

static void model_below(const struct model *m, const char *path, bool *out, bool *seen_parent)
{
    for (size_t i = 0; i < MAX; i++) {
        if (!m->there[i] || strcmp(m->spec[i].parent, path) != 0 || strcmp(path, "/spire/server") == 0 ||
            seen_parent[i])
            continue;
        seen_parent[i] = true;
        out[i] = true;
        model_below(m, m->spec[i].spiffe, out, seen_parent);
    }
}

static void model_authorized(const struct model *m, const char *agent, const char *const *have, size_t n,
                             bool *out)
{
    bool seen[MAX] = {false};
    memset(out, 0, MAX);
    model_below(m, agent, out, seen);
    for (size_t i = 0; i < MAX; i++)
        if (m->there[i] && strcmp(m->spec[i].parent, "/spire/server") == 0 &&
            model_alias_fits(&m->spec[i], have, n))
            model_below(m, m->spec[i].spiffe, out, seen);
}

static void compare(struct entrycache *c, const struct model *m, const char *agent, const char *const *have,
                    size_t n)
{
    bool want[MAX], got[MAX] = {false};
    CS_AUTO(selset) set = new_set(have, n);
    struct entry_list list CS_CLEANUP(entry_list_free) = {0};
    model_authorized(m, agent, have, n, want);
    assert_int_equal(entrycache_authorized(c, cs_slice_str(agent), set, &list, NULL), CS_OK);
    for (size_t i = 0; i < list.len; i++) {
        int k = atoi((const char *)entry_id(list.at[i]).data + 1);
        assert_false(got[k]); /* each once */
        got[k] = true;
    }
    for (size_t i = 0; i < MAX; i++) {
        char id[16];
        snprintf(id, sizeof id, "e%zu", i);
        CS_AUTO(entry) one = entrycache_lookup(c, cs_slice_str(agent), set, cs_slice_str(id));
        if (want[i] != got[i] || want[i] != (one != NULL))
            fail_msg("entry %zu of %s: model %d, list %d, lookup %d", i, agent, want[i], got[i], one != NULL);
    }
}

static void change(struct entrycache *c, struct model *m)
{
    static const char *const parents[] = {"/agent/0", "/agent/1", "/spire/server", "/n/0",
                                          "/n/1",     "/n/2",     "/n/3",          "/n/4"};
    size_t i = (size_t)rand() % MAX;
    char id[16];
    snprintf(id, sizeof id, "e%zu", i);
    if (rand() % 3 == 0) {
        entrycache_remove(c, cs_slice_str(id));
        m->there[i] = false;
        return;
    }
    m->there[i] = true;
    m->spec[i] = (struct spec){.parent = parents[(size_t)rand() % 8]};
    snprintf(m->text[i][0], sizeof m->text[i][0], "%s", id);
    snprintf(m->text[i][1], sizeof m->text[i][1], "/n/%d", rand() % 12);
    m->spec[i].id = m->text[i][0];
    m->spec[i].spiffe = m->text[i][1];
    for (int k = 0; k < rand() % 3; k++) {
        snprintf(m->text[i][2 + k], sizeof m->text[i][2 + k], "k:%d", rand() % 4);
        m->spec[i].selectors[k] = m->text[i][2 + k];
    }
    m->spec[i].admin = rand() % 8 == 0;
    m->spec[i].downstream = rand() % 8 == 0;
    put(c, &m->spec[i]);
}

static void compare_rights(struct entrycache *c, const struct model *m)
{
    for (int p = 0; p < 12; p++) {
        char path[16];
        snprintf(path, sizeof path, "/n/%d", p);
        struct entry_rights want = {false, false}, got = entrycache_rights(c, cs_slice_str(path));
        for (size_t i = 0; i < MAX; i++)
            if (m->there[i] && strcmp(m->spec[i].spiffe, path) == 0) {
                want.admin |= m->spec[i].admin;
                want.downstream |= m->spec[i].downstream;
            }
        assert_int_equal(want.admin, got.admin);
        assert_int_equal(want.downstream, got.downstream);
    }
}

static void random_changes_agree_with_a_naive_model(void **state)
{
    (void)state;
    static const char *const have[] = {"k:0", "k:1", "k:2"};
    struct entrycache *c = new_cache();
    struct model *m = calloc(1, sizeof *m);
    srand(20260101);
    for (int step = 0; step < 4000; step++) {
        change(c, m);
        if (step % 20 != 0)
            continue;
        compare(c, m, "/agent/0", have, (size_t)rand() % 4);
        compare(c, m, "/agent/1", have, 3);
        compare(c, m, "/nobody", have, 0);
        compare_rights(c, m);
        size_t n = 0;
        for (size_t i = 0; i < MAX; i++)
            n += m->there[i];
        assert_int_equal(entrycache_len(c), n);
    }
    free(m);
    entrycache_free(c);
}

/* --- Particular cases --- */
static void other_trust_domains_are_left_out(void **state)
{
    (void)state;
    struct entrycache *c = new_cache();
    put(c, &(struct spec){.id = "x", .spiffe = "/w", .parent = "/a"});
    assert_int_equal(entrycache_len(c), 1);
    put(c, &(struct spec){.id = "x", .spiffe = "/w", .parent = "/a", .domain = "other.test"});
    assert_int_equal(entrycache_len(c), 0);
    entrycache_free(c);
}

static void a_deep_chain_is_walked_both_ways(void **state)
{
    (void)state;
    struct entrycache *c = new_cache();
    char id[16], spiffe[16], parent[16] = "/agent";
    for (int i = 0; i < 5000; i++) {
        snprintf(id, sizeof id, "e%d", i);
        snprintf(spiffe, sizeof spiffe, "/n/%d", i);
        put(c, &(struct spec){.id = id, .spiffe = spiffe, .parent = parent});
        snprintf(parent, sizeof parent, "%s", spiffe);
    }
    struct entry_list list CS_CLEANUP(entry_list_free) = {0};
    assert_int_equal(entrycache_authorized(c, cs_slice_str("/agent"), NULL, &list, NULL), CS_OK);
    assert_int_equal(list.len, 5000);
    CS_AUTO(entry) last = entrycache_lookup(c, cs_slice_str("/agent"), NULL, cs_slice_str("e4999"));
    assert_non_null(last);
    assert_null(entrycache_lookup(c, cs_slice_str("/other"), NULL, cs_slice_str("e4999")));
    entry_list_sort(&list);
    for (size_t stride = 1; stride < 2000; stride = stride * 3 + 1) {
        size_t from = 0;
        for (size_t i = 0; i < list.len; i += stride) {
            assert_true(entry_list_find(&list, &from, entry_id(list.at[i])) == i);
            assert_true(entry_list_find(&list, &from, entry_id(list.at[i])) == i); /* again */
        }
        assert_true(entry_list_find(&list, &from, cs_slice_str("zzz")) == SIZE_MAX);
        assert_true(from == list.len);
        assert_true(entry_list_find(&list, &from, cs_slice_str("e0")) == SIZE_MAX);
    }
    size_t start = 0;
    assert_true(entry_list_find(&list, &start, cs_slice_str("")) == SIZE_MAX);
    assert_true(start == 0);
    entrycache_free(c);
}

static bool odd(void *arg, struct cs_slice id)
{
    (void)arg;
    return (id.data[id.len - 1] - '0') % 2 == 1;
}

static void a_sweep_removes_what_is_gone(void **state)
{
    (void)state;
    struct entrycache *c = new_cache();
    for (int i = 0; i < 10; i++)
        put(c, &(struct spec){
                   .id = (const char *[]){"e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9"}[i],
                   .spiffe = "/w",
                   .parent = i < 5 ? "/a" : "/spire/server",
                   .selectors = {"k:1"}});
    entrycache_sweep(c, odd, NULL);
    assert_int_equal(entrycache_len(c), 5);
    assert_null(entrycache_get(c, cs_slice_str("e3")));
    CS_AUTO(entry) kept = entrycache_get(c, cs_slice_str("e4"));
    assert_non_null(kept);
    entrycache_free(c);
    assert_true(cs_slice_is(entry_id(kept), "e4")); /* outlives the cache */
}

static void without_memory_nothing_is_half_done(void **state)
{
    (void)state;
    struct entrycache *c = new_cache();
    static const char *const have[] = {"k:1", "k:2"};
    put(c, &(struct spec){.id = "child", .spiffe = "/c", .parent = "/w"});
    for (size_t n = 1; n < 60; n++) {
        struct entry *en = make(&(struct spec){.id = "e",
                                               .spiffe = "/w",
                                               .parent = n % 2 == 0 ? "/a" : "/spire/server",
                                               .selectors = {"k:1", "k:2"}});
        cs_mem_fail_at(n, false);
        cs_code code = entrycache_put(c, en, NULL);
        cs_mem_fail_at(0, false);
        CS_AUTO(selset) set = new_set(have, 2);
        struct entry_list list CS_CLEANUP(entry_list_free) = {0};
        cs_mem_fail_at(n, false);
        cs_code listed = entrycache_authorized(c, cs_slice_str("/a"), set, &list, NULL);
        cs_mem_fail_at(n, false);
        struct entry *one = entrycache_lookup(c, cs_slice_str("/a"), set, cs_slice_str("child"));
        cs_mem_fail_at(0, false);
        entry_unref(one);
        assert_true(code == CS_OK || code == CS_INTERNAL);
        assert_true(listed == CS_OK || list.len == 0);
        cs_mem_fail_at(1, true);
        entrycache_remove(c, cs_slice_str("e")); /* needs no memory */
        cs_mem_fail_at(0, false);
        assert_int_equal(entrycache_len(c), 1);
        assert_int_equal(entrycache_authorized(c, cs_slice_str("/none"), set, &list, NULL), CS_OK);
    }
    entrycache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entry_is_read_from_the_wire),
        cmocka_unit_test(malformed_entries_are_refused),
        cmocka_unit_test(a_mask_keeps_its_fields_only),
        cmocka_unit_test(random_changes_agree_with_a_naive_model),
        cmocka_unit_test(other_trust_domains_are_left_out),
        cmocka_unit_test(a_deep_chain_is_walked_both_ways),
        cmocka_unit_test(a_sweep_removes_what_is_gone),
        cmocka_unit_test(without_memory_nothing_is_half_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
