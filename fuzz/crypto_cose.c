/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a COSE_Sign1: what is taken has its parts inside, in order, is the only way to cut the
 * message, and is never signed by a key that signed nothing.
 */
#include "crypto/cbor.h"
#include "crypto/cose.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* The generator of P-384: a public key whose private one, 1, nobody has used. */
static struct crypto_pub *a_key(void)
{
    static const uint8_t x[48] = {0xaa, 0x87, 0xca, 0x22, 0xbe, 0x8b, 0x05, 0x37, 0x8e, 0xb1, 0xc7, 0x1e,
                                  0xf3, 0x20, 0xad, 0x74, 0x6e, 0x1d, 0x3b, 0x62, 0x8b, 0xa7, 0x9b, 0x98,
                                  0x59, 0xf7, 0x41, 0xe0, 0x82, 0x54, 0x2a, 0x38, 0x55, 0x02, 0xf2, 0x5d,
                                  0xbf, 0x55, 0x29, 0x6c, 0x3a, 0x54, 0x5e, 0x38, 0x72, 0x76, 0x0a, 0xb7};
    static const uint8_t y[48] = {0x36, 0x17, 0xde, 0x4a, 0x96, 0x26, 0x2c, 0x6f, 0x5d, 0x9e, 0x98, 0xbf,
                                  0x92, 0x92, 0xdc, 0x29, 0xf8, 0xf4, 0x1d, 0xbd, 0x28, 0x9a, 0x14, 0x7c,
                                  0xe9, 0xda, 0x31, 0x13, 0xb5, 0xf0, 0xb8, 0xc0, 0x0a, 0x60, 0xb1, 0xce,
                                  0x1d, 0x7e, 0x81, 0x9d, 0x7a, 0x43, 0x1d, 0x7c, 0x90, 0xea, 0x0e, 0x5f};
    static struct crypto_pub *key;
    if (key == NULL)
        must(crypto_pub_from_ec(CRYPTO_EC_P384, cs_slice_of(x, 48), cs_slice_of(y, 48), &key, NULL) == CS_OK);
    return key;
}

static void inside(struct cs_slice part, const uint8_t **at, struct cs_slice whole)
{
    must(part.data >= *at && part.data + part.len <= whole.data + whole.len);
    *at = part.data + part.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cs_slice in = cs_slice_of(data, size);
    struct cose_sign1 m, again;
    CS_CLEANUP(cs_buf_free) struct cs_buf plain = {0};
    if (cose_sign1_parse(in, &m, NULL) != CS_OK) {
        must(m.payload.data == NULL && m.signature.data == NULL && m.protected_header.data == NULL);
        return 0;
    }
    const uint8_t *at = data;
    inside(m.protected_header, &at, in);
    inside(m.payload, &at, in);
    inside(m.signature, &at, in);
    must(at == data + size && m.payload.len > 0 && m.signature.len == COSE_ES384_SIGNATURE);
    cbor_put_array(&plain, 4);
    cbor_put_bytes(&plain, m.protected_header);
    cbor_put_map(&plain, 0);
    cbor_put_bytes(&plain, m.payload);
    cbor_put_bytes(&plain, m.signature);
    must(plain.len <= size && cose_sign1_parse(cs_buf_slice(&plain), &again, NULL) == CS_OK);
    must(cs_slice_eq(again.payload, m.payload) && cs_slice_eq(again.signature, m.signature));
    must(cose_sign1_verify(&m, a_key(), NULL) == CS_DENIED);
    return 0;
}
