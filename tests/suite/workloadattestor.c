/* SPDX-License-Identifier: Apache-2.0
 *
 * What every WorkloadAttestor does.
 */
#include "plugin/workloadattestor.h"

#include "tests/suite/subject.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct workloadattestor_ops *ops(const struct suite *s)
{
    return s->ops;
}

static bool has(const struct workloadattestor_values *v, const char *text)
{
    for (size_t i = 0; i < v->count; i++)
        if (strcmp(v->at[i], text) == 0)
            return true;
    return false;
}

static void a_process_has_selectors(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    char uid[40];
    snprintf(uid, sizeof uid, "uid:%u", (unsigned)getuid());
    suite_must(workloadattestor_add(&v, "first", "stays", &e), &e);
    suite_must(ops(s)->attest(s->self, getpid(), &v, &e), &e);
    assert_string_equal(v.at[0], "first:stays");
    assert_true(has(&v, uid));
    for (size_t i = 1; i < v.count; i++)
        assert_non_null(strchr(v.at[i], ':'));
}

static void what_is_said_is_the_same_each_time(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a}, w = {.arena = a};
    suite_must(ops(s)->attest(s->self, getpid(), &v, &e), &e);
    suite_must(ops(s)->attest(s->self, getpid(), &w, &e), &e);
    assert_int_equal(v.count, w.count);
    for (size_t i = 0; i < v.count; i++)
        assert_string_equal(v.at[i], w.at[i]);
}

static void a_process_that_is_not_there_is_an_error(void **state)
{
    struct suite *s = *state;
    struct cs_err e = {0};
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_not_equal(ops(s)->attest(s->self, child, &v, &e), CS_OK);
    assert_true(e.text[0] != '\0');
    assert_int_equal(v.count, 0);
}

static void *attest_often(void *arg)
{
    struct suite *s = arg;
    for (int i = 0; i < 25; i++) {
        struct cs_err e = {0};
        CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
        struct workloadattestor_values v = {.arena = a};
        suite_must(ops(s)->attest(s->self, getpid(), &v, &e), &e);
        assert_true(v.count > 0);
    }
    return NULL;
}

static void many_threads_ask(void **state)
{
    struct suite *s = *state;
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, attest_often, s), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int suite_workloadattestor(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_process_has_selectors),
        cmocka_unit_test(what_is_said_is_the_same_each_time),
        cmocka_unit_test(a_process_that_is_not_there_is_an_error),
        cmocka_unit_test(many_threads_ask),
    };
    const struct suite_subject subjects[] = {
        {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, "unix", "", false, NULL, NULL},
        {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, "unix", "", true, NULL, NULL},
        {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, "unix", "discover_workload_path = true", false, NULL, NULL},
        {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, "unix", "discover_workload_path = true", true, NULL, NULL},
    };
    return SUITE_RUN("workloadattestor", tests, subjects);
}
