/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void sets_code_and_text(void **state)
{
    (void)state;
    struct cs_err e;
    assert_int_equal(cs_fail(&e, CS_INVALID, "entry %d: %s", 7, "no selectors"), CS_INVALID);
    assert_int_equal(e.code, CS_INVALID);
    assert_string_equal(e.text, "entry 7: no selectors");
    assert_int_equal(cs_fail(NULL, CS_DENIED, "unseen"), CS_DENIED);
    assert_int_equal(cs_wrap(NULL, "unseen"), CS_INTERNAL);
    assert_int_equal(cs_nomem(&e), CS_INTERNAL);
    assert_string_equal(e.text, "out of memory");
}

static void wraps_outward(void **state)
{
    (void)state;
    struct cs_err e;
    (void)cs_fail(&e, CS_NOT_FOUND, "no such key");
    assert_int_equal(cs_wrap(&e, "load %s", "bundle"), CS_NOT_FOUND);
    assert_string_equal(e.text, "load bundle: no such key");
    struct cs_err empty = {0};
    assert_int_equal(cs_wrap(&empty, "x"), CS_INTERNAL);
}

/* The old text may be an argument of the new one. */
static void own_text_as_argument(void **state)
{
    (void)state;
    struct cs_err e;
    (void)cs_fail(&e, CS_INVALID, "inner");
    (void)cs_fail(&e, CS_INTERNAL, "outer: %s", e.text);
    assert_string_equal(e.text, "outer: inner");
    (void)cs_wrap(&e, "%s again", e.text);
    assert_string_equal(e.text, "outer: inner again: outer: inner");
}

static void system_texts_read_as_in_go(void **state)
{
    (void)state;
    struct cs_err e;
    (void)cs_fail_errno(&e, CS_NOT_FOUND, ENOENT, "open %s", "/nowhere");
    assert_string_equal(e.text, "open /nowhere: no such file or directory");
    (void)cs_fail_errno(&e, CS_INTERNAL, EADDRINUSE, "bind");
    assert_string_equal(e.text, "bind: address already in use");
    (void)cs_fail_errno(&e, CS_INTERNAL, ERFKILL, "x");
    assert_string_equal(e.text, "x: operation not possible due to RF-kill");
    (void)cs_fail_errno(&e, CS_INTERNAL, EDOTDOT, "x");
    assert_string_equal(e.text, "x: RFS specific error");
    (void)cs_fail_errno(&e, CS_INTERNAL, 99999, "x");
    assert_string_equal(e.text, "x: errno 99999");
}

/* Long texts are cut between characters, whatever their length. */
static void long_texts_are_cut_whole(void **state)
{
    (void)state;
    char in[CS_ERR_TEXT_MAX * 2];
    for (size_t pad = 0; pad < 4; pad++) {
        memset(in, 'a', pad);
        size_t n = pad;
        for (; n + 3 < sizeof in; n += 3)
            memcpy(in + n, "\xe2\x82\xac", 3);
        in[n] = '\0';
        struct cs_err e;
        (void)cs_fail(&e, CS_INVALID, "%s", in);
        size_t len = strlen(e.text);
        assert_true(len < CS_ERR_TEXT_MAX && len > CS_ERR_TEXT_MAX - 4);
        assert_int_equal((len - pad) % 3, 0);
        (void)cs_wrap(&e, "prefix");
        assert_int_equal((strlen(e.text) - 8 - pad) % 3, 0);
        (void)cs_fail_errno(&e, CS_INTERNAL, ENOENT, "%s", in);
        assert_int_equal((strlen(e.text) - pad) % 3, 0);
    }
    char exact[CS_ERR_TEXT_MAX];
    memset(exact, 'x', sizeof exact - 1);
    exact[sizeof exact - 1] = '\0';
    struct cs_err e;
    (void)cs_fail(&e, CS_INVALID, "%s", exact);
    assert_string_equal(e.text, exact);
}

static void names_are_grpc_gos(void **state)
{
    (void)state;
    assert_string_equal(cs_code_name(CS_OK), "OK");
    assert_string_equal(cs_code_name(CS_CANCELLED), "Canceled");
    assert_string_equal(cs_code_name(CS_INVALID), "InvalidArgument");
    assert_string_equal(cs_code_name(CS_PRECONDITION), "FailedPrecondition");
    assert_string_equal(cs_code_name(CS_UNAUTHENTICATED), "Unauthenticated");
    assert_string_equal(cs_code_name((cs_code)17), "Unknown");
    assert_string_equal(cs_code_name((cs_code)-1), "Unknown");
    assert_true(cs_code_retryable(CS_UNAVAILABLE));
    assert_false(cs_code_retryable(CS_DENIED));
    assert_false(cs_code_retryable(CS_OK));
}

struct thing {
    int *drops;
};
static void thing_drop(struct thing **t)
{
    if (*t != NULL)
        (*(*t)->drops)++;
}
static struct thing *make(struct thing *t, bool keep)
{
    CS_AUTO(thing) own = t;
    return keep ? CS_MOVE(own) : NULL;
}

static void scoped_ownership(void **state)
{
    (void)state;
    int drops = 0;
    struct thing t = {&drops};
    assert_null(make(&t, false));
    assert_int_equal(drops, 1);
    assert_ptr_equal(make(&t, true), &t);
    assert_int_equal(drops, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_code_and_text),       cmocka_unit_test(wraps_outward),
        cmocka_unit_test(own_text_as_argument),     cmocka_unit_test(system_texts_read_as_in_go),
        cmocka_unit_test(long_texts_are_cut_whole), cmocka_unit_test(names_are_grpc_gos),
        cmocka_unit_test(scoped_ownership),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
