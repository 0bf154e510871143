/* SPDX-License-Identifier: Apache-2.0
 *
 * Key, request, certificate.
 */
#include "base/text.h"
#include "crypto/der.h"
#include "crypto/pem.h"
#include "crypto/x509_csr.h"
#include "plugins/modules/k8s_csr/internal.h"
#include "plugins/shared/k8s_csr/k8s_csr.h"

#define CERTS_MAX 16
#define KEY_DER_MAX 256 /* of P-256: 121 bytes */

/* PKCS #8 (RFC 5208) wraps what is wanted, without the curve, which then has to be said inside (RFC 5915
 * section 3). */
static bool sec1(struct cs_slice pkcs8, struct cs_buf *out)
{
    struct cs_rd r = cs_rd_of(pkcs8), info, algorithm, wrapped, key;
    struct cs_slice curve, octets, number, point = {0};
    uint32_t version;
    bool present;
    if (!der_enter(&r, DER_SEQUENCE, &info) || !der_read_small(&info, &version) ||
        !der_enter(&info, DER_SEQUENCE, &algorithm) || !der_read(&algorithm, DER_OID, &curve) ||
        !der_read_whole(&algorithm, DER_OID, &curve) || !der_read(&info, DER_OCTET_STRING, &octets))
        return false;
    wrapped = cs_rd_of(octets);
    if (!der_enter(&wrapped, DER_SEQUENCE, &key) || !der_read_small(&key, &version) ||
        !der_read(&key, DER_OCTET_STRING, &number) ||
        !der_optional(&key, DER_CONTEXT_CONS(0), &octets, &present) ||
        !der_optional(&key, DER_CONTEXT_CONS(1), &point, &present))
        return false;
    size_t whole = der_begin(out, DER_SEQUENCE);
    der_put_small(out, 1);
    der_put(out, DER_OCTET_STRING, number);
    size_t parameters = der_begin(out, DER_CONTEXT_CONS(0));
    cs_buf_add_slice(out, curve);
    der_end(out, parameters);
    if (present)
        der_put(out, DER_CONTEXT_CONS(1), point);
    der_end(out, whole);
    return true;
}

cs_code csr_key_pem(const struct crypto_key *key, struct cs_buf *out, struct cs_err *e)
{
    CS_AUTO(cs_secret) pkcs8 = NULL;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf der = {0};
    CS_TRY(crypto_key_pkcs8(key, &pkcs8, e));
    if (!cs_buf_reserve(&der, KEY_DER_MAX) || !cs_buf_reserve(out, (size_t)4 * KEY_DER_MAX))
        return cs_nomem(e);
    if (!sec1(cs_slice_of(pkcs8->data, pkcs8->len), &der))
        return cs_fail(e, CS_INTERNAL, "the new key cannot be written");
    pem_write(out, "EC PRIVATE KEY", cs_buf_slice(&der));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code csr_make(const struct crypto_key *key, const char *node, struct cs_buf *out, struct cs_err *e)
{
    static const char *const organization[] = {K8S_CSR_ORGANIZATION};
    CS_AUTO(crypto_signer) signer = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf subject = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_CLEANUP(cs_freep) char *user = cs_asprintf(K8S_CSR_USER_PREFIX "%s", node);
    if (user == NULL)
        return cs_nomem(e);
    x509_name_write(&subject, &(struct x509_name){.organization = {organization, 1}, .common_name = user});
    if (!cs_buf_ok(&subject))
        return cs_fail(e, CS_INVALID, "\"%.128s\" is no node's name", node);
    CS_TRY(crypto_signer_of_key((struct crypto_key *)(uintptr_t)key, &signer, e));
    CS_TRY(x509_csr_write(&(struct x509_csr_params){.subject = cs_buf_slice(&subject)}, signer, &der, e));
    pem_write(out, PEM_CSR, cs_buf_slice(&der));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

cs_code csr_check_cert(struct cs_slice pem, const struct crypto_key *key, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    if (x509_chain_parse_pem(pem, CERTS_MAX, &chain, e) != CS_OK)
        return cs_wrap(e, "the certificate that was issued");
    if (!cs_slice_eq(chain.at[0]->spki, crypto_pub_spki(crypto_key_pub(key))))
        return cs_fail(e, CS_INVALID, "the certificate that was issued is for another key");
    return CS_OK;
}

bool csr_is_ours(const char *request_b64, const struct crypto_key *key)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    struct pem_block block;
    struct x509_csr csr;
    if (cs_b64_decode(&pem, cs_slice_str(request_b64), CS_B64_STD, NULL) != CS_OK)
        return false;
    struct cs_rd r = cs_rd_of(cs_buf_slice(&pem));
    return pem_next(&r, &der, &block) && x509_csr_parse(block.der, &csr, NULL) == CS_OK &&
           cs_slice_eq(csr.spki, crypto_pub_spki(crypto_key_pub(key)));
}
