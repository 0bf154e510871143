/* SPDX-License-Identifier: Apache-2.0
 *
 * The bundle store and who may connect: snapshots follow the datastore, peers are judged by them.
 */
#include "server/bundlestore.h"

#include "base/mem.h"
#include "crypto/x509_issue.h"
#include "server/peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW INT64_C(1790000000)
#define OWN "example.org"

struct authority {
    struct crypto_key *key;
    struct crypto_signer *signer;
    struct x509_cert *cert;
};

struct world {
    char db[64];
    struct cs_fake_clock clock;
    struct ds *ds;
    struct bundlestore *store;
    unsigned changes;
    char changed[64];
    struct authority own, foreign, unknown;
};

static void must(cs_code rc, const struct cs_err *e)
{
    if (rc != CS_OK)
        fail_msg("%s", e->text);
}

static struct authority make_authority(const char *uri)
{
    struct cs_err e = {0};
    struct authority a = {0};
    struct cs_buf der = {0}, subject = {0};
    x509_name_write(&subject, &(struct x509_name){.common_name = uri});
    must(crypto_key_generate(CRYPTO_EC_P256, &a.key, &e), &e);
    must(crypto_signer_of_key(a.key, &a.signer, &e), &e);
    struct x509_serial serial;
    must(x509_serial_new(&serial, &e), &e);
    const struct x509_issue_params p = {
        .subject = cs_buf_slice(&subject),
        .uri = cs_slice_str(uri),
        .not_before = NOW - 10,
        .not_after = NOW + 3600,
        .serial = &serial,
    };
    must(x509_issue_self_signed(a.signer, &p, &der, &e), &e);
    must(x509_cert_parse(cs_buf_slice(&der), &a.cert, &e), &e);
    cs_buf_free(&der);
    cs_buf_free(&subject);
    return a;
}

static void free_authority(struct authority *a)
{
    x509_cert_unref(a->cert);
    crypto_signer_unref(a->signer);
    crypto_key_unref(a->key);
}

static void on_change(void *arg, const char *td)
{
    struct world *w = arg;
    w->changes++;
    snprintf(w->changed, sizeof w->changed, "%s", td);
}

static void open_store(struct world *w)
{
    struct cs_err e = {0};
    must(bundlestore_new(w->ds, OWN, (struct cs_log){0}, &w->store, &e), &e);
    must(bundlestore_on_change(w->store, on_change, w, &e), &e);
}

static int setup(void **state)
{
    struct cs_err e = {0};
    struct world *w = calloc(1, sizeof *w);
    snprintf(w->db, sizeof w->db, "/tmp/bundlestore_test.XXXXXX");
    int fd = mkstemp(w->db);
    assert_true(fd >= 0);
    close(fd);
    cs_fake_clock_init(&w->clock, NOW);
    const struct ds_options o = {
        .database_type = "sqlite3", .connection_string = w->db, .clock = &w->clock.clock};
    must(ds_open(&o, &w->ds, &e), &e);
    open_store(w);
    w->own = make_authority("spiffe://" OWN);
    w->foreign = make_authority("spiffe://foreign.org");
    w->unknown = make_authority("spiffe://" OWN);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char path[80];
    bundlestore_free(w->store);
    ds_close(w->ds);
    unlink(w->db);
    snprintf(path, sizeof path, "%s-wal", w->db);
    unlink(path);
    snprintf(path, sizeof path, "%s-shm", w->db);
    unlink(path);
    free_authority(&w->own);
    free_authority(&w->foreign);
    free_authority(&w->unknown);
    free(w);
    return 0;
}

static void append_root(struct world *w, const struct authority *a)
{
    struct cs_err e = {0};
    const struct ds_cert root = {.der = a->cert->der};
    const struct ds_bundle add = {.roots = &root, .n_roots = 1};
    must(bundlestore_append(w->store, &add, &e), &e);
}

static void set_foreign(struct world *w, const struct authority *a)
{
    struct cs_err e = {0};
    struct cs_arena *arena = cs_arena_new(0, 0);
    const struct ds_cert root = {.der = a->cert->der};
    const struct ds_bundle b = {
        .trust_domain = "spiffe://foreign.org", .roots = &root, .n_roots = 1, .refresh_hint = 60};
    must(ds_bundle_set(w->ds, arena, &b, NULL, &e), &e);
    must(bundlestore_changed(w->store, "foreign.org", &e), &e);
    cs_arena_free(arena);
}

/* --- Snapshots --- */

static void follows_changes(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    assert_null(bundlestore_own(w->store));
    uint64_t rev = bundlestore_revision(w->store);

    append_root(w, &w->own);
    assert_int_equal(w->changes, 1);
    assert_string_equal(w->changed, OWN);
    assert_true(bundlestore_revision(w->store) > rev);
    struct spiffe_bundle *first = bundlestore_own(w->store);
    assert_int_equal(first->x509_count, 1);

    /* The same again changes nothing. */
    append_root(w, &w->own);
    assert_int_equal(w->changes, 1);

    append_root(w, &w->unknown);
    struct spiffe_bundle *second = bundlestore_own(w->store);
    assert_int_equal(first->x509_count, 1);
    assert_int_equal(second->x509_count, 2);
    assert_true(second->sequence_number > first->sequence_number);
    assert_true(second->roots_id != first->roots_id);
    spiffe_bundle_unref(first);
    spiffe_bundle_unref(second);

    set_foreign(w, &w->foreign);
    assert_string_equal(w->changed, "foreign.org");
    struct spiffe_bundle *foreign = bundlestore_get(w->store, "foreign.org");
    assert_int_equal(foreign->refresh_hint, 60);
    spiffe_bundle_unref(foreign);
    must(ds_bundle_delete(w->ds, "spiffe://foreign.org", DS_DELETE, &e), &e);
    must(bundlestore_changed(w->store, "foreign.org", &e), &e);
    assert_null(bundlestore_get(w->store, "foreign.org"));
    assert_null(bundlestore_get(w->store, "never.org"));
}

static void finds_what_others_wrote(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    append_root(w, &w->own);
    set_foreign(w, &w->foreign);
    bundlestore_free(w->store);
    w->changes = 0;
    open_store(w);
    struct spiffe_bundle *b = bundlestore_own(w->store);
    assert_non_null(b);
    spiffe_bundle_unref(b);
    must(bundlestore_reload(w->store, &e), &e);
    assert_int_equal(w->changes, 0);
    must(ds_bundle_delete(w->ds, "spiffe://foreign.org", DS_DELETE, &e), &e);
    must(bundlestore_reload(w->store, &e), &e);
    assert_int_equal(w->changes, 1);
    assert_null(bundlestore_get(w->store, "foreign.org"));
}

static void keeps_the_snapshot_when_allocations_fail(void **state)
{
    struct world *w = *state;
    append_root(w, &w->own);
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        assert_true(n < 1000);
        const struct ds_cert root = {.der = w->unknown.cert->der};
        const struct ds_bundle add = {.roots = &root, .n_roots = 1};
        (void)cs_mem_fail_at(n, true);
        rc = bundlestore_append(w->store, &add, NULL);
        (void)cs_mem_fail_at(0, false);
        struct spiffe_bundle *b = bundlestore_own(w->store);
        assert_int_equal(b->x509_count, rc == CS_OK ? 2 : 1);
        spiffe_bundle_unref(b);
    }
}

/* --- Peers --- */

static struct cs_buf make_leaf(const struct authority *ca, const char *id, int64_t not_after)
{
    struct cs_err e = {0};
    struct x509_issuer *issuer = NULL;
    struct cs_buf der = {0};
    must(x509_issuer_new(ca->cert, ca->signer, &issuer, &e), &e);
    const struct x509_issue_params p = {
        .spki = ca->cert->spki, .uri = cs_slice_str(id), .not_before = NOW - 10, .not_after = not_after};
    must(x509_issue_svid(issuer, &p, &der, NULL, &e), &e);
    x509_issuer_unref(issuer);
    return der;
}

static const char *const admins[] = {"spiffe://foreign.org/admin"};

/* The text of the refusal; "" when the peer got in. */
static void judge(struct world *w, struct peer_verifier *v, const struct authority *ca, const char *id,
                  int64_t not_after, struct cs_err *e)
{
    (void)w;
    struct cs_buf der = make_leaf(ca, id, not_after);
    const struct cs_slice chain[] = {cs_buf_slice(&der)};
    void *data = NULL;
    void (*release)(void *) = NULL;
    *e = (struct cs_err){0};
    /* Twice: the second time out of the cache. */
    for (int i = 0; i < 2; i++) {
        cs_code rc = peer_verify(v, chain, 1, &data, &release, e);
        assert_true((rc == CS_OK) == (data != NULL));
        if (data != NULL)
            release(data);
        data = NULL;
    }
    cs_buf_free(&der);
}

static void expect(const struct cs_err *e, const char *text)
{
    if (text[0] == '\0' ? e->text[0] != '\0' : strstr(e->text, text) == NULL)
        fail_msg("expected '%s', got '%s'", text, e->text);
}

static void judges_peers_by_the_current_bundle(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    struct peer_verifier *v = NULL;
    const struct peer_verifier_config cfg = {
        .bundles = w->store,
        .trust_domain = OWN,
        .admin_ids = admins,
        .admin_id_count = 1,
        .clock = &w->clock.clock,
    };
    must(peer_verifier_new(&cfg, &v, &e), &e);
    judge(w, v, &w->own, "spiffe://" OWN "/a", NOW + 100, &e);
    expect(&e, "no bundle found for trust domain \"" OWN "\"");

    append_root(w, &w->own);
    judge(w, v, &w->own, "spiffe://" OWN "/a", NOW + 100, &e);
    expect(&e, "");
    judge(w, v, &w->unknown, "spiffe://" OWN "/a", NOW + 100, &e);
    expect(&e, "x509: certificate signed by unknown authority");
    judge(w, v, &w->own, "spiffe://" OWN "/a", NOW - 1, &e);
    expect(&e, "expired");
    judge(w, v, &w->own, "not a spiffe id", NOW + 100, &e);
    assert_int_not_equal(e.text[0], '\0');

    /* A foreign admin needs to be named, and a bundle. */
    judge(w, v, &w->foreign, "spiffe://foreign.org/x", NOW + 100, &e);
    expect(&e, "unexpected trust domain in ID \"spiffe://foreign.org/x\"");
    judge(w, v, &w->foreign, admins[0], NOW + 100, &e);
    expect(&e, "no bundle found for trust domain \"foreign.org\"");
    set_foreign(w, &w->foreign);
    judge(w, v, &w->foreign, admins[0], NOW + 100, &e);
    expect(&e, "");
    /* Our CA does not speak for another trust domain. */
    judge(w, v, &w->own, admins[0], NOW + 100, &e);
    expect(&e, "x509: certificate signed by unknown authority");

    /* What was remembered ends with the certificate. */
    cs_fake_clock_advance(&w->clock, 101 * CS_NS_PER_S);
    judge(w, v, &w->foreign, admins[0], NOW + 100, &e);
    expect(&e, "expired");
    assert_int_not_equal(peer_verify(v, NULL, 0, NULL, NULL, &e), CS_OK);
    const struct cs_slice junk = cs_slice_str("junk");
    assert_int_not_equal(peer_verify(v, &junk, 1, NULL, NULL, &e), CS_OK);
    peer_verifier_free(v);
}

/* A root that was revoked lets nobody in, whatever was remembered. */
static void forgets_verified_chains_when_the_bundle_changes(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    struct peer_verifier *v = NULL;
    const struct peer_verifier_config cfg = {
        .bundles = w->store, .trust_domain = OWN, .clock = &w->clock.clock};
    must(peer_verifier_new(&cfg, &v, &e), &e);
    append_root(w, &w->own);
    append_root(w, &w->unknown);
    struct cs_buf der = make_leaf(&w->own, "spiffe://" OWN "/a", NOW + 100);
    const struct cs_slice chain[] = {cs_buf_slice(&der)};
    void *data = NULL;
    void (*release)(void *) = NULL;
    must(peer_verify(v, chain, 1, &data, &release, &e), &e);
    release(data);

    struct cs_buf id = {0};
    x509_cert_key_id_hex(&id, w->own.cert);
    must(ds_x509_ca_taint(w->ds, "spiffe://" OWN, cs_buf_cstr(&id), &e), &e);
    must(ds_x509_ca_revoke(w->ds, "spiffe://" OWN, cs_buf_cstr(&id), &e), &e);
    must(bundlestore_changed(w->store, OWN, &e), &e);
    assert_int_equal(peer_verify(v, chain, 1, &data, &release, &e), CS_UNAUTHENTICATED);
    cs_buf_free(&id);
    cs_buf_free(&der);
    peer_verifier_free(v);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(follows_changes),
        T(finds_what_others_wrote),
        T(keeps_the_snapshot_when_allocations_fail),
        T(judges_peers_by_the_current_bundle),
        T(forgets_verified_chains_when_the_bundle_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
