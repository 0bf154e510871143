/* SPDX-License-Identifier: Apache-2.0
 *
 * Data files of `entry create`, `entry update` and `entry delete`.
 */
#include "cli/json.h"
#include "cli/server/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    Types__Entry **entries;
    char **ids;
    size_t n;
    struct cs_err e;
    if (a == NULL)
        return 0;
    if (entry_load(a, cs_slice_of(data, size), &n, &entries, &e) == CS_OK)
        for (size_t i = 0; i < n; i++)
            cli_json_message(&b, &entries[i]->base);
    if (entry_load_ids(a, cs_slice_of(data, size), &n, &ids, &e) == CS_OK)
        for (size_t i = 0; i < n; i++)
            cli_json_str(&b, cs_slice_str(ids[i]));
    return 0;
}
