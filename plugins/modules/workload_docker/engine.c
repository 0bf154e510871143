/* SPDX-License-Identifier: Apache-2.0
 *
 * Asking a Docker engine, or Podman, over HTTP (https://docs.docker.com/reference/api/engine/).
 */
#include "plugins/modules/workload_docker/docker.h"

struct docker_engine {
    struct http_client *http;
    struct cs_buf base; /* "http://localhost/v1.41", no slash at the end */
};

static bool is_version(const char *text)
{
    return text[strspn(text, "0123456789.")] == '\0';
}

static cs_code set_up(struct docker_engine *d, const char *host, const char *version, struct cs_err *e)
{
    struct http_client_options o = {0};
    if (strncmp(host, "unix://", 7) == 0 && host[7] != '\0')
        o.unix_path = host + 7;
    else if (strncmp(host, "tcp://", 6) != 0 || host[6] == '\0')
        return cs_fail(e, CS_INVALID, "unable to parse docker host `%.300s`", host);
    if (!is_version(version))
        return cs_fail(e, CS_INVALID, "docker_version \"%.64s\" is no version", version);
    cs_buf_printf(&d->base, "http://%s", o.unix_path != NULL ? "localhost" : host + 6);
    while (d->base.len > 0 && d->base.data[d->base.len - 1] == '/')
        d->base.len--;
    if (version[0] != '\0')
        cs_buf_printf(&d->base, "/v%s", version);
    return cs_buf_ok(&d->base) ? http_client_new(&o, &d->http, e) : cs_nomem(e);
}

cs_code docker_engine_new(const char *host, const char *version, struct docker_engine **out, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(docker_engine) d = cs_calloc(1, sizeof *d);
    if (d == NULL)
        return cs_nomem(e);
    CS_TRY(set_up(d, host, version, e));
    *out = CS_MOVE(d);
    return CS_OK;
}

void docker_engine_free(struct docker_engine *d)
{
    if (d == NULL)
        return;
    http_client_free(d->http);
    cs_buf_free(&d->base);
    cs_free(d);
}

/* What the engine says for itself, in {"message":"..."} or in plain text. */
static cs_code refused(const struct http_response *r, struct cs_err *e)
{
    CS_CLEANUP(docker_json_drop)
    json_t *j = r->body.len > 0 ? json_loadb((const char *)r->body.data, r->body.len, 0, NULL) : NULL;
    const char *message = json_string_value(json_object_get(j, "message"));
    cs_code code = r->status == 404 ? CS_NOT_FOUND : CS_UNKNOWN;
    if (message != NULL)
        return cs_fail(e, code, "Error response from daemon: %.400s", message);
    return cs_fail(e, code, "Error response from daemon: status %d: %.*s", r->status,
                   (int)(r->body.len < 300 ? r->body.len : 300),
                   r->body.len > 0 ? (const char *)r->body.data : "");
}

/* Names of images have slashes and colons, which engines' clients leave as they are. */
static void add_name(struct cs_buf *url, const char *name)
{
    for (size_t n; *name != '\0'; name += n) {
        n = strcspn(name, "/:@");
        http_escape(url, cs_slice_of(name, n));
        if (name[n] != '\0')
            cs_buf_add_byte(url, (uint8_t)name[n++]);
    }
}

static cs_code get(struct docker_engine *d, const char *kind, const char *name,
                   const struct crypto_stop *stop, json_t **out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    cs_buf_add_slice(&url, cs_buf_slice(&d->base));
    cs_buf_printf(&url, "/%s/", kind);
    add_name(&url, name);
    cs_buf_add_str(&url, "/json");
    if (!cs_buf_ok(&url))
        return cs_nomem(e);
    const struct http_request q = {.method = "GET",
                                   .url = cs_buf_cstr(&url),
                                   .timeout_ns = DOCKER_TIMEOUT_NS,
                                   .max_body = DOCKER_BODY_MAX,
                                   .stop = stop};
    CS_TRY(http_call(d->http, &q, &r, e));
    if (r.status != 200)
        return refused(&r, e);
    json_error_t fault;
    *out = r.body.len > 0 ? json_loadb((const char *)r.body.data, r.body.len, 0, &fault) : NULL;
    if (json_is_object(*out))
        return CS_OK;
    docker_json_drop(out);
    return cs_fail(e, CS_UNKNOWN, "the engine's answer about %s %.128s is no JSON object", kind, name);
}

cs_code docker_container(struct docker_engine *d, const char *id, const struct crypto_stop *stop,
                         json_t **out, struct cs_err *e)
{
    *out = NULL;
    return get(d, "containers", id, stop, out, e);
}

cs_code docker_image(struct docker_engine *d, const char *name, const struct crypto_stop *stop, json_t **out,
                     struct cs_err *e)
{
    *out = NULL;
    return get(d, "images", name, stop, out, e);
}
