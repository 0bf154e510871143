/* SPDX-License-Identifier: Apache-2.0
 *
 * The systemd attestor at a bus of the test's own, which is the bus and systemd in one, and may fall silent
 * at each point where it is waited for.
 */
#include "base/clock.h"
#include "plugins/modules/workload_systemd/systemd.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <cmocka.h>

#define SOON_US (UINT64_C(100) * 1000)
#define LATE_US (UINT64_C(20) * 1000 * 1000)

/* The call from which on nothing is answered. */
enum silent { NEVER, GREETING, HELLO, UNIT, ID, FRAGMENT };

static struct {
    char dir[64];
    struct sockaddr_un address;
    int listener, end[2]; /* a byte in `end` ends the thread */
    enum silent silent;
    unsigned asked; /* calls for something of systemd's */
    pthread_t thread;
} bus;

static enum silent kind_of(sd_bus_message *m)
{
    const char *interface = NULL, *name = NULL;
    if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus", "Hello") > 0)
        return HELLO;
    if (sd_bus_message_is_method_call(m, "org.freedesktop.systemd1.Manager", "GetUnitByPID") > 0)
        return UNIT;
    if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Get") > 0 &&
        sd_bus_message_read(m, "ss", &interface, &name) > 0)
        return strcmp(name, "Id") == 0 ? ID : FRAGMENT;
    return NEVER;
}

static int on_call(sd_bus_message *m, void *arg, sd_bus_error *fault)
{
    (void)arg;
    (void)fault;
    const enum silent kind = kind_of(m);
    bus.asked += kind >= UNIT;
    if (kind == NEVER || (bus.silent != NEVER && kind >= bus.silent))
        return 1;
    if (kind == HELLO)
        return sd_bus_reply_method_return(m, "s", ":1.7");
    if (kind == UNIT)
        return sd_bus_reply_method_return(m, "o", "/org/freedesktop/systemd1/unit/web_2eservice");
    return sd_bus_reply_method_return(m, "v", "s", kind == ID ? "web.service" : "/etc/web.service");
}

static bool ended(void)
{
    struct pollfd p = {.fd = bus.end[0], .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* Until the other side has closed, or the test is over. */
static void serve(int fd)
{
    sd_bus *b = NULL;
    const sd_id128_t id = {.bytes = {1}};
    if (sd_bus_new(&b) < 0 || sd_bus_set_fd(b, fd, fd) < 0 || sd_bus_set_server(b, 1, id) < 0 ||
        sd_bus_set_anonymous(b, 1) < 0 || sd_bus_start(b) < 0 ||
        sd_bus_add_filter(b, NULL, on_call, NULL) < 0)
        abort();
    for (int rc = 1; rc >= 0 && !ended();) {
        rc = sd_bus_process(b, NULL);
        if (rc == 0)
            rc = sd_bus_wait(b, 10 * 1000);
    }
    sd_bus_close_unref(b);
}

static void *run_bus(void *arg)
{
    (void)arg;
    for (;;) {
        struct pollfd p[] = {{.fd = bus.listener, .events = POLLIN}, {.fd = bus.end[0], .events = POLLIN}};
        if (poll(p, 2, -1) < 0 || p[1].revents != 0)
            return NULL;
        if (bus.silent == GREETING) { /* in the queue of the listener it stays */
            p[0].fd = -1;
            (void)poll(p, 2, -1);
            return NULL;
        }
        int fd = accept4(bus.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            serve(fd);
    }
}

static void start(enum silent silent)
{
    bus.silent = silent;
    bus.asked = 0;
    bus.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(bus.listener >= 0);
    assert_int_equal(bind(bus.listener, (struct sockaddr *)&bus.address, sizeof bus.address), 0);
    assert_int_equal(listen(bus.listener, 4), 0);
    assert_int_equal(pipe(bus.end), 0);
    assert_int_equal(pthread_create(&bus.thread, NULL, run_bus, NULL), 0);
}

static void stop(void)
{
    assert_int_equal(write(bus.end[1], "", 1), 1);
    assert_int_equal(pthread_join(bus.thread, NULL), 0);
    close(bus.end[0]);
    close(bus.end[1]);
    close(bus.listener);
    assert_int_equal(unlink(bus.address.sun_path), 0);
}

static int set_up(void **state)
{
    (void)state;
    char address[160];
    signal(SIGPIPE, SIG_IGN); /* as the programs do */
    (void)snprintf(bus.dir, sizeof bus.dir, "/tmp/cs-systemd-XXXXXX");
    assert_non_null(mkdtemp(bus.dir));
    bus.address.sun_family = AF_UNIX;
    (void)snprintf(bus.address.sun_path, sizeof bus.address.sun_path, "%s/bus", bus.dir);
    (void)snprintf(address, sizeof address, "unix:path=%s", bus.address.sun_path);
    return setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1);
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(bus.dir);
}

static cs_code ask(uint64_t limit_us, struct workloadattestor_values *v, struct cs_err *e)
{
    *e = (struct cs_err){0};
    return systemd_attest(123, limit_us, v, e);
}

static void test_values(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    struct cs_err e;
    start(NEVER);
    if (ask(LATE_US, &v, &e) != CS_OK)
        fail_msg("%s", e.text);
    stop();
    assert_int_equal(v.count, 2);
    assert_string_equal(v.at[0], "id:web.service");
    assert_string_equal(v.at[1], "fragment_path:/etc/web.service");
}

/* Wherever it hangs, the limit is kept, and what is waited for is named. */
static void test_silence(void **state)
{
    (void)state;
    static const struct {
        enum silent silent;
        unsigned asked;
        const char *fault;
    } cases[] = {
        {GREETING, 0, "failed to open dbus connection: "},
        {HELLO, 0, "failed to open dbus connection: "},
        {UNIT, 1, "failed to get unit by pid 123: "},
        {ID, 2, "error getting value for Id: "},
        {FRAGMENT, 3, "error getting value for FragmentPath: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
        struct workloadattestor_values v = {.arena = a};
        struct cs_err e;
        start(cases[i].silent);
        const int64_t began = cs_mono_ns(&cs_clock_system);
        assert_int_equal(ask(SOON_US, &v, &e), CS_INTERNAL);
        const int64_t took_us = (cs_mono_ns(&cs_clock_system) - began) / 1000;
        stop();
        if (strncmp(e.text, cases[i].fault, strlen(cases[i].fault)) != 0)
            fail_msg("%s", e.text);
        assert_int_equal(bus.asked, cases[i].asked);
        assert_true(took_us >= (int64_t)SOON_US); /* it was waited for */
        assert_true(took_us < (int64_t)SYSTEMD_LIMIT_US);
    }
}

static void test_no_bus(void **state)
{
    (void)state;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    struct workloadattestor_values v = {.arena = a};
    struct cs_err e;
    assert_int_equal(ask(LATE_US, &v, &e), CS_INTERNAL);
    assert_string_equal(e.text, "failed to open dbus connection: no such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_no_bus),
    };
    return cmocka_run_group_tests_name("workload_systemd", tests, set_up, tear_down);
}
