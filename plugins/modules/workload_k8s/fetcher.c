/* SPDX-License-Identifier: Apache-2.0
 *
 * Whoever finds no list that is good and no request under way makes the request, for all others, too.
 */
#include "plugins/modules/workload_k8s/kubelet.h"

#include <pthread.h>
#include <time.h>

#define WAKE_NS (200 * CS_NS_PER_MS) /* how often somebody who waits looks whether all ends */

struct k8s_fetcher {
    const struct cs_clock *clock;
    const struct crypto_stop *stop;
    pthread_mutex_t lock; /* over all below, held for no request */
    pthread_cond_t news;
    const struct config_k8s *config;
    struct k8s_kubelet *kubelet;
    int64_t loaded_at, last_start;
    bool started, in_flight;
    uint64_t ended; /* requests so far */
    struct k8s_pods *list;
    uint64_t version;
    int64_t list_start; /* when the request began that brought it */
    cs_code last_rc;    /* of the last request */
    struct cs_err last_err;
};

cs_code k8s_fetcher_new(const struct cs_clock *clock, const struct crypto_stop *stop,
                        struct k8s_fetcher **out, struct cs_err *e)
{
    struct k8s_fetcher *f = cs_calloc(1, sizeof *f);
    *out = f;
    if (f == NULL)
        return cs_nomem(e);
    f->clock = clock;
    f->stop = stop;
    (void)pthread_mutex_init(&f->lock, NULL); /* these cannot fail on Linux */
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&f->news, &attr);
    (void)pthread_condattr_destroy(&attr);
    return CS_OK;
}

void k8s_fetcher_free(struct k8s_fetcher *f)
{
    if (f == NULL)
        return;
    k8s_kubelet_unref(f->kubelet);
    k8s_pods_unref(f->list);
    pthread_cond_destroy(&f->news);
    pthread_mutex_destroy(&f->lock);
    cs_free(f);
}

/* With the lock. */
static void install(struct k8s_fetcher *f, struct k8s_kubelet *k)
{
    k8s_kubelet_unref(f->kubelet);
    f->kubelet = k;
    f->loaded_at = cs_mono_ns(f->clock);
}

/* --- One request --- */

/* With the lock, which is let go of for the request. */
static void fetch(struct k8s_fetcher *f)
{
    f->in_flight = f->started = true;
    f->last_start = cs_mono_ns(f->clock);
    int64_t start = f->last_start;
    bool reload = start - f->loaded_at >= f->config->reload_interval_ns;
    const struct config_k8s config = *f->config;
    CS_AUTO(k8s_kubelet) kubelet = k8s_kubelet_ref(f->kubelet);
    CS_AUTO(k8s_kubelet) fresh = NULL;
    struct k8s_pods *list = NULL;
    struct cs_err err = {0};
    pthread_mutex_unlock(&f->lock);

    cs_code rc = reload ? k8s_kubelet_new(&config, kubelet, &fresh, &err) : CS_OK;
    if (rc == CS_OK)
        rc = k8s_kubelet_pods(fresh != NULL ? fresh : kubelet, f->stop, &list, &err);

    pthread_mutex_lock(&f->lock);
    if (fresh != NULL && f->kubelet == kubelet) /* else it was configured anew meanwhile */
        install(f, CS_MOVE(fresh));
    if (rc == CS_OK) {
        k8s_pods_unref(f->list);
        f->list = list;
        f->list_start = start;
        f->version++;
    }
    f->last_rc = rc;
    f->last_err = err;
    f->in_flight = false;
    f->ended++;
    pthread_cond_broadcast(&f->news);
}

static bool stopping(const struct k8s_fetcher *f)
{
    return f->stop != NULL && f->stop->asked(f->stop->arg);
}

/* With the lock; until there is news, or the time has come. */
static void doze(struct k8s_fetcher *f, int64_t at_most)
{
    int64_t until = cs_mono_ns(&cs_clock_system) + (at_most < WAKE_NS ? at_most : WAKE_NS);
    const struct timespec ts = {.tv_sec = until / CS_NS_PER_S, .tv_nsec = until % CS_NS_PER_S};
    (void)pthread_cond_timedwait(&f->news, &f->lock, &ts);
}

cs_code k8s_fetcher_configure(struct k8s_fetcher *f, const struct config_k8s *c, struct cs_err *e)
{
    struct k8s_kubelet *k = NULL;
    pthread_mutex_lock(&f->lock);
    CS_AUTO(k8s_kubelet) before = f->kubelet != NULL ? k8s_kubelet_ref(f->kubelet) : NULL;
    pthread_mutex_unlock(&f->lock);
    if (!c->disable_kubelet_client)
        CS_TRY(k8s_kubelet_new(c, before, &k, e));
    pthread_mutex_lock(&f->lock);
    while (f->in_flight) /* it uses the old configuration */
        doze(f, WAKE_NS);
    f->config = c;
    if (k != NULL)
        install(f, k);
    pthread_mutex_unlock(&f->lock);
    return CS_OK;
}

/* With the lock: waits for the request under way, or for one that may begin, and makes that if nobody else
 * does. False: all ends. */
static bool await_request(struct k8s_fetcher *f)
{
    const uint64_t ended = f->ended;
    while (f->ended == ended) {
        int64_t now = cs_mono_ns(f->clock);
        int64_t due = f->started ? f->last_start + f->config->poll_retry_interval_ns : now;
        if (stopping(f))
            return false;
        if (f->in_flight)
            doze(f, WAKE_NS);
        else if (now < due)
            doze(f, due - now);
        else
            fetch(f);
    }
    return true;
}

/* With the lock. */
static cs_code next_list(struct k8s_fetcher *f, uint64_t after, struct cs_err *e)
{
    if (f->list != NULL && after < f->version &&
        cs_mono_ns(f->clock) < f->list_start + f->config->poll_retry_interval_ns)
        return CS_OK;
    if (!await_request(f))
        return cs_fail(e, CS_CANCELLED, "pod list fetcher is closed");
    if (f->last_rc != CS_OK && e != NULL)
        *e = f->last_err;
    return f->last_rc;
}

cs_code k8s_fetcher_next(struct k8s_fetcher *f, uint64_t *version, struct k8s_pods **out, struct cs_err *e)
{
    *out = NULL;
    pthread_mutex_lock(&f->lock);
    cs_code rc = f->kubelet != NULL ? next_list(f, *version, e)
                                    : cs_fail(e, CS_PRECONDITION, "kubelet client is not configured");
    if (rc == CS_OK) {
        *out = k8s_pods_ref(f->list);
        *version = f->version;
    }
    pthread_mutex_unlock(&f->lock);
    return rc;
}
