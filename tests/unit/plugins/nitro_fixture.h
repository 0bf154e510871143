/* SPDX-License-Identifier: Apache-2.0
 *
 * An authority of Nitro's shape and a document it signs, for the tests of the document and of the plugin.
 */
#ifndef CS_TESTS_NITRO_FIXTURE_H
#define CS_TESTS_NITRO_FIXTURE_H

#include "base/clock.h"
#include "plugins/shared/nitro/document.h"
#include "tests/nitro/make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW_S INT64_C(1790000000)
#define NOW_NS (NOW_S * CS_NS_PER_S)
#define MODULE_ID "i-0123456789abcdef0-enc0123456789abcdef"

struct fixture {
    struct nitro_authority authority, other; /* two roots that look alike */
    struct nitro_policy policy;
    struct nitro_make_document made;
    const struct x509_cert *root;
};

static const uint8_t zeros[48], ones[48] = {1, 1, 1}, twos[48] = {2, 2, 2};

static void fixture_reset(struct fixture *f)
{
    f->policy = (struct nitro_policy){
        .roots = &f->root, .root_count = 1, .now_ns = NOW_NS, .max_age_ns = 300 * CS_NS_PER_S};
    f->made = (struct nitro_make_document){
        .module_id = MODULE_ID, .timestamp_ms = NOW_S * 1000, .indefinite = true};
    for (size_t i = 0; i < 16; i++)
        f->made.pcrs[i] = cs_slice_of(zeros, sizeof zeros);
    f->made.pcrs[0] = cs_slice_of(ones, sizeof ones);
    f->made.pcrs[4] = cs_slice_of(twos, sizeof twos);
}

static int fixture_group_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct cs_err e = {0};
    if (f == NULL || nitro_authority_make(&f->authority, NOW_S, &e) != CS_OK ||
        nitro_authority_make(&f->other, NOW_S, &e) != CS_OK) {
        fprintf(stderr, "%s\n", e.text);
        return -1;
    }
    f->root = f->authority.certs[0];
    fixture_reset(f);
    *state = f;
    return 0;
}

static int fixture_group_teardown(void **state)
{
    struct fixture *f = *state;
    nitro_authority_free(&f->authority);
    nitro_authority_free(&f->other);
    free(f);
    return 0;
}

/* Each test begins with the whole chain and the document as made first. */
static int fixture_setup(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    fixture_reset(f);
    for (size_t i = 0; i <= NITRO_MAKE_CAS; i++) {
        const struct nitro_make_cert c = nitro_make_cert_default(i, NOW_S);
        assert_int_equal(nitro_authority_issue(&f->authority, i, &c, &e), CS_OK);
    }
    f->root = f->authority.certs[0];
    return 0;
}

#endif
