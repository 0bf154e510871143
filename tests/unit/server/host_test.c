/* SPDX-License-Identifier: Apache-2.0
 *
 * What plugins may ask the server for, and the server's own SVID that stands behind it.
 */
#include "server/host.h"

#include "base/mem.h"
#include "datastore/datastore.h"
#include "server/ca/authority.h"
#include "server/svid.h"
#include "spiffe/x509svid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW INT64_C(1790000000)
#define TD "example.org"
#define AGENT "spiffe://" TD "/spire/agent/x/1"

struct world {
    char db[64];
    struct cs_fake_clock clock;
    struct ds *ds;
    struct bundlestore *bundles;
    struct ca *ca;
    struct server_svid *svid;
    struct server_host *host;
};

static void must(cs_code rc, const struct cs_err *e)
{
    if (rc != CS_OK)
        fail_msg("%s", e->text);
}

/* A new authority, in the bundle and in use; its ID. */
static void activate(struct world *w, char id[41])
{
    struct cs_err e = {0};
    struct crypto_key *key = NULL;
    struct crypto_signer *signer = NULL;
    struct cs_buf der = {0}, hex = {0};
    struct x509_cert *cert = NULL;
    struct ca_x509_authority *a = NULL;
    const struct x509_chain none = {0};
    must(crypto_key_generate(CRYPTO_EC_P256, &key, &e), &e);
    must(crypto_signer_of_key(key, &signer, &e), &e);
    must(ca_self_sign(w->ca, signer, &der, &e), &e);
    must(x509_cert_parse(cs_buf_slice(&der), &cert, &e), &e);
    must(ca_x509_authority_new(cert, signer, &none, &a, &e), &e);
    ca_set_x509(w->ca, a);
    const struct ds_cert root = {.der = cert->der};
    const struct ds_bundle add = {.roots = &root, .n_roots = 1};
    must(bundlestore_append(w->bundles, &add, &e), &e);
    x509_cert_key_id_hex(&hex, cert);
    snprintf(id, 41, "%s", cs_buf_cstr(&hex));
    cs_buf_free(&hex);
    ca_x509_authority_unref(a);
    x509_cert_unref(cert);
    cs_buf_free(&der);
    crypto_signer_unref(signer);
    crypto_key_unref(key);
}

static int setup(void **state)
{
    struct cs_err e = {0};
    struct world *w = calloc(1, sizeof *w);
    snprintf(w->db, sizeof w->db, "/tmp/host_test.XXXXXX");
    int fd = mkstemp(w->db);
    assert_true(fd >= 0);
    close(fd);
    cs_fake_clock_init(&w->clock, NOW);
    const struct ds_options o = {
        .database_type = "sqlite3", .connection_string = w->db, .clock = &w->clock.clock};
    must(ds_open(&o, &w->ds, &e), &e);
    must(bundlestore_new(w->ds, TD, (struct cs_log){0}, &w->bundles, &e), &e);
    const struct ca_config ca = {.trust_domain = TD, .clock = &w->clock.clock};
    must(ca_new(&ca, &w->ca, &e), &e);
    must(server_host_new(&w->host, &e), &e);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    char path[80];
    server_host_close(w->host);
    server_host_free(w->host);
    server_svid_free(w->svid);
    ca_free(w->ca);
    bundlestore_free(w->bundles);
    ds_close(w->ds);
    unlink(w->db);
    snprintf(path, sizeof path, "%s-wal", w->db);
    unlink(path);
    snprintf(path, sizeof path, "%s-shm", w->db);
    unlink(path);
    free(w);
    return 0;
}

static void open_host(struct world *w, char id[41])
{
    struct cs_err e = {0};
    activate(w, id);
    const struct server_svid_config cfg = {
        .ca = w->ca, .bundles = w->bundles, .type = CRYPTO_EC_P256, .clock = &w->clock.clock};
    must(server_svid_new(&cfg, &w->svid, &e), &e);
    server_host_open(w->host, w->ds, w->bundles, w->svid);
}

static struct plugin_identity identity(struct world *w)
{
    struct cs_err e = {0};
    struct plugin_identity i;
    const struct plugin_host *services = server_host_services(w->host);
    must(services->identity(services->arg, &i, &e), &e);
    return i;
}

/* Which authority of the bundle that was handed out the chain leads to. */
static void root_of(struct world *w, const struct plugin_identity *i, char id[41])
{
    struct cs_err e = {0};
    struct cs_slice *ders = calloc(i->chain_count, sizeof *ders);
    struct x509_chain chain = {0};
    struct cs_buf hex = {0};
    const struct spiffe_x509_authority *root = NULL;
    for (size_t n = 0; n < i->chain_count; n++)
        ders[n] = cs_buf_slice(&i->chain[n]);
    must(x509_chain_parse_list(ders, i->chain_count, &chain, &e), &e);
    must(spiffe_x509svid_root(&chain, i->bundle, cs_now_s(&w->clock.clock), &root, &e), &e);
    x509_cert_key_id_hex(&hex, root->cert);
    snprintf(id, 41, "%s", cs_buf_cstr(&hex));
    cs_buf_free(&hex);
    x509_chain_free(&chain);
    free(ders);
}

static void nothing_before_the_server_is_there_and_after(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    struct plugin_identity i;
    const struct plugin_host *services = server_host_services(w->host);
    char id[41];
    assert_int_equal(services->identity(services->arg, &i, &e), CS_PRECONDITION);
    assert_string_equal(e.text, "IdentityProvider host service has not been initialized");
    assert_int_equal(services->agent_info(services->arg, AGENT, &e), CS_PRECONDITION);
    assert_string_equal(e.text, "AgentStore host service has not been initialized");
    open_host(w, id);
    i = identity(w);
    plugin_identity_free(&i);
    server_host_close(w->host);
    assert_int_equal(services->identity(services->arg, &i, &e), CS_PRECONDITION);
    assert_int_equal(services->agent_info(services->arg, AGENT, &e), CS_PRECONDITION);
}

static void the_identity_is_whole(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    char id[41], root[41];
    open_host(w, id);
    struct plugin_identity i = identity(w);
    root_of(w, &i, root);
    assert_string_equal(root, id);
    struct x509_cert *leaf = NULL;
    struct crypto_key *key = NULL;
    struct spiffe_id got;
    must(x509_cert_parse(cs_buf_slice(&i.chain[0]), &leaf, &e), &e);
    must(spiffe_x509_id(leaf, &got, &e), &e);
    assert_true(cs_slice_is(got.text, "spiffe://" TD "/spire/server"));
    must(crypto_key_parse_der(cs_buf_slice(&i.key), &key, &e), &e);
    assert_true(cs_slice_eq(crypto_pub_spki(crypto_key_pub(key)), leaf->spki));
    assert_string_equal(i.bundle->trust_domain, TD);
    crypto_key_unref(key);
    x509_cert_unref(leaf);
    plugin_identity_free(&i);
}

static void agents_are_known_or_not(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    char id[41];
    const struct plugin_host *services = server_host_services(w->host);
    open_host(w, id);
    assert_int_equal(services->agent_info(services->arg, AGENT, &e), CS_NOT_FOUND);
    assert_string_equal(e.text, "no such agent");
    struct cs_arena *a = cs_arena_new(0, 0);
    const struct ds_node node = {
        .spiffe_id = AGENT, .attestation_type = "x", .serial_number = "1", .expires_at = NOW + 60};
    must(ds_node_create(w->ds, a, &node, NULL, &e), &e);
    must(services->agent_info(services->arg, AGENT, &e), &e);
    cs_arena_free(a);
}

/* As upstream: the SVID goes with its authority. */
static void a_tainted_authority_is_left(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    char old[41], fresh[41], now[41];
    open_host(w, old);
    activate(w, fresh);
    must(server_svid_rotate(w->svid, &e), &e);
    struct plugin_identity i = identity(w);
    root_of(w, &i, now);
    assert_string_equal(now, old);
    plugin_identity_free(&i);

    must(ds_x509_ca_taint(w->ds, "spiffe://" TD, old, &e), &e);
    must(bundlestore_changed(w->bundles, TD, &e), &e);
    must(server_svid_rotate(w->svid, &e), &e);
    i = identity(w);
    root_of(w, &i, now);
    assert_string_equal(now, fresh);
    struct cs_buf first = {0};
    cs_buf_add_slice(&first, cs_buf_slice(&i.chain[0]));
    plugin_identity_free(&i);

    /* and only once */
    must(server_svid_rotate(w->svid, &e), &e);
    i = identity(w);
    assert_true(cs_slice_eq(cs_buf_slice(&first), cs_buf_slice(&i.chain[0])));
    cs_buf_free(&first);
    plugin_identity_free(&i);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(nothing_before_the_server_is_there_and_after),
        T(the_identity_is_whole),
        T(agents_are_known_or_not),
        T(a_tainted_authority_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
