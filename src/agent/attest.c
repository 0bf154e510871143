/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's own SVID: found in storage, obtained by node attestation, renewed (pkg/agent/attestor/node and
 * pkg/agent/svid of SPIRE).
 */
#include "agent/agent.h"
#include "agent/csr.h"
#include "agent/rotation.h"
#include "base/logfields.h"
#include "spiffe/x509svid.h"

#define KEY_A "agent-svid-A"
#define KEY_B "agent-svid-B"

/* --- Keys --- */

struct key_search {
    const struct crypto_pub *pub; /* NULL: only count */
    struct crypto_signer *found;  /* a reference */
    char id[16];
    size_t count;
};

static cs_code look_at_key(void *arg, const char *id, struct crypto_signer *key, struct cs_err *e)
{
    struct key_search *s = arg;
    (void)e;
    s->count++;
    if (s->found != NULL || s->pub == NULL || strlen(id) >= sizeof s->id ||
        !crypto_pub_equal(s->pub, crypto_signer_pub(key)))
        return CS_OK;
    s->found = crypto_signer_ref(key);
    memcpy(s->id, id, strlen(id) + 1);
    return CS_OK;
}

/* A new key in the slot that the present one does not use. */
static cs_code new_key(struct agent *a, const char *present, struct crypto_signer **key, char id[16],
                       struct cs_err *e)
{
    const char *slot = strcmp(present, KEY_A) == 0 ? KEY_B : KEY_A;
    CS_TRY(a->km->generate_key(a->km_self, slot, CRYPTO_EC_P256, key, e));
    memcpy(id, slot, strlen(slot) + 1);
    return CS_OK;
}

/* --- Using an SVID --- */

static void self_clear(struct agent_self *s)
{
    x509_chain_free(&s->svid);
    crypto_signer_unref(s->key);
    *s = (struct agent_self){0};
}

/* The SPIFFE ID as text, for the log. */
static const char *id_text(const struct x509_chain *svid, char out[512])
{
    struct spiffe_id id;
    out[0] = '\0';
    if (svid->count > 0 && spiffe_x509_id(svid->at[0], &id, NULL) == CS_OK && id.text.len < 512) {
        memcpy(out, id.text.data, id.text.len);
        out[id.text.len] = '\0';
    }
    return out;
}

/* Takes svid and key over. */
static void use(struct agent *a, struct x509_chain *svid, struct crypto_signer **key, const char *key_id,
                bool reattestable)
{
    self_clear(&a->self);
    a->self.svid = *svid;
    a->self.key = CS_MOVE(*key);
    *svid = (struct x509_chain){0};
    (void)strncpy(a->self.key_id, key_id, sizeof a->self.key_id - 1);
    a->self.reattestable = reattestable;
    const struct x509_cert *leaf = a->self.svid.at[0];
    a->self.rotate_at =
        agent_rotation_time(leaf->not_before, leaf->not_after, a->cfg->availability_target_ns);
}

/* What the server gave is for our key and has an ID in our trust domain. */
static cs_code check_svid(const struct agent *a, const struct x509_chain *svid,
                          const struct crypto_signer *key, struct cs_err *e)
{
    struct crypto_pub *pub = NULL;
    struct spiffe_id id;
    CS_TRY(x509_cert_pub(svid->at[0], &pub, e));
    if (!crypto_pub_equal(pub, crypto_signer_pub(key)))
        return cs_fail(e, CS_INTERNAL, "the agent SVID that the server sent is for another key");
    CS_TRY(spiffe_x509_id(svid->at[0], &id, e));
    return spiffe_id_check_member(id, cs_slice_str(a->cfg->trust_domain), e);
}

/* --- Storage --- */

static bool expired(const struct agent *a, const struct x509_cert *leaf)
{
    return cs_now_ns(a->clock) + CS_NS_PER_S >= leaf->not_after * CS_NS_PER_S;
}

static void explain(const struct agent *a, const struct cs_log *log, const struct key_search *s)
{
    bool have = a->storage->svid.count > 0;
    if (have && s->found != NULL)
        cs_log_warn(log, "SVID key recovered, but SVID is expired. Generating new keypair");
    else if (have && s->count == 0)
        cs_log_warn(log, "SVID recovered, but no keys found. Generating new keypair");
    else if (have)
        cs_log_warn(log, "SVID recovered, but no SVID key found. Generating new keypair");
    else if (s->count > 0)
        cs_log_warn(log, "Keys recovered, but no SVID found. Generating new keypair");
}

/* Either a whole SVID (*found), or a new key to attest with. */
static cs_code load_svid(struct agent *a, const struct cs_log *log, struct crypto_signer **key,
                         char key_id[16], bool *found, struct cs_err *e)
{
    struct key_search s = {0};
    struct crypto_pub *pub = NULL;
    *found = false;
    if (a->storage->svid.count == 0)
        cs_log_debug(log, "No pre-existing agent SVID found. Will perform node attestation");
    else if (x509_cert_pub(a->storage->svid.at[0], &pub, NULL) == CS_OK)
        s.pub = pub;
    if (a->km->each_key(a->km_self, look_at_key, &s, e) != CS_OK)
        return cs_wrap(e, "unable to load private key");
    if (s.found != NULL && !expired(a, a->storage->svid.at[0])) {
        *found = true;
        *key = s.found;
        memcpy(key_id, s.id, sizeof s.id);
        return CS_OK;
    }
    explain(a, log, &s);
    cs_code rc = new_key(a, s.found != NULL ? s.id : "", key, key_id, e);
    crypto_signer_unref(s.found);
    return rc == CS_OK ? CS_OK : cs_wrap(e, "unable to generate private key");
}

static cs_code bundle_of_certs(const struct agent *a, const struct x509_chain *certs,
                               struct spiffe_bundle **out, struct cs_err *e)
{
    CS_AUTO(spiffe_bundle_builder) b = NULL;
    CS_TRY(spiffe_bundle_builder_new(cs_slice_str(a->cfg->trust_domain), &b, e));
    for (size_t i = 0; i < certs->count; i++)
        CS_TRY(spiffe_bundle_add_x509(b, certs->at[i], false, e));
    return spiffe_bundle_build(b, out, e);
}

static cs_code load_bundle(const struct agent *a, const struct x509_chain *bootstrap, bool insecure,
                           struct spiffe_bundle **out, struct cs_err *e)
{
    if (a->storage->bundle.count > 0)
        return bundle_of_certs(a, &a->storage->bundle, out, e);
    if (insecure)
        return CS_OK;
    if (bootstrap->count == 0)
        return cs_fail(e, CS_INVALID, "load bundle: no certs in bundle");
    return bundle_of_certs(a, bootstrap, out, e);
}

/* --- Node attestation --- */

/* A link without client certificate; also in a->attest_link, so that stopping reaches it. */
static cs_code open_attest_link(struct agent *a, const struct spiffe_bundle *bundle, struct agent_link **out,
                                struct cs_err *e)
{
    const struct agent_link_config cfg = {
        .loop = a->loop,
        .clock = a->clock,
        .log = cs_log_sub(a->log, "attestor"),
        .address = a->server,
        .proxy = agent_server_proxy(a->cfg),
        .trust_domain = a->cfg->trust_domain,
        .insecure = bundle == NULL,
    };
    CS_TRY(agent_link_new(&cfg, out, e));
    if (bundle != NULL)
        agent_link_set_bundle(*out, bundle);
    pthread_mutex_lock(&a->lock);
    a->attest_link = *out;
    if (a->stopping)
        agent_link_stop(*out);
    pthread_mutex_unlock(&a->lock);
    return CS_OK;
}

static void close_attest_link(struct agent *a, struct agent_link *l)
{
    pthread_mutex_lock(&a->lock);
    a->attest_link = NULL;
    pthread_mutex_unlock(&a->lock);
    agent_link_free(l);
}

static cs_code attest_over(struct agent *a, struct agent_link *l, const struct crypto_signer *key,
                           struct x509_chain *svid, bool *reattestable, struct agent_failure *failure,
                           struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf csr = {0};
    if (agent_csr_write(key, NULL, &csr, e) != CS_OK)
        return cs_wrap(e, "failed to generate CSR for attestation");
    CS_TRY(agent_api_attest(l, &a->attestor, cs_buf_slice(&csr), crypto_signer_pub(key), svid, reattestable,
                            failure, e));
    return check_svid(a, svid, key, e);
}

static cs_code updated_bundle(struct agent *a, struct agent_link *l, struct spiffe_bundle **out,
                              struct agent_failure *failure, struct cs_err *e)
{
    struct cs_log log = cs_log_sub(a->log, "attestor");
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    cs_code rc = agent_api_get_bundle(l, &log, NULL, &packed, failure, e);
    if (rc != CS_OK) {
        (void)cs_wrap(e, "failed to get updated bundle");
        return rc;
    }
    if (agent_bundle_parse(cs_buf_slice(&packed), out, e) != CS_OK)
        return cs_wrap(e, "invalid trust domain bundle");
    return CS_OK;
}

/* SVID and bundle from the server. */
static cs_code attest_new(struct agent *a, const struct spiffe_bundle *bundle, struct crypto_signer **key,
                          const char *key_id, struct agent_failure *failure, struct cs_err *e)
{
    struct agent_link *l = NULL;
    CS_TRY(open_attest_link(a, bundle, &l, e));
    CS_CLEANUP(x509_chain_free) struct x509_chain svid = {0};
    CS_AUTO(spiffe_bundle) updated = NULL;
    bool reattestable = false;
    cs_code rc = attest_over(a, l, *key, &svid, &reattestable, failure, e);
    if (rc == CS_OK)
        rc = updated_bundle(a, l, &updated, failure, e);
    close_attest_link(a, l);
    CS_TRY(rc);
    use(a, &svid, key, key_id, reattestable);
    spiffe_bundle_unref(a->bundle);
    a->bundle = CS_MOVE(updated);
    return CS_OK;
}

cs_code agent_attest(struct agent *a, const struct x509_chain *bootstrap_bundle, bool insecure,
                     struct agent_failure *failure, struct cs_err *e)
{
    struct cs_log log = cs_log_sub(a->log, "attestor");
    char id[512];
    *failure = (struct agent_failure){0};
    CS_AUTO(spiffe_bundle) bundle = NULL;
    CS_TRY(load_bundle(a, bootstrap_bundle, insecure, &bundle, e));
    if (bundle == NULL) {
        cs_log_info(&log, "Bundle is not found");
    } else {
        CS_CLEANUP(cs_freep) char *td = cs_asprintf("spiffe://%s", bundle->trust_domain);
        cs_log_info(&log, "Bundle loaded", KV(CS_F_TRUST_DOMAIN_ID, td));
    }
    CS_AUTO(crypto_signer) key = NULL;
    char key_id[16] = "";
    bool found = false;
    CS_TRY(load_svid(a, &log, &key, key_id, &found, e));
    if (!found) {
        cs_log_info(&log, "SVID is not found. Starting node attestation");
        CS_TRY(attest_new(a, bundle, &key, key_id, failure, e));
        cs_log_info(&log, "Node attestation was successful", KV_BOOL("reattestable", a->self.reattestable),
                    KV(CS_F_SPIFFE_ID, id_text(&a->self.svid, id)));
        return CS_OK;
    }
    if (bundle == NULL)
        return cs_fail(e, CS_INTERNAL, "SVID loaded but no bundle in cache");
    CS_CLEANUP(x509_chain_free) struct x509_chain svid = {0};
    CS_TRY(x509_chain_copy(&a->storage->svid, &svid, e));
    use(a, &svid, &key, key_id, a->storage->reattestable);
    spiffe_bundle_unref(a->bundle);
    a->bundle = CS_MOVE(bundle);
    cs_log_info(&log, "SVID loaded", KV(CS_F_SPIFFE_ID, id_text(&a->self.svid, id)));
    return CS_OK;
}

/* --- Renewal --- */

/* The new SVID is what later connections present. Storing it may fail: it is then lost with the process only.
 */
static cs_code adopt(struct agent *a, struct x509_chain *svid, struct crypto_signer **key, const char *key_id,
                     bool reattestable, struct cs_err *e)
{
    CS_TRY(agent_link_set_identity(a->link, svid, *key, e));
    use(a, svid, key, key_id, reattestable);
    agent_link_release(a->link);
    struct cs_err fault;
    if (agent_storage_set_svid(a->storage, &a->self.svid, reattestable, &fault) != CS_OK)
        cs_log_warn(&a->mlog, "Could not store SVID", KV_ERR(&fault));
    return CS_OK;
}

cs_code agent_reattest(struct agent *a, struct agent_failure *failure, struct cs_err *e)
{
    char id[512];
    *failure = (struct agent_failure){0};
    cs_log_debug(&a->mlog, "Reattesting node");
    if (a->bundle == NULL)
        return cs_fail(e, CS_INTERNAL, "bundle not found");
    CS_AUTO(crypto_signer) key = NULL;
    char key_id[16] = "";
    CS_TRY(new_key(a, a->self.key_id, &key, key_id, e));
    struct agent_link *l = NULL;
    CS_TRY(open_attest_link(a, a->bundle, &l, e));
    CS_CLEANUP(x509_chain_free) struct x509_chain svid = {0};
    bool reattestable = false;
    cs_code rc = attest_over(a, l, key, &svid, &reattestable, failure, e);
    close_attest_link(a, l);
    CS_TRY(rc);
    cs_log_info(&a->mlog, "Successfully reattested node", KV(CS_F_SPIFFE_ID, id_text(&svid, id)));
    return adopt(a, &svid, &key, key_id, reattestable, e);
}

cs_code agent_renew(struct agent *a, struct agent_failure *failure, struct cs_err *e)
{
    char id[512];
    *failure = (struct agent_failure){0};
    cs_log_debug(&a->mlog, "Rotating agent SVID");
    CS_AUTO(crypto_signer) key = NULL;
    char key_id[16] = "";
    CS_TRY(new_key(a, a->self.key_id, &key, key_id, e));
    CS_CLEANUP(cs_buf_free) struct cs_buf csr = {0};
    CS_TRY(agent_csr_write(key, NULL, &csr, e));
    CS_CLEANUP(x509_chain_free) struct x509_chain svid = {0};
    CS_TRY(agent_api_renew(a->link, &a->mlog, cs_buf_slice(&csr), &svid, failure, e));
    CS_TRY(check_svid(a, &svid, key, e));
    cs_log_info(&a->mlog, "Successfully rotated agent SVID", KV(CS_F_SPIFFE_ID, id_text(&svid, id)));
    return adopt(a, &svid, &key, key_id, a->self.reattestable, e);
}
