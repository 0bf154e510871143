/* SPDX-License-Identifier: Apache-2.0 */
#include "server/agentcache.h"

#include "base/coll.h"

#include <pthread.h>

#define SHARDS 16

struct shard {
    pthread_mutex_t lock;
    struct cs_map *agents;
};

struct agentcache {
    struct shard shard[SHARDS];
};

struct agent *agent_ref(struct agent *a)
{
    a->refs++;
    return a;
}

void agent_unref(struct agent *a)
{
    if (a == NULL || --a->refs > 0)
        return;
    selset_unref(a->selectors);
    cs_free(a);
}

static void agent_release(void *p)
{
    agent_unref(p);
}

cs_code agentcache_new(struct agentcache **out, struct cs_err *e)
{
    *out = NULL;
    struct agentcache *c = cs_calloc(1, sizeof *c);
    if (c == NULL)
        return cs_nomem(e);
    bool ok = true;
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&c->shard[i].lock, NULL);
        c->shard[i].agents = cs_map_new(agent_release);
        ok = ok && c->shard[i].agents != NULL;
    }
    if (!ok) {
        agentcache_free(c);
        return cs_nomem(e);
    }
    *out = c;
    return CS_OK;
}

void agentcache_free(struct agentcache *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        cs_map_free(c->shard[i].agents);
        pthread_mutex_destroy(&c->shard[i].lock);
    }
    cs_free(c);
}

static struct shard *lock_shard(struct agentcache *c, struct cs_slice id)
{
    struct shard *s = &c->shard[cs_hash(id) % SHARDS];
    pthread_mutex_lock(&s->lock);
    return s;
}

struct agent *agentcache_get(struct agentcache *c, struct cs_slice spiffe_id)
{
    struct shard *s = lock_shard(c, spiffe_id);
    struct agent *a = cs_map_get(s->agents, spiffe_id);
    if (a != NULL)
        agent_ref(a);
    pthread_mutex_unlock(&s->lock);
    return a;
}

static struct agent *agent_new(const struct agentcache_node *n, bool attested, struct selset *selectors)
{
    const char *serial = n->serial != NULL ? n->serial : "",
               *next = n->new_serial != NULL ? n->new_serial : "";
    size_t len = strlen(serial), next_len = strlen(next);
    struct agent *a = cs_calloc(1, sizeof *a + len + next_len + 2);
    if (a == NULL)
        return NULL;
    a->refs = 1;
    a->attested = attested;
    a->can_reattest = n->can_reattest;
    a->expires_at = n->expires_at;
    a->new_expires_at = n->new_expires_at;
    a->selectors = selset_ref(selectors);
    memcpy(a->text, serial, len);
    memcpy(a->text + len + 1, next, next_len);
    a->serial = a->text;
    a->new_serial = a->text + len + 1;
    return a;
}

/* Swaps the record; takes the reference of `a`, which is NULL when there was no memory. */
static cs_code store(struct shard *s, struct cs_slice id, struct agent *a, struct cs_err *e)
{
    if (a != NULL && cs_map_put(s->agents, id, a) == CS_OK)
        return CS_OK;
    agent_unref(a);
    /* An older record could let a banned agent in. */
    cs_map_del(s->agents, id);
    return cs_nomem(e);
}

cs_code agentcache_set_node(struct agentcache *c, struct cs_slice spiffe_id, const struct agentcache_node *n,
                            struct cs_err *e)
{
    struct shard *s = lock_shard(c, spiffe_id);
    const struct agent *old = cs_map_get(s->agents, spiffe_id);
    cs_code code = store(s, spiffe_id, agent_new(n, true, old != NULL ? old->selectors : NULL), e);
    pthread_mutex_unlock(&s->lock);
    return code;
}

cs_code agentcache_set_selectors(struct agentcache *c, struct cs_slice spiffe_id, struct selset *selectors,
                                 struct cs_err *e)
{
    struct shard *s = lock_shard(c, spiffe_id);
    const struct agent *old = cs_map_get(s->agents, spiffe_id);
    struct agentcache_node n = {0};
    if (old != NULL)
        n = (struct agentcache_node){old->serial, old->new_serial, old->expires_at, old->new_expires_at,
                                     old->can_reattest};
    cs_code code = store(s, spiffe_id, agent_new(&n, old != NULL && old->attested, selectors), e);
    pthread_mutex_unlock(&s->lock);
    return code;
}

void agentcache_remove(struct agentcache *c, struct cs_slice spiffe_id)
{
    struct shard *s = lock_shard(c, spiffe_id);
    cs_map_del(s->agents, spiffe_id);
    pthread_mutex_unlock(&s->lock);
}

void agentcache_remove_attested(struct agentcache *c, struct cs_slice spiffe_id)
{
    struct shard *s = lock_shard(c, spiffe_id);
    const struct agent *a = cs_map_get(s->agents, spiffe_id);
    if (a != NULL && a->attested)
        cs_map_del(s->agents, spiffe_id);
    pthread_mutex_unlock(&s->lock);
}

void agentcache_sweep(struct agentcache *c, bool (*gone)(void *arg, struct cs_slice spiffe_id), void *arg)
{
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shard[i];
        struct cs_slice id;
        void *agent;
        pthread_mutex_lock(&s->lock);
        for (size_t it = 0; cs_map_next(s->agents, &it, &id, &agent);)
            if (((const struct agent *)agent)->attested && gone(arg, id)) {
                cs_map_del(s->agents, id);
                it = 0; /* the map has moved things */
            }
        pthread_mutex_unlock(&s->lock);
    }
}

size_t agentcache_len(struct agentcache *c)
{
    size_t n = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&c->shard[i].lock);
        n += cs_map_len(c->shard[i].agents);
        pthread_mutex_unlock(&c->shard[i].lock);
    }
    return n;
}
