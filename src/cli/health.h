/* SPDX-License-Identifier: Apache-2.0
 *
 * The healthcheck command of both programs: asks grpc.health.v1 on the program's socket.
 */
#ifndef CS_CLI_HEALTH_H
#define CS_CLI_HEALTH_H

#include "cli/session.h"

struct cli_health_opts {
    struct cli_common common;
    bool shallow, verbose; /* shallow changes nothing, as upstream */
};
/* The two flags beside the socket's. */
#define CLI_HEALTH_FLAGS                                                                                     \
    {"shallow", CLI_BOOL, offsetof(struct cli_health_opts, shallow),                                         \
     "Check less (accepted for compatibility)", NULL},                                                       \
    {                                                                                                        \
        "verbose", CLI_BOOL, offsetof(struct cli_health_opts, verbose), "Say more about what is done", NULL  \
    }

/* `who` is "server" or "agent". Prints "Server is healthy." or fails with the reason alone. */
CS_CHECKED cs_code cli_health_check(struct cli_env *env, enum cli_target target, const char *who,
                                    const char *healthy, const struct cli_health_opts *o, struct cs_err *e);

#endif
