/* SPDX-License-Identifier: Apache-2.0
 *
 * Reaching a server through a proxy, in the caller's thread. Error texts name the proxy.
 */
#include "rpc/client_internal.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static cs_code failed(const struct rpc_client *c, struct cs_err *e, int err)
{
    if (err == ECANCELED)
        return rpc_client_dial_failed(e, "", "", err);
    if (err == ETIMEDOUT)
        return cs_fail(e, CS_UNAVAILABLE, RPC_DIALING "proxy %s: i/o timeout\"", c->cfg.proxy);
    struct cs_err reason;
    (void)cs_fail_errno(&reason, CS_UNAVAILABLE, err, "proxy %.200s", c->cfg.proxy);
    return cs_fail(e, CS_UNAVAILABLE, RPC_DIALING "%.400s\"", reason.text);
}

/* --- HTTP CONNECT --- */

static int send_all(const struct rpc_client *c, int fd, const char *p, size_t len, int64_t until)
{
    while (len > 0) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            int err = rpc_client_wait_io(c, fd, POLLOUT, until);
            if (err != 0)
                return err;
        } else if (n < 0 && errno != EINTR) {
            return errno;
        } else if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static cs_code ask(struct rpc_client *c, int fd, int64_t until, struct cs_err *e)
{
    CS_CLEANUP(cs_freep)
    char *request =
        cs_asprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", c->cfg.tcp_address, c->cfg.tcp_address);
    if (request == NULL)
        return cs_nomem(e);
    int err = send_all(c, fd, request, strlen(request), until);
    return err == 0 ? CS_OK : failed(c, e, err);
}

/* Takes from the socket what has arrived, but nothing behind the headers: that is the server's. *end as in
 * rpc_proxy_answer. */
static cs_code take(struct rpc_client *c, int fd, struct cs_buf *head, bool *end, struct cs_err *e)
{
    uint8_t *room = head->data + head->len;
    struct cs_err reason;
    size_t length = 0;
    ssize_t n = recv(fd, room, RPC_PROXY_HEAD_MAX - head->len, MSG_PEEK);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? CS_OK : failed(c, e, errno);
    if (n == 0)
        return cs_fail(e, CS_UNAVAILABLE, RPC_DIALING "proxy %.200s closed the connection\"", c->cfg.proxy);
    cs_code rc = rpc_proxy_answer(cs_slice_of(head->data, head->len + (size_t)n), &length, &reason);
    if (rc != CS_OK)
        return cs_fail(e, CS_UNAVAILABLE, RPC_DIALING "proxy %.200s: CONNECT %.100s: %.200s\"", c->cfg.proxy,
                       c->cfg.tcp_address, reason.text);
    size_t ours = length > 0 ? length - head->len : (size_t)n;
    n = recv(fd, room, ours, 0); /* there already: whole and at once */
    if (n < 0 || (size_t)n != ours)
        return failed(c, e, n < 0 ? errno : EIO);
    head->len += ours;
    *end = length > 0;
    return CS_OK;
}

static cs_code connect_tunnel(struct rpc_client *c, int fd, int64_t until, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf head = {0};
    bool end = false;
    CS_TRY(ask(c, fd, until, e));
    if (!cs_buf_reserve(&head, RPC_PROXY_HEAD_MAX))
        return cs_nomem(e);
    while (!end) {
        int err = rpc_client_wait_io(c, fd, POLLIN, until);
        if (err != 0)
            return failed(c, e, err);
        CS_TRY(take(c, fd, &head, &end, e));
    }
    return CS_OK;
}

/* --- Dialing --- */

static cs_code dial_vsock(struct rpc_client *c, int64_t until, int *fd, struct cs_err *e)
{
    const struct sockaddr_vm sa = {
        .svm_family = AF_VSOCK,
        .svm_cid = c->proxy.cid,
        .svm_port = c->proxy.vport,
    };
    int err = rpc_client_connect(c, AF_VSOCK, (const struct sockaddr *)&sa, sizeof sa, until, fd);
    return err == 0 ? CS_OK : failed(c, e, err);
}

static cs_code dial_tcp(struct rpc_client *c, int64_t until, int *fd, struct cs_err *e)
{
    char port[8];
    struct cs_err reason;
    (void)snprintf(port, sizeof port, "%u", (unsigned)c->proxy.port);
    cs_code rc = rpc_client_dial_host(c, c->proxy.host, port, until, fd, &reason);
    if (rc == CS_OK || rc == CS_CANCELLED)
        return rc == CS_OK ? CS_OK : cs_fail(e, rc, "%s", reason.text);
    /* what failed is named inside its quotes */
    size_t skip = strlen(RPC_DIALING);
    bool usual = strncmp(reason.text, RPC_DIALING, skip) == 0;
    return cs_fail(e, rc, RPC_DIALING "proxy %.200s: %.250s", c->cfg.proxy, reason.text + (usual ? skip : 0));
}

cs_code rpc_client_dial_proxy(struct rpc_client *c, int64_t deadline, int *fd, struct cs_err *e)
{
    CS_TRY(c->proxy.vsock ? dial_vsock(c, deadline, fd, e) : dial_tcp(c, deadline, fd, e));
    if (!c->proxy.connect)
        return CS_OK;
    cs_code rc = connect_tunnel(c, *fd, deadline, e);
    if (rc != CS_OK) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}
