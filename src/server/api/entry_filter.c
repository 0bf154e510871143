/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api/entry.h"

static const char *match_name(int match)
{
    static const char *const names[] = {"MATCH_EXACT", "MATCH_SUBSET", "MATCH_SUPERSET", "MATCH_ANY"};
    return match >= 0 && match < 4 ? names[match] : "UNKNOWN";
}

static void audit_fields(struct api_call *c, const struct entry_filter *in)
{
    struct spiffe_id id;
    if (!c->audit)
        return;
    if (in->by_hint != NULL)
        api_audit_add(c, KV("hint", in->by_hint->value));
    if (in->by_parent_id != NULL &&
        convert_member_id(c->arena, c->api->td, in->by_parent_id, &id, NULL) == CS_OK)
        api_audit_add(c, KV("parent_id", convert_id_text(id)));
    if (in->by_spiffe_id != NULL &&
        convert_workload_id(c->arena, c->api->td, in->by_spiffe_id, &id, NULL) == CS_OK)
        api_audit_add(c, KV("spiffe_id", convert_id_text(id)));
    if (in->by_selectors != NULL) {
        const Types__SelectorMatch *m = in->by_selectors;
        api_audit_add(c, KV("by_selector_match", match_name((int)m->match)));
        api_audit_add(c, KV("by_selectors", convert_selectors_text(c->arena, m->selectors, m->n_selectors)));
    }
    if (in->by_federates_with != NULL) {
        const Types__FederatesWithMatch *m = in->by_federates_with;
        api_audit_add(c, KV("federates_with_match", match_name((int)m->match)));
        api_audit_add(c, KV("federates_with", api_joined(c, m->trust_domains, m->n_trust_domains)));
    }
    if (in->by_downstream != NULL)
        api_audit_add(c, KV_BOOL("downstream", in->by_downstream->value));
}

static cs_code take_selectors(struct api_call *c, const Types__SelectorMatch *in, struct ds_entry_filter *out,
                              struct cs_err *e)
{
    CS_TRY(convert_selectors(c->arena, in->selectors, in->n_selectors, &out->selectors, e));
    if (in->n_selectors == 0)
        return cs_fail(e, CS_INVALID, "empty selector set");
    out->by_selectors = true;
    out->selectors_match = (enum ds_match)in->match;
    out->n_selectors = in->n_selectors;
    return CS_OK;
}

static cs_code take_federates(struct api_call *c, const Types__FederatesWithMatch *in,
                              struct ds_entry_filter *out, struct cs_err *e)
{
    size_t n = in->n_trust_domains;
    if (n == 0)
        return cs_fail(e, CS_INVALID, "empty trust domain set");
    const char **list = cs_arena_alloc(c->arena, n * sizeof *list);
    if (list == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++)
        CS_TRY(convert_td(c->arena, in->trust_domains[i], &list[i], e));
    out->by_federates_with = true;
    out->federates_match = (enum ds_match)in->match;
    out->federates_with = list;
    out->n_federates_with = n;
    return CS_OK;
}

cs_code entry_filter_convert(struct api_call *c, const struct entry_filter *in, struct ds_entry_filter *out,
                             struct cs_err *e)
{
    struct spiffe_id id;
    *out = (struct ds_entry_filter){0};
    audit_fields(c, in);
    if (in->by_hint != NULL)
        out->hint = in->by_hint->value;
    if (in->by_parent_id != NULL) {
        if (convert_member_id(c->arena, c->api->td, in->by_parent_id, &id, e) != CS_OK)
            return api_fail_cause(c, e, CS_INVALID, "malformed parent ID filter");
        out->parent_id = convert_id_text(id);
    }
    if (in->by_spiffe_id != NULL) {
        if (convert_workload_id(c->arena, c->api->td, in->by_spiffe_id, &id, e) != CS_OK)
            return api_fail_cause(c, e, CS_INVALID, "malformed SPIFFE ID filter");
        out->spiffe_id = convert_id_text(id);
    }
    if (in->by_selectors != NULL && take_selectors(c, in->by_selectors, out, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "malformed selectors filter");
    if (in->by_federates_with != NULL && take_federates(c, in->by_federates_with, out, e) != CS_OK)
        return api_fail_cause(c, e, CS_INVALID, "malformed federates with filter");
    if (in->by_downstream != NULL)
        out->downstream = in->by_downstream->value ? DS_YES : DS_NO;
    return CS_OK;
}

cs_code entry_filter_check(const struct ds_entry_filter *f, struct cs_err *e)
{
    if (f->by_selectors && (unsigned)f->selectors_match > DS_MATCH_ANY)
        return cs_fail(e, CS_INTERNAL, "datastore-sql: unhandled selectors match behavior '\\x%02x'",
                       (unsigned)f->selectors_match);
    if (f->by_federates_with && (unsigned)f->federates_match > DS_MATCH_ANY)
        return cs_fail(e, CS_INTERNAL, "datastore-sql: unhandled federates with match behavior '\\x%02x'",
                       (unsigned)f->federates_match);
    return CS_OK;
}
