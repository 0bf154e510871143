/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include "base/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>

#include <cmocka.h>

/* A job that waits until it is let go, and says that it runs. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t change;
    unsigned inside, most, done;
    bool open;
};
#define GATE_INIT                                                                                            \
    {                                                                                                        \
        .lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER                                \
    }

static void pass_gate(void *arg)
{
    struct gate *g = arg;
    pthread_mutex_lock(&g->lock);
    g->inside++;
    g->most = g->inside > g->most ? g->inside : g->most;
    pthread_cond_broadcast(&g->change);
    while (!g->open)
        pthread_cond_wait(&g->change, &g->lock);
    g->inside--;
    g->done++;
    pthread_mutex_unlock(&g->lock);
}

static void await_inside(struct gate *g, unsigned n)
{
    pthread_mutex_lock(&g->lock);
    while (g->inside < n)
        pthread_cond_wait(&g->change, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void open_gate(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->change);
    pthread_mutex_unlock(&g->lock);
}

static void threads_and_queue_are_bounded(void **state)
{
    (void)state;
    struct gate g = GATE_INIT;
    struct loop_pool *p;
    assert_int_equal(loop_pool_new("test", 3, 5, &p, NULL), CS_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(loop_pool_submit(p, pass_gate, &g));
        await_inside(&g, i + 1); /* all three run at once */
    }
    for (int i = 0; i < 5; i++)
        assert_true(loop_pool_submit(p, pass_gate, &g));
    assert_false(loop_pool_submit(p, pass_gate, &g));
    open_gate(&g);
    loop_pool_free(p); /* runs what is queued */
    assert_int_equal(g.done, 8);
    assert_int_equal(g.most, 3);
}

static void burst_starts_all_threads(void **state)
{
    (void)state;
    struct gate g = GATE_INIT;
    struct loop_pool *p;
    assert_int_equal(loop_pool_new("test", 4, 8, &p, NULL), CS_OK);
    for (int i = 0; i < 4; i++)
        assert_true(loop_pool_submit(p, pass_gate, &g));
    await_inside(&g, 4); /* none waits behind another while a thread could be had */
    open_gate(&g);
    loop_pool_free(p);
    assert_int_equal(g.done, 4);
}

static _Atomic unsigned ran;
static void count(void *arg)
{
    (void)arg;
    atomic_fetch_add(&ran, 1);
}
static void *submitter(void *arg)
{
    uintptr_t ok = 0;
    for (int i = 0; i < 20000; i++)
        ok += loop_pool_submit(arg, count, NULL);
    return (void *)ok;
}

static void every_accepted_job_runs_once(void **state)
{
    (void)state;
    struct loop_pool *p;
    pthread_t t[3];
    uintptr_t accepted = 0;
    atomic_store(&ran, 0);
    assert_int_equal(loop_pool_new("test", 2, 64, &p, NULL), CS_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&t[i], NULL, submitter, p), 0);
    for (int i = 0; i < 3; i++) {
        void *ok;
        pthread_join(t[i], &ok);
        accepted += (uintptr_t)ok;
    }
    loop_pool_free(p);
    assert_int_equal(atomic_load(&ran), accepted);
    assert_true(accepted >= 64);
}

static void one_thread_keeps_order(void **state)
{
    (void)state;
    struct gate g = GATE_INIT;
    struct loop_pool *p;
    atomic_store(&ran, 0);
    assert_int_equal(loop_pool_new("test", 1, 2, &p, NULL), CS_OK);
    assert_true(loop_pool_submit(p, pass_gate, &g));
    await_inside(&g, 1);
    assert_true(loop_pool_submit(p, count, NULL));
    assert_int_equal(atomic_load(&ran), 0);
    open_gate(&g);
    loop_pool_free(p);
    assert_int_equal(atomic_load(&ran), 1);
    assert_int_equal(g.most, 1);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    struct loop_pool *p;
    struct cs_err e;
    assert_int_equal(loop_pool_new("test", 0, 1, &p, &e), CS_INVALID);
    assert_int_equal(loop_pool_new("test", 1, 0, &p, &e), CS_INVALID);
    (void)cs_mem_fail_at(1, false);
    assert_int_equal(loop_pool_new("test", 1, 1, &p, &e), CS_INTERNAL);
    (void)cs_mem_fail_at(0, false);
    assert_null(p);
    assert_int_equal(loop_pool_new("test", 1, 1, &p, &e), CS_OK);
    loop_pool_free(p); /* never used */
    loop_pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_queue_are_bounded),
        cmocka_unit_test(burst_starts_all_threads),
        cmocka_unit_test(every_accepted_job_runs_once),
        cmocka_unit_test(one_thread_keeps_order),
        cmocka_unit_test(refuses_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
