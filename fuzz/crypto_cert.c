/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates: wherever our reader and OpenSSL's both accept, they must see the same fields.
 */
#include "crypto/x509_cert.h"
#include "crypto/x509_name.h"
#include "crypto/x509_verify.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static bool same_time(const ASN1_TIME *t, int64_t unix_s)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 && timegm(&tm) == unix_s;
}

static void compare_extensions(const struct x509_extensions *ext, X509 *x)
{
    uint32_t flags = X509_get_extension_flags(x);
    if (flags & EXFLAG_INVALID)
        return; /* OpenSSL found an extension of a kind that we do not read broken */
    if (ext->has_key_usage)
        must((X509_get_key_usage(x) & KU_DIGITAL_SIGNATURE ? 1 : 0) == (ext->key_usage & 1));
    if (ext->has_key_usage)
        must((X509_get_key_usage(x) & KU_KEY_CERT_SIGN ? true : false) ==
             ((ext->key_usage & X509_KU_CERT_SIGN) != 0));
    if (ext->has_basic_constraints)
        must(((flags & EXFLAG_CA) != 0) == ext->is_ca);
    if (ext->ski.len > 0) {
        const ASN1_OCTET_STRING *ski = X509_get0_subject_key_id(x);
        must(ski != NULL &&
             cs_slice_eq(ext->ski, cs_slice_of(ASN1_STRING_get0_data(ski), (size_t)ASN1_STRING_length(ski))));
    }
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    unsigned uris = 0, dns = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        uris += sk_GENERAL_NAME_value(names, i)->type == GEN_URI;
        dns += sk_GENERAL_NAME_value(names, i)->type == GEN_DNS;
    }
    if (names != NULL)
        must(uris == ext->san.uris && dns == ext->san.dns);
    GENERAL_NAMES_free(names);
}

static void same_name(struct cs_slice ours, const X509_NAME *theirs)
{
    unsigned char *der = NULL;
    int len = i2d_X509_NAME(theirs, &der);
    must(len > 0 && cs_slice_eq(ours, cs_slice_of(der, (size_t)len)));
    OPENSSL_free(der);
}

static void compare(const struct x509_cert *c, X509 *x)
{
    same_name(c->subject, X509_get_subject_name(x));
    same_name(c->issuer, X509_get_issuer_name(x));
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x);
    unsigned char *der = NULL;
    int len = i2d_ASN1_INTEGER((ASN1_INTEGER *)(uintptr_t)serial, &der);
    must(len >= 3 && (size_t)len >= c->serial.len &&
         memcmp(der + len - c->serial.len, c->serial.data, c->serial.len) == 0);
    OPENSSL_free(der);
    must(same_time(X509_get0_notBefore(x), c->not_before) && same_time(X509_get0_notAfter(x), c->not_after));
    compare_extensions(&c->ext, x);
    struct crypto_pub *pub;
    if (x509_cert_pub(c, &pub, NULL) != CS_OK)
        return;
    EVP_PKEY *key = X509_get0_pubkey(x);
    must(key != NULL);
    must((x509_cert_check_signature(c, c, NULL) != CS_OK) || X509_verify(x, key) == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct x509_cert *c;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    if (size > 4096 || x509_cert_parse(cs_slice_of(data, size), &c, NULL) != CS_OK)
        return 0;
    x509_cert_serial_dec(&text, c);
    if (x509_name_text(&text, c->subject, NULL) != CS_OK)
        cs_buf_reset(&text);
    const unsigned char *p = data;
    X509 *x = d2i_X509(NULL, &p, (long)size);
    if (x != NULL && p == data + size)
        compare(c, x);
    X509_free(x);
    ERR_clear_error();
    /* its own root, its own issuer: the path code must end */
    const struct x509_cert *roots[] = {c};
    struct x509_cert *list[] = {c, c};
    const struct x509_chain chain = {list, 2};
    const struct x509_verify_params params = {.roots = roots, .root_count = 1, .now = c->not_before};
    (void)!x509_verify(&chain, &params, NULL, NULL, NULL);
    x509_cert_unref(c);
    return 0;
}
