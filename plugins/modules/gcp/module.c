/* SPDX-License-Identifier: Apache-2.0
 *
 * The agent's plugins that call Google Cloud.
 */
#include "plugin/module.h"
#include "build_stamp.h"
#include "plugins/modules/gcp/plugins.h"

static const struct plugin_module_entry entries[] = {
    {"agent", PLUGIN_TYPE_SVIDSTORE, &plugin_svidstore_gcp_secretmanager},
};
PLUGIN_MODULE(entries);
