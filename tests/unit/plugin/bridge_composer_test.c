/* SPDX-License-Identifier: Apache-2.0
 *
 * The bridge of CredentialComposers: attributes both ways, and claims with numbers as SPIRE has them.
 */
#include "base/mem.h"
#include "plugin/credentialcomposer.h"
#include "proto/json.h"
#include "proto/proto.h"
#include "tests/fakes/plugin_external.h"

#include "sdk_server_credentialcomposer.pb-c.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

extern const struct plugin_bridge plugin_bridge_credentialcomposer;

static const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};

struct composer {
    struct plugin_external x;
    bool echo; /* answers with what it was asked, whose first field is the same */
    const void *answer;
    cs_code code;
    struct cs_buf request;
    char path[120];
    void *self;
    struct cs_arena *a;
};

static cs_code play(void *arg, const char *path, struct cs_slice request, struct cs_buf *answer,
                    struct cs_err *e)
{
    struct composer *c = arg;
    snprintf(c->path, sizeof c->path, "%s", path);
    cs_buf_reset(&c->request);
    cs_buf_add_slice(&c->request, request);
    if (c->code != CS_OK)
        return cs_fail(e, c->code, "no way");
    if (c->echo)
        cs_buf_add_slice(answer, request);
    return c->answer != NULL ? proto_pack(c->answer, answer, e) : CS_OK;
}

static void begin(struct composer *c)
{
    *c = (struct composer){.a = cs_arena_new(0, 0)};
    c->x = (struct plugin_external){.name = "own", .unary = play, .arg = c};
    assert_int_equal(plugin_bridge_credentialcomposer.create(&c->x, &env, &c->self, NULL), CS_OK);
}

static void end(struct composer *c)
{
    plugin_bridge_credentialcomposer.destroy(c->self);
    cs_buf_free(&c->request);
    cs_arena_free(c->a);
}

static const struct credentialcomposer_ops *ops(void)
{
    return plugin_bridge_credentialcomposer.ops;
}

static const char *const one[] = {"US"}, *const two[] = {"a", "b"}, *const oids[] = {"1.2.3", "2.999.1"};
static const struct credentialcomposer_type_value extra[] = {{"2.5.4.45", "unique"}};
static const struct credentialcomposer_extension extensions[] = {
    {"1.3.6.1.4.1.55555.1", {(const uint8_t *)"\x04\x00", 2}, true}, {"1.2.3", {NULL, 0}, false}};

static struct credentialcomposer_x509 attributes(void)
{
    return (struct credentialcomposer_x509){
        .subject = {.country = {one, 1},
                    .organization = {two, 2},
                    .organizational_unit = {two, 1},
                    .locality = {two + 1, 1},
                    .province = {two, 2},
                    .street = {one, 1},
                    .postal_code = {one, 1},
                    .serial_number = "7",
                    .common_name = "name",
                    .extra = extra,
                    .extra_count = 1},
        .dns_sans = {two, 2},
        .policy_identifiers = {oids, 2},
        .extensions = extensions,
        .extension_count = 2,
    };
}

static void assert_texts(struct credentialcomposer_texts a, struct credentialcomposer_texts b)
{
    assert_int_equal(a.count, b.count);
    for (size_t i = 0; i < a.count; i++)
        assert_string_equal(a.at[i], b.at[i]);
}

static void assert_same(const struct credentialcomposer_x509 *a, const struct credentialcomposer_x509 *b)
{
    assert_texts(a->subject.country, b->subject.country);
    assert_texts(a->subject.organization, b->subject.organization);
    assert_texts(a->subject.organizational_unit, b->subject.organizational_unit);
    assert_texts(a->subject.locality, b->subject.locality);
    assert_texts(a->subject.province, b->subject.province);
    assert_texts(a->subject.street, b->subject.street);
    assert_texts(a->subject.postal_code, b->subject.postal_code);
    assert_string_equal(a->subject.serial_number, b->subject.serial_number);
    assert_string_equal(a->subject.common_name, b->subject.common_name);
    assert_int_equal(a->subject.extra_count, b->subject.extra_count);
    assert_string_equal(a->subject.extra[0].oid, b->subject.extra[0].oid);
    assert_string_equal(a->subject.extra[0].value, b->subject.extra[0].value);
    assert_int_equal(a->extension_count, b->extension_count);
    for (size_t i = 0; i < a->extension_count; i++) {
        assert_string_equal(a->extensions[i].oid, b->extensions[i].oid);
        assert_true(cs_slice_eq(a->extensions[i].value, b->extensions[i].value));
        assert_int_equal(a->extensions[i].critical, b->extensions[i].critical);
    }
}

/* What a plugin gives back unchanged is unchanged. */
static void attributes_go_both_ways(void **state)
{
    (void)state;
    struct composer c;
    struct credentialcomposer_x509 before = attributes(), a = before;
    const struct credentialcomposer_texts none = {0};
    const struct cs_slice spki = cs_slice_str("key");
    begin(&c);
    c.echo = true;
    assert_int_equal(ops()->server_x509_ca(c.self, c.a, &a, NULL), CS_OK);
    assert_same(&a, &before);
    assert_texts(a.policy_identifiers, before.policy_identifiers);
    assert_texts(a.dns_sans, none);
    assert_string_equal(c.path,
                        "/spire.plugin.server.credentialcomposer.v1.CredentialComposer/ComposeServerX509CA");
    a = before;
    assert_int_equal(ops()->server_x509_svid(c.self, c.a, &a, NULL), CS_OK);
    assert_same(&a, &before);
    assert_texts(a.dns_sans, before.dns_sans);
    assert_texts(a.policy_identifiers, none);
    a = before;
    assert_int_equal(ops()->agent_x509_svid(c.self, c.a, "spiffe://example.org/a", spki, &a, NULL), CS_OK);
    assert_same(&a, &before);
    ProtobufCMessage *m;
    assert_int_equal(proto_unpack(c.a, &credentialcomposerv1__compose_agent_x509_svidrequest__descriptor,
                                  cs_buf_slice(&c.request), &m, NULL),
                     CS_OK);
    const Credentialcomposerv1__ComposeAgentX509SVIDRequest *q = (const void *)m;
    assert_string_equal(q->spiffe_id, "spiffe://example.org/a");
    assert_memory_equal(q->public_key.data, "key", 3);
    a = before;
    assert_int_equal(ops()->workload_x509_svid(c.self, c.a, "spiffe://example.org/w", spki, &a, NULL), CS_OK);
    assert_same(&a, &before);
    assert_string_equal(
        c.path, "/spire.plugin.server.credentialcomposer.v1.CredentialComposer/ComposeWorkloadX509SVID");
    end(&c);
}

static void silence_changes_nothing(void **state)
{
    (void)state;
    struct composer c;
    struct credentialcomposer_x509 before = attributes(), a = before;
    struct cs_slice claims = cs_slice_str("{\"sub\":\"x\"}");
    struct cs_err e;
    begin(&c);
    assert_int_equal(ops()->server_x509_ca(c.self, c.a, &a, &e), CS_OK);
    assert_memory_equal(&a, &before, sizeof a);
    assert_int_equal(ops()->workload_jwt_svid(c.self, c.a, "spiffe://example.org/w", &claims, &e), CS_OK);
    assert_true(cs_slice_is(claims, "{\"sub\":\"x\"}"));
    c.code = CS_UNIMPLEMENTED;
    assert_int_equal(ops()->server_x509_svid(c.self, c.a, &a, &e), CS_UNIMPLEMENTED);
    assert_int_equal(ops()->workload_jwt_svid(c.self, c.a, "spiffe://example.org/w", &claims, &e),
                     CS_UNIMPLEMENTED);
    c.code = CS_DENIED;
    assert_int_equal(ops()->server_x509_svid(c.self, c.a, &a, &e), CS_DENIED);
    assert_string_equal(e.text, "credentialcomposer(own): no way");
    assert_memory_equal(&a, &before, sizeof a);
    end(&c);
}

static void bad_attributes_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *extension, *name, *policy;
        const char *text;
    } rows[] = {
        {"no.oid", NULL, NULL, "extra extensions: invalid OID: non-integer part \"no\""},
        {"", NULL, NULL, "extra extensions: invalid OID: non-integer part \"\""},
        {"1.2.", NULL, NULL, "extra extensions: invalid OID: non-integer part \"\""},
        {"1.-2", NULL, NULL, "extra extensions: invalid OID: non-integer part \"-2\""},
        {"3.1", NULL, NULL, "extra extensions: invalid OID: \"3.1\""},
        {"1", NULL, NULL, "extra extensions: invalid OID: \"1\""},
        {NULL, "x", NULL, "subject: extra names: invalid OID: non-integer part \"x\""},
        {NULL, NULL, "1.40.2", "policy identifiers: invalid oid"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct composer c;
        struct credentialcomposer_x509 a = attributes();
        Credentialcomposerv1__X509Extension ext = CREDENTIALCOMPOSERV1__X509_EXTENSION__INIT;
        Credentialcomposerv1__AttributeTypeAndValue pair =
            CREDENTIALCOMPOSERV1__ATTRIBUTE_TYPE_AND_VALUE__INIT;
        Credentialcomposerv1__DistinguishedName subject = CREDENTIALCOMPOSERV1__DISTINGUISHED_NAME__INIT;
        Credentialcomposerv1__X509CAAttributes in = CREDENTIALCOMPOSERV1__X509_CAATTRIBUTES__INIT;
        Credentialcomposerv1__ComposeServerX509CAResponse r =
            CREDENTIALCOMPOSERV1__COMPOSE_SERVER_X509_CARESPONSE__INIT;
        Credentialcomposerv1__X509Extension *ext_list = &ext;
        Credentialcomposerv1__AttributeTypeAndValue *pair_list = &pair;
        char *policy = (char *)rows[i].policy;
        struct cs_err e = {0};
        ext.oid = (char *)(rows[i].extension != NULL ? rows[i].extension : "1.2");
        in.extra_extensions = &ext_list;
        in.n_extra_extensions = 1;
        pair.oid = (char *)rows[i].name;
        subject.extra_names = &pair_list;
        subject.n_extra_names = rows[i].name != NULL;
        in.policy_identifiers = &policy;
        in.n_policy_identifiers = policy != NULL;
        in.subject = &subject;
        r.attributes = &in;
        begin(&c);
        c.answer = &r;
        assert_int_equal(ops()->server_x509_ca(c.self, c.a, &a, &e), CS_INTERNAL);
        const char *before = "credentialcomposer(own): plugin returned invalid X509CA attributes: ";
        assert_memory_equal(e.text, before, strlen(before));
        assert_string_equal(e.text + strlen(before), rows[i].text);
        assert_int_equal(a.extension_count, 2);
        in.subject = NULL;
        assert_int_equal(ops()->server_x509_ca(c.self, c.a, &a, &e), CS_INTERNAL);
        assert_string_equal(e.text + strlen(before), "subject: cannot be empty");
        end(&c);
    }
}

/* --- Claims --- */

static void claims_go_both_ways(void **state)
{
    (void)state;
    /* left: ours; right: as SPIRE has them after the way through Struct and back */
    static const char *const rows[][2] = {
        {"{}", "{}"},
        {"{\"sub\":\"x\",\"aud\":[\"a\"],\"exp\":1700000000}",
         "{\"aud\":[\"a\"],\"exp\":1700000000,\"sub\":\"x\"}"},
        {"{\"a\":9007199254740991,\"b\":9007199254740993,\"c\":-1}",
         "{\"a\":9007199254740991,\"b\":9007199254740992,\"c\":-1}"},
        {"{\"a\":0.5,\"b\":1.0,\"c\":0.1,\"d\":-0.0,\"e\":1e-6,\"f\":1e-7,\"g\":123456.789}",
         "{\"a\":0.5,\"b\":1,\"c\":0.1,\"d\":-0,\"e\":0.000001,\"f\":1e-7,\"g\":123456.789}"},
        {"{\"a\":1e20,\"b\":1e21,\"c\":123456789012345678901,\"d\":1.5e300,\"e\":5e-324,\"f\":12e-11}",
         "{\"a\":100000000000000000000,\"b\":1e+21,\"c\":123456789012345680000,\"d\":1.5e+300,\"e\":5e-324,"
         "\"f\":1.2e-10}"},
        {"{\"a\":[true,false,null,{\"b\":[]}],\"c\":{}}", "{\"a\":[true,false,null,{\"b\":[]}],\"c\":{}}"},
        {"{\"t\":\"\xc3\xbc \\\"q\\\" <&> \\u2028 \\n\"}",
         "{\"t\":\"\xc3\xbc \\\"q\\\" \\u003c\\u0026\\u003e \\u2028 \\n\"}"},
    };
    struct composer c;
    begin(&c);
    c.echo = true;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_slice claims = cs_slice_str(rows[i][0]);
        struct cs_err e = {0};
        if (ops()->workload_jwt_svid(c.self, c.a, "spiffe://example.org/w", &claims, &e) != CS_OK)
            fail_msg("row %zu: %s", i, e.text);
        if (!cs_slice_is(claims, rows[i][1]))
            fail_msg("row %zu: %.*s", i, (int)claims.len, (const char *)claims.data);
    }
    end(&c);
}

static void bad_claims_are_refused(void **state)
{
    (void)state;
    struct composer c;
    struct cs_err e;
    begin(&c);
    static const char *const rows[] = {"", "[]", "{", "{\"a\":1e999}", "{\"a\":\"\\u0000\"}", "{} x"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cs_slice claims = cs_slice_str(rows[i]);
        assert_int_equal(ops()->workload_jwt_svid(c.self, c.a, "spiffe://example.org/w", &claims, &e),
                         CS_INTERNAL);
        const char *before = "credentialcomposer(own): invalid workload JWTSVID attributes: failed to encode "
                             "claims: ";
        assert_memory_equal(e.text, before, strlen(before));
    }
    struct cs_buf deep = {0};
    cs_buf_add_str(&deep, "{\"a\":");
    for (int i = 0; i < 100; i++)
        cs_buf_add_byte(&deep, '[');
    for (int i = 0; i < 100; i++)
        cs_buf_add_byte(&deep, ']');
    cs_buf_add_byte(&deep, '}');
    struct cs_slice claims = cs_buf_slice(&deep);
    assert_int_equal(ops()->workload_jwt_svid(c.self, c.a, "spiffe://example.org/w", &claims, &e),
                     CS_INTERNAL);
    assert_string_equal(e.text,
                        "credentialcomposer(own): invalid workload JWTSVID attributes: failed to encode "
                        "claims: nested too deeply");
    cs_buf_free(&deep);
    end(&c);
}

/* As Go's map: the last of the same name counts; what has no kind is null; no claims are no error here. */
static void odd_structs_are_written(void **state)
{
    (void)state;
    Google__Protobuf__Value v[4];
    Google__Protobuf__Struct__FieldsEntry f[4], *list[4];
    Google__Protobuf__Struct s = GOOGLE__PROTOBUF__STRUCT__INIT;
    static const char *const names[] = {"b", "a", "b", "c"};
    static const double numbers[] = {1, NAN, 2, -INFINITY};
    for (size_t i = 0; i < 4; i++) {
        google__protobuf__value__init(&v[i]);
        google__protobuf__struct__fields_entry__init(&f[i]);
        v[i].kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        v[i].number_value = numbers[i];
        f[i].key = (char *)names[i];
        f[i].value = &v[i];
        list[i] = &f[i];
    }
    s.fields = list;
    s.n_fields = 4;
    struct cs_buf out = {0};
    assert_int_equal(proto_struct_write(&out, &s, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&out), "{\"a\":\"NaN\",\"b\":2,\"c\":\"-Infinity\"}");
    f[3].value = NULL;
    v[1].kind_case = GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET;
    cs_buf_reset(&out);
    assert_int_equal(proto_struct_write(&out, &s, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&out), "{\"a\":null,\"b\":2,\"c\":null}");
    cs_buf_reset(&out);
    assert_int_equal(proto_struct_write(&out, NULL, NULL), CS_OK);
    assert_string_equal(cs_buf_cstr(&out), "{}");
    cs_buf_free(&out);
}

static void survives_failing_allocations(void **state)
{
    (void)state;
    struct composer c;
    begin(&c);
    c.echo = true;
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        assert_true(n < 1000);
        struct cs_slice claims = cs_slice_str("{\"a\":[1,{\"b\":\"c\"}],\"d\":null}");
        (void)cs_mem_fail_at(n, true);
        rc = ops()->workload_jwt_svid(c.self, c.a, "spiffe://example.org/w", &claims, NULL);
        (void)cs_mem_fail_at(0, false);
        if (rc != CS_OK)
            assert_true(cs_slice_is(claims, "{\"a\":[1,{\"b\":\"c\"}],\"d\":null}"));
    }
    end(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_go_both_ways),      cmocka_unit_test(silence_changes_nothing),
        cmocka_unit_test(bad_attributes_are_refused),   cmocka_unit_test(claims_go_both_ways),
        cmocka_unit_test(bad_claims_are_refused),       cmocka_unit_test(odd_structs_are_written),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
