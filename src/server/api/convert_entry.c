/* SPDX-License-Identifier: Apache-2.0
 *
 * Registration entries.
 */
#include "server/api/convert.h"
#include "server/entrycache/entrycache.h"
#include "server/entrycache/wire.h"
#include "spiffe/x509svid.h"

#define HINT_MAX 1024

/* --- To the wire --- */
static cs_code id_write(struct cs_buf *b, uint32_t field, const char *text, const char *what,
                        struct cs_err *e)
{
    struct spiffe_id id;
    if (spiffe_id_parse(cs_slice_str(text), &id, e) != CS_OK)
        return cs_wrap(e, "invalid %s", what);
    convert_id_write(b, field, spiffe_id_td(id), spiffe_id_path(id));
    return CS_OK;
}

static void selectors_write(struct cs_buf *b, const struct ds_entry *in)
{
    for (size_t i = 0; i < in->n_selectors; i++) {
        struct cs_slice type = cs_slice_str(in->selectors[i].type),
                        value = cs_slice_str(in->selectors[i].value);
        wire_len(b, ENTRY_SELECTORS, wire_str_size(type.len) + wire_str_size(value.len));
        wire_str(b, 1, type);
        wire_str(b, 2, value);
    }
}

static cs_code federates_write(struct cs_buf *b, const struct ds_entry *in, struct cs_err *e)
{
    for (size_t i = 0; i < in->n_federates_with; i++) {
        struct cs_slice name;
        if (spiffe_td_parse(cs_slice_str(in->federates_with[i]), &name, e) != CS_OK)
            return cs_wrap(e, "invalid federated trust domain");
        wire_bytes(b, ENTRY_FEDERATES_WITH, name);
    }
    return CS_OK;
}

static void attributes_write(struct cs_buf *b, const struct ds_entry *in)
{
    if (!in->has_attributes)
        return;
    wire_len(b, ENTRY_ATTRIBUTES, 0);
    size_t at = b->len;
    wire_int(b, 1, in->disable_x509_svid_prefetch);
    wire_int(b, 2, in->jwt_svid_include_jti);
    if (cs_buf_ok(b))
        b->data[at - 1] = (uint8_t)(b->len - at); /* at most four bytes */
}

static cs_code fields_write(struct cs_buf *b, const struct ds_entry *in, struct cs_err *e)
{
    wire_str(b, ENTRY_ID, cs_slice_str(in->entry_id));
    CS_TRY(id_write(b, ENTRY_SPIFFE_ID, in->spiffe_id, "SPIFFE ID", e));
    CS_TRY(id_write(b, ENTRY_PARENT_ID, in->parent_id, "parent ID", e));
    selectors_write(b, in);
    wire_int(b, ENTRY_X509_SVID_TTL, in->x509_svid_ttl);
    CS_TRY(federates_write(b, in, e));
    wire_int(b, ENTRY_ADMIN, in->admin);
    wire_int(b, ENTRY_DOWNSTREAM, in->downstream);
    wire_int(b, ENTRY_EXPIRES_AT, in->expires_at);
    for (size_t i = 0; i < in->n_dns_names; i++)
        wire_bytes(b, ENTRY_DNS_NAMES, cs_slice_str(in->dns_names[i]));
    wire_int(b, ENTRY_REVISION_NUMBER, in->revision_number);
    wire_int(b, ENTRY_STORE_SVID, in->store_svid);
    wire_int(b, ENTRY_JWT_SVID_TTL, in->jwt_svid_ttl);
    wire_str(b, ENTRY_HINT, cs_slice_str(in->hint));
    wire_int(b, ENTRY_CREATED_AT, in->created_at);
    attributes_write(b, in);
    return CS_OK;
}

cs_code convert_entry_write(struct cs_buf *b, const struct ds_entry *in, struct cs_err *e)
{
    size_t before = b->len;
    cs_code code = fields_write(b, in, e);
    if (code != CS_OK)
        b->len = before;
    else if (!cs_buf_ok(b))
        code = cs_nomem(e);
    return code;
}

uint32_t convert_entry_mask(const Types__EntryMask *m)
{
    if (m == NULL)
        return ENTRY_ALL_FIELDS;
    const struct {
        bool on;
        uint32_t field;
    } rows[] = {
        {m->spiffe_id, ENTRY_SPIFFE_ID},
        {m->parent_id, ENTRY_PARENT_ID},
        {m->selectors, ENTRY_SELECTORS},
        {m->x509_svid_ttl, ENTRY_X509_SVID_TTL},
        {m->federates_with, ENTRY_FEDERATES_WITH},
        {m->admin, ENTRY_ADMIN},
        {m->downstream, ENTRY_DOWNSTREAM},
        {m->expires_at, ENTRY_EXPIRES_AT},
        {m->dns_names, ENTRY_DNS_NAMES},
        {m->revision_number, ENTRY_REVISION_NUMBER},
        {m->store_svid, ENTRY_STORE_SVID},
        {m->jwt_svid_ttl, ENTRY_JWT_SVID_TTL},
        {m->hint, ENTRY_HINT},
        {m->created_at, ENTRY_CREATED_AT},
        {m->additional_attributes, ENTRY_ATTRIBUTES},
    };
    uint32_t mask = ENTRY_FIELD(ENTRY_ID);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].on)
            mask |= ENTRY_FIELD(rows[i].field);
    return mask;
}

void convert_entry_input_mask(const Types__EntryMask *m, struct ds_entry_mask *out)
{
    *out = (struct ds_entry_mask){
        .selectors = m->selectors,
        .parent_id = m->parent_id,
        .spiffe_id = m->spiffe_id,
        .x509_svid_ttl = m->x509_svid_ttl,
        .jwt_svid_ttl = m->jwt_svid_ttl,
        .federates_with = m->federates_with,
        .admin = m->admin,
        .downstream = m->downstream,
        .expires_at = m->expires_at,
        .dns_names = m->dns_names,
        .store_svid = m->store_svid,
        .hint = m->hint,
        .attributes = m->additional_attributes,
    };
}

/* --- From the message --- */
static cs_code take_ids(struct cs_arena *a, struct cs_slice td, const Types__Entry *in,
                        const Types__EntryMask *m, struct ds_entry *out, struct cs_err *e)
{
    struct spiffe_id id;
    if (m == NULL || m->parent_id) {
        if (convert_member_id(a, td, in->parent_id, &id, e) != CS_OK)
            return cs_wrap(e, "invalid parent ID");
        out->parent_id = convert_id_text(id);
    }
    if (m == NULL || m->spiffe_id) {
        if (convert_workload_id(a, td, in->spiffe_id, &id, e) != CS_OK)
            return cs_wrap(e, "invalid spiffe ID");
        out->spiffe_id = convert_id_text(id);
    }
    return CS_OK;
}

static cs_code take_dns_names(const Types__Entry *in, struct ds_entry *out, struct cs_err *e)
{
    for (size_t i = 0; i < in->n_dns_names; i++)
        if (spiffe_dns_name_check(cs_slice_str(in->dns_names[i]), e) != CS_OK)
            return cs_wrap(e, "invalid DNS name");
    out->dns_names = (const char *const *)in->dns_names;
    out->n_dns_names = in->n_dns_names;
    return CS_OK;
}

static cs_code take_federates(struct cs_arena *a, const Types__Entry *in, struct ds_entry *out,
                              struct cs_err *e)
{
    if (in->n_federates_with == 0)
        return CS_OK;
    const char **list = cs_arena_alloc(a, in->n_federates_with * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < in->n_federates_with; i++)
        if (convert_td(a, in->federates_with[i], &list[i], e) != CS_OK)
            return cs_wrap(e, "invalid federated trust domain");
    out->federates_with = list;
    out->n_federates_with = in->n_federates_with;
    return CS_OK;
}

static cs_code take_hint(const Types__Entry *in, struct ds_entry *out, struct cs_err *e)
{
    if (strlen(in->hint) > HINT_MAX)
        return cs_fail(e, CS_INVALID, "hint is too long, max length is %d characters", HINT_MAX);
    out->hint = in->hint;
    return CS_OK;
}

static cs_code take_selectors(struct cs_arena *a, const Types__Entry *in, struct ds_entry *out,
                              struct cs_err *e)
{
    if (in->n_selectors == 0)
        return cs_fail(e, CS_INVALID, "selector list is empty");
    CS_TRY(convert_selectors(a, in->selectors, in->n_selectors, &out->selectors, e));
    out->n_selectors = in->n_selectors;
    return CS_OK;
}

static void take_scalars(const Types__Entry *in, const Types__EntryMask *m, struct ds_entry *out)
{
    out->admin = (m == NULL || m->admin) && in->admin;
    out->downstream = (m == NULL || m->downstream) && in->downstream;
    out->store_svid = (m == NULL || m->store_svid) && in->store_svid;
    out->expires_at = m == NULL || m->expires_at ? in->expires_at : 0;
    out->revision_number = m == NULL || m->revision_number ? in->revision_number : 0;
    out->x509_svid_ttl = m == NULL || m->x509_svid_ttl ? in->x509_svid_ttl : 0;
    out->jwt_svid_ttl = m == NULL || m->jwt_svid_ttl ? in->jwt_svid_ttl : 0;
    const Types__Entry__AdditionalAttributes *more = in->additional_attributes;
    if ((m == NULL || m->additional_attributes) && more != NULL) {
        out->has_attributes = true;
        out->disable_x509_svid_prefetch = more->disable_x509_svid_prefetch;
        out->jwt_svid_include_jti = more->jwt_svid_include_jti;
    }
}

cs_code convert_entry(struct cs_arena *a, struct cs_slice td, const Types__Entry *in,
                      const Types__EntryMask *m, struct ds_entry *out, struct cs_err *e)
{
    *out = (struct ds_entry){.entry_id = in->id};
    CS_TRY(take_ids(a, td, in, m, out, e));
    if (m == NULL || m->dns_names)
        CS_TRY(take_dns_names(in, out, e));
    if (m == NULL || m->federates_with)
        CS_TRY(take_federates(a, in, out, e));
    if (m == NULL || m->selectors)
        CS_TRY(take_selectors(a, in, out, e));
    if (m == NULL || m->hint)
        CS_TRY(take_hint(in, out, e));
    take_scalars(in, m, out);
    return CS_OK;
}
