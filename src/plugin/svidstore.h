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

/* metadata: the values of the entry's selectors of this store's type. Blocking; as many calls of a plugin at
 * a time as it says, but one at most for the same entry, and for the same metadata. */
struct svidstore_ops {
    CS_CHECKED cs_code (*put)(void *self, const struct svidstore_svid *svid, const char *const *metadata,
                              size_t metadata_count, struct cs_err *e);
    CS_CHECKED cs_code (*remove)(void *self, const char *const *metadata, size_t metadata_count,
                                 struct cs_err *e);
    unsigned calls_max; /* at a time; 0: one, as SPIRE calls external plugins */
};

/* --- What stores share --- */

/* KEY:VALUE in each? CS_INVALID `metadata does not contain a colon: "x"` (pkg/agent/plugin/svidstore of
 * SPIRE). */
CS_CHECKED cs_code plugin_svid_metadata_check(const char *const *metadata, size_t count, struct cs_err *e);
/* VALUE of KEY, of the last one with it; NULL: none. */
const char *plugin_svid_metadata(const char *const *metadata, size_t count, const char *key);

/* Append PEM: the certificates, leaf first; the key, whose buffer the caller wipes and which is to be empty
 * before; the roots. */
CS_CHECKED cs_code plugin_svid_chain_pem(const struct svidstore_svid *svid, struct cs_buf *out,
                                         struct cs_err *e);
CS_CHECKED cs_code plugin_svid_key_pem(const struct svidstore_svid *svid, struct cs_buf *out,
                                       struct cs_err *e);
CS_CHECKED cs_code plugin_svid_bundle_pem(const struct svidstore_svid *svid, struct cs_buf *out,
                                          struct cs_err *e);
CS_CHECKED cs_code plugin_svid_federated_pem(const struct svidstore_federated *f, struct cs_buf *out,
                                             struct cs_err *e);
/* The JSON that SPIRE's stores put in a secret, with spiffeID, x509SVID, x509SVIDKey, bundle and
 * federatedBundles, into the empty buffer `out`, which the caller wipes. Trust domains in order of their
 * names. */
CS_CHECKED cs_code plugin_svid_secret_json(const struct svidstore_svid *svid, struct cs_buf *out,
                                           struct cs_err *e);

#endif
