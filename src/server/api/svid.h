/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by the files that hand out SVIDs.
 */
#ifndef CS_SERVER_API_SVID_H
#define CS_SERVER_API_SVID_H

#include "crypto/x509_csr.h"
#include "server/api/convert.h"
#include "server/api/handlers.h"
#include "server/ca/ca.h"

/* spire.api.types.X509SVID as field `field`. */
void svid_x509_write(struct cs_buf *b, uint32_t field, const struct ca_x509 *svid, struct cs_slice td,
                     struct cs_slice path);
/* "2026-11-22T19:02:41Z" in the arena; "" without memory. */
const char *svid_time(struct cs_arena *a, int64_t unix_s);

#endif
