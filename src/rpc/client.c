/* SPDX-License-Identifier: Apache-2.0
 *
 * A client: its target, and the one connection new calls use.
 */
#include "rpc/client_internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_DIALS 3 /* per call, of connections that are gone before they are used */

/* --- Small things --- */

void rpc_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

static bool wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t mono_ns)
{
    if (mono_ns == INT64_MAX)
        return pthread_cond_wait(cond, lock) == 0;
    struct timespec ts = {.tv_sec = mono_ns / CS_NS_PER_S, .tv_nsec = mono_ns % CS_NS_PER_S};
    return pthread_cond_timedwait(cond, lock, &ts) != ETIMEDOUT;
}

cs_code rpc_client_wait(struct rpc_client *c, pthread_cond_t *cond, int64_t mono_ns)
{
    if (c->cfg.stopped == NULL)
        return wait_until(cond, &c->lock, mono_ns) ? CS_OK : CS_DEADLINE;
    for (int64_t began = cs_mono_ns(&cs_clock_system);;) {
        int64_t now = cs_mono_ns(&cs_clock_system);
        int64_t poll = now + (now - began < RPC_CLIENT_STOP_POLL_WHILE_NS ? RPC_CLIENT_STOP_POLL_NS
                                                                          : RPC_CLIENT_STOP_POLL_LATER_NS);
        if (wait_until(cond, &c->lock, poll < mono_ns ? poll : mono_ns))
            return CS_OK;
        if (c->cfg.stopped(c->cfg.arg))
            return CS_CANCELLED;
        if (poll >= mono_ns)
            return CS_DEADLINE;
    }
}

void rpc_link_ref(struct rpc_link *k)
{
    atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
}

void rpc_link_unref(struct rpc_link *k)
{
    if (atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
        return;
    SSL_free(k->ssl);
    if (k->fd >= 0)
        close(k->fd);
    cs_free(k);
}

bool rpc_client_enter(struct rpc_client *c)
{
    pthread_mutex_lock(&c->lock);
    bool ok = !c->closing;
    if (ok)
        c->callers++;
    pthread_mutex_unlock(&c->lock);
    return ok;
}

void rpc_client_leave(struct rpc_client *c)
{
    pthread_mutex_lock(&c->lock);
    c->callers--;
    if (c->closing)
        pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

bool rpc_client_post(struct rpc_client *c, void (*fn)(void *), void *arg)
{
    pthread_mutex_lock(&c->lock);
    c->live++;
    pthread_mutex_unlock(&c->lock);
    if (loop_post(c->loop, fn, arg))
        return true;
    rpc_client_unpin(c);
    return false;
}

void rpc_client_unpin(struct rpc_client *c)
{
    pthread_mutex_lock(&c->lock);
    c->live--;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* --- Connecting --- */

static struct rpc_link *link_new(struct rpc_client *c, int fd)
{
    struct rpc_link *k = cs_calloc(1, sizeof *k);
    if (k == NULL)
        return NULL;
    atomic_init(&k->refs, 1);
    k->client = c;
    k->fd = fd;
    k->io.fd = -1;
    return k;
}

static void post_kill(struct rpc_client *c, struct rpc_link *k)
{
    rpc_link_ref(k);
    if (!rpc_client_post(c, rpc_link_kill, k))
        rpc_link_unref(k);
}

/* Hands the socket to the loop and waits for the server's first words. */
static cs_code establish(struct rpc_client *c, struct rpc_link *k, int64_t until, struct cs_err *e)
{
    rpc_link_ref(k);
    if (!rpc_client_post(c, rpc_link_attach, k)) {
        rpc_link_unref(k);
        return cs_fail(e, CS_UNAVAILABLE, "the event loop has ended");
    }
    cs_code code = CS_OK, waited = CS_OK;
    pthread_mutex_lock(&c->lock);
    while (!k->ready && !k->dead && !c->closing && waited == CS_OK)
        waited = rpc_client_wait(c, &c->changed, until);
    if (c->closing) { /* the link may have been refused for that */
        code = cs_fail(e, CS_CANCELLED, "grpc: the client connection is closing");
    } else if (k->dead) {
        code = cs_fail(e, CS_UNAVAILABLE, "connection error: desc = \"%s\"", k->why.text);
    } else if (!k->ready && waited == CS_CANCELLED) {
        code = cs_fail(e, CS_CANCELLED, "context canceled");
    } else if (!k->ready) {
        code = cs_fail(e, CS_UNAVAILABLE,
                       "connection error: desc = \"transport: authentication handshake failed: context "
                       "deadline exceeded\"");
    } else {
        rpc_link_ref(k);
        c->link = k;
    }
    pthread_mutex_unlock(&c->lock);
    if (code != CS_OK)
        post_kill(c, k);
    return code;
}

static int64_t plus(int64_t t, int64_t ns)
{
    int64_t r;
    return __builtin_add_overflow(t, ns, &r) ? INT64_MAX : r;
}

static cs_code connect_once(struct rpc_client *c, int64_t deadline, struct cs_err *e)
{
    int64_t now = cs_mono_ns(&cs_clock_system);
    int64_t until = plus(now, c->cfg.connect_ns);
    bool own_deadline = deadline < until;
    if (own_deadline)
        until = deadline;
    int fd = -1;
    cs_code code = rpc_client_dial(c, until, &fd, e);
    if (code == CS_OK) {
        struct rpc_link *k = link_new(c, fd);
        if (k == NULL) {
            close(fd);
            return cs_nomem(e);
        }
        if (c->cfg.blocking_handshake)
            code = rpc_client_handshake(k, until, e);
        if (code == CS_OK)
            code = establish(c, k, until, e);
        rpc_link_unref(k);
    }
    if (code == CS_UNAVAILABLE && own_deadline && cs_mono_ns(&cs_clock_system) >= deadline)
        return cs_fail(e, CS_DEADLINE,
                       "context deadline exceeded while waiting for connections to become ready");
    return code;
}

static bool usable(const struct rpc_link *k)
{
    return k != NULL && k->ready && !k->dead && !k->goaway;
}

/* One thread dials, the others wait for what comes of it. */
cs_code rpc_client_link(struct rpc_client *c, int64_t deadline, struct rpc_link **out, struct cs_err *e)
{
    *out = NULL;
    cs_code code = CS_OK;
    pthread_mutex_lock(&c->lock);
    uint64_t failures = c->failures;
    unsigned dials = 0;
    while (code == CS_OK && !usable(c->link)) {
        if (c->closing) {
            code = cs_fail(e, CS_CANCELLED, "grpc: the client connection is closing");
        } else if (c->failures != failures) {
            code = cs_fail(e, c->last_failure.code, "%s", c->last_failure.text);
        } else if (c->dialing) {
            code = rpc_client_wait(c, &c->changed, deadline);
            if (code != CS_OK)
                (void)cs_fail(e, code, "%s while waiting for connections to become ready",
                              code == CS_DEADLINE ? "context deadline exceeded" : "context canceled");
        } else if (++dials > MAX_DIALS) {
            code =
                cs_fail(e, CS_UNAVAILABLE, "connection error: desc = \"the server closes every connection\"");
        } else {
            struct rpc_link *old = c->link;
            struct cs_err why = {0};
            c->link = NULL;
            c->dialing = true;
            pthread_mutex_unlock(&c->lock);
            if (old != NULL)
                rpc_link_unref(old);
            code = connect_once(c, deadline, &why);
            pthread_mutex_lock(&c->lock);
            c->dialing = false;
            if (code == CS_UNAVAILABLE) {
                c->failures++;
                c->last_failure = why;
            }
            if (code != CS_OK)
                (void)cs_fail(e, code, "%s", why.text);
            pthread_cond_broadcast(&c->changed);
        }
    }
    if (code == CS_OK) {
        *out = c->link;
        rpc_link_ref(c->link);
    }
    pthread_mutex_unlock(&c->lock);
    return code;
}

/* --- Life --- */

static void client_destroy(struct rpc_client *c)
{
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    rpc_scratch_free(&c->scratch);
    nghttp2_session_callbacks_del(c->callbacks);
    nghttp2_option_del(c->option);
    SSL_CTX_free(c->cfg.tls);
    cs_free((char *)c->cfg.unix_path);
    cs_free((char *)c->cfg.tcp_address);
    cs_free((char *)c->cfg.proxy);
    cs_free(c->authority);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    cs_free(c);
}

cs_code rpc_client_new(struct loop *loop, const struct rpc_client_config *cfg, struct rpc_client **out,
                       struct cs_err *e)
{
    *out = NULL;
    if ((cfg->unix_path == NULL) == (cfg->tcp_address == NULL))
        return cs_fail(e, CS_INVALID, "a client needs an address or a path");
    struct rpc_proxy proxy = {0};
    if (cfg->proxy != NULL && cfg->unix_path != NULL)
        return cs_fail(e, CS_INVALID, "there is no proxy to a path");
    if (cfg->proxy != NULL)
        CS_TRY(rpc_proxy_parse(cfg->proxy, &proxy, e));
    if (cfg->tls != NULL && cfg->verify == NULL)
        return cs_fail(e, CS_INTERNAL, "a TLS client must verify its server");
    struct rpc_client *c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    c->loop = loop;
    c->cfg = *cfg;
    c->cfg.unix_path = cfg->unix_path != NULL ? cs_strdup(cfg->unix_path) : NULL;
    c->cfg.tcp_address = cfg->tcp_address != NULL ? cs_strdup(cfg->tcp_address) : NULL;
    c->cfg.proxy = cfg->proxy != NULL ? cs_strdup(cfg->proxy) : NULL;
    c->proxy = proxy;
    c->authority = cs_strdup(cfg->tcp_address != NULL ? cfg->tcp_address : "localhost");
    if (c->cfg.tls != NULL)
        SSL_CTX_up_ref(c->cfg.tls);
    if (c->cfg.connect_ns <= 0)
        c->cfg.connect_ns = RPC_CLIENT_CONNECT_NS;
    if (c->cfg.keepalive_wait_ns == 0)
        c->cfg.keepalive_wait_ns = RPC_CLIENT_PING_WAIT_NS;
    if (c->cfg.max_message == 0)
        c->cfg.max_message = RPC_MAX_MESSAGE;
    pthread_mutex_init(&c->lock, NULL);
    rpc_cond_init(&c->changed);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cs_code code = CS_OK;
    if (c->wake_fd < 0)
        code = cs_fail_errno(e, CS_INTERNAL, errno, "eventfd");
    else if (c->authority == NULL || (c->cfg.unix_path == NULL && c->cfg.tcp_address == NULL) ||
             (cfg->proxy != NULL && c->cfg.proxy == NULL))
        code = cs_nomem(e);
    if (code == CS_OK)
        code = rpc_scratch_init(&c->scratch, loop, e);
    if (code == CS_OK)
        code = rpc_link_h2_init(c, e);
    if (code != CS_OK)
        client_destroy(c);
    else
        *out = c;
    return code;
}

/* The loop may still be in the turn that ended the last link: what that turn uses goes after it. */
static void on_last(void *arg)
{
    struct rpc_client *c = arg;
    rpc_scratch_free(&c->scratch);
    rpc_client_unpin(c);
}

void rpc_client_stop(struct rpc_client *c)
{
    uint64_t one = 1;
    pthread_mutex_lock(&c->lock);
    c->closing = true;
    (void)!write(c->wake_fd, &one, sizeof one);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

void rpc_client_free(struct rpc_client *c)
{
    if (c == NULL)
        return;
    rpc_client_stop(c);
    if (!rpc_client_post(c, rpc_client_kill_links, c))
        rpc_client_drop_links(c); /* the loop has ended: nobody else touches them */
    pthread_mutex_lock(&c->lock);
    while (c->links != NULL || c->live > 0 || c->callers > 0)
        pthread_cond_wait(&c->changed, &c->lock);
    struct rpc_link *last = c->link;
    c->link = NULL;
    pthread_mutex_unlock(&c->lock);
    if (rpc_client_post(c, on_last, c)) {
        pthread_mutex_lock(&c->lock);
        while (c->live > 0)
            pthread_cond_wait(&c->changed, &c->lock);
        pthread_mutex_unlock(&c->lock);
    }
    if (last != NULL)
        rpc_link_unref(last);
    client_destroy(c);
}
