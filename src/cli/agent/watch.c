/* SPDX-License-Identifier: Apache-2.0
 *
 * spire-agent api watch: prints each X.509 update until interrupted.
 */
#include "base/clock.h"
#include "cli/agent/internal.h"
#include "proto/proto.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#define BACKOFF_STEP_S 1
#define BACKOFF_MAX_S 30

struct watch_opts {
    struct cli_common common;
};

static const struct cli_flag watch_flags[] = {CLI_AGENT_SOCKET_FLAGS(struct watch_opts), CLI_END};

struct watch {
    struct cli_env *env;
    struct cli_session *session;
    struct loop *signals;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct rpc_stream *stream; /* under lock: what an interrupt cancels */
    bool stop;                 /* under lock */
    int64_t last_ns;
};

static void interrupted(int signum, void *arg)
{
    (void)signum;
    struct watch *w = arg;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    if (w->stream != NULL)
        rpc_stream_cancel(w->stream);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

static bool stopping(struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    bool stop = w->stop;
    pthread_mutex_unlock(&w->lock);
    return stop;
}

static cs_code print_update(struct watch *w, const struct cs_buf *msg, struct cs_err *e)
{
    CS_CLEANUP(agt_svids_free) struct agt_svids all = {0};
    ProtobufCMessage *reply;
    CS_TRY(proto_unpack(w->session->arena, &workload__x509_svidresponse__descriptor, cs_buf_slice(msg),
                        &reply, e));
    CS_TRY(agt_svids_parse((const Workload__X509SVIDResponse *)reply, &all, e));
    int64_t now = cs_mono_ns(&cs_clock_system), took = now - w->last_ns;
    w->last_ns = now;
    return agt_svids_print(w->env, &all, took, AGT_WATCH, e);
}

/* Read one stream to its end; `updates` counts what was printed. Always an error in the end. */
static cs_code follow(struct watch *w, struct rpc_stream *stream, unsigned *updates, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf msg = {0};
    for (;;) {
        bool end = false;
        cs_code code = rpc_stream_recv(stream, &msg, &end, -1, NULL, e);
        if (code != CS_OK)
            return cli_rpc_error(code, e);
        if (end)
            return cs_fail(e, CS_UNAVAILABLE, "EOF");
        cs_arena_reset(w->session->arena);
        CS_TRY(print_update(w, &msg, e));
        ++*updates;
    }
}

static cs_code watch_once(struct watch *w, unsigned *updates, struct cs_err *e)
{
    struct rpc_stream *stream = NULL;
    cs_code code = rpc_stream_open(w->session->client, WORKLOAD_SERVICE "FetchX509SVID", w->session->metadata,
                                   w->session->metadata_count, 0, &stream, e);
    if (code != CS_OK)
        return cli_rpc_error(code, e);
    pthread_mutex_lock(&w->lock);
    w->stream = stream;
    if (w->stop)
        rpc_stream_cancel(stream);
    pthread_mutex_unlock(&w->lock);
    code = rpc_stream_send(stream, (struct cs_slice){0}, e); /* X509SVIDRequest is empty */
    if (code == CS_OK)
        code = rpc_stream_close_send(stream, e);
    code = code == CS_OK ? follow(w, stream, updates, e) : cli_rpc_error(code, e);
    pthread_mutex_lock(&w->lock);
    w->stream = NULL;
    pthread_mutex_unlock(&w->lock);
    rpc_stream_free(stream);
    return code;
}

/* Wait `seconds` or until interrupted. */
static void pause_for(struct watch *w, int seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    pthread_mutex_lock(&w->lock);
    while (!w->stop && pthread_cond_timedwait(&w->wake, &w->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&w->lock);
}

static cs_code watch_loop(struct watch *w, struct cs_err *e)
{
    static const char canceled[] = "rpc error: code = Canceled desc = context canceled";
    for (int wait_s = BACKOFF_STEP_S;;) {
        unsigned updates = 0;
        cs_code code = watch_once(w, &updates, e);
        if (stopping(w)) {
            fprintf(w->env->err, "%s\n", canceled);
            return cs_fail(e, CS_CANCELLED, "%s", canceled);
        }
        fprintf(w->env->err, "%s\n", e->text);
        if (code == CS_INVALID)
            return code;
        wait_s = updates > 0 ? BACKOFF_STEP_S : wait_s;
        pause_for(w, wait_s);
        wait_s = wait_s < BACKOFF_MAX_S ? wait_s + BACKOFF_STEP_S : BACKOFF_MAX_S;
    }
}

static void drop_loop(struct loop **l)
{
    loop_free(*l);
}

static cs_code run_watch(struct cli_env *env, void *opts, struct cs_err *e)
{
    struct watch_opts *o = opts;
    struct watch w = {.env = env, .last_ns = cs_mono_ns(&cs_clock_system)};
    CS_CLEANUP(drop_loop) struct loop *signals = NULL;
    CS_AUTO(cli_session) s = NULL;
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.wake, NULL);
    /* the loop that hears the signal exists before any other thread, so that all of them inherit its mask */
    CS_TRY(loop_new("signals", &signals, e));
    CS_TRY(loop_on_signal(signals, SIGINT, interrupted, &w, e));
    CS_TRY(agt_session_open(&o->common, 0, &s, e));
    w.session = s;
    CS_TRY(loop_start(signals, e));
    return watch_loop(&w, e);
}

const struct cli_command agt_watch = {
    .path = "api watch",
    .set_name = "watch",
    .synopsis = "Attaches to the Workload API and prints updates as they're received",
    .flags = watch_flags,
    .opts_size = sizeof(struct watch_opts),
    .run = run_watch,
    .quirks = CLI_FLAG_ERROR_TWICE | CLI_BARE_ERRORS,
};
