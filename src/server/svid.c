/* SPDX-License-Identifier: Apache-2.0 */
#include "server/svid.h"

#include "base/text.h"
#include "rpc/tls.h"

#include <pthread.h>

struct server_svid {
    struct ca *ca;
    enum crypto_key_type type;
    const struct crypto_stop *stop;
    const struct cs_clock *clock;
    struct cs_log log;
    pthread_mutex_t lock; /* the two below; held to copy or replace only */
    SSL_CTX *ctx;
    int64_t not_before, not_after; /* unix seconds */
};

static cs_code sign(struct server_svid *s, struct cs_arena *a, struct ca_x509 *x509, struct crypto_key **key,
                    struct cs_err *e)
{
    CS_TRY(crypto_key_generate_until(s->type, s->stop, key, e));
    return ca_sign_server(s->ca, a, crypto_pub_spki(crypto_key_pub(*key)), x509, e);
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
    SSL_CTX *fresh = NULL;
    CS_TRY(rpc_tls_server_ctx(x509.chain, x509.count, crypto_key_pkey(key), &fresh, e));

    CS_CLEANUP(cs_buf_free) struct cs_buf when = {0};
    cs_time_rfc3339(&when, x509.not_after);
    cs_log_debug(&s->log, "Signed X509 SVID", KV("expiration", cs_buf_cstr(&when)));
    pthread_mutex_lock(&s->lock);
    SSL_CTX *old = s->ctx;
    s->ctx = fresh;
    s->not_before = x509.not_before;
    s->not_after = x509.not_after;
    pthread_mutex_unlock(&s->lock);
    rpc_tls_ctx_unref(old);
    return CS_OK;
}

cs_code server_svid_new(struct ca *ca, enum crypto_key_type type, const struct crypto_stop *stop,
                        const struct cs_clock *clock, struct cs_log log, struct server_svid **out,
                        struct cs_err *e)
{
    *out = NULL;
    struct server_svid *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->ca = ca;
    s->type = type;
    s->stop = stop;
    s->clock = clock;
    s->log = cs_log_sub(log, "svid_rotator");
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

cs_code server_svid_rotate(struct server_svid *s, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    if (cs_now_ns(s->clock) <= server_svid_due(s))
        return CS_OK;
    cs_code rc = replace(s, e);
    if (rc != CS_OK)
        cs_log_error(&s->log, "Could not rotate server SVID", KV_ERR(e));
    return rc;
}
