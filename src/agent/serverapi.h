/* SPDX-License-Identifier: Apache-2.0
 *
 * The calls that the agent makes to the server, with SPIRE's log lines (pkg/agent/client). Blocking, over an
 * agent_link.
 */
#ifndef CS_AGENT_SERVERAPI_H
#define CS_AGENT_SERVERAPI_H

#include "agent/cache.h"
#include "agent/link.h"
#include "base/coll.h"
#include "plugin/nodeattestor_agent.h"

/* --- Entries and bundles --- */

/* What differs from the cache; owned by the struct, zero-initialise. */
struct agent_sync {
    struct cs_vec changed; /* struct agent_entry *, referenced */
    struct cs_vec removed; /* char *, owned */
    uint64_t mark;         /* to be remembered once this is in the cache */
};
/* What one round remembers for the next; zero-initialise. */
struct agent_sync_state {
    uint64_t mark;     /* keyed hash of the revisions last applied; 0: none */
    size_t page_bytes; /* of the revisions last seen, as they came */
};
void agent_sync_free(struct agent_sync *s); /* zeroes; for CS_CLEANUP too */

/* Asks for revisions, then for those entries that are new or of another revision (SyncAuthorizedEntries).
 * When the revisions are those of the round before nothing else is looked at; the caller sets state->mark
 * after it applied what it got. */
CS_CHECKED cs_code agent_api_sync_entries(struct agent_link *l, const struct cs_log *log,
                                          const struct agent_cache *cache, struct agent_sync_state *state,
                                          struct agent_sync *out, struct agent_failure *failure,
                                          struct cs_err *e);
/* The same by fetching all entries (GetAuthorizedEntries). */
CS_CHECKED cs_code agent_api_fetch_entries(struct agent_link *l, const struct cs_log *log,
                                           const struct agent_cache *cache, struct agent_sync_state *state,
                                           struct agent_sync *out, struct agent_failure *failure,
                                           struct cs_err *e);

/* The packed types.Bundle of the agent's own trust domain (NULL) or of a federated one. CS_NOT_FOUND. */
CS_CHECKED cs_code agent_api_get_bundle(struct agent_link *l, const struct cs_log *log,
                                        const char *trust_domain, struct cs_buf *out,
                                        struct agent_failure *failure, struct cs_err *e);
/* Reads a packed types.Bundle. CS_INVALID. */
CS_CHECKED cs_code agent_bundle_parse(struct cs_slice packed, struct spiffe_bundle **out, struct cs_err *e);

/* --- SVIDs --- */

struct agent_csr {
    const char *entry_id;
    struct cs_slice csr;
};
/* chains[i] answers csrs[i]; count 0 where the server refused (logged). The caller owns the chains. */
CS_CHECKED cs_code agent_api_new_svids(struct agent_link *l, const struct cs_log *log,
                                       const struct agent_csr *csrs, size_t count, struct x509_chain *chains,
                                       struct agent_failure *failure, struct cs_err *e);
CS_CHECKED cs_code agent_api_renew(struct agent_link *l, const struct cs_log *log, struct cs_slice csr,
                                   struct x509_chain *out, struct agent_failure *failure, struct cs_err *e);

/* Token and times of a new JWT-SVID, in the arena. */
struct agent_new_jwt {
    const char *token, *spiffe_id;
    int64_t issued_at, expires_at;
};
CS_CHECKED cs_code agent_api_new_jwt(struct agent_link *l, const struct cs_log *log, const char *entry_id,
                                     const char *const *audience, size_t audience_count, int64_t timeout_ns,
                                     struct cs_arena *a, struct agent_new_jwt *out, struct cs_err *e);

/* --- The agent itself --- */

CS_CHECKED cs_code agent_api_post_status(struct agent_link *l, const struct cs_log *log, const char *version,
                                         struct agent_failure *failure, struct cs_err *e);

/* How a node attestor plugin is run; type is the attestation data's. */
struct agent_attestor {
    const char *type;
    const struct nodeattestor_agent_ops *ops;
    void *self;
};
/* One AttestAgent call; `key` is the one in the CSR. */
CS_CHECKED cs_code agent_api_attest(struct agent_link *l, const struct agent_attestor *attestor,
                                    struct cs_slice csr, const struct crypto_pub *key,
                                    struct x509_chain *svid, bool *reattestable,
                                    struct agent_failure *failure, struct cs_err *e);

#endif
