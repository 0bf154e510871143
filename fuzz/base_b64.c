/* SPDX-License-Identifier: Apache-2.0
 *
 * Base64 and hex: an accepted text is the only one of its bytes; quotings are valid UTF-8.
 */
#include "base/text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_b64(struct cs_slice s, enum cs_b64 kind)
{
    struct cs_buf CS_CLEANUP(cs_buf_free) bytes = {0}, CS_CLEANUP(cs_buf_free) text = {0};
    if (cs_b64_decode(&bytes, s, kind, NULL) == CS_OK) {
        cs_b64_encode(&text, cs_buf_slice(&bytes), kind);
        if (!cs_slice_eq(cs_buf_slice(&text), s))
            abort();
    }
    cs_buf_reset(&text);
    cs_buf_reset(&bytes);
    cs_b64_encode(&text, s, kind);
    if (cs_b64_decode(&bytes, cs_buf_slice(&text), kind, NULL) != CS_OK ||
        !cs_slice_eq(cs_buf_slice(&bytes), s))
        abort();
}

static void check_hex(struct cs_slice s)
{
    struct cs_buf CS_CLEANUP(cs_buf_free) bytes = {0}, CS_CLEANUP(cs_buf_free) text = {0};
    if (cs_hex_decode(&bytes, s, NULL) != CS_OK)
        return;
    cs_hex_encode(&text, cs_buf_slice(&bytes));
    if (text.len != s.len)
        abort();
}

static void check_quotes(struct cs_slice s)
{
    struct cs_buf CS_CLEANUP(cs_buf_free) go = {0}, CS_CLEANUP(cs_buf_free) json = {0};
    cs_quote(&go, s);
    cs_quote_json(&json, s);
    if (!cs_utf8_valid(cs_buf_slice(&go)) || !cs_utf8_valid(cs_buf_slice(&json)) || go.len < s.len + 2)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cs_slice s = cs_slice_of(data, size);
    check_b64(s, CS_B64_STD);
    check_b64(s, CS_B64_URL_RAW);
    check_hex(s);
    check_quotes(s);
    return 0;
}
