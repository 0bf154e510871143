/* SPDX-License-Identifier: Apache-2.0 */
#include "server/ca/authority.h"

#include <stdatomic.h>

cs_code ca_x509_authority_new(const struct x509_cert *cert, struct crypto_signer *signer,
                              const struct x509_chain *upstream_chain, struct ca_x509_authority **out,
                              struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(ca_x509_authority) a = cs_calloc(1, sizeof *a);
    if (a == NULL)
        return cs_nomem(e);
    a->refs = 1;
    a->not_after = cert->not_after;
    CS_TRY(x509_issuer_new(cert, signer, &a->issuer, e));
    CS_TRY(x509_chain_copy(upstream_chain, &a->upstream_chain, e));
    *out = CS_MOVE(a);
    return CS_OK;
}

struct ca_x509_authority *ca_x509_authority_ref(struct ca_x509_authority *a)
{
    atomic_fetch_add(&a->refs, 1);
    return a;
}

void ca_x509_authority_unref(struct ca_x509_authority *a)
{
    if (a == NULL || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    x509_issuer_unref(a->issuer);
    x509_chain_free(&a->upstream_chain);
    cs_free(a);
}

cs_code ca_jwt_authority_new(struct crypto_signer *signer, const char *kid, int64_t not_after,
                             struct ca_jwt_authority **out, struct cs_err *e)
{
    *out = NULL;
    enum jose_alg alg = jose_alg_for_key(crypto_signer_type(signer));
    if (alg == JOSE_NONE)
        return cs_fail(e, CS_INTERNAL, "failed to determine JWT key algorithm: unsupported key type %s",
                       crypto_key_type_name(crypto_signer_type(signer)));
    CS_AUTO(ca_jwt_authority) a = cs_calloc(1, sizeof *a);
    if (a == NULL)
        return cs_nomem(e);
    a->refs = 1;
    a->alg = alg;
    a->not_after = not_after;
    a->kid = cs_strdup(kid);
    if (a->kid == NULL)
        return cs_nomem(e);
    a->signer = crypto_signer_ref(signer);
    *out = CS_MOVE(a);
    return CS_OK;
}

struct ca_jwt_authority *ca_jwt_authority_ref(struct ca_jwt_authority *a)
{
    atomic_fetch_add(&a->refs, 1);
    return a;
}

void ca_jwt_authority_unref(struct ca_jwt_authority *a)
{
    if (a == NULL || atomic_fetch_sub(&a->refs, 1) != 1)
        return;
    crypto_signer_unref(a->signer);
    cs_free(a->kid);
    cs_free(a);
}
