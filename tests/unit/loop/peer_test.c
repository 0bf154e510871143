/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/peer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A child that connects to us and waits for the end of its pipe. */
struct child {
    pid_t pid;
    int conn;    /* our end */
    int hold[2]; /* closing [1] ends the child */
};

static void start(struct child *c)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX}; /* autobind: an abstract name of the kernel's choice */
    socklen_t len = sizeof addr;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof addr.sun_family), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(pipe(c->hold), 0);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        char byte;
        close(c->hold[1]);
        int s = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(s, (struct sockaddr *)&addr, len) != 0)
            _exit(1);
        while (read(c->hold[0], &byte, 1) > 0)
            ;
        _exit(0);
    }
    close(c->hold[0]);
    c->conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(c->conn >= 0);
    close(listener);
}

static void end_child(struct child *c)
{
    close(c->hold[1]);
    assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
}

static void knows_a_living_peer(void **state)
{
    (void)state;
    struct child c;
    struct loop_peer p;
    struct cs_err e;
    start(&c);
    assert_int_equal(loop_peer_get(c.conn, &p, &e), CS_OK);
    assert_int_equal(p.pid, c.pid);
    assert_int_equal(p.uid, geteuid());
    assert_int_equal(p.gid, getegid());
    assert_true(p.start_time > 0);
    assert_int_equal(loop_peer_check(&p, &e), CS_OK);
    end_child(&c);
    assert_int_equal(loop_peer_check(&p, &e), CS_DENIED);
    char want[64];
    snprintf(want, sizeof want, "caller (pid %d) is gone", (int)c.pid);
    assert_string_equal(e.text, want);
    loop_peer_close(&p);
    assert_int_equal(p.pidfd, -1);
    close(c.conn);
}

static void refuses_a_dead_peer(void **state)
{
    (void)state;
    struct child c;
    struct loop_peer p;
    struct cs_err e;
    start(&c);
    end_child(&c);
    assert_int_equal(loop_peer_get(c.conn, &p, &e), CS_DENIED);
    assert_int_equal(p.pidfd, -1);
    close(c.conn);
}

/* Ended, but not yet waited for: /proc still shows it. */
static void refuses_a_zombie(void **state)
{
    (void)state;
    struct child c;
    struct loop_peer p;
    struct cs_err e;
    start(&c);
    assert_int_equal(loop_peer_get(c.conn, &p, &e), CS_OK);
    assert_true(p.pidfd >= 0);
    kill(c.pid, SIGKILL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)c.pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(loop_peer_check(&p, &e), CS_DENIED);
    loop_peer_close(&p); /* the start time alone says the same */
    assert_int_equal(loop_peer_check(&p, &e), CS_DENIED);
    end_child(&c);
    close(c.conn);
}

/* Without pidfds the start time alone tells a recycled pid. */
static void start_time_tells_a_recycled_pid(void **state)
{
    (void)state;
    struct child c;
    struct loop_peer p;
    struct cs_err e;
    start(&c);
    assert_int_equal(loop_peer_get(c.conn, &p, &e), CS_OK);
    loop_peer_close(&p);
    assert_int_equal(loop_peer_check(&p, &e), CS_OK);
    p.start_time--;
    assert_int_equal(loop_peer_check(&p, &e), CS_DENIED);
    p.start_time = 0;
    assert_int_equal(loop_peer_check(&p, &e), CS_DENIED); /* nothing to go by */
    end_child(&c);
    close(c.conn);
}

static void not_a_unix_socket(void **state)
{
    (void)state;
    struct loop_peer p;
    struct cs_err e;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_not_equal(loop_peer_get(s, &p, &e), CS_OK);
    close(s);
    assert_int_equal(loop_peer_get(-1, &p, &e), CS_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_a_living_peer), cmocka_unit_test(refuses_a_dead_peer),
        cmocka_unit_test(refuses_a_zombie),    cmocka_unit_test(start_time_tells_a_recycled_pid),
        cmocka_unit_test(not_a_unix_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
