/* SPDX-License-Identifier: Apache-2.0
 *
 * Durations and whole numbers as text, with Go's rules (package time).
 */
#include "base/text.h"

#define TOP ((uint64_t)1 << 63)

/* Go quotes a faulty duration with every byte beyond ASCII, and control bytes, as \xNN. */
static void quote_input(struct cs_buf *out, struct cs_slice s)
{
    cs_buf_add_byte(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c >= 0x80 || c < ' ')
            cs_buf_printf(out, "\\x%02x", c);
        else if (c == '"' || c == '\\')
            cs_buf_printf(out, "\\%c", c);
        else
            cs_buf_add_byte(out, c);
    }
    cs_buf_add_byte(out, '"');
}

static cs_code refuse(struct cs_err *e, const char *what, struct cs_slice s)
{
    char mem[CS_ERR_TEXT_MAX];
    struct cs_buf CS_CLEANUP(cs_buf_free) text = cs_buf_on(mem, sizeof mem);

    if (s.len > CS_ERR_TEXT_MAX)
        s.len = CS_ERR_TEXT_MAX;
    quote_input(&text, s);
    return cs_fail(e, CS_INVALID, "time: %s %s", what, cs_buf_cstr(&text));
}

static bool digit_next(const struct cs_rd *r)
{
    return r->p < r->end && *r->p >= '0' && *r->p <= '9';
}

/* Digits up to 2^63; false: overflow. */
static bool leading_int(struct cs_rd *r, uint64_t *x)
{
    *x = 0;
    while (digit_next(r)) {
        if (*x > TOP / 10)
            return false;
        *x = *x * 10 + (uint64_t)(*r->p++ - '0');
        if (*x > TOP)
            return false;
    }
    return true;
}

/* Digits behind the point as x / scale; what exceeds 63 bits loses precision only. */
static void leading_fraction(struct cs_rd *r, uint64_t *x, double *scale)
{
    bool full = false;
    for (; digit_next(r); r->p++) {
        if (full || *x > (TOP - 1) / 10) {
            full = true;
            continue;
        }
        uint64_t y = *x * 10 + (uint64_t)(*r->p - '0');
        if (y > TOP) {
            full = true;
            continue;
        }
        *x = y;
        *scale *= 10;
    }
}

static uint64_t unit_ns(struct cs_slice u)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"ns", 1},           {"us", 1000},      {"\xc2\xb5s", 1000}, /* U+00B5 micro sign */
        {"\xce\xbcs", 1000},                                         /* U+03BC Greek mu */
        {"ms", 1000000},     {"s", 1000000000}, {"m", UINT64_C(60000000000)}, {"h", UINT64_C(3600000000000)},
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (cs_slice_is(u, units[i].name))
            return units[i].ns;
    }
    return 0;
}

/* One "number unit" group, added to *total. */
static cs_code parse_group(struct cs_rd *r, struct cs_slice all, uint64_t *total, struct cs_err *e)
{
    uint64_t whole, frac = 0;
    double scale = 1;
    const uint8_t *start = r->p;

    if (!leading_int(r, &whole))
        return refuse(e, "invalid duration", all);
    bool digits = r->p != start;
    if (r->p < r->end && *r->p == '.') {
        start = ++r->p;
        leading_fraction(r, &frac, &scale);
        digits = digits || r->p != start;
    }
    if (!digits)
        return refuse(e, "invalid duration", all);

    struct cs_slice name = {.data = r->p};
    while (r->p < r->end && *r->p != '.' && !digit_next(r))
        r->p++;
    name.len = (size_t)(r->p - name.data);
    if (name.len == 0)
        return refuse(e, "missing unit in duration", all);
    uint64_t unit = unit_ns(name);
    if (unit == 0) {
        char mem[256];
        struct cs_buf CS_CLEANUP(cs_buf_free) what = cs_buf_on(mem, sizeof mem);
        cs_buf_add_str(&what, "unknown unit ");
        quote_input(&what, cs_slice_of(name.data, name.len < 128 ? name.len : 128));
        cs_buf_add_str(&what, " in duration");
        return refuse(e, cs_buf_cstr(&what), all);
    }
    if (whole > TOP / unit)
        return refuse(e, "invalid duration", all);
    whole *= unit;
    if (frac > 0)
        whole += (uint64_t)((double)frac * ((double)unit / scale)); /* as Go rounds */
    if (whole > TOP || *total + whole > TOP)
        return refuse(e, "invalid duration", all);
    *total += whole;
    return CS_OK;
}

cs_code cs_duration_parse(struct cs_slice s, int64_t *ns, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(s);
    uint64_t total = 0;
    bool negative = false;

    *ns = 0;
    if (s.len > 0 && (*r.p == '-' || *r.p == '+'))
        negative = *r.p++ == '-';
    if (cs_rd_left(&r) == 1 && *r.p == '0')
        return CS_OK;
    if (cs_rd_left(&r) == 0)
        return refuse(e, "invalid duration", s);
    while (cs_rd_left(&r) > 0)
        CS_TRY(parse_group(&r, s, &total, e));
    if (total == TOP && !negative)
        return refuse(e, "invalid duration", s);
    *ns = negative ? (int64_t)(0 - total) : (int64_t)total;
    return CS_OK;
}

/* Writes `v` / 10^places in front of `end`, without trailing zeros; returns the new front. */
static char *put_decimal(char *end, uint64_t v, unsigned places)
{
    bool shown = false;
    for (unsigned i = 0; i < places; i++) {
        shown = shown || v % 10 != 0;
        if (shown)
            *--end = (char)('0' + v % 10);
        v /= 10;
    }
    if (shown)
        *--end = '.';
    do {
        *--end = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    return end;
}

void cs_duration_format(struct cs_buf *out, int64_t ns)
{
    char text[32]; /* the longest is -2562047h47m16.854775808s */
    char *end = text + sizeof text, *p = end;
    uint64_t v = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;

    *--p = 's';
    if (v >= 1000000000) {
        uint64_t s = v / 1000000000;
        p = put_decimal(p, s % 60 * 1000000000 + v % 1000000000, 9);
        if (s >= 60) {
            *--p = 'm';
            p = put_decimal(p, s / 60 % 60, 0);
        }
        if (s >= 3600) {
            *--p = 'h';
            p = put_decimal(p, s / 3600, 0);
        }
    } else if (v >= 1000000) {
        *--p = 'm';
        p = put_decimal(p, v, 6);
    } else if (v >= 1000) {
        *--p = '\xb5'; /* U+00B5 micro sign */
        *--p = '\xc2';
        p = put_decimal(p, v, 3);
    } else {
        if (v > 0)
            *--p = 'n';
        p = put_decimal(p, v, 0);
    }
    if (ns < 0)
        *--p = '-';
    cs_buf_add(out, p, (size_t)(end - p));
}

static cs_code refuse_number(struct cs_err *e, cs_code code, const char *what, struct cs_slice s)
{
    char mem[CS_ERR_TEXT_MAX];
    struct cs_buf CS_CLEANUP(cs_buf_free) text = cs_buf_on(mem, sizeof mem);

    cs_quote(&text, cs_slice_of(s.data, s.len < 64 ? s.len : 64));
    return cs_fail(e, code, "%s: %s", what, cs_buf_cstr(&text));
}

cs_code cs_parse_i64(struct cs_slice s, int64_t *out, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(s);
    bool negative = false;
    uint64_t v = 0;

    *out = 0;
    if (s.len > 0 && (*r.p == '-' || *r.p == '+'))
        negative = *r.p++ == '-';
    if (cs_rd_left(&r) == 0)
        return refuse_number(e, CS_INVALID, "not a number", s);
    bool over = false;
    for (; r.p < r.end; r.p++) {
        if (!digit_next(&r))
            return refuse_number(e, CS_INVALID, "not a number", s);
        over = over || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
               __builtin_add_overflow(v, (uint64_t)(*r.p - '0'), &v);
    }
    if (over || v > TOP || (v == TOP && !negative))
        return refuse_number(e, CS_OUT_OF_RANGE, "number out of range", s);
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return CS_OK;
}
