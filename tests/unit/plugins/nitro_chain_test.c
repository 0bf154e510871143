/* SPDX-License-Identifier: Apache-2.0
 *
 * The certificates of attestation documents: every link that breaks a rule is refused, what is remembered of
 * links changes nothing, and the worst chain costs little.
 */
#include "nitro_fixture.h"

#include <time.h>

struct odd_cert {
    size_t place;
    const char *what;
    const char *text;
};

static struct nitro_make_cert change(const struct odd_cert *o)
{
    struct nitro_make_cert c = nitro_make_cert_default(o->place, NOW_S);
    if (strcmp(o->what, "expired") == 0)
        c.not_after = NOW_S - 1;
    else if (strcmp(o->what, "not yet valid") == 0)
        c.not_before = NOW_S + 1;
    else if (strcmp(o->what, "no CA") == 0)
        c.is_ca = false, c.path_len = -1;
    else if (strcmp(o->what, "a CA") == 0)
        c.is_ca = true, c.key_usage |= X509_KU_CERT_SIGN;
    else if (strcmp(o->what, "path length") == 0)
        c.path_len = 0;
    else if (strcmp(o->what, "no key usage") == 0)
        c.key_usage = 0;
    else if (strcmp(o->what, "may not sign certificates") == 0)
        c.key_usage = X509_KU_DIGITAL_SIGNATURE | X509_KU_CRL_SIGN;
    else if (strcmp(o->what, "may sign certificates") == 0)
        c.key_usage = X509_KU_DIGITAL_SIGNATURE | X509_KU_CERT_SIGN;
    else if (strcmp(o->what, "may not sign") == 0)
        c.key_usage = X509_KU_CONTENT_COMMITMENT;
    else if (strcmp(o->what, "another name") == 0)
        c.name = "somebody.else";
    else
        fail_msg("no such change: %s", o->what);
    return c;
}

static void links_that_break_a_rule_are_refused(void **state)
{
    static const struct odd_cert odd[] = {
        {0, "expired", "cabundle[0]: has expired or is not yet valid"},
        {1, "expired", "cabundle[1]: has expired or is not yet valid"},
        {2, "expired", "cabundle[2]: has expired or is not yet valid"},
        {3, "expired", "cabundle[3]: has expired or is not yet valid"},
        {4, "expired", "certificate: has expired or is not yet valid"},
        {0, "not yet valid", "cabundle[0]: has expired or is not yet valid"},
        {1, "not yet valid", "cabundle[1]: has expired or is not yet valid"},
        {3, "not yet valid", "cabundle[3]: has expired or is not yet valid"},
        {4, "not yet valid", "certificate: has expired or is not yet valid"},
        {0, "no CA", "cabundle[0]: is not a CA"},
        {1, "no CA", "cabundle[1]: is not a CA"},
        {3, "no CA", "cabundle[3]: is not a CA"},
        {0, "path length", "cabundle[0]: path length is exceeded"},
        {1, "path length", "cabundle[1]: path length is exceeded"},
        {2, "path length", "cabundle[2]: path length is exceeded"},
        {0, "no key usage", "cabundle[0]: key usage is not keyCertSign"},
        {2, "may not sign certificates", "cabundle[2]: key usage is not keyCertSign"},
        {3, "may not sign certificates", "cabundle[3]: key usage is not keyCertSign"},
        {4, "a CA", "certificate: is a CA"},
        {4, "path length", "certificate: is a CA"},
        {4, "may sign certificates", "certificate: is a CA"},
        {4, "may not sign", "certificate: key usage is not digitalSignature"},
        {4, "no key usage", "certificate: key usage is not digitalSignature"},
        {2, "another name", "cabundle[3]: was not issued by the one before it"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct cs_err e;
        const struct nitro_make_cert c = change(&odd[i]),
                                     whole = nitro_make_cert_default(odd[i].place, NOW_S);
        assert_int_equal(nitro_authority_issue(&f->authority, odd[i].place, &c, &e), CS_OK);
        f->root = f->authority.certs[0];
        expect_made(f, CS_DENIED, odd[i].text);
        assert_int_equal(nitro_authority_issue(&f->authority, odd[i].place, &whole, &e), CS_OK);
        f->root = f->authority.certs[0];
    }
    expect_made(f, CS_OK, "");
}

/* A hypervisor whose clock is ahead signs with a leaf that begins in what is our future. */
static void certificates_are_judged_at_the_later_time(void **state)
{
    struct fixture *f = *state;
    struct cs_err e;
    struct nitro_make_cert leaf = nitro_make_cert_default(NITRO_MAKE_CAS, NOW_S + 50);
    f->made.timestamp_ms = (NOW_S + 50) * 1000;
    assert_int_equal(nitro_authority_issue(&f->authority, NITRO_MAKE_CAS, &leaf, &e), CS_OK);
    expect_made(f, CS_OK, "");
    f->made.timestamp_ms = (NOW_S + 40) * 1000; /* before its own certificate */
    expect_made(f, CS_DENIED, "certificate: has expired or is not yet valid");
    f->made.timestamp_ms = (NOW_S - 250) * 1000; /* an old timestamp does not bring an old certificate back */
    leaf.not_before = NOW_S - 400;
    leaf.not_after = NOW_S - 1;
    assert_int_equal(nitro_authority_issue(&f->authority, NITRO_MAKE_CAS, &leaf, &e), CS_OK);
    expect_made(f, CS_DENIED, "certificate: has expired or is not yet valid");
}

/* Every kind of key that is not on P-384, at every place; those below are issued anew. */
static void keys_on_other_curves_are_refused(void **state)
{
    static const enum crypto_key_type types[] = {CRYPTO_EC_P256, CRYPTO_EC_P521, CRYPTO_RSA_2048};
    struct fixture *f = *state;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (size_t place = 0; place <= NITRO_MAKE_CAS; place++) {
            struct cs_err e;
            char text[64];
            for (size_t i = 0; i <= NITRO_MAKE_CAS; i++) {
                struct nitro_make_cert c = nitro_make_cert_default(i, NOW_S);
                if (i == place)
                    c.key_type = types[t];
                assert_int_equal(nitro_authority_issue(&f->authority, i, &c, &e), CS_OK);
            }
            f->root = f->authority.certs[0];
            (void)snprintf(text, sizeof text,
                           place == NITRO_MAKE_CAS ? "certificate: the key is not on P-384"
                           : place == 0            ? "cabundle[0]: is not signed with ecdsa-with-SHA384"
                                                   : "cabundle[%d]: the key is not on P-384",
                           (int)place);
            expect_signed_by(f, &f->other, CS_DENIED, text);
        }
    }
}

static void roots_must_be_pinned(void **state)
{
    struct fixture *f = *state;
    const struct x509_cert *other = f->other.certs[0];
    const struct x509_cert *both[] = {other, f->root};
    f->policy.roots = &other; /* of the same name */
    expect_made(f, CS_DENIED, "cabundle[0] is not a root that is trusted here");
    f->policy.roots = both;
    f->policy.root_count = 2;
    expect_made(f, CS_OK, "");
    f->policy.root_count = 0;
    expect_made(f, CS_DENIED, "cabundle[0] is not a root that is trusted here");
}

static void put_bundle(struct fields *x, const struct x509_cert *const *certs, size_t count)
{
    key(&x->at[CABUNDLE], "cabundle");
    cbor_put_array(&x->at[CABUNDLE], count);
    for (size_t i = 0; i < count; i++)
        cbor_put_bytes(&x->at[CABUNDLE], certs[i]->der);
}

static void bundles_in_another_order_are_refused(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    struct x509_cert *const *c = f->authority.certs;
    const struct x509_cert *const swapped[] = {c[0], c[2], c[1], c[3]},
                                  *const reversed[] = {c[3], c[2], c[1], c[0]},
                                  *const rootless[] = {c[1], c[2], c[3]}, *const gap[] = {c[0], c[1], c[3]},
                                  *const doubled[] = {c[0], c[1], c[1], c[2], c[3]},
                                  *const root_twice[] = {c[0], c[0], c[1], c[2], c[3]},
                                  *const foreign[] = {c[0], f->other.certs[1], c[2], c[3]};
    put_bundle(&x, swapped, 4);
    expect_fields(f, &x, CS_DENIED, "cabundle[1]: path length is exceeded");
    put_bundle(&x, reversed, 4);
    expect_fields(f, &x, CS_DENIED, "cabundle[0] is not a root that is trusted here");
    put_bundle(&x, rootless, 3);
    expect_fields(f, &x, CS_DENIED, "cabundle[0] is not a root that is trusted here");
    put_bundle(&x, gap, 3);
    expect_fields(f, &x, CS_DENIED, "cabundle[2]: was not issued by the one before it");
    put_bundle(&x, doubled, 5);
    expect_fields(f, &x, CS_DENIED, "cabundle[1]: path length is exceeded");
    put_bundle(&x, root_twice, 5); /* roots issue themselves */
    expect_fields(f, &x, CS_OK, "");
    put_bundle(&x, foreign, 4); /* the right name, by another root */
    expect_fields(f, &x, CS_DENIED, "cabundle[1]: ");
}

/* The instance's certificate in the leaf's place, with its key: a true chain, and no leaf. */
static void a_ca_cannot_sign_documents(void **state)
{
    struct fixture *f = *state;
    struct cs_err e;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0}, doc = {0};
    CS_AUTO(crypto_signer) signer = NULL;
    const struct x509_cert *const c[] = {f->authority.certs[0], f->authority.certs[1], f->authority.certs[2]};
    put_bundle(&x, c, 3);
    key(&x.at[CERTIFICATE], "certificate");
    cbor_put_bytes(&x.at[CERTIFICATE], f->authority.certs[3]->der);
    put_fields(&payload, &x, 9);
    assert_int_equal(crypto_signer_of_key(f->authority.keys[3], &signer, &e), CS_OK);
    assert_int_equal(cose_sign1_make(signer, cs_buf_slice(&payload), false, &doc, &e), CS_OK);
    expect(f, &doc, CS_DENIED, "certificate: is a CA");
}

static void broken_certificates_are_refused(void **state)
{
    struct fixture *f = *state;
    for (size_t place = 1; place <= NITRO_MAKE_CAS; place++) {
        CS_CLEANUP(fields_free) struct fields x = fields_of(f);
        const struct cs_slice der = f->authority.certs[place]->der;
        struct cs_buf *b = &x.at[place == NITRO_MAKE_CAS ? CERTIFICATE : CABUNDLE];
        uint8_t *at = memmem(b->data, b->len, der.data, der.len);
        assert_non_null(at);
        at[der.len / 2] ^= 1; /* within the key or what is behind it */
        CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0}, doc = {0};
        struct cs_err e;
        put_fields(&payload, &x, 9);
        put_unsigned(&doc, cs_buf_slice(&payload));
        assert_int_not_equal(verify(f, &doc, &e), CS_OK);
        at[der.len / 2] ^= 1;
        at[1] = 0x80; /* length without end */
        cs_buf_reset(&payload);
        cs_buf_reset(&doc);
        put_fields(&payload, &x, 9);
        put_unsigned(&doc, cs_buf_slice(&payload));
        expect(f, &doc, CS_INVALID, "x509: ");
    }
}

/* --- Memory and time --- */

/* What is remembered of a chain saves signatures and nothing else. */
static void remembered_chains_are_still_checked(void **state)
{
    struct fixture *f = *state;
    f->policy.chains = nitro_memory_new(64);
    assert_non_null(f->policy.chains);
    expect_made(f, CS_OK, "");
    expect_made(f, CS_OK, "");
    f->policy.now_ns += 4 * 3600 * CS_NS_PER_S;
    f->made.timestamp_ms += 4 * 3600 * 1000;
    expect_made(f, CS_DENIED, "certificate: has expired or is not yet valid");
    nitro_memory_free(f->policy.chains);
    fixture_reset(f);
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    const struct x509_cert *const foreign[] = {f->authority.certs[0], f->other.certs[1], f->other.certs[2],
                                               f->other.certs[3]};
    struct nitro_memory *chains = nitro_memory_new(64);
    assert_non_null(chains);
    f->policy.chains = chains;
    f->root = f->other.certs[0]; /* the links below the other root become known */
    struct nitro_authority mine = f->authority;
    f->authority = f->other;
    expect_made(f, CS_OK, "");
    f->authority = mine;
    f->root = mine.certs[0];
    put_bundle(&x, foreign, 4);
    expect_fields(f, &x, CS_DENIED, "cabundle[1]: ");
    /* the leaf's serial number: another certificate, whose signature was never seen */
    const struct cs_slice der = mine.certs[4]->der;
    put_bundle(&x, (const struct x509_cert *const *)mine.certs, 4);
    uint8_t *at = memmem(x.at[CERTIFICATE].data, x.at[CERTIFICATE].len, der.data, der.len);
    at[20] ^= 1;
    expect_fields(f, &x, CS_DENIED, "certificate: ");
    nitro_memory_free(chains);
}

static double cpu_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The longest chain that is taken apart, every link good, and the document signed by nobody. */
static void the_worst_document_is_cheap(void **state)
{
    struct fixture *f = *state;
    CS_CLEANUP(fields_free) struct fields x = fields_of(f);
    struct x509_cert *const *c = f->authority.certs;
    const struct x509_cert *const longest[] = {c[0], c[0], c[0], c[0], c[0], c[1], c[2], c[3]};
    CS_CLEANUP(cs_buf_free) struct cs_buf payload = {0}, doc = {0};
    struct cs_err e;
    put_bundle(&x, longest, 8);
    put_fields(&payload, &x, 9);
    put_unsigned(&doc, cs_buf_slice(&payload));
    const double before = cpu_seconds();
    (void)cs_mem_fail_at(0, false);
    assert_int_equal(verify(f, &doc, &e), CS_DENIED);
    const size_t allocations = cs_mem_fail_at(0, false);
    const double took = cpu_seconds() - before;
    assert_true(allocations < 200);
    assert_true(took < 1.0); /* nine signatures: some 12 ms, much more under a sanitizer */
}

#define TEST(t) cmocka_unit_test_setup(t, fixture_setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(links_that_break_a_rule_are_refused),  TEST(certificates_are_judged_at_the_later_time),
        TEST(keys_on_other_curves_are_refused),     TEST(roots_must_be_pinned),
        TEST(bundles_in_another_order_are_refused), TEST(a_ca_cannot_sign_documents),
        TEST(broken_certificates_are_refused),      TEST(remembered_chains_are_still_checked),
        TEST(the_worst_document_is_cheap),
    };
    return cmocka_run_group_tests_name("nitro_chain", tests, fixture_group_setup, fixture_group_teardown);
}
