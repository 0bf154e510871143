/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CS_MODULES_GCP_PLUGINS_H
#define CS_MODULES_GCP_PLUGINS_H

#include "plugin/plugin.h"

extern const struct plugin_builtin plugin_svidstore_gcp_secretmanager;

#endif
