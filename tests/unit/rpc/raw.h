/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/2 by hand, for peers that no library would play.
 */
#ifndef CS_TESTS_RPC_RAW_H
#define CS_TESTS_RPC_RAW_H

#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static inline int raw_unix(const struct fixture *f)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof sa.sun_path, "%.100s", f->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

static inline int raw_tcp(int port)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

static inline void frame(struct cs_buf *b, uint8_t type, uint8_t flags, uint32_t stream, const void *p,
                         size_t n)
{
    const uint8_t head[9] = {
        (uint8_t)(n >> 16),      (uint8_t)(n >> 8),      (uint8_t)n,     type, flags, (uint8_t)(stream >> 24),
        (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    cs_buf_add(b, head, sizeof head);
    cs_buf_add(b, p, n);
}

static inline void literal(struct cs_buf *b, const char *name, const char *value)
{
    cs_buf_add_byte(b, 0x00);
    cs_buf_add_byte(b, (uint8_t)strlen(name));
    cs_buf_add_str(b, name);
    cs_buf_add_byte(b, (uint8_t)strlen(value));
    cs_buf_add_str(b, value);
}

static inline void preface(struct cs_buf *b)
{
    cs_buf_add_str(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(b, 4, 0, 0, "", 0);
}

static inline void request(struct cs_buf *b, uint32_t stream, const char *path, const char *type,
                           uint8_t flags)
{
    struct cs_buf h = {0};
    literal(&h, ":method", "POST");
    literal(&h, ":scheme", "http");
    literal(&h, ":path", path);
    literal(&h, ":authority", "x");
    literal(&h, "content-type", type);
    literal(&h, "te", "trailers");
    frame(b, 1, flags, stream, h.data, h.len);
    cs_buf_free(&h);
}

/* Writes everything, reading what comes so that neither side blocks; returns at the peer's close, or
 * when `stop` was seen, or after 10 s. */
static inline bool converse(int fd, const struct cs_buf *b, struct cs_buf *in, uint8_t stop_type)
{
    size_t off = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 100000; i++) {
        struct pollfd p = {fd, POLLIN | (off < b->len ? POLLOUT : 0), 0};
        if (poll(&p, 1, 10000) <= 0)
            return false;
        if (p.revents & POLLIN || p.revents & POLLHUP) {
            uint8_t tmp[65536];
            ssize_t n = recv(fd, tmp, sizeof tmp, 0);
            if (n == 0 || (n < 0 && errno != EAGAIN))
                return true;
            if (n > 0)
                cs_buf_add(in, tmp, (size_t)n);
            size_t at = 0;
            while (stop_type != 0xff && at + 9 <= in->len) {
                size_t len = (size_t)in->data[at] << 16 | (size_t)in->data[at + 1] << 8 | in->data[at + 2];
                if (in->data[at + 3] == stop_type)
                    return true;
                at += 9 + len;
            }
        }
        if (p.revents & POLLOUT && off < b->len) {
            ssize_t n = send(fd, b->data + off, b->len - off, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                off = b->len;
            else if (n > 0)
                off += (size_t)n;
        }
    }
    return false;
}

/* The error code of the first GOAWAY, -1 without one. */
static inline int goaway_code(const struct cs_buf *in)
{
    for (size_t at = 0; at + 9 <= in->len;) {
        size_t len = (size_t)in->data[at] << 16 | (size_t)in->data[at + 1] << 8 | in->data[at + 2];
        if (in->data[at + 3] == 7 && at + 17 <= in->len)
            return in->data[at + 16];
        at += 9 + len;
    }
    return -1;
}

/* A header of the HEADERS frames in `in`; "" when it is not there. */
static inline void header(const struct cs_buf *in, const char *name, char *out, size_t cap)
{
    nghttp2_hd_inflater *inf = NULL;
    assert_int_equal(nghttp2_hd_inflate_new(&inf), 0);
    out[0] = '\0';
    for (size_t at = 0; at + 9 <= in->len;) {
        size_t len = (size_t)in->data[at] << 16 | (size_t)in->data[at + 1] << 8 | in->data[at + 2];
        const uint8_t *p = in->data + at + 9;
        at += 9 + len;
        if (at > in->len || p[-6] != 1)
            continue;
        for (int flags = 0; len > 0 || !(flags & NGHTTP2_HD_INFLATE_FINAL);) {
            nghttp2_nv nv;
            ssize_t n = nghttp2_hd_inflate_hd2(inf, &nv, &flags, p, len, 1);
            if (n < 0)
                break;
            p += n;
            len -= (size_t)n;
            if (flags & NGHTTP2_HD_INFLATE_EMIT && strlen(name) == nv.namelen &&
                memcmp(name, nv.name, nv.namelen) == 0)
                snprintf(out, cap, "%.*s", (int)nv.valuelen, (const char *)nv.value);
        }
        nghttp2_hd_inflate_end_headers(inf);
    }
    nghttp2_hd_inflate_del(inf);
}

#endif
