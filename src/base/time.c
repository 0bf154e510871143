/* SPDX-License-Identifier: Apache-2.0
 *
 * Points in time as text: RFC 3339, and Go's Time.String.
 */
#include "base/text.h"

#include <time.h>

struct civil {
    int64_t year;
    unsigned month, day, hour, min, sec;
};

#define DAY 86400

/* Proleptic Gregorian calendar in eras of 400 years that begin on 1 March, so that a leap day is the
 * last day of its year. 719468 days lie between 0000-03-01 and 1970-01-01. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t yoe = year - era * 400;
    int64_t doy = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static struct civil civil_of(int64_t unix_s)
{
    int64_t days = unix_s / DAY, rest = unix_s % DAY;
    if (rest < 0) {
        rest += DAY;
        days--;
    }
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    struct civil c = {
        .month = (unsigned)(mp < 10 ? mp + 3 : mp - 9),
        .day = (unsigned)(doy - (153 * mp + 2) / 5 + 1),
        .hour = (unsigned)(rest / 3600),
        .min = (unsigned)(rest / 60 % 60),
        .sec = (unsigned)(rest % 60),
    };
    c.year = yoe + era * 400 + (c.month <= 2);
    return c;
}

static char *two_digits(char *p, unsigned v)
{
    *p++ = (char)('0' + v / 10);
    *p++ = (char)('0' + v % 10);
    return p;
}

/* "2026-11-22T19:02:41" with the given separator. By hand, for every log line begins with it. */
static void put_civil(struct cs_buf *out, int64_t unix_s, char sep)
{
    struct civil c = civil_of(unix_s);
    char text[20], *p = text;

    if (c.year < 0 || c.year > 9999) {
        cs_buf_printf(out, "%s%04lld", c.year < 0 ? "-" : "", (long long)(c.year < 0 ? -c.year : c.year));
    } else {
        p = two_digits(p, (unsigned)c.year / 100);
        p = two_digits(p, (unsigned)c.year % 100);
    }
    *p++ = '-';
    p = two_digits(p, c.month);
    *p++ = '-';
    p = two_digits(p, c.day);
    *p++ = sep;
    p = two_digits(p, c.hour);
    *p++ = ':';
    p = two_digits(p, c.min);
    *p++ = ':';
    p = two_digits(p, c.sec);
    cs_buf_add(out, text, (size_t)(p - text));
}

void cs_time_rfc3339(struct cs_buf *out, int64_t unix_s)
{
    put_civil(out, unix_s, 'T');
    cs_buf_add_byte(out, 'Z');
}

void cs_time_go_string(struct cs_buf *out, int64_t unix_s)
{
    put_civil(out, unix_s, ' ');
    cs_buf_add_str(out, " +0000 UTC");
}

/* The local zone's distance from UTC and its name at that time; UTC when the C library cannot say. */
static long local_offset(int64_t unix_s, const char **name)
{
    struct tm tm;
    time_t t = (time_t)unix_s;

    *name = "UTC";
    if (localtime_r(&t, &tm) == NULL)
        return 0;
    if (tm.tm_zone != NULL)
        *name = tm.tm_zone;
    return tm.tm_gmtoff;
}

void cs_time_go_local(struct cs_buf *out, int64_t unix_s)
{
    const char *name;
    long off = local_offset(unix_s, &name), abs = off < 0 ? -off : off;

    put_civil(out, unix_s + off, ' ');
    cs_buf_printf(out, " %c%02ld%02ld %s", off < 0 ? '-' : '+', abs / 3600, abs / 60 % 60, name);
}

void cs_time_rfc3339_local(struct cs_buf *out, int64_t unix_s, int32_t ns)
{
    const char *name;
    long off = local_offset(unix_s, &name), abs = off < 0 ? -off : off;

    put_civil(out, unix_s + off, 'T');
    if (ns > 0) {
        int digits = 9;
        for (; ns % 10 == 0; ns /= 10)
            digits--;
        cs_buf_printf(out, ".%0*d", digits, (int)ns);
    }
    if (off == 0)
        cs_buf_add_byte(out, 'Z');
    else
        cs_buf_printf(out, "%c%02ld:%02ld", off < 0 ? '-' : '+', abs / 3600, abs / 60 % 60);
}

/* Exactly n digits, between min and max. */
static bool number(struct cs_rd *r, size_t n, unsigned min, unsigned max, unsigned *out)
{
    struct cs_slice s;
    unsigned v = 0;
    if (!cs_rd_bytes(r, n, &s))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return false;
        v = v * 10 + (unsigned)(s.data[i] - '0');
    }
    *out = v;
    return v >= min && v <= max;
}

static bool sign(struct cs_rd *r, char want)
{
    uint8_t c;
    return cs_rd_u8(r, &c) && c == (uint8_t)want;
}

static unsigned days_in(unsigned month, unsigned year)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

/* ".5", ".000000001"; digits beyond nanoseconds are cut off. */
static bool fraction(struct cs_rd *r, int32_t *ns)
{
    int32_t scale = 100000000;
    if (cs_rd_left(r) == 0 || *r->p != '.')
        return true;
    const uint8_t *first = ++r->p;
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++) {
        *ns += (*r->p - '0') * scale;
        scale /= 10;
    }
    return r->p != first;
}

static bool zone(struct cs_rd *r, int64_t *offset_s)
{
    uint8_t c;
    unsigned h, m;
    *offset_s = 0;
    if (!cs_rd_u8(r, &c))
        return false;
    if (c == 'Z')
        return true;
    if ((c != '+' && c != '-') || !number(r, 2, 0, 23, &h) || !sign(r, ':') || !number(r, 2, 0, 59, &m))
        return false;
    *offset_s = (int64_t)(h * 60 + m) * (c == '-' ? -60 : 60);
    return true;
}

cs_code cs_time_parse_rfc3339(struct cs_slice s, int64_t *unix_s, int32_t *ns, struct cs_err *e)
{
    struct cs_rd r = cs_rd_of(s);
    unsigned year = 0, month = 0, day = 0, hour = 0, min = 0, sec = 0;
    int64_t offset = 0;
    int32_t frac = 0;

    *unix_s = 0;
    if (ns != NULL)
        *ns = 0;
    bool ok = number(&r, 4, 0, 9999, &year) && sign(&r, '-') && number(&r, 2, 1, 12, &month) &&
              sign(&r, '-') && number(&r, 2, 1, days_in(month, year), &day) && sign(&r, 'T') &&
              number(&r, 2, 0, 23, &hour) && sign(&r, ':') && number(&r, 2, 0, 59, &min) && sign(&r, ':') &&
              number(&r, 2, 0, 59, &sec) && fraction(&r, &frac) && zone(&r, &offset) && cs_rd_left(&r) == 0;
    if (!ok) {
        char mem[CS_ERR_TEXT_MAX];
        struct cs_buf CS_CLEANUP(cs_buf_free) text = cs_buf_on(mem, sizeof mem);
        cs_quote(&text, cs_slice_of(s.data, s.len < 64 ? s.len : 64));
        return cs_fail(e, CS_INVALID, "not an RFC 3339 time: %s", cs_buf_cstr(&text));
    }
    *unix_s = days_of(year, month, day) * DAY + hour * 3600 + min * 60 + sec - offset;
    if (ns != NULL)
        *ns = frac;
    return CS_OK;
}
