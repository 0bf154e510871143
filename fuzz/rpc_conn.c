/* SPDX-License-Identifier: Apache-2.0
 *
 * A server connection fed with bytes, without a socket. First byte: size of the pieces (low bits) and
 * whether a client's preface goes before the rest (high bit).
 */
#include "rpc/internal.h"

#include <semaphore.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int balance; /* streams opened and not closed */

static cs_code unary(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                     struct cs_err *e)
{
    (void)service;
    if (request.len > 0 && request.data[0] == 'f')
        return cs_fail(e, CS_ABORTED, "%.*s", (int)(request.len > 100 ? 100 : request.len), request.data);
    cs_buf_add_slice(response, rpc_call_metadata(call, "x-bin"));
    cs_buf_add_slice(response, request);
    return CS_OK;
}

static cs_code open_it(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)e;
    balance++;
    *state = &balance;
    return CS_OK;
}

static cs_code message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                       struct cs_err *e)
{
    (void)service;
    (void)state;
    struct cs_buf out = {0};
    cs_buf_add_slice(&out, msg);
    cs_code code = rpc_call_send(call, &out);
    cs_buf_free(&out);
    return code == CS_OK ? CS_OK : cs_fail(e, code, "send");
}

static void closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    (void)state;
    balance--;
}

static const struct rpc_stream_ops bidi = {.open = open_it, .message = message, .closed = closed};
static const struct rpc_method methods[] = {
    {.path = "/a.B/U", .run = RPC_INLINE, .unary = unary},
    {.path = "/a.B/S", .run = RPC_INLINE, .stream = &bidi},
};
static const struct rpc_service services[] = {{"a.B", methods, 2, NULL}};

static struct world {
    struct rpc_server server;
    struct rpc_lane lane;
    struct rpc_endpoint *ep;
    bool up;
} w;

static void set_up(void)
{
    w.server.cfg = (struct rpc_server_config){.max_streams = 100,
                                              .stream_queue = 65536,
                                              .conn_queue = 262144,
                                              .handshake_ns = CS_NS_PER_S,
                                              .keepalive_ns = CS_NS_PER_S};
    w.server.cfg.recv_limit = 1024u * 1024;
    w.server.cfg.message_ns = w.server.cfg.drain_ns = w.server.cfg.linger_ns = CS_NS_PER_S;
    rpc_server_budgets(&w.server);
    w.lane.server = &w.server;
    w.server.lanes = &w.lane;
    w.server.lane_count = 1;
    const struct rpc_listener l = {.tcp_address = "x", .services = services, .service_count = 1};
    if (loop_new("fuzz", &w.lane.loop, NULL) != CS_OK ||
        rpc_scratch_init(&w.lane.scratch, w.lane.loop, NULL) != CS_OK ||
        rpc_timers_init(&w.lane.timers, w.lane.loop, NULL) != CS_OK ||
        rpc_lane_h2_init(&w.lane, NULL) != CS_OK || rpc_endpoint_new(&w.server, &l, &w.ep, NULL) != CS_OK ||
        loop_start(w.lane.loop, NULL) != CS_OK)
        abort();
    w.lane.arena = cs_arena_new(0, 0);
    w.up = true;
}

struct input {
    const uint8_t *data;
    size_t size;
    sem_t done;
};

static void finish(void *arg)
{
    struct input *in = arg;
    if (balance != 0 || atomic_load(&w.server.live_calls) != 0 || atomic_load(&w.server.tcp.used) != 0 ||
        atomic_load(&w.server.tcp_anon.used) != 0)
        abort();
    sem_post(&in->done);
}

static void run(void *arg)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct input *in = arg;
    struct rpc_conn *conn;
    atomic_store(&w.server.conn_count, 1);
    if (rpc_conn_new(&w.lane, w.ep, -1, NULL, "x", "x", &conn, NULL) != CS_OK)
        abort();
    rpc_conn_ref(conn);
    size_t step = in->data[0] & 0x7f ? in->data[0] & 0x7f : in->size;
    if (in->data[0] & 0x80)
        rpc_io_feed(&conn->io, (const uint8_t *)preface, sizeof preface - 1);
    for (size_t at = 1; at < in->size && !conn->io.dead; at += step)
        rpc_io_feed(&conn->io, in->data + at, in->size - at < step ? in->size - at : step);
    if (!conn->io.dead) {
        rpc_conn_drain(conn);
        rpc_io_feed(&conn->io, in->data, 0);
    }
    if (!conn->io.closing) {
        rpc_conn_kill(conn, "end");
        rpc_io_feed(&conn->io, in->data, 0);
    }
    rpc_conn_unref(conn);
    if (!loop_post(w.lane.loop, finish, in))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (!w.up)
        set_up();
    struct input in = {.data = data, .size = size};
    sem_init(&in.done, 0, 0);
    if (!loop_post(w.lane.loop, run, &in))
        abort();
    while (sem_wait(&in.done) != 0) {
    }
    sem_destroy(&in.done);
    return 0;
}
