/* SPDX-License-Identifier: Apache-2.0
 *
 * A server with the echo service on a Unix socket and on TLS, and clients for both.
 */
#ifndef CS_TESTS_RPC_FIXTURE_H
#define CS_TESTS_RPC_FIXTURE_H

#include "echo.h"
#include "rpc/client.h"
#include "rpc/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

struct fixture {
    char dir[64], path[128], address[64];
    struct echo echo;
    struct rpc_health health;
    struct rpc_service services[2];
    struct rpc_server *server;
    struct loop *loop;
    struct rpc_client *client, *tls_client;
    SSL_CTX *server_ctx, *client_ctx;
    _Atomic bool refuse_client, refuse_server;
    _Atomic int verified;
};

static inline SSL_CTX *fx_get_ctx(void *arg)
{
    struct fixture *f = arg;
    return rpc_tls_ctx_ref(f->server_ctx);
}
static inline cs_code fx_verify_client(void *arg, const struct cs_slice *chain, size_t count,
                                       void **conn_data, void (**destroy)(void *), struct cs_err *e)
{
    struct fixture *f = arg;
    (void)conn_data;
    (void)destroy;
    assert_true(count == 1 && chain[0].len > 0 && chain[0].data[0] == 0x30);
    atomic_fetch_add(&f->verified, 1);
    return atomic_load(&f->refuse_client) ? cs_fail(e, CS_DENIED, "not you") : CS_OK;
}
static inline cs_code fx_verify_server(void *arg, const struct cs_slice *chain, size_t count,
                                       struct cs_err *e)
{
    struct fixture *f = arg;
    assert_true(count == 1 && chain[0].len > 0);
    return atomic_load(&f->refuse_server) ? cs_fail(e, CS_DENIED, "tls: not that server") : CS_OK;
}

/* Self-signed; key is P-256, P-384 or RSA. */
static inline struct cs_buf fx_certificate(const char *kind, EVP_PKEY **key)
{
    *key = kind[0] == 'R' ? EVP_RSA_gen(2048) : EVP_EC_gen(kind);
    assert_non_null(*key);
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, *key);
    assert_true(X509_sign(x, *key, EVP_sha256()) > 0);
    unsigned char *der = NULL;
    int len = i2d_X509(x, &der);
    assert_true(len > 0);
    struct cs_buf out = {0};
    cs_buf_add(&out, der, (size_t)len);
    OPENSSL_free(der);
    X509_free(x);
    return out;
}

static inline SSL_CTX *fx_ctx(const char *kind, bool server)
{
    EVP_PKEY *key = NULL;
    struct cs_buf cert = fx_certificate(kind, &key);
    struct cs_slice chain = cs_buf_slice(&cert);
    SSL_CTX *ctx = NULL;
    struct cs_err e = {0};
    cs_code code =
        server ? rpc_tls_server_ctx(&chain, 1, key, &ctx, &e) : rpc_tls_client_ctx(&chain, 1, key, &ctx, &e);
    if (code != CS_OK)
        fail_msg("%s", e.text);
    EVP_PKEY_free(key);
    cs_buf_free(&cert);
    return ctx;
}

static inline void fx_listen(struct fixture *f, struct rpc_listener l)
{
    struct cs_err e = {0};
    l.services = f->services;
    l.service_count = 2;
    l.arg = &f->echo;
    l.begin = echo_begin;
    l.end = echo_end;
    if (rpc_server_listen(f->server, &l, &e) != CS_OK)
        fail_msg("%s", e.text);
}

static inline struct rpc_client *fx_client(struct fixture *f, const struct rpc_client_config *cfg)
{
    struct rpc_client *c = NULL;
    struct cs_err e = {0};
    if (rpc_client_new(f->loop, cfg, &c, &e) != CS_OK)
        fail_msg("%s", e.text);
    return c;
}

static inline void fx_up(struct fixture *f, const struct rpc_server_config *cfg)
{
    struct cs_err e = {0};
    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/cs-rpc-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/s.sock", f->dir);
    f->health = (struct rpc_health){echo_health_status, NULL};
    f->services[0] = (struct rpc_service){"test.Echo", echo_methods,
                                          sizeof echo_methods / sizeof echo_methods[0], &f->echo};
    f->services[1] =
        (struct rpc_service){RPC_HEALTH_SERVICE, rpc_health_methods, rpc_health_method_count, &f->health};
    f->server_ctx = fx_ctx("P-256", true);
    f->client_ctx = fx_ctx("P-256", false);
    if (rpc_server_new(cfg, &f->server, &e) != CS_OK)
        fail_msg("%s", e.text);
    fx_listen(f, (struct rpc_listener){.unix_path = f->path, .unix_mode = 0700});
    fx_listen(f,
              (struct rpc_listener){.tcp_address = "127.0.0.1:0", .tls = {fx_get_ctx, fx_verify_client, f}});
    snprintf(f->address, sizeof f->address, "127.0.0.1:%d", rpc_server_port(f->server, 0));
    assert_int_equal(loop_new("client", &f->loop, &e), CS_OK);
    assert_int_equal(loop_start(f->loop, &e), CS_OK);
    f->client = fx_client(f, &(struct rpc_client_config){.unix_path = f->path});
    f->tls_client = fx_client(
        f, &(struct rpc_client_config){
               .tcp_address = f->address, .tls = f->client_ctx, .verify = fx_verify_server, .arg = f});
}

static inline void fx_down(struct fixture *f)
{
    rpc_client_free(f->client);
    rpc_client_free(f->tls_client);
    rpc_server_shutdown(f->server, CS_NS_PER_S);
    rpc_server_free(f->server);
    loop_free(f->loop);
    rpc_tls_ctx_unref(f->server_ctx);
    rpc_tls_ctx_unref(f->client_ctx);
    assert_int_not_equal(access(f->path, F_OK), 0);
    assert_int_equal(rmdir(f->dir), 0);
    assert_int_equal(f->echo.opened - f->echo.closed,
                     f->echo.closed < f->echo.opened ? f->echo.opened - f->echo.closed : 0);
    assert_int_equal(f->echo.begun, f->echo.ended);
}

/* A unary call with texts. The answer (or the error text) is in `out`. */
static inline cs_code fx_call(struct rpc_client *c, const char *method, const char *in, char *out, size_t cap)
{
    struct cs_err e = {0};
    struct cs_buf response = {0};
    char path[64];
    snprintf(path, sizeof path, "/test.Echo/%s", method);
    cs_code code =
        rpc_client_unary(c, path, cs_slice_str(in), &response, NULL, 0, 20 * CS_NS_PER_S, NULL, &e);
    snprintf(out, cap, "%s", code == CS_OK ? cs_buf_cstr(&response) : e.text);
    cs_buf_free(&response);
    return code;
}

#endif
