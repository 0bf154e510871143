/* SPDX-License-Identifier: Apache-2.0
 *
 * The server's built-in plugins: one array per kind. A new one is its file and a line here.
 */
#include "plugin/plugin.h"

extern const struct plugin_builtin plugin_keymanager_disk;
extern const struct plugin_builtin plugin_keymanager_memory;
extern const struct plugin_builtin plugin_nodeattestor_join_token;
extern const struct plugin_builtin plugin_nodeattestor_nitro_enclave;
extern const struct plugin_builtin plugin_upstreamauthority_disk;

static const struct plugin_builtin *const keymanagers[] = {
    &plugin_keymanager_disk,
    &plugin_keymanager_memory,
};
static const struct plugin_builtin *const nodeattestors[] = {
    &plugin_nodeattestor_join_token,
    &plugin_nodeattestor_nitro_enclave,
};
static const struct plugin_builtin *const upstreamauthorities[] = {
    &plugin_upstreamauthority_disk,
};

#define LIST(a) .builtins = (a), .builtin_count = sizeof(a) / sizeof(a)[0]

/* Bounds as SPIRE's server has them (pkg/server/catalog). */
const struct plugin_kind plugin_server_kinds[] = {
    {.type = PLUGIN_TYPE_KEYMANAGER, .min = 1, .max = 1, LIST(keymanagers)},
    {.type = PLUGIN_TYPE_NODEATTESTOR, LIST(nodeattestors)},
    {.type = PLUGIN_TYPE_UPSTREAMAUTHORITY, .max = 1, LIST(upstreamauthorities)},
    {.type = PLUGIN_TYPE_NOTIFIER},
    {.type = PLUGIN_TYPE_BUNDLEPUBLISHER},
    {.type = PLUGIN_TYPE_CREDENTIALCOMPOSER},
};
const size_t plugin_server_kind_count = sizeof plugin_server_kinds / sizeof plugin_server_kinds[0];
