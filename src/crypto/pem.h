/* SPDX-License-Identifier: Apache-2.0
 *
 * PEM (RFC 7468), with the tolerance and the output of Go's encoding/pem: text between blocks is
 * skipped, lines have 64 columns, headers are read over.
 */
#ifndef CS_CRYPTO_PEM_H
#define CS_CRYPTO_PEM_H

#include "base/buf.h"

#define PEM_CERTIFICATE "CERTIFICATE"
#define PEM_PRIVATE_KEY "PRIVATE KEY"
#define PEM_CSR "CERTIFICATE REQUEST"

struct pem_block {
    struct cs_slice type; /* "CERTIFICATE", a view into the text */
    struct cs_slice der;  /* decoded, in the caller's buffer */
    bool headers;         /* had RFC 1421 headers (e.g. an encrypted key) */
};
/* Next well-formed block: moves the cursor behind it, decodes into `scratch` (reset first; wipe it
 * after private keys). False at the end: what is left holds no further block, broken ones are skipped
 * as Go does. False also when memory is out; then `scratch` has failed. */
bool pem_next(struct cs_rd *text, struct cs_buf *scratch, struct pem_block *out);
/* "-----BEGIN type-----" ... with a newline at the end. */
void pem_write(struct cs_buf *out, const char *type, struct cs_slice der);

#endif
