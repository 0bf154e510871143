/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole files: bounded reads, and writes that are either there in full or not at all.
 */
#ifndef CS_BASE_FILE_H
#define CS_BASE_FILE_H

#include "base/buf.h"

#include <sys/types.h>

/* Appends the whole file to out. CS_NOT_FOUND, CS_EXHAUSTED past `max`, CS_INTERNAL; texts are as
 * Go prints them: `open PATH: no such file or directory`. */
CS_CHECKED cs_code cs_file_read(const char *path, size_t max, struct cs_buf *out, struct cs_err *e);
/* Temporary file in the same folder, write, fsync, rename, fsync of the folder. */
CS_CHECKED cs_code cs_file_write_atomic(const char *path, struct cs_slice data, mode_t mode,
                                        struct cs_err *e);
/* mkdir -p. */
CS_CHECKED cs_code cs_mkdir_all(const char *path, mode_t mode, struct cs_err *e);

#endif
