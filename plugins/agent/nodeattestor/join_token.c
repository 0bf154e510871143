/* SPDX-License-Identifier: Apache-2.0
 *
 * Agent NodeAttestor "join_token". The agent itself presents a token that it was given; this plugin is
 * only asked when there is none (doc/plugin_agent_nodeattestor_jointoken.md).
 */
#include "config/plugin_config.h"
#include "plugin/nodeattestor_agent.h"

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    (void)env;
    (void)e;
    *self = NULL;
    return CS_OK;
}

static void destroy(void *self)
{
    (void)self;
}

/* SPIRE's plugin takes no configuration and ignores what it is given. */
static cs_code configure(void *self, struct cs_slice data, struct cs_err *e)
{
    (void)self;
    (void)data;
    (void)e;
    return CS_OK;
}

static cs_code attest(void *self, const struct nodeattestor_agent_stream *stream, struct cs_err *e)
{
    (void)self;
    (void)stream;
    return cs_fail(e, CS_INVALID, "nodeattestor(join_token): join token was not provided");
}

static const struct nodeattestor_agent_ops ops = {.attest = attest};

const struct plugin_builtin plugin_agent_nodeattestor_join_token = {
    .name = "join_token",
    .ops = &ops,
    .create = create,
    .destroy = destroy,
    .configure = configure,
};
