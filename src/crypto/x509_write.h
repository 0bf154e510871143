/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to this folder: what writing certificates and requests has in common.
 */
#ifndef CS_CRYPTO_X509_WRITE_H
#define CS_CRYPTO_X509_WRITE_H

#include "crypto/key.h"

/* Extension id-ce n (2.5.29.n): between begin and end comes the content of its OCTET STRING. */
struct x509_ext_marks {
    size_t ext, value;
};
struct x509_ext_marks x509_ext_begin(struct cs_buf *out, uint8_t n, bool critical);
void x509_ext_end(struct cs_buf *out, struct x509_ext_marks m);

/* Is an extension of this type (content of its OID) among these Extension elements? Elements that are broken,
 * which others refuse, count as any type. */
bool x509_extensions_have(struct cs_slice extensions, struct cs_slice oid);

/* Subject alternative names: DNS names first, then the URI (empty: none). */
void x509_write_san(struct cs_buf *out, const struct cs_slice *dns, size_t dns_count, struct cs_slice uri,
                    bool critical);
/* They must be ASCII: `x509: "..." cannot be encoded as an IA5String`. */
CS_CHECKED cs_code x509_check_sans(const struct cs_slice *dns, size_t dns_count, struct cs_slice uri,
                                   struct cs_err *e);

/* out ends with an outer SEQUENCE that begins at `start`, was opened as `outer`, and holds one whole element,
 * the part to be signed: append algorithm and signature and close it. On failure out is as long as `start`.
 */
CS_CHECKED cs_code x509_write_signature(struct cs_buf *out, size_t start, size_t outer,
                                        const struct crypto_signer *signer, struct cs_err *e);

#endif
