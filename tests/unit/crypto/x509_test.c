/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates that SPIRE made, read and written again: with a signer that gives the signature in the file,
 * every byte must be the same.
 */
#include "fixture.h"

#include "crypto/x509_csr.h"

struct replay {
    struct cs_slice sig;
};
static cs_code replay_sign(void *ctx, enum crypto_sig alg, struct cs_slice digest, struct cs_buf *out,
                           struct cs_err *e)
{
    (void)alg, (void)digest, (void)e;
    cs_buf_add_slice(out, ((struct replay *)ctx)->sig);
    return CS_OK;
}
static void replay_free(void *ctx)
{
    (void)ctx;
}
static const struct crypto_signer_ops replay_ops = {replay_sign, replay_free};

static struct x509_serial serial_of(const struct x509_cert *c)
{
    struct x509_serial s = {{0}};
    struct cs_slice n = c->serial;
    if (n.len > 16)
        n = cs_slice_of(n.data + 1, n.len - 1);
    memcpy(s.bytes + 16 - n.len, n.data, n.len);
    return s;
}

enum kind { SELF, CA, SVID };

static void same_bytes(const char *file, const char *issuer_file, enum kind kind)
{
    struct cs_err e = {0};
    CS_AUTO(x509_cert) want = load_cert(file);
    CS_AUTO(x509_cert) ca = load_cert(issuer_file);
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    struct replay replay = {want->sig};
    struct crypto_pub *key;
    CS_AUTO(crypto_signer) signer = NULL;
    CS_AUTO(x509_issuer) issuer = NULL;
    OK(x509_cert_pub(ca, &key, &e));
    OK(crypto_signer_new(&replay_ops, &replay, key, &signer, &e));
    OK(x509_issuer_new(ca, signer, &issuer, &e));
    struct cs_slice dns[4], uri;
    struct x509_serial serial = serial_of(want), used;
    for (unsigned i = 0; i < want->ext.san.dns; i++)
        assert_true(x509_san_get(&want->ext.san, X509_SAN_DNS, i, &dns[i]));
    assert_true(x509_san_get(&want->ext.san, X509_SAN_URI, 0, &uri));
    /* the subject through the struct, so that its order and string types are proved, too */
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    CS_CLEANUP(cs_buf_free) struct cs_buf subject = {0};
    struct x509_name name;
    OK(x509_name_parse(arena, want->subject, &name, &e));
    x509_name_write(&subject, &name);
    assert_true(cs_slice_eq(cs_buf_slice(&subject), want->subject));
    const struct x509_issue_params p = {
        .spki = want->spki,
        .subject = cs_buf_slice(&subject),
        .uri = uri,
        .dns = dns,
        .dns_count = want->ext.san.dns,
        .not_before = want->not_before,
        .not_after = want->not_after,
        .serial = &serial,
    };
    if (kind == SELF)
        OK(x509_issue_self_signed(signer, &p, &out, &e));
    else if (kind == CA)
        OK(x509_issue_ca(issuer, &p, &out, &used, &e));
    else
        OK(x509_issue_svid(issuer, &p, &out, &used, &e));
    if (!cs_slice_eq(cs_buf_slice(&out), want->der))
        fail_msg("%s: bytes differ", file);
}

static void as_spire_writes_them(void **state)
{
    (void)state;
    same_bytes("crypto/ca_p256.pem", "crypto/ca_p256.pem", SELF);
    same_bytes("crypto/ca_p384.pem", "crypto/ca_p384.pem", SELF);
    same_bytes("crypto/ca_rsa2048.pem", "crypto/ca_rsa2048.pem", SELF);
    same_bytes("crypto/svid_p256.pem", "crypto/ca_p256.pem", SVID);
    same_bytes("crypto/svid_p384.pem", "crypto/ca_p384.pem", SVID);
    same_bytes("crypto/svid_rsa2048.pem", "crypto/ca_rsa2048.pem", SVID);
    same_bytes("crypto/svid_dns.pem", "crypto/ca_p256.pem", SVID);
    same_bytes("crypto/svid_agent.pem", "crypto/ca_p256.pem", SVID);
    same_bytes("crypto/ca_downstream.pem", "crypto/ca_p256.pem", CA);
    same_bytes("crypto/ca_upstream_signed.pem", "crypto/ca_p256.pem", CA);
}

/* The upstream authority copies the request's extensions; ours of the same kind give way. */
static void requested_extensions_replace_ours(void **state)
{
    (void)state;
    struct cs_err e = {0};
    CS_AUTO(x509_cert) want = load_cert("crypto/ca_upstream_signed.pem");
    CS_AUTO(x509_cert) ca = load_cert("crypto/ca_p256.pem");
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    struct x509_csr csr;
    load_pem("crypto/csr_upstream.pem", &der);
    OK(x509_csr_parse(cs_buf_slice(&der), &csr, &e));
    OK(x509_csr_verify(&csr, &e));
    struct replay replay = {want->sig};
    struct crypto_pub *key;
    CS_AUTO(crypto_signer) signer = NULL;
    CS_AUTO(x509_issuer) issuer = NULL;
    OK(x509_cert_pub(ca, &key, &e));
    OK(crypto_signer_new(&replay_ops, &replay, key, &signer, &e));
    OK(x509_issuer_new(ca, signer, &issuer, &e));
    struct x509_serial serial = serial_of(want);
    struct x509_issue_params p = {
        .spki = csr.spki,
        .subject = csr.subject,
        .uri = S("spiffe://replaced.test"),
        .not_before = want->not_before,
        .not_after = want->not_after,
        .serial = &serial,
        .extra = csr.extensions,
    };
    OK(x509_issue_ca(issuer, &p, &out, NULL, &e));
    assert_true(cs_slice_eq(cs_buf_slice(&out), want->der));
    p.extra = S("\x30\x03\x06\x01");
    assert_int_equal(x509_issue_ca(issuer, &p, &out, NULL, NULL), CS_INVALID);
    p.extra = (struct cs_slice){0};
    p.not_after = p.not_before - 1;
    assert_int_equal(x509_issue_ca(issuer, &p, &out, NULL, NULL), CS_INVALID);
}

static void fields(void **state)
{
    (void)state;
    CS_AUTO(x509_cert) c = load_cert("crypto/svid_dns.pem");
    CS_AUTO(x509_cert) ca = load_cert("crypto/ca_p256.pem");
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf dec = {0};
    struct cs_err e = {0};
    OK(x509_name_text(&text, c->subject, &e));
    assert_string_equal(cs_buf_cstr(&text), "CN=web.example.org,O=SPIRE,C=US");
    assert_int_equal(c->ext.key_usage,
                     X509_KU_DIGITAL_SIGNATURE | X509_KU_KEY_ENCIPHERMENT | X509_KU_KEY_AGREEMENT);
    assert_int_equal(c->ext.eku, X509_EKU_SERVER_AUTH | X509_EKU_CLIENT_AUTH);
    assert_true(c->ext.has_basic_constraints && !c->ext.is_ca);
    assert_int_equal(c->ext.path_len, -1);
    assert_int_equal(c->ext.san.dns, 2);
    assert_int_equal(c->ext.san.uris, 1);
    assert_true(cs_slice_eq(c->ext.aki, ca->ext.ski));
    assert_true(ca->ext.is_ca && !ca->ext.has_eku && ca->ext.aki.len == 0);
    /* SPIRE puts the CA's own serial number, in decimal, into its subject */
    cs_buf_add_str(&dec, "SERIALNUMBER=");
    x509_cert_serial_dec(&dec, ca);
    cs_buf_add_str(&dec, ",O=SPIFFE,C=US");
    cs_buf_reset(&text);
    OK(x509_name_text(&text, ca->subject, &e));
    assert_string_equal(cs_buf_cstr(&text), cs_buf_cstr(&dec));
    uint8_t id[20];
    OK(crypto_key_id(ca->spki, id, &e));
    assert_memory_equal(id, ca->ext.ski.data, 20);
    OK(x509_cert_check_signature(c, ca, &e));
    assert_int_equal(x509_cert_check_signature(ca, c, NULL), CS_DENIED);
}

static void broken(void **state)
{
    (void)state;
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    struct x509_cert *c;
    struct cs_err e = {0};
    load_pem("crypto/svid_dns.pem", &der);
    for (size_t n = 0; n < der.len; n++)
        assert_int_equal(x509_cert_parse(cs_slice_of(der.data, n), &c, NULL), CS_INVALID);
    cs_buf_add_byte(&der, 0);
    FAILS(x509_cert_parse(cs_buf_slice(&der), &c, &e), CS_INVALID, "x509: trailing data");
}

static void names(void **state)
{
    (void)state;
    struct cs_err e = {0};
    const char *country[] = {"US", "CH"}, *org[] = {"A, B+C", "Übung"};
    const struct x509_name n = {
        .country = {country, 2},
        .organization = {org, 2},
        .common_name = " #x ",
        .serial_number = "12",
        .unique_id = "ab",
    };
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf again = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    struct x509_name back;
    x509_name_write(&der, &n);
    assert_true(x509_name_sound(cs_buf_slice(&der)));
    OK(x509_name_text(&text, cs_buf_slice(&der), &e));
    assert_string_equal(cs_buf_cstr(&text), "2.5.4.45=#13026162,SERIALNUMBER=12,CN=\\ #x\\ ,"
                                            "O=Übung+O=A\\, B\\+C,C=CH+C=US"); /* SETs in DER's order */
    OK(x509_name_parse(arena, cs_buf_slice(&der), &back, &e));
    x509_name_write(&again, &back);
    assert_true(cs_slice_eq(cs_buf_slice(&der), cs_buf_slice(&again)));
    assert_false(x509_name_empty(&n));
    assert_true(x509_name_empty(&(struct x509_name){.common_name = ""}));
    CS_CLEANUP(cs_buf_free) struct cs_buf latin1 = {0};
    x509_name_write(&latin1, &(struct x509_name){.common_name = "\xfc"});
    assert_false(cs_buf_ok(&latin1));
    /* a NUL inside a value must not cut it short */
    assert_int_equal(x509_name_parse(arena,
                                     S("\x30\x0e\x31\x0c\x30\x0a\x06\x03\x55\x04\x03\x0c\x03"
                                       "a\0b"),
                                     &back, NULL),
                     CS_INVALID);
}

/* Attributes of any type stand behind the others, and in the place of fields of their type. */
static void extra_names(void **state)
{
    (void)state;
    struct cs_err e = {0};
    const char *country[] = {"US"}, *org[] = {"ACME"};
    const struct x509_name_attribute extra[] = {
        {S("\x55\x04\x2d"), "uid"}, {S("\x2a\x03\x04"), "\xc3\xbc"}, {S("\x55\x04\x0a"), "other"}};
    const struct x509_name n = {
        .country = {country, 1}, .organization = {org, 1}, .extra = extra, .extra_count = 3};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    x509_name_write(&der, &n);
    assert_true(x509_name_sound(cs_buf_slice(&der)));
    OK(x509_name_text(&text, cs_buf_slice(&der), &e));
    assert_string_equal(cs_buf_cstr(&text), "O=other,1.2.3.4=#0c02c3bc,2.5.4.45=#1303756964,C=US");
    assert_false(x509_name_empty(&(struct x509_name){.extra = extra, .extra_count = 1}));
}

static void serials(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } rows[] = {
        {"\x00", 1, "0"},
        {"\x7f", 1, "127"},
        {"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 17,
         "340282366920938463463374607431768211455"},
        {"\xff", 1, "-1"},
        {"\x80", 1, "-128"},
        {"\x01\x00\x00", 3, "65536"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        const struct x509_cert c = {.serial = cs_slice_of(rows[i].bytes, rows[i].n)};
        x509_cert_serial_dec(&text, &c);
        assert_string_equal(cs_buf_cstr(&text), rows[i].text);
    }
    struct x509_serial s;
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    OK(x509_serial_new(&s, &e));
    x509_serial_dec(&text, &s);
    assert_true(text.len >= 30 && text.data[0] != '0');
}

static void chains(void **state)
{
    (void)state;
    struct cs_err e = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf pem = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf again = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf der = {0};
    CS_CLEANUP(x509_chain_free) struct x509_chain c = {0};
    CS_CLEANUP(x509_chain_free) struct x509_chain d = {0};
    struct x509_chain none;
    load("crypto/chain_nested.pem", &pem);
    OK(x509_chain_parse_pem(cs_buf_slice(&pem), 2, &c, &e));
    assert_int_equal(c.count, 2);
    x509_chain_write_pem(&again, &c);
    assert_true(cs_slice_eq(cs_buf_slice(&pem), cs_buf_slice(&again)));
    x509_chain_write_der(&der, &c);
    OK(x509_chain_parse_der(cs_buf_slice(&der), 16, &d, &e));
    assert_true(x509_chain_equal(&c, &d));
    FAILS(x509_chain_parse_pem(cs_buf_slice(&pem), 1, &none, &e), CS_INVALID, "more than 1 certificates");
    FAILS(x509_chain_parse_pem(S("nothing"), 1, &none, &e), CS_INVALID, "no PEM blocks");
    FAILS(x509_chain_parse_pem(S("-----BEGIN X-----\n-----END X-----\n"), 1, &none, &e), CS_INVALID,
          "expected block type \"CERTIFICATE\"; got \"X\"");
    FAILS(x509_chain_parse_pem(S("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 1, &none,
                               &e),
          CS_INVALID, "unable to parse \"CERTIFICATE\" PEM block 1: x509: malformed certificate");
    assert_int_equal(x509_chain_parse_der(S(""), 1, &none, NULL), CS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_spire_writes_them),
        cmocka_unit_test(requested_extensions_replace_ours),
        cmocka_unit_test(fields),
        cmocka_unit_test(broken),
        cmocka_unit_test(names),
        cmocka_unit_test(extra_names),
        cmocka_unit_test(serials),
        cmocka_unit_test(chains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
