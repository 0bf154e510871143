/* SPDX-License-Identifier: Apache-2.0 */
#include "server/host.h"

#include "base/mem.h"
#include "datastore/datastore.h"
#include "server/bundlestore.h"
#include "server/svid.h"

#include <pthread.h>

struct server_host {
    struct plugin_host services;
    pthread_rwlock_t lock; /* read: while a question is answered */
    bool open;
    struct ds *ds;
    struct bundlestore *bundles;
    struct server_svid *svid;
};

static cs_code not_yet(const char *service, struct cs_err *e)
{
    return cs_fail(e, CS_PRECONDITION, "%s host service has not been initialized", service);
}

/* --- IdentityProvider --- */

static cs_code own_identity(struct server_host *h, struct plugin_identity *out, struct cs_err *e)
{
    if (!h->open)
        return not_yet("IdentityProvider", e);
    CS_TRY(server_svid_identity(h->svid, out, e));
    out->bundle = bundlestore_own(h->bundles);
    if (out->bundle != NULL)
        return CS_OK;
    plugin_identity_free(out);
    return cs_fail(e, CS_NOT_FOUND, "trust domain bundle is missing");
}

static cs_code identity(void *arg, struct plugin_identity *out, struct cs_err *e)
{
    struct server_host *h = arg;
    *out = (struct plugin_identity){0};
    pthread_rwlock_rdlock(&h->lock);
    cs_code rc = own_identity(h, out, e);
    pthread_rwlock_unlock(&h->lock);
    return rc;
}

/* --- AgentStore --- */

static cs_code find_agent(struct server_host *h, const char *agent_id, struct cs_err *e)
{
    if (!h->open)
        return not_yet("AgentStore", e);
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct ds_node *node = NULL;
    CS_TRY(ds_node_fetch(h->ds, a, agent_id, &node, e));
    return node != NULL ? CS_OK : cs_fail(e, CS_NOT_FOUND, "no such agent");
}

static cs_code agent_info(void *arg, const char *agent_id, struct cs_err *e)
{
    struct server_host *h = arg;
    pthread_rwlock_rdlock(&h->lock);
    cs_code rc = find_agent(h, agent_id, e);
    pthread_rwlock_unlock(&h->lock);
    return rc;
}

/* --- Life --- */

cs_code server_host_new(struct server_host **out, struct cs_err *e)
{
    *out = NULL;
    struct server_host *h = cs_calloc(1, sizeof *h);
    if (h == NULL)
        return cs_nomem(e);
    int rc = pthread_rwlock_init(&h->lock, NULL);
    if (rc != 0) {
        cs_free(h);
        return cs_fail_errno(e, CS_INTERNAL, rc, "host services lock");
    }
    h->services = (struct plugin_host){.arg = h, .identity = identity, .agent_info = agent_info};
    *out = h;
    return CS_OK;
}

void server_host_free(struct server_host *h)
{
    if (h == NULL)
        return;
    pthread_rwlock_destroy(&h->lock);
    cs_free(h);
}

const struct plugin_host *server_host_services(const struct server_host *h)
{
    return &h->services;
}

void server_host_open(struct server_host *h, struct ds *ds, struct bundlestore *bundles,
                      struct server_svid *svid)
{
    pthread_rwlock_wrlock(&h->lock);
    h->ds = ds;
    h->bundles = bundles;
    h->svid = svid;
    h->open = true;
    pthread_rwlock_unlock(&h->lock);
}

void server_host_close(struct server_host *h)
{
    if (h == NULL)
        return;
    pthread_rwlock_wrlock(&h->lock);
    h->open = false;
    pthread_rwlock_unlock(&h->lock);
}
