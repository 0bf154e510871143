/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/module.h"
#include "build_stamp.h"
#include "plugins/modules/sconecas/store.h"

static const struct plugin_module_entry entries[] = {{"agent", PLUGIN_TYPE_SVIDSTORE, &scone_store}};
PLUGIN_MODULE(entries);
