/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces of the entry commands. Not for other folders.
 */
#ifndef CS_CLI_SERVER_ENTRY_H
#define CS_CLI_SERVER_ENTRY_H

#include "cli/server/internal.h"
#include "entry.pb-c.h"

#define ENTRY_SERVICE "/spire.api.server.entry.v1.Entry/"

/* The block of lines for one entry, with an empty line after it. */
CS_CHECKED cs_code entry_print(FILE *to, const Types__Entry *en, struct cs_err *e);

/* Entries of a data file ({"entries":[...]}, SPIRE's registration entry JSON) into the arena. `path`
 * "-" is standard input. Errors name the field. */
CS_CHECKED cs_code entry_load_file(struct cli_env *env, struct cs_arena *a, const char *path, size_t *n,
                                   Types__Entry ***out, struct cs_err *e);
/* The same from bytes in memory. */
CS_CHECKED cs_code entry_load(struct cs_arena *a, struct cs_slice json, size_t *n, Types__Entry ***out,
                              struct cs_err *e);
/* Entry IDs of a deletion file ({"ids":[...]}) into the arena. */
CS_CHECKED cs_code entry_load_ids(struct cs_arena *a, struct cs_slice json, size_t *n, char ***out,
                                  struct cs_err *e);

#endif
