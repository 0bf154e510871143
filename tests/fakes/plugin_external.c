/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fakes/plugin_external.h"

#include "proto/proto.h"

#include <stdatomic.h>
#include <time.h>

struct plugin_stream {
    struct plugin_external *x;
    unsigned n;
    atomic_bool cancelled;
};

const char *plugin_external_name(const struct plugin_external *x)
{
    return x->name;
}

static cs_code unpack(struct cs_arena *a, const ProtobufCMessageDescriptor *type, struct cs_slice bytes,
                      ProtobufCMessage **m, struct cs_err *e)
{
    /* a message may view what it was read from */
    const uint8_t *copy = cs_arena_memdup(a, bytes.len > 0 ? bytes.data : (const uint8_t *)"", bytes.len);
    if (copy == NULL)
        return cs_nomem(e);
    return proto_unpack(a, type, cs_slice_of(copy, bytes.len), m, e);
}

cs_code plugin_external_unary(struct plugin_external *x, const char *path, const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *response_type, struct cs_arena *a,
                              ProtobufCMessage **response, int64_t deadline_ns, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf answer = {0};
    x->last_deadline_ns = deadline_ns;
    CS_TRY(proto_pack(request, &packed, e));
    CS_TRY(x->unary(x->arg, path, cs_buf_slice(&packed), &answer, e));
    return cs_buf_ok(&answer) ? unpack(a, response_type, cs_buf_slice(&answer), response, e) : cs_nomem(e);
}

cs_code plugin_stream_open(struct plugin_external *x, const char *path, const struct rpc_metadata *md,
                           size_t md_count, int64_t deadline_ns, struct plugin_stream **out, struct cs_err *e)
{
    (void)deadline_ns;
    *out = NULL;
    unsigned n = atomic_load(&x->opened);
    if (x->open != NULL)
        CS_TRY(x->open(x->arg, n, path, md, md_count, e));
    struct plugin_stream *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->x = x;
    s->n = n;
    atomic_fetch_add(&x->opened, 1);
    *out = s;
    return CS_OK;
}

cs_code plugin_stream_send(struct plugin_stream *s, const ProtobufCMessage *m, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    CS_TRY(proto_pack(m, &packed, e));
    return s->x->send != NULL ? s->x->send(s->x->arg, s->n, cs_buf_slice(&packed), e) : CS_OK;
}

cs_code plugin_stream_close_send(struct plugin_stream *s, struct cs_err *e)
{
    (void)s;
    (void)e;
    return CS_OK;
}

cs_code plugin_stream_recv(struct plugin_stream *s, const ProtobufCMessageDescriptor *type,
                           struct cs_arena *a, ProtobufCMessage **m, int64_t wait_ns, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf message = {0};
    int64_t until = wait_ns < 0 ? INT64_MAX : cs_mono_ns(&cs_clock_system) + wait_ns;
    *m = NULL;
    for (;;) {
        bool end = false;
        if (atomic_load(&s->cancelled))
            return cs_fail(e, CS_CANCELLED, "context canceled");
        cs_code rc = s->x->recv(s->x->arg, s->n, &message, &end, e);
        if (rc == CS_OK)
            return end ? CS_OK : unpack(a, type, cs_buf_slice(&message), m, e);
        if (rc != CS_DEADLINE)
            return rc;
        if (cs_mono_ns(&cs_clock_system) >= until)
            return cs_fail(e, CS_DEADLINE, "context deadline exceeded");
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

void plugin_stream_cancel(struct plugin_stream *s)
{
    atomic_store(&s->cancelled, true);
}

void plugin_stream_free(struct plugin_stream *s)
{
    if (s == NULL)
        return;
    atomic_fetch_add(&s->x->freed, 1);
    cs_free(s);
}
