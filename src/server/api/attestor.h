/* SPDX-License-Identifier: Apache-2.0
 *
 * Node attestors at work, on threads of their own: one that is slow, or hangs, holds up its own callers and
 * nobody else. Inside src/server/api only.
 */
#ifndef CS_SERVER_API_ATTESTOR_H
#define CS_SERVER_API_ATTESTOR_H

#include "plugin/catalog.h"
#include "plugin/nodeattestor_server.h"
#include "rpc/server.h"

/* Steps of one attestor that are under way at most; the next are refused. */
#define ATTESTOR_STEPS_MAX 32

struct api_attestors;
/* A thread for each step that can be under way, started when it is needed. The catalog is borrowed. */
CS_CHECKED cs_code api_attestors_new(const struct catalog *catalog, struct api_attestors **out,
                                     struct cs_err *e);
/* Waits for steps under way. NULL is fine. */
void api_attestors_free(struct api_attestors *a);
const struct catalog_plugin *api_attestors_find(const struct api_attestors *a, const char *name);

/* One node before one attestor: a step at a time. Used on the executor of the call only. */
struct attestation;
typedef void attestation_done_fn(struct rpc_call *call, void *service, void *state);

/* Begin a step; `done` is called on the call's executor when it is over, unless the call is. CS_EXHAUSTED
 * `nodeattestor(x): too many attestations are under way`. Everything is copied; the
 * plugin is told that the agent has gone by attestation_end. */
CS_CHECKED cs_code attestation_start(struct api_attestors *a, const struct catalog_plugin *plugin,
                                     struct rpc_call *call, const struct nodeattestor_request *request,
                                     attestation_done_fn *done, struct attestation **out, struct cs_err *e);
CS_CHECKED cs_code attestation_respond(struct attestation *t, struct cs_slice response, struct cs_err *e);
bool attestation_busy(struct attestation *t);
/* What the step gave, once it is done; lives until the next step. Errors with `nodeattestor(x): `. */
CS_CHECKED cs_code attestation_result(struct attestation *t, const struct nodeattestor_step **step,
                                      struct cs_err *e);
/* At any time, and once. A step under way ends by itself. NULL is fine. */
void attestation_end(struct attestation *t);

#endif
