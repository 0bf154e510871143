/* SPDX-License-Identifier: Apache-2.0
 *
 * Watching a plugin's process on the runner's loop: its start, what it writes, its end.
 */
#include "plugin/external_internal.h"
#include "proto/proto.h"

#include "goplugin.pb-c.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK ((size_t)16 * 1024)
/* Bytes read at once of a plugin that writes without end: others want to be served too. */
#define TURN_CHUNKS 4
/* Bytes that are still read when the process has ended. */
#define LAST_CHUNKS 64
/* How often to look whether it lives when the kernel does not tell. */
#define POLL_MS 200

/* --- Standard output: the handshake, and then nothing of interest --- */

static void spoken(struct plugin_run *run, const struct plugin_handshake *h, const struct cs_err *err)
{
    struct plugin_external *x = run->x;
    cs_buf_free(&run->first);
    pthread_mutex_lock(&x->lock);
    if (!run->spoke) {
        run->spoke = true;
        run->handshake = *h;
        run->spoken = *err;
    }
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
}

static bool has_spoken(struct plugin_run *run)
{
    pthread_mutex_lock(&run->x->lock);
    bool yes = run->spoke;
    pthread_mutex_unlock(&run->x->lock);
    return yes;
}

/* go-plugin takes a line that is not there for an empty one. */
static void no_line(struct plugin_run *run)
{
    const struct plugin_handshake none = {0};
    struct cs_err err;
    (void)cs_fail(&err, CS_INVALID,
                  "Unrecognized remote plugin message: \nFailed to read any lines from plugin's stdout");
    spoken(run, &none, &err);
}

static void first_line(struct plugin_run *run, struct cs_slice line)
{
    struct plugin_handshake h;
    struct cs_err err = {0};
    if (plugin_handshake_parse(line, &h, &err) == CS_OK)
        err.code = CS_OK;
    spoken(run, &h, &err);
}

static void take_out(struct plugin_run *run, struct cs_slice data)
{
    if (has_spoken(run))
        return;
    const uint8_t *end = memchr(data.data, '\n', data.len);
    cs_buf_add_slice(&run->first, end != NULL ? cs_slice_of(data.data, (size_t)(end - data.data)) : data);
    if (!cs_buf_ok(&run->first) || run->first.len > PLUGIN_HANDSHAKE_MAX)
        no_line(run);
    else if (end != NULL)
        first_line(run, cs_buf_slice(&run->first));
}

static void out_ended(struct plugin_run *run)
{
    if (has_spoken(run))
        return;
    if (run->first.len > 0)
        first_line(run, cs_buf_slice(&run->first));
    else
        no_line(run);
}

/* --- Standard error: the plugin's log --- */

static void log_line(void *arg, struct cs_slice line)
{
    plugin_hclog_line(arg, line);
}

/* --- Pipes --- */

/* False: nothing will come any more. */
static bool read_pipe(struct plugin_run *run, int fd, bool out, unsigned chunks)
{
    uint8_t chunk[CHUNK];
    while (chunks-- > 0) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        if (out)
            take_out(run, cs_slice_of(chunk, (size_t)n));
        else
            plugin_lines_feed(&run->err_lines, cs_slice_of(chunk, (size_t)n), log_line, &run->log);
    }
    return true;
}

static void drop_event(struct event **ev)
{
    if (*ev != NULL)
        event_free(*ev);
    *ev = NULL;
}

static void on_out(evutil_socket_t fd, short what, void *arg)
{
    struct plugin_run *run = arg;
    (void)what;
    if (read_pipe(run, fd, true, TURN_CHUNKS))
        return;
    drop_event(&run->on_out);
    out_ended(run);
}

static void on_err(evutil_socket_t fd, short what, void *arg)
{
    struct plugin_run *run = arg;
    (void)what;
    if (!read_pipe(run, fd, false, TURN_CHUNKS))
        drop_event(&run->on_err);
}

/* --- The end --- */

/* Older plugins do not know that they are to use our folder. A socket that go-plugin has not named is left
 * alone: who knows whose it is. */
static void remove_socket(const struct plugin_handshake *h)
{
    static const char name[] = "/plugin";
    const char *base = strrchr(h->address, '/');
    struct stat st;
    if (!h->tcp && base != NULL && strncmp(base, name, sizeof name - 1) == 0 && lstat(h->address, &st) == 0 &&
        S_ISSOCK(st.st_mode))
        (void)unlink(h->address);
}

static void say_end(const struct plugin_run *run, pid_t pid, const char *how, bool expected)
{
    const struct cs_log *log = &run->x->env->log;
    char id[24];
    snprintf(id, sizeof id, "%ld", (long)pid);
    if (expected)
        cs_log_info(log, "plugin process exited", KV("id", id), KV("plugin", run->x->path));
    else
        cs_log_error(log, "plugin process exited", KV("error", how), KV("id", id),
                     KV("plugin", run->x->path));
}

static bool has_ended(const struct plugin_run *run)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)run->process.pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

static void on_exit_event(evutil_socket_t fd, short what, void *arg)
{
    struct plugin_run *run = arg;
    struct plugin_external *x = run->x;
    pid_t pid = run->process.pid;
    char how[64];
    (void)fd;
    (void)what;
    if (!has_ended(run))
        return;
    drop_event(&run->on_exit);
    drop_event(&run->on_out);
    drop_event(&run->on_err);
    (void)kill(-pid, SIGKILL); /* what it started and left behind: its ends of the pipes are closed then */
    if (!has_spoken(run)) {
        (void)read_pipe(run, run->process.out, true, LAST_CHUNKS);
        out_ended(run);
    }
    (void)read_pipe(run, run->process.err, false, LAST_CHUNKS);
    plugin_lines_end(&run->err_lines, log_line, &run->log);
    plugin_hclog_end(&run->log);
    pthread_mutex_lock(&x->lock); /* from here on the number may be another's */
    atomic_store(&x->group, 0);
    pthread_mutex_unlock(&x->lock);
    int status = plugin_process_end(&run->process);
    if (run->pidfd >= 0)
        (void)close(run->pidfd);
    run->pidfd = -1;
    remove_socket(&run->handshake);
    plugin_folder_remove(run->folder); /* one that is killed does not take its sockets along */
    plugin_status_text(status, how);
    say_end(run, pid, how, status == 0 && atomic_load(&run->closing));
    pthread_mutex_lock(&x->lock);
    run->exited = true;
    run->status = status;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
    plugin_external_on_exit(x, run);
    plugin_run_unref(run);
}

/* --- The start --- */

static cs_code watch(struct plugin_run *run, struct cs_err *e)
{
    struct event_base *base = loop_base(run->r->loop);
    const struct timeval poll = {.tv_usec = POLL_MS * 1000};
    run->on_out = event_new(base, run->process.out, EV_READ | EV_PERSIST, on_out, run);
    run->on_err = event_new(base, run->process.err, EV_READ | EV_PERSIST, on_err, run);
    run->on_exit =
        event_new(base, run->pidfd, (run->pidfd >= 0 ? EV_READ : 0) | EV_PERSIST, on_exit_event, run);
    if (run->on_out == NULL || run->on_err == NULL || run->on_exit == NULL ||
        event_add(run->on_out, NULL) != 0 || event_add(run->on_err, NULL) != 0 ||
        event_add(run->on_exit, run->pidfd >= 0 ? NULL : &poll) != 0)
        return cs_nomem(e);
    return CS_OK;
}

static void give_up(struct plugin_run *run)
{
    drop_event(&run->on_exit);
    drop_event(&run->on_out);
    drop_event(&run->on_err);
    (void)plugin_process_end(&run->process);
    if (run->pidfd >= 0)
        (void)close(run->pidfd);
    run->pidfd = -1;
}

void plugin_watch_launch(void *arg)
{
    struct plugin_launch *l = arg;
    struct plugin_run *run = l->run;
    struct plugin_external *x = run->x;
    const struct plugin_program p = {
        .path = x->path,
        .args = (const char *const *)x->args,
        .arg_count = x->arg_count,
        .checksum = x->has_checksum ? x->checksum : NULL,
        .type = x->type,
        .socket_folder = run->folder,
    };
    int program = run->program;
    run->program = -1;
    l->code = plugin_spawn(&p, program, &run->process, l->e);
    if (l->code != CS_OK)
        return;
    run->pidfd = (int)syscall(SYS_pidfd_open, run->process.pid, 0);
    l->code = watch(run, l->e);
    if (l->code != CS_OK) {
        give_up(run);
        return;
    }
    cs_log_debug(&x->env->log, "plugin started", KV("path", x->path), KV_INT("pid", run->process.pid));
    atomic_store(&x->group, run->process.pid);
    atomic_fetch_add(&run->refs, 1); /* the events' */
}

/* --- Streams of go-plugin that are read as they come --- */

static void drop_stream(struct rpc_stream **s)
{
    if (*s != NULL)
        rpc_stream_free(*s);
    *s = NULL;
}

/* False: the stream has nothing now, or has ended and is dropped. */
static bool next(struct rpc_stream **s, struct cs_buf *msg)
{
    bool end = false;
    if (*s == NULL)
        return false;
    cs_code rc = rpc_stream_recv(*s, msg, &end, 0, NULL, NULL);
    if (rc == CS_OK && !end)
        return true;
    if (rc != CS_DEADLINE)
        drop_stream(s);
    return false;
}

/* Addresses of servers that the plugin offers to us; SPIRE's plugins have none. */
void plugin_watch_broker(void *arg)
{
    struct plugin_run *run = arg;
    CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
    while (next(&run->broker, &msg))
        continue;
}

/* What a plugin in Go prints comes here, since go-plugin puts pipes in place of its standard output and
 * error. */
static void take_stdio(struct plugin_run *run, struct cs_arena *a, struct cs_slice msg)
{
    ProtobufCMessage *m = NULL;
    if (proto_unpack(a, &goplugin__stdio_data__descriptor, msg, &m, NULL) != CS_OK)
        return;
    const Goplugin__StdioData *d = (const void *)m;
    bool err = d->channel == GOPLUGIN__STDIO_DATA__CHANNEL__STDERR;
    plugin_lines_feed(&run->stdio_lines[err], cs_slice_of(d->data.data, d->data.len), log_line, &run->log);
}

void plugin_watch_stdio(void *arg)
{
    struct plugin_run *run = arg;
    CS_CLEANUP(cs_buf_free) struct cs_buf msg = {0};
    CS_AUTO(cs_arena) a = NULL;
    while (next(&run->stdio, &msg)) {
        if (a != NULL)
            cs_arena_reset(a);
        else
            a = cs_arena_new(0, 0);
        if (a != NULL)
            take_stdio(run, a, cs_buf_slice(&msg));
    }
    for (int i = 0; run->stdio == NULL && i < 2; i++)
        plugin_lines_end(&run->stdio_lines[i], log_line, &run->log);
}

void plugin_watch_close(void *arg)
{
    struct plugin_run *run = arg;
    drop_stream(&run->broker);
    drop_stream(&run->stdio);
    for (int i = 0; i < 2; i++)
        plugin_lines_end(&run->stdio_lines[i], log_line, &run->log);
}
