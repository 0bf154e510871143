/* SPDX-License-Identifier: Apache-2.0
 *
 * External plugins: a program of somebody else, started and watched by us, spoken to as hashicorp's
 * go-plugin wants it (protocol 1, gRPC over a Unix socket) and as SPIRE's plugin SDK lays down on top
 * (Init and Deinit, Configure and Validate, host services through the broker).
 *
 * A plugin that ends or does not answer any more is said so in the log and started again with growing
 * pauses, initialised and configured as it was; until then calls fail with CS_UNAVAILABLE. All functions:
 * any thread but a loop's; blocking, always with a deadline.
 */
#ifndef CS_PLUGIN_EXTERNAL_H
#define CS_PLUGIN_EXTERNAL_H

#include "base/mem.h"
#include "config/config.h"
#include "plugin/plugin.h"
#include "rpc/client.h"

#include <protobuf-c/protobuf-c.h>

/* What all external plugins of a program share: one loop thread that starts and watches them, and the
 * gRPC server of the host services. */
struct plugin_runner;
CS_CHECKED cs_code plugin_runner_new(struct cs_log log, const struct cs_clock *clock,
                                     struct plugin_runner **out, struct cs_err *e);
/* The program is ending. Any thread, does not block: calls and streams of all plugins end with CS_CANCELLED
 * `context canceled` now and from now on, Configure among them, and no plugin is started again. Each plugin
 * is still to be stopped. */
void plugin_runner_stop(struct plugin_runner *r);
/* After all its plugins. NULL is fine. */
void plugin_runner_free(struct plugin_runner *r);

/* Start the program named in plugin_cmd and initialise it. All borrowed for the time of the call but env.
 * CS_CANCELLED when env.stop asks for the end meanwhile. Errors with SPIRE's texts where it has them: `failed
 * to launch plugin: ...`, `checksum is not a valid hex string`, `expected checksum of length 64; got N`, `no
 * supported plugin interface found in: [...]`. */
CS_CHECKED cs_code plugin_external_start(struct plugin_runner *r, const char *type,
                                         const struct config_plugin *config, const struct plugin_env *env,
                                         struct plugin_external **out, struct cs_err *e);
/* Deinit, graceful stop, then force. NULL is fine. */
void plugin_external_stop(struct plugin_external *x);

/* Does the plugin say that it offers this gRPC service (without version checks)? */
bool plugin_external_offers(const struct plugin_external *x, const char *service);
/* Holds the plugin to the service of its kind, and warns of services that nobody will call. CS_INVALID
 * `no supported plugin interface found in: [...]`. */
CS_CHECKED cs_code plugin_external_bind(const struct plugin_external *x, const char *service,
                                        struct cs_err *e);

/* The config service. CS_UNIMPLEMENTED `no supported configuration interface found` when it is not
 * offered. A configuration that was accepted is given again after a restart. The error is the plugin's
 * own code and text. */
CS_CHECKED cs_code plugin_external_configure(struct plugin_external *x, struct cs_slice data,
                                             struct cs_err *e);
CS_CHECKED cs_code plugin_external_validate(struct plugin_external *x, struct cs_slice data,
                                            struct plugin_notes *notes, struct cs_err *e);

/* The name of the config service, as in plugin_external_offers. */
#define PLUGIN_CONFIG_SERVICE "spire.service.common.config.v1.Config"

/* --- For bridges --- */
/* How long a call may take when the bridge has no better idea. */
#define PLUGIN_EXTERNAL_DEADLINE_NS (60 * CS_NS_PER_S)

/* One unary call. `path` is "/package.Service/Method"; the answer lives in the arena. deadline_ns 0:
 * PLUGIN_EXTERNAL_DEADLINE_NS. Errors: the plugin's code and text as they came (bridges put
 * `keymanager(name): ` in front, plugin_external_fail); CS_UNAVAILABLE when the plugin is not there;
 * CS_DEADLINE; CS_INTERNAL for an answer that is no message of that kind. */
CS_CHECKED cs_code plugin_external_unary(struct plugin_external *x, const char *path,
                                         const ProtobufCMessage *request,
                                         const ProtobufCMessageDescriptor *response_type, struct cs_arena *a,
                                         ProtobufCMessage **response, int64_t deadline_ns, struct cs_err *e);

/* A stream to the plugin. deadline_ns 0: none (each receive has its own). */
struct plugin_stream;
CS_CHECKED cs_code plugin_stream_open(struct plugin_external *x, const char *path,
                                      const struct rpc_metadata *md, size_t md_count, int64_t deadline_ns,
                                      struct plugin_stream **out, struct cs_err *e);
CS_CHECKED cs_code plugin_stream_send(struct plugin_stream *s, const ProtobufCMessage *m, struct cs_err *e);
CS_CHECKED cs_code plugin_stream_close_send(struct plugin_stream *s, struct cs_err *e);
/* Next message into the arena; *m NULL at an end with OK. wait_ns < 0: no limit. */
CS_CHECKED cs_code plugin_stream_recv(struct plugin_stream *s, const ProtobufCMessageDescriptor *type,
                                      struct cs_arena *a, ProtobufCMessage **m, int64_t wait_ns,
                                      struct cs_err *e);
/* Any thread: makes a blocked send or receive return CS_CANCELLED. */
void plugin_stream_cancel(struct plugin_stream *s);
void plugin_stream_free(struct plugin_stream *s); /* NULL is fine */

const char *plugin_external_name(const struct plugin_external *x);

#endif
