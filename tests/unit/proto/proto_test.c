/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/proto.h"

#include <google/protobuf/struct.pb-c.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <types.pb-c.h>
#include <workload.pb-c.h>

#include <cmocka.h>

#define W(s) cs_slice_of((s), sizeof(s) - 1)
#define MALFORMED "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"

static struct cs_buf pack(const ProtobufCMessage *m)
{
    struct cs_buf b = {0};
    assert_int_equal(proto_pack(m, &b, NULL), CS_OK);
    return b;
}

static void entry_there_and_back(void **state)
{
    (void)state;
    Types__SPIFFEID id = TYPES__SPIFFEID__INIT;
    id.trust_domain = (char *)"example.org";
    id.path = (char *)"/caf\xc3\xa9";
    Types__Selector sel[2] = {TYPES__SELECTOR__INIT, TYPES__SELECTOR__INIT}, *sels[2] = {&sel[0], &sel[1]};
    sel[0].type = sel[1].type = (char *)"unix";
    sel[0].value = (char *)"uid:1000";
    sel[1].value = (char *)"gid:1000";
    char *dns[] = {(char *)"a.example", (char *)""};
    Types__Entry en = TYPES__ENTRY__INIT;
    en.spiffe_id = &id;
    en.selectors = sels;
    en.n_selectors = 2;
    en.dns_names = dns;
    en.n_dns_names = 2;
    en.expires_at = -1;
    en.admin = 1;
    struct cs_buf CS_CLEANUP(cs_buf_free) wire = pack(&en.base);

    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    ProtobufCMessage *m;
    assert_int_equal(proto_unpack(a, &types__entry__descriptor, cs_buf_slice(&wire), &m, NULL), CS_OK);
    Types__Entry *got = (Types__Entry *)m;
    assert_string_equal(got->spiffe_id->path, "/caf\xc3\xa9");
    assert_null(got->parent_id);
    assert_int_equal(got->n_selectors, 2);
    assert_string_equal(got->selectors[1]->value, "gid:1000");
    assert_int_equal(got->n_dns_names, 2);
    assert_string_equal(got->dns_names[1], "");
    assert_string_equal(got->hint, "");
    assert_true(got->expires_at == -1);
    struct cs_buf CS_CLEANUP(cs_buf_free) again = pack(m);
    assert_true(cs_slice_eq(cs_buf_slice(&again), cs_buf_slice(&wire)));
}

/* Anything shorter than the message is an error or a shorter message, never a crash. The copy has the
 * exact size, so that sanitizers see a read behind it. */
static void every_truncation(void **state)
{
    (void)state;
    static const char wire[] = "\x0a\x03"
                               "id1"
                               "\x12\x0d\x0a\x07"
                               "td.test"
                               "\x12\x02/a"
                               "\x22\x0c\x0a\x04"
                               "unix"
                               "\x12\x04"
                               "uid:"
                               "\x28\x80\x01\x40\x01\xfa\x07\x03zzz";
    for (size_t n = 0; n < sizeof wire; n++) {
        uint8_t *copy = cs_memdup(wire, n);
        CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
        ProtobufCMessage *m;
        cs_code code = proto_unpack(a, &types__entry__descriptor, cs_slice_of(copy, n), &m, NULL);
        assert_true((code == CS_OK) == (m != NULL));
        if (n == sizeof wire - 1)
            assert_int_equal(code, CS_OK);
        cs_free(copy);
    }
}

static void unknown_fields_are_kept(void **state)
{
    (void)state;
    static const char wire[] = "\x0a\x02td\xfa\x07\x03zzz\xf8\x07\x05\xfd\x07\x01\x02\x03\x04";
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    ProtobufCMessage *m;
    assert_int_equal(proto_unpack(a, &types__spiffeid__descriptor, W(wire), &m, NULL), CS_OK);
    assert_int_equal(m->n_unknown_fields, 3);
    struct cs_buf CS_CLEANUP(cs_buf_free) again = pack(m);
    assert_true(cs_slice_eq(cs_buf_slice(&again), W(wire)));
}

static void refuses_malformed(void **state)
{
    (void)state;
    const struct {
        struct cs_slice wire;
        const char *error;
    } t[] = {
        {W("\x0a"), MALFORMED},
        {W("\x0a\x05"
           "four"),
         MALFORMED},
        {W("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), MALFORMED},     /* length 2^64-1 */
        {W("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), MALFORMED},         /* length 2^63-1 */
        {W("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), MALFORMED},     /* does not fit 64 bits */
        {W("\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), MALFORMED}, /* 11 bytes */
        {W("\x02\x00"), MALFORMED},                                         /* field 0 */
        {W("\x82\x80\x80\x80\x10\x00"), MALFORMED},                         /* field 2^29 */
        {W("\x0b\x0c"), MALFORMED},                                         /* group */
        {W("\x0f"), MALFORMED},                                             /* wire type 7 */
        {W("\x08\x01"), MALFORMED},                                         /* a string as varint */
        {W("\xf9\x07\x01\x02\x03\x04\x05\x06\x07"), MALFORMED},
        {W("\xfd\x07\x01\x02\x03"), MALFORMED},
        {W("\x0a\x02\xc3\x28"), "grpc: error unmarshalling request: string field contains invalid UTF-8"},
        {W("\x0a\x03"
           "a\0b"),
         "grpc: error unmarshalling request: proto: field spire.api.types.SPIFFEID.trust_domain contains a "
         "NUL "
         "character"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
        ProtobufCMessage *m;
        struct cs_err e;
        assert_int_equal(proto_unpack(a, &types__spiffeid__descriptor, t[i].wire, &m, &e), CS_INTERNAL);
        assert_string_equal(e.text, t[i].error);
        assert_null(m);
    }
}

static void strings_are_checked_where_they_hide(void **state)
{
    (void)state;
    const struct {
        const ProtobufCMessageDescriptor *d;
        struct cs_slice wire;
        cs_code want;
    } t[] = {
        /* in a nested message, in a list, as the key of a map; bytes may hold anything */
        {&types__entry__descriptor, W("\x12\x04\x0a\x02\xff\xff"), CS_INTERNAL},
        {&types__entry__descriptor,
         W("\x32\x01"
           "a\x32\x01\xff"),
         CS_INTERNAL},
        {&workload__x509_bundles_response__descriptor,
         W("\x12\x06\x0a\x01\xff\x12\x01"
           "a"),
         CS_INTERNAL},
        {&workload__x509_bundles_response__descriptor,
         W("\x12\x06\x0a\x01"
           "a\x12\x01\xff"),
         CS_OK},
        {&types__attestation_data__descriptor, W("\x12\x02\xff\x00"), CS_OK},
        {&types__spiffeid__descriptor, W(""), CS_OK},
        {&types__spiffeid__descriptor, {NULL, 0}, CS_OK},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
        ProtobufCMessage *m;
        assert_int_equal(proto_unpack(a, t[i].d, t[i].wire, &m, NULL), t[i].want);
    }
}

/* A google.protobuf.Value that holds a list that holds a Value ..., `levels` messages in all. */
static struct cs_buf nested_lists(size_t levels)
{
    struct cs_buf b = {0};
    for (size_t i = 0; i + 1 < levels; i++) {
        struct cs_buf outer = {0};
        /* field 1 of a list is a value, field 6 of a value is a list */
        cs_buf_add_byte(&outer, i % 2 == 0 ? 0x0a : 0x32);
        size_t n = b.len;
        for (; n > 0x7f; n >>= 7)
            cs_buf_add_byte(&outer, (uint8_t)(n | 0x80));
        cs_buf_add_byte(&outer, (uint8_t)n);
        cs_buf_add_slice(&outer, cs_buf_slice(&b));
        cs_buf_free(&b);
        b = outer;
    }
    return b;
}

static cs_code unpack_value(struct cs_buf *b, struct cs_err *e)
{
    /* the innermost message is a value, the outermost a value or a list */
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    ProtobufCMessage *m;
    const ProtobufCMessageDescriptor *d = b->len > 0 && b->data[0] == 0x0a
                                              ? &google__protobuf__list_value__descriptor
                                              : &google__protobuf__value__descriptor;
    return proto_unpack(a, d, cs_buf_slice(b), &m, e);
}

static void nesting_is_limited(void **state)
{
    (void)state;
    struct cs_err e;
    for (size_t levels = 95; levels < 105; levels++) {
        struct cs_buf CS_CLEANUP(cs_buf_free) b = nested_lists(levels);
        assert_int_equal(unpack_value(&b, &e), levels <= 100 ? CS_OK : CS_INTERNAL);
    }
    struct cs_buf CS_CLEANUP(cs_buf_free) deep = nested_lists(3000);
    assert_int_equal(unpack_value(&deep, &e), CS_INTERNAL);
    assert_string_equal(e.text, "grpc: error unmarshalling request: proto: exceeded maximum recursion depth");
}

/* A submessage that comes in two parts is merged, as the specification asks. */
static void parts_are_merged(void **state)
{
    (void)state;
    static const char wire[] = "\x12\x05\x0a\x03"
                               "one"
                               "\x12\x04\x12\x02/p"
                               "\x12\x05\x0a\x03"
                               "two";
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    ProtobufCMessage *m;
    assert_int_equal(proto_unpack(a, &types__entry__descriptor, W(wire), &m, NULL), CS_OK);
    Types__Entry *en = (Types__Entry *)m;
    assert_string_equal(en->spiffe_id->trust_domain, "two");
    assert_string_equal(en->spiffe_id->path, "/p");
}

/* Two bytes of wire make a whole message: the arena's limit holds that in bounds. */
static void memory_is_limited(void **state)
{
    (void)state;
    struct cs_buf CS_CLEANUP(cs_buf_free) wire = {0};
    for (int i = 0; i < 100000; i++)
        cs_buf_add(&wire, "\x22\x00", 2);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 1 << 20);
    ProtobufCMessage *m;
    struct cs_err e;
    assert_int_equal(proto_unpack(a, &types__entry__descriptor, cs_buf_slice(&wire), &m, &e), CS_EXHAUSTED);
    assert_null(m);
    CS_AUTO(cs_arena) large = cs_arena_new(0, 64 << 20);
    assert_int_equal(proto_unpack(large, &types__entry__descriptor, cs_buf_slice(&wire), &m, &e), CS_OK);
    assert_int_equal(((Types__Entry *)m)->n_selectors, 100000);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct cs_buf CS_CLEANUP(cs_buf_free) wire = {0};
    for (int i = 0; i < 200; i++)
        cs_buf_add(&wire, "\x22\x0a\x0a\x04unix\x12\x02id\xfa\x07\x03zzz", 18);
    ProtobufCMessage *m;
    size_t n = 0;
    cs_code code;
    do {
        CS_AUTO(cs_arena) a = cs_arena_new(64, 0);
        (void)cs_mem_fail_at(++n, true);
        code = proto_unpack(a, &types__entry__descriptor, cs_buf_slice(&wire), &m, NULL);
        (void)cs_mem_fail_at(0, false);
        assert_true(code == CS_OK || (code == CS_EXHAUSTED && m == NULL));
    } while (code != CS_OK);
    assert_true(n > 3);
}

static void packing_says_when_it_cannot(void **state)
{
    (void)state;
    Types__SPIFFEID id = TYPES__SPIFFEID__INIT;
    id.trust_domain = (char *)"example.org";
    struct cs_err e;
    struct cs_buf CS_CLEANUP(cs_buf_free) small = {.max = 12};
    assert_int_equal(proto_pack(&id.base, &small, &e), CS_INTERNAL);
    struct cs_buf CS_CLEANUP(cs_buf_free) exact = {.max = 13};
    assert_int_equal(proto_pack(&id.base, &exact, &e), CS_OK);
    assert_int_equal(exact.len, 13);
    Types__SPIFFEID nothing = TYPES__SPIFFEID__INIT;
    assert_int_equal(proto_pack(&nothing.base, &exact, &e), CS_OK); /* needs no room */
    assert_int_equal(exact.len, 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entry_there_and_back),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(unknown_fields_are_kept),
        cmocka_unit_test(refuses_malformed),
        cmocka_unit_test(strings_are_checked_where_they_hide),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(parts_are_merged),
        cmocka_unit_test(memory_is_limited),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(packing_says_when_it_cannot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
