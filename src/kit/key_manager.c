/* SPDX-License-Identifier: Apache-2.0
 *
 * KeyManager, of servers and agents. Their messages are the same but for the name of the package, which is
 * not on the wire: the server's serve for both.
 */
#include "kit/kit.h"

#include "sdk_server_keymanager.pb-c.h"

static const struct cspire_key_manager_ops *ops_of(const struct cspire_call *c)
{
    return c->env->plugin->ops.key_manager;
}

static Skeymanagerv1__PublicKey key_message(const struct kit_key *k)
{
    Skeymanagerv1__PublicKey m = SKEYMANAGERV1__PUBLIC_KEY__INIT;
    m.id = (char *)k->id;
    m.type = (Skeymanagerv1__KeyType)k->type;
    m.pkix_data = (ProtobufCBinaryData){.len = k->pkix.len, .data = (uint8_t *)k->pkix.data};
    m.fingerprint = (char *)k->fingerprint;
    return m;
}

static cs_code generate_key(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                            struct cs_err *e)
{
    const Skeymanagerv1__GenerateKeyRequest *req = (const Skeymanagerv1__GenerateKeyRequest *)msg;
    const struct cspire_key_manager_ops *ops = ops_of(c);
    if (KIT_OP(ops, generate_key) == NULL)
        return kit_missing(e);
    if (req->key_id[0] == '\0')
        return cs_fail(e, CS_INVALID, "key id is required");
    if (req->key_type < SKEYMANAGERV1__KEY_TYPE__EC_P256 || req->key_type > SKEYMANAGERV1__KEY_TYPE__RSA_4096)
        return cs_fail(e, CS_INVALID, "key type is required");
    CS_TRY(kit_verdict(
        c, ops->generate_key(c->env->self, c, req->key_id, (enum cspire_key_type)req->key_type), e));
    if (c->keys.count != 1)
        return cs_fail(e, CS_INTERNAL, "the plugin made no key");
    Skeymanagerv1__PublicKey key = key_message(c->keys.at[0]);
    Skeymanagerv1__GenerateKeyResponse resp = SKEYMANAGERV1__GENERATE_KEY_RESPONSE__INIT;
    resp.public_key = &key;
    return proto_pack(&resp.base, response, e);
}

static cs_code get_key(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                       struct cs_err *e)
{
    const Skeymanagerv1__GetPublicKeyRequest *req = (const Skeymanagerv1__GetPublicKeyRequest *)msg;
    const struct cspire_key_manager_ops *ops = ops_of(c);
    if (KIT_OP(ops, get_key) == NULL)
        return kit_missing(e);
    if (req->key_id[0] == '\0')
        return cs_fail(e, CS_INVALID, "key id is required");
    CS_TRY(kit_verdict(c, ops->get_key(c->env->self, c, req->key_id), e));
    if (c->keys.count > 1)
        return cs_fail(e, CS_INTERNAL, "the plugin answers with %zu keys for one id", c->keys.count);
    Skeymanagerv1__PublicKey key;
    Skeymanagerv1__GetPublicKeyResponse resp = SKEYMANAGERV1__GET_PUBLIC_KEY_RESPONSE__INIT;
    if (c->keys.count == 1) {
        key = key_message(c->keys.at[0]);
        resp.public_key = &key;
    }
    return proto_pack(&resp.base, response, e);
}

static cs_code get_keys(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                        struct cs_err *e)
{
    (void)msg;
    const struct cspire_key_manager_ops *ops = ops_of(c);
    if (KIT_OP(ops, get_keys) == NULL)
        return kit_missing(e);
    CS_TRY(kit_verdict(c, ops->get_keys(c->env->self, c), e));
    size_t n = c->keys.count;
    Skeymanagerv1__PublicKey *rows = cs_arena_alloc(c->arena, (n + 1) * sizeof *rows);
    Skeymanagerv1__PublicKey **at = cs_arena_alloc(c->arena, (n + 1) * sizeof(Skeymanagerv1__PublicKey *));
    if (rows == NULL || at == NULL)
        return cs_nomem(e);
    for (size_t i = 0; i < n; i++) {
        rows[i] = key_message(c->keys.at[i]);
        at[i] = &rows[i];
    }
    Skeymanagerv1__GetPublicKeysResponse resp = SKEYMANAGERV1__GET_PUBLIC_KEYS_RESPONSE__INIT;
    resp.public_keys = at;
    resp.n_public_keys = n;
    return proto_pack(&resp.base, response, e);
}

static cs_code sign_request(const Skeymanagerv1__SignDataRequest *req, struct cspire_sign_request *out,
                            struct cs_err *e)
{
    *out = (struct cspire_sign_request){
        .size = sizeof *out, .key_id = req->key_id, .digest = KIT_PB_BYTES(req->data)};
    switch (req->signer_opts_case) {
    case SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_HASH_ALGORITHM:
        out->hash = (enum cspire_hash)req->hash_algorithm;
        break;
    case SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_PSS_OPTIONS:
        if (req->pss_options == NULL)
            return cs_fail(e, CS_INVALID, "PSS options are required");
        out->pss = true;
        out->hash = (enum cspire_hash)req->pss_options->hash_algorithm;
        out->salt_length = req->pss_options->salt_length;
        break;
    default:
        return cs_fail(e, CS_INVALID, "signer opts is required");
    }
    if (req->key_id[0] == '\0')
        return cs_fail(e, CS_INVALID, "key id is required");
    if ((int)out->hash == SKEYMANAGERV1__HASH_ALGORITHM__UNSPECIFIED_HASH_ALGORITHM)
        return cs_fail(e, CS_INVALID, "hash algorithm is required");
    return CS_OK;
}

static cs_code sign(struct cspire_call *c, const ProtobufCMessage *msg, struct cs_buf *response,
                    struct cs_err *e)
{
    const struct cspire_key_manager_ops *ops = ops_of(c);
    if (KIT_OP(ops, sign) == NULL)
        return kit_missing(e);
    struct cspire_sign_request request;
    CS_TRY(sign_request((const Skeymanagerv1__SignDataRequest *)msg, &request, e));
    CS_TRY(kit_verdict(c, ops->sign(c->env->self, c, &request), e));
    if (c->text == NULL)
        return cs_fail(e, CS_INTERNAL, "the plugin made no signature");
    Skeymanagerv1__SignDataResponse resp = SKEYMANAGERV1__SIGN_DATA_RESPONSE__INIT;
    resp.signature = (ProtobufCBinaryData){.len = c->bytes.len, .data = (uint8_t *)c->bytes.data};
    resp.key_fingerprint = (char *)c->text;
    return proto_pack(&resp.base, response, e);
}

static const struct kit_handler generate_handler = {
    .run = generate_key, .request = &skeymanagerv1__generate_key_request__descriptor, .answers = KIT_KEY};
static const struct kit_handler get_handler = {
    .run = get_key, .request = &skeymanagerv1__get_public_key_request__descriptor, .answers = KIT_KEY};
static const struct kit_handler get_all_handler = {
    .run = get_keys, .request = &skeymanagerv1__get_public_keys_request__descriptor, .answers = KIT_KEY};
static const struct kit_handler sign_handler = {
    .run = sign, .request = &skeymanagerv1__sign_data_request__descriptor, .answers = KIT_SIGNATURE};

#define ROWS(service)                                                                                        \
    {                                                                                                        \
        KIT_ROW("/" service "/GenerateKey", generate_handler),                                               \
            KIT_ROW("/" service "/GetPublicKey", get_handler),                                               \
            KIT_ROW("/" service "/GetPublicKeys", get_all_handler),                                          \
            KIT_ROW("/" service "/SignData", sign_handler)                                                   \
    }
#define SERVER "spire.plugin.server.keymanager.v1.KeyManager"
#define AGENT "spire.plugin.agent.keymanager.v1.KeyManager"
static const struct rpc_method server_methods[] = ROWS(SERVER);
static const struct rpc_method agent_methods[] = ROWS(AGENT);

const struct kit_kind kit_server_key_manager = {
    .kind = CSPIRE_SERVER_KEY_MANAGER,
    .type = "KeyManager",
    .program = "server",
    .service = SERVER,
    .methods = server_methods,
    .method_count = sizeof server_methods / sizeof server_methods[0],
};
const struct kit_kind kit_agent_key_manager = {
    .kind = CSPIRE_AGENT_KEY_MANAGER,
    .type = "KeyManager",
    .program = "agent",
    .service = AGENT,
    .methods = agent_methods,
    .method_count = sizeof agent_methods / sizeof agent_methods[0],
};
