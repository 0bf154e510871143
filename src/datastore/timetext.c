/* SPDX-License-Identifier: Apache-2.0 */
#include "datastore/timetext.h"

#include <stdio.h>
#include <time.h>

void ds_time_text(int64_t unix_s, int32_t ns, char out[DS_TIME_MAX])
{
    time_t t = (time_t)unix_s;
    struct tm tm;
    if (!localtime_r(&t, &tm)) {
        t = 0; /* a year that does not fit an int: no real time */
        ns = 0;
        (void)localtime_r(&t, &tm);
    }
    char frac[12] = "";
    if (ns > 0) {
        (void)snprintf(frac, sizeof frac, ".%09d", ns);
        for (size_t n = 10; frac[n - 1] == '0'; n--)
            frac[n - 1] = '\0';
    }
    int off = (int)(tm.tm_gmtoff / 60);
    char sign = off < 0 ? '-' : '+';
    unsigned minutes = (unsigned)(off < 0 ? -off : off) % (24 * 60);
    (void)snprintf(out, DS_TIME_MAX, "%04ld-%02u-%02u %02u:%02u:%02u%s%c%02u:%02u", tm.tm_year + 1900L,
                   (unsigned)(tm.tm_mon + 1) % 13, (unsigned)tm.tm_mday % 32, (unsigned)tm.tm_hour % 24,
                   (unsigned)tm.tm_min % 60, (unsigned)tm.tm_sec % 61, frac, sign, minutes / 60,
                   minutes % 60);
}

/* Exactly n digits. */
static bool digits(struct cs_rd *r, int n, int *out)
{
    if (cs_rd_left(r) < (size_t)n)
        return false;
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (r->p[i] < '0' || r->p[i] > '9')
            return false;
        v = v * 10 + (r->p[i] - '0');
    }
    r->p += n;
    *out = v;
    return true;
}

static bool one(struct cs_rd *r, char c)
{
    if (cs_rd_left(r) == 0 || *r->p != (uint8_t)c)
        return false;
    r->p++;
    return true;
}

static bool fraction(struct cs_rd *r, int32_t *ns)
{
    int32_t v = 0, scale = 100000000;
    const uint8_t *start = r->p;
    while (cs_rd_left(r) > 0 && *r->p >= '0' && *r->p <= '9') {
        v += (*r->p++ - '0') * scale;
        scale /= 10;
    }
    *ns = v;
    return r->p > start;
}

static bool zone(struct cs_rd *r, int *off_s)
{
    bool minus = one(r, '-');
    int h = 0, m = 0;
    if (!minus && !one(r, '+'))
        return false;
    if (!digits(r, 2, &h) || !one(r, ':') || !digits(r, 2, &m))
        return false;
    *off_s = (h * 60 + m) * (minus ? -60 : 60);
    return true;
}

/* Days since 1970-01-01 of a proleptic Gregorian date; false when there is no such date. */
static bool days_of(int y, int m, int d, int64_t *out)
{
    static const int len[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (m < 1 || m > 12 || d < 1 || d > len[m - 1] + (m == 2 && leap))
        return false;
    int64_t yy = m <= 2 ? y - 1 : y;
    int64_t era = (yy >= 0 ? yy : yy - 399) / 400;
    int64_t yoe = yy - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    *out = era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
    return true;
}

static bool time_of_day(struct cs_rd *r, int64_t *s, int32_t *ns, int *off_s)
{
    int h = 0, m = 0, sec = 0;
    if (!digits(r, 2, &h) || !one(r, ':') || !digits(r, 2, &m) || h > 23 || m > 59)
        return false;
    if (one(r, ':')) {
        if (!digits(r, 2, &sec) || sec > 59)
            return false;
        if (one(r, '.') && !fraction(r, ns))
            return false;
        if (cs_rd_left(r) > 0 && !zone(r, off_s))
            return false;
    }
    *s = h * 3600 + m * 60 + sec;
    return true;
}

int64_t ds_time_parse(struct cs_slice text, int32_t *ns_out)
{
    if (text.len > 0 && text.data[text.len - 1] == 'Z')
        text.len--;
    struct cs_rd r = cs_rd_of(text);
    int y = 0, mo = 0, d = 0, off = 0;
    int64_t days = 0, s = 0;
    int32_t ns = 0;
    bool ok = digits(&r, 4, &y) && one(&r, '-') && digits(&r, 2, &mo) && one(&r, '-') && digits(&r, 2, &d) &&
              days_of(y, mo, d, &days);
    if (ok && cs_rd_left(&r) > 0)
        ok = (one(&r, ' ') || one(&r, 'T')) && time_of_day(&r, &s, &ns, &off) && cs_rd_left(&r) == 0;
    if (ns_out)
        *ns_out = ok ? ns : 0;
    return ok ? days * 86400 + s - off : DS_TIME_ZERO;
}
