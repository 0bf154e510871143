/* SPDX-License-Identifier: Apache-2.0
 *
 * A call's way out: queue of messages, response headers, trailers.
 */
#include "rpc/internal.h"
#include "rpc/wire.h"

#include <stdio.h>

#define STATIC_NV(n, v)                                                                                      \
    {                                                                                                        \
        (uint8_t *)(n), (uint8_t *)(v), sizeof(n) - 1, sizeof(v) - 1,                                        \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE                                     \
    }

static nghttp2_nv nv_of(const char *name, struct cs_slice value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value.data, strlen(name), value.len,
                        NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

/* --- Queue --- */

static void unqueue(struct rpc_call *call, size_t n)
{
    atomic_fetch_sub(&call->queued, n);
    atomic_fetch_sub(&call->conn->send_bytes, n);
}

static void out_free(const struct rpc_call *call, struct rpc_out *o)
{
    if (call->conn->ep->l.secret_responses)
        cs_buf_wipe(&o->body);
    else
        cs_buf_free(&o->body);
    cs_free(o);
}

static bool append(struct rpc_call *call, struct cs_buf *msg) /* under lock */
{
    struct rpc_out *o = cs_malloc(sizeof *o);
    if (o == NULL)
        return false;
    *o = (struct rpc_out){.body = *msg};
    *msg = (struct cs_buf){0};
    *call->out_end = o;
    call->out_end = &o->next;
    atomic_fetch_add(&call->queued, o->body.len + RPC_FRAME_HEAD);
    atomic_fetch_add(&call->conn->send_bytes, o->body.len + RPC_FRAME_HEAD);
    return true;
}

/* A message of which a part is on the wire stays: the peer could not read the trailers behind half
 * a message. */
void rpc_call_drop_out(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    struct rpc_out **p = &call->out;
    if (*p != NULL && call->out_off > 0 && call->stream != 0)
        p = &(*p)->next;
    while (*p != NULL) {
        struct rpc_out *o = *p;
        *p = o->next;
        unqueue(call, o->body.len + RPC_FRAME_HEAD - (p == &call->out ? call->out_off : 0));
        if (p == &call->out)
            call->out_off = 0;
        out_free(call, o);
    }
    call->out_end = p;
    pthread_mutex_unlock(&call->lock);
}

/* One response always fits an idle connection; a peer that asks much and reads nothing gets no more. */
static bool fits(const struct rpc_call *call, size_t len)
{
    size_t waiting = atomic_load(&call->conn->send_bytes);
    return waiting == 0 || waiting + len + RPC_FRAME_HEAD <= call->conn->lane->server->cfg.conn_queue;
}

bool rpc_call_set_status(struct rpc_call *call, cs_code code, const char *text, struct cs_buf *last)
{
    if (last != NULL && code == CS_OK && !fits(call, last->len)) {
        code = CS_EXHAUSTED;
        text = "too many bytes of responses are waiting";
    }
    char *copy = code != CS_OK && text != NULL && text[0] != '\0' ? cs_strdup(text) : NULL;
    pthread_mutex_lock(&call->lock);
    bool mine = !call->finished;
    if (mine) {
        if (last != NULL && code == CS_OK && !append(call, last))
            code = CS_INTERNAL;
        call->finished = true;
        call->code = (unsigned)code <= CS_UNAUTHENTICATED ? code : CS_UNKNOWN;
        call->text = copy;
        copy = NULL;
    }
    pthread_mutex_unlock(&call->lock);
    cs_free(copy);
    return mine;
}

size_t rpc_call_queued(const struct rpc_call *call)
{
    return atomic_load(&call->queued);
}

cs_code rpc_call_send(struct rpc_call *call, struct cs_buf *msg)
{
    if (!cs_buf_ok(msg))
        return CS_INTERNAL;
    size_t len = msg->len + RPC_FRAME_HEAD;
    cs_code code = CS_OK;
    pthread_mutex_lock(&call->lock);
    size_t queued = atomic_load(&call->queued);
    if (call->finished || rpc_call_done(call)) {
        code = CS_CANCELLED;
    } else {
        /* one message always fits an empty queue */
        const struct rpc_server_config *cfg = &call->conn->lane->server->cfg;
        if ((queued > 0 && queued + len > cfg->stream_queue) ||
            (queued > 0 && atomic_load(&call->conn->send_bytes) + len > cfg->conn_queue))
            code = CS_EXHAUSTED;
        else if (!append(call, msg))
            code = CS_INTERNAL;
    }
    if (code == CS_EXHAUSTED)
        call->want_room = call->method->stream != NULL && call->method->stream->writable != NULL;
    pthread_mutex_unlock(&call->lock);
    if (code == CS_OK)
        rpc_call_wake(call);
    return code;
}

void rpc_call_finish(struct rpc_call *call, cs_code code, const char *text)
{
    if (!rpc_call_set_status(call, code, text, NULL))
        return;
    atomic_store(&call->done, true);
    rpc_exec_close(call, false);
    rpc_call_wake(call);
}

/* --- From other threads --- */

static void on_wake(void *arg)
{
    struct rpc_call *call = arg;
    atomic_store(&call->flush_posted, false);
    rpc_call_release(call);
    rpc_call_pump(call);
    rpc_call_unref(call);
}

void rpc_call_wake(struct rpc_call *call)
{
    struct loop *loop = call->conn->lane->loop;
    if (loop_in_thread(loop)) {
        rpc_call_release(call);
        rpc_call_pump(call);
        return;
    }
    if (atomic_exchange(&call->flush_posted, true))
        return;
    rpc_call_ref(call);
    if (!loop_post(loop, on_wake, call)) {
        atomic_store(&call->flush_posted, false);
        rpc_call_unref(call);
    }
}

/* --- Headers and trailers --- */

struct status_nvs {
    nghttp2_nv nv[6];
    size_t count;
    struct cs_buf message, details;
};

static void status_free(struct status_nvs *s)
{
    cs_buf_free(&s->message);
    cs_buf_free(&s->details);
}

/* grpc-status, grpc-message, grpc-status-details-bin. Once finished, the status does not change. */
static void status_add(struct status_nvs *s, const struct rpc_call *call)
{
    const char *digits = rpc_code_digits(call->code);
    nghttp2_nv nv = nv_of("grpc-status", cs_slice_str(digits));
    nv.flags |= NGHTTP2_NV_FLAG_NO_COPY_VALUE;
    s->nv[s->count++] = nv;
    if (call->text != NULL) {
        rpc_percent_encode(&s->message, cs_slice_str(call->text));
        if (cs_buf_ok(&s->message))
            s->nv[s->count++] = nv_of("grpc-message", cs_buf_slice(&s->message));
    }
    if (call->detail != NULL && call->code != CS_OK &&
        rpc_details_encode(&s->details, call->code, call->text, call->detail, NULL) == CS_OK)
        s->nv[s->count++] = nv_of("grpc-status-details-bin", cs_buf_slice(&s->details));
}

static int submit_trailers(struct rpc_call *call)
{
    struct status_nvs s CS_CLEANUP(status_free) = {0};
    status_add(&s, call);
    return nghttp2_submit_trailer(call->conn->io.h2, call->stream, s.nv, s.count);
}

static int submit_trailers_only(struct rpc_call *call)
{
    static const nghttp2_nv status_ok = STATIC_NV(":status", "200");
    static const nghttp2_nv type = STATIC_NV("content-type", "application/grpc");
    struct status_nvs s CS_CLEANUP(status_free) = {0};
    char http[8];
    s.nv[0] = status_ok;
    if (call->http_status != 0) {
        snprintf(http, sizeof http, "%u", call->http_status);
        s.nv[0] = nv_of(":status", cs_slice_str(http));
    }
    s.nv[1] = type;
    s.count = 2;
    status_add(&s, call);
    return nghttp2_submit_response(call->conn->io.h2, call->stream, s.nv, s.count, NULL);
}

/* --- Messages into DATA frames --- */

static size_t copy_message(struct rpc_call *call, uint8_t *buf, size_t room)
{
    struct rpc_out *o = call->out;
    size_t n = 0;
    if (call->out_off < RPC_FRAME_HEAD) {
        uint8_t head[RPC_FRAME_HEAD];
        rpc_frame_head(head, o->body.len);
        n = RPC_FRAME_HEAD - call->out_off < room ? RPC_FRAME_HEAD - call->out_off : room;
        memcpy(buf, head + call->out_off, n);
        call->out_off += n;
    }
    if (call->out_off >= RPC_FRAME_HEAD && n < room && o->body.len > 0) {
        size_t at = call->out_off - RPC_FRAME_HEAD;
        size_t k = o->body.len - at < room - n ? o->body.len - at : room - n;
        memcpy(buf + n, o->body.data + at, k);
        call->out_off += k;
        n += k;
    }
    if (call->out_off == RPC_FRAME_HEAD + o->body.len) {
        call->out = o->next;
        if (call->out == NULL)
            call->out_end = &call->out;
        call->out_off = 0;
        rpc_lane_msg_freed(call->conn->lane, o->body.len);
        out_free(call, o);
    }
    unqueue(call, n);
    return n;
}

/* Under lock: is `writable` owed, and its time? */
static bool room_again(struct rpc_call *call)
{
    const struct rpc_server_config *cfg = &call->conn->lane->server->cfg;
    size_t queued = rpc_call_queued(call);
    if (!call->want_room || call->finished ||
        (queued > 0 &&
         (queued > cfg->stream_queue / 4 || atomic_load(&call->conn->send_bytes) > cfg->conn_queue / 4 * 3)))
        return false;
    call->want_room = false;
    call->room_due = true;
    return true;
}

static ssize_t on_read(nghttp2_session *h2, int32_t stream, uint8_t *buf, size_t length, uint32_t *flags,
                       nghttp2_data_source *source, void *arg)
{
    (void)h2;
    (void)stream;
    (void)arg;
    struct rpc_call *call = source->ptr;
    size_t n = 0;
    pthread_mutex_lock(&call->lock);
    while (n < length && call->out != NULL)
        n += copy_message(call, buf + n, length - n);
    bool end = call->out == NULL && call->finished;
    bool room = n > 0 && room_again(call);
    pthread_mutex_unlock(&call->lock);
    if (room)
        rpc_exec_room(call);
    if (end) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        return submit_trailers(call) == 0 ? (ssize_t)n : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (n > 0)
        return (ssize_t)n;
    call->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
}

static int start_response(struct rpc_call *call)
{
    static const nghttp2_nv nv[] = {STATIC_NV(":status", "200"),
                                    STATIC_NV("content-type", "application/grpc")};
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = on_read};
    return nghttp2_submit_response(call->conn->io.h2, call->stream, nv, 2, &body);
}

void rpc_call_pump(struct rpc_call *call)
{
    if (call->stream == 0 || call->conn->io.h2 == NULL)
        return;
    pthread_mutex_lock(&call->lock);
    bool has_data = call->out != NULL;
    bool finished = call->finished;
    pthread_mutex_unlock(&call->lock);
    if (!has_data && !finished)
        return;
    int r = 0;
    if (!call->headers_sent) {
        call->headers_sent = true;
        r = has_data ? start_response(call) : submit_trailers_only(call);
    } else if (call->deferred) {
        call->deferred = false;
        r = nghttp2_session_resume_data(call->conn->io.h2, call->stream);
    }
    if (r != 0 && r != NGHTTP2_ERR_INVALID_ARGUMENT)
        rpc_call_reset(call, NGHTTP2_INTERNAL_ERROR);
    if (finished)
        rpc_conn_watch_rest(call->conn);
    rpc_io_flush(&call->conn->io);
}
