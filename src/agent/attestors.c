/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/attestors.h"

#include "loop/loop.h"
#include "plugin/module.h"
#include "plugin/workloadattestor.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

/* Threads and waiting calls of one external attestor: a call of the Workload API holds one of either, and
 * there are no more of those than its workers. */
#define THREADS 4
#define QUEUE 64
#define FAILURES_PER_SECOND 20 /* lines about attestations that failed: any local process can cause them */

struct attestor {
    const struct catalog_plugin *plugin;
    struct loop_pool *pool; /* NULL: built in, called at once */
    bool module;            /* our own: it ends by itself, however long it takes for one process */
    pthread_mutex_t lock;   /* over the next two */
    unsigned asked;         /* calls that were begun and did not end */
    bool silent;            /* the last one that ended or was waited for did not answer in time */
};

struct agent_attestors {
    struct cs_log log;
    int64_t wait_ns;
    struct cs_log_limit failures;
    size_t count;
    struct attestor at[];
};

/* One question to one external attestor. It outlives the caller that gave up waiting. */
struct question {
    atomic_uint refs;
    struct attestor *attestor;
    pid_t pid;
    struct cs_arena *arena;
    struct workloadattestor_values values;
    pthread_mutex_t lock; /* over all below, and what is above until `done` */
    pthread_cond_t answered;
    bool done;
    cs_code rc;
    struct cs_err err;
};

/* --- Life --- */

static bool is_builtin(const struct catalog_plugin *p)
{
    for (size_t k = 0; k < plugin_agent_kind_count; k++) {
        const struct plugin_kind *kind = &plugin_agent_kinds[k];
        for (size_t i = 0; i < kind->builtin_count; i++)
            if (kind->builtins[i]->ops == p->ops)
                return true;
    }
    return false;
}

/* An external plugin may have the name of one of ours. */
static bool is_module(const struct catalog_plugin *p)
{
    for (size_t k = 0; k < plugin_agent_kind_count; k++)
        if (plugin_agent_kinds[k].bridge != NULL && plugin_agent_kinds[k].bridge->ops == p->ops)
            return false;
    return plugin_module_name("agent", p->type, p->name) != NULL;
}

bool agent_attestors_take_long(const struct agent_attestors *a)
{
    for (size_t i = 0; i < a->count; i++)
        if (a->at[i].module)
            return true;
    return false;
}

cs_code agent_attestors_new(const struct agent_attestors_config *cfg, struct agent_attestors **out,
                            struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(agent_attestors) a = cs_calloc(1, sizeof *a + cfg->plugin_count * sizeof a->at[0]);
    if (a == NULL)
        return cs_nomem(e);
    a->log = cfg->log;
    a->wait_ns = cfg->wait_ns > 0 ? cfg->wait_ns : AGENT_ATTESTOR_WAIT_NS;
    for (size_t i = 0; i < cfg->plugin_count; i++) {
        struct attestor *t = &a->at[i];
        t->plugin = cfg->plugins[i];
        (void)pthread_mutex_init(&t->lock, NULL); /* cannot fail without attributes on Linux */
        a->count++;
        t->module = is_module(t->plugin);
        if (!is_builtin(t->plugin))
            CS_TRY(loop_pool_new("attestor", t->module ? AGENT_ATTESTOR_CALLS : THREADS, QUEUE, &t->pool, e));
    }
    *out = CS_MOVE(a);
    return CS_OK;
}

void agent_attestors_free(struct agent_attestors *a)
{
    if (a == NULL)
        return;
    for (size_t i = 0; i < a->count; i++) {
        if (a->at[i].pool != NULL)
            loop_pool_free(a->at[i].pool);
        pthread_mutex_destroy(&a->at[i].lock);
    }
    cs_free(a);
}

/* --- One question --- */

static void question_unref(struct question *q)
{
    if (q == NULL || atomic_fetch_sub_explicit(&q->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_cond_destroy(&q->answered);
    pthread_mutex_destroy(&q->lock);
    cs_arena_free(q->arena);
    cs_free(q);
}

static struct question *question_new(struct attestor *t, pid_t pid)
{
    struct question *q = cs_calloc(1, sizeof *q);
    if (q == NULL)
        return NULL;
    q->arena = cs_arena_new(0, 0);
    if (q->arena == NULL) {
        cs_free(q);
        return NULL;
    }
    atomic_init(&q->refs, 1);
    q->attestor = t;
    q->pid = pid;
    q->values.arena = q->arena;
    (void)pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&q->answered, &attr);
    (void)pthread_condattr_destroy(&attr);
    return q;
}

/* In a thread of the attestor. */
static void put_question(void *arg)
{
    struct question *q = arg;
    struct attestor *t = q->attestor;
    const struct workloadattestor_ops *ops = t->plugin->ops;
    struct cs_err err = {0};
    cs_code rc = ops->attest(t->plugin->self, q->pid, &q->values, &err);
    pthread_mutex_lock(&t->lock);
    t->asked--;
    t->silent = rc == CS_DEADLINE && !t->module;
    pthread_mutex_unlock(&t->lock);
    pthread_mutex_lock(&q->lock);
    q->rc = rc;
    q->err = err;
    q->done = true;
    pthread_cond_signal(&q->answered);
    pthread_mutex_unlock(&q->lock);
    question_unref(q);
}

/* Does somebody find out already whether this one answers again? */
static bool may_ask(struct attestor *t)
{
    pthread_mutex_lock(&t->lock);
    bool good = !t->silent || t->asked == 0;
    t->asked += good;
    pthread_mutex_unlock(&t->lock);
    return good;
}

static cs_code begin(struct attestor *t, pid_t pid, struct question **out, struct cs_err *e)
{
    if (!may_ask(t))
        return cs_fail(e, CS_UNAVAILABLE, "plugin does not answer");
    struct question *q = question_new(t, pid);
    if (q != NULL) {
        atomic_store(&q->refs, 2);
        if (loop_pool_submit(t->pool, put_question, q)) {
            *out = q;
            return CS_OK;
        }
        atomic_store(&q->refs, 1);
        question_unref(q);
    }
    pthread_mutex_lock(&t->lock);
    t->asked--;
    pthread_mutex_unlock(&t->lock);
    return q != NULL ? cs_fail(e, CS_EXHAUSTED, "too many calls wait for the plugin") : cs_nomem(e);
}

/* Until the answer is there, or the time is over: a module that waits for one process, say for a container
 * that starts, says nothing about others, and has limits of its own. */
static cs_code await(struct question *q, int64_t until, int64_t wait_ns, struct cs_err *e)
{
    const struct timespec ts = {.tv_sec = until / CS_NS_PER_S, .tv_nsec = until % CS_NS_PER_S};
    int timeout = 0;
    pthread_mutex_lock(&q->lock);
    while (!q->done && timeout == 0)
        timeout = q->attestor->module ? pthread_cond_wait(&q->answered, &q->lock)
                                      : pthread_cond_timedwait(&q->answered, &q->lock, &ts);
    bool done = q->done;
    pthread_mutex_unlock(&q->lock);
    if (done) {
        if (q->rc != CS_OK && e != NULL)
            *e = q->err;
        return q->rc;
    }
    pthread_mutex_lock(&q->attestor->lock);
    q->attestor->silent = q->attestor->asked > 0; /* it may have answered a moment ago */
    pthread_mutex_unlock(&q->attestor->lock);
    return cs_fail(e, CS_DEADLINE, "plugin did not answer within %llds", (long long)(wait_ns / CS_NS_PER_S));
}

/* --- All of them --- */

struct round {
    struct agent_attestors *a;
    struct cs_arena *arena;
    pid_t pid;
    const char **selectors;
    size_t count, good;
    struct cs_buf faults; /* text of all failures, a line each */
    cs_code first;        /* code of the first one */
    bool may_log;
};

static cs_code add_values(struct round *r, const char *type, const struct workloadattestor_values *v,
                          struct cs_err *e)
{
    const char **grown = cs_arena_alloc(r->arena, (r->count + v->count + 1) * sizeof *grown);
    if (grown == NULL)
        return cs_nomem(e);
    if (r->count > 0)
        memcpy(grown, r->selectors, r->count * sizeof *grown);
    r->selectors = grown;
    for (size_t i = 0; i < v->count; i++) {
        grown[r->count] = cs_arena_printf(r->arena, "%s:%s", type, v->at[i]);
        if (grown[r->count] == NULL)
            return cs_nomem(e);
        r->count++;
    }
    return CS_OK;
}

/* As SPIRE words it, where the answer of a plugin is the status of a call. */
static void failed(struct round *r, const struct attestor *t, cs_code rc, struct cs_err *e)
{
    const char *name = t->plugin->name;
    rc = plugin_answer(t->plugin->type, name, rc, e);
    struct cs_err plain = *e;
    (void)cs_fail(e, rc, "rpc error: code = %s desc = %.440s", cs_code_name(rc), plain.text);
    if (r->first == CS_OK)
        r->first = rc;
    cs_buf_printf(&r->faults, "%sworkload attestor \"%s\" failed: %s", r->faults.len > 0 ? "\n" : "", name,
                  e->text);
    r->may_log = cs_log_limit_ok(&r->a->failures, FAILURES_PER_SECOND, NULL);
    if (!r->may_log)
        return;
    char msg[256];
    (void)snprintf(msg, sizeof msg, "workload attestor \"%s\" failed", name);
    cs_log_error(&r->a->log, msg, KV_ERR(e), KV_INT("pid", r->pid));
}

static void take(struct round *r, const struct attestor *t, cs_code rc,
                 const struct workloadattestor_values *v, struct cs_err *e)
{
    if (rc == CS_OK)
        rc = add_values(r, t->plugin->name, v, e);
    if (rc == CS_OK)
        r->good++;
    else
        failed(r, t, rc, e);
}

/* A built-in answers here and now; its values are made in the caller's arena. */
static void ask_builtin(struct round *r, const struct attestor *t)
{
    const struct workloadattestor_ops *ops = t->plugin->ops;
    struct workloadattestor_values v = {.arena = r->arena};
    struct cs_err e = {0};
    cs_code rc = ops->attest(t->plugin->self, r->pid, &v, &e);
    take(r, t, rc, &v, &e);
}

static void finish(struct round *r, const struct attestor *t, struct question *q, int64_t until,
                   struct cs_err *e)
{
    cs_code rc = q != NULL ? await(q, until, r->a->wait_ns, e) : e->code;
    take(r, t, rc, q != NULL ? &q->values : NULL, e);
    question_unref(q);
}

static cs_code ask_all(struct round *r, struct cs_err *e)
{
    struct agent_attestors *a = r->a;
    struct question **asked = cs_arena_zalloc(r->arena, (a->count + 1) * sizeof(struct question *));
    struct cs_err *refused = cs_arena_zalloc(r->arena, (a->count + 1) * sizeof *refused);
    if (asked == NULL || refused == NULL)
        return cs_nomem(e);
    int64_t until = cs_mono_ns(&cs_clock_system) + a->wait_ns;
    for (size_t i = 0; i < a->count; i++)
        if (a->at[i].pool != NULL && begin(&a->at[i], r->pid, &asked[i], &refused[i]) != CS_OK)
            asked[i] = NULL;
    for (size_t i = 0; i < a->count; i++) {
        if (a->at[i].pool == NULL)
            ask_builtin(r, &a->at[i]);
        else
            finish(r, &a->at[i], asked[i], until, &refused[i]);
    }
    return CS_OK;
}

cs_code agent_attestors_ask(struct agent_attestors *a, pid_t pid, struct cs_arena *arena,
                            const char ***selectors, size_t *count, struct cs_err *e)
{
    struct round r = {.a = a, .arena = arena, .pid = pid};
    cs_code rc = ask_all(&r, e);
    if (rc == CS_OK && r.good == 0 && r.first != CS_OK)
        rc = cs_fail(e, r.first, "%.500s", cs_buf_cstr(&r.faults));
    else if (rc == CS_OK && r.first != CS_OK && r.may_log)
        cs_log_error(&a->log, "Failed to collect all selectors", KV("error", cs_buf_cstr(&r.faults)),
                     KV_INT("pid", pid));
    cs_buf_free(&r.faults);
    *selectors = r.selectors;
    *count = r.count;
    return rc;
}
