/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/frame.h"

#include <stdio.h>

void rpc_deframer_free(struct rpc_deframer *d)
{
    cs_buf_free(&d->body);
    d->have = 0;
    d->want = 0;
}

static cs_code judge_head(struct rpc_deframer *d, const char *encoding, bool server, struct cs_err *e)
{
    d->want = (size_t)d->head[1] << 24 | (size_t)d->head[2] << 16 | (size_t)d->head[3] << 8 | d->head[4];
    if (d->want > d->max)
        return cs_fail(e, CS_EXHAUSTED, "grpc: received message larger than max (%zu vs. %zu)", d->want,
                       d->max);
    if (d->head[0] == 0)
        return CS_OK;
    if (d->head[0] != 1)
        return cs_fail(e, CS_INTERNAL, "grpc: received unexpected payload format %u", d->head[0]);
    if (encoding[0] == '\0' || strcmp(encoding, "identity") == 0)
        return cs_fail(e, CS_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
    return cs_fail(e, server ? CS_UNIMPLEMENTED : CS_INTERNAL,
                   "grpc: Decompressor is not installed for grpc-encoding \"%s\"", encoding);
}

cs_code rpc_deframe(struct rpc_deframer *d, struct cs_slice *in, const char *encoding, bool server,
                    bool *done, struct cs_err *e)
{
    *done = false;
    if (d->have < RPC_FRAME_HEAD) {
        while (d->have < RPC_FRAME_HEAD && in->len > 0) {
            d->head[d->have++] = *in->data++;
            in->len--;
        }
        if (d->have < RPC_FRAME_HEAD)
            return CS_OK;
        CS_TRY(judge_head(d, encoding, server, e));
    }
    size_t n = d->want - d->body.len;
    if (n > in->len)
        n = in->len;
    if (n > 0) {
        cs_buf_add(&d->body, in->data, n);
        in->data += n;
        in->len -= n;
    }
    if (!cs_buf_ok(&d->body))
        return cs_nomem(e);
    *done = d->body.len == d->want;
    return CS_OK;
}

void rpc_deframer_take(struct rpc_deframer *d, struct cs_buf *out)
{
    *out = d->body;
    d->body = (struct cs_buf){0};
    d->have = 0;
    d->want = 0;
}

void rpc_frame_head(uint8_t out[RPC_FRAME_HEAD], size_t len)
{
    out[0] = 0;
    out[1] = (uint8_t)(len >> 24);
    out[2] = (uint8_t)(len >> 16);
    out[3] = (uint8_t)(len >> 8);
    out[4] = (uint8_t)len;
}
