/* SPDX-License-Identifier: Apache-2.0
 *
 * The DER writer. Lengths are put in when an element ends: one byte is kept free for them, and the few
 * elements of 128 bytes or more are moved up by one to four bytes then.
 */
#include "crypto/der.h"

static unsigned length_bytes(size_t len)
{
    unsigned n = 0;
    if (len < 0x80)
        return 0;
    for (; len != 0; len >>= 8)
        n++;
    return n;
}

static void add_header(struct cs_buf *out, uint8_t tag, size_t len)
{
    uint8_t h[2 + sizeof len];
    unsigned n = length_bytes(len);
    h[0] = tag;
    h[1] = n == 0 ? (uint8_t)len : (uint8_t)(0x80 | n);
    for (unsigned i = 0; i < n; i++)
        h[2 + i] = (uint8_t)(len >> (8 * (n - 1 - i)));
    cs_buf_add(out, h, 2 + n);
}

size_t der_begin(struct cs_buf *out, uint8_t tag)
{
    const uint8_t header[2] = {tag, 0};
    cs_buf_add(out, header, sizeof header);
    return out->len;
}

void der_end(struct cs_buf *out, size_t mark)
{
    if (out->failed)
        return;
    size_t len = out->len - mark;
    unsigned n = length_bytes(len);
    if (n == 0) {
        out->data[mark - 1] = (uint8_t)len;
        return;
    }
    static const uint8_t room[sizeof len] = {0};
    cs_buf_add(out, room, n);
    if (out->failed)
        return;
    memmove(out->data + mark + n, out->data + mark, len);
    out->data[mark - 1] = (uint8_t)(0x80 | n);
    for (unsigned i = 0; i < n; i++)
        out->data[mark + i] = (uint8_t)(len >> (8 * (n - 1 - i)));
}

void der_put(struct cs_buf *out, uint8_t tag, struct cs_slice content)
{
    add_header(out, tag, content.len);
    cs_buf_add_slice(out, content);
}

void der_put_uint(struct cs_buf *out, struct cs_slice magnitude)
{
    while (magnitude.len > 0 && magnitude.data[0] == 0)
        magnitude = cs_slice_of(magnitude.data + 1, magnitude.len - 1);
    bool pad = magnitude.len == 0 || magnitude.data[0] >= 0x80;
    add_header(out, DER_INTEGER, magnitude.len + pad);
    if (pad)
        cs_buf_add_byte(out, 0);
    cs_buf_add_slice(out, magnitude);
}

void der_put_small(struct cs_buf *out, uint32_t v)
{
    const uint8_t be[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    der_put_uint(out, cs_slice_of(be, sizeof be));
}

void der_put_bool(struct cs_buf *out, bool v)
{
    const uint8_t b[3] = {DER_BOOLEAN, 1, v ? 0xff : 0};
    cs_buf_add(out, b, sizeof b);
}

void der_put_bits(struct cs_buf *out, struct cs_slice bytes)
{
    add_header(out, DER_BIT_STRING, bytes.len + 1);
    cs_buf_add_byte(out, 0);
    cs_buf_add_slice(out, bytes);
}

/* Year, month, day of a day number (H. Hinnant's civil_from_days). */
static void civil_from_days(int64_t z, int *year, int *month, int *day)
{
    z += 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
}

static void add_two(struct cs_buf *out, int v)
{
    cs_buf_add_byte(out, (uint8_t)('0' + v / 10));
    cs_buf_add_byte(out, (uint8_t)('0' + v % 10));
}

void der_put_time(struct cs_buf *out, int64_t unix_s)
{
    /* years 1 to 9999 only: anything else has no DER form */
    if (unix_s < INT64_C(-62135596800) || unix_s > INT64_C(253402300799)) {
        out->failed = true;
        return;
    }
    int64_t days = unix_s / 86400, left = unix_s % 86400;
    if (left < 0) {
        left += 86400;
        days--;
    }
    int year, month, day;
    civil_from_days(days, &year, &month, &day);
    bool utc = year >= 1950 && year < 2050;
    add_header(out, utc ? DER_UTC_TIME : DER_GENERALIZED_TIME, utc ? 13 : 15);
    if (!utc)
        add_two(out, year / 100);
    add_two(out, year % 100);
    add_two(out, month);
    add_two(out, day);
    add_two(out, (int)(left / 3600));
    add_two(out, (int)(left / 60 % 60));
    add_two(out, (int)(left % 60));
    cs_buf_add_byte(out, 'Z');
}
