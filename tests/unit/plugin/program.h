/* SPDX-License-Identifier: Apache-2.0
 *
 * A plugin for tests of the host: the test's own program, started again with "plugin" as its first argument.
 * It speaks go-plugin's and SPIRE's protocol and, by its second argument and its configuration, breaks it.
 */
#ifndef CS_TESTS_PLUGIN_PROGRAM_H
#define CS_TESTS_PLUGIN_PROGRAM_H

#include "proto/proto.h"
#include "rpc/client.h"
#include "rpc/server.h"

#include "goplugin.pb-c.h"
#include "health.pb-c.h"
#include "sdk_config.pb-c.h"
#include "sdk_host_agentstore.pb-c.h"
#include "sdk_host_identityprovider.pb-c.h"
#include "sdk_host_metrics.pb-c.h"
#include "sdk_init.pb-c.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PROGRAM_TYPE "Notifier"
#define PROGRAM_SERVICE "test.Plugin"

struct program {
    const char *mode;
    char config[256];       /* the latest */
    char host_address[128]; /* as the broker told */
    char host_names[512];   /* as Init told */
    struct loop *loop;
};
extern char **environ;

static inline void program_note(Configv1__ValidateResponse *out, struct cs_arena *a, const char *text)
{
    char **grown = cs_arena_alloc(a, (out->n_notes + 1) * sizeof *grown);
    if (out->n_notes > 0)
        memcpy(grown, out->notes, out->n_notes * sizeof *grown);
    grown[out->n_notes++] = cs_arena_strdup(a, text);
    out->notes = grown;
}

/* What the three host services answer. */
static inline void program_ask_host(struct program *p, struct cs_arena *a, Configv1__ValidateResponse *out)
{
    const struct rpc_client_config cfg = {.unix_path = p->host_address, .connect_ns = 5 * CS_NS_PER_S};
    struct rpc_client *c = NULL;
    struct cs_err e = {0};
    program_note(out, a, p->host_names);
    if (p->loop == NULL && (loop_new("plugin", &p->loop, &e) != CS_OK || loop_start(p->loop, &e) != CS_OK))
        return;
    if (rpc_client_new(p->loop, &cfg, &c, &e) != CS_OK)
        return;
    struct cs_buf in = {0}, resp = {0};
    ProtobufCMessage *m = NULL;
    if (rpc_client_unary(c,
                         "/spire.hostservice.server.identityprovider.v1.IdentityProvider/FetchX509Identity",
                         cs_buf_slice(&in), &resp, NULL, 0, CS_NS_PER_S * 5, NULL, &e) != CS_OK)
        program_note(out, a, e.text);
    else if (proto_unpack(a, &identityproviderv1__fetch_x509_identity_response__descriptor,
                          cs_buf_slice(&resp), &m, &e) == CS_OK) {
        const Identityproviderv1__FetchX509IdentityResponse *r = (const void *)m;
        program_note(out, a,
                     cs_arena_printf(a, "%s %zu %zu", r->bundle->trust_domain, r->identity->n_cert_chain,
                                     r->identity->private_key.len));
    }
    Agentstorev1__GetAgentInfoRequest agent = AGENTSTOREV1__GET_AGENT_INFO_REQUEST__INIT;
    agent.agent_id = (char *)"spiffe://example.org/spire/agent/x";
    cs_buf_free(&resp);
    (void)!proto_pack(&agent.base, &in, &e);
    cs_code rc = rpc_client_unary(c, "/spire.hostservice.server.agentstore.v1.AgentStore/GetAgentInfo",
                                  cs_buf_slice(&in), &resp, NULL, 0, CS_NS_PER_S * 5, NULL, &e);
    program_note(out, a, rc == CS_OK ? "known" : e.text);
    Metricsv1__IncrCounterRequest metric = METRICSV1__INCR_COUNTER_REQUEST__INIT;
    Metricsv1__Label label = METRICSV1__LABEL__INIT, *labels[] = {&label};
    char *key[] = {(char *)"one", (char *)"two"};
    label.name = (char *)"colour";
    label.value = (char *)"blue";
    metric.n_key = 2;
    metric.key = key;
    metric.val = 2.5F;
    metric.n_labels = 1;
    metric.labels = labels;
    cs_buf_free(&in);
    cs_buf_free(&resp);
    (void)!proto_pack(&metric.base, &in, &e);
    rc = rpc_client_unary(c, "/spire.hostservice.common.metrics.v1.Metrics/IncrCounter", cs_buf_slice(&in),
                          &resp, NULL, 0, CS_NS_PER_S * 5, NULL, &e);
    program_note(out, a, rc == CS_OK ? "counted" : e.text);
    cs_buf_free(&in);
    cs_buf_free(&resp);
    rpc_client_free(c);
}

/* The names of its open descriptors beyond the standard ones that lead to files. */
static inline void program_list_files(struct cs_arena *a, Configv1__ValidateResponse *out)
{
    DIR *d = opendir("/proc/self/fd");
    const struct dirent *f;
    while (d != NULL && (f = readdir(d)) != NULL) {
        char path[300], target[300];
        snprintf(path, sizeof path, "/proc/self/fd/%s", f->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        if (n > 0 && target[0] == '/') {
            target[n] = '\0';
            program_note(out, a, target);
        }
    }
    if (d != NULL)
        (void)closedir(d);
}

/* Words of a configuration that do something at once, in any method that takes one. */
static inline cs_code program_obey(struct program *p, const char *word, struct cs_err *e)
{
    (void)p;
    if (strcmp(word, "exit") == 0) {
        fprintf(stderr, "last words\n");
        _exit(7);
    }
    if (strcmp(word, "kill") == 0)
        (void)raise(SIGKILL);
    if (strcmp(word, "hang") == 0)
        sleep(3600);
    if (strcmp(word, "bad") == 0)
        return cs_fail(e, CS_INVALID, "no good");
    return CS_OK;
}

static inline cs_code program_init(struct rpc_call *call, void *service, struct cs_slice request,
                                   struct cs_buf *response, struct cs_err *e)
{
    struct program *p = service;
    ProtobufCMessage *m = NULL;
    CS_TRY(proto_unpack(rpc_call_arena(call), &initv1__init_request__descriptor, request, &m, e));
    const Initv1__InitRequest *in = (const void *)m;
    for (size_t i = 0; i < in->n_host_service_names; i++) {
        size_t n = strlen(p->host_names);
        snprintf(p->host_names + n, sizeof p->host_names - n, "%s%s", n > 0 ? " " : "",
                 strrchr(in->host_service_names[i], '.') + 1);
    }
    if (strcmp(p->mode, "no init") == 0)
        return cs_fail(e, CS_UNIMPLEMENTED, "unknown service");
    static char *names[] = {(char *)PROGRAM_SERVICE, (char *)"spire.service.common.config.v1.Config",
                            (char *)"test.Other"};
    Initv1__InitResponse out = INITV1__INIT_RESPONSE__INIT;
    out.n_plugin_service_names = strcmp(p->mode, "nothing") == 0 ? 0 : strcmp(p->mode, "plain") == 0 ? 1 : 3;
    out.plugin_service_names = names;
    return proto_pack(&out.base, response, e);
}

static inline cs_code program_deinit(struct rpc_call *call, void *service, struct cs_slice request,
                                     struct cs_buf *response, struct cs_err *e)
{
    const struct program *p = service;
    (void)call;
    (void)request;
    (void)response;
    return strcmp(p->mode, "no goodbye") == 0 ? cs_fail(e, CS_ABORTED, "stays") : CS_OK;
}

static inline cs_code program_configure(struct rpc_call *call, void *service, struct cs_slice request,
                                        struct cs_buf *response, struct cs_err *e)
{
    struct program *p = service;
    ProtobufCMessage *m = NULL;
    (void)response;
    CS_TRY(proto_unpack(rpc_call_arena(call), &configv1__configure_request__descriptor, request, &m, e));
    const Configv1__ConfigureRequest *in = (const void *)m;
    CS_TRY(program_obey(p, in->hcl_configuration, e));
    snprintf(p->config, sizeof p->config, "%s %s", in->core_configuration->trust_domain,
             in->hcl_configuration);
    return CS_OK;
}

/* Answers "config", "host", "files", "env", "pid"; obeys; and gives back everything else. */
static inline cs_code program_validate(struct rpc_call *call, void *service, struct cs_slice request,
                                       struct cs_buf *response, struct cs_err *e)
{
    struct program *p = service;
    ProtobufCMessage *m = NULL;
    struct cs_arena *a = rpc_call_arena(call);
    CS_TRY(proto_unpack(a, &configv1__validate_request__descriptor, request, &m, e));
    const char *word = ((const Configv1__ValidateRequest *)(const void *)m)->hcl_configuration;
    Configv1__ValidateResponse out = CONFIGV1__VALIDATE_RESPONSE__INIT;
    if (strcmp(word, "config") == 0)
        program_note(&out, a, p->config);
    else if (strcmp(word, "pid") == 0)
        program_note(&out, a, cs_arena_printf(a, "%ld", (long)getpid()));
    else if (strcmp(word, "host") == 0)
        program_ask_host(p, a, &out);
    else if (strcmp(word, "files") == 0)
        program_list_files(a, &out);
    else if (strcmp(word, "env") == 0)
        for (char **v = environ; *v != NULL; v++)
            program_note(&out, a, *v);
    else {
        CS_TRY(program_obey(p, word, e));
        program_note(&out, a, word);
    }
    return proto_pack(&out.base, response, e);
}

static inline cs_code program_shutdown(struct rpc_call *call, void *service, struct cs_slice request,
                                       struct cs_buf *response, struct cs_err *e)
{
    const struct program *p = service;
    (void)call;
    (void)request;
    (void)response;
    (void)e;
    if (strcmp(p->mode, "stubborn") != 0)
        kill(getpid(), SIGUSR1); /* main takes it */
    return CS_OK;
}

static inline cs_code program_health(struct rpc_call *call, void *service, struct cs_slice request,
                                     struct cs_buf *response, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)request;
    Healthv1__HealthCheckResponse out = HEALTHV1__HEALTH_CHECK_RESPONSE__INIT;
    out.status = HEALTHV1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    return proto_pack(&out.base, response, e);
}

static inline cs_code program_broker(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                                     struct cs_err *e)
{
    struct program *p = service;
    ProtobufCMessage *m = NULL;
    (void)state;
    CS_TRY(proto_unpack(rpc_call_arena(call), &goplugin__conn_info__descriptor, msg, &m, e));
    const Goplugin__ConnInfo *in = (const void *)m;
    if (in->service_id == 1 && strcmp(in->network, "unix") == 0)
        snprintf(p->host_address, sizeof p->host_address, "%s", in->address);
    return CS_OK;
}

static inline cs_code program_stdio(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                                    struct cs_err *e)
{
    static const char *const said[] = {"printed by the plugin\n", "and its error ", "in two pieces\n"};
    (void)service;
    (void)state;
    (void)msg;
    for (int i = 0; i < 3; i++) {
        Goplugin__StdioData d = GOPLUGIN__STDIO_DATA__INIT;
        CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
        d.channel = i == 0 ? GOPLUGIN__STDIO_DATA__CHANNEL__STDOUT : GOPLUGIN__STDIO_DATA__CHANNEL__STDERR;
        d.data = (ProtobufCBinaryData){strlen(said[i]), (uint8_t *)said[i]};
        CS_TRY(proto_pack(&d.base, &out, e));
        CS_TRY(rpc_call_send(call, &out));
    }
    return CS_OK;
}

/* Each message back; "end" ends. */
static inline cs_code program_echo(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                                   struct cs_err *e)
{
    ProtobufCMessage *m = NULL;
    (void)state;
    CS_TRY(proto_unpack(rpc_call_arena(call), &configv1__validate_request__descriptor, msg, &m, e));
    const char *word = ((const Configv1__ValidateRequest *)(const void *)m)->hcl_configuration;
    CS_TRY(program_obey(service, word, e));
    if (strcmp(word, "end") == 0) {
        rpc_call_finish(call, CS_OK, NULL);
        return CS_OK;
    }
    CS_CLEANUP(cs_buf_free) struct cs_buf out = {0};
    cs_buf_add_slice(&out, msg);
    return rpc_call_send(call, &out);
}
static inline cs_code program_opened(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)state;
    (void)e;
    return CS_OK;
}
static inline void program_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    (void)service;
    (void)state;
}
static inline cs_code program_stay(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)state;
    (void)e;
    return CS_OK;
}
#define PROGRAM_STREAM(m, h)                                                                                 \
    {                                                                                                        \
        .open = program_opened, .message = (m), .half_close = (h), .closed = program_closed                  \
    }
static const struct rpc_stream_ops program_broker_ops = PROGRAM_STREAM(program_broker, program_stay);
static const struct rpc_stream_ops program_stdio_ops = PROGRAM_STREAM(program_stdio, program_stay);
static const struct rpc_stream_ops program_echo_ops = PROGRAM_STREAM(program_echo, NULL);
#undef PROGRAM_STREAM

static const struct rpc_method program_init_methods[] = {
    {.path = "/spire.service.private.init.v1.Init/Init", .run = RPC_INLINE, .unary = program_init},
    {.path = "/spire.service.private.init.v1.Init/Deinit", .run = RPC_INLINE, .unary = program_deinit},
};
static const struct rpc_method program_config_methods[] = {
    {.path = "/spire.service.common.config.v1.Config/Configure",
     .run = RPC_WORKER,
     .unary = program_configure},
    {.path = "/spire.service.common.config.v1.Config/Validate", .run = RPC_WORKER, .unary = program_validate},
};
static const struct rpc_method program_plugin_methods[] = {
    {.path = "/plugin.GRPCBroker/StartStream", .run = RPC_INLINE, .stream = &program_broker_ops},
};
static const struct rpc_method program_stdio_methods[] = {
    {.path = "/plugin.GRPCStdio/StreamStdio", .run = RPC_INLINE, .stream = &program_stdio_ops},
};
static const struct rpc_method program_controller_methods[] = {
    {.path = "/plugin.GRPCController/Shutdown", .run = RPC_INLINE, .unary = program_shutdown},
};
static const struct rpc_method program_health_methods[] = {
    {.path = "/grpc.health.v1.Health/Check", .run = RPC_INLINE, .unary = program_health},
};
static const struct rpc_method program_test_methods[] = {
    {.path = "/" PROGRAM_SERVICE "/Echo", .run = RPC_INLINE, .stream = &program_echo_ops},
};

/* Words that are said in place of a handshake. */
static inline bool program_misbehaves(const char *mode)
{
    if (strcmp(mode, "garbage") == 0)
        printf("hello, I am \"no\" plugin\n");
    else if (strcmp(mode, "long") == 0)
        for (int i = 0; i < 10000; i++)
            printf("no end ");
    else if (strcmp(mode, "nowhere") == 0)
        printf("1|1|unix|/nonexistent/socket|grpc\n");
    else if (strcmp(mode, "exit") == 0)
        _exit(3);
    else if (strcmp(mode, "unended") == 0) {
        printf("no end of line");
        fflush(stdout);
        close(1);
    } else if (strcmp(mode, "silent") != 0)
        return false;
    fflush(stdout);
    return true;
}

static inline int program_main(const char *mode)
{
    const char *folder = getenv("PLUGIN_UNIX_SOCKET_DIR"), *cookie = getenv(PROGRAM_TYPE);
    struct program p = {.mode = mode};
    if (cookie == NULL || strcmp(cookie, PROGRAM_TYPE) != 0 || folder == NULL)
        return 2;
    if (program_misbehaves(mode)) {
        sleep(3600);
        return 0;
    }
    sigset_t leave;
    int signum;
    sigemptyset(&leave);
    sigaddset(&leave, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &leave, NULL);
    char path[200];
    snprintf(path, sizeof path, "%s/plugin", folder);
#define PROGRAM_ROWS(n, a)                                                                                   \
    {                                                                                                        \
        .name = (n), .methods = (a), .count = sizeof(a) / sizeof(a)[0], .ctx = &p                            \
    }
    const struct rpc_service services[] = {
        PROGRAM_ROWS("spire.service.private.init.v1.Init", program_init_methods),
        PROGRAM_ROWS("spire.service.common.config.v1.Config", program_config_methods),
        PROGRAM_ROWS("plugin.GRPCBroker", program_plugin_methods),
        PROGRAM_ROWS("plugin.GRPCStdio", program_stdio_methods),
        PROGRAM_ROWS("plugin.GRPCController", program_controller_methods),
        PROGRAM_ROWS("grpc.health.v1.Health", program_health_methods),
        PROGRAM_ROWS(PROGRAM_SERVICE, program_test_methods),
    };
#undef PROGRAM_ROWS
    const struct rpc_server_config cfg = {.io_threads = 1};
    const struct rpc_listener l = {.unix_path = path,
                                   .unix_mode = 0700,
                                   .services = services,
                                   .service_count = sizeof services / sizeof services[0]};
    struct rpc_server *s = NULL;
    struct cs_err e;
    if (rpc_server_new(&cfg, &s, &e) != CS_OK || rpc_server_listen(s, &l, &e) != CS_OK) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    printf("1|1|unix|%s|grpc|\n", path);
    fflush(stdout);
    fprintf(stderr, "{\"@level\":\"info\",\"@message\":\"plugin is up\",\"mode\":\"%s\"}\n", mode);
    (void)sigwait(&leave, &signum);
    _exit(0);
}

#endif
