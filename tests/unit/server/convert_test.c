/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages to datastore values and back: the hand-written wire form is read by protobuf-c, and every
 * refusal names its field as SPIRE does.
 */
#include "proto/proto.h"
#include "server/api/convert.h"
#include "server/entrycache/entrycache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* after the three above */
#include <cmocka.h>

static const struct cs_slice td = {(const uint8_t *)"example.org", 11};

static const struct ds_selector selectors[] = {{"unix", "uid:1"}, {"k8s", "ns:a"}};
static const char *const federates[] = {"spiffe://a.test", "spiffe://b.test"};
static const char *const names[] = {"x.test", "y.test"};
static const struct ds_entry full = {
    .entry_id = "e1",
    .spiffe_id = "spiffe://example.org/w",
    .parent_id = "spiffe://example.org/p",
    .selectors = selectors,
    .n_selectors = 2,
    .federates_with = federates,
    .n_federates_with = 2,
    .dns_names = names,
    .n_dns_names = 2,
    .hint = "hint",
    .expires_at = 4102444800,
    .created_at = 1700000000,
    .revision_number = 3,
    .x509_svid_ttl = 600,
    .jwt_svid_ttl = -1,
    .admin = true,
    .downstream = true,
    .store_svid = true,
    .has_attributes = true,
    .disable_x509_svid_prefetch = true,
    .jwt_svid_include_jti = true,
};

static Types__Entry *unpack(struct cs_arena *a, struct cs_slice wire)
{
    ProtobufCMessage *m = NULL;
    assert_int_equal(proto_unpack(a, &types__entry__descriptor, wire, &m, NULL), CS_OK);
    return (Types__Entry *)(void *)m;
}

static void an_entry_reads_back_through_protobuf(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0}, again CS_CLEANUP(cs_buf_free) = {0};
    assert_int_equal(convert_entry_write(&b, &full, NULL), CS_OK);
    Types__Entry *m = unpack(a, cs_buf_slice(&b));
    assert_string_equal(m->id, "e1");
    assert_string_equal(m->spiffe_id->trust_domain, "example.org");
    assert_string_equal(m->parent_id->path, "/p");
    assert_string_equal(m->selectors[1]->value, "ns:a");
    assert_string_equal(m->federates_with[0], "a.test");
    assert_string_equal(m->dns_names[1], "y.test");
    assert_int_equal(m->jwt_svid_ttl, -1);
    assert_true(m->admin && m->downstream && m->store_svid);
    assert_int_equal(m->expires_at, 4102444800);
    assert_true(m->additional_attributes->jwt_svid_include_jti);
    /* The same bytes as protobuf-c writes: fields in order, defaults left out. */
    assert_int_equal(proto_pack(&m->base, &again, NULL), CS_OK);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.data, b.data, b.len);
}

static void an_entry_survives_the_round_trip(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0}, again CS_CLEANUP(cs_buf_free) = {0};
    assert_int_equal(convert_entry_write(&b, &full, NULL), CS_OK);
    struct ds_entry back;
    assert_int_equal(convert_entry(a, td, unpack(a, cs_buf_slice(&b)), NULL, &back, NULL), CS_OK);
    back.created_at = full.created_at; /* set by the datastore only */
    assert_int_equal(convert_entry_write(&again, &back, NULL), CS_OK);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.data, b.data, b.len);
}

static void attributes_that_are_all_false_are_still_there(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    struct ds_entry e = {.entry_id = "e",
                         .spiffe_id = full.spiffe_id,
                         .parent_id = full.parent_id,
                         .hint = "",
                         .has_attributes = true};
    assert_int_equal(convert_entry_write(&b, &e, NULL), CS_OK);
    assert_non_null(unpack(a, cs_buf_slice(&b))->additional_attributes);
    cs_buf_reset(&b);
    e.has_attributes = false;
    assert_int_equal(convert_entry_write(&b, &e, NULL), CS_OK);
    assert_null(unpack(a, cs_buf_slice(&b))->additional_attributes);
}

static void bad_stored_entries_leave_nothing_behind(void **state)
{
    (void)state;
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    struct cs_err e = {0};
    cs_buf_add_str(&b, "before");
    struct ds_entry bad = full;
    bad.spiffe_id = "nonsense";
    assert_int_equal(convert_entry_write(&b, &bad, &e), CS_INVALID);
    assert_string_equal(e.text, "invalid SPIFFE ID: scheme is missing or invalid");
    bad = full;
    bad.parent_id = "spiffe://";
    assert_int_equal(convert_entry_write(&b, &bad, &e), CS_INVALID);
    assert_string_equal(e.text, "invalid parent ID: trust domain is missing");
    const char *const worse[] = {"spiffe://A"};
    bad = full;
    bad.federates_with = worse;
    bad.n_federates_with = 1;
    assert_int_equal(convert_entry_write(&b, &bad, &e), CS_INVALID);
    assert_true(strncmp(e.text, "invalid federated trust domain: ", 32) == 0);
    assert_int_equal(b.len, 6);
}

/* --- Refusals --- */
struct parts {
    Types__Entry entry;
    Types__SPIFFEID id, parent;
    Types__Selector selector, *list[1];
    char *strings[1];
};

static void good(struct parts *p)
{
    types__entry__init(&p->entry);
    types__spiffeid__init(&p->id);
    types__spiffeid__init(&p->parent);
    types__selector__init(&p->selector);
    p->id.trust_domain = p->parent.trust_domain = (char *)"example.org";
    p->id.path = (char *)"/w";
    p->parent.path = (char *)"/p";
    p->selector.type = (char *)"unix";
    p->selector.value = (char *)"uid:1";
    p->list[0] = &p->selector;
    p->entry.spiffe_id = &p->id;
    p->entry.parent_id = &p->parent;
    p->entry.selectors = p->list;
    p->entry.n_selectors = 1;
}

static void refused(struct parts *p, const char *text)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct ds_entry out;
    struct cs_err e = {0};
    assert_int_equal(convert_entry(a, td, &p->entry, NULL, &out, &e), CS_INVALID);
    assert_string_equal(e.text, text);
}

static void each_refusal_names_its_field(void **state)
{
    (void)state;
    struct parts p;
    good(&p);
    p.entry.parent_id = NULL;
    refused(&p, "invalid parent ID: request must specify SPIFFE ID");
    good(&p);
    p.parent.path = (char *)"";
    refused(&p, "invalid parent ID: \"spiffe://example.org\" is not a member of trust domain "
                "\"example.org\"; path is empty");
    good(&p);
    p.id.trust_domain = (char *)"other.test";
    refused(&p,
            "invalid spiffe ID: \"spiffe://other.test/w\" is not a member of trust domain \"example.org\"");
    good(&p);
    p.id.path = (char *)"/spire/x";
    refused(&p, "invalid spiffe ID: \"spiffe://example.org/spire/x\" is not a workload in trust domain "
                "\"example.org\"; "
                "path is in the reserved namespace");
    good(&p);
    p.entry.n_selectors = 0;
    refused(&p, "selector list is empty");
    good(&p);
    p.selector.type = (char *)"";
    refused(&p, "missing selector type");
    good(&p);
    p.selector.type = (char *)"a:b";
    refused(&p, "selector type contains ':'");
    good(&p);
    p.selector.value = (char *)"";
    refused(&p, "missing selector value");
    good(&p);
    p.strings[0] = (char *)"";
    p.entry.dns_names = p.strings;
    p.entry.n_dns_names = 1;
    refused(&p, "invalid DNS name: empty or only whitespace");
    good(&p);
    p.strings[0] = (char *)"";
    p.entry.federates_with = p.strings;
    p.entry.n_federates_with = 1;
    refused(&p, "invalid federated trust domain: trust domain is missing");
    good(&p);
    char hint[1026];
    memset(hint, 'h', sizeof hint);
    hint[1025] = '\0';
    p.entry.hint = hint;
    refused(&p, "hint is too long, max length is 1024 characters");
}

static void a_mask_lets_other_fields_be_empty(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    Types__Entry in = TYPES__ENTRY__INIT;
    Types__EntryMask mask = TYPES__ENTRY_MASK__INIT;
    mask.hint = true;
    in.id = (char *)"e";
    in.hint = (char *)"new";
    in.admin = true;
    struct ds_entry out;
    assert_int_equal(convert_entry(a, td, &in, &mask, &out, NULL), CS_OK);
    assert_string_equal(out.hint, "new");
    assert_false(out.admin);
    assert_int_equal(convert_entry_mask(&mask), ENTRY_FIELD(ENTRY_ID) | ENTRY_FIELD(ENTRY_HINT));
    assert_true(convert_entry_mask(NULL) == ENTRY_ALL_FIELDS);
}

static void conversion_without_memory_fails_cleanly(void **state)
{
    (void)state;
    for (size_t n = 1; n < 30; n++) {
        cs_mem_fail_at(n, false);
        struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
        cs_code code = convert_entry_write(&b, &full, NULL);
        cs_mem_fail_at(0, false);
        assert_true(code == CS_OK || code == CS_INTERNAL);
    }
}

static void an_agent_reads_back_through_protobuf(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    const struct ds_node node = {.spiffe_id = "spiffe://example.org/spire/agent/x",
                                 .attestation_type = "join_token",
                                 .serial_number = "",
                                 .agent_version = "1",
                                 .expires_at = 5,
                                 .selectors = selectors,
                                 .n_selectors = 2};
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    assert_int_equal(convert_agent_message(&b, &node, NULL, NULL), CS_OK);
    ProtobufCMessage *m = NULL;
    assert_int_equal(proto_unpack(a, &types__agent__descriptor, cs_buf_slice(&b), &m, NULL), CS_OK);
    const Types__Agent *agent = (const Types__Agent *)(void *)m;
    assert_true(agent->banned && !agent->can_reattest);
    assert_int_equal(agent->n_selectors, 2);
    assert_string_equal(agent->id->path, "/spire/agent/x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_reads_back_through_protobuf),
        cmocka_unit_test(an_entry_survives_the_round_trip),
        cmocka_unit_test(attributes_that_are_all_false_are_still_there),
        cmocka_unit_test(bad_stored_entries_leave_nothing_behind),
        cmocka_unit_test(each_refusal_names_its_field),
        cmocka_unit_test(a_mask_lets_other_fields_be_empty),
        cmocka_unit_test(conversion_without_memory_fails_cleanly),
        cmocka_unit_test(an_agent_reads_back_through_protobuf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
