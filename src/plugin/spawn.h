/* SPDX-License-Identifier: Apache-2.0
 *
 * Starting the program of an external plugin: checked, with nothing of ours but three descriptors and the
 * environment a plugin needs, and killed by the kernel when the thread that started it ends.
 */
#ifndef CS_PLUGIN_SPAWN_H
#define CS_PLUGIN_SPAWN_H

#include "base/buf.h"

#include <sys/types.h>

/* Names, or beginnings of names with a star, that are handed to plugins besides the usual ones. */
#define PLUGIN_ENV_EXTRA "CSPIRE_PLUGIN_ENV"

/* All borrowed for the time of the call. */
struct plugin_program {
    const char *path; /* absolute */
    const char *const *args;
    size_t arg_count;
    const uint8_t *checksum; /* SHA-256 the file must have, 32 bytes; NULL: any */
    const char *type;        /* "KeyManager": name and value of the magic cookie */
};
/* Single owner. Descriptors are close-on-exec, and do not block. */
struct plugin_process {
    pid_t pid;    /* leads a process group of its own */
    int out, err; /* reading ends of its standard output and error */
};

/* Text of plugin_checksum to bytes: `checksum is not a valid hex string`,
 * `expected checksum of length 64; got N`. CS_INVALID. */
CS_CHECKED cs_code plugin_checksum_parse(const char *hex, uint8_t out[32], struct cs_err *e);

/* Blocking (the file is hashed). The thread that calls must outlive the process. CS_INVALID `checksums did
 * not match`, CS_NOT_FOUND or CS_INTERNAL with `fork/exec PATH: ...`. */
CS_CHECKED cs_code plugin_spawn(const struct plugin_program *p, struct plugin_process *out, struct cs_err *e);
/* Ends the process group by force, if it is still there, reaps it, closes the descriptors. */
void plugin_process_end(struct plugin_process *p);

/* The environment for plugins of this type, NULL-terminated, in one piece; release with cs_free. NULL when
 * memory is out. */
char **plugin_environment(const char *type, char *const *ours);

#endif
