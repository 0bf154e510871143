/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts of headers and trailers: nothing crashes, and what is written reads back.
 */
#include "base/clock.h"
#include "base/text.h"
#include "rpc/wire.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void timeouts(struct cs_slice in)
{
    int64_t ns = 0;
    if (rpc_timeout_parse(in, &ns, NULL) != CS_OK)
        return;
    char text[RPC_TIMEOUT_TEXT];
    int64_t back = -1;
    rpc_timeout_format(ns, text);
    if (rpc_timeout_parse(cs_slice_str(text), &back, NULL) != CS_OK)
        abort();
    /* rounded up to eight digits, never down */
    if (ns < INT64_MAX / 2 && (back < ns || back - ns > ns / 1000000 + 1))
        abort();
}

static void percent(struct cs_slice in)
{
    struct cs_buf enc = {0}, dec = {0}, raw = {0};
    rpc_percent_encode(&enc, in);
    for (size_t i = 0; i < enc.len; i++) {
        if (enc.data[i] < 0x20 || enc.data[i] > 0x7e)
            abort();
    }
    rpc_percent_decode(&dec, cs_buf_slice(&enc));
    if (cs_utf8_valid(in) && !cs_slice_eq(cs_buf_slice(&dec), in))
        abort();
    if (!cs_utf8_valid(cs_buf_slice(&dec)))
        abort();
    rpc_percent_decode(&raw, in);
    cs_buf_free(&enc);
    cs_buf_free(&dec);
    cs_buf_free(&raw);
}

static void binary(struct cs_slice in)
{
    struct cs_buf enc = {0}, dec = {0}, raw = {0};
    struct rpc_detail d;
    rpc_bin_encode(&enc, in);
    if (rpc_bin_decode(&dec, cs_buf_slice(&enc), NULL) != CS_OK || !cs_slice_eq(cs_buf_slice(&dec), in))
        abort();
    (void)!rpc_bin_decode(&raw, in, NULL);
    rpc_details_decode(in, &d);
    rpc_details_decode(cs_buf_slice(&enc), &d);
    cs_buf_free(&enc);
    cs_buf_free(&dec);
    cs_buf_free(&raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cs_slice in = {data, size};
    timeouts(in);
    percent(in);
    binary(in);
    (void)rpc_content_type_ok(in);
    return 0;
}
