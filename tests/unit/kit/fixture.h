/* SPDX-License-Identifier: Apache-2.0
 *
 * The describing plugin, served by the kit on a Unix socket, and a client for it.
 */
#ifndef CS_TESTS_KIT_FIXTURE_H
#define CS_TESTS_KIT_FIXTURE_H

#include "describe.h"
#include "kit/start.h"
#include "sdk_init.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct kit_fixture {
    struct cspire_plugin plugin;
    struct cspire_env env;
    struct rpc_health health;
    struct rpc_service services[KIT_SERVICES_MAX];
    struct rpc_server *server;
    struct kit_socket socket;
    struct loop *loop;
    struct rpc_client *client;
    struct cs_arena *arena;
};

static inline int kf_serving(void *arg, struct cs_slice service)
{
    (void)arg;
    return service.len == 0 ? 1 : -1;
}

#define KF_OK(call, e)                                                                                       \
    do {                                                                                                     \
        if ((call) != CS_OK)                                                                                 \
            fail_msg("%s", (e).text);                                                                        \
    } while (0)

static inline void kf_up_plugin(struct kit_fixture *f, struct cspire_plugin plugin)
{
    struct cs_err e = {0};
    memset(f, 0, sizeof *f);
    d_reset();
    f->plugin = plugin;
    KF_OK(kit_plugin_check(&f->plugin, &e), e);
    kit_env_init(&f->env, &f->plugin, kit_kind_find(plugin.kind));
    f->env.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->health.status = kf_serving;
    size_t count = kit_services(&f->env, &f->health, f->services);
    KF_OK(kit_socket_new(NULL, NULL, &f->socket, &e), e);
    KF_OK(rpc_server_new(&(struct rpc_server_config){.io_threads = 1, .workers = 4}, &f->server, &e), e);
    struct rpc_listener l = {
        .unix_path = f->socket.path, .unix_mode = 0600, .services = f->services, .service_count = count};
    KF_OK(rpc_server_listen(f->server, &l, &e), e);
    KF_OK(loop_new("client", &f->loop, &e), e);
    KF_OK(loop_start(f->loop, &e), e);
    KF_OK(rpc_client_new(f->loop, &(struct rpc_client_config){.unix_path = f->socket.path}, &f->client, &e),
          e);
    f->arena = cs_arena_new(0, 0);
    assert_non_null(f->arena);
}

static inline void kf_up(struct kit_fixture *f, enum cspire_kind kind)
{
    kf_up_plugin(f, d_plugin(kind));
}

static inline void kf_down(struct kit_fixture *f)
{
    rpc_client_free(f->client);
    rpc_server_shutdown(f->server, CS_NS_PER_S);
    rpc_server_free(f->server);
    loop_free(f->loop);
    close(f->env.stop_fd);
    kit_env_free(&f->env);
    kit_socket_remove(&f->socket);
    cs_arena_free(f->arena);
    assert_int_equal(d_self.sessions, 0);
    assert_int_equal(d_self.created, d_self.destroyed);
    d_reset();
}

/* One unary call; *out (may be NULL) lives in the fixture's arena. */
static inline cs_code kf_call(struct kit_fixture *f, const char *path, const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *type, void *out, struct cs_err *e)
{
    struct cs_buf req CS_CLEANUP(cs_buf_free) = {0}, resp CS_CLEANUP(cs_buf_free) = {0};
    *e = (struct cs_err){0};
    if (out != NULL)
        *(void **)out = NULL;
    CS_TRY(proto_pack(request, &req, e));
    CS_TRY(rpc_client_unary(f->client, path, cs_buf_slice(&req), &resp, NULL, 0, 20 * CS_NS_PER_S, NULL, e));
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(f->arena, type, cs_buf_slice(&resp), &m, e));
    if (out != NULL)
        *(void **)out = m;
    return CS_OK;
}

static inline cs_code kf_init(struct kit_fixture *f, const char *host_service, Initv1__InitResponse **out,
                              struct cs_err *e)
{
    Initv1__InitRequest req = INITV1__INIT_REQUEST__INIT;
    req.host_service_names = (char **)&host_service;
    req.n_host_service_names = host_service != NULL ? 1 : 0;
    return kf_call(f, "/spire.service.private.init.v1.Init/Init", &req.base,
                   &initv1__init_response__descriptor, out, e);
}

/* Served and initialised. */
static inline void kf_ready(struct kit_fixture *f, enum cspire_kind kind)
{
    struct cs_err e = {0};
    kf_up(f, kind);
    KF_OK(kf_init(f, NULL, NULL, &e), e);
}

static inline void kf_send(struct rpc_stream *s, const ProtobufCMessage *m)
{
    struct cs_err e = {0};
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    KF_OK(proto_pack(m, &out, &e), e);
    KF_OK(rpc_stream_send(s, cs_buf_slice(&out), &e), e);
}

/* The next message; NULL at the end. */
static inline cs_code kf_recv(struct kit_fixture *f, struct rpc_stream *s,
                              const ProtobufCMessageDescriptor *type, void *out, struct cs_err *e)
{
    struct cs_buf msg CS_CLEANUP(cs_buf_free) = {0};
    bool end = false;
    *(void **)out = NULL;
    CS_TRY(rpc_stream_recv(s, &msg, &end, 20 * CS_NS_PER_S, NULL, e));
    if (end)
        return CS_OK;
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(f->arena, type, cs_buf_slice(&msg), &m, e));
    *(void **)out = m;
    return CS_OK;
}

static inline struct rpc_stream *kf_open(struct kit_fixture *f, const char *path,
                                         const struct rpc_metadata *md, size_t md_count)
{
    struct cs_err e = {0};
    struct rpc_stream *s = NULL;
    KF_OK(rpc_stream_open(f->client, path, md, md_count, 0, &s, &e), e);
    return s;
}

/* What the plugin saw since the last time. */
static inline const char *kf_seen(struct kit_fixture *f)
{
    pthread_mutex_lock(&d_self.lock);
    const char *text = cs_arena_strdup(f->arena, cs_buf_cstr(&d_self.seen));
    cs_buf_reset(&d_self.seen);
    pthread_mutex_unlock(&d_self.lock);
    assert_non_null(text);
    return text;
}

static inline ProtobufCBinaryData kf_bytes(const char *s)
{
    return (ProtobufCBinaryData){.len = strlen(s), .data = (uint8_t *)s};
}

#endif
