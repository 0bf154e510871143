/* SPDX-License-Identifier: Apache-2.0
 *
 * The workload that an agent in enclave mode starts and lives with: one process, in a process group of its
 * own, with our standard streams and environment and SPIFFE_ENDPOINT_SOCKET. Signals are passed on to it;
 * when it ends, so does the agent.
 */
#ifndef CS_AGENT_COMMAND_H
#define CS_AGENT_COMMAND_H

#include "config/agent_config.h"

#include <sys/types.h>

/* All under the agent's lock. Zero-initialise. */
struct agent_command {
    pid_t pid;  /* 0: not started, or ended */
    int status; /* once it has ended: exit status, or 128 and the signal's number */
    bool started;
};

/* Forks and executes; the calling thread must outlive the process, which is killed with it. CS_INTERNAL
 * `fork/exec PATH: ...`. */
CS_CHECKED cs_code agent_command_start(struct agent_command *c, const struct agent_config *cfg,
                                       struct cs_err *e);
/* Takes the end of the process, if that is what happened; true once. Does not wait. As init of an enclave we
 * are also sent orphans, which are taken unless `others` are ours too. */
bool agent_command_reap(struct agent_command *c, bool others);
/* Passes a signal on; false: there is no process. */
bool agent_command_signal(const struct agent_command *c, int signum);

/* What SPIFFE_ENDPOINT_SOCKET is to be, in a new string; NULL: no memory. "" when there is no Workload API.
 */
char *agent_endpoint_url(const struct agent_config *cfg);

#endif
