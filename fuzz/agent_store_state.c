/* SPDX-License-Identifier: Apache-2.0
 *
 * agent-stores.json: whatever is in it, what is taken from it is entries that can be deleted.
 */
#include "agent/store_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cs_vec entries = {0};
    struct cs_err e;
    cs_code rc = store_state_parse(cs_slice_of(data, size), &entries, &e);
    if (rc != CS_OK && rc != CS_INVALID && rc != CS_INTERNAL)
        __builtin_trap();
    for (size_t i = 0; i < entries.len; i++) {
        const struct agent_entry *en = entries.at[i];
        if (en->selector_count == 0 || strchr(en->selectors[0], ':') == NULL)
            __builtin_trap();
        agent_entry_unref(en);
    }
    cs_vec_free(&entries);
    return 0;
}
