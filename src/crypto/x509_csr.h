/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificate signing requests (PKCS #10, RFC 2986): read with our own bounded cursor (the hot path of
 * issuing), written for agents, downstream servers and `x509 mint`.
 */
#ifndef CS_CRYPTO_X509_CSR_H
#define CS_CRYPTO_X509_CSR_H

#include "crypto/key.h"
#include "crypto/x509_ext.h"
#include "crypto/x509_name.h"

#define X509_CSR_MAX (64 * 1024)

/* Views into the request's bytes, which must outlive it; no cleanup. */
struct x509_csr {
    struct cs_slice info;       /* CertificationRequestInfo, the signed part */
    struct cs_slice subject;    /* RDNSequence, whole element */
    struct cs_slice spki;       /* whole element */
    struct cs_slice extensions; /* content of the requested Extensions SEQUENCE; may be empty */
    struct x509_extensions ext; /* the same, read */
    enum crypto_sig sig_alg;    /* CRYPTO_SIG_NONE: one that we do not accept */
    struct cs_slice sig;
};
/* CS_INVALID with Go's texts where it has them ("asn1: syntax error: sequence truncated",
 * "asn1: structure error: tags don't match ...", "asn1: syntax error: trailing data"); callers put
 * "malformed CSR: " in front. Nothing is allocated. */
CS_CHECKED cs_code x509_csr_parse(struct cs_slice der, struct x509_csr *out, struct cs_err *e);
/* The requested key; a new reference. CS_INVALID. */
CS_CHECKED cs_code x509_csr_pub(const struct x509_csr *csr, struct crypto_pub **out, struct cs_err *e);
/* Proof of possession: the request is signed by the key in it. CS_INVALID with Go's text
 * ("x509: ECDSA verification failure", "x509: cannot verify signature: algorithm unimplemented"). */
CS_CHECKED cs_code x509_csr_verify(const struct x509_csr *csr, struct cs_err *e);

struct x509_csr_params {
    struct cs_slice subject; /* RDNSequence DER; empty: the empty name */
    struct cs_slice uri;     /* one URI SAN; empty: none */
    const struct cs_slice *dns;
    size_t dns_count;
    struct cs_slice extra; /* further Extension elements, raw; names in here replace the ones above */
};
/* Append a request signed by `signer` with its default scheme, as Go's CreateCertificateRequest lays it
 * out. */
CS_CHECKED cs_code x509_csr_write(const struct x509_csr_params *p, const struct crypto_signer *signer,
                                  struct cs_buf *out, struct cs_err *e);

#endif
