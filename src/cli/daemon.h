/* SPDX-License-Identifier: Apache-2.0
 *
 * What the `run` and `validate` commands of both programs share: the log sink of a configuration, and
 * saying what was noted while it was read.
 */
#ifndef CS_CLI_DAEMON_H
#define CS_CLI_DAEMON_H

#include "cli/cli.h"
#include "config/config.h"

/* Opens the sink that `log` describes, at `path` (NULL: standard output), and writes the notes to it.
 * *out is the caller's: cs_log_sink_free. */
CS_CHECKED cs_code cli_daemon_log(const struct config_log *log, const char *path,
                                  const struct config_notes *notes, struct cs_log_sink **out,
                                  struct cs_err *e);
/* For a configuration that could not be read, so that there is no sink yet: the notes go to standard
 * output in the default format, the error after `prefix` to standard error. */
void cli_daemon_refuse(struct cli_env *env, const struct config_notes *notes, const char *prefix,
                       const struct cs_err *e);

static inline void cli_sink_drop(struct cs_log_sink **s)
{
    cs_log_sink_free(*s);
    *s = NULL;
}

#endif
