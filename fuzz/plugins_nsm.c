/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as an answer of the Nitro Security Module: no crash; what is taken lies inside the answer.
 */
#include "plugins/shared/nitro/nsm.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(cs_code rc, struct cs_slice part, struct cs_slice whole)
{
    if (rc != CS_OK && part.len > 0)
        abort();
    if (rc == CS_OK &&
        (part.len == 0 || part.data < whole.data || part.data + part.len > whole.data + whole.len))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cs_slice in = cs_slice_of(data, size), part;
    struct nitro_nsm_description d;
    struct cs_err e;
    check(nitro_nsm_parse_document(in, &part, &e), part, in);
    check(nitro_nsm_parse_random(in, &part, &e), part, in);
    bool good = nitro_nsm_parse_description(in, &d, &e) == CS_OK;
    if (good != (d.module_id[0] != '\0') || strlen(d.module_id) > NITRO_NSM_MODULE_ID_MAX)
        abort();
    return 0;
}
