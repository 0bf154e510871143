/* SPDX-License-Identifier: Apache-2.0
 *
 * The server's built-in plugins: one array per kind. A new one is its file and a line here. And how external
 * ones of each kind are called.
 */
#include "plugin/plugin.h"

extern const struct plugin_builtin plugin_keymanager_disk;
extern const struct plugin_builtin plugin_keymanager_memory;
extern const struct plugin_builtin plugin_nodeattestor_join_token;
extern const struct plugin_builtin plugin_nodeattestor_k8s_csr;
extern const struct plugin_builtin plugin_nodeattestor_nitro_enclave;
extern const struct plugin_builtin plugin_upstreamauthority_disk;

extern const struct plugin_bridge plugin_bridge_bundlepublisher;
extern const struct plugin_bridge plugin_bridge_credentialcomposer;
extern const struct plugin_bridge plugin_bridge_keymanager;
extern const struct plugin_bridge plugin_bridge_nodeattestor;
extern const struct plugin_bridge plugin_bridge_notifier;
extern const struct plugin_bridge plugin_bridge_upstreamauthority;

static const struct plugin_builtin *const keymanagers[] = {
    &plugin_keymanager_disk,
    &plugin_keymanager_memory,
};
static const struct plugin_builtin *const nodeattestors[] = {
    &plugin_nodeattestor_join_token,
    &plugin_nodeattestor_k8s_csr,
    &plugin_nodeattestor_nitro_enclave,
};
static const struct plugin_builtin *const upstreamauthorities[] = {
    &plugin_upstreamauthority_disk,
};

#define LIST(a) .builtins = (a), .builtin_count = sizeof(a) / sizeof(a)[0]

/* Bounds as SPIRE's server has them (pkg/server/catalog). */
const struct plugin_kind plugin_server_kinds[] = {
    {.type = PLUGIN_TYPE_KEYMANAGER,
     .bridge = &plugin_bridge_keymanager,
     .min = 1,
     .max = 1,
     LIST(keymanagers)},
    {.type = PLUGIN_TYPE_NODEATTESTOR, .bridge = &plugin_bridge_nodeattestor, LIST(nodeattestors)},
    {.type = PLUGIN_TYPE_UPSTREAMAUTHORITY,
     .bridge = &plugin_bridge_upstreamauthority,
     .max = 1,
     LIST(upstreamauthorities)},
    {.type = PLUGIN_TYPE_NOTIFIER, .bridge = &plugin_bridge_notifier},
    {.type = PLUGIN_TYPE_BUNDLEPUBLISHER, .bridge = &plugin_bridge_bundlepublisher},
    {.type = PLUGIN_TYPE_CREDENTIALCOMPOSER, .bridge = &plugin_bridge_credentialcomposer},
};
const size_t plugin_server_kind_count = sizeof plugin_server_kinds / sizeof plugin_server_kinds[0];
