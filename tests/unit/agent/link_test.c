/* SPDX-License-Identifier: Apache-2.0
 *
 * The way to the server with a key that is elsewhere: a fake signer that answers, fails and hangs.
 */
#include "agent/link.h"

#include "crypto/x509_issue.h"
#include "spiffe/x509svid.h"
#include "tests/unit/rpc/fixture.h"
#include "types.pb-c.h"

#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

/* --- Certificates --- */

struct authority {
    struct crypto_key *key;
    struct crypto_signer *signer;
    struct x509_cert *cert;
    struct x509_issuer *issuer;
};

static struct x509_cert *parse(const struct cs_buf *der)
{
    struct x509_cert *out;
    assert_int_equal(x509_cert_parse(cs_buf_slice(der), &out, NULL), CS_OK);
    return out;
}

static void authority_make(struct authority *a)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    int64_t now = cs_now_s(&cs_clock_system);
    const struct x509_issue_params p = {
        .uri = cs_slice_str("spiffe://example.org"), .not_before = now - 60, .not_after = now + 3600};
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &a->key, NULL), CS_OK);
    assert_int_equal(crypto_signer_of_key(a->key, &a->signer, NULL), CS_OK);
    assert_int_equal(x509_issue_self_signed(a->signer, &p, &der, NULL), CS_OK);
    a->cert = parse(&der);
    assert_int_equal(x509_issuer_new(a->cert, a->signer, &a->issuer, NULL), CS_OK);
}

static void authority_free(struct authority *a)
{
    x509_issuer_unref(a->issuer);
    x509_cert_unref(a->cert);
    crypto_signer_unref(a->signer);
    crypto_key_unref(a->key);
}

static struct x509_cert *issue(const struct authority *a, const struct crypto_key *key, const char *id)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    int64_t now = cs_now_s(&cs_clock_system);
    const struct x509_issue_params p = {
        .spki = crypto_pub_spki(crypto_key_pub(key)),
        .uri = cs_slice_str(id),
        .not_before = now - 60,
        .not_after = now + 3600,
    };
    assert_int_equal(x509_issue_svid(a->issuer, &p, &der, NULL, NULL), CS_OK);
    return parse(&der);
}

/* --- The signer --- */

struct remote {
    struct crypto_signer *local; /* does the work */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hang, inside, fail;
    unsigned calls;
};

/* The digest is all that a signer gets; a local key signs it through OpenSSL. */
static cs_code remote_sign(void *arg, enum crypto_sig alg, struct cs_slice digest, struct cs_buf *out,
                           struct cs_err *e)
{
    struct remote *r = arg;
    pthread_mutex_lock(&r->lock);
    r->calls++;
    r->inside = true;
    pthread_cond_broadcast(&r->changed);
    while (r->hang)
        pthread_cond_wait(&r->changed, &r->lock);
    r->inside = false;
    bool bad = r->fail;
    pthread_mutex_unlock(&r->lock);
    if (bad)
        return cs_fail(e, CS_UNAVAILABLE, "keymanager(far): not there");
    assert_int_equal(alg, CRYPTO_ECDSA_SHA256);
    uint8_t sig[128];
    size_t len = sizeof sig;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(crypto_key_pkey(crypto_signer_key(r->local)), NULL);
    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    assert_int_equal(EVP_PKEY_sign(ctx, sig, &len, digest.data, digest.len), 1);
    EVP_PKEY_CTX_free(ctx);
    cs_buf_add(out, sig, len);
    return CS_OK;
}

static void remote_free(void *arg)
{
    (void)arg;
}

static const struct crypto_signer_ops remote_ops = {remote_sign, remote_free};

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

/* --- A link to a server that asks for a certificate --- */

struct world {
    struct fixture fx;
    struct authority ca;
    struct remote remote;
    struct crypto_signer *signer;
    struct agent_link *link, *local;
    struct spiffe_bundle *bundle;
};

static void use_server_svid(struct world *w)
{
    CS_AUTO(crypto_key) key = NULL;
    CS_AUTO(x509_cert) cert = NULL;
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &key, NULL), CS_OK);
    cert = issue(&w->ca, key, "spiffe://example.org/spire/server");
    rpc_tls_ctx_unref(w->fx.server_ctx);
    assert_int_equal(rpc_tls_server_ctx(&cert->der, 1, crypto_key_pkey(key), &w->fx.server_ctx, NULL), CS_OK);
}

static struct agent_link *link_with(struct world *w, struct x509_cert *cert, struct crypto_signer *key)
{
    struct agent_link *l;
    const struct agent_link_config cfg = {
        .loop = w->fx.loop,
        .clock = &cs_clock_system,
        .address = w->fx.address,
        .trust_domain = "example.org",
    };
    const struct x509_chain chain = {.at = &cert, .count = 1};
    assert_int_equal(agent_link_new(&cfg, &l, NULL), CS_OK);
    agent_link_set_bundle(l, w->bundle);
    assert_int_equal(agent_link_set_identity(l, &chain, key, NULL), CS_OK);
    return l;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    CS_AUTO(crypto_key) key = NULL;
    CS_AUTO(x509_cert) cert = NULL;
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    fx_up(&w->fx, &(struct rpc_server_config){0});
    authority_make(&w->ca);
    use_server_svid(w);
    assert_int_equal(spiffe_bundle_builder_new(cs_slice_str("example.org"), &b, NULL), CS_OK);
    assert_int_equal(spiffe_bundle_add_x509(b, w->ca.cert, false, NULL), CS_OK);
    assert_int_equal(spiffe_bundle_build(b, &w->bundle, NULL), CS_OK);
    assert_int_equal(crypto_key_generate(CRYPTO_EC_P256, &key, NULL), CS_OK);
    cert = issue(&w->ca, key, "spiffe://example.org/spire/agent/a");
    w->remote = (struct remote){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    assert_int_equal(crypto_signer_of_key(key, &w->remote.local, NULL), CS_OK);
    assert_int_equal(crypto_signer_new(&remote_ops, &w->remote, crypto_key_pub(key), &w->signer, NULL),
                     CS_OK);
    w->link = link_with(w, cert, w->signer);
    w->local = link_with(w, cert, w->remote.local);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    set_hang(&w->remote, false);
    agent_link_free(w->link);
    agent_link_free(w->local);
    crypto_signer_unref(w->signer);
    crypto_signer_unref(w->remote.local);
    spiffe_bundle_unref(w->bundle);
    authority_free(&w->ca);
    fx_down(&w->fx);
    free(w);
    return 0;
}

/* A message goes there and comes back. */
static cs_code call(struct agent_link *l, struct cs_err *e)
{
    Types__SPIFFEID id = TYPES__SPIFFEID__INIT;
    id.path = (char *)(uintptr_t) "/there/and/back";
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf response = {0};
    struct agent_failure failure;
    assert_int_equal(proto_pack(&id.base, &packed, NULL), CS_OK);
    cs_code rc =
        agent_link_call_raw(l, "/test.Echo/Worker", &id.base, &response, 20 * CS_NS_PER_S, &failure, e);
    if (rc == CS_OK)
        assert_true(cs_slice_eq(cs_buf_slice(&packed), cs_buf_slice(&response)));
    return rc;
}

/* --- Tests --- */

static void test_signed_elsewhere(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    for (int i = 0; i < 3; i++)
        if (call(w->link, &e) != CS_OK)
            fail_msg("%s", e.text);
    assert_int_equal(w->remote.calls, 1);
    assert_int_equal(w->fx.verified, 1); /* the server saw the certificate */
    agent_link_release(w->link);         /* the next call connects anew */
    assert_int_equal(call(w->link, &e), CS_OK);
    assert_int_equal(w->remote.calls, 2);
    assert_int_equal(w->fx.verified, 2);
}

static void test_local_keys_are_no_concern(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    assert_int_equal(call(w->local, &e), CS_OK);
    assert_int_equal(w->remote.calls, 0);
    assert_int_equal(w->fx.verified, 1);
}

static void test_failure_is_told_and_got_over(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    w->remote.fail = true;
    assert_int_equal(call(w->link, &e), CS_UNAVAILABLE);
    assert_non_null(strstr(e.text, "authentication handshake failed: tls: keymanager(far): not there"));
    w->remote.fail = false;
    assert_int_equal(call(w->link, &e), CS_OK);
}

struct caller {
    struct agent_link *link;
    cs_code rc;
    struct cs_err err;
};

static void *call_in_thread(void *arg)
{
    struct caller *c = arg;
    c->rc = call(c->link, &c->err);
    return NULL;
}

/* Connections of others on the same loop serve on, and so do timers and what is posted. */
static void test_hanging_signer_is_waited_for_alone(void **state)
{
    struct world *w = *state;
    struct caller c = {.link = w->link};
    struct cs_err e = {0};
    pthread_t thread;
    set_hang(&w->remote, true);
    assert_int_equal(pthread_create(&thread, NULL, call_in_thread, &c), 0);
    await_inside(&w->remote);
    for (int i = 0; i < 20; i++)
        assert_int_equal(call(w->local, &e), CS_OK);
    set_hang(&w->remote, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.rc, CS_OK);
}

static void test_stopped_while_it_hangs(void **state)
{
    struct world *w = *state;
    struct caller c = {.link = w->link};
    pthread_t thread;
    set_hang(&w->remote, true);
    assert_int_equal(pthread_create(&thread, NULL, call_in_thread, &c), 0);
    await_inside(&w->remote);
    agent_link_stop(w->link); /* whoever owns the plugins ends the signer's call */
    set_hang(&w->remote, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(c.rc, CS_CANCELLED);
    assert_int_equal(w->fx.echo.opened, 0);
}

/* A server that takes the connection and says nothing: stopping does not wait for the time to connect. */
static void test_stopped_while_connecting(void **state)
{
    struct world *w = *state;
    struct cs_err e = {0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof sa;
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    char address[64];
    (void)snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(sa.sin_port));
    const struct agent_link_config cfg = {
        .loop = w->fx.loop,
        .clock = &cs_clock_system,
        .address = address,
        .trust_domain = "example.org",
    };
    struct caller c = {0};
    pthread_t thread;
    assert_int_equal(agent_link_new(&cfg, &c.link, NULL), CS_OK);
    agent_link_set_bundle(c.link, w->bundle);
    assert_int_equal(pthread_create(&thread, NULL, call_in_thread, &c), 0);
    int peer = accept(fd, NULL, NULL);
    assert_true(peer >= 0);
    int64_t begun = cs_mono_ns(&cs_clock_system);
    agent_link_stop(c.link);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(cs_mono_ns(&cs_clock_system) - begun < 5 * CS_NS_PER_S);
    assert_int_equal(c.rc, CS_CANCELLED);
    assert_int_equal(call(c.link, &e), CS_CANCELLED);
    agent_link_free(c.link);
    close(peer);
    close(fd);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    (void)signal(SIGPIPE, SIG_IGN); /* as the agent does */
    const struct CMUnitTest tests[] = {
        T(test_signed_elsewhere),
        T(test_local_keys_are_no_concern),
        T(test_failure_is_told_and_got_over),
        T(test_hanging_signer_is_waited_for_alone),
        T(test_stopped_while_it_hangs),
        T(test_stopped_while_connecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
