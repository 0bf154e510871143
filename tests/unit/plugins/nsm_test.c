/* SPDX-License-Identifier: Apache-2.0
 *
 * The Nitro Security Module: requests byte for byte as its driver takes them, answers as the module gives
 * them and as it never would, and the agent's attestor on top, with a module at a socket that says what a
 * test wants.
 */
#include "base/mem.h"
#include "base/text.h"
#include "plugin/nodeattestor_agent.h"
#include "plugins/shared/nitro/nsm.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct plugin_builtin plugin_agent_nodeattestor_nitro_enclave;

/* --- A module at a socket --- */

struct fake {
    char dir[64], path[96];
    int listener;
    pthread_t thread;
    const char *const *answers; /* hex, one per request; "": hang up */
    size_t answer_count;
    struct cs_buf seen[8]; /* requests */
    size_t seen_count;
};

static bool transfer(int fd, uint8_t *p, size_t n, bool out)
{
    while (n > 0) {
        ssize_t k = out ? send(fd, p, n, MSG_NOSIGNAL) : recv(fd, p, n, 0);
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* The answer with its length in front; one that begins with "=" is sent as it is. */
static bool send_answer(int fd, const char *hex)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    bool raw = hex[0] == '=';
    assert_int_equal(cs_hex_decode(&b, cs_slice_str(hex + raw), NULL), CS_OK);
    uint8_t head[4] = {0, 0, (uint8_t)(b.len >> 8), (uint8_t)b.len};
    if (!raw && !transfer(fd, head, 4, true))
        return false;
    return transfer(fd, b.data, b.len, true) && !raw;
}

static void serve_one(struct fake *f, int fd, size_t *next)
{
    uint8_t head[4], body[NITRO_NSM_REQUEST_MAX];
    while (transfer(fd, head, 4, false)) {
        size_t len = (size_t)head[2] << 8 | head[3];
        assert_true(head[0] == 0 && head[1] == 0 && len <= sizeof body && f->seen_count < 8);
        if (!transfer(fd, body, len, false))
            return;
        cs_buf_add(&f->seen[f->seen_count++], body, len);
        if (*next == f->answer_count || f->answers[*next][0] == '\0' ||
            !send_answer(fd, f->answers[(*next)++]))
            return;
    }
}

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    size_t next = 0;
    for (int fd; (fd = accept(f->listener, NULL, NULL)) >= 0;) {
        serve_one(f, fd, &next);
        close(fd);
    }
    return NULL;
}

static void fake_up(struct fake *f, const char *const *answers, size_t count)
{
    *f = (struct fake){.answers = answers, .answer_count = count, .dir = "/tmp/cs-nsm-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof f->path, "%s/nsm", f->dir);
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    memcpy(sa.sun_path, f->path, strlen(f->path));
    f->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(f->listener, 8), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
}

/* All requests that came are in `seen` after this. */
static void fake_stop(struct fake *f)
{
    (void)shutdown(f->listener, SHUT_RDWR);
    pthread_join(f->thread, NULL);
    close(f->listener);
    unlink(f->path);
    rmdir(f->dir);
}

static void fake_clear(struct fake *f)
{
    for (size_t i = 0; i < f->seen_count; i++)
        cs_buf_free(&f->seen[i]);
}

static void assert_seen(const struct fake *f, size_t i, const char *hex)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
    assert_true(i < f->seen_count);
    cs_hex_encode(&text, cs_buf_slice(&f->seen[i]));
    assert_string_equal(cs_buf_cstr(&text), hex);
}

/* {"Attestation": {"document": 0xd0c1}} and so on. */
#define DOCUMENT_1 "a16b4174746573746174696f6ea168646f63756d656e7442d0c1"
#define DOCUMENT_2 "a16b4174746573746174696f6ea168646f63756d656e7442d0c2"
#define RANDOM "a16947657452616e646f6da16672616e646f6d4401020304"
#define DESCRIPTION                                                                                          \
    "a16b44657363726962654e534da76d76657273696f6e5f6d616a6f72016d76657273696f6e5f6d696e6f72006d76657273696f" \
    "6e5f70617463680269"                                                                                     \
    "6d6f64756c655f6964"                                                                                     \
    "68692d312d656e6332686d61785f7063727318206b6c6f636b65645f7063727383000102666469676573746653484133"       \
    "3834"
#define REFUSAL "a1654572726f726f496e76616c6964417267756d656e74" /* {"Error": "InvalidArgument"} */

/* --- Requests --- */

static void asks_as_the_driver_wants(void **state)
{
    (void)state;
    static const char *const answers[] = {DOCUMENT_1, RANDOM, DESCRIPTION, DOCUMENT_2};
    struct fake f;
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0}, random = {0};
    struct nitro_nsm_description d;
    struct nitro_nsm *n = NULL;
    fake_up(&f, answers, 4);
    assert_int_equal(nitro_nsm_open(f.path, &n, &e), CS_OK);
    assert_int_equal(nitro_nsm_attest(n, &(struct nitro_nsm_params){0}, &doc, &e), CS_OK);
    assert_int_equal(nitro_nsm_random(n, &random, &e), CS_OK);
    assert_int_equal(nitro_nsm_describe(n, &d, &e), CS_OK);
    const struct nitro_nsm_params p = {.public_key = cs_slice_of("\x01", 1),
                                       .nonce = cs_slice_of("\x02\x03", 2)};
    assert_int_equal(nitro_nsm_attest(n, &p, &doc, &e), CS_OK);
    nitro_nsm_free(n);
    fake_stop(&f);
    /* the first as it was seen from odyn */
    assert_seen(&f, 0,
                "a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e6365f66a7075626c69635f6b6579f6");
    assert_seen(&f, 1, "6947657452616e646f6d");
    assert_seen(&f, 2, "6b44657363726962654e534d");
    assert_seen(
        &f, 3,
        "a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e63654202036a7075626c69635f6b65794101");
    assert_true(cs_slice_eq(cs_buf_slice(&doc), cs_slice_of("\xd0\xc1\xd0\xc2", 4)));
    assert_true(cs_slice_eq(cs_buf_slice(&random), cs_slice_of("\1\2\3\4", 4)));
    assert_string_equal(d.module_id, "i-1-enc2");
    assert_true(d.major == 1 && d.minor == 0 && d.patch == 2 && d.max_pcrs == 32);
    fake_clear(&f);
}

static void refuses_what_is_too_long(void **state)
{
    (void)state;
    static uint8_t bytes[NITRO_NSM_PARAM_MAX + 1];
    static const char *const answers[] = {DOCUMENT_1};
    struct fake f;
    struct cs_err e;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    struct nitro_nsm *n = NULL;
    fake_up(&f, answers, 1);
    assert_int_equal(nitro_nsm_open(f.path, &n, &e), CS_OK);
    struct nitro_nsm_params p = {.nonce = cs_slice_of(bytes, sizeof bytes)};
    assert_int_equal(nitro_nsm_attest(n, &p, &doc, &e), CS_INVALID);
    assert_string_equal(e.text, "NSM: nonce has 1025 bytes, more than 1024");
    p.nonce.len--;
    assert_int_equal(nitro_nsm_attest(n, &p, &doc, &e), CS_OK);
    nitro_nsm_free(n);
    fake_stop(&f);
    assert_int_equal(f.seen_count, 1);
    fake_clear(&f);
}

/* --- Answers --- */

static cs_code attest_with(const char *answer, struct cs_err *e)
{
    struct fake f;
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    struct nitro_nsm *n = NULL;
    fake_up(&f, &answer, 1);
    assert_int_equal(nitro_nsm_open(f.path, &n, e), CS_OK);
    cs_code rc = nitro_nsm_attest(n, &(struct nitro_nsm_params){0}, &doc, e);
    assert_int_equal(doc.len > 0, rc == CS_OK);
    nitro_nsm_free(n);
    fake_stop(&f);
    fake_clear(&f);
    return rc;
}

static void reports_what_the_module_says(void **state)
{
    (void)state;
    struct cs_err e;
    assert_int_equal(attest_with(REFUSAL, &e), CS_INTERNAL);
    assert_string_equal(e.text, "NSM: InvalidArgument");
    assert_int_equal(attest_with("", &e), CS_UNAVAILABLE);
    assert_non_null(strstr(e.text, "closed the connection"));
    assert_int_equal(attest_with("=00003001", &e), CS_INVALID); /* the head of an answer one byte too long */
    assert_non_null(strstr(e.text, "claims an answer of 12289 bytes"));
    assert_int_equal(attest_with("=0000001aa16b", &e), CS_UNAVAILABLE); /* cut short */
}

static void refuses_malformed_answers(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "00", /* a number */
        "a0",
        "f6",
        RANDOM,                                                     /* to another question */
        DOCUMENT_1 "00",                                            /* trailing */
        "a16b4174746573746174696f6ea168646f63756d656e74f6",         /* null */
        "a16b4174746573746174696f6ea168646f63756d656e7440",         /* empty */
        "a16b4174746573746174696f6ea168646f63756d656e7462d0c1",     /* text */
        "a16b4174746573746174696f6ea168646f63756d656e745f42d0c1ff", /* in chunks */
        "a16b4174746573746174696f6ebf68646f63756d656e7442d0c1ff",   /* indefinite map */
        "a16b4174746573746174696f6ea268646f63756d656e7442d0c168646f63756d656e7442d0c2", /* twice */
        "a26b4174746573746174696f6ea168646f63756d656e7442d0c1654572726f726141",         /* two answers */
        "a1654572726f7263410a42", /* an error that would write a line of ours */
        "a1654572726f7260",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cs_err e;
        if (attest_with(bad[i], &e) != CS_INVALID)
            fail_msg("%s: %s", bad[i], e.text);
        assert_null(strchr(e.text, '\n'));
    }
}

static void reads_descriptions_strictly(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "a16b44657363726962654e534da0",                       /* no module_id */
        "a16b44657363726962654e534da1696d6f64756c655f696460", /* empty */
        "a16b44657363726962654e534da1696d6f64756c655f69646169"
        "00",                                                                               /* trailing */
        "a16b44657363726962654e534da1696d6f64756c655f6964610a",                             /* a line feed */
        "a16b44657363726962654e534da2696d6f64756c655f69646169696d6f64756c655f69646169",     /* twice */
        "a16b44657363726962654e534da2696d6f64756c655f69646169686d61785f706372731a00010000", /* 65536 */
        "a16b44657363726962654e534da1696d6f64756c655f6964",                                 /* cut */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
        struct nitro_nsm_description d;
        struct cs_err e;
        assert_int_equal(cs_hex_decode(&b, cs_slice_str(bad[i]), &e), CS_OK);
        if (nitro_nsm_parse_description(cs_buf_slice(&b), &d, &e) != CS_INVALID)
            fail_msg("%s", bad[i]);
        assert_string_equal(d.module_id, "");
    }
}

/* --- Opening --- */

static void opens_devices_and_sockets_only(void **state)
{
    (void)state;
    struct cs_err e;
    struct nitro_nsm *n = NULL;
    assert_int_equal(nitro_nsm_open("/nonexistent/nsm", &n, &e), CS_NOT_FOUND);
    assert_string_equal(e.text, "NSM: open /nonexistent/nsm: no such file or directory");
    assert_int_equal(nitro_nsm_open("/etc/passwd", &n, &e), CS_INVALID);
    assert_null(n);
    /* a device that is another one: its driver knows no such ioctl */
    CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
    assert_int_equal(nitro_nsm_open("/dev/null", &n, &e), CS_OK);
    assert_int_equal(nitro_nsm_attest(n, &(struct nitro_nsm_params){0}, &doc, &e), CS_UNAVAILABLE);
    assert_string_equal(e.text, "NSM: ioctl /dev/null: inappropriate ioctl for device");
    nitro_nsm_free(n);
}

/* --- The attestor --- */

/* A server that asks `challenges` times before it is content. */
struct server {
    int challenges;
    const char *nonce;
    size_t nonce_len;
    struct cs_buf payloads[4];
    size_t count;
};

static cs_code exchange(void *arg, struct cs_slice payload, struct cs_buf *challenge, bool *done,
                        struct cs_err *e)
{
    struct server *s = arg;
    (void)e;
    assert_true(s->count < 4);
    cs_buf_add_slice(&s->payloads[s->count++], payload);
    *done = s->challenges-- == 0;
    cs_buf_reset(challenge);
    if (!*done)
        cs_buf_add(challenge, s->nonce, s->nonce_len);
    return CS_OK;
}

static cs_code attest(struct fake *f, struct server *s, struct cs_err *e)
{
    static const char *const answers[] = {DESCRIPTION, RANDOM, DOCUMENT_1, DOCUMENT_2};
    const struct plugin_builtin *p = &plugin_agent_nodeattestor_nitro_enclave;
    const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};
    const struct nodeattestor_agent_stream stream = {
        .exchange = exchange, .arg = s, .spki = cs_slice_of("KEY", 3)};
    char config[160];
    void *self = NULL;
    fake_up(f, answers, 4);
    (void)snprintf(config, sizeof config, "nsm_path = \"%s\"", f->path);
    assert_int_equal(p->create(&env, &self, e), CS_OK);
    assert_int_equal(p->configure(self, cs_slice_str(config), e), CS_OK);
    cs_code rc = ((const struct nodeattestor_agent_ops *)p->ops)->attest(self, &stream, e);
    p->destroy(self);
    fake_stop(f);
    return rc;
}

static void server_clear(struct server *s)
{
    for (size_t i = 0; i < s->count; i++)
        cs_buf_free(&s->payloads[i]);
}

#define ASKED(nonce)                                                                                         \
    "a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e6365" nonce "6a7075626c69635f6b6579434b4559"

static void attests_with_its_key(void **state)
{
    (void)state;
    struct fake f;
    struct server s = {0};
    struct cs_err e;
    assert_int_equal(attest(&f, &s, &e), CS_OK);
    assert_int_equal(s.count, 1);
    assert_true(cs_slice_eq(cs_buf_slice(&s.payloads[0]), cs_slice_of("\xd0\xc1", 2)));
    assert_seen(&f, 2, ASKED("f6"));
    fake_clear(&f);
    server_clear(&s);
}

static void answers_a_challenge_with_a_new_document(void **state)
{
    (void)state;
    struct fake f;
    struct server s = {.challenges = 1, .nonce = "\xaa\xbb", .nonce_len = 2};
    struct cs_err e;
    assert_int_equal(attest(&f, &s, &e), CS_OK);
    assert_int_equal(s.count, 2);
    assert_true(cs_slice_eq(cs_buf_slice(&s.payloads[1]), cs_slice_of("\xd0\xc2", 2)));
    assert_seen(&f, 2, ASKED("f6"));
    assert_seen(&f, 3, ASKED("42aabb"));
    fake_clear(&f);
    server_clear(&s);
}

static void ends_with_a_server_that_never_does(void **state)
{
    (void)state;
    static char huge[NITRO_NSM_PARAM_MAX + 1];
    struct fake f;
    struct server s = {.challenges = 2, .nonce = "\xaa\xbb", .nonce_len = 2};
    struct cs_err e;
    assert_int_equal(attest(&f, &s, &e), CS_INTERNAL);
    assert_string_equal(e.text, "nodeattestor(nitro_enclave): server issued unexpected challenge");
    fake_clear(&f);
    server_clear(&s);
    s = (struct server){.challenges = 1, .nonce = huge, .nonce_len = sizeof huge};
    assert_int_equal(attest(&f, &s, &e), CS_INVALID);
    assert_string_equal(e.text, "nodeattestor(nitro_enclave): the server's challenge has 1025 bytes");
    fake_clear(&f);
    server_clear(&s);
}

static void says_that_there_is_no_module(void **state)
{
    (void)state;
    const struct plugin_builtin *p = &plugin_agent_nodeattestor_nitro_enclave;
    const struct plugin_env env = {.clock = &cs_clock_system, .trust_domain = "example.org"};
    struct server s = {0};
    const struct nodeattestor_agent_stream stream = {.exchange = exchange, .arg = &s};
    struct cs_err e;
    void *self = NULL;
    assert_int_equal(p->create(&env, &self, &e), CS_OK);
    assert_int_equal(p->configure(self, cs_slice_str("nsm_path = \"/nonexistent/nsm\""), &e), CS_OK);
    assert_int_equal(((const struct nodeattestor_agent_ops *)p->ops)->attest(self, &stream, &e),
                     CS_NOT_FOUND);
    assert_string_equal(e.text,
                        "nodeattestor(nitro_enclave): NSM: open /nonexistent/nsm: no such file or directory");
    assert_int_equal(s.count, 0);
    assert_int_equal(p->configure(self, cs_slice_str("nsm_pth = \"/dev/nsm\""), &e), CS_INVALID);
    assert_string_equal(e.text, "unknown option \"nsm_pth\"");
    assert_int_equal(p->configure(self, cs_slice_str("nsm_path = \"nsm\""), &e), CS_INVALID);
    p->destroy(self);
}

/* Each allocation fails in turn: an error, never a crash, never half a document. */
static void survives_without_memory(void **state)
{
    (void)state;
    static const char *const answers[] = {DOCUMENT_1};
    struct fake f;
    struct cs_err e;
    for (size_t i = 1;; i++) {
        struct nitro_nsm *n = NULL;
        CS_CLEANUP(cs_buf_free) struct cs_buf doc = {0};
        fake_up(&f, answers, 1);
        (void)cs_mem_fail_at(i, true);
        cs_code rc = nitro_nsm_open(f.path, &n, &e);
        if (rc == CS_OK)
            rc = nitro_nsm_attest(n, &(struct nitro_nsm_params){0}, &doc, &e);
        (void)cs_mem_fail_at(0, false);
        assert_int_equal(doc.len, rc == CS_OK ? 2 : 0);
        nitro_nsm_free(n);
        fake_stop(&f);
        fake_clear(&f);
        if (rc == CS_OK)
            break;
        assert_int_equal(rc, CS_INTERNAL);
        assert_true(i < 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_as_the_driver_wants),
        cmocka_unit_test(refuses_what_is_too_long),
        cmocka_unit_test(reports_what_the_module_says),
        cmocka_unit_test(refuses_malformed_answers),
        cmocka_unit_test(reads_descriptions_strictly),
        cmocka_unit_test(opens_devices_and_sockets_only),
        cmocka_unit_test(attests_with_its_key),
        cmocka_unit_test(answers_a_challenge_with_a_new_document),
        cmocka_unit_test(ends_with_a_server_that_never_does),
        cmocka_unit_test(says_that_there_is_no_module),
        cmocka_unit_test(survives_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
