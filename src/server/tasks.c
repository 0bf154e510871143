/* SPDX-License-Identifier: Apache-2.0
 *
 * Recurring work: a timer on the main loop hands a job to a pool, whose answer says when to come
 * back. So nothing runs twice at once, nothing blocks the loop, and an idle server sleeps. Rotation has a
 * pool to itself: an authority above us, or where the keys are, may take minutes.
 */
#include "base/mem.h"
#include "server/api/services.h"
#include "server/bundlefeed.h"
#include "server/ca/manager.h"
#include "server/health.h"
#include "server/server.h"
#include "server/svid.h"

#include <stdatomic.h>

#define RETRY_NS CS_NS_PER_S
#define TRIM_NS (60 * CS_NS_PER_S)

/* --- The work. Each returns in how many nanoseconds to run again. --- */

static int64_t rotate(struct server *s)
{
    cs_code ca = ca_manager_rotate(s->ca_manager, NULL);
    cs_code svid = server_svid_rotate(s->svid, NULL);
    if (ca != CS_OK || svid != CS_OK)
        return CA_MANAGER_INTERVAL_NS;
    int64_t ca_due = ca_manager_due(s->ca_manager), svid_due = server_svid_due(s->svid) + 1;
    int64_t wait = (ca_due < svid_due ? ca_due : svid_due) - cs_now_ns(s->clock);
    if (wait > CA_MANAGER_INTERVAL_NS)
        return CA_MANAGER_INTERVAL_NS;
    return wait > 0 ? wait : CS_NS_PER_MS;
}

static int64_t refresh(struct server *s)
{
    api_refresh(s->api);
    return API_REFRESH_NS;
}

static int64_t prune(struct server *s)
{
    api_prune(s->api);
    return API_PRUNE_NS;
}

static int64_t prune_bundle(struct server *s)
{
    struct cs_err err;
    if (ca_manager_prune_bundle(s->ca_manager, &err) != CS_OK)
        cs_log_error(&s->log, "Could not prune CA certificates", KV_ERR(&err),
                     KV("subsystem_name", "ca_manager"));
    return CA_MANAGER_PRUNE_BUNDLE_NS;
}

static int64_t prune_journals(struct server *s)
{
    struct cs_err err;
    if (ca_manager_prune_journals(s->ca_manager, &err) != CS_OK)
        cs_log_error(&s->log, "Could not prune CA journals", KV_ERR(&err),
                     KV("subsystem_name", "ca_manager"));
    return CA_MANAGER_PRUNE_JOURNALS_NS;
}

static int64_t feed_bundle(struct server *s)
{
    return bundlefeed_refresh(s->feed) ? BUNDLEFEED_REFRESH_NS : CA_MANAGER_PRUNE_BUNDLE_NS;
}

static int64_t check_health(struct server *s)
{
    return server_health_run(s->health) ? SERVER_HEALTH_NS : SERVER_HEALTH_FIRST_NS;
}

/* Connections come and go in bursts; what they leave behind is given back. */
static int64_t trim(struct server *s)
{
    (void)s;
    cs_mem_trim();
    return TRIM_NS;
}

static const struct row {
    int64_t (*run)(struct server *s);
    int64_t first_ns;
    bool rotation;
} table[] = {
    {.run = rotate, .first_ns = CS_NS_PER_MS, .rotation = true},
    {.run = check_health, .first_ns = CS_NS_PER_MS},
    {.run = refresh, .first_ns = API_REFRESH_NS},
    {.run = trim, .first_ns = 10 * CS_NS_PER_S},
    {.run = feed_bundle, .first_ns = BUNDLEFEED_REFRESH_NS},
    {.run = prune, .first_ns = API_PRUNE_NS},
    {.run = prune_bundle, .first_ns = CA_MANAGER_PRUNE_BUNDLE_NS},
    {.run = prune_journals, .first_ns = CA_MANAGER_PRUNE_JOURNALS_NS},
};
#define TASKS (sizeof table / sizeof table[0])

/* --- The machinery --- */

struct server_task {
    struct server *server;
    const struct row *row;
    struct loop_timer *timer;
    _Atomic int64_t wait_ns;
};

static void rearm(void *arg)
{
    struct server_task *t = arg;
    loop_timer_arm(t->timer, atomic_load(&t->wait_ns), 0);
}

static void job(void *arg)
{
    struct server_task *t = arg;
    atomic_store(&t->wait_ns, t->row->run(t->server));
    /* Refused only when the loop is stopping: then there is no next time. */
    if (!loop_post(t->server->loop, rearm, t))
        return;
}

static void fire(void *arg)
{
    struct server_task *t = arg;
    if (!loop_pool_submit(t->row->rotation ? t->server->rotation : t->server->pool, job, t))
        loop_timer_arm(t->timer, RETRY_NS, 0);
}

cs_code server_tasks_start(struct server *s, struct cs_err *e)
{
    s->tasks = cs_calloc(TASKS, sizeof *s->tasks);
    if (s->tasks == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < TASKS; i++) {
        struct server_task *t = &s->tasks[i];
        t->server = s;
        t->row = &table[i];
        CS_TRY(loop_timer_new(s->loop, fire, t, &t->timer, e));
        loop_timer_arm(t->timer, table[i].first_ns, 0);
    }
    return CS_OK;
}

void server_tasks_free(struct server *s)
{
    if (s->tasks == NULL)
        return;
    for (size_t i = 0; i < TASKS; i++)
        if (s->tasks[i].timer != NULL)
            loop_timer_free(s->tasks[i].timer);
    cs_free(s->tasks);
    s->tasks = NULL;
}
