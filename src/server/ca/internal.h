/* SPDX-License-Identifier: Apache-2.0
 *
 * The CA from inside: ca.c has its life and X509-SVIDs, cacert.c the CA certificates, token.c JWT-SVIDs.
 */
#ifndef CS_SERVER_CA_INTERNAL_H
#define CS_SERVER_CA_INTERNAL_H

#include "crypto/x509_issue.h"
#include "server/ca/authority.h"
#include "server/ca/compose.h"

#include <pthread.h>

struct ca {
    struct cs_arena *arena; /* of the configuration */
    const struct cs_clock *clock;
    const char *trust_domain, *td_id, *server_id;
    const char *jwt_issuer;
    int64_t x509_ca_ttl, x509_svid_ttl, agent_ttl, jwt_svid_ttl;
    bool disable_jwt_svids;
    struct x509_name ca_subject;
    struct cs_slice svid_subject; /* DER of C=US, O=SPIRE */
    struct ca_composers composers;

    pthread_mutex_t lock; /* held to copy or replace a pointer only */
    struct ca_x509_authority *x509;
    struct ca_jwt_authority *jwt;
};

/* New references to the active authorities; CS_INTERNAL when there is none. */
CS_CHECKED cs_code ca_take_x509(struct ca *ca, struct ca_x509_authority **out, struct cs_err *e);
CS_CHECKED cs_code ca_take_jwt(struct ca *ca, struct ca_jwt_authority **out, struct cs_err *e);

/* Makes CS_INTERNAL of any error. */
cs_code ca_internal(struct cs_err *e);
/* `what` is "X509-SVID" or "JWT-SVID". */
CS_CHECKED cs_code ca_check_id(const struct ca *ca, const char *what, const char *text, struct cs_err *e);
/* now + ttl, but not past the authority's own end (0: none). */
int64_t ca_capped(int64_t now, int64_t ttl, int64_t cap);
/* What SPIRE finds out by looking at the certificate it just signed. */
CS_CHECKED cs_code ca_check_lifetime(const char *what, const char *kind, int64_t now, int64_t not_after,
                                     struct cs_err *e);
CS_CHECKED cs_code ca_name_to_arena(struct cs_arena *a, const struct x509_name *name, struct cs_slice *out,
                                    struct cs_err *e);
/* The leaf and the chain behind it, all in the arena. */
CS_CHECKED cs_code ca_fill_result(const struct ca_x509_authority *auth, struct cs_arena *a,
                                  struct cs_slice leaf, const struct x509_serial *serial, struct ca_x509 *out,
                                  struct cs_err *e);

#endif
