/* SPDX-License-Identifier: Apache-2.0
 *
 * Objects that carry a bundle. A patch (strategic merge) names what changes and the version of the object
 * that it is for, so that of two servers one is told of the other.
 */
#include "base/text.h"
#include "plugins/modules/kubernetes/k8sbundle.h"

/* {"metadata":{"resourceVersion":V}, MEMBER: value}; takes value, which may be NULL (no memory). */
static cs_code make_patch(const json_t *object, const char *member, json_t *value, json_t **out,
                          struct cs_err *e)
{
    *out = value != NULL ? json_pack("{s:{s:s}, s:o}", "metadata", "resourceVersion", kube_version(object),
                                     member, value)
                         : NULL;
    return *out != NULL ? CS_OK : cs_nomem(e);
}

static cs_code patch_config_map(const json_t *object, const char *key, struct cs_slice pem, json_t **out,
                                struct cs_err *e)
{
    const json_t *old = json_object_get(json_object_get(object, "data"), key);
    *out = NULL;
    if (json_is_string(old) && cs_slice_eq(cs_slice_of(json_string_value(old), json_string_length(old)), pem))
        return CS_OK;
    json_t *data = json_pack("{s:s%}", key, (const char *)pem.data, pem.len);
    return make_patch(object, "data", data, out, e);
}

/* caBundle is bytes, in base64. */
static cs_code encode(struct cs_slice pem, struct cs_buf *out, struct cs_err *e)
{
    cs_b64_encode(out, pem, CS_B64_STD);
    (void)cs_buf_cstr(out);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static bool has_bundle(const json_t *holder, const char *bundle)
{
    return strcmp(kube_text(holder, "caBundle"), bundle) == 0;
}

/* Webhooks of a configuration are told apart by name. */
static json_t *webhooks_with(const json_t *webhooks, const char *bundle)
{
    json_t *list = json_array();
    size_t i;
    json_t *w;
    json_array_foreach(webhooks, i, w) if (json_array_append_new(
                                               list, json_pack("{s:s, s:{s:s}}", "name", kube_text(w, "name"),
                                                               "clientConfig", "caBundle", bundle)) != 0)
    {
        json_decref(list);
        return NULL;
    }
    return list;
}

static cs_code patch_webhooks(const json_t *object, const char *key, struct cs_slice pem, json_t **out,
                              struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b64 = {0};
    const json_t *webhooks = json_object_get(object, "webhooks");
    bool all = true;
    size_t i;
    json_t *w;
    (void)key;
    *out = NULL;
    CS_TRY(encode(pem, &b64, e));
    json_array_foreach(webhooks, i, w) all =
        all && has_bundle(json_object_get(w, "clientConfig"), cs_buf_cstr(&b64));
    if (all)
        return CS_OK;
    return make_patch(object, "webhooks", webhooks_with(webhooks, cs_buf_cstr(&b64)), out, e);
}

static cs_code patch_api_service(const json_t *object, const char *key, struct cs_slice pem, json_t **out,
                                 struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf b64 = {0};
    (void)key;
    *out = NULL;
    CS_TRY(encode(pem, &b64, e));
    if (has_bundle(json_object_get(object, "spec"), cs_buf_cstr(&b64)))
        return CS_OK;
    return make_patch(object, "spec", json_pack("{s:s}", "caBundle", cs_buf_cstr(&b64)), out, e);
}

const struct k8s_carrier k8s_config_map = {.name = "ConfigMap", .patch = patch_config_map};
const struct k8s_carrier k8s_mutating_webhook = {
    .name = "MutatingWebhookConfiguration",
    .collection = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    .patch = patch_webhooks};
const struct k8s_carrier k8s_validating_webhook = {
    .name = "ValidatingWebhookConfiguration",
    .collection = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    .patch = patch_webhooks};
const struct k8s_carrier k8s_api_service = {.name = "APIService",
                                            .collection = "/apis/apiregistration.k8s.io/v1/apiservices",
                                            .patch = patch_api_service};
