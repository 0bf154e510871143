/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor plugins, server half (spire.plugin.server.nodeattestor.v1 of SPIRE's plugin SDK). A
 * plugin never waits for the agent: each message of it is one call. join_token is listed here for
 * its configuration only; the attestation service does it itself, since it needs the datastore.
 */
#ifndef CS_PLUGIN_NODEATTESTOR_SERVER_H
#define CS_PLUGIN_NODEATTESTOR_SERVER_H

#include "crypto/key.h"
#include "plugin/plugin.h"

/* What the node sent first, and who it is; all borrowed for the time of the call. SPIRE's own plugins see
 * only the payload and the address; the key lets a built-in bind its evidence to it. */
struct nodeattestor_request {
    struct cs_slice payload;
    struct cs_slice spki;  /* SubjectPublicKeyInfo of the CSR, DER; the CSR's signature was verified */
    const char *client_ip; /* "" when not known; sent to external plugins as x-forwarded-client-ip */
    /* The name under which the agent reached us, as it says, without port; "" or NULL when not known. Sent to
     * external plugins as x-untrusted-forwarded-host. */
    const char *host;
    /* Says that the agent has gone, so that nobody need wait; may be NULL. Lives as long as the session. */
    const struct crypto_stop *gone;
};

/* What comes next. Everything in it belongs to the session and lives until its next call. */
struct nodeattestor_step {
    bool done; /* attested; otherwise send `challenge` and wait for a response */
    struct cs_slice challenge;
    const char *agent_id;               /* "spiffe://example.org/spire/agent/x509pop/..." */
    const char *const *selector_values; /* without the type, which is the plugin's name */
    size_t selector_count;
    bool can_reattest;
};

struct nodeattestor_ops {
    /* First message. *session (NULL when no further message is needed) is ended by `end`. A refusal
     * is CS_DENIED or CS_INVALID with a text for the agent. Blocking; worker threads. */
    CS_CHECKED cs_code (*start)(void *self, const struct nodeattestor_request *request, void **session,
                                struct nodeattestor_step *step, struct cs_err *e);
    CS_CHECKED cs_code (*respond)(void *self, void *session, struct cs_slice response,
                                  struct nodeattestor_step *step, struct cs_err *e);
    void (*end)(void *self, void *session);
};

#endif
