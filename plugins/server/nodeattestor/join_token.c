/* SPDX-License-Identifier: Apache-2.0
 *
 * NodeAttestor "join_token": there to be named in the configuration. The attestation service checks
 * tokens itself, since they live in the datastore; as in SPIRE, it does so whether or not the plugin
 * is configured.
 */
#include "config/plugin_config.h"
#include "plugin/nodeattestor_server.h"

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    (void)env, (void)e;
    *self = NULL;
    return CS_OK;
}

static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    (void)self;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct config_strings unknown;
    return config_read_join_token(data, a, &unknown, e);
}

static cs_code validate(const struct plugin_env *env, struct cs_slice data, struct plugin_notes *notes,
                        struct cs_err *e)
{
    (void)env;
    CS_AUTO(cs_arena) a = cs_arena_new(0, 0);
    if (a == NULL)
        return cs_nomem(e);
    struct config_strings unknown = {0};
    struct cs_err fault;
    if (config_read_join_token(data, a, &unknown, &fault) != CS_OK)
        return plugin_notes_fault(notes, fault.code, &fault, e);
    for (size_t i = 0; i < unknown.len; i++) {
        const char *text = cs_arena_printf(a, "unknown setting \"%s\" encountered", unknown.at[i]);
        if (text == NULL || plugin_notes_add(notes, text) != CS_OK)
            return cs_nomem(e);
    }
    return CS_OK;
}

static cs_code start(void *self, const struct nodeattestor_request *request, void **session,
                     struct nodeattestor_step *step, struct cs_err *e)
{
    (void)self, (void)request, (void)step;
    *session = NULL;
    return cs_fail(e, CS_UNIMPLEMENTED, "join token attestation is currently implemented within the server");
}

static cs_code respond(void *self, void *session, struct cs_slice response, struct nodeattestor_step *step,
                       struct cs_err *e)
{
    (void)self, (void)session, (void)response, (void)step;
    return cs_fail(e, CS_INTERNAL, "no session");
}

static void end(void *self, void *session)
{
    (void)self, (void)session;
}

static const struct nodeattestor_ops ops = {.start = start, .respond = respond, .end = end};

const struct plugin_builtin plugin_nodeattestor_join_token = {
    .name = "join_token",
    .ops = &ops,
    .create = create,
    .configure = configure,
    .validate = validate,
};
