/* SPDX-License-Identifier: Apache-2.0
 *
 * A call without a network: an agent's request to a handler, run on the test's own thread, on an API
 * over a database that a second handle (another server) writes to as well.
 */
#ifndef CS_TESTS_SERVER_CALL_H
#define CS_TESTS_SERVER_CALL_H

#include "rpc/internal.h"
#include "server/api/handlers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* after the above */
#include <cmocka.h>

#define NOW INT64_C(1790000000)
#define AGENT "spiffe://example.org/spire/agent/x"

struct world {
    char dir[32], path[64];
    struct cs_fake_clock clock;
    struct ds *ours, *theirs;
    struct api *api;
    struct cs_arena *arena;
};

static inline void must(cs_code code, const struct cs_err *e)
{
    if (code != CS_OK)
        fail_msg("%d: %s", code, e->text);
}

static inline struct ds *open_ds(const char *path)
{
    struct cs_err e = {0};
    struct ds *d = NULL;
    const struct ds_options o = {.database_type = "sqlite3", .connection_string = path};
    must(ds_open(&o, &d, &e), &e);
    return d;
}

static inline void world_up(struct world *w, struct ca *ca)
{
    struct cs_err e = {0};
    snprintf(w->dir, sizeof w->dir, "/tmp/cspire-call-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof w->path, "%s/db", w->dir);
    w->ours = open_ds(w->path);
    w->theirs = open_ds(w->path);
    w->arena = cs_arena_new(0, 0);
    const struct api_config cfg = {
        .trust_domain = "example.org", .ds = w->ours, .ca = ca, .clock = &w->clock.clock, .audit_log = true};
    must(api_new(&cfg, &w->api, &e), &e);
}

static inline void world_down(struct world *w)
{
    static const char *const files[] = {"db", "db-wal", "db-shm"};
    api_free(w->api);
    ds_close(w->ours);
    ds_close(w->theirs);
    cs_arena_free(w->arena);
    for (size_t i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", w->dir, files[i]);
        unlink(path);
    }
    rmdir(w->dir);
}

struct fake_call {
    struct api_policy policy;
    struct rpc_method method;
    struct rpc_conn conn;
    struct rpc_call rpc;
    struct api_call *c;
    struct api_peer *peer;
};

static inline void call_up(struct fake_call *f, struct world *w, const char *serial)
{
    struct cs_err e = {0};
    memset(f, 0, sizeof *f);
    f->policy = (struct api_policy){.service = "s", .method = "m", .allow = ALLOW_AGENT};
    f->method = (struct rpc_method){.path = "/s/m", .policy = &f->policy};
    f->rpc.refs = 1;
    f->rpc.conn = &f->conn;
    f->rpc.method = &f->method;
    f->rpc.deadline = INT64_MAX;
    pthread_mutex_init(&f->rpc.lock, NULL);
    must(api_peer_new(AGENT, serial, NOW + 1000, &f->peer, &e), &e);
    struct cs_arena *arena = rpc_call_arena(&f->rpc);
    f->c = cs_arena_zalloc(arena, sizeof *f->c);
    *f->c = (struct api_call){
        .api = w->api, .rpc = &f->rpc, .arena = arena, .policy = &f->policy, .peer = f->peer};
    f->rpc.data = f->c;
}

static inline void call_down(struct fake_call *f)
{
    agent_unref(f->c->agent);
    api_peer_free(f->peer);
    cs_free(f->rpc.detail);
    cs_arena_free(f->rpc.arena);
    pthread_mutex_destroy(&f->rpc.lock);
}

#endif
