/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's NodeAttestors "k8s_psat" and "k8s_sat": what they send of a token's file, and which
 * configuration counts.
 */
#include "base/mem.h"
#include "plugin/nodeattestor_agent.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_agent_nodeattestor_k8s_psat, plugin_agent_nodeattestor_k8s_sat;

static char dir[] = "/tmp/cs-token-XXXXXX";
static char one[64], two[64]; /* files */
#define SENT_ONE "{\"cluster\":\"prod\",\"token\":\"t0ken-1\"}"
#define SENT_TWO "{\"cluster\":\"test\",\"token\":\"t0ken-\\\"2\\\"\\n\"}"

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int begin(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return 1;
    (void)snprintf(one, sizeof one, "%s/one", dir);
    (void)snprintf(two, sizeof two, "%s/two", dir);
    put(one, "t0ken-1");
    put(two, "t0ken-\"2\"\n");
    return 0;
}

static int end(void **state)
{
    (void)state;
    (void)unlink(one);
    (void)unlink(two);
    return rmdir(dir);
}

/* --- A plugin and its server --- */

struct fixture {
    const struct plugin_builtin *plugin;
    struct plugin_env env;
    void *self;
    bool challenges; /* the server is not satisfied */
    char sent[256];
    struct cs_err e;
};

static cs_code exchange(void *arg, struct cs_slice payload, struct cs_buf *challenge, bool *done,
                        struct cs_err *e)
{
    struct fixture *f = arg;
    (void)e;
    cs_buf_reset(challenge);
    (void)snprintf(f->sent, sizeof f->sent, "%.*s", (int)payload.len, (const char *)payload.data);
    *done = !f->challenges;
    return CS_OK;
}

static cs_code attest(struct fixture *f)
{
    const struct nodeattestor_agent_ops *ops = f->plugin->ops;
    const struct nodeattestor_agent_stream stream = {.exchange = exchange, .arg = f};
    return ops->attest(f->self, &stream, &f->e);
}

static cs_code configure(struct fixture *f, const char *cluster, const char *path)
{
    char text[256];
    (void)snprintf(text, sizeof text, "cluster = \"%s\" token_path = \"%s\"", cluster, path);
    return f->plugin->configure(f->self, cs_slice_str(text), &f->e);
}

static void make(struct fixture *f, const struct plugin_builtin *plugin)
{
    *f =
        (struct fixture){.plugin = plugin, .env = {.clock = &cs_clock_system, .trust_domain = "example.org"}};
    assert_int_equal(plugin->create(&f->env, &f->self, &f->e), CS_OK);
}

static void expect_fault(struct fixture *f, cs_code code, const char *text)
{
    assert_int_equal(attest(f), code);
    assert_string_equal(f->e.text, text);
}

/* --- Tests --- */

static void sends_cluster_and_token(void **state)
{
    (void)state;
    const struct plugin_builtin *both[] = {&plugin_agent_nodeattestor_k8s_psat,
                                           &plugin_agent_nodeattestor_k8s_sat};
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        make(&f, both[i]);
        assert_int_equal(configure(&f, "prod", one), CS_OK);
        assert_int_equal(attest(&f), CS_OK);
        assert_string_equal(f.sent, SENT_ONE);
        f.plugin->destroy(f.self);
    }
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    struct fixture f;
    char want[256];
    make(&f, &plugin_agent_nodeattestor_k8s_psat);
    expect_fault(&f, CS_PRECONDITION, "nodeattestor(k8s_psat): not configured");
    assert_int_equal(configure(&f, "prod", "/nonexistent/token"), CS_OK);
    expect_fault(&f, CS_INVALID,
                 "nodeattestor(k8s_psat): unable to load token from /nonexistent/token: open "
                 "/nonexistent/token: no such file or directory");
    put(one, "");
    assert_int_equal(configure(&f, "prod", one), CS_OK);
    (void)snprintf(want, sizeof want, "nodeattestor(k8s_psat): unable to load token from %s: \"%s\" is empty",
                   one, one);
    expect_fault(&f, CS_INVALID, want);
    put(one, "t0ken-1");
    f.challenges = true;
    expect_fault(&f, CS_INTERNAL, "nodeattestor(k8s_psat): server issued unexpected challenge");
    f.plugin->destroy(f.self);
}

static void a_configuration_that_fails_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    make(&f, &plugin_agent_nodeattestor_k8s_psat);
    assert_int_equal(configure(&f, "prod", one), CS_OK);
    assert_int_equal(configure(&f, "", two), CS_INVALID);
    assert_int_equal(f.plugin->configure(f.self, cs_slice_str("cluster = "), &f.e), CS_INVALID);
    (void)cs_mem_fail_at(1, true); /* nor does one that finds no memory */
    const cs_code rc = configure(&f, "test", two);
    (void)cs_mem_fail_at(0, false);
    assert_int_equal(rc, CS_INTERNAL);
    assert_int_equal(attest(&f), CS_OK);
    assert_string_equal(f.sent, SENT_ONE);
    assert_int_equal(configure(&f, "test", two), CS_OK);
    assert_int_equal(attest(&f), CS_OK);
    assert_string_equal(f.sent, SENT_TWO);
    f.plugin->destroy(f.self);
}

static atomic_bool stop;

static void *attest_often(void *arg)
{
    struct fixture *f = arg;
    bool good = true;
    while (!atomic_load(&stop))
        good =
            good && attest(f) == CS_OK && (strcmp(f->sent, SENT_ONE) == 0 || strcmp(f->sent, SENT_TWO) == 0);
    return good ? NULL : f->sent;
}

/* plugin_data_file may change while the agent attests: what is sent is of one configuration. */
static void may_be_configured_while_it_attests(void **state)
{
    (void)state;
    struct fixture f;
    pthread_t thread;
    void *wrong;
    atomic_store(&stop, false);
    make(&f, &plugin_agent_nodeattestor_k8s_psat);
    assert_int_equal(configure(&f, "prod", one), CS_OK);
    struct fixture other = f; /* with an error and a text of its own */
    assert_int_equal(pthread_create(&thread, NULL, attest_often, &f), 0);
    cs_code rc = CS_OK;
    for (int i = 0; i < 500 && rc == CS_OK; i++)
        rc = i % 2 == 0 ? configure(&other, "test", two) : configure(&other, "prod", one);
    atomic_store(&stop, true);
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_int_equal(rc, CS_OK);
    assert_null(wrong);
    f.plugin->destroy(f.self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_cluster_and_token),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(a_configuration_that_fails_changes_nothing),
        cmocka_unit_test(may_be_configured_while_it_attests),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
