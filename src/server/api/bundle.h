/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by the files of the Bundle service.
 */
#ifndef CS_SERVER_API_BUNDLE_H
#define CS_SERVER_API_BUNDLE_H

#include "server/api/convert.h"
#include "server/api/handlers.h"

struct bundle_authorities {
    Types__JWTKey *const *jwt;
    size_t n_jwt;
    Types__X509Certificate *const *x509;
    size_t n_x509;
};
struct bundle_fields {
    struct cs_kv at[32];
    size_t n;
};
/* Appends the audit fields of authorities; nothing when the call is not audited. */
void bundle_audit_authorities(struct api_call *c, const struct bundle_authorities *in,
                              struct bundle_fields *out);
/* The bundle of "spiffe://td" was written: let the bundle store read it again. */
CS_CHECKED cs_code bundle_stored(struct api_call *c, const char *trust_domain_id, struct cs_err *e);

#endif
