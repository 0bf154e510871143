/* SPDX-License-Identifier: Apache-2.0
 *
 * Agent NodeAttestors "k8s_psat" and "k8s_sat": the token of a file is sent to the server, which knows whom
 * to ask about it. They differ in where the file is and in how far a token can be trusted.
 */
#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "config/kubernetes_config.h"
#include "plugin/nodeattestor_agent.h"
#include "plugin/settings.h"

#define TOKEN_MAX ((size_t)64 * 1024)

struct attestor {
    struct cs_log log;
    const char *prefix; /* "nodeattestor(k8s_psat)" */
    bool weak;
    cs_code (*read)(struct cs_slice text, struct cs_arena *a, struct config_k8s_agent *out, struct cs_err *e);
    struct plugin_slot config; /* of struct config_k8s_agent */
};

static cs_code make(const struct plugin_env *env, const struct attestor *kind, void **self, struct cs_err *e)
{
    struct attestor *a = cs_memdup(kind, sizeof *kind);
    *self = a;
    if (a == NULL)
        return cs_nomem(e);
    a->log = env->log;
    plugin_slot_init(&a->config);
    return CS_OK;
}

static void destroy(void *self)
{
    struct attestor *a = self;
    plugin_slot_destroy(&a->config);
    cs_free(a);
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    struct attestor *a = self;
    CS_CLEANUP(plugin_settings_drop) struct config_k8s_agent *c = plugin_settings_new(sizeof *c, NULL);
    if (c == NULL)
        return cs_nomem(e);
    CS_TRY(a->read(data, plugin_settings_arena(c), c, e));
    if (a->weak)
        cs_log_warn(&a->log,
                    "The \"k8s_sat\" node attestor plugin has been deprecated in favor of the \"k8s_psat\" "
                    "plugin: whoever can read a token of the service account, in any pod, can attest as "
                    "an agent");
    plugin_slot_set(&a->config, CS_MOVE(c));
    return CS_OK;
}

static cs_code check(cs_code (*read)(struct cs_slice text, struct cs_arena *a, struct config_k8s_agent *out,
                                     struct cs_err *e),
                     struct cs_slice data, struct plugin_notes *notes, struct cs_err *e)
{
    struct config_k8s_agent cfg;
    struct cs_err fault;
    CS_AUTO(cs_arena) arena = cs_arena_new(0, 0);
    if (arena == NULL)
        return cs_nomem(e);
    return plugin_notes_fault(notes, read(data, arena, &cfg, &fault), &fault, e);
}

/* {"cluster":"C","token":"T"}; the token as the file has it, in buffers that do not grow. */
static cs_code payload(struct attestor *a, struct cs_buf *out, struct cs_err *e)
{
    CS_CLEANUP(cs_buf_wipe) struct cs_buf token = {0};
    if (!cs_buf_reserve(&token, TOKEN_MAX))
        return cs_nomem(e);
    CS_CLEANUP(plugin_settings_drop) const struct config_k8s_agent *c = plugin_slot_get(&a->config);
    if (c == NULL)
        return cs_fail(e, CS_PRECONDITION, "not configured");
    struct cs_err why = {0};
    cs_code rc = cs_file_read(c->token_path, TOKEN_MAX, &token, &why);
    if (rc == CS_OK && token.len == 0)
        (void)cs_fail(&why, CS_INVALID, "\"%s\" is empty", c->token_path);
    if (why.code != CS_OK)
        return cs_fail(e, CS_INVALID, "unable to load token from %s: %s", c->token_path, why.text);
    /* each byte may become six */
    if (!cs_buf_reserve(out, 6 * (strlen(c->cluster) + token.len) + 64))
        return cs_nomem(e);
    cs_buf_add_str(out, "{\"cluster\":");
    cs_quote_json(out, cs_slice_str(c->cluster));
    cs_buf_add_str(out, ",\"token\":");
    cs_quote_json(out, cs_buf_slice(&token));
    cs_buf_add_byte(out, '}');
    return cs_buf_ok(out) ? CS_OK : cs_nomem(e);
}

static cs_code attest(void *self, const struct nodeattestor_agent_stream *stream, struct cs_err *e)
{
    struct attestor *a = self;
    CS_CLEANUP(cs_buf_wipe) struct cs_buf in = {0};
    CS_CLEANUP(cs_buf_free) struct cs_buf challenge = {0};
    bool done = false;
    if (payload(a, &in, e) != CS_OK)
        return cs_wrap(e, "%s", a->prefix);
    CS_TRY(stream->exchange(stream->arg, cs_buf_slice(&in), &challenge, &done, e));
    return done ? CS_OK : cs_fail(e, CS_INTERNAL, "%s: server issued unexpected challenge", a->prefix);
}

static const struct nodeattestor_agent_ops ops = {.attest = attest};

/* --- k8s_psat --- */

static cs_code psat_create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    static const struct attestor kind = {.prefix = "nodeattestor(k8s_psat)",
                                         .read = config_read_k8s_psat_agent};
    return make(env, &kind, self, e);
}

static cs_code psat_validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                             struct cs_err *e)
{
    (void)env;
    return check(config_read_k8s_psat_agent, data, notes, e);
}

const struct plugin_builtin plugin_agent_nodeattestor_k8s_psat = {
    .name = "k8s_psat",
    .ops = &ops,
    .create = psat_create,
    .destroy = destroy,
    .configure = configure,
    .validate = psat_validate,
};

/* --- k8s_sat --- */

static cs_code sat_create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    static const struct attestor kind = {
        .prefix = "nodeattestor(k8s_sat)", .weak = true, .read = config_read_k8s_sat_agent};
    return make(env, &kind, self, e);
}

static cs_code sat_validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                            struct cs_err *e)
{
    (void)env;
    return check(config_read_k8s_sat_agent, data, notes, e);
}

const struct plugin_builtin plugin_agent_nodeattestor_k8s_sat = {
    .name = "k8s_sat",
    .ops = &ops,
    .create = sat_create,
    .destroy = destroy,
    .configure = configure,
    .validate = sat_validate,
};
