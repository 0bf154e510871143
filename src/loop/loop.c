/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop: one event base, one eventfd that wakes it, and a locked ring of posted work. libevent's own
 * locking stays off: the base is touched by the loop's thread only.
 */
#include "loop/loop.h"

#include "base/mem.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POST_FIRST 32
#define POST_MAX (1u << 20) /* a loop this far behind is stuck: refuse more */

struct post {
    void (*fn)(void *arg);
    void *arg;
};

/* What waits, in order. The loop swaps it with an empty one and works through it unlocked. */
struct posts {
    struct post *at;
    size_t len, cap;
};

struct on_signal {
    struct on_signal *next;
    struct event *ev;
    void (*fn)(int signum, void *arg);
    void *arg;
};

struct loop {
    struct event_base *base;
    struct event *wake;
    int wake_fd;
    char name[16];
    struct on_signal *signals;

    pthread_mutex_t lock;
    struct posts waiting; /* under lock */
    bool awake;           /* under lock: the eventfd is set, or the loop is about to look */
    bool closed;          /* under lock: no more posts */

    struct posts running; /* loop thread */
    atomic_bool stop;
    _Atomic uintptr_t thread; /* pthread_self of who runs it; 0: nobody */
    pthread_t own;
    bool has_own;
};

static void run_posts(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    struct posts empty = l->running;
    l->running = l->waiting;
    l->waiting = empty;
    l->awake = false;
    pthread_mutex_unlock(&l->lock);

    for (size_t i = 0; i < l->running.len; i++)
        l->running.at[i].fn(l->running.at[i].arg);
    l->running.len = 0;
    /* a burst's memory is not kept */
    if (l->running.cap > 4096) {
        cs_free(l->running.at);
        l->running = (struct posts){0};
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct loop *l = arg;
    uint64_t count;

    (void)what;
    ssize_t n = read(fd, &count, sizeof count);
    (void)n; /* EAGAIN: another wake-up was read along */
    run_posts(l);
    if (atomic_load(&l->stop))
        event_base_loopbreak(l->base);
}

static void wake(struct loop *l)
{
    uint64_t one = 1;
    ssize_t n;
    do
        n = write(l->wake_fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
}

static struct event_base *new_base(void)
{
    struct event_config *cfg = event_config_new();
    if (cfg == NULL)
        return NULL;
    struct event_base *base = NULL;
    if (event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK) == 0)
        base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    return base;
}

cs_code loop_new(const char *name, struct loop **out, struct cs_err *e)
{
    *out = NULL;
    struct loop *l = cs_calloc(1, sizeof *l);
    if (l == NULL)
        return cs_nomem(e);
    pthread_mutex_init(&l->lock, NULL);
    snprintf(l->name, sizeof l->name, "%s", name);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0) {
        cs_code code = cs_fail_errno(e, CS_INTERNAL, errno, "eventfd");
        loop_free(l);
        return code;
    }
    l->base = new_base();
    l->wake = l->base == NULL ? NULL : event_new(l->base, l->wake_fd, EV_READ | EV_PERSIST, on_wake, l);
    if (l->wake == NULL || event_add(l->wake, NULL) != 0) {
        loop_free(l);
        return cs_fail(e, CS_INTERNAL, "event loop \"%s\": cannot be made", name);
    }
    *out = l;
    return CS_OK;
}

void loop_run(struct loop *l)
{
    atomic_store(&l->thread, (uintptr_t)pthread_self());
    if (!atomic_load(&l->stop))
        event_base_loop(l->base, EVLOOP_NO_EXIT_ON_EMPTY);
    /* what was posted before the stop still runs */
    pthread_mutex_lock(&l->lock);
    l->closed = true;
    pthread_mutex_unlock(&l->lock);
    run_posts(l);
    atomic_store(&l->thread, 0);
}

static void *own_thread(void *arg)
{
    struct loop *l = arg;
    pthread_setname_np(pthread_self(), l->name);
    loop_run(l);
    return NULL;
}

cs_code loop_start(struct loop *l, struct cs_err *e)
{
    sigset_t all, old;

    /* signals belong to the thread whose loop asked for them */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&l->own, NULL, own_thread, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return cs_fail_errno(e, CS_INTERNAL, rc, "start thread %s", l->name);
    l->has_own = true;
    return CS_OK;
}

void loop_stop(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->closed = true;
    atomic_store(&l->stop, true);
    pthread_mutex_unlock(&l->lock);
    wake(l);
}

static void free_signals(struct loop *l)
{
    while (l->signals != NULL) {
        struct on_signal *s = l->signals;
        l->signals = s->next;
        if (s->ev != NULL)
            event_free(s->ev);
        cs_free(s);
    }
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    if (l->has_own) {
        loop_stop(l);
        pthread_join(l->own, NULL);
    }
    free_signals(l);
    if (l->wake != NULL)
        event_free(l->wake);
    if (l->base != NULL)
        event_base_free(l->base);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    cs_free(l->waiting.at);
    cs_free(l->running.at);
    pthread_mutex_destroy(&l->lock);
    cs_free(l);
}

struct event_base *loop_base(struct loop *l)
{
    return l->base;
}

bool loop_in_thread(const struct loop *l)
{
    return atomic_load(&l->thread) == (uintptr_t)pthread_self();
}

static bool push(struct posts *q, struct post p)
{
    if (q->len == q->cap) {
        size_t cap = q->cap == 0 ? POST_FIRST : q->cap * 2;
        struct post *at = cap > POST_MAX ? NULL : cs_realloc(q->at, cap * sizeof *at);
        if (at == NULL)
            return false;
        q->at = at;
        q->cap = cap;
    }
    q->at[q->len++] = p;
    return true;
}

bool loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&l->lock);
    bool ok = !l->closed && push(&l->waiting, (struct post){fn, arg});
    bool ring = ok && !l->awake;
    if (ring)
        l->awake = true;
    pthread_mutex_unlock(&l->lock);
    if (ring)
        wake(l);
    return ok;
}

/* --- Signals --- */

static void signal_event(evutil_socket_t signum, short what, void *arg)
{
    struct on_signal *s = arg;
    (void)what;
    s->fn((int)signum, s->arg);
}

cs_code loop_on_signal(struct loop *l, int signum, void (*fn)(int signum, void *arg), void *arg,
                       struct cs_err *e)
{
    struct on_signal *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->fn = fn;
    s->arg = arg;
    s->ev = evsignal_new(l->base, signum, signal_event, s);
    if (s->ev == NULL || evsignal_add(s->ev, NULL) != 0) {
        if (s->ev != NULL)
            event_free(s->ev);
        cs_free(s);
        return cs_fail(e, CS_INTERNAL, "cannot handle signal %d", signum);
    }
    s->next = l->signals;
    l->signals = s;
    return CS_OK;
}
