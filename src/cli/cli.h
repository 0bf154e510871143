/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands as data: a program is a table of command rows; dispatch, help and errors are driven from
 * it and behave as SPIRE's programs do (words are matched on the longest command prefix; -h anywhere
 * asks for help; 127 only when no command was found).
 */
#ifndef CS_CLI_CLI_H
#define CS_CLI_CLI_H

#include "base/err.h"
#include "cli/flag.h"

#include <stdio.h>

/* What a command sees of the world. */
struct cli_env {
    const char *program; /* "spire-server" */
    const char *version;
    FILE *in, *out, *err;
    int status; /* the exit status, set by a command that was successful and still has one to pass on */
};

enum cli_quirk {
    CLI_HELP_SILENT = 1 << 0,      /* help ends with an empty line, not "flag: help requested" */
    CLI_FLAG_ERROR_TWICE = 1 << 1, /* a flag error is printed again after the usage */
    CLI_BARE_ERRORS = 1 << 2,      /* failures print the reason without "Error: " */
    CLI_SELF_REPORTING = 1 << 3,   /* run prints its own failures; only the exit status follows */
};

struct cli_command {
    const char *path;     /* "entry create" */
    const char *set_name; /* name in "Usage of ..."; NULL: path */
    const char *synopsis;
    const struct cli_flag *flags;
    size_t opts_size; /* of the options struct the flags fill */
    /* NULL: known to SPIRE, not built yet; running it says so. On failure *e says why. */
    cs_code (*run)(struct cli_env *env, void *opts, struct cs_err *e);
    unsigned quirks;               /* of enum cli_quirk */
    const char *flag_error_prefix; /* printed before a repeated flag error */
};

/* Run one command line (argv without the program's name). `commands` is sorted by path. Returns the
 * exit status. */
int cli_main(struct cli_env *env, const struct cli_command *const *commands, size_t count, int argc,
             char **argv);

/* The two programs' tables. */
extern const struct cli_command *const cli_server_commands[];
extern const size_t cli_server_command_count;
extern const struct cli_command *const cli_agent_commands[];
extern const size_t cli_agent_command_count;

#endif
