/* SPDX-License-Identifier: Apache-2.0
 *
 * Files of credentials, and tokens as a request bears them.
 */
#include "base/file.h"
#include "plugins/modules/kube/access.h"

#define FILE_MAX ((size_t)1 << 20)
#define FILE_USUAL ((size_t)16 * 1024)

cs_code kube_file_read(const char *path, struct cs_buf *out, struct cs_err *e)
{
    if (!cs_buf_reserve(out, FILE_USUAL)) /* growing would leave a copy behind */
        return cs_nomem(e);
    CS_TRY(cs_file_read(path, FILE_MAX, out, e));
    return out->len > 0 ? CS_OK : cs_fail(e, CS_INVALID, "%s is empty", path);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

cs_code kube_bearer(struct cs_slice token, const char *where, struct cs_buf *out, struct cs_err *e)
{
    while (token.len > 0 && is_blank(token.data[token.len - 1]))
        token.len--;
    while (token.len > 0 && is_blank(token.data[0]))
        token = cs_slice_of(token.data + 1, token.len - 1);
    if (token.len == 0)
        return cs_fail(e, CS_INVALID, "%s: the token is empty", where);
    for (size_t i = 0; i < token.len; i++)
        if (token.data[i] <= ' ' || token.data[i] >= 0x7f)
            return cs_fail(e, CS_INVALID, "%s: the token is not one word of text", where);
    if (!cs_buf_reserve(out, token.len + sizeof "Bearer "))
        return cs_nomem(e);
    cs_buf_add_str(out, "Bearer ");
    cs_buf_add_slice(out, token);
    (void)cs_buf_cstr(out); /* ends it: it will be shared, and nobody may write then */
    return CS_OK;
}
