/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing certificates, field by field as SPIRE 1.15 does (pkg/server/credtemplate, Go's
 * x509.CreateCertificate): version 3, extensions in the order key usage (critical), extended key usage,
 * basic constraints (critical), subject key identifier, authority key identifier, subject alternative names
 * (critical when the subject is empty).
 *
 * An x509_issuer is a certificate authority prepared for speed: what is the same in all its certificates
 * is encoded once. Immutable, reference counted, any thread.
 */
#ifndef CS_CRYPTO_X509_ISSUE_H
#define CS_CRYPTO_X509_ISSUE_H

#include "crypto/x509_cert.h"
#include "crypto/x509_name.h"

/* Random serial number in [1, 2^128 - 1], big-endian magnitude. */
struct x509_serial {
    uint8_t bytes[16];
};
CS_CHECKED cs_code x509_serial_new(struct x509_serial *out, struct cs_err *e);
void x509_serial_dec(struct cs_buf *out, const struct x509_serial *s); /* decimal, as SPIRE stores it */

struct x509_issuer;
/* ca: the signing certificate (issuer name, subject key identifier); signer: its key. Both referenced.
 * CS_INVALID when the key is not the certificate's. */
CS_CHECKED cs_code x509_issuer_new(const struct x509_cert *ca, struct crypto_signer *signer,
                                   struct x509_issuer **out, struct cs_err *e);
struct x509_issuer *x509_issuer_ref(struct x509_issuer *i);
void x509_issuer_unref(struct x509_issuer *i); /* NULL is fine */
static inline void x509_issuer_drop(struct x509_issuer **i)
{
    x509_issuer_unref(*i);
    *i = NULL;
}
const struct x509_cert *x509_issuer_cert(const struct x509_issuer *i); /* borrowed */

/* What one certificate is about. Slices are borrowed. */
struct x509_issue_params {
    struct cs_slice spki;       /* the subject's key, whole SubjectPublicKeyInfo */
    struct cs_slice subject;    /* RDNSequence DER; empty: the empty name */
    struct cs_slice uri;        /* URI SAN (the SPIFFE ID); empty: none */
    const struct cs_slice *dns; /* DNS SANs, before the URI */
    size_t dns_count;
    int64_t not_before, not_after;    /* unix seconds; the caller caps them to the CA's */
    const struct x509_serial *serial; /* NULL: a fresh one */
    struct cs_slice extra;            /* further Extension elements, raw; an extension in here replaces
                                         ours of the same type (Go's ExtraExtensions); may be empty */
};
/* X509-SVID leaf: digitalSignature, keyEncipherment, keyAgreement; server and client auth; not a CA.
 * Appends the certificate's DER to out; *serial (may be NULL) is the number used. */
CS_CHECKED cs_code x509_issue_svid(const struct x509_issuer *i, const struct x509_issue_params *p,
                                   struct cs_buf *out, struct x509_serial *serial, struct cs_err *e);
/* CA certificate (downstream, or of an UpstreamAuthority): keyCertSign, cRLSign; CA without path length. */
CS_CHECKED cs_code x509_issue_ca(const struct x509_issuer *i, const struct x509_issue_params *p,
                                 struct cs_buf *out, struct x509_serial *serial, struct cs_err *e);
/* Self-signed CA certificate by `signer` (p->spki is ignored): no authority key identifier. */
CS_CHECKED cs_code x509_issue_self_signed(struct crypto_signer *signer, const struct x509_issue_params *p,
                                          struct cs_buf *out, struct cs_err *e);

#endif
