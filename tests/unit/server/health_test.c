/* SPDX-License-Identifier: Apache-2.0
 *
 * Health: the JSON that probes read, and when it says well.
 */
#include "server/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static bool broken;

static cs_code fine(void *arg, struct cs_err *e)
{
    (void)arg, (void)e;
    return CS_OK;
}
static cs_code maybe(void *arg, struct cs_err *e)
{
    (void)arg;
    return broken ? cs_fail(e, CS_INTERNAL, "a \"bad\" <thing>") : CS_OK;
}

static void shows(struct server_health *h, bool well, const char *json)
{
    struct cs_buf b = {0};
    assert_int_equal(server_health_json(h, &b), well);
    assert_string_equal(cs_buf_cstr(&b), json);
    cs_buf_free(&b);
}

static void shows_what_the_checks_found(void **state)
{
    (void)state;
    const struct server_health_check checks[] = {{"server", "x_err", fine, NULL},
                                                 {"server.ca", "y_err", maybe, NULL}};
    struct server_health *h = NULL;
    assert_int_equal(server_health_new(checks, 2, (struct cs_log){0}, &h, NULL), CS_OK);
    shows(h, false, "{\"server\":null,\"server.ca\":null}");
    assert_true(server_health_run(h));
    shows(h, true, "{\"server\":{},\"server.ca\":{}}");
    broken = true;
    assert_false(server_health_run(h));
    shows(h, false, "{\"server\":{},\"server.ca\":{\"y_err\":\"a \\\"bad\\\" \\u003cthing\\u003e\"}}");
    broken = false;
    assert_true(server_health_run(h));
    shows(h, true, "{\"server\":{},\"server.ca\":{}}");
    server_health_free(h);
    server_health_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shows_what_the_checks_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
