/* SPDX-License-Identifier: Apache-2.0
 *
 * All WorkloadAttestors, asked about one process (pkg/agent/attestor/workload of SPIRE). Built-in ones are
 * called in the caller's thread. External ones are asked at the same time, each by a few threads of its own
 * and for a bounded time: one that does not answer is counted as failed, and until it answers again only one
 * caller at a time waits for it. Those of our modules are asked like external ones, but by more threads and
 * until they answer, as they wait for one process and not for all.
 */
#ifndef CS_AGENT_ATTESTORS_H
#define CS_AGENT_ATTESTORS_H

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "plugin/catalog.h"

#include <sys/types.h>

/* As long as the slowest of SPIRE's own attestors goes on trying (k8s, 60 times half a second). */
#define AGENT_ATTESTOR_WAIT_NS (30 * CS_NS_PER_S)

/* Calls to a module's plugin at a time. */
#define AGENT_ATTESTOR_CALLS 64

struct agent_attestors;
struct agent_attestors_config {
    struct cs_log log;
    const struct catalog_plugin *const *plugins; /* borrowed, the array for the call only */
    size_t plugin_count;
    int64_t wait_ns; /* 0: AGENT_ATTESTOR_WAIT_NS */
};
CS_CHECKED cs_code agent_attestors_new(const struct agent_attestors_config *cfg, struct agent_attestors **out,
                                       struct cs_err *e);
/* Waits for calls under way, which must be ended by whoever owns the plugins. NULL is fine. */
void agent_attestors_free(struct agent_attestors *a);
static inline void agent_attestors_drop(struct agent_attestors **a)
{
    agent_attestors_free(*a);
    *a = NULL;
}

/* Does one of them wait for processes, so that as many callers as AGENT_ATTESTOR_CALLS should be let in? */
bool agent_attestors_take_long(const struct agent_attestors *a);

/* Selectors ("type:value") of the process, in the arena, in the order of the plugins. What one cannot say the
 * others may: only when all fail it is an error, and *e has the texts of all of them. Failures are logged.
 * Blocking; any thread, several at once. */
CS_CHECKED cs_code agent_attestors_ask(struct agent_attestors *a, pid_t pid, struct cs_arena *arena,
                                       const char ***selectors, size_t *count, struct cs_err *e);

#endif
