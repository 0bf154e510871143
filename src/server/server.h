/* SPDX-License-Identifier: Apache-2.0
 *
 * The server as a whole: what it is made of, and in which order it comes up and goes down. Passed
 * around inside src/server; the parts only know the headers of the parts they use.
 */
#ifndef CS_SERVER_SERVER_H
#define CS_SERVER_SERVER_H

#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "plugin/catalog.h"

struct server_config;
struct ds;
struct bundlestore;
struct ca;
struct ca_manager;
struct server_svid;
struct server_health;
struct server_upkeep;
struct api;
struct rpc_server;

/* Built in this order, freed in the reverse order. */
struct server {
    const struct server_config *cfg; /* borrowed */
    const struct cs_clock *clock;
    struct cs_log_sink *sink; /* borrowed: SIGUSR2 reopens it */
    struct cs_log log;
    int64_t started_ns; /* monotonic */
    struct ds *ds;
    struct catalog *catalog;
    struct bundlestore *bundles;
    struct ca *ca;
    struct ca_manager *ca_manager;
    struct server_svid *svid; /* the server's own certificate */
    struct server_health *health;
    struct api *api;
    struct rpc_server *rpc;
    struct loop *loop;      /* main thread: signals, timers, health listener */
    struct loop_pool *pool; /* one thread: rotation, pruning, health checks */
};

#endif
