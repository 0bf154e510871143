/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/link.h"

#include "rpc/tls.h"
#include "spiffe/x509svid.h"
#include "types.pb-c.h"

#include <pthread.h>
#include <stdatomic.h>

#define VERIFY_CACHE 16
#define CONNECT_NS (INT64_C(20) * CS_NS_PER_S)

struct conn {
    atomic_uint refs;
    struct agent_link *link;
    struct rpc_client *client;
    atomic_bool unknown_authority; /* how the last handshake ended */
};

struct agent_link {
    struct agent_link_config cfg;
    char *server_id; /* "spiffe://example.org/spire/server" */
    struct x509_verify_cache *verified;
    pthread_mutex_t lock; /* over all below */
    struct x509_chain chain;
    struct crypto_signer *key;
    struct spiffe_bundle *bundle;
    struct conn *conn;
    struct agent_link_stream *streams;
    bool stopped;
};

struct agent_link_stream {
    struct agent_link *link;
    struct conn *conn;
    struct rpc_stream *rpc;
    struct agent_link_stream *next, *prev;
};

/* --- Life --- */

cs_code agent_link_new(const struct agent_link_config *cfg, struct agent_link **out, struct cs_err *e)
{
    *out = NULL;
    CS_AUTO(agent_link) l = cs_calloc(1, sizeof *l);
    if (l == NULL)
        return cs_nomem(e);
    (void)pthread_mutex_init(&l->lock, NULL); /* cannot fail without attributes on Linux */
    l->cfg = *cfg;
    l->server_id = cs_asprintf("spiffe://%s%s", cfg->trust_domain, SPIFFE_SERVER_PATH);
    l->verified = x509_verify_cache_new(VERIFY_CACHE);
    if (l->server_id == NULL || l->verified == NULL)
        return cs_nomem(e);
    *out = CS_MOVE(l);
    return CS_OK;
}

static void conn_unref(struct conn *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    rpc_client_free(c->client);
    cs_free(c);
}

void agent_link_free(struct agent_link *l)
{
    if (l == NULL)
        return;
    conn_unref(l->conn);
    x509_chain_free(&l->chain);
    crypto_signer_unref(l->key);
    spiffe_bundle_unref(l->bundle);
    x509_verify_cache_free(l->verified);
    pthread_mutex_destroy(&l->lock);
    cs_free(l->server_id);
    cs_free(l);
}

cs_code agent_link_set_identity(struct agent_link *l, const struct x509_chain *chain,
                                struct crypto_signer *key, struct cs_err *e)
{
    struct x509_chain copy = {0};
    CS_TRY(x509_chain_copy(chain, &copy, e));
    pthread_mutex_lock(&l->lock);
    struct x509_chain old = l->chain;
    struct crypto_signer *old_key = l->key;
    l->chain = copy;
    l->key = crypto_signer_ref(key);
    pthread_mutex_unlock(&l->lock);
    x509_chain_free(&old);
    crypto_signer_unref(old_key);
    return CS_OK;
}

void agent_link_set_bundle(struct agent_link *l, const struct spiffe_bundle *bundle)
{
    pthread_mutex_lock(&l->lock);
    struct spiffe_bundle *old = l->bundle;
    l->bundle = spiffe_bundle_ref(bundle);
    pthread_mutex_unlock(&l->lock);
    spiffe_bundle_unref(old);
}

/* Gives up `only`, if it is still the connection; NULL: whichever it is. */
static void release(struct agent_link *l, const struct conn *only)
{
    struct conn *c = NULL;
    pthread_mutex_lock(&l->lock);
    if (only == NULL || only == l->conn) {
        c = l->conn;
        l->conn = NULL;
    }
    pthread_mutex_unlock(&l->lock);
    conn_unref(c);
}

void agent_link_release(struct agent_link *l)
{
    release(l, NULL);
}

void agent_link_stop(struct agent_link *l)
{
    pthread_mutex_lock(&l->lock);
    l->stopped = true;
    for (struct agent_link_stream *s = l->streams; s != NULL; s = s->next)
        rpc_stream_cancel(s->rpc);
    if (l->conn != NULL)
        rpc_client_stop(l->conn->client);
    pthread_mutex_unlock(&l->lock);
}

/* --- Who is the server? --- */

/* Not security, but a check that this looks like the right trust domain's server. */
static cs_code verify_insecure(const struct agent_link *l, const struct cs_slice *chain, size_t count,
                               struct cs_err *e)
{
    cs_log_warn(&l->cfg.log, "Insecure bootstrap enabled; skipping server certificate verification");
    if (count == 0)
        return cs_fail(e, CS_UNAUTHENTICATED, "server chain is unexpectedly empty");
    CS_AUTO(x509_cert) leaf = NULL;
    CS_TRY(x509_cert_parse(chain[0], &leaf, e));
    struct spiffe_id id;
    CS_TRY(spiffe_x509_id(leaf, &id, e));
    if (!cs_slice_is(id.text, l->server_id))
        return cs_fail(e, CS_UNAUTHENTICATED, "expected server SPIFFE ID \"%s\"; got \"%.*s\"", l->server_id,
                       (int)id.text.len, (const char *)id.text.data);
    return CS_OK;
}

static cs_code verify_chain(struct agent_link *l, const struct spiffe_bundle *bundle,
                            const struct cs_slice *ders, size_t count, struct cs_err *e)
{
    CS_CLEANUP(x509_chain_free) struct x509_chain chain = {0};
    CS_TRY(x509_chain_parse_list(ders, count, &chain, e));
    struct spiffe_id id;
    CS_TRY(spiffe_x509svid_verify(&chain, bundle, cs_now_s(l->cfg.clock), l->verified, &id, NULL, e));
    if (!cs_slice_is(id.text, l->server_id))
        return cs_fail(e, CS_UNAUTHENTICATED, "unexpected ID \"%.*s\"", (int)id.text.len,
                       (const char *)id.text.data);
    return CS_OK;
}

static cs_code verify(void *arg, const struct cs_slice *chain, size_t count, struct cs_err *e)
{
    struct cs_err local;
    e = e != NULL ? e : &local;
    struct conn *c = arg;
    struct agent_link *l = c->link;
    pthread_mutex_lock(&l->lock);
    CS_AUTO(spiffe_bundle) bundle = l->bundle != NULL ? spiffe_bundle_ref(l->bundle) : NULL;
    pthread_mutex_unlock(&l->lock);
    if (bundle == NULL)
        return l->cfg.insecure ? verify_insecure(l, chain, count, e)
                               : cs_fail(e, CS_UNAUTHENTICATED, "no bundle and not doing insecure bootstrap");
    cs_code rc = verify_chain(l, bundle, chain, count, e);
    atomic_store(&c->unknown_authority,
                 rc != CS_OK && strstr(e->text, "x509: certificate signed by unknown authority") != NULL);
    return rc;
}

/* --- Connections --- */

/* Is the key somewhere else, so that whoever signs with it has to wait? */
static bool key_is_elsewhere(const struct agent_link *l)
{
    return l->key != NULL && crypto_signer_key(l->key) == NULL;
}

/* Lock held. */
static cs_code make_tls(const struct agent_link *l, SSL_CTX **out, struct cs_err *e)
{
    struct cs_slice ders[X509_CHAIN_MAX];
    if (l->chain.count > X509_CHAIN_MAX)
        return cs_fail(e, CS_INTERNAL, "agent certificate chain is too long");
    for (size_t i = 0; i < l->chain.count; i++)
        ders[i] = l->chain.at[i]->der;
    if (key_is_elsewhere(l))
        return rpc_tls_client_ctx_signer(ders, l->chain.count, l->key, out, e);
    return rpc_tls_client_ctx(ders, l->chain.count,
                              l->key != NULL ? crypto_key_pkey(crypto_signer_key(l->key)) : NULL, out, e);
}

static cs_code conn_new(struct agent_link *l, struct conn **out, struct cs_err *e)
{
    SSL_CTX *tls = NULL;
    CS_TRY(make_tls(l, &tls, e));
    struct conn *c = cs_calloc(1, sizeof *c);
    if (c == NULL) {
        rpc_tls_ctx_unref(tls);
        return cs_nomem(e);
    }
    atomic_init(&c->refs, 1);
    c->link = l;
    const struct rpc_client_config cfg = {
        .tcp_address = l->cfg.address,
        .proxy = l->cfg.proxy,
        .tls = tls,
        .verify = verify,
        .arg = c,
        .blocking_handshake = key_is_elsewhere(l),
        .connect_ns = CONNECT_NS,
    };
    cs_code rc = rpc_client_new(l->cfg.loop, &cfg, &c->client, e);
    rpc_tls_ctx_unref(tls);
    if (rc != CS_OK) {
        cs_free(c);
        return rc;
    }
    *out = c;
    return CS_OK;
}

/* A reference to the connection, which is made when there is none. */
static cs_code conn_get(struct agent_link *l, struct conn **out, struct cs_err *e)
{
    cs_code rc = CS_OK;
    *out = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->stopped)
        rc = cs_fail(e, CS_CANCELLED, "context canceled");
    else if (l->conn == NULL)
        rc = conn_new(l, &l->conn, e);
    if (rc == CS_OK) {
        atomic_fetch_add_explicit(&l->conn->refs, 1, memory_order_relaxed);
        *out = l->conn;
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

/* --- Failures --- */

static void read_reason(const struct rpc_detail *d, struct agent_failure *out)
{
    if (strcmp(d->type_name, "spire.api.types.PermissionDeniedDetails") != 0)
        return;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    ProtobufCMessage *m = NULL;
    if (a == NULL || proto_unpack(a, &types__permission_denied_details__descriptor,
                                  cs_slice_of(d->data, d->len), &m, NULL) != CS_OK)
        return;
    switch (((Types__PermissionDeniedDetails *)m)->reason) {
    case TYPES__PERMISSION_DENIED_DETAILS__REASON__AGENT_EXPIRED:
    case TYPES__PERMISSION_DENIED_DETAILS__REASON__AGENT_NOT_ACTIVE:
    case TYPES__PERMISSION_DENIED_DETAILS__REASON__AGENT_NOT_ATTESTED:
    case TYPES__PERMISSION_DENIED_DETAILS__REASON__AGENT_MUST_REATTEST:
        out->reattest = true;
        break;
    case TYPES__PERMISSION_DENIED_DETAILS__REASON__AGENT_BANNED:
        out->shutdown = true;
        break;
    default:
        break;
    }
}

/* After a failed call: gives the connection up, says what the failure means, and words it as gRPC's libraries
 * do. Returns rc. */
static cs_code failed(struct agent_link *l, struct conn *c, cs_code rc, const struct rpc_result *result,
                      struct agent_failure *failure, struct cs_err *e)
{
    if (e != NULL) {
        struct cs_err plain = *e;
        (void)cs_fail(e, rc, "rpc error: code = %s desc = %.440s", cs_code_name(rc), plain.text);
    }
    *failure = (struct agent_failure){.unknown_authority = atomic_load(&c->unknown_authority)};
    if (rc == CS_DENIED && result != NULL)
        read_reason(&result->detail, failure);
    release(l, c);
    return rc;
}

/* --- Streams --- */

static void list_stream(struct agent_link_stream *s)
{
    struct agent_link *l = s->link;
    pthread_mutex_lock(&l->lock);
    s->next = l->streams;
    if (s->next != NULL)
        s->next->prev = s;
    l->streams = s;
    if (l->stopped)
        rpc_stream_cancel(s->rpc);
    pthread_mutex_unlock(&l->lock);
}

void agent_link_close(struct agent_link_stream *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->link->lock);
    if (s->next != NULL)
        s->next->prev = s->prev;
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        s->link->streams = s->next;
    pthread_mutex_unlock(&s->link->lock);
    rpc_stream_free(s->rpc);
    conn_unref(s->conn);
    cs_free(s);
}

cs_code agent_link_open(struct agent_link *l, const char *path, int64_t timeout_ns,
                        struct agent_link_stream **out, struct agent_failure *failure, struct cs_err *e)
{
    *out = NULL;
    *failure = (struct agent_failure){0};
    struct agent_link_stream *s = cs_calloc(1, sizeof *s);
    if (s == NULL)
        return cs_nomem(e);
    s->link = l;
    cs_code rc = conn_get(l, &s->conn, e);
    if (rc == CS_OK) {
        rc = rpc_stream_open(s->conn->client, path, NULL, 0, timeout_ns, &s->rpc, e);
        if (rc != CS_OK) {
            (void)failed(l, s->conn, rc, NULL, failure, e);
            conn_unref(s->conn);
        }
    }
    if (rc != CS_OK) {
        cs_free(s);
        return rc;
    }
    list_stream(s);
    *out = s;
    return CS_OK;
}

/* A send fails when the call is over; why it is over is what a receive says. */
static cs_code why(struct agent_link_stream *s, cs_code rc, struct agent_failure *failure, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf rest = {0};
    struct rpc_result result = {0};
    bool end = false;
    struct cs_err reason;
    cs_code why_rc = rpc_stream_recv(s->rpc, &rest, &end, -1, &result, &reason);
    if (why_rc != CS_OK) {
        rc = why_rc;
        if (e != NULL)
            *e = reason;
    }
    return failed(s->link, s->conn, rc, &result, failure, e);
}

cs_code agent_link_send(struct agent_link_stream *s, const ProtobufCMessage *request,
                        struct agent_failure *failure, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    *failure = (struct agent_failure){0};
    CS_TRY(proto_pack(request, &packed, e));
    cs_code rc = rpc_stream_send(s->rpc, cs_buf_slice(&packed), e);
    return rc == CS_OK ? CS_OK : why(s, rc, failure, e);
}

cs_code agent_link_send_end(struct agent_link_stream *s, struct agent_failure *failure, struct cs_err *e)
{
    *failure = (struct agent_failure){0};
    cs_code rc = rpc_stream_close_send(s->rpc, e);
    return rc == CS_OK ? CS_OK : why(s, rc, failure, e);
}

cs_code agent_link_recv(struct agent_link_stream *s, struct cs_buf *msg, bool *end,
                        struct agent_failure *failure, struct cs_err *e)
{
    *failure = (struct agent_failure){0};
    struct rpc_result result = {0};
    cs_code rc = rpc_stream_recv(s->rpc, msg, end, -1, &result, e);
    return rc == CS_OK ? CS_OK : failed(s->link, s->conn, rc, &result, failure, e);
}

/* --- Unary calls --- */

cs_code agent_link_call_raw(struct agent_link *l, const char *path, const ProtobufCMessage *request,
                            struct cs_buf *response, int64_t timeout_ns, struct agent_failure *failure,
                            struct cs_err *e)
{
    CS_AUTO(agent_link_stream) s = NULL;
    bool end = false;
    CS_TRY(agent_link_open(l, path, timeout_ns, &s, failure, e));
    CS_TRY(agent_link_send(s, request, failure, e));
    CS_TRY(agent_link_send_end(s, failure, e));
    CS_TRY(agent_link_recv(s, response, &end, failure, e));
    if (end)
        return cs_fail(e, CS_INTERNAL,
                       "cardinality violation: received no response message from non-server-streaming RPC");
    CS_CLEANUP(cs_buf_free) struct cs_buf rest = {0};
    CS_TRY(agent_link_recv(s, &rest, &end, failure, e));
    return end ? CS_OK
               : cs_fail(e, CS_INTERNAL, "cardinality violation: received more than one response message");
}

cs_code agent_link_call(struct agent_link *l, const char *path, const ProtobufCMessage *request,
                        struct cs_arena *a, const ProtobufCMessageDescriptor *d, ProtobufCMessage **response,
                        int64_t timeout_ns, struct agent_failure *failure, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_free) struct cs_buf packed = {0};
    CS_TRY(agent_link_call_raw(l, path, request, &packed, timeout_ns, failure, e));
    return proto_unpack(a, d, cs_buf_slice(&packed), response, e);
}
