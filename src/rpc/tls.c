/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/tls.h"

#include "base/mem.h"
#include "rpc/io.h"
#include "rpc/tls_provider.h"
#include "rpc/tls_signer.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

/* What Go's crypto/tls offers by default: AEAD with ephemeral ECDH. TLS 1.3's three are OpenSSL's own. */
#define CIPHERS                                                                                              \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                             \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                             \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define GROUPS "X25519:P-256:P-384"
#define MAX_CHAIN 16

static const unsigned char alpn_h2[] = {2, 'h', '2'};

static cs_code tls_err(struct cs_err *e, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return cs_fail(e, CS_INTERNAL, "tls: %s: %s", what, reason != NULL ? reason : "unknown error");
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in,
                       unsigned inlen, void *arg)
{
    (void)ssl;
    (void)arg;
    unsigned char *pick = NULL;
    if (SSL_select_next_proto(&pick, outlen, alpn_h2, sizeof alpn_h2, in, inlen) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = pick;
    return SSL_TLSEXT_ERR_OK;
}

/* Replaces OpenSSL's chain building: the owner of the connection judges the DER it was sent. */
static int verify_chain(X509_STORE_CTX *ctx, void *arg)
{
    (void)arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct rpc_io *io = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    STACK_OF(X509) *certs = X509_STORE_CTX_get0_untrusted(ctx);
    int count = certs != NULL ? sk_X509_num(certs) : 0;
    struct cs_slice chain[MAX_CHAIN];
    unsigned char *der[MAX_CHAIN] = {0};
    int n = 0;
    cs_code code = CS_DENIED;
    struct cs_err e = {0};
    if (io == NULL || count < 1 || count > MAX_CHAIN)
        goto out;
    for (; n < count; n++) {
        int len = i2d_X509(sk_X509_value(certs, n), &der[n]);
        if (len <= 0)
            goto out;
        chain[n] = cs_slice_of(der[n], (size_t)len);
    }
    code = io->ops->verify == NULL ? CS_OK : io->ops->verify(io, chain, (size_t)n, &e);
out:
    for (int i = 0; i < n; i++)
        OPENSSL_free(der[i]);
    /* X509_V_ERR_CERT_REJECTED is told to the peer as bad_certificate, as Go does */
    X509_STORE_CTX_set_error(ctx, code == CS_OK ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
    return code == CS_OK;
}

static cs_code use_chain(SSL_CTX *ctx, const struct cs_slice *chain, size_t count, EVP_PKEY *key,
                         struct cs_err *e)
{
    for (size_t i = 0; i < count; i++) {
        const unsigned char *p = chain[i].data;
        X509 *x = X509_new_ex(rpc_tls_libctx(), NULL);
        if (x == NULL)
            return cs_nomem(e);
        if (d2i_X509(&x, &p, (long)chain[i].len) == NULL || p != chain[i].data + chain[i].len) {
            X509_free(x);
            return tls_err(e, "unable to parse certificate");
        }
        int ok = i == 0 ? SSL_CTX_use_certificate(ctx, x) : SSL_CTX_add1_chain_cert(ctx, x);
        X509_free(x);
        if (ok != 1)
            return tls_err(e, "unable to use certificate");
    }
    if (count > 0 && SSL_CTX_use_PrivateKey(ctx, key) != 1)
        return tls_err(e, "private key does not match the certificate");
    return CS_OK;
}

static cs_code new_ctx(const SSL_METHOD *method, const struct cs_slice *chain, size_t count, EVP_PKEY *key,
                       SSL_CTX **out, struct cs_err *e)
{
    *out = NULL;
    SSL_CTX *ctx = SSL_CTX_new_ex(rpc_tls_libctx(), NULL, method);
    if (ctx == NULL)
        return cs_nomem(e);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_cert_verify_callback(ctx, verify_chain, NULL);
    cs_code code = CS_OK;
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS) != 1 || SSL_CTX_set1_groups_list(ctx, GROUPS) != 1)
        code = tls_err(e, "unable to set up a context");
    if (code == CS_OK)
        code = use_chain(ctx, chain, count, key, e);
    if (code == CS_OK)
        *out = ctx;
    else
        SSL_CTX_free(ctx);
    return code;
}

cs_code rpc_tls_server_ctx(const struct cs_slice *chain, size_t count, EVP_PKEY *key, SSL_CTX **out,
                           struct cs_err *e)
{
    *out = NULL;
    if (count == 0 || key == NULL)
        return cs_fail(e, CS_INTERNAL, "tls: a server needs a certificate and a key");
    CS_TRY(new_ctx(TLS_server_method(), chain, count, key, out, e));
    SSL_CTX_set_verify(*out, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_select_cb(*out, select_alpn, NULL);
    return CS_OK;
}

cs_code rpc_tls_client_ctx(const struct cs_slice *chain, size_t count, EVP_PKEY *key, SSL_CTX **out,
                           struct cs_err *e)
{
    CS_TRY(new_ctx(TLS_client_method(), chain, count, key, out, e));
    SSL_CTX_set_verify(*out, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_set_alpn_protos(*out, alpn_h2, sizeof alpn_h2) != 0) {
        SSL_CTX_free(*out);
        *out = NULL;
        return cs_nomem(e);
    }
    return CS_OK;
}

cs_code rpc_tls_client_ctx_signer(const struct cs_slice *chain, size_t count, struct crypto_signer *signer,
                                  SSL_CTX **out, struct cs_err *e)
{
    EVP_PKEY *key = NULL;
    *out = NULL;
    CS_TRY(rpc_tls_signer_pkey(signer, &key, e));
    cs_code code = rpc_tls_client_ctx(chain, count, key, out, e);
    EVP_PKEY_free(key);
    return code;
}

SSL_CTX *rpc_tls_ctx_ref(SSL_CTX *ctx)
{
    if (ctx != NULL)
        SSL_CTX_up_ref(ctx);
    return ctx;
}

void rpc_tls_ctx_unref(SSL_CTX *ctx)
{
    SSL_CTX_free(ctx);
}
