/* SPDX-License-Identifier: Apache-2.0
 *
 * KeyManager "memory": keys that end with the process.
 */
#include "plugins/server/keymanager/keys.h"

static cs_code create(const struct plugin_env *env, void **self, struct cs_err *e)
{
    *self = NULL;
    CS_CLEANUP(cs_freep) struct keymanager_keys *k = cs_calloc(1, sizeof *k);
    if (k == NULL)
        return cs_nomem(e);
    CS_TRY(keymanager_keys_init(k, env, e));
    *self = CS_MOVE(k);
    return CS_OK;
}

static void destroy(void *self)
{
    if (self == NULL)
        return;
    keymanager_keys_release(self);
    cs_free(self);
}

const struct plugin_builtin plugin_keymanager_memory = {
    .name = "memory",
    .ops = &keymanager_keys_ops,
    .create = create,
    .destroy = destroy,
};
