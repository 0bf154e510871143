/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may connect over TLS: clients without a certificate (they can attest), and holders of an
 * X509-SVID of our trust domain, or one of the admin IDs of a federated one, whose chain leads to the
 * current bundle (SPIRE's pkg/server/endpoints/auth.go).
 */
#ifndef CS_SERVER_PEER_H
#define CS_SERVER_PEER_H

#include "base/clock.h"
#include "base/log.h"
#include "server/bundlestore.h"

struct peer_verifier;

/* Everything borrowed; admin_ids are SPIFFE IDs. */
struct peer_verifier_config {
    struct bundlestore *bundles;
    const char *trust_domain; /* name */
    const char *const *admin_ids;
    size_t admin_id_count;
    const struct cs_clock *clock;
    struct cs_log log;
};
CS_CHECKED cs_code peer_verifier_new(const struct peer_verifier_config *cfg, struct peer_verifier **out,
                                     struct cs_err *e);
void peer_verifier_free(struct peer_verifier *v);

/* As rpc_listener_tls.verify_client; arg is the verifier. The connection's data is an api_peer. Any
 * thread, no I/O. CS_UNAUTHENTICATED. */
CS_CHECKED cs_code peer_verify(void *arg, const struct cs_slice *chain, size_t count, void **conn_data,
                               void (**destroy)(void *), struct cs_err *e);

#endif
