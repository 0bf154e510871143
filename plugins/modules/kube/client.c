/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls: one attempt, what its status means, and when there is another.
 */
#include "base/text.h"
#include "plugins/modules/kube/internal.h"

#include <stdio.h>

#define DEFAULT_TIMEOUT_NS (30 * CS_NS_PER_S)
#define DEFAULT_MAX_BODY ((size_t)8 << 20)
#define ATTEMPTS 5
#define BACKOFF_MAX_NS (5 * CS_NS_PER_S)

/* --- Life --- */

static bool copy(struct cs_arena *a, const char **text)
{
    return *text == NULL || (*text = cs_arena_strdup(a, *text)) != NULL;
}

static cs_code client_make(const struct kube_options *o, struct kube_client *c, struct cs_err *e)
{
    struct kube_link *l;
    c->o = *o;
    c->arena = cs_arena_new(0, 0);
    if (c->arena == NULL || !copy(c->arena, &c->o.kubeconfig) || !copy(c->arena, &c->o.ca_file) ||
        !copy(c->arena, &c->o.client_cert_file) || !copy(c->arena, &c->o.client_key_file) ||
        !copy(c->arena, &c->o.service_account_dir) || !copy(c->arena, &c->o.user_agent))
        return cs_nomem(e);
    if (o->later)
        return CS_OK;
    CS_TRY(kube_link_get(c, &l, e));
    kube_link_unref(l);
    return CS_OK;
}

cs_code kube_client_new(const struct kube_options *o, struct kube_client **out, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(kube_client) c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&c->lock, NULL); /* cannot fail without attributes on Linux */
    CS_TRY(client_make(o, c, e));
    *out = CS_MOVE(c);
    return CS_OK;
}

void kube_client_free(struct kube_client *c)
{
    if (c == NULL)
        return;
    kube_link_unref(c->link);
    pthread_mutex_destroy(&c->lock);
    cs_arena_free(c->arena);
    cs_free(c);
}

cs_code kube_check(const struct kube_options *o, struct cs_err *e)
{
    CS_CLEANUP(kube_access_free) struct kube_access a = {0};
    return kube_access_read(o, &a, e);
}

/* --- One attempt --- */

static bool is_repeatable(const struct kube_call *q)
{
    return q->repeatable || strcmp(q->method, "GET") == 0;
}

cs_code kube_attempt_make(struct kube_client *c, const struct kube_attempt *a, struct http_response *out,
                          struct cs_err *e)
{
    const struct kube_call *q = a->call;
    struct http_header headers[4] = {
        {"Accept", "application/json"},
        {"User-Agent", c->o.user_agent != NULL ? c->o.user_agent : "cspire"},
    };
    size_t count = 2;
    CS_AUTO(kube_link) l = NULL;
    CS_TRY(kube_link_get(c, &l, e));
    if (l->authorization.len > 0)
        headers[count++] = (struct http_header){"Authorization", (const char *)l->authorization.data};
    if (a->body.data != NULL)
        headers[count++] = (struct http_header){"Content-Type", q->content_type != NULL ? q->content_type
                                                                                        : "application/json"};
    CS_CLEANUP(cs_freep) char *url = cs_asprintf("%s%s", l->server, q->path);
    if (url == NULL)
        return cs_nomem(e);
    const struct http_request r = {.method = q->method,
                                   .url = url,
                                   .headers = headers,
                                   .header_count = count,
                                   .body = a->body,
                                   .timeout_ns = a->timeout_ns,
                                   .max_body = q->max_body > 0 ? q->max_body : DEFAULT_MAX_BODY,
                                   .once = !is_repeatable(q),
                                   .stop = q->stop,
                                   .on_body = a->on_body,
                                   .on_body_arg = a->on_body_arg};
    return http_call(l->http, &r, out, e);
}

/* --- What a status means --- */

static cs_code code_of(int status, const char *reason)
{
    static const struct {
        int status;
        cs_code code;
    } codes[] = {{400, CS_INVALID},      {401, CS_UNAUTHENTICATED}, {403, CS_DENIED},   {404, CS_NOT_FOUND},
                 {410, CS_OUT_OF_RANGE}, {422, CS_INVALID},         {429, CS_EXHAUSTED}};
    if (status == 409)
        return strcmp(reason, "AlreadyExists") == 0 ? CS_EXISTS : CS_ABORTED;
    if (status >= 500)
        return CS_UNAVAILABLE;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].status == status)
            return codes[i].code;
    return CS_UNKNOWN;
}

cs_code kube_status_fail(const struct http_response *r, struct cs_err *e)
{
    CS_CLEANUP(kube_json_drop)
    json_t *status = r->body.len > 0 ? json_loadb((const char *)r->body.data, r->body.len, 0, NULL) : NULL;
    const char *message = kube_text(status, "message");
    const cs_code code = code_of(r->status, kube_text(status, "reason"));
    if (message[0] != '\0')
        return cs_fail(e, code, "%s", message);
    return cs_fail(e, code, "the server answered with status %d", r->status);
}

/* --- Calls --- */

static bool again(const struct kube_call *q, const struct http_response *r, cs_code rc)
{
    const bool repeatable = is_repeatable(q);
    if (r->status == 429 || r->status == 503)
        return true;
    if (r->status >= 500)
        return repeatable;
    return r->status == 0 && rc == CS_UNAVAILABLE && repeatable;
}

static cs_code read_object(const struct http_response *r, json_t **out, struct cs_err *e)
{
    json_error_t why;
    json_t *j = json_loadb(r->body.len > 0 ? (const char *)r->body.data : "", r->body.len, 0, &why);
    if (!json_is_object(j)) {
        json_decref(j);
        return cs_fail(e, CS_INTERNAL, "the API server's answer is not a JSON object");
    }
    *out = j;
    return CS_OK;
}

static cs_code attempt(struct kube_client *c, const struct kube_attempt *a, struct http_response *r,
                       json_t **out, struct cs_err *e)
{
    CS_TRY(kube_attempt_make(c, a, r, e));
    if (r->status < 200 || r->status > 299)
        return kube_status_fail(r, e);
    return out != NULL ? read_object(r, out, e) : CS_OK;
}

static cs_code repeat(struct kube_client *c, struct kube_attempt *a, json_t **out, struct cs_err *e)
{
    const struct kube_call *q = a->call;
    const struct cs_clock *clock = &cs_clock_system;
    const int64_t end = cs_mono_ns(clock) + (q->timeout_ns > 0 ? q->timeout_ns : DEFAULT_TIMEOUT_NS);
    for (unsigned n = 0;; n++) {
        CS_CLEANUP(http_response_free) struct http_response r = {0};
        a->timeout_ns = end - cs_mono_ns(clock);
        if (a->timeout_ns <= 0) /* 0 would mean the default */
            return cs_fail(e, CS_DEADLINE, "%s %s: timed out", q->method, q->path);
        cs_code rc = attempt(c, a, &r, out, e);
        if (rc == CS_OK || n + 1 == ATTEMPTS || !again(q, &r, rc))
            return rc;
        const int64_t pause = r.retry_after_ns >= 0 ? r.retry_after_ns : http_backoff(n, BACKOFF_MAX_NS);
        if (cs_mono_ns(clock) + pause >= end)
            return rc;
        if (!http_pause(pause, q->stop))
            return cs_fail(e, CS_CANCELLED, "%s %s: stopped", q->method, q->path);
    }
}

cs_code kube_call(struct kube_client *c, const struct kube_call *q, json_t **out, struct cs_err *e)
{
    struct cs_err local;
    struct kube_attempt a = {.call = q};
    if (out != NULL)
        *out = NULL;
    e = e != NULL ? e : &local;
    if (q->body == NULL)
        return repeat(c, &a, out, e);
    char *text = json_dumps(q->body, JSON_COMPACT);
    if (text == NULL)
        return cs_nomem(e);
    a.body = cs_slice_str(text);
    cs_code rc = repeat(c, &a, out, e);
    cs_wipe(text, a.body.len); /* it may be a token */
    free(text);
    return rc;
}

cs_code kube_get(struct kube_client *c, const char *path, const struct crypto_stop *stop, json_t **out,
                 struct cs_err *e)
{
    const struct kube_call q = {.method = "GET", .path = path, .stop = stop};
    return kube_call(c, &q, out, e);
}
