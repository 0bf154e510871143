/* SPDX-License-Identifier: Apache-2.0
 *
 * CredentialComposer plugins, asked one after the other, each with what the one before made of it. Inside
 * src/server/ca only.
 */
#ifndef CS_SERVER_CA_COMPOSE_H
#define CS_SERVER_CA_COMPOSE_H

#include "crypto/x509_name.h"
#include "plugin/catalog.h"
#include "plugin/credentialcomposer.h"

struct ca_composers {
    const struct catalog_plugin *const *at; /* in the order of the configuration */
    size_t count;
};

enum ca_subject_kind { CA_OF_SERVER, CA_SVID_OF_SERVER, CA_SVID_OF_AGENT, CA_SVID_OF_WORKLOAD };

/* What a certificate is to have. In: as SPIRE's template has it. Out: as the composers want it. All in the
 * arena. */
struct ca_attributes {
    struct cs_slice subject; /* DER */
    const char *const *dns_names;
    size_t dns_name_count;
    bool request;          /* of a request: policies are left out, as SPIRE does */
    struct cs_slice extra; /* Extension elements, as x509_issue_params.extra takes them; empty at first */
};
/* spiffe_id and spki: of agents and workloads. The plugins' errors with `credentialcomposer(NAME): ` in
 * front; CS_INTERNAL for attributes that nothing can be made of. Blocking. */
CS_CHECKED cs_code ca_compose_x509(const struct ca_composers *c, enum ca_subject_kind kind,
                                   struct cs_arena *a, const char *spiffe_id, struct cs_slice spki,
                                   struct ca_attributes *attributes, struct cs_err *e);
CS_CHECKED cs_code ca_compose_jwt(const struct ca_composers *c, struct cs_arena *a, const char *spiffe_id,
                                  struct cs_slice *claims, struct cs_err *e);

#endif
