/* SPDX-License-Identifier: Apache-2.0
 *
 * CredentialComposer plugins: change what goes into certificates and tokens before they are signed
 * (spire.plugin.server.credentialcomposer.v1 of SPIRE's plugin SDK). Several are asked in the order of the
 * configuration, each sees what the one before made.
 */
#ifndef CS_PLUGIN_CREDENTIALCOMPOSER_H
#define CS_PLUGIN_CREDENTIALCOMPOSER_H

#include "base/mem.h"
#include "plugin/plugin.h"

struct credentialcomposer_extension {
    const char *oid;       /* "1.2.3.4" */
    struct cs_slice value; /* content of the extnValue OCTET STRING */
    bool critical;
};
struct credentialcomposer_type_value {
    const char *oid, *value;
};
struct credentialcomposer_texts {
    const char *const *at;
    size_t count;
};
struct credentialcomposer_name {
    struct credentialcomposer_texts country, organization, organizational_unit, locality, province, street,
        postal_code;
    const char *serial_number, *common_name; /* never NULL */
    const struct credentialcomposer_type_value *extra;
    size_t extra_count;
};
/* Attributes of a certificate. All memory is the arena's of the call. */
struct credentialcomposer_x509 {
    struct credentialcomposer_name subject;
    struct credentialcomposer_texts dns_sans;           /* SVIDs only */
    struct credentialcomposer_texts policy_identifiers; /* CAs only: OIDs */
    const struct credentialcomposer_extension *extensions;
    size_t extension_count;
};

/* Each call replaces *attrs (or *claims) by what the plugin wants; CS_UNIMPLEMENTED: nothing changes.
 * Blocking; any thread, several at once. spiffe_id as text; spki of the subject, DER. */
struct credentialcomposer_ops {
    CS_CHECKED cs_code (*server_x509_ca)(void *self, struct cs_arena *a,
                                         struct credentialcomposer_x509 *attrs, struct cs_err *e);
    CS_CHECKED cs_code (*server_x509_svid)(void *self, struct cs_arena *a,
                                           struct credentialcomposer_x509 *attrs, struct cs_err *e);
    CS_CHECKED cs_code (*agent_x509_svid)(void *self, struct cs_arena *a, const char *spiffe_id,
                                          struct cs_slice spki, struct credentialcomposer_x509 *attrs,
                                          struct cs_err *e);
    CS_CHECKED cs_code (*workload_x509_svid)(void *self, struct cs_arena *a, const char *spiffe_id,
                                             struct cs_slice spki, struct credentialcomposer_x509 *attrs,
                                             struct cs_err *e);
    /* *claims: the claims set as JSON text, numbers as they are in it. */
    CS_CHECKED cs_code (*workload_jwt_svid)(void *self, struct cs_arena *a, const char *spiffe_id,
                                            struct cs_slice *claims, struct cs_err *e);
};

#endif
