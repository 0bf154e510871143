/* SPDX-License-Identifier: Apache-2.0
 *
 * Enclave mode: node and workload are one, so whoever calls gets the node's entries (docs/enclaves.md). This
 * part keeps the files of the identity, and the workload when the agent is to start it.
 */
#ifndef CS_AGENT_ENCLAVE_H
#define CS_AGENT_ENCLAVE_H

#include "agent/agent.h"

/* What all entries are found by, and all callers have. */
#define AGENT_ENCLAVE_SELECTOR "enclave:workload"

struct agent_enclave;
/* After the first sync. Manager's thread, as the others here. */
CS_CHECKED cs_code agent_enclave_new(struct agent *a, struct agent_enclave **out, struct cs_err *e);
void agent_enclave_free(struct agent_enclave *n); /* NULL is fine; the files stay */
static inline void agent_enclave_drop(struct agent_enclave **n)
{
    agent_enclave_free(*n);
    *n = NULL;
}
/* Writes what is new; what fails is logged and tried again. CS_INTERNAL: the workload cannot be started. NULL
 * is fine, as in the next two. */
CS_CHECKED cs_code agent_enclave_tick(struct agent_enclave *n, struct cs_err *e);
/* From now on the Workload API answers: with an identity, be it there already, the workload is started. */
CS_CHECKED cs_code agent_enclave_serve(struct agent_enclave *n, struct cs_err *e);
/* Monotonic ns at which something that failed is to be tried again; INT64_MAX: nothing. */
int64_t agent_enclave_due(const struct agent_enclave *n);

#endif
