/* SPDX-License-Identifier: Apache-2.0
 *
 * The SPIFFE Workload API (SPIFFE_Workload_API.md): its service rows, and what its handlers share.
 */
#ifndef CS_AGENT_WORKLOAD_H
#define CS_AGENT_WORKLOAD_H

#include "agent/agent.h"
#include "agent/attestors.h"
#include "agent/fairqueue.h"
#include "agent/ratelimit.h"
#include "rpc/server.h"

enum workload_limit { LIMIT_X509_SVID, LIMIT_JWT_SVID, LIMIT_X509_BUNDLES, LIMIT_JWT_BUNDLES, LIMIT_COUNT };

/* Context of the service. */
struct workload_api {
    struct agent *agent;
    struct cs_log log;
    struct agent_fairqueue *jwt_jobs; /* calls to the server for tokens: they may hang, nobody else waits */
    struct agent_attestors *attestors;
    struct agent_ratelimit *limits[LIMIT_COUNT]; /* NULL: no limit */
    struct cs_log_limit denials, failures;
};
CS_CHECKED cs_code workload_api_init(struct workload_api *w, struct agent *a, struct cs_err *e);
void workload_api_free(struct workload_api *w);

extern const struct rpc_method workload_methods[];
extern const size_t workload_method_count;
#define WORKLOAD_SERVICE "SpiffeWorkloadAPI"

/* Who is calling: its selectors ("type:value"), in the arena given. */
struct workload_caller {
    const char **selectors;
    size_t count;
    pid_t pid;
};
/* Attests the peer of the call, and makes sure that it was the peer that was attested. Not CS_OK: logged, and
 * the status to answer with. `limit` is applied after that. */
CS_CHECKED cs_code workload_attest(struct workload_api *w, struct rpc_call *call, struct cs_arena *arena,
                                   enum workload_limit limit, struct workload_caller *out, struct cs_err *e);
/* The logger of a call: service, method, caller. */
struct cs_log workload_log(const struct workload_api *w, struct rpc_call *call);
/* PermissionDenied "no identity issued", logged with what may help to find out why. */
cs_code workload_deny(struct workload_api *w, struct rpc_call *call, const struct workload_caller *caller,
                      struct cs_err *e);

/* workload_jwt.c */
extern const struct rpc_stream_ops workload_fetch_jwt;
CS_CHECKED cs_code workload_validate_jwt(struct rpc_call *call, void *service, struct cs_slice request,
                                         struct cs_buf *response, struct cs_err *e);

#endif
