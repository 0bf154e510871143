/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's connection on its loop.
 */
#include "rpc/client_internal.h"

#include "rpc/wire.h"

#include <stdio.h>
#include <unistd.h>

#define LINK_OF(p, member) ((struct rpc_link *)(void *)((char *)(p)-offsetof(struct rpc_link, member)))

static struct rpc_stream *stream_of(nghttp2_session *h2, int32_t id)
{
    return nghttp2_session_get_stream_user_data(h2, id);
}

/* --- nghttp2 --- */

static void detach(struct rpc_stream *s)
{
    if (!s->attached)
        return;
    s->attached = false;
    s->id = 0;
    *s->prev = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    rpc_stream_unref(s);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t namelen,
                     const uint8_t *value, size_t valuelen, uint8_t flags, void *arg)
{
    (void)flags;
    (void)arg;
    struct rpc_stream *s = stream_of(h2, frame->hd.stream_id);
    if (s == NULL)
        return 0;
    if (rpc_reply_add(&s->head, cs_slice_of(name, namelen), cs_slice_of(value, valuelen)))
        return 0;
    rpc_stream_end(s, CS_INTERNAL, "peer header list size exceeded limit", NULL, false);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void set_flag(struct rpc_link *k, bool *flag)
{
    pthread_mutex_lock(&k->client->lock);
    *flag = true;
    pthread_cond_broadcast(&k->client->changed);
    pthread_mutex_unlock(&k->client->lock);
}

static int on_frame_recv(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
    struct rpc_link *k = arg;
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct rpc_stream *s;
    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            set_flag(k, &k->ready);
        break;
    case NGHTTP2_GOAWAY:
        set_flag(k, &k->goaway);
        if (k->streams == NULL)
            (void)nghttp2_session_terminate_session(h2, NGHTTP2_NO_ERROR);
        break;
    case NGHTTP2_HEADERS:
        s = stream_of(h2, frame->hd.stream_id);
        if (s != NULL && !rpc_reply_headers(s, end))
            (void)nghttp2_submit_rst_stream(h2, 0, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
        else if (s != NULL && end && nghttp2_session_get_stream_local_close(h2, frame->hd.stream_id) == 0)
            (void)nghttp2_submit_rst_stream(h2, 0, frame->hd.stream_id, NGHTTP2_CANCEL);
        break;
    case NGHTTP2_DATA:
        s = stream_of(h2, frame->hd.stream_id);
        if (s != NULL && end)
            rpc_stream_end(s, CS_INTERNAL, "server closed the stream without sending trailers", NULL, false);
        break;
    default:
        break;
    }
    return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *arg)
{
    (void)flags;
    (void)arg;
    struct rpc_stream *s = stream_of(h2, id);
    (void)nghttp2_session_consume_connection(h2, len);
    if (s != NULL)
        rpc_stream_data_in(s, cs_slice_of(data, len));
    return 0;
}

static int on_frame_sent(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
    (void)arg;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct rpc_stream *s = stream_of(h2, frame->hd.stream_id);
    if (s != NULL)
        s->sent = true;
    return 0;
}

static int on_stream_close(nghttp2_session *h2, int32_t id, uint32_t error, void *arg)
{
    struct rpc_link *k = arg;
    struct rpc_stream *s = stream_of(h2, id);
    if (s == NULL)
        return 0;
    (void)nghttp2_session_set_stream_user_data(h2, id, NULL);
    char text[96];
    snprintf(text, sizeof text, "stream terminated by RST_STREAM with error code: %s",
             rpc_h2_error_name(error));
    cs_code code = rpc_code_of_h2(error);
    if (!s->sent) {
        code = CS_UNAVAILABLE;
        snprintf(text, sizeof text, "the connection is draining");
    } else if (code == CS_CANCELLED && s->deadline <= cs_mono_ns(&cs_clock_system)) {
        code = CS_DEADLINE;
    }
    rpc_stream_end(s, code, text, NULL, !s->sent || error == NGHTTP2_REFUSED_STREAM);
    detach(s);
    if (k->streams == NULL && k->goaway)
        (void)nghttp2_session_terminate_session(h2, NGHTTP2_NO_ERROR);
    return 0;
}

cs_code rpc_link_h2_init(struct rpc_client *c, struct cs_err *e)
{
    if (nghttp2_session_callbacks_new(&c->callbacks) != 0 || nghttp2_option_new(&c->option) != 0)
        return cs_nomem(e);
    nghttp2_option_set_no_auto_window_update(c->option, 1);
    nghttp2_option_set_no_closed_streams(c->option, 1);
    nghttp2_option_set_max_outbound_ack(c->option, 200);
    nghttp2_option_set_max_continuations(c->option, 8);
    nghttp2_option_set_max_reserved_remote_streams(c->option, 0);
    nghttp2_option_set_max_send_header_block_length(c->option, 2 * RPC_CLIENT_HEADER_LIST);
    nghttp2_session_callbacks *cb = c->callbacks;
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    return CS_OK;
}

/* --- Keepalive: only while there is a call, so an idle client sleeps --- */

static void on_keepalive(void *arg)
{
    struct rpc_link *k = arg;
    if (k->pinged && !k->heard) {
        rpc_io_fail(&k->io, CS_UNAVAILABLE, "keepalive ping failed to receive ACK within timeout");
        return;
    }
    int64_t wait = k->client->cfg.keepalive_ns;
    k->pinged = !k->heard && k->streams != NULL;
    if (k->pinged) {
        (void)nghttp2_submit_ping(k->io.h2, 0, NULL);
        rpc_io_flush(&k->io);
        wait = k->client->cfg.keepalive_wait_ns;
    }
    k->heard = false;
    if (k->streams != NULL)
        loop_timer_arm(k->keepalive, wait, 0);
}

/* --- Transport --- */

static cs_code io_ready(struct rpc_io *io, struct cs_err *e)
{
    struct rpc_link *k = LINK_OF(io, io);
    k->handshaken = true;
    const nghttp2_settings_entry iv[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, RPC_CLIENT_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_CLIENT_HEADER_LIST},
    };
    if (rpc_h2mem_session(&io->scratch->h2, false, k->client->callbacks, k, k->client->option, &io->h2) !=
            0 ||
        nghttp2_submit_settings(io->h2, NGHTTP2_FLAG_NONE, iv, sizeof iv / sizeof iv[0]) != 0 ||
        nghttp2_session_set_local_window_size(io->h2, NGHTTP2_FLAG_NONE, 0, RPC_CLIENT_CONN_WINDOW) != 0)
        return cs_nomem(e);
    return CS_OK;
}

static cs_code io_verify(struct rpc_io *io, const struct cs_slice *chain, size_t count, struct cs_err *e)
{
    struct rpc_link *k = LINK_OF(io, io);
    (void)e;
    return k->client->cfg.verify(k->client->cfg.arg, chain, count, &k->verify_err);
}

static void io_stalled(struct rpc_io *io, bool on)
{
    (void)io;
    (void)on;
}

static void io_heard(struct rpc_io *io)
{
    LINK_OF(io, io)->heard = true;
}

static void say_why(struct rpc_link *k, const struct cs_err *why, struct cs_err *out)
{
    if (!k->handshaken)
        (void)cs_fail(out, CS_UNAVAILABLE, "transport: authentication handshake failed: %s",
                      k->verify_err.code != CS_OK ? k->verify_err.text : why->text);
    else if (!k->ready)
        (void)cs_fail(out, CS_UNAVAILABLE, "error reading server preface: %s", why->text);
    else
        (void)cs_fail(out, CS_UNAVAILABLE, "error reading from server: %s", why->text);
}

static void link_end(struct rpc_link *k, const struct cs_err *why)
{
    struct rpc_client *c = k->client;
    pthread_mutex_lock(&c->lock);
    say_why(k, why, &k->why);
    k->dead = true;
    bool closing = c->closing;
    pthread_mutex_unlock(&c->lock);
    char text[CS_ERR_TEXT_MAX];
    snprintf(text, sizeof text, "connection error: desc = \"%.400s\"", k->why.text);
    while (k->streams != NULL) {
        struct rpc_stream *s = k->streams;
        if (closing)
            rpc_stream_end(s, CS_CANCELLED, "grpc: the client connection is closing", NULL, false);
        else
            rpc_stream_end(s, CS_UNAVAILABLE, text, NULL, !s->sent);
        detach(s);
    }
    if (k->keepalive != NULL)
        loop_timer_free(k->keepalive);
    k->keepalive = NULL;
    rpc_io_close(&k->io);
    pthread_mutex_lock(&c->lock);
    *k->prev = k->next;
    if (k->next != NULL)
        k->next->prev = k->prev;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    rpc_link_unref(k);
}

static void io_lost(struct rpc_io *io, const struct cs_err *why)
{
    link_end(LINK_OF(io, io), why);
}

const struct rpc_io_ops rpc_link_ops = {
    .ready = io_ready,
    .lost = io_lost,
    .verify = io_verify,
    .stalled = io_stalled,
    .heard = io_heard,
};

static cs_code attach(struct rpc_link *k, struct cs_err *e)
{
    struct rpc_client *c = k->client;
    int fd = k->fd;
    k->fd = -1;
    SSL *ssl = k->ssl;
    k->ssl = NULL;
    if (c->cfg.tls != NULL && ssl == NULL) {
        ssl = SSL_new(c->cfg.tls);
        if (ssl == NULL) {
            close(fd);
            return cs_nomem(e);
        }
    }
    cs_code code = rpc_io_open(&k->io, &c->scratch, &rpc_link_ops, fd, ssl, false, e);
    if (code == CS_OK)
        code = loop_timer_new(c->loop, on_keepalive, k, &k->keepalive, e);
    return code;
}

void rpc_link_attach(void *link)
{
    struct rpc_link *k = link;
    struct rpc_client *c = k->client;
    pthread_mutex_lock(&c->lock);
    bool closing = c->closing;
    k->next = c->links;
    k->prev = &c->links;
    if (k->next != NULL)
        k->next->prev = &k->next;
    c->links = k;
    pthread_mutex_unlock(&c->lock);
    struct cs_err e = {.text = "closing"};
    if (closing || attach(k, &e) != CS_OK)
        link_end(k, &e);
    rpc_client_unpin(c);
}

void rpc_link_kill(void *link)
{
    struct rpc_link *k = link;
    struct rpc_client *c = k->client;
    if (k->io.scratch != NULL)
        rpc_io_fail(&k->io, CS_CANCELLED, "closing");
    rpc_link_unref(k);
    rpc_client_unpin(c);
}

void rpc_client_kill_links(void *client)
{
    struct rpc_client *c = client;
    for (struct rpc_link *k = c->links; k != NULL; k = k->next)
        rpc_io_fail(&k->io, CS_CANCELLED, "closing");
    rpc_client_unpin(c);
}

void rpc_client_drop_links(struct rpc_client *c)
{
    const struct cs_err why = {.text = "closing"};
    while (c->links != NULL)
        link_end(c->links, &why);
}
