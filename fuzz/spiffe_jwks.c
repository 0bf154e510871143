/* SPDX-License-Identifier: Apache-2.0
 *
 * Bundle documents: what is read is written so that it reads the same.
 */
#include "spiffe/bundle.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cs_slice td = cs_slice_str("example.org");
    CS_AUTO(spiffe_bundle) a = NULL;
    CS_AUTO(spiffe_bundle) b = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    if (spiffe_bundle_parse_jwks(td, cs_slice_of(data, size), &a, NULL) != CS_OK)
        return 0;
    if (spiffe_bundle_write_jwks(&text, a, 0, NULL) != CS_OK)
        abort();
    if (spiffe_bundle_parse_jwks(td, cs_buf_slice(&text), &b, NULL) != CS_OK || !spiffe_bundle_equal(a, b))
        abort();
    return 0;
}
