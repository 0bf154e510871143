/* SPDX-License-Identifier: Apache-2.0
 *
 * The program: go-plugin's start, serving, and every way it can end.
 */
#include "kit/kit.h"
#include "kit/start.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROTOCOL_VERSION 1 /* of SPIRE's plugins; go-plugin's own is 1, too */
#define WORKERS 16
/* go-plugin's hosts kill what has not ended 2 s after it was told. */
#define GRACE_NS CS_NS_PER_S
#define END_WAIT_NS (3 * CS_NS_PER_S)

/* Who may go away under us, and what says so. */
struct watch {
    int stop;   /* eventfd: the host told us */
    int signal; /* signalfd: SIGTERM, SIGINT */
    int parent; /* pidfd of the process that started us; -1: the kernel has none */
};

struct program {
    struct cspire_env env;
    struct rpc_health health;
    struct rpc_service services[KIT_SERVICES_MAX];
    struct rpc_server *server;
    struct kit_socket socket;
    struct watch watch;
    int handshake_fd; /* the standard output we were started with; held open, hosts take its end for ours */
    int down_fd;      /* eventfd: the server is shut down */
};

/* --- Started by whom? --- */

static bool started_by_host(const struct kit_kind *kind)
{
    const char *cookie = getenv(kind->type);
    return cookie != NULL && strcmp(cookie, kind->type) == 0;
}

static void explain(const char *program, const struct kit_kind *kind)
{
    fprintf(stderr,
            "%s is a %s plugin: a SPIRE %s starts it, it does nothing when started by hand.\n"
            "Name it in the configuration file of the %s:\n"
            "    plugins {\n"
            "        %s \"NAME\" {\n"
            "            plugin_cmd = \"/path/to/%s\"\n"
            "        }\n"
            "    }\n",
            program, kind->type, kind->program, kind->program, kind->type, program);
}

static cs_code check_host(struct cs_err *e)
{
    const char *cert = getenv("PLUGIN_CLIENT_CERT");
    if (cert != NULL && cert[0] != '\0')
        return cs_fail(e, CS_UNIMPLEMENTED,
                       "the host asks for AutoMTLS (PLUGIN_CLIENT_CERT), which this plugin does not speak");
    return CS_OK;
}

/* --- Start --- */

static cs_code watch_signals(struct watch *w, struct cs_err *e)
{
    /* blocked before there are threads, so in all of them */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 || sigaction(SIGPIPE, &ignore, NULL) != 0)
        return cs_fail(e, CS_INTERNAL, "signals cannot be set up");
    w->signal = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    w->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->signal < 0 || w->stop < 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "signalfd, eventfd");
#ifdef SYS_pidfd_open
    w->parent = (int)syscall(SYS_pidfd_open, getppid(), 0);
#endif
    return CS_OK;
}

static int always_serving(void *arg, struct cs_slice service)
{
    (void)arg;
    return service.len == 0 || cs_slice_is(service, "plugin") ? 1 : -1;
}

static cs_code serve(struct program *p, struct cs_err *e)
{
    const char *dir = getenv("PLUGIN_UNIX_SOCKET_DIR"), *group = getenv("PLUGIN_UNIX_SOCKET_GROUP");
    struct rpc_server_config config = {.io_threads = 1, .workers = WORKERS};
    p->health.status = always_serving;
    size_t count = kit_services(&p->env, &p->health, p->services);
    CS_TRY(kit_socket_new(dir, group, &p->socket, e));
    CS_TRY(rpc_server_new(&config, &p->server, e));
    struct rpc_listener listener = {.unix_path = p->socket.path,
                                    .unix_mode = 0600,
                                    .secret_responses = true,
                                    .services = p->services,
                                    .service_count = count};
    CS_TRY(rpc_server_listen(p->server, &listener, e));
    return kit_socket_share(&p->socket, group, e);
}

/* What the plugin prints from now on goes where its log goes. */
static cs_code move_stdout(struct program *p, struct cs_err *e)
{
    p->handshake_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (p->handshake_fd < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "standard output");
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    return CS_OK;
}

static cs_code shake_hands(const struct program *p, struct cs_err *e)
{
    char line[KIT_PATH_MAX + 64];
    /* the sixth part is a certificate of ours, the seventh says whether the broker multiplexes: only to
     * those who ask, since older hosts stumble over it */
    const char *mux = getenv("PLUGIN_MULTIPLEX_GRPC");
    int n = snprintf(line, sizeof line, "1|%d|unix|%s|grpc|%s\n", PROTOCOL_VERSION, p->socket.path,
                     mux != NULL && mux[0] != '\0' ? "|false" : "");
    if (write(p->handshake_fd, line, (size_t)n) != (ssize_t)n)
        return cs_fail_errno(e, CS_INTERNAL, errno, "tell the host where we are");
    return CS_OK;
}

static cs_code start(struct program *p, const struct cspire_plugin *plugin, const struct kit_kind *kind,
                     struct cs_err *e)
{
    kit_env_init(&p->env, plugin, kind);
    CS_TRY(check_host(e));
    CS_TRY(watch_signals(&p->watch, e));
    p->env.stop_fd = p->watch.stop;
    p->down_fd = eventfd(0, EFD_CLOEXEC);
    if (p->down_fd < 0)
        return cs_fail_errno(e, CS_INTERNAL, errno, "eventfd");
    const char *versions = getenv("PLUGIN_PROTOCOL_VERSIONS");
    if (!kit_versions_have(versions, PROTOCOL_VERSION))
        cspire_logf(&p->env, CSPIRE_WARN, "the host speaks plugin protocol %.64s, this plugin speaks %d",
                    versions, PROTOCOL_VERSION);
    CS_TRY(move_stdout(p, e));
    CS_TRY(serve(p, e));
    return shake_hands(p, e);
}

/* --- Waiting --- */

static bool told_to_end(const struct watch *w)
{
    struct signalfd_siginfo info;
    while (read(w->signal, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGTERM)
            return true;
    }
    return false;
}

/* Returns when it is over. A host that died without a word is known by the end of its process, or of its
 * reading end of our log, or of our output: it may be init's child or none of our parents. */
static void wait_for_end(const struct program *p)
{
    const struct watch *w = &p->watch;
    pid_t parent = getppid();
    enum { STOP, SIGNAL, PARENT, LOG, OUTPUT, WATCHED };
    struct pollfd fds[WATCHED] = {
        [STOP] = {.fd = w->stop, .events = POLLIN},     [SIGNAL] = {.fd = w->signal, .events = POLLIN},
        [PARENT] = {.fd = w->parent, .events = POLLIN}, /* -1 is passed over */
        [LOG] = {.fd = STDERR_FILENO, .events = 0},     [OUTPUT] = {.fd = p->handshake_fd, .events = 0},
    };
    for (;;) {
        int n = poll(fds, WATCHED, w->parent >= 0 ? -1 : 1000);
        if (n < 0 && errno != EINTR)
            return;
        if (n > 0 && (fds[STOP].revents | fds[PARENT].revents) != 0)
            return;
        if (n > 0 && ((fds[LOG].revents | fds[OUTPUT].revents) & (POLLERR | POLLHUP)) != 0)
            return;
        if (n > 0 && fds[SIGNAL].revents != 0 && told_to_end(w))
            return;
        if (fds[LOG].revents & POLLNVAL)
            fds[LOG].fd = -1; /* closed by the plugin: it says nothing any more */
        if (w->parent < 0 && getppid() != parent)
            return;
    }
}

/* --- End --- */

static void *shut_down(void *arg)
{
    struct program *p = arg;
    rpc_server_shutdown(p->server, GRACE_NS);
    uint64_t one = 1;
    (void)!write(p->down_fd, &one, sizeof one);
    return NULL;
}

/* Operations cannot be interrupted. Those that do not return are not waited for: false. */
static bool stop_serving(struct program *p)
{
    pthread_t thread;
    atomic_store(&p->env.stopping, true);
    kit_listeners_finish(&p->env);
    if (pthread_create(&thread, NULL, shut_down, p) != 0)
        return false;
    int64_t until = cs_mono_ns(&cs_clock_system) + END_WAIT_NS;
    struct pollfd fd = {.fd = p->down_fd, .events = POLLIN};
    for (int64_t left; (left = until - cs_mono_ns(&cs_clock_system)) > 0;) {
        if (poll(&fd, 1, (int)(left / CS_NS_PER_MS) + 1) == 1) {
            (void)pthread_join(thread, NULL);
            return true;
        }
    }
    (void)pthread_detach(thread);
    return false;
}

static void close_fds(struct program *p)
{
    int fds[] = {p->watch.stop, p->watch.signal, p->watch.parent, p->handshake_fd, p->down_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

static int run(struct program *p, const struct cspire_plugin *plugin, const struct kit_kind *kind,
               const char *name)
{
    struct cs_err e = {0};
    cs_code code = start(p, plugin, kind, &e);
    if (code == CS_OK)
        wait_for_end(p);
    else
        fprintf(stderr, "%s: %s\n", name, e.text);
    if (p->server != NULL && !stop_serving(p)) {
        cspire_logf(&p->env, CSPIRE_ERROR, "the plugin ends with an operation that does not return");
        kit_socket_remove(&p->socket);
        return -1;
    }
    rpc_server_free(p->server);
    kit_env_free(&p->env);
    kit_socket_remove(&p->socket);
    close_fds(p);
    return code == CS_OK ? 0 : 1;
}

int cspire_plugin_main(int argc, char **argv, const struct cspire_plugin *plugin)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "plugin";
    struct cs_err e = {0};
    if (kit_plugin_check(plugin, &e) != CS_OK) {
        fprintf(stderr, "%s: %s\n", name, e.text);
        return 1;
    }
    const struct kit_kind *kind = kit_kind_find(plugin->kind);
    if (!started_by_host(kind)) {
        explain(name, kind);
        return 1;
    }
    cs_mem_tune();
    struct program *p = cs_calloc(1, sizeof *p);
    if (p == NULL) {
        fprintf(stderr, "%s: no memory\n", name);
        return 1;
    }
    p->watch = (struct watch){-1, -1, -1};
    p->handshake_fd = p->down_fd = -1;
    int status = run(p, plugin, kind, name);
    if (status < 0)
        return 1; /* threads still use p */
    cs_free(p);
    return status;
}
