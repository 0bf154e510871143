/* SPDX-License-Identifier: Apache-2.0
 *
 * SyncAuthorizedEntries: how an agent learns its entries. Up to a page of entries goes out whole at
 * once and the call ends. Of more, the agent first gets ids and revisions, page by page, then asks for
 * those it does not have yet. Source: SPIRE's pkg/server/api/entry/v1/service.go.
 *
 * Nothing here waits for the peer: when the stream's send queue is full, sending goes on when rpc
 * says that there is room; requests that come meanwhile stand in line.
 */
#include "server/api/entry.h"
#include "server/entrycache/wire.h"

#include <stdlib.h>

#define PAGE 500
/* Bytes of requests that may stand in line. */
#define LINE_MAX_BYTES (8u << 20)

struct line {
    struct line *next;
    size_t len;
    uint8_t data[];
};

struct sync {
    struct entry_list list;
    uint32_t mask;
    bool started, sorted;
    bool half_closed;
    bool busy;            /* the send queue is full */
    size_t next_revision; /* first entry whose revision is not sent; list.len: done */
    /* The request being answered. */
    struct cs_arena *arena; /* NULL: none */
    struct cs_slice *ids;
    size_t id_count, next_id;
    struct line *first, **last;
    size_t line_bytes;
};

static void line_free(struct sync *s)
{
    for (struct line *next; s->first != NULL; s->first = next) {
        next = s->first->next;
        cs_free(s->first);
    }
}

static cs_code sync_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    struct api *a = service;
    struct api_call *c = api_call_of(call);
    struct sync *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    *state = s;
    s->last = &s->first;
    if (entrycache_authorized(a->entries, api_peer_path(c->peer), c->agent->selectors, &s->list, e) != CS_OK)
        return api_fail_cause(c, e, CS_INTERNAL, "failed to fetch entries");
    return CS_OK;
}

static void sync_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    struct sync *s = state;
    if (s == NULL)
        return;
    entry_list_free(&s->list);
    cs_arena_free(s->arena);
    line_free(s);
    cs_free(s);
}

/* --- Pages --- */
/* EntryRevision: 1 id, 2 revision_number, 3 created_at. */
static size_t number_size(int64_t v)
{
    return v != 0 ? 1 + wire_varint_size((uint64_t)v) : 0;
}

static void revision_write(struct cs_buf *b, const struct entry *en)
{
    struct cs_slice id = entry_id(en);
    int64_t revision = entry_revision(en), created = entry_created_at(en);
    wire_len(b, 1, wire_str_size(id.len) + number_size(revision) + number_size(created));
    wire_str(b, 1, id);
    wire_int(b, 2, revision);
    wire_int(b, 3, created);
}

static cs_code send_page(struct rpc_call *call, struct cs_buf *page, bool more, struct cs_err *e)
{
    wire_int(page, 3, more);
    if (!cs_buf_ok(page))
        return cs_nomem(e);
    return rpc_call_send(call, page);
}

static cs_code send_revisions(struct rpc_call *call, struct sync *s, struct cs_err *e)
{
    while (s->next_revision < s->list.len) {
        struct cs_buf page CS_CLEANUP(cs_buf_free) = {0};
        size_t end = s->list.len - s->next_revision > PAGE ? s->next_revision + PAGE : s->list.len;
        for (size_t i = s->next_revision; i < end; i++)
            revision_write(&page, s->list.at[i]);
        CS_TRY(send_page(call, &page, end < s->list.len, e));
        s->next_revision = end;
    }
    return CS_OK;
}

/* One page of wanted entries; *end is where the next page begins. False: there is no entry past it. */
static bool fill_page(const struct sync *s, struct cs_buf *page, size_t *end)
{
    size_t n = 0, from = 0;
    for (*end = s->next_id; *end < s->id_count; (*end)++) {
        size_t i = entry_list_find(&s->list, &from, s->ids[*end]);
        if (i == SIZE_MAX)
            continue;
        if (n++ == PAGE)
            return true;
        entry_append(page, 2, s->list.at[i], s->mask);
    }
    return false;
}

static cs_code send_entries(struct rpc_call *call, struct sync *s, struct cs_err *e)
{
    for (bool more = true; more;) {
        struct cs_buf page CS_CLEANUP(cs_buf_free) = {0};
        size_t end = 0;
        more = fill_page(s, &page, &end);
        CS_TRY(send_page(call, &page, more, e));
        s->next_id = end;
    }
    cs_arena_free(s->arena);
    s->arena = NULL;
    return CS_OK;
}

/* --- Requests --- */
static int by_bytes(const void *a, const void *b)
{
    const struct cs_slice *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int d = n > 0 ? memcmp(x->data, y->data, n) : 0;
    return d != 0 ? d : (x->len > y->len) - (x->len < y->len);
}

static cs_code take_ids(struct sync *s, const Entryv1__SyncAuthorizedEntriesRequest *req, struct cs_err *e)
{
    s->id_count = req->n_ids;
    s->next_id = 0;
    s->ids = cs_arena_alloc(s->arena, (req->n_ids + 1) * sizeof *s->ids);
    if (s->ids == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < req->n_ids; i++)
        s->ids[i] = cs_slice_str(req->ids[i]);
    qsort(s->ids, s->id_count, sizeof *s->ids, by_bytes);
    if (!s->sorted)
        entry_list_sort(&s->list);
    s->sorted = true;
    return CS_OK;
}

static cs_code begin_request(struct sync *s, struct cs_slice msg, struct cs_err *e)
{
    Entryv1__SyncAuthorizedEntriesRequest *req;
    s->arena = cs_arena_new(0, 0);
    if (s->arena == NULL)
        return cs_nomem(e);
    CS_TRY(proto_unpack(s->arena, &entryv1__sync_authorized_entries_request__descriptor, msg,
                        (ProtobufCMessage **)(void *)&req, e));
    return take_ids(s, req, e);
}

static cs_code first_request(struct rpc_call *call, struct sync *s, struct cs_slice msg, struct cs_err *e)
{
    Entryv1__SyncAuthorizedEntriesRequest *req;
    CS_TRY(api_unpack(api_call_of(call), &entryv1__sync_authorized_entries_request__descriptor, msg,
                      (void **)&req, e));
    if (req->n_ids > 0)
        return cs_fail(e, CS_INVALID, "specifying IDs on initial request is not supported");
    if (req->output_mask != NULL && !req->output_mask->revision_number)
        return cs_fail(e, CS_INVALID, "revision number cannot be masked");
    s->started = true;
    s->mask = convert_entry_mask(req->output_mask);
    if (s->list.len > PAGE)
        return CS_OK;
    struct cs_buf page CS_CLEANUP(cs_buf_free) = {0};
    for (size_t i = 0; i < s->list.len; i++)
        entry_append(&page, 2, s->list.at[i], s->mask);
    CS_TRY(send_page(call, &page, false, e));
    s->next_revision = s->list.len;
    api_audit(api_call_of(call));
    rpc_call_finish(call, CS_OK, "");
    return CS_OK;
}

static bool next_in_line(struct sync *s, cs_code *code, struct cs_err *e)
{
    struct line *l = s->first;
    if (l == NULL)
        return false;
    s->first = l->next;
    if (s->first == NULL)
        s->last = &s->first;
    s->line_bytes -= l->len;
    *code = begin_request(s, cs_slice_of(l->data, l->len), e);
    cs_free(l);
    return true;
}

static cs_code wait_in_line(struct sync *s, struct cs_slice msg, struct cs_err *e)
{
    if (s->line_bytes + msg.len > LINE_MAX_BYTES)
        return cs_fail(e, CS_EXHAUSTED, "too many requests before their answers were read");
    struct line *l = cs_malloc(sizeof *l + msg.len);
    if (l == NULL)
        return cs_nomem(e);
    *l = (struct line){.len = msg.len};
    if (msg.len > 0)
        memcpy(l->data, msg.data, msg.len);
    *s->last = l;
    s->last = &l->next;
    s->line_bytes += msg.len;
    return CS_OK;
}

static cs_code send_what_is_due(struct rpc_call *call, struct sync *s, struct cs_err *e)
{
    CS_TRY(send_revisions(call, s, e));
    cs_code code = CS_OK;
    do {
        if (s->arena != NULL)
            CS_TRY(send_entries(call, s, e));
    } while (next_in_line(s, &code, e) && code == CS_OK);
    return code;
}

static cs_code pump(struct rpc_call *call, struct sync *s, struct cs_err *e)
{
    cs_code code = send_what_is_due(call, s, e);
    s->busy = code == CS_EXHAUSTED;
    if (s->busy)
        return CS_OK;
    if (code == CS_OK && s->half_closed) {
        api_audit(api_call_of(call));
        rpc_call_finish(call, CS_OK, "");
    }
    return code;
}

static cs_code sync_writable(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)service;
    struct sync *s = state;
    return s->busy ? pump(call, s, e) : CS_OK;
}

static cs_code sync_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                            struct cs_err *e)
{
    (void)service;
    struct sync *s = state;
    if (!s->started) {
        CS_TRY(first_request(call, s, msg, e));
        return s->list.len > PAGE ? pump(call, s, e) : CS_OK;
    }
    if (s->list.len <= PAGE)
        return CS_OK; /* answered in full and over */
    CS_TRY(wait_in_line(s, msg, e));
    return s->busy ? CS_OK : pump(call, s, e);
}

static cs_code sync_half_close(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)service;
    struct sync *s = state;
    s->half_closed = true;
    if (!s->started)
        return cs_fail(e, CS_UNKNOWN, "EOF");
    if (!s->busy && s->list.len > PAGE) {
        api_audit(api_call_of(call));
        rpc_call_finish(call, CS_OK, "");
    }
    return CS_OK;
}

const struct rpc_stream_ops entry_sync_ops = {
    .open = sync_open,
    .message = sync_message,
    .half_close = sync_half_close,
    .closed = sync_closed,
    .writable = sync_writable,
};
