/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/command.h"

#include "base/child.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENDPOINT "SPIFFE_ENDPOINT_SOCKET="
#define USUAL_UMASK 022 /* ours is stricter */

char *agent_endpoint_url(const struct agent_config *cfg)
{
    bool tcp = cfg->enclave.workload_api_addr[0] != '\0', socket = cfg->socket_path[0] != '\0';
    if (cfg->disable_workload_api || (!tcp && !socket))
        return cs_strdup("");
    return cs_asprintf("%s%s", tcp ? "tcp://" : "unix://",
                       tcp ? cfg->enclave.workload_api_addr : cfg->socket_path);
}

/* --- Arguments and environment, made before the fork --- */

struct child {
    char **argv, **env;
    char *endpoint; /* "SPIFFE_ENDPOINT_SOCKET=..." */
    int64_t uid, gid;
    pid_t parent;
    int report;
};

static void child_free(struct child *c)
{
    cs_free(c->argv);
    cs_free(c->env);
    cs_free(c->endpoint);
}

static cs_code make_env(struct child *c, const struct agent_config *cfg, struct cs_err *e)
{
    size_t n = 0, k = 0;
    CS_CLEANUP(cs_freep) char *url = agent_endpoint_url(cfg);
    c->endpoint = url != NULL ? cs_asprintf(ENDPOINT "%s", url) : NULL;
    while (environ[n] != NULL)
        n++;
    c->env = cs_calloc(n + 2, sizeof *c->env);
    if (c->endpoint == NULL || c->env == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], ENDPOINT, sizeof ENDPOINT - 1) != 0)
            c->env[k++] = environ[i];
    if (*url != '\0')
        c->env[k] = c->endpoint;
    return CS_OK;
}

static cs_code child_make(struct child *c, const struct agent_config *cfg, struct cs_err *e)
{
    const struct config_strings *command = &cfg->enclave.command;
    c->argv = cs_calloc(command->len + 1, sizeof *c->argv);
    if (c->argv == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < command->len; i++)
        c->argv[i] = (char *)(uintptr_t)command->at[i];
    c->uid = cfg->enclave.uid;
    c->gid = cfg->enclave.gid;
    c->parent = getpid();
    return make_env(c, cfg, e);
}

/* --- The child --- */

/* Who is given a user loses our groups, too. */
static bool become(const struct child *c)
{
    if (c->uid < 0 && c->gid < 0)
        return true;
    if (geteuid() == 0 && setgroups(0, NULL) != 0)
        return false;
    return (c->gid < 0 || setresgid((gid_t)c->gid, (gid_t)c->gid, (gid_t)c->gid) == 0) &&
           (c->uid < 0 || setresuid((uid_t)c->uid, (uid_t)c->uid, (uid_t)c->uid) == 0);
}

/* After fork: async-signal-safe calls only, never returns. What we have open closes itself. */
static void __attribute__((noreturn)) run_child(const struct child *c)
{
    (void)setpgid(0, 0);
    (void)umask(USUAL_UMASK);
    cs_child_reset_signals();
    /* after the change of user, which takes it back */
    if (become(c) && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == c->parent)
        (void)execve(c->argv[0], c->argv, c->env);
    int error = errno;
    (void)!write(c->report, &error, sizeof error);
    _exit(127);
}

/* Closes `report`, through which the child says what failed; nothing comes when it became the program. */
static cs_code await_exec(int report, pid_t pid, const char *path, struct cs_err *e)
{
    int error = 0;
    ssize_t n;
    do
        n = read(report, &error, sizeof error);
    while (n < 0 && errno == EINTR);
    close(report);
    if (n == 0)
        return CS_OK;
    (void)waitpid(pid, NULL, 0);
    return cs_fail_errno(e, CS_INTERNAL, n == sizeof error ? error : EIO, "fork/exec %s", path);
}

cs_code agent_command_start(struct agent_command *c, const struct agent_config *cfg, struct cs_err *e)
{
    CS_CLEANUP(child_free) struct child child = {0};
    int report[2];
    CS_TRY(child_make(&child, cfg, e));
    if (pipe2(report, O_CLOEXEC) != 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "pipe");
    child.report = report[1];
    pid_t pid = fork();
    if (pid == 0)
        run_child(&child);
    int error = errno;
    close(report[1]);
    if (pid < 0) {
        close(report[0]);
        return cs_fail_errno(e, CS_INTERNAL, error, "fork/exec %s", child.argv[0]);
    }
    CS_TRY(await_exec(report[0], pid, child.argv[0], e));
    *c = (struct agent_command){.pid = pid, .started = true};
    return CS_OK;
}

/* --- Its end --- */

static void take_end(struct agent_command *c, int status)
{
    c->pid = 0;
    c->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool agent_command_reap(struct agent_command *c, bool others)
{
    int status;
    bool all = getpid() == 1 && !others, ended = false;
    for (pid_t pid; (all || c->pid > 0) && (pid = waitpid(all ? -1 : c->pid, &status, WNOHANG)) > 0;) {
        if (pid != c->pid)
            continue;
        take_end(c, status);
        ended = true;
    }
    return ended;
}

bool agent_command_signal(const struct agent_command *c, int signum)
{
    return c->pid > 0 && kill(c->pid, signum) == 0;
}
