/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/io.h"

#include "base/mem.h"
#include "rpc/tls_signer.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define READS_PER_TURN 8
#define OUT_TARGET (64u * 1024)   /* collect about this much for one write */
#define PEND_LIMIT (1024u * 1024) /* TLS control records a peer can cause without reading */

/* --- OpenSSL's view of the thread's buffers --- */

static int bio_write(BIO *b, const char *p, int n)
{
    struct rpc_io *io = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (n <= 0)
        return n;
    cs_buf_add(&io->scratch->out, p, (size_t)n);
    return cs_buf_ok(&io->scratch->out) ? n : -1;
}

static int bio_read(BIO *b, char *p, int n)
{
    struct rpc_io *io = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    if (n <= 0)
        return n;
    if (io->feed.len == 0) {
        BIO_set_retry_read(b);
        return -1;
    }
    size_t take = io->feed.len < (size_t)n ? io->feed.len : (size_t)n;
    memcpy(p, io->feed.data, take);
    io->feed.data += take;
    io->feed.len -= take;
    return (int)take;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    (void)b;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

cs_code rpc_scratch_init(struct rpc_scratch *s, struct loop *loop, struct cs_err *e)
{
    *s = (struct rpc_scratch){.loop = loop};
    s->in = cs_malloc(RPC_IO_CHUNK);
    s->plain = cs_malloc(RPC_IO_CHUNK);
    s->bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "cspire rpc");
    if (rpc_h2mem_init(&s->h2, e) != CS_OK || s->in == NULL || s->plain == NULL || s->bio == NULL ||
        !BIO_meth_set_write(s->bio, bio_write) || !BIO_meth_set_read(s->bio, bio_read) ||
        !BIO_meth_set_ctrl(s->bio, bio_ctrl) || !BIO_meth_set_create(s->bio, bio_create)) {
        rpc_scratch_free(s);
        return cs_nomem(e);
    }
    return CS_OK;
}

void rpc_scratch_free(struct rpc_scratch *s)
{
    cs_free(s->in);
    cs_free(s->plain);
    cs_buf_free(&s->out);
    BIO_meth_free(s->bio);
    rpc_h2mem_free(&s->h2);
    *s = (struct rpc_scratch){0};
}

/* --- Ending --- */

static void io_dead(struct rpc_io *io, cs_code code, const char *text)
{
    if (io->dead)
        return;
    io->dead = true;
    (void)cs_fail(&io->why, code, "%s", text);
}

void rpc_io_fail(struct rpc_io *io, cs_code code, const char *text)
{
    if (io->dead)
        return;
    io_dead(io, code, text);
    rpc_io_flush(io);
}

static void undirty(struct rpc_io *io)
{
    if (!io->is_dirty)
        return;
    for (struct rpc_io **p = &io->scratch->dirty; *p != NULL; p = &(*p)->next_dirty) {
        if (*p == io) {
            *p = io->next_dirty;
            break;
        }
    }
    io->is_dirty = false;
}

/* Tells a TLS peer that the end is meant. Best effort: what the socket does not take is lost. */
static void say_goodbye(struct rpc_io *io)
{
    struct cs_buf *out = &io->scratch->out;
    if (io->ssl == NULL || io->handshaking || io->got_fatal || io->fd < 0 || io->pend.len > 0 || out->len > 0)
        return;
    ERR_clear_error();
    (void)SSL_shutdown(io->ssl);
    ERR_clear_error();
    if (out->len > 0)
        (void)!send(io->fd, out->data, out->len, MSG_NOSIGNAL);
    cs_buf_reset(out);
}

void rpc_io_close(struct rpc_io *io)
{
    io->closing = true;
    if (io->scratch != NULL) {
        undirty(io);
        say_goodbye(io);
    }
    nghttp2_session_del(io->h2);
    io->h2 = NULL;
    SSL_free(io->ssl);
    io->ssl = NULL;
    if (io->rd != NULL)
        event_free(io->rd);
    if (io->wr != NULL)
        event_free(io->wr);
    io->rd = io->wr = NULL;
    cs_buf_free(&io->pend);
    io->pend_off = 0;
    if (io->fd >= 0)
        close(io->fd);
    io->fd = -1;
}

/* --- Output --- */

static void on_event(evutil_socket_t fd, short what, void *arg);

static void wait_writable(struct rpc_io *io)
{
    if (io->wr == NULL)
        io->wr = event_new(loop_base(io->scratch->loop), io->fd, EV_WRITE | EV_ET, on_event, io);
    if (io->wr == NULL || event_add(io->wr, NULL) != 0) {
        io_dead(io, CS_INTERNAL, "no memory");
        return;
    }
    io->ops->stalled(io, true);
}

/* Bytes taken by the socket; less than n when it is full. -1: the connection is over. */
static ssize_t io_send(struct rpc_io *io, const uint8_t *p, size_t n)
{
    if (io->fd < 0)
        return (ssize_t)n;
    size_t done = 0;
    while (done < n) {
        ssize_t k = send(io->fd, p + done, n - done, MSG_NOSIGNAL);
        if (k >= 0) {
            done += (size_t)k;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            break;
        } else if (errno != EINTR) {
            char text[64];
            snprintf(text, sizeof text, "write: %s", strerror(errno));
            io_dead(io, CS_UNAVAILABLE, text);
            return -1;
        }
    }
    return (ssize_t)done;
}

/* Sends the thread's `out`, behind what is pending. False: the socket is full or the connection over. */
static bool send_out(struct rpc_io *io)
{
    struct cs_buf *out = &io->scratch->out;
    bool waiting = io->pend.len > io->pend_off;
    if (!cs_buf_ok(out)) {
        io_dead(io, CS_INTERNAL, "no memory");
        cs_buf_free(out);
        return false;
    }
    size_t done = 0;
    if (!waiting && out->len > 0) {
        ssize_t n = io_send(io, out->data, out->len);
        done = n > 0 ? (size_t)n : 0;
        if (n < 0) {
            cs_buf_reset(out);
            return false;
        }
    }
    if (done < out->len) {
        cs_buf_add(&io->pend, out->data + done, out->len - done);
        if (!cs_buf_ok(&io->pend) || io->pend.len - io->pend_off > PEND_LIMIT)
            io_dead(io, CS_EXHAUSTED, "the peer does not read");
        if (!waiting)
            wait_writable(io);
        waiting = true;
    }
    cs_buf_reset(out);
    return !waiting && !io->dead;
}

static bool send_pending(struct rpc_io *io)
{
    size_t left = io->pend.len - io->pend_off;
    if (left == 0)
        return true;
    ssize_t n = io_send(io, io->pend.data + io->pend_off, left);
    if (n < 0)
        return false;
    io->pend_off += (size_t)n;
    if (n > 0)
        io->ops->stalled(io, false);
    if ((size_t)n < left) {
        wait_writable(io);
        return false;
    }
    cs_buf_free(&io->pend);
    io->pend_off = 0;
    return true;
}

/* The alerts a peer of ours may send, in Go's words (crypto/tls). */
static const struct {
    int alert;
    const char *text;
} alerts[] = {
    {SSL_AD_HANDSHAKE_FAILURE, "handshake failure"},
    {SSL_AD_BAD_CERTIFICATE, "bad certificate"},
    {SSL_AD_UNSUPPORTED_CERTIFICATE, "unsupported certificate"},
    {SSL_AD_CERTIFICATE_REVOKED, "revoked certificate"},
    {SSL_AD_CERTIFICATE_EXPIRED, "expired certificate"},
    {SSL_AD_CERTIFICATE_UNKNOWN, "unknown certificate"},
    {SSL_AD_UNKNOWN_CA, "unknown certificate authority"},
    {SSL_AD_ACCESS_DENIED, "access denied"},
    {SSL_AD_PROTOCOL_VERSION, "protocol version not supported"},
    {SSL_AD_INTERNAL_ERROR, "internal error"},
    {SSL_AD_NO_APPLICATION_PROTOCOL, "no application protocol"},
    {TLS13_AD_CERTIFICATE_REQUIRED, "certificate required"},
};

void rpc_io_tls_error(const char *doing, char *text, size_t cap)
{
    unsigned long code = ERR_peek_error();
    const char *reason = rpc_tls_signer_error();
    if (reason == NULL && code != 0)
        reason = ERR_reason_error_string(code);
    snprintf(text, cap, "%s: %s", doing, reason != NULL ? reason : "connection broken");
    for (size_t i = 0; i < sizeof alerts / sizeof alerts[0]; i++) {
        if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
            ERR_GET_REASON(code) == alerts[i].alert + SSL_AD_REASON_OFFSET)
            snprintf(text, cap, "remote error: tls: %s", alerts[i].text);
    }
    ERR_clear_error();
}

static void tls_fail(struct rpc_io *io, const char *doing)
{
    char text[160];
    rpc_io_tls_error(doing, text, sizeof text);
    io_dead(io, CS_UNAVAILABLE, text);
}

static bool tls_write(struct rpc_io *io, const uint8_t *p, size_t n)
{
    size_t done = 0;
    ERR_clear_error();
    if (SSL_write_ex(io->ssl, p, n, &done) == 1 && done == n)
        return true;
    tls_fail(io, "tls: write");
    return false;
}

/* Moves frames from the session to `out`: plain, or gathered into whole TLS records. False: none left. */
static bool gather(struct rpc_io *io)
{
    struct cs_buf *out = &io->scratch->out;
    size_t gathered = 0;
    bool more = true;
    while (more && !io->dead && out->len < OUT_TARGET) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(io->h2, &p);
        if (n < 0) {
            io_dead(io, CS_INTERNAL, nghttp2_strerror((int)n));
            return false;
        }
        more = n > 0;
        if (!more)
            break;
        size_t len = (size_t)n;
        if (io->ssl == NULL) {
            cs_buf_add(out, p, len);
            continue;
        }
        while (len > 0) {
            size_t k = SSL3_RT_MAX_PLAIN_LENGTH - gathered;
            k = k < len ? k : len;
            memcpy(io->scratch->plain + gathered, p, k);
            gathered += k;
            p += k;
            len -= k;
            if (gathered == SSL3_RT_MAX_PLAIN_LENGTH) {
                if (!tls_write(io, io->scratch->plain, gathered))
                    return false;
                gathered = 0;
            }
        }
    }
    if (gathered > 0 && !tls_write(io, io->scratch->plain, gathered))
        return false;
    return more;
}

static bool collect(struct rpc_io *io)
{
    rpc_h2mem_send_begin(&io->scratch->h2);
    bool more = gather(io);
    rpc_h2mem_send_end(&io->scratch->h2);
    return more;
}

static void pump(struct rpc_io *io)
{
    bool more = true;
    if (!send_pending(io)) {
        (void)send_out(io); /* keeps handshake records in order behind it */
        return;
    }
    if (io->got_fatal || (io->dead && io->h2 == NULL)) {
        (void)send_out(io);
        return;
    }
    while (more) {
        more = io->h2 != NULL && !io->handshaking && collect(io);
        if (!send_out(io))
            return;
    }
    if (io->h2 != NULL && !nghttp2_session_want_read(io->h2) && !nghttp2_session_want_write(io->h2))
        io_dead(io, CS_UNAVAILABLE, "connection closed");
}

/* The last act of a turn: every connection that has something to send, then those that are over. */
static void settle(struct rpc_scratch *s)
{
    while (s->dirty != NULL) {
        struct rpc_io *io = s->dirty;
        s->dirty = io->next_dirty;
        io->is_dirty = false;
        pump(io);
        if (io->dead && !io->closing) {
            io->closing = true;
            io->ops->lost(io, &io->why);
        }
    }
}

static void mark_dirty(struct rpc_io *io)
{
    if (io->is_dirty || io->closing)
        return;
    io->is_dirty = true;
    io->next_dirty = io->scratch->dirty;
    io->scratch->dirty = io;
}

static void turn_begin(struct rpc_scratch *s)
{
    s->busy = true;
}

static void turn_end(struct rpc_scratch *s)
{
    settle(s);
    s->busy = false;
}

/* Never sends from here: callers may hold locks, and sending calls back into calls and handlers. */
void rpc_io_flush(struct rpc_io *io)
{
    if (io->closing || io->scratch == NULL)
        return;
    mark_dirty(io);
    if (!io->scratch->busy && io->rd != NULL)
        event_active(io->rd, EV_TIMEOUT, 0);
}

/* --- Input --- */

static void h2_input(struct rpc_io *io, const uint8_t *p, size_t n)
{
    ssize_t k = nghttp2_session_mem_recv(io->h2, p, n);
    if (io->ops->heard != NULL)
        io->ops->heard(io);
    if (k >= 0)
        return;
    if (k == NGHTTP2_ERR_FLOODED)
        (void)nghttp2_session_terminate_session(io->h2, NGHTTP2_ENHANCE_YOUR_CALM);
    io_dead(io, CS_UNAVAILABLE, nghttp2_strerror((int)k));
}

/* The handshake is done: is HTTP/2 what the peer speaks? */
static void shaken(struct rpc_io *io)
{
    const unsigned char *alpn = NULL;
    unsigned len = 0;
    SSL_get0_alpn_selected(io->ssl, &alpn, &len);
    if (len != 2 || memcmp(alpn, "h2", 2) != 0) {
        io_dead(io, CS_UNAVAILABLE, "credentials: cannot check peer: missing selected ALPN property");
        io->got_fatal = true;
        return;
    }
    io->handshaking = false;
    struct cs_err e = {0};
    cs_code code = io->ops->ready(io, &e);
    if (code != CS_OK)
        io_dead(io, code, e.text);
}

static void handshake(struct rpc_io *io)
{
    ERR_clear_error();
    int r = SSL_do_handshake(io->ssl);
    if (r != 1) {
        if (SSL_get_error(io->ssl, r) != SSL_ERROR_WANT_READ) {
            io->got_fatal = true;
            tls_fail(io, "tls");
        }
        return;
    }
    shaken(io);
}

static void tls_input(struct rpc_io *io, const uint8_t *p, size_t n)
{
    io->feed = cs_slice_of(p, n);
    if (io->handshaking)
        handshake(io);
    while (!io->handshaking && !io->dead) {
        size_t got = 0;
        ERR_clear_error();
        int r = SSL_read_ex(io->ssl, io->scratch->plain, RPC_IO_CHUNK, &got);
        if (r == 1) {
            h2_input(io, io->scratch->plain, got);
            continue;
        }
        int err = SSL_get_error(io->ssl, r);
        if (err == SSL_ERROR_WANT_READ)
            break;
        io->got_fatal = true;
        if (err == SSL_ERROR_ZERO_RETURN)
            io_dead(io, CS_UNAVAILABLE, "EOF");
        else
            tls_fail(io, "tls");
    }
    io->feed = cs_slice_of(NULL, 0);
}

static void input(struct rpc_io *io, const uint8_t *p, size_t n)
{
    if (io->ssl != NULL)
        tls_input(io, p, n);
    else
        h2_input(io, p, n);
}

static void read_socket(struct rpc_io *io)
{
    for (int i = 0; i < READS_PER_TURN && !io->dead; i++) {
        ssize_t n = recv(io->fd, io->scratch->in, RPC_IO_CHUNK, 0);
        if (n > 0) {
            input(io, io->scratch->in, (size_t)n);
            /* less than asked for: the socket is empty, a next byte is a new edge (epoll(7)); an end
             * that came with these bytes was told by EV_CLOSED */
            if ((size_t)n < RPC_IO_CHUNK && !io->eof_seen)
                return;
        } else if (n == 0) {
            io_dead(io, CS_UNAVAILABLE, "EOF");
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            char text[64];
            snprintf(text, sizeof text, "read: %s", strerror(errno));
            io_dead(io, CS_UNAVAILABLE, text);
            return;
        }
    }
    if (!io->dead)
        event_active(io->rd, EV_READ, 0); /* the others first */
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct rpc_io *io = arg;
    turn_begin(io->scratch);
    if (what & EV_CLOSED)
        io->eof_seen = true;
    if ((what & (EV_READ | EV_CLOSED)) && !io->dead)
        read_socket(io);
    mark_dirty(io);
    turn_end(io->scratch);
}

void rpc_io_feed(struct rpc_io *io, const uint8_t *data, size_t len)
{
    turn_begin(io->scratch);
    if (!io->dead)
        input(io, data, len);
    mark_dirty(io);
    turn_end(io->scratch);
}

/* --- Opening --- */

static cs_code tls_bio(struct rpc_io *io, struct cs_err *e)
{
    BIO *b = BIO_new(io->scratch->bio);
    if (b == NULL)
        return cs_nomem(e);
    BIO_set_data(b, io);
    SSL_set_bio(io->ssl, b, b);
    SSL_set_app_data(io->ssl, io);
    return CS_OK;
}

/* The handshake was made on the socket itself; OpenSSL has read no further than it. */
static cs_code tls_take_over(struct rpc_io *io, struct cs_err *e)
{
    CS_TRY(tls_bio(io, e));
    shaken(io);
    if (io->dead && e != NULL)
        *e = io->why;
    return io->dead ? io->why.code : CS_OK;
}

static cs_code tls_attach(struct rpc_io *io, bool server, struct cs_err *e)
{
    CS_TRY(tls_bio(io, e));
    if (server)
        SSL_set_accept_state(io->ssl);
    else
        SSL_set_connect_state(io->ssl);
    io->handshaking = true;
    return CS_OK;
}

cs_code rpc_io_open(struct rpc_io *io, struct rpc_scratch *s, const struct rpc_io_ops *ops, int fd, SSL *ssl,
                    bool server, struct cs_err *e)
{
    *io = (struct rpc_io){.scratch = s, .ops = ops, .fd = fd, .ssl = ssl};
    if (ssl == NULL)
        CS_TRY(ops->ready(io, e));
    else if (SSL_is_init_finished(ssl))
        CS_TRY(tls_take_over(io, e));
    else
        CS_TRY(tls_attach(io, server, e));
    if (fd < 0)
        return CS_OK;
    io->rd = event_new(loop_base(s->loop), fd, EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_event, io);
    if (io->rd == NULL || event_add(io->rd, NULL) != 0)
        return cs_nomem(e);
    if (!server) {
        /* a client speaks first; a server's settings go out with its first answer */
        if (io->handshaking) {
            handshake(io);
            (void)send_out(io);
        }
        mark_dirty(io);
        event_active(io->rd, EV_TIMEOUT, 0);
    }
    return CS_OK;
}
