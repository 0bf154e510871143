/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-agent run, validate, healthcheck
 */
#include "agent/run.h"
#include "cli/agent/internal.h"
#include "cli/daemon.h"
#include "cli/health.h"
#include "config/agent_config.h"

struct run_opts {
    const char *config;
    bool expand_env;
    struct agent_config_flags flags;
};

#define OFF(field) offsetof(struct run_opts, field)
static const struct cli_flag run_flags[] = {
    {"config", CLI_STRING, OFF(config), "Configuration file", AGENT_CONFIG_DEFAULT_PATH},
    {"expandEnv", CLI_BOOL, OFF(expand_env), "Replace $VAR and ${VAR} in the configuration file", NULL},
    {"dataDir", CLI_STRING, OFF(flags.data_dir), "Folder for runtime data", NULL},
    {"joinToken", CLI_STRING, OFF(flags.join_token), "Join token that the server generated", NULL},
    {"joinTokenFile", CLI_STRING, OFF(flags.join_token_file),
     "File with a join token that the server generated", NULL},
    {"logFile", CLI_STRING, OFF(flags.log_file), "File to log to", NULL},
    {"logFormat", CLI_STRING, OFF(flags.log_format), "'text' or 'json'", NULL},
    {"logLevel", CLI_STRING, OFF(flags.log_level), "'debug', 'info', 'warn', or 'error'", NULL},
    {"logSourceLocation", CLI_BOOL, OFF(flags.log_source_location),
     "Add file, line and function to log lines", NULL},
    {"rebootstrapDelay", CLI_STRING, OFF(flags.rebootstrap_delay),
     "How long the server's certificate must have been wrong before bootstrapping anew", NULL},
    {"rebootstrapMode", CLI_STRING, OFF(flags.rebootstrap_mode), "'never', 'auto', or 'always'", NULL},
    {"serverAddress", CLI_STRING, OFF(flags.server_address), "Address or name of the server", NULL},
    {"serverPort", CLI_INT, OFF(flags.server_port), "Port of the server", NULL},
    {"socketPath", CLI_STRING, OFF(flags.socket_path), "Unix socket of the agent's APIs", NULL},
    {"trustBundle", CLI_STRING, OFF(flags.trust_bundle_path), "File with the server's CA bundle", NULL},
    {"trustBundleFormat", CLI_STRING, OFF(flags.trust_bundle_format),
     "Format of that bundle, \"pem\" or \"spiffe\"", NULL},
    {"trustBundleUrl", CLI_STRING, OFF(flags.trust_bundle_url), "URL to load the server's CA bundle from",
     NULL},
    {"trustDomain", CLI_STRING, OFF(flags.trust_domain), "Trust domain of this agent", NULL},
    {"allowUnauthenticatedVerifiers", CLI_BOOL, OFF(flags.allow_unauthenticated_verifiers),
     "Callers without an identity may fetch bundles", NULL},
    {"disableSDSAPI", CLI_BOOL, OFF(flags.disable_sds_api), "Do not serve the Envoy SDS API", NULL},
    {"disableWorkloadAPI", CLI_BOOL, OFF(flags.disable_workload_api), "Do not serve the SPIFFE Workload API",
     NULL},
    {"insecureBootstrap", CLI_BOOL, OFF(flags.insecure_bootstrap), "Bootstrap without verifying the server",
     NULL},
    CLI_END,
};

static cs_code run_agent(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct run_opts *o = opts;
    CS_AUTO(agent_config) cfg = NULL;
    CS_CLEANUP(config_notes_free) struct config_notes notes = {0};
    CS_CLEANUP(cli_sink_drop) struct cs_log_sink *sink = NULL;
    cs_code code = agent_config_load(o->config, o->expand_env, &o->flags, &cfg, &notes, e);
    if (code != CS_OK) {
        cli_daemon_refuse(env, &notes, "", e);
        return code;
    }
    code = cli_daemon_log(&cfg->log, cfg->log.file[0] != '\0' ? cfg->log.file : NULL, &notes, &sink, e);
    if (code != CS_OK) {
        fprintf(env->err, "%s\n", e->text);
        return code;
    }
    return agent_run(cfg, sink, &env->status, e);
}

static cs_code validate_agent(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct run_opts *o = opts;
    CS_AUTO(agent_config) cfg = NULL;
    CS_CLEANUP(config_notes_free) struct config_notes notes = {0};
    CS_CLEANUP(cli_sink_drop) struct cs_log_sink *sink = NULL;
    static const char invalid[] = "SPIRE agent configuration file is invalid: ";
    cs_code code = agent_config_load(o->config, o->expand_env, &o->flags, &cfg, &notes, e);
    if (code != CS_OK) {
        cli_daemon_refuse(env, &notes, invalid, e);
        return code;
    }
    code = cli_daemon_log(&cfg->log, NULL, &notes, &sink, e);
    if (code != CS_OK)
        fprintf(env->err, "%s%s\n", invalid, e->text);
    else
        fputs("SPIRE agent configuration file is valid.\n", env->out);
    return code;
}

static const struct cli_flag health_flags[] = {
    CLI_HEALTH_FLAGS,
    CLI_AGENT_SOCKET_FLAGS(struct cli_health_opts),
    CLI_END,
};

static cs_code run_health(struct cli_env *env, void *opts, struct cs_err *e)
{
    if (cli_health_check(env, CLI_AGENT, "agent", "Agent is healthy.", opts, e) != CS_OK)
        return cs_wrap(e, "Agent is unhealthy");
    return CS_OK;
}

const struct cli_command agt_run = {
    .path = "run",
    .synopsis = "Runs the agent",
    .flags = run_flags,
    .opts_size = sizeof(struct run_opts),
    .run = run_agent,
    .quirks = CLI_FLAG_ERROR_TWICE | CLI_SELF_REPORTING,
};
const struct cli_command agt_validate = {
    .path = "validate",
    .synopsis = "Validates a SPIRE agent configuration file",
    .flags = run_flags,
    .opts_size = sizeof(struct run_opts),
    .run = validate_agent,
    .quirks = CLI_FLAG_ERROR_TWICE | CLI_SELF_REPORTING,
    .flag_error_prefix = "SPIRE agent configuration file is invalid: ",
};
const struct cli_command agt_healthcheck = {
    .path = "healthcheck",
    .set_name = "health",
    .synopsis = "Determines agent health status",
    .flags = health_flags,
    .opts_size = sizeof(struct cli_health_opts),
    .run = run_health,
    .quirks = CLI_HELP_SILENT | CLI_BARE_ERRORS,
};
