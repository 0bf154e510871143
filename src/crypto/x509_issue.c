/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/x509_issue.h"

#include "crypto/der.h"
#include "crypto/sig.h"
#include "crypto/x509_write.h"

#include <stdatomic.h>

#define EXT_SKI 14
#define EXT_KEY_USAGE 15
#define EXT_SAN 17
#define EXT_BASIC_CONSTRAINTS 19
#define EXT_AKI 35
#define EXT_EKU 37

struct x509_issuer {
    atomic_uint refs;
    struct x509_cert *cert;
    struct crypto_signer *signer;
    struct cs_buf names;    /* signature algorithm and issuer name: what stands behind the serial number */
    struct cs_buf svid_ext; /* key usage, extended key usage, basic constraints of a leaf */
    struct cs_buf ca_ext;   /* key usage and basic constraints of a CA */
    struct cs_buf aki;      /* authority key identifier */
};

static void write_key_usage(struct cs_buf *out, uint16_t usage)
{
    /* bit 0 is the highest; seven bits are enough for what is issued here */
    uint8_t bits = 0;
    unsigned unused = 0;
    for (unsigned i = 0; i < 7; i++)
        if (usage >> i & 1)
            bits = (uint8_t)(bits | 0x80u >> i);
    while ((bits >> unused & 1) == 0)
        unused++;
    const uint8_t content[] = {(uint8_t)unused, bits};
    struct x509_ext_marks ext = x509_ext_begin(out, EXT_KEY_USAGE, true);
    der_put(out, DER_BIT_STRING, cs_slice_of(content, sizeof content));
    x509_ext_end(out, ext);
}

static void write_eku(struct cs_buf *out)
{
    static const uint8_t server_and_client[] = {
        DER_OID, 8, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01, /* id-kp-serverAuth */
        DER_OID, 8, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02, /* id-kp-clientAuth */
    };
    struct x509_ext_marks ext = x509_ext_begin(out, EXT_EKU, false);
    der_put(out, DER_SEQUENCE, cs_slice_of(server_and_client, sizeof server_and_client));
    x509_ext_end(out, ext);
}

static void write_basic_constraints(struct cs_buf *out, bool ca)
{
    struct x509_ext_marks ext = x509_ext_begin(out, EXT_BASIC_CONSTRAINTS, true);
    size_t seq = der_begin(out, DER_SEQUENCE);
    if (ca)
        der_put_bool(out, true);
    der_end(out, seq);
    x509_ext_end(out, ext);
}

static void write_ski(struct cs_buf *out, const uint8_t id[20])
{
    struct x509_ext_marks ext = x509_ext_begin(out, EXT_SKI, false);
    der_put(out, DER_OCTET_STRING, cs_slice_of(id, 20));
    x509_ext_end(out, ext);
}

static void write_aki(struct cs_buf *out, struct cs_slice id)
{
    struct x509_ext_marks ext = x509_ext_begin(out, EXT_AKI, false);
    size_t seq = der_begin(out, DER_SEQUENCE);
    der_put(out, DER_CONTEXT(0), id);
    der_end(out, seq);
    x509_ext_end(out, ext);
}

static void write_svid_ext(struct cs_buf *out)
{
    write_key_usage(out, X509_KU_DIGITAL_SIGNATURE | X509_KU_KEY_ENCIPHERMENT | X509_KU_KEY_AGREEMENT);
    write_eku(out);
    write_basic_constraints(out, false);
}

static void write_ca_ext(struct cs_buf *out)
{
    write_key_usage(out, X509_KU_CERT_SIGN | X509_KU_CRL_SIGN);
    write_basic_constraints(out, true);
}

/* --- Issuer --- */

cs_code x509_issuer_new(const struct x509_cert *ca, struct crypto_signer *signer, struct x509_issuer **out,
                        struct cs_err *e)
{
    *out = NULL;
    struct crypto_pub *key;
    CS_TRY(x509_cert_pub(ca, &key, e));
    if (!crypto_pub_equal(key, crypto_signer_pub(signer)))
        return cs_fail(e, CS_INVALID, "x509: provided PrivateKey doesn't match parent's PublicKey");
    CS_AUTO(x509_issuer) i = cs_calloc(1, sizeof *i);
    if (i == NULL)
        return cs_nomem(e);
    atomic_init(&i->refs, 1);
    i->cert = x509_cert_ref(ca);
    i->signer = crypto_signer_ref(signer);
    crypto_sig_to_der(&i->names, crypto_sig_default(crypto_signer_type(signer)));
    cs_buf_add_slice(&i->names, ca->subject);
    write_svid_ext(&i->svid_ext);
    write_ca_ext(&i->ca_ext);
    if (ca->ext.ski.len > 0)
        write_aki(&i->aki, ca->ext.ski);
    if (!cs_buf_ok(&i->names) || !cs_buf_ok(&i->svid_ext) || !cs_buf_ok(&i->ca_ext) || !cs_buf_ok(&i->aki))
        return cs_nomem(e);
    *out = CS_MOVE(i);
    return CS_OK;
}

struct x509_issuer *x509_issuer_ref(struct x509_issuer *i)
{
    atomic_fetch_add_explicit(&i->refs, 1, memory_order_relaxed);
    return i;
}

void x509_issuer_unref(struct x509_issuer *i)
{
    if (i == NULL || atomic_fetch_sub_explicit(&i->refs, 1, memory_order_acq_rel) != 1)
        return;
    x509_cert_unref(i->cert);
    crypto_signer_unref(i->signer);
    cs_buf_free(&i->names);
    cs_buf_free(&i->svid_ext);
    cs_buf_free(&i->ca_ext);
    cs_buf_free(&i->aki);
    cs_free(i);
}

const struct x509_cert *x509_issuer_cert(const struct x509_issuer *i)
{
    return i->cert;
}

/* --- Serial numbers --- */

cs_code x509_serial_new(struct x509_serial *out, struct cs_err *e)
{
    uint8_t any;
    do {
        CS_TRY(cs_random(out->bytes, sizeof out->bytes, e));
        any = 0;
        for (size_t i = 0; i < sizeof out->bytes; i++)
            any |= out->bytes[i];
    } while (any == 0);
    return CS_OK;
}

void x509_serial_dec(struct cs_buf *out, const struct x509_serial *s)
{
    uint8_t content[1 + sizeof s->bytes] = {0};
    memcpy(content + 1, s->bytes, sizeof s->bytes);
    const struct x509_cert c = {.serial = cs_slice_of(content, sizeof content)};
    x509_cert_serial_dec(out, &c);
}

/* --- Certificates --- */

/* What differs between the three kinds of certificate. */
struct layout {
    struct cs_slice names; /* signature algorithm, issuer name */
    struct cs_slice fixed; /* extensions that never change */
    struct cs_slice aki;   /* may be empty */
    const struct crypto_signer *signer;
};

static const uint8_t empty_name[] = {DER_SEQUENCE, 0};

static bool subject_empty(struct cs_slice subject)
{
    return subject.len <= 2;
}

/* Copy whole Extension elements, leaving out what `extra` replaces. */
static void add_unless_replaced(struct cs_buf *out, struct cs_slice exts, struct cs_slice extra)
{
    if (extra.len == 0) {
        cs_buf_add_slice(out, exts);
        return;
    }
    struct cs_rd list = cs_rd_of(exts);
    struct cs_slice whole, oid;
    while (der_read_whole(&list, DER_SEQUENCE, &whole)) {
        struct cs_rd r = cs_rd_of(whole), ext;
        if (der_enter(&r, DER_SEQUENCE, &ext) && der_read(&ext, DER_OID, &oid) &&
            !x509_extensions_have(extra, oid))
            cs_buf_add_slice(out, whole);
    }
}

static cs_code write_extensions(struct cs_buf *out, const struct layout *l, const struct x509_issue_params *p,
                                struct cs_err *e)
{
    uint8_t key_id[20];
    CS_TRY(crypto_key_id(p->spki, key_id, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf own = {0};
    /* straight into the certificate unless something has to be taken out again */
    struct cs_buf *to = p->extra.len == 0 ? out : &own;
    size_t tagged = der_begin(out, DER_CONTEXT_CONS(3)), seq = der_begin(out, DER_SEQUENCE);
    cs_buf_add_slice(to, l->fixed);
    write_ski(to, key_id);
    cs_buf_add_slice(to, l->aki);
    if (p->uri.len > 0 || p->dns_count > 0)
        x509_write_san(to, p->dns, p->dns_count, p->uri, subject_empty(p->subject));
    if (p->extra.len > 0) {
        add_unless_replaced(out, cs_buf_slice(&own), p->extra);
        cs_buf_add_slice(out, p->extra);
        out->failed |= own.failed;
    }
    der_end(out, seq);
    der_end(out, tagged);
    return CS_OK;
}

static cs_code check_params(const struct x509_issue_params *p, struct cs_err *e)
{
    CS_TRY(x509_check_sans(p->dns, p->dns_count, p->uri, e));
    if (p->not_after < p->not_before)
        return cs_fail(e, CS_INVALID, "x509: certificate would expire before it becomes valid");
    if (p->subject.len > 0 && !x509_name_sound(p->subject))
        return cs_fail(e, CS_INVALID, "x509: invalid RDNSequence");
    struct x509_extensions ignored;
    return x509_extensions_parse(p->extra, &ignored, e);
}

/* Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature } */
static cs_code write_certificate(const struct layout *l, const struct x509_issue_params *p,
                                 struct cs_buf *out, struct x509_serial *used, struct cs_err *e)
{
    static const uint8_t version3[] = {0xa0, 3, DER_INTEGER, 1, 2};
    struct x509_serial serial;
    CS_TRY(check_params(p, e));
    if (p->serial != NULL)
        serial = *p->serial;
    else
        CS_TRY(x509_serial_new(&serial, e));
    size_t start = out->len;
    cs_buf_reserve(out, 1024);
    size_t cert = der_begin(out, DER_SEQUENCE), tbs = der_begin(out, DER_SEQUENCE);
    cs_buf_add(out, version3, sizeof version3);
    der_put_uint(out, cs_slice_of(serial.bytes, sizeof serial.bytes));
    cs_buf_add_slice(out, l->names);
    size_t validity = der_begin(out, DER_SEQUENCE);
    der_put_time(out, p->not_before);
    der_put_time(out, p->not_after);
    der_end(out, validity);
    cs_buf_add_slice(out, p->subject.len ? p->subject : cs_slice_of(empty_name, sizeof empty_name));
    cs_buf_add_slice(out, p->spki);
    cs_code code = write_extensions(out, l, p, e);
    if (code != CS_OK) {
        out->len = start;
        return code;
    }
    der_end(out, tbs);
    CS_TRY(x509_write_signature(out, start, cert, l->signer, e));
    if (used != NULL)
        *used = serial;
    return CS_OK;
}

static struct layout issuer_layout(const struct x509_issuer *i, const struct cs_buf *fixed)
{
    return (struct layout){
        .names = cs_buf_slice(&i->names),
        .fixed = cs_buf_slice(fixed),
        .aki = cs_buf_slice(&i->aki),
        .signer = i->signer,
    };
}

cs_code x509_issue_svid(const struct x509_issuer *i, const struct x509_issue_params *p, struct cs_buf *out,
                        struct x509_serial *serial, struct cs_err *e)
{
    struct layout l = issuer_layout(i, &i->svid_ext);
    return write_certificate(&l, p, out, serial, e);
}

cs_code x509_issue_ca(const struct x509_issuer *i, const struct x509_issue_params *p, struct cs_buf *out,
                      struct x509_serial *serial, struct cs_err *e)
{
    struct layout l = issuer_layout(i, &i->ca_ext);
    return write_certificate(&l, p, out, serial, e);
}

cs_code x509_issue_self_signed(struct crypto_signer *signer, const struct x509_issue_params *p,
                               struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf names = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf fixed = {0};
    crypto_sig_to_der(&names, crypto_sig_default(crypto_signer_type(signer)));
    cs_buf_add_slice(&names, p->subject.len ? p->subject : cs_slice_of(empty_name, sizeof empty_name));
    write_ca_ext(&fixed);
    if (!cs_buf_ok(&names) || !cs_buf_ok(&fixed))
        return cs_nomem(e);
    struct x509_issue_params own = *p;
    own.spki = crypto_pub_spki(crypto_signer_pub(signer));
    const struct layout l = {
        .names = cs_buf_slice(&names),
        .fixed = cs_buf_slice(&fixed),
        .signer = signer,
    };
    return write_certificate(&l, &own, out, NULL, e);
}
