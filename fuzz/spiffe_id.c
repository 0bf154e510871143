/* SPDX-License-Identifier: Apache-2.0
 *
 * SPIFFE IDs: an accepted one is its trust domain and path put together, and both pass their own checks.
 */
#include "spiffe/id.h"
#include "spiffe/x509svid.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cs_slice in = cs_slice_of(data, size), td;
    struct spiffe_id id, again;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (spiffe_id_parse(in, &id, NULL) == CS_OK) {
        must(spiffe_path_check(spiffe_id_path(id), NULL) == CS_OK);
        must(spiffe_td_parse(spiffe_id_td(id), &td, NULL) == CS_OK);
        must(spiffe_id_make(a, td, spiffe_id_path(id), &again, NULL) == CS_OK);
        must(spiffe_id_equal(id, again) && again.path_at == id.path_at);
        for (size_t i = 0; i < size; i++)
            must(data[i] > ' ' && data[i] < 0x7f && data[i] != '%');
    }
    (void)!spiffe_td_parse(in, &td, NULL);
    (void)!spiffe_dns_name_check(in, NULL);
    return 0;
}
