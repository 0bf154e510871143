/* SPDX-License-Identifier: Apache-2.0
 *
 * What rpc/h2mem.h takes for granted about the nghttp2 at hand: the size of a session's frame buffer, and
 * that nothing in it is needed after nghttp2_session_mem_send's bytes were copied.
 */
#include "base/buf.h"
#include "base/mem.h"
#include "rpc/h2mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define BODY 100000u
#define LONG_HEADER 40000u /* needs CONTINUATION frames: nghttp2 chains more buffers for it */

struct peer {
    nghttp2_session *h2;
    struct cs_buf body;    /* received */
    size_t header_bytes;   /* received */
    size_t sent, deferred; /* of our own body */
    bool closed;
};

static struct rpc_h2mem mem;

static int setup(void **state)
{
    struct cs_err e;
    (void)state;
    return rpc_h2mem_init(&mem, &e) == CS_OK ? 0 : -1;
}
static int teardown(void **state)
{
    (void)state;
    rpc_h2mem_free(&mem);
    return 0;
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

static ssize_t on_read(nghttp2_session *h2, int32_t stream, uint8_t *buf, size_t length, uint32_t *flags,
                       nghttp2_data_source *source, void *arg)
{
    struct peer *p = arg;
    (void)h2;
    (void)stream;
    (void)source;
    if (p->sent > BODY / 2 && p->deferred == 0) {
        p->deferred = 1;
        return NGHTTP2_ERR_DEFERRED;
    }
    size_t n = BODY - p->sent < length ? BODY - p->sent : length;
    for (size_t i = 0; i < n; i++)
        buf[i] = pattern(p->sent + i);
    p->sent += n;
    if (p->sent == BODY)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t namelen,
                     const uint8_t *value, size_t valuelen, uint8_t flags, void *arg)
{
    struct peer *p = arg;
    (void)h2;
    (void)frame;
    (void)name;
    (void)flags;
    p->header_bytes += namelen + valuelen;
    for (size_t i = 0; valuelen == LONG_HEADER && i < valuelen; i++)
        assert_int_equal(value[i], 'a' + i % 23);
    return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream, const uint8_t *data, size_t len,
                   void *arg)
{
    struct peer *p = arg;
    (void)h2;
    (void)flags;
    (void)stream;
    cs_buf_add(&p->body, data, len);
    return 0;
}

static int on_close(nghttp2_session *h2, int32_t stream, uint32_t error, void *arg)
{
    struct peer *p = arg;
    (void)h2;
    (void)stream;
    assert_int_equal(error, 0);
    p->closed = true;
    return 0;
}

static void open_session(struct peer *p, bool server)
{
    nghttp2_session_callbacks *cb;
    assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_option *option;
    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_option_set_max_send_header_block_length(option, 128u * 1024);
    assert_int_equal(rpc_h2mem_session(&mem, server, cb, p, option, &p->h2), 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(cb);
    nghttp2_settings_entry iv = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 2 * BODY};
    assert_int_equal(nghttp2_submit_settings(p->h2, 0, &iv, 1), 0);
    assert_int_equal(nghttp2_session_set_local_window_size(p->h2, 0, 0, 2 * BODY), 0);
}

/* One frame from one session to the other; what the shared buffer held is gone before the next. */
static bool step(struct peer *from, struct peer *to)
{
    const uint8_t *p;
    rpc_h2mem_send_begin(&mem);
    ssize_t n = nghttp2_session_mem_send(from->h2, &p);
    assert_true(n >= 0);
    struct cs_buf copy = {0};
    cs_buf_add(&copy, p, (size_t)n);
    rpc_h2mem_send_end(&mem);
    rpc_h2mem_poison(&mem);
    assert_int_equal(nghttp2_session_mem_recv(to->h2, copy.data, copy.len), n);
    cs_buf_free(&copy);
    return n > 0;
}

static void submit(struct peer *p, int32_t stream, const char *big)
{
    nghttp2_data_provider body = {.read_callback = on_read};
    nghttp2_nv nv[] = {
        {(uint8_t *)":method", (uint8_t *)"POST", 7, 4, 0},
        {(uint8_t *)":scheme", (uint8_t *)"http", 7, 4, 0},
        {(uint8_t *)":path", (uint8_t *)"/", 5, 1, 0},
        {(uint8_t *)":authority", (uint8_t *)"x", 10, 1, 0},
        {(uint8_t *)"x-long", (uint8_t *)big, 6, LONG_HEADER, 0},
    };
    nghttp2_nv answer[] = {{(uint8_t *)":status", (uint8_t *)"200", 7, 3, 0}, nv[4]};
    if (stream == 0)
        assert_int_equal(nghttp2_submit_request(p->h2, NULL, nv, 5, &body, NULL), 1);
    else
        assert_int_equal(nghttp2_submit_response(p->h2, stream, answer, 2, &body), 0);
}

static void check_body(const struct peer *p)
{
    assert_int_equal(p->body.len, BODY);
    for (size_t i = 0; i < BODY; i++)
        assert_int_equal(p->body.data[i], pattern(i));
    assert_true(p->header_bytes > LONG_HEADER);
}

/* Four sessions take turns, frame by frame: two that ask, and two that answer out of one buffer. */
static void shared(void **state)
{
    struct peer client[2] = {0}, server[2] = {0};
    char *big = malloc(LONG_HEADER);
    (void)state;
    for (size_t i = 0; i < LONG_HEADER; i++)
        big[i] = (char)('a' + i % 23);
    for (int i = 0; i < 2; i++) {
        open_session(&client[i], false);
        open_session(&server[i], true);
        submit(&client[i], 0, big);
    }
    bool answered[2] = {false, false};
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < 2; i++) {
            more |= step(&client[i], &server[i]);
            more |= step(&server[i], &client[i]);
            if (client[i].deferred == 1 && ++client[i].deferred)
                more |= nghttp2_session_resume_data(client[i].h2, 1) == 0;
            if (server[i].deferred == 1 && ++server[i].deferred)
                more |= nghttp2_session_resume_data(server[i].h2, 1) == 0;
            if (!answered[i] && server[i].header_bytes > LONG_HEADER) {
                submit(&server[i], 1, big);
                answered[i] = more = true;
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_true(client[i].closed && server[i].closed);
        check_body(&client[i]);
        check_body(&server[i]);
        nghttp2_session_del(client[i].h2);
        nghttp2_session_del(server[i].h2);
        cs_buf_free(&client[i].body);
        cs_buf_free(&server[i].body);
    }
    free(big);
}

/* The saving is there: the offer is taken while a session is made. When this fails after an update of
 * nghttp2, read how its nghttp2_session.c uses aob.framebufs before RPC_H2_FRAME_BUFFER is changed. */
static void taken(void **state)
{
    nghttp2_session_callbacks *cb;
    nghttp2_session *h2[2];
    (void)state;
    assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rpc_h2mem_session(&mem, i == 0, cb, NULL, NULL, &h2[i]), 0);
        assert_int_equal(mem.taken, i == 0);
    }
    nghttp2_session_del(h2[0]);
    nghttp2_session_del(h2[1]);
    nghttp2_session_callbacks_del(cb);
}

/* No memory at any point of making a session. */
static void no_memory(void **state)
{
    nghttp2_session_callbacks *cb;
    (void)state;
    assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
    int r = -1;
    size_t n = 0;
    while (r != 0) {
        nghttp2_session *h2;
        (void)cs_mem_fail_at(++n, false);
        r = rpc_h2mem_session(&mem, true, cb, NULL, NULL, &h2);
        (void)cs_mem_fail_at(0, false);
        if (r == 0)
            nghttp2_session_del(h2);
        else
            assert_int_equal(r, NGHTTP2_ERR_NOMEM);
    }
    assert_true(n > 3);
    nghttp2_session_callbacks_del(cb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared),
        cmocka_unit_test(taken),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
