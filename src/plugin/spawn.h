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
    const uint8_t *checksum;   /* SHA-256 the file must have, 32 bytes; NULL: any */
    const char *type;          /* "KeyManager": name and value of the magic cookie */
    const char *socket_folder; /* where the plugin is to make its sockets; NULL: where it likes */
};
/* Single owner. Descriptors are close-on-exec, and do not block. */
struct plugin_process {
    pid_t pid;    /* leads a process group of its own; 0: none */
    int out, err; /* reading ends of its standard output and error; -1: closed */
};

/* Text of plugin_checksum to bytes: `checksum is not a valid hex string`,
 * `expected checksum of length 64; got N`. CS_INVALID. */
CS_CHECKED cs_code plugin_checksum_parse(const char *hex, uint8_t out[32], struct cs_err *e);

/* Holds the file to its checksum; any thread, takes as long as hashing it does. *fd is what was hashed, for
 * plugin_spawn, which closes it; -1 when the program is run by its path: without a checksum, and scripts,
 * which look for what lies beside them. CS_INVALID `checksums did not match`, `error verifying checksum:
 * ...`. */
CS_CHECKED cs_code plugin_program_check(const struct plugin_program *p, int *fd, struct cs_err *e);

/* Starts it. The thread that calls must outlive the process: the kernel kills it when the thread ends.
 * Takes fd over. CS_NOT_FOUND or CS_INTERNAL with `fork/exec PATH: ...`. */
CS_CHECKED cs_code plugin_spawn(const struct plugin_program *p, int fd, struct plugin_process *out,
                                struct cs_err *e);
/* Ends the process group by force, reaps its leader, closes the descriptors. Returns how the leader ended, as
 * waitpid has it. Waits for the leader unless it has ended already. */
int plugin_process_end(struct plugin_process *p);
/* How a process ended, in Go's words: "exit status 3", "signal: killed". */
void plugin_status_text(int status, char out[64]);

/* The environment for plugins of this type, NULL-terminated, in one piece; release with cs_free. NULL when
 * memory is out. socket_folder may be NULL. */
char **plugin_environment(const char *type, const char *socket_folder, char *const *ours);

#endif
