/* SPDX-License-Identifier: Apache-2.0
 *
 * Authorised entries: what changed on the server since the last time.
 */
#include "agent/serverapi.h"
#include "entry.pb-c.h"

#include <stdlib.h>

#define PATH_SYNC "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries"
#define PATH_GET "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries"

#define MALFORMED "; are the server and agent versions compatible?"

/* One round of syncing. */
struct round {
    struct agent_link_stream *stream;
    const struct cs_log *log;
    const struct agent_cache *cache;
    struct agent_sync *out;
    struct agent_failure *failure;
    struct cs_map *seen; /* entry IDs that are still ours; the values mean nothing */
    struct agent_sync_state *state;
    uint64_t mark; /* of this round's revisions; 0: there were none */
    bool unchanged;
    struct cs_vec wanted; /* char *: IDs to ask for, owned */
};

static void free_strings(struct cs_vec *v)
{
    for (size_t i = 0; i < v->len; i++)
        cs_free(v->at[i]);
    cs_vec_free(v);
    *v = (struct cs_vec){0};
}

void agent_sync_free(struct agent_sync *s)
{
    for (size_t i = 0; i < s->changed.len; i++)
        agent_entry_unref(s->changed.at[i]);
    cs_vec_free(&s->changed);
    free_strings(&s->removed);
    *s = (struct agent_sync){0};
}

static void round_free(struct round *r)
{
    agent_link_close(r->stream);
    cs_map_free(r->seen);
    free_strings(&r->wanted);
}

/* The fields an agent needs. */
static Types__EntryMask entry_mask(void)
{
    Types__EntryMask m = TYPES__ENTRY_MASK__INIT;
    m.spiffe_id = m.selectors = m.federates_with = m.admin = m.downstream = true;
    m.revision_number = m.store_svid = m.hint = m.additional_attributes = m.created_at = true;
    return m;
}

static cs_code push_string(struct cs_vec *v, const char *s, struct cs_err *e)
{
    char *copy = cs_strdup(s);
    if (copy == NULL || cs_vec_push(v, copy) != CS_OK) {
        cs_free(copy);
        return cs_nomem(e);
    }
    return CS_OK;
}

static cs_code mark_seen(struct round *r, const char *id, struct cs_err *e)
{
    static const char here;
    return cs_map_put(r->seen, cs_slice_str(id), (void *)(uintptr_t)&here) == CS_OK ? CS_OK : cs_nomem(e);
}

/* A full entry: to be put in the cache when it is new or differs. A malformed one is left out, as SPIRE does.
 */
static cs_code take_entry(struct round *r, const Types__Entry *from, struct cs_err *e)
{
    struct cs_err fault;
    CS_AUTO(agent_entry) en = NULL;
    cs_code rc = agent_entry_new(from, &en, &fault);
    if (rc == CS_INTERNAL)
        return cs_nomem(e);
    if (rc != CS_OK) {
        cs_log_warn(r->log, "Received malformed entry from SPIRE server" MALFORMED, KV("entry_id", from->id),
                    KV_ERR(&fault));
        return CS_OK;
    }
    CS_TRY(mark_seen(r, en->id, e));
    const struct agent_entry *cached = agent_cache_entry(r->cache, en->id);
    if (cached != NULL && !agent_entry_is_stale(cached, en->revision, en->created_at))
        return CS_OK;
    if (cs_vec_push(&r->out->changed, en) != CS_OK)
        return cs_nomem(e);
    (void)CS_MOVE(en);
    return CS_OK;
}

static cs_code take_entries(struct round *r, Types__Entry **entries, size_t count, struct cs_err *e)
{
    for (size_t i = 0; i < count; i++)
        CS_TRY(take_entry(r, entries[i], e));
    return CS_OK;
}

static cs_code take_revision(struct round *r, const Entryv1__EntryRevision *rev, struct cs_err *e)
{
    if (rev->id[0] == '\0' || rev->revision_number < 0) {
        cs_log_warn(r->log, "Received malformed entry revision from SPIRE server" MALFORMED,
                    KV("entry_id", rev->id), KV_INT("revision_number", rev->revision_number));
        return CS_OK;
    }
    CS_TRY(mark_seen(r, rev->id, e));
    const struct agent_entry *cached = agent_cache_entry(r->cache, rev->id);
    if (cached == NULL || agent_entry_is_stale(cached, rev->revision_number, rev->created_at))
        return push_string(&r->wanted, rev->id, e);
    return CS_OK;
}

/* Next message of the stream, unpacked into the arena. */
static cs_code receive(struct round *r, struct cs_arena *a, Entryv1__SyncAuthorizedEntriesResponse **out,
                       struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    bool end = false;
    CS_TRY(agent_link_recv(r->stream, &packed, &end, r->failure, e));
    if (end)
        return cs_fail(e, CS_INTERNAL, "failed to receive entry revision page from server: EOF");
    ProtobufCMessage *m = NULL;
    CS_TRY(proto_unpack(a, &entryv1__sync_authorized_entries_response__descriptor, cs_buf_slice(&packed), &m,
                        e));
    *out = (Entryv1__SyncAuthorizedEntriesResponse *)m;
    return CS_OK;
}

/* --- Telling early that nothing changed --- */

/* What a page of revisions says on its outermost level, without unpacking it: a round in which nothing
 * changed should cost little, and it is most of them. false: it is not one, or broken; unpacking it tells. */
struct page_sketch {
    size_t revisions;
    bool entries, more;
};

static bool read_varint(struct cs_rd *r, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b;
        if (!cs_rd_u8(r, &b))
            return false;
        *out |= (uint64_t)(b & 0x7f) << shift;
        if ((b & 0x80) == 0)
            return true;
    }
    return false;
}

static bool sketch_page(struct cs_slice packed, struct page_sketch *out)
{
    struct cs_rd r = cs_rd_of(packed);
    *out = (struct page_sketch){0};
    while (cs_rd_left(&r) > 0) {
        uint64_t tag;
        uint64_t n;
        struct cs_slice skipped;
        if (!read_varint(&r, &tag) || !read_varint(&r, &n))
            return false;
        if (tag == (3 << 3 | 0)) {
            out->more = n != 0;
            continue;
        }
        if ((tag != (1 << 3 | 2) && tag != (2 << 3 | 2)) || n > cs_rd_left(&r) ||
            !cs_rd_bytes(&r, n, &skipped))
            return false;
        out->revisions += tag == (1 << 3 | 2);
        out->entries |= tag == (2 << 3 | 2);
    }
    return true;
}

/* All pages of revisions; a first answer without any has the entries themselves. *page is the server's page
 * size, 0 when there is nothing more to ask. */
static cs_code take_page(struct round *r, struct cs_slice packed, bool first, size_t *page, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(64 * 1024, 0);
    ProtobufCMessage *m = NULL;
    if (a == NULL)
        return cs_nomem(e);
    CS_TRY(proto_unpack(a, &entryv1__sync_authorized_entries_response__descriptor, packed, &m, e));
    const Entryv1__SyncAuthorizedEntriesResponse *resp = (void *)m;
    if (first && resp->n_entry_revisions == 0)
        return take_entries(r, resp->entries, resp->n_entries, e);
    if (resp->n_entries > 0)
        return cs_fail(e, CS_INTERNAL, "unexpected entry in response receiving entry revisions");
    for (size_t i = 0; i < resp->n_entry_revisions; i++)
        CS_TRY(take_revision(r, resp->entry_revisions[i], e));
    if (first)
        *page = resp->n_entry_revisions;
    return CS_OK;
}

/* Pages as they came, one behind the other; ends[i] is where the i-th ends. */
struct pages {
    struct cs_buf bytes;
    size_t *ends;
    size_t count, revisions;
};

static void pages_free(struct pages *p)
{
    cs_buf_free(&p->bytes);
    cs_free(p->ends);
}

static cs_code keep_page(struct pages *p, struct cs_slice packed, const struct page_sketch *sketch,
                         struct cs_err *e)
{
    size_t *grown = cs_realloc(p->ends, (p->count + 1) * sizeof *grown);
    if (grown == NULL)
        return cs_nomem(e);
    p->ends = grown;
    cs_buf_add_slice(&p->bytes, packed);
    p->ends[p->count++] = p->bytes.len;
    p->revisions += sketch->revisions;
    return cs_buf_ok(&p->bytes) ? CS_OK : cs_nomem(e);
}

static cs_code receive_pages(struct round *r, struct pages *p, struct cs_err *e)
{
    /* Mostly as many as the last time. Much in one piece is the kernel's again as soon as it is freed, while
     * growing there would leave pieces of it behind with each round. */
    if (!cs_buf_reserve(&p->bytes, r->state->page_bytes))
        return cs_nomem(e);
    for (bool more = true; more;) {
        CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
        struct page_sketch sketch;
        bool end = false;
        CS_TRY(agent_link_recv(r->stream, &packed, &end, r->failure, e));
        if (end)
            return cs_fail(e, CS_INTERNAL, "failed to receive entry revision page from server: EOF");
        if (!sketch_page(cs_buf_slice(&packed), &sketch))
            return cs_fail(e, CS_INTERNAL, "malformed entry revision page from server");
        CS_TRY(keep_page(p, cs_buf_slice(&packed), &sketch, e));
        more = sketch.more && sketch.revisions > 0;
    }
    r->state->page_bytes = p->bytes.len;
    return CS_OK;
}

/* True when the pages are those of the last round, and all that they name is in the cache. */
static bool same_as_before(const struct round *r, const struct pages *p, uint64_t mark)
{
    return r->state->mark != 0 && mark == r->state->mark && p->revisions > 0 &&
           p->revisions == agent_cache_entry_count(r->cache);
}

static cs_code receive_revisions(struct round *r, size_t *page, struct cs_err *e)
{
    CS_CLEANUP(pages_free) struct pages p = {0};
    *page = 0;
    CS_TRY(receive_pages(r, &p, e));
    r->mark = cs_hash(cs_buf_slice(&p.bytes));
    r->unchanged = same_as_before(r, &p, r->mark);
    if (r->unchanged)
        return CS_OK;
    r->seen = cs_map_new(NULL);
    if (r->seen == NULL)
        return cs_nomem(e);
    size_t at = 0;
    for (size_t i = 0; i < p.count; i++) {
        CS_TRY(take_page(r, cs_slice_of(p.bytes.data + at, p.ends[i] - at), i == 0, page, e));
        at = p.ends[i];
    }
    return CS_OK;
}

static cs_code receive_entries(struct round *r, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(64 * 1024, 0);
    if (a == NULL)
        return cs_nomem(e);
    for (bool more = true; more;) {
        Entryv1__SyncAuthorizedEntriesResponse *m = NULL;
        cs_arena_reset(a);
        CS_TRY(receive(r, a, &m, e));
        if (m->n_entry_revisions > 0)
            return cs_fail(e, CS_INTERNAL, "unexpected entry revisions in response while requesting entries");
        CS_TRY(take_entries(r, m->entries, m->n_entries, e));
        more = m->more;
    }
    return CS_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In pages of the server's size, in order, which is how it looks them up. */
static cs_code request_wanted(struct round *r, size_t page, struct cs_err *e)
{
    if (r->wanted.len > 1)
        qsort(r->wanted.at, r->wanted.len, sizeof(void *), by_text);
    for (size_t at = 0; at < r->wanted.len;) {
        size_t n = r->wanted.len - at < page ? r->wanted.len - at : page;
        Entryv1__SyncAuthorizedEntriesRequest req = ENTRYV1__SYNC_AUTHORIZED_ENTRIES_REQUEST__INIT;
        req.ids = (char **)(void *)(r->wanted.at + at);
        req.n_ids = n;
        CS_TRY(agent_link_send(r->stream, &req.base, r->failure, e));
        CS_TRY(receive_entries(r, e));
        at += n;
    }
    return CS_OK;
}

static cs_code find_removed(struct round *r, struct cs_err *e)
{
    const struct agent_entry *en;
    if (r->unchanged)
        return CS_OK;
    for (size_t it = 0; (en = agent_cache_next(r->cache, &it)) != NULL;)
        if (cs_map_get_str(r->seen, en->id) == NULL)
            CS_TRY(push_string(&r->out->removed, en->id, e));
    return CS_OK;
}

static cs_code sync_round(struct agent_link *l, struct round *r, struct cs_err *e)
{
    CS_TRY(agent_link_open(l, PATH_SYNC, AGENT_RPC_TIMEOUT_NS, &r->stream, r->failure, e));
    Types__EntryMask mask = entry_mask();
    Entryv1__SyncAuthorizedEntriesRequest req = ENTRYV1__SYNC_AUTHORIZED_ENTRIES_REQUEST__INIT;
    req.output_mask = &mask;
    CS_TRY(agent_link_send(r->stream, &req.base, r->failure, e));
    size_t page = 0;
    CS_TRY(receive_revisions(r, &page, e));
    CS_TRY(request_wanted(r, page, e));
    return find_removed(r, e);
}

static cs_code fetch_round(struct agent_link *l, struct round *r, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    r->seen = cs_map_new(NULL);
    if (r->seen == NULL)
        return cs_nomem(e);
    Types__EntryMask mask = entry_mask();
    Entryv1__GetAuthorizedEntriesRequest req = ENTRYV1__GET_AUTHORIZED_ENTRIES_REQUEST__INIT;
    req.output_mask = &mask;
    ProtobufCMessage *m = NULL;
    CS_TRY(agent_link_call(l, PATH_GET, &req.base, a, &entryv1__get_authorized_entries_response__descriptor,
                           &m, AGENT_RPC_TIMEOUT_NS, r->failure, e));
    const Entryv1__GetAuthorizedEntriesResponse *resp = (void *)m;
    CS_TRY(take_entries(r, resp->entries, resp->n_entries, e));
    return find_removed(r, e);
}

static cs_code run_round(cs_code (*round_fn)(struct agent_link *l, struct round *r, struct cs_err *e),
                         struct agent_link *l, const struct cs_log *log, const struct agent_cache *cache,
                         struct agent_sync_state *state, struct agent_sync *out,
                         struct agent_failure *failure, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    *failure = (struct agent_failure){0};
    *out = (struct agent_sync){0};
    CS_CLEANUP(round_free)
    struct round r = {.log = log, .cache = cache, .out = out, .failure = failure, .state = state};
    cs_code rc = round_fn(l, &r, e);
    state->mark = 0;
    if (rc == CS_OK) {
        out->mark = r.mark;
        return CS_OK;
    }
    agent_sync_free(out);
    cs_log_error(log, "Failed to fetch authorized entries", KV_ERR(e));
    (void)cs_wrap(e, "failed to fetch authorized entries");
    return rc;
}

cs_code agent_api_sync_entries(struct agent_link *l, const struct cs_log *log,
                               const struct agent_cache *cache, struct agent_sync_state *state,
                               struct agent_sync *out, struct agent_failure *failure, struct cs_err *e)
{
    return run_round(sync_round, l, log, cache, state, out, failure, e);
}

cs_code agent_api_fetch_entries(struct agent_link *l, const struct cs_log *log,
                                const struct agent_cache *cache, struct agent_sync_state *state,
                                struct agent_sync *out, struct agent_failure *failure, struct cs_err *e)
{
    return run_round(fetch_round, l, log, cache, state, out, failure, e);
}
