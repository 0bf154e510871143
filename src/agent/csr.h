/* SPDX-License-Identifier: Apache-2.0
 *
 * The requests for certificates that SPIRE's agent writes: subject C=US, O=SPIRE.
 */
#ifndef CS_AGENT_CSR_H
#define CS_AGENT_CSR_H

#include "crypto/key.h"

/* Append a request; spiffe_id NULL: without URI. */
CS_CHECKED cs_code agent_csr_write(const struct crypto_signer *key, const char *spiffe_id, struct cs_buf *out,
                                   struct cs_err *e);

#endif
