/* SPDX-License-Identifier: Apache-2.0
 *
 * unix(7) SO_PEERCRED and SO_PEERPIDFD, pidfd_open(2), proc(5). A pid names a process only while the
 * process lives; the pidfd and the start time hold on to the one that was seen first.
 */
#include "loop/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* Linux 5.3 */
#endif

#define START_TIME_FIELD 22

static cs_code gone(pid_t pid, struct cs_err *e)
{
    return cs_fail(e, CS_DENIED, "caller (pid %d) is gone", (int)pid);
}

/* Field 22 of /proc/PID/stat, counted from behind the last ')': the name in front may hold anything.
 * 0 when the process is not there, has ended and only waits to be reaped, or has no such field. */
static uint64_t read_start_time(pid_t pid)
{
    char path[32], stat[1024];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n;
    do
        n = read(fd, stat, sizeof stat - 1);
    while (n < 0 && errno == EINTR);
    close(fd);
    if (n <= 0)
        return 0;
    stat[n] = '\0';
    const char *p = strrchr(stat, ')');
    if (p != NULL && p[1] == ' ' && (p[2] == 'Z' || p[2] == 'X'))
        return 0;
    for (int field = 2; p != NULL && field < START_TIME_FIELD; field++) {
        p = strchr(p, ' ');
        p = p != NULL ? p + 1 : NULL;
    }
    return p != NULL ? strtoull(p, NULL, 10) : 0;
}

/* 1: lives, 0: has ended, -1: cannot be told. */
static int pidfd_alive(int pidfd)
{
    struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
    int n;
    do
        n = poll(&pfd, 1, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : n == 0;
}

/* The kernel's own pidfd of who connected, else one by number; -1 with errno set. */
static int peer_pidfd(int fd, pid_t pid)
{
    int pidfd = -1;
    socklen_t len = sizeof pidfd;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0 && pidfd >= 0) {
        (void)fcntl(pidfd, F_SETFD, FD_CLOEXEC);
        return pidfd;
    }
    if (errno == ESRCH)
        return -1;
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

cs_code loop_peer_get(int fd, struct loop_peer *out, struct cs_err *e)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    *out = (struct loop_peer){.pidfd = -1};
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "getsockopt SO_PEERCRED");
    if (len != sizeof cred || cred.pid <= 0)
        return cs_fail(e, CS_DENIED, "caller has no process of this pid namespace");

    struct loop_peer peer = {.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
    peer.pidfd = peer_pidfd(fd, cred.pid);
    /* a kernel without pidfds, or a sandbox that forbids them, leaves the start time */
    if (peer.pidfd < 0 && errno == ESRCH)
        return gone(cred.pid, e);
    peer.start_time = read_start_time(cred.pid);
    /* alive after the reading: so what was read was its own */
    bool lives = peer.pidfd >= 0 ? pidfd_alive(peer.pidfd) == 1 : peer.start_time != 0;
    if (!lives) {
        loop_peer_close(&peer);
        return gone(cred.pid, e);
    }
    *out = peer;
    return CS_OK;
}

cs_code loop_peer_check(const struct loop_peer *p, struct cs_err *e)
{
    if (p->pidfd < 0 && p->start_time == 0)
        return cs_fail(e, CS_DENIED, "caller (pid %d) cannot be told from another process", (int)p->pid);
    if (p->start_time != 0 && read_start_time(p->pid) != p->start_time)
        return gone(p->pid, e);
    if (p->pidfd >= 0 && pidfd_alive(p->pidfd) != 1)
        return gone(p->pid, e);
    return CS_OK;
}

void loop_peer_close(struct loop_peer *p)
{
    if (p->pidfd >= 0)
        close(p->pidfd);
    p->pidfd = -1;
}
