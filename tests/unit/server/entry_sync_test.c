/* SPDX-License-Identifier: Apache-2.0
 *
 * Syncing more entries than the stream's send queue holds, over a real connection.
 */
#include "call.h"

#include "rpc/client.h"
#include "server/api/convert.h"
#include "server/entrycache/wire.h"

#define ENTRIES 3000
#define SYNC "/test.Entry/Sync"

struct harness {
    struct world w;
    struct api_policy policy;
    struct rpc_method method;
    struct rpc_service service;
    struct api_peer *peer;
    struct rpc_server *server;
    struct loop *loop;
    struct rpc_client *client;
    struct rpc_stream *stream;
};

/* As api_begin, for somebody known to be the agent. */
static cs_code begin(struct rpc_call *call, void *arg, struct cs_err *e)
{
    struct harness *h = arg;
    struct api_call *c = cs_arena_zalloc(rpc_call_arena(call), sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    *c = (struct api_call){.api = h->w.api,
                           .rpc = call,
                           .arena = rpc_call_arena(call),
                           .policy = &h->policy,
                           .peer = h->peer,
                           .agent = agentcache_get(h->w.api->agents, cs_slice_str(AGENT))};
    rpc_call_set_data(call, c);
    return CS_OK;
}

static void add_entries(struct world *w)
{
    struct cs_err e = {0};
    static const struct ds_selector selector = {"unix", "uid:1"};
    struct ds_entry *in = calloc(ENTRIES, sizeof *in);
    struct ds_entry_result *out = calloc(ENTRIES, sizeof *out);
    for (size_t i = 0; i < ENTRIES; i++)
        in[i] =
            (struct ds_entry){.entry_id = cs_arena_printf(w->arena, "entry-%zu", i),
                              .parent_id = AGENT,
                              .spiffe_id = cs_arena_printf(w->arena, "spiffe://example.org/workload/%zu", i),
                              .selectors = &selector,
                              .n_selectors = 1};
    const struct ds_node node = {
        .spiffe_id = AGENT, .attestation_type = "t", .serial_number = "1", .expires_at = NOW + 1000};
    must(ds_node_create(w->ours, w->arena, &node, NULL, &e), &e);
    must(ds_entries_create_batch(w->ours, w->arena, in, ENTRIES, out, &e), &e);
    free(in);
    free(out);
}

static int setup(void **state)
{
    struct cs_err e = {0};
    struct harness *h = calloc(1, sizeof *h);
    cs_fake_clock_init(&h->w.clock, NOW);
    world_up(&h->w, NULL);
    add_entries(&h->w);
    must(api_peer_new(AGENT, "1", NOW + 1000, &h->peer, &e), &e);
    h->policy = (struct api_policy){.service = "s", .method = "m", .allow = ALLOW_AGENT};
    h->method =
        (struct rpc_method){.path = SYNC, .run = RPC_WORKER, .stream = &entry_sync_ops, .policy = &h->policy};
    h->service =
        (struct rpc_service){.name = "test.Entry", .methods = &h->method, .count = 1, .ctx = h->w.api};
    /* A page is larger than the queue: it is full after each. */
    const struct rpc_server_config cfg = {.io_threads = 1, .workers = 1, .stream_queue = 16 * 1024};
    must(rpc_server_new(&cfg, &h->server, &e), &e);
    char path[64];
    snprintf(path, sizeof path, "%s/s", h->w.dir);
    const struct rpc_listener l = {.unix_path = path,
                                   .unix_mode = 0700,
                                   .services = &h->service,
                                   .service_count = 1,
                                   .arg = h,
                                   .begin = begin,
                                   .end = api_end};
    must(rpc_server_listen(h->server, &l, &e), &e);
    must(loop_new("client", &h->loop, &e), &e);
    must(loop_start(h->loop, &e), &e);
    must(rpc_client_new(h->loop, &(struct rpc_client_config){.unix_path = path}, &h->client, &e), &e);
    must(rpc_stream_open(h->client, SYNC, NULL, 0, 60 * CS_NS_PER_S, &h->stream, &e), &e);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct harness *h = *state;
    rpc_stream_free(h->stream);
    rpc_client_free(h->client);
    rpc_server_shutdown(h->server, CS_NS_PER_S);
    rpc_server_free(h->server);
    loop_free(h->loop);
    api_peer_free(h->peer);
    world_down(&h->w);
    free(h);
    return 0;
}

/* Counts the parts `field` of the answer to one request, page by page. */
static size_t read_answer(struct harness *h, uint32_t field)
{
    struct cs_err e = {0};
    struct cs_buf page CS_CLEANUP(cs_buf_free) = {0};
    size_t n = 0;
    for (bool more = true, end = false; more;) {
        must(rpc_stream_recv(h->stream, &page, &end, -1, NULL, &e), &e);
        assert_false(end);
        struct cs_rd r = cs_rd_of(cs_buf_slice(&page));
        struct wire_field f;
        for (more = false; wire_next(&r, &f);) {
            n += f.num == field;
            more = more || (f.num == 3 && f.number != 0);
        }
    }
    return n;
}

static void send_ids(struct harness *h)
{
    struct cs_err e = {0};
    struct cs_buf request CS_CLEANUP(cs_buf_free) = {0};
    char id[32];
    for (size_t i = 0; i < ENTRIES; i++) {
        snprintf(id, sizeof id, "entry-%zu", i);
        wire_str(&request, 2, cs_slice_str(id));
    }
    must(rpc_stream_send(h->stream, cs_buf_slice(&request), &e), &e);
}

/* SyncAuthorizedEntriesResponse: 1 entry_revisions, 2 entries, 3 more. */
static void all_of_a_long_list_comes(void **state)
{
    struct harness *h = *state;
    struct cs_err e = {0};
    struct cs_buf rest CS_CLEANUP(cs_buf_free) = {0};
    bool end = false;
    must(rpc_stream_send(h->stream, (struct cs_slice){0}, &e), &e);
    assert_int_equal(read_answer(h, 1), ENTRIES);
    for (int i = 0; i < 3; i++) /* the later ones stand in line */
        send_ids(h);
    for (int i = 0; i < 3; i++)
        assert_int_equal(read_answer(h, 2), ENTRIES);
    must(rpc_stream_close_send(h->stream, &e), &e);
    must(rpc_stream_recv(h->stream, &rest, &end, -1, NULL, &e), &e);
    assert_true(end);
}

static void half_closing_early_loses_nothing(void **state)
{
    struct harness *h = *state;
    struct cs_err e = {0};
    struct cs_buf rest CS_CLEANUP(cs_buf_free) = {0};
    bool end = false;
    must(rpc_stream_send(h->stream, (struct cs_slice){0}, &e), &e);
    send_ids(h);
    must(rpc_stream_close_send(h->stream, &e), &e);
    assert_int_equal(read_answer(h, 1), ENTRIES);
    assert_int_equal(read_answer(h, 2), ENTRIES);
    must(rpc_stream_recv(h->stream, &rest, &end, -1, NULL, &e), &e);
    assert_true(end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_of_a_long_list_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(half_closing_early_loses_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
