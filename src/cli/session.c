/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/session.h"

#include "cli/json.h"
#include "proto/proto.h"

#include <stdlib.h>

#define TCP "tcp://"
#define ARENA_LIMIT ((size_t)2 << 30) /* a listing of a million entries */

static const struct target {
    const char *default_path, *env, *template_env;
} targets[] = {
    [CLI_SERVER] = {CLI_SERVER_SOCKET, "SPIRE_SERVER_PRIVATE_SOCKET", "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE"},
    [CLI_AGENT] = {CLI_AGENT_SOCKET, "SPIRE_AGENT_PUBLIC_SOCKET", "SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE"},
};

static const char *env_or_empty(const char *name)
{
    const char *v = getenv(name);
    return v != NULL ? v : "";
}

static const char *fill_template(struct cs_arena *arena, const char *tpl, const char *instance)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    for (const char *p = tpl; *p != '\0'; p++) {
        if (p[0] == '%' && p[1] == 'i') {
            cs_buf_add_str(&b, instance);
            p++;
        } else {
            cs_buf_add_byte(&b, (uint8_t)*p);
        }
    }
    return cs_buf_ok(&b) ? cs_arena_strdup(arena, cs_buf_cstr(&b)) : NULL;
}

cs_code cli_socket_path(enum cli_target target, const struct cli_common *common, struct cs_arena *arena,
                        const char **out, struct cs_err *e)
{
    const struct target *t = &targets[target];
    const char *tpl = env_or_empty(t->template_env), *plain = env_or_empty(t->env);
    bool by_instance = common->instance != NULL && common->instance[0] != '\0';
    if (by_instance && tpl[0] == '\0') {
        return target == CLI_SERVER
                   ? cs_fail(e, CS_INVALID, "you must define %s to use the instance flag", t->template_env)
                   : cs_fail(e, CS_INVALID,
                             " %s environment variable must be defined when using the instance flag",
                             t->template_env);
    }
    if (by_instance && strstr(tpl, "%i") == NULL)
        return cs_fail(e, CS_INVALID, "failed to find %%i in %s", t->template_env);
    if (strcmp(common->socket_path, t->default_path) != 0)
        *out = common->socket_path;
    else if (by_instance)
        *out = fill_template(arena, tpl, common->instance);
    else
        *out = plain[0] != '\0' ? plain : t->default_path;
    return *out != NULL ? CS_OK : cs_nomem(e);
}

/* Where an agent in enclave mode serves; as SPIFFE_ENDPOINT_SOCKET has it. */
static bool is_tcp(const char *path)
{
    return strncmp(path, TCP, strlen(TCP)) == 0;
}

cs_code cli_session_open(enum cli_target target, const struct cli_common *common, struct cli_session **out,
                         struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(cli_session) s = cs_calloc(1, sizeof *s);
    if (s == NULL || (s->arena = cs_arena_new(0, ARENA_LIMIT)) == NULL)
        return cs_nomem(e);
    const char *path;
    CS_TRY(cli_socket_path(target, common, s->arena, &path, e));
    CS_TRY(loop_new("rpc", &s->loop, e));
    CS_TRY(loop_start(s->loop, e));
    const struct rpc_client_config cfg = {
        .unix_path = is_tcp(path) ? NULL : path,
        .tcp_address = is_tcp(path) ? path + strlen(TCP) : NULL,
    };
    CS_TRY(rpc_client_new(s->loop, &cfg, &s->client, e));
    *out = CS_MOVE(s);
    return CS_OK;
}

void cli_session_free(struct cli_session *s)
{
    if (s == NULL)
        return;
    rpc_client_free(s->client);
    loop_free(s->loop);
    cs_arena_free(s->arena);
    cs_free(s);
}

cs_code cli_rpc_error(cs_code code, struct cs_err *e)
{
    struct cs_err plain = *e;
    return cs_fail(e, code, "rpc error: code = %s desc = %s", cs_code_name(code), plain.text);
}

cs_code cli_call_plain(struct cli_session *s, const char *method, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **reply,
                       struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf in = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf back = {0};
    CS_TRY(proto_pack(request, &in, e));
    CS_TRY(rpc_client_unary(s->client, method, cs_buf_slice(&in), &back, s->metadata, s->metadata_count,
                            s->deadline_ns, NULL, e));
    return proto_unpack(s->arena, reply_type, cs_buf_slice(&back), reply, e);
}

cs_code cli_call(struct cli_session *s, const char *method, const ProtobufCMessage *request,
                 const ProtobufCMessageDescriptor *reply_type, ProtobufCMessage **reply, struct cs_err *e)
{
    cs_code code = cli_call_plain(s, method, request, reply_type, reply, e);
    return code == CS_OK ? CS_OK : cli_rpc_error(code, e);
}

cs_code cli_print_line(struct cli_env *env, struct cs_buf *b, struct cs_err *e)
{
    if (!cs_buf_ok(b))
        return cs_nomem(e);
    fwrite(b->data, 1, b->len, env->out);
    fputc('\n', env->out);
    return CS_OK;
}

cs_code cli_print_json(struct cli_env *env, const ProtobufCMessage *m, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b = {0};
    cli_json_message(&b, m);
    return cli_print_line(env, &b, e);
}
