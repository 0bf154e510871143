/* SPDX-License-Identifier: Apache-2.0
 *
 * The server as a whole: what it is made of, and in which order it comes up and goes down. Passed
 * around inside src/server; the parts only know the headers of the parts they use.
 */
#ifndef CS_SERVER_SERVER_H
#define CS_SERVER_SERVER_H

#include "base/clock.h"
#include "base/log.h"
#include "crypto/key.h"
#include "loop/loop.h"
#include "plugin/catalog.h"

struct server_config;
struct ds;
struct bundlestore;
struct ca;
struct bundlefeed;
struct ca_manager;
struct server_host;
struct server_svid;
struct peer_verifier;
struct server_health;
struct server_health_check;
struct server_task;
struct api;
struct rpc_server;
struct rpc_health_http;

#define SERVER_CHECKS 4

/* Built in this order by server_build, freed in the reverse order by server_free. */
struct server {
    const struct server_config *cfg; /* borrowed */
    struct cs_log_sink *sink;        /* borrowed: SIGUSR2 reopens it */
    const struct cs_clock *clock;
    struct cs_log log;
    struct crypto_stop stop; /* tells who generates keys that the process is to end */
    _Atomic bool stopping, built;
    struct crypto_stop plugin_stop; /* tells plugins, after a time of grace, that nobody waits any more */
    _Atomic int64_t grace_ends;     /* monotonic; 0: nobody closes the server yet */
    _Atomic bool failing, failed;   /* somebody writes fatal; it is written */
    struct cs_err fatal;            /* why a running server ended by itself */
    struct loop *loop;              /* main thread: signals, timers, health listener */
    struct loop_pool *pool;         /* one thread: pruning, health checks, other servers' changes */
    struct loop_pool *rotation;     /* one thread: authorities and our SVID, which may wait for plugins */
    struct ds *ds;
    struct server_host *host; /* services for plugins */
    struct catalog *catalog;
    struct bundlestore *bundles;
    struct ca *ca;
    struct ca_manager *ca_manager;
    struct server_svid *svid; /* the server's own certificate */
    struct bundlefeed *feed;  /* Notifier and BundlePublisher plugins */
    struct peer_verifier *peers;
    struct rpc_server *rpc;
    struct api *api;
    struct server_health_check *checks; /* SERVER_CHECKS of them */
    struct server_health *health;
    struct rpc_health_http *health_http; /* NULL: no listener configured */
    struct server_task *tasks;
    char *tcp_address; /* as listened on */
    bool listening;
};

/* --- build.c --- */
/* Everything up to, but without, the listeners. `s` has cfg, sink, clock and log set; on failure the
 * caller frees what is there. */
CS_CHECKED cs_code server_build(struct server *s, struct cs_err *e);
/* After server_close. */
void server_free(struct server *s);
/* The kinds of plugins and the environment they get; for server_validate as well. */
struct catalog_config server_catalog_config(const struct server *s);

/* --- endpoints.c --- */
/* Opens the TCP endpoint, the admin socket, and the health listener if there is one. */
CS_CHECKED cs_code server_listen(struct server *s, struct cs_err *e);
/* How long calls may take to end when the server is closed: supervisors wait 5 s. */
#define SERVER_GRACE_NS (3 * CS_NS_PER_S)
/* Drains and closes them. */
void server_close(struct server *s);

/* --- tasks.c --- */
/* What is to be done from time to time, on the pool; timers on the loop. Before the loop runs. */
CS_CHECKED cs_code server_tasks_start(struct server *s, struct cs_err *e);
/* When neither loop nor pool runs any more. */
void server_tasks_free(struct server *s);

#endif
