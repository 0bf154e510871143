/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls: the client, its token, repetition, and what answers mean.
 */
#include "plugins/modules/gcp/gcp.h"

#include <pthread.h>
#include <stdlib.h>

#define SERVICE "https://secretmanager.googleapis.com/"
/* gcloud's property api_endpoint_overrides/secretmanager, as its environment has it: for regional and private
 * endpoints, and emulators. */
#define OVERRIDE "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"
#define TOKEN_PATH                                                                                           \
    "computeMetadata/v1/instance/service-accounts/default/token?scopes="                                     \
    "https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform"
#define AGAIN_NS (30 * CS_NS_PER_S)
#define EARLY_S 225 /* the metadata server hands out the old token until 4 min before its end */
#define ATTEMPTS 4
#define TOTAL_NS (30 * CS_NS_PER_S)
#define METADATA_NS (5 * CS_NS_PER_S) /* it is near or not there */
#define PAUSE_MAX_NS (8 * CS_NS_PER_S)
#define ANSWER_MAX ((size_t)262144)

struct gcp {
    struct gcp_credentials *credentials;
    struct http_client
        *far;                 /* for Google: with the environment's proxy, through which TLS goes; what
                               * gcp_url_check lets pass in clear is on this machine, and goes straight there */
    struct http_client *near; /* for the metadata server: no proxy */
    const struct crypto_stop *stop;
    const struct cs_clock *clock;
    pthread_mutex_t lock; /* over the token; held while one is fetched */
    struct gcp_token token;
    int64_t again_ns; /* monotonic: no sooner is a token renewed that still lasts */
};

void gcp_free(struct gcp *g)
{
    if (g == NULL)
        return;
    gcp_credentials_free(g->credentials);
    http_client_free(g->far);
    http_client_free(g->near);
    gcp_token_free(&g->token);
    pthread_mutex_destroy(&g->lock);
    cs_free(g);
}

cs_code gcp_new(const char *file, const struct crypto_stop *stop, const struct cs_clock *clock,
                struct gcp **out, struct cs_err *e)
{
    const struct http_client_options with_proxy = {.proxy_from_env = true}, without = {0};
    *out = NULL;
    CS_AUTO(gcp) g = cs_calloc(1, sizeof *g);
    if (g == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&g->lock, NULL); /* cannot fail without attributes on Linux */
    g->stop = stop;
    g->clock = clock;
    CS_TRY(http_client_new(&with_proxy, &g->far, e));
    CS_TRY(http_client_new(&without, &g->near, e));
    CS_TRY(gcp_credentials_find(file, g->near, stop, &g->credentials, e));
    *out = CS_MOVE(g);
    return CS_OK;
}

/* --- Repetition --- */

static bool is_passing(int status, cs_code rc)
{
    switch (status) {
    case 0:
        return rc == CS_UNAVAILABLE;
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return true;
    default:
        return false;
    }
}

cs_code gcp_send(struct http_client *c, struct http_request *q, const struct cs_clock *clock,
                 struct http_response *out, struct cs_err *e)
{
    const int64_t end = cs_mono_ns(clock) + TOTAL_NS, each = q->timeout_ns > 0 ? q->timeout_ns : TOTAL_NS;
    for (unsigned n = 0;; n++) {
        const int64_t left = end - cs_mono_ns(clock);
        if (left <= 0) /* 0 would mean the default */
            return cs_fail(e, CS_DEADLINE, "%s: timed out", q->method);
        q->timeout_ns = left < each ? left : each;
        const cs_code rc = http_call(c, q, out, e);
        if (n + 1 == ATTEMPTS || !is_passing(out->status, rc))
            return rc;
        int64_t pause = http_backoff(n, PAUSE_MAX_NS);
        if (out->retry_after_ns > pause)
            pause = out->retry_after_ns;
        if (cs_mono_ns(clock) + pause >= end)
            return rc;
        http_response_free(out);
        *out = (struct http_response){0};
        if (!http_pause(pause, q->stop))
            return cs_fail(e, CS_CANCELLED, "%s: stopped", q->method);
    }
}

/* --- The token --- */

static cs_code ask_metadata(struct gcp *g, struct http_response *out, struct cs_err *e)
{
    static const struct http_header flavor = {"Metadata-Flavor", "Google"};
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    CS_TRY(gcp_metadata_url(&url, e));
    cs_buf_add_str(&url, TOKEN_PATH);
    if (!cs_buf_ok(&url))
        return cs_nomem(e);
    struct http_request q = {.method = "GET",
                             .url = cs_buf_cstr(&url),
                             .headers = &flavor,
                             .header_count = 1,
                             .timeout_ns = METADATA_NS,
                             .max_body = ANSWER_MAX,
                             .stop = g->stop};
    return gcp_send(g->near, &q, g->clock, out, e);
}

static cs_code ask_endpoint(struct gcp *g, struct http_response *out, struct cs_err *e)
{
    static const struct http_header form = {"Content-Type", "application/x-www-form-urlencoded"};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf body = {0};
    CS_TRY(gcp_token_form(g->credentials, cs_now_s(g->clock), &body, e));
    struct http_request q = {.method = "POST",
                             .url = g->credentials->token_uri,
                             .headers = &form,
                             .header_count = 1,
                             .body = cs_buf_slice(&body),
                             .max_body = ANSWER_MAX,
                             .stop = g->stop};
    return gcp_send(g->far, &q, g->clock, out, e);
}

static cs_code fetch_token(struct gcp *g, struct gcp_token *out, struct cs_err *e)
{
    CS_CLEANUP(http_response_free) struct http_response r = {0};
    const bool near = g->credentials->kind == GCP_METADATA;
    const int64_t now = cs_now_s(g->clock); /* before asking: the end is not put too late */
    CS_TRY(near ? ask_metadata(g, &r, e) : ask_endpoint(g, &r, e));
    cs_code rc = gcp_token_read(r.status, cs_buf_slice(&r.body), now, out, e);
    if (rc == CS_OK || e == NULL)
        return rc;
    return cs_wrap(e, "%s", near ? "metadata server" : g->credentials->token_uri);
}

/* Lock held. An old token does as long as it is good and there is no new one. */
static cs_code renew(struct gcp *g, struct cs_err *e)
{
    const int64_t left = g->token.value != NULL ? g->token.expires - cs_now_s(g->clock) : 0;
    struct gcp_token fresh = {0};
    if (left > EARLY_S || (left > 0 && cs_mono_ns(g->clock) < g->again_ns))
        return CS_OK;
    const cs_code rc = fetch_token(g, &fresh, e);
    if (rc == CS_OK) {
        gcp_token_free(&g->token);
        g->token = fresh;
        return CS_OK;
    }
    g->again_ns = cs_mono_ns(g->clock) + AGAIN_NS;
    return left > 0 && rc != CS_CANCELLED && g->token.expires > cs_now_s(g->clock) ? CS_OK : rc;
}

cs_code gcp_access_token(struct gcp *g, struct cs_buf *out, struct cs_err *e)
{
    pthread_mutex_lock(&g->lock);
    cs_code rc = renew(g, e);
    if (rc == CS_OK && !cs_buf_reserve(out, g->token.value->len + 1))
        rc = cs_nomem(e);
    if (rc == CS_OK)
        cs_buf_add(out, g->token.value->data, g->token.value->len);
    pthread_mutex_unlock(&g->lock);
    return rc;
}

/* Unless another thread has a newer one by now. */
static void forget(struct gcp *g, struct cs_slice token)
{
    pthread_mutex_lock(&g->lock);
    const struct cs_secret *now = g->token.value;
    if (now != NULL && now->len == token.len && cs_ct_equal(now->data, token.data, token.len))
        gcp_token_free(&g->token);
    pthread_mutex_unlock(&g->lock);
}

/* --- What answers mean --- */

static const struct {
    const char *name;
    int status;
    cs_code code;
} codes[] = {
    {"INVALID_ARGUMENT", 400, CS_INVALID},
    {"UNAUTHENTICATED", 401, CS_UNAUTHENTICATED},
    {"PERMISSION_DENIED", 403, CS_DENIED},
    {"NOT_FOUND", 404, CS_NOT_FOUND},
    {"ALREADY_EXISTS", 409, CS_EXISTS},
    {"RESOURCE_EXHAUSTED", 429, CS_EXHAUSTED},
    {"CANCELLED", 499, CS_CANCELLED},
    {"INTERNAL", 500, CS_INTERNAL},
    {"UNIMPLEMENTED", 501, CS_UNIMPLEMENTED},
    {"UNAVAILABLE", 503, CS_UNAVAILABLE},
    {"DEADLINE_EXCEEDED", 504, CS_DEADLINE},
    /* those that are not the first of their HTTP status (google/rpc/code.proto) */
    {"FAILED_PRECONDITION", 0, CS_PRECONDITION},
    {"OUT_OF_RANGE", 0, CS_OUT_OF_RANGE},
    {"ABORTED", 0, CS_ABORTED},
    {"DATA_LOSS", 0, CS_DATA_LOSS},
    {"UNKNOWN", 0, CS_UNKNOWN},
};

/* Of a status that Google's error names, or of a number when it names none. */
static cs_code code_of(const char *name, int status)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (name != NULL ? strcmp(codes[i].name, name) == 0 : codes[i].status == status)
            return codes[i].code;
    return CS_UNKNOWN;
}

static cs_code code_of_stranger(int status)
{
    switch (status) {
    case 400:
        return CS_INTERNAL;
    case 401:
        return CS_UNAUTHENTICATED;
    case 403:
        return CS_DENIED;
    case 404:
        return CS_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return CS_UNAVAILABLE;
    default:
        return CS_UNKNOWN;
    }
}

cs_code gcp_failure(int status, struct cs_slice body, struct cs_err *e)
{
    CS_CLEANUP(gcp_json_drop)
    json_t *j = body.len > 0 ? json_loadb((const char *)body.data, body.len, 0, NULL) : NULL;
    const json_t *error = json_object_get(j, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    cs_code code = code_of_stranger(status);
    if (message == NULL)
        return cs_fail(e, code,
                       "rpc error: code = %s desc = the answer has status %d and no error of Google's",
                       cs_code_name(code), status);
    code = code_of(json_string_value(json_object_get(error, "status")), status);
    return cs_fail(e, code, "rpc error: code = %s desc = %.384s", cs_code_name(code), message);
}

cs_code gcp_answer_read(int status, struct cs_slice body, json_t **answer, struct cs_err *e)
{
    *answer = NULL;
    if (status < 200 || status > 299)
        return gcp_failure(status, body, e);
    json_t *j =
        body.len > 0 ? json_loadb((const char *)body.data, body.len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!json_is_object(j)) {
        json_decref(j);
        return cs_fail(e, CS_INTERNAL, "the answer is no JSON object");
    }
    *answer = j;
    return CS_OK;
}

/* --- Calls --- */

static cs_code write_url(const char *path, struct cs_buf *out, struct cs_err *e)
{
    const char *base = getenv(OVERRIDE);
    if (base == NULL || *base == '\0')
        base = SERVICE;
    else if (gcp_url_check(base, e) != CS_OK)
        return cs_wrap(e, OVERRIDE);
    cs_buf_printf(out, "%s%sv1/%s", base, base[strlen(base) - 1] == '/' ? "" : "/", path);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static cs_code authorize(struct gcp *g, struct cs_buf *token, struct cs_buf *header, struct cs_err *e)
{
    if (gcp_access_token(g, token, e) != CS_OK)
        return e != NULL && e->code == CS_CANCELLED ? CS_CANCELLED : cs_wrap(e, "no access token");
    if (!cs_buf_reserve(header, token->len + 16))
        return cs_nomem(e);
    cs_buf_add_str(header, "Bearer ");
    cs_buf_add_slice(header, cs_buf_slice(token));
    return CS_OK;
}

/* With the token of the moment. All of our calls may be sent twice: a version that is added once more has the
 * same content. */
static cs_code attempt(struct gcp *g, const char *method, const char *url, struct cs_slice body,
                       struct http_response *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf token = {0}, bearer = {0};
    struct http_header headers[4] = {{"User-Agent", "spire-agent"}};
    size_t count = 1;
    CS_TRY(authorize(g, &token, &bearer, e));
    headers[count++] = (struct http_header){"Authorization", cs_buf_cstr(&bearer)};
    if (g->credentials->quota_project != NULL)
        headers[count++] = (struct http_header){"X-Goog-User-Project", g->credentials->quota_project};
    if (body.data != NULL)
        headers[count++] = (struct http_header){"Content-Type", "application/json"};
    struct http_request q = {.method = method,
                             .url = url,
                             .headers = headers,
                             .header_count = count,
                             .body = body,
                             .max_body = ANSWER_MAX,
                             .stop = g->stop};
    CS_TRY(gcp_send(g->far, &q, g->clock, out, e));
    if (out->status == 401)
        forget(g, cs_buf_slice(&token));
    return CS_OK;
}

cs_code gcp_call(struct gcp *g, const char *method, const char *path, struct cs_slice body, json_t **answer,
                 struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf url = {0};
    *answer = NULL;
    CS_TRY(write_url(path, &url, e));
    for (bool again = false;; again = true) {
        CS_CLEANUP(http_response_free) struct http_response r = {0};
        CS_TRY(attempt(g, method, cs_buf_cstr(&url), body, &r, e));
        if (r.status != 401 || again) /* the token was revoked: once more with a new one */
            return gcp_answer_read(r.status, cs_buf_slice(&r.body), answer, e);
    }
}
