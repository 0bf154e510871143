/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates (RFC 5280), read by our own cursor: OpenSSL 3.0's reader costs some hundred
 * microseconds per certificate, and a differential fuzzer holds the two together. Parsed once, then
 * immutable and shared by reference count.
 */
#ifndef CS_CRYPTO_X509_CERT_H
#define CS_CRYPTO_X509_CERT_H

#include "crypto/key.h"
#include "crypto/x509_ext.h"

#define X509_CERT_MAX (64 * 1024) /* bytes of one certificate */
#define X509_CHAIN_MAX 16         /* certificates in one chain or concatenation of a peer */

/* All slices view `der`. Read-only to everybody; any thread. */
struct x509_cert {
    struct cs_slice der;             /* the whole certificate */
    struct cs_slice tbs;             /* signed part */
    struct cs_slice serial;          /* INTEGER content: big-endian two's complement */
    struct cs_slice issuer, subject; /* RDNSequence, whole element: compare by bytes */
    struct cs_slice spki;            /* SubjectPublicKeyInfo, whole element */
    int64_t not_before, not_after;   /* unix seconds, both inclusive */
    struct x509_extensions ext;
    enum crypto_sig sig_alg; /* CRYPTO_SIG_NONE: one that we do not accept */
    struct cs_slice sig;
    uint8_t sha256[32]; /* of der */
};

/* Parse exactly one certificate (no trailing bytes); der is copied. CS_INVALID with Go-like texts
 * ("x509: malformed certificate", "x509: trailing data"). The key itself is decoded on first use. */
CS_CHECKED cs_code x509_cert_parse(struct cs_slice der, struct x509_cert **out, struct cs_err *e);
struct x509_cert *x509_cert_ref(const struct x509_cert *c);
void x509_cert_unref(const struct x509_cert *c); /* NULL is fine */
static inline void x509_cert_drop(struct x509_cert **c)
{
    x509_cert_unref(*c);
    *c = NULL;
}
/* Public key, decoded once and kept; borrowed, lives as long as c. CS_INVALID. */
CS_CHECKED cs_code x509_cert_pub(const struct x509_cert *c, struct crypto_pub **out, struct cs_err *e);

/* A list of certificates, leaf first. Owned by who holds the struct; zero-initialise. */
struct x509_chain {
    struct x509_cert **at;
    size_t count;
};
void x509_chain_free(struct x509_chain *c); /* unrefs all, zeroes; for CS_CLEANUP too */
CS_CHECKED cs_code x509_chain_add(struct x509_chain *c, const struct x509_cert *cert,
                                  struct cs_err *e); /* refs */
CS_CHECKED cs_code x509_chain_copy(const struct x509_chain *from, struct x509_chain *to, struct cs_err *e);
/* Certificates written one after the other without separators (Workload API); at least one, at most
 * `max`. */
CS_CHECKED cs_code x509_chain_parse_der(struct cs_slice der, size_t max, struct x509_chain *out,
                                        struct cs_err *e);
/* One slice per certificate (gRPC, TLS). */
CS_CHECKED cs_code x509_chain_parse_list(const struct cs_slice *ders, size_t count, struct x509_chain *out,
                                         struct cs_err *e);
/* PEM, all blocks must be CERTIFICATE; `no PEM blocks` when there is none;
 * `expected block type "CERTIFICATE"; got "X"`; `unable to parse "CERTIFICATE" PEM block 1: ...`. */
CS_CHECKED cs_code x509_chain_parse_pem(struct cs_slice pem, size_t max, struct x509_chain *out,
                                        struct cs_err *e);
void x509_chain_write_pem(struct cs_buf *out, const struct x509_chain *c);
void x509_chain_write_der(struct cs_buf *out, const struct x509_chain *c);
bool x509_chain_equal(const struct x509_chain *a, const struct x509_chain *b); /* same bytes, same order */

static inline bool x509_cert_equal(const struct x509_cert *a, const struct x509_cert *b)
{
    return cs_slice_eq(a->der, b->der);
}
/* Serial number in decimal, as SPIRE stores it (Go's big.Int.String); negative ones with "-". */
void x509_cert_serial_dec(struct cs_buf *out, const struct x509_cert *c);
/* Authority ID: subject key identifier in lower-case hex; "" when there is none. */
void x509_cert_key_id_hex(struct cs_buf *out, const struct x509_cert *c);
/* Is `child` signed by the key of `issuer`? Signature and scheme only. CS_DENIED when not. */
CS_CHECKED cs_code x509_cert_check_signature(const struct x509_cert *child, const struct x509_cert *issuer,
                                             struct cs_err *e);

#endif
