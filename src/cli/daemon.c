/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/daemon.h"

cs_code cli_daemon_log(const struct config_log *log, const char *path, const struct config_notes *notes,
                       struct cs_log_sink **out, struct cs_err *e)
{
    CS_TRY(cs_log_sink_open(path, log->format, log->level, out, e));
    cs_log_sink_set_source(*out, log->source_location);
    config_notes_log(notes, &(struct cs_log){.sink = *out});
    return CS_OK;
}

void cli_daemon_refuse(struct cli_env *env, const struct config_notes *notes, const char *prefix,
                       const struct cs_err *e)
{
    static const struct config_log plain = {.level = CS_LOG_INFO};
    CS_CLEANUP(cli_sink_drop) struct cs_log_sink *sink = NULL;
    if (notes->len > 0)
        (void)!cli_daemon_log(&plain, NULL, notes, &sink, NULL);
    fprintf(env->err, "%s%s\n", prefix, e->text);
}
