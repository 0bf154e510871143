/* SPDX-License-Identifier: Apache-2.0
 *
 * Agent NodeAttestor "nitro_enclave": an attestation document of this enclave whose public_key is the key of
 * the certificate request, so that the document is of no use to anybody else. A server that sends a challenge
 * gets another document with the challenge as nonce. Servers with the original plugin of enclaver-io send
 * none.
 */
#include "base/mem.h"
#include "config/plugin_config.h"
#include "plugin/nodeattestor_agent.h"
#include "plugin/settings.h"
#include "plugins/shared/nitro/nsm.h"

#include <fcntl.h>
#include <unistd.h>

#define NAME "nodeattestor(nitro_enclave)"
#define KERNEL_POOL "/dev/random"

struct attestor {
    struct cs_log log;
    struct plugin_slot config; /* of struct config_agent_nitro_enclave */
};

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    struct attestor *a = cs_calloc(1, sizeof *a);
    if (a == NULL)
        return cs_nomem(e);
    a->log = env->log;
    plugin_slot_init(&a->config);
    *self = a;
    return CS_OK;
}

static void destroy(void *self)
{
    struct attestor *a = self;
    plugin_slot_destroy(&a->config);
    cs_free(a);
}

static cs_code open_nsm(struct attestor *a, struct nitro_nsm **out, struct cs_err *e)
{
    CS_CLEANUP(plugin_settings_drop)
    const struct config_agent_nitro_enclave *c = plugin_slot_get(&a->config);
    return c != NULL ? nitro_nsm_open(c->nsm_path, out, e) : cs_fail(e, CS_PRECONDITION, "not configured");
}

/* --- Configuration --- */

static bool feed(struct cs_slice random)
{
    int fd = open(KERNEL_POOL, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return false;
    ssize_t n = write(fd, random.data, random.len);
    close(fd);
    return n > 0;
}

/* An enclave starts with little that is random but the module; its bytes go into the kernel's pool before the
 * agent makes its first key. A kernel whose own driver of the module does so as well loses nothing. */
static void greet(struct attestor *a)
{
    struct cs_err fault;
    CS_AUTO(nitro_nsm) n = NULL;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf random = {0};
    struct nitro_nsm_description d;
    cs_code rc = open_nsm(a, &n, &fault);
    if (rc == CS_OK)
        rc = nitro_nsm_describe(n, &d, &fault);
    if (rc == CS_OK)
        rc = nitro_nsm_random(n, &random, &fault);
    if (rc != CS_OK) { /* it may come later; attesting says so if it does not */
        cs_log_warn(&a->log, "The Nitro Security Module does not answer", KV_ERR(&fault));
        return;
    }
    cs_log_info(&a->log, "Found the Nitro Security Module", KV("module_id", d.module_id),
                KV_INT("version_major", d.major), KV_INT("version_minor", d.minor));
    if (!feed(cs_buf_slice(&random)))
        cs_log_debug(&a->log, "The kernel does not take random bytes", KV("path", KERNEL_POOL));
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct attestor *a = self;
    CS_CLEANUP(plugin_settings_drop)
    struct config_agent_nitro_enclave *c = plugin_settings_new(sizeof *c, NULL);
    if (c == NULL)
        return cs_nomem(e);
    CS_TRY(config_read_agent_nitro_enclave(data, plugin_settings_arena(c), c, e));
    plugin_slot_set(&a->config, CS_MOVE(c));
    greet(a);
    return CS_OK;
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    struct config_agent_nitro_enclave cfg;
    struct cs_err fault;
    (void)env;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    return plugin_notes_fault(notes, config_read_agent_nitro_enclave(data, arena, &cfg, &fault), &fault, e);
}

/* --- Attesting --- */

static cs_code make_document(struct nitro_nsm *n, struct cs_slice key, struct cs_slice nonce,
                             struct cs_buf *document, struct cs_err *e)
{
    const struct nitro_nsm_params p = {.public_key = key, .nonce = nonce};
    cs_buf_reset(document);
    return nitro_nsm_attest(n, &p, document, e) == CS_OK ? CS_OK : cs_wrap(e, NAME);
}

static cs_code attest(void *self, const struct nodeattestor_agent_stream *stream, struct cs_err *e)
{
    struct attestor *a = self;
    CS_AUTO(nitro_nsm) n = NULL;
    CS_CLEANUP(cs_buf_free) struct cs_buf document = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf challenge = {0};
    bool done = false;
    if (open_nsm(a, &n, e) != CS_OK)
        return cs_wrap(e, NAME);
    CS_TRY(make_document(n, stream->spki, (struct cs_slice){0}, &document, e));
    CS_TRY(stream->exchange(stream->arg, cs_buf_slice(&document), &challenge, &done, e));
    if (done)
        return CS_OK;
    if (challenge.len == 0 || challenge.len > NITRO_NSM_PARAM_MAX)
        return cs_fail(e, CS_INVALID, NAME ": the server's challenge has %zu bytes", challenge.len);
    CS_TRY(make_document(n, stream->spki, cs_buf_slice(&challenge), &document, e));
    CS_TRY(stream->exchange(stream->arg, cs_buf_slice(&document), &challenge, &done, e));
    return done ? CS_OK : cs_fail(e, CS_INTERNAL, NAME ": server issued unexpected challenge");
}

static const struct nodeattestor_agent_ops ops = {.attest = attest};

const struct plugin_builtin plugin_agent_nodeattestor_nitro_enclave = {
    .name = "nitro_enclave",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
    .validate = validate,
};
