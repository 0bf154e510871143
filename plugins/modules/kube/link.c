/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection to an API server, made anew when the files behind it changed.
 */
#include "crypto/hash.h"
#include "plugins/modules/kube/internal.h"

void kube_link_unref(struct kube_link *l)
{
    if (l == NULL || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    http_client_free(l->http);
    cs_buf_wipe(&l->authorization);
    cs_free(l->server);
    cs_free(l);
}

static struct cs_slice text_or_none(const char *s)
{
    return s != NULL ? cs_slice_str(s) : (struct cs_slice){0};
}

/* Each part behind its length. */
static cs_code digest(const struct kube_access *a, uint8_t out[32], struct cs_err *e)
{
    const struct cs_slice parts[] = {text_or_none(a->server),        text_or_none(a->server_name),
                                     text_or_none(a->proxy),         cs_buf_slice(&a->ca),
                                     cs_buf_slice(&a->client_cert),  cs_buf_slice(&a->client_key),
                                     cs_buf_slice(&a->authorization)};
    const size_t count = sizeof parts / sizeof parts[0];
    CS_CLEANUP(cs_buf_wipe) struct cs_buf all = {0};
    size_t total = 1;
    for (size_t i = 0; i < count; i++)
        total += sizeof parts[i].len + parts[i].len;
    if (!cs_buf_reserve(&all, total))
        return cs_nomem(e);
    cs_buf_add_byte(&all, a->insecure ? 1 : 0);
    for (size_t i = 0; i < count; i++) {
        cs_buf_add(&all, &parts[i].len, sizeof parts[i].len);
        cs_buf_add_slice(&all, parts[i]);
    }
    return crypto_digest(CRYPTO_SHA256, cs_buf_slice(&all), out, e);
}

static cs_code make(struct kube_access *a, const uint8_t digest_of_it[32], struct kube_link **out,
                    struct cs_err *e)
{
    const struct http_client_options o = {.proxy = a->proxy,
                                          .proxy_from_env = a->proxy == NULL,
                                          .ca = cs_buf_slice(&a->ca),
                                          .client_cert = cs_buf_slice(&a->client_cert),
                                          .client_key = cs_buf_slice(&a->client_key),
                                          .server_name = a->server_name,
                                          .insecure = a->insecure};
    CS_AUTO(kube_link) l = cs_calloc(1, sizeof *l);
    if (l == NULL)
        return cs_nomem(e);
    atomic_init(&l->refs, 1);
    memcpy(l->digest, digest_of_it, sizeof l->digest);
    CS_TRY(http_client_new(&o, &l->http, e));
    l->server = CS_MOVE(a->server);
    l->authorization = a->authorization;
    a->authorization = (struct cs_buf){0};
    *out = CS_MOVE(l);
    return CS_OK;
}

/* A new reference to the link of these files, if that is what we have. */
static struct kube_link *current(struct kube_client *c, const uint8_t d[32])
{
    struct kube_link *l = NULL;
    pthread_mutex_lock(&c->lock);
    if (c->link != NULL && memcmp(c->link->digest, d, sizeof c->link->digest) == 0) {
        l = c->link;
        atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&c->lock);
    return l;
}

cs_code kube_link_get(struct kube_client *c, struct kube_link **out, struct cs_err *e)
{
    CS_CLEANUP(kube_access_free) struct kube_access a = {0};
    uint8_t d[32];
    CS_TRY(kube_access_read(&c->o, &a, e));
    CS_TRY(digest(&a, d, e));
    *out = current(c, d);
    if (*out != NULL)
        return CS_OK;
    CS_TRY(make(&a, d, out, e));
    atomic_fetch_add_explicit(&(*out)->refs, 1, memory_order_relaxed);
    pthread_mutex_lock(&c->lock);
    struct kube_link *old = c->link;
    c->link = *out;
    pthread_mutex_unlock(&c->lock);
    kube_link_unref(old);
    return CS_OK;
}
