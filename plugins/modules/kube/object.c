/* SPDX-License-Identifier: Apache-2.0
 *
 * Paths of objects, and what is in them.
 */
#include "plugins/modules/http/http.h"
#include "plugins/modules/kube/kube.h"

#include <stdarg.h>

static cs_code add_segment(struct cs_buf *out, const char *s, struct cs_err *e)
{
    if (s[0] == '\0' || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
        return cs_fail(e, CS_INVALID, "\"%s\" is not the name of an object", s);
    http_escape(out, cs_slice_str(s));
    return CS_OK;
}

cs_code kube_path(struct cs_buf *out, struct cs_err *e, const char *fmt, ...)
{
    cs_code rc = CS_OK;
    va_list args;
    va_start(args, fmt);
    for (; *fmt != '\0' && rc == CS_OK; fmt++) {
        if (fmt[0] == '%' && fmt[1] == 's') {
            rc = add_segment(out, va_arg(args, const char *), e);
            fmt++;
        } else {
            cs_buf_add_byte(out, (uint8_t)*fmt);
        }
    }
    va_end(args);
    if (rc != CS_OK)
        return rc;
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

const char *kube_text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s != NULL ? s : "";
}

const json_t *kube_at(const json_t *object, const char *const *keys)
{
    for (; *keys != NULL; keys++)
        object = json_object_get(object, *keys);
    return object;
}

const char *kube_text_at(const json_t *object, const char *const *keys)
{
    const char *s = json_string_value(kube_at(object, keys));
    return s != NULL ? s : "";
}

const char *kube_name(const json_t *object)
{
    return kube_text(json_object_get(object, "metadata"), "name");
}

const char *kube_namespace(const json_t *object)
{
    return kube_text(json_object_get(object, "metadata"), "namespace");
}

const char *kube_version(const json_t *object)
{
    return kube_text(json_object_get(object, "metadata"), "resourceVersion");
}
