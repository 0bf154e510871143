/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-server run, validate, healthcheck
 */
#include "server/run.h"
#include "cli/daemon.h"
#include "cli/health.h"
#include "cli/server/internal.h"
#include "config/server_config.h"

struct run_opts {
    const char *config;
    bool expand_env;
    struct server_config_flags flags;
};

#define OFF(field) offsetof(struct run_opts, field)
static const struct cli_flag run_flags[] = {
    {"config", CLI_STRING, OFF(config), "Configuration file", NULL},
    {"expandEnv", CLI_BOOL, OFF(expand_env), "Replace $VAR and ${VAR} in the configuration file", NULL},
    {"bindAddress", CLI_STRING, OFF(flags.bind_address), "Address or name to listen on", NULL},
    {"serverPort", CLI_INT, OFF(flags.bind_port), "Port to listen on", NULL},
    {"dataDir", CLI_STRING, OFF(flags.data_dir), "Folder for runtime data", NULL},
    {"trustDomain", CLI_STRING, OFF(flags.trust_domain), "Trust domain of this server", NULL},
    {"socketPath", CLI_STRING, OFF(flags.socket_path), "Unix socket of the server API", NULL},
    {"logFile", CLI_STRING, OFF(flags.log_file), "File to log to", NULL},
    {"logFormat", CLI_STRING, OFF(flags.log_format), "'text' or 'json'", NULL},
    {"logLevel", CLI_STRING, OFF(flags.log_level), "'debug', 'info', 'warn', or 'error'", NULL},
    {"logSourceLocation", CLI_BOOL, OFF(flags.log_source_location),
     "Add file, line and function to log lines", NULL},
    CLI_END,
};

static cs_code run_server(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct run_opts *o = opts;
    CS_AUTO(server_config) cfg = NULL;
    CS_CLEANUP(config_notes_free) struct config_notes notes = {0};
    CS_CLEANUP(cli_sink_drop) struct cs_log_sink *sink = NULL;
    cs_code code = server_config_load(o->config, o->expand_env, &o->flags, &cfg, &notes, e);
    if (code != CS_OK) {
        cli_daemon_refuse(env, &notes, "", e);
        return code;
    }
    code = cli_daemon_log(&cfg->log, cfg->log.file[0] != '\0' ? cfg->log.file : NULL, &notes, &sink, e);
    if (code != CS_OK) {
        fprintf(env->err, "%s\n", e->text);
        return code;
    }
    return server_run(cfg, sink, e);
}

/* --- validate --- */

struct faults {
    struct cs_buf text;
    char last[128]; /* the plugin whose heading was added last */
};

static void add_fault(void *arg, const char *plugin, const char *text)
{
    struct faults *f = arg;
    if (f->text.len == 0 || strcmp(f->last, plugin) != 0)
        cs_buf_printf(&f->text, "\t%s:\n", plugin);
    snprintf(f->last, sizeof f->last, "%s", plugin);
    cs_buf_printf(&f->text, "\t\t%s\n", text);
}

static void free_faults(struct faults *f)
{
    cs_buf_free(&f->text);
}

static cs_code validate_server(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct run_opts *o = opts;
    CS_AUTO(server_config) cfg = NULL;
    CS_CLEANUP(config_notes_free) struct config_notes notes = {0};
    CS_CLEANUP(cli_sink_drop) struct cs_log_sink *sink = NULL;
    cs_code code = server_config_load(o->config, o->expand_env, &o->flags, &cfg, &notes, e);
    if (code == CS_OK)
        code = cli_daemon_log(&cfg->log, "/dev/null", &notes, &sink, e);
    if (code != CS_OK) {
        fprintf(env->err, "SPIRE server configuration file is invalid: %s\n", e->text);
        return code;
    }
    CS_CLEANUP(free_faults) struct faults f = {0};
    code = server_validate(cfg, sink, add_fault, &f, e);
    if (code != CS_OK) {
        fprintf(env->err, "Could not validate configuration file: %s", e->text);
        return code;
    }
    if (f.text.len > 0) {
        fprintf(env->err, "SPIRE server configuration file is invalid.\nValidation errors:\n%s",
                cs_buf_cstr(&f.text));
        return cs_fail(e, CS_INVALID, "invalid configuration");
    }
    fputs("SPIRE server configuration file is valid.\n", env->out);
    return CS_OK;
}

static const struct cli_flag health_flags[] = {
    CLI_HEALTH_FLAGS,
    CLI_SERVER_SOCKET_FLAGS(struct cli_health_opts),
    CLI_END,
};

static cs_code run_health(struct cli_env *env, void *opts, struct cs_err *e)
{
    if (cli_health_check(env, CLI_SERVER, "server", "Server is healthy.", opts, e) != CS_OK)
        return cs_wrap(e, "server is unhealthy");
    return CS_OK;
}

const struct cli_command srv_run = {
    .path = "run",
    .synopsis = "Runs the server",
    .flags = run_flags,
    .opts_size = sizeof(struct run_opts),
    .run = run_server,
    .quirks = CLI_FLAG_ERROR_TWICE | CLI_SELF_REPORTING,
};
const struct cli_command srv_validate = {
    .path = "validate",
    .synopsis = "Validates a SPIRE server configuration file",
    .flags = run_flags,
    .opts_size = sizeof(struct run_opts),
    .run = validate_server,
    .quirks = CLI_FLAG_ERROR_TWICE | CLI_SELF_REPORTING,
    .flag_error_prefix = "SPIRE server configuration file is invalid: ",
};
const struct cli_command srv_healthcheck = {
    .path = "healthcheck",
    .synopsis = "Determines server health status",
    .flags = health_flags,
    .opts_size = sizeof(struct cli_health_opts),
    .run = run_health,
};
