/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of tests/data, and keys and certificates made on the spot.
 */
#ifndef CS_TESTS_CRYPTO_FIXTURE_H
#define CS_TESTS_CRYPTO_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "crypto/pem.h"
#include "crypto/x509_issue.h"
#include "crypto/x509_name.h"

#define S(lit) cs_slice_of((lit), sizeof(lit) - 1)
#define OK(call)                                                                                             \
    do {                                                                                                     \
        cs_code ok_ = (call);                                                                                \
        if (ok_ != CS_OK)                                                                                    \
            fail_msg("%s: code %d: %s", #call, ok_, e.text);                                                 \
    } while (0)
#define FAILS(call, code_, text_)                                                                            \
    do {                                                                                                     \
        e = (struct cs_err){0};                                                                              \
        assert_int_equal((call), (code_));                                                                   \
        assert_string_equal(e.text, (text_));                                                                \
    } while (0)

static inline void load(const char *name, struct cs_buf *out)
{
    const char *dir = getenv("CSPIRE_TESTDATA");
    char path[512];
    struct cs_err e = {0};
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "tests/data", name);
    OK(cs_file_read(path, 1 << 20, out, &e));
}

/* First PEM block of a file, decoded. */
static inline void load_pem(const char *name, struct cs_buf *der)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    struct pem_block block;
    load(name, &text);
    struct cs_rd r = cs_rd_of(cs_buf_slice(&text));
    assert_true(pem_next(&r, der, &block));
}

static inline struct x509_cert *load_cert(const char *name)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    struct x509_cert *c;
    struct cs_err e = {0};
    load_pem(name, &der);
    OK(x509_cert_parse(cs_buf_slice(&der), &c, &e));
    return c;
}

static inline struct crypto_signer *new_signer(enum crypto_key_type t)
{
    struct crypto_key *k;
    struct crypto_signer *s;
    struct cs_err e = {0};
    OK(crypto_key_generate(t, &k, &e));
    OK(crypto_signer_of_key(k, &s, &e));
    crypto_key_unref(k);
    return s;
}

/* A small authority: issuer NULL makes a root. `name` becomes the common name. */
struct authority {
    struct crypto_signer *signer;
    struct x509_cert *cert;
    struct x509_issuer *issuer;
};

static inline struct authority new_authority(const struct authority *parent, const char *name, int64_t from,
                                             int64_t to, struct cs_slice extra)
{
    struct authority a = {.signer = new_signer(CRYPTO_EC_P256)};
    CS_CLEANUP(cs_buf_free) struct cs_buf subject = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    struct cs_err e = {0};
    const struct x509_name n = {.common_name = name};
    x509_name_write(&subject, &n);
    const struct x509_issue_params p = {
        .spki = crypto_pub_spki(crypto_signer_pub(a.signer)),
        .subject = cs_buf_slice(&subject),
        .uri = S("spiffe://example.org"),
        .not_before = from,
        .not_after = to,
        .extra = extra,
    };
    if (parent == NULL)
        OK(x509_issue_self_signed(a.signer, &p, &der, &e));
    else
        OK(x509_issue_ca(parent->issuer, &p, &der, NULL, &e));
    OK(x509_cert_parse(cs_buf_slice(&der), &a.cert, &e));
    OK(x509_issuer_new(a.cert, a.signer, &a.issuer, &e));
    return a;
}

static inline void free_authority(struct authority *a)
{
    crypto_signer_unref(a->signer);
    x509_cert_unref(a->cert);
    x509_issuer_unref(a->issuer);
}

static inline struct x509_cert *new_leaf(const struct authority *ca, const char *uri, int64_t from,
                                         int64_t to, struct cs_slice extra)
{
    CS_AUTO(crypto_signer) key = new_signer(CRYPTO_EC_P256);
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    struct cs_err e = {0};
    struct x509_cert *c;
    const struct x509_issue_params p = {
        .spki = crypto_pub_spki(crypto_signer_pub(key)),
        .uri = cs_slice_str(uri),
        .not_before = from,
        .not_after = to,
        .extra = extra,
    };
    OK(x509_issue_svid(ca->issuer, &p, &der, NULL, &e));
    OK(x509_cert_parse(cs_buf_slice(&der), &c, &e));
    return c;
}

#endif
