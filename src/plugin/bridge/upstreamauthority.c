/* SPDX-License-Identifier: Apache-2.0
 *
 * UpstreamAuthority over gRPC. A mint and a publication are streams that the plugin answers at once and may
 * go on to write to: each has a thread that takes what is pushed to the listener. There are at most two, one
 * of the last mint and one of the last publication; a stream that broke is opened again by the next of its
 * kind, as in SPIRE (pkg/server/ca/upstream_client.go). A plugin that tells of the whole bundle besides,
 * which does not wait for a mint, is followed for as long as somebody listens.
 */
#include "plugin/upstreamauthority.h"

#include "plugin/bridge/bridge.h"
#include "plugin/bridge/convert.h"

#include "sdk_server_upstreamauthority.pb-c.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define SERVICE "spire.plugin.server.upstreamauthority.v1.UpstreamAuthority"
/* Authorities may wait for somebody to approve; the longest wait of SPIRE's own plugins is 3 minutes. */
#define ANSWER_NS (5 * 60 * CS_NS_PER_S)
/* Lines a second about updates that cannot be read. */
#define COMPLAINTS 1
/* When the bundle is asked for, so that the first mint comes first, and again after a failure. */
#define BUNDLE_FIRST_NS (5 * CS_NS_PER_S)
#define BUNDLE_AGAIN_NS (10 * CS_NS_PER_S)

struct upstream;

/* What a kind of stream is, and how its updates are taken; called with `deliver` locked. */
struct stream_kind {
    const ProtobufCMessageDescriptor *answer;
    CS_CHECKED cs_code (*take)(struct upstream *u, const ProtobufCMessage *m, struct cs_arena *a,
                               struct cs_err *e);
    const char *unreadable, *ended; /* SPIRE's log lines */
};

struct subscription {
    struct upstream *u;
    const struct stream_kind *kind;
    pthread_mutex_t lock;         /* of stream, between its thread and who cancels it */
    struct plugin_stream *stream; /* NULL: over */
    pthread_t thread;
    bool running; /* the thread is to be joined; of the caller of mint or publish alone */
    struct cs_log_limit limit;
};

struct upstream {
    struct bridge b;
    struct subscription mint, jwt, bundle;
    pthread_cond_t stop; /* with the lock of `bundle`: it is to end */
    bool stopping;
    pthread_mutex_t deliver; /* held during a call of the listener */
    struct upstreamauthority_listener listener;
    bool listening;
};

/* --- Checking answers --- */

static cs_code take_roots(const struct bridge *b, Sdktypes__X509Certificate *const *in, size_t count,
                          struct upstreamauthority_result *out, struct cs_err *e)
{
    struct cs_err why;
    for (size_t i = 0; i < count; i++) {
        if (convert_certificate(in[i], &why) != CS_OK)
            return bridge_fail(b, e, CS_INTERNAL, "plugin response has malformed upstream X.509 roots: %s",
                               why.text);
        if (upstreamauthority_result_add_root(out, bridge_bytes(in[i]->asn1), in[i]->tainted) != CS_OK)
            return cs_nomem(e);
    }
    if (count == 0)
        return bridge_fail(b, e, CS_INTERNAL, "plugin response missing upstream X.509 roots");
    return CS_OK;
}

static cs_code take_chain(const struct bridge *b, Sdktypes__X509Certificate *const *in, size_t count,
                          struct upstreamauthority_result *out, struct cs_err *e)
{
    struct cs_err why;
    for (size_t i = 0; i < count; i++) {
        if (convert_certificate(in[i], &why) != CS_OK)
            return bridge_fail(b, e, CS_INTERNAL, "plugin response has malformed X.509 CA chain: %s",
                               why.text);
        if (upstreamauthority_result_add_cert(out, bridge_bytes(in[i]->asn1)) != CS_OK)
            return cs_nomem(e);
    }
    if (count == 0)
        return bridge_fail(b, e, CS_INTERNAL, "plugin response missing X.509 CA chain");
    return CS_OK;
}

/* The keys view the message. */
static cs_code take_keys(const struct bridge *b, Sdktypes__JWTKey *const *in, size_t count,
                         struct cs_arena *a, struct upstreamauthority_jwt_key **out, struct cs_err *e)
{
    struct cs_err why;
    *out = cs_arena_alloc(a, (count + 1) * sizeof **out);
    if (*out == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < count; i++)
        if (convert_jwt_key(in[i], &(*out)[i], &why) != CS_OK)
            return bridge_fail(b, e, CS_INTERNAL, "invalid plugin response: %s", why.text);
    return CS_OK;
}

/* --- Updates --- */

static cs_code pushed_roots(struct upstream *u, const ProtobufCMessage *m, struct cs_arena *a,
                            struct cs_err *e)
{
    (void)a;
    const Upstreamauthorityv1__MintX509CAResponse *in = (const void *)m;
    CS_CLEANUP(upstreamauthority_result_free) struct upstreamauthority_result r = {0};
    if (in->n_x509_ca_chain > 0)
        return bridge_fail(&u->b, e, CS_INTERNAL,
                           "plugin response has an X.509 CA chain after the first response");
    CS_TRY(take_roots(&u->b, in->upstream_x509_roots, in->n_upstream_x509_roots, &r, e));
    if (u->listening)
        u->listener.x509_roots(u->listener.arg, &r);
    return CS_OK;
}

static cs_code pushed_keys(struct upstream *u, const ProtobufCMessage *m, struct cs_arena *a,
                           struct cs_err *e)
{
    const Upstreamauthorityv1__PublishJWTKeyResponse *in = (const void *)m;
    struct upstreamauthority_jwt_key *keys;
    CS_TRY(take_keys(&u->b, in->upstream_jwt_keys, in->n_upstream_jwt_keys, a, &keys, e));
    if (u->listening)
        u->listener.jwt_keys(u->listener.arg, keys, in->n_upstream_jwt_keys);
    return CS_OK;
}

static cs_code pushed_bundle(struct upstream *u, const ProtobufCMessage *m, struct cs_arena *a,
                             struct cs_err *e)
{
    const Upstreamauthorityv1__SubscribeToLocalBundleResponse *in = (const void *)m;
    CS_CLEANUP(upstreamauthority_result_free) struct upstreamauthority_result r = {0};
    struct upstreamauthority_jwt_key *keys;
    CS_TRY(take_roots(&u->b, in->upstream_x509_roots, in->n_upstream_x509_roots, &r, e));
    CS_TRY(take_keys(&u->b, in->upstream_jwt_keys, in->n_upstream_jwt_keys, a, &keys, e));
    if (!u->listening)
        return CS_OK;
    u->listener.x509_roots(u->listener.arg, &r);
    u->listener.jwt_keys(u->listener.arg, keys, in->n_upstream_jwt_keys);
    return CS_OK;
}

static const struct stream_kind mint_kind = {
    .answer = &upstreamauthorityv1__mint_x509_caresponse__descriptor,
    .take = pushed_roots,
    .unreadable =
        "Failed to parse an X.509 root update from the upstream authority plugin. Please report this bug.",
    .ended = "The upstream authority plugin stopped streaming X.509 root updates prematurely. Please report "
             "this bug. Will retry later.",
};
static const struct stream_kind jwt_kind = {
    .answer = &upstreamauthorityv1__publish_jwtkey_response__descriptor,
    .take = pushed_keys,
    .unreadable =
        "Failed to parse a JWT key update from the upstream authority plugin. Please report this bug.",
    .ended =
        "The upstream authority plugin stopped streaming JWT key updates prematurely. Please report this "
        "bug. Will retry later.",
};

static const struct stream_kind bundle_kind = {
    .answer = &upstreamauthorityv1__subscribe_to_local_bundle_response__descriptor,
    .take = pushed_bundle,
    .unreadable =
        "Failed to parse an X.509 root update from the upstream authority plugin. Please report this bug.",
    .ended = "The upstream authority plugin stopped streaming authorities updates prematurely. Please report "
             "this bug. Will retry later.",
};

static void deliver(struct subscription *s, const ProtobufCMessage *m, struct cs_arena *a)
{
    struct upstream *u = s->u;
    struct cs_err err;
    pthread_mutex_lock(&u->deliver);
    cs_code rc = s->kind->take(u, m, a, &err);
    pthread_mutex_unlock(&u->deliver);
    if (rc != CS_OK && cs_log_limit_ok(&s->limit, COMPLAINTS, NULL))
        cs_log_warn(&u->b.env->log, s->kind->unreadable, KV_ERR(&err));
}

/* Takes what comes until the end of the stream, which is of no use then. CS_OK: the plugin ended it. */
static cs_code receive(struct subscription *s, struct cs_err *e)
{
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    cs_code rc;
    for (rc = a != NULL ? CS_OK : cs_nomem(e); rc == CS_OK;) {
        ProtobufCMessage *m = NULL;
        cs_arena_reset(a);
        rc = bridge_answer(&s->u->b, plugin_stream_recv(s->stream, s->kind->answer, a, &m, -1, e), e);
        if (rc == CS_OK && m == NULL) /* a plugin that has no updates */
            break;
        if (rc == CS_OK)
            deliver(s, m, a);
    }
    pthread_mutex_lock(&s->lock);
    struct plugin_stream *stream = CS_MOVE(s->stream);
    pthread_mutex_unlock(&s->lock);
    plugin_stream_free(stream);
    return rc;
}

static void *subscriber(void *arg)
{
    struct subscription *s = arg;
    struct cs_err err;
    cs_code rc = receive(s, &err);
    if (rc != CS_OK && rc != CS_CANCELLED)
        cs_log_error(&s->u->b.env->log, s->kind->ended, KV_ERR(&err));
    return NULL;
}

/* --- Subscriptions --- */

static void unsubscribe(struct subscription *s)
{
    if (!s->running)
        return;
    pthread_mutex_lock(&s->lock);
    if (s->stream != NULL)
        plugin_stream_cancel(s->stream);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    s->running = false;
}

/* Takes the stream over. Without a thread there are no updates, but the answer counts. */
static void subscribe(struct subscription *s, struct plugin_stream *stream)
{
    s->stream = stream;
    int rc = pthread_create(&s->thread, NULL, subscriber, s);
    if (rc == 0) {
        (void)pthread_setname_np(s->thread, "upstream-news");
        s->running = true;
        return;
    }
    struct cs_err err;
    (void)cs_fail_errno(&err, CS_INTERNAL, rc, "cannot start a thread");
    cs_log_error(&s->u->b.env->log, s->kind->ended, KV_ERR(&err));
    s->stream = NULL;
    plugin_stream_free(stream);
}

/* Opens a stream and asks; the first answer, which must come. The stream of before is given up for it, as
 * SPIRE does. *stream is set and the caller's whenever it is not NULL. */
static cs_code ask(struct subscription *s, const char *path, const ProtobufCMessage *request,
                   struct cs_arena *a, struct plugin_stream **stream, void *answer, struct cs_err *e)
{
    const struct bridge *b = &s->u->b;
    ProtobufCMessage **m = answer;
    unsubscribe(s);
    CS_TRY(bridge_answer(b, plugin_stream_open(b->x, path, NULL, 0, 0, stream, e), e));
    /* If these fail, the plugin has ended the stream, and why is in what comes back. */
    cs_code rc = plugin_stream_send(*stream, request, e);
    if (rc == CS_OK)
        rc = plugin_stream_close_send(*stream, e);
    if (rc == CS_INTERNAL)
        return bridge_answer(b, rc, e);
    CS_TRY(bridge_recv(b, *stream, s->kind->answer, a, (struct bridge_wait){.ns = ANSWER_NS}, m, e));
    return *m != NULL ? CS_OK : bridge_fail(b, e, CS_INTERNAL, "plugin closed stream unexpectedly");
}

/* --- The bundle as a whole --- */

/* False: it is to end. */
static bool wait_a_while(struct upstream *u, int64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ns / CS_NS_PER_S;
    pthread_mutex_lock(&u->bundle.lock);
    int rc = 0;
    while (!u->stopping && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&u->stop, &u->bundle.lock, &until);
    bool go_on = !u->stopping;
    pthread_mutex_unlock(&u->bundle.lock);
    return go_on;
}

static cs_code follow_bundle(struct upstream *u, struct cs_err *e)
{
    static const char path[] = "/" SERVICE "/SubscribeToLocalBundle";
    struct plugin_stream *stream = NULL;
    CS_TRY(bridge_answer(&u->b, plugin_stream_open(u->b.x, path, NULL, 0, 0, &stream, e), e));
    pthread_mutex_lock(&u->bundle.lock);
    bool stopping = u->stopping;
    u->bundle.stream = stopping ? NULL : stream;
    pthread_mutex_unlock(&u->bundle.lock);
    if (stopping) {
        plugin_stream_free(stream);
        return CS_CANCELLED;
    }
    Upstreamauthorityv1__SubscribeToLocalBundleRequest request =
        UPSTREAMAUTHORITYV1__SUBSCRIBE_TO_LOCAL_BUNDLE_REQUEST__INIT;
    /* if these fail, why is in what comes back */
    if (plugin_stream_send(stream, &request.base, NULL) == CS_OK)
        (void)!plugin_stream_close_send(stream, NULL);
    return receive(&u->bundle, e);
}

static void *bundle_follower(void *arg)
{
    struct upstream *u = arg;
    for (bool on = wait_a_while(u, BUNDLE_FIRST_NS); on; on = wait_a_while(u, BUNDLE_AGAIN_NS)) {
        struct cs_err err;
        cs_code rc = follow_bundle(u, &err);
        if (rc == CS_OK || rc == CS_UNIMPLEMENTED || rc == CS_CANCELLED)
            break;
        if (cs_log_limit_ok(&u->bundle.limit, COMPLAINTS, NULL))
            cs_log_error(&u->b.env->log, bundle_kind.ended, KV_ERR(&err));
    }
    return NULL;
}

static void start_following(struct upstream *u)
{
    if (u->bundle.running)
        return;
    u->stopping = false;
    int rc = pthread_create(&u->bundle.thread, NULL, bundle_follower, u);
    u->bundle.running = rc == 0;
    if (rc == 0) {
        (void)pthread_setname_np(u->bundle.thread, "upstream-bundle");
        return;
    }
    struct cs_err err;
    (void)cs_fail_errno(&err, CS_INTERNAL, rc, "cannot start a thread");
    cs_log_error(&u->b.env->log, bundle_kind.ended, KV_ERR(&err));
}

static void stop_following(struct upstream *u)
{
    pthread_mutex_lock(&u->bundle.lock);
    u->stopping = true;
    pthread_cond_broadcast(&u->stop);
    pthread_mutex_unlock(&u->bundle.lock);
    unsubscribe(&u->bundle);
}

/* --- Operations --- */

static void listen(void *self, const struct upstreamauthority_listener *listener)
{
    struct upstream *u = self;
    pthread_mutex_lock(&u->deliver);
    u->listening = listener != NULL;
    if (listener != NULL)
        u->listener = *listener;
    pthread_mutex_unlock(&u->deliver);
    if (listener != NULL)
        start_following(u);
    else
        stop_following(u);
}

static cs_code mint_x509_ca(void *self, struct cs_slice csr, int64_t ttl_s,
                            struct upstreamauthority_result *out, struct cs_err *e)
{
    struct upstream *u = self;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Upstreamauthorityv1__MintX509CARequest request = UPSTREAMAUTHORITYV1__MINT_X509_CAREQUEST__INIT;
    request.csr = bridge_data(csr);
    request.preferred_ttl = ttl_s > INT32_MAX ? INT32_MAX : (int32_t)ttl_s;
    struct plugin_stream *stream = NULL;
    Upstreamauthorityv1__MintX509CAResponse *answer;
    cs_code rc = ask(&u->mint, "/" SERVICE "/MintX509CAAndSubscribe", &request.base, a, &stream, &answer, e);
    if (rc == CS_OK)
        rc = take_chain(&u->b, answer->x509_ca_chain, answer->n_x509_ca_chain, out, e);
    if (rc == CS_OK)
        rc = take_roots(&u->b, answer->upstream_x509_roots, answer->n_upstream_x509_roots, out, e);
    if (rc != CS_OK) {
        plugin_stream_free(stream);
        return rc;
    }
    subscribe(&u->mint, stream);
    return CS_OK;
}

static cs_code publish_jwt_key(void *self, const struct upstreamauthority_jwt_key *key,
                               cs_code (*each)(void *arg, const struct upstreamauthority_jwt_key *k),
                               void *arg, struct cs_err *e)
{
    struct upstream *u = self;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Sdktypes__JWTKey jwt_key = SDKTYPES__JWTKEY__INIT;
    jwt_key.key_id = (char *)key->kid;
    jwt_key.public_key = bridge_data(key->pkix);
    jwt_key.expires_at = key->not_after;
    Upstreamauthorityv1__PublishJWTKeyRequest request = UPSTREAMAUTHORITYV1__PUBLISH_JWTKEY_REQUEST__INIT;
    request.jwt_key = &jwt_key;
    struct plugin_stream *stream = NULL;
    Upstreamauthorityv1__PublishJWTKeyResponse *answer;
    struct upstreamauthority_jwt_key *keys = NULL;
    cs_code rc =
        ask(&u->jwt, "/" SERVICE "/PublishJWTKeyAndSubscribe", &request.base, a, &stream, &answer, e);
    if (rc == CS_OK)
        rc = take_keys(&u->b, answer->upstream_jwt_keys, answer->n_upstream_jwt_keys, a, &keys, e);
    for (size_t i = 0; rc == CS_OK && i < answer->n_upstream_jwt_keys; i++) {
        rc = each(arg, &keys[i]);
        if (rc != CS_OK)
            rc = bridge_fail(&u->b, e, rc, "failed to store JWT keys");
    }
    if (rc != CS_OK) {
        plugin_stream_free(stream);
        return rc;
    }
    subscribe(&u->jwt, stream);
    return CS_OK;
}

static const struct upstreamauthority_ops ops = {
    .listen = listen,
    .mint_x509_ca = mint_x509_ca,
    .publish_jwt_key = publish_jwt_key,
};

/* --- Life --- */

static cs_code create(struct plugin_external *x, const struct plugin_env *env, void **self, struct cs_err *e)
{
    CS_TRY(bridge_new(x, env, PLUGIN_TYPE_UPSTREAMAUTHORITY, sizeof(struct upstream), self, e));
    struct upstream *u = *self;
    u->mint = (struct subscription){.u = u, .kind = &mint_kind};
    u->jwt = (struct subscription){.u = u, .kind = &jwt_kind};
    u->bundle = (struct subscription){.u = u, .kind = &bundle_kind};
    /* cannot fail without attributes on Linux */
    (void)pthread_mutex_init(&u->mint.lock, NULL);
    (void)pthread_mutex_init(&u->jwt.lock, NULL);
    (void)pthread_mutex_init(&u->bundle.lock, NULL);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&u->stop, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&u->deliver, NULL);
    return CS_OK;
}

static void destroy(void *self)
{
    struct upstream *u = self;
    if (u == NULL)
        return;
    listen(u, NULL);
    unsubscribe(&u->mint);
    unsubscribe(&u->jwt);
    pthread_mutex_destroy(&u->mint.lock);
    pthread_mutex_destroy(&u->jwt.lock);
    pthread_mutex_destroy(&u->bundle.lock);
    pthread_cond_destroy(&u->stop);
    pthread_mutex_destroy(&u->deliver);
    bridge_free(u);
}

const struct plugin_bridge plugin_bridge_upstreamauthority = {
    .service = SERVICE,
    .ops = &ops,
    .create = create,
    .destroy = destroy,
};
