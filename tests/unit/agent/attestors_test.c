/* SPDX-License-Identifier: Apache-2.0
 *
 * Asking all WorkloadAttestors, over fakes that answer, fail and hang, and the built-in unix.
 */
#include "agent/attestors.h"

#include "plugin/workloadattestor.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define WAIT_NS (100 * CS_NS_PER_MS)
#define LIMIT_S 20

struct fake {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hang;
    pid_t spared; /* does not hang */
    unsigned inside, calls;
    cs_code fail;
    const char *value;
    struct catalog_plugin plugin;
};

static cs_code fake_attest(void *self, pid_t pid, struct workloadattestor_values *out, struct cs_err *e)
{
    struct fake *f = self;
    pthread_mutex_lock(&f->lock);
    f->calls++;
    f->inside++;
    pthread_cond_broadcast(&f->changed);
    while (f->hang && pid != f->spared)
        pthread_cond_wait(&f->changed, &f->lock);
    f->inside--;
    pthread_cond_broadcast(&f->changed);
    cs_code fail = f->fail;
    pthread_mutex_unlock(&f->lock);
    if (fail != CS_OK)
        return cs_fail(e, fail, "no idea");
    char pid_text[16];
    (void)snprintf(pid_text, sizeof pid_text, "%d", (int)pid);
    CS_TRY(workloadattestor_add(out, "pid", pid_text, e));
    return workloadattestor_add_value(out, f->value, e);
}

static const struct workloadattestor_ops fake_ops = {.attest = fake_attest};

static void fake_init(struct fake *f, const char *name, const char *value)
{
    *f =
        (struct fake){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .value = value};
    f->plugin = (struct catalog_plugin){
        .type = PLUGIN_TYPE_WORKLOADATTESTOR, .name = name, .ops = &fake_ops, .self = f};
}

static void set_hang(struct fake *f, bool hang)
{
    pthread_mutex_lock(&f->lock);
    f->hang = hang;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void await_inside(struct fake *f, unsigned n)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LIMIT_S;
    pthread_mutex_lock(&f->lock);
    int late = 0;
    while (f->inside != n && late == 0)
        late = pthread_cond_timedwait(&f->changed, &f->lock, &until);
    const unsigned inside = f->inside;
    pthread_mutex_unlock(&f->lock); /* failing jumps away, and the teardown wants the lock */
    if (inside != n)
        fail_msg("%u inside of %s and not %u", inside, f->plugin.name, n);
}

static unsigned calls_of(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    unsigned n = f->calls;
    pthread_mutex_unlock(&f->lock);
    return n;
}

extern const struct plugin_builtin plugin_workloadattestor_unix;

struct fixture {
    struct fake one, two;
    struct catalog_plugin unix_one;
    struct agent_attestors *all;
    struct cs_log_sink *sink;
    char log[64];
};

static void make(struct fixture *f, const struct catalog_plugin *const *plugins, size_t count,
                 int64_t wait_ns)
{
    const struct cs_log log = {.sink = f->sink};
    const struct agent_attestors_config cfg = {
        .log = cs_log_sub(log, "workload_attestor"),
        .plugins = plugins,
        .plugin_count = count,
        .wait_ns = wait_ns,
    };
    assert_int_equal(agent_attestors_new(&cfg, &f->all, NULL), CS_OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    fake_init(&f->one, "one", "colour:blue");
    fake_init(&f->two, "two", "size:9");
    (void)snprintf(f->log, sizeof f->log, "/tmp/cs-attestors-XXXXXX");
    int fd = mkstemp(f->log);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(cs_log_sink_open(f->log, CS_LOG_TEXT, CS_LOG_DEBUG, &f->sink, NULL), CS_OK);
    const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};
    const struct plugin_builtin *b = &plugin_workloadattestor_unix;
    f->unix_one =
        (struct catalog_plugin){.type = PLUGIN_TYPE_WORKLOADATTESTOR, .name = b->name, .ops = b->ops};
    assert_int_equal(b->create(&env, &f->unix_one.self, NULL), CS_OK);
    assert_int_equal(b->configure(f->unix_one.self, cs_slice_str(""), NULL), CS_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    set_hang(&f->one, false);
    set_hang(&f->two, false);
    agent_attestors_free(f->all);
    plugin_workloadattestor_unix.destroy(f->unix_one.self);
    cs_log_sink_free(f->sink);
    (void)unlink(f->log);
    free(f);
    return 0;
}

static bool logged(const struct fixture *f, const char *a, const char *b)
{
    FILE *in = fopen(f->log, "r");
    char line[2048];
    bool found = false;
    assert_non_null(in);
    while (!found && fgets(line, sizeof line, in) != NULL)
        found = strstr(line, a) != NULL && strstr(line, b) != NULL;
    (void)fclose(in);
    return found;
}

/* The selectors that are not unix:*, with blanks between, or the error's text. */
static cs_code ask(struct fixture *f, pid_t pid, char out[1024], size_t *all)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    const char **selectors = NULL;
    size_t count = 0;
    struct cs_err e = {0};
    cs_code rc = agent_attestors_ask(f->all, pid, arena, &selectors, &count, &e);
    out[0] = '\0';
    for (size_t i = 0; i < count; i++)
        if (strncmp(selectors[i], "unix:", 5) != 0)
            (void)snprintf(out + strlen(out), 1024 - strlen(out), "%s%s", out[0] != '\0' ? " " : "",
                           selectors[i]);
    if (rc != CS_OK)
        (void)snprintf(out, 1024, "%s", e.text);
    if (all != NULL)
        *all = count;
    return rc;
}

/* --- Tests --- */

static void test_all_are_asked(void **state)
{
    struct fixture *f = *state;
    const struct catalog_plugin *plugins[] = {&f->two.plugin, &f->unix_one, &f->one.plugin};
    char out[1024];
    size_t all = 0;
    make(f, plugins, 3, 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask(f, getpid(), out, &all), CS_OK);
        char want[256];
        (void)snprintf(want, sizeof want, "two:pid:%d two:size:9 one:pid:%d one:colour:blue", (int)getpid(),
                       (int)getpid());
        assert_string_equal(out, want);
        assert_true(all > 5); /* uid, gid, ... */
    }
}

static void test_none(void **state)
{
    struct fixture *f = *state;
    char out[1024];
    size_t all = 1;
    make(f, NULL, 0, 0);
    assert_int_equal(ask(f, getpid(), out, &all), CS_OK);
    assert_int_equal(all, 0);
}

static void test_failures(void **state)
{
    struct fixture *f = *state;
    const struct catalog_plugin *plugins[] = {&f->one.plugin, &f->two.plugin};
    char out[1024];
    make(f, plugins, 2, 0);
    f->one.fail = CS_UNKNOWN;
    assert_int_equal(ask(f, 7, out, NULL), CS_OK);
    assert_string_equal(out, "two:pid:7 two:size:9");
    static const char text[] = "rpc error: code = Unknown desc = workloadattestor(one): no idea";
    assert_true(logged(f, "msg=\"workload attestor \\\"one\\\" failed\"", text));
    assert_true(logged(f, "Failed to collect all selectors", text));
    assert_true(logged(f, "Failed to collect all selectors", "pid=7"));
    f->two.fail = CS_DENIED;
    assert_int_equal(ask(f, 7, out, NULL), CS_UNKNOWN);
    assert_string_equal(
        out,
        "workload attestor \"one\" failed: rpc error: code = Unknown desc = workloadattestor(one): no idea\n"
        "workload attestor \"two\" failed: rpc error: code = PermissionDenied desc = "
        "workloadattestor(two): no idea");
}

/* Asked together: each waits until the other is inside. */
static void *let_both_go(void *arg)
{
    struct fixture *f = arg;
    await_inside(&f->one, 1);
    await_inside(&f->two, 1);
    set_hang(&f->one, false);
    set_hang(&f->two, false);
    return NULL;
}

static void test_asked_together(void **state)
{
    struct fixture *f = *state;
    const struct catalog_plugin *plugins[] = {&f->one.plugin, &f->two.plugin};
    char out[1024];
    pthread_t other;
    make(f, plugins, 2, LIMIT_S * CS_NS_PER_S);
    set_hang(&f->one, true);
    set_hang(&f->two, true);
    assert_int_equal(pthread_create(&other, NULL, let_both_go, f), 0);
    assert_int_equal(ask(f, 7, out, NULL), CS_OK);
    assert_string_equal(out, "one:pid:7 one:colour:blue two:pid:7 two:size:9");
    assert_int_equal(pthread_join(other, NULL), 0);
}

/* One that hangs costs the first caller the wait, later ones nothing, and is heard again when it answers. */
static void test_one_that_hangs(void **state)
{
    struct fixture *f = *state;
    const struct catalog_plugin *plugins[] = {&f->one.plugin, &f->two.plugin};
    char out[1024];
    make(f, plugins, 2, WAIT_NS);
    set_hang(&f->one, true);
    int64_t begun = cs_mono_ns(&cs_clock_system);
    assert_int_equal(ask(f, 7, out, NULL), CS_OK);
    assert_string_equal(out, "two:pid:7 two:size:9");
    assert_true(cs_mono_ns(&cs_clock_system) - begun >= WAIT_NS);
    assert_true(logged(f, "workload attestor \\\"one\\\" failed",
                       "code = DeadlineExceeded desc = workloadattestor(one): plugin did not answer within"));
    for (int i = 0; i < 100; i++)
        assert_int_equal(ask(f, 7, out, NULL), CS_OK);
    assert_int_equal(calls_of(&f->one), 1); /* nobody else was made to wait */
    assert_true(logged(f, "workload attestor \\\"one\\\" failed",
                       "code = Unavailable desc = workloadattestor(one): plugin does not answer"));
    set_hang(&f->one, false);
    await_inside(&f->one, 0);
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; i < LIMIT_S * 1000; i++) { /* the answer to the first question has still to be noticed */
        assert_int_equal(ask(f, 7, out, NULL), CS_OK);
        if (strcmp(out, "one:pid:7 one:colour:blue two:pid:7 two:size:9") == 0)
            return;
        (void)nanosleep(&pause, NULL);
    }
    fail_msg("never heard again");
}

/* The only one hangs: an error, and not for ever. */
static void test_only_one_and_it_hangs(void **state)
{
    struct fixture *f = *state;
    const struct catalog_plugin *plugins[] = {&f->one.plugin};
    char out[1024];
    make(f, plugins, 1, WAIT_NS);
    set_hang(&f->one, true);
    assert_int_equal(ask(f, 7, out, NULL), CS_DEADLINE);
    assert_int_equal(ask(f, 7, out, NULL), CS_UNAVAILABLE);
}

/* --- Attestors of modules --- */

/* By its name, which modules.c knows. */
static void make_module(struct fixture *f)
{
    f->one.plugin.name = "docker";
}

/* A caller in a thread of its own. */
struct caller {
    struct fixture *f;
    pthread_t thread;
    atomic_bool ended;
    cs_code rc;
    char out[1024];
};

static void *call_main(void *arg)
{
    struct caller *c = arg;
    c->rc = ask(c->f, 7, c->out, NULL);
    atomic_store(&c->ended, true);
    return NULL;
}

static void call(struct caller *c, struct fixture *f)
{
    *c = (struct caller){.f = f};
    assert_int_equal(pthread_create(&c->thread, NULL, call_main, c), 0);
}

static void wait_until(int64_t mono_ns)
{
    const struct timespec ts = {.tv_sec = mono_ns / CS_NS_PER_S, .tv_nsec = mono_ns % CS_NS_PER_S};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

static void test_only_modules_take_long(void **state)
{
    struct fixture *f = *state;
    const struct catalog_plugin *plugins[] = {&f->unix_one, &f->one.plugin};
    make(f, plugins, 2, 0);
    assert_false(agent_attestors_take_long(f->all));
    agent_attestors_free(f->all);
    make_module(f);
    make(f, plugins, 2, 0);
    assert_true(agent_attestors_take_long(f->all));
    agent_attestors_free(f->all);
    /* an external plugin that has the name of one of ours is an external plugin */
    for (size_t k = 0; k < plugin_agent_kind_count; k++)
        if (strcmp(plugin_agent_kinds[k].type, PLUGIN_TYPE_WORKLOADATTESTOR) == 0)
            f->one.plugin.ops = plugin_agent_kinds[k].bridge->ops;
    assert_ptr_not_equal(f->one.plugin.ops, &fake_ops);
    make(f, plugins, 2, 0);
    assert_false(agent_attestors_take_long(f->all));
}

/* A container may start slowly: there is no end to waiting but the plugin's own. */
static void test_a_module_is_waited_for(void **state)
{
    struct fixture *f = *state;
    const struct catalog_plugin *plugins[] = {&f->one.plugin, &f->two.plugin};
    struct caller c;
    make_module(f);
    make(f, plugins, 2, WAIT_NS);
    set_hang(&f->one, true);
    const int64_t begun = cs_mono_ns(&cs_clock_system);
    call(&c, f);
    await_inside(&f->one, 1);
    wait_until(begun + 3 * WAIT_NS);
    const bool gave_up = atomic_load(&c.ended);
    set_hang(&f->one, false);
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    assert_false(gave_up);
    assert_int_equal(c.rc, CS_OK);
    assert_string_equal(c.out, "docker:pid:7 docker:colour:blue two:pid:7 two:size:9");
}

/* That the time for one process ran out is no news of others: they are asked although one is waited for. */
static void ask_beside_one_that_hangs(struct fixture *f, char out[1024])
{
    const struct catalog_plugin *plugins[] = {&f->one.plugin, &f->two.plugin};
    struct caller c;
    make(f, plugins, 2, LIMIT_S * CS_NS_PER_S);
    f->one.fail = CS_DEADLINE;
    assert_int_equal(ask(f, 7, out, NULL), CS_OK);
    assert_string_equal(out, "two:pid:7 two:size:9");
    f->one.fail = CS_OK;
    f->one.spared = 8;
    set_hang(&f->one, true);
    call(&c, f);
    await_inside(&f->one, 1);
    const cs_code rc = ask(f, 8, out, NULL);
    set_hang(&f->one, false);
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    assert_int_equal(rc, CS_OK);
    const char *name = f->one.plugin.name;
    char want[256];
    (void)snprintf(want, sizeof want, "%s:pid:7 %s:colour:blue two:pid:7 two:size:9", name, name);
    assert_string_equal(c.out, want);
}

static void test_a_late_module_is_not_silent(void **state)
{
    struct fixture *f = *state;
    char out[1024];
    make_module(f);
    ask_beside_one_that_hangs(f, out);
    assert_string_equal(out, "docker:pid:8 docker:colour:blue two:pid:8 two:size:9");
}

static void test_a_late_external_one_is(void **state)
{
    struct fixture *f = *state;
    char out[1024];
    ask_beside_one_that_hangs(f, out);
    assert_string_equal(out, "two:pid:8 two:size:9");
    assert_true(logged(f, "workload attestor \\\"one\\\" failed", "plugin does not answer"));
}

/* As many wait at a time as the Workload API lets in, and the last of them for no other. */
static void test_many_wait_for_a_module(void **state)
{
    struct fixture *f = *state;
    const struct catalog_plugin *plugins[] = {&f->one.plugin};
    static struct caller callers[AGENT_ATTESTOR_CALLS - 1];
    const size_t count = sizeof callers / sizeof callers[0];
    char out[1024];
    make_module(f);
    make(f, plugins, 1, WAIT_NS);
    f->one.spared = 8;
    set_hang(&f->one, true);
    for (size_t i = 0; i < count; i++)
        call(&callers[i], f);
    await_inside(&f->one, (unsigned)count);
    const cs_code rc = ask(f, 8, out, NULL);
    set_hang(&f->one, false);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
    assert_int_equal(rc, CS_OK);
    assert_string_equal(out, "docker:pid:8 docker:colour:blue");
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(callers[i].rc, CS_OK);
        assert_string_equal(callers[i].out, "docker:pid:7 docker:colour:blue");
    }
    assert_int_equal(calls_of(&f->one), count + 1);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_all_are_asked),
        T(test_none),
        T(test_failures),
        T(test_asked_together),
        T(test_one_that_hangs),
        T(test_only_one_and_it_hangs),
        T(test_only_modules_take_long),
        T(test_a_module_is_waited_for),
        T(test_a_late_module_is_not_silent),
        T(test_a_late_external_one_is),
        T(test_many_wait_for_a_module),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
