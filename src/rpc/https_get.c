/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/https_get.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REDIRECTS_MAX 10
#define HEAD_MAX 65536
#define URL_MAX 4096

/* --- URLs --- */

struct url {
    char host[256]; /* without brackets */
    char port[8];
    const char *target; /* from the path on; views the text; "" means "/" */
    size_t target_len;  /* without the fragment */
    bool tls;
};

static cs_code parse_authority(struct cs_slice a, struct url *out, struct cs_err *e)
{
    struct cs_slice host = a;
    struct cs_slice port = {0};
    const uint8_t *end = a.data + a.len;
    if (memchr(a.data, '@', a.len) != NULL)
        return cs_fail(e, CS_INVALID, "URL must not hold a user name");
    if (a.len > 0 && a.data[0] == '[') {
        const uint8_t *close = memchr(a.data, ']', a.len);
        if (close == NULL)
            return cs_fail(e, CS_INVALID, "missing ']' in host");
        host = cs_slice_of(a.data + 1, (size_t)(close - a.data) - 1);
        if (close + 1 < end && close[1] == ':')
            port = cs_slice_of(close + 2, (size_t)(end - close) - 2);
    } else {
        const uint8_t *colon = memchr(a.data, ':', a.len);
        if (colon != NULL) {
            host = cs_slice_of(a.data, (size_t)(colon - a.data));
            port = cs_slice_of(colon + 1, (size_t)(end - colon) - 1);
        }
    }
    if (host.len == 0 || host.len >= sizeof out->host || port.len >= sizeof out->port)
        return cs_fail(e, CS_INVALID, "bad host or port in URL");
    (void)snprintf(out->host, sizeof out->host, "%.*s", (int)host.len, (const char *)host.data);
    if (port.len > 0)
        (void)snprintf(out->port, sizeof out->port, "%.*s", (int)port.len, (const char *)port.data);
    else
        (void)snprintf(out->port, sizeof out->port, "%s", out->tls ? "443" : "80");
    return CS_OK;
}

static cs_code parse_url(const char *text, bool plain_allowed, struct url *out, struct cs_err *e)
{
    *out = (struct url){0};
    if (strlen(text) > URL_MAX)
        return cs_fail(e, CS_INVALID, "URL is longer than %d bytes", URL_MAX);
    for (const char *p = text; *p != '\0'; p++)
        if ((uint8_t)*p <= ' ' || (uint8_t)*p == 0x7f)
            return cs_fail(e, CS_INVALID, "invalid control character or blank in URL");
    out->tls = strncasecmp(text, "https://", 8) == 0;
    if (!out->tls && !(plain_allowed && strncasecmp(text, "http://", 7) == 0))
        return cs_fail(e, CS_INVALID, "URL must start with %s://", plain_allowed ? "http" : "https");
    const char *authority = text + (out->tls ? 8 : 7);
    size_t len = strcspn(authority, "/?#");
    out->target = authority + len;
    out->target_len = strcspn(out->target, "#");
    return parse_authority(cs_slice_of(authority, len), out, e);
}

/* --- Response --- */

/* Value of a header line, blanks off; false when the line is another header. */
static bool header_is(struct cs_slice line, const char *name, struct cs_slice *value)
{
    size_t n = strlen(name);
    if (line.len <= n || line.data[n] != ':' || strncasecmp((const char *)line.data, name, n) != 0)
        return false;
    struct cs_slice v = cs_slice_of(line.data + n + 1, line.len - n - 1);
    while (v.len > 0 && (v.data[0] == ' ' || v.data[0] == '\t'))
        v = cs_slice_of(v.data + 1, v.len - 1);
    while (v.len > 0 && (v.data[v.len - 1] == ' ' || v.data[v.len - 1] == '\t'))
        v.len--;
    *value = v;
    return true;
}

/* Next line without its end; false when there is no whole one. */
static bool next_line(struct cs_rd *r, struct cs_slice *line)
{
    const uint8_t *nl = memchr(r->p, '\n', cs_rd_left(r));
    if (nl == NULL)
        return false;
    size_t len = (size_t)(nl - r->p);
    *line = cs_slice_of(r->p, len > 0 && nl[-1] == '\r' ? len - 1 : len);
    r->p = nl + 1;
    return true;
}

static cs_code add_body(struct cs_buf *body, size_t before, size_t max, struct cs_slice s, struct cs_err *e)
{
    if (s.len > max || body->len - before > max - s.len)
        return cs_fail(e, CS_EXHAUSTED, "response is larger than %zu bytes", max);
    cs_buf_add_slice(body, s);
    return cs_buf_ok(body) ? CS_OK : cs_nomem(e);
}

static cs_code read_chunk_size(struct cs_slice line, size_t *out, struct cs_err *e)
{
    size_t n = 0;
    size_t i = 0;
    for (; i < line.len && line.data[i] != ';' && line.data[i] != ' '; i++) {
        uint8_t c = line.data[i] | 32;
        unsigned digit = c >= '0' && c <= '9' ? c - 48u : c >= 'a' && c <= 'f' ? c - 87u : 16u;
        if (digit == 16 || i >= 8)
            return cs_fail(e, CS_INVALID, "malformed chunked encoding");
        n = n * 16 + digit;
    }
    *out = n;
    return i > 0 ? CS_OK : cs_fail(e, CS_INVALID, "malformed chunked encoding");
}

static cs_code read_chunks(struct cs_rd *r, size_t max, struct cs_buf *body, struct cs_err *e)
{
    size_t before = body->len;
    for (;;) {
        struct cs_slice line;
        struct cs_slice chunk;
        size_t n = 0;
        if (!next_line(r, &line))
            return cs_fail(e, CS_INVALID, "unexpected EOF");
        CS_TRY(read_chunk_size(line, &n, e));
        if (n == 0)
            return CS_OK;
        if (!cs_rd_bytes(r, n, &chunk))
            return cs_fail(e, CS_INVALID, "unexpected EOF");
        CS_TRY(add_body(body, before, max, chunk, e));
        if (!next_line(r, &line) || line.len > 0)
            return cs_fail(e, CS_INVALID, "malformed chunked encoding");
    }
}

struct head {
    int status;
    bool chunked, has_length;
    int64_t length;
    struct cs_slice location;
};

static cs_code read_status(struct cs_slice line, int *out, struct cs_err *e)
{
    const uint8_t *p = line.data;
    if (line.len < 12 || memcmp(p, "HTTP/1.", 7) != 0 || p[8] != ' ' || (line.len > 12 && p[12] != ' '))
        return cs_fail(e, CS_INVALID, "malformed HTTP response");
    *out = 0;
    for (size_t i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return cs_fail(e, CS_INVALID, "malformed HTTP status code");
        *out = *out * 10 + (p[i] - '0');
    }
    return CS_OK;
}

static cs_code read_header(struct cs_slice line, struct head *h, struct cs_err *e)
{
    struct cs_slice value;
    if (header_is(line, "transfer-encoding", &value)) {
        if (value.len != 7 || strncasecmp((const char *)value.data, "chunked", 7) != 0)
            return cs_fail(e, CS_INVALID, "unsupported transfer encoding");
        h->chunked = true;
    } else if (header_is(line, "content-length", &value)) {
        int64_t n = -1;
        if (cs_parse_i64(value, &n, NULL) != CS_OK || n < 0 || (h->has_length && n != h->length))
            return cs_fail(e, CS_INVALID, "bad Content-Length");
        h->has_length = true;
        h->length = n;
    } else if (header_is(line, "location", &value)) {
        h->location = value;
    }
    return CS_OK;
}

static cs_code read_head(struct cs_rd *r, struct head *h, struct cs_err *e)
{
    struct cs_slice line;
    do { /* informational responses come before the real one */
        *h = (struct head){0};
        if (!next_line(r, &line))
            return cs_fail(e, CS_INVALID, "unexpected EOF");
        CS_TRY(read_status(line, &h->status, e));
        for (;;) {
            if (!next_line(r, &line))
                return cs_fail(e, CS_INVALID, "unexpected EOF");
            if (line.len == 0)
                break;
            CS_TRY(read_header(line, h, e));
        }
    } while (h->status >= 100 && h->status < 200);
    return CS_OK;
}

cs_code rpc_http_response_parse(struct cs_slice raw, size_t max_body, int *status, struct cs_slice *location,
                                struct cs_buf *body, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(raw);
    struct head h;
    *status = 0;
    *location = (struct cs_slice){0};
    CS_TRY(read_head(&r, &h, e));
    struct cs_slice rest = cs_slice_of(r.p, cs_rd_left(&r));
    if (h.chunked) {
        CS_TRY(read_chunks(&r, max_body, body, e));
    } else {
        if (h.has_length && (uint64_t)h.length > rest.len)
            return cs_fail(e, CS_INVALID, "unexpected EOF");
        if (h.has_length)
            rest.len = (size_t)h.length;
        CS_TRY(add_body(body, body->len, max_body, rest, e));
    }
    *status = h.status;
    *location = h.location;
    return CS_OK;
}

/* --- Connection --- */

struct link {
    int fd;
    SSL *ssl;
    SSL_CTX *ctx;
    int64_t deadline; /* monotonic ns */
};

static void link_close(struct link *l)
{
    SSL_free(l->ssl);
    SSL_CTX_free(l->ctx);
    if (l->fd >= 0)
        (void)close(l->fd);
}

/* Until fd is ready; CS_DEADLINE when time is up. */
static cs_code wait_for(const struct link *l, short events, struct cs_err *e)
{
    for (;;) {
        int64_t left = l->deadline - cs_mono_ns(&cs_clock_system);
        if (left <= 0)
            return cs_fail(e, CS_DEADLINE, "context deadline exceeded");
        struct pollfd p = {.fd = l->fd, .events = events};
        int rc = poll(&p, 1, (int)(left / CS_NS_PER_MS + 1));
        if (rc > 0)
            return CS_OK;
        if (rc < 0 && errno != EINTR)
            return cs_fail_errno(e, CS_UNAVAILABLE, errno, "poll");
    }
}

static cs_code finish_connect(struct link *l, int rc, const char *where, struct cs_err *e)
{
    int error = rc == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        socklen_t len = sizeof error;
        CS_TRY(wait_for(l, POLLOUT, e));
        if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
            error = errno;
    }
    return error == 0 ? CS_OK : cs_fail_errno(e, CS_UNAVAILABLE, error, "dial %s: connect", where);
}

static cs_code connect_unix(struct link *l, const char *path, struct cs_err *e)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path)
        return cs_fail(e, CS_INVALID, "dial unix %s: path is too long", path);
    memcpy(sa.sun_path, path, strlen(path));
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0)
        return cs_fail_errno(e, CS_UNAVAILABLE, errno, "socket");
    return finish_connect(l, connect(l->fd, (const struct sockaddr *)&sa, sizeof sa), path, e);
}

static cs_code connect_tcp(struct link *l, const struct url *u, struct cs_err *e)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(u->host, u->port, &hints, &list);
    if (rc != 0)
        return cs_fail(e, CS_UNAVAILABLE, "dial tcp: lookup %s: %s", u->host, gai_strerror(rc));
    cs_code code = cs_fail(e, CS_UNAVAILABLE, "dial tcp: lookup %s: no addresses", u->host);
    for (struct addrinfo *ai = list; ai != NULL && code != CS_OK; ai = ai->ai_next) {
        if (l->fd >= 0)
            (void)close(l->fd);
        l->fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
        if (l->fd < 0)
            code = cs_fail_errno(e, CS_UNAVAILABLE, errno, "socket");
        else
            code = finish_connect(l, connect(l->fd, ai->ai_addr, ai->ai_addrlen), u->host, e);
    }
    freeaddrinfo(list);
    return code;
}

static cs_code tls_failed(const struct link *l, const char *what, struct cs_err *e)
{
    long verify = SSL_get_verify_result(l->ssl);
    if (verify != X509_V_OK) {
        ERR_clear_error();
        return cs_fail(e, CS_UNAUTHENTICATED, "tls: failed to verify certificate: %s",
                       X509_verify_cert_error_string(verify));
    }
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return cs_fail(e, CS_UNAVAILABLE, "%s: %s", what, reason != NULL ? reason : "connection closed");
}

/* What to wait for after an SSL call that did not succeed; CS_OK: do it again. */
static cs_code tls_again(const struct link *l, int rc, const char *what, struct cs_err *e)
{
    switch (SSL_get_error(l->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return wait_for(l, POLLIN, e);
    case SSL_ERROR_WANT_WRITE:
        return wait_for(l, POLLOUT, e);
    default:
        return tls_failed(l, what, e);
    }
}

static cs_code set_up_tls(struct link *l, const struct url *u, const char *ca_file, struct cs_err *e)
{
    l->ctx = SSL_CTX_new(TLS_client_method());
    if (l->ctx == NULL || SSL_CTX_set_min_proto_version(l->ctx, TLS1_2_VERSION) != 1)
        return cs_nomem(e);
    SSL_CTX_set_verify(l->ctx, SSL_VERIFY_PEER, NULL);
    int rc = ca_file != NULL ? SSL_CTX_load_verify_locations(l->ctx, ca_file, NULL)
                             : SSL_CTX_set_default_verify_paths(l->ctx);
    if (rc != 1)
        return cs_fail(e, CS_UNAVAILABLE, "could not read the trust store");
    l->ssl = SSL_new(l->ctx);
    if (l->ssl == NULL || SSL_set_fd(l->ssl, l->fd) != 1)
        return cs_nomem(e);
    X509_VERIFY_PARAM *param = SSL_get0_param(l->ssl);
    bool is_ip = X509_VERIFY_PARAM_set1_ip_asc(param, u->host) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (!is_ip && (X509_VERIFY_PARAM_set1_host(param, u->host, 0) != 1 ||
                   SSL_set_tlsext_host_name(l->ssl, u->host) != 1))
        return cs_nomem(e);
    return CS_OK;
}

static cs_code shake_hands(struct link *l, const struct url *u, const char *ca_file, struct cs_err *e)
{
    CS_TRY(set_up_tls(l, u, ca_file, e));
    for (int rc; (rc = SSL_connect(l->ssl)) != 1;)
        CS_TRY(tls_again(l, rc, "tls handshake", e));
    return CS_OK;
}

static cs_code send_all(const struct link *l, struct cs_slice s, struct cs_err *e)
{
    while (s.len > 0) {
        ssize_t n;
        if (l->ssl != NULL) {
            n = SSL_write(l->ssl, s.data, (int)s.len);
            if (n <= 0) {
                CS_TRY(tls_again(l, (int)n, "write", e));
                continue;
            }
        } else {
            n = send(l->fd, s.data, s.len, MSG_NOSIGNAL);
            if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
                CS_TRY(wait_for(l, POLLOUT, e));
                continue;
            }
            if (n < 0)
                return cs_fail_errno(e, CS_UNAVAILABLE, errno, "write");
        }
        s = cs_slice_of(s.data + n, s.len - (size_t)n);
    }
    return CS_OK;
}

/* *n 0: the peer closed in order. */
static cs_code receive_some(const struct link *l, uint8_t *p, size_t room, size_t *n, struct cs_err *e)
{
    for (;;) {
        ssize_t got = l->ssl != NULL ? SSL_read(l->ssl, p, (int)room) : recv(l->fd, p, room, 0);
        if (got > 0 || (got == 0 && l->ssl == NULL)) {
            *n = (size_t)got;
            return CS_OK;
        }
        if (l->ssl == NULL) {
            if (errno != EAGAIN && errno != EINTR)
                return cs_fail_errno(e, CS_UNAVAILABLE, errno, "read");
            CS_TRY(wait_for(l, POLLIN, e));
            continue;
        }
        if (SSL_get_error(l->ssl, (int)got) == SSL_ERROR_ZERO_RETURN) {
            *n = 0;
            return CS_OK;
        }
        CS_TRY(tls_again(l, (int)got, "read", e));
    }
}

static cs_code receive_all(const struct link *l, size_t max, struct cs_buf *out, struct cs_err *e)
{
    for (;;) {
        size_t n = 0;
        if (out->len > max)
            return cs_fail(e, CS_EXHAUSTED, "response is larger than %zu bytes", max);
        if (!cs_buf_reserve(out, 16384))
            return cs_nomem(e);
        CS_TRY(receive_some(l, out->data + out->len, 16384, &n, e));
        if (n == 0)
            return CS_OK;
        out->len += n;
    }
}

static void write_request(const struct url *u, struct cs_buf *out)
{
    bool v6 = strchr(u->host, ':') != NULL;
    bool slash = u->target_len > 0 && u->target[0] == '/';
    bool plain_port = strcmp(u->port, u->tls ? "443" : "80") == 0;
    cs_buf_printf(out, "GET %s%.*s HTTP/1.1\r\nHost: %s%s%s%s%s\r\n", slash ? "" : "/", (int)u->target_len,
                  u->target, v6 ? "[" : "", u->host, v6 ? "]" : "", plain_port ? "" : ":",
                  plain_port ? "" : u->port);
    cs_buf_add_str(out, "User-Agent: cspire/" CSPIRE_VERSION "\r\nAccept: */*\r\nConnection: close\r\n\r\n");
}

/* One exchange; the raw response. */
static cs_code exchange(const struct rpc_https_get *req, const struct url *u, int64_t deadline,
                        struct cs_buf *raw, struct cs_err *e)
{
    CS_CLEANUP(link_close) struct link l = {.fd = -1, .deadline = deadline};
    if (req->unix_path != NULL)
        CS_TRY(connect_unix(&l, req->unix_path, e));
    else
        CS_TRY(connect_tcp(&l, u, e));
    if (u->tls)
        CS_TRY(shake_hands(&l, u, req->ca_file, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf head = {0};
    write_request(u, &head);
    if (!cs_buf_ok(&head))
        return cs_nomem(e);
    CS_TRY(send_all(&l, cs_buf_slice(&head), e));
    /* Chunked encoding may be bigger than its content, though never twice as big in sane chunks. */
    return receive_all(&l, req->max_body * 2 + HEAD_MAX, raw, e);
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* The URL that a Location means: absolute, or a path on the same host. */
static char *resolve(const struct url *u, struct cs_slice location)
{
    const char *text = (const char *)location.data;
    if (location.len > 0 && text[0] == '/' && !(location.len > 1 && text[1] == '/')) {
        bool v6 = strchr(u->host, ':') != NULL;
        return cs_asprintf("%s://%s%s%s:%s%.*s", u->tls ? "https" : "http", v6 ? "[" : "", u->host,
                           v6 ? "]" : "", u->port, (int)location.len, text);
    }
    return cs_strndup(text, location.len);
}

cs_code rpc_https_get(const struct rpc_https_get *req, int *status, struct cs_buf *body, struct cs_err *e)
{
    int64_t deadline = cs_mono_ns(&cs_clock_system) + req->timeout_ns;
    CS_CLEANUP(cs_freep) char *text = cs_strdup(req->url);
    for (int i = 0; i <= REDIRECTS_MAX; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf raw = {0};
        CS_CLEANUP(cs_buf_free) struct cs_buf content = {0};
        struct url u;
        struct cs_slice location;
        if (text == NULL)
            return cs_nomem(e);
        CS_TRY(parse_url(text, req->unix_path != NULL, &u, e));
        CS_TRY(exchange(req, &u, deadline, &raw, e));
        CS_TRY(rpc_http_response_parse(cs_buf_slice(&raw), req->max_body, status, &location, &content, e));
        if (!is_redirect(*status) || location.len == 0) {
            cs_buf_add_slice(body, cs_buf_slice(&content));
            return cs_buf_ok(body) ? CS_OK : cs_nomem(e);
        }
        char *next = resolve(&u, location);
        cs_free(text);
        text = next;
    }
    return cs_fail(e, CS_UNAVAILABLE, "stopped after %d redirects", REDIRECTS_MAX);
}
