/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/loop.h"

#include "base/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

struct seen {
    struct loop *loop;
    struct loop_timer *timer;
    unsigned runs, order[8];
    bool in_thread;
    int signum;
};

static struct loop *new_loop(void)
{
    struct loop *l;
    assert_int_equal(loop_new("test", &l, NULL), CS_OK);
    return l;
}

static void note(struct seen *s, unsigned what)
{
    if (s->runs < 8)
        s->order[s->runs] = what;
    s->runs++;
}
static void one(void *arg)
{
    note(arg, 1);
}
static void two(void *arg)
{
    struct seen *s = arg;
    note(s, 2);
    s->in_thread = loop_in_thread(s->loop);
}
static void three_then_stop(void *arg)
{
    struct seen *s = arg;
    assert_true(loop_post(s->loop, one, s)); /* posted before the stop: runs */
    note(s, 3);
    loop_stop(s->loop);
    assert_false(loop_post(s->loop, one, s));
}

static void posts_run_in_order(void **state)
{
    (void)state;
    struct seen s = {.loop = new_loop()};
    assert_true(loop_post(s.loop, one, &s));
    assert_true(loop_post(s.loop, two, &s));
    assert_true(loop_post(s.loop, three_then_stop, &s));
    assert_false(loop_in_thread(s.loop));
    loop_run(s.loop);
    assert_int_equal(s.runs, 4);
    assert_true(s.order[0] == 1 && s.order[1] == 2 && s.order[2] == 3 && s.order[3] == 1);
    assert_true(s.in_thread);
    assert_false(loop_in_thread(s.loop));
    assert_false(loop_post(s.loop, one, &s));
    loop_free(s.loop);
}

static void stop_before_run(void **state)
{
    (void)state;
    struct seen s = {.loop = new_loop()};
    assert_true(loop_post(s.loop, one, &s));
    loop_stop(s.loop);
    loop_run(s.loop);
    assert_int_equal(s.runs, 1);
    loop_free(s.loop);
    loop_free(NULL);
}

enum { POSTERS = 4, POSTS = 20000 };
static _Atomic unsigned accepted;
static unsigned counted; /* loop thread only */
static void count(void *arg)
{
    (void)arg;
    counted++;
}
static void *poster(void *arg)
{
    for (int i = 0; i < POSTS; i++) {
        if (loop_post(arg, count, NULL))
            atomic_fetch_add(&accepted, 1);
    }
    return NULL;
}

/* Each accepted post runs, also while the loop is being stopped; none is lost, none runs twice. */
static void many_threads_post(void **state)
{
    (void)state;
    for (int stop_early = 0; stop_early < 2; stop_early++) {
        struct loop *l = new_loop();
        pthread_t t[POSTERS];
        counted = 0;
        atomic_store(&accepted, 0);
        assert_int_equal(loop_start(l, NULL), CS_OK);
        for (int i = 0; i < POSTERS; i++)
            assert_int_equal(pthread_create(&t[i], NULL, poster, l), 0);
        if (stop_early)
            loop_stop(l);
        for (int i = 0; i < POSTERS; i++)
            pthread_join(t[i], NULL);
        loop_free(l); /* joins */
        assert_int_equal(counted, atomic_load(&accepted));
        if (!stop_early)
            assert_int_equal(counted, POSTERS * POSTS);
    }
}

static void no_memory_refuses_a_post(void **state)
{
    (void)state;
    struct seen s = {.loop = new_loop()};
    (void)cs_mem_fail_at(1, false);
    assert_false(loop_post(s.loop, one, &s));
    (void)cs_mem_fail_at(0, false);
    assert_true(loop_post(s.loop, one, &s));
    loop_stop(s.loop);
    loop_run(s.loop);
    assert_int_equal(s.runs, 1);
    loop_free(s.loop);

    struct loop *l;
    for (size_t n = 1;; n++) {
        (void)cs_mem_fail_at(n, false);
        cs_code code = loop_new("test", &l, NULL);
        (void)cs_mem_fail_at(0, false);
        if (code == CS_OK)
            break;
        assert_null(l);
    }
    loop_free(l);
}

static void tick(void *arg)
{
    struct seen *s = arg;
    note(s, 1);
    if (s->runs == 3) {
        loop_timer_free(s->timer); /* inside its own callback */
        s->timer = NULL;
        loop_stop(s->loop);
    }
}

static void timer_repeats(void **state)
{
    (void)state;
    struct seen s = {.loop = new_loop()};
    assert_int_equal(loop_timer_new(s.loop, tick, &s, &s.timer, NULL), CS_OK);
    loop_timer_arm(s.timer, CS_NS_PER_MS, 2 * CS_NS_PER_MS);
    int64_t start = cs_mono_ns(&cs_clock_system);
    loop_run(s.loop);
    assert_int_equal(s.runs, 3);
    assert_true(cs_mono_ns(&cs_clock_system) - start > CS_NS_PER_MS);
    loop_free(s.loop);
}

static void stop(void *arg)
{
    loop_stop(((struct seen *)arg)->loop);
}

static void timers_fire_in_order_and_can_be_moved(void **state)
{
    (void)state;
    struct seen s = {.loop = new_loop()};
    struct loop_timer *a, *b, *c, *d;
    assert_int_equal(loop_timer_new(s.loop, one, &s, &a, NULL), CS_OK);
    assert_int_equal(loop_timer_new(s.loop, two, &s, &b, NULL), CS_OK);
    assert_int_equal(loop_timer_new(s.loop, stop, &s, &c, NULL), CS_OK);
    assert_int_equal(loop_timer_new(s.loop, one, &s, &d, NULL), CS_OK);
    loop_timer_arm(a, 1, 0);
    loop_timer_arm(a, 40 * CS_NS_PER_MS, 0); /* moved behind b */
    loop_timer_arm(b, 10 * CS_NS_PER_MS, 0);
    loop_timer_arm(c, 80 * CS_NS_PER_MS, 0);
    loop_timer_arm(d, 1, CS_NS_PER_MS);
    loop_timer_disarm(d);
    loop_run(s.loop);
    assert_int_equal(s.runs, 2);
    assert_true(s.order[0] == 2 && s.order[1] == 1);
    loop_timer_free(a);
    loop_timer_free(b);
    loop_timer_free(c);
    loop_timer_free(d);
    loop_timer_free(NULL);
    loop_free(s.loop);
}

static void got_signal(int signum, void *arg)
{
    struct seen *s = arg;
    s->signum = signum;
    s->in_thread = loop_in_thread(s->loop);
    loop_stop(s->loop);
}
static void send_signal(void *arg)
{
    (void)arg;
    kill(getpid(), SIGUSR1);
}

static void signals_arrive_on_the_loop(void **state)
{
    (void)state;
    struct seen s = {.loop = new_loop()};
    struct loop *other = new_loop(); /* a thread that blocks signals must not matter */
    assert_int_equal(loop_start(other, NULL), CS_OK);
    assert_int_equal(loop_on_signal(s.loop, SIGUSR1, got_signal, &s, NULL), CS_OK);
    assert_int_equal(loop_on_signal(s.loop, SIGUSR2, got_signal, &s, NULL), CS_OK);
    assert_true(loop_post(other, send_signal, NULL));
    loop_run(s.loop);
    assert_int_equal(s.signum, SIGUSR1);
    assert_true(s.in_thread);
    loop_free(s.loop);
    loop_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_run_in_order),
        cmocka_unit_test(stop_before_run),
        cmocka_unit_test(many_threads_post),
        cmocka_unit_test(no_memory_refuses_a_post),
        cmocka_unit_test(timer_repeats),
        cmocka_unit_test(timers_fire_in_order_and_can_be_moved),
        cmocka_unit_test(signals_arrive_on_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
