/* SPDX-License-Identifier: Apache-2.0
 *
 * nghttp2's callbacks of a server connection, its options and settings.
 */
#include "rpc/internal.h"

static struct rpc_call *call_of(nghttp2_session *h2, int32_t stream)
{
    return nghttp2_session_get_stream_user_data(h2, stream);
}

/* Frames that move nothing: a peer that sends only such is cut off. */
static bool flood(struct rpc_conn *conn)
{
    int64_t now = rpc_timers_now(&conn->lane->timers);
    if (now - conn->control_start > RPC_CONTROL_WINDOW) {
        conn->control_start = now;
        conn->control_count = 0;
    }
    if (++conn->control_count <= RPC_CONTROL_LIMIT)
        return false;
    (void)nghttp2_session_terminate_session(conn->io.h2, NGHTTP2_ENHANCE_YOUR_CALM);
    return true;
}

static int on_begin_frame(nghttp2_session *h2, const nghttp2_frame_hd *hd, void *arg)
{
    (void)h2;
    struct rpc_conn *conn = arg;
    switch (hd->type) {
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PING:
    case NGHTTP2_PRIORITY:
    case NGHTTP2_WINDOW_UPDATE:
    case NGHTTP2_RST_STREAM:
        (void)flood(conn);
        break;
    case NGHTTP2_DATA:
        if (hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM))
            (void)flood(conn);
        break;
    default:
        if (hd->type > NGHTTP2_CONTINUATION)
            (void)flood(conn);
        break;
    }
    return 0;
}

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
    struct rpc_conn *conn = arg;
    conn->headers_by = rpc_timers_now(&conn->lane->timers) + RPC_HEADERS_NS;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct rpc_call *call;
    if (rpc_call_new(conn, frame->hd.stream_id, &call) != CS_OK)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    (void)nghttp2_session_set_stream_user_data(h2, frame->hd.stream_id, call);
    return 0;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t namelen,
                     const uint8_t *value, size_t valuelen, uint8_t flags, void *arg)
{
    (void)flags;
    (void)arg;
    struct rpc_call *call = call_of(h2, frame->hd.stream_id);
    if (call == NULL || call->head == NULL)
        return 0; /* trailers of a request: nothing in them is ours */
    if (!rpc_head_add(call, cs_slice_of(name, namelen), cs_slice_of(value, valuelen)))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    return 0;
}

static void on_headers(struct rpc_conn *conn, struct rpc_call *call)
{
    conn->headers_by = INT64_MAX;
    conn->control_count = 0;
    if (call->head == NULL)
        return;
    if (rpc_head_end(call))
        rpc_call_dispatch(call);
    else
        rpc_call_pump(call);
}

static int on_frame_recv(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
    struct rpc_conn *conn = arg;
    struct rpc_call *call = NULL;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        call = call_of(h2, frame->hd.stream_id);
        if (call != NULL)
            on_headers(conn, call);
        break;
    case NGHTTP2_DATA:
        call = call_of(h2, frame->hd.stream_id);
        break;
    case NGHTTP2_SETTINGS:
        if (conn->setup_by != INT64_MAX) {
            conn->setup_by = INT64_MAX;
            rpc_conn_retime(conn);
        }
        break;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
            conn->ping_by = INT64_MAX;
            if (conn->drain && !conn->goaway_sent)
                conn->goaway_by = 0;
            rpc_conn_retime(conn);
        }
        break;
    default:
        break;
    }
    if (call != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && !call->half_closed)
        rpc_call_end_in(call);
    return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream, const uint8_t *data, size_t len,
                   void *arg)
{
    (void)flags;
    (void)arg;
    struct rpc_call *call = call_of(h2, stream);
    int r = nghttp2_session_consume_connection(h2, len);
    if (call != NULL)
        rpc_call_data_in(call, cs_slice_of(data, len));
    else if (!nghttp2_is_fatal(r))
        r = nghttp2_session_consume_stream(h2, stream, len);
    return nghttp2_is_fatal(r) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* We are done with a stream whose client is not: tell it to stop sending. */
static int on_frame_sent(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
    struct rpc_conn *conn = arg;
    if (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)
        conn->control_count = 0;
    if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    struct rpc_call *call = call_of(h2, frame->hd.stream_id);
    if (call != NULL && !call->half_closed)
        rpc_call_reset(call, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_stream_close(nghttp2_session *h2, int32_t stream, uint32_t error, void *arg)
{
    (void)error;
    struct rpc_conn *conn = arg;
    struct rpc_call *call = call_of(h2, stream);
    if (call == NULL)
        return 0;
    (void)nghttp2_session_set_stream_user_data(h2, stream, NULL);
    rpc_call_gone(call, CS_CANCELLED, "context canceled");
    rpc_conn_check_drained(conn);
    return 0;
}

static cs_code new_option(nghttp2_option **out, bool hpack)
{
    if (nghttp2_option_new(out) != 0)
        return CS_INTERNAL;
    nghttp2_option *o = *out;
    nghttp2_option_set_no_auto_window_update(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_max_settings(o, 32);
    nghttp2_option_set_max_outbound_ack(o, 200);
    nghttp2_option_set_max_continuations(o, 8);
    nghttp2_option_set_stream_reset_rate_limit(o, RPC_RESET_BURST, RPC_RESET_RATE);
    nghttp2_option_set_max_send_header_block_length(o, 2 * RPC_MAX_HEADER_LIST);
    if (!hpack)
        nghttp2_option_set_max_deflate_dynamic_table_size(o, 0);
    return CS_OK;
}

cs_code rpc_lane_h2_init(struct rpc_lane *lane, struct cs_err *e)
{
    if (nghttp2_session_callbacks_new(&lane->callbacks) != 0 || new_option(&lane->opt_tls, true) != CS_OK ||
        new_option(&lane->opt_unix, false) != CS_OK)
        return cs_nomem(e);
    nghttp2_session_callbacks *cb = lane->callbacks;
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    return CS_OK;
}

cs_code rpc_conn_h2_start(struct rpc_conn *conn, struct cs_err *e)
{
    struct rpc_lane *lane = conn->lane;
    bool local = rpc_conn_is_unix(conn);
    nghttp2_settings_entry iv[4] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, lane->server->cfg.max_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, RPC_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_MAX_HEADER_LIST},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0},
    };
    const nghttp2_option *option = local ? lane->opt_unix : lane->opt_tls;
    if (rpc_h2mem_session(&lane->scratch.h2, true, lane->callbacks, conn, option, &conn->io.h2) != 0 ||
        nghttp2_submit_settings(conn->io.h2, NGHTTP2_FLAG_NONE, iv, local ? 4 : 3) != 0 ||
        nghttp2_session_set_local_window_size(conn->io.h2, NGHTTP2_FLAG_NONE, 0, RPC_CONN_WINDOW) != 0)
        return cs_nomem(e);
    return CS_OK;
}
