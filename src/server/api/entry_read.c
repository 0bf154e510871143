/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry service: counting, listing and getting entries. Source: SPIRE's pkg/server/api/entry/v1.
 */
#include "server/api/entry.h"
#include "server/entrycache/wire.h"

/* A list without a page size is read in pieces of this many rows, to bound memory. */
#define LIST_CHUNK 500

cs_code entry_count(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                    struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Entryv1__CountEntriesRequest *req;
    CS_TRY(api_unpack(c, &entryv1__count_entries_request__descriptor, request, (void **)&req, e));
    struct ds_entry_filter filter = {0};
    if (req->filter != NULL) {
        const Entryv1__CountEntriesRequest__Filter *f = req->filter;
        const struct entry_filter in = {f->by_spiffe_id,      f->by_parent_id, f->by_selectors,
                                        f->by_federates_with, f->by_hint,      f->by_downstream};
        CS_TRY(entry_filter_convert(c, &in, &filter, e));
    }
    int32_t count = 0;
    if (entry_filter_check(&filter, e) != CS_OK || ds_entry_count(a->cfg.ds, &filter, &count, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to count entries");
    api_audit(c);
    wire_int(response, 1, count);
    return CS_OK;
}

/* --- ListEntries --- */
struct list {
    struct api_call *c;
    struct cs_buf *response;
    struct cs_buf wire; /* of one entry, reused */
    uint32_t mask;
};

static cs_code list_one(void *arg, const struct ds_entry *en, struct cs_err *e)
{
    struct list *l = arg;
    cs_buf_reset(&l->wire);
    if (convert_entry_write(&l->wire, en, e) != CS_OK) {
        struct cs_buf msg CS_CLEANUP(cs_buf_free) = {0};
        cs_buf_printf(&msg, "Failed to convert entry: \"%s\"", en->entry_id);
        API_LOG(l->c, CS_LOG_ERROR, cs_buf_cstr(&msg), KV_ERR(e));
        return CS_OK;
    }
    entry_wire_append(l->response, 1, cs_buf_slice(&l->wire), l->mask);
    return cs_buf_ok(l->response) ? CS_OK : cs_nomem(e);
}

static cs_code list_page(struct list *l, struct cs_arena *arena, const struct ds_entry_filter *filter,
                         const struct ds_page *page, const char **next, struct cs_err *e)
{
    struct ds_entry *entries = NULL;
    size_t n = 0;
    CS_TRY(ds_entry_list(l->c->api->cfg.ds, arena, filter, page, &entries, &n, next, e));
    for (size_t i = 0; i < n; i++)
        CS_TRY(list_one(l, &entries[i], e));
    return CS_OK;
}

static cs_code list_all(struct list *l, const struct ds_entry_filter *filter, struct cs_err *e)
{
    CS_AUTO(cs_arena) one = cs_arena_new(0, SIZE_MAX);
    CS_AUTO(cs_arena) other = cs_arena_new(0, SIZE_MAX); /* the token lives in the page before */
    if (one == NULL || other == NULL)
        return cs_nomem(e);
    struct ds_page page = {.token = "", .size = LIST_CHUNK};
    do {
        const char *next = "";
        cs_arena_reset(one);
        CS_TRY(list_page(l, one, filter, &page, &next, e));
        page.token = next;
        struct cs_arena *swap = one;
        one = other;
        other = swap;
    } while (page.token[0] != '\0');
    return CS_OK;
}

static cs_code list_entries(struct list *l, const Entryv1__ListEntriesRequest *req,
                            const struct ds_entry_filter *filter, struct cs_err *e)
{
    const char *next = "";
    CS_TRY(entry_filter_check(filter, e));
    if (req->page_size > 0) {
        const struct ds_page page = {.token = req->page_token, .size = req->page_size};
        CS_TRY(list_page(l, l->c->arena, filter, &page, &next, e));
    } else if (req->filter == NULL) {
        CS_TRY(ds_entries_each(l->c->api->cfg.ds, list_one, l, e));
    } else {
        CS_TRY(list_all(l, filter, e));
    }
    wire_str(l->response, 2, cs_slice_str(next));
    return CS_OK;
}

cs_code entry_list(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                   struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Entryv1__ListEntriesRequest *req;
    CS_TRY(api_unpack(c, &entryv1__list_entries_request__descriptor, request, (void **)&req, e));
    struct ds_entry_filter filter = {0};
    if (req->filter != NULL) {
        const Entryv1__ListEntriesRequest__Filter *f = req->filter;
        const struct entry_filter in = {f->by_spiffe_id,      f->by_parent_id, f->by_selectors,
                                        f->by_federates_with, f->by_hint,      f->by_downstream};
        CS_TRY(entry_filter_convert(c, &in, &filter, e));
    }
    struct list l = {.c = c, .response = response, .mask = convert_entry_mask(req->output_mask)};
    cs_code code = list_entries(&l, req, &filter, e);
    cs_buf_free(&l.wire);
    if (code != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to list entries");
    api_audit(c);
    return CS_OK;
}

cs_code entry_get(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                  struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Entryv1__GetEntryRequest *req;
    CS_TRY(api_unpack(c, &entryv1__get_entry_request__descriptor, request, (void **)&req, e));
    if (req->id[0] == '\0')
        return api_fail(c, e, CS_INVALID, "missing ID");
    api_audit_add(c, KV("entry_id", req->id));
    api_field(c, KV("entry_id", req->id));
    struct ds_entry *en = NULL;
    if (ds_entry_fetch(a->cfg.ds, c->arena, req->id, &en, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to fetch entry");
    if (en == NULL)
        return api_fail(c, e, CS_NOT_FOUND, "entry not found");
    struct cs_buf wire CS_CLEANUP(cs_buf_free) = {0};
    if (convert_entry_write(&wire, en, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to convert entry");
    entry_wire_fields(response, cs_buf_slice(&wire), convert_entry_mask(req->output_mask));
    api_audit(c);
    return CS_OK;
}

cs_code entry_get_authorized(struct rpc_call *call, void *service, struct cs_slice request,
                             struct cs_buf *response, struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    Entryv1__GetAuthorizedEntriesRequest *req;
    CS_TRY(api_unpack(c, &entryv1__get_authorized_entries_request__descriptor, request, (void **)&req, e));
    struct entry_list list CS_CLEANUP(entry_list_free) = {0};
    if (entrycache_authorized(a->entries, api_peer_path(c->peer), c->agent->selectors, &list, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to fetch entries");
    uint32_t mask = convert_entry_mask(req->output_mask);
    for (size_t i = 0; i < list.len; i++)
        entry_append(response, 1, list.at[i], mask);
    api_audit(c);
    return CS_OK;
}
