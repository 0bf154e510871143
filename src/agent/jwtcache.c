/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/jwtcache.h"

#include "agent/rotation.h"
#include "base/coll.h"
#include "base/mem.h"
#include "crypto/jose.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct holder {
    struct agent_jwt jwt; /* first: what callers see */
    atomic_uint refs;
    char text[]; /* token, kid */
};

struct slot {
    struct agent_jwt *jwt;
    struct slot *newer, *older;
    size_t key_len;
    uint8_t key[];
};

struct agent_jwt_cache {
    pthread_mutex_t lock;
    struct cs_map *slots; /* key -> struct slot */
    struct slot *newest, *oldest;
    size_t max;
};

/* --- Tokens --- */

static struct holder *holder_of(const struct agent_jwt *j)
{
    return (struct holder *)(uintptr_t)j;
}

cs_code agent_jwt_new(const char *token, int64_t issued_at, int64_t expires_at, struct agent_jwt **out,
                      struct cs_err *e)
{
    *out = NULL;
    CS_CLEANUP(jose_jws_free) struct jose_jws jws = {0};
    const char *kid = jose_parse(cs_slice_str(token), &jws, NULL) == CS_OK ? jws.kid : "";
    size_t len = strlen(token) + 1;
    size_t kid_len = strlen(kid) + 1;
    struct holder *h = cs_malloc(sizeof *h + len + kid_len);
    if (h == NULL)
        return cs_nomem(e);
    memcpy(h->text, token, len);
    memcpy(h->text + len, kid, kid_len);
    h->jwt = (struct agent_jwt){
        .token = h->text,
        .kid = h->text + len,
        .issued_at = issued_at,
        .expires_at = expires_at,
        .renew_at = agent_rotation_time(issued_at, expires_at, 0),
    };
    atomic_init(&h->refs, 1);
    *out = &h->jwt;
    return CS_OK;
}

struct agent_jwt *agent_jwt_ref(const struct agent_jwt *j)
{
    atomic_fetch_add_explicit(&holder_of(j)->refs, 1, memory_order_relaxed);
    return (struct agent_jwt *)(uintptr_t)j;
}

void agent_jwt_unref(const struct agent_jwt *j)
{
    if (j == NULL || atomic_fetch_sub_explicit(&holder_of(j)->refs, 1, memory_order_acq_rel) != 1)
        return;
    cs_wipe(holder_of(j)->text, strlen(j->token)); /* a bearer token is a secret */
    cs_free(holder_of(j));
}

/* --- The list, newest first --- */

static void unlink_slot(struct agent_jwt_cache *c, struct slot *s)
{
    if (s->newer != NULL)
        s->newer->older = s->older;
    else
        c->newest = s->older;
    if (s->older != NULL)
        s->older->newer = s->newer;
    else
        c->oldest = s->newer;
    s->newer = s->older = NULL;
}

static void push_newest(struct agent_jwt_cache *c, struct slot *s)
{
    s->older = c->newest;
    if (s->older != NULL)
        s->older->newer = s;
    else
        c->oldest = s;
    c->newest = s;
}

static void drop_slot(struct agent_jwt_cache *c, struct slot *s)
{
    unlink_slot(c, s);
    (void)cs_map_take(c->slots, cs_slice_of(s->key, s->key_len));
    agent_jwt_unref(s->jwt);
    cs_free(s);
}

/* --- The cache --- */

cs_code agent_jwt_cache_new(int64_t max, struct agent_jwt_cache **out, struct cs_err *e)
{
    *out = NULL;
    struct agent_jwt_cache *c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&c->lock, NULL); /* cannot fail without attributes on Linux */
    c->max = max > 0 ? (size_t)max : AGENT_JWT_CACHE_DEFAULT;
    c->slots = cs_map_new(NULL);
    if (c->slots == NULL) {
        agent_jwt_cache_free(c);
        return cs_nomem(e);
    }
    *out = c;
    return CS_OK;
}

void agent_jwt_cache_free(struct agent_jwt_cache *c)
{
    if (c == NULL)
        return;
    while (c->newest != NULL)
        drop_slot(c, c->newest);
    cs_map_free(c->slots);
    pthread_mutex_destroy(&c->lock);
    cs_free(c);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* ID and audiences in order, each with a NUL behind it. */
static bool make_key(struct cs_buf *out, const char *spiffe_id, const char *const *audience, size_t count)
{
    const char **sorted = cs_malloc((count + 1) * sizeof *sorted);
    if (sorted == NULL)
        return false;
    if (count > 0)
        memcpy(sorted, audience, count * sizeof *sorted);
    if (count > 1)
        qsort(sorted, count, sizeof *sorted, by_text);
    cs_buf_add(out, spiffe_id, strlen(spiffe_id) + 1);
    for (size_t i = 0; i < count; i++)
        cs_buf_add(out, sorted[i], strlen(sorted[i]) + 1);
    cs_free(sorted);
    return cs_buf_ok(out);
}

struct agent_jwt *agent_jwt_cache_get(struct agent_jwt_cache *c, const char *spiffe_id,
                                      const char *const *audience, size_t count)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf key = {0};
    if (!make_key(&key, spiffe_id, audience, count))
        return NULL;
    struct agent_jwt *found = NULL;
    pthread_mutex_lock(&c->lock);
    struct slot *s = cs_map_get(c->slots, cs_buf_slice(&key));
    if (s != NULL) {
        unlink_slot(c, s);
        push_newest(c, s);
        found = agent_jwt_ref(s->jwt);
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

/* A slot without token, in map and list. Lock held. */
static struct slot *add_slot(struct agent_jwt_cache *c, struct cs_slice key)
{
    struct slot *s = cs_calloc(1, sizeof *s + key.len);
    if (s == NULL)
        return NULL;
    memcpy(s->key, key.data, key.len);
    s->key_len = key.len;
    if (cs_map_put(c->slots, key, s) != CS_OK) {
        cs_free(s);
        return NULL;
    }
    push_newest(c, s);
    return s;
}

void agent_jwt_cache_put(struct agent_jwt_cache *c, const char *spiffe_id, const char *const *audience,
                         size_t count, const struct agent_jwt *jwt)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf key = {0};
    if (!make_key(&key, spiffe_id, audience, count))
        return;
    pthread_mutex_lock(&c->lock);
    struct slot *s = cs_map_get(c->slots, cs_buf_slice(&key));
    if (s == NULL) {
        if (cs_map_len(c->slots) >= c->max)
            drop_slot(c, c->oldest);
        s = add_slot(c, cs_buf_slice(&key));
    }
    if (s != NULL) {
        agent_jwt_unref(s->jwt);
        s->jwt = agent_jwt_ref(jwt);
    }
    pthread_mutex_unlock(&c->lock);
}

size_t agent_jwt_cache_sweep(struct agent_jwt_cache *c, bool (*good)(void *arg, const char *kid), void *arg)
{
    size_t dropped = 0;
    pthread_mutex_lock(&c->lock);
    for (struct slot *s = c->newest; s != NULL;) {
        struct slot *next = s->older;
        if (!good(arg, s->jwt->kid)) {
            drop_slot(c, s);
            dropped++;
        }
        s = next;
    }
    pthread_mutex_unlock(&c->lock);
    return dropped;
}

size_t agent_jwt_cache_count(struct agent_jwt_cache *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = cs_map_len(c->slots);
    pthread_mutex_unlock(&c->lock);
    return n;
}
