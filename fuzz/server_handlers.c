/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests of the server's API as they come from the network: parse, then everything a handler does
 * with them before it asks the datastore or signs. The first byte chooses the message.
 */
#include "crypto/x509_csr.h"
#include "proto/proto.h"
#include "server/api/convert.h"
#include "server/entrycache/entrycache.h"
#include "server/entrycache/wire.h"
#include "spiffe/x509svid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct cs_slice td = {(const uint8_t *)"example.org", 11};

static void *unpack(struct cs_arena *a, const ProtobufCMessageDescriptor *d, struct cs_slice in)
{
    ProtobufCMessage *m = NULL;
    return proto_unpack(a, d, in, &m, NULL) == CS_OK ? m : NULL;
}

/* What was accepted must be storable, cacheable and readable again. */
static void check_accepted(struct cs_arena *a, const struct ds_entry *accepted)
{
    struct cs_buf wire CS_CLEANUP(cs_buf_free) = {0};
    struct ds_entry in = *accepted;
    CS_AUTO(entry) en = NULL;
    in.entry_id = in.entry_id[0] != '\0' ? in.entry_id : "id";
    if (strlen(in.entry_id) > 255 || convert_entry_write(&wire, &in, NULL) != CS_OK)
        return;
    if (unpack(a, &types__entry__descriptor, cs_buf_slice(&wire)) == NULL)
        __builtin_trap();
    if (entry_new(cs_buf_slice(&wire), &en, NULL) == CS_OK && !cs_slice_is(entry_id(en), in.entry_id))
        __builtin_trap();
}

static void entries(struct cs_arena *a, Types__Entry *const *list, size_t n, const Types__EntryMask *mask)
{
    for (size_t i = 0; i < n; i++) {
        struct ds_entry out;
        if (convert_entry(a, td, list[i], mask, &out, NULL) == CS_OK && mask == NULL)
            check_accepted(a, &out);
    }
    (void)convert_entry_mask(mask);
}

static void selectors(struct cs_arena *a, const Types__SelectorMatch *m)
{
    const struct ds_selector *out;
    if (m == NULL)
        return;
    cs_code code = convert_selectors(a, m->selectors, m->n_selectors, &out, NULL);
    (void)code;
    (void)convert_selectors_text(a, m->selectors, m->n_selectors);
}

static void ids(struct cs_arena *a, const Types__SPIFFEID *in)
{
    struct spiffe_id id;
    cs_code codes[] = {convert_member_id(a, td, in, &id, NULL), convert_workload_id(a, td, in, &id, NULL),
                       convert_agent_id(a, td, in, &id, NULL)};
    (void)codes;
}

static void csr(struct cs_slice der)
{
    struct x509_csr c;
    struct spiffe_id id;
    if (x509_csr_parse(der, &c, NULL) != CS_OK)
        return;
    struct cs_rd it = x509_san_begin(&c.ext.san);
    enum x509_san_kind kind;
    struct cs_slice value;
    while (x509_san_next(&it, &kind, &value)) {
        cs_code code =
            kind == X509_SAN_URI ? spiffe_id_parse(value, &id, NULL) : spiffe_dns_name_check(value, NULL);
        (void)code;
    }
    struct cs_buf text CS_CLEANUP(cs_buf_free) = {0};
    cs_code code = x509_name_text(&text, c.subject, NULL);
    code = x509_csr_verify(&c, NULL);
    (void)code;
}

static void raw_entry(struct cs_slice in)
{
    CS_AUTO(entry) en = NULL;
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    uint32_t mask = in.len >= 4 ? (uint32_t)in.data[0] << 8 | in.data[1] : ENTRY_ALL_FIELDS;
    entry_wire_append(&out, 1, in, mask);
    if (entry_new(in, &en, NULL) == CS_OK)
        entry_append(&out, 2, en, mask);
    struct cs_rd r = cs_rd_of(cs_buf_slice(&out));
    struct wire_field f;
    while (wire_next(&r, &f))
        continue;
    if (cs_rd_left(&r) != 0)
        __builtin_trap(); /* what we write must be well-formed */
}

static void bundles(struct cs_arena *a, Types__Bundle *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct ds_bundle out;
        struct cs_buf message CS_CLEANUP(cs_buf_free) = {0};
        if (convert_bundle(a, list[i], &out, NULL) == CS_OK &&
            convert_bundle_message(&message, &out, NULL, NULL) != CS_OK)
            __builtin_trap();
    }
}

static void entry_requests(struct cs_arena *a, uint8_t which, struct cs_slice in)
{
    if (which == 0) {
        const Entryv1__BatchCreateEntryRequest *r =
            unpack(a, &entryv1__batch_create_entry_request__descriptor, in);
        if (r != NULL)
            entries(a, r->entries, r->n_entries, NULL);
    } else if (which == 1) {
        const Entryv1__BatchUpdateEntryRequest *r =
            unpack(a, &entryv1__batch_update_entry_request__descriptor, in);
        if (r != NULL)
            entries(a, r->entries, r->n_entries, r->input_mask);
    } else if (which == 2) {
        const Entryv1__ListEntriesRequest *r = unpack(a, &entryv1__list_entries_request__descriptor, in);
        if (r != NULL && r->filter != NULL) {
            selectors(a, r->filter->by_selectors);
            ids(a, r->filter->by_spiffe_id);
            ids(a, r->filter->by_parent_id);
        }
    } else {
        raw_entry(in);
    }
}

static void other_requests(struct cs_arena *a, uint8_t which, struct cs_slice in)
{
    if (which == 4) {
        const Bundlev1__BatchCreateFederatedBundleRequest *r =
            unpack(a, &bundlev1__batch_create_federated_bundle_request__descriptor, in);
        if (r != NULL)
            bundles(a, r->bundle, r->n_bundle);
    } else if (which == 5) {
        const Svidv1__BatchNewX509SVIDRequest *r =
            unpack(a, &svidv1__batch_new_x509_svidrequest__descriptor, in);
        for (size_t i = 0; r != NULL && i < r->n_params; i++)
            csr(convert_bytes(r->params[i]->csr));
    } else if (which == 6) {
        const Agentv1__AttestAgentRequest *r = unpack(a, &agentv1__attest_agent_request__descriptor, in);
        if (r != NULL && r->step_case == AGENTV1__ATTEST_AGENT_REQUEST__STEP_PARAMS &&
            r->params->params != NULL)
            csr(convert_bytes(r->params->params->csr));
    } else {
        const Agentv1__CreateJoinTokenRequest *r =
            unpack(a, &agentv1__create_join_token_request__descriptor, in);
        if (r != NULL)
            ids(a, r->agent_id);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct cs_slice in = cs_slice_of(data + 1, size - 1);
    uint8_t which = data[0] % 8;
    if (a == NULL)
        return 0;
    if (which < 4)
        entry_requests(a, which, in);
    else
        other_requests(a, which, in);
    return 0;
}
