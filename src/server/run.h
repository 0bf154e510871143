/* SPDX-License-Identifier: Apache-2.0
 *
 * Running the server: the entry point of the `run` and `validate` commands.
 */
#ifndef CS_SERVER_RUN_H
#define CS_SERVER_RUN_H

#include "base/log.h"

struct server_config;

/* Runs until SIGINT or SIGTERM (both drain and end within 5 s) or until something fatal. The log
 * sink is made by the caller from the configuration; SIGUSR2 reopens it, SIGUSR1 reconfigures plugins
 * with a plugin_data_file. Sets the umask to at most 0027, and takes the process out of core dumps and
 * ptrace. Logs what it does as SPIRE does, the last line included (`Server stopped gracefully` or
 * `Server crashed`). CS_OK: ended in order. Call it from the main thread, once. */
CS_CHECKED cs_code server_run(const struct server_config *cfg, struct cs_log_sink *sink, struct cs_err *e);

/* What `validate` does past reading the file: checks each plugin's configuration without side effects.
 * `note` is called for each fault with `TYPE "name"` and a text. */
CS_CHECKED cs_code server_validate(const struct server_config *cfg, struct cs_log_sink *sink,
                                   void (*note)(void *arg, const char *plugin, const char *text), void *arg,
                                   struct cs_err *e);

#endif
