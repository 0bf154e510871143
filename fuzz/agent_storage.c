/* SPDX-License-Identifier: Apache-2.0
 *
 * agent-data.json: what is read is written, read again, and the same.
 */
#include "agent/storage.h"

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agent_storage s = {0};
    struct agent_storage t = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    if (agent_storage_parse(cs_slice_of(data, size), &s, NULL) == CS_OK &&
        agent_storage_print(&s, &text, NULL) == CS_OK) {
        if (agent_storage_parse(cs_buf_slice(&text), &t, NULL) != CS_OK ||
            !x509_chain_equal(&s.svid, &t.svid) || !x509_chain_equal(&s.bundle, &t.bundle) ||
            s.reattestable != t.reattestable)
            __builtin_trap();
    }
    x509_chain_free(&s.svid);
    x509_chain_free(&s.bundle);
    x509_chain_free(&t.svid);
    x509_chain_free(&t.bundle);
    return 0;
}
