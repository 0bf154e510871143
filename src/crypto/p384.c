/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/p384.h"

#include "crypto/jose.h"
#include "crypto/sig.h"

static cs_code check_arguments(const struct crypto_pub *key, struct cs_slice digest,
                               struct cs_slice signature, struct cs_err *e)
{
    if (crypto_pub_type(key) != CRYPTO_EC_P384)
        return cs_fail(e, CS_INVALID, "a key of type %s where P-384 is wanted",
                       crypto_key_type_name(crypto_pub_type(key)));
    if (digest.len != P384_BYTES || signature.len != 2 * P384_BYTES)
        return cs_fail(e, CS_INVALID, "digest or signature of a wrong length");
    return CS_OK;
}

#ifdef CSPIRE_NETTLE

#include <nettle/bignum.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecdsa.h>

/* Nettle looks at the range of r and s, and at the point's being on the curve. Its numbers are GMP's, which
 * ends the process when there is no memory for them: some kilobytes at a time. */
static bool verify(struct cs_slice x, struct cs_slice y, struct cs_slice digest, struct cs_slice signature)
{
    mpz_t px, py;
    struct ecc_point point;
    struct dsa_signature sig;
    nettle_mpz_init_set_str_256_u(px, x.len, x.data);
    nettle_mpz_init_set_str_256_u(py, y.len, y.data);
    ecc_point_init(&point, nettle_get_secp_384r1());
    dsa_signature_init(&sig);
    nettle_mpz_set_str_256_u(sig.r, P384_BYTES, signature.data);
    nettle_mpz_set_str_256_u(sig.s, P384_BYTES, signature.data + P384_BYTES);
    const bool right =
        ecc_point_set(&point, px, py) == 1 && ecdsa_verify(&point, digest.len, digest.data, &sig) == 1;
    dsa_signature_clear(&sig);
    ecc_point_clear(&point);
    mpz_clear(py);
    mpz_clear(px);
    return right;
}

cs_code p384_verify(const struct crypto_pub *key, struct cs_slice digest, struct cs_slice signature,
                    struct cs_err *e)
{
    struct cs_slice x, y;
    CS_TRY(check_arguments(key, digest, signature, e));
    crypto_pub_parts(key, &x, &y);
    return verify(x, y, digest, signature) ? CS_OK : cs_fail(e, CS_DENIED, "signature is wrong");
}

#else

cs_code p384_verify(const struct crypto_pub *key, struct cs_slice digest, struct cs_slice signature,
                    struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_TRY(check_arguments(key, digest, signature, e));
    jose_ecdsa_der(signature, &der);
    if (!cs_buf_ok(&der))
        return cs_nomem(e);
    return crypto_verify_digest(key, CRYPTO_ECDSA_SHA384, digest, cs_buf_slice(&der), e);
}

#endif
