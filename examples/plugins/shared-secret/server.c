/* SPDX-License-Identifier: Apache-2.0
 *
 * Server half of node attestation by shared secret. Each node has a name and a secret of its own, in a file
 * of that name; whoever proves to know it becomes spiffe://TRUST-DOMAIN/spire/agent/shared_secret/NAME, with
 * the selector shared_secret:name:NAME. Secrets are read at each attestation: adding or deleting a file is
 * enough. The name of the plugin in the configuration must be shared_secret.
 *
 * plugin_data: secrets_dir, the folder of the files.
 */
#include "proof.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The plugin is CSPIRE_SERIAL: nothing here needs a lock. */
struct server {
    struct cspire_env *env;
    char *secrets_dir, *trust_domain;
};

struct session {
    char name[NAME_MAX_LEN + 1];
    unsigned char nonce[NONCE_LEN];
};

static enum cspire_code start(void *arg, struct cspire_call *call,
                              const struct cspire_attest_request *request, void **out)
{
    struct server *self = arg;
    const char *name = (const char *)request->payload.data;
    if (self->secrets_dir == NULL)
        return cspire_fail(call, CSPIRE_FAILED_PRECONDITION, "not configured");
    if (!name_ok(name, request->payload.len))
        return cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "the payload is not a node's name");
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    *out = s;
    memcpy(s->name, name, request->payload.len);
    if (RAND_bytes(s->nonce, sizeof s->nonce) != 1)
        return cspire_fail(call, CSPIRE_INTERNAL, "no random numbers");
    /* every name is challenged, known or not */
    return cspire_reply_challenge(call, (struct cspire_bytes){s->nonce, sizeof s->nonce});
}

/* The refusal is the same for all reasons; the log of the server has the true one. */
static enum cspire_code refuse(const struct server *self, struct cspire_call *call, const char *name,
                               const char *reason)
{
    const struct cspire_field fields[] = {{"node_name", name}, {"reason", reason}};
    cspire_log(self->env, CSPIRE_WARN, "Node attestation refused", fields, 2);
    return cspire_fail(call, CSPIRE_PERMISSION_DENIED, "the proof is wrong");
}

static enum cspire_code respond(void *arg, struct cspire_call *call, void *session,
                                struct cspire_bytes response)
{
    struct server *self = arg;
    struct session *s = session;
    unsigned char nonce[NONCE_LEN], proof[PROOF_LEN];
    struct secret secret;
    memcpy(nonce, s->nonce, sizeof nonce);
    OPENSSL_cleanse(s->nonce, sizeof s->nonce); /* serves once */
    char *path = cspire_text(call, "%s/%s", self->secrets_dir, s->name);
    if (path == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    enum cspire_code code = secret_read(call, path, &secret);
    bool right = false;
    if (code == CSPIRE_OK)
        code = proof_make(call, &secret, s->name, nonce, proof);
    if (code == CSPIRE_OK)
        right = response.len == PROOF_LEN && CRYPTO_memcmp(response.data, proof, PROOF_LEN) == 0;
    OPENSSL_cleanse(&secret, sizeof secret);
    OPENSSL_cleanse(proof, sizeof proof);
    if (code != CSPIRE_OK)
        return refuse(self, call, s->name, cspire_call_error(call));
    if (!right)
        return refuse(self, call, s->name, "the response does not fit the secret");
    char *id = cspire_text(call, "spiffe://%s/spire/agent/shared_secret/%s", self->trust_domain, s->name);
    if (id == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    code = cspire_reply_agent(call, id, true);
    return code == CSPIRE_OK ? cspire_reply_selector(call, "name:%s", s->name) : code;
}

static void end(void *self, void *session)
{
    (void)self;
    free(session);
}

/* --- Configuration --- */

static enum cspire_code read_options(struct cspire_call *call, const struct cspire_config *config,
                                     const char **secrets_dir)
{
    static const char *const names[] = {"secrets_dir"};
    *secrets_dir = "";
    enum cspire_code code = cspire_config_only(call, config, names, 1);
    if (code == CSPIRE_OK)
        code = cspire_config_string(call, config, "secrets_dir", secrets_dir);
    if (code == CSPIRE_OK && (*secrets_dir)[0] != '/')
        code = cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "secrets_dir must be an absolute path");
    return code;
}

static enum cspire_code configure(void *arg, struct cspire_call *call, const struct cspire_config *config)
{
    struct server *self = arg;
    const char *dir;
    enum cspire_code code = read_options(call, config, &dir);
    if (code != CSPIRE_OK)
        return code;
    char *dir_copy = strdup(dir), *domain = strdup(cspire_config_trust_domain(config));
    if (dir_copy == NULL || domain == NULL) {
        free(dir_copy);
        free(domain);
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    }
    free(self->secrets_dir);
    free(self->trust_domain);
    self->secrets_dir = dir_copy;
    self->trust_domain = domain;
    return CSPIRE_OK;
}

static enum cspire_code validate(void *self, struct cspire_call *call, const struct cspire_config *config)
{
    (void)self;
    const char *dir;
    if (read_options(call, config, &dir) == CSPIRE_OK)
        return CSPIRE_OK;
    return cspire_reply_note(call, "%s", cspire_call_error(call));
}

static enum cspire_code create(struct cspire_call *call, void **out)
{
    struct server *self = calloc(1, sizeof *self);
    if (self == NULL)
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    self->env = cspire_call_env(call);
    *out = self;
    return CSPIRE_OK;
}

static void destroy(void *arg)
{
    struct server *self = arg;
    free(self->secrets_dir);
    free(self->trust_domain);
    free(self);
}

static const struct cspire_server_node_attestor_ops ops = {
    .size = sizeof ops, .start = start, .respond = respond, .end = end};

static const struct cspire_plugin plugin = {
    .size = sizeof plugin,
    .kind = CSPIRE_SERVER_NODE_ATTESTOR,
    .flags = CSPIRE_SERIAL,
    .ops = {.server_node_attestor = &ops},
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};

int main(int argc, char **argv)
{
    return cspire_plugin_main(argc, argv, &plugin);
}
