/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection's deadlines under a clock that the test turns, who is at its other end, and its life when
 * memory runs out. The peer is this test, frame by frame.
 */
#include "base/coll.h"
#include "raw.h"
#include "rpc/internal.h"

#include <pthread.h>
#include <semaphore.h>

#define KEEPALIVE_NS (100 * CS_NS_PER_S)
#define IDLE_NS (1000 * CS_NS_PER_S)
#define AGE_NS (500 * CS_NS_PER_S)

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

struct world {
    char dir[64], path[128];
    struct echo echo;
    struct rpc_service services[2];
    struct rpc_server *server;
    struct cs_fake_clock clock;
    _Atomic int accepted, destroyed;
    _Atomic bool refuse;
};

/* --- The server --- */

struct errand {
    void (*fn)(struct world *w, void *arg);
    struct world *w;
    void *arg;
    sem_t done;
};

static void run_errand(void *arg)
{
    struct errand *j = arg;
    j->fn(j->w, j->arg);
    sem_post(&j->done);
}

/* fn on the I/O thread; returns after it. */
static void on_lane(struct world *w, void (*fn)(struct world *w, void *arg), void *arg)
{
    struct errand j = {fn, w, arg, {{0}}};
    sem_init(&j.done, 0, 0);
    assert_true(loop_post(w->server->lanes[0].loop, run_errand, &j));
    while (sem_wait(&j.done) != 0)
        assert_int_equal(errno, EINTR);
    sem_destroy(&j.done);
}

static void put_clock(struct world *w, void *arg)
{
    (void)arg;
    w->server->lanes[0].timers.clock = &w->clock.clock;
}

static void run_timers(struct world *w, void *arg)
{
    (void)arg;
    rpc_timers_run(&w->server->lanes[0].timers);
}

static void pass(struct world *w, int64_t ns)
{
    cs_fake_clock_advance(&w->clock, ns);
    on_lane(w, run_timers, NULL);
}

static void count_conns(struct world *w, void *arg)
{
    int *n = arg;
    *n = 0;
    for (const struct rpc_conn *c = w->server->lanes[0].conns; c != NULL; c = c->next)
        ++*n;
}

/* A worker may hold the last reference, so this can come after the connection left its lane. */
static void count_destroyed(struct world *w, void *arg)
{
    *(int *)arg = atomic_load(&w->destroyed);
}

static void is_stalled(struct world *w, void *arg)
{
    const struct rpc_conn *c = w->server->lanes[0].conns;
    *(int *)arg = c != NULL && c->stall_by != INT64_MAX;
}

/* Asks on the I/O thread until the answer is `want`. */
static void await(struct world *w, void (*ask)(struct world *w, void *arg), int want)
{
    int got = !want;
    for (int i = 0; i < 10000 && got != want; i++) {
        on_lane(w, ask, &got);
        if (got != want)
            usleep(1000);
    }
    assert_int_equal(got, want);
}

static void destroy(void *data)
{
    struct world *w = data;
    atomic_fetch_add(&w->destroyed, 1);
}

static cs_code on_accept(void *arg, const struct loop_peer *peer, void **conn_data, void (**fn)(void *),
                         struct cs_err *e)
{
    struct world *w = (struct world *)(void *)((char *)arg - offsetof(struct world, echo));
    if (atomic_load(&w->refuse))
        return cs_fail(e, CS_DENIED, "not you");
    if (peer->pid != getpid() || peer->uid != getuid() || peer->gid != getgid())
        return cs_fail(e, CS_INTERNAL, "wrong peer");
    atomic_fetch_add(&w->accepted, 1);
    *conn_data = w;
    *fn = destroy;
    return CS_OK;
}

static cs_code who(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                   struct cs_err *e)
{
    struct rpc_conn *conn = rpc_call_conn(call);
    const struct loop_peer *peer = rpc_conn_peer(conn);
    size_t chain = 1;
    (void)request;
    (void)rpc_conn_peer_chain(conn, &chain);
    if (peer == NULL || !rpc_conn_is_unix(conn) || chain != 0 || rpc_conn_data(conn) != service)
        return cs_fail(e, CS_INTERNAL, "wrong connection");
    CS_TRY(loop_peer_check(peer, e));
    cs_buf_printf(response, "%d %u %s '%s'", (int)peer->pid, (unsigned)peer->uid, rpc_conn_address(conn),
                  rpc_conn_ip(conn));
    return CS_OK;
}

static const struct rpc_method who_methods[] = {
    {.path = "/test.Who/Inline", .run = RPC_INLINE, .unary = who},
    {.path = "/test.Who/Worker", .run = RPC_WORKER, .unary = who},
};

static struct world world;

static void up(struct rpc_server_config cfg)
{
    struct world *w = &world;
    struct cs_err e = {0};
    memset(w, 0, sizeof *w);
    cs_fake_clock_init(&w->clock, 1700000000);
    snprintf(w->dir, sizeof w->dir, "/tmp/cs-rpc-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof w->path, "%.63s/s.sock", w->dir);
    w->services[0] = (struct rpc_service){"test.Echo", echo_methods,
                                          sizeof echo_methods / sizeof echo_methods[0], &w->echo};
    w->services[1] = (struct rpc_service){"test.Who", who_methods, 2, w};
    cfg.io_threads = 1;
    cfg.workers = 1;
    assert_int_equal(rpc_server_new(&cfg, &w->server, &e), CS_OK);
    on_lane(w, put_clock, NULL);
    const struct rpc_listener l = {.unix_path = w->path,
                                   .unix_mode = 0700,
                                   .services = w->services,
                                   .service_count = 2,
                                   .arg = &w->echo,
                                   .begin = echo_begin,
                                   .end = echo_end,
                                   .accept_unix = on_accept};
    assert_int_equal(rpc_server_listen(w->server, &l, &e), CS_OK);
}

static int up_timeless(void **state)
{
    (void)state;
    up((struct rpc_server_config){.keepalive_ns = 1000000 * CS_NS_PER_S});
    return 0;
}
static int up_keepalive(void **state)
{
    (void)state;
    up((struct rpc_server_config){.keepalive_ns = KEEPALIVE_NS});
    return 0;
}
static int up_idle(void **state)
{
    (void)state;
    up((struct rpc_server_config){.max_conn_idle_ns = IDLE_NS, .keepalive_ns = 1000000 * CS_NS_PER_S});
    return 0;
}
static int up_age(void **state)
{
    (void)state;
    up((struct rpc_server_config){.max_conn_age_ns = AGE_NS, .keepalive_ns = 1000000 * CS_NS_PER_S});
    return 0;
}
static int down(void **state)
{
    struct world *w = &world;
    (void)state;
    rpc_server_shutdown(w->server, 0);
    rpc_server_free(w->server);
    assert_int_equal(w->accepted, w->destroyed);
    assert_int_equal(w->echo.begun, w->echo.ended);
    assert_int_equal(rmdir(w->dir), 0);
    return 0;
}

/* --- The peer, frame by frame --- */

static void headers(struct cs_buf *b, uint32_t stream, const char *path)
{
    struct cs_buf h = {0};
    literal(&h, ":method", "POST");
    literal(&h, ":scheme", "http");
    literal(&h, ":path", path);
    literal(&h, ":authority", "x");
    literal(&h, "content-type", "application/grpc");
    literal(&h, "note", "kept as metadata");
    frame(b, HEADERS, END_HEADERS, stream, h.data, h.len);
    cs_buf_free(&h);
}

static void message(struct cs_buf *b, uint32_t stream, const char *text, uint8_t flags)
{
    struct cs_buf m = {0};
    const uint8_t head[5] = {0, 0, 0, 0, (uint8_t)strlen(text)};
    cs_buf_add(&m, head, sizeof head);
    cs_buf_add_str(&m, text);
    frame(b, DATA, flags, stream, m.data, m.len);
    cs_buf_free(&m);
}

static int dial(struct world *w)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof sa.sun_path, "%.100s", w->path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

static void say(int fd, struct cs_buf *b)
{
    assert_true(cs_buf_ok(b));
    assert_int_equal(send(fd, b->data, b->len, MSG_NOSIGNAL), b->len);
    cs_buf_free(b);
}

struct got {
    uint8_t type, flags;
    uint32_t stream;
    size_t len;
    uint8_t data[32768];
};

static bool take(int fd, void *p, size_t n)
{
    for (size_t have = 0; have < n;) {
        struct pollfd pf = {fd, POLLIN, 0};
        assert_int_equal(poll(&pf, 1, 20000), 1);
        ssize_t k = recv(fd, (uint8_t *)p + have, n - have, 0);
        if (k <= 0)
            return false;
        have += (size_t)k;
    }
    return true;
}

/* The next frame; false at the end of the connection. */
static bool hear(int fd, struct got *g)
{
    uint8_t h[9];
    if (!take(fd, h, sizeof h))
        return false;
    *g = (struct got){.type = h[3], .flags = h[4], .len = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2]};
    g->stream = (uint32_t)h[5] << 24 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8];
    assert_true(g->len <= sizeof g->data);
    return take(fd, g->data, g->len);
}

/* Passes over frames of other types; false when the connection ended before. */
static bool hear_type(int fd, uint8_t type, struct got *g)
{
    while (hear(fd, g)) {
        if (g->type == type)
            return true;
    }
    return false;
}

static void expect_end(int fd)
{
    static struct got g;
    while (hear(fd, &g)) {
    }
    close(fd);
    await(&world, count_conns, 0);
}

/* A ping of ours, answered: the server has worked on all that was sent before. */
static void sync_with(int fd)
{
    static struct got g;
    struct cs_buf b = {0};
    frame(&b, PING, 0, 0, "--sync--", 8);
    say(fd, &b);
    do
        assert_true(hear_type(fd, PING, &g));
    while (!(g.flags & ACK));
    assert_memory_equal(g.data, "--sync--", 8);
}

static int greet(struct world *w)
{
    struct cs_buf b = {0};
    int fd = dial(w);
    preface(&b);
    say(fd, &b);
    sync_with(fd);
    return fd;
}

/* --- Deadlines --- */

static void test_keepalive_answered(void **state)
{
    static struct got g;
    struct world *w = &world;
    (void)state;
    int fd = greet(w);
    for (int i = 0; i < 3; i++) {
        pass(w, KEEPALIVE_NS);
        assert_true(hear_type(fd, PING, &g));
        assert_int_equal(g.flags, 0);
        struct cs_buf b = {0};
        frame(&b, PING, ACK, 0, g.data, 8);
        say(fd, &b);
        sync_with(fd);
        pass(w, RPC_PING_WAIT_NS); /* not the time for the next ping, and the last was answered */
    }
    sync_with(fd);
    close(fd);
}

static void test_keepalive_unanswered(void **state)
{
    static struct got g;
    struct world *w = &world;
    (void)state;
    int fd = greet(w);
    pass(w, KEEPALIVE_NS - CS_NS_PER_S);
    sync_with(fd);
    pass(w, KEEPALIVE_NS);
    assert_true(hear_type(fd, PING, &g));
    pass(w, RPC_PING_WAIT_NS - CS_NS_PER_S);
    await(w, count_conns, 1);
    pass(w, CS_NS_PER_S);
    expect_end(fd);
}

/* Open stream windows, a socket nobody reads. */
static void test_stall(void **state)
{
    static const uint8_t wide[6] = {0, 4, 0x7f, 0xff, 0xff, 0xff};
    static const uint8_t more[4] = {0x7f, 0, 0, 0};
    struct world *w = &world;
    (void)state;
    int fd = greet(w);
    struct cs_buf b = {0};
    frame(&b, SETTINGS, 0, 0, wide, sizeof wide);
    frame(&b, WINDOW_UPDATE, 0, 0, more, sizeof more);
    headers(&b, 1, "/test.Echo/Count");
    message(&b, 1, "4:1000000", END_STREAM);
    say(fd, &b);
    await(w, is_stalled, 1);
    pass(w, RPC_STALL_NS - CS_NS_PER_S);
    await(w, count_conns, 1);
    pass(w, 2 * CS_NS_PER_S);
    await(w, count_conns, 0);
    close(fd);
    assert_int_equal(w->echo.opened, w->echo.closed);
}

/* A finished stream whose rest the peer's window does not let out. */
static void test_linger(void **state)
{
    static struct got g;
    struct world *w = &world;
    (void)state;
    int fd = greet(w);
    struct cs_buf b = {0};
    headers(&b, 1, "/test.Echo/Count");
    message(&b, 1, "1:300000", END_STREAM);
    say(fd, &b);
    size_t seen = 0;
    while (seen < 65535) { /* the first window */
        assert_true(hear_type(fd, DATA, &g));
        seen += g.len;
    }
    pass(w, 50 * CS_NS_PER_S);
    sync_with(fd);
    for (int i = 0; i < 3; i++) /* the wait begins again when something was taken */
        pass(w, 60 * CS_NS_PER_S);
    assert_true(hear_type(fd, RST_STREAM, &g));
    assert_int_equal(g.stream, 1);
    sync_with(fd); /* the connection lives */
    close(fd);
}

static void test_max_idle(void **state)
{
    static struct got g;
    struct world *w = &world;
    (void)state;
    int fd = greet(w);
    pass(w, IDLE_NS - CS_NS_PER_S);
    sync_with(fd);
    pass(w, CS_NS_PER_S);
    assert_true(hear_type(fd, GOAWAY, &g));
    assert_memory_equal(g.data, "\x7f\xff\xff\xff\0\0\0\0", 8); /* what is on its way is still taken */
    pass(w, RPC_GOAWAY_WAIT_NS);                                /* the ping with it is not answered */
    assert_true(hear_type(fd, GOAWAY, &g));
    assert_memory_equal(g.data, "\0\0\0\0\0\0\0\0", 8);
    expect_end(fd);
}

/* An old connection finishes what it has, takes nothing new, and ends. */
static void test_max_age(void **state)
{
    static struct got g;
    struct world *w = &world;
    (void)state;
    int fd = greet(w);
    struct cs_buf b = {0};
    headers(&b, 1, "/test.Echo/Bidi");
    message(&b, 1, "before", 0);
    say(fd, &b);
    assert_true(hear_type(fd, DATA, &g));
    pass(w, AGE_NS);
    assert_true(hear_type(fd, PING, &g)); /* nghttp2 lets it pass the GOAWAY */
    frame(&b, PING, ACK, 0, g.data, 8);
    assert_true(hear_type(fd, GOAWAY, &g));
    assert_memory_equal(g.data, "\x7f\xff\xff\xff\0\0\0\0", 8);
    say(fd, &b);
    assert_true(hear_type(fd, GOAWAY, &g));
    assert_memory_equal(g.data, "\0\0\0\1\0\0\0\0", 8);
    headers(&b, 3, "/test.Echo/Bidi");
    message(&b, 3, "too late", 0);
    message(&b, 1, "after", 0);
    say(fd, &b);
    assert_true(hear_type(fd, DATA, &g));
    assert_int_equal(g.stream, 1);
    assert_memory_equal(g.data + 5, "after", 5);
    frame(&b, DATA, END_STREAM, 1, "", 0);
    say(fd, &b);
    assert_true(hear_type(fd, HEADERS, &g));
    assert_int_equal(g.stream, 1);
    assert_true(g.flags & END_STREAM);
    expect_end(fd);
    assert_int_equal(w->echo.opened, 1);
}

/* --- Who is there --- */

static void test_peer(void **state)
{
    static struct got g;
    struct world *w = &world;
    char want[64];
    (void)state;
    int fd = greet(w);
    snprintf(want, sizeof want, "%d %u @ ''", (int)getpid(), (unsigned)getuid());
    for (uint32_t i = 0; i < 2; i++) {
        struct cs_buf b = {0};
        headers(&b, 1 + 2 * i, i == 0 ? "/test.Who/Inline" : "/test.Who/Worker");
        message(&b, 1 + 2 * i, "", END_STREAM);
        say(fd, &b);
        assert_true(hear_type(fd, DATA, &g));
        assert_int_equal(g.len, 5 + strlen(want));
        assert_memory_equal(g.data + 5, want, strlen(want));
    }
    assert_int_equal(w->accepted, 1);
    assert_int_equal(w->destroyed, 0);
    close(fd);
    await(w, count_conns, 0);
    await(w, count_destroyed, 1);
}

static void test_peer_refused(void **state)
{
    struct world *w = &world;
    (void)state;
    atomic_store(&w->refuse, true);
    int fd = dial(w);
    expect_end(fd);
    atomic_store(&w->refuse, false);
    fd = greet(w);
    close(fd);
}

/* --- No memory --- */

struct attempt {
    int fd;
    size_t n;
    bool forever, made, died;
};

/* On the I/O thread, all that a connection does for an inline unary call and an inline stream. */
static void serve_some(struct world *w, void *arg)
{
    struct attempt *a = arg;
    struct rpc_lane *lane = &w->server->lanes[0];
    struct rpc_conn *conn = NULL;
    struct cs_err e;
    struct cs_buf b[5] = {{0}};
    preface(&b[0]);
    headers(&b[1], 1, "/test.Echo/Inline");
    message(&b[1], 1, "abc", END_STREAM);
    headers(&b[2], 3, "/test.Echo/Bidi");
    message(&b[2], 3, "one", 0);
    message(&b[3], 3, "two", END_STREAM);
    headers(&b[4], 5, "/test.Echo/Inline");
    message(&b[4], 5, "fail:7:no, with words", END_STREAM);
    atomic_fetch_add(&w->server->conn_count, 1);
    (void)cs_mem_fail_at(a->n, a->forever);
    a->made = rpc_conn_new(lane, w->server->endpoints, a->fd, NULL, "@", "", &conn, &e) == CS_OK;
    if (a->made)
        rpc_conn_ref(conn);
    else
        rpc_lane_conn_closed(lane);
    for (size_t i = 0; i < 5 && a->made && !conn->io.dead; i++)
        rpc_io_feed(&conn->io, b[i].data, b[i].len);
    (void)cs_mem_fail_at(0, false);
    if (a->made) {
        a->died = conn->io.dead;
        if (!conn->io.closing) {
            rpc_io_feed(&conn->io, b[0].data, 0); /* what was left over for want of memory */
            rpc_conn_kill(conn, "end of the test");
            rpc_io_feed(&conn->io, b[0].data, 0);
        }
        rpc_conn_unref(conn);
    }
    for (size_t i = 0; i < 5; i++)
        cs_buf_free(&b[i]);
}

/* Streams of 1, 3, 5 that were ended by the server; bit 7: GOAWAY with an error. */
static unsigned ended(int fd, unsigned *good)
{
    static struct got g;
    unsigned bits = 0;
    *good = 0;
    while (hear(fd, &g)) {
        if (g.type == DATA && g.len == 8)
            *good += 1;
        if ((g.type == HEADERS && (g.flags & END_STREAM)) || g.type == RST_STREAM)
            bits |= 1u << (g.stream / 2);
        if (g.type == GOAWAY)
            bits |= g.data[7] != 0 ? 0x80 : 0;
    }
    return bits;
}

static void test_no_memory(void **state)
{
    struct world *w = &world;
    (void)state;
    for (int forever = 0; forever < 2; forever++) {
        unsigned good = 0, bits = 0;
        size_t n = 0;
        while (bits != 7 || good != 3) {
            int pair[2];
            assert_true(++n < 2000);
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
            assert_int_equal(fcntl(pair[1], F_SETFL, O_NONBLOCK), 0);
            struct attempt a = {.fd = pair[1], .n = n, .forever = forever != 0};
            on_lane(w, serve_some, &a);
            bits = ended(pair[0], &good);
            /* nobody is left waiting on a connection that goes on */
            if (a.made && !a.died && !(bits & 0x80) && (bits & 7) != 7)
                fail_msg("allocation %zu: streams %x ended", n, bits);
            close(pair[0]);
            await(w, count_conns, 0);
            assert_int_equal(atomic_load(&w->server->live_calls), 0);
            assert_int_equal(w->echo.begun, w->echo.ended);
            assert_int_equal(w->echo.opened, w->echo.closed);
        }
        assert_true(n > 30);
    }
}

/* --- The client --- */

/* A server that greets, takes a request, and is never heard again. */
static void *mute_server(void *arg)
{
    static struct got g;
    const int *listener = arg;
    char magic[24];
    struct cs_buf b = {0};
    int fd = accept(*listener, NULL, NULL);
    frame(&b, SETTINGS, 0, 0, "", 0);
    say(fd, &b);
    if (take(fd, magic, sizeof magic)) {
        while (hear(fd, &g)) {
        }
    }
    close(fd);
    return NULL;
}

/* The ping finds out, long before the call's deadline. */
static void test_client_keepalive(void **state)
{
    (void)state;
    struct cs_err e = {0};
    char dir[] = "/tmp/cs-rpc-XXXXXX";
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    assert_non_null(mkdtemp(dir));
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s/s.sock", dir);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(listener, 1), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, mute_server, &listener), 0);
    struct loop *loop;
    assert_int_equal(loop_new("client", &loop, &e), CS_OK);
    assert_int_equal(loop_start(loop, &e), CS_OK);
    struct rpc_client *c;
    const struct rpc_client_config cfg = {
        .unix_path = sa.sun_path, .keepalive_ns = 20 * CS_NS_PER_MS, .keepalive_wait_ns = 20 * CS_NS_PER_MS};
    assert_int_equal(rpc_client_new(loop, &cfg, &c, &e), CS_OK);
    char out[600];
    assert_int_equal(fx_call(c, "Inline", "x", out, sizeof out), CS_UNAVAILABLE);
    assert_non_null(strstr(out, "keepalive ping failed to receive ACK within timeout"));
    rpc_client_free(c);
    loop_free(loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(listener);
    unlink(sa.sun_path);
    assert_int_equal(rmdir(dir), 0);
}

#define T(fn, up) cmocka_unit_test_setup_teardown(fn, up, down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_keepalive_answered, up_keepalive),
        T(test_keepalive_unanswered, up_keepalive),
        T(test_stall, up_timeless),
        T(test_linger, up_timeless),
        T(test_max_idle, up_idle),
        T(test_max_age, up_age),
        T(test_peer, up_timeless),
        T(test_peer_refused, up_timeless),
        T(test_no_memory, up_timeless),
        cmocka_unit_test(test_client_keepalive),
    };
    return cmocka_run_group_tests_name("rpc/conn", tests, NULL, NULL);
}
