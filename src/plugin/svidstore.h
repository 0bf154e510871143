/* SPDX-License-Identifier: Apache-2.0
 *
 * SVIDStore plugins: put the X509-SVIDs of entries with store_svid where workloads without an agent beside
 * them read it (spire.plugin.agent.svidstore.v1 of SPIRE's plugin SDK).
 */
#ifndef CS_PLUGIN_SVIDSTORE_H
#define CS_PLUGIN_SVIDSTORE_H

#include "plugin/plugin.h"

struct svidstore_federated {
    const char *trust_domain;     /* "spiffe://other.org", as SPIRE's agent names it */
    const struct cs_slice *roots; /* DER each */
    size_t root_count;
};
/* All borrowed for the time of the call. */
struct svidstore_svid {
    const char *spiffe_id;
    const struct cs_slice *chain; /* DER, leaf first */
    size_t chain_count;
    struct cs_slice key;           /* PKCS #8 DER, secret */
    const struct cs_slice *bundle; /* roots of the trust domain, DER each */
    size_t bundle_count;
    const struct svidstore_federated *federated;
    size_t federated_count;
    int64_t expires_at; /* unix seconds */
};

/* metadata: the values of the entry's selectors of this store's type. Blocking; one call of a plugin at
 * a time. */
struct svidstore_ops {
    CS_CHECKED cs_code (*put)(void *self, const struct svidstore_svid *svid, const char *const *metadata,
                              size_t metadata_count, struct cs_err *e);
    CS_CHECKED cs_code (*remove)(void *self, const char *const *metadata, size_t metadata_count,
                                 struct cs_err *e);
};

#endif
