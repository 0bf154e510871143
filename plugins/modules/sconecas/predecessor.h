/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash of the last version of each session, which the CAS wants to see before it takes the next: one file
 * for each session, DIR/SESSION-NAME, with the hash and nothing else. Where the name has slashes there are
 * folders.
 */
#ifndef CS_MODULES_SCONECAS_PREDECESSOR_H
#define CS_MODULES_SCONECAS_PREDECESSOR_H

#include "base/buf.h"

#define SCONE_HASH_MAX 128
#define SCONE_SESSION_NAME_MAX 1024

/* "~" is what a session without predecessor says (null in YAML). */
#define SCONE_NO_PREDECESSOR "~"

/* CS_INVALID for names whose file would not be below the folder, or that no file can have: empty parts, "."
 * and "..", control characters, parts of more than 240 bytes. */
CS_CHECKED cs_code scone_name_check(const char *name, struct cs_err *e);

/* True for what a CAS may answer as hash: 1 to SCONE_HASH_MAX letters and digits. */
bool scone_hash_ok(struct cs_slice hash);

/* DIR/NAME; NULL when memory is out. */
char *scone_predecessor_path(const char *dir, const char *name);

/* White space around the hash is passed over, since people write these files by hand. CS_NOT_FOUND: no file;
 * CS_INVALID: no hash in it; what reading a file gives otherwise. */
CS_CHECKED cs_code scone_predecessor_read(const char *dir, const char *name, char hash[SCONE_HASH_MAX + 1],
                                          struct cs_err *e);

/* In full, on disk, and with mode 0600 when it returns CS_OK; folders are made with 0700. */
CS_CHECKED cs_code scone_predecessor_write(const char *dir, const char *name, const char *hash,
                                           struct cs_err *e);

#endif
