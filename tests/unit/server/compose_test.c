/* SPDX-License-Identifier: Apache-2.0
 *
 * CredentialComposer plugins at the CA: what they are shown, what they may change, and what is refused of it.
 */
#include "base/mem.h"
#include "crypto/x509_csr.h"
#include "plugin/catalog.h"
#include "plugin/credentialcomposer.h"
#include "server/ca/authority.h"
#include "spiffe/x509svid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW INT64_C(1790000000)
#define W "spiffe://example.org/w"

/* --- Composers that do what the test says, and write down what they saw --- */

struct fake {
    cs_code answer;
    const char *unit;   /* added to the subject's organizational units */
    const char *oid;    /* extension added, and with ".9" a policy */
    const char *claims; /* what the claims become */
    void (*also)(struct credentialcomposer_x509 *x);
    unsigned calls;
    const char *last; /* which operation */
    char spiffe_id[128];
    size_t spki_len, dns, units, extensions, policies;
    char seen_claims[512];
};

static const char **grown(struct cs_arena *a, struct credentialcomposer_texts t, const char *more)
{
    const char **list = cs_arena_alloc(a, (t.count + 1) * sizeof *list);
    for (size_t i = 0; i < t.count; i++)
        list[i] = t.at[i];
    list[t.count] = more;
    return list;
}

static void add_to(struct fake *f, struct cs_arena *a, struct credentialcomposer_x509 *x, bool ca)
{
    struct credentialcomposer_texts *units = &x->subject.organizational_unit;
    units->at = grown(a, *units, f->unit);
    units->count++;
    struct credentialcomposer_extension *list = cs_arena_alloc(a, (x->extension_count + 1) * sizeof *list);
    for (size_t i = 0; i < x->extension_count; i++)
        list[i] = x->extensions[i];
    list[x->extension_count++] =
        (struct credentialcomposer_extension){.oid = f->oid, .value = cs_slice_of("\x05\x00", 2)};
    x->extensions = list;
    if (!ca)
        return;
    x->policy_identifiers.at = grown(a, x->policy_identifiers, cs_arena_printf(a, "%s.9", f->oid));
    x->policy_identifiers.count++;
}

static cs_code on_x509(struct fake *f, const char *op, struct cs_arena *a, const char *id,
                       struct cs_slice spki, struct credentialcomposer_x509 *x, struct cs_err *e)
{
    f->calls++;
    f->last = op;
    snprintf(f->spiffe_id, sizeof f->spiffe_id, "%s", id);
    f->spki_len = spki.len;
    f->dns = x->dns_sans.count;
    f->units = x->subject.organizational_unit.count;
    f->extensions = x->extension_count;
    f->policies = x->policy_identifiers.count;
    if (f->answer != CS_OK)
        return cs_fail(e, f->answer, "no way");
    if (f->unit != NULL)
        add_to(f, a, x, strcmp(op, "ca") == 0);
    if (f->also != NULL)
        f->also(x);
    return CS_OK;
}
static cs_code on_ca(void *self, struct cs_arena *a, struct credentialcomposer_x509 *x, struct cs_err *e)
{
    return on_x509(self, "ca", a, "", (struct cs_slice){0}, x, e);
}
static cs_code on_server(void *self, struct cs_arena *a, struct credentialcomposer_x509 *x, struct cs_err *e)
{
    return on_x509(self, "server", a, "", (struct cs_slice){0}, x, e);
}
static cs_code on_agent(void *self, struct cs_arena *a, const char *id, struct cs_slice spki,
                        struct credentialcomposer_x509 *x, struct cs_err *e)
{
    return on_x509(self, "agent", a, id, spki, x, e);
}
static cs_code on_workload(void *self, struct cs_arena *a, const char *id, struct cs_slice spki,
                           struct credentialcomposer_x509 *x, struct cs_err *e)
{
    return on_x509(self, "workload", a, id, spki, x, e);
}
static cs_code on_jwt(void *self, struct cs_arena *a, const char *id, struct cs_slice *claims,
                      struct cs_err *e)
{
    struct fake *f = self;
    f->calls++;
    snprintf(f->spiffe_id, sizeof f->spiffe_id, "%s", id);
    snprintf(f->seen_claims, sizeof f->seen_claims, "%.*s", (int)claims->len, (const char *)claims->data);
    if (f->answer != CS_OK)
        return cs_fail(e, f->answer, "no way");
    if (f->claims != NULL)
        *claims = cs_slice_str(cs_arena_strdup(a, f->claims));
    return CS_OK;
}
static const struct credentialcomposer_ops ops = {on_ca, on_server, on_agent, on_workload, on_jwt};

/* --- A CA with two of them --- */

struct fixture {
    struct cs_fake_clock clock;
    struct fake one, two;
    struct catalog_plugin plugins[2];
    struct ca *ca;
    struct cs_arena *arena;
    struct crypto_key *key;
    struct crypto_signer *signer;
    struct x509_cert *ca_cert;
};

static void must(cs_code rc, const struct cs_err *e)
{
    if (rc != CS_OK)
        fail_msg("%s", e->text);
}

static struct cs_slice spki(const struct fixture *f)
{
    return crypto_pub_spki(crypto_key_pub(f->key));
}

static int setup(void **state)
{
    struct cs_err e = {0};
    struct fixture *f = calloc(1, sizeof *f);
    cs_fake_clock_init(&f->clock, NOW);
    f->plugins[0] =
        (struct catalog_plugin){.type = "CredentialComposer", .name = "one", .ops = &ops, .self = &f->one};
    f->plugins[1] =
        (struct catalog_plugin){.type = "CredentialComposer", .name = "two", .ops = &ops, .self = &f->two};
    const struct catalog_plugin *const list[] = {&f->plugins[0], &f->plugins[1]};
    const struct ca_config cfg = {
        .trust_domain = "example.org", .clock = &f->clock.clock, .composers = list, .composer_count = 2};
    must(ca_new(&cfg, &f->ca, &e), &e);
    f->arena = cs_arena_new(0, 0);
    must(crypto_key_generate(CRYPTO_EC_P256, &f->key, &e), &e);
    must(crypto_signer_of_key(f->key, &f->signer, &e), &e);

    struct cs_buf der = {0};
    struct ca_x509_authority *x = NULL;
    struct ca_jwt_authority *j = NULL;
    const struct x509_chain none = {0};
    must(ca_self_sign(f->ca, f->signer, &der, &e), &e);
    must(x509_cert_parse(cs_buf_slice(&der), &f->ca_cert, &e), &e);
    must(ca_x509_authority_new(f->ca_cert, f->signer, &none, &x, &e), &e);
    ca_set_x509(f->ca, x);
    must(ca_jwt_authority_new(f->signer, "kid", NOW + 3600, &j, &e), &e);
    ca_set_jwt(f->ca, j);
    ca_x509_authority_unref(x);
    ca_jwt_authority_unref(j);
    cs_buf_free(&der);
    f->one = f->two = (struct fake){0};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    ca_free(f->ca);
    cs_arena_free(f->arena);
    crypto_signer_unref(f->signer);
    crypto_key_unref(f->key);
    x509_cert_unref(f->ca_cert);
    free(f);
    return 0;
}

static void with_units(struct fixture *f)
{
    f->one = (struct fake){.unit = "first", .oid = "1.2.3.1"};
    f->two = (struct fake){.unit = "second one", .oid = "1.2.3.2"};
}

static struct x509_cert *parse(const struct ca_x509 *out)
{
    struct cs_err e = {0};
    struct x509_cert *c = NULL;
    must(x509_cert_parse(out->chain[0], &c, &e), &e);
    return c;
}

static void assert_subject(struct cs_slice subject, const char *text)
{
    struct cs_buf b = {0};
    assert_int_equal(x509_name_text(&b, subject, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&b), text);
    cs_buf_free(&b);
}

static bool has(struct cs_slice der, const void *bytes, size_t n)
{
    return memmem(der.data, der.len, bytes, n) != NULL;
}
/* Extension 1.2.3.N with the value NULL. */
static void assert_extension(struct cs_slice der, uint8_t n)
{
    const uint8_t ext[] = {0x30, 9, 6, 3, 0x2a, 3, n, 4, 2, 5, 0};
    assert_true(has(der, ext, sizeof ext));
}

static cs_code sign(struct fixture *f, struct ca_x509 *out, struct cs_err *e)
{
    static const char *const dns[] = {"a.example", "b.example"};
    const struct ca_workload_params p = {
        .spiffe_id = W, .spki = spki(f), .dns_names = dns, .dns_name_count = 2};
    return ca_sign_workload(f->ca, f->arena, &p, out, e);
}

/* --- Certificates --- */

static void each_sees_what_the_one_before_made(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    with_units(f);
    must(sign(f, &out, &e), &e);
    assert_string_equal(f->one.last, "workload");
    assert_string_equal(f->one.spiffe_id, W);
    assert_int_equal(f->one.spki_len, spki(f).len);
    assert_int_equal(f->one.dns, 2);
    assert_int_equal(f->one.units, 0);
    assert_int_equal(f->one.extensions, 0);
    assert_int_equal(f->two.units, 1);
    assert_int_equal(f->two.extensions, 1);
    struct x509_cert *leaf = parse(&out);
    must(x509_cert_check_signature(leaf, f->ca_cert, &e), &e);
    assert_subject(leaf->subject, "CN=a.example,OU=first+OU=second one,O=SPIRE,C=US");
    assert_extension(leaf->der, 1);
    assert_extension(leaf->der, 2);
    assert_int_equal(leaf->ext.san.dns, 2);
    x509_cert_unref(leaf);
}

static void each_kind_has_its_operation(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    with_units(f);
    must(ca_sign_server(f->ca, f->arena, spki(f), &out, &e), &e);
    assert_string_equal(f->two.last, "server");
    must(ca_sign_agent(f->ca, f->arena, "spiffe://example.org/spire/agent/a", spki(f), &out, &e), &e);
    assert_string_equal(f->two.last, "agent");
    assert_string_equal(f->two.spiffe_id, "spiffe://example.org/spire/agent/a");
    must(ca_health(f->ca, &e), &e);
    assert_string_equal(f->two.last, "workload");
    assert_string_equal(f->two.spiffe_id, "spiffe://example.org/for/health/check/only");
    must(ca_sign_downstream(f->ca, f->arena, spki(f), 60, &out, &e), &e);
    assert_string_equal(f->two.last, "ca");
    struct x509_cert *ca = parse(&out);
    struct cs_buf text = {0};
    must(x509_name_text(&text, ca->subject, &e), &e);
    assert_non_null(strstr(cs_buf_cstr(&text), "OU=first+OU=second one+OU=DOWNSTREAM-1"));
    cs_buf_free(&text);
    assert_extension(ca->der, 1);
    x509_cert_unref(ca);
}

static void a_ca_has_policies_and_its_request_has_not(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct cs_buf der = {0}, csr = {0};
    with_units(f);
    must(ca_self_sign(f->ca, f->signer, &der, &e), &e);
    struct x509_cert *ca = NULL;
    must(x509_cert_parse(cs_buf_slice(&der), &ca, &e), &e);
    /* certificatePolicies, and in it PolicyInformation of 1.2.3.1.9 and 1.2.3.2.9 */
    static const uint8_t ext[] = {6,    3, 0x55, 0x1d, 0x20, 4, 18, 0x30, 16,   0x30, 6, 6, 4,
                                  0x2a, 3, 1,    9,    0x30, 6, 6,  4,    0x2a, 3,    2, 9};
    assert_true(has(ca->der, ext, sizeof ext));
    assert_int_equal(f->two.policies, 1);
    must(spiffe_x509ca_check_issued(ca, cs_slice_str("example.org"), NOW, &e), &e);
    x509_cert_unref(ca);

    must(ca_request(f->ca, f->signer, &csr, &e), &e);
    struct x509_csr parsed;
    must(x509_csr_parse(cs_buf_slice(&csr), &parsed, &e), &e);
    must(x509_csr_verify(&parsed, &e), &e);
    assert_int_equal(parsed.ext.san.uris, 1);
    assert_extension(parsed.info, 1);
    assert_extension(parsed.info, 2);
    assert_false(has(parsed.info, ext, 5));
    cs_buf_free(&der);
    cs_buf_free(&csr);
}

static void names_of_a_new_kind(struct credentialcomposer_x509 *x)
{
    static const struct credentialcomposer_type_value extra[] = {{"2.5.4.45", "uid"}, {"1.2.3", "x"}};
    static const char *const dns[] = {"c.example"};
    x->subject = (struct credentialcomposer_name){
        .serial_number = "", .common_name = "other", .extra = extra, .extra_count = 2};
    x->dns_sans = (struct credentialcomposer_texts){dns, 1};
}

static void subject_and_names_are_theirs(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    f->one.also = names_of_a_new_kind;
    must(sign(f, &out, &e), &e);
    struct x509_cert *leaf = parse(&out);
    assert_subject(leaf->subject, "1.2.3=#130178,2.5.4.45=#1303756964,CN=other");
    struct cs_slice name;
    assert_int_equal(leaf->ext.san.dns, 1);
    assert_true(x509_san_get(&leaf->ext.san, X509_SAN_DNS, 0, &name) && cs_slice_is(name, "c.example"));
    assert_int_equal(leaf->ext.san.uris, 1);
    x509_cert_unref(leaf);
}

static void empty_everything(struct credentialcomposer_x509 *x)
{
    *x = (struct credentialcomposer_x509){.subject = {.serial_number = "", .common_name = ""}};
}

static void an_empty_subject_makes_the_names_critical(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    f->two.also = empty_everything;
    must(sign(f, &out, &e), &e);
    struct x509_cert *leaf = parse(&out);
    assert_true(leaf->ext.san_critical);
    assert_int_equal(leaf->ext.san.dns, 0);
    assert_subject(leaf->subject, "");
    x509_cert_unref(leaf);
}

/* --- What is refused --- */

static struct credentialcomposer_extension one_extension;
static void put_extension(struct credentialcomposer_x509 *x)
{
    x->extensions = &one_extension;
    x->extension_count = 1;
}
static struct credentialcomposer_extension two_extensions[] = {
    {.oid = "1.2.3.4", .value = {(const uint8_t *)"\x05\x00", 2}},
    {.oid = "1.2.3.4", .value = {(const uint8_t *)"\x05\x00", 2}}};
static void put_two_extensions(struct credentialcomposer_x509 *x)
{
    x->extensions = two_extensions;
    x->extension_count = 2;
}
static void put_bad_utf8(struct credentialcomposer_x509 *x)
{
    x->subject.common_name = "\xfc";
}
static void put_bad_type(struct credentialcomposer_x509 *x)
{
    static const struct credentialcomposer_type_value extra = {"1", "x"};
    x->subject.extra = &extra;
    x->subject.extra_count = 1;
}
static void put_bad_dns(struct credentialcomposer_x509 *x)
{
    static const char *const dns[] = {"\xc3\xbc"};
    x->dns_sans = (struct credentialcomposer_texts){dns, 1};
}

#define EXT(oid_, bytes) .oid = (oid_), .value = {(const uint8_t *)(bytes), sizeof(bytes) - 1}
static void what_makes_no_svid_is_refused(void **state)
{
    static const struct {
        struct credentialcomposer_extension ext;
        void (*also)(struct credentialcomposer_x509 *x);
        const char *text; /* beginning */
    } rows[] = {
        {{EXT("2.5.29.17", "\x30\x1a\x86\x18spiffe://example.org/xyz")},
         NULL,
         "invalid workload X509-SVID: invalid X509-SVID: expected URI SAN \"" W
         "\" but got \"spiffe://example.org/xyz\""},
        {{EXT("2.5.29.17", "\x30\x03\x82\x01x")},
         NULL,
         "invalid workload X509-SVID: invalid X509-SVID: missing URI SAN"},
        {{EXT("2.5.29.19", "\x30\x03\x01\x01\xff"), .critical = true},
         NULL,
         "invalid workload X509-SVID: invalid X509-SVID: cA constraint must not be set"},
        {{EXT("2.5.29.15", "\x03\x02\x02\x84"), .critical = true},
         NULL,
         "invalid workload X509-SVID: invalid X509-SVID: only digitalSignature, keyEncipherment, and "
         "keyAgreement key usage can be set"},
        {{EXT("2.5.29.15", "\x03\x02\x05\x20"), .critical = true},
         NULL,
         "invalid workload X509-SVID: invalid X509-SVID: digitalSignature key usage must be set"},
        {{EXT("2.5.29.37", "\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01")},
         NULL,
         "invalid workload X509-SVID: invalid X509-SVID: missing clientAuth extended key usage"},
        {{EXT("2.5.29.15", "\x05\x00")}, NULL, "failed to sign X509 SVID: x509: "},
        {{EXT("1.2.x", "\x05\x00")}, NULL, "x509: invalid OID \"1.2.x\""},
        {{0}, put_two_extensions, "failed to sign X509 SVID: x509: certificate contains duplicate ext"},
        {{0}, put_bad_utf8, "asn1: string not valid UTF-8"},
        {{0}, put_bad_type, "asn1: structure error: invalid object identifier"},
        {{0}, put_bad_dns, "failed to sign X509 SVID: x509: "},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_err e = {0};
        struct ca_x509 out;
        one_extension = rows[i].ext;
        f->one.also = rows[i].also != NULL ? rows[i].also : put_extension;
        cs_code rc = sign(f, &out, &e);
        if (rc == CS_OK || strncmp(e.text, rows[i].text, strlen(rows[i].text)) != 0)
            fail_msg("row %zu: %d %s", i, rc, e.text);
        assert_null(out.chain);
    }
}

static void what_makes_no_ca_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    struct cs_buf der = {0};
    one_extension =
        (struct credentialcomposer_extension){EXT("2.5.29.15", "\x03\x02\x05\x20"), .critical = true};
    f->two.also = put_extension;
    static const char text[] =
        "invalid downstream X509 CA: invalid X509 CA: keyCertSign key usage must be set";
    assert_int_equal(ca_self_sign(f->ca, f->signer, &der, &e), CS_INTERNAL);
    assert_string_equal(e.text, text);
    assert_int_equal(ca_sign_downstream(f->ca, f->arena, spki(f), 60, &out, &e), CS_INTERNAL);
    assert_string_equal(e.text, text);
    cs_buf_free(&der);
}

static void errors_name_the_plugin_and_no_answer_is_fine(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_x509 out;
    with_units(f);
    f->one.answer = CS_UNIMPLEMENTED;
    must(sign(f, &out, &e), &e);
    struct x509_cert *leaf = parse(&out);
    assert_subject(leaf->subject, "CN=a.example,OU=second one,O=SPIRE,C=US");
    x509_cert_unref(leaf);
    f->two.answer = CS_DENIED;
    assert_int_equal(sign(f, &out, &e), CS_DENIED);
    assert_string_equal(e.text, "credentialcomposer(two): no way");
}

/* --- Tokens --- */

static cs_code token(struct fixture *f, struct ca_jwt *out, struct cs_err *e)
{
    static const char *const aud[] = {"a"};
    const struct ca_jwt_params p = {.spiffe_id = W, .audience = aud, .audience_count = 1, .ttl_s = 60};
    return ca_sign_jwt(f->ca, f->arena, &p, out, e);
}

static void claims_are_theirs(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_jwt out;
    struct jose_jws jws;
    f->one.claims = "{\"aud\":[\"a\"],\"exp\":1790000050.0,\"iat\":1789999999.0,\"one\":1,\"sub\":\"" W "\"}";
    must(token(f, &out, &e), &e);
    assert_string_equal(f->one.seen_claims,
                        "{\"aud\":[\"a\"],\"exp\":1790000060,\"iat\":1790000000,\"sub\":\"" W "\"}");
    assert_string_equal(f->two.seen_claims, f->one.claims);
    assert_int_equal(out.issued_at, NOW - 1);
    assert_int_equal(out.expires_at, NOW + 50);
    must(jose_parse(cs_slice_str(out.token), &jws, &e), &e);
    must(jose_verify(&jws, crypto_signer_pub(f->signer), &e), &e);
    assert_string_equal((const char *)jws.payload.data,
                        "{\"aud\":[\"a\"],\"exp\":1790000050,\"iat\":1789999999,\"one\":1,\"sub\":\"" W
                        "\"}");
    jose_jws_free(&jws);
}

static void tokens_of_others_are_not_signed(void **state)
{
    struct fixture *f = *state;
    struct cs_err e = {0};
    struct ca_jwt out;
    f->two.claims =
        "{\"aud\":[\"a\"],\"exp\":1790000050,\"iat\":1790000000,\"sub\":\"spiffe://example.org/x\"}";
    assert_int_equal(token(f, &out, &e), CS_INTERNAL);
    assert_string_equal(e.text, "invalid JWT-SVID \"sub\" claim: expected \"" W
                                "\" but got \"spiffe://example.org/x\"");
    assert_null(out.token);
    f->two.answer = CS_UNAVAILABLE;
    assert_int_equal(token(f, &out, &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "credentialcomposer(two): no way");
    f->one.answer = CS_UNIMPLEMENTED;
    f->two.answer = CS_UNIMPLEMENTED;
    must(token(f, &out, &e), &e);
}

static void survives_failing_allocations(void **state)
{
    struct fixture *f = *state;
    with_units(f);
    f->one.also = names_of_a_new_kind;
    f->one.unit = NULL;
    f->two.unit = NULL;
    f->two.also = put_extension;
    one_extension = (struct credentialcomposer_extension){EXT("1.2.3.4", "\x05\x00")};
    cs_code rc = CS_INTERNAL, jrc = CS_INTERNAL;
    struct cs_arena *kept = f->arena;
    for (size_t n = 1; rc != CS_OK || jrc != CS_OK; n++) {
        assert_true(n < 500);
        f->arena = cs_arena_new(64, 0);
        struct ca_x509 out;
        struct ca_jwt jwt;
        (void)cs_mem_fail_at(n, true);
        rc = sign(f, &out, NULL);
        (void)cs_mem_fail_at(n, true);
        jrc = token(f, &jwt, NULL);
        (void)cs_mem_fail_at(0, false);
        assert_true((rc == CS_OK) == (out.chain != NULL));
        assert_true((jrc == CS_OK) == (jwt.token != NULL));
        cs_arena_free(f->arena);
    }
    f->arena = kept;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(each_sees_what_the_one_before_made),
        T(each_kind_has_its_operation),
        T(a_ca_has_policies_and_its_request_has_not),
        T(subject_and_names_are_theirs),
        T(an_empty_subject_makes_the_names_critical),
        T(what_makes_no_svid_is_refused),
        T(what_makes_no_ca_is_refused),
        T(errors_name_the_plugin_and_no_answer_is_fine),
        T(claims_are_theirs),
        T(tokens_of_others_are_not_signed),
        T(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
