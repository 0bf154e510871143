/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/spawn.h"

#include "base/child.h"
#include "base/mem.h"
#include "base/text.h"
#include "crypto/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Where the child has what it needs: the first descriptors after the standard ones. */
#define PROGRAM_FD 3
#define REPORT_FD 4

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
static cs_code hash_program(int fd, const char *path, uint8_t digest[CRYPTO_HASH_MAX], bool *script,
                            struct cs_err *e)
{
    const size_t size = (size_t)64 * 1024;
    CS_CLEANUP(cs_freep) uint8_t *block = cs_malloc(size);
    CS_AUTO(crypto_hasher) hasher = NULL;
    off_t at = 0;
    ssize_t n;
    if (block == NULL)
        return cs_nomem(e);
    CS_TRY(crypto_hasher_new(CRYPTO_SHA256, &hasher, e));
    while ((n = pread(fd, block, size, at)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cs_fail_errno(e, CS_INTERNAL, errno, "error verifying checksum: read %s", path);
        if (at == 0)
            *script = n >= 2 && block[0] == '#' && block[1] == '!';
        CS_TRY(crypto_hasher_add(hasher, cs_slice_of(block, (size_t)n), e));
        at += n;
    }
    return crypto_hasher_end(hasher, digest, e);
}

cs_code plugin_program_check(const struct plugin_program *p, int *fd, struct cs_err *e)
{
    uint8_t digest[CRYPTO_HASH_MAX];
    bool script = false;
    *fd = -1;
    if (p->checksum == NULL)
        return CS_OK;
    CS_CLEANUP(close_fd) int program = open(p->path, O_RDONLY | O_CLOEXEC);
    if (program < 0)
        return cs_fail_errno(e, errno == ENOENT ? CS_NOT_FOUND : CS_INTERNAL, errno,
                             "error verifying checksum: open %s", p->path);
    CS_TRY(hash_program(program, p->path, digest, &script, e));
    if (memcmp(digest, p->checksum, 32) != 0)
        return cs_fail(e, CS_INVALID, "checksums did not match");
    if (!script) {
        *fd = program;
        program = -1;
    }
    return CS_OK;
}

/* What the child needs; everything is made before the fork. */
struct child {
    int program, out, err, report;
    const char *path; /* run when there is no descriptor */
    char *const *argv;
    char **env;
    pid_t parent;
};

static int move_up(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 16);
}

/* After fork: async-signal-safe calls only, never returns. */
static void __attribute__((noreturn)) run_child(const struct child *c)
{
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    cs_child_reset_signals();
    /* Duplicates above everything that is replaced below. */
    int null = move_up(open("/dev/null", O_RDONLY | O_CLOEXEC));
    int out = move_up(c->out), err = move_up(c->err), report = move_up(c->report);
    int program = c->program >= 0 ? move_up(c->program) : -1;
    errno = 0;
    if (null >= 0 && out >= 0 && err >= 0 && report >= 0 && (c->program < 0 || program >= 0) &&
        getppid() == c->parent && dup2(null, 0) == 0 && dup2(out, 1) == 1 && dup2(err, 2) == 2 &&
        dup3(report, REPORT_FD, O_CLOEXEC) == REPORT_FD) {
        if (program < 0) {
            (void)close(PROGRAM_FD);
        } else {
            (void)dup3(program, PROGRAM_FD, O_CLOEXEC);
        }
        report = REPORT_FD;
        (void)syscall(SYS_close_range, REPORT_FD + 1, ~0U, 0);
        if (program < 0)
            (void)execve(c->path, c->argv, c->env);
        else
            (void)syscall(SYS_execveat, PROGRAM_FD, "", c->argv, c->env, AT_EMPTY_PATH);
    }
    int error = errno;
    (void)!write(report, &error, sizeof error);
    _exit(127);
}

static cs_code start(const struct child *c, int report, pid_t *pid, struct cs_err *e)
{
    int error = 0;
    ssize_t n;
    *pid = fork();
    if (*pid < 0) {
        error = errno;
        *pid = 0;
        (void)close(c->report);
        return cs_fail_errno(e, CS_INTERNAL, error, "fork/exec %s", c->path);
    }
    if (*pid == 0)
        run_child(c);
    (void)setpgid(*pid, *pid);
    (void)close(c->report);
    do
        n = read(report, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return CS_OK;
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    *pid = 0;
    if (n != sizeof error || error == 0)
        error = EIO;
    return cs_fail_errno(e, error == ENOENT ? CS_NOT_FOUND : CS_INTERNAL, error, "fork/exec %s", c->path);
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

cs_code plugin_spawn(const struct plugin_program *p, int fd, struct plugin_process *out, struct cs_err *e)
{
    CS_CLEANUP(close_pipes) struct pipes pipes = {fd, {-1, -1}, {-1, -1}, {-1, -1}};
    CS_CLEANUP(cs_freep) char **argv = make_argv(p);
    CS_CLEANUP(cs_freep) char **env = plugin_environment(p->type, p->socket_folder, environ);
    *out = (struct plugin_process){.out = -1, .err = -1};
    if (argv == NULL || env == NULL)
        return cs_nomem(e);
    if (pipe2(pipes.out, O_CLOEXEC) != 0 || pipe2(pipes.err, O_CLOEXEC) != 0 ||
        pipe2(pipes.report, O_CLOEXEC) != 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "failed to make pipes");
    const struct child c = {.program = fd,
                            .out = pipes.out[1],
                            .err = pipes.err[1],
                            .report = pipes.report[1],
                            .path = p->path,
                            .argv = argv,
                            .env = env,
                            .parent = getpid()};
    pipes.report[1] = -1; /* start closes it */
    CS_TRY(start(&c, pipes.report[0], &out->pid, e));
    (void)fcntl(pipes.out[0], F_SETFL, O_NONBLOCK);
    (void)fcntl(pipes.err[0], F_SETFL, O_NONBLOCK);
    out->out = pipes.out[0];
    out->err = pipes.err[0];
    pipes.out[0] = pipes.err[0] = -1;
    return CS_OK;
}

int plugin_process_end(struct plugin_process *p)
{
    int status = 0;
    if (p->pid > 0) {
        (void)kill(-p->pid, SIGKILL);
        while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    p->pid = 0;
    close_fd(&p->out);
    close_fd(&p->err);
    return status;
}

/* Go's names of signals are the system's in lower case. */
void plugin_status_text(int status, char out[64])
{
    if (!WIFSIGNALED(status)) {
        snprintf(out, 64, "exit status %d", WEXITSTATUS(status));
        return;
    }
    const char *name = sigdescr_np(WTERMSIG(status));
    snprintf(out, 64, "signal: %s%s", name != NULL ? name : "unknown",
             WCOREDUMP(status) ? " (core dumped)" : "");
    for (char *c = out; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
}
