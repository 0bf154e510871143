/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests: what our reader takes, OpenSSL takes too, with the same subject, key and signed part, and the
 * same opinion about the signature.
 */
#include "crypto/x509_csr.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void compare(const struct x509_csr *csr, X509_REQ *req)
{
    unsigned char *der = NULL;
    int len = i2d_X509_NAME(X509_REQ_get_subject_name(req), &der);
    must(len > 0 && cs_slice_eq(csr->subject, cs_slice_of(der, (size_t)len)));
    OPENSSL_free(der);
    der = NULL;
    CS_AUTO(crypto_pub) pub = NULL;
    EVP_PKEY *theirs = X509_REQ_get0_pubkey(req);
    if (x509_csr_pub(csr, &pub, NULL) != CS_OK) {
        ERR_clear_error();
        return; /* fewer kinds of keys than OpenSSL */
    }
    must(theirs != NULL);
    len = i2d_PUBKEY(theirs, &der);
    must(len > 0 && cs_slice_eq(crypto_pub_spki(pub), cs_slice_of(der, (size_t)len)));
    OPENSSL_free(der);
    if (x509_csr_verify(csr, NULL) == CS_OK)
        must(X509_REQ_verify(req, theirs) == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct x509_csr csr;
    if (size > 4096 || x509_csr_parse(cs_slice_of(data, size), &csr, NULL) != CS_OK)
        return 0;
    struct cs_rd it = x509_san_begin(&csr.ext.san);
    enum x509_san_kind kind;
    struct cs_slice v;
    unsigned n = 0;
    while (x509_san_next(&it, &kind, &v))
        n++;
    must(n == csr.ext.san.uris + csr.ext.san.dns + csr.ext.san.emails + csr.ext.san.ips + csr.ext.san.others);
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    must(x509_name_text(&text, csr.subject, NULL) == CS_OK || csr.subject.len > 200);
    const unsigned char *p = data;
    X509_REQ *req = d2i_X509_REQ(NULL, &p, (long)size);
    if (req != NULL && p == data + size)
        compare(&csr, req);
    X509_REQ_free(req);
    ERR_clear_error();
    return 0;
}
