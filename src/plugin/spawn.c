/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/spawn.h"

#include "base/mem.h"
#include "base/text.h"
#include "crypto/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Where the child has its program: the first descriptor after the standard ones. */
#define PROGRAM_FD 3

cs_code plugin_checksum_parse(const char *hex, uint8_t out[32], struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf bytes = {0};
    if (cs_hex_decode(&bytes, cs_slice_str(hex), NULL) != CS_OK)
        return cs_fail(e, CS_INVALID, "checksum is not a valid hex string");
    if (bytes.len != 32)
        return cs_fail(e, CS_INVALID, "expected checksum of length 64; got %zu", 2 * bytes.len);
    memcpy(out, bytes.data, 32);
    return CS_OK;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* Hashes what is open, and tells whether it is a script. */
static cs_code check_program(int fd, const uint8_t *checksum, bool *script, struct cs_err *e)
{
    CS_CLEANUP(cs_freep) uint8_t *block = cs_malloc((size_t)64 * 1024);
    CS_AUTO(crypto_hasher) hasher = NULL;
    uint8_t digest[CRYPTO_HASH_MAX];
    off_t at = 0;
    if (block == NULL)
        return cs_nomem(e);
    CS_TRY(crypto_hasher_new(CRYPTO_SHA256, &hasher, e));
    for (;;) {
        ssize_t n = pread(fd, block, (size_t)64 * 1024, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cs_fail_errno(e, CS_INTERNAL, errno, "failed to read the program");
        if (at == 0)
            *script = n >= 2 && block[0] == '#' && block[1] == '!';
        if (n == 0)
            break;
        if (checksum == NULL)
            return CS_OK;
        CS_TRY(crypto_hasher_add(hasher, cs_slice_of(block, (size_t)n), e));
        at += n;
    }
    CS_TRY(crypto_hasher_end(hasher, digest, e));
    if (checksum != NULL && memcmp(digest, checksum, 32) != 0)
        return cs_fail(e, CS_INVALID, "checksums did not match");
    return CS_OK;
}

/* What the child needs; everything is made before the fork. */
struct child {
    int program, out, err, report;
    bool script;
    char *const *argv;
    char **env;
    pid_t parent;
};

/* After fork: async-signal-safe calls only, never returns. */
static void __attribute__((noreturn)) run_child(const struct child *c)
{
    sigset_t none;
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int s = 1; s < NSIG; s++)
        (void)signal(s, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    /* Duplicates above everything that is replaced below. */
    int null = open("/dev/null", O_RDONLY);
    int out = fcntl(c->out, F_DUPFD, 16), err = fcntl(c->err, F_DUPFD, 16);
    int program = fcntl(c->program, F_DUPFD, 16), report = fcntl(c->report, F_DUPFD, 16);
    if (null >= 0 && out >= 0 && err >= 0 && program >= 0 && report >= 0 && getppid() == c->parent &&
        dup2(null, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2 &&
        dup3(program, PROGRAM_FD, c->script ? 0 : O_CLOEXEC) >= 0 &&
        dup3(report, PROGRAM_FD + 1, O_CLOEXEC) >= 0) {
        (void)syscall(SYS_close_range, PROGRAM_FD + 2, ~0U, 0);
        report = PROGRAM_FD + 1;
        (void)syscall(SYS_execveat, PROGRAM_FD, "", c->argv, c->env, AT_EMPTY_PATH);
    }
    int error = errno;
    (void)!write(report, &error, sizeof error);
    _exit(127);
}

static cs_code start(const struct child *c, const char *path, int report, pid_t *pid, struct cs_err *e)
{
    int error = 0;
    ssize_t n;
    *pid = fork();
    if (*pid < 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "fork/exec %s", path);
    if (*pid == 0)
        run_child(c);
    (void)setpgid(*pid, *pid);
    (void)close(c->report);
    do
        n = read(report, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return CS_OK;
    (void)waitpid(*pid, NULL, 0);
    *pid = 0;
    return cs_fail_errno(e, CS_INTERNAL, n == sizeof error ? error : EIO, "fork/exec %s", path);
}

static char **make_argv(const struct plugin_program *p)
{
    char **argv = cs_calloc(p->arg_count + 2, sizeof *argv);
    if (argv == NULL)
        return NULL;
    argv[0] = (char *)p->path;
    for (size_t i = 0; i < p->arg_count; i++)
        argv[i + 1] = (char *)p->args[i];
    return argv;
}

struct pipes {
    int program, out[2], err[2], report[2];
};

static void close_pipes(struct pipes *p)
{
    close_fd(&p->program);
    for (int i = 0; i < 2; i++) {
        close_fd(&p->out[i]);
        close_fd(&p->err[i]);
        close_fd(&p->report[i]);
    }
}

cs_code plugin_spawn(const struct plugin_program *p, struct plugin_process *out, struct cs_err *e)
{
    CS_CLEANUP(close_pipes) struct pipes pipes = {-1, {-1, -1}, {-1, -1}, {-1, -1}};
    CS_CLEANUP(cs_freep) char **argv = make_argv(p);
    CS_CLEANUP(cs_freep) char **env = plugin_environment(p->type, environ);
    struct child c = {.argv = argv, .env = env, .parent = getpid()};
    *out = (struct plugin_process){.out = -1, .err = -1};
    if (argv == NULL || env == NULL)
        return cs_nomem(e);
    pipes.program = open(p->path, O_RDONLY | O_CLOEXEC);
    if (pipes.program < 0)
        return cs_fail_errno(e, errno == ENOENT ? CS_NOT_FOUND : CS_INTERNAL, errno, "fork/exec %s", p->path);
    CS_TRY(check_program(pipes.program, p->checksum, &c.script, e));
    if (pipe2(pipes.out, O_CLOEXEC) != 0 || pipe2(pipes.err, O_CLOEXEC) != 0 ||
        pipe2(pipes.report, O_CLOEXEC) != 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "failed to make pipes");
    c.program = pipes.program;
    c.out = pipes.out[1];
    c.err = pipes.err[1];
    c.report = pipes.report[1];
    pipes.report[1] = -1; /* closed by start */
    CS_TRY(start(&c, p->path, pipes.report[0], &out->pid, e));
    (void)fcntl(pipes.out[0], F_SETFL, O_NONBLOCK);
    (void)fcntl(pipes.err[0], F_SETFL, O_NONBLOCK);
    out->out = pipes.out[0];
    out->err = pipes.err[0];
    pipes.out[0] = pipes.err[0] = -1;
    return CS_OK;
}

void plugin_process_end(struct plugin_process *p)
{
    if (p->pid > 0) {
        (void)kill(-p->pid, SIGKILL);
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
            continue;
    }
    p->pid = 0;
    close_fd(&p->out);
    close_fd(&p->err);
}
