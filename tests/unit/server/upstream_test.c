/* SPDX-License-Identifier: Apache-2.0
 *
 * An UpstreamAuthority above the CA: what it mints, what it says later, and what happens when its root is
 * tainted. The plugin is a fake that really signs.
 */
#include "base/mem.h"
#include "crypto/x509_csr.h"
#include "crypto/x509_issue.h"
#include "datastore/datastore.h"
#include "plugin/upstreamauthority.h"
#include "server/ca/manager.h"
#include "spiffe/x509svid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_keymanager_memory;

#define TD "example.org"
#define NOW INT64_C(1790000000)
#define ROOTS 3

struct root {
    struct crypto_signer *signer;
    struct x509_cert *cert;
    char id[41];
};

/* --- The plugin --- */

struct fake {
    struct root roots[ROOTS];
    size_t signs_with;
    bool offered[ROOTS], tainted[ROOTS];
    cs_code mint_answer, publish_answer;
    bool wrong_key, no_chain, no_roots, other_ski;
    unsigned mints, publishes;
    struct upstreamauthority_listener listener;
    bool listening;
};

static void fill_roots(const struct fake *f, struct upstreamauthority_result *out)
{
    for (size_t i = 0; i < ROOTS; i++)
        if (f->offered[i])
            assert_int_equal(upstreamauthority_result_add_root(out, f->roots[i].cert->der, f->tainted[i]),
                             CS_OK);
}

static cs_code mint(void *self, struct cs_slice csr, int64_t ttl_s, struct upstreamauthority_result *out,
                    struct cs_err *e)
{
    struct fake *f = self;
    f->mints++;
    if (f->mint_answer != CS_OK)
        return cs_fail(e, f->mint_answer, "no way");
    struct x509_csr parsed;
    CS_TRY(x509_csr_parse(csr, &parsed, e));
    CS_TRY(x509_csr_verify(&parsed, e));
    const struct root *root = &f->roots[f->signs_with];
    CS_AUTO(x509_issuer) issuer = NULL;
    CS_TRY(x509_issuer_new(root->cert, root->signer, &issuer, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    /* as Go makes key identifiers since 1.25 (RFC 7093), when it is not told which */
    static const uint8_t other_ski[] = {0x30, 0x0b, 6, 3, 0x55, 0x1d, 14, 4, 4, 4, 2, 0x12, 0x34};
    const struct x509_issue_params p = {
        .extra = f->other_ski ? cs_slice_of(other_ski, sizeof other_ski) : (struct cs_slice){0},
        .spki = f->wrong_key ? root->cert->spki : parsed.spki,
        .subject = parsed.subject,
        .uri = cs_slice_str("spiffe://" TD),
        .not_before = NOW - 10,
        .not_after = NOW + ttl_s,
    };
    CS_TRY(x509_issue_ca(issuer, &p, &der, NULL, e));
    if (!f->no_chain)
        CS_TRY(upstreamauthority_result_add_cert(out, cs_buf_slice(&der)));
    if (!f->no_roots)
        fill_roots(f, out);
    return CS_OK;
}

static cs_code publish(void *self, const struct upstreamauthority_jwt_key *key,
                       cs_code (*keys)(void *arg, const struct upstreamauthority_jwt_key *k), void *arg,
                       struct cs_err *e)
{
    struct fake *f = self;
    f->publishes++;
    if (f->publish_answer != CS_OK)
        return cs_fail(e, f->publish_answer, "no way");
    struct upstreamauthority_jwt_key theirs = *key;
    theirs.kid = "theirs";
    CS_TRY(keys(arg, key));
    return keys(arg, &theirs);
}

static void on_listen(void *self, const struct upstreamauthority_listener *listener)
{
    struct fake *f = self;
    f->listening = listener != NULL;
    if (listener != NULL)
        f->listener = *listener;
}

static const struct upstreamauthority_ops ops = {
    .listen = on_listen, .mint_x509_ca = mint, .publish_jwt_key = publish};

/* --- The world around --- */

struct world {
    char db[64], log_path[64];
    struct cs_log_sink *sink;
    struct cs_fake_clock clock;
    struct plugin_env env;
    struct catalog_plugin keymanager, upstream;
    struct fake fake;
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

static void make_root(struct root *r, const char *name)
{
    struct cs_err e = {0};
    struct crypto_key *key = NULL;
    struct cs_buf der = {0}, subject = {0}, hex = {0};
    x509_name_write(&subject, &(struct x509_name){.common_name = name});
    must(crypto_key_generate(CRYPTO_EC_P256, &key, &e), &e);
    must(crypto_signer_of_key(key, &r->signer, &e), &e);
    const struct x509_issue_params p = {
        .subject = cs_buf_slice(&subject), .not_before = NOW - 10, .not_after = NOW + 30 * 86400};
    must(x509_issue_self_signed(r->signer, &p, &der, &e), &e);
    must(x509_cert_parse(cs_buf_slice(&der), &r->cert, &e), &e);
    x509_cert_key_id_hex(&hex, r->cert);
    snprintf(r->id, sizeof r->id, "%s", cs_buf_cstr(&hex));
    cs_buf_free(&hex);
    cs_buf_free(&der);
    cs_buf_free(&subject);
    crypto_key_unref(key);
}

static void start_manager(struct world *w)
{
    struct cs_err e = {0};
    const struct ca_manager_config cfg = {
        .ca = w->ca,
        .ds = w->ds,
        .bundles = w->bundles,
        .keymanager = &w->keymanager,
        .upstream = &w->upstream,
        .trust_domain = TD,
        .x509_key_type = CRYPTO_EC_P256,
        .jwt_key_type = CRYPTO_EC_P256,
        .clock = &w->clock.clock,
        .log = {.sink = w->sink},
    };
    must(ca_manager_new(&cfg, &w->manager, &e), &e);
}

static int setup(void **state)
{
    static const char *const names[ROOTS] = {"root A", "root B", "root C"};
    struct cs_err e = {0};
    struct world *w = calloc(1, sizeof *w);
    snprintf(w->db, sizeof w->db, "/tmp/upstream_test.XXXXXX");
    snprintf(w->log_path, sizeof w->log_path, "/tmp/upstream_log.XXXXXX");
    int fd = mkstemp(w->db), log = mkstemp(w->log_path);
    assert_true(fd >= 0 && log >= 0);
    close(fd);
    close(log);
    must(cs_log_sink_open(w->log_path, CS_LOG_TEXT, CS_LOG_DEBUG, &w->sink, &e), &e);
    cs_fake_clock_init(&w->clock, NOW);
    for (size_t i = 0; i < ROOTS; i++)
        make_root(&w->fake.roots[i], names[i]);
    w->fake.offered[0] = true;
    w->env = (struct plugin_env){.clock = &w->clock.clock, .trust_domain = TD, .data_dir = "/tmp"};
    w->keymanager =
        (struct catalog_plugin){.type = "KeyManager", .name = "memory", .ops = plugin_keymanager_memory.ops};
    w->upstream =
        (struct catalog_plugin){.type = "UpstreamAuthority", .name = "own", .ops = &ops, .self = &w->fake};
    must(plugin_keymanager_memory.create(&w->env, &w->keymanager.self, &e), &e);
    const struct ds_options o = {
        .database_type = "sqlite3", .connection_string = w->db, .clock = &w->clock.clock};
    must(ds_open(&o, &w->ds, &e), &e);
    must(bundlestore_new(w->ds, TD, (struct cs_log){0}, &w->bundles, &e), &e);
    const struct ca_config ca = {.trust_domain = TD, .clock = &w->clock.clock};
    must(ca_new(&ca, &w->ca, &e), &e);
    start_manager(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char path[80];
    ca_manager_free(w->manager);
    assert_false(w->fake.listening);
    ca_free(w->ca);
    bundlestore_free(w->bundles);
    ds_close(w->ds);
    plugin_keymanager_memory.destroy(w->keymanager.self);
    for (size_t i = 0; i < ROOTS; i++) {
        x509_cert_unref(w->fake.roots[i].cert);
        crypto_signer_unref(w->fake.roots[i].signer);
    }
    cs_log_sink_free(w->sink);
    unlink(w->db);
    unlink(w->log_path);
    snprintf(path, sizeof path, "%s-wal", w->db);
    unlink(path);
    snprintf(path, sizeof path, "%s-shm", w->db);
    unlink(path);
    free(w);
    return 0;
}

/* --- Looking --- */

static void assert_logged(const struct world *w, const char *text)
{
    struct cs_buf log = {0};
    FILE *f = fopen(w->log_path, "r");
    char chunk[4096];
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        cs_buf_add(&log, chunk, n);
    fclose(f);
    if (strstr(cs_buf_cstr(&log), text) == NULL)
        fail_msg("no %s in:\n%s", text, cs_buf_cstr(&log));
    cs_buf_free(&log);
}

/* 'A' to 'C' for roots of the bundle, in lower case when tainted, in their order. */
static void assert_roots(const struct world *w, const char *wanted)
{
    struct spiffe_bundle *b = bundlestore_own(w->bundles);
    char got[16] = "";
    for (size_t i = 0; i < b->x509_count; i++)
        for (size_t r = 0; r < ROOTS; r++)
            if (cs_slice_eq(b->x509[i].cert->der, w->fake.roots[r].cert->der))
                got[strlen(got)] = (char)((b->x509[i].tainted ? 'a' : 'A') + r);
    assert_int_equal(strlen(got), b->x509_count);
    assert_string_equal(got, wanted);
    spiffe_bundle_unref(b);
}

static bool has_kid(const struct world *w, const char *kid)
{
    struct spiffe_bundle *b = bundlestore_own(w->bundles);
    bool found = spiffe_bundle_find_jwt(b, cs_slice_str(kid)) != NULL;
    spiffe_bundle_unref(b);
    return found;
}

/* Which of the roots an SVID of the CA leads to now. */
static char signed_by(struct world *w)
{
    struct cs_err e = {0};
    struct cs_arena *a = cs_arena_new(0, 0);
    struct ca_x509 svid;
    struct x509_chain chain = {0};
    must(ca_sign_server(w->ca, a, w->fake.roots[0].cert->spki, &svid, &e), &e);
    assert_int_equal(svid.count, 2);
    must(x509_chain_parse_list(svid.chain, svid.count, &chain, &e), &e);
    struct spiffe_bundle *b = bundlestore_own(w->bundles);
    const struct spiffe_x509_authority *root = NULL;
    must(spiffe_x509svid_root(&chain, b, cs_now_s(&w->clock.clock), &root, &e), &e);
    char which = '?';
    for (size_t r = 0; r < ROOTS; r++)
        if (cs_slice_eq(root->cert->der, w->fake.roots[r].cert->der))
            which = (char)('A' + r);
    spiffe_bundle_unref(b);
    x509_chain_free(&chain);
    cs_arena_free(a);
    return which;
}

static void rotate(struct world *w)
{
    struct cs_err e = {0};
    must(ca_manager_rotate(w->manager, &e), &e);
}

static void push_roots(struct world *w)
{
    struct upstreamauthority_result r = {0};
    fill_roots(&w->fake, &r);
    w->fake.listener.x509_roots(w->fake.listener.arg, &r);
    upstreamauthority_result_free(&r);
}

/* --- Tests --- */

static void what_it_mints_is_used(void **state)
{
    struct world *w = *state;
    assert_true(w->fake.listening);
    rotate(w);
    assert_roots(w, "A");
    assert_int_equal(signed_by(w), 'A');
    assert_true(has_kid(w, "theirs"));
    struct spiffe_bundle *b = bundlestore_own(w->bundles);
    assert_int_equal(b->jwt_count, 2);
    spiffe_bundle_unref(b);
    assert_int_equal(w->fake.mints, 1);
}

static void what_it_says_later_is_in_the_bundle(void **state)
{
    struct world *w = *state;
    rotate(w);
    w->fake.offered[1] = true;
    push_roots(w);
    assert_roots(w, "AB");
    struct spiffe_bundle *before = bundlestore_own(w->bundles);
    push_roots(w); /* no news */
    struct spiffe_bundle *after = bundlestore_own(w->bundles);
    assert_int_equal(before->sequence_number, after->sequence_number);
    spiffe_bundle_unref(before);
    spiffe_bundle_unref(after);
    /* as in SPIRE, a root that it does not name any more stays until it expires */
    w->fake.offered[0] = false;
    push_roots(w);
    assert_roots(w, "AB");

    struct cs_slice pkix = w->fake.roots[2].cert->spki;
    const struct upstreamauthority_jwt_key keys[] = {{.pkix = pkix, .kid = "one", .not_after = NOW + 60},
                                                     {.pkix = pkix, .kid = "two", .not_after = NOW + 60}};
    w->fake.listener.jwt_keys(w->fake.listener.arg, keys, 2);
    assert_true(has_kid(w, "one") && has_kid(w, "two") && has_kid(w, "theirs"));
}

static void keys_without_publication_stay_ours(void **state)
{
    struct world *w = *state;
    w->fake.publish_answer = CS_UNIMPLEMENTED;
    rotate(w);
    assert_false(has_kid(w, "theirs"));
    struct spiffe_bundle *b = bundlestore_own(w->bundles);
    assert_int_equal(b->jwt_count, 1);
    spiffe_bundle_unref(b);
    assert_logged(w, "level=warning msg=\"UpstreamAuthority plugin does not support JWT-SVIDs. ");
}

static void errors_name_the_plugin(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    w->fake.mint_answer = CS_DENIED;
    assert_int_equal(ca_manager_rotate(w->manager, &e), CS_DENIED);
    assert_string_equal(e.text, "upstreamauthority(own): no way");
    w->fake.mint_answer = CS_OK;
    w->fake.no_chain = true;
    assert_int_equal(ca_manager_rotate(w->manager, &e), CS_INTERNAL);
    assert_string_equal(e.text, "upstreamauthority(own): plugin response missing X.509 CA chain");
    w->fake.no_chain = false;
    w->fake.no_roots = true;
    assert_int_equal(ca_manager_rotate(w->manager, &e), CS_INTERNAL);
    assert_string_equal(e.text, "upstreamauthority(own): plugin response missing upstream X.509 roots");
    w->fake.no_roots = false;
    w->fake.wrong_key = true;
    assert_int_equal(ca_manager_rotate(w->manager, &e), CS_INVALID);
    assert_memory_equal(e.text, "X509 CA minted by upstream authority is invalid: ", 49);
    w->fake.wrong_key = false;
    /* signed by a root that is not among those it names */
    w->fake.signs_with = 1;
    assert_int_equal(ca_manager_rotate(w->manager, &e), CS_INVALID);
    assert_memory_equal(e.text, "X509 CA minted by upstream authority is invalid: ", 49);
    assert_null(bundlestore_own(w->bundles));
    w->fake.signs_with = 0;
    w->fake.publish_answer = CS_UNAVAILABLE;
    assert_int_equal(ca_manager_rotate(w->manager, &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "upstreamauthority(own): no way");
    w->fake.publish_answer = CS_OK;
    rotate(w);
    assert_int_equal(signed_by(w), 'A');
}

/* First our CA leaves the root, then the others are told. */
static void a_tainted_root_is_left_marked_and_revoked(void **state)
{
    struct world *w = *state;
    rotate(w);
    w->fake.offered[1] = true;
    w->fake.tainted[0] = true;
    w->fake.signs_with = 1;
    push_roots(w);
    assert_roots(w, "AB"); /* not yet */
    assert_int_equal(signed_by(w), 'A');
    push_roots(w);
    rotate(w);
    assert_int_equal(signed_by(w), 'B');
    assert_roots(w, "aB");
    assert_int_equal(w->fake.mints, 2);
    assert_logged(w, "msg=\"Current root CA is signed by a tainted upstream authority, preparing rotation\"");
    assert_logged(w, "msg=\"X.509 authority tainted\"");
    rotate(w);
    push_roots(w);
    rotate(w);
    assert_int_equal(w->fake.mints, 2);
    assert_roots(w, "aB");

    w->fake.offered[0] = false;
    push_roots(w);
    assert_roots(w, "B");
    assert_logged(w, "msg=\"X.509 authority revoked\"");
    rotate(w);
    assert_int_equal(signed_by(w), 'B');
}

static void a_root_we_do_not_use_is_only_marked(void **state)
{
    struct world *w = *state;
    w->fake.offered[1] = true;
    rotate(w);
    w->fake.tainted[1] = true;
    push_roots(w);
    rotate(w);
    assert_roots(w, "Ab");
    assert_int_equal(signed_by(w), 'A');
    assert_int_equal(w->fake.mints, 1);
}

/* A taint that cannot be acted on is neither forgotten nor told to others. */
static void nothing_is_lost_when_the_upstream_fails_meanwhile(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    rotate(w);
    w->fake.offered[1] = true;
    w->fake.tainted[0] = true;
    w->fake.signs_with = 1;
    w->fake.mint_answer = CS_UNAVAILABLE;
    push_roots(w);
    assert_int_equal(ca_manager_rotate(w->manager, &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "failed to prepare x509 authority: upstreamauthority(own): no way");
    assert_int_equal(signed_by(w), 'A');
    assert_roots(w, "AB");
    assert_logged(w, "level=warning msg=\"Failed to process tainted keys on upstream authority\"");
    w->fake.mint_answer = CS_OK;
    rotate(w);
    assert_int_equal(signed_by(w), 'B');
    assert_roots(w, "aB");
}

/* Also what was prepared hangs on the root: it is made anew. */
static void a_prepared_authority_is_made_anew(void **state)
{
    struct world *w = *state;
    rotate(w);
    cs_fake_clock_advance(&w->clock, 43201 * CS_NS_PER_S);
    rotate(w);
    assert_int_equal(w->fake.mints, 2);
    w->fake.offered[1] = true;
    w->fake.tainted[0] = true;
    w->fake.signs_with = 1;
    push_roots(w);
    rotate(w);
    assert_int_equal(w->fake.mints, 3);
    assert_int_equal(signed_by(w), 'B');
    assert_logged(w, "msg=\"Next authority is tainted, prepare new X.509 authority\"");
}

static void a_restart_listens_again(void **state)
{
    struct world *w = *state;
    rotate(w);
    ca_manager_free(w->manager);
    assert_false(w->fake.listening);
    start_manager(w);
    assert_true(w->fake.listening);
    assert_int_equal(signed_by(w), 'A');
    assert_int_equal(w->fake.mints, 1);
}

/* The key identifier is the authority's business: our CA is found again whatever it is. */
static void a_restart_finds_its_ca_under_any_key_identifier(void **state)
{
    struct world *w = *state;
    w->fake.other_ski = true;
    rotate(w);
    ca_manager_free(w->manager);
    start_manager(w);
    assert_int_equal(signed_by(w), 'A');
    rotate(w);
    assert_int_equal(w->fake.mints, 1);
    assert_logged(w, "local_authority_id=1234 ");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(what_it_mints_is_used),
        T(what_it_says_later_is_in_the_bundle),
        T(keys_without_publication_stay_ours),
        T(errors_name_the_plugin),
        T(a_tainted_root_is_left_marked_and_revoked),
        T(a_root_we_do_not_use_is_only_marked),
        T(nothing_is_lost_when_the_upstream_fails_meanwhile),
        T(a_prepared_authority_is_made_anew),
        T(a_restart_listens_again),
        T(a_restart_finds_its_ca_under_any_key_identifier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
