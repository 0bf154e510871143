/* SPDX-License-Identifier: Apache-2.0
 *
 * What the CA signs: every field of it, lifetimes at their limits, and what it refuses.
 */
#include "server/ca/ca.h"

#include "base/text.h"
#include "crypto/x509_verify.h"
#include "server/ca/authority.h"
#include "spiffe/x509svid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW INT64_C(1790000000)

struct fixture {
    struct cs_fake_clock clock;
    struct ca *ca;
    struct cs_arena *arena;
    struct crypto_key *key; /* of the subject */
    struct crypto_signer *ca_signer, *jwt_signer;
    struct x509_cert *ca_cert;
};

static void must(cs_code rc, const struct cs_err *e)
{
    if (rc != CS_OK)
        fail_msg("%s", e->text);
}

static struct crypto_signer *make_signer(enum crypto_key_type type)
{
    struct cs_err e = {0};
    struct crypto_key *key = NULL;
    struct crypto_signer *signer = NULL;
    must(crypto_key_generate(type, &key, &e), &e);
    must(crypto_signer_of_key(key, &signer, &e), &e);
    crypto_key_unref(key);
    return signer;
}

/* Makes a self-signed CA certificate the active one. */
static void activate_x509(struct fixture *f, const struct x509_chain *chain)
{
    struct cs_err e = {0};
    struct cs_buf der = {0};
    struct ca_x509_authority *a = NULL;
    must(ca_self_sign(f->ca, f->ca_signer, &der, &e), &e);
    x509_cert_unref(f->ca_cert);
    must(x509_cert_parse(cs_buf_slice(&der), &f->ca_cert, &e), &e);
    must(ca_x509_authority_new(f->ca_cert, f->ca_signer, chain, &a, &e), &e);
    ca_set_x509(f->ca, a);
    ca_x509_authority_unref(a);
    cs_buf_free(&der);
}

static void activate_jwt(struct fixture *f, int64_t not_after)
{
    struct cs_err e = {0};
    struct ca_jwt_authority *a = NULL;
    must(ca_jwt_authority_new(f->jwt_signer, "kid1", not_after, &a, &e), &e);
    ca_set_jwt(f->ca, a);
    ca_jwt_authority_unref(a);
}

static int setup(void **state)
{
    struct cs_err e = {0};
    struct fixture *f = calloc(1, sizeof *f);
    cs_fake_clock_init(&f->clock, NOW);
    const struct ca_config cfg = {
        .trust_domain = "example.org",
        .clock = &f->clock.clock,
        .agent_ttl_s = 1800,
        .jwt_issuer = "https://issuer",
    };
    must(ca_new(&cfg, &f->ca, &e), &e);
    f->arena = cs_arena_new(0, 0);
    must(crypto_key_generate(CRYPTO_EC_P256, &f->key, &e), &e);
    f->ca_signer = make_signer(CRYPTO_EC_P256);
    f->jwt_signer = make_signer(CRYPTO_EC_P256);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ca_free(f->ca);
    cs_arena_free(f->arena);
    crypto_key_unref(f->key);
    crypto_signer_unref(f->ca_signer);
    crypto_signer_unref(f->jwt_signer);
    x509_cert_unref(f->ca_cert);
    free(f);
    return 0;
}

static struct cs_slice spki(const struct fixture *f)
{
    return crypto_pub_spki(crypto_key_pub(f->key));
}

/* The leaf, checked against the active CA. */
static struct x509_cert *leaf_of(struct fixture *f, const struct ca_x509 *out)
{
    struct cs_err e = {0};
    struct x509_cert *leaf = NULL;
    must(x509_cert_parse(out->chain[0], &leaf, &e), &e);
    must(x509_cert_check_signature(leaf, f->ca_cert, &e), &e);
    assert_true(cs_slice_eq(leaf->issuer, f->ca_cert->subject));
    assert_true(cs_slice_eq(leaf->ext.aki, f->ca_cert->ext.ski));
    assert_true(cs_slice_eq(leaf->spki, spki(f)));
    assert_int_equal(leaf->not_before, out->not_before);
    assert_int_equal(leaf->not_after, out->not_after);
    struct cs_buf serial = {0};
    x509_cert_serial_dec(&serial, leaf);
    assert_string_equal(cs_buf_cstr(&serial), out->serial);
    cs_buf_free(&serial);
    return leaf;
}

static void assert_subject(const struct x509_cert *cert, const char *text)
{
    struct cs_buf b = {0};
    assert_int_equal(x509_name_text(&b, cert->subject, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&b), text);
    cs_buf_free(&b);
}

static void assert_uri(const struct x509_cert *cert, const char *uri)
{
    struct cs_slice got;
    assert_int_equal(cert->ext.san.uris, 1);
    assert_true(x509_san_get(&cert->ext.san, X509_SAN_URI, 0, &got));
    assert_true(cs_slice_is(got, uri));
}

/* --- Tests --- */

static void signs_nothing_before_activation(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    struct ca_jwt jwt;
    const char *const aud[] = {"a"};
    const struct ca_jwt_params p = {
        .spiffe_id = "spiffe://example.org/w", .audience = aud, .audience_count = 1};
    assert_int_equal(ca_sign_agent(f->ca, f->arena, "spiffe://example.org/a", spki(f), &out, &e),
                     CS_INTERNAL);
    assert_string_equal(e.text, "X509 CA is not available for signing");
    assert_int_equal(ca_sign_downstream(f->ca, f->arena, spki(f), 0, &out, &e), CS_INTERNAL);
    assert_int_equal(ca_sign_jwt(f->ca, f->arena, &p, &jwt, &e), CS_INTERNAL);
    assert_string_equal(e.text, "JWT key is not available for signing");
    assert_int_equal(ca_health(f->ca, &e), CS_INTERNAL);
}

static void its_own_certificate_is_spires(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    activate_x509(f, &(struct x509_chain){0});
    const struct x509_cert *c = f->ca_cert;
    assert_int_equal(c->not_before, NOW - 10);
    assert_int_equal(c->not_after, NOW + 86400);
    assert_int_equal(c->ext.key_usage, X509_KU_CERT_SIGN | X509_KU_CRL_SIGN);
    assert_true(c->ext.is_ca);
    assert_int_equal(c->ext.path_len, -1);
    assert_int_equal(c->ext.aki.len, 0);
    assert_uri(c, "spiffe://example.org");
    uint8_t ski[20];
    must(crypto_key_id(c->spki, ski, &e), &e);
    assert_true(cs_slice_eq(c->ext.ski, cs_slice_of(ski, sizeof ski)));
    struct cs_buf serial = {0}, subject = {0};
    x509_cert_serial_dec(&serial, c);
    cs_buf_printf(&subject, "SERIALNUMBER=%s,O=SPIFFE,C=US", cs_buf_cstr(&serial));
    assert_subject(c, cs_buf_cstr(&subject));
    cs_buf_free(&serial);
    cs_buf_free(&subject);
    must(spiffe_x509ca_check_issued(c, cs_slice_str("example.org"), NOW, &e), &e);
    must(ca_health(f->ca, &e), &e);
}

static void signs_agents_servers_and_workloads(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    activate_x509(f, &(struct x509_chain){0});

    must(ca_sign_agent(f->ca, f->arena, "spiffe://example.org/spire/agent/a", spki(f), &out, &e), &e);
    struct x509_cert *leaf = leaf_of(f, &out);
    assert_int_equal(out.count, 1);
    assert_int_equal(leaf->not_before, NOW - 10);
    assert_int_equal(leaf->not_after, NOW + 1800);
    assert_subject(leaf, "O=SPIRE,C=US");
    assert_uri(leaf, "spiffe://example.org/spire/agent/a");
    assert_int_equal(leaf->ext.key_usage,
                     X509_KU_DIGITAL_SIGNATURE | X509_KU_KEY_ENCIPHERMENT | X509_KU_KEY_AGREEMENT);
    assert_int_equal(leaf->ext.eku, X509_EKU_SERVER_AUTH | X509_EKU_CLIENT_AUTH);
    assert_false(leaf->ext.is_ca);
    assert_true(leaf->ext.has_basic_constraints);
    x509_cert_unref(leaf);

    must(ca_sign_server(f->ca, f->arena, spki(f), &out, &e), &e);
    leaf = leaf_of(f, &out);
    assert_uri(leaf, "spiffe://example.org/spire/server");
    assert_int_equal(leaf->not_after, NOW + 3600);
    x509_cert_unref(leaf);

    const char *const dns[] = {"a.example", "b.example"};
    struct ca_workload_params p = {.spiffe_id = "spiffe://example.org/w", .spki = spki(f), .ttl_s = 60};
    must(ca_sign_workload(f->ca, f->arena, &p, &out, &e), &e);
    leaf = leaf_of(f, &out);
    assert_int_equal(leaf->not_after, NOW + 60);
    assert_subject(leaf, "O=SPIRE,C=US");
    assert_int_equal(leaf->ext.san.dns, 0);
    x509_cert_unref(leaf);

    p.dns_names = dns;
    p.dns_name_count = 2;
    p.ttl_s = 0;
    must(ca_sign_workload(f->ca, f->arena, &p, &out, &e), &e);
    leaf = leaf_of(f, &out);
    assert_int_equal(leaf->not_after, NOW + 3600);
    assert_subject(leaf, "CN=a.example,O=SPIRE,C=US");
    assert_int_equal(leaf->ext.san.dns, 2);
    x509_cert_unref(leaf);
}

static void takes_a_subject_but_keeps_the_dns_name(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    activate_x509(f, &(struct x509_chain){0});
    const char *const org[] = {"ACME"}, *const dns[] = {"a.example"};
    const struct x509_name name = {.organization = {org, 1}, .common_name = "cn"};
    struct cs_buf subject = {0}, empty = {0};
    x509_name_write(&subject, &name);
    x509_name_write(&empty, &(struct x509_name){0});
    struct ca_workload_params p = {
        .spiffe_id = "spiffe://example.org/w", .spki = spki(f), .subject = cs_buf_slice(&subject)};
    must(ca_sign_workload(f->ca, f->arena, &p, &out, &e), &e);
    struct x509_cert *leaf = leaf_of(f, &out);
    assert_subject(leaf, "CN=cn,O=ACME");
    x509_cert_unref(leaf);
    p.dns_names = dns;
    p.dns_name_count = 1;
    must(ca_sign_workload(f->ca, f->arena, &p, &out, &e), &e);
    leaf = leaf_of(f, &out);
    assert_subject(leaf, "CN=a.example,O=ACME");
    x509_cert_unref(leaf);
    p.dns_name_count = 0;
    p.subject = cs_buf_slice(&empty);
    must(ca_sign_workload(f->ca, f->arena, &p, &out, &e), &e);
    leaf = leaf_of(f, &out);
    assert_subject(leaf, "O=SPIRE,C=US");
    x509_cert_unref(leaf);
    cs_buf_free(&subject);
    cs_buf_free(&empty);
}

static void never_outlives_the_ca(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    activate_x509(f, &(struct x509_chain){0});
    struct ca_workload_params p = {
        .spiffe_id = "spiffe://example.org/w", .spki = spki(f), .ttl_s = INT64_MAX};
    must(ca_sign_workload(f->ca, f->arena, &p, &out, &e), &e);
    assert_int_equal(out.not_after, f->ca_cert->not_after);
    must(ca_sign_downstream(f->ca, f->arena, spki(f), 30 * 86400, &out, &e), &e);
    assert_int_equal(out.not_after, f->ca_cert->not_after);

    cs_fake_clock_advance(&f->clock, 86400 * CS_NS_PER_S);
    must(ca_sign_workload(f->ca, f->arena, &p, &out, &e), &e);
    cs_fake_clock_advance(&f->clock, CS_NS_PER_S);
    assert_int_equal(ca_sign_workload(f->ca, f->arena, &p, &out, &e), CS_INTERNAL);
    assert_non_null(
        strstr(e.text, "invalid workload X509-SVID: invalid X509-SVID: already expired as of 20"));
    assert_null(out.chain);
    assert_int_equal(ca_sign_downstream(f->ca, f->arena, spki(f), 0, &out, &e), CS_INTERNAL);
    assert_int_equal(ca_health(f->ca, &e), CS_INTERNAL);
}

static void sends_the_upstream_chain_along(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    activate_x509(f, &(struct x509_chain){0});
    struct x509_chain chain = {0};
    must(x509_chain_add(&chain, f->ca_cert, &e), &e);
    must(x509_chain_add(&chain, f->ca_cert, &e), &e);
    struct ca_x509_authority *a = NULL;
    must(ca_x509_authority_new(f->ca_cert, f->ca_signer, &chain, &a, &e), &e);
    ca_set_x509(f->ca, a);
    ca_x509_authority_unref(a);
    x509_chain_free(&chain);

    must(ca_sign_downstream(f->ca, f->arena, spki(f), 100, &out, &e), &e);
    assert_int_equal(out.count, 3);
    assert_true(cs_slice_eq(out.chain[1], f->ca_cert->der));
    struct x509_cert *ca = leaf_of(f, &out);
    assert_true(ca->ext.is_ca);
    assert_uri(ca, "spiffe://example.org");
    assert_int_equal(ca->not_after, NOW + 100);
    struct cs_buf text = {0};
    must(x509_name_text(&text, ca->subject, &e), &e);
    assert_non_null(strstr(cs_buf_cstr(&text), "OU=DOWNSTREAM-2"));
    assert_non_null(strstr(cs_buf_cstr(&text), "SERIALNUMBER="));
    cs_buf_free(&text);
    x509_cert_unref(ca);
}

static void refuses_foreign_ids(void **state)
{
    static const struct {
        const char *id, *x509, *jwt;
    } rows[] = {
        {"", "invalid X509-SVID ID: cannot be empty", "invalid JWT-SVID ID: cannot be empty"},
        {"spiffe://other.org/x",
         "invalid X509-SVID ID: \"spiffe://other.org/x\" is not a member of trust domain "
         "\"example.org\"",
         "invalid JWT-SVID ID: \"spiffe://other.org/x\" is not a member of trust domain \"example.org\""},
        {"spiffe://example.org",
         "invalid X509-SVID ID: \"spiffe://example.org\" is not a member of trust domain \"example.org\"; "
         "path is "
         "empty",
         "invalid JWT-SVID ID: \"spiffe://example.org\" is not a member of trust domain \"example.org\"; "
         "path is "
         "empty"},
    };
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    struct ca_jwt jwt;
    const char *const aud[] = {"a"};
    activate_x509(f, &(struct x509_chain){0});
    activate_jwt(f, NOW + 100);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(ca_sign_agent(f->ca, f->arena, rows[i].id, spki(f), &out, &e), CS_INTERNAL);
        assert_string_equal(e.text, rows[i].x509);
        const struct ca_jwt_params p = {.spiffe_id = rows[i].id, .audience = aud, .audience_count = 1};
        assert_int_equal(ca_sign_jwt(f->ca, f->arena, &p, &jwt, &e), CS_INTERNAL);
        assert_string_equal(e.text, rows[i].jwt);
    }
}

static void signs_tokens(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_jwt jwt;
    const char *const aud[] = {"", "a\"<b", "c"};
    struct ca_jwt_params p = {
        .spiffe_id = "spiffe://example.org/w", .audience = aud, .audience_count = 3, .ttl_s = 60};
    activate_jwt(f, NOW + 100);
    must(ca_sign_jwt(f->ca, f->arena, &p, &jwt, &e), &e);
    assert_int_equal(jwt.issued_at, NOW);
    assert_int_equal(jwt.expires_at, NOW + 60);
    struct jose_jws jws;
    must(jose_parse(cs_slice_str(jwt.token), &jws, &e), &e);
    must(jose_verify(&jws, crypto_signer_pub(f->jwt_signer), &e), &e);
    assert_string_equal(jws.kid, "kid1");
    assert_string_equal(jws.typ, "JWT");
    assert_int_equal(jws.alg, JOSE_ES256);
    assert_string_equal(
        (const char *)jws.payload.data,
        "{\"aud\":[\"a\\\"\\u003cb\",\"c\"],\"exp\":1790000060,\"iat\":1790000000,\"iss\":\"https://"
        "issuer\",\"sub\":\"spiffe://example.org/w\"}");
    jose_jws_free(&jws);

    p.include_jti = true;
    p.ttl_s = 0;
    must(ca_sign_jwt(f->ca, f->arena, &p, &jwt, &e), &e);
    assert_int_equal(jwt.expires_at, NOW + 100);
    must(jose_parse(cs_slice_str(jwt.token), &jws, &e), &e);
    const char *jti = strstr((const char *)jws.payload.data, "\"jti\":\"");
    assert_non_null(jti);
    assert_int_equal(strchr(jti + 7, '"') - (jti + 7), 22);
    jose_jws_free(&jws);

    p.audience_count = 1;
    assert_int_equal(ca_sign_jwt(f->ca, f->arena, &p, &jwt, &e), CS_INTERNAL);
    assert_string_equal(e.text, "invalid JWT-SVID audience: cannot be empty");
    p.audience_count = 2;
    cs_fake_clock_advance(&f->clock, 100 * CS_NS_PER_S);
    assert_int_equal(ca_sign_jwt(f->ca, f->arena, &p, &jwt, &e), CS_INTERNAL);
    assert_non_null(strstr(e.text, "invalid JWT-SVID \"exp\" claim: already expired as of "));
}

static void signs_with_every_key_type(void **state)
{
    static const struct {
        enum crypto_key_type type;
        enum jose_alg alg;
    } rows[] = {{CRYPTO_EC_P384, JOSE_ES384}, {CRYPTO_RSA_2048, JOSE_RS256}};
    struct fixture *f = *state;
    struct cs_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        crypto_signer_unref(f->ca_signer);
        crypto_signer_unref(f->jwt_signer);
        f->ca_signer = make_signer(rows[i].type);
        f->jwt_signer = crypto_signer_ref(f->ca_signer);
        activate_x509(f, &(struct x509_chain){0});
        activate_jwt(f, NOW + 100);
        struct ca_x509 out;
        must(ca_sign_server(f->ca, f->arena, spki(f), &out, &e), &e);
        x509_cert_unref(leaf_of(f, &out));
        struct ca_jwt jwt;
        const char *const aud[] = {"a"};
        const struct ca_jwt_params p = {
            .spiffe_id = "spiffe://example.org/w", .audience = aud, .audience_count = 1};
        must(ca_sign_jwt(f->ca, f->arena, &p, &jwt, &e), &e);
        struct jose_jws jws;
        must(jose_parse(cs_slice_str(jwt.token), &jws, &e), &e);
        assert_int_equal(jws.alg, rows[i].alg);
        must(jose_verify(&jws, crypto_signer_pub(f->jwt_signer), &e), &e);
        jose_jws_free(&jws);
    }
}

/* Whichever allocation fails on the issuing path: an error, nothing half-filled. */
static void survives_failing_allocations(void **state)
{
    struct fixture *f = *state;
    activate_x509(f, &(struct x509_chain){0});
    activate_jwt(f, NOW + 100);
    const char *const dns[] = {"a.example"}, *const aud[] = {"a"};
    const struct ca_workload_params w = {
        .spiffe_id = "spiffe://example.org/w", .spki = spki(f), .dns_names = dns, .dns_name_count = 1};
    const struct ca_jwt_params j = {
        .spiffe_id = "spiffe://example.org/w", .audience = aud, .audience_count = 1, .include_jti = true};
    cs_code rc = CS_INTERNAL, jrc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK || jrc != CS_OK; n++) {
        assert_true(n < 500);
        struct cs_arena *a = cs_arena_new(64, 0);
        struct ca_x509 out;
        struct ca_jwt jwt;
        (void)cs_mem_fail_at(n, true);
        rc = ca_sign_workload(f->ca, a, &w, &out, NULL);
        (void)cs_mem_fail_at(n, true);
        jrc = ca_sign_jwt(f->ca, a, &j, &jwt, NULL);
        (void)cs_mem_fail_at(0, false);
        assert_true((rc == CS_OK) == (out.chain != NULL));
        assert_true((jrc == CS_OK) == (jwt.token != NULL));
        cs_arena_free(a);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(signs_nothing_before_activation),
        T(its_own_certificate_is_spires),
        T(signs_agents_servers_and_workloads),
        T(takes_a_subject_but_keeps_the_dns_name),
        T(never_outlives_the_ca),
        T(sends_the_upstream_chain_along),
        T(refuses_foreign_ids),
        T(signs_tokens),
        T(signs_with_every_key_type),
        T(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
