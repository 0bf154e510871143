/* SPDX-License-Identifier: Apache-2.0
 *
 * The docker attestor against engines at Unix sockets, with processes that are files.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "plugin/workloadattestor.h"
#include "tests/fakes/http_server.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_workloadattestor_docker;

#define ID "6469646e742065787065637420616e796f6e6520746f20726561642074686973"
#define ID2 "41e4ab61d2860b0e1467de0da0a9c6068012761febec402dc04a5a94f32ea867"
#define CONTAINER                                                                                            \
    "{\"Id\":\"" ID "\",\"Config\":{\"Image\":\"registry.test/img:1\","                                      \
    "\"Labels\":{\"a\":\"1\",\"b.c\":\"x:y\"},\"Env\":[\"PATH=/bin\",\"EMPTY=\"]}}"
#define IMAGE "{\"Id\":\"sha256:aabb\",\"RepoDigests\":[]}"
#define VALUES                                                                                               \
    "label:a:1 label:b.c:x:y env:PATH=/bin env:EMPTY= image_id:registry.test/img:1 "                         \
    "image_config_digest:sha256:aabb"

static struct {
    const char *container, *image; /* NULL: 404 */
    int status;                    /* of the container */
    unsigned refuse;               /* so many times first */
    atomic_uint containers;
    char targets[2][2048];
} engine;

static char dir[] = "/tmp/cs-docker-XXXXXX";
static char sock[64], podman[64];

static bool answer(void *arg, const struct test_request *r, struct test_conn *c)
{
    (void)arg;
    if (strstr(r->target, "/containers/") != NULL) {
        (void)snprintf(engine.targets[0], sizeof engine.targets[0], "%s", r->target);
        if (engine.containers++ < engine.refuse || engine.container == NULL)
            return test_reply(c, 404, "", "{\"message\":\"No such container: x\"}\n");
        return test_reply(c, engine.status, "Content-Type: application/json\r\n", engine.container);
    }
    (void)snprintf(engine.targets[1], sizeof engine.targets[1], "%s", r->target);
    return engine.image != NULL ? test_reply(c, 200, "", engine.image)
                                : test_reply(c, 404, "", "{\"message\":\"No such image\"}");
}

static void process(const char *cgroup)
{
    char path[64];
    (void)snprintf(path, sizeof path, "%s/123", dir);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/123/cgroup", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(cgroup, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static struct test_server *server;

static int set_up(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as the programs do */
    assert_non_null(mkdtemp(dir));
    (void)snprintf(sock, sizeof sock, "%s/docker.sock", dir);
    (void)snprintf(podman, sizeof podman, "%s/podman-1000.sock", dir);
    const struct test_server_options o = {.handler = answer, .unix_path = sock};
    server = test_server_start(&o);
    assert_non_null(server);
    return setenv("HOST_PROC", dir, 1);
}

static int tear_down(void **state)
{
    (void)state;
    char command[64];
    test_server_stop(server);
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

static int reset(void **state)
{
    (void)state;
    engine.container = CONTAINER;
    engine.image = IMAGE;
    engine.status = 200;
    engine.refuse = 0;
    engine.containers = 0;
    engine.targets[0][0] = engine.targets[1][0] = '\0';
    process("10:devices:/docker/" ID "\n");
    return 0;
}

static const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};

static cs_code try_make(const char *more, void **self, struct cs_err *e)
{
    char config[1024];
    (void)snprintf(config, sizeof config, "docker_socket_path = \"unix://%s\"\n%s", sock, more);
    assert_int_equal(plugin_workloadattestor_docker.create(&env, self, NULL), CS_OK);
    cs_code rc = plugin_workloadattestor_docker.configure(*self, cs_slice_str(config), e);
    if (rc != CS_OK)
        plugin_workloadattestor_docker.destroy(*self);
    return rc;
}

/* Asks with that configuration: all values with a blank between, or the error. */
static cs_code ask(const char *more, char out[1024], struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    const struct workloadattestor_ops *ops = plugin_workloadattestor_docker.ops;
    void *self;
    if (try_make(more, &self, e) != CS_OK)
        fail_msg("%s", e->text);
    cs_code rc = ops->attest(self, 123, &v, e);
    out[0] = '\0';
    for (size_t i = 0; rc == CS_OK && i < v.count; i++)
        (void)snprintf(out + strlen(out), 1024 - strlen(out), "%s%s", i > 0 ? " " : "", v.at[i]);
    plugin_workloadattestor_docker.destroy(self);
    return rc;
}

static void expect(const char *more, const char *want)
{
    char got[1024];
    struct cs_err e;
    if (ask(more, got, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(got, want);
}

static void expect_error(const char *more, cs_code code, const char *part)
{
    char got[1024];
    struct cs_err e = {0};
    assert_int_equal(ask(more, got, &e), code);
    if (strstr(e.text, part) == NULL)
        fail_msg("%s", e.text);
}

static void test_selectors(void **state)
{
    (void)state;
    expect("", VALUES);
    assert_string_equal(engine.targets[0], "/containers/" ID "/json");
    assert_string_equal(engine.targets[1], "/images/registry.test/img:1/json");
    expect("docker_version = \"1.20\"", VALUES);
    assert_string_equal(engine.targets[0], "/v1.20/containers/" ID "/json");
    process("0::/user.slice\n");
    expect("", "");
    process("0::/system.slice/docker-" ID ".scope\n");
    expect("", VALUES);
}

static void test_less_is_said(void **state)
{
    (void)state;
    engine.image = NULL;
    expect("", "label:a:1 label:b.c:x:y env:PATH=/bin env:EMPTY= image_id:registry.test/img:1");
    engine.image = "{}";
    expect("", "label:a:1 label:b.c:x:y env:PATH=/bin env:EMPTY= image_id:registry.test/img:1");
    engine.container = "{\"Config\":{\"Image\":\"\",\"Labels\":null,\"Env\":null}}";
    engine.targets[1][0] = '\0';
    expect("", "");
    assert_string_equal(engine.targets[1], ""); /* nobody asks for an image without name */
}

static void test_tries_again(void **state)
{
    (void)state;
    engine.refuse = 2;
    expect("", VALUES);
    assert_int_equal(engine.containers, 3);
    engine.containers = 0;
    engine.container = NULL;
    expect_error("", CS_UNKNOWN, "Error response from daemon: No such container: x");
    assert_int_equal(engine.containers, 4);
}

static void test_bad_answers(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body, *fault;
    } cases[] = {
        {500, "plain", "Error response from daemon: status 500: plain"},
        {500, "", "Error response from daemon: status 500: "},
        {200, "[]", "is no JSON object"},
        {200, "{\"Config\":", "is no JSON object"},
        {200, "{}", "the container has no Config"},
        {200, "{\"Config\":{\"Labels\":[]}}", "Config.Labels is not an object"},
        {200, "{\"Config\":{\"Labels\":{\"a\":1}}}", "Config.Labels is not all strings"},
        {200, "{\"Config\":{\"Env\":\"x\"}}", "Config.Env is not an array"},
        {200, "{\"Config\":{\"Env\":[1]}}", "Config.Env is not all strings"},
        {200, "{\"Config\":{\"Image\":7}}", "Config.Image is not a string"},
        {200, "{\"Config\":{\"Env\":[\"a\\u0000b\"]}}", "is no JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        engine.status = cases[i].status;
        engine.container = cases[i].body;
        expect_error("", CS_UNKNOWN, cases[i].fault);
    }
}

static void test_matchers(void **state)
{
    (void)state;
#define MATCH(list) "use_new_container_locator = false container_id_cgroup_matchers = [" list "]"
    expect(MATCH("\"/docker/*/<id>\""), "");
    expect(MATCH("\"/docker/*/<id>\", \"/docker/<id>\""), VALUES);
    process("10:cpu:/docker/\n");
    expect_error(MATCH("\"/docker/<id>\""), CS_UNKNOWN, "a pattern matched, but no container id was found");
    process("10:cpu:/docker/" ID "\n9:x:/docker/" ID2 "\n");
    expect_error(MATCH("\"/docker/<id>\""), CS_UNKNOWN,
                 "workloadattestor/docker: multiple container IDs found in cgroups (" ID ", " ID2 ")");
    expect_error("", CS_PRECONDITION, "multiple container IDs found (\"" ID "\", \"" ID2 "\")");
    void *self;
    struct cs_err e;
    assert_int_equal(try_make(MATCH("\"/docker/\""), &self, &e), CS_INVALID);
    assert_non_null(strstr(e.text, "must contain the container id token \"<id>\" exactly once"));
}

/* Who is asked goes by the cgroup: Docker, Podman of root, or of a user. */
static void test_podman(void **state)
{
    (void)state;
    char more[512];
    const struct test_server_options o = {.handler = answer, .unix_path = podman};
    struct test_server *other = test_server_start(&o);
    assert_non_null(other);
    (void)snprintf(more, sizeof more,
                   "podman_socket_path = \"unix://%s/root.sock\" podman_socket_path_template = "
                   "\"unix://%s/podman-%%d.sock\"",
                   dir, dir);
    process("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" ID ".scope\n");
    expect(more, VALUES);
    assert_int_equal(test_server_connections(other), 1);
    process("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod/" ID "\n");
    expect(more, VALUES);
    assert_int_equal(test_server_connections(other), 2);
    process("0::/user.slice/user-2000.slice/user@2000.service/user.slice/libpod-" ID ".scope\n");
    expect_error(more, CS_UNKNOWN, "GET ");
    process("0::/machine.slice/libpod-" ID ".scope\n"); /* root's, which is not there */
    expect_error(more, CS_UNKNOWN, "GET ");
    process("0::/user.slice/user-4294967296.slice/x/libpod-" ID ".scope\n");
    expect_error(more, CS_UNKNOWN, "GET ");
    assert_int_equal(test_server_connections(other), 2);
    test_server_stop(other);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup(t, reset)
    const struct CMUnitTest tests[] = {
        TEST(test_selectors),   TEST(test_less_is_said), TEST(test_tries_again),
        TEST(test_bad_answers), TEST(test_matchers),     TEST(test_podman),
    };
    return cmocka_run_group_tests_name("workload_docker", tests, set_up, tear_down);
}
