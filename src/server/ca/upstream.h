/* SPDX-License-Identifier: Apache-2.0
 *
 * The side of the CA manager that talks to an UpstreamAuthority plugin, and listens to it: roots and JWT keys
 * that come later go into our bundle (SPIRE's pkg/server/ca/upstream_client.go and the bundleUpdater of its
 * pkg/server/ca/manager). Inside src/server/ca only; any thread.
 */
#ifndef CS_SERVER_CA_UPSTREAM_H
#define CS_SERVER_CA_UPSTREAM_H

#include "plugin/catalog.h"
#include "server/bundlestore.h"
#include "server/ca/authority.h"

/* All borrowed. */
struct ca_upstream_config {
    const struct catalog_plugin *plugin;
    struct ca *ca;
    struct ds *ds;
    struct bundlestore *bundles;
    const char *trust_domain; /* name */
    const struct cs_clock *clock;
    struct cs_log log;
};
struct ca_upstream;

/* Listens from now on. */
CS_CHECKED cs_code ca_upstream_new(const struct ca_upstream_config *cfg, struct ca_upstream **out,
                                   struct cs_err *e);
/* Waits for what is being told. NULL is fine. */
void ca_upstream_free(struct ca_upstream *u);

/* A CA certificate for the key, with its chain (our certificate first). Before it is taken, and before the
 * upstream's roots go into our bundle, a throwaway X509-SVID made with it must verify against those
 * roots. Blocking. CS_INVALID `X509 CA minted by upstream authority is invalid: ...`; the plugin's errors
 * with `upstreamauthority(NAME): ` in front. */
CS_CHECKED cs_code ca_upstream_mint(struct ca_upstream *u, struct crypto_signer *signer,
                                    struct x509_chain *chain, struct cs_err *e);

/* Publish a JWT key upstream and take over the upstream's keys. CS_UNIMPLEMENTED: the plugin cannot. */
CS_CHECKED cs_code ca_upstream_publish_jwt(struct ca_upstream *u, const struct ds_key *key, struct cs_err *e);

/* Roots of our bundle that the upstream says are tainted: what hangs on them is to be replaced first, then
 * the taint goes into the bundle, then they are done with. *out: new references, release with
 * x509_chain_free. */
CS_CHECKED cs_code ca_upstream_tainted(struct ca_upstream *u, struct x509_chain *out, struct cs_err *e);
void ca_upstream_taints_done(struct ca_upstream *u, const struct x509_chain *done);

#endif
