/* SPDX-License-Identifier: Apache-2.0
 *
 * UpstreamAuthority: first answers, and changes pushed later, before and in between.
 */
#include "fixture.h"

#include "sdk_server_upstreamauthority.pb-c.h"

#define UA "/spire.plugin.server.upstreamauthority.v1.UpstreamAuthority/"
#define MINTED (&upstreamauthorityv1__mint_x509_caresponse__descriptor)
#define PUBLISHED (&upstreamauthorityv1__publish_jwtkey_response__descriptor)
#define BUNDLE (&upstreamauthorityv1__subscribe_to_local_bundle_response__descriptor)

static struct kit_fixture fx;
static const struct cspire_authority two_roots[] = {{{(const uint8_t *)"n1", 2}, false},
                                                    {{(const uint8_t *)"n2", 2}, true}};
static const struct cspire_jwt_key new_key[] = {{{(const uint8_t *)"nk", 2}, "nkid", 5, true}};

static struct rpc_stream *mint(void)
{
    struct cs_err e;
    Upstreamauthorityv1__MintX509CARequest req = UPSTREAMAUTHORITYV1__MINT_X509_CAREQUEST__INIT;
    req.csr = kf_bytes("csr");
    req.preferred_ttl = 60;
    struct rpc_stream *s = kf_open(&fx, UA "MintX509CAAndSubscribe", NULL, 0);
    kf_send(s, &req.base);
    KF_OK(rpc_stream_close_send(s, &e), e);
    return s;
}

static void check_minted(const Upstreamauthorityv1__MintX509CAResponse *m)
{
    assert_non_null(m);
    assert_int_equal(m->n_x509_ca_chain, 2);
    assert_memory_equal(m->x509_ca_chain[1]->asn1.data, "intermediate", 12);
    assert_int_equal(m->n_upstream_x509_roots, 1);
    assert_memory_equal(m->upstream_x509_roots[0]->asn1.data, "root", 4);
    assert_true(m->upstream_x509_roots[0]->tainted);
}

static void check_pushed(const Upstreamauthorityv1__MintX509CAResponse *m)
{
    assert_non_null(m);
    assert_int_equal(m->n_x509_ca_chain, 0); /* hosts refuse one in later answers */
    assert_int_equal(m->n_upstream_x509_roots, 2);
    assert_memory_equal(m->upstream_x509_roots[0]->asn1.data, "n1", 2);
    assert_true(m->upstream_x509_roots[1]->tainted);
}

static void test_mint(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Upstreamauthorityv1__MintX509CAResponse *m;
    kf_ready(&fx, CSPIRE_UPSTREAM_AUTHORITY);
    assert_int_equal(cspire_push_authorities(&fx.env, two_roots, 2), CSPIRE_UNAVAILABLE);
    struct rpc_stream *a = mint();
    KF_OK(kf_recv(&fx, a, MINTED, &m, &e), e);
    check_minted(m);
    struct rpc_stream *b = mint();
    KF_OK(kf_recv(&fx, b, MINTED, &m, &e), e);
    check_minted(m);
    assert_string_equal(kf_seen(&fx), "mint ttl=60 csr=637372\nmint ttl=60 csr=637372\n");
    /* the stream stays open */
    struct cs_buf msg CS_CLEANUP(cs_buf_free) = {0};
    bool end;
    assert_int_equal(rpc_stream_recv(a, &msg, &end, 20 * CS_NS_PER_MS, NULL, &e), CS_DEADLINE);
    assert_int_equal(cspire_push_authorities(&fx.env, two_roots, 2), CSPIRE_OK);
    assert_int_equal(cspire_push_jwt_keys(&fx.env, new_key, 1), CSPIRE_UNAVAILABLE);
    KF_OK(kf_recv(&fx, a, MINTED, &m, &e), e);
    check_pushed(m);
    KF_OK(kf_recv(&fx, b, MINTED, &m, &e), e);
    check_pushed(m);
    assert_int_equal(cspire_push_authorities(&fx.env, two_roots, 0), CSPIRE_INVALID_ARGUMENT);
    rpc_stream_free(a);
    assert_int_equal(cspire_push_authorities(&fx.env, two_roots, 1), CSPIRE_OK);
    KF_OK(kf_recv(&fx, b, MINTED, &m, &e), e);
    assert_int_equal(m->n_upstream_x509_roots, 1);
    rpc_stream_free(b);
    kf_down(&fx);
}

/* A plugin whose change comes while it answers. */
static enum cspire_code mint_and_push(void *self, struct cspire_call *c, struct cspire_bytes csr, int64_t ttl)
{
    enum cspire_code code = cspire_push_authorities(cspire_call_env(c), two_roots, 2);
    return code == CSPIRE_OK ? d_mint(self, c, csr, ttl) : code;
}

static void test_push_before_the_answer(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Upstreamauthorityv1__MintX509CAResponse *m;
    static const struct cspire_upstream_authority_ops ops = {.size = sizeof ops,
                                                             .mint_x509_ca = mint_and_push};
    struct cspire_plugin plugin = d_plugin(CSPIRE_UPSTREAM_AUTHORITY);
    plugin.ops.upstream_authority = &ops;
    kf_up_plugin(&fx, plugin);
    KF_OK(kf_init(&fx, NULL, NULL, &e), e);
    struct rpc_stream *s = mint();
    KF_OK(kf_recv(&fx, s, MINTED, &m, &e), e);
    check_minted(m);
    KF_OK(kf_recv(&fx, s, MINTED, &m, &e), e);
    check_pushed(m);
    rpc_stream_free(s);
    kf_down(&fx);
}

static void test_publish(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Upstreamauthorityv1__PublishJWTKeyResponse *m;
    kf_ready(&fx, CSPIRE_UPSTREAM_AUTHORITY);
    Sdktypes__JWTKey key = SDKTYPES__JWTKEY__INIT;
    key.public_key = kf_bytes("pk");
    key.key_id = (char *)"id";
    key.expires_at = 3;
    Upstreamauthorityv1__PublishJWTKeyRequest req = UPSTREAMAUTHORITYV1__PUBLISH_JWTKEY_REQUEST__INIT;
    struct rpc_stream *s = kf_open(&fx, UA "PublishJWTKeyAndSubscribe", NULL, 0);
    kf_send(s, &req.base);
    assert_int_equal(kf_recv(&fx, s, PUBLISHED, &m, &e), CS_INVALID);
    rpc_stream_free(s);
    req.jwt_key = &key;
    s = kf_open(&fx, UA "PublishJWTKeyAndSubscribe", NULL, 0);
    kf_send(s, &req.base);
    KF_OK(kf_recv(&fx, s, PUBLISHED, &m, &e), e);
    assert_string_equal(kf_seen(&fx), "publish kid=id expires=3 pkix=706b\n");
    assert_int_equal(m->n_upstream_jwt_keys, 1);
    assert_string_equal(m->upstream_jwt_keys[0]->key_id, "kid");
    assert_int_equal(cspire_push_jwt_keys(&fx.env, new_key, 1), CSPIRE_OK);
    KF_OK(kf_recv(&fx, s, PUBLISHED, &m, &e), e);
    assert_string_equal(m->upstream_jwt_keys[0]->key_id, "nkid");
    assert_true(m->upstream_jwt_keys[0]->tainted);
    assert_int_equal(cspire_push_jwt_keys(&fx.env, NULL, 0), CSPIRE_OK);
    KF_OK(kf_recv(&fx, s, PUBLISHED, &m, &e), e);
    assert_non_null(m);
    assert_int_equal(m->n_upstream_jwt_keys, 0);
    rpc_stream_free(s);
    kf_down(&fx);
}

/* Each answer about the bundle has both halves, though they are pushed one by one. */
static void test_local_bundle(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Upstreamauthorityv1__SubscribeToLocalBundleResponse *m;
    kf_ready(&fx, CSPIRE_UPSTREAM_AUTHORITY);
    Upstreamauthorityv1__SubscribeToLocalBundleRequest req =
        UPSTREAMAUTHORITYV1__SUBSCRIBE_TO_LOCAL_BUNDLE_REQUEST__INIT;
    struct rpc_stream *s = kf_open(&fx, UA "SubscribeToLocalBundle", NULL, 0);
    kf_send(s, &req.base);
    KF_OK(kf_recv(&fx, s, BUNDLE, &m, &e), e);
    assert_true(m->n_upstream_x509_roots == 1 && m->n_upstream_jwt_keys == 1);
    assert_int_equal(cspire_push_authorities(&fx.env, two_roots, 2), CSPIRE_OK);
    KF_OK(kf_recv(&fx, s, BUNDLE, &m, &e), e);
    assert_true(m->n_upstream_x509_roots == 2 && m->n_upstream_jwt_keys == 1);
    assert_string_equal(m->upstream_jwt_keys[0]->key_id, "kid");
    assert_int_equal(cspire_push_jwt_keys(&fx.env, new_key, 1), CSPIRE_OK);
    KF_OK(kf_recv(&fx, s, BUNDLE, &m, &e), e);
    assert_true(m->n_upstream_x509_roots == 2 && m->n_upstream_jwt_keys == 1);
    assert_string_equal(m->upstream_jwt_keys[0]->key_id, "nkid");
    kit_listeners_finish(&fx.env); /* as Deinit does */
    KF_OK(kf_recv(&fx, s, BUNDLE, &m, &e), e);
    assert_null(m);
    rpc_stream_free(s);
    kf_down(&fx);
}

static void test_failures(void **state)
{
    (void)state;
    struct cs_err e = {0};
    Upstreamauthorityv1__MintX509CAResponse *m;
    kf_ready(&fx, CSPIRE_UPSTREAM_AUTHORITY);
    d_self.fail = CSPIRE_PERMISSION_DENIED;
    struct rpc_stream *s = mint();
    assert_int_equal(kf_recv(&fx, s, MINTED, &m, &e), CS_DENIED);
    rpc_stream_free(s);
    d_self.fail = CSPIRE_OK;
    d_self.silent = true;
    s = mint();
    assert_int_equal(kf_recv(&fx, s, MINTED, &m, &e), CS_INTERNAL);
    assert_string_equal(e.text, "the plugin answers without a certificate or without a root");
    rpc_stream_free(s);
    /* no request at all */
    s = kf_open(&fx, UA "MintX509CAAndSubscribe", NULL, 0);
    KF_OK(rpc_stream_close_send(s, &e), e);
    assert_int_equal(kf_recv(&fx, s, MINTED, &m, &e), CS_INVALID);
    rpc_stream_free(s);
    assert_int_equal(cspire_push_authorities(&fx.env, two_roots, 2), CSPIRE_UNAVAILABLE);
    kf_down(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mint),     cmocka_unit_test(test_push_before_the_answer),
        cmocka_unit_test(test_publish),  cmocka_unit_test(test_local_bundle),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
