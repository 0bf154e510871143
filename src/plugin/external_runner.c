/* SPDX-License-Identifier: Apache-2.0
 *
 * What all external plugins share.
 */
#include "plugin/external_internal.h"
#include "rpc/server.h"

#include <time.h>
#include <unistd.h>

#define POOL_THREADS 4
#define POOL_QUEUE 512

void plugin_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* --- Work on the loop --- */

struct errand {
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void run_errand(void *arg)
{
    struct errand *w = arg;
    w->fn(w->arg);
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

cs_code plugin_runner_do(struct plugin_runner *r, void (*fn)(void *arg), void *arg, struct cs_err *e)
{
    struct errand w = {
        .fn = fn, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    if (!loop_post(r->loop, run_errand, &w))
        return cs_nomem(e);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.changed);
    pthread_mutex_destroy(&w.lock);
    return CS_OK;
}

void plugin_runner_must(struct plugin_runner *r, void (*fn)(void *arg), void *arg)
{
    while (plugin_runner_do(r, fn, arg, NULL) != CS_OK) {
        const struct timespec moment = {.tv_nsec = 10 * CS_NS_PER_MS};
        (void)nanosleep(&moment, NULL);
    }
}

/* --- Life --- */

cs_code plugin_runner_new(struct cs_log log, const struct cs_clock *clock, struct plugin_runner **out,
                          struct cs_err *e)
{
    *out = NULL;
    struct plugin_runner *r = cs_calloc(1, sizeof *r);
    if (r == NULL)
        return cs_nomem(e);
    r->log = log;
    r->clock = clock;
    r->health_every_ns = PLUGIN_HEALTH_EVERY_NS;
    r->health_ns = PLUGIN_HEALTH_NS;
    r->pause_ns = PLUGIN_PAUSE_FIRST_NS;
    pthread_mutex_init(&r->lock, NULL);
    r->folder_lock = -1;
    cs_code rc = plugin_folder_make(r->folder, &r->folder_lock, e);
    if (rc == CS_OK)
        rc = loop_new("plugins", &r->loop, e);
    if (rc == CS_OK)
        rc = loop_start(r->loop, e);
    if (rc == CS_OK)
        rc = loop_pool_new("plugin-care", POOL_THREADS, POOL_QUEUE, &r->pool, e);
    if (rc == CS_OK)
        rc = plugin_host_server_new(r, &r->server, e);
    if (rc == CS_OK)
        *out = r;
    else
        plugin_runner_free(r);
    return rc;
}

/* Who waits looks a few times a second. */
void plugin_runner_stop(struct plugin_runner *r)
{
    atomic_store(&r->stopping, true);
}

void plugin_runner_free(struct plugin_runner *r)
{
    if (r == NULL)
        return;
    if (r->pool != NULL)
        loop_pool_free(r->pool);
    if (r->server != NULL)
        rpc_server_free(r->server);
    loop_free(r->loop);
    if (r->folder[0] != '\0')
        plugin_folder_remove(r->folder);
    if (r->folder_lock >= 0)
        (void)close(r->folder_lock);
    pthread_mutex_destroy(&r->lock);
    cs_free(r);
}
