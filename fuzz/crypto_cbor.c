/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes to each reader: what says false moves nothing, what is read lies inside and is read again from
 * its shortest form, and what is passed over is one whole value.
 */
#include "crypto/cbor.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void check_cursor(bool read, const struct cs_rd *before, const struct cs_rd *after)
{
    must(after->end == before->end && after->p >= before->p && after->p <= after->end);
    must(read == (after->p > before->p));
}

static void check_numbers(struct cs_slice in)
{
    const struct cs_rd start = cs_rd_of(in);
    struct cs_rd r = start, again;
    uint64_t u, u2;
    int64_t i, i2;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    const bool is_uint = cbor_read_uint(&r, &u);
    check_cursor(is_uint, &start, &r);
    if (is_uint) {
        cbor_put_uint(&out, u);
        again = cs_rd_of(cs_buf_slice(&out));
        must(out.len <= (size_t)(r.p - start.p) && cbor_read_uint(&again, &u2) && u2 == u &&
             cs_rd_left(&again) == 0);
    }
    r = start;
    const bool is_int = cbor_read_int(&r, &i);
    check_cursor(is_int, &start, &r);
    must(!is_uint || is_int == (u <= INT64_MAX));
    if (is_int) {
        cs_buf_reset(&out);
        cbor_put_int(&out, i);
        again = cs_rd_of(cs_buf_slice(&out));
        must(cbor_read_int(&again, &i2) && i2 == i && cs_rd_left(&again) == 0);
    }
}

static void check_strings(struct cs_slice in)
{
    const struct cs_rd start = cs_rd_of(in);
    struct cs_rd r = start, again;
    struct cs_slice s, s2;
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    const bool is_bytes = cbor_read_bytes(&r, &s);
    check_cursor(is_bytes, &start, &r);
    if (is_bytes) {
        must(s.data > in.data && s.data + s.len == r.p);
        cbor_put_bytes(&out, s);
        again = cs_rd_of(cs_buf_slice(&out));
        must(cbor_read_bytes(&again, &s2) && cs_slice_eq(s, s2) && cs_rd_left(&again) == 0);
    }
    r = start;
    const bool is_text = cbor_read_text(&r, &s);
    check_cursor(is_text, &start, &r);
    must(!is_text || (!is_bytes && s.data + s.len == r.p));
    r = start;
    must(cbor_read_text_is(&r, "SHA384") == (is_text && cs_slice_is(s, "SHA384")));
}

static void check_simple(struct cs_slice in)
{
    const struct cs_rd start = cs_rd_of(in);
    struct cs_rd r = start;
    bool b;
    check_cursor(cbor_read_bool(&r, &b), &start, &r);
    r = start;
    check_cursor(cbor_read_null(&r), &start, &r);
    r = start;
    check_cursor(cbor_read_tag(&r, 18), &start, &r);
}

static void check_containers(struct cs_slice in)
{
    const struct cs_rd start = cs_rd_of(in);
    struct cs_rd r = start;
    struct cbor_map m;
    size_t n, steps = 0;
    const bool is_array = cbor_read_array(&r, &n);
    check_cursor(is_array, &start, &r);
    must(!is_array || n <= cs_rd_left(&r));
    r = start;
    const bool definite = cbor_map_begin(&r, &m, false);
    check_cursor(definite, &start, &r);
    must(!definite || m.left <= cs_rd_left(&r) / 2);
    r = start;
    const bool any = cbor_map_begin(&r, &m, true);
    check_cursor(any, &start, &r);
    must(!definite || any);
    while (any && cbor_map_more(&r, &m)) {
        must(++steps <= in.len);
        if (!cbor_skip(&r) || !cbor_skip(&r))
            break;
    }
}

static void check_skip(struct cs_slice in)
{
    const struct cs_rd start = cs_rd_of(in);
    struct cs_rd r = start;
    const bool whole = cbor_skip(&r);
    check_cursor(whole, &start, &r);
    if (!whole)
        return;
    const size_t len = (size_t)(r.p - start.p);
    r = cs_rd_of(cs_slice_of(in.data, len));
    must(cbor_skip(&r) && cs_rd_left(&r) == 0);
    r = cs_rd_of(cs_slice_of(in.data, len - 1)); /* one byte less is no value */
    must(!cbor_skip(&r));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cs_slice in = cs_slice_of(data, size);
    check_numbers(in);
    check_strings(in);
    check_simple(in);
    check_containers(in);
    check_skip(in);
    return 0;
}
