/* SPDX-License-Identifier: Apache-2.0
 *
 * The commands of spire-agent, sorted by path. A row without `run` is a command of SPIRE that is not
 * built yet; calling it says so.
 */
#include "cli/agent/internal.h"

const struct cli_command *const cli_agent_commands[] = {
    &agt_fetch,
    &agt_fetch_jwt,
    &agt_fetch_x509,
    &agt_validate_jwt,
    &agt_watch,
    &(const struct cli_command){.path = "debug getinfo",
                                .synopsis = "Prints information about the running agent"},
    &agt_healthcheck,
    &(const struct cli_command){.path = "logger get", .synopsis = "Shows the log level"},
    &(const struct cli_command){.path = "logger reset",
                                .synopsis = "Resets the log level to that of the start"},
    &(const struct cli_command){.path = "logger set", .synopsis = "Sets the log level"},
    &agt_run,
    &agt_validate,
};
const size_t cli_agent_command_count = sizeof cli_agent_commands / sizeof cli_agent_commands[0];
