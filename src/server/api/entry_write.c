/* SPDX-License-Identifier: Apache-2.0
 *
 * Entry service: creating, updating and deleting entries. A batch is one transaction of the datastore,
 * but each item succeeds or fails for itself. Source: SPIRE's pkg/server/api/entry/v1.
 */
#include "server/api/entry.h"
#include "server/entrycache/wire.h"

#define ITEM_AUDIT_MAX 16
/* Items that go to the datastore in one transaction: bounds the memory of a call. */
#define BATCH_MAX 1000

/* A part of the request on its way: items that passed the checks go to the datastore together. */
struct batch {
    struct api_call *c;
    struct cs_arena *arena; /* of this part */
    size_t n;               /* items of the part */
    struct cs_err *status;  /* of each item */
    size_t *row;            /* of each item: its row in `out`, SIZE_MAX when refused before */
    struct ds_entry_result *out;
    size_t rows;
};

static cs_code batch_init(struct batch *b, struct api_call *c, struct cs_arena *arena, size_t n,
                          struct cs_err *e)
{
    *b = (struct batch){.c = c, .arena = arena, .n = n};
    b->status = cs_arena_zalloc(arena, n * sizeof *b->status);
    b->row = cs_arena_alloc(arena, n * sizeof *b->row);
    b->out = cs_arena_zalloc(arena, n * sizeof *b->out);
    return b->status != NULL && b->row != NULL && b->out != NULL ? CS_OK : cs_nomem(e);
}

/* Runs the request part by part. Log fields of a part end with its arena. */
static cs_code in_parts(struct api_call *c, size_t n,
                        cs_code (*part)(struct batch *b, void *arg, size_t first, struct cs_err *e),
                        void *arg, struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    size_t fields = c->field_count;
    cs_code code = CS_OK;
    for (size_t at = 0; at < n && code == CS_OK; at += BATCH_MAX) {
        struct batch b;
        code = batch_init(&b, c, arena, n - at < BATCH_MAX ? n - at : BATCH_MAX, e);
        if (code == CS_OK)
            code = part(&b, arg, at, e);
        c->field_count = fields;
        cs_arena_reset(arena);
    }
    return code;
}

/* Datastore errors without a code of their own are internal ones to callers. */
static cs_code item_code(cs_code code)
{
    return code == CS_UNKNOWN ? CS_INTERNAL : code;
}

/* --- Audit fields of one item --- */
static bool in_mask(const Types__EntryMask *m, bool field)
{
    return m == NULL || field;
}

static size_t audit_ids(struct api_call *c, const Types__Entry *en, const Types__EntryMask *m,
                        struct cs_kv *kv)
{
    size_t n = 0;
    struct spiffe_id id;
    if (en->id[0] != '\0')
        kv[n++] = KV("entry_id", en->id);
    if (in_mask(m, m != NULL && m->spiffe_id) && convert_id(c->arena, en->spiffe_id, &id, NULL) == CS_OK)
        kv[n++] = KV("spiffe_id", convert_id_text(id));
    if (in_mask(m, m != NULL && m->parent_id) && convert_id(c->arena, en->parent_id, &id, NULL) == CS_OK)
        kv[n++] = KV("parent_id", convert_id_text(id));
    if (in_mask(m, m != NULL && m->selectors) && en->n_selectors > 0)
        kv[n++] = KV("selectors", convert_selectors_text(c->arena, en->selectors, en->n_selectors));
    if (in_mask(m, m != NULL && m->federates_with) && en->n_federates_with > 0)
        kv[n++] = KV("federates_with", api_joined(c, en->federates_with, en->n_federates_with));
    if (in_mask(m, m != NULL && m->dns_names) && en->n_dns_names > 0)
        kv[n++] = KV("dns_name", api_joined(c, en->dns_names, en->n_dns_names));
    return n;
}

static size_t audit_values(const Types__Entry *en, const Types__EntryMask *m, struct cs_kv *kv)
{
    size_t n = 0;
    if (in_mask(m, m != NULL && m->x509_svid_ttl))
        kv[n++] = KV_INT("x509_svid_ttl", en->x509_svid_ttl);
    if (in_mask(m, m != NULL && m->jwt_svid_ttl))
        kv[n++] = KV_INT("jwt_svid_ttl", en->jwt_svid_ttl);
    if (in_mask(m, m != NULL && m->admin))
        kv[n++] = KV_BOOL("admin", en->admin);
    if (in_mask(m, m != NULL && m->downstream))
        kv[n++] = KV_BOOL("downstream", en->downstream);
    if (in_mask(m, m != NULL && m->expires_at))
        kv[n++] = KV_INT("expires_at", en->expires_at);
    if (in_mask(m, m != NULL && m->revision_number))
        kv[n++] = KV_INT("revision_number", en->revision_number);
    if (in_mask(m, m != NULL && m->store_svid))
        kv[n++] = KV_BOOL("store_svid", en->store_svid);
    if (in_mask(m, m != NULL && m->hint))
        kv[n++] = KV("hint", en->hint);
    if (in_mask(m, m != NULL && m->created_at))
        kv[n++] = KV_INT("created_at", en->created_at);
    return n;
}

static void audit_item(struct api_call *c, const struct cs_err *st, const Types__Entry *en,
                       const Types__EntryMask *m)
{
    if (!c->audit)
        return;
    struct cs_kv kv[ITEM_AUDIT_MAX];
    size_t n = audit_ids(c, en, m, kv);
    n += audit_values(en, m, kv + n);
    api_audit_status(c, st, kv, n);
}

/* --- Results: 1 status, 2 entry --- */
struct writer {
    struct cs_buf *response;
    struct cs_buf wire, result; /* reused for each item */
    uint32_t mask;
    const char *convert_failed;
};

static void writer_free(struct writer *w)
{
    cs_buf_free(&w->wire);
    cs_buf_free(&w->result);
}

static void write_result(struct writer *w, struct api_call *c, struct cs_err *st, const struct ds_entry *en)
{
    cs_buf_reset(&w->wire);
    cs_buf_reset(&w->result);
    struct cs_err e = {0};
    if (en != NULL && convert_entry_write(&w->wire, en, &e) != CS_OK) {
        *st = e;
        (void)api_fail_cause(c, st, CS_INTERNAL, w->convert_failed);
        en = NULL;
    }
    api_status_write(&w->result, 1, st);
    if (en != NULL)
        entry_wire_append(&w->result, 2, cs_buf_slice(&w->wire), w->mask);
    wire_bytes(w->response, 1, cs_buf_slice(&w->result));
    w->response->failed |= !cs_buf_ok(&w->result);
}

/* --- BatchCreateEntry --- */
static void check_new(struct batch *b, Types__Entry *const *entries, struct ds_entry *in)
{
    for (size_t i = 0; i < b->n; i++) {
        b->status[i] = api_ok();
        b->row[i] = b->rows;
        if (convert_entry(b->arena, b->c->api->td, entries[i], NULL, &in[b->rows], &b->status[i]) == CS_OK) {
            b->rows++;
            continue;
        }
        b->row[i] = SIZE_MAX;
        (void)api_fail_cause(b->c, &b->status[i], CS_INVALID, "failed to convert entry");
    }
}

static const struct ds_entry *created(struct batch *b, size_t i, const struct ds_entry *in)
{
    if (b->row[i] == SIZE_MAX)
        return NULL;
    struct ds_entry_result *r = &b->out[b->row[i]];
    struct cs_err *st = &b->status[i];
    if (r->err.code != CS_OK) {
        *st = r->err;
        api_field(b->c, KV("spiffe_id", in[b->row[i]].spiffe_id));
        (void)api_fail_cause(b->c, st, item_code(r->err.code), "failed to create entry");
        return NULL;
    }
    if (r->existing)
        *st = (struct cs_err){.code = CS_EXISTS, .text = "similar entry already exists"};
    return r->entry;
}

struct create {
    const Entryv1__BatchCreateEntryRequest *req;
    struct writer w;
};

static cs_code create_part(struct batch *b, void *arg, size_t first, struct cs_err *e)
{
    struct create *job = arg;
    Types__Entry *const *entries = job->req->entries + first;
    struct ds_entry *in = cs_arena_alloc(b->arena, b->n * sizeof *in);
    if (in == NULL)
        return cs_nomem(e);
    check_new(b, entries, in);
    if (b->rows > 0) {
        cs_code whole = ds_entries_create_batch(b->c->api->cfg.ds, b->arena, in, b->rows, b->out, e);
        (void)whole; /* each row says how it went */
    }
    for (size_t i = 0; i < b->n; i++) {
        write_result(&job->w, b->c, &b->status[i], created(b, i, in));
        audit_item(b->c, &b->status[i], entries[i], NULL);
    }
    return CS_OK;
}

cs_code entry_batch_create(struct rpc_call *call, void *service, struct cs_slice request,
                           struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Entryv1__BatchCreateEntryRequest *req;
    CS_TRY(api_unpack(c, &entryv1__batch_create_entry_request__descriptor, request, (void **)&req, e));
    struct create job = {.req = req,
                         .w = {.response = response,
                               .mask = convert_entry_mask(req->output_mask),
                               .convert_failed = "failed to convert entry"}};
    cs_code code = in_parts(c, req->n_entries, create_part, &job, e);
    writer_free(&job.w);
    return code;
}

/* --- BatchUpdateEntry --- */
struct update {
    const Entryv1__BatchUpdateEntryRequest *req;
    struct ds_entry_mask mask;
    struct writer w;
};

static void check_updates(struct batch *b, const struct update *job, Types__Entry *const *entries,
                          struct ds_entry *in)
{
    for (size_t i = 0; i < b->n; i++) {
        b->status[i] = api_ok();
        b->row[i] = b->rows;
        if (convert_entry(b->arena, b->c->api->td, entries[i], job->req->input_mask, &in[b->rows],
                          &b->status[i]) == CS_OK) {
            b->rows++;
            continue;
        }
        b->row[i] = SIZE_MAX;
        api_field(b->c, KV("entry_id", entries[i]->id));
        (void)api_fail_cause(b->c, &b->status[i], CS_INVALID, "failed to convert entry");
    }
}

static const struct ds_entry *updated(struct batch *b, size_t i, const char *id)
{
    if (b->row[i] == SIZE_MAX)
        return NULL;
    struct ds_entry_result *r = &b->out[b->row[i]];
    if (r->err.code == CS_OK)
        return r->entry;
    b->status[i] = r->err;
    api_field(b->c, KV("entry_id", id));
    (void)api_fail_cause(b->c, &b->status[i], item_code(r->err.code), "failed to update entry");
    return NULL;
}

static cs_code update_part(struct batch *b, void *arg, size_t first, struct cs_err *e)
{
    struct update *job = arg;
    Types__Entry *const *entries = job->req->entries + first;
    struct ds_entry *in = cs_arena_alloc(b->arena, b->n * sizeof *in);
    if (in == NULL)
        return cs_nomem(e);
    check_updates(b, job, entries, in);
    if (b->rows > 0) {
        const struct ds_entry_mask *mask = job->req->input_mask != NULL ? &job->mask : NULL;
        cs_code whole = ds_entries_update_batch(b->c->api->cfg.ds, b->arena, in, b->rows, mask, b->out, e);
        (void)whole; /* each row says how it went */
    }
    for (size_t i = 0; i < b->n; i++) {
        write_result(&job->w, b->c, &b->status[i], updated(b, i, entries[i]->id));
        audit_item(b->c, &b->status[i], entries[i], job->req->input_mask);
    }
    return CS_OK;
}

cs_code entry_batch_update(struct rpc_call *call, void *service, struct cs_slice request,
                           struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Entryv1__BatchUpdateEntryRequest *req;
    CS_TRY(api_unpack(c, &entryv1__batch_update_entry_request__descriptor, request, (void **)&req, e));
    struct update job = {.req = req,
                         .w = {.response = response,
                               .mask = convert_entry_mask(req->output_mask),
                               .convert_failed = "failed to convert entry in updateEntry"}};
    if (req->input_mask != NULL)
        convert_entry_input_mask(req->input_mask, &job.mask);
    cs_code code = in_parts(c, req->n_entries, update_part, &job, e);
    writer_free(&job.w);
    return code;
}

/* --- BatchDeleteEntry: results of 1 status, 2 id --- */
static void check_deletes(struct batch *b, char *const *in, const char **ids)
{
    for (size_t i = 0; i < b->n; i++) {
        b->status[i] = api_ok();
        b->row[i] = SIZE_MAX;
        if (in[i][0] == '\0') {
            (void)api_fail(b->c, &b->status[i], CS_INVALID, "missing entry ID");
            continue;
        }
        b->row[i] = b->rows;
        ids[b->rows++] = in[i];
    }
}

static void deleted(struct batch *b, size_t i, const char *id)
{
    if (b->row[i] == SIZE_MAX)
        return;
    struct ds_entry_result *r = &b->out[b->row[i]];
    if (r->err.code == CS_OK)
        return;
    b->status[i] = r->err;
    api_field(b->c, KV("entry_id", id));
    if (r->err.code == CS_NOT_FOUND)
        (void)api_fail(b->c, &b->status[i], CS_NOT_FOUND, "entry not found");
    else
        (void)api_fail_cause(b->c, &b->status[i], CS_INTERNAL, "failed to delete entry");
}

struct removal {
    const Entryv1__BatchDeleteEntryRequest *req;
    struct cs_buf *response;
};

static cs_code delete_part(struct batch *b, void *arg, size_t first, struct cs_err *e)
{
    const struct removal *job = arg;
    char *const *in = job->req->ids + first;
    const char **ids = cs_arena_alloc(b->arena, b->n * sizeof *ids);
    if (ids == NULL)
        return cs_nomem(e);
    check_deletes(b, in, ids);
    if (b->rows > 0) {
        cs_code whole = ds_entries_delete_batch(b->c->api->cfg.ds, b->arena, ids, b->rows, b->out, e);
        (void)whole; /* each row says how it went */
    }
    struct cs_buf result CS_CLEANUP(cs_buf_free) = {0};
    for (size_t i = 0; i < b->n; i++) {
        deleted(b, i, in[i]);
        cs_buf_reset(&result);
        api_status_write(&result, 1, &b->status[i]);
        wire_str(&result, 2, cs_slice_str(in[i]));
        wire_bytes(job->response, 1, cs_buf_slice(&result));
        job->response->failed |= !cs_buf_ok(&result);
        api_audit_status(b->c, &b->status[i], &KV("entry_id", in[i]), 1);
    }
    return CS_OK;
}

cs_code entry_batch_delete(struct rpc_call *call, void *service, struct cs_slice request,
                           struct cs_buf *response, struct cs_err *e)
{
    (void)service;
    struct api_call *c = api_call_of(call);
    Entryv1__BatchDeleteEntryRequest *req;
    CS_TRY(api_unpack(c, &entryv1__batch_delete_entry_request__descriptor, request, (void **)&req, e));
    struct removal job = {.req = req, .response = response};
    return in_parts(c, req->n_ids, delete_part, &job, e);
}
