/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening sockets and their method tables. Errors read as Go's net package writes them.
 */
#include "rpc/internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024
#define ACCEPTS_PER_TURN 64
#define PAUSE_NS (100 * CS_NS_PER_MS)

/* --- Table --- */

static cs_code add_service(struct rpc_endpoint *ep, const struct rpc_service *svc, struct cs_err *e)
{
    if (cs_map_put(ep->names, cs_slice_str(svc->name), ep) != CS_OK)
        return cs_nomem(e);
    for (size_t i = 0; i < svc->count; i++) {
        struct rpc_route *r = cs_malloc(sizeof *r);
        if (r == NULL)
            return cs_nomem(e);
        *r = (struct rpc_route){&svc->methods[i], svc->ctx};
        if (cs_map_put(ep->routes, cs_slice_str(svc->methods[i].path), r) != CS_OK) {
            cs_free(r);
            return cs_nomem(e);
        }
    }
    return CS_OK;
}

cs_code rpc_endpoint_new(struct rpc_server *s, const struct rpc_listener *l, struct rpc_endpoint **out,
                         struct cs_err *e)
{
    *out = NULL;
    struct rpc_endpoint *ep = cs_calloc(1, sizeof *ep);
    if (ep == NULL)
        return cs_nomem(e);
    ep->server = s;
    ep->l = *l;
    ep->fd = -1;
    if (ep->l.max_message == 0)
        ep->l.max_message = RPC_MAX_MESSAGE;
    ep->l.tcp_address = l->tcp_address != NULL ? cs_strdup(l->tcp_address) : NULL;
    ep->l.unix_path = l->unix_path != NULL ? cs_strdup(l->unix_path) : NULL;
    ep->routes = cs_map_new(cs_free);
    ep->names = cs_map_new(NULL);
    cs_code code = CS_OK;
    if (ep->routes == NULL || ep->names == NULL || (l->tcp_address != NULL && ep->l.tcp_address == NULL) ||
        (l->unix_path != NULL && ep->l.unix_path == NULL))
        code = cs_nomem(e);
    for (size_t i = 0; i < l->service_count && code == CS_OK; i++)
        code = add_service(ep, &l->services[i], e);
    if (code != CS_OK)
        rpc_endpoint_free(ep);
    else
        *out = ep;
    return code;
}

void rpc_endpoint_free(struct rpc_endpoint *ep)
{
    if (ep->fd >= 0)
        close(ep->fd);
    cs_free((char *)ep->l.tcp_address);
    cs_free((char *)ep->l.unix_path);
    cs_map_free(ep->routes);
    cs_map_free(ep->names);
    cs_free(ep);
}

/* --- Binding --- */

/* "host:port", "[v6]:port", ":port". */
static cs_code split_address(const char *address, char *host, size_t hostcap, const char **port,
                             struct cs_err *e)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL)
        return cs_fail(e, CS_INVALID, "listen tcp: address %s: missing port in address", address);
    const char *start = address;
    size_t len = (size_t)(colon - address);
    if (len >= 2 && start[0] == '[' && start[len - 1] == ']') {
        start++;
        len -= 2;
    } else if (memchr(start, ':', len) != NULL) {
        return cs_fail(e, CS_INVALID, "listen tcp: address %s: too many colons in address", address);
    }
    if (len >= hostcap)
        return cs_fail(e, CS_INVALID, "listen tcp: address %s: host name too long", address);
    memcpy(host, start, len);
    host[len] = '\0';
    *port = colon + 1;
    return CS_OK;
}

static int local_port(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
        return 0;
    return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                          : ((struct sockaddr_in *)&sa)->sin_port);
}

static cs_code bind_tcp(struct rpc_endpoint *ep, struct cs_err *e)
{
    const char *address = ep->l.tcp_address;
    char host[256];
    const char *port = NULL;
    CS_TRY(split_address(address, host, sizeof host, &port, e));
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int r = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
    if (r != 0)
        return cs_fail(e, CS_UNAVAILABLE, "listen tcp: lookup %s: %s", host, gai_strerror(r));
    /* of a name's addresses Go's net.Listen prefers IPv4 */
    const struct addrinfo *ai = list;
    while (ai != NULL && ai->ai_family != AF_INET)
        ai = ai->ai_next;
    if (ai == NULL)
        ai = list;
    cs_code code = CS_OK;
    ep->fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    if (ep->fd < 0)
        code = cs_fail_errno(e, CS_UNAVAILABLE, errno, "listen tcp %s: socket", address);
    else if (setsockopt(ep->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
             bind(ep->fd, ai->ai_addr, ai->ai_addrlen) != 0)
        code = cs_fail_errno(e, CS_UNAVAILABLE, errno, "listen tcp %s: bind", address);
    else if (listen(ep->fd, BACKLOG) != 0)
        code = cs_fail_errno(e, CS_UNAVAILABLE, errno, "listen tcp %s: listen", address);
    freeaddrinfo(list);
    if (code == CS_OK)
        ep->port = local_port(ep->fd);
    return code;
}

/* A socket file nobody listens on any more is removed; anything else is left alone. */
static void remove_stale(const struct sockaddr_un *sa)
{
    struct stat st;
    if (lstat(sa->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)sa, sizeof *sa) != 0 && errno == ECONNREFUSED)
        (void)!unlink(sa->sun_path);
    close(fd);
}

static cs_code bind_unix(struct rpc_endpoint *ep, struct cs_err *e)
{
    const char *path = ep->l.unix_path;
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path)
        return cs_fail(e, CS_UNAVAILABLE, "listen unix %s: bind: invalid argument", path);
    memcpy(sa.sun_path, path, strlen(path));
    remove_stale(&sa);
    ep->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (ep->fd < 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "listen unix %s: socket", path);
    /* Linux gives the file the socket's own mode: nobody gets in before the chmod */
    if (fchmod(ep->fd, (mode_t)ep->l.unix_mode) != 0 ||
        bind(ep->fd, (const struct sockaddr *)&sa, sizeof sa) != 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "listen unix %s: bind", path);
    if (chmod(path, (mode_t)ep->l.unix_mode) != 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "chmod %s", path);
    if (listen(ep->fd, BACKLOG) != 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "listen unix %s: listen", path);
    return CS_OK;
}

cs_code rpc_endpoint_bind(struct rpc_endpoint *ep, struct cs_err *e)
{
    if (ep->l.unix_path != NULL)
        return bind_unix(ep, e);
    if (ep->l.tcp_address != NULL)
        return bind_tcp(ep, e);
    return cs_fail(e, CS_INVALID, "a listener needs an address or a path");
}

/* --- Accepting --- */

struct handover {
    struct rpc_lane *lane;
    struct rpc_endpoint *ep;
    int fd;
    char ip[64], address[80];
};

static void describe(const struct sockaddr_storage *sa, struct handover *h)
{
    if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
        (void)inet_ntop(AF_INET, &in->sin_addr, h->ip, sizeof h->ip);
        snprintf(h->address, sizeof h->address, "%s:%u", h->ip, ntohs(in->sin_port));
    } else if (sa->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            (void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], h->ip, sizeof h->ip);
            snprintf(h->address, sizeof h->address, "%s:%u", h->ip, ntohs(in6->sin6_port));
        } else {
            (void)inet_ntop(AF_INET6, &in6->sin6_addr, h->ip, sizeof h->ip);
            snprintf(h->address, sizeof h->address, "[%s]:%u", h->ip, ntohs(in6->sin6_port));
        }
    } else {
        snprintf(h->address, sizeof h->address, "@");
    }
}

static void on_handover(void *arg)
{
    struct handover *h = arg;
    rpc_conn_accept(h->lane, h->ep, h->fd, h->address, h->ip);
    cs_free(h);
}

static void give(struct rpc_endpoint *ep, int fd, const struct sockaddr_storage *sa)
{
    struct rpc_server *s = ep->server;
    struct handover h = {.ep = ep, .fd = fd};
    describe(sa, &h);
    h.lane = &s->lanes[s->next_lane++ % s->lane_count];
    if (sa->ss_family != AF_UNIX) {
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    }
    atomic_fetch_add(&s->conn_count, 1);
    if (h.lane == &s->lanes[0]) {
        rpc_conn_accept(h.lane, ep, fd, h.address, h.ip);
        return;
    }
    struct handover *copy = cs_memdup(&h, sizeof h);
    if (copy == NULL || !loop_post(h.lane->loop, on_handover, copy)) {
        cs_free(copy);
        close(fd);
        rpc_server_conn_gone(s);
    }
}

/* Out of files or memory: the waiting connection stays readable, so look away for a moment. */
static void pause_accept(struct rpc_endpoint *ep)
{
    (void)event_del(ep->ev);
    loop_timer_arm(ep->pause, PAUSE_NS, 0);
}

static void resume_accept(void *arg)
{
    struct rpc_endpoint *ep = arg;
    if (ep->ev != NULL && event_add(ep->ev, NULL) != 0)
        loop_timer_arm(ep->pause, PAUSE_NS, 0);
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    (void)what;
    struct rpc_endpoint *ep = arg;
    struct rpc_server *s = ep->server;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage sa = {0};
        socklen_t len = sizeof sa;
        int c = accept4((int)fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (c < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_accept(ep);
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            return;
        }
        if (atomic_load(&s->conn_count) >= s->cfg.max_connections)
            close(c);
        else
            give(ep, c, &sa);
    }
}

static void on_start(void *arg)
{
    struct rpc_endpoint *ep = arg;
    if (event_add(ep->ev, NULL) != 0)
        loop_timer_arm(ep->pause, PAUSE_NS, 0);
}

cs_code rpc_endpoint_start(struct rpc_endpoint *ep, struct cs_err *e)
{
    struct loop *loop = ep->server->lanes[0].loop;
    ep->ev = event_new(loop_base(loop), ep->fd, EV_READ | EV_PERSIST, on_accept, ep);
    if (ep->ev == NULL)
        return cs_nomem(e);
    CS_TRY(loop_timer_new(loop, resume_accept, ep, &ep->pause, e));
    return loop_post(loop, on_start, ep) ? CS_OK : cs_nomem(e);
}

void rpc_endpoint_stop(struct rpc_endpoint *ep)
{
    if (ep->ev != NULL)
        event_free(ep->ev);
    ep->ev = NULL;
    if (ep->pause != NULL)
        loop_timer_free(ep->pause);
    ep->pause = NULL;
    if (ep->fd < 0)
        return;
    close(ep->fd);
    ep->fd = -1;
    if (ep->l.unix_path != NULL)
        (void)!unlink(ep->l.unix_path);
}
