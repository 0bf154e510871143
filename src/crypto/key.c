/* SPDX-License-Identifier: Apache-2.0
 *
 * Private keys, and the signer over them.
 */
#include "crypto/key.h"

#include "crypto/der.h"
#include "crypto/pem.h"
#include "crypto/sig.h"
#include "crypto/ssl.h"

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <strings.h>

/* Setting up a context costs a fifth of an ECDSA signature, so a few that are ready wait here. A slot is
 * taken and put back with one atomic exchange; threads that find none make their own. */
#define READY_CONTEXTS 8

struct crypto_key {
    atomic_uint refs;
    EVP_PKEY *pkey;
    struct crypto_pub *pub;
    _Atomic(EVP_PKEY_CTX *) ready[READY_CONTEXTS]; /* EC keys only */
};

static const struct {
    enum crypto_key_type type;
    const char *name;
} type_names[] = {
    {CRYPTO_KEY_NONE, "none"},     {CRYPTO_EC_P256, "ec-p256"},   {CRYPTO_EC_P384, "ec-p384"},
    {CRYPTO_RSA_2048, "rsa-2048"}, {CRYPTO_RSA_4096, "rsa-4096"}, {CRYPTO_EC_P521, "ec-p521"},
    {CRYPTO_RSA_OTHER, "rsa"},     {CRYPTO_ED25519, "ed25519"},
};

cs_code crypto_key_type_parse(struct cs_slice name, enum crypto_key_type *out, struct cs_err *e)
{
    *out = CRYPTO_KEY_NONE;
    for (size_t i = 0; i < sizeof type_names / sizeof type_names[0]; i++) {
        const char *known = type_names[i].name;
        enum crypto_key_type t = type_names[i].type;
        if (t >= CRYPTO_EC_P256 && t <= CRYPTO_RSA_4096 && strlen(known) == name.len &&
            strncasecmp(known, (const char *)name.data, name.len) == 0) {
            *out = t;
            return CS_OK;
        }
    }
    return cs_fail(e, CS_INVALID,
                   "key type \"%.*s\" is unknown; must be one of [rsa-2048, rsa-4096, ec-p256, ec-p384]",
                   (int)(name.len < 64 ? name.len : 64), (const char *)name.data);
}

const char *crypto_key_type_name(enum crypto_key_type t)
{
    for (size_t i = 0; i < sizeof type_names / sizeof type_names[0]; i++)
        if (type_names[i].type == t)
            return type_names[i].name;
    return "none";
}

/* Takes pkey over in any case. */
static cs_code key_from_pkey(EVP_PKEY *pkey, struct crypto_key **out, struct cs_err *e)
{
    struct crypto_key *k = cs_calloc(1, sizeof *k);
    if (k == NULL) {
        EVP_PKEY_free(pkey);
        return cs_nomem(e);
    }
    atomic_init(&k->refs, 1);
    k->pkey = pkey;
    unsigned char *spki = NULL;
    int len = i2d_PUBKEY(pkey, &spki);
    cs_code code = len <= 0 ? crypto_ssl_fail(e, CS_INTERNAL, "private key has no public key")
                            : crypto_pub_parse(cs_slice_of(spki, (size_t)len), &k->pub, e);
    OPENSSL_free(spki);
    if (code != CS_OK) {
        crypto_key_unref(k);
        return code;
    }
    *out = k;
    return CS_OK;
}

static int go_on(EVP_PKEY_CTX *ctx)
{
    const struct crypto_stop *stop = EVP_PKEY_CTX_get_app_data(ctx);
    return !stop->asked(stop->arg);
}

static EVP_PKEY *generate_rsa(int bits, const struct crypto_stop *stop)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    if (ctx != NULL && EVP_PKEY_keygen_init(ctx) > 0 && EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, bits) > 0) {
        if (stop != NULL) {
            EVP_PKEY_CTX_set_app_data(ctx, (void *)stop);
            EVP_PKEY_CTX_set_cb(ctx, go_on);
        }
        if (EVP_PKEY_generate(ctx, &pkey) <= 0)
            pkey = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

cs_code crypto_key_generate(enum crypto_key_type t, struct crypto_key **out, struct cs_err *e)
{
    return crypto_key_generate_until(t, NULL, out, e);
}

cs_code crypto_key_generate_until(enum crypto_key_type t, const struct crypto_stop *stop,
                                  struct crypto_key **out, struct cs_err *e)
{
    *out = NULL;
    EVP_PKEY *pkey = NULL;
    switch (t) {
    case CRYPTO_EC_P256:
        pkey = EVP_EC_gen("P-256");
        break;
    case CRYPTO_EC_P384:
        pkey = EVP_EC_gen("P-384");
        break;
    case CRYPTO_RSA_2048:
        pkey = generate_rsa(2048, stop);
        break;
    case CRYPTO_RSA_4096:
        pkey = generate_rsa(4096, stop);
        break;
    default:
        return cs_fail(e, CS_INVALID, "keys of type %s are not made here", crypto_key_type_name(t));
    }
    if (pkey == NULL && stop != NULL && stop->asked(stop->arg))
        return crypto_ssl_fail(e, CS_CANCELLED, "stopped while generating a key");
    if (pkey == NULL)
        return crypto_ssl_fail(e, CS_INTERNAL, "failed to generate a key of type %s",
                               crypto_key_type_name(t));
    return key_from_pkey(pkey, out, e);
}

/* An encrypted PKCS #8 file begins with an AlgorithmIdentifier; everything we read with a version. OpenSSL
 * would ask for a passphrase. */
static bool looks_unencrypted(struct cs_slice der)
{
    struct cs_rd r = cs_rd_of(der), seq;
    return der_enter(&r, DER_SEQUENCE, &seq) && cs_rd_left(&r) == 0 && der_peek(&seq, DER_INTEGER);
}

cs_code crypto_key_parse_der(struct cs_slice der, struct crypto_key **out, struct cs_err *e)
{
    *out = NULL;
    if (der.len > 16384 || !looks_unencrypted(der))
        return cs_fail(e, CS_INVALID, "x509: failed to parse private key");
    const unsigned char *p = der.data;
    EVP_PKEY *pkey = d2i_AutoPrivateKey(NULL, &p, (long)der.len);
    if (pkey == NULL)
        return crypto_ssl_fail(e, CS_INVALID, "x509: failed to parse private key");
    /* the public half in the file must be that of the private half */
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool fits = ctx != NULL && EVP_PKEY_pairwise_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (!fits || p != der.data + der.len) {
        EVP_PKEY_free(pkey);
        return crypto_ssl_fail(e, CS_INVALID, "x509: failed to parse private key");
    }
    CS_TRY(key_from_pkey(pkey, out, e));
    return CS_OK;
}

cs_code crypto_key_parse_pem(struct cs_slice pem, struct crypto_key **out, struct cs_err *e)
{
    *out = NULL;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf scratch = {0};
    struct cs_rd text = cs_rd_of(pem);
    struct pem_block block;
    CS_AUTO(crypto_key) key = NULL;
    size_t count = 0;
    for (; pem_next(&text, &scratch, &block); count++) {
        if (!cs_slice_is(block.type, "PRIVATE KEY") && !cs_slice_is(block.type, "RSA PRIVATE KEY") &&
            !cs_slice_is(block.type, "EC PRIVATE KEY"))
            return cs_fail(e, CS_INVALID,
                           "expected block type [\"PRIVATE KEY\" \"RSA PRIVATE KEY\" \"EC PRIVATE KEY\"]; "
                           "got \"%.*s\"",
                           (int)(block.type.len < 64 ? block.type.len : 64), (const char *)block.type.data);
        cs_code code = count == 0 ? crypto_key_parse_der(block.der, &key, e) : CS_OK;
        if (code == CS_INVALID)
            (void)cs_wrap(e, "unable to parse \"%.*s\" PEM block 1", (int)block.type.len,
                          (const char *)block.type.data);
        CS_TRY(code);
    }
    if (!cs_buf_ok(&scratch))
        return cs_nomem(e);
    if (count == 0)
        return cs_fail(e, CS_INVALID, "no PEM blocks");
    if (count != 1)
        return cs_fail(e, CS_INVALID, "expected 1 PEM blocks; got %zu", count);
    *out = CS_MOVE(key);
    return CS_OK;
}

cs_code crypto_key_pkcs8(const struct crypto_key *k, struct cs_secret **out, struct cs_err *e)
{
    *out = NULL;
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(k->pkey);
    int len = info == NULL ? -1 : i2d_PKCS8_PRIV_KEY_INFO(info, NULL);
    CS_AUTO(cs_secret) secret = NULL;
    cs_code code = len <= 0 ? crypto_ssl_fail(e, CS_INTERNAL, "failed to encode private key")
                            : cs_secret_new((size_t)len, &secret, e);
    if (code == CS_OK) {
        unsigned char *p = secret->data;
        if (i2d_PKCS8_PRIV_KEY_INFO(info, &p) != len)
            code = crypto_ssl_fail(e, CS_INTERNAL, "failed to encode private key");
    }
    PKCS8_PRIV_KEY_INFO_free(info);
    if (code == CS_OK)
        *out = CS_MOVE(secret);
    return code;
}

cs_code crypto_key_pem(const struct crypto_key *k, struct cs_secret **out, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(cs_secret) der = NULL;
    CS_TRY(crypto_key_pkcs8(k, &der, e));
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    /* room for all of it at once: growing would leave copies behind in freed memory */
    cs_buf_reserve(&text, der->len * 3 / 2 + 128);
    pem_write(&text, PEM_PRIVATE_KEY, cs_slice_of(der->data, der->len));
    if (!cs_buf_ok(&text))
        return cs_nomem(e);
    return cs_secret_copy(text.data, text.len, out, e);
}

struct crypto_key *crypto_key_ref(struct crypto_key *k)
{
    atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
    return k;
}

void crypto_key_unref(struct crypto_key *k)
{
    if (k == NULL || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < READY_CONTEXTS; i++)
        EVP_PKEY_CTX_free(atomic_load_explicit(&k->ready[i], memory_order_relaxed));
    crypto_pub_unref(k->pub);
    EVP_PKEY_free(k->pkey);
    cs_free(k);
}

struct crypto_pub *crypto_key_pub(const struct crypto_key *k)
{
    return k->pub;
}
enum crypto_key_type crypto_key_type_of(const struct crypto_key *k)
{
    return crypto_pub_type(k->pub);
}
EVP_PKEY *crypto_key_pkey(const struct crypto_key *k)
{
    return k->pkey;
}

/* --- Signing --- */

static EVP_PKEY_CTX *context_take(struct crypto_key *k)
{
    for (size_t i = 0; i < READY_CONTEXTS; i++) {
        EVP_PKEY_CTX *ctx = atomic_exchange_explicit(&k->ready[i], NULL, memory_order_acquire);
        if (ctx != NULL)
            return ctx;
    }
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, k->pkey, NULL);
    if (ctx != NULL && EVP_PKEY_sign_init(ctx) != 1) {
        EVP_PKEY_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static void context_give(struct crypto_key *k, EVP_PKEY_CTX *ctx)
{
    for (size_t i = 0; i < READY_CONTEXTS; i++) {
        EVP_PKEY_CTX *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&k->ready[i], &none, ctx, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    EVP_PKEY_CTX_free(ctx);
}

static cs_code key_sign(void *arg, enum crypto_sig alg, struct cs_slice digest, struct cs_buf *out,
                        struct cs_err *e)
{
    struct crypto_key *k = arg;
    uint8_t sig[1024]; /* RSA 8192; ECDSA P-521 needs 139 */
    size_t len = sizeof sig;
    EVP_PKEY_CTX *ctx = context_take(k);
    /* waiting contexts of RSA keys are set anew each time: cheap beside the signature */
    if (ctx == NULL || !crypto_set_padding(ctx, alg) ||
        EVP_PKEY_sign(ctx, sig, &len, digest.data, digest.len) != 1) {
        EVP_PKEY_CTX_free(ctx);
        return crypto_ssl_fail(e, CS_INTERNAL, "failed to sign");
    }
    context_give(k, ctx);
    cs_buf_add(out, sig, len);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static void key_signer_free(void *arg)
{
    crypto_key_unref(arg);
}

static const struct crypto_signer_ops key_signer_ops = {key_sign, key_signer_free};

struct crypto_signer {
    atomic_uint refs;
    const struct crypto_signer_ops *ops;
    void *ctx;
    struct crypto_pub *pub;
};

cs_code crypto_signer_new(const struct crypto_signer_ops *ops, void *ctx, struct crypto_pub *pub,
                          struct crypto_signer **out, struct cs_err *e)
{
    *out = NULL;
    struct crypto_signer *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    atomic_init(&s->refs, 1);
    s->ops = ops;
    s->ctx = ctx;
    s->pub = crypto_pub_ref(pub);
    *out = s;
    return CS_OK;
}

cs_code crypto_signer_of_key(struct crypto_key *k, struct crypto_signer **out, struct cs_err *e)
{
    CS_TRY(crypto_signer_new(&key_signer_ops, k, k->pub, out, e));
    crypto_key_ref(k);
    return CS_OK;
}

struct crypto_signer *crypto_signer_ref(struct crypto_signer *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void crypto_signer_unref(struct crypto_signer *s)
{
    if (s == NULL || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    s->ops->free(s->ctx);
    crypto_pub_unref(s->pub);
    cs_free(s);
}

struct crypto_pub *crypto_signer_pub(const struct crypto_signer *s)
{
    return s->pub;
}
enum crypto_key_type crypto_signer_type(const struct crypto_signer *s)
{
    return crypto_pub_type(s->pub);
}

struct crypto_key *crypto_signer_key(const struct crypto_signer *s)
{
    return s->ops == &key_signer_ops ? s->ctx : NULL;
}

/* Whoever has the key may be broken, or lie; our own library is neither checked nor paid for twice. */
static cs_code check_remote(const struct crypto_signer *s, enum crypto_sig alg, struct cs_slice msg,
                            struct cs_slice sig, struct cs_err *e)
{
    struct cs_err why = {0};
    if (crypto_verify(s->pub, alg, msg, sig, &why) == CS_OK)
        return CS_OK;
    return cs_fail(e, CS_INTERNAL, "signature returned by signer is invalid: %s", why.text);
}

cs_code crypto_sign(const struct crypto_signer *s, enum crypto_sig alg, struct cs_slice msg,
                    struct cs_buf *out, struct cs_err *e)
{
    if (alg == CRYPTO_SIG_ED25519 || !crypto_sig_fits(alg, crypto_signer_type(s)))
        return cs_fail(e, CS_INVALID, "signature scheme does not fit a key of type %s",
                       crypto_key_type_name(crypto_signer_type(s)));
    uint8_t digest[CRYPTO_HASH_MAX];
    enum crypto_hash h = crypto_sig_hash(alg);
    CS_TRY(crypto_digest(h, msg, digest, e));
    if (crypto_signer_key(s) != NULL)
        return s->ops->sign(s->ctx, alg, cs_slice_of(digest, crypto_hash_len(h)), out, e);
    /* apart, since msg may point into out, which moves when it grows */
    CS_CLEANUP(cs_buf_free) struct cs_buf sig = {0};
    CS_TRY(s->ops->sign(s->ctx, alg, cs_slice_of(digest, crypto_hash_len(h)), &sig, e));
    if (!cs_buf_ok(&sig))
        return cs_nomem(e);
    CS_TRY(check_remote(s, alg, msg, cs_buf_slice(&sig), e));
    cs_buf_add_slice(out, cs_buf_slice(&sig));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}
