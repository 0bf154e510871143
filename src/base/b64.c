/* SPDX-License-Identifier: Apache-2.0
 *
 * Base64 (RFC 4648) and hex.
 */
#include "base/text.h"

static const char std_set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void cs_b64_encode(struct cs_buf *out, struct cs_slice in, enum cs_b64 kind)
{
    const char *set = kind == CS_B64_STD ? std_set : url_set;
    size_t rest = in.len % 3;

    if (in.len == 0)
        return;
    if (in.len > SIZE_MAX / 2 || !cs_buf_reserve(out, in.len / 3 * 4 + 4)) {
        out->failed = true;
        return;
    }
    uint8_t *o = out->data + out->len;
    const uint8_t *p = in.data, *end = in.data + (in.len - rest);
    for (; p < end; p += 3) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        *o++ = (uint8_t)set[v >> 18];
        *o++ = (uint8_t)set[v >> 12 & 63];
        *o++ = (uint8_t)set[v >> 6 & 63];
        *o++ = (uint8_t)set[v & 63];
    }
    if (rest > 0) {
        uint32_t v = (uint32_t)p[0] << 16 | (rest == 2 ? (uint32_t)p[1] << 8 : 0);
        *o++ = (uint8_t)set[v >> 18];
        *o++ = (uint8_t)set[v >> 12 & 63];
        if (rest == 2)
            *o++ = (uint8_t)set[v >> 6 & 63];
        for (size_t i = rest; kind == CS_B64_STD && i < 3; i++)
            *o++ = '=';
    }
    out->len = (size_t)(o - out->data);
}

/* Value of a base64 character, 64 and more when it is none. */
static uint32_t value_of(uint8_t c, enum cs_b64 kind)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0' + 52);
    if (c == (kind == CS_B64_STD ? '+' : '-'))
        return 62;
    if (c == (kind == CS_B64_STD ? '/' : '_'))
        return 63;
    return 64;
}

/* Number of characters without the padding, or SIZE_MAX when the length or padding is wrong. */
static size_t unpadded(struct cs_slice in, enum cs_b64 kind)
{
    size_t n = in.len;
    if (kind == CS_B64_STD) {
        if (n % 4 != 0)
            return SIZE_MAX;
        if (n > 0 && in.data[n - 1] == '=')
            n -= in.data[n - 2] == '=' ? 2 : 1;
    }
    return n % 4 == 1 ? SIZE_MAX : n;
}

cs_code cs_b64_decode(struct cs_buf *out, struct cs_slice in, enum cs_b64 kind, struct cs_err *e)
{
    size_t n = unpadded(in, kind), start = out->len;

    if (in.len == 0)
        return CS_OK;
    if (n == SIZE_MAX)
        return cs_fail(e, CS_INVALID, "illegal base64 data: wrong length");
    if (!cs_buf_reserve(out, n / 4 * 3 + 3))
        return cs_nomem(e);
    uint8_t *o = out->data + start;
    uint32_t acc = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t v = value_of(in.data[i], kind);
        if (v > 63)
            return cs_fail(e, CS_INVALID, "illegal base64 data at input byte %zu", i);
        acc = acc << 6 | v;
        if (i % 4 == 3) {
            *o++ = (uint8_t)(acc >> 16);
            *o++ = (uint8_t)(acc >> 8);
            *o++ = (uint8_t)acc;
            acc = 0;
        }
    }
    if (n % 4 == 2) {
        *o++ = (uint8_t)(acc >> 4);
        acc &= 0x0f;
    } else if (n % 4 == 3) {
        *o++ = (uint8_t)(acc >> 10);
        *o++ = (uint8_t)(acc >> 2);
        acc &= 0x03;
    }
    if (acc != 0 && n % 4 != 0)
        return cs_fail(e, CS_INVALID, "illegal base64 data at input byte %zu", n - 1);
    out->len = (size_t)(o - out->data);
    return CS_OK;
}

void cs_hex_encode(struct cs_buf *out, struct cs_slice in)
{
    static const char hex[] = "0123456789abcdef";
    if (in.len > SIZE_MAX / 2 || !cs_buf_reserve(out, in.len * 2)) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < in.len; i++) {
        out->data[out->len++] = (uint8_t)hex[in.data[i] >> 4];
        out->data[out->len++] = (uint8_t)hex[in.data[i] & 15];
    }
}

static int nibble(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

cs_code cs_hex_decode(struct cs_buf *out, struct cs_slice in, struct cs_err *e)
{
    size_t start = out->len;

    if (in.len == 0)
        return CS_OK;
    if (in.len % 2 != 0)
        return cs_fail(e, CS_INVALID, "hex text of odd length");
    if (!cs_buf_reserve(out, in.len / 2))
        return cs_nomem(e);
    uint8_t *o = out->data + start;
    for (size_t i = 0; i < in.len; i += 2) {
        int hi = nibble(in.data[i]), lo = nibble(in.data[i + 1]);
        if (hi < 0 || lo < 0)
            return cs_fail(e, CS_INVALID, "invalid hex digit at input byte %zu", hi < 0 ? i : i + 1);
        *o++ = (uint8_t)(hi << 4 | lo);
    }
    out->len = start + in.len / 2;
    return CS_OK;
}
