/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/bridge/bridge.h"

#include "base/text.h"
#include "crypto/key.h"

#include <stdio.h>

/* How soon a wait notices that it was told to stop. */
#define GLANCE_NS (100 * CS_NS_PER_MS)

cs_code bridge_new(struct plugin_external *x, const struct plugin_env *env, const char *type, size_t size,
                   void **self, struct cs_err *e)
{
    struct bridge *b = cs_calloc(1, size);
    *self = b;
    if (b == NULL)
        return cs_nomem(e);
    *b = (struct bridge){.x = x, .env = env, .type = type, .name = plugin_external_name(x)};
    return CS_OK;
}

void bridge_free(void *self)
{
    cs_free(self);
}

cs_code bridge_fail(const struct bridge *b, struct cs_err *e, cs_code code, const char *fmt, ...)
{
    if (e == NULL)
        return code;
    char text[CS_ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)cs_fail(e, code, "%s", text);
    return bridge_answer(b, code, e);
}

cs_code bridge_answer(const struct bridge *b, cs_code rc, struct cs_err *e)
{
    return plugin_answer(b->type, b->name, rc, e);
}

cs_code bridge_call(const struct bridge *b, const char *path, const ProtobufCMessage *request,
                    const ProtobufCMessageDescriptor *response_type, struct cs_arena *a, void *response,
                    int64_t deadline_ns, struct cs_err *e)
{
    ProtobufCMessage **out = response;
    *out = NULL;
    return bridge_answer(b, plugin_external_unary(b->x, path, request, response_type, a, out, deadline_ns, e),
                         e);
}

cs_code bridge_recv(const struct bridge *b, struct plugin_stream *s, const ProtobufCMessageDescriptor *type,
                    struct cs_arena *a, struct bridge_wait wait, void *m, struct cs_err *e)
{
    /* The machine's own clock: it is the one that the stream waits by. */
    int64_t began = cs_mono_ns(&cs_clock_system), now = began;
    ProtobufCMessage **out = m;
    *out = NULL;
    while (now - began < wait.ns) {
        if (wait.stop != NULL && wait.stop->asked(wait.stop->arg))
            return bridge_fail(b, e, CS_CANCELLED, "context canceled");
        int64_t left = wait.ns - (now - began), slice = left < GLANCE_NS ? left : GLANCE_NS, last = now;
        cs_code rc = plugin_stream_recv(s, type, a, out, slice, e);
        now = cs_mono_ns(&cs_clock_system);
        /* a deadline that comes before the time is a status of the plugin */
        if (rc != CS_DEADLINE || now - last < slice)
            return bridge_answer(b, rc, e);
    }
    return bridge_fail(b, e, CS_DEADLINE, "plugin did not answer within %ds", (int)(wait.ns / CS_NS_PER_S));
}

const char *bridge_quoted(struct cs_arena *a, const char *text)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf quoted = {0};
    cs_quote(&quoted, cs_slice_str(text));
    const char *copy = cs_arena_strdup(a, cs_buf_cstr(&quoted));
    return copy != NULL ? copy : "";
}
