/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/tls_signer.h"

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

/* The one parameter with which a key is made: a pointer to a crypto_signer. */
#define PARAM_SIGNER "cspire-signer"
#define REASON_SIGNER 1 /* of ERR_LIB_USER */
#define SIGNATURE_MAX 1024
#define POINT_MAX 133 /* P-521, uncompressed */

/* --- Keys --- */

struct remote_key {
    struct crypto_signer *signer; /* NULL: not imported yet */
};

static bool is_ec(enum crypto_key_type t)
{
    return t == CRYPTO_EC_P256 || t == CRYPTO_EC_P384 || t == CRYPTO_EC_P521;
}

static bool is_rsa(enum crypto_key_type t)
{
    return t == CRYPTO_RSA_2048 || t == CRYPTO_RSA_4096 || t == CRYPTO_RSA_OTHER;
}

/* OpenSSL's TLS knows these names only, not "P-256". */
static const char *group_of(enum crypto_key_type t)
{
    return t == CRYPTO_EC_P256 ? "prime256v1" : t == CRYPTO_EC_P384 ? "secp384r1" : "secp521r1";
}

static void *key_new(void *provctx)
{
    (void)provctx;
    return cs_calloc(1, sizeof(struct remote_key));
}

static void key_free(void *keydata)
{
    struct remote_key *k = keydata;
    if (k == NULL)
        return;
    crypto_signer_unref(k->signer);
    cs_free(k);
}

static int key_has(const void *keydata, int selection)
{
    const struct remote_key *k = keydata;
    (void)selection; /* parameters and both halves; the private one acts, and is not shown */
    return k != NULL && k->signer != NULL;
}

static int key_match(const void *a, const void *b, int selection)
{
    const struct remote_key *x = a;
    const struct remote_key *y = b;
    (void)selection;
    return x->signer != NULL && y->signer != NULL &&
           crypto_pub_equal(crypto_signer_pub(x->signer), crypto_signer_pub(y->signer));
}

static int key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    struct remote_key *k = keydata;
    (void)selection;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, PARAM_SIGNER);
    struct crypto_signer *signer = NULL;
    if (k == NULL || k->signer != NULL || p == NULL || p->data_type != OSSL_PARAM_OCTET_STRING ||
        p->data_size != sizeof signer)
        return 0;
    memcpy(&signer, p->data, sizeof signer);
    k->signer = crypto_signer_ref(signer);
    return 1;
}

static const OSSL_PARAM *key_import_types(int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_octet_string(PARAM_SIGNER, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)selection;
    return types;
}

static bool push_public(OSSL_PARAM_BLD *b, const struct crypto_signer *s, uint8_t point[POINT_MAX],
                        BIGNUM **n, BIGNUM **exp)
{
    struct cs_slice x, y;
    enum crypto_key_type t = crypto_signer_type(s);
    crypto_pub_parts(crypto_signer_pub(s), &x, &y);
    if (is_ec(t)) {
        point[0] = 4; /* uncompressed: SEC 1 section 2.3.3 */
        memcpy(point + 1, x.data, x.len);
        memcpy(point + 1 + x.len, y.data, y.len);
        return OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, group_of(t), 0) == 1 &&
               OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + x.len + y.len) == 1;
    }
    *n = BN_bin2bn(x.data, (int)x.len, NULL);
    *exp = BN_bin2bn(y.data, (int)y.len, NULL);
    return *n != NULL && *exp != NULL && OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, *n) == 1 &&
           OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, *exp) == 1;
}

/* Only the public half, for comparing it with a certificate's. That the private one is refused makes OpenSSL
 * sign with the functions below and not with those of its own provider. */
static int key_export(void *keydata, int selection, OSSL_CALLBACK *cb, void *arg)
{
    const struct remote_key *k = keydata;
    uint8_t point[POINT_MAX];
    BIGNUM *n = NULL;
    BIGNUM *exp = NULL;
    OSSL_PARAM *params = NULL;
    if (k == NULL || k->signer == NULL || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0)
        return 0;
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    if (b != NULL && push_public(b, k->signer, point, &n, &exp))
        params = OSSL_PARAM_BLD_to_param(b);
    int ok = params != NULL && cb(params, arg);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(b);
    BN_free(n);
    BN_free(exp);
    return ok;
}

static const OSSL_PARAM *key_export_types(int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_END,
    };
    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 ? types : NULL;
}

/* NIST SP 800-57 part 1, table 2. */
static int security_bits(enum crypto_key_type t, int bits)
{
    if (is_ec(t))
        return bits / 2;
    return bits >= 15360 ? 256 : bits >= 7680 ? 192 : bits >= 3072 ? 128 : bits >= 2048 ? 112 : 80;
}

static int set_int(OSSL_PARAM params[], const char *key, int value)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, key);
    return p == NULL || OSSL_PARAM_set_int(p, value);
}

static int key_get_params(void *keydata, OSSL_PARAM params[])
{
    const struct remote_key *k = keydata;
    if (k == NULL || k->signer == NULL)
        return 0;
    enum crypto_key_type t = crypto_signer_type(k->signer);
    int bits = crypto_pub_bits(crypto_signer_pub(k->signer));
    /* ECDSA-Sig-Value: two integers of the order's length, each with a header and a zero byte at most */
    int size = is_ec(t) ? 2 * ((bits + 7) / 8 + 3) + 3 : (bits + 7) / 8;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_GROUP_NAME);
    if (p != NULL && (!is_ec(t) || !OSSL_PARAM_set_utf8_string(p, group_of(t))))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_DEFAULT_DIGEST);
    if (p != NULL && !OSSL_PARAM_set_utf8_string(p, "SHA256"))
        return 0;
    return set_int(params, OSSL_PKEY_PARAM_BITS, bits) &&
           set_int(params, OSSL_PKEY_PARAM_SECURITY_BITS, security_bits(t, bits)) &&
           set_int(params, OSSL_PKEY_PARAM_MAX_SIZE, size);
}

static const OSSL_PARAM *key_gettable(void *provctx)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return types;
}

static const char *ec_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

static const char *rsa_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "RSA" : NULL;
}

/* --- Signatures --- */

struct signing {
    struct crypto_signer *signer; /* NULL before digest_sign_init */
    enum crypto_hash hash;
    bool pss;
};

static void *sign_new(void *provctx, const char *propq)
{
    (void)provctx;
    (void)propq;
    return cs_calloc(1, sizeof(struct signing));
}

static void sign_free(void *ctx)
{
    struct signing *s = ctx;
    if (s == NULL)
        return;
    crypto_signer_unref(s->signer);
    cs_free(s);
}

static bool parse_hash(const char *name, enum crypto_hash *out)
{
    static const struct {
        const char *names[2];
        enum crypto_hash hash;
    } rows[] = {
        {{"SHA256", "SHA2-256"}, CRYPTO_SHA256},
        {{"SHA384", "SHA2-384"}, CRYPTO_SHA384},
        {{"SHA512", "SHA2-512"}, CRYPTO_SHA512},
    };
    for (size_t i = 0; name != NULL && i < sizeof rows / sizeof rows[0]; i++) {
        if (strcasecmp(name, rows[i].names[0]) == 0 || strcasecmp(name, rows[i].names[1]) == 0) {
            *out = rows[i].hash;
            return true;
        }
    }
    return false;
}

/* Padding comes as OpenSSL's number or as a name. */
static bool set_padding(struct signing *s, const OSSL_PARAM *p)
{
    int mode = 0;
    if (p->data_type == OSSL_PARAM_UTF8_STRING && p->data != NULL) {
        s->pss = strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
        return s->pss || strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0;
    }
    if (!OSSL_PARAM_get_int(p, &mode))
        return false;
    s->pss = mode == RSA_PKCS1_PSS_PADDING;
    return s->pss || mode == RSA_PKCS1_PADDING;
}

/* A signer makes salts as long as the digest, and no others. */
static bool salt_fits(const OSSL_PARAM *p, enum crypto_hash hash)
{
    int len = 0;
    if (p->data_type == OSSL_PARAM_UTF8_STRING && p->data != NULL)
        return strcmp(p->data, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0;
    return OSSL_PARAM_get_int(p, &len) &&
           (len == RSA_PSS_SALTLEN_DIGEST || len == (int)crypto_hash_len(hash));
}

static int sign_set_params(void *ctx, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    if (params == NULL)
        return 1;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
    if (p != NULL && !set_padding(s, p))
        return 0;
    p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
    return p == NULL || salt_fits(p, s->hash);
}

static const OSSL_PARAM *sign_settable(void *ctx, void *provctx)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)ctx;
    (void)provctx;
    return types;
}

static int sign_init(void *ctx, const char *mdname, void *keydata, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    const struct remote_key *k = keydata;
    if (!parse_hash(mdname, &s->hash))
        return 0;
    if (k != NULL) {
        crypto_signer_unref(s->signer);
        s->signer = crypto_signer_ref(k->signer);
    }
    return s->signer != NULL && sign_set_params(ctx, params);
}

static enum crypto_sig scheme(const struct signing *s)
{
    int n = s->hash == CRYPTO_SHA256 ? 0 : s->hash == CRYPTO_SHA384 ? 1 : 2;
    static const enum crypto_sig ec[] = {CRYPTO_ECDSA_SHA256, CRYPTO_ECDSA_SHA384, CRYPTO_ECDSA_SHA512};
    static const enum crypto_sig rsa[] = {CRYPTO_RSA_SHA256, CRYPTO_RSA_SHA384, CRYPTO_RSA_SHA512};
    static const enum crypto_sig pss[] = {CRYPTO_PSS_SHA256, CRYPTO_PSS_SHA384, CRYPTO_PSS_SHA512};
    return is_ec(crypto_signer_type(s->signer)) ? ec[n] : s->pss ? pss[n] : rsa[n];
}

static int failed(const char *text)
{
    ERR_raise_data(ERR_LIB_USER, REASON_SIGNER, "%s", text);
    return 0;
}

static int sign_message(void *ctx, unsigned char *sig, size_t *siglen, size_t sigsize,
                        const unsigned char *msg, size_t len)
{
    const struct signing *s = ctx;
    uint8_t room[SIGNATURE_MAX];
    CS_CLEANUP(cs_buf_free) struct cs_buf out = cs_buf_on(room, sizeof room);
    struct cs_err e = {0};
    if (sig == NULL) {
        *siglen = SIGNATURE_MAX;
        return 1;
    }
    if (crypto_sign(s->signer, scheme(s), cs_slice_of(msg, len), &out, &e) != CS_OK)
        return failed(e.text);
    if (!cs_buf_ok(&out) || out.len == 0 || out.len > sigsize)
        return failed("the signature is too long");
    memcpy(sig, out.data, out.len);
    *siglen = out.len;
    return 1;
}

const char *rpc_tls_signer_error(void)
{
    const char *data = NULL;
    int flags = 0;
    unsigned long code = ERR_peek_error_data(&data, &flags);
    bool ours = ERR_GET_LIB(code) == ERR_LIB_USER && ERR_GET_REASON(code) == REASON_SIGNER;
    return ours && data != NULL && (flags & ERR_TXT_STRING) != 0 ? data : NULL;
}

/* --- The provider --- */

#define FN(f) ((void (*)(void))(f))
#define KEY_FUNCTIONS(operation)                                                                             \
    {OSSL_FUNC_KEYMGMT_NEW, FN(key_new)}, {OSSL_FUNC_KEYMGMT_FREE, FN(key_free)},                            \
        {OSSL_FUNC_KEYMGMT_HAS, FN(key_has)}, {OSSL_FUNC_KEYMGMT_MATCH, FN(key_match)},                      \
        {OSSL_FUNC_KEYMGMT_IMPORT, FN(key_import)}, {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, FN(key_import_types)},  \
        {OSSL_FUNC_KEYMGMT_EXPORT, FN(key_export)}, {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, FN(key_export_types)},  \
        {OSSL_FUNC_KEYMGMT_GET_PARAMS, FN(key_get_params)},                                                  \
        {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, FN(key_gettable)},                                               \
        {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, FN(operation)},                                             \
    {                                                                                                        \
        0, NULL                                                                                              \
    }

static const OSSL_ALGORITHM *query(void *provctx, int operation, int *no_cache)
{
    static const OSSL_DISPATCH ec_keys[] = {KEY_FUNCTIONS(ec_operation)};
    static const OSSL_DISPATCH rsa_keys[] = {KEY_FUNCTIONS(rsa_operation)};
    static const OSSL_DISPATCH signing[] = {
        {OSSL_FUNC_SIGNATURE_NEWCTX, FN(sign_new)},
        {OSSL_FUNC_SIGNATURE_FREECTX, FN(sign_free)},
        {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, FN(sign_init)},
        {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, FN(sign_message)},
        {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, FN(sign_set_params)},
        {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, FN(sign_settable)},
        {0, NULL},
    };
    static const OSSL_ALGORITHM managers[] = {
        {"EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=cspire-signer", ec_keys, NULL},
        {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=cspire-signer", rsa_keys, NULL},
        {NULL, NULL, NULL, NULL},
    };
    static const OSSL_ALGORITHM signatures[] = {
        {"ECDSA", "provider=cspire-signer", signing, NULL},
        {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=cspire-signer", signing, NULL},
        {NULL, NULL, NULL, NULL},
    };
    (void)provctx;
    *no_cache = 0;
    return operation == OSSL_OP_KEYMGMT ? managers : operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                         void **provctx)
{
    static const OSSL_DISPATCH table[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, FN(query)},
        {0, NULL},
    };
    (void)in;
    *out = table;
    *provctx = (void *)(uintptr_t)handle; /* not used, but NULL would mean that there is none */
    return 1;
}

/* Written once, under `once`. */
static OSSL_LIB_CTX *libctx;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_once(void)
{
    libctx = OSSL_LIB_CTX_new();
    if (libctx == NULL || OSSL_PROVIDER_add_builtin(libctx, "cspire-signer", provider_init) != 1 ||
        OSSL_PROVIDER_load(libctx, "cspire-signer") == NULL) {
        OSSL_LIB_CTX_free(libctx);
        libctx = NULL;
    }
    ERR_clear_error();
}

cs_code rpc_tls_signer_pkey(struct crypto_signer *signer, EVP_PKEY **out, struct cs_err *e)
{
    *out = NULL;
    enum crypto_key_type t = crypto_signer_type(signer);
    if (!is_ec(t) && !is_rsa(t))
        return cs_fail(e, CS_UNIMPLEMENTED, "tls: keys of type %s do not sign here", crypto_key_type_name(t));
    (void)pthread_once(&once, make_once);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(PARAM_SIGNER, &signer, sizeof signer),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *ctx =
        libctx != NULL ? EVP_PKEY_CTX_new_from_name(libctx, is_ec(t) ? "EC" : "RSA", NULL) : NULL;
    bool ok = ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, out, EVP_PKEY_KEYPAIR, params) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return ok ? CS_OK : cs_fail(e, CS_INTERNAL, "tls: unable to use a key that is elsewhere");
}
