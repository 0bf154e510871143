/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls to external plugins.
 */
#include "plugin/external_internal.h"
#include "proto/proto.h"

#include "sdk_config.pb-c.h"

/* --- On one run --- */

cs_code plugin_run_unary(struct plugin_run *run, const char *path, const ProtobufCMessage *request,
                         const ProtobufCMessageDescriptor *response_type, struct cs_arena *a,
                         ProtobufCMessage **response, int64_t deadline_ns, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf in = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf out = {.max = PLUGIN_MESSAGE_MAX};
    *response = NULL;
    CS_TRY(proto_pack(request, &in, e));
    CS_TRY(rpc_client_unary(run->client, path, cs_buf_slice(&in), &out, NULL, 0,
                            deadline_ns > 0 ? deadline_ns : PLUGIN_EXTERNAL_DEADLINE_NS, NULL, e));
    return proto_unpack(a, response_type, cs_buf_slice(&out), response, e);
}

cs_code plugin_run_configure(struct plugin_run *run, struct cs_slice data, struct cs_err *e)
{
    Configv1__ConfigureRequest req = CONFIGV1__CONFIGURE_REQUEST__INIT;
    Configv1__CoreConfiguration core = CONFIGV1__CORE_CONFIGURATION__INIT;
    ProtobufCMessage *m = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    cs_buf_add_slice(&text, data);
    if (a == NULL || !cs_buf_ok(&text))
        return cs_nomem(e);
    core.trust_domain = (char *)run->x->env->trust_domain;
    req.core_configuration = &core;
    req.hcl_configuration = (char *)cs_buf_cstr(&text);
    return plugin_run_unary(run, "/" PLUGIN_CONFIG_SERVICE "/Configure", &req.base,
                            &configv1__configure_response__descriptor, a, &m, PLUGIN_CONFIGURE_NS, e);
}

/* --- On the run there is --- */

/* Release with plugin_run_leave. */
static cs_code use(struct plugin_external *x, struct plugin_run **out, struct cs_err *e)
{
    cs_code rc = CS_OK;
    pthread_mutex_lock(&x->lock);
    *out = NULL;
    if (plugin_external_stopped(x)) {
        rc = cs_fail(e, CS_CANCELLED, "context canceled");
    } else if (x->run == NULL) {
        rc = cs_fail(e, CS_UNAVAILABLE, "plugin is not running: %s", x->why);
    } else {
        *out = x->run;
        plugin_run_use(x->run);
    }
    pthread_mutex_unlock(&x->lock);
    return rc;
}

static void leave(struct plugin_run **run)
{
    plugin_run_leave(*run);
}

cs_code plugin_external_unary(struct plugin_external *x, const char *path, const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *response_type, struct cs_arena *a,
                              ProtobufCMessage **response, int64_t deadline_ns, struct cs_err *e)
{
    CS_CLEANUP(leave) struct plugin_run *run = NULL;
    *response = NULL;
    CS_TRY(use(x, &run, e));
    return plugin_run_unary(run, path, request, response_type, a, response, deadline_ns, e);
}

/* --- The config service --- */

static cs_code keep_config(struct plugin_external *x, struct cs_slice data, struct cs_err *e)
{
    struct cs_buf copy = {0};
    cs_buf_add_slice(&copy, data);
    if (!cs_buf_ok(&copy)) {
        cs_buf_free(&copy);
        return cs_nomem(e);
    }
    pthread_mutex_lock(&x->lock);
    struct cs_buf old = x->config;
    x->config = copy;
    x->configured = true;
    x->config_count++;
    pthread_mutex_unlock(&x->lock);
    cs_buf_wipe(&old);
    return CS_OK;
}

cs_code plugin_external_configure(struct plugin_external *x, struct cs_slice data, struct cs_err *e)
{
    CS_CLEANUP(leave) struct plugin_run *run = NULL;
    if (!plugin_external_offers(x, PLUGIN_CONFIG_SERVICE))
        return cs_fail(e, CS_UNIMPLEMENTED, "no supported configuration interface found");
    CS_TRY(use(x, &run, e));
    CS_TRY(plugin_run_configure(run, data, e));
    return keep_config(x, data, e);
}

cs_code plugin_external_validate(struct plugin_external *x, struct cs_slice data, struct plugin_notes *notes,
                                 struct cs_err *e)
{
    Configv1__ValidateRequest req = CONFIGV1__VALIDATE_REQUEST__INIT;
    Configv1__CoreConfiguration core = CONFIGV1__CORE_CONFIGURATION__INIT;
    ProtobufCMessage *m = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    CS_CLEANUP(cs_buf_wipe) struct cs_buf text = {0};
    if (!plugin_external_offers(x, PLUGIN_CONFIG_SERVICE))
        return cs_fail(e, CS_UNIMPLEMENTED, "no supported configuration interface found");
    cs_buf_add_slice(&text, data);
    if (a == NULL || !cs_buf_ok(&text))
        return cs_nomem(e);
    core.trust_domain = (char *)x->env->trust_domain;
    req.core_configuration = &core;
    req.hcl_configuration = (char *)cs_buf_cstr(&text);
    CS_TRY(plugin_external_unary(x, "/" PLUGIN_CONFIG_SERVICE "/Validate", &req.base,
                                 &configv1__validate_response__descriptor, a, &m, PLUGIN_CONFIGURE_NS, e));
    const Configv1__ValidateResponse *resp = (const void *)m;
    for (size_t i = 0; i < resp->n_notes; i++)
        if (plugin_notes_add(notes, resp->notes[i]) != CS_OK)
            return cs_nomem(e);
    return CS_OK;
}

/* --- Streams --- */

struct plugin_stream {
    struct plugin_run *run; /* used */
    struct rpc_stream *s;
};

cs_code plugin_stream_open(struct plugin_external *x, const char *path, const struct rpc_metadata *md,
                           size_t md_count, int64_t deadline_ns, struct plugin_stream **out, struct cs_err *e)
{
    *out = NULL;
    struct plugin_stream *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    cs_code rc = use(x, &s->run, e);
    if (rc == CS_OK)
        rc = rpc_stream_open(s->run->client, path, md, md_count, deadline_ns, &s->s, e);
    if (rc == CS_OK)
        *out = s;
    else
        plugin_stream_free(s);
    return rc;
}

cs_code plugin_stream_send(struct plugin_stream *s, const ProtobufCMessage *m, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf msg = {0};
    CS_TRY(proto_pack(m, &msg, e));
    return rpc_stream_send(s->s, cs_buf_slice(&msg), e);
}

cs_code plugin_stream_close_send(struct plugin_stream *s, struct cs_err *e)
{
    return rpc_stream_close_send(s->s, e);
}

cs_code plugin_stream_recv(struct plugin_stream *s, const ProtobufCMessageDescriptor *type,
                           struct cs_arena *a, ProtobufCMessage **m, int64_t wait_ns, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf msg = {0};
    bool end = false;
    *m = NULL;
    CS_TRY(rpc_stream_recv(s->s, &msg, &end, wait_ns, NULL, e));
    return end ? CS_OK : proto_unpack(a, type, cs_buf_slice(&msg), m, e);
}

void plugin_stream_cancel(struct plugin_stream *s)
{
    rpc_stream_cancel(s->s);
}

void plugin_stream_free(struct plugin_stream *s)
{
    if (s == NULL)
        return;
    rpc_stream_free(s->s);
    plugin_run_leave(s->run);
    cs_free(s);
}
