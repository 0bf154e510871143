/* SPDX-License-Identifier: Apache-2.0
 *
 * Identities, selectors and agents.
 */
#include "server/api/convert.h"

#include "server/entrycache/wire.h"

cs_code convert_id(struct cs_arena *a, const Types__SPIFFEID *in, struct spiffe_id *out, struct cs_err *e)
{
    *out = (struct spiffe_id){0};
    if (in == NULL)
        return cs_fail(e, CS_INVALID, "request must specify SPIFFE ID");
    return spiffe_id_make(a, cs_slice_str(in->trust_domain), cs_slice_str(in->path), out, e);
}

cs_code convert_member_id(struct cs_arena *a, struct cs_slice td, const Types__SPIFFEID *in,
                          struct spiffe_id *out, struct cs_err *e)
{
    CS_TRY(convert_id(a, in, out, e));
    return spiffe_id_check_member(*out, td, e);
}

cs_code convert_workload_id(struct cs_arena *a, struct cs_slice td, const Types__SPIFFEID *in,
                            struct spiffe_id *out, struct cs_err *e)
{
    CS_TRY(convert_id(a, in, out, e));
    return spiffe_id_check_workload(*out, td, e);
}

cs_code convert_agent_id(struct cs_arena *a, struct cs_slice td, const Types__SPIFFEID *in,
                         struct spiffe_id *out, struct cs_err *e)
{
    CS_TRY(convert_id(a, in, out, e));
    return spiffe_id_check_agent(*out, td, e);
}

void convert_id_write(struct cs_buf *b, uint32_t field, struct cs_slice td, struct cs_slice path)
{
    wire_len(b, field, wire_str_size(td.len) + wire_str_size(path.len));
    wire_str(b, 1, td);
    wire_str(b, 2, path);
}

cs_code convert_td(struct cs_arena *a, const char *in, const char **id, struct cs_err *e)
{
    *id = NULL;
    struct cs_slice name;
    CS_TRY(spiffe_td_parse(cs_slice_str(in), &name, e));
    *id = cs_arena_printf(a, "spiffe://%.*s", (int)name.len, (const char *)name.data);
    return *id != NULL ? CS_OK : cs_nomem(e);
}

cs_code convert_selectors(struct cs_arena *a, Types__Selector *const *in, size_t n,
                          const struct ds_selector **out, struct cs_err *e)
{
    *out = NULL;
    if (n == 0)
        return CS_OK;
    struct ds_selector *list = cs_arena_alloc(a, n * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        if (in[i]->type[0] == '\0')
            return cs_fail(e, CS_INVALID, "missing selector type");
        if (strchr(in[i]->type, ':') != NULL)
            return cs_fail(e, CS_INVALID, "selector type contains ':'");
        if (in[i]->value[0] == '\0')
            return cs_fail(e, CS_INVALID, "missing selector value");
        list[i] = (struct ds_selector){in[i]->type, in[i]->value};
    }
    *out = list;
    return CS_OK;
}

const char *convert_selectors_text(struct cs_arena *a, Types__Selector *const *in, size_t n)
{
    struct cs_buf b CS_CLEANUP(cs_buf_free) = {0};
    for (size_t i = 0; i < n; i++)
        cs_buf_printf(&b, "%s%s:%s", i > 0 ? "," : "", in[i]->type, in[i]->value);
    const char *text = cs_buf_ok(&b) ? cs_arena_strndup(a, (const char *)b.data, b.len) : NULL;
    return text != NULL ? text : "";
}

/* --- Agents: spire.api.types.Agent --- */
static void selectors_write(struct cs_buf *b, const struct ds_selector *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct cs_slice type = cs_slice_str(s[i].type), value = cs_slice_str(s[i].value);
        wire_len(b, 5, wire_str_size(type.len) + wire_str_size(value.len));
        wire_str(b, 1, type);
        wire_str(b, 2, value);
    }
}

cs_code convert_agent_message(struct cs_buf *b, const struct ds_node *in, const Types__AgentMask *mask,
                              struct cs_err *e)
{
    struct spiffe_id id;
    CS_TRY(spiffe_id_parse(cs_slice_str(in->spiffe_id), &id, e));
    convert_id_write(b, 1, spiffe_id_td(id), spiffe_id_path(id));
    if (mask == NULL || mask->attestation_type)
        wire_str(b, 2, cs_slice_str(in->attestation_type));
    if (mask == NULL || mask->x509svid_serial_number)
        wire_str(b, 3, cs_slice_str(in->serial_number));
    if (mask == NULL || mask->x509svid_expires_at)
        wire_int(b, 4, in->expires_at);
    if (mask == NULL || mask->selectors)
        selectors_write(b, in->selectors, in->n_selectors);
    if (mask == NULL || mask->banned)
        wire_int(b, 6, in->serial_number[0] == '\0');
    if (mask == NULL || mask->can_reattest)
        wire_int(b, 7, in->can_reattest);
    if (mask == NULL || mask->agent_version)
        wire_str(b, 8, cs_slice_str(in->agent_version));
    return CS_OK;
}

cs_code convert_agent_write(struct cs_buf *b, uint32_t field, const struct ds_node *in,
                            const Types__AgentMask *mask, struct cs_err *e)
{
    struct cs_buf message CS_CLEANUP(cs_buf_free) = {0};
    CS_TRY(convert_agent_message(&message, in, mask, e));
    if (!cs_buf_ok(&message))
        return cs_nomem(e);
    wire_bytes(b, field, cs_buf_slice(&message));
    return CS_OK;
}
