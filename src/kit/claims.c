/* SPDX-License-Identifier: Apache-2.0
 *
 * The claims of a token: a google.protobuf.Struct on the wire, JSON text for plugins.
 */
#include "kit/kit.h"

#include "proto/json.h"

cs_code kit_claims_print(struct cspire_call *c, const Google__Protobuf__Struct *claims, const char **out,
                         struct cs_err *e)
{
    struct cs_buf text CS_CLEANUP(cs_buf_free) = {0};
    if (proto_struct_write(&text, claims, e) != CS_OK)
        return cs_wrap(e, "claims");
    *out = cs_arena_strndup(c->arena, cs_buf_cstr(&text), text.len);
    return *out != NULL ? CS_OK : cs_nomem(e);
}

cs_code kit_claims_parse(struct cspire_call *c, const char *text, Google__Protobuf__Struct **claims,
                         struct cs_err *e)
{
    if (proto_struct_parse(c->arena, cs_slice_str(text), claims, e) != CS_OK)
        return cs_wrap(e, "claims");
    return CS_OK;
}
