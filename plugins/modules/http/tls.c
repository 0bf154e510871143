/* SPDX-License-Identifier: Apache-2.0
 *
 * How the server is known, and who we are to it.
 */
#include "plugins/modules/http/internal.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

#define CHAIN_MAX 16

/* --- Verification by the caller --- */

struct chain {
    struct cs_slice at[CHAIN_MAX];
    unsigned char *owned[CHAIN_MAX];
    size_t count;
};

static void chain_free(struct chain *c)
{
    for (size_t i = 0; i < c->count; i++)
        OPENSSL_free(c->owned[i]);
}

static cs_code chain_read(X509_STORE_CTX *x, struct chain *c, struct cs_err *e)
{
    STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(x);
    const int n = sent != NULL ? sk_X509_num(sent) : 0;
    if (n < 1 || n > CHAIN_MAX)
        return cs_fail(e, CS_UNAUTHENTICATED, "the server sent %d certificates", n);
    for (int i = 0; i < n; i++) {
        int len = i2d_X509(sk_X509_value(sent, i), &c->owned[i]);
        if (len <= 0)
            return cs_nomem(e);
        c->at[i] = cs_slice_of(c->owned[i], (size_t)len);
        c->count++;
    }
    return CS_OK;
}

static cs_code verify_by_caller(const struct http_client_options *o, X509_STORE_CTX *x, struct cs_err *e)
{
    CS_CLEANUP(chain_free) struct chain c = {0};
    CS_TRY(chain_read(x, &c, e));
    cs_code rc = o->verify(o->verify_arg, c.at, c.count, e);
    if (e->code != rc) /* it may leave the text to us */
        (void)cs_fail(e, rc, "the server is not who it should be");
    return rc;
}

/* OpenSSL's own way, but for saying what was wrong: libcurl reports the first thing in the error queue. */
static cs_code verify_by_roots(X509_STORE_CTX *x, struct cs_err *e)
{
    if (X509_verify_cert(x) == 1)
        return CS_OK;
    return cs_fail(e, CS_UNAUTHENTICATED, "the server's certificate: %s",
                   X509_verify_cert_error_string(X509_STORE_CTX_get_error(x)));
}

static int verify(X509_STORE_CTX *x, void *arg)
{
    struct http_transfer *t = arg;
    const struct http_client_options *o = &t->client->o;
    cs_code rc = o->verify != NULL ? verify_by_caller(o, x, &t->fault) : verify_by_roots(x, &t->fault);
    if (rc != CS_OK && o->verify != NULL)
        X509_STORE_CTX_set_error(x, X509_V_ERR_APPLICATION_VERIFICATION);
    return rc == CS_OK ? 1 : 0;
}

/* libcurl has set everything else on the context, which lives as long as the connection; the transfer does
 * not, so there is no second handshake. */
static CURLcode on_context(CURL *curl, void *context, void *arg)
{
    (void)curl;
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_cert_verify_callback(context, verify, arg);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return CURLE_OK;
}

/* --- Options --- */

static bool set_blob(CURL *curl, CURLoption option, struct cs_slice data)
{
    struct curl_blob blob = {
        .data = (void *)(uintptr_t)data.data, .len = data.len, .flags = CURL_BLOB_NOCOPY};
    return curl_easy_setopt(curl, option, &blob) == CURLE_OK;
}

static bool set_client_cert(CURL *curl, const struct http_client_options *o)
{
    return o->client_cert.len == 0 || (curl_easy_setopt(curl, CURLOPT_SSLCERTTYPE, "PEM") == CURLE_OK &&
                                       curl_easy_setopt(curl, CURLOPT_SSLKEYTYPE, "PEM") == CURLE_OK &&
                                       set_blob(curl, CURLOPT_SSLCERT_BLOB, o->client_cert) &&
                                       set_blob(curl, CURLOPT_SSLKEY_BLOB, o->client_key));
}

static bool set_roots(CURL *curl, const struct http_client_options *o)
{
    if (o->ca.len > 0)
        return set_blob(curl, CURLOPT_CAINFO_BLOB, o->ca);
    return o->ca_file == NULL || curl_easy_setopt(curl, CURLOPT_CAINFO, o->ca_file) == CURLE_OK;
}

bool http_tls_setup(struct http_transfer *t)
{
    const struct http_client_options *o = &t->client->o;
    const bool own = o->verify != NULL;
    CURL *curl = t->curl;
    return curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, own || o->insecure ? 0L : 1L) == CURLE_OK &&
           curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, own || o->insecure || o->any_name ? 0L : 2L) ==
               CURLE_OK &&
           set_roots(curl, o) && set_client_cert(curl, o) &&
           (o->insecure || (curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, on_context) == CURLE_OK &&
                            curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, t) == CURLE_OK));
}
