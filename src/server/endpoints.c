/* SPDX-License-Identifier: Apache-2.0
 *
 * The listeners: TCP with TLS, the admin socket, and the health listener.
 */
#include "base/file.h"
#include "base/mem.h"
#include "config/server_config.h"
#include "rpc/health_http.h"
#include "rpc/server.h"
#include "server/api/services.h"
#include "server/health.h"
#include "server/peer.h"
#include "server/server.h"
#include "server/svid.h"

#include <string.h>

#define ANY_V4 "0.0.0.0"
#define ANY_V6 "::"

static void log_listener(const struct server *s, const char *msg, const char *network, const char *address)
{
    struct cs_log log = cs_log_sub(s->log, "endpoints");
    cs_log_info(&log, msg, KV("address", address), KV("network", network));
}

static cs_code set_tcp_address(struct server *s, const char *host, struct cs_err *e)
{
    bool v6 = strchr(host, ':') != NULL;
    cs_free(s->tcp_address);
    s->tcp_address = cs_asprintf(v6 ? "[%s]:%u" : "%s:%u", host, (unsigned)s->cfg->bind_port);
    return s->tcp_address != NULL ? CS_OK : cs_nomem(e);
}

static SSL_CTX *current_ctx(void *arg)
{
    return server_svid_ctx(((struct server *)arg)->svid);
}

static cs_code verify_client(void *arg, const struct cs_slice *chain, size_t count, void **conn_data,
                             void (**destroy)(void *), struct cs_err *e)
{
    return peer_verify(((struct server *)arg)->peers, chain, count, conn_data, destroy, e);
}

static cs_code listen_at(struct server *s, struct rpc_listener *l, const char *host, struct cs_err *e)
{
    CS_TRY(set_tcp_address(s, host, e));
    l->tcp_address = s->tcp_address;
    return rpc_server_listen(s->rpc, l, e);
}

static cs_code listen_tcp(struct server *s, struct cs_err *e)
{
    struct rpc_listener l = {
        .tls = {.get_ctx = current_ctx, .verify_client = verify_client, .arg = s},
        .arg = s->api,
        .begin = api_begin,
        .end = api_end,
    };
    l.services = api_services(s->api, API_TCP, &l.service_count);
    /* All addresses means both families where the kernel has both, as Go takes it. */
    bool any = strcmp(s->cfg->bind_address, ANY_V4) == 0;
    if (!any || listen_at(s, &l, ANY_V6, NULL) != CS_OK)
        CS_TRY(listen_at(s, &l, s->cfg->bind_address, e));
    log_listener(s, "Starting Server APIs", "tcp", s->tcp_address);
    return CS_OK;
}

static cs_code make_socket_dir(const char *path, struct cs_err *e)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return CS_OK;
    CS_CLEANUP(cs_freep) char *dir = cs_strndup(path, (size_t)(slash - path));
    if (dir == NULL)
        return cs_nomem(e);
    if (cs_mkdir_all(dir, 0750, e) != CS_OK)
        return cs_wrap(e, "unable to create socket directory");
    return CS_OK;
}

static cs_code listen_unix(struct server *s, struct cs_err *e)
{
    CS_TRY(make_socket_dir(s->cfg->socket_path, e));
    struct rpc_listener l = {
        .unix_path = s->cfg->socket_path,
        .unix_mode = 0770,
        .arg = s->api,
        .begin = api_begin,
        .end = api_end,
    };
    l.services = api_services(s->api, API_ADMIN_SOCKET, &l.service_count);
    CS_TRY(rpc_server_listen(s->rpc, &l, e));
    log_listener(s, "Starting Server APIs", "unix", s->cfg->socket_path);
    return CS_OK;
}

/* A health listener that cannot bind is no reason to deny service; SPIRE warns, too. */
static void listen_health(struct server *s)
{
    const struct config_health *h = &s->cfg->health;
    struct cs_log log = cs_log_sub(s->log, "health");
    if (!h->listener_enabled)
        return;
    const struct rpc_health_http_config cfg = {
        .address = h->bind_address,
        .port = h->bind_port,
        .live_path = h->live_path,
        .ready_path = h->ready_path,
        .live = server_health_json,
        .ready = server_health_json,
        .arg = s->health,
    };
    CS_CLEANUP(cs_freep) char *address = cs_asprintf("%s:%s", h->bind_address, h->bind_port);
    cs_log_info(&log, "Serving health checks", KV("address", address));
    struct cs_err err;
    if (rpc_health_http_start(s->loop, &cfg, &s->health_http, &err) != CS_OK)
        cs_log_warn(&log, "Error serving health checks", KV_ERR(&err));
}

cs_code server_listen(struct server *s, struct cs_err *e)
{
    struct cs_log log = cs_log_sub(s->log, "endpoints");
    cs_log_debug(&log, "Initializing API endpoints");
    CS_TRY(listen_tcp(s, e));
    CS_TRY(listen_unix(s, e));
    s->listening = true;
    listen_health(s);
    return CS_OK;
}

static void log_both(const struct server *s, const char *msg)
{
    log_listener(s, msg, "unix", s->cfg->socket_path);
    log_listener(s, msg, "tcp", s->tcp_address);
}

void server_close(struct server *s)
{
    if (!s->listening)
        return;
    log_both(s, "Stopping Server APIs");
    log_both(s, "Attempting graceful stop");
    rpc_server_shutdown(s->rpc, SERVER_GRACE_NS);
    log_both(s, "Server APIs have stopped");
}
