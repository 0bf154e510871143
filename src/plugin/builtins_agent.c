/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's built-in plugins: one array per kind. A new one is its file and a line here. And how external
 * ones of each kind are called.
 */
#include "plugin/plugin.h"

extern const struct plugin_builtin plugin_agent_keymanager_disk;
extern const struct plugin_builtin plugin_keymanager_memory;
extern const struct plugin_builtin plugin_agent_nodeattestor_join_token;
extern const struct plugin_builtin plugin_agent_nodeattestor_k8s_csr;
extern const struct plugin_builtin plugin_agent_nodeattestor_k8s_psat;
extern const struct plugin_builtin plugin_agent_nodeattestor_k8s_sat;
extern const struct plugin_builtin plugin_agent_nodeattestor_nitro_enclave;
extern const struct plugin_builtin plugin_svidstore_disk;
extern const struct plugin_builtin plugin_workloadattestor_slurm;
extern const struct plugin_builtin plugin_workloadattestor_unix;

extern const struct plugin_bridge plugin_bridge_agent_keymanager;
extern const struct plugin_bridge plugin_bridge_agent_nodeattestor;
extern const struct plugin_bridge plugin_bridge_svidstore;
extern const struct plugin_bridge plugin_bridge_workloadattestor;

static const struct plugin_builtin *const keymanagers[] = {
    &plugin_agent_keymanager_disk,
    &plugin_keymanager_memory,
};
static const struct plugin_builtin *const nodeattestors[] = {
    &plugin_agent_nodeattestor_join_token,    &plugin_agent_nodeattestor_k8s_csr,
    &plugin_agent_nodeattestor_k8s_psat,      &plugin_agent_nodeattestor_k8s_sat,
    &plugin_agent_nodeattestor_nitro_enclave,
};
static const struct plugin_builtin *const svidstores[] = {
    &plugin_svidstore_disk,
};
static const struct plugin_builtin *const workloadattestors[] = {
    &plugin_workloadattestor_slurm,
    &plugin_workloadattestor_unix,
};

#define LIST(a) .builtins = (a), .builtin_count = sizeof(a) / sizeof(a)[0]

/* Bounds as SPIRE's agent has them (pkg/agent/catalog). */
const struct plugin_kind plugin_agent_kinds[] = {
    {.type = PLUGIN_TYPE_KEYMANAGER,
     .bridge = &plugin_bridge_agent_keymanager,
     .min = 1,
     .max = 1,
     LIST(keymanagers)},
    {.type = PLUGIN_TYPE_NODEATTESTOR,
     .bridge = &plugin_bridge_agent_nodeattestor,
     .min = 1,
     .max = 1,
     LIST(nodeattestors)},
    {.type = PLUGIN_TYPE_SVIDSTORE, .bridge = &plugin_bridge_svidstore, LIST(svidstores)},
    {.type = PLUGIN_TYPE_WORKLOADATTESTOR,
     .bridge = &plugin_bridge_workloadattestor,
     .min = 1,
     LIST(workloadattestors)},
};
const size_t plugin_agent_kind_count = sizeof plugin_agent_kinds / sizeof plugin_agent_kinds[0];
