/* SPDX-License-Identifier: Apache-2.0 */
#include "server/svid.h"

#include "base/text.h"
#include "crypto/x509_verify.h"
#include "rpc/tls.h"

#include <pthread.h>

struct server_svid {
    struct server_svid_config cfg;
    struct cs_log log;
    uint64_t seen;        /* revision of the bundles whose taints were looked at; rotation's thread */
    pthread_mutex_t lock; /* all below; held to copy or replace only */
    SSL_CTX *ctx;
    struct x509_chain chain;
    struct crypto_key *key;
    int64_t not_before, not_after; /* unix seconds */
};

static cs_code sign(struct server_svid *s, struct cs_arena *a, struct ca_x509 *x509, struct crypto_key **key,
                    struct cs_err *e)
{
    CS_TRY(crypto_key_generate_until(s->cfg.type, s->cfg.stop, key, e));
    return ca_sign_server(s->cfg.ca, a, crypto_pub_spki(crypto_key_pub(*key)), x509, e);
}

/* Takes over ctx, chain and key. */
static void swap(struct server_svid *s, SSL_CTX *ctx, struct x509_chain *chain, struct crypto_key **key,
                 const struct ca_x509 *x509)
{
    pthread_mutex_lock(&s->lock);
    SSL_CTX *old_ctx = s->ctx;
    struct x509_chain old_chain = s->chain;
    struct crypto_key *old_key = s->key;
    s->ctx = ctx;
    s->chain = *chain;
    s->key = CS_MOVE(*key);
    s->not_before = x509->not_before;
    s->not_after = x509->not_after;
    pthread_mutex_unlock(&s->lock);
    *chain = old_chain;
    crypto_key_unref(old_key);
    rpc_tls_ctx_unref(old_ctx);
}

static cs_code replace(struct server_svid *s, struct cs_err *e)
{
    cs_log_debug(&s->log, "Rotating server SVID");
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    CS_AUTO(crypto_key) key = NULL;
    struct ca_x509 x509;
    CS_TRY(sign(s, a, &x509, &key, e));
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_TRY(x509_chain_parse_list(x509.chain, x509.count, &chain, e));
    SSL_CTX *fresh = NULL;
    CS_TRY(rpc_tls_server_ctx(x509.chain, x509.count, crypto_key_pkey(key), &fresh, e));

    CS_CLEANUP(cs_buf_free) struct cs_buf when = {0};
    cs_time_rfc3339(&when, x509.not_after);
    cs_log_debug(&s->log, "Signed X509 SVID", KV("expiration", cs_buf_cstr(&when)));
    swap(s, fresh, &chain, &key, &x509);
    return CS_OK;
}

cs_code server_svid_new(const struct server_svid_config *cfg, struct server_svid **out, struct cs_err *e)
{
    *out = NULL;
    struct server_svid *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->cfg = *cfg;
    s->log = cs_log_sub(cfg->log, "svid_rotator");
    int rc = pthread_mutex_init(&s->lock, NULL);
    if (rc != 0) {
        cs_free(s);
        return cs_fail_errno(e, CS_INTERNAL, rc, "server SVID lock");
    }
    cs_code code = replace(s, e);
    if (code != CS_OK) {
        server_svid_free(s);
        return code;
    }
    *out = s;
    return CS_OK;
}

void server_svid_free(struct server_svid *s)
{
    if (s == NULL)
        return;
    rpc_tls_ctx_unref(s->ctx);
    x509_chain_free(&s->chain);
    crypto_key_unref(s->key);
    pthread_mutex_destroy(&s->lock);
    cs_free(s);
}

SSL_CTX *server_svid_ctx(void *svid)
{
    struct server_svid *s = svid;
    pthread_mutex_lock(&s->lock);
    SSL_CTX *ctx = rpc_tls_ctx_ref(s->ctx);
    pthread_mutex_unlock(&s->lock);
    return ctx;
}

int64_t server_svid_due(struct server_svid *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t at = s->not_before * CS_NS_PER_S + (s->not_after - s->not_before) * CS_NS_PER_S / 2;
    pthread_mutex_unlock(&s->lock);
    return at;
}

/* --- For plugins --- */

static cs_code copy_chain(const struct x509_chain *chain, struct plugin_identity *out, struct cs_err *e)
{
    out->chain = cs_calloc(chain->count, sizeof *out->chain);
    if (out->chain == NULL)
        return cs_nomem(e);
    out->chain_count = chain->count;
    for (size_t i = 0; i < chain->count; i++) {
        cs_buf_add_slice(&out->chain[i], chain->at[i]->der);
        if (!cs_buf_ok(&out->chain[i]))
            return cs_nomem(e);
    }
    return CS_OK;
}

static cs_code copy_key(const struct crypto_key *key, struct plugin_identity *out, struct cs_err *e)
{
    CS_AUTO(cs_secret) der = NULL;
    CS_TRY(crypto_key_pkcs8(key, &der, e));
    if (!cs_buf_reserve(&out->key, der->len))
        return cs_nomem(e);
    cs_buf_add(&out->key, der->data, der->len);
    return CS_OK;
}

cs_code server_svid_identity(struct server_svid *s, struct plugin_identity *out, struct cs_err *e)
{
    *out = (struct plugin_identity){0};
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    pthread_mutex_lock(&s->lock);
    CS_AUTO(crypto_key) key = crypto_key_ref(s->key);
    cs_code rc = x509_chain_copy(&s->chain, &chain, e);
    pthread_mutex_unlock(&s->lock);
    if (rc == CS_OK)
        rc = copy_chain(&chain, out, e);
    if (rc == CS_OK)
        rc = copy_key(key, out, e);
    if (rc != CS_OK)
        plugin_identity_free(out);
    return rc;
}

/* --- Rotation --- */

/* Does our chain lead to one of the bundle's tainted authorities? Its CA was replaced before the taint was
 * stored, so a new SVID leads to another. */
static bool is_tainted(struct server_svid *s)
{
    uint64_t now = bundlestore_revision(s->cfg.bundles);
    if (now == s->seen)
        return false;
    s->seen = now;
    CS_AUTO(spiffe_bundle) own = bundlestore_own(s->cfg.bundles);
    CS_CLEANUP(cs_freep)
    const struct x509_cert **roots = own != NULL ? cs_calloc(own->x509_count + 1, sizeof(void *)) : NULL;
    if (roots == NULL)
        return false;
    struct x509_verify_params params = {.roots = roots, .now = cs_now_s(s->cfg.clock)};
    for (size_t i = 0; i < own->x509_count; i++)
        if (own->x509[i].tainted)
            roots[params.root_count++] = own->x509[i].cert;
    /* only this thread replaces the chain */
    return params.root_count > 0 && x509_verify(&s->chain, &params, NULL, NULL, NULL) == CS_OK;
}

cs_code server_svid_rotate(struct server_svid *s, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    bool tainted = is_tainted(s);
    if (tainted)
        cs_log_info(&s->log,
                    "Server SVID signed using a tainted authority, forcing rotation of the Server SVID");
    if (!tainted && cs_now_ns(s->cfg.clock) <= server_svid_due(s))
        return CS_OK;
    cs_code rc = replace(s, e);
    if (rc == CS_OK)
        return CS_OK;
    if (tainted)
        s->seen = 0; /* again next time */
    cs_log_error(&s->log, "Could not rotate server SVID", KV_ERR(e));
    return rc;
}
