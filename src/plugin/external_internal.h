/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the host of external plugins. A plugin_external is what the catalog holds; each start of its
 * program is a plugin_run, which ends with the process, or takes it along. Watching happens on the runner's
 * loop, everything that waits for a plugin in a caller's thread or on the runner's pool. [loop]  the loop's
 * thread only [lock]  under plugin_external.lock [const] set before anybody else sees it
 */
#ifndef CS_PLUGIN_EXTERNAL_INTERNAL_H
#define CS_PLUGIN_EXTERNAL_INTERNAL_H

#include "loop/loop.h"
#include "plugin/external.h"
#include "plugin/handshake.h"
#include "plugin/hclog.h"
#include "plugin/lines.h"
#include "plugin/spawn.h"

#include <pthread.h>
#include <stdatomic.h>

/* go-plugin's and SPIRE's times. */
#define PLUGIN_START_NS (60 * CS_NS_PER_S) /* from the start to the handshake */
#define PLUGIN_DEINIT_NS (10 * CS_NS_PER_S)
#define PLUGIN_EXIT_NS (2 * CS_NS_PER_S) /* from the call to leave to the end by force */
/* Ours. */
#define PLUGIN_INIT_NS (60 * CS_NS_PER_S)
#define PLUGIN_CONFIGURE_NS (300 * CS_NS_PER_S)
#define PLUGIN_CONNECT_NS (10 * CS_NS_PER_S)
#define PLUGIN_HEALTH_EVERY_NS (60 * CS_NS_PER_S)
#define PLUGIN_HEALTH_NS (30 * CS_NS_PER_S)
#define PLUGIN_PAUSE_FIRST_NS (500 * CS_NS_PER_MS) /* before the first new start; doubles */
#define PLUGIN_PAUSE_MAX_NS (60 * CS_NS_PER_S)
#define PLUGIN_STEADY_NS (60 * CS_NS_PER_S) /* who ran so long begins with short pauses again */
/* Longest message taken of a plugin (go-plugin itself has no limit). */
#define PLUGIN_MESSAGE_MAX ((size_t)16 * 1024 * 1024)
/* More names of services than any plugin has. */
#define PLUGIN_SERVICES_MAX 64

#define PLUGIN_INIT_SERVICE "spire.service.private.init.v1.Init"

#define PLUGIN_FOLDER_MAX 108
struct plugin_runner {
    struct cs_log log;
    const struct cs_clock *clock;
    struct loop *loop;
    struct loop_pool *pool;         /* new starts and looks at the health of plugins */
    char folder[PLUGIN_FOLDER_MAX]; /* for sockets; only for this user */
    int folder_lock;                /* held while it is in use */
    struct rpc_server *server;
    pthread_mutex_t lock;
    struct plugin_external *plugins; /* under lock */
    atomic_bool stopping;
    _Atomic unsigned runs;                        /* counts them, for the names of their folders */
    int64_t health_every_ns, health_ns, pause_ns; /* [const]; tests have other times */
};

/* One start of the program. */
struct plugin_run {
    _Atomic unsigned users;    /* who calls it, or may: the client lives as long */
    _Atomic unsigned refs;     /* all users together, and the loop while there is a process */
    struct plugin_external *x; /* [const] outlives the calls */
    struct plugin_runner *r;   /* [const] */
    char *folder;              /* [const] its sockets */
    int program;               /* what was hashed; plugin_spawn takes it */

    struct plugin_process process;                 /* [loop] */
    int pidfd;                                     /* [loop] -1: the kernel has none */
    struct event *on_exit, *on_out, *on_err;       /* [loop] */
    struct cs_buf first;                           /* [loop] standard output up to the handshake */
    struct plugin_lines err_lines, stdio_lines[2]; /* [loop] */
    struct plugin_hclog log;                       /* [loop] */
    char *subsystem;                               /* [const] */
    struct rpc_stream *broker, *stdio;             /* [loop] once they are open */

    bool spoke, exited;                /* [lock] */
    bool hung;                         /* [lock] killed since it did not answer */
    int status;                        /* [lock] once exited */
    struct cs_err spoken;              /* [lock] what is wrong with the handshake */
    struct plugin_handshake handshake; /* [lock] */

    atomic_bool closing;       /* its calls go on although everything ends */
    struct rpc_client *client; /* [const] after the start */
};

struct plugin_external {
    struct plugin_runner *r;              /* [const] */
    const struct plugin_env *env;         /* [const] */
    char *name, *type, *path;             /* [const] */
    char **args;                          /* [const] */
    size_t arg_count;                     /* [const] */
    uint8_t checksum[32];                 /* [const] */
    bool has_checksum;                    /* [const] */
    struct loop_timer *timer;             /* [loop] the next start, or the next look at its health */
    struct plugin_external *next, **prev; /* under the runner's lock */
    _Atomic pid_t group;                  /* process group of the run; 0: none */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct plugin_run *run; /* [lock] referenced; NULL: it is not running */
    struct plugin_run *old; /* [lock] referenced; a run that ended and was not let go of yet */
    bool busy;              /* [lock] a job of the pool is at it */
    atomic_bool ending;
    char why[128];         /* [lock] why it is not running */
    unsigned failures;     /* [lock] starts in a row that did not last */
    int64_t up_since;      /* [lock] monotonic */
    struct cs_buf config;  /* [lock] the latest that was accepted */
    bool configured;       /* [lock] */
    unsigned config_count; /* [lock] changes with it */
    char **services;       /* [lock] one allocation */
    size_t service_count;  /* [lock] */
};

/* external_runner.c */
/* Runs fn(arg) on the loop and waits for it. CS_UNAVAILABLE: it did not run. */
CS_CHECKED cs_code plugin_runner_do(struct plugin_runner *r, void (*fn)(void *arg), void *arg,
                                    struct cs_err *e);
/* The same for what cannot be left undone: tried until there is memory. */
void plugin_runner_must(struct plugin_runner *r, void (*fn)(void *arg), void *arg);
/* A cond that waits by the monotonic clock. */
void plugin_cond_init(pthread_cond_t *cond);

/* external_folder.c */
/* Makes the folder and locks it; removes those that nobody holds. */
CS_CHECKED cs_code plugin_folder_make(char out[PLUGIN_FOLDER_MAX], int *lock, struct cs_err *e);
void plugin_folder_remove(const char *path); /* with what is in it */

/* external.c */
bool plugin_external_stopped(const struct plugin_external *x);
/* [loop] A run ended. */
void plugin_external_on_exit(struct plugin_external *x, struct plugin_run *run);

/* external_run.c */
/* Starts the program up to its answer to Init; *services is one allocation. On failure nothing of it is left.
 */
CS_CHECKED cs_code plugin_run_start(struct plugin_external *x, struct plugin_run **out, char ***services,
                                    size_t *count, struct cs_err *e);
/* Deinit and a graceful end, or at once by force; returns when the process is gone. The caller's reference
 * stays. */
void plugin_run_stop(struct plugin_run *run, bool graceful);
void plugin_run_use(struct plugin_run *run);
void plugin_run_leave(struct plugin_run *run); /* not on the loop; NULL is fine */
void plugin_run_unref(struct plugin_run *run); /* the loop's reference, or that of all users */
/* Any thread. */
void plugin_run_kill(struct plugin_run *run);

/* external_call.c */
CS_CHECKED cs_code plugin_run_unary(struct plugin_run *run, const char *path, const ProtobufCMessage *request,
                                    const ProtobufCMessageDescriptor *response_type, struct cs_arena *a,
                                    ProtobufCMessage **response, int64_t deadline_ns, struct cs_err *e);
CS_CHECKED cs_code plugin_run_configure(struct plugin_run *run, struct cs_slice data, struct cs_err *e);

/* external_watch.c: on the loop */
/* Starts the program and watches it. arg: struct plugin_launch. */
struct plugin_launch {
    struct plugin_run *run;
    cs_code code;
    struct cs_err *e;
};
void plugin_watch_launch(void *launch);
/* Frees the streams. */
void plugin_watch_close(void *run);
/* A message of the plugin's standard output or error that came as a gRPC stream; or the stream's end. */
void plugin_watch_stdio(void *run);
void plugin_watch_broker(void *run);

/* hostservices.c */
#define PLUGIN_HOST_SERVICES_MAX 3
/* Names of the host services of env; returns how many. */
size_t plugin_host_names(const struct plugin_env *env, const char *out[PLUGIN_HOST_SERVICES_MAX]);
CS_CHECKED cs_code plugin_host_server_new(struct plugin_runner *r, struct rpc_server **out, struct cs_err *e);
/* The address of the server, for the broker. */
void plugin_host_address(const struct plugin_runner *r, char out[128]);

#endif
