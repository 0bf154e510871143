/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/loopback.h"

#include <errno.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOPBACK "lo"

static cs_code bring_up(int fd, bool *was_up, struct cs_err *e)
{
    struct ifreq req = {.ifr_name = LOOPBACK};
    if (ioctl(fd, SIOCGIFFLAGS, &req) != 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "interface %s", LOOPBACK);
    *was_up = (req.ifr_flags & IFF_UP) != 0;
    if (*was_up)
        return CS_OK;
    req.ifr_flags |= IFF_UP;
    if (ioctl(fd, SIOCSIFFLAGS, &req) != 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "interface %s", LOOPBACK);
    return CS_OK;
}

void agent_loopback_up(const struct cs_log *log)
{
    struct cs_err fault;
    bool was_up = false;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cs_code rc = fd >= 0 ? bring_up(fd, &was_up, &fault)
                         : cs_fail_errno(&fault, CS_UNAVAILABLE, errno, "interface %s", LOOPBACK);
    if (fd >= 0)
        close(fd);
    if (rc != CS_OK)
        cs_log_warn(log, "Could not bring the loopback interface up", KV_ERR(&fault));
    else if (!was_up)
        cs_log_info(log, "Brought the loopback interface up");
}
