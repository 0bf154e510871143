/* SPDX-License-Identifier: Apache-2.0
 *
 * Unary operations: request message, the plugin's operation, response message.
 */
#include "kit/kit.h"

cs_code kit_run(struct cspire_env *env, const struct kit_handler *h, struct rpc_call *rpc,
                struct cs_arena *arena, struct cs_slice request, struct cs_buf *response, struct cs_err *e)
{
    ProtobufCMessage *msg = NULL;
    CS_TRY(proto_unpack(arena, h->request, request, &msg, e));
    struct cspire_call c;
    CS_TRY(kit_call_init(&c, env, rpc, arena, h->answers, e));
    cs_code code = kit_enter(env, e);
    if (code == CS_OK) {
        kit_lock(env);
        code = h->run(&c, msg, response, e);
        kit_unlock(env);
        kit_leave(env);
    }
    kit_call_end(&c);
    return code;
}

cs_code kit_unary(struct rpc_call *call, void *service, struct cs_slice request, struct cs_buf *response,
                  struct cs_err *e)
{
    const struct kit_handler *h = rpc_call_method(call)->policy;
    struct cs_arena *arena = rpc_call_arena(call);
    if (arena == NULL)
        return cs_nomem(e);
    cs_code code = kit_run(service, h, call, arena, request, response, e);
    /* the bytes are the call's own buffer, and gone when this returns */
    if (h->secret_request && request.len > 0)
        cs_wipe((void *)request.data, request.len);
    return code;
}
