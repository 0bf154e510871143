/* SPDX-License-Identifier: Apache-2.0
 *
 * Command-line flags as Go's `flag` package reads and prints them, so that scripts written for SPIRE
 * see the same behaviour: -f v, -f=v, --f v, --f=v; parsing stops at the first other word, at "--"
 * (dropped) or at "-". A command's flags are a table; values land in the command's options struct.
 */
#ifndef CS_CLI_FLAG_H
#define CS_CLI_FLAG_H

#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>

enum cli_flag_kind {
    CLI_STRING,   /* const char * */
    CLI_BOOL,     /* bool */
    CLI_INT,      /* int64_t; any Go integer literal */
    CLI_DURATION, /* int64_t nanoseconds; errors read "parse error" */
    CLI_TIMEOUT,  /* int64_t nanoseconds; a "value" whose errors are Go's own texts */
    CLI_STRINGS,  /* struct cli_strings: repeatable, in order */
    CLI_COMMA,    /* struct cli_strings: split at commas, the last flag wins */
    CLI_OUTPUT,   /* struct cli_output: pretty or json */
    CLI_TRISTATE, /* enum cli_tristate: "true", "false", anything else is any; takes a value */
    CLI_PRESENCE, /* bool: set by being there, whatever its value */
};

/* Repeatable values: borrowed from argv (CLI_COMMA: from `owned`). */
struct cli_strings {
    const char **at;
    size_t len;
    char *owned;
};
void cli_strings_free(struct cli_strings *s);

struct cli_output {
    bool set, json;
};
enum cli_tristate { CLI_ANY, CLI_TRUE, CLI_FALSE };

struct cli_flag {
    const char *name; /* NULL ends a table */
    enum cli_flag_kind kind;
    size_t offset; /* into the options struct */
    const char *help;
    const char *def; /* shown and applied; NULL: zero */
};

/* Apply the defaults of a table to zeroed options. A bad default is CS_INTERNAL. */
CS_CHECKED cs_code cli_flags_defaults(const struct cli_flag *flags, void *opts, struct cs_err *e);

enum cli_flags_result { CLI_FLAGS_OK, CLI_FLAGS_HELP, CLI_FLAGS_BAD };
/* Parse argv; strings are borrowed from it. On CLI_FLAGS_BAD e->text is Go's error line. `rest` (may
 * be NULL) is the index of the first word not parsed. */
enum cli_flags_result cli_flags_parse(const struct cli_flag *flags, void *opts, int argc, char **argv,
                                      int *rest, struct cs_err *e);
/* Release what parsing allocated. */
void cli_flags_free(const struct cli_flag *flags, void *opts);
/* "Usage of NAME:" and every flag, sorted by name, as Go's PrintDefaults. */
void cli_flags_usage(const struct cli_flag *flags, const char *name, FILE *to);

#endif
