/* SPDX-License-Identifier: Apache-2.0
 *
 * Extensions that somebody wants in a certificate besides, or instead of, those that are always there: made
 * once, and put into x509_issue_params.extra or x509_csr_params.extra.
 */
#ifndef CS_CRYPTO_X509_ISSUE_EXTRA_H
#define CS_CRYPTO_X509_ISSUE_EXTRA_H

#include "base/buf.h"

/* All borrowed. */
struct x509_extra {
    const char *oid;       /* "1.2.3.4" */
    struct cs_slice value; /* content of the extnValue OCTET STRING */
    bool critical;
};

/* Append Extension elements: certificatePolicies of these OIDs (RFC 5280 section 4.2.1.4, not critical,
 * without qualifiers; as in Go not when `extra` has that type itself), then `extra` in its order. CS_INVALID
 * `x509: invalid OID "x"`. */
CS_CHECKED cs_code x509_extra_write(struct cs_buf *out, const char *const *policies, size_t policy_count,
                                    const struct x509_extra *extra, size_t extra_count, struct cs_err *e);

#endif
