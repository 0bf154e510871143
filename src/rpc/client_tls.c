/* SPDX-License-Identifier: Apache-2.0
 *
 * A handshake in the thread of the caller that connects, for keys that are elsewhere: OpenSSL calls the
 * signer from inside the handshake and waits for it, which a loop must not.
 */
#include "rpc/client_internal.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>

#define HANDSHAKE "connection error: desc = \"transport: authentication handshake failed: "

/* Until the socket has one of the events; 0: only whether there is still time, and a client. */
static cs_code wait_ready(const struct rpc_link *k, short events, int64_t until, struct cs_err *e)
{
    for (;;) {
        int64_t left = until - cs_mono_ns(&cs_clock_system);
        if (left <= 0)
            return cs_fail(e, CS_UNAVAILABLE, HANDSHAKE "context deadline exceeded\"");
        int64_t ms = events == 0 ? 0 : left / CS_NS_PER_MS + 1;
        struct pollfd p[] = {{.fd = k->fd, .events = events}, {.fd = k->client->wake_fd, .events = POLLIN}};
        int n = poll(p, 2, ms > 60000 ? 60000 : (int)ms);
        if (n < 0 && errno != EINTR)
            return cs_fail_errno(e, CS_UNAVAILABLE, errno, "poll");
        if (n > 0 && p[1].revents != 0)
            return cs_fail(e, CS_CANCELLED, "grpc: the client connection is closing");
        if ((n > 0 && p[0].revents != 0) || (n == 0 && events == 0))
            return CS_OK;
    }
}

static cs_code fail(const struct rpc_link *k, struct cs_err *e)
{
    char text[400];
    rpc_io_tls_error("tls", text, sizeof text);
    return cs_fail(e, CS_UNAVAILABLE, HANDSHAKE "%.400s\"",
                   k->verify_err.code != CS_OK ? k->verify_err.text : text);
}

static cs_code shake(struct rpc_link *k, int64_t until, struct cs_err *e)
{
    for (;;) {
        ERR_clear_error();
        int r = SSL_connect(k->ssl);
        if (r == 1)
            return CS_OK;
        switch (SSL_get_error(k->ssl, r)) {
        case SSL_ERROR_WANT_READ:
            CS_TRY(wait_ready(k, POLLIN, until, e));
            break;
        case SSL_ERROR_WANT_WRITE:
            CS_TRY(wait_ready(k, POLLOUT, until, e));
            break;
        default:
            return fail(k, e);
        }
    }
}

cs_code rpc_client_handshake(struct rpc_link *k, int64_t until, struct cs_err *e)
{
    k->io = (struct rpc_io){.ops = &rpc_link_ops, .fd = -1}; /* for the verification of the server */
    k->ssl = SSL_new(k->client->cfg.tls);
    if (k->ssl == NULL || SSL_set_fd(k->ssl, k->fd) != 1) {
        ERR_clear_error();
        return cs_nomem(e);
    }
    SSL_set_app_data(k->ssl, &k->io);
    CS_TRY(shake(k, until, e));
    return wait_ready(k, 0, until, e); /* the signer may have taken longer than there was time */
}
