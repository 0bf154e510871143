/* SPDX-License-Identifier: Apache-2.0
 *
 * One call, from its request to its response.
 */
#include "base/clock.h"
#include "base/text.h"
#include "plugins/modules/http/internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#define DEFAULT_TIMEOUT_NS (30 * CS_NS_PER_S)
#define DEFAULT_MAX_BODY ((size_t)1 << 20)
#define BODY_FIRST ((size_t)32 * 1024)
#define MAX_HEAD ((size_t)64 * 1024)
#define MAX_RETRY_AFTER_S 86400
#define PAUSE_STEP_NS (100 * CS_NS_PER_MS)

/* --- What libcurl calls --- */

static bool is_success(const struct http_transfer *t)
{
    long status = 0;
    return curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK && status >= 200 &&
           status < 300;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct http_transfer *t = arg;
    const struct http_request *r = t->request;
    (void)size; /* 1 */
    if (r->on_body != NULL && is_success(t)) {
        cs_code rc = r->on_body(r->on_body_arg, cs_slice_of(data, n), &t->fault);
        t->fault.code = rc;
        return rc == CS_OK ? n : 0;
    }
    struct cs_buf *body = &t->response->body;
    const size_t max = r->max_body > 0 ? r->max_body : DEFAULT_MAX_BODY;
    if (n > max - body->len) {
        (void)cs_fail(&t->fault, CS_EXHAUSTED, "the response has more than %zu bytes", max);
        return 0;
    }
    if (body->len == 0) /* it may be a secret, of which growing would leave copies */
        (void)cs_buf_reserve(body, (max < BODY_FIRST ? max : BODY_FIRST) + 1);
    cs_buf_add(body, data, n);
    if (!cs_buf_ok(body)) {
        (void)cs_nomem(&t->fault);
        return 0;
    }
    return n;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct http_transfer *t = arg;
    struct cs_buf *head = &t->response->head;
    size_t len = n;
    (void)size; /* 1 */
    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
        len--;
    if (len > 5 && memcmp(data, "HTTP/", 5) == 0) { /* of the response after a redirect, or after 100 */
        cs_buf_reset(head);
        return n;
    }
    if (len > MAX_HEAD - head->len) {
        (void)cs_fail(&t->fault, CS_EXHAUSTED, "the response's headers have more than %zu bytes", MAX_HEAD);
        return 0;
    }
    if (len > 0) {
        cs_buf_add(head, data, len);
        cs_buf_add_byte(head, '\n');
    }
    if (!cs_buf_ok(head)) {
        (void)cs_nomem(&t->fault);
        return 0;
    }
    return n;
}

/* At least once a second. */
static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct http_transfer *t = arg;
    const struct crypto_stop *stop = t->request->stop;
    (void)a, (void)b, (void)c, (void)d;
    if (stop == NULL || !stop->asked(stop->arg))
        return 0;
    (void)cs_fail(&t->fault, CS_CANCELLED, "stopped");
    return 1;
}

static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    (void)arg, (void)purpose;
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* --- Options --- */

#define SET(option, value) (curl_easy_setopt(t->curl, (option), (value)) == CURLE_OK)

static bool add_header(struct http_transfer *t, const char *name, const char *value)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf line = {0};
    if (!cs_buf_reserve(&line, strlen(name) + strlen(value) + 3))
        return false;
    /* "name;" is how libcurl is told of an empty value */
    cs_buf_printf(&line, value[0] != '\0' ? "%s: %s" : "%s;", name, value);
    struct curl_slist *grown = cs_buf_ok(&line) ? curl_slist_append(t->headers, cs_buf_cstr(&line)) : NULL;
    if (grown == NULL)
        return false;
    t->headers = grown;
    return true;
}

static bool set_headers(struct http_transfer *t)
{
    const struct http_request *r = t->request;
    bool typed = false;
    for (size_t i = 0; i < r->header_count; i++) {
        typed |= strcasecmp(r->headers[i].name, "content-type") == 0;
        if (!add_header(t, r->headers[i].name, r->headers[i].value))
            return false;
    }
    /* what libcurl would add of its own */
    struct curl_slist *grown;
    if (t->request->sigv4 == NULL) { /* libcurl 7 would sign an Expect that is not sent */
        grown = curl_slist_append(t->headers, "Expect:");
        if (grown == NULL)
            return false;
        t->headers = grown;
    }
    if (!typed && t->request->sigv4 == NULL) {
        grown = curl_slist_append(t->headers, "Content-Type:");
        if (grown == NULL)
            return false;
        t->headers = grown;
    }
    return SET(CURLOPT_HTTPHEADER, t->headers);
}

static bool set_method(struct http_transfer *t)
{
    const struct http_request *r = t->request;
    if (strcmp(r->method, "HEAD") == 0)
        return SET(CURLOPT_NOBODY, 1L);
    if (r->body.data == NULL && strcmp(r->method, "GET") == 0)
        return SET(CURLOPT_HTTPGET, 1L);
    if (r->body.data == NULL)
        return SET(CURLOPT_CUSTOMREQUEST, r->method);
    return SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len) &&
           SET(CURLOPT_POSTFIELDS, (const char *)r->body.data) && SET(CURLOPT_CUSTOMREQUEST, r->method);
}

static bool set_limits(struct http_transfer *t)
{
    const struct http_request *r = t->request;
    const int64_t timeout_ns = r->timeout_ns > 0 ? r->timeout_ns : DEFAULT_TIMEOUT_NS;
    const long ms = (long)((timeout_ns + CS_NS_PER_MS - 1) / CS_NS_PER_MS);
    const long idle_s = (long)((r->idle_ns + CS_NS_PER_S - 1) / CS_NS_PER_S);
    return SET(CURLOPT_NOSIGNAL, 1L) && SET(CURLOPT_TIMEOUT_MS, ms) &&
           SET(CURLOPT_CONNECTTIMEOUT_MS, ms < 10000 ? ms : 10000L) &&
           (idle_s == 0 || (SET(CURLOPT_LOW_SPEED_LIMIT, 1L) && SET(CURLOPT_LOW_SPEED_TIME, idle_s))) &&
           SET(CURLOPT_FOLLOWLOCATION, r->max_redirects > 0 ? 1L : 0L) &&
           SET(CURLOPT_MAXREDIRS, (long)r->max_redirects);
}

/* Go's programs, SPIRE's among them, ask no proxy of the environment for what is on this machine. */
static bool is_here(const char *url)
{
    char *host = NULL;
    struct in_addr v4;
    CURLU *u = curl_url();
    bool here = u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    here = here && (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
                    (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127));
    curl_free(host);
    curl_url_cleanup(u);
    return here;
}

static bool set_route(struct http_transfer *t)
{
    const struct http_client_options *o = &t->client->o;
    const char *protocols = o->https_only ? "https" : "http,https";
    /* a redirect may not lead out of TLS */
    const char *onward = strncasecmp(t->request->url, "https:", 6) == 0 ? "https" : protocols;
    return SET(CURLOPT_TCP_KEEPALIVE, 1L) && SET(CURLOPT_PROTOCOLS_STR, protocols) &&
           SET(CURLOPT_REDIR_PROTOCOLS_STR, onward) &&
           SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) && SET(CURLOPT_MAXCONNECTS, 2L) &&
           SET(CURLOPT_FRESH_CONNECT, t->request->once ? 1L : 0L) &&
           SET(CURLOPT_FORBID_REUSE, t->request->last ? 1L : 0L) &&
           SET(CURLOPT_SSL_SESSIONID_CACHE, 0L) && /* a resumed session would not be verified again */
           ((o->proxy_from_env && !is_here(t->request->url)) ||
            SET(CURLOPT_PROXY, o->proxy != NULL ? o->proxy : "")) &&
           (o->unix_path == NULL || SET(CURLOPT_UNIX_SOCKET_PATH, o->unix_path));
}

static bool set_callbacks(struct http_transfer *t)
{
    return SET(CURLOPT_ERRORBUFFER, t->error) && SET(CURLOPT_WRITEFUNCTION, on_body) &&
           SET(CURLOPT_WRITEDATA, t) && SET(CURLOPT_HEADERFUNCTION, on_header) &&
           SET(CURLOPT_HEADERDATA, t) && SET(CURLOPT_XFERINFOFUNCTION, on_progress) &&
           SET(CURLOPT_XFERINFODATA, t) && SET(CURLOPT_NOPROGRESS, 0L) &&
           SET(CURLOPT_OPENSOCKETFUNCTION, on_socket);
}

static bool set_sigv4(struct http_transfer *t)
{
    const struct http_sigv4 *s = t->request->sigv4;
    if (s == NULL)
        return true;
    CS_CLEANUP(cs_freep) char *what = cs_asprintf("aws:amz:%s:%s", s->region, s->service);
    return what != NULL && SET(CURLOPT_AWS_SIGV4, what) && SET(CURLOPT_USERNAME, s->access_key_id) &&
           SET(CURLOPT_PASSWORD, s->secret_access_key);
}

/* libcurl takes the name from the URL; so that becomes the name, and the connection goes elsewhere. */
static bool set_url(struct http_transfer *t, struct curl_slist **elsewhere)
{
    const struct http_client_options *o = &t->client->o;
    char *host = NULL, *port = NULL;
    if (o->server_name == NULL || o->insecure)
        return SET(CURLOPT_URL, t->request->url);
    CURLU *u = curl_url();
    bool ok = u != NULL && curl_url_set(u, CURLUPART_URL, t->request->url, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              curl_url_set(u, CURLUPART_HOST, o->server_name, 0) == CURLUE_OK;
    CS_CLEANUP(cs_freep) char *to = ok ? cs_asprintf("::%s:%s", host, port) : NULL;
    CS_CLEANUP(cs_freep) char *authority = ok ? cs_asprintf("%s:%s", host, port) : NULL;
    *elsewhere = to != NULL ? curl_slist_append(NULL, to) : NULL;
    ok = ok && authority != NULL && add_header(t, "Host", authority) && *elsewhere != NULL &&
         SET(CURLOPT_CONNECT_TO, *elsewhere) && SET(CURLOPT_CURLU, u);
    curl_free(host);
    curl_free(port);
    if (ok) { /* the handle keeps no copy of u */
        char *whole = NULL;
        ok = curl_url_get(u, CURLUPART_URL, &whole, 0) == CURLUE_OK && SET(CURLOPT_CURLU, NULL) &&
             SET(CURLOPT_URL, whole);
        curl_free(whole);
    }
    curl_url_cleanup(u);
    return ok;
}

static bool set_all(struct http_transfer *t, struct curl_slist **elsewhere)
{
    return set_url(t, elsewhere) && set_method(t) && set_headers(t) && set_limits(t) && set_route(t) &&
           set_callbacks(t) && set_sigv4(t) && http_tls_setup(t);
}
#undef SET

/* --- The outcome --- */

static cs_code code_of(CURLcode c)
{
    switch (c) {
    case CURLE_OPERATION_TIMEDOUT:
        return CS_DEADLINE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        return CS_UNAUTHENTICATED;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
        return CS_INVALID;
    case CURLE_TOO_MANY_REDIRECTS:
        return CS_PRECONDITION;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_BAD_FUNCTION_ARGUMENT:
        return CS_INTERNAL;
    default:
        return CS_UNAVAILABLE;
    }
}

static cs_code failure(const struct http_transfer *t, CURLcode c, struct cs_err *e)
{
    const char *url = t->request->url;
    const int n = (int)strcspn(url, "?#");
    if (t->fault.code != CS_OK)
        return cs_fail(e, t->fault.code, "%s \"%.*s\": %s", t->request->method, n, url, t->fault.text);
    const char *text = t->error[0] != '\0' ? t->error : curl_easy_strerror(c);
    const int len = (int)strcspn(text, "\r\n");
    long sent = 0; /* libcurl also calls an answer that is not HTTP an unsupported protocol */
    const bool asked = curl_easy_getinfo(t->curl, CURLINFO_REQUEST_SIZE, &sent) == CURLE_OK && sent > 0;
    return cs_fail(e, c == CURLE_UNSUPPORTED_PROTOCOL && asked ? CS_UNAVAILABLE : code_of(c),
                   "%s \"%.*s\": %.*s", t->request->method, n, url, len, text);
}

static cs_code read_outcome(struct http_transfer *t, struct cs_err *e)
{
    long status = 0;
    curl_off_t after = 0;
    if (curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status == 0)
        return cs_fail(e, CS_UNAVAILABLE, "%s \"%s\": no status", t->request->method, t->request->url);
    t->response->status = (int)status;
    struct cs_slice given;
    if (http_response_header(t->response, "retry-after", &given) &&
        curl_easy_getinfo(t->curl, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after >= 0)
        t->response->retry_after_ns =
            (after < MAX_RETRY_AFTER_S ? (int64_t)after : MAX_RETRY_AFTER_S) * CS_NS_PER_S;
    return CS_OK;
}

static void free_headers(struct curl_slist *list)
{
    for (struct curl_slist *l = list; l != NULL; l = l->next)
        cs_wipe(l->data, strlen(l->data));
    curl_slist_free_all(list);
}

/* --- Calls --- */

static CURL *take_handle(struct http_client *c)
{
    CURL *h = NULL;
    pthread_mutex_lock(&c->lock);
    if (c->idle_count > 0)
        h = c->idle[--c->idle_count];
    pthread_mutex_unlock(&c->lock);
    return h != NULL ? h : curl_easy_init();
}

static void give_back(struct http_client *c, CURL *h)
{
    curl_easy_reset(h); /* forgets options, keeps connections */
    pthread_mutex_lock(&c->lock);
    bool kept = c->idle_count < HTTP_IDLE_MAX;
    if (kept)
        c->idle[c->idle_count++] = h;
    pthread_mutex_unlock(&c->lock);
    if (!kept)
        curl_easy_cleanup(h);
}

cs_code http_call(struct http_client *c, const struct http_request *r, struct http_response *out,
                  struct cs_err *e)
{
    struct http_transfer t = {.client = c, .request = r, .response = out};
    struct curl_slist *elsewhere = NULL;
    out->retry_after_ns = -1;
    if (r->stop != NULL && r->stop->asked(r->stop->arg))
        return cs_fail(e, CS_CANCELLED, "%s: stopped", r->method);
    t.curl = take_handle(c);
    if (t.curl == NULL)
        return cs_nomem(e);
    CURLcode rc = set_all(&t, &elsewhere) ? curl_easy_perform(t.curl) : CURLE_BAD_FUNCTION_ARGUMENT;
    cs_code code = rc == CURLE_OK ? read_outcome(&t, e) : failure(&t, rc, e);
    give_back(c, t.curl);
    free_headers(t.headers);
    curl_slist_free_all(elsewhere);
    return code;
}

/* --- Responses --- */

bool http_response_header(const struct http_response *r, const char *name, struct cs_slice *value)
{
    const size_t n = strlen(name);
    *value = (struct cs_slice){0};
    if (r->head.len == 0)
        return false;
    const char *at = (const char *)r->head.data, *end = at + r->head.len;
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if ((size_t)(line_end - at) > n && strncasecmp(at, name, n) == 0 && at[n] == ':') {
            const char *from = at + n + 1, *to = line_end;
            while (from < to && (*from == ' ' || *from == '\t'))
                from++;
            while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
                to--;
            *value = cs_slice_of(from, (size_t)(to - from));
            return true;
        }
        at = line_end + 1;
    }
    return false;
}

void http_response_free(struct http_response *r)
{
    cs_buf_wipe(&r->body);
    cs_buf_free(&r->head);
    *r = (struct http_response){0};
}

/* --- Beside calls --- */

bool http_pause(int64_t ns, const struct crypto_stop *stop)
{
    while (ns > 0) {
        if (stop != NULL && stop->asked(stop->arg))
            return false;
        const int64_t step = ns < PAUSE_STEP_NS ? ns : PAUSE_STEP_NS;
        const struct timespec t = {.tv_nsec = (long)step};
        (void)nanosleep(&t, NULL);
        ns -= step;
    }
    return stop == NULL || !stop->asked(stop->arg);
}

int64_t http_backoff(unsigned n, int64_t max_ns)
{
    const int64_t grown = (200 * CS_NS_PER_MS) << (n < 20 ? n : 20);
    const int64_t whole = grown < max_ns ? grown : max_ns;
    uint32_t random = 0;
    if (cs_random(&random, sizeof random, NULL) != CS_OK)
        return whole;
    return whole / 2 + (int64_t)(random % (uint64_t)(whole / 2 + 1));
}

void http_escape(struct cs_buf *out, struct cs_slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t c = text.data[i];
        if (c < 0x80 && (isalnum(c) || strchr("-._~", c) != NULL) && c != '\0')
            cs_buf_add_byte(out, c);
        else
            cs_buf_printf(out, "%%%02X", c);
    }
}
