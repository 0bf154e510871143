/* SPDX-License-Identifier: Apache-2.0 */
#include "server/api/attestor.h"

#include "base/mem.h"
#include "loop/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* One plugin. */
struct gate {
    const struct catalog_plugin *plugin;
    atomic_uint steps;
};

struct api_attestors {
    struct loop_pool *pool; /* NULL without plugins */
    struct gate *gates;
    size_t count;
};

struct attestation {
    struct api_attestors *attestors;
    struct gate *gate;
    struct rpc_call *call; /* referenced while a step is under way */
    attestation_done_fn *done;
    struct cs_buf message, spki; /* of the step under way */
    char client_ip[64], host[256];
    struct crypto_stop gone;
    bool first; /* the step under way is `start` */

    /* the thread's while a step is under way, the executor's otherwise */
    void *session;
    struct nodeattestor_step step;
    cs_code code;
    struct cs_err err;

    pthread_mutex_t lock;
    bool busy;  /* a step is under way */
    bool ended; /* the executor is through with it: the thread frees it */
};

/* --- Steps --- */

static const struct nodeattestor_ops *ops_of(const struct attestation *t)
{
    return t->gate->plugin->ops;
}

static void destroy(struct attestation *t)
{
    if (t->session != NULL)
        ops_of(t)->end(t->gate->plugin->self, t->session);
    cs_buf_free(&t->message);
    cs_buf_free(&t->spki);
    pthread_mutex_destroy(&t->lock);
    cs_free(t);
}

static void run_step(struct attestation *t)
{
    void *self = t->gate->plugin->self;
    const struct nodeattestor_request request = {
        .payload = cs_buf_slice(&t->message),
        .spki = cs_buf_slice(&t->spki),
        .client_ip = t->client_ip,
        .host = t->host,
        .gone = &t->gone,
    };
    t->step = (struct nodeattestor_step){0};
    t->err = (struct cs_err){0};
    if (t->first)
        t->code = ops_of(t)->start(self, &request, &t->session, &t->step, &t->err);
    else
        t->code = ops_of(t)->respond(self, t->session, request.payload, &t->step, &t->err);
}

/* Asked on the pool's thread by attestors that wait. */
static bool is_gone(void *arg)
{
    struct attestation *t = arg;
    pthread_mutex_lock(&t->lock);
    bool gone = t->ended;
    pthread_mutex_unlock(&t->lock);
    return gone;
}

/* The pool's thread. */
static void work(void *arg)
{
    struct attestation *t = arg;
    struct rpc_call *call = t->call;
    run_step(t);
    atomic_fetch_sub(&t->gate->steps, 1);
    pthread_mutex_lock(&t->lock);
    t->busy = false;
    bool ended = t->ended;
    if (!ended && !rpc_call_post(call, t->done))
        rpc_call_finish(call, CS_INTERNAL, "no memory"); /* or it is over already: then this does nothing */
    pthread_mutex_unlock(&t->lock);
    if (ended)
        destroy(t);
    rpc_call_unref(call);
}

static cs_code begin(struct attestation *t, struct cs_err *e)
{
    struct gate *g = t->gate;
    if (atomic_fetch_add(&g->steps, 1) >= ATTESTOR_STEPS_MAX) {
        atomic_fetch_sub(&g->steps, 1);
        return cs_fail(e, CS_EXHAUSTED, "nodeattestor(%s): too many attestations are under way",
                       g->plugin->name);
    }
    t->busy = true;
    rpc_call_ref(t->call);
    if (loop_pool_submit(t->attestors->pool, work, t))
        return CS_OK;
    t->busy = false;
    rpc_call_unref(t->call);
    atomic_fetch_sub(&g->steps, 1);
    return cs_fail(e, CS_UNAVAILABLE, "nodeattestor(%s): the server is busy or ends", g->plugin->name);
}

/* --- For the executor --- */

static struct gate *gate_of(struct api_attestors *a, const struct catalog_plugin *plugin)
{
    for (size_t i = 0; i < a->count; i++)
        if (a->gates[i].plugin == plugin)
            return &a->gates[i];
    return NULL;
}

cs_code attestation_start(struct api_attestors *a, const struct catalog_plugin *plugin, struct rpc_call *call,
                          const struct nodeattestor_request *request, attestation_done_fn *done,
                          struct attestation **out, struct cs_err *e)
{
    *out = NULL;
    struct attestation *t = cs_calloc(1, sizeof *t);
    if (t == NULL)
        return cs_nomem(e);
    pthread_mutex_init(&t->lock, NULL);
    t->attestors = a;
    t->gate = gate_of(a, plugin);
    t->call = call;
    t->done = done;
    t->first = true;
    t->gone = (struct crypto_stop){.asked = is_gone, .arg = t};
    cs_buf_add_slice(&t->message, request->payload);
    cs_buf_add_slice(&t->spki, request->spki);
    memcpy(t->client_ip, request->client_ip, strnlen(request->client_ip, sizeof t->client_ip - 1));
    if (request->host != NULL)
        memcpy(t->host, request->host, strnlen(request->host, sizeof t->host - 1));
    bool copied = cs_buf_ok(&t->message) && cs_buf_ok(&t->spki);
    cs_code rc = copied ? begin(t, e) : cs_nomem(e);
    if (rc != CS_OK) {
        destroy(t);
        return rc;
    }
    *out = t;
    return CS_OK;
}

cs_code attestation_respond(struct attestation *t, struct cs_slice response, struct cs_err *e)
{
    cs_buf_reset(&t->message);
    cs_buf_add_slice(&t->message, response);
    if (!cs_buf_ok(&t->message))
        return cs_nomem(e);
    t->first = false;
    return begin(t, e);
}

bool attestation_busy(struct attestation *t)
{
    pthread_mutex_lock(&t->lock);
    bool busy = t->busy;
    pthread_mutex_unlock(&t->lock);
    return busy;
}

cs_code attestation_result(struct attestation *t, const struct nodeattestor_step **step, struct cs_err *e)
{
    *step = &t->step;
    if (t->code == CS_OK)
        return CS_OK;
    const struct catalog_plugin *p = t->gate->plugin;
    return cs_fail(e, plugin_answer(p->type, p->name, t->code, &t->err), "%s", t->err.text);
}

void attestation_end(struct attestation *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->ended = true;
    bool busy = t->busy;
    pthread_mutex_unlock(&t->lock);
    if (!busy)
        destroy(t);
}

/* --- Life --- */

const struct catalog_plugin *api_attestors_find(const struct api_attestors *a, const char *name)
{
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->gates[i].plugin->name, name) == 0)
            return a->gates[i].plugin;
    return NULL;
}

cs_code api_attestors_new(const struct catalog *catalog, struct api_attestors **out, struct cs_err *e)
{
    *out = NULL;
    struct api_attestors *a = cs_calloc(1, sizeof *a);
    if (a == NULL)
        return cs_nomem(e);
    while (catalog != NULL && catalog_nth(catalog, PLUGIN_TYPE_NODEATTESTOR, a->count) != NULL)
        a->count++;
    cs_code rc = CS_OK;
    if (a->count > 0) {
        const unsigned steps = (unsigned)a->count * ATTESTOR_STEPS_MAX;
        a->gates = cs_calloc(a->count, sizeof *a->gates);
        rc = a->gates == NULL ? cs_nomem(e) : loop_pool_new("attestor", steps, steps, &a->pool, e);
    }
    for (size_t i = 0; rc == CS_OK && i < a->count; i++)
        a->gates[i].plugin = catalog_nth(catalog, PLUGIN_TYPE_NODEATTESTOR, i);
    if (rc != CS_OK) {
        api_attestors_free(a);
        return rc;
    }
    *out = a;
    return CS_OK;
}

void api_attestors_free(struct api_attestors *a)
{
    if (a == NULL)
        return;
    loop_pool_free(a->pool);
    cs_free(a->gates);
    cs_free(a);
}
