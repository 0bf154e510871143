/* SPDX-License-Identifier: Apache-2.0
 *
 * The side of the CA manager that talks to an UpstreamAuthority plugin.
 */
#ifndef CS_SERVER_CA_UPSTREAM_H
#define CS_SERVER_CA_UPSTREAM_H

#include "plugin/catalog.h"
#include "server/bundlestore.h"
#include "server/ca/authority.h"

struct ca_upstream {
    const struct catalog_plugin *plugin;
    struct ca *ca;
    struct bundlestore *bundles;
    const char *trust_domain; /* name */
    const struct cs_clock *clock;
};

/* A CA certificate for the key, with its chain (our certificate first). Before it is taken, and before the
 * upstream's roots go into our bundle, a throwaway X509-SVID made with it must verify against those
 * roots. Blocking. CS_INVALID `X509 CA minted by upstream authority is invalid: ...`; the plugin's errors
 * with `upstreamauthority(NAME): ` in front. */
CS_CHECKED cs_code ca_upstream_mint(const struct ca_upstream *u, struct crypto_signer *signer,
                                    struct x509_chain *chain, struct cs_err *e);

/* Publish a JWT key upstream and take over the upstream's keys. CS_UNIMPLEMENTED: the plugin cannot. */
CS_CHECKED cs_code ca_upstream_publish_jwt(const struct catalog_plugin *plugin, struct bundlestore *bundles,
                                           const char *trust_domain_id, const struct ds_key *key,
                                           struct cs_err *e);

#endif
