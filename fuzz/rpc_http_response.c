/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/https_get.h"

#define BODY_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf body = {0};
    struct cs_slice location;
    int status = 0;
    if (rpc_http_response_parse(cs_slice_of(data, size), BODY_MAX, &status, &location, &body, NULL) ==
            CS_OK &&
        (body.len > BODY_MAX || status < 0 || status > 999))
        __builtin_trap();
    return 0;
}
