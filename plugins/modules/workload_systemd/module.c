/* SPDX-License-Identifier: Apache-2.0
 *
 * The module of the agent's systemd attestor, which brings libsystemd.
 */
#include "plugin/module.h"
#include "build_stamp.h"

extern const struct plugin_builtin plugin_workloadattestor_systemd;

static const struct plugin_module_entry entries[] = {
    {"agent", PLUGIN_TYPE_WORKLOADATTESTOR, &plugin_workloadattestor_systemd},
};
PLUGIN_MODULE(entries);
