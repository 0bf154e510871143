/* SPDX-License-Identifier: Apache-2.0
 *
 * UpstreamAuthority disk: what it signs, what it refuses, and what it does when its files change.
 */
#include "base/file.h"
#include "base/mem.h"
#include "crypto/pem.h"
#include "crypto/x509_csr.h"
#include "crypto/x509_issue.h"
#include "crypto/x509_verify.h"
#include "plugin/upstreamauthority.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_upstreamauthority_disk;

#define NOW INT64_C(1790000000)

struct authority {
    struct crypto_key *key;
    struct crypto_signer *signer;
    struct x509_cert *cert;
};

struct fixture {
    char dir[64], cert[96], key[96], bundle[96], config[400];
    struct cs_fake_clock clock;
    struct plugin_env env;
    struct authority root, other, intermediate;
};

static void must(cs_code rc, const struct cs_err *e)
{
    if (rc != CS_OK)
        fail_msg("%s", e->text);
}

/* Self-signed when issuer is NULL. */
static struct authority make_authority(const char *name, const struct authority *issuer, int64_t days)
{
    struct cs_err e = {0};
    struct authority a = {0};
    must(crypto_key_generate(CRYPTO_EC_P256, &a.key, &e), &e);
    must(crypto_signer_of_key(a.key, &a.signer, &e), &e);
    struct cs_buf subject = {0}, der = {0};
    const struct x509_name n = {.common_name = name};
    x509_name_write(&subject, &n);
    struct x509_serial serial;
    must(x509_serial_new(&serial, &e), &e);
    const struct x509_issue_params p = {
        .spki = crypto_pub_spki(crypto_key_pub(a.key)),
        .subject = cs_buf_slice(&subject),
        .not_before = NOW - 3600,
        .not_after = NOW + days * 86400,
        .serial = &serial,
    };
    if (issuer == NULL) {
        must(x509_issue_self_signed(a.signer, &p, &der, &e), &e);
    } else {
        struct x509_issuer *i = NULL;
        must(x509_issuer_new(issuer->cert, issuer->signer, &i, &e), &e);
        must(x509_issue_ca(i, &p, &der, NULL, &e), &e);
        x509_issuer_unref(i);
    }
    must(x509_cert_parse(cs_buf_slice(&der), &a.cert, &e), &e);
    cs_buf_free(&subject);
    cs_buf_free(&der);
    return a;
}

static void free_authority(struct authority *a)
{
    x509_cert_unref(a->cert);
    crypto_signer_unref(a->signer);
    crypto_key_unref(a->key);
}

static void write_cert(const char *path, const struct authority *a)
{
    struct cs_buf pem = {0};
    pem_write(&pem, PEM_CERTIFICATE, a->cert->der);
    assert_int_equal(cs_file_write_atomic(path, cs_buf_slice(&pem), 0600, NULL), CS_OK);
    cs_buf_free(&pem);
}

static void write_key(const char *path, const struct authority *a)
{
    struct cs_secret *pem = NULL;
    assert_int_equal(crypto_key_pem(a->key, &pem, NULL), CS_OK);
    assert_int_equal(cs_file_write_atomic(path, cs_slice_of(pem->data, pem->len), 0600, NULL), CS_OK);
    cs_secret_free(pem);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/upstream_disk_test.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->cert, sizeof f->cert, "%s/ca.crt", f->dir);
    snprintf(f->key, sizeof f->key, "%s/ca.key", f->dir);
    snprintf(f->bundle, sizeof f->bundle, "%s/bundle.crt", f->dir);
    cs_fake_clock_init(&f->clock, NOW);
    f->env = (struct plugin_env){.clock = &f->clock.clock, .trust_domain = "example.org", .data_dir = f->dir};
    f->root = make_authority("root", NULL, 10);
    f->other = make_authority("other", NULL, 10);
    f->intermediate = make_authority("intermediate", &f->root, 5);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    free_authority(&f->root);
    free_authority(&f->other);
    free_authority(&f->intermediate);
    unlink(f->cert);
    unlink(f->key);
    unlink(f->bundle);
    rmdir(f->dir);
    free(f);
    return 0;
}

static void use(struct fixture *f, const struct authority *cert, const struct authority *key,
                const struct authority *bundle)
{
    write_cert(f->cert, cert);
    write_key(f->key, key);
    if (bundle != NULL)
        write_cert(f->bundle, bundle);
    snprintf(f->config, sizeof f->config, "cert_file_path = \"%s\"\nkey_file_path = \"%s\"\n", f->cert,
             f->key);
    if (bundle != NULL)
        snprintf(f->config + strlen(f->config), sizeof f->config - strlen(f->config),
                 "bundle_file_path = \"%s\"\n", f->bundle);
}

static cs_code open_plugin(struct fixture *f, void **self, struct cs_err *e)
{
    CS_TRY(plugin_upstreamauthority_disk.create(&f->env, self, e));
    cs_code rc = plugin_upstreamauthority_disk.configure(*self, cs_slice_str(f->config), e);
    if (rc != CS_OK) {
        plugin_upstreamauthority_disk.destroy(*self);
        *self = NULL;
    }
    return rc;
}

static void make_csr(const char *uri, struct cs_buf *out)
{
    struct cs_err e = {0};
    struct crypto_key *key = NULL;
    struct crypto_signer *signer = NULL;
    must(crypto_key_generate(CRYPTO_EC_P256, &key, &e), &e);
    must(crypto_signer_of_key(key, &signer, &e), &e);
    struct cs_buf subject = {0};
    const char *const c[] = {"US"};
    const struct x509_name n = {.country = {c, 1}, .serial_number = "42"};
    x509_name_write(&subject, &n);
    const struct x509_csr_params p = {.subject = cs_buf_slice(&subject), .uri = cs_slice_str(uri)};
    must(x509_csr_write(&p, signer, out, &e), &e);
    cs_buf_free(&subject);
    crypto_signer_unref(signer);
    crypto_key_unref(key);
}

static const struct upstreamauthority_ops *ops(void)
{
    return plugin_upstreamauthority_disk.ops;
}

/* Mints for spiffe://example.org, checks chain and roots, returns the CA certificate. */
static struct x509_cert *mint(void *self, int64_t ttl, size_t chain_count, const struct authority *root)
{
    struct cs_err e = {0};
    struct cs_buf csr = {0};
    make_csr("spiffe://example.org", &csr);
    struct upstreamauthority_result r;
    must(ops()->mint_x509_ca(self, cs_buf_slice(&csr), ttl, &r, &e), &e);
    assert_int_equal(r.chain_count, chain_count);
    assert_int_equal(r.root_count, 1);
    assert_true(cs_slice_eq(cs_buf_slice(&r.roots[0]), root->cert->der));
    assert_false(r.roots_tainted[0]);

    struct x509_chain chain = {0};
    for (size_t i = 0; i < r.chain_count; i++) {
        struct x509_cert *c = NULL;
        must(x509_cert_parse(cs_buf_slice(&r.chain[i]), &c, &e), &e);
        must(x509_chain_add(&chain, c, &e), &e);
        x509_cert_unref(c);
    }
    const struct x509_cert *const roots[] = {root->cert};
    const struct x509_verify_params p = {.roots = roots, .root_count = 1, .now = NOW};
    must(x509_verify(&chain, &p, NULL, NULL, &e), &e);
    struct x509_cert *ca = x509_cert_ref(chain.at[0]);
    x509_chain_free(&chain);
    upstreamauthority_result_free(&r);
    cs_buf_free(&csr);
    return ca;
}

/* --- Tests --- */

static void signs_as_its_own_root(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    void *self = NULL;
    use(f, &f->root, &f->root, NULL);
    must(open_plugin(f, &self, &e), &e);
    struct x509_cert *ca = mint(self, 7200, 1, &f->root);
    assert_int_equal(ca->not_before, NOW - 10);
    assert_int_equal(ca->not_after, NOW + 7200);
    assert_true(ca->ext.is_ca);
    assert_int_equal(ca->ext.key_usage, X509_KU_CERT_SIGN | X509_KU_CRL_SIGN);
    struct cs_slice uri;
    assert_true(x509_san_get(&ca->ext.san, X509_SAN_URI, 0, &uri));
    assert_true(cs_slice_is(uri, "spiffe://example.org"));
    struct cs_buf name = {0};
    must(x509_name_text(&name, ca->subject, &e), &e);
    assert_string_equal(cs_buf_cstr(&name), "SERIALNUMBER=42,C=US");
    cs_buf_free(&name);
    x509_cert_unref(ca);

    ca = mint(self, 0, 1, &f->root);
    assert_int_equal(ca->not_after, NOW + 3600);
    x509_cert_unref(ca);
    ca = mint(self, 365 * 86400, 1, &f->root);
    assert_int_equal(ca->not_after, f->root.cert->not_after);
    x509_cert_unref(ca);
    plugin_upstreamauthority_disk.destroy(self);
}

static void signs_as_an_intermediate(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    void *self = NULL;
    use(f, &f->intermediate, &f->intermediate, &f->root);
    must(open_plugin(f, &self, &e), &e);
    x509_cert_unref(mint(self, 60, 2, &f->root));
    plugin_upstreamauthority_disk.destroy(self);
}

static void follows_its_files(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    void *self = NULL;
    use(f, &f->root, &f->root, NULL);
    must(open_plugin(f, &self, &e), &e);
    x509_cert_unref(mint(self, 60, 1, &f->root));
    use(f, &f->other, &f->other, NULL);
    x509_cert_unref(mint(self, 60, 1, &f->other));
    /* Broken or half-replaced files: the last good ones serve. */
    write_cert(f->cert, &f->root);
    x509_cert_unref(mint(self, 60, 1, &f->other));
    unlink(f->key);
    x509_cert_unref(mint(self, 60, 1, &f->other));
    write_key(f->key, &f->root);
    x509_cert_unref(mint(self, 60, 1, &f->root));
    plugin_upstreamauthority_disk.destroy(self);
}

static void expect_refusal(struct fixture *f, const char *text)
{
    void *self = NULL;
    struct cs_err e = {0};
    assert_int_equal(open_plugin(f, &self, &e), CS_INVALID);
    if (strstr(e.text, text) == NULL)
        fail_msg("%s", e.text);
    assert_null(self);
}

static void refuses_bad_files(void **state)
{
    struct fixture *f = *state;
    snprintf(f->config, sizeof f->config, "cert_file_path = \"x\"");
    expect_refusal(f, "'cert_file_path' and 'key_file_path' must be set and not empty");
    use(f, &f->root, &f->other, NULL);
    expect_refusal(f, "unable to load upstream CA: certificate and private key do not match");
    use(f, &f->intermediate, &f->intermediate, &f->other);
    expect_refusal(f, "certificate cannot be validated with the provided bundle or is not self-signed");
    use(f, &f->root, &f->root, NULL);
    unlink(f->key);
    expect_refusal(f, "unable to load upstream CA key: open ");
    use(f, &f->root, &f->root, NULL);
    unlink(f->cert);
    expect_refusal(f, "unable to load upstream CA cert: open ");
    use(f, &f->root, &f->root, &f->root);
    unlink(f->bundle);
    expect_refusal(f, "unable to load upstream CA bundle: open ");
}

static void refuses_bad_requests(void **state)
{
    static const struct {
        const char *uri, *error;
    } rows[] = {
        {"spiffe://example.org/x", "must use the trust domain ID for trust domain \"example.org\""},
        {"spiffe://other.org", "must use the trust domain ID for trust domain \"example.org\""},
        {"", "CSR must have exactly one URI SAN"},
        {"https://example.org", "CSR with SPIFFE ID \"https://example.org\" is invalid: "},
    };
    struct fixture *f = *state;
    struct cs_err e = {0};
    void *self = NULL;
    struct upstreamauthority_result r;
    use(f, &f->root, &f->root, NULL);
    must(open_plugin(f, &self, &e), &e);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_buf csr = {0};
        make_csr(rows[i].uri, &csr);
        assert_int_equal(ops()->mint_x509_ca(self, cs_buf_slice(&csr), 0, &r, &e), CS_INTERNAL);
        if (strncmp(e.text, "unable to sign CSR: ", 20) != 0 || strstr(e.text, rows[i].error) == NULL)
            fail_msg("%s", e.text);
        assert_null(r.chain);
        cs_buf_free(&csr);
    }
    struct cs_buf csr = {0};
    make_csr("spiffe://example.org", &csr);
    csr.data[csr.len - 3] ^= 1;
    assert_int_equal(ops()->mint_x509_ca(self, cs_buf_slice(&csr), 0, &r, &e), CS_INTERNAL);
    assert_int_equal(ops()->mint_x509_ca(self, cs_slice_str("junk"), 0, &r, &e), CS_INTERNAL);
    cs_buf_free(&csr);
    plugin_upstreamauthority_disk.destroy(self);
}

static void survives_failing_allocations(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    void *self = NULL;
    use(f, &f->intermediate, &f->intermediate, &f->root);
    must(open_plugin(f, &self, &e), &e);
    struct cs_buf csr = {0};
    make_csr("spiffe://example.org", &csr);
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        assert_true(n < 2000);
        struct upstreamauthority_result r;
        (void)cs_mem_fail_at(n, true);
        rc = ops()->mint_x509_ca(self, cs_buf_slice(&csr), 0, &r, NULL);
        (void)cs_mem_fail_at(0, false);
        assert_true(rc == CS_OK || r.chain == NULL);
        upstreamauthority_result_free(&r);
    }
    cs_buf_free(&csr);
    plugin_upstreamauthority_disk.destroy(self);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(signs_as_its_own_root), T(signs_as_an_intermediate), T(follows_its_files),
        T(refuses_bad_files),     T(refuses_bad_requests),     T(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
