/* SPDX-License-Identifier: Apache-2.0
 *
 * Node attestors apart from the workers: steps, refusals, attestors that hang, and nodes that go meanwhile.
 */
#include "server/api/attestor.h"

#include "call.h"

#include <pthread.h>

struct fake {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hold;
    unsigned inside, sessions, ended;
    char last[64];
    const struct crypto_stop *gone; /* of the last step */
    cs_code answer;
};
static struct fake one, two;

static cs_code step_of(struct fake *f, const char *message, struct nodeattestor_step *step, struct cs_err *e)
{
    pthread_mutex_lock(&f->lock);
    f->inside++;
    snprintf(f->last, sizeof f->last, "%s", message);
    pthread_cond_broadcast(&f->changed);
    while (f->hold)
        pthread_cond_wait(&f->changed, &f->lock);
    f->inside--;
    pthread_cond_broadcast(&f->changed);
    cs_code answer = f->answer;
    pthread_mutex_unlock(&f->lock);
    if (answer != CS_OK)
        return cs_fail(e, answer, "no way");
    *step = (struct nodeattestor_step){.done = strcmp(message, "answer") == 0,
                                       .challenge = cs_slice_str("challenge"),
                                       .agent_id = "spiffe://example.org/spire/agent/one/n"};
    return CS_OK;
}

static cs_code start(void *self, const struct nodeattestor_request *r, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    struct fake *f = self;
    char message[64];
    snprintf(message, sizeof message, "%.*s/%.*s/%s/%s", (int)r->payload.len, (const char *)r->payload.data,
             (int)r->spki.len, (const char *)r->spki.data, r->client_ip, r->host);
    pthread_mutex_lock(&f->lock);
    f->gone = r->gone;
    f->sessions++;
    pthread_mutex_unlock(&f->lock);
    *session = f;
    return step_of(f, message, step, e);
}
static cs_code respond(void *self, void *session, struct cs_slice response, struct nodeattestor_step *step,
                       struct cs_err *e)
{
    char message[64];
    assert_ptr_equal(self, session);
    snprintf(message, sizeof message, "%.*s", (int)response.len, (const char *)response.data);
    return step_of(self, message, step, e);
}
static void end(void *self, void *session)
{
    struct fake *f = self;
    assert_ptr_equal(self, session);
    pthread_mutex_lock(&f->lock);
    f->ended++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}
static const struct nodeattestor_ops ops = {start, respond, end};

static cs_code create_one(const struct plugin_env *env, void **self, struct cs_err *e)
{
    (void)env;
    (void)e;
    *self = &one;
    return CS_OK;
}
static cs_code create_two(const struct plugin_env *env, void **self, struct cs_err *e)
{
    (void)env;
    (void)e;
    *self = &two;
    return CS_OK;
}
static const struct plugin_builtin builtin_one = {.name = "one", .ops = &ops, .create = create_one};
static const struct plugin_builtin builtin_two = {.name = "two", .ops = &ops, .create = create_two};
static const struct plugin_builtin *const builtins[] = {&builtin_one, &builtin_two};
static const struct plugin_kind kind = {.type = "NodeAttestor", .builtins = builtins, .builtin_count = 2};

/* A call whose executor is the test. */
struct node {
    struct rpc_conn conn;
    struct rpc_method method;
    struct rpc_call rpc;
    struct attestation *attestation;
    unsigned told;
};

static void node_up(struct node *n)
{
    memset(n, 0, sizeof *n);
    n->rpc.refs = 1;
    n->rpc.conn = &n->conn;
    n->rpc.method = &n->method;
    n->rpc.work_end = &n->rpc.work;
    n->rpc.running = true;
    pthread_mutex_init(&n->rpc.lock, NULL);
}

static void node_down(struct node *n)
{
    assert_int_equal(n->rpc.refs, 1);
    assert_null(n->rpc.work);
    pthread_mutex_destroy(&n->rpc.lock);
}

static void on_done(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    ((struct node *)state)->told++;
}

/* Waits until the executor is given something, and does it. */
static void run_executor(struct node *n)
{
    struct rpc_work *w = NULL;
    for (unsigned i = 0; w == NULL && i < 10000; i++) {
        pthread_mutex_lock(&n->rpc.lock);
        w = n->rpc.work;
        if (w != NULL) {
            n->rpc.work = w->next;
            n->rpc.work_end = &n->rpc.work;
        }
        pthread_mutex_unlock(&n->rpc.lock);
        if (w == NULL)
            usleep(1000);
    }
    assert_non_null(w);
    w->fn(&n->rpc, NULL, n);
    cs_free(w);
    while (atomic_load(&n->rpc.refs) > 1) /* the thread gives its reference back */
        usleep(100);
}

static void wait_inside(struct fake *f, unsigned n)
{
    pthread_mutex_lock(&f->lock);
    while (f->inside != n)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}
static void hold(struct fake *f, bool on)
{
    pthread_mutex_lock(&f->lock);
    f->hold = on;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}
static unsigned ended(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    unsigned n = f->ended;
    pthread_mutex_unlock(&f->lock);
    return n;
}

struct attestors {
    struct catalog *catalog;
    struct api_attestors *a;
};

static int setup(void **state)
{
    struct cs_err e = {0};
    struct attestors *w = calloc(1, sizeof *w);
    struct fake *const fakes[] = {&one, &two};
    for (size_t i = 0; i < 2; i++) {
        *fakes[i] = (struct fake){.answer = CS_OK};
        pthread_mutex_init(&fakes[i]->lock, NULL);
        pthread_cond_init(&fakes[i]->changed, NULL);
    }
    const struct config_plugin rows[] = {{.type = "NodeAttestor", .name = "one", .cmd = "", .checksum = ""},
                                         {.type = "NodeAttestor", .name = "two", .cmd = "", .checksum = ""}};
    const struct config_plugins plugins = {.at = rows, .len = 2};
    const struct catalog_config cfg = {
        .program = "server", .kinds = &kind, .kind_count = 1, .plugins = &plugins};
    must(catalog_load(&cfg, &w->catalog, &e), &e);
    must(api_attestors_new(w->catalog, &w->a, &e), &e);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct attestors *w = *state;
    api_attestors_free(w->a);
    catalog_free(w->catalog);
    free(w);
    return 0;
}

static cs_code begin(struct attestors *w, const char *name, struct node *n, struct cs_err *e)
{
    const struct nodeattestor_request r = {.payload = cs_slice_str("payload"),
                                           .spki = cs_slice_str("key"),
                                           .client_ip = "192.0.2.1",
                                           .host = "server.test"};
    return attestation_start(w->a, api_attestors_find(w->a, name), &n->rpc, &r, on_done, &n->attestation, e);
}

static void steps_come_one_after_the_other(void **state)
{
    struct attestors *w = *state;
    struct cs_err e = {0};
    struct node n;
    const struct nodeattestor_step *step;
    node_up(&n);
    must(begin(w, "one", &n, &e), &e);
    run_executor(&n);
    assert_int_equal(n.told, 1);
    assert_string_equal(one.last, "payload/key/192.0.2.1/server.test");
    must(attestation_result(n.attestation, &step, &e), &e);
    assert_false(step->done);
    assert_true(cs_slice_is(step->challenge, "challenge"));
    must(attestation_respond(n.attestation, cs_slice_str("answer"), &e), &e);
    run_executor(&n);
    must(attestation_result(n.attestation, &step, &e), &e);
    assert_true(step->done);
    assert_int_equal(ended(&one), 0);
    attestation_end(n.attestation);
    assert_int_equal(ended(&one), 1);
    assert_null(api_attestors_find(w->a, "three"));
    node_down(&n);
}

static void refusals_name_the_attestor(void **state)
{
    struct attestors *w = *state;
    struct cs_err e = {0};
    struct node n;
    const struct nodeattestor_step *step;
    node_up(&n);
    two.answer = CS_DENIED;
    must(begin(w, "two", &n, &e), &e);
    run_executor(&n);
    assert_int_equal(attestation_result(n.attestation, &step, &e), CS_DENIED);
    assert_string_equal(e.text, "nodeattestor(two): no way");
    attestation_end(n.attestation);
    assert_int_equal(ended(&two), 1);
    node_down(&n);
}

/* It keeps so many of its own callers waiting, and nobody of the other's. */
static void one_that_hangs_holds_up_nobody_else(void **state)
{
    struct attestors *w = *state;
    struct cs_err e = {0};
    static struct node nodes[ATTESTOR_STEPS_MAX + 1];
    struct node other;
    hold(&one, true);
    for (size_t i = 0; i < ATTESTOR_STEPS_MAX; i++) {
        node_up(&nodes[i]);
        must(begin(w, "one", &nodes[i], &e), &e);
    }
    wait_inside(&one, ATTESTOR_STEPS_MAX);
    struct node *next = &nodes[ATTESTOR_STEPS_MAX];
    node_up(next);
    assert_int_equal(begin(w, "one", next, &e), CS_EXHAUSTED);
    assert_string_equal(e.text, "nodeattestor(one): too many attestations are under way");
    assert_null(next->attestation);

    const struct nodeattestor_step *step;
    node_up(&other);
    must(begin(w, "two", &other, &e), &e);
    run_executor(&other);
    must(attestation_result(other.attestation, &step, &e), &e);
    attestation_end(other.attestation);
    node_down(&other);

    assert_true(attestation_busy(nodes[0].attestation));
    hold(&one, false);
    for (size_t i = 0; i < ATTESTOR_STEPS_MAX; i++) {
        run_executor(&nodes[i]);
        assert_false(attestation_busy(nodes[i].attestation));
        attestation_end(nodes[i].attestation);
        node_down(&nodes[i]);
    }
    must(begin(w, "one", next, &e), &e);
    run_executor(next);
    attestation_end(next->attestation);
    node_down(next);
    assert_int_equal(ended(&one), ATTESTOR_STEPS_MAX + 1);
    assert_int_equal(one.sessions, ATTESTOR_STEPS_MAX + 1);
}

/* The node goes while its attestor thinks: nobody is told, and the session is ended all the same. */
static void a_node_may_go_meanwhile(void **state)
{
    struct attestors *w = *state;
    struct cs_err e = {0};
    struct node n;
    node_up(&n);
    hold(&one, true);
    must(begin(w, "one", &n, &e), &e);
    wait_inside(&one, 1);
    assert_false(one.gone->asked(one.gone->arg));
    attestation_end(n.attestation);
    assert_true(one.gone->asked(one.gone->arg));
    assert_int_equal(ended(&one), 0);
    hold(&one, false);
    api_attestors_free(w->a); /* and with it the step */
    w->a = NULL;
    assert_int_equal(ended(&one), 1);
    assert_int_equal(n.told, 0);
    node_down(&n);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(steps_come_one_after_the_other),
        T(refusals_name_the_attestor),
        T(one_that_hangs_holds_up_nobody_else),
        T(a_node_may_go_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
