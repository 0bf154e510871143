/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a proxy's answer to CONNECT, and as the proxy's URL: no crash; an answer that is taken ends
 * inside the bytes, and one that comes in pieces ends in the same place.
 */
#include "base/mem.h"
#include "rpc/proxy.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t length = 0, again = 0;
    struct cs_err e;
    struct rpc_proxy p;
    cs_code rc = rpc_proxy_answer(cs_slice_of(data, size), &length, &e);
    if (length > size || length > RPC_PROXY_HEAD_MAX || (rc != CS_OK && length > 0))
        abort();
    if (length > 0) {
        if (rpc_proxy_answer(cs_slice_of(data, length - 1), &again, &e) != CS_OK || again != 0)
            abort();
        if (rpc_proxy_answer(cs_slice_of(data, length), &again, &e) != CS_OK || again != length)
            abort();
    }
    char *url = cs_strndup((const char *)data, size);
    if (url != NULL)
        (void)!rpc_proxy_parse(url, &p, &e);
    cs_free(url);
    return 0;
}
