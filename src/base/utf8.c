/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8 (RFC 3629), and the two quotings made of it.
 */
#include "base/printable.h"
#include "base/text.h"

size_t cs_utf8_decode(struct cs_slice s, uint32_t *rune)
{
    const uint8_t *p = s.data;
    uint8_t c = p[0];

    *rune = c;
    if (c < 0x80)
        return 1;
    *rune = 0xfffd;
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || s.len < n)
        return 0;
    uint32_t v = c & (0x7fU >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (p[i] & 0x3f);
    }
    bool overlong = (n == 3 && v < 0x800) || (n == 4 && v < 0x10000);
    if (overlong || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    *rune = v;
    return n;
}

bool cs_utf8_valid(struct cs_slice s)
{
    if (s.len == 0)
        return true;
    const uint8_t *p = s.data, *end = p + s.len;
    while (p < end) {
        uint64_t eight;
        if (end - p >= 8 && (memcpy(&eight, p, 8), (eight & UINT64_C(0x8080808080808080)) == 0)) {
            p += 8; /* ASCII, as nearly all our texts are */
            continue;
        }
        uint32_t rune;
        size_t n = cs_utf8_decode(cs_slice_of(p, (size_t)(end - p)), &rune);
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

/* Length of the run at p that both quotings show as it is. */
static size_t plain_run(const uint8_t *p, size_t len)
{
    size_t n = 0;
    while (n < len && p[n] >= ' ' && p[n] < 0x7f && p[n] != '"' && p[n] != '\\' && p[n] != '<' &&
           p[n] != '>' && p[n] != '&')
        n++;
    return n;
}

/* The letter of a one-letter escape, or 0. */
static char go_escape(uint32_t rune)
{
    switch (rune) {
    case '\a':
        return 'a';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    case '\v':
        return 'v';
    case '"':
    case '\\':
        return (char)rune;
    default:
        return 0;
    }
}

void cs_quote(struct cs_buf *out, struct cs_slice s)
{
    cs_buf_add_byte(out, '"');
    for (size_t i = 0; i < s.len;) {
        size_t plain = plain_run(s.data + i, s.len - i);
        cs_buf_add(out, s.data + i, plain);
        i += plain;
        if (i == s.len)
            break;
        uint32_t rune;
        size_t n = cs_utf8_decode(cs_slice_of(s.data + i, s.len - i), &rune);
        char esc = go_escape(rune);
        if (n == 0)
            cs_buf_printf(out, "\\x%02x", s.data[i]);
        else if (esc != 0)
            cs_buf_add(out, (char[]){'\\', esc}, 2);
        else if (cs_rune_printable(rune))
            cs_buf_add(out, s.data + i, n);
        else if (rune < ' ' || rune == 0x7f)
            cs_buf_printf(out, "\\x%02x", (unsigned)rune);
        else
            cs_buf_printf(out, rune < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)rune);
        i += n != 0 ? n : 1;
    }
    cs_buf_add_byte(out, '"');
}

static void json_rune(struct cs_buf *out, const uint8_t *p, size_t n, uint32_t rune)
{
    switch (rune) {
    case '\b':
    case '\f':
    case '\n':
    case '\r':
    case '\t':
    case '"':
    case '\\':
        cs_buf_add(out, (char[]){'\\', go_escape(rune)}, 2);
        return;
    default:
        break;
    }
    bool escaped =
        rune < ' ' || rune == '<' || rune == '>' || rune == '&' || rune == 0x2028 || rune == 0x2029 || n == 0;
    if (escaped)
        cs_buf_printf(out, "\\u%04x", (unsigned)rune);
    else
        cs_buf_add(out, p, n);
}

void cs_quote_json(struct cs_buf *out, struct cs_slice s)
{
    cs_buf_add_byte(out, '"');
    for (size_t i = 0; i < s.len;) {
        size_t plain = plain_run(s.data + i, s.len - i);
        cs_buf_add(out, s.data + i, plain);
        i += plain;
        if (i == s.len)
            break;
        uint32_t rune;
        size_t n = cs_utf8_decode(cs_slice_of(s.data + i, s.len - i), &rune);
        json_rune(out, s.data + i, n, rune);
        i += n != 0 ? n : 1;
    }
    cs_buf_add_byte(out, '"');
}
