/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fairqueue.h"

#include "base/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* One thread, held by a first job until it is let go; the others write their letters. */
struct fixture {
    struct agent_fairqueue *q;
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool held, released;
    char order[256];
    size_t len;
};

static void hold(void *arg)
{
    struct fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    f->held = true;
    pthread_cond_broadcast(&f->change);
    while (!f->released)
        pthread_cond_wait(&f->change, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

struct letter {
    struct fixture *f;
    char c;
};

static void note(void *arg)
{
    const struct letter *l = arg;
    l->f->order[l->f->len++] = l->c; /* one thread */
}

static void begin(struct fixture *f, unsigned per_key, unsigned total)
{
    *f = (struct fixture){0};
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->change, NULL);
    assert_int_equal(agent_fairqueue_new("test", 1, per_key, total, &f->q, NULL), CS_OK);
    assert_true(agent_fairqueue_submit(f->q, 99, hold, f));
    pthread_mutex_lock(&f->lock);
    while (!f->held)
        pthread_cond_wait(&f->change, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

static void end(struct fixture *f, const char *order)
{
    pthread_mutex_lock(&f->lock);
    f->released = true;
    pthread_cond_broadcast(&f->change);
    pthread_mutex_unlock(&f->lock);
    agent_fairqueue_free(f->q);
    assert_string_equal(f->order, order);
    pthread_cond_destroy(&f->change);
    pthread_mutex_destroy(&f->lock);
}

static void test_keys_take_turns(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 100, 100);
    struct letter a = {&f, 'a'};
    struct letter b = {&f, 'b'};
    struct letter c = {&f, 'c'};
    for (int i = 0; i < 5; i++)
        assert_true(agent_fairqueue_submit(f.q, 1, note, &a));
    for (int i = 0; i < 2; i++)
        assert_true(agent_fairqueue_submit(f.q, 2, note, &b));
    assert_true(agent_fairqueue_submit(f.q, 3, note, &c));
    end(&f, "abcabaaa");
}

static void test_one_key_cannot_take_all_room(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 3, 5);
    struct letter a = {&f, 'a'};
    struct letter b = {&f, 'b'};
    for (int i = 0; i < 3; i++)
        assert_true(agent_fairqueue_submit(f.q, 1, note, &a));
    assert_false(agent_fairqueue_submit(f.q, 1, note, &a));
    assert_true(agent_fairqueue_submit(f.q, 2, note, &b));
    assert_true(agent_fairqueue_submit(f.q, 2, note, &b));
    assert_false(agent_fairqueue_submit(f.q, 2, note, &b)); /* all room is taken */
    assert_false(agent_fairqueue_submit(f.q, 3, note, &b)); /* also for a key that is not in line yet */
    end(&f, "ababa");
}

static void test_without_memory(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 10, 10);
    struct letter a = {&f, 'a'};
    size_t n = 1;
    for (;; n++) {
        (void)cs_mem_fail_at(n, false);
        bool ok = agent_fairqueue_submit(f.q, 7, note, &a);
        (void)cs_mem_fail_at(0, false);
        if (ok)
            break;
    }
    assert_true(n > 3); /* the job, the line, the map's entry */
    end(&f, "a");
    struct agent_fairqueue *q;
    for (n = 1;; n++) {
        (void)cs_mem_fail_at(n, false);
        cs_code rc = agent_fairqueue_new("test", 1, 1, 1, &q, NULL);
        (void)cs_mem_fail_at(0, false);
        if (rc == CS_OK)
            break;
        assert_null(q);
    }
    agent_fairqueue_free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_take_turns),
        cmocka_unit_test(test_one_key_cannot_take_all_room),
        cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
