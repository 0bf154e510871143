/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates are written field by field, since hostile tests need ones that no issuer of ours would make.
 */
#include "tests/nitro/make.h"

#include "crypto/cbor.h"
#include "crypto/cose.h"
#include "crypto/der.h"
#include "crypto/sig.h"
#include "crypto/x509_issue.h"
#include "crypto/x509_write.h"

#include <openssl/ec.h>
#include <openssl/x509.h>

#define HOUR INT64_C(3600)
#define DAY (24 * HOUR)

struct nitro_make_cert nitro_make_cert_default(size_t i, int64_t now_s)
{
    static const struct {
        const char *name;
        int64_t age, life; /* seconds */
        int path_len;
    } places[NITRO_MAKE_CAS + 1] = {
        {"aws.nitro-enclaves", 2000 * DAY, 30 * 365 * DAY, -1},
        {"0123456789abcdef.us-east-1.aws.nitro-enclaves", 5 * DAY, 20 * DAY, 2},
        {"fedcba9876543210.zonal.us-east-1.aws.nitro-enclaves", 2 * DAY, 6 * DAY, 1},
        {"i-0123456789abcdef0.us-east-1.aws.nitro-enclaves", 5 * HOUR, DAY, 0},
        {"i-0123456789abcdef0-enc0123456789abcdef.us-east-1.aws", 3, 3 * HOUR + 3, -1},
    };
    const bool leaf = i == NITRO_MAKE_CAS, instance = i == NITRO_MAKE_CAS - 1;
    struct nitro_make_cert c = {.name = places[i].name,
                                .key_type = CRYPTO_EC_P384,
                                .not_before = now_s - places[i].age,
                                .is_ca = !leaf,
                                .path_len = places[i].path_len};
    c.not_after = c.not_before + places[i].life;
    if (leaf)
        c.key_usage = X509_KU_DIGITAL_SIGNATURE | X509_KU_CONTENT_COMMITMENT;
    else if (instance)
        c.key_usage = X509_KU_CERT_SIGN;
    else
        c.key_usage = X509_KU_DIGITAL_SIGNATURE | X509_KU_CERT_SIGN | X509_KU_CRL_SIGN;
    return c;
}

/* --- Keys --- */

/* The product makes none on this curve; the original plugin falls over it. */
static cs_code generate_p521(struct crypto_key **out, struct cs_err *e)
{
    unsigned char *der = NULL;
    EVP_PKEY *pkey = EVP_EC_gen("P-521");
    int len = pkey != NULL ? i2d_PrivateKey(pkey, &der) : 0;
    cs_code code = len > 0 ? crypto_key_parse_der(cs_slice_of(der, (size_t)len), out, e)
                           : cs_fail(e, CS_INTERNAL, "failed to generate a key on P-521");
    OPENSSL_free(der);
    EVP_PKEY_free(pkey);
    return code;
}

static cs_code ensure_key(struct crypto_key **key, enum crypto_key_type type, struct cs_err *e)
{
    if (*key != NULL && crypto_key_type_of(*key) == type)
        return CS_OK;
    crypto_key_drop(key);
    return type == CRYPTO_EC_P521 ? generate_p521(key, e) : crypto_key_generate(type, key, e);
}

/* --- Certificates --- */

static void write_name(struct cs_buf *out, const char *common_name)
{
    static const char *const us[] = {"US"}, *const amazon[] = {"Amazon"}, *const aws[] = {"AWS"};
    const struct x509_name n = {
        .country = {us, 1},
        .organization = {amazon, 1},
        .organizational_unit = {aws, 1},
        .common_name = common_name,
    };
    x509_name_write(out, &n);
}

static void write_basic_constraints(struct cs_buf *out, const struct nitro_make_cert *c)
{
    struct x509_ext_marks ext = x509_ext_begin(out, 19, true);
    size_t seq = der_begin(out, DER_SEQUENCE);
    if (c->is_ca)
        der_put_bool(out, true);
    if (c->path_len >= 0)
        der_put_small(out, (uint32_t)c->path_len);
    der_end(out, seq);
    x509_ext_end(out, ext);
}

/* Critical in CAs, not critical in leaves, as AWS has it. */
static void write_key_usage(struct cs_buf *out, const struct nitro_make_cert *c)
{
    uint8_t bits = 0;
    unsigned unused = 0;
    if ((c->key_usage & 0xff) == 0)
        return;
    for (unsigned i = 0; i < 8; i++)
        if (c->key_usage >> i & 1)
            bits = (uint8_t)(bits | 0x80u >> i);
    while ((bits >> unused & 1) == 0)
        unused++;
    const uint8_t content[] = {(uint8_t)unused, bits};
    struct x509_ext_marks ext = x509_ext_begin(out, 15, c->is_ca);
    der_put(out, DER_BIT_STRING, cs_slice_of(content, sizeof content));
    x509_ext_end(out, ext);
}

static cs_code write_key_ids(struct cs_buf *out, const struct crypto_key *own, const struct x509_cert *issuer,
                             struct cs_err *e)
{
    uint8_t id[20];
    CS_TRY(crypto_key_id(crypto_pub_spki(crypto_key_pub(own)), id, e));
    struct x509_ext_marks ext = x509_ext_begin(out, 14, false);
    der_put(out, DER_OCTET_STRING, cs_slice_of(id, sizeof id));
    x509_ext_end(out, ext);
    if (issuer == NULL || issuer->ext.ski.len == 0)
        return CS_OK;
    ext = x509_ext_begin(out, 35, false);
    size_t seq = der_begin(out, DER_SEQUENCE);
    der_put(out, DER_CONTEXT(0), issuer->ext.ski);
    der_end(out, seq);
    x509_ext_end(out, ext);
    return CS_OK;
}

static cs_code write_extensions(struct cs_buf *out, const struct nitro_make_cert *c,
                                const struct crypto_key *own, const struct x509_cert *issuer,
                                struct cs_err *e)
{
    size_t tagged = der_begin(out, DER_CONTEXT_CONS(3)), seq = der_begin(out, DER_SEQUENCE);
    write_basic_constraints(out, c);
    write_key_usage(out, c);
    if (c->is_ca)
        CS_TRY(write_key_ids(out, own, issuer, e));
    der_end(out, seq);
    der_end(out, tagged);
    return CS_OK;
}

/* issuer NULL: self-signed. */
static cs_code write_certificate(const struct nitro_make_cert *c, const struct crypto_key *own,
                                 const struct x509_cert *issuer, const struct crypto_signer *signer,
                                 struct cs_buf *out, struct cs_err *e)
{
    static const uint8_t version3[] = {0xa0, 3, DER_INTEGER, 1, 2};
    struct x509_serial serial;
    CS_TRY(x509_serial_new(&serial, e));
    size_t cert = der_begin(out, DER_SEQUENCE), tbs = der_begin(out, DER_SEQUENCE);
    cs_buf_add(out, version3, sizeof version3);
    der_put_uint(out, cs_slice_of(serial.bytes, sizeof serial.bytes));
    crypto_sig_to_der(out, crypto_sig_default(crypto_signer_type(signer)));
    if (issuer != NULL)
        cs_buf_add_slice(out, issuer->subject);
    else
        write_name(out, c->name);
    size_t validity = der_begin(out, DER_SEQUENCE);
    der_put_time(out, c->not_before);
    der_put_time(out, c->not_after);
    der_end(out, validity);
    write_name(out, c->name);
    cs_buf_add_slice(out, crypto_pub_spki(crypto_key_pub(own)));
    CS_TRY(write_extensions(out, c, own, issuer, e));
    der_end(out, tbs);
    return x509_write_signature(out, 0, cert, signer, e);
}

cs_code nitro_authority_issue(struct nitro_authority *a, size_t i, const struct nitro_make_cert *c,
                              struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_AUTO(crypto_signer) signer = NULL;
    CS_AUTO(x509_cert) cert = NULL;
    CS_TRY(ensure_key(&a->keys[i], c->key_type, e));
    CS_TRY(crypto_signer_of_key(a->keys[i > 0 ? i - 1 : 0], &signer, e));
    CS_TRY(write_certificate(c, a->keys[i], i > 0 ? a->certs[i - 1] : NULL, signer, &der, e));
    CS_TRY(x509_cert_parse(cs_buf_slice(&der), &cert, e));
    x509_cert_unref(a->certs[i]);
    a->certs[i] = CS_MOVE(cert);
    return CS_OK;
}

/* Those from place `from` on, with the defaults. */
static cs_code issue_from(struct nitro_authority *a, size_t from, int64_t now_s, struct cs_err *e)
{
    for (size_t i = from; i <= NITRO_MAKE_CAS; i++) {
        const struct nitro_make_cert c = nitro_make_cert_default(i, now_s);
        CS_TRY(nitro_authority_issue(a, i, &c, e));
    }
    return CS_OK;
}

cs_code nitro_authority_make(struct nitro_authority *a, int64_t now_s, struct cs_err *e)
{
    return issue_from(a, 0, now_s, e);
}

cs_code nitro_authority_load(struct nitro_authority *a, struct cs_slice root_cert_pem,
                             struct cs_slice root_key_pem, int64_t now_s, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain root = {0};
    CS_AUTO(crypto_key) key = NULL;
    struct crypto_pub *certified;
    CS_TRY(x509_chain_parse_pem(root_cert_pem, 1, &root, e));
    CS_TRY(crypto_key_parse_pem(root_key_pem, &key, e));
    CS_TRY(x509_cert_pub(root.at[0], &certified, e));
    if (!crypto_pub_equal(certified, crypto_key_pub(key)))
        return cs_fail(e, CS_INVALID, "the key is not the root certificate's");
    nitro_authority_free(a);
    a->certs[0] = x509_cert_ref(root.at[0]);
    a->keys[0] = CS_MOVE(key);
    return issue_from(a, 1, now_s, e);
}

void nitro_authority_free(struct nitro_authority *a)
{
    for (size_t i = 0; i <= NITRO_MAKE_CAS; i++) {
        x509_cert_unref(a->certs[i]);
        crypto_key_unref(a->keys[i]);
    }
    *a = (struct nitro_authority){0};
}

/* --- Documents --- */

static void put_optional(struct cs_buf *out, const char *name, struct cs_slice value)
{
    cbor_put_text(out, name);
    if (value.len > 0)
        cbor_put_bytes(out, value);
    else
        cbor_put_null(out);
}

static void put_pcrs(struct cs_buf *out, const struct nitro_make_document *d)
{
    const size_t most = sizeof d->pcrs / sizeof d->pcrs[0];
    size_t count = 0;
    for (size_t i = 0; i < most; i++)
        count += d->pcrs[i].len > 0;
    cbor_put_text(out, "pcrs");
    cbor_put_map(out, count);
    for (size_t i = 0; i < most; i++) {
        if (d->pcrs[i].len == 0)
            continue;
        cbor_put_uint(out, i);
        cbor_put_bytes(out, d->pcrs[i]);
    }
}

void nitro_make_payload(const struct nitro_authority *a, const struct nitro_make_document *d,
                        struct cs_buf *out)
{
    if (d->indefinite)
        cbor_put_map_indefinite(out);
    else
        cbor_put_map(out, 9);
    cbor_put_text(out, "module_id");
    cbor_put_text(out, d->module_id);
    cbor_put_text(out, "digest");
    cbor_put_text(out, "SHA384");
    cbor_put_text(out, "timestamp");
    cbor_put_int(out, d->timestamp_ms);
    put_pcrs(out, d);
    cbor_put_text(out, "certificate");
    cbor_put_bytes(out, a->certs[NITRO_MAKE_CAS]->der);
    cbor_put_text(out, "cabundle");
    cbor_put_array(out, NITRO_MAKE_CAS);
    for (size_t i = 0; i < NITRO_MAKE_CAS; i++)
        cbor_put_bytes(out, a->certs[i]->der);
    put_optional(out, "public_key", d->public_key);
    put_optional(out, "user_data", d->user_data);
    put_optional(out, "nonce", d->nonce);
    if (d->indefinite)
        cbor_put_break(out);
}

cs_code nitro_make_signed(const struct nitro_authority *a, struct cs_slice payload, bool tagged,
                          struct cs_buf *out, struct cs_err *e)
{
    CS_AUTO(crypto_signer) signer = NULL;
    CS_TRY(crypto_signer_of_key(a->keys[NITRO_MAKE_CAS], &signer, e));
    return cose_sign1_make(signer, payload, tagged, out, e);
}

cs_code nitro_make_document(const struct nitro_authority *a, const struct nitro_make_document *d,
                            struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    nitro_make_payload(a, d, &payload);
    if (!cs_buf_ok(&payload))
        return cs_nomem(e);
    return nitro_make_signed(a, cs_buf_slice(&payload), d->tagged, out, e);
}
