/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/version.h"
#include "cli/cli.h"

#include <signal.h>

int main(int argc, char **argv)
{
    struct cli_env env = {
        .program = "spire-server", .version = CS_SPIRE_VERSION, .in = stdin, .out = stdout, .err = stderr};
    cs_mem_tune();
    signal(SIGPIPE, SIG_IGN); /* a peer that went away is an error code, not our end */
    return cli_main(&env, cli_server_commands, cli_server_command_count, argc - 1, argv + 1);
}
