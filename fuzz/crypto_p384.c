/* SPDX-License-Identifier: Apache-2.0
 *
 * ECDSA on P-384: Nettle's verification and OpenSSL's must agree on every key, digest and signature.
 *
 * Input: what to do with the signature, private key (48), digest (48), then the signature or what it is
 * changed by (96). Missing bytes are zero.
 */
#include "crypto/der.h"
#include "crypto/jose.h"
#include "crypto/p384.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* SEC 1 without its public part, which OpenSSL computes. */
static cs_code key_of(const uint8_t scalar[48], struct crypto_key **out)
{
    static const uint8_t curve[] = {0xa0, 7, DER_OID, 5, 0x2b, 0x81, 0x04, 0x00, 0x22};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    size_t seq = der_begin(&der, DER_SEQUENCE);
    der_put_small(&der, 1);
    der_put(&der, DER_OCTET_STRING, cs_slice_of(scalar, 48));
    cs_buf_add(&der, curve, sizeof curve);
    der_end(&der, seq);
    return crypto_key_parse_der(cs_buf_slice(&der), out, NULL);
}

static bool openssl_verify(const struct crypto_key *key, const uint8_t digest[48], const uint8_t sig[96])
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(crypto_key_pkey(key), NULL);
    jose_ecdsa_der(cs_slice_of(sig, 96), &der);
    must(cs_buf_ok(&der) && ctx != NULL && EVP_PKEY_verify_init(ctx) == 1);
    const bool ok = EVP_PKEY_verify(ctx, der.data, der.len, digest, 48) == 1;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

static void openssl_sign(const struct crypto_key *key, const uint8_t digest[48], uint8_t sig[96])
{
    uint8_t der[256];
    size_t len = sizeof der;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(crypto_key_pkey(key), NULL);
    must(ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, der, &len, digest, 48) == 1);
    must(jose_ecdsa_raw(cs_slice_of(der, len), 48, sig, NULL) == CS_OK);
    EVP_PKEY_CTX_free(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t in[1 + 48 + 48 + 96] = {0}, sig[96];
    CS_AUTO(crypto_key) key = NULL;
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    const uint8_t *digest = in + 49, *change = in + 97;
    if (key_of(in + 1, &key) != CS_OK) {
        ERR_clear_error();
        return 0;
    }
    if ((in[0] & 1) == 0) {
        memcpy(sig, change, sizeof sig);
    } else {
        openssl_sign(key, digest, sig);
        must(p384_verify(crypto_key_pub(key), cs_slice_of(digest, 48), cs_slice_of(sig, 96), NULL) == CS_OK);
        for (size_t i = 0; i < sizeof sig; i++)
            sig[i] ^= change[i];
    }
    const cs_code code =
        p384_verify(crypto_key_pub(key), cs_slice_of(digest, 48), cs_slice_of(sig, 96), NULL);
    must(code == CS_OK || code == CS_DENIED);
    must((code == CS_OK) == openssl_verify(key, digest, sig));
    return 0;
}
