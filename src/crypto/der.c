/* SPDX-License-Identifier: Apache-2.0
 *
 * The strict DER reader.
 */
#include "crypto/der.h"

/* Lengths up to four bytes: nothing that we read comes near 16 MiB. */
static bool read_length(struct cs_rd *r, size_t *out)
{
    uint8_t first;
    if (!cs_rd_u8(r, &first))
        return false;
    if (first < 0x80) {
        *out = first;
        return true;
    }
    unsigned n = first & 0x7f;
    if (n == 0 || n > 4)
        return false;
    size_t len = 0;
    for (unsigned i = 0; i < n; i++) {
        uint8_t b;
        if (!cs_rd_u8(r, &b) || (i == 0 && b == 0))
            return false;
        len = len << 8 | b;
    }
    if (len < 0x80)
        return false;
    *out = len;
    return true;
}

bool der_next(struct cs_rd *r, uint8_t *tag, struct cs_slice *content, struct cs_slice *whole)
{
    struct cs_rd c = *r;
    uint8_t t;
    size_t len;
    struct cs_slice body;
    if (!cs_rd_u8(&c, &t) || (t & 0x1f) == 0x1f || !read_length(&c, &len) || !cs_rd_bytes(&c, len, &body))
        return false;
    if (tag != NULL)
        *tag = t;
    if (content != NULL)
        *content = body;
    if (whole != NULL)
        *whole = cs_slice_of(r->p, (size_t)(c.p - r->p));
    *r = c;
    return true;
}

bool der_peek(const struct cs_rd *r, uint8_t tag)
{
    return cs_rd_left(r) > 0 && r->p[0] == tag;
}

bool der_read(struct cs_rd *r, uint8_t tag, struct cs_slice *content)
{
    return der_peek(r, tag) && der_next(r, NULL, content, NULL);
}

bool der_read_whole(struct cs_rd *r, uint8_t tag, struct cs_slice *whole)
{
    return der_peek(r, tag) && der_next(r, NULL, NULL, whole);
}

bool der_enter(struct cs_rd *r, uint8_t tag, struct cs_rd *inner)
{
    struct cs_slice body;
    if (!der_read(r, tag, &body))
        return false;
    *inner = cs_rd_of(body);
    return true;
}

bool der_optional(struct cs_rd *r, uint8_t tag, struct cs_slice *content, bool *present)
{
    *present = der_peek(r, tag);
    return !*present || der_next(r, NULL, content, NULL);
}

bool der_read_integer(struct cs_rd *r, struct cs_slice *content)
{
    struct cs_rd c = *r;
    struct cs_slice v;
    if (!der_read(&c, DER_INTEGER, &v) || v.len == 0)
        return false;
    if (v.len > 1 && ((v.data[0] == 0 && v.data[1] < 0x80) || (v.data[0] == 0xff && v.data[1] >= 0x80)))
        return false;
    *content = v;
    *r = c;
    return true;
}

bool der_read_uint(struct cs_rd *r, struct cs_slice *magnitude)
{
    struct cs_rd c = *r;
    struct cs_slice v;
    if (!der_read_integer(&c, &v) || v.data[0] >= 0x80)
        return false;
    if (v.len > 1 && v.data[0] == 0)
        v = cs_slice_of(v.data + 1, v.len - 1);
    *magnitude = v;
    *r = c;
    return true;
}

bool der_read_small(struct cs_rd *r, uint32_t *out)
{
    struct cs_rd c = *r;
    struct cs_slice v;
    if (!der_read_uint(&c, &v) || v.len > 4)
        return false;
    uint32_t n = 0;
    for (size_t i = 0; i < v.len; i++)
        n = n << 8 | v.data[i];
    if (n > INT32_MAX)
        return false;
    *out = n;
    *r = c;
    return true;
}

bool der_read_bool(struct cs_rd *r, bool *out)
{
    struct cs_rd c = *r;
    struct cs_slice v;
    if (!der_read(&c, DER_BOOLEAN, &v) || v.len != 1 || (v.data[0] != 0 && v.data[0] != 0xff))
        return false;
    *out = v.data[0] != 0;
    *r = c;
    return true;
}

bool der_read_bits(struct cs_rd *r, struct cs_slice *bits, unsigned *unused)
{
    struct cs_rd c = *r;
    struct cs_slice v;
    if (!der_read(&c, DER_BIT_STRING, &v) || v.len == 0)
        return false;
    unsigned pad = v.data[0];
    if (pad > 7 || (v.len == 1 && pad != 0) || (v.data[v.len - 1] & ((1u << pad) - 1)) != 0)
        return false;
    *bits = cs_slice_of(v.data + 1, v.len - 1);
    *unused = pad;
    *r = c;
    return true;
}

bool der_read_octet_bits(struct cs_rd *r, struct cs_slice *bytes)
{
    struct cs_rd c = *r;
    unsigned unused;
    struct cs_slice v;
    if (!der_read_bits(&c, &v, &unused) || unused != 0)
        return false;
    *bytes = v;
    *r = c;
    return true;
}

static bool two_digits(const uint8_t *p, int min, int max, int *out)
{
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
        return false;
    *out = (p[0] - '0') * 10 + (p[1] - '0');
    return *out >= min && *out <= max;
}

static int days_in_month(int year, int month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

/* Days since 1970-01-01 of a proleptic Gregorian date (H. Hinnant's days_from_civil). */
static int64_t days_from_civil(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

bool der_read_time(struct cs_rd *r, int64_t *unix_s)
{
    struct cs_rd c = *r;
    uint8_t tag;
    struct cs_slice v;
    if (!der_next(&c, &tag, &v, NULL))
        return false;
    int century = 0, yy, mon, day, h, m, s;
    const uint8_t *p = v.data;
    if (tag == DER_GENERALIZED_TIME && v.len == 15) {
        if (!two_digits(p, 0, 99, &century))
            return false;
        p += 2;
    } else if (tag != DER_UTC_TIME || v.len != 13) {
        return false;
    }
    if (!two_digits(p, 0, 99, &yy) || !two_digits(p + 2, 1, 12, &mon) || !two_digits(p + 4, 1, 31, &day) ||
        !two_digits(p + 6, 0, 23, &h) || !two_digits(p + 8, 0, 59, &m) || !two_digits(p + 10, 0, 59, &s) ||
        p[12] != 'Z')
        return false;
    if (tag == DER_UTC_TIME)
        century = yy >= 50 ? 19 : 20;
    int year = century * 100 + yy;
    if (day > days_in_month(year, mon))
        return false;
    *unix_s = days_from_civil(year, mon, day) * 86400 + h * 3600 + m * 60 + s;
    *r = c;
    return true;
}

bool der_oid_valid(struct cs_slice oid)
{
    if (oid.len == 0 || oid.len > 64 || (oid.data[oid.len - 1] & 0x80) != 0)
        return false;
    bool start = true;
    for (size_t i = 0; i < oid.len; i++) {
        if (start && oid.data[i] == 0x80)
            return false;
        start = (oid.data[i] & 0x80) == 0;
    }
    return true;
}

void der_oid_text(struct cs_buf *out, struct cs_slice oid)
{
    uint64_t arc = 0;
    bool first = true;
    for (size_t i = 0; i < oid.len; i++) {
        if (arc >> 57 != 0) { /* no such arc in any registry */
            cs_buf_add_str(out, ".?");
            return;
        }
        arc = arc << 7 | (oid.data[i] & 0x7f);
        if (oid.data[i] & 0x80)
            continue;
        if (first) {
            unsigned top = arc < 40 ? 0 : arc < 80 ? 1 : 2;
            cs_buf_printf(out, "%u.%llu", top, (unsigned long long)(arc - 40 * top));
        } else {
            cs_buf_printf(out, ".%llu", (unsigned long long)arc);
        }
        first = false;
        arc = 0;
    }
}

/* One arc and the dot or end behind it. */
static bool next_arc(const char **text, uint64_t *arc, bool *last)
{
    const char *s = *text;
    if (*s < '0' || *s > '9' || (s[0] == '0' && s[1] >= '0' && s[1] <= '9'))
        return false;
    for (*arc = 0; *s >= '0' && *s <= '9'; s++) {
        *arc = *arc * 10 + (uint64_t)(*s - '0');
        if (*arc >> 56 != 0)
            return false;
    }
    *last = *s == '\0';
    if (!*last && *s++ != '.')
        return false;
    *text = s;
    return true;
}

static void put_arc(struct cs_buf *out, uint64_t arc)
{
    uint8_t bytes[10];
    size_t n = sizeof bytes;
    bytes[--n] = arc & 0x7f;
    while ((arc >>= 7) != 0)
        bytes[--n] = (uint8_t)(0x80 | (arc & 0x7f));
    cs_buf_add(out, bytes + n, sizeof bytes - n);
}

bool der_oid_parse(struct cs_buf *out, const char *text)
{
    uint64_t top, arc;
    bool last;
    size_t start = out->len;
    if (!next_arc(&text, &top, &last) || last || top > 2)
        return false;
    if (!next_arc(&text, &arc, &last) || (top < 2 && arc >= 40))
        return false;
    put_arc(out, 40 * top + arc);
    while (!last) {
        if (!next_arc(&text, &arc, &last)) {
            out->len = start;
            return false;
        }
        put_arc(out, arc);
    }
    return true;
}
