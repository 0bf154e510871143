/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS client certificates whose key is elsewhere: a fake remote signer that answers, fails and hangs.
 */
#include "fixture.h"
#include "rpc/tls_signer.h"

#include <openssl/err.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <signal.h>

/* --- A signer that is elsewhere --- */

struct remote {
    EVP_PKEY *pkey;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hang, inside;
    cs_code fail;
    bool lie; /* answers with something that is no signature */
    unsigned calls;
    enum crypto_sig last;
};

static cs_code sign_digest(struct remote *r, enum crypto_sig alg, struct cs_slice digest, struct cs_buf *out)
{
    uint8_t sig[512];
    size_t len = sizeof sig;
    const EVP_MD *md = digest.len == 32 ? EVP_sha256() : digest.len == 48 ? EVP_sha384() : EVP_sha512();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(r->pkey, NULL);
    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, md), 1);
    if (EVP_PKEY_is_a(r->pkey, "RSA")) {
        bool pss = alg >= CRYPTO_PSS_SHA256 && alg <= CRYPTO_PSS_SHA512;
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING),
                         1);
        if (pss)
            assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    assert_int_equal(EVP_PKEY_sign(ctx, sig, &len, digest.data, digest.len), 1);
    EVP_PKEY_CTX_free(ctx);
    cs_buf_add(out, sig, len);
    return CS_OK;
}

static cs_code remote_sign(void *arg, enum crypto_sig alg, struct cs_slice digest, struct cs_buf *out,
                           struct cs_err *e)
{
    struct remote *r = arg;
    pthread_mutex_lock(&r->lock);
    r->calls++;
    r->last = alg;
    r->inside = true;
    pthread_cond_broadcast(&r->changed);
    while (r->hang)
        pthread_cond_wait(&r->changed, &r->lock);
    r->inside = false;
    cs_code fail = r->fail;
    bool lie = r->lie;
    pthread_mutex_unlock(&r->lock);
    if (fail != CS_OK)
        return cs_fail(e, fail, "keymanager(far): the token is locked");
    if (lie) {
        cs_buf_add_str(out, "no signature");
        return CS_OK;
    }
    return sign_digest(r, alg, digest, out);
}

static void remote_free(void *arg)
{
    struct remote *r = arg;
    EVP_PKEY_free(r->pkey);
    r->pkey = NULL; /* seen by the test: nobody held on to it */
}

static const struct crypto_signer_ops remote_ops = {remote_sign, remote_free};

static struct crypto_signer *signer_of(struct remote *r)
{
    struct crypto_signer *out;
    struct crypto_pub *pub;
    unsigned char *spki = NULL;
    int len = i2d_PUBKEY(r->pkey, &spki);
    assert_true(len > 0);
    assert_int_equal(crypto_pub_parse(cs_slice_of(spki, (size_t)len), &pub, NULL), CS_OK);
    OPENSSL_free(spki);
    assert_int_equal(crypto_signer_new(&remote_ops, r, pub, &out, NULL), CS_OK);
    crypto_pub_unref(pub);
    return out;
}

static void set_hang(struct remote *r, bool hang)
{
    pthread_mutex_lock(&r->lock);
    r->hang = hang;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void await_inside(struct remote *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->inside)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

/* --- A client with it --- */

struct far {
    struct fixture fx;
    struct remote remote;
    SSL_CTX *ctx;
    struct rpc_client *client;
};

static void far_up(struct far *t, const char *kind, int version, int64_t connect_ns)
{
    struct cs_err e = {0};
    fx_up(&t->fx, &(struct rpc_server_config){0});
    if (version != 0)
        assert_int_equal(SSL_CTX_set_max_proto_version(t->fx.server_ctx, version), 1);
    t->remote = (struct remote){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct cs_buf cert = fx_certificate(kind, &t->remote.pkey);
    struct cs_slice chain = cs_buf_slice(&cert);
    struct crypto_signer *signer = signer_of(&t->remote);
    if (rpc_tls_client_ctx_signer(&chain, 1, signer, &t->ctx, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_int_equal(ERR_peek_error(), 0);
    crypto_signer_unref(signer);
    cs_buf_free(&cert);
    t->client = fx_client(&t->fx, &(struct rpc_client_config){.tcp_address = t->fx.address,
                                                              .tls = t->ctx,
                                                              .verify = fx_verify_server,
                                                              .arg = &t->fx,
                                                              .blocking_handshake = true,
                                                              .connect_ns = connect_ns});
}

static void far_down(struct far *t)
{
    rpc_client_free(t->client);
    rpc_tls_ctx_unref(t->ctx);
    fx_down(&t->fx);
    assert_null(t->remote.pkey);
}

/* --- Tests --- */

static void test_all_kinds_of_keys(void **state)
{
    static const struct {
        const char *kind;
        int version;
        enum crypto_sig want;
    } rows[] = {
        {"P-256", TLS1_3_VERSION, CRYPTO_ECDSA_SHA256}, {"P-256", TLS1_2_VERSION, CRYPTO_ECDSA_SHA256},
        {"P-384", TLS1_3_VERSION, CRYPTO_ECDSA_SHA384}, {"P-384", TLS1_2_VERSION, CRYPTO_ECDSA_SHA256},
        {"RSA", TLS1_3_VERSION, CRYPTO_PSS_SHA256},     {"RSA", TLS1_2_VERSION, CRYPTO_PSS_SHA256},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct far t;
        char out[CS_ERR_TEXT_MAX];
        far_up(&t, rows[i].kind, rows[i].version, 0);
        for (int n = 0; n < 3; n++) {
            if (fx_call(t.client, "Worker", "hello", out, sizeof out) != CS_OK)
                fail_msg("%s with version %x: %s", rows[i].kind, rows[i].version, out);
            assert_string_equal(out, "hello");
        }
        assert_int_equal(t.remote.calls, 1); /* one connection, one signature */
        assert_int_equal(t.fx.verified, 1);
        if (rows[i].version == TLS1_3_VERSION)
            assert_int_equal(t.remote.last, rows[i].want);
        far_down(&t);
    }
}

/* A server of TLS 1.2 that knows no PSS. */
static void test_pkcs1(void **state)
{
    struct far t;
    char out[CS_ERR_TEXT_MAX];
    (void)state;
    far_up(&t, "RSA", TLS1_2_VERSION, 0);
    assert_int_equal(SSL_CTX_set1_client_sigalgs_list(t.fx.server_ctx, "RSA+SHA384"), 1);
    assert_int_equal(fx_call(t.client, "Worker", "hello", out, sizeof out), CS_OK);
    assert_int_equal(t.remote.last, CRYPTO_RSA_SHA384);
    assert_int_equal(t.fx.verified, 1);
    far_down(&t);
}

static void test_signer_that_fails(void **state)
{
    struct far t;
    char out[CS_ERR_TEXT_MAX];
    (void)state;
    far_up(&t, "P-256", 0, 0);
    t.remote.fail = CS_UNAVAILABLE;
    assert_int_equal(fx_call(t.client, "Worker", "hello", out, sizeof out), CS_UNAVAILABLE);
    assert_string_equal(out, "connection error: desc = \"transport: authentication handshake failed: tls: "
                             "keymanager(far): the token is locked\"");
    assert_int_equal(ERR_peek_error(), 0);
    t.remote.fail = CS_OK;
    assert_int_equal(fx_call(t.client, "Worker", "hello", out, sizeof out), CS_OK);
    far_down(&t);
}

static void test_signer_that_lies(void **state)
{
    struct far t;
    char out[CS_ERR_TEXT_MAX];
    (void)state;
    far_up(&t, "P-256", 0, 0);
    t.remote.lie = true;
    assert_int_equal(fx_call(t.client, "Worker", "hello", out, sizeof out), CS_UNAVAILABLE);
    assert_int_equal(t.fx.echo.opened, 0);
    t.remote.lie = false;
    assert_int_equal(fx_call(t.client, "Worker", "hello", out, sizeof out), CS_OK);
    far_down(&t);
}

static void test_server_that_is_refused(void **state)
{
    struct far t;
    char out[CS_ERR_TEXT_MAX];
    (void)state;
    far_up(&t, "P-256", 0, 0);
    t.fx.refuse_server = true;
    assert_int_equal(fx_call(t.client, "Worker", "hello", out, sizeof out), CS_UNAVAILABLE);
    assert_string_equal(out, "connection error: desc = \"transport: authentication handshake failed: tls: "
                             "not that server\"");
    assert_int_equal(t.remote.calls, 0); /* nothing is signed for a server that is not believed */
    far_down(&t);
}

struct caller {
    struct far *far;
    cs_code code;
    char out[CS_ERR_TEXT_MAX];
};

static void *call_in_thread(void *arg)
{
    struct caller *c = arg;
    c->code = fx_call(c->far->client, "Worker", "hello", c->out, sizeof c->out);
    return NULL;
}

static void begin(struct caller *c, struct far *t, pthread_t *thread)
{
    *c = (struct caller){.far = t};
    set_hang(&t->remote, true);
    assert_int_equal(pthread_create(thread, NULL, call_in_thread, c), 0);
    await_inside(&t->remote);
}

/* The loop goes on, and with it everything else on it. */
static void test_signer_that_hangs_is_waited_for_alone(void **state)
{
    struct far t;
    struct caller c;
    pthread_t thread;
    char out[CS_ERR_TEXT_MAX];
    (void)state;
    far_up(&t, "P-256", 0, 0);
    begin(&c, &t, &thread);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(fx_call(t.fx.client, "Worker", "unix", out, sizeof out), CS_OK);
        assert_int_equal(fx_call(t.fx.tls_client, "Worker", "tls", out, sizeof out), CS_OK);
    }
    set_hang(&t.remote, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.code, CS_OK);
    assert_string_equal(c.out, "hello");
    far_down(&t);
}

/* A connection that is there serves on while another signature hangs: here of a second client. */
static void test_time_is_up(void **state)
{
    struct far t;
    struct caller c;
    pthread_t thread;
    (void)state;
    far_up(&t, "P-256", 0, 50 * CS_NS_PER_MS);
    begin(&c, &t, &thread);
    int64_t until = cs_mono_ns(&cs_clock_system) + 60 * CS_NS_PER_MS;
    const struct timespec step = {.tv_nsec = 1000000};
    while (cs_mono_ns(&cs_clock_system) < until)
        (void)nanosleep(&step, NULL);
    set_hang(&t.remote, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.code, CS_UNAVAILABLE);
    assert_string_equal(c.out, "connection error: desc = \"transport: authentication handshake failed: "
                               "context deadline exceeded\"");
    far_down(&t);
}

static void test_stopped_while_signing(void **state)
{
    struct far t;
    struct caller c;
    pthread_t thread;
    char out[CS_ERR_TEXT_MAX];
    (void)state;
    far_up(&t, "P-256", 0, 0);
    begin(&c, &t, &thread);
    rpc_client_stop(t.client);
    assert_int_equal(fx_call(t.client, "Worker", "x", out, sizeof out), CS_CANCELLED);
    set_hang(&t.remote, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.code, CS_CANCELLED);
    far_down(&t);
}

/* The other half of the server's work is the same as ever: no client certificate, no signature. */
static void test_other_certificate_is_refused(void **state)
{
    struct remote r = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    EVP_PKEY *other = NULL;
    struct cs_err e = {0};
    SSL_CTX *ctx = NULL;
    (void)state;
    struct cs_buf cert = fx_certificate("P-256", &other);
    struct cs_slice chain = cs_buf_slice(&cert);
    r.pkey = EVP_EC_gen("P-256");
    struct crypto_signer *signer = signer_of(&r);
    assert_int_not_equal(rpc_tls_client_ctx_signer(&chain, 1, signer, &ctx, &e), CS_OK);
    assert_null(ctx);
    assert_int_equal(ERR_peek_error(), 0);
    crypto_signer_unref(signer);
    assert_null(r.pkey);
    EVP_PKEY_free(other);
    cs_buf_free(&cert);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as the programs do */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_kinds_of_keys),
        cmocka_unit_test(test_pkcs1),
        cmocka_unit_test(test_signer_that_fails),
        cmocka_unit_test(test_signer_that_lies),
        cmocka_unit_test(test_server_that_is_refused),
        cmocka_unit_test(test_signer_that_hangs_is_waited_for_alone),
        cmocka_unit_test(test_time_is_up),
        cmocka_unit_test(test_stopped_while_signing),
        cmocka_unit_test(test_other_certificate_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
