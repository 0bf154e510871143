/* SPDX-License-Identifier: Apache-2.0
 *
 * A module of another build.
 */
#define CSPIRE_BUILD_STAMP "0.0.0-of-another-build"
#include "plugin/module.h"

static const struct plugin_builtin foreign = {.name = "foreign"};
static const struct plugin_module_entry entries[] = {{"server", PLUGIN_TYPE_NOTIFIER, &foreign}};
PLUGIN_MODULE(entries);
