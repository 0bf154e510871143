/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_cert.h"

#include "base/text.h"
#include "crypto/der.h"
#include "crypto/sig.h"
#include "crypto/x509_name.h"

#include <stdatomic.h>

/* The public part first: a pointer to it is a pointer to the whole. */
struct cert {
    struct x509_cert pub;
    atomic_uint refs;
    _Atomic(struct crypto_pub *) key; /* decoded on first use */
    uint8_t der[];
};

static struct cert *cert_of(const struct x509_cert *c)
{
    return (struct cert *)(uintptr_t)c;
}

static cs_code malformed(struct cs_err *e, const char *what)
{
    return cs_fail(e, CS_INVALID, "x509: malformed %s", what);
}

static bool read_validity(struct cs_rd *tbs, struct x509_cert *c)
{
    struct cs_rd v;
    return der_enter(tbs, DER_SEQUENCE, &v) && der_read_time(&v, &c->not_before) &&
           der_read_time(&v, &c->not_after) && cs_rd_left(&v) == 0;
}

static bool skip_optional(struct cs_rd *r, uint8_t tag)
{
    struct cs_slice ignored;
    bool present;
    return der_optional(r, tag, &ignored, &present);
}

/* TBSCertificate (RFC 5280 section 4.1), version 3 or, as Go allows, older without extensions. */
static cs_code read_tbs(struct x509_cert *c, struct cs_slice *sig_alg, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(c->tbs), tbs, outer, list;
    uint32_t version = 0;
    if (!der_enter(&r, DER_SEQUENCE, &tbs))
        return malformed(e, "tbs certificate");
    if (der_peek(&tbs, DER_CONTEXT_CONS(0)) &&
        (!der_enter(&tbs, DER_CONTEXT_CONS(0), &outer) || !der_read_small(&outer, &version) || version == 0 ||
         cs_rd_left(&outer) != 0))
        return malformed(e, "version");
    if (version > 2)
        return cs_fail(e, CS_INVALID, "x509: invalid version");
    if (!der_read_integer(&tbs, &c->serial))
        return malformed(e, "serial number");
    if (!der_read(&tbs, DER_SEQUENCE, sig_alg))
        return malformed(e, "signature algorithm identifier");
    if (!der_read_whole(&tbs, DER_SEQUENCE, &c->issuer) || !x509_name_sound(c->issuer))
        return malformed(e, "issuer");
    if (!read_validity(&tbs, c))
        return malformed(e, "validity");
    if (!der_read_whole(&tbs, DER_SEQUENCE, &c->subject) || !x509_name_sound(c->subject))
        return malformed(e, "subject");
    if (!der_read_whole(&tbs, DER_SEQUENCE, &c->spki))
        return malformed(e, "spki");
    if (version >= 1 && (!skip_optional(&tbs, DER_CONTEXT(1)) || !skip_optional(&tbs, DER_CONTEXT(2))))
        return malformed(e, "unique id");
    c->ext.path_len = -1;
    if (version == 2 && der_peek(&tbs, DER_CONTEXT_CONS(3))) {
        struct cs_slice extensions;
        if (!der_enter(&tbs, DER_CONTEXT_CONS(3), &outer) || !der_enter(&outer, DER_SEQUENCE, &list) ||
            cs_rd_left(&outer) != 0 || cs_rd_left(&list) == 0)
            return malformed(e, "extensions");
        extensions = cs_slice_of(list.p, cs_rd_left(&list));
        CS_TRY(x509_extensions_parse(extensions, &c->ext, e));
    }
    return cs_rd_left(&tbs) == 0 ? CS_OK : malformed(e, "tbs certificate");
}

static cs_code read_cert(struct x509_cert *c, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(c->der), cert;
    struct cs_slice outer_alg, inner_alg;
    if (!der_enter(&r, DER_SEQUENCE, &cert))
        return malformed(e, "certificate");
    if (cs_rd_left(&r) != 0)
        return cs_fail(e, CS_INVALID, "x509: trailing data");
    if (!der_read_whole(&cert, DER_SEQUENCE, &c->tbs))
        return malformed(e, "tbs certificate");
    CS_TRY(read_tbs(c, &inner_alg, e));
    if (!der_read(&cert, DER_SEQUENCE, &outer_alg))
        return malformed(e, "algorithm identifier");
    if (!cs_slice_eq(inner_alg, outer_alg))
        return cs_fail(e, CS_INVALID, "x509: inner and outer signature algorithm identifiers don't match");
    if (!der_read_octet_bits(&cert, &c->sig) || cs_rd_left(&cert) != 0)
        return malformed(e, "signature");
    c->sig_alg = crypto_sig_from_der(outer_alg);
    return crypto_digest(CRYPTO_SHA256, c->der, c->sha256, e);
}

cs_code x509_cert_parse(struct cs_slice der, struct x509_cert **out, struct cs_err *e)
{
    *out = NULL;
    if (der.len == 0 || der.len > X509_CERT_MAX)
        return malformed(e, "certificate");
    struct cert *c = cs_calloc(1, sizeof *c + der.len);
    if (c == NULL)
        return cs_nomem(e);
    atomic_init(&c->refs, 1);
    memcpy(c->der, der.data, der.len);
    c->pub.der = cs_slice_of(c->der, der.len);
    cs_code code = read_cert(&c->pub, e);
    if (code != CS_OK) {
        cs_free(c);
        return code;
    }
    *out = &c->pub;
    return CS_OK;
}

struct x509_cert *x509_cert_ref(const struct x509_cert *c)
{
    atomic_fetch_add_explicit(&cert_of(c)->refs, 1, memory_order_relaxed);
    return &cert_of(c)->pub;
}

void x509_cert_unref(const struct x509_cert *cert)
{
    if (cert == NULL)
        return;
    struct cert *c = cert_of(cert);
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    crypto_pub_unref(atomic_load_explicit(&c->key, memory_order_relaxed));
    cs_free(c);
}

cs_code x509_cert_pub(const struct x509_cert *cert, struct crypto_pub **out, struct cs_err *e)
{
    struct cert *c = cert_of(cert);
    *out = atomic_load_explicit(&c->key, memory_order_acquire);
    if (*out != NULL)
        return CS_OK;
    struct crypto_pub *fresh, *none = NULL;
    CS_TRY(crypto_pub_parse(cert->spki, &fresh, e));
    if (atomic_compare_exchange_strong_explicit(&c->key, &none, fresh, memory_order_acq_rel,
                                                memory_order_acquire)) {
        *out = fresh;
    } else { /* another thread was faster */
        crypto_pub_unref(fresh);
        *out = none;
    }
    return CS_OK;
}

void x509_cert_serial_dec(struct cs_buf *out, const struct x509_cert *c)
{
    /* repeated division by ten of the magnitude; serial numbers are short */
    uint8_t n[64];
    char digits[160];
    size_t len = c->serial.len, count = 0;
    bool negative = c->serial.data[0] >= 0x80;
    if (len > sizeof n) {
        cs_buf_add_str(out, "0x");
        cs_hex_encode(out, c->serial);
        return;
    }
    memcpy(n, c->serial.data, len);
    if (negative) {
        unsigned carry = 1;
        for (size_t i = len; i-- > 0;) {
            carry += (uint8_t)~n[i];
            n[i] = (uint8_t)carry;
            carry >>= 8;
        }
        cs_buf_add_byte(out, '-');
    }
    for (size_t first = 0; first < len;) {
        unsigned rest = 0;
        for (size_t i = first; i < len; i++) {
            rest = rest << 8 | n[i];
            n[i] = (uint8_t)(rest / 10);
            rest %= 10;
        }
        digits[count++] = (char)('0' + rest);
        while (first < len && n[first] == 0)
            first++;
    }
    while (count > 0)
        cs_buf_add_byte(out, (uint8_t)digits[--count]);
}

void x509_cert_key_id_hex(struct cs_buf *out, const struct x509_cert *c)
{
    cs_hex_encode(out, c->ext.ski);
}

cs_code x509_cert_check_signature(const struct x509_cert *child, const struct x509_cert *issuer,
                                  struct cs_err *e)
{
    struct crypto_pub *key;
    if (child->sig_alg == CRYPTO_SIG_NONE)
        return cs_fail(e, CS_DENIED, "x509: cannot verify signature: algorithm unimplemented");
    CS_TRY(x509_cert_pub(issuer, &key, e));
    return crypto_verify(key, child->sig_alg, child->tbs, child->sig, e);
}
