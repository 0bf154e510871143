/* SPDX-License-Identifier: Apache-2.0
 *
 * Who is at the other end of a Unix socket. One implementation file per operating system.
 */
#ifndef CS_LOOP_PEER_H
#define CS_LOOP_PEER_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct loop_peer {
    pid_t pid;
    uid_t uid;
    gid_t gid;
    int pidfd;           /* owned; -1 where the kernel has none */
    uint64_t start_time; /* field 22 of /proc/PID/stat when the peer was first seen; 0: unknown */
};
/* SO_PEERCRED, then SO_PEERPIDFD or pidfd_open, then the start time. Fails when the process is
 * already gone. */
CS_CHECKED cs_code loop_peer_get(int fd, struct loop_peer *out, struct cs_err *e);
/* Is the process still the one that connected (alive, same start time)? Guards against pid reuse.
 * CS_DENIED when not. */
CS_CHECKED cs_code loop_peer_check(const struct loop_peer *p, struct cs_err *e);
void loop_peer_close(struct loop_peer *p);

#endif
