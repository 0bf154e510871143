/* SPDX-License-Identifier: Apache-2.0
 *
 * UpstreamAuthority: each operation is a stream that stays open after its first answer, and through which
 * later changes go to the host.
 */
#include "kit/kit.h"

#include "sdk_server_upstreamauthority.pb-c.h"

enum part { ROOTS, KEYS, PARTS };

/* One open stream. */
struct kit_listener {
    struct kit_listener *next, **link; /* [lock] of the env */
    struct rpc_call *call;             /* [const] referenced */
    bool wants[PARTS];                 /* [const] */
    bool asked;                        /* the call's own: the request is in */
    bool finished;                     /* [lock] */
    bool ready;                        /* [lock] the first answer is on its way */
    bool pushed[PARTS];                /* [lock] while that was not so */
    struct cs_buf parts[PARTS];        /* [lock] fields of an answer as they were last said, packed */
};

/* --- Messages --- */

/* Messages are merged by joining their bytes, so that each part is packed by itself. The numbers of the
 * fields differ between the three answers. */
static cs_code pack_roots(struct cs_arena *a, const struct cspire_authority *const *roots, size_t n,
                          bool local, struct cs_buf *out, struct cs_err *e)
{
    Sdktypes__X509Certificate *rows = cs_arena_alloc(a, (n + 1) * sizeof *rows);
    Sdktypes__X509Certificate **at = cs_arena_alloc(a, (n + 1) * sizeof(Sdktypes__X509Certificate *));
    if (rows == NULL || at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        sdktypes__x509_certificate__init(&rows[i]);
        rows[i].asn1 = (ProtobufCBinaryData){.len = roots[i]->der.len, .data = (uint8_t *)roots[i]->der.data};
        rows[i].tainted = roots[i]->tainted;
        at[i] = &rows[i];
    }
    if (local) {
        Upstreamauthorityv1__SubscribeToLocalBundleResponse m =
            UPSTREAMAUTHORITYV1__SUBSCRIBE_TO_LOCAL_BUNDLE_RESPONSE__INIT;
        m.upstream_x509_roots = at;
        m.n_upstream_x509_roots = n;
        return proto_pack(&m.base, out, e);
    }
    Upstreamauthorityv1__MintX509CAResponse m = UPSTREAMAUTHORITYV1__MINT_X509_CARESPONSE__INIT;
    m.upstream_x509_roots = at;
    m.n_upstream_x509_roots = n;
    return proto_pack(&m.base, out, e);
}

static cs_code pack_keys(struct cs_arena *a, const struct cspire_jwt_key *const *keys, size_t n, bool local,
                         struct cs_buf *out, struct cs_err *e)
{
    Sdktypes__JWTKey *rows = cs_arena_alloc(a, (n + 1) * sizeof *rows);
    Sdktypes__JWTKey **at = cs_arena_alloc(a, (n + 1) * sizeof(Sdktypes__JWTKey *));
    if (rows == NULL || at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        sdktypes__jwtkey__init(&rows[i]);
        rows[i].public_key =
            (ProtobufCBinaryData){.len = keys[i]->pkix.len, .data = (uint8_t *)keys[i]->pkix.data};
        rows[i].key_id = (char *)(keys[i]->key_id != NULL ? keys[i]->key_id : "");
        rows[i].expires_at = keys[i]->expires_at;
        rows[i].tainted = keys[i]->tainted;
        at[i] = &rows[i];
    }
    if (local) {
        Upstreamauthorityv1__SubscribeToLocalBundleResponse m =
            UPSTREAMAUTHORITYV1__SUBSCRIBE_TO_LOCAL_BUNDLE_RESPONSE__INIT;
        m.upstream_jwt_keys = at;
        m.n_upstream_jwt_keys = n;
        return proto_pack(&m.base, out, e);
    }
    Upstreamauthorityv1__PublishJWTKeyResponse m = UPSTREAMAUTHORITYV1__PUBLISH_JWTKEY_RESPONSE__INIT;
    m.upstream_jwt_keys = at;
    m.n_upstream_jwt_keys = n;
    return proto_pack(&m.base, out, e);
}

static cs_code pack_chain(struct cspire_call *c, struct cs_buf *out, struct cs_err *e)
{
    size_t n = c->certificates.count;
    Sdktypes__X509Certificate *rows = cs_arena_alloc(c->arena, (n + 1) * sizeof *rows);
    Sdktypes__X509Certificate **at = cs_arena_alloc(c->arena, (n + 1) * sizeof(Sdktypes__X509Certificate *));
    if (rows == NULL || at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        const struct cs_slice *der = c->certificates.at[i];
        sdktypes__x509_certificate__init(&rows[i]);
        rows[i].asn1 = (ProtobufCBinaryData){.len = der->len, .data = (uint8_t *)der->data};
        at[i] = &rows[i];
    }
    Upstreamauthorityv1__MintX509CAResponse m = UPSTREAMAUTHORITYV1__MINT_X509_CARESPONSE__INIT;
    m.x509_ca_chain = at;
    m.n_x509_ca_chain = n;
    return proto_pack(&m.base, out, e);
}

/* --- Listeners --- */

/* Under the lock: everything as it was last said. */
static cs_code send_parts(struct kit_listener *l)
{
    struct cs_buf out CS_CLEANUP(cs_buf_free) = {0};
    for (int i = 0; i < PARTS; i++)
        cs_buf_add_slice(&out, cs_buf_slice(&l->parts[i]));
    return cs_buf_ok(&out) ? rpc_call_send(l->call, &out) : CS_INTERNAL;
}

static bool is_local(const struct kit_listener *l)
{
    return l->wants[ROOTS] && l->wants[KEYS];
}

/* Packs a part anew, and sends it when the first answer has gone. Under the lock. */
static cs_code push_part(struct kit_listener *l, enum part part, const void *const *rows, size_t count,
                         struct cs_err *e)
{
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    struct cs_buf packed CS_CLEANUP(cs_buf_free) = {0};
    if (part == ROOTS)
        CS_TRY(
            pack_roots(arena, (const struct cspire_authority *const *)rows, count, is_local(l), &packed, e));
    else
        CS_TRY(pack_keys(arena, (const struct cspire_jwt_key *const *)rows, count, is_local(l), &packed, e));
    cs_buf_free(&l->parts[part]);
    l->parts[part] = packed;
    packed = (struct cs_buf){0};
    l->pushed[part] = true;
    if (!l->ready)
        return CS_OK;
    cs_code code = send_parts(l);
    if (code == CS_OK || code == CS_CANCELLED)
        return CS_OK;
    return cs_fail(e, code, "the host does not take the change");
}

static enum cspire_code push(struct cspire_env *env, enum part part, const void *const *rows, size_t count)
{
    cs_code code = CS_UNAVAILABLE;
    struct cs_err e = {0};
    pthread_mutex_lock(&env->lock);
    for (struct kit_listener *l = env->listeners; l != NULL; l = l->next) {
        if (!l->wants[part] || l->finished)
            continue;
        cs_code one = push_part(l, part, rows, count, &e);
        if (code == CS_UNAVAILABLE || one != CS_OK)
            code = one;
    }
    pthread_mutex_unlock(&env->lock);
    return (enum cspire_code)code;
}

/* Rows side by side, as a list of pointers to them; NULL: no memory. */
static const void **pointers(const void *rows, size_t count, size_t size)
{
    const void **at = cs_malloc((count + 1) * sizeof *at);
    for (size_t i = 0; at != NULL && i < count; i++)
        at[i] = (const char *)rows + i * size;
    return at;
}

enum cspire_code cspire_push_authorities(struct cspire_env *env, const struct cspire_authority *authorities,
                                         size_t count)
{
    if (count == 0)
        return CSPIRE_INVALID_ARGUMENT; /* hosts refuse it: it would end all trust */
    const void **at = pointers(authorities, count, sizeof *authorities);
    if (at == NULL)
        return CSPIRE_INTERNAL;
    enum cspire_code code = push(env, ROOTS, at, count);
    cs_free((void *)at);
    return code;
}

enum cspire_code cspire_push_jwt_keys(struct cspire_env *env, const struct cspire_jwt_key *keys, size_t count)
{
    const void **at = pointers(keys, count, sizeof *keys);
    if (at == NULL)
        return CSPIRE_INTERNAL;
    enum cspire_code code = push(env, KEYS, at, count);
    cs_free((void *)at);
    return code;
}

void kit_listeners_finish(struct cspire_env *env)
{
    pthread_mutex_lock(&env->lock);
    struct kit_listener *l = env->listeners;
    while (l != NULL) {
        if (l->finished) {
            l = l->next;
            continue;
        }
        struct rpc_call *call = l->call;
        l->finished = true;
        rpc_call_ref(call);
        pthread_mutex_unlock(&env->lock);
        rpc_call_finish(call, CS_OK, "");
        rpc_call_unref(call);
        pthread_mutex_lock(&env->lock);
        l = env->listeners; /* it may be another list by now */
    }
    pthread_mutex_unlock(&env->lock);
}

static cs_code listen(struct rpc_call *call, struct cspire_env *env, bool roots, bool keys, void **state,
                      struct cs_err *e)
{
    struct kit_listener *l = cs_calloc(1, sizeof *l);
    if (l == NULL)
        return cs_nomem(e);
    l->call = call;
    l->wants[ROOTS] = roots;
    l->wants[KEYS] = keys;
    rpc_call_ref(call);
    pthread_mutex_lock(&env->lock);
    l->next = env->listeners;
    l->link = &env->listeners;
    if (l->next != NULL)
        l->next->link = &l->next;
    env->listeners = l;
    pthread_mutex_unlock(&env->lock);
    *state = l;
    return CS_OK;
}

static void on_closed(struct rpc_call *call, void *service, void *state)
{
    (void)call;
    struct cspire_env *env = service;
    struct kit_listener *l = state;
    if (l == NULL)
        return;
    pthread_mutex_lock(&env->lock);
    *l->link = l->next;
    if (l->next != NULL)
        l->next->link = l->link;
    pthread_mutex_unlock(&env->lock);
    for (int i = 0; i < PARTS; i++)
        cs_buf_free(&l->parts[i]);
    rpc_call_unref(l->call);
    cs_free(l);
}

static cs_code on_half_close(struct rpc_call *call, void *service, void *state, struct cs_err *e)
{
    (void)call;
    (void)service;
    (void)e;
    /* the stream stays open for later changes */
    return ((struct kit_listener *)state)->asked ? CS_OK : cs_fail(e, CS_INVALID, "the request is missing");
}

/* --- The first answer --- */

/* `head` goes in front of the parts, in the first message only. */
static cs_code answer(struct cspire_call *c, struct kit_listener *l, struct cs_buf *head, struct cs_err *e)
{
    struct cs_buf packed[PARTS] = {{0}, {0}};
    cs_code code = pack_roots(c->arena, (const struct cspire_authority *const *)c->authorities.at,
                              c->authorities.count, is_local(l), &packed[ROOTS], e);
    if (code == CS_OK)
        code = pack_keys(c->arena, (const struct cspire_jwt_key *const *)c->jwt_keys.at, c->jwt_keys.count,
                         is_local(l), &packed[KEYS], e);
    for (int i = 0; i < PARTS && code == CS_OK; i++)
        cs_buf_add_slice(head, cs_buf_slice(&packed[i]));
    if (code == CS_OK && !cs_buf_ok(head))
        code = cs_nomem(e);
    pthread_mutex_lock(&c->env->lock);
    if (code == CS_OK)
        code = rpc_call_send(l->call, head);
    for (int i = 0; i < PARTS && code == CS_OK; i++) {
        if (l->pushed[i])
            continue;
        cs_buf_free(&l->parts[i]);
        l->parts[i] = packed[i];
        packed[i] = (struct cs_buf){0};
    }
    l->ready = code == CS_OK;
    if (code == CS_OK && (l->pushed[ROOTS] || l->pushed[KEYS]))
        code = send_parts(l);
    pthread_mutex_unlock(&c->env->lock);
    for (int i = 0; i < PARTS; i++)
        cs_buf_free(&packed[i]);
    return code;
}

static cs_code mint(struct cspire_call *c, struct kit_listener *l, struct cs_slice msg, struct cs_err *e)
{
    const struct cspire_upstream_authority_ops *ops = c->env->plugin->ops.upstream_authority;
    if (KIT_OP(ops, mint_x509_ca) == NULL)
        return kit_missing(e);
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(c->arena, &upstreamauthorityv1__mint_x509_carequest__descriptor, msg, &m, e));
    const Upstreamauthorityv1__MintX509CARequest *req = (const Upstreamauthorityv1__MintX509CARequest *)m;
    CS_TRY(kit_verdict(c, ops->mint_x509_ca(c->env->self, c, KIT_PB_BYTES(req->csr), req->preferred_ttl), e));
    if (c->certificates.count == 0 || c->authorities.count == 0)
        return cs_fail(e, CS_INTERNAL, "the plugin answers without a certificate or without a root");
    struct cs_buf head CS_CLEANUP(cs_buf_free) = {0};
    CS_TRY(pack_chain(c, &head, e));
    return answer(c, l, &head, e);
}

static cs_code publish(struct cspire_call *c, struct kit_listener *l, struct cs_slice msg, struct cs_err *e)
{
    const struct cspire_upstream_authority_ops *ops = c->env->plugin->ops.upstream_authority;
    if (KIT_OP(ops, publish_jwt_key) == NULL)
        return kit_missing(e);
    ProtobufCMessage *m;
    CS_TRY(proto_unpack(c->arena, &upstreamauthorityv1__publish_jwtkey_request__descriptor, msg, &m, e));
    const Sdktypes__JWTKey *k = ((const Upstreamauthorityv1__PublishJWTKeyRequest *)m)->jwt_key;
    if (k == NULL)
        return cs_fail(e, CS_INVALID, "JWT key is required");
    struct cspire_jwt_key key = {.pkix = KIT_PB_BYTES(k->public_key),
                                 .key_id = k->key_id,
                                 .expires_at = k->expires_at,
                                 .tainted = k->tainted};
    CS_TRY(kit_verdict(c, ops->publish_jwt_key(c->env->self, c, &key), e));
    struct cs_buf head CS_CLEANUP(cs_buf_free) = {0};
    return answer(c, l, &head, e);
}

static cs_code get_bundle(struct cspire_call *c, struct kit_listener *l, struct cs_slice msg,
                          struct cs_err *e)
{
    (void)msg; /* has no fields */
    const struct cspire_upstream_authority_ops *ops = c->env->plugin->ops.upstream_authority;
    if (KIT_OP(ops, get_bundle) == NULL)
        return kit_missing(e);
    CS_TRY(kit_verdict(c, ops->get_bundle(c->env->self, c), e));
    struct cs_buf head CS_CLEANUP(cs_buf_free) = {0};
    return answer(c, l, &head, e);
}

static cs_code first(struct rpc_call *call, struct cspire_env *env, struct kit_listener *l,
                     struct cs_slice msg, unsigned answers,
                     cs_code (*run)(struct cspire_call *c, struct kit_listener *l, struct cs_slice msg,
                                    struct cs_err *e),
                     struct cs_err *e)
{
    if (l->asked)
        return cs_fail(e, CS_INVALID, "one request is enough");
    l->asked = true;
    struct cspire_call c;
    CS_TRY(kit_call_init(&c, env, call, NULL, answers, e));
    cs_code code = kit_enter(env, e);
    if (code == CS_OK) {
        kit_lock(env);
        code = run(&c, l, msg, e);
        kit_unlock(env);
        kit_leave(env);
    }
    kit_call_end(&c);
    return code;
}

/* --- The three methods --- */

static cs_code mint_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    return listen(call, service, true, false, state, e);
}
static cs_code mint_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                            struct cs_err *e)
{
    return first(call, service, state, msg, KIT_CERTIFICATE | KIT_AUTHORITY, mint, e);
}
static cs_code publish_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    return listen(call, service, false, true, state, e);
}
static cs_code publish_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                               struct cs_err *e)
{
    return first(call, service, state, msg, KIT_JWT_KEY, publish, e);
}
static cs_code bundle_open(struct rpc_call *call, void *service, void **state, struct cs_err *e)
{
    return listen(call, service, true, true, state, e);
}
static cs_code bundle_message(struct rpc_call *call, void *service, void *state, struct cs_slice msg,
                              struct cs_err *e)
{
    return first(call, service, state, msg, KIT_AUTHORITY | KIT_JWT_KEY, get_bundle, e);
}

static const struct rpc_stream_ops mint_ops = {
    .open = mint_open, .message = mint_message, .half_close = on_half_close, .closed = on_closed};
static const struct rpc_stream_ops publish_ops = {
    .open = publish_open, .message = publish_message, .half_close = on_half_close, .closed = on_closed};
static const struct rpc_stream_ops bundle_ops = {
    .open = bundle_open, .message = bundle_message, .half_close = on_half_close, .closed = on_closed};

#define SERVICE "spire.plugin.server.upstreamauthority.v1.UpstreamAuthority"
static const struct rpc_method methods[] = {
    {.path = "/" SERVICE "/MintX509CAAndSubscribe", .run = RPC_WORKER, .stream = &mint_ops},
    {.path = "/" SERVICE "/PublishJWTKeyAndSubscribe", .run = RPC_WORKER, .stream = &publish_ops},
    {.path = "/" SERVICE "/SubscribeToLocalBundle", .run = RPC_WORKER, .stream = &bundle_ops},
};
const struct kit_kind kit_upstream_authority = {
    .kind = CSPIRE_UPSTREAM_AUTHORITY,
    .type = "UpstreamAuthority",
    .program = "server",
    .service = SERVICE,
    .methods = methods,
    .method_count = sizeof methods / sizeof methods[0],
};
