/* SPDX-License-Identifier: Apache-2.0
 *
 * Starting programs: what is run is what was asked for, alone, and every refusal has Go's words. And the
 * environment they get.
 */
#include "plugin/spawn.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "crypto/hash.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/spawn-XXXXXX");
    assert_non_null(mkdtemp(folder));
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

static const char *file_with(const char *text, mode_t mode)
{
    static char path[96];
    snprintf(path, sizeof path, "%s/program", folder);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0700);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

static void sum(const char *path, uint8_t out[32])
{
    CS_CLEANUP(cs_buf_free) struct cs_buf file = {0};
    uint8_t digest[CRYPTO_HASH_MAX];
    assert_int_equal(cs_file_read(path, (size_t)1 << 28, &file, NULL), CS_OK);
    assert_int_equal(crypto_digest(CRYPTO_SHA256, cs_buf_slice(&file), digest, NULL), CS_OK);
    memcpy(out, digest, 32);
}

static cs_code run(const struct plugin_program *p, struct plugin_process *out, struct cs_err *e)
{
    int fd = -1;
    *out = (struct plugin_process){.out = -1, .err = -1};
    CS_TRY(plugin_program_check(p, &fd, e));
    return plugin_spawn(p, fd, out, e);
}

/* Everything from a pipe, up to its end. */
static const char *read_all(int fd)
{
    static char text[4096];
    size_t len = 0;
    (void)fcntl(fd, F_SETFL, 0);
    for (ssize_t n; (n = read(fd, text + len, sizeof text - 1 - len)) > 0;)
        len += (size_t)n;
    text[len] = '\0';
    return text;
}

static const char *run_and_read(const struct plugin_program *p, int *status)
{
    static char text[4096];
    struct plugin_process process;
    struct cs_err e = {0};
    if (run(p, &process, &e) != CS_OK)
        fail_msg("%s", e.text);
    snprintf(text, sizeof text, "%s", read_all(process.out));
    siginfo_t info;
    (void)waitid(P_PID, (id_t)process.pid, &info, WEXITED | WNOWAIT);
    *status = plugin_process_end(&process);
    assert_true(process.pid == 0 && process.out == -1 && process.err == -1);
    return text;
}

static void runs_a_binary(void **state)
{
    (void)state;
    static const char *const args[] = {"-c", "echo \"$0 $1 $(pwd)\"; exit 4", "zero", "one  two"};
    uint8_t digest[32];
    sum("/bin/sh", digest);
    for (int i = 0; i < 2; i++) {
        const struct plugin_program p = {.path = "/bin/sh",
                                         .args = args,
                                         .arg_count = 4,
                                         .type = "KeyManager",
                                         .checksum = i == 0 ? NULL : digest};
        int status;
        char cwd[1024], wanted[1100];
        assert_non_null(getcwd(cwd, sizeof cwd));
        snprintf(wanted, sizeof wanted, "zero one  two %s\n", cwd);
        assert_string_equal(run_and_read(&p, &status), wanted);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 4);
    }
}

/* A script looks for what lies beside it, also when it is held to a checksum. */
static void runs_a_script_in_its_place(void **state)
{
    (void)state;
    const char *path = file_with("#!/bin/sh\necho \"$0\"\n", 0700);
    uint8_t digest[32];
    char wanted[128];
    sum(path, digest);
    snprintf(wanted, sizeof wanted, "%s\n", path);
    for (int i = 0; i < 2; i++) {
        const struct plugin_program p = {
            .path = path, .type = "KeyManager", .checksum = i == 0 ? NULL : digest};
        int status;
        assert_string_equal(run_and_read(&p, &status), wanted);
        assert_int_equal(status, 0);
    }
    (void)unlink(path);
}

/* The two signals that libc keeps for itself, as a parent of ours may have left them. */
static void set_libc_signals(void (*handler)(int))
{
    const struct {
        void (*handler)(int);
        unsigned long rest[15];
    } action = {.handler = handler};
    for (int s = 32; s <= 33; s++)
        assert_int_equal(syscall(SYS_rt_sigaction, s, &action, NULL, _NSIG / 8), 0);
}

/* Signals, descriptors, standard input: nothing of ours, and a process group of its own. */
static void is_alone(void **state)
{
    (void)state;
    static const char *const args[] = {
        "-c", "exec 2>&1; ls /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; "
              "cut -d' ' -f5 /proc/$$/stat; echo $$; cat; env"};
    const struct plugin_program p = {.path = "/bin/sh", .args = args, .arg_count = 2, .type = "KeyManager"};
    int status, fd = open("/dev/zero", O_RDONLY), fds[2]; /* left open on purpose */
    sigset_t blocked, old;
    sigfillset(&blocked);
    assert_int_equal(pipe(fds), 0);
    pthread_sigmask(SIG_SETMASK, &blocked, &old);
    void (*was)(int) = signal(SIGPIPE, SIG_IGN);
    set_libc_signals(SIG_IGN);
    setenv("SECRET_OF_THE_HOST", "s3cret", 1);
    const char *text = run_and_read(&p, &status);
    unsetenv("SECRET_OF_THE_HOST");
    (void)signal(SIGPIPE, was);
    set_libc_signals(SIG_DFL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(fd);
    close(fds[0]);
    close(fds[1]);
    long group, pid;
    unsigned long long block, ignore;
    int at = 0;
    assert_int_equal(
        sscanf(text, "0 1 2 3 SigBlk: %llx SigIgn: %llx %ld %ld%n", &block, &ignore, &group, &pid, &at), 4);
    assert_int_equal(block, 0);
    assert_int_equal(ignore, 0);
    assert_int_equal(group, pid);
    assert_non_null(strstr(text + at, "\nKeyManager=KeyManager\n"));
    assert_null(strstr(text + at, "s3cret"));
}

static void says_why_not(void **state)
{
    (void)state;
    static const struct {
        const char *path, *file, *text;
        mode_t mode;
        bool checked;
    } cases[] = {
        {"/nonexistent/plugin", NULL, "fork/exec /nonexistent/plugin: no such file or directory", 0, false},
        {"/nonexistent/plugin", NULL,
         "error verifying checksum: open /nonexistent/plugin: no such file or directory", 0, true},
        {"/tmp", NULL, "fork/exec /tmp: permission denied", 0, false},
        {"/tmp", NULL, "error verifying checksum: read /tmp: is a directory", 0, true},
        {NULL, "#!/nonexistent/interpreter\n", "fork/exec %s: no such file or directory", 0700, false},
        {NULL, "just text", "fork/exec %s: exec format error", 0700, false},
        {NULL, "x", "fork/exec %s: permission denied", 0644, false},
        {NULL, "x", "checksums did not match", 0700, true},
    };
    static const uint8_t zero[32];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = cases[i].path != NULL ? cases[i].path : file_with(cases[i].file, cases[i].mode);
        const struct plugin_program p = {
            .path = path, .type = "KeyManager", .checksum = cases[i].checked ? zero : NULL};
        struct plugin_process process;
        struct cs_err e = {0};
        char wanted[256];
        assert_int_not_equal(run(&p, &process, &e), CS_OK);
        CS_CLEANUP(cs_buf_free) struct cs_buf text = {0};
        const char *hole = strstr(cases[i].text, "%s");
        if (hole != NULL)
            snprintf(wanted, sizeof wanted, "%.*s%s%s", (int)(hole - cases[i].text), cases[i].text, path,
                     hole + 2);
        else
            snprintf(wanted, sizeof wanted, "%s", cases[i].text);
        assert_string_equal(e.text, wanted);
        assert_true(process.pid == 0);
        assert_int_equal(plugin_process_end(&process), 0);
    }
    char path[96];
    snprintf(path, sizeof path, "%s/program", folder);
    (void)unlink(path);
}

static void ends_all_it_started(void **state)
{
    (void)state;
    static const char *const args[] = {"-c", "sleep 1000 & echo $!; wait"};
    const struct plugin_program p = {.path = "/bin/sh", .args = args, .arg_count = 2, .type = "KeyManager"};
    struct plugin_process process;
    char text[32];
    assert_int_equal(run(&p, &process, NULL), CS_OK);
    (void)fcntl(process.out, F_SETFL, 0);
    ssize_t n = read(process.out, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = '\0';
    pid_t child = (pid_t)strtol(text, NULL, 10);
    int out = dup(process.out);
    assert_true(WIFSIGNALED(plugin_process_end(&process)));
    /* its end of the pipe closes when the last of them is gone */
    assert_string_equal(read_all(out), "");
    close(out);
    assert_true(child > 1);
}

static void words_ends_as_go(void **state)
{
    (void)state;
    char text[64];
    plugin_status_text(3 << 8, text);
    assert_string_equal(text, "exit status 3");
    plugin_status_text(SIGKILL, text);
    assert_string_equal(text, "signal: killed");
    plugin_status_text(SIGSEGV | 0x80, text);
    assert_string_equal(text, "signal: segmentation fault (core dumped)");
}

static void reads_checksums(void **state)
{
    (void)state;
    uint8_t out[32] = {0};
    struct cs_err e;
    assert_int_equal(
        plugin_checksum_parse("00FF00000000000000000000000000000000000000000000000000000000000a", out, &e),
        CS_OK);
    assert_true(out[1] == 0xff && out[31] == 10);
    assert_int_equal(plugin_checksum_parse("zz", out, &e), CS_INVALID);
    assert_string_equal(e.text, "checksum is not a valid hex string");
    assert_int_equal(plugin_checksum_parse("001", out, &e), CS_INVALID);
    assert_string_equal(e.text, "checksum is not a valid hex string");
    assert_int_equal(plugin_checksum_parse("0000", out, &e), CS_INVALID);
    assert_string_equal(e.text, "expected checksum of length 64; got 4");
}

static void survives_without_memory(void **state)
{
    (void)state;
    static const char *const args[] = {"-c", "exit 0"};
    uint8_t digest[32];
    sum("/bin/sh", digest);
    const struct plugin_program p = {
        .path = "/bin/sh", .args = args, .arg_count = 2, .type = "KeyManager", .checksum = digest};
    cs_code rc = CS_INTERNAL;
    for (size_t n = 1; rc != CS_OK; n++) {
        struct plugin_process process = {.out = -1, .err = -1};
        int fd = -1;
        assert_true(n < 100);
        cs_mem_fail_at(n, false);
        rc = plugin_program_check(&p, &fd, NULL);
        if (rc == CS_OK)
            rc = plugin_spawn(&p, fd, &process, NULL);
        cs_mem_fail_at(0, false);
        (void)plugin_process_end(&process);
    }
}

/* --- Environment --- */

static bool has(char *const *list, const char *variable)
{
    for (; *list != NULL; list++)
        if (strcmp(*list, variable) == 0)
            return true;
    return false;
}

static void hands_on_what_is_needed(void **state)
{
    (void)state;
    static char *const ours[] = {(char *)"PATH=/bin",
                                 (char *)"AWS_REGION=eu",
                                 (char *)"AWSX=no",
                                 (char *)"LC_ALL=C",
                                 (char *)"DB_PASSWORD=s3cret",
                                 (char *)"PATHX=no",
                                 (char *)"nonsense",
                                 (char *)"KeyManager=ours",
                                 (char *)"MINE=1",
                                 (char *)"TEAM_A=1",
                                 (char *)"TEAM=no",
                                 (char *)"=odd",
                                 (char *)"LD_PRELOAD=no",
                                 (char *)"PLUGIN_MIN_PORT=1",
                                 (char *)"EMPTY=",
                                 (char *)"CSPIRE_PLUGIN_ENV=MINE, TEAM_*  EMPTY,,*",
                                 NULL};
    static char *const nothing[] = {NULL};
    char **list = plugin_environment("KeyManager", "/folder", ours);
    static const char *const wanted[] = {"PATH=/bin",
                                         "AWS_REGION=eu",
                                         "LC_ALL=C",
                                         "MINE=1",
                                         "TEAM_A=1",
                                         "EMPTY=",
                                         "KeyManager=KeyManager",
                                         "PLUGIN_MIN_PORT=10000",
                                         "PLUGIN_MAX_PORT=25000",
                                         "PLUGIN_PROTOCOL_VERSIONS=1",
                                         "PLUGIN_UNIX_SOCKET_DIR=/folder"};
    size_t n = 0;
    while (list[n] != NULL)
        n++;
    assert_int_equal(n, sizeof wanted / sizeof wanted[0]);
    for (size_t i = 0; i < n; i++)
        assert_true(has(list, wanted[i]));
    cs_free(list);
    list = plugin_environment("X", NULL, nothing);
    assert_true(has(list, "X=X") && !has(list, "PLUGIN_UNIX_SOCKET_DIR="));
    cs_free(list);
    cs_mem_fail_at(1, false);
    assert_null(plugin_environment("X", NULL, nothing));
    cs_mem_fail_at(0, false);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(runs_a_binary),   CASE(runs_a_script_in_its_place), CASE(is_alone),
        CASE(says_why_not),    CASE(ends_all_it_started),        CASE(words_ends_as_go),
        CASE(reads_checksums), CASE(survives_without_memory),    CASE(hands_on_what_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
