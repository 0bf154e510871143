/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins/modules/workload_docker/docker.h"

static cs_code add_labels(struct workloadattestor_values *out, const json_t *labels, struct cs_err *e)
{
    const char *key;
    json_t *value;
    if (labels != NULL && !json_is_null(labels) && !json_is_object(labels))
        return cs_fail(e, CS_UNKNOWN, "Config.Labels is not an object");
    /* jansson's iterators take no const, and change nothing */
    json_object_foreach((json_t *)(uintptr_t)labels, key, value)
    {
        CS_CLEANUP(cs_buf_free) struct cs_buf pair = {0};
        if (!json_is_string(value) && !json_is_null(value))
            return cs_fail(e, CS_UNKNOWN, "Config.Labels is not all strings");
        cs_buf_printf(&pair, "label:%s", key);
        if (!cs_buf_ok(&pair))
            return cs_nomem(e);
        CS_TRY(workloadattestor_add(out, cs_buf_cstr(&pair),
                                    json_is_string(value) ? json_string_value(value) : "", e));
    }
    return CS_OK;
}

static cs_code add_env(struct workloadattestor_values *out, const json_t *env, struct cs_err *e)
{
    size_t i;
    json_t *each;
    if (env != NULL && !json_is_null(env) && !json_is_array(env))
        return cs_fail(e, CS_UNKNOWN, "Config.Env is not an array");
    json_array_foreach(env, i, each)
    {
        if (!json_is_string(each))
            return cs_fail(e, CS_UNKNOWN, "Config.Env is not all strings");
        CS_TRY(workloadattestor_add(out, "env", json_string_value(each), e));
    }
    return CS_OK;
}

cs_code docker_add_container(struct workloadattestor_values *out, const json_t *container, const char **image,
                             struct cs_err *e)
{
    const json_t *config = json_object_get(container, "Config");
    const json_t *name = json_object_get(config, "Image");
    *image = "";
    if (!json_is_object(config))
        return cs_fail(e, CS_UNKNOWN, "the container has no Config");
    if (name != NULL && !json_is_null(name) && !json_is_string(name))
        return cs_fail(e, CS_UNKNOWN, "Config.Image is not a string");
    CS_TRY(add_labels(out, json_object_get(config, "Labels"), e));
    CS_TRY(add_env(out, json_object_get(config, "Env"), e));
    if (!json_is_string(name) || json_string_length(name) == 0)
        return CS_OK;
    *image = json_string_value(name);
    return workloadattestor_add(out, "image_id", *image, e);
}

cs_code docker_add_image(struct workloadattestor_values *out, const json_t *image, struct cs_err *e)
{
    const json_t *id = json_object_get(image, "Id");
    if (!json_is_string(id) || json_string_length(id) == 0)
        return CS_OK;
    return workloadattestor_add(out, "image_config_digest", json_string_value(id), e);
}
