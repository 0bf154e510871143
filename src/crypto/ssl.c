/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/ssl.h"

#include "crypto/sig.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdio.h>

static struct {
    EVP_MD *md[4];
    EVP_PKEY *p256, *p384, *p521;
} algs;
static pthread_once_t algs_once = PTHREAD_ONCE_INIT;

static EVP_PKEY *curve_new(const char *name)
{
    char group[16];
    snprintf(group, sizeof group, "%s", name);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEY_PARAMETERS, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static void algs_make(void)
{
    static const char *const names[] = {"SHA1", "SHA256", "SHA384", "SHA512"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        algs.md[i] = EVP_MD_fetch(NULL, names[i], NULL);
    algs.p256 = curve_new("P-256");
    algs.p384 = curve_new("P-384");
    algs.p521 = curve_new("P-521");
    ERR_clear_error();
}

const EVP_MD *crypto_md(enum crypto_hash h)
{
    pthread_once(&algs_once, algs_make);
    return algs.md[h];
}

EVP_PKEY *crypto_curve(enum crypto_key_type t)
{
    pthread_once(&algs_once, algs_make);
    switch (t) {
    case CRYPTO_EC_P256:
        return algs.p256;
    case CRYPTO_EC_P384:
        return algs.p384;
    case CRYPTO_EC_P521:
        return algs.p521;
    default:
        return NULL;
    }
}

bool crypto_set_padding(EVP_PKEY_CTX *ctx, enum crypto_sig alg)
{
    if (crypto_sig_is_ecdsa(alg))
        return true;
    if (EVP_PKEY_CTX_set_signature_md(ctx, crypto_md(crypto_sig_hash(alg))) != 1)
        return false;
    if (!crypto_sig_is_pss(alg))
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

cs_code crypto_ssl_fail(struct cs_err *e, cs_code code, const char *fmt, ...)
{
    char text[CS_ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ERR_clear_error();
    return cs_fail(e, code, "%s", text);
}
