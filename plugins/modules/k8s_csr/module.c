/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the agent's NodeAttestor "k8s_csr" that needs the Kubernetes client.
 */
#include "plugin/module.h"
#include "build_stamp.h"
#include "plugins/modules/k8s_csr/obtain.h"

static const struct k8s_csr_requester requester = {.obtain = k8s_csr_obtain};
static const struct plugin_builtin plugin = {.name = K8S_CSR_REQUESTER, .ops = &requester};

static const struct plugin_module_entry entries[] = {{"agent", PLUGIN_TYPE_NODEATTESTOR, &plugin}};
PLUGIN_MODULE(entries);
