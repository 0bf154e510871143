/* SPDX-License-Identifier: Apache-2.0
 *
 * What the bridges have in common. A bridge is a kind's operations table over gRPC: it makes a request of
 * the arguments, checks what the plugin answers, and words errors as SPIRE does (`keymanager(NAME): ...`).
 * A plugin is believed nothing that can be checked here.
 */
#ifndef CS_PLUGIN_BRIDGE_BRIDGE_H
#define CS_PLUGIN_BRIDGE_BRIDGE_H

#include "plugin/external.h"

/* Begins the self of every bridge. What it points to is borrowed and outlives the plugin. */
struct bridge {
    struct plugin_external *x;
    const struct plugin_env *env;
    const char *type, *name;
};

/* A zeroed self of `size` bytes that begins with a struct bridge. Release with bridge_free. */
CS_CHECKED cs_code bridge_new(struct plugin_external *x, const struct plugin_env *env, const char *type,
                              size_t size, void **self, struct cs_err *e);
void bridge_free(void *self);

/* cs_fail with the plugin's prefix. */
CS_PRINTF(4, 5)
cs_code bridge_fail(const struct bridge *b, struct cs_err *e, cs_code code, const char *fmt, ...);
/* Put the plugin's prefix in front of the text in *e, unless it is there. Returns rc. */
CS_CHECKED cs_code bridge_answer(const struct bridge *b, cs_code rc, struct cs_err *e);

/* plugin_external_unary with prefixed errors. The answer is never NULL when it is CS_OK. */
CS_CHECKED cs_code bridge_call(const struct bridge *b, const char *path, const ProtobufCMessage *request,
                               const ProtobufCMessageDescriptor *response_type, struct cs_arena *a,
                               void *response, int64_t deadline_ns, struct cs_err *e);

/* How long to wait for a message of a plugin. */
struct bridge_wait {
    int64_t ns;
    const struct crypto_stop *stop; /* ends it: CS_CANCELLED; may be NULL */
};
/* Next message of a stream; *m NULL at its end with CS_OK. Errors are prefixed. CS_DEADLINE: the time is
 * over, or the plugin says so; the stream is of no use any more. */
CS_CHECKED cs_code bridge_recv(const struct bridge *b, struct plugin_stream *s,
                               const ProtobufCMessageDescriptor *type, struct cs_arena *a,
                               struct bridge_wait wait, void *m, struct cs_err *e);

/* The text as Go's %q, in the arena; "" when memory is out. For errors. */
const char *bridge_quoted(struct cs_arena *a, const char *text);

static inline struct cs_slice bridge_bytes(ProtobufCBinaryData d)
{
    return cs_slice_of(d.data, d.len);
}
/* For requests: protobuf-c does not write to what it packs. */
static inline ProtobufCBinaryData bridge_data(struct cs_slice s)
{
    return (ProtobufCBinaryData){.len = s.len, .data = (uint8_t *)s.data};
}

#endif
