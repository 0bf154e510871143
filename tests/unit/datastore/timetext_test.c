/* SPDX-License-Identifier: Apache-2.0 */
#include "util.h"

#include "datastore/timetext.h"

#include <time.h>

static void zone(const char *tz)
{
    assert_int_equal(setenv("TZ", tz, 1), 0);
    tzset();
}

static void written_as_go_does(void **state)
{
    (void)state;
    static const struct {
        const char *tz;
        int64_t s;
        int32_t ns;
        const char *text;
    } cases[] = {
        {"UTC", 1795383827, 588556111, "2026-11-22 21:43:47.588556111+00:00"},
        {"UTC", 1795383827, 723329850, "2026-11-22 21:43:47.72332985+00:00"},
        {"UTC", 1795383827, 1, "2026-11-22 21:43:47.000000001+00:00"},
        {"UTC", 1795383827, 0, "2026-11-22 21:43:47+00:00"},
        {"UTC", 0, 0, "1970-01-01 00:00:00+00:00"},
        {"UTC", -1, 0, "1969-12-31 23:59:59+00:00"},
        {"<+0545>-5:45", 1795383827, 0, "2026-11-23 03:28:47+05:45"},
        {"<-0330>3:30", 1795383827, 500000000, "2026-11-22 18:13:47.5-03:30"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[DS_TIME_MAX];
        int32_t ns = -1;
        zone(cases[i].tz);
        ds_time_text(cases[i].s, cases[i].ns, out);
        assert_string_equal(out, cases[i].text);
        assert_int_equal(ds_time_parse(cs_slice_str(out), &ns), cases[i].s);
        assert_int_equal(ns, cases[i].ns);
    }
    zone("UTC");
}

static void read_in_the_drivers_forms(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t s;
    } cases[] = {
        {"2026-11-22T21:43:47.5+00:00", 1795383827},
        {"2026-11-22 21:43:47", 1795383827},
        {"2026-11-22T21:43:47Z", 1795383827},
        {"2026-11-22 21:43", 1795383780},
        {"2026-11-22", 1795305600},
        {"2024-02-29 00:00:00", 1709164800},
        {"0001-01-01 00:00:00+00:00", DS_TIME_ZERO},
        {"2026-02-29", DS_TIME_ZERO},
        {"2026-13-01", DS_TIME_ZERO},
        {"2026-11-22 24:00:00", DS_TIME_ZERO},
        {"2026-11-22 21:43:47x", DS_TIME_ZERO},
        {"2026-11-22 21:43:47+0000", DS_TIME_ZERO},
        {"2026-11-22 21:43:47.", DS_TIME_ZERO},
        {"", DS_TIME_ZERO},
        {"Z", DS_TIME_ZERO},
        {"now", DS_TIME_ZERO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(ds_time_parse(cs_slice_str(cases[i].text), NULL), cases[i].s);
}

static void no_time_is_too_far(void **state)
{
    (void)state;
    static const int64_t far[] = {INT64_MAX, INT64_MIN, INT64_C(253402300800), INT64_C(1) << 60};
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++) {
        char out[DS_TIME_MAX];
        ds_time_text(far[i], 999999999, out);
        assert_true(strlen(out) < DS_TIME_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_as_go_does),
        cmocka_unit_test(read_in_the_drivers_forms),
        cmocka_unit_test(no_time_is_too_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
