/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/cose.h"

#include "crypto/cbor.h"
#include "crypto/jose.h"
#include "crypto/p384.h"

#define TAG_SIGN1 18    /* RFC 9052 section 2 */
#define HEADER_ALG 1    /* section 3.1 */
#define ALG_ES384 (-35) /* RFC 9053 section 2.1 */
#define CONTEXT "Signature1"

/* Exactly {1: -35}. */
static bool header_is_es384(struct cs_slice header)
{
    struct cs_rd r = cs_rd_of(header);
    struct cbor_map m;
    int64_t label, alg;
    return cbor_map_begin(&r, &m, false) && m.left == 1 && cbor_read_int(&r, &label) && label == HEADER_ALG &&
           cbor_read_int(&r, &alg) && alg == ALG_ES384 && cs_rd_left(&r) == 0;
}

cs_code cose_sign1_parse(struct cs_slice in, struct cose_sign1 *out, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(in);
    struct cose_sign1 m = {0};
    struct cbor_map unprotected;
    size_t parts;
    *out = (struct cose_sign1){0};
    (void)cbor_read_tag(&r, TAG_SIGN1);
    if (!cbor_read_array(&r, &parts) || parts != 4)
        return cs_fail(e, CS_INVALID, "data is not a COSE_Sign1 array");
    if (!cbor_read_bytes(&r, &m.protected_header))
        return cs_fail(e, CS_INVALID, "COSE_Sign1: malformed protected header");
    if (!header_is_es384(m.protected_header))
        return cs_fail(e, CS_INVALID, "COSE_Sign1: the protected header is not the algorithm ES384 alone");
    if (!cbor_map_begin(&r, &unprotected, false) || unprotected.left != 0)
        return cs_fail(e, CS_INVALID, "COSE_Sign1: the unprotected header is not an empty map");
    if (!cbor_read_bytes(&r, &m.payload) || m.payload.len == 0)
        return cs_fail(e, CS_INVALID, "COSE_Sign1: the payload is not a byte string with content");
    if (!cbor_read_bytes(&r, &m.signature) || m.signature.len != COSE_ES384_SIGNATURE)
        return cs_fail(e, CS_INVALID, "COSE_Sign1: the signature is not a byte string of %d bytes",
                       COSE_ES384_SIGNATURE);
    if (cs_rd_left(&r) != 0)
        return cs_fail(e, CS_INVALID, "COSE_Sign1: %zu bytes after its end", cs_rd_left(&r));
    *out = m;
    return CS_OK;
}

/* Sig_structure (RFC 9052 section 4.4). */
static void put_sig_structure(struct cs_buf *out, struct cs_slice protected_header, struct cs_slice payload)
{
    cbor_put_array(out, 4);
    cbor_put_text(out, CONTEXT);
    cbor_put_bytes(out, protected_header);
    cbor_put_bytes(out, (struct cs_slice){0});
    cbor_put_bytes(out, payload);
}

cs_code cose_sign1_verify(const struct cose_sign1 *m, const struct crypto_pub *key, struct cs_err *e)
{
    if (crypto_pub_type(key) != CRYPTO_EC_P384)
        return cs_fail(e, CS_INVALID, "COSE_Sign1: ES384 needs a P-384 key, not %s",
                       crypto_key_type_name(crypto_pub_type(key)));
    if (m->signature.len != COSE_ES384_SIGNATURE)
        return cs_fail(e, CS_INVALID, "COSE_Sign1: the signature is not %d bytes long", COSE_ES384_SIGNATURE);
    CS_CLEANUP(cs_buf_free) struct cs_buf signed_part = {0};
    uint8_t digest[P384_BYTES];
    put_sig_structure(&signed_part, m->protected_header, m->payload);
    if (!cs_buf_ok(&signed_part))
        return cs_nomem(e);
    CS_TRY(crypto_digest(CRYPTO_SHA384, cs_buf_slice(&signed_part), digest, e));
    cs_code code = p384_verify(key, cs_slice_of(digest, sizeof digest), m->signature, e);
    return code == CS_DENIED ? cs_fail(e, CS_DENIED, "COSE_Sign1: signature is wrong") : code;
}

cs_code cose_sign1_make(const struct crypto_signer *signer, struct cs_slice payload, bool tagged,
                        struct cs_buf *out, struct cs_err *e)
{
    static const uint8_t es384[] = {0xa1, 0x01, 0x38, 0x22};
    const struct cs_slice header = cs_slice_of(es384, sizeof es384);
    const size_t start = out->len;
    uint8_t raw[COSE_ES384_SIGNATURE];
    if (crypto_signer_type(signer) != CRYPTO_EC_P384)
        return cs_fail(e, CS_INVALID, "COSE_Sign1: ES384 needs a P-384 key, not %s",
                       crypto_key_type_name(crypto_signer_type(signer)));
    CS_CLEANUP(cs_buf_free) struct cs_buf signed_part = {0}, der = {0};
    put_sig_structure(&signed_part, header, payload);
    if (!cs_buf_ok(&signed_part))
        return cs_nomem(e);
    CS_TRY(crypto_sign(signer, CRYPTO_ECDSA_SHA384, cs_buf_slice(&signed_part), &der, e));
    CS_TRY(jose_ecdsa_raw(cs_buf_slice(&der), COSE_ES384_SIGNATURE / 2, raw, e));
    if (tagged)
        cbor_put_tag(out, TAG_SIGN1);
    cbor_put_array(out, 4);
    cbor_put_bytes(out, header);
    cbor_put_map(out, 0);
    cbor_put_bytes(out, payload);
    cbor_put_bytes(out, cs_slice_of(raw, sizeof raw));
    if (cs_buf_ok(out))
        return CS_OK;
    out->len = start;
    return cs_nomem(e);
}
