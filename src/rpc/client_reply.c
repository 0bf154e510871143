/* SPDX-License-Identifier: Apache-2.0
 *
 * What a server's HEADERS frames mean for a call (grpc's PROTOCOL-HTTP2.md, "Responses").
 */
#include "base/text.h"
#include "rpc/client_internal.h"
#include "rpc/wire.h"

#include <stdio.h>

void rpc_reply_reset(struct rpc_reply_head *h)
{
    cs_buf_reset(&h->message);
    cs_buf_reset(&h->details);
    h->http_status = h->grpc_status = -1;
    h->content_type[0] = '\0';
    h->bytes = 0;
}

void rpc_reply_free(struct rpc_reply_head *h)
{
    cs_buf_free(&h->message);
    cs_buf_free(&h->details);
}

static void copy_text(char *out, size_t cap, struct cs_slice v)
{
    size_t n = v.len < cap - 1 ? v.len : cap - 1;
    memcpy(out, v.data, n);
    out[n] = '\0';
}

static int number(struct cs_slice v)
{
    int64_t n = -1;
    return cs_parse_i64(v, &n, NULL) == CS_OK && n >= 0 && n < 1000 ? (int)n : CS_UNKNOWN;
}

bool rpc_reply_add(struct rpc_reply_head *h, struct cs_slice name, struct cs_slice value)
{
    h->bytes += name.len + value.len + 32;
    if (h->bytes > RPC_CLIENT_HEADER_LIST)
        return false;
    if (cs_slice_is(name, ":status")) {
        h->http_status = number(value);
    } else if (cs_slice_is(name, "content-type")) {
        h->is_grpc = h->is_grpc || rpc_content_type_ok(value);
        copy_text(h->content_type, sizeof h->content_type, value);
    } else if (cs_slice_is(name, "grpc-status")) {
        h->grpc_status = number(value);
    } else if (cs_slice_is(name, "grpc-message")) {
        cs_buf_reset(&h->message);
        cs_buf_add_slice(&h->message, value);
    } else if (cs_slice_is(name, "grpc-status-details-bin")) {
        cs_buf_reset(&h->details);
        cs_buf_add_slice(&h->details, value);
    } else if (cs_slice_is(name, "grpc-encoding")) {
        copy_text(h->encoding, sizeof h->encoding, value);
    }
    return true;
}

/* Something that is no gRPC server answered. */
static bool not_grpc(struct rpc_stream *s, bool end)
{
    struct rpc_reply_head *h = &s->head;
    if (h->http_status >= 100 && h->http_status < 200 && !end) {
        rpc_reply_reset(h);
        return true;
    }
    struct cs_buf text CS_CLEANUP(cs_buf_free) = {0};
    if (h->http_status < 0)
        cs_buf_add_str(&text, "malformed header: missing HTTP status");
    else
        cs_buf_printf(&text, "unexpected HTTP status code received from server: %d (%s)", h->http_status,
                      rpc_http_status_text(h->http_status));
    if (h->content_type[0] == '\0') {
        cs_buf_add_str(&text, "; malformed header: missing HTTP content-type");
    } else {
        cs_buf_add_str(&text, "; transport: received unexpected content-type ");
        cs_quote(&text, cs_slice_str(h->content_type));
    }
    cs_code code = h->http_status < 0 ? CS_INTERNAL : rpc_code_of_http(h->http_status);
    rpc_stream_end(s, code, cs_buf_cstr(&text), NULL, false);
    return false;
}

static void end_with_status(struct rpc_stream *s)
{
    struct rpc_reply_head *h = &s->head;
    struct cs_buf text CS_CLEANUP(cs_buf_free) = {0};
    struct rpc_detail detail = {0};
    cs_code code =
        h->grpc_status >= 0 && h->grpc_status <= CS_UNAUTHENTICATED ? (cs_code)h->grpc_status : CS_UNKNOWN;
    rpc_percent_decode(&text, cs_buf_slice(&h->message));
    if (h->details.len > 0)
        rpc_details_decode(cs_buf_slice(&h->details), &detail);
    if (code == CS_OK && !rpc_deframer_idle(&s->deframer))
        rpc_stream_end(s, CS_INTERNAL, "unexpected EOF", NULL, false);
    else
        rpc_stream_end(s, code, cs_buf_cstr(&text), &detail, false);
}

bool rpc_reply_headers(struct rpc_stream *s, bool end)
{
    if (!s->head.is_grpc)
        return not_grpc(s, end);
    if (s->got_headers && !end) {
        rpc_stream_end(s, CS_INTERNAL, "a HEADERS frame cannot appear in the middle of a stream", NULL,
                       false);
        return false;
    }
    s->got_headers = true;
    if (end)
        end_with_status(s);
    else
        rpc_reply_reset(&s->head);
    return true;
}
