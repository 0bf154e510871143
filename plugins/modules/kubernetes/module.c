/* SPDX-License-Identifier: Apache-2.0
 *
 * The server's plugins that ask or tell a Kubernetes API server something.
 */
#include "plugin/module.h"
#include "build_stamp.h"
#include "plugins/modules/kubernetes/plugins.h"

static const struct plugin_module_entry entries[] = {
    {"server", PLUGIN_TYPE_BUNDLEPUBLISHER, &plugin_bundlepublisher_k8s_configmap},
    {"server", PLUGIN_TYPE_NODEATTESTOR, &plugin_nodeattestor_k8s_psat},
    {"server", PLUGIN_TYPE_NODEATTESTOR, &plugin_nodeattestor_k8s_sat},
    {"server", PLUGIN_TYPE_NOTIFIER, &plugin_notifier_k8sbundle},
};
PLUGIN_MODULE(entries);
