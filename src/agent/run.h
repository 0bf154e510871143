/* SPDX-License-Identifier: Apache-2.0
 *
 * Running the agent: the entry point of the `run` command.
 */
#ifndef CS_AGENT_RUN_H
#define CS_AGENT_RUN_H

#include "base/log.h"

struct agent_config;

/* Runs until SIGINT or SIGTERM, or until something fatal (banned, evicted and not re-attestable, no
 * attestation within a minute, ...). The log sink is made by the caller from the configuration;
 * SIGUSR2 reopens it, SIGUSR1 reconfigures plugins with a plugin_data_file. Makes the folders of the
 * sockets, sets the umask to at most 0027, and takes the process out of core dumps and ptrace. Logs
 * what it does as SPIRE does, the last line included (`Agent stopped gracefully` or `Agent crashed`).
 * *status: what the workload ended with that it started (enclave mode), else 0. CS_OK: ended in order. An
 * error whose text was logged already. Call it from the main thread, once. */
CS_CHECKED cs_code agent_run(const struct agent_config *cfg, struct cs_log_sink *sink, int *status,
                             struct cs_err *e);

#endif
