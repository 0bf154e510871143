/* SPDX-License-Identifier: Apache-2.0
 *
 * The plugin, for module.c and tests.
 */
#ifndef CS_MODULES_SCONECAS_STORE_H
#define CS_MODULES_SCONECAS_STORE_H

#include "plugin/plugin.h"

extern const struct plugin_builtin scone_store; /* ops: struct svidstore_ops */

#endif
