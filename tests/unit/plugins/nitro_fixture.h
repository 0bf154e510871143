/* SPDX-License-Identifier: Apache-2.0
 *
 * An authority of Nitro's shape and a document it signs, for the tests of the document and of the plugin.
 */
#ifndef CS_TESTS_NITRO_FIXTURE_H
#define CS_TESTS_NITRO_FIXTURE_H

#include "base/clock.h"
#include "crypto/cbor.h"
#include "crypto/cose.h"
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

static inline void fixture_reset(struct fixture *f)
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

static inline int fixture_group_setup(void **state)
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

static inline int fixture_group_teardown(void **state)
{
    struct fixture *f = *state;
    nitro_authority_free(&f->authority);
    nitro_authority_free(&f->other);
    free(f);
    return 0;
}

/* Each test begins with the whole chain and the document as made first. */
static inline int fixture_setup(void **state)
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

/* --- Odd payloads --- */

/* The nine fields as whole pairs of key and value, to be taken apart. */
struct fields {
    struct cs_buf at[9];
};
enum { MODULE, DIGEST, TIMESTAMP, PCRS, CERTIFICATE, CABUNDLE, PUBLIC_KEY, USER_DATA, NONCE };

static inline void fields_free(struct fields *x)
{
    for (size_t i = 0; i < 9; i++)
        cs_buf_free(&x->at[i]);
}

/* Cut what the maker wrote at its pairs. */
static inline struct fields fields_of(const struct fixture *f)
{
    struct fields x = {0};
    struct cbor_map m;
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    nitro_make_payload(&f->authority, &f->made, &payload);
    struct cs_rd r = cs_rd_of(cs_buf_slice(&payload));
    assert_true(cbor_map_begin(&r, &m, true));
    for (size_t i = 0; cbor_map_more(&r, &m); i++) {
        const uint8_t *from = r.p;
        assert_true(cbor_skip(&r) && cbor_skip(&r));
        cs_buf_add(&x.at[i], from, (size_t)(r.p - from));
    }
    assert_true(cbor_map_ended(&m));
    return x;
}

static inline void key(struct cs_buf *b, const char *name)
{
    cs_buf_reset(b);
    cbor_put_text(b, name);
}

static inline void put_fields(struct cs_buf *out, const struct fields *x, size_t pairs)
{
    cbor_put_map(out, pairs);
    for (size_t i = 0; i < 9; i++)
        cs_buf_add_slice(out, cs_buf_slice(&x->at[i]));
}

/* A COSE_Sign1 whose signature is nobody's: what is refused before it is looked at. */
static inline void put_unsigned(struct cs_buf *out, struct cs_slice payload)
{
    static const uint8_t header[] = {0xa1, 0x01, 0x38, 0x22}, signature[COSE_ES384_SIGNATURE] = {1};
    cbor_put_array(out, 4);
    cbor_put_bytes(out, cs_slice_of(header, sizeof header));
    cbor_put_map(out, 0);
    cbor_put_bytes(out, payload);
    cbor_put_bytes(out, cs_slice_of(signature, sizeof signature));
}

/* --- Verifying --- */

static inline cs_code verify(const struct fixture *f, const struct cs_buf *doc, struct cs_err *e)
{
    static const struct nitro_document nothing;
    struct nitro_document d;
    assert_true(cs_buf_ok(doc));
    *e = (struct cs_err){0};
    cs_code code = nitro_document_verify(cs_buf_slice(doc), &f->policy, &d, e);
    if (code != CS_OK)
        assert_memory_equal(&d, &nothing, sizeof d);
    return code;
}

static inline void expect(const struct fixture *f, const struct cs_buf *doc, cs_code code, const char *text)
{
    struct cs_err e;
    cs_code got = verify(f, doc, &e);
    if (got != code || (code != CS_OK && strstr(e.text, text) == NULL))
        fail_msg("wanted %s \"%s\", got %s \"%s\"", cs_code_name(code), text, cs_code_name(got), e.text);
}

static inline void expect_payload(const struct fixture *f, struct cs_slice payload, cs_code code,
                                  const char *text)
{
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    assert_int_equal(nitro_make_signed(&f->authority, payload, false, &doc, &e), CS_OK);
    expect(f, &doc, code, text);
}

static inline void expect_fields(const struct fixture *f, const struct fields *x, cs_code code,
                                 const char *text)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0};
    put_fields(&payload, x, 9);
    expect_payload(f, cs_buf_slice(&payload), code, text);
}

/* The document of f->made, signed by whose key signs for it. */
static inline void expect_signed_by(const struct fixture *f, const struct nitro_authority *signer,
                                    cs_code code, const char *text)
{
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0}, doc = {0};
    nitro_make_payload(&f->authority, &f->made, &payload);
    assert_int_equal(nitro_make_signed(signer, cs_buf_slice(&payload), false, &doc, &e), CS_OK);
    expect(f, &doc, code, text);
}

static inline void expect_made(const struct fixture *f, cs_code code, const char *text)
{
    expect_signed_by(f, &f->authority, code, text);
}

#endif
