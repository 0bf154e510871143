/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as HCL's JSON: no crash, the tree can be walked and printed.
 */
#include "config/hcl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hcl_items items;
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {.max = 4 * HCL_MAX_SIZE};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a != NULL && hcl_parse_json(cs_slice_of(data, size), a, &items, &e) == CS_OK)
        hcl_print(&out, items);
    return 0;
}
