/* SPDX-License-Identifier: Apache-2.0
 *
 * Reaching a server: name resolution and connect in the caller's thread, with Go's error texts.
 */
#include "rpc/client_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int rpc_client_wait_io(const struct rpc_client *c, int fd, short events, int64_t until)
{
    for (;;) {
        int64_t left = until - cs_mono_ns(&cs_clock_system);
        if (left <= 0)
            return ETIMEDOUT;
        int64_t ms = left / CS_NS_PER_MS + 1;
        struct pollfd p[] = {{.fd = fd, .events = events}, {.fd = c->wake_fd, .events = POLLIN}};
        int n = poll(p, 2, ms > 60000 ? 60000 : (int)ms);
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0 && p[1].revents != 0)
            return ECANCELED;
        if (n > 0 && p[0].revents != 0)
            return 0;
    }
}

static int wait_connected(const struct rpc_client *c, int fd, int64_t until)
{
    int err = rpc_client_wait_io(c, fd, POLLOUT, until);
    socklen_t len = sizeof err;
    if (err != 0)
        return err;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? err : errno;
}

int rpc_client_connect(const struct rpc_client *c, int family, const struct sockaddr *sa, socklen_t len,
                       int64_t until, int *out)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    int err = connect(fd, sa, len) == 0 ? 0 : errno;
    if (err == EINPROGRESS)
        err = wait_connected(c, fd, until);
    /* a Unix socket whose queue is full does not wait in the background */
    while (err == EAGAIN && family == AF_UNIX && cs_mono_ns(&cs_clock_system) < until) {
        struct pollfd p = {.fd = c->wake_fd, .events = POLLIN};
        if (poll(&p, 1, 5) > 0)
            err = ECANCELED;
        else
            err = connect(fd, sa, len) == 0 ? 0 : errno;
    }
    if (err != 0) {
        close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

/* Go writes its own words for two of them. */
static const char *reason(int err)
{
    return err == EAGAIN ? "resource temporarily unavailable" : strerror(err);
}

/* strerror starts with a capital, Go's texts do not. */
cs_code rpc_client_dial_failed(struct cs_err *e, const char *net, const char *address, int err)
{
    if (err == ECANCELED)
        return cs_fail(e, CS_CANCELLED, "grpc: the client connection is closing");
    if (err == ETIMEDOUT)
        return cs_fail(e, CS_UNAVAILABLE, RPC_DIALING "dial %s %s: i/o timeout\"", net, address);
    char text[128];
    snprintf(text, sizeof text, "%s", reason(err));
    if (text[0] >= 'A' && text[0] <= 'Z')
        text[0] = (char)(text[0] - 'A' + 'a');
    return cs_fail(e, CS_UNAVAILABLE, RPC_DIALING "dial %s %s: connect: %s\"", net, address, text);
}

static cs_code dial_unix(struct rpc_client *c, int64_t until, int *fd, struct cs_err *e)
{
    const char *path = c->cfg.unix_path;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path)
        return rpc_client_dial_failed(e, "unix", path, EINVAL);
    memcpy(sa.sun_path, path, strlen(path));
    socklen_t len = sizeof sa;
    if (path[0] == '@') { /* abstract, as Go writes it */
        sa.sun_path[0] = '\0';
        len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    }
    int err = rpc_client_connect(c, AF_UNIX, (struct sockaddr *)&sa, len, until, fd);
    return err == 0 ? CS_OK : rpc_client_dial_failed(e, "unix", path, err);
}

static void print_address(const struct addrinfo *ai, char *out, size_t cap)
{
    char host[INET6_ADDRSTRLEN + 32], port[16];
    if (getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(out, cap, "?");
    else
        snprintf(out, cap, ai->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static cs_code split(const char *address, char *host, size_t cap, const char **port, struct cs_err *e)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon != NULL ? (size_t)(colon - address) : 0;
    const char *start = address;
    if (colon == NULL || len >= cap)
        return cs_fail(e, CS_UNAVAILABLE, RPC_DIALING "dial tcp: address %s: missing port in address\"",
                       address);
    if (len >= 2 && start[0] == '[' && start[len - 1] == ']') {
        start++;
        len -= 2;
    }
    memcpy(host, start, len);
    host[len] = '\0';
    *port = colon + 1;
    return CS_OK;
}

cs_code rpc_client_dial_host(struct rpc_client *c, const char *host, const char *port, int64_t until, int *fd,
                             struct cs_err *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int r = getaddrinfo(host[0] != '\0' ? host : "localhost", port, &hints, &list);
    if (r != 0)
        return cs_fail(e, CS_UNAVAILABLE, RPC_DIALING "dial tcp: lookup %s: %s\"", host,
                       r == EAI_NONAME ? "no such host" : gai_strerror(r));
    int err = EADDRNOTAVAIL;
    char address[128] = "";
    for (struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
        print_address(ai, address, sizeof address);
        err = rpc_client_connect(c, ai->ai_family, ai->ai_addr, ai->ai_addrlen, until, fd);
        if (err == 0 || err == ECANCELED)
            break;
    }
    freeaddrinfo(list);
    if (err != 0)
        return rpc_client_dial_failed(e, "tcp", address, err);
    int one = 1;
    (void)setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(*fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    return CS_OK;
}

static cs_code dial_tcp(struct rpc_client *c, int64_t until, int *fd, struct cs_err *e)
{
    char host[256];
    const char *port = NULL;
    CS_TRY(split(c->cfg.tcp_address, host, sizeof host, &port, e));
    return rpc_client_dial_host(c, host, port, until, fd, e);
}

cs_code rpc_client_dial(struct rpc_client *c, int64_t deadline, int *fd, struct cs_err *e)
{
    *fd = -1;
    if (c->cfg.unix_path != NULL)
        return dial_unix(c, deadline, fd, e);
    return c->cfg.proxy != NULL ? rpc_client_dial_proxy(c, deadline, fd, e) : dial_tcp(c, deadline, fd, e);
}
