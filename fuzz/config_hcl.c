/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as HCL: no crash, and what is read prints to text that reads back the same.
 */
#include "config/hcl.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_back(struct cs_arena *a, struct hcl_items items)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf once = {0}, twice = {0};
    struct hcl_items again;
    hcl_print(&once, items);
    if (!cs_buf_ok(&once) || once.len > HCL_MAX_SIZE)
        return;
    if (hcl_parse_hcl(cs_buf_slice(&once), a, &again, NULL) != CS_OK)
        abort();
    hcl_print(&twice, again);
    if (!cs_slice_eq(cs_buf_slice(&once), cs_buf_slice(&twice)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hcl_items items;
    struct cs_err e;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a != NULL && hcl_parse_hcl(cs_slice_of(data, size), a, &items, &e) == CS_OK)
        read_back(a, items);
    return 0;
}
