/* SPDX-License-Identifier: Apache-2.0
 *
 * The server's own X509-SVID (spiffe://<trust domain>/spire/server) and the TLS context made of it,
 * replaced as a whole at half of its life (SPIRE's pkg/server/svid).
 */
#ifndef CS_SERVER_SVID_H
#define CS_SERVER_SVID_H

#include "base/log.h"
#include "crypto/key.h"
#include "plugin/plugin.h"
#include "server/bundlestore.h"
#include "server/ca/ca.h"

struct server_svid;

struct server_svid_config {
    struct ca *ca;               /* borrowed, and so are all pointers here */
    struct bundlestore *bundles; /* our own bundle tells when the authority was tainted */
    enum crypto_key_type type;
    const struct crypto_stop *stop; /* of key generation; may be NULL */
    const struct cs_clock *clock;
    struct cs_log log;
};
/* Signs the first one at once. */
CS_CHECKED cs_code server_svid_new(const struct server_svid_config *cfg, struct server_svid **out,
                                   struct cs_err *e);
void server_svid_free(struct server_svid *s);

/* A new reference to the current context, as rpc_listener_tls.get_ctx wants it. Any thread. */
SSL_CTX *server_svid_ctx(void *svid);
/* A copy of the current chain and key; `bundle` is left NULL. Any thread. */
CS_CHECKED cs_code server_svid_identity(struct server_svid *s, struct plugin_identity *out, struct cs_err *e);
/* Unix nanoseconds after which it is to be replaced. Any thread. */
int64_t server_svid_due(struct server_svid *s);
/* Replaces it when that time has come, or when it leads to an authority that was tainted since. One thread at
 * a time; may block on the key. A failure is logged and returned; the older one stays. */
CS_CHECKED cs_code server_svid_rotate(struct server_svid *s, struct cs_err *e);
/* How often to look at least. */
#define SERVER_SVID_INTERVAL_NS (5 * CS_NS_PER_S)

#endif
