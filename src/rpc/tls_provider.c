/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/tls_provider.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define MAX_ROWS 32

/* Written once, under `once`. */
static struct {
    OSSL_PROVIDER *source; /* "default" in the process's own context */
    OSSL_LIB_CTX *libctx;
    OSSL_ALGORITHM decoders[MAX_ROWS], managers[MAX_ROWS];
} tls;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* One of the alternatives in "EC:id-ecPublicKey:1.2.840.10045.2.1" is `name`. */
static bool has_name(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = names; p != NULL; p = strchr(p, ':')) {
        if (*p == ':')
            p++;
        if (strncmp(p, name, n) == 0 && (p[n] == '\0' || p[n] == ':'))
            return true;
    }
    return false;
}

static bool is_wanted(const OSSL_ALGORITHM *a, const char *const *names, const char *property)
{
    if (property != NULL &&
        (a->property_definition == NULL || strstr(a->property_definition, property) == NULL))
        return false;
    for (; *names != NULL; names++) {
        if (has_name(a->algorithm_names, *names))
            return true;
    }
    return false;
}

/* The rows of the default provider that are wanted; false when there is none, or too many. */
static bool pick(int operation, const char *const *names, const char *property, OSSL_ALGORITHM *out)
{
    int no_cache = 0;
    size_t n = 0;
    const OSSL_ALGORITHM *a = OSSL_PROVIDER_query_operation(tls.source, operation, &no_cache);
    for (; a != NULL && a->algorithm_names != NULL; a++) {
        if (!is_wanted(a, names, property))
            continue;
        if (n + 1 >= MAX_ROWS)
            return false;
        out[n++] = *a;
    }
    return n > 0;
}

/* --- The provider: the default one's context and functions, fewer rows --- */

static const OSSL_ALGORITHM *query(void *provctx, int operation, int *no_cache)
{
    (void)provctx;
    *no_cache = 0;
    if (operation == OSSL_OP_DECODER)
        return tls.decoders;
    if (operation == OSSL_OP_KEYMGMT)
        return tls.managers;
    if (operation == OSSL_OP_ENCODER || operation == OSSL_OP_STORE)
        return NULL;
    return OSSL_PROVIDER_query_operation(tls.source, operation, no_cache);
}

static int capabilities(void *provctx, const char *capability, OSSL_CALLBACK *cb, void *arg)
{
    (void)provctx;
    return OSSL_PROVIDER_get_capabilities(tls.source, capability, cb, arg);
}

static const OSSL_PARAM *gettable(void *provctx)
{
    (void)provctx;
    return OSSL_PROVIDER_gettable_params(tls.source);
}

static int get_params(void *provctx, OSSL_PARAM params[])
{
    (void)provctx;
    return OSSL_PROVIDER_get_params(tls.source, params);
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                         void **provctx)
{
    static const OSSL_DISPATCH table[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
        {OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))gettable},
        {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))get_params},
        {0, NULL},
    };
    (void)handle;
    (void)in;
    *out = table;
    *provctx = OSSL_PROVIDER_get0_provider_ctx(tls.source);
    return *provctx != NULL;
}

static bool make(void)
{
    static const char *const decoders[] = {"EC", "RSA", NULL};
    /* RSA-PSS is asked for by TLS when it makes its list of signatures, for plain RSA keys too */
    static const char *const managers[] = {"EC",   "RSA",  "RSA-PSS",  "X25519",
                                           "HMAC", "HKDF", "TLS1-PRF", NULL};
    tls.source = OSSL_PROVIDER_load(NULL, "default");
    if (tls.source == NULL ||
        !pick(OSSL_OP_DECODER, decoders, "structure=SubjectPublicKeyInfo", tls.decoders) ||
        !pick(OSSL_OP_KEYMGMT, managers, NULL, tls.managers))
        return false;
    tls.libctx = OSSL_LIB_CTX_new();
    if (tls.libctx == NULL || OSSL_PROVIDER_add_builtin(tls.libctx, "cspire-tls", provider_init) != 1 ||
        OSSL_PROVIDER_load(tls.libctx, "cspire-tls") == NULL)
        return false;
    return RAND_status() == 1 && RAND_get0_primary(tls.libctx) != NULL;
}

static void make_once(void)
{
    if (!make()) {
        OSSL_LIB_CTX_free(tls.libctx);
        tls.libctx = NULL;
    }
    ERR_clear_error();
}

OSSL_LIB_CTX *rpc_tls_libctx(void)
{
    pthread_once(&once, make_once);
    return tls.libctx;
}
