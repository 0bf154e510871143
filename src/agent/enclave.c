/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/enclave.h"

#include "base/fileset.h"
#include "base/logfields.h"
#include "base/text.h"
#include "crypto/pem.h"

#define RETRY_NS (INT64_C(5) * CS_NS_PER_S)

struct agent_enclave {
    struct agent *agent;
    struct cs_log log;
    struct agent_subscription *sub;
    struct agent_update *pending; /* still to be written */
    int64_t due;                  /* monotonic; when to try again */
    const struct agent_svid *written_svid;
    const struct spiffe_bundle *written_bundle; /* what the files hold; a reference, as the one above */
    bool serving, identity;                     /* there is a Workload API; there has been an identity */
    bool clean; /* there are no files, and none were left by somebody before us */
};

/* --- What to write --- */

static const struct agent_identity *choose(const struct agent_enclave *n, const struct agent_update *u)
{
    const char *hint = n->agent->cfg->enclave.hint;
    for (size_t i = 0; i < u->count; i++)
        if (*hint == '\0' || strcmp(u->identities[i].entry->hint, hint) == 0)
            return &u->identities[i];
    return NULL;
}

static cs_code put_chain(const struct agent_svid *svid, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_TRY(x509_chain_parse_der(svid->chain, X509_CHAIN_MAX, &chain, e));
    for (size_t i = 0; i < chain.count; i++)
        pem_write(out, PEM_CERTIFICATE, chain.at[i]->der);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

/* Room first: what a growing buffer leaves behind is not wiped. */
static cs_code put_key(const struct agent_svid *svid, struct cs_buf *out, struct cs_err *e)
{
    if (!cs_buf_reserve(out, svid->key->len * 2 + 256))
        return cs_nomem(e);
    pem_write(out, PEM_PRIVATE_KEY, cs_slice_of(svid->key->data, svid->key->len));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static cs_code put_bundle(const struct spiffe_bundle *b, struct cs_buf *out, struct cs_err *e)
{
    for (size_t i = 0; i < b->x509_count; i++)
        pem_write(out, PEM_CERTIFICATE, b->x509[i].cert->der);
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

#define FILES 3

static struct cs_fileset files_of(const struct agent_config_enclave *c, struct cs_fileset_file files[FILES])
{
    files[0] = (struct cs_fileset_file){.name = c->svid_file_name, .mode = 0600};
    files[1] = (struct cs_fileset_file){.name = c->svid_key_file_name, .mode = 0600};
    files[2] = (struct cs_fileset_file){.name = c->svid_bundle_file_name, .mode = 0600};
    return (struct cs_fileset){
        .dir = c->svid_dir, .files = files, .count = FILES, .uid = c->uid, .gid = c->gid};
}

/* --- Writing --- */

static void remember(struct agent_enclave *n, const struct agent_svid *svid,
                     const struct spiffe_bundle *bundle)
{
    agent_svid_unref(n->written_svid);
    spiffe_bundle_unref(n->written_bundle);
    n->written_svid = svid != NULL ? agent_svid_ref(svid) : NULL;
    n->written_bundle = bundle != NULL ? spiffe_bundle_ref(bundle) : NULL;
    n->clean = svid == NULL;
}

static cs_code drop_files(struct agent_enclave *n, struct cs_err *e)
{
    struct cs_fileset_file files[FILES];
    const struct cs_fileset f = files_of(&n->agent->cfg->enclave, files);
    if (n->clean)
        return CS_OK;
    CS_TRY(cs_fileset_remove(&f, e));
    remember(n, NULL, NULL);
    cs_log_warn(&n->log, "There is no identity for the X509-SVID files; there are none now",
                KV("dir", f.dir));
    return CS_OK;
}

static cs_code write_files(struct agent_enclave *n, const struct agent_identity *id,
                           const struct spiffe_bundle *bundle, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf chain = {0};
    CS_CLEANUP(cs_buf_wipe) struct cs_buf key = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf roots = {0};
    struct cs_fileset_file files[FILES];
    const struct cs_fileset f = files_of(&n->agent->cfg->enclave, files);
    if (n->written_svid == id->svid && n->written_bundle != NULL &&
        spiffe_bundle_equal(n->written_bundle, bundle))
        return CS_OK;
    CS_TRY(put_chain(id->svid, &chain, e));
    CS_TRY(put_key(id->svid, &key, e));
    CS_TRY(put_bundle(bundle, &roots, e));
    files[0].data = cs_buf_slice(&chain);
    files[1].data = cs_buf_slice(&key);
    files[2].data = cs_buf_slice(&roots);
    CS_TRY(cs_fileset_write(&f, e));
    remember(n, id->svid, bundle);
    CS_CLEANUP(cs_buf_free) struct cs_buf expires = {0};
    cs_time_rfc3339(&expires, id->svid->not_after);
    cs_log_info(&n->log, "X509-SVID files written", KV("dir", f.dir),
                KV(CS_F_SPIFFE_ID, id->entry->spiffe_id), KV(CS_F_EXPIRES_AT, cs_buf_cstr(&expires)));
    return CS_OK;
}

static cs_code put(struct agent_enclave *n, const struct agent_update *u, struct cs_err *e)
{
    if (*n->agent->cfg->enclave.svid_dir == '\0')
        return CS_OK;
    const struct agent_identity *id = choose(n, u);
    if (id == NULL || u->bundle == NULL)
        return drop_files(n, e);
    return write_files(n, id, u->bundle, e);
}

/* --- The workload --- */

static cs_code start_command(struct agent_enclave *n, struct cs_err *e)
{
    struct agent *a = n->agent;
    if (a->cfg->enclave.command.len == 0 || !n->identity || !n->serving)
        return CS_OK;
    pthread_mutex_lock(&a->lock); /* whoever sees it end must know its number */
    bool start = !a->command.started && !a->stopping;
    cs_code rc = start ? agent_command_start(&a->command, a->cfg, e) : CS_OK;
    int64_t pid = a->command.pid;
    pthread_mutex_unlock(&a->lock);
    if (rc != CS_OK)
        return cs_wrap(e, "failed to start the workload");
    if (start)
        cs_log_info(&n->log, "Workload started", KV("path", a->cfg->enclave.command.at[0]),
                    KV_INT("pid", pid));
    return CS_OK;
}

cs_code agent_enclave_serve(struct agent_enclave *n, struct cs_err *e)
{
    if (n == NULL)
        return CS_OK;
    n->serving = true;
    return start_command(n, e);
}

cs_code agent_enclave_tick(struct agent_enclave *n, struct cs_err *e)
{
    struct cs_err fault;
    if (n == NULL)
        return CS_OK;
    struct agent_update *fresh = agent_subscription_take(n->sub);
    if (fresh != NULL) {
        agent_update_unref(n->pending);
        n->pending = fresh;
        n->due = INT64_MIN;
    }
    int64_t now = cs_mono_ns(n->agent->clock);
    if (n->pending == NULL || now < n->due)
        return CS_OK;
    if (put(n, n->pending, &fault) != CS_OK) {
        n->due = now + RETRY_NS;
        cs_log_error(&n->log, "Could not write the X509-SVID files", KV_ERR(&fault),
                     KV("dir", n->agent->cfg->enclave.svid_dir));
        return CS_OK;
    }
    n->identity = n->identity || n->pending->count > 0;
    agent_update_unref(n->pending);
    n->pending = NULL;
    n->due = INT64_MAX;
    return start_command(n, e);
}

int64_t agent_enclave_due(const struct agent_enclave *n)
{
    return n != NULL && n->pending != NULL ? n->due : INT64_MAX;
}

/* --- Life --- */

/* The cache changes on the manager's thread only, which looks after each of its steps. */
static bool notified(void *arg)
{
    (void)arg;
    return true;
}

cs_code agent_enclave_new(struct agent *a, struct agent_enclave **out, struct cs_err *e)
{
    static const char *const selector = AGENT_ENCLAVE_SELECTOR;
    bool waiting = false;
    *out = NULL;
    CS_AUTO(agent_enclave) n = cs_calloc(1, sizeof *n);
    if (n == NULL)
        return cs_nomem(e);
    n->agent = a;
    n->log = cs_log_sub(a->log, "enclave");
    n->due = INT64_MAX;
    CS_TRY(agent_cache_subscribe(a->cache, &selector, 1, notified, n, &n->sub, &waiting, e));
    *out = CS_MOVE(n);
    return CS_OK;
}

void agent_enclave_free(struct agent_enclave *n)
{
    if (n == NULL)
        return;
    agent_subscription_free(n->sub);
    agent_update_unref(n->pending);
    remember(n, NULL, NULL);
    cs_free(n);
}
