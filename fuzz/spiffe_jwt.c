/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens: the input is "header.payload" in the clear, so that mutation reaches the claims; and once as it is.
 */
#include "base/text.h"
#include "spiffe/jwtsvid.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct spiffe_bundle *none(void *arg, struct cs_slice td)
{
    (void)arg, (void)td;
    return NULL;
}

static void run(struct cs_slice token)
{
    const struct spiffe_jwt_bundles bundles = {none, NULL};
    const struct cs_slice audience = cs_slice_str("a");
    CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid t = {0};
    CS_CLEANUP(spiffe_jwtsvid_free) struct spiffe_jwtsvid u = {0};
    if (spiffe_jwtsvid_validate(token, &bundles, &audience, 1, 1000, &t, NULL) == CS_OK)
        abort(); /* there is no key that could have signed it */
    if (spiffe_jwtsvid_parse_insecure(token, &u, NULL) == CS_OK && spiffe_id_is_zero(u.id))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf token = {0};
    const uint8_t *cut = size == 0 ? NULL : memchr(data, '\n', size);
    run(cs_slice_of(data, size));
    if (cut == NULL)
        return 0;
    cs_b64_encode(&token, cs_slice_of(data, (size_t)(cut - data)), CS_B64_URL_RAW);
    cs_buf_add_byte(&token, '.');
    cs_b64_encode(&token, cs_slice_of(cut + 1, size - (size_t)(cut - data) - 1), CS_B64_URL_RAW);
    cs_buf_add_str(&token, ".c2ln");
    run(cs_buf_slice(&token));
    return 0;
}
