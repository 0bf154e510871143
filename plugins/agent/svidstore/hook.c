/* SPDX-License-Identifier: Apache-2.0
 *
 * The command runs without a shell, in a process group of its own that is killed when it takes too long. A
 * process whose number is in a file gets a signal only when the file's owner could send it himself.
 */
#include "plugins/agent/svidstore/hook.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 20      /* how often the command's end is looked for */
#define OUTPUT_KEPT 200 /* bytes of what it prints */
#define STATUS_MAX ((size_t)65536)

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define AUTO_FD CS_CLEANUP(close_fd) int

/* --- Command --- */

struct command {
    const struct config_svidstore_hook *hook;
    pid_t pid;
    int out;                /* reading end of what it prints; -1: at its end */
    char text[OUTPUT_KEPT]; /* first bytes of that */
    size_t len;
};

static const char *path_of(const struct command *c)
{
    return c->hook->command.at[0];
}

struct surroundings {
    char *values[6], *env[7];
};
static void surroundings_free(struct surroundings *s)
{
    for (size_t i = 0; i < sizeof s->values / sizeof s->values[0]; i++)
        cs_free(s->values[i]);
}

static cs_code surroundings_make(const char *spiffe_id, const char *dir, struct surroundings *s,
                                 struct cs_err *e)
{
    static const char *const kept[] = {"PATH", "HOME", "LANG", "TZ"};
    size_t n = 0;
    s->values[n++] = cs_asprintf("SPIFFE_ID=%s", spiffe_id);
    s->values[n++] = cs_asprintf("SVID_DIR=%s", dir);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        const char *value = getenv(kept[i]);
        if (value != NULL)
            s->values[n++] = cs_asprintf("%s=%s", kept[i], value);
    }
    for (size_t i = 0; i < n; i++) {
        if (s->values[i] == NULL)
            return cs_nomem(e);
        s->env[i] = s->values[i];
    }
    return CS_OK;
}

static int spawn(const struct config_svidstore_hook *h, char *const *argv, char *const *env, int out,
                 pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int rc = posix_spawn_file_actions_init(&files);
    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc != 0) {
        posix_spawn_file_actions_destroy(&files);
        return rc;
    }
    (void)posix_spawnattr_setflags(&attr,
                                   POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawnattr_setpgroup(&attr, 0);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    rc = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&files, out, 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&files, out, 2);
    if (rc == 0)
        rc = posix_spawn(pid, h->command.at[0], &files, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

static cs_code command_start(struct command *c, const char *spiffe_id, const char *dir, struct cs_err *e)
{
    CS_CLEANUP(surroundings_free) struct surroundings s = {{NULL}, {NULL}};
    const struct config_strings *words = &c->hook->command;
    int ends[2];
    CS_TRY(surroundings_make(spiffe_id, dir, &s, e));
    CS_CLEANUP(cs_freep) char **argv = cs_calloc(words->len + 1, sizeof *argv);
    if (argv == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < words->len; i++)
        argv[i] = (char *)(uintptr_t)words->at[i];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "pipe");
    int rc = spawn(c->hook, argv, s.env, ends[1], &c->pid);
    close(ends[1]);
    c->out = ends[0];
    (void)fcntl(c->out, F_SETFL, O_NONBLOCK);
    return rc == 0 ? CS_OK : cs_fail_errno(e, CS_INTERNAL, rc, "fork/exec %s", path_of(c));
}

/* Reads what there is, and keeps the beginning. */
static void command_read(struct command *c)
{
    char piece[4096];
    ssize_t n;
    while (c->out >= 0 && (n = read(c->out, piece, sizeof piece)) != 0) {
        if (n < 0)
            return; /* nothing more for now */
        size_t room = sizeof c->text - c->len;
        size_t take = (size_t)n < room ? (size_t)n : room;
        memcpy(c->text + c->len, piece, take);
        c->len += take;
    }
    close_fd(&c->out);
    c->out = -1;
}

static cs_code failed(const struct command *c, int status, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf said = {0};
    if (c->len > 0) {
        cs_buf_add_str(&said, ": ");
        cs_quote(&said, cs_slice_of(c->text, c->len));
    }
    const char *text = cs_buf_ok(&said) ? cs_buf_cstr(&said) : "";
    if (WIFSIGNALED(status))
        return cs_fail(e, CS_INTERNAL, "%s was ended by signal %d%s", path_of(c), WTERMSIG(status), text);
    return cs_fail(e, CS_INTERNAL, "%s ended with status %d%s", path_of(c), WEXITSTATUS(status), text);
}

/* CS_OK: it ended, with *status. */
static cs_code command_wait(struct command *c, const struct crypto_stop *stop, int *status, struct cs_err *e)
{
    int64_t end = cs_mono_ns(&cs_clock_system) + c->hook->timeout_ns;
    for (;;) {
        pid_t pid = waitpid(c->pid, status, WNOHANG);
        command_read(c);
        if (pid == c->pid)
            return CS_OK;
        if (pid < 0 && errno == ECHILD) { /* an agent that is init reaps all there is */
            *status = 0;
            return CS_OK;
        }
        if (stop != NULL && stop->asked(stop->arg))
            return cs_fail(e, CS_CANCELLED, "%s was waited for when the agent was to end", path_of(c));
        if (cs_mono_ns(&cs_clock_system) >= end)
            return cs_fail(e, CS_DEADLINE, "%s did not end in time", path_of(c));
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        (void)poll(&p, 1, LOOK_MS);
    }
}

static cs_code run_command(const struct config_svidstore_hook *h, const char *spiffe_id, const char *dir,
                           const struct crypto_stop *stop, struct cs_err *e)
{
    struct command c = {.hook = h, .out = -1};
    int status = 0;
    cs_code rc = command_start(&c, spiffe_id, dir, e);
    if (rc == CS_OK) {
        rc = command_wait(&c, stop, &status, e);
        if (rc != CS_OK) {
            (void)kill(-c.pid, SIGKILL);
            (void)waitpid(c.pid, NULL, 0);
        } else if (status != 0) {
            rc = failed(&c, status, e);
        }
    }
    close_fd(&c.out);
    return rc;
}

/* --- Signal --- */

/* The number in the file; and who owns the file. */
static cs_code read_pid_file(const char *path, pid_t *pid, uid_t *owner, struct cs_err *e)
{
    char text[32];
    struct stat st;
    AUTO_FD fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return cs_fail_errno(e, errno == ENOENT ? CS_NOT_FOUND : CS_DENIED, errno, "open %s", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & S_IWOTH) != 0)
        return cs_fail(e, CS_DENIED, "%s is no regular file, or one that anybody may write", path);
    ssize_t n = read(fd, text, sizeof text);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' ' || text[n - 1] == '\r'))
        n--;
    int64_t number = 0;
    if (n <= 0 || cs_parse_i64(cs_slice_of(text, (size_t)n), &number, NULL) != CS_OK || number < 2 ||
        number > INT_MAX)
        return cs_fail(e, CS_INVALID, "%s holds no process number", path);
    *pid = (pid_t)number;
    *owner = st.st_uid;
    return CS_OK;
}

/* The user that a process runs as, by its effective ID. */
static cs_code user_of(pid_t pid, uid_t *out, struct cs_err *e)
{
    char path[64];
    CS_CLEANUP(cs_buf_free) struct cs_buf status = {0};
    unsigned real, effective;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    cs_code rc = cs_file_read(path, STATUS_MAX, &status, e);
    if (rc != CS_OK)
        return rc;
    const char *line = strstr(cs_buf_cstr(&status), "\nUid:");
    if (line == NULL || sscanf(line, "\nUid: %u %u", &real, &effective) != 2)
        return cs_fail(e, CS_INTERNAL, "%s has no user", path);
    *out = effective;
    return CS_OK;
}

static cs_code gone(const struct config_svidstore_hook *h, pid_t pid, struct cs_err *e)
{
    return cs_fail(e, CS_NOT_FOUND, "process %d of %s is not there", (int)pid, h->pid_file);
}

static cs_code send_signal(const struct config_svidstore_hook *h, struct cs_err *e)
{
    pid_t pid = 0;
    uid_t owner = 0, user = 0;
    CS_TRY(read_pid_file(h->pid_file, &pid, &owner, e));
    /* held first, so that the process looked at is the one that is told */
    AUTO_FD held = (int)syscall(SYS_pidfd_open, pid, 0);
    if (held < 0 && errno == ESRCH)
        return gone(h, pid, e);
    if (held < 0 && errno != ENOSYS)
        return cs_fail_errno(e, CS_INTERNAL, errno, "process %d of %s", (int)pid, h->pid_file);
    cs_code rc = user_of(pid, &user, e);
    if (rc == CS_NOT_FOUND)
        return gone(h, pid, e);
    CS_TRY(rc);
    if (owner != 0 && owner != geteuid() && owner != user)
        return cs_fail(e, CS_DENIED, "%s is of user %u, its process %d of user %u", h->pid_file,
                       (unsigned)owner, (int)pid, (unsigned)user);
    long sent = held >= 0 ? syscall(SYS_pidfd_send_signal, held, h->signal, NULL, 0) : kill(pid, h->signal);
    if (sent == 0)
        return CS_OK;
    return errno == ESRCH ? gone(h, pid, e)
                          : cs_fail_errno(e, CS_DENIED, errno, "kill %d of %s", (int)pid, h->pid_file);
}

cs_code disk_hook_run(const struct config_svidstore_hook *h, const char *spiffe_id, const char *dir,
                      const struct crypto_stop *stop, struct cs_err *e)
{
    if (h->command.len > 0)
        CS_TRY(run_command(h, spiffe_id, dir, stop, e));
    return *h->pid_file != '\0' ? send_signal(h, e) : CS_OK;
}
