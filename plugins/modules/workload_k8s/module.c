/* SPDX-License-Identifier: Apache-2.0
 *
 * The module of the agent's k8s attestor: libcurl, and libyaml for a kubeconfig.
 */
#include "plugin/module.h"
#include "build_stamp.h"

extern const struct plugin_builtin plugin_workloadattestor_k8s;

static const struct plugin_module_entry entries[] = {
    {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, &plugin_workloadattestor_k8s},
};
PLUGIN_MODULE(entries);
