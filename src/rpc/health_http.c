/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/health_http.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/util.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADERS_MAX 8192
#define BODY_MAX 1024
#define IDLE_S 10
#define CONNECTIONS_MAX 64

struct rpc_health_http {
    struct rpc_health_http_config cfg; /* its strings are ours */
    struct evhttp *http;
    int port;
};

static void answer(struct evhttp_request *req, bool (*check)(void *arg, struct cs_buf *json), void *arg)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    bool good = check(arg, &body);
    cs_buf_add_byte(&body, '\n');
    struct evbuffer *out = evbuffer_new();
    if (out == NULL || !cs_buf_ok(&body) || evbuffer_add(out, body.data, body.len) != 0 ||
        evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "application/json") != 0) {
        evhttp_send_error(req, HTTP_INTERNAL, NULL);
    } else {
        evhttp_send_reply(req, good ? HTTP_OK : HTTP_INTERNAL, NULL, out);
    }
    if (out != NULL)
        evbuffer_free(out);
}

/* As Go's http.NotFound. */
static void not_found(struct evhttp_request *req)
{
    static const char body[] = "404 page not found\n";
    struct evbuffer *out = evbuffer_new();
    if (out == NULL || evbuffer_add_reference(out, body, sizeof body - 1, NULL, NULL) != 0 ||
        evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type",
                          "text/plain; charset=utf-8") != 0)
        evhttp_send_error(req, HTTP_NOTFOUND, NULL);
    else
        evhttp_send_reply(req, HTTP_NOTFOUND, NULL, out);
    if (out != NULL)
        evbuffer_free(out);
}

static void on_request(struct evhttp_request *req, void *arg)
{
    const struct rpc_health_http *h = arg;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
    if (path != NULL && strcmp(path, h->cfg.live_path) == 0)
        answer(req, h->cfg.live, h->cfg.arg);
    else if (path != NULL && strcmp(path, h->cfg.ready_path) == 0)
        answer(req, h->cfg.ready, h->cfg.arg);
    else
        not_found(req);
}

static int bound_port(int fd)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
        return 0;
    if (sa.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&sa)->sin6_port);
    return ntohs(((struct sockaddr_in *)&sa)->sin_port);
}

/* One listening socket for the first address that can be bound. */
static cs_code open_socket(const char *address, const char *port, int *out, struct cs_err *e)
{
    bool v6 = strchr(address, ':') != NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(address[0] != '\0' ? address : NULL, port, &hints, &list);
    if (rc != 0)
        return cs_fail(e, CS_UNAVAILABLE, "listen tcp: lookup %s: %s", address, gai_strerror(rc));
    int error = EADDRNOTAVAIL;
    int fd = -1;
    for (struct addrinfo *ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
        fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
        if (fd < 0) {
            error = errno;
            continue;
        }
        const int one = 1;
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
            bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, CONNECTIONS_MAX) != 0) {
            error = errno;
            (void)close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, error,
                             v6 ? "listen tcp [%s]:%s: bind" : "listen tcp %s:%s: bind", address, port);
    *out = fd;
    return CS_OK;
}

static cs_code serve(struct rpc_health_http *h, struct loop *l, int *fd, struct cs_err *e)
{
    h->http = evhttp_new(loop_base(l));
    if (h->http == NULL)
        return cs_nomem(e);
    evhttp_set_max_headers_size(h->http, HEADERS_MAX);
    evhttp_set_max_body_size(h->http, BODY_MAX);
    evhttp_set_timeout(h->http, IDLE_S);
    evhttp_set_gencb(h->http, on_request, h);
    h->port = bound_port(*fd);
    if (evhttp_accept_socket(h->http, *fd) != 0)
        return cs_nomem(e);
    *fd = -1; /* evhttp's now */
    return CS_OK;
}

cs_code rpc_health_http_start(struct loop *l, const struct rpc_health_http_config *cfg,
                              struct rpc_health_http **out, struct cs_err *e)
{
    *out = NULL;
    int64_t port = 0;
    if (cs_parse_i64(cs_slice_str(cfg->port), &port, NULL) != CS_OK || port < 0 || port > 65535)
        return cs_fail(e, CS_INVALID, "listen tcp: address %s: invalid port", cfg->port);
    struct rpc_health_http *h = cs_calloc(1, sizeof *h);
    if (h == NULL)
        return cs_nomem(e);
    h->cfg = *cfg;
    h->cfg.address = h->cfg.port = NULL;
    h->cfg.live_path = cs_strdup(cfg->live_path);
    h->cfg.ready_path = cs_strdup(cfg->ready_path);
    int fd = -1;
    cs_code rc = h->cfg.live_path == NULL || h->cfg.ready_path == NULL ? cs_nomem(e) : CS_OK;
    if (rc == CS_OK)
        rc = open_socket(cfg->address, cfg->port, &fd, e);
    if (rc == CS_OK)
        rc = serve(h, l, &fd, e);
    if (fd >= 0)
        (void)close(fd);
    if (rc != CS_OK) {
        rpc_health_http_free(h);
        return rc;
    }
    *out = h;
    return CS_OK;
}

int rpc_health_http_port(const struct rpc_health_http *h)
{
    return h->port;
}

void rpc_health_http_free(struct rpc_health_http *h)
{
    if (h == NULL)
        return;
    if (h->http != NULL)
        evhttp_free(h->http);
    cs_free((void *)h->cfg.live_path);
    cs_free((void *)h->cfg.ready_path);
    cs_free(h);
}
