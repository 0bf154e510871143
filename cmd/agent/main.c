/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"
#include "base/version.h"
#include "cli/cli.h"
#include "crypto/alone.h"

#include <signal.h>
#ifdef CSPIRE_STATIC
#include <nss.h>
#endif

#ifdef CSPIRE_STATIC
/* A static program must not load the C library's modules for names, which are made for another copy of it.
 * "files" and "dns" are part of the C library itself, so whatever /etc/nsswitch.conf says, it is these. */
static void stay_alone(void)
{
    (void)__nss_configure_lookup("hosts", "files dns");
    (void)__nss_configure_lookup("passwd", "files");
    (void)__nss_configure_lookup("group", "files");
    (void)__nss_configure_lookup("services", "files");
    crypto_stay_alone();
}
#else
static void stay_alone(void) {}
#endif

int main(int argc, char **argv)
{
    struct cli_env env = {
        .program = "spire-agent", .version = CS_SPIRE_VERSION, .in = stdin, .out = stdout, .err = stderr};
    stay_alone();
    cs_mem_tune();
    signal(SIGPIPE, SIG_IGN); /* a peer that went away is an error code, not our end */
    return cli_main(&env, cli_agent_commands, cli_agent_command_count, argc - 1, argv + 1);
}
