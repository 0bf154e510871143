/* SPDX-License-Identifier: Apache-2.0
 *
 * gRPC message framing: input cut at arbitrary points gives the same messages as input in one piece.
 */
#include "base/mem.h"
#include "rpc/frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    struct cs_buf log; /* length and bytes of each message */
    cs_code code;
};

static void read_all(struct rpc_deframer *d, struct cs_slice in, struct seen *s)
{
    while (in.len > 0 && s->code == CS_OK) {
        bool done;
        s->code = rpc_deframe(d, &in, "gzip", true, &done, NULL);
        if (s->code != CS_OK || !done)
            continue;
        struct cs_buf msg = {0};
        rpc_deframer_take(d, &msg);
        uint32_t n = (uint32_t)msg.len;
        cs_buf_add(&s->log, &n, sizeof n);
        cs_buf_add(&s->log, msg.data, msg.len);
        cs_buf_free(&msg);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t step = 1 + data[0] % 16;
    struct cs_slice in = {data + 1, size - 1};
    struct rpc_deframer one = {.max = 4096}, cut = {.max = 4096};
    struct seen a = {0}, b = {0};
    read_all(&one, in, &a);
    for (size_t at = 0; at < in.len; at += step)
        read_all(&cut, (struct cs_slice){in.data + at, in.len - at < step ? in.len - at : step}, &b);
    if (a.code != b.code || !cs_slice_eq(cs_buf_slice(&a.log), cs_buf_slice(&b.log)))
        abort();
    cs_buf_free(&a.log);
    cs_buf_free(&b.log);
    rpc_deframer_free(&one);
    rpc_deframer_free(&cut);
    return 0;
}
