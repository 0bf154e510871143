/* SPDX-License-Identifier: Apache-2.0
 *
 * Attestation documents of Nitro Enclaves: what the maker of tests writes verifies, and nothing that breaks
 * a rule does.
 */
#include "plugins/shared/nitro/document.h"
#include "tests/nitro/make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW_S INT64_C(1790000000)

struct fixture {
    struct nitro_authority authority;
    struct nitro_policy policy;
    struct nitro_make_document made;
    const struct x509_cert *root;
};

static const uint8_t zeros[48], ones[48] = {1, 1, 1}, twos[48] = {2, 2, 2};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct cs_err e;
    assert_int_equal(nitro_authority_make(&f->authority, NOW_S, &e), CS_OK);
    f->root = f->authority.certs[0];
    f->policy = (struct nitro_policy){.roots = &f->root,
                                      .root_count = 1,
                                      .now_ns = NOW_S * 1000000000,
                                      .max_age_ns = INT64_C(300) * 1000000000};
    f->made = (struct nitro_make_document){.module_id = "i-0123456789abcdef0-enc0123456789abcdef",
                                           .timestamp_ms = NOW_S * 1000,
                                           .indefinite = true};
    for (size_t i = 0; i < 16; i++)
        f->made.pcrs[i] = cs_slice_of(zeros, sizeof zeros);
    f->made.pcrs[0] = cs_slice_of(ones, sizeof ones);
    f->made.pcrs[4] = cs_slice_of(twos, sizeof twos);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    nitro_authority_free(&f->authority);
    free(f);
    return 0;
}

static void test_every_form_of_a_good_document_verifies(void **state)
{
    struct fixture *f = *state;
    for (int form = 0; form < 4; form++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
        struct nitro_document d;
        struct cs_err e = {0};
        f->made.indefinite = (form & 1) != 0;
        f->made.tagged = (form & 2) != 0;
        f->made.nonce = form == 3 ? cs_slice_str("nonce") : (struct cs_slice){0};
        assert_int_equal(nitro_make_document(&f->authority, &f->made, &doc, &e), CS_OK);
        assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &f->policy, &d, &e), CS_OK);
        assert_true(cs_slice_is(d.module_id, f->made.module_id));
        assert_true(d.timestamp_ms == f->made.timestamp_ms);
        assert_true(cs_slice_eq(d.pcrs[0], f->made.pcrs[0]));
        assert_true(cs_slice_eq(d.pcrs[4], f->made.pcrs[4]));
        assert_true(d.pcrs[16].len == 0);
        assert_true(cs_slice_eq(d.nonce, f->made.nonce));
        assert_true(d.user_data.len == 0 && d.public_key.len == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_form_of_a_good_document_verifies, setup, teardown),
    };
    return cmocka_run_group_tests_name("nitro_document", tests, NULL, NULL);
}
