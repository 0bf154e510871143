/* SPDX-License-Identifier: Apache-2.0
 *
 * Durations, numbers and times: what parses is printed again and must come back as it was.
 */
#include "base/text.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_duration(struct cs_slice s)
{
    int64_t ns, back;
    struct cs_err e;
    char mem[64];
    struct cs_buf b = cs_buf_on(mem, sizeof mem);

    if (cs_duration_parse(s, &ns, &e) != CS_OK) {
        if (e.code != CS_INVALID || !cs_utf8_valid(cs_slice_str(e.text)))
            abort();
        return;
    }
    cs_duration_format(&b, ns);
    if (cs_duration_parse(cs_buf_slice(&b), &back, NULL) != CS_OK)
        abort();
    /* Go adds the fraction as a float64, which is exact here below 2^53 */
    if (llabs(ns / 2) < INT64_C(1) << 52 && back != ns)
        abort();
}

static void check_time(struct cs_slice s)
{
    int64_t t, back;
    int32_t ns;
    char mem[64];
    struct cs_buf b = cs_buf_on(mem, sizeof mem);

    if (cs_time_parse_rfc3339(s, &t, &ns, NULL) != CS_OK)
        return;
    if (ns < 0 || ns >= 1000000000)
        abort();
    cs_time_rfc3339(&b, t);
    /* an offset may lead out of the years of four digits */
    if (b.len == 20 && b.data[0] != '-' &&
        (cs_time_parse_rfc3339(cs_buf_slice(&b), &back, NULL, NULL) != CS_OK || back != t))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cs_slice s = cs_slice_of(data, size);
    int64_t number;
    struct cs_err e = {0};

    check_duration(s);
    check_time(s);
    if (cs_parse_i64(s, &number, &e) == CS_OUT_OF_RANGE && number != 0)
        abort();
    if (!cs_utf8_valid(cs_slice_str(e.text)))
        abort();
    return 0;
}
