/* SPDX-License-Identifier: Apache-2.0
 *
 * The client: its options, and the handles that keep connections.
 */
#include "plugins/modules/http/internal.h"

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

/* OpenSSL is the program's, and set up by then. */
static void init_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); /* if it fails, so does curl_easy_init */
}

static bool copy_text(struct cs_arena *a, const char **text)
{
    return *text == NULL || (*text = cs_arena_strdup(a, *text)) != NULL;
}

static bool copy_slice(struct cs_arena *a, struct cs_slice *s)
{
    return s->len == 0 || (s->data = cs_arena_memdup(a, s->data, s->len)) != NULL;
}

static cs_code copy_options(struct http_client *c, const struct http_client_options *o, struct cs_err *e)
{
    c->o = *o;
    c->arena = cs_arena_new(0, 0);
    if (c->arena == NULL || !copy_text(c->arena, &c->o.unix_path) || !copy_text(c->arena, &c->o.proxy) ||
        !copy_text(c->arena, &c->o.ca_file) || !copy_text(c->arena, &c->o.server_name) ||
        !copy_slice(c->arena, &c->o.ca) || !copy_slice(c->arena, &c->o.client_cert))
        return cs_nomem(e);
    if (o->client_key.len > 0) {
        CS_TRY(cs_secret_copy(o->client_key.data, o->client_key.len, &c->client_key, e));
        c->o.client_key = cs_slice_of(c->client_key->data, c->client_key->len);
    }
    return CS_OK;
}

cs_code http_client_new(const struct http_client_options *o, struct http_client **out, struct cs_err *e)
{
    *out = NULL;
    if ((o->client_cert.len > 0) != (o->client_key.len > 0))
        return cs_fail(e, CS_INVALID, "a client certificate needs its private key, and the other way round");
    (void)pthread_once(&curl_once, init_curl);
    struct http_client *c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&c->lock, NULL); /* cannot fail without attributes on Linux */
    cs_code rc = copy_options(c, o, e);
    if (rc != CS_OK) {
        http_client_free(c);
        return rc;
    }
    *out = c;
    return CS_OK;
}

void http_client_free(struct http_client *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->idle_count; i++)
        curl_easy_cleanup(c->idle[i]);
    pthread_mutex_destroy(&c->lock);
    cs_secret_free(c->client_key);
    cs_arena_free(c->arena);
    cs_free(c);
}
