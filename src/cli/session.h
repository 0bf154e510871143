/* SPDX-License-Identifier: Apache-2.0
 *
 * A command's conversation with a server's or agent's Unix socket: finding the socket, one
 * connection, calls with protobuf messages, and the two output formats.
 */
#ifndef CS_CLI_SESSION_H
#define CS_CLI_SESSION_H

#include "base/mem.h"
#include "cli/cli.h"
#include "rpc/client.h"

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

/* First member of every options struct of a command that talks to a socket. */
struct cli_common {
    const char *socket_path, *instance;
    struct cli_output output;
};

#define CLI_SERVER_SOCKET "/tmp/spire-server/private/api.sock"
#define CLI_AGENT_SOCKET "/tmp/spire-agent/public/api.sock"

/* Flag rows for that struct, named `common` in `type`. */
#define CLI_SERVER_SOCKET_FLAGS(type)                                                                        \
    {"socketPath", CLI_STRING, offsetof(type, common.socket_path), "Server API socket to talk to",           \
     CLI_SERVER_SOCKET},                                                                                     \
    {                                                                                                        \
        "instance", CLI_STRING, offsetof(type, common.instance),                                             \
            "Put in place of %i in the socket template (env SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE)", NULL     \
    }
#define CLI_AGENT_SOCKET_FLAGS(type)                                                                         \
    {"socketPath", CLI_STRING, offsetof(type, common.socket_path), "Agent API socket to talk to",            \
     CLI_AGENT_SOCKET},                                                                                      \
    {                                                                                                        \
        "instance", CLI_STRING, offsetof(type, common.instance),                                             \
            "Put in place of %i in the socket template (env SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE)", NULL       \
    }
#define CLI_OUTPUT_FLAG(type)                                                                                \
    {                                                                                                        \
        "output", CLI_OUTPUT, offsetof(type, common.output),                                                 \
            "How to print: pretty or json; default: pretty.", NULL                                           \
    }
#define CLI_SERVER_FLAGS(type) CLI_SERVER_SOCKET_FLAGS(type), CLI_OUTPUT_FLAG(type)
#define CLI_END                                                                                              \
    {                                                                                                        \
        NULL, CLI_STRING, 0, NULL, NULL                                                                      \
    }

enum cli_target { CLI_SERVER, CLI_AGENT };

/* Where to connect: -socketPath when it is not the default, then -instance in the template of the
 * environment, then the plain environment variable, then the default. The result is in the arena. */
CS_CHECKED cs_code cli_socket_path(enum cli_target target, const struct cli_common *common,
                                   struct cs_arena *arena, const char **out, struct cs_err *e);

/* One connection with its loop thread and an arena for requests and replies. Single owner. */
struct cli_session {
    struct cs_arena *arena;
    struct loop *loop;
    struct rpc_client *client;
    int64_t deadline_ns;                 /* per call; 0: none */
    const struct rpc_metadata *metadata; /* sent with each call */
    size_t metadata_count;
};
/* Nothing is connected before the first call. */
CS_CHECKED cs_code cli_session_open(enum cli_target target, const struct cli_common *common,
                                    struct cli_session **out, struct cs_err *e);
void cli_session_free(struct cli_session *s);
static inline void cli_session_drop(struct cli_session **s)
{
    cli_session_free(*s);
    *s = NULL;
}

/* A unary call. The reply lives in the session's arena. A failed call reads
 * "rpc error: code = NotFound desc = agent not found". */
CS_CHECKED cs_code cli_call(struct cli_session *s, const char *method, const ProtobufCMessage *request,
                            const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **reply,
                            struct cs_err *e);
/* The same with the bare grpc-message as the error's text. */
CS_CHECKED cs_code cli_call_plain(struct cli_session *s, const char *method, const ProtobufCMessage *request,
                                  const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **reply,
                                  struct cs_err *e);
/* Turn a failed call's error into the text above; returns its code. */
cs_code cli_rpc_error(cs_code code, struct cs_err *e);

/* Print a message as one line of JSON. */
CS_CHECKED cs_code cli_print_json(struct cli_env *env, const ProtobufCMessage *m, struct cs_err *e);
/* Print a buffer and a newline; CS_INTERNAL when the buffer failed. */
CS_CHECKED cs_code cli_print_line(struct cli_env *env, struct cs_buf *b, struct cs_err *e);

#endif
