/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/hash.h"

#include "base/mem.h"
#include "crypto/ssl.h"

#include <openssl/evp.h>

struct crypto_hasher {
    EVP_MD_CTX *ctx;
};

size_t crypto_hash_len(enum crypto_hash h)
{
    static const size_t len[] = {20, 32, 48, 64};
    return len[h];
}

cs_code crypto_digest(enum crypto_hash h, struct cs_slice in, uint8_t *out, struct cs_err *e)
{
    const EVP_MD *md = crypto_md(h);
    if (md == NULL || EVP_Digest(in.data, in.len, out, NULL, md, NULL) != 1)
        return crypto_ssl_fail(e, CS_INTERNAL, "message digest failed");
    return CS_OK;
}

cs_code crypto_hasher_new(enum crypto_hash h, struct crypto_hasher **out, struct cs_err *e)
{
    *out = NULL;
    struct crypto_hasher *x = cs_calloc(1, sizeof *x);
    if (x == NULL)
        return cs_nomem(e);
    const EVP_MD *md = crypto_md(h);
    x->ctx = EVP_MD_CTX_new();
    if (x->ctx == NULL || md == NULL || EVP_DigestInit_ex2(x->ctx, md, NULL) != 1) {
        crypto_hasher_free(x);
        return crypto_ssl_fail(e, CS_INTERNAL, "message digest failed");
    }
    *out = x;
    return CS_OK;
}

cs_code crypto_hasher_add(struct crypto_hasher *x, struct cs_slice in, struct cs_err *e)
{
    if (EVP_DigestUpdate(x->ctx, in.data, in.len) != 1)
        return crypto_ssl_fail(e, CS_INTERNAL, "message digest failed");
    return CS_OK;
}

cs_code crypto_hasher_end(struct crypto_hasher *x, uint8_t *out, struct cs_err *e)
{
    if (EVP_DigestFinal_ex(x->ctx, out, NULL) != 1)
        return crypto_ssl_fail(e, CS_INTERNAL, "message digest failed");
    return CS_OK;
}

void crypto_hasher_free(struct crypto_hasher *x)
{
    if (x == NULL)
        return;
    EVP_MD_CTX_free(x->ctx);
    cs_free(x);
}
