/* SPDX-License-Identifier: Apache-2.0
 *
 * Documents that hypervisors of AWS signed, each at its own time, against AWS's root as it is compiled in.
 * They are not part of this repository: CSPIRE_NITRO_DATA names their folder, else ../shared/data/nitro
 * beside the repository; without it nothing here can run, and says so.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "plugins/shared/nitro/document.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct real {
    const char *file;
    int64_t made_ms;
    int64_t last_s; /* until when each certificate is valid */
    bool debug;
    const char *instance, *pcr0; /* beginning of it in hex */
    size_t public_key, user_data, nonce;
};
static const struct real reals[] = {
    {"doc-2022-10-12-us-east-1-debug.cbor", 1665582606081, 1665593394, true, "i-03ad7cdb817437eeb",
     "00000000", 19, 13, 0},
    {"doc-2022-10-13-us-east-1-signed-eif.cbor", 1665651482136, 1665662282, false, "", "", 0, 0, 256},
    {"doc-2022-11-09-eu-west-1.cbor", 1668034320696, 1668045120, false, "", "", 0, 32, 32},
    {"doc-2023-09-18-us-east-1-debug-spki-userdata.cbor", 1695049410860, 1695058632, true, "", "00000000", 0,
     91, 0},
    {"doc-2024-02-26-ap-south-1.cbor", 1708930921439, 1708941576, false, "", "", 32, 0, 0},
    {"doc-2024-04-10-ap-south-1.cbor", 1712732941701, 1712743741, false, "", "", 32, 0, 0},
    {"doc-2026-01-03-us-east-1-indefinite-map.cbor", 1767472867402, 1767483628, false, "i-0368fa67e156d6d23",
     "4b8d4cf2", 0, 20, 0},
};
#define REALS (sizeof reals / sizeof reals[0])

static const char *folder(void)
{
    static char path[4096];
    const char *named = getenv("CSPIRE_NITRO_DATA"), *beside = getenv("CSPIRE_TESTDATA");
    if (named != NULL)
        return named;
    (void)snprintf(path, sizeof path, "%s/../../../shared/data/nitro", beside != NULL ? beside : ".");
    return path;
}

static void read_real(const char *name, struct cs_buf *out)
{
    char path[4200];
    struct cs_err e;
    (void)snprintf(path, sizeof path, "%s/%s", folder(), name);
    if (getenv("CSPIRE_NITRO_DATA") == NULL && access(folder(), R_OK) != 0)
        skip();
    if (cs_file_read(path, 1 << 20, out, &e) != CS_OK)
        fail_msg("%s", e.text);
}

struct roots {
    struct x509_chain chain;
};

static int setup(void **state)
{
    struct roots *r = calloc(1, sizeof *r);
    struct cs_err e;
    *state = r;
    return x509_chain_parse_pem(cs_slice_str(nitro_root_g1_pem), 1, &r->chain, &e) == CS_OK ? 0 : -1;
}

static int teardown(void **state)
{
    struct roots *r = *state;
    x509_chain_free(&r->chain);
    free(r);
    return 0;
}

static struct nitro_policy policy_at(const struct roots *r, int64_t now_ns)
{
    return (struct nitro_policy){.roots = (const struct x509_cert *const *)r->chain.at,
                                 .root_count = 1,
                                 .now_ns = now_ns,
                                 .max_age_ns = 300 * CS_NS_PER_S,
                                 .allow_debug = true};
}

/* What AWS publishes beside the root, see root.c. */
static void the_root_is_awss(void **state)
{
    const struct roots *r = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    cs_hex_encode(&hex, cs_slice_of(r->chain.at[0]->sha256, 32));
    assert_string_equal(cs_buf_cstr(&hex),
                        "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b");
    assert_true(nitro_root_fits(r->chain.at[0]));
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_CLEANUP(x509_chain_free) struct x509_chain other = {0};
    struct cs_err e;
    read_real("aws-nitro-root-g1.pem", &pem);
    assert_int_equal(x509_chain_parse_pem(cs_buf_slice(&pem), 1, &other, &e), CS_OK);
    assert_true(x509_chain_equal(&other, &r->chain));
}

static void check_claims(const struct real *x, const struct nitro_document *d)
{
    struct cs_slice instance, enclave;
    CS_CLEANUP(cs_buf_free) struct cs_buf hex = {0};
    cs_hex_encode(&hex, d->pcrs[0]);
    assert_true(d->timestamp_ms == x->made_ms);
    assert_int_equal(hex.len, 96);
    assert_memory_equal(cs_buf_cstr(&hex), x->pcr0, strlen(x->pcr0));
    assert_int_equal(nitro_pcr_is_zero(d->pcrs[0]), x->debug);
    assert_true(nitro_module_id_split(d->module_id, &instance, &enclave));
    assert_true(x->instance[0] == '\0' || cs_slice_is(instance, x->instance));
    assert_int_equal(d->public_key.len, x->public_key);
    if (x->nonce > 0)
        assert_int_equal(d->nonce.len, x->nonce);
    if (x->user_data > 0)
        assert_int_equal(d->user_data.len, x->user_data);
}

static void each_verifies_at_its_own_time(void **state)
{
    const struct roots *r = *state;
    for (size_t i = 0; i < REALS; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
        struct nitro_document d;
        struct cs_err e = {0};
        read_real(reals[i].file, &doc);
        const struct nitro_policy p = policy_at(r, (reals[i].made_ms + 1000) * CS_NS_PER_MS);
        if (nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e) != CS_OK)
            fail_msg("%s: %s", reals[i].file, e.text);
        check_claims(&reals[i], &d);
    }
}

static void each_is_refused_at_other_times(void **state)
{
    const struct roots *r = *state;
    for (size_t i = 0; i < REALS; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
        struct nitro_document d;
        struct cs_err e = {0};
        read_real(reals[i].file, &doc);
        struct nitro_policy p = policy_at(r, cs_now_ns(&cs_clock_system));
        assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e), CS_DENIED);
        assert_string_equal(e.text, "document is older than max_age");
        p.max_age_ns = INT64_MAX; /* now it is for the certificates to say */
        assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e), CS_DENIED);
        assert_non_null(strstr(e.text, "has expired or is not yet valid"));
        p.now_ns = reals[i].last_s * CS_NS_PER_S;
        assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e), CS_OK);
        p.now_ns += CS_NS_PER_S;
        assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e), CS_DENIED);
        p.now_ns = reals[i].made_ms * CS_NS_PER_MS - 61 * CS_NS_PER_S;
        assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e), CS_DENIED);
        assert_string_equal(e.text, "timestamp is in the future");
    }
}

static void enclaves_in_debug_mode_are_known(void **state)
{
    const struct roots *r = *state;
    for (size_t i = 0; i < REALS; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
        struct nitro_document d;
        struct cs_err e = {0};
        read_real(reals[i].file, &doc);
        struct nitro_policy p = policy_at(r, reals[i].made_ms * CS_NS_PER_MS);
        p.allow_debug = false;
        assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e),
                         reals[i].debug ? CS_DENIED : CS_OK);
        if (reals[i].debug)
            assert_string_equal(e.text, "PCR0 is zero: the enclave is in debug mode");
    }
}

static void the_damaged_one_is_refused(void **state)
{
    const struct roots *r = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    struct nitro_document d;
    struct cs_err e = {0};
    read_real("doc-2022-11-09-eu-west-1-badsig.cbor", &doc);
    const struct nitro_policy p = policy_at(r, INT64_C(1668034320696) * CS_NS_PER_MS);
    assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e), CS_DENIED);
    assert_string_equal(e.text, "COSE_Sign1: signature is wrong");
}

/* One bit anywhere, of a document that was good. */
static void each_flipped_bit_is_noticed(void **state)
{
    const struct roots *r = *state;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    struct nitro_document d;
    struct cs_err e = {0};
    struct nitro_policy p = policy_at(r, INT64_C(1767472867402) * CS_NS_PER_MS);
    read_real(reals[REALS - 1].file, &doc);
    p.chains = nitro_memory_new(64);
    assert_non_null(p.chains);
    for (size_t i = 0; i < doc.len; i += 3) {
        doc.data[i] ^= (uint8_t)(1 << i % 8);
        if (nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e) == CS_OK)
            fail_msg("byte %zu may be another", i);
        doc.data[i] ^= (uint8_t)(1 << i % 8);
    }
    assert_int_equal(nitro_document_verify(cs_buf_slice(&doc), &p, &d, &e), CS_OK);
    nitro_memory_free(p.chains);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_root_is_awss),
        cmocka_unit_test(each_verifies_at_its_own_time),
        cmocka_unit_test(each_is_refused_at_other_times),
        cmocka_unit_test(enclaves_in_debug_mode_are_known),
        cmocka_unit_test(the_damaged_one_is_refused),
        cmocka_unit_test(each_flipped_bit_is_noticed),
    };
    return cmocka_run_group_tests_name("nitro_real", tests, setup, teardown);
}
