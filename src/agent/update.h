/* SPDX-License-Identifier: Apache-2.0
 *
 * What a workload is entitled to at one moment: its identities and the bundles it needs, and the Workload
 * API messages made of them, each encoded once however many streams get it. Immutable, reference counted;
 * any thread.
 */
#ifndef CS_AGENT_UPDATE_H
#define CS_AGENT_UPDATE_H

#include "agent/entry.h"
#include "agent/svid.h"
#include "base/log.h"
#include "spiffe/bundle.h"

struct agent_identity {
    const struct agent_entry *entry;
    const struct agent_svid *svid;
};
struct agent_update {
    struct agent_identity *identities; /* in the order of entry IDs */
    size_t count;
    const struct spiffe_bundle *bundle;     /* the agent's trust domain; NULL: not known yet */
    const struct spiffe_bundle **federated; /* in the order of names, each once */
    size_t federated_count;
};

/* Room for so many; the caller fills with references of its own and sets the counts. NULL when memory is
 * out. */
struct agent_update *agent_update_new(size_t identities, size_t federated);
struct agent_update *agent_update_ref(const struct agent_update *u);
void agent_update_unref(const struct agent_update *u); /* NULL is fine */
static inline void agent_update_drop(struct agent_update **u)
{
    agent_update_unref(*u);
    *u = NULL;
}
/* The bundle of a trust domain name among those of the update; borrowed, NULL: none. */
const struct spiffe_bundle *agent_update_bundle(const struct agent_update *u, struct cs_slice trust_domain);

enum agent_message { AGENT_X509_SVID, AGENT_X509_BUNDLES, AGENT_JWT_BUNDLES };
#define AGENT_MESSAGE_KINDS 3
/* The packed X509SVIDResponse, X509BundlesResponse or JWTBundlesResponse; borrowed, lives as long as u.
 * *digest (may be NULL) names the content. `log` hears of entries with the same hint. Without identities
 * the bundles messages hold the own trust domain alone. CS_INTERNAL "bundle not available". */
CS_CHECKED cs_code agent_update_message(const struct agent_update *u, enum agent_message kind,
                                        const struct cs_log *log, struct cs_slice *out,
                                        const uint8_t **digest, struct cs_err *e);

#endif
