/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes between a socket and an nghttp2 session, plain or through TLS; the part that server and
 * client connections share. Persistent edge-triggered events, one read and one write per turn, and
 * buffers that belong to the thread: an idle connection keeps none.
 *
 * Everything here happens on one loop's thread.
 */
#ifndef CS_RPC_IO_H
#define CS_RPC_IO_H

#include "base/buf.h"
#include "loop/loop.h"
#include "rpc/h2mem.h"

#include <event2/event.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

struct rpc_io;

/* What all connections of one thread share. */
struct rpc_scratch {
    struct loop *loop;
    uint8_t *in;          /* RPC_IO_CHUNK bytes read from a socket */
    uint8_t *plain;       /* RPC_IO_CHUNK bytes to or from TLS */
    struct cs_buf out;    /* bytes for the socket; empty between turns */
    BIO_METHOD *bio;      /* lets OpenSSL read `feed` and write `out` */
    struct rpc_h2mem h2;  /* memory of the sessions */
    struct rpc_io *dirty; /* connections that have something to send */
    bool busy;            /* a turn is running: flushes wait for its end */
};
#define RPC_IO_CHUNK (32u * 1024)
CS_CHECKED cs_code rpc_scratch_init(struct rpc_scratch *s, struct loop *loop, struct cs_err *e);
void rpc_scratch_free(struct rpc_scratch *s);

struct rpc_io_ops {
    /* The transport stands (TLS handshake done, or at once without TLS): set io->h2 (rpc_h2mem_session of
     * the scratch). Not CS_OK: lost. */
    cs_code (*ready)(struct rpc_io *io, struct cs_err *e);
    /* Once, at the end of a turn and never inside another callback: the connection is over. The owner
     * calls rpc_io_close and may free what holds the io. */
    void (*lost)(struct rpc_io *io, const struct cs_err *why);
    /* Whole peer chain (DER, leaf first). NULL: any chain is taken. */
    cs_code (*verify)(struct rpc_io *io, const struct cs_slice *chain, size_t count, struct cs_err *e);
    /* The peer does not take our bytes (on), or does again. */
    void (*stalled)(struct rpc_io *io, bool on);
    /* Bytes came in and were worked on. May be NULL. */
    void (*heard)(struct rpc_io *io);
};

struct rpc_io {
    struct rpc_scratch *scratch;
    const struct rpc_io_ops *ops;
    nghttp2_session *h2;   /* owned; made by ops->ready */
    SSL *ssl;              /* owned; NULL without TLS */
    struct event *rd, *wr; /* wr only exists once a write had to wait */
    struct cs_slice feed;  /* what OpenSSL may read now */
    struct cs_buf pend;    /* bytes the socket did not take yet */
    size_t pend_off;
    struct rpc_io *next_dirty;
    int fd; /* owned; -1: closed, or none (fuzzing) */
    bool handshaking, is_dirty, dead, closing, eof_seen, got_fatal;
    struct cs_err why; /* valid when dead */
};
/* Takes the non-blocking fd and the SSL object (NULL: plain) over, also when it fails. Calls
 * ops->ready from here when there is no handshake to do, or it was done already. `server`: accept side. fd
 * -1: bytes come from rpc_io_feed and go nowhere. After an error: rpc_io_close. */
CS_CHECKED cs_code rpc_io_open(struct rpc_io *io, struct rpc_scratch *s, const struct rpc_io_ops *ops, int fd,
                               SSL *ssl, bool server, struct cs_err *e);
/* What the oldest error in OpenSSL's queue of this thread says about a connection, in Go's words where they
 * are known; empties the queue. */
void rpc_io_tls_error(const char *doing, char *text, size_t cap);
/* Frees session, TLS state, events and socket; not from inside nghttp2's callbacks. */
void rpc_io_close(struct rpc_io *io);
/* Send what the session has to send, soon: at the end of the running turn or in one of its own. */
void rpc_io_flush(struct rpc_io *io);
/* Mark as over; ops->lost follows from the loop, after what is queued was tried to be sent. */
void rpc_io_fail(struct rpc_io *io, cs_code code, const char *text);
/* Input without a socket. */
void rpc_io_feed(struct rpc_io *io, const uint8_t *data, size_t len);

#endif
