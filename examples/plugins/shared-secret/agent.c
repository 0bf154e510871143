/* SPDX-License-Identifier: Apache-2.0
 *
 * Agent half of node attestation by shared secret.
 *
 * plugin_data: name, the node's name; secret_file, the file with its secret.
 */
#include "proof.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* CSPIRE_SERIAL, as the server's half. */
struct agent {
    char *name, *secret_file;
};

static enum cspire_code start(void *arg, struct cspire_call *call, void **session)
{
    struct agent *self = arg;
    (void)session; /* nothing to remember between the messages */
    if (self->name == NULL)
        return cspire_fail(call, CSPIRE_FAILED_PRECONDITION, "not configured");
    return cspire_reply_payload(call, (struct cspire_bytes){(const uint8_t *)self->name, strlen(self->name)});
}

static enum cspire_code respond(void *arg, struct cspire_call *call, void *session,
                                struct cspire_bytes challenge)
{
    struct agent *self = arg;
    (void)session;
    if (challenge.len != NONCE_LEN)
        return cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "the challenge is not %d bytes", NONCE_LEN);
    struct secret secret;
    unsigned char proof[PROOF_LEN];
    enum cspire_code code = secret_read(call, self->secret_file, &secret);
    if (code == CSPIRE_OK)
        code = proof_make(call, &secret, self->name, challenge.data, proof);
    OPENSSL_cleanse(&secret, sizeof secret);
    return code == CSPIRE_OK ? cspire_reply_payload(call, (struct cspire_bytes){proof, sizeof proof}) : code;
}

static enum cspire_code read_options(struct cspire_call *call, const struct cspire_config *config,
                                     const char **name, const char **secret_file)
{
    static const char *const names[] = {"name", "secret_file"};
    *name = *secret_file = "";
    enum cspire_code code = cspire_config_only(call, config, names, 2);
    if (code == CSPIRE_OK)
        code = cspire_config_string(call, config, "name", name);
    if (code == CSPIRE_OK)
        code = cspire_config_string(call, config, "secret_file", secret_file);
    if (code == CSPIRE_OK && !name_ok(*name, strlen(*name)))
        code = cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "name must be up to %d letters, digits, -, _ or .",
                           NAME_MAX_LEN);
    if (code == CSPIRE_OK && (*secret_file)[0] != '/')
        code = cspire_fail(call, CSPIRE_INVALID_ARGUMENT, "secret_file must be an absolute path");
    return code;
}

static enum cspire_code configure(void *arg, struct cspire_call *call, const struct cspire_config *config)
{
    struct agent *self = arg;
    const char *name, *file;
    enum cspire_code code = read_options(call, config, &name, &file);
    if (code != CSPIRE_OK)
        return code;
    char *name_copy = strdup(name), *file_copy = strdup(file);
    if (name_copy == NULL || file_copy == NULL) {
        free(name_copy);
        free(file_copy);
        return cspire_fail(call, CSPIRE_INTERNAL, "no memory");
    }
    free(self->name);
    free(self->secret_file);
    self->name = name_copy;
    self->secret_file = file_copy;
    return CSPIRE_OK;
}

static enum cspire_code validate(void *self, struct cspire_call *call, const struct cspire_config *config)
{
    (void)self;
    const char *name, *file;
    if (read_options(call, config, &name, &file) == CSPIRE_OK)
        return CSPIRE_OK;
    return cspire_reply_note(call, "%s", cspire_call_error(call));
}

static enum cspire_code create(struct cspire_call *call, void **out)
{
    *out = calloc(1, sizeof(struct agent));
    return *out != NULL ? CSPIRE_OK : cspire_fail(call, CSPIRE_INTERNAL, "no memory");
}

static void destroy(void *arg)
{
    struct agent *self = arg;
    free(self->name);
    free(self->secret_file);
    free(self);
}

static const struct cspire_agent_node_attestor_ops ops = {
    .size = sizeof ops, .start = start, .respond = respond};

static const struct cspire_plugin plugin = {
    .size = sizeof plugin,
    .kind = CSPIRE_AGENT_NODE_ATTESTOR,
    .flags = CSPIRE_SERIAL,
    .ops = {.agent_node_attestor = &ops},
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};

int main(int argc, char **argv)
{
    return cspire_plugin_main(argc, argv, &plugin);
}
