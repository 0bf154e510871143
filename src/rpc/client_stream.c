/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls of a client: the blocking side in the caller's thread, the other on the loop.
 */
#include "rpc/client_internal.h"
#include "rpc/wire.h"

#include <stdio.h>

#define USER_AGENT "grpc-c-cspire/" CSPIRE_VERSION
#define MAX_METADATA 32

/* --- Life --- */

static void list_pop(struct rpc_message_list *l, bool secret)
{
    struct rpc_message *m = l->first;
    l->first = m->next;
    if (l->first == NULL)
        l->end = &l->first;
    if (secret)
        cs_buf_wipe(&m->body);
    else
        cs_buf_free(&m->body);
    cs_free(m);
}

static void list_free(struct rpc_message_list *l, bool secret)
{
    while (l->first != NULL)
        list_pop(l, secret);
    l->end = &l->first;
}

static bool list_add(struct rpc_message_list *l, struct cs_buf *body)
{
    struct rpc_message *m = cs_malloc(sizeof *m);
    if (m == NULL)
        return false;
    *m = (struct rpc_message){.body = *body};
    *body = (struct cs_buf){0};
    *l->end = m;
    l->end = &m->next;
    return true;
}

void rpc_stream_ref(struct rpc_stream *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

void rpc_stream_unref(struct rpc_stream *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    list_free(&s->out, s->secret);
    list_free(&s->in, s->secret);
    rpc_deframer_free(&s->deframer);
    rpc_reply_free(&s->head);
    if (s->link != NULL)
        rpc_link_unref(s->link);
    pthread_cond_destroy(&s->cond);
    cs_free(s->md);
    cs_free(s->path);
    cs_free(s);
}

/* One allocation: the rows, then their texts. */
static struct rpc_metadata *copy_metadata(const struct rpc_metadata *md, size_t count)
{
    size_t total = count * sizeof *md + 1;
    for (size_t i = 0; i < count; i++)
        total += strlen(md[i].key) + strlen(md[i].value) + 2;
    struct rpc_metadata *copy = cs_malloc(total);
    if (copy == NULL)
        return NULL;
    char *p = (char *)(copy + count);
    for (size_t i = 0; i < count; i++) {
        size_t k = strlen(md[i].key) + 1, v = strlen(md[i].value) + 1;
        memcpy(p, md[i].key, k);
        memcpy(p + k, md[i].value, v);
        copy[i] = (struct rpc_metadata){p, p + k};
        p += k + v;
    }
    return copy;
}

static struct rpc_stream *stream_new(struct rpc_client *c, const char *path, const struct rpc_metadata *md,
                                     size_t md_count, int64_t deadline)
{
    struct rpc_stream *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    atomic_init(&s->refs, 1);
    s->client = c;
    s->secret = c->cfg.secret_messages;
    s->deadline = deadline;
    s->out.end = &s->out.first;
    s->in.end = &s->in.first;
    s->deframer.max = c->cfg.max_message;
    rpc_reply_reset(&s->head);
    rpc_cond_init(&s->cond);
    s->path = cs_strdup(path);
    s->md = copy_metadata(md, md_count);
    s->md_count = md_count;
    if (s->path == NULL || s->md == NULL) {
        rpc_stream_unref(s);
        return NULL;
    }
    return s;
}

/* --- On the loop --- */

/* Freeing the stream inside is fine: who calls this holds a reference. */
static void call_ready(struct rpc_stream *s)
{
    pthread_mutex_lock(&s->client->lock);
    void (*ready)(void *arg) = s->ready;
    void *arg = s->ready_arg;
    pthread_mutex_unlock(&s->client->lock);
    if (ready != NULL)
        ready(arg);
}

void rpc_stream_end(struct rpc_stream *s, cs_code code, const char *text, const struct rpc_detail *d,
                    bool unprocessed)
{
    pthread_mutex_lock(&s->client->lock);
    if (!s->done) {
        s->done = true;
        s->unprocessed = unprocessed;
        (void)cs_fail(&s->status, code, "%s", text);
        if (d != NULL)
            s->detail = *d;
    }
    pthread_mutex_unlock(&s->client->lock);
    /* After the lock, which who waits wants at once. */
    pthread_cond_broadcast(&s->cond);
    call_ready(s);
}

static nghttp2_nv nv_of(const char *name, const char *value, size_t len)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), len, 0};
}

static nghttp2_nv nv_str(const char *name, const char *value)
{
    return nv_of(name, value, strlen(value));
}

static int submit_nvs(struct rpc_stream *s, nghttp2_nv *nv, size_t n)
{
    struct cs_buf bins CS_CLEANUP(cs_buf_free) = {0};
    size_t at[MAX_METADATA], len[MAX_METADATA];
    for (size_t i = 0; i < s->md_count; i++) {
        at[i] = bins.len;
        if (rpc_key_is_bin(cs_slice_str(s->md[i].key)))
            rpc_bin_encode(&bins, cs_slice_str(s->md[i].value));
        len[i] = bins.len - at[i];
    }
    if (!cs_buf_ok(&bins))
        return NGHTTP2_ERR_NOMEM;
    for (size_t i = 0; i < s->md_count; i++) {
        if (rpc_key_is_bin(cs_slice_str(s->md[i].key)))
            nv[n++] = nv_of(s->md[i].key, len[i] > 0 ? (const char *)bins.data + at[i] : "", len[i]);
        else
            nv[n++] = nv_str(s->md[i].key, s->md[i].value);
    }
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = rpc_stream_read_out};
    return nghttp2_submit_request(s->link->io.h2, NULL, nv, n, &body, s);
}

static int submit(struct rpc_stream *s)
{
    nghttp2_nv nv[8 + MAX_METADATA];
    char timeout[RPC_TIMEOUT_TEXT];
    size_t n = 0;
    nv[n++] = nv_str(":method", "POST");
    nv[n++] = nv_str(":scheme", s->client->cfg.tls != NULL ? "https" : "http");
    nv[n++] = nv_str(":path", s->path);
    nv[n++] = nv_str(":authority", s->client->authority);
    nv[n++] = nv_str("content-type", "application/grpc");
    nv[n++] = nv_str("user-agent", USER_AGENT);
    nv[n++] = nv_str("te", "trailers");
    if (s->deadline != INT64_MAX) {
        rpc_timeout_format(s->deadline - cs_mono_ns(&cs_clock_system), timeout);
        nv[n++] = nv_str("grpc-timeout", timeout);
    }
    return submit_nvs(s, nv, n);
}

static void start(struct rpc_stream *s)
{
    struct rpc_link *k = s->link;
    if (k->dead || k->io.h2 == NULL || k->io.dead) {
        rpc_stream_end(s, CS_UNAVAILABLE, "the connection is draining", NULL, true);
        return;
    }
    int id = submit(s);
    if (id < 0) {
        /* ids are used up, or a GOAWAY came: another connection may take it */
        bool again = id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE || id == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED;
        rpc_stream_end(s, again ? CS_UNAVAILABLE : CS_INTERNAL, nghttp2_strerror(id), NULL, again);
        return;
    }
    s->id = id;
    s->attached = true;
    s->next = k->streams;
    s->prev = &k->streams;
    if (s->next != NULL)
        s->next->prev = &s->next;
    k->streams = s;
    rpc_stream_ref(s);
    if (k->client->cfg.keepalive_ns > 0 && s->next == NULL)
        loop_timer_arm(k->keepalive, k->client->cfg.keepalive_ns, 0);
}

static void release(struct rpc_stream *s)
{
    if (s->id == 0 || s->withheld == 0)
        return;
    (void)nghttp2_session_consume_stream(s->link->io.h2, s->id, s->withheld);
    s->withheld = 0;
}

void rpc_stream_on_loop(struct rpc_stream *s)
{
    pthread_mutex_lock(&s->client->lock);
    s->poked = false;
    bool cancel = s->cancel;
    bool more = s->out.first != NULL || s->out_closed;
    bool taken = s->in.first == NULL;
    bool done = s->done;
    pthread_mutex_unlock(&s->client->lock);
    if (!s->submitted && !done) {
        s->submitted = true;
        if (cancel)
            rpc_stream_end(s, CS_CANCELLED, "context canceled", NULL, false);
        else
            start(s);
    }
    if (s->id == 0)
        return;
    if (cancel) {
        (void)nghttp2_submit_rst_stream(s->link->io.h2, 0, s->id, NGHTTP2_CANCEL);
    } else if (s->deferred && more) {
        s->deferred = false;
        (void)nghttp2_session_resume_data(s->link->io.h2, s->id);
    }
    if (taken)
        release(s);
    rpc_io_flush(&s->link->io);
}

static void on_poke(void *arg)
{
    struct rpc_stream *s = arg;
    struct rpc_client *c = s->client;
    rpc_stream_on_loop(s);
    rpc_stream_unref(s);
    rpc_client_unpin(c);
}

static size_t copy_out(struct rpc_stream *s, uint8_t *buf, size_t room)
{
    struct cs_buf *b = &s->out.first->body;
    size_t n = 0;
    if (s->out_off < RPC_FRAME_HEAD) {
        uint8_t head[RPC_FRAME_HEAD];
        rpc_frame_head(head, b->len);
        n = RPC_FRAME_HEAD - s->out_off < room ? RPC_FRAME_HEAD - s->out_off : room;
        memcpy(buf, head + s->out_off, n);
        s->out_off += n;
    }
    if (s->out_off >= RPC_FRAME_HEAD && n < room && b->len > 0) {
        size_t at = s->out_off - RPC_FRAME_HEAD;
        size_t k = b->len - at < room - n ? b->len - at : room - n;
        memcpy(buf + n, b->data + at, k);
        s->out_off += k;
        n += k;
    }
    if (s->out_off == RPC_FRAME_HEAD + b->len) {
        s->out_bytes -= s->out_off;
        s->out_off = 0;
        list_pop(&s->out, s->secret);
    }
    return n;
}

ssize_t rpc_stream_read_out(nghttp2_session *h2, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
                            nghttp2_data_source *source, void *arg)
{
    (void)h2;
    (void)id;
    (void)arg;
    struct rpc_stream *s = source->ptr;
    size_t n = 0;
    pthread_mutex_lock(&s->client->lock);
    while (n < length && s->out.first != NULL)
        n += copy_out(s, buf + n, length - n);
    bool end = s->out.first == NULL && s->out_closed;
    if (n > 0 && !s->unary) /* nobody waits for room */
        pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->client->lock);
    if (end)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (n > 0 || end)
        return (ssize_t)n;
    s->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
}

void rpc_stream_data_in(struct rpc_stream *s, struct cs_slice data)
{
    struct cs_err e = {0};
    s->withheld += data.len;
    pthread_mutex_lock(&s->client->lock);
    bool over = s->done;
    pthread_mutex_unlock(&s->client->lock);
    while (data.len > 0) {
        bool done = false;
        cs_code code =
            over ? CS_CANCELLED : rpc_deframe(&s->deframer, &data, s->head.encoding, false, &done, &e);
        if (code == CS_OK && done) {
            struct cs_buf msg = {0};
            rpc_deframer_take(&s->deframer, &msg);
            pthread_mutex_lock(&s->client->lock);
            if (!list_add(&s->in, &msg))
                code = cs_nomem(&e);
            if (!s->unary)
                pthread_cond_broadcast(&s->cond);
            pthread_mutex_unlock(&s->client->lock);
            cs_buf_free(&msg);
            call_ready(s);
        }
        if (code != CS_OK) {
            rpc_stream_end(s, code, e.text, NULL, false);
            (void)nghttp2_submit_rst_stream(s->link->io.h2, 0, s->id, NGHTTP2_CANCEL);
            return;
        }
    }
    pthread_mutex_lock(&s->client->lock);
    bool waiting = s->in.first != NULL;
    pthread_mutex_unlock(&s->client->lock);
    if (!waiting)
        release(s);
}

/* --- In the caller's thread; the ones ending in _locked under the client's lock --- */

static bool poke_locked(struct rpc_stream *s)
{
    if (s->poked)
        return true;
    s->poked = true;
    rpc_stream_ref(s);
    s->client->live++;
    if (loop_post(s->client->loop, on_poke, s))
        return true;
    s->client->live--;
    s->poked = false;
    atomic_fetch_sub(&s->refs, 1); /* never the last one: the caller holds his */
    return false;
}

/* The call's time is over (CS_DEADLINE), or nobody is to wait any more (CS_CANCELLED). */
static cs_code give_up_locked(struct rpc_stream *s, cs_code why, struct cs_err *e)
{
    const char *text = why == CS_DEADLINE ? "context deadline exceeded" : "context canceled";
    s->cancel = true;
    if (!s->done) {
        s->done = true;
        (void)cs_fail(&s->status, why, "%s", text);
    }
    (void)!poke_locked(s);
    return cs_fail(e, why, "%s", text);
}

static cs_code send_locked(struct rpc_stream *s, struct cs_slice msg, struct cs_err *e)
{
    while (s->out_bytes > RPC_CLIENT_SEND_QUEUE && !s->done && !s->cancel) {
        cs_code waited = rpc_client_wait(s->client, &s->cond, s->deadline);
        if (waited != CS_OK)
            return give_up_locked(s, waited, e);
    }
    if (s->done)
        return cs_fail(e, s->status.code != CS_OK ? s->status.code : CS_CANCELLED, "%s",
                       s->status.code != CS_OK ? s->status.text : "EOF");
    if (s->cancel)
        return cs_fail(e, CS_CANCELLED, "context canceled");
    if (s->out_closed)
        return cs_fail(e, CS_INTERNAL, "SendMsg called after CloseSend");
    struct cs_buf body = {.max = UINT32_MAX};
    cs_buf_add_slice(&body, msg);
    if (!cs_buf_ok(&body) || !list_add(&s->out, &body)) {
        cs_buf_free(&body);
        return cs_nomem(e);
    }
    s->out_bytes += msg.len + RPC_FRAME_HEAD;
    return CS_OK;
}

static cs_code end_status_locked(struct rpc_stream *s, bool *end, struct rpc_result *result, struct cs_err *e)
{
    if (result != NULL)
        result->detail = s->detail;
    if (s->status.code == CS_OK) {
        *end = true;
        return CS_OK;
    }
    return cs_fail(e, s->status.code, "%s", s->status.text);
}

static cs_code recv_locked(struct rpc_stream *s, struct cs_buf *msg, bool *end, int64_t until,
                           struct rpc_result *result, struct cs_err *e)
{
    while (s->in.first == NULL && !s->done && !s->cancel) {
        int64_t limit = until < s->deadline ? until : s->deadline;
        if (s->ready != NULL) /* on the loop, which waits for nothing */
            return cs_fail(e, CS_DEADLINE, "no message in time");
        cs_code waited = rpc_client_wait(s->client, &s->cond, limit);
        if (waited == CS_OK)
            continue;
        if (s->in.first != NULL || s->done)
            break;
        if (waited == CS_CANCELLED || limit == s->deadline)
            return give_up_locked(s, waited, e);
        return cs_fail(e, CS_DEADLINE, "no message in time");
    }
    if (s->cancel && !s->done)
        return cs_fail(e, CS_CANCELLED, "context canceled");
    if (s->in.first == NULL)
        return end_status_locked(s, end, result, e);
    cs_buf_free(msg);
    *msg = s->in.first->body;
    s->in.first->body = (struct cs_buf){0};
    list_pop(&s->in, s->secret);
    if (s->in.first == NULL && !s->done)
        (void)!poke_locked(s); /* the peer's window opens again */
    return CS_OK;
}

static int64_t absolute(int64_t relative_ns)
{
    int64_t r;
    if (relative_ns <= 0 || __builtin_add_overflow(cs_mono_ns(&cs_clock_system), relative_ns, &r))
        return INT64_MAX;
    return r;
}

static cs_code open_stream(struct rpc_client *c, const char *path, const struct rpc_metadata *md,
                           size_t md_count, int64_t deadline, struct rpc_stream **out, struct cs_err *e)
{
    *out = NULL;
    if (md_count > MAX_METADATA)
        return cs_fail(e, CS_INTERNAL, "too many metadata keys");
    struct rpc_link *k = NULL;
    CS_TRY(rpc_client_link(c, deadline, &k, e));
    struct rpc_stream *s = stream_new(c, path, md, md_count, deadline);
    if (s == NULL) {
        rpc_link_unref(k);
        return cs_nomem(e);
    }
    s->link = k;
    *out = s;
    return CS_OK;
}

cs_code rpc_stream_open(struct rpc_client *c, const char *path, const struct rpc_metadata *md,
                        size_t md_count, int64_t deadline_ns, struct rpc_stream **out, struct cs_err *e)
{
    *out = NULL;
    if (!rpc_client_enter(c))
        return cs_fail(e, CS_CANCELLED, "grpc: the client connection is closing");
    cs_code code = open_stream(c, path, md, md_count, absolute(deadline_ns), out, e);
    if (code == CS_OK) {
        pthread_mutex_lock(&c->lock);
        if (!poke_locked(*out))
            code = cs_fail(e, CS_UNAVAILABLE, "the event loop has ended");
        pthread_mutex_unlock(&c->lock);
        if (code != CS_OK) {
            rpc_stream_unref(*out);
            *out = NULL;
        }
    }
    rpc_client_leave(c);
    return code;
}

cs_code rpc_stream_send(struct rpc_stream *s, struct cs_slice msg, struct cs_err *e)
{
    pthread_mutex_lock(&s->client->lock);
    cs_code code = send_locked(s, msg, e);
    if (code == CS_OK && !poke_locked(s))
        code = cs_fail(e, CS_UNAVAILABLE, "the event loop has ended");
    pthread_mutex_unlock(&s->client->lock);
    return code;
}

cs_code rpc_stream_close_send(struct rpc_stream *s, struct cs_err *e)
{
    cs_code code = CS_OK;
    pthread_mutex_lock(&s->client->lock);
    s->out_closed = true;
    if (!s->done && !poke_locked(s))
        code = cs_fail(e, CS_UNAVAILABLE, "the event loop has ended");
    pthread_mutex_unlock(&s->client->lock);
    return code;
}

cs_code rpc_stream_recv(struct rpc_stream *s, struct cs_buf *msg, bool *end, int64_t wait_ns,
                        struct rpc_result *result, struct cs_err *e)
{
    *end = false;
    if (result != NULL)
        memset(result, 0, sizeof *result);
    cs_buf_reset(msg);
    int64_t until = wait_ns < 0 ? INT64_MAX : cs_mono_ns(&cs_clock_system) + wait_ns;
    pthread_mutex_lock(&s->client->lock);
    cs_code code = recv_locked(s, msg, end, until, result, e);
    pthread_mutex_unlock(&s->client->lock);
    return code;
}

static void on_first_ready(void *arg)
{
    struct rpc_stream *s = arg;
    struct rpc_client *c = s->client;
    call_ready(s);
    rpc_stream_unref(s);
    rpc_client_unpin(c);
}

cs_code rpc_stream_on_ready(struct rpc_stream *s, void (*ready)(void *arg), void *arg, struct cs_err *e)
{
    pthread_mutex_lock(&s->client->lock);
    s->ready = ready;
    s->ready_arg = arg;
    pthread_mutex_unlock(&s->client->lock);
    rpc_stream_ref(s);
    if (rpc_client_post(s->client, on_first_ready, s))
        return CS_OK;
    rpc_stream_unref(s);
    return cs_fail(e, CS_UNAVAILABLE, "the event loop has ended");
}

void rpc_stream_cancel(struct rpc_stream *s)
{
    pthread_mutex_lock(&s->client->lock);
    s->cancel = true;
    if (!s->done) {
        s->done = true;
        (void)cs_fail(&s->status, CS_CANCELLED, "context canceled");
    }
    (void)!poke_locked(s);
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->client->lock);
}

void rpc_stream_free(struct rpc_stream *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->client->lock);
    s->ready = NULL;
    if (!s->done) {
        s->cancel = true;
        s->done = true;
        (void)!poke_locked(s);
    }
    pthread_mutex_unlock(&s->client->lock);
    rpc_stream_unref(s);
}

/* --- Unary --- */

/* Everything has come: exactly one message and OK, or the status. */
static cs_code unary_result_locked(struct rpc_stream *s, struct cs_buf *response, struct rpc_result *result,
                                   struct cs_err *e)
{
    bool end = false;
    CS_TRY(end_status_locked(s, &end, result, e));
    const struct rpc_message *m = s->in.first;
    if (m == NULL)
        return cs_fail(e, CS_INTERNAL,
                       "cardinality violation: received no response message from non-server-streaming RPC");
    if (m->next != NULL)
        return cs_fail(e, CS_INTERNAL,
                       "cardinality violation: expected <EOF> for non server-streaming RPCs, but received "
                       "another message");
    cs_buf_add_slice(response, cs_buf_slice(&m->body));
    return cs_buf_ok(response) ? CS_OK : cs_nomem(e);
}

static cs_code unary_once(struct rpc_client *c, const char *path, struct cs_slice request,
                          struct cs_buf *response, const struct rpc_metadata *md, size_t md_count,
                          int64_t deadline, struct rpc_result *result, bool *again, struct cs_err *e)
{
    struct rpc_stream *s = NULL;
    CS_TRY(open_stream(c, path, md, md_count, deadline, &s, e));
    s->unary = true;
    pthread_mutex_lock(&c->lock);
    cs_code code = send_locked(s, request, e);
    s->out_closed = true;
    if (code == CS_OK && !poke_locked(s))
        code = cs_fail(e, CS_UNAVAILABLE, "the event loop has ended");
    while (code == CS_OK && !s->done) {
        cs_code waited = rpc_client_wait(c, &s->cond, deadline);
        if (waited != CS_OK && !s->done)
            code = give_up_locked(s, waited, e);
    }
    if (code == CS_OK)
        code = unary_result_locked(s, response, result, e);
    *again = code != CS_OK && s->unprocessed;
    pthread_mutex_unlock(&c->lock);
    rpc_stream_free(s);
    return code;
}

cs_code rpc_client_unary(struct rpc_client *c, const char *path, struct cs_slice request,
                         struct cs_buf *response, const struct rpc_metadata *md, size_t md_count,
                         int64_t deadline_ns, struct rpc_result *result, struct cs_err *e)
{
    if (result != NULL)
        memset(result, 0, sizeof *result);
    if (!rpc_client_enter(c))
        return cs_fail(e, CS_CANCELLED, "grpc: the client connection is closing");
    int64_t deadline = absolute(deadline_ns);
    bool again = false;
    cs_code code = unary_once(c, path, request, response, md, md_count, deadline, result, &again, e);
    if (again) /* the server never saw it (grpc's transparent retry) */
        code = unary_once(c, path, request, response, md, md_count, deadline, result, &again, e);
    rpc_client_leave(c);
    return code;
}
