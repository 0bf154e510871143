/* SPDX-License-Identifier: Apache-2.0
 *
 * KeyManager over gRPC, for both programs: the messages of the agent's service are those of the server's,
 * number by number. A key of a plugin is a signer that asks the plugin for each signature.
 */
#include "plugin/keymanager.h"

#include "plugin/bridge/bridge.h"

#include "sdk_server_keymanager.pb-c.h"

#include <stdlib.h>

/* Key managers may sit behind a slow network; SPIRE's own limit. */
#define KEYMANAGER_DEADLINE_NS (30 * CS_NS_PER_S)
/* As Go's rsa.PSSSaltLengthEqualsHash. */
#define SALT_AS_HASH (-1)

struct methods {
    const char *generate_key, *get_public_key, *get_public_keys, *sign_data;
};
struct keymanager {
    struct bridge b;
    const struct methods *methods;
};

/* --- Signing --- */

/* Copies what it needs: a signer may be given back after its plugin went. It may not be used then. */
struct remote_key {
    struct keymanager km;
    char *id, *fingerprint;
};

static void remote_key_free(void *arg)
{
    struct remote_key *k = arg;
    cs_free(k->id);
    cs_free(k->fingerprint);
    cs_free(k);
}

static Skeymanagerv1__HashAlgorithm hash_of(enum crypto_sig alg)
{
    switch (crypto_sig_hash(alg)) {
    case CRYPTO_SHA256:
        return SKEYMANAGERV1__HASH_ALGORITHM__SHA256;
    case CRYPTO_SHA384:
        return SKEYMANAGERV1__HASH_ALGORITHM__SHA384;
    case CRYPTO_SHA512:
        return SKEYMANAGERV1__HASH_ALGORITHM__SHA512;
    case CRYPTO_SHA1:
        break;
    }
    return SKEYMANAGERV1__HASH_ALGORITHM__UNSPECIFIED_HASH_ALGORITHM;
}

static bool is_pss(enum crypto_sig alg)
{
    return alg == CRYPTO_PSS_SHA256 || alg == CRYPTO_PSS_SHA384 || alg == CRYPTO_PSS_SHA512;
}

static cs_code check_signature(const struct remote_key *k, const Skeymanagerv1__SignDataResponse *answer,
                               struct cs_arena *a, struct cs_err *e)
{
    const struct bridge *b = &k->km.b;
    if (answer->signature.len == 0)
        return bridge_fail(b, e, CS_INTERNAL, "plugin returned empty signature data");
    if (strcmp(answer->key_fingerprint, k->fingerprint) != 0)
        return bridge_fail(b, e, CS_INTERNAL, "fingerprint %s on key %s does not match %s",
                           bridge_quoted(a, k->fingerprint), bridge_quoted(a, k->id),
                           bridge_quoted(a, answer->key_fingerprint));
    return CS_OK;
}

static cs_code remote_sign(void *ctx, enum crypto_sig alg, struct cs_slice digest, struct cs_buf *out,
                           struct cs_err *e)
{
    const struct remote_key *k = ctx;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Skeymanagerv1__SignDataRequest__PSSOptions pss = SKEYMANAGERV1__SIGN_DATA_REQUEST__PSSOPTIONS__INIT;
    Skeymanagerv1__SignDataRequest request = SKEYMANAGERV1__SIGN_DATA_REQUEST__INIT;
    request.key_id = k->id;
    request.data = bridge_data(digest);
    if (is_pss(alg)) {
        pss.salt_length = SALT_AS_HASH;
        pss.hash_algorithm = hash_of(alg);
        request.signer_opts_case = SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_PSS_OPTIONS;
        request.pss_options = &pss;
    } else {
        request.signer_opts_case = SKEYMANAGERV1__SIGN_DATA_REQUEST__SIGNER_OPTS_HASH_ALGORITHM;
        request.hash_algorithm = hash_of(alg);
    }
    Skeymanagerv1__SignDataResponse *answer;
    CS_TRY(bridge_call(&k->km.b, k->km.methods->sign_data, &request.base,
                       &skeymanagerv1__sign_data_response__descriptor, a, &answer, KEYMANAGER_DEADLINE_NS,
                       e));
    CS_TRY(check_signature(k, answer, a, e)); /* crypto_sign verifies it */
    cs_buf_add_slice(out, bridge_bytes(answer->signature));
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static const struct crypto_signer_ops remote_ops = {.sign = remote_sign, .free = remote_key_free};

/* --- Keys --- */

static cs_code make_signer(const struct keymanager *km, struct crypto_pub *pub,
                           const Skeymanagerv1__PublicKey *in, struct crypto_signer **out, struct cs_err *e)
{
    struct remote_key *k = cs_calloc(1, sizeof *k);
    if (k == NULL)
        return cs_nomem(e);
    *k = (struct remote_key){
        .km = *km,
        .id = cs_strdup(in->id),
        .fingerprint = cs_strdup(in->fingerprint),
    };
    cs_code rc = k->id != NULL && k->fingerprint != NULL ? CS_OK : cs_nomem(e);
    if (rc == CS_OK)
        rc = crypto_signer_new(&remote_ops, k, pub, out, e);
    if (rc != CS_OK)
        remote_key_free(k);
    return rc;
}

/* `type`: what the key must be; CRYPTO_KEY_NONE: anything. */
static cs_code make_key(const struct keymanager *km, struct cs_arena *a, const char *id,
                        enum crypto_key_type type, const Skeymanagerv1__PublicKey *in,
                        struct crypto_signer **out, struct cs_err *e)
{
    const struct bridge *b = &km->b;
    const char *quoted = bridge_quoted(a, id);
    if (in == NULL)
        return bridge_fail(b, e, CS_INTERNAL, "plugin response empty for key %s", quoted);
    if (strcmp(in->id, id) != 0)
        return bridge_fail(b, e, CS_INTERNAL, "plugin response has unexpected key id %s for key %s",
                           bridge_quoted(a, in->id), quoted);
    if (in->pkix_data.len == 0)
        return bridge_fail(b, e, CS_INTERNAL, "plugin response missing public key PKIX data for key %s",
                           quoted);
    CS_AUTO(crypto_pub) pub = NULL;
    struct cs_err why;
    if (crypto_pub_parse(bridge_bytes(in->pkix_data), &pub, &why) != CS_OK)
        return bridge_fail(b, e, CS_INTERNAL, "unable to parse public key PKIX data for key %s: %s", quoted,
                           why.text);
    if (type != CRYPTO_KEY_NONE && crypto_pub_type(pub) != type)
        return bridge_fail(b, e, CS_INTERNAL, "plugin response has a key of type %s for key %s; asked for %s",
                           crypto_key_type_name(crypto_pub_type(pub)), quoted, crypto_key_type_name(type));
    return make_signer(km, pub, in, out, e);
}

static cs_code type_of(const struct bridge *b, enum crypto_key_type type, Skeymanagerv1__KeyType *out,
                       struct cs_err *e)
{
    switch (type) {
    case CRYPTO_EC_P256:
        *out = SKEYMANAGERV1__KEY_TYPE__EC_P256;
        return CS_OK;
    case CRYPTO_EC_P384:
        *out = SKEYMANAGERV1__KEY_TYPE__EC_P384;
        return CS_OK;
    case CRYPTO_RSA_2048:
        *out = SKEYMANAGERV1__KEY_TYPE__RSA_2048;
        return CS_OK;
    case CRYPTO_RSA_4096:
        *out = SKEYMANAGERV1__KEY_TYPE__RSA_4096;
        return CS_OK;
    case CRYPTO_KEY_NONE:
        return bridge_fail(b, e, CS_INVALID, "key type is required");
    default:
        return bridge_fail(b, e, CS_INTERNAL, "facade does not support key type \"%s\"",
                           crypto_key_type_name(type));
    }
}

/* --- Operations --- */

static cs_code generate_key(void *self, const char *id, enum crypto_key_type type, struct crypto_signer **out,
                            struct cs_err *e)
{
    const struct keymanager *km = self;
    *out = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Skeymanagerv1__GenerateKeyRequest request = SKEYMANAGERV1__GENERATE_KEY_REQUEST__INIT;
    request.key_id = (char *)id;
    CS_TRY(type_of(&km->b, type, &request.key_type, e));
    Skeymanagerv1__GenerateKeyResponse *answer;
    CS_TRY(bridge_call(&km->b, km->methods->generate_key, &request.base,
                       &skeymanagerv1__generate_key_response__descriptor, a, &answer, KEYMANAGER_DEADLINE_NS,
                       e));
    return make_key(km, a, id, type, answer->public_key, out, e);
}

static cs_code get_key(void *self, const char *id, struct crypto_signer **out, struct cs_err *e)
{
    const struct keymanager *km = self;
    *out = NULL;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Skeymanagerv1__GetPublicKeyRequest request = SKEYMANAGERV1__GET_PUBLIC_KEY_REQUEST__INIT;
    request.key_id = (char *)id;
    Skeymanagerv1__GetPublicKeyResponse *answer;
    CS_TRY(bridge_call(&km->b, km->methods->get_public_key, &request.base,
                       &skeymanagerv1__get_public_key_response__descriptor, a, &answer,
                       KEYMANAGER_DEADLINE_NS, e));
    if (answer->public_key == NULL)
        return bridge_fail(&km->b, e, CS_NOT_FOUND, "key %s not found", bridge_quoted(a, id));
    return make_key(km, a, id, CRYPTO_KEY_NONE, answer->public_key, out, e);
}

static int by_id(const void *x, const void *y)
{
    const Skeymanagerv1__PublicKey *const *a = x, *const *b = y;
    return strcmp((*a)->id, (*b)->id);
}

static cs_code each_key(void *self,
                        cs_code (*each)(void *arg, const char *id, struct crypto_signer *key,
                                        struct cs_err *e),
                        void *arg, struct cs_err *e)
{
    const struct keymanager *km = self;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    Skeymanagerv1__GetPublicKeysRequest request = SKEYMANAGERV1__GET_PUBLIC_KEYS_REQUEST__INIT;
    Skeymanagerv1__GetPublicKeysResponse *answer;
    CS_TRY(bridge_call(&km->b, km->methods->get_public_keys, &request.base,
                       &skeymanagerv1__get_public_keys_response__descriptor, a, &answer,
                       KEYMANAGER_DEADLINE_NS, e));
    if (answer->n_public_keys > 0)
        qsort(answer->public_keys, answer->n_public_keys, sizeof(Skeymanagerv1__PublicKey *), by_id);
    for (size_t i = 0; i < answer->n_public_keys; i++) {
        const Skeymanagerv1__PublicKey *key = answer->public_keys[i];
        CS_AUTO(crypto_signer) signer = NULL;
        CS_TRY(make_key(km, a, key->id, CRYPTO_KEY_NONE, key, &signer, e));
        CS_TRY(each(arg, key->id, signer, e));
    }
    return CS_OK;
}

static const struct keymanager_ops ops = {
    .generate_key = generate_key,
    .get_key = get_key,
    .each_key = each_key,
};

/* --- Tables --- */

#define SERVER_SERVICE "spire.plugin.server.keymanager.v1.KeyManager"
#define AGENT_SERVICE "spire.plugin.agent.keymanager.v1.KeyManager"
#define METHODS(service)                                                                                     \
    {                                                                                                        \
        .generate_key = "/" service "/GenerateKey", .get_public_key = "/" service "/GetPublicKey",           \
        .get_public_keys = "/" service "/GetPublicKeys", .sign_data = "/" service "/SignData",               \
    }
static const struct methods server_methods = METHODS(SERVER_SERVICE);
static const struct methods agent_methods = METHODS(AGENT_SERVICE);

static cs_code create(struct plugin_external *x, const struct plugin_env *env, const struct methods *methods,
                      void **self, struct cs_err *e)
{
    CS_TRY(bridge_new(x, env, PLUGIN_TYPE_KEYMANAGER, sizeof(struct keymanager), self, e));
    ((struct keymanager *)*self)->methods = methods;
    return CS_OK;
}

static cs_code create_server(struct plugin_external *x, const struct plugin_env *env, void **self,
                             struct cs_err *e)
{
    return create(x, env, &server_methods, self, e);
}

static cs_code create_agent(struct plugin_external *x, const struct plugin_env *env, void **self,
                            struct cs_err *e)
{
    return create(x, env, &agent_methods, self, e);
}

const struct plugin_bridge plugin_bridge_keymanager = {
    .service = SERVER_SERVICE,
    .ops = &ops,
    .create = create_server,
    .destroy = bridge_free,
};
const struct plugin_bridge plugin_bridge_agent_keymanager = {
    .service = AGENT_SERVICE,
    .ops = &ops,
    .create = create_agent,
    .destroy = bridge_free,
};
