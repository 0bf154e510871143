/* SPDX-License-Identifier: Apache-2.0
 *
 * The k8s attestor against kubelets that are good, late, slow and broken, with processes that are files.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "crypto/key.h"
#include "plugin/workloadattestor.h"
#include "tests/fakes/http_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_workloadattestor_k8s;

#define ID "09bc3d7ade839efec32b6bec4ec79d099027a668ddba043083ec21d3c3b8f1e6"
#define UID "a2830d0d-b0f0-4ff0-81b5-0ee4e299cf80"
#define POD(uid, id)                                                                                         \
    "{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns1\",\"uid\":\"" uid "\"},"                              \
    "\"spec\":{\"serviceAccountName\":\"sa1\",\"nodeName\":\"n1\"},"                                         \
    "\"status\":{\"containerStatuses\":[{\"name\":\"c\",\"image\":\"i:1\",\"imageID\":\"i@d\","              \
    "\"containerID\":\"containerd://" id "\"}]}}"
#define READY "{\"items\":[" POD(UID, ID) "]}"
#define NOT_READY "{\"items\":[" POD(UID, "") "]}"
#define TOKEN "eyJ0b2tlbiI6MX0.x.y"

/* What the stand-in answers, and what it saw. */
static struct {
    pthread_mutex_t lock;
    int status;
    const char *body;
    unsigned not_before; /* requests that get NOT_READY first */
    bool hold;           /* answer only when let go */
    atomic_uint requests;
    char authorization[128], client[128], target[2048];
} kubelet = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct test_pki pki, other;
static char *cert, *key, *client_cert, *client_key;
static char dir[64];

static bool answer(void *arg, const struct test_request *r, struct test_conn *c)
{
    (void)arg;
    CS_CLEANUP(cs_buf_free) struct cs_buf head = {0};
    cs_buf_add_slice(&head, cs_buf_slice(&r->head));
    unsigned n = ++kubelet.requests;
    pthread_mutex_lock(&kubelet.lock);
    const char *at = strstr(cs_buf_cstr(&head), "Authorization: ");
    kubelet.authorization[0] = '\0';
    if (at != NULL)
        (void)sscanf(at + 15, "%127[^\r]", kubelet.authorization);
    (void)snprintf(kubelet.client, sizeof kubelet.client, "%s", r->client != NULL ? r->client : "");
    (void)snprintf(kubelet.target, sizeof kubelet.target, "%s", r->target);
    int status = kubelet.status;
    const char *body = n <= kubelet.not_before ? NOT_READY : kubelet.body;
    pthread_mutex_unlock(&kubelet.lock);
    for (;;) {
        pthread_mutex_lock(&kubelet.lock);
        bool hold = kubelet.hold;
        pthread_mutex_unlock(&kubelet.lock);
        if (!hold || test_stopping(c))
            break;
        (void)usleep(1000);
    }
    return test_reply(c, status, "Content-Type: application/json\r\n", body);
}

static void put(const char *name, const char *text, char out[128])
{
    (void)snprintf(out, 128, "%s/%s", dir, name);
    FILE *f = fopen(out, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A process 123 of that cgroup. */
static void process(const char *cgroup)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/123", dir);
    (void)mkdir(path, 0700);
    put("123/cgroup", cgroup, path);
}

static int set_up(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as the programs do */
    (void)snprintf(dir, sizeof dir, "/tmp/cs-k8s-XXXXXX");
    assert_non_null(mkdtemp(dir));
    setenv("HOST_PROC", dir, 1);
    unsetenv("MY_NODE_NAME");
    test_pki_new(&pki);
    test_pki_new(&other);
    test_pki_issue(&pki, "kubelet", NULL, &cert, &key);
    test_pki_issue(&pki, "agent", "agent.test", &client_cert, &client_key);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    test_pki_free(&pki);
    test_pki_free(&other);
    free(cert);
    free(key);
    free(client_cert);
    free(client_key);
    return 0;
}

static int reset(void **state)
{
    (void)state;
    kubelet.status = 200;
    kubelet.body = READY;
    kubelet.not_before = 0;
    kubelet.hold = false;
    kubelet.requests = 0;
    process("0::/kubepods/burstable/pod" UID "/" ID "\n");
    return 0;
}

/* --- The plugin --- */

static bool ending;
static bool is_ending(void *arg)
{
    (void)arg;
    return __atomic_load_n(&ending, __ATOMIC_SEQ_CST);
}
static const struct crypto_stop stop = {is_ending, NULL};
static const struct plugin_env env = {
    .clock = &cs_clock_system, .trust_domain = "example.org", .stop = &stop};

static cs_code try_make(const char *config, void **self, struct cs_err *e)
{
    const struct plugin_builtin *b = &plugin_workloadattestor_k8s;
    assert_int_equal(b->create(&env, self, NULL), CS_OK);
    cs_code rc = b->configure(*self, cs_slice_str(config), e);
    if (rc != CS_OK)
        b->destroy(*self);
    return rc;
}

static int port_of(const struct test_server *s)
{
    const char *colon = strrchr(test_server_url(s), ':');
    return (int)strtol(colon + 1, NULL, 10);
}

/* `more` is put behind the port. */
static void *make(const struct test_server *s, const char *option, const char *more)
{
    char config[1024];
    struct cs_err e;
    void *self;
    (void)snprintf(config, sizeof config, "%s = %d\n%s", option, port_of(s), more);
    if (try_make(config, &self, &e) != CS_OK)
        fail_msg("%s", e.text);
    return self;
}

/* All values, a blank between each, or the error. */
static cs_code ask(void *self, char out[1024], struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    const struct workloadattestor_ops *ops = plugin_workloadattestor_k8s.ops;
    cs_code rc = ops->attest(self, 123, &v, e);
    out[0] = '\0';
    for (size_t i = 0; rc == CS_OK && i < v.count; i++)
        (void)snprintf(out + strlen(out), 1024 - strlen(out), "%s%s", i > 0 ? " " : "", v.at[i]);
    return rc;
}

#define POD_VALUES                                                                                           \
    "sa:sa1 ns:ns1 node-name:n1 pod-uid:" UID                                                                \
    " pod-name:p pod-image-count:1 pod-init-image-count:0 pod-image:i@d pod-image:i:1"
#define ALL_VALUES POD_VALUES " container-name:c container-image:i@d container-image:i:1"

static void expect(void *self, const char *want)
{
    char got[1024];
    struct cs_err e;
    if (ask(self, got, &e) != CS_OK)
        fail_msg("%s", e.text);
    assert_string_equal(got, want);
}

static void expect_error(void *self, cs_code code, const char *part)
{
    char got[1024];
    struct cs_err e = {0};
    assert_int_equal(ask(self, got, &e), code);
    if (strstr(e.text, part) == NULL)
        fail_msg("%s", e.text);
}

static struct test_server *start(const char *c, const char *k, const char *client_ca)
{
    const struct test_server_options o = {.handler = answer, .cert = c, .key = k, .client_ca = client_ca};
    struct test_server *s = test_server_start(&o);
    assert_non_null(s);
    return s;
}

static void end(void *self, struct test_server *s)
{
    plugin_workloadattestor_k8s.destroy(self);
    test_server_stop(s);
}

/* --- The plain port --- */

static void test_plain_port(void **state)
{
    (void)state;
    struct test_server *s = start(NULL, NULL, NULL);
    void *self = make(s, "kubelet_read_only_port", "");
    expect(self, ALL_VALUES);
    assert_string_equal(kubelet.target, "/pods");
    assert_string_equal(kubelet.authorization, "");
    expect(self, ALL_VALUES); /* from the same list */
    assert_int_equal(kubelet.requests, 1);
    process("0::/user.slice\n");
    expect(self, "");
    process("0::/../crio-" ID ".scope\n"); /* no pod is named */
    expect(self, ALL_VALUES);
    end(self, s);
}

static void test_two_pods(void **state)
{
    (void)state;
    kubelet.body = "{\"items\":[" POD("u-1", ID) "," POD("u-2", ID) "]}";
    process("0::/../crio-" ID ".scope\n");
    struct test_server *s = start(NULL, NULL, NULL);
    void *self = make(s, "kubelet_read_only_port", "");
    expect_error(self, CS_INTERNAL, "two pods found with same container Id");
    end(self, s);
}

static void test_polls_until_it_is_there(void **state)
{
    (void)state;
    kubelet.not_before = 3;
    struct test_server *s = start(NULL, NULL, NULL);
    void *self = make(s, "kubelet_read_only_port", "poll_retry_interval = \"5ms\"");
    expect(self, ALL_VALUES);
    assert_int_equal(kubelet.requests, 4);
    end(self, s);
}

static void test_gives_up(void **state)
{
    (void)state;
    kubelet.body = NOT_READY;
    struct test_server *s = start(NULL, NULL, NULL);
    void *self = make(s, "kubelet_read_only_port", "poll_retry_interval = \"1ms\" max_poll_attempts = 5");
    expect_error(self, CS_DEADLINE, "no selectors found after max poll attempts");
    assert_int_equal(kubelet.requests, 5);
    kubelet.body = "{\"items\":[]}";
    expect_error(self, CS_DEADLINE, "no selectors found after max poll attempts");
    end(self, s);
}

static void test_pod_is_enough(void **state)
{
    (void)state;
    kubelet.body = NOT_READY;
    struct test_server *s = start(NULL, NULL, NULL);
    void *self =
        make(s, "kubelet_read_only_port", "disable_container_selectors = true max_poll_attempts = 1");
    expect(self, POD_VALUES);
    process("0::/../crio-" ID ".scope\n"); /* but it must be known */
    expect_error(self, CS_DEADLINE, "no selectors found");
    end(self, s);
}

static void test_bad_answers(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body, *fault;
    } cases[] = {
        {401, "Unauthorized", "unexpected status code on pods response: 401 Unauthorized"},
        {403, "Forbidden (user=x)", "unexpected status code on pods response: 403 Forbidden (user=x)"},
        {404, "", "unexpected status code on pods response: 404"},
        {429, "slow", "unexpected status code on pods response: 429 slow"},
        {500, "oops", "unexpected status code on pods response: 500 oops"},
        {302, "", "unexpected status code on pods response: 302"},
        {200, "<html>", "unable to parse kubelet response: "},
        {200, "{\"items\":[", "unable to parse kubelet response: "},
        {200, "{\"items\":7}", "invalid kubelet response: expected an items array"},
        {200, "{\"items\":[{\"metadata\":{\"uid\":\"" UID "\",\"name\":7}}]}",
         "unable to decode pod info from kubelet response: metadata.name is not a string"},
    };
    struct test_server *s = start(NULL, NULL, NULL);
    void *self = make(s, "kubelet_read_only_port", "poll_retry_interval = \"1ms\" max_poll_attempts = 2");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kubelet.status = cases[i].status;
        kubelet.body = cases[i].body;
        (void)usleep(2000); /* older lists are not good any more */
        expect_error(self, CS_UNAVAILABLE, cases[i].fault);
    }
    kubelet.status = 200; /* and it recovers */
    kubelet.body = READY;
    (void)usleep(2000);
    expect(self, ALL_VALUES);
    test_server_stop(s);
    (void)usleep(2000);
    expect_error(self, CS_UNAVAILABLE, "unable to perform request: ");
    plugin_workloadattestor_k8s.destroy(self);
}

/* --- Many at once --- */

static void *ask_in_thread(void *arg)
{
    expect(arg, ALL_VALUES);
    return NULL;
}

static void test_one_request_for_all(void **state)
{
    (void)state;
    pthread_t t[16];
    struct test_server *s = start(NULL, NULL, NULL);
    void *self = make(s, "kubelet_read_only_port", "poll_retry_interval = \"1h\"");
    kubelet.hold = true;
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(pthread_create(&t[i], NULL, ask_in_thread, self), 0);
    while (kubelet.requests == 0)
        (void)usleep(1000);
    pthread_mutex_lock(&kubelet.lock);
    kubelet.hold = false;
    pthread_mutex_unlock(&kubelet.lock);
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    assert_int_equal(kubelet.requests, 1);
    end(self, s);
}

/* The end comes while the kubelet is asked, or in the long pause after its answer. */
static void *ask_until_the_end(void *arg)
{
    char got[1024];
    struct cs_err e = {0};
    assert_int_equal(ask(arg, got, &e), CS_UNAVAILABLE);
    if (strstr(e.text, "pod list fetcher is closed") == NULL && strstr(e.text, ": stopped") == NULL)
        fail_msg("%s", e.text);
    return NULL;
}

/* Whoever waits for a container does not hold up the agent's end. */
static void test_ends_at_once(void **state)
{
    (void)state;
    pthread_t t;
    kubelet.body = NOT_READY;
    struct test_server *s = start(NULL, NULL, NULL);
    void *self = make(s, "kubelet_read_only_port", "poll_retry_interval = \"1h\"");
    assert_int_equal(pthread_create(&t, NULL, ask_until_the_end, self), 0);
    while (kubelet.requests == 0)
        (void)usleep(1000);
    __atomic_store_n(&ending, true, __ATOMIC_SEQ_CST);
    assert_int_equal(pthread_join(t, NULL), 0);
    __atomic_store_n(&ending, false, __ATOMIC_SEQ_CST);
    end(self, s);
}

/* --- The secure port --- */

static void test_secure_port(void **state)
{
    (void)state;
    char ca[128], wrong[128], token[128], more[640];
    put("ca.crt", pki.ca_cert, ca);
    put("other.crt", other.ca_cert, wrong);
    put("token", "\n " TOKEN " \r\n", token);
    struct test_server *s = start(cert, key, NULL);
    (void)snprintf(more, sizeof more, "kubelet_ca_path = \"%s\" token_path = \"%s\"", ca, token);
    void *self = make(s, "kubelet_secure_port", more);
    expect(self, ALL_VALUES);
    assert_string_equal(kubelet.authorization, "Bearer " TOKEN);
    plugin_workloadattestor_k8s.destroy(self);

    (void)snprintf(more, sizeof more,
                   "kubelet_ca_path = \"%s\" token_path = \"%s\" node_name = \"localhost\""
                   " max_poll_attempts = 1",
                   ca, token);
    self = make(s, "kubelet_secure_port", more); /* the certificate is 127.0.0.1's */
    expect_error(self, CS_UNAVAILABLE, "unable to perform request: ");
    plugin_workloadattestor_k8s.destroy(self);

    (void)snprintf(more, sizeof more,
                   "kubelet_ca_path = \"%s\" token_path = \"%s\" node_name = \"127.0.0.1\"", ca, token);
    self = make(s, "kubelet_secure_port", more);
    expect(self, ALL_VALUES);
    plugin_workloadattestor_k8s.destroy(self);

    (void)snprintf(more, sizeof more, "kubelet_ca_path = \"%s\" token_path = \"%s\" max_poll_attempts = 1",
                   wrong, token);
    self = make(s, "kubelet_secure_port", more);
    kubelet.requests = 0;
    expect_error(self, CS_UNAVAILABLE, "unable to perform request: ");
    assert_int_equal(kubelet.requests, 0); /* the token was not shown */
    plugin_workloadattestor_k8s.destroy(self);

    (void)snprintf(more, sizeof more, "skip_kubelet_verification = true use_anonymous_authentication = true");
    self = make(s, "kubelet_secure_port", more);
    expect(self, ALL_VALUES);
    assert_string_equal(kubelet.authorization, "");
    end(self, s);
}

static void test_client_certificate(void **state)
{
    (void)state;
    char ca[128], crt[128], k[128], more[640];
    put("ca.crt", pki.ca_cert, ca);
    put("client.crt", client_cert, crt);
    put("client.key", client_key, k);
    struct test_server *s = start(cert, key, pki.ca_cert);
    (void)snprintf(more, sizeof more,
                   "kubelet_ca_path = \"%s\" certificate_path = \"%s\" private_key_path = \"%s\"", ca, crt,
                   k);
    void *self = make(s, "kubelet_secure_port", more);
    expect(self, ALL_VALUES);
    assert_non_null(strstr(kubelet.client, "agent"));
    assert_string_equal(kubelet.authorization, "");
    end(self, s);
}

/* Tokens are renewed while the agent runs. */
static void test_token_is_read_again(void **state)
{
    (void)state;
    char token[128], more[320];
    put("token", "first", token);
    struct test_server *s = start(cert, key, NULL);
    (void)snprintf(more, sizeof more,
                   "skip_kubelet_verification = true token_path = \"%s\" reload_interval = \"1ms\""
                   " poll_retry_interval = \"1ms\" max_poll_attempts = 1",
                   token);
    void *self = make(s, "kubelet_secure_port", more);
    expect(self, ALL_VALUES);
    assert_string_equal(kubelet.authorization, "Bearer first");
    put("token", "second", token);
    (void)usleep(3000);
    expect(self, ALL_VALUES);
    assert_string_equal(kubelet.authorization, "Bearer second");
    assert_int_equal(test_server_connections(s), 1); /* nothing but the token changed */
    assert_int_equal(unlink(token), 0);
    (void)usleep(3000);
    expect_error(self, CS_UNAVAILABLE, "unable to load token: open ");
    end(self, s);
}

static void test_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *config, *fault;
    } cases[] = {
        {"kubelet_ca_path = \"/none\"", "unable to load kubelet CA: open /none: no such file or directory"},
        {"skip_kubelet_verification = true token_path = \"/none\"",
         "unable to load token: open /none: no such file or directory"},
        {"skip_kubelet_verification = true certificate_path = \"/none\"",
         "the private key path is required with the certificate path"},
        {"skip_kubelet_verification = true private_key_path = \"/none\"",
         "the certificate path is required with the private key path"},
        {"skip_kubelet_verification = true certificate_path = \"/none\" private_key_path = \"/none\"",
         "unable to load certificate: open /none: no such file or directory"},
        {"kubelet_ca_path = \"/dev/null\" use_anonymous_authentication = true",
         "unable to parse kubelet CA: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        void *self;
        struct cs_err e;
        assert_int_equal(try_make(cases[i].config, &self, &e), CS_INVALID);
        assert_memory_equal(e.text, cases[i].fault, strlen(cases[i].fault));
    }
}

static void test_no_kubelet(void **state)
{
    (void)state;
    void *self;
    assert_int_equal(try_make("disable_kubelet_client = true", &self, NULL), CS_OK);
    expect_error(self, CS_PRECONDITION, "kubelet client is disabled");
    plugin_workloadattestor_k8s.destroy(self);
    assert_int_equal(plugin_workloadattestor_k8s.create(&env, &self, NULL), CS_OK);
    expect_error(self, CS_PRECONDITION, "not configured");
    plugin_workloadattestor_k8s.destroy(self);
}

/* A new configuration while somebody waits with the old one. */
static void test_configured_again(void **state)
{
    (void)state;
    char config[128];
    struct cs_err e;
    struct test_server *s = start(NULL, NULL, NULL), *s2 = start(NULL, NULL, NULL);
    void *self = make(s, "kubelet_read_only_port", "");
    expect(self, ALL_VALUES);
    assert_int_equal(plugin_workloadattestor_k8s.configure(self, cs_slice_str("bogus = 1"), &e), CS_INVALID);
    assert_string_equal(e.text, "unknown configurations detected: bogus");
    expect(self, ALL_VALUES);
    test_server_stop(s);
    (void)snprintf(config, sizeof config, "kubelet_read_only_port = %d poll_retry_interval = \"1ms\"",
                   port_of(s2));
    assert_int_equal(plugin_workloadattestor_k8s.configure(self, cs_slice_str(config), &e), CS_OK);
    (void)usleep(2000);
    expect(self, ALL_VALUES);
    assert_int_equal(test_server_connections(s2), 1);
    end(self, s2);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup(t, reset)
    const struct CMUnitTest tests[] = {
        TEST(test_plain_port),
        TEST(test_two_pods),
        TEST(test_polls_until_it_is_there),
        TEST(test_gives_up),
        TEST(test_pod_is_enough),
        TEST(test_bad_answers),
        TEST(test_one_request_for_all),
        TEST(test_ends_at_once),
        TEST(test_secure_port),
        TEST(test_client_certificate),
        TEST(test_token_is_read_again),
        TEST(test_bad_files),
        TEST(test_no_kubelet),
        TEST(test_configured_again),
    };
    return cmocka_run_group_tests_name("workload_k8s", tests, set_up, tear_down);
}
