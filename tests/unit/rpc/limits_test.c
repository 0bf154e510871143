/* SPDX-License-Identifier: Apache-2.0
 *
 * What peers can make the server hold by sending half of something, or by not reading: time limits,
 * shares of memory, the end of draining, and how a stream goes on once its queue is down.
 */
#include "raw.h"
#include "rpc/internal.h"

#include <pthread.h>

static struct fixture fx;
static int plain_port; /* TCP without TLS: peers nobody vouches for */

#define MESSAGE_NS (400 * CS_NS_PER_MS)
#define HOG_NS (2 * CS_NS_PER_S) /* of which the hogs need a fraction to fill what they can get */
#define LINGER_NS (200 * CS_NS_PER_MS)
#define DRAIN_NS (300 * CS_NS_PER_MS)
#define RECV_LIMIT (1024u * 1024)
#define STREAM_QUEUE 50000u
#define CHUNK 10000u

/* --- A service that fills its queue, and one that runs out of memory --- */

static struct limits {
    _Atomic int opened, closed, writable, refused, inside;
    _Atomic bool hold, wrong;
    struct rpc_call *_Atomic kept;
} lim;

struct fill {
    unsigned left;
};

static cs_code fill_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)call;
    (void)service;
    *state = cs_calloc(1, sizeof(struct fill));
    atomic_fetch_add(&lim.opened, 1);
    return *state != NULL ? CS_OK : cs_nomem(e);
}

static void fill_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    (void)cs_mem_fail_at(0, false);
    cs_free(state);
    atomic_fetch_add(&lim.closed, 1);
}

static cs_code fill_on(struct rpc_call *call, struct fill *f, struct cs_err *e)
{
    static const uint8_t chunk[CHUNK];
    if (atomic_fetch_add(&lim.inside, 1) != 0)
        atomic_store(&lim.wrong, true); /* two at once */
    cs_code code = CS_OK;
    while (f->left > 0 && code == CS_OK) {
        code = echo_send(call, chunk, sizeof chunk);
        if (code == CS_OK)
            f->left--;
    }
    if (code == CS_EXHAUSTED)
        atomic_fetch_add(&lim.refused, 1);
    atomic_fetch_sub(&lim.inside, 1);
    if (f->left == 0)
        rpc_call_finish(call, CS_OK, NULL);
    return code == CS_OK || code == CS_EXHAUSTED ? CS_OK : cs_fail(e, code, "cannot send");
}

/* "N": that many chunks, as fast as they are read. */
static cs_code fill_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                            struct cs_err *e)
{
    (void)service;
    struct fill *f = state;
    char text[16] = "";
    memcpy(text, msg.data, msg.len < sizeof text - 1 ? msg.len : sizeof text - 1);
    f->left = (unsigned)strtoul(text, NULL, 10);
    return fill_on(call, f, e);
}

static cs_code fill_writable(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)service;
    atomic_fetch_add(&lim.writable, 1);
    if (rpc_call_queued(call) > STREAM_QUEUE / 4)
        atomic_store(&lim.wrong, true); /* too early */
    return fill_on(call, state, e);
}

/* "here": fails when there is no memory; "finish": ends itself so; "keep": somebody else will end it. */
static cs_code oom_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                           struct cs_err *e)
{
    (void)service;
    (void)state;
    if (cs_slice_is(msg, "keep")) {
        rpc_call_ref(call);
        atomic_store(&lim.kept, call);
        return CS_OK;
    }
    (void)cs_mem_fail_at(1, true);
    if (cs_slice_is(msg, "here"))
        return cs_nomem(e);
    rpc_call_finish(call, CS_ABORTED, "no memory at all");
    return CS_OK;
}

/* Each message is slow: as long as `hold`. */
static cs_code slow_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                            struct cs_err *e)
{
    (void)service;
    (void)state;
    while (atomic_load(&lim.hold) && !rpc_call_done(call))
        usleep(500);
    cs_code code = echo_send(call, msg.data, msg.len < 10 ? msg.len : 10);
    return code == CS_OK ? CS_OK : cs_fail(e, code, "cannot send");
}

static cs_code stay(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)state;
    (void)e;
    return CS_OK;
}

static const struct rpc_stream_ops fill_ops = {.open = fill_open,
                                               .message = fill_message,
                                               .half_close = stay,
                                               .closed = fill_closed,
                                               .writable = fill_writable};
static const struct rpc_stream_ops oom_ops = {
    .open = fill_open, .message = oom_message, .half_close = stay, .closed = fill_closed};
static const struct rpc_stream_ops slow_ops = {
    .open = fill_open, .message = slow_message, .closed = fill_closed};
static const struct rpc_method lim_methods[] = {
    {.path = "/test.Limits/Fill", .run = RPC_INLINE, .stream = &fill_ops},
    {.path = "/test.Limits/FillWorker", .run = RPC_WORKER, .stream = &fill_ops},
    {.path = "/test.Limits/Oom", .run = RPC_INLINE, .stream = &oom_ops},
    {.path = "/test.Limits/OomWorker", .run = RPC_WORKER, .stream = &oom_ops},
    {.path = "/test.Limits/Slow", .run = RPC_WORKER, .stream = &slow_ops},
};
static const struct rpc_service lim_service = {"test.Limits", lim_methods,
                                               sizeof lim_methods / sizeof lim_methods[0], NULL};

static char lim_path[160];
static struct rpc_client *lim_client;

static void up(struct rpc_server_config cfg)
{
    struct cs_err e = {0};
    memset(&lim, 0, sizeof lim);
    cfg.io_threads = 2;
    cfg.workers = 4;
    cfg.recv_limit = RECV_LIMIT;
    cfg.linger_ns = LINGER_NS;
    cfg.drain_ns = DRAIN_NS;
    cfg.stream_queue = STREAM_QUEUE;
    fx_up(&fx, &cfg);
    fx_listen(&fx, (struct rpc_listener){.tcp_address = "127.0.0.1:0"});
    plain_port = rpc_server_port(fx.server, 1);
    snprintf(lim_path, sizeof lim_path, "%s/l.sock", fx.dir);
    const struct rpc_listener l = {
        .unix_path = lim_path, .unix_mode = 0700, .services = &lim_service, .service_count = 1};
    assert_int_equal(rpc_server_listen(fx.server, &l, &e), CS_OK);
    lim_client = fx_client(&fx, &(struct rpc_client_config){.unix_path = lim_path});
}

static int setup(void **state)
{
    (void)state;
    up((struct rpc_server_config){.message_ns = MESSAGE_NS});
    return 0;
}
static int setup_hogs(void **state)
{
    (void)state;
    up((struct rpc_server_config){.message_ns = HOG_NS});
    return 0;
}
static int setup_old(void **state)
{
    (void)state;
    up((struct rpc_server_config){.max_conn_age_ns = 100 * CS_NS_PER_MS});
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    rpc_client_free(lim_client);
    fx_down(&fx);
    assert_int_equal(atomic_load(&lim.opened), atomic_load(&lim.closed));
    assert_false(atomic_load(&lim.wrong));
    return 0;
}

static void serves(struct rpc_client *c, size_t size)
{
    struct cs_buf request = {0}, out = {0};
    struct cs_err e = {0};
    for (size_t i = 0; i < size; i++)
        cs_buf_add_byte(&request, 'r');
    if (rpc_client_unary(c, "/test.Echo/Inline", cs_buf_slice(&request), &out, NULL, 0, 0, NULL, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_int_equal(out.len, size);
    cs_buf_free(&request);
    cs_buf_free(&out);
}

static void wait_zero(_Atomic size_t *v)
{
    for (int i = 0; i < 20000 && atomic_load(v) != 0; i++)
        usleep(500);
    assert_int_equal(atomic_load(v), 0);
}

static void wait_for_count(_Atomic int *v, int want)
{
    for (int i = 0; i < 20000 && atomic_load(v) < want; i++)
        usleep(500);
    assert_int_equal(atomic_load(v), want);
}

/* --- Frames the server sent --- */

/* How many frames of a type, with `code` as the last byte of a 4 byte payload when code >= 0. */
static int count_frames(const struct cs_buf *in, uint8_t type, int code)
{
    int n = 0;
    for (size_t at = 0; at + 9 <= in->len;) {
        size_t len = (size_t)in->data[at] << 16 | (size_t)in->data[at + 1] << 8 | in->data[at + 2];
        if (at + 9 + len <= in->len && in->data[at + 3] == type && (code < 0 || in->data[at + 12] == code))
            n++;
        at += 9 + len;
    }
    return n;
}

/* Ends of calls: HEADERS with END_STREAM. */
static int count_ends(const struct cs_buf *in)
{
    int n = 0;
    for (size_t at = 0; at + 9 <= in->len;) {
        size_t len = (size_t)in->data[at] << 16 | (size_t)in->data[at + 1] << 8 | in->data[at + 2];
        n += in->data[at + 3] == 1 && (in->data[at + 4] & 1);
        at += 9 + len;
    }
    return n;
}

static void send_all(int fd, const struct cs_buf *b)
{
    for (size_t off = 0; off < b->len;) {
        ssize_t n = send(fd, b->data + off, b->len - off, MSG_NOSIGNAL);
        assert_true(n > 0);
        off += (size_t)n;
    }
}

static void read_some(int fd, struct cs_buf *in)
{
    uint8_t tmp[65536];
    struct pollfd p = {fd, POLLIN, 0};
    assert_int_equal(poll(&p, 1, 10000), 1);
    ssize_t n = recv(fd, tmp, sizeof tmp, 0);
    assert_true(n > 0);
    cs_buf_add(in, tmp, (size_t)n);
}

static void read_ends(int fd, struct cs_buf *in, int want)
{
    while (count_ends(in) < want)
        read_some(fd, in);
}

/* The start of a message of `len` bytes, of which only `sent` come. */
static void part_message(struct cs_buf *b, uint32_t stream, size_t len, size_t sent, uint8_t last_flags)
{
    static const uint8_t zero[16000];
    const uint8_t head[5] = {0, 0, (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};
    frame(b, 0, sent == 0 ? last_flags : 0, stream, head, sizeof head);
    while (sent > 0) {
        size_t n = sent < sizeof zero ? sent : sizeof zero;
        sent -= n;
        frame(b, 0, sent == 0 ? last_flags : 0, stream, zero, n);
    }
}

/* --- Halves of requests --- */

#define HOGS 40
#define HOG_STREAMS 6
#define HOG_BYTES 60000

/* Everybody announces a message and withholds its last byte; those who come later want less, so that
 * nothing is left of what can be had. Others are served meanwhile, on the same
 * listener too; then the hogs' calls end and nothing of them is left. */
static void hog(bool local)
{
    int fds[HOGS];
    size_t limit = local ? RECV_LIMIT : RECV_LIMIT / 4, most = 0;
    for (int i = 0; i < HOGS; i++) {
        fds[i] = local ? raw_unix(&fx) : raw_tcp(plain_port);
        struct cs_buf b = {0};
        preface(&b);
        for (uint32_t k = 0; k < HOG_STREAMS; k++) {
            request(&b, 1 + 2 * k, k % 2 ? "/test.Echo/Inline" : "/test.Echo/Bidi", "application/grpc", 4);
            size_t size = (size_t)HOG_BYTES >> (i / 3 < 12 ? i / 3 : 12);
            part_message(&b, 1 + 2 * k, size + 1, size, 0);
        }
        send_all(fds[i], &b);
        cs_buf_free(&b);
        serves(fx.client, 4000);
        serves(fx.tls_client, 4000);
        size_t held = atomic_load(local ? &fx.server->local.used : &fx.server->tcp.used);
        assert_true(held <= limit);
        most = held > most ? held : most;
    }
    assert_true(most > limit / 2);
    bool late = false;
    for (int i = 0; i < HOGS; i++) {
        struct cs_buf in = {0};
        char status[16];
        read_ends(fds[i], &in, HOG_STREAMS);
        header(&in, "grpc-status", status, sizeof status); /* of the last */
        assert_true(strcmp(status, "4") == 0 || strcmp(status, "8") == 0);
        late = late || status[0] == '4';
        cs_buf_free(&in);
    }
    assert_true(late);
    wait_zero(&fx.server->tcp.used);
    wait_zero(&fx.server->tcp_anon.used);
    wait_zero(&fx.server->local.used);
    for (int i = 0; i < HOGS; i++)
        close(fds[i]);
    serves(fx.client, 30000);
    serves(fx.tls_client, 30000);
}
static void test_hogs_tcp(void **state)
{
    (void)state;
    hog(false);
}
static void test_hogs_unix(void **state)
{
    (void)state;
    hog(true);
}

/* The last byte is there, the end of the request is not; or nothing comes after the headers. */
static void test_no_end(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct cs_buf b = {0}, in = {0};
        char status[16];
        preface(&b);
        request(&b, 1, "/test.Echo/Inline", "application/grpc", 4);
        if (i == 0)
            part_message(&b, 1, 1000, 1000, 0);
        int fd = raw_unix(&fx);
        int64_t start = cs_mono_ns(&cs_clock_system);
        send_all(fd, &b);
        read_ends(fd, &in, 1);
        assert_true(cs_mono_ns(&cs_clock_system) - start > MESSAGE_NS / 2);
        header(&in, "grpc-status", status, sizeof status);
        assert_string_equal(status, "4");
        close(fd);
        cs_buf_free(&b);
        cs_buf_free(&in);
    }
}

/* A stream may be quiet between its messages. */
static void test_quiet_stream(void **state)
{
    (void)state;
    struct cs_err e = {0};
    struct cs_buf out = {0};
    struct rpc_stream *s = NULL;
    bool end = false;
    assert_int_equal(rpc_stream_open(fx.client, "/test.Echo/Bidi", NULL, 0, 0, &s, &e), CS_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rpc_stream_send(s, cs_slice_str("still here"), &e), CS_OK);
        assert_int_equal(rpc_stream_recv(s, &out, &end, 10 * CS_NS_PER_S, NULL, &e), CS_OK);
        usleep(2 * MESSAGE_NS / 1000);
    }
    rpc_stream_free(s);
    cs_buf_free(&out);
}

/* While the handler is busy with the message before, the peer cannot finish the next one. */
static void test_slow_handler(void **state)
{
    (void)state;
    struct cs_buf b = {0}, in = {0};
    preface(&b);
    request(&b, 1, "/test.Limits/Slow", "application/grpc", 4);
    part_message(&b, 1, 3, 3, 0);
    part_message(&b, 1, 1000, 999, 0);
    struct fixture f = fx;
    snprintf(f.path, sizeof f.path, "%.120s", lim_path);
    int fd = raw_unix(&f);
    atomic_store(&lim.hold, true);
    send_all(fd, &b);
    usleep(3 * MESSAGE_NS / 1000);
    atomic_store(&lim.hold, false);
    while (count_frames(&in, 0, -1) < 1)
        read_some(fd, &in);
    assert_int_equal(count_ends(&in), 0);
    cs_buf_reset(&b);
    frame(&b, 0, 1, 1, "x", 1);
    send_all(fd, &b);
    read_ends(fd, &in, 1);
    assert_int_equal(count_frames(&in, 0, -1), 2);
    char status[16];
    header(&in, "grpc-status", status, sizeof status);
    assert_string_equal(status, "0");
    close(fd);
    cs_buf_free(&b);
    cs_buf_free(&in);
}

/* --- The end of draining --- */

static void test_drain_end(void **state)
{
    (void)state;
    struct cs_buf b = {0}, in = {0};
    preface(&b);
    request(&b, 1, "/test.Echo/Bidi", "application/grpc", 4);
    part_message(&b, 1, 1000, 500, 0);
    int fd = raw_unix(&fx);
    int64_t start = cs_mono_ns(&cs_clock_system);
    assert_true(converse(fd, &b, &in, 0xff));
    assert_true(cs_mono_ns(&cs_clock_system) - start >= DRAIN_NS);
    assert_int_equal(goaway_code(&in), 0);
    assert_int_equal(count_ends(&in), 0);
    close(fd);
    cs_buf_free(&b);
    cs_buf_free(&in);
    wait_zero(&fx.server->local.used);
    serves(fx.client, 1);
}

/* --- Answers nobody reads --- */

static void request_until(struct cs_buf *b, uint32_t stream, const char *timeout, const char *body)
{
    struct cs_buf h = {0}, m = {0};
    literal(&h, ":method", "POST");
    literal(&h, ":scheme", "http");
    literal(&h, ":path", "/test.Echo/Inline");
    literal(&h, ":authority", "x");
    literal(&h, "content-type", "application/grpc");
    if (timeout != NULL)
        literal(&h, "grpc-timeout", timeout);
    frame(b, 1, 4, stream, h.data, h.len);
    const uint8_t head[5] = {0, 0, 0, 0, (uint8_t)strlen(body)};
    cs_buf_add(&m, head, sizeof head);
    cs_buf_add_str(&m, body);
    frame(b, 0, 1, stream, m.data, m.len);
    cs_buf_free(&h);
    cs_buf_free(&m);
}

static void no_window_preface(struct cs_buf *b)
{
    cs_buf_add_str(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(b, 4, 0, 0, "\0\4\0\0\0\0", 6); /* INITIAL_WINDOW_SIZE 0 */
}

static void test_zero_window(void **state)
{
    (void)state;
    struct cs_buf b = {0}, in = {0};
    no_window_preface(&b);
    for (uint32_t i = 0; i < 60; i++)
        request_until(&b, 1 + 2 * i, i % 2 ? "99999999H" : NULL, i % 3 ? "small" : "big:100000");
    int fd = raw_unix(&fx);
    send_all(fd, &b);
    while (count_frames(&in, 3, 8) < 60) /* RST_STREAM, CANCEL */
        read_some(fd, &in);
    assert_int_equal(count_frames(&in, 0, -1), 0);
    /* the connection itself goes on */
    cs_buf_reset(&b);
    request_until(&b, 999, NULL, "read");
    frame(&b, 8, 0, 999, "\0\0\1\0", 4); /* WINDOW_UPDATE */
    send_all(fd, &b);
    read_ends(fd, &in, 1);
    assert_int_equal(count_frames(&in, 0, -1), 1);
    close(fd);
    cs_buf_free(&b);
    cs_buf_free(&in);
}

/* Who reads slowly still reads. */
static void test_slow_reader(void **state)
{
    (void)state;
    struct cs_buf b = {0}, in = {0};
    no_window_preface(&b);
    request_until(&b, 1, "99999999H", "big:1000");
    int fd = raw_unix(&fx);
    send_all(fd, &b);
    for (int i = 0; i < 12; i++) {
        cs_buf_reset(&b);
        frame(&b, 8, 0, 1, i == 11 ? "\0\0\4\0" : "\0\0\0\1", 4);
        usleep(LINGER_NS / 4 / 1000);
        send_all(fd, &b);
    }
    read_ends(fd, &in, 1);
    assert_int_equal(count_frames(&in, 3, -1), 0);
    close(fd);
    cs_buf_free(&b);
    cs_buf_free(&in);
}

/* --- Going on when there is room --- */

static int receive_all(struct rpc_stream *s)
{
    struct cs_err e = {0};
    struct cs_buf out = {0};
    bool end = false;
    int n = 0;
    while (rpc_stream_recv(s, &out, &end, 10 * CS_NS_PER_S, NULL, &e) == CS_OK && !end) {
        assert_int_equal(out.len, CHUNK);
        cs_buf_reset(&out);
        n++;
    }
    assert_true(end);
    if (e.code != CS_OK)
        fail_msg("%s", e.text);
    cs_buf_free(&out);
    return n;
}

static void fill(const char *path, const char *count, int want)
{
    struct cs_err e = {0};
    struct rpc_stream *s = NULL;
    int closed = atomic_load(&lim.closed);
    assert_int_equal(rpc_stream_open(lim_client, path, NULL, 0, 0, &s, &e), CS_OK);
    assert_int_equal(rpc_stream_send(s, cs_slice_str(count), &e), CS_OK);
    assert_int_equal(receive_all(s), want);
    rpc_stream_free(s);
    wait_for_count(&lim.closed, closed + 1);
}

static void test_writable(void **state)
{
    (void)state;
    fill("/test.Limits/Fill", "3", 3);
    fill("/test.Limits/FillWorker", "3", 3);
    assert_int_equal(atomic_load(&lim.writable), 0);
    for (int i = 0; i < 2; i++) {
        int writable = atomic_load(&lim.writable), refused = atomic_load(&lim.refused);
        fill(i ? "/test.Limits/FillWorker" : "/test.Limits/Fill", "2000", 2000);
        int times = atomic_load(&lim.writable) - writable;
        /* one for each refusal, and each with more than half a queue to fill */
        assert_int_equal(times, atomic_load(&lim.refused) - refused);
        assert_true(times > 100 && times < 1000);
    }
}

/* Nothing is called for a stream that is not read, nor after its end. */
static void test_writable_unread(void **state)
{
    (void)state;
    struct cs_buf b = {0};
    no_window_preface(&b);
    request(&b, 1, "/test.Limits/FillWorker", "application/grpc", 4);
    frame(&b, 0, 0, 1, "\0\0\0\0\0031000", 8);
    frame(&b, 0, 0, 1, "", 0);
    struct fixture f = fx;
    snprintf(f.path, sizeof f.path, "%.120s", lim_path);
    int fd = raw_unix(&f);
    send_all(fd, &b);
    wait_for_count(&lim.refused, 1);
    usleep(50000);
    assert_int_equal(atomic_load(&lim.writable), 0);
    cs_buf_reset(&b);
    frame(&b, 3, 0, 1, "\0\0\0\x08", 4);
    send_all(fd, &b);
    wait_for_count(&lim.closed, 1);
    assert_int_equal(atomic_load(&lim.writable), 0);
    close(fd);
    cs_buf_free(&b);
}

/* --- Out of memory --- */

static void oom(const char *path, const char *what)
{
    struct cs_err e = {0};
    struct rpc_stream *s = NULL;
    int closed = atomic_load(&lim.closed);
    struct rpc_client *c = fx_client(&fx, &(struct rpc_client_config){.unix_path = lim_path});
    assert_int_equal(rpc_stream_open(c, path, NULL, 0, 0, &s, &e), CS_OK);
    assert_int_equal(rpc_stream_send(s, cs_slice_str(what), &e), CS_OK);
    if (strcmp(what, "keep") == 0) {
        struct rpc_call *call;
        while ((call = atomic_load(&lim.kept)) == NULL)
            usleep(500);
        /* neither the loop nor the executor can be reached from here: the end of the stream does it */
        (void)cs_mem_fail_at(1, true);
        rpc_call_finish(call, CS_ABORTED, "over");
        (void)cs_mem_fail_at(0, false);
        rpc_call_unref(call);
        atomic_store(&lim.kept, NULL);
        rpc_stream_cancel(s);
    }
    wait_for_count(&lim.closed, closed + 1);
    rpc_stream_free(s);
    rpc_client_free(c);
    assert_int_equal(atomic_load(&lim.opened), atomic_load(&lim.closed));
}

/* `closed` runs whatever happens, or what hangs on the state hangs for ever. */
static void test_closed_without_memory(void **state)
{
    (void)state;
    static const char *const whats[] = {"here", "finish", "keep"};
    for (size_t i = 0; i < 6; i++)
        oom(i % 2 ? "/test.Limits/OomWorker" : "/test.Limits/Oom", whats[i / 2]);
    for (int i = 0; i < 20000 && atomic_load(&fx.server->live_calls) != 0; i++)
        usleep(500);
    assert_int_equal(atomic_load(&fx.server->live_calls), 0);
    serves(fx.client, 1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hogs_tcp, setup_hogs, teardown),
        cmocka_unit_test_setup_teardown(test_hogs_unix, setup_hogs, teardown),
        T(test_no_end),
        T(test_quiet_stream),
        T(test_slow_handler),
        cmocka_unit_test_setup_teardown(test_drain_end, setup_old, teardown),
        T(test_zero_window),
        T(test_slow_reader),
        T(test_writable),
        T(test_writable_unread),
        T(test_closed_without_memory),
    };
    return cmocka_run_group_tests_name("rpc/limits", tests, NULL, NULL);
}
