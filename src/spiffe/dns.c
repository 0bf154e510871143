/* SPDX-License-Identifier: Apache-2.0
 *
 * DNS names in entries and requests. Upstream runs them through IDNA2008 validation without the letter rules:
 * 'a b' and 'A_b' pass, what counts are lengths, hyphens and well-formed A-labels. Of A-labels we check the
 * Punycode (RFC 3492), not Unicode's tables.
 */
#include "spiffe/x509svid.h"

#include "base/text.h"

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static cs_code bad_label(struct cs_slice label, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf q = {0};
    cs_quote(&q, label);
    return cs_fail(e, CS_INVALID, "idna error\nidna: invalid label %s", cs_buf_cstr(&q));
}

static uint32_t adapt(uint32_t delta, uint32_t points, bool first)
{
    uint32_t k = 0;
    delta = first ? delta / 700 : delta / 2;
    delta += delta / points;
    for (; delta > 455; k += 36)
        delta /= 35;
    return k + 36 * delta / (delta + 38);
}

static int digit(uint8_t c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= '0' && c <= '9' ? c - '0' + 26 : -1;
}

/* One generalised variable-length integer (RFC 3492 section 3.3), added to *i. */
static bool read_delta(struct cs_rd *r, uint32_t bias, uint32_t *i)
{
    uint64_t weight = 1;
    for (uint32_t k = 36;; k += 36) {
        uint8_t c;
        int d;
        if (!cs_rd_u8(r, &c) || (d = digit(c)) < 0)
            return false;
        uint64_t next = *i + (uint64_t)d * weight;
        if (next > INT32_MAX)
            return false;
        *i = (uint32_t)next;
        uint32_t t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;
        if ((uint32_t)d < t)
            return true;
        weight *= 36 - t;
        if (weight > INT32_MAX)
            return false;
    }
}

/* Does the text behind "xn--" decode to a label with at least one code point that needs it? */
static bool punycode_sound(struct cs_slice s)
{
    const uint8_t *hyphen = s.len == 0 ? NULL : memrchr(s.data, '-', s.len);
    uint32_t points = hyphen == NULL ? 0 : (uint32_t)(hyphen - s.data);
    struct cs_rd r = cs_rd_of(s);
    if (hyphen != NULL)
        r.p = hyphen + 1;
    if (cs_rd_left(&r) == 0 || (hyphen != NULL && points == 0))
        return false;
    uint32_t n = 128, i = 0, bias = 72;
    for (bool first = true; cs_rd_left(&r) > 0; first = false) {
        uint32_t before = i;
        if (!read_delta(&r, bias, &i))
            return false;
        points++;
        bias = adapt(i - before, points, first);
        n += i / points;
        i = i % points + 1;
        if (n < 0xa0 || n > 0x10ffff || (n >= 0xd800 && n <= 0xdfff))
            return false;
    }
    return true;
}

static bool label_sound(struct cs_slice l)
{
    if (l.len == 0 || l.len > 63 || l.data[0] == '-' || l.data[l.len - 1] == '-')
        return false;
    if (l.len >= 4 && memcmp(l.data, "xn--", 4) == 0)
        return punycode_sound(cs_slice_of(l.data + 4, l.len - 4));
    return l.len < 4 || l.data[2] != '-' || l.data[3] != '-';
}

static cs_code check_plain(struct cs_slice name, struct cs_err *e)
{
    while (name.len > 0 && is_space(name.data[0]))
        name = cs_slice_of(name.data + 1, name.len - 1);
    while (name.len > 0 && is_space(name.data[name.len - 1]))
        name.len--;
    if (name.len == 0)
        return cs_fail(e, CS_INVALID, "empty or only whitespace");
    if (name.data[name.len - 1] == '.')
        return cs_fail(e, CS_INVALID, "domain ends with dot");
    /* Go lets a NUL pass; to us it would be the end of the common name made from this */
    if (name.len > 253 || memchr(name.data, 0, name.len) != NULL)
        return bad_label(name, e);
    for (struct cs_slice rest = name; rest.len > 0;) {
        const uint8_t *dot = memchr(rest.data, '.', rest.len);
        size_t n = dot == NULL ? rest.len : (size_t)(dot - rest.data);
        struct cs_slice label = cs_slice_of(rest.data, n);
        if (!label_sound(label))
            return bad_label(n == 0 ? name : label, e);
        rest = dot == NULL ? (struct cs_slice){0} : cs_slice_of(dot + 1, rest.len - n - 1);
    }
    return CS_OK;
}

cs_code spiffe_dns_name_check(struct cs_slice name, struct cs_err *e)
{
    size_t stars = 0;
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] >= 0x80)
            return cs_fail(e, CS_INVALID, "name must be ascii");
        stars += name.data[i] == '*';
    }
    if (stars > 1)
        return cs_fail(e, CS_INVALID, "too many wildcards");
    if (stars == 1) {
        if (name.len < 2 || name.data[0] != '*' || name.data[1] != '.')
            return cs_fail(e, CS_INVALID, "wildcard must be first label");
        name = cs_slice_of(name.data + 2, name.len - 2);
    }
    return check_plain(name, e);
}

cs_code spiffe_dns_wildcard_check(const struct cs_slice *names, size_t count, struct cs_err *e)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *dot = names[i].len == 0 ? NULL : memchr(names[i].data, '.', names[i].len);
        if (dot == NULL || names[i].data[0] == '*')
            continue;
        struct cs_slice tail = cs_slice_of(dot, names[i].len - (size_t)(dot - names[i].data));
        for (size_t j = 0; j < count; j++) {
            if (names[j].len != tail.len + 1 || names[j].data[0] != '*' ||
                memcmp(names[j].data + 1, tail.data, tail.len) != 0)
                continue;
            CS_CLEANUP(cs_buf_free) struct cs_buf q = {0};
            cs_quote(&q, names[i]);
            return cs_fail(e, CS_INVALID,
                           "name %s overlaps with an existing wildcard name in the list: wildcard overlap",
                           cs_buf_cstr(&q));
        }
    }
    return CS_OK;
}
