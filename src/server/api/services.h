/* SPDX-License-Identifier: Apache-2.0
 *
 * The gRPC services of the server: what the TCP endpoint and the admin socket serve, and the hooks
 * in front of and behind each call (who may call, rate limit, audit). The server starts the
 * listeners; this is what it puts in them:
 *
 *     api_new(&cfg, &api, e);
 *     listener.services = api_services(api, API_TCP, &listener.service_count);
 *     listener.arg = api; listener.begin = api_begin; listener.end = api_end;
 *     listener.tls.verify_client: verify the chain, then api_peer_new as the connection's data
 *     (destructor api_peer_free).
 */
#ifndef CS_SERVER_API_SERVICES_H
#define CS_SERVER_API_SERVICES_H

#include "base/clock.h"
#include "base/log.h"
#include "rpc/server.h"

struct ds;
struct ca;
struct bundlestore;
struct catalog;
struct loop;

struct api;

/* Everything borrowed; it must outlive the api. */
struct api_config {
    const char *trust_domain; /* name, without spiffe:// */
    struct ds *ds;
    struct ca *ca;
    struct bundlestore *bundles;
    struct catalog *catalog; /* node attestors */
    const struct cs_clock *clock;
    struct cs_log log;            /* subsystem_name=api is added here */
    const char *const *admin_ids; /* SPIFFE IDs of `admin_ids`; may be NULL */
    size_t admin_id_count;
    bool limit_attestation;            /* ratelimit.attestation */
    bool limit_signing;                /* ratelimit.signing */
    bool audit_log;                    /* audit_log_enabled */
    bool agent_spiffe_id_as_selector;  /* experimental.agent_spiffe_id_as_selector */
    int64_t prune_nodes_expired_for_s; /* 0: expired nodes are kept */
    int prune_nodes_batch;             /* nodes deleted in one transaction; 0: all */
    bool prune_nontofu_nodes;          /* also those that cannot attest again */
    int64_t prune_events_older_than_s; /* 0: 12 hours */
    struct loop *loop;                 /* timers of calls that wait for their rate limit; NULL: refuse them */
};

/* Loads the entries and agents of the datastore into the caches, and follows them from then on as the
 * datastore's observer (ds_observe). Fails only when the datastore does or memory is out. */
CS_CHECKED cs_code api_new(const struct api_config *cfg, struct api **out, struct cs_err *e);
/* After the rpc server was shut down. NULL is fine. */
void api_free(struct api *a);

enum api_listener { API_TCP, API_ADMIN_SOCKET };
/* Rows for rpc_listener.services; owned by the api. */
const struct rpc_service *api_services(struct api *a, enum api_listener which, size_t *count);

/* rpc_listener.begin and .end; arg is the struct api. */
cs_code api_begin(struct rpc_call *call, void *arg, struct cs_err *e);
void api_end(struct rpc_call *call, void *arg, cs_code code, const char *text);

/* Upkeep, from a timer of the server on a worker thread (never on an I/O loop); cheap when there is
 * nothing to do. Every API_REFRESH_NS: picks up what another server wrote to a shared database.
 * Every API_PRUNE_NS: deletes expired entries, join tokens a day after they expired, old events, and
 * agents expired for longer than configured. Errors are logged, not returned. Not two at once. */
#define API_REFRESH_NS (5 * CS_NS_PER_S)
#define API_PRUNE_NS (300 * CS_NS_PER_S)
void api_refresh(struct api *a);
void api_prune(struct api *a);

/* --- The verified identity of a TLS client: the connection's data --- */
struct api_peer;
/* From the verified leaf: its SPIFFE ID, serial number as decimal text, and end of validity (unix
 * seconds). Strings are copied. Immutable, any thread. */
CS_CHECKED cs_code api_peer_new(const char *spiffe_id, const char *serial, int64_t not_after,
                                struct api_peer **out, struct cs_err *e);
void api_peer_free(void *peer); /* as the destructor of rpc's connection data */

#endif
